//! One journal, one result: the rules of recovery, L18 and L30 to L35.

use std::time::Duration;

use super::*;
use crate::ledger::journal::io::Input as Told;
use crate::ledger::rig::disk::{Disk, Outcome};
use crate::ledger::rig::{NODE, Rig, SMALL, read};

/// A stretch of records in one segment.
struct Built {
    bytes: Vec<u8>,
    chain: Chain,
    seal: Chain,
    next: u64,
    /// Where each record begins.
    places: Vec<usize>,
}

impl Built {
    fn new(first: u64, chain: Chain) -> Self {
        let header = Header { node: NODE, first, chain, created_ms: 7 };
        let bytes = header.to_bytes().to_vec();
        Self { bytes, chain, seal: header.seal(), next: first, places: Vec::new() }
    }

    /// Appends records that say that `synced`, or all before them, is durable.
    fn records(mut self, count: u64, synced: u64) -> Self {
        for _ in 0..count {
            let fields = Fields {
                kind: Kind::Events,
                number: self.next,
                time_ms: 100 + self.next,
                synced: synced.min(self.next - 1),
                count: 1,
            };
            self.places.push(self.bytes.len());
            let body = [self.next.to_le_bytes()[0]; 20];
            self.chain = record::encode(&fields, &body, &self.chain, &mut self.bytes);
            self.next += 1;
        }
        self
    }

    fn marker(mut self, synced: u64) -> Self {
        let number = self.next - 1;
        let fields = Fields { kind: Kind::Marker, number, time_ms: 0, synced, count: 0 };
        record::encode(&fields, &[], &self.seal, &mut self.bytes);
        self
    }

    /// Fills the file up with zeros.
    fn file(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.resize(4_096, 0);
        bytes
    }
}

fn disk(files: &[(u64, Vec<u8>)]) -> Disk {
    let mut disk = Disk::default();
    for (first, bytes) in files {
        disk.put(File::Segment(*first), bytes.clone());
    }
    disk
}

fn recover(files: &[(u64, Vec<u8>)]) -> Result<Recovered, Refusal> {
    read(&disk(files), NODE, Head::default()).map(|(entries, found)| {
        assert_eq!(entries.len() as u64, found.head.record);
        found
    })
}

#[test]
fn an_empty_folder_is_an_empty_journal() {
    assert_eq!(recover(&[]), Ok(Recovered::default()));
}

#[test]
fn all_records_are_handed_out_in_order_across_segments() {
    let one = Built::new(1, [0; 32]).records(5, 0).marker(5);
    let two = Built::new(6, one.chain).records(3, 5);
    let files = [(1, one.file()), (6, two.file())];
    let (entries, found) = read(&disk(&files), NODE, Head::default()).expect("it is whole");
    assert_eq!(entries.iter().map(|entry| entry.number).collect::<Vec<_>>(), Vec::from_iter(1..9));
    assert_eq!(entries[7].body[..20], [8; 20]);
    assert_eq!((entries[7].time_ms, entries[7].count), (108, 1));
    assert_eq!(found.head, Head { record: 8, hash: two.chain });
    assert_eq!(found.time_ms, 108);
    assert_eq!(found.torn, None);
    let known: Vec<u64> = found.segments.iter().map(|known| known.first).collect();
    assert_eq!(known, [1, 6]);
}

/// What nothing proves durable is handed to the journal, and nothing else.
#[test]
fn the_tail_is_what_nothing_proves_durable() {
    let built = Built::new(1, [0; 32]).records(3, 0).records(2, 2);
    let found = recover(&[(1, built.file())]).expect("it is whole");
    let tail = found.tail.expect("3 to 5");
    assert_eq!(found.durable, 2);
    assert_eq!(tail.bytes, built.bytes[built.places[2]..]);
    let second = Frame::parse(&built.bytes[built.places[1]..]).expect("a record");
    assert_eq!(tail.chain, second.stored());
    let found = recover(&[(1, Built::new(1, [0; 32]).records(5, 0).marker(5).file())]);
    assert_eq!(found.map(|found| (found.durable, found.tail)), Ok((5, None)));
}

