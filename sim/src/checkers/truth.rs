//! What is true in the world, as checkers need it: who runs, since when, and who can reach whom.

use super::HasNode;
use crate::world::World;

/// Lists the nodes that run, with their machines.
pub(super) fn running<'a, G: HasNode>(
    world: &'a World<G>,
) -> impl Iterator<Item = (u32, &'a machines::node::Node)> + 'a {
    let guest = move |node| world.guest(node).map(|guest| (node, guest.node()));
    (0..world.nodes())
        .filter(|node| world.host(*node).is_up())
        .filter_map(guest)
}

/// Says whether two nodes can talk both ways, and neither is held up.
pub(super) fn can_talk<G: HasNode>(world: &World<G>, a: u32, b: u32) -> bool {
    let awake = |node| world.host(node).busy_until() <= world.now();
    world.is_open(a, b) && world.is_open(b, a) && awake(a) && awake(b)
}

/// Says whether `of` and `by` trust each other.
pub(super) fn trust<G: HasNode>(world: &World<G>, a: u32, b: u32) -> bool {
    let allows = |by: u32, of: u32| match world.guest(by) {
        Some(guest) => guest.node().allowed().has(world.host(of).id()),
        None => false,
    };
    allows(a, b) && allows(b, a)
}

/// Nanoseconds as seconds, for evidence.
pub(super) fn seconds(nanos: u64) -> String {
    format!(
        "{}.{:03} s",
        nanos / 1_000_000_000,
        nanos / 1_000_000 % 1_000
    )
}
