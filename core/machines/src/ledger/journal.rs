//! The journal: appends records, makes them durable, and says how far (L1, L20–L26, L43).
//!
//! ```text
//!                     named and durable        no record fits any more
//!   new ──► Opening ───────────────────► Open ─────────────────────────► Turning
//!            │ ▲ ▲                        │                               │  │ all durable
//!     failed │ │ └────────────────────────┼───────────────────────────────┼──┘
//!    3 times │ │ nothing in flight        │ a write or sync failed        │
//!            ▼ └────────── Draining ◄─────┴───────────────────────────────┘
//!         Stalled
//!
//!   Opening:  Spare ─► Header ─► Groups ─► Sync ─► Rename ─► SyncDir
//! ```
//!
//! *Opening* makes the next segment of a prepared file: it writes the header and, anew, every
//! record that was ever written and is not known to be durable; syncs; gives the file its name; and
//! syncs the folder. A failure before that leaves a file without a name, which is removed; so
//! whatever stands in a named segment, its header and those records are durable, and a segment that
//! ends in bytes that nobody trusts is superseded by the next (L24, L31).
//!
//! Closing a segment waits until all of it is durable. That costs three syncs in every 64 MiB, and
//! buys that the first record of a named segment proves all records before it.
//!
//! There are three lanes, each with one operation at a time except where noted: the group commit
//! (one write and one sync), the spare (`spares.rs`), and the removal of old segments, which stands
//! still while a segment gets its name: a failed sync of the folder must not swallow that. Nor does
//! it take away the segment before one whose name may not be durable: a process that ends between
//! the rename and the sync of the folder leaves a name that the next one reads, and that a power
//! cut may take back.
//!
//! # Source
//!
//! Never to sync again after a failed sync: Rebello et al., *Can applications recover from fsync
//! failures?*, USENIX ATC 2020.
//!
//! # Known limits
//!
//! Each start opens a segment, so a node that restarts often keeps many nearly empty ones until the
//! retention has passed.

pub mod io;
mod opening;
mod spares;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::record::{self, Chain, Fields, Kind, MARKER_BYTES};
use super::recovery::io::{Head, Recovered};
use super::segment::File;
use crate::cluster::ids::NodeId;
use crate::{Instant, sometimes};
use io::{Config, Decision, DiskError, Input, Op, Output, Refused};
use opening::{Opening, Step};
use spares::Spares;

/// How long a journal is idle after a sync before it writes a marker (L16).
pub const IDLE: Duration = Duration::from_millis(10);
/// How long it waits before it tries again to use a full disk (L23).
pub const RETRY: Duration = Duration::from_secs(1);
/// How often opening a segment may fail in a row (L24).
pub const STRIKES_MAX: u32 = 3;

/// A record that was taken and is not yet encoded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    time_ms: u64,
    count: u32,
    body: Vec<u8>,
}

impl Waiting {
    fn encoded_len(&self) -> u64 {
        record::encoded_len(self.body.len()) as u64
    }
}

/// Records of one write that are not known to be durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Group {
    /// Its last record.
    last: Head,
    /// The hash of the record before its first.
    chain: Chain,
    /// Where it stands in the current segment.
    offset: u64,
    bytes: Arc<Vec<u8>>,
    /// The write returned without error.
    written: bool,
}

/// A segment on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Known {
    /// Its first record.
    pub first: u64,
    /// When it was begun, in milliseconds since 1970.
    pub created_ms: u64,
}

/// The segment that is being filled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Current {
    first: u64,
    /// Where the next write goes.
    end: u64,
    bytes: u64,
    /// What its markers cover.
    seal: Chain,
    /// The highest record that something in the file proves durable.
    evident: u64,
    /// A marker was written and not yet synced.
    marked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Something failed: waits until nothing is in flight.
    Draining,
    /// The next segment is made.
    Opening(Opening),
    /// Takes writes.
    Open,
    /// Takes no more writes: waits until all of it is durable.
    Turning,
    /// Nothing will be written any more.
    Stalled,
    /// The clean stop is complete.
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Target {
    Header,
    /// The first group that is not written.
    Group,
    Marker,
}

/// A sync that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Syncing {
    op: Op,
    /// The last record whose last byte was written before it began (L26).
    covers: u64,
    /// Whether it covers a marker.
    marker: bool,
}

/// The removal of old segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Removal {
    Resting,
    Removing(Op),
    SyncingDir(Op),
}

