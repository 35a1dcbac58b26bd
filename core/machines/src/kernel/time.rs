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
