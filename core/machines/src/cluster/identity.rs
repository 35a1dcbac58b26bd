//! Who a node is and whom it trusts: key, session and allowlist files, as bytes (C6–C9, C24).

use std::collections::{BTreeMap, BTreeSet};

use super::ids::NodeId;

mod allowlist;
mod catch_up;
mod key;
mod session;

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

pub use allowlist::AllowlistInvalid;
pub use catch_up::Identity;
pub use key::{KeyFileInvalid, StaticKey, has_small_order};
pub use session::{SessionError, next_session, session_slot};

/// Whom this node links with (C24).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Allowed {
    /// Anyone with a key. Must be written out in the configuration; shown as `OPEN`.
    Any,
    /// The nodes of these keys: id → X25519 public key.
    Only(BTreeMap<NodeId, [u8; 32]>),
}

impl Allowed {
    /// Says whether `node` may link.
    #[must_use]
    pub fn has(&self, node: NodeId) -> bool {
        match self {
            Self::Any => true,
            Self::Only(keys) => keys.contains_key(&node),
        }
    }

    /// Makes a list of the nodes that hold `keys`.
    #[must_use]
    pub fn only(keys: impl IntoIterator<Item = [u8; 32]>) -> Self {
        Self::Only(
            keys.into_iter()
                .map(|key| (NodeId::of_key(&key), key))
                .collect(),
        )
    }

    /// Lists the nodes of `before` that are no longer allowed. `Any` revokes nobody by itself.
    #[must_use]
    pub fn revoked_since(&self, before: &Self) -> BTreeSet<NodeId> {
        match before {
            Self::Any => BTreeSet::new(),
            Self::Only(keys) => keys
                .keys()
                .filter(|node| !self.has(**node))
                .copied()
                .collect(),
        }
    }
}
