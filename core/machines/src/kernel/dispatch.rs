//! Dispatch: a call of a service that is made once, tried as often as needed, and ends once
//! (K200–K212).
//!
//! ```text
//!              Dispatch                      a slot is free (Push),
//!                 │                          LeaseTasks (Pull)
//!                 ▼                                 │
//!             Waiting ──────────────────────────────┴──► Running ── done ──► Succeeded
//!                 ▲  ▲                                     │ │ │
//!    retry is due │  └──────── lease over: lost (K210) ────┘ │ └─ failed for good ─► Failed
//!                 │                                          │
//!              Pausing ◄──────── failed, retried (K209) ─────┘
//!
//!   any of the three ── deadline ─► TimedOut, lost too often ─► Lost, CancelDispatch ─► Cancelled
//! ```

pub mod decide;
pub mod effect;
pub mod event;
mod fold;
#[cfg(test)]
mod props;
#[cfg(test)]
pub(super) mod rig;
#[cfg(test)]
mod tests;
mod tries;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::Wire;
use crate::{wire_enum, wire_struct};

use super::ids::{
    Capability, DispatchId, InterruptId, LeaseId, ProcessId, ReservationId, ServiceName,
    ServiceType, UseId, UserId,
};
use super::interrupts::approval::Use;
use super::json::Json;
use super::names::Priority;
use super::numbered::numbered;
use super::pipeline::kinds::ErrorKind;
use super::pipeline::retry::RetryPolicy;
use super::principal::Holder;
use super::process::{ContentHash, Metadata, short_hash};
use super::state::State;
use super::time::{Millis, Time};

/// Ended tries that a dispatch remembers, to know a repeated completion by (K206).
pub const REMEMBERED_MAX: usize = 16;

/// Which service is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// This one.
    Name {
        /// Its name.
        name: ServiceName,
    },
    /// The one with the most room of a type (K202).
    Type {
        /// The type.
        service_type: ServiceType,
        /// What it must be able to do.
        capability: Option<Capability>,
    },
}

wire_enum!(Target, "a target" { Name { name } = 1, Type { service_type, capability } = 2 });

/// The approval that a dispatch uses (K170).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ApprovalUse {
    /// The interrupt that granted it.
    pub interrupt: InterruptId,
    /// What is about to be done.
    pub action: Arc<str>,
    /// With what.
    pub params: Json,
}

wire_struct!(ApprovalUse { interrupt, action, params });

impl ApprovalUse {
    /// Returns the use of the approval by a dispatch: its id is what the use is known by (K170).
    fn by(&self, dispatch: &DispatchId) -> Use {
        let use_id = UseId::parse("use_id", dispatch.as_str());
        Use {
            interrupt: self.interrupt.clone(),
            action: Arc::clone(&self.action),
            params: self.params.clone(),
            use_id: use_id.expect("an id of a dispatch is an id of a use"),
        }
    }
}

/// What is to be called (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceRequest {
    /// The id of the dispatch, if the caller chooses it.
    pub dispatch: Option<DispatchId>,
    /// For which process.
    pub pid: Option<ProcessId>,
    /// Which service.
    pub target: Target,
    /// What of it.
    pub method: Arc<str>,
    /// With what.
    pub data: Json,
    /// How urgent.
    pub priority: Priority,
    /// Whether it waits for what is not there now (K201).
    pub queue: bool,
    /// How long one try may take.
    pub try_timeout_ms: Millis,
    /// How long all of it may take.
    pub deadline_ms: Option<Millis>,
    /// What happens after a failed try.
    pub retry: RetryPolicy,
    /// The approval that it uses.
    pub approval: Option<ApprovalUse>,
    /// What the caller keeps with it.
    pub metadata: Metadata,
}

wire_struct!(ServiceRequest {
    dispatch,
    pid,
    target,
    method,
    data,
    priority,
    queue,
    try_timeout_ms,
    deadline_ms,
    retry,
    approval,
    metadata,
});

impl ServiceRequest {
    /// Describes a call with the defaults of 2.5.
    #[must_use]
    pub fn new(target: Target, method: &str, data: Json) -> Self {
        Self {
            dispatch: None,
            pid: None,
            target,
            method: Arc::from(method),
            data,
            priority: Priority::Normal,
            queue: false,
            try_timeout_ms: 30_000,
            deadline_ms: None,
            retry: RetryPolicy::default(),
            approval: None,
            metadata: Metadata::new(),
        }
    }

    /// Returns what a repeat is known by: all fields but the id, and whether it is inference.
    fn digest(&self, user: &UserId, inference: bool) -> ContentHash {
        let mut bytes = Vec::new();
        let rest = Self { dispatch: None, ..self.clone() };
        rest.encode(&mut bytes);
        user.encode(&mut bytes);
        inference.encode(&mut bytes);
        short_hash(&bytes)
    }
}

