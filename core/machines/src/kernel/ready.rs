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

use std::array;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;

use crate::codec::{Malformed, Reader, Wire};
use crate::ledger::table::Table;
use crate::{wire_enum, wire_struct};

use super::ids::{ProcessId, UserId};
use super::names::Priority;
use super::time::{Millis, Time};

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

/// One user's part of one band.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line<K> {
    turn: u64,
    waiting: BTreeMap<Place, K>,
}

/// What waits with one priority. All of it follows from the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Band<K> {
    lines: BTreeMap<UserId, Line<K>>,
    turns: BTreeMap<u64, UserId>,
    ages: BTreeMap<Place, K>,
    next_turn: u64,
}

impl<K: Waits> Band<K> {
    fn new() -> Self {
        let (lines, turns, ages) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { lines, turns, ages, next_turn: 0 }
    }

    /// Lets `id` wait; the user is in the band.
    fn push(&mut self, id: &K, entry: &Entry) {
        if let Some(line) = self.lines.get_mut(&entry.user) {
            line.waiting.insert(entry.place(), id.clone());
            self.ages.insert(entry.place(), id.clone());
        }
    }

    /// Gives a user a turn.
    fn turn(&mut self, user: &UserId, turn: u64) {
        self.turns.insert(turn, user.clone());
        let line = self.lines.entry(user.clone());
        line.or_insert_with(|| Line { turn, waiting: BTreeMap::new() }).turn = turn;
    }

    /// Takes one out; returns the turn of its user, and whether it has no other.
    fn remove(&mut self, entry: &Entry) -> Option<(u64, bool)> {
        self.ages.remove(&entry.place());
        let line = self.lines.get_mut(&entry.user)?;
        line.waiting.remove(&entry.place());
        let (turn, gone) = (line.turn, line.waiting.is_empty());
        if gone {
            self.lines.remove(&entry.user);
        }
        Some((turn, gone))
    }

    fn oldest(&self) -> Option<Time> {
        self.ages.first_key_value().map(|((at, _), _)| *at)
    }

    fn served(&self) -> Option<&K> {
        let (_, user) = self.turns.first_key_value()?;
        self.first_of(user).map(|(_, id)| id)
    }

    fn first_of(&self, user: &UserId) -> Option<(&Place, &K)> {
        self.lines.get(user)?.waiting.first_key_value()
    }
}

/// What can wait in a [`ReadySet`]: an id.
pub trait Waits: Ord + Clone + Wire + Hash + fmt::Debug + Send + Sync + 'static {}

impl<K: Ord + Clone + Wire + Hash + fmt::Debug + Send + Sync + 'static> Waits for K {}

