//! Saboteurs of the bus: they change what comes out of it, as a wrong bus would have (T32).
#![expect(clippy::wildcard_enum_match_arm, reason = "a saboteur picks what it breaks")]

use std::collections::BTreeMap;
use std::sync::Arc;

use machines::kernel::Code;
use machines::kernel::bus::io::{
    Ask, Category, CorrelationId, Gap, Input, Item, Message, Output, SubscriptionNumber,
};
use machines::kernel::bus::{BreakerState, BreakerView};
use machines::kernel::ids::MessageType;

use super::subscription_of;

/// A promise of the bus that is broken on purpose (kernel.md, section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// K442: what a full queue loses leaves no marker.
    DropsMarkers,
    /// K442: the same, and those that come after it move up.
    ClosesRanks,
    /// K443: a call passes while the probe is under way.
    ProbesTwice,
    /// K443: a call passes while the breaker is open.
    CallsWhileOpen,
}

/// The numbers of calls that no bus has made.
const FORGED: u64 = 1 << 40;

/// What one saboteur remembers.
#[derive(Clone, Debug)]
pub(super) struct Sabotage {
    turn: Option<Turn>,
    /// By how much the numbers of a subscription have moved up.
    moved: BTreeMap<SubscriptionNumber, u64>,
    /// The last call of each type that reached its handler.
    last: BTreeMap<MessageType, Output>,
    forged: u64,
}

impl Sabotage {
    pub(super) const fn new(turn: Option<Turn>) -> Self {
        Self { turn, moved: BTreeMap::new(), last: BTreeMap::new(), forged: 0 }
    }

    /// Looks at what is asked before the bus does.
    pub(super) fn before(&self, input: &Input) -> Option<(Category, Ask)> {
        match (self.turn?, input) {
            (Turn::ProbesTwice | Turn::CallsWhileOpen, Input::Send(ask)) => {
                Some((Category::Command, ask.clone()))
            }
            (Turn::ProbesTwice | Turn::CallsWhileOpen, Input::Query(ask)) => {
                Some((Category::Query, ask.clone()))
            }
            _ => None,
        }
    }

    /// Changes what the bus gave; `breakers` are those from before.
    pub(super) fn after(
        &mut self,
        asked: Option<(Category, Ask)>,
        breakers: &[BreakerView],
        given: &mut Vec<Output>,
    ) {
        let lifted = match self.turn {
            None => return,
            Some(Turn::DropsMarkers) => {
                let is_marker =
                    |given: &Output| matches!(given, Output::Deliver { item: Item::Gap(_), .. });
                return given.retain(|given| !is_marker(given));
            }
            Some(Turn::ClosesRanks) => return given.retain_mut(|given| self.move_up(given)),
            Some(Turn::ProbesTwice) => BreakerState::HalfOpen,
            Some(Turn::CallsWhileOpen) => BreakerState::Open,
        };
        if let Some((category, ask)) = asked {
            let is_lifted = |breaker: &BreakerView| breaker.kind == ask.kind;
            let state = breakers.iter().find(|breaker| is_lifted(breaker)).map(|of| of.state);
            if state == Some(lifted) {
                self.let_through(category, ask, given);
            }
        }
        for given in given.iter() {
            if let Some(message) = called(given) {
                self.last.insert(message.kind.clone(), given.clone());
            }
        }
    }

    /// Takes markers away and closes the ranks behind them; `false` for a marker.
    fn move_up(&mut self, given: &mut Output) -> bool {
        let Some(subscription) = subscription_of(given) else {
            return true;
        };
        let moved = self.moved.entry(subscription).or_insert(0);
        match given {
            Output::Deliver { item: Item::Gap(gap), .. } => {
                *moved += gap.to + 1 - gap.from;
                return false;
            }
            Output::Deliver { item: Item::Message { number, .. }, .. } => *number -= *moved,
            Output::Ended { gap: Some(gap), .. } => {
                *gap = Gap { from: gap.from - *moved, to: gap.to - *moved };
            }
            _ => {}
        }
        true
    }

    /// Puts a call in the place of its refusal, to the handler that had the last of its type.
    fn let_through(&mut self, category: Category, ask: Ask, given: &mut [Output]) {
        let Some(mut forged) = self.last.get(&ask.kind).cloned() else {
            return;
        };
        let refused = given.iter_mut().find(|given| match given {
            Output::Answered { call, result: Err(refusal) } => {
                *call == ask.call && refusal.code == Code::CircuitOpen
            }
            _ => false,
        });
        let Some(refused) = refused else {
            return;
        };
        self.forged += 1;
        let new = CorrelationId(FORGED + self.forged);
        let (kind, payload, by) = (ask.kind, ask.payload, ask.by.user);
        match &mut forged {
            Output::Invoke { correlation, message, .. } => {
                *correlation = new;
                *message = forge(message, category, kind, payload, by);
            }
            Output::Deliver { item: Item::Message { message, correlation, .. }, .. } => {
                *correlation = Some(new);
                *message = forge(message, category, kind, payload, by);
            }
            _ => return,
        }
        *refused = forged;
    }
}

fn forge(
    like: &Message,
    category: Category,
    kind: MessageType,
    payload: machines::kernel::bus::io::Payload,
    by: machines::kernel::ids::UserId,
) -> Arc<Message> {
    Arc::new(Message { category, kind, payload, by, ..like.clone() })
}

/// Returns the command or query with which an output calls a handler.
pub(super) fn called(given: &Output) -> Option<&Message> {
    match given {
        Output::Invoke { message, .. }
        | Output::Deliver { item: Item::Message { message, correlation: Some(_), .. }, .. } => {
            Some(message)
        }
        _ => None,
    }
}
