//! What must happen in time: C138, C140, C141.

use std::collections::{BTreeMap, BTreeSet};

use machines::cluster::ids::{NodeId, Session};
use machines::cluster::swim::io::MemberEventKind;
use machines::cluster::wire::State;
use machines::node::io::{Event, Output};

use super::truth::{Rows, running, seconds, trust};
use super::{Bounds, HasNode};
use crate::checker::{Checker, Notice, Step};
use crate::plan::{Act, DiskFault};
use crate::world::{Setup, World};

/// C138: every crash is known to every able member within B(N).
///
/// The clock of a crash starts anew when a fault begins or ends, when anyone joins, and when an
/// observer still learns something newer of the crashed node.
#[derive(Clone, Debug)]
pub(super) struct Completeness {
    bounds: Bounds,
    /// Nodes that are down: place → (id, since when the bound counts).
    down: BTreeMap<u32, (NodeId, u64)>,
    /// (observer, crashed) → since when the bound counts for this pair.
    heard: BTreeMap<(u32, u32), u64>,
    /// The worst health score of each observer since the last restart of clocks.
    health: BTreeMap<u32, u64>,
}

impl Completeness {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        Self {
            bounds: Bounds::new(&setup.config, setup.nodes),
            down: BTreeMap::new(),
            heard: BTreeMap::new(),
            health: BTreeMap::new(),
        }
    }

    fn restart_clocks(&mut self, now: u64) {
        self.health.clear();
        for (_, since) in self.down.values_mut() {
            *since = now;
        }
    }
}

impl<G: HasNode> Checker<G> for Completeness {
    fn property(&self) -> &'static str {
        "C138"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let swim = guest.node().swim();
        let worst = self.health.entry(step.node).or_default();
        *worst = (*worst).max(u64::from(swim.health()));
        let worst = *worst;
        for output in step.outputs {
            let Output::Event(Event::Member(event)) = output else {
                continue;
            };
            let newer = matches!(
                event.kind,
                MemberEventKind::Join | MemberEventKind::Alive | MemberEventKind::Changed
            );
            let crashed = self.down.iter().find(|(_, (id, _))| *id == event.node);
            if let (true, Some((crashed, _))) = (newer, crashed) {
                self.heard.insert((step.node, *crashed), world.now());
            }
            if event.kind == MemberEventKind::Join {
                self.restart_clocks(world.now());
            }
        }
        for (crashed, (id, since)) in &self.down {
            let heard = self.heard.get(&(step.node, *crashed)).copied().unwrap_or(0);
            let since = (*since).max(heard).max(world.host(step.node).started_at());
            let late = world.now().saturating_sub(since);
            let held = swim.member(*id).map(|member| member.state);
            let unaware = matches!(held, Some(State::Alive | State::Suspect));
            if unaware && late > self.bounds.detection(worst) {
                return Err(format!(
                    "node {} holds node {crashed} {:?}, {} after it crashed; bound {}",
                    step.node,
                    held,
                    seconds(late),
                    seconds(self.bounds.detection(worst))
                ));
            }
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        match notice {
            Notice::Died(node) | Notice::Stopped(node) => {
                self.down.insert(node, (world.host(node).id(), world.now()));
            }
            Notice::Started(node) => {
                self.down.remove(&node);
                self.health.remove(&node);
                self.restart_clocks(world.now());
            }
            Notice::LinksChanged | Notice::FaultsChanged => self.restart_clocks(world.now()),
            Notice::Refused(..) | Notice::Left(_) | Notice::Revoked(_) => {}
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}

/// Finds two running nodes that trust each other, of which one does not hold the other a member.
fn estranged<G: HasNode>(world: &World<G>) -> Option<(u32, u32, Option<State>)> {
    let all: Vec<_> = running(world).collect();
    for (a, node) in &all {
        for (b, other) in all.iter().filter(|(b, _)| a != b && trust(world, *a, *b)) {
            let held = node.swim().member(other.id()).map(|member| member.state);
            if !matches!(held, Some(State::Alive | State::Suspect)) {
                return Some((*a, *b, held));
            }
        }
    }
    None
}

/// Finds a running node that another holds in another life than its own.
fn mistaken<G: HasNode>(world: &World<G>) -> Option<String> {
    let all: Vec<_> = running(world).collect();
    for (a, node) in &all {
        for (b, other) in all.iter().filter(|(b, _)| trust(world, *a, *b)) {
            let held = node.swim().member(other.id()).map(|member| member.life);
            if held.is_some_and(|life| life != other.swim().life()) {
                let own = other.swim().life();
                return Some(format!("node {a} holds node {b} in {held:?}, which is in {own:?}"));
            }
        }
    }
    None
}

/// C140: after the last fault all hold each other members within H(N), and in the same lives
/// within H(N) + X(N)·⌈log₂N⌉.
#[derive(Clone, Debug)]
pub(super) struct Heal {
    bounds: Bounds,
    /// When everything was last disturbed.
    since: u64,
    /// When any row last changed, for lives that are still on their way.
    last_change: u64,
    rows: Rows,
    together: bool,
}

impl Heal {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let bounds = Bounds::new(&setup.config, setup.nodes);
        Self { bounds, since: 0, last_change: 0, rows: Rows::default(), together: false }
    }
}

impl<G: HasNode> Checker<G> for Heal {
    fn property(&self) -> &'static str {
        "C140"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if !self.rows.changed(world, step.node).is_empty() {
            self.last_change = world.now();
        }
        if self.together || !world.is_quiet() || world.now() < self.since + self.bounds.heal() {
            return Ok(());
        }
        self.together = true;
        match estranged(world) {
            None => Ok(()),
            Some((a, b, held)) => Err(format!(
                "{} after the last fault node {a} holds node {b} {held:?}",
                seconds(self.bounds.heal())
            )),
        }
    }

