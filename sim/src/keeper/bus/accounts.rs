//! K442: what each subscription got, and the gaps, are its messages from 1 to n, each in its place.
//!
//! Beside the numbers, the checker knows from the calls which events were meant for whom (K301,
//! K302), and holds the items against them: a message that is in no item and in no gap was lost.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use machines::kernel::bus::io::{
    CallId, Category, Cause, Gap, Input, Item, Message, Output, Payload, Receipt, Subscribe,
    SubscriptionNumber,
};
use machines::kernel::ids::MessageType;
use machines::kernel::principal::{Principal, Role};

use super::{Event, Hub, call_of};
use crate::keeper::{Seen, Watch, World};

/// An event that waits for its receipt.
#[derive(Clone, Debug)]
struct Published {
    by: Principal,
    kind: MessageType,
    payload: Payload,
    to_all: bool,
}

/// What a subscription was told, and what it is due.
#[derive(Clone, Debug)]
struct Account {
    wish: Subscribe,
    /// The number that comes next.
    next: u64,
    /// How many items it has asked for and not got.
    credit: u64,
    /// Events that it has not got: number on the bus and payload, oldest first.
    due: VecDeque<(u64, Payload)>,
    /// How many events were meant for it.
    events: u64,
    /// How many calls can have been meant for it.
    calls: u64,
    /// How many numbers were in gaps since the last event that it got.
    lost: u64,
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Accounts {
    open: BTreeMap<SubscriptionNumber, Account>,
    wishes: BTreeMap<CallId, Subscribe>,
    published: BTreeMap<CallId, Published>,
    /// Commands and queries that are not answered, and that no handler has got.
    asked: BTreeSet<CallId>,
    /// The number of the last message that was told.
    seq: u64,
}

impl Watch<Hub> for Accounts {
    fn property(&self) -> &'static str {
        "K442"
    }

    fn see(&mut self, _: &World<Hub>, seen: &Seen<'_, Hub>) -> Result<bool, String> {
        match seen {
            Seen::Called(_, request) => self.called(request),
            Seen::Events(_, events) => return self.look(events),
            Seen::Died { .. } => *self = Self::default(), // It is empty after a start (K300).
            _ => {}
        }
        Ok(false)
    }
}

impl Accounts {
    pub(super) fn called(&mut self, request: &Input) {
        match request {
            Input::Publish { call, by, kind, payload, to_all } => {
                let (by, kind, payload) = (by.clone(), kind.clone(), payload.clone());
                let published = Published { by, kind, payload, to_all: *to_all };
                self.published.insert(*call, published);
            }
            Input::Subscribe(wish) => {
                self.wishes.insert(wish.call, wish.clone());
            }
            Input::Send(ask) | Input::Query(ask) => {
                self.asked.insert(ask.call);
                for account in self.open.values_mut() {
                    account.calls += u64::from(account.wish.handles.contains(&ask.kind));
                }
            }
            Input::Pull { subscription, credit } => {
                if let Some(account) = self.open.get_mut(subscription) {
                    account.credit += u64::from(*credit);
                }
            }
            _ => {}
        }
    }

    /// Looks at all that came of one input.
    pub(super) fn look(&mut self, events: &[Event]) -> Result<bool, String> {
        let given = || {
            events.iter().filter_map(|event| match event {
                Event::Given(given) => Some(given),
                Event::Breakers { .. } => None,
            })
        };
        for given in given() {
            if let Output::Published { call, result } = given
                && let Some(published) = self.published.remove(call)
                && let Ok(receipt) = result
            {
                self.owe(&published, *receipt, events)?;
            }
        }
        let mut looked = false;
        for given in given() {
            looked |= self.see_one(given)?;
        }
        Ok(looked)
    }

    /// An event was taken: everyone for whom it is meant is due it.
    fn owe(
        &mut self,
        published: &Published,
        receipt: Receipt,
        events: &[Event],
    ) -> Result<(), String> {
        if receipt.seq <= self.seq {
            return Err(format!("{} is the number of an event after {}", receipt.seq, self.seq));
        }
        self.seq = receipt.seq;
        let mut listeners = 0_u32;
        for (id, account) in &mut self.open {
            if account.wish.hears(published) {
                account.due.push_back((receipt.seq, published.payload.clone()));
                account.events += 1;
                listeners += u32::from(!is_ended(*id, events));
            }
        }
        match receipt.delivered == listeners {
            true => Ok(()),
            false => {
                let told = receipt.delivered;
                Err(format!("{told} were told to have {}, and {listeners} have it", receipt.seq))
            }
        }
    }

