//! What becomes of messages: C145, C146, C147.

use std::collections::BTreeMap;
use std::time::Duration;

use machines::cluster::ids::{ActorId, CallId, NodeId, Ref, Session};
use machines::cluster::router::io::{AskError, Gap, Outcome};
use machines::node::io::{Call, Event, Input, Output, Reply};
use machines::time::nanos;

use super::HasNode;
use super::answers::Answers;
use super::truth::HoldUps;
use crate::checker::{Checker, Notice, Step};
use crate::clients::CANARY;
use crate::world::{Setup, World};

/// The number that the clients put into every payload.
fn message_number(payload: &[u8]) -> Option<u64> {
    let number = payload.strip_prefix(&CANARY)?.first_chunk::<8>()?;
    Some(u64::from_le_bytes(*number))
}

/// What a step asks of the node, if it is a call.
fn request<'a>(step: &'a Step<'_>) -> Option<(CallId, &'a Call)> {
    match step.input {
        Input::Call { call, request } => Some((*call, request)),
        _ => None,
    }
}

/// C145: a message reaches the actor, session and node that its reference names, or none.
#[derive(Clone, Debug, Default)]
pub(super) struct Fencing {
    /// Message number → where it was sent.
    sent: BTreeMap<u64, Ref>,
    /// Deliveries judged.
    looked: u64,
}

impl<G: HasNode> Checker<G> for Fencing {
    fn property(&self) -> &'static str {
        "C145"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if let Some((_, Call::Send { to, payload, .. } | Call::Ask { to, payload, .. })) =
            request(step)
            && let Some(number) = message_number(payload)
        {
            self.sent.insert(number, *to);
        }
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        for output in step.outputs {
            let Output::Deliver { to, payload, .. } = output else {
                continue;
            };
            let here = (guest.node().id(), guest.node().session(), *to);
            let number = message_number(payload);
            let Some(meant) = number.and_then(|number| self.sent.get(&number)) else {
                continue;
            };
            self.looked += 1;
            if here != (meant.node, meant.session, meant.actor) {
                return Err(format!("a message to {meant:?} reached {here:?}"));
            }
        }
        Ok(())
    }
}

/// One tracked send, as its sender and its receiver saw it.
#[derive(Clone, Copy, Debug)]
struct Sent {
    node: u32,
    epoch: u32,
    at: u64,
    message: u64,
    outcome: Option<Outcome>,
}

/// C146: at most one delivery a send; numbers rise; every call is answered once, and every send
/// ends once; Lost is not delivered. No gap is wider than all that its sender ever sent (C85).
#[derive(Clone, Debug)]
pub(super) struct AtMostOnce {
    answers: Answers,
    calls: BTreeMap<CallId, Sent>,
    /// Message number → deliveries.
    delivered: BTreeMap<u64, u32>,
    /// The last number of each lane, and the session it counted in.
    last: BTreeMap<Lane, (u64, u32)>,
    /// What each process, by node and start, was asked to send: nothing else uses numbers.
    numbered: BTreeMap<Process, u64>,
    /// The processes that ran as a session of a node. One process can go through several (C27),
    /// and where a disk was lost two processes can have one.
    ran: BTreeMap<(NodeId, Session), Vec<Process>>,
    /// The session of each node when last looked at.
    sessions: BTreeMap<u32, (Process, Session)>,
}

/// A node and the number of its start.
type Process = (u32, u32);

/// Receiving node and its start, sending node, sending and receiving actor.
type Lane = (u32, u32, NodeId, ActorId, ActorId);

/// In a quiet cluster what was sent so long ago has ended: long since confirmed, or its link has
/// come and gone.
const ENDS: u64 = 60_000_000_000;

impl AtMostOnce {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        Self {
            answers: Answers::new(setup),
            calls: BTreeMap::new(),
            delivered: BTreeMap::new(),
            last: BTreeMap::new(),
            numbered: BTreeMap::new(),
            ran: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// Counts what may use a number.
    fn count<G: HasNode>(&mut self, world: &World<G>, step: &Step<'_>) {
        let Some(guest) = world.guest(step.node) else {
            return;
        };
        let process = (step.node, world.host(step.node).epoch());
        let now = (process, guest.node().session());
        if self.sessions.insert(step.node, now) != Some(now) {
            self.ran.entry((guest.node().id(), now.1)).or_default().push(process);
        }
        if let Some((_, Call::Send { .. } | Call::Ask { .. } | Call::Answer { .. })) = request(step)
        {
            *self.numbered.entry(process).or_default() += 1;
        }
    }

    fn gap(&self, node: u32, gap: &Gap) -> Result<(), String> {
        let wide = gap.last - gap.first + 1;
        let senders = self.ran.get(&(gap.peer, gap.session)).into_iter().flatten();
        let sent: u64 = senders.filter_map(|process| self.numbered.get(process)).sum();
        match gap.outcome {
            None if wide > sent => Err(format!(
                "node {node} misses {wide} messages of {:?}, which sent {sent}",
                gap.peer
            )),
            None | Some(_) => Ok(()),
        }
    }

    fn delivery<G: HasNode>(
        &mut self,
        world: &World<G>,
        step: &Step<'_>,
        output: &Output,
    ) -> Result<(), String> {
        let Output::Deliver { to, from, delivery, payload, .. } = output else {
            return Ok(());
        };
        if let Some(message) = message_number(payload) {
            let times = self.delivered.entry(message).or_default();
            *times += 1;
            if *times > 1 {
                return Err(format!(
                    "message {message} was delivered twice, to node {}",
                    step.node
                ));
            }
        }
        let local = world.guest(step.node).is_some_and(|guest| guest.node().id() == from.node);
        if local {
            return Ok(());
        }
        let key = (step.node, world.host(step.node).epoch(), from.node, from.actor, *to);
        let session = from.session.0;
        let before = self.last.insert(key, (delivery.number, session));
        match before {
            Some((last, same)) if same == session && delivery.number <= last => Err(format!(
                "node {} got number {} of {:?} after {last}",
                step.node, delivery.number, from.node
            )),
            _ => Ok(()),
        }
    }

