//! What crosses a link before it has keys, and the payloads of the handshake (C13).

use super::values::{living, word};
use super::{ClearReject, Code, Features, Hello, Offer, Preface, VERSION};
use crate::cluster::ids::{Addr, Instance, Process};
use crate::codec::{Malformed, Reader, Wire};

/// A handshake record's kind, each with one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum HandshakeKind {
    /// Noise message 1, without payload.
    Message1 = 1,
    /// Noise message 2, with an [`Offer`].
    Message2 = 2,
    /// Noise message 3, with a [`Hello`].
    Message3 = 3,
    /// A [`ClearReject`].
    Reject = 15,
}

impl HandshakeKind {
    /// All kinds, by number.
    pub const ALL: [Self; 4] = [Self::Message1, Self::Message2, Self::Message3, Self::Reject];

    /// What comes before a record's body, in bytes: kind and length.
    pub const HEADER_LEN: usize = 3;

    /// Returns the kind of that number, if there is one.
    #[must_use]
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// Returns the one length that its body has, in bytes.
    #[must_use]
    pub const fn body_len(self) -> u16 {
        match self {
            Self::Message1 => 32,
            Self::Message2 => 112,
            Self::Message3 => 120,
            Self::Reject => 24,
        }
    }

    /// Appends a record of this kind.
    ///
    /// # Panics
    ///
    /// If `body` has not [`HandshakeKind::body_len`] bytes.
    pub fn put_record(self, body: &[u8], out: &mut Vec<u8>) {
        assert_eq!(body.len(), usize::from(self.body_len()), "one length a kind");
        self.encode(out);
        out.extend_from_slice(body);
    }
}

impl Wire for HandshakeKind {
    /// Appends the header of a record: kind and length.
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
        out.extend_from_slice(&self.body_len().to_le_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let kind = word(reader, Self::from_u8, "a handshake record's kind")?;
        let here = reader.clone();
        match reader.u16()? == kind.body_len() {
            true => Ok(kind),
            false => Err(here.malformed("the length of that kind")),
        }
    }
}

impl Features {
    /// Says whether all of `others` are among these.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    /// Returns those that both have: the features in use (C22).
    #[must_use]
    pub const fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }

    /// Takes the features offered and those required by a node whose greatest version is
    /// `version`. What bits a later version than ours knows is not ours to judge.
    fn take_pair(reader: &mut Reader<'_>, version: u16) -> Result<(Self, Self), Malformed> {
        let here = reader.clone();
        let offered = Self(reader.u32()?);
        if version <= VERSION && !Self::KNOWN.contains(offered) {
            return Err(here.malformed("known features"));
        }
        let here = reader.clone();
        let required = Self(reader.u32()?);
        match offered.contains(required) {
            true => Ok((offered, required)),
            false => Err(here.malformed("required features among those offered")),
        }
    }
}

impl Preface {
    /// What it takes, in bytes.
    pub const LEN: usize = 40;
    /// The first four bytes.
    pub const MAGIC: [u8; 4] = *b"LKSP";

    /// Returns the cluster tag of a cluster's name.
    #[must_use]
    pub fn cluster_tag_of(name: &str) -> [u8; 8] {
        let hash = blake3::hash(name.as_bytes());
        std::array::from_fn(|i| hash.as_bytes()[i])
    }

    /// Returns the schema hash of a wire schema's text.
    #[must_use]
    pub fn schema_hash_of(schema: &str) -> [u8; 16] {
        let hash = blake3::hash(schema.as_bytes());
        std::array::from_fn(|i| hash.as_bytes()[i])
    }
}

/// Returns what both sides mix into the handshake first, from the preface as sent (C13).
#[must_use]
pub fn prologue(preface: &[u8; Preface::LEN]) -> [u8; 56] {
    let mut bytes = [0; 56];
    bytes[..16].copy_from_slice(b"lockstep/link/v1");
    bytes[16..].copy_from_slice(preface);
    bytes
}

