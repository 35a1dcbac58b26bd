//! Membership alone, at scale: thousands of production [`Swim`] machines in one event heap.
//!
//! Links are free, and messages are handed over as they are, unless [`Setup::wire`] has datagrams
//! encoded and sealed: what is measured is the protocol (C138–C144, C160–C166 by `cargo sim bench
//! membership`, C170 by `cargo sim bench gossip`). A dial costs a round trip and a half; a message
//! on the stream is never lost, only late. Memory grows with the square of the members, about 230
//! bytes a row.

mod measure;
mod report;
mod sabotage;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use machines::cluster::config::{Profile, SwimConfig};
use machines::cluster::identity::Allowed;
use machines::cluster::ids::{Addr, Incarnation, Life, NodeId, Session};
use machines::cluster::sealer::{Key, Suite};
use machines::cluster::swim::io::{
    DeadCause, Input, Lane, MemberEvent, MemberEventKind, Output, Seed, SyncStep,
};
use machines::cluster::swim::{Bounds, Swim, SwimParams};
use machines::cluster::wire::{
    Body, DATAGRAM_OVERHEAD, DatagramHeader, MemberRow, Message, Meta, State,
};
use machines::codec::Wire;
use machines::digest::mix;
use machines::{Choices, Instant};

pub use measure::{
    Fractions, Rates, accuracy, bench, crash_known, first_suspicion, heal_time, rates,
    slow_members, spread, without_lifeguard,
};
pub use report::{Measured, report};
pub use sabotage::Sabotage;

/// How long a dial that nobody answers takes, in nanoseconds.
const CONNECT_TIMEOUT: u64 = 3_000_000_000;
/// How long a lost segment of a stream takes to be sent again, in nanoseconds.
const RESEND: u64 = 200_000_000;
/// The key of every datagram: members of these runs do not agree on any.
static WIRE_KEY: Key = Key::new([7; 32]);
/// The parcel of a timer.
const TIMER: u32 = u32::MAX;

/// What decides a run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Of all choices.
    pub seed: u64,
    /// How many members.
    pub members: u32,
    /// Their parameters.
    pub config: SwimConfig,
    /// Datagrams lost, in thousandths.
    pub loss_permille: u32,
    /// The least one-way delay, in nanoseconds.
    pub delay_min: u64,
    /// How much longer it can take, in nanoseconds.
    pub delay_spread: u64,
    /// What the machines do wrong, if anything.
    pub sabotage: Sabotage,
    /// Keep every member event in [`SwimOnly::seen`]; else only counts.
    pub record: bool,
    /// Datagrams cross as the bytes of C15, sealed by this suite, and are opened and decoded (T91).
    pub wire: Option<Suite>,
}

impl Setup {
    /// A quiet local network, default parameters.
    #[must_use]
    pub fn new(seed: u64, members: u32) -> Self {
        Self {
            seed,
            members,
            config: SwimConfig::of(Profile::Lan),
            loss_permille: 0,
            delay_min: 100_000,
            delay_spread: 2_000_000,
            sabotage: Sabotage::None,
            record: true,
            wire: None,
        }
    }
}

/// One member event as it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// Who saw it.
    pub observer: u32,
    /// About whom.
    pub subject: u32,
    /// The life told.
    pub life: Life,
    /// The index in the observer's stream.
    pub index: u64,
    /// What.
    pub kind: MemberEventKind,
}

/// What went over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams sent.
    pub datagrams: u64,
    /// Those of them that are gossip ticks: none while nothing is to tell (C52).
    pub gossip_datagrams: u64,
    /// The bytes of all datagrams, sealed (C15).
    pub datagram_bytes: u64,
    /// Membership messages on streams.
    pub stream_messages: u64,
    /// Messages of syncs with rows.
    pub syncs: u64,
    /// Their bytes, without names.
    pub sync_bytes: u64,
    /// Inputs handled by machines.
    pub handled: u64,
}

/// What the members held of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Rows that turned Suspect.
    pub suspected: u64,
    /// Members that were up when someone's suspicion of them ran out.
    pub false_deaths: u64,
}

