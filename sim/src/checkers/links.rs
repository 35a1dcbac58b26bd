//! What links may never show: C130, C134, C135.

use std::collections::{BTreeMap, BTreeSet};

use machines::cluster::ids::NodeId;
use machines::cluster::links::Link;
use machines::time::nanos;

use super::truth::{Glances, can_talk, running, seconds, trust};
use super::{Bounds, HasNode};
use crate::checker::{Checker, Notice, Step};
use crate::world::{Setup, World};

/// C130: a link's peer is whoever's key completed its handshake; that key is allowed.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// How long a revoked key may keep a link.
    grace: u64,
    /// Who was taken off the allowlists, and when.
    revoked: BTreeMap<NodeId, u64>,
    glances: Glances,
}

impl Identity {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let grace = 1_000_000_000 + nanos(setup.config.links.step_timeout);
        Self { grace, revoked: BTreeMap::new(), glances: Glances::default() }
    }
}

impl<G: HasNode> Checker<G> for Identity {
    fn property(&self) -> &'static str {
        "C130"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        if !self.glances.is_due(world, step) {
            return Ok(());
        }
        let node = guest.node();
        for link in node.links().links() {
            if link.peer() == node.id() {
                return Err(format!("node {} has a link with itself", step.node));
            }
            if NodeId::of_key(link.key()) != link.peer() {
                return Err(format!("node {} calls another key {:?}", step.node, link.peer()));
            }
            if !node.allowed().has(link.peer()) {
                return Err(format!(
                    "node {} links with {:?}, not allowed",
                    step.node,
                    link.peer()
                ));
            }
            let overdue = self.revoked.get(&link.peer()).map(|at| at + self.grace);
            let put_back = world.allowed().has(link.peer());
            if overdue.is_some_and(|due| world.now() > due) && !put_back {
                return Err(format!("node {} links with revoked {:?}", step.node, link.peer()));
            }
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        if let Notice::Revoked(node) = notice {
            self.revoked.insert(world.host(node).id(), world.now());
        }
        // Whoever was put back may have links again.
        self.revoked.retain(|node, _| !world.allowed().has(*node));
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}

/// C134: one link a pair at the most; in the end the same one at both ends.
#[derive(Clone, Debug)]
pub(super) struct OneLink {
    bounds: Bounds,
    since: u64,
    /// (node, peer) → since when only this end has had a link.
    single: BTreeMap<(u32, u32), u64>,
    looked_at: u64,
    glances: Glances,
}

/// Says whether two ends are of one link: they hold an epoch of the same handshake.
fn is_same(one: &Link, other: &Link) -> bool {
    let held = |hash| other.epochs.all().any(|epoch| epoch.hash == hash);
    one.epochs.all().any(|epoch| held(epoch.hash))
}

/// How often both ends are compared, in nanoseconds.
const EVERY: u64 = 250_000_000;

impl OneLink {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let bounds = Bounds::new(&setup.config, setup.nodes);
        Self {
            bounds,
            since: 0,
            single: BTreeMap::new(),
            looked_at: 0,
            glances: Glances::default(),
        }
    }

    /// Compares both ends of every link; answers one that only one end has had for too long.
    fn compare<G: HasNode>(&mut self, world: &World<G>) -> Option<String> {
        let mut single = BTreeMap::new();
        for (place, node) in running(world) {
            for link in node.links().links() {
                let Some(other) = world.node_of(link.peer()) else {
                    continue;
                };
                let theirs = world.guest(other).filter(|_| world.host(other).is_up());
                let theirs = theirs.and_then(|guest| guest.node().links().link(node.id()));
                let mutual = theirs.is_some_and(|theirs| is_same(link, theirs));
                let able = can_talk(world, place, other) && trust(world, place, other);
                if mutual || !able {
                    continue;
                }
                let key = (place, other);
                let since = self.single.get(&key).copied().unwrap_or(world.now());
                single.insert(key, since);
                if world.now() - since.max(self.since) > self.bounds.redial() {
                    return Some(format!(
                        "node {place} has had a link with node {other} for {} that is not there",
                        seconds(world.now() - since)
                    ));
                }
            }
        }
        self.single = single;
        None
    }
}

impl<G: HasNode> Checker<G> for OneLink {
    fn property(&self) -> &'static str {
        "C134"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        if !self.glances.is_due(world, step) {
            return Ok(());
        }
        let mut peers = BTreeSet::new();
        for link in guest.node().links().links() {
            if !peers.insert(link.peer()) {
                return Err(format!("node {} has two links with {:?}", step.node, link.peer()));
            }
        }
        if !world.is_quiet() || world.now() < self.looked_at + EVERY {
            return Ok(());
        }
        self.looked_at = world.now();
        match self.compare(world) {
            Some(evidence) => Err(evidence),
            None => Ok(()),
        }
    }

    fn notice(&mut self, world: &World<G>, _: Notice) -> Result<(), String> {
        self.since = world.now();
        Ok(())
    }

    fn quiet(&mut self, world: &World<G>) {
        self.since = world.now();
        self.single.clear();
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}

/// C135: version and features are what both sides' ranges give.
#[derive(Clone, Debug, Default)]
pub(super) struct Negotiation {
    glances: Glances,
}

impl<G: HasNode> Checker<G> for Negotiation {
    fn property(&self) -> &'static str {
        "C135"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        if !self.glances.is_due(world, step) {
            return Ok(());
        }
        let ours = &guest.node().config().links;
        for link in guest.node().links().links() {
            let place = world.node_of(link.peer());
            let Some(peer) = place.and_then(|place| world.guest(place)) else {
                continue;
            };
            let theirs = &peer.node().config().links;
            let version = ours.version_max.min(theirs.version_max);
            let features = ours.features & theirs.features;
            if (link.version(), link.features().0) != (version, features) {
                return Err(format!(
                    "node {} speaks version {} features {:#x} with {:?}, \
                     not {version} {features:#x}",
                    step.node,
                    link.version(),
                    link.features().0,
                    link.peer()
                ));
            }
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}
