//! Snapshots: the state after exactly one record, in a file that proves itself (L17, L40–L42).
//!
//! ```text
//!   tables ──freeze──► FrozenState ──Encoder──► pieces ──SnapshotWriter──► file
//!                      (clones that share)      of at most 1 MiB             │
//!   tables ◄──PartState── Restoring ◄──items── SnapshotReader ◄──────────────┘
//! ```
//!
//! # Format
//!
//! Integers are little-endian; fields named zero must be 0. `hash` is BLAKE3 in its key-derivation
//! mode with the domain that is named. A file is the header, the parts in order of tag, the footer.
//!
//! | header, 136 bytes | |
//! |-------------------|--------------------------------------------------------------------|
//! | 4                 | magic `LKS1`                                                       |
//! | 2, 2              | format (1), zero                                                   |
//! | 16                | node id                                                            |
//! | 8                 | record: the state is the one after it                              |
//! | 32                | head: the hash of that record                                      |
//! | 32                | state root                                                         |
//! | 4, 4              | number of parts, zero                                              |
//! | 32                | hash of the preceding 104 bytes, `lockstep.snapshot.header.v1`     |
//!
//! | part         | |
//! |--------------|-------------------------------------------------------------------------|
//! | 2, 2         | event tag, schema version                                               |
//! | 4            | number of tables `t`                                                    |
//! | 4 × `t`      | how many rows each table has                                            |
//! | 32           | hash of the preceding 8 + 4 × `t` bytes, `lockstep.snapshot.part.v1`    |
//! | chunks       | those of the first table, then those of the second, and so on           |
//!
//! | chunk    | |
//! |----------|-----------------------------------------------------------------------------|
//! | 4, 4     | number of bytes `n`, zero                                                   |
//! | 32       | hash of the bytes, `lockstep.snapshot.chunk.v1`                             |
//! | `n`      | the bytes                                                                   |
//!
//! The bytes of a table's chunks, joined, are its rows in order of key: length of the key u32,
//! length of the value u32, key, value. Each chunk of a table but the last has exactly 1 MiB, so a
//! row may go over the edge; an empty table has no chunk. So a state has exactly one file.
//!
//! | footer | |
//! |--------|-------------------------------------------------------------------------------|
//! | 32     | hash of all before, `lockstep.snapshot.v1`                                    |
//!
//! L17 gives a part a length. That would have to be known before the first of its rows is encoded,
//! and encoding everything twice is what a snapshot can least afford: the counts of rows stand in
//! its place. Header and part header have hashes of their own, so that damage is never mistaken for
//! a foreign node or a newer version.

mod encode;
mod format;
mod read;
mod restore;
mod write;

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

pub use encode::Encoder;
pub use format::{CHUNK_BYTES, FileName, FrozenState, PartHeader, SnapshotHeader};
pub use read::{Item, Refused, SnapshotReader};
pub use restore::Restoring;
pub use write::{Busy, Input, Op, Output, Shelf, SnapshotConfig, SnapshotWriter};
