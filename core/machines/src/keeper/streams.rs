//! The readers of events: each sees all that it may see, once, in order, durable (K331–K333).
//!
//! ```text
//!              segment unknown                   all of it counted
//!   open ─► Finding ──────────► Counting ────────────────────────────┐
//!              │ ▲                                                   │
//!              │ └───────────────────────────────────────────────────┤
//!              ▼                      the segment is gone            │
//!           Walking ── record ─► record ─► … ── end ─► next segment, or wait for Durable
//!              │
//!              └─► Batch, when one is wanted and something is there
//! ```
//!
//! There is one road from the journal to a reader, for old events and for new ones: the files. A
//! reader that keeps up and one that is a week late differ in nothing, so there is no moment at
//! which one is handed over, and none that could be slipped in.
//!
//! Nothing is read for a reader that does not want more, and it is given one batch at a time: a
//! slow one holds a batch and a range of a file, and loses nothing.
//!
//! Few reads are out at a time, whatever the number of readers: a disk that is busy with them would
//! not write (L20). Who wants bytes queues for its turn, and behind all others for the next.
//!
//! # Known limits
//!
//! The first reader of old events after a start has every segment from there on counted. One that
//! begins inside a segment walks it from the last place that some reader has remembered.

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use super::io::Reader;
use crate::cluster::ids::NodeId;
use crate::kernel::event::Event;
use crate::kernel::part::KernelPart;
use crate::kernel::principal::Principal;
use crate::kernel::stream::{Batch, Detail, Filter, Numbered, Reading};
use crate::kernel::{Code, Refusal};
use crate::ledger::fold::Frame;
use crate::ledger::journal::Known;
use crate::ledger::journal::io::DiskError;
use crate::ledger::places::{End, Found, Places};
use crate::ledger::reader::{READ_MAX, Step, Walk};
use crate::ledger::recovery::io::Entry;
use crate::ledger::segment::File;
use crate::sometimes;

/// How many readers there may be at a time.
pub(super) const READERS_MAX: usize = 1_024;
/// A batch with so many events is given.
pub(super) const BATCH_EVENTS: usize = 256;
/// A batch is also given when so many bytes of records have been read for it.
pub(super) const BATCH_BYTES: u64 = READ_MAX;
/// So many reads are out at a time.
pub(super) const READS_MAX: usize = 2;
/// Who sees nothing of so many events is told how far it is.
pub(super) const PASSED_MAX: u64 = 4_096;

/// What is wanted or told.
#[derive(Clone, Debug)]
pub(super) enum Output {
    /// Read bytes for a reader.
    Read { reader: Reader, file: File, offset: u64, bytes: u64 },
    /// Events for a reader.
    Batch(Reader, Batch),
    /// A reader gets no more.
    Ended(Reader, Refusal),
}

/// Where a reader is.
#[derive(Clone, Debug)]
enum At {
    Finding,
    /// Counts the events of a segment up to `end`.
    Counting {
        walk: Walk,
        end: End,
        events: u64,
    },
    /// `before` is the number of the last event that was walked past.
    Walking {
        walk: Walk,
        before: u64,
        /// Where the last place that is remembered stands.
        marked: u64,
    },
}

/// One reader.
#[derive(Clone, Debug)]
struct One {
    by: Principal,
    filter: Filter,
    detail: Detail,
    /// It has been told of, or has passed over, all events up to this one.
    cursor: u64,
    /// Where it ends.
    until: Option<u64>,
    wants: bool,
    /// It waits for bytes; what was durable when they were asked for.
    asked: Option<u64>,
    at: At,
    events: Vec<Numbered>,
    bytes: u64,
    /// The cursor that it was told last.
    told: u64,
}

/// Bytes that a reader waits for, while others are read.
#[derive(Clone, Copy, Debug)]
struct Turn {
    reader: Reader,
    file: File,
    offset: u64,
    bytes: u64,
}

/// Whether the work on a reader goes on.
enum Go {
    On,
    Wait,
    End(Refusal),
}

