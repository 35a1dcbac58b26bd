//! Goal: no order, loss or repetition of messages makes three members break C136 or C137, and a
//! crash is known in every fair end (C155, T73).
//! Method: stateright drives the production `Swim` machines, joined beforehand. A step delivers,
//! loses or repeats any message in flight, lets time pass to the next deadline, crashes node 2, or
//! makes node 1 suspect node 0 falsely; [`Bounds`] says how often, how late a message may be, and
//! how long this goes on. From there the run goes on fairly, and must end with the crash known and
//! the able alive.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use machines::cluster::config::{Profile, SwimConfig};
use machines::cluster::identity::Allowed;
use machines::cluster::ids::{Addr, Life, NodeId, Session};
use machines::cluster::swim::io::{Input, Lane, Output, Seed};
use machines::cluster::swim::{Swim, SwimParams};
use machines::cluster::wire::{Body, Entry, Fact, Message, Meta, State as Rank};
use machines::digest::Digest;
use machines::{Choices, Instant};
use models::checker::report;
use stateright::{Checker, HasDiscoveries, Model, Property};

const NODES: usize = 3;
const ROWS: &str = "C136, C137: rows never fall, and nobody is suspected after a refutation";
const ENDS: &str = "C138: in every fair end the crash is known, and the able are alive";
const REFUTED: &str = "a false suspicion is refuted";

/// How much of each there is in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Bounds {
    /// How long any order goes, before the run goes on fairly.
    horizon_ms: u64,
    /// A message is delivered or lost before so many deadlines have passed and one more is to.
    late: u8,
    losses: u8,
    repeats: u8,
    crashes: u8,
    accusations: u8,
    /// Tellings under way at the start that node 0 is alive, which all know already.
    old_news: u8,
}

/// What a twin does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// A receiver takes Alive at equal life.
    TakesAliveAtEqualLife,
    /// A node never hears what is said about itself, and so cannot refute.
    HearsNothingOfItself,
    /// Somebody answers the pings to a node that crashed.
    AnswersForTheDead,
}

fn id(node: usize) -> NodeId {
    let byte = u8::try_from(node).expect("three nodes") + 1;
    NodeId::from_bytes([byte; 16])
}

fn place(node: NodeId) -> usize {
    usize::from(node.to_bytes()[0]) - 1
}

fn addr(node: usize) -> Addr {
    let last = u8::try_from(node).expect("three nodes") + 1;
    Addr::new([10, 0, 0, last].into(), 7_400, 7_400).expect("reachable")
}

fn config() -> SwimConfig {
    SwimConfig {
        helpers: 1,
        retransmit: 1,
        suspicion_min: 1,
        suspicion_max: 1,
        gossip_fanout: 2,
        gossip_tick: Duration::from_millis(400),
        sync: Duration::from_secs(3_600),
        reprobe: Duration::from_secs(3_600),
        ..SwimConfig::of(Profile::Lan)
    }
}

/// One message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Flight {
    from: usize,
    to: usize,
    lane: Lane,
    message: Message,
    /// Deadlines passed since it was sent.
    age: u8,
}

/// What each observer last held of each subject.
type Seen = BTreeMap<(usize, usize), (Life, Rank)>;

#[derive(Clone)]
struct Cluster {
    nodes: Vec<Option<Swim>>,
    now: Instant,
    flights: Vec<Flight>,
    left: Bounds,
    seen: Seen,
    /// The newest life that each observer held Alive.
    refuted: BTreeMap<(usize, usize), Life>,
    broken: Option<&'static str>,
    wrong: Wrong,
}

impl Hash for Cluster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut digest = Digest::new();
        (&self.nodes, self.now, &self.flights, self.left).hash(&mut digest);
        (&self.seen, &self.refuted, self.broken).hash(&mut digest);
        state.write_u64(digest.finish());
    }
}

