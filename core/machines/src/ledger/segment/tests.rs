//! The bytes of a header, and the names of files: L10, L11, L18.

use super::*;

fn sample() -> Header {
    Header {
        node: NodeId::from_bytes([0xAB; 16]),
        first: 1_000,
        chain: [0x11; 32],
        created_ms: 1_700_000_000_123,
    }
}

/// Golden vector: no later release may write or read it otherwise.
#[test]
fn the_bytes_of_a_header_never_change() {
    let bytes = sample().to_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let fields = format!(
        "4c4b4a3101000000{}e803000000000000{}7b68e5cf8b010000{}",
        "ab".repeat(16),
        "11".repeat(32),
        "00".repeat(24),
    );
    let hash = "df4692df1fe48a9742be801893d66a833e24fe787642c7c908950e6f808425aa";
    assert_eq!(hex, format!("{fields}{hash}"));
    assert_eq!(Header::parse(&bytes), Ok(sample()));
    assert_eq!(sample().seal(), bytes[96..]);
}

#[test]
fn a_changed_header_is_none() {
    let bytes = sample().to_bytes();
    for bit in 0..HEADER_BYTES * 8 {
        let mut changed = bytes;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::parse(&changed).is_err(), "bit {bit}");
    }
    for length in 0..HEADER_BYTES {
        assert!(Header::parse(&bytes[..length]).is_err(), "{length} bytes");
    }
    let later = Header { first: 0, ..sample() };
    assert!(Header::parse(&later.to_bytes()).is_err(), "records count from 1");
}

#[test]
fn a_later_format_is_told_from_damage() {
    let mut bytes = sample().to_bytes();
    bytes[4] = 2;
    assert_eq!(Header::parse(&bytes), Err(BadHeader::Format(2)));
}

#[test]
fn names_have_one_form() {
    let segment = File::Segment(42);
    assert_eq!(segment.to_string(), "00000000000000000042.seg");
    assert_eq!(File::parse("00000000000000000042.seg"), Some(segment));
    assert_eq!(File::parse("00000000000000000007.tmp"), Some(File::Spare(7)));
    let others = [
        "",
        "42.seg",
        "000000000000000000042.seg",
        "0000000000000000004x.seg",
        "+0000000000000000042.seg",
        "00000000000000000000.seg",
        "18446744073709551615.seg",
        "99999999999999999999.tmp",
        "00000000000000000042.seg.bak",
        "00000000000000000042.SEG",
        "00000000000000000042",
        "00000000000000000042.snap",
    ];
    for name in others {
        assert_eq!(File::parse(name), None, "{name}");
    }
}
