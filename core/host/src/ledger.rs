//! The ledger of a data folder, read without a node: what `doctor`, `journal` and salvage see.
//!
//! ```text
//!   files ─► Recovery ─► records, in order ─► Replay ─► state root
//!     └────► SnapshotReader, Restoring ─────────┘           │
//!                                                  equal to the snapshots'?
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`journal`] | `lockstep journal cat`, `verify` and `root` |
//! | [`doctor`] | `lockstep doctor`: everything that can be wrong, in one report |
//! | [`salvage`] | `lockstep doctor --salvage`: what can be read, into a new folder (L33) |
//! | `replay` | the state that snapshots and records add up to |
//!
//! It drives the machines that a node starts with, so both believe the same. It holds the folder
//! against a node meanwhile (L2), and writes nothing into it but who holds it.

pub mod doctor;
pub mod journal;
mod replay;
pub mod salvage;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use machines::cluster::ids::NodeId;
use machines::keeper::io::RefusedStart;
use machines::ledger::recovery::io::{Entry, Head, Input, Listed, Output, Recovered, Refusal};
use machines::ledger::recovery::{READ_BYTES, Recovery};
use machines::ledger::segment::{self, HEADER_BYTES, Header};
use machines::ledger::snapshot::{
    FileName, Item, Refused, Restoring, SnapshotHeader, SnapshotReader,
};
use runtime::Folder;

use crate::failure::Failure;
use crate::files;
use crate::world::files::{kind, list, read_at};
use replay::Replay;
use salvage::BLOCK;

/// A ledger on disk, which nobody writes to meanwhile.
#[derive(Debug)]
pub struct Ledger {
    data: PathBuf,
    /// Whose it is, and how that is known.
    node: NodeId,
    node_from: &'static str,
    journal: Vec<Listed>,
    snapshots: Vec<Listed>,
    _held: Option<files::Folder>,
}

/// Why a journal cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// What a node would say. Of what cannot be read, the block is told.
    pub refusal: Refusal,
    /// What the disk said, if that is why.
    pub said: Option<String>,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.refusal, &self.said) {
            (Refusal::Unreadable { file: Some(file), offset, .. }, Some(said)) => {
                write!(f, "journal/{file}: at byte {offset}: {said}")
            }
            (refusal, _) => refusal.fmt(f),
        }
    }
}

impl From<Refusal> for Unusable {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, said: None }
    }
}

/// Why a snapshot is of no use.
#[derive(Debug)]
enum BadSnapshot {
    /// What is in it.
    Refused(Refused),
    /// It cannot be read.
    Io(io::Error),
}

impl fmt::Display for BadSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refused) => refused.fmt(f),
            Self::Io(error) => write!(f, "cannot be read: {error}"),
        }
    }
}

impl From<Refused> for BadSnapshot {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<io::Error> for BadSnapshot {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Ledger {
    /// Opens the ledger in the folder `data`. Whose it must be is told by the key file, if there is
    /// one that can be read; else its own files are believed.
    ///
    /// # Errors
    ///
    /// A node runs on the folder, there is no ledger in it, or it cannot be listed.
    pub fn open(data: &Path, key_file: &Path) -> Result<Self, Failure> {
        let held = files::Folder::inspect(data)?;
        let listed = |folder: Folder| match list(&data.join(folder.name())) {
            Ok(listed) => Ok(Some(listed)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::Folder { path: data.join(folder.name()), error }),
        };
        let (journal, snapshots) = (listed(Folder::Journal)?, listed(Folder::Snapshots)?);
        if journal.is_none() && snapshots.is_none() {
            return Err(Failure::NoLedger(data.to_owned()));
        }
        let mut ledger = Self {
            data: data.to_owned(),
            node: NodeId::from_bytes([0; 16]),
            node_from: "unknown",
            journal: journal.unwrap_or_default(),
            snapshots: snapshots.unwrap_or_default(),
            _held: held,
        };
        (ledger.node, ledger.node_from) = match files::read_key(key_file) {
            Ok(key) => (key.node(), "key file"),
            Err(_) => ledger.node_of_files(),
        };
        Ok(ledger)
    }

