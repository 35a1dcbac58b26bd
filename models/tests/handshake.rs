//! Goal: whatever the order in which two nodes dial each other, lose dials, links and datagrams,
//! and restart, they end with one link, the same at both ends, and nothing passes between
//! processes that were not meant for each other (C132, C134, C145, C146; C155, T73).
//! Method: stateright drives two production `Links`, which dial each other at once. A step lets
//! the head of any stream arrive, a dial arrive or fail, a stream be cut, a datagram arrive, be
//! lost or repeated, a parent ask again, or a node restart in its next session. Streams keep their
//! order, and what was written at once arrives at once. Each fault's number is bounded, as
//! [`Bounds`] says, and no time passes until nothing is under way; from there the run goes on
//! fairly, both nodes wanting a link, and must end linked in the time that C134 gives.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use machines::cluster::config::LinksConfig;
use machines::cluster::identity::{Allowed, StaticKey};
use machines::cluster::ids::{
    ActorId, Addr, Conn, Entropy, Incarnation, Instance, Life, NodeId, Session,
};
use machines::cluster::links::io::{Input, Output};
use machines::cluster::links::{Links, LinksParams};
use machines::cluster::sealer::Suite;
use machines::cluster::swim::io::Lane;
use machines::cluster::wire::{Body, Frame, Message, UserFrame, schema};
use machines::digest::{Digest, mix};
use machines::{Choices, Instant};
use models::checker::report;
use stateright::{Checker, HasDiscoveries, Model, Property};

const LINKS: &str = "C134: at most one link is Up, and no dial beside it";
const ENDS: &str = "C134: every fair end has one link, the same at both ends";
const COUNTERS: &str = "C132: no counter is accepted twice";
const FENCE: &str = "C145: nothing passes between sessions not meant for each other";
const ONCE: &str = "C146: no frame is delivered twice";
const PROPERTIES: [&str; 5] = [LINKS, ENDS, COUNTERS, FENCE, ONCE];

/// How many of each fault there are in a run, both nodes together, and what each process says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Bounds {
    failed_dials: u8,
    cuts: u8,
    restarts: u8,
    losses: u8,
    repeats: u8,
    /// How often each parent asks again at once when there is no link.
    asks: u8,
    /// Datagrams that each process sends when a link comes up.
    datagrams: u8,
    /// User frames that each process sends, beside the first, when a link comes up.
    frames: u8,
}

/// What a twin does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
    Nothing,
    /// A node forgets that it dials when a Hello comes: both sides keep their dial.
    ForgetsDial,
    /// The state before a datagram was accepted is restored: a replay is accepted.
    ForgetsDatagrams,
    /// A parent sends what it sent to one session again to the next.
    Resends,
    /// Nobody dials again after a failure.
    GivesUp,
}

/// One end of a stream.
type End = (usize, Conn);

#[derive(Clone)]
struct Pair {
    nodes: [Links; 2],
    now: Instant,
    left: Bounds,
    sessions: [u32; 2],
    /// Dials that have neither arrived nor failed.
    dials: BTreeSet<End>,
    /// Streams that are open: end → other end.
    pipes: BTreeMap<End, End>,
    /// What is under way on streams, to each end.
    streams: BTreeMap<End, VecDeque<Input>>,
    /// What is under way beside streams, in no order.
    datagrams: Vec<(usize, Vec<u8>)>,
    /// Parents about to ask for a link.
    wants: BTreeSet<usize>,
    asks: [u8; 2],
    /// Datagrams and frames that each process may still send; the number of its next frame.
    says: [(u8, u8, u64); 2],
    /// Delivered: receiver and its session, and what.
    heard: BTreeSet<(usize, u32, u64)>,
    broken: Option<&'static str>,
    wrong: Wrong,
}

impl Hash for Pair {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut digest = Digest::new();
        (&self.nodes, self.now, self.left, self.sessions).hash(&mut digest);
        (&self.dials, &self.pipes, &self.streams, &self.datagrams).hash(&mut digest);
        (&self.wants, self.asks, self.says, &self.heard, self.broken).hash(&mut digest);
        state.write_u64(digest.finish());
    }
}

