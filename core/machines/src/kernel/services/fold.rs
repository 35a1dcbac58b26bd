//! What events of services and slots change (K3), and what a restart does (K11).

use crate::kernel::deadlines::Due;
use crate::kernel::dispatch::Stage;
use crate::kernel::ids::{LeaseId, ServiceName};
use crate::kernel::state::State;
use crate::kernel::time::Time;

use super::event::{ServiceEvent, SlotEvent};
use super::{Service, Slot};

impl State {
    pub(in crate::kernel) fn apply_service(&mut self, now: Time, event: &ServiceEvent) {
        match event {
            ServiceEvent::Registered { info, owner } => {
                let (name, status) = (info.name.clone(), info.status);
                let (info, owner) = (info.as_ref().clone(), owner.clone());
                let service = Service { info, owner, status, last_health_check: now, bound: false };
                self.services.insert(name.clone(), service);
                self.follow_service(&name);
            }
            ServiceEvent::Unregistered { service } => {
                if let Some(gone) = self.services.remove(service) {
                    self.desks.forget(service, &gone);
                    self.deadlines.set(Due::ServiceHealth(service.clone()), None);
                }
            }
            ServiceEvent::HealthChanged { service, from: _, to, reported } => {
                self.services.update(service, |row| {
                    row.status = *to;
                    if *reported {
                        row.last_health_check = now;
                    }
                });
                self.follow_service(service);
            }
            ServiceEvent::HandlerBound { service, again } => {
                self.services.update(service, |row| row.bound = true);
                let epoch = self.counters.epoch;
                for lease in again {
                    self.note_call(lease, epoch);
                }
                self.follow_service(service);
            }
            ServiceEvent::HandlerUnbound { service } => {
                self.services.update(service, |row| row.bound = false);
                self.follow_service(service);
            }
        }
    }

    /// Takes down that the handler is called in this epoch for a live try.
    fn note_call(&mut self, lease: &LeaseId, epoch: u64) {
        let dispatch = self.slots.get(lease).and_then(|slot| slot.dispatch.clone());
        if let Some(id) = dispatch {
            self.dispatches.update(&id, |row| match &mut row.stage {
                Stage::Running { live } => live.epoch = epoch,
                Stage::Waiting { .. } | Stage::Pausing { .. } | Stage::Ended { .. } => {}
            });
        }
    }

    pub(in crate::kernel) fn apply_slot(&mut self, now: Time, event: &SlotEvent) {
        match event {
            SlotEvent::Acquired { service, lease, pid, holder, until, length } => {
                let slot = Slot {
                    service: service.clone(),
                    pid: pid.clone(),
                    holder: Some(holder.clone()),
                    until: *until,
                    length: *length,
                    dispatch: None,
                };
                self.take_slot(lease, slot);
            }
            SlotEvent::Renewed { lease, until } => self.renew_slot(now, lease, *until),
            SlotEvent::Released { lease, service: _, cause: _ } => self.free_slot(lease),
        }
    }

    /// Gives out a slot.
    pub(in crate::kernel) fn take_slot(&mut self, lease: &LeaseId, slot: Slot) {
        let service = slot.service.clone();
        self.desks.note_slot(lease, &slot, true);
        self.slots.insert(lease.clone(), slot);
        self.follow_slot(lease);
        self.follow_service(&service);
    }

    /// Takes back a slot.
    pub(in crate::kernel) fn free_slot(&mut self, lease: &LeaseId) {
        if let Some(slot) = self.slots.remove(lease) {
            self.desks.note_slot(lease, &slot, false);
            self.deadlines.set(slot.due(lease), None);
            self.follow_service(&slot.service);
        }
    }

    /// Extends a slot. A renewal by who works for the service is a report of it (K195).
    pub(in crate::kernel) fn renew_slot(&mut self, now: Time, lease: &LeaseId, until: Time) {
        self.slots.update(lease, |slot| slot.until = until);
        self.follow_slot(lease);
        let Some(slot) = self.slots.get(lease) else {
            return;
        };
        let service = slot.service.clone();
        let owner = self.services.get(&service).map(|service| &service.owner);
        if slot.holder.as_ref().is_some_and(|holder| Some(&holder.user) == owner) {
            self.hear(now, &service);
        }
    }

    /// Takes down that a service was heard of (K195).
    pub(in crate::kernel) fn hear(&mut self, now: Time, name: &ServiceName) {
        if self.services.get(name).is_some_and(|row| row.info.health_ttl_ms.most().is_some()) {
            self.services.update(name, |row| row.last_health_check = now);
            self.follow_service(name);
        }
    }

    pub(in crate::kernel) fn follow_service(&mut self, name: &ServiceName) {
        let service = self.services.get(name);
        self.desks.refresh(name, service);
        let due = service.and_then(Service::worsens_at);
        self.deadlines.set(Due::ServiceHealth(name.clone()), due);
    }

    pub(in crate::kernel) fn follow_slot(&mut self, lease: &LeaseId) {
        if let Some(slot) = self.slots.get(lease) {
            let until = slot.holder.is_some().then_some(slot.until);
            self.deadlines.set(slot.due(lease), until);
        }
    }

    /// Drops the bindings of handlers, which belonged to the node's process, and gives leases that
    /// would end sooner their full length again (K11).
    ///
    /// The handlers of push tries went down with the node: they are called again when they are
    /// bound again, and have as long for it as at first.
    pub(in crate::kernel) fn restart_services(&mut self, now: Time) {
        let bound = self.services.iter().filter(|(_, service)| service.bound);
        let bound: Vec<ServiceName> = bound.map(|(name, _)| name.clone()).collect();
        for name in bound {
            self.services.update(&name, |service| service.bound = false);
            self.follow_service(&name);
        }
        let leases: Vec<LeaseId> = self.slots.iter().map(|(lease, _)| lease.clone()).collect();
        for lease in leases {
            self.slots.update(&lease, |slot| slot.until = slot.until.max(now.plus(slot.length)));
            self.follow_slot(&lease);
            let Some(slot) = self.slots.get(&lease).filter(|slot| slot.holder.is_none()) else {
                continue;
            };
            let until = slot.until;
            if let Some(id) = slot.dispatch.clone() {
                self.dispatches.update(&id, |row| match &mut row.stage {
                    Stage::Running { live } => live.deadline = live.deadline.max(until),
                    Stage::Waiting { .. } | Stage::Pausing { .. } | Stage::Ended { .. } => {}
                });
                self.follow_dispatch(&id);
            }
        }
    }

    /// Finds the indexes of services, slots and dispatches again from their tables, as after a
    /// snapshot was read (K12).
    pub fn derive_services(&mut self) {
        self.desks = super::desk::Desks::default();
        let slots = self.slots.clone();
        for (lease, slot) in &slots {
            self.desks.note_slot(lease, slot, true);
            self.follow_slot(lease);
        }
        self.derive_dispatches();
        let names: Vec<ServiceName> = self.services.iter().map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.follow_service(name));
    }
}

impl Slot {
    /// Returns what is due when it ends: a slot, or a lost try (K10).
    pub(in crate::kernel) fn due(&self, lease: &LeaseId) -> Due {
        match &self.dispatch {
            Some(dispatch) => Due::TryLease(dispatch.clone()),
            None => Due::SlotLease(lease.clone()),
        }
    }
}
