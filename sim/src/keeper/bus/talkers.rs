//! Who uses the bus: an operator, the node's own process, and users and workers with connections.
//!
//! Each caller is one of them. Some pull what waits for them often and some seldom; handlers reply,
//! fail, say nothing, reply twice or too late, and go away with what they have; callers give up.
//! A process that ends takes their connections along: they connect again and start anew.
#![expect(clippy::wildcard_enum_match_arm, reason = "a talker picks what it listens to")]

use std::collections::{BTreeMap, VecDeque};

use machines::Choices;
use machines::kernel::bus::io::{
    Ask, CallId, ConnectionId, CorrelationId, Input, Item, Output, Overflow, Replier, Subscribe,
    SubscriptionNumber,
};
use machines::kernel::bus::pattern::Pattern;
use machines::kernel::ids::{MessageType, UserId};
use machines::kernel::principal::{Principal, Role};

use super::{EXCLUDED, Event, Hub, TIMEOUT_MAX_MS, payload_of};
use crate::keeper::io::{Crowd, Heard, Work};

/// How many users there are.
const USERS: u64 = 3;
/// What is published; the last is the node's own.
const EVENTS: [&str; 5] = ["news", "news.local", "news.local.sport", "price", "lockstep.started"];
/// What is listened to.
const PATTERNS: [&str; 6] = ["news", "news.*", "news.local.*", "price", "*", "lockstep.*"];
/// Commands.
const COMMANDS: [&str; 2] = ["do.this", "do.that"];
/// Queries.
const QUERIES: [&str; 2] = ["ask.little", EXCLUDED];
/// Who is called in the node's process.
const NODE: u32 = 1;
/// The most subscriptions of one connection, and questions of one caller.
const MOST: usize = 4;
/// The most calls that a handler remembers.
const MAIL: usize = 32;

/// What one caller has.
#[derive(Clone, Debug, Default)]
struct Talker {
    connection: Option<ConnectionId>,
    subscriptions: Vec<SubscriptionNumber>,
    /// Calls that it should answer, oldest first.
    mail: VecDeque<CorrelationId>,
    /// The call that it answered last.
    answered: Option<CorrelationId>,
    /// Its questions without an answer.
    asked: Vec<CallId>,
}

/// See the file's header.
#[derive(Clone, Debug)]
pub struct Talkers {
    talkers: Vec<Talker>,
    connections: u64,
    calls: u64,
    /// Who has which connection.
    owners: BTreeMap<ConnectionId, u32>,
    /// Who asked for which subscription.
    wishes: BTreeMap<CallId, u32>,
}

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Operator,
    Node,
    User(u64),
    Worker,
}

fn kind(text: &str) -> MessageType {
    MessageType::parse("type", text).expect("a short name")
}

fn one_of<'a>(
    list: &[&'a str],
    site: &'static str,
    who: [u64; 2],
    choices: &mut Choices,
) -> &'a str {
    let nth = choices.choose(site, who, list.len() as u64);
    list[usize::try_from(nth).expect("a short list")]
}

impl Part {
    fn of(caller: u32) -> Self {
        match u64::from(caller) {
            0 => Self::Operator,
            nth if nth == u64::from(NODE) => Self::Node,
            nth if nth.is_multiple_of(4) => Self::Worker,
            nth => Self::User(nth % USERS),
        }
    }

    fn principal(self) -> Principal {
        let (name, role) = match self {
            Self::Operator => ("operator".to_owned(), Role::Operator),
            Self::Node => return Principal::node(),
            Self::User(user) => (format!("user{user}"), Role::User),
            Self::Worker => ("worker".to_owned(), Role::Worker),
        };
        Principal::new(UserId::parse("user", &name).expect("a short name"), &[role])
    }
}

impl Talkers {
    #[cfg(test)]
    pub(super) fn has_something(&self) -> bool {
        self.talkers.iter().any(|talker| !talker.mail.is_empty() || talker.connection.is_some())
    }

    fn me(&mut self, caller: u32) -> &mut Talker {
        &mut self.talkers[caller as usize]
    }

    fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// The connection of a caller; it connects if it has none.
    fn connection(&mut self, caller: u32) -> ConnectionId {
        if let Some(connection) = self.me(caller).connection {
            return connection;
        }
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.owners.insert(connection, caller);
        self.me(caller).connection = Some(connection);
        connection
    }

    fn publish(&mut self, caller: u32, choices: &mut Choices) -> Input {
        let who = [u64::from(caller), 0];
        let part = Part::of(caller);
        let call = self.call();
        let kinds = if part == Part::Node { &EVENTS[..] } else { &EVENTS[..EVENTS.len() - 1] };
        let kind = kind(one_of(kinds, "publish.type", who, choices));
        // Now and then someone asks for what it may not.
        let to_all = choices.choose("publish.all", who, 8) == 7;
        let stopped = choices.choose("publish.stopped", who, 30) == 29;
        Input::Publish {
            call,
            by: part.principal(),
            kind,
            payload: payload_of(call, stopped),
            to_all,
        }
    }