/// L31, L32: bytes that are no record, and nothing that says they were acknowledged.
#[test]
fn a_torn_tail_is_reported_and_superseded() {
    let built = Built::new(1, [0; 32]).records(5, 3);
    let from = built.places[4];
    for at in from..built.bytes.len() {
        let mut torn = built.file();
        torn[at] ^= 1;
        let found = recover(&[(1, torn.clone())]).expect("L31: a torn tail");
        let file = File::Segment(1);
        assert_eq!(found.head.record, 4);
        assert_eq!(found.torn, Some(Torn { file, offset: from as u64, record: 5 }));
        let next = Built::new(5, found.head.hash).records(1, 4);
        let found = recover(&[(1, torn), (5, next.file())]).expect("superseded");
        assert_eq!((found.head.record, found.torn), (5, None), "reported once");
    }
}

/// L31, L33: a later record, a marker, or a later segment says that it was acknowledged.
#[test]
fn damage_to_an_acknowledged_record_is_refused() {
    let record = Built::new(1, [0; 32]).records(5, 0).records(1, 5);
    let marker = Built::new(1, [0; 32]).records(5, 0).marker(5);
    for built in [record, marker] {
        for number in 1..=5_u64 {
            let from = built.places[usize::try_from(number).unwrap() - 1];
            for at in from..from + 96 {
                let mut rotten = built.file();
                rotten[at] ^= 1;
                let refusal = recover(&[(1, rotten)]).expect_err("L33");
                let (file, offset, at_stake) = (File::Segment(1), from as u64, 6 - number);
                let expected = Refusal::Corrupt { file, offset, record: number, at_stake };
                assert_eq!(refusal, expected, "byte {at}");
            }
        }
    }
    let one = Built::new(1, [0; 32]).records(5, 0);
    let two = Built::new(6, one.chain);
    let mut rotten = one.file();
    rotten[one.places[4] + 50] ^= 1;
    let refusal = recover(&[(1, rotten), (6, two.file())]).expect_err("L33");
    assert_eq!(
        refusal.to_string(),
        "journal/00000000000000000001.seg: at byte 512: record 5 is damaged; at least 1 \
         acknowledged records are at stake"
    );
}

/// Zeros can be damage too.
#[test]
fn a_sector_of_zeros_over_acknowledged_records_is_refused() {
    let built = Built::new(1, [0; 32]).records(20, 0).marker(20);
    let mut rotten = built.file();
    rotten[1_024..1_536].fill(0);
    let refusal = recover(&[(1, rotten)]).expect_err("L33");
    assert!(matches!(refusal, Refusal::Corrupt { at_stake, .. } if at_stake >= 10), "{refusal}");
}

#[test]
fn a_record_behind_a_hole_that_was_not_acknowledged_is_torn() {
    let built = Built::new(1, [0; 32]).records(20, 3);
    let mut torn = built.file();
    torn[1_024..1_536].fill(0);
    let found = recover(&[(1, torn)]).expect("nobody was told of them");
    assert!(found.head.record >= 8, "{found:?}");
    assert!(found.torn.is_some());
}

/// L31: whatever stands from the later segment's first record on.
#[test]
fn a_later_segment_supersedes_what_stands_in_the_earlier_one() {
    let one = Built::new(1, [0; 32]).records(4, 0).records(3, 4);
    let fifth = Frame::parse(&one.bytes[one.places[3]..]).expect("a record").stored();
    let mut two = Built::new(5, fifth).records(3, 4);
    let found = recover(&[(1, one.file()), (5, two.file())]).expect("the same records twice");
    assert_eq!(found.head, Head { record: 7, hash: one.chain });
    two = two.records(1, 7);
    let mut torn = one.file();
    torn[one.places[5] + 9] ^= 1;
    let found = recover(&[(1, torn), (5, two.file())]).expect("the later one is whole");
    assert_eq!(found.head, Head { record: 8, hash: two.chain });
}

