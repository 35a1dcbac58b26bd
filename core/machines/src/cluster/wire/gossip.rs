//! Membership messages and what they carry along (C16, C17, section 2.4).

use super::values::living;
use super::{Body, Entry, Fact, MESSAGE_MAX, META_MAX, Message, Meta, Name, NameEntry, TTL_MS};
use crate::cluster::ids::{ActorId, Addr, NodeId, Session};
use crate::codec::{Malformed, Reader, Wire, put_str8};

/// The version byte of a membership message.
const MESSAGE_VERSION: u8 = 1;

const PING: u8 = 1;
const ACK: u8 = 2;
const PING_REQ: u8 = 3;
const NACK: u8 = 4;
const GOSSIP: u8 = 5;

const ALIVE: u8 = 1;
const SUSPECT: u8 = 2;
const DEAD: u8 = 3;
const LEFT: u8 = 4;
const NAME: u8 = 5;
const NAME_GONE: u8 = 6;

/// The shortest entry, in bytes: Left.
const ENTRY_MIN: usize = 21;

impl Meta {
    pub(super) fn put_bytes(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    /// Takes the length byte of metadata.
    pub(super) fn take_len(reader: &mut Reader<'_>) -> Result<usize, Malformed> {
        let here = reader.clone();
        let len = usize::from(reader.u8()?);
        match len <= META_MAX {
            true => Ok(len),
            false => Err(here.malformed("at most 64 bytes of metadata")),
        }
    }

    /// Takes `len` bytes of metadata, a number that [`Meta::take_len`] gave.
    pub(super) fn take_bytes(reader: &mut Reader<'_>, len: usize) -> Result<Self, Malformed> {
        let here = reader.clone();
        Self::new(reader.take(len)?).ok_or_else(|| here.malformed("metadata"))
    }
}

impl Fact {
    /// Returns how many bytes it takes as an entry.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::Alive { meta, .. } => 46 + meta.len as usize,
            Self::Suspect { .. } | Self::Dead { .. } => 41,
            Self::Left { .. } => ENTRY_MIN,
        }
    }
}

impl Wire for Fact {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Alive { node, life, addr, meta } => {
                out.push(ALIVE);
                node.encode(out);
                life.encode(out);
                addr.encode(out);
                out.push(meta.len);
                meta.put_bytes(out);
            }
            Self::Suspect { node, life, accuser } => {
                out.push(SUSPECT);
                node.encode(out);
                life.encode(out);
                accuser.encode(out);
            }
            Self::Dead { node, life, accuser } => {
                out.push(DEAD);
                node.encode(out);
                life.encode(out);
                accuser.encode(out);
            }
            Self::Left { node, session } => {
                out.push(LEFT);
                node.encode(out);
                session.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        match reader.u8()? {
            ALIVE => Ok(Self::Alive {
                node: NodeId::decode(reader)?,
                life: living(reader)?,
                addr: Addr::decode(reader)?,
                meta: {
                    let len = Meta::take_len(reader)?;
                    Meta::take_bytes(reader, len)?
                },
            }),
            SUSPECT => Ok(Self::Suspect {
                node: NodeId::decode(reader)?,
                life: living(reader)?,
                accuser: NodeId::decode(reader)?,
            }),
            DEAD => Ok(Self::Dead {
                node: NodeId::decode(reader)?,
                life: living(reader)?,
                accuser: NodeId::decode(reader)?,
            }),
            LEFT => {
                Ok(Self::Left { node: NodeId::decode(reader)?, session: Session::decode(reader)? })
            }
            _ => Err(here.malformed("a fact")),
        }
    }
}

impl Wire for Name {
    fn encode(&self, out: &mut Vec<u8>) {
        put_str8(out, self.as_str().as_bytes());
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        std::str::from_utf8(reader.str8()?)
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| here.malformed("a name: 1 to 128 bytes of 0x21 to 0x7E"))
    }
}

impl NameEntry {
    /// The fewest bytes that one takes.
    pub(super) const LEN_MIN: usize = 39;

    /// Returns how many bytes it takes, in a message or in a sync.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let name = self.name.as_str().len();
        match self.actor {
            Some(_) => 46 + name,
            None => 38 + name,
        }
    }
}

impl Wire for NameEntry {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(match self.actor {
            Some(_) => NAME,
            None => NAME_GONE,
        });
        self.name.encode(out);
        self.owner.encode(out);
        self.session.encode(out);
        if let Some(actor) = self.actor {
            assert!(actor != ActorId::NODE, "a name stands for an actor, from 1 (C10, C71)");
            actor.encode(out);
        }
        for number in [self.version, self.serial, self.ttl_ms, self.age_ms] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        let lives = match reader.u8()? {
            NAME => true,
            NAME_GONE => false,
            _ => return Err(here.malformed("a name entry")),
        };
        Ok(Self {
            name: Name::decode(reader)?,
            owner: NodeId::decode(reader)?,
            session: Session::decode(reader)?,
            actor: match lives {
                true => Some(named_actor(reader)?),
                false => None,
            },
            version: reader.u32()?,
            serial: reader.u32()?,
            ttl_ms: ttl_ms(reader)?,
            age_ms: reader.u32()?,
        })
    }
}

