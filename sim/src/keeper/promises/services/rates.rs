//! K431: no interval as long as a window holds more hits than the limit in force, and whoever is
//! told when to come again is told it to the millisecond (K131–K135, K121).

use std::collections::BTreeMap;

use machines::kernel::config::RateConfig;
use machines::kernel::event::{Body, Event, KernelEvent, QuotaEvent};
use machines::kernel::ids::{Endpoint, ProcessId, UserId};
use machines::kernel::quota::{Amounts, Limit};
use machines::kernel::rates::{LimitType, RateEvent, RateKey, RateResult, Scope, ScopeConfig};
use machines::kernel::reply::Done;
use machines::kernel::{Code, Command, CommandBody, Refusal, Time};

use super::seen_by;
use crate::keeper::book::{Book, Follow};
use crate::keeper::io::Number;
use crate::keeper::kernel::Clerk;
use crate::keeper::{Seen, Watch, World};

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    follow: Follow,
    book: Book,
    default: Option<RateConfig>,
    scopes: BTreeMap<Scope, ScopeConfig>,
    hits: BTreeMap<RateKey, Vec<u64>>,
    /// What the clock showed when a call came in.
    asked: BTreeMap<Number, u64>,
}

/// K132, word by word: until when a hit counts.
const fn counts_until(hit: u64, window: u64) -> u64 {
    let slot = window / 50;
    (hit / slot + 1) * slot + window
}

/// How many hits count at `now`.
fn count(hits: &[u64], now: u64, window: u64) -> u64 {
    hits.iter().filter(|hit| now < counts_until(**hit, window)).count() as u64
}

/// K133: whether one more is allowed.
fn is_allowed(hits: &[u64], now: u64, limits: &RateConfig) -> bool {
    let room = |window: LimitType| limits.of(window).allows(count(hits, now, window.window()) + 1);
    LimitType::WINDOWS.into_iter().all(room)
}

impl Rates {
    /// K131, field by field.
    fn in_force(&self, user: &UserId, endpoint: &Endpoint) -> RateConfig {
        let whole = Endpoint::whole();
        let scope = |user: Option<&UserId>, endpoint: &Endpoint| {
            let key = Scope { user: user.cloned(), endpoint: endpoint.clone() };
            self.scopes.get(&key).copied().unwrap_or_default()
        };
        let strongest_first = [
            scope(Some(user), endpoint),
            scope(None, endpoint),
            scope(Some(user), &whole),
            scope(None, &whole),
        ];
        let first = |field: fn(&ScopeConfig) -> Option<Limit>, otherwise: Limit| {
            strongest_first.iter().find_map(field).unwrap_or(otherwise)
        };
        let default = self.default.unwrap_or(RateConfig::DEFAULT);
        RateConfig {
            burst: first(|scope| scope.burst, default.burst),
            minute: first(|scope| scope.minute, default.minute),
            hour: first(|scope| scope.hour, default.hour),
            day: first(|scope| scope.day, default.day),
        }
    }

    /// K121: the limits of a process are its quota's.
    fn of_process(&self, pid: &ProcessId) -> RateConfig {
        let quota = self.book.known.get(pid).map(|known| known.quota);
        quota.map_or(RateConfig::UNLIMITED, |quota| RateConfig {
            burst: quota.rate_limit_burst,
            minute: quota.rate_limit_rpm,
            hour: quota.rate_limit_rph,
            day: Limit::UNLIMITED,
        })
    }

    fn limits(&self, key: &RateKey) -> RateConfig {
        match key {
            RateKey::User { user, endpoint } => self.in_force(user, endpoint),
            RateKey::Process { pid } => self.of_process(pid),
        }
    }

