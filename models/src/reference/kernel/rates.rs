//! Section 5: every hit is remembered, and counted anew for each question.

use std::collections::BTreeMap;

use machines::kernel::ids::{Endpoint, ProcessId, UserId};
use machines::kernel::quota::{Amounts, Limit};
use machines::kernel::rates::{RateKey, Scope, ScopeConfig};
use machines::kernel::state::State;
use machines::kernel::{Code, Time};

use super::lifecycle::limit_number;
use super::{Answer, Kernel, Note, Wrong};

/// The lengths of the windows: burst, minute, hour, day (K130).
const WINDOWS: [u64; 4] = [10_000, 60_000, 3_600_000, 86_400_000];

/// When a hit in a window of `length` is forgotten (K132).
fn forgotten_at(hit: Time, length: u64, slots: u64) -> u64 {
    let slot = length / slots;
    (hit.as_millis() / slot + 1) * slot + length
}

impl Kernel {
    /// The hits of a key that count in a window, oldest first.
    fn counted(&self, key: &RateKey, length: u64) -> Vec<Time> {
        let slots = if self.is(Wrong::FewerSlots) { 49 } else { 50 };
        let now = self.now.as_millis();
        let hits = self.hits.iter().filter(|(of, _)| of == key).map(|(_, hit)| *hit);
        hits.filter(|hit| now < forgotten_at(*hit, length, slots)).collect()
    }

    /// Field by field the first that is set (K131).
    fn in_force(&self, user: &UserId, endpoint: &Endpoint) -> [Limit; 4] {
        let scope = |user: Option<&UserId>, endpoint: &Endpoint| {
            let scope = Scope { user: user.cloned(), endpoint: endpoint.clone() };
            self.scopes.get(&scope).copied().unwrap_or_default()
        };
        let any = Endpoint::whole();
        // What is set for any user on any endpoint can only stand before the default.
        let sets = [
            scope(Some(user), endpoint),
            scope(None, endpoint),
            scope(Some(user), &any),
            scope(None, &any),
        ];
        let default = &self.config.default_rate;
        let first = |field: fn(&ScopeConfig) -> Option<Limit>, default: Limit| {
            sets.iter().find_map(field).unwrap_or(default)
        };
        [
            first(|set| set.burst, default.burst),
            first(|set| set.minute, default.minute),
            first(|set| set.hour, default.hour),
            first(|set| set.day, default.day),
        ]
    }

    /// `Ok` if one more is allowed in all windows; else when it is again (K133, K134).
    fn allowed(&self, key: &RateKey, limits: &[Limit; 4]) -> Result<(), Option<u64>> {
        let mut retry: Vec<Option<u64>> = Vec::new();
        for (length, limit) in WINDOWS.into_iter().zip(limits) {
            let hits = self.counted(key, length);
            let limit = limit_number(*limit);
            let count = hits.len() as u64;
            if count < limit {
                continue;
            }
            // So many of the oldest must be forgotten first.
            let needed = usize::try_from(count - limit).ok();
            let last = needed.and_then(|at| hits.get(at));
            retry.push(last.map(|hit| forgotten_at(*hit, length, 50)));
        }
        match retry.iter().any(Option::is_none) {
            true => Err(None),
            false => retry.into_iter().max().map_or(Ok(()), Err),
        }
    }

    fn hit(&mut self, key: RateKey) {
        self.hits.push((key, self.now));
        self.note(Note::Hit);
    }

    /// What a command carries is checked first and counts if the command is taken (K136).
    pub(super) fn pass_rate(&mut self, endpoint: &Endpoint) -> Answer {
        let (key, limits) = self.own_key(endpoint);
        self.refuse_over(&key, &limits)
    }

    /// The hit of a command that was taken (K136).
    pub(super) fn take_hit(&mut self, endpoint: &Endpoint) {
        let key = self.own_key(endpoint).0;
        self.hit(key);
    }

    fn own_key(&self, endpoint: &Endpoint) -> (RateKey, [Limit; 4]) {
        let (user, endpoint) = (self.by.user.clone(), endpoint.clone());
        let limits = self.in_force(&user, &endpoint);
        (RateKey::User { user, endpoint }, limits)
    }

    fn refuse_over(&mut self, key: &RateKey, limits: &[Limit; 4]) -> Answer {
        self.allowed(key, limits).map_err(|retry_at| {
            self.retry_at = retry_at;
            Code::RateLimited
        })
    }

