//! The part of a file that recovery holds in memory.

use std::ops::Range;
use std::sync::Arc;

use crate::ledger::piece::Piece;
use crate::ledger::segment::File;

/// See the file's header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Window {
    pub(super) file: File,
    /// The length of the file.
    pub(super) size: u64,
    /// Where `bytes` begin.
    base: u64,
    bytes: Arc<Vec<u8>>,
}

impl Window {
    /// Looks at the beginning of a file, of which nothing was read.
    pub(super) fn new(file: File, size: u64) -> Self {
        Self { file, size, base: 0, bytes: Arc::default() }
    }

    /// Moves to what was read at `base`.
    pub(super) fn fill(&mut self, base: u64, bytes: Vec<u8>) {
        self.base = base;
        self.bytes = Arc::new(bytes);
    }

    /// Returns `length` bytes at `at`, if all of them are here.
    pub(super) fn slice(&self, at: u64, length: u64) -> Option<&[u8]> {
        self.bytes.get(self.range(at, length)?)
    }

    /// The same, to be kept.
    pub(super) fn piece(&self, at: u64, length: u64) -> Option<Piece> {
        Piece::of(&self.bytes, self.range(at, length)?)
    }

    fn range(&self, at: u64, length: u64) -> Option<Range<usize>> {
        let start = usize::try_from(at.checked_sub(self.base)?).ok()?;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        Some(start..end)
    }
}
