//! A small deterministic world for the tests of membership: an event heap, delay and loss by
//! [`Choices`], crashes, restarts, stalls and partitions. Plaintext, no links of its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::io::{Input, Lane, MemberEvent, Output, Seed};
use super::{Bounds, Swim, SwimParams};
use crate::choices::Choices;
use crate::cluster::config::{Profile, SwimConfig};
use crate::cluster::identity::Allowed;
use crate::cluster::ids::{Addr, NodeId, Session};
use crate::cluster::wire::{MESSAGE_MAX, Message, Meta, State};
use crate::codec::Wire;
use crate::time::Instant;

const CONNECT_TIMEOUT: u64 = 3_000_000_000;

/// The id of node `n`.
pub(super) fn id(n: u32) -> NodeId {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&n.to_le_bytes());
    NodeId::of_key(&key)
}

/// The address of node `n`.
pub(super) fn addr(n: u32) -> Addr {
    let ip = Ipv4Addr::from(0x0a00_0001 + n);
    Addr::new(ip.into(), 7400, 7400).expect("10.x.y.z can be reached")
}

/// What a lone machine of node `n` starts with.
pub(super) fn params(n: u32, seeds: &[u32]) -> SwimParams {
    SwimParams {
        config: SwimConfig::of(Profile::Lan),
        node: id(n),
        session: Session(1),
        addr: addr(n),
        meta: Meta::EMPTY,
        allowed: Arc::new(Allowed::Any),
        seeds: seeds.iter().map(|s| seed(*s)).collect(),
        choices: Choices::new(1).scoped(u64::from(n)),
    }
}

pub(super) fn seed(n: u32) -> Seed {
    Seed { addr: addr(n), node: None }
}

pub(super) struct Node {
    pub(super) swim: Swim,
    pub(super) up: bool,
    pub(super) events: Vec<(Instant, MemberEvent)>,
    pub(super) departed: bool,
    pub(super) group: u32,
    /// Nothing is handled before.
    paused_until: Instant,
    session: u32,
    wake: Instant,
}

#[derive(Debug, PartialEq, Eq)]
struct Due {
    at: Instant,
    /// Messages come before timers (C53).
    timer: bool,
    number: u64,
    node: u32,
    session: u32,
    input: Option<Box<Input>>,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |due: &Self| (due.at, due.timer, due.number);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A cluster in one thread.
pub(super) struct Rig {
    pub(super) now: Instant,
    pub(super) nodes: Vec<Node>,
    pub(super) loss_permille: u64,
    pub(super) delay_ms_max: u64,
    pub(super) config: SwimConfig,
    heap: BinaryHeap<Reverse<Due>>,
    number: u64,
    choices: Choices,
}

impl Rig {
    /// `count` nodes that start at once and join through node 0.
    pub(super) fn new(seed: u64, count: u32) -> Self {
        let mut rig = Self {
            now: Instant::START,
            nodes: Vec::new(),
            loss_permille: 0,
            delay_ms_max: 5,
            config: SwimConfig::of(Profile::Lan),
            heap: BinaryHeap::new(),
            number: 0,
            choices: Choices::new(seed),
        };
        for n in 0..count {
            rig.add(n);
        }
        rig
    }

    /// A cluster that has found itself.
    pub(super) fn settled(seed: u64, count: u32) -> Self {
        let mut rig = Self::new(seed, count);
        rig.run(Duration::from_secs(5));
        rig.run(Bounds::of(&rig.config, count).dissemination * 2);
        assert!(rig.all_agree(count), "seed {seed}: {count} nodes have not settled");
        rig
    }

    fn machine(&self, n: u32, session: u32) -> Swim {
        let seeds: &[u32] = if n == 0 { &[1] } else { &[0] };
        let choices = self.choices.scoped(u64::from(n) << 32 | u64::from(session));
        let params = SwimParams {
            config: self.config.clone(),
            session: Session(session),
            choices,
            ..params(n, seeds)
        };
        Swim::new(self.now, params)
    }

    fn add(&mut self, n: u32) {
        let swim = self.machine(n, 1);
        self.nodes.push(Node {
            swim,
            up: true,
            events: Vec::new(),
            departed: false,
            group: 0,
            paused_until: Instant::START,
            session: 1,
            wake: Instant::FAR,
        });
        self.plan(n);
    }

