//! Goal: a fault that a scenario names does something in it; one that never strikes shows nothing
//! (T20, T21).
//! Method: run a few seeds of each scenario without its checkers and its ciphers, each until every
//! kind that it names has struck.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use machines::choices::Overrides;
use machines::node::Node;
use sim::guest::Cipher;
use sim::lab::Keep;
use sim::scenario::Scenario;
use sim::subject::lab;
use sim::world::World;

/// A fault with a share, or a tear, may spare a few seeds.
const SEEDS: u64 = 8;
/// How often a run is asked what has struck, in nanoseconds.
const EVERY: u64 = 1_000_000_000;

fn scenarios() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(folder).expect("the folder is part of the repository");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.retain(|path| !path.ends_with("Cargo.toml"));
    paths.sort();
    paths
}

/// What a kind does is counted under its own name, but for a partition: it cuts.
fn strike(kind: &str) -> String {
    if kind == "partition" { "cut" } else { kind }.to_owned()
}

/// Returns what is left of `kinds` once a seed has run.
fn unstruck(scenario: &Scenario, seed: u64, mut kinds: BTreeSet<String>) -> BTreeSet<String> {
    if scenario.file.keeper.is_some() {
        let ran = lab().run(scenario, seed, Keep::default()).expect("the scenario is right");
        kinds.retain(|kind| !ran.outcome.strikes.contains_key(kind.as_str()));
        return kinds;
    }
    let resolved = scenario.resolve(seed).unwrap_or_else(|(_, what)| panic!("{what}"));
    let mut setup = resolved.setup::<Node>(Overrides::default(), ());
    setup.cipher = Cipher::Null;
    let until = setup.quiet_at;
    let mut world = World::new(Arc::new(setup), Vec::new());
    let mut look = EVERY;
    while !kinds.is_empty() && world.now() < until && world.step() {
        if world.now() >= look {
            look = world.now() + EVERY;
            let struck = world.strikes();
            kinds.retain(|kind| !struck.contains_key(kind.as_str()));
        }
    }
    kinds
}

#[test]
fn every_fault_that_a_scenario_names_strikes_in_it() {
    let mut named = 0;
    for path in scenarios() {
        let scenario = Scenario::read(&path).unwrap_or_else(|wrong| panic!("{wrong}"));
        let mut kinds: BTreeSet<String> =
            scenario.file.fault.iter().map(|fault| strike(fault.kind.text())).collect();
        named += kinds.len();
        for seed in 0..SEEDS {
            if !kinds.is_empty() {
                kinds = unstruck(&scenario, seed, kinds);
            }
        }
        assert!(kinds.is_empty(), "{}: {kinds:?} never struck", scenario.name());
    }
    assert!(named > 30, "{named} kinds are named");
}
