//! Goal: what `slow-member` says of itself is so: the health score of a member that takes its time
//! rises, and those that nothing strikes stay calm (C49).
//! Method: run one seed until the fault is over, and look at every score at each step.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use machines::choices::Overrides;
use machines::node::Node;
use sim::scenario::Scenario;
use sim::world::World;

const SLOW: u32 = 7;
const SLEEPER: u32 = 9;
/// One round with a slow helper.
const CALM_MAX: u32 = 1;
/// The fault is over, in nanoseconds.
const OVER: u64 = 95_000_000_000;

#[test]
fn the_score_of_the_slow_member_rises_and_the_others_stay_calm() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("slow-member.toml");
    let scenario = Scenario::read(&path).unwrap_or_else(|wrong| panic!("{wrong}"));
    let resolved = scenario.resolve(0).unwrap_or_else(|(_, what)| panic!("{what}"));
    let mut world = World::new(Arc::new(resolved.setup::<Node>(Overrides::default(), ())), vec![]);
    let mut highest: BTreeMap<u32, u32> = BTreeMap::new();
    while world.now() < OVER && world.step() {
        for node in 0..world.nodes() {
            let health = world.guest(node).map_or(0, |guest| guest.swim().health());
            let seen = highest.entry(node).or_default();
            *seen = health.max(*seen);
        }
    }
    assert!(highest[&SLOW] >= 1, "the slow member thinks that it is well: {highest:?}");
    assert!(highest[&SLEEPER] >= 1, "the sleeper has not noticed: {highest:?}");
    highest.retain(|node, score| ![SLOW, SLEEPER].contains(node) && *score > CALM_MAX);
    assert!(highest.is_empty(), "not calm: {highest:?}");
}
