//! Whose turn it is: the set of processes that wait to be run (K70–K74).
//!
//! ```text
//!            band 0 … 4, the one with the least oldest(b) + b × ageing        (K71)
//!                │
//!                ▼
//!            user with the least turn number, which then takes the next one   (K72)
//!                │
//!                ▼
//!            its oldest process, by (ready_at, number of the event)           (K70)
//! ```
//!
//! Every operation costs O(log n) (K73). What is worth keeping stands in one table: who waits, the
//! turns, and the next turn of each band. All else is found again from it.

mod order;

use std::fmt;
use std::hash::Hash;

use crate::codec::{Malformed, Reader, Wire};
use crate::ledger::table::Table;
use crate::{wire_enum, wire_struct};

use super::ids::{ProcessId, UserId};
use super::names::Priority;
use super::time::{Millis, Time};
pub use order::Order;

/// Five, one a priority.
const BANDS: usize = Priority::ALL.len();

/// A process's place: when it became ready, and by which event, which breaks ties (K70).
pub type Place = (Time, u64);

/// A process that waits to be run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Whose it is.
    pub user: UserId,
    /// How urgent it is.
    pub priority: Priority,
    /// When it became ready.
    pub ready_at: Time,
    /// The number of the event that made it ready.
    pub number: u64,
}

wire_struct!(Entry { user, priority, ready_at, number });

impl Entry {
    const fn place(&self) -> Place {
        (self.ready_at, self.number)
    }

    const fn band(&self) -> usize {
        self.priority.band() as usize
    }
}

/// What a row of the table is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key<K> {
    /// One that waits.
    Waiting {
        /// Which.
        id: K,
    },
    /// The turn of a user in a band.
    Turn {
        /// The band's priority.
        priority: Priority,
        /// Whose.
        user: UserId,
    },
    /// The next turn of a band.
    Next {
        /// The band's priority.
        priority: Priority,
    },
}

impl<K: Wire> Wire for Key<K> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Waiting { id } => {
                out.push(1);
                id.encode(out);
            }
            Self::Turn { priority, user } => {
                out.push(2);
                priority.encode(out);
                user.encode(out);
            }
            Self::Next { priority } => {
                out.push(3);
                priority.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        match reader.u8()? {
            1 => Ok(Self::Waiting { id: K::decode(reader)? }),
            2 => Ok(Self::Turn { priority: Wire::decode(reader)?, user: Wire::decode(reader)? }),
            3 => Ok(Self::Next { priority: Wire::decode(reader)? }),
            _ => Err(here.malformed("a row of a ready set")),
        }
    }
}

/// What a row of the table says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    /// How one waits.
    Waits {
        /// Its place.
        entry: Entry,
    },
    /// The number of a turn.
    Turn {
        /// The number.
        turn: u64,
    },
}

wire_enum!(Row, "what a row of a ready set says" {
    Waits { entry } = 1,
    Turn { turn } = 2,
});

/// What can wait: an id.
pub trait Waits: Ord + Clone + Wire + Hash + fmt::Debug + Send + Sync + 'static {}

impl<K: Ord + Clone + Wire + Hash + fmt::Debug + Send + Sync + 'static> Waits for K {}

/// What waits for its turn, in a table that the root covers (K12).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadySet<K: Waits = ProcessId> {
    /// The table, in which all of it stands.
    pub(super) rows: Table<Key<K>, Row>,
    order: Order<K>,
}

impl<K: Waits> Default for ReadySet<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Waits> ReadySet<K> {
    /// Makes an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self { rows: Table::new(), order: Order::new() }
    }

    /// Counts what waits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Says whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Counts what waits of a user.
    #[must_use]
    pub fn waiting_of(&self, user: &UserId) -> u64 {
        self.order.waiting_of(user)
    }

    /// Returns how one waits, if it does.
    #[must_use]
    pub fn entry(&self, id: &K) -> Option<&Entry> {
        self.order.entry(id)
    }

    /// Lists the entries in order of id.
    pub fn entries(&self) -> impl Iterator<Item = (&K, &Entry)> {
        self.order.entries()
    }

    /// Finds all else again, after the table was loaded.
    pub(super) fn derive(&mut self) {
        self.order = Order::new();
        self.order.number_turns(1 << 63); // Above all that are restored.
        for (key, row) in self.rows.iter() {
            if let (Key::Waiting { id }, Row::Waits { entry }) = (key, row) {
                self.order.push(id.clone(), entry.clone());
            }
        }
        self.order.number_turns(0);
        for (key, row) in self.rows.iter() {
            match (key, row) {
                (Key::Turn { priority, user }, Row::Turn { turn }) => {
                    self.order.restore_turn(*priority, user, *turn);
                }
                (Key::Next { priority }, Row::Turn { turn }) => {
                    self.order.number_band(*priority, *turn);
                }
                (Key::Waiting { .. } | Key::Turn { .. } | Key::Next { .. }, _) => {}
            }
        }
    }

    /// Adds one; what waits already keeps its place, so that it is in the set exactly once (K70).
    pub fn push(&mut self, id: K, entry: Entry) {
        if self.order.entry(&id).is_some() {
            return;
        }
        let (priority, user) = (entry.priority, entry.user.clone());
        let before = self.order.turn(priority, &user);
        self.order.push(id.clone(), entry.clone());
        self.rows.insert(Key::Waiting { id }, Row::Waits { entry });
        self.follow(priority, user, before);
    }

    /// Takes one whose turn it was: its user goes to the end of the band's turns (K72).
    pub fn serve(&mut self, id: &K) {
        self.take(id, true);
    }

    /// Takes one out of its turn: somebody named it, or it waits no more.
    pub fn remove(&mut self, id: &K) {
        self.take(id, false);
    }

    fn take(&mut self, id: &K, served: bool) {
        let Some(entry) = self.order.entry(id).cloned() else {
            return;
        };
        let before = self.order.turn(entry.priority, &entry.user);
        match served {
            true => self.order.serve(id),
            false => self.order.remove(id),
        }
        self.rows.remove(&Key::Waiting { id: id.clone() });
        self.follow(entry.priority, entry.user, before);
    }

    /// Writes down the turn of a user that had another one before.
    fn follow(&mut self, priority: Priority, user: UserId, before: Option<u64>) {
        let now = self.order.turn(priority, &user);
        if now == before {
            return;
        }
        match now {
            Some(turn) => {
                self.rows.insert(Key::Turn { priority, user }, Row::Turn { turn });
                self.rows.insert(Key::Next { priority }, Row::Turn { turn: turn + 1 });
            }
            None => {
                self.rows.remove(&Key::Turn { priority, user });
            }
        }
        if self.order.is_idle(priority) {
            // Turns order the users that are there, so nothing is left to remember (K447).
            self.order.number_band(priority, 0);
            self.rows.remove(&Key::Next { priority });
        }
    }

    /// Returns the one whose turn it is (K71, K72).
    #[must_use]
    pub fn next(&self, ageing: Millis) -> Option<&K> {
        self.order.next(ageing)
    }

    /// Returns the one of `user` whose turn it is among its own (K74).
    #[must_use]
    pub fn next_of(&self, user: &UserId, ageing: Millis) -> Option<&K> {
        self.order.next_of(user, ageing)
    }

    /// Says whether something of a better priority waits than one that waits; among what `user` has
    /// there, if it is given (K71, K74).
    #[must_use]
    pub fn is_after_better(&self, id: &K, user: Option<&UserId>) -> bool {
        self.order.is_after_better(id, user)
    }
}

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;
