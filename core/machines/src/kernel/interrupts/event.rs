//! What happens to interrupts and approvals (section 10).

use std::sync::Arc;

use crate::kernel::ids::{InterruptId, UseId, UserId};
use crate::kernel::names::{ExpiryPolicy, LapseCause};
use crate::kernel::time::Time;
use crate::wire_enum;

use super::interrupt::{Interrupt, Response};
use super::target::TargetHash;

/// Of an interrupt of the process that is the subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InterruptEvent {
    /// It is asked.
    Raised {
        /// All of it.
        interrupt: Box<Interrupt>,
    },
    /// It was answered.
    Resolved {
        /// Which.
        id: InterruptId,
        /// What was said.
        response: Box<Response>,
        /// By whom.
        by: UserId,
        /// Whether that is no denial (K156).
        accepted: bool,
    },
    /// Nobody answered in time.
    Expired {
        /// Which.
        id: InterruptId,
        /// What follows.
        policy: ExpiryPolicy,
        /// The one that is asked instead.
        escalated_to: Option<InterruptId>,
    },
    /// It was taken back.
    Cancelled {
        /// Which.
        id: InterruptId,
        /// Why.
        reason: Arc<str>,
    },
    /// Nothing is left of these.
    Removed {
        /// Which, ascending by age.
        ids: Vec<InterruptId>,
    },
}

wire_enum!(InterruptEvent, "an event of an interrupt" {
    Raised { interrupt } = 1,
    Resolved { id, response, by, accepted } = 2,
    Expired { id, policy, escalated_to } = 3,
    Cancelled { id, reason } = 4,
    Removed { ids } = 5,
});

impl InterruptEvent {
    /// Returns the kind (section 10).
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Raised { .. } => "interrupt.raised",
            Self::Resolved { .. } => "interrupt.resolved",
            Self::Expired { .. } => "interrupt.expired",
            Self::Cancelled { .. } => "interrupt.cancelled",
            Self::Removed { .. } => "interrupt.removed",
        }
    }
}

/// Of an approval of the process that is the subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ApprovalEvent {
    /// It can be used (K170).
    Granted {
        /// By the answer to which interrupt.
        interrupt: InterruptId,
        /// Of what may be done.
        hash: TargetHash,
        /// Until when.
        until: Time,
    },
    /// It was used.
    Consumed {
        /// That of which interrupt.
        interrupt: InterruptId,
        /// What the use is known by.
        use_id: UseId,
    },
    /// It can be used no more (K171).
    Lapsed {
        /// That of which interrupt.
        interrupt: InterruptId,
        /// Why.
        cause: LapseCause,
    },
}

wire_enum!(ApprovalEvent, "an event of an approval" {
    Granted { interrupt, hash, until } = 1,
    Consumed { interrupt, use_id } = 2,
    Lapsed { interrupt, cause } = 3,
});

impl ApprovalEvent {
    /// Returns the kind (section 10).
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Granted { .. } => "approval.granted",
            Self::Consumed { .. } => "approval.consumed",
            Self::Lapsed { .. } => "approval.lapsed",
        }
    }
}
