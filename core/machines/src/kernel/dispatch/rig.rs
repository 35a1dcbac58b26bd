//! What tests of services and dispatches say and hear.

use crate::kernel::CommandBody;
use crate::kernel::event::{Body, Event, KernelEvent, Subject};
use crate::kernel::ids::{DispatchId, LeaseId, ServiceName, ServiceType};
use crate::kernel::json::Json;
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::pipeline::retry::RetryPolicy;
use crate::kernel::rig::{Rig, node, told, worker};
use crate::kernel::services::event::SlotEvent;
use crate::kernel::services::{ServiceInfo, ServiceMode, ServiceStatus};

use super::effect::{Effect, effects};
use super::event::DispatchEvent;
use super::{Completion, DispatchOutcome, ServiceRequest, Stage, Target, Task};

pub(in crate::kernel) fn svc(name: &str) -> ServiceName {
    ServiceName::parse("service", name).unwrap()
}

pub(in crate::kernel) fn dsp(name: &str) -> DispatchId {
    DispatchId::parse("dispatch_id", name).unwrap()
}

pub(in crate::kernel) fn kind_of(name: &str) -> ServiceType {
    ServiceType::parse("service_type", name).unwrap()
}

pub(in crate::kernel) fn info(name: &str, mode: ServiceMode, max: u32) -> ServiceInfo {
    let new = ServiceInfo::new(svc(name), kind_of("flow"));
    ServiceInfo { mode, max_concurrent: max, ..new }
}

pub(in crate::kernel) fn register(info: ServiceInfo) -> CommandBody {
    CommandBody::RegisterService(Box::new(info))
}

/// A call of a service by its name, under an id; it waits for what is not there.
pub(in crate::kernel) fn queued(id: &str, service: &str) -> ServiceRequest {
    let target = Target::Name { name: svc(service) };
    let request = ServiceRequest::new(target, "run", Json::from("data"));
    ServiceRequest { dispatch: Some(dsp(id)), queue: true, ..request }
}

/// The same, but it does not wait.
pub(in crate::kernel) fn at_once(id: &str, service: &str) -> ServiceRequest {
    ServiceRequest { queue: false, ..queued(id, service) }
}

pub(in crate::kernel) fn retried(id: &str, service: &str, max_retries: u32) -> ServiceRequest {
    let retry = RetryPolicy { max_retries, ..RetryPolicy::default() };
    ServiceRequest { retry, ..queued(id, service) }
}

pub(in crate::kernel) fn dispatch(request: ServiceRequest) -> CommandBody {
    CommandBody::Dispatch(Box::new(request))
}

pub(in crate::kernel) fn done(lease: &LeaseId, data: &str) -> CommandBody {
    CommandBody::CompleteTask(Box::new(Completion {
        lease: lease.clone(),
        success: true,
        data: Some(Json::from(data)),
        error: None,
        error_kind: None,
    }))
}

pub(in crate::kernel) fn failed(lease: &LeaseId, kind: ErrorKind) -> CommandBody {
    CommandBody::CompleteTask(Box::new(Completion {
        lease: lease.clone(),
        success: false,
        data: None,
        error: Some("it broke".to_owned()),
        error_kind: Some(kind),
    }))
}

pub(in crate::kernel) fn renew(lease: &LeaseId) -> CommandBody {
    CommandBody::RenewLease { lease: lease.clone(), pid: None, lease_ms: None }
}

pub(in crate::kernel) fn health(name: &str, status: ServiceStatus) -> CommandBody {
    CommandBody::UpdateHealth { service: svc(name), status }
}

pub(in crate::kernel) fn bind(name: &str) -> CommandBody {
    CommandBody::BindHandler { service: svc(name) }
}

pub(in crate::kernel) fn acquire(name: &str) -> CommandBody {
    CommandBody::AcquireSlot { service: svc(name), pid: None, lease_ms: None }
}

