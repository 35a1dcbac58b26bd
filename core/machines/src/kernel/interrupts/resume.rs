//! What a closed interrupt does to its process, and what interrupts know of sessions (K159, K161 –
//! K166).
//!
//! | closed by | without a session |
//! |-----------|-------------------|
//! | an answer that accepts, or a cancel of what asks no leave | the process wakes |
//! | a denial: an answer, or a cancel of what asks leave | it wakes; its owner reads the answer |
//! | expiry, policy Deny | it ends `InterruptDenied` |
//! | expiry, policy Fail | it ends `InterruptExpired` |
//! | expiry, policy Continue | it wakes |
//!
//! What it does to one with a session is in `sessions/resume.rs` (K165, K166).
//!
//! A process that asked for more time, and was not given any, ends `TimeoutExceeded` in place of
//! waking (K112).

use std::sync::Arc;

use crate::kernel::decision::Decision;
use crate::kernel::event::{Cause, ProcessEvent};
use crate::kernel::expression::FieldRef;
use crate::kernel::ids::ProcessId;
use crate::kernel::json::Json;
use crate::kernel::names::{InterruptKind, InterruptStatus, ProcessState, TerminalReason};
use crate::kernel::state::State;

use super::interrupt::{Interrupt, Origin};

/// How a blocking interrupt was closed, as its process sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Closing {
    /// With a yes, or with an answer that is neither yes nor no (K156), or by taking back what
    /// asks no leave (K158).
    Accepted,
    /// With a no, or with silence that is one (K161).
    Denied {
        /// What a session ends with (K166).
        message: Arc<str>,
    },
    /// By silence, after which nothing goes on (K162).
    Failed,
    /// By silence, after which all goes on (K163).
    Continued,
}

impl State {
    /// Says whether a session steers the process, so that fields can be bound (K168).
    pub(in crate::kernel) fn binds_fields(&self, pid: &ProcessId) -> bool {
        self.running_session(pid).is_some()
    }

    /// Returns the current value of a field of a process's session (K168, K169).
    pub(in crate::kernel) fn field(&self, pid: &ProcessId, field: &FieldRef) -> Option<Json> {
        field.find(&self.scope(pid)?).cloned()
    }
}

impl Decision<'_> {
    /// Lets a process go on after a blocking interrupt of it was closed, or ends it. `interrupt` is
    /// as it is now that it is closed.
    pub(in crate::kernel) fn resume(
        &mut self,
        pid: &ProcessId,
        interrupt: &Interrupt,
        closing: Closing,
    ) {
        if closing != Closing::Failed
            && !self.lacks_time(pid, interrupt)
            && self.resume_session(pid, interrupt, &closing)
        {
            return;
        }
        match closing {
            Closing::Failed => {
                let message = interrupt.unanswered();
                self.end(pid, TerminalReason::InterruptExpired, &message);
            }
            Closing::Denied { message } if interrupt.status == InterruptStatus::Expired => {
                self.end(pid, TerminalReason::InterruptDenied, &message);
            }
            Closing::Denied { .. } => self.wake(pid),
            Closing::Accepted | Closing::Continued if self.lacks_time(pid, interrupt) => {
                let message = "the time of the process is used up";
                self.end(pid, TerminalReason::TimeoutExceeded, message);
            }
            Closing::Accepted | Closing::Continued => self.wake(pid),
        }
    }

    /// K112: the question was for more time, and there is none.
    fn lacks_time(&self, pid: &ProcessId, interrupt: &Interrupt) -> bool {
        let asked = interrupt.kind == InterruptKind::Timeout && interrupt.origin == Origin::Kernel;
        let left = |pid| {
            let process = self.state.process(pid)?;
            process.quota.timeout_ms.less(process.elapsed(self.now))
        };
        asked && left(pid) == Some(0)
    }

    /// Makes a process that waited for answers Ready when none is left to wait for (K159), and lets
    /// it run on where its holder still works on it (K81). A process that was held joins the ready
    /// set as the interrupt is closed (K62).
    pub(in crate::kernel) fn wake(&mut self, pid: &ProcessId) {
        let Some(process) = self.state.process(pid).filter(|process| !process.is_held()) else {
            return;
        };
        match process.state {
            ProcessState::Waiting => {
                let lease = process.run_lease.clone();
                let lease = lease.filter(|_| self.state.has_live_attempt(pid));
                self.change(pid, ProcessState::Ready, Cause::Answered);
                if let Some(lease) = lease {
                    crate::sometimes!("kernel.wake_to_holder");
                    self.emit_process(
                        pid,
                        ProcessEvent::StateChanged {
                            from: ProcessState::Ready,
                            to: ProcessState::Running,
                            cause: Cause::Answered,
                            lease: Some(*lease),
                            block: None,
                            wait: None,
                        },
                    );
                }
            }
            ProcessState::Ready => crate::sometimes!("kernel.held_ready"),
            ProcessState::New
            | ProcessState::Running
            | ProcessState::Blocked
            | ProcessState::Terminated
            | ProcessState::Zombie => {}
        }
    }

    /// Running → Waiting for an answer. Who works on a stage goes on, and keeps its lease (K78,
    /// K152).
    pub(super) fn wait_for_answer(&mut self, pid: &ProcessId) {
        let Some(process) = self.state.process(pid) else {
            return;
        };
        if process.state == ProcessState::Running {
            let lease = process.run_lease.as_deref().cloned();
            let lease = lease.filter(|_| self.state.has_live_attempt(pid));
            self.emit_process(
                pid,
                ProcessEvent::StateChanged {
                    from: ProcessState::Running,
                    to: ProcessState::Waiting,
                    cause: Cause::Interrupted,
                    lease,
                    block: None,
                    wait: None,
                },
            );
        }
    }
}
