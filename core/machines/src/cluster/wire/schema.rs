//! What a version's bytes mean, as a text whose hash both sides compare before they talk (C13).
//!
//! The text is the contract: whoever changes a layout changes it, and with it the hash, and nodes
//! that would misread each other refuse each other instead (`SchemaMismatch`). A new layout is a
//! new version with a text of its own.

use std::collections::BTreeMap;

/// The layouts of version 1.
pub const V1: &str = include_str!("schema_v1.txt");

/// The hash of [`V1`]. A released version's text never changes, so its hash is written down: a
/// node that starts hashes no text.
const V1_HASH: [u8; 16] = 0x342a_8377_67f7_6feb_4f68_76bc_3870_a42f_u128.to_be_bytes();

/// Returns the schema hash of every version that this build speaks.
#[must_use]
pub fn hashes() -> BTreeMap<u16, [u8; 16]> {
    BTreeMap::from([(1, V1_HASH)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::wire::Preface;

    /// A released version's text never changes: its hash is what other nodes expect.
    #[test]
    fn the_schema_of_version_1_is_what_it_was() {
        assert_eq!(hashes()[&1], Preface::schema_hash_of(V1));
    }
}
