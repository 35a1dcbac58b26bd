//! `lockstep doctor --salvage`: what of a damaged ledger can be read, into a new folder (L33).
//!
//! ```text
//!   every segment, every 8 bytes ─► runs of records that follow each other by their hashes
//!   record 1, or a sound snapshot ─► the runs that go on from there ─► OUT: a node starts on it
//!                                    the other runs ────────────────► OUT/loose-N: to be looked at
//! ```
//!
//! A record is valid if its hash holds over the hash of the one before: that of the chain so far,
//! or, after a damaged place, that in the bytes right before it. So what stands behind the damage
//! is found again. A node can go on only from a state, so what is behind the damage and behind the
//! newest sound snapshot is *loose*: it can be read, and not applied.
//!
//! Blocks that the disk cannot read count as zeros, and are told with the rest of what is lost.
//!
//! Nothing is ever written to the damaged folder. One segment at a time is held in memory.
//!
//! # Known limits
//!
//! Each segment is read twice, to be searched and to be copied. A disk on which what could be read
//! at first cannot be read then ends the salvage with an error; it can be tried again.
//!
//! A record that stands right behind an unreadable block counts as lost if the hash of the one
//! before it was in the block: nothing else vouches for it.
//!
//! A record of which only the hash is damaged counts as lost; those behind it are found.
//!
//! Of bytes that look like many records, one inside the other, only the short ones are looked at
//! in the end: somebody has made them, and to compare all with their hashes takes very long.
//!
//! A payload that imitates a record and the hash before it can show up as a loose run; it cannot
//! get into what a node starts on, which is chained from a state.

mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use machines::ledger::record::{Chain, Fields, Frame, HASH_BYTES, Kind, MARKER_BYTES, encode};
use machines::ledger::recovery::io::Head;
use machines::ledger::segment::{self, HEADER_BYTES, Header};
use machines::ledger::snapshot::{FileName, SnapshotHeader};
use runtime::Folder;
use serde::Serialize;

use super::Ledger;
use crate::failure::Failure;
use source::{Content, Read};

pub(super) use source::BLOCK;
pub use source::Unreadable;

/// How often as many bytes as a file has are read again for records that turn out to be none. What
/// is at most [`SHORT`] is looked at all the same, which has its own bound: every place of a file
/// may seem to begin one.
const AGAIN_MAX: usize = 16;
/// The length of such a record at the most, in bytes.
const SHORT: usize = 4 << 10;

/// Records of one segment that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    /// The segment.
    file: u64,
    created_ms: u64,
    /// The first record, and the hash of the one before it.
    first: u64,
    before: Chain,
    /// The last record.
    last: Head,
    /// Where they stand in the file.
    place: Range<usize>,
    /// The hashes after the records that others may go on from.
    marks: BTreeMap<u64, Chain>,
}

/// Records that are copied: from one run, and up to which.
#[derive(Clone, Debug)]
struct Piece {
    run: Run,
    last: u64,
}

/// What was copied, and what was not.
#[derive(Clone, Debug, Serialize)]
pub struct Salvaged {
    /// The new folder.
    pub out: String,
    /// The records in its journal, first and last.
    pub records: Option<(u64, u64)>,
    /// The snapshots in it.
    pub snapshots: Vec<u64>,
    /// A node that starts on it has the state after this record.
    pub state: u64,
    /// Records that can be read and not be applied, each range in a folder of its own.
    pub loose: Vec<Loose>,
    /// Records of which nothing can be read, first and last of each range.
    pub lost: Vec<(u64, u64)>,
    /// Snapshots that were not copied, and why.
    pub bad_snapshots: Vec<String>,
    /// What the disk cannot read of segments: what was there is not known.
    pub unreadable: Vec<Unreadable>,
    /// The highest record of which anything in the files tells.
    pub known: u64,
}

/// A range of records beyond the state.
#[derive(Clone, Debug, Serialize)]
pub struct Loose {
    /// The folder.
    pub folder: String,
    /// The first record.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

impl Ledger {
    /// Copies what can be read to the new folder `out`.
    ///
    /// # Errors
    ///
    /// `out` is there already or cannot be written; what was written stays. Or what was readable
    /// when it was looked for is no more when it is copied. What the disk cannot read at all is no
    /// error: it is in the value.
    pub fn salvage(&self, out: &Path) -> Result<Salvaged, Failure> {
        self.salvage_from(&source::disk, out)
    }

