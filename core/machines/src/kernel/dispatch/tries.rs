//! The tries of a dispatch: when one starts, and what follows when it ends (K203, K207–K210).

use std::sync::Arc;

use crate::kernel::decision::Decision;
use crate::kernel::event::QuotaEvent;
use crate::kernel::ids::{DispatchId, LeaseId, ServiceName};
use crate::kernel::json::Json;
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::principal::Holder;
use crate::kernel::process::ContentHash;
use crate::kernel::refusal::Code;
use crate::kernel::services::desk::starts_by_itself;
use crate::kernel::services::{Service, ServiceMode};
use crate::kernel::time::Time;

use super::DispatchOutcome;
use super::event::DispatchEvent;

/// Says whether the node itself makes the tries (K192).
pub(super) const fn is_push(service: &Service) -> bool {
    match service.info.mode {
        ServiceMode::Push => true,
        ServiceMode::Pull => false,
    }
}

impl Decision<'_> {
    /// Returns whose turn it is at a service, if there is room for a try (K194, K203). None starts
    /// while the node drains (K362).
    pub(super) fn next_waiting(&self, name: &ServiceName) -> Option<DispatchId> {
        let service = self.state.services.get(name)?;
        let room = self.state.desks.load(name) < service.capacity();
        if !room || self.state.counters.draining.is_some() {
            return None;
        }
        let ageing = self.state.config.ageing_ms;
        self.state.desks.desk(name)?.waiting.next(ageing).cloned()
    }

    /// Starts what the node itself can start at a service (K204).
    pub(in crate::kernel) fn pump(&mut self, name: &ServiceName) {
        if !self.state.services.get(name).is_some_and(starts_by_itself) {
            return;
        }
        while let Some(id) = self.next_waiting(name) {
            self.start_try(&id, None);
        }
    }

    /// Starts a try, by a worker or by the node itself (K204, K205).
    pub(super) fn start_try(&mut self, id: &DispatchId, holder: Option<Holder>) {
        let Some(row) = self.state.dispatches.get(id) else {
            return;
        };
        let again = row.tries > 0 && row.created_at < self.state.counters.started_at;
        crate::sometimes!("kernel.retry_after_crash", again);
        let (pid, reservation) = (row.request.pid.clone(), row.reservation.clone());
        let (tries, timeout) = (row.tries + 1, row.request.try_timeout_ms);
        let deadline = self.now.plus(timeout);
        let until = match &holder {
            Some(_) => self.now.plus(self.state.config.task_lease_ms),
            None => deadline,
        };
        let lease: LeaseId = self.mint(|state, lease| state.slots.contains(lease));
        let dispatch = id.clone();
        let event = DispatchEvent::Started { dispatch, tries, lease, holder, deadline, until };
        self.emit_dispatch(id, event);
        if let (Some(pid), Some(reservation)) = (pid, reservation) {
            // The call may be made from now on: it is charged whatever comes of it (K212).
            let process = self.state.process(&pid);
            let open = process.and_then(|process| process.reservations.get(&reservation));
            if let Some(actual) = open.map(|open| open.amounts) {
                let excess = crate::kernel::quota::Amounts::ZERO;
                self.emit_quota(&pid, QuotaEvent::Settled { reservation, actual, excess });
                self.watch(&pid);
            }
        }
    }

    pub(in crate::kernel) fn renew_try(&mut self, id: &DispatchId, lease: &LeaseId, until: Time) {
        let (dispatch, lease) = (id.clone(), lease.clone());
        self.emit_dispatch(id, DispatchEvent::Renewed { dispatch, lease, until });
    }

    /// A try succeeded, and so the dispatch has.
    pub(super) fn succeed(&mut self, id: &DispatchId, data: Option<Json>, content: ContentHash) {
        self.end_dispatch(id, DispatchOutcome::Succeeded, data, None, Some(content));
        self.pump_for(id);
    }

    /// A try failed: there is another one, or the dispatch has failed (K209).
    pub(super) fn fail_try(
        &mut self,
        id: &DispatchId,
        kind: ErrorKind,
        error: &str,
        completed: Option<ContentHash>,
    ) {
        let Some(row) = self.state.dispatches.get(id) else {
            return;
        };
        let failures = row.failures.saturating_add(1);
        let (retry, tries) = (row.request.retry.clone(), row.tries);
        match retry.retries(kind, failures) {
            true => {
                let drawn = self.draw(retry.jitter_pct);
                let retry_at = self.now.plus(retry.backoff(failures, drawn));
                let (dispatch, error) = (id.clone(), Arc::from(error));
                let event = DispatchEvent::RetryScheduled {
                    dispatch,
                    tries,
                    error,
                    kind,
                    retry_at,
                    completed,
                };
                self.emit_dispatch(id, event);
            }
            false => {
                let error = Some((error, kind.name()));
                self.end_dispatch(id, DispatchOutcome::Failed, None, error, completed);
            }
        }
        self.pump_for(id);
    }

    /// A try took too long (K208).
    pub(in crate::kernel) fn time_out_try(&mut self, id: &DispatchId) {
        self.fail_try(id, ErrorKind::Timeout, "the try took too long", None);
    }

    /// The worker of a try was not heard of: it is handed out again, so many times (K210).
    pub(in crate::kernel) fn lose_try(&mut self, id: &DispatchId) {
        let Some(row) = self.state.dispatches.get(id) else {
            return;
        };
        crate::sometimes!("kernel.slot_recovered");
        let told = "the worker went away";
        if u64::from(row.lost) >= self.state.config.max_lost {
            self.finish(id, DispatchOutcome::Lost, (told, Code::WorkerLost.as_str()));
        } else {
            let event = DispatchEvent::RetryScheduled {
                dispatch: id.clone(),
                tries: row.tries,
                error: Arc::from(told),
                kind: ErrorKind::WorkerLost,
                retry_at: self.now,
                completed: None,
            };
            self.emit_dispatch(id, event);
        }
        self.pump_for(id);
    }

    /// The time of the next try has come (K209).
    pub(in crate::kernel) fn requeue(&mut self, id: &DispatchId) {
        if let Some(row) = self.state.dispatches.get(id) {
            let (dispatch, service) = (id.clone(), row.service.clone());
            self.emit_dispatch(id, DispatchEvent::Requeued { dispatch, service });
            self.pump_for(id);
        }
    }

    /// A dispatch took too long (K208).
    pub(in crate::kernel) fn time_out_dispatch(&mut self, id: &DispatchId) {
        let error = ("dispatch timeout", Code::DispatchTimeout.as_str());
        self.finish(id, DispatchOutcome::TimedOut, error);
        self.pump_for(id);
    }

    /// Ends a dispatch without a result.
    pub(in crate::kernel) fn finish(
        &mut self,
        id: &DispatchId,
        outcome: DispatchOutcome,
        error: (&str, &str),
    ) {
        self.end_dispatch(id, outcome, None, Some(error), None);
    }

    /// Ends a dispatch, once (K207). What was reserved and never tried is given back (K212).
    fn end_dispatch(
        &mut self,
        id: &DispatchId,
        outcome: DispatchOutcome,
        data: Option<Json>,
        error: Option<(&str, &str)>,
        completed: Option<ContentHash>,
    ) {
        let Some(row) = self.state.dispatches.get(id).filter(|row| row.end().is_none()) else {
            return;
        };
        let (pid, reservation) = (row.request.pid.clone(), row.reservation.clone());
        let event = DispatchEvent::Finished {
            dispatch: id.clone(),
            outcome,
            data,
            error: error.map(|(error, _)| Arc::from(error)),
            error_code: error.map(|(_, code)| Arc::from(code)),
            tries: row.tries,
            completed,
        };
        self.emit_dispatch(id, event);
        if let (Some(pid), Some(reservation)) = (pid, reservation) {
            let process = self.state.process(&pid);
            if process.is_some_and(|process| process.reservations.contains_key(&reservation)) {
                self.emit_quota(&pid, QuotaEvent::Released { reservation });
            }
        }
    }

    fn pump_for(&mut self, id: &DispatchId) {
        if let Some(service) = self.state.dispatches.get(id).map(|row| row.service.clone()) {
            self.pump(&service);
        }
    }
}
