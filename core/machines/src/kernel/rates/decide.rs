//! Decisions on rates: check and hit, configure, reset, sweep (K121, K135–K138).
//!
//! A command may carry a rate: the hit is then the first event of its decision, made when the
//! command makes its own first event, or at its end if it makes none. So a command that is refused
//! leaves no hit (K2), and one that is taken leaves one, a repeat too: its hit is of the rate, not
//! of the command (K6, K136).

use super::{
    RateConfig, RateEvent, RateKey, SWEEP_MAX, Scope, ScopeConfig, Verdict, limited, view,
};
use crate::kernel::decision::Decision;
use crate::kernel::event::{Body, Cause, Event, Subject};
use crate::kernel::ids::{Endpoint, ProcessId, UserId};
use crate::kernel::names::{BlockReason, ProcessState};
use crate::kernel::process::Process;
use crate::kernel::quota::{Amounts, QuotaField, QuotaPatch};
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::state::State;
use crate::kernel::time::Time;

impl Decision<'_> {
    /// Lets a command through that is within its rate; its hit is made with it (K136).
    pub(in crate::kernel) fn pass_rate(&mut self, endpoint: &Endpoint) -> Result<(), Refusal> {
        self.check_name("rate", endpoint.as_str())?;
        let user = self.by.user.clone();
        let (key, limits) = self.state.rate_of_user(&user, endpoint);
        if let Verdict::Exceeded(over) = self.state.rates.check(self.now, &key, &limits) {
            return Err(limited(&over).about("user_id", &user));
        }
        self.refuse_no_room(&key)?;
        self.hit = Some(key);
        Ok(())
    }

    /// Makes the hit that the command carries, if it was not made yet.
    pub(in crate::kernel) fn take_hit(&mut self) {
        if let Some(key) = self.hit.take() {
            self.count_hit(key);
        }
    }

    /// `CheckRateLimit` with `record`: a hit if it is allowed, nothing if not (K135). A check
    /// without it makes no event.
    pub(in crate::kernel) fn check_rate(
        &mut self,
        (user, endpoint): (&UserId, &Endpoint),
        record: bool,
    ) -> Result<(), Refusal> {
        view::may_see_rates(&self.by, user)?;
        self.check_name("endpoint", endpoint.as_str())?;
        let (key, limits) = self.state.rate_of_user(user, endpoint);
        if !record {
            return Ok(());
        }
        if self.hit.as_ref() == Some(&key) {
            // Its key has room from now on, so that nothing is refused after this event.
            self.take_hit();
        }
        match self.state.rates.check(self.now, &key, &limits) {
            Verdict::Exceeded(_) => Ok(()),
            Verdict::Allowed(_) => {
                self.refuse_no_room(&key)?;
                self.count_hit(key);
                Ok(())
            }
        }
    }

    /// `SetRateLimit`: sets or clears a configuration (K138).
    pub(in crate::kernel) fn configure_rate(
        &mut self,
        scope: &Scope,
        config: Option<ScopeConfig>,
    ) -> Result<(), Refusal> {
        self.only_operator()?;
        if let Some(user) = &scope.user {
            self.check_id("user_id", user.as_str())?;
        }
        self.check_name("endpoint", scope.endpoint.as_str())?;
        let config = config.filter(|config| !config.is_empty());
        let scopes = &self.state.rates.scopes;
        if scopes.get(scope) == config.as_ref() {
            return Ok(());
        }
        let most = self.state.config.limits.rate_keys;
        if config.is_some() && !scopes.contains(scope) && u64::from(scopes.len()) >= most {
            return Err(table_full("rate configurations", most));
        }
        let subject = Subject { user: scope.user.clone(), ..Subject::default() };
        let event = RateEvent::Configured { scope: scope.clone(), config };
        self.emit(subject, Body::Rate { event });
        Ok(())
    }

    /// `ResetRateLimits`: drops a user's counters (K138). Answers how many there were.
    pub(in crate::kernel) fn reset_rates(&mut self, user: &UserId) -> Result<u64, Refusal> {
        self.only_operator()?;
        self.check_id("user_id", user.as_str())?;
        let count = self.state.rates.keys_of(user).len() as u64;
        if count > 0 {
            let subject = Subject { user: Some(user.clone()), ..Subject::default() };
            let event = RateEvent::Reset { user: user.clone(), removed: count };
            self.emit(subject, Body::Rate { event });
        }
        Ok(count)
    }

    /// Drops keys that have run out, at most `most`; returns how many (K360, K361).
    pub(in crate::kernel) fn sweep_rates(&mut self, most: u64) -> u64 {
        // It may sweep on its own: what is due is counted after it.
        self.take_hit();
        let (before, keys) = (self.now, self.state.rates.due(self.now, most));
        if keys > 0 {
            let event = RateEvent::Swept { before, keys };
            self.emit(Subject::default(), Body::Rate { event });
        }
        keys
    }

    /// Says whether a process may make a call now, by the rates of its quota; else when it may
    /// (K121). [`Time::FAR`] is never, unless the quota is changed.
    pub(in crate::kernel) fn rate_of_process(&self, pid: &ProcessId) -> Result<(), Time> {
        match self.state.process_verdict(self.now, pid) {
            None | Some(Verdict::Allowed(_)) => {}
            Some(Verdict::Exceeded(over)) => return Err(over.retry_at.unwrap_or(Time::FAR)),
        }
        match self.state.process(pid).filter(|process| is_limited(process)) {
            Some(_) => self.room_for(&RateKey::Process { pid: pid.clone() }).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Refuses a call of a process that is over the rates of its quota (K121).
    pub(in crate::kernel) fn refuse_process_rate(&self, pid: &ProcessId) -> Result<(), Refusal> {
        if let Some(Verdict::Exceeded(over)) = self.state.process_verdict(self.now, pid) {
            return Err(limited(&over).about("pid", pid));
        }
        match self.state.process(pid).filter(|process| is_limited(process)) {
            Some(_) => self.refuse_no_room(&RateKey::Process { pid: pid.clone() }),
            None => Ok(()),
        }
    }

    /// Counts a call of a process whose quota limits its rate (K121). Whoever calls this has asked
    /// [`Decision::rate_of_process`] before.
    pub(in crate::kernel) fn hit_process(&mut self, pid: &ProcessId) {
        if self.state.process(pid).is_some_and(is_limited) {
            self.count_hit(RateKey::Process { pid: pid.clone() });
        }
    }

    /// Lets a process go on that waits for a rate, when that was changed (K121).
    pub(in crate::kernel) fn rate_adjusted(&mut self, pid: &ProcessId, patch: &QuotaPatch) {
        let about_rate = patch.iter().any(|(field, _)| is_rate(*field));
        let waits = self.state.process(pid).is_some_and(|process| {
            let block = process.block.as_ref().map(|block| block.reason);
            process.state == ProcessState::Blocked && block == Some(BlockReason::Rate)
        });
        if about_rate && waits {
            // If it still has to wait, its next call is told until when.
            self.change(pid, ProcessState::Ready, Cause::Rate);
        }
    }

    /// Says whether a sweep must come before a hit of `key`, or when there is room (K137).
    fn room_for(&self, key: &RateKey) -> Result<bool, Time> {
        let rates = &self.state.rates;
        // A key that has run out may be swept before its hit is counted.
        let new = |key: &RateKey| u64::from(rates.runs_out(key) <= self.now);
        // The hit that the command carries is made before this one.
        let carried = self.hit.as_ref().filter(|carried| *carried != key).map_or(0, new);
        let needed = match new(key) {
            0 => 0,
            one => one + carried,
        };
        rates.room(self.now, needed, self.state.config.limits.rate_keys)
    }

    fn refuse_no_room(&self, key: &RateKey) -> Result<(), Refusal> {
        let full = |at: Time| {
            let refusal = table_full("rates", self.state.config.limits.rate_keys);
            match at {
                Time::FAR => refusal,
                at => refusal.retry_at(at.as_millis()),
            }
        };
        self.room_for(key).map(|_| ()).map_err(full)
    }

    /// Counts a hit, for which there is room.
    fn count_hit(&mut self, key: RateKey) {
        if self.room_for(&key) == Ok(true) {
            self.sweep_rates(SWEEP_MAX);
        }
        let subject = self.rate_subject(&key);
        self.emit(subject, Body::Rate { event: RateEvent::Recorded { key } });
    }

    fn rate_subject(&self, key: &RateKey) -> Subject {
        match key {
            RateKey::User { user, .. } => {
                Subject { user: Some(user.clone()), ..Subject::default() }
            }
            RateKey::Process { pid } => self.subject(pid),
        }
    }
}

impl State {
    /// What the quota of a process says of one more call; `None` if nothing is limited or known.
    pub(in crate::kernel) fn process_verdict(&self, now: Time, pid: &ProcessId) -> Option<Verdict> {
        let process = self.process(pid).filter(|process| is_limited(process))?;
        let (key, limits) = (RateKey::Process { pid: pid.clone() }, limits_of(process));
        Some(self.rates.check(now, &key, &limits))
    }
}

/// Says whether `events` of a decision have a hit of `key`, besides the one that the command
/// carried.
#[must_use]
pub fn was_recorded(events: &[Event], key: &RateKey, carried: Option<&RateKey>) -> bool {
    let hit = Body::Rate { event: RateEvent::Recorded { key: key.clone() } };
    events.iter().filter(|event| event.body == hit).count() > usize::from(carried == Some(key))
}

/// Says whether a call with these amounts counts for the rates of its process (K121).
#[must_use]
pub(in crate::kernel) const fn counts_for_rate(amounts: &Amounts) -> bool {
    amounts.llm_calls > 0 || amounts.inference_requests > 0
}

fn limits_of(process: &Process) -> RateConfig {
    RateConfig::of_quota(&process.quota)
}

fn is_limited(process: &Process) -> bool {
    limits_of(process) != RateConfig::UNLIMITED
}

const fn is_rate(field: QuotaField) -> bool {
    matches!(
        field,
        QuotaField::RateLimitRpm | QuotaField::RateLimitRph | QuotaField::RateLimitBurst
    )
}

fn table_full(what: &str, most: u64) -> Refusal {
    Refusal::new(Code::RateTableFull, format!("{what}: {} keys, at most {most}", most + 1))
}

impl State {
    /// Drops the key of a process that is over (K121).
    pub(in crate::kernel) fn forget_rate(&mut self, pid: &ProcessId) {
        self.rates.forget(&RateKey::Process { pid: pid.clone() });
    }
}
