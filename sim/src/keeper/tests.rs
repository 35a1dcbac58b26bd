use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use machines::choices::{Override, Overrides};

use super::io::Guest;
use super::kernel::Clerk;
use super::ledger::Ledger;
use super::{Seen, Watch, World};
use crate::budget::Budget;
use crate::checker::Violation;
use crate::failure::Failure;
use crate::lab::{Case, Keep};
use crate::saboteur::{case, hunt};
use crate::scenario::Scenario;
use crate::shrink::shrink;
use crate::subject::lab;
use crate::world::Ended;

const SMALL: &str = r#"
name = "small"
about = "Notes are written while power fails."
nodes = 1
duration = "6s"
quiet = "1s"
seeds = 3

[keeper]
subject = "ledger"
snapshots = 40

[[fault]]
kind = "kill"
at = "1s"
for = "20ms"
nodes = [0]
power = true
times = 4
every = "900ms"
"#;

fn small() -> Scenario {
    Scenario::parse("small.toml", SMALL).expect("it is right")
}

fn violated(ended: &Ended) -> Option<&Violation> {
    match ended {
        Ended::Violated(violation) => Some(violation),
        Ended::Passed | Ended::Unfinished => None,
    }
}

fn scenario(name: &str) -> Scenario {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    Scenario::read(&folder.join(format!("{name}.toml"))).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// T4: the same seed gives the same run, and another seed another one.
#[test]
fn a_run_repeats_itself_and_seeds_differ() {
    let run = |seed| lab().run(&small(), seed, Keep::default()).expect("it runs").outcome;
    let first = run(0);
    assert_eq!(first.ended, Ended::Passed);
    assert!(first.strikes["recovery"] >= 5, "{:?}", first.strikes);
    assert_eq!(run(0), first);
    assert_ne!(run(1).hash, first.hash);
}

/// T50: what a keeper cannot have is refused with its place.
#[test]
fn a_keeper_of_two_nodes_or_with_a_network_is_refused() {
    let wrong = |text: &str| Scenario::parse("k.toml", text).expect_err("it is wrong").to_string();
    assert!(wrong(&SMALL.replace("nodes = 1", "nodes = 2")).contains("k.toml:4:9: must be 1"));
    let loss = SMALL.replace("kind = \"kill\"", "kind = \"loss\"\nshare = 0.1");
    assert!(wrong(&loss).contains("a keeper has no network"));
    let cluster = "name = \"x\"\nabout = \"x\"\nnodes = 2\nduration = \"9s\"\n\
                   [[fault]]\nkind = \"second-process\"\nat = \"1s\"\nnodes = [0]\n";
    assert!(wrong(cluster).contains("second-process needs [keeper]"));
    let other = SMALL.replace("\"ledger\"", "\"nothing\"");
    assert!(wrong(&other).contains("must be \"ledger\", \"kernel\" or \"bus\""));
}

/// T42: a failure of a keeper is shrunk like any other, and its file replays.
#[test]
fn a_failure_of_a_keeper_is_shrunk_and_read_again() {
    let lab = lab();
    let file = small().resolve(1).expect("it is right").file;
    let saboteur = Some("replies-at-apply".to_owned());
    let mut found = Case { file, seed: 1, overrides: Vec::new(), saboteur };
    let check = found.file.check.get_or_insert_default();
    check.properties = Some(vec![toml::Spanned::new(0..0, "L73".to_owned())]);
    let shrunk = shrink(&lab, found, "L73", Budget::ENDLESS, &mut |_| {}).expect("it fails");
    assert!(shrunk.case.file.fault.is_empty(), "no fault is needed: {:?}", shrunk.case.file.fault);
    let path = std::env::temp_dir().join(format!("lockstep-keeper-{}.toml", std::process::id()));
    let failure = Failure::new(&shrunk.case, &shrunk.violation, shrunk.hash, &path);
    failure.write(&path).expect("it can be written");
    let read = Failure::read(&path).expect("it can be read");
    std::fs::remove_file(&path).expect("it is there");
    let case = read.case_for(&lab).expect("somebody checks it");
    let ran = lab.run_case(&case, Keep::default()).expect("it runs");
    assert_eq!(violated(&ran.outcome.ended), Some(&shrunk.violation));
}

/// T12: an answer that is replaced changes the run.
#[test]
fn an_override_changes_what_a_power_cut_leaves() {
    let run = |answer| {
        let file = small().resolve(0).expect("it is right").file;
        let site = "keeper.left".to_owned();
        let overrides = vec![Override { site, who: None, nth: None, answer }];
        let case = Case { file, seed: 0, overrides, saboteur: None };
        lab().run_case(&case, Keep { trace: true, ..Keep::default() }).expect("it runs").trace
    };
    let cuts = |answer| {
        let lines = run(answer).into_iter().filter(|line| line.event == "power cut");
        lines.map(|line| line.detail).collect::<Vec<_>>()
    };
    assert_eq!(cuts(0), ["All"; 4]);
    assert_eq!(cuts(1), ["None"; 4]);
}

/// The small scenario as a sweep, whose cuts so many seeds share.
fn small_sweep(stripes: u64) -> Scenario {
    let sweep = format!("snapshots = 40\nsweep = {stripes}\nrecords = 60");
    let text = SMALL.replace("snapshots = 40", &sweep);
    let text = text.split("[[fault]]").next().expect("it has faults").to_owned();
    Scenario::parse("sweep.toml", &text).expect("it is right")
}

/// A case in which only one property is looked for.
fn sabotaged(scenario: &Scenario, seed: u64, saboteur: &str, property: &str) -> Case {
    let file = scenario.resolve(seed).expect("it is right").file;
    let saboteur = Some(saboteur.to_owned());
    let mut case = Case { file, seed, overrides: Vec::new(), saboteur };
    let check = case.file.check.get_or_insert_default();
    check.properties = Some(vec![toml::Spanned::new(0..0, property.to_owned())]);
    case
}

/// Section 8 of ledger.md, in small: every operation of a short run is a moment to cut the power.
#[test]
fn a_sweep_cuts_at_every_operation_in_four_ways() {
    let outcome = lab().run(&small_sweep(1), 0, Keep::default()).expect("it runs").outcome;
    assert_eq!(outcome.ended, Ended::Passed);
    let (cuts, recoveries) = (outcome.strikes["sweep-cut"], outcome.strikes["sweep-recovery"]);
    assert!(cuts > 60, "{cuts}");
    assert!(recoveries > 5 * cuts, "each in four ways, and some again: {recoveries} of {cuts}");
    assert!(outcome.armed["L70"] > cuts, "{:?}", outcome.armed);
}

/// Counts the operations of a run that have ended, and notes from which records its copies went on.
#[derive(Clone, Default)]
struct Sweeping {
    operations: Arc<AtomicU64>,
    recovered: Arc<Mutex<BTreeSet<u64>>>,
}

impl<G: Guest> Watch<G> for Sweeping {
    fn property(&self) -> &'static str {
        "sweeping"
    }

    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String> {
        // The first process of a copy is the second that there is.
        match (seen, world.is_fork) {
            (Seen::Ended(..), false) => _ = self.operations.fetch_add(1, Ordering::Relaxed),
            (Seen::Recovered(found), true) if world.started == 2 => {
                note(&self.recovered, found.record);
            }
            _ => {}
        }
        Ok(false)
    }
}