/// What waits for its turn: processes to be run, or dispatches of a service to be tried (K203).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadySet<K: Waits = ProcessId> {
    /// The table, in which all of it stands.
    pub(super) rows: Table<Key<K>, Row>,
    bands: [Band<K>; BANDS],
    waiting: usize,
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
        Self { rows: Table::new(), bands: array::from_fn(|_| Band::new()), waiting: 0 }
    }

    /// Counts what waits.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.waiting
    }

    /// Says whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Counts what waits of a user.
    #[must_use]
    pub fn waiting_of(&self, user: &UserId) -> u64 {
        let lines = self.bands.iter().filter_map(|band| band.lines.get(user));
        lines.map(|line| line.waiting.len() as u64).sum()
    }

    /// Returns how one waits, if it does.
    #[must_use]
    pub fn entry(&self, id: &K) -> Option<&Entry> {
        match self.rows.get(&Key::Waiting { id: id.clone() }) {
            Some(Row::Waits { entry }) => Some(entry),
            Some(Row::Turn { .. }) | None => None,
        }
    }

    /// Lists the entries in order of id.
    pub fn entries(&self) -> impl Iterator<Item = (&K, &Entry)> {
        self.rows.iter().map_while(|row| match row {
            (Key::Waiting { id }, Row::Waits { entry }) => Some((id, entry)),
            (Key::Waiting { .. } | Key::Turn { .. } | Key::Next { .. }, _) => None,
        })
    }

    /// Finds all else again, after the table was loaded.
    pub(super) fn derive(&mut self) {
        self.bands = array::from_fn(|_| Band::new());
        self.waiting = 0;
        for (key, row) in self.rows.iter() {
            match (key, row) {
                (Key::Turn { priority, user }, Row::Turn { turn }) => {
                    self.bands[priority.band() as usize].turn(user, *turn);
                }
                (Key::Next { priority }, Row::Turn { turn }) => {
                    self.bands[priority.band() as usize].next_turn = *turn;
                }
                (Key::Waiting { .. } | Key::Turn { .. } | Key::Next { .. }, _) => {}
            }
        }
        for (key, row) in self.rows.iter() {
            if let (Key::Waiting { id }, Row::Waits { entry }) = (key, row) {
                self.bands[entry.band()].push(id, entry);
                self.waiting += 1;
            }
        }
    }

    /// Adds one; what waits already keeps its place, so that it is in the set exactly once (K70).
    pub fn push(&mut self, id: K, entry: Entry) {
        let key = Key::Waiting { id: id.clone() };
        if self.rows.contains(&key) {
            return;
        }
        if !self.bands[entry.band()].lines.contains_key(&entry.user) {
            self.enter(entry.priority, &entry.user);
        }
        self.bands[entry.band()].push(&id, &entry);
        self.rows.insert(key, Row::Waits { entry });
        self.waiting += 1;
    }

    /// Gives a user the last turn of a band.
    fn enter(&mut self, priority: Priority, user: &UserId) {
        let band = &mut self.bands[priority.band() as usize];
        let turn = band.next_turn;
        band.next_turn += 1;
        band.turn(user, turn);
        self.rows.insert(Key::Turn { priority, user: user.clone() }, Row::Turn { turn });
        self.rows.insert(Key::Next { priority }, Row::Turn { turn: turn + 1 });
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
        let key = Key::Waiting { id: id.clone() };
        let Some(entry) = self.entry(id).cloned() else {
            return;
        };
        self.rows.remove(&key);
        self.waiting -= 1;
        let (priority, user) = (entry.priority, entry.user.clone());
        let Some((turn, gone)) = self.bands[entry.band()].remove(&entry) else {
            return;
        };
        if gone || served {
            self.bands[entry.band()].turns.remove(&turn);
        }
        if gone {
            self.rows.remove(&Key::Turn { priority, user });
        } else if served {
            self.enter(priority, &user);
        }
        let band = &mut self.bands[entry.band()];
        if band.lines.is_empty() {
            // Turns order the users that are there, so nothing is left to remember (K447).
            band.next_turn = 0;
            self.rows.remove(&Key::Next { priority });
        }
    }

    /// Returns the one whose turn it is (K71, K72).
    #[must_use]
    pub fn next(&self, ageing: Millis) -> Option<&K> {
        let oldest = |band: &Band<K>| band.oldest();
        self.bands[self.band_by(ageing, oldest)?].served()
    }

    /// Returns the one of `user` whose turn it is among its own (K74).
    #[must_use]
    pub fn next_of(&self, user: &UserId, ageing: Millis) -> Option<&K> {
        let oldest = |band: &Band<K>| band.first_of(user).map(|((at, _), _)| *at);
        let band = self.band_by(ageing, oldest)?;
        self.bands[band].first_of(user).map(|(_, id)| id)
    }

    /// Finds the band with the least `oldest + b × ageing`; ties go to the lower one (K71).
    fn band_by(&self, ageing: Millis, oldest: impl Fn(&Band<K>) -> Option<Time>) -> Option<usize> {
        let aged = |band: usize| {
            let handicap = ageing.saturating_mul(band as u64);
            oldest(&self.bands[band]).map(|at| (at.plus(handicap), band))
        };
        (0..BANDS).filter_map(aged).min().map(|(_, band)| band)
    }
}

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;
