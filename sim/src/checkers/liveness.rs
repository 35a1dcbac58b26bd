//! What must happen in time: C138, C140, C141.

use std::collections::{BTreeMap, BTreeSet};

use machines::cluster::counters::Counter;
use machines::cluster::ids::{NodeId, Session};
use machines::cluster::swim::io::MemberEventKind;
use machines::cluster::wire::State;
use machines::node::io::{Event, Output};

use super::truth::{HoldUps, Rows, running, seconds, trust};
use super::{Bounds, HasNode};
use crate::checker::{Checker, Notice, Step};
use crate::plan::{Act, DiskFault};
use crate::world::{Setup, World};

/// C138: every crash is known to every able member within B(N).
///
/// The clock of a pair of observer and crashed node starts anew only by what concerns the pair:
/// when the observer starts or is held up, when it learns of a member that joins, and when it
/// still learns something newer of the crashed node. The bound grows with the observer's health
/// score, and so does every suspicion that a stall moves: a stall of a node that nothing held up
/// breaks the promise as well (C53). That 99 % of runs keep B99(N) is a statement
/// about many runs, and measured elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Completeness {
    bounds: Bounds,
    held_up: HoldUps,
    /// Nodes that are down: place → (id, since when).
    down: BTreeMap<u32, (NodeId, u64)>,
    /// (observer, crashed) → when the observer last learnt something newer.
    heard: BTreeMap<(u32, u32), u64>,
    /// Observer → when it last learnt of a member that joins.
    joined: BTreeMap<u32, u64>,
    /// The worst health score of each observer since anyone is down.
    health: BTreeMap<u32, u64>,
    /// How often each process took itself to have slept.
    stalls: BTreeMap<u32, u64>,
    /// Deaths that became known while they were waited for.
    known: u64,
}

impl Completeness {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        Self {
            bounds: Bounds::new(&setup.config, setup.nodes),
            held_up: HoldUps::new(setup),
            down: BTreeMap::new(),
            heard: BTreeMap::new(),
            joined: BTreeMap::new(),
            health: BTreeMap::new(),
            stalls: BTreeMap::new(),
            known: 0,
        }
    }

    /// Takes note of what the observer just learnt.
    fn learn(&mut self, observer: u32, now: u64, output: &Output) {
        let Output::Event(Event::Member(event)) = output else {
            return;
        };
        let crashed = self.down.iter().find(|(_, (id, _))| *id == event.node);
        let crashed = crashed.map(|(place, _)| *place);
        match event.kind {
            MemberEventKind::Join | MemberEventKind::Alive | MemberEventKind::Changed => {
                if let Some(crashed) = crashed {
                    self.heard.insert((observer, crashed), now);
                }
            }
            MemberEventKind::Dead(_) => self.known += u64::from(crashed.is_some()),
            MemberEventKind::Suspect | MemberEventKind::Left => {}
        }
        if event.kind == MemberEventKind::Join {
            self.joined.insert(observer, now);
        }
    }

    /// Since when the bound counts for everything that this observer has to find out.
    fn able_since<G: HasNode>(&self, world: &World<G>, observer: u32) -> u64 {
        let joined = self.joined.get(&observer).copied().unwrap_or(0);
        let started = world.host(observer).started_at();
        joined.max(started).max(self.held_up.free_since(observer, world.now()))
    }
}

impl<G: HasNode> Checker<G> for Completeness {
    fn property(&self) -> &'static str {
        "C138"
    }

    fn armed(&self) -> u64 {
        self.known
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let swim = guest.node().swim();
        let worst = self.health.entry(step.node).or_default();
        *worst = (*worst).max(u64::from(swim.health()));
        let worst = *worst;
        let stalls = swim.counters().get(Counter::Stalls);
        let before = self.stalls.insert(step.node, stalls).unwrap_or(0);
        if stalls > before && !self.held_up.may_be_late(step.node, world.now()) {
            return Err(format!("node {} says that it slept, and nothing held it up", step.node));
        }
        for output in step.outputs {
            self.learn(step.node, world.now(), output);
        }
        if self.down.is_empty() {
            return Ok(());
        }
        let able = self.able_since(world, step.node);
        // A clock may be one percent slow.
        let bound = self.bounds.detection(worst);
        let bound = bound + bound / 50;
        for (crashed, (id, since)) in &self.down {
            let heard = self.heard.get(&(step.node, *crashed)).copied().unwrap_or(0);
            let late = world.now().saturating_sub((*since).max(heard).max(able));
            let held = swim.member(*id).map(|member| member.state);
            let unaware = matches!(held, Some(State::Alive | State::Suspect));
            if unaware && late > bound {
                return Err(format!(
                    "node {} holds node {crashed} {held:?}, {} after it crashed; bound {}",
                    step.node,
                    seconds(late),
                    seconds(bound)
                ));
            }
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        match notice {
            Notice::Died(node) | Notice::Stopped(node) => {
                if self.down.is_empty() {
                    self.health.clear();
                }
                self.down.insert(node, (world.host(node).id(), world.now()));
                self.heard.retain(|(_, crashed), _| *crashed != node);
            }
            Notice::Started(node) => {
                self.down.remove(&node);
                self.health.remove(&node);
                self.stalls.remove(&node);
            }
            Notice::LinksChanged
            | Notice::FaultsChanged
            | Notice::Refused(..)
            | Notice::Left(_)
            | Notice::Revoked(_) => {}
        }
        Ok(())
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
    /// How often it was looked whether all are together, and whether lives are the same.
    looked: (u64, u64),
}

/// How long a quiet period the first half of C140 and C141 need.
pub(super) fn heal_needs<G: HasNode>(setup: &Setup<G>) -> Option<u64> {
    Some(Bounds::new(&setup.config, setup.nodes).heal() + MARGIN)
}

/// How long a quiet period C140 and C144 need, until lives are the same.
pub(super) fn lives_needs<G: HasNode>(setup: &Setup<G>) -> Option<u64> {
    let bounds = Bounds::new(&setup.config, setup.nodes);
    Some(bounds.heal() + bounds.same_lives() + MARGIN)
}

/// The last faults may end as the quiet period begins, and a process that was killed starts then.
const MARGIN: u64 = 2_000_000_000;

impl Heal {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let bounds = Bounds::new(&setup.config, setup.nodes);
        let (rows, looked) = (Rows::default(), (0, 0));
        Self { bounds, since: 0, last_change: 0, rows, together: false, looked }
    }
}

impl<G: HasNode> Checker<G> for Heal {
    fn property(&self) -> &'static str {
        "C140"
    }

    fn armed(&self) -> u64 {
        self.looked.0.min(self.looked.1)
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if !self.rows.changed(world, step.node).is_empty() {
            self.last_change = world.now();
        }
        if self.together || !world.is_quiet() || world.now() < self.since + self.bounds.heal() {
            return Ok(());
        }
        self.together = true;
        self.looked.0 += 1;
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
        if !settled || !same {
            return Ok(());
        }
        self.looked.1 += 1;
        mistaken(world).map_or(Ok(()), Err)
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
    looked: u64,
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
        Self { bounds, since: 0, used: BTreeMap::new(), dishonest, checked: false, looked: 0 }
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

    fn armed(&self) -> u64 {
        self.looked
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
        self.looked += 1;
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
}