    fn ask(&mut self, caller: u32, choices: &mut Choices) -> Option<Input> {
        let who = [u64::from(caller), 1];
        if self.me(caller).asked.len() >= MOST {
            return self.give_up(caller, choices);
        }
        let call = self.call();
        self.me(caller).asked.push(call);
        let is_query = choices.choose("ask.category", who, 2) == 1;
        let kinds = if is_query { &QUERIES } else { &COMMANDS };
        let kind = kind(one_of(kinds, "ask.type", who, choices));
        let timeout = match choices.choose("ask.timeout", who, 8) {
            0..=3 => None,
            7 => Some(choices.choose("ask.wrong", who, 2) * (TIMEOUT_MAX_MS + 1)),
            _ => Some(1 + choices.choose("ask.millis", who, TIMEOUT_MAX_MS)),
        };
        let by = Part::of(caller).principal();
        let ask = Ask { call, by, kind, payload: payload_of(call, false), timeout };
        Some(if is_query { Input::Query(ask) } else { Input::Send(ask) })
    }

    fn give_up(&mut self, caller: u32, choices: &mut Choices) -> Option<Input> {
        let who = [u64::from(caller), 2];
        let asked = &mut self.me(caller).asked;
        let nth = choices.choose("give_up.which", who, asked.len().max(1) as u64);
        let nth = usize::try_from(nth).expect("a short list");
        (nth < asked.len()).then(|| Input::GiveUp(asked.remove(nth)))
    }

    fn subscribe(&mut self, caller: u32, choices: &mut Choices) -> Option<Input> {
        let who = [u64::from(caller), 3];
        if self.me(caller).subscriptions.len() >= MOST {
            return self.unsubscribe(caller, choices);
        }
        let (call, connection) = (self.call(), self.connection(caller));
        self.wishes.insert(call, caller);
        let pattern = |choices: &mut Choices| {
            let text = one_of(&PATTERNS, "subscribe.pattern", who, choices);
            Pattern::parse("types", text).expect("a short pattern")
        };
        let (mut types, mut handles) = (Vec::new(), Vec::new());
        for _ in 0..choices.choose("subscribe.patterns", who, 3) {
            types.push(pattern(choices));
        }
        if types.is_empty() || choices.choose("subscribe.handles", who, 3) == 0 {
            handles.push(kind(one_of(&COMMANDS, "subscribe.command", who, choices)));
            if choices.choose("subscribe.two", who, 2) == 1 {
                handles.push(kind(one_of(&QUERIES, "subscribe.query", who, choices)));
            }
        }
        let slow = choices.choose("subscribe.overflow", who, 3) == 2;
        let overflow = if slow { Overflow::Disconnect } else { Overflow::DropOldest };
        let by = Part::of(caller).principal();
        Some(Input::Subscribe(Subscribe { call, by, connection, types, handles, overflow }))
    }

    /// One of the subscriptions of a caller.
    fn some(&mut self, caller: u32, choices: &mut Choices) -> Option<SubscriptionNumber> {
        let who = [u64::from(caller), 4];
        let subscriptions = &self.me(caller).subscriptions;
        let nth = choices.choose("talker.subscription", who, subscriptions.len().max(1) as u64);
        subscriptions.get(usize::try_from(nth).expect("a short list")).copied()
    }

    fn unsubscribe(&mut self, caller: u32, choices: &mut Choices) -> Option<Input> {
        self.some(caller, choices).map(Input::Unsubscribe)
    }

    fn pull(&mut self, caller: u32, choices: &mut Choices) -> Option<Input> {
        let who = [u64::from(caller), 5];
        // Every third is slow, and its queues fill up.
        if caller.is_multiple_of(3) && choices.choose("pull.slow", who, 5) > 0 {
            return None;
        }
        let subscription = self.some(caller, choices)?;
        let credit = 1 + choices.choose("pull.credit", who, 4);
        Some(Input::Pull { subscription, credit: u32::try_from(credit).expect("a few") })
    }

    fn disconnect(&mut self, caller: u32) -> Option<Input> {
        let me = self.me(caller);
        let connection = me.connection.take()?;
        me.subscriptions.clear();
        // What it had to answer it answers all the same, over its next connection: too late.
        self.owners.remove(&connection);
        Some(Input::Disconnected(connection))
    }

    /// Answers a call, or not.
    fn reply(&mut self, caller: u32, choices: &mut Choices) -> Option<Input> {
        let who = [u64::from(caller), 6];
        let from = match Part::of(caller) {
            Part::Node => Replier::InProcess,
            Part::Operator | Part::User(_) | Part::Worker => {
                Replier::Connection(self.connection(caller))
            }
        };
        let fails = choices.choose("reply.fails", who, 5) >= 2;
        let me = self.me(caller);
        let correlation = match choices.choose("reply.how", who, 12) {
            10 => me.answered?,
            11 => {
                me.mail.pop_front(); // It says nothing, and the call runs out.
                return None;
            }
            9 => me.mail.pop_back()?,
            _ => me.mail.pop_front()?,
        };
        me.answered = Some(correlation);
        let result =
            if fails { Err("it did not work".to_owned()) } else { Ok([b'4', b'2'].into()) };
        Some(Input::Reply { from, correlation, result })
    }

