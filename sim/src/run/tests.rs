use super::*;
use crate::checker::Known;
use crate::ring::{Ring, RingKind};

fn lab() -> Lab<Ring> {
    Lab {
        known: Known::default(),
        kind: RingKind { period: 10_000_000, streams: true, ..RingKind::default() },
        saboteurs: Vec::new(),
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
    assert_eq!(ended.scenarios[0].missed, ["never.reached"]);
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
