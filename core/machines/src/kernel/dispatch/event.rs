//! What happens to dispatches (section 10).

use std::sync::Arc;

use crate::kernel::ids::{DispatchId, LeaseId, ReservationId, ServiceName, UserId};
use crate::kernel::json::Json;
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::principal::Holder;
use crate::kernel::process::ContentHash;
use crate::kernel::time::Time;
use crate::wire_enum;

use super::{DispatchOutcome, ServiceRequest};

/// Of dispatches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DispatchEvent {
    /// It was asked for.
    Queued {
        /// Its id.
        dispatch: DispatchId,
        /// Whose it is.
        user: UserId,
        /// What was asked for.
        request: Box<ServiceRequest>,
        /// The service that was found for it.
        service: ServiceName,
        /// What a repeat is known by.
        content: ContentHash,
        /// What is reserved for it (K212).
        reservation: Option<ReservationId>,
    },
    /// The time of its next try has come: it waits for its turn again.
    Requeued {
        /// Which.
        dispatch: DispatchId,
        /// For which service.
        service: ServiceName,
    },
    /// A try is live.
    Started {
        /// Of which.
        dispatch: DispatchId,
        /// Which try, from 1.
        tries: u32,
        /// Under which lease.
        lease: LeaseId,
        /// Who works on it; nobody is the node itself.
        holder: Option<Holder>,
        /// When the try fails as Timeout.
        deadline: Time,
        /// When the lease ends.
        until: Time,
    },
    /// Its worker goes on.
    Renewed {
        /// Of which.
        dispatch: DispatchId,
        /// Under which lease.
        lease: LeaseId,
        /// Until when now.
        until: Time,
    },
    /// A try ended, and there will be another.
    RetryScheduled {
        /// Of which.
        dispatch: DispatchId,
        /// Which try ended.
        tries: u32,
        /// Why.
        error: Arc<str>,
        /// Of which kind that is; WorkerLost does not count as a retry (K210).
        kind: ErrorKind,
        /// When the next one may start.
        retry_at: Time,
        /// What the worker completed the try with, if it did.
        completed: Option<ContentHash>,
    },
    /// It is over (K207).
    Finished {
        /// Which.
        dispatch: DispatchId,
        /// How.
        outcome: DispatchOutcome,
        /// What came out of it.
        data: Option<Json>,
        /// What went wrong.
        error: Option<Arc<str>>,
        /// The same for machines.
        error_code: Option<Arc<str>>,
        /// Tries that started.
        tries: u32,
        /// What the worker completed the last try with, if it did.
        completed: Option<ContentHash>,
    },
    /// They are kept no longer (K360).
    Removed {
        /// Which.
        ids: Vec<DispatchId>,
    },
}

wire_enum!(DispatchEvent, "an event of a dispatch" {
    Queued { dispatch, user, request, service, content, reservation } = 1,
    Requeued { dispatch, service } = 2,
    Started { dispatch, tries, lease, holder, deadline, until } = 3,
    Renewed { dispatch, lease, until } = 4,
    RetryScheduled { dispatch, tries, error, kind, retry_at, completed } = 5,
    Finished { dispatch, outcome, data, error, error_code, tries, completed } = 6,
    Removed { ids } = 7,
});

impl DispatchEvent {
    /// Returns the kind (section 10).
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Queued { .. } | Self::Requeued { .. } => "dispatch.queued",
            Self::Started { .. } => "dispatch.started",
            Self::Renewed { .. } => "dispatch.renewed",
            Self::RetryScheduled { .. } => "dispatch.retry_scheduled",
            Self::Finished { .. } => "dispatch.finished",
            Self::Removed { .. } => "dispatch.removed",
        }
    }
}
