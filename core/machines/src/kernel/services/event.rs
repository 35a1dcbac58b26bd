//! What happens to services and slots (section 10).

use crate::kernel::ids::{LeaseId, ProcessId, ServiceName, UserId};
use crate::kernel::principal::Holder;
use crate::kernel::time::{Millis, Time};
use crate::wire_enum;

use super::{ServiceInfo, ServiceStatus};

/// Of services and their handlers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServiceEvent {
    /// It can be called.
    Registered {
        /// What it says of itself.
        info: Box<ServiceInfo>,
        /// Who registered it.
        owner: UserId,
    },
    /// It is gone, and its handler with it.
    Unregistered {
        /// Which.
        service: ServiceName,
    },
    /// It told how it is, or said nothing for long.
    HealthChanged {
        /// Which.
        service: ServiceName,
        /// Before.
        from: ServiceStatus,
        /// From now on; after a report it may be what it was.
        to: ServiceStatus,
        /// Whether it told so.
        reported: bool,
    },
    /// A handler is there (K192).
    HandlerBound {
        /// Of which service.
        service: ServiceName,
        /// Live tries whose handler a restart took away: it is called for them again.
        again: Vec<LeaseId>,
    },
    /// The handler is gone.
    HandlerUnbound {
        /// Of which service.
        service: ServiceName,
    },
}

wire_enum!(ServiceEvent, "an event of a service" {
    Registered { info, owner } = 1,
    Unregistered { service } = 2,
    HealthChanged { service, from, to, reported } = 3,
    HandlerBound { service, again } = 4,
    HandlerUnbound { service } = 5,
});

impl ServiceEvent {
    /// Returns the kind (section 10).
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "service.registered",
            Self::Unregistered { .. } => "service.unregistered",
            Self::HealthChanged { .. } => "service.health_changed",
            Self::HandlerBound { .. } => "handler.bound",
            Self::HandlerUnbound { .. } => "handler.unbound",
        }
    }
}

/// Why a slot is free again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SlotCause {
    /// Its holder gave it back.
    Released,
    /// Its lease ended.
    Expired,
    /// Its service is gone.
    ServiceRemoved,
}

wire_enum!(SlotCause, "a cause of a slot" { Released = 1, Expired = 2, ServiceRemoved = 3 });

/// Of slots that callers acquired; those of tries are told by the dispatch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SlotEvent {
    /// Somebody has it (K196).
    Acquired {
        /// Of which service.
        service: ServiceName,
        /// Its lease.
        lease: LeaseId,
        /// For which process.
        pid: Option<ProcessId>,
        /// Who.
        holder: Holder,
        /// Until when.
        until: Time,
        /// For how long.
        length: Millis,
    },
    /// Its holder goes on.
    Renewed {
        /// Which.
        lease: LeaseId,
        /// Until when now.
        until: Time,
    },
    /// It is free again.
    Released {
        /// Which.
        lease: LeaseId,
        /// Of which service.
        service: ServiceName,
        /// Why.
        cause: SlotCause,
    },
}

wire_enum!(SlotEvent, "an event of a slot" {
    Acquired { service, lease, pid, holder, until, length } = 1,
    Renewed { lease, until } = 2,
    Released { lease, service, cause } = 3,
});

impl SlotEvent {
    /// Returns the kind (section 10).
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Acquired { .. } => "slot.acquired",
            Self::Renewed { .. } => "slot.renewed",
            Self::Released { .. } => "slot.released",
        }
    }
}

impl SlotEvent {
    /// Returns the service that has room again, if this gave it some.
    #[must_use]
    pub const fn frees(&self) -> Option<&ServiceName> {
        match self {
            Self::Released { service, .. } => Some(service),
            Self::Acquired { .. } | Self::Renewed { .. } => None,
        }
    }
}
