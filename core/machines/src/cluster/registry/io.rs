//! What the registry takes and gives.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::identity::Allowed;
use crate::cluster::ids::{ActorId, CallId, NodeId, Ref, Session};
use crate::cluster::swim::io::{MemberEvent, SyncStep};
use crate::cluster::wire::{Name, NameDigest, NameEntry};

/// What happens to the registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// Register a local actor (C72). Answered by [`Output::Registered`] at once.
    Register {
        /// The call.
        call: CallId,
        /// The name.
        name: Name,
        /// The actor.
        actor: ActorId,
        /// How long copies live; `None` is the default.
        ttl: Option<Duration>,
        /// Whether the actor renews by itself.
        manual: bool,
    },
    /// Renew a manual registration.
    Renew {
        /// The call.
        call: CallId,
        /// The name.
        name: Name,
    },
    /// Withdraw a registration of this node.
    Unregister {
        /// The call.
        call: CallId,
        /// The name.
        name: Name,
    },
    /// A local actor ended: its names go (C72).
    ActorEnded(ActorId),
    /// Find a name (C77). Answered by [`Output::Found`].
    Lookup {
        /// The call.
        call: CallId,
        /// The name.
        name: Name,
    },
    /// A gossiped entry.
    Entry {
        /// Who sent it on.
        from: NodeId,
        /// The entry.
        entry: NameEntry,
    },
    /// The digests and entries of a sync message from `from`; entries are a complete delta above
    /// what this node's last digests told that peer (C76).
    Synced {
        /// Who sent them.
        from: NodeId,
        /// Which message of the sync: the first carries no entries, the third no digests.
        step: SyncStep,
        /// Its digests.
        digests: Vec<NameDigest>,
        /// Its entries.
        entries: Vec<NameEntry>,
    },
    /// Another node asks for a name.
    Query {
        /// Who asks.
        from: NodeId,
        /// Its number for the query.
        query: u32,
        /// The name.
        name: Name,
    },
    /// Another node answers.
    QueryReply {
        /// Who answers.
        from: NodeId,
        /// Of our query.
        query: u32,
        /// The live entry, if it has one.
        entry: Option<NameEntry>,
    },
    /// A member event.
    Member(MemberEvent),
    /// The own session changed: register everything anew (C27).
    Renewed(Session),
    /// The allowlist changed: names of others are neither applied nor passed on (C24).
    Allowed(Arc<Allowed>),
    /// The node leaves: withdraw everything, register nothing (C56).
    Leave,
}

/// What the registry wants done, and tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Gossip a change.
    Gossip(NameEntry),
    /// Ask another node.
    Query {
        /// Whom.
        to: NodeId,
        /// Our number for the query.
        query: u32,
        /// The name.
        name: Name,
    },
    /// Answer another node.
    QueryReply {
        /// Whom.
        to: NodeId,
        /// Its number for the query.
        query: u32,
        /// The live entry, if there is one.
        entry: Option<NameEntry>,
    },
    /// The answer to Register, Renew or Unregister.
    Registered {
        /// The call.
        call: CallId,
        /// What came of it.
        result: Result<(), RegisterError>,
    },
    /// The answer to Lookup: the registration, or `None` for NotFound.
    Found {
        /// The call.
        call: CallId,
        /// Where the actor is.
        found: Option<Ref>,
    },
    /// A name event (C79).
    Event(NameEvent),
}

/// Why a registration was refused (C72). Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegisterError {
    /// Someone else holds it, live.
    NameTaken(Ref),
    /// This node registers as many names as one owner may.
    NodeFull,
    /// The table is full.
    TableFull,
    /// The ttl is not within 1 s … 1 h.
    TtlRange,
    /// There is no such actor here, or no longer; a name never stands for the node itself (C10,
    /// C71).
    NoActor,
    /// This node does not hold that name.
    NotHeld,
    /// The node is leaving.
    Draining,
}

/// One event of the name stream (C79).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NameEvent {
    /// Counts the events of this node's stream from 0, without gaps.
    pub index: u64,
    /// The name.
    pub name: Name,
    /// The registration concerned.
    pub holder: Ref,
    /// What happened.
    pub kind: NameEventKind,
}

/// What happened to a name (C79).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameEventKind {
    /// It has a holder now.
    Registered,
    /// It has another holder now.
    Replaced,
    /// It has no holder any more.
    Withdrawn,
    /// A registration of this node lost against another (C74).
    Lost,
}
