//! How events of interrupts and approvals change the state (K3), and what is derived from it (K12).

use crate::kernel::deadlines::Due;
use crate::kernel::ids::{InterruptId, ProcessId};
use crate::kernel::names::{ApprovalState, InterruptStatus, ProcessState};
use crate::kernel::state::State;
use crate::kernel::time::Time;
use crate::wire_struct;

use super::approval::Approval;
use super::event::{ApprovalEvent, InterruptEvent};
use super::index::Index;
use super::interrupt::{Answer, Interrupt};

/// How many interrupts there ever were, and what became of them (K174).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct InterruptCounts {
    /// Raised.
    pub created: u64,
    /// Answered.
    pub resolved: u64,
    /// Not answered in time.
    pub expired: u64,
    /// Taken back.
    pub cancelled: u64,
}

wire_struct!(InterruptCounts { created, resolved, expired, cancelled });

impl InterruptCounts {
    /// Returns how many wait for an answer now.
    #[must_use]
    pub const fn pending(&self) -> u64 {
        self.created - self.resolved - self.expired - self.cancelled
    }
}

impl State {
    pub(in crate::kernel) fn apply_interrupt(&mut self, now: Time, event: &InterruptEvent) {
        match event {
            InterruptEvent::Raised { interrupt } => self.ask(interrupt),
            InterruptEvent::Resolved { id, response, by, accepted: _ } => {
                self.close_interrupt(now, id, InterruptStatus::Resolved, |interrupt| {
                    let (response, by) = (response.as_ref().clone(), by.clone());
                    let answer = Answer { response, by, received_at: now };
                    interrupt.answer = Some(Box::new(answer));
                });
            }
            InterruptEvent::Expired { id, policy: _, escalated_to: _ } => {
                self.close_interrupt(now, id, InterruptStatus::Expired, |_| {});
            }
            InterruptEvent::Cancelled { id, reason } => {
                self.close_interrupt(now, id, InterruptStatus::Cancelled, |interrupt| {
                    interrupt.cancel_reason = Some(reason.clone());
                });
            }
            InterruptEvent::Removed { ids } => ids.iter().for_each(|id| self.forget(id)),
        }
    }

    /// A process that is Ready is held from now on: it leaves the ready set (K62).
    fn ask(&mut self, interrupt: &Interrupt) {
        let (id, pid) = (&interrupt.id, &interrupt.pid);
        let Some(process) = self.processes.get(pid) else {
            return;
        };
        if self.interrupts.contains(id) {
            return;
        }
        if interrupt.blocking {
            self.ready[usize::from(process.driven)].remove(pid);
        }
        self.processes.update(pid, |process| {
            process.interrupts.push(id.clone());
            process.interrupts_ever = process.interrupts_ever.saturating_add(1);
            process.blocking += u32::from(interrupt.blocking);
        });
        self.counters.interrupts.created += 1;
        self.asked.add(interrupt);
        self.deadlines.set(Due::Interrupt(id.clone()), interrupt.due_at());
        self.interrupts.insert(id.clone(), interrupt.clone());
    }

    /// Closes what is pending; what is not stays as it is.
    fn close_interrupt(
        &mut self,
        now: Time,
        id: &InterruptId,
        status: InterruptStatus,
        change: impl FnOnce(&mut Interrupt),
    ) {
        if !self.interrupts.get(id).is_some_and(Interrupt::is_pending) {
            return;
        }
        self.interrupts.update(id, |interrupt| {
            interrupt.status = status;
            interrupt.closed_at = Some(now);
            change(interrupt);
        });
        let counts = &mut self.counters.interrupts;
        match status {
            InterruptStatus::Pending => {}
            InterruptStatus::Resolved => counts.resolved += 1,
            InterruptStatus::Expired => counts.expired += 1,
            InterruptStatus::Cancelled => counts.cancelled += 1,
        }
        let Some(interrupt) = self.interrupts.get(id) else {
            return;
        };
        self.asked.shift(interrupt, InterruptStatus::Pending);
        self.asked.follow(interrupt, None);
        self.deadlines.set(Due::Interrupt(id.clone()), None);
        let (pid, blocking) = (interrupt.pid.clone(), interrupt.blocking);
        self.release(now, &pid, (id, blocking));
    }

    /// A process waits for one answer less. One that is Ready and was held joins the ready set as
    /// of now (K62).
    fn release(&mut self, now: Time, pid: &ProcessId, (id, blocking): (&InterruptId, bool)) {
        let mut freed = false;
        self.processes.update(pid, |process| {
            process.interrupts.retain(|pending| pending != id);
            if blocking {
                process.blocking = process.blocking.saturating_sub(1);
                freed = !process.is_held() && process.state == ProcessState::Ready;
            }
            if freed {
                process.ready_at = Some(now);
            }
        });
        if freed {
            self.join_ready(pid);
        }
    }

    /// Forgets what is closed, and its approval.
    fn forget(&mut self, id: &InterruptId) {
        if self.interrupts.get(id).is_none_or(Interrupt::is_pending) {
            return;
        }
        if let Some(interrupt) = self.interrupts.remove(id) {
            self.asked.remove(&interrupt);
        }
        self.approvals.remove(id);
        self.deadlines.set(Due::Approval(id.clone()), None);
    }

    pub(in crate::kernel) fn apply_approval(&mut self, now: Time, event: &ApprovalEvent) {
        let id = match event {
            ApprovalEvent::Granted { interrupt: id, hash, until } => {
                let Some(interrupt) = self.interrupts.get(id) else {
                    return;
                };
                let approval = Approval {
                    pid: interrupt.pid.clone(),
                    hash: *hash,
                    state: ApprovalState::Granted,
                    granted_at: now,
                    until: *until,
                    used_by: None,
                };
                self.approvals.insert(id.clone(), approval);
                id
            }
            ApprovalEvent::Consumed { interrupt: id, use_id } => {
                self.approvals.update(id, |approval| {
                    approval.state = ApprovalState::Consumed;
                    approval.used_by = Some(use_id.clone());
                });
                id
            }
            ApprovalEvent::Lapsed { interrupt: id, cause: _ } => {
                self.approvals.update(id, |approval| approval.state = ApprovalState::Lapsed);
                id
            }
        };
        let approval = self.approvals.get(id);
        self.deadlines.set(Due::Approval(id.clone()), approval.and_then(Approval::due_at));
        if let Some(interrupt) = self.interrupts.get(id) {
            self.asked.follow(interrupt, approval);
        }
    }

    /// Finds again what is derived from the tables of interrupts and approvals (K12).
    pub fn derive_interrupts(&mut self) {
        self.asked = Index::derive(&self.interrupts, &self.approvals);
        for (id, interrupt) in &self.interrupts {
            self.deadlines.set(Due::Interrupt(id.clone()), interrupt.due_at());
        }
        for (id, approval) in &self.approvals {
            self.deadlines.set(Due::Approval(id.clone()), approval.due_at());
        }
    }
}
