//! The subscriptions: who listens to what, and the queue of each (K302, K306, K309).
//!
//! A queue, its gap and its numbers:
//!
//! ```text
//!     delivered          gap           queue               not numbered yet
//!   1 ……………… from − 1 | from … to | to + 1 … numbered |
//! ```
//!
//! The gap is always at the head: what a full queue loses is its oldest, which follows it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::io::{
    ConnectionId, CorrelationId, Gap, Item, Message, Overflow, Subscribe, SubscriptionNumber,
};
use super::pattern::Pattern;
use crate::kernel::ids::MessageType;
use crate::kernel::principal::Principal;

/// A message in a queue.
#[derive(Clone, Debug)]
struct Queued {
    message: Arc<Message>,
    correlation: Option<CorrelationId>,
}

/// What became of a message that was pushed into a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// There was room.
    Kept,
    /// The oldest made room; if it was a call, this one.
    Lost(Option<CorrelationId>),
    /// There is no room: the subscription must end, and loses so many messages.
    Refused(u32),
}

/// One subscription. What every event looks at is here, on two lines of the cache; what few do is
/// behind the pointer.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) id: SubscriptionNumber,
    pub(super) connection: ConnectionId,
    /// How many messages have got a number.
    numbered: u64,
    queue: VecDeque<Queued>,
    gap: Option<Gap>,
    /// How many more items its connection can take.
    pub(super) credit: u32,
    overflow: Overflow,
    /// Whether events of all users are meant for it.
    sees_all: bool,
    pub(super) wish: Box<Wish>,
}

/// Who listens, and to what.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) by: Principal,
    pub(super) handles: BTreeSet<MessageType>,
    types: BTreeSet<Pattern>,
}

impl Subscription {
    /// Tells whether `message` is meant for it (K302).
    pub(super) fn sees(&self, message: &Message) -> bool {
        message.to_all || self.sees_all || self.wish.by.user == message.by
    }

    /// Numbers a message and queues it.
    pub(super) fn push(
        &mut self,
        message: Arc<Message>,
        correlation: Option<CorrelationId>,
        queue_max: u32,
    ) -> Pushed {
        self.numbered += 1;
        let pushed = match (self.queue.len() < queue_max as usize, self.overflow) {
            (true, _) => Pushed::Kept,
            (false, Overflow::Disconnect) => return Pushed::Refused(self.drop_all()),
            (false, Overflow::DropOldest) => Pushed::Lost(self.drop_oldest()),
        };
        self.queue.push_back(Queued { message, correlation });
        pushed
    }

    /// Loses the oldest message, and leaves or widens the gap at the head.
    fn drop_oldest(&mut self) -> Option<CorrelationId> {
        // The newest message is numbered, but not in the queue yet.
        let number = self.numbered - self.queue.len() as u64;
        let lost = self.queue.pop_front();
        let from = self.gap.map_or(number, |gap| gap.from);
        self.gap = Some(Gap { from, to: number });
        crate::sometimes!("kernel.gap");
        lost.and_then(|lost| lost.correlation)
    }

    /// Loses what is queued and the message that was to be, and returns how many those are.
    fn drop_all(&mut self) -> u32 {
        let lost = self.queue.len() + 1;
        self.queue.clear();
        let lost = u32::try_from(lost).expect("a queue is bounded by a u32");
        self.gap = Some(Gap { from: self.numbered + 1 - u64::from(lost), to: self.numbered });
        lost
    }

    /// Takes the next item, if the connection can take one.
    pub(super) fn next(&mut self) -> Option<Item> {
        if self.credit == 0 {
            return None;
        }
        let item = match self.gap.take() {
            Some(gap) => Item::Gap(gap),
            None => {
                let number = self.numbered + 1 - self.queue.len() as u64;
                let Queued { message, correlation } = self.queue.pop_front()?;
                Item::Message { number, message, correlation }
            }
        };
        self.credit -= 1;
        Some(item)
    }

    /// Returns what it was not given.
    pub(super) fn rest(&self) -> Option<Gap> {
        let first = self.numbered + 1 - self.queue.len() as u64;
        let from = self.gap.map_or(first, |gap| gap.from);
        (from <= self.numbered).then_some(Gap { from, to: self.numbered })
    }
}

/// All subscriptions, in places that the indexes name.
#[derive(Clone, Debug)]
pub(super) struct Subscriptions {
    next: SubscriptionNumber,
    places: Vec<Option<Subscription>>,
    free: Vec<usize>,
    ids: BTreeMap<SubscriptionNumber, usize>,
    connections: BTreeMap<ConnectionId, BTreeSet<SubscriptionNumber>>,
    exact: BTreeMap<MessageType, Places>,
    below: BTreeMap<Box<str>, Places>,
    all: Places,
}

