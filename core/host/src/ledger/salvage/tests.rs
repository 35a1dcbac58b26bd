//! Goal: what a disk cannot read costs what stands there and nothing else, and is told (L33).
//! Method: a ledger of plain records, read through a disk that fails at places.

use std::fs;
use std::ops::Range;

use machines::cluster::ids::NodeId;
use tempfile::TempDir;

use super::source::{BLOCK, disk};
use super::*;

const NODE: NodeId = NodeId::from_bytes([7; 16]);
/// Records of the segment.
const RECORDS: u64 = 40;
/// Bytes in each.
const BODY: usize = 600;

/// A folder with one segment; where each record stands in it, from the first.
fn ledger() -> (TempDir, Vec<Range<u64>>) {
    let folder = tempfile::tempdir().unwrap();
    for part in Folder::ALL {
        fs::create_dir(folder.path().join(part.name())).unwrap();
    }
    let mut chain = [0; HASH_BYTES];
    let header = Header { node: NODE, first: 1, chain, created_ms: 1 };
    let mut bytes = header.to_bytes().to_vec();
    let mut places = Vec::new();
    for number in 1..=RECORDS {
        let fields =
            Fields { kind: Kind::Events, number, time_ms: 1, synced: number - 1, count: 1 };
        let start = bytes.len() as u64;
        chain = encode(&fields, &[number.to_le_bytes()[0]; BODY], &chain, &mut bytes);
        places.push(start..bytes.len() as u64);
    }
    bytes.resize(1 << 16, 0);
    fs::write(folder.path().join("journal/00000000000000000001.seg"), bytes).unwrap();
    (folder, places)
}

/// Salvages through a disk that cannot read these bytes.
fn salvage(folder: &TempDir, bad: &Range<u64>) -> Salvaged {
    let broken = |path: &Path, offset: u64, bytes: u64| match offset < bad.end
        && bad.start < offset + bytes
    {
        true => Err(io::Error::from_raw_os_error(5)),
        false => disk(path, offset, bytes),
    };
    let ledger = Ledger::open(folder.path(), Path::new("/nowhere")).unwrap();
    ledger.salvage_from(&broken, &folder.path().join("out")).unwrap()
}

/// The records in the bytes of a journal's only segment.
fn records(journal: &Path) -> Vec<u64> {
    let entry = fs::read_dir(journal).unwrap().next().unwrap().unwrap();
    let bytes = fs::read(entry.path()).unwrap();
    let mut at = HEADER_BYTES;
    let mut numbers = Vec::new();
    while let Some(Ok(frame)) = bytes.get(at..).map(Frame::parse) {
        if frame.fields.kind == Kind::Events {
            numbers.push(frame.fields.number);
        }
        at += frame.bytes().len();
    }
    numbers
}

#[test]
fn one_bad_sector_costs_the_records_on_it_and_is_told() {
    let (folder, places) = ledger();
    let hole = 2 * BLOCK..3 * BLOCK;
    // One sector: the operating system fails the read of the block around it.
    let salvaged = salvage(&folder, &(hole.start + 512..hole.start + 1_024));
    let touched = |place: &Range<u64>| place.start < hole.end && hole.start < place.end;
    let first = places.iter().position(touched).unwrap() as u64 + 1;
    let last = places.iter().rposition(touched).unwrap() as u64 + 1;
    assert_eq!(salvaged.records, Some((1, first - 1)));
    assert_eq!(salvaged.lost, [(first, last)]);
    let loose = &salvaged.loose[0];
    assert_eq!((loose.first, loose.last), (last + 1, RECORDS), "what is behind it is found");
    let out = folder.path().join("out");
    assert_eq!(records(&out.join("journal")), Vec::from_iter(1..first));
    let behind = out.join(&loose.folder).join("journal");
    assert_eq!(records(&behind), Vec::from_iter(last + 1..=RECORDS));
    let text = salvaged.to_string();
    let line = "LOST        journal/00000000000000000001.seg: bytes 8192 to 12287 cannot be read: \
                Input/output error (os error 5)\n";
    assert!(text.contains(line), "{text}");
    assert!(text.ends_with(&format!("known       up to record {RECORDS}")), "{text}");
}

