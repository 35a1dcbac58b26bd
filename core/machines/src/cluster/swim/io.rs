//! What membership takes and gives.

use std::sync::Arc;

use crate::cluster::identity::Allowed;
use crate::cluster::ids::{Addr, Life, NodeId, Session};
use crate::cluster::wire::{MemberRow, Message, Meta, NameEntry};

/// How a membership message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// As a sealed UDP datagram.
    Datagram,
    /// As frame 10 on the link's stream.
    Stream,
}

/// Which of the three messages of a sync (C54).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SyncStep {
    /// Frame 12: the asker's table.
    First,
    /// Frame 13: the partner's table.
    Second,
    /// Frame 14: names only; carries no rows.
    Third,
}

/// What happens to membership.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// An authentic membership message.
    Received {
        /// Its sender.
        from: NodeId,
        /// How it came.
        lane: Lane,
        /// What it says.
        message: Message,
    },
    /// A link came up.
    LinkUp {
        /// With whom.
        peer: NodeId,
        /// The peer's life, from its Hello.
        life: Life,
        /// Where the peer listens, from its Hello.
        addr: Addr,
        /// Which seed was dialled, if one was.
        seed: Option<Seed>,
    },
    /// A link went down; a sync on it is over. Not a death (C34).
    LinkDown {
        /// With whom.
        peer: NodeId,
    },
    /// A dial ended without a link.
    Unreachable {
        /// The peer that was dialled, if its id was known.
        peer: Option<NodeId>,
        /// The seed that was dialled, if one was.
        seed: Option<Seed>,
    },
    /// The peer refused us, sealed: it is alive (C46).
    Rejected {
        /// Who refused.
        peer: NodeId,
    },
    /// A message of a sync. The rows of [`SyncStep::Third`] are empty.
    Sync {
        /// Its sender.
        from: NodeId,
        /// Which message.
        step: SyncStep,
        /// The sender's rows, its own first.
        rows: Vec<MemberRow>,
    },
    /// The allowlist changed.
    Allowed(Arc<Allowed>),
    /// What the configured seeds stand for changed; none: a cluster of one (C55).
    Seeds(Vec<Seed>),
    /// This node listens elsewhere now (C58).
    Moved(Addr),
    /// This node says something else about itself.
    Meta(Meta),
    /// A burnt session is durable: go on in it (C27).
    Renewed(Session),
    /// A change of a name is to be gossiped (C76).
    Gossip(NameEntry),
    /// Leave the cluster (C56).
    Leave,
}

/// A seed as configured (C107).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seed {
    /// Where it listens.
    pub addr: Addr,
    /// Who it must be, if that was given.
    pub node: Option<NodeId>,
}

/// What membership wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Send a message. Without a link, links dials and keeps the latest datagram (C31).
    Send {
        /// To whom.
        to: NodeId,
        /// Where it is thought to listen.
        addr: Addr,
        /// How.
        lane: Lane,
        /// What.
        message: Message,
    },
    /// Bring up a link with this node, but not before its redial delay is over (C32, C54).
    /// Answered by `LinkUp` or `Unreachable`; a link that is already up is answered at once.
    Want {
        /// Whom.
        peer: NodeId,
        /// Where it is thought to listen.
        addr: Addr,
    },
    /// As `Want`, now: re-probing has a clock of its own (C59).
    Dial {
        /// Whom.
        peer: NodeId,
        /// Where it is thought to listen.
        addr: Addr,
    },
    /// Bring up a link with this seed (C55). Answered by `LinkUp` or `Unreachable`.
    DialSeed {
        /// The seed.
        seed: Seed,
    },
    /// Send a message of a sync; names and digests are added by the composition.
    Sync {
        /// To whom; a link is up.
        to: NodeId,
        /// Which message.
        step: SyncStep,
        /// The own rows, oneself first; empty for [`SyncStep::Third`].
        rows: Vec<MemberRow>,
    },
    /// A member event (C44).
    Event(MemberEvent),
    /// A node that is Dead or Left is known in this session, of which no event tells.
    Known {
        /// Who.
        node: NodeId,
        /// The highest session known of it.
        session: Session,
    },
    /// A name entry that came along with a message from `from`.
    Name {
        /// Who sent it on.
        from: NodeId,
        /// The entry.
        entry: NameEntry,
    },
    /// Someone knows a session of ours above the current one: burn one above it (C27, C43).
    SessionBehind {
        /// The highest session known of this node.
        above: Session,
    },
    /// The incarnations of this session are used up, or a process before this one had it: burn the
    /// next one. That is no jump (C8).
    UsedUp,
    /// The own incarnation, address or metadata changed: Hellos must say so.
    SelfChanged {
        /// The own life.
        life: Life,
        /// Where this node listens.
        addr: Addr,
    },
    /// The first sync was answered, or there are no seeds (C55).
    Joined,
    /// Leaving is complete: links may close (C56).
    Departed,
}

/// One event of the member stream (C44, C45).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MemberEvent {
    /// Counts the events of this node's stream from 0, without gaps.
    pub index: u64,
    /// About whom.
    pub node: NodeId,
    /// Its life at the event.
    pub life: Life,
    /// Where it listens, if known.
    pub addr: Option<Addr>,
    /// Its own words.
    pub meta: Meta,
    /// What happened.
    pub kind: MemberEventKind,
}

/// What happened to a member (C44).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberEventKind {
    /// It is a member now.
    Join,
    /// It is suspected.
    Suspect,
    /// It is no longer suspected.
    Alive,
    /// Its address or metadata changed.
    Changed,
    /// It is dead.
    Dead(DeadCause),
    /// It left.
    Left,
}

/// How a member came to be Dead (C44).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadCause {
    /// Our suspicion ran out.
    Timeout,
    /// Someone told us.
    Told,
    /// It came back with a higher session.
    Restarted,
    /// Its key was taken off the allowlist.
    Revoked,
}