/// How one member fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// How often someone's suspicion of it ran out while it was up.
    pub false_deaths: u64,
}

struct Node {
    swim: Swim,
    wake: u64,
    /// Messages are not handled before.
    deaf_until: u64,
    /// Nothing is handled before.
    asleep_until: u64,
    session: u32,
    group: u32,
    up: bool,
    departed: bool,
    fate: Fate,
}

struct Parcel {
    session: u32,
    content: Content,
}

/// What is under way.
enum Content {
    /// As the receiver's machine takes it.
    Input(Input),
    /// As a socket takes it.
    Datagram { from: u32, bytes: Vec<u8> },
}

/// (when, timers last and then in order, node, parcel).
type Due = Reverse<(u64, u64, u32, u32)>;

/// A cluster of membership machines.
pub struct SwimOnly {
    setup: Setup,
    now: Instant,
    nodes: Vec<Node>,
    heap: BinaryHeap<Due>,
    parcels: Vec<Parcel>,
    free: Vec<u32>,
    number: u64,
    choices: Choices,
    traffic: Traffic,
    verdicts: Verdicts,
    seen: Vec<Seen>,
}

/// The id of member `n`. It spreads like a hash, and `n` can be read back from it.
#[must_use]
pub fn node_id(n: u32) -> NodeId {
    let high = mix(u64::from(n) + 1, 0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[12..].copy_from_slice(&n.to_be_bytes());
    NodeId::from_bytes(bytes)
}

fn number_of(node: NodeId) -> u32 {
    let bytes = node.to_bytes();
    u32::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]])
}

/// The address of member `n`.
///
/// # Panics
///
/// Never: every address in 10.0.0.0/8 can be reached.
#[must_use]
pub fn node_addr(n: u32) -> Addr {
    let ip = Ipv4Addr::from(0x0a00_0001 + n);
    Addr::new(ip.into(), 7400, 7400).expect("an address in 10.0.0.0/8 can be reached")
}

fn number_at(addr: Addr) -> u32 {
    let [.., a, b, c] = addr.ip().octets();
    u32::from_be_bytes([0, a, b, c]).wrapping_sub(1)
}

impl SwimOnly {
    /// All members start now, and join through member 0.
    #[must_use]
    pub fn joining(setup: Setup) -> Self {
        let mut world = Self::empty(setup);
        for n in 0..world.setup.members {
            let seeds: &[u32] = if n == 0 { &[] } else { &[0] };
            world.add(n, seeds);
        }
        world
    }

    /// All members know each other, and have nothing to tell.
    ///
    /// Each is given the table as a sync, and is pinged into the void until its gossip is spent.
    #[must_use]
    pub fn settled(setup: Setup) -> Self {
        let mut world = Self::empty(setup);
        let count = world.setup.members;
        let mut rows: Vec<MemberRow> = (0..count).map(alive_row).collect();
        rows.sort_by_key(|row| row.node);
        for n in 0..count {
            world.add(n, &[]);
            let from = node_id((n + 1) % count.max(2));
            let swim = &mut world.nodes[n as usize].swim;
            drive(swim, Input::Tick);
            let rows = rows.iter().filter(|row| row.node != node_id(n));
            let told = Input::Sync { from, step: SyncStep::Second, rows: rows.copied().collect() };
            drive(swim, told);
            while swim.gossip_queue() > 0 {
                drive(swim, ping(from));
            }
            world.plan(n);
        }
        world
    }

    fn empty(setup: Setup) -> Self {
        Self {
            now: Instant::START,
            nodes: Vec::new(),
            heap: BinaryHeap::new(),
            parcels: Vec::new(),
            free: Vec::new(),
            number: 0,
            choices: Choices::new(setup.seed),
            traffic: Traffic::default(),
            verdicts: Verdicts::default(),
            seen: Vec::new(),
            setup,
        }
    }

