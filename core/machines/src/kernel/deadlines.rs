//! What is due when: an index of the deadlines in the state, derived from it (K10, K12).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::ids::{
    AttemptId, DispatchId, InterruptId, LeaseId, ProcessId, ReservationId, ServiceName,
};
use super::process::Process;
use super::time::Time;

/// What a deadline is of. Kinds that fall due together act in this order (K10).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Due {
    /// The parent has ended, in a decision that had no room for its descendants (K84): due before
    /// all else, at whatever time, the deepest first.
    Orphan(Reverse<u32>, ProcessId),
    /// The time of a process is used up (K112).
    Timeout(ProcessId),
    /// Who runs a process was not heard of (K79).
    RunLease(ProcessId),
    /// A reservation is charged in full (K107).
    Reservation(ProcessId, ReservationId),
    /// The time of a process is nearly used up (K113).
    SoftTimeout(ProcessId),
    /// Nobody answered an interrupt (K160).
    Interrupt(InterruptId),
    /// Nobody used an approval (K171).
    Approval(InterruptId),
    /// An attempt took too long (K270).
    Attempt(ProcessId, AttemptId),
    /// A block ends (K269 and section 3).
    Unblock(ProcessId),
    /// A dispatch did not end in time (K208).
    DispatchDeadline(DispatchId),
    /// A try did not end in time (K208).
    TryTimeout(DispatchId),
    /// Who works on a try was not heard of (K210).
    TryLease(DispatchId),
    /// A dispatch has waited for its next try (K209).
    DispatchRetry(DispatchId),
    /// Who has a slot was not heard of (K196).
    SlotLease(LeaseId),
    /// Nothing was heard of a service (K195).
    ServiceHealth(ServiceName),
    /// The node stops, at rest or not (K362, K363).
    Drain,
    /// Something is kept no longer (K360, K361).
    Cleanup,
}

/// When the four deadlines that follow from a process's row are: its timeout, its run lease, its
/// warning, the end of its block.
type Own = [Option<Time>; 4];

/// Deadlines by time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Deadlines {
    by_time: BTreeSet<(Time, Due)>,
    /// Those of processes that have any, found with one look-up: each event asks for them.
    own: BTreeMap<ProcessId, Own>,
    /// The node's own: [`Due::Drain`], [`Due::Cleanup`].
    node: [Option<Time>; 2],
    /// All others.
    times: BTreeMap<Due, Time>,
}

impl Deadlines {
    /// Sets when something is due, or that it never is, as [`Time::FAR`] is.
    pub(super) fn set(&mut self, due: Due, at: Option<Time>) {
        let at = known(at);
        let before = match at {
            Some(at) => self.times.insert(due.clone(), at),
            None => self.times.remove(&due),
        };
        self.shift(due, before, at);
    }

    fn shift(&mut self, due: Due, before: Option<Time>, at: Option<Time>) {
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, due.clone()));
        }
        if let Some(at) = at {
            self.by_time.insert((at, due));
        }
    }

    /// Returns when the first is due.
    #[must_use]
    pub fn first(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Says whether something is due at just that time.
    #[must_use]
    pub fn has(&self, at: Time, due: &Due) -> bool {
        self.by_time.contains(&(at, due.clone()))
    }

    /// Returns the first that is due at `now`.
    #[must_use]
    pub fn due(&self, now: Time) -> Option<&Due> {
        self.by_time.first().filter(|(at, _)| *at <= now).map(|(_, due)| due)
    }

    /// Sets all that a process's row says; `None` is a process that is gone.
    pub(super) fn follow(&mut self, pid: &ProcessId, process: Option<&Process>) {
        let live = process.filter(|process| process.is_live());
        let lease = live.and_then(|process| process.run_lease.as_ref()).map(|lease| lease.until);
        let block = live.and_then(|process| process.block.as_ref()).and_then(|block| block.until);
        let timeout = live.and_then(Process::times_out_at);
        let now = [timeout, lease, live.and_then(Process::warns_at), block].map(known);
        let before = self.own.get(pid).copied().unwrap_or_default();
        if now == before {
            return;
        }
        match now == Own::default() {
            true => self.own.remove(pid),
            false => self.own.insert(pid.clone(), now),
        };
        let kinds = [Due::Timeout, Due::RunLease, Due::SoftTimeout, Due::Unblock];
        for (kind, (before, at)) in kinds.into_iter().zip(before.into_iter().zip(now)) {
            if before != at {
                self.shift(kind(pid.clone()), before, at);
            }
        }
    }

    /// Sets when the node stops, and when it cleans up.
    pub(super) fn follow_node(&mut self, drain: Option<Time>, cleanup: Option<Time>) {
        let now = [drain, cleanup].map(known);
        let before = std::mem::replace(&mut self.node, now);
        for (due, at) in [Due::Drain, Due::Cleanup].into_iter().zip(before.into_iter().zip(now)) {
            self.shift(due, at.0, at.1);
        }
    }
}

fn known(at: Option<Time>) -> Option<Time> {
    at.filter(|at| *at < Time::FAR)
}
