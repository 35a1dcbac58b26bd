//! One process of the bus: the production machine, with places for saboteurs at its boundary.
//!
//! ```text
//!   parties ──publish, ask, reply, pull──► bus ──items, calls, answers, ends──► parties
//!                                           └── breakers, as an operator sees them ──► checkers
//! ```
//!
//! It has no disk: a process that ends takes all subscriptions, handlers and calls along, and all
//! connections break (K300). Its handler in process is one of those who ask: the node's own.

mod accounts;
mod circuits;
mod sabotage;
mod talkers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::hash::Hash;
use std::time::Duration;

use machines::Instant;
use machines::digest::Digest;
use machines::kernel::Time;
use machines::kernel::bus::io::{
    CallId, Input as Asked, Message, Output as Given, Payload, SubscriptionNumber,
};
use machines::kernel::bus::middleware::{Middleware, Seen, Verdict};
use machines::kernel::bus::{BreakerConfig, BreakerState, BreakerView, Bus, BusConfig};
use machines::kernel::ids::MessageType;
use machines::ledger::root::StateRoot;

use super::checkers::Make;
use super::io::{Guest, Input, Number, Output, Recovered};
use crate::scenario::Kept;
use sabotage::Sabotage;
pub use sabotage::Turn;
pub use talkers::Talkers;

/// How long a call waits for its answer if it does not say, in milliseconds.
pub const TIMEOUT_MS: u64 = 800;
/// How long a call may wait, in milliseconds.
pub const TIMEOUT_MAX_MS: u64 = 3_000;
/// How long an open breaker stays open, in milliseconds.
pub const RESET_MS: u64 = 1_200;
/// How many failures in a row open a breaker.
pub const FAILURES: u32 = 3;
/// How many messages wait for one subscription.
pub const QUEUE: u32 = 4;
/// A command or query without a breaker.
pub const EXCLUDED: &str = "ask.much";
/// A payload that ends so is stopped by the middleware (K307).
pub const STOPPED: u8 = b'!';

/// What everybody may see.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// What the bus wants done.
    Given(Given),
    /// What an operator sees who asks for the breakers.
    Breakers {
        /// When, in the time of the bus.
        at: Time,
        /// The breakers of the types that have failed.
        breakers: Vec<BreakerView>,
    },
}

/// See the file's header.
#[derive(Clone, Debug)]
pub struct Hub {
    bus: Bus,
    sabotage: Sabotage,
    outputs: VecDeque<Output<(), Event>>,
    /// Events told of.
    told: u64,
    /// The breakers as they were told last.
    shown: Vec<BreakerView>,
    /// When it was told the time last, and what the wall clock showed.
    clocks: (Instant, Time),
    /// The latest time that the wall clock showed.
    latest: Time,
}

/// Lists the watches of the bus's properties.
#[must_use]
pub(super) fn of_bus() -> Vec<(&'static str, Make<Hub>)> {
    vec![
        ("K442", || Box::new(accounts::Accounts::default())),
        ("K443", || Box::new(circuits::Circuits::default())),
    ]
}

/// Returns the configuration of the bus: everything is short and small, and fills up.
fn config() -> BusConfig {
    let excluded = MessageType::parse("type", EXCLUDED).expect("a short name");
    let standard = BusConfig::standard();
    let breaker = BreakerConfig {
        failure_threshold: FAILURES,
        reset_timeout_ms: RESET_MS,
        excluded_types: BTreeSet::from([excluded]),
        ..standard.breaker
    };
    BusConfig {
        subscriptions_max: 16,
        queue_max: QUEUE,
        calls_max: 16,
        timeout_default_ms: TIMEOUT_MS,
        timeout_max_ms: TIMEOUT_MAX_MS,
        breaker,
        middleware: vec![Middleware { name: "stop", before: stop, after: note }],
        ..standard
    }
}

fn stop(message: &Message) -> Verdict {
    match message.payload.last() {
        Some(&STOPPED) => Verdict::Abort("stopped".to_owned()),
        Some(_) | None => Verdict::Pass,
    }
}

fn note(message: &Message, seen: Seen<'_>) -> Option<String> {
    let stopped = match seen {
        Seen::Published(result) => result.is_err(),
        Seen::Answered(_) => false,
    };
    stopped.then(|| format!("{} was stopped", message.kind))
}

