//! K443: while a breaker is open no handler is called; in HalfOpen one call at most is under way.
//!
//! Which breaker is in which state is what an operator sees who asks before and after each input
//! (`GetBreakers`), and what callers are refused for. Which calls are under way is what handlers
//! see: from the hand-out to the reply, the end of the handler, or the time when it runs out.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::collections::BTreeMap;

use machines::kernel::bus::io::{
    CallId, ConnectionId, CorrelationId, Input, Item, Message, Output, Replier, SubscriptionNumber,
};
use machines::kernel::bus::{BreakerState, BreakerView};
use machines::kernel::ids::MessageType;
use machines::kernel::{Code, Refusal, Time};

use super::{Event, Hub, TIMEOUT_MS, call_of};
use crate::keeper::{Seen, Watch, World};

/// Whose handler has a call; in process if none.
type Handler = Option<(ConnectionId, SubscriptionNumber)>;

/// A call that a handler has.
#[derive(Clone, Debug)]
struct UnderWay {
    kind: MessageType,
    call: Option<CallId>,
    handler: Handler,
    until: Time,
}

/// A command or query that was asked and is not answered.
#[derive(Clone, Debug)]
struct Asked {
    kind: MessageType,
    timeout: u64,
}

/// A breaker that is not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Until then.
    Open(Time),
    HalfOpen,
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Circuits {
    /// The time of the bus, as it was told last.
    at: Time,
    states: BTreeMap<MessageType, State>,
    asked: BTreeMap<CallId, Asked>,
    under_way: BTreeMap<CorrelationId, UnderWay>,
}

impl Watch<Hub> for Circuits {
    fn property(&self) -> &'static str {
        "K443"
    }

    fn see(&mut self, _: &World<Hub>, seen: &Seen<'_, Hub>) -> Result<bool, String> {
        let mut looked = false;
        match seen {
            Seen::Called(_, request) => looked = self.called(request),
            Seen::Events(_, events) => {
                for event in events.iter() {
                    looked |= self.look(event)?;
                }
            }
            Seen::Died { .. } => *self = Self::default(),
            _ => {}
        }
        Ok(looked)
    }
}

impl Circuits {
    /// Follows what is asked; tells whether it must be refused, or may be the probe.
    pub(super) fn called(&mut self, request: &Input) -> bool {
        match request {
            Input::Send(ask) | Input::Query(ask) => {
                let timeout = ask.timeout.unwrap_or(TIMEOUT_MS);
                self.asked.insert(ask.call, Asked { kind: ask.kind.clone(), timeout });
                return self.states.contains_key(&ask.kind);
            }
            Input::Reply { from, correlation, .. } => {
                let handler = self.under_way.get(correlation).map(|call| call.handler);
                let due = match (handler, from) {
                    (Some(None), Replier::InProcess) => true,
                    (Some(Some((connection, _))), Replier::Connection(from)) => connection == *from,
                    _ => false,
                };
                if due {
                    self.under_way.remove(correlation);
                }
            }
            Input::Unbind(kind) => {
                self.under_way.retain(|_, call| call.handler.is_some() || call.kind != *kind);
            }
            Input::Clear => self.under_way.clear(),
            _ => {}
        }
        false
    }

    pub(super) fn look(&mut self, event: &Event) -> Result<bool, String> {
        match event {
            Event::Breakers { at, breakers } => {
                self.show(*at, breakers);
                Ok(false)
            }
            Event::Given(Output::Invoke { correlation, message, until }) => {
                self.hand(*correlation, message, None, Some(*until))
            }
            Event::Given(Output::Deliver {
                connection,
                subscription,
                item: Item::Message { message, correlation: Some(correlation), .. },
            }) => self.hand(*correlation, message, Some((*connection, *subscription)), None),
            Event::Given(Output::Ended { subscription, .. }) => {
                let of = |call: &UnderWay| call.handler.is_some_and(|(_, of)| of == *subscription);
                self.under_way.retain(|_, call| !of(call));
                Ok(false)
            }
            Event::Given(Output::Answered { call, result }) => {
                self.under_way.retain(|_, one| one.call != Some(*call));
                let asked = self.asked.remove(call);
                if let (Some(asked), Err(refusal)) = (asked, result) {
                    self.refused(asked.kind, refusal);
                }
                Ok(false)
            }
            Event::Given(_) => Ok(false),
        }
    }

    fn show(&mut self, at: Time, breakers: &[BreakerView]) {
        self.at = at;
        self.under_way.retain(|_, call| call.until > at);
        let state = |breaker: &BreakerView| match breaker.state {
            BreakerState::Closed => None,
            BreakerState::Open => Some(State::Open(breaker.retry_at.unwrap_or(Time::FAR))),
            BreakerState::HalfOpen => Some(State::HalfOpen),
        };
        let not_closed = breakers.iter().map(|of| (of.kind.clone(), state(of)));
        self.states = not_closed.filter_map(|(kind, state)| Some((kind, state?))).collect();
    }

    /// A caller was told why not: an open breaker says how long it stays so, a half-open one
    /// cannot.
    fn refused(&mut self, kind: MessageType, refusal: &Refusal) {
        if refusal.code == Code::CircuitOpen {
            let open = |millis| State::Open(Time::from_millis(millis));
            self.states.insert(kind, refusal.retry_at.map_or(State::HalfOpen, open));
        }
    }

    /// A handler is called.
    fn hand(
        &mut self,
        correlation: CorrelationId,
        message: &Message,
        handler: Handler,
        until: Option<Time>,
    ) -> Result<bool, String> {
        let kind = &message.kind;
        let state = self.states.get(kind).copied();
        match state {
            Some(State::Open(until)) if self.at < until => {
                return Err(format!("the handler of {kind} was called while its breaker is open"));
            }
            Some(State::HalfOpen) => {
                if let Some((other, _)) = self.under_way.iter().find(|(_, one)| one.kind == *kind) {
                    let (new, other) = (correlation.0, other.0);
                    return Err(format!("calls {other} and {new} of {kind} probe at a time"));
                }
            }
            Some(State::Open(_)) | None => {}
        }
        let call = call_of(&message.payload);
        let asked = call.and_then(|call| self.asked.get(&call));
        let until = until.or_else(|| asked.map(|asked| message.at.plus(asked.timeout)));
        let until = until.ok_or_else(|| format!("call {} of {kind} is over", correlation.0))?;
        let under_way = UnderWay { kind: kind.clone(), call, handler, until };
        self.under_way.insert(correlation, under_way);
        Ok(state.is_some())
    }
}