    /// Believes the first file that says whose it is.
    fn node_of_files(&self) -> (NodeId, &'static str) {
        let mut headers = self.segments().filter_map(|first| self.header(first).ok());
        if let Some(header) = headers.next() {
            return (header.node, "journal");
        }
        let mut snapshots = self.snapshots().filter_map(|record| {
            let mut reader = SnapshotReader::new(None, Some(record));
            let file = File::open(self.path(FileName::Snapshot(record))).ok()?;
            reader.feed(&read_at(&file, 0, READ_BYTES).ok()?);
            match reader.poll() {
                Ok(Some(Item::Header(header))) => Some(header.node),
                Ok(_) | Err(_) => None,
            }
        });
        match snapshots.next() {
            Some(node) => (node, "snapshots"),
            None => (self.node, "unknown"),
        }
    }

    fn path(&self, file: impl Into<runtime::LedgerFile>) -> PathBuf {
        self.data.join(file.into().to_string())
    }

    /// Lists the first records of the segments, in order.
    fn segments(&self) -> impl Iterator<Item = u64> + '_ {
        self.journal.iter().filter_map(|listed| match segment::File::parse(&listed.name)? {
            segment::File::Segment(first) => Some(first),
            segment::File::Spare(_) => None,
        })
    }

    /// Lists of which records there are snapshots, in order.
    fn snapshots(&self) -> impl Iterator<Item = u64> + '_ {
        self.snapshots.iter().filter_map(|listed| match FileName::parse(&listed.name)? {
            FileName::Snapshot(record) => Some(record),
            FileName::Temporary(_) => None,
        })
    }

    /// Lists what is in the two folders under names that are not ours (L18).
    fn strangers(&self) -> Vec<String> {
        let is_ours = |name: &str| segment::File::parse(name).is_some();
        let journal = self.journal.iter().filter(|listed| !is_ours(&listed.name));
        let journal = journal.map(|listed| format!("{}/{}", Folder::Journal, listed.name));
        let is_ours = |name: &str| FileName::parse(name).is_some();
        let snapshots = self.snapshots.iter().filter(|listed| !is_ours(&listed.name));
        let snapshots = snapshots.map(|listed| format!("{}/{}", Folder::Snapshots, listed.name));
        journal.chain(snapshots).collect()
    }

    /// Reads the header of a segment; as text, why it cannot be read.
    fn header(&self, first: u64) -> Result<Header, String> {
        let file = File::open(self.path(segment::File::Segment(first)));
        let read = file.and_then(|file| read_at(&file, 0, HEADER_BYTES as u64));
        let bytes = read.map_err(|error| error.to_string())?;
        Header::parse(&bytes).map_err(|bad| format!("{bad:?}"))
    }

    /// Returns where a scan can begin that shows record `from`, if it is there: before the first
    /// record of a segment. The header of that segment is believed.
    fn before(&self, from: u64) -> Head {
        let segments: Vec<u64> = self.segments().collect();
        let first = segments.iter().rev().find(|first| **first <= from).or(segments.first());
        let header = first.and_then(|first| self.header(*first).ok());
        header.map_or_else(Head::default, |header| Head {
            record: header.first - 1,
            hash: header.chain,
        })
    }

    /// Reads the journal after `start` as a node would at its start, and hands its records out.
    ///
    /// # Errors
    ///
    /// That of `take`, at once. What is wrong with the journal is in the value.
    fn scan(
        &self,
        start: Head,
        mut take: impl FnMut(&Entry) -> Result<(), Failure>,
    ) -> Result<Result<Recovered, Unusable>, Failure> {
        let mut recovery = Recovery::new(self.node, start, READ_BYTES);
        let mut open: Option<(segment::File, File)> = None;
        let mut failed = None;
        loop {
            let mut input = None;
            while let Some(output) = recovery.poll() {
                match output {
                    Output::List { .. } => input = Some(Input::Listed(self.journal.clone())),
                    Output::ReadAt { op, file, offset, bytes } => {
                        let read = self.read(&mut open, file, offset, bytes);
                        input = Some(match read {
                            Ok(bytes) => Input::Read(op, bytes),
                            Err(error) => {
                                let at = self.unreadable(&mut open, file, (offset, bytes));
                                failed = Some((at, error.to_string()));
                                Input::Failed(op, kind(&error))
                            }
                        });
                    }
                    Output::Record(entry) => take(&entry)?,
                    Output::Recovered(recovered) => return Ok(Ok(*recovered)),
                    Output::Refused(refusal) => return Ok(Err(unusable(refusal, failed))),
                }
            }
            recovery.handle(input.expect("a recovery that has not ended wants something read"));
        }
    }

