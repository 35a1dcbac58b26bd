//! The state of the kernel, and the one way in which it changes: events (K3).
//!
//! What is in tables is covered by the root; what is not is found again from them (K12).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::ledger::table::Table;
use crate::wire_struct;

use super::config::KernelConfig;
use super::deadlines::{Deadlines, Due};
use super::dispatch::{Dispatch, Turn};
use super::envelopes::Envelope;
use super::envelopes::index::EnvelopeIndex;
use super::event::{Body, Cause, Event, KernelEvent, ProcessEvent, QuotaEvent, Subject};
use super::housekeeping::{Over, StopMode};
use super::ids::{
    DispatchId, EnvelopeId, InterruptId, LeaseId, ProcessId, ReservationId, ServiceName, UserId,
};
use super::interrupts::approval::Approval;
use super::interrupts::fold::InterruptCounts;
use super::interrupts::index::Index;
use super::interrupts::interrupt::Interrupt;
use super::leases::LeaseIndex;
use super::names::ProcessState;
use super::part::Singles;
use super::process::{Closed, Process, Remembered, Reservation, record_key};
use super::query::index::{Place, ProcessIndex};
use super::quota::{Account, Amounts, Limit, QuotaField, Resource};
use super::rates::Rates;
use super::ready::{Entry, ReadySet};
use super::services::desk::Desks;
use super::services::{Service, Slot};
use super::sessions::Session;
use super::sessions::state::SessionTally;
use super::time::{Millis, Time};

/// What is counted for ever (K100, K350).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counters {
    /// Events applied; the number of the last one (K22).
    pub events: u64,
    /// The time of the last one (K7).
    pub last: Time,
    /// Starts (K11).
    pub epoch: u64,
    /// When the node was started last.
    pub started_at: Time,
    /// Processes ever made.
    pub processes: u64,
    /// What they used in all.
    pub used: Amounts,
    /// Interrupts, and what became of them (K174).
    pub interrupts: InterruptCounts,
    /// Until when the node drains, while it does (K362).
    pub draining: Option<Time>,
    /// How it stops then, if it does (K363).
    pub stop: Option<StopMode>,
    /// Whether work was live when the deadline had come.
    pub cut: bool,
    /// Whether it was stopped and not started since.
    pub stopped: bool,
}

wire_struct!(Counters {
    events,
    last,
    epoch,
    started_at,
    processes,
    used,
    interrupts,
    draining,
    stop,
    cut,
    stopped
});

/// How many processes are in a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tally([u64; 7]);

impl Tally {
    /// Returns how many there are in a state.
    #[must_use]
    pub const fn of(&self, state: ProcessState) -> u64 {
        self.0[state.number() as usize - 1]
    }

    pub(super) fn shift(&mut self, from: Option<ProcessState>, to: Option<ProcessState>) {
        let place = |state: ProcessState| usize::from(state.number() - 1);
        if let Some(from) = from {
            self.0[place(from)] -= 1;
        }
        if let Some(to) = to {
            self.0[place(to)] += 1;
        }
    }
}

/// Everything that the kernel knows.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) config: KernelConfig,
    pub(super) counters: Counters,
    pub(super) processes: Table<ProcessId, Process>,
    /// Who waits to be run: by workers, and by the executor (K74, K290).
    pub(super) ready: [ReadySet; 2],
    /// Who did how much of late (K130).
    pub(super) rates: Rates,
    pub(super) envelopes: Table<EnvelopeId, Envelope>,
    pub(super) sessions: Table<ProcessId, Session>,
    pub(super) singles: Singles,
    pub(super) interrupts: Table<InterruptId, Interrupt>,
    pub(super) approvals: Table<InterruptId, Approval>,
    // Derived.
    pub(super) envelope_index: EnvelopeIndex,
    pub(super) session_tally: SessionTally,
    pub(super) process_index: ProcessIndex,
    pub(super) services: Table<ServiceName, Service>,
    pub(super) slots: Table<LeaseId, Slot>,
    pub(crate) dispatches: Table<DispatchId, Dispatch>,
    /// Who has which turn among those who wait for a service (K72, K203).
    pub(super) turns: Table<Turn, u64>,
    // Derived.
    pub(super) desks: Desks,
    pub(super) leases: LeaseIndex,
    pub(super) over: Over,
    pub(super) deadlines: Deadlines,
    pub(super) asked: Index,
    pub(super) tally: Tally,
    pub(super) live_of: BTreeMap<UserId, u64>,
}

