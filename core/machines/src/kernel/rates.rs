//! Rate limits: how many hits each key has had in four sliding windows (K130–K138, K121).
//!
//! A window W is divided into slots of W / 50, and a hit counts until W after the end of its
//! slot. Hence no interval of length W ever holds more hits than the limit, a hit is forgotten at
//! most one slot late, and a key costs the same however often it was hit (K132, K137, K457).
//!
//! ```text
//!                  within all four windows, and room for the key
//!   check ──┬──────────────────────────────────────────────────► rate.recorded ─► counted
//!           ├─ over a limit ─► rate_limited, and when it is allowed again (K134)
//!           └─ no room, even without the keys that have run out ─► rate_table_full (K137)
//! ```
//!
//! The questions change nothing, and the changes ask nothing. Two tables are covered by the root:
//! the counters by key, and the configurations by scope. The order in which keys run out is
//! derived ([`Rates::derive`]).
//!
//! # Known limits
//!
//! Keys count apart: a hit of (user, endpoint) is none of the user as a whole (K130). A key whose
//! caller names no endpoint counts only such calls.

mod busy;
mod config;
mod decide;
mod event;
#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;
mod view;
mod windows;

use std::collections::BTreeSet;

pub use config::{Scope, ScopeConfig};
pub(super) use decide::counts_for_rate;
pub use decide::was_recorded;
pub use event::RateEvent;
pub use view::RateResult;
pub use windows::{Exceeded, LimitType, Room, SLOTS, Verdict, WindowUsage, Windows};

use super::config::RateConfig;
use super::ids::{Endpoint, ProcessId, UserId};
use super::refusal::{Code, Refusal};
use super::time::Time;
use crate::ledger::table::Table;
use crate::wire_enum;
use busy::Busy;

/// The most keys that one event drops (K361).
pub const SWEEP_MAX: u64 = 1_000;

/// What hits are counted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RateKey {
    /// What a user does on an endpoint (K130).
    User {
        /// Whose hits.
        user: UserId,
        /// On what; the empty one is the user as a whole.
        endpoint: Endpoint,
    },
    /// The calls of a process, limited by its quota (K121). It goes when the process ends.
    Process {
        /// Which.
        pid: ProcessId,
    },
}

wire_enum!(RateKey, "a key of rates" {
    User { user, endpoint } = 1,
    Process { pid } = 2,
});

/// The counters and configurations of all keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rates {
    pub(super) keys: Table<RateKey, Windows>,
    pub(super) scopes: Table<Scope, ScopeConfig>,
    /// The keys by the slot of a minute in which their last hit was. Derived.
    by_last: BTreeSet<(u64, RateKey)>,
    /// The hits of users within a minute. Derived.
    busy: Busy,
}

impl Rates {
    /// Returns the counters by key.
    #[must_use]
    pub const fn keys(&self) -> &Table<RateKey, Windows> {
        &self.keys
    }

    /// Returns the configurations by scope (K131).
    #[must_use]
    pub const fn scopes(&self) -> &Table<Scope, ScopeConfig> {
        &self.scopes
    }

    /// Finds again, from the tables, what is not in them.
    pub fn derive(&mut self) {
        let keys = self.keys.iter();
        let last = keys.filter_map(|(key, windows)| Some((last_of(windows)?, key.clone())));
        self.by_last = last.collect();
        self.busy = Busy::default();
        let newest = self.by_last.last().map_or(0, |(slot, _)| *slot);
        for (key, windows) in self.keys.iter() {
            if let RateKey::User { user, .. } = key {
                for (slot, hits) in windows.hits_of(LimitType::Minute) {
                    self.busy.add(newest, slot, user, hits);
                }
            }
        }
    }

    /// Returns the limits in force for a user on an endpoint, field by field (K131).
    #[must_use]
    pub fn in_force(&self, default: &RateConfig, user: &UserId, endpoint: &Endpoint) -> RateConfig {
        config::in_force(&self.scopes, default, user, endpoint)
    }

    /// Says whether one more hit of `key` at `now` is within `limits` (K133, K134).
    #[must_use]
    pub fn check(&self, now: Time, key: &RateKey, limits: &RateConfig) -> Verdict {
        match self.keys.get(key) {
            Some(windows) => windows.check(now, limits),
            None => Windows::default().check(now, limits),
        }
    }

    /// Returns what `key` has used of each window at `now`, shortest first (K138).
    #[must_use]
    pub fn usage(&self, now: Time, key: &RateKey, limits: &RateConfig) -> [WindowUsage; 4] {
        match self.keys.get(key) {
            Some(windows) => windows.usage(now, limits),
            None => Windows::default().usage(now, limits),
        }
    }

