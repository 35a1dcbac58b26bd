//! What attempts hold of budgets, from the events of sessions (K104, K251, K267, K272).

use machines::kernel::ids::{AttemptId, ProcessId};
use machines::kernel::quota::{Amounts, Limit};
use machines::kernel::sessions::event::SessionEvent;

use super::Book;

/// What a session may use: its limit on calls of models, and what was used when it began (K100).
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// The most calls.
    pub calls: Limit,
    /// Those before it.
    pub base: u64,
}

impl Book {
    /// Returns what an attempt's hold covers of some amounts (K104).
    #[must_use]
    pub fn drawn(&self, attempt: Option<&AttemptId>, amounts: &Amounts) -> Amounts {
        let hold = attempt.and_then(|attempt| self.holds.get(attempt));
        hold.map_or(Amounts::ZERO, |hold| hold.least(amounts))
    }

    /// Takes from an attempt's hold what it covers; returns that.
    pub(super) fn draw(&mut self, attempt: Option<&AttemptId>, amounts: &Amounts) -> Amounts {
        let drawn = self.drawn(attempt, amounts);
        if let Some(hold) = attempt.and_then(|attempt| self.holds.get_mut(attempt)) {
            *hold = hold.minus(&drawn);
        }
        drawn
    }

    pub(super) fn add_session(&mut self, pid: &ProcessId, event: &SessionEvent) {
        match event {
            SessionEvent::Started { pipeline, .. } => {
                let base = self.known.get(pid).map_or(0, |known| known.used.llm_calls);
                let allowance = Allowance { calls: pipeline.max_llm_calls, base };
                self.sessions.insert(pid.clone(), allowance);
            }
            SessionEvent::Ended { .. } | SessionEvent::Removed => {
                self.sessions.remove(pid);
            }
            SessionEvent::AttemptIssued { issued } => {
                self.holds.insert(issued.attempt.clone(), issued.hold);
                self.each_level(pid, |known| known.held = known.held.plus(&issued.hold));
            }
            SessionEvent::AttemptReported { reported } => {
                self.let_go(pid, &reported.attempt);
                self.charge(pid, &reported.charged, &reported.unreserved);
            }
            SessionEvent::AttemptClosed { attempt, charged, .. } => {
                self.let_go(pid, attempt);
                self.charge(pid, charged, &Amounts::ZERO);
            }
            SessionEvent::Moved { .. }
            | SessionEvent::StageCompleted { .. }
            | SessionEvent::StageFailed { .. }
            | SessionEvent::GroupOpened { .. }
            | SessionEvent::GroupJoined { .. }
            | SessionEvent::RetryScheduled { .. }
            | SessionEvent::Checkpoint { .. } => {}
        }
    }

    fn let_go(&mut self, pid: &ProcessId, attempt: &AttemptId) {
        let hold = self.holds.remove(attempt).unwrap_or(Amounts::ZERO);
        self.each_level(pid, |known| known.held = known.held.minus(&hold));
    }
}
