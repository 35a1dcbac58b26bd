//! What a version's bytes mean, as a text whose hash both sides compare before they talk (C13).
//!
//! The text is the contract: whoever changes a layout changes it, and with it the hash, and nodes
//! that would misread each other refuse each other instead (`SchemaMismatch`). A new layout is a
//! new version with a text of its own.

use std::collections::BTreeMap;

use super::Preface;

/// The layouts of version 1.
pub const V1: &str = include_str!("schema_v1.txt");

/// Returns the schema hash of every version that this build speaks.
#[must_use]
pub fn hashes() -> BTreeMap<u16, [u8; 16]> {
    BTreeMap::from([(1, Preface::schema_hash_of(V1))])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A released version's text never changes: its hash is what other nodes expect.
    #[test]
    fn the_schema_of_version_1_is_what_it_was() {
        let hash = hashes()[&1].map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(hash, HASH);
    }

    const HASH: &str = "342a837767f76feb4f6876bc3870a42f";
}
