//! A clock that runs fast or slow, and jumps.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use machines::Instant;
use machines::kernel::Time;
use machines::time::nanos;
use runtime::Clock;

/// The most that a clock may run fast or slow: 1 % (section 3).
const DRIFT_PPM_MAX: i64 = 10_000;

/// How a clock is wrong. Shared with whoever makes it jump.
#[derive(Debug, Default)]
pub struct Skew {
    drift_ppm: i64,
    jumped: AtomicI64,
    /// The latest time told: a monotonic clock never goes back behind it.
    last: AtomicU64,
}

/// A decorated clock.
#[derive(Clone, Debug)]
pub struct Skewed<C> {
    inner: C,
    skew: Arc<Skew>,
}

impl Skew {
    /// A clock that gains `drift_ppm` microseconds a second.
    ///
    /// # Panics
    ///
    /// If that is more than 1 % either way.
    pub fn drifting(drift_ppm: i64) -> Self {
        assert!(drift_ppm.abs() <= DRIFT_PPM_MAX, "clocks drift by 1 % at the most");
        Self { drift_ppm, ..Self::default() }
    }

    /// Lets the clock jump forwards.
    pub fn jump(&self, by: Duration) {
        self.shift(i64::try_from(nanos(by)).unwrap_or(i64::MAX));
    }

    /// Lets the clock jump backwards: it stands still until it has caught up with itself.
    pub fn jump_back(&self, by: Duration) {
        self.shift(i64::try_from(nanos(by)).map_or(i64::MIN, |by| -by));
    }

    fn shift(&self, by: i64) {
        // Relaxed: a number of its own. Jumps come from one place, the story of the run.
        let jumped = self.jumped.load(Relaxed).saturating_add(by);
        self.jumped.store(jumped, Relaxed);
    }

    /// What this clock shows when the true time is `inner`.
    fn shown(&self, inner: Instant) -> Instant {
        let inner = i128::from(inner.as_nanos());
        let drifted = inner + inner * i128::from(self.drift_ppm) / 1_000_000;
        let shown = drifted + i128::from(self.jumped.load(Relaxed));
        let shown = u64::try_from(shown.max(0)).unwrap_or(u64::MAX);
        // Relaxed: the maximum of one word; no other memory hangs on it.
        Instant::from_nanos(self.last.fetch_max(shown, Relaxed).max(shown))
    }

    /// The first true time at which this clock shows `at`, as things are now.
    fn inner(&self, at: Instant) -> Instant {
        let drifted = i128::from(at.as_nanos()) - i128::from(self.jumped.load(Relaxed));
        let rate = 1_000_000 + i128::from(self.drift_ppm);
        let inner = (drifted.max(0) * 1_000_000 + rate - 1) / rate;
        Instant::from_nanos(u64::try_from(inner).unwrap_or(u64::MAX))
    }
}

impl<C: Clock> Skewed<C> {
    /// Wraps `inner`.
    pub fn new(inner: C, skew: Arc<Skew>) -> Self {
        Self { inner, skew }
    }
}

impl<C: Clock> Clock for Skewed<C> {
    fn now(&self) -> Instant {
        self.skew.shown(self.inner.now())
    }

    /// The time of day is off by as much as the monotonic one.
    fn wall(&self) -> Time {
        let (inner, shown) = (self.inner.now(), self.skew.shown(self.inner.now()));
        let millis = |at: Instant| at.as_nanos() / 1_000_000;
        let wall = self.inner.wall().as_millis() + millis(shown);
        Time::from_millis(wall.saturating_sub(millis(inner)))
    }

    async fn sleep_until(&self, at: Instant) {
        if at == Instant::FAR {
            return self.inner.sleep_until(at).await;
        }
        while self.now() < at {
            // A jump forwards in the meantime makes this late, which a simulator may do; a jump
            // backwards makes it sleep again.
            self.inner.sleep_until(self.skew.inner(at)).await;
        }
    }
}
