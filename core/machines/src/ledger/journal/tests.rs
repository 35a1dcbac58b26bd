//! One sequence, one result: the rules of the journal, L16 and L20 to L26, L43.

use super::io::{BadLimit, Limits};
use super::*;
use crate::ledger::record::Frame;
use crate::ledger::recovery::io::Head;
use crate::ledger::rig::disk::Outcome;
use crate::ledger::rig::{Rig, SMALL};
use crate::ledger::segment::{HEADER_BYTES, Header};

const MS: Duration = Duration::from_millis(1);

/// A journal that has opened its first segment and prepared the next.
fn open() -> Rig {
    let mut rig = Rig::new(&SMALL, None);
    rig.settle();
    rig
}

/// What is out, in short.
fn out(rig: &Rig) -> Vec<String> {
    let short = |output: &&Output| match output {
        Output::Create { file, .. } => format!("create {}", name(*file)),
        Output::Write { file, offset, bytes, .. } => {
            format!("write {} {offset}+{}", name(*file), bytes.len())
        }
        Output::Sync { file, .. } => format!("sync {}", name(*file)),
        Output::Rename { from, to, .. } => format!("rename {} {}", name(*from), name(*to)),
        Output::Remove { file, .. } => format!("remove {}", name(*file)),
        Output::SyncDir { .. } => "sync dir".to_owned(),
        Output::Durable(head) => format!("durable {}", head.record),
        Output::Stalled(error) => format!("stalled {error:?}"),
        Output::Stopped => "stopped".to_owned(),
    };
    rig.out().iter().map(short).collect()
}

fn name(file: File) -> String {
    match file {
        File::Segment(first) => format!("s{first}"),
        File::Spare(number) => format!("t{number}"),
    }
}

/// Where what begins so is among what is out.
fn find(rig: &Rig, begins: &str) -> usize {
    let out = out(rig);
    out.iter().position(|text| text.starts_with(begins)).unwrap_or_else(|| panic!("{out:?}"))
}

/// Lets what begins so end well.
fn complete(rig: &mut Rig, begins: &str) {
    rig.complete(find(rig, begins));
}

fn fail(rig: &mut Rig, begins: &str, error: DiskError) {
    rig.fail(find(rig, begins), error, Outcome::Alternate);
}

fn fields(rig: &Rig, file: File) -> Vec<Fields> {
    let bytes = rig.disk.read(file);
    let mut at = HEADER_BYTES;
    let mut found = Vec::new();
    while let Ok(frame) = Frame::parse(&bytes[at..]) {
        found.push(frame.fields);
        at += frame.bytes().len();
    }
    found
}

#[test]
fn a_segment_gets_its_name_after_its_header_is_durable() {
    let mut rig = Rig::new(&SMALL, None);
    let mut seen = Vec::new();
    while !rig.out().is_empty() {
        seen.extend(out(&rig));
        rig.complete(0);
    }
    let expected = [
        "create t1",
        "sync t1",
        "write t1 0+128",
        "create t2",
        "create t2",
        "sync t1",
        "sync t1",
        "sync t2",
        "sync t2",
        "rename t1 s1",
        "rename t1 s1",
        "sync dir",
    ];
    assert_eq!(seen, expected);
    assert_eq!(rig.journal.segments().map(|known| known.first).collect::<Vec<_>>(), [1]);
    let header = Header::parse(rig.disk.read(File::Segment(1))).expect("L11");
    assert_eq!((header.first, header.chain), (1, [0; 32]));
}

/// L20: nothing waits for company, and what comes meanwhile goes into the next write.
#[test]
fn an_idle_journal_writes_at_once_and_the_rest_goes_together() {
    let mut rig = open();
    for _ in 0..4 {
        rig.append(8, false).expect("there is room");
    }
    assert_eq!(out(&rig), ["write s1 128+88"], "9 bytes of events, padded, and 72");
    rig.complete(0);
    assert_eq!(out(&rig), ["sync s1", "write s1 216+264"], "one write and one sync");
    complete(&mut rig, "write");
    rig.append(8, false).expect("there is room");
    assert_eq!(out(&rig), ["sync s1", "write s1 480+88"], "a write does not wait for a sync");
    assert_eq!(rig.acknowledged.record, 0);
    complete(&mut rig, "sync");
    assert_eq!(rig.acknowledged.record, 1, "L26: the others were written after it began");
    assert_eq!(out(&rig), ["write s1 480+88", "sync s1"], "nor a sync for a write");
    complete(&mut rig, "sync");
    assert_eq!(rig.acknowledged.record, 4, "L26: the fifth is not in the file yet");
    rig.settle();
    assert_eq!(rig.acknowledged.record, 5);
}