    fn notice(&mut self, world: &World<G>, _: Notice) -> Result<(), String> {
        self.since = world.now();
        self.together = false;
        Ok(())
    }

    fn quiet(&mut self, world: &World<G>) {
        self.since = world.now();
        self.together = false;
    }

    fn end(&mut self, world: &World<G>) -> Result<(), String> {
        let calm = world.now().saturating_sub(self.since);
        if calm >= self.bounds.heal()
            && let Some((a, b, held)) = estranged(world)
        {
            return Err(format!("at the end node {a} holds node {b} {held:?}"));
        }
        let settled = world.now() >= self.last_change + self.bounds.dissemination();
        let same = calm >= self.bounds.heal() + self.bounds.same_lives();
        match mistaken(world) {
            Some(evidence) if settled && same => Err(evidence),
            _ => Ok(()),
        }
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}

/// C141: after all have restarted, they agree within H(N) of the last start, and every older
/// session is fenced.
#[derive(Clone, Debug)]
pub(super) struct MassRestart {
    bounds: Bounds,
    /// When anything last happened that agreement has to follow.
    since: u64,
    /// Sessions that each node has used: a start in one of them again is unfenced (C7).
    used: BTreeMap<u32, BTreeSet<Session>>,
    /// Nodes whose disks forget, or lie about it: for them C27 stands in.
    dishonest: BTreeSet<u32>,
    checked: bool,
}

impl MassRestart {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let bounds = Bounds::new(&setup.config, setup.nodes);
        let forgetful = setup.plan.iter().filter_map(|planned| match planned.act {
            Act::Kill { node, wipe: true, .. } => Some(node),
            Act::Disk(node, DiskFault::LostSync | DiskFault::Rot | DiskFault::Misdirected) => {
                Some(node)
            }
            _ => None,
        });
        let dishonest = forgetful.collect();
        Self { bounds, since: 0, used: BTreeMap::new(), dishonest, checked: false }
    }

    fn disturbed(&mut self, now: u64) {
        self.since = now;
        self.checked = false;
    }

    fn uses(&mut self, node: u32, session: Session) -> Result<(), String> {
        let fresh = self.used.entry(node).or_default().insert(session);
        match fresh || self.dishonest.contains(&node) {
            true => Ok(()),
            false => Err(format!("node {node} started twice in {session:?}")),
        }
    }
}

impl<G: HasNode> Checker<G> for MassRestart {
    fn property(&self) -> &'static str {
        "C141"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        for output in step.outputs {
            if let Output::Event(Event::SessionRenewed(session)) = output {
                self.disturbed(world.now());
                self.uses(step.node, *session)?;
            }
        }
        if self.checked || !world.is_quiet() || world.now() < self.since + self.bounds.heal() {
            return Ok(());
        }
        self.checked = true;
        if let Some((a, b, held)) = estranged(world) {
            return Err(format!("after a mass restart node {a} holds node {b} {held:?}"));
        }
        for (a, node) in running(world) {
            for (b, other) in running(world).filter(|(b, _)| trust(world, a, *b)) {
                let held = node.swim().member(other.id()).map(|member| member.life.session);
                if held.is_some_and(|session| session < other.session()) {
                    return Err(format!("node {a} still holds node {b} in {held:?}"));
                }
            }
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        self.disturbed(world.now());
        if let Notice::Started(node) = notice
            && let Some(guest) = world.guest(node)
        {
            return self.uses(node, guest.node().session());
        }
        Ok(())
    }

    fn quiet(&mut self, world: &World<G>) {
        self.disturbed(world.now());
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}