impl State {
    /// The state before any event.
    #[must_use]
    pub fn new(config: KernelConfig) -> Self {
        Self {
            config,
            counters: Counters::default(),
            processes: Table::new(),
            ready: [ReadySet::new(), ReadySet::new()],
            rates: Rates::default(),
            envelopes: Table::new(),
            sessions: Table::new(),
            envelope_index: EnvelopeIndex::default(),
            session_tally: SessionTally::default(),
            process_index: ProcessIndex::default(),
            singles: Singles::new(),
            interrupts: Table::new(),
            approvals: Table::new(),
            services: Table::new(),
            slots: Table::new(),
            dispatches: Table::new(),
            turns: Table::new(),
            desks: Desks::default(),
            leases: LeaseIndex::default(),
            over: Over::default(),
            deadlines: Deadlines::default(),
            asked: Index::default(),
            tally: Tally::default(),
            live_of: BTreeMap::new(),
        }
    }

    /// Returns the configuration that is in force (K11).
    #[must_use]
    pub const fn config(&self) -> &KernelConfig {
        &self.config
    }

    /// Returns a process.
    #[must_use]
    pub fn process(&self, pid: &ProcessId) -> Option<&Process> {
        self.processes.get(pid)
    }

    /// Returns who waits to be run: by the executor if `driven`, else by workers (K74, K290).
    #[must_use]
    pub const fn ready(&self, driven: bool) -> &ReadySet {
        &self.ready[driven as usize]
    }

    /// Says whether something acts by itself at a time (K10).
    #[must_use]
    pub fn is_due_at(&self, at: Time, due: &Due) -> bool {
        self.deadlines.has(at, due)
    }

    /// Returns who did how much of late.
    #[must_use]
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Counts the processes, in whatever state (K63).
    #[must_use]
    pub const fn process_count(&self) -> u32 {
        self.processes.len()
    }