impl PartialEq for Pair {
    /// By digest: two pairs with one digest are one state to the checker anyhow.
    fn eq(&self, other: &Self) -> bool {
        Digest::of(self) == Digest::of(other)
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conn = |node: usize| self.conn(node);
        write!(f, "links {:?} {:?} dials {:?}", conn(0), conn(1), self.dials)?;
        write!(f, " pipes {:?} broken {:?}", self.pipes, self.broken)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    /// The head of the stream to this end arrives.
    Deliver(End),
    Arrive(End),
    Fail(End),
    Ask(usize),
    Cut(End),
    Restart(usize),
    Datagram(usize),
    Lose(usize),
    Repeat(usize),
}

fn addr(node: usize) -> Addr {
    let last = u8::try_from(node + 1).expect("two nodes");
    Addr::new(IpAddr::from([10, 0, 0, last]), 7_400, 7_400).expect("reachable")
}

fn key(node: usize) -> StaticKey {
    StaticKey::from_secret([u8::try_from(node + 1).expect("two nodes"); 32])
}

fn process(node: usize, session: u32) -> Links {
    Links::new(LinksParams {
        config: LinksConfig::standard(),
        cluster: "models".to_owned(),
        schemas: schema::hashes(),
        key: key(node),
        instance: Instance(100 * u64::from(session) + node as u64),
        life: Life { session: Session(session), incarnation: Incarnation(0) },
        addr: addr(node),
        allowed: Arc::new(Allowed::Any),
        choices: Choices::new(7).scoped(node as u64),
        suite: Suite::Null,
    })
}

/// What one process says: by whom, to which session, and its how-manieth.
fn label(from: usize, session: u32, meant: u32, number: u64) -> u64 {
    (from as u64) << 48 | u64::from(session) << 32 | u64::from(meant) << 16 | number
}

/// The sender's session and the receiver's, as [`label`] put them.
const fn sessions_of(label: u64) -> (u64, u64) {
    (label >> 32 & 0xffff, label >> 16 & 0xffff)
}

impl Pair {
    /// Two nodes that know each other's session, and dial each other since they have to say
    /// something.
    fn dialling(bounds: Bounds, wrong: Wrong) -> Self {
        let says = (bounds.datagrams, bounds.frames, 1);
        let mut pair = Self {
            nodes: [process(0, 1), process(1, 1)],
            now: Instant::from_millis(1),
            left: bounds,
            sessions: [1, 1],
            dials: BTreeSet::new(),
            pipes: BTreeMap::new(),
            streams: BTreeMap::new(),
            datagrams: Vec::new(),
            wants: BTreeSet::new(),
            asks: [bounds.asks; 2],
            says: [says; 2],
            heard: BTreeSet::new(),
            broken: None,
            wrong,
        };
        for node in 0..2 {
            let peer = pair.nodes[1 - node].node();
            pair.feed(node, Input::SessionKnown { peer, session: Session(1) });
            pair.say(node, 1);
        }
        pair
    }

    fn peer(&self, node: usize) -> NodeId {
        self.nodes[1 - node].node()
    }

    fn conn(&self, node: usize) -> Option<Conn> {
        self.nodes[node].link(self.peer(node)).map(|link| link.conn())
    }

    /// Sends a user frame that is meant for the session `meant` of the other node.
    fn say(&mut self, node: usize, meant: u32) {
        let number = self.says[node].2;
        self.says[node].2 += 1;
        let tag = label(node, self.sessions[node], meant, number);
        let payload = tag.to_le_bytes().to_vec();
        let (to, from) = (ActorId(1), ActorId(2));
        let frame = Frame::User(UserFrame::Send { number, to, from, tag: 0, payload });
        let (to, addr) = (self.peer(node), Some(addr(1 - node)));
        self.feed(node, Input::Frame { to, addr, process: None, frame });
    }

