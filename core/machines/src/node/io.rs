//! What a node takes and gives: the whole boundary between decisions and a world.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::config::Reloadable;
use crate::cluster::identity::Allowed;
use crate::cluster::ids::{ActorId, Addr, CallId, Conn, Entropy, NodeId, Ref, Session};
use crate::cluster::registry::io::{NameEvent, RegisterError};
use crate::cluster::router::io::{Answer, AskError, Delivery, Gap, Outcome, Request, SendError};
use crate::cluster::swim::io::{MemberEvent, Seed};
use crate::cluster::wire::{BounceCode, CloseReason, Code, Meta, Name};

/// What happens to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A datagram arrived.
    Datagram(Vec<u8>),
    /// A dial of ours connected.
    Connected {
        /// Which.
        conn: Conn,
        /// For its handshake.
        entropy: Entropy,
    },
    /// A dial of ours failed.
    DialFailed {
        /// Which.
        conn: Conn,
    },
    /// Someone connected.
    Accepted {
        /// Named by the driver: odd, never used before.
        conn: Conn,
        /// Where from.
        source: IpAddr,
        /// For its handshake.
        entropy: Entropy,
    },
    /// Bytes arrived on a stream.
    Bytes {
        /// Which.
        conn: Conn,
        /// What.
        bytes: Vec<u8>,
    },
    /// Bytes given as [`Output::Write`] have left the process's buffers (C37).
    Wrote {
        /// Which.
        conn: Conn,
        /// How many.
        count: u32,
    },
    /// A stream ended, in whatever way.
    Closed {
        /// Which.
        conn: Conn,
    },
    /// The answer to [`Output::Draw`].
    Drawn {
        /// Which.
        conn: Conn,
        /// Fresh random bytes.
        entropy: Entropy,
    },
    /// The session of [`Output::StoreSession`] is durable.
    SessionStored(Session),
    /// The allowlist file changed and is valid.
    Allowed(Arc<Allowed>),
    /// What the configured seeds stand for changed; none: a cluster of one (C55).
    Seeds(Vec<Seed>),
    /// This node listens elsewhere now (C58).
    Moved(Addr),
    /// This node says something else about itself.
    Meta(Meta),
    /// A call of the node's user.
    Call {
        /// Comes back in the answer.
        call: CallId,
        /// What is wanted.
        request: Call,
    },
    /// The configured rates and back-offs changed, and pass their check (C108).
    Limits(Reloadable),
}

/// What a user of a node can ask for (C105).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Open an endpoint, if there is room for one; the reply is [`Reply::Opened`]. Its messages
    /// come as `Deliver`.
    Open,
    /// Close an endpoint of this node: its names go.
    Close(ActorId),
    /// Register an endpoint under a name (C72).
    Register {
        /// The name.
        name: Name,
        /// The endpoint.
        actor: ActorId,
        /// How long copies live; `None` is the default.
        ttl: Option<Duration>,
        /// Whether the caller renews.
        manual: bool,
    },
    /// Renew a manual registration.
    Renew(Name),
    /// Withdraw a registration of this node.
    Unregister(Name),
    /// Find a name (C77).
    Lookup(Name),
    /// Send a message (C83).
    Send {
        /// The sending endpoint, or [`ActorId::NODE`].
        from: ActorId,
        /// To whom.
        to: Ref,
        /// What the payload is.
        tag: u32,
        /// The message.
        payload: Vec<u8>,
        /// Whether the outcome is wanted (C84).
        tracked: bool,
    },
    /// Send a request (C86).
    Ask {
        /// The asking endpoint, or [`ActorId::NODE`].
        from: ActorId,
        /// To whom.
        to: Ref,
        /// How long to wait.
        wait: Duration,
        /// What the payload is.
        tag: u32,
        /// The request.
        payload: Vec<u8>,
    },
    /// Wait no longer for the answer to that call.
    Cancel(CallId),
    /// Answer a request.
    Answer {
        /// From the delivery.
        request: Request,
        /// 0 is success.
        status: u8,
        /// What the payload is.
        tag: u32,
        /// The answer.
        payload: Vec<u8>,
    },
    /// An endpoint did not take a delivery.
    NotTaken {
        /// From the delivery.
        delivery: Delivery,
        /// Why.
        code: BounceCode,
    },
    /// Leave the cluster (C56); the reply comes when the node has left.
    Leave,
}