    /// Goes through a process and its ancestors that are still known, nearest first (K102).
    pub(super) fn lineage<'a>(
        &'a self,
        pid: &'a ProcessId,
    ) -> impl Iterator<Item = (&'a ProcessId, &'a Process)> {
        let known = |pid: &'a ProcessId| Some((pid, self.process(pid)?));
        std::iter::successors(known(pid), move |(_, process)| known(process.parent.as_ref()?))
    }

    /// Changes the state as `event` says; nothing else does (K3).
    pub fn apply(&mut self, event: &Event) {
        self.counters.events += 1;
        let away = event.time.since(self.counters.last);
        self.counters.last = self.counters.last.max(event.time);
        match &event.body {
            Body::Kernel { event: body } => self.apply_kernel((event.time, away), body),
            Body::Process { event: body } => {
                if let Some(pid) = &event.subject.pid {
                    self.apply_process(event.time, pid, &event.subject, body);
                    self.follow(pid);
                }
            }
            Body::Interrupt { event: body } => {
                self.apply_interrupt(event.time, body);
                if let Some(pid) = &event.subject.pid {
                    self.note_interrupt(event.time, pid, body);
                }
            }
            Body::Approval { event: body } => self.apply_approval(event.time, body),
            Body::Quota { event: body } => {
                if let Some(pid) = &event.subject.pid {
                    self.apply_quota(pid, body);
                    self.follow(pid);
                }
            }
            Body::Rate { event: body } => self.rates.apply(event.time, body),
            Body::Envelope { event: body } => self.apply_envelope(event.time, body),
            Body::Session { event: body } => {
                if let Some(pid) = &event.subject.pid {
                    self.apply_session(event.time, pid, body);
                }
            }
            Body::Service { event: body } => self.apply_service(event.time, body),
            Body::Slot { event: body } => self.apply_slot(event.time, body),
            Body::Dispatch { event: body } => self.apply_dispatch(event.time, body),
        }
        self.follow_housekeeping();
    }

    /// `away` is how long before `now` the last event was.
    fn apply_kernel(&mut self, (now, away): (Time, Millis), event: &KernelEvent) {
        match event {
            KernelEvent::Started { epoch, config } => {
                self.counters.epoch = *epoch;
                self.counters.started_at = now;
                self.counters.draining = None;
                self.counters.stop = None;
                self.counters.cut = false;
                self.counters.stopped = false;
                self.config = config.as_ref().clone();
                self.restart(now, away);
                self.restart_services(now);
            }
            KernelEvent::Draining { deadline, stop, cut } => {
                self.counters.draining = Some(*deadline);
                self.counters.stop = *stop;
                self.counters.cut = *cut;
            }
            KernelEvent::Stopped { .. } => self.counters.stopped = true,
        }
    }

    /// Gives leases that would end sooner their full length again, and lets the time since the last
    /// event be nobody's active time (K11). How long what is over is kept may have changed, too.
    fn restart(&mut self, now: Time, away: Millis) {
        let lease = now.plus(self.config.run_lease_ms);
        let concerned = |process: &Process| {
            process.run_lease.is_some()
                || process.running_since.is_some()
                || !process.reservations.is_empty()
                || !process.is_live()
        };
        let pids = self.processes.iter().filter(|(_, process)| concerned(process));
        let pids: Vec<ProcessId> = pids.map(|(pid, _)| pid.clone()).collect();
        for pid in pids {
            self.processes.update(&pid, |process| {
                if let Some(run) = &mut process.run_lease {
                    run.until = run.until.max(lease);
                }
                if let Some(since) = &mut process.running_since {
                    *since = since.plus(away);
                }
                for reservation in process.reservations.values_mut() {
                    reservation.until = reservation.until.max(now.plus(reservation.length));
                }
            });
            self.follow(&pid);
            self.follow_reservations(&pid);
        }
    }

    /// Brings the derived deadlines of a process up to its row.
    pub(super) fn follow(&mut self, pid: &ProcessId) {
        let process = self.processes.get(pid);
        self.deadlines.follow(pid, process);
        if let Some(process) = process.filter(|process| process.depth > 0) {
            let above = process.parent.as_ref().and_then(|parent| self.processes.get(parent));
            let ended = process.is_live() && above.is_some_and(|above| !above.is_live());
            let due = Due::Orphan(Reverse(process.depth), pid.clone());
            self.deadlines.set(due, ended.then_some(Time::ZERO));
        }
    }

    /// The same for all below: whether their parent lives concerns them (K84).
    fn follow_below(&mut self, pid: &ProcessId) {
        let below = self.processes.get(pid).map(|process| process.children.clone());
        below.iter().flatten().for_each(|child| self.follow(child));
    }

    /// Shows what follows from the tables, to be compared after a load (K12).
    #[cfg(test)]
    pub(super) fn derived(&self) -> impl PartialEq + std::fmt::Debug {
        (
            self.config.clone(),
            self.counters,
            self.ready.clone(),
            self.deadlines.clone(),
            self.tally,
            self.live_of.clone(),
            self.asked.clone(),
            self.rates.clone(),
            self.over.clone(),
            self.envelope_index.clone(),
            self.session_tally,
            self.process_index.clone(),
        )
    }

    /// Finds what follows from the rows of processes.
    pub(super) fn derive_processes(&mut self) {
        self.deadlines = Deadlines::default();
        self.tally = Tally::default();
        self.live_of.clear();
        self.process_index = ProcessIndex::derive(&self.processes);
        self.over = Over::derive(&self.processes);
        let pids: Vec<ProcessId> = self.processes.iter().map(|(pid, _)| pid.clone()).collect();
        for pid in pids {
            if let Some(process) = self.processes.get(&pid) {
                self.tally.shift(None, Some(process.state));
                if process.is_live() {
                    *self.live_of.entry(process.user.clone()).or_default() += 1;
                }
            }
            self.follow(&pid);
            self.follow_reservations(&pid);
        }
    }

    fn follow_reservations(&mut self, pid: &ProcessId) {
        let Some(process) = self.processes.get(pid) else {
            return;
        };
        for (id, reservation) in &process.reservations {
            let due = Due::Reservation(pid.clone(), id.clone());
            self.deadlines.set(due, Some(reservation.until));
        }
    }

    fn apply_process(
        &mut self,
        now: Time,
        pid: &ProcessId,
        subject: &Subject,
        event: &ProcessEvent,
    ) {
        match event {
            ProcessEvent::Created { .. } => self.create(now, pid, subject, event),
            ProcessEvent::StateChanged { from: _, to, cause, lease, block, wait } => {
                self.enter(now, pid, (*to, *cause), |process| {
                    process.run_lease = lease.clone().map(Box::new);
                    process.block.clone_from(block);
                    process.wait.clone_from(wait);
                });
            }
            ProcessEvent::LeaseRenewed { lease, until } => {
                let runs = self.processes.get(pid).and_then(|process| process.run_lease.as_ref());
                if runs.is_some_and(|run| run.lease == *lease) {
                    self.processes.update(pid, |process| {
                        if let Some(run) = &mut process.run_lease {
                            run.until = *until;
                        }
                    });
                } else {
                    self.renew_reservation(pid, lease, *until);
                }
            }
            ProcessEvent::Terminated { reason, outcome: _, message, usage: _ } => {
                self.enter(now, pid, (ProcessState::Terminated, Cause::Asked), |process| {
                    process.run_lease = None;
                    process.block = None;
                    process.wait = None;
                    process.completed_at = Some(now);
                    process.terminal_reason = Some(*reason);
                    process.termination_message = Some(Arc::clone(message));
                });
                self.follow_below(pid);
                self.forget_rate(pid);
            }
            ProcessEvent::Removed => self.remove(pid),
        }
    }

    fn create(&mut self, now: Time, pid: &ProcessId, subject: &Subject, event: &ProcessEvent) {
        let ProcessEvent::Created {
            priority,
            quota,
            parent,
            driven,
            on_exhausted,
            digest,
            metadata,
        } = event
        else {
            return;
        };
        let (Some(user), Some(session), Some(request)) =
            (&subject.user, &subject.session, &subject.request)
        else {
            return;
        };
        let above = parent.as_ref().and_then(|parent| self.processes.get(parent));
        let depth = above.map_or(0, |above| above.depth + 1);
        let process = Process {
            request: request.clone(),
            user: user.clone(),
            session: session.clone(),
            state: ProcessState::New,
            priority: *priority,
            driven: *driven,
            on_exhausted: *on_exhausted,
            quota: **quota,
            account: Account::default(),
            created_at: now,
            started_at: None,
            completed_at: None,
            last_scheduled_at: None,
            ready_at: None,
            running_since: None,
            current_stage: None,
            current_service: None,
            interrupts: Vec::new(),
            blocking: 0,
            interrupts_ever: 0,
            block: None,
            wait: None,
            run_lease: None,
            parent: parent.clone(),
            depth,
            children: BTreeSet::new(),
            terminal_reason: None,
            termination_message: None,
            digest: *digest,
            metadata: metadata.clone(),
            reservations: BTreeMap::new(),
            closed: VecDeque::new(),
        };
        self.process_index.shift(pid, None, Some(Place::of(&process)));
        self.processes.insert(pid.clone(), process);
        if let Some(parent) = parent {
            self.processes.update(parent, |above| {
                above.children.insert(pid.clone());
            });
        }
        self.counters.processes += 1;
        self.tally.shift(None, Some(ProcessState::New));
        *self.live_of.entry(user.clone()).or_default() += 1;
    }

    /// Puts a process into a state, with all that follows from it.
    fn enter(
        &mut self,
        now: Time,
        pid: &ProcessId,
        (to, cause): (ProcessState, Cause),
        change: impl FnOnce(&mut Process),
    ) {
        let Some(process) = self.processes.get(pid) else {
            return;
        };
        let (from, user, driven) = (process.state, process.user.clone(), process.driven);
        let place = Place::of(process);
        self.leases.forget_run(process);
        self.over.remove(pid, process);
        self.processes.update(pid, |process| {
            change(process);
            process.state = to;
            if let Some(since) = process.running_since.take() {
                process.account.used.elapsed_ms += now.since(since);
            }
            match to {
                ProcessState::Running => {
                    process.running_since = Some(now);
                    process.last_scheduled_at = Some(now);
                    process.started_at = process.started_at.or(Some(now));
                }
                ProcessState::Ready => process.ready_at = Some(now),
                ProcessState::Zombie => process.bury(),
                ProcessState::New
                | ProcessState::Waiting
                | ProcessState::Blocked
                | ProcessState::Terminated => {}
            }
        });
        if let Some(process) = self.processes.get(pid) {
            self.leases.note_run(pid, process);
            self.over.add(pid, process);
        }
        self.tally.shift(Some(from), Some(to));
        let now_at = self.processes.get(pid).map(Place::of);
        self.process_index.shift(pid, Some(place), now_at);
        if to.is_terminal() && !from.is_terminal() {
            self.forget_live(&user);
        }
        let ready = &mut self.ready[usize::from(driven)];
        match cause {
            Cause::Served => ready.serve(pid),
            Cause::Scheduled
            | Cause::Claimed
            | Cause::Released
            | Cause::Asked
            | Cause::LeaseExpired
            | Cause::Interrupted
            | Cause::Answered
            | Cause::Due
            | Cause::Backoff
            | Cause::Rate
            | Cause::Retention => ready.remove(pid),
        }
        self.join_ready(pid);
    }

    /// Lets a Ready process that is not held wait for its turn (K62, K70).
    pub(super) fn join_ready(&mut self, pid: &ProcessId) {
        let Some(process) = self.processes.get(pid) else {
            return;
        };
        if let (ProcessState::Ready, false, Some(ready_at)) =
            (process.state, process.is_held(), process.ready_at)
        {
            let (user, priority) = (process.user.clone(), process.priority);
            let entry = Entry { user, priority, ready_at, number: self.counters.events };
            self.ready[usize::from(process.driven)].push(pid.clone(), entry);
        }
    }

    fn forget_live(&mut self, user: &UserId) {
        if let Some(live) = self.live_of.get_mut(user) {
            *live -= 1;
            if *live == 0 {
                self.live_of.remove(user);
            }
        }
    }

    fn remove(&mut self, pid: &ProcessId) {
        let Some(process) = self.processes.remove(pid) else {
            return;
        };
        self.over.remove(pid, &process);
        self.tally.shift(Some(process.state), None);
        self.process_index.shift(pid, Some(Place::of(&process)), None);
        self.leases.forget_run(&process);
        for id in process.reservations.keys() {
            self.leases.forget_reservation(pid, id);
            self.deadlines.set(Due::Reservation(pid.clone(), id.clone()), None);
        }
        if let Some(parent) = &process.parent {
            self.processes.update(parent, |above| {
                above.children.remove(pid);
                above.children.extend(process.children.iter().cloned());
            });
        }
        // What its children still hold or use is charged above all the same; only the one that was
        // removed is skipped (K102), and never taken for another that has its pid later.
        for child in &process.children {
            self.processes.update(child, |below| below.parent.clone_from(&process.parent));
            self.follow(child);
        }
        self.deadlines.set(Due::Orphan(Reverse(process.depth), pid.clone()), None);
    }

    fn apply_quota(&mut self, pid: &ProcessId, event: &QuotaEvent) {
        match event {
            QuotaEvent::Reserved { reservation, attempt, amounts, until, content, holder } => {
                let (attempt, amounts, holder) = (attempt.clone(), *amounts, holder.clone());
                let drawn = self.draw_hold(pid, attempt.as_ref(), &amounts);
                let length = until.since(self.counters.last);
                let (until, content) = (*until, *content);
                let held = Reservation { attempt, amounts, until, length, content, holder };
                self.processes.update(pid, |process| {
                    process.reservations.insert(reservation.clone(), held);
                });
                self.process_index.note_reservations(0, 1);
                self.leases.note_reservation(pid, reservation);
                let due = Due::Reservation(pid.clone(), reservation.clone());
                self.deadlines.set(due, Some(until));
                let anew = amounts.minus(&drawn);
                self.book(pid, |account| account.held = account.held.plus(&anew));
            }
            QuotaEvent::Settled { reservation, actual, excess } => {
                let closed = Closed::Settled { actual: *actual };
                self.close(pid, reservation, closed, (*actual, *excess));
            }
            QuotaEvent::Released { reservation } => {
                self.close(pid, reservation, Closed::Released, (Amounts::ZERO, Amounts::ZERO));
            }
            QuotaEvent::Expired { reservation, charged } => {
                self.close(pid, reservation, Closed::Charged, (*charged, Amounts::ZERO));
            }
            QuotaEvent::Recorded { amounts, agent_hops, attempt, record, content } => {
                let drawn = self.draw_hold(pid, attempt.as_ref(), amounts);
                self.book(pid, |account| account.held = account.held.minus(&drawn));
                self.charge(pid, *amounts, amounts.minus(&drawn));
                self.note_charged(pid, attempt.as_ref(), amounts);
                self.processes.update(pid, |process| {
                    process.account.used.agent_hops += agent_hops;
                    if let Some(record) = record {
                        let closed = Closed::Recorded { content: *content };
                        let id = record_key(record);
                        let (content, holder) = (*content, None);
                        process.remember(Remembered { id, closed, content, holder });
                    }
                });
            }
            QuotaEvent::Adjusted { field, old, new } => self.adjust(pid, *field, *old, *new),
            QuotaEvent::Warning { resource, .. } => {
                self.processes.update(pid, |process| process.account.warned |= resource.bit());
            }
            QuotaEvent::Exceeded { resource, .. } => {
                self.processes.update(pid, |process| process.account.exceeded |= resource.bit());
            }
        }
    }

    /// Closes a reservation: what was held is free, what was used is charged (K105–K107).
    fn close(
        &mut self,
        pid: &ProcessId,
        id: &ReservationId,
        closed: Closed,
        (actual, excess): (Amounts, Amounts),
    ) {
        let mut held = None;
        self.processes.update(pid, |process| {
            held = process.reservations.remove(id);
            if let Some(reservation) = &held {
                let (id, content) = (Arc::from(id.as_str()), reservation.content);
                let holder = Some(reservation.holder.clone());
                process.remember(Remembered { id, closed, content, holder });
            }
        });
        let Some(reservation) = held else {
            return;
        };
        self.process_index.note_reservations(1, 0);
        self.leases.forget_reservation(pid, id);
        self.deadlines.set(Due::Reservation(pid.clone(), id.clone()), None);
        self.book(pid, |account| account.held = account.held.minus(&reservation.amounts));
        self.charge(pid, actual, excess);
        self.note_charged(pid, reservation.attempt.as_ref(), &actual);
    }

    /// Charges what was used to a process and its ancestors (K102).
    pub(super) fn charge(&mut self, pid: &ProcessId, actual: Amounts, unreserved: Amounts) {
        self.counters.used = self.counters.used.plus(&actual);
        self.book(pid, |account| {
            account.used.amounts = account.used.amounts.plus(&actual);
            account.unreserved = account.unreserved.plus(&unreserved);
        });
    }

    /// Changes the accounts of a process and its ancestors.
    pub(super) fn book(&mut self, pid: &ProcessId, change: impl Fn(&mut Account)) {
        let mut next = Some(pid.clone());
        while let Some(level) = next.take() {
            self.processes.update(&level, |process| {
                change(&mut process.account);
                next.clone_from(&process.parent);
            });
        }
    }

    fn adjust(&mut self, pid: &ProcessId, field: QuotaField, old: Limit, new: Limit) {
        self.processes.update(pid, |process| {
            *process.quota.field_mut(field) = new;
            let soft = (field == QuotaField::SoftTimeoutMs).then_some(Resource::ElapsedMs);
            if let Some(resource) = field.resource().or(soft).filter(|_| new > old) {
                process.account.warned &= !resource.bit();
                process.account.exceeded &= !resource.bit();
            }
        });
    }
}

impl Process {
    /// Keeps only the tombstone (K85), and whom it stands above (K102).
    fn bury(&mut self) {
        self.metadata.clear();
        self.interrupts.clear();
        self.closed.clear();
    }
}