    /// Says whether the keys that have run out must be swept at `now` to make room for `new` more,
    /// of which there may be `most` (K137).
    ///
    /// # Errors
    ///
    /// When the next key runs out, if there is no room even then.
    pub fn room(&self, now: Time, new: u64, most: u64) -> Result<bool, Time> {
        let excess = (u64::from(self.keys.len()) + new).saturating_sub(most);
        if new == 0 || excess == 0 {
            return Ok(false);
        }
        let wanted = usize::try_from(excess).unwrap_or(usize::MAX);
        match self.by_last.iter().nth(wanted - 1).map(|(_, key)| self.runs_out(key)) {
            Some(at) if at <= now && excess <= SWEEP_MAX => Ok(true),
            Some(at) => Err(at),
            None => Err(Time::FAR),
        }
    }

    /// Returns when the first key has run out (K360).
    #[must_use]
    pub fn first_out(&self) -> Option<Time> {
        self.by_last.first().map(|(_, key)| self.runs_out(key))
    }

    /// Says whether a sweep at `now` would drop a key (K360).
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.first_out().is_some_and(|at| at <= now)
    }

    /// Counts the keys that have run out at `now`, up to `most`.
    #[must_use]
    pub fn due(&self, now: Time, most: u64) -> u64 {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let out = self.by_last.iter().take(most);
        out.take_while(|(_, key)| self.runs_out(key) <= now).count() as u64
    }

    /// Returns how many keys of a user there are: those that a reset drops.
    #[must_use]
    pub fn keys_of(&self, user: &UserId) -> Vec<RateKey> {
        let first = RateKey::User { user: user.clone(), endpoint: Endpoint::whole() };
        let keys = self.keys.range(first..).map(|(key, _)| key);
        keys.take_while(|key| key.is_of(user)).cloned().collect()
    }

    /// Lists the users with the most hits within a minute at `now`, `most` of them at the most,
    /// busiest first, at the cost of the answer (K350).
    #[must_use]
    pub fn busiest(&self, now: Time, most: usize) -> Vec<(UserId, u64)> {
        self.busy.top(LimitType::Minute.slot_of(now), most, || {})
    }

    /// Changes the counters and configurations as an event of `now` says.
    pub(super) fn apply(&mut self, now: Time, event: &RateEvent) {
        match event {
            RateEvent::Recorded { key } => self.record(now, key),
            RateEvent::Configured { scope, config } => {
                match config.filter(|config| !config.is_empty()) {
                    Some(config) => self.scopes.insert(scope.clone(), config),
                    None => self.scopes.remove(scope),
                };
            }
            RateEvent::Reset { user, removed: _ } => {
                for key in self.keys_of(user) {
                    self.forget(&key);
                }
            }
            RateEvent::Swept { before, keys } => {
                self.sweep(*before, *keys);
            }
        }
    }

    /// Counts a hit in all windows.
    fn record(&mut self, now: Time, key: &RateKey) {
        let before = self.keys.get(key).and_then(last_of);
        if !self.keys.update(key, |windows| windows.record(now)) {
            let mut windows = Windows::default();
            windows.record(now);
            self.keys.insert(key.clone(), windows);
        }
        let after = self.keys.get(key).and_then(last_of);
        if let (RateKey::User { user, .. }, Some(slot)) = (key, after) {
            self.busy.add(slot, slot, user, 1);
        }
        if before != after {
            if let Some(before) = before {
                self.by_last.remove(&(before, key.clone()));
            }
            self.by_last.extend(after.map(|after| (after, key.clone())));
        }
    }

    /// Drops a key, if it is there.
    pub(super) fn forget(&mut self, key: &RateKey) {
        let windows = self.keys.remove(key);
        if let (RateKey::User { user, .. }, Some(windows)) = (key, &windows) {
            for (slot, hits) in windows.hits_of(LimitType::Minute) {
                self.busy.take(slot, user, hits);
            }
        }
        if let Some(last) = windows.and_then(|windows| last_of(&windows)) {
            self.by_last.remove(&(last, key.clone()));
        }
    }

    /// Drops the keys whose slots have all run out at `before`, the longest unused first, at most
    /// `most`, and returns how many those are (K137, K361).
    fn sweep(&mut self, before: Time, most: u64) -> u64 {
        let mut dropped = 0;
        while dropped < most && self.is_due(before) {
            let Some((_, key)) = self.by_last.pop_first() else {
                break;
            };
            self.keys.remove(&key);
            dropped += 1;
        }
        dropped
    }

    /// When every slot of a key has run out.
    fn runs_out(&self, key: &RateKey) -> Time {
        let last = self.keys.get(key).and_then(|windows| windows.last_slot(LimitType::Day));
        last.map_or(Time::ZERO, |slot| LimitType::Day.slot_runs_out(slot))
    }
}

impl RateKey {
    /// Says whether it is one of a user's.
    fn is_of(&self, who: &UserId) -> bool {
        match self {
            Self::User { user, .. } => user == who,
            Self::Process { .. } => false,
        }
    }
}

fn last_of(windows: &Windows) -> Option<u64> {
    windows.last_slot(LimitType::Minute)
}

/// The refusal of what is over its limit (K136).
#[must_use]
pub fn limited(over: &Exceeded) -> Refusal {
    let refusal = Refusal::new(Code::RateLimited, over.to_string());
    match over.retry_at {
        Some(at) => refusal.retry_at(at.as_millis()),
        None => refusal,
    }
}
