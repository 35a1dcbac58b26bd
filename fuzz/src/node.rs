//! Whole nodes: two that could link, on a network that does what the bytes say, and that lets
//! bytes of no one's in besides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use machines::cluster::config::{ClusterConfig, Profile};
use machines::cluster::identity::{Allowed, StaticKey};
use machines::cluster::ids::{ActorId, Addr, CallId, Conn, Entropy, Instance, Ref, Session};
use machines::cluster::router::io::{Delivery, Request};
use machines::cluster::sealer::Suite;
use machines::cluster::swim::io::{MemberEventKind, Seed};
use machines::cluster::wire::{BounceCode, DATAGRAM_MAX, Meta, schema};
use machines::node::io::{Call, Event, Input, Output, Reply};
use machines::node::{Node, NodeParams};
use machines::{Choices, Instant};

use crate::cursor::{Cursor, START, addr};

/// The most that waits on the way to a node; what is more gets lost.
const WAITING_MAX: usize = 64;

fn listens(node: usize) -> Addr {
    addr([1, 2][node])
}

fn params(node: usize) -> NodeParams {
    let key = |node: usize| StaticKey::from_secret([[1, 2][node]; 32]);
    let mut config = ClusterConfig::of(Profile::Local, "demo");
    config.swim.members_max = 4;
    config.links.half_open_max = 2;
    config.links.links_max = 2;
    config.registry.names_max = 2;
    config.registry.names_per_node_max = 2;
    config.registry.lookups_max = 2;
    config.router.asks_max = 2;
    config.router.endpoints_max = 3;
    NodeParams {
        config,
        schemas: schema::hashes(),
        key: key(node),
        session: Session(1),
        instance: Instance([10, 20][node]),
        addr: listens(node),
        meta: Meta::EMPTY,
        allowed: Arc::new(Allowed::only([0, 1].map(|node| key(node).public()))),
        seeds: vec![Seed { addr: listens(1 - node), node: None }],
        choices: Choices::new([1, 2][node]),
        suite: Suite::Null,
    }
}

/// A node and what its driver keeps.
struct Seat {
    node: Node,
    /// What is on its way to the node, in order.
    waiting: VecDeque<Input>,
    /// Open streams, and the end of the other node if it is not the bytes' own.
    streams: BTreeMap<Conn, Option<Conn>>,
    accepted: u64,
    opened: Vec<ActorId>,
    requests: VecDeque<Request>,
    deliveries: VecDeque<Delivery>,
    /// Calls without an answer.
    calls: BTreeSet<CallId>,
    stopped: bool,
}

impl Seat {
    fn new(node: usize) -> Self {
        Self {
            node: Node::new(START, params(node)),
            waiting: VecDeque::new(),
            streams: BTreeMap::new(),
            accepted: 0,
            opened: Vec::new(),
            requests: VecDeque::new(),
            deliveries: VecDeque::new(),
            calls: BTreeSet::new(),
            stopped: false,
        }
    }

    fn accept(&mut self, other: Option<Conn>) -> Conn {
        self.accepted += 2;
        let conn = Conn(self.accepted - 1);
        self.streams.insert(conn, other);
        conn
    }

    /// Puts `input` on its way. A stream that loses bytes would be none: it ends.
    fn send(&mut self, input: Input) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(input);
        } else if let Input::Bytes { conn, .. } | Input::Closed { conn } = input {
            self.waiting.retain(|waiting| !is_of(waiting, conn));
            self.waiting.push_back(Input::Closed { conn });
        }
    }
}

fn is_of(input: &Input, of: Conn) -> bool {
    let (Input::Bytes { conn, .. } | Input::Closed { conn }) = input else {
        return false;
    };
    *conn == of
}

