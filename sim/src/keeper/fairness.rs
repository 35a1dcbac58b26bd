//! Whose turn it was: the bounds on waiting (K429) and the order in line (K430).

use std::collections::{BTreeMap, BTreeSet};

use machines::kernel::event::{Body, Event};
use machines::kernel::ids::{ProcessId, UserId};
use machines::kernel::names::Priority;

use super::book::{Book, Follow, Known, served, show_each};
use super::kernel::{AGEING_MS, Clerk};
use super::{Seen, Watch, World};

const BANDS: usize = 5;

fn band(priority: Priority) -> usize {
    usize::from(priority.number() - 1)
}

/// What one process may have to let go first.
#[derive(Clone, Debug)]
struct Wait {
    band: usize,
    /// Its ready time with the handicap of its band, in milliseconds.
    aged: u64,
    /// Its place among its user's processes in the band.
    place: u64,
    /// The most users with a turn in each band meanwhile.
    users: [u64; BANDS],
    /// Processes of each band that may come first by their age.
    earlier: [u64; BANDS],
    /// Claims that came first.
    passed: u64,
}

impl Wait {
    fn bound(&self) -> u64 {
        let others = (0..BANDS).filter(|band| *band != self.band);
        let others: u64 = others.map(|band| self.earlier[band] * self.users[band]).sum();
        self.place * self.users[self.band] + others
    }
}

/// K429: how many claims can come before a process's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Bound {
    follow: Follow,
    book: Book,
    waits: BTreeMap<ProcessId, Wait>,
}

fn aged(ready_ms: u64, band: usize) -> u64 {
    ready_ms + band as u64 * AGEING_MS
}

impl Bound {
    fn users(&self) -> [u64; BANDS] {
        let mut users: [BTreeSet<&UserId>; BANDS] = Default::default();
        for known in self.book.known.values().filter(|known| known.waits()) {
            users[band(known.priority)].insert(&known.user);
        }
        users.map(|users| users.len() as u64)
    }

    fn add(&mut self, event: &Event) -> Result<bool, String> {
        let mut looked = false;
        if let Some(pid) = served(event) {
            looked = true;
            self.waits.remove(pid);
            for (waiting, wait) in &mut self.waits {
                wait.passed += 1;
                if wait.passed > wait.bound() {
                    let passed = wait.passed;
                    return Err(format!("{waiting} has let {passed} others go first: {wait:?}"));
                }
            }
        }
        self.book.add(event);
        let Some(pid) = &event.subject.pid else {
            return Ok(looked);
        };
        let ready = self.book.known.get(pid).filter(|known| known.waits()).cloned();
        match ready {
            Some(_) if self.waits.contains_key(pid) => {}
            Some(known) => self.begin(pid, known.priority, &known.user),
            None => {
                self.waits.remove(pid);
            }
        }
        Ok(looked)
    }

    /// A process has become ready.
    fn begin(&mut self, pid: &ProcessId, priority: Priority, user: &UserId) {
        let (band, users) = (band(priority), self.users());
        let own = self.book.known[pid].ready.expect("it is ready");
        let own_aged = aged(own.0.as_millis(), band);
        let (mut earlier, mut place) = ([0; BANDS], 0);
        for other in self.book.known.values().filter(|known| known.waits()) {
            let ready = other.ready.expect("it is ready");
            let its = self::band(other.priority);
            earlier[its] += u64::from(aged(ready.0.as_millis(), its) <= own_aged);
            place += u64::from(its == band && other.user == *user && ready <= own);
        }
        for wait in self.waits.values_mut() {
            for (most, now) in wait.users.iter_mut().zip(users) {
                *most = (*most).max(now);
            }
            wait.earlier[band] += u64::from(own_aged <= wait.aged);
        }
        let wait = Wait { band, aged: own_aged, place, users, earlier, passed: 0 };
        self.waits.insert(pid.clone(), wait);
    }
}

impl Watch<Clerk> for Bound {
    fn property(&self) -> &'static str {
        "K429"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        show_each(self, |watch| &mut watch.follow, seen, Self::add)
    }
}

/// What has happened in a band since one user last had a turn there, or came there.
#[derive(Clone, Debug, Default)]
struct Since {
    /// It begins with a turn of the user.
    by_turn: bool,
    /// Who had turns, and how many.
    turns: BTreeMap<UserId, u64>,
    /// Who has waited there all the time.
    throughout: BTreeSet<UserId>,
}

/// K430: first come, first served within (band, user), and users take turns.
#[derive(Clone, Debug, Default)]
pub(super) struct InLine {
    follow: Follow,
    book: Book,
    /// Of each user that waits in a band.
    since: BTreeMap<(usize, UserId), Since>,
}

impl InLine {
    fn add(&mut self, event: &Event) -> Result<bool, String> {
        let mut looked = false;
        if let Some(pid) = served(event)
            && let Some(known) = self.book.known.get(pid).cloned()
            && known.waits()
        {
            looked = self.serve(pid, &known)?;
        }
        self.book.add(event);
        if let Body::Process { .. } | Body::Interrupt { .. } = event.body {
            self.meet();
        }
        Ok(looked)
    }

    /// Lists who waits in which band.
    fn there(&self) -> BTreeSet<(usize, UserId)> {
        let waiting = self.book.known.values().filter(|known| known.waits());
        waiting.map(|known| (band(known.priority), known.user.clone())).collect()
    }

    /// Notes who has come, and forgets who has gone.
    fn meet(&mut self) {
        let there = self.there();
        self.since.retain(|key, _| there.contains(key));
        for ((band, _), since) in &mut self.since {
            since.throughout.retain(|user| there.contains(&(*band, user.clone())));
        }
        for key in there {
            self.since.entry(key).or_default();
        }
    }

    fn serve(&mut self, pid: &ProcessId, known: &Known) -> Result<bool, String> {
        let band = band(known.priority);
        let here = |other: &&Known| other.waits() && self::band(other.priority) == band;
        let mut line = self.book.known.iter().filter(|(_, other)| here(other));
        let earlier = |other: &Known| other.user == known.user && other.ready < known.ready;
        if let Some((before, other)) = line.find(|(_, other)| earlier(other)) {
            let (own, its) = (known.ready, other.ready);
            return Err(format!("{pid}, ready {own:?}, was served before {before}, ready {its:?}"));
        }
        let there = self.there().into_iter().filter(|(other, _)| *other == band);
        let others: BTreeSet<UserId> =
            there.map(|(_, user)| user).filter(|user| *user != known.user).collect();
        let new = Since { by_turn: true, turns: BTreeMap::new(), throughout: others };
        let before = self.since.insert((band, known.user.clone()), new).unwrap_or_default();
        if let Some((user, count)) = before.turns.iter().find(|(_, count)| **count > 1) {
            let whose = &known.user;
            return Err(format!("{user} had {count} turns between two of {whose} in band {band}"));
        }
        let had_none = |user: &&UserId| before.by_turn && !before.turns.contains_key(*user);
        if let Some(user) = before.throughout.iter().find(had_none) {
            return Err(format!("{} had two turns in band {band}, and {user} none", known.user));
        }
        for ((other, user), since) in &mut self.since {
            if *other == band && *user != known.user {
                *since.turns.entry(known.user.clone()).or_insert(0) += 1;
            }
        }
        Ok(before.by_turn)
    }
}

impl Watch<Clerk> for InLine {
    fn property(&self) -> &'static str {
        "K430"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        show_each(self, |watch| &mut watch.follow, seen, Self::add)
    }
}