#[test]
fn a_write_takes_no_more_than_its_bound_unless_one_record_is_longer() {
    let mut rig = open();
    for _ in 0..8 {
        rig.append(200, false).expect("there is room");
    }
    complete(&mut rig, "write");
    assert_eq!(out(&rig)[1], format!("write s1 400+{}", 3 * 272), "3 of them in 1,024 bytes");
    rig.settle();
    let mut rig = open();
    rig.append(9, false).expect("there is room");
    rig.append(1_500, false).expect("there is room");
    rig.append(9, false).expect("there is room");
    complete(&mut rig, "write");
    assert_eq!(out(&rig)[1], "write s1 216+1576", "1,504 and 72, and not the one after it");
}

/// L14: what the writer knew when it wrote the record, not when it took it.
#[test]
fn a_record_carries_what_was_durable_when_it_was_written() {
    let mut rig = open();
    rig.append(9, false).expect("there is room");
    rig.append(9, false).expect("there is room");
    rig.settle();
    rig.append(9, false).expect("there is room");
    rig.settle();
    let synced: Vec<u64> = fields(&rig, File::Segment(1)).iter().map(|f| f.synced).collect();
    assert_eq!(synced, [0, 0, 2]);
}

/// L21: a segment is closed when the next record does not fit, and the next one is ready.
#[test]
fn a_segment_turns_over_when_the_next_record_does_not_fit() {
    let mut rig = open();
    // 128 + 9 × 408 = 3,800; one more, and a marker, would pass 4,096.
    for _ in 0..9 {
        rig.append(336, false).expect("there is room");
        rig.settle();
    }
    rig.append(336, false).expect("there is room");
    assert_eq!(out(&rig), ["write t2 0+128", "create t3"], "the spare was there");
    rig.settle();
    assert_eq!(rig.acknowledged.record, 10);
    assert_eq!(fields(&rig, File::Segment(1)).len(), 9);
    let second = rig.disk.read(File::Segment(10));
    let header = Header::parse(second).expect("L11");
    assert!(Frame::parse(&second[HEADER_BYTES..]).expect("a record").follows(&header.chain));
    let sizes: Vec<u64> = rig.disk.list().iter().map(|listed| listed.bytes).collect();
    assert_eq!(sizes, [4_096; 3], "two segments and the next spare, all preallocated");
}

/// A segment is named only when all before its first record is durable.
#[test]
fn a_segment_is_closed_only_when_all_of_it_is_durable() {
    let mut rig = open();
    for _ in 0..9 {
        rig.append(336, false).expect("there is room");
        rig.settle();
    }
    rig.append(100, false).expect("it fits");
    rig.append(336, false).expect("it does not");
    complete(&mut rig, "write");
    assert_eq!(out(&rig), ["sync s1"]);
    rig.complete(0);
    assert_eq!(rig.acknowledged.record, 10);
    assert_eq!(out(&rig), ["write t2 0+128", "create t3"]);
}

/// L22: more than `unsynced_max` waiting, and a record is refused; L78: memory has its bound.
#[test]
fn a_slow_disk_makes_the_journal_busy() {
    let mut rig = open();
    let mut taken = 0_u64;
    while rig.append(200, false).is_ok() {
        taken += 272;
    }
    assert_eq!(taken, 3_264, "the first that is over the bound is the last");
    assert_eq!(rig.journal.unsynced(), taken);
    assert_eq!(rig.journal.room(true), Err(Refused::Busy), "even if it would free space");
    complete(&mut rig, "write");
    assert_eq!(rig.journal.room(false), Err(Refused::Busy), "written is not durable");
    complete(&mut rig, "sync");
    assert_eq!(rig.journal.room(false), Ok(()));
    rig.settle();
    assert_eq!(rig.journal.unsynced(), 0);
}

