//! What is done when events are durable (K5): handlers are called, workers and callers are told.

use crate::kernel::event::{Body, Event};
use crate::kernel::ids::{DispatchId, LeaseId, ServiceName};
use crate::kernel::services::ServiceMode;
use crate::kernel::services::event::ServiceEvent;
use crate::kernel::state::State;

use super::event::DispatchEvent;
use super::{Dispatch, Task};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The handler of a service is called in the node's process (K204).
    HandlerCall {
        /// Of which service.
        service: ServiceName,
        /// What for.
        task: Box<Task>,
    },
    /// There may be work for those who ask this service for it (K205).
    TaskReady {
        /// Which service.
        service: ServiceName,
    },
    /// Who waits for a dispatch can be answered.
    DispatchEnded {
        /// Which.
        dispatch: DispatchId,
    },
}

/// Lists what follows from `event`. `state` is that after all events of the decision; what another
/// of them has taken back is left out.
#[must_use]
pub fn effects(event: &Event, state: &State) -> Vec<Effect> {
    let ready = |service: Option<&ServiceName>| {
        let service = service.filter(|service| has_work(state, service)).cloned();
        service.map(|service| Effect::TaskReady { service })
    };
    match &event.body {
        Body::Dispatch { event } => match event {
            DispatchEvent::Queued { service, .. } | DispatchEvent::Requeued { service, .. } => {
                ready(Some(service)).into_iter().collect()
            }
            DispatchEvent::Started { lease, .. } => call(state, lease).into_iter().collect(),
            DispatchEvent::RetryScheduled { dispatch, .. } => {
                let service = state.dispatch(dispatch).map(|row| &row.service);
                ready(service).into_iter().collect()
            }
            DispatchEvent::Finished { dispatch, tries: _, .. } => {
                let service = state.dispatch(dispatch).map(|row| &row.service);
                let ended = Effect::DispatchEnded { dispatch: dispatch.clone() };
                std::iter::once(ended).chain(ready(service)).collect()
            }
            DispatchEvent::Renewed { .. } | DispatchEvent::Removed { .. } => Vec::new(),
        },
        Body::Service { event } => match event {
            ServiceEvent::HealthChanged { service, .. } => {
                ready(Some(service)).into_iter().collect()
            }
            ServiceEvent::HandlerBound { again, .. } => {
                again.iter().filter_map(|lease| call(state, lease)).collect()
            }
            ServiceEvent::Registered { .. }
            | ServiceEvent::Unregistered { .. }
            | ServiceEvent::HandlerUnbound { .. } => Vec::new(),
        },
        Body::Slot { event } => ready(event.frees()).into_iter().collect(),
        Body::Kernel { .. }
        | Body::Process { .. }
        | Body::Quota { .. }
        | Body::Rate { .. }
        | Body::Interrupt { .. }
        | Body::Approval { .. }
        | Body::Envelope { .. }
        | Body::Session { .. } => Vec::new(),
    }
}

/// Says whether workers of a service would be given something.
fn has_work(state: &State, name: &ServiceName) -> bool {
    let Some(view) = state.service(name) else {
        return false;
    };
    let waits = state.desks.desk(name).is_some_and(|desk| !desk.waiting.is_empty());
    let room = view.current_load < view.service.capacity();
    view.service.info.mode == ServiceMode::Pull
        && waits
        && room
        && state.counters.draining.is_none()
}

/// The call of a handler, if the try is live and the node's own.
fn call(state: &State, lease: &LeaseId) -> Option<Effect> {
    let slot = state.slot(lease).filter(|slot| slot.holder.is_none())?;
    let id = slot.dispatch.as_ref()?;
    state.dispatch(id).and_then(Dispatch::live)?;
    let task = Box::new(state.task(lease)?);
    Some(Effect::HandlerCall { service: slot.service.clone(), task })
}
