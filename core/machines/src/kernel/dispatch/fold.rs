//! What events of dispatches change (K3).

use std::collections::VecDeque;

use crate::kernel::deadlines::Due;
use crate::kernel::ids::{DispatchId, ServiceName, UserId};
use crate::kernel::json::Json;
use crate::kernel::names::Priority;
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::process::ContentHash;
use crate::kernel::ready::Entry;
use crate::kernel::services::Slot;
use crate::kernel::state::State;
use crate::kernel::time::Time;

use super::event::DispatchEvent;
use super::{Dispatch, End, EndedTry, Stage, Try, Turn};

impl State {
    pub(in crate::kernel) fn apply_dispatch(&mut self, now: Time, event: &DispatchEvent) {
        match event {
            DispatchEvent::Queued { .. } => self.queue(now, event),
            DispatchEvent::Requeued { dispatch, service: _ } => {
                let number = self.counters.events;
                self.rework(dispatch, false, |row| {
                    row.stage = Stage::Waiting { since: now, number };
                });
            }
            DispatchEvent::Started { .. } => self.start_try(now, event),
            DispatchEvent::Renewed { dispatch: _, lease, until } => {
                let service = self.slots.get(lease).map(|slot| slot.service.clone());
                self.renew_slot(now, lease, *until);
                if let Some(service) = service {
                    self.hear(now, &service);
                }
            }
            DispatchEvent::RetryScheduled { dispatch, kind, retry_at, completed, .. } => {
                self.end_try(now, dispatch, *completed);
                let number = self.counters.events;
                self.rework(dispatch, false, |row| {
                    match *kind == ErrorKind::WorkerLost {
                        true => row.lost += 1,
                        false => row.failures += 1,
                    }
                    row.stage = match *retry_at <= now {
                        true => Stage::Waiting { since: now, number },
                        false => Stage::Pausing { until: *retry_at },
                    };
                });
            }
            DispatchEvent::Finished { dispatch, completed, .. } => {
                self.end_try(now, dispatch, *completed);
                self.finish(now, dispatch, event);
            }
            DispatchEvent::Removed { ids } => ids.iter().for_each(|id| self.drop_dispatch(id)),
        }
    }

    fn queue(&mut self, now: Time, event: &DispatchEvent) {
        let DispatchEvent::Queued { dispatch, user, request, service, content, reservation } =
            event
        else {
            return;
        };
        let row = Dispatch {
            user: user.clone(),
            request: request.clone(),
            service: service.clone(),
            content: *content,
            created_at: now,
            reservation: reservation.clone(),
            tries: 0,
            failures: 0,
            lost: 0,
            remembered: VecDeque::new(),
            stage: Stage::Waiting { since: now, number: self.counters.events },
        };
        self.desks.note_dispatch(dispatch, &row, true);
        self.dispatches.insert(dispatch.clone(), row);
        self.join_queue(dispatch);
        self.follow_dispatch(dispatch);
    }

    fn start_try(&mut self, now: Time, event: &DispatchEvent) {
        let DispatchEvent::Started { dispatch, tries, lease, holder, deadline, until } = event
        else {
            return;
        };
        let Some(row) = self.dispatches.get(dispatch) else {
            return;
        };
        let (service, pid) = (row.service.clone(), row.request.pid.clone());
        let slot = Slot {
            service: service.clone(),
            pid: pid.clone(),
            holder: holder.clone(),
            until: *until,
            length: until.since(now),
            dispatch: Some(dispatch.clone()),
        };
        let (lease, deadline, epoch) = (lease.clone(), *deadline, self.counters.epoch);
        self.take_slot(&lease, slot);
        self.rework(dispatch, true, |row| {
            row.tries = *tries;
            row.reservation = None;
            row.stage = Stage::Running { live: Try { lease, started_at: now, deadline, epoch } };
        });
        if let Some(pid) = pid {
            self.processes.update(&pid, |process| process.current_service = Some(service));
        }
    }

    /// Ends the live try: its slot is free, and its lease is remembered.
    fn end_try(&mut self, now: Time, id: &DispatchId, completed: Option<ContentHash>) {
        let Some(row) = self.dispatches.get(id) else {
            return;
        };
        let Some(lease) = row.live().map(|live| live.lease.clone()) else {
            return;
        };
        let (service, pid) = (row.service.clone(), row.request.pid.clone());
        let holder = self.slots.get(&lease).and_then(|slot| slot.holder.clone());
        self.free_slot(&lease);
        if completed.is_some() {
            self.hear(now, &service);
        }
        self.rework(id, false, |row| {
            row.remember(EndedTry { lease, content: completed, holder });
        });
        if let Some(pid) = pid {
            let current = self.process(&pid).and_then(|process| process.current_service.as_ref());
            if current == Some(&service) {
                let other = self.desks.runs_at(&pid, id).cloned();
                self.processes.update(&pid, |process| process.current_service = other);
            }
        }
    }

