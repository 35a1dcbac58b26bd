//! What users and watchers of all nodes saw, in order, and which promises that breaks.
//!
//! Everything noted feeds one running hash, with the virtual time at which it was seen: two runs
//! of a seed that differ anywhere differ here (T61).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use machines::Instant;
use machines::cluster::ids::{NodeId, Ref};
use machines::cluster::router::io::{Gap, Outcome};
use machines::digest::mix;
use machines::node::io::Event;

use super::ports::elapsed;

/// Violations kept; the first ones tell the story.
const VIOLATIONS_MAX: usize = 20;

/// The record of one run, shared by everyone in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Record(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    hash: u64,
    noted: u64,
    line: String,
    friends: BTreeSet<NodeId>,
    sends: BTreeMap<u64, Send>,
    /// The number of the last message that a receiver got from a sender.
    last: BTreeMap<(Ref, Ref), u64>,
    /// How long each node was paused: meanwhile it can do nothing in time.
    paused: BTreeMap<usize, Duration>,
    counts: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

/// One message: where it was sent, how often it arrived, what the sender was told.
#[derive(Debug)]
struct Send {
    to: Ref,
    delivered: u32,
    outcome: Option<Outcome>,
}

/// What is left of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Of everything seen.
    pub hash: u64,
    /// How much was seen.
    pub noted: u64,
    /// What was broken, with the property's number.
    pub violations: Vec<String>,
    /// How often what happened.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Record {
    /// Begins a record of a cluster of `friends`.
    pub(super) fn of(friends: impl IntoIterator<Item = NodeId>) -> Self {
        let record = Self::default();
        record.inner().friends = friends.into_iter().collect();
        record
    }

    /// Ends the record: what can be said only now is said now.
    pub(super) fn verdict(&self) -> Verdict {
        let mut inner = self.inner();
        let inner = &mut *inner;
        for (message, send) in &inner.sends {
            let denied = match send.outcome {
                Some(Outcome::NotSent | Outcome::Lost | Outcome::Bounced(_)) => true,
                Some(Outcome::Delivered | Outcome::Unknown) | None => false,
            };
            if denied && send.delivered > 0 {
                let what =
                    format!("C146: message {message} arrived and was told {:?}", send.outcome);
                inner.violations.push(what);
            }
            if send.outcome == Some(Outcome::Delivered) && send.delivered == 0 {
                let what = format!("C146: message {message} was told Delivered and never arrived");
                inner.violations.push(what);
            }
        }
        Verdict {
            hash: inner.hash,
            noted: inner.noted,
            violations: inner.violations.clone(),
            counts: inner.counts.clone(),
        }
    }

    /// Feeds the hash with something seen at `node`.
    pub(super) fn note(&self, node: usize, seen: &dyn Debug) {
        self.inner().note(node, seen);
    }

    /// Counts that something happened.
    pub(super) fn count(&self, what: &'static str) {
        self.inner().count(what);
    }

    /// Sees an event of a node (C130: nobody but friends).
    pub(super) fn event(&self, node: usize, local: Instant, event: &Event) {
        let mut inner = self.inner();
        inner.note(node, &(local, event));
        let (what, peer) = match event {
            Event::Member(member) => ("member event", Some(member.node)),
            Event::Name(name) => ("name event", Some(name.holder.node)),
            Event::Gap(Gap { peer, .. }) => ("gap", Some(*peer)),
            Event::LinkUp { peer } => ("link up", Some(*peer)),
            Event::LinkDown { peer, .. } => ("link down", Some(*peer)),
            Event::Refused { peer, .. } => ("refused", *peer),
            Event::Joined => ("joined", None),
            Event::SessionRenewed(_) => ("session renewed", None),
            Event::NamesLate { .. } => ("names late", None),
        };
        inner.count(what);
        if let Some(stranger) = peer.filter(|peer| !inner.friends.contains(peer)) {
            inner.broken(format!("C130: node {node} knows a stranger {stranger:?}: {event:?}"));
        }
    }

    /// A user is about to send `message`.
    pub(super) fn sends(&self, message: u64, to: Ref) {
        let send = Send { to, delivered: 0, outcome: None };
        self.inner().sends.insert(message, send);
    }

    /// The sender is told what became of `message` (C146).
    pub(super) fn told(&self, node: usize, message: u64, outcome: Outcome) {
        let mut inner = self.inner();
        inner.note(node, &(message, outcome));
        inner.count(match outcome {
            Outcome::Delivered => "delivered",
            Outcome::Bounced(_) => "bounced",
            Outcome::NotSent => "not sent",
            Outcome::Lost => "lost",
            Outcome::Unknown => "unknown",
        });
        let before = inner.sends.get_mut(&message).and_then(|s| s.outcome.replace(outcome));
        if let Some(before) = before {
            inner.broken(format!("C146: message {message} is {before:?} and {outcome:?}"));
        }
    }

    /// An endpoint got `message`, the `number`-th of its sender (C145, C146).
    pub(super) fn arrived(&self, node: usize, at: Ref, from: Ref, message: u64, number: u64) {
        let mut inner = self.inner();
        inner.note(node, &(at, from, message, number));
        inner.count("arrived");
        if !inner.friends.contains(&from.node) {
            inner.broken(format!("C130: message {message} is from a stranger {from:?}"));
        }
        let last = inner.last.insert((from, at), number);
        if last >= Some(number) {
            inner.broken(format!("C146: {number} came after {last:?} from {from:?} to {at:?}"));
        }
        let problem = match inner.sends.get_mut(&message) {
            None => Some("was never sent"),
            Some(send) => {
                send.delivered += 1;
                match (send.to == at, send.delivered) {
                    (false, _) => Some("was for someone else"),
                    (true, 1) => None,
                    (true, _) => Some("came twice"),
                }
            }
        };
        if let Some(problem) = problem {
            inner.broken(format!("C145: message {message} at {at:?} {problem}"));
        }
    }

    /// An ask that might last `wait` was answered after `took` (C147).
    pub(super) fn asked(&self, node: usize, result: &dyn Debug, wait: Duration, took: Duration) {
        let mut inner = self.inner();
        inner.note(node, &(result, took));
        inner.count("ask resolved");
        // Clocks run slow by 1 % at most, a sleep lasts a millisecond at least, and the loop may
        // have to carry something else first.
        if took > wait + wait / 50 + Duration::from_millis(50) {
            inner.broken(format!("C147: an ask for {wait:?} took {took:?}: {result:?}"));
        }
    }

    /// A node was paused for `span`, and goes on.
    pub(super) fn was_paused(&self, node: usize, span: Duration) {
        *self.inner().paused.entry(node).or_default() += span;
    }

    /// Returns how long a node was paused so far.
    pub(super) fn paused(&self, node: usize) -> Duration {
        self.inner().paused.get(&node).copied().unwrap_or_default()
    }

    /// Something is wrong.
    pub(super) fn broken(&self, what: String) {
        self.inner().broken(what);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic ends the whole run, so what it left behind does not matter.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, node: usize, seen: &dyn Debug) {
        self.line.clear();
        write!(self.line, "{:?} {node} {seen:?}", elapsed()).expect("a string takes everything");
        if std::env::var_os("LOCKSTEP_TRACE").is_some() {
            eprintln!("{}", self.line);
        }
        let digest = blake3::hash(self.line.as_bytes());
        let mut word = [0; 8];
        word.copy_from_slice(&digest.as_bytes()[..8]);
        self.hash = mix(self.hash ^ u64::from_le_bytes(word), 0x9e37_79b9_7f4a_7c15);
        self.noted += 1;
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_insert(0) += 1;
    }

    fn broken(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(format!("{what} (at {:?})", elapsed()));
        }
    }
}