/// The journal of one node.
#[derive(Clone, Debug, Hash)]
pub struct Journal {
    config: Config,
    node: NodeId,
    phase: Phase,
    current: Current,
    /// All segments by name, the current one last.
    segments: VecDeque<Known>,
    /// The name of the last of `segments` is known to be durable.
    last_is_named: bool,
    appended: u64,
    /// The last record that was encoded, and its hash.
    encoded: u64,
    chain: Chain,
    durable: u64,
    waiting: VecDeque<Waiting>,
    groups: VecDeque<Group>,
    /// Bytes of `waiting` and `groups`.
    unsynced: u64,
    /// The greatest kernel time of a record.
    time_ms: u64,
    write: Option<(Op, Target)>,
    sync: Option<Syncing>,
    /// A rename or sync of the folder, of the opening.
    naming: Option<Op>,
    spares: Spares,
    removal: Removal,
    covered: (u64, u64),
    /// When the marker is due, if nothing happens.
    idle: Instant,
    /// When what did not fit is tried again.
    retry: Option<Instant>,
    full: bool,
    strikes: u32,
    stopping: bool,
    ops: u64,
    outputs: VecDeque<Output>,
}

impl Journal {
    /// Makes the journal of `node` after a recovery. The first outputs open a new segment;
    /// everything recovered that is not known to be durable is in it before
    /// [`Output::Durable`] announces the head.
    #[must_use]
    pub fn new(now: Instant, config: Config, node: NodeId, recovered: Recovered) -> Self {
        let mut groups = VecDeque::new();
        if let Some(tail) = recovered.tail {
            groups.push_back(Group {
                last: recovered.head,
                chain: tail.chain,
                offset: 0,
                bytes: Arc::new(tail.bytes),
                written: false,
            });
        }
        // Its records are proved by what is written once its name is durable, and by that alone.
        let last = recovered.segments.last();
        let last_is_named = last.is_some_and(|last| recovered.durable >= last.first);
        let mut journal = Self {
            config,
            node,
            phase: Phase::Draining,
            current: Current::default(),
            segments: recovered.segments.into(),
            last_is_named,
            appended: recovered.head.record,
            encoded: recovered.head.record,
            chain: recovered.head.hash,
            durable: recovered.durable,
            waiting: VecDeque::new(),
            unsynced: groups.iter().map(|group| group.bytes.len() as u64).sum(),
            groups,
            time_ms: recovered.time_ms,
            write: None,
            sync: None,
            naming: None,
            spares: Spares::new(&recovered.leftovers),
            removal: Removal::Resting,
            covered: (0, 0),
            idle: Instant::FAR,
            retry: None,
            full: false,
            strikes: 0,
            stopping: false,
            ops: 0,
            outputs: VecDeque::new(),
        };
        journal.advance(now);
        journal
    }

