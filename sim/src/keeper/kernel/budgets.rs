//! Saboteurs of budgets (K420).
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use machines::kernel::CommandBody;
use machines::kernel::ids::{ProcessId, ReservationId};
use machines::kernel::process::Process;
use machines::kernel::quota::{Amounts, Quota, Resource};

use super::Clerk;

impl Clerk {
    /// Lists a process and those above it.
    fn lineage(&self, pid: &ProcessId) -> Vec<ProcessId> {
        let parent = |pid: &ProcessId| self.kernel()?.process(pid)?.parent.clone();
        std::iter::successors(Some(pid.clone()), parent).collect()
    }

    /// Lets a process for which a stage may be handed out, and those above it, use anything once
    /// they have used up their calls of models.
    pub(super) fn unlimit_spent(&mut self, body: &CommandBody) -> Vec<(ProcessId, Quota)> {
        let Some(pid) = hands_out(body) else {
            return Vec::new();
        };
        let spent = |process: &Process| {
            let taken = process.account.taken(Resource::LlmCalls);
            !process.quota.max_llm_calls.allows(taken + 1)
        };
        let mut levels = self.lineage(pid);
        levels.retain(|pid| self.kernel().and_then(|it| it.process(pid)).is_some_and(spent));
        self.unlimit(levels)
    }

    /// Lets processes use anything. Returns what they could use before.
    pub(super) fn unlimit(&mut self, pids: Vec<ProcessId>) -> Vec<(ProcessId, Quota)> {
        let mut before = Vec::new();
        for pid in pids {
            if let Some(process) = self.kernel().and_then(|kernel| kernel.process(&pid)) {
                before.push((pid.clone(), process.quota));
                self.change(&pid, |process| process.quota = Quota::UNLIMITED);
            }
        }
        before
    }

    /// Lets as much be reserved as was used, at every level.
    pub(super) fn hide_excess(&mut self, pid: &ProcessId, id: &ReservationId, actual: &Amounts) {
        let process = self.kernel().and_then(|kernel| kernel.process(pid));
        let open = process.and_then(|process| process.reservations.get(id));
        let Some(more) = open.map(|open| actual.minus(&open.amounts)) else {
            return;
        };
        for level in self.lineage(pid) {
            self.change(&level, |process| {
                process.account.held = process.account.held.plus(&more);
                if level == *pid
                    && let Some(open) = process.reservations.get_mut(id)
                {
                    open.amounts = open.amounts.plus(&more);
                }
            });
        }
    }
}

/// Returns the process for which a command may hand out a stage.
const fn hands_out(body: &CommandBody) -> Option<&ProcessId> {
    match body {
        CommandBody::NextInstruction { pid } => Some(pid),
        CommandBody::ReportAgentResult(report) => Some(&report.pid),
        _ => None,
    }
}
