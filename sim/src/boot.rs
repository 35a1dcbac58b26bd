//! What a host does before a node starts: it counts the session up in its file (C7).

use machines::cluster::ids::{NodeId, Session};

/// Why a start was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The session file has content, but no valid slot.
    SessionCorrupt,
    /// The session file cannot be read.
    Unreadable,
    /// The session cannot be written.
    DiskFull,
    /// The sessions are used up.
    Exhausted,
}

impl Refusal {
    /// Returns the name that scenarios use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SessionCorrupt => "session-corrupt",
            Self::Unreadable => "unreadable",
            Self::DiskFull => "disk-full",
            Self::Exhausted => "sessions-exhausted",
        }
    }
}

const SLOT: usize = 16;
const MAGIC: [u8; 4] = *b"LKSE";

/// Returns the session that the next start has, given the bytes of the session file.
///
/// # Errors
///
/// [`Refusal::SessionCorrupt`] if there are bytes but no valid slot; [`Refusal::Exhausted`] if the
/// last session is the greatest.
pub fn next_session(file: &[u8], node: NodeId) -> Result<Session, Refusal> {
    if file.is_empty() {
        return Ok(Session::FIRST);
    }
    let valid = file
        .chunks_exact(SLOT)
        .take(2)
        .enumerate()
        .filter_map(|(place, bytes)| {
            let session = Session(u32::from_le_bytes(bytes[4..8].try_into().ok()?));
            let (offset, expected) = slot(session, node);
            (offset == place * SLOT && expected == *bytes).then_some(session)
        });
    let last = valid.max().ok_or(Refusal::SessionCorrupt)?;
    if last >= Session::MAX {
        return Err(Refusal::Exhausted);
    }
    Ok(Session(last.0 + 1))
}

/// Returns where in the file the slot of `session` lies, and its bytes.
#[must_use]
pub fn slot(session: Session, node: NodeId) -> (usize, [u8; SLOT]) {
    let mut bytes = [0; SLOT];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&session.0.to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..8]).update(&node.to_bytes());
    bytes[8..].copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    (session.0 as usize % 2 * SLOT, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_bytes([9; 16]);

    fn file(sessions: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 32];
        for session in sessions {
            let (offset, bytes) = slot(Session(*session), NODE);
            file[offset..offset + SLOT].copy_from_slice(&bytes);
        }
        file
    }

    #[test]
    fn a_start_counts_up_from_the_higher_valid_slot() {
        assert_eq!(next_session(&[], NODE), Ok(Session(1)));
        assert_eq!(next_session(&file(&[1]), NODE), Ok(Session(2)));
        assert_eq!(next_session(&file(&[7, 6]), NODE), Ok(Session(8)));
        let mut torn = file(&[7, 6]);
        torn[20] ^= 1;
        assert_eq!(
            next_session(&torn, NODE),
            Ok(Session(7)),
            "a torn slot does not count"
        );
    }

    #[test]
    fn a_file_without_a_valid_slot_refuses_the_start() {
        assert_eq!(next_session(&[0; 32], NODE), Err(Refusal::SessionCorrupt));
        assert_eq!(next_session(&[1], NODE), Err(Refusal::SessionCorrupt));
        let other = NodeId::from_bytes([8; 16]);
        assert_eq!(
            next_session(&file(&[3]), other),
            Err(Refusal::SessionCorrupt)
        );
    }

    #[test]
    fn the_last_session_is_not_passed() {
        let last = file(&[Session::MAX.0]);
        assert_eq!(next_session(&last, NODE), Err(Refusal::Exhausted));
    }
}
