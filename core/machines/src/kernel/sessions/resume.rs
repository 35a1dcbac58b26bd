//! Questions to people: from reports and routes, for more of a budget, and what an answer does to a
//! session (K118, K163, K165–K168, K252, K265, K273).

use std::sync::Arc;

use super::event::SessionEvent;
use super::shortage::Stop;
use super::{Session, Standing, Unread};
use crate::kernel::decision::Decision;
use crate::kernel::expression::FieldRef;
use crate::kernel::ids::{InterruptId, ProcessId, StageName};
use crate::kernel::interrupts::check::Exhausted;
use crate::kernel::interrupts::event::InterruptEvent;
use crate::kernel::interrupts::interrupt::{Answer, Interrupt, NewInterrupt, NewTarget, Origin};
use crate::kernel::interrupts::resume::Closing;
use crate::kernel::json::Json;
use crate::kernel::json::document;
use crate::kernel::names::{ExpiryPolicy, InterruptKind, OnExhausted, TerminalReason};
use crate::kernel::pipeline::kinds::Via;
use crate::kernel::state::State;
use crate::kernel::time::Time;

/// An answer as expressions and tasks see it: the fields of an `InterruptResponse` (2.5).
#[must_use]
pub fn answer_json(answer: &Answer) -> Json {
    let response = &answer.response;
    let text = |text: &Arc<str>| Json::from(Arc::clone(text));
    let parts = [
        ("text", response.text.as_ref().map(text)),
        ("approved", response.approved.map(Json::from)),
        ("decision", response.decision.map(|decision| Json::from(decision.name()))),
        ("data", response.data.clone()),
        ("by", Some(Json::from(answer.by.as_str()))),
        ("received_at", Some(Json::from(answer.received_at.as_millis()))),
    ];
    Json::object(parts.into_iter().filter_map(|(name, part)| Some((name, part?))))
}

impl State {
    /// Notes in a session what was asked and answered (K118, K163, K167).
    pub(in crate::kernel) fn note_interrupt(
        &mut self,
        now: Time,
        pid: &ProcessId,
        event: &InterruptEvent,
    ) {
        if self.running_session(pid).is_none() {
            return;
        }
        match event {
            InterruptEvent::Raised { interrupt } => self.note_question(now, pid, interrupt),
            InterruptEvent::Resolved { id, .. } => self.note_answer(now, (pid, id), false),
            InterruptEvent::Expired { id, policy: ExpiryPolicy::Continue, .. } => {
                self.note_answer(now, (pid, id), true);
            }
            InterruptEvent::Expired { .. }
            | InterruptEvent::Cancelled { .. }
            | InterruptEvent::Removed { .. } => {}
        }
    }

    fn note_question(&mut self, now: Time, pid: &ProcessId, interrupt: &Interrupt) {
        let for_more = interrupt.origin == Origin::Kernel;
        // A stage that led to the question is issued again, unless the answer leads elsewhere.
        let again = match &interrupt.origin {
            Origin::Stage { stage, attempt: None } => Some(stage),
            Origin::Stage { attempt: Some(_), .. } | Origin::External | Origin::Kernel => None,
        };
        if !for_more && again.is_none() {
            return;
        }
        self.change_session(now, pid, |session| {
            for work in &mut session.works {
                work.asked |= for_more && !work.is_live() && !work.has_ended();
                if Some(&work.stage) == again && work.has_ended() {
                    work.standing = Standing::Due;
                }
            }
        });
    }

    fn note_answer(&mut self, now: Time, (pid, id): (&ProcessId, &InterruptId), expired: bool) {
        let Some(interrupt) = self.interrupt(id) else {
            return;
        };
        let stage = match &interrupt.origin {
            Origin::Stage { stage, .. } => Some(stage.clone()),
            Origin::External | Origin::Kernel => None,
        };
        let response = interrupt.answer.as_deref().map(answer_json);
        let blocking = interrupt.blocking;
        let most = usize::try_from(self.config.limits.interrupts_pending).unwrap_or(usize::MAX);
        self.change_session(now, pid, |session| {
            if response.is_some() {
                session.response.clone_from(&response);
            }
            if blocking {
                let interrupt = id.clone();
                session.unread.push(Unread { interrupt, stage, response, expired });
                let over = session.unread.len().saturating_sub(most);
                session.unread.drain(..over);
            }
        });
    }
}

impl Session {
    /// Takes what the next task of a stage is to be told of answers: a branch that asked gets its
    /// own, and nobody else does (K167, K273).
    pub(super) fn take_unread(&mut self, stage: &StageName) -> Option<Unread> {
        let waits = |name: &StageName| self.group.is_some() && self.work(name).is_some();
        let meant = |unread: &Unread| match &unread.stage {
            Some(asker) => asker == stage || !waits(asker),
            None => true,
        };
        let (taken, left): (Vec<_>, Vec<_>) = self.unread.iter().cloned().partition(meant);
        self.unread = left;
        taken.into_iter().next_back()
    }
}

