//! Processes that are over, by when they ended: derived from their table (K12, K360).

use std::collections::BTreeSet;

use crate::kernel::config::Retention;
use crate::kernel::ids::ProcessId;
use crate::kernel::names::ProcessState;
use crate::kernel::process::Process;
use crate::kernel::time::{Millis, Time};
use crate::ledger::table::Table;

type Ended = BTreeSet<(Time, ProcessId)>;

/// The index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Over {
    terminated: Ended,
    zombies: Ended,
}

impl Over {
    /// Finds the index again from its table.
    #[must_use]
    pub fn derive(processes: &Table<ProcessId, Process>) -> Self {
        let mut over = Self::default();
        for (pid, process) in processes {
            over.add(pid, process);
        }
        over
    }

    /// Takes in a process, if it is over.
    pub fn add(&mut self, pid: &ProcessId, process: &Process) {
        if let Some((ended, at)) = self.place(process) {
            ended.insert((at, pid.clone()));
        }
    }

    /// Takes out a process, as it was.
    pub fn remove(&mut self, pid: &ProcessId, process: &Process) {
        if let Some((ended, at)) = self.place(process) {
            ended.remove(&(at, pid.clone()));
        }
    }

    fn place(&mut self, process: &Process) -> Option<(&mut Ended, Time)> {
        match process.state {
            ProcessState::Terminated => Some((&mut self.terminated, process.completed_at?)),
            ProcessState::Zombie => Some((&mut self.zombies, process.completed_at?)),
            ProcessState::New
            | ProcessState::Ready
            | ProcessState::Running
            | ProcessState::Waiting
            | ProcessState::Blocked => None,
        }
    }

    /// When the first Terminated process is kept no longer.
    #[must_use]
    pub fn first_terminated(&self, retention: &Retention) -> Option<Time> {
        self.terminated.first().map(|(at, _)| at.plus(retention.terminated_ms))
    }

    /// When the first Zombie is kept no longer.
    #[must_use]
    pub fn first_zombie(&self, retention: &Retention) -> Option<Time> {
        self.zombies.first().map(|(at, _)| at.plus(zombie_ms(retention)))
    }

    /// Lists Terminated processes that are kept no longer, the longest over first.
    #[must_use]
    pub fn due_terminated(&self, now: Time, retention: &Retention, most: usize) -> Vec<ProcessId> {
        due(&self.terminated, now, retention.terminated_ms, most)
    }

    /// Lists Zombies that are kept no longer, the longest over first.
    #[must_use]
    pub fn due_zombies(&self, now: Time, retention: &Retention, most: usize) -> Vec<ProcessId> {
        due(&self.zombies, now, zombie_ms(retention), most)
    }
}

/// How long a tombstone is kept since the process ended.
const fn zombie_ms(retention: &Retention) -> Millis {
    retention.terminated_ms.saturating_add(retention.zombie_ms)
}

fn due(ended: &Ended, now: Time, kept: Millis, most: usize) -> Vec<ProcessId> {
    let due = ended.iter().take_while(|(at, _)| at.plus(kept) <= now);
    due.take(most).map(|(_, pid)| pid.clone()).collect()
}
