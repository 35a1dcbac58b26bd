//! What links take and give.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::cluster::identity::Allowed;
use crate::cluster::ids::{Addr, Conn, Entropy, Life, NodeId, Process, Session};
use crate::cluster::swim::io::{Lane, Seed};
use crate::cluster::wire::{CloseReason, Code, Frame, Hello, Message};

/// What happens to the links.
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
        /// Named by the driver.
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
        /// For its rekey.
        entropy: Entropy,
    },
    /// Bring up a link with `peer`, but not before the redial delay is over (C32), or answer
    /// `LinkUp` again if there is one. Each is answered: by `LinkUp`, or by `Unreachable`.
    Want {
        /// Whom.
        peer: NodeId,
        /// Where it is thought to listen.
        addr: Addr,
    },
    /// As `Want`, now: for those that have a clock of their own (C55, C59).
    Dial {
        /// Whom.
        peer: NodeId,
        /// Where it is thought to listen.
        addr: Addr,
    },
    /// Bring up a link with a seed.
    DialSeed {
        /// The seed itself: a place in a list would outlive the list.
        seed: Seed,
    },
    /// Send a membership message.
    Message {
        /// To whom.
        to: NodeId,
        /// Where it is thought to listen.
        addr: Addr,
        /// How.
        lane: Lane,
        /// What.
        message: Message,
    },
    /// Send a frame. User frames wait for a link; others are dropped without one.
    Frame {
        /// To whom.
        to: NodeId,
        /// Where it is thought to listen, for a dial.
        addr: Option<Addr>,
        /// Which process it is meant for, if for one only: a link with another drops it. Whoever
        /// sent it hears of that link, and knows by it what became of the frame (C145, C146).
        process: Option<Process>,
        /// What.
        frame: Frame,
    },
    /// Close the link with `peer`, and forget what waits for it.
    Disconnect {
        /// Whom.
        peer: NodeId,
        /// Why.
        reason: CloseReason,
    },
    /// Membership knows this session of `peer` (C27).
    SessionKnown {
        /// Whom.
        peer: NodeId,
        /// The highest session heard of.
        session: Session,
    },
    /// The own life or address changed.
    SelfChanged {
        /// The own life.
        life: Life,
        /// Where this node listens.
        addr: Addr,
    },
    /// The configuration changed: an address that was our own may be another's now (C23).
    Reconfigured,
    /// A burnt session is durable: links were closed, go on in it (C27).
    Renewed(Life),
    /// The allowlist changed: links of revoked keys close at once (C24).
    Allowed(Arc<Allowed>),
    /// Accept no more handshakes (C56).
    Drain,
    /// Close everything with this reason.
    CloseAll(CloseReason),
}

/// What the links want done, and tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Open a connection; answer with `Connected` or `DialFailed`.
    Dial {
        /// Its name from now on.
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
    /// Draw entropy for a rekey; answer with `Drawn`.
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
    /// A link is up (or, after [`Input::Want`] or [`Input::Dial`], still up).
    LinkUp {
        /// With whom.
        peer: NodeId,
        /// The peer's Hello.
        hello: Hello,
        /// Which seed was dialled, if one was.
        seed: Option<Seed>,
        /// Whether this is a new link, and not just an answer to `Want` or `Dial`.
        fresh: bool,
    },
    /// A link went down. Frames that were not written stay queued or are gone as C39 says.
    LinkDown {
        /// With whom.
        peer: NodeId,
        /// Why.
        reason: CloseReason,
    },
    /// A dial ended without a link; what waited for it is gone (C31).
    Unreachable {
        /// The peer that was dialled, if its id was known.
        peer: Option<NodeId>,
        /// The seed that was dialled, if one was.
        seed: Option<Seed>,
        /// Why, if a handshake said so.
        code: Option<Code>,
    },
    /// The peer refused us, sealed.
    Rejected {
        /// Who.
        peer: NodeId,
        /// Why.
        code: Code,
    },
    /// The peer knows a higher session of ours: burn one above it (C27).
    SessionBehind {
        /// The highest session known of this node.
        above: Session,
    },
    /// A membership message, authentic.
    Message {
        /// From whom.
        from: NodeId,
        /// How it came.
        lane: Lane,
        /// What.
        message: Message,
    },
    /// A frame other than a membership message, authentic, its number above all before it.
    Frame {
        /// From whom.
        from: NodeId,
        /// What.
        frame: Frame,
    },
    /// The user frame with this number was given to the stream (C83).
    Written {
        /// To whom.
        to: NodeId,
        /// Its number.
        number: u64,
    },
    /// The user frame with this number was not taken: its queue is full, it is longer than
    /// `max_message`, or no address is known (C38, C87).
    NotTaken {
        /// To whom.
        to: NodeId,
        /// Its number.
        number: u64,
    },
    /// A handshake was refused: for the log and the status (C121).
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
}