numbered! {
    /// How a dispatch ended (K207).
    DispatchOutcome "an outcome of a dispatch" {
        /// A try succeeded.
        Succeeded = 1 "succeeded",
        /// A try failed, for good.
        Failed = 2 "failed",
        /// Its deadline passed (K208).
        TimedOut = 3 "timed_out",
        /// Its workers went away too often, or its service did (K210, K190).
        Lost = 4 "lost",
        /// It was cancelled, or its process ended (K211).
        Cancelled = 5 "cancelled",
    }
}

/// A try that is live: its lease is the key of its slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Try {
    /// The lease under which it is made.
    pub lease: LeaseId,
    /// When it started.
    pub started_at: Time,
    /// When it fails as Timeout (K208).
    pub deadline: Time,
    /// The start of the node in which a handler was called for it.
    pub epoch: u64,
}

wire_struct!(Try { lease, started_at, deadline, epoch });

/// How a dispatch ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// How.
    pub outcome: DispatchOutcome,
    /// What came out of it.
    pub data: Option<Json>,
    /// What went wrong.
    pub error: Option<Arc<str>>,
    /// The same for machines.
    pub error_code: Option<Arc<str>>,
    /// When.
    pub at: Time,
}

wire_struct!(End { outcome, data, error, error_code, at });

/// Where a dispatch stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It waits for its turn (K203).
    Waiting {
        /// Since when.
        since: Time,
        /// The number of the event that made it wait.
        number: u64,
    },
    /// It waits for the time of its next try (K209).
    Pausing {
        /// When that is.
        until: Time,
    },
    /// A try is live.
    Running {
        /// Which.
        live: Try,
    },
    /// It is over.
    Ended {
        /// How it ended.
        end: End,
    },
}

wire_enum!(Stage, "a stage of a dispatch" {
    Waiting { since, number } = 1,
    Pausing { until } = 2,
    Running { live } = 3,
    Ended { end } = 4,
});

/// What is remembered of a try that ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndedTry {
    /// Its lease.
    pub lease: LeaseId,
    /// What it was completed with, if it was.
    pub content: Option<ContentHash>,
    /// The worker that had it; of a push service, which the node calls, none.
    pub holder: Option<Holder>,
}

wire_struct!(EndedTry { lease, content, holder });

/// A dispatch (K200).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Dispatch {
    /// Whose it is.
    pub user: UserId,
    /// What was asked for; once it is over, without the data.
    pub request: Box<ServiceRequest>,
    /// The service that was found for it.
    pub service: ServiceName,
    /// What a repeat is known by.
    pub content: ContentHash,
    /// When it was made.
    pub created_at: Time,
    /// What is reserved for it, until the first try starts (K212).
    pub reservation: Option<ReservationId>,
    /// Tries that started.
    pub tries: u32,
    /// Those of them that failed.
    pub failures: u32,
    /// Those of them that were lost.
    pub lost: u32,
    /// The newest tries that ended, oldest first.
    pub remembered: VecDeque<EndedTry>,
    /// Where it stands.
    pub stage: Stage,
}

wire_struct!(Dispatch {
    user,
    request,
    service,
    content,
    created_at,
    reservation,
    tries,
    failures,
    lost,
    remembered,
    stage,
});

impl Dispatch {
    /// Returns the live try, if there is one.
    #[must_use]
    pub const fn live(&self) -> Option<&Try> {
        match &self.stage {
            Stage::Running { live } => Some(live),
            Stage::Waiting { .. } | Stage::Pausing { .. } | Stage::Ended { .. } => None,
        }
    }

    /// Returns how it ended, if it has.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        match &self.stage {
            Stage::Ended { end } => Some(end),
            Stage::Waiting { .. } | Stage::Pausing { .. } | Stage::Running { .. } => None,
        }
    }

    /// Returns when it ends TimedOut (K208).
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.request.deadline_ms.map(|span| self.created_at.plus(span))
    }

    fn remember(&mut self, ended: EndedTry) -> Option<EndedTry> {
        let full = self.remembered.len() >= REMEMBERED_MAX;
        let forgotten = if full { self.remembered.pop_front() } else { None };
        self.remembered.push_back(ended);
        forgotten
    }
}

/// A user's place among those who wait for a service: rows of the table of turns (K72, K203).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Turn {
    /// Of which service.
    pub service: ServiceName,
    /// In which band.
    pub priority: Priority,
    /// Whose.
    pub user: UserId,
}

wire_struct!(Turn { service, priority, user });

