//! Goal: no power cut at any moment loses what was acknowledged, or keeps the node from starting.
//! Method: a workload of more than 2,000 records, with rotations, snapshots and removals, is cut
//! between every two disk operations, with four outcomes each for what was not synced; each is
//! recovered twice, and some go on from there and are cut again (section 8).

use std::time::Duration;

use super::journal::io::Limits;
use super::rig::disk::Outcome;
use super::rig::{Rig, Saboteur};

const LIMITS: Limits = Limits {
    segment_bytes: 8_192,
    write_bytes_max: 2_048,
    unsynced_max: 16_384,
    journal_keep: Duration::from_millis(40),
};
const RECORDS: u64 = 2_400;
/// One in so many cuts goes on after the recovery.
const GOES_ON: u64 = 4;

/// What a sweep came to.
#[derive(Debug, Default)]
struct Swept {
    cuts: u64,
    recoveries: u64,
    segments: u64,
}

/// Cuts the power now, in four ways.
fn cut(rig: &Rig, swept: &mut Swept) -> Result<(), String> {
    swept.cuts += 1;
    let ways = [Outcome::All, Outcome::None, Outcome::Alternate, Outcome::Random(swept.cuts)];
    for outcome in ways {
        let mut cut = rig.clone();
        cut.crash(true, outcome);
        let at = |told| format!("cut {} ({outcome:?}): {told}", swept.cuts);
        cut.restart().map_err(at)?;
        swept.recoveries += 1;
        if swept.cuts.is_multiple_of(GOES_ON) {
            goes_on(cut, swept.cuts / GOES_ON, outcome).map_err(at)?;
            swept.recoveries += 3;
        }
    }
    Ok(())
}

/// Cuts the power again while the recovered journal opens its segment, and once more later.
fn goes_on(mut rig: Rig, nth: u64, outcome: Outcome) -> Result<(), String> {
    for _ in 0..nth % 8 {
        rig.complete(0);
    }
    rig.crash(!nth.is_multiple_of(3), outcome);
    rig.restart()?;
    for _ in 0..3 {
        let _ = rig.append(100, false);
    }
    rig.settle();
    rig.crash(true, Outcome::None);
    rig.restart()?;
    rig.heal()?;
    rig.crash(true, Outcome::None);
    rig.restart()
}

fn sweep(records: u64, saboteur: Option<Saboteur>) -> Result<Swept, String> {
    let mut rig = Rig::new(&LIMITS, saboteur);
    let mut swept = Swept::default();
    let mut burst = 0_u64;
    while rig.journal.appended() < records {
        burst += 1;
        for n in 0..burst % 5 + 1 {
            let length = usize::try_from(40 + (burst * 31 + n * 17) % 160).expect("small");
            let _ = rig.append(length, false);
        }
        if burst.is_multiple_of(40) {
            rig.take_snapshot();
        }
        // Most of the time something is still out when the next records come.
        let rest = usize::from(!burst.is_multiple_of(3));
        let mut nth = 0;
        while rig.out().len() > rest {
            cut(&rig, &mut swept)?;
            nth += 1;
            rig.complete(nth * 7);
        }
        rig.wait(Duration::from_millis(burst % 13));
    }
    rig.input(super::journal::io::Input::Stop);
    while !rig.out().is_empty() {
        cut(&rig, &mut swept)?;
        rig.complete(0);
    }
    assert!(rig.stopped, "a clean stop ends: {:?}", rig.journal);
    cut(&rig, &mut swept)?;
    swept.segments = rig.journal.segments().map(|known| known.first).max().unwrap_or(0);
    Ok(swept)
}

#[test]
fn no_power_cut_loses_what_was_acknowledged() {
    let swept = sweep(RECORDS, None).expect("L70, L71, L74, L35");
    assert!(swept.cuts > 1_600, "{swept:?}");
    assert!(swept.recoveries >= 4 * swept.cuts, "{swept:?}");
    assert!(swept.segments > RECORDS - 100, "it turned over to the end: {swept:?}");
}

#[test]
fn a_sweep_catches_an_acknowledgement_at_the_write() {
    let told = sweep(200, Some(Saboteur::AcknowledgeAtWrite)).expect_err("it is caught");
    assert!(told.contains("L70"), "{told}");
}

#[test]
fn a_sweep_catches_a_folder_that_is_not_synced() {
    let told = sweep(200, Some(Saboteur::SkipFolderSync)).expect_err("it is caught");
    assert!(told.contains("L70") || told.contains("L74"), "{told}");
}
