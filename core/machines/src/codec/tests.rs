//! What a reader refuses, and where it says the fault is.

use super::{Malformed, Reader, put_count, put_str8};

fn at<T>(result: Result<T, Malformed>) -> Option<u32> {
    result.err().map(|malformed| malformed.offset)
}

#[test]
fn numbers_are_little_endian_and_taken_in_order() {
    let mut reader = Reader::new(&[1, 2, 1, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(reader.u8(), Ok(1));
    assert_eq!(reader.u16(), Ok(0x0102));
    assert_eq!(reader.u32(), Ok(0x0102_0304));
    assert_eq!(reader.u64(), Ok(0x0102_0304_0506_0708));
    assert_eq!(reader.finish(), Ok(()));
}

#[test]
fn missing_bytes_are_missed_at_the_end_and_take_nothing() {
    let mut reader = Reader::new(&[1, 2, 3]);
    assert_eq!(at(reader.u32()), Some(3));
    assert_eq!(reader.remaining(), 3);
    assert_eq!(at(reader.take(usize::MAX)), Some(3));
    assert_eq!(at(reader.finish()), Some(0));
}

#[test]
fn zeros_that_are_not_are_found_where_they_start() {
    let mut reader = Reader::new(&[9, 0, 0, 1, 0]);
    assert_eq!(reader.u8(), Ok(9));
    assert_eq!(at(reader.zero(3)), Some(1));
    let mut reader = Reader::new(&[0, 0]);
    assert_eq!(reader.zero(2), Ok(()));
    assert_eq!(at(reader.zero(1)), Some(2));
}

#[test]
fn a_text_is_as_long_as_its_first_byte_says() {
    let mut out = Vec::new();
    put_str8(&mut out, b"ab");
    put_str8(&mut out, b"");
    assert_eq!(out, [2, b'a', b'b', 0]);
    let mut reader = Reader::new(&out);
    assert_eq!(reader.str8(), Ok(&b"ab"[..]));
    assert_eq!(reader.str8(), Ok(&b""[..]));
    assert_eq!(at(Reader::new(&[3, b'a', b'b']).str8()), Some(3));
}

#[test]
fn a_count_may_not_claim_more_than_the_bytes_hold() {
    let mut out = Vec::new();
    put_count(&mut out, 2);
    out.extend_from_slice(&[0; 6]);
    assert_eq!(Reader::new(&out).count(3), Ok(2));
    assert_eq!(at(Reader::new(&out).count(4)), Some(0));
    assert_eq!(at(Reader::new(&out).count(usize::MAX)), Some(0));
}
