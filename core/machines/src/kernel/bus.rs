//! The bus: events to subscribers, commands and queries to one handler each (K300–K309).
//!
//! A subscription, and a call:
//!
//! ```text
//!              Subscribe                 Unsubscribe, Disconnected, Clear, or a full queue
//!   (nothing) ──────────► subscribed ────────────────────────────────────────────► (nothing)
//!
//!                 Send, Query            Pull               Reply → its answer
//!   (nothing) ──┬───────────────► queued ────► handed ──┬─ time is up → query_timeout ─► (nothing)
//!               │                   └───────────────────┴─ handler goes → handler_lost
//!               └─ no handler, breaker open, middleware: refused at once
//! ```
//!
//! The machine is volatile: it is empty after a start, and delivery is at most once (K300). A
//! connection says how many items it can take ([`Input::Pull`]); what it cannot take waits in the
//! bounded queue of its subscription, numbered, and what that loses leaves a gap (K306). Delivered
//! numbers, gaps and the gap of [`Output::Ended`] are 1 … n, each once, in order (K442).
//!
//! A handler's calls come through its subscription's queue and have numbers there, too. A call
//! that the queue loses fails at once, `handler_lost`. One that has ended before it was handed out
//! is not handed out any more: a gap is in its place. When a breaker opens, the calls of its type
//! that still wait in a queue are refused `circuit_open`, so that no handler is called (K443).
//!
//! Who may hear what (K302) holds for handlers, too: a caller who may not reach the handler finds
//! none. Operators and the node reach every handler, and workers' and operators' handlers hear
//! everyone.
//!
//! # Known limits
//!
//! Queues are bounded in messages, not in bytes; a payload that many subscribers wait for is held
//! once. A reply that is too large is the handler's own error, and its caller is told so.

mod breaker;
mod calls;
mod config;
pub mod io;
pub mod middleware;
pub mod pattern;
#[cfg(test)]
mod props;
mod refusal;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;

pub use breaker::{BreakerState, BreakerView};
use breaker::{Breakers, Outcome};
use calls::{Call, Calls, Handler};
pub use config::{BreakerConfig, BusConfig, BusRules};
use io::{
    Answer, Ask, Category, Cause, CorrelationId, Gap, Input, Item, Message, Output, Payload,
    Receipt, Replier, Subscribe, SubscriptionNumber,
};
use middleware::{Seen, Verdict};
use refusal::Reason;
use subscriptions::{Pushed, Subscriptions};

use super::ids::{MessageType, UserId};
use super::principal::Principal;
use super::refusal::Refusal;
use super::time::{Millis, Time};

/// What the bus has counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BusCounters {
    /// Events taken.
    pub published: u64,
    /// Commands and queries that went to a handler.
    pub called: u64,
    /// Events that subscriptions got or have in their queue, once for each.
    pub delivered: u64,
    /// Messages that full queues lost.
    pub dropped: u64,
    /// Replies that were late, repeated or to nothing (K305).
    pub replies_dropped: u64,
    /// Calls whose time was up.
    pub timed_out: u64,
    /// Calls whose handler went.
    pub handlers_lost: u64,
}

/// How a call ends.
#[derive(Clone, Debug)]
enum End {
    /// By its handler.
    Replied(Result<Payload, String>),
    /// By time.
    TimedOut,
    /// By its handler's going.
    Lost,
    /// By the breaker, which opened while it waited in the queue and stays open so long.
    Withdrawn(Millis),
}

/// The bus of one node.
#[derive(Clone, Debug)]
pub struct Bus {
    config: BusConfig,
    now: Time,
    /// The number of the last message.
    seq: u64,
    subscriptions: Subscriptions,
    /// Whom the last event was for: room for those of the next.
    listening: Vec<usize>,
    handlers: BTreeMap<MessageType, Handler>,
    /// How many handlers are in process.
    bound: u32,
    calls: Calls,
    breakers: Breakers,
    outputs: VecDeque<Output>,
    counters: BusCounters,
}

