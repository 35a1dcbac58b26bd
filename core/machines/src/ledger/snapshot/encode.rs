//! A frozen state, piece by piece, as the bytes of a snapshot.
//!
//! ```text
//!   Header ─► Part ─► Rows ─► Rows … ─► Part ─► … ─► Footer ─► Done
//! ```
//!
//! Each step is one piece: a header, a chunk of 1 MiB at most, or the footer. So nobody waits for
//! longer than it takes to encode and hash one chunk, or one row if that is longer (L41). Rows that
//! are out are let go at once: what changed meanwhile is freed bit by bit, too.

use std::fmt;

use super::format::{CHUNK_BYTES, CHUNK_DOMAIN, CHUNK_START_BYTES, FILE_DOMAIN};
use super::format::{FrozenState, PartHeader, SnapshotHeader, hash};
use crate::codec::put_count;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Header,
    Part(usize),
    /// Rows of a table: those in `stream`, then those that it still has.
    Rows {
        part: usize,
        table: usize,
    },
    Footer,
    Done,
}

/// Turns a [`FrozenState`] into the bytes of its snapshot.
#[derive(Clone)]
pub struct Encoder {
    state: FrozenState,
    at: At,
    /// Hashes all pieces so far.
    whole: blake3::Hasher,
    /// Encoded rows of the table; those before `sent` are out.
    stream: Vec<u8>,
    sent: usize,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("state", &self.state).field("at", &self.at).finish()
    }
}

impl Encoder {
    /// Starts with the header of `state`.
    #[must_use]
    pub fn new(state: FrozenState) -> Self {
        let whole = blake3::Hasher::new_derive_key(FILE_DOMAIN);
        Self { state, at: At::Header, whole, stream: Vec::new(), sent: 0 }
    }

    /// Returns of what the snapshot is.
    #[must_use]
    pub const fn header(&self) -> &SnapshotHeader {
        self.state.header()
    }

    /// Returns the next bytes of the file, or `None` after the last.
    pub fn piece(&mut self) -> Option<Vec<u8>> {
        let piece = match self.at {
            At::Header => {
                self.at = self.part(0);
                self.state.header.encode()
            }
            At::Part(part) => {
                self.at = self.rows(part, 0);
                PartHeader::of(&self.state.parts[part]).encode()
            }
            At::Rows { part, table } => self.chunk(part, table),
            At::Footer => {
                self.at = At::Done;
                return Some(self.whole.finalize().as_bytes().to_vec());
            }
            At::Done => return None,
        };
        self.whole.update(&piece);
        Some(piece)
    }

    fn part(&self, part: usize) -> At {
        match part < self.state.parts.len() {
            true => At::Part(part),
            false => At::Footer,
        }
    }

    /// Finds the first table from `table` on that has rows; after the last one comes the next part.
    fn rows(&self, part: usize, table: usize) -> At {
        let tables = &self.state.parts[part].tables;
        let found = (table..tables.len()).find(|table| tables[*table].rows() > 0);
        match found {
            Some(table) => At::Rows { part, table },
            None => self.part(part + 1),
        }
    }

    fn chunk(&mut self, part: usize, table: usize) -> Vec<u8> {
        let rows = &mut self.state.parts[part].tables[table];
        if self.stream.len() - self.sent < CHUNK_BYTES {
            self.stream.drain(..self.sent);
            self.sent = 0;
            rows.take(&mut self.stream, CHUNK_BYTES);
        }
        let end = self.stream.len().min(self.sent + CHUNK_BYTES);
        let content = &self.stream[self.sent..end];

        let mut piece = Vec::with_capacity(CHUNK_START_BYTES + content.len());
        put_count(&mut piece, content.len());
        piece.extend_from_slice(&[0; 4]);
        piece.extend_from_slice(&hash(CHUNK_DOMAIN, content));
        piece.extend_from_slice(content);

        self.sent = end;
        if end == self.stream.len() && rows.rows() == 0 {
            self.stream.clear();
            self.sent = 0;
            self.at = self.rows(part, table + 1);
        }
        piece
    }
}
