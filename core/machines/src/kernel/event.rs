//! What happened: the only things that change the state (section 10, K330).

use std::sync::Arc;

use crate::{wire_enum, wire_struct};

use super::config::KernelConfig;
use super::dispatch::event::DispatchEvent;
use super::envelopes::EnvelopeEvent;
use super::housekeeping::StopMode;
use super::ids::{
    AttemptId, LeaseId, ProcessId, RecordId, RequestId, ReservationId, SessionId, UserId,
};
use super::interrupts::event::{ApprovalEvent, InterruptEvent};
use super::names::{OnExhausted, Outcome, Priority, ProcessState, TerminalReason};
use super::principal::Holder;
use super::process::{Block, ContentHash, Metadata, RunLease};
use super::quota::{Amounts, Limit, Quota, QuotaField, Resource, Usage};
use super::rates::RateEvent;
use super::services::event::{ServiceEvent, SlotEvent};
use super::sessions::event::SessionEvent;
use super::time::Time;

/// Whom an event is about, so that a reader can pick without knowing the state (K331).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Subject {
    /// The process.
    pub pid: Option<ProcessId>,
    /// Its owner.
    pub user: Option<UserId>,
    /// Its conversation.
    pub session: Option<SessionId>,
    /// Its request.
    pub request: Option<RequestId>,
}

wire_struct!(Subject { pid, user, session, request });

/// One event. Its number is its place in the order of all (K331).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// When (K7).
    pub time: Time,
    /// About whom.
    pub subject: Subject,
    /// What.
    pub body: Body,
}

wire_struct!(Event { time, subject, body });

/// What happened, by area.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each area's enum says what it is")]
pub enum Body {
    Kernel { event: KernelEvent },
    Process { event: ProcessEvent },
    Quota { event: QuotaEvent },
    Rate { event: RateEvent },
    Interrupt { event: InterruptEvent },
    Approval { event: ApprovalEvent },
    Service { event: ServiceEvent },
    Slot { event: SlotEvent },
    Dispatch { event: DispatchEvent },
    Envelope { event: EnvelopeEvent },
    Session { event: SessionEvent },
}

wire_enum!(Body, "an area of events" {
    Kernel { event } = 1,
    Process { event } = 2,
    Quota { event } = 3,
    Rate { event } = 4,
    Interrupt { event } = 5,
    Approval { event } = 6,
    Service { event } = 7,
    Slot { event } = 8,
    Dispatch { event } = 9,
    Envelope { event } = 10,
    Session { event } = 11,
});

/// Of the kernel as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KernelEvent {
    /// A start, the first event after it (K11).
    Started {
        /// Counts starts, from 1.
        epoch: u64,
        /// In force from now on.
        config: Box<KernelConfig>,
    },
    /// Nothing new is taken on (K362).
    Draining {
        /// Until when.
        deadline: Time,
        /// How the node stops then, if it does (K363).
        stop: Option<StopMode>,
        /// Whether work was live when the deadline had come.
        cut: bool,
    },
    /// The end of a run (K363).
    Stopped {
        /// Whether processes go on after the next start.
        preserve: bool,
        /// Whether everything had come to rest.
        clean: bool,
    },
}

wire_enum!(KernelEvent, "an event of the kernel" {
    Started { epoch, config } = 1,
    Draining { deadline, stop, cut } = 2,
    Stopped { preserve, clean } = 3,
});

/// Why a process changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// `Schedule`, or a first instruction.
    Scheduled,
    /// It was its user's turn (K72).
    Served,
    /// A claim out of turn: somebody named it, or took its own (K74).
    Claimed,
    /// Its holder let it go.
    Released,
    /// `TransitionState`.
    Asked,
    /// The run lease ended (K79).
    LeaseExpired,
    /// A question to a person.
    Interrupted,
    /// The last question was closed (K159).
    Answered,
    /// Its time has come.
    Due,
    /// A retry waits.
    Backoff,
    /// A rate waits.
    Rate,
    /// It is kept no longer.
    Retention,
}

wire_enum!(Cause, "a cause" {
    Scheduled = 1,
    Served = 2,
    Claimed = 3,
    Released = 4,
    Asked = 5,
    LeaseExpired = 6,
    Interrupted = 7,
    Answered = 8,
    Due = 9,
    Backoff = 10,
    Rate = 11,
    Retention = 12,
});

/// Of the process that is the subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ProcessEvent {
    /// It was submitted.
    Created {
        /// How urgent.
        priority: Priority,
        /// What it may use.
        quota: Box<Quota>,
        /// Whose child.
        parent: Option<ProcessId>,
        /// Whether the executor drives it.
        driven: bool,
        /// What happens when a budget runs out.
        on_exhausted: OnExhausted,
        /// Of what was asked for.
        digest: ContentHash,
        /// What the caller keeps with it.
        metadata: Metadata,
    },
    /// It is in another state.
    StateChanged {
        /// Before.
        from: ProcessState,
        /// From now on.
        to: ProcessState,
        /// Why.
        cause: Cause,
        /// Who runs it, if it runs.
        lease: Option<RunLease>,
        /// What it is Blocked for.
        block: Option<Block>,
        /// What event it waits for.
        wait: Option<Arc<str>>,
    },
    /// Its holder goes on (K78).
    LeaseRenewed {
        /// Which lease.
        lease: LeaseId,
        /// Until when now.
        until: Time,
    },
    /// It is over.
    Terminated {
        /// Why.
        reason: TerminalReason,
        /// How.
        outcome: Outcome,
        /// In words.
        message: Arc<str>,
        /// What it used in all.
        usage: Usage,
    },
    /// Nothing is left of it.
    Removed,
}

