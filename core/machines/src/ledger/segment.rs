//! The files of the journal: their names and the header of a segment (L10, L11, L18).
//!
//! A segment gets its name only when all records before its first are durable, and when it holds,
//! durably, its header and every record that an earlier file may hold beyond them. So a name is
//! evidence: what comes before the first record of any named segment was acknowledged, or could
//! have been.

#[cfg(test)]
mod tests;

use std::fmt;

use super::record::{Chain, NUMBER_END};
use crate::cluster::ids::NodeId;
use crate::codec::{Malformed, Reader};

/// The domain of a header's hash (L11).
pub const DOMAIN: &str = "lockstep.segment.v1";
/// The header before the first record.
pub const HEADER_BYTES: usize = 128;
/// The one format that this code writes and reads.
pub const FORMAT: u16 = 1;

const MAGIC: [u8; 4] = *b"LKJ1";
const HASHED_BYTES: usize = 96;
const DIGITS: usize = 20;

/// A file of the journal's folder that is ours (L18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// The records from this one on: `<20 digits>.seg`.
    Segment(u64),
    /// Being prepared, or waiting for its first record: `<20 digits>.tmp`. It holds nothing that
    /// anyone was told of, so recovery removes what it finds.
    Spare(u64),
}

impl File {
    /// Reads a name inside the folder; `None` if it is not of one of the forms.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (digits, ending) = name.split_once('.')?;
        if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = digits.parse().ok()?;
        match ending {
            "seg" if (1..NUMBER_END).contains(&number) => Some(Self::Segment(number)),
            "tmp" => Some(Self::Spare(number)),
            _ => None,
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(first) => write!(f, "{first:020}.seg"),
            Self::Spare(number) => write!(f, "{number:020}.tmp"),
        }
    }
}

/// The header of a segment (L11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// Whose journal it is.
    pub node: NodeId,
    /// The number of its first record.
    pub first: u64,
    /// The hash of the record before that, zeros before record 1.
    pub chain: Chain,
    /// Kernel time when it was begun: no record of an earlier segment is younger.
    pub created_ms: u64,
}

/// Why bytes are not the header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadHeader {
    /// They are none at all, or damaged.
    Malformed(Malformed),
    /// A format that this code does not know: written by a later release.
    Format(u16),
}

impl From<Malformed> for BadHeader {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl Header {
    /// Returns the bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.node.to_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.chain);
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&[0; 24]);
        let hash = hash(&out);
        out.extend_from_slice(&hash);
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads the header at the front of `bytes`; what follows it does not matter.
    ///
    /// # Errors
    ///
    /// [`BadHeader`] if none stands there. The format is told before damage is, since a later
    /// format may have another layout.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadHeader> {
        let mut reader = Reader::new(bytes);
        if reader.array::<4>()? != MAGIC {
            return Err(Malformed { offset: 0, expected: "LKJ1" }.into());
        }
        let format = reader.u16()?;
        if format != FORMAT {
            return Err(BadHeader::Format(format));
        }
        reader.zero(2)?;
        let node = NodeId::from_bytes(reader.array()?);
        let first = reader.u64()?;
        if !(1..NUMBER_END).contains(&first) {
            return Err(Malformed { offset: 24, expected: "a number from 1" }.into());
        }
        let (chain, created_ms) = (reader.array()?, reader.u64()?);
        reader.zero(24)?;
        if reader.array::<32>()? != hash(&bytes[..HASHED_BYTES]) {
            return Err(Malformed { offset: 96, expected: "the hash of the header" }.into());
        }
        Ok(Self { node, first, chain, created_ms })
    }

    /// Returns the hash that ends the header: what the segment's markers cover, unlike any that
    /// stands in another segment.
    #[must_use]
    pub fn seal(&self) -> Chain {
        let mut seal = [0; 32];
        seal.copy_from_slice(&self.to_bytes()[HASHED_BYTES..]);
        seal
    }
}

fn hash(bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    hasher.update(bytes);
    *hasher.finalize().as_bytes()
}
