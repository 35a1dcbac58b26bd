//! Properties of snapshots: what is written is read back, and no crash leaves less than there was.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::tests::{NODE, file, frozen, verify};
use super::*;
use crate::Instant;
use crate::ledger::fold::demo::{Event, Key, Notes, NotesPart, Text};
use crate::ledger::fold::{Fold, Held};

fn event() -> impl Strategy<Value = Event> {
    let key = || (0..300_u32).prop_map(|key| Key(key.wrapping_mul(0x9e37_79b9)));
    let text = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Text);
    prop_oneof![
        2 => (key(), any::<u32>()).prop_map(|(key, by)| Event::Counted { key, by: Key(by) }),
        4 => (key(), text()).prop_map(|(key, text)| Event::Wrote { key, text }),
        1 => key().prop_map(|key| Event::Erased { key }),
    ]
}

fn notes(events: &[Event]) -> Notes {
    let mut notes = Notes::default();
    events.iter().for_each(|event| NotesPart::apply(&mut notes, event));
    notes
}

fn restore(record: u64, file: &[u8], piece: usize) -> Result<(SnapshotHeader, Notes), Refused> {
    let mut notes = Notes::default();
    let mut restoring = Restoring::new(NODE, record);
    for bytes in file.chunks(piece) {
        restoring.push(bytes, &mut [&mut Held::<NotesPart>(&mut notes)])?;
    }
    Ok((restoring.finish()?, notes))
}

/// A file as a disk may have it.
#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: bool,
}

/// A folder: names as programs see them, and as they are after a crash.
#[derive(Clone, Debug, Default)]
struct Folder {
    files: BTreeMap<FileName, Content>,
    /// Since the folder was synced last, each state that the names were in: any may be left (L62).
    names: Vec<BTreeMap<FileName, Content>>,
}

impl Folder {
    /// Carries out `output`, all of it.
    fn act(&mut self, output: &Output) {
        match output {
            Output::Create { file, .. } => {
                self.files.insert(*file, Content::default());
            }
            Output::Write { file, offset, bytes, .. } => {
                let content = self.files.get_mut(file).expect("it was created");
                assert_eq!(content.bytes.len() as u64, *offset);
                assert!(!content.synced);
                content.bytes.extend_from_slice(bytes);
            }
            Output::Sync { file, .. } => {
                self.files.get_mut(file).expect("it was created").synced = true;
            }
            Output::Rename { from, to, .. } => {
                let content = self.files.remove(from).expect("it was created");
                self.files.insert(*to, content);
            }
            Output::SyncDir { .. } => self.names.clear(),
            Output::Remove { file, .. } => {
                self.files.remove(file);
            }
            Output::Current(_) | Output::Abandoned { .. } => {}
        }
        self.names.push(self.files.clone());
    }

    /// Returns from which record recovery starts at worst, after a crash now: what was not synced
    /// is lost, and the names are any that they were since the folder was synced.
    fn recovered(&self) -> u64 {
        let sound = |(name, content): (&FileName, &Content)| match name {
            FileName::Snapshot(record) if content.synced => {
                let header = verify(&content.bytes).expect("what was synced is a snapshot");
                assert_eq!(header.record, *record);
                Some(*record)
            }
            FileName::Snapshot(record) => panic!("{record} has its name and is not synced"),
            FileName::Temporary(_) => None,
        };
        let newest = |names: &BTreeMap<_, _>| names.iter().filter_map(sound).max().unwrap_or(0);
        self.names.iter().map(newest).min().unwrap_or(0)
    }
}

/// How an operation ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Done,
    /// With an error, though it had its effect.
    FailedAfter,
    /// With an error and no effect.
    FailedBefore,
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![12 => Just(End::Done), 1 => Just(End::FailedAfter), 1 => Just(End::FailedBefore)]
}