    /// Sends a datagram that differs from all others.
    fn ping(&mut self, node: usize, number: u8) {
        let seq = u32::try_from(node).expect("two nodes") << 24
            | self.sessions[node] << 8
            | u32::from(number);
        let message = Message { body: Body::Ping { seq }, entries: Vec::new() };
        let (to, addr) = (self.peer(node), addr(1 - node));
        self.feed(node, Input::Message { to, addr, lane: Lane::Datagram, message });
    }

    fn feed(&mut self, node: usize, input: Input) {
        if self.wrong == Wrong::ForgetsDial && matches!(input, Input::Bytes { .. }) {
            self.forget_dial(node);
        }
        self.nodes[node].handle(self.now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| self.nodes[node].poll()).collect();
        let mut came_up = Vec::new();
        for output in outputs {
            self.carry(node, output, &mut came_up);
        }
        self.judge(node);
        for session in came_up {
            self.greet(node, session);
        }
    }

    fn forget_dial(&mut self, node: usize) {
        let peer = self.peer(node);
        if self.nodes[node].link(peer).is_none() {
            self.nodes[node].peers.remove(&peer);
        }
    }

    fn carry(&mut self, node: usize, output: Output, came_up: &mut Vec<u32>) {
        match output {
            Output::Dial { conn, .. } => {
                self.dials.insert((node, conn));
            }
            Output::Write { conn, bytes } => {
                if let Some((to, conn)) = self.pipes.get(&(node, conn)).copied() {
                    self.push((to, conn), Input::Bytes { conn, bytes });
                }
            }
            Output::Close { conn } => {
                self.dials.remove(&(node, conn));
                // Nothing more is told about this connection.
                self.streams.remove(&(node, conn));
                if let Some(end) = self.pipes.remove(&(node, conn)) {
                    self.pipes.remove(&end);
                    self.push(end, Input::Closed { conn: end.1 });
                }
            }
            Output::Datagram { bytes, .. } => {
                self.datagrams.push((1 - node, bytes));
                self.datagrams.sort_unstable();
            }
            Output::LinkUp { hello, fresh: true, .. } => came_up.push(hello.life.session.0),
            Output::LinkDown { .. } | Output::Unreachable { .. } => {
                if self.asks[node] > 0 && self.wrong != Wrong::GivesUp {
                    self.asks[node] -= 1;
                    self.wants.insert(node);
                }
            }
            Output::Message { message, .. } => self.heard_message(node, &message),
            Output::Frame { frame, .. } => self.heard_frame(node, &frame),
            Output::Draw { .. } => unreachable!("no epoch is old enough"),
            Output::LinkUp { fresh: false, .. }
            | Output::Rejected { .. }
            | Output::SessionBehind { .. }
            | Output::Written { .. }
            | Output::NotTaken { .. }
            | Output::Refused { .. } => {}
        }
    }

    fn push(&mut self, end: End, input: Input) {
        self.streams.entry(end).or_default().push_back(input);
    }

    /// A link came up: the parent says what it still may.
    fn greet(&mut self, node: usize, session: u32) {
        if self.says[node].0 > 0 {
            self.says[node].0 -= 1;
            self.ping(node, self.says[node].0);
        }
        if self.says[node].1 > 0 {
            self.says[node].1 -= 1;
            let resent = self.wrong == Wrong::Resends;
            self.say(node, if resent { 1 } else { session });
        }
    }

    fn heard_message(&mut self, node: usize, message: &Message) {
        let Body::Ping { seq } = message.body else { return };
        let seq = u64::from(seq);
        self.fence(node, seq >> 8 & 0xffff, None);
        if !self.heard.insert((node, self.sessions[node], 1 << 63 | seq)) {
            self.broken = Some(COUNTERS);
        }
    }

    fn heard_frame(&mut self, node: usize, frame: &Frame) {
        let Frame::User(UserFrame::Send { payload, .. }) = frame else { return };
        let bytes = payload.as_slice().try_into().expect("labels are eight bytes");
        let label = u64::from_le_bytes(bytes);
        let (session, meant) = sessions_of(label);
        self.fence(node, session, Some(meant));
        if !self.heard.insert((node, self.sessions[node], label)) {
            self.broken = Some(ONCE);
        }
    }

