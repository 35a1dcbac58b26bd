//! What a membership table may never show: C136, C137, C139, C142, C144.

use std::collections::{BTreeMap, BTreeSet};

use machines::Instant;
use machines::cluster::ids::{Life, NodeId, Session};
use machines::cluster::swim::io::{DeadCause, MemberEventKind};
use machines::cluster::wire::{CloseReason, State};
use machines::node::Node;
use machines::node::io::{Call, Event, Input, Output};
use machines::time::nanos;

use super::truth::{Rows, Standing, can_talk, running, trust};
use super::{Bounds, HasNode};
use crate::checker::{Checker, Notice, Step};
use crate::world::{Setup, World};

/// C136: rows never fall, never pass their subject's own life, and nobody accuses itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Monotone {
    rows: Rows,
    /// The highest life that each node ever had.
    own: BTreeMap<NodeId, Life>,
    looked: u64,
}

impl Monotone {
    /// What is wrong with a row of `me` that was `old` and is `new`.
    fn judge(
        &self,
        me: NodeId,
        node: NodeId,
        old: Option<Standing>,
        new: Standing,
    ) -> Result<(), String> {
        let (life, state) = new;
        if node == me && matches!(state, State::Suspect | State::Dead) {
            return Err(format!("{me:?} holds itself {state:?}"));
        }
        if old.is_some_and(|old| new < old) {
            return Err(format!("{me:?} held {node:?} {old:?}, and now {new:?}"));
        }
        let limit = self.own.get(&node).copied().unwrap_or_default();
        let above = match state {
            State::Left => life.session > limit.session,
            State::Alive | State::Suspect | State::Dead => life > limit,
        };
        match above {
            true => Err(format!("{me:?} holds {node:?} in {life:?}, which only got to {limit:?}")),
            false => Ok(()),
        }
    }
}

impl<G: HasNode> Checker<G> for Monotone {
    fn property(&self) -> &'static str {
        "C136"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let me = guest.node().id();
        let changed = self.rows.changed(world, step.node);
        if !changed.is_empty() {
            let own = self.own.entry(me).or_default();
            *own = (*own).max(guest.node().swim().life());
            self.looked += changed.len() as u64;
        }
        changed.into_iter().try_for_each(|(node, old, new)| self.judge(me, node, old, new))
    }
}

/// C137: who applied a refutation is never suspicious of what it refuted.
#[derive(Clone, Debug, Default)]
pub(super) struct Refuted {
    rows: Rows,
    /// (observer, its start, subject) → the newest life it held Alive.
    alive: BTreeMap<(u32, u32, NodeId), Life>,
    /// Accusations of nodes that refuted one before.
    looked: u64,
}

impl<G: HasNode> Checker<G> for Refuted {
    fn property(&self) -> &'static str {
        "C137"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let epoch = world.host(step.node).epoch();
        for (subject, old, (life, state)) in self.rows.changed(world, step.node) {
            let key = (step.node, epoch, subject);
            if old.is_none() {
                self.alive.remove(&key); // It was forgotten, or never known.
            }
            match state {
                State::Alive => {
                    let newest = self.alive.entry(key).or_default();
                    *newest = (*newest).max(life);
                }
                State::Suspect | State::Dead => {
                    self.looked += u64::from(self.alive.contains_key(&key));
                    if let Some(newest) = self.alive.get(&key).filter(|newest| life < **newest) {
                        return Err(format!(
                            "node {} holds {subject:?} {state:?} in {life:?}, after Alive in \
                             {newest:?}",
                            step.node
                        ));
                    }
                }
                State::Left => {}
            }
        }
        Ok(())
    }
}

/// C139: nobody who runs is declared dead. For scenarios within the property's conditions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Accuracy {
    looked: u64,
}

impl<G: HasNode> Checker<G> for Accuracy {
    fn property(&self) -> &'static str {
        "C139"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        self.looked += 1;
        for output in step.outputs {
            let Output::Event(Event::Member(event)) = output else {
                continue;
            };
            let told = match event.kind {
                MemberEventKind::Dead(DeadCause::Timeout | DeadCause::Told) => event,
                _ => continue,
            };
            let Some(place) = world.node_of(told.node) else {
                continue;
            };
            let host = world.host(place);
            if host.is_up() && host.session() == told.life.session {
                return Err(format!(
                    "node {} declared node {place} dead ({:?}), which runs since {:?}",
                    step.node,
                    told.kind,
                    Instant::from_nanos(host.started_at())
                ));
            }
        }
        Ok(())
    }
}

