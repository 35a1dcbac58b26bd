use super::*;
use crate::checker::Known;
use crate::ring::{Ring, RingKind};

fn lab() -> Lab<Ring> {
    Lab {
        known: Known::default(),
        kind: RingKind { period: 10_000_000, streams: true, ..RingKind::default() },
        saboteurs: Vec::new(),
        keepers: Vec::new(),
    }
}

fn scenario(more: &str) -> Scenario {
    let text = format!(
        "name = \"calm\"\nabout = \"A ring.\"\nnodes = 3\nduration = \"2s\"\nquiet = \"1s\"\n{more}"
    );
    Scenario::parse("calm.toml", &text).unwrap()
}

fn options() -> Options {
    Options {
        seeds: Some(0..45),
        jobs: 2,
        time: None,
        shrink: Duration::ZERO,
        reports: std::env::temp_dir().join(format!("lockstep-run-{}", std::process::id())),
        bar: false,
    }
}

/// T2, T4.
#[test]
fn a_campaign_gives_the_same_hash_on_one_thread_and_on_two() {
    let scenarios = [scenario("")];
    let stop = AtomicBool::new(false);
    let two = campaign(&lab(), &scenarios, &options(), &stop);
    let one = campaign(&lab(), &scenarios, &Options { jobs: 1, ..options() }, &stop);
    assert_eq!(two.scenarios[0].hash, one.scenarios[0].hash);
    assert_eq!((two.scenarios[0].passed, two.scenarios[0].same), (45, 3));
    assert_eq!(two.exit_code(), 0);
}

/// T50: seeds without number begin at once, and end when they are told to.
#[test]
fn a_campaign_of_more_seeds_than_a_list_can_hold_ends_with_its_time() {
    let stop = AtomicBool::new(false);
    let options =
        Options { seeds: Some(0..u64::MAX), time: Some(Duration::from_millis(50)), ..options() };
    let ended = campaign(&lab(), &[scenario("")], &options, &stop);
    assert!(ended.scenarios[0].passed > 0 && !ended.complete);
}

#[test]
fn work_goes_seed_by_seed_across_scenarios_until_each_has_had_its_own() {
    let scenarios = [scenario("seeds = 1\n"), scenario("seeds = 3\n"), scenario("seeds = 2\n")];
    let jobs = Jobs::new(&scenarios, &Options { seeds: None, ..options() });
    assert_eq!(jobs.total(), 6);
    let places: Vec<_> = jobs.map(|job| (job.scenario, job.seed)).collect();
    assert_eq!(places, [(0, 0), (1, 0), (2, 0), (1, 1), (2, 1), (1, 2)]);
}

/// T5: it is reported as unfinished.
#[test]
fn a_run_over_its_step_bound_is_not_passed() {
    let stop = AtomicBool::new(false);
    let ended = campaign(&lab(), &[scenario("steps = 50\n")], &options(), &stop);
    assert_eq!((ended.scenarios[0].passed, ended.scenarios[0].unfinished), (0, 45));
    assert_eq!(ended.exit_code(), 4);
}

#[test]
fn a_stopped_campaign_is_incomplete_and_says_so() {
    let stop = AtomicBool::new(true);
    let ended = campaign(&lab(), &[scenario("")], &options(), &stop);
    assert!(!ended.complete);
    assert_eq!(ended.exit_code(), 4);
}

#[test]
fn a_mark_that_no_seed_reaches_fails_the_campaign() {
    let scenarios = [scenario("seeds = 3\n[check]\nsometimes = [\"never.reached\"]\n")];
    let ended = campaign(&lab(), &scenarios, &options(), &AtomicBool::new(false));
    assert_eq!(ended.scenarios[0].missed, ["the mark never.reached"]);
    assert_eq!(ended.exit_code(), 1);
}

