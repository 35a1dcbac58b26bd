//! Properties of journal and recovery together, over any order of appends, faults and crashes
//! (section 8): each with saboteurs that the very same check must catch.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::journal::io::{DiskError, Output};
use super::rig::disk::Outcome;
use super::rig::{Rig, SMALL, Saboteur};

/// How many sequences a saboteur may pass before it must be caught.
const TRIES: usize = 400;

#[derive(Clone, Copy, Debug)]
enum Step {
    Append { records: usize, length: usize, frees: bool },
    Complete(usize),
    Fail(usize, DiskError, Outcome),
    Settle,
    Wait(u64),
    Crash { power: bool, outcome: Outcome },
    Room(bool),
    Snapshot,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::All),
        Just(Outcome::None),
        Just(Outcome::Alternate),
        any::<u64>().prop_map(Outcome::Random),
    ]
}

fn append() -> impl Strategy<Value = Step> {
    (1_usize..12, 9_usize..300, any::<bool>()).prop_map(|(records, length, frees)| Step::Append {
        records,
        length,
        frees,
    })
}

/// Appends and crashes, on a disk that never fails.
fn honest() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => append(),
        12 => any::<usize>().prop_map(Step::Complete),
        3 => Just(Step::Settle),
        2 => (1_u64..30).prop_map(Step::Wait),
        2 => (any::<bool>(), outcome()).prop_map(|(power, outcome)| Step::Crash { power, outcome }),
        1 => Just(Step::Snapshot),
    ]
}

/// The same, on a disk that is full now and then.
fn full() -> impl Strategy<Value = Step> {
    let fails = (any::<usize>(), outcome());
    prop_oneof![
        12 => honest(),
        2 => fails.prop_map(|(nth, outcome)| Step::Fail(nth, DiskError::NoSpace, outcome)),
        1 => any::<bool>().prop_map(Step::Room),
        1 => (900_u64..1_100).prop_map(Step::Wait),
    ]
}

/// The same, on a disk that fails in every way.
fn failing() -> impl Strategy<Value = Step> {
    let error = prop_oneof![Just(DiskError::Device), Just(DiskError::Short)];
    let fails = (any::<usize>(), error, outcome());
    prop_oneof![
        16 => full(),
        2 => fails.prop_map(|(nth, error, outcome)| Step::Fail(nth, error, outcome)),
    ]
}

/// Runs the steps, lets the disk heal, cuts the power, and starts again.
fn run(steps: &[Step], saboteur: Option<Saboteur>) -> Result<(), String> {
    let mut rig = Rig::new(&SMALL, saboteur);
    let mut failed = false;
    for step in steps {
        match *step {
            Step::Append { records, length, frees } => {
                for _ in 0..records {
                    let _ = rig.append(length, frees);
                }
            }
            Step::Complete(nth) => rig.complete(nth),
            Step::Fail(nth, error, outcome) => {
                failed |= error != DiskError::NoSpace;
                rig.fail(nth, error, outcome);
            }
            Step::Settle => rig.settle(),
            Step::Wait(ms) => rig.wait(Duration::from_millis(ms)),
            Step::Crash { power, outcome } => {
                rig.crash(power, outcome);
                rig.restart()?;
            }
            Step::Room(room) => rig.room = room,
            Step::Snapshot => rig.take_snapshot(),
        }
        rig.bounded(&SMALL)?;
        if rig.stalled && !failed {
            return Err("L76: a full disk alone never stalls the journal".to_owned());
        }
    }
    rig.heal()?;
    rig.crash(true, Outcome::None);
    rig.restart()?;
    rig.heal()?;
    let _ = rig.append(40, false);
    rig.heal()
}

/// Runs sequences until the saboteur is caught, and returns what it was caught by.
fn caught(strategy: impl Strategy<Value = Step>, saboteur: Saboteur) -> String {
    let mut runner = TestRunner::deterministic();
    let sequences = prop::collection::vec(strategy, 0..120);
    for _ in 0..TRIES {
        let steps = sequences.new_tree(&mut runner).expect("it has values").current();
        if let Err(told) = run(&steps, Some(saboteur)) {
            return told;
        }
    }
    panic!("{saboteur:?} was not caught in {TRIES} sequences")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// L70, L71, L74, L35, L78: nothing acknowledged is lost, what is recovered is a prefix, and
    /// no crash of an honest disk leads to a refusal.
    #[test]
    fn no_crash_loses_what_was_acknowledged(
        steps in prop::collection::vec(honest(), 0..120),
    ) {
        run(&steps, None).map_err(TestCaseError::fail)?;
    }

    /// L76: a full disk costs no acknowledged record, and the journal resumes by itself.
    #[test]
    fn no_full_disk_loses_what_was_acknowledged(
        steps in prop::collection::vec(full(), 0..120),
    ) {
        run(&steps, None).map_err(TestCaseError::fail)?;
    }

    /// L75: no failed write, sync, rename or sync of the folder costs an acknowledged record.
    #[test]
    fn no_failed_sync_loses_what_was_acknowledged(
        steps in prop::collection::vec(failing(), 0..120),
    ) {
        run(&steps, None).map_err(TestCaseError::fail)?;
    }
}