#[test]
fn a_record_longer_than_a_segment_is_refused() {
    let mut rig = open();
    let limits = Limits { unsynced_max: 8_192, ..SMALL };
    let longest = Config::unchecked(limits.clone()).body_bytes_max();
    assert_eq!(longest, 4_096 - 128 - 72 - 72);
    assert_eq!(rig.append(5_000, false), Err(Refused::TooLong));
    let mut wide = Rig::new(&limits, None);
    let length = usize::try_from(longest).expect("small");
    assert_eq!(wide.append(length + 1, false), Err(Refused::TooLong));
    assert_eq!(wide.append(length, false), Ok(()));
    wide.settle();
    assert_eq!(wide.acknowledged.record, 1);
}

/// L23: no room for the next segment: commands are refused, what frees space is taken, and it is
/// tried again every second.
#[test]
fn a_full_disk_refuses_commands_and_takes_what_frees_space() {
    let mut rig = Rig::new(&SMALL, None);
    complete(&mut rig, "create t1");
    complete(&mut rig, "sync t1");
    rig.room = false;
    rig.settle();
    assert!(rig.journal.is_full());
    assert_eq!(rig.append(9, false), Err(Refused::DiskFull));
    assert_eq!(rig.append(9, true), Ok(()));
    rig.settle();
    assert_eq!(rig.acknowledged.record, 1, "the segment that was there has room for it");
    assert_eq!(rig.journal.deadline(), rig.now + IDLE, "the marker");
    rig.wait(10 * MS);
    rig.settle();
    assert_eq!(rig.journal.deadline(), Instant::from_millis(5) + RETRY);
    rig.wait(RETRY);
    assert_eq!(out(&rig).len(), 1, "tried again");
    rig.settle();
    assert!(rig.journal.is_full());
    rig.room = true;
    rig.wait(RETRY);
    rig.settle();
    assert_eq!(rig.append(9, false), Ok(()), "it resumes by itself");
}

/// L23: what did not fit is kept, and written again to the same place.
#[test]
fn a_write_that_finds_no_room_is_tried_again_every_second() {
    let mut rig = open();
    rig.append(9, false).expect("there is room");
    let before = out(&rig);
    for _ in 0..5 {
        fail(&mut rig, "write", DiskError::NoSpace);
        assert_eq!(out(&rig), [""; 0]);
        assert_eq!(rig.append(9, false), Err(Refused::DiskFull));
        rig.wait(999 * MS);
        assert_eq!(out(&rig), [""; 0]);
        rig.wait(MS);
        assert_eq!(out(&rig), before);
    }
    assert!(!rig.stalled, "a full disk is no broken disk");
    rig.settle();
    assert_eq!(rig.acknowledged.record, 1);
    assert_eq!(rig.append(9, false), Ok(()));
}

/// L24: after a failed sync the file is not synced again, and all that was not durable is written
/// anew, byte for byte, before anything is acknowledged.
#[test]
fn after_a_failed_sync_a_new_segment_holds_what_was_not_durable() {
    let mut rig = open();
    rig.append(9, false).expect("there is room");
    rig.settle();
    rig.append(50, false).expect("there is room");
    rig.append(60, false).expect("there is room");
    complete(&mut rig, "write");
    fail(&mut rig, "sync", DiskError::Device);
    assert_eq!(out(&rig), ["write s1 344+136"], "it waits for what is in flight");
    rig.complete(0);
    let mut seen = Vec::new();
    while !rig.out().is_empty() {
        seen.extend(out(&rig));
        assert!(rig.acknowledged.record == 1 || seen.last().is_some_and(|o| o == "sync dir"));
        rig.complete(0);
    }
    assert!(seen.iter().all(|output| output != "sync s1"), "{seen:?}");
    assert_eq!(rig.acknowledged.record, 3);
    assert_eq!(fields(&rig, File::Segment(2)).len(), 2);
    let old = &rig.disk.read(File::Segment(1))[128 + 88..];
    let new = &rig.disk.read(File::Segment(2))[HEADER_BYTES..];
    assert_eq!(old[..264], new[..264], "the same bytes");
}

#[test]
fn records_keep_coming_while_a_new_segment_is_opened() {
    let mut rig = open();
    rig.append(9, false).expect("there is room");
    complete(&mut rig, "write");
    fail(&mut rig, "sync", DiskError::Device);
    rig.append(9, false).expect("there is room");
    rig.settle();
    assert_eq!(rig.acknowledged.record, 2);
    assert_eq!(rig.journal.segments().count(), 1, "the new one has the name of the old one");
}

