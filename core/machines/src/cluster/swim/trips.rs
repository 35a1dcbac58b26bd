//! How long members took to answer the last Ping, for whoever looks on (C120, C121).
//!
//! Round trips decide nothing. Like counters, they hash to nothing and are equal to all others.

use std::hash::{Hash, Hasher};

use crate::cluster::ids::NodeId;
use crate::time::Instant;

/// The round trip of a member that never answered.
const NEVER: u64 = u64::MAX;

/// Round trips of members, by their slot in the table: an Ack comes every round, and finds its
/// place without a search.
#[derive(Clone, Debug, Default)]
pub(super) struct Trips {
    asked: Option<Asked>,
    /// In nanoseconds.
    last: Vec<u64>,
}

/// Whom the round in progress asks, and since when.
#[derive(Clone, Copy, Debug)]
struct Asked {
    node: NodeId,
    slot: u32,
    at: Instant,
}

impl Trips {
    /// A Ping goes to `node`, whose row is in `slot`.
    pub(super) const fn begin(&mut self, node: NodeId, slot: u32, at: Instant) {
        self.asked = Some(Asked { node, slot, at });
    }

    /// Its Ack is here; returns how long that took, in nanoseconds.
    pub(super) fn end(&mut self, node: NodeId, now: Instant) -> Option<u64> {
        let asked = self.asked.take_if(|asked| asked.node == node)?;
        let nanos = now.nanos_since(asked.at);
        let slot = asked.slot as usize;
        if slot >= self.last.len() {
            self.last.resize(slot + 1, NEVER);
        }
        self.last[slot] = nanos;
        Some(nanos)
    }

    /// The row in `slot` is gone.
    pub(super) fn forget(&mut self, slot: u32) {
        if let Some(last) = self.last.get_mut(slot as usize) {
            *last = NEVER;
        }
        self.asked = self.asked.filter(|asked| asked.slot != slot);
    }

    pub(super) fn of(&self, slot: u32) -> Option<u64> {
        self.last.get(slot as usize).copied().filter(|nanos| *nanos != NEVER)
    }

    pub(super) const fn len(&self) -> usize {
        self.last.len()
    }
}

impl Hash for Trips {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    #[test]
    fn who_takes_the_slot_of_a_forgotten_member_has_no_round_trip_yet() {
        let mut trips = Trips::default();
        let at = Instant::START;
        trips.begin(node(1), 3, at);
        assert_eq!(trips.end(node(1), at.plus_nanos(7)), Some(7));
        assert_eq!((trips.of(2), trips.of(3), trips.of(4)), (None, Some(7), None));

        trips.begin(node(1), 3, at);
        trips.forget(3);
        assert_eq!(trips.of(3), None);
        assert_eq!(trips.end(node(1), at.plus_nanos(9)), None, "its Ack comes too late");
    }
}