fn note(records: &Mutex<BTreeSet<u64>>, record: u64) {
    records.lock().expect("nobody panics with it").insert(record);
}

/// What one stripe of a sweep came to.
#[derive(Debug)]
struct Swept {
    /// At which operations it cut, counted from 1.
    cuts: Vec<u64>,
    operations: u64,
    recovered: BTreeSet<u64>,
    hash: u64,
}

fn swept<G: Guest>(scenario: &Scenario, seed: u64) -> Swept {
    let resolved = scenario.resolve(seed).expect("it is right");
    let setup = resolved.keeper_setup::<G>(Overrides::default(), None).expect("it is a keeper's");
    let watch = Sweeping::default();
    let mut world = World::new(Arc::new(setup), vec![Box::new(watch.clone())]);
    let (mut cuts, mut before) = (Vec::new(), 0);
    while world.step() {
        let struck = world.strikes().get("sweep-cut").copied().unwrap_or(0);
        if struck > before {
            cuts.push(world.cuts);
        }
        before = struck;
    }
    let outcome = world.outcome();
    assert_eq!(outcome.ended, Ended::Passed);
    let noted = |records: &Mutex<BTreeSet<u64>>| records.lock().expect("as above").clone();
    let recovered = noted(&watch.recovered);
    let operations = watch.operations.load(Ordering::Relaxed);
    Swept { cuts, operations, recovered, hash: outcome.hash }
}

/// All stripes of a sweep, which are of one run.
fn stripes<G: Guest>(scenario: &Scenario, count: u64) -> Vec<Swept> {
    let all: Vec<_> = (0..count).map(|seed| swept::<G>(scenario, seed)).collect();
    for stripe in &all {
        let (one, other) = ((stripe.hash, stripe.operations), (all[0].hash, all[0].operations));
        assert_eq!(one, other, "all are of one run");
    }
    let mut cuts: Vec<u64> = all.iter().flat_map(|stripe| stripe.cuts.clone()).collect();
    cuts.sort_unstable();
    let every: Vec<u64> = (1..=all[0].operations).collect();
    assert_eq!(cuts, every, "every operation of the run is cut once");
    all
}

