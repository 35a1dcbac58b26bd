//! The binary standard form: little-endian integers, counted bytes, one encoding for every value.
//!
//! Decoders are total and strict (C19): what does not decode exactly is [`Malformed`] as a whole,
//! and a count is checked against the bytes that remain before anything is allocated.

mod standard;

use std::fmt;

/// Why bytes are not a value: where, and what would have been right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Malformed {
    /// Offset of the first byte that is wrong, or the length if bytes are missing.
    pub offset: u32,
    /// What was expected there.
    pub expected: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: expected {}", self.offset, self.expected)
    }
}

impl std::error::Error for Malformed {}

/// A value with exactly one encoding.
pub trait Wire: Sized {
    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// Takes one value off the front of `reader`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the bytes are not the encoding of a value.
    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// Returns the encoding in a buffer of its own.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Decodes `bytes`, all of them.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if they are not the encoding of exactly one value.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let value = Self::decode(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

/// Reads values off the front of a slice. It never reads past the end and never allocates.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns how many bytes are left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Makes the error "`expected` was due here".
    #[must_use]
    pub fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed { offset: u32::try_from(self.at).unwrap_or(u32::MAX), expected }
    }

    /// Takes `count` bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        if self.remaining() < count {
            return Err(Malformed { offset: self.end(), expected: "more bytes" });
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    /// Takes an array of bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Takes one byte.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if none is left.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// Takes a little-endian `u16`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if fewer bytes are left.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Takes a little-endian `u32`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if fewer bytes are left.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Takes a little-endian `u64`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if fewer bytes are left.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Takes `count` bytes that must be 0.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if they are not, or fewer are left.
    pub fn zero(&mut self, count: usize) -> Result<(), Malformed> {
        let here = self.clone();
        match self.take(count)?.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(here.malformed("zero")),
        }
    }

    /// Takes a `str8`: a length byte and that many bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if fewer bytes are left than it says.
    pub fn str8(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    /// Takes a `str16`: a `u16` length and that many bytes.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if fewer bytes are left than it says.
    pub fn str16(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// Takes a `u32` count of things that need at least `each_min` bytes each.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if so many cannot follow: nothing may be allocated by a claim alone.
    pub fn count(&mut self, each_min: usize) -> Result<usize, Malformed> {
        let here = self.clone();
        let count = self.u32()? as usize;
        match count.checked_mul(each_min) {
            Some(need) if need <= self.remaining() => Ok(count),
            _ => Err(here.malformed("a count that the bytes can hold")),
        }
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if bytes are left.
    pub fn finish(&self) -> Result<(), Malformed> {
        match self.remaining() {
            0 => Ok(()),
            _ => Err(self.malformed("the end")),
        }
    }

    fn end(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }
}

/// Appends a `str8`.
///
/// # Panics
///
/// If `text` is longer than 255 bytes: the callers' types allow less.
pub fn put_str8(out: &mut Vec<u8>, text: &[u8]) {
    out.push(u8::try_from(text.len()).expect("a str8 has at most 255 bytes"));
    out.extend_from_slice(text);
}

/// Appends a `str16`.
///
/// # Panics
///
/// If `text` is longer than 65,535 bytes: the callers' types allow less.
pub fn put_str16(out: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).expect("a str16 has at most 65,535 bytes");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text);
}

/// Appends a `u32` count.
///
/// # Panics
///
/// If `count` passes `u32::MAX`: every table is bounded far below.
pub fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("every table is bounded far below u32::MAX");
    out.extend_from_slice(&count.to_le_bytes());
}

#[cfg(test)]
mod tests;