/// L34.
#[test]
fn segments_that_contradict_each_other_are_refused() {
    let one = Built::new(1, [0; 32]).records(4, 0).records(3, 4);
    let fourth = Frame::parse(&one.bytes[one.places[3]..]).expect("a record").stored();
    let other = Built::new(5, fourth).records(3, 3);
    let refusal = recover(&[(1, one.file()), (5, other.file())]).expect_err("L34");
    assert_eq!(refusal, Refusal::Overlap { file: File::Segment(5), record: 5 });
    let stranger = Built::new(5, [9; 32]).records(3, 3);
    let refusal = recover(&[(1, one.file()), (5, stranger.file())]).expect_err("L34");
    assert_eq!(refusal, Refusal::Overlap { file: File::Segment(5), record: 4 });
    let shorter = Built::new(5, fourth).records(1, 4);
    let refusal = recover(&[(1, one.file()), (5, shorter.file())]).expect_err("L34");
    assert!(matches!(refusal, Refusal::Corrupt { record: 6, at_stake: 2, .. }), "{refusal}");
}

/// L34.
#[test]
fn a_gap_is_refused() {
    let one = Built::new(1, [0; 32]).records(4, 0);
    let two = Built::new(8, [3; 32]).records(4, 7);
    let refusal = recover(&[(1, one.file()), (8, two.file())]).expect_err("L34");
    let (file, offset) = (File::Segment(1), one.bytes.len() as u64);
    assert_eq!(refusal, Refusal::Gap { file, offset, record: 5, next: 8 });
    assert!(refusal.to_string().contains("records 5 to 7 are missing"), "{refusal}");
    assert_eq!(recover(&[(8, two.file())]), Err(Refusal::Missing { record: 1 }));
    let mut built = Built::new(1, [0; 32]).records(2, 0);
    built.next = 4;
    let stray = built.records(1, 0).file();
    let refusal = recover(&[(1, stray)]).expect_err("L34");
    assert!(matches!(refusal, Refusal::Gap { record: 3, next: 4, .. }), "{refusal}");
}

/// L34.
#[test]
fn foreign_unknown_and_damaged_headers_are_refused() {
    let file = File::Segment(1);
    let header = |change: fn(&mut Vec<u8>)| {
        let mut bytes = Built::new(1, [0; 32]).records(2, 0).file();
        change(&mut bytes);
        recover(&[(1, bytes)]).expect_err("L34")
    };
    let node = NodeId::from_bytes([8; 16]);
    let foreign = Header { node, first: 1, chain: [0; 32], created_ms: 0 };
    let mut bytes = foreign.to_bytes().to_vec();
    bytes.resize(4_096, 0);
    assert_eq!(recover(&[(1, bytes)]), Err(Refusal::ForeignNode { file, node }));
    assert_eq!(header(|b| b[4] = 2), Refusal::UnknownFormat { file, format: 2 });
    assert!(matches!(header(|b| b[70] ^= 1), Refusal::BadHeader { .. }));
    assert!(matches!(header(|b| b[0] ^= 1), Refusal::BadHeader { .. }));
    assert!(matches!(header(|b| b.truncate(100)), Refusal::BadHeader { .. }));
    assert!(matches!(header(Vec::clear), Refusal::BadHeader { .. }));
    let misnamed = Built::new(1, [0; 32]).records(2, 0).file();
    let refusal = recover(&[(2, misnamed)]).expect_err("L34");
    assert!(matches!(refusal, Refusal::BadHeader { file: File::Segment(2), .. }), "{refusal}");
}

