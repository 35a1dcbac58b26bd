//! Recovery: reads the journal, checks all of it, and hands the records out (L30–L36).
//!
//! ```text
//!        List          headers            records in order, to the end of the last segment
//!   new ─────► Listing ───────► Headers ─────────────────────────────────────► Scanning
//!                 │                │                                              │ not a record
//!                 ▼                ▼                                              ▼
//!              Refused ◄───────────┴──────────────────────────────────────────  Seeking
//!                                        an acknowledged record is damaged        │
//!                                                                                 ▼
//!                                                    the end, or a torn tail: Recovered
//! ```
//!
//! It writes nothing, and what it finds depends on the files alone: a crash during recovery, or
//! while the journal opens its first segment, leads to the same records (L35).
//!
//! # Which of two segments is right
//!
//! A segment whose header says first record n, with the chain that ends at n − 1, holds what comes
//! from n on, whatever stands there in the one before it (L31). Valid records there must be the
//! same ones, since whoever opened the later segment copied them (L34).
//!
//! A named segment is itself evidence that all records before its first were durable; so when the
//! records of an earlier one end too soon, that is corruption without any further search.
//!
//! # Deviations
//!
//! Bytes at the end that begin with a length of 0 are searched like other ones, where L31 takes
//! them for the end: zeros can be damage too. Valid records that nothing proves durable are handed
//! to the journal to be written anew: after the end of the process alone they may stand in the
//! memory of the operating system, from where a later power cut would take them.

pub mod io;
#[cfg(test)]
mod props;
mod seek;
#[cfg(test)]
mod tests;
mod window;

use std::collections::VecDeque;

use super::journal::Known;
use super::journal::io::{DiskError, Op};
use super::piece::Piece;
use super::record::{self, Chain, Fields, Frame, HASH_BYTES, HEAD_BYTES, Kind, MARKER_BYTES};
use super::segment::{BadHeader, File, HEADER_BYTES, Header};
use crate::cluster::ids::NodeId;
use crate::codec::Malformed;
use crate::sometimes;
use io::{Entry, Head, Input, Listed, Output, Recovered, Refusal, Tail, Torn};
use seek::{Seek, Sought};
use window::Window;

/// How much is read at a time, unless a record is longer.
pub const READ_BYTES: u64 = 1 << 20;

/// A segment by its name; its header once that was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Segment {
    first: u64,
    bytes: u64,
    header: Option<Header>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Listing(Op),
    /// Which segment's header is read.
    Headers(usize),
    Scanning(Scan),
    Seeking(Seek),
    Finished,
}

/// Where the scan stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Scan {
    /// Which segment.
    index: usize,
    at: u64,
    /// The number of the next record.
    next: u64,
    chain: Chain,
    /// What the markers of the segment cover.
    seal: Chain,
    /// The next segment's records are reached: what is still valid here must be the same there.
    beyond: bool,
}

/// A record that nothing has proved durable yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Unproved {
    number: u64,
    /// The hash of the record before.
    chain: Chain,
    bytes: Piece,
}

/// What stands at a place of the scan.
enum Seen {
    /// Bytes are needed there.
    Need(u64),
    Record(Fields, u64, Chain),
    Marker(Fields),
    /// A record that belongs elsewhere.
    Stray(u64),
    /// Nothing valid; the hash that should be there if it might be a record.
    Stop(Option<Chain>),
}

/// Whether the work can go on.
enum Step {
    On,
    Need(u64, u64),
}

/// The recovery of one journal. It knows no time, so it has no deadline.
#[derive(Clone, Debug, Hash)]
pub struct Recovery {
    node: NodeId,
    start: Head,
    read_bytes: u64,
    state: State,
    segments: Vec<Segment>,
    window: Window,
    /// The read that is out: from where, and how many bytes.
    asked: Option<(Op, u64, u64)>,
    /// The highest record that something proves durable.
    durable: u64,
    unproved: VecDeque<Unproved>,
    /// Records that an earlier segment told beyond a later one's first: their hashes there.
    foretold: Vec<(u64, Chain)>,
    found: Recovered,
    ops: u64,
    outputs: VecDeque<Output>,
}

impl Recovery {
    /// Makes the recovery of the journal of `node`, from the record after `start`: the snapshot's,
    /// or [`Head::default`] if there is none. `read_bytes` is read at a time: [`READ_BYTES`].
    #[must_use]
    pub fn new(node: NodeId, start: Head, read_bytes: u64) -> Self {
        let op = Op(1);
        Self {
            node,
            start,
            read_bytes,
            state: State::Listing(op),
            segments: Vec::new(),
            window: Window::new(File::Segment(1), 0),
            asked: None,
            durable: start.record,
            unproved: VecDeque::new(),
            foretold: Vec::new(),
            found: Recovered::default(),
            ops: 1,
            outputs: VecDeque::from([Output::List { op }]),
        }
    }