/// Who left, or is about to.
#[derive(Clone, Debug)]
struct Departure {
    id: NodeId,
    session: Session,
    /// When the process ended, if it has.
    done: Option<u64>,
    /// Who could hear of it all along: up, awake, and with a working path to each other.
    able: Vec<u32>,
}

/// C142: Left is final in its session, and is Left at everyone who could hear of it.
#[derive(Clone, Debug)]
pub(super) struct LeftIsFinal {
    bounds: Bounds,
    /// Whether who leaves stays until a fact can have reached all (C56).
    stays: bool,
    departures: BTreeMap<(u32, Session), Departure>,
    looked: u64,
}

/// Says whether both ends have a link with each other.
fn has_link<G: HasNode>(world: &World<G>, a: u32, b: u32) -> bool {
    let holds = |node: u32, peer: u32| {
        let guest = world.guest(node);
        guest.is_some_and(|guest| guest.node().links().link(world.host(peer).id()).is_some())
    };
    holds(a, b) && holds(b, a)
}

impl LeftIsFinal {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let bounds = Bounds::new(&setup.config, setup.nodes);
        let stays = nanos(setup.config.swim.leave_timeout) >= bounds.dissemination();
        Self { bounds, stays, departures: BTreeMap::new(), looked: 0 }
    }

    /// Takes note that `leaver` begins to leave.
    fn begin<G: HasNode>(&mut self, world: &World<G>, leaver: u32) {
        let host = world.host(leaver);
        let able = running(world).map(|(other, _)| other);
        let able = able.filter(|other| *other != leaver && can_talk(world, *other, leaver));
        let able = able.filter(|other| trust(world, *other, leaver));
        let able = able.filter(|other| has_link(world, *other, leaver)).collect();
        let (id, session) = (host.id(), host.session());
        let departure = Departure { id, session, done: None, able };
        self.departures.entry((leaver, session)).or_insert(departure);
    }

    /// Leaves out whom a lost link kept from hearing the leaver: Left is said once (C56). A link
    /// that closes since its peer leaves, or is held dead, is no such loss; nor is one that closes
    /// after the leaver has left, which is when it must have said so. What the leaver tells of its
    /// links says nothing: whoever has heard closes them.
    fn follow_links<G: HasNode>(&mut self, world: &World<G>, step: &Step<'_>) {
        use CloseReason::{MemberDead, MemberLeft, PeerRestarted, Shutdown};
        let orderly = [MemberDead, MemberLeft, PeerRestarted, Shutdown];
        let lost = |output: &Output| match output {
            Output::Event(Event::LinkDown { peer, reason }) if !orderly.contains(reason) => {
                world.node_of(*peer)
            }
            _ => None,
        };
        for peer in step.outputs.iter().filter_map(lost) {
            for ((leaver, _), departure) in &mut self.departures {
                if peer == *leaver && departure.done.is_none() {
                    departure.able.retain(|able| *able != step.node);
                }
            }
        }
    }

    /// Leaves out who is cut off or held up now, from the leaver or from one another.
    fn retain_able<G: HasNode>(&mut self, world: &World<G>) {
        for ((leaver, _), departure) in &mut self.departures {
            let mut all = departure.able.clone();
            all.extend(departure.done.is_none().then_some(*leaver));
            departure.able.retain(|a| all.iter().all(|b| a == b || can_talk(world, *a, *b)));
        }
    }
}

