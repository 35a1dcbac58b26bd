//! Services: what can be called, how many calls at once, and how it is (K190–K196).
//!
//! ```text
//!   RegisterService ─► Healthy ◄──── report ────► Degraded, Unhealthy
//!                         │  ▲
//!            health_ttl_ms│  │ a report, or work that goes on
//!                         ▼  │
//!                      Unknown ── 3 × health_ttl_ms ─► Unhealthy
//! ```
//!
//! A **slot** is the right to one call at a time. Callers that call by themselves acquire one
//! (K196); each try of a dispatch takes one (K203). The load of a service is the number of its
//! live slots, of both sorts.

mod decide;
pub mod desk;
pub mod event;
mod fold;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::wire_struct;

use super::config::Limits;
use super::ids::{Capability, DispatchId, LeaseId, ProcessId, ServiceName, ServiceType, UserId};
use super::numbered::numbered;
use super::principal::Holder;
use super::process::Metadata;
use super::quota::Limit;
use super::refusal::{Code, Refusal};
use super::state::State;
use super::time::{Millis, Time};

numbered! {
    /// How a service is (K194).
    ServiceStatus "a service status" {
        /// As it should be.
        Healthy = 1 "healthy",
        /// Half of it.
        Degraded = 2 "degraded",
        /// It takes nothing.
        Unhealthy = 3 "unhealthy",
        /// Nothing was heard of it; it takes nothing.
        Unknown = 4 "unknown",
    }

    /// How work reaches a service (K192).
    ServiceMode "a service mode" {
        /// A handler in the node's process is called.
        Push = 1 "push",
        /// Remote workers ask for it.
        Pull = 2 "pull",
    }
}

/// What a service says of itself (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceInfo {
    /// Its name.
    pub name: ServiceName,
    /// What kind of service it is.
    pub service_type: ServiceType,
    /// How work reaches it.
    pub mode: ServiceMode,
    /// Its version.
    pub version: String,
    /// What it can do.
    pub capabilities: BTreeSet<Capability>,
    /// How many calls it takes at once.
    pub max_concurrent: u32,
    /// How it is at first.
    pub status: ServiceStatus,
    /// How long a report is believed.
    pub health_ttl_ms: Limit,
    /// What its owner keeps with it.
    pub metadata: Metadata,
}

wire_struct!(ServiceInfo {
    name,
    service_type,
    mode,
    version,
    capabilities,
    max_concurrent,
    status,
    health_ttl_ms,
    metadata,
});

impl ServiceInfo {
    /// Describes a service with the defaults of 2.5, in process: its reports are believed for ever.
    #[must_use]
    pub fn new(name: ServiceName, service_type: ServiceType) -> Self {
        Self {
            name,
            service_type,
            mode: ServiceMode::Pull,
            version: "1.0.0".to_owned(),
            capabilities: BTreeSet::new(),
            max_concurrent: 10,
            status: ServiceStatus::Healthy,
            health_ttl_ms: Limit::UNLIMITED,
            metadata: Metadata::new(),
        }
    }

    /// Checks every bound (K25, K410).
    fn check(&self, limits: &Limits) -> Result<(), Refusal> {
        let many = |field: &str, count: u64, most: u64| match count > most {
            true => Err(Refusal::new(Code::TooMany, format!("{field}: {count}, at most {most}"))),
            false => Ok(()),
        };
        let named = |field: &str, name: &str| match name.len() as u64 > limits.name_bytes {
            true => {
                let told = format!("{field}: {} bytes, at most {}", name.len(), limits.name_bytes);
                Err(Refusal::new(Code::BadName, told))
            }
            false => Ok(()),
        };
        named("name", self.name.as_str())?;
        named("service_type", self.service_type.as_str())?;
        self.capabilities.iter().try_for_each(|one| named("capabilities", one.as_str()))?;
        if self.max_concurrent == 0 {
            return Err(Refusal::new(Code::BadValue, "max_concurrent must be at least 1"));
        }
        many("max_concurrent", u64::from(self.max_concurrent), limits.slots)?;
        many("capabilities", self.capabilities.len() as u64, limits.entries)?;
        match self.health_ttl_ms.most() {
            Some(ttl) => limits.check_span("health_ttl_ms", ttl),
            None => Ok(()),
        }
    }
}