    /// Finds where the first block stands that cannot be read, of many that were asked for at once.
    fn unreadable(
        &self,
        open: &mut Option<(segment::File, File)>,
        file: segment::File,
        (offset, bytes): (u64, u64),
    ) -> u64 {
        let step = usize::try_from(BLOCK).expect("a block is small");
        let mut blocks = (offset - offset % BLOCK..offset + bytes).step_by(step);
        blocks.find(|at| self.read(open, file, *at, BLOCK).is_err()).unwrap_or(offset).max(offset)
    }

    fn read(
        &self,
        open: &mut Option<(segment::File, File)>,
        file: segment::File,
        offset: u64,
        bytes: u64,
    ) -> io::Result<Vec<u8>> {
        let opened = match open.take().filter(|(known, _)| *known == file) {
            Some((_, opened)) => opened,
            None => File::open(self.path(file))?,
        };
        let read = read_at(&opened, offset, bytes);
        *open = Some((file, opened));
        read
    }

    /// Hands the bytes of a snapshot out, in pieces.
    fn pieces(
        &self,
        record: u64,
        mut take: impl FnMut(&[u8]) -> Result<(), Refused>,
    ) -> Result<(), BadSnapshot> {
        let file = File::open(self.path(FileName::Snapshot(record)))?;
        let mut offset = 0;
        loop {
            let bytes = read_at(&file, offset, READ_BYTES)?;
            if bytes.is_empty() {
                return Ok(());
            }
            offset += bytes.len() as u64;
            take(&bytes)?;
        }
    }

    /// Checks all hashes and the root of a snapshot, whatever its schema versions.
    fn check(&self, record: u64) -> Result<SnapshotHeader, BadSnapshot> {
        let mut reader = SnapshotReader::new(Some(self.node), Some(record));
        self.pieces(record, |bytes| {
            reader.feed(bytes);
            while reader.poll()?.is_some() {}
            Ok(())
        })?;
        Ok(reader.finish()?)
    }

    /// Loads the state of a snapshot.
    fn load(&self, record: u64) -> Result<(SnapshotHeader, Replay), BadSnapshot> {
        let mut replay = Replay::new();
        let mut restoring = Restoring::new(self.node, record);
        self.pieces(record, |bytes| replay.load(&mut restoring, bytes))?;
        Ok((restoring.finish()?, replay))
    }

    /// Finds the state to begin with, as a node does (L30): the newest sound snapshot of a record
    /// up to `at`, or nothing before record 1.
    ///
    /// # Errors
    ///
    /// Why a node would not start: a snapshot that is sound, and another's or of a later release,
    /// is no reason to go back to an older state (L36).
    fn begin(&self, at: u64) -> Result<(Head, Replay), Box<RefusedStart>> {
        let records: Vec<u64> = self.snapshots().filter(|record| *record <= at).collect();
        for record in records.into_iter().rev() {
            match self.load(record) {
                Ok((header, replay)) => {
                    return Ok((Head { record: header.record, hash: header.head }, replay));
                }
                Err(BadSnapshot::Refused(Refused::Unreadable(why))) => {
                    return Err(Box::new(RefusedStart::Snapshot { record, why }));
                }
                Err(BadSnapshot::Refused(
                    refused @ (Refused::Foreign { .. } | Refused::Format { .. }),
                )) => {
                    let why = refused.to_string();
                    return Err(Box::new(RefusedStart::Foreign { record, why }));
                }
                Err(BadSnapshot::Refused(_) | BadSnapshot::Io(_)) => {}
            }
        }
        Ok((Head::default(), Replay::new()))
    }
}

/// Tells what the disk said with a refusal, and where.
fn unusable(refusal: Refusal, failed: Option<(u64, String)>) -> Unusable {
    match (refusal, failed) {
        (Refusal::Unreadable { file, error, .. }, Some((offset, said))) => {
            let refusal = Refusal::Unreadable { file, offset, error };
            Unusable { refusal, said: Some(said) }
        }
        (refusal, _) => refusal.into(),
    }
}

#[cfg(test)]
mod tests;
