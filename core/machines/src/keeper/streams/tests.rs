//! Goal: who reads events is told what it may see, where it stands, and why it gets no more.
//! Method: a keeper on a disk in memory.

use std::time::Duration;

use super::*;
use crate::keeper::io::{Folder, Input};
use crate::keeper::rig::Rig;
use crate::kernel::CommandBody;
use crate::kernel::ids::UserId;
use crate::kernel::principal::Role;
use crate::kernel::rig::submit;

fn user(name: &str, role: Role) -> Principal {
    Principal::new(UserId::parse("user", name).unwrap(), &[role])
}

fn submitted(name: &str) -> CommandBody {
    CommandBody::Submit(Box::new(submit(name)))
}

fn from(cursor: u64) -> Reading {
    Reading { cursor: Some(cursor), follow: true, ..Reading::default() }
}

/// Asks a reader's next batch and waits for it.
fn next(rig: &mut Rig, reader: Reader) -> Option<Batch> {
    rig.input(Input::Want(reader));
    rig.settle();
    rig.batches.pop().map(|(of, batch)| {
        assert_eq!((of, rig.batches.len()), (reader, 0));
        batch
    })
}

fn numbers(batch: &Batch) -> Vec<u64> {
    batch.events.iter().map(|numbered| numbered.number).collect()
}

#[test]
fn a_reader_waits_for_what_is_not_durable() {
    let mut rig = Rig::new();
    let eve = user("eve", Role::Operator);
    let reader = rig.open(&eve, from(0));
    assert_eq!(numbers(&next(&mut rig, reader).unwrap()), [1]);
    rig.input(Input::Want(reader));
    rig.send(&user("alice", Role::User), submitted("a"));
    assert!(rig.batches.is_empty());
    rig.step(); // The write.
    assert!(rig.batches.is_empty(), "K331: none not yet durable");
    rig.settle();
    let (_, batch) = rig.batches.pop().unwrap();
    assert_eq!((numbers(&batch), batch.cursor), (vec![2], 2));
}

#[test]
fn nothing_is_read_for_who_wants_nothing() {
    let mut rig = Rig::new();
    let reader = rig.open(&user("eve", Role::Operator), from(0));
    for number in 0..20 {
        rig.say(&user("alice", Role::User), submitted(&format!("p{number}"))).unwrap();
    }
    assert!(rig.batches.is_empty());
    assert_eq!(next(&mut rig, reader).unwrap().cursor, 21);
}

#[test]
fn cursors_beyond_the_last_event_and_before_the_oldest_are_refused() {
    let mut rig = Rig::new();
    let (alice, eve) = (user("alice", Role::User), user("eve", Role::Operator));
    rig.open(&eve, from(2));
    let (_, why) = rig.ended.pop().unwrap();
    assert_eq!(
        (why.code, why.text.as_str()),
        (Code::CursorAhead, "cursor 2 is beyond the last event, 1")
    );
    // Old segments go once two snapshots are behind them.
    for start in 0..4 {
        for number in 0..40 {
            rig.say(&alice, submitted(&format!("p{start}-{number}"))).unwrap();
        }
        rig.pass(Duration::from_millis(1));
        rig.restart(false);
    }
    for number in 0..60 {
        rig.say(&alice, submitted(&format!("q{number}"))).unwrap();
    }
    let files = rig.folder(Folder::Journal);
    assert!(!files.contains(&format!("{:020}.seg", 1)), "{files:?}");
    let reader = rig.open(&eve, from(0));
    assert!(next(&mut rig, reader).is_none());
    let (_, why) = rig.ended.pop().unwrap();
    assert_eq!(why.code, Code::CursorTooOld);
    let oldest: u64 = why.text.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(oldest > 1, "{why}");
    let reader = rig.open(&eve, from(oldest - 1));
    assert_eq!(numbers(&next(&mut rig, reader).unwrap())[0], oldest);
    let reader = rig.open(&eve, from(oldest - 2));
    assert!(next(&mut rig, reader).is_none(), "one before is too old");
}

#[test]
fn a_reader_of_what_there_is_ends_there() {
    let mut rig = Rig::new();
    let (alice, eve) = (user("alice", Role::User), user("eve", Role::Operator));
    rig.say(&alice, submitted("a")).unwrap();
    let reader = rig.open(&eve, Reading { follow: false, ..from(0) });
    rig.say(&alice, submitted("b")).unwrap();
    let batch = next(&mut rig, reader).unwrap();
    assert_eq!((numbers(&batch), batch.last), (vec![1, 2], true));
    assert!(next(&mut rig, reader).is_none());
    assert_eq!(rig.ended.pop().unwrap().1.code, Code::NotDurable);
    let now = Reading { follow: false, ..Reading::default() };
    let reader = rig.open(&eve, now);
    let batch = next(&mut rig, reader).unwrap();
    assert_eq!((numbers(&batch), batch.cursor, batch.last), (vec![], 3, true));
}

#[test]
fn owners_are_shown_their_own_events_and_numbers_stay() {
    let mut rig = Rig::new();
    let (alice, bob) = (user("alice", Role::User), user("bob", Role::User));
    rig.say(&alice, submitted("a")).unwrap();
    rig.say(&bob, submitted("b")).unwrap();
    rig.say(&alice, submitted("c")).unwrap();
    let reader = rig.open(&alice, from(0));
    assert_eq!(numbers(&next(&mut rig, reader).unwrap()), [2, 4]);
    let reader = rig.open(&bob, from(0));
    assert_eq!(numbers(&next(&mut rig, reader).unwrap()), [3]);
}