/// A service that is registered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// What it says of itself; its status there is the one at first.
    pub info: ServiceInfo,
    /// Who registered it.
    pub owner: UserId,
    /// How it is.
    pub status: ServiceStatus,
    /// When that was last heard from it.
    pub last_health_check: Time,
    /// Whether a handler is bound in the node's process (K192).
    pub bound: bool,
}

wire_struct!(Service { info, owner, status, last_health_check, bound });

impl Service {
    /// Returns how many calls it takes at once, as it is (K194).
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        match self.status {
            ServiceStatus::Healthy => self.info.max_concurrent,
            ServiceStatus::Degraded => self.info.max_concurrent.div_ceil(2),
            ServiceStatus::Unhealthy | ServiceStatus::Unknown => 0,
        }
    }

    /// Returns when it is believed to be worse for having said nothing (K195).
    #[must_use]
    pub fn worsens_at(&self) -> Option<Time> {
        let ttl = self.info.health_ttl_ms.most()?;
        let after = match self.status {
            ServiceStatus::Healthy | ServiceStatus::Degraded => ttl,
            ServiceStatus::Unknown => ttl.saturating_mul(3),
            ServiceStatus::Unhealthy => return None,
        };
        Some(self.last_health_check.plus(after))
    }

    /// Says whether it could be called at all: a handler is bound, or workers ask (K201).
    #[must_use]
    pub const fn has_hands(&self) -> bool {
        match self.info.mode {
            ServiceMode::Push => self.bound,
            ServiceMode::Pull => true,
        }
    }
}

/// The right to one call of a service (K196, K203). Its key is its lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Of which service.
    pub service: ServiceName,
    /// For which process.
    pub pid: Option<ProcessId>,
    /// Who has it; nobody if the node itself works on it.
    pub holder: Option<Holder>,
    /// When it ends, unless renewed.
    pub until: Time,
    /// For how long it was given, which a restart gives again (K11).
    pub length: Millis,
    /// The dispatch of whose live try it is, if it is of one.
    pub dispatch: Option<DispatchId>,
}

wire_struct!(Slot { service, pid, holder, until, length, dispatch });

/// A service as callers see it (2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceView<'a> {
    /// The service.
    pub service: &'a Service,
    /// Its live slots.
    pub current_load: u32,
}

impl State {
    /// Returns a service.
    #[must_use]
    pub fn service(&self, name: &ServiceName) -> Option<ServiceView<'_>> {
        let service = self.services.get(name)?;
        Some(ServiceView { service, current_load: self.desks.load(name) })
    }

    /// Says whether a service has room for one more call (K194).
    ///
    /// # Errors
    ///
    /// `service_not_found`.
    pub fn can_accept(&self, name: &ServiceName) -> Result<bool, Refusal> {
        match self.service(name) {
            Some(view) => Ok(view.current_load < view.service.capacity()),
            None => Err(unknown(name)),
        }
    }

    /// Lists services in order of name (K191).
    pub fn list_services<'a>(
        &'a self,
        service_type: Option<&'a ServiceType>,
        capability: Option<&'a Capability>,
        accepting_only: bool,
    ) -> impl Iterator<Item = ServiceView<'a>> {
        let names: Box<dyn Iterator<Item = &'a ServiceName> + 'a> = match service_type {
            Some(service_type) => Box::new(self.desks.names(service_type, capability)),
            None => Box::new(self.services.iter().map(|(name, _)| name)),
        };
        let able = move |view: &ServiceView<'_>| {
            capability.is_none_or(|one| view.service.info.capabilities.contains(one))
        };
        let open = move |view: &ServiceView<'_>| {
            !accepting_only || view.current_load < view.service.capacity()
        };
        names.filter_map(|name| self.service(name)).filter(able).filter(open)
    }

    /// Returns a live slot.
    #[must_use]
    pub fn slot(&self, lease: &LeaseId) -> Option<&Slot> {
        self.slots.get(lease)
    }
}

/// The refusal for a service that nobody registered (K201).
pub(super) fn unknown(name: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::ServiceNotFound, format!("unknown service: {name}"))
}
