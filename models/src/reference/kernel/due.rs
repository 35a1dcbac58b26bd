//! What is due when, and in which order (K10).

use std::collections::BTreeSet;

use machines::kernel::Time;
use machines::kernel::dispatch::DispatchOutcome;
use machines::kernel::ids::{
    AttemptId, DispatchId, InterruptId, LeaseId, ProcessId, ReservationId, ServiceName,
};
use machines::kernel::names::{ApprovalState, InterruptStatus, ProcessState};
use machines::kernel::pipeline::kinds::ErrorKind;
use machines::kernel::quota::Resource;

use super::dispatch::{Dispatch, Stage};
use super::process::Process;
use super::sessions::Session;
use super::{Answer, Kernel, Note, Wrong};

/// A deadline; those of one time come in this order (K10).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Due {
    /// A process has run for as long as it may (K112).
    Timeout(ProcessId),
    /// Its holder was not heard of (K79).
    RunLease(ProcessId),
    /// A reservation was neither settled nor released (K107).
    Reservation(ProcessId, ReservationId),
    /// A process has nearly run for as long as it may (K113).
    SoftTimeout(ProcessId),
    /// Nobody answered (K160).
    Interrupt(InterruptId),
    /// Nobody used an approval (K171).
    Approval(InterruptId),
    /// An attempt has taken too long (K270).
    Attempt(ProcessId, AttemptId),
    /// A process is Blocked no longer.
    Unblock(ProcessId),
    /// A dispatch has lasted for as long as it may (K208).
    DispatchDeadline(DispatchId),
    /// So has a try.
    TryTimeout(DispatchId),
    /// Its worker was not heard of (K210).
    TryLease(DispatchId),
    /// The time of the next try has come (K209).
    DispatchRetry(DispatchId),
    /// Who has a slot was not heard of (K196).
    SlotLease(LeaseId),
    /// A service was not heard of (K195).
    Health(ServiceName),
    /// The node stops (K363).
    Stop,
    /// Something is kept no longer (K361).
    Cleanup,
}

impl Kernel {
    /// All deadlines, in the order in which they are handled.
    fn deadlines(&self) -> BTreeSet<(Time, u8, Due)> {
        let all = self.processes.iter().flat_map(|(pid, one)| self.deadlines_of(pid, one));
        let asked = self
            .interrupts
            .iter()
            .filter(|(_, one)| one.auto_expire && one.status == InterruptStatus::Pending);
        let asked =
            asked.filter_map(|(id, one)| Some((one.expires_at?, Due::Interrupt(id.clone()))));
        let granted = self.approvals.iter();
        let granted = granted.filter(|(_, one)| one.state == ApprovalState::Granted);
        let granted = granted.map(|(id, one)| (one.until, Due::Approval(id.clone())));
        let cleanup = self.cleanup_at().map(|at| (at, Due::Cleanup));
        let stop = self.stops_at().map(|at| (at, Due::Stop));
        let tried = self.dispatches.iter().flat_map(|(id, one)| deadlines_of_dispatch(id, one));
        let slots = self.slots.iter();
        let slots = slots.map(|(lease, one)| (one.until, Due::SlotLease(lease.clone())));
        let services = self.services.iter();
        let heard =
            services.filter_map(|(name, one)| Some((one.worsens_at()?, Due::Health(name.clone()))));
        let all = all.chain(asked).chain(granted).chain(tried).chain(slots).chain(heard);
        let all = all.chain(stop).chain(cleanup);
        let early = self.is(Wrong::KindsReversed);
        let kind = |due: &Due| u8::from(!(early && matches!(due, Due::RunLease(_))));
        all.map(|(time, due)| (time, kind(&due), due)).collect()
    }

    fn deadlines_of(&self, pid: &ProcessId, one: &Process) -> Vec<(Time, Due)> {
        let mut all = Vec::new();
        let left = |limit: Option<u64>| {
            limit.map(|limit| limit.saturating_sub(one.used(Resource::ElapsedMs)))
        };
        if let Some(since) = one.running_since {
            if let Some(left) = left(one.quota.timeout_ms.most()) {
                all.push((since.plus(left), Due::Timeout(pid.clone())));
            }
            let soft = left(one.quota.soft_timeout_ms.most());
            if let Some(left) = soft.filter(|_| !one.warned.contains(&Resource::ElapsedMs)) {
                all.push((since.plus(left), Due::SoftTimeout(pid.clone())));
            }
        }
        if let Some(lease) = &one.lease {
            all.push((lease.until, Due::RunLease(pid.clone())));
        }
        for (id, open) in one.open.iter().filter(|(_, open)| open.until < Time::FAR) {
            all.push((open.until, Due::Reservation(pid.clone(), id.clone())));
        }
        let live = self.running(pid).map(Session::live).unwrap_or_default();
        for (_, attempt) in live {
            let due = attempt.deadline.map(|at| (at, Due::Attempt(pid.clone(), attempt.id)));
            all.extend(due);
        }
        if let Some(until) = one.block.as_ref().and_then(|block| block.until) {
            all.push((until, Due::Unblock(pid.clone())));
        }
        all
    }

