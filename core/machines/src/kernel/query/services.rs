//! Services as callers see them (K191, K194, K213). What there is to call is no secret: whoever may
//! ask at all may ask about services.

use super::Inquiry;
use crate::kernel::dispatch::ServiceResponse;
use crate::kernel::ids::{Capability, DispatchId, ProcessId, ServiceName, ServiceType};
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::services::desk::ServiceStats;
use crate::kernel::services::{Service, ServiceView, unknown};
use crate::kernel::state::State;

/// Which services (K191).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListServices {
    /// Of this type.
    pub service_type: Option<ServiceType>,
    /// Those that can do this.
    pub capability: Option<Capability>,
    /// Only those with room for one more call.
    pub accepting_only: bool,
}

/// A service, and how busy it is (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ShownService {
    /// The service.
    pub service: Service,
    /// Its live slots.
    pub current_load: u32,
}

/// A dispatch, and how it ended, once it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownDispatch {
    /// Its id.
    pub dispatch: DispatchId,
    /// For which process it is.
    pub pid: Option<ProcessId>,
    /// The service that was found for it.
    pub service: ServiceName,
    /// Tries that started.
    pub tries: u32,
    /// How it ended.
    pub response: Option<ServiceResponse>,
}

impl From<ServiceView<'_>> for ShownService {
    fn from(view: ServiceView<'_>) -> Self {
        Self { service: view.service.clone(), current_load: view.current_load }
    }
}

impl State {
    /// Shows a service.
    ///
    /// # Errors
    ///
    /// `service_not_found`.
    pub fn shown_service(&self, name: &ServiceName) -> Result<ShownService, Refusal> {
        self.service(name).map(ShownService::from).ok_or_else(|| unknown(name))
    }
}

impl Inquiry<'_> {
    /// Shows a dispatch to its user, operators and the node.
    pub(super) fn shown_dispatch(self, id: &DispatchId) -> Result<ShownDispatch, Refusal> {
        let Some(row) = self.state.dispatch(id) else {
            let told = format!("dispatch not found: {id}");
            return Err(Refusal::new(Code::DispatchNotFound, told));
        };
        if row.user != self.by.user && !self.by.sees_all() {
            let told = format!("dispatch {id} belongs to another user");
            return Err(Refusal::new(Code::PermissionDenied, told));
        }
        Ok(ShownDispatch {
            dispatch: id.clone(),
            pid: row.request.pid.clone(),
            service: row.service.clone(),
            tries: row.tries,
            response: self.state.response(id),
        })
    }

    pub(super) fn list_services(self, list: &ListServices) -> Vec<ShownService> {
        let (of, capability) = (list.service_type.as_ref(), list.capability.as_ref());
        let found = self.state.list_services(of, capability, list.accepting_only);
        found.map(ShownService::from).collect()
    }

    /// The counts of one service, or of all.
    pub(super) fn service_stats(self, name: Option<&ServiceName>) -> Result<ServiceStats, Refusal> {
        let Some(name) = name else {
            return Ok(self.state.desks.stats());
        };
        let view = self.state.service(name).ok_or_else(|| unknown(name))?;
        Ok(ServiceStats::of(view.service, view.current_load))
    }
}