/// L24: three failures, and the journal is read-only.
#[test]
fn three_failures_in_a_row_stall_the_journal() {
    for begins in ["sync t", "write t", "rename", "sync dir"] {
        let mut rig = open();
        rig.append(9, false).expect("there is room");
        complete(&mut rig, "write");
        let mut failures = 0;
        fail(&mut rig, "sync", DiskError::Device);
        while !rig.stalled {
            match out(&rig).iter().any(|text| text.starts_with(begins)) {
                true => {
                    // The spare is synced as well when it is made: that is another step.
                    fail(&mut rig, begins, DiskError::Device);
                    failures += 1;
                }
                false if rig.out().is_empty() => rig.wait(RETRY),
                false => rig.complete(0),
            }
            assert!(failures <= 6, "{begins}");
        }
        assert!(failures >= 3, "{begins}");
        assert_eq!(rig.acknowledged.record, 0);
        assert_eq!(rig.append(9, true), Err(Refused::Stalled));
        assert_eq!(rig.journal.deadline(), Instant::FAR);
        rig.settle();
        rig.crash(true, Outcome::Alternate);
        rig.restart().expect("and what was acknowledged is there");
    }
}

#[test]
fn three_files_that_cannot_be_made_stall_the_journal() {
    let mut rig = Rig::new(&SMALL, None);
    for failures in 0..3 {
        assert!(!rig.stalled, "{failures}");
        fail(&mut rig, "create", DiskError::Device);
        rig.settle();
        rig.wait(RETRY);
    }
    assert!(rig.stalled);
}

#[test]
fn a_success_forgives_earlier_failures() {
    let mut rig = open();
    for _ in 0..8 {
        rig.append(9, false).expect("there is room");
        complete(&mut rig, "write");
        fail(&mut rig, "sync", DiskError::Device);
        rig.settle();
    }
    assert!(!rig.stalled);
    assert_eq!(rig.acknowledged.record, 8);
}

/// L25: a short write is as bad as a failed sync.
#[test]
fn a_short_write_opens_a_new_segment() {
    let mut rig = open();
    rig.append(9, false).expect("there is room");
    rig.settle();
    rig.append(9, false).expect("there is room");
    fail(&mut rig, "write", DiskError::Short);
    rig.settle();
    assert_eq!(rig.acknowledged.record, 2);
    assert_eq!(rig.journal.segments().map(|known| known.first).collect::<Vec<_>>(), [1, 2]);
}

/// L16: after 10 ms without a record, unsynced, and once.
#[test]
fn an_idle_journal_writes_one_marker() {
    let mut rig = open();
    rig.append(9, false).expect("there is room");
    rig.settle();
    assert_eq!(rig.journal.deadline(), rig.now + IDLE);
    rig.wait(9 * MS);
    assert_eq!(out(&rig), [""; 0]);
    rig.wait(MS);
    assert_eq!(out(&rig), ["write s1 216+72"]);
    rig.settle();
    assert_eq!(rig.journal.deadline(), Instant::FAR);
    rig.wait(100 * MS);
    assert_eq!(out(&rig), [""; 0], "neither a sync nor a second one");
    let marker = fields(&rig, File::Segment(1))[1];
    assert_eq!((marker.kind, marker.number, marker.synced), (Kind::Marker, 1, 1));
    rig.append(9, false).expect("there is room");
    rig.settle();
    let (entries, _) = rig.read().expect("a marker is no record");
    assert_eq!(entries.len(), 2);
}

/// L16: the marker of a clean stop is durable before the stop is complete.
#[test]
fn a_clean_stop_leaves_a_synced_marker() {
    let mut rig = open();
    rig.append(9, false).expect("there is room");
    rig.input(Input::Stop);
    assert_eq!(rig.append(9, true), Err(Refused::Stopping));
    rig.settle();
    assert!(rig.stopped);
    rig.crash(true, Outcome::None);
    let (_, found) = rig.read().expect("it is whole");
    assert_eq!((found.head.record, found.durable, found.tail), (1, 1, None));
}