/// Places in ascending order.
type Places = Vec<usize>;

impl Subscriptions {
    pub(super) const fn new() -> Self {
        Self {
            next: SubscriptionNumber(1),
            places: Vec::new(),
            free: Vec::new(),
            ids: BTreeMap::new(),
            connections: BTreeMap::new(),
            exact: BTreeMap::new(),
            below: BTreeMap::new(),
            all: Places::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn add(&mut self, wish: Subscribe) -> SubscriptionNumber {
        let id = self.next;
        self.next = SubscriptionNumber(id.0 + 1);
        let place = self.free.pop().unwrap_or(self.places.len());
        let types: BTreeSet<Pattern> = wish.types.into_iter().collect();
        for pattern in &types {
            let members = self.members(pattern);
            if let Err(at) = members.binary_search(&place) {
                members.insert(at, place);
            }
        }
        self.ids.insert(id, place);
        self.connections.entry(wish.connection).or_default().insert(id);
        let sees_all = wish.by.takes_any_work();
        let handles = wish.handles.into_iter().collect();
        let subscription = Subscription {
            id,
            connection: wish.connection,
            numbered: 0,
            queue: VecDeque::new(),
            gap: None,
            credit: 0,
            overflow: wish.overflow,
            sees_all,
            wish: Box::new(Wish { by: wish.by, handles, types }),
        };
        match place < self.places.len() {
            true => self.places[place] = Some(subscription),
            false => self.places.push(Some(subscription)),
        }
        id
    }

    pub(super) fn remove(&mut self, id: SubscriptionNumber) -> Option<Subscription> {
        let place = self.ids.remove(&id)?;
        let subscription = self.places[place].take()?;
        self.free.push(place);
        for pattern in &subscription.wish.types {
            let members = self.members(pattern);
            if let Ok(at) = members.binary_search(&place) {
                members.remove(at);
            }
        }
        self.tidy(&subscription.wish.types);
        if let Some(same) = self.connections.get_mut(&subscription.connection) {
            same.remove(&id);
            if same.is_empty() {
                self.connections.remove(&subscription.connection);
            }
        }
        Some(subscription)
    }

    pub(super) fn place(&self, id: SubscriptionNumber) -> Option<usize> {
        self.ids.get(&id).copied()
    }

    pub(super) fn find(&self, id: SubscriptionNumber) -> Option<&Subscription> {
        self.places[self.place(id)?].as_ref()
    }

    /// Shows the subscription at `place`, which an index named.
    pub(super) fn look(&self, place: usize) -> Option<&Subscription> {
        self.places[place].as_ref()
    }

    /// Returns the subscription at `place`, which an index named.
    pub(super) fn at(&mut self, place: usize) -> Option<&mut Subscription> {
        self.places[place].as_mut()
    }

    /// Lists the subscriptions of a connection, or all.
    pub(super) fn of(&self, connection: Option<ConnectionId>) -> Vec<SubscriptionNumber> {
        match connection {
            Some(connection) => {
                self.connections.get(&connection).into_iter().flatten().copied().collect()
            }
            None => self.ids.keys().copied().collect(),
        }
    }

    /// Lists the places of the subscriptions that listen to `kind`, each once, in `found`.
    pub(super) fn listening(&self, kind: &MessageType, found: &mut Vec<usize>) {
        found.clear();
        found.extend(self.exact.get(kind).into_iter().flatten());
        let text = kind.as_str();
        for (dot, _) in text.match_indices('.') {
            found.extend(self.below.get(&text[..dot]).into_iter().flatten());
        }
        found.extend(&self.all);
        if !found.is_sorted_by(|one, next| one < next) {
            found.sort_unstable();
            found.dedup();
        }
    }

    /// Lists the types that subscriptions name exactly.
    pub(super) fn exact_types(&self) -> impl Iterator<Item = &MessageType> {
        self.exact.keys()
    }

    fn members(&mut self, pattern: &Pattern) -> &mut Places {
        match pattern {
            Pattern::All => &mut self.all,
            Pattern::Below(prefix) => self.below.entry(prefix.clone()).or_default(),
            Pattern::Exact(kind) => self.exact.entry(kind.clone()).or_default(),
        }
    }

    /// Drops index rows that became empty.
    fn tidy(&mut self, types: &BTreeSet<Pattern>) {
        for pattern in types {
            match pattern {
                Pattern::All => {}
                Pattern::Below(prefix) => {
                    if self.below.get(prefix).is_some_and(Places::is_empty) {
                        self.below.remove(prefix);
                    }
                }
                Pattern::Exact(kind) => {
                    if self.exact.get(kind).is_some_and(Places::is_empty) {
                        self.exact.remove(kind);
                    }
                }
            }
        }
    }
}
