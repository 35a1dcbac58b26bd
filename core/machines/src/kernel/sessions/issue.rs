//! Handing out attempts: `NextInstruction` and issue (K240, K267).

use super::event::{Issued, SessionEvent};
use super::shortage::{Stop, hold_of};
use super::{Failure, Session, Standing};
use crate::kernel::decision::Decision;
use crate::kernel::event::{Body, Cause};
use crate::kernel::ids::{AttemptId, ProcessId, StageName};
use crate::kernel::names::ProcessState;
use crate::kernel::pipeline::PipelineStage;
use crate::kernel::pipeline::kinds::NodeKind;
use crate::kernel::pipeline::route::handed_out;
use crate::kernel::process::Process;
use crate::kernel::rates::counts_for_rate;
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::time::Time;

/// What came of trying to hand out an attempt.
pub(super) enum Issuance {
    /// It is handed out.
    Issued,
    /// A bound stops it.
    Stopped(Stop),
    /// The rate of its process allows it at this time (K121).
    Limited(Time),
    /// Its task is too large (K243).
    Overflowed(Failure),
}

impl Session {
    /// Says whether a group is open in which nothing can be handed out now (K240 f).
    #[must_use]
    pub fn group_rests(&self, now: Time) -> bool {
        self.group.is_some() && !self.works.iter().any(|work| work.is_due(now))
    }
}

impl Decision<'_> {
    /// Makes an event of a process's session.
    pub(super) fn emit_session(&mut self, pid: &ProcessId, event: SessionEvent) {
        let subject = self.subject(pid);
        self.emit(subject, Body::Session { event });
    }

    /// Finds a process whose tasks the principal may ask for: its owner, workers, operators, the
    /// node and whoever holds it (K370).
    pub(super) fn workable(&self, pid: &ProcessId) -> Result<&Process, Refusal> {
        match self.by.takes_any_work() {
            true => self.known(pid),
            false => self.held(pid),
        }
    }

    /// `NextInstruction` (K240): lets the session go on as far as it can. What is told then is a
    /// view of the state.
    pub(in crate::kernel) fn next_instruction(&mut self, pid: &ProcessId) -> Result<(), Refusal> {
        let process = self.workable(pid)?;
        let Some(session) = self.state.session(pid) else {
            let told = format!("process {pid} has no session");
            return Err(Refusal::new(Code::SessionNotFound, told));
        };
        if session.ended.is_some() {
            return Ok(());
        }
        if process.is_held() {
            self.touch_lease(pid); // K78: who works on other branches asks on.
            return Ok(());
        }
        self.check_holder(pid, process)?;
        let state = process.state;
        let rests = session.attempts.is_empty() && session.group_rests(self.now);
        let draining = self.state.counters.draining.is_some();
        match state {
            ProcessState::New | ProcessState::Ready if !rests && !draining => {
                self.claim_for_work(pid)?;
            }
            ProcessState::Running if !draining => {}
            ProcessState::New
            | ProcessState::Ready
            | ProcessState::Running
            | ProcessState::Waiting
            | ProcessState::Blocked
            | ProcessState::Terminated
            | ProcessState::Zombie => {
                self.touch_lease(pid);
                return Ok(());
            }
        }
        self.advance(pid);
        self.checkpoint(pid);
        self.touch_lease(pid);
        Ok(())
    }

    /// K240 d, K290: only the holder is told, and only the executor drives what is driven.
    fn check_holder(&self, pid: &ProcessId, process: &Process) -> Result<(), Refusal> {
        let refused = |told: String| Err(Refusal::new(Code::NotHolder, told));
        match (process.driven, self.by.is_node()) {
            (true, false) => return refused(format!("process {pid} is driven by the node")),
            (false, true) => return refused(format!("process {pid} is not driven by the node")),
            (true, true) | (false, false) => {}
        }
        match &process.run_lease {
            Some(run) if run.holder != self.holder() => {
                refused(format!("process {pid} is run by somebody else"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// New → Ready → Running, for whoever asks (K240 i).
    fn claim_for_work(&mut self, pid: &ProcessId) -> Result<(), Refusal> {
        let process = self.known(pid)?;
        if process.state == ProcessState::New {
            self.refuse_spent(pid, process)?;
            self.change(pid, ProcessState::Ready, Cause::Scheduled);
        }
        self.claim(pid, Cause::Claimed);
        Ok(())
    }

    /// Hands out an attempt at a stage, all or nothing (K267).
    pub(super) fn issue(&mut self, pid: &ProcessId, stage: &StageName) -> Issuance {
        if let Some(stop) = self.state.stop_of(self.now, pid, stage) {
            return Issuance::Stopped(stop);
        }
        if let Some(failure) = self.state.overflow_of(self.now, pid, stage) {
            return Issuance::Overflowed(failure);
        }
        let counts = self.counts_for_rate(pid, stage);
        if counts && let Err(until) = self.rate_of_process(pid) {
            return Issuance::Limited(until);
        }
        let attempt: AttemptId = self.mint(|state, id| {
            state.session(pid).is_some_and(|session| session.closed_attempt(id).is_some())
        });
        if let Some(issued) = self.issued(pid, stage, attempt) {
            if self.ends_overworked(pid) {
                return Issuance::Issued; // To nobody: where a Router may go is not known.
            }
            if counts {
                self.hit_process(pid);
            }
            self.emit_session(pid, SessionEvent::AttemptIssued { issued: Box::new(issued) });
            self.watch(pid);
        }
        Issuance::Issued
    }

    /// Attempts that hold calls of models or requests for inference count for the rate (K121).
    fn counts_for_rate(&self, pid: &ProcessId, name: &StageName) -> bool {
        let stage = self.state.running_session(pid).and_then(|session| session.stage(name));
        stage.is_some_and(|stage| counts_for_rate(&hold_of(stage)))
    }

    fn issued(&self, pid: &ProcessId, name: &StageName, attempt: AttemptId) -> Option<Issued> {
        let session = self.state.running_session(pid)?;
        let (stage, work) = (session.stage(name)?, session.work(name)?);
        if let Standing::Backoff { epoch, .. } = work.standing {
            crate::sometimes!("kernel.retry_after_crash", epoch < self.state.counters.epoch);
        }
        let place = session.works.iter().position(|work| work.stage == *name)?;
        let branch = u32::try_from(place).ok().filter(|_| session.group.is_some());
        Some(Issued {
            attempt,
            stage: name.clone(),
            visit: work.visit,
            try_number: work.tries + 1,
            branch,
            hold: hold_of(stage),
            hop: work.tries == 0,
            deadline: session.pipeline.timeout(stage).most().map(|span| self.now.plus(span)),
            holder: self.holder(),
            targets: self.targets_of(pid, stage),
        })
    }

    /// Returns where a Router may go now (K262).
    fn targets_of(&self, pid: &ProcessId, stage: &PipelineStage) -> Vec<StageName> {
        let Some(scope) = self.scope(pid).filter(|_| stage.node_kind == NodeKind::Router) else {
            return Vec::new();
        };
        let targets = handed_out(stage, &scope);
        let names = targets.iter().map(|target| target.target.as_str());
        names.filter_map(|name| StageName::parse("target", name).ok()).collect()
    }
}
