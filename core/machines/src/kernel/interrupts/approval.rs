//! Leave to do one thing, once (K170, K171).
//!
//! ```text
//!   a yes to a question ─► Granted ─┬─ used for just what was shown ──► Consumed
//!   with a target                   └─ too late, or the process ended ► Lapsed
//! ```

use std::sync::Arc;

use crate::kernel::decision::Decision;
use crate::kernel::ids::{InterruptId, ProcessId, UseId};
use crate::kernel::json::Json;
use crate::kernel::names::{ApprovalState, LapseCause};
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::time::Time;
use crate::wire_struct;

use super::event::ApprovalEvent;
use super::interrupt::Interrupt;
use super::target::TargetHash;

/// Leave to do one thing, known by the interrupt whose answer gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Approval {
    /// Whose.
    pub pid: ProcessId,
    /// Of what may be done.
    pub hash: TargetHash,
    /// What became of it.
    pub state: ApprovalState,
    /// Since when.
    pub granted_at: Time,
    /// Until when, if nobody uses it.
    pub until: Time,
    /// What its use is known by.
    pub used_by: Option<UseId>,
}

wire_struct!(Approval { pid, hash, state, granted_at, until, used_by });

impl Approval {
    /// Returns when it lapses, while it can.
    #[must_use]
    pub const fn due_at(&self) -> Option<Time> {
        match self.state {
            ApprovalState::Granted => Some(self.until),
            ApprovalState::Consumed | ApprovalState::Lapsed => None,
        }
    }
}

/// What somebody is about to do with an approval (K170).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Use {
    /// The interrupt whose answer gave it.
    pub interrupt: InterruptId,
    /// What is about to be done.
    pub action: Arc<str>,
    /// With what.
    pub params: Json,
    /// What this use is known by; of a dispatch, its id.
    pub use_id: UseId,
}

impl Decision<'_> {
    /// `ConsumeApproval`, by the holder of the process (K78, K170).
    pub(in crate::kernel) fn consume(&mut self, wanted: &Use) -> Result<(), Refusal> {
        let interrupt = self.interrupt(&wanted.interrupt)?;
        let pid = interrupt.pid.clone();
        let process = self.held(&pid)?;
        let holder = process.run_lease.as_ref().map(|run| &run.holder);
        if holder != Some(&self.holder()) {
            let told = format!("process {pid} is not held by the caller");
            return Err(Refusal::new(Code::NotHolder, told));
        }
        self.consume_approval(&pid, wanted)?;
        self.touch_lease(&pid);
        Ok(())
    }

    /// Uses an approval of a process: checks, then records.
    ///
    /// # Errors
    ///
    /// As [`Decision::check_approval`]; nothing is recorded then.
    pub(in crate::kernel) fn consume_approval(
        &mut self,
        pid: &ProcessId,
        wanted: &Use,
    ) -> Result<(), Refusal> {
        if self.check_approval(pid, wanted)? {
            let (interrupt, use_id) = (wanted.interrupt.clone(), wanted.use_id.clone());
            self.emit_approval(pid, ApprovalEvent::Consumed { interrupt, use_id });
        }
        Ok(())
    }

    /// Says whether a use of an approval is to be recorded: not if it already was (K170).
    ///
    /// # Errors
    ///
    /// `interrupt_not_found` (of this process), `approval_not_usable`, `stale_target`.
    pub(in crate::kernel) fn check_approval(
        &self,
        pid: &ProcessId,
        wanted: &Use,
    ) -> Result<bool, Refusal> {
        let id = &wanted.interrupt;
        self.check_id("use_id", wanted.use_id.as_str())?;
        self.check_text("action", &wanted.action)?;
        self.check_payload("params", &wanted.params)?;
        let interrupt = self.interrupt(id)?;
        if interrupt.pid != *pid {
            return Err(super::unknown(id));
        }
        let granted = self.state.approvals.get(id).zip(interrupt.target.as_ref());
        let Some((approval, target)) = granted else {
            return Err(unusable(format!("interrupt {id} granted no approval")));
        };
        // What was used for the same is a repeat, whatever has changed since (K448).
        let same =
            *wanted.action == *target.action && Some(&wanted.params) == interrupt.approved_params();
        match (approval.state, &approval.used_by) {
            (ApprovalState::Consumed, Some(used_by)) if *used_by == wanted.use_id => {
                if same {
                    Ok(false)
                } else {
                    Err(stale())
                }
            }
            (ApprovalState::Consumed, _) => {
                Err(unusable(format!("the approval of interrupt {id} was used")))
            }
            (ApprovalState::Lapsed, _) => {
                Err(unusable(format!("the approval of interrupt {id} has lapsed")))
            }
            (ApprovalState::Granted, _) if self.now >= approval.until => {
                Err(unusable(format!("the approval of interrupt {id} has lapsed")))
            }
            (ApprovalState::Granted, _) => {
                let (action, params) = (&wanted.action, &wanted.params);
                let now = self.state.target_now(pid, action, params, &target.binds);
                if now == approval.hash { Ok(true) } else { Err(stale()) }
            }
        }
    }

    /// Grants what was asked leave for (K170).
    pub(super) fn grant(&mut self, interrupt: &Interrupt) {
        let (Some(target), Some(params)) = (&interrupt.target, interrupt.approved_params()) else {
            return;
        };
        let pid = &interrupt.pid;
        let hash = self.state.target_now(pid, &target.action, params, &target.binds);
        let until = self.now.plus(self.state.config.approval_ttl_ms);
        let event = ApprovalEvent::Granted { interrupt: interrupt.id.clone(), hash, until };
        self.emit_approval(pid, event);
    }

    /// Nobody used an approval in time (K171).
    pub(in crate::kernel) fn lapse(&mut self, id: &InterruptId, cause: LapseCause) {
        if let Some(approval) = self.state.approvals.get(id) {
            let (pid, interrupt) = (approval.pid.clone(), id.clone());
            self.emit_approval(&pid, ApprovalEvent::Lapsed { interrupt, cause });
        }
    }

    /// Lets no approval of a process be used any more (K82, K171, K230).
    pub(in crate::kernel) fn lapse_approvals(&mut self, pid: &ProcessId, cause: LapseCause) {
        let granted: Vec<InterruptId> = self.state.asked.granted(pid).cloned().collect();
        for id in granted {
            self.lapse(&id, cause);
        }
    }
}

fn unusable(told: String) -> Refusal {
    Refusal::new(Code::ApprovalNotUsable, told)
}

/// K169, K170: something is not as it was when a person looked at it.
pub(super) fn stale() -> Refusal {
    crate::sometimes!("kernel.stale_target");
    Refusal::new(Code::StaleTarget, "the target has changed since it was shown")
}
