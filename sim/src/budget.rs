//! How long work may go on: until a moment, and until someone says stop (section 7).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A limit that work looks at between its steps. What was done when it is spent is reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget<'a> {
    until: Option<Instant>,
    stop: Option<&'a AtomicBool>,
}

impl<'a> Budget<'a> {
    /// Never spent.
    pub const ENDLESS: Self = Self { until: None, stop: None };

    /// Spent as soon as `stop` is set.
    #[must_use]
    pub const fn until_stopped(stop: &'a AtomicBool) -> Self {
        Self { until: None, stop: Some(stop) }
    }

    /// Spent after `span` as well; `None` adds no limit.
    #[must_use]
    pub fn within(self, span: impl Into<Option<Duration>>) -> Self {
        let at = span.into().map(|span| Instant::now() + span);
        let until = match (self.until, at) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        Self { until, ..self }
    }

    /// Spent after `percent` of what is left of the time.
    #[must_use]
    pub fn share(self, percent: u32) -> Self {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        self.within(left.map(|left| left * percent / 100))
    }

    /// Says whether it is spent. Time and stops are of the person at the machine: they decide how
    /// much is done, never what a run does.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        // Relaxed: the flag carries nothing but itself.
        self.stop.is_some_and(|stop| stop.load(Relaxed))
            || self.until.is_some_and(|until| Instant::now() >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner_limit_counts_and_a_stop_counts_at_once() {
        let stop = AtomicBool::new(false);
        let hour = Duration::from_secs(3_600);
        let budget = Budget::until_stopped(&stop).within(hour);
        assert!(!budget.is_spent() && !budget.share(50).is_spent());
        assert!(budget.within(Duration::ZERO).within(hour).is_spent());
        assert!(budget.share(0).is_spent());
        stop.store(true, Relaxed);
        assert!(budget.is_spent());
        assert!(!Budget::ENDLESS.within(None).is_spent());
    }
}
