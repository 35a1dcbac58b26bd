//! The stand-in for a seal: a checksum over key, nonce and text. It keeps nothing secret.

use super::{Key, TAG};
use crate::digest::mix;

/// Mixes bytes into 128 bits, cheaply. No defence against anyone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mixer(u64, u64);

impl Mixer {
    /// Starts from `seed`.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15, !seed ^ 0xd1b5_4a32_d192_ed03)
    }

    /// Mixes `word` in.
    #[inline]
    pub(crate) const fn word(&mut self, word: u64) {
        self.0 = mix(self.0 ^ word, 0xe703_7ed1_a0b4_28db).wrapping_add(self.1);
        self.1 = self.1.rotate_left(23) ^ self.0;
    }

    /// Mixes `bytes` and their number in.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut array = [0; 8];
            array.copy_from_slice(word);
            self.word(u64::from_le_bytes(array));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
    }

    /// Returns the 128 bits.
    pub(crate) const fn tag(mut self) -> [u8; TAG] {
        self.word(0);
        let low = mix(self.0, 0xa076_1d64_78bd_642f);
        let high = mix(self.1 ^ low, 0x8bb8_4b93_962e_acc9);
        ((low as u128) | ((high as u128) << 64)).to_le_bytes()
    }

    /// Returns 256 bits, other ones for each `label`.
    pub(crate) fn key(mut self, label: u64) -> [u8; 32] {
        self.word(label);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.tag());
        self.word(1);
        key[16..].copy_from_slice(&self.tag());
        key
    }
}

/// Returns the checksum that stands for the tag.
pub(super) fn tag(key: &Key, nonce: u64, text: &[u8]) -> [u8; TAG] {
    let mut mixer = Mixer::new(nonce);
    let mut half = [0; 8];
    half.copy_from_slice(&key.0[..8]);
    mixer.word(u64::from_le_bytes(half));
    half.copy_from_slice(&key.0[16..24]);
    mixer.word(u64::from_le_bytes(half));
    mixer.bytes(text);
    mixer.tag()
}