    fn add(&mut self, event: &Event) -> Result<bool, String> {
        match &event.body {
            Body::Kernel { event: KernelEvent::Started { config, .. } } => {
                self.default = Some(config.default_rate);
                Ok(false)
            }
            Body::Rate { event: RateEvent::Recorded { key } } => self.hit(event.time, key),
            Body::Rate { event: RateEvent::Configured { scope, config } } => {
                match config {
                    Some(config) => self.scopes.insert(scope.clone(), *config),
                    None => self.scopes.remove(scope),
                };
                Ok(false)
            }
            Body::Rate { event: RateEvent::Reset { user, .. } } => {
                let is_theirs = |key: &RateKey| match key {
                    RateKey::User { user: whose, .. } => whose == user,
                    RateKey::Process { .. } => false,
                };
                self.hits.retain(|key, _| !is_theirs(key));
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    fn hit(&mut self, at: Time, key: &RateKey) -> Result<bool, String> {
        let limits = self.limits(key);
        let hits = self.hits.entry(key.clone()).or_default();
        let now = at.as_millis();
        hits.push(now);
        for window in LimitType::WINDOWS {
            let from = now.saturating_sub(window.window());
            let inside = hits.iter().filter(|hit| **hit >= from).count() as u64;
            if !limits.of(window).allows(inside) {
                let (most, name) = (limits.of(window), window.name());
                return Err(format!("{key:?} has {inside} hits in a {name} window of {most}"));
            }
        }
        Ok(true)
    }

    /// K121: whatever holds calls of a process that has a rate counts for it.
    fn check_holds(&self, events: &[Event]) -> Result<(), String> {
        for event in events {
            let (Body::Quota { event: QuotaEvent::Reserved { amounts, attempt: None, .. } }, pid) =
                (&event.body, &event.subject.pid)
            else {
                continue;
            };
            let Some(pid) = pid.as_ref().filter(|_| counts(amounts)) else {
                continue;
            };
            let limited = self.of_process(pid) != RateConfig::UNLIMITED;
            let key = RateKey::Process { pid: pid.clone() };
            let hit = Body::Rate { event: RateEvent::Recorded { key } };
            if limited && !events.iter().any(|event| event.body == hit) {
                return Err(format!("{pid} has a rate, and holds {amounts:?} without a hit"));
            }
        }
        Ok(())
    }

    /// K133–K135: what is told of a hit is so, and would be so until the moment that is told.
    fn check_told(&self, now: u64, key: &RateKey, told: &RateResult) -> Result<(), String> {
        let (limits, none) = (self.limits(key), Vec::new());
        let hits = self.hits.get(key).unwrap_or(&none);
        if told.allowed {
            return Ok(()); // Then it was recorded, which was looked at.
        }
        let current = count(hits, now, told.limit_type.window());
        if current != told.current_count || limits.of(told.limit_type) != told.limit {
            return Err(format!("at {now} {key:?} has {current} hits of {limits:?}: {told:?}"));
        }
        self.check_retry(now, key, told.retry_after_ms.map(|after| now + after))
    }

    /// K134: whoever is refused now is refused until just before it is told to come again, and not
    /// then.
    fn check_retry(&self, now: u64, key: &RateKey, again: Option<u64>) -> Result<(), String> {
        let (limits, none) = (self.limits(key), Vec::new());
        let hits = self.hits.get(key).unwrap_or(&none);
        let Some(at) = again else {
            let never = LimitType::WINDOWS.map(|window| limits.of(window).most());
            return match never.contains(&Some(0)) {
                true => Ok(()),
                false => Err(format!("{key:?} is never allowed again, of {limits:?}")),
            };
        };
        match at > now && !is_allowed(hits, at - 1, &limits) && is_allowed(hits, at, &limits) {
            true => Ok(()),
            false => Err(format!("at {now} {key:?} should come again at {at}, with {limits:?}")),
        }
    }

    /// K121, K136: whoever is refused for a rate is told when to come again as well.
    fn check_refused(&self, now: u64, command: &Command, refusal: &Refusal) -> Result<(), String> {
        let by_process = refusal.about.iter().any(|(name, _)| *name == "pid");
        let key = match (by_process, &command.rate, &command.body) {
            (false, Some(rate), _) => {
                RateKey::User { user: command.by.user.clone(), endpoint: rate.clone() }
            }
            (true, _, CommandBody::Reserve(reserve)) => {
                RateKey::Process { pid: reserve.pid.clone() }
            }
            (true, _, CommandBody::DispatchInference(request)) if request.pid.is_some() => {
                RateKey::Process { pid: request.pid.clone().expect("it is there") }
            }
            _ => return Err(format!("{refusal}, and there is no rate: {command:?}")),
        };
        self.check_retry(now, &key, refusal.retry_at)
    }

    fn see_reply(&mut self, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let Seen::Replied { call, request, reply, needs } = seen else {
            return Ok(false);
        };
        let asked = self.asked.remove(call).unwrap_or(0);
        let now = asked.max(self.book.last.as_millis());
        if let Err(refusal) = reply
            && refusal.code == Code::RateLimited
            && self.follow.record() == *needs
        {
            self.check_refused(now, request, refusal)?;
            return Ok(true);
        }
        let Some((request, done)) = seen_by(seen, self.book.events) else {
            return Ok(false);
        };
        let (CommandBody::CheckRateLimit { user, endpoint, record: true }, Done::Rate(told)) =
            (&request.body, &done.reply.done)
        else {
            return Ok(false);
        };
        let key = RateKey::User { user: user.clone(), endpoint: endpoint.clone() };
        self.check_told(now, &key, told)?;
        Ok(!told.allowed)
    }
}

/// K121: what counts for the rate of a process.
const fn counts(amounts: &Amounts) -> bool {
    amounts.llm_calls > 0 || amounts.inference_requests > 0
}

impl Watch<Clerk> for Rates {
    fn property(&self) -> &'static str {
        "K431"
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        if let Seen::Called(call, _) = seen {
            self.asked.insert(*call, world.wall_ms());
        }
        if let Seen::Died { .. } = seen {
            self.asked.clear();
        }
        let mut looked = false;
        for events in self.follow.see(seen) {
            self.check_holds(&events)?;
            for event in events.iter() {
                looked |= self.add(event)?;
                self.book.add(event);
            }
        }
        Ok(looked | self.see_reply(seen)?)
    }
}
