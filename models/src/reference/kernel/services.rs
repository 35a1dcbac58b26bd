//! Section 7, first half: services, their health, and slots (K190–K196).

use machines::kernel::config::LEASE_MS_MIN;
use machines::kernel::ids::{LeaseId, ProcessId, ReservationId, ServiceName, UserId};
use machines::kernel::principal::{Holder, Role};
use machines::kernel::services::{ServiceInfo, ServiceMode, ServiceStatus};
use machines::kernel::state::State;
use machines::kernel::{Code, Time};

use super::dispatch::Stage;
use super::{Answer, Kernel, Note, Wrong};

/// One service.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as the fields of 2.5")]
pub struct Service {
    pub info: ServiceInfo,
    pub owner: UserId,
    pub status: ServiceStatus,
    /// When it was heard of last.
    pub heard_at: Time,
    /// Whether a handler is bound.
    pub bound: bool,
}

impl Service {
    /// Says whether the node itself does its work (K192).
    #[must_use]
    pub fn is_push(&self) -> bool {
        self.info.mode == ServiceMode::Push
    }

    /// Says whether silence makes it worse (K195).
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.info.health_ttl_ms.most().is_some()
    }

    /// When silence makes it worse (K195).
    #[must_use]
    pub fn worsens_at(&self) -> Option<Time> {
        let ttl = self.info.health_ttl_ms.most()?;
        match self.status {
            ServiceStatus::Healthy | ServiceStatus::Degraded => Some(self.heard_at.plus(ttl)),
            ServiceStatus::Unknown => Some(self.heard_at.plus(3 * ttl)),
            ServiceStatus::Unhealthy => None,
        }
    }
}

/// A slot that somebody acquired; those of tries are in the dispatch.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as in K196")]
pub struct Slot {
    pub service: ServiceName,
    pub pid: Option<ProcessId>,
    pub holder: Holder,
    pub until: Time,
    /// What a start gives it again (K11).
    pub length: u64,
}

impl Kernel {
    pub(super) fn service(&self, name: &ServiceName) -> Result<&Service, Code> {
        self.services.get(name).ok_or(Code::ServiceNotFound)
    }

    /// Effective capacity (K194).
    pub(super) fn capacity(&self, service: &Service) -> u64 {
        let most = u64::from(service.info.max_concurrent);
        match service.status {
            ServiceStatus::Healthy => most,
            ServiceStatus::Degraded if self.is(Wrong::HalfRoundsDown) => most / 2,
            ServiceStatus::Degraded => most.div_ceil(2),
            ServiceStatus::Unhealthy | ServiceStatus::Unknown => 0,
        }
    }

    /// Live slots, of callers and of tries (K190).
    pub(super) fn load(&self, name: &ServiceName) -> u64 {
        let slots = self.slots.values().filter(|slot| slot.service == *name).count();
        let tries = self.dispatches.values().filter(|one| one.service == *name);
        let live = |stage: &Stage| match stage {
            Stage::Running(_) => true,
            Stage::Pausing(_) => self.is(Wrong::PauseHoldsSlot),
            Stage::Waiting { .. } | Stage::Over(..) => false,
        };
        (slots + tries.filter(|one| live(&one.stage)).count()) as u64
    }

    /// Dispatches that wait for their turn.
    pub(super) fn waiting(&self, name: &ServiceName) -> u64 {
        let waits = |stage: &Stage| matches!(stage, Stage::Waiting { .. });
        let all = self.dispatches.values().filter(|one| one.service == *name);
        all.filter(|one| waits(&one.stage)).count() as u64
    }

    /// K201: whether it takes one more call now.
    pub(super) fn takes(&self, name: &ServiceName) -> Answer {
        let service = self.service(name)?;
        match service.status {
            ServiceStatus::Healthy | ServiceStatus::Degraded => {}
            ServiceStatus::Unhealthy | ServiceStatus::Unknown => {
                return Err(Code::ServiceUnhealthy);
            }
        }
        if self.waiting(name) + self.load(name) >= self.capacity(service) {
            return Err(Code::ServiceAtCapacity);
        }
        match service.is_push() && !service.bound {
            true => Err(Code::NoHandler),
            false => Ok(()),
        }
    }

