//! Where work meets services: indexes over services, slots and dispatches, derived from their
//! tables (K12, K191, K202, K213).

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::dispatch::{Dispatch, Stage};
use crate::kernel::ids::{Capability, DispatchId, LeaseId, ProcessId, ServiceName, ServiceType};
use crate::kernel::ready::Order;
use crate::kernel::time::Time;

use super::{Service, ServiceMode, ServiceStatus, Slot};

/// What is going on at one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in crate::kernel) struct Desk {
    /// Its live slots.
    pub slots: BTreeSet<LeaseId>,
    /// Dispatches that wait for their turn (K203).
    pub waiting: Order<DispatchId>,
    /// Dispatches that wait for the time of their next try (K209).
    pub pausing: u32,
    /// All dispatches that have not ended.
    pub open: BTreeSet<DispatchId>,
    place: Option<Place>,
}

impl Desk {
    /// Returns how many dispatches hold no slot.
    pub(in crate::kernel) fn queued(&self) -> u64 {
        self.waiting.len() as u64 + u64::from(self.pausing)
    }
}

/// How a service stands among those of its type (K202).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    /// Load by capacity in millionths, if it takes one more.
    ratio: Option<u64>,
    /// Dispatches that wait.
    waiting: u64,
}

/// Services of one type, or of one type that can do one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Group {
    names: BTreeSet<ServiceName>,
    accepting: BTreeSet<(u64, ServiceName)>,
    waiting: BTreeSet<(u64, ServiceName)>,
}

/// What is counted of services (K213).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceStats {
    /// Services.
    pub total_services: u64,
    /// Healthy or Degraded ones.
    pub healthy_services: u64,
    /// Unhealthy or Unknown ones.
    pub unhealthy_services: u64,
    /// Bound handlers.
    pub total_handlers: u64,
    /// Live slots.
    pub total_load: u64,
    /// Calls that they take at once when healthy.
    pub total_capacity: u64,
}

impl ServiceStats {
    /// Counts one service.
    #[must_use]
    pub fn of(service: &Service, load: u32) -> Self {
        let healthy = match service.status {
            ServiceStatus::Healthy | ServiceStatus::Degraded => 1,
            ServiceStatus::Unhealthy | ServiceStatus::Unknown => 0,
        };
        Self {
            total_services: 1,
            healthy_services: healthy,
            unhealthy_services: 1 - healthy,
            total_handlers: u64::from(service.bound),
            total_load: u64::from(load),
            total_capacity: u64::from(service.info.max_concurrent),
        }
    }

    fn add(&mut self, other: &Self) {
        self.total_services += other.total_services;
        self.healthy_services += other.healthy_services;
        self.unhealthy_services += other.unhealthy_services;
        self.total_handlers += other.total_handlers;
        self.total_load += other.total_load;
        self.total_capacity += other.total_capacity;
    }

    fn take(&mut self, other: &Self) {
        self.total_services -= other.total_services;
        self.healthy_services -= other.healthy_services;
        self.unhealthy_services -= other.unhealthy_services;
        self.total_handlers -= other.total_handlers;
        self.total_load -= other.total_load;
        self.total_capacity -= other.total_capacity;
    }
}

/// How many dispatches there are (SystemStatus).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct DispatchCounts {
    /// Without a live try: in the queue, or before their next try.
    pub waiting: u64,
    /// With a live try.
    pub running: u64,
}

/// All desks, and what finds them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Desks {
    desks: BTreeMap<ServiceName, Desk>,
    groups: BTreeMap<(ServiceType, Option<Capability>), Group>,
    by_status: [u64; 4],
    /// What each service was counted as, and the sum.
    counted: BTreeMap<ServiceName, (ServiceStats, ServiceStatus)>,
    stats: ServiceStats,
    counts: DispatchCounts,
    /// Dispatches that have not ended, by process.
    of_process: BTreeMap<ProcessId, BTreeSet<DispatchId>>,
    /// Those of them with a live try, and where.
    running: BTreeMap<ProcessId, BTreeMap<DispatchId, ServiceName>>,
    /// Leases of tries that ended, as far as their dispatches remember them (K206).
    ended_leases: BTreeMap<LeaseId, DispatchId>,
    /// Dispatches that ended, oldest first (K360).
    ended: BTreeSet<(Time, DispatchId)>,
}

impl Desks {
    /// Lets all number their next turn alike, to compare what came about differently.
    #[cfg(test)]
    pub(in crate::kernel) fn forget_next_turns(&mut self) {
        self.desks.values_mut().for_each(|desk| desk.waiting.number_turns(0));
    }

    /// Returns the load of a service.
    #[must_use]
    pub fn load(&self, name: &ServiceName) -> u32 {
        let slots = self.desks.get(name).map_or(0, |desk| desk.slots.len());
        u32::try_from(slots).expect("a service has at most a u32 of slots")
    }

