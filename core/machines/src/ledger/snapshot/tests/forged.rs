//! Snapshots that no sound program writes, with hashes that hold: what remains is still checked.

use super::super::format::{
    CHUNK_DOMAIN, FILE_DOMAIN, HASH_BYTES, HEADER_BYTES, HEADER_DOMAIN, MAGIC, PART_DOMAIN, hash,
};
use super::*;
use crate::codec::{Malformed, Reader, Wire, put_count, put_str8};
use crate::ledger::root::part_root;

/// A row of the demo's tables in canonical bytes.
fn row(key: u32, value: &impl Wire) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, 4);
    put_count(&mut out, value.to_bytes().len());
    Key(key).encode(&mut out);
    value.encode(&mut out);
    out
}

fn chunk(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_count(&mut out, content.len());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&hash(CHUNK_DOMAIN, content));
    out.extend_from_slice(content);
    out
}

fn part(tag: u16, version: u16, rows: &[u32], chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut out = PartHeader { tag, version, rows: rows.to_vec() }.encode();
    chunks.iter().for_each(|content| out.extend_from_slice(&chunk(content)));
    out
}

/// A file of `parts` that says that it has `count`, with the root of the small state.
fn forge(count: u32, parts: &[Vec<u8>]) -> Vec<u8> {
    let root = frozen(&mut small(), RECORD).header.root;
    let header = SnapshotHeader { node: NODE, record: RECORD, head: HEAD, root, parts: count };
    let mut out = header.encode();
    parts.iter().for_each(|part| out.extend_from_slice(part));
    let footer = hash(FILE_DOMAIN, &out);
    out.extend_from_slice(&footer);
    out
}

/// The rows of the small state.
fn rows() -> [Vec<u8>; 2] {
    let counts = [row(1, &Key(2)), row(256, &Key(3))].concat();
    [counts, row(5, &Text(b"hi".to_vec()))]
}

fn expected(file: &[u8]) -> &'static str {
    let refused = restore(file, 1000).unwrap_err();
    if let Refused::Malformed { why, .. } | Refused::Unreadable(Unreadable::Malformed { why, .. }) =
        &refused
    {
        return why.expected;
    }
    panic!("{refused}");
}

#[test]
fn the_forger_can_make_a_sound_file() {
    let forged = forge(1, &[part(7, 2, &[2, 1], &rows())]);
    assert!(forged == file(frozen(&mut small(), RECORD)));
}

/// What adds one to the number of a record need not ask whether it can.
#[test]
fn a_record_that_cannot_be_is_refused() {
    let root = frozen(&mut small(), RECORD).header.root;
    let record = NUMBER_END;
    let header = SnapshotHeader { node: NODE, record, head: HEAD, root, parts: 0 };
    assert_eq!(expected(&header.encode()), "the number of a record");
}

#[test]
fn rows_out_of_order_or_twice_are_refused() {
    let swapped = [row(256, &Key(3)), row(1, &Key(2))].concat();
    let swapped = forge(1, &[part(7, 2, &[2, 1], &[swapped, rows()[1].clone()])]);
    assert!(verify(&swapped).is_ok(), "the content is right");
    assert_eq!(expected(&swapped), "a key after the one before");
    let twice = [row(1, &Key(2)), row(1, &Key(2))].concat();
    let twice = forge(1, &[part(7, 2, &[2, 1], &[twice, rows()[1].clone()])]);
    let refused = verify(&twice).unwrap_err().to_string();
    assert!(refused.ends_with("expected a key that was not there before"), "{refused}");
}

#[test]
fn a_table_has_exactly_the_rows_that_its_header_counts() {
    let [counts, texts] = rows();
    let fewer = forge(1, &[part(7, 2, &[1, 1], &[counts.clone(), texts.clone()])]);
    assert_eq!(expected(&fewer), "the end of the table");
    let more = forge(1, &[part(7, 2, &[3, 1], &[counts.clone(), texts.clone()])]);
    assert_eq!(expected(&more), "a row");
    let cut = counts[..counts.len() - 1].to_vec();
    let cut = forge(1, &[part(7, 2, &[2, 1], &[cut, texts])]);
    assert_eq!(expected(&cut), "a row");
}

#[test]
fn a_chunk_that_could_have_held_more_is_refused() {
    let [counts, texts] = rows();
    let (one, two) = counts.split_at(16);
    let split = forge(1, &[part(7, 2, &[2, 1], &[one.to_vec(), two.to_vec(), texts.clone()])]);
    assert_eq!(expected(&split), "a row");
    let empty = forge(1, &[part(7, 2, &[2, 1], &[vec![], counts, texts])]);
    assert_eq!(expected(&empty), "1 byte to 1 MiB");
}

#[test]
fn a_row_that_claims_more_than_there_is_holds_no_memory() {
    let mut claim = vec![0xff; 8];
    claim.resize(CHUNK_BYTES, 0);
    let forged = forge(1, &[part(7, 2, &[1, 0], &[claim, vec![1]])]);
    assert_eq!(expected(&forged), "a row");
}