#[test]
fn a_lasting_refusal_that_nobody_expects_is_a_violation() {
    let fault = "expect = [\"unreadable\"]\n\
                 [[fault]]\nkind = \"rot\"\nat = \"100ms\"\nnodes = [0]\n\
                 [[fault]]\nkind = \"kill\"\nat = \"200ms\"\nfor = \"100ms\"\nnodes = [0]\n";
    let text = scenario(fault);
    let ended = campaign(&lab(), &[text], &options(), &AtomicBool::new(false));
    let _ = std::fs::remove_dir_all(options().reports);
    assert!(ended.scenarios[0].violations["T22"] > 10, "{:?}", ended.scenarios[0].violations);
    assert_eq!(ended.exit_code(), 1);
}

/// T22: what a scenario expects, it is there to show.
#[test]
fn a_refusal_that_is_expected_and_never_comes_fails_the_campaign() {
    let text = scenario("seeds = 3\nexpect = [\"session-corrupt\"]\n");
    let ended = campaign(&lab(), &[text], &options(), &AtomicBool::new(false));
    assert_eq!(ended.scenarios[0].missed, ["the refusal session-corrupt"]);
    assert_eq!(ended.exit_code(), 1);
}

const NEVER_READ: &str = "\n[[fault]]\nkind = \"read-error\"\nat = \"600ms\"\nfor = \"900ms\"\n\
    nodes = [0]\n[[fault]]\nkind = \"kill\"\nat = \"650ms\"\nfor = \"100ms\"\nnodes = [0]\n";

#[test]
fn a_node_that_is_refused_to_the_end_is_a_violation_unless_expected() {
    let text = |expect: &str| {
        let text = format!(
            "name = \"calm\"\nabout = \"A ring.\"\nnodes = 3\nduration = \"1600ms\"\n\
             seeds = 45\n{expect}{NEVER_READ}"
        );
        Scenario::parse("calm.toml", &text).unwrap()
    };
    let stop = AtomicBool::new(false);
    let ended = campaign(&lab(), &[text("")], &options(), &stop);
    let _ = std::fs::remove_dir_all(options().reports);
    assert_eq!(ended.scenarios[0].violations["T22"], 45);
    assert_eq!(ended.scenarios[0].count(REFUSALS, "unreadable"), 45);
    let ended = campaign(&lab(), &[text("expect = [\"unreadable\"]\n")], &options(), &stop);
    assert_eq!((ended.scenarios[0].passed, ended.exit_code()), (45, 0));
}

/// T40: every failure has its file, and only some are told of one by one.
#[test]
fn every_failure_is_written() {
    let lab = crate::planted::lab();
    let mut scenario = scenario("");
    scenario.file = crate::planted::planted().file;
    let reports = std::env::temp_dir().join(format!("lockstep-files-{}", std::process::id()));
    let options = Options { seeds: Some(0..8), reports: reports.clone(), ..options() };
    let ended = campaign(&lab, &[scenario], &options, &AtomicBool::new(false));
    let files = std::fs::read_dir(reports.join("failures")).unwrap().count();
    std::fs::remove_dir_all(&reports).unwrap();
    assert_eq!(files as u64, ended.scenarios[0].failed);
    assert!(files > 5, "{files} failures");
    assert_eq!(ended.scenarios[0].examples.len(), 5);
}

/// Section 7: a budget ends a run that is under way, between two of its steps.
#[test]
fn a_run_that_would_last_for_ever_ends_with_the_time() {
    let text = "name = \"calm\"\nabout = \"A ring.\"\nnodes = 3\nduration = \"100000h\"\n\
                steps = 1000000000000\n";
    let scenario = Scenario::parse("calm.toml", text).unwrap();
    let options = Options { time: Some(Duration::from_millis(200)), ..options() };
    let ended = campaign(&lab(), &[scenario], &options, &AtomicBool::new(false));
    assert!(!ended.complete);
    assert_eq!((ended.scenarios[0].passed, ended.exit_code()), (0, 4));
}
