//! Whose hits of the last minute are the most: kept as they come, and read from the top (K350).
//!
//! Each hit is counted three times: in its slot, in its user's sum, and in the order of the sums. A
//! slot that has run out is taken out again when the next hit comes, so all of that costs each hit
//! the logarithm of how many users there are, and the answer costs its length. What has run out
//! since the last hit is looked at once more for each answer, until a hit comes.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use crate::kernel::ids::UserId;
use crate::kernel::rates::windows::SLOTS;

/// See the file's header. It follows from the counters, and from when the last hit came; so it is
/// no part of what two states are compared by.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy {
    /// Hits by slot and user; none of a slot that had run out at the last hit.
    slots: BTreeMap<u64, BTreeMap<UserId, u64>>,
    /// Their sums.
    sums: BTreeMap<UserId, u64>,
    /// The users by their sums, the greatest first, then by name.
    order: BTreeSet<(Reverse<u64>, UserId)>,
}

impl PartialEq for Busy {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Busy {}

impl Hash for Busy {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Busy {
    /// Counts hits of a user in a slot, and forgets what has run out at slot `now`.
    pub(super) fn add(&mut self, now: u64, slot: u64, user: &UserId, hits: u64) {
        while let Some(entry) = self.slots.first_entry().filter(|entry| entry.key() + SLOTS < now) {
            for (user, hits) in entry.remove() {
                self.change(&user, |sum| sum.saturating_sub(hits));
            }
        }
        if slot + SLOTS < now || hits == 0 {
            return;
        }
        let users = self.slots.entry(slot).or_default();
        *users.entry(user.clone()).or_default() += hits;
        self.change(user, |sum| sum.saturating_add(hits));
    }

    /// Forgets hits of a user in a slot.
    pub(super) fn take(&mut self, slot: u64, user: &UserId, hits: u64) {
        let Some(there) = self.slots.get_mut(&slot).and_then(|users| users.get_mut(user)) else {
            return; // It had run out.
        };
        *there = there.saturating_sub(hits);
        self.change(user, |sum| sum.saturating_sub(hits));
    }

    fn change(&mut self, user: &UserId, change: impl Fn(u64) -> u64) {
        let before = self.sums.remove(user).unwrap_or(0);
        self.order.remove(&(Reverse(before), user.clone()));
        let after = change(before);
        if after > 0 {
            self.sums.insert(user.clone(), after);
            self.order.insert((Reverse(after), user.clone()));
        }
    }

    /// Lists the users with the most hits at slot `now`, `most` of them at the most, busiest first,
    /// then by name. `look` is called for each user that is looked at.
    pub(super) fn top(&self, now: u64, most: usize, mut look: impl FnMut()) -> Vec<(UserId, u64)> {
        let mut gone = BTreeMap::<&UserId, u64>::new();
        for (_, users) in self.slots.iter().take_while(|(slot, _)| **slot + SLOTS < now) {
            for (user, hits) in users {
                look();
                *gone.entry(user).or_default() += hits;
            }
        }
        let mut top = BTreeSet::<(Reverse<u64>, &UserId)>::new();
        for (Reverse(sum), user) in &self.order {
            // Sums only shrink: whoever comes later is no busier than it was.
            let is_full = top.len() >= most;
            if is_full && top.last().is_none_or(|last| *last < (Reverse(*sum), user)) {
                break;
            }
            look();
            let hits = sum - gone.get(user).copied().unwrap_or(0);
            if hits > 0 {
                top.insert((Reverse(hits), user));
                if top.len() > most {
                    top.pop_last();
                }
            }
        }
        top.into_iter().map(|(Reverse(hits), user)| (user.clone(), hits)).collect()
    }
}
