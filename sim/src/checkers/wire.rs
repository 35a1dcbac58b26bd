//! What may cross the wire, and what it may do: C131, C132, C133.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use machines::Instant;
use machines::cluster::counters::Counter;
use machines::node::io::{Input, Output};

use super::HasNode;
use crate::checker::{Checker, Notice, Step};
use crate::clients::CANARY;
use crate::guest::Cipher;
use crate::world::{Setup, World};

/// C131: what users say is never readable on the wire. Where the run seals with nothing, there is
/// nothing to check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Canary {
    sealed: bool,
}

impl Canary {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        Self { sealed: setup.cipher == Cipher::Real }
    }
}

impl<G: HasNode> Checker<G> for Canary {
    fn property(&self) -> &'static str {
        "C131"
    }

    fn after_step(&mut self, _: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if !self.sealed {
            return Ok(());
        }
        for output in step.outputs {
            let (Output::Write { bytes, .. } | Output::Datagram { bytes, .. }) = output else {
                continue;
            };
            if bytes.windows(CANARY.len()).any(|window| window == CANARY) {
                return Err(format!("node {} wrote the canary in clear", step.node));
            }
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(*self)
    }
}

/// A sealed datagram's place: link index and nonce (C15).
fn place(bytes: &[u8]) -> Option<(u32, u64)> {
    let index = bytes.get(4..8)?.try_into().ok().map(u32::from_le_bytes)?;
    let nonce = bytes.get(8..16)?.try_into().ok().map(u64::from_le_bytes)?;
    Some((index, nonce))
}

/// Accepted counters remembered of a link, below the greatest; wider than every replay window.
const REMEMBERED: u64 = 4_096;

/// The accepted counters of one link index.
#[derive(Clone, Debug, Default)]
struct Accepted {
    greatest: u64,
    newest: BTreeSet<u64>,
}

impl Accepted {
    /// Takes `nonce`; answers `false` if it was taken before, or is too old to know.
    fn take(&mut self, nonce: u64) -> bool {
        self.greatest = self.greatest.max(nonce);
        let floor = self.greatest.saturating_sub(REMEMBERED);
        while self.newest.first().is_some_and(|oldest| *oldest < floor) {
            self.newest.pop_first();
        }
        nonce >= floor && self.newest.insert(nonce)
    }
}

/// C132: no counter seals twice, and none is accepted twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    /// (node, start, to, link index) → the last nonce that sealed; they only rise.
    sealed: BTreeMap<(u32, u32, SocketAddr, u32), u64>,
    /// (node, start, link index) → what was accepted.
    accepted: BTreeMap<(u32, u32, u32), Accepted>,
    /// Datagrams accepted by each node's process so far.
    counts: BTreeMap<(u32, u32), u64>,
}

impl<G: HasNode> Checker<G> for Counters {
    fn property(&self) -> &'static str {
        "C132"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let epoch = world.host(step.node).epoch();
        for output in step.outputs {
            let Output::Datagram { to, bytes } = output else {
                continue;
            };
            let Some((index, nonce)) = place(bytes) else {
                continue;
            };
            let last = self.sealed.insert((step.node, epoch, *to, index), nonce);
            if let Some(last) = last.filter(|last| nonce <= *last) {
                return Err(format!(
                    "node {} sealed with nonce {nonce:#x} after {last:#x}",
                    step.node
                ));
            }
        }
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let count = guest.node().links().counters().get(Counter::DatagramsIn);
        let before = self.counts.insert((step.node, epoch), count).unwrap_or(0);
        let (Input::Datagram(bytes), true) = (step.input, count > before) else {
            return Ok(());
        };
        let Some((index, nonce)) = place(bytes) else {
            return Ok(());
        };
        if !self.accepted.entry((step.node, epoch, index)).or_default().take(nonce) {
            return Err(format!("node {} accepted nonce {nonce:#x} twice", step.node));
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        if let Notice::Started(node) = notice {
            let epoch = world.host(node).epoch();
            self.sealed.retain(|(other, start, ..), _| *other != node || *start == epoch);
            self.accepted.retain(|(other, start, _), _| *other != node || *start == epoch);
            self.counts.retain(|(other, start), _| *other != node || *start == epoch);
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}

/// C133: a datagram that is not accepted changes nothing but counters.
///
/// To digest a node costs more than a step of it, so only a datagram that will not open (forged,
/// damaged, late or repeated) has the node digested before and after.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forgery {
    /// Before the step, if its datagram will not open: digest, datagrams accepted, deadline.
    before: Option<(u64, u64, Instant)>,
}

impl<G: HasNode> Checker<G> for Forgery {
    fn property(&self) -> &'static str {
        "C133"
    }

    fn before_step(&mut self, world: &World<G>, node: u32, input: &Input) {
        self.before = None;
        let (Some(guest), Input::Datagram(bytes)) = (world.guest(node), input) else {
            return;
        };
        let links = guest.node().links();
        if !links.opens(bytes) {
            let count = links.counters().get(Counter::DatagramsIn);
            self.before = Some((guest.digest(), count, guest.deadline()));
        }
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let (Some(guest), Input::Datagram(bytes), Some((digest_before, count_before, due))) =
            (world.guest(step.node), step.input, self.before.take())
        else {
            return Ok(());
        };
        let count = guest.node().links().counters().get(Counter::DatagramsIn);
        // A timer that was due may act as well, and is no answer to the datagram.
        let refused = count == count_before && due > step.local;
        if refused && (guest.digest() != digest_before || !step.outputs.is_empty()) {
            return Err(format!(
                "node {} changed by a refused datagram of {} bytes",
                step.node,
                bytes.len()
            ));
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(*self)
    }
}