impl Bus {
    /// Makes an empty bus.
    ///
    /// # Panics
    ///
    /// If `config` contradicts itself: a queue for nothing, a usual timeout that is not allowed.
    #[must_use]
    pub fn new(config: BusConfig) -> Self {
        config.assert_sound();
        Self {
            now: Time::ZERO,
            seq: 0,
            subscriptions: Subscriptions::new(),
            listening: Vec::new(),
            handlers: BTreeMap::new(),
            bound: 0,
            calls: Calls::new(),
            breakers: Breakers::new(config.breaker.clone()),
            outputs: VecDeque::new(),
            counters: BusCounters::default(),
            config,
        }
    }

    /// Lets time pass up to `now`, then applies `input`. A clock that jumps backwards makes time
    /// stand still (K7).
    pub fn handle(&mut self, now: Time, input: Input) {
        debug_assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        self.now = self.now.max(now);
        while let Some((at, correlation)) = self.calls.due(self.now) {
            self.counters.timed_out += 1;
            self.finish(at, correlation, End::TimedOut);
        }
        match input {
            Input::Tick => {}
            Input::Publish { call, by, kind, payload, to_all } => {
                let result = self.publish(by, kind, payload, to_all);
                self.outputs.push_back(Output::Published { call, result });
            }
            Input::Send(ask) => self.ask(Category::Command, ask),
            Input::Query(ask) => self.ask(Category::Query, ask),
            Input::GiveUp(call) => self.calls.give_up(call),
            Input::Reply { from, correlation, result } => self.replied(from, correlation, result),
            Input::Bind { call, kind } => {
                let result = self.bind(kind);
                self.outputs.push_back(Output::Bound { call, result });
            }
            Input::Unbind(kind) => self.unbind(&kind),
            Input::Subscribe(wish) => {
                let call = wish.call;
                let result = self.subscribe(wish);
                self.outputs.push_back(Output::Subscribed { call, result });
            }
            Input::Unsubscribe(subscription) => self.end(subscription, Cause::Unsubscribed),
            Input::Disconnected(connection) => {
                for subscription in self.subscriptions.of(Some(connection)) {
                    self.end(subscription, Cause::Disconnected);
                }
            }
            Input::Pull { subscription, credit } => self.pull(subscription, credit),
            Input::ResetBreaker(kind) => {
                self.breakers.reset(self.now, kind.as_ref(), self.calls.next());
            }
            Input::Clear => self.clear(),
        }
    }

