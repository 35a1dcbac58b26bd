//! What links may never show: C130, C134, C135.

use std::collections::{BTreeMap, BTreeSet};

use machines::cluster::ids::NodeId;
use machines::cluster::links::{Link, Peer};
use machines::cluster::wire::State;
use machines::node::Node;
use machines::node::io::{Event, Output};
use machines::time::nanos;

use super::truth::{Glances, HoldUps, can_talk, running, seconds, trust};
use super::{Bounds, HasNode};
use crate::checker::{Checker, Notice, Step};
use crate::host::address;
use crate::plan::Act;
use crate::world::{Setup, World};

/// C130: a link's peer is whoever's key completed its handshake; that key is allowed.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// How long a revoked key may keep a link.
    grace: u64,
    /// Who was taken off the allowlists, and when.
    revoked: BTreeMap<NodeId, u64>,
    /// Whoever is held up hears of it later.
    held_up: HoldUps,
    glances: Glances,
    looked: u64,
}

impl Identity {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let grace = 1_000_000_000 + nanos(setup.config.links.step_timeout);
        let held_up = HoldUps::new(setup);
        Self { grace, revoked: BTreeMap::new(), held_up, glances: Glances::default(), looked: 0 }
    }
}

impl<G: HasNode> Checker<G> for Identity {
    fn property(&self) -> &'static str {
        "C130"
    }

    fn armed(&self) -> u64 {
        self.looked
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
            self.looked += 1;
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
            let free = self.held_up.free_since(step.node, world.now());
            let overdue = self.revoked.get(&link.peer()).map(|at| free.max(*at) + self.grace);
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
}

/// C134: one link a pair at the most; in the end each pair that wants one has it, the same one at
/// both ends.
#[derive(Clone, Debug)]
pub(super) struct OneLink {
    /// How long a pair may be without the one link.
    bound: u64,
    since: u64,
    /// (node, its start) → whom it told that it has a link with.
    told: BTreeMap<(u32, u32), BTreeSet<NodeId>>,
    /// (node, peer) → since when only this end has had a link.
    single: BTreeMap<(u32, u32), u64>,
    /// (node, peer) → since when this end has wanted a link and there was none.
    wanting: BTreeMap<(u32, u32), u64>,
    looked_at: u64,
    glances: Glances,
    /// Pairs looked at after the bound.
    looked: u64,
}

/// Says whether two ends are of one link: they hold an epoch of the same handshake.
fn is_same(one: &Link, other: &Link) -> bool {
    let held = |hash| other.epochs.all().any(|epoch| epoch.hash == hash);
    one.epochs.all().any(|epoch| held(epoch.hash))
}

/// How long a pair that wants a link may be without. Whoever was refused as not allowed, or for
/// what its build speaks, waits `backoff_long` before it asks again (C23).
fn link_bound<G: HasNode>(setup: &Setup<G>) -> u64 {
    let redial = Bounds::new(&setup.config, setup.nodes).redial();
    let revokes = setup.plan.iter().any(|planned| matches!(planned.act, Act::Revoke(_)));
    let refuses = revokes || !setup.builds.is_empty();
    redial + if refuses { nanos(setup.config.links.backoff_long) } else { 0 }
}

/// How long a quiet period C134 needs.
pub(super) fn link_needs<G: HasNode>(setup: &Setup<G>) -> Option<u64> {
    Some(link_bound(setup) + 3_000_000_000)
}

/// Says whether `node` wants a link with the node at `other`: it holds it as a member at its very
/// address, and its links have something for it, or are about to get it.
fn wants<G: HasNode>(world: &World<G>, node: &Node, other: u32) -> bool {
    let id = world.host(other).id();
    let member = node.swim().member(id);
    let held = member.is_some_and(|member| matches!(member.state, State::Alive | State::Suspect));
    let here = address(other, world.host(other).moves);
    let known = member.and_then(|member| member.addr) == Some(here);
    let peer = node.links().peers.get(&id);
    let asks = |peer: &Peer| peer.is_wanted() || peer.is_dialling() || peer.is_parked();
    held && known && peer.is_some_and(asks)
}

