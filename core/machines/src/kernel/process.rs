//! A process: whose it is, what it may use, and where it stands (2.3, section 3).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::{wire_enum, wire_struct};

use super::ids::{
    AttemptId, InterruptId, LeaseId, ProcessId, RecordId, RequestId, ReservationId, ServiceName,
    SessionId, StageName, UserId,
};
use super::json::Json;
use super::names::{BlockReason, OnExhausted, Priority, ProcessState, TerminalReason};
use super::principal::Holder;
use super::quota::{Account, Amounts, Quota, Resource, Usage};
use super::time::{Millis, Time};

/// What a caller keeps with a subject.
pub type Metadata = BTreeMap<Arc<str>, Json>;

/// The first 16 bytes of BLAKE3 over what was asked for, to know a repeat by.
pub type ContentHash = [u8; 16];

/// Returns the first bytes of the hash of what was asked for, 32 at most.
pub(super) fn short_hash<const BYTES: usize>(asked: &[u8]) -> [u8; BYTES] {
    *blake3::hash(asked).as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// Why a process is Blocked, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// Of which kind.
    pub reason: BlockReason,
    /// In words.
    pub text: Arc<str>,
    /// When it ends by itself.
    pub until: Option<Time>,
}

wire_struct!(Block { reason, text, until });

/// The claim of who runs a process (K78).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RunLease {
    /// Its id.
    pub lease: LeaseId,
    /// Whose it is.
    pub holder: Holder,
    /// When it ends.
    pub until: Time,
}

wire_struct!(RunLease { lease, holder, until });

/// A part of the budget that is kept for calls to come (K102).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reservation {
    /// The attempt for which it is.
    pub attempt: Option<AttemptId>,
    /// How much.
    pub amounts: Amounts,
    /// When it is charged in full (K107).
    pub until: Time,
    /// For how long it was asked for: what it gets again at a start (K11).
    pub length: Millis,
    /// What was asked for, to know a repeat by (K108).
    pub content: ContentHash,
    /// Who asked for it, and may close it, whoever runs the process by then (K27, K122).
    pub holder: Holder,
}

wire_struct!(Reservation { attempt, amounts, until, length, content, holder });

impl Reservation {
    /// Says whether it is of a dispatch, which alone closes it (K212): then it has no lease that
    /// could end, as every other has.
    #[must_use]
    pub fn is_of_dispatch(&self) -> bool {
        self.until == Time::FAR
    }
}

/// How a reservation, or a record of use, ended (K105–K109).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// So much was used.
    Settled {
        /// How much.
        actual: Amounts,
    },
    /// Nothing was.
    Released,
    /// Its lease ended: charged in full.
    Charged,
    /// Use that was recorded after the fact.
    Recorded {
        /// What was told, to know a repeat by.
        content: ContentHash,
    },
}

wire_enum!(Closed, "an end of a reservation" {
    Settled { actual } = 1,
    Released = 2,
    Charged = 3,
    Recorded { content } = 4,
});

/// What is known of one that is closed: the newest 64 of a process are remembered (K108).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remembered {
    /// Its id, as text: reservations and records are remembered together.
    pub id: Arc<str>,
    /// How it ended.
    pub closed: Closed,
    /// What had been asked for.
    pub content: ContentHash,
    /// Who held the reservation; of a record, nobody.
    pub holder: Option<Holder>,
}

wire_struct!(Remembered { id, closed, content, holder });

/// Closed reservations and records remembered of a process (K108).
pub const CLOSED_MAX: usize = 64;

