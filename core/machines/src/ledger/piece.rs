//! A piece of bytes that were read, shared with what else stands in them: nothing is copied.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Some of the bytes of a buffer. The whole buffer stays in memory as long as a piece of it does.
#[derive(Clone)]
pub struct Piece {
    buffer: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Piece {
    /// Takes a range of a buffer, if it has it.
    pub(super) fn of(buffer: &Arc<Vec<u8>>, range: Range<usize>) -> Option<Self> {
        buffer.get(range.clone())?;
        Some(Self { buffer: Arc::clone(buffer), range })
    }

    /// Returns the same without its first and last bytes.
    ///
    /// # Panics
    ///
    /// If it has not so many.
    pub(super) fn without(mut self, first: usize, last: usize) -> Self {
        assert!(first + last <= self.range.len(), "a piece has what is taken from it");
        self.range = self.range.start + first..self.range.end - last;
        self
    }
}

/// All of a buffer.
impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { buffer: Arc::new(bytes), range }
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[self.range.clone()]
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Piece {}

impl Hash for Piece {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
