//! A stand-in for a node: nodes in a ring that pass datagrams on. It measures the simulator (T90)
//! and tests the world without the weight of a real node.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

use machines::Instant;
use machines::cluster::ids::{ActorId, CallId, Conn, Ref};
use machines::digest::Digest;
use machines::node::io::{Call, Input, Output, Reply};

use crate::guest::{Birth, Guest};
use crate::host::address;

/// What a ring does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingKind {
    /// Datagrams that node 0 sends at its first step.
    pub in_flight: u32,
    /// Nanoseconds between the ticks of each node; 0 for none. At each tick a node sends one more.
    pub period: u64,
    /// Each node keeps a stream to the next and writes to it at each tick.
    pub streams: bool,
    /// Bytes of a datagram, at least the eight of its number.
    pub bytes: usize,
}

impl Default for RingKind {
    fn default() -> Self {
        Self { in_flight: 0, period: 0, streams: false, bytes: 8 }
    }
}

/// One node of a ring.
#[derive(Clone, Debug)]
pub struct Ring {
    kind: RingKind,
    me: Ref,
    next: SocketAddr,
    next_tcp: SocketAddr,
    outputs: VecDeque<Output>,
    /// Datagrams for the next node, after the outputs.
    datagrams: VecDeque<Vec<u8>>,
    due: Instant,
    begun: bool,
    /// The next number that this node gives to a datagram, its own place first.
    number: u64,
    /// Numbers received, the newest last.
    pub(crate) seen: VecDeque<u64>,
    /// Datagrams received.
    pub(crate) received: u64,
    dials: u64,
    up: Option<Conn>,
    /// Bytes received on streams, and how often they were not what comes next.
    pub(crate) stream_bytes: u64,
    pub(crate) stream_errors: u64,
    /// Streams that ended.
    pub(crate) stream_ends: u64,
    written: u64,
    read: std::collections::BTreeMap<u64, u64>,
}

impl Ring {
    fn begin(&mut self) {
        self.begun = true;
        if self.kind.streams {
            self.dial();
        }
        if self.number >> 48 == 0 {
            for _ in 0..self.kind.in_flight {
                self.send_one();
            }
        }
    }

    fn send_one(&mut self) {
        let mut bytes = vec![0; self.kind.bytes];
        bytes[..8].copy_from_slice(&self.number.to_le_bytes());
        self.number += 1;
        self.datagrams.push_back(bytes);
    }

    fn dial(&mut self) {
        self.dials += 2;
        let conn = Conn(self.dials);
        self.written = 0;
        self.outputs.push_back(Output::Dial { conn, addr: self.next_tcp });
    }

    fn tick(&mut self) {
        self.send_one();
        if let Some(conn) = self.up {
            let first = self.written;
            let bytes = (first..first + 100).map(|n| n.to_le_bytes()[0]).collect();
            self.written += 100;
            self.outputs.push_back(Output::Write { conn, bytes });
        }
    }

    fn read(&mut self, conn: Conn, bytes: &[u8]) {
        let expected = self.read.entry(conn.0).or_insert(0);
        for byte in bytes {
            self.stream_errors += u64::from(expected.to_le_bytes()[0] != *byte);
            *expected += 1;
        }
        self.stream_bytes += bytes.len() as u64;
    }

    fn lost(&mut self, conn: Conn) {
        self.stream_ends += 1;
        if conn.0.is_multiple_of(2) {
            self.up = None;
            self.dial();
        }
    }

    fn remember(&mut self, number: u64) {
        if self.seen.len() == 64 {
            self.seen.pop_front();
        }
        self.seen.push_back(number);
    }

    /// Apart, so that a datagram on its way is not moved as if it were the largest output.
    #[inline(never)]
    fn poll_rare(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn call(&mut self, call: CallId, request: &Call) {
        let reply = match request {
            Call::Open => Reply::Opened(Ok(Ref { actor: ActorId(call.0), ..self.me })),
            Call::Register { .. } | Call::Renew(_) | Call::Unregister(_) => {
                Reply::Registered(Ok(()))
            }
            Call::Lookup(_) => Reply::Found(None),
            Call::Send { .. } => Reply::Sent(Ok(call.0)),
            Call::Leave => Reply::Left,
            Call::Close(_)
            | Call::Ask { .. }
            | Call::Cancel(_)
            | Call::Answer { .. }
            | Call::NotTaken { .. } => Reply::Done,
        };
        self.outputs.push_back(Output::Reply { call, reply });
    }
}

impl Guest for Ring {
    type Kind = RingKind;

    fn new(kind: &RingKind, now: Instant, birth: Birth) -> Self {
        let next = address((birth.node + 1) % birth.nodes, 0);
        let node = machines::cluster::ids::NodeId::of_key(&birth.secret);
        Self {
            kind: *kind,
            me: Ref { node, session: birth.session, actor: ActorId(0) },
            next: next.udp(),
            next_tcp: next.tcp(),
            outputs: VecDeque::new(),
            datagrams: VecDeque::with_capacity(4),
            due: match kind.period {
                0 => Instant::FAR,
                period => now.plus_nanos(period),
            },
            begun: false,
            number: u64::from(birth.node) << 48,
            seen: VecDeque::new(),
            received: 0,
            dials: 0,
            up: None,
            stream_bytes: 0,
            stream_errors: 0,
            stream_ends: 0,
            written: 0,
            read: std::collections::BTreeMap::new(),
        }
    }

    #[inline]
    fn handle(&mut self, now: Instant, input: Input) {
        while self.due <= now {
            self.due = self.due.plus_nanos(self.kind.period);
            self.tick();
        }
        match input {
            Input::Datagram(bytes) => {
                self.received += 1;
                if self.kind.period == 0 {
                    self.datagrams.push_back(bytes);
                } else if let Ok(number) = bytes.try_into() {
                    self.remember(u64::from_le_bytes(number));
                }
            }
            Input::Tick if !self.begun => self.begin(),
            Input::Connected { conn, .. } => self.up = Some(conn),
            Input::DialFailed { conn } | Input::Closed { conn } => self.lost(conn),
            Input::Bytes { conn, bytes } => self.read(conn, &bytes),
            Input::Call { call, request } => self.call(call, &request),
            Input::Tick
            | Input::Accepted { .. }
            | Input::Wrote { .. }
            | Input::Drawn { .. }
            | Input::SessionStored(_)
            | Input::Allowed(_)
            | Input::Seeds(_)
            | Input::Moved(_)
            | Input::Meta(_)
            | Input::Limits(_) => {}
        }
    }

    #[inline]
    fn poll(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            let bytes = self.datagrams.pop_front()?;
            return Some(Output::Datagram { to: self.next, bytes });
        }
        self.poll_rare()
    }

    #[inline]
    fn deadline(&self) -> Instant {
        self.due
    }

    fn digest(&self) -> u64 {
        let mut digest = Digest::new();
        (self.received, self.number, self.stream_bytes, self.due).hash(&mut digest);
        digest.finish()
    }

    fn public_key(secret: &[u8; 32]) -> [u8; 32] {
        *secret
    }
}
