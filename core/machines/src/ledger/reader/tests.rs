//! Goal: a walk gives the durable records of a segment, once each, and never a wrong one.
//! Method: segments written by hand; the walk is driven as a file would drive it.

use super::*;
use crate::ledger::record::Fields;

const NODE: NodeId = NodeId::from_bytes([5; 16]);

/// A segment from record 7 on: `count` records, a marker after the second.
fn segment(count: u64, body: usize) -> Vec<u8> {
    let header = Header { node: NODE, first: 7, chain: [9; 32], created_ms: 1 };
    let mut bytes = header.to_bytes().to_vec();
    let mut chain = header.chain;
    for number in 7..7 + count {
        let fields = Fields { kind: Kind::Events, number, time_ms: 1, synced: 0, count: 1 };
        let content = vec![u8::try_from(number % 251).unwrap(); body];
        chain = record::encode(&fields, &content, &chain, &mut bytes);
        if number == 8 {
            let fields = Fields { kind: Kind::Marker, synced: 8, count: 0, ..fields };
            record::encode(&fields, &[], &header.seal(), &mut bytes);
        }
    }
    bytes.resize(bytes.len() + 4_096, 0);
    bytes
}

fn read(bytes: &[u8], offset: u64, length: u64) -> Vec<u8> {
    let start = usize::try_from(offset).unwrap().min(bytes.len());
    let end = start.saturating_add(usize::try_from(length).unwrap()).min(bytes.len());
    bytes[start..end].to_vec()
}

/// Walks up to `last`; returns the numbers, and how many reads that took.
fn walk(walk: &mut Walk, bytes: &[u8], last: u64) -> Result<(Vec<u64>, u64), Damaged> {
    let (mut numbers, mut reads) = (Vec::new(), 0);
    loop {
        match walk.step(last)? {
            Step::Read { offset, bytes: length, .. } => {
                reads += 1;
                walk.fill(read(bytes, offset, length), last);
            }
            Step::Record(entry) => numbers.push(entry.number),
            Step::End => return Ok((numbers, reads)),
        }
    }
}

#[test]
fn records_come_once_up_to_the_last_and_go_on_from_there() {
    let bytes = segment(5, 24);
    let mut one = Walk::new(NODE, 7);
    assert_eq!(walk(&mut one, &bytes, 8).unwrap(), (vec![7, 8], 1));
    assert_eq!(walk(&mut one, &bytes, 8).unwrap(), (vec![], 0), "an end costs nothing");
    assert_eq!(walk(&mut one, &bytes, 11).unwrap(), (vec![9, 10, 11], 1));
    let mut other = Walk::from(NODE, one.mark().unwrap());
    assert_eq!(other, Walk::from(NODE, one.mark().unwrap()));
    assert_eq!(walk(&mut other, &bytes, 11).unwrap(), (vec![], 0));
}

/// What stood behind the last durable record when it was read is not what was written there.
#[test]
fn bytes_behind_what_was_durable_are_read_again() {
    let bytes = segment(5, 24);
    let mut early = bytes.clone();
    let one_record = record::encoded_len(24);
    early[HEADER_BYTES + one_record..].fill(0xee);
    let mut one = Walk::new(NODE, 7);
    assert_eq!(walk(&mut one, &early, 7).unwrap().0, [7]);
    assert_eq!(walk(&mut one, &bytes, 11).unwrap().0, [8, 9, 10, 11]);
    // The same while bytes are still here: nothing of them is believed.
    let mut one = Walk::new(NODE, 7);
    assert!(matches!(one.step(11), Ok(Step::Read { .. })));
    one.fill(early, 7);
    assert!(matches!(one.step(11), Ok(Step::Record(entry)) if entry.number == 7));
    assert!(matches!(one.step(11), Ok(Step::Read { .. })), "record 8 was not durable then");
}

#[test]
fn a_long_record_is_read_whole_and_memory_is_bounded_by_it() {
    let bytes = segment(3, 600_000);
    let mut one = Walk::new(NODE, 7);
    let (numbers, reads) = walk(&mut one, &bytes, 9).unwrap();
    assert_eq!(numbers, [7, 8, 9]);
    assert!(reads <= 8, "{reads}");
}

#[test]
fn any_wrong_byte_is_damage_and_a_file_that_ends_too_early_is_too() {
    let bytes = segment(3, 24);
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for at in 0..=used {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        let mut one = Walk::new(NODE, 7);
        match walk(&mut one, &bad, 9) {
            Err(damaged) => assert!((7..=9).contains(&damaged.record)),
            // A marker tells nothing that a reader believes.
            Ok((numbers, _)) => {
                let marker = HEADER_BYTES + 2 * record::encoded_len(24);
                assert!((marker..marker + MARKER_BYTES).contains(&at), "byte {at}");
                assert_eq!(numbers, [7, 8, 9]);
            }
        }
    }
    for length in 0..used {
        let mut one = Walk::new(NODE, 7);
        assert!(walk(&mut one, &bytes[..length], 9).is_err(), "{length} bytes");
    }
    assert!(walk(&mut Walk::new(NodeId::from_bytes([6; 16]), 7), &bytes, 9).is_err());
    assert!(walk(&mut Walk::new(NODE, 6), &bytes, 9).is_err());
}