    /// K370: for a process whoever may act for it, at large workers and operators.
    pub(super) fn only_caller(&self, pid: Option<&ProcessId>) -> Answer {
        match pid {
            Some(pid) => self.only_party(pid),
            None if self.by.takes_any_work() => Ok(()),
            None => Err(Code::PermissionDenied),
        }
    }

    /// K370: the service's owner, or an operator.
    fn only_owner_of(&self, name: &ServiceName) -> Answer {
        match self.service(name)?.owner == self.by.user || self.is_trusted() {
            true => Ok(()),
            false => Err(Code::PermissionDenied),
        }
    }

    /// K370: a worker of the service's owner, or an operator.
    pub(super) fn only_worker_of(&self, name: &ServiceName) -> Answer {
        let own = self.service(name)?.owner == self.by.user && self.by.roles.has(Role::Worker);
        match own || self.by.is_operator() {
            true => Ok(()),
            false => Err(Code::PermissionDenied),
        }
    }

    /// Who quotes a lease and names no worker may be any of the user's (13.2).
    pub(super) fn has(&self, holder: &Holder) -> bool {
        let worker = self.worker.as_ref().is_none_or(|worker| *worker == holder.worker);
        holder.user == self.by.user && worker
    }

    /// The length of a lease that was asked for, in its bounds (K25).
    pub(super) fn length(&self, asked: Option<u64>, otherwise: u64) -> Result<u64, Code> {
        match asked {
            None => Ok(otherwise),
            Some(asked) if (LEASE_MS_MIN..=self.config.limits.lease_ms).contains(&asked) => {
                Ok(asked)
            }
            Some(_) => Err(Code::BadValue),
        }
    }

    /// K190.
    pub(super) fn register(&mut self, info: &ServiceInfo) -> Answer {
        if !self.by.takes_any_work() {
            return Err(Code::PermissionDenied);
        }
        if info.max_concurrent == 0 {
            return Err(Code::BadValue);
        }
        if let Some(known) = self.services.get(&info.name) {
            return match known.owner == self.by.user && known.info == *info {
                true => Ok(()),
                false => Err(Code::ServiceExists),
            };
        }
        if self.services.len() as u64 >= self.config.limits.services {
            return Err(Code::TooMany);
        }
        let service = Service {
            info: info.clone(),
            owner: self.by.user.clone(),
            status: info.status,
            heard_at: self.now,
            bound: false,
        };
        self.services.insert(info.name.clone(), service);
        self.note(Note::Registered(info.name.clone()));
        Ok(())
    }

    /// K190: binding and slots go, its dispatches are lost.
    pub(super) fn unregister(&mut self, name: &ServiceName) -> Answer {
        self.only_owner_of(name)?;
        let open = self.dispatches.iter().filter(|(_, one)| one.service == *name && one.is_open());
        let open: Vec<_> = open.map(|(id, _)| id.clone()).collect();
        for id in open {
            self.finish(&id, super::dispatch::LOST, None);
        }
        let slots = self.slots.iter().filter(|(_, slot)| slot.service == *name);
        let slots: Vec<_> = slots.map(|(lease, _)| lease.clone()).collect();
        for lease in slots {
            self.free(&lease);
        }
        self.services.remove(name);
        self.note(Note::Unregistered(name.clone()));
        Ok(())
    }

    /// K194.
    pub(super) fn report_health(&mut self, name: &ServiceName, to: ServiceStatus) -> Answer {
        self.only_owner_of(name)?;
        self.set_health(name, to, true);
        Ok(())
    }

    fn set_health(&mut self, name: &ServiceName, to: ServiceStatus, told: bool) {
        let now = self.now;
        if let Some(service) = self.services.get_mut(name) {
            let from = service.status;
            service.status = to;
            if told {
                service.heard_at = now;
            }
            self.note(Note::Health(name.clone(), from, to));
        }
    }

