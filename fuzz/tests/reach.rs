//! Goal: the targets over machines do work: their corpora reach deep states.
//! Method: what the machines tell over all of a corpus must have in it what is listed here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

type Run = fn(&[u8]) -> BTreeSet<&'static str>;

/// Each machine, and some of what its corpus must make it tell.
const REACHED: &[(&str, Run, &[&str])] = &[
    (
        "commands",
        fuzz::kernel::run,
        &[
            "session.group_joined",
            "approval.granted",
            "dispatch.finished",
            "slot.released",
            "process.removed",
            "quota.expired",
            "kernel.stopped",
            "version_conflict",
        ],
    ),
    (
        "recovery",
        fuzz::ledger::run,
        &["started", "refused", "all is there", "a part is there", "removed", "cut"],
    ),
    (
        "node",
        fuzz::node::run,
        &["link up", "joined", "member join", "found", "deliver", "outcome", "link down", "left"],
    ),
    (
        "registry",
        fuzz::registry::run,
        &["registered", "refused", "query", "found", "event replaced", "event withdrawn"],
    ),
    ("router", fuzz::router::run, &["frame", "deliver", "answered", "outcome", "gap", "want"]),
    (
        "swim",
        fuzz::swim::run,
        &["join", "suspect", "alive", "dead", "left", "sync", "joined", "departed"],
    ),
];

#[test]
fn each_corpus_reaches_what_only_deep_states_tell() {
    for (name, run, wanted) in REACHED {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let mut told = BTreeSet::new();
        for entry in fs::read_dir(folder).expect("it has a corpus") {
            told.extend(run(&fs::read(entry.expect("the folder stays").path()).unwrap()));
        }
        let missing: Vec<_> = wanted.iter().filter(|one| !told.contains(*one)).collect();
        assert!(missing.is_empty(), "{name} never tells {missing:?}");
    }
}