impl PartialEq for Cluster {
    /// By digest: two clusters with one digest are one state to the checker anyhow.
    fn eq(&self, other: &Self) -> bool {
        Digest::of(self) == Digest::of(other)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} broken {:?} seen ", self.now, self.flights, self.broken)?;
        self.seen.fmt(f)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Deliver(usize),
    Lose(usize),
    Repeat(usize),
    Pass,
    Crash,
    Accuse,
}

impl Cluster {
    /// Three members that know each other, with nothing left to say.
    fn joined(bounds: Bounds, wrong: Wrong) -> Self {
        let node = |n: usize| {
            let seeds = (0..n).take(1).map(|s| Seed { addr: addr(s), node: Some(id(s)) });
            let params = SwimParams {
                config: config(),
                node: id(n),
                session: Session::FIRST,
                addr: addr(n),
                meta: Meta::EMPTY,
                allowed: Arc::new(Allowed::Any),
                seeds: seeds.collect(),
                choices: Choices::new(7).scoped(n as u64),
            };
            Some(Swim::new(Instant::START, params))
        };
        let mut cluster = Self {
            nodes: (0..NODES).map(node).collect(),
            now: Instant::START,
            flights: Vec::new(),
            left: bounds,
            seen: Seen::new(),
            refuted: BTreeMap::new(),
            broken: None,
            wrong: Wrong::Nothing,
        };
        for n in 0..NODES {
            cluster.drain(n);
        }
        let settled = |cluster: &Self| {
            let knows_all = |swim: &Swim| swim.alive_count() == 3 && swim.gossip_queue() == 0;
            cluster.nodes.iter().flatten().all(knows_all) && cluster.flights.is_empty()
        };
        while !settled(&cluster) {
            assert!(cluster.now < Instant::from_millis(60_000), "three members join");
            cluster.fair_step();
        }
        cluster.wrong = wrong;
        for _ in 0..bounds.old_news {
            let life = cluster.nodes[0].as_ref().expect("nobody crashed yet").life();
            let alive = Fact::Alive { node: id(0), life, addr: addr(0), meta: Meta::EMPTY };
            let message = Message { body: Body::Gossip, entries: vec![Entry::Fact(alive)] };
            cluster.send(Flight { from: 2, to: 1, lane: Lane::Datagram, message, age: 0 });
        }
        cluster
    }

    /// Delivers all that is in flight, else lets time pass.
    fn fair_step(&mut self) {
        if self.flights.is_empty() {
            self.pass();
        } else {
            self.deliver(0);
        }
    }

    fn feed(&mut self, n: usize, input: Input) {
        if let Some(swim) = &mut self.nodes[n] {
            swim.handle(self.now, input);
            self.drain(n);
            self.judge(n);
        }
    }

    fn drain(&mut self, n: usize) {
        let mut outputs = Vec::new();
        if let Some(swim) = &mut self.nodes[n] {
            outputs.extend(std::iter::from_fn(|| swim.poll()));
        }
        for output in outputs {
            match output {
                Output::Send { to, lane, message, .. } => {
                    let to = place(to);
                    self.send(Flight { from: n, to, lane, message, age: 0 });
                }
                Output::Want { peer, .. } | Output::Dial { peer, .. } => {
                    self.dial(n, place(peer), None);
                }
                Output::DialSeed { seed } => {
                    self.dial(n, place(seed.node.expect("seeds are named")), Some(seed));
                }
                Output::Sync { to, step, rows } => {
                    self.feed(place(to), Input::Sync { from: id(n), step, rows });
                }
                Output::Event(_)
                | Output::Known { .. }
                | Output::Name { .. }
                | Output::SessionBehind { .. }
                | Output::UsedUp
                | Output::SelfChanged { .. }
                | Output::Joined
                | Output::Departed => {}
            }
        }
    }

