//! Monotonic time as every machine sees it: nanoseconds since the node, or the run, started.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A moment of monotonic time, in nanoseconds since a start that only the driver knows (C2, T3).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The start of time.
    pub const START: Self = Self(0);
    /// Later than everything: the deadline of a machine that waits for nothing.
    pub const FAR: Self = Self(u64::MAX);

    /// Makes the moment `nanos` nanoseconds after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Makes the moment `millis` milliseconds after the start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Returns the nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns this moment moved by `nanos` nanoseconds, [`Instant::FAR`] at the most.
    #[must_use]
    pub const fn plus_nanos(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// Returns the span since `earlier`, zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Returns the nanoseconds since `earlier`, zero if that is later.
    #[must_use]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the milliseconds since `earlier`, as the wire formats carry ages:
    /// at most `u32::MAX`.
    #[must_use]
    pub fn age_ms(self, earlier: Self) -> u32 {
        u32::try_from(self.nanos_since(earlier) / 1_000_000).unwrap_or(u32::MAX)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        self.plus_nanos(nanos(span))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::FAR {
            return f.write_str("never");
        }
        write!(
            f,
            "{}.{:09}s",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000
        )
    }
}

/// Returns `span` in nanoseconds, `u64::MAX` at the most.
#[must_use]
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_instead_of_wrapping() {
        assert_eq!(Instant::FAR + Duration::from_secs(1), Instant::FAR);
        assert_eq!(Instant::START.since(Instant::FAR), Duration::ZERO);
        assert_eq!(Instant::FAR.age_ms(Instant::START), u32::MAX);
    }

    #[test]
    fn a_moment_prints_as_seconds() {
        assert_eq!(format!("{:?}", Instant::from_millis(1_500)), "1.500000000s");
        assert_eq!(format!("{:?}", Instant::FAR), "never");
    }
}
