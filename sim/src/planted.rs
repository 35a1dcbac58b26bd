//! A planted failure for the tests of shrinking, replaying and failure files.

use crate::checker::{Checker, Known, Step};
use crate::lab::{Case, Lab};
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
}

/// A laboratory with that checker.
pub(crate) fn lab() -> Lab<Ring> {
    Lab {
        known: Known::default().with("ONCE", |_| Box::new(Once)),
        kind: RingKind { period: 10_000_000, streams: true, ..RingKind::default() },
        saboteurs: Vec::new(),
        keepers: Vec::new(),
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

/// A case that fails.
pub(crate) fn planted() -> Case {
    let scenario = Scenario::parse("planted.toml", PLANTED).unwrap();
    Case { file: scenario.resolve(7).unwrap().file, seed: 7, overrides: vec![], saboteur: None }
}