    /// Links are outside this model: they come up at once, or not at all.
    fn dial(&mut self, n: usize, to: usize, seed: Option<Seed>) {
        let life = |cluster: &Self, n: usize| cluster.nodes[n].as_ref().map(Swim::life);
        match (life(self, n), life(self, to)) {
            (Some(mine), Some(theirs)) => {
                let (peer, life, at) = (id(n), mine, addr(n));
                self.feed(to, Input::LinkUp { peer, life, addr: at, seed: None });
                let (peer, life, at) = (id(to), theirs, addr(to));
                self.feed(n, Input::LinkUp { peer, life, addr: at, seed });
            }
            _ => self.feed(n, Input::Unreachable { peer: Some(id(to)), seed }),
        }
    }

    /// Puts a message among those in flight: a sorted set, since their order says nothing.
    fn send(&mut self, flight: Flight) {
        let digest = Digest::of(&flight);
        let at = self.flights.partition_point(|other| Digest::of(other) < digest);
        self.flights.insert(at, flight);
    }

    fn deliver(&mut self, at: usize) {
        let mut flight = self.flights.remove(at);
        match self.wrong {
            Wrong::Nothing => {}
            Wrong::TakesAliveAtEqualLife => self.raise_equal_lives(&mut flight),
            Wrong::HearsNothingOfItself => hide_itself(&mut flight),
            Wrong::AnswersForTheDead => {
                if self.nodes[flight.to].is_none()
                    && let Body::Ping { seq } = flight.message.body
                {
                    let message = Message { body: Body::Ack { seq }, entries: Vec::new() };
                    let Flight { from, to, lane, .. } = flight;
                    self.send(Flight { from: to, to: from, lane, message, age: 0 });
                }
            }
        }
        let Flight { from, to, lane, message, .. } = flight;
        self.feed(to, Input::Received { from: id(from), lane, message });
    }

    /// Lets the receiver read Alive at equal life as a newer life than there is.
    fn raise_equal_lives(&self, flight: &mut Flight) {
        let Some(swim) = &self.nodes[flight.to] else { return };
        for entry in &mut flight.message.entries {
            let Entry::Fact(Fact::Alive { node, life, .. }) = entry else { continue };
            let row = swim.member(*node);
            if row.is_some_and(|row| row.life == *life && row.state == Rank::Suspect) {
                life.incarnation.0 += 1;
            }
        }
    }

    /// Lets time pass to the next deadline of any node.
    fn pass(&mut self) {
        let due = |swim: &Option<Swim>| swim.as_ref().map_or(Instant::FAR, Swim::deadline);
        let first = (0..NODES).min_by_key(|n| due(&self.nodes[*n])).expect("three nodes");
        self.now = self.now.max(due(&self.nodes[first]));
        for mut flight in std::mem::take(&mut self.flights) {
            flight.age += 1;
            self.send(flight);
        }
        self.feed(first, Input::Tick);
    }

    fn crash(&mut self) {
        self.nodes[2] = None;
        if self.wrong != Wrong::AnswersForTheDead {
            self.flights.retain(|flight| flight.to != 2);
        }
    }

    /// Node 1 hears from node 2 that node 0 is suspected, which it is not.
    fn accuse(&mut self) {
        let Some(life) = self.nodes[0].as_ref().map(Swim::life) else { return };
        let fact = Fact::Suspect { node: id(0), life, accuser: id(2) };
        let message = Message { body: Body::Gossip, entries: vec![Entry::Fact(fact)] };
        self.feed(1, Input::Received { from: id(2), lane: Lane::Datagram, message });
    }