    pub(in crate::kernel) fn desk(&self, name: &ServiceName) -> Option<&Desk> {
        self.desks.get(name)
    }

    pub(in crate::kernel) fn desk_mut(&mut self, name: &ServiceName) -> &mut Desk {
        self.desks.entry(name.clone()).or_default()
    }

    /// Lists the names of services of a type, and of those the ones that can do one thing (K191).
    pub fn names(
        &self,
        service_type: &ServiceType,
        capability: Option<&Capability>,
    ) -> impl Iterator<Item = &ServiceName> {
        self.group(service_type, capability).into_iter().flat_map(|group| group.names.iter())
    }

    /// Finds the service of a type that has the most room for its size, or the one with the
    /// fewest waiting if none has room (K202).
    #[must_use]
    pub fn choose(
        &self,
        service_type: &ServiceType,
        capability: Option<&Capability>,
    ) -> Option<&ServiceName> {
        let group = self.group(service_type, capability)?;
        let first = group.accepting.first().or_else(|| group.waiting.first());
        first.map(|(_, name)| name)
    }

    fn group(&self, of: &ServiceType, capability: Option<&Capability>) -> Option<&Group> {
        self.groups.get(&(of.clone(), capability.cloned()))
    }

    /// Returns the counts over all services (K213).
    #[must_use]
    pub const fn stats(&self) -> ServiceStats {
        self.stats
    }

    /// Returns how many services are in a status.
    #[must_use]
    pub const fn by_status(&self, status: ServiceStatus) -> u64 {
        self.by_status[status.number() as usize - 1]
    }

    /// Lists how many services there are of each type.
    pub fn by_type(&self) -> impl Iterator<Item = (&ServiceType, u64)> {
        let whole = self.groups.iter().filter(|((_, capability), _)| capability.is_none());
        whole.map(|((of, _), group)| (of, group.names.len() as u64))
    }

    /// Returns how many dispatches there are.
    #[must_use]
    pub const fn dispatches(&self) -> DispatchCounts {
        self.counts
    }

    /// Lists the dispatches of a process that have not ended.
    pub fn of_process(&self, pid: &ProcessId) -> impl Iterator<Item = &DispatchId> {
        self.of_process.get(pid).into_iter().flatten()
    }

    /// Counts the dispatches of a process that have not ended.
    #[must_use]
    pub fn open_of(&self, pid: &ProcessId) -> u64 {
        self.of_process.get(pid).map_or(0, |open| open.len() as u64)
    }

    /// Finds where a dispatch of a process has a live try, other than `but`: the first by its id.
    #[must_use]
    pub fn runs_at(&self, pid: &ProcessId, but: &DispatchId) -> Option<&ServiceName> {
        let mut others = self.running.get(pid)?.iter().filter(|(id, _)| *id != but);
        others.next().map(|(_, service)| service)
    }

    /// Finds the dispatch of a try that ended, by its lease.
    #[must_use]
    pub fn ended_lease(&self, lease: &LeaseId) -> Option<&DispatchId> {
        self.ended_leases.get(lease)
    }

    /// Lists the dispatches that ended before `before`, oldest first.
    pub fn ended_before(&self, before: Time) -> impl Iterator<Item = &DispatchId> {
        self.ended.iter().take_while(move |(at, _)| *at < before).map(|(_, id)| id)
    }

    /// Returns when the oldest of those that ended did.
    #[must_use]
    pub fn first_end(&self) -> Option<Time> {
        self.ended.first().map(|(at, _)| *at)
    }

    /// Brings the indexes of a service up to its row; without one all is dropped.
    pub(in crate::kernel) fn refresh(&mut self, name: &ServiceName, service: Option<&Service>) {
        if let Some((stats, status)) = self.counted.remove(name) {
            self.stats.take(&stats);
            self.by_status[usize::from(status.number() - 1)] -= 1;
        }
        let Some(service) = service else {
            return;
        };
        let load = self.load(name);
        let counted = ServiceStats::of(service, load);
        self.stats.add(&counted);
        self.by_status[usize::from(service.status.number() - 1)] += 1;
        self.counted.insert(name.clone(), (counted, service.status));
        let desk = self.desks.entry(name.clone()).or_default();
        let waiting = desk.waiting.len() as u64;
        let capacity = u64::from(service.capacity());
        let open = waiting + u64::from(load) < capacity && service.has_hands();
        let ratio = open.then(|| u64::from(load) * 1_000_000 / capacity);
        let place = Some(Place { ratio, waiting });
        if desk.place != place {
            let before = std::mem::replace(&mut desk.place, place.clone());
            self.arrange(service, before.as_ref(), place.as_ref());
        }
    }