    /// Until when a process that is over is kept: Terminated, and then as a Zombie (K360).
    fn kept_until(&self, one: &Process) -> Option<Time> {
        let retention = &self.config.retention;
        let terminated = one.completed_at?.plus(retention.terminated_ms);
        match one.state == ProcessState::Zombie {
            true => Some(terminated.plus(retention.zombie_ms)),
            false => Some(terminated),
        }
    }

    /// The first full interval since the start at which something is due (K361).
    fn cleanup_at(&self) -> Option<Time> {
        let over = self.processes.values().filter_map(|one| self.kept_until(one));
        let closed = self.interrupts.keys().filter_map(|id| self.remembered_until(id));
        let dispatches = self.dispatches_kept_until().into_iter().map(|(at, _)| at);
        let envelopes = self.envelopes_kept_until().into_iter().map(|(at, _)| at);
        let first = over.chain(closed).chain(self.counted_until());
        let first = first.chain(dispatches).chain(envelopes).min()?;
        let (start, interval) = (self.started_at, self.config.cleanup_interval_ms);
        Some(start.plus(first.since(start).div_ceil(interval) * interval))
    }

    /// K361: Terminated become Zombies, Zombies go; those that ended first come first.
    pub(super) fn clean(&mut self) {
        for state in [ProcessState::Terminated, ProcessState::Zombie] {
            let due = |one: &Process| {
                one.state == state && self.kept_until(one).is_some_and(|until| until <= self.now)
            };
            let mut due: Vec<(Option<Time>, ProcessId)> = (self.processes.iter())
                .filter(|(_, one)| due(one))
                .map(|(pid, one)| (one.completed_at, pid.clone()))
                .collect();
            due.sort();
            for (_, pid) in due {
                match state == ProcessState::Zombie {
                    true => self.remove(&pid),
                    false => self.bury(&pid),
                }
            }
        }
        self.forget_envelopes();
        self.forget_interrupts();
        self.forget_dispatches();
        self.forget_hits();
    }

    /// Returns when the next deadline is.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines().first().map(|(time, _, _)| *time)
    }

    /// Handles what is due, so many at most (K10).
    pub(super) fn tick(&mut self) -> Answer {
        self.only_node()?;
        for _ in 0..self.config.tick_batch {
            let Some((time, _, due)) = self.deadlines().first().cloned() else {
                break;
            };
            if time > self.now {
                break;
            }
            self.handle_due(&due);
            self.start_waiting();
            if due == Due::Cleanup || due == Due::Stop {
                // They are decisions of their own: so many subjects at most (K361).
                break;
            }
        }
        Ok(())
    }

    fn handle_due(&mut self, due: &Due) {
        match due {
            Due::Timeout(pid) => self.time_out(pid),
            Due::Interrupt(id) => self.expire(id),
            Due::Approval(id) => self.lapse(id),
            Due::RunLease(pid) => self.run_lease_over(pid),
            Due::Attempt(pid, id) => self.attempt_timed_out(pid, id),
            Due::Unblock(pid) => self.change(pid, ProcessState::Ready),
            Due::Reservation(pid, id) => self.charge_in_full(pid, id),
            Due::SoftTimeout(pid) => {
                self.of_mut(pid).warned.insert(Resource::ElapsedMs);
                self.note(Note::Warned(pid.clone(), Resource::ElapsedMs));
            }
            Due::DispatchDeadline(id) => self.finish(id, DispatchOutcome::TimedOut, None),
            Due::TryTimeout(id) => self.fail(id, ErrorKind::Timeout, None),
            Due::TryLease(id) => self.lose(id),
            Due::DispatchRetry(id) => self.wake(id),
            Due::SlotLease(lease) => self.free(lease),
            Due::Health(name) => self.worsen(name),
            Due::Stop => self.stop_at_deadline(),
            Due::Cleanup => self.clean(),
        }
    }
}

/// K208–K210. What the node itself works on has no lease that ends before its time (K204).
fn deadlines_of_dispatch(id: &DispatchId, one: &Dispatch) -> Vec<(Time, Due)> {
    let mut all = Vec::new();
    if let Some(span) = one.asked.0.deadline_ms.filter(|_| one.is_open()) {
        all.push((one.made_at.plus(span), Due::DispatchDeadline(id.clone())));
    }
    match &one.stage {
        Stage::Pausing(until) => all.push((*until, Due::DispatchRetry(id.clone()))),
        Stage::Running(live) => {
            all.push((live.deadline, Due::TryTimeout(id.clone())));
            if live.holder.is_some() {
                all.push((live.until, Due::TryLease(id.clone())));
            }
        }
        Stage::Waiting { .. } | Stage::Over(..) => {}
    }
    all
}
