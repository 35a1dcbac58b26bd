//! What look-ups may answer: C148, C149.

use std::collections::BTreeMap;

use machines::cluster::ids::{CallId, NodeId, Ref};
use machines::cluster::registry::io::NameEventKind;
use machines::cluster::wire::Name;
use machines::node::io::{Call, Event, Input, Output, Reply};
use machines::time::nanos;

use super::truth::{HoldUps, can_talk, running, seconds, trust};
use super::{Bounds, HasNode};
use crate::checker::{Checker, Notice, Step};
use crate::world::{Setup, World};

/// ε of C148 for delays up to 50 ms.
fn epsilon(ttl: u64) -> u64 {
    1_000_000_000 + ttl / 100
}

/// C148: no look-up returns a registration later than its ttl and ε after its end, and where
/// gossip gets through, not later than D(N) and ε.
///
/// Gossip gets through where nothing was disturbed since the cluster had agreed, nothing is lost,
/// and the owner, which runs, withdrew the name itself.
#[derive(Clone, Debug)]
pub(super) struct NoGhosts {
    ttl: u64,
    bounds: Bounds,
    held_up: HoldUps,
    /// Whether the network loses nothing by itself.
    lossless: bool,
    /// (name, holder) → when it ended, if it has.
    ended: BTreeMap<(Name, Ref), Option<End>>,
    looked: BTreeMap<CallId, Name>,
    /// When anything was last disturbed.
    disturbed: u64,
    /// Look-ups of names that had ended, late enough to count.
    judged: u64,
}

/// The end of a registration.
#[derive(Clone, Copy, Debug)]
struct End {
    at: u64,
    /// The owner withdrew it, and runs on.
    withdrawn: bool,
}

