//! When a snapshot is due, and its way to the disk (L40–L42).
//!
//! ```text
//!          Begin            created                 all written            synced
//!   Idle ─────────► Creating ─────► Writing ⟲ piece ───────────► Syncing ─────────┐
//!    ▲                                                                            ▼
//!    │        folder synced         renamed            journal durable up to it   │
//!   Removing ◄────────── SyncingDir ◄────── Renaming ◄─────────────────────── Waiting
//!                │
//!                └─ now it is current: the first moment at which older ones may go (L42, L77)
//!
//!   Creating … Renaming ── failed ──► Discarding ──► Idle until `retry` has passed
//!   SyncingDir ────────── failed ──────────────────► the same; nothing is removed
//! ```
//!
//! One operation is under way at a time, and one piece of the file is held. A snapshot waits for
//! the journal: were it durable first, a crash could leave a state whose records are lost, and that
//! others have not been told of.
//!
//! # What is removed
//!
//! The sync of the folder *vouches* for a snapshot that was written. When a new one is current, all
//! older than the newest vouched one before it go, and all temporary files. One that nobody vouched
//! for counts for nothing: it does not push out one that is good.
//!
//! The snapshot that recovery loaded is sound, but its name may not be durable: that process may
//! have ended because the folder could not be synced, and a later sync does not make up for one
//! that failed. So recovery vouches for the one before it, and three are kept until the next.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::mem;
use std::time::Duration;

use super::encode::Encoder;
use super::format::{FileName, FrozenState, SnapshotHeader};
use crate::Instant;

/// When snapshots are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotConfig {
    /// After so many records since the last one (L40).
    pub records: u64,
    /// After so many bytes of records since the last one (L40).
    pub bytes: u64,
    /// How long after a failure the next may be tried.
    pub retry: Duration,
}

impl SnapshotConfig {
    /// What L40 says: 100,000 records or 256 MiB. A failure is tried again after 10 s.
    pub const STANDARD: Self =
        Self { records: 100_000, bytes: 256 << 20, retry: Duration::from_secs(10) };
}

/// Names an operation on the disk; each number is used once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Op(pub u64);

/// What happens to the writer.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// So many records of so many bytes were appended to the journal, or read at recovery, since
    /// this was told last.
    Appended {
        /// Records.
        records: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The journal is durable up to this record.
    Durable(u64),
    /// Write this state out.
    Begin(FrozenState),
    /// An operation is done.
    Done(Op),
    /// An operation failed, and whether it had any effect is unknown.
    Failed {
        /// Which.
        op: Op,
        /// Why, for people.
        error: String,
    },
}

/// What the writer wants done. Files are in the folder of snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Create the file, empty; if there is one of that name, empty it.
    Create {
        /// Names the operation.
        op: Op,
        /// The file.
        file: FileName,
    },
    /// Write all the bytes.
    Write {
        /// Names the operation.
        op: Op,
        /// The file.
        file: FileName,
        /// Where in it.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Make what was written durable.
    Sync {
        /// Names the operation.
        op: Op,
        /// The file.
        file: FileName,
    },
    /// Give the file another name, in the place of any that has it.
    Rename {
        /// Names the operation.
        op: Op,
        /// Its name.
        from: FileName,
        /// Its name afterwards.
        to: FileName,
    },
    /// Make the names in the folder durable.
    SyncDir {
        /// Names the operation.
        op: Op,
    },
    /// Remove the file; if there is none of that name, that is done.
    Remove {
        /// Names the operation.
        op: Op,
        /// The file.
        file: FileName,
    },
    /// The snapshot is durable: recovery starts from it, and segments that it covers may go (L43).
    Current(SnapshotHeader),
    /// There is no snapshot of that record; the older ones are as they were.
    Abandoned {
        /// Which it would have been.
        record: u64,
        /// Why, for people.
        error: String,
    },
}

/// The snapshots in the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shelf {
    /// Of which records there are snapshots, sound or not.
    all: BTreeSet<u64>,
    /// Those that are known to be sound and durable.
    vouched: BTreeSet<u64>,
    /// What was not finished.
    temporary: BTreeSet<u64>,
}

