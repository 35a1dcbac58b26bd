//! How often each question was asked: an open-addressing table that is only ever looked up.

use std::hash::{Hash, Hasher};

const EMPTY: u64 = 0;

/// Stream key → number of questions so far. Never iterated for a decision.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// A power of two long, or empty. Key 0 marks a free slot.
    slots: Vec<(u64, u32)>,
    used: usize,
    /// Order-independent digest of the content, so that equal content hashes equal.
    sum: u64,
}

impl Counts {
    /// Returns how often `key` was asked before, and counts this question.
    #[inline]
    pub(super) fn next(&mut self, key: u64) -> u32 {
        let key = key.max(1);
        if self.used * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let at = find(&self.slots, key);
        let (held, count) = &mut self.slots[at];
        if *held == EMPTY {
            *held = key;
            self.used += 1;
        }
        let nth = *count;
        *count = count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(key);
        nth
    }

    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(16);
        let mut slots = vec![(EMPTY, 0); len];
        for &(key, count) in &self.slots {
            if key != EMPTY {
                let at = find(&slots, key);
                slots[at] = (key, count);
            }
        }
        self.slots = slots;
    }
}

/// Finds the slot of `key`, or the free one where it belongs. The table is never full.
#[expect(clippy::cast_possible_truncation, reason = "the mask keeps what fits")]
fn find(slots: &[(u64, u32)], key: u64) -> usize {
    let mask = slots.len() - 1;
    let mut at = key as usize & mask;
    while slots[at].0 != key && slots[at].0 != EMPTY {
        at = (at + 1) & mask;
    }
    at
}

impl Hash for Counts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sum.hash(state);
    }
}