impl OneLink {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        Self {
            bound: link_bound(setup),
            since: 0,
            told: BTreeMap::new(),
            single: BTreeMap::new(),
            wanting: BTreeMap::new(),
            looked_at: 0,
            glances: Glances::default(),
            looked: 0,
        }
    }

    /// Follows what a node tells of its links: none comes up that is up.
    fn follow<G: HasNode>(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let told = self.told.entry((step.node, world.host(step.node).epoch())).or_default();
        for output in step.outputs {
            match output {
                Output::Event(Event::LinkUp { peer }) => {
                    if !told.insert(*peer) {
                        return Err(format!("node {} has two links with {peer:?}", step.node));
                    }
                    if let Some(other) = world.node_of(*peer) {
                        self.wanting.remove(&(step.node, other));
                    }
                }
                Output::Event(Event::LinkDown { peer, .. }) => {
                    told.remove(peer);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Compares both ends of every pair that can talk; answers one that has been without a
    /// common link for too long.
    fn compare<G: HasNode>(&mut self, world: &World<G>) -> Result<(), String> {
        let all: Vec<_> = running(world).collect();
        let (mut single, mut wanting) = (BTreeMap::new(), BTreeMap::new());
        for (a, node) in &all {
            for (b, other) in all.iter().filter(|(b, _)| a != b) {
                if !can_talk(world, *a, *b) || !trust(world, *a, *b) {
                    continue;
                }
                let ours = node.links().link(other.id());
                let theirs = other.links().link(node.id());
                let both = ours.zip(theirs);
                if both.is_some_and(|(ours, theirs)| is_same(ours, theirs)) {
                    self.looked += u64::from(world.now() > self.since + self.bound);
                    continue;
                }
                let key = (*a, *b);
                if ours.is_some() {
                    let since = self.single.get(&key).copied().unwrap_or(world.now());
                    single.insert(key, since);
                }
                // What is wanted may be given up unheard; it was wanted all the same.
                let before = self.wanting.get(&key).copied();
                let now = (before.is_some() || wants(world, node, *b)).then_some(world.now());
                if let Some(since) = before.or(now) {
                    wanting.insert(key, since);
                }
            }
        }
        (self.single, self.wanting) = (single, wanting);
        let late = |(pair, since): (&(u32, u32), &u64)| {
            let waited = world.now() - (*since).max(self.since);
            (waited > self.bound).then_some((*pair, waited))
        };
        if let Some(((a, b), waited)) = self.single.iter().find_map(late) {
            return Err(format!(
                "node {a} has had a link with node {b} for {} that is not there",
                seconds(waited)
            ));
        }
        match self.wanting.iter().find_map(late) {
            Some(((a, b), waited)) => Err(format!(
                "node {a} has wanted a link with node {b} for {} and there is none",
                seconds(waited)
            )),
            None => Ok(()),
        }
    }

    fn disturbed(&mut self, now: u64) {
        self.since = now;
        self.single.clear();
        self.wanting.clear();
    }
}

/// How often both ends are compared, in nanoseconds.
const EVERY: u64 = 250_000_000;

impl<G: HasNode> Checker<G> for OneLink {
    fn property(&self) -> &'static str {
        "C134"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        self.follow(world, step)?;
        let renewed = |output: &Output| matches!(output, Output::Event(Event::SessionRenewed(_)));
        if step.outputs.iter().any(renewed) {
            self.disturbed(world.now());
        }
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        if self.glances.is_due(world, step) {
            let key = (step.node, world.host(step.node).epoch());
            let held: BTreeSet<_> = guest.node().links().links().map(Link::peer).collect();
            if self.told.get(&key).is_some_and(|told| *told != held) {
                return Err(format!("node {} has other links than it tells", step.node));
            }
        }
        if !world.is_quiet() || world.now() < self.looked_at + EVERY {
            return Ok(());
        }
        self.looked_at = world.now();
        self.compare(world)
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        self.disturbed(world.now());
        if let Notice::Started(node) = notice {
            let epoch = world.host(node).epoch();
            self.told.retain(|(other, start), _| *other != node || *start == epoch);
        }
        Ok(())
    }

    fn quiet(&mut self, world: &World<G>) {
        self.disturbed(world.now());
    }
}

/// C135: version and features are what both sides' ranges give; no link is Up without what one of
/// its ends requires (C22).
#[derive(Clone, Debug, Default)]
pub(super) struct Negotiation {
    glances: Glances,
    looked: u64,
}

impl<G: HasNode> Checker<G> for Negotiation {
    fn property(&self) -> &'static str {
        "C135"
    }

    fn armed(&self) -> u64 {
        self.looked
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
            // A link with a process that is gone says nothing of the build that runs now.
            if link.hello().instance != peer.node().instance() {
                continue;
            }
            self.looked += 1;
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
            let missing = (ours.required | theirs.required) & !features;
            let least = ours.version_min.max(theirs.version_min);
            if missing != 0 || version < least {
                return Err(format!(
                    "node {} has a link with {:?} in version {version}, of {least} at least, \
                     without the required features {missing:#x}",
                    step.node,
                    link.peer()
                ));
            }
        }
        Ok(())
    }
}
