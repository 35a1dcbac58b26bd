//! The event heap: what happens next, ordered by time and then by the order of arrival (T1).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// What is due, and in which place of the slab it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at: u64,
    sequence: u64,
    slot: u32,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A queue of things that are due at a moment. Equal moments keep the order of arrival.
///
/// The heap holds 24-byte keys; the things themselves lie still in a slab.
#[derive(Clone, Debug)]
pub struct Agenda<T> {
    heap: BinaryHeap<Reverse<Entry>>,
    slab: Vec<Option<T>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<T> Agenda<T> {
    /// Makes an empty queue with room for `capacity` things.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            heap: BinaryHeap::with_capacity(capacity),
            slab: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            sequence: 0,
        }
    }

    /// Adds `thing`, due at `at`.
    #[inline]
    pub fn push(&mut self, at: u64, thing: T) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slab[slot as usize] = Some(thing);
                slot
            }
            None => {
                let slot = u32::try_from(self.slab.len()).expect("fewer than 2^32 pending events");
                self.slab.push(Some(thing));
                slot
            }
        };
        let sequence = self.sequence;
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, sequence, slot }));
    }

    /// Returns when the next thing is due.
    #[must_use]
    #[inline]
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes the next thing. `swap` is asked about the first two only if both are due at the same
    /// moment: `true` takes the second, and the first stays first in line.
    #[inline]
    pub fn pop(&mut self, swap: impl FnOnce(&T, &T) -> bool) -> Option<(u64, T)> {
        let Reverse(first) = self.heap.pop()?;
        let taken = if self.is_turned(first, swap) { self.take_second(first) } else { first };
        let thing = self.slab[taken.slot as usize].take();
        self.free.push(taken.slot);
        Some((taken.at, thing.expect("a pending entry has its thing in the slab")))
    }

    #[inline]
    fn is_turned(&self, first: Entry, swap: impl FnOnce(&T, &T) -> bool) -> bool {
        let Some(Reverse(second)) = self.heap.peek().filter(|second| second.0.at == first.at)
        else {
            return false;
        };
        let of = |entry: &Entry| self.slab[entry.slot as usize].as_ref();
        of(&first).zip(of(second)).is_some_and(|(first, second)| swap(first, second))
    }

    /// Puts `first` back and returns the one behind it.
    fn take_second(&mut self, first: Entry) -> Entry {
        let second = self.heap.pop();
        self.heap.push(Reverse(first));
        second.map_or(first, |Reverse(second)| second)
    }

    /// Returns how many things are pending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Says whether nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_order_of_time_and_then_of_arrival() {
        let mut agenda = Agenda::with_capacity(4);
        for (at, name) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b')] {
            agenda.push(at, name);
        }
        let order: Vec<char> =
            std::iter::from_fn(|| agenda.pop(|_, _| false)).map(|(_, name)| name).collect();
        assert_eq!(order, ['a', 'b', 'c', 'd']);
    }

    #[test]
    fn a_tie_is_asked_about_and_can_be_turned() {
        let mut agenda = Agenda::with_capacity(4);
        agenda.push(1, 'a');
        agenda.push(2, 'b');
        agenda.push(2, 'c');
        assert_eq!(agenda.pop(|_, _| panic!("no tie")), Some((1, 'a')));
        assert_eq!(agenda.pop(|one, other| (*one, *other) == ('b', 'c')), Some((2, 'c')));
        assert_eq!(agenda.pop(|_, _| panic!("no tie")), Some((2, 'b')));
        assert!(agenda.is_empty());
    }
}