    /// K121: reservations that hold calls are hits of the process's own key.
    pub(super) fn pass_process_rate(&mut self, pid: &ProcessId, amounts: &Amounts) -> Answer {
        let quota = self.of(pid).quota;
        let limits =
            [quota.rate_limit_burst, quota.rate_limit_rpm, quota.rate_limit_rph, Limit::UNLIMITED];
        let calls = amounts.llm_calls + amounts.inference_requests > 0;
        match calls && limits.iter().any(|limit| limit.most().is_some()) {
            false => Ok(()),
            true => self.refuse_over(&RateKey::Process { pid: pid.clone() }, &limits),
        }
    }

    /// The hit of a reservation that was granted (K121).
    pub(super) fn take_process_hit(&mut self, pid: &ProcessId, amounts: &Amounts) {
        let quota = self.of(pid).quota;
        let limits = [quota.rate_limit_burst, quota.rate_limit_rpm, quota.rate_limit_rph];
        let calls = amounts.llm_calls + amounts.inference_requests > 0;
        if calls && limits.iter().any(|limit| limit.most().is_some()) {
            self.hit(RateKey::Process { pid: pid.clone() });
        }
    }

    /// When every hit of a key is forgotten in every window, for each key (K360).
    pub(super) fn counted_until(&self) -> Vec<Time> {
        let mut last: BTreeMap<&RateKey, u64> = BTreeMap::new();
        for (key, hit) in &self.hits {
            let until = WINDOWS.map(|length| forgotten_at(*hit, length, 50));
            let known = last.entry(key).or_default();
            *known = until.into_iter().fold(*known, u64::max);
        }
        last.into_values().map(Time::from_millis).collect()
    }

    /// Keys of which nothing counts any more go (K360).
    pub(super) fn forget_hits(&mut self) {
        let counts = |key: &RateKey| !self.counted(key, WINDOWS[3]).is_empty();
        let kept: Vec<(RateKey, Time)> =
            self.hits.iter().filter(|(key, _)| counts(key)).cloned().collect();
        self.swept |= kept.len() < self.hits.len();
        self.hits = kept;
    }

    /// The counters of a process go with its end.
    pub(super) fn drop_rates(&mut self, pid: &ProcessId) {
        let key = RateKey::Process { pid: pid.clone() };
        self.hits.retain(|(of, _)| *of != key);
    }

    /// K135: being over the limit is an answer.
    pub(super) fn check_rate(
        &mut self,
        user: &UserId,
        endpoint: &Endpoint,
        record: bool,
    ) -> Answer {
        if self.by.user != *user && !self.by.takes_any_work() {
            return Err(Code::PermissionDenied);
        }
        let limits = self.in_force(user, endpoint);
        let key = RateKey::User { user: user.clone(), endpoint: endpoint.clone() };
        if record && self.allowed(&key, &limits).is_ok() {
            self.hit(key);
        }
        Ok(())
    }

    /// K138.
    pub(super) fn configure_rate(&mut self, scope: &Scope, set: Option<ScopeConfig>) -> Answer {
        if !self.by.is_operator() {
            return Err(Code::PermissionDenied);
        }
        // To set nothing is to clear.
        let set = set.filter(|set| *set != ScopeConfig::default());
        if self.scopes.get(scope).copied() == set {
            return Ok(());
        }
        match set {
            Some(set) => self.scopes.insert(scope.clone(), set),
            None => self.scopes.remove(scope),
        };
        self.note(Note::RateSet);
        Ok(())
    }

    /// K138.
    pub(super) fn reset_rates(&mut self, user: &UserId) -> Answer {
        if !self.by.is_operator() {
            return Err(Code::PermissionDenied);
        }
        let before = self.hits.len();
        let is = |key: &RateKey| matches!(key, RateKey::User { user: of, .. } if of == user);
        self.hits.retain(|(key, _)| !is(key));
        if self.hits.len() < before {
            self.note(Note::RateReset);
        }
        Ok(())
    }

    /// Says in what the counts differ of a key that was ever hit.
    #[must_use]
    pub fn rates_differ(&self, at: Time, state: &State) -> Option<String> {
        let here = Self { now: self.time(at), ..self.clone() };
        let unlimited = machines::kernel::config::RateConfig::UNLIMITED;
        self.hits.iter().find_map(|(key, _)| {
            let machine = state.rates().usage(here.now, key, &unlimited).map(|one| one.current);
            let model = WINDOWS.map(|length| here.counted(key, length).len() as u64);
            (machine != model).then(|| format!("hits of {key:?}: {machine:?}, not {model:?}"))
        })
    }

    /// Returns when a command that was refused may be tried again (K134).
    #[must_use]
    pub const fn retry_at(&self) -> Option<u64> {
        self.retry_at
    }
}