/// See the file's header.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    node: NodeId,
    places: Places,
    /// The last event that the start found. It may have been told before, though the files prove
    /// it durable only when the first segment is open.
    recovered: u64,
    readers: BTreeMap<Reader, One>,
    /// Of readers that there are, at most one of each.
    turns: VecDeque<Turn>,
    /// How many reads are out, those of readers that have left included.
    out: usize,
    outputs: VecDeque<Output>,
}

impl Streams {
    pub(super) const fn new(node: NodeId, places: Places, recovered: u64) -> Self {
        Self {
            node,
            places,
            recovered,
            readers: BTreeMap::new(),
            turns: VecDeque::new(),
            out: 0,
            outputs: VecDeque::new(),
        }
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Opens a reader. It is given nothing before it wants something.
    ///
    /// # Errors
    ///
    /// The cursor is beyond the last event, or there are too many readers.
    pub(super) fn open(
        &mut self,
        reader: Reader,
        by: Principal,
        reading: Reading,
    ) -> Result<(), Refusal> {
        let last = self.places.durable().event;
        let Reading { cursor, follow, filter, detail } = reading;
        let cursor = cursor.unwrap_or(last);
        if cursor > last.max(self.recovered) {
            let told = format!("cursor {cursor} is beyond the last event, {last}");
            return Err(Refusal::of_field(Code::CursorAhead, "cursor", told));
        }
        if self.readers.len() >= READERS_MAX {
            let told = format!("{READERS_MAX} readers follow the events");
            return Err(Refusal::new(Code::Overloaded, told));
        }
        let one = One {
            by,
            filter,
            detail,
            cursor,
            until: (!follow).then_some(last),
            wants: false,
            asked: None,
            at: At::Finding,
            events: Vec::new(),
            bytes: 0,
            told: cursor,
        };
        self.readers.insert(reader, one);
        Ok(())
    }

    /// Says whether there is such a reader.
    pub(super) fn has(&self, reader: Reader) -> bool {
        self.readers.contains_key(&reader)
    }

    /// A reader wants its next batch.
    pub(super) fn want(&mut self, reader: Reader) {
        if let Some(one) = self.readers.get_mut(&reader) {
            one.wants = true;
            self.run(reader);
            self.read_next();
        }
    }

    pub(super) fn close(&mut self, reader: Reader) {
        self.readers.remove(&reader);
        self.turns.retain(|turn| turn.reader != reader);
    }

    /// Ends all readers.
    pub(super) fn end(&mut self, why: &Refusal) -> impl Iterator<Item = (Reader, Refusal)> {
        self.turns.clear();
        let readers = std::mem::take(&mut self.readers);
        readers.into_keys().map(|reader| (reader, why.clone()))
    }

    /// Takes over which segments there are; to be told before [`Streams::durable`] is.
    pub(super) fn follow(&mut self, segments: impl DoubleEndedIterator<Item = Known> + Clone) {
        self.places.follow(segments);
    }

    /// All up to `durable` is durable: whoever waits for that goes on.
    pub(super) fn durable(&mut self, durable: End) {
        self.places.advance(durable);
        let waiting = self.readers.iter().filter(|(_, one)| one.wants && one.asked.is_none());
        let waiting: Vec<Reader> = waiting.map(|(reader, _)| *reader).collect();
        for reader in waiting {
            self.run(reader);
        }
        self.read_next();
    }

    /// The bytes that a reader waits for, or waited for before it left.
    pub(super) fn read(&mut self, reader: Reader, bytes: Vec<u8>) {
        self.out -= 1;
        if let Some(one) = self.readers.get_mut(&reader) {
            let durable = one.asked.take().unwrap_or(0);
            match &mut one.at {
                At::Walking { walk, .. } | At::Counting { walk, .. } => walk.fill(bytes, durable),
                At::Finding => {}
            }
            self.run(reader);
        }
        self.read_next();
    }

    /// They could not be read: as old as they are, they may be gone.
    pub(super) fn failed(&mut self, reader: Reader, error: DiskError) {
        self.out -= 1;
        self.miss(reader, error);
        self.read_next();
    }

    fn miss(&mut self, reader: Reader, error: DiskError) {
        let Some(one) = self.readers.get_mut(&reader) else {
            return;
        };
        one.asked = None;
        let (At::Walking { walk, .. } | At::Counting { walk, .. }) = &one.at else {
            return;
        };
        if self.places.last_of(walk.first()).is_some() {
            let (file, record) = (File::Segment(walk.first()), walk.next());
            let told = format!("journal/{file}: record {record} cannot be read: {error}");
            self.stop(reader, Refusal::new(Code::Internal, told));
            return;
        }
        one.at = At::Finding;
        self.run(reader);
    }

    fn stop(&mut self, reader: Reader, why: Refusal) {
        self.readers.remove(&reader);
        self.outputs.push_back(Output::Ended(reader, why));
    }

    /// Goes on for one reader until it has a batch or waits for something.
    fn run(&mut self, reader: Reader) {
        while let Some(mut one) = self.readers.remove(&reader) {
            if !one.wants || one.asked.is_some() {
                self.readers.insert(reader, one);
                return;
            }
            let went = match one.is_full() {
                true => {
                    self.give(reader, one);
                    return;
                }
                false => self.step(reader, &mut one),
            };
            match went {
                Go::On => {
                    self.readers.insert(reader, one);
                }
                Go::Wait if one.has_news() => {
                    self.give(reader, one);
                    return;
                }
                Go::Wait => {
                    self.readers.insert(reader, one);
                    return;
                }
                Go::End(why) => {
                    // What was read before it is wrong in nothing.
                    self.outputs.push_back(Output::Ended(reader, why));
                    return;
                }
            }
        }
    }

    /// Gives a reader what there is for it.
    fn give(&mut self, reader: Reader, mut one: One) {
        let last = one.until.is_some_and(|until| one.cursor >= until);
        let batch = Batch { events: std::mem::take(&mut one.events), cursor: one.cursor, last };
        one.bytes = 0;
        one.told = one.cursor;
        one.wants = false;
        self.outputs.push_back(Output::Batch(reader, batch));
        if !last {
            self.readers.insert(reader, one);
        }
    }

    fn step(&mut self, reader: Reader, one: &mut One) -> Go {
        match std::mem::replace(&mut one.at, At::Finding) {
            At::Finding => self.find(one),
            At::Counting { walk, end, events } => self.count(reader, one, (walk, end, events)),
            At::Walking { walk, before, marked } => self.walk(reader, one, (walk, before, marked)),
        }
    }

    fn find(&self, one: &mut One) -> Go {
        let node = self.node;
        one.at = match self.places.find(one.cursor) {
            Found::Segment { first, before } => {
                At::Walking { walk: Walk::new(node, first), before, marked: before }
            }
            Found::Mark { mark, before } => {
                sometimes!("streams: a reader begins inside a segment");
                At::Walking { walk: Walk::from(node, mark), before, marked: before }
            }
            Found::Count { first, end } => {
                sometimes!("streams: the events of an old segment are counted");
                At::Counting { walk: Walk::new(node, first), end, events: 0 }
            }
            Found::TooOld { oldest } => {
                sometimes!("streams: a reader comes too late");
                let told = format!("oldest available event is {oldest}");
                return Go::End(Refusal::of_field(Code::CursorTooOld, "cursor", told));
            }
            Found::Nowhere => return Go::Wait,
        };
        Go::On
    }

    fn count(
        &mut self,
        reader: Reader,
        one: &mut One,
        (mut walk, end, events): (Walk, End, u64),
    ) -> Go {
        if self.places.last_of(walk.first()).is_none() {
            return Go::On; // It is gone; look again.
        }
        match walk.step(end.record) {
            Err(damaged) => Go::End(Refusal::new(Code::Internal, damaged.to_string())),
            Ok(Step::Read { file, offset, bytes }) => {
                one.at = At::Counting { walk, end, events };
                self.ask(reader, one, (file, offset, bytes))
            }
            Ok(Step::Record(entry)) => {
                let events = events + u64::from(entry.count);
                one.at = At::Counting { walk, end, events };
                Go::On
            }
            Ok(Step::End) => match end.event.checked_sub(events) {
                Some(before) => {
                    self.places.counted(walk.first(), before);
                    Go::On
                }
                None => Go::End(Refusal::new(Code::Internal, "the journal has too many events")),
            },
        }
    }

    fn walk(
        &mut self,
        reader: Reader,
        one: &mut One,
        (mut walk, before, mut marked): (Walk, u64, u64),
    ) -> Go {
        let Some(last) = self.places.last_of(walk.first()) else {
            return Go::On; // It is gone; look again.
        };
        let went = match walk.step(last) {
            Err(damaged) => return Go::End(Refusal::new(Code::Internal, damaged.to_string())),
            Ok(Step::Read { file, offset, bytes }) => {
                if let Some(mark) = walk.mark().filter(|_| bytes == READ_MAX && before > marked) {
                    self.places.remember(before, mark);
                    marked = before;
                }
                self.ask(reader, one, (file, offset, bytes))
            }
            Ok(Step::Record(entry)) => {
                let after = before + u64::from(entry.count);
                one.at = At::Walking { walk, before: after, marked };
                return match one.take(before, &entry) {
                    Ok(()) => Go::On,
                    Err(why) => Go::End(why),
                };
            }
            Ok(Step::End) if self.places.begins(walk.next()) && walk.next() > walk.first() => {
                sometimes!("streams: a reader goes on in the next segment");
                walk = Walk::new(self.node, walk.next());
                Go::On
            }
            Ok(Step::End) => Go::Wait,
        };
        one.at = At::Walking { walk, before, marked };
        went
    }

    fn ask(
        &mut self,
        reader: Reader,
        one: &mut One,
        (file, offset, bytes): (File, u64, u64),
    ) -> Go {
        one.asked = Some(self.places.durable().record);
        self.turns.push_back(Turn { reader, file, offset, bytes });
        Go::On
    }

    /// Reads for those whose turn it is.
    fn read_next(&mut self) {
        while self.out < READS_MAX
            && let Some(Turn { reader, file, offset, bytes }) = self.turns.pop_front()
        {
            if let Some(one) = self.readers.get_mut(&reader) {
                // What became durable while it waited can be trusted, too.
                one.asked = Some(self.places.durable().record);
                self.out += 1;
                self.outputs.push_back(Output::Read { reader, file, offset, bytes });
            }
        }
        if !self.turns.is_empty() {
            sometimes!("streams: a reader waits for its turn");
        }
    }
}

impl One {
    /// Says whether there is enough for a batch, or nothing more to come.
    fn is_full(&self) -> bool {
        self.events.len() >= BATCH_EVENTS
            || (self.bytes >= BATCH_BYTES && !self.events.is_empty())
            || self.cursor - self.told >= PASSED_MAX
            || self.until.is_some_and(|until| self.cursor >= until)
    }