    fn see_one(&mut self, given: &Output) -> Result<bool, String> {
        match given {
            Output::Subscribed { call, result } => {
                let wish = self.wishes.remove(call);
                if let (Some(wish), Ok(id)) = (wish, result) {
                    self.open.insert(*id, Account::new(wish));
                }
                Ok(false)
            }
            Output::Deliver { subscription, item, connection } => {
                let account = self.open.get_mut(subscription);
                let account = account.ok_or_else(|| format!("{subscription} is not open"))?;
                if account.wish.connection != *connection {
                    return Err(format!("{subscription} is not of connection {}", connection.0));
                }
                let call = account.get(item).map_err(|why| of(*subscription, &why))?;
                if let Some(call) = call
                    && !self.asked.remove(&call)
                {
                    return Err(format!("{subscription}: call {} is over, or comes twice", call.0));
                }
                Ok(matches!(item, Item::Gap(_)))
            }
            Output::Ended { subscription, gap, .. } => {
                let account = self.open.remove(subscription);
                let account = account.ok_or_else(|| format!("{subscription} ended twice"))?;
                account.close(*gap).map_err(|why| of(*subscription, &why))?;
                Ok(true)
            }
            Output::Answered { call, .. } => {
                self.asked.remove(call);
                Ok(false)
            }
            _ => Ok(false),
        }
    }
}

fn of(subscription: SubscriptionNumber, why: &str) -> String {
    format!("{subscription}: {why}")
}

/// Tells whether a subscription ends among `events` because it is slow.
fn is_ended(id: SubscriptionNumber, events: &[Event]) -> bool {
    events.iter().any(|event| match event {
        Event::Given(Output::Ended { subscription, cause: Cause::SlowSubscriber, .. }) => {
            *subscription == id
        }
        _ => false,
    })
}

/// Who hears what, written out: not by the code that is tested.
trait Hears {
    fn hears(&self, published: &Published) -> bool;
}

impl Hears for Subscribe {
    fn hears(&self, published: &Published) -> bool {
        let of = published.kind.as_str();
        let named = self.types.iter().any(|pattern| match pattern.to_string().as_str() {
            "*" => true,
            text => match text.strip_suffix('*') {
                Some(prefix) => of.starts_with(prefix),
                None => of == text,
            },
        });
        let roles = [Role::Worker, Role::Operator, Role::Node];
        let all = roles.into_iter().any(|role| self.by.roles.has(role));
        named && (published.to_all || all || self.by.user == published.by.user)
    }
}

impl Account {
    const fn new(wish: Subscribe) -> Self {
        let due = VecDeque::new();
        Self { wish, next: 1, credit: 0, due, events: 0, calls: 0, lost: 0 }
    }

    /// Notes numbers that come next.
    fn account(&mut self, from: u64, to: u64) -> Result<(), String> {
        if from != self.next || to < from {
            return Err(format!("it was told {from} to {to} when {} was due", self.next));
        }
        self.next = to + 1;
        Ok(())
    }

    /// Notes an item; returns the call that it is.
    fn get(&mut self, item: &Item) -> Result<Option<CallId>, String> {
        let left = self.credit.checked_sub(1);
        self.credit = left.ok_or("it got more than it can take")?;
        match item {
            Item::Gap(gap) => {
                self.account(gap.from, gap.to)?;
                self.lost += gap.to + 1 - gap.from;
                Ok(None)
            }
            Item::Message { number, message, correlation } => {
                self.account(*number, *number)?;
                match (message.category, correlation) {
                    (Category::Event, None) => self.get_event(message).map(|()| None),
                    (Category::Command | Category::Query, Some(_)) => {
                        let call = call_of(&message.payload).ok_or("it got what nobody asked")?;
                        match self.wish.handles.contains(&message.kind) {
                            true => Ok(Some(call)),
                            false => Err(format!("it handles no {}", message.kind)),
                        }
                    }
                    (category, _) => Err(format!("it got a {category} that is none")),
                }
            }
        }
    }

    /// Finds an event among those due: what is before it must have been in a gap.
    fn get_event(&mut self, message: &Message) -> Result<(), String> {
        let place = self.due.iter().position(|(seq, _)| *seq == message.seq);
        let Some(place) = place else {
            return Err(format!("it got event {}, which is not due", message.seq));
        };
        let skipped = self.due.drain(..place).len() as u64;
        if skipped > self.lost {
            return Err(format!("{skipped} events are lost, and gaps tell of {}", self.lost));
        }
        self.lost = 0;
        match self.due.pop_front() {
            Some((_, payload)) if payload == message.payload => Ok(()),
            _ => Err(format!("event {} is not what was published", message.seq)),
        }
    }

    /// It has ended: with this gap, all is accounted for.
    fn close(mut self, gap: Option<Gap>) -> Result<(), String> {
        if let Some(gap) = gap {
            self.account(gap.from, gap.to)?;
            self.lost += gap.to + 1 - gap.from;
        }
        let (n, left) = (self.next - 1, self.due.len() as u64);
        if left > self.lost {
            return Err(format!("{left} events are lost, and gaps tell of {}", self.lost));
        }
        let most = self.events + self.calls;
        match (self.events..=most).contains(&n) {
            true => Ok(()),
            false => Err(format!("it has {n} numbers for {} to {most} messages", self.events)),
        }
    }
}