    fn outcome(&mut self, call: CallId, outcome: Outcome) -> Result<(), String> {
        let Some(sent) = self.calls.get_mut(&call) else {
            return Ok(());
        };
        if let Some(before) = sent.outcome.replace(outcome) {
            return Err(format!("message {} was {before:?}, then {outcome:?}", sent.message));
        }
        Ok(())
    }
}

impl<G: HasNode> Checker<G> for AtMostOnce {
    fn property(&self) -> &'static str {
        "C146"
    }

    fn armed(&self) -> u64 {
        self.answers.answered.min(self.delivered.len() as u64)
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if let Some((call, Call::Send { payload, tracked: true, .. })) = request(step)
            && let Some(message) = message_number(payload)
        {
            let epoch = world.host(step.node).epoch();
            let (node, at) = (step.node, world.now());
            self.calls.insert(call, Sent { node, epoch, at, message, outcome: None });
        }
        self.count(world, step);
        self.answers.follow(world, step)?;
        for output in step.outputs {
            self.delivery(world, step, output)?;
            match output {
                Output::Event(Event::Gap(gap)) => self.gap(step.node, gap)?,
                Output::Reply { call, reply: Reply::Outcome(outcome) } => {
                    self.outcome(*call, *outcome)?;
                }
                Output::Reply { call, reply: Reply::Sent(Err(_)) } => {
                    self.calls.remove(call);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn notice(&mut self, _: &World<G>, notice: Notice) -> Result<(), String> {
        if let Notice::Died(node) | Notice::Stopped(node) | Notice::Left(node) = notice {
            self.answers.ended(node);
        }
        Ok(())
    }

    fn end(&mut self, world: &World<G>) -> Result<(), String> {
        self.answers.overdue(world)?;
        for sent in self.calls.values() {
            let times = self.delivered.get(&sent.message).copied().unwrap_or(0);
            let never = matches!(sent.outcome, Some(Outcome::Lost | Outcome::NotSent));
            if never && times > 0 {
                let outcome = sent.outcome;
                return Err(format!("message {} was {outcome:?}, and delivered", sent.message));
            }
            if sent.outcome == Some(Outcome::Delivered) && times == 0 {
                return Err(format!("message {} was Delivered to nobody", sent.message));
            }
        }
        let long_ago = world.now().saturating_sub(ENDS);
        let open = self.calls.values().find(|sent| {
            let host = world.host(sent.node);
            let lives = host.is_up() && host.epoch() == sent.epoch;
            lives && sent.at < long_ago && sent.outcome.is_none()
        });
        match open {
            Some(sent) if world.setup().quiet_at < long_ago => {
                Err(format!("message {} of node {} never ended", sent.message, sent.node))
            }
            _ => Ok(()),
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug)]
struct Asked {
    node: u32,
    epoch: u32,
    at: u64,
    wait: u64,
    ended: bool,
}

/// C147: an ask ends exactly once, within its timeout and one step.
#[derive(Clone, Debug)]
pub(super) struct AskOnce {
    asked: BTreeMap<CallId, Asked>,
    /// Those that have not ended.
    open: BTreeMap<CallId, Asked>,
    /// When timers are late through no fault of the node.
    held_up: HoldUps,
}

impl AskOnce {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let held_up = HoldUps::new(setup);
        Self { asked: BTreeMap::new(), open: BTreeMap::new(), held_up }
    }
}

/// What one step may take, with clocks that drift by 1 %.
fn grace(wait: u64) -> u64 {
    nanos(Duration::from_millis(10)) + wait / 50
}

impl<G: HasNode> Checker<G> for AskOnce {
    fn property(&self) -> &'static str {
        "C147"
    }

    fn armed(&self) -> u64 {
        (self.asked.len() - self.open.len()) as u64
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if let Some((call, Call::Ask { wait, .. })) = request(step) {
            let (node, at, wait) = (step.node, world.now(), nanos(*wait));
            let epoch = world.host(node).epoch();
            let asked = Asked { node, epoch, at, wait, ended: false };
            self.asked.insert(call, asked);
            self.open.insert(call, asked);
        }
        for output in step.outputs {
            let Output::Reply { call, reply: Reply::Asked(result) } = output else {
                continue;
            };
            let Some(asked) = self.asked.get_mut(call) else {
                continue;
            };
            self.open.remove(call);
            if std::mem::replace(&mut asked.ended, true) {
                return Err(format!("ask {call:?} of node {} ended twice: {result:?}", step.node));
            }
            let late = world.now().saturating_sub(asked.at + asked.wait + grace(asked.wait));
            let held_up = self.held_up.any(step.node, asked.at, world.now());
            if late > 0 && !held_up && !matches!(result, Err(AskError::Refused(_))) {
                return Err(format!("ask {call:?} ended {late} ns too late: {result:?}"));
            }
        }
        Ok(())
    }

    fn end(&mut self, world: &World<G>) -> Result<(), String> {
        for (call, asked) in &self.open {
            let host = world.host(asked.node);
            let lives = host.is_up() && host.epoch() == asked.epoch;
            let due = asked.at + asked.wait + grace(asked.wait);
            let held_up = self.held_up.any(asked.node, asked.at, world.now());
            if lives && !held_up && world.now() > due {
                return Err(format!("ask {call:?} of node {} never ended", asked.node));
            }
        }
        Ok(())
    }
}
