//! Who may start a handshake with us: rates and half-open caps, before any cryptography (C21).

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::cluster::config::LinksConfig;
use crate::cluster::ids::Conn;
use crate::time::Instant;

/// The most sources whose rate is remembered. More only come with as many addresses, and the
/// bucket of all sources holds those.
pub(super) const SOURCES_MAX: usize = 1_024;
/// One token, in the unit of a bucket's level: a rate of r/s adds r units a nanosecond.
const TOKEN: u64 = 1_000_000_000;

/// An IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Source {
    /// Returns the source that `address` belongs to.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&v6.octets()[..8]);
                Self::V6(prefix)
            }
        }
    }
}

/// A token bucket in integers.
#[derive(Clone, Copy, Debug, Hash)]
struct Bucket {
    level: u64,
    at: Instant,
}

impl Bucket {
    fn level(&self, now: Instant, rate: u32, burst: u32) -> u64 {
        let filled = now.nanos_since(self.at).saturating_mul(u64::from(rate));
        self.level.saturating_add(filled).min(u64::from(burst) * TOKEN)
    }

    fn take(&mut self, now: Instant, rate: u32, burst: u32) -> bool {
        self.level = self.level(now, rate, burst);
        self.at = now;
        match self.level.checked_sub(TOKEN) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }
}

/// The answer to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Let it in.
    Free,
    /// Let it in, and drop this half-open one.
    Instead(Conn),
    /// Over a rate.
    Busy,
}

/// Rates and half-open connections.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Gate {
    buckets: BTreeMap<Source, Bucket>,
    all: Bucket,
    /// Oldest first.
    half_open: VecDeque<(Source, Conn)>,
}

impl Gate {
    /// Starts rested.
    pub(crate) fn new(config: &LinksConfig) -> Self {
        Self {
            buckets: BTreeMap::new(),
            all: Bucket { level: u64::from(config.accept_rate_total) * TOKEN, at: Instant::START },
            half_open: VecDeque::new(),
        }
    }

    /// Asks for `conn` from `source`, and notes it if it may come in.
    pub(crate) fn enter(
        &mut self,
        now: Instant,
        config: &LinksConfig,
        source: Source,
        conn: Conn,
    ) -> Entry {
        let rate = config.accept_rate_total;
        if !self.take_of(now, config, source) || !self.all.take(now, rate, rate) {
            return Entry::Busy;
        }
        let of_source = self.half_open.iter().filter(|(s, _)| *s == source).count();
        let victim = if of_source >= config.half_open_source_max as usize {
            self.oldest_of(source)
        } else if self.half_open.len() >= config.half_open_max as usize {
            self.greatest().and_then(|source| self.oldest_of(source))
        } else {
            None
        };
        if let Some(victim) = victim {
            self.leave(victim);
        }
        self.half_open.push_back((source, conn));
        victim.map_or(Entry::Free, Entry::Instead)
    }

    /// Notes that `conn` is no longer half-open.
    pub(crate) fn leave(&mut self, conn: Conn) {
        self.half_open.retain(|(_, open)| *open != conn);
    }

    /// Returns how many are half-open, and how many sources are remembered.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.half_open.len(), self.buckets.len())
    }

    fn take_of(&mut self, now: Instant, config: &LinksConfig, source: Source) -> bool {
        let (rate, burst) = (config.accept_rate_source, config.accept_burst_source);
        if !self.buckets.contains_key(&source) {
            self.make_room(now, rate, burst);
        }
        let full = Bucket { level: u64::from(burst) * TOKEN, at: now };
        self.buckets.entry(source).or_insert(full).take(now, rate, burst)
    }

    /// Forgets who rested enough; if nobody did, whoever came longest ago.
    fn make_room(&mut self, now: Instant, rate: u32, burst: u32) {
        if self.buckets.len() < SOURCES_MAX {
            return;
        }
        let full = u64::from(burst) * TOKEN;
        self.buckets.retain(|_, bucket| bucket.level(now, rate, burst) < full);
        if self.buckets.len() >= SOURCES_MAX {
            let oldest = self.buckets.iter().min_by_key(|(_, bucket)| bucket.at);
            if let Some(source) = oldest.map(|(source, _)| *source) {
                self.buckets.remove(&source);
            }
        }
    }

    fn oldest_of(&self, source: Source) -> Option<Conn> {
        let mut of_source = self.half_open.iter().filter(|(s, _)| *s == source);
        of_source.next().map(|(_, conn)| *conn)
    }

    /// Returns the source with most half-open connections; of equals the one that came first.
    fn greatest(&self) -> Option<Source> {
        let mut counts: BTreeMap<Source, usize> = BTreeMap::new();
        for (source, _) in &self.half_open {
            *counts.entry(*source).or_insert(0) += 1;
        }
        let most = counts.values().max().copied()?;
        let mut sources = self.half_open.iter().map(|(source, _)| *source);
        sources.find(|source| counts[source] == most)
    }
}