/// Section 8 of ledger.md: a run is cut at every operation; the seeds that share a sweep share the
/// run, and its cuts add up to all of them.
#[test]
fn the_stripes_of_a_sweep_cut_one_run_at_every_operation_once() {
    let scenario = small_sweep(3);
    let all = stripes::<Ledger>(&scenario, 3);
    assert!(all[0].operations > 60, "{}", all[0].operations);
    assert_ne!(swept::<Ledger>(&scenario, 3).hash, all[0].hash, "the next seeds make another run");
}

/// The sweep of the kernel in small, whose cuts so many seeds share.
fn small_kernel(stripes: u64) -> Scenario {
    let mut file = scenario("kernel-crash-sweep").file;
    let keeper = file.keeper.as_mut().expect("it is a keeper's");
    let number = |number| Some(toml::Spanned::new(0..0, number));
    (keeper.sweep, keeper.records, keeper.snapshots) = (number(stripes), number(4), number(30));
    file.duration = toml::Spanned::new(0..0, "900ms".to_owned());
    file.quiet = Some(toml::Spanned::new(0..0, "300ms".to_owned()));
    Scenario::checked(file).expect("it is right")
}

/// K428: a kernel is cut at every operation, and starts go on from many of its records.
#[test]
fn a_kernel_is_cut_at_every_operation_and_goes_on_from_many_records() {
    let all = stripes::<Clerk>(&small_kernel(2), 2);
    let recovered: BTreeSet<u64> =
        all.iter().flat_map(|stripe| stripe.recovered.iter().copied()).collect();
    assert!(recovered.len() > 10, "{recovered:?}");
}

/// K428, T32: whoever forgets something after a snapshot is caught in a sweep, which starts again
/// from it; and so is whoever replies too early (K445, L70).
#[test]
fn a_sweep_of_a_kernel_catches_what_is_forgotten_and_what_is_told_too_early() {
    let scenario = small_kernel(1);
    let clean = lab().run(&scenario, 0, Keep::default()).expect("it runs").outcome;
    assert_eq!(clean.ended, Ended::Passed);
    assert!(clean.armed["K428"] > clean.strikes["sweep-cut"], "{:?}", clean.armed);
    let broken = [
        ("forgets-after-snapshot", "K428"),
        ("leaves-ready-out", "K428"),
        ("answers-at-apply", "L70"),
    ];
    for (saboteur, property) in broken {
        let case = sabotaged(&scenario, 0, saboteur, property);
        let ran = lab().run_case(&case, Keep::default()).expect("it runs");
        let violation = violated(&ran.outcome.ended).expect("it is caught");
        assert!(violation.evidence.starts_with("cut "), "{violation}");
    }
}

/// K445, K5: callers ask questions and effects are seen, and what both tell of is looked at.
#[test]
fn answers_and_effects_of_a_kernel_are_seen_and_looked_at() {
    let keep = Keep { trace: true, ..Keep::default() };
    let ran = lab().run(&scenario("kernel-services"), 0, keep).expect("it runs");
    assert_eq!(ran.outcome.ended, Ended::Passed);
    let seen = |event: &str| ran.trace.iter().filter(|line| line.event == event).count() as u64;
    let (told, effects) = (seen("→ told"), seen("→ effect"));
    assert!(told > 50 && effects > 50, "{told} answers, {effects} effects");
    let replies = seen("→ reply");
    assert!(ran.outcome.armed["K445"] > replies, "{:?} of {replies}", ran.outcome.armed);
}

/// T32: a saboteur is caught in a sweep as well, in a copy in which the power was cut.
#[test]
fn a_sweep_catches_what_is_acknowledged_too_early() {
    let case = sabotaged(&small_sweep(1), 0, "acknowledges-at-write", "L70");
    let ran = lab().run_case(&case, Keep::default()).expect("it runs");
    let violation = violated(&ran.outcome.ended).expect("it is caught");
    assert!(violation.evidence.starts_with("cut "), "{violation}");
}

/// T40: the failure file of one stripe makes the same run again, and the same cut.
#[test]
fn a_failure_of_a_sweep_is_read_again_and_cuts_at_the_same_operation() {
    let lab = lab();
    let case = sabotaged(&small_sweep(3), 7, "acknowledges-at-write", "L70");
    let found = lab.run_case(&case, Keep::default()).expect("it runs").outcome;
    let violation = violated(&found.ended).expect("it is caught");
    let path = std::env::temp_dir().join(format!("lockstep-sweep-{}.toml", std::process::id()));
    Failure::new(&case, violation, found.hash, &path).write(&path).expect("it can be written");
    let read = Failure::read(&path).expect("it can be read");
    std::fs::remove_file(&path).expect("it is there");
    let case = read.case_for(&lab).expect("somebody checks it");
    assert_eq!(lab.run_case(&case, Keep::default()).expect("it runs").outcome, found);
}