/// L43, L70: a process ends between the rename of a segment and the sync of the folder; the next
/// one finds no room, and a snapshot would let the segment before go. Found by the property above.
#[test]
fn a_segment_stays_until_the_name_of_the_next_is_durable() {
    let mut rig = Rig::new(&SMALL, None);
    rig.append(9, false).expect("there is room");
    rig.settle();
    rig.take_snapshot();
    rig.crash(false, Outcome::All);
    rig.restart().expect("L74");
    let syncs_folder = |rig: &Rig| rig.out().iter().any(|it| matches!(it, Output::SyncDir { .. }));
    while !syncs_folder(&rig) {
        rig.complete(0);
    }
    rig.crash(false, Outcome::None);
    rig.restart().expect("L74");
    let segments = |rig: &Rig| rig.journal.segments().map(|known| known.first).collect::<Vec<_>>();
    assert_eq!(segments(&rig), [1, 2], "the second has a name that a power cut may take");
    rig.room = false;
    rig.append(9, false).expect("nothing has failed yet");
    rig.settle();
    rig.take_snapshot();
    assert!(rig.out().is_empty(), "nothing is removed: {:?}", rig.out());
    let mut cut = rig.clone();
    cut.crash(true, Outcome::None);
    cut.restart().expect("L70");
    rig.heal().expect("L76");
    rig.take_snapshot();
    rig.settle();
    assert_eq!(segments(&rig), [2], "its name is durable now");
}

#[test]
fn acknowledging_at_the_write_is_caught() {
    let told = caught(honest(), Saboteur::AcknowledgeAtWrite);
    assert!(told.starts_with("L70") || told.starts_with("L74"), "{told}");
}

#[test]
fn skipping_the_sync_of_the_folder_is_caught() {
    let told = caught(honest(), Saboteur::SkipFolderSync);
    assert!(told.starts_with("L70") || told.starts_with("L74"), "{told}");
}

#[test]
fn trusting_what_can_be_read_is_caught() {
    let told = caught(honest(), Saboteur::TrustWhatIsRead);
    assert!(told.starts_with("L70") || told.starts_with("L74"), "{told}");
}

#[test]
fn recovering_single_events_is_caught() {
    assert!(caught(honest(), Saboteur::RecoverSingleEvents).starts_with("L71"));
}

#[test]
fn syncing_the_same_file_again_is_caught() {
    let told = caught(failing(), Saboteur::SyncAgain);
    assert!(told.starts_with("L70") || told.starts_with("L74"), "{told}");
}

#[test]
fn dropping_what_did_not_fit_is_caught() {
    let told = caught(full(), Saboteur::DropWhatDidNotFit);
    assert!(told.starts_with("L7"), "{told}");
}

#[test]
fn an_unbounded_buffer_is_caught() {
    assert!(caught(honest(), Saboteur::UnboundedBuffer).starts_with("L78"));
}

/// Fills a journal of several segments and stops it cleanly; then each place of each file is
/// changed in turn, and each start must refuse: L74. The markers and what follows them are none of
/// the acknowledged records.
fn rot_everywhere(saboteur: Option<Saboteur>, width: usize) -> Result<u32, String> {
    let mut rig = Rig::new(&SMALL, saboteur);
    for _ in 0..40 {
        let _ = rig.append(150, false);
        rig.settle();
    }
    rig.input(super::journal::io::Input::Stop);
    rig.settle();
    assert!(rig.stopped && rig.acknowledged.record == 40, "all of it is marked");
    let mut places = 0;
    for (file, end) in rig.ends() {
        for from in (0..end).step_by(width) {
            let mut rotten = rig.clone();
            let to = (from + width).min(end);
            rotten.disk.rot(file, |bytes| bytes[from..to].iter_mut().for_each(|b| *b ^= 0x40));
            places += 1;
            if rotten.restart().is_ok() {
                return Err(format!("L74: byte {from} of {file} is damaged, and it starts"));
            }
            if let Err(told) = rotten.restart()
                && !told.contains("refused")
            {
                return Err(told);
            }
        }
    }
    Ok(places)
}

#[test]
fn every_byte_of_rot_in_a_marked_record_is_refused() {
    let places = rot_everywhere(None, 1).expect("L74");
    assert!(places > 40 * 200, "{places}");
}

#[test]
fn every_run_of_rot_before_the_marker_is_refused() {
    for width in [7, 72, 128, 512] {
        let places = rot_everywhere(None, width).expect("L74");
        assert!(places > 10, "{places}");
    }
}

#[test]
fn taking_every_bad_record_for_torn_is_caught() {
    let told = rot_everywhere(Some(Saboteur::TreatBadAsTorn), 1).expect_err("it is caught");
    assert!(told.starts_with("L70"), "{told}");
}
