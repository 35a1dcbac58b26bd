//! What is decided about services and slots (K190–K196).

use crate::kernel::decision::Decision;
use crate::kernel::dispatch::DispatchOutcome;
use crate::kernel::event::{Body, Subject};
use crate::kernel::ids::{DispatchId, LeaseId, ProcessId, ServiceName, UserId};
use crate::kernel::leases::{no_lease, not_holder};
use crate::kernel::principal::{Holder, Role};
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::time::Millis;

use super::event::{ServiceEvent, SlotCause, SlotEvent};
use super::{Service, ServiceInfo, ServiceMode, ServiceStatus, unknown};

impl Decision<'_> {
    pub(in crate::kernel) fn emit_service(&mut self, owner: &UserId, event: ServiceEvent) {
        let subject = Subject { user: Some(owner.clone()), ..Subject::default() };
        self.emit(subject, Body::Service { event });
    }

    fn emit_slot(&mut self, user: Option<UserId>, pid: Option<&ProcessId>, event: SlotEvent) {
        let subject = match pid {
            Some(pid) => self.subject(pid),
            None => Subject { user, ..Subject::default() },
        };
        self.emit(subject, Body::Slot { event });
    }

    pub(in crate::kernel) fn service(&self, name: &ServiceName) -> Result<&Service, Refusal> {
        self.state.services.get(name).ok_or_else(|| unknown(name))
    }

    /// Finds a service that the caller may change: its own, or any as an operator (K370).
    fn own_service(&self, name: &ServiceName) -> Result<&Service, Refusal> {
        let service = self.service(name)?;
        let own = service.owner == self.by.user;
        match own || self.by.is_operator() || self.by.is_node() {
            true => Ok(service),
            false => Err(foreign(name)),
        }
    }

    /// `RegisterService` (K190).
    pub(in crate::kernel) fn register_service(
        &mut self,
        info: &ServiceInfo,
    ) -> Result<(), Refusal> {
        if !self.by.takes_any_work() {
            let told = "only workers and operators register services";
            return Err(Refusal::new(Code::PermissionDenied, told));
        }
        info.check(&self.state.config.limits)?;
        self.check_text("version", &info.version)?;
        self.check_metadata(&info.metadata)?;
        if let Some(known) = self.state.services.get(&info.name) {
            return match known.owner == self.by.user && known.info == *info {
                true => Ok(()),
                false => {
                    let told = format!("service {} exists with different content", info.name);
                    Err(Refusal::new(Code::ServiceExists, told))
                }
            };
        }
        let most = self.state.config.limits.services;
        if u64::from(self.state.services.len()) >= most {
            return Err(Refusal::new(Code::TooMany, format!("services: at most {most}")));
        }
        let (info, owner) = (Box::new(info.clone()), self.by.user.clone());
        self.emit_service(&owner.clone(), ServiceEvent::Registered { info, owner });
        Ok(())
    }

    /// `UnregisterService`: what it had to do is lost (K190).
    pub(in crate::kernel) fn unregister_service(
        &mut self,
        name: &ServiceName,
    ) -> Result<(), Refusal> {
        let owner = self.own_service(name)?.owner.clone();
        let desk = self.state.desks.desk(name);
        let open: Vec<DispatchId> = desk.into_iter().flat_map(|desk| &desk.open).cloned().collect();
        for id in open {
            let told = format!("service {name} was unregistered");
            self.finish(&id, DispatchOutcome::Lost, (&told, Code::WorkerLost.as_str()));
        }
        let desk = self.state.desks.desk(name);
        let slots: Vec<LeaseId> = desk.into_iter().flat_map(|desk| &desk.slots).cloned().collect();
        for lease in slots {
            self.free(&lease, SlotCause::ServiceRemoved);
        }
        self.emit_service(&owner, ServiceEvent::Unregistered { service: name.clone() });
        Ok(())
    }

    /// `UpdateHealth`, a report (K194, K195).
    pub(in crate::kernel) fn update_health(
        &mut self,
        name: &ServiceName,
        to: ServiceStatus,
    ) -> Result<(), Refusal> {
        self.own_service(name)?;
        self.change_health(name, to, true);
        Ok(())
    }

    fn change_health(&mut self, name: &ServiceName, to: ServiceStatus, reported: bool) {
        let Some(service) = self.state.services.get(name) else {
            return;
        };
        let (owner, from, service) = (service.owner.clone(), service.status, name.clone());
        self.emit_service(&owner, ServiceEvent::HealthChanged { service, from, to, reported });
        self.pump(name);
    }

    /// Work goes on, which shows that a service of which nothing was heard is there (K195).
    pub(in crate::kernel) fn lift(&mut self, name: &ServiceName) {
        let status = self.state.services.get(name).map(|service| service.status);
        if status == Some(ServiceStatus::Unknown) {
            self.change_health(name, ServiceStatus::Healthy, true);
        }
    }

    /// A service said nothing for long (K195).
    pub(in crate::kernel) fn worsen(&mut self, name: &ServiceName) {
        let Some(service) = self.state.services.get(name) else {
            return;
        };
        let to = match service.status {
            ServiceStatus::Healthy | ServiceStatus::Degraded => ServiceStatus::Unknown,
            ServiceStatus::Unknown | ServiceStatus::Unhealthy => ServiceStatus::Unhealthy,
        };
        self.change_health(name, to, false);
    }

    /// `BindHandler`: the node has a handler for a service, or another one than before (K192).
    /// Calls that a restart interrupted are made again.
    pub(in crate::kernel) fn bind_handler(&mut self, name: &ServiceName) -> Result<(), Refusal> {
        self.only_node()?;
        let service = self.service(name)?;
        if service.info.mode == ServiceMode::Pull {
            let told = format!("service {name} is served by workers that ask");
            return Err(Refusal::new(Code::BadValue, told));
        }
        if service.bound {
            return Ok(());
        }
        let owner = service.owner.clone();
        let again = self.interrupted_calls(name);
        let service = name.clone();
        self.emit_service(&owner, ServiceEvent::HandlerBound { service, again });
        self.pump(name);
        Ok(())
    }

    /// Lists the live tries whose handler was called before the last start (K11).
    fn interrupted_calls(&self, name: &ServiceName) -> Vec<LeaseId> {
        let epoch = self.state.counters.epoch;
        let slots = self.state.desks.desk(name).into_iter().flat_map(|desk| &desk.slots);
        let called_before = |lease: &&LeaseId| {
            let dispatch = self.state.slots.get(lease).and_then(|slot| slot.dispatch.as_ref());
            let row = dispatch.and_then(|id| self.state.dispatches.get(id));
            row.and_then(|row| row.live()).is_some_and(|live| live.epoch < epoch)
        };
        slots.filter(called_before).cloned().collect()
    }

    /// `UnbindHandler`: the node has no handler for a service any more (K192).
    pub(in crate::kernel) fn unbind_handler(&mut self, name: &ServiceName) -> Result<(), Refusal> {
        self.only_node()?;
        let service = self.service(name)?;
        if service.bound {
            let owner = service.owner.clone();
            self.emit_service(&owner, ServiceEvent::HandlerUnbound { service: name.clone() });
        }
        Ok(())
    }

    /// Checks whether a service takes one more call now (K201).
    pub(in crate::kernel) fn check_open(&self, name: &ServiceName) -> Result<(), Refusal> {
        let service = self.service(name)?;
        match service.status {
            ServiceStatus::Healthy | ServiceStatus::Degraded => {}
            ServiceStatus::Unhealthy | ServiceStatus::Unknown => {
                let told = format!("service unhealthy: {name}");
                return Err(Refusal::new(Code::ServiceUnhealthy, told));
            }
        }
        let waiting = self.state.desks.desk(name).map_or(0, |desk| desk.waiting.len());
        let busy = waiting as u64 + u64::from(self.state.desks.load(name));
        if busy >= u64::from(service.capacity()) {
            let told = format!("service at capacity: {name}");
            return Err(Refusal::new(Code::ServiceAtCapacity, told));
        }
        match service.has_hands() {
            true => Ok(()),
            false => {
                let told = format!("no handler for service: {name}");
                Err(Refusal::new(Code::NoHandler, told))
            }
        }
    }

    /// Checks that the caller may call services: for a process that it may act for, or at large as
    /// a worker or operator (K370).
    pub(in crate::kernel) fn check_caller(&self, pid: Option<&ProcessId>) -> Result<(), Refusal> {
        match pid {
            Some(pid) => self.held(pid).map(|_| ()),
            None if self.by.takes_any_work() => Ok(()),
            None => {
                let told = "only workers and operators call services without a process";
                Err(Refusal::new(Code::PermissionDenied, told))
            }
        }
    }

    /// `AcquireSlot` (K196).
    pub(in crate::kernel) fn acquire_slot(
        &mut self,
        name: &ServiceName,
        pid: Option<&ProcessId>,
        lease_ms: Option<Millis>,
    ) -> Result<(), Refusal> {
        self.check_caller(pid)?;
        let length = self.lease_length(lease_ms, self.state.config.slot_lease_ms)?;
        if let Some(pid) = pid {
            crate::kernel::budget::refuse_terminal(pid, self.known(pid)?)?;
        }
        self.check_open(name)?;
        let lease = self.mint(|state, lease| state.slots.contains(lease));
        let (holder, until) = (self.holder(), self.now.plus(length));
        let (user, service) = (Some(holder.user.clone()), name.clone());
        let event =
            SlotEvent::Acquired { service, lease, pid: pid.cloned(), holder, until, length };
        self.emit_slot(user, pid, event);
        if let Some(pid) = pid {
            self.touch_lease(pid);
        }
        Ok(())
    }

    /// `ReleaseSlot` (K196).
    pub(in crate::kernel) fn release_slot(&mut self, lease: &LeaseId) -> Result<(), Refusal> {
        let slot = self.state.slots.get(lease).filter(|slot| slot.dispatch.is_none());
        let Some(slot) = slot else {
            return Err(no_lease(lease));
        };
        let held = slot.holder.as_ref().is_some_and(|holder| self.holds(holder));
        if !held && !self.by.is_operator() {
            return Err(not_holder());
        }
        let service = slot.service.clone();
        self.free(lease, SlotCause::Released);
        self.pump(&service);
        Ok(())
    }

    /// A slot's lease ended: who had it may be gone (K196).
    pub(in crate::kernel) fn recover_slot(&mut self, lease: &LeaseId) {
        crate::sometimes!("kernel.slot_recovered");
        let service = self.state.slots.get(lease).map(|slot| slot.service.clone());
        self.free(lease, SlotCause::Expired);
        if let Some(service) = service {
            self.pump(&service);
        }
    }

    fn free(&mut self, lease: &LeaseId, cause: SlotCause) {
        let Some(slot) = self.state.slots.get(lease) else {
            return;
        };
        let user = slot.holder.as_ref().map(|holder| holder.user.clone());
        let (service, pid) = (slot.service.clone(), slot.pid.clone());
        let event = SlotEvent::Released { lease: lease.clone(), service, cause };
        self.emit_slot(user, pid.as_ref(), event);
    }

    /// Extends a slot or a try, for its holder or an operator. It is never made shorter (K196,
    /// K205); what the node itself works on ends at its deadline and not before (K204).
    pub(in crate::kernel) fn renew_slot(
        &mut self,
        lease: &LeaseId,
        lease_ms: Option<Millis>,
    ) -> Result<(), Refusal> {
        let Some(slot) = self.state.slots.get(lease).cloned() else {
            return Err(no_lease(lease));
        };
        let may = |holder: &Holder| self.holds(holder) || self.by.is_operator();
        let Some(holder) = slot.holder.filter(may) else {
            return Err(not_holder());
        };
        let config = &self.state.config;
        let otherwise = match slot.dispatch {
            Some(_) => config.task_lease_ms,
            None => config.slot_lease_ms,
        };
        let until = self.now.plus(self.lease_length(lease_ms, otherwise)?).max(slot.until);
        let service = self.state.services.get(&slot.service);
        let works = slot.dispatch.is_some() || service.is_some_and(|row| row.owner == holder.user);
        let heard = service.is_some_and(|row| works && row.info.health_ttl_ms.most().is_some());
        if until == slot.until && !heard {
            return Ok(());
        }
        if works {
            self.lift(&slot.service);
        }
        match slot.dispatch {
            Some(id) => self.renew_try(&id, lease, until),
            None => {
                let event = SlotEvent::Renewed { lease: lease.clone(), until };
                self.emit_slot(Some(holder.user), slot.pid.as_ref(), event);
            }
        }
        Ok(())
    }

    /// Checks that the caller works for a service: a worker of its owner, or an operator (K370).
    pub(in crate::kernel) fn check_works_for(&self, name: &ServiceName) -> Result<(), Refusal> {
        let service = self.service(name)?;
        let own = service.owner == self.by.user && self.by.roles.has(Role::Worker);
        match own || self.by.is_operator() {
            true => Ok(()),
            false => Err(foreign(name)),
        }
    }
}

fn foreign(name: &ServiceName) -> Refusal {
    Refusal::new(Code::PermissionDenied, format!("service {name} belongs to another user"))
}