    fn machine(&self, n: u32, session: u32, seeds: &[u32]) -> Swim {
        let seed = |n: &u32| Seed { addr: node_addr(*n), node: None };
        let scope = (u64::from(n) << 32) | u64::from(session);
        let params = SwimParams {
            config: self.setup.config.clone(),
            node: node_id(n),
            session: Session(session),
            addr: node_addr(n),
            meta: Meta::EMPTY,
            allowed: Arc::new(Allowed::Any),
            seeds: seeds.iter().map(seed).collect(),
            choices: self.choices.scoped(scope),
        };
        Swim::new(self.now, params)
    }

    fn add(&mut self, n: u32, seeds: &[u32]) {
        let swim = self.machine(n, 1, seeds);
        self.nodes.push(Node {
            swim,
            wake: u64::MAX,
            deaf_until: 0,
            asleep_until: 0,
            session: 1,
            group: 0,
            up: true,
            departed: false,
            fate: Fate::default(),
        });
        self.plan(n);
    }

    /// Returns the virtual time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Returns the machine of member `n`.
    #[must_use]
    pub fn swim(&self, n: u32) -> &Swim {
        &self.nodes[n as usize].swim
    }

    /// Returns what was sent so far.
    #[must_use]
    pub const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Returns what was suspected so far, rightly or not.
    #[must_use]
    pub const fn verdicts(&self) -> Verdicts {
        self.verdicts
    }

    /// Returns how member `n` fared so far.
    #[must_use]
    pub fn fate(&self, n: u32) -> Fate {
        self.nodes[n as usize].fate
    }