    /// Lets time pass up to `now`, then applies `input`.
    ///
    /// # Errors
    ///
    /// [`Refused`] if `input` is a record that is not taken. Time has passed all the same.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<(), Refused> {
        debug_assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        self.advance(now);
        match input {
            Input::Tick => {}
            Input::Append(decision) => self.append(decision)?,
            Input::Wrote(op) => self.wrote(op),
            Input::Synced(op) => self.synced(now, op),
            Input::Done(op) => self.done(now, op),
            Input::Failed(op, error) => self.failed(now, op, error),
            Input::Covered { record, time_ms } => self.covered = (record, time_ms),
            Input::Stop => self.stopping = true,
        }
        self.advance(now);
        Ok(())
    }

    /// Takes the next thing to do. Call until it returns `None` after `new` and every `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle` at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match self.phase {
            Phase::Stalled | Phase::Stopped => return Instant::FAR,
            Phase::Draining | Phase::Opening(_) | Phase::Open | Phase::Turning => {}
        }
        let marker = if self.wants_marker() { self.idle } else { Instant::FAR };
        self.retry.unwrap_or(Instant::FAR).min(self.spares.deadline()).min(marker)
    }

    /// Says whether a record would be taken now, unless it is too long: to be asked before the
    /// decision is made. `frees` is what [`Decision::frees`] will be.
    ///
    /// # Errors
    ///
    /// The [`Refused`] that it would get.
    pub fn room(&self, frees: bool) -> Result<(), Refused> {
        match self.phase {
            Phase::Stalled => return Err(Refused::Stalled),
            Phase::Stopped => return Err(Refused::Stopping),
            Phase::Draining | Phase::Opening(_) | Phase::Open | Phase::Turning => {}
        }
        if self.stopping {
            return Err(Refused::Stopping);
        }
        if self.unsynced > self.config.limits().unsynced_max {
            return Err(Refused::Busy);
        }
        match self.is_full() && !frees {
            true => Err(Refused::DiskFull),
            false => Ok(()),
        }
    }

    /// Says whether there is no room on the disk for what is there or for the next segment (L23).
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full || self.spares.is_full()
    }

    /// Returns the number of the last record taken.
    #[must_use]
    pub const fn appended(&self) -> u64 {
        self.appended
    }

    /// Returns the last record taken and its hash, which is known once the record is encoded: at
    /// the latest when the write before it is done.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let head = Head { record: self.encoded, hash: self.chain };
        (self.encoded == self.appended).then_some(head)
    }

    /// Returns the number of the last record known to be durable.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    /// Returns how many bytes of records are in memory because they are not known to be durable.
    /// At most `unsynced_max` and one record (L78).
    #[must_use]
    pub const fn unsynced(&self) -> u64 {
        self.unsynced
    }

    /// Returns the same, found again from the records and writes themselves: it costs their number.
    #[must_use]
    pub fn held(&self) -> u64 {
        let waiting: u64 = self.waiting.iter().map(Waiting::encoded_len).sum();
        let written: u64 = self.groups.iter().map(|group| group.bytes.len() as u64).sum();
        waiting + written
    }

    /// Lists the segments by name, the one that is being filled last.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = Known> + Clone + '_ {
        self.segments.iter().copied()
    }

    fn append(&mut self, decision: Decision) -> Result<(), Refused> {
        self.room(decision.frees)?;
        let Decision { time_ms, count, body, frees: _ } = decision;
        let waiting = Waiting { time_ms, count, body };
        if waiting.encoded_len() > self.config.record_bytes_max() {
            return Err(Refused::TooLong);
        }
        assert!(count > 0, "a decision without events is not recorded");
        assert!(count as usize <= waiting.body.len(), "an event has at least one byte");
        self.unsynced += waiting.encoded_len();
        self.waiting.push_back(waiting);
        self.appended += 1;
        self.time_ms = self.time_ms.max(time_ms);
        Ok(())
    }

    /// Starts whatever can start.
    fn advance(&mut self, now: Instant) {
        if self.retry.is_some_and(|until| now >= until) {
            self.retry = None;
        }
        match self.phase {
            Phase::Stalled | Phase::Stopped => return,
            Phase::Draining => self.open_when_quiet(),
            Phase::Opening(_) => {
                self.open_next();
                if self.wants_spare() {
                    self.remove_next(); // There may be no room for the spare without it.
                }
            }
            Phase::Open => {
                self.sync_next();
                self.mark(now);
                self.remove_next();
                self.stop();
                self.write_next();
            }
            Phase::Turning => self.turn(),
        }
        if self.spares.is_idle() {
            let bytes = self.spare_bytes();
            self.outputs.extend(self.spares.advance(now, bytes, &mut self.ops));
        }
    }

    /// Closes a segment once all of it is durable.
    fn turn(&mut self) {
        self.sync_next();
        if self.groups.is_empty() {
            self.open_when_quiet();
        }
    }

    fn op(&mut self) -> Op {
        self.ops += 1;
        Op(self.ops)
    }

    const fn file(&self) -> File {
        File::Segment(self.current.first)
    }

    const fn in_flight(&self) -> bool {
        let removing = !matches!(self.removal, Removal::Resting);
        self.write.is_some() || self.sync.is_some() || self.naming.is_some() || removing
    }

    /// One size for all, unless what must be written anew needs more.
    fn spare_bytes(&self) -> u64 {
        let again: u64 = self.groups.iter().map(|group| group.bytes.len() as u64).sum();
        self.config.limits().segment_bytes.max(opening::ROOM + again)
    }

    /// Writes the next group, or the one that did not fit on the disk again (L20, L23).
    fn write_next(&mut self) {
        if self.write.is_some() || self.retry.is_some() {
            return;
        }
        if self.written() == self.groups.len() {
            let Some(first) = self.waiting.front() else {
                return;
            };
            if !self.fits(0, first) {
                self.phase = Phase::Turning;
                self.turn();
                return;
            }
            self.encode_group();
        }
        self.write_group(self.file());
    }

    /// Says whether a record fits behind `group` bytes; a marker always does (L16).
    fn fits(&self, group: u64, waiting: &Waiting) -> bool {
        let end = self.current.end + group + waiting.encoded_len() + MARKER_BYTES as u64;
        end <= self.current.bytes
    }

    /// Encodes what waits into one group: all, or as much as a write or the segment takes.
    fn encode_group(&mut self) {
        let mut bytes = Vec::new();
        let before = self.chain;
        while let Some(next) = self.waiting.front() {
            let length = bytes.len() as u64;
            let too_much = length + next.encoded_len() > self.config.limits().write_bytes_max;
            if !self.fits(length, next) || (too_much && length > 0) {
                break;
            }
            let next = self.waiting.pop_front().expect("it is at the front");
            self.encoded += 1;
            let fields = Fields {
                kind: Kind::Events,
                number: self.encoded,
                time_ms: next.time_ms,
                synced: self.durable,
                count: next.count,
            };
            self.chain = record::encode(&fields, &next.body, &self.chain, &mut bytes);
        }
        let offset = self.current.end;
        self.current.end += bytes.len() as u64;
        self.current.evident = self.current.evident.max(self.durable);
        self.groups.push_back(Group {
            last: Head { record: self.encoded, hash: self.chain },
            chain: before,
            offset,
            bytes: Arc::new(bytes),
            written: false,
        });
    }

    /// Returns how many groups are written: they come before those that are not.
    fn written(&self) -> usize {
        self.groups.partition_point(|group| group.written)
    }

    /// Writes the first group that is not written.
    fn write_group(&mut self, file: File) {
        let op = self.op();
        let group = self.groups.get(self.written()).expect("the caller knows of one");
        let (offset, bytes) = (group.offset, Arc::clone(&group.bytes));
        self.write = Some((op, Target::Group));
        self.outputs.push_back(Output::Write { op, file, offset, bytes });
    }

    /// Syncs what was written since the last sync began. It does not wait for a write that is out,
    /// and does not cover it (L20, L26).
    fn sync_next(&mut self) {
        if self.sync.is_some() {
            return;
        }
        let last = self.written().checked_sub(1).and_then(|at| self.groups.get(at));
        if let Some(covers) = last.map(|group| group.last.record) {
            self.sync_file(covers);
        }
    }

    fn sync_file(&mut self, covers: u64) {
        let (op, file) = (self.op(), self.file());
        self.sync = Some(Syncing { op, covers, marker: self.current.marked });
        self.outputs.push_back(Output::Sync { op, file });
    }

    /// Says whether all is durable and nothing in the file proves it (L16).
    fn wants_marker(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.is_idle() && self.durable > self.current.evident
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.groups.is_empty() && !self.in_flight()
    }

    fn mark(&mut self, now: Instant) {
        // Who stops does not wait, but for room.
        let waits = now < self.idle && (!self.stopping || self.full);
        if !self.wants_marker() || waits {
            return;
        }
        let fields = Fields {
            kind: Kind::Marker,
            number: self.durable,
            time_ms: self.time_ms,
            synced: self.durable,
            count: 0,
        };
        let mut bytes = Vec::new();
        record::encode(&fields, &[], &self.current.seal, &mut bytes);
        let (op, file, offset) = (self.op(), self.file(), self.current.end);
        self.write = Some((op, Target::Marker));
        self.outputs.push_back(Output::Write { op, file, offset, bytes: Arc::new(bytes) });
    }

    /// Ends a clean stop: first the marker is durable.
    fn stop(&mut self) {
        if !self.stopping || !self.is_idle() || !matches!(self.phase, Phase::Open) {
            return;
        }
        if self.current.marked {
            self.sync_file(self.durable);
        } else if !self.wants_marker() {
            self.phase = Phase::Stopped;
            self.outputs.push_back(Output::Stopped);
        }
    }

    fn wrote(&mut self, op: Op) {
        let Some((_, target)) = self.write.take_if(|(own, _)| *own == op) else {
            return;
        };
        match target {
            Target::Header => self.open_step(Step::Groups),
            Target::Group => {
                let first = self.written();
                let group = self.groups.get_mut(first);
                group.expect("the group of a write stays until it is written").written = true;
            }
            Target::Marker => {
                self.current.end += MARKER_BYTES as u64;
                self.current.evident = self.durable;
                self.current.marked = true;
            }
        }
        self.full = false;
    }

    fn synced(&mut self, now: Instant, op: Op) {
        if self.spares.owns(op) {
            self.spare_done();
            return;
        }
        let Some(sync) = self.sync.take_if(|sync| sync.op == op) else {
            return;
        };
        match self.phase {
            Phase::Opening(_) => self.open_step(Step::Rename),
            Phase::Open | Phase::Turning | Phase::Draining => {
                self.current.marked &= !sync.marker;
                self.advance_durable(sync.covers);
                self.idle = now + IDLE;
            }
            Phase::Stalled | Phase::Stopped => {}
        }
    }

    /// Records up to `last` are durable: their bytes are needed no more.
    fn advance_durable(&mut self, last: u64) {
        let mut head = None;
        while self.groups.front().is_some_and(|group| group.last.record <= last) {
            let group = self.groups.pop_front().expect("it is at the front");
            self.unsynced -= group.bytes.len() as u64;
            head = Some(group.last);
        }
        if let Some(head) = head {
            self.durable = head.record;
            self.outputs.push_back(Output::Durable(head));
        }
    }

    fn done(&mut self, now: Instant, op: Op) {
        if self.spares.owns(op) {
            self.spare_done();
        } else if self.naming.take_if(|own| *own == op).is_some() {
            self.named(now);
        } else if self.removal == Removal::Removing(op) {
            let op = self.op();
            self.removal = Removal::SyncingDir(op);
            self.outputs.push_back(Output::SyncDir { op });
        } else if self.removal == Removal::SyncingDir(op) {
            self.removal = Removal::Resting;
        }
    }

    fn spare_done(&mut self) {
        if let Some(output) = self.spares.done(&mut self.ops) {
            self.outputs.push_back(output);
        }
    }

    fn failed(&mut self, now: Instant, op: Op, error: DiskError) {
        if self.spares.owns(op) {
            let preparing = self.spares.failed(now, error);
            sometimes!("journal: no room for the next segment", self.spares.is_full());
            if preparing && self.wants_spare() && error != DiskError::NoSpace {
                self.strike(error);
            }
        } else if let Some((_, target)) = self.write.take_if(|(own, _)| *own == op) {
            self.write_failed(now, target, error);
        } else if self.sync.take_if(|sync| sync.op == op).is_some() {
            sometimes!("journal: a sync failed");
            self.opening_failed_or_drain(now, error);
        } else if self.naming.take_if(|own| *own == op).is_some() {
            self.opening_failed_or_drain(now, error);
        } else if matches!(self.removal, Removal::Removing(own) | Removal::SyncingDir(own)
            if own == op)
        {
            // What could not be removed stays; the next snapshot is the next try.
            self.removal = Removal::Resting;
            self.covered = (0, 0);
        }
    }

    fn write_failed(&mut self, now: Instant, target: Target, error: DiskError) {
        if error != DiskError::NoSpace {
            self.opening_failed_or_drain(now, error);
            return;
        }
        sometimes!("journal: a write found no room");
        self.full = true;
        match target {
            Target::Header | Target::Group => self.retry = Some(now + RETRY),
            Target::Marker => self.idle = now + RETRY,
        }
    }

    /// L24: nothing that was written since the last good sync is trusted.
    fn opening_failed_or_drain(&mut self, now: Instant, error: DiskError) {
        match self.phase {
            Phase::Opening(_) => self.opening_failed(now, error),
            Phase::Open | Phase::Turning | Phase::Draining => self.phase = Phase::Draining,
            Phase::Stalled | Phase::Stopped => {}
        }
    }

    /// Removes the oldest segment that nobody needs, one at a time, the folder synced in between:
    /// a crash never leaves a gap (L43, L77).
    fn remove_next(&mut self) {
        let needed = if self.last_is_named { 1 } else { 2 };
        if self.removal != Removal::Resting || self.segments.len() <= needed || self.stopping {
            return;
        }
        let (oldest, next) = (self.segments[0], self.segments[1]);
        let (record, time_ms) = self.covered;
        let keep = self.config.limits().journal_keep.as_millis();
        let kept = u128::from(time_ms) < u128::from(next.created_ms) + keep;
        if next.first > record.saturating_add(1) || kept {
            return;
        }
        self.segments.pop_front();
        let (op, file) = (self.op(), File::Segment(oldest.first));
        self.removal = Removal::Removing(op);
        self.outputs.push_back(Output::Remove { op, file });
    }
}
