//! Bytes as a sequence of small decisions: what a target over a machine reads its inputs off.
//!
//! Every value takes few bytes and small values are common, so that a changed byte changes one
//! decision and not all that follow. Past its end a cursor gives zeros; callers stop there.

use std::time::Duration;

use machines::Instant;
use machines::cluster::ids::{Addr, Incarnation, Life, NodeId, Session};
use machines::cluster::wire::{Name, NameEntry};

/// How many nodes inputs speak of.
pub const NODES: u8 = 6;

/// How many names inputs speak of.
pub const NAMES: u8 = 8;

/// Reads decisions off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Reads `bytes` from their start.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Says whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                *byte
            }
            None => 0,
        }
    }

    /// Takes a number below `count`.
    pub fn below(&mut self, count: u8) -> u8 {
        self.byte() % count
    }

    /// Takes a yes or a no.
    pub fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Takes up to `count` bytes.
    pub fn bytes(&mut self, count: u8) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(self.0.len().min(count.into()));
        self.0 = rest;
        bytes
    }

    /// Takes a number: mostly small, now and then close to the greatest.
    pub fn number(&mut self) -> u32 {
        match self.byte() {
            byte @ 0..=0xEF => byte.into(),
            byte => u32::MAX - u32::from(0xFF - byte),
        }
    }

    /// Takes a time: none, up to half a minute in steps that grow, or two hours.
    pub fn wait(&mut self) -> Duration {
        match u64::from(self.byte()) {
            byte @ ..=0xFE => Duration::from_millis(byte * byte * byte / 500),
            _ => Duration::from_secs(7_200),
        }
    }

    /// Takes one of [`NODES`] nodes.
    pub fn node(&mut self) -> NodeId {
        id(self.below(NODES))
    }

    /// Takes a node other than node 0.
    pub fn other(&mut self) -> NodeId {
        id(1 + self.below(NODES - 1))
    }

    /// Takes a session that a decoder lets through.
    pub fn session(&mut self) -> Session {
        Session(self.number().clamp(Session::FIRST.0, Session::MAX.0))
    }

    /// Takes a life that has not ended by leaving, as decoders let it through.
    pub fn life(&mut self) -> Life {
        let session = self.session();
        Life { session, incarnation: Incarnation(self.number().min(Incarnation::MAX.0)) }
    }

    /// Takes one of [`NAMES`] names.
    pub fn name(&mut self) -> Name {
        name(self.below(NAMES))
    }

    /// Takes an entry of a name, as decoders let it through.
    pub fn name_entry(&mut self) -> NameEntry {
        NameEntry {
            name: self.name(),
            owner: self.node(),
            session: self.session(),
            actor: self.flag().then(|| machines::cluster::ids::ActorId(self.below(4).into())),
            version: self.number(),
            serial: self.number(),
            ttl_ms: 1_000 * (1 + u32::from(self.byte())),
            age_ms: self.number().saturating_mul(500),
        }
    }
}

/// The key of node `n`; any 32 bytes will do.
#[must_use]
pub const fn key(n: u8) -> [u8; 32] {
    [n; 32]
}

/// The id of node `n`.
#[must_use]
pub fn id(n: u8) -> NodeId {
    NodeId::of_key(&key(n))
}

/// Name `n`.
#[must_use]
pub fn name(n: u8) -> Name {
    Name::new(&format!("name/{n}")).expect("printable and short")
}

/// Where node `n` listens.
#[must_use]
pub fn addr(n: u8) -> Addr {
    Addr::new([10, 0, 0, n.max(1)].into(), 7_400, 7_400).expect("10.0.0.x can be reached")
}

/// The start of every sequence.
pub const START: Instant = Instant::from_millis(1);
