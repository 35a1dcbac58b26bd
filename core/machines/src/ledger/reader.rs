//! Reading durable records of a journal that is being written (K331, K332).
//!
//! ```text
//!            header            record up to `last`       no more of them
//!   new ─► Header ─────► Records ───────────────► … ──────────────────► End, until there are
//!            │ wrong        │ wrong
//!            └──────────────┴────► Damaged
//! ```
//!
//! A [`Walk`] goes through the records of one segment. It is told at each step how far it may go:
//! never past what is durable, nor to a record that a later segment has. What stands behind that
//! may change under it, so bytes that were read too early are read again.
//!
//! It asks for bytes one range at a time and holds at most one range or one record, whatever the
//! length of the journal. Every record is checked against the chain: a file that was removed or
//! replaced while it was read never gives a wrong one.

#[cfg(test)]
mod tests;

use std::fmt;

use super::record::{self, Chain, Frame, HASH_BYTES, Kind, MARKER_BYTES};
use super::recovery::io::Entry;
use super::segment::{File, HEADER_BYTES, Header};
use crate::cluster::ids::NodeId;

/// How much is read at first, and again after all that there was has been read.
pub const READ_MIN: u64 = 16 << 10;
/// How much is read at a time by who has far to go, unless a record is longer.
pub const READ_MAX: u64 = 256 << 10;

/// Why a walk cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Damaged {
    /// In which file.
    pub file: File,
    /// At which byte.
    pub offset: u64,
    /// Which record is not there.
    pub record: u64,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, record } = self;
        write!(f, "journal/{file}: at byte {offset}: record {record} cannot be read")
    }
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bytes are needed; fewer may come at the end of the file. Answer with [`Walk::fill`].
    Read {
        /// Of which file.
        file: File,
        /// From where.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The next record.
    Record(Entry),
    /// No more up to the last one that may be read now.
    End,
}

/// A place between two records of a segment, from where a walk can go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The segment, by its first record.
    pub first: u64,
    /// The record that comes next.
    pub next: u64,
    at: u64,
    chain: Chain,
}

/// See the file's header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Walk {
    node: NodeId,
    first: u64,
    at: u64,
    next: u64,
    /// The hash of the record before; none until the header was read.
    chain: Option<Chain>,
    /// What was read, from `base` on.
    bytes: Vec<u8>,
    base: u64,
    /// The last record that was durable when the bytes were asked for.
    good: u64,
    /// How many bytes were asked for last.
    asked: u64,
    ahead: u64,
}

impl Walk {
    /// Begins at the first record of the segment of `node` that begins with record `first`.
    #[must_use]
    pub fn new(node: NodeId, first: u64) -> Self {
        Self::at(node, (first, first), 0, None)
    }

    /// Begins at a place where another walk was.
    #[must_use]
    pub fn from(node: NodeId, mark: Mark) -> Self {
        Self::at(node, (mark.first, mark.next), mark.at, Some(mark.chain))
    }

    fn at(node: NodeId, (first, next): (u64, u64), at: u64, chain: Option<Chain>) -> Self {
        let (bytes, base, good, asked, ahead) = (Vec::new(), 0, 0, 0, READ_MIN);
        Self { node, first, at, next, chain, bytes, base, good, asked, ahead }
    }

    /// Returns the first record of the segment.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// Returns the record that comes next.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Returns where it stands, once the header was read.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        self.chain.map(|chain| Mark { first: self.first, next: self.next, at: self.at, chain })
    }

    /// Takes the bytes that the last [`Step::Read`] asked for, asked for when `durable` was the
    /// last durable record.
    pub fn fill(&mut self, bytes: Vec<u8>, durable: u64) {
        self.base = self.at;
        self.bytes = bytes;
        self.good = durable;
    }

    /// Takes the next step; `last` is the last record that may be read of this segment.
    ///
    /// # Errors
    ///
    /// [`Damaged`]: what should be there is not. Nothing that it gave before is wrong.
    pub fn step(&mut self, last: u64) -> Result<Step, Damaged> {
        if self.next > last {
            // What follows will be written yet.
            self.bytes = Vec::new();
            self.asked = 0;
            self.good = 0;
            self.ahead = READ_MIN;
            return Ok(Step::End);
        }
        if self.chain.is_none() {
            let Some(bytes) = self.slice(HEADER_BYTES) else {
                return self.need(HEADER_BYTES);
            };
            match Header::parse(bytes) {
                Ok(header) if header.node == self.node && header.first == self.first => {
                    self.chain = Some(header.chain);
                    self.at += HEADER_BYTES as u64;
                }
                Ok(_) | Err(_) => return Err(self.damaged()),
            }
        }
        self.record()
    }

    /// Reads the next record, past the markers before it.
    fn record(&mut self) -> Result<Step, Damaged> {
        loop {
            let Some(head) = self.slice(MARKER_BYTES) else {
                return self.need(MARKER_BYTES);
            };
            let (length, fields) = record::parse_head(head).map_err(|_| self.damaged())?;
            match fields.kind {
                Kind::Marker if fields.number < self.next => self.at += MARKER_BYTES as u64,
                Kind::Events if fields.number == self.next => return self.entry(length as usize),
                Kind::Marker | Kind::Events => return Err(self.damaged()),
            }
        }
    }

    fn entry(&mut self, length: usize) -> Result<Step, Damaged> {
        let Some(bytes) = self.slice(length) else {
            return self.need(length);
        };
        let frame = Frame::parse(bytes).map_err(|_| self.damaged())?;
        let chain = self.chain.unwrap_or([0; HASH_BYTES]);
        if !frame.follows(&chain) {
            return Err(self.damaged());
        }
        let fields = frame.fields;
        let entry = Entry {
            number: fields.number,
            time_ms: fields.time_ms,
            count: fields.count,
            body: frame.body().to_vec().into(),
            hash: frame.stored(),
        };
        self.at += length as u64;
        self.next += 1;
        self.chain = Some(entry.hash);
        Ok(Step::Record(entry))
    }

    /// Returns bytes from where it stands, if they are here and can be trusted.
    fn slice(&self, length: usize) -> Option<&[u8]> {
        if self.next > self.good {
            return None;
        }
        let start = usize::try_from(self.at.checked_sub(self.base)?).ok()?;
        self.bytes.get(start..start.checked_add(length)?)
    }

    /// Asks for bytes from where it stands, unless the file has no more.
    fn need(&mut self, length: usize) -> Result<Step, Damaged> {
        let ended = (self.bytes.len() as u64) < self.asked;
        if self.next <= self.good && ended {
            return Err(self.damaged());
        }
        let bytes = self.ahead.max(length as u64);
        self.asked = bytes;
        self.ahead = (self.ahead * 2).min(READ_MAX);
        Ok(Step::Read { file: File::Segment(self.first), offset: self.at, bytes })
    }

    const fn damaged(&self) -> Damaged {
        Damaged { file: File::Segment(self.first), offset: self.at, record: self.next }
    }
}