    /// Work went on: that is a report, too (K195).
    pub(super) fn hear(&mut self, name: &ServiceName) {
        if self.is(Wrong::WorkIsNoReport) {
            return;
        }
        if self.services.get(name).is_some_and(|one| one.status == ServiceStatus::Unknown) {
            self.set_health(name, ServiceStatus::Healthy, true);
        }
        let now = self.now;
        if let Some(service) = self.services.get_mut(name) {
            service.heard_at = now;
        }
    }

    /// Nothing was heard of it for long (K195).
    pub(super) fn worsen(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get(name) else {
            return;
        };
        let to = match service.status {
            ServiceStatus::Healthy | ServiceStatus::Degraded => ServiceStatus::Unknown,
            ServiceStatus::Unknown | ServiceStatus::Unhealthy => ServiceStatus::Unhealthy,
        };
        self.set_health(name, to, false);
    }

    /// K192.
    pub(super) fn bind(&mut self, name: &ServiceName) -> Answer {
        self.only_node()?;
        if !self.service(name)?.is_push() {
            return Err(Code::BadValue);
        }
        self.set_bound(name, true);
        Ok(())
    }

    /// K192.
    pub(super) fn unbind(&mut self, name: &ServiceName) -> Answer {
        self.only_node()?;
        self.service(name)?;
        self.set_bound(name, false);
        Ok(())
    }

    fn set_bound(&mut self, name: &ServiceName, bound: bool) {
        if let Some(service) = self.services.get_mut(name)
            && service.bound != bound
        {
            service.bound = bound;
            self.note(match bound {
                true => Note::Bound(name.clone()),
                false => Note::Unbound(name.clone()),
            });
        }
    }

    /// K196.
    pub(super) fn acquire(
        &mut self,
        name: &ServiceName,
        pid: Option<&ProcessId>,
        lease_ms: Option<u64>,
    ) -> Answer {
        self.only_caller(pid)?;
        let length = self.length(lease_ms, self.config.slot_lease_ms)?;
        if let Some(pid) = pid {
            self.only_live(pid)?;
        }
        self.takes(name)?;
        let Some(lease) = self.minted.slots.pop_front() else {
            self.note(Note::Acquired(name.clone()));
            return Ok(());
        };
        let (service, holder, until) = (name.clone(), self.holder.clone(), self.now.plus(length));
        self.slots.insert(lease, Slot { service, pid: pid.cloned(), holder, until, length });
        self.note(Note::Acquired(name.clone()));
        if let Some(pid) = pid {
            self.renew_lease(pid);
        }
        Ok(())
    }

    /// K196.
    pub(super) fn give_back(&mut self, lease: &LeaseId) -> Answer {
        let slot = self.slots.get(lease).ok_or(Code::LeaseNotFound)?;
        if !self.has(&slot.holder) && !self.by.is_operator() {
            return Err(Code::NotHolder);
        }
        self.free(lease);
        Ok(())
    }

    /// A slot is free again, given back, at the end of its lease (K196) or with its service.
    pub(super) fn free(&mut self, lease: &LeaseId) {
        if !self.is(Wrong::SlotsLeak) {
            self.slots.remove(lease);
        }
        self.note(Note::Freed(lease.clone()));
    }

    /// K78, K107, K196, K205: whatever the lease is of.
    pub(super) fn renew(
        &mut self,
        lease: &LeaseId,
        pid: Option<&ProcessId>,
        asked: Option<u64>,
    ) -> Answer {
        if let Some(slot) = self.slots.get(lease) {
            if !self.has(&slot.holder) && !self.by.is_operator() {
                return Err(Code::NotHolder);
            }
            return self.renew_slot(lease, asked);
        }
        if let Some(id) = self.trying(lease) {
            return self.renew_try(&id, asked);
        }
        let run = |one: &super::Process| one.lease.as_ref().is_some_and(|run| run.id == *lease);
        let runs = self.processes.iter().find(|(_, one)| run(one)).map(|(pid, _)| pid.clone());
        if let Some(pid) = runs {
            return self.renew_run(&pid);
        }
        if let Some(ended) = self.ended_try(lease) {
            self.only_works_on(ended.holder.as_ref())?;
            return Err(Code::StaleLease);
        }
        self.renew_reservation(lease, pid, asked)
    }

