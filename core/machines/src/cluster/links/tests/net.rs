//! A tiny world for links: streams that delay, datagrams that get lost, one clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::io::{Input, Output};
use super::super::{Links, LinksParams};
use crate::choices::Choices;
use crate::cluster::config::LinksConfig;
use crate::cluster::identity::{Allowed, StaticKey};
use crate::cluster::ids::{
    ActorId, Addr, Conn, Entropy, Incarnation, Instance, Life, NodeId, Session,
};
use crate::cluster::sealer::Suite;
use crate::cluster::swim::io::Lane;
use crate::cluster::wire::{Body, Frame, Message, Preface, UserFrame};
use crate::digest::mix;
use crate::time::Instant;

/// What happens at a time.
#[derive(Clone, Debug)]
enum Event {
    Input(usize, Input),
    /// A dial arrives at the node that listens there.
    Arrive {
        from: usize,
        conn: Conn,
        to: usize,
    },
}

/// The world.
#[derive(Clone)]
pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Links>,
    /// What each node told its parent.
    pub(crate) told: Vec<Vec<Output>>,
    /// Every byte that was written, by (node, connection).
    pub(crate) written: BTreeMap<(usize, Conn), Vec<u8>>,
    /// Every datagram that was sent.
    pub(crate) datagrams: Vec<(usize, Vec<u8>)>,
    /// Connections that opened: both ends.
    pub(crate) pipes: BTreeMap<(usize, Conn), (usize, Conn)>,
    /// Dials from → to that fail.
    pub(crate) refused: BTreeSet<(usize, usize)>,
    /// Dials from → to that never end.
    pub(crate) hung: BTreeSet<(usize, usize)>,
    /// Nodes whose sockets never drain.
    pub(crate) stuck: BTreeSet<usize>,
    /// Loss of datagrams, in percent.
    pub(crate) loss: u64,
    pub(crate) choices: Choices,
    events: BTreeMap<(Instant, u64), Event>,
    last: BTreeMap<(usize, Conn), Instant>,
    counter: u64,
}

pub(crate) fn addr(node: usize) -> Addr {
    let last = u8::try_from(node + 1).unwrap();
    Addr::new(IpAddr::from([10, 0, 0, last]), 7400, 7400).unwrap()
}

pub(crate) fn key(node: usize) -> StaticKey {
    StaticKey::from_secret([u8::try_from(node + 1).unwrap(); 32])
}

pub(crate) fn params(node: usize, suite: Suite) -> LinksParams {
    LinksParams {
        config: LinksConfig::standard(),
        cluster: "demo".to_owned(),
        schemas: [(1, Preface::schema_hash_of("schema"))].into(),
        key: key(node),
        instance: Instance(100 + node as u64),
        life: life(1),
        addr: addr(node),
        allowed: Arc::new(Allowed::Any),
        choices: Choices::new(node as u64),
        suite,
    }
}

pub(crate) const fn life(session: u32) -> Life {
    Life { session: Session(session), incarnation: Incarnation(0) }
}

pub(crate) fn ping(seq: u32) -> Message {
    Message { body: Body::Ping { seq }, entries: Vec::new() }
}

pub(crate) fn send(number: u64, payload: Vec<u8>) -> Frame {
    Frame::User(UserFrame::Send { number, to: ActorId(9), from: ActorId(4), tag: 1, payload })
}

impl Net {
    pub(crate) fn new(nodes: usize, suite: Suite) -> Self {
        Self::with(nodes, suite, |_, _| {})
    }

    pub(crate) fn with(
        nodes: usize,
        suite: Suite,
        change: impl Fn(usize, &mut LinksParams),
    ) -> Self {
        let make = |node| {
            let mut params = params(node, suite);
            change(node, &mut params);
            Links::new(params)
        };
        Self {
            now: Instant::from_millis(1),
            nodes: (0..nodes).map(make).collect(),
            told: vec![Vec::new(); nodes],
            written: BTreeMap::new(),
            datagrams: Vec::new(),
            pipes: BTreeMap::new(),
            refused: BTreeSet::new(),
            hung: BTreeSet::new(),
            stuck: BTreeSet::new(),
            loss: 0,
            choices: Choices::new(7),
            events: BTreeMap::new(),
            last: BTreeMap::new(),
            counter: 0,
        }
    }

