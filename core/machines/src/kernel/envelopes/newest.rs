//! A list that keeps its newest entries and counts the others (K30).

use std::collections::VecDeque;
use std::collections::vec_deque::Iter;

use crate::codec::{Malformed, Reader, Wire};

/// Entries kept of each list of an envelope (K30).
pub const NEWEST_MAX: usize = 1_024;

/// The newest [`NEWEST_MAX`] entries, oldest first, and how many came before them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Newest<T> {
    items: VecDeque<T>,
    dropped: u64,
}

impl<T> Newest<T> {
    /// Makes an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { items: VecDeque::new(), dropped: 0 }
    }

    /// Returns how many entries were dropped.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Returns how many entries are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Says whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Goes through the entries, oldest first.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        self.items.iter()
    }

    /// Adds an entry; returns the one that is dropped for it.
    pub(super) fn push(&mut self, item: T) -> Option<T> {
        let dropped = match self.items.len() >= NEWEST_MAX {
            true => self.items.pop_front(),
            false => None,
        };
        self.dropped += u64::from(dropped.is_some());
        self.items.push_back(item);
        dropped
    }

    /// Finds the newest entry that is meant, to change it. Costs as many steps as it is old.
    pub(super) fn newest_mut(&mut self, meant: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.items.iter_mut().rev().find(|item| meant(item))
    }
}

impl<T> Default for Newest<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, T> IntoIterator for &'a Newest<T> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Wire> Wire for Newest<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.items.encode(out);
        self.dropped.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        let (items, dropped) = (VecDeque::decode(reader)?, u64::decode(reader)?);
        match items.len() <= NEWEST_MAX {
            true => Ok(Self { items, dropped }),
            false => Err(here.malformed("at most 1,024 entries")),
        }
    }
}
