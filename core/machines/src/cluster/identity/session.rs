//! The session file: two slots, written in turn, so that a torn write loses nothing (C7).
//!
//! ```text
//!   slot 0, even sessions               slot 1, odd sessions
//! ┌──────┬─────────────┬───────────┐ ┌──────┬─────────────┬───────────┐
//! │ LKSE │ session u32 │ check 8   │ │ LKSE │ session u32 │ check 8   │
//! └──────┴─────────────┴───────────┘ └──────┴─────────────┴───────────┘
//! ```

use std::fmt;

use crate::cluster::ids::{NodeId, Session};
use crate::codec::{Malformed, Reader, Wire};

const MAGIC: [u8; 4] = *b"LKSE";
const SLOT_LEN: usize = 16;

/// Why a node cannot start with its session file. The file is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionError {
    /// There is a file, but no slot of it is this node's: going on could repeat a session.
    Corrupt,
    /// All 2³²−2 sessions are used up: the node needs a new key.
    Exhausted,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Corrupt => "the session file holds no session of this node",
            Self::Exhausted => "the sessions of this key are used up",
        })
    }
}

impl std::error::Error for SessionError {}

/// Returns the session that a start of `node` takes, from what its session file holds, if there
/// is one. It must be durable, see [`session_slot`], before a socket opens.
///
/// # Errors
///
/// [`SessionError`]: the node must not start.
pub fn next_session(file: Option<&[u8]>, node: NodeId) -> Result<Session, SessionError> {
    let Some(file) = file else {
        return Ok(Session::FIRST);
    };
    let slots = [0, 1].map(|slot| slot_of(file, slot, node));
    match slots.into_iter().flatten().max() {
        Some(last) => last.next().ok_or(SessionError::Exhausted),
        None => Err(SessionError::Corrupt),
    }
}

/// Returns where in the session file of `node` a session is written, and what.
#[must_use]
pub fn session_slot(session: Session, node: NodeId) -> (u64, [u8; SLOT_LEN]) {
    let mut slot = [0; SLOT_LEN];
    slot[..4].copy_from_slice(&MAGIC);
    slot[4..8].copy_from_slice(&session.0.to_le_bytes());
    slot[8..].copy_from_slice(&check(session, node));
    (u64::from(session.0 % 2) * 16, slot)
}

/// Reads one slot; what is cut short, damaged, another node's or in the other's place is none.
fn slot_of(file: &[u8], slot: usize, node: NodeId) -> Option<Session> {
    let mut reader = Reader::new(file);
    reader.take(slot * SLOT_LEN).ok()?;
    let session = take_slot(&mut reader, node).ok()?;
    (session.0 as usize % 2 == slot).then_some(session)
}

fn take_slot(reader: &mut Reader<'_>, node: NodeId) -> Result<Session, Malformed> {
    let here = reader.clone();
    let magic: [u8; 4] = reader.array()?;
    let session = Session::decode(reader)?;
    match magic == MAGIC && reader.array()? == check(session, node) {
        true => Ok(session),
        false => Err(here.malformed("a slot of this node")),
    }
}

/// The first 8 bytes of BLAKE3 of magic, session and node.
fn check(session: Session, node: NodeId) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&MAGIC);
    hasher.update(&session.0.to_le_bytes());
    hasher.update(&NodeId::to_bytes(node));
    let hash = hasher.finalize();
    std::array::from_fn(|i| hash.as_bytes()[i])
}