    /// What came was sent in the peer's `session`, for the own session `meant`.
    fn fence(&mut self, node: usize, session: u64, meant: Option<u64>) {
        let known = self.nodes[node].peers.get(&self.peer(node)).map(|peer| peer.session());
        let over = known.is_some_and(|known| u64::from(known.0) > session);
        let astray = meant.is_some_and(|meant| meant != u64::from(self.sessions[node]));
        if over || astray {
            self.broken = Some(FENCE);
        }
    }

    /// C134 and C26 after a step of `node`.
    fn judge(&mut self, node: usize) {
        let links = &self.nodes[node];
        let beside = links.peers.values().any(|peer| {
            let half = peer.is_dialling() || peer.is_parked();
            peer.link().is_some() && half
        });
        if links.up() > 1 || beside {
            self.broken = Some(LINKS);
        }
    }

    fn arrive(&mut self, dialler: End) {
        self.dials.remove(&dialler);
        let (from, conn) = dialler;
        // Named by the dial, so that the order in which dials arrive leaves no other trace.
        let name = u64::from(self.sessions[from]) * 1_000 + conn.0 + 1;
        let acceptor = (1 - from, Conn(name));
        self.pipes.insert(dialler, acceptor);
        self.pipes.insert(acceptor, dialler);
        let entropy = |side: u64| {
            let seed = name << 8 | (from as u64) << 4 | side;
            let byte = |i: usize| mix(seed ^ 0x5bd1_e995, 0x9e37_79b9 + i as u64).to_le_bytes()[0];
            Entropy(std::array::from_fn(byte))
        };
        self.push(dialler, Input::Connected { conn, entropy: entropy(0) });
        let source = addr(from).tcp().ip();
        let accepted = Input::Accepted { conn: acceptor.1, source, entropy: entropy(1) };
        self.feed(acceptor.0, accepted);
    }

    fn deliver(&mut self, end: End) {
        let Some(stream) = self.streams.get_mut(&end) else { return };
        let input = stream.pop_front().expect("an empty stream is not kept");
        if stream.is_empty() {
            self.streams.remove(&end);
        }
        self.feed(end.0, input);
    }

    fn datagram(&mut self, at: usize) {
        let (to, bytes) = self.datagrams.remove(at);
        let before = self.nodes[to].clone();
        self.feed(to, Input::Datagram(bytes));
        if self.wrong == Wrong::ForgetsDatagrams {
            self.nodes[to] = before;
        }
    }

    /// A stream breaks: what was under way on it is lost.
    fn cut(&mut self, end: End) {
        let Some(other) = self.pipes.remove(&end) else { return };
        self.pipes.remove(&other);
        for end in [end, other] {
            // That a dial connected is told before that its stream ended.
            let kept = self.streams.remove(&end).and_then(|mut stream| stream.pop_front());
            if let Some(connected @ Input::Connected { .. }) = kept {
                self.push(end, connected);
            }
            self.push(end, Input::Closed { conn: end.1 });
        }
    }

    /// The process dies with its streams, and another begins in the next session.
    fn restart(&mut self, node: usize) {
        self.sessions[node] += 1;
        self.nodes[node] = process(node, self.sessions[node]);
        let bounds = self.left;
        self.says[node] = (bounds.datagrams, bounds.frames, 1);
        self.dials.retain(|(from, _)| *from != node);
        self.streams.retain(|(to, _), _| *to != node);
        let ends: Vec<(End, End)> = self.pipes.iter().map(|(end, other)| (*end, *other)).collect();
        for (end, other) in ends.into_iter().filter(|(end, _)| end.0 == node) {
            self.pipes.remove(&end);
            self.pipes.remove(&other);
            self.push(other, Input::Closed { conn: other.1 });
        }
        self.wants.insert(node);
    }

    fn ask(&mut self, node: usize) {
        self.wants.remove(&node);
        let (peer, addr) = (self.peer(node), addr(1 - node));
        self.feed(node, Input::Dial { peer, addr });
    }

    fn is_settled(&self) -> bool {
        let none = self.dials.is_empty() && self.streams.is_empty();
        none && self.datagrams.is_empty() && self.wants.is_empty()
    }

