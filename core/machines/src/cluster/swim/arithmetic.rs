//! The bounds and intervals of C48 and C50, in integers: no logarithm of a float anywhere.

use std::time::Duration;

use crate::cluster::config::SwimConfig;
use crate::cluster::wire::State;
use crate::time::{Instant, nanos};

/// 1000·ln(c+1)/ln(k+1) for c confirmations out of k: how much of the longest wait they save (C48).
const SAVED: [[u64; 4]; 4] =
    [[1000, 1000, 1000, 1000], [0, 1000, 1000, 1000], [0, 631, 1000, 1000], [0, 500, 792, 1000]];
/// Alive entries without metadata that fit a datagram (W(N) of C50).
const ENTRIES_PER_DATAGRAM: u64 = 25;

/// Returns ⌈log₂ n⌉; 0 for 0 and 1.
#[must_use]
pub const fn log2_ceil(n: u32) -> u32 {
    match n {
        0 | 1 => 0,
        _ => 32 - (n - 1).leading_zeros(),
    }
}

/// The durations of a [`SwimConfig`], in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spans {
    pub(super) period: u64,
    pub(super) probe_timeout: u64,
    pub(super) indirect_timeout: u64,
    pub(super) gossip_tick: u64,
    pub(super) sync: u64,
    pub(super) reprobe: u64,
    pub(super) forget_after: u64,
    pub(super) forget_left_after: u64,
    pub(super) leave_timeout: u64,
}

impl Spans {
    pub(super) fn of(config: &SwimConfig) -> Self {
        Self {
            period: nanos(config.period),
            probe_timeout: nanos(config.probe_timeout),
            indirect_timeout: nanos(config.indirect_timeout),
            gossip_tick: nanos(config.gossip_tick),
            sync: nanos(config.sync),
            reprobe: nanos(config.reprobe),
            forget_after: nanos(config.forget_after),
            forget_left_after: nanos(config.forget_left_after),
            leave_timeout: nanos(config.leave_timeout),
        }
    }
}

impl Spans {
    /// How long a row in this state is kept after it came to it (C60); 0 where age means nothing.
    pub(super) const fn keep(&self, state: State) -> u64 {
        match state {
            State::Alive | State::Suspect => 0,
            State::Dead => self.forget_after,
            State::Left => self.forget_left_after,
        }
    }

    /// When a row in this state, of this age, is forgotten.
    pub(super) const fn forget_at(&self, now: Instant, state: State, age: u64) -> Instant {
        match state {
            State::Alive | State::Suspect => Instant::FAR,
            State::Dead | State::Left => now.plus_nanos(self.keep(state).saturating_sub(age)),
        }
    }
}

/// S(N) in thousandths.
const fn scale_milli(members: u32) -> u64 {
    let scaled = 301 * log2_ceil(members) as u64;
    if scaled > 1000 { scaled } else { 1000 }
}

/// The least suspicion, α·S(N)·T, in nanoseconds.
pub(super) const fn suspicion_min(alpha: u32, period: u64, members: u32) -> u64 {
    (alpha as u64).saturating_mul(period / 1000).saturating_mul(scale_milli(members))
}

/// The confirmations that bring a suspicion to its least: k of C48.
pub(super) const fn confirmations_max(members: u32) -> u8 {
    match members {
        0..=2 => 0,
        3 => 1,
        4 => 2,
        _ => 3,
    }
}

/// How long a suspicion lasts after `confirmations` out of `wanted`, in nanoseconds (C48).
pub(super) fn suspicion_wait(min: u64, max: u64, confirmations: u8, wanted: u8) -> u64 {
    if wanted == 0 {
        return min;
    }
    let saved = SAVED[usize::from(wanted.min(3))][usize::from(confirmations.min(3))];
    max - (max - min) / 1000 * saved
}

/// R(N): how often a fact is sent.
pub(super) const fn sends_max(lambda: u32, members: u32) -> u32 {
    lambda.saturating_mul(log2_ceil(members.saturating_add(1)))
}

/// X(N) in nanoseconds: the time between syncs (C54).
pub(super) const fn sync_every(sync: u64, members: u32) -> u64 {
    sync.saturating_mul(1 + log2_ceil(members).saturating_sub(5) as u64)
}

/// What C50 promises for a cluster of `members`, as durations.
///
/// | value            | meaning                                                  |
/// |------------------|----------------------------------------------------------|
/// | `suspicion_min`  | least suspicion                                          |
/// | `suspicion_max`  | longest suspicion                                        |
/// | `sends`          | R(N), sends of a fact                                    |
/// | `dissemination`  | D(N), 99 % of facts reach all within it                  |
/// | `crash_99`       | B99(N), 99 % of crashes are known to all within it       |
/// | `crash`          | B(N) at health score 0; `crash_at` gives it for others   |
/// | `gossip_all`     | W(N), gossip of N facts                                  |
/// | `heal`           | H(N), agreement after a partition                        |
/// | `sync`           | X(N), the time between syncs                             |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Least suspicion.
    pub suspicion_min: Duration,
    /// Longest suspicion.
    pub suspicion_max: Duration,
    /// R(N), sends of a fact.
    pub sends: u32,
    /// D(N), dissemination.
    pub dissemination: Duration,
    /// B99(N), a crash is known to all in 99 % of runs.
    pub crash_99: Duration,
    /// B(N) for health score 0, a crash is known to all.
    pub crash: Duration,
    /// W(N), gossip of N facts.
    pub gossip_all: Duration,
    /// H(N), agreement after a heal.
    pub heal: Duration,
    /// X(N), the time between syncs.
    pub sync: Duration,
}

