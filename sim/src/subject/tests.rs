use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use machines::choices::Overrides;
use machines::cluster::counters::Counter;

use super::lab;
use crate::budget::Budget;
use crate::lab::Case;
use crate::run::{Options, campaign};
use crate::saboteur::hunt;
use crate::scenario::Scenario;
use crate::world::World;

/// T32: a checker that nobody was seen to break is no checker.
#[test]
fn every_property_has_a_checker_and_a_saboteur() {
    let lab = lab();
    let checked: BTreeSet<_> = lab.known.properties().collect();
    let broken: BTreeSet<_> = lab.saboteurs.iter().map(|entry| entry.property).collect();
    assert_eq!(checked, broken);
    let numbers = (130..=151).map(|number| format!("C{number}"));
    assert!(numbers.into_iter().all(|property| checked.contains(property.as_str())));
}

/// Reads every scenario of the project.
fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    paths.retain(|path| !path.ends_with("Cargo.toml"));
    paths.sort();
    assert!(paths.len() > 20, "the scenarios are where they were");
    paths.iter().map(|path| Scenario::read(path).unwrap()).collect()
}

/// Saboteurs that only `cargo sim saboteurs` lets loose: their scenarios are too large for a build
/// without optimisation.
const ONLY_BY_COMMAND: [&str; 2] = ["pings-behind-bulk", "no-refutation"];

/// T32: each saboteur is caught by its property, and its scenario does not violate it without the
/// saboteur. A checker that stops biting fails this test.
#[test]
fn every_saboteur_is_caught() {
    let (lab, scenarios) = (lab(), scenarios());
    let mut names: Vec<_> = lab.saboteurs.iter().map(|sabotage| sabotage.name).collect();
    names.retain(|name| !ONLY_BY_COMMAND.contains(name));
    assert_eq!(names.len() + ONLY_BY_COMMAND.len(), lab.saboteurs.len());
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Relaxed)) {
                    let hunt = hunt(&lab, name, &scenarios, Budget::ENDLESS).unwrap().unwrap();
                    assert!(hunt.seeds.is_some(), "{hunt:?}");
                }
            });
        }
    });
}

/// T32: what C150 looks at has more rows than one; each of these is seen to be looked at.
#[test]
fn each_table_without_end_is_caught_by_its_own_row() {
    let (lab, scenarios) = (lab(), scenarios());
    let rows = [
        ("unbounded-asks", "asks, at most"),
        ("unbounded-unconfirmed", "unconfirmed frames to one peer, at most"),
        ("unbounded-endpoints", "endpoints, at most"),
        ("unbounded-queue", "bytes that wait for one link, at most"),
    ];
    for (name, row) in rows {
        let hunt = hunt(&lab, name, &scenarios, Budget::ENDLESS).unwrap().unwrap();
        assert!(hunt.seeds.is_some() && hunt.evidence.contains(row), "{hunt:?}");
    }
}

/// C149: exempt are the clusters whose nodes tell that they have outgrown their ttl, and no others.
#[test]
fn names_are_exempt_exactly_where_the_nodes_say_that_they_come_late() {
    let lab = lab();
    let cases = [
        (4, "1ms", false),
        (5, "1ms", true),
        (5, "30s", true),
        (5, "180s", false),
        (5, "1h", false),
    ];
    for (nodes, hint_keep, late) in cases {
        let text = format!(
            "name = \"late\"\nabout = \"x\"\nnodes = {nodes}\nduration = \"20s\"\n\
             cipher = \"null\"\n[workload]\nregister = 1.0\n[config]\nhint_keep = \"{hint_keep}\"\n"
        );
        let scenario = Scenario::parse("late.toml", &text).unwrap();
        let setup = scenario.resolve(1).unwrap().setup(Overrides::default(), lab.kind.clone());
        assert_eq!(lab.known.needs("C149", &setup).is_none(), late, "{nodes} {hint_keep}");
        let mut world = World::new(Arc::new(setup), Vec::new());
        world.run();
        for node in 0..nodes {
            let counters = world.guest(node).unwrap().counters();
            assert_eq!(counters.get(Counter::NamesLate) > 0, late, "{nodes} {hint_keep}");
        }
    }
}

/// T31: no scenario asks for a property and then ends before it could be looked at.
#[test]
fn every_scenario_gives_its_properties_the_time_they_need() {
    let lab = lab();
    for scenario in scenarios() {
        let known = lab.properties_of(&scenario);
        scenario.check_properties(&known).unwrap_or_else(|e| panic!("{}: {e:?}", scenario.name()));
        lab.check_quiet(&scenario).unwrap_or_else(|e| panic!("{}: {e:?}", scenario.name()));
    }
}

fn small(more: &str) -> Scenario {
    let head = "name = \"small\"\nabout = \"Two nodes.\"\nnodes = 2\nduration = \"60s\"\n\
                quiet = \"40s\"\nseeds = 1\n";
    Scenario::parse("small.toml", &format!("{head}{more}")).unwrap()
}

/// T23, T31.
#[test]
fn a_quiet_period_that_is_too_short_is_refused_with_the_length_needed() {
    let lab = lab();
    let (_, what) = lab.check_quiet(&small("")).unwrap_err();
    assert!(what.contains("at least 53s, or C140 is never looked at"), "{what}");
    let left_out = small("[check]\nexcept = [\"C140\", \"C144\"]\n");
    assert_eq!(lab.check_quiet(&left_out), Ok(()));
}

/// T30, T31.
#[test]
fn a_checker_that_has_seen_nothing_is_not_armed() {
    let lab = lab();
    let properties: Vec<_> = lab.known.properties().map(|id| format!("{id:?}")).collect();
    let file = small(&format!("[check]\nproperties = [{}]\n", properties.join(", "))).file;
    let case = Case { file, seed: 0, overrides: Vec::new(), saboteur: None };
    let armed = lab.world(&case).unwrap().outcome().armed;
    assert_eq!(armed.len(), properties.len());
    assert!(armed.values().all(|looked| *looked == 0), "{armed:?}");
}

/// A property that a scenario names and that no run looked at did not hold: nobody knows.
#[test]
fn a_named_property_that_no_run_looks_at_fails_the_campaign() {
    let folder = std::env::temp_dir().join("lockstep-unarmed");
    let options = Options {
        seeds: None,
        jobs: 1,
        time: None,
        shrink: Duration::ZERO,
        reports: folder,
        bar: false,
    };
    let nobody_leaves = small("[check]\nproperties = [\"C136\", \"C142\"]\n");
    let campaign = campaign(&lab(), &[nobody_leaves], &options, &AtomicBool::new(false));
    assert_eq!(campaign.scenarios[0].passed, 1);
    assert_eq!(campaign.scenarios[0].missed, ["a look at C142"]);
    assert_eq!(campaign.exit_code(), 1);
}