    pub(crate) fn id(&self, node: usize) -> NodeId {
        self.nodes[node].node()
    }

    pub(crate) fn entropy(&mut self) -> Entropy {
        self.counter += 1;
        let seed = self.counter;
        Entropy(std::array::from_fn(|i| {
            mix(seed ^ 0x5bd1_e995, 0x9e37_79b9 + i as u64).to_le_bytes()[0]
        }))
    }

    pub(crate) fn dial(&mut self, from: usize, to: usize) {
        let (peer, addr) = (self.id(to), addr(to));
        self.input(from, Input::Dial { peer, addr });
    }

    pub(crate) fn message(&mut self, from: usize, to: usize, lane: Lane, seq: u32) {
        let (node, addr) = (self.id(to), addr(to));
        self.input(from, Input::Message { to: node, addr, lane, message: ping(seq) });
    }

    pub(crate) fn frame(&mut self, from: usize, to: usize, frame: Frame) {
        let (node, addr) = (self.id(to), Some(addr(to)));
        self.input(from, Input::Frame { to: node, addr, process: None, frame });
    }

    /// Lets a node have an input now, and carries out what it wants.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        self.nodes[node].handle(self.now, input);
        while let Some(output) = self.nodes[node].poll() {
            self.carry(node, output);
        }
        self.check(node);
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.counter += 1;
        self.events.insert((at, self.counter), event);
    }

    fn delay(&mut self, node: usize) -> Duration {
        let extra = self.choices.choose("test.delay", [node as u64, 0], 2_000);
        Duration::from_micros(100 + extra)
    }

    /// The time at which the next thing on this stream arrives: streams keep their order.
    fn in_order(&mut self, node: usize, conn: Conn) -> Instant {
        let at = self.now + self.delay(node);
        let last = self.last.entry((node, conn)).or_insert(at);
        *last = at.max(*last);
        *last
    }

    fn carry(&mut self, node: usize, output: Output) {
        match output {
            Output::Dial { conn, addr: to } => {
                let to = (0..self.nodes.len()).find(|node| addr(*node).tcp() == to);
                let at = self.now + self.delay(node);
                match to {
                    Some(to) if self.hung.contains(&(node, to)) => {}
                    Some(to) if !self.refused.contains(&(node, to)) => {
                        self.at(at, Event::Arrive { from: node, conn, to });
                    }
                    _ => self.at(at, Event::Input(node, Input::DialFailed { conn })),
                }
            }
            Output::Write { conn, bytes } => {
                let all = self.written.entry((node, conn)).or_default();
                all.extend_from_slice(&bytes);
                if !self.stuck.contains(&node) {
                    let count = u32::try_from(bytes.len()).unwrap();
                    let done = Input::Wrote { conn, count };
                    self.at(self.now, Event::Input(node, done));
                }
                if let Some((peer, other)) = self.pipes.get(&(node, conn)).copied() {
                    let at = self.in_order(node, conn);
                    let input = Input::Bytes { conn: other, bytes };
                    self.at(at, Event::Input(peer, input));
                }
            }
            Output::Close { conn } => {
                if let Some((peer, other)) = self.pipes.remove(&(node, conn)) {
                    let at = self.in_order(node, conn);
                    self.at(at, Event::Input(peer, Input::Closed { conn: other }));
                }
            }
            Output::Draw { conn } => {
                let entropy = self.entropy();
                self.at(self.now, Event::Input(node, Input::Drawn { conn, entropy }));
            }
            Output::Datagram { to, bytes } => {
                self.datagrams.push((node, bytes.clone()));
                let to = (0..self.nodes.len()).find(|node| addr(*node).udp() == to);
                let lost = self.choices.choose("test.loss", [node as u64, 0], 100) < self.loss;
                if let (Some(to), false) = (to, lost) {
                    let at = self.now + self.delay(node);
                    self.at(at, Event::Input(to, Input::Datagram(bytes)));
                }
            }
            other @ (Output::LinkUp { .. }
            | Output::LinkDown { .. }
            | Output::Unreachable { .. }
            | Output::Rejected { .. }
            | Output::SessionBehind { .. }
            | Output::Message { .. }
            | Output::Frame { .. }
            | Output::Written { .. }
            | Output::NotTaken { .. }
            | Output::Refused { .. }) => self.told[node].push(other),
        }
    }

    /// What holds after every step (C26, C130, C134, C135, C150).
    fn check(&self, node: usize) {
        let links = &self.nodes[node];
        for link in links.links() {
            assert_eq!(link.peer(), NodeId::of_key(link.key()));
            assert_ne!(link.peer(), links.node());
            let own = links.config().version_max;
            assert_eq!(link.version(), own.min(link.hello().version_max));
        }
        assert_eq!(links.up() as usize, links.links().count());
        for peer in links.peers.values() {
            let dials = peer.is_dialling() || peer.is_parked();
            assert!(peer.link().is_none() || !dials, "a dial beside a link (C26)");
        }
        let sizes = links.sizes();
        assert!(sizes.half_open <= links.config().half_open_max as usize);
        assert!(sizes.indexes <= 4 * sizes.conns.max(1));
        assert!(sizes.timers <= sizes.conns + sizes.peers);
        assert!(links.deadline() > self.now);
    }

    /// Lets the next thing happen, if it does until `end`.
    fn step(&mut self, end: Instant) -> bool {
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        let timer = self.nodes.iter().map(Links::deadline).min();
        let (event, timer) = (event.unwrap_or(Instant::FAR), timer.unwrap_or(Instant::FAR));
        let next = event.min(timer);
        if next > end {
            return false;
        }
        self.now = next.max(self.now);
        if event > timer {
            for node in 0..self.nodes.len() {
                if self.nodes[node].deadline() <= self.now {
                    self.input(node, Input::Tick);
                }
            }
            return true;
        }
        if let Some((_, event)) = self.events.pop_first() {
            self.happen(event);
        }
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Input(node, input) => self.input(node, input),
            Event::Arrive { from, conn, to } => {
                self.counter += 1;
                let other = Conn(2 * self.counter + 1);
                self.pipes.insert((from, conn), (to, other));
                self.pipes.insert((to, other), (from, conn));
                // Before anything that the acceptor writes.
                let at = self.in_order(to, other);
                let entropy = self.entropy();
                self.at(at, Event::Input(from, Input::Connected { conn, entropy }));
                let entropy = self.entropy();
                let source = IpAddr::from(addr(from).ip());
                self.input(to, Input::Accepted { conn: other, source, entropy });
            }
        }
    }

    pub(crate) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        self.run_for(Duration::from_millis(ms));
    }

    /// Ends the streams of `node` as its process does, and starts it anew.
    pub(crate) fn restart(&mut self, node: usize, params: LinksParams) {
        self.cut(|from, _| from == node);
        self.nodes[node] = Links::new(params);
        self.told[node].clear();
    }

    /// Ends streams as a broken network does.
    pub(crate) fn cut(&mut self, which: impl Fn(usize, Conn) -> bool) {
        let ends: Vec<_> = self.pipes.iter().map(|(end, other)| (*end, *other)).collect();
        for (end, other) in ends {
            if which(end.0, end.1) && self.pipes.remove(&end).is_some() {
                self.pipes.remove(&other);
                for (node, conn) in [end, other] {
                    self.at(self.now, Event::Input(node, Input::Closed { conn }));
                }
            }
        }
    }

    /// Returns the connection of `node`'s link with `peer`.
    pub(crate) fn conn(&self, node: usize, peer: usize) -> Option<Conn> {
        Some(self.nodes[node].link(self.id(peer))?.conn())
    }

    /// Says whether both have one link with each other, the same.
    pub(crate) fn linked(&self, a: usize, b: usize) -> bool {
        match (self.conn(a, b), self.conn(b, a)) {
            (Some(at_a), Some(at_b)) => self.pipes.get(&(a, at_a)) == Some(&(b, at_b)),
            _ => false,
        }
    }

    /// Takes what `node` told.
    pub(crate) fn take(&mut self, node: usize) -> Vec<Output> {
        std::mem::take(&mut self.told[node])
    }
}