/// The leases that an event gave out.
pub(in crate::kernel) fn granted(event: &Event) -> Option<LeaseId> {
    match &event.body {
        Body::Slot { event: SlotEvent::Acquired { lease, .. } }
        | Body::Dispatch { event: DispatchEvent::Started { lease, .. } } => Some(lease.clone()),
        Body::Slot { .. }
        | Body::Dispatch { .. }
        | Body::Kernel { .. }
        | Body::Process { .. }
        | Body::Quota { .. }
        | Body::Rate { .. }
        | Body::Envelope { .. }
        | Body::Interrupt { .. }
        | Body::Approval { .. }
        | Body::Service { .. }
        | Body::Session { .. } => None,
    }
}

impl Rig {
    /// A rig with a service `p` whose handler is bound, and `q` whose worker is `w`.
    pub(in crate::kernel) fn served(max: u32) -> Self {
        let mut rig = Self::new();
        let w = worker("w");
        rig.say(&w, register(info("p", ServiceMode::Push, max))).unwrap();
        rig.say(&w, register(info("q", ServiceMode::Pull, max))).unwrap();
        rig.say(&node(), bind("p")).unwrap();
        rig
    }

    /// Says it as the worker `w`, and expects that it is taken.
    pub(in crate::kernel) fn work(&mut self, body: CommandBody) -> Vec<Event> {
        self.say(&worker("w"), body).unwrap()
    }

    /// Says it as the worker `w`, and tells what came of it.
    pub(in crate::kernel) fn hear(&mut self, body: CommandBody) -> String {
        told(self.say(&worker("w"), body))
    }

    /// Takes tasks of `q`.
    pub(in crate::kernel) fn tasks(&mut self, max: u32) -> Vec<Task> {
        let events = self.work(CommandBody::LeaseTasks { service: svc("q"), max });
        let leases = events.iter().filter_map(granted);
        leases.map(|lease| self.kernel.state.task(&lease).unwrap()).collect()
    }

    /// The lease of the live try.
    pub(in crate::kernel) fn lease(&self, id: &str) -> LeaseId {
        self.kernel.state.dispatch(&dsp(id)).unwrap().live().unwrap().lease.clone()
    }

    pub(in crate::kernel) fn stage(&self, id: &str) -> &'static str {
        match &self.kernel.state.dispatch(&dsp(id)).unwrap().stage {
            Stage::Waiting { .. } => "waiting",
            Stage::Pausing { .. } => "pausing",
            Stage::Running { .. } => "running",
            Stage::Ended { end } => end.outcome.name(),
        }
    }

    /// The outcome, the code and the text of an end.
    pub(in crate::kernel) fn end_of(&self, id: &str) -> (DispatchOutcome, String, String) {
        let end = self.kernel.state.dispatch(&dsp(id)).unwrap().end().unwrap();
        let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or("").to_owned();
        (end.outcome, text(&end.error_code), text(&end.error))
    }

    pub(in crate::kernel) fn load(&self, name: &str) -> u32 {
        self.kernel.state.service(&svc(name)).unwrap().current_load
    }

    pub(in crate::kernel) fn status(&self, name: &str) -> ServiceStatus {
        self.kernel.state.service(&svc(name)).unwrap().service.status
    }

    /// What follows from the events since `from`.
    pub(in crate::kernel) fn effects(&self, from: usize) -> Vec<Effect> {
        let state = self.kernel.state();
        self.events[from..].iter().flat_map(|event| effects(event, state)).collect()
    }

    /// Starts the node again.
    pub(in crate::kernel) fn start_again(&mut self) {
        let config = Box::new(self.kernel.state.config.clone());
        self.run(&node(), CommandBody::Start { config }).unwrap();
    }

    /// Lets the node drain.
    pub(in crate::kernel) fn drain(&mut self) {
        let deadline = self.now.plus(30_000);
        let event = KernelEvent::Draining { deadline, stop: None, cut: false };
        let body = Body::Kernel { event };
        self.kernel.apply(&Event { time: self.now, subject: Subject::default(), body });
    }
}