    fn renew_slot(&mut self, lease: &LeaseId, asked: Option<u64>) -> Answer {
        let until = self.now.plus(self.length(asked, self.config.slot_lease_ms)?);
        let slot = self.slots.get_mut(lease).ok_or(Code::LeaseNotFound)?;
        // It is extended, never made shorter; that its owner's worker was heard of is told anyway.
        let longer = until > slot.until;
        slot.until = slot.until.max(until);
        let (service, user) = (slot.service.clone(), slot.holder.user.clone());
        let row = self.services.get(&service);
        let works = row.is_some_and(|one| one.owner == user);
        if longer || (works && row.is_some_and(Service::is_watched)) {
            self.note(Note::SlotRenewed(lease.clone()));
            if works {
                self.hear(&service);
            }
        }
        Ok(())
    }

    fn renew_run(&mut self, pid: &ProcessId) -> Answer {
        let run = self.of(pid).lease.clone();
        match run.filter(|run| self.has(&run.holder)) {
            None => Err(Code::NotHolder),
            Some(run) => {
                self.holder = run.holder;
                self.renew_lease(pid);
                Ok(())
            }
        }
    }

    fn renew_reservation(
        &mut self,
        lease: &LeaseId,
        pid: Option<&ProcessId>,
        asked: Option<u64>,
    ) -> Answer {
        let id = ReservationId::parse("lease", lease.as_str()).map_err(|refusal| refusal.code)?;
        let has = |one: &super::Process| one.open.contains_key(&id);
        let having: Vec<ProcessId> = match pid {
            Some(pid) => {
                self.only_party_or_reserver(pid, &id)?;
                Some(pid).filter(|pid| has(self.of(pid))).into_iter().cloned().collect()
            }
            None => {
                let all = self.processes.iter().filter(|(_, one)| has(one));
                all.map(|(pid, _)| pid.clone()).collect()
            }
        };
        if having.is_empty() {
            return Err(Code::LeaseNotFound);
        }
        let own = having.into_iter().find(|pid| self.only_party_or_reserver(pid, &id).is_ok());
        let pid = own.ok_or(Code::NotHolder)?;
        let length = self.length(asked, self.config.reservation_lease_ms)?;
        let until = self.now.plus(length);
        let open = self.of_mut(&pid).open.get_mut(&id);
        if let Some(open) = open.filter(|open| open.until < until) {
            (open.until, open.length) = (until, length);
            self.note(Note::Renewed(pid.clone()));
        }
        self.renew_lease(&pid);
        Ok(())
    }

    /// Says in what the machine's services and slots differ.
    #[must_use]
    pub fn services_differ(&self, state: &State) -> Option<String> {
        let names: Vec<&ServiceName> =
            state.list_services(None, None, false).map(|one| &one.service.info.name).collect();
        if names != self.services.keys().collect::<Vec<_>>() {
            return Some(format!("services: {names:?}, not {:?}", self.services.keys()));
        }
        let all = self.services.iter().find_map(|(name, one)| {
            let view = state.service(name)?;
            let real = (view.service.status, view.service.bound, u64::from(view.current_load));
            let model = (one.status, one.bound, self.load(name));
            let heard = (view.service.last_health_check, one.heard_at);
            // Of one that is believed for ever nobody asks when it was heard.
            let differs = model != real
                || view.service.owner != one.owner
                || (one.info.health_ttl_ms.most().is_some() && heard.0 != heard.1);
            differs.then(|| format!("{name}: {:?}, load {}, not {one:?}", view.service, real.2))
        });
        all.or_else(|| {
            self.slots.iter().find_map(|(lease, one)| {
                let real = state.slot(lease);
                let real = real.map(|slot| (slot.until, slot.holder.as_ref(), slot.pid.as_ref()));
                let model = (one.until, Some(&one.holder), one.pid.as_ref());
                (real != Some(model)).then(|| format!("slot {lease}: {real:?}, not {model:?}"))
            })
        })
    }
}