struct World {
    now: Instant,
    seats: [Seat; 2],
    drawn: u8,
    calls: u64,
    reached: BTreeSet<&'static str>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now: START,
            seats: [Seat::new(0), Seat::new(1)],
            drawn: 0,
            calls: 0,
            reached: BTreeSet::new(),
        };
        world.drain(0);
        world.drain(1);
        world
    }

    fn entropy(&mut self) -> Entropy {
        self.drawn = self.drawn.wrapping_add(1);
        Entropy([self.drawn; 64])
    }

    fn handle(&mut self, at: usize, input: Input) {
        if self.seats[at].stopped {
            return;
        }
        self.seats[at].node.handle(self.now, input);
        self.drain(at);
        check(&self.seats[at].node);
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.seats[at].node.poll() {
            self.reached.insert(told(&output));
            self.perform(at, output);
        }
    }

    fn perform(&mut self, at: usize, output: Output) {
        let other = 1 - at;
        match output {
            Output::Dial { conn, addr } if addr == listens(other).tcp() => {
                let end = self.seats[other].accept(Some(conn));
                self.seats[at].streams.insert(conn, Some(end));
                let (source, entropy) = (listens(at).ip().into(), self.entropy());
                self.seats[other].waiting.push_back(Input::Accepted { conn: end, source, entropy });
                let entropy = self.entropy();
                self.seats[at].waiting.push_back(Input::Connected { conn, entropy });
            }
            Output::Dial { conn, .. } => {
                self.seats[at].waiting.push_back(Input::DialFailed { conn });
            }
            Output::Write { conn, bytes } => {
                let count = u32::try_from(bytes.len()).expect("a write is short");
                self.seats[at].send(Input::Wrote { conn, count });
                if let Some(Some(end)) = self.seats[at].streams.get(&conn).copied() {
                    self.seats[other].send(Input::Bytes { conn: end, bytes });
                }
            }
            Output::Close { conn } => {
                let seat = &mut self.seats[at];
                seat.waiting.retain(|waiting| !is_of(waiting, conn));
                if let Some(Some(end)) = seat.streams.remove(&conn) {
                    self.seats[other].send(Input::Closed { conn: end });
                }
            }
            Output::Draw { conn } => {
                let entropy = self.entropy();
                self.seats[at].waiting.push_back(Input::Drawn { conn, entropy });
            }
            Output::Datagram { to, bytes } => {
                assert!(bytes.len() <= DATAGRAM_MAX, "C15: a datagram is short");
                if to == listens(other).udp() {
                    self.seats[other].send(Input::Datagram(bytes));
                }
            }
            Output::StoreSession { session, .. } => {
                self.seats[at].waiting.push_back(Input::SessionStored(session));
            }
            Output::Reply { call, reply } => self.replied(at, call, &reply),
            Output::Deliver { delivery, request, .. } => {
                self.seats[at].deliveries.push_back(delivery);
                self.seats[at].requests.extend(request);
            }
            Output::Event(_) => {}
            Output::Stop(_) => self.seats[at].stopped = true,
        }
    }

    /// C105: one answer to a call, but for the outcome of a tracked send.
    fn replied(&mut self, at: usize, call: CallId, reply: &Reply) {
        let seat = &mut self.seats[at];
        if let Reply::Opened(Ok(opened)) = reply {
            seat.opened.push(opened.actor);
        }
        let first = seat.calls.remove(&call);
        assert!(first || matches!(reply, Reply::Outcome(_)), "C105: a second answer {reply:?}");
    }

    fn call(&mut self, at: usize, request: Call) {
        self.calls += 1;
        let call = CallId(self.calls);
        if !self.seats[at].stopped {
            self.seats[at].calls.insert(call);
        }
        self.handle(at, Input::Call { call, request });
    }

    /// Lets the first of what waits arrive. Streams that the node closed are no more.
    fn arrive(&mut self, at: usize) {
        let Some(input) = self.seats[at].waiting.pop_front() else {
            return;
        };
        let conn = if let Input::Connected { conn, .. }
        | Input::Accepted { conn, .. }
        | Input::Bytes { conn, .. }
        | Input::Wrote { conn, .. }
        | Input::Drawn { conn, .. }
        | Input::Closed { conn } = &input
        {
            Some(*conn)
        } else {
            None
        };
        if conn.is_none_or(|conn| self.seats[at].streams.contains_key(&conn)) {
            if let Input::Closed { conn } = input {
                self.seats[at].streams.remove(&conn);
            }
            self.handle(at, input);
        }
    }

    fn step(&mut self, cursor: &mut Cursor<'_>) {
        let kind = cursor.below(16);
        let at = usize::from(cursor.flag());
        match kind {
            0 | 1 => {
                self.now = self.now + cursor.wait();
                self.handle(0, Input::Tick);
                self.handle(1, Input::Tick);
            }
            2..=5 => {
                for _ in 0..cursor.byte() {
                    self.arrive(0);
                    self.arrive(1);
                }
            }
            6 => self.arrive(at),
            7 => self.change(at, cursor),
            8 => {
                let bytes = cursor.bytes(80).to_vec();
                self.handle(at, Input::Datagram(bytes));
            }
            9 => {
                let (conn, entropy) = (self.seats[at].accept(None), self.entropy());
                let source = [10, 0, 0, cursor.byte()].into();
                self.handle(at, Input::Accepted { conn, source, entropy });
                let count = cursor.byte();
                let bytes = cursor.bytes(count).to_vec();
                if self.seats[at].streams.contains_key(&conn) {
                    self.handle(at, Input::Bytes { conn, bytes });
                }
            }
            10 => self.cut(at),
            _ => {
                let call = self.request(at, cursor);
                self.call(at, call);
            }
        }
    }

    /// Loses, doubles or changes the first of what waits.
    fn change(&mut self, at: usize, cursor: &mut Cursor<'_>) {
        let (kind, place, mask) = (cursor.below(3), cursor.byte(), cursor.byte());
        match self.seats[at].waiting.pop_front() {
            Some(Input::Datagram(mut bytes)) => {
                if kind == 0 {
                    return;
                }
                if kind == 1 {
                    self.seats[at].waiting.push_back(Input::Datagram(bytes.clone()));
                }
                flip(&mut bytes, place, mask);
                self.handle(at, Input::Datagram(bytes));
            }
            Some(Input::Bytes { conn, mut bytes }) => {
                flip(&mut bytes, place, mask);
                self.seats[at].waiting.push_front(Input::Bytes { conn, bytes });
            }
            Some(other) => self.seats[at].waiting.push_front(other),
            None => {}
        }
    }

    /// Ends the oldest stream of a node, at both ends.
    fn cut(&mut self, at: usize) {
        let Some((conn, end)) = self.seats[at].streams.pop_first() else {
            return;
        };
        if let Some(end) = end {
            self.seats[1 - at].send(Input::Closed { conn: end });
        }
        self.seats[at].waiting.retain(|waiting| !is_of(waiting, conn));
        self.handle(at, Input::Closed { conn });
    }

    fn request(&mut self, at: usize, cursor: &mut Cursor<'_>) -> Call {
        let nth = usize::from(cursor.below(4));
        let own = |seat: &Seat| seat.opened.get(nth).copied().unwrap_or(ActorId::NODE);
        let from = own(&self.seats[at]);
        let there = usize::from(cursor.flag());
        let to = Ref {
            node: self.seats[there].node.id(),
            session: self.seats[there].node.session(),
            actor: own(&self.seats[there]),
        };
        let (tag, payload) = (0, cursor.bytes(2).to_vec());
        match cursor.below(14) {
            0 | 1 => Call::Open,
            2 => Call::Close(from),
            3 | 4 => {
                let (name, manual) = (cursor.name(), cursor.flag());
                Call::Register { name, actor: from, ttl: Some(cursor.wait()), manual }
            }
            5 => Call::Renew(cursor.name()),
            6 => Call::Unregister(cursor.name()),
            7 => Call::Lookup(cursor.name()),
            8 => Call::Send { from, to, tag, payload, tracked: cursor.flag() },
            9 => Call::Ask { from, to, wait: cursor.wait(), tag, payload },
            10 => Call::Cancel(CallId(cursor.byte().into())),
            11 => match self.seats[at].requests.pop_front() {
                Some(request) => Call::Answer { request, status: 0, tag, payload },
                None => Call::Open,
            },
            12 => match self.seats[at].deliveries.pop_front() {
                Some(delivery) => Call::NotTaken { delivery, code: BounceCode::MailboxFull },
                None => Call::Open,
            },
            _ if cursor.below(16) == 0 => Call::Leave,
            _ => Call::Lookup(cursor.name()),
        }
    }
}

