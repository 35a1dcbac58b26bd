//! How long members took to answer the last Ping, for whoever looks on (C120, C121).
//!
//! Round trips decide nothing. Like counters, they hash to nothing and are equal to all others.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::cluster::ids::NodeId;
use crate::time::Instant;

/// Round trips of members that are in the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Trips {
    /// Whom the round in progress asks, and since when.
    asked: Option<(NodeId, Instant)>,
    /// In nanoseconds.
    last: BTreeMap<NodeId, u64>,
}

impl Trips {
    /// A Ping goes to `node`.
    pub(super) fn begin(&mut self, node: NodeId, now: Instant) {
        self.asked = Some((node, now));
    }

    /// Its Ack is here; returns how long that took, in nanoseconds.
    pub(super) fn end(&mut self, node: NodeId, now: Instant) -> Option<u64> {
        let (_, at) = self.asked.take_if(|(asked, _)| *asked == node)?;
        let nanos = now.nanos_since(at);
        self.last.insert(node, nanos);
        Some(nanos)
    }

    /// A row is gone.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.last.remove(&node);
        self.asked = self.asked.filter(|(asked, _)| *asked != node);
    }

    pub(super) fn of(&self, node: NodeId) -> Option<u64> {
        self.last.get(&node).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.last.len()
    }
}

impl Hash for Trips {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}
