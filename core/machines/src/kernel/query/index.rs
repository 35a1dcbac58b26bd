//! What is found of processes without looking at each (K86, K350).

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::ids::{Minted, ProcessId, UserId};
use crate::kernel::names::{Priority, ProcessState};
use crate::kernel::process::Process;
use crate::kernel::state::Tally;
use crate::ledger::table::Table;

/// Indexes over the table of processes, derived from it alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProcessIndex {
    by_state: BTreeSet<(ProcessState, ProcessId)>,
    of_user: BTreeSet<(UserId, ProcessState, ProcessId)>,
    /// Processes that somebody else than their owner runs.
    held: BTreeSet<(UserId, ProcessId)>,
    users: BTreeMap<UserId, Tally>,
    priorities: [u64; 5],
    reservations: u64,
}

/// What an index has of a process; it changes with every change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    user: UserId,
    state: ProcessState,
    priority: Priority,
    holder: Option<UserId>,
    reservations: u64,
}

impl Place {
    /// Takes what the index needs of a process.
    #[must_use]
    pub fn of(process: &Process) -> Self {
        let holder = process.run_lease.as_ref().map(|run| &run.holder.user);
        Self {
            user: process.user.clone(),
            state: process.state,
            priority: process.priority,
            holder: holder.filter(|holder| **holder != process.user).cloned(),
            reservations: process.reservations.len() as u64,
        }
    }
}

impl ProcessIndex {
    /// Finds the indexes again from their table.
    #[must_use]
    pub fn derive(processes: &Table<ProcessId, Process>) -> Self {
        let mut index = Self::default();
        for (pid, process) in processes {
            index.shift(pid, None, Some(Place::of(process)));
        }
        index
    }

    /// Returns a live process, if there is one.
    #[must_use]
    pub fn first_live(&self) -> Option<&ProcessId> {
        // The states are in the order of their numbers: terminal ones come last.
        self.by_state.first().filter(|(state, _)| !state.is_terminal()).map(|(_, pid)| pid)
    }

    /// Takes note that a process's place changed.
    pub fn shift(&mut self, pid: &ProcessId, from: Option<Place>, to: Option<Place>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.by_state.remove(&(from.state, pid.clone()));
            self.of_user.remove(&(from.user.clone(), from.state, pid.clone()));
            if let Some(holder) = from.holder {
                self.held.remove(&(holder, pid.clone()));
            }
            self.priorities[usize::from(from.priority.band())] -= 1;
            self.reservations -= from.reservations;
            self.count(from.user, Some(from.state), None);
        }
        if let Some(to) = to {
            self.by_state.insert((to.state, pid.clone()));
            self.of_user.insert((to.user.clone(), to.state, pid.clone()));
            if let Some(holder) = to.holder {
                self.held.insert((holder, pid.clone()));
            }
            self.priorities[usize::from(to.priority.band())] += 1;
            self.reservations += to.reservations;
            self.count(to.user, None, Some(to.state));
        }
    }

    fn count(&mut self, user: UserId, from: Option<ProcessState>, to: Option<ProcessState>) {
        let tally = self.users.entry(user.clone()).or_default();
        tally.shift(from, to);
        if *tally == Tally::default() {
            self.users.remove(&user);
        }
    }

    /// Takes note that reservations were opened or closed.
    pub fn note_reservations(&mut self, before: u64, after: u64) {
        self.reservations = self.reservations + after - before;
    }

    /// Returns how many reservations are open.
    #[must_use]
    pub const fn reservations(&self) -> u64 {
        self.reservations
    }

    /// Returns how many processes have a priority.
    #[must_use]
    pub const fn of_priority(&self, priority: Priority) -> u64 {
        self.priorities[priority.band() as usize]
    }

    /// Counts the processes of a user.
    #[must_use]
    pub fn tally_of(&self, user: &UserId) -> Tally {
        self.users.get(user).copied().unwrap_or_default()
    }

    /// Goes through the processes in a state that come after `after`, in order of pid.
    pub fn in_state<'a>(
        &'a self,
        state: ProcessState,
        after: Option<&ProcessId>,
    ) -> impl Iterator<Item = &'a ProcessId> + use<'a> {
        let from = (state, after.cloned().unwrap_or_else(least));
        let found = self.by_state.range(from..).take_while(move |(of, _)| *of == state);
        let after = after.cloned();
        found.map(|(_, pid)| pid).skip_while(move |pid| after.as_ref() == Some(pid))
    }

    /// Goes through the processes of a user in a state that come after `after`, in order of pid.
    pub fn of<'a>(
        &'a self,
        user: &UserId,
        state: ProcessState,
        after: Option<&ProcessId>,
    ) -> impl Iterator<Item = &'a ProcessId> + use<'a> {
        let from = (user.clone(), state, after.cloned().unwrap_or_else(least));
        let user = user.clone();
        let found = self.of_user.range(from..);
        let found = found.take_while(move |(whose, of, _)| *whose == user && *of == state);
        let after = after.cloned();
        found.map(|(_, _, pid)| pid).skip_while(move |pid| after.as_ref() == Some(pid))
    }

    /// Goes through the processes of others that a user runs, in order of pid.
    pub fn held_by<'a>(
        &'a self,
        user: &UserId,
        after: Option<&ProcessId>,
    ) -> impl Iterator<Item = &'a ProcessId> + use<'a> {
        let from = (user.clone(), after.cloned().unwrap_or_else(least));
        let user = user.clone();
        let found = self.held.range(from..).take_while(move |(holder, _)| *holder == user);
        let after = after.cloned();
        found.map(|(_, pid)| pid).skip_while(move |pid| after.as_ref() == Some(pid))
    }
}

/// Comes before every pid: none is empty.
fn least() -> ProcessId {
    ProcessId::of("")
}
