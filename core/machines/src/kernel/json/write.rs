//! The canonical form of JSON, written: see [`super`] for what it is.

use std::sync::Arc;

use super::{Json, View};

/// What canonical bytes are written to.
pub trait Sink {
    /// Takes the next bytes.
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Sink for blake3::Hasher {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// Writes a value. The recursion ends: no value is deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
pub(super) fn value(json: &Json, sink: &mut impl Sink) {
    match json.view() {
        View::Null => sink.put(b"null"),
        View::Bool(true) => sink.put(b"true"),
        View::Bool(false) => sink.put(b"false"),
        View::Number(number) => sink.put(number.to_string().as_bytes()),
        View::Text(string) => text(string, sink),
        View::List(items) => {
            sink.put(b"[");
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    sink.put(b",");
                }
                value(item, sink);
            }
            sink.put(b"]");
        }
        View::Object(object) => {
            sink.put(b"{");
            for (at, (key, item)) in object.iter().enumerate() {
                if at > 0 {
                    sink.put(b",");
                }
                text(key, sink);
                sink.put(b":");
                value(item, sink);
            }
            sink.put(b"}");
        }
    }
}

/// Writes text in quotes.
pub(super) fn text(text: &Arc<str>, sink: &mut impl Sink) {
    let bytes = text.as_bytes();
    sink.put(b"\"");
    if is_plain(bytes) {
        sink.put(bytes);
        sink.put(b"\"");
        return;
    }
    let mut done = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if escape_length(*byte) > 1 {
            sink.put(&bytes[done..at]);
            escape(*byte, sink);
            done = at + 1;
        }
    }
    sink.put(&bytes[done..]);
    sink.put(b"\"");
}

/// Returns how many bytes [`text`] writes.
pub(super) fn text_length(text: &str) -> usize {
    match is_plain(text.as_bytes()) {
        true => 2 + text.len(),
        false => 2 + text.bytes().map(escape_length).sum::<usize>(),
    }
}

/// Says whether nothing is to be escaped. No way leads out of the loop before its end, so that it
/// looks at many bytes at a time: most text is long and plain.
fn is_plain(bytes: &[u8]) -> bool {
    let plain = |byte: u8| (byte >= 0x20) & (byte != b'"') & (byte != b'\\');
    bytes.iter().fold(true, |all, byte| all & plain(*byte))
}

/// Returns how many bytes a byte of text becomes.
const fn escape_length(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 0x08 | 0x0c | b'\n' | b'\r' | b'\t' => 2,
        0x00..=0x1f => 6,
        0x20..=0xff => 1,
    }
}

fn escape(byte: u8, sink: &mut impl Sink) {
    let short = match byte {
        b'"' => b"\\\"",
        b'\\' => b"\\\\",
        0x08 => b"\\b",
        0x0c => b"\\f",
        b'\n' => b"\\n",
        b'\r' => b"\\r",
        b'\t' => b"\\t",
        _ => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let digit = |nibble: u8| DIGITS[usize::from(nibble)];
            sink.put(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0x0f)]);
            return;
        }
    };
    sink.put(short);
}
