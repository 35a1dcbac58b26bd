//! The envelope as agents see it: all of it but history, errors and prior outputs (K243, 13.3).

use std::sync::Arc;

use super::resume::answer_json;
use super::{Failure, Session};
use crate::kernel::envelopes::{Envelope, GoalStage};
use crate::kernel::ids::{EnvelopeId, OutputKey, ProcessId, StageName};
use crate::kernel::interrupts::interrupt::{Interrupt, Origin};
use crate::kernel::json::Json;
use crate::kernel::json::document::Document;
use crate::kernel::pipeline::PipelineStage;
use crate::kernel::pipeline::kinds::{ContextOverflow, ErrorKind};
use crate::kernel::process::Process;
use crate::kernel::query::envelope::LedgerView;
use crate::kernel::state::State;
use crate::kernel::time::Time;

/// What the envelope of a session shows to its agents.
#[derive(Clone, Debug)]
pub(super) struct Context<'a> {
    id: &'a EnvelopeId,
    envelope: &'a Envelope,
    bounds: LedgerView,
    interrupt: Option<&'a Interrupt>,
}

impl State {
    /// Says whether the task of a stage would be too large, were it issued now (K243).
    pub(super) fn overflow_of(
        &self,
        now: Time,
        pid: &ProcessId,
        stage: &StageName,
    ) -> Option<Failure> {
        let (process, session) = (self.process(pid)?, self.session(pid)?);
        let first = session.work(stage).is_none_or(|work| work.tries == 0);
        let stage = session.stage(stage)?;
        stage.max_context_tokens.and_then(|limit| limit.most())?;
        // The issue itself shows in the envelope.
        let mut envelope = self.envelope(&session.envelope)?.clone();
        envelope.start_stage(&stage.name);
        envelope.touch(now);
        let mut context = Context::of(self, (process, session), &envelope);
        context.bounds.used.agent_hops += u64::from(first);
        let told = context.fitted(stage).err()?;
        Some(Failure { kind: ErrorKind::ContextOverflow, error: Arc::from(told) })
    }
}

impl<'a> Context<'a> {
    pub(super) fn of(
        state: &'a State,
        (process, session): (&'a Process, &'a Session),
        envelope: &'a Envelope,
    ) -> Self {
        Self {
            id: &session.envelope,
            envelope,
            bounds: LedgerView::of(Some(process), Some(session)),
            interrupt: process.interrupts.first().and_then(|id| state.interrupt(id)),
        }
    }

    /// Returns what a stage's agent is shown, the oldest outputs left out if it is too much and the
    /// stage says so (K243).
    ///
    /// # Errors
    ///
    /// How large it is, if it does not fit.
    pub(super) fn fitted(&self, stage: &PipelineStage) -> Result<Json, String> {
        let whole = self.without(&[]);
        let Some(most) = stage.max_context_tokens.and_then(|limit| limit.most()) else {
            return Ok(whole);
        };
        let tokens = |context: &Json| context.length().div_ceil(4) as u64;
        let told = |tokens| Err(format!("context of {tokens} tokens, at most {most}"));
        if tokens(&whole) <= most {
            return Ok(whole);
        }
        if stage.context_overflow == ContextOverflow::Fail {
            return told(tokens(&whole));
        }
        let mut oldest: Vec<(u64, &OutputKey)> =
            self.envelope.outputs.iter().map(|(key, output)| (output.number, key)).collect();
        oldest.sort_unstable();
        let oldest: Vec<&OutputKey> = oldest.into_iter().map(|(_, key)| key).collect();
        // The more is left out, the smaller it is: the least that fits is searched for.
        let counts: Vec<usize> = (0..=oldest.len()).collect();
        let least = counts.partition_point(|count| tokens(&self.without(&oldest[..*count])) > most);
        match oldest.get(..least) {
            Some(left_out) => Ok(self.without(left_out)),
            None => told(tokens(&self.without(&oldest))),
        }
    }