impl Bounds {
    /// Computes the bounds of C50.
    #[must_use]
    pub fn of(config: &SwimConfig, members: u32) -> Self {
        let spans = Spans::of(config);
        let min = suspicion_min(config.suspicion_min, spans.period, members);
        let max = min.saturating_mul(u64::from(config.suspicion_max));
        let sends = sends_max(config.retransmit, members);
        let spread = 2 * u64::from(log2_ceil(members)) * spans.gossip_tick;
        let told = ENTRIES_PER_DATAGRAM * u64::from(config.gossip_fanout);
        let all = u64::from(members) * u64::from(sends) * spans.gossip_tick / told;
        Self {
            suspicion_min: Duration::from_nanos(min),
            suspicion_max: Duration::from_nanos(max),
            sends,
            dissemination: Duration::from_nanos(spread),
            crash_99: Duration::from_nanos(6 * spans.period + min + spread),
            crash: Self::crash_at(config, members, 0),
            gossip_all: Duration::from_nanos(all),
            heal: Duration::from_nanos(2 * spans.reprobe + 2 * spread + all),
            sync: Duration::from_nanos(sync_every(spans.sync, members)),
        }
    }

    /// Returns B(N) when the observer's worst health score meanwhile is `health`.
    #[must_use]
    pub fn crash_at(config: &SwimConfig, members: u32, health: u32) -> Duration {
        let period = nanos(config.period);
        let min = suspicion_min(config.suspicion_min, period, members);
        let max = min.saturating_mul(u64::from(config.suspicion_max));
        let rounds = 2 * u64::from(members.saturating_sub(1)) * (1 + u64::from(health));
        Duration::from_nanos(rounds.saturating_mul(period).saturating_add(max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::config::Profile;

    fn bounds(members: u32) -> Bounds {
        Bounds::of(&SwimConfig::of(Profile::Lan), members)
    }

    #[test]
    fn logarithms_round_up() {
        let logs: Vec<u32> = [0, 1, 2, 3, 4, 5, 32, 33, 1000, 1024, 1025].map(log2_ceil).to_vec();
        assert_eq!(logs, [0, 0, 1, 2, 2, 3, 5, 6, 10, 10, 11]);
    }

    /// The table of C50, all columns.
    #[test]
    fn the_bounds_are_those_of_the_table() {
        let ms = |d: Duration| d.as_millis();
        let table = [
            (5, 9, 1_200, 4_000, 24_000, 11_200, 32_000, 22_520),
            (32, 18, 2_000, 6_020, 36_120, 14_020, 98_120, 25_536),
            (100, 21, 2_800, 8_428, 50_568, 17_228, 248_568, 31_200),
            (1_000, 30, 4_000, 12_040, 72_240, 22_040, 2_070_240, 108_000),
        ];
        for (members, sends, spread, min, max, crash_99, crash, heal) in table {
            let got = bounds(members);
            assert_eq!(got.sends, sends, "R({members})");
            assert_eq!(ms(got.dissemination), spread, "D({members})");
            assert_eq!(ms(got.suspicion_min), min, "min({members})");
            assert_eq!(ms(got.suspicion_max), max, "max({members})");
            assert_eq!(ms(got.crash_99), crash_99, "B99({members})");
            assert_eq!(ms(got.crash), crash, "B({members})");
            assert_eq!(ms(got.heal), heal, "H({members})");
        }
    }

    #[test]
    fn syncs_grow_rarer_with_the_logarithm_of_the_cluster() {
        let seconds: Vec<u64> = [1, 32, 33, 100, 1_000].map(|n| bounds(n).sync.as_secs()).to_vec();
        assert_eq!(seconds, [30, 30, 60, 90, 180]);
    }

    /// C48: φ(c, k), in thousandths.
    #[test]
    fn confirmations_shorten_the_wait_by_the_table() {
        let (min, max) = (4_000_000, 24_000_000);
        let waits = |wanted: u8| -> Vec<u64> {
            (0..=wanted).map(|c| suspicion_wait(min, max, c, wanted)).collect()
        };
        assert_eq!(waits(0), [min]);
        assert_eq!(waits(1), [max, min]);
        assert_eq!(waits(2), [max, max - 20_000 * 631, min]);
        assert_eq!(waits(3), [max, max - 20_000 * 500, max - 20_000 * 792, min]);
        let wanted: Vec<u8> = [1, 2, 3, 4, 5, 100].map(confirmations_max).to_vec();
        assert_eq!(wanted, [0, 0, 1, 2, 3, 3]);
    }
}
