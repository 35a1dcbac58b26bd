//! Who is next among those that wait, in memory alone (K70–K72).

use std::collections::BTreeMap;

use super::{BANDS, Entry, Place};
use crate::kernel::ids::UserId;
use crate::kernel::names::Priority;
use crate::kernel::time::{Millis, Time};

/// What waits of one user in one band.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line<K> {
    turn: u64,
    waiting: BTreeMap<Place, K>,
}

/// What waits with one priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Band<K> {
    lines: BTreeMap<UserId, Line<K>>,
    turns: BTreeMap<u64, UserId>,
    ages: BTreeMap<Place, K>,
    next_turn: u64,
}

impl<K> Default for Band<K> {
    fn default() -> Self {
        let (lines, turns, ages) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { lines, turns, ages, next_turn: 0 }
    }
}

impl<K: Ord + Clone> Band<K> {
    /// Gives a user the last turn.
    fn enter(&mut self, user: &UserId) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.turns.insert(turn, user.clone());
        turn
    }

    fn push(&mut self, pid: &K, entry: &Entry) {
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

    fn served(&self) -> Option<&K> {
        let (_, user) = self.turns.first_key_value()?;
        self.first_of(user).map(|(_, pid)| pid)
    }

    fn first_of(&self, user: &UserId) -> Option<(&Place, &K)> {
        self.lines.get(user)?.waiting.first_key_value()
    }
}

/// What waits for its turn: processes to be run, or dispatches of a service to be tried (K203).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order<K> {
    entries: BTreeMap<K, Entry>,
    bands: [Band<K>; BANDS],
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), bands: std::array::from_fn(|_| Band::default()) }
    }
}

impl<K: Ord + Clone> Order<K> {
    /// Makes an empty order.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts what waits.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Counts what waits of a user.
    #[must_use]
    pub fn waiting_of(&self, user: &UserId) -> u64 {
        let lines = self.bands.iter().filter_map(|band| band.lines.get(user));
        lines.map(|line| line.waiting.len() as u64).sum()
    }

    /// Returns how one waits, if it does.
    #[must_use]
    pub fn entry(&self, pid: &K) -> Option<&Entry> {
        self.entries.get(pid)
    }

    /// Lists the entries in order of pid.
    pub fn entries(&self) -> impl Iterator<Item = (&K, &Entry)> {
        self.entries.iter()
    }

    /// Lets turns that are taken from now on be numbered from `number`, which must be above all
    /// before. Numbers of events are, so turns need no counter of their own that is kept.
    pub fn number_turns(&mut self, number: u64) {
        for band in &mut self.bands {
            band.next_turn = number;
        }
    }

    /// Lets turns of one band that are taken from now on be numbered from `number`.
    pub(super) fn number_band(&mut self, priority: Priority, number: u64) {
        self.bands[usize::from(priority.band())].next_turn = number;
    }

    /// Says whether nothing waits with a priority.
    pub(super) fn is_idle(&self, priority: Priority) -> bool {
        self.bands[usize::from(priority.band())].lines.is_empty()
    }

    /// Returns the turn of a user that has something waiting in the band of a priority.
    #[must_use]
    pub fn turn(&self, priority: Priority, user: &UserId) -> Option<u64> {
        self.bands[usize::from(priority.band())].lines.get(user).map(|line| line.turn)
    }

    /// Gives a user that has something waiting the turn that it had before a restart.
    pub fn restore_turn(&mut self, priority: Priority, user: &UserId, turn: u64) {
        let band = &mut self.bands[usize::from(priority.band())];
        if let Some(line) = band.lines.get_mut(user) {
            band.turns.remove(&line.turn);
            line.turn = turn;
            band.turns.insert(turn, user.clone());
        }
    }

    /// Adds one; one that waits already keeps its place, so that it is in the set exactly
    /// once (K70).
    pub fn push(&mut self, pid: K, entry: Entry) {
        if self.entries.contains_key(&pid) {
            return;
        }
        self.bands[entry.band()].push(&pid, &entry);
        self.entries.insert(pid, entry);
    }

    /// Takes one whose turn it was: its user goes to the end of the band's turns (K72).
    pub fn serve(&mut self, pid: &K) {
        self.take(pid, true);
    }

    /// Takes one out of its turn: somebody named it, or it waits no more.
    pub fn remove(&mut self, pid: &K) {
        self.take(pid, false);
    }

    fn take(&mut self, pid: &K, served: bool) {
        if let Some(entry) = self.entries.remove(pid) {
            self.bands[entry.band()].remove(&entry, served);
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
        self.bands[band].first_of(user).map(|(_, pid)| pid)
    }

    /// Says whether something of a better priority waits than one that waits; among what `user` has
    /// there, if it is given. It is its age that puts that one first, if it is next (K71).
    #[must_use]
    pub fn is_after_better(&self, pid: &K, user: Option<&UserId>) -> bool {
        let band = self.entries.get(pid).map_or(0, Entry::band);
        let waits = |band: &Band<K>| match user {
            Some(user) => band.lines.contains_key(user),
            None => !band.lines.is_empty(),
        };
        self.bands[..band].iter().any(waits)
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
