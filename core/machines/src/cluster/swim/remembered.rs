//! The sessions of nodes that were forgotten, so that their past cannot come back (C60).

use std::collections::BTreeMap;

use crate::cluster::ids::{Incarnation, Life, NodeId, Session};

/// Highest sessions, oldest out first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Remembered {
    nodes: BTreeMap<NodeId, Kept>,
    /// When kept → whom.
    order: BTreeMap<u64, NodeId>,
    stamp: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kept {
    session: Session,
    /// It left in that session, for ever.
    left: bool,
    stamp: u64,
}

impl Remembered {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn session(&self, node: NodeId) -> Option<Session> {
        self.nodes.get(&node).map(|kept| kept.session)
    }

    /// Says whether a fact of `life` about a node without a row may be believed.
    pub(super) fn admits(&self, node: NodeId, life: Life) -> bool {
        self.nodes.get(&node).is_none_or(|kept| match kept.left {
            true => life.session > kept.session,
            false => life.session >= kept.session,
        })
    }

    /// Keeps the life of a forgotten row.
    pub(super) fn keep(&mut self, node: NodeId, life: Life, most: u32) {
        self.take(node);
        if self.nodes.len() >= most as usize
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.nodes.remove(&oldest);
        }
        self.stamp += 1;
        self.order.insert(self.stamp, node);
        let kept = Kept {
            session: life.session,
            left: life.incarnation == Incarnation::LEFT,
            stamp: self.stamp,
        };
        self.nodes.insert(node, kept);
    }

    /// Stops remembering a node: it has a row again.
    pub(super) fn take(&mut self, node: NodeId) {
        if let Some(kept) = self.nodes.remove(&node) {
            self.order.remove(&kept.stamp);
        }
    }
}
