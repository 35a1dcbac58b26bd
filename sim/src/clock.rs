//! A node's clock: true time of the run ↔ the monotonic time that the node reads.
//!
//! The port promises a clock that never decreases. A jump backwards therefore shows as a clock
//! that stands still until it has caught up; a jump forwards shows at once.

use machines::Instant;

const MILLION: u128 = 1_000_000;

/// One node's clock (T20).
#[derive(Clone, Debug)]
pub struct Clock {
    /// True time at which the present rate began.
    true_base: u64,
    /// What the clock would read then.
    local_base: u64,
    /// Parts per million that it runs fast (or slow, if negative); within ±10,000.
    drift_ppm: i32,
    /// The highest reading given so far: readings never fall below it.
    floor: u64,
}

impl Clock {
    /// Makes a clock that reads `offset` at true time 0 and keeps true time.
    #[must_use]
    pub const fn new(offset: u64) -> Self {
        Self {
            true_base: 0,
            local_base: offset,
            drift_ppm: 0,
            floor: offset,
        }
    }

    /// Reads the clock at true time `at`.
    #[inline]
    pub fn read(&mut self, at: u64) -> Instant {
        self.floor = self.floor.max(self.raw(at));
        Instant::from_nanos(self.floor)
    }

    /// Returns the earliest true time, not before `now`, at which the clock reads `local` or more.
    #[must_use]
    #[inline]
    pub fn when(&self, local: Instant, now: u64) -> u64 {
        let local = local.as_nanos();
        if local == u64::MAX {
            return u64::MAX;
        }
        if local <= self.floor || local <= self.local_base {
            return now;
        }
        let ahead = local - self.local_base;
        let needed = if self.drift_ppm == 0 {
            ahead
        } else {
            let needed = (u128::from(ahead) * MILLION).div_ceil(self.rate());
            u64::try_from(needed).unwrap_or(u64::MAX)
        };
        self.true_base.saturating_add(needed).max(now)
    }

    /// Moves the clock forwards (or backwards, if negative) by `by` nanoseconds at true time `at`.
    pub fn jump(&mut self, at: u64, by: i64) {
        let reads = self.read_unfloored(at);
        self.true_base = at;
        self.local_base = reads.saturating_add_signed(by);
    }

    /// Lets the clock run `ppm` parts per million fast from true time `at` on.
    pub fn drift(&mut self, at: u64, ppm: i32) {
        let reads = self.read_unfloored(at);
        self.true_base = at;
        self.local_base = reads;
        self.drift_ppm = ppm.clamp(-10_000, 10_000);
    }

    fn read_unfloored(&mut self, at: u64) -> u64 {
        self.read(at);
        self.raw(at)
    }

    #[inline]
    fn raw(&self, at: u64) -> u64 {
        let passed = at.saturating_sub(self.true_base);
        let moved = if self.drift_ppm == 0 {
            passed
        } else {
            u64::try_from(u128::from(passed) * self.rate() / MILLION).unwrap_or(u64::MAX)
        };
        self.local_base.saturating_add(moved)
    }

    fn rate(&self) -> u128 {
        u128::try_from(1_000_000 + i64::from(self.drift_ppm)).unwrap_or(MILLION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_maps_to_the_first_moment_at_which_the_clock_shows_it() {
        for ppm in [-10_000, -1, 0, 1, 777, 10_000] {
            let mut clock = Clock::new(50);
            clock.drift(1_000, ppm);
            for local in [60, 1_049, 1_051, 5_000, 123_456_789, 3_600_000_000_000] {
                let local = Instant::from_nanos(local);
                let at = clock.when(local, 0);
                assert!(clock.clone().read(at) >= local, "{ppm} ppm, {local:?}");
                let early = at.checked_sub(1).filter(|at| *at >= 1_000);
                let early = early.map(|at| clock.clone().read(at));
                assert!(
                    early.is_none_or(|read| read < local || at == 0),
                    "{ppm} ppm, {local:?}"
                );
            }
        }
    }

    #[test]
    fn a_drift_of_one_percent_gains_one_second_in_a_hundred() {
        let mut clock = Clock::new(0);
        clock.drift(0, 10_000);
        assert_eq!(clock.read(100_000_000_000).as_nanos(), 101_000_000_000);
        clock.drift(100_000_000_000, -10_000);
        assert_eq!(clock.read(200_000_000_000).as_nanos(), 200_000_000_000);
    }

    #[test]
    fn a_jump_forwards_shows_at_once_and_one_backwards_stands_still() {
        let mut clock = Clock::new(0);
        clock.jump(10, 100);
        assert_eq!(clock.read(10).as_nanos(), 110);
        clock.jump(20, -50);
        assert_eq!(clock.read(20).as_nanos(), 120);
        assert_eq!(clock.when(Instant::from_nanos(125), 20), 75);
        assert_eq!(clock.read(60).as_nanos(), 120, "readings never decrease");
        assert_eq!(clock.read(80).as_nanos(), 130);
    }
}
