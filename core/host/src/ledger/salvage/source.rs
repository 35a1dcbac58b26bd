//! Where salvage reads from: files of which some blocks may be unreadable (L33).
//!
//! A disk that fails does so by blocks. Whatever is around them is read, and in their place stand
//! zeros, which are no record; so one bad sector costs the records on it and no others.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::world::files::read_at;

/// How much is read at a time as long as all goes well.
const PIECE: u64 = 1 << 20;
/// How much is given up for one failed read: what the operating system reads at the least.
pub(in crate::ledger) const BLOCK: u64 = 4 << 10;
/// How often a block is asked for.
const TRIES: u32 = 2;

/// Reads bytes of a file from an offset on; fewer only where it ends.
pub(super) type Read<'a> = &'a dyn Fn(&Path, u64, u64) -> io::Result<Vec<u8>>;

/// Reads from the real disk.
pub(super) fn disk(path: &Path, offset: u64, bytes: u64) -> io::Result<Vec<u8>> {
    read_at(&File::open(path)?, offset, bytes)
}

/// Bytes of a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The file, from the data folder.
    pub file: String,
    /// The first byte.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What the disk says.
    pub error: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, first, last, error } = self;
        write!(f, "{file}: bytes {first} to {last} cannot be read: {error}")
    }
}

/// What of a file can be read.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// All of its bytes, zeros in the place of those that cannot be read.
    pub(super) bytes: Vec<u8>,
    /// Which those are, in order.
    pub(super) unreadable: Vec<Unreadable>,
}

impl Content {
    /// Reads the file `name` in the folder `data`, which is `length` bytes long.
    ///
    /// # Errors
    ///
    /// There is no memory for so many bytes. What cannot be read is in the value.
    pub(super) fn read(read: Read<'_>, data: &Path, name: &str, length: u64) -> io::Result<Self> {
        let path = data.join(name);
        let mut content = Self::default();
        let room = usize::try_from(length).map_err(io::Error::other)?;
        content.bytes.try_reserve_exact(room).map_err(io::Error::other)?;
        while content.at() < length {
            let at = content.at();
            let most = PIECE.min(length - at);
            match read(&path, at, most) {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => content.bytes.extend_from_slice(&piece),
                Err(_) => content.piece(read, (&path, name), at + most),
            }
        }
        Ok(content)
    }

    /// Reads up to `end`, block by block.
    fn piece(&mut self, read: Read<'_>, (path, name): (&Path, &str), end: u64) {
        while self.at() < end {
            let at = self.at();
            let most = (BLOCK - at % BLOCK).min(end - at);
            let mut block = read(path, at, most);
            for _ in 1..TRIES {
                block = block.or_else(|_| read(path, at, most));
            }
            match block {
                Ok(block) if block.is_empty() => return,
                Ok(block) => self.bytes.extend_from_slice(&block),
                Err(error) => self.miss(name, most, &error),
            }
        }
    }

    fn miss(&mut self, name: &str, bytes: u64, error: &io::Error) {
        let (first, last, error) = (self.at(), self.at() + bytes - 1, error.to_string());
        let zeros = usize::try_from(bytes).expect("a block is small");
        self.bytes.resize(self.bytes.len() + zeros, 0);
        match self.unreadable.last_mut() {
            Some(before) if before.last + 1 == first && before.error == error => before.last = last,
            Some(_) | None => {
                let file = name.to_owned();
                self.unreadable.push(Unreadable { file, first, last, error });
            }
        }
    }

    /// Up to where it was read.
    const fn at(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns all bytes of a file of which all can be read.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub(super) fn whole(self) -> io::Result<Vec<u8>> {
        match self.unreadable.first() {
            None => Ok(self.bytes),
            Some(unreadable) => Err(io::Error::other(unreadable.to_string())),
        }
    }
}
