//! What the checks of this world must catch (T32): the production node with one promise broken.

use std::collections::VecDeque;

use machines::Instant;
use machines::cluster::ids::NodeId;
use machines::cluster::router::io::Outcome;
use machines::cluster::swim::Snapshot;
use machines::node::Node;
use machines::node::io::{Event, Input, Output, Reply};
use runtime::{Machine, Names};

/// What a node does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Nothing.
    None,
    /// It reports a link with a node that is on no allowlist.
    KnowsStranger,
    /// It hands over every message without its bytes.
    LosesPayload,
    /// It neither dials nor sends datagrams, so that it never joins.
    Mute,
    /// It keeps one member event in three to itself.
    DropsEvents,
    /// It hands over every message twice.
    DeliversTwice,
    /// It says of messages that were delivered that they are lost.
    DeniesDelivery,
    /// It keeps the results of asks for ten seconds.
    AnswersLate,
    /// It finds no name.
    FindsNothing,
}

/// How long [`Sabotage::AnswersLate`] holds a result back, in nanoseconds.
const LATE: u64 = 10_000_000_000;

impl Sabotage {
    /// All that there are, each with its name and the property that it breaks.
    pub const ALL: [(&'static str, Self, &'static str); 8] = [
        ("knows-stranger", Self::KnowsStranger, "C130"),
        ("loses-payload", Self::LosesPayload, "C131"),
        ("mute", Self::Mute, "C140"),
        ("drops-events", Self::DropsEvents, "C143"),
        ("delivers-twice", Self::DeliversTwice, "C145"),
        ("denies-delivery", Self::DeniesDelivery, "C146"),
        ("answers-late", Self::AnswersLate, "C147"),
        ("finds-nothing", Self::FindsNothing, "C149"),
    ];

    /// Finds one by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _, _)| *known == name).map(|(_, sabotage, _)| *sabotage)
    }
}

/// A node, sabotaged or not.
pub(super) struct Subject {
    node: Node,
    sabotage: Sabotage,
    now: Instant,
    /// Made up, and to be taken next.
    extra: VecDeque<Output>,
    /// Held back, the first due first.
    late: VecDeque<(Instant, Output)>,
    member_events: u64,
}

impl Subject {
    pub(super) fn new(node: Node, sabotage: Sabotage, now: Instant) -> Self {
        let (extra, late) = (VecDeque::new(), VecDeque::new());
        Self { node, sabotage, now, extra, late, member_events: 0 }
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    /// Returns what becomes of an output; `None` swallows it.
    fn spoil(&mut self, output: Output) -> Option<Output> {
        match (self.sabotage, output) {
            (Sabotage::KnowsStranger, Output::Event(Event::LinkUp { .. })) => {
                let peer = NodeId::from_bytes([0xee; 16]);
                Some(Output::Event(Event::LinkUp { peer }))
            }
            (
                Sabotage::LosesPayload,
                Output::Deliver { to, from, delivery, request: None, tag, .. },
            ) => {
                let payload = Vec::new();
                Some(Output::Deliver { to, from, delivery, request: None, tag, payload })
            }
            (Sabotage::Mute, Output::Datagram { .. }) => None,
            (Sabotage::Mute, Output::Dial { conn, .. }) => {
                let nowhere = "10.9.9.9:9".parse().expect("an address");
                Some(Output::Dial { conn, addr: nowhere })
            }
            (Sabotage::DropsEvents, Output::Event(Event::Member(event))) => {
                self.member_events += 1;
                (!self.member_events.is_multiple_of(3))
                    .then_some(Output::Event(Event::Member(event)))
            }
            (Sabotage::DeliversTwice, output @ Output::Deliver { request: None, .. }) => {
                self.extra.push_back(output.clone());
                Some(output)
            }
            (
                Sabotage::DeniesDelivery,
                Output::Reply { call, reply: Reply::Outcome(Outcome::Delivered) },
            ) => Some(Output::Reply { call, reply: Reply::Outcome(Outcome::Lost) }),
            (Sabotage::AnswersLate, output @ Output::Reply { reply: Reply::Asked(_), .. }) => {
                self.late.push_back((self.now.plus_nanos(LATE), output));
                None
            }
            (Sabotage::FindsNothing, Output::Reply { call, reply: Reply::Found(_) }) => {
                Some(Output::Reply { call, reply: Reply::Found(None) })
            }
            (_, output) => Some(output),
        }
    }
}

impl Machine for Subject {
    fn handle(&mut self, now: Instant, input: Input) {
        self.now = now;
        self.node.handle(now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        if let Some(output) = self.extra.pop_front() {
            return Some(output);
        }
        while let Some(output) = self.node.poll() {
            if let Some(output) = self.spoil(output) {
                return Some(output);
            }
        }
        let due = self.late.front().is_some_and(|(at, _)| *at <= self.now);
        if due { self.late.pop_front().map(|(_, output)| output) } else { None }
    }

    fn deadline(&self) -> Instant {
        let late = self.late.front().map_or(Instant::FAR, |(at, _)| *at);
        self.node.deadline().min(late)
    }

    fn members(&self) -> Snapshot {
        Machine::members(&self.node)
    }

    fn names(&self, prefix: &str) -> Names {
        Machine::names(&self.node, prefix)
    }
}
