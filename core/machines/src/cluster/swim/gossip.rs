//! What waits to be piggybacked: the latest fact of each member, the latest entry of each name
//! (C52).
//!
//! Membership goes before names, what was sent least goes first, the newest first among equals.
//! Facts are not copied: a row is its latest fact, and its ticket says where it stands here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::cluster::ids::NodeId;
use crate::cluster::wire::{Entry, Name, NameEntry};
use crate::time::Instant;

use super::table::{Table, Ticket};

/// The shortest entry, Left (C17).
const ENTRY_MIN: usize = 21;
/// Entries that did not fit, after which a message counts as full.
const MISSES_MAX: u32 = 4;
/// The most names that wait; over it the one sent most often goes. Digests bring what was missed.
const NAMES_MAX: usize = 65_536;

type NameKey = (u32, Reverse<u64>);

/// A name entry and when it came, since its age grows while it waits (C75).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HeldName {
    entry: NameEntry,
    since: Instant,
}

/// The gossip queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Queue {
    /// By sends, then by stamp, oldest first: (stamp, slot of the row).
    facts: Vec<VecDeque<(u64, u32)>>,
    facts_len: usize,
    names: BTreeMap<NameKey, HeldName>,
    subjects: BTreeMap<(Name, NodeId), NameKey>,
    stamp: u64,
    /// What the message being filled has taken; kept for its room.
    taken: Vec<u32>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.facts_len == 0 && self.names.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.facts_len + self.names.len()
    }

    /// Says whether every part is within its cap, for a table of `rows` rows (C150).
    pub(super) fn is_bounded(&self, rows: usize) -> bool {
        self.facts_len <= rows
            && self.names.len() <= NAMES_MAX
            && self.subjects.len() == self.names.len()
    }

    /// Queues the latest fact of a row, in place of an older one about it.
    pub(super) fn push(&mut self, table: &mut Table, slot: u32) {
        self.drop_fact(table, slot);
        let ticket = Ticket { sends: 0, stamp: self.next_stamp() };
        self.insert(table, slot, ticket);
    }

    fn insert(&mut self, table: &mut Table, slot: u32, ticket: Ticket) {
        let sends = ticket.sends as usize;
        if self.facts.len() <= sends {
            self.facts.resize(sends + 1, VecDeque::new());
        }
        let equals = &mut self.facts[sends];
        // What is sent again in its turn is older, and what is new is newer, than all the equals.
        if equals.front().is_none_or(|(stamp, _)| ticket.stamp < *stamp) {
            equals.push_front((ticket.stamp, slot));
        } else {
            let at = equals.partition_point(|(stamp, _)| *stamp < ticket.stamp);
            equals.insert(at, (ticket.stamp, slot));
        }
        self.facts_len += 1;
        table.row_mut(slot).ticket = Some(ticket);
    }

    /// Takes a row's fact off the queue, if it is there.
    pub(super) fn drop_fact(&mut self, table: &mut Table, slot: u32) {
        let Some(ticket) = table.row_mut(slot).ticket.take() else {
            return;
        };
        let equals = &mut self.facts[ticket.sends as usize];
        let at = equals.partition_point(|(stamp, _)| *stamp < ticket.stamp);
        let removed = equals.remove(at);
        assert_eq!(removed, Some((ticket.stamp, slot)), "a ticket tells its place");
        self.facts_len -= 1;
        if self.facts_len == 0 {
            self.facts.clear();
        }
    }

    /// Queues a change of a name, in place of an older one of the same owner.
    pub(super) fn push_name(&mut self, now: Instant, entry: NameEntry) {
        let subject = (entry.name.clone(), entry.owner);
        if let Some(key) = self.subjects.remove(&subject) {
            self.names.remove(&key);
        }
        if self.names.len() >= NAMES_MAX
            && let Some((_, old)) = self.names.pop_last()
        {
            self.subjects.remove(&(old.entry.name, old.entry.owner));
        }
        let key = (0, Reverse(self.next_stamp()));
        self.subjects.insert(subject, key);
        self.names.insert(key, HeldName { entry, since: now });
    }

    /// Keeps the changes of names of owners that are still allowed (C24).
    pub(super) fn keep_names(&mut self, allowed: impl Fn(NodeId) -> bool) {
        self.names.retain(|_, held| allowed(held.entry.owner));
        self.subjects.retain(|(_, owner), _| allowed(*owner));
    }

    /// Forgets everything: there is nobody to tell.
    pub(super) fn clear(&mut self, table: &mut Table) {
        for (_, slot) in self.facts.drain(..).flatten() {
            table.row_mut(slot).ticket = None;
        }
        self.facts_len = 0;
        self.names.clear();
        self.subjects.clear();
    }

    /// Fills `entries` up to `room` bytes and counts what it takes as sent once more; drops what
    /// was sent `sends_max` times. The facts of the slots `but` are counted but left out: they
    /// are in.
    pub(super) fn fill(
        &mut self,
        now: Instant,
        table: &mut Table,
        sends_max: u32,
        but: [Option<u32>; 2],
        mut room: usize,
        entries: &mut Vec<Entry>,
    ) {
        let mut misses = 0;
        let mut taken = std::mem::take(&mut self.taken);
        let queued = self.facts.iter().flat_map(|equals| equals.iter().rev());
        for (_, slot) in queued {
            if room < ENTRY_MIN || misses >= MISSES_MAX {
                break;
            }
            if but.contains(&Some(*slot)) {
                taken.push(*slot);
                continue;
            }
            let fact = table.row(*slot).fact();
            if fact.encoded_len() <= room {
                room -= fact.encoded_len();
                entries.push(Entry::Fact(fact));
                taken.push(*slot);
            } else {
                misses += 1;
            }
        }
        for slot in taken.drain(..) {
            self.count_fact(table, slot, sends_max);
        }
        self.taken = taken;
        if !self.names.is_empty() {
            self.fill_names(now, sends_max, room, entries);
        }
    }

    fn count_fact(&mut self, table: &mut Table, slot: u32, sends_max: u32) {
        let ticket = table.row(slot).ticket.expect("a queued row has a ticket");
        self.drop_fact(table, slot);
        let sends = ticket.sends + 1;
        if sends < sends_max {
            self.insert(table, slot, Ticket { sends, ..ticket });
        }
    }

    fn fill_names(&mut self, now: Instant, sends_max: u32, mut room: usize, out: &mut Vec<Entry>) {
        let mut misses = 0;
        let mut taken: Vec<NameKey> = Vec::new();
        for (key, held) in &self.names {
            let bytes = held.entry.encoded_len();
            if bytes <= room {
                room -= bytes;
                taken.push(*key);
                out.push(Entry::Name(held.aged(now)));
            } else {
                misses += 1;
            }
            if room < ENTRY_MIN || misses >= MISSES_MAX {
                break;
            }
        }
        for key in taken {
            self.count_name(key, sends_max);
        }
    }

    fn count_name(&mut self, key: NameKey, sends_max: u32) {
        let held = self.names.remove(&key).expect("a taken name is queued");
        let subject = (held.entry.name.clone(), held.entry.owner);
        let next = (key.0 + 1, key.1);
        if next.0 < sends_max {
            self.subjects.insert(subject, next);
            self.names.insert(next, held);
        } else {
            self.subjects.remove(&subject);
        }
    }

    fn next_stamp(&mut self) -> u64 {
        self.stamp += 1;
        self.stamp
    }
}

impl HeldName {
    fn aged(&self, now: Instant) -> NameEntry {
        let mut entry = self.entry.clone();
        entry.age_ms = entry.age_ms.saturating_add(now.age_ms(self.since));
        entry
    }
}
