//! The event heap: what happens next, ordered by time and then by the order of arrival (T1).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::hint::select_unpredictable;

/// A run of things due at the same moment that were added one right after the other, and in which
/// place of the slab the first of them lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    at: u64,
    sequence: u64,
    first: u32,
}

impl Ord for Run {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A pending thing, and the place of the one behind it in its run.
#[derive(Clone, Debug)]
struct Place<T> {
    thing: Option<T>,
    behind: u32,
}

/// The run that was added to last, while its last thing is pending.
#[derive(Clone, Copy, Debug)]
struct Open {
    at: u64,
    last: u32,
}

/// No place.
const NONE: u32 = u32::MAX;

/// A queue of things that are due at a moment. Equal moments keep the order of arrival.
///
/// The heap holds 24-byte keys, one a run; the things themselves lie still in a slab. Things that
/// come in bursts (a node's outputs over links of equal delay) so pay for the heap once.
#[derive(Clone, Debug)]
pub struct Agenda<T> {
    /// The run that was taken from last; most often the first still.
    front: Option<Run>,
    heap: BinaryHeap<Reverse<Run>>,
    slab: Vec<Place<T>>,
    free: Vec<u32>,
    open: Option<Open>,
    sequence: u64,
}

impl<T> Agenda<T> {
    /// Makes an empty queue with room for `capacity` things.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            front: None,
            heap: BinaryHeap::with_capacity(capacity),
            slab: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            open: None,
            sequence: 0,
        }
    }

    /// Adds `thing`, due at `at`.
    #[inline(always)] // What is added is written once, into its place.
    pub fn push(&mut self, at: u64, thing: T) {
        let place = self.place(thing);
        match &mut self.open {
            // Nothing was added since but to this run, so the order of arrival is kept.
            Some(open) if open.at == at => {
                self.slab[open.last as usize].behind = place;
                open.last = place;
            }
            Some(_) | None => {
                self.heap.push(Reverse(Run { at, sequence: self.sequence, first: place }));
                self.sequence += 1;
                self.open = Some(Open { at, last: place });
            }
        }
    }

    /// Returns when the next thing is due.
    #[must_use]
    #[inline]
    pub fn next_at(&self) -> Option<u64> {
        let behind = self.heap.peek().map(|Reverse(run)| run.at);
        match self.front {
            Some(run) => Some(behind.map_or(run.at, |at| at.min(run.at))),
            None => behind,
        }
    }

    /// Takes the next thing. `swap` is asked about the first two only if both are due at the same
    /// moment: `true` takes the second, and the first stays first in line.
    #[inline(always)]
    pub fn pop(&mut self, swap: impl FnOnce(&T, &T) -> bool) -> Option<(u64, T)> {
        let run = self.first_run()?;
        let behind = self.slab[run.first as usize].behind;
        if behind != NONE {
            let turned = is_turned(&self.slab, run.first, behind, swap);
            // Both ways at once: nobody can foretell a tie, and to guess wrong costs more.
            let taken = select_unpredictable(turned, behind, run.first);
            let kept = select_unpredictable(turned, run.first, behind);
            self.slab[kept as usize].behind = self.slab[behind as usize].behind;
            if let Some(open) = &mut self.open
                && open.last == behind
            {
                open.last = kept;
            }
            self.front = Some(Run { first: kept, ..run });
            return Some((run.at, self.take(taken)));
        }
        self.front = None;
        let tied = self.heap.peek().filter(|Reverse(second)| second.at == run.at);
        let second = tied.map(|Reverse(second)| second.first);
        if second.is_some_and(|second| is_turned(&self.slab, run.first, second, swap)) {
            return self.pop_before(run);
        }
        Some((run.at, self.take(run.first)))
    }

    /// Makes the first of all runs the front, and returns it.
    #[inline(always)]
    fn first_run(&mut self) -> Option<Run> {
        match (self.front, self.heap.peek()) {
            (None, _) => self.front = self.heap.pop().map(|Reverse(run)| run),
            (Some(front), Some(Reverse(run))) if *run < front => {
                self.heap.push(Reverse(front));
                self.front = self.heap.pop().map(|Reverse(run)| run);
            }
            (Some(_), _) => {}
        }
        self.front
    }

    /// Takes the first thing of the heap, and puts `run` before what is left.
    #[inline(never)]
    fn pop_before(&mut self, run: Run) -> Option<(u64, T)> {
        let second = self.pop(|_, _| false);
        if let Some(rest) = self.front.replace(run) {
            self.heap.push(Reverse(rest));
        }
        second
    }

    /// Puts `thing` into a place of the slab, as the last of its run.
    #[inline(always)]
    fn place(&mut self, thing: T) -> u32 {
        let filled = Place { thing: Some(thing), behind: NONE };
        if let Some(free) = self.free.pop() {
            self.slab[free as usize] = filled;
            return free;
        }
        let place = u32::try_from(self.slab.len()).expect("fewer than 2^32 pending events");
        self.slab.push(filled);
        place
    }

    /// Empties a place that is in no run any more.
    #[inline(always)]
    fn take(&mut self, place: u32) -> T {
        if self.open.is_some_and(|open| open.last == place) {
            self.open = None;
        }
        self.free.push(place);
        let thing = self.slab[place as usize].thing.take();
        thing.expect("a pending place has its thing")
    }

    /// Returns how many things are pending.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slab.len() - self.free.len()
    }

    /// Says whether nothing is pending.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Asks about the things in two places.
