//! The static key of a node, and the file that it lives in (C6).

use std::fmt;

use curve25519_dalek::montgomery::MontgomeryPoint;
use zeroize::{Zeroize, Zeroizing};

use crate::cluster::ids::NodeId;

/// A node's X25519 key pair. The secret is wiped when dropped and never printed (C4).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StaticKey {
    secret: [u8; 32],
    public: [u8; 32],
}

impl StaticKey {
    /// Makes the pair of 32 secret bytes, which must come from a source of entropy.
    #[must_use]
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self {
            secret,
            public: MontgomeryPoint::mul_base_clamped(secret).to_bytes(),
        }
    }

    /// Reads a key file: 64 hexadecimal digits and a newline.
    ///
    /// # Errors
    ///
    /// [`KeyFileInvalid`] says what is wrong, without quoting what may be a secret.
    pub fn parse(file: &[u8]) -> Result<Self, KeyFileInvalid> {
        let line = match file.strip_suffix(b"\n") {
            Some(line) => line,
            None if file.is_empty() => return Err(KeyFileInvalid("it is empty")),
            None => return Err(KeyFileInvalid("the newline at the end is missing")),
        };
        match line.len() {
            0..64 => return Err(KeyFileInvalid("it has fewer than 64 digits")),
            64 => {}
            65.. => return Err(KeyFileInvalid("it has more than 64 digits and a newline")),
        }
        match Zeroizing::new(hex32(line)).as_ref() {
            Some(secret) => Ok(Self::from_secret(*secret)),
            None => Err(KeyFileInvalid("a digit is not hexadecimal")),
        }
    }

    /// Returns what its key file holds, in lower case.
    #[must_use]
    pub fn to_file(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(65));
        for byte in self.secret {
            text.extend([byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)])));
        }
        text.push('\n');
        text
    }

    /// Shows the secret, to whoever must compute with it.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Returns the public key.
    #[must_use]
    pub const fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Returns the id of the node that holds this key.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId::of_key(&self.public)
    }
}

impl Drop for StaticKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A key file that holds no key. The node cannot start; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyFileInvalid(pub &'static str);

impl fmt::Display for KeyFileInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a key file: {}", self.0)
    }
}

impl std::error::Error for KeyFileInvalid {}

/// Says whether a public key is one of those few with which every secret agrees on zero.
///
/// A clamped secret is 2²⁵⁴ or more and a multiple of 8. With 2²⁵⁴ itself the product is zero
/// exactly if the order of the point is a power of two, and so divides 8.
#[must_use]
pub fn has_small_order(public_key: &[u8; 32]) -> bool {
    // Clamping sets bit 254.
    let product = MontgomeryPoint(*public_key).mul_clamped([0; 32]);
    product.to_bytes() == [0; 32]
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Reads 64 hexadecimal digits of either case.
pub(super) fn hex32(digits: &[u8]) -> Option<[u8; 32]> {
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

const fn digit(char: u8) -> Option<u8> {
    match char {
        b'0'..=b'9' => Some(char - b'0'),
        b'a'..=b'f' => Some(char - b'a' + 10),
        b'A'..=b'F' => Some(char - b'A' + 10),
        _ => None,
    }
}
