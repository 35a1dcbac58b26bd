//! What routing promises, broken: C145, C146, C147.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use machines::Instant;
use machines::cluster::ids::{CallId, NodeId, Ref, Session};
use machines::cluster::router::io::{Answer, AskError, Gap};
use machines::node::Node;
use machines::node::io::{Call, Event, Input, Output, Reply};

use crate::guest::Birth;
use crate::saboteur::Saboteur;

/// C145: the session of a reference is ignored.
pub(super) fn ignores_session(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(IgnoresSession)
}

#[derive(Clone)]
struct IgnoresSession;

/// Returns the session of `of` that runs now, as far as `node` knows.
fn running(node: &Node, of: NodeId) -> Option<Session> {
    match of == node.id() {
        true => Some(node.session()),
        false => node.swim().session_of(of),
    }
}

impl Saboteur<Node> for IgnoresSession {
    fn before(&mut self, node: &mut Node, _: Instant, mut input: Input) -> Vec<Input> {
        if let Input::Call { request: Call::Send { to, .. } | Call::Ask { to, .. }, .. } =
            &mut input
            && let Some(session) = running(node, to.node)
        {
            *to = Ref { session, ..*to };
        }
        vec![input]
    }
}

/// C146: what was sent before a link went down is sent again when it is back.
pub(super) fn resends(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(Resends { sent: VecDeque::new(), lost: Vec::new(), again: Vec::new(), calls: OWN })
}

/// Above it are the numbers of calls that no client made.
const OWN: u64 = 1 << 63;

/// Sends remembered.
const SENT_MAX: usize = 16;

#[derive(Clone)]
struct Resends {
    /// The last sends.
    sent: VecDeque<Call>,
    /// Peers whose link went down.
    lost: Vec<NodeId>,
    /// What is to be sent again.
    again: Vec<Call>,
    /// Numbers calls that no client made.
    calls: u64,
}

impl Resends {
    fn back(&mut self, peer: NodeId) {
        let meant = |call: &&Call| matches!(call, Call::Send { to, .. } if to.node == peer);
        self.again.extend(self.sent.iter().filter(meant).cloned());
    }
}

impl Saboteur<Node> for Resends {
    fn before(&mut self, _: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if let Input::Call { request: request @ Call::Send { .. }, .. } = &input {
            self.sent.truncate(SENT_MAX - 1);
            self.sent.push_front(request.clone());
        }
        let mut inputs = Vec::new();
        for request in self.again.drain(..) {
            self.calls += 1;
            inputs.push(Input::Call { call: CallId(self.calls), request });
        }
        inputs.push(input);
        inputs
    }

    fn after(&mut self, _: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        // Nobody made these calls, and nobody hears of them.
        outputs.retain(|output| !matches!(output, Output::Reply { call, .. } if call.0 > OWN));
        for output in outputs {
            if let Output::Event(Event::LinkDown { peer, .. }) = output {
                self.lost.push(*peer);
            }
            if let Output::Event(Event::LinkUp { peer }) = output
                && self.lost.contains(peer)
            {
                self.lost.retain(|lost| lost != peer);
                self.back(*peer);
            }
        }
    }
}

/// C146: every second send gets neither a number nor an outcome.
pub(super) fn swallows_replies(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(SwallowsReplies { sends: 0 })
}

#[derive(Clone)]
struct SwallowsReplies {
    sends: u64,
}

impl Saboteur<Node> for SwallowsReplies {
    fn before(&mut self, _: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if let Input::Call { request: Call::Send { .. }, .. } = &input {
            self.sends += 1;
            if self.sends.is_multiple_of(2) {
                return vec![Input::Tick];
            }
        }
        vec![input]
    }
}

/// C146: whoever links is said to have sent messages that did not arrive (C85).
pub(super) fn invents_gaps(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(InventsGaps)
}

#[derive(Clone)]
struct InventsGaps;

impl Saboteur<Node> for InventsGaps {
    fn after(&mut self, node: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        let up = |output: &Output| {
            let Output::Event(Event::LinkUp { peer }) = output else {
                return None;
            };
            Some(*peer)
        };
        if let Some(peer) = outputs.iter().find_map(up) {
            let session = node.swim().session_of(peer).unwrap_or(Session(1));
            let (first, last, senders) = (1, 500, Vec::new());
            let gap = Gap { peer, session, first, last, outcome: None, senders };
            outputs.push(Output::Event(Event::Gap(gap)));
        }
    }
}

/// C147: the answer to an ask that timed out is told as well.
pub(super) fn late_answer(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(LateAnswer { due: BTreeMap::new() })
}

/// How late the answer comes.
const LATE: Duration = Duration::from_millis(300);

#[derive(Clone)]
struct LateAnswer {
    due: BTreeMap<CallId, Instant>,
}

impl Saboteur<Node> for LateAnswer {
    fn after(&mut self, _: &mut Node, now: Instant, outputs: &mut Vec<Output>) {
        for output in outputs.iter() {
            if let Output::Reply { call, reply: Reply::Asked(Err(AskError::Timeout)) } = output {
                self.due.insert(*call, now + LATE);
            }
        }
        self.due.retain(|call, due| {
            let waits = *due > now;
            if !waits {
                let answer = Answer { status: 0, tag: 2, payload: Vec::new() };
                outputs.push(Output::Reply { call: *call, reply: Reply::Asked(Ok(answer)) });
            }
            waits
        });
    }
}
