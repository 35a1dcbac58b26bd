//! A snapshot read back is the state; damage is noticed, and named.

mod forged;
mod writer;

use super::format::{CHUNK_BYTES, CHUNK_START_BYTES};
use super::*;
use crate::cluster::ids::NodeId;
use crate::ledger::fold::demo::{Key, Notes, NotesPart, Text};
use crate::ledger::fold::{Fold, FrozenPart, Held, Part, PartState, Unreadable};
use crate::ledger::record::NUMBER_END;
use crate::ledger::root::StateRoot;
use crate::ledger::table::{HashTree, Stored, Table};

pub(super) const NODE: NodeId = NodeId::from_bytes([9; 16]);
pub(super) const HEAD: [u8; 32] = [0xcc; 32];
const RECORD: u64 = 42;

/// A state with two small tables.
fn small() -> Notes {
    let mut notes = Notes::default();
    notes.counts.insert(Key(256), Key(3));
    notes.counts.insert(Key(1), Key(2));
    notes.texts.insert(Key(5), Text(b"hi".to_vec()));
    NotesPart::derive(&mut notes);
    notes
}

/// A state whose second table needs several chunks, with rows that go over their edges.
fn large() -> Notes {
    let mut notes = small();
    for (key, length) in [(10, 3 * CHUNK_BYTES), (11, 0), (12, CHUNK_BYTES - 100), (13, 900)] {
        let texts = (0..length).map(|at| at.to_le_bytes()[1] ^ at.to_le_bytes()[0]);
        notes.texts.insert(Key(key), Text(texts.collect()));
    }
    (300..5200).for_each(|key| assert!(notes.counts.insert(Key(key), Key(key)).is_none()));
    NotesPart::derive(&mut notes);
    notes
}

pub(super) fn frozen(notes: &mut Notes, record: u64) -> FrozenState {
    FrozenState::of(NODE, record, HEAD, &mut [&mut Held::<NotesPart>(notes)])
}

pub(super) fn file(state: FrozenState) -> Vec<u8> {
    let mut encoder = Encoder::new(state);
    let mut out = Vec::new();
    while let Some(piece) = encoder.piece() {
        assert!(piece.len() <= CHUNK_BYTES + CHUNK_START_BYTES, "L41: pieces are bounded");
        out.extend_from_slice(&piece);
    }
    out
}

/// Reads a snapshot that comes in pieces of `piece` bytes.
fn restore(file: &[u8], piece: usize) -> Result<(SnapshotHeader, Notes), Refused> {
    let mut notes = Notes::default();
    let mut restoring = Restoring::new(NODE, RECORD);
    for bytes in file.chunks(piece) {
        restoring.push(bytes, &mut [&mut Held::<NotesPart>(&mut notes)])?;
    }
    Ok((restoring.finish()?, notes))
}

/// Reads a snapshot as one who knows nothing of parts.
pub(super) fn verify(file: &[u8]) -> Result<SnapshotHeader, Refused> {
    let mut reader = SnapshotReader::new(None, None);
    reader.feed(file);
    while reader.poll()?.is_some() {}
    reader.finish()
}

/// Goal: the format never changes. Method: another program, written from the headers of this
/// module, made the same file.
#[test]
fn l17_the_file_of_a_known_state_never_changes() {
    let state = frozen(&mut small(), RECORD);
    let root = "165754308c0d41f6cc5abc2b061d8b8efa6c7bfdce0b22dce09a64f1bc128488";
    assert_eq!(state.header().root.to_string(), root);
    let file = file(state);
    assert_eq!(file.len(), 346);
    let hash = "b73e5eeb81845c62a97c76e001829296f03544c58dab1a074b5af6efde03f957";
    assert_eq!(blake3::hash(&file).to_string(), hash);
}

#[test]
fn l30_what_was_written_is_read_back_in_pieces_of_any_size() {
    for (mut notes, pieces) in [
        (Notes::default(), vec![1, 1000]),
        (small(), vec![1, 7, 100, 10_000]),
        (large(), vec![4096, 65_537, CHUNK_BYTES, 100 * CHUNK_BYTES]),
    ] {
        let state = frozen(&mut notes, RECORD);
        let header = *state.header();
        let file = file(state);
        assert_eq!(verify(&file), Ok(header));
        for piece in pieces {
            let (told, mut read) = restore(&file, piece).unwrap();
            assert_eq!(told, header);
            assert_eq!(read, notes);
            let root = StateRoot::of_parts(&[(NotesPart::TAG, NotesPart::root(&mut read))]);
            assert_eq!(root, header.root, "L72");
        }
    }
}

