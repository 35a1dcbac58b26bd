use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::*;
use crate::planted::{lab, planted};

#[test]
fn a_planted_failure_shrinks_to_the_one_fault_that_causes_it() {
    let before = cut::size(&planted());
    let shrunk = shrink(&lab(), planted(), "ONCE", Budget::ENDLESS, &mut |_| {}).unwrap();
    let after = cut::size(&shrunk.case);
    assert_eq!(shrunk.violation.property, "ONCE");
    assert!(after.parts_within(before), "{after:?}");
    assert_eq!(after.faults, 1);
    assert_eq!(shrunk.case.file.fault[0].kind.text(), "duplicate");
    assert_eq!(after.nodes, 2, "the link needs both its ends");
    assert!(after.duration < 6_000_000_000, "{after:?}");
    assert!(shrunk.case.file.workload.is_none());
    assert!(shrunk.complete);
    let again = lab().run_case(&shrunk.case, Keep::default()).unwrap().outcome;
    assert_eq!(again.ended, Ended::Violated(shrunk.violation));
    assert_eq!(again.hash, shrunk.hash);
}

/// T42: what shrinking adds, overrides, counts; and it gives back what nothing needs.
#[test]
fn what_is_shrunk_is_never_a_larger_file() {
    let mut small = planted();
    let shrunk = shrink(&lab(), small.clone(), "ONCE", Budget::ENDLESS, &mut |_| {}).unwrap();
    let (before, after) = (cut::size(&small), cut::size(&shrunk.case));
    assert!(after.bytes < before.bytes, "{after} of {before}");
    assert_eq!(after.overrides, 0, "{:?}", shrunk.case.overrides);
    // Nothing is left to shrink, so nothing may be added either.
    small = shrunk.case;
    let again = shrink(&lab(), small.clone(), "ONCE", Budget::ENDLESS, &mut |_| {}).unwrap();
    assert!(cut::size(&again.case).bytes <= cut::size(&small).bytes);
}

#[test]
fn overrides_that_a_failure_does_not_need_are_removed() {
    let mut case = planted();
    for nth in 0..40 {
        case.overrides.push(cut::zero("net.loss", Some([0, 2, 3]), Some(nth)));
    }
    case.overrides.push(cut::zero("renamed.site", None, None));
    let shrunk = shrink(&lab(), case, "ONCE", Budget::ENDLESS, &mut |_| {}).unwrap();
    assert_eq!(cut::size(&shrunk.case).overrides, 0);
    assert!(shrunk.case.overrides.iter().all(|entry| entry.site != "renamed.site"));
}

#[test]
fn shrinking_that_was_cut_short_says_so() {
    let none = Budget::ENDLESS.within(Duration::ZERO);
    let spent = shrink(&lab(), planted(), "ONCE", none, &mut |_| {});
    assert!(spent.is_err_and(|why| why.contains("stopped")), "nothing was run");

    let stop = AtomicBool::new(false);
    let told = &mut |_: &str| stop.store(true, Relaxed); // Relaxed: one thread.
    let shrunk = shrink(&lab(), planted(), "ONCE", Budget::until_stopped(&stop), told).unwrap();
    assert!(!shrunk.complete, "it was told to stop at its first progress");
}

/// T12: what the machines answer is recorded as what the world answers is.
#[test]
fn a_record_holds_the_answers_of_machines_that_were_stopped_too() {
    let text = "name = \"few\"\nabout = \"Three.\"\nnodes = 3\nduration = \"20s\"\n\
                [[fault]]\nkind = \"kill\"\nat = \"8s\"\nfor = \"2s\"\nnodes = [1]\n";
    let scenario = crate::scenario::Scenario::parse("few.toml", text).unwrap();
    let keep = Keep { answers: true, ..Keep::default() };
    let ran = crate::subject::lab().run(&scenario, 3, keep).unwrap();
    let has = |site: &str, who: u64| {
        ran.answers.iter().any(|answer| answer.site == site && answer.who[0] == who)
    };
    let place = |node: u64, epoch: u64| epoch << 32 | (node + 1);
    assert!(has("swim.phase", place(0, 1)), "a machine that runs to the end");
    assert!(has("swim.phase", place(1, 1)), "a machine that was killed");
    assert!(has("swim.phase", place(1, 3)), "its next start");
    assert!(ran.answers.iter().all(|answer| answer.answer != 0));
}

#[test]
fn what_does_not_fail_is_not_shrunk() {
    let mut case = planted();
    case.file.fault.clear();
    assert!(shrink(&lab(), case, "ONCE", Budget::ENDLESS, &mut |_| {}).is_err());
}

/// A file is about one property: it is not shrunk to something else that fails.
#[test]
fn another_property_is_not_shrunk_in_its_place() {
    let why = shrink(&lab(), planted(), "panic", Budget::ENDLESS, &mut |_| {}).unwrap_err();
    assert!(why.contains("ONCE"), "{why}");
}

#[test]
fn a_failure_file_reads_back_as_the_same_run() {
    let case = planted();
    let ran = lab().run_case(&case, Keep::default()).unwrap();
    let Ended::Violated(violation) = ran.outcome.ended else {
        panic!("the planted failure shows");
    };
    let folder = std::env::temp_dir().join(format!("lockstep-failure-{}", std::process::id()));
    let path = crate::failure::path_of(&folder, "planted", case.seed);
    let mut written = case.clone();
    written.overrides.push(Override {
        site: "net.loss".into(),
        who: Some([0, 1, u64::MAX]),
        nth: Some(3),
        answer: 0,
    });
    written.overrides.insert(0, cut::zero("net.delay", None, None));
    let failure = crate::failure::Failure::new(&written, &violation, ran.outcome.hash, &path);
    failure.write(&path).unwrap();
    assert_eq!((failure.benign.len(), failure.overrides.len()), (1, 1));
    assert!(failure.version.starts_with(env!("CARGO_PKG_VERSION")), "{}", failure.version);
    let read = crate::failure::Failure::read(&path).unwrap().case().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(read.overrides, written.overrides);
    let again = lab().run_case(&case, Keep::default()).unwrap().outcome;
    assert_eq!(again.ended, Ended::Violated(violation));
}

/// A case gets smaller together with what it says of the nodes and the time that went.
#[test]
fn builds_go_with_their_nodes_and_their_time() {
    let entry = |nodes: &str, from: &str| format!("nodes = {nodes}\nfrom = \"{from}\"\n");
    let entries = [("[0, 2]", "1s"), ("[2]", "0s"), ("\"all\"", "3s")];
    let mut case = planted();
    case.file.node =
        entries.map(|(nodes, from)| toml::from_str(&entry(nodes, from)).unwrap()).into();
    let left = |case: &Case| {
        let texts = case.file.node.iter().map(|entry| toml::to_string(entry).unwrap());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(left(&cut::nodes(&case, 2)), [entry("[0]", "1s"), entry("\"all\"", "3s")]);
    let shorter = cut::time(&case, 2_000_000_000).unwrap();
    assert_eq!(left(&shorter), [entry("[0, 2]", "1s"), entry("[2]", "0s")]);
}

/// T42: builds that a failure does not need go, and the failure is the same without them.
#[test]
fn builds_that_a_failure_does_not_need_are_removed() {
    let mut case = planted();
    case.file.node = vec![toml::from_str("nodes = \"all\"\nversion_max = 2\n").unwrap()];
    let shrunk = shrink(&lab(), case, "ONCE", Budget::ENDLESS, &mut |_| {}).unwrap();
    assert!(shrunk.case.file.node.is_empty());
}
