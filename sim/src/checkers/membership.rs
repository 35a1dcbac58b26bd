//! What a membership table may never show: C136, C137, C139, C142, C144.

use std::collections::BTreeMap;

use machines::Instant;
use machines::cluster::ids::{Life, NodeId, Session};
use machines::cluster::swim::io::{DeadCause, MemberEventKind};
use machines::cluster::wire::State;
use machines::node::io::{Event, Output};

use super::truth::{can_talk, running, trust};
use super::{Bounds, HasNode};
use crate::checker::{Checker, Notice, Step};
use crate::world::{Setup, World};

/// What an observer's row said.
type Seen = BTreeMap<NodeId, (Life, State)>;

/// C136: rows never fall, never pass their subject's own life, and nobody accuses itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Monotone {
    /// (observer, its start) → revision of the table, and its rows.
    rows: BTreeMap<(u32, u32), (u64, Seen)>,
    /// The highest life that each node ever had.
    own: BTreeMap<NodeId, Life>,
}

impl<G: HasNode> Checker<G> for Monotone {
    fn property(&self) -> &'static str {
        "C136"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let swim = guest.node().swim();
        let me = guest.node().id();
        let own = self.own.entry(me).or_default();
        *own = (*own).max(swim.life());
        let (revision, seen) = self
            .rows
            .entry((step.node, world.host(step.node).epoch()))
            .or_default();
        if *revision == swim.revision() && !seen.is_empty() {
            return Ok(());
        }
        *revision = swim.revision();
        let mut now_seen = Seen::new();
        for member in swim.members() {
            let (node, life, state) = (member.node, member.life, member.state);
            if node == me && matches!(state, State::Suspect | State::Dead) {
                return Err(format!("{me:?} holds itself {state:?}"));
            }
            if let Some((old_life, old_state)) = seen.get(&node)
                && (life, state) < (*old_life, *old_state)
            {
                return Err(format!(
                    "{me:?} held {node:?} {old_state:?} in {old_life:?}, now {state:?} in {life:?}"
                ));
            }
            let limit = self.own.get(&node).copied().unwrap_or_default();
            let above = match state {
                State::Left => life.session > limit.session,
                State::Alive | State::Suspect | State::Dead => life > limit,
            };
            if above {
                return Err(format!(
                    "{me:?} holds {node:?} in {life:?}, which only got to {limit:?}"
                ));
            }
            now_seen.insert(node, (life, state));
        }
        *seen = now_seen;
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        if let Notice::Started(node) = notice
            && let Some(guest) = world.guest(node)
        {
            let own = self.own.entry(guest.node().id()).or_default();
            *own = (*own).max(guest.node().swim().life());
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}

/// C137: who applied a refutation is never suspicious of what it refuted.
#[derive(Clone, Debug, Default)]
pub(super) struct Refuted {
    /// (observer, its start) → subject → the newest life it held Alive.
    alive: BTreeMap<(u32, u32), BTreeMap<NodeId, Life>>,
}

impl<G: HasNode> Checker<G> for Refuted {
    fn property(&self) -> &'static str {
        "C137"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let alive = self
            .alive
            .entry((step.node, world.host(step.node).epoch()))
            .or_default();
        let member_events = step.outputs.iter().filter_map(|output| match output {
            Output::Event(Event::Member(event)) => Some(event),
            _ => None,
        });
        for subject in member_events.map(|event| event.node) {
            let Some(member) = guest.node().swim().member(subject) else {
                alive.remove(&subject);
                continue;
            };
            let newest = alive.entry(subject).or_default();
            match member.state {
                State::Alive => *newest = (*newest).max(member.life),
                State::Suspect | State::Dead if member.life < *newest => {
                    return Err(format!(
                        "{:?} holds {subject:?} {:?} in {:?}, after Alive in {newest:?}",
                        guest.node().id(),
                        member.state,
                        member.life
                    ));
                }
                State::Suspect | State::Dead | State::Left => {}
            }
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}

/// C139: nobody who runs is declared dead. For scenarios within the property's conditions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accuracy;

impl<G: HasNode> Checker<G> for Accuracy {
    fn property(&self) -> &'static str {
        "C139"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
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

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(*self)
    }
}

/// C142: Left is final in its session, and is Left at everyone who could hear of it.
#[derive(Clone, Debug)]
pub(super) struct LeftIsFinal {
    bounds: Bounds,
    /// Who left: (node, session, when, who could hear of it all along).
    left: Vec<(NodeId, Session, u64, Vec<u32>)>,
}

impl LeftIsFinal {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let bounds = Bounds::new(&setup.config, setup.nodes);
        Self {
            bounds,
            left: Vec::new(),
        }
    }
}

