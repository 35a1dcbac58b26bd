//! Attempts that nobody reports: timed out, lost, superseded (K270, K272).

use std::sync::Arc;

use super::event::SessionEvent;
use super::{AttemptEnd, Failure};
use crate::kernel::decision::Decision;
use crate::kernel::event::{Cause, ProcessEvent};
use crate::kernel::ids::{AttemptId, ProcessId, StageName};
use crate::kernel::names::{ProcessState, TerminalReason};
use crate::kernel::pipeline::kinds::{ErrorKind, OnLost};

impl Decision<'_> {
    /// Closes an attempt without a report, and charges all that it held.
    pub(super) fn give_up(&mut self, pid: &ProcessId, id: &AttemptId, cause: AttemptEnd) {
        let attempt = self.state.session(pid).and_then(|session| session.attempts.get(id));
        if let Some(charged) = attempt.map(|attempt| attempt.hold) {
            let attempt = id.clone();
            self.emit_session(pid, SessionEvent::AttemptClosed { attempt, cause, charged });
            self.watch(pid);
        }
    }

    /// An attempt took too long. The session moves, but nothing is handed out (K270).
    pub(in crate::kernel) fn give_up_late(&mut self, pid: &ProcessId, id: &AttemptId) {
        let attempt = self.state.session(pid).and_then(|session| session.attempts.get(id));
        let Some((stage, grouped)) = attempt.map(|it| (it.stage.clone(), it.branch.is_some()))
        else {
            return;
        };
        self.give_up(pid, id, AttemptEnd::TimedOut);
        let error = Arc::from(format!("attempt {id} at stage {stage} timed out"));
        self.fail(pid, &stage, Failure { kind: ErrorKind::Timeout, error });
        if grouped {
            self.join(pid);
        }
        self.rest(pid);
    }

    fn live_attempts(&self, pid: &ProcessId) -> Vec<AttemptId> {
        let session = self.state.session(pid);
        session.into_iter().flat_map(|session| session.attempts.keys().cloned()).collect()
    }

    /// Nobody waits for what comes of the live attempts any more (K272).
    pub(in crate::kernel) fn supersede(&mut self, pid: &ProcessId) {
        for id in self.live_attempts(pid) {
            self.give_up(pid, &id, AttemptEnd::Superseded);
        }
    }

    /// Whoever worked was not heard of: the live attempts are lost, and a Running process waits for
    /// the next one to claim it (K79, K272).
    pub(in crate::kernel) fn lose_lease(&mut self, pid: &ProcessId) {
        crate::sometimes!("kernel.lease_expired");
        let mut stages = Vec::new();
        for id in self.live_attempts(pid) {
            crate::sometimes!("kernel.attempt_lost");
            let session = self.state.session(pid);
            let stage = session.and_then(|it| Some(it.attempts.get(&id)?.stage.clone()));
            stages.extend(stage);
            self.give_up(pid, &id, AttemptEnd::Lost);
        }
        for stage in stages {
            self.count_loss(pid, &stage);
        }
        self.join(pid);
        self.rest(pid);
        if self.state.process(pid).is_some_and(|it| it.state == ProcessState::Running) {
            self.change(pid, ProcessState::Ready, Cause::LeaseExpired);
        }
    }

    /// A stage whose attempts are lost too often, or may not be, has failed.
    fn count_loss(&mut self, pid: &ProcessId, name: &StageName) {
        let most = self.state.config.max_lost;
        let Some(session) = self.state.running_session(pid) else {
            return;
        };
        let (Some(stage), Some(work)) = (session.stage(name), session.work(name)) else {
            return;
        };
        if stage.on_lost == OnLost::Fail || work.lost > most {
            let error = Arc::from("worker lost");
            self.fail(pid, name, Failure { kind: ErrorKind::WorkerLost, error });
        }
    }

    /// A process that was woken while somebody works for it goes on with them (K81).
    pub(in crate::kernel) fn return_to_holder(&mut self, pid: &ProcessId) {
        let lease = self.state.process(pid).and_then(|process| process.run_lease.clone());
        let ready = self.state.process(pid).is_some_and(|it| it.state == ProcessState::Ready);
        if let Some(lease) = lease.filter(|_| ready && self.state.has_live_attempt(pid)) {
            crate::sometimes!("kernel.wake_to_holder");
            let (from, to) = (ProcessState::Ready, ProcessState::Running);
            let (cause, lease, block, wait) = (Cause::Claimed, Some(*lease), None, None);
            let event = ProcessEvent::StateChanged { from, to, cause, lease, block, wait };
            self.emit_process(pid, event);
        }
    }

    /// A session ends with its process (K82, K83).
    pub(in crate::kernel) fn end_session(
        &mut self,
        pid: &ProcessId,
        reason: TerminalReason,
        message: &Arc<str>,
    ) {
        if self.state.running_session(pid).is_some() {
            let message = Arc::clone(message);
            self.emit_session(pid, SessionEvent::Ended { reason, message });
        }
    }

    /// Drops the session of a process that becomes Zombie (section 3).
    pub(in crate::kernel) fn remove_session(&mut self, pid: &ProcessId) {
        if self.state.session(pid).is_some() {
            self.emit_session(pid, SessionEvent::Removed);
        }
    }
}
