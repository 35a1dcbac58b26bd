//! Everything that crosses a wire: what decodes encodes to the same bytes (C13–C19).

use machines::cluster::wire::{
    AnyFrame, ClearReject, DATAGRAM_OVERHEAD, DatagramHeader, FrameHeader, FrameKind,
    HandshakeKind, Hello, Message, Offer, Preface, Reject, SyncBody, prologue,
};
use machines::codec::{Reader, Wire};

/// The tag at the end of a datagram.
const TAG_LEN: usize = DATAGRAM_OVERHEAD - DatagramHeader::LEN;

/// The plaintext of a stream record: frame header and body.
#[must_use]
pub fn frame(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Some(header) = front::<FrameHeader>(&mut reader, bytes) else {
        return false;
    };
    body(header.kind, reader.rest())
}

/// A datagram, as if its seal were no change: header, membership message, tag.
#[must_use]
pub fn datagram(bytes: &[u8]) -> bool {
    let Ok((header, sealed)) = DatagramHeader::split(bytes) else {
        return false;
    };
    assert_eq!(header.to_array(), bytes[..DatagramHeader::LEN]);
    assert!(sealed.len() >= TAG_LEN, "a datagram has 36 bytes or more");
    message(&sealed[..sealed.len() - TAG_LEN])
}

/// A membership message.
#[must_use]
pub fn message(bytes: &[u8]) -> bool {
    let Ok(message) = Message::from_bytes(bytes) else {
        return false;
    };
    assert_eq!(message.encoded_len(), bytes.len());
    same(&message, bytes)
}

/// What an acceptor reads before it has keys: preface and records, as far as they go.
#[must_use]
pub fn handshake(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    if front::<Preface>(&mut reader, bytes).is_none() {
        return record(bytes);
    }
    let mut preface = [0; Preface::LEN];
    preface.copy_from_slice(&bytes[..Preface::LEN]);
    assert_eq!(prologue(&preface)[16..], preface);
    while record(&bytes[bytes.len() - reader.remaining()..]) {
        let kind = HandshakeKind::decode(&mut reader).expect("`record` decoded it");
        let body = reader.take(usize::from(kind.body_len()));
        body.expect("`record` took it");
    }
    true
}

/// One handshake record at the front of `bytes`.
fn record(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let Some(kind) = front::<HandshakeKind>(&mut reader, bytes) else {
        return false;
    };
    let Ok(body) = reader.take(usize::from(kind.body_len())) else {
        return false;
    };
    if kind == HandshakeKind::Reject {
        value::<ClearReject>(body);
    }
    let mut out = Vec::new();
    kind.put_record(body, &mut out);
    assert_eq!(out, bytes[..out.len()]);
    true
}

/// The payload of a handshake message, or a small body: one of those that have this length.
#[must_use]
pub fn payload(bytes: &[u8]) -> bool {
    value::<Offer>(bytes) | value::<Hello>(bytes) | value::<Reject>(bytes)
}

/// The body of a Sync1, Sync2 or Sync3.
#[must_use]
pub fn sync(bytes: &[u8]) -> bool {
    value::<SyncBody>(bytes)
        | body(FrameKind::Sync1, bytes)
        | body(FrameKind::Sync2, bytes)
        | body(FrameKind::Sync3, bytes)
}

/// A frame's body, decoded and encoded again.
fn body(kind: FrameKind, bytes: &[u8]) -> bool {
    let Ok(frame) = AnyFrame::decode_body(kind, bytes) else {
        return false;
    };
    assert_eq!(frame.kind(), kind);
    let mut out = Vec::new();
    frame.encode_body(&mut out);
    assert_eq!(out, bytes);
    if let AnyFrame::Frame(frame) = frame {
        assert_eq!(frame.body_len(), bytes.len());
    }
    true
}

/// A whole value, decoded and encoded again.
fn value<T: Wire>(bytes: &[u8]) -> bool {
    T::from_bytes(bytes).is_ok_and(|value| same(&value, bytes))
}

/// A value at the front of `bytes`, where `reader` stands, decoded and encoded again.
fn front<T: Wire>(reader: &mut Reader<'_>, bytes: &[u8]) -> Option<T> {
    let value = T::decode(reader).ok()?;
    same(&value, &bytes[..bytes.len() - reader.remaining()]);
    Some(value)
}

/// Asserts that `bytes` are the encoding of `value`.
fn same<T: Wire>(value: &T, bytes: &[u8]) -> bool {
    assert_eq!(value.to_bytes(), bytes);
    true
}

#[cfg(test)]
mod tests {
    use machines::codec::Malformed;

    use super::*;

    /// A value with two encodings: the decoder looks at the lowest bit only.
    struct Careless(u8);

    impl Wire for Careless {
        fn encode(&self, out: &mut Vec<u8>) {
            out.push(self.0);
        }

        fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
            Ok(Self(reader.u8()? & 1))
        }
    }

    #[test]
    fn the_encoding_of_a_careless_decoder_passes() {
        assert!(value::<Careless>(&[1]));
    }

    #[test]
    #[should_panic(expected = "left == right")]
    fn another_encoding_of_a_careless_decoder_is_noticed() {
        value::<Careless>(&[3]);
    }
}