/// L30: from the record after the snapshot, if it is a snapshot of this journal.
#[test]
fn recovery_begins_after_the_snapshot() {
    let one = Built::new(1, [0; 32]).records(5, 0);
    let two = Built::new(6, one.chain).records(5, 5);
    let hash = |built: &Built, nth: usize| {
        Frame::parse(&built.bytes[built.places[nth]..]).expect("a record").stored()
    };
    let all = [(1, one.file()), (6, two.file())];
    let from = |files: &[(u64, Vec<u8>)], record, hash| {
        let (entries, found) = read(&disk(files), NODE, Head { record, hash })?;
        Ok((entries.first().map(|entry| entry.number), found.head.record))
    };
    assert_eq!(from(&all, 3, hash(&one, 2)), Ok((Some(4), 10)));
    assert_eq!(from(&all, 5, one.chain), Ok((Some(6), 10)));
    assert_eq!(from(&all[1..], 5, one.chain), Ok((Some(6), 10)), "L43: the first may be gone");
    assert_eq!(from(&all, 10, two.chain), Ok((None, 10)));
    assert_eq!(from(&all, 3, [1; 32]), Err(Refusal::Differs { record: 3 }));
    assert_eq!(from(&all, 5, [1; 32]), Err(Refusal::Differs { record: 5 }));
    assert_eq!(from(&all, 10, [1; 32]), Err(Refusal::Differs { record: 10 }));
    assert_eq!(from(&all[1..], 4, hash(&one, 3)), Err(Refusal::Missing { record: 5 }));
    assert_eq!(from(&[], 4, hash(&one, 3)), Err(Refusal::Missing { record: 5 }));
    let late = from(&all, 12, [1; 32]).expect_err("a snapshot is of durable records");
    assert!(matches!(late, Refusal::Corrupt { record: 11, at_stake: 2, .. }), "{late}");
}

/// L18, and what is left of segments that never got a name.
#[test]
fn other_files_are_told_of_and_left_alone() {
    let op = Op(1);
    let mut recovery = Recovery::new(NODE, Head::default(), READ_BYTES);
    assert_eq!(recovery.poll(), Some(Output::List { op }));
    let listed = |name: &str| Listed { name: name.to_owned(), bytes: 4_096 };
    let names = ["00000000000000000004.tmp", "1.seg", "00000000000000000000.seg", "notes.txt"];
    recovery.handle(Input::Listed(names.map(listed).to_vec()));
    let Some(Output::Recovered(found)) = recovery.poll() else { panic!("{recovery:?}") };
    assert_eq!(found.leftovers, [4]);
    assert_eq!(found.strangers, names[1..]);
}

/// L64: reads may fail.
#[test]
fn what_cannot_be_read_is_refused() {
    let started = || {
        let mut recovery = Recovery::new(NODE, Head::default(), READ_BYTES);
        recovery.poll().expect("it lists");
        let name = File::Segment(1).to_string();
        recovery.handle(Input::Listed(vec![Listed { name, bytes: 4_096 }]));
        let Some(Output::ReadAt { op, offset: 0, bytes: 128, .. }) = recovery.poll() else {
            panic!("{recovery:?}")
        };
        (recovery, op)
    };
    let refused = |mut recovery: Recovery, input, error| {
        recovery.handle(input);
        let file = Some(File::Segment(1));
        let refusal = Refusal::Unreadable { file, offset: 0, error };
        assert_eq!(recovery.poll(), Some(Output::Refused(refusal)));
        assert_eq!(recovery.poll(), None);
    };
    let (recovery, op) = started();
    refused(recovery, Input::Failed(op, DiskError::Device), DiskError::Device);
    let (recovery, op) = started();
    refused(recovery, Input::Read(op, vec![0; 127]), DiskError::Short);
    let (mut recovery, op) = started();
    recovery.handle(Input::Read(Op(op.0 + 1), vec![0; 128]));
    assert_eq!(recovery.poll(), None, "an answer to another question is none");
    let mut recovery = Recovery::new(NODE, Head::default(), READ_BYTES);
    recovery.poll().expect("it lists");
    recovery.handle(Input::Failed(Op(1), DiskError::Device));
    let Some(Output::Refused(refusal)) = recovery.poll() else { panic!("{recovery:?}") };
    assert_eq!(refusal.to_string(), "journal: the folder cannot be listed: the device failed");
}

