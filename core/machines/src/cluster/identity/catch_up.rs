//! Who this node is right now, and how it catches up with its own past (C8, C27).
//!
//! ```text
//!              a peer or a row knows a session of mine ≥ mine
//!   in session ─────────────────────────────────────────────► in one above it: store, redial
//!       │ ▲  incarnations used up                                  │
//!       │ └────────────────────────────────────────────────────────┘
//!       └─ a jump over 2²⁰, or a 4th within 10 minutes ─► stop: KeyInUse
//! ```
//!
//! A jump goes to the next session above it whose slot is not the present session's: a crash may
//! tear the write, and one of the two slots must stay whole (C7).
//!
//! A lost or rolled-back session file heals in one jump. Two processes with one key jump over
//! each other without end, which the two limits notice.

use std::collections::VecDeque;

use crate::cluster::ids::{Instance, NodeId, Session};
use crate::node::io::StopReason;
use crate::time::Instant;

/// A node's id, its session and its instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    node: NodeId,
    instance: Instance,
    session: Session,
    /// When it last jumped, oldest first; at most [`Identity::JUMPS_MAX`].
    jumps: VecDeque<Instant>,
}

impl Identity {
    /// The farthest that a node jumps at once.
    pub const JUMP_MAX: u32 = 1 << 20;
    /// How often a node jumps within [`Identity::JUMPS_SPAN_NS`].
    pub const JUMPS_MAX: usize = 3;
    /// Ten minutes.
    pub const JUMPS_SPAN_NS: u64 = 600 * 1_000_000_000;

    /// Makes the identity of a start in `session`, which is durable.
    #[must_use]
    pub const fn new(node: NodeId, session: Session, instance: Instance) -> Self {
        Self { node, instance, session, jumps: VecDeque::new() }
    }

    /// Returns the node's id.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Returns the instance, the same until the process ends.
    #[must_use]
    pub const fn instance(&self) -> Instance {
        self.instance
    }

    /// Returns the session that the node is in, or is about to be in once it is durable.
    #[must_use]
    pub const fn session(&self) -> Session {
        self.session
    }

    /// Hears that someone knows session `above` of this node. Returns the session to burn, store
    /// and go on in, or `None` if `above` is one that the node has already left behind.
    ///
    /// # Errors
    ///
    /// The reason to stop; the identity is as it was.
    pub fn behind(&mut self, now: Instant, above: Session) -> Result<Option<Session>, StopReason> {
        let Some(leap) = above.0.checked_sub(self.session.0) else {
            return Ok(None);
        };
        // Slots are written in turn, so a session at an even distance has the slot of this one.
        let beyond = 1 + leap % 2;
        if leap.saturating_add(beyond) > Self::JUMP_MAX {
            return Err(StopReason::KeyInUse);
        }
        while let Some(first) = self.jumps.front()
            && now.nanos_since(*first) >= Self::JUMPS_SPAN_NS
        {
            self.jumps.pop_front();
        }
        if self.jumps.len() == Self::JUMPS_MAX {
            return Err(StopReason::KeyInUse);
        }
        let mut session = above;
        for _ in 0..beyond {
            session = session.next().ok_or(StopReason::SessionsExhausted)?;
        }
        self.session = session;
        self.jumps.push_back(now);
        crate::sometimes!("session.caught_up");
        Ok(Some(self.session))
    }

    /// Burns a session because the incarnations of this one are used up (C8). That is no jump.
    ///
    /// # Errors
    ///
    /// [`StopReason::SessionsExhausted`]; the identity is as it was.
    pub fn renew(&mut self) -> Result<Session, StopReason> {
        self.session = self.session.next().ok_or(StopReason::SessionsExhausted)?;
        Ok(self.session)
    }
}
