//! The outside of a node: clock, network, disk and entropy, and what a simulator may do to each.
//!
//! A port never decides: it carries. What arrives is told as values ([`Happened`]), what is to be
//! done is queued by plain calls that return at once. So one future drives a whole node, on any
//! executor, without a task per connection.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};

use machines::Instant;
use machines::cluster::ids::Conn;

/// One world a node can live in: the machine's, or a simulator's.
///
/// Never a value; it only names the four ports, so that what is generic over a world has one
/// parameter.
pub trait Env: 'static {
    /// Its clock.
    type Clock: Clock;
    /// Its network.
    type Network: Network;
    /// Its disk.
    type Disk: Disk;
    /// Its source of randomness.
    type Entropy: Entropy;
}

/// The four ports of one node in the world `E`.
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

/// Random bytes that nobody can guess; in a simulator, bytes that the seed decides.
pub trait Entropy: Send + 'static {
    /// Fills `bytes`.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness to give: no key made without it is safe.
    fn fill(&mut self, bytes: &mut [u8]);
}