wire_enum!(ProcessEvent, "an event of a process" {
    Created { priority, quota, parent, driven, on_exhausted, digest, metadata } = 1,
    StateChanged { from, to, cause, lease, block, wait } = 2,
    LeaseRenewed { lease, until } = 3,
    Terminated { reason, outcome, message, usage } = 4,
    Removed = 5,
});

/// Of the budget of the process that is the subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QuotaEvent {
    /// A part is kept for calls to come (K102).
    Reserved {
        /// Its id.
        reservation: ReservationId,
        /// For which attempt.
        attempt: Option<AttemptId>,
        /// How much.
        amounts: Amounts,
        /// Until when.
        until: Time,
        /// Of what was asked for.
        content: ContentHash,
        /// Who asked, and may close it (K27).
        holder: Holder,
    },
    /// What was really used (K105).
    Settled {
        /// Of which reservation.
        reservation: ReservationId,
        /// How much.
        actual: Amounts,
        /// What of it had not been reserved.
        excess: Amounts,
    },
    /// Nothing was used (K106).
    Released {
        /// Of which reservation.
        reservation: ReservationId,
    },
    /// Its lease ended (K107).
    Expired {
        /// Of which reservation.
        reservation: ReservationId,
        /// What was charged.
        charged: Amounts,
    },
    /// Use was told after the fact (K109).
    Recorded {
        /// How much.
        amounts: Amounts,
        /// Hops.
        agent_hops: u64,
        /// Of which attempt.
        attempt: Option<AttemptId>,
        /// Known by.
        record: Option<RecordId>,
        /// Of what was told.
        content: ContentHash,
    },
    /// A limit was changed (K117).
    Adjusted {
        /// Which.
        field: QuotaField,
        /// Before.
        old: Limit,
        /// From now on.
        new: Limit,
    },
    /// Much of a resource is taken (K113).
    Warning {
        /// Which.
        resource: Resource,
        /// Used.
        used: u64,
        /// Reserved.
        held: u64,
        /// Of this limit.
        limit: Limit,
    },
    /// A limit was passed, or stopped something (K114).
    Exceeded {
        /// Which.
        resource: Resource,
        /// Used.
        used: u64,
        /// Reserved.
        held: u64,
        /// Of this limit.
        limit: Limit,
    },
}

wire_enum!(QuotaEvent, "an event of a budget" {
    Reserved { reservation, attempt, amounts, until, content, holder } = 1,
    Settled { reservation, actual, excess } = 2,
    Released { reservation } = 3,
    Expired { reservation, charged } = 4,
    Recorded { amounts, agent_hops, attempt, record, content } = 5,
    Adjusted { field, old, new } = 6,
    Warning { resource, used, held, limit } = 7,
    Exceeded { resource, used, held, limit } = 8,
});

impl Body {
    /// Returns the kind, as readers of the stream pick it (section 10).
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Kernel { event } => match event {
                KernelEvent::Started { .. } => "kernel.started",
                KernelEvent::Draining { .. } => "kernel.draining",
                KernelEvent::Stopped { .. } => "kernel.stopped",
            },
            Self::Process { event } => match event {
                ProcessEvent::Created { .. } => "process.created",
                ProcessEvent::StateChanged { .. } => "process.state_changed",
                ProcessEvent::LeaseRenewed { .. } => "process.lease_renewed",
                ProcessEvent::Terminated { .. } => "process.terminated",
                ProcessEvent::Removed => "process.removed",
            },
            Self::Interrupt { event } => event.kind(),
            Self::Approval { event } => event.kind(),
            Self::Quota { event } => match event {
                QuotaEvent::Reserved { .. } => "quota.reserved",
                QuotaEvent::Settled { .. } => "quota.settled",
                QuotaEvent::Released { .. } => "quota.released",
                QuotaEvent::Expired { .. } => "quota.expired",
                QuotaEvent::Recorded { .. } => "quota.recorded",
                QuotaEvent::Adjusted { .. } => "quota.adjusted",
                QuotaEvent::Warning { .. } => "quota.warning",
                QuotaEvent::Exceeded { .. } => "quota.exceeded",
            },
            Self::Rate { event } => event.kind(),
            Self::Envelope { event } => event.kind(),
            Self::Service { event } => event.kind(),
            Self::Slot { event } => event.kind(),
            Self::Dispatch { event } => event.kind(),
            Self::Session { event } => event.kind(),
        }
    }
}