#[test]
fn a_marker_that_was_written_in_time_is_synced_by_the_stop() {
    let mut rig = open();
    rig.append(9, false).expect("there is room");
    rig.settle();
    rig.wait(10 * MS);
    rig.settle();
    rig.input(Input::Stop);
    assert_eq!(out(&rig), ["sync s1"], "no second marker");
    rig.settle();
    assert!(rig.stopped);
    rig.crash(true, Outcome::None);
    assert_eq!(rig.read().expect("it is whole").1.durable, 1);
}

#[test]
fn an_empty_journal_stops_without_a_marker() {
    let mut rig = open();
    rig.input(Input::Stop);
    assert!(rig.stopped);
}

/// L20, L23: a file that is removed slowly is waited for; the time of the next try, which comes
/// meanwhile, is no reason to ask the journal again and again.
#[test]
fn nothing_is_due_while_a_file_is_removed() {
    let mut rig = Rig::new(&SMALL, None);
    fail(&mut rig, "create", DiskError::NoSpace);
    assert_eq!(out(&rig), ["remove t1"]);
    rig.wait(RETRY * 2);
    assert!(rig.journal.deadline() > rig.now, "{:?}", rig.journal.deadline());
    rig.complete(0);
    assert_eq!(out(&rig), ["create t2"], "it is time");
}

/// L43, L77: only what a durable snapshot covers and the retention has passed, the oldest first,
/// and one at a time.
#[test]
fn old_segments_go_when_a_snapshot_covers_them_and_their_time_is_over() {
    let limits = Limits { journal_keep: Duration::from_secs(60), ..SMALL };
    let mut rig = Rig::new(&limits, None);
    rig.settle();
    for _ in 0..30 {
        rig.append(336, false).expect("there is room");
        rig.settle();
    }
    let firsts = |rig: &Rig| rig.journal.segments().map(|known| known.first).collect::<Vec<_>>();
    assert_eq!(firsts(&rig), [1, 10, 19, 28]);
    rig.take_snapshot();
    assert_eq!(out(&rig), [""; 0], "they are too young");
    let time_ms = 1_000_005 + 60_000;
    rig.input(Input::Covered { record: 17, time_ms });
    assert_eq!(out(&rig), ["remove s1"], "record 18 is in the second");
    rig.complete(0);
    assert_eq!(out(&rig), ["sync dir"]);
    rig.complete(0);
    assert_eq!(out(&rig), [""; 0]);
    rig.input(Input::Covered { record: 30, time_ms: time_ms - 1 });
    assert_eq!(out(&rig), [""; 0], "a millisecond is missing");
    rig.input(Input::Covered { record: 30, time_ms });
    assert_eq!(out(&rig), ["remove s10"]);
    rig.complete(0);
    assert_eq!(out(&rig), ["sync dir"], "its name is gone before the next goes");
    rig.settle();
    assert_eq!(firsts(&rig), [28], "never the one that is being filled");
}

/// L23, L76: no room for the next segment, and none left in this one: what is removed makes room.
#[test]
fn old_segments_go_while_the_next_one_waits_for_room() {
    let mut rig = open();
    for _ in 0..10 {
        rig.append(336, false).expect("there is room");
        rig.settle();
    }
    rig.room = false;
    while rig.append(336, true).is_ok() && rig.journal.appended() < 31 {
        rig.settle();
    }
    rig.wait(100 * MS);
    rig.settle();
    assert_eq!(rig.acknowledged.record, 27, "three segments are full, there is no fourth");
    rig.input(Input::Covered { record: 18, time_ms: 2_000_000 });
    assert_eq!(out(&rig), ["remove s1"]);
    rig.room = true;
    rig.settle();
    rig.wait(RETRY);
    rig.settle();
    assert_eq!(rig.acknowledged.record, rig.journal.appended());
    assert_eq!(rig.journal.segments().map(|known| known.first).collect::<Vec<_>>(), [19, 28]);
}

#[test]
fn a_removal_that_fails_is_tried_again_with_the_next_snapshot() {
    let mut rig = open();
    for _ in 0..12 {
        rig.append(336, false).expect("there is room");
        rig.settle();
    }
    rig.take_snapshot();
    fail(&mut rig, "remove", DiskError::Device);
    assert_eq!(out(&rig), [""; 0]);
    rig.append(9, false).expect("nothing else is wrong");
    rig.settle();
    assert_eq!(rig.acknowledged.record, 13);
}

