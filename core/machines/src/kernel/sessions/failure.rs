//! Failures: tried again, or for good (K269, K271).

use std::sync::Arc;

use super::Failure;
use super::event::SessionEvent;
use crate::kernel::decision::Decision;
use crate::kernel::ids::{ProcessId, StageName};
use crate::kernel::names::TerminalReason;
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::pipeline::route::{Ended, route};

/// Returns why a session ends whose stage failed for good (K271).
#[must_use]
pub(super) const fn fatal(kind: ErrorKind) -> TerminalReason {
    match kind {
        ErrorKind::Tool
        | ErrorKind::OutputInvalid
        | ErrorKind::RouterInvalid
        | ErrorKind::Dispatch => TerminalReason::ToolFailedFatally,
        ErrorKind::Llm | ErrorKind::ContextOverflow => TerminalReason::LlmFailedFatally,
        ErrorKind::Policy => TerminalReason::PolicyViolation,
        ErrorKind::Timeout => TerminalReason::TimeoutExceeded,
        ErrorKind::WorkerLost => TerminalReason::SystemError,
    }
}

impl Decision<'_> {
    /// A try of a stage failed (K269).
    pub(super) fn fail(&mut self, pid: &ProcessId, stage: &StageName, failure: Failure) {
        match self.retry_of(pid, stage, failure.kind) {
            Some((try_number, wait)) => {
                let (stage, retry_at) = (stage.clone(), self.now.plus(wait));
                let event = SessionEvent::RetryScheduled { stage, try_number, retry_at, failure };
                self.emit_session(pid, event);
            }
            None => self.fail_for_good(pid, stage, failure),
        }
    }

    /// Returns the number of the next try and the wait before it, if there is to be one.
    fn retry_of(
        &mut self,
        pid: &ProcessId,
        stage: &StageName,
        kind: ErrorKind,
    ) -> Option<(u64, u64)> {
        let session = self.state.running_session(pid)?;
        let (work, policy) = (session.work(stage)?, &session.stage(stage)?.retry);
        let failures = work.failures.saturating_add(1);
        if !policy.retries(kind, failures) {
            return None;
        }
        let (try_number, policy) = (work.tries + 1, policy.clone());
        let drawn = match policy.jitter_pct {
            0 => 0,
            most => self.draw(most.min(100)),
        };
        Some((try_number, policy.backoff(failures, drawn)))
    }

    /// A stage failed for good: outside a group, that leads to error_next or the end (K271).
    pub(super) fn fail_for_good(&mut self, pid: &ProcessId, stage: &StageName, failure: Failure) {
        let event = SessionEvent::StageFailed { stage: stage.clone(), failure: failure.clone() };
        self.emit_session(pid, event);
        let Some(session) = self.state.running_session(pid).filter(|it| it.group.is_none()) else {
            return;
        };
        let found = session.stage(stage).filter(|_| !session.is_parallel());
        let found = found.and_then(|stage| route(stage, &Ended::Failed, &self.scope(pid)?));
        match found {
            Some(found) => self.go(pid, &found),
            None => self.end_failed(pid, &failure),
        }
    }

    pub(super) fn end_failed(&mut self, pid: &ProcessId, failure: &Failure) {
        let error = Arc::clone(&failure.error);
        self.end(pid, fatal(failure.kind), &error);
    }
}
