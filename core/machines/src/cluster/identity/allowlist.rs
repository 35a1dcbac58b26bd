//! The allowlist file: whom this node links with (C24).
//!
//! ```text
//! # the three of Frankfurt
//! c306fb0e…8252
//! db48257e…c31a  rotate=1f9b77a2…04d1  # its offline key
//! ```

use std::collections::BTreeMap;
use std::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;

use super::Allowed;
use super::key::{has_small_order, hex32};
use crate::cluster::ids::NodeId;

/// An allowlist file that is invalid as a whole: the list before it stays (C24).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AllowlistInvalid {
    /// The first line that is wrong, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for AllowlistInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "allowlist line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for AllowlistInvalid {}

impl Allowed {
    /// Reads an allowlist file. A `rotate=` key is checked; nothing uses it before rotation (C28).
    ///
    /// # Errors
    ///
    /// [`AllowlistInvalid`] for a line that does not parse, a repeated key or a small-order point.
    pub fn parse(file: &[u8]) -> Result<Self, AllowlistInvalid> {
        let mut keys = BTreeMap::new();
        for (line, text) in (1..).zip(file.split(|byte| *byte == b'\n')) {
            let invalid = |why| AllowlistInvalid { line, why };
            let Some(key) = key_of_line(text).map_err(invalid)? else {
                continue;
            };
            if keys.insert(NodeId::of_key(&key), key).is_some() {
                return Err(invalid("this key stands above already"));
            }
        }
        Ok(Self::Only(keys))
    }
}

/// Returns the key of a line, if it is not empty or a comment.
fn key_of_line(line: &[u8]) -> Result<Option<[u8; 32]>, &'static str> {
    let text = line.split(|byte| *byte == b'#').next().unwrap_or(line);
    let mut words = text
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let Some(word) = words.next() else {
        return Ok(None);
    };
    let key = hex32(word).ok_or("a key is 64 hexadecimal digits")?;
    if has_small_order(&key) {
        return Err("this key is a point of small order, which everyone can pass as");
    }
    if let Some(word) = words.next() {
        let digits = word.strip_prefix(b"rotate=");
        let digits = digits.ok_or("only `rotate=` may follow a key")?;
        check_rotation_key(&hex32(digits).ok_or("a rotation key is 64 hexadecimal digits")?)?;
    }
    match words.next() {
        Some(_) => Err("nothing but a comment may follow a rotation key"),
        None => Ok(Some(key)),
    }
}

/// Checks an Ed25519 public key (C28).
fn check_rotation_key(key: &[u8; 32]) -> Result<(), &'static str> {
    match CompressedEdwardsY(*key).decompress() {
        Some(point) if !point.is_small_order() => Ok(()),
        Some(_) => Err("this rotation key is a point of small order"),
        None => Err("this rotation key is no point of the curve"),
    }
}