#[test]
fn limits_are_checked() {
    assert!(Config::new(Limits::STANDARD).is_ok());
    let wrong = |change: fn(&mut Limits)| {
        let mut limits = Limits::STANDARD;
        change(&mut limits);
        Config::new(limits).expect_err("it is not legal")
    };
    assert_eq!(wrong(|l| l.segment_bytes = (1 << 20) - 4_096), BadLimit::SegmentBytes);
    assert_eq!(wrong(|l| l.segment_bytes = (1 << 30) + 4_096), BadLimit::SegmentBytes);
    assert_eq!(wrong(|l| l.segment_bytes += 1), BadLimit::SegmentBytes);
    assert_eq!(wrong(|l| l.write_bytes_max = 4_095), BadLimit::WriteBytes);
    assert_eq!(wrong(|l| l.write_bytes_max = l.segment_bytes + 1), BadLimit::WriteBytes);
    assert_eq!(wrong(|l| l.unsynced_max = l.write_bytes_max - 1), BadLimit::Unsynced);
}

/// An earlier configuration had larger segments: what must be written anew still fits.
#[test]
fn a_long_tail_gets_a_segment_of_its_size() {
    let large = Limits { segment_bytes: 16_384, unsynced_max: 16_384, ..SMALL };
    let mut rig = Rig::new(&large, None);
    rig.settle();
    for _ in 0..20 {
        rig.append(400, false).expect("there is room");
    }
    for _ in 0..60 {
        if rig.journal.durable() == 0 && find_sync(&rig) && rig.out().len() == 1 {
            break;
        }
        match find_sync(&rig) && rig.out().len() > 1 {
            true => complete(&mut rig, "write"),
            false => rig.complete(0),
        }
    }
    rig.crash(false, Outcome::All);
    let (_, found) = rig.read().expect("it is whole");
    let tail = found.tail.clone().expect("nothing proves them durable");
    assert!(tail.bytes.len() > 4_096, "{}", tail.bytes.len());
    let head = found.head;
    let config = Config::unchecked(SMALL);
    let mut journal = Journal::new(rig.now, config, crate::ledger::rig::NODE, found);
    let mut told = Head::default();
    let mut answers = VecDeque::new();
    for _ in 0..40 {
        while let Some(output) = journal.poll() {
            let input = match output {
                Output::Create { op, bytes, .. } => {
                    assert!(told != Head::default() || bytes > 4_096);
                    Input::Done(op)
                }
                Output::Write { op, .. } => Input::Wrote(op),
                Output::Sync { op, .. } => Input::Synced(op),
                Output::Rename { op, .. } | Output::Remove { op, .. } | Output::SyncDir { op } => {
                    Input::Done(op)
                }
                Output::Durable(head) => {
                    told = head;
                    continue;
                }
                Output::Stalled(_) | Output::Stopped => unreachable!(),
            };
            answers.push_back(input);
        }
        if let Some(input) = answers.pop_front() {
            journal.handle(rig.now, input).expect("no record");
        }
    }
    assert_eq!(told, head);
}

fn find_sync(rig: &Rig) -> bool {
    out(rig).iter().any(|text| text == "sync s1")
}

/// L1: a journal is what its inputs made of it. A copy that is told the same says the same, and
/// nothing happens but what its outputs ask for: as long as none is done, nothing is durable.
#[test]
fn a_copy_that_is_told_the_same_says_the_same() {
    let mut rig = open();
    rig.append(40, false).unwrap();
    let mut twin = rig.clone();
    for step in 0..40 {
        if step % 3 == 0 {
            assert_eq!(rig.append(24 + step, false), twin.append(24 + step, false));
        }
        assert_eq!(rig.out(), twin.out(), "step {step}");
        if !rig.out().is_empty() {
            let last = rig.out().len() - 1;
            let durable = twin.journal.durable();
            rig.complete(last);
            assert_eq!(twin.journal.durable(), durable, "it has no disk of its own");
            twin.complete(last);
        }
        assert_eq!(rig.journal.durable(), twin.journal.durable(), "step {step}");
    }
    assert!(rig.journal.durable() > 5, "{}", rig.journal.durable());
}
