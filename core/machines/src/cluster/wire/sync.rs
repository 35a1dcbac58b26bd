//! The bodies of Sync1, Sync2 and Sync3 (section 2.2, C54).

use super::values::{addr_or_none, put_addr, word};
use super::{MemberRow, Meta, NameDigest, NameEntry, State, SyncBody};
use crate::cluster::ids::{Incarnation, Life, NodeId, Session};
use crate::codec::{Malformed, Reader, Wire, put_count};

impl MemberRow {
    /// The fewest bytes that one takes.
    pub const LEN_MIN: usize = 52;

    /// Returns how many bytes it takes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        Self::LEN_MIN + self.meta.len as usize
    }
}

impl Wire for MemberRow {
    fn encode(&self, out: &mut Vec<u8>) {
        self.node.encode(out);
        self.life.encode(out);
        out.extend_from_slice(&[self.state as u8, self.meta.len, 0, 0]);
        out.extend_from_slice(&self.age_ms.to_le_bytes());
        put_addr(self.addr.as_ref(), out);
        self.meta.put_bytes(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        let node = NodeId::decode(reader)?;
        let life = Life::decode(reader)?;
        let state = word(reader, State::from_u8, "a state")?;
        let meta_len = Meta::take_len(reader)?;
        reader.zero(2)?;
        let row = Self {
            node,
            life,
            state,
            age_ms: reader.u32()?,
            addr: addr_or_none(reader)?,
            meta: Meta::take_bytes(reader, meta_len)?,
        };
        match row.agrees() {
            true => Ok(row),
            false => Err(here.malformed("an incarnation, age and address of that state")),
        }
    }
}

impl MemberRow {
    /// Says whether incarnation, age and address are such as its state has.
    fn agrees(&self) -> bool {
        let left = self.life.incarnation == Incarnation::LEFT;
        match self.state {
            State::Alive | State::Suspect => !left && self.age_ms == 0 && self.addr.is_some(),
            State::Dead => !left,
            State::Left => left,
        }
    }
}

impl NameDigest {
    /// What it takes, in bytes.
    pub const LEN: usize = 28;
}

impl Wire for NameDigest {
    fn encode(&self, out: &mut Vec<u8>) {
        self.owner.encode(out);
        self.session.encode(out);
        out.extend_from_slice(&self.serial.to_le_bytes());
        out.extend_from_slice(&self.age_ms.to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            owner: NodeId::decode(reader)?,
            session: Session::decode(reader)?,
            serial: reader.u32()?,
            age_ms: reader.u32()?,
        })
    }
}

impl SyncBody {
    /// Returns how many bytes it takes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let rows: usize = self.rows.iter().map(MemberRow::encoded_len).sum();
        12 + rows + self.digests.len() * NameDigest::LEN
    }
}

impl Wire for SyncBody {
    fn encode(&self, out: &mut Vec<u8>) {
        put_list(&self.rows, out);
        put_list(&self.digests, out);
        put_count(out, 0);
    }

    /// Rotation statements need a feature that version 1 does not have: there must be none.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let rows = take_list(reader, MemberRow::LEN_MIN)?;
        let digests = take_list(reader, NameDigest::LEN)?;
        reader.zero(4)?;
        Ok(Self { rows, digests })
    }
}

/// Appends the name entries of a Sync2 or Sync3.
pub(super) fn put_entries(entries: &[NameEntry], out: &mut Vec<u8>) {
    put_list(entries, out);
}

/// Takes the name entries of a Sync2 or Sync3.
pub(super) fn take_entries(reader: &mut Reader<'_>) -> Result<Vec<NameEntry>, Malformed> {
    take_list(reader, NameEntry::LEN_MIN)
}

fn put_list<T: Wire>(list: &[T], out: &mut Vec<u8>) {
    put_count(out, list.len());
    for item in list {
        item.encode(out);
    }
}

/// Takes a count and as many items, each of which has at least `each_min` bytes.
fn take_list<T: Wire>(reader: &mut Reader<'_>, each_min: usize) -> Result<Vec<T>, Malformed> {
    let count = reader.count(each_min)?;
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        list.push(T::decode(reader)?);
    }
    Ok(list)
}