    /// Takes a service that is gone out of all indexes.
    pub(in crate::kernel) fn forget(&mut self, name: &ServiceName, service: &Service) {
        self.refresh(name, None);
        let place = self.desks.get_mut(name).and_then(|desk| desk.place.take());
        self.arrange(service, place.as_ref(), None);
        self.tidy(name);
    }

    /// Drops the desk of a service that is gone, once nothing is left on it.
    fn tidy(&mut self, name: &ServiceName) {
        let idle =
            |desk: &Desk| desk.slots.is_empty() && desk.open.is_empty() && desk.place.is_none();
        if self.desks.get(name).is_some_and(idle) {
            self.desks.remove(name);
        }
    }

    fn arrange(&mut self, service: &Service, before: Option<&Place>, after: Option<&Place>) {
        let name = &service.info.name;
        let each = service.info.capabilities.iter().cloned().map(Some);
        for capability in std::iter::once(None).chain(each) {
            let key = (service.info.service_type.clone(), capability);
            let group = self.groups.entry(key.clone()).or_default();
            if let Some(place) = before {
                group.waiting.remove(&(place.waiting, name.clone()));
                if let Some(ratio) = place.ratio {
                    group.accepting.remove(&(ratio, name.clone()));
                }
            }
            match after {
                Some(place) => {
                    group.names.insert(name.clone());
                    group.waiting.insert((place.waiting, name.clone()));
                    if let Some(ratio) = place.ratio {
                        group.accepting.insert((ratio, name.clone()));
                    }
                }
                None => {
                    group.names.remove(name);
                }
            }
            if group.names.is_empty() {
                self.groups.remove(&key);
            }
        }
    }

    /// Takes note of a slot, or that it is gone.
    pub(in crate::kernel) fn note_slot(&mut self, lease: &LeaseId, slot: &Slot, live: bool) {
        let desk = self.desks.entry(slot.service.clone()).or_default();
        match live {
            true => desk.slots.insert(lease.clone()),
            false => desk.slots.remove(lease),
        };
        if !live {
            self.tidy(&slot.service);
        }
    }

    /// Takes note of a dispatch as its row says, or (`live` false) forgets what was noted. What
    /// waits in order is kept by who knows the order.
    pub(in crate::kernel) fn note_dispatch(
        &mut self,
        id: &DispatchId,
        dispatch: &Dispatch,
        live: bool,
    ) {
        for ended in &dispatch.remembered {
            match live {
                true => self.ended_leases.insert(ended.lease.clone(), id.clone()),
                false => self.ended_leases.remove(&ended.lease),
            };
        }
        let step = |count: &mut u64| match live {
            true => *count += 1,
            false => *count -= 1,
        };
        match &dispatch.stage {
            Stage::Waiting { .. } => step(&mut self.counts.waiting),
            Stage::Pausing { .. } => {
                step(&mut self.counts.waiting);
                let desk = self.desks.entry(dispatch.service.clone()).or_default();
                desk.pausing = match live {
                    true => desk.pausing + 1,
                    false => desk.pausing - 1,
                };
            }
            Stage::Running { .. } => {
                step(&mut self.counts.running);
                self.note_running(id, dispatch, live);
            }
            Stage::Ended { end } => {
                let entry = (end.at, id.clone());
                match live {
                    true => self.ended.insert(entry),
                    false => self.ended.remove(&entry),
                };
                return;
            }
        }
        self.note_open(id, dispatch, live);
    }

    fn note_running(&mut self, id: &DispatchId, dispatch: &Dispatch, live: bool) {
        let Some(pid) = &dispatch.request.pid else {
            return;
        };
        let of = self.running.entry(pid.clone()).or_default();
        match live {
            true => of.insert(id.clone(), dispatch.service.clone()),
            false => of.remove(id),
        };
        if of.is_empty() {
            self.running.remove(pid);
        }
    }

    fn note_open(&mut self, id: &DispatchId, dispatch: &Dispatch, live: bool) {
        let desk = self.desks.entry(dispatch.service.clone()).or_default();
        match live {
            true => desk.open.insert(id.clone()),
            false => desk.open.remove(id),
        };
        let Some(pid) = &dispatch.request.pid else {
            return;
        };
        let of = self.of_process.entry(pid.clone()).or_default();
        match live {
            true => of.insert(id.clone()),
            false => of.remove(id),
        };
        if of.is_empty() {
            self.of_process.remove(pid);
        }
    }
}

/// Says whether work for a service starts by itself, as soon as there is room (K204).
pub(in crate::kernel) fn starts_by_itself(service: &Service) -> bool {
    match service.info.mode {
        ServiceMode::Push => service.bound,
        ServiceMode::Pull => false,
    }
}
