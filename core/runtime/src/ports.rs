//! The outside of a node: clock, network, disk, files and entropy, and what a simulator may do.
//!
//! A port never decides: it carries. What arrives is told as values ([`Happened`]), what is to be
//! done is queued by plain calls that return at once. So one future drives a whole node, on any
//! executor, without a task per connection.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use machines::Instant;
use machines::cluster::ids::Conn;
use machines::kernel::Time;
use machines::ledger::journal::io::DiskError;
use machines::ledger::recovery::io::Listed;
use machines::ledger::segment;
use machines::ledger::snapshot::FileName;

/// One world a node can live in: the machine's, or a simulator's.
///
/// Never a value; it only names the five ports, so that what is generic over a world has one
/// parameter.
pub trait Env: 'static {
    /// Its clock.
    type Clock: Clock;
    /// Its network.
    type Network: Network;
    /// Its disk.
    type Disk: Disk;
    /// The files of its ledger.
    type Files: Files;
    /// Its source of randomness.
    type Entropy: Entropy;
}

/// The ports of one node's cluster in the world `E`. The kernel's loop has a clock and [`Files`]
/// ([`keep`](mod@crate::keep)).
pub struct World<E: Env> {
    /// Time.
    pub clock: E::Clock,
    /// Datagrams and streams.
    pub network: E::Network,
    /// The session file.
    pub disk: E::Disk,
    /// Random bytes.
    pub entropy: E::Entropy,
}

/// Monotonic time.
///
/// A simulator may stop it, let it jump forward and let [`Clock::sleep_until`] be late, by any
/// amount. It may not go backwards: a world whose clock could is wrapped so that it cannot.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time. Never decreases.
    fn now(&self) -> Instant;

    /// Returns the time of day, to the millisecond. A simulator, like the operating system, may set
    /// it back and forth by any amount (K7).
    fn wall(&self) -> Time;

    /// Completes at `at`, or later; never for [`Instant::FAR`]. Cancel safe.
    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send;
}

/// Unreliable datagrams and ordered streams, at one address.
///
/// A simulator may lose, duplicate, delay, reorder and corrupt datagrams. It may delay the bytes
/// of a stream, cut them anywhere, corrupt them and end the stream; it keeps their order. It may
/// fail any dial, and accept connections that nobody dialled.
pub trait Network: Send + 'static {
    /// Waits for the next thing that happened. Cancel safe: a dropped call loses nothing.
    ///
    /// Datagrams that can be read come before everything else (C53). Bytes are read only when
    /// asked for, so that a slow node slows its peers down and does not fill its memory.
    ///
    /// # Errors
    ///
    /// The network as a whole has failed; what fails on one stream is [`Happened::Closed`].
    fn next(&mut self) -> impl Future<Output = io::Result<Happened>> + Send;

    /// Takes a datagram that can be read already, without waiting (C53).
    fn ready(&mut self) -> Option<Vec<u8>>;

    /// Sends a datagram; it may be dropped at any point from here on.
    fn datagram(&mut self, to: SocketAddr, bytes: Vec<u8>);

    /// Opens a stream and names it `conn`; told as `Connected` or `DialFailed`.
    fn dial(&mut self, conn: Conn, to: SocketAddr);

    /// Writes to a stream, after what was written before; told as `Wrote`, in parts.
    ///
    /// A stream that is closed or unknown takes the bytes and drops them.
    fn write(&mut self, conn: Conn, bytes: Vec<u8>);

    /// Writes what is left, then closes; or gives up a dial. Nothing more is told about `conn`.
    fn close(&mut self, conn: Conn);

    /// Waits until all closed streams have written what was left, for a bounded time.
    fn finish(&mut self) -> impl Future<Output = ()> + Send;
}

/// What happened on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A datagram arrived.
    Datagram(Vec<u8>),
    /// A dial connected.
    Connected {
        /// Which.
        conn: Conn,
    },
    /// A dial failed.
    DialFailed {
        /// Which.
        conn: Conn,
    },
    /// Someone connected.
    Accepted {
        /// Its name from now on: odd, never used before.
        conn: Conn,
        /// Where from.
        source: IpAddr,
    },
    /// Bytes arrived on a stream.
    Bytes {
        /// Which.
        conn: Conn,
        /// What; not empty.
        bytes: Vec<u8>,
    },
    /// Bytes have left the process's buffers.
    Wrote {
        /// Which.
        conn: Conn,
        /// How many.
        count: u32,
    },
    /// A stream ended, in whatever way.
    Closed {
        /// Which.
        conn: Conn,
    },
}