    /// C136 and C137 after a step of node `n`.
    fn judge(&mut self, n: usize) {
        let Some(swim) = &self.nodes[n] else { return };
        for member in swim.members() {
            let subject = place(member.node);
            let told = (member.life, member.state);
            let before = self.seen.insert((n, subject), told);
            if before.is_some_and(|before| told < before) {
                self.broken = Some("C136: a row fell");
            }
            if subject == n && told.1 != Rank::Alive {
                self.broken = Some("C136: it accuses itself");
            }
            let own = self.nodes[subject].as_ref().map(Swim::life);
            if own.is_some_and(|own| member.life > own) {
                self.broken = Some("C136: a row passed its subject's own life");
            }
            let newest = self.refuted.entry((n, subject)).or_default();
            match member.state {
                Rank::Alive => *newest = (*newest).max(member.life),
                Rank::Suspect | Rank::Dead if member.life < *newest => {
                    self.broken = Some("C137: it suspects what was refuted");
                }
                Rank::Suspect | Rank::Dead | Rank::Left => {}
            }
        }
    }

    /// Goes on fairly; says whether the crash of node 2 comes to be known by both others.
    fn ends_well(&self) -> bool {
        let mut cluster = self.clone();
        let until = cluster.now + Duration::from_secs(60);
        while cluster.now < until {
            let crashed = cluster.nodes[2].is_none();
            let state = |n: usize, of: usize| {
                let swim = cluster.nodes[n].as_ref()?;
                swim.member(id(of)).map(|member| member.state)
            };
            let known = (0..2).all(|n| !crashed || state(n, 2) == Some(Rank::Dead));
            let alive = state(0, 1) == Some(Rank::Alive) && state(1, 0) == Some(Rank::Alive);
            if known && alive && cluster.broken.is_none() {
                return true;
            }
            cluster.fair_step();
        }
        false
    }
}

/// Lets a receiver miss what is said about itself.
fn hide_itself(flight: &mut Flight) {
    let me = id(flight.to);
    flight.message.entries.retain(|entry| match entry {
        Entry::Fact(Fact::Suspect { node, .. } | Fact::Dead { node, .. }) => *node != me,
        Entry::Fact(Fact::Alive { .. } | Fact::Left { .. }) | Entry::Name(_) => true,
    });
}

struct Membership {
    start: Cluster,
}

impl Membership {
    fn new(bounds: Bounds, wrong: Wrong) -> Self {
        Self { start: Cluster::joined(bounds, wrong) }
    }

    fn is_over(&self, cluster: &Cluster) -> bool {
        cluster.now >= self.start.now + Duration::from_millis(self.start.left.horizon_ms)
    }
}

impl Model for Membership {
    type State = Cluster;
    type Action = Action;

    fn init_states(&self) -> Vec<Cluster> {
        vec![self.start.clone()]
    }

    fn actions(&self, cluster: &Cluster, actions: &mut Vec<Action>) {
        if self.is_over(cluster) || cluster.broken.is_some() {
            return;
        }
        let left = cluster.left;
        // Two that are equal are one.
        let first = |at: &usize| *at == 0 || cluster.flights[*at] != cluster.flights[*at - 1];
        for at in (0..cluster.flights.len()).filter(first) {
            actions.push(Action::Deliver(at));
            if left.losses > 0 {
                actions.push(Action::Lose(at));
            }
            if left.repeats > 0 {
                actions.push(Action::Repeat(at));
            }
        }
        if cluster.flights.iter().all(|flight| flight.age < left.late) {
            actions.push(Action::Pass);
        }
        if left.crashes > 0 {
            actions.push(Action::Crash);
        }
        if left.accusations > 0 {
            actions.push(Action::Accuse);
        }
    }

    fn next_state(&self, last: &Cluster, action: Action) -> Option<Cluster> {
        let mut cluster = last.clone();
        match action {
            Action::Deliver(at) => cluster.deliver(at),
            Action::Lose(at) => {
                cluster.left.losses -= 1;
                cluster.flights.remove(at);
            }
            Action::Repeat(at) => {
                let again = cluster.flights[at].clone();
                cluster.left.repeats -= 1;
                cluster.flights.insert(at, again);
            }
            Action::Pass => cluster.pass(),
            Action::Crash => {
                cluster.left.crashes -= 1;
                cluster.crash();
            }
            Action::Accuse => {
                cluster.left.accusations -= 1;
                cluster.accuse();
            }
        }
        Some(cluster)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ROWS, |_, cluster: &Cluster| cluster.broken.is_none()),
            Property::always(ENDS, |model: &Self, cluster| {
                !model.is_over(cluster) || cluster.ends_well()
            }),
            Property::sometimes(REFUTED, |_, cluster: &Cluster| {
                let own = cluster.nodes[0].as_ref().map(Swim::life);
                own.is_some_and(|life| life.incarnation.0 > 0)
            }),
        ]
    }
}

