//! `InitializeSession`: a process gets a pipeline to follow (K230, K231).

use super::Pipeline;
use super::event::SessionEvent;
use crate::kernel::config::Limits;
use crate::kernel::decision::Decision;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::event::Cause;
use crate::kernel::expression::ExpressionLimits;
use crate::kernel::ids::{EnvelopeId, ProcessId, UserId};
use crate::kernel::names::{BlockReason, LapseCause, ProcessState};
use crate::kernel::pipeline::kinds::{RunMode, Via};
use crate::kernel::pipeline::limits::FlowLimits;
use crate::kernel::refusal::{Code, Refusal};

/// What a session works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EnvelopeChoice {
    /// An envelope that there is.
    Known(EnvelopeId),
    /// A new one.
    New(Box<NewEnvelope>),
}

/// What a process's session is to be (K230).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Initialize {
    /// Of which process.
    pub pid: ProcessId,
    /// What it follows.
    pub pipeline: Pipeline,
    /// What it works on.
    pub envelope: EnvelopeChoice,
    /// Whether it may take the place of another that has not ended.
    pub force: bool,
}

impl FlowLimits {
    /// Takes what concerns pipelines from the limits of the kernel (K25).
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        let small = |limit: u64| u32::try_from(limit).unwrap_or(u32::MAX);
        Self {
            expression: ExpressionLimits {
                depth: small(limits.expression_depth),
                nodes: small(limits.expression_nodes),
                segments: small(limits.path_segments),
            },
            name_bytes: small(limits.name_bytes),
            text_bytes: small(limits.text_bytes),
            entries: small(limits.entries),
            stages: small(limits.stages),
            rules: small(limits.rules),
            branches: small(limits.branches),
            amount: limits.amount,
            span_ms: limits.span_ms,
            steps: Self::DEFAULT.steps,
        }
    }
}

impl Decision<'_> {
    /// `InitializeSession` (K230).
    pub(in crate::kernel) fn initialize(&mut self, asked: &Initialize) -> Result<(), Refusal> {
        let pid = &asked.pid;
        let process = self.owned(pid)?;
        let (user, live) = (process.user.clone(), process.is_live());
        if !live {
            let told = format!("process {pid} has ended");
            return Err(Refusal::new(Code::ProcessTerminal, told));
        }
        let forced = match self.state.running_session(pid) {
            None => false,
            Some(_) if self.is_same_session(asked) => return Ok(()),
            Some(_) if asked.force => true,
            Some(_) => {
                let told = format!("process {pid} has a session that has not ended");
                return Err(Refusal::new(Code::SessionExists, told));
            }
        };
        self.refuse_draining()?;
        asked.pipeline.check(&FlowLimits::of(&self.state.config.limits))?;
        let known = self.check_envelope(&asked.envelope, Some(pid), &user)?;
        if forced {
            self.replace_session(pid);
        }
        let envelope = match (known, &asked.envelope) {
            (Some(id), _) => id,
            (None, EnvelopeChoice::Known(id)) => id.clone(),
            (None, EnvelopeChoice::New(new)) => self.make_envelope(new, user),
        };
        self.begin(pid, (&asked.pipeline, envelope), forced);
        self.touch_lease(pid);
        Ok(())
    }

    /// Says whether a session is as asked for. One that is replaced by force starts over, unless
    /// it has not done anything yet: then it was the same command that made it (K6).
    fn is_same_session(&self, asked: &Initialize) -> bool {
        let id = match &asked.envelope {
            EnvelopeChoice::Known(id) => Some(id),
            EnvelopeChoice::New(new) => new.id.as_ref(),
        };
        self.state.running_session(&asked.pid).is_some_and(|session| {
            let fresh = session.created_at == session.last_activity_at && session.edges.is_empty();
            session.pipeline.hash() == asked.pipeline.hash()
                && id == Some(&session.envelope)
                && (!asked.force || fresh && session.attempts.is_empty())
        })
    }

    /// Checks what the session is to work on; returns the envelope that there is already.
    pub(super) fn check_envelope(
        &self,
        asked: &EnvelopeChoice,
        pid: Option<&ProcessId>,
        user: &UserId,
    ) -> Result<Option<EnvelopeId>, Refusal> {
        let known = match asked {
            EnvelopeChoice::Known(id) => {
                self.owned_envelope(id)?;
                Some(id.clone())
            }
            EnvelopeChoice::New(new) => self.check_new_envelope(new, user)?,
        };
        let Some(id) = &known else {
            return Ok(None);
        };
        let owner = self.state.envelope(id).map(|envelope| &envelope.user);
        if owner != Some(user) {
            let told = format!("envelope {id} belongs to another user");
            return Err(Refusal::new(Code::PermissionDenied, told));
        }
        if let Some(other) = self.state.bound_to(id).filter(|other| Some(*other) != pid) {
            let told = format!("envelope {id} serves process {other}");
            return Err(Refusal::new(Code::EnvelopeInUse, told));
        }
        Ok(known)
    }

    /// Lets go of a session that had not ended (K230).
    fn replace_session(&mut self, pid: &ProcessId) {
        crate::sometimes!("kernel.force_replaced");
        self.supersede(pid);
        self.cancel_pending(pid, "the session is replaced");
        self.lapse_approvals(pid, LapseCause::SessionReplaced);
        let Some(process) = self.state.process(pid) else {
            return;
        };
        let backoff = process.block.as_ref().is_some_and(|it| it.reason != BlockReason::Manual);
        match process.state {
            ProcessState::Waiting => self.change(pid, ProcessState::Ready, Cause::Released),
            ProcessState::Blocked if backoff => {
                self.change(pid, ProcessState::Ready, Cause::Released);
            }
            ProcessState::New
            | ProcessState::Ready
            | ProcessState::Running
            | ProcessState::Blocked
            | ProcessState::Terminated
            | ProcessState::Zombie => {}
        }
    }

    /// Begins a session at the stage that its envelope names, or the first (K231).
    fn begin(
        &mut self,
        pid: &ProcessId,
        (pipeline, envelope): (&Pipeline, EnvelopeId),
        forced: bool,
    ) {
        let named = self.state.envelope(&envelope).and_then(|it| it.current_stage.as_ref());
        let entry = pipeline.entry(named.map_or("", |name| name.as_str()));
        let Some(entry) = entry.cloned() else {
            return;
        };
        let event = SessionEvent::Started {
            pipeline: pipeline.clone(),
            config_hash: pipeline.hash(),
            envelope,
            entry: entry.clone(),
            forced,
        };
        self.emit_session(pid, event);
        // In run mode Parallel each group counts its own visits.
        if pipeline.run_mode == RunMode::Sequential {
            self.emit_move(pid, (None, &entry), (Via::Entry, false));
        }
    }
}