/// One small file with slots, whose writes are durable when they are told (C7).
///
/// The first write makes the file whole (under another name, and then renamed): a crash before it
/// is told leaves either no file or all of it. Later writes go in place.
///
/// A simulator may tear a write in place that was not told, and hold any write back for ever. What
/// was told is there after any crash, unless the simulator says in its report that it broke this
/// promise.
pub trait Disk: Send + 'static {
    /// Reads the whole file; `None` if there is none.
    ///
    /// # Errors
    ///
    /// The file is there and cannot be read.
    fn read(&mut self) -> impl Future<Output = io::Result<Option<Vec<u8>>>> + Send;

    /// Starts to write `bytes` at `offset`, and to sync file and folder. Makes the file whole
    /// if there is none.
    fn write(&mut self, offset: u64, bytes: Vec<u8>);

    /// Waits until the oldest write not yet told is durable; for ever if there is none.
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// That write failed; what the file holds at its place is not known.
    fn written(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

/// The files of the ledger: segments of the journal, and snapshots (ledger.md, section 7).
///
/// Tasks on one file are begun in the order in which they were submitted, each when the one before
/// it has ended; but a write does not wait for a sync of the same file, and reads go beside reads,
/// writes and syncs of it: where a write is not told yet, a read may have old bytes, new ones or
/// some of each. Tasks on different files, and on folders, go in any order, several at the same
/// time. What ended is told in that order.
///
/// A simulator may do to it what a disk may:
///
/// - Before a sync of a file returns, any subset of the 512-byte sectors that were written since
///   its last good sync may be on the disk, each old or new (L60); after it has returned they stay,
///   unless a scenario asks for rot or a lying disk, and says so in its report (L61).
/// - A new name, and the end of an old one, is durable only after its folder was synced (L62).
/// - A failed sync may have written any subset, and a later one may succeed without it (L63).
/// - Reads may fail, or give other bytes when rot was asked for (L64).
/// - Any task may fail, having done all, part or nothing of its work; a write or a creation also
///   for want of room. Any may take for ever.
///
/// When the port is dropped, what was submitted and not told may be done, or not.
pub trait Files: Send + 'static {
    /// Starts `task`; told by [`Files::ended`] under the name `id`, which no other task has that
    /// was not told yet.
    ///
    /// There is no queue of its own to fill: the machines have few tasks out at a time.
    fn submit(&mut self, id: TaskId, task: Task);

    /// Waits until a task that was not told yet has ended; for ever if there is none. Cancel safe:
    /// a dropped call loses nothing.
    fn ended(&mut self) -> impl Future<Output = (TaskId, Result<Told, Fault>)> + Send;
}

/// Names a task on files, from its submission until it is told. Whoever submits chooses it, so that
/// several machines can share one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// One of the two folders of a ledger (L10, L17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Folder {
    /// `journal`.
    Journal,
    /// `snapshots`.
    Snapshots,
}

impl Folder {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Journal, Self::Snapshots];

    /// Returns its name in the data folder.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Snapshots => "snapshots",
        }
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A file of a ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LedgerFile {
    /// In the folder `journal`.
    Journal(segment::File),
    /// In the folder `snapshots`.
    Snapshot(FileName),
}

impl LedgerFile {
    /// Returns the folder that it is in.
    #[must_use]
    pub const fn folder(self) -> Folder {
        match self {
            Self::Journal(_) => Folder::Journal,
            Self::Snapshot(_) => Folder::Snapshots,
        }
    }
}

impl fmt::Display for LedgerFile {
    /// The path in the data folder.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(file) => write!(f, "{}/{file}", self.folder()),
            Self::Snapshot(file) => write!(f, "{}/{file}", self.folder()),
        }
    }
}

impl From<segment::File> for LedgerFile {
    fn from(file: segment::File) -> Self {
        Self::Journal(file)
    }
}

impl From<FileName> for LedgerFile {
    fn from(file: FileName) -> Self {
        Self::Snapshot(file)
    }
}

/// What is done to files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Make the file, or empty it, and write so many zeros: no holes, so that later writes inside
    /// it need no room and change no metadata (L21).
    Create {
        /// Which.
        file: LedgerFile,
        /// How long it is then.
        bytes: u64,
    },
    /// Write all the bytes at their place, into the file or at its end.
    Write {
        /// Which.
        file: LedgerFile,
        /// Where.
        offset: u64,
        /// What.
        bytes: Arc<Vec<u8>>,
    },
    /// Make durable what was written, and the length.
    Sync {
        /// Which.
        file: LedgerFile,
    },
    /// Give the file another name in the same folder, in the place of any that has it.
    Rename {
        /// Its name.
        from: LedgerFile,
        /// Its name afterwards.
        to: LedgerFile,
    },
    /// Remove the file. If there is none, that is done.
    Remove {
        /// Which.
        file: LedgerFile,
    },
    /// Make the names durable that were given and taken by tasks that have ended.
    SyncDir {
        /// Of which folder.
        folder: Folder,
    },
    /// List the names and lengths of what is in a folder, in order of name.
    List {
        /// Which.
        folder: Folder,
    },
    /// Read bytes of a file; fewer only if it ends before.
    ReadAt {
        /// Which.
        file: LedgerFile,
        /// From where on.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// Ask for the free space.
    Room,
}

/// What a task that ended well tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is done: a creation, write, sync, renaming or removal.
    Done,
    /// What is in the folder, also under names that are not ours (L18).
    Listed(Vec<Listed>),
    /// What was read.
    Read(Vec<u8>),
    /// How many bytes are free for this node.
    Room(u64),
}

/// Why a task failed. It may have done all, part or nothing of its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of failure: all that a machine decides by.
    pub kind: DiskError,
    /// In words, for people.
    pub why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Fault {}

/// Random bytes that nobody can guess; in a simulator, bytes that the seed decides.
pub trait Entropy: Send + 'static {
    /// Fills `bytes`.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness to give: no key made without it is safe.
    fn fill(&mut self, bytes: &mut [u8]);
}