impl Decision<'_> {
    /// A bound stops the session, which asks for more if it may (K118).
    pub(super) fn asks_for_more(&mut self, pid: &ProcessId, stop: &Stop) -> bool {
        let asks = self.state.process(pid).map(|process| process.on_exhausted);
        let asked = self.state.running_session(pid).is_none_or(|session| {
            session.works.iter().any(|work| work.asked && !work.is_live() && !work.has_ended())
        });
        if asks != Some(OnExhausted::Interrupt) || asked {
            return false;
        }
        let short = &stop.shortage;
        let exhausted = Exhausted {
            resource: short.resource,
            used: short.used,
            held: short.held,
            limit: short.limit,
        };
        self.ask_for_more(pid, exhausted, Origin::Kernel).is_some()
    }

    /// A stage's report asks a person (K252). What is bound is as the report left it.
    pub(super) fn ask_for_stage(&mut self, pid: &ProcessId, new: &NewInterrupt, origin: Origin) {
        match self.check_interrupt(pid, new) {
            Ok(prepared) => drop(self.raise(pid, prepared, origin)),
            Err(refusal) => self.end(pid, TerminalReason::SystemError, &refusal.text),
        }
    }

    /// Routing leads to a question, which the newest output words (K265).
    pub(super) fn ask_by_route(&mut self, pid: &ProcessId, kind: InterruptKind) {
        let Some(stage) = self.state.running_session(pid).map(|it| it.position.clone()) else {
            return;
        };
        let output = self.state.scope(pid).and_then(|scope| scope.newest().cloned());
        match worded(kind, output.as_ref()) {
            Ok(new) => self.ask_for_stage(pid, &new, Origin::Stage { stage, attempt: None }),
            Err(told) => self.end(pid, TerminalReason::SystemError, &told),
        }
    }

    /// What a closed question does to the session of its process; `false` if it has none that
    /// goes on (K165, K166).
    pub(in crate::kernel) fn resume_session(
        &mut self,
        pid: &ProcessId,
        interrupt: &Interrupt,
        closing: &Closing,
    ) -> bool {
        if self.state.running_session(pid).is_none() {
            return false;
        }
        match closing {
            Closing::Failed => return false,
            Closing::Denied { message } => self.deny_session(pid, interrupt, message),
            Closing::Accepted => {
                if let Some(to) = self.resume_stage(pid, interrupt) {
                    self.move_to(pid, &to, Via::Resume);
                }
                self.wake(pid);
            }
            Closing::Continued => self.wake(pid),
        }
        true
    }

    /// Where an accepted answer leads, if it leads anywhere. A branch of a group stays, and goes on
    /// from where the session is if others have decided the group meanwhile (K165, K273).
    fn resume_stage(&self, pid: &ProcessId, interrupt: &Interrupt) -> Option<StageName> {
        let Origin::Stage { stage, .. } = &interrupt.origin else {
            return None;
        };
        let session = self.state.running_session(pid).filter(|it| it.group.is_none())?;
        let config = &session.pipeline;
        if session.position != *stage && config.is_branch(stage) {
            return None;
        }
        match interrupt.kind {
            InterruptKind::Clarification => config.clarification_resume_stage.clone(),
            InterruptKind::Confirmation => config.confirmation_resume_stage.clone(),
            InterruptKind::AgentReview => config.agent_review_resume_stage.clone(),
            InterruptKind::Checkpoint
            | InterruptKind::ResourceExhausted
            | InterruptKind::Timeout
            | InterruptKind::SystemError => None,
        }
    }

    /// K166: a denial leads to its stage, or to the end; it gives an open group up (K273).
    fn deny_session(&mut self, pid: &ProcessId, interrupt: &Interrupt, message: &Arc<str>) {
        let session = self.state.running_session(pid);
        let to = session.and_then(|session| session.pipeline.denied_stage.clone());
        match to.filter(|_| matches!(interrupt.origin, Origin::Stage { .. })) {
            Some(to) => {
                self.cancel_pending(pid, message);
                self.abandon_group(pid);
                self.move_to(pid, &to, Via::Denied);
                self.wake(pid);
            }
            None => self.end(pid, TerminalReason::InterruptDenied, message),
        }
    }

    fn abandon_group(&mut self, pid: &ProcessId) {
        let session = self.state.running_session(pid);
        let group = session.and_then(|session| session.group.as_ref()).map(|it| it.id.clone());
        if let Some(group) = group {
            self.supersede(pid);
            let (winner, merged) = (None, Vec::new());
            self.emit_session(pid, SessionEvent::GroupJoined { group, winner, merged });
        }
    }
}

/// Words a question as an output has it: `question`, `message`, `data` and `target` (K265).
fn worded(kind: InterruptKind, output: Option<&Json>) -> Result<NewInterrupt, String> {
    let part = |name: &str| output.and_then(|output| output.get(name)).filter(|it| !it.is_null());
    let text = |name: &str| match part(name).map(|json| (json, json.as_str())) {
        None => Ok(None),
        Some((_, Some(text))) => Ok(Some(Arc::from(text))),
        Some((json, None)) => Err(format!("{name}: expected a string, got {}", json.type_name())),
    };
    let target = part("target").map(target).transpose()?;
    Ok(NewInterrupt {
        question: text("question")?,
        message: text("message")?,
        data: part("data").cloned(),
        target: target.map(Box::new),
        ..NewInterrupt::new(kind)
    })
}

fn target(json: &Json) -> Result<NewTarget, String> {
    let action = json.get("action").and_then(Json::as_str);
    let action = action.ok_or_else(|| "target.action is required".to_owned())?;
    let binds = match json.get("binds").filter(|binds| !binds.is_null()) {
        Some(binds) => document::read::<Vec<FieldRef>>(binds, "target.binds"),
        None => Ok(Vec::new()),
    };
    Ok(NewTarget {
        action: Arc::from(action),
        params: json.get("params").cloned().unwrap_or(Json::NULL),
        binds: binds.map_err(|refusal| refusal.text)?,
    })
}
