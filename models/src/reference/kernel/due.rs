//! What is due when, and in which order (K10).

use std::collections::BTreeSet;

use machines::kernel::Time;
use machines::kernel::ids::{InterruptId, ProcessId, ReservationId};
use machines::kernel::names::{ApprovalState, InterruptStatus, ProcessState};
use machines::kernel::quota::Resource;

use super::process::Process;
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
    /// A process is Blocked no longer.
    Unblock(ProcessId),
    /// A process is kept no longer (K360).
    Retention(ProcessId),
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
        let all = all.chain(asked).chain(granted);
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
        for (id, open) in &one.open {
            all.push((open.until, Due::Reservation(pid.clone(), id.clone())));
        }
        if let Some(until) = one.block.as_ref().and_then(|block| block.until) {
            all.push((until, Due::Unblock(pid.clone())));
        }
        let kept = match one.state {
            ProcessState::Terminated => {
                one.completed_at.map(|at| at.plus(self.config.retention.terminated_ms))
            }
            ProcessState::Zombie => {
                let retention = &self.config.retention;
                one.completed_at.map(|at| at.plus(retention.terminated_ms + retention.zombie_ms))
            }
            ProcessState::New
            | ProcessState::Ready
            | ProcessState::Running
            | ProcessState::Waiting
            | ProcessState::Blocked => None,
        };
        all.extend(kept.map(|until| (until, Due::Retention(pid.clone()))));
        all
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
            match self.deadlines().first() {
                Some((time, _, due)) if *time <= self.now => self.handle_due(&due.clone()),
                Some(_) | None => break,
            }
        }
        Ok(())
    }

    fn handle_due(&mut self, due: &Due) {
        match due {
            Due::Timeout(pid) => self.time_out(pid),
            Due::Interrupt(id) => self.expire(id),
            Due::Approval(id) => self.lapse(id),
            Due::RunLease(pid) | Due::Unblock(pid) => self.change(pid, ProcessState::Ready),
            Due::Reservation(pid, id) => self.charge_in_full(pid, id),
            Due::SoftTimeout(pid) => {
                self.of_mut(pid).warned.insert(Resource::ElapsedMs);
                self.note(Note::Warned(pid.clone(), Resource::ElapsedMs));
            }
            Due::Retention(pid) if self.of(pid).state == ProcessState::Zombie => self.remove(pid),
            Due::Retention(pid) => self.bury(pid),
        }
    }
}