    /// Says whether there is something for it, now that nothing more is there.
    const fn has_news(&self) -> bool {
        !self.events.is_empty()
    }

    /// Takes the events of a record that it wants and may see; `before` is the number of the last
    /// event of the record before.
    fn take(&mut self, before: u64, entry: &Entry) -> Result<(), Refusal> {
        let broken = |why: &dyn std::fmt::Display| {
            Refusal::new(Code::Internal, format!("record {}: {why}", entry.number))
        };
        if before + u64::from(entry.count) <= self.cursor {
            return Ok(());
        }
        self.bytes += entry.body.len() as u64;
        let frames = frames(entry).map_err(|why| broken(&why))?;
        for (number, frame) in (before + 1..).zip(frames) {
            if number <= self.cursor || self.until.is_some_and(|until| number > until) {
                continue;
            }
            let event = frame.read::<KernelPart>().map_err(|why| broken(&why))?;
            if self.shows(&event) {
                let event = self.detail.of(event);
                self.events.push(Numbered { number, event });
            }
            self.cursor = number;
        }
        Ok(())
    }

    fn shows(&self, event: &Event) -> bool {
        self.by.may_read(event) && self.filter.picks(event)
    }
}

/// Splits a record into its events.
fn frames(entry: &Entry) -> Result<Vec<Frame<'_>>, crate::codec::Malformed> {
    let mut reader = crate::codec::Reader::new(&entry.body);
    (0..entry.count).map(|_| Frame::take(&mut reader)).collect()
}