impl NoGhosts {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        Self {
            ttl: nanos(setup.config.registry.default_ttl),
            bounds: Bounds::new(&setup.config, setup.nodes),
            held_up: HoldUps::new(setup),
            lossless: setup.plain.loss == 0,
            ended: BTreeMap::new(),
            looked: BTreeMap::new(),
            disturbed: 0,
            judged: 0,
        }
    }

    /// What the owner's node says of its own names decides what is true.
    fn follow_owner<G: HasNode>(&mut self, world: &World<G>, step: &Step<'_>) {
        let Some(guest) = world.guest(step.node) else {
            return;
        };
        for output in step.outputs {
            match output {
                Output::Event(Event::SessionRenewed(_)) => self.disturbed = world.now(),
                Output::Event(Event::Name(event)) if event.holder.node == guest.node().id() => {
                    let key = (event.name.clone(), event.holder);
                    match event.kind {
                        NameEventKind::Registered | NameEventKind::Replaced => {
                            self.ended.insert(key, None);
                        }
                        NameEventKind::Withdrawn | NameEventKind::Lost => {
                            let withdrawn = event.kind == NameEventKind::Withdrawn;
                            let end = End { at: world.now(), withdrawn };
                            self.ended.entry(key).or_default().get_or_insert(end);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Lists the holders of `name` that `asker` must not find any more: since when each is none,
    /// and how long it might have been found.
    fn late<'a, G: HasNode>(
        &'a self,
        world: &'a World<G>,
        asker: u32,
        name: &'a Name,
    ) -> impl Iterator<Item = (Ref, u64, u64)> + 'a {
        let of_name = self.ended.range((name.clone(), LEAST)..);
        let of_name = of_name.take_while(move |((other, _), _)| other == name);
        of_name.filter_map(move |((_, holder), end)| {
            let end = (*end)?;
            let trusted =
                world.node_of(holder.node).is_some_and(|owner| trust(world, asker, owner));
            let (since, bound) = (world.now() - end.at, self.bound(end, trusted, world.now()));
            (since > bound).then_some((*holder, since, bound))
        })
    }

    /// How long after `end` a look-up by a node may still answer, whom the owner trusts or not.
    fn bound(&self, end: End, trusted: bool, now: u64) -> u64 {
        let quick = self.lossless
            && trusted
            && end.withdrawn
            && end.at > self.disturbed + self.bounds.heal()
            && !self.held_up.anything(self.disturbed, now);
        match quick {
            true => self.bounds.dissemination() + epsilon(self.ttl),
            false => self.ttl + epsilon(self.ttl) + self.held_up.longest(end.at, now),
        }
    }
}

impl<G: HasNode> Checker<G> for NoGhosts {
    fn property(&self) -> &'static str {
        "C148"
    }

    fn armed(&self) -> u64 {
        self.judged
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
            let Some(name) = self.looked.remove(call) else {
                continue;
            };
            let counts = self.late(world, step.node, &name).next().is_some();
            self.judged += u64::from(counts);
            let mut late = self.late(world, step.node, &name);
            if let Some((_, since, bound)) = late.find(|(held, ..)| Some(*held) == *found) {
                return Err(format!(
                    "node {} found {name:?} at {found:?}, {} after its end, at most {}",
                    step.node,
                    seconds(since),
                    seconds(bound)
                ));
            }
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        self.disturbed = world.now();
        let ended = match notice {
            Notice::Died(node) | Notice::Stopped(node) | Notice::Left(node) => node,
            Notice::Started(_)
            | Notice::Refused(..)
            | Notice::LinksChanged
            | Notice::FaultsChanged
            | Notice::Revoked(_) => return Ok(()),
        };
        let (id, session) = (world.host(ended).id(), world.host(ended).session());
        for ((_, holder), end) in &mut self.ended {
            if (holder.node, holder.session) == (id, session) {
                end.get_or_insert(End { at: world.now(), withdrawn: false });
            }
        }
        Ok(())
    }
}

/// Before every reference.
const LEAST: Ref = Ref {
    node: NodeId::from_bytes([0; 16]),
    session: machines::cluster::ids::Session(0),
    actor: machines::cluster::ids::ActorId(0),
};

/// One look-up under way.
#[derive(Clone, Debug)]
struct Asked {
    node: u32,
    epoch: u32,
    name: Name,
    /// Who held the name when it was asked, if the answer counts.
    holder: Option<(u32, Ref)>,
}

/// C149: in the quiet period one owner at the most holds a name, and every member finds it there.
///
/// Exempt is what the nodes themselves tell of ([`Event::NamesLate`]): clusters whose size asks for
/// a longer ttl than the configured one, as
/// [`ttl_least`](machines::cluster::config::ClusterConfig::ttl_least) says.
#[derive(Clone, Debug)]
pub(super) struct Agreement {
    /// Whether the configuration lets two owners meet.
    meets: bool,
    /// Whether the configuration lets everyone find what is held.
    finds: bool,
    /// Whether limits are so low that nodes refuse the dials of a few others, or the second dial
    /// of one within a second (C110): who has no link may get none in time then.
    refuses: bool,
    /// How long after a disturbance one owner may be left.
    one_owner: u64,
    /// How long after a disturbance everyone must find what is held.
    all_find: u64,
    /// How long after its last change.
    settle: u64,
    since: u64,
    /// When an owner last said something new of its own names, or membership changed.
    last_change: u64,
    looked_at: u64,
    asked: BTreeMap<CallId, Asked>,
    /// Look-ups that had to find a name.
    judged: u64,
}

/// How often owners are compared.
const EVERY: u64 = 250_000_000;

/// How long a quiet period C149 needs, look-ups included; none if nobody registers anything.
pub(super) fn agreement_needs<G: HasNode>(setup: &Setup<G>) -> Option<u64> {
    let this = Agreement::new(setup);
    let names = u64::from(setup.work.names) * 100_000_000;
    let audit = 2 * nanos(setup.config.registry.lookup_timeout) + names + 4_000_000_000;
    let counts = this.finds && setup.work.register > 0 && setup.nodes > 1;
    counts.then_some(this.all_find + audit)
}

impl Agreement {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let bounds = Bounds::new(&setup.config, setup.nodes);
        let ttl = nanos(setup.config.registry.default_ttl);
        let late = bounds.dissemination() + epsilon(ttl);
        // Two owners learn of each other once they are members of each other again (C140); what
        // gossip loses, syncs bring.
        let all_find = bounds.heal() + bounds.same_lives() + late;
        let lossless = setup.plain.loss == 0;
        let one_owner = if lossless { bounds.heal() + late } else { all_find };
        let limits = &setup.config.links;
        let of_all = limits.half_open_max.min(limits.accept_rate_total);
        let of_one = limits.accept_rate_source.min(limits.accept_burst_source);
        let of_one = of_one.min(limits.half_open_source_max);
        let settle = if lossless { late } else { bounds.same_lives() + late };
        Self {
            meets: ttl >= 2 * bounds.sync_every(),
            refuses: of_all < setup.nodes || of_one < 2,
            finds: setup.config.registry.default_ttl >= setup.config.ttl_least(setup.nodes),
            one_owner,
            all_find,
            settle,
            since: 0,
            last_change: 0,
            looked_at: 0,
            asked: BTreeMap::new(),
            judged: 0,
        }
    }

    /// Says who holds each name; of two that hold one, so.
    fn owners<G: HasNode>(world: &World<G>) -> Result<BTreeMap<Name, (u32, Ref)>, String> {
        let mut owners: BTreeMap<Name, (u32, Ref)> = BTreeMap::new();
        for (place, node) in running(world) {
            for (actor, name) in node.registry().held() {
                let holder = Ref { node: node.id(), session: node.session(), actor };
                match owners.insert(name.clone(), (place, holder)) {
                    Some((other, _)) if trust(world, other, place) => {
                        return Err(format!("nodes {other} and {place} both hold {name:?}"));
                    }
                    Some(_) | None => {}
                }
            }
        }
        Ok(owners)
    }

    fn ask<G: HasNode>(&mut self, world: &World<G>, step: &Step<'_>, call: CallId, name: &Name) {
        let settled = self.finds && world.is_quiet() && world.now() > self.since + self.all_find;
        let stable = world.now() > self.last_change + self.settle;
        // A table of look-ups that is full answers at once that nothing is found (C150).
        let room = world.guest(step.node).is_some_and(|guest| {
            let (_, waiting) = guest.node().registry().sizes();
            waiting < guest.node().config().registry.lookups_max
        });
        let holder = match (settled && stable && room, Self::owners(world)) {
            (true, Ok(owners)) => owners.get(name).copied(),
            (true, Err(_)) | (false, _) => None,
        };
        let holder = holder.filter(|(owner, _)| {
            let same = *owner == step.node;
            same || (trust(world, step.node, *owner) && can_talk(world, step.node, *owner))
        });
        let epoch = world.host(step.node).epoch();
        self.asked.insert(call, Asked { node: step.node, epoch, name: name.clone(), holder });
    }

    fn judge<G: HasNode>(
        &mut self,
        world: &World<G>,
        asked: &Asked,
        found: Option<Ref>,
    ) -> Result<(), String> {
        let Some((owner, holder)) = asked.holder else {
            return Ok(());
        };
        let same = asked.epoch == world.host(asked.node).epoch();
        let owners = Self::owners(world).unwrap_or_default();
        let held = owners.get(&asked.name) == Some(&(owner, holder));
        if !same || !held || world.now() < self.last_change + EVERY {
            return Ok(());
        }
        // Whoever has no link, and may be refused one, cannot ask the owner in time.
        let id = world.host(owner).id();
        let linked = world.guest(asked.node).is_some_and(|g| g.node().links().link(id).is_some());
        if self.refuses && !linked && found.is_none() && asked.node != owner {
            return Ok(());
        }
        self.judged += u64::from(asked.node != owner);
        match found == Some(holder) {
            true => Ok(()),
            false => Err(format!(
                "node {} finds {:?} at {found:?}; node {owner} holds it",
                asked.node, asked.name
            )),
        }
    }

    fn disturbed(&mut self, now: u64) {
        self.since = now;
        self.asked.clear();
    }
}

impl<G: HasNode> Checker<G> for Agreement {
    fn property(&self) -> &'static str {
        "C149"
    }

    fn armed(&self) -> u64 {
        self.judged
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let me = world.host(step.node).id();
        for output in step.outputs {
            match output {
                Output::Event(Event::SessionRenewed(_)) => self.disturbed(world.now()),
                Output::Event(Event::Member(_)) => self.last_change = world.now(),
                Output::Event(Event::Name(event)) if event.holder.node == me => {
                    self.last_change = world.now();
                }
                _ => {}
            }
        }
        if let Input::Call { call, request: Call::Lookup(name) } = step.input {
            self.ask(world, step, *call, name);
        }
        for output in step.outputs {
            if let Output::Reply { call, reply: Reply::Found(found) } = output
                && let Some(asked) = self.asked.remove(call)
            {
                self.judge(world, &asked, *found)?;
            }
        }
        if self.meets
            && world.is_quiet()
            && world.now() > self.since + self.one_owner
            && world.now() >= self.looked_at + EVERY
        {
            self.looked_at = world.now();
            Self::owners(world)?;
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, _: Notice) -> Result<(), String> {
        self.disturbed(world.now());
        Ok(())
    }

    fn quiet(&mut self, world: &World<G>) {
        self.disturbed(world.now());
    }
}