    /// Says whether both have one link, the two ends of one stream.
    fn linked(&self) -> bool {
        match (self.conn(0), self.conn(1)) {
            (Some(a), Some(b)) => self.pipes.get(&(0, a)) == Some(&(1, b)),
            _ => false,
        }
    }

    /// Lets something that is under way arrive.
    fn fair_step(&mut self) {
        if let Some(end) = self.streams.keys().next().copied() {
            self.deliver(end);
        } else if let Some(dialler) = self.dials.first().copied() {
            self.arrive(dialler);
        } else if let Some(node) = self.wants.first().copied() {
            self.ask(node);
        } else if !self.datagrams.is_empty() {
            self.datagram(0);
        }
    }

    /// Goes on without faults, both wanting a link each second; says whether they have one in
    /// the time of C134.
    fn ends_well(&self) -> bool {
        let mut pair = self.clone();
        let config = LinksConfig::standard();
        let end = pair.now + config.handshake_timeout * 2 + config.backoff_cap;
        let mut wanted = pair.now;
        let mut pings = 255;
        while pair.now < end {
            if !pair.is_settled() {
                pair.fair_step();
                continue;
            }
            if pair.linked() {
                return pair.broken.is_none();
            }
            let due = pair.nodes[0].deadline().min(pair.nodes[1].deadline());
            pair.now = due.min(wanted).max(pair.now);
            for node in 0..2 {
                if wanted <= pair.now && self.wrong != Wrong::GivesUp {
                    pair.ping(node, pings);
                } else {
                    pair.feed(node, Input::Tick);
                }
            }
            if wanted <= pair.now {
                wanted = pair.now + Duration::from_secs(1);
                pings -= 1;
            }
        }
        false
    }
}

struct Handshake {
    bounds: Bounds,
    wrong: Wrong,
}

impl Model for Handshake {
    type State = Pair;
    type Action = Action;

    fn init_states(&self) -> Vec<Pair> {
        vec![Pair::dialling(self.bounds, self.wrong)]
    }

    fn actions(&self, pair: &Pair, actions: &mut Vec<Action>) {
        if pair.broken.is_some() {
            return;
        }
        let left = pair.left;
        actions.extend(pair.streams.keys().copied().map(Action::Deliver));
        actions.extend(pair.dials.iter().copied().map(Action::Arrive));
        actions.extend(pair.wants.iter().copied().map(Action::Ask));
        if left.failed_dials > 0 {
            actions.extend(pair.dials.iter().copied().map(Action::Fail));
        }
        if left.cuts > 0 {
            // Each stream once, by its end at node 0.
            let ends = pair.pipes.keys().copied().filter(|end| end.0 == 0);
            actions.extend(ends.map(Action::Cut));
        }
        if left.restarts > 0 {
            actions.extend((0..2).map(Action::Restart));
        }
        // Two that are equal are one.
        let first = |at: &usize| *at == 0 || pair.datagrams[*at] != pair.datagrams[*at - 1];
        for at in (0..pair.datagrams.len()).filter(first) {
            actions.push(Action::Datagram(at));
            if left.losses > 0 {
                actions.push(Action::Lose(at));
            }
            if left.repeats > 0 {
                actions.push(Action::Repeat(at));
            }
        }
    }

