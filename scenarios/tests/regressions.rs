//! Goal: what was mended stays mended, and every scenario is right (T43, T50).
//! Method: replay each failure file of `regressions/`. Without a saboteur every property must hold
//! now; with one the property must be violated still, which shows that the replay bites. Then read
//! every scenario, and run one seed of the lightest.

use std::path::{Path, PathBuf};

use sim::failure::Failure;
use sim::lab::Keep;
use sim::scenario::Scenario;
use sim::subject::lab;
use sim::world::Ended;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).expect("the folder is part of the repository");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.retain(|path| !path.ends_with("Cargo.toml"));
    paths.sort();
    paths
}

/// Runs the regressions that were planted by a saboteur, or those that were mended. Returns how
/// each ended, with the property that it was about.
fn regressions(planted: bool) -> Vec<(PathBuf, String, Ended)> {
    let read = |path: PathBuf| {
        let failure = Failure::read(&path).unwrap_or_else(|wrong| panic!("{wrong}"));
        (path, failure)
    };
    let all = files("regressions").into_iter().map(read);
    let of_kind = all.filter(|(_, failure)| failure.saboteur.is_some() == planted);
    let run = |(path, failure): (PathBuf, Failure)| {
        let case = failure.case_for(&lab());
        let case = case.unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        let ran = lab().run_case(&case, Keep::default()).expect("the case is right");
        (path, failure.property, ran.outcome.ended)
    };
    of_kind.map(run).collect()
}

#[test]
fn no_mended_failure_has_come_back() {
    let mended = regressions(false);
    assert!(!mended.is_empty(), "failures were mended, and their files kept");
    for (path, _, ended) in mended {
        assert_eq!(ended, Ended::Passed, "{}", path.display());
    }
}

#[test]
fn a_failure_that_is_still_there_is_noticed() {
    let planted = regressions(true);
    assert!(!planted.is_empty(), "a planted failure shows that a replay bites");
    for (path, property, ended) in planted {
        let violated = match &ended {
            Ended::Violated(violation) => Some(violation.property),
            Ended::Passed | Ended::Unfinished => None,
        };
        assert_eq!(violated, Some(property.as_str()), "{}: {ended:?}", path.display());
    }
}

#[test]
fn every_scenario_is_right_and_named_as_its_file() {
    let paths = files("");
    assert!(paths.len() >= 20, "{} scenarios", paths.len());
    let lab = lab();
    for path in paths {
        let scenario = Scenario::read(&path).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(path.file_stem().unwrap().to_str(), Some(scenario.name()));
        let known = lab.properties_of(&scenario);
        scenario.check_properties(&known).unwrap_or_else(|(_, what)| panic!("{what}"));
    }
}

/// A session that was burnt into the slot of the present one left no slot if power failed then.
#[test]
fn a_wiped_node_that_loses_power_as_it_catches_up_starts_again() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("torn-catch-up.toml");
    let scenario = Scenario::read(&path).unwrap_or_else(|wrong| panic!("{wrong}"));
    for seed in 0..8 {
        let outcome = lab().run(&scenario, seed, Keep::default()).unwrap().outcome;
        assert_eq!(outcome.ended, Ended::Passed, "seed {seed}");
        assert!(outcome.refusals.is_empty(), "seed {seed}: {:?}", outcome.refusals);
    }
}

#[test]
fn one_seed_of_three_calm_nodes_passes_and_repeats_itself() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("calm-3.toml");
    let scenario = Scenario::read(&path).unwrap_or_else(|wrong| panic!("{wrong}"));
    let run = || lab().run(&scenario, 0, Keep::default()).unwrap().outcome;
    let outcome = run();
    assert_eq!(outcome.ended, Ended::Passed);
    assert!(outcome.events > 1_000, "{} events", outcome.events);
    assert_eq!(run(), outcome);
}
