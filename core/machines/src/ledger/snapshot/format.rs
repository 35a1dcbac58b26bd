//! The headers of a snapshot, its name, and what it is made of.

use std::fmt;

use crate::cluster::ids::NodeId;
use crate::codec::{Malformed, Reader, Wire, put_count};
use crate::ledger::fold::{FrozenPart, PartState};
use crate::ledger::record::NUMBER_END;
use crate::ledger::root::StateRoot;

/// Every chunk of a table but its last has so many bytes. Part of the format.
pub const CHUNK_BYTES: usize = 1 << 20;
/// What a snapshot begins with.
pub(super) const MAGIC: [u8; 4] = *b"LKS1";
/// The only format so far.
pub(super) const FORMAT: u16 = 1;
/// Bytes of a header, its hash included.
pub(super) const HEADER_BYTES: usize = 104 + HASH_BYTES;
/// Bytes of a part header before the row counts.
pub(super) const PART_START_BYTES: usize = 8;
/// Bytes of a chunk before its content.
pub(super) const CHUNK_START_BYTES: usize = 8 + HASH_BYTES;
/// Bytes of a hash.
pub(super) const HASH_BYTES: usize = 32;
/// How many parts a snapshot, and tables a part may have.
pub(super) const PARTS_MAX: u32 = 1024;

pub(super) const HEADER_DOMAIN: &str = "lockstep.snapshot.header.v1";
pub(super) const PART_DOMAIN: &str = "lockstep.snapshot.part.v1";
pub(super) const CHUNK_DOMAIN: &str = "lockstep.snapshot.chunk.v1";
pub(super) const FILE_DOMAIN: &str = "lockstep.snapshot.v1";

/// Hashes `bytes` in `domain`.
pub(super) fn hash(domain: &str, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    hasher.update(bytes);
    *hasher.finalize().as_bytes()
}

/// Of what a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotHeader {
    /// Whose state.
    pub node: NodeId,
    /// The state after this record; 0 is the state before the first.
    pub record: u64,
    /// The hash of that record.
    pub head: [u8; 32],
    /// The root of the state.
    pub root: StateRoot,
    /// How many parts follow.
    pub parts: u32,
}

impl SnapshotHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        self.node.encode(&mut out);
        out.extend_from_slice(&self.record.to_le_bytes());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.root.to_bytes());
        out.extend_from_slice(&self.parts.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let hash = hash(HEADER_DOMAIN, &out);
        out.extend_from_slice(&hash);
        out
    }

    /// Decodes what follows magic and format, whose hash was checked.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        reader.zero(2)?;
        let node = NodeId::decode(reader)?;
        let here = reader.clone();
        let record = reader.u64()?;
        if record >= NUMBER_END {
            return Err(here.malformed("the number of a record"));
        }
        let (head, root) = (reader.array()?, StateRoot::from_bytes(reader.array()?));
        let here = reader.clone();
        let parts = reader.u32()?;
        if parts > PARTS_MAX {
            return Err(here.malformed("at most 1024 parts"));
        }
        reader.zero(4)?;
        reader.finish()?;
        Ok(Self { node, record, head, root, parts })
    }
}

/// What a part of a snapshot has in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartHeader {
    /// The part's event tag.
    pub tag: u16,
    /// The schema version of its rows.
    pub version: u16,
    /// How many rows each of its tables has.
    pub rows: Vec<u32>,
}

impl PartHeader {
    pub(super) fn of(part: &FrozenPart) -> Self {
        let rows = part.tables.iter().map(|table| table.rows()).collect();
        Self { tag: part.tag, version: part.version, rows }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.tag.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        put_count(&mut out, self.rows.len());
        for rows in &self.rows {
            out.extend_from_slice(&rows.to_le_bytes());
        }
        let hash = hash(PART_DOMAIN, &out);
        out.extend_from_slice(&hash);
        out
    }

    /// Returns how many bytes the header has that begins with `start`, its hash not included.
    pub(super) fn length(start: &[u8; PART_START_BYTES]) -> Result<usize, Malformed> {
        let mut reader = Reader::new(start);
        reader.take(4)?;
        let here = reader.clone();
        match reader.u32()? {
            tables @ 0..=PARTS_MAX => Ok(PART_START_BYTES + 4 * tables as usize),
            _ => Err(here.malformed("at most 1024 tables")),
        }
    }

    /// Decodes a header without its hash, which was checked.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let (tag, version) = (reader.u16()?, reader.u16()?);
        let tables = reader.count(4)?;
        let rows = (0..tables).map(|_| reader.u32()).collect::<Result<_, _>>()?;
        reader.finish()?;
        Ok(Self { tag, version, rows })
    }
}

/// A node's state after one record, frozen: it costs the same for any number of rows, and stays as
/// it is while the node goes on.
#[derive(Clone, Debug)]
pub struct FrozenState {
    pub(super) header: SnapshotHeader,
    pub(super) parts: Vec<FrozenPart>,
}

impl FrozenState {
    /// Freezes `parts`, all that the node has, in order of tag, as they are after `record`, whose
    /// hash is `head`.
    ///
    /// This asks for the root. Who asks for it seldom and may not stop for long (L41) lets the
    /// parts [settle](PartState::settle) first, in slices.
    ///
    /// # Panics
    ///
    /// If the tags do not ascend, or there are more than 1,024 parts.
    #[must_use]
    pub fn of(node: NodeId, record: u64, head: [u8; 32], parts: &mut [&mut dyn PartState]) -> Self {
        let parts: Vec<FrozenPart> = parts.iter_mut().map(|part| part.freeze()).collect();
        let roots: Vec<_> = parts.iter().map(|part| (part.tag, part.root)).collect();
        let root = StateRoot::of_parts(&roots);
        let count = u32::try_from(parts.len()).expect("a node has a handful of parts");
        assert!(count <= PARTS_MAX, "a node has a handful of parts");
        Self { header: SnapshotHeader { node, record, head, root, parts: count }, parts }
    }

    /// Returns of what this is.
    #[must_use]
    pub const fn header(&self) -> &SnapshotHeader {
        &self.header
    }
}

/// A name in the folder of snapshots that this program has given (L17, L18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileName {
    /// A snapshot of the state after this record.
    Snapshot(u64),
    /// A snapshot that is being written, or that a crash left half written.
    Temporary(u64),
}

/// How many digits the number of a record has in a name.
const DIGITS: usize = 20;

impl FileName {
    /// Reads a name; one of another form is left alone (L18).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (digits, ending) = name.split_at_checked(DIGITS)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let record = digits.parse().ok().filter(|record| *record < NUMBER_END)?;
        match ending {
            ".snap" => Some(Self::Snapshot(record)),
            ".snap.tmp" => Some(Self::Temporary(record)),
            _ => None,
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(record) => write!(f, "{record:0DIGITS$}.snap"),
            Self::Temporary(record) => write!(f, "{record:0DIGITS$}.snap.tmp"),
        }
    }
}