/// Takes an actor that a name can stand for: not the node itself (C10, C71).
fn named_actor(reader: &mut Reader<'_>) -> Result<ActorId, Malformed> {
    let here = reader.clone();
    match ActorId::decode(reader)? {
        ActorId::NODE => Err(here.malformed("an actor, from 1")),
        actor => Ok(actor),
    }
}

/// Takes a time to live (C72).
fn ttl_ms(reader: &mut Reader<'_>) -> Result<u32, Malformed> {
    let here = reader.clone();
    let ttl_ms = reader.u32()?;
    match TTL_MS.contains(&ttl_ms) {
        true => Ok(ttl_ms),
        false => Err(here.malformed("a ttl of 1 s to 1 h")),
    }
}

impl Entry {
    /// Returns how many bytes it takes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Fact(fact) => fact.encoded_len(),
            Self::Name(entry) => entry.encoded_len(),
        }
    }
}

impl Wire for Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Fact(fact) => fact.encode(out),
            Self::Name(entry) => entry.encode(out),
        }
    }

    /// Entry 7, a rotation, needs a feature that version 1 does not have (C18): unknown.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        match reader.clone().u8()? {
            NAME | NAME_GONE => NameEntry::decode(reader).map(Self::Name),
            _ => Fact::decode(reader).map(Self::Fact),
        }
    }
}

impl Body {
    /// Returns how many bytes a message with this body and no entries takes.
    #[must_use]
    pub const fn message_len(&self) -> usize {
        match self {
            Self::Ping { .. } | Self::Ack { .. } | Self::Nack { .. } => 8,
            Self::PingReq { .. } => 52,
            Self::Gossip => 4,
        }
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Ping { .. } => PING,
            Self::Ack { .. } => ACK,
            Self::PingReq { .. } => PING_REQ,
            Self::Nack { .. } => NACK,
            Self::Gossip => GOSSIP,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ping { seq } | Self::Ack { seq } | Self::Nack { seq } => {
                out.extend_from_slice(&seq.to_le_bytes());
            }
            Self::PingReq { seq, wait_ms, target, session, addr } => {
                out.extend_from_slice(&seq.to_le_bytes());
                out.extend_from_slice(&wait_ms.to_le_bytes());
                target.encode(out);
                session.encode(out);
                addr.encode(out);
            }
            Self::Gossip => {}
        }
    }

    fn take(kind: u8, reader: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        Ok(Some(match kind {
            PING => Self::Ping { seq: reader.u32()? },
            ACK => Self::Ack { seq: reader.u32()? },
            NACK => Self::Nack { seq: reader.u32()? },
            PING_REQ => Self::PingReq {
                seq: reader.u32()?,
                wait_ms: reader.u32()?,
                target: NodeId::decode(reader)?,
                session: Session::decode(reader)?,
                addr: Addr::decode(reader)?,
            },
            GOSSIP => Self::Gossip,
            _ => return Ok(None),
        }))
    }
}

impl Message {
    /// Returns how many bytes it takes: at most [`MESSAGE_MAX`] to be sent.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let entries: usize = self.entries.iter().map(Entry::encoded_len).sum();
        self.body.message_len() + entries
    }
}

impl Wire for Message {
    /// Appends the encoding to `out`; without entries it needs no memory beyond it (C169).
    ///
    /// # Panics
    ///
    /// If there are more than 255 entries, or more than [`MESSAGE_MAX`] bytes.
    fn encode(&self, out: &mut Vec<u8>) {
        let count = u8::try_from(self.entries.len()).expect("a message has at most 255 entries");
        let start = out.len();
        out.extend_from_slice(&[MESSAGE_VERSION, self.body.kind(), count, 0]);
        self.body.put(out);
        for entry in &self.entries {
            entry.encode(out);
        }
        assert!(out.len() - start <= MESSAGE_MAX, "a message fits a datagram");
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let start = reader.clone();
        if reader.u8()? != MESSAGE_VERSION {
            return Err(start.malformed("message version 1"));
        }
        let here = reader.clone();
        let (kind, count) = (reader.u8()?, usize::from(reader.u8()?));
        reader.zero(1)?;
        let body = Body::take(kind, reader)?.ok_or_else(|| here.malformed("a message kind"))?;
        if count * ENTRY_MIN > reader.remaining() {
            return Err(here.malformed("a count that the bytes can hold"));
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(Entry::decode(reader)?);
        }
        match start.remaining() - reader.remaining() <= MESSAGE_MAX {
            true => Ok(Self { body, entries }),
            false => Err(start.malformed("at most 1,168 bytes")),
        }
    }
}
