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
//! Every operation costs O(log n) (K73). What is worth keeping is the entries, the turns and the
//! next turn of each band; the rest is found again from them.

use std::collections::BTreeMap;

use crate::wire_struct;

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

/// One user's processes in one band.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line {
    turn: u64,
    waiting: BTreeMap<Place, ProcessId>,
}

/// The processes of one priority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Band {
    lines: BTreeMap<UserId, Line>,
    turns: BTreeMap<u64, UserId>,
    ages: BTreeMap<Place, ProcessId>,
    next_turn: u64,
}

impl Band {
    /// Gives a user the last turn.
    fn enter(&mut self, user: &UserId) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turns.insert(turn, user.clone());
        turn
    }

    fn push(&mut self, pid: &ProcessId, entry: &Entry) {
        if !self.lines.contains_key(&entry.user) {
            let turn = self.enter(&entry.user);
            let line = Line { turn, waiting: BTreeMap::new() };
            self.lines.insert(entry.user.clone(), line);
        }
        let line = self.lines.get_mut(&entry.user).expect("the user entered the band");
        line.waiting.insert(entry.place(), pid.clone());
        self.ages.insert(entry.place(), pid.clone());
    }

    fn remove(&mut self, entry: &Entry, served: bool) {
        self.ages.remove(&entry.place());
        let line = self.lines.get_mut(&entry.user).expect("a waiting process is in a line");
        line.waiting.remove(&entry.place());
        let (turn, gone) = (line.turn, line.waiting.is_empty());
        if gone {
            self.lines.remove(&entry.user);
        }
        if gone || served {
            self.turns.remove(&turn);
        }
        if served && !gone {
            let turn = self.enter(&entry.user);
            self.lines.get_mut(&entry.user).expect("it has more").turn = turn;
        }
    }

    fn oldest(&self) -> Option<Time> {
        self.ages.first_key_value().map(|((at, _), _)| *at)
    }

    fn served(&self) -> Option<&ProcessId> {
        let (_, user) = self.turns.first_key_value()?;
        self.first_of(user).map(|(_, pid)| pid)
    }

    fn first_of(&self, user: &UserId) -> Option<(&Place, &ProcessId)> {
        self.lines.get(user)?.waiting.first_key_value()
    }
}

/// The processes that wait to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadySet {
    entries: BTreeMap<ProcessId, Entry>,
    bands: [Band; BANDS],
}

impl ReadySet {
    /// Makes an empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts the processes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns how a process waits, if it does.
    #[must_use]
    pub fn entry(&self, pid: &ProcessId) -> Option<&Entry> {
        self.entries.get(pid)
    }

    /// Lists the entries in order of pid.
    pub fn entries(&self) -> impl Iterator<Item = (&ProcessId, &Entry)> {
        self.entries.iter()
    }

    /// Adds a process; one that waits already keeps its place, so that it is in the set exactly
    /// once (K70).
    pub fn push(&mut self, pid: ProcessId, entry: Entry) {
        if self.entries.contains_key(&pid) {
            return;
        }
        self.bands[entry.band()].push(&pid, &entry);
        self.entries.insert(pid, entry);
    }

    /// Takes a process whose turn it was: its user goes to the end of the band's turns (K72).
    pub fn serve(&mut self, pid: &ProcessId) {
        self.take(pid, true);
    }

    /// Takes a process out of its turn: somebody named it, or it waits no more.
    pub fn remove(&mut self, pid: &ProcessId) {
        self.take(pid, false);
    }

    fn take(&mut self, pid: &ProcessId, served: bool) {
        if let Some(entry) = self.entries.remove(pid) {
            self.bands[entry.band()].remove(&entry, served);
        }
    }

    /// Returns the process whose turn it is (K71, K72).
    #[must_use]
    pub fn next(&self, ageing: Millis) -> Option<&ProcessId> {
        let oldest = |band: &Band| band.oldest();
        self.bands[self.band_by(ageing, oldest)?].served()
    }

    /// Returns the process of `user` whose turn it is among its own (K74).
    #[must_use]
    pub fn next_of(&self, user: &UserId, ageing: Millis) -> Option<&ProcessId> {
        let oldest = |band: &Band| band.first_of(user).map(|((at, _), _)| *at);
        let band = self.band_by(ageing, oldest)?;
        self.bands[band].first_of(user).map(|(_, pid)| pid)
    }

    /// Finds the band with the least `oldest + b × ageing`; ties go to the lower one (K71).
    fn band_by(&self, ageing: Millis, oldest: impl Fn(&Band) -> Option<Time>) -> Option<usize> {
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
