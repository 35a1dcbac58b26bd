//! What may cross the wire, and what it may do: C131, C132, C133.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use machines::Instant;
use machines::cluster::counters::Counter;
use machines::node::io::{Input, Output};

use super::HasNode;
use crate::checker::{Checker, Step};
use crate::clients::CANARY;
use crate::world::World;

/// C131: what users say is never readable on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Canary;

impl<G: HasNode> Checker<G> for Canary {
    fn property(&self) -> &'static str {
        "C131"
    }

    fn after_step(&mut self, _: &World<G>, step: &Step<'_>) -> Result<(), String> {
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

/// C132: no counter seals twice, and none is accepted twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    /// (node, start, to, link index, nonce) that sealed.
    sealed: BTreeSet<(u32, u32, SocketAddr, u32, u64)>,
    /// (node, start, link index, nonce) that was accepted.
    accepted: BTreeSet<(u32, u32, u32, u64)>,
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
            if !self.sealed.insert((step.node, epoch, *to, index, nonce)) {
                return Err(format!("node {} sealed twice with nonce {nonce:#x}", step.node));
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
        if !self.accepted.insert((step.node, epoch, index, nonce)) {
            return Err(format!("node {} accepted nonce {nonce:#x} twice", step.node));
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}

/// Nodes whose whole state is digested after every step; more would make large runs crawl.
const WATCHED: u32 = 8;

/// C133: a datagram that is not accepted changes nothing but counters.
#[derive(Clone, Debug, Default)]
pub(super) struct Forgery {
    /// Of each node after its last step: digest, datagrams accepted, and deadline.
    before: BTreeMap<(u32, u32), (u64, u64, Instant)>,
}

impl<G: HasNode> Checker<G> for Forgery {
    fn property(&self) -> &'static str {
        "C133"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if step.node >= WATCHED {
            return Ok(());
        }
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let key = (step.node, world.host(step.node).epoch());
        let digest = guest.digest();
        let count = guest.node().links().counters().get(Counter::DatagramsIn);
        let before = self.before.insert(key, (digest, count, guest.deadline()));
        let (Input::Datagram(bytes), Some((digest_before, count_before, due))) =
            (step.input, before)
        else {
            return Ok(());
        };
        // A timer that was due may act as well, and is no answer to the datagram.
        let refused = count == count_before && due > step.local;
        if refused && (digest != digest_before || !step.outputs.is_empty()) {
            return Err(format!(
                "node {} changed by a refused datagram of {} bytes",
                step.node,
                bytes.len()
            ));
        }
        Ok(())
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(self.clone())
    }
}