    /// What a user or worker does.
    fn talk(&mut self, caller: u32, choices: &mut Choices) -> Option<Input> {
        let who = [u64::from(caller), 7];
        if !self.me(caller).mail.is_empty() && choices.choose("talker.answers", who, 3) < 2 {
            return self.reply(caller, choices);
        }
        match choices.choose("talker.deed", who, 32) {
            0..=9 => Some(self.publish(caller, choices)),
            10..=17 => self.ask(caller, choices),
            18..=26 => self.pull(caller, choices),
            27..=28 => self.subscribe(caller, choices),
            29 => self.unsubscribe(caller, choices),
            30 => self.give_up(caller, choices),
            _ => match choices.choose("talker.leaves", who, 4) {
                3 => self.disconnect(caller),
                _ => None,
            },
        }
    }

    /// What the node's own process does: it handles types, and does so no longer.
    fn serve(&mut self, choices: &mut Choices) -> Option<Input> {
        let who = [u64::from(NODE), 0];
        if !self.me(NODE).mail.is_empty() && choices.choose("talker.answers", who, 4) < 3 {
            return self.reply(NODE, choices);
        }
        match choices.choose("node.deed", who, 16) {
            0..=8 => Some(self.publish(NODE, choices)),
            9..=10 => {
                let all = [COMMANDS, QUERIES].concat();
                let kind = kind(one_of(&all, "node.binds", who, choices));
                Some(Input::Bind { call: self.call(), kind })
            }
            11 => {
                let all = [COMMANDS, QUERIES].concat();
                Some(Input::Unbind(kind(one_of(&all, "node.unbinds", who, choices))))
            }
            12..=13 => self.ask(NODE, choices),
            _ => None,
        }
    }

    /// What the operator does.
    fn operate(&mut self, choices: &mut Choices) -> Option<Input> {
        let who = [0, 0];
        match choices.choose("operator.deed", who, 64) {
            60..=61 => {
                let kind =
                    kind(one_of(&[COMMANDS, QUERIES].concat(), "operator.kind", who, choices));
                Some(Input::ResetBreaker(Some(kind)))
            }
            62 => Some(Input::ResetBreaker(None)),
            63 => match choices.choose("operator.clears", who, 4) {
                3 => Some(Input::Clear),
                _ => None,
            },
            _ => self.talk(0, choices),
        }
    }

    /// Follows what a connection gets.
    fn follow(&mut self, given: &Output) {
        match given {
            Output::Deliver { connection, item, .. } => {
                if let (Some(owner), Item::Message { correlation: Some(call), .. }) =
                    (self.owners.get(connection).copied(), item)
                {
                    self.me(owner).mail.push_back(*call);
                }
            }
            Output::Subscribed { call, result } => {
                if let (Some(owner), Ok(id)) = (self.wishes.remove(call), result) {
                    self.me(owner).subscriptions.push(*id);
                }
            }
            Output::Invoke { correlation, .. } => self.me(NODE).mail.push_back(*correlation),
            Output::Ended { connection, subscription, .. } => {
                if let Some(owner) = self.owners.get(connection).copied() {
                    self.me(owner).subscriptions.retain(|one| one != subscription);
                }
            }
            Output::Answered { call, .. } => {
                for talker in &mut self.talkers {
                    talker.asked.retain(|asked| asked != call);
                }
            }
            _ => {}
        }
    }
}

impl Crowd<Hub> for Talkers {
    fn new(work: &Work) -> Self {
        // The operator and the node are always there to be called.
        let callers = (work.callers as usize).max(2);
        let talkers = vec![Talker::default(); callers];
        let (owners, wishes) = (BTreeMap::new(), BTreeMap::new());
        Self { talkers, connections: 0, calls: 0, owners, wishes }
    }

    fn next(&mut self, caller: u32, _: u64, choices: &mut Choices) -> Option<Input> {
        let me = self.me(caller);
        while me.mail.len() > MAIL {
            me.mail.pop_front();
        }
        match Part::of(caller) {
            Part::Operator => self.operate(choices),
            Part::Node => self.serve(choices),
            Part::User(_) | Part::Worker => self.talk(caller, choices),
        }
    }

    fn heard(&mut self, _: u32, _: &Input, heard: Heard<'_, ()>) {
        match heard {
            Heard::Reply(()) | Heard::Nothing => {} // Whatever there is to hear comes by itself.
        }
    }

    fn saw(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Given(given) => self.follow(given),
                Event::Breakers { .. } => {}
            }
        }
    }

    fn lost(&mut self) {
        self.owners.clear();
        self.wishes.clear();
        for talker in &mut self.talkers {
            *talker = Talker::default();
        }
    }
}
