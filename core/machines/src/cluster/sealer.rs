//! The seal of both lanes of a link: keys, counters and the replay window (C14, C15, C33, C36).
//!
//! ```text
//!  stream     counter 0, 1, 2, …           implicit, bit 63 = 0   one of each per direction
//!  datagram   counter 2⁶³, 2⁶³ + 1, …      sent along, bit 63 = 1  and epoch, never reset
//! ```
//!
//! A [`Sealer`] is one epoch of one end of a link. Nothing here knows time or peers. What does
//! not open changes nothing at all, so forged bytes can never desynchronise a link (C36).
//!
//! # Source
//!
//! ChaCha20-Poly1305 with Noise's nonces: RFC 8439 and the Noise specification, revision 34,
//! section 12.3. The window follows RFC 6479 in its use, with a plain bitmap of 1,024.

mod null;
mod window;

use std::fmt;
use std::hash::{Hash, Hasher};

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use zeroize::Zeroize;

use super::wire::{Control, DATAGRAM_MAX, DatagramHeader, FrameHeader};
pub(crate) use null::Mixer;
pub use window::{Stale, Window};

/// What the tag of a seal adds, in bytes.
pub const TAG: usize = 16;
/// Messages of one lane after which an epoch must not go on (C35).
pub const COUNTER_MAX: u64 = (1 << 63) - (1 << 14);
/// The shortest and the longest ciphertext of a record (C14).
pub const RECORD_MIN: usize = 24;
/// The longest ciphertext of a record (C14).
pub const RECORD_MAX: usize = 16_400;

/// How links are sealed.
///
/// [`Suite::Null`] is a simulator's knob: frames and datagrams keep their form and their checks,
/// but nothing is secret and keys are agreed without cryptography. No configuration file and no
/// host can ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// Noise and ChaCha20-Poly1305.
    Noise,
    /// Nothing secret; a cheap checksum stands for the tag.
    Null,
}

/// 32 secret bytes, wiped when dropped, never printed (C4).
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// Takes the bytes as a key.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Shows the bytes, to whoever must compute with them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// A tag did not fit: forged or damaged. Routine on a hostile network; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTag;

/// Why a datagram was not opened; nothing has changed (C36, C113).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// Accepted before. Routine: networks duplicate.
    Replay,
    /// Older than the window. Routine: networks delay.
    Old,
    /// Forged or damaged.
    BadTag,
}

impl Suite {
    /// Seals `text` in place and returns the tag.
    #[must_use]
    pub fn seal(self, key: &Key, nonce: u64, text: &mut [u8]) -> [u8; TAG] {
        match self {
            Self::Noise => ChaCha20Poly1305::new((&key.0).into())
                .encrypt_in_place_detached(&nonce_bytes(nonce).into(), &[], text)
                .expect("a text of at most 64 KiB is far below the cipher's limit")
                .into(),
            Self::Null => null::tag(key, nonce, text),
        }
    }

    /// Opens `text` in place.
    ///
    /// # Errors
    ///
    /// [`BadTag`]; `text` is as it was.
    pub fn open(
        self,
        key: &Key,
        nonce: u64,
        text: &mut [u8],
        tag: &[u8; TAG],
    ) -> Result<(), BadTag> {
        match self {
            Self::Noise => ChaCha20Poly1305::new((&key.0).into())
                .decrypt_in_place_detached(&nonce_bytes(nonce).into(), &[], text, tag.into())
                .map_err(|_| BadTag),
            Self::Null if null::tag(key, nonce, text) == *tag => Ok(()),
            Self::Null => Err(BadTag),
        }
    }
}

/// Noise's nonce: four zero bytes and the counter.
fn nonce_bytes(nonce: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&nonce.to_le_bytes());
    bytes
}

/// One epoch of one end of a link: two keys, and where each lane stands (C33).
#[derive(Clone, Debug, Hash)]
pub struct Sealer {
    suite: Suite,
    /// Counts the rekeys of the link, from 0.
    pub epoch: u32,
    /// What this end seals with.
    pub tx: Key,
    /// What this end opens with.
    pub rx: Key,
    /// The next stream counter that this end seals with.
    pub stream_tx: u64,
    /// The next stream counter that this end accepts.
    pub stream_rx: u64,
    /// The next datagram counter that this end seals with, without bit 63.
    pub datagram_tx: u64,
    /// Which datagrams were accepted.
    pub window: Window,
}

impl Sealer {
    /// Starts `epoch` with all counters at 0.
    #[must_use]
    pub const fn new(suite: Suite, epoch: u32, tx: Key, rx: Key) -> Self {
        Self {
            suite,
            epoch,
            tx,
            rx,
            stream_tx: 0,
            stream_rx: 0,
            datagram_tx: 0,
            window: Window::new(),
        }
    }

