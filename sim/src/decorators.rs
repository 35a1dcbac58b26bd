//! Faults around any world's ports: what madsim, or a real network, cannot do to a node (T62).
//!
//! [`Flaky`] loses, duplicates, reorders and corrupts what a node sends. [`Faulty`] tears writes
//! and forgets syncs. [`Skewed`] lets a clock drift and jump. Each asks [`Choices`], so one seed
//! gives one run, and answer 0 is always "no fault".

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use machines::cluster::ids::Conn;
use machines::{Choices, Instant};
use runtime::{Clock, Disk, Happened, Network};

/// How often something happens: 0 is never, 1,000 always.
pub type PerMille = u64;

/// What [`Flaky`] does to what a node sends.
#[derive(Clone, Debug, Default)]
pub struct Flaws {
    /// Datagrams that are lost.
    pub loss: PerMille,
    /// Datagrams that are lost on the way to this address, instead of `loss`.
    pub loss_to: BTreeMap<SocketAddr, PerMille>,
    /// Datagrams that arrive twice.
    pub duplication: PerMille,
    /// Datagrams that are overtaken by the next one.
    pub reordering: PerMille,
    /// Datagrams in which one bit is flipped.
    pub corruption: PerMille,
    /// Writes to streams in which one bit is flipped.
    pub stream_corruption: PerMille,
}

/// A network that mistreats what its node sends.
pub struct Flaky<N> {
    network: N,
    flaws: Flaws,
    choices: Choices,
    /// Waits until the next datagram has overtaken it.
    overtaken: Option<(SocketAddr, Vec<u8>)>,
}

impl<N> Flaky<N> {
    /// Puts `flaws` in front of `network`; `choices` decides when.
    pub const fn new(network: N, flaws: Flaws, choices: Choices) -> Self {
        Self { network, flaws, choices, overtaken: None }
    }

    /// Changes the flaws from now on.
    pub fn flaws(&mut self) -> &mut Flaws {
        &mut self.flaws
    }

    fn flip(&mut self, site: &'static str, bytes: &mut [u8]) {
        if let Ok(bits @ 1..) = u64::try_from(bytes.len() * 8) {
            let bit = self.choices.choose(site, [0, 0], bits);
            let place = usize::try_from(bit / 8).expect("a place in a slice is a usize");
            bytes[place] ^= 1 << (bit % 8);
        }
    }
}

impl<N: Network> Network for Flaky<N> {
    async fn next(&mut self) -> io::Result<Happened> {
        self.network.next().await
    }

    fn ready(&mut self) -> Option<Vec<u8>> {
        self.network.ready()
    }

    fn datagram(&mut self, to: SocketAddr, mut bytes: Vec<u8>) {
        let loss = self.flaws.loss_to.get(&to).unwrap_or(&self.flaws.loss);
        if happens(&mut self.choices, "flaky.loss", *loss) {
            return;
        }
        if happens(&mut self.choices, "flaky.corruption", self.flaws.corruption) {
            self.flip("flaky.bit", &mut bytes);
        }
        if happens(&mut self.choices, "flaky.duplication", self.flaws.duplication) {
            self.network.datagram(to, bytes.clone());
        }
        let waits = happens(&mut self.choices, "flaky.reordering", self.flaws.reordering);
        match (waits, self.overtaken.take()) {
            (true, None) => self.overtaken = Some((to, bytes)),
            (true | false, Some((earlier_to, earlier))) => {
                self.network.datagram(to, bytes);
                self.network.datagram(earlier_to, earlier);
            }
            (false, None) => self.network.datagram(to, bytes),
        }
    }

    fn dial(&mut self, conn: Conn, to: SocketAddr) {
        self.network.dial(conn, to);
    }

    fn write(&mut self, conn: Conn, mut bytes: Vec<u8>) {
        let flaw = self.flaws.stream_corruption;
        if happens(&mut self.choices, "flaky.stream", flaw) {
            self.flip("flaky.stream_bit", &mut bytes);
        }
        self.network.write(conn, bytes);
    }

    fn close(&mut self, conn: Conn) {
        self.network.close(conn);
    }

    async fn finish(&mut self) {
        self.network.finish().await;
    }
}

/// What [`Faulty`] does to writes.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaults {
    /// Writes of which only the first bytes reach the disk, and that fail.
    pub torn: PerMille,
    /// Writes that are told as durable and never reach the disk. This breaks the port's promise:
    /// what is lost so must be counted as lost by whoever checks.
    pub forgotten: PerMille,
}