impl<G: HasNode> Checker<G> for LeftIsFinal {
    fn property(&self) -> &'static str {
        "C142"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if let (true, Input::Call { request: Call::Leave, .. }) = (self.stays, step.input) {
            self.begin(world, step.node);
        }
        if self.departures.is_empty() {
            return Ok(());
        }
        for output in step.outputs {
            let Output::Event(Event::Member(event)) = output else {
                continue;
            };
            let departed = self.departures.values().any(|departure| {
                departure.id == event.node
                    && departure.session == event.life.session
                    && departure.able.contains(&step.node)
            });
            let dead =
                matches!(event.kind, MemberEventKind::Dead(DeadCause::Timeout | DeadCause::Told));
            if departed && dead {
                return Err(format!(
                    "node {} declared {:?} dead, which left in {:?}",
                    step.node, event.node, event.life.session
                ));
            }
        }
        self.follow_links(world, step);
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        match notice {
            Notice::Left(node) => {
                let session = world.host(node).session();
                if let Some(departure) = self.departures.get_mut(&(node, session)) {
                    departure.done = Some(world.now());
                }
                for departure in self.departures.values_mut() {
                    departure.able.retain(|other| *other != node);
                }
            }
            Notice::Died(node) | Notice::Refused(node, _) | Notice::Stopped(node) => {
                self.departures.retain(|(leaver, _), departure| {
                    departure.able.retain(|other| *other != node);
                    // Who dies before it has left just dies.
                    *leaver != node || departure.done.is_some()
                });
            }
            Notice::LinksChanged | Notice::FaultsChanged => self.retain_able(world),
            Notice::Started(_) | Notice::Revoked(_) => {}
        }
        Ok(())
    }

    fn end(&mut self, world: &World<G>) -> Result<(), String> {
        for departure in self.departures.values() {
            let Departure { id, session, done, able } = departure;
            if done.is_none_or(|at| world.now() < at + self.bounds.heal()) {
                continue;
            }
            for (observer, node) in running(world).filter(|(observer, _)| able.contains(observer)) {
                let Some(member) = node.swim().member(*id) else {
                    continue;
                };
                self.looked += 1;
                if member.life.session == *session && member.state != State::Left {
                    return Err(format!(
                        "node {observer} holds {id:?} {:?}, which left in {session:?}",
                        member.state
                    ));
                }
            }
        }
        Ok(())
    }
}

/// C144: once nothing has changed for long enough, all who can talk say the same of everyone whom
/// they know, the dead and the left included.
#[derive(Clone, Debug)]
pub(super) struct EqualTables {
    /// How long it takes until the rows of those who run are equal.
    settle: u64,
    /// How much longer for rows of those who do not, who cannot put anything right themselves.
    gone: u64,
    rows: Rows,
    last_change: u64,
    /// Rows compared.
    looked: u64,
}

impl EqualTables {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let bounds = Bounds::new(&setup.config, setup.nodes);
        // Without loss, what gossip may miss a few syncs bring; with loss, it takes all of them.
        let syncs = if setup.plain.loss == 0 { 0 } else { bounds.same_lives() };
        let settle = bounds.heal() + syncs;
        let gone = bounds.same_lives() - syncs;
        Self { settle, gone, rows: Rows::default(), last_change: 0, looked: 0 }
    }

    /// Compares what `a` and `b` say of `id`.
    fn compare<G: HasNode>(
        &mut self,
        world: &World<G>,
        [(a, first), (b, second)]: [(u32, &Node); 2],
        id: NodeId,
    ) -> Result<(), String> {
        let row = |node: &Node| node.swim().member(id).map(|member| (member.life, member.state));
        let (ours, theirs) = (row(first), row(second));
        let runs = world.node_of(id).filter(|place| world.host(*place).is_up());
        let trusted = first.allowed().has(id) && second.allowed().has(id);
        let mutual = runs.is_none_or(|place| trust(world, a, place) && trust(world, b, place));
        // Of those who are gone, whoever came later may know nothing (C54, C60).
        let known = runs.is_some() || (ours.is_some() && theirs.is_some());
        let settled = runs.is_some() || world.now() >= self.last_change + self.settle + self.gone;
        if !trusted || !mutual || !known || !settled {
            return Ok(());
        }
        self.looked += 1;
        match ours == theirs {
            true => Ok(()),
            false => Err(format!("of {id:?}, node {a} says {ours:?} and node {b} {theirs:?}")),
        }
    }
}

impl<G: HasNode> Checker<G> for EqualTables {
    fn property(&self) -> &'static str {
        "C144"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if !self.rows.changed(world, step.node).is_empty() {
            self.last_change = world.now();
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, _: Notice) -> Result<(), String> {
        self.last_change = world.now();
        Ok(())
    }

    fn quiet(&mut self, world: &World<G>) {
        self.last_change = world.now();
    }

    fn end(&mut self, world: &World<G>) -> Result<(), String> {
        if world.now() < self.last_change + self.settle {
            return Ok(());
        }
        let all: Vec<_> = running(world).collect();
        for (place, (a, first)) in all.iter().enumerate() {
            let known: BTreeSet<NodeId> = first.swim().members().map(|row| row.node).collect();
            for (b, second) in all.iter().skip(place + 1).filter(|(b, _)| trust(world, *a, *b)) {
                let theirs = second.swim().members().map(|row| row.node);
                let subjects: BTreeSet<NodeId> = theirs.chain(known.iter().copied()).collect();
                for id in subjects {
                    self.compare(world, [(*a, first), (*b, second)], id)?;
                }
            }
        }
        Ok(())
    }
}