/// L35: the journal opens its segment, and a crash at each step leads to the same records.
#[test]
fn a_crash_while_the_first_segment_is_opened_changes_nothing() {
    let mut rig = Rig::new(&SMALL, None);
    rig.settle();
    for _ in 0..3 {
        rig.append(100, false).expect("there is room");
        rig.settle();
    }
    rig.append(100, false).expect("there is room");
    rig.complete(0);
    rig.crash(false, Outcome::All);
    let (entries, _) = rig.read().expect("it is whole");
    assert_eq!(entries.len(), 4, "the fourth is in memory, and nobody was told of it");
    rig.restart().expect("it is whole");
    let mut told = false;
    for _ in 0..20 {
        for outcome in [Outcome::All, Outcome::None, Outcome::Alternate, Outcome::Random(3)] {
            let mut cut = rig.clone();
            cut.crash(true, outcome);
            let (found, _) = cut.read().expect("L35");
            assert!(found.len() == 4 || !told, "it was announced");
            assert!(found.len() >= 3, "these were acknowledged before");
        }
        rig.complete(0);
        told |= rig.acknowledged.record == 4;
    }
    assert!(told, "the head is announced");
}

#[test]
fn a_scan_of_random_bytes_ends() {
    let mut bytes = Built::new(1, [0; 32]).records(2, 0).file();
    let mut state = 1_u64;
    for (at, byte) in bytes.iter_mut().enumerate().skip(400) {
        state = crate::digest::mix(state.wrapping_add(at as u64), 0x9e37_79b9_7f4a_7c15);
        *byte = state.to_le_bytes()[0];
    }
    let found = recover(&[(1, bytes)]).expect("nothing there was acknowledged");
    assert_eq!(found.head.record, 2);
}

/// Records that begin one inside the other, each as long as what is left of the file: to compare
/// all with their hashes takes the square of its length. The node does not start on such a file.
#[test]
fn a_file_that_takes_too_long_to_search_is_refused() {
    let built = Built::new(1, [0; 32]).records(2, 0);
    let (mut bytes, from) = (built.file(), built.bytes.len());
    bytes.resize(8_192, 0);
    let size = bytes.len();
    for at in (from..size - MARKER_BYTES).step_by(HEAD_BYTES) {
        let length = u32::try_from(size - at).unwrap();
        bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        bytes[at + 4] = 1;
        bytes[at + 8..at + 16].copy_from_slice(&4_u64.to_le_bytes());
        bytes[at + 24..at + 32].copy_from_slice(&3_u64.to_le_bytes());
        bytes[at + 32] = 1;
    }
    let (file, offset) = (File::Segment(1), from as u64);
    let expected = Refusal::Corrupt { file, offset, record: 3, at_stake: 1 };
    assert_eq!(recover(&[(1, bytes.clone())]), Err(expected));
    bytes[from + 5 * HEAD_BYTES..].fill(0);
    let found = recover(&[(1, bytes)]).expect("a few are looked at");
    assert_eq!(found.torn.map(|torn| torn.record), Some(3));
}

#[test]
fn a_stopped_node_starts_with_nothing_to_write_again() {
    let mut rig = Rig::new(&SMALL, None);
    rig.settle();
    rig.append(100, false).expect("there is room");
    rig.wait(Duration::from_millis(1));
    rig.input(Told::Stop);
    rig.settle();
    rig.crash(true, Outcome::None);
    rig.restart().expect("it is whole");
    rig.settle();
    let firsts: Vec<u64> = rig.journal.segments().map(|known| known.first).collect();
    assert_eq!(firsts, [1, 2]);
}