    pub(super) fn bounds(&self) -> Bounds {
        let count = u32::try_from(self.nodes.len()).expect("few nodes");
        Bounds::of(&self.config, count)
    }

    pub(super) fn crash(&mut self, n: u32) {
        self.nodes[n as usize].up = false;
    }

    pub(super) fn restart(&mut self, n: u32) {
        let session = self.nodes[n as usize].session + 1;
        let swim = self.machine(n, session);
        let node = &mut self.nodes[n as usize];
        node.swim = swim;
        node.up = true;
        node.session = session;
        node.wake = Instant::FAR;
        node.events.clear();
        self.plan(n);
    }

    /// The node handles nothing for a while, as after SIGSTOP.
    pub(super) fn pause(&mut self, n: u32, span: Duration) {
        self.nodes[n as usize].paused_until = self.now + span;
    }

    pub(super) fn say(&mut self, n: u32, input: Input) {
        self.nodes[n as usize].swim.handle(self.now, input);
        self.drain(n);
    }

    /// What `n` holds of `about`.
    pub(super) fn state(&self, n: u32, about: u32) -> Option<State> {
        Some(self.nodes[n as usize].swim.member(id(about))?.state)
    }

    pub(super) fn able(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.nodes).filter(|(_, node)| node.up).map(|(n, _)| n)
    }