impl Shelf {
    /// Reads the names in the folder. Names of another form are left alone (L18).
    #[must_use]
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut shelf = Self::default();
        for name in names.into_iter().filter_map(FileName::parse) {
            match name {
                FileName::Snapshot(record) => shelf.all.insert(record),
                FileName::Temporary(record) => shelf.temporary.insert(record),
            };
        }
        shelf
    }

    /// Lists of which records there are snapshots, the newest first: the order in which recovery
    /// tries them (L30).
    pub fn newest_first(&self) -> impl Iterator<Item = u64> + '_ {
        self.all.iter().rev().copied()
    }

    /// Notes that a new process begins with the snapshot of `record`, whose name may not be
    /// durable: the one before it, whose name is, is not pushed out by the first that this process
    /// writes.
    pub fn begin_with(&mut self, record: u64) {
        self.all.insert(record);
        self.vouched.extend(self.all.range(..record).next_back());
    }

    /// Notes that the snapshot of `record` is sound and durable.
    pub fn vouch(&mut self, record: u64) {
        self.all.insert(record);
        self.vouched.insert(record);
    }

    /// Returns the newest sound snapshot older than that of `record`: the one that recovery falls
    /// back on, so that what it covers is all that no recovery needs (L43).
    #[must_use]
    pub fn vouched_before(&self, record: u64) -> Option<u64> {
        self.vouched.range(..record).next_back().copied()
    }

    /// Lists what may go once the snapshot of `record` is current.
    fn removable(&self, record: u64) -> Vec<FileName> {
        let before = self.vouched.range(..record).next_back();
        let old = before.into_iter().flat_map(|kept| self.all.range(..kept));
        let old = old.map(|old| FileName::Snapshot(*old));
        old.chain(self.temporary.iter().map(|left| FileName::Temporary(*left))).collect()
    }

    fn remove(&mut self, file: FileName) {
        match file {
            FileName::Snapshot(record) => {
                self.all.remove(&record);
                self.vouched.remove(&record);
            }
            FileName::Temporary(record) => {
                self.temporary.remove(&record);
            }
        }
    }
}

/// A snapshot is being written already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a snapshot is being written already")
    }
}

impl std::error::Error for Busy {}

/// What is known of the snapshot that is being written.
#[derive(Clone, Debug)]
struct Taking {
    encoder: Encoder,
    /// Bytes given so far.
    offset: u64,
    /// What had been appended when it was begun: records and bytes.
    covered: (u64, u64),
}

impl Taking {
    const fn record(&self) -> u64 {
        self.encoder.header().record
    }
}

#[derive(Clone, Debug)]
enum State {
    Idle,
    Creating(Box<Taking>),
    Writing(Box<Taking>),
    Syncing(Box<Taking>),
    /// On the disk under its temporary name; the journal is behind.
    Waiting(Box<Taking>),
    Renaming(Box<Taking>),
    SyncingDir(Box<Taking>),
    /// What is still to be removed; the last is being removed.
    Removing(Vec<FileName>),
    /// The temporary file of this record is being removed, because of this.
    Discarding {
        record: u64,
        error: String,
    },
}

/// Writes snapshots, one after the other.
#[derive(Clone, Debug)]
pub struct SnapshotWriter {
    config: SnapshotConfig,
    shelf: Shelf,
    state: State,
    /// The operation under way, or the last.
    op: Op,
    /// The journal is durable up to this record.
    durable: u64,
    /// Appended since the last snapshot that is current: records and bytes.
    appended: (u64, u64),
    /// After a failure: when the next may be begun.
    retry_at: Instant,
    outputs: VecDeque<Output>,
}

impl SnapshotWriter {
    /// Makes a writer into the folder that has what is on `shelf`, with the journal durable up to
    /// record `durable`.
    ///
    /// # Panics
    ///
    /// If a snapshot would always be due.
    #[must_use]
    pub fn new(config: SnapshotConfig, shelf: Shelf, durable: u64) -> Self {
        assert!(config.records > 0, "a snapshot per nothing is one all the time");
        assert!(config.bytes > 0, "a snapshot per nothing is one all the time");
        Self {
            config,
            shelf,
            state: State::Idle,
            op: Op(0),
            durable,
            appended: (0, 0),
            retry_at: Instant::START,
            outputs: VecDeque::new(),
        }
    }

