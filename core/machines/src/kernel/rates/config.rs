//! Which rate limits are in force: by user and endpoint, field by field (K130, K131).

use super::windows::LimitType;
use crate::kernel::config::RateConfig;
use crate::kernel::ids::{Endpoint, UserId};
use crate::kernel::quota::{Limit, Quota};
use crate::ledger::table::Table;
use crate::wire_struct;

impl RateConfig {
    /// Nothing is limited.
    pub const UNLIMITED: Self = Self {
        burst: Limit::UNLIMITED,
        minute: Limit::UNLIMITED,
        hour: Limit::UNLIMITED,
        day: Limit::UNLIMITED,
    };

    /// Returns the limit of a window.
    #[must_use]
    pub const fn of(&self, window: LimitType) -> Limit {
        match window {
            LimitType::Burst => self.burst,
            LimitType::Minute => self.minute,
            LimitType::Hour => self.hour,
            LimitType::Day => self.day,
        }
    }

    /// The limits of a process's own key (K121).
    #[must_use]
    pub const fn of_quota(quota: &Quota) -> Self {
        Self {
            burst: quota.rate_limit_burst,
            minute: quota.rate_limit_rpm,
            hour: quota.rate_limit_rph,
            day: Limit::UNLIMITED,
        }
    }
}

/// What a scope sets, field by field; what it leaves out is looked up further (K131).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScopeConfig {
    /// In any ten seconds.
    pub burst: Option<Limit>,
    /// In any minute.
    pub minute: Option<Limit>,
    /// In any hour.
    pub hour: Option<Limit>,
    /// In any day.
    pub day: Option<Limit>,
}

wire_struct!(ScopeConfig { burst, minute, hour, day });

impl ScopeConfig {
    /// Says whether it sets nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Overwrites what it sets.
    fn overlay(&self, limits: &mut RateConfig) {
        limits.burst = self.burst.unwrap_or(limits.burst);
        limits.minute = self.minute.unwrap_or(limits.minute);
        limits.hour = self.hour.unwrap_or(limits.hour);
        limits.day = self.day.unwrap_or(limits.day);
    }
}

/// What a configuration is for (K131).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// One user, or any.
    pub user: Option<UserId>,
    /// One endpoint; the empty one is any, the user as a whole included.
    pub endpoint: Endpoint,
}

wire_struct!(Scope { user, endpoint });

/// The first that is set of: this user and endpoint, any user and this endpoint, this user and any
/// endpoint, anyone and anything, default (K131). The fourth is what an operator sets in place of
/// the default while the node runs.
pub(super) fn in_force(
    scopes: &Table<Scope, ScopeConfig>,
    default: &RateConfig,
    user: &UserId,
    endpoint: &Endpoint,
) -> RateConfig {
    let mut limits = *default;
    let (user, whole) = (Some(user.clone()), Endpoint::whole());
    // From the weakest to the strongest; for the user as a whole the first two are all.
    let scopes_of = [(None, &whole), (user.clone(), &whole), (None, endpoint), (user, endpoint)];
    let count = if endpoint.as_str().is_empty() { 2 } else { 4 };
    for (user, endpoint) in scopes_of.into_iter().take(count) {
        let scope = Scope { user, endpoint: endpoint.clone() };
        if let Some(config) = scopes.get(&scope) {
            config.overlay(&mut limits);
        }
    }
    limits
}
