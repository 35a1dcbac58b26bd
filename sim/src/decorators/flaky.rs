//! A network that loses, duplicates, reorders and corrupts the datagrams that a node sends.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use machines::Choices;
use machines::cluster::ids::Conn;
use runtime::{Happened, Network};

use super::{Faults, assert_rates};

/// How often datagrams of one link are struck, per mille, each below 1,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkRates {
    /// Dropped.
    pub loss: u32,
    /// Sent twice.
    pub duplicate: u32,
    /// Held back until the next one to the same address has gone; lost if none follows.
    pub reorder: u32,
    /// One bit flipped, or the end cut off.
    pub corrupt: u32,
}

/// A decorated network. Streams are carried as they are.
///
/// Faults strike what is sent, so that each link and direction has its own rates; wrap both ends
/// to strike both directions.
#[derive(Debug)]
pub struct Flaky<N> {
    pub(super) inner: N,
    choices: Choices,
    faults: Arc<Faults>,
    rates: LinkRates,
    links: BTreeMap<SocketAddr, LinkRates>,
    /// At most one datagram for each address.
    held: BTreeMap<SocketAddr, Vec<u8>>,
}

impl<N: Network> Flaky<N> {
    /// Wraps `inner`; `rates` hold for every link that has none of its own.
    ///
    /// # Panics
    ///
    /// If a rate is 1,000 or more.
    pub fn new(inner: N, rates: LinkRates, choices: Choices, faults: Arc<Faults>) -> Self {
        rates.check();
        Self { inner, choices, faults, rates, links: BTreeMap::new(), held: BTreeMap::new() }
    }

    /// Gives the link to `to` rates of its own.
    ///
    /// # Panics
    ///
    /// If a rate is 1,000 or more.
    #[must_use]
    pub fn link(mut self, to: SocketAddr, rates: LinkRates) -> Self {
        rates.check();
        self.links.insert(to, rates);
        self
    }

    fn strikes(&mut self, site: &'static str, to: SocketAddr, rate: u32) -> bool {
        let strikes = self.faults.asks(&mut self.choices, site, [entity(to), 0], rate);
        if strikes {
            self.faults.strike();
        }
        strikes
    }

    /// Flips a bit or cuts the end off; which one, and where, are further questions.
    fn corrupt(&mut self, to: SocketAddr, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let who = [entity(to), 0];
        let mut below = |site, bound: usize| {
            let answer = self.choices.choose(site, who, bound as u64);
            usize::try_from(answer).expect("an answer is below its bound")
        };
        if below("flaky.corrupt.kind", 2) == 0 {
            let bit = below("flaky.corrupt.bit", bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        } else {
            let length = below("flaky.corrupt.length", bytes.len());
            bytes.truncate(length);
        }
    }
}

impl LinkRates {
    fn check(&self) {
        assert_rates(&[self.loss, self.duplicate, self.reorder, self.corrupt]);
    }
}

impl<N: Network> Network for Flaky<N> {
    fn next(&mut self) -> impl Future<Output = io::Result<Happened>> + Send {
        self.inner.next()
    }

    fn ready(&mut self) -> Option<Vec<u8>> {
        self.inner.ready()
    }

    fn datagram(&mut self, to: SocketAddr, mut bytes: Vec<u8>) {
        let rates = self.links.get(&to).copied().unwrap_or(self.rates);
        if self.strikes("flaky.loss", to, rates.loss) {
            return;
        }
        if self.strikes("flaky.corrupt", to, rates.corrupt) {
            self.corrupt(to, &mut bytes);
        }
        if self.strikes("flaky.duplicate", to, rates.duplicate) {
            self.inner.datagram(to, bytes.clone());
        }
        let held = self.held.remove(&to);
        if held.is_none() && self.strikes("flaky.reorder", to, rates.reorder) {
            self.held.insert(to, bytes);
            return;
        }
        self.inner.datagram(to, bytes);
        if let Some(held) = held {
            self.inner.datagram(to, held);
        }
    }

    fn dial(&mut self, conn: Conn, to: SocketAddr) {
        self.inner.dial(conn, to);
    }

    fn write(&mut self, conn: Conn, bytes: Vec<u8>) {
        self.inner.write(conn, bytes);
    }

    fn close(&mut self, conn: Conn) {
        self.inner.close(conn);
    }

    fn finish(&mut self) -> impl Future<Output = ()> + Send {
        self.inner.finish()
    }
}

/// Names an address among the entities of a question.
fn entity(to: SocketAddr) -> u64 {
    let ip = match to.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        // The low half tells hosts apart; two that share it share their faults.
        IpAddr::V6(ip) => {
            ip.segments()[4..].iter().fold(0, |bits, segment| bits << 16 | u64::from(*segment))
        }
    };
    ip.rotate_left(16) ^ u64::from(to.port())
}