fn flip(bytes: &mut [u8], place: u8, mask: u8) {
    let len = bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(usize::from(place) % len) {
        *byte ^= mask;
    }
}

/// C150: everything is within its cap.
fn check(node: &Node) {
    for (what, size, most) in node.sizes() {
        assert!(size <= most, "C150: {size} {what}, of {most} at the most");
    }
}

fn told(output: &Output) -> &'static str {
    match output {
        Output::Dial { .. } => "dial",
        Output::Write { .. } => "write",
        Output::Close { .. } => "close",
        Output::Draw { .. } => "draw",
        Output::Datagram { .. } => "datagram",
        Output::StoreSession { .. } => "store",
        Output::Reply { reply, .. } => match reply {
            Reply::Opened(Ok(_)) => "opened",
            Reply::Opened(Err(_)) => "not opened",
            Reply::Done => "done",
            Reply::Registered(Ok(())) => "registered",
            Reply::Registered(Err(_)) => "not registered",
            Reply::Found(Some(_)) => "found",
            Reply::Found(None) => "not found",
            Reply::Sent(Ok(_)) => "sent",
            Reply::Sent(Err(_)) => "not sent",
            Reply::Outcome(_) => "outcome",
            Reply::Asked(Ok(_)) => "answered",
            Reply::Asked(Err(_)) => "not answered",
            Reply::Left => "left",
        },
        Output::Deliver { .. } => "deliver",
        Output::Event(event) => match event {
            Event::Member(event) => match event.kind {
                MemberEventKind::Join => "member join",
                MemberEventKind::Suspect => "member suspect",
                MemberEventKind::Alive => "member alive",
                MemberEventKind::Changed => "member changed",
                MemberEventKind::Dead(_) => "member dead",
                MemberEventKind::Left => "member left",
            },
            Event::Name(_) => "name",
            Event::Gap(_) => "gap",
            Event::Joined => "joined",
            Event::LinkUp { .. } => "link up",
            Event::LinkDown { .. } => "link down",
            Event::Refused { .. } => "handshake refused",
            Event::SessionRenewed(_) => "renewed",
            Event::NamesLate { .. } => "names late",
        },
        Output::Stop(_) => "stop",
    }
}

