//! Which events are in which segment of a journal that is being written (K331, K332).
//!
//! Files know the numbers of records alone, and readers of events go by those of events. So for
//! each segment this keeps how many events there were before its first record. That is known of
//! each segment that was begun since the start, and of record 1; of older ones it is counted when
//! somebody asks, backwards from the next one whose number is known: each at most once.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use super::journal::Known;
use super::reader::Mark;

/// How many places inside of segments are remembered.
pub const MARKS_MAX: usize = 4_096;

/// A segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    /// Its first record.
    first: u64,
    /// How many events there were before that, if that is known.
    before: Option<u64>,
}

/// A record, and the number of the last event up to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct End {
    /// The record.
    pub record: u64,
    /// The event.
    pub event: u64,
}

/// Where the events after a cursor are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// In the segment that begins with record `first`, before which there were `before` events.
    Segment {
        /// Its first record.
        first: u64,
        /// How many events there were before it.
        before: u64,
    },
    /// Behind this place, before which there were `before` events.
    Mark {
        /// Where.
        mark: Mark,
        /// How many events there were before it.
        before: u64,
    },
    /// That is not known before the events of the segment that begins with record `first` are
    /// counted, up to and with `end`: tell [`Places::counted`].
    Count {
        /// Its first record.
        first: u64,
        /// Its last record, and the last event there.
        end: End,
    },
    /// They are no longer kept.
    TooOld {
        /// The first event that is.
        oldest: u64,
    },
    /// Nowhere yet: there is no segment.
    Nowhere,
}

/// See the file's header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Places {
    /// In order of their records.
    list: VecDeque<Place>,
    /// Inside of segments, by how many events there were before.
    marks: BTreeMap<u64, Mark>,
    durable: End,
}

impl Places {
    /// Begins with the segments that a recovery found. What is durable then is `durable`.
    #[must_use]
    pub fn new(segments: &[Known], durable: End) -> Self {
        let mut places = Self { list: VecDeque::new(), marks: BTreeMap::new(), durable };
        places.list.extend(segments.iter().map(|known| Place::of(known.first)));
        places
    }

    /// Takes over which segments there are. A new one begins behind what is durable, and so this is
    /// to be told before [`Places::advance`] is.
    pub fn follow(&mut self, segments: impl DoubleEndedIterator<Item = Known> + Clone) {
        let ends = (segments.clone().next(), segments.clone().next_back());
        let known = (self.list.front(), self.list.back());
        let is = |known: Option<&Place>, now: Option<Known>| {
            known.map(|place| place.first) == now.map(|known| known.first)
        };
        if is(known.0, ends.0) && is(known.1, ends.1) {
            return;
        }
        let End { record, event } = self.durable;
        let list = segments.map(|known| {
            let old = self.list.binary_search_by_key(&known.first, |place| place.first);
            match old.ok().and_then(|at| self.list.get(at)) {
                Some(place) => *place,
                None if known.first == record + 1 => {
                    Place { first: known.first, before: Some(event) }
                }
                None => Place::of(known.first),
            }
        });
        self.list = list.collect();
        let oldest = self.list.front().map_or(u64::MAX, |place| place.first);
        self.marks.retain(|_, mark| mark.first >= oldest);
    }

    /// All up to `durable` is durable.
    pub const fn advance(&mut self, durable: End) {
        self.durable = durable;
    }

    /// Returns the last durable record, and the last durable event.
    #[must_use]
    pub const fn durable(&self) -> End {
        self.durable
    }

    /// Returns the last record that may be read of a segment; `None` if it is no longer kept.
    #[must_use]
    pub fn last_of(&self, first: u64) -> Option<u64> {
        let at = self.list.binary_search_by_key(&first, |place| place.first).ok()?;
        let next = self.list.get(at + 1).map_or(u64::MAX, |next| next.first);
        Some(self.durable.record.min(next - 1))
    }

    /// Says whether a segment begins with a record.
    #[must_use]
    pub fn begins(&self, record: u64) -> bool {
        self.list.binary_search_by_key(&record, |place| place.first).is_ok()
    }

    /// Finds the events after `cursor`.
    #[must_use]
    pub fn find(&self, cursor: u64) -> Found {
        let mut end = self.durable;
        let mut oldest = None;
        for place in self.list.iter().rev() {
            let Place { first, before } = *place;
            match before {
                None => return Found::Count { first, end },
                Some(before) if before <= cursor => return self.nearest(first, before, cursor),
                Some(before) => {
                    end = End { record: first - 1, event: before };
                    oldest = Some(before + 1);
                }
            }
        }
        oldest.map_or(Found::Nowhere, |oldest| Found::TooOld { oldest })
    }

    fn nearest(&self, first: u64, before: u64, cursor: u64) -> Found {
        let marked = self.marks.range(before..=cursor).next_back();
        match marked.filter(|(_, mark)| mark.first == first) {
            Some((before, mark)) => Found::Mark { mark: *mark, before: *before },
            None => Found::Segment { first, before },
        }
    }

    /// So many events there were before the segment that begins with record `first`.
    pub fn counted(&mut self, first: u64, before: u64) {
        if let Ok(at) = self.list.binary_search_by_key(&first, |place| place.first)
            && let Some(place) = self.list.get_mut(at)
        {
            place.before = Some(before);
        }
    }

    /// Remembers a place before which there were so many events.
    pub fn remember(&mut self, before: u64, mark: Mark) {
        self.marks.insert(before, mark);
        if self.marks.len() > MARKS_MAX {
            self.marks.pop_first();
        }
    }
}

impl Place {
    const fn of(first: u64) -> Self {
        let before = if first == 1 { Some(0) } else { None };
        Self { first, before }
    }
}