    /// All that are up hold each other Alive in the same lives, and are `count` in number.
    pub(super) fn all_agree(&self, count: u32) -> bool {
        let lives = |n: u32| {
            self.nodes[n as usize]
                .swim
                .members()
                .filter(|m| m.state == State::Alive)
                .map(|m| (m.node, m.life))
                .collect::<Vec<_>>()
        };
        let able: Vec<u32> = self.able().collect();
        let first = lives(able[0]);
        let own = |n: &u32| {
            let swim = &self.nodes[*n as usize].swim;
            first.contains(&(swim.node(), swim.life()))
        };
        first.len() == count as usize
            && able.iter().all(own)
            && able.iter().all(|n| lives(*n) == first)
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, at most for `span`; says whether it came to be.
    pub(super) fn run_until(&mut self, span: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + span;
        let mut check = self.now;
        loop {
            if self.now >= check {
                if done(self) {
                    return true;
                }
                check = self.now + Duration::from_millis(50);
            }
            if !self.step(end) {
                self.now = end;
                return done(self);
            }
        }
    }

    fn step(&mut self, end: Instant) -> bool {
        match self.heap.peek() {
            Some(Reverse(due)) if due.at <= end => {}
            Some(_) | None => return false,
        }
        let Some(Reverse(due)) = self.heap.pop() else {
            return false;
        };
        self.now = due.at;
        let node = &mut self.nodes[due.node as usize];
        if !node.up || due.session != node.session {
            return true;
        }
        if node.paused_until > due.at {
            let at = node.paused_until;
            node.wake = if due.timer { at } else { node.wake };
            self.heap.push(Reverse(Due { at, ..due }));
            return true;
        }
        let input = match due.input {
            Some(input) => *input,
            None if node.wake != due.at => return true,
            None => {
                node.wake = Instant::FAR;
                Input::Tick
            }
        };
        node.swim.handle(due.at, input);
        assert!(node.swim.is_bounded(), "C150 at {:?}", due.at);
        self.drain(due.node);
        true
    }

    fn drain(&mut self, n: u32) {
        while let Some(output) = self.nodes[n as usize].swim.poll() {
            self.act(n, output);
        }
        self.plan(n);
    }

    fn plan(&mut self, n: u32) {
        let node = &mut self.nodes[n as usize];
        let at = node.swim.deadline();
        if at < node.wake {
            node.wake = at;
            self.push(at.max(self.now), n, None);
            self.nodes[n as usize].wake = at.max(self.now);
        }
    }

    fn push(&mut self, at: Instant, node: u32, input: Option<Input>) {
        self.number += 1;
        self.heap.push(Reverse(Due {
            at,
            timer: input.is_none(),
            number: self.number,
            node,
            session: self.nodes[node as usize].session,
            input: input.map(Box::new),
        }));
    }

    fn act(&mut self, n: u32, output: Output) {
        match output {
            Output::Send { to, lane, message, .. } => self.carry(n, to, lane, message),
            Output::Want { peer, addr } | Output::Dial { peer, addr } => {
                self.connect(n, Some(peer), addr, None);
            }
            Output::DialSeed { seed } => {
                self.connect(n, seed.node, seed.addr, Some(seed));
            }
            Output::Sync { to, step, rows } => {
                let from = id(n);
                let input = Input::Sync { from, step, rows };
                if let Some(to) = self.reach(n, to) {
                    let at = self.now.plus_nanos(self.delay());
                    self.push(at, to, Some(input));
                }
            }
            Output::Event(event) => self.nodes[n as usize].events.push((self.now, event)),
            Output::Departed => {
                self.nodes[n as usize].departed = true;
                self.nodes[n as usize].up = false;
            }
            Output::UsedUp => {
                let session = self.nodes[n as usize].swim.life().session;
                let next = session.next().expect("a run has few sessions");
                self.push(self.now, n, Some(Input::Renewed(next)));
            }
            Output::SessionBehind { .. } => {}
            Output::Known { .. }
            | Output::Name { .. }
            | Output::SelfChanged { .. }
            | Output::Joined => {}
        }
    }

    /// The node behind an id, if it can be reached from `n` now.
    fn reach(&self, n: u32, to: NodeId) -> Option<u32> {
        let to = (0..).zip(&self.nodes).find(|(_, other)| other.swim.node() == to);
        let (at, node) = to?;
        (node.up && node.group == self.nodes[n as usize].group).then_some(at)
    }

    fn delay(&mut self) -> u64 {
        let spread = self.delay_ms_max * 1_000_000;
        50_000 + self.choices.choose("rig.delay", [0, 0], spread)
    }

    fn lost(&mut self) -> bool {
        let drawn = self.choices.choose("rig.loss", [0, 0], 1_000);
        drawn >= 1_000 - self.loss_permille
    }

    fn carry(&mut self, n: u32, to: NodeId, lane: Lane, message: Message) {
        assert!(message.encoded_len() <= MESSAGE_MAX, "a message is too long");
        assert_eq!(Message::from_bytes(&message.to_bytes()), Ok(message.clone()));
        let Some(to) = self.reach(n, to) else {
            return;
        };
        let mut at = self.now.plus_nanos(self.delay());
        match lane {
            Lane::Datagram if self.lost() => return,
            Lane::Datagram => {}
            Lane::Stream => {
                // A lost segment is sent again.
                while self.lost() {
                    at = at.plus_nanos(200_000_000);
                }
            }
        }
        let from = id(n);
        let input = Input::Received { from, lane, message };
        self.push(at, to, Some(input));
    }

    fn connect(&mut self, n: u32, peer: Option<NodeId>, target: Addr, seed: Option<Seed>) {
        let found = (0..).zip(&self.nodes).find(|(at, _)| addr(*at) == target);
        let found = found.map(|(_, node)| node.swim.node());
        match found.and_then(|node| self.reach(n, node)) {
            Some(to) => {
                let trip = self.delay();
                let up = |node: &Node, seed| Input::LinkUp {
                    peer: node.swim.node(),
                    life: node.swim.life(),
                    addr: node.swim.own().addr.expect("own row"),
                    seed,
                };
                let (here, there) = (&self.nodes[n as usize], &self.nodes[to as usize]);
                let (for_me, for_peer) = (up(there, seed), up(here, None));
                self.push(self.now.plus_nanos(2 * trip), to, Some(for_peer));
                self.push(self.now.plus_nanos(3 * trip), n, Some(for_me));
            }
            None => {
                let at = self.now.plus_nanos(CONNECT_TIMEOUT);
                self.push(at, n, Some(Input::Unreachable { peer, seed }));
            }
        }
    }

    /// Events of all nodes obey C44; `Err` says where they do not.
    pub(super) fn check_events(&self) -> Result<(), String> {
        for (n, node) in self.nodes.iter().enumerate() {
            let events = node.events.iter().map(|(_, event)| *event);
            super::props::check_grammar(events).map_err(|why| format!("node {n}: {why}"))?;
        }
        Ok(())
    }
}