    fn salvage_from(&self, read: Read<'_>, out: &Path) -> Result<Salvaged, Failure> {
        let failed = |error| Failure::Folder { path: out.to_owned(), error };
        let parent = out.parent().filter(|parent| *parent != Path::new(""));
        let parent = File::open(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        DirBuilder::new().mode(0o700).create(out).map_err(failed)?;
        let found = self.find(read)?;
        let plan = found.plan();
        let salvaged = self.write(read, out, &plan, &found).map_err(failed)?;
        parent.sync_all().map_err(failed)?;
        Ok(salvaged)
    }

    /// Reads what can be read of a file of the ledger.
    fn content(&self, read: Read<'_>, file: impl Into<runtime::LedgerFile>) -> io::Result<Content> {
        let file = file.into();
        let (listed, name) = match file {
            runtime::LedgerFile::Journal(file) => (&self.journal, file.to_string()),
            runtime::LedgerFile::Snapshot(file) => (&self.snapshots, file.to_string()),
        };
        let length = listed.iter().find(|listed| listed.name == name).map_or(0, |it| it.bytes);
        Content::read(read, &self.data, &file.to_string(), length)
    }

    /// Looks through all that is there.
    fn find(&self, read: Read<'_>) -> Result<Found, Failure> {
        let mut found = Found::default();
        for record in self.snapshots() {
            match self.check(record) {
                Ok(header) => {
                    found.known = found.known.max(record);
                    found.sound.insert(record, header);
                }
                Err(bad) => {
                    let file = FileName::Snapshot(record);
                    found.bad.push(format!("snapshots/{file}: {bad}"));
                }
            }
        }
        let mut linked: BTreeSet<u64> = found.sound.keys().copied().collect();
        linked.extend(self.segments().map(|first| first - 1));
        for first in self.segments() {
            let path = self.path(segment::File::Segment(first));
            let content = self.content(read, segment::File::Segment(first));
            let Content { bytes, unreadable } =
                content.map_err(|error| Failure::Folder { path, error })?;
            found.unreadable.extend(unreadable);
            let header = Header::parse(&bytes).ok().filter(|header| header.node == self.node);
            found.search(first, header, &bytes, &linked);
        }
        Ok(found)
    }

    fn write(
        &self,
        read: Read<'_>,
        out: &Path,
        plan: &Plan,
        found: &Found,
    ) -> io::Result<Salvaged> {
        for folder in Folder::ALL {
            DirBuilder::new().mode(0o700).create(out.join(folder.name()))?;
        }
        for record in &plan.snapshots {
            let name = runtime::LedgerFile::from(FileName::Snapshot(*record)).to_string();
            let bytes = self.content(read, FileName::Snapshot(*record))?.whole()?;
            write_new(&out.join(name), &bytes)?;
        }
        self.write_pieces(read, out, &plan.pieces)?;
        if plan.pieces.is_empty() {
            self.write_bare(out, plan.base)?;
        }
        let mut loose = Vec::new();
        for pieces in &plan.loose {
            let Some((first, last)) = range(pieces) else {
                continue;
            };
            let name = format!("loose-{first:020}");
            let folder = out.join(&name);
            DirBuilder::new().mode(0o700).create(&folder)?;
            DirBuilder::new().mode(0o700).create(folder.join(Folder::Journal.name()))?;
            self.write_pieces(read, &folder, pieces)?;
            File::open(&folder)?.sync_all()?;
            loose.push(Loose { folder: name, first, last });
        }
        for folder in Folder::ALL {
            File::open(out.join(folder.name()))?.sync_all()?;
        }
        File::open(out)?.sync_all()?;
        Ok(Salvaged {
            out: out.display().to_string(),
            records: range(&plan.pieces),
            snapshots: plan.snapshots.clone(),
            state: plan.state,
            loose,
            lost: found.lost(),
            bad_snapshots: found.bad.clone(),
            unreadable: found.unreadable.clone(),
            known: found.known,
        })
    }

    /// Writes a segment without records, since no node starts on a snapshot alone.
    fn write_bare(&self, out: &Path, base: Head) -> io::Result<()> {
        let (first, chain) = (base.record + 1, base.hash);
        let header = Header { node: self.node, first, chain, created_ms: 0 };
        let name = runtime::LedgerFile::from(segment::File::Segment(first)).to_string();
        write_new(&out.join(name), &header.to_bytes())?;
        File::open(out.join(Folder::Journal.name()))?.sync_all()
    }

    /// Writes each piece into a segment of its own, the last one with a marker: all of it is
    /// durable then, and says so (L16).
    fn write_pieces(&self, read: Read<'_>, out: &Path, pieces: &[Piece]) -> io::Result<()> {
        for (number, Piece { run, last }) in pieces.iter().enumerate() {
            let source = self.content(read, segment::File::Segment(run.file))?.bytes;
            let Run { created_ms, first, before: chain, .. } = *run;
            let header = Header { node: self.node, first, chain, created_ms };
            let mut bytes = header.to_bytes().to_vec();
            let mut time_ms = created_ms;
            let mut at = run.place.start;
            while at < run.place.end {
                let frame = source.get(at..).and_then(|bytes| Frame::parse(bytes).ok());
                let Some(frame) = frame else {
                    let file = segment::File::Segment(run.file);
                    let told = format!("journal/{file}: byte {at} could be read, and cannot now");
                    return Err(io::Error::other(told));
                };
                at += frame.bytes().len();
                if frame.fields.kind == Kind::Events && frame.fields.number <= *last {
                    bytes.extend_from_slice(frame.bytes());
                    time_ms = frame.fields.time_ms;
                }
            }
            if number + 1 == pieces.len() {
                let kind = Kind::Marker;
                let fields = Fields { kind, number: *last, time_ms, synced: *last, count: 0 };
                encode(&fields, &[], &header.seal(), &mut bytes);
            }
            let name = runtime::LedgerFile::from(segment::File::Segment(first)).to_string();
            write_new(&out.join(name), &bytes)?;
        }
        File::open(out.join(Folder::Journal.name()))?.sync_all()
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// All that can be read.
#[derive(Clone, Debug, Default)]
struct Found {
    sound: BTreeMap<u64, SnapshotHeader>,
    bad: Vec<String>,
    unreadable: Vec<Unreadable>,
    /// In the order of the segments, and in each by place.
    runs: Vec<Run>,
    known: u64,
}

/// What is copied where.
#[derive(Clone, Debug, Default)]
struct Plan {
    /// What the pieces go on from.
    base: Head,
    pieces: Vec<Piece>,
    snapshots: Vec<u64>,
    state: u64,
    loose: Vec<Vec<Piece>>,
}

impl Found {
    /// Finds the runs in the bytes of a segment.
    fn search(&mut self, file: u64, header: Option<Header>, bytes: &[u8], linked: &BTreeSet<u64>) {
        let (seal, created_ms) = header.map_or(([0; 32], 0), |h| (h.seal(), h.created_ms));
        // Without a header, what came before tells what its first record follows.
        let told = || self.runs.iter().rev().find_map(|run| run.mark(file - 1));
        let start = (file == 1).then_some([0; HASH_BYTES]);
        let mut chain = header.map(|header| header.chain).or(start).or_else(told);
        let mut repaired = None;
        let mut open: Option<Run> = None;
        let mut at = HEADER_BYTES;
        let mut again = bytes.len().saturating_mul(AGAIN_MAX);
        if let Some(header) = header {
            self.known = self.known.max(header.first - 1);
        }
        while at + MARKER_BYTES <= bytes.len() {
            let most = if again > 0 { usize::MAX } else { SHORT };
            let frame = Frame::parse(&bytes[at..]).ok();
            let frame = frame.filter(|frame| frame.bytes().len() <= most);
            let valid = frame.and_then(|frame| match frame.fields.kind {
                Kind::Marker => frame.follows(&seal).then_some((frame, seal)),
                Kind::Events => {
                    let behind = beside(bytes, at, MARKER_BYTES);
                    let chains = [chain, beside(bytes, at, 0), behind, repaired];
                    let mut chains = chains.into_iter().flatten();
                    chains.find(|chain| frame.follows(chain)).map(|chain| (frame, chain))
                }
            });
            let Some((frame, before)) = valid else {
                self.runs.extend(open.take());
                again = again.saturating_sub(frame.map_or(0, |frame| frame.bytes().len()));
                // Perhaps only the hash of this record is damaged, which the next one covers.
                let whole = frame.filter(|frame| frame.fields.kind == Kind::Events);
                let hash = whole.zip(chain).map(|(frame, chain)| frame.computed(&chain));
                repaired = repaired.or(hash);
                at += 8;
                continue;
            };
            repaired = None;
            let Fields { kind, number, synced, .. } = frame.fields;
            let end = at + frame.bytes().len();
            self.known = self.known.max(synced);
            if kind == Kind::Events {
                self.known = self.known.max(number);
                let last = Head { record: number, hash: frame.stored() };
                chain = Some(last.hash);
                let goes_on = |run: &Run| run.last.record + 1 == number && run.last.hash == before;
                if !open.as_ref().is_some_and(goes_on) {
                    let (first, place, marks) = (number, at..end, BTreeMap::new());
                    let run = Run { file, created_ms, first, before, last, place, marks };
                    self.runs.extend(open.replace(run));
                }
                if let Some(run) = &mut open {
                    (run.last, run.place.end) = (last, end);
                    if linked.contains(&number) {
                        run.marks.insert(number, last.hash);
                    }
                }
            }
            at = end;
        }
        self.runs.extend(open);
    }

    /// Decides on what a node should start, and what goes with it.
    fn plan(&self) -> Plan {
        let heads = self.sound.values().map(|s| Head { record: s.record, hash: s.head });
        let bases = std::iter::once(Head::default()).chain(heads);
        let mut best: Option<(Head, Vec<Piece>)> = None;
        for base in bases {
            let pieces = self.follow(base);
            let reach = |base: Head, pieces: &[Piece]| {
                pieces.last().map_or(base.record, |piece| piece.last)
            };
            if best.as_ref().is_none_or(|(b, p)| reach(base, &pieces) > reach(*b, p)) {
                best = Some((base, pieces));
            }
        }
        let (base, mut pieces) = best.unwrap_or_default();
        let state = pieces.last().map_or(base.record, |piece| piece.last);
        self.reach_back(&mut pieces);
        let fits = |s: &&SnapshotHeader| s.record >= base.record && s.record <= state;
        let in_chain = |s: &&SnapshotHeader| {
            let marked = |p: &Piece| p.run.mark(s.record) == Some(s.head);
            s.record == base.record || pieces.iter().any(marked)
        };
        let snapshots = self.sound.values().filter(fits).filter(in_chain);
        let snapshots = snapshots.map(|s| s.record).collect();
        let loose = self.loose(&pieces);
        Plan { base, pieces, snapshots, state, loose }
    }

    /// Goes on from a state, as far as records follow: a later segment's before an earlier one's,
    /// which it superseded (L31).
    fn follow(&self, mut head: Head) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        loop {
            let links = |run: &&Run| run.mark(head.record) == Some(head.hash);
            let longer = |run: &&Run| run.last.record > head.record;
            let Some(run) = self.runs.iter().rfind(|run| longer(run) && links(run)) else {
                return pieces;
            };
            let supersedes = |later: &&Run| {
                let at = later.first - 1;
                later.file > run.file && at > head.record && run.mark(at) == Some(later.before)
            };
            let later = self.runs.iter().filter(supersedes).map(|later| later.first - 1).min();
            let last = later.unwrap_or(run.last.record);
            let hash = run.mark(last).unwrap_or(run.last.hash);
            head = Head { record: last, hash };
            pieces.push(Piece { run: run.clone(), last });
        }
    }

    /// Puts the records in front that lead up to the first piece without a gap.
    fn reach_back(&self, pieces: &mut Vec<Piece>) {
        while let Some(first) = pieces.first() {
            let (at, hash) = (first.run.first - 1, first.run.before);
            let leads = |run: &&Run| run.first <= at && run.mark(at) == Some(hash);
            let Some(run) = self.runs.iter().rfind(leads) else {
                return;
            };
            pieces.insert(0, Piece { run: run.clone(), last: at });
        }
    }

    /// Lists the chains of records that are in no piece, each from its first.
    fn loose(&self, pieces: &[Piece]) -> Vec<Vec<Piece>> {
        let mut told = Numbers::default();
        told.extend(pieces);
        let mut loose = Vec::new();
        for run in &self.runs {
            if !told.has(run.first) {
                let chain = self.follow(Head { record: run.first - 1, hash: run.before });
                told.extend(&chain);
                loose.push(chain);
            }
        }
        loose
    }

    /// Lists the records up to the highest known of which nothing can be read. Records before the
    /// first that is there are no loss if a sound snapshot covers them: they were removed (L43).
    fn lost(&self) -> Vec<(u64, u64)> {
        let mut told = Numbers::default();
        for run in &self.runs {
            told.add(run.first, run.last.record);
        }
        let first = self.runs.iter().map(|run| run.first).min().unwrap_or(self.known + 1);
        let covered = self.sound.keys().next_back().copied().unwrap_or(0);
        told.add(1, covered.min(first - 1));
        told.missing(self.known)
    }
}

impl Run {
    /// Returns the hash after a record that is in the run or right before it, if it is known.
    fn mark(&self, record: u64) -> Option<Chain> {
        if record + 1 == self.first {
            return Some(self.before);
        }
        if record == self.last.record {
            return Some(self.last.hash);
        }
        self.marks.get(&record).copied()
    }
}

/// Returns the first and the last record of pieces that follow each other.
fn range(pieces: &[Piece]) -> Option<(u64, u64)> {
    Some((pieces.first()?.run.first, pieces.last()?.last))
}

/// Returns the 32 bytes that end `gap` bytes before `at`.
fn beside(bytes: &[u8], at: usize, gap: usize) -> Option<Chain> {
    let end = at.checked_sub(gap)?;
    let start = end.checked_sub(HASH_BYTES)?;
    bytes.get(start..end)?.try_into().ok()
}

/// A set of numbers, as ranges: the first and the last of each.
#[derive(Clone, Debug, Default)]
struct Numbers(Vec<(u64, u64)>);

impl Numbers {
    fn extend(&mut self, pieces: &[Piece]) {
        if let Some((first, last)) = range(pieces) {
            self.add(first, last);
        }
    }

    fn add(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        self.0.push((first, last));
        self.0.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (first, last) in self.0.drain(..) {
            match joined.last_mut() {
                Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
                Some(_) | None => joined.push((first, last)),
            }
        }
        self.0 = joined;
    }

    fn has(&self, number: u64) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// Lists the ranges from 1 to `end` that are not in the set.
    fn missing(&self, end: u64) -> Vec<(u64, u64)> {
        let mut next = 1;
        let mut missing = Vec::new();
        for (first, last) in &self.0 {
            if *first > next {
                missing.push((next, (first - 1).min(end)));
            }
            next = last + 1;
        }
        if next <= end {
            missing.push((next, end));
        }
        missing
    }
}

impl fmt::Display for Salvaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "salvaged    {}", self.out)?;
        match self.records {
            Some((first, last)) => writeln!(f, "records     {first} to {last}")?,
            None => writeln!(f, "records     none")?,
        }
        self.snapshots.iter().try_for_each(|record| writeln!(f, "snapshot    {record}"))?;
        writeln!(f, "state       a node starts on it with the state after record {}", self.state)?;
        for Loose { folder, first, last } in &self.loose {
            writeln!(f, "loose       {first} to {last}: readable, not in the state: {folder}")?;
        }
        for (first, last) in &self.lost {
            match first == last {
                true => writeln!(f, "LOST        record {first}")?,
                false => writeln!(f, "LOST        records {first} to {last}")?,
            }
        }
        self.bad_snapshots.iter().try_for_each(|bad| writeln!(f, "LOST        {bad}"))?;
        self.unreadable.iter().try_for_each(|bytes| writeln!(f, "LOST        {bytes}"))?;
        let all_sound = self.bad_snapshots.is_empty() && self.unreadable.is_empty();
        match self.lost.is_empty() && all_sound {
            true => write!(f, "nothing is lost"),
            false => write!(f, "known       up to record {}", self.known),
        }
    }
}