impl Hub {
    fn drive(&mut self, now: Instant, wall_ms: u64, input: Asked) {
        let wall = Time::from_millis(wall_ms);
        self.clocks = (now, wall);
        self.latest = self.latest.max(wall);
        let mut events = Vec::new();
        let before = self.bus.breakers(self.latest);
        let half_open = |breaker: &BreakerView| breaker.state == BreakerState::HalfOpen;
        let time_matters = before.iter().any(half_open) || self.bus.deadline() <= self.latest;
        self.show(before.clone(), time_matters, &mut events);
        let asked = self.sabotage.before(&input);
        self.bus.handle(wall, input);
        let mut given: Vec<Given> = std::iter::from_fn(|| self.bus.poll()).collect();
        self.sabotage.after(asked, &before, &mut given);
        events.extend(given.into_iter().map(Event::Given));
        self.show(self.bus.breakers(self.latest), false, &mut events);
        if !events.is_empty() {
            let first = self.told + 1;
            self.told += events.len() as u64;
            self.outputs.push_back(Output::Events { first, events: events.into() });
        }
    }

    /// Tells of the breakers if they are not as they were, and of the time if it matters: calls
    /// that have run out are under way no longer.
    fn show(&mut self, breakers: Vec<BreakerView>, time_matters: bool, events: &mut Vec<Event>) {
        if time_matters || breakers != self.shown {
            self.shown.clone_from(&breakers);
            events.push(Event::Breakers { at: self.latest, breakers });
        }
    }
}

impl Guest for Hub {
    type Request = Asked;
    type Question = Infallible;
    type Reply = ();
    type Event = Event;
    type Kind = Option<Turn>;
    type Crowd = Talkers;
    type Turn = Turn;
    type Memory = ();

    fn kind(_: &Kept, turn: Option<Turn>) -> Option<Turn> {
        turn
    }

    fn start(turn: &Option<Turn>, now: Instant, wall_ms: u64, _: [u8; 32]) -> Self {
        let wall = Time::from_millis(wall_ms);
        let found = Recovered { record: 0, hash: None, root: None, snapshot: 0 };
        Self {
            bus: Bus::new(config()),
            sabotage: Sabotage::new(*turn),
            outputs: VecDeque::from([Output::Recovered(found)]),
            told: 0,
            shown: Vec::new(),
            clocks: (now, wall),
            latest: wall,
        }
    }

    fn memory(&self) {}

    fn remember(&mut self, (): &()) {}

    fn handle(&mut self, now: Instant, input: Input<Asked>) {
        match input {
            Input::Tick { wall_ms } => self.drive(now, wall_ms, Asked::Tick),
            Input::Call { call, wall_ms, nonce: _, request } => {
                self.drive(now, wall_ms, request);
                self.outputs.push_back(Output::Reply { call, reply: () });
            }
            Input::Answer { op, .. } => unreachable!("a bus has no disk: operation {op}"),
        }
    }

    fn inquire(&mut self, _: Instant, _: u64, _: Number, question: Infallible) {
        match question {}
    }

    fn poll(&mut self) -> Option<Output<(), Event>> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Instant {
        let (now, wall) = self.clocks;
        match self.bus.deadline() {
            Time::FAR => Instant::FAR,
            due => now + Duration::from_millis(due.since(wall)),
        }
    }

    fn appended(&self) -> u64 {
        0
    }

    fn root(&mut self) -> Option<StateRoot> {
        None
    }

    fn tells_nothing((): &()) -> bool {
        true
    }

    fn is_done((): &()) -> bool {
        true
    }

    fn unsynced_max(_: &Option<Turn>) -> u64 {
        0
    }

    fn hash_event(event: &Event, hash: &mut Digest) {
        event.hash(hash);
    }
}

/// Returns what a call of these runs says: its own number.
fn payload_of(call: CallId, stopped: bool) -> Payload {
    let mut payload = call.0.to_string().into_bytes();
    payload.extend(stopped.then_some(STOPPED));
    payload.into()
}

/// Returns the call that says this.
fn call_of(payload: &Payload) -> Option<CallId> {
    std::str::from_utf8(payload).ok()?.parse().ok().map(CallId)
}

/// Which subscription an output is about.
fn subscription_of(given: &Given) -> Option<SubscriptionNumber> {
    match given {
        Given::Deliver { subscription, .. } | Given::Ended { subscription, .. } => {
            Some(*subscription)
        }
        Given::Published { .. }
        | Given::Answered { .. }
        | Given::Bound { .. }
        | Given::Subscribed { .. }
        | Given::Invoke { .. }
        | Given::Note { .. } => None,
    }
}