/// Runs `bytes` and names what the nodes told.
///
/// # Panics
///
/// If a property does not hold.
#[must_use]
pub fn run(bytes: &[u8]) -> BTreeSet<&'static str> {
    let mut cursor = Cursor::new(bytes);
    let mut world = World::new();
    while !cursor.is_empty() {
        world.step(&mut cursor);
    }
    world.now = world.now + Duration::from_secs(1);
    world.handle(0, Input::Tick);
    world.handle(1, Input::Tick);
    world.reached
}

/// Any sequence of inputs. Means something if a link came up.
#[must_use]
pub fn node(bytes: &[u8]) -> bool {
    run(bytes).contains("link up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "C105: a second answer")]
    fn an_answer_to_no_call_is_noticed() {
        World::new().perform(0, Output::Reply { call: CallId(1), reply: Reply::Done });
    }

    /// The saboteur swaps in a registry that was made with wider limits, and fills it.
    #[test]
    #[should_panic(expected = "C150")]
    fn a_table_beyond_its_cap_is_noticed() {
        use machines::cluster::config::RegistryConfig;
        use machines::cluster::registry::{Registry, io};
        let mut world = World::new();
        let node = &mut world.seats[0].node;
        let (me, config) = (node.id(), RegistryConfig::standard());
        let mut wide = Registry::new(me, Session(1), config, Choices::new(1));
        for n in 0..9 {
            let (name, actor, ttl, manual) = (crate::cursor::name(n), ActorId(1), None, false);
            let call = CallId(1);
            wide.handle(START, io::Input::Register { call, name, actor, ttl, manual });
            while wide.poll().is_some() {}
        }
        *node.parts_mut().registry = wide;
        check(node);
    }
}
