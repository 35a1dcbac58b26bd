//! The bytes of a record, and what is none: L12, L13, L16.

use super::*;

const FIELDS: Fields =
    Fields { kind: Kind::Events, number: 3, time_ms: 1_700_000_000_123, synced: 2, count: 2 };

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sample() -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&FIELDS, b"hello, ledger", &[1; 32], &mut bytes);
    bytes
}

#[test]
fn the_key_of_record_hashes_is_derived_from_their_domain() {
    assert_eq!(KEY, blake3::hazmat::hash_derive_key_context(DOMAIN));
}

/// Golden vector: no later release may write or read it otherwise.
#[test]
fn the_bytes_of_a_record_never_change() {
    let bytes = sample();
    let head = "580000000100000003000000000000007b68e5cf8b01000002000000000000000200000000000000";
    let body = "68656c6c6f2c206c6564676572000000";
    let hash = "3ee42b224a1bde6b1672274760868540656114aa63bdfceeb94b883eda85182b";
    assert_eq!(hex(&bytes), format!("{head}{body}{hash}"));
    let frame = Frame::parse(&bytes).expect("a record");
    assert_eq!(frame.fields, FIELDS);
    assert_eq!(frame.body(), b"hello, ledger\0\0\0");
    assert!(frame.follows(&[1; 32]));
    assert!(!frame.follows(&[2; 32]));
}

/// Golden vector of a marker.
#[test]
fn the_bytes_of_a_marker_never_change() {
    let fields = Fields { kind: Kind::Marker, number: 9, time_ms: 5, synced: 9, count: 0 };
    let mut bytes = Vec::new();
    encode(&fields, &[], &[2; 32], &mut bytes);
    let head = "48000000020000000900000000000000050000000000000009000000000000000000000000000000";
    let hash = "7a180c02b534bccdb8626467010c18d4fab5821b6687226b0606655f95f98609";
    assert_eq!(hex(&bytes), format!("{head}{hash}"));
    assert_eq!(bytes.len(), MARKER_BYTES);
    assert_eq!(Frame::parse(&bytes).expect("a record").fields, fields);
}

#[test]
fn the_hash_covers_the_chain_and_every_byte() {
    let bytes = sample();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let valid = Frame::parse(&changed).is_ok_and(|frame| frame.follows(&[1; 32]));
        assert!(!valid, "bit {bit}");
    }
    for bit in 0..256 {
        let mut chain = [1; 32];
        chain[bit / 8] ^= 1 << (bit % 8);
        assert!(!Frame::parse(&bytes).expect("a record").follows(&chain));
    }
}

#[test]
fn what_is_no_record_is_malformed() {
    let refused = |change: fn(&mut Vec<u8>)| {
        let mut bytes = sample();
        change(&mut bytes);
        let malformed = Frame::parse(&bytes).expect_err("it is no record");
        (malformed.offset, malformed.expected)
    };
    assert_eq!(refused(|b| b[0] = 0).1, "a length of a record");
    assert_eq!(refused(|b| b[0] = 89).1, "a length of a record");
    assert_eq!(refused(|b| b[0] = 64).1, "a length of a record");
    assert_eq!(refused(|b| b[3] = 1).1, "more bytes");
    assert_eq!(refused(|b| b[4] = 0), (4, "a kind of record"));
    assert_eq!(refused(|b| b[4] = 3), (4, "a kind of record"));
    assert_eq!(refused(|b| b[4] = 2).1, "the length of a marker");
    assert_eq!(refused(|b| b[5] = 1), (5, "zero"));
    assert_eq!(refused(|b| b[8] = 0), (8, "a number from 1"));
    assert_eq!(refused(|b| b[15] = 0x80), (8, "a number from 1"));
    assert_eq!(refused(|b| b[24] = 3), (24, "a record before this one"));
    assert_eq!(refused(|b| b[32] = 0), (32, "an event"));
    assert_eq!(refused(|b| b[32] = 17), (32, "as many events as fit"));
    assert_eq!(refused(|b| b[36] = 1), (36, "zero"));
    assert_eq!(refused(|b| b.truncate(87)).1, "more bytes");
    assert_eq!(refused(Vec::clear).1, "more bytes");
}

#[test]
fn padding_is_at_most_seven_zeros() {
    let left = |bytes: &[u8]| padding(&mut Reader::new(bytes)).is_ok();
    assert!(left(&[]));
    assert!(left(&[0; 7]));
    assert!(!left(&[0; 8]));
    assert!(!left(&[0, 1]));
}

#[test]
#[should_panic(expected = "what is written is a record")]
fn what_no_reader_would_take_is_not_written() {
    encode(&Fields { synced: 3, ..FIELDS }, b"x", &[0; 32], &mut Vec::new());
}