/// T32: every property of a keeper has a checker, and a saboteur that it catches.
#[test]
fn every_property_of_a_keeper_has_a_checker_and_a_saboteur() {
    let lab = lab();
    for (subject, wing) in &lab.keepers {
        let broken: Vec<&str> = wing.sheets().iter().map(|sheet| sheet.property).collect();
        for property in wing.properties() {
            let elsewhere = property.starts_with('L') && subject.name() == "kernel";
            assert!(broken.contains(&property) || elsewhere, "{property} of {}", subject.name());
        }
    }
}

/// T32, for those of the ledger: each is caught, and nothing is violated without it.
#[test]
fn every_saboteur_of_a_keeper_is_caught() {
    let lab = lab();
    let sheets: Vec<_> = lab.keepers.iter().flat_map(|(_, wing)| wing.sheets()).copied().collect();
    assert!(sheets.len() > 20, "{} saboteurs", sheets.len());
    for sheet in sheets {
        let scenarios = [scenario(sheet.scenario)];
        let hunt = hunt(&lab, sheet.name, &scenarios, Budget::ENDLESS).expect("it can be hunted");
        let hunt = hunt.expect("an endless budget is never spent");
        assert!(hunt.seeds.is_some(), "{hunt:?}");
        let case = case(&lab, sheet.name, &scenarios, 0).expect("it can be made");
        assert_eq!(case.saboteur.as_deref(), Some(sheet.name));
    }
}

/// K444, K332: who stays away for long is told what is left, goes on there, and misses no more.
#[test]
fn a_reader_that_comes_too_late_goes_on_with_what_is_kept() {
    let keep = Keep { trace: true, ..Keep::default() };
    let ran = lab().run(&scenario("kernel-late-readers"), 0, keep).expect("it runs");
    assert_eq!(ran.outcome.ended, Ended::Passed);
    let late = |line: &&crate::world::Line| line.event == "→ late";
    assert!(ran.trace.iter().filter(late).count() > 0, "nobody comes too late");
    assert!(ran.outcome.armed["K444"] > 100, "{:?}", ran.outcome.armed);
}

/// K444: each sees all that it wants, once, through every end of the process; and who skips an
/// event when it comes back is caught.
#[test]
fn readers_of_events_see_each_once_and_one_that_skips_is_caught() {
    let streams = [scenario("kernel-streams")];
    let ran = lab().run(&streams[0], 0, Keep::default()).expect("it runs");
    let outcome = ran.outcome;
    assert_eq!(outcome.ended, Ended::Passed);
    assert!(outcome.strikes["recovery"] > 2, "{:?}", outcome.strikes);
    assert!(outcome.armed["K444"] > 200, "{:?}", outcome.armed);
    let lab = lab();
    let hunt = hunt(&lab, "skips-an-event", &streams, Budget::ENDLESS).expect("it can be hunted");
    assert_eq!(hunt.expect("an endless budget is never spent").seeds, Some(1));
}

/// T32: each property of a keeper is named by a scenario, one of whose seeds must look at it.
#[test]
fn every_property_of_a_keeper_is_named_by_a_scenario() {
    let lab = lab();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let files = std::fs::read_dir(folder).expect("they are there");
    let paths = files.map(|file| file.expect("it is there").path());
    let is_scenario = |path: &std::path::PathBuf| {
        let is_toml = path.extension().is_some_and(|ending| ending == "toml");
        is_toml && !path.ends_with("Cargo.toml")
    };
    let tables = paths.filter(is_scenario);
    let scenarios = tables.map(|path| Scenario::read(&path).expect("it is right"));
    let kept: Vec<Scenario> = scenarios.filter(|scenario| scenario.file.keeper.is_some()).collect();
    let named: BTreeSet<String> = kept.iter().flat_map(|scenario| lab.to_arm(scenario)).collect();
    let properties: BTreeSet<&str> =
        lab.keepers.iter().flat_map(|(_, wing)| wing.properties()).collect();
    assert!(properties.len() > 40 && kept.len() > 20, "{properties:?} of {}", kept.len());
    let missing: Vec<_> = properties.iter().filter(|name| !named.contains(**name)).collect();
    assert!(missing.is_empty(), "no scenario demands a look at {missing:?}");
}