#[test]
fn a_clean_stop_ends_readers_with_a_reason() {
    let mut rig = Rig::new();
    let eve = user("eve", Role::Operator);
    let reader = rig.open(&eve, Reading { follow: true, ..Reading::default() });
    rig.input(Input::Want(reader));
    rig.input(Input::Stop);
    rig.settle();
    assert_eq!(
        rig.ended.pop().unwrap(),
        (reader, Refusal::new(Code::NotDurable, "the node has stopped"))
    );
    rig.input(Input::Want(reader));
    assert_eq!(rig.ended.len(), 1, "whoever asks again is told again");
}

#[test]
fn there_are_no_more_readers_than_may_be() {
    let mut rig = Rig::new();
    let eve = user("eve", Role::Operator);
    let readers: Vec<Reader> = (0..READERS_MAX).map(|_| rig.open(&eve, from(0))).collect();
    assert!(rig.ended.is_empty());
    rig.open(&eve, from(0));
    assert_eq!(rig.ended.pop().unwrap().1.code, Code::Overloaded);
    rig.input(Input::Close(readers[0]));
    rig.open(&eve, from(0));
    assert!(rig.ended.is_empty());
}

/// Twenty readers of more than one read takes, all of whom want something.
fn crowd(rig: &mut Rig) -> Vec<Reader> {
    let (alice, eve) = (user("alice", Role::User), user("eve", Role::Operator));
    for number in 0..200 {
        rig.say(&alice, submitted(&format!("p{number}"))).unwrap();
    }
    let readers: Vec<Reader> = (0..20).map(|_| rig.open(&eve, from(0))).collect();
    readers.iter().for_each(|reader| rig.input(Input::Want(*reader)));
    readers
}

#[test]
fn few_reads_are_out_at_a_time_and_readers_take_turns() {
    let mut rig = Rig::new();
    let readers = crowd(&mut rig);
    assert_eq!(rig.reads(), READS_MAX);
    let mut reads = 0;
    while rig.step() {
        reads += 1;
        assert!(rig.reads() <= READS_MAX, "{}", rig.reads());
        assert!(reads > readers.len() || rig.batches.is_empty(), "nobody is served twice first");
    }
    let given: Vec<Reader> = rig.batches.iter().map(|(reader, _)| *reader).collect();
    assert_eq!(given, readers, "first come, first served");
    assert!(rig.batches.iter().all(|(_, batch)| numbers(batch) == Vec::from_iter(1..=201)));
}

/// L20: however many follow the events, few reads come before a write, and before its sync.
#[test]
fn a_command_does_not_wait_for_all_who_read() {
    let mut rig = Rig::new();
    let readers = crowd(&mut rig);
    let call = rig.send(&user("alice", Role::User), submitted("q"));
    let mut steps = 0;
    while !rig.replies.contains_key(&call) {
        assert!(rig.step());
        steps += 1;
    }
    assert_eq!(steps, 2 * (READS_MAX + 1), "a write, a sync, and the reads before each");
    rig.settle();
    assert_eq!(rig.batches.len(), readers.len(), "and all are served");
}

/// The turn of a reader that leaves is another's, and a read of it that is out still counts.
#[test]
fn readers_that_leave_hold_up_nobody_and_are_not_read_for() {
    let mut rig = Rig::new();
    let eve = user("eve", Role::Operator);
    let readers: Vec<Reader> = (0..6).map(|_| rig.open(&eve, from(0))).collect();
    for reader in &readers[..5] {
        rig.input(Input::Want(*reader));
    }
    for left in [0, 1, 3] {
        rig.input(Input::Close(readers[left]));
    }
    assert_eq!(rig.reads(), READS_MAX, "the disk has not answered yet");
    rig.input(Input::Want(readers[5]));
    assert_eq!(rig.reads(), READS_MAX);
    let mut reads = 0;
    while rig.reads() > 0 {
        reads += 1;
        assert!(rig.step());
    }
    assert_eq!(reads, 5, "two of those that left before, and one each");
    let given: Vec<Reader> = rig.batches.iter().map(|(reader, _)| *reader).collect();
    assert_eq!(given, [readers[2], readers[4], readers[5]]);
}

/// Rot in the journal is told to who reads there, and to nobody else.
#[test]
fn a_damaged_record_ends_the_reader_and_is_named() {
    let mut rig = Rig::new();
    let (alice, eve) = (user("alice", Role::User), user("eve", Role::Operator));
    for name in ["a", "b", "c"] {
        rig.say(&alice, submitted(name)).unwrap();
    }
    let (_, bytes) = rig
        .disk
        .now
        .iter_mut()
        .find(|(file, _)| matches!(file, crate::keeper::io::File::Journal(File::Segment(1))))
        .unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last - 80] ^= 1;
    let reader = rig.open(&eve, from(0));
    assert!(next(&mut rig, reader).is_none());
    let (_, why) = rig.ended.pop().unwrap();
    assert_eq!(why.code, Code::Internal);
    assert!(why.text.contains("cannot be read"), "{why}");
    rig.say(&alice, submitted("d")).unwrap();
}