#[inline]
fn is_turned<T>(
    slab: &[Place<T>],
    first: u32,
    second: u32,
    swap: impl FnOnce(&T, &T) -> bool,
) -> bool {
    let thing = |place: u32| slab[place as usize].thing.as_ref();
    thing(first).zip(thing(second)).is_some_and(|(first, second)| swap(first, second))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// T1: (virtual time, tie-break, sequence).
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

    /// T1, T11: of two things of one moment the first is first, unless the decision turns them.
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

    #[test]
    fn a_burst_keeps_its_order_among_others_of_the_same_moment() {
        let mut agenda = Agenda::with_capacity(4);
        for (at, name) in [(5, 'a'), (5, 'b'), (7, 'x'), (5, 'c'), (5, 'd'), (7, 'y')] {
            agenda.push(at, name);
        }
        assert_eq!(agenda.len(), 6);
        assert_eq!(agenda.pop(|_, _| true), Some((5, 'b')));
        assert_eq!(agenda.pop(|_, _| true), Some((5, 'c')));
        agenda.push(7, 'z');
        let order: Vec<char> =
            std::iter::from_fn(|| agenda.pop(|_, _| false)).map(|(_, name)| name).collect();
        assert_eq!(order, ['a', 'd', 'x', 'y', 'z']);
    }

    proptest! {
        /// T1, beside a sorted list: whatever is pushed, popped and swapped, in whatever order.
        #[test]
        fn it_is_a_list_sorted_by_time_and_arrival(
            steps in vec(prop_oneof![(0..4_u64).prop_map(Some), Just(None)], 0..200),
            swaps in vec(any::<bool>(), 200),
        ) {
            let mut agenda = Agenda::with_capacity(0);
            let mut list: Vec<(u64, usize)> = Vec::new();
            let mut asked = swaps.into_iter();
            for (number, step) in steps.into_iter().enumerate() {
                if let Some(at) = step {
                    agenda.push(at, number);
                    list.push((at, number));
                    list.sort_unstable();
                } else {
                    let swap = asked.next().unwrap_or_default();
                    let tied = list.len() > 1 && list[0].0 == list[1].0;
                    let expected = match list.len() {
                        0 => None,
                        _ => Some(list.remove(usize::from(tied && swap))),
                    };
                    let mut questions = 0;
                    let popped = agenda.pop(|_, _| { questions += 1; swap });
                    prop_assert_eq!(popped, expected);
                    prop_assert_eq!(questions, usize::from(tied));
                }
                prop_assert_eq!(agenda.len(), list.len());
                prop_assert_eq!(agenda.next_at(), list.first().map(|(at, _)| *at));
            }
        }
    }
}
