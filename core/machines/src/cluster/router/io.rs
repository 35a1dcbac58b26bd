//! What the router takes and gives.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::identity::Allowed;
use crate::cluster::ids::{ActorId, Addr, CallId, NodeId, Process, Ref, Session};
use crate::cluster::swim::io::MemberEvent;
use crate::cluster::wire::{BounceCode, CloseReason, Hello, UserFrame};

/// What happens to the router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A local actor exists from now on; its messages come as [`Output::Deliver`].
    Open(ActorId),
    /// A local actor is gone.
    Close(ActorId),
    /// Send a message (C83, C87). Answered at once by [`Output::Sent`].
    Send {
        /// The call.
        call: CallId,
        /// The sending actor.
        from: ActorId,
        /// To whom.
        to: Ref,
        /// What the payload is.
        tag: u32,
        /// The message.
        payload: Vec<u8>,
        /// Whether [`Output::Outcome`] is wanted (C84).
        tracked: bool,
    },
    /// Send a request (C86). Answered by [`Output::Asked`], once.
    Ask {
        /// The call.
        call: CallId,
        /// The asking actor.
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
    /// Wait no longer for an answer: it is Cancelled.
    Cancel(CallId),
    /// A local actor answers a request that [`Output::Deliver`] brought.
    Answer {
        /// From the delivery.
        request: Request,
        /// The actor's status; 0 is success.
        status: u8,
        /// What the payload is.
        tag: u32,
        /// The answer.
        payload: Vec<u8>,
    },
    /// A local actor's gate did not take a delivery: it is bounced.
    NotTaken {
        /// From the delivery.
        delivery: Delivery,
        /// Why.
        code: BounceCode,
    },
    /// An authentic user frame; its number is above all before it.
    Frame {
        /// From whom.
        from: NodeId,
        /// What.
        frame: UserFrame,
    },
    /// A new link is up.
    LinkUp {
        /// With whom.
        peer: NodeId,
        /// Its Hello.
        hello: Hello,
    },
    /// A link went down.
    LinkDown {
        /// With whom.
        peer: NodeId,
        /// Why.
        reason: CloseReason,
    },
    /// A dial failed: what waited for it is NotSent.
    Unreachable {
        /// Whom.
        peer: NodeId,
    },
    /// The links wrote a frame.
    Written {
        /// To whom.
        to: NodeId,
        /// Its number.
        number: u64,
    },
    /// The links did not take a frame: it is NotSent.
    NotQueued {
        /// To whom.
        to: NodeId,
        /// Its number.
        number: u64,
    },
    /// A member event.
    Member(MemberEvent),
    /// Membership knows a node in this session as Dead or Left, though no event told so.
    Known {
        /// Whom.
        peer: NodeId,
        /// The highest session known of it.
        session: Session,
    },
    /// The own session changed: old local references are stale (C27).
    Renewed(Session),
    /// The allowlist changed: to others there is no route (C80).
    Allowed(Arc<Allowed>),
    /// The node leaves: new sends are refused Draining.
    Leave,
}

/// Where an answer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    /// The asking node.
    pub node: NodeId,
    /// Its session.
    pub session: Session,
    /// Its request id.
    pub request: u64,
}

/// Names one delivery, for bouncing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Delivery {
    /// The sending node.
    pub node: NodeId,
    /// Its number for the frame; for local sends, the call.
    pub number: u64,
}

/// What the router wants done, and tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Bring up a link once the redial delay allows it (C32): frames wait here for it, since only
    /// its Hello tells whether it leads to the session that they are for (C80, C145). Answered by
    /// `LinkUp` or `Unreachable`.
    Want {
        /// Whom.
        peer: NodeId,
        /// Where it is thought to listen.
        addr: Addr,
    },
    /// Give a frame to the links. A link with that process is up, or was until just now.
    Frame {
        /// To whom.
        to: NodeId,
        /// To which process of it: another one must not get it (C145, C146).
        process: Process,
        /// Where it listens, for a dial.
        addr: Option<Addr>,
        /// What.
        frame: UserFrame,
    },
    /// Hand a message to a local actor.
    Deliver {
        /// The receiving actor.
        to: ActorId,
        /// The sender.
        from: Ref,
        /// For [`Input::NotTaken`].
        delivery: Delivery,
        /// Where to answer, if it is a request.
        request: Option<Request>,
        /// What the payload is.
        tag: u32,
        /// The message.
        payload: Vec<u8>,
    },
    /// The answer to Send (C87).
    Sent {
        /// The call.
        call: CallId,
        /// The number, or why it was refused.
        result: Result<u64, SendError>,
    },
    /// What became of a tracked send (C84).
    Outcome {
        /// The call.
        call: CallId,
        /// What.
        outcome: Outcome,
    },
    /// The answer to Ask (C86): exactly one for each.
    Asked {
        /// The call.
        call: CallId,
        /// What came of it.
        result: Result<Answer, AskError>,
    },
    /// Numbers whose fate is not delivery (C85).
    Gap(Gap),
}

/// Why a send was refused (C87). Nothing was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SendError {
    /// The queue is full.
    Busy,
    /// Longer than `max_message`.
    TooLarge,
    /// The actor's session is over.
    StaleRef,
    /// The node is dead or left.
    NodeDown,
    /// The node is not known.
    NoRoute,
    /// This node is leaving.
    Draining,
}

/// What became of a send (C84).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Handed to the gate.
    Delivered,
    /// Refused there.
    Bounced(BounceCode),
    /// Never written.
    NotSent,
    /// Written, and known not to be accepted.
    Lost,
    /// Written; the peer died or restarted before it could say.
    Unknown,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// The answering actor's status; 0 is success.
    pub status: u8,
    /// What the payload is.
    pub tag: u32,
    /// The answer.
    pub payload: Vec<u8>,
}

/// Why a request has no answer (C86).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AskError {
    /// It was never queued.
    Refused(SendError),
    /// It came back.
    Bounced(BounceCode),
    /// No answer in time.
    Timeout,
    /// The link went down; `executed` tells whether it may have been executed.
    LinkLost {
        /// `false`: it was not. `true`: perhaps.
        perhaps_executed: bool,
    },
    /// The node died, left or restarted.
    NodeDown,
    /// The caller gave up.
    Cancelled,
}

/// User frames of which it is known that they were not, or not surely, delivered (C85).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    /// The peer.
    pub peer: NodeId,
    /// Its session.
    pub session: Session,
    /// The first number.
    pub first: u64,
    /// The last number.
    pub last: u64,
    /// Lost or Unknown for what we sent; `None` for what we did not receive.
    pub outcome: Option<Outcome>,
    /// The local actors that sent them, in order of number; empty for a receiver.
    pub senders: Vec<ActorId>,
}