/// A disk that tears writes and forgets syncs.
pub struct Faulty<D> {
    disk: D,
    faults: DiskFaults,
    choices: Choices,
    fates: VecDeque<Fate>,
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Sound,
    Torn,
    Forgotten,
}

impl<D> Faulty<D> {
    /// Puts `faults` in front of `disk`; `choices` decides when.
    pub const fn new(disk: D, faults: DiskFaults, choices: Choices) -> Self {
        Self { disk, faults, choices, fates: VecDeque::new() }
    }
}

impl<D: Disk> Disk for Faulty<D> {
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.disk.read().await
    }

    fn write(&mut self, offset: u64, mut bytes: Vec<u8>) {
        if happens(&mut self.choices, "faulty.forgotten", self.faults.forgotten) {
            return self.fates.push_back(Fate::Forgotten);
        }
        if happens(&mut self.choices, "faulty.torn", self.faults.torn)
            && let Ok(length @ 1..) = u64::try_from(bytes.len())
        {
            let lost = 1 + self.choices.choose("faulty.length", [0, 0], length);
            let kept = usize::try_from(length - lost).expect("less than the length of a slice");
            bytes.truncate(kept);
            self.disk.write(offset, bytes);
            return self.fates.push_back(Fate::Torn);
        }
        self.disk.write(offset, bytes);
        self.fates.push_back(Fate::Sound);
    }

    async fn written(&mut self) -> io::Result<()> {
        let Some(fate) = self.fates.front().copied() else {
            return std::future::pending().await;
        };
        let told = match fate {
            Fate::Sound => self.disk.written().await,
            Fate::Torn => match self.disk.written().await {
                Ok(()) => Err(io::Error::other("the write was torn")),
                failed @ Err(_) => failed,
            },
            Fate::Forgotten => Ok(()),
        };
        self.fates.pop_front();
        told
    }
}

/// A clock that is too fast or too slow, and jumps forward. It never goes backwards.
#[derive(Clone, Debug)]
pub struct Skewed<C> {
    clock: C,
    /// Millionths of a second that pass in a second: 1,000,000 is right.
    pace: u64,
    /// When, by the right clock, it jumps; and how far. In order of time.
    jumps: Vec<(Instant, Duration)>,
}

impl<C: Clock> Skewed<C> {
    /// Lets `clock` go at `pace` millionths and make `jumps`, each at a moment of the right clock.
    ///
    /// # Panics
    ///
    /// If the clock would stand still.
    pub fn new(clock: C, pace: u64, mut jumps: Vec<(Instant, Duration)>) -> Self {
        assert!(pace > 0, "a clock that stands still reaches no deadline");
        jumps.sort_unstable();
        Self { clock, pace, jumps }
    }

    /// Returns what this clock shows when the right one shows `right`.
    fn shown(&self, right: Instant) -> Instant {
        let paced = u128::from(right.as_nanos()) * u128::from(self.pace) / 1_000_000;
        let passed = self.jumps.iter().filter(|(at, _)| *at <= right);
        let shown = Instant::from_nanos(u64::try_from(paced).unwrap_or(u64::MAX));
        passed.fold(shown, |shown, (_, far)| shown + *far)
    }

    /// Returns a moment of the right clock before which this one does not show `shown`, unless it
    /// jumps.
    fn right(&self, now: Instant, shown: Instant) -> Instant {
        let wait = u128::from(shown.nanos_since(self.shown(now)));
        let right = (wait * 1_000_000).div_ceil(u128::from(self.pace));
        now.plus_nanos(u64::try_from(right).unwrap_or(u64::MAX))
    }
}

impl<C: Clock> Clock for Skewed<C> {
    fn now(&self) -> Instant {
        self.shown(self.clock.now())
    }

    async fn sleep_until(&self, at: Instant) {
        if at == Instant::FAR {
            return std::future::pending().await;
        }
        loop {
            let now = self.clock.now();
            if self.shown(now) >= at {
                return;
            }
            let next_jump = self.jumps.iter().map(|(jump, _)| *jump).find(|jump| *jump > now);
            let wake = self.right(now, at).min(next_jump.unwrap_or(Instant::FAR));
            self.clock.sleep_until(wake).await;
        }
    }
}

/// Asks whether something that happens so often happens now.
fn happens(choices: &mut Choices, site: &'static str, often: PerMille) -> bool {
    often > 0 && choices.choose(site, [0, 0], 1_000) >= 1_000_u64.saturating_sub(often)
}

#[cfg(test)]
mod tests;
