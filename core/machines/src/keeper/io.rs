//! What the keeper takes and gives: commands and answers, and the operations on the data folder.

use std::fmt;
use std::sync::Arc;

use crate::kernel::dispatch::effect::Effect;
use crate::kernel::event::Event;
use crate::kernel::principal::Principal;
use crate::kernel::query::{Answer, Query};
use crate::kernel::reply::Reply;
use crate::kernel::stream::{Batch, Reading};
use crate::kernel::{Command, Refusal};
use crate::ledger::fold::Unreadable;
use crate::ledger::journal::io::DiskError;
use crate::ledger::record::Chain;
use crate::ledger::recovery::io as recovery;
pub use crate::ledger::recovery::io::Listed;
use crate::ledger::root::StateRoot;
use crate::ledger::segment;
use crate::ledger::snapshot;

/// Names a call: chosen by the driver, comes back in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call(pub u64);

/// Names an operation on the disk; each number is used once in the life of a keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Op(pub u64);

/// Names a reader of events: chosen by the driver, used once in the life of a keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reader(pub u64);

/// A folder of the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// `journal`: the segments.
    Journal,
    /// `snapshots`.
    Snapshots,
}

impl Folder {
    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Snapshots => "snapshots",
        }
    }
}

/// A file of the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// In `journal`.
    Journal(segment::File),
    /// In `snapshots`.
    Snapshot(snapshot::FileName),
}

impl File {
    /// Returns its folder.
    #[must_use]
    pub const fn folder(self) -> Folder {
        match self {
            Self::Journal(_) => Folder::Journal,
            Self::Snapshot(_) => Folder::Snapshots,
        }
    }
}

impl fmt::Display for File {
    /// Its name in its folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(file) => file.fmt(f),
            Self::Snapshot(file) => file.fmt(f),
        }
    }
}

/// What is to be done to the disk. Every operation is answered by one input that names it;
/// operations that are out at the same time may be done in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// List the files of a folder, making the folder if there is none: [`Input::Listed`].
    List(Folder),
    /// Read bytes: [`Input::Read`]. Fewer than asked for only at the end of the file.
    Read {
        /// Of which file.
        file: File,
        /// From where.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Make the file, or empty it, and write this many zeros into it.
    Create {
        /// Which.
        file: File,
        /// How many.
        zeros: u64,
    },
    /// Write all the bytes.
    Write {
        /// Into which file.
        file: File,
        /// Where.
        offset: u64,
        /// What.
        bytes: Arc<Vec<u8>>,
    },
    /// Make durable what was written to the file.
    Sync(File),
    /// Give the file another name, in the place of any that has it.
    Rename {
        /// Its name.
        from: File,
        /// Its name from now on, in the same folder.
        to: File,
    },
    /// Remove the file. That there is none is no error.
    Remove(File),
    /// Make the names in the folder durable.
    SyncDir(Folder),
}

/// What happens to the keeper.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// Somebody asks for something to be done.
    Command {
        /// Comes back with the reply.
        call: Call,
        /// What.
        command: Box<Command>,
    },
    /// Somebody asks for something to be told.
    Query {
        /// Comes back with the answer.
        call: Call,
        /// Who asks.
        by: Box<Principal>,
        /// What.
        query: Box<Query>,
    },
    /// Somebody wants to read events: [`Output::Batch`] for each [`Input::Want`], from here on.
    Open {
        /// Names the reader.
        reader: Reader,
        /// Who reads.
        by: Box<Principal>,
        /// What.
        reading: Box<Reading>,
    },
    /// A reader wants its next batch.
    Want(Reader),
    /// A reader has gone.
    Close(Reader),
    /// An operation returned without error.
    Done(Op),
    /// The bytes that were asked for.
    Read(Op, Vec<u8>),
    /// The files of a folder.
    Listed(Op, Vec<Listed>),
    /// An operation failed, and whether it had any effect is unknown.
    Failed(Op, DiskError),
    /// Stop cleanly: take nothing more, make all durable ([`Output::Stopped`]).
    Stop,
}