/// A process, live or over (2.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// The caller's request.
    pub request: RequestId,
    /// Whose it is.
    pub user: UserId,
    /// The caller's conversation.
    pub session: SessionId,
    /// Where it is in its life.
    pub state: ProcessState,
    /// How urgent it is.
    pub priority: Priority,
    /// Whether the executor drives it (K290).
    pub driven: bool,
    /// What happens when a budget runs out.
    pub on_exhausted: OnExhausted,
    /// What it may use.
    pub quota: Quota,
    /// What it used.
    pub account: Account,
    /// When it was made.
    pub created_at: Time,
    /// When it first ran.
    pub started_at: Option<Time>,
    /// When it ended.
    pub completed_at: Option<Time>,
    /// When it was last claimed.
    pub last_scheduled_at: Option<Time>,
    /// When it last became ready.
    pub ready_at: Option<Time>,
    /// Since when it has run without a break (K111).
    pub running_since: Option<Time>,
    /// The stage that is worked on.
    pub current_stage: Option<StageName>,
    /// The service of its running dispatch.
    pub current_service: Option<ServiceName>,
    /// What it waits for people to answer, oldest first.
    pub interrupts: Vec<InterruptId>,
    /// How many of them block it.
    pub blocking: u32,
    /// How many there ever were (K25).
    pub interrupts_ever: u32,
    /// While Blocked.
    pub block: Option<Block>,
    /// While Waiting for an event: for which.
    pub wait: Option<Arc<str>>,
    /// Who runs it.
    pub run_lease: Option<Box<RunLease>>,
    /// Whose child it is.
    pub parent: Option<ProcessId>,
    /// How many ancestors it had.
    pub depth: u32,
    /// Its children.
    pub children: BTreeSet<ProcessId>,
    /// Why it ended.
    pub terminal_reason: Option<TerminalReason>,
    /// The same in words.
    pub termination_message: Option<Arc<str>>,
    /// What was asked for, to know a repeated submit by (K63).
    pub digest: ContentHash,
    /// What the caller keeps with it.
    pub metadata: Metadata,
    /// Its open reservations.
    pub reservations: BTreeMap<ReservationId, Reservation>,
    /// The newest of those that were closed, oldest first (K108).
    pub closed: VecDeque<Remembered>,
}

wire_struct!(Process {
    request,
    user,
    session,
    state,
    priority,
    driven,
    on_exhausted,
    quota,
    account,
    created_at,
    started_at,
    completed_at,
    last_scheduled_at,
    ready_at,
    running_since,
    current_stage,
    current_service,
    interrupts,
    blocking,
    interrupts_ever,
    block,
    wait,
    run_lease,
    parent,
    depth,
    children,
    terminal_reason,
    termination_message,
    digest,
    metadata,
    reservations,
    closed,
});

impl Process {
    /// Says whether it is not over.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        !self.state.is_terminal()
    }

    /// Says whether it keeps its state and is not in the ready set (K62).
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.blocking > 0
    }

    /// Returns the time spent Running until `now` (K111).
    #[must_use]
    pub fn elapsed(&self, now: Time) -> Millis {
        let running = self.running_since.map_or(0, |since| now.since(since));
        self.account.used.elapsed_ms.saturating_add(running)
    }

    /// Returns what it used until `now`, the running stretch included.
    #[must_use]
    pub fn usage(&self, now: Time) -> Usage {
        Usage { elapsed_ms: self.elapsed(now), ..self.account.used }
    }

    /// Returns when its time is used up, while it runs (K112).
    #[must_use]
    pub fn times_out_at(&self) -> Option<Time> {
        let left = self.quota.timeout_ms.less(self.account.used.elapsed_ms)?;
        self.running_since.map(|since| since.plus(left))
    }

    /// Returns when it is warned that its time is nearly used up, while it runs (K113).
    #[must_use]
    pub fn warns_at(&self) -> Option<Time> {
        let warned = self.account.warned & Resource::ElapsedMs.bit() != 0;
        let left = self.quota.soft_timeout_ms.less(self.account.used.elapsed_ms)?;
        self.running_since.filter(|_| !warned).map(|since| since.plus(left))
    }

    /// Finds how a reservation or record that is closed ended.
    #[must_use]
    pub fn closed_as(&self, id: &str) -> Option<&Remembered> {
        self.closed.iter().rev().find(|one| *one.id == *id)
    }

    /// Returns who holds a reservation, or held one that is closed and remembered.
    #[must_use]
    pub fn reserver(&self, id: &ReservationId) -> Option<&Holder> {
        let closed = || self.closed_as(id.as_str()).and_then(|closed| closed.holder.as_ref());
        self.reservations.get(id).map(|open| &open.holder).or_else(closed)
    }

    /// Remembers one that is closed; the oldest of too many is forgotten.
    pub(super) fn remember(&mut self, remembered: Remembered) {
        if self.closed.len() >= CLOSED_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back(remembered);
    }
}

/// What a record of use is known by among closed reservations.
#[must_use]
pub fn record_key(record: &RecordId) -> Arc<str> {
    Arc::from(format!("record {record}"))
}
