//! Circuit breakers: a type whose calls keep failing is left alone for a while (K308).
//!
//! ```text
//!              failure_threshold failures in a row
//!     Closed ──────────────────────────────────────► Open ◄────────────┐
//!       ▲                                              │ reset timeout │ the probe fails
//!       │ the probe succeeds                           ▼               │
//!       └────────────────────────────────────────── HalfOpen ──────────┘
//! ```
//!
//! HalfOpen is an Open whose time is up, until a call asks and becomes the probe. Calls that began
//! before the last opening, closing or reset tell nothing of the handler as it is now: they count
//! neither way. The probe waits until they have ended, so that one call is under way in HalfOpen
//! and no more (K443).
//!
//! # Known limits
//!
//! When so many types have failed that the table is full, the closed and the half-open breakers
//! make room, the longest unchanged first. If all are open, the failures of further types are not
//! counted, and that is.
//!
//! # Source
//!
//! M. Nygard, *Release It!*, 2007, chapter 5.

use std::collections::BTreeMap;

use super::config::BreakerConfig;
use super::io::CorrelationId;
use crate::kernel::ids::MessageType;
use crate::kernel::time::{Millis, Time};

/// The state of a breaker, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// One call passes, or is under way.
    HalfOpen,
}

/// A breaker, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BreakerView {
    /// Of which type.
    pub kind: MessageType,
    /// Its state.
    pub state: BreakerState,
    /// Failures in a row, while it is closed.
    pub failures: u32,
    /// When it lets a probe through, while it is open.
    pub retry_at: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum State {
    Closed { failures: u32 },
    Open { until: Time },
    Probing { probe: CorrelationId },
}

impl State {
    const fn is_closed(self) -> bool {
        match self {
            Self::Closed { .. } => true,
            Self::Open { .. } | Self::Probing { .. } => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Breaker {
    pub(super) state: State,
    /// Calls before this one do not count.
    counts_from: CorrelationId,
    changed: Time,
}

/// How a call ended, for its breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) at: Time,
    pub(super) correlation: CorrelationId,
    pub(super) success: bool,
    /// The correlation id of the next call.
    pub(super) next: CorrelationId,
}

/// The breakers of all types that have failed.
#[derive(Clone, Debug)]
pub(super) struct Breakers {
    config: BreakerConfig,
    pub(super) table: BTreeMap<MessageType, Breaker>,
    /// Failures that were not counted, for want of room.
    uncounted: u64,
}

impl Breakers {
    pub(super) const fn new(config: BreakerConfig) -> Self {
        Self { config, table: BTreeMap::new(), uncounted: 0 }
    }

    pub(super) const fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// Lets the call `correlation` of `kind` through, perhaps as the probe, or says how long it is
    /// open yet. `under_way` says whether earlier calls of the type have not ended.
    pub(super) fn admit(
        &mut self,
        now: Time,
        kind: &MessageType,
        correlation: CorrelationId,
        under_way: bool,
    ) -> Result<(), Option<Millis>> {
        let Some(breaker) = self.table.get_mut(kind) else {
            return Ok(());
        };
        match breaker.state {
            State::Closed { .. } => Ok(()),
            State::Open { until } if now < until => Err(Some(until.since(now))),
            State::Open { .. } if under_way => Err(None),
            State::Open { .. } => {
                breaker.state = State::Probing { probe: correlation };
                breaker.changed = now;
                crate::sometimes!("kernel.half_open");
                Ok(())
            }
            State::Probing { .. } => Err(None),
        }
    }

    /// Counts how a call of `kind` ended. Returns until when the breaker is open, if it opened.
    pub(super) fn settle(&mut self, kind: &MessageType, outcome: Outcome) -> Option<Time> {
        if self.config.failure_threshold == 0 || self.config.excluded_types.contains(kind) {
            return None;
        }
        if !self.table.contains_key(kind) && (outcome.success || !self.make_room(outcome.at)) {
            return None;
        }
        let threshold = self.config.failure_threshold;
        let until = outcome.at.plus(self.config.reset_timeout_ms);
        let fresh = || Breaker {
            state: State::Closed { failures: 0 },
            counts_from: CorrelationId(0),
            changed: outcome.at,
        };
        let breaker = self.table.entry(kind.clone()).or_insert_with(fresh);
        let counts = outcome.correlation >= breaker.counts_from;
        let next = match breaker.state {
            State::Closed { .. } if !counts => return None,
            State::Closed { .. } if outcome.success => State::Closed { failures: 0 },
            State::Closed { failures } if failures + 1 < threshold => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } => State::Open { until },
            State::Open { .. } => return None,
            State::Probing { probe } if probe != outcome.correlation => return None,
            State::Probing { .. } if outcome.success => State::Closed { failures: 0 },
            State::Probing { .. } => State::Open { until },
        };
        if breaker.state != next {
            breaker.changed = outcome.at;
        }
        if !(breaker.state.is_closed() && next.is_closed()) {
            breaker.counts_from = outcome.next;
        }
        breaker.state = next;
        match next {
            State::Open { until } => Some(until),
            State::Closed { .. } | State::Probing { .. } => None,
        }
    }

    /// Closes the breaker of `kind`, or all; calls before `next` count no more. A type that has
    /// not failed has no breaker to close.
    pub(super) fn reset(&mut self, now: Time, kind: Option<&MessageType>, next: CorrelationId) {
        let chosen = self.table.iter_mut().filter(|(of, _)| kind.is_none_or(|kind| kind == *of));
        for (_, breaker) in chosen {
            let state = State::Closed { failures: 0 };
            *breaker = Breaker { state, counts_from: next, changed: now };
        }
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
    }

    /// Lists the breakers of the types that have failed, as they are at `now`.
    pub(super) fn view(&self, now: Time) -> Vec<BreakerView> {
        let view = |(kind, breaker): (&MessageType, &Breaker)| {
            let (state, failures, retry_at) = match breaker.state {
                State::Closed { failures } => (BreakerState::Closed, failures, None),
                State::Open { until } if now < until => (BreakerState::Open, 0, Some(until)),
                State::Open { .. } | State::Probing { .. } => (BreakerState::HalfOpen, 0, None),
            };
            BreakerView { kind: kind.clone(), state, failures, retry_at }
        };
        self.table.iter().map(view).collect()
    }

    /// Makes room for one more breaker, unless all must stay.
    fn make_room(&mut self, now: Time) -> bool {
        if self.table.len() < self.config.breakers_max as usize {
            return true;
        }
        let rank = |(kind, breaker): (&MessageType, &Breaker)| match breaker.state {
            State::Closed { .. } => Some((false, breaker.changed, kind.clone())),
            State::Open { until } if until <= now => Some((true, breaker.changed, kind.clone())),
            State::Open { .. } | State::Probing { .. } => None,
        };
        match self.table.iter().filter_map(rank).min() {
            Some((_, _, kind)) => self.table.remove(&kind).is_some(),
            None => {
                self.uncounted += 1;
                false
            }
        }
    }
}