#[test]
fn parts_come_in_order_of_tag() {
    let notes = part(7, 2, &[2, 1], &rows());
    for tag in [6, 7] {
        let refused = verify(&forge(2, &[notes.clone(), part(tag, 1, &[], &[])])).unwrap_err();
        let refused = refused.to_string();
        assert!(refused.ends_with("expected a tag above the one before"), "{refused}");
    }
}

#[test]
fn l36_a_part_or_schema_version_that_is_unknown_is_named() {
    let refused = restore(&forge(1, &[part(8, 2, &[], &[])]), 1000).unwrap_err();
    assert_eq!(refused, Refused::Unreadable(Unreadable::Tag { tag: 8 }));
    let refused = restore(&forge(1, &[part(7, 3, &[2, 1], &rows())]), 1000).unwrap_err();
    let text =
        "upgrade needed: schema version 3 of notes (tag 7) is unknown, this program writes 2";
    assert_eq!(refused.to_string(), text);
}

#[test]
fn counts_beyond_all_measure_are_refused_before_anything_is_read() {
    let many = u32::MAX;
    let header = SnapshotHeader {
        node: NODE,
        record: RECORD,
        head: HEAD,
        root: StateRoot::from_bytes([0; 32]),
        parts: many,
    };
    let refused = verify(&header.encode()).unwrap_err().to_string();
    assert!(refused.ends_with("expected at most 1024 parts"), "{refused}");
    let mut start = forge(1, &[]);
    start.truncate(HEADER_BYTES);
    start.extend_from_slice(&[7, 0, 2, 0, 1, 4, 0, 0]);
    let refused = verify(&start).unwrap_err().to_string();
    assert!(refused.ends_with("expected at most 1024 tables"), "{refused}");
}

#[test]
fn a_format_that_is_unknown_is_named_and_damage_is_not_taken_for_one() {
    let mut newer = MAGIC.to_vec();
    newer.extend_from_slice(&[2, 0]);
    newer.resize(HEADER_BYTES - HASH_BYTES, 0xee);
    let header = hash(HEADER_DOMAIN, &newer);
    newer.extend_from_slice(&header);
    let mut damaged = forge(0, &[]);
    damaged[MAGIC.len()] ^= 1;
    assert_eq!(verify(&damaged).unwrap_err(), Refused::Damaged { what: "header", offset: 0 });
    let refused = verify(&newer).unwrap_err();
    assert_eq!(refused, Refused::Format { found: 2 });
    assert_eq!(refused.to_string(), "upgrade needed: format 2 is unknown");
}

#[test]
fn fields_that_must_be_zero_are_zero() {
    let good = forge(1, &[part(7, 2, &[2, 1], &rows())]);
    for at in [6, 7, 100, 103] {
        let mut bad = good[..HEADER_BYTES - 32].to_vec();
        bad[at] = 1;
        let sum = hash(HEADER_DOMAIN, &bad);
        bad.extend_from_slice(&sum);
        let refused = verify(&bad).unwrap_err();
        let Refused::Malformed { why, .. } = refused else {
            panic!("{at}: {refused}");
        };
        assert_eq!(why.expected, "zero", "{at}");
    }
    let start = [7_u8, 0, 2, 0, 0, 0, 0, 0];
    assert_eq!(hash(PART_DOMAIN, &start), part(7, 2, &[], &[])[8..]);
}

/// A text of version 1 of the demo: at most 255 bytes.
#[derive(Clone, Debug)]
struct Short(Vec<u8>);

impl Wire for Short {
    fn encode(&self, out: &mut Vec<u8>) {
        put_str8(out, &self.0);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(reader.str8()?.to_vec()))
    }
}

/// Goal: L36 and L80 for snapshots. Method: a file of schema version 1, with the root that it had
/// then, is loaded by the program of version 2.
#[test]
fn l36_a_snapshot_of_an_older_schema_version_is_checked_as_it_is_and_loaded_as_of_today() {
    let mut old = Table::<Key, Short>::new();
    for (key, text) in [(3, "three"), (1, "one"), (2, "")] {
        old.insert(Key(key), Short(text.into()));
    }
    let root = part_root(&[old.root()]);
    let tables = vec![old.freeze()];
    let mut state = frozen(&mut small(), RECORD);
    state.parts = vec![FrozenPart { tag: 7, version: 1, root, tables }];
    state.header.root = StateRoot::of_parts(&[(7, root)]);
    let golden = "b2b8f0298f57fab0e7370b3a6c6ef922b3976c958cd8cf5d208d3bb23ebe7ad8";
    assert_eq!(state.header.root.to_string(), golden);

    let good = file(state.clone());
    let (header, mut read) = restore(&good, 100).unwrap();
    assert_eq!(header, state.header);
    let mut wanted = Notes { length: 8, ..Notes::default() };
    wanted.texts.insert(Key(1), Text(b"one".to_vec()));
    wanted.texts.insert(Key(3), Text(b"three".to_vec()));
    assert_eq!(read, wanted);
    assert_eq!(NotesPart::root(&mut read), NotesPart::root(&mut wanted));

    let mut left_out = state;
    left_out.parts[0].tables = vec![Table::<Key, Short>::new().freeze()];
    assert!(matches!(restore(&file(left_out), 100), Err(Refused::Root { .. })));
}