/// What a node wants done, and tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Open a connection; answer with `Connected` or `DialFailed`.
    Dial {
        /// Its name from now on: even.
        conn: Conn,
        /// Where to.
        addr: SocketAddr,
    },
    /// Write to a stream, in order.
    Write {
        /// Which.
        conn: Conn,
        /// What.
        bytes: Vec<u8>,
    },
    /// Write what is left, then close. Nothing more is told about this connection.
    Close {
        /// Which.
        conn: Conn,
    },
    /// Draw entropy; answer with `Drawn`.
    Draw {
        /// Which.
        conn: Conn,
    },
    /// Send a datagram.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// What.
        bytes: Vec<u8>,
    },
    /// Write and sync the session file's slot; answer with `SessionStored` (C7, C27).
    StoreSession {
        /// The session.
        session: Session,
        /// Where in the file.
        offset: u64,
        /// What.
        bytes: [u8; 16],
    },
    /// The answer to a call.
    Reply {
        /// The call.
        call: CallId,
        /// What came of it.
        reply: Reply,
    },
    /// Hand a message to an endpoint.
    Deliver {
        /// The receiving endpoint.
        to: ActorId,
        /// The sender.
        from: Ref,
        /// For [`Call::NotTaken`].
        delivery: Delivery,
        /// Where to answer, if it is a request.
        request: Option<Request>,
        /// What the payload is.
        tag: u32,
        /// The message.
        payload: Vec<u8>,
    },
    /// Something to be told, logged or counted by whoever watches.
    Event(Event),
    /// The node must stop: it cannot go on (C27).
    Stop(StopReason),
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// To Open: the endpoint, as a reference, or why it was refused.
    Opened(Result<Ref, OpenError>),
    /// To Close, Cancel, Answer and NotTaken.
    Done,
    /// To Register, Renew and Unregister.
    Registered(Result<(), RegisterError>),
    /// To Lookup; `None` is NotFound.
    Found(Option<Ref>),
    /// To Send: the number, or why it was refused.
    Sent(Result<u64, SendError>),
    /// To a tracked Send, after `Sent`: what became of it.
    Outcome(Outcome),
    /// To Ask.
    Asked(Result<Answer, AskError>),
    /// To Leave: the node has left and its links are closed.
    Left,
}

/// Why an endpoint was not opened. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenError {
    /// This node has as many open endpoints as it may: `endpoints_max`. Once one of them is closed
    /// there is room again.
    Full,
}

/// What a node tells whoever watches it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A member event (C44).
    Member(MemberEvent),
    /// A name event (C79).
    Name(NameEvent),
    /// Numbers whose fate is not delivery (C85).
    Gap(Gap),
    /// This node has joined (C55).
    Joined,
    /// A link came up.
    LinkUp {
        /// With whom.
        peer: NodeId,
    },
    /// A link went down.
    LinkDown {
        /// With whom.
        peer: NodeId,
        /// Why.
        reason: CloseReason,
    },
    /// A handshake was refused.
    Refused {
        /// Where it came from, or was dialled to.
        source: IpAddr,
        /// Who, if that was known by then.
        peer: Option<NodeId>,
        /// Why.
        code: Code,
        /// Whether they dialled.
        inbound: bool,
    },
    /// The node goes on in a new session (C27).
    SessionRenewed(Session),
    /// There are more members now than `default_ttl` is long enough for: two owners of a name may
    /// stay, and a look-up may miss one (C74, C77, C149). Told once for each ttl that is asked for.
    NamesLate {
        /// Members, this node included.
        members: u32,
        /// The least ttl that would do; or a shorter time between syncs.
        ttl_least: Duration,
    },
}

/// Why a node cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopReason {
    /// Two processes hold this key (C27).
    KeyInUse,
    /// Sessions are used up (C7).
    SessionsExhausted,
}
