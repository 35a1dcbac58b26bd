//! What the peer simulators run: a ring of datagrams, and foca gossiping (T90, T91).
//!
//! Both simulators get the same workload, written once over [`Net`], the few calls that they share.
//! Each measurement is printed as one line of JSON.

mod member;
pub mod options;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use member::gossip;

/// The port of every member.
pub const PORT: u16 = 7_000;
/// The delay of every datagram. turmoil cannot do less than its tick.
pub const DELAY: Duration = Duration::from_millis(1);
/// Bytes of a datagram of the ring.
pub const RING_BYTES: usize = 64;

/// One member's socket and clock.
pub trait Net {
    /// Waits for a datagram and returns its length. Not cancel safe.
    fn recv(&self, buffer: &mut [u8]) -> impl Future<Output = io::Result<usize>>;
    /// Sends a datagram.
    fn send(&self, to: SocketAddr, bytes: &[u8]) -> impl Future<Output = io::Result<()>>;
    /// Returns the virtual time since some start.
    fn now(&self) -> Duration;
    /// Completes at `at`.
    fn sleep_until(&self, at: Duration) -> impl Future<Output = ()>;
}

/// What a run has done so far. Shared by the members of a run, all on one thread.
#[derive(Debug, Default)]
pub struct Tally {
    datagrams: AtomicU64,
    /// Members that know everyone, each counted once.
    complete: AtomicU64,
}

impl Tally {
    /// Returns the number of datagrams received.
    #[must_use]
    pub fn datagrams(&self) -> u64 {
        self.datagrams.load(Ordering::Relaxed)
    }

    /// Returns the number of members that came to know everyone.
    #[must_use]
    pub fn complete(&self) -> u64 {
        self.complete.load(Ordering::Relaxed)
    }

    fn received(&self) {
        self.datagrams.fetch_add(1, Ordering::Relaxed);
    }

    fn knows_everyone(&self) {
        self.complete.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends `tokens` datagrams to `next`, then passes on whatever comes, for ever.
///
/// # Errors
///
/// The socket's.
pub async fn ring<N: Net>(net: N, next: IpAddr, tokens: u32, tally: &Tally) -> io::Result<()> {
    let next = SocketAddr::new(next, PORT);
    for _ in 0..tokens {
        net.send(next, &[7; RING_BYTES]).await?;
    }
    let mut buffer = [0; RING_BYTES];
    loop {
        let length = net.recv(&mut buffer).await?;
        tally.received();
        net.send(next, &buffer[..length]).await?;
    }
}

/// One measurement.
#[derive(Debug)]
pub struct Measured {
    /// The simulator.
    pub peer: &'static str,
    /// `ring` or `gossip`.
    pub bench: &'static str,
    /// Members.
    pub members: u32,
    /// Datagrams in flight, for the ring; 0 otherwise.
    pub in_flight: u32,
    /// Datagrams received.
    pub datagrams: u64,
    /// Members that came to know everyone, for gossip; 0 otherwise.
    pub complete: u64,
    /// How long it took here.
    pub wall: Duration,
    /// How long it took there.
    pub simulated: Duration,
}

impl Measured {
    /// Prints the measurement as one line of JSON.
    pub fn print(&self) {
        println!(
            "{{\"peer\":\"{}\",\"bench\":\"{}\",\"members\":{},\"in_flight\":{},\"complete\":{},\
             \"datagrams\":{},\"wall_seconds\":{:.6},\"virtual_seconds\":{:.6}}}",
            self.peer,
            self.bench,
            self.members,
            self.in_flight,
            self.complete,
            self.datagrams,
            self.wall.as_secs_f64(),
            self.simulated.as_secs_f64(),
        );
    }
}