    /// Takes the next thing to do. Call until it returns `None` after every `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle` at the latest.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.calls.deadline()
    }

    /// Tells whether someone handles `kind` (K309).
    #[must_use]
    pub fn has_handler(&self, kind: &MessageType) -> bool {
        self.handlers.contains_key(kind)
    }

    /// Lists the subscriptions that listen to events of `kind`: to operators all, to others their
    /// own (K309).
    #[must_use]
    pub fn subscribers(&self, by: &Principal, kind: &MessageType) -> Vec<SubscriptionNumber> {
        let mut places = Vec::new();
        self.subscriptions.listening(kind, &mut places);
        let mine = places.into_iter().filter_map(|place| {
            let subscription = self.subscriptions.look(place)?;
            let shown = by.reaches_all() || by.user == subscription.wish.by.user;
            shown.then_some(subscription.id)
        });
        let mut found: Vec<SubscriptionNumber> = mine.collect();
        found.sort_unstable();
        found
    }

    /// Lists the types that have a handler or a subscription of just that type (K309).
    #[must_use]
    pub fn registered_types(&self) -> Vec<MessageType> {
        let handled = self.handlers.keys();
        let all: BTreeSet<&MessageType> = handled.chain(self.subscriptions.exact_types()).collect();
        all.into_iter().cloned().collect()
    }

    /// Lists the breakers of the types that have failed, as they are at `now` (K308). The breaker
    /// of any other type is closed. The driver lets only operators ask (K370).
    #[must_use]
    pub fn breakers(&self, now: Time) -> Vec<BreakerView> {
        self.breakers.view(now.max(self.now))
    }

    /// Returns what was counted.
    #[must_use]
    pub const fn counters(&self) -> &BusCounters {
        &self.counters
    }

    /// Lists the tables, how large each is, and how large it may be.
    #[must_use]
    pub fn within(&self) -> [(&'static str, usize, usize); 4] {
        let config = &self.config;
        [
            ("subscriptions", self.subscriptions.len(), config.subscriptions_max as usize),
            ("calls under way", self.calls.len(), config.calls_max as usize),
            ("breakers", self.breakers.table.len(), config.breaker.breakers_max as usize),
            ("types handled in process", self.bound as usize, config.bound_max as usize),
        ]
    }

    /// Returns how many failures no breaker counted, because there were too many breakers.
    #[must_use]
    pub const fn failures_uncounted(&self) -> u64 {
        self.breakers.uncounted()
    }

    // Events.

    fn publish(
        &mut self,
        by: Principal,
        kind: MessageType,
        payload: Payload,
        to_all: bool,
    ) -> Result<Receipt, Refusal> {
        self.check_message(Category::Event, &by, &kind, &payload)?;
        if to_all && !by.reaches_all() {
            return Err(Reason::NotOperator.into());
        }
        let category = Category::Event;
        let mut message = self.message(category, by.user, kind, payload, to_all);
        let (ran, passed) = self.before(&mut message);
        let message = Arc::new(message);
        let result = passed.map(|()| self.spread(&message));
        self.after(ran, &message, Seen::Published(&result));
        result
    }

    /// Queues an event for everyone whom it is meant for (K302, K303).
    fn spread(&mut self, message: &Arc<Message>) -> Receipt {
        self.seq = message.seq;
        let mut receipt = Receipt { seq: message.seq, delivered: 0, dropped: 0 };
        let mut listening = mem::take(&mut self.listening);
        self.subscriptions.listening(&message.kind, &mut listening);
        for place in listening.iter().copied() {
            let listener = self.subscriptions.at(place);
            let Some(listener) = listener.filter(|listener| listener.sees(message)) else {
                continue;
            };
            let id = listener.id;
            let pushed = listener.push(Arc::clone(message), None, self.config.queue_max);
            if let Pushed::Kept | Pushed::Lost(_) = pushed {
                receipt.delivered += 1;
            }
            receipt.dropped += self.pushed(id, pushed);
            self.flush(place);
        }
        self.listening = listening;
        self.counters.published += 1;
        self.counters.delivered += u64::from(receipt.delivered);
        receipt
    }

    /// Draws the consequences of a push, and returns how many messages were lost by it.
    fn pushed(&mut self, id: SubscriptionNumber, pushed: Pushed) -> u32 {
        let lost = match pushed {
            Pushed::Kept => 0,
            Pushed::Lost(call) => {
                if let Some(call) = call {
                    self.lose(call);
                }
                1
            }
            Pushed::Refused(lost) => {
                self.end(id, Cause::SlowSubscriber);
                lost
            }
        };
        self.counters.dropped += u64::from(lost);
        lost
    }

    /// Gives a subscription what its connection can take.
    fn flush(&mut self, place: usize) {
        while let Some(subscription) = self.subscriptions.at(place)
            && let Some(item) = subscription.next()
        {
            let (connection, id) = (subscription.connection, subscription.id);
            let item = match item {
                // A call that has ended meanwhile is not made.
                Item::Message { number, correlation: Some(correlation), .. }
                    if !self.calls.hand(correlation) =>
                {
                    Item::Gap(Gap { from: number, to: number })
                }
                Item::Message { .. } | Item::Gap(_) => item,
            };
            self.outputs.push_back(Output::Deliver { connection, subscription: id, item });
        }
    }

    fn pull(&mut self, subscription: SubscriptionNumber, credit: u32) {
        let Some(place) = self.subscriptions.place(subscription) else {
            return; // It has ended meanwhile.
        };
        if let Some(subscription) = self.subscriptions.at(place) {
            subscription.credit = subscription.credit.saturating_add(credit);
        }
        self.flush(place);
    }

    // Commands and queries.

    fn ask(&mut self, category: Category, ask: Ask) {
        let Ask { call, by, kind, payload, timeout } = ask;
        let timeout = timeout.unwrap_or(self.config.timeout_default_ms);
        let sound = self.check_message(category, &by, &kind, &payload);
        let sound = sound.and_then(|()| self.check_timeout(timeout));
        if let Err(refusal) = sound {
            return self.outputs.push_back(Output::Answered { call, result: Err(refusal) });
        }
        let reaches_all = by.reaches_all();
        let mut message = self.message(category, by.user, kind, payload, reaches_all);
        let (ran, passed) = self.before(&mut message);
        match passed.and_then(|()| self.route(&message)) {
            Ok(handler) => {
                let until = self.now.plus(timeout);
                let message = Arc::new(message);
                let call = Some(call);
                self.begin(Call { call, message, handler, handed: false, timeout, until });
            }
            Err(refusal) => {
                let result = Err(refusal);
                self.after(ran, &message, Seen::Answered(&result));
                self.outputs.push_back(Output::Answered { call, result });
            }
        }
    }

    /// Finds the handler of `message`, if it may be called now.
    fn route(&mut self, message: &Message) -> Result<Handler, Refusal> {
        let kind = &message.kind;
        let visible = |handler: &Handler| match handler {
            Handler::InProcess => true,
            Handler::Subscription(id) => {
                self.subscriptions.find(*id).is_some_and(|handler| handler.sees(message))
            }
        };
        let handler = self.handlers.get(kind).copied().filter(visible);
        let handler = handler.ok_or_else(|| Reason::NoHandler(kind.clone()))?;
        let most = self.config.calls_max;
        if self.calls.len() >= most as usize {
            return Err(Reason::Overloaded { most }.into());
        }
        let under_way = self.calls.has_any(kind);
        let admitted = self.breakers.admit(self.now, kind, self.calls.next(), under_way);
        let at = self.now;
        admitted.map_err(|left| Reason::CircuitOpen { kind: kind.clone(), left, at })?;
        Ok(handler)
    }

    fn begin(&mut self, call: Call) {
        let (message, handler, until) = (Arc::clone(&call.message), call.handler, call.until);
        self.seq = message.seq;
        self.counters.called += 1;
        let correlation = self.calls.begin(call);
        match handler {
            Handler::InProcess => {
                self.calls.hand(correlation);
                self.outputs.push_back(Output::Invoke { correlation, message, until });
            }
            Handler::Subscription(id) => {
                let place = self.subscriptions.place(id).expect("handlers go with subscriptions");
                let queue_max = self.config.queue_max;
                let subscription = self.subscriptions.at(place);
                let subscription = subscription.expect("a place of the index is taken");
                let pushed = subscription.push(message, Some(correlation), queue_max);
                self.pushed(id, pushed);
                self.flush(place);
            }
        }
    }

    fn replied(
        &mut self,
        from: Replier,
        correlation: CorrelationId,
        result: Result<Payload, String>,
    ) {
        let call = self.calls.find(correlation).filter(|call| call.handed);
        let due = call.is_some_and(|call| match (call.handler, from) {
            (Handler::InProcess, Replier::InProcess) => true,
            (Handler::Subscription(id), Replier::Connection(connection)) => {
                self.subscriptions.find(id).is_some_and(|s| s.connection == connection)
            }
            (Handler::InProcess, Replier::Connection(_))
            | (Handler::Subscription(_), Replier::InProcess) => false,
        });
        if !due {
            self.counters.replies_dropped += 1;
            return;
        }
        let (config, refusal) = (&self.config, |field, bytes, most| {
            Err(Reason::TooLarge { field, bytes, most }.to_string())
        });
        let result = match result {
            Ok(payload) if payload.len() > config.payload_bytes_max as usize => {
                refusal("payload_json", payload.len(), config.payload_bytes_max)
            }
            Err(error) if error.len() > config.error_bytes_max as usize => {
                refusal("error", error.len(), config.error_bytes_max)
            }
            Ok(_) | Err(_) => result,
        };
        self.finish(self.now, correlation, End::Replied(result));
    }

    /// A call cannot be answered any more: its place in the queue is gone. One that has ended
    /// before, and left its place behind, has been counted.
    fn lose(&mut self, correlation: CorrelationId) {
        self.counters.handlers_lost += u64::from(self.calls.find(correlation).is_some());
        self.finish(self.now, correlation, End::Lost);
    }

    /// Ends a call at `at`, which is its deadline or now.
    fn finish(&mut self, at: Time, correlation: CorrelationId, end: End) {
        if let Some(call) = self.calls.end(correlation) {
            self.conclude(at, correlation, call, end);
        }
    }

    /// Tells of the end of a call: its breaker, the middleware, its caller.
    fn conclude(&mut self, at: Time, correlation: CorrelationId, call: Call, end: End) {
        let Call { call, message, timeout, .. } = call;
        let kind = message.kind.clone();
        let success = match &end {
            End::Replied(result) => Some(result.is_ok()),
            End::TimedOut | End::Lost => Some(false),
            End::Withdrawn(_) => None,
        };
        let result = match end {
            End::Replied(Ok(data)) => {
                let data = (message.category == Category::Query).then_some(data);
                Ok(Answer::Success(data))
            }
            End::Replied(Err(error)) => Ok(Answer::Failure(error)),
            End::TimedOut => {
                let (category, kind) = (message.category, kind.clone());
                Err(Reason::TimedOut { category, kind, after: timeout }.into())
            }
            End::Lost => Err(Reason::HandlerLost(kind.clone()).into()),
            End::Withdrawn(left) => {
                Err(Reason::CircuitOpen { kind: kind.clone(), left: Some(left), at }.into())
            }
        };
        self.after(self.config.middleware.len(), &message, Seen::Answered(&result));
        if let Some(call) = call {
            self.outputs.push_back(Output::Answered { call, result });
        }
        if let Some(success) = success {
            let outcome = Outcome { at, correlation, success, next: self.calls.next() };
            if let Some(until) = self.breakers.settle(&kind, outcome) {
                self.withdraw(at, &kind, until.since(at));
            }
        }
    }

    /// Refuses the calls that wait for a handler whose breaker has opened.
    fn withdraw(&mut self, at: Time, kind: &MessageType, left: Millis) {
        for correlation in self.calls.queued(kind) {
            self.finish(at, correlation, End::Withdrawn(left));
        }
    }

    // Handlers and subscriptions.

    fn bind(&mut self, kind: MessageType) -> Result<(), Refusal> {
        self.check_name("type", kind.as_str().len())?;
        if self.handlers.contains_key(&kind) {
            return Err(Reason::HandlerExists(kind).into());
        }
        let most = self.config.bound_max;
        if self.bound >= most {
            let count = self.bound as usize + 1;
            return Err(Reason::TooMany { field: "handlers", count, most }.into());
        }
        self.bound += 1;
        self.handlers.insert(kind, Handler::InProcess);
        Ok(())
    }

    fn unbind(&mut self, kind: &MessageType) {
        match self.handlers.get(kind) {
            Some(Handler::InProcess) => {
                self.bound -= 1;
                self.forget_handlers([kind]);
            }
            Some(Handler::Subscription(_)) | None => {}
        }
    }

    fn subscribe(&mut self, wish: Subscribe) -> Result<SubscriptionNumber, Refusal> {
        if wish.types.is_empty() && wish.handles.is_empty() {
            return Err(Reason::Required { field: "types or handles" }.into());
        }
        for (field, count) in [("types", wish.types.len()), ("handles", wish.handles.len())] {
            check_count(field, count, self.config.types_max)?;
        }
        for pattern in &wish.types {
            self.check_name("types", pattern.bytes())?;
        }
        for kind in &wish.handles {
            self.check_name("handles", kind.as_str().len())?;
        }
        if !wish.by.is_node() && wish.handles.iter().any(MessageType::is_reserved) {
            return Err(Reason::Reserved { field: "handles" }.into());
        }
        let taken = wish.handles.iter().find(|kind| self.handlers.contains_key(*kind));
        if let Some(kind) = taken {
            return Err(Reason::HandlerExists(kind.clone()).into());
        }
        let most = self.config.subscriptions_max;
        check_count("subscriptions", self.subscriptions.len() + 1, most)?;
        let handles = wish.handles.clone();
        let id = self.subscriptions.add(wish);
        let handler = Handler::Subscription(id);
        self.handlers.extend(handles.into_iter().map(|kind| (kind, handler)));
        Ok(id)
    }

    /// Ends a subscription, if it has not ended, with what depends on it.
    fn end(&mut self, id: SubscriptionNumber, cause: Cause) {
        let Some(subscription) = self.subscriptions.remove(id) else {
            return;
        };
        let (connection, gap) = (subscription.connection, subscription.rest());
        self.outputs.push_back(Output::Ended { connection, subscription: id, cause, gap });
        self.forget_handlers(&subscription.wish.handles);
    }

    /// Types are handled no longer: their calls fail, all of them as lost (K305).
    fn forget_handlers<'a>(&mut self, kinds: impl IntoIterator<Item = &'a MessageType>) {
        let mut lost = Vec::new();
        for kind in kinds {
            self.handlers.remove(kind);
            for correlation in self.calls.of(kind) {
                lost.extend(self.calls.end(correlation).map(|call| (correlation, call)));
            }
        }
        for (correlation, call) in lost {
            self.counters.handlers_lost += 1;
            self.conclude(self.now, correlation, call, End::Lost);
        }
    }

    fn clear(&mut self) {
        for subscription in self.subscriptions.of(None) {
            self.end(subscription, Cause::Cleared);
        }
        let bound: Vec<MessageType> = self.handlers.keys().cloned().collect();
        for kind in &bound {
            self.unbind(kind);
        }
        self.breakers.clear();
    }

    // What every message passes.

    fn check_message(
        &self,
        category: Category,
        by: &Principal,
        kind: &MessageType,
        payload: &Payload,
    ) -> Result<(), Refusal> {
        if kind.is_reserved() && !by.is_node() {
            return Err(Reason::Reserved { field: category.field() }.into());
        }
        self.check_name(category.field(), kind.as_str().len())?;
        self.check_payload(payload)
    }

    fn check_name(&self, field: &'static str, bytes: usize) -> Result<(), Refusal> {
        let most = self.config.name_bytes_max;
        match bytes <= most as usize {
            true => Ok(()),
            false => Err(Reason::LongName { field, bytes, most }.into()),
        }
    }

    fn check_payload(&self, payload: &Payload) -> Result<(), Refusal> {
        let (bytes, most) = (payload.len(), self.config.payload_bytes_max);
        match bytes <= most as usize {
            true => Ok(()),
            false => Err(Reason::TooLarge { field: "payload_json", bytes, most }.into()),
        }
    }

    fn check_timeout(&self, millis: Millis) -> Result<(), Refusal> {
        let most = self.config.timeout_max_ms;
        match (1..=most).contains(&millis) {
            true => Ok(()),
            false => Err(Reason::BadTimeout { millis, most }.into()),
        }
    }

    /// Makes the next message. Its number is taken when it is queued.
    fn message(
        &self,
        category: Category,
        by: UserId,
        kind: MessageType,
        payload: Payload,
        to_all: bool,
    ) -> Message {
        Message { seq: self.seq + 1, category, kind, payload, by, to_all, at: self.now }
    }

    /// Runs the middleware until one stops the message; returns how many ran (K307).
    fn before(&self, message: &mut Message) -> (usize, Result<(), Refusal>) {
        for (nth, middleware) in self.config.middleware.iter().enumerate() {
            let stopped = match (middleware.before)(message) {
                Verdict::Pass => Ok(()),
                Verdict::Change(payload) => {
                    message.payload = payload;
                    self.check_payload(&message.payload)
                }
                Verdict::Abort(text) => Err(Reason::Aborted(text).into()),
                Verdict::Fail(text) => Err(Reason::Failed(text).into()),
            };
            if stopped.is_err() {
                return (nth + 1, stopped);
            }
        }
        (self.config.middleware.len(), Ok(()))
    }

    /// Shows the result to the middleware that ran, the last one first (K307).
    fn after(&mut self, ran: usize, message: &Message, seen: Seen<'_>) {
        for middleware in self.config.middleware[..ran].iter().rev() {
            if let Some(text) = (middleware.after)(message, seen) {
                self.outputs.push_back(Output::Note { middleware: middleware.name, text });
            }
        }
    }
}

fn check_count(field: &'static str, count: usize, most: u32) -> Result<(), Refusal> {
    match count <= most as usize {
        true => Ok(()),
        false => Err(Reason::TooMany { field, count, most }.into()),
    }
}
