//! `RenewLease`: one command for every lease, and the index that finds what a lease is of (K78,
//! K107, K196, K205).

use std::collections::{BTreeMap, BTreeSet};

use super::deadlines::Due;
use super::decision::Decision;
use super::event::ProcessEvent;
use super::ids::{LeaseId, ProcessId, ReservationId};
use super::principal::Holder;
use super::process::Process;
use super::refusal::{Code, Refusal};
use super::state::State;
use super::time::{Millis, Time};

/// Whose run leases and open reservations are; derived from the processes (K12).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaseIndex {
    runs: BTreeMap<LeaseId, ProcessId>,
    /// An id of a reservation is a process's own: others may have the same.
    reservations: BTreeMap<ReservationId, BTreeSet<ProcessId>>,
}

impl LeaseIndex {
    /// Finds the process that is run under a lease.
    #[must_use]
    pub fn run(&self, lease: &LeaseId) -> Option<&ProcessId> {
        self.runs.get(lease)
    }

    /// Lists the processes that have an open reservation of this id.
    pub fn reserved_by(&self, id: &ReservationId) -> impl Iterator<Item = &ProcessId> {
        self.reservations.get(id).into_iter().flatten()
    }

    pub(super) fn note_run(&mut self, pid: &ProcessId, process: &Process) {
        if let Some(run) = &process.run_lease {
            self.runs.insert(run.lease.clone(), pid.clone());
        }
    }

    pub(super) fn forget_run(&mut self, process: &Process) {
        if let Some(run) = &process.run_lease {
            self.runs.remove(&run.lease);
        }
    }

    pub(super) fn note_reservation(&mut self, pid: &ProcessId, id: &ReservationId) {
        self.reservations.entry(id.clone()).or_default().insert(pid.clone());
    }

    pub(super) fn forget_reservation(&mut self, pid: &ProcessId, id: &ReservationId) {
        if let Some(pids) = self.reservations.get_mut(id) {
            pids.remove(pid);
            if pids.is_empty() {
                self.reservations.remove(id);
            }
        }
    }
}

impl State {
    /// Extends a reservation; its id is its lease (K107).
    pub(super) fn renew_reservation(&mut self, pid: &ProcessId, lease: &LeaseId, until: Time) {
        let Ok(id) = ReservationId::parse("lease", lease.as_str()) else {
            return;
        };
        let length = until.since(self.counters.last);
        let mut known = false;
        self.processes.update(pid, |process| {
            if let Some(open) = process.reservations.get_mut(&id) {
                (open.until, open.length) = (until, length);
                known = true;
            }
        });
        if known {
            self.deadlines.set(Due::Reservation(pid.clone(), id), Some(until));
        }
    }

    /// Finds the index again from the processes (K12).
    pub fn derive_leases(&mut self) {
        self.leases = LeaseIndex::default();
        for (pid, process) in &self.processes {
            self.leases.note_run(pid, process);
            for id in process.reservations.keys() {
                self.leases.note_reservation(pid, id);
            }
        }
    }
}

impl Decision<'_> {
    /// Extends a lease, which its holder does (K78, K107, K196, K205).
    pub(super) fn renew_lease(
        &mut self,
        lease: &LeaseId,
        pid: Option<&ProcessId>,
        asked: Option<Millis>,
    ) -> Result<(), Refusal> {
        if self.state.slots.contains(lease) {
            return self.renew_slot(lease, asked);
        }
        if let Some(pid) = self.state.leases.run(lease).cloned() {
            return self.renew_run(&pid);
        }
        if let Some(ended) = self.state.ended_try(lease) {
            self.check_works_on(ended.holder.as_ref())?;
            return Err(stale(lease));
        }
        self.renew_reservation(lease, pid, asked)
    }

    /// Extends a run lease to its full length, however little was asked for (K78).
    fn renew_run(&mut self, pid: &ProcessId) -> Result<(), Refusal> {
        let length = self.state.config.run_lease_ms;
        let run = self.known(pid)?.run_lease.clone();
        let Some(run) = run.filter(|run| self.holds(&run.holder)) else {
            return Err(not_holder());
        };
        if run.until.since(self.now) < length / 2 {
            let until = self.now.plus(length);
            self.emit_process(pid, ProcessEvent::LeaseRenewed { lease: run.lease, until });
        }
        Ok(())
    }

    fn renew_reservation(
        &mut self,
        lease: &LeaseId,
        pid: Option<&ProcessId>,
        asked: Option<Millis>,
    ) -> Result<(), Refusal> {
        let id = ReservationId::parse("lease", lease.as_str())?;
        let found = match pid {
            Some(pid) => {
                let process = self.held_or_reserved(pid, &id)?;
                process.reservations.contains_key(&id).then(|| pid.clone())
            }
            None => {
                let mut having = self.state.leases.reserved_by(&id).peekable();
                let some = having.peek().is_some();
                let own = having.find(|pid| self.held_or_reserved(pid, &id).is_ok()).cloned();
                if some && own.is_none() {
                    return Err(not_holder());
                }
                own
            }
        };
        let Some(pid) = found else {
            return Err(no_lease(lease));
        };
        let length = self.lease_length(asked, self.state.config.reservation_lease_ms)?;
        let until = self.now.plus(length);
        let before = self.known(&pid)?.reservations.get(&id).map(|open| open.until);
        if before < Some(until) {
            self.emit_process(&pid, ProcessEvent::LeaseRenewed { lease: lease.clone(), until });
        }
        self.touch_lease(&pid);
        Ok(())
    }

    /// Checks how long a lease is asked for (K25).
    pub(super) fn lease_length(
        &self,
        asked: Option<Millis>,
        otherwise: Millis,
    ) -> Result<Millis, Refusal> {
        match asked {
            None => Ok(otherwise),
            Some(lease) => {
                self.state.config.limits.check_lease("lease_ms", lease)?;
                Ok(lease)
            }
        }
    }

    /// Says whether the caller holds what `holder` has. A call that names no worker may come from
    /// any of the user's: the lease itself is what it was given (13.2).
    pub(super) fn holds(&self, holder: &Holder) -> bool {
        let worker = self.worker.as_ref().is_none_or(|worker| *worker == holder.worker);
        self.by.user == holder.user && worker
    }
}

/// The refusal for a lease that is someone else's.
pub(super) fn not_holder() -> Refusal {
    Refusal::new(Code::NotHolder, "somebody else holds the lease")
}

/// The refusal for a lease that is not known, or has ended (K196).
pub(super) fn no_lease(lease: &LeaseId) -> Refusal {
    Refusal::new(Code::LeaseNotFound, format!("lease not found: {lease}")).about("lease", lease)
}

/// The refusal for a lease that is not the live try's (K206, K211).
pub(super) fn stale(lease: &LeaseId) -> Refusal {
    let told = format!("lease {lease} is no longer the live try's");
    Refusal::new(Code::StaleLease, told).about("lease", lease)
}