    /// Writes it by the names of 13.3, without some of the outputs. What is absent is left out.
    pub(super) fn without(&self, left_out: &[&OutputKey]) -> Json {
        let (of, used) = (self.envelope, &self.bounds.used);
        let outputs = of.outputs.iter().filter(|(key, _)| !left_out.contains(key));
        let visits = of.stage_visits.iter().map(|(stage, n)| (stage.as_str(), Json::from(*n)));
        let failed = of.failed_stages.iter().map(|(stage, told)| (stage.as_str(), text(told)));
        let status = of.goal_status.iter();
        let status = status.map(|(goal, status)| (Arc::clone(goal), Json::from(status.name())));
        let ended = of.ended.as_ref();
        // In the order of the keys, which need not be sorted then.
        let entries = [
            ("active_stages", Some(names(&of.active_stages))),
            ("agent_hops", Some(Json::from(used.agent_hops))),
            ("all_goals", Some(list(&of.all_goals, text))),
            ("cloned_from", of.cloned_from.as_ref().map(|id| Json::from(id.as_str()))),
            ("completed_at_ms", ended.map(|ended| time(ended.at))),
            ("completed_goal_stages", Some(list(&of.completed_goal_stages, goal_stage))),
            ("completed_stages", Some(names(&of.completed_stages))),
            ("created_at_ms", Some(time(of.created_at))),
            ("current_stage", of.current_stage.as_ref().map(|stage| Json::from(stage.as_str()))),
            ("dropped", Some(Json::object([("loop_feedback", of.loop_feedback.dropped().into())]))),
            ("envelope_id", Some(Json::from(self.id.as_str()))),
            ("failed_stages", Some(Json::object(failed))),
            ("goal_stage_number", Some(Json::from(of.goal_stage_number))),
            ("goal_status", Some(Json::object(status))),
            ("interrupt", self.interrupt.map(question)),
            ("interrupt_pending", Some(Json::from(self.interrupt.is_some()))),
            ("iteration", Some(Json::from(of.iteration))),
            ("llm_calls", Some(Json::from(used.amounts.llm_calls))),
            ("loop_feedback", Some(list(of.loop_feedback.iter(), text))),
            ("max_agent_hops", Some(self.bounds.max_agent_hops.written())),
            ("max_goal_stages", Some(Json::from(of.max_goal_stages))),
            ("max_iterations", Some(of.max_iterations.written())),
            ("max_llm_calls", Some(self.bounds.max_llm_calls.written())),
            ("metadata", Some(map(&of.metadata))),
            (
                "outputs",
                Some(Json::object(outputs.map(|(key, one)| (key.as_str(), one.value.clone())))),
            ),
            ("parallel_mode", Some(Json::from(of.parallel_mode))),
            ("raw_input", Some(text(&of.raw_input))),
            ("received_at_ms", Some(time(of.received_at))),
            ("remaining_goals", Some(list(&of.remaining_goals, text))),
            ("request_id", Some(Json::from(of.request.as_str()))),
            ("session_id", Some(Json::from(of.session.as_str()))),
            ("stage_order", Some(names(&of.stage_order))),
            ("stage_visits", Some(Json::object(visits))),
            ("state", Some(map(&of.state))),
            ("terminal_reason", ended.map(|ended| Json::from(ended.reason.name()))),
            ("terminated", Some(Json::from(ended.is_some()))),
            ("termination_message", ended.map(|ended| text(&ended.message))),
            ("tokens_in", Some(Json::from(used.amounts.tokens_in))),
            ("tokens_out", Some(Json::from(used.amounts.tokens_out))),
            ("tool_calls", Some(Json::from(used.amounts.tool_calls))),
            ("updated_at_ms", Some(time(of.updated_at))),
            ("user_id", Some(Json::from(of.user.as_str()))),
            ("version", Some(Json::from(of.version))),
        ];
        present(entries)
    }
}

/// Makes an object of what is there.
fn present<const N: usize>(entries: [(&'static str, Option<Json>); N]) -> Json {
    Json::object(entries.into_iter().filter_map(|(key, value)| Some((key, value?))))
}

fn text(text: &Arc<str>) -> Json {
    Json::from(Arc::clone(text))
}

fn time(at: Time) -> Json {
    Json::from(at.as_millis())
}

fn list<'a, T: 'a>(items: impl IntoIterator<Item = &'a T>, one: impl Fn(&T) -> Json) -> Json {
    Json::list(items.into_iter().map(one).collect())
}

fn names<'a>(stages: impl IntoIterator<Item = &'a StageName>) -> Json {
    list(stages, |stage| Json::from(stage.as_str()))
}

fn map(entries: &std::collections::BTreeMap<Arc<str>, Json>) -> Json {
    Json::object(entries.iter().map(|(key, value)| (Arc::clone(key), value.clone())))
}

fn goal_stage(of: &GoalStage) -> Json {
    present([
        ("number", Some(Json::from(of.number))),
        ("plan_id", of.plan.as_ref().map(text)),
        ("satisfied", Some(list(&of.satisfied, text))),
        ("summary", Some(text(&of.summary))),
    ])
}

/// A question that the process waits for, as it is (13.3: `KernelInterrupt`).
fn question(of: &Interrupt) -> Json {
    let stage = match &of.origin {
        Origin::Stage { stage, .. } => Some(stage),
        Origin::External | Origin::Kernel => None,
    };
    let target = of.target.as_ref();
    let shown = target.map(|target| {
        Json::object([
            ("action", text(&target.action)),
            ("binds", target.binds.written()),
            ("params", target.params.clone()),
        ])
    });
    present([
        ("assignee", of.assignee.as_ref().map(|whom| Json::from(whom.to_string()))),
        ("auto_expire", Some(Json::from(of.auto_expire))),
        ("blocking", Some(Json::from(of.blocking))),
        ("cancel_reason", of.cancel_reason.as_ref().map(text)),
        ("closed_at_ms", of.closed_at.map(time)),
        ("created_at_ms", Some(time(of.created_at))),
        ("data", of.data.clone()),
        ("envelope_id", of.envelope.as_ref().map(|id| Json::from(id.as_str()))),
        ("escalated_from", of.escalated_from.as_ref().map(|id| Json::from(id.as_str()))),
        ("expires_at_ms", of.expires_at.map(time)),
        ("id", Some(Json::from(of.id.as_str()))),
        ("key", of.key.as_ref().map(text)),
        ("kind", Some(Json::from(of.kind.name()))),
        ("message", of.message.as_ref().map(text)),
        ("on_expiry", Some(Json::from(of.on_expiry.name()))),
        ("origin_stage", stage.map(|stage| Json::from(stage.as_str()))),
        ("pid", Some(Json::from(of.pid.as_str()))),
        ("question", of.question.as_ref().map(text)),
        ("request_id", Some(Json::from(of.request.as_str()))),
        ("require_response", Some(Json::from(of.require_response))),
        ("response", of.answer.as_deref().map(answer_json)),
        ("session_id", Some(Json::from(of.session.as_str()))),
        ("span_id", of.span.as_ref().map(text)),
        ("status", Some(Json::from(of.status.name()))),
        ("target", shown),
        ("target_hash", target.map(|target| Json::from(hex(&target.hash)))),
        ("trace_id", of.trace.as_ref().map(text)),
        ("user_id", Some(Json::from(of.user.as_str()))),
    ])
}

/// Writes a hash as digits.
pub(super) fn hex(hash: &[u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