    fn finish(&mut self, now: Time, id: &DispatchId, event: &DispatchEvent) {
        let DispatchEvent::Finished { outcome, data, error, error_code, .. } = event else {
            return;
        };
        let end = End {
            outcome: *outcome,
            data: data.clone(),
            error: error.clone(),
            error_code: error_code.clone(),
            at: now,
        };
        self.rework(id, false, |row| {
            row.reservation = None;
            row.request.data = Json::NULL;
            row.stage = Stage::Ended { end };
        });
    }

    fn drop_dispatch(&mut self, id: &DispatchId) {
        self.leave_queue(id, false);
        if let Some(row) = self.dispatches.remove(id) {
            self.desks.note_dispatch(id, &row, false);
            self.follow_dispatch(id);
        }
    }

    /// Changes a row, and all that is known by it. `served` says that it was its turn (K72).
    fn rework(&mut self, id: &DispatchId, served: bool, change: impl FnOnce(&mut Dispatch)) {
        self.leave_queue(id, served);
        let Some(row) = self.dispatches.get(id) else {
            return;
        };
        self.desks.note_dispatch(id, row, false);
        self.dispatches.update(id, change);
        if let Some(row) = self.dispatches.get(id) {
            self.desks.note_dispatch(id, row, true);
        }
        self.join_queue(id);
        self.follow_dispatch(id);
    }

    fn leave_queue(&mut self, id: &DispatchId, served: bool) {
        let Some(row) = self.dispatches.get(id) else {
            return;
        };
        let (service, user) = (row.service.clone(), row.user.clone());
        let priority = row.request.priority;
        if self.desks.desk(&service).is_none_or(|desk| desk.waiting.entry(id).is_none()) {
            return;
        }
        let number = self.counters.events;
        let waiting = &mut self.desks.desk_mut(&service).waiting;
        waiting.number_turns(number);
        match served {
            true => waiting.serve(id),
            false => waiting.remove(id),
        }
        self.follow_turn(service, priority, user);
    }

    fn join_queue(&mut self, id: &DispatchId) {
        let Some(row) = self.dispatches.get(id) else {
            return;
        };
        let (service, user) = (row.service.clone(), row.user.clone());
        let priority = row.request.priority;
        if let Stage::Waiting { since, number } = row.stage {
            let now = self.counters.events;
            let entry = Entry { user: user.clone(), priority, ready_at: since, number };
            let waiting = &mut self.desks.desk_mut(&service).waiting;
            waiting.number_turns(now);
            waiting.push(id.clone(), entry);
            self.follow_turn(service, priority, user);
        } else {
            self.follow_service(&service);
        }
    }

    /// Keeps the turn of a user, or drops it with the last that waits.
    fn follow_turn(&mut self, service: ServiceName, priority: Priority, user: UserId) {
        let turn = self.desks.desk(&service).and_then(|desk| desk.waiting.turn(priority, &user));
        let key = Turn { service, priority, user };
        match turn {
            Some(turn) if self.turns.get(&key) != Some(&turn) => {
                self.turns.insert(key.clone(), turn);
            }
            Some(_) => {}
            None => {
                self.turns.remove(&key);
            }
        }
        self.follow_service(&key.service);
    }

    /// Brings the deadlines of a dispatch up to its row.
    pub(in crate::kernel) fn follow_dispatch(&mut self, id: &DispatchId) {
        let row = self.dispatches.get(id);
        let open = row.filter(|row| row.end().is_none());
        let deadline = open.and_then(Dispatch::deadline);
        let timeout = open.and_then(Dispatch::live).map(|live| live.deadline);
        let retry = match row.map(|row| &row.stage) {
            Some(Stage::Pausing { until }) => Some(*until),
            Some(Stage::Waiting { .. } | Stage::Running { .. } | Stage::Ended { .. }) | None => {
                None
            }
        };
        self.deadlines.set(Due::DispatchDeadline(id.clone()), deadline);
        self.deadlines.set(Due::TryTimeout(id.clone()), timeout);
        self.deadlines.set(Due::DispatchRetry(id.clone()), retry);
    }

    /// Finds the queues, indexes and deadlines of dispatches again from the tables (K12).
    pub(in crate::kernel) fn derive_dispatches(&mut self) {
        let rows = self.dispatches.clone();
        for (id, row) in &rows {
            self.desks.note_dispatch(id, row, true);
            self.follow_dispatch(id);
            if let Stage::Waiting { since, number } = row.stage {
                let (user, priority) = (row.user.clone(), row.request.priority);
                let entry = Entry { user, priority, ready_at: since, number };
                let waiting = &mut self.desks.desk_mut(&row.service).waiting;
                if waiting.is_empty() {
                    // Above all turns that are restored below.
                    waiting.number_turns(1 << 63);
                }
                waiting.push(id.clone(), entry);
            }
        }
        let turns = self.turns.clone();
        for (key, turn) in &turns {
            let waiting = &mut self.desks.desk_mut(&key.service).waiting;
            waiting.restore_turn(key.priority, &key.user, *turn);
        }
    }
}