#[test]
fn l41_a_snapshot_shows_its_moment_though_the_state_goes_on() {
    let mut notes = large();
    let state = frozen(&mut notes, RECORD);
    let still = file(state.clone());
    let mut encoder = Encoder::new(state);
    let mut out = Vec::new();
    let mut nth = 0;
    while let Some(piece) = encoder.piece() {
        out.extend_from_slice(&piece);
        nth += 1;
        notes.counts.insert(Key(nth), Key(nth));
        notes.counts.remove(&Key(4000 + nth));
        notes.texts.update(&Key(12), |text| text.0.reverse());
        NotesPart::root(&mut notes);
    }
    assert!(nth > 6, "{nth} pieces");
    assert!(out == still, "the same file");
}

#[test]
fn what_is_read_back_goes_on_like_the_original() {
    let mut notes = large();
    let (_, mut read) = restore(&file(frozen(&mut notes, RECORD)), CHUNK_BYTES).unwrap();
    for notes in [&mut notes, &mut read] {
        notes.counts.insert(Key(7), Key(7));
        notes.counts.remove(&Key(3000));
        notes.texts.update(&Key(5), |text| text.0.push(b'!'));
    }
    assert_eq!(NotesPart::root(&mut read), NotesPart::root(&mut notes));
    assert_eq!(read, notes);
}

#[test]
fn every_snapshot_that_ends_early_is_refused_as_such() {
    let file = file(frozen(&mut small(), RECORD));
    for length in 0..file.len() {
        let refused = restore(&file[..length], 64).unwrap_err();
        assert!(matches!(refused, Refused::Truncated { .. }), "{length}: {refused}");
        assert!(refused.to_string().contains("too early"), "{refused}");
    }
    let more = [&file[..], &[0]].concat();
    let refused = Refused::Trailing { offset: file.len() as u64 };
    assert_eq!(restore(&more, 64).unwrap_err(), refused);
    assert_eq!(refused.to_string(), format!("goes on at byte {}, after its footer", file.len()));
}

/// Goal: damage is never taken for something else: not for another node's file, another schema
/// version or another state.
#[test]
fn every_flipped_bit_is_refused_as_damage() {
    let good = file(frozen(&mut small(), RECORD));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let refused = restore(&bad, usize::MAX).unwrap_err();
        assert_eq!(verify(&bad).unwrap_err(), refused, "bit {bit}");
        let is_damage = match &refused {
            Refused::Damaged { .. } | Refused::Truncated { .. } => true,
            Refused::Magic => bit < 32,
            Refused::Format { found } => (32..48).contains(&bit) && *found != 1,
            // Lengths, and zeros beside them, are looked at before the hash that they lead to.
            Refused::Malformed { why, .. } => {
                ["at most 1024 tables", "1 byte to 1 MiB", "zero"].contains(&why.expected)
            }
            Refused::Trailing { .. }
            | Refused::Foreign { .. }
            | Refused::Record { .. }
            | Refused::Root { .. }
            | Refused::Loaded { .. }
            | Refused::Unreadable(_) => false,
        };
        assert!(is_damage, "bit {bit}: {refused}");
    }
    let mut bad = good.clone();
    bad[200] ^= 1;
    let refused = restore(&bad, usize::MAX).unwrap_err().to_string();
    assert_eq!(refused, "damaged: the hash of the chunk at byte 184 does not hold");
}

#[test]
fn a_refusal_stays_whatever_comes_after() {
    let mut reader = SnapshotReader::new(None, None);
    reader.feed(b"LKS2");
    assert_eq!(reader.poll().unwrap_err(), Refused::Magic);
    reader.feed(&file(frozen(&mut small(), RECORD)));
    assert_eq!(reader.poll().unwrap_err(), Refused::Magic);
    assert_eq!(reader.finish(), Err(Refused::Magic));
}