    /// Applies `input`.
    pub fn handle(&mut self, input: Input) {
        debug_assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        let listing = matches!(self.state, State::Listing(_));
        match input {
            Input::Listed(files) if listing => self.listed(files),
            Input::Listed(_) => {}
            Input::Read(op, bytes) => self.read(op, bytes),
            Input::Failed(op, error) => self.failed(op, error),
        }
        self.advance();
    }

    /// Takes the next thing to do or to apply. Call until it returns `None` after `new` and every
    /// `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn listed(&mut self, files: Vec<Listed>) {
        for Listed { name, bytes } in files {
            match File::parse(&name) {
                Some(File::Segment(first)) => {
                    self.segments.push(Segment { first, bytes, header: None });
                }
                Some(File::Spare(number)) => self.found.leftovers.push(number),
                None => self.found.strangers.push(name),
            }
        }
        self.segments.sort_by_key(|segment| segment.first);
        self.segments.dedup_by_key(|segment| segment.first);
        self.state = State::Headers(0);
        self.look_at(0);
    }

    fn read(&mut self, op: Op, bytes: Vec<u8>) {
        let Some((_, offset, length)) = self.asked.take_if(|(own, ..)| *own == op) else {
            return;
        };
        if bytes.len() as u64 != length {
            self.unreadable(Some(self.window.file), offset, DiskError::Short);
            return;
        }
        self.window.fill(offset, bytes);
    }

    fn failed(&mut self, op: Op, error: DiskError) {
        if self.state == State::Listing(op) {
            self.unreadable(None, 0, error);
        } else if let Some((_, offset, _)) = self.asked.take_if(|(own, ..)| *own == op) {
            self.unreadable(Some(self.window.file), offset, error);
        }
    }

    fn unreadable(&mut self, file: Option<File>, offset: u64, error: DiskError) {
        self.refuse(Refusal::Unreadable { file, offset, error });
    }

    fn refuse(&mut self, refusal: Refusal) {
        sometimes!("recovery: refused");
        self.state = State::Finished;
        self.outputs.push_back(Output::Refused(refusal));
    }

    /// Goes on until something must be read.
    fn advance(&mut self) {
        while self.asked.is_none() {
            let step = match &self.state {
                State::Listing(_) | State::Finished => return,
                State::Headers(index) => self.header(*index),
                State::Scanning(scan) => self.scan(scan.clone()),
                State::Seeking(seek) => self.seek(seek.clone()),
            };
            match step {
                Step::On => {}
                Step::Need(offset, bytes) => self.ask(offset, bytes),
            }
        }
    }

    fn ask(&mut self, offset: u64, bytes: u64) {
        self.ops += 1;
        let op = Op(self.ops);
        self.asked = Some((op, offset, bytes));
        self.outputs.push_back(Output::ReadAt { op, file: self.window.file, offset, bytes });
    }

    /// Turns to the beginning of a segment.
    fn look_at(&mut self, index: usize) {
        if let Some(segment) = self.segments.get(index) {
            self.window = Window::new(File::Segment(segment.first), segment.bytes);
        }
    }

    /// Reads the header of one segment, and checks it (L34).
    fn header(&mut self, index: usize) -> Step {
        let (file, length) = (self.window.file, HEADER_BYTES as u64);
        let Some(first) = self.segments.get(index).map(|segment| segment.first) else {
            self.begin();
            return Step::On;
        };
        let malformed = |offset, expected| Malformed { offset, expected };
        if self.window.size < length {
            let malformed = malformed(0, "a header");
            self.refuse(Refusal::BadHeader { file, malformed });
            return Step::On;
        }
        let Some(bytes) = self.window.slice(0, length) else {
            return Step::Need(0, length);
        };
        let refusal = match Header::parse(bytes) {
            Ok(header) if header.node != self.node => {
                Refusal::ForeignNode { file, node: header.node }
            }
            Ok(header) if header.first != first => {
                Refusal::BadHeader { file, malformed: malformed(24, "the number of its name") }
            }
            Ok(header) => {
                self.segments[index].header = Some(header);
                let created_ms = header.created_ms;
                self.found.segments.push(Known { first, created_ms });
                self.found.time_ms = self.found.time_ms.max(created_ms);
                self.state = State::Headers(index + 1);
                self.look_at(index + 1);
                return Step::On;
            }
            Err(BadHeader::Format(format)) => Refusal::UnknownFormat { file, format },
            Err(BadHeader::Malformed(malformed)) => Refusal::BadHeader { file, malformed },
        };
        self.refuse(refusal);
        Step::On
    }

    /// Begins the scan with the segment that holds the record after the snapshot.
    fn begin(&mut self) {
        let wanted = self.start.record.saturating_add(1);
        if self.segments.is_empty() && self.start.record == 0 {
            self.finish(self.start, None);
            return;
        }
        let Some(index) = self.segments.iter().rposition(|segment| segment.first <= wanted) else {
            self.refuse(Refusal::Missing { record: wanted });
            return;
        };
        let scan = self.scan_of(index);
        if scan.next == wanted && scan.chain != self.start.hash {
            self.refuse(Refusal::Differs { record: self.start.record });
            return;
        }
        self.state = State::Scanning(scan);
    }

    fn scan_of(&mut self, index: usize) -> Scan {
        self.look_at(index);
        let header = self.segments[index].header.expect("all headers were read");
        self.durable = self.durable.max(header.first - 1);
        Scan {
            index,
            at: HEADER_BYTES as u64,
            next: header.first,
            chain: header.chain,
            seal: header.seal(),
            beyond: false,
        }
    }

    fn next_header(&self, scan: &Scan) -> Option<Header> {
        self.segments.get(scan.index + 1).and_then(|segment| segment.header)
    }

    /// Takes records as far as the window reaches.
    fn scan(&mut self, mut scan: Scan) -> Step {
        loop {
            let following = self.next_header(&scan).filter(|header| header.first == scan.next);
            if let Some(header) = following.filter(|_| !scan.beyond) {
                if header.chain != scan.chain {
                    let file = File::Segment(header.first);
                    self.refuse(Refusal::Overlap { file, record: header.first - 1 });
                    return Step::On;
                }
                scan.beyond = true;
            }
            match self.look(&scan) {
                Seen::Need(length) => {
                    let ahead = self.read_bytes.min(self.window.size - scan.at);
                    let at = scan.at;
                    self.state = State::Scanning(scan);
                    return Step::Need(at, length.max(ahead));
                }
                Seen::Stray(next) => {
                    let (file, offset, record) = (self.window.file, scan.at, scan.next);
                    self.refuse(Refusal::Gap { file, offset, record, next });
                    return Step::On;
                }
                Seen::Stop(repaired) => {
                    self.stopped(&scan, repaired);
                    return Step::On;
                }
                Seen::Marker(fields) => {
                    if !scan.beyond {
                        self.prove(fields.synced);
                    }
                    scan.at += MARKER_BYTES as u64;
                }
                Seen::Record(fields, length, hash) => {
                    if let Err(refusal) = self.take(&scan, &fields, length, hash) {
                        self.refuse(refusal);
                        return Step::On;
                    }
                    (scan.at, scan.next, scan.chain) = (scan.at + length, scan.next + 1, hash);
                }
            }
        }
    }

    /// Looks at what stands where the scan is.
    fn look(&self, scan: &Scan) -> Seen {
        let left = self.window.size.saturating_sub(scan.at);
        if left < MARKER_BYTES as u64 {
            return Seen::Stop(None);
        }
        let Some(head) = self.window.slice(scan.at, MARKER_BYTES as u64) else {
            return Seen::Need(MARKER_BYTES as u64);
        };
        let Ok((length, fields)) = record::parse_head(head) else {
            return Seen::Stop(None);
        };
        let length = u64::from(length);
        if length > left {
            return Seen::Stop(None);
        }
        let Some(bytes) = self.window.slice(scan.at, length) else {
            return Seen::Need(length);
        };
        let Ok(frame) = Frame::parse(bytes) else {
            return Seen::Stop(None);
        };
        match fields.kind {
            Kind::Marker if fields.number == scan.next - 1 && frame.follows(&scan.seal) => {
                Seen::Marker(fields)
            }
            Kind::Marker => Seen::Stop(None),
            Kind::Events => match (frame.computed(&scan.chain), frame.stored()) {
                (hash, stored) if hash != stored => Seen::Stop(Some(hash)),
                _ if fields.number != scan.next => Seen::Stray(fields.number),
                (hash, _) => Seen::Record(fields, length, hash),
            },
        }
    }

    /// Takes a valid record: hands it out, unless a later segment or the snapshot has it.
    fn take(
        &mut self,
        scan: &Scan,
        fields: &Fields,
        length: u64,
        hash: Chain,
    ) -> Result<(), Refusal> {
        let number = fields.number;
        if scan.beyond {
            // The first and the last are enough: each hash covers all before it.
            let from = self.next_header(scan).map_or(number, |header| header.first);
            if number > from + 1 {
                self.foretold.pop();
            }
            self.foretold.push((number, hash));
            return Ok(());
        }
        if self.foretold.iter().any(|told| told.0 == number && told.1 != hash) {
            return Err(Refusal::Overlap { file: self.window.file, record: number });
        }
        self.foretold.retain(|(told, _)| *told > number);
        if number == self.start.record && hash != self.start.hash {
            return Err(Refusal::Differs { record: number });
        }
        self.found.time_ms = self.found.time_ms.max(fields.time_ms);
        self.prove(fields.synced);
        let bytes = self.window.piece(scan.at, length).expect("the record was looked at");
        if number > self.durable && scan.index + 1 == self.segments.len() {
            let bytes = bytes.clone();
            self.unproved.push_back(Unproved { number, chain: scan.chain, bytes });
        }
        if number > self.start.record {
            let (time_ms, count) = (fields.time_ms, fields.count);
            let body = bytes.without(HEAD_BYTES, HASH_BYTES);
            self.outputs.push_back(Output::Record(Entry { number, time_ms, count, body, hash }));
        }
        Ok(())
    }

    /// Something says that all records up to this one were durable.
    fn prove(&mut self, synced: u64) {
        self.durable = self.durable.max(synced);
        while self.unproved.front().is_some_and(|record| record.number <= synced) {
            self.unproved.pop_front();
        }
    }

    /// No valid record stands where the scan is.
    fn stopped(&mut self, scan: &Scan, repaired: Option<Chain>) {
        if scan.beyond {
            sometimes!("recovery: a later segment goes on");
            let scan = self.scan_of(scan.index + 1);
            self.state = State::Scanning(scan);
            return;
        }
        if let Some(header) = self.next_header(scan) {
            let (file, offset, record, next) = (self.window.file, scan.at, scan.next, header.first);
            let zeros = self.window.slice(scan.at, 4).is_none_or(|length| length == [0; 4]);
            self.refuse(match zeros {
                true => Refusal::Gap { file, offset, record, next },
                false => Refusal::Corrupt { file, offset, record, at_stake: next - record },
            });
            return;
        }
        let header = self.segments[scan.index].header.expect("all headers were read");
        let foretold = self.foretold.iter().map(|(number, _)| *number).max();
        self.state = State::Seeking(Seek {
            from: scan.at,
            record: scan.next,
            evidence: self.durable.max(foretold.unwrap_or(0)),
            spent: 0,
            dirty: false,
            at: scan.at,
            seal: scan.seal,
            before: header.chain,
            repaired,
        });
        self.found.head = Head { record: scan.next - 1, hash: scan.chain };
    }

    /// Searches on for evidence that what ends here was acknowledged.
    fn seek(&mut self, mut seek: Seek) -> Step {
        let sought = seek.advance(&self.window);
        match sought {
            Sought::Need(offset, bytes) => {
                self.state = State::Seeking(seek);
                let ahead = self.read_bytes.min(self.window.size - offset);
                Step::Need(offset, bytes.max(ahead))
            }
            Sought::End => {
                self.sought(&seek);
                Step::On
            }
        }
    }

    fn sought(&mut self, seek: &Seek) {
        let (file, offset, record) = (self.window.file, seek.from, seek.record);
        if seek.evidence >= record {
            let at_stake = seek.evidence - record + 1;
            self.refuse(Refusal::Corrupt { file, offset, record, at_stake });
            return;
        }
        sometimes!("recovery: a torn tail", seek.dirty);
        let torn = seek.dirty.then_some(Torn { file, offset, record });
        self.finish(self.found.head, torn);
    }

    fn finish(&mut self, head: Head, torn: Option<Torn>) {
        self.state = State::Finished;
        let mut found = std::mem::take(&mut self.found);
        found.head = head;
        found.durable = self.durable;
        found.torn = torn;
        if let Some(first) = self.unproved.front() {
            sometimes!("recovery: valid records that nothing proves durable");
            let bytes = self.unproved.iter().flat_map(|record| record.bytes.iter().copied());
            found.tail = Some(Tail { chain: first.chain, bytes: bytes.collect() });
        }
        self.outputs.push_back(Output::Recovered(Box::new(found)));
    }
}
