//! What callers are told of rates (K135, K138).

use super::{LimitType, RateKey, Verdict, WindowUsage};
use crate::kernel::config::RateConfig;
use crate::kernel::ids::{Endpoint, UserId};
use crate::kernel::principal::Principal;
use crate::kernel::quota::Limit;
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::state::State;
use crate::kernel::time::{Millis, Time};

/// The answer to `CheckRateLimit` (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RateResult {
    /// Whether the hit is allowed.
    pub allowed: bool,
    /// The window that the rest is about: of a hit that is allowed the one with the least left,
    /// else the one that allows it last.
    pub limit_type: LimitType,
    /// How many hits it holds.
    pub current_count: u64,
    /// Its limit.
    pub limit: Limit,
    /// What is left of it: the least over the windows.
    pub remaining: Limit,
    /// How long until the hit is allowed, where it is not now and will be.
    pub retry_after_ms: Option<Millis>,
    /// Why it is not allowed; empty if it is.
    pub reason: String,
}

impl RateResult {
    fn of(verdict: Verdict, now: Time) -> Self {
        match verdict {
            Verdict::Allowed(room) => Self {
                allowed: true,
                limit_type: room.window,
                current_count: room.current,
                limit: room.limit,
                remaining: room.remaining,
                retry_after_ms: None,
                reason: String::new(),
            },
            Verdict::Exceeded(over) => Self {
                allowed: false,
                limit_type: over.window,
                current_count: over.current,
                limit: Limit::at_most(over.limit),
                remaining: Limit::at_most(0),
                retry_after_ms: over.retry_at.map(|at| at.since(now)),
                reason: over.to_string(),
            },
        }
    }
}

impl State {
    /// Answers `CheckRateLimit` as a query: would one more hit be allowed (K135).
    ///
    /// # Errors
    ///
    /// `permission_denied` (only that user, workers and operators may ask).
    pub fn rate_check(
        &self,
        now: Time,
        by: &Principal,
        (user, endpoint): (&UserId, &Endpoint),
    ) -> Result<RateResult, Refusal> {
        may_see_rates(by, user)?;
        Ok(RateResult::of(self.rate_verdict(now, user, endpoint), now))
    }

    /// Answers `CheckRateLimit` as a command, after its events were applied: `recorded` says
    /// whether there was one. A hit that was taken counts among what is told (K135).
    #[must_use]
    pub fn rate_reply(
        &self,
        now: Time,
        (user, endpoint): (&UserId, &Endpoint),
        recorded: bool,
    ) -> RateResult {
        if !recorded {
            return RateResult::of(self.rate_verdict(now, user, endpoint), now);
        }
        let windows = self.usage_of(now, user, endpoint);
        // The last of equal ones is the longer.
        let least = windows.iter().rev().min_by_key(|window| window.remaining);
        let least = least.expect("there are four windows");
        RateResult {
            allowed: true,
            limit_type: least.window,
            current_count: least.current,
            limit: least.limit,
            remaining: least.remaining,
            retry_after_ms: None,
            reason: String::new(),
        }
    }

    /// Answers `GetRateLimitUsage` (K138).
    ///
    /// # Errors
    ///
    /// `permission_denied` (only that user, workers and operators may ask).
    pub fn rate_usage(
        &self,
        now: Time,
        by: &Principal,
        (user, endpoint): (&UserId, &Endpoint),
    ) -> Result<[WindowUsage; 4], Refusal> {
        may_see_rates(by, user)?;
        Ok(self.usage_of(now, user, endpoint))
    }

    fn usage_of(&self, now: Time, user: &UserId, endpoint: &Endpoint) -> [WindowUsage; 4] {
        let (key, limits) = self.rate_of_user(user, endpoint);
        self.rates.usage(now, &key, &limits)
    }

    /// Checks one more hit of a user on an endpoint (K133).
    pub(in crate::kernel) fn rate_verdict(
        &self,
        now: Time,
        user: &UserId,
        endpoint: &Endpoint,
    ) -> Verdict {
        let (key, limits) = self.rate_of_user(user, endpoint);
        self.rates.check(now, &key, &limits)
    }

    /// The key of a user on an endpoint, and the limits in force (K131).
    pub(in crate::kernel) fn rate_of_user(
        &self,
        user: &UserId,
        endpoint: &Endpoint,
    ) -> (RateKey, RateConfig) {
        let limits = self.rates.in_force(&self.config.default_rate, user, endpoint);
        (RateKey::User { user: user.clone(), endpoint: endpoint.clone() }, limits)
    }
}

/// Refuses anyone but that user, workers and operators (K370).
///
/// # Errors
///
/// `permission_denied`.
pub(super) fn may_see_rates(by: &Principal, user: &UserId) -> Result<(), Refusal> {
    match by.user == *user || by.takes_any_work() {
        true => Ok(()),
        false => {
            let told = format!("rates of {user} belong to another user");
            Err(Refusal::new(Code::PermissionDenied, told))
        }
    }
}