    /// Returns the member events so far, if they are recorded.
    #[must_use]
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Returns the bounds of C50 for this run.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds::of(&self.setup.config, self.setup.members)
    }

    /// Lists the members that are up.
    pub fn able(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.nodes).filter(|(_, node)| node.up).map(|(n, _)| n)
    }

    /// Returns what `observer` holds of `subject`.
    #[must_use]
    pub fn state(&self, observer: u32, subject: u32) -> Option<State> {
        Some(self.swim(observer).member(node_id(subject))?.state)
    }

    /// Says whether all that are up hold `subject` in `state`.
    #[must_use]
    pub fn all_hold(&self, subject: u32, state: State) -> bool {
        self.able().filter(|n| *n != subject).all(|n| self.state(n, subject) == Some(state))
    }

    /// Says whether all that are up hold exactly each other as members, Alive or Suspect.
    #[must_use]
    pub fn all_members(&self) -> bool {
        let able = u32::try_from(self.able().count()).unwrap_or(u32::MAX);
        self.able().all(|n| {
            self.swim(n).member_count() == able
                && self.able().all(|m| {
                    let state = self.state(n, m);
                    matches!(state, Some(State::Alive | State::Suspect))
                })
        })
    }

    /// Says whether moreover all hold each other in the same lives.
    #[must_use]
    pub fn all_agree(&self) -> bool {
        self.all_members()
            && self.able().all(|n| {
                let mut able = self.able();
                able.all(|m| {
                    let held = self.swim(n).member(node_id(m)).map(|held| held.life);
                    held == Some(self.swim(m).life())
                })
            })
    }

    /// Stops member `n` for good, or until [`SwimOnly::restart`].
    pub fn crash(&mut self, n: u32) {
        self.nodes[n as usize].up = false;
    }

    /// Starts member `n` again, in its next session; it joins through `seeds`.
    pub fn restart(&mut self, n: u32, seeds: &[u32]) {
        let next = self.nodes[n as usize].session + self.setup.sabotage.session_step();
        let swim = self.machine(n, next, seeds);
        let node = &mut self.nodes[n as usize];
        node.swim = swim;
        node.session = next;
        node.wake = u64::MAX;
        node.up = true;
        node.departed = false;
        self.plan(n);
    }

    /// Puts member `n` on one side of a partition; all start on side 0.
    pub fn split(&mut self, n: u32, group: u32) {
        self.nodes[n as usize].group = group;
    }

    /// Ends every partition.
    pub fn heal(&mut self) {
        for node in &mut self.nodes {
            node.group = 0;
        }
    }

    /// Lets messages to member `n` wait until `until`, while its timers run: a slow member.
    pub fn deafen(&mut self, n: u32, until: Instant) {
        self.nodes[n as usize].deaf_until = until.as_nanos();
    }

    /// Lets everything of member `n` wait until `until`: a stopped process.
    pub fn sleep(&mut self, n: u32, until: Instant) {
        self.nodes[n as usize].asleep_until = until.as_nanos();
    }

    /// Gives member `n` an input.
    pub fn tell(&mut self, n: u32, input: Input) {
        self.handle(n, input);
    }

    /// Runs for `span` nanoseconds.
    pub fn run(&mut self, span: u64) {
        let end = self.now.plus_nanos(span);
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, asked every `every` nanoseconds, for at most `span`. Returns how long
    /// it took, or `None`.
    pub fn run_until(
        &mut self,
        span: u64,
        every: u64,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Option<u64> {
        let start = self.now;
        let end = start.plus_nanos(span);
        while self.now < end {
            if done(self) {
                return Some(self.now.nanos_since(start));
            }
            self.run(every.min(end.nanos_since(self.now)));
        }
        done(self).then(|| self.now.nanos_since(start))
    }

    fn step(&mut self, end: Instant) -> bool {
        let Some(Reverse((at, order, n, parcel))) = self.heap.peek().copied() else {
            return false;
        };
        if at > end.as_nanos() {
            return false;
        }
        self.heap.pop();
        self.now = Instant::from_nanos(at);
        let node = &mut self.nodes[n as usize];
        let held = match parcel {
            TIMER => node.asleep_until,
            _ => node.asleep_until.max(node.deaf_until),
        };
        if held > at && node.up {
            if parcel == TIMER && node.wake == at {
                node.wake = held;
            }
            self.heap.push(Reverse((held, order, n, parcel)));
            return true;
        }
        if parcel == TIMER {
            self.wake(n, at);
        } else {
            self.deliver(n, parcel);
        }
        true
    }

    fn wake(&mut self, n: u32, at: u64) {
        let node = &mut self.nodes[n as usize];
        if !node.up || node.wake != at {
            return;
        }
        node.wake = u64::MAX;
        if node.swim.deadline().as_nanos() <= at {
            self.handle(n, Input::Tick);
        } else {
            self.plan(n);
        }
    }

    fn deliver(&mut self, n: u32, parcel: u32) {
        let held = &mut self.parcels[parcel as usize];
        let content = std::mem::replace(&mut held.content, Content::Input(Input::Tick));
        let session = held.session;
        self.free.push(parcel);
        let node = &self.nodes[n as usize];
        if !node.up || node.session != session {
            return;
        }
        let input = match content {
            Content::Input(input) => Some(input),
            Content::Datagram { from, bytes } => self.opened(from, bytes),
        };
        if let Some(input) = input {
            self.handle(n, input);
        }
    }

    /// Encodes and seals a message as member `n`'s next datagram (C15, C33).
    fn sealed(&mut self, n: u32, suite: Suite, message: &Message) -> Vec<u8> {
        self.number += 1;
        let header = DatagramHeader { link_index: n, counter: self.number };
        let mut bytes = Vec::with_capacity(message.encoded_len() + DATAGRAM_OVERHEAD);
        bytes.extend_from_slice(&header.to_array());
        message.encode(&mut bytes);
        let text = &mut bytes[DatagramHeader::LEN..];
        let tag = suite.seal(&WIRE_KEY, header.nonce(), text);
        bytes.extend_from_slice(&tag);
        bytes
    }

    /// Opens and decodes what [`SwimOnly::sealed`] made.
    fn opened(&self, from: u32, mut bytes: Vec<u8>) -> Option<Input> {
        let (header, _) = DatagramHeader::split(&bytes).ok()?;
        let (text, tag) = bytes[DatagramHeader::LEN..].split_last_chunk_mut()?;
        self.setup.wire?.open(&WIRE_KEY, header.nonce(), text, tag).ok()?;
        let message = Message::from_bytes(text).ok()?;
        Some(Input::Received { from: node_id(from), lane: Lane::Datagram, message })
    }

    fn handle(&mut self, n: u32, input: Input) {
        self.traffic.handled += 1;
        let now = self.now;
        let node = &mut self.nodes[n as usize];
        let input = match self.setup.sabotage == Sabotage::None {
            true => input,
            false => self.setup.sabotage.input(&node.swim, input),
        };
        node.swim.handle(now, input);
        while let Some(output) = self.nodes[n as usize].swim.poll() {
            self.act(n, output);
        }
        self.plan(n);
    }

    fn plan(&mut self, n: u32) {
        let node = &mut self.nodes[n as usize];
        let at = node.swim.deadline().max(self.now).as_nanos();
        if at < node.wake {
            node.wake = at;
            self.number += 1;
            let order = self.number | 1 << 63;
            self.heap.push(Reverse((at, order, n, TIMER)));
        }
    }

    fn post(&mut self, at: u64, to: u32, input: Input) {
        self.post_content(at, to, Content::Input(input));
    }

    fn post_content(&mut self, at: u64, to: u32, content: Content) {
        let session = self.nodes[to as usize].session;
        let parcel = Parcel { session, content };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.parcels[slot as usize] = parcel;
                slot
            }
            None => {
                self.parcels.push(parcel);
                u32::try_from(self.parcels.len() - 1).expect("fewer than 2³² parcels")
            }
        };
        self.number += 1;
        self.heap.push(Reverse((at, self.number, to, slot)));
    }

    fn act(&mut self, n: u32, output: Output) {
        if self.setup.sabotage == Sabotage::None {
            return self.carry_out(n, output);
        }
        let swim = &self.nodes[n as usize].swim;
        if let Some(output) = self.setup.sabotage.output(swim, output) {
            self.carry_out(n, output);
        }
    }

    fn carry_out(&mut self, n: u32, output: Output) {
        match output {
            Output::Send { to, lane, message, .. } => self.carry(n, number_of(to), lane, message),
            Output::Want { peer, addr } | Output::Dial { peer, addr } => {
                self.connect(n, Some(peer), addr, None);
            }
            Output::DialSeed { seed } => {
                self.connect(n, seed.node, seed.addr, Some(seed));
            }
            Output::Sync { to, step, rows } => self.carry_sync(n, number_of(to), step, rows),
            Output::Event(event) => self.note(n, &event),
            Output::Departed => {
                self.nodes[n as usize].departed = true;
                self.nodes[n as usize].up = false;
            }
            Output::UsedUp => {
                let session = self.nodes[n as usize].swim.life().session;
                let next = session.next().expect("a run has few sessions");
                self.post(self.now.as_nanos(), n, Input::Renewed(next));
            }
            Output::Known { .. }
            | Output::Name { .. }
            | Output::SessionBehind { .. }
            | Output::SelfChanged { .. }
            | Output::Joined => {}
        }
    }

    fn note(&mut self, n: u32, event: &MemberEvent) {
        let subject = number_of(event.node);
        match event.kind {
            MemberEventKind::Suspect => self.verdicts.suspected += 1,
            MemberEventKind::Dead(DeadCause::Timeout) => {
                let node = &mut self.nodes[subject as usize];
                node.fate.false_deaths += u64::from(node.up);
                self.verdicts.false_deaths += u64::from(node.up);
            }
            MemberEventKind::Dead(DeadCause::Told | DeadCause::Restarted | DeadCause::Revoked)
            | MemberEventKind::Join
            | MemberEventKind::Alive
            | MemberEventKind::Changed
            | MemberEventKind::Left => {}
        }
        if self.setup.record {
            self.seen.push(Seen {
                at: self.now,
                observer: n,
                subject,
                life: event.life,
                index: event.index,
                kind: event.kind,
            });
        }
    }

    fn reachable(&self, n: u32, to: u32) -> bool {
        let here = &self.nodes[n as usize];
        let there = self.nodes.get(to as usize);
        there.is_some_and(|there| there.up && there.group == here.group)
    }

    fn delay(&mut self) -> u64 {
        let spread = self.setup.delay_spread + 1;
        self.setup.delay_min + self.choices.choose("net.delay", [0, 0], spread)
    }

    fn lost(&mut self) -> bool {
        let loss = u64::from(self.setup.loss_permille);
        loss > 0 && self.choices.choose("net.loss", [0, 0], 1_000) >= 1_000 - loss
    }

    fn carry(&mut self, n: u32, to: u32, lane: Lane, message: Message) {
        let mut at = self.now.as_nanos();
        match lane {
            Lane::Datagram => {
                self.traffic.datagrams += 1;
                self.traffic.gossip_datagrams += u64::from(message.body == Body::Gossip);
                let bytes = message.encoded_len() + DATAGRAM_OVERHEAD;
                self.traffic.datagram_bytes += bytes as u64;
                if self.lost() {
                    return;
                }
            }
            Lane::Stream => {
                self.traffic.stream_messages += 1;
                while self.lost() {
                    at += RESEND;
                }
            }
        }
        if self.setup.sabotage.is_blind_to(to)
            && let Body::Ping { seq } = message.body
        {
            return self.forge_ack(to, n, seq);
        }
        if self.reachable(n, to) {
            at += self.delay();
            let content = match (lane, self.setup.wire) {
                (Lane::Datagram, Some(suite)) => {
                    let bytes = self.sealed(n, suite, &message);
                    Content::Datagram { from: n, bytes }
                }
                (Lane::Datagram | Lane::Stream, _) => {
                    Content::Input(Input::Received { from: node_id(n), lane, message })
                }
            };
            self.post_content(at, to, content);
        }
    }

    /// An answer that nobody gave.
    fn forge_ack(&mut self, from: u32, to: u32, seq: u32) {
        let input = Input::Received {
            from: node_id(from),
            lane: Lane::Datagram,
            message: Message { body: Body::Ack { seq }, entries: Vec::new() },
        };
        let at = self.now.as_nanos() + self.delay();
        self.post(at, to, input);
    }

    fn carry_sync(&mut self, n: u32, to: u32, step: SyncStep, rows: Vec<MemberRow>) {
        if !rows.is_empty() {
            let bytes: usize = rows.iter().map(MemberRow::encoded_len).sum();
            self.traffic.syncs += 1;
            self.traffic.sync_bytes += 12 + bytes as u64;
        }
        if self.reachable(n, to) {
            let at = self.now.as_nanos() + self.delay();
            let from = node_id(n);
            self.post(at, to, Input::Sync { from, step, rows });
        }
    }

    fn connect(&mut self, n: u32, peer: Option<NodeId>, target: Addr, seed: Option<Seed>) {
        let to = number_at(target);
        let now = self.now.as_nanos();
        if !self.reachable(n, to) {
            let at = now + CONNECT_TIMEOUT;
            return self.post(at, n, Input::Unreachable { peer, seed });
        }
        let trip = self.delay();
        let up = |n: u32, life: Life, seed| Input::LinkUp {
            peer: node_id(n),
            life,
            addr: node_addr(n),
            seed,
        };
        let for_peer = up(n, self.swim(n).life(), None);
        let for_me = up(to, self.swim(to).life(), seed);
        self.post(now + 2 * trip, to, for_peer);
        self.post(now + 3 * trip, n, for_me);
    }
}

fn alive_row(n: u32) -> MemberRow {
    MemberRow {
        node: node_id(n),
        life: Life { session: Session(1), incarnation: Incarnation(0) },
        state: State::Alive,
        age_ms: 0,
        addr: Some(node_addr(n)),
        meta: Meta::EMPTY,
    }
}

fn ping(from: NodeId) -> Input {
    Input::Received {
        from,
        lane: Lane::Datagram,
        message: Message { body: Body::Ping { seq: 0 }, entries: Vec::new() },
    }
}

/// Handles an input at the start of time and forgets what comes of it.
fn drive(swim: &mut Swim, input: Input) {
    swim.handle(Instant::START, input);
    while swim.poll().is_some() {}
}

#[cfg(test)]
mod tests;