impl<G: HasNode> Checker<G> for LeftIsFinal {
    fn property(&self) -> &'static str {
        "C142"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        for output in step.outputs {
            let Output::Event(Event::Member(event)) = output else {
                continue;
            };
            let departed = self.left.iter().any(|(node, session, _, able)| {
                *node == event.node && *session == event.life.session && able.contains(&step.node)
            });
            if departed && matches!(event.kind, MemberEventKind::Dead(_)) {
                return Err(format!(
                    "{:?} declared {:?} dead, which left in {:?}",
                    guest.node().id(),
                    event.node,
                    event.life.session
                ));
            }
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        match notice {
            Notice::Left(node) => {
                let host = world.host(node);
                let able = running(world).map(|(other, _)| other);
                let able = able.filter(|other| *other != node && can_talk(world, *other, node));
                let able = able.filter(|other| trust(world, *other, node)).collect();
                self.left
                    .push((host.id(), host.session(), world.now(), able));
            }
            Notice::Died(node) | Notice::Refused(node, _) | Notice::Stopped(node) => {
                for (_, _, _, able) in &mut self.left {
                    able.retain(|other| *other != node);
                }
            }
            Notice::LinksChanged | Notice::FaultsChanged => {
                for (_, _, _, able) in &mut self.left {
                    let all = able.clone();
                    able.retain(|a| all.iter().all(|b| a == b || can_talk(world, *a, *b)));
                }
            }
            Notice::Started(_) | Notice::Revoked(_) => {}
        }
        Ok(())
    }

    fn end(&mut self, world: &World<G>) -> Result<(), String> {
        for (left, session, at, able) in &self.left {
            if world.now() < at + self.bounds.heal() {
                continue;
            }
            for (observer, node) in running(world).filter(|(observer, _)| able.contains(observer)) {
                let Some(member) = node.swim().member(*left) else {
                    continue;
                };
                if member.life.session == *session && member.state != State::Left {
                    return Err(format!(
                        "node {observer} holds {left:?} {:?}, which left in {session:?}",
                        member.state
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

/// C144: once nothing has changed for long enough, all who can talk say the same of everyone.
#[derive(Clone, Copy, Debug)]
pub(super) struct EqualTables {
    settle: u64,
    last_change: u64,
}

impl EqualTables {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let settle = Bounds::new(&setup.config, setup.nodes).dissemination() + 1_000_000_000;
        Self {
            settle,
            last_change: 0,
        }
    }
}

impl<G: HasNode> Checker<G> for EqualTables {
    fn property(&self) -> &'static str {
        "C144"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let is_member = |output: &Output| matches!(output, Output::Event(Event::Member(_)));
        if step.outputs.iter().any(is_member) {
            self.last_change = world.now();
        }
        Ok(())
    }

    fn end(&mut self, world: &World<G>) -> Result<(), String> {
        if world.now() < self.last_change + self.settle {
            return Ok(());
        }
        let all: Vec<_> = running(world).collect();
        for pair in all.windows(2) {
            let [(a, first), (b, second)] = pair else {
                continue;
            };
            if !trust(world, *a, *b) {
                continue;
            }
            for (subject, subject_node) in &all {
                let id = subject_node.id();
                let mutual = trust(world, *a, *subject) && trust(world, *b, *subject);
                let key = |node: &machines::node::Node| {
                    node.swim()
                        .member(id)
                        .map(|member| (member.life, member.state))
                };
                if mutual && key(first) != key(second) {
                    return Err(format!(
                        "of node {subject}, node {a} says {:?} and node {b} {:?}",
                        key(first),
                        key(second)
                    ));
                }
            }
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(*self)
    }
}
