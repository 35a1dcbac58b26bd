//! What an observer knows of the records: what was decided, what went to the disk, what was told.
//!
//! Nothing here asks the machine: records are read from the bytes that are written, and whether one
//! is durable is seen on the platter.

use std::collections::BTreeMap;
use std::sync::Arc;

use machines::ledger::record::{Chain, Frame, Kind};
use machines::ledger::root::StateRoot;

use super::io::Decided;
use crate::files::{Files, InodeId, Operation};

/// Where a record was written to.
#[derive(Clone, Debug)]
struct Place {
    inode: InodeId,
    offset: u64,
    bytes: Arc<Vec<u8>>,
    range: (usize, usize),
}

/// A record that was seen on its way to the disk.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Its number.
    pub number: u64,
    /// The highest record that it says was durable.
    pub synced: u64,
    /// How many events it has.
    pub count: u32,
    /// Kernel time.
    pub time_ms: u64,
    /// Its hash.
    pub hash: Chain,
    /// Its events, and padding.
    pub body: &'a [u8],
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By record, from 1: bytes and root.
    decided: Arc<Vec<(u64, Option<StateRoot>)>>,
    /// By record, from 1: the hash that was written.
    hashes: Arc<Vec<Chain>>,
    /// By record, from 1: the number of its last event.
    ends: Arc<Vec<u64>>,
    /// Records that were not yet seen to be durable.
    places: BTreeMap<u64, Vec<Place>>,
    /// All records up to this one were seen to be durable.
    proven: u64,
    /// The highest record that an answer told of.
    acknowledged: u64,
    /// Bytes of records that are decided and not told to be durable.
    held: u64,
    durable: u64,
}

fn place(number: u64) -> usize {
    usize::try_from(number - 1).expect("a run has few records")
}

impl History {
    /// Returns the root after a record, if that is known; 0 is none.
    #[must_use]
    pub fn root(&self, record: u64) -> Option<StateRoot> {
        record.checked_sub(1)?;
        self.decided.get(place(record)).and_then(|(_, root)| *root)
    }

    /// Returns the hash that was written for a record.
    #[must_use]
    pub fn hash(&self, record: u64) -> Option<Chain> {
        record.checked_sub(1)?;
        self.hashes.get(place(record)).copied()
    }

    /// Returns the record in which an event was written, if it was.
    #[must_use]
    pub fn record_of(&self, event: u64) -> Option<u64> {
        let before = self.ends.partition_point(|last| *last < event);
        (event > 0 && before < self.ends.len()).then_some(before as u64 + 1)
    }

    /// Returns the number of the last event of a record that was written; 0 of record 0.
    #[must_use]
    pub fn last_event(&self, record: u64) -> Option<u64> {
        match record {
            0 => Some(0),
            _ => self.ends.get(place(record)).copied(),
        }
    }

    /// Returns how many records were decided.
    #[must_use]
    pub fn decided(&self) -> u64 {
        self.decided.len() as u64
    }

    /// Returns the highest record that an answer told of.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Returns the bytes of records that are not said to be durable.
    #[must_use]
    pub const fn held(&self) -> u64 {
        self.held
    }

    /// Returns how far records are said to be durable.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn decide(&mut self, decided: &Decided) {
        let all = Arc::make_mut(&mut self.decided);
        all.truncate(place(decided.record));
        all.push((decided.bytes, decided.root));
        self.held += decided.bytes;
    }

    pub(super) fn tell_durable(&mut self, record: u64) {
        let told = self.decided.iter().take(usize::try_from(record).unwrap_or(usize::MAX));
        let told = told.skip(usize::try_from(self.durable).unwrap_or(usize::MAX));
        self.held = self.held.saturating_sub(told.map(|(bytes, _)| bytes).sum());
        self.durable = self.durable.max(record);
    }

    pub(super) fn acknowledge(&mut self, record: u64) {
        self.acknowledged = self.acknowledged.max(record);
    }

    /// A start found records up to `head`; what came after them never happened.
    pub(super) fn recover(&mut self, head: u64, root: Option<StateRoot>) {
        let kept = usize::try_from(head).expect("a run has few records");
        let all = Arc::make_mut(&mut self.decided);
        all.truncate(kept);
        // Only a disk that lied can leave more than was decided: then nothing is known of it.
        all.resize(kept, (0, root));
        Arc::make_mut(&mut self.hashes).truncate(kept);
        Arc::make_mut(&mut self.ends).truncate(kept);
        self.places.split_off(&(head + 1));
        self.proven = self.proven.min(head);
        self.acknowledged = self.acknowledged.min(head);
        (self.held, self.durable) = (0, head);
    }

    /// Notes what a write brings to the journal, and lists it.
    pub(super) fn observe<'a>(
        &mut self,
        files: &Files,
        operation: &'a Operation,
    ) -> Vec<Written<'a>> {
        let Operation::Write { file, offset, bytes } = operation else {
            return Vec::new();
        };
        if !file.starts_with("journal/") {
            return Vec::new();
        }
        let Some(inode) = files.inode(file) else {
            return Vec::new();
        };
        let (mut at, mut found) = (0, Vec::new());
        while let Ok(frame) = Frame::parse(&bytes[at..]) {
            let length = frame.bytes().len();
            if frame.fields.kind == Kind::Events {
                let number = frame.fields.number;
                self.note_hash(number, frame.stored());
                self.note_end(number, frame.fields.count);
                let (offset, range) = (*offset + at as u64, (at, at + length));
                let place = Place { inode, offset, bytes: Arc::clone(bytes), range };
                self.places.entry(number).or_default().push(place);
                found.push(Written {
                    number,
                    synced: frame.fields.synced,
                    count: frame.fields.count,
                    time_ms: frame.fields.time_ms,
                    hash: frame.stored(),
                    body: frame.body(),
                });
            }
            at += length;
        }
        found
    }

    fn note_hash(&mut self, number: u64, hash: Chain) {
        let all = Arc::make_mut(&mut self.hashes);
        if all.len() < place(number) + 1 {
            all.resize(place(number) + 1, [0; 32]);
        }
        all[place(number)] = hash;
    }

    fn note_end(&mut self, number: u64, count: u32) {
        let before = self.last_event(number - 1);
        let all = Arc::make_mut(&mut self.ends);
        // A record that is written again has as many events as before.
        if let Some(before) = before.filter(|_| all.len() < place(number) + 1) {
            all.push(before + u64::from(count));
        }
    }

    /// Looks whether all records up to `record` are on the platter, under a name of a segment,
    /// whatever a power cut does now. Returns the first that is not.
    pub(super) fn prove(&mut self, files: &Files, record: u64) -> Result<(), u64> {
        while self.proven < record {
            let next = self.proven + 1;
            let there = |place: &Place| {
                let bytes = &place.bytes[place.range.0..place.range.1];
                files.is_durable(place.inode, place.offset, bytes, |name| name.ends_with(".seg"))
            };
            if !self.places.get(&next).is_some_and(|places| places.iter().any(there)) {
                return Err(next);
            }
            self.places.remove(&next);
            self.proven = next;
        }
        Ok(())
    }
}
