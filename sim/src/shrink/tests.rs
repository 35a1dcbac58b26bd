use super::*;
use crate::checker::{Checker, Known, Step};
use crate::ring::{Ring, RingKind};
use crate::scenario::Scenario;
use crate::world::World;

/// A planted defect: a ring must never get the same datagram twice.
#[derive(Clone)]
struct Once;

impl Checker<Ring> for Once {
    fn property(&self) -> &'static str {
        "ONCE"
    }

    fn after_step(&mut self, world: &World<Ring>, step: &Step<'_>) -> Result<(), String> {
        let Some(ring) = world.guest(step.node) else {
            return Ok(());
        };
        let newest = ring.seen.back();
        let before = ring.seen.len().saturating_sub(1);
        match newest.filter(|number| ring.seen.iter().take(before).any(|seen| seen == *number)) {
            Some(number) => Err(format!("datagram {number} came twice to node {}", step.node)),
            None => Ok(()),
        }
    }

    fn copy(&self) -> Box<dyn Checker<Ring>> {
        Box::new(self.clone())
    }
}

fn lab() -> Lab<Ring> {
    Lab {
        known: Known::default().with("ONCE", |_| Box::new(Once)),
        kind: RingKind { period: 10_000_000, streams: true, ..RingKind::default() },
        saboteurs: Vec::new(),
    }
}

const PLANTED: &str = r#"
name = "planted"
about = "A ring of twelve with many faults, of which one copies datagrams."
nodes = 12
duration = "30s"
quiet = "5s"

[network]
delay = "1ms..9ms"
loss = 0.05

[workload]
lookup = 5.0
send = 5.0

[[fault]]
kind = "loss"
at = "1s"
for = "10s"
share = 0.2

[[fault]]
kind = "kill"
at = "2s"
for = "3s"
nodes = [3, 7, 11]

[[fault]]
kind = "duplicate"
at = "4s"
for = "9s"
links = [[0, 1]]
share = 0.3

[[fault]]
kind = "pause"
at = "3s"
for = "2s"
nodes = "any"

[[fault]]
kind = "partition"
at = "14s"
for = "2s"
groups = [[0, 1], [2, 3, 4, 5]]
"#;

fn planted() -> Case {
    let scenario = Scenario::parse("planted.toml", PLANTED).unwrap();
    Case { file: scenario.resolve(7).unwrap().file, seed: 7, overrides: vec![], saboteur: None }
}

#[test]
fn a_planted_failure_shrinks_to_the_one_fault_that_causes_it() {
    let before = cut::size(&planted()).unwrap();
    let shrunk = shrink(&lab(), planted(), Duration::from_secs(60), &mut |_| {}).unwrap();
    let after = cut::size(&shrunk.case).unwrap();
    assert_eq!(shrunk.violation.property, "ONCE");
    assert!(after.within(before), "{after:?}");
    assert_eq!(after.faults, 1);
    assert_eq!(shrunk.case.file.fault[0].kind.text(), "duplicate");
    assert_eq!(after.nodes, 2, "the link needs both its ends");
    assert!(after.duration < 6_000_000_000, "{after:?}");
    assert!(shrunk.case.file.workload.is_none());
    let again = lab().run_case(&shrunk.case, Keep::default()).unwrap().outcome;
    assert_eq!(again.ended, Ended::Violated(shrunk.violation));
    assert_eq!(again.hash, shrunk.hash);
}

#[test]
fn what_does_not_fail_is_not_shrunk() {
    let mut case = planted();
    case.file.fault.clear();
    assert!(shrink(&lab(), case, Duration::from_secs(1), &mut |_| {}).is_err());
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
    let failure = crate::failure::Failure::new(&written, &violation, ran.outcome.hash, &path);
    failure.write(&path).unwrap();
    let read = crate::failure::Failure::read(&path).unwrap().case().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(read.overrides, written.overrides);
    let again = lab().run_case(&read, Keep::default()).unwrap().outcome;
    assert_eq!(again.ended, Ended::Violated(violation));
}