/// How a worker ends a try (K206).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Completion {
    /// The lease of the try.
    pub lease: LeaseId,
    /// Whether it succeeded.
    pub success: bool,
    /// What came out of it.
    pub data: Option<Json>,
    /// What went wrong.
    pub error: Option<String>,
    /// Of which kind that is: Tool, Llm or Policy; else it is Dispatch.
    pub error_kind: Option<ErrorKind>,
}

impl Completion {
    /// Returns what a repeat is known by.
    fn digest(&self) -> ContentHash {
        let mut bytes = Vec::new();
        self.success.encode(&mut bytes);
        self.data.encode(&mut bytes);
        self.error.encode(&mut bytes);
        self.error_kind.encode(&mut bytes);
        short_hash(&bytes)
    }
}

/// What who works on a try is told (K205).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Of which dispatch.
    pub dispatch: DispatchId,
    /// For which process.
    pub pid: Option<ProcessId>,
    /// Under which lease.
    pub lease: LeaseId,
    /// Until when that is.
    pub lease_until: Time,
    /// What of the service.
    pub method: Arc<str>,
    /// With what.
    pub data: Json,
    /// Which try it is, from 1.
    pub try_number: u32,
    /// When the try fails as Timeout.
    pub deadline_at: Time,
    /// What the caller keeps with it.
    pub metadata: Metadata,
}

/// What who asked for a dispatch is told in the end (2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceResponse {
    /// Which dispatch.
    pub dispatch: DispatchId,
    /// Whether it succeeded.
    pub success: bool,
    /// What came out of it.
    pub data: Option<Json>,
    /// What went wrong.
    pub error: Option<Arc<str>>,
    /// The same for machines: a code of K395, or the kind of error of the last try.
    pub error_code: Option<Arc<str>>,
    /// Tries that started.
    pub tries: u32,
    /// How long it took.
    pub duration_ms: Millis,
    /// What the caller keeps with it.
    pub metadata: Metadata,
}

impl State {
    /// Returns a dispatch.
    #[must_use]
    pub fn dispatch(&self, id: &DispatchId) -> Option<&Dispatch> {
        self.dispatches.get(id)
    }

    /// Returns what the worker of a live try is told (K205).
    #[must_use]
    pub fn task(&self, lease: &LeaseId) -> Option<Task> {
        let slot = self.slots.get(lease)?;
        let id = slot.dispatch.as_ref()?;
        let dispatch = self.dispatches.get(id)?;
        let live = dispatch.live().filter(|live| live.lease == *lease)?;
        Some(Task {
            dispatch: id.clone(),
            pid: dispatch.request.pid.clone(),
            lease: lease.clone(),
            lease_until: slot.until,
            method: Arc::clone(&dispatch.request.method),
            data: dispatch.request.data.clone(),
            try_number: dispatch.tries,
            deadline_at: live.deadline,
            metadata: dispatch.request.metadata.clone(),
        })
    }

    /// Returns how a dispatch ended, once it has.
    #[must_use]
    pub fn response(&self, id: &DispatchId) -> Option<ServiceResponse> {
        let dispatch = self.dispatches.get(id)?;
        let end = dispatch.end()?;
        Some(ServiceResponse {
            dispatch: id.clone(),
            success: end.outcome == DispatchOutcome::Succeeded,
            data: end.data.clone(),
            error: end.error.clone(),
            error_code: end.error_code.clone(),
            tries: dispatch.tries,
            duration_ms: end.at.since(dispatch.created_at),
            metadata: dispatch.request.metadata.clone(),
        })
    }

    /// Lists dispatches that are kept no longer at `now`, oldest first, `most` of them (K360,
    /// K361).
    #[must_use]
    pub fn dispatches_due_for_removal(&self, now: Time, most: usize) -> Vec<DispatchId> {
        let kept = self.config.retention.dispatch_ms;
        let before = now.as_millis().checked_sub(kept).map(|at| Time::from_millis(at).plus(1));
        let due = before.into_iter().flat_map(|before| self.desks.ended_before(before));
        due.take(most).cloned().collect()
    }

    /// Returns when the first dispatch is kept no longer (K360).
    pub(super) fn first_dispatch_due(&self) -> Option<Time> {
        self.desks.first_end().map(|at| at.plus(self.config.retention.dispatch_ms))
    }

    /// Returns what is remembered of a try that ended under a lease.
    #[must_use]
    pub fn ended_try(&self, lease: &LeaseId) -> Option<&EndedTry> {
        let dispatch = self.dispatches.get(self.desks.ended_lease(lease)?)?;
        dispatch.remembered.iter().find(|ended| ended.lease == *lease)
    }

    /// Returns who has the live try of a dispatch, if that is a worker.
    #[must_use]
    pub fn worker_of(&self, id: &DispatchId) -> Option<&Holder> {
        let live = self.dispatches.get(id)?.live()?;
        self.slots.get(&live.lease)?.holder.as_ref()
    }
}
