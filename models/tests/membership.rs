//! Goal: no order, loss or repetition of messages makes three members break C136 or C137, and a
//! crash is known in every fair end (C155).
//! Method: stateright drives the production `Swim` machines, joined beforehand. A step delivers,
//! loses or repeats any message in flight, lets time pass to the next deadline, crashes node 2, or
//! makes node 1 suspect node 0 falsely. Bounds: a message is delivered or lost before the third
//! deadline after its sending; one loss, one repetition, one crash, one false suspicion; the
//! horizon below. At the horizon the run goes on fairly, and must end with the crash known.

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
use stateright::{Checker, Model, Property};

const NODES: usize = 3;

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
    losses: u8,
    repeats: u8,
    accused: bool,
    seen: Seen,
    /// The newest life that each observer held Alive.
    refuted: BTreeMap<(usize, usize), Life>,
    broken: Option<&'static str>,
    tamper: Option<Tamper>,
}

impl Hash for Cluster {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nodes.hash(state);
        self.now.hash(state);
        // Flights are a set: their order says nothing.
        let mut flights: Vec<u64> = self.flights.iter().map(Digest::of).collect();
        flights.sort_unstable();
        flights.hash(state);
        (self.losses, self.repeats, self.accused, &self.seen, &self.refuted).hash(state);
        self.broken.hash(state);
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
    fn joined() -> Self {
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
            losses: 0,
            repeats: 0,
            accused: false,
            seen: Seen::new(),
            refuted: BTreeMap::new(),
            broken: None,
            tamper: None,
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
        cluster.losses = 1;
        cluster.repeats = 1;
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
                    self.flights.push(Flight { from: n, to, lane, message, age: 0 });
                }
                Output::Dial { peer, .. } => self.dial(n, place(peer), None),
                Output::DialSeed { seed, target } => {
                    self.dial(n, place(target.node.expect("seeds are named")), Some(seed));
                }
                Output::Sync { to, step, rows } => {
                    self.feed(place(to), Input::Sync { from: id(n), step, rows });
                }
                Output::Event(_)
                | Output::Name { .. }
                | Output::SessionBehind { .. }
                | Output::SelfChanged { .. }
                | Output::Joined
                | Output::Departed => {}
            }
        }
    }

    /// Links are outside this model: they come up at once, or not at all.
    fn dial(&mut self, n: usize, to: usize, seed: Option<u32>) {
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

    fn deliver(&mut self, at: usize) {
        let mut flight = self.flights.swap_remove(at);
        if let Some(tamper) = self.tamper {
            tamper(self, &mut flight);
        }
        let Flight { from, to, lane, message, .. } = flight;
        self.feed(to, Input::Received { from: id(from), lane, message });
    }

    /// Lets time pass to the next deadline of any node.
    fn pass(&mut self) {
        let due = |swim: &Option<Swim>| swim.as_ref().map_or(Instant::FAR, Swim::deadline);
        let first = (0..NODES).min_by_key(|n| due(&self.nodes[*n])).expect("three nodes");
        self.now = self.now.max(due(&self.nodes[first]));
        for flight in &mut self.flights {
            flight.age += 1;
        }
        self.feed(first, Input::Tick);
    }

    fn crash(&mut self) {
        self.nodes[2] = None;
        self.flights.retain(|flight| flight.to != 2);
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

/// What a twin does to every message before its receiver sees it.
type Tamper = fn(&Cluster, &mut Flight);

struct Membership {
    horizon: Duration,
    start: Cluster,
}

impl Membership {
    fn new(horizon: Duration, tamper: Option<Tamper>) -> Self {
        let mut start = Cluster::joined();
        start.tamper = tamper;
        Self { horizon, start }
    }

    fn is_over(&self, cluster: &Cluster) -> bool {
        cluster.now >= self.start.now + self.horizon
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
        actions.extend((0..cluster.flights.len()).map(Action::Deliver));
        if cluster.losses > 0 {
            actions.extend((0..cluster.flights.len()).map(Action::Lose));
        }
        if cluster.repeats > 0 {
            actions.extend((0..cluster.flights.len()).map(Action::Repeat));
        }
        if cluster.flights.iter().all(|flight| flight.age < 2) {
            actions.push(Action::Pass);
        }
        if cluster.nodes[2].is_some() {
            actions.push(Action::Crash);
        }
        if !cluster.accused {
            actions.push(Action::Accuse);
        }
    }

    fn next_state(&self, last: &Cluster, action: Action) -> Option<Cluster> {
        let mut cluster = last.clone();
        match action {
            Action::Deliver(at) => cluster.deliver(at),
            Action::Lose(at) => {
                cluster.flights.swap_remove(at);
                cluster.losses -= 1;
            }
            Action::Repeat(at) => {
                let again = cluster.flights[at].clone();
                cluster.flights.push(again);
                cluster.repeats -= 1;
            }
            Action::Pass => cluster.pass(),
            Action::Crash => cluster.crash(),
            Action::Accuse => {
                cluster.accuse();
                cluster.accused = true;
            }
        }
        Some(cluster)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("C136, C137", |_, cluster: &Cluster| cluster.broken.is_none()),
            Property::always("a crash is known in every fair end", |model: &Self, cluster| {
                !model.is_over(cluster) || cluster.ends_well()
            }),
            Property::sometimes("a false suspicion is refuted", |_, cluster: &Cluster| {
                let own = cluster.nodes[0].as_ref().map(Swim::life);
                own.is_some_and(|life| life.incarnation.0 > 0)
            }),
        ]
    }
}

/// Checks a model to its end; returns the states seen and the properties that do not hold.
fn check(name: &str, model: Membership) -> (usize, Vec<&'static str>) {
    let horizon = model.horizon;
    let checker = model.checker().threads(2).spawn_bfs().join();
    let states = checker.unique_state_count();
    let broken = ["C136, C137", "a crash is known in every fair end"];
    let broken = broken.into_iter().filter(|name| checker.discovery(name).is_some()).collect();
    let line = format!("model {name}: {states} states, bounded(horizon={horizon:?})\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("stderr is open");
    if checker.discovery("a false suspicion is refuted").is_none() {
        return (states, vec!["no false suspicion was ever refuted"]);
    }
    (states, broken)
}

#[test]
fn no_order_of_messages_breaks_membership_of_three() {
    let (states, broken) =
        check("membership", Membership::new(Duration::from_millis(HORIZON_MS), None));
    assert_eq!(broken, Vec::<&str>::new());
    assert!(states > 1_000, "only {states} states");
}

/// How far a run goes before it goes on fairly.
const HORIZON_MS: u64 = 900;

/// A receiver that takes Alive at equal life: it must read it as a newer life than there is.
fn takes_alive_at_equal_life(cluster: &Cluster, flight: &mut Flight) {
    let Some(swim) = &cluster.nodes[flight.to] else { return };
    for entry in &mut flight.message.entries {
        let Entry::Fact(Fact::Alive { node, life, .. }) = entry else { continue };
        let row = swim.member(*node);
        if row.is_some_and(|row| row.life == *life && row.state == Rank::Suspect) {
            life.incarnation.0 += 1;
        }
    }
}

/// A node that never hears what is said about itself cannot refute.
fn hears_nothing_of_itself(_: &Cluster, flight: &mut Flight) {
    let me = id(flight.to);
    flight.message.entries.retain(|entry| match entry {
        Entry::Fact(Fact::Suspect { node, .. } | Fact::Dead { node, .. }) => *node != me,
        Entry::Fact(Fact::Alive { .. } | Fact::Left { .. }) | Entry::Name(_) => true,
    });
}

#[test]
fn notices_alive_at_equal_life() {
    let model = Membership::new(Duration::from_millis(HORIZON_MS), Some(takes_alive_at_equal_life));
    let (_, broken) = check("membership, twin: Alive at equal life", model);
    assert!(broken.contains(&"C136, C137"), "{broken:?}");
}

#[test]
fn notices_a_missing_refutation() {
    let model = Membership::new(Duration::from_millis(HORIZON_MS), Some(hears_nothing_of_itself));
    let (_, broken) = check("membership, twin: no refutation", model);
    assert!(!broken.is_empty());
}
