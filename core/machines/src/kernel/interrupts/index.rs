//! Where to find interrupts: all of it derived from their table and that of approvals (K12, K172).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kernel::ids::{InterruptId, ProcessId, RequestId, SessionId, UserId};
use crate::kernel::names::{ApprovalState, InterruptKind, InterruptStatus};
use crate::kernel::time::Time;
use crate::ledger::table::Table;

use super::approval::Approval;
use super::interrupt::{Assignee, Interrupt};

/// Whose interrupts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everyone's.
    All,
    /// Of the processes of a user.
    User(UserId),
    /// Of the processes of a conversation.
    Session(SessionId),
    /// Of the processes of a request.
    Request(RequestId),
    /// Of a process.
    Process(ProcessId),
    /// Given to someone to answer.
    Assignee(Assignee),
}

impl Scope {
    fn all(interrupt: &Interrupt) -> impl Iterator<Item = Self> {
        let scopes = [
            Self::All,
            Self::User(interrupt.user.clone()),
            Self::Session(interrupt.session.clone()),
            Self::Request(interrupt.request.clone()),
            Self::Process(interrupt.pid.clone()),
        ];
        scopes.into_iter().chain(interrupt.assignee.clone().map(Self::Assignee))
    }
}

/// Where one stands among those of a scope, oldest first.
type Place = (Scope, InterruptStatus, InterruptKind, u64);

/// The index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Index {
    places: BTreeMap<Place, InterruptId>,
    keys: BTreeMap<(ProcessId, Arc<str>), InterruptId>,
    /// What is over, by when it ended: nothing is pending or open about it.
    over: BTreeMap<(Time, u64), InterruptId>,
    /// Approvals that can be used.
    granted: BTreeMap<ProcessId, BTreeSet<InterruptId>>,
}

impl Index {
    /// Builds the index of two tables anew.
    #[must_use]
    pub fn derive(
        interrupts: &Table<InterruptId, Interrupt>,
        approvals: &Table<InterruptId, Approval>,
    ) -> Self {
        let mut index = Self::default();
        let mut all: Vec<_> = interrupts.iter().collect();
        all.sort_unstable_by_key(|(_, interrupt)| interrupt.number);
        for (_, interrupt) in all {
            index.add(interrupt);
            index.follow(interrupt, approvals.get(&interrupt.id));
        }
        index
    }

    /// Adds one. Of two with the same key the later is found by it.
    pub(super) fn add(&mut self, interrupt: &Interrupt) {
        let id = &interrupt.id;
        for scope in Scope::all(interrupt) {
            let place = (scope, interrupt.status, interrupt.kind, interrupt.number);
            self.places.insert(place, id.clone());
        }
        if let Some(key) = &interrupt.key {
            self.keys.insert((interrupt.pid.clone(), Arc::clone(key)), id.clone());
        }
    }

    /// Takes one out, as it was.
    pub(super) fn remove(&mut self, interrupt: &Interrupt) {
        let id = &interrupt.id;
        self.leave(interrupt, interrupt.status);
        if let Some(at) = interrupt.closed_at {
            self.over.remove(&(at, interrupt.number));
        }
        if let Some(key) = &interrupt.key {
            let key = (interrupt.pid.clone(), Arc::clone(key));
            if self.keys.get(&key) == Some(id) {
                self.keys.remove(&key);
            }
        }
        self.take_grant(&interrupt.pid, id);
    }

    /// Moves one that had another status until now.
    pub(super) fn shift(&mut self, interrupt: &Interrupt, from: InterruptStatus) {
        self.leave(interrupt, from);
        for scope in Scope::all(interrupt) {
            let place = (scope, interrupt.status, interrupt.kind, interrupt.number);
            self.places.insert(place, interrupt.id.clone());
        }
    }

    fn leave(&mut self, interrupt: &Interrupt, from: InterruptStatus) {
        for scope in Scope::all(interrupt) {
            self.places.remove(&(scope, from, interrupt.kind, interrupt.number));
        }
    }

    /// Notes whether one, with its approval, is over, and whether the approval can be used.
    pub(super) fn follow(&mut self, interrupt: &Interrupt, approval: Option<&Approval>) {
        let id = &interrupt.id;
        let open = approval.is_some_and(|approval| approval.state == ApprovalState::Granted);
        match open {
            true => {
                self.granted.entry(interrupt.pid.clone()).or_default().insert(id.clone());
            }
            false => self.take_grant(&interrupt.pid, id),
        }
        if let Some(at) = interrupt.closed_at {
            match open {
                true => self.over.remove(&(at, interrupt.number)),
                false => self.over.insert((at, interrupt.number), id.clone()),
            };
        }
    }

    fn take_grant(&mut self, pid: &ProcessId, id: &InterruptId) {
        if let Some(granted) = self.granted.get_mut(pid) {
            granted.remove(id);
            if granted.is_empty() {
                self.granted.remove(pid);
            }
        }
    }

    /// Goes through those of a scope with a status and kind that come after `after`, oldest first.
    pub fn of(
        &self,
        scope: Scope,
        status: InterruptStatus,
        kind: InterruptKind,
        after: u64,
    ) -> impl Iterator<Item = (u64, &InterruptId)> {
        let first = (scope.clone(), status, kind, after.saturating_add(1));
        let last = (scope, status, kind, u64::MAX);
        // A range that ends before it begins would panic: nothing has the last number.
        self.places.range(first..=last).map(|((_, _, _, number), id)| (*number, id))
    }

    /// Finds the oldest pending of a scope.
    #[must_use]
    pub fn oldest(&self, scope: &Scope) -> Option<&InterruptId> {
        let of = |kind: &InterruptKind| {
            self.of(scope.clone(), InterruptStatus::Pending, *kind, 0).next()
        };
        InterruptKind::ALL.iter().filter_map(of).min().map(|(_, id)| id)
    }

    /// Finds the newest of a process with a key (K152).
    #[must_use]
    pub fn keyed(&self, pid: &ProcessId, key: &Arc<str>) -> Option<&InterruptId> {
        self.keys.get(&(pid.clone(), Arc::clone(key)))
    }

    /// Lists those of a process, oldest first.
    #[must_use]
    pub fn of_process(&self, pid: &ProcessId) -> Vec<InterruptId> {
        let scope = Scope::Process(pid.clone());
        let kinds = |status: &InterruptStatus| {
            let of = |kind: &InterruptKind| self.of(scope.clone(), *status, *kind, 0);
            InterruptKind::ALL.iter().flat_map(of).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = InterruptStatus::ALL.iter().flat_map(kinds).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id.clone()).collect()
    }

    /// Lists the approvals of a process that can be used.
    pub fn granted(&self, pid: &ProcessId) -> impl Iterator<Item = &InterruptId> {
        self.granted.get(pid).into_iter().flatten()
    }

    /// Goes through what is over, the longest over first, with when that was.
    pub fn over(&self) -> impl Iterator<Item = (Time, &InterruptId)> {
        self.over.iter().map(|((at, _), id)| (*at, id))
    }
}