#[test]
fn l30_a_snapshot_of_another_node_or_record_is_refused() {
    let other = NodeId::from_bytes([8; 16]);
    let foreign = FrozenState::of(other, RECORD, HEAD, &mut [&mut Held::<NotesPart>(&mut small())]);
    let refused = restore(&file(foreign), usize::MAX).unwrap_err();
    assert_eq!(refused, Refused::Foreign { found: other, wanted: NODE });
    assert_eq!(refused.to_string(), format!("of node {other}, not {NODE}"));
    let renamed = file(frozen(&mut small(), RECORD + 1));
    let refused = restore(&renamed, usize::MAX).unwrap_err();
    assert_eq!(refused, Refused::Record { found: RECORD + 1, wanted: RECORD });
}

/// Goal: L72's saboteur is caught: a table left out of the snapshot.
/// Method: write one whose second table is empty, and one that has no second table.
#[test]
fn l72_a_table_that_is_left_out_is_noticed_by_its_root() {
    let good = frozen(&mut small(), RECORD);
    let mut empty = good.clone();
    empty.parts[0].tables[1] = Table::<Key, Text>::new().freeze();
    let mut short = good.clone();
    short.parts[0].tables.pop();
    let mut apart = good.clone();
    apart.parts.clear();
    apart.header.parts = 0;
    for sabotaged in [&empty, &short, &apart] {
        let refused = verify(&file(sabotaged.clone())).unwrap_err();
        let Refused::Root { found, wanted } = refused else {
            panic!("{refused}");
        };
        assert_eq!(wanted, good.header.root);
        assert_ne!(found, wanted);
    }
    assert!(matches!(restore(&file(empty), 100), Err(Refused::Root { .. })));
    assert!(matches!(restore(&file(apart), 100), Err(Refused::Root { .. })));
    let fewer = Unreadable::Tables { part: "notes", found: 1, known: 2 };
    assert_eq!(restore(&file(short), 100).unwrap_err(), Refused::Unreadable(fewer));
}

/// A part that forgets its second table when it is loaded.
struct Forgetful<'a>(Held<'a, NotesPart>);

impl PartState for Forgetful<'_> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn tag(&self) -> u16 {
        self.0.tag()
    }

    fn root(&mut self) -> [u8; 32] {
        PartState::root(&mut self.0)
    }

    fn settle(&mut self, steps: u32) -> u32 {
        self.0.settle(steps)
    }

    fn freeze(&mut self) -> FrozenPart {
        self.0.freeze()
    }

    fn begin(&mut self, version: u16, tables: u32) -> Result<bool, Unreadable> {
        self.0.begin(version, tables)
    }

    fn load(&mut self, version: u16, row: (u32, &[u8], &[u8])) -> Result<(), Unreadable> {
        match row.0 {
            1 => Ok(()),
            _ => self.0.load(version, row),
        }
    }

    fn seal(&mut self, version: u16, table: u32, tree: HashTree) -> Result<(), Unreadable> {
        match table {
            1 => Ok(()),
            _ => self.0.seal(version, table, tree),
        }
    }

    fn end(&mut self) {
        self.0.end();
    }
}

#[test]
fn l72_a_table_that_is_forgotten_when_loading_is_noticed_by_its_root() {
    let file = file(frozen(&mut small(), RECORD));
    let mut notes = Notes::default();
    let mut part = Forgetful(Held(&mut notes));
    let refused = Restoring::new(NODE, RECORD).push(&file, &mut [&mut part]).unwrap_err();
    assert_eq!(refused, Refused::Loaded { part: "notes" });
    assert_eq!(refused.to_string(), "notes has another root than its tables here");
}

#[test]
fn names_have_twenty_digits_and_nothing_else_is_a_name() {
    let snapshot = FileName::Snapshot(42);
    assert_eq!(snapshot.to_string(), "00000000000000000042.snap");
    assert_eq!(FileName::Temporary(42).to_string(), "00000000000000000042.snap.tmp");
    for name in [snapshot, FileName::Temporary(0), FileName::Snapshot(NUMBER_END - 1)] {
        assert_eq!(FileName::parse(&name.to_string()), Some(name));
    }
    for name in [
        "",
        "42.snap",
        "00000000000000000042.seg",
        "00000000000000000042.snap~",
        "000000000000000000042.snap",
        "99999999999999999999.snap",
        "18446744073709551615.snap",
        "09223372036854775808.snap.tmp",
        "+0000000000000000042.snap",
        "0000000000000000004é.snap",
    ] {
        assert_eq!(FileName::parse(name), None, "{name}");
    }
}
