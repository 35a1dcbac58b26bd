//! One record of the journal, and its place in the hash chain (L12–L16).
//!
//! ```text
//!  0        4      5      8        16       24       32      36     40           n−32     n
//!  │ length │ kind │ zero │ number │ time   │ synced │ count │ zero │ body, 0 … 0 │ hash │
//! ```
//!
//! The hash covers the chain, which is the hash of the record before, and all bytes before it.
//!
//! # Deviation from L13
//!
//! A *marker* is no link of the chain. It tells that record n is durable, so it must be readable
//! when record n is not: what it covers in place of the chain is the seal of the segment it stands
//! in. And it has no number of its own, so that a record has the same bytes whether or not the
//! journal was idle before it; L24 writes a record a second time and relies on that.

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

use blake3::Hasher;
use blake3::hazmat::{ContextKey, HasherExt};

use crate::codec::{Malformed, Reader};

/// A hash that the next record is chained to: of the record before, or zeros before record 1.
pub type Chain = [u8; 32];

/// The domain of a record's hash (L13).
pub const DOMAIN: &str = "lockstep.record.v1";
/// What BLAKE3 derives from [`DOMAIN`], so that it is not derived anew for each record.
const KEY: ContextKey = *b"\x24\x0d\x16\xa8\x52\x54\xe1\xd8\x39\x01\x30\x0a\x33\x14\x64\xc3\
    \xb7\x71\x84\x59\xc4\x4b\xcf\xb5\x26\x44\xce\x4a\xdd\x37\xe7\x18";
/// The fields before the body.
pub const HEAD_BYTES: usize = 40;
/// The hash after the body.
pub const HASH_BYTES: usize = 32;
/// The shortest record, which is also a marker.
pub const MARKER_BYTES: usize = HEAD_BYTES + HASH_BYTES;

/// No record has this number or a greater one: what claims to is none.
pub const NUMBER_END: u64 = 1 << 63;

/// What a record is (L12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The events of one decision.
    Events,
    /// Says what is durable, and nothing else (L16).
    Marker,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Events => 1,
            Self::Marker => 2,
        }
    }
}

/// The fields of a record before its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fields {
    /// What it is.
    pub kind: Kind,
    /// Its number, from 1 without gaps; a marker has that of the record before it.
    pub number: u64,
    /// Kernel time, in milliseconds since 1970.
    pub time_ms: u64,
    /// The highest record known to be durable when this one was written (L14).
    pub synced: u64,
    /// How many events the body holds: none in a marker, else at least one.
    pub count: u32,
}

/// Returns how long a record with a body of `body` bytes is.
#[must_use]
pub const fn encoded_len(body: usize) -> usize {
    HEAD_BYTES + body.next_multiple_of(8) + HASH_BYTES
}

/// Appends the record of `fields` and `body` to `out`, chained to `chain`, and returns its hash.
///
/// # Panics
///
/// If the fields and the body are not those of a record, or it is longer than 32 bits can tell.
pub fn encode(fields: &Fields, body: &[u8], chain: &Chain, out: &mut Vec<u8>) -> Chain {
    let start = out.len();
    let length = u32::try_from(encoded_len(body.len())).expect("the journal bounds a record");
    out.reserve(length as usize);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[fields.kind.code(), 0, 0, 0]);
    out.extend_from_slice(&fields.number.to_le_bytes());
    out.extend_from_slice(&fields.time_ms.to_le_bytes());
    out.extend_from_slice(&fields.synced.to_le_bytes());
    out.extend_from_slice(&fields.count.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(body);
    out.resize(start + length as usize - HASH_BYTES, 0);
    let sound = check(fields, length);
    assert!(sound.is_ok(), "what is written is a record: {sound:?}, {fields:?}");
    let hash = hash(chain, &out[start..]);
    out.extend_from_slice(&hash);
    hash
}

/// A record as it stands in the bytes of a segment. Its hash has not been compared yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The fields before the body.
    pub fields: Fields,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Reads the record at the front of `bytes`; what follows it does not matter.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if no record stands there, whatever its hash.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (length, fields) = parse_head(bytes)?;
        let mut reader = Reader::new(bytes);
        let bytes = reader.take(length as usize)?;
        Ok(Self { fields, bytes })
    }

    /// Returns the events, with up to 7 zeros after them: see [`padding`].
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[HEAD_BYTES..self.bytes.len() - HASH_BYTES]
    }

    /// Returns the whole record.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the hash that stands in the record.
    #[must_use]
    pub fn stored(&self) -> Chain {
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(&self.bytes[self.bytes.len() - HASH_BYTES..]);
        hash
    }

    /// Returns the hash that should stand in the record after `chain`.
    #[must_use]
    pub fn computed(&self, chain: &Chain) -> Chain {
        hash(chain, &self.bytes[..self.bytes.len() - HASH_BYTES])
    }

    /// Says whether the record is valid after `chain`.
    #[must_use]
    pub fn follows(&self, chain: &Chain) -> bool {
        self.computed(chain) == self.stored()
    }
}

/// Reads the length and the fields of the record at the front of `bytes`, which may end early.
///
/// # Errors
///
/// [`Malformed`] if no record begins so.
pub fn parse_head(bytes: &[u8]) -> Result<(u32, Fields), Malformed> {
    let mut reader = Reader::new(bytes);
    let length = reader.u32()?;
    let kind = match reader.u8()? {
        1 => Kind::Events,
        2 => Kind::Marker,
        _ => return Err(Malformed { offset: 4, expected: "a kind of record" }),
    };
    reader.zero(3)?;
    let (number, time_ms, synced) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let count = reader.u32()?;
    reader.zero(4)?;
    let fields = Fields { kind, number, time_ms, synced, count };
    check(&fields, length)?;
    Ok((length, fields))
}

/// Ends the reading of a record's events: only padding may be left (L12).
///
/// # Errors
///
/// [`Malformed`] if anything else is.
pub fn padding(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    match reader.remaining() {
        left @ 0..8 => reader.zero(left),
        _ => Err(reader.malformed("the end of the events")),
    }
}

/// Says whether fields and length are those of a record at all.
fn check(fields: &Fields, length: u32) -> Result<(), Malformed> {
    let wrong = |offset, expected| Err(Malformed { offset, expected });
    let body = (length as usize).checked_sub(MARKER_BYTES);
    let Some(body) = body.filter(|body| body.is_multiple_of(8)) else {
        return wrong(0, "a length of a record");
    };
    if !(1..NUMBER_END).contains(&fields.number) {
        return wrong(8, "a number from 1");
    }
    match fields.kind {
        Kind::Events if fields.synced >= fields.number => wrong(24, "a record before this one"),
        Kind::Events if fields.count == 0 => wrong(32, "an event"),
        Kind::Events if fields.count as usize > body => wrong(32, "as many events as fit"),
        Kind::Events => Ok(()),
        Kind::Marker if body > 0 => wrong(0, "the length of a marker"),
        Kind::Marker if fields.synced > fields.number => wrong(24, "a record up to this one"),
        Kind::Marker if fields.count > 0 => wrong(32, "no event"),
        Kind::Marker => Ok(()),
    }
}

fn hash(chain: &Chain, record: &[u8]) -> Chain {
    let mut hasher = Hasher::new_from_context_key(&KEY);
    hasher.update(chain);
    hasher.update(record);
    *hasher.finalize().as_bytes()
}
