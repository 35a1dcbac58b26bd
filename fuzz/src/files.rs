//! The files of a node: key, session and allowlist (C6, C7, C24).

use std::fmt::Write as _;

use machines::cluster::identity::{Allowed, StaticKey, next_session, session_slot};
use machines::cluster::ids::{NodeId, Session};

/// A key file: what it says in lower case is what its key writes.
#[must_use]
pub fn key_file(bytes: &[u8]) -> bool {
    let Ok(key) = StaticKey::parse(bytes) else {
        return false;
    };
    assert_eq!(key.to_file().as_bytes(), bytes.to_ascii_lowercase());
    true
}

/// A NodeId and that node's session file: the last session must stand in it, to the byte.
#[must_use]
pub fn session_file(bytes: &[u8]) -> bool {
    let Some((node, file)) = bytes.split_first_chunk() else {
        return false;
    };
    let node = NodeId::from_bytes(*node);
    let Ok(next) = next_session(Some(file), node) else {
        return false;
    };
    let (offset, slot) = session_slot(Session(next.0 - 1), node);
    let start = usize::try_from(offset).expect("0 or 16");
    assert_eq!(file[start..start + slot.len()], slot);
    true
}

/// An allowlist file: written out plainly, it says the same.
#[must_use]
pub fn allowlist(bytes: &[u8]) -> bool {
    let allowed = match Allowed::parse(bytes) {
        Ok(allowed) => allowed,
        Err(invalid) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!(
                (1..=lines).contains(&(invalid.line as usize)),
                "a line of the file"
            );
            return false;
        }
    };
    let Allowed::Only(keys) = &allowed else {
        panic!("a file never allows everyone");
    };
    let mut text = String::new();
    for key in keys.values() {
        for byte in key {
            write!(text, "{byte:02x}").expect("a string takes everything");
        }
        text.push('\n');
    }
    assert_eq!(Allowed::parse(text.as_bytes()).as_ref(), Ok(&allowed));
    true
}