    /// Applies `input`.
    ///
    /// # Errors
    ///
    /// [`Busy`] for an [`Input::Begin`] while a snapshot is being written; nothing has changed.
    ///
    /// # Panics
    ///
    /// If an operation ends that is not under way.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<(), Busy> {
        debug_assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        match input {
            Input::Tick => {}
            Input::Appended { records, bytes } => {
                self.appended.0 = self.appended.0.saturating_add(records);
                self.appended.1 = self.appended.1.saturating_add(bytes);
            }
            Input::Durable(record) => self.durable(record),
            Input::Begin(state) => return self.begin(state),
            Input::Done(op) => {
                assert_eq!(op, self.op, "one operation is under way");
                self.done(now);
            }
            Input::Failed { op, error } => {
                assert_eq!(op, self.op, "one operation is under way");
                self.failed(now, error);
            }
        }
        Ok(())
    }

    /// Takes the next thing to do. Call until it returns `None` after every `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When a snapshot is due at the latest, if nothing more is appended.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match matches!(self.state, State::Idle) && self.is_much() {
            true => self.retry_at,
            false => Instant::FAR,
        }
    }

    /// Whether a snapshot should be [begun](Input::Begin) now (L40).
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.deadline() <= now
    }

    /// Returns what is in the folder, as far as operations have ended.
    #[must_use]
    pub const fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    fn is_much(&self) -> bool {
        self.appended.0 >= self.config.records || self.appended.1 >= self.config.bytes
    }

    fn begin(&mut self, state: FrozenState) -> Result<(), Busy> {
        if !matches!(self.state, State::Idle) {
            return Err(Busy);
        }
        let encoder = Encoder::new(state);
        let taking = Box::new(Taking { encoder, offset: 0, covered: self.appended });
        let record = taking.record();
        self.shelf.temporary.insert(record);
        self.state = State::Creating(taking);
        self.issue(|op| Output::Create { op, file: FileName::Temporary(record) });
        Ok(())
    }

    /// Asks for an operation, under the next number.
    fn issue(&mut self, output: impl FnOnce(Op) -> Output) {
        self.op = Op(self.op.0 + 1);
        self.outputs.push_back(output(self.op));
    }

    fn durable(&mut self, record: u64) {
        self.durable = self.durable.max(record);
        if matches!(self.state, State::Waiting(_))
            && let State::Waiting(taking) = mem::replace(&mut self.state, State::Idle)
        {
            self.rename(taking);
        }
    }

    /// Goes on after the operation under way is done.
    fn done(&mut self, now: Instant) {
        match mem::replace(&mut self.state, State::Idle) {
            State::Creating(taking) | State::Writing(taking) => self.write(taking),
            State::Syncing(taking) => self.rename(taking),
            State::Renaming(taking) => {
                self.shelf.remove(FileName::Temporary(taking.record()));
                self.shelf.all.insert(taking.record());
                self.state = State::SyncingDir(taking);
                self.issue(|op| Output::SyncDir { op });
            }
            State::SyncingDir(taking) => self.current(&taking),
            State::Removing(mut files) => {
                if let Some(file) = files.pop() {
                    self.shelf.remove(file);
                }
                self.remove(files);
            }
            State::Discarding { record, error } => {
                self.shelf.remove(FileName::Temporary(record));
                self.abandon(now, record, error);
            }
            State::Idle | State::Waiting(_) => unreachable!("no operation was under way"),
        }
    }

    /// Goes on after the operation under way failed.
    fn failed(&mut self, now: Instant, error: String) {
        match mem::replace(&mut self.state, State::Idle) {
            State::Creating(taking) | State::Writing(taking) | State::Syncing(taking) => {
                self.discard(taking.record(), error);
            }
            State::Renaming(taking) => {
                self.shelf.all.insert(taking.record()); // It may have its name.
                self.discard(taking.record(), error);
            }
            // It has its name, for now. Nobody vouches for it, and nothing goes because of it.
            State::SyncingDir(taking) => self.abandon(now, taking.record(), error),
            // What cannot be removed stays on the shelf, for the next time.
            State::Removing(mut files) => {
                files.pop();
                self.remove(files);
            }
            State::Discarding { record, error } => self.abandon(now, record, error),
            State::Idle | State::Waiting(_) => unreachable!("no operation was under way"),
        }
    }

    fn write(&mut self, mut taking: Box<Taking>) {
        let file = FileName::Temporary(taking.record());
        match taking.encoder.piece() {
            Some(bytes) => {
                let offset = taking.offset;
                taking.offset += bytes.len() as u64;
                self.state = State::Writing(taking);
                self.issue(|op| Output::Write { op, file, offset, bytes });
            }
            None => {
                self.state = State::Syncing(taking);
                self.issue(|op| Output::Sync { op, file });
            }
        }
    }

    /// Gives the file its name, unless records before it could still be lost.
    fn rename(&mut self, taking: Box<Taking>) {
        let record = taking.record();
        if self.durable < record {
            self.state = State::Waiting(taking);
            return;
        }
        self.state = State::Renaming(taking);
        let (from, to) = (FileName::Temporary(record), FileName::Snapshot(record));
        self.issue(|op| Output::Rename { op, from, to });
    }

    fn current(&mut self, taking: &Taking) {
        self.appended.0 -= taking.covered.0;
        self.appended.1 -= taking.covered.1;
        self.shelf.vouch(taking.record());
        self.outputs.push_back(Output::Current(*taking.encoder.header()));
        self.remove(self.shelf.removable(taking.record()));
    }

    /// Removes the last of `files`, then the others.
    fn remove(&mut self, files: Vec<FileName>) {
        let Some(file) = files.last().copied() else {
            return;
        };
        self.state = State::Removing(files);
        self.issue(|op| Output::Remove { op, file });
    }

    fn discard(&mut self, record: u64, error: String) {
        self.state = State::Discarding { record, error };
        self.issue(|op| Output::Remove { op, file: FileName::Temporary(record) });
    }

    fn abandon(&mut self, now: Instant, record: u64, error: String) {
        self.retry_at = now + self.config.retry;
        self.outputs.push_back(Output::Abandoned { record, error });
    }
}