impl Wire for Preface {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&Self::MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.cluster_tag);
        out.extend_from_slice(&self.schema_hash);
        self.features.put(out);
        self.required.put(out);
    }

    /// Any version but 0 decodes, so that the acceptor can answer with its own (C21).
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        if reader.array()? != Self::MAGIC {
            return Err(here.malformed("the magic"));
        }
        let version = version(reader, 1)?;
        reader.zero(2)?;
        let (cluster_tag, schema_hash) = (reader.array()?, reader.array()?);
        let (features, required) = Features::take_pair(reader, version)?;
        Ok(Self { version, cluster_tag, schema_hash, features, required })
    }
}

/// Takes a version number that is at least `least`.
fn version(reader: &mut Reader<'_>, least: u16) -> Result<u16, Malformed> {
    let here = reader.clone();
    let version = reader.u16()?;
    match version >= least {
        true => Ok(version),
        false => Err(here.malformed("a version that is not too low")),
    }
}

impl Offer {
    /// What it takes, in bytes.
    pub const LEN: usize = 16;
}

impl Wire for Offer {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version_min.to_le_bytes());
        out.extend_from_slice(&self.version_max.to_le_bytes());
        self.features.put(out);
        self.required.put(out);
        out.extend_from_slice(&[0; 4]);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let version_min = version(reader, 1)?;
        let version_max = version(reader, version_min)?;
        let (features, required) = Features::take_pair(reader, version_max)?;
        reader.zero(4)?;
        Ok(Self { version_min, version_max, features, required })
    }
}

impl Hello {
    /// What it takes, in bytes.
    pub const LEN: usize = 56;
}

impl Hello {
    /// Returns the process that said it.
    #[must_use]
    pub const fn process(&self) -> Process {
        Process { session: self.life.session, instance: self.instance }
    }
}

impl Wire for Hello {
    fn encode(&self, out: &mut Vec<u8>) {
        self.life.encode(out);
        self.instance.encode(out);
        out.extend_from_slice(&self.seen.to_le_bytes());
        out.extend_from_slice(&self.ordinal.to_le_bytes());
        out.extend_from_slice(&self.link_index.to_le_bytes());
        self.addr.encode(out);
        out.extend_from_slice(&self.version_max.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let hello = Self {
            life: living(reader)?,
            instance: Instance::decode(reader)?,
            seen: reader.u64()?,
            ordinal: reader.u32()?,
            link_index: link_index(reader)?,
            addr: Addr::decode(reader)?,
            version_max: version(reader, 1)?,
        };
        reader.zero(2)?;
        Ok(hello)
    }
}

/// Takes a link index, which is never 0.
fn link_index(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    let here = reader.clone();
    match reader.u32()? {
        0 => Err(here.malformed("a link index that is not 0")),
        index => Ok(index),
    }
}

impl ClearReject {
    /// What it takes, in bytes.
    pub const LEN: usize = 24;
}

impl Wire for ClearReject {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.code as u8, 0]);
        out.extend_from_slice(&self.version_min.to_le_bytes());
        out.extend_from_slice(&self.version_max.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&self.schema_hash);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let code = word(reader, clear_code, "a code that is told in clear")?;
        reader.zero(1)?;
        let version_min = version(reader, 1)?;
        let version_max = version(reader, version_min)?;
        reader.zero(2)?;
        Ok(Self { code, version_min, version_max, schema_hash: reader.array()? })
    }
}

/// Returns the code of that number if it may be told in clear (C23).
fn clear_code(byte: u8) -> Option<Code> {
    let code = Code::from_u8(byte)?;
    match code {
        Code::VersionMismatch
        | Code::SchemaMismatch
        | Code::FeatureMissing
        | Code::WrongCluster
        | Code::Draining => Some(code),
        Code::BadMagic
        | Code::Busy
        | Code::NotAllowed
        | Code::SelfConnect
        | Code::WrongPeer
        | Code::StaleSession
        | Code::DuplicateLink
        | Code::BadCrypto
        | Code::Malformed
        | Code::Timeout
        | Code::Downgraded
        | Code::Revoked => None,
    }
}