#[test]
fn a_header_that_cannot_be_read_costs_no_more_than_its_block() {
    let (folder, places) = ledger();
    let salvaged = salvage(&folder, &(0..1));
    let lost = places.iter().filter(|place| place.start < BLOCK).count() as u64;
    assert_eq!(salvaged.lost, [(1, lost)]);
    assert_eq!((salvaged.records, salvaged.state), (None, 0));
    assert_eq!((salvaged.loose[0].first, salvaged.loose[0].last), (lost + 1, RECORDS));
    assert_eq!((salvaged.unreadable[0].first, salvaged.unreadable[0].last), (0, BLOCK - 1));
}

#[test]
fn what_nobody_wrote_is_told_if_it_cannot_be_read_and_costs_no_record() {
    let (folder, places) = ledger();
    let end = places.last().unwrap().end;
    assert!(end < (1 << 16) - 2 * BLOCK);
    let salvaged = salvage(&folder, &((1 << 16) - BLOCK - 1..1 << 16));
    assert_eq!((salvaged.records, salvaged.lost.len()), (Some((1, RECORDS)), 0));
    let [unreadable] = &salvaged.unreadable[..] else {
        panic!("blocks beside each other are one place: {:?}", salvaged.unreadable);
    };
    assert_eq!((unreadable.first, unreadable.last), ((1 << 16) - 2 * BLOCK, (1 << 16) - 1));
    assert!(!salvaged.to_string().contains("nothing is lost"));
}

#[test]
fn a_file_of_which_nothing_can_be_read_is_told_whole() {
    let (folder, _) = ledger();
    let salvaged = salvage(&folder, &(0..u64::MAX));
    assert_eq!((salvaged.records, salvaged.loose.len()), (None, 0));
    assert_eq!((salvaged.unreadable[0].first, salvaged.unreadable[0].last), (0, (1 << 16) - 1));
}

#[test]
fn a_sound_disk_loses_nothing() {
    let (folder, _) = ledger();
    let salvaged = salvage(&folder, &(0..0));
    assert_eq!((salvaged.records, salvaged.lost.len()), (Some((1, RECORDS)), 0));
    assert!(salvaged.to_string().ends_with("nothing is lost"));
}

/// A block that can be read at the second try is no loss.
#[test]
fn a_block_is_tried_again() {
    let (folder, _) = ledger();
    let asked = std::cell::Cell::new(0);
    let moody = |path: &Path, offset: u64, bytes: u64| {
        asked.set(asked.get() + 1);
        match bytes > BLOCK || asked.get() % 2 == 0 {
            true => Err(io::Error::from_raw_os_error(5)),
            false => disk(path, offset, bytes),
        }
    };
    let ledger = Ledger::open(folder.path(), Path::new("/nowhere")).unwrap();
    let salvaged = ledger.salvage_from(&moody, &folder.path().join("out")).unwrap();
    assert_eq!((salvaged.records, salvaged.unreadable.len()), (Some((1, RECORDS)), 0));
}

/// Many that look like records, one inside the other: what is short is found all the same, and what
/// is long is not compared with its hash again and again.
#[test]
fn a_file_that_imitates_many_records_is_searched_to_its_end() {
    let (folder, places) = ledger();
    let path = folder.path().join("journal/00000000000000000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    let (from, to) = (8_192, usize::try_from(places[30].start).unwrap());
    for at in (from..to - MARKER_BYTES).step_by(40) {
        let length = u32::try_from(bytes.len() - at).unwrap();
        bytes[at..at + 40].fill(0);
        bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        bytes[at + 4] = 1;
        bytes[at + 8..at + 16].copy_from_slice(&99_u64.to_le_bytes());
        bytes[at + 32] = 1;
    }
    fs::write(&path, bytes).unwrap();
    let salvaged = salvage(&folder, &(0..0));
    let touched = |place: &&Range<u64>| place.end > from as u64;
    let first = RECORDS - places.iter().filter(touched).count() as u64 + 1;
    assert_eq!(salvaged.records, Some((1, first - 1)));
    assert_eq!((salvaged.loose[0].first, salvaged.loose[0].last), (31, RECORDS));
    assert_eq!(salvaged.lost, [(first, 30)]);
}
