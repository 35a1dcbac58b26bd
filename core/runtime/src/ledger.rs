//! Between the words of the ledger's machines and those of the port [`Files`]: nothing is decided.
//!
//! ```text
//!   machine ── Output ──► of_journal, of_recovery, of_snapshots ──► Asked + Task ──► Files
//!      ▲                                                              │                │
//!      └───────── Answer (an Input) ◄── Asked::answer ◄───────────────┴── Told, Fault ─┘
//! ```
//!
//! [`Files`]: crate::ports::Files

use std::sync::Arc;

use machines::ledger::journal::io::{self as journal, Op};
use machines::ledger::recovery::io as recovery;
use machines::ledger::snapshot;

use crate::ports::{Fault, Folder, Task, Told};

/// Who asked for a task, and how it is answered. Kept from the submission until the task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The journal, for a write.
    Write(Op),
    /// The journal, for a sync of a file.
    Sync(Op),
    /// The journal, for anything else.
    Other(Op),
    /// Recovery, for the list of the files.
    List(Op),
    /// Recovery, for bytes of a file.
    Read(Op),
    /// The writer of snapshots.
    Snapshot(snapshot::Op),
}

/// What a machine is told.
#[derive(Clone, Debug)]
pub enum Answer {
    /// For the journal.
    Journal(journal::Input),
    /// For recovery.
    Recovery(recovery::Input),
    /// For the writer of snapshots.
    Snapshots(snapshot::Input),
}

impl Asked {
    /// Turns what became of the task into the machine's input.
    ///
    /// # Panics
    ///
    /// If a task for recovery ended well without what it asked for.
    #[must_use]
    pub fn answer(self, result: Result<Told, Fault>) -> Answer {
        let journal = |done: journal::Input, op| {
            Answer::Journal(
                result.as_ref().map_or_else(|f| journal::Input::Failed(op, f.kind), |_| done),
            )
        };
        match self {
            Self::Write(op) => journal(journal::Input::Wrote(op), op),
            Self::Sync(op) => journal(journal::Input::Synced(op), op),
            Self::Other(op) => journal(journal::Input::Done(op), op),
            Self::List(op) | Self::Read(op) => Answer::Recovery(recovered(op, result)),
            Self::Snapshot(op) => Answer::Snapshots(match result {
                Ok(_) => snapshot::Input::Done(op),
                Err(fault) => snapshot::Input::Failed { op, error: fault.why },
            }),
        }
    }
}

fn recovered(op: Op, result: Result<Told, Fault>) -> recovery::Input {
    match result {
        Ok(Told::Listed(files)) => recovery::Input::Listed(files),
        Ok(Told::Read(bytes)) => recovery::Input::Read(op, bytes),
        Ok(Told::Done | Told::Room(_)) => {
            unreachable!("a list or a read tells what was listed or read")
        }
        Err(fault) => recovery::Input::Failed(op, fault.kind),
    }
}

/// Names what the journal wants done.
///
/// # Errors
///
/// Gives back an output that is no task: it is for the node.
pub fn of_journal(output: journal::Output) -> Result<(Asked, Task), journal::Output> {
    Ok(match output {
        journal::Output::Create { op, file, bytes } => {
            (Asked::Other(op), Task::Create { file: file.into(), bytes })
        }
        journal::Output::Write { op, file, offset, bytes } => {
            (Asked::Write(op), Task::Write { file: file.into(), offset, bytes })
        }
        journal::Output::Sync { op, file } => (Asked::Sync(op), Task::Sync { file: file.into() }),
        journal::Output::Rename { op, from, to } => {
            (Asked::Other(op), Task::Rename { from: from.into(), to: to.into() })
        }
        journal::Output::Remove { op, file } => {
            (Asked::Other(op), Task::Remove { file: file.into() })
        }
        journal::Output::SyncDir { op } => {
            (Asked::Other(op), Task::SyncDir { folder: Folder::Journal })
        }
        journal::Output::Durable(_) | journal::Output::Stalled(_) | journal::Output::Stopped => {
            return Err(output);
        }
    })
}

/// Names what recovery wants done.
///
/// # Errors
///
/// Gives back an output that is no task: it is for the node.
pub fn of_recovery(output: recovery::Output) -> Result<(Asked, Task), recovery::Output> {
    Ok(match output {
        recovery::Output::List { op } => (Asked::List(op), Task::List { folder: Folder::Journal }),
        recovery::Output::ReadAt { op, file, offset, bytes } => {
            (Asked::Read(op), Task::ReadAt { file: file.into(), offset, bytes })
        }
        recovery::Output::Record(_)
        | recovery::Output::Recovered(_)
        | recovery::Output::Refused(_) => return Err(output),
    })
}

/// Names what the writer of snapshots wants done.
///
/// # Errors
///
/// Gives back an output that is no task: it is for the node.
pub fn of_snapshots(output: snapshot::Output) -> Result<(Asked, Task), snapshot::Output> {
    let (op, task) = match output {
        snapshot::Output::Create { op, file } => (op, Task::Create { file: file.into(), bytes: 0 }),
        snapshot::Output::Write { op, file, offset, bytes } => {
            (op, Task::Write { file: file.into(), offset, bytes: Arc::new(bytes) })
        }
        snapshot::Output::Sync { op, file } => (op, Task::Sync { file: file.into() }),
        snapshot::Output::Rename { op, from, to } => {
            (op, Task::Rename { from: from.into(), to: to.into() })
        }
        snapshot::Output::SyncDir { op } => (op, Task::SyncDir { folder: Folder::Snapshots }),
        snapshot::Output::Remove { op, file } => (op, Task::Remove { file: file.into() }),
        snapshot::Output::Current(_) | snapshot::Output::Abandoned { .. } => return Err(output),
    };
    Ok((Asked::Snapshot(op), task))
}
