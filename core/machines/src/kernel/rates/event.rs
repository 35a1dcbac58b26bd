//! What happens to rates (section 10).

use super::{RateKey, Scope, ScopeConfig};
use crate::kernel::ids::UserId;
use crate::kernel::time::Time;
use crate::wire_enum;

/// An event of rates.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RateEvent {
    /// A hit was allowed, and counts from the time of the event (K135).
    Recorded {
        /// For what it counts.
        key: RateKey,
    },
    /// What a scope sets was changed (K138).
    Configured {
        /// Which.
        scope: Scope,
        /// What it sets from now on; nothing, if it was cleared.
        config: Option<ScopeConfig>,
    },
    /// The counters of a user were dropped (K138).
    Reset {
        /// Whose.
        user: UserId,
        /// How many there were.
        removed: u64,
    },
    /// Keys that had run out were dropped, the longest unused first (K137, K361).
    Swept {
        /// By when they had run out.
        before: Time,
        /// How many.
        keys: u64,
    },
}

wire_enum!(RateEvent, "an event of rates" {
    Recorded { key } = 1,
    Configured { scope, config } = 2,
    Reset { user, removed } = 3,
    Swept { before, keys } = 4,
});

impl RateEvent {
    /// Returns the kind, as readers of the stream pick it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Recorded { .. } => "rate.recorded",
            Self::Configured { .. } => "rate.configured",
            Self::Reset { .. } => "rate.reset",
            Self::Swept { .. } => "rate.swept",
        }
    }
}
