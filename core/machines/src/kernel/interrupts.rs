//! Interrupts and approvals: how a process asks a person, and what an answer lets it do (section
//! 6).
//!
//! ```text
//!            raise                    the first valid answer (K155)
//!   (asked) ───────► Pending ──┬───────────────────────────────────► Resolved ─► approval (K170)
//!                              ├── nobody answered in time (K160) ─► Expired ──► another asked
//!                              └── taken back, process ended ──────► Cancelled   (K164)
//! ```
//!
//! While a blocking interrupt is pending its process is Waiting, or held (K62): nothing lets it run
//! but the decision that closes the last of them (K159). What is closed stays closed: an answer,
//! its expiry and its taking back exclude each other (K422).
//!
//! | part | what it does |
//! |------|--------------|
//! | `interrupt` | the types (2.5) |
//! | `target` | what an approval is for, and its hash (K168) |
//! | `check` | refuses a question, or raises it (K151, K152); asks for more budget (K112, K118) |
//! | `close` | answers, expiry, escalation, taking back (K155 – K164) |
//! | `resume` | what closing does to the process; what sessions add to it (K159, K161 – K166) |
//! | `approval` | leave to do one thing, once (K170, K171) |
//! | `fold`, `index` | the state and what is derived from it |
//! | `query` | what can be asked (K153, K172, K174) |
//!
//! # Where the rules leave room
//!
//! - The parts that belong to a kind (K156): of a Clarification text and data; of a Confirmation
//!   `approved` alone; of an AgentReview the decision and text, and data with Modify; of all others
//!   text and data. A target hash belongs where there is a target.
//! - Anything but a plain yes to what asks leave is a denial; configuration cannot turn off that
//!   such an answer must say which it is.
//! - A repeated use of an approval is known by action and params, not by what it bound: that may
//!   have changed by the use itself (K170, K448).
//! - A process that waits for an event and for an answer wakes with the answer (K159): a wakeup too
//!   many is harmless, one too few is not.
//! - An escalation takes the place of one that was pending, and so passes no limit of K25. With a
//!   key, the newest of the line is found by it (K152).
//! - What was granted and not used is not removed, however long the interrupt is closed (K175,
//!   K361).

pub mod approval;
pub mod check;
mod close;
pub mod event;
pub mod fold;
pub mod index;
pub mod interrupt;
#[cfg(test)]
mod props;
pub mod query;
pub mod resume;
#[cfg(test)]
pub(super) mod rig;
pub mod target;
#[cfg(test)]
mod tests;

use super::decision::Decision;
use super::event::Body;
use super::ids::{InterruptId, ProcessId};
use super::refusal::{Code, Refusal};
use super::state::State;
use super::time::Time;
use event::{ApprovalEvent, InterruptEvent};
use interrupt::{Interrupt, NewInterrupt, Origin};

impl State {
    /// Returns an interrupt.
    #[must_use]
    pub fn interrupt(&self, id: &InterruptId) -> Option<&Interrupt> {
        self.interrupts.get(id)
    }

    /// Returns the approval that the answer to an interrupt gave.
    #[must_use]
    pub fn approval(&self, id: &InterruptId) -> Option<&approval::Approval> {
        self.approvals.get(id)
    }

    /// Finds the oldest interrupt that a process waits for (K240 c).
    #[must_use]
    pub fn oldest_blocking(&self, pid: &ProcessId) -> Option<&Interrupt> {
        let pending = self.process(pid)?.interrupts.iter();
        pending.filter_map(|id| self.interrupts.get(id)).find(|interrupt| interrupt.blocking)
    }

    /// Returns when the first interrupt is kept no longer (K175).
    pub(super) fn first_interrupt_due(&self) -> Option<Time> {
        self.asked.over().next().map(|(at, _)| at.plus(self.config.retention.interrupt_ms))
    }

    /// Lists at most `most` interrupts that are kept no longer, the longest over first (K175,
    /// K361).
    #[must_use]
    pub fn interrupts_due_for_removal(&self, now: Time, most: usize) -> Vec<InterruptId> {
        let kept = self.config.retention.interrupt_ms;
        let due = self.asked.over().take_while(|(at, _)| at.plus(kept) <= now);
        due.take(most).map(|(_, id)| id.clone()).collect()
    }
}

impl Decision<'_> {
    /// `CreateInterrupt`; a repeat of one with a key is known (K152).
    pub(super) fn create_interrupt(
        &mut self,
        pid: &ProcessId,
        new: &NewInterrupt,
    ) -> Result<InterruptId, Refusal> {
        self.held(pid)?;
        if let Some(id) = new.key.as_ref().and_then(|key| self.state.asked.keyed(pid, key)).cloned()
        {
            self.touch_lease(pid);
            return Ok(id);
        }
        let prepared = self.check_interrupt(pid, new)?;
        // Who holds the process goes on, if it does (K78).
        self.touch_lease(pid);
        Ok(self.raise(pid, prepared, Origin::External))
    }

    /// Finds an interrupt.
    pub(super) fn interrupt(&self, id: &InterruptId) -> Result<&Interrupt, Refusal> {
        self.state.interrupts.get(id).ok_or_else(|| unknown(id))
    }

    /// Makes an event of an interrupt.
    pub(super) fn emit_interrupt(&mut self, pid: &ProcessId, event: InterruptEvent) {
        let subject = self.subject(pid);
        self.emit(subject, Body::Interrupt { event });
    }

    /// Makes an event of an approval.
    pub(super) fn emit_approval(&mut self, pid: &ProcessId, event: ApprovalEvent) {
        let subject = self.subject(pid);
        self.emit(subject, Body::Approval { event });
    }

    /// Removes interrupts that are closed, process by process (K175).
    pub(super) fn remove_interrupts(&mut self, ids: &[InterruptId]) {
        let mut rest = ids.iter().peekable();
        let pid_of = |state: &State, id: &InterruptId| {
            state.interrupts.get(id).map(|interrupt| interrupt.pid.clone())
        };
        while let Some(id) = rest.next() {
            let Some(pid) = pid_of(self.state, id) else {
                continue;
            };
            let mut ids = vec![id.clone()];
            while let Some(id) = rest.next_if(|id| pid_of(self.state, id).as_ref() == Some(&pid)) {
                ids.push(id.clone());
            }
            self.emit_interrupt(&pid, InterruptEvent::Removed { ids });
        }
    }

    /// Removes all interrupts of a process that is over (K85).
    pub(super) fn remove_interrupts_of(&mut self, pid: &ProcessId) {
        let ids = self.state.asked.of_process(pid);
        self.remove_interrupts(&ids);
    }
}

fn unknown(id: &InterruptId) -> Refusal {
    Refusal::new(Code::InterruptNotFound, format!("interrupt not found: {id}"))
}

fn foreign(id: &InterruptId) -> Refusal {
    let told = format!("interrupt {id} is not for the caller to see or answer");
    Refusal::new(Code::PermissionDenied, told)
}
