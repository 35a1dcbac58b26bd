//! Kernel time: milliseconds since 1970, as events carry it (K7, K22).

use std::fmt;

use crate::codec::{Malformed, Reader, Wire};

/// A span in milliseconds (K22).
pub type Millis = u64;

/// A moment: milliseconds since 1970-01-01 UTC (K22).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// 1970-01-01.
    pub const ZERO: Self = Self(0);
    /// Later than everything.
    pub const FAR: Self = Self(u64::MAX);

    /// Makes the moment `millis` after 1970-01-01 UTC.
    #[must_use]
    pub const fn from_millis(millis: Millis) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn as_millis(self) -> Millis {
        self.0
    }

    /// Returns this moment moved by `span`, [`Time::FAR`] at the most.
    #[must_use]
    pub const fn plus(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// Returns the span since `earlier`, 0 if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::FAR => f.write_str("never"),
            Self(millis) => write!(f, "{millis}ms"),
        }
    }
}

impl Wire for Time {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.u64().map(Self)
    }
}

/// Shows a span as people read it, in seconds to the nearest hundredth: `30.00s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Millis);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = self.0 / 10 + u64::from(self.0 % 10 >= 5);
        write!(f, "{}.{:02}s", hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_instead_of_wrapping() {
        assert_eq!(Time::FAR.plus(1), Time::FAR);
        assert_eq!(Time::ZERO.since(Time::FAR), 0);
        assert_eq!(Time::from_millis(7).plus(5).since(Time::from_millis(2)), 10);
    }

    #[test]
    fn a_span_prints_as_seconds_to_the_nearest_hundredth() {
        let shown = [30_000, 1_500, 5, 4, 999_994, 999_995].map(|span| Seconds(span).to_string());
        assert_eq!(shown, ["30.00s", "1.50s", "0.01s", "0.00s", "999.99s", "1000.00s"]);
        assert_eq!(Seconds(u64::MAX).to_string(), "18446744073709551.62s");
    }
}