fn op(output: &Output) -> Option<Op> {
    match output {
        Output::Create { op, .. }
        | Output::Write { op, .. }
        | Output::Sync { op, .. }
        | Output::Rename { op, .. }
        | Output::SyncDir { op }
        | Output::Remove { op, .. } => Some(*op),
        Output::Current(_) | Output::Abandoned { .. } => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// L17, L72: whatever happened, the state that is read back is equal and has the same root, and
    /// its snapshot is the same file.
    #[test]
    fn what_is_written_is_read_back(
        events in prop::collection::vec(event(), 0..400),
        piece in 1..5000_usize,
    ) {
        let mut notes = notes(&events);
        let state = frozen(&mut notes, 9);
        let header = *state.header();
        let written = file(state);
        let (told, mut read) = restore(9, &written, piece).expect("it is sound");
        prop_assert_eq!(told, header);
        prop_assert_eq!(&read, &notes);
        prop_assert_eq!(NotesPart::root(&mut read), NotesPart::root(&mut notes));
        prop_assert!(file(frozen(&mut read, 9)) == written);
    }

    /// No file with a changed byte, or that was cut, is taken for a snapshot.
    #[test]
    fn what_is_damaged_is_refused(
        events in prop::collection::vec(event(), 0..100),
        place in any::<prop::sample::Index>(),
        change in 1..=255_u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let good = file(frozen(&mut notes(&events), 9));
        let mut bad = good.clone();
        bad[place.index(good.len())] ^= change;
        let refused = restore(9, &bad, 1000).expect_err("it is damaged");
        let is_mistaken = matches!(refused, Refused::Unreadable(_) | Refused::Foreign { .. });
        prop_assert!(!is_mistaken, "{}", refused);
        let cut = cut.index(good.len());
        let refused = restore(9, &good[..cut], 1000).expect_err("it is cut");
        let is_truncated = matches!(refused, Refused::Truncated { .. });
        prop_assert!(is_truncated, "{}", refused);
    }

    /// No bytes make the reader fail other than by refusing them.
    #[test]
    fn the_reader_is_total(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        start in 0..200_usize,
    ) {
        let good = file(frozen(&mut notes(&[]), 9));
        let mixed = [&good[..start.min(good.len())], &bytes].concat();
        if mixed != good {
            prop_assert!(verify(&mixed).is_err());
        }
    }

    /// L42, L77: whichever operation fails, with or without effect, a crash at any instant finds a
    /// snapshot at least as new as the last that was called current; at most two and what failed
    /// stay; and no snapshot is found of a record that the journal could lose.
    #[test]
    fn a_crash_never_finds_less_than_the_current_snapshot(
        ends in prop::collection::vec(end(), 20..200),
        late in prop::collection::vec(0..3_u64, 20..200),
    ) {
        let config = SnapshotConfig { records: 5, bytes: 1000, retry: Duration::from_millis(1) };
        let mut writer = SnapshotWriter::new(config, Shelf::default(), 0);
        let (mut folder, mut now) = (Folder::default(), Instant::START);
        let (mut record, mut durable, mut current) = (0, 0, 0);
        let mut waiting: Option<Output> = None;
        let mut ends = ends.into_iter();
        for late in late {
            record += 5;
            now = now.plus_nanos(10_000_000);
            let mut inputs = vec![Input::Appended { records: 5, bytes: 100 }];
            durable = durable.max(u64::saturating_sub(record, late * 4));
            inputs.push(Input::Durable(durable));
            inputs.push(Input::Begin(frozen(&mut notes(&[]), record)));
            for input in inputs {
                let busy = waiting.is_some();
                let is_begin = matches!(input, Input::Begin(_));
                let due = writer.is_due(now);
                if is_begin && !due {
                    continue;
                }
                prop_assert!(!(is_begin && busy), "not due while one is written");
                prop_assert_eq!(writer.handle(now, input), Ok(()));
                while let Some(output) = writer.poll() {
                    prop_assert!(waiting.is_none(), "one operation at a time");
                    waiting = Some(output);
                }
            }
            while let Some(output) = waiting.take() {
                let Some(end) = ends.next() else {
                    return Ok(());
                };
                let ended = op(&output).expect("operations wait");
                let input = match end {
                    End::Done => Input::Done(ended),
                    End::FailedAfter | End::FailedBefore => {
                        Input::Failed { op: ended, error: "no luck".to_owned() }
                    }
                };
                if !matches!(end, End::FailedBefore) {
                    folder.act(&output);
                }
                prop_assert_eq!(writer.handle(now, input), Ok(()));
                while let Some(output) = writer.poll() {
                    if let Output::Current(header) = &output {
                        current = header.record;
                    }
                    if op(&output).is_some() {
                        waiting = Some(output);
                    }
                }
                let found = folder.recovered();
                prop_assert!(found >= current, "{} after {}", found, current);
                prop_assert!(found <= durable, "{} though durable is {}", found, durable);
            }
        }
        let kept = folder.files.keys().filter(|name| matches!(name, FileName::Snapshot(_)));
        prop_assert!(writer.shelf().newest_first().count() >= kept.count());
    }
}
