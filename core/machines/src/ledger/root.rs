//! The root of a node's state: one hash that tells two states apart (L50).
//!
//! # Definition
//!
//! With BLAKE3 in its key-derivation mode, the domain being the context, all numbers little-endian:
//!
//! | root  | domain             | over                                                          |
//! |-------|--------------------|---------------------------------------------------------------|
//! | table | –                  | `ledger/table/tree.rs`                                        |
//! | part  | `lockstep.part.v1` | number of tables u32, then their roots in the part's order    |
//! | state | `lockstep.root.v1` | format version u16 (1), then for each part in order of tag:   |
//! |       |                    | tag u16, part root                                            |

use std::fmt;

/// What is hashed how: a root of another version says nothing about one of this.
pub const ROOT_FORMAT: u16 = 1;

const PART_DOMAIN: &str = "lockstep.part.v1";
const STATE_DOMAIN: &str = "lockstep.root.v1";

/// The root of a node's state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateRoot([u8; 32]);

impl StateRoot {
    /// Takes 32 bytes for a root that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }

    /// Computes the root of a state of `parts`: tag and part root of each, in order of tag.
    ///
    /// # Panics
    ///
    /// If the tags do not ascend: a part counted twice would hide another.
    #[must_use]
    pub fn of_parts(parts: &[(u16, [u8; 32])]) -> Self {
        let ascending = parts.is_sorted_by(|(before, _), (after, _)| before < after);
        assert!(ascending, "parts come in order of tag, each once");
        let mut hasher = blake3::Hasher::new_derive_key(STATE_DOMAIN);
        hasher.update(&ROOT_FORMAT.to_le_bytes());
        for (tag, root) in parts {
            hasher.update(&tag.to_le_bytes());
            hasher.update(root);
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// Parses 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != 32 || !rest.is_empty() {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for StateRoot {
    /// 64 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateRoot {
    /// The first 8 digits: enough for a person to tell roots apart.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Computes the root of a part from the roots of its tables, in the part's order.
///
/// # Panics
///
/// If there are more tables than a `u32` counts.
#[must_use]
pub fn part_root(tables: &[[u8; 32]]) -> [u8; 32] {
    let count = u32::try_from(tables.len()).expect("a part has a handful of tables");
    let mut hasher = blake3::Hasher::new_derive_key(PART_DOMAIN);
    hasher.update(&count.to_le_bytes());
    hasher.update(tables.as_flattened());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests;
