//! Whether a process could go on (K35).

use super::Inquiry;
use super::budget::Remaining;
use crate::kernel::ids::{EnvelopeId, ProcessId};
use crate::kernel::names::TerminalReason;
use crate::kernel::process::Process;
use crate::kernel::quota::{Amounts, Resource};
use crate::kernel::refusal::Refusal;
use crate::kernel::state::State;
use crate::kernel::time::Time;

/// Of what bounds are asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BoundsOf {
    /// Of the process whose session an envelope has.
    Envelope(EnvelopeId),
    /// Of a process.
    Process(ProcessId),
}

/// The answer to `CheckBounds`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Whether an agent stage could be issued now.
    pub can_continue: bool,
    /// Why it ended, or would.
    pub terminal_reason: Option<TerminalReason>,
    /// What is left.
    pub remaining: Remaining,
}

impl Inquiry<'_> {
    pub(super) fn check_bounds(self, of: &BoundsOf) -> Result<Bounds, Refusal> {
        match of {
            BoundsOf::Process(pid) => {
                let process = self.process(pid)?;
                Ok(self.state.bounds(pid, process, self.now))
            }
            BoundsOf::Envelope(id) => {
                let envelope = self.envelope(id)?;
                let served = envelope.process.as_ref();
                let served = served.and_then(|pid| Some((pid, self.state.process(pid)?)));
                match served {
                    Some((pid, process)) => Ok(self.state.bounds(pid, process, self.now)),
                    // It serves no process, so only its own end stands in the way.
                    None => {
                        let terminal_reason = envelope.ended.as_ref().map(|ended| ended.reason);
                        let can_continue = terminal_reason.is_none();
                        let remaining = Remaining::default();
                        Ok(Bounds { can_continue, terminal_reason, remaining })
                    }
                }
            }
        }
    }
}

impl State {
    fn bounds(&self, pid: &ProcessId, process: &Process, now: Time) -> Bounds {
        let remaining = self.remaining(pid, now);
        let terminal_reason = match process.is_live() {
            true => self.stops_agents(pid, process, now),
            false => process.terminal_reason,
        };
        let stands = process.is_held() || self.waits_for_rate(now, pid);
        let can_continue = process.is_live() && !stands && terminal_reason.is_none();
        Bounds { can_continue, terminal_reason, remaining }
    }

    /// Says for which reason a session would end if it issued an agent stage now (K267). Without a
    /// session the stage is one that calls a model once.
    fn stops_agents(
        &self,
        pid: &ProcessId,
        process: &Process,
        now: Time,
    ) -> Option<TerminalReason> {
        if self.running_session(pid).is_some() {
            return self.stop_of_next(now, pid).map(|stop| stop.reason);
        }
        let elapsed = process.elapsed(now);
        if process.quota.timeout_ms.most().is_some_and(|most| elapsed >= most) {
            return Some(TerminalReason::TimeoutExceeded);
        }
        let hops = process.account.used.agent_hops.saturating_add(1);
        if !process.quota.limit(Resource::AgentHops).allows(hops) {
            return Some(TerminalReason::MaxAgentHopsExceeded);
        }
        let call = Amounts { llm_calls: 1, ..Amounts::ZERO };
        self.misfit(pid, &call).map(|_| TerminalReason::MaxLlmCallsExceeded)
    }
}
