use super::*;
use crate::checker::{Checker, Known, Step};
use crate::lab::Sabotage;
use crate::ring::{Ring, RingKind};
use crate::world::World;

/// Sends every datagram of node 2 twice.
#[derive(Clone)]
struct Twice(bool);

impl Saboteur<Ring> for Twice {
    fn after(&mut self, _: &mut Ring, _: Instant, outputs: &mut Vec<Output>) {
        if self.0 {
            outputs.extend(outputs.clone());
        }
    }
}

#[derive(Clone)]
struct Once;

impl Checker<Sabotaged<Ring>> for Once {
    fn property(&self) -> &'static str {
        "ONCE"
    }

    fn after_step(
        &mut self,
        world: &World<Sabotaged<Ring>>,
        step: &Step<'_>,
    ) -> Result<(), String> {
        let seen = &world.guest(step.node).ok_or("no node")?.seen;
        let repeated = seen.iter().rev().skip(1).any(|number| Some(number) == seen.back());
        if repeated { Err("a datagram came twice".to_owned()) } else { Ok(()) }
    }
}

fn lab() -> Lab<Sabotaged<Ring>> {
    let inner = RingKind { period: 10_000_000, ..RingKind::default() };
    let sabotage = |name, turn| Sabotage {
        name,
        about: "sends twice",
        property: "ONCE",
        scenario: "calm",
        seeds: 3,
        kind: Turned { inner, turn: Some(turn) },
        change: |_| {},
    };
    Lab {
        known: Known::default().with("ONCE", |_| Box::new(Once)),
        kind: Turned { inner, turn: None },
        saboteurs: vec![
            sabotage("twice", |birth| Box::new(Twice(birth.node == 2))),
            sabotage("harmless", |_| Box::new(Twice(false))),
        ],
        keepers: Vec::new(),
    }
}

fn calm() -> Vec<Scenario> {
    let text = "name = \"calm\"\nabout = \"A ring.\"\nnodes = 3\nduration = \"2s\"\n";
    vec![Scenario::parse("calm.toml", text).unwrap()]
}

#[test]
fn a_saboteur_is_found_and_a_harmless_one_is_not() {
    let found = hunt(&lab(), "twice", &calm(), Budget::ENDLESS).unwrap().unwrap();
    assert_eq!(found.seeds, Some(1));
    assert!(found.virtual_ns < 100_000_000, "{found:?}");
    let harmless = hunt(&lab(), "harmless", &calm(), Budget::ENDLESS).unwrap().unwrap();
    assert_eq!(harmless.seeds, None);
    let stop = std::sync::atomic::AtomicBool::new(true);
    let stopped = hunt(&lab(), "harmless", &calm(), Budget::until_stopped(&stop)).unwrap();
    assert_eq!(stopped, None, "nothing is known of a hunt that was stopped");
}

/// H5: a scenario that is changed until it breaks by itself shows nothing of a saboteur.
#[test]
fn a_hunt_fails_where_the_property_is_violated_without_the_saboteur() {
    let mut lab = lab();
    lab.kind.turn = Some(|birth| Box::new(Twice(birth.node == 2)));
    let hunt = hunt(&lab, "twice", &calm(), Budget::ENDLESS).unwrap().unwrap();
    assert_eq!(hunt.seeds, None);
    assert!(hunt.evidence.contains("without the saboteur"), "{hunt:?}");
}

#[test]
fn without_a_saboteur_the_property_holds() {
    let scenario = &calm()[0];
    let ran = lab().run(scenario, 0, Keep::default()).unwrap();
    assert_eq!(ran.outcome.ended, Ended::Passed);
}