    /// Returns the greatest of this end's own counters: what decides on a rekey (C35).
    #[must_use]
    pub fn used(&self) -> u64 {
        self.stream_tx.max(self.datagram_tx)
    }

    /// Seals the plaintext that `out` holds from `start + 2` on as a record: fills in the length
    /// at `start` and appends the tag (C14).
    ///
    /// # Panics
    ///
    /// If the plaintext is not 8 … 16,384 bytes long, or the epoch is used up: the caller
    /// fragments, and closes links in time.
    pub fn seal_record(&mut self, out: &mut Vec<u8>, start: usize) {
        let len = out.len() - start - 2 + TAG;
        assert!((RECORD_MIN..=RECORD_MAX).contains(&len), "a record's size");
        assert!(self.stream_tx < DatagramHeader::LANE_BIT, "an epoch ends before 2⁶³");
        let tag = self.suite.seal(&self.tx, self.stream_tx, &mut out[start + 2..]);
        self.stream_tx += 1;
        out.extend_from_slice(&tag);
        let len = u16::try_from(len).expect("a record is at most 16,400 bytes");
        out[start..start + 2].copy_from_slice(&len.to_le_bytes());
    }

    /// Seals `control` as one record at the end of `out`.
    pub fn seal_control(&mut self, control: &Control, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 2 + FrameHeader::LEN]);
        control.encode_body(out);
        let body = out.len() - start - 2 - FrameHeader::LEN;
        let header = FrameHeader {
            kind: control.kind(),
            first: true,
            last: true,
            total: u32::try_from(body).expect("a control frame is short"),
        };
        out[start + 2..start + 2 + FrameHeader::LEN].copy_from_slice(&header.to_array());
        self.seal_record(out, start);
    }

    /// Opens a record's ciphertext in place and returns its plaintext.
    ///
    /// # Errors
    ///
    /// [`BadTag`]; the counter stays.
    pub fn open_record<'a>(&mut self, text: &'a mut [u8]) -> Result<&'a mut [u8], BadTag> {
        let (body, tag) = text.split_last_chunk_mut::<TAG>().ok_or(BadTag)?;
        self.suite.open(&self.rx, self.stream_rx, body, tag)?;
        self.stream_rx += 1;
        Ok(body)
    }

    /// Seals the plaintext that `out` holds behind [`DatagramHeader::LEN`] bytes of room, for the
    /// receiver's link `index` (C15). `out` holds nothing else.
    ///
    /// # Panics
    ///
    /// If the datagram gets longer than 1,200 bytes, or the epoch is used up.
    pub fn seal_datagram(&mut self, index: u32, out: &mut Vec<u8>) {
        assert!(out.len() + TAG <= DATAGRAM_MAX, "a message fits a datagram");
        let header = DatagramHeader { link_index: index, counter: self.datagram_tx };
        self.datagram_tx += 1;
        out[..DatagramHeader::LEN].copy_from_slice(&header.to_array());
        let text = &mut out[DatagramHeader::LEN..];
        let tag = self.suite.seal(&self.tx, header.nonce(), text);
        out.extend_from_slice(&tag);
    }

    /// Opens a datagram in place and returns its plaintext: the four steps of C36.
    ///
    /// # Errors
    ///
    /// [`NotOpened`]; neither window nor counter moved.
    pub fn open_datagram<'a>(
        &mut self,
        header: DatagramHeader,
        bytes: &'a mut [u8],
    ) -> Result<&'a [u8], NotOpened> {
        self.window.check(header.counter).map_err(|s| match s {
            Stale::Old => NotOpened::Old,
            Stale::Seen => NotOpened::Replay,
        })?;
        let sealed =
            bytes.get_mut(DatagramHeader::LEN..).and_then(<[u8]>::split_last_chunk_mut::<TAG>);
        let (body, tag) = sealed.ok_or(NotOpened::BadTag)?;
        self.suite.open(&self.rx, header.nonce(), body, tag).map_err(|BadTag| NotOpened::BadTag)?;
        self.window.accept(header.counter);
        Ok(body)
    }

    /// Says whether [`Sealer::open_datagram`] would open `bytes`. Nothing changes.
    #[must_use]
    pub fn opens_datagram(&self, header: DatagramHeader, bytes: &[u8]) -> bool {
        let sealed = bytes.get(DatagramHeader::LEN..).and_then(<[u8]>::split_last_chunk::<TAG>);
        let Some((body, tag)) = sealed.filter(|_| self.window.check(header.counter).is_ok()) else {
            return false;
        };
        self.suite.open(&self.rx, header.nonce(), &mut body.to_vec(), tag).is_ok()
    }
}

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;
