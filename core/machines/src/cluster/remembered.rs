//! What is kept of nodes that were forgotten: a bounded table, oldest out first (C60).

use std::collections::BTreeMap;

use super::ids::NodeId;

/// The last thing known of each of many nodes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Remembered<T> {
    /// What, and when it was kept.
    nodes: BTreeMap<NodeId, (T, u64)>,
    /// When kept → whom.
    order: BTreeMap<u64, NodeId>,
    stamp: u64,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self { nodes: BTreeMap::new(), order: BTreeMap::new(), stamp: 0 }
    }
}

impl<T: Copy> Remembered<T> {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn get(&self, node: NodeId) -> Option<T> {
        self.nodes.get(&node).map(|(kept, _)| *kept)
    }

    /// Keeps `what` of a node; over `most` nodes the oldest is given up.
    pub(super) fn keep(&mut self, node: NodeId, what: T, most: usize) {
        self.take(node);
        if self.nodes.len() >= most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.nodes.remove(&oldest);
        }
        self.stamp += 1;
        self.order.insert(self.stamp, node);
        self.nodes.insert(node, (what, self.stamp));
    }

    /// Takes what was kept of a node: it is known again.
    pub(super) fn take(&mut self, node: NodeId) -> Option<T> {
        let (kept, stamp) = self.nodes.remove(&node)?;
        self.order.remove(&stamp);
        Some(kept)
    }
}