/// A node crashes, one message is lost, and one comes twice.
const CRASH: Bounds = Bounds {
    horizon_ms: 900,
    late: 1,
    losses: 1,
    repeats: 1,
    crashes: 1,
    accusations: 0,
    old_news: 0,
};

/// A node is suspected falsely, and one message is lost.
const ACCUSED: Bounds = Bounds { crashes: 0, repeats: 0, accusations: 1, ..CRASH };

/// A node is suspected falsely, one message is lost, and one comes twice: not for as long.
const ACCUSED_TWICE: Bounds = Bounds { horizon_ms: 700, repeats: 1, ..ACCUSED };

/// A node is suspected falsely while it is said to be alive, and one message comes twice.
const OLD_NEWS: Bounds = Bounds { losses: 0, repeats: 1, old_news: 1, ..ACCUSED_TWICE };

/// A node is suspected falsely while another crashes.
const BOTH: Bounds = Bounds { horizon_ms: 1_000, losses: 0, repeats: 0, accusations: 1, ..CRASH };

/// Explores all of a model; every property must hold in every state.
fn check(name: &str, bounds: Bounds) {
    let checker = Membership::new(bounds, Wrong::Nothing).checker().threads(2).spawn_bfs().join();
    for property in [ROWS, ENDS] {
        let path = checker.discovery(property);
        assert!(path.is_none(), "{property}: {:?}", path.map(|path| path.into_actions()));
    }
    let refuted = checker.discovery(REFUTED).is_some();
    assert_eq!(refuted, bounds.accusations > 0, "{REFUTED}");
    let states = checker.unique_state_count();
    report("model", name, &format!("{states} states, complete within {bounds:?}"));
    assert!(states > 1_000, "only {states} states");
}

/// Explores a model that is wrong until it breaks `expected`.
fn twin(name: &str, bounds: Bounds, wrong: Wrong, expected: &'static str) {
    let failed = HasDiscoveries::AnyOf([expected].into());
    let model = Membership::new(bounds, wrong);
    let checker = model.checker().threads(2).finish_when(failed).spawn_bfs().join();
    assert!(checker.discovery(expected).is_some(), "twin {name} passed: {expected}");
    report("twin", name, &format!("caught: {expected}"));
}

/// T73.
#[test]
fn a_crash_is_known_whatever_is_lost_or_repeated() {
    check("membership crash", CRASH);
}

#[test]
fn a_false_suspicion_is_refuted_whatever_is_lost_or_repeated() {
    check("membership accused lost", ACCUSED);
    check("membership accused lost and repeated", ACCUSED_TWICE);
    check("membership accused beside old news", OLD_NEWS);
}

#[test]
fn a_crash_beside_a_false_suspicion_is_known_in_any_order() {
    check("membership crash and accused", BOTH);
}

#[test]
fn notices_alive_at_equal_life() {
    twin("membership Alive at equal life", OLD_NEWS, Wrong::TakesAliveAtEqualLife, ROWS);
}

#[test]
fn notices_a_missing_refutation() {
    twin("membership no refutation", ACCUSED, Wrong::HearsNothingOfItself, ENDS);
}

#[test]
fn notices_an_answer_for_the_dead() {
    twin("membership answers for the dead", CRASH, Wrong::AnswersForTheDead, ENDS);
}
