//! What look-ups may answer: C148, C149.

use std::collections::BTreeMap;

use machines::cluster::ids::{CallId, Ref};
use machines::cluster::registry::io::NameEventKind;
use machines::cluster::wire::Name;
use machines::node::io::{Call, Event, Input, Output, Reply};
use machines::time::nanos;

use super::truth::{HoldUps, running, seconds, trust};
use super::{Bounds, HasNode};
use crate::checker::{Checker, Notice, Step};
use crate::world::{Setup, World};

/// C148: no look-up returns a registration later than its ttl and ε after its end.
#[derive(Clone, Debug)]
pub(super) struct NoGhosts {
    ttl: u64,
    late: u64,
    /// (name, holder) → when it ended, if it has.
    ended: BTreeMap<(Name, Ref), Option<u64>>,
    looked: BTreeMap<CallId, Name>,
}

impl NoGhosts {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let ttl = nanos(setup.config.registry.default_ttl);
        // ε: 1 s + 1 % of the ttl for delays up to 50 ms, and what the plan holds messages back.
        let late = 1_000_000_000 + ttl / 100 + HoldUps::new(setup).longest();
        Self { ttl, late, ended: BTreeMap::new(), looked: BTreeMap::new() }
    }

    /// What the owner's node says of its own names decides what is true.
    fn follow_owner<G: HasNode>(&mut self, world: &World<G>, step: &Step<'_>) {
        let Some(guest) = world.guest(step.node) else {
            return;
        };
        for output in step.outputs {
            let Output::Event(Event::Name(event)) = output else {
                continue;
            };
            let own = event.holder.node == guest.node().id();
            let key = (event.name.clone(), event.holder);
            match event.kind {
                NameEventKind::Registered | NameEventKind::Replaced if own => {
                    self.ended.insert(key, None);
                }
                NameEventKind::Withdrawn | NameEventKind::Lost if own => {
                    self.ended.entry(key).or_default().get_or_insert(world.now());
                }
                NameEventKind::Registered
                | NameEventKind::Replaced
                | NameEventKind::Withdrawn
                | NameEventKind::Lost => {}
            }
        }
    }
}

impl<G: HasNode> Checker<G> for NoGhosts {
    fn property(&self) -> &'static str {
        "C148"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if let Input::Call { call, request: Call::Lookup(name) } = step.input {
            self.looked.insert(*call, name.clone());
        }
        self.follow_owner(world, step);
        for output in step.outputs {
            let Output::Reply { call, reply: Reply::Found(found) } = output else {
                continue;
            };
            let (Some(name), Some(holder)) = (self.looked.remove(call), found) else {
                continue;
            };
            let ended = self.ended.get(&(name.clone(), *holder)).copied().flatten();
            let bound = self.ttl + self.late;
            if let Some(ended) = ended
                && world.now() > ended + bound
            {
                return Err(format!(
                    "node {} found {name:?} at {holder:?}, {} after its end",
                    step.node,
                    seconds(world.now() - ended)
                ));
            }
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        let ended = match notice {
            Notice::Died(node) | Notice::Stopped(node) | Notice::Left(node) => node,
            Notice::Started(_)
            | Notice::Refused(..)
            | Notice::LinksChanged
            | Notice::FaultsChanged
            | Notice::Revoked(_) => return Ok(()),
        };
        let (id, session) = (world.host(ended).id(), world.host(ended).session());
        for ((_, holder), at) in &mut self.ended {
            if (holder.node, holder.session) == (id, session) {
                at.get_or_insert(world.now());
            }
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}

/// C149: after the quiet period all members answer the same for a name, and one owner holds it.
#[derive(Clone, Debug)]
pub(super) struct Agreement {
    bounds: Bounds,
    since: u64,
    last_change: u64,
}

impl Agreement {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let bounds = Bounds::new(&setup.config, setup.nodes);
        Self { bounds, since: 0, last_change: 0 }
    }
}

impl<G: HasNode> Checker<G> for Agreement {
    fn property(&self) -> &'static str {
        "C149"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let is_change =
            |output: &Output| matches!(output, Output::Event(Event::Name(_) | Event::Member(_)));
        if step.outputs.iter().any(is_change) {
            self.last_change = world.now();
        }
        Ok(())
    }

    fn quiet(&mut self, world: &World<G>) {
        self.since = world.now();
    }

    fn end(&mut self, world: &World<G>) -> Result<(), String> {
        let calm = world.now().saturating_sub(self.since);
        let settle = self.bounds.dissemination() + 1_000_000_000;
        let stable = world.now().saturating_sub(self.last_change) > settle;
        if calm < self.bounds.heal() + self.bounds.same_lives() || !stable {
            return Ok(());
        }
        let mut owners: BTreeMap<Name, (u32, Ref)> = BTreeMap::new();
        for (place, node) in running(world) {
            for (actor, name) in node.registry().held() {
                let holder = Ref { node: node.id(), session: node.session(), actor };
                if let Some((other, _)) = owners.insert(name.clone(), (place, holder)) {
                    return Err(format!("nodes {other} and {place} both hold {name:?}"));
                }
            }
        }
        for (place, node) in running(world) {
            for (name, (owner, holder)) in &owners {
                if !trust(world, place, *owner) {
                    continue;
                }
                let found = node.registry().holder(name);
                if found.is_some_and(|found| found != *holder) {
                    return Err(format!(
                        "node {place} finds {name:?} at {found:?}; node {owner} holds it"
                    ));
                }
            }
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}