/// What the keeper wants done, or tells.
#[derive(Clone, Debug)]
pub enum Output {
    /// Do this to the disk.
    Disk(Op, Action),
    /// All that there was is read and applied; commands are decided from now on.
    Started(Box<Report>),
    /// The node must not start. Nothing was changed (L33, L34, L36).
    Refused(Box<RefusedStart>),
    /// The reply to a command, which no crash can take back any more (K5).
    Reply(Call, Result<Decided, Box<Refusal>>),
    /// The answer to a query, all of whose ground is durable (K5).
    Answer(Call, Result<Box<Answer>, Box<Refusal>>),
    /// Events that are durable, in their order: `first` is the number of the first (K331).
    Events {
        /// Number of the first event.
        first: u64,
        /// The events of one decision.
        events: Arc<[Event]>,
    },
    /// What follows from events that are durable: a handler is called, workers and callers are
    /// told (K5, K204, K205). It comes behind its events.
    Effect(Effect),
    /// The next events for a reader that wants them (K331).
    Batch(Reader, Box<Batch>),
    /// A reader gets no more. Whoever was told of events goes on behind the last one with another.
    Ended(Reader, Box<Refusal>),
    /// A snapshot of the state after this record is current (L42).
    Snapshot {
        /// Which record.
        record: u64,
    },
    /// A snapshot could not be written. It is tried again.
    SnapshotFailed {
        /// Of which record.
        record: u64,
        /// Why, for people.
        error: String,
    },
    /// Nothing is decided any more: the disk failed too often (L24, K365).
    Stalled(DiskError),
    /// The clean stop is complete.
    Stopped,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What its caller is told, and how much of what happened that knows (K5).
    pub reply: Box<Reply>,
    /// Its events; none if it had taken effect before (K6).
    pub events: Arc<[Event]>,
}

/// What recovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The record of the snapshot that it began with, if any.
    pub snapshot: Option<u64>,
    /// The last record.
    pub record: u64,
    /// Its hash.
    pub hash: Chain,
    /// The root of the state after it (L72).
    pub root: Option<StateRoot>,
    /// How many records were applied after the snapshot.
    pub replayed: u64,
    /// The number of the last event.
    pub events: u64,
    /// A write that a crash cut short (L32).
    pub torn: Option<recovery::Torn>,
    /// Snapshots that were passed over, and why.
    pub unsound: Vec<(u64, String)>,
    /// Files of other names (L18).
    pub strangers: Vec<String>,
    /// How the run before this one ended.
    pub before: Before,
}

/// How the run before a start ended (K363).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Before {
    /// There was none.
    #[default]
    Nothing,
    /// Without a stop: by a crash, or at once.
    Crash,
    /// By a stop at its deadline, with work that was live.
    Cut,
    /// By a stop after all work was done.
    Clean,
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "the first start",
            Self::Crash => "no clean stop",
            Self::Cut => "a stop that cut work short",
            Self::Clean => "a clean stop",
        })
    }
}

/// Why a node must not start on its data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefusedStart {
    /// The journal is damaged, incomplete or foreign (L33, L34).
    Journal(recovery::Refusal),
    /// A record says what this program does not know (L36), or is wrong.
    Record {
        /// Which.
        number: u64,
        /// Why.
        why: Unreadable,
    },
    /// A snapshot says what this program does not know (L36).
    Snapshot {
        /// Of which record.
        record: u64,
        /// Why.
        why: Unreadable,
    },
    /// A snapshot is another node's (L34).
    Foreign {
        /// Of which record.
        record: u64,
        /// What is wrong.
        why: String,
    },
    /// A folder could not be read.
    Unreadable {
        /// Which.
        folder: Folder,
        /// Why.
        error: DiskError,
    },
    /// What a record may hold was refused by the journal, or the configuration is wrong.
    Config(Refusal),
}

impl fmt::Display for RefusedStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(refusal) => refusal.fmt(f),
            Self::Record { number, why } => write!(f, "journal: record {number}: {why}"),
            Self::Snapshot { record, why } => write!(f, "snapshot of record {record}: {why}"),
            Self::Foreign { record, why } => write!(f, "snapshot of record {record}: {why}"),
            Self::Unreadable { folder, error } => {
                write!(f, "{}: cannot be read: {error}", folder.name())
            }
            Self::Config(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for RefusedStart {}
