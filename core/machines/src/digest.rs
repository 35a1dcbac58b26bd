//! A fast, fixed 64-bit digest of a machine's state and of the events of a run.
//!
//! `std`'s hashers may change between releases; this one may not, since the hash of a run must be
//! equal on every platform and after every rebuild (T4). It is no defence against an adversary.
//!
//! # Source
//!
//! The folded 128-bit multiply is the mixing step of wyhash (Wang Yi, 2019).

use std::hash::{Hash, Hasher};

const SEED: u64 = 0xa076_1d64_78bd_642f;
const STEP: u64 = 0xe703_7ed1_a0b4_28db;

/// Multiplies `a` and `b` to 128 bits and folds the halves.
#[must_use]
#[inline]
pub const fn mix(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

/// A [`Hasher`] whose answer never changes between platforms or releases.
///
/// Integers are hashed as their little-endian value, `usize` as 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// Starts an empty digest.
    #[must_use]
    pub const fn new() -> Self {
        Self(SEED)
    }

    /// Returns the digest of `value`.
    #[must_use]
    pub fn of<T: Hash + ?Sized>(value: &T) -> u64 {
        let mut digest = Self::new();
        value.hash(&mut digest);
        digest.finish()
    }

    /// Takes in four words. The two multiplications do not wait for each other, which is what makes
    /// long inputs cheap.
    #[inline]
    fn block(&mut self, block: &[u8; 32]) {
        let (words, _) = block.as_chunks::<8>();
        let [a, b, c, d] = [0, 1, 2, 3].map(|place: usize| u64::from_le_bytes(words[place]));
        let (left, right) = (mix(a ^ self.0, b ^ STEP), mix(c ^ self.0.rotate_left(32), d ^ SEED));
        self.0 = (left ^ right.rotate_left(29)).wrapping_add(SEED);
    }

    /// Takes in two numbers and `bytes`, as [`Hasher::write`] would, for less: the numbers and the
    /// length share one step.
    #[inline]
    pub fn event(&mut self, at: u64, whom: u32, bytes: &[u8]) {
        let length = (bytes.len() as u64) << 32;
        self.0 = mix(self.0 ^ at, STEP ^ (u64::from(whom) | length)).wrapping_add(SEED);
        self.whole_words(bytes);
    }

    /// Takes in `bytes`, filled up with zeros to whole words: the caller takes in their number.
    #[inline]
    fn whole_words(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            self.block(block);
        }
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.word(u64::from_le_bytes(last));
        }
    }

    #[inline]
    fn word(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word, STEP).wrapping_add(SEED);
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher for Digest {
    #[inline]
    fn finish(&self) -> u64 {
        mix(self.0 ^ SEED, STEP)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        self.whole_words(bytes);
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.word(u64::from(value));
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }

    #[inline]
    fn write_u128(&mut self, value: u128) {
        self.write(&value.to_le_bytes());
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.word(value as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_known_values_never_changes() {
        assert_eq!(Digest::of(&7_u64), Digest::of(&7_usize));
        assert_ne!(Digest::of(&[1_u8, 0]), Digest::of(&[1_u8]));
        assert_ne!(Digest::of(&1_u64), Digest::of(&2_u64));
    }

    #[test]
    fn every_bit_of_a_long_input_counts_and_so_does_its_length() {
        let digest = |bytes: &[u8]| {
            let mut digest = Digest::new();
            digest.write(bytes);
            digest.finish()
        };
        let mut seen: Vec<u64> = (0..100).map(|length| digest(&vec![0; length])).collect();
        let mut bytes = [0; 77];
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            seen.push(digest(&bytes));
            bytes[bit / 8] = 0;
        }
        let answers = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), answers, "no two inputs share a digest");
    }
}
