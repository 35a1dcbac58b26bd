//! Nothing grows without bound, and bulk does not starve heartbeats: C150, C151.

use std::collections::{BTreeMap, VecDeque};

use machines::cluster::counters::Counter;
use machines::cluster::wire::State;
use machines::node::io::{Input, Output};
use machines::time::nanos;

use super::HasNode;
use super::truth::{CROWD, Glances, running, seconds};
use crate::checker::{Checker, Step};
use crate::streams::WINDOW;
use crate::world::{Setup, World};

/// C150: every table and queue stays within its cap. In clusters of more than [`CROWD`] nodes each
/// is looked at once a second, not in every step: the sizes are of hundreds of links.
#[derive(Clone, Debug, Default)]
pub(super) struct Caps {
    glances: Glances,
    looked: u64,
}

impl<G: HasNode> Checker<G> for Caps {
    fn property(&self) -> &'static str {
        "C150"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        if world.nodes() > CROWD && !self.glances.is_due(world, step) {
            return Ok(());
        }
        let node = guest.node();
        self.looked += 1;
        let over = node.sizes().into_iter().find(|(_, size, cap)| size > cap);
        match over {
            Some((what, size, cap)) => {
                Err(format!("node {} holds {size} {what}, at most {cap}", step.node))
            }
            None => Ok(()),
        }
    }
}

/// C151: a saturated stream lane raises no suspicion, and probes come back as soon as the wire
/// lets them. For scenarios without other faults.
///
/// A round trip is seen from outside: a datagram that a node seals in the step in which it opens
/// another one answers that one, once it is back where that one came from. It counts from the
/// step that sealed it, so that waiting inside a node counts too.
#[derive(Clone, Debug)]
pub(super) struct Saturation {
    /// The longest round trip that is allowed, in nanoseconds.
    bound: u64,
    /// Round trips measured.
    looked: u64,
    /// (node, its start) → datagrams sealed so far, as its counter tells.
    sealed: BTreeMap<(u32, u32), u64>,
    /// Node → datagrams that it has sealed and not yet put out.
    waiting: BTreeMap<u32, VecDeque<Sealed>>,
    /// Index and nonce → a datagram that was put out, and by whom.
    under_way: BTreeMap<[u8; 16], (u32, Sealed)>,
}

/// One datagram.
#[derive(Clone, Copy, Debug)]
struct Sealed {
    at: u64,
    /// The datagram of that node, sealed at that time, was opened in the same step.
    answers: Option<(u32, u64)>,
}

impl Saturation {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let plain = &setup.plain;
        let idle = 2 * (plain.delay_min + plain.delay_span);
        // What the wire itself holds for a stream is before every datagram, both ways.
        let wire = match plain.rate {
            0 => 0,
            rate => 2 * u64::from(WINDOW) * 1_000_000_000 / rate,
        };
        // On a wire so slow that this passes a probe's timeout, that is the limit: a probe that
        // comes later has failed.
        let most = nanos(setup.config.swim.probe_timeout);
        Self {
            bound: (2 * idle + 5_000_000 + wire).min(most),
            looked: 0,
            sealed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            under_way: BTreeMap::new(),
        }
    }

    /// Follows the datagrams of a step; answers a round trip that took too long.
    fn follow<G: HasNode>(&mut self, world: &World<G>, step: &Step<'_>, total: u64) -> Option<u64> {
        let mut came = None;
        if let Input::Datagram(bytes) = step.input {
            came = name(bytes).and_then(|name| self.under_way.remove(&name));
        }
        let key = (step.node, world.host(step.node).epoch());
        let before = self.sealed.insert(key, total).unwrap_or(0);
        let waiting = self.waiting.entry(step.node).or_default();
        let answers = came.map(|(from, sealed)| (from, sealed.at));
        for _ in before..total {
            waiting.push_back(Sealed { at: world.now(), answers });
        }
        for output in step.outputs {
            if let Output::Datagram { bytes, .. } = output
                && let (Some(name), Some(sealed)) = (name(bytes), waiting.pop_front())
            {
                self.under_way.insert(name, (step.node, sealed));
            }
        }
        let (asker, asked_at) = came.and_then(|(_, sealed)| sealed.answers)?;
        let took = world.now().saturating_sub(asked_at);
        self.looked += u64::from(asker == step.node);
        (asker == step.node && took > self.bound).then_some(took)
    }
}

/// What no other datagram of a run begins with.
fn name(bytes: &[u8]) -> Option<[u8; 16]> {
    bytes.first_chunk().copied()
}

impl<G: HasNode> Checker<G> for Saturation {
    fn property(&self) -> &'static str {
        "C151"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let total = guest.node().links().counters().get(Counter::DatagramsOut);
        if let Some(took) = self.follow(world, step, total) {
            return Err(format!(
                "a probe of node {} took {}, at most {}",
                step.node,
                seconds(took),
                seconds(self.bound)
            ));
        }
        let suspect = guest.node().swim().members().find(|member| member.state == State::Suspect);
        let Some(suspect) = suspect else {
            return Ok(());
        };
        let runs = running(world).any(|(_, other)| other.id() == suspect.node);
        match runs {
            true => Err(format!("node {} suspects {:?} under load", step.node, suspect.node)),
            false => Ok(()),
        }
    }
}