    fn next_state(&self, last: &Pair, action: Action) -> Option<Pair> {
        let mut pair = last.clone();
        match action {
            Action::Deliver(end) => pair.deliver(end),
            Action::Arrive(dialler) => pair.arrive(dialler),
            Action::Fail(dialler) => {
                pair.left.failed_dials -= 1;
                pair.dials.remove(&dialler);
                pair.feed(dialler.0, Input::DialFailed { conn: dialler.1 });
            }
            Action::Ask(node) => pair.ask(node),
            Action::Cut(end) => {
                pair.left.cuts -= 1;
                pair.cut(end);
            }
            Action::Restart(node) => {
                pair.left.restarts -= 1;
                pair.restart(node);
            }
            Action::Datagram(at) => pair.datagram(at),
            Action::Lose(at) => {
                pair.left.losses -= 1;
                pair.datagrams.remove(at);
            }
            Action::Repeat(at) => {
                pair.left.repeats -= 1;
                let again = pair.datagrams[at].clone();
                pair.datagrams.insert(at, again);
            }
        }
        Some(pair)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(LINKS, |_, pair: &Pair| pair.broken != Some(LINKS)),
            Property::always(ENDS, |_, pair: &Pair| {
                pair.broken.is_some() || !pair.is_settled() || pair.ends_well()
            }),
            Property::always(COUNTERS, |_, pair: &Pair| pair.broken != Some(COUNTERS)),
            Property::always(FENCE, |_, pair: &Pair| pair.broken != Some(FENCE)),
            Property::always(ONCE, |_, pair: &Pair| pair.broken != Some(ONCE)),
        ]
    }
}

/// One dial fails and one node restarts: what C155 asks for.
const RESTART: Bounds = Bounds {
    failed_dials: 1,
    cuts: 0,
    restarts: 1,
    losses: 0,
    repeats: 0,
    asks: 1,
    datagrams: 0,
    frames: 1,
};

/// One dial fails and one stream breaks.
const CUT: Bounds = Bounds { cuts: 1, restarts: 0, ..RESTART };

/// Datagrams are lost and repeated while a node restarts.
const DATAGRAMS: Bounds =
    Bounds { failed_dials: 0, losses: 1, repeats: 1, asks: 0, datagrams: 1, frames: 0, ..RESTART };

/// A stream breaks and a node restarts.
const CUT_AND_RESTART: Bounds = Bounds { failed_dials: 0, cuts: 1, frames: 0, ..RESTART };

/// Explores all of a model; every property must hold in every state.
fn check(name: &str, bounds: Bounds) {
    let model = Handshake { bounds, wrong: Wrong::Nothing };
    let checker = model.checker().threads(2).spawn_bfs().join();
    for property in PROPERTIES {
        let path = checker.discovery(property);
        assert!(path.is_none(), "{property}: {:?}", path.map(|path| path.into_actions()));
    }
    let states = checker.unique_state_count();
    report("model", name, &format!("{states} states, complete within {bounds:?}"));
    assert!(states > 1_000, "only {states} states");
}

/// Explores a model that is wrong until it breaks something, which must be `expected`.
fn twin(name: &str, bounds: Bounds, wrong: Wrong, expected: &'static str) {
    let model = Handshake { bounds, wrong };
    let failed = HasDiscoveries::AnyOf([expected].into());
    let checker = model.checker().threads(2).finish_when(failed).spawn_bfs().join();
    assert!(checker.discovery(expected).is_some(), "twin {name} passed: {expected}");
    report("twin", name, &format!("caught: {expected}"));
}

/// T73.
#[test]
fn two_that_dial_at_once_end_with_one_link_whatever_fails_and_restarts() {
    check("handshake restart", RESTART);
}

#[test]
fn two_that_dial_at_once_end_with_one_link_whatever_breaks() {
    check("handshake cut", CUT);
}

#[test]
fn no_datagram_is_accepted_twice_or_in_another_session() {
    check("handshake datagrams", DATAGRAMS);
}

#[test]
fn two_that_dial_at_once_end_with_one_link_whatever_breaks_and_restarts() {
    check("handshake cut and restart", CUT_AND_RESTART);
}

#[test]
fn notices_that_both_sides_keep_their_dial() {
    twin("handshake keeps both dials", RESTART, Wrong::ForgetsDial, LINKS);
}

#[test]
fn notices_a_replayed_datagram() {
    twin("handshake accepts a replay", DATAGRAMS, Wrong::ForgetsDatagrams, COUNTERS);
}

#[test]
fn notices_what_is_sent_again_to_the_next_session() {
    twin("handshake resends to the next session", RESTART, Wrong::Resends, FENCE);
}

#[test]
fn notices_that_nobody_dials_again() {
    twin("handshake gives up", CUT, Wrong::GivesUp, ENDS);
}
