//! Tasks: all that an agent is told, as a view of the state (K243).

use std::sync::Arc;

use super::{Attempt, Failure, Session, Work};
use crate::kernel::envelopes::Envelope;
use crate::kernel::ids::{
    AgentName, AttemptId, InterruptId, LeaseId, OutputKey, ProcessId, ServiceName, StageName,
};
use crate::kernel::interrupts::approval::Approval;
use crate::kernel::json::Json;
use crate::kernel::names::Priority;
use crate::kernel::pipeline::kinds::{ContextOverflow, ErrorKind};
use crate::kernel::pipeline::{AgentConfig, PipelineStage, RouterTarget};
use crate::kernel::process::Process;
use crate::kernel::state::State;
use crate::kernel::time::Time;

/// What an agent is to do (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AgentTask {
    /// What its report must quote.
    pub attempt: AttemptId,
    /// At which stage.
    pub stage: StageName,
    /// As whom.
    pub agent: AgentName,
    /// How the agent works.
    pub config: AgentConfig,
    /// Which service runs it when the node drives the process (K290).
    pub service: ServiceName,
    /// How urgent its process is.
    pub priority: Priority,
    /// In which visit of the stage.
    pub visit: u64,
    /// In which try of the visit.
    pub try_number: u64,
    /// In which branch of the group.
    pub branch: Option<u32>,
    /// When it has taken too long.
    pub deadline: Option<Time>,
    /// Under which run lease.
    pub lease: Option<LeaseId>,
    /// When that ends.
    pub lease_until: Option<Time>,
    /// What to work on.
    pub context: Json,
    /// What the output must be.
    pub output_schema: Option<Json>,
    /// What the output must have.
    pub required_output_fields: Vec<Arc<str>>,
    /// Where a Router may go.
    pub router_targets: Vec<RouterTarget>,
    /// Which tools it may use.
    pub allowed_tools: Option<Vec<Arc<str>>>,
    /// How many rounds of tools it may take.
    pub max_tool_rounds: u32,
    /// The question that was answered last, if the answer is news to this task.
    pub interrupt: Option<InterruptId>,
    /// The answer (K167).
    pub interrupt_response: Option<Json>,
    /// Whether nobody answered in time (K163).
    pub interrupt_expired: bool,
    /// The leave that it gave (K170).
    pub approval: Option<Approval>,
    /// What went wrong in the try before.
    pub prior_error: Option<Failure>,
}

impl State {
    /// Makes the task of a live attempt.
    pub(super) fn agent_task(
        &self,
        (_pid, process, session): (&ProcessId, &Process, &Session),
        (id, work): (&AttemptId, &Work),
    ) -> Option<AgentTask> {
        let attempt = session.attempts.get(id)?;
        let stage = session.stage(&attempt.stage)?;
        let agent = stage.agent_config.as_ref()?;
        let answer = attempt.answer.as_ref();
        let envelope = self.envelope(&session.envelope)?;
        let context = fitted(envelope, stage).unwrap_or_else(|_| context(envelope, &[]));
        Some(AgentTask {
            attempt: id.clone(),
            stage: attempt.stage.clone(),
            agent: attempt.agent.clone(),
            config: agent.clone(),
            service: self.service_of(stage).clone(),
            priority: process.priority,
            visit: attempt.visit,
            try_number: attempt.try_number,
            branch: attempt.branch,
            deadline: attempt.deadline,
            lease: process.run_lease.as_ref().map(|run| run.lease.clone()),
            lease_until: process.run_lease.as_ref().map(|run| run.until),
            context,
            output_schema: stage.output_schema.clone(),
            required_output_fields: stage.required_output_fields.clone(),
            router_targets: targets(stage, attempt),
            allowed_tools: agent.allowed_tools.clone(),
            max_tool_rounds: stage.max_tool_rounds,
            interrupt: answer.map(|answer| answer.interrupt.clone()),
            interrupt_response: answer.and_then(|answer| answer.response.clone()),
            interrupt_expired: answer.is_some_and(|answer| answer.expired),
            approval: answer.and_then(|answer| self.approval(&answer.interrupt)).cloned(),
            prior_error: work.failure.clone(),
        })
    }

    /// Returns the service that runs a stage: its own, or the node's default.
    #[must_use]
    pub fn service_of<'a>(&'a self, stage: &'a PipelineStage) -> &'a ServiceName {
        stage.service.as_ref().unwrap_or(&self.config.default_service)
    }

    /// Says whether the task of a stage would be too large (K243).
    pub(super) fn overflow_of(&self, pid: &ProcessId, stage: &StageName) -> Option<Failure> {
        let session = self.session(pid)?;
        let stage = session.stage(stage)?;
        stage.max_context_tokens.and_then(|limit| limit.most())?;
        let told = fitted(self.envelope(&session.envelope)?, stage).err()?;
        Some(Failure { kind: ErrorKind::ContextOverflow, error: Arc::from(told) })
    }
}

/// The targets that a Router was handed, as its stage describes them.
fn targets(stage: &PipelineStage, attempt: &Attempt) -> Vec<RouterTarget> {
    let handed = |target: &&RouterTarget| {
        attempt.targets.iter().any(|name| name.as_str() == target.target.as_str())
    };
    stage.router_targets.iter().filter(handed).cloned().collect()
}

/// Returns what a stage's agent is shown of the envelope, the oldest outputs left out if it is too
/// much and the stage says so (K243).
///
/// # Errors
///
/// How large it is, if it does not fit.
fn fitted(envelope: &Envelope, stage: &PipelineStage) -> Result<Json, String> {
    let whole = context(envelope, &[]);
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
        envelope.outputs.iter().map(|(key, output)| (output.number, key)).collect();
    oldest.sort_unstable();
    let oldest: Vec<&OutputKey> = oldest.into_iter().map(|(_, key)| key).collect();
    // The more is left out, the smaller it is: the least that fits is searched for.
    let counts: Vec<usize> = (0..=oldest.len()).collect();
    let least =
        counts.partition_point(|count| tokens(&context(envelope, &oldest[..*count])) > most);
    match oldest.get(..least) {
        Some(left_out) => Ok(context(envelope, left_out)),
        None => told(tokens(&context(envelope, &oldest))),
    }
}

/// The envelope as agents see it: without history, errors and prior outputs (K243).
fn context(envelope: &Envelope, left_out: &[&OutputKey]) -> Json {
    let texts = |texts: &[Arc<str>]| {
        Json::list(texts.iter().map(|text| Json::from(Arc::clone(text))).collect())
    };
    let stages = |stages: &[StageName]| {
        Json::list(stages.iter().map(|stage| Json::from(stage.as_str())).collect())
    };
    let map = |entries: &std::collections::BTreeMap<Arc<str>, Json>| {
        Json::object(entries.iter().map(|(key, value)| (Arc::clone(key), value.clone())))
    };
    let outputs = envelope.outputs.iter().filter(|(key, _)| !left_out.contains(key));
    let outputs = outputs.map(|(key, output)| (key.as_str(), output.value.clone()));
    let feedback: Vec<Arc<str>> = envelope.loop_feedback.iter().cloned().collect();
    let stage = envelope.current_stage.as_ref().map_or("", |stage| stage.as_str());
    // In the order of the keys, which need not be sorted then.
    Json::object([
        ("all_goals", texts(&envelope.all_goals)),
        ("current_stage", Json::from(stage)),
        ("goal_stage_number", Json::from(envelope.goal_stage_number)),
        ("iteration", Json::from(envelope.iteration)),
        ("loop_feedback", texts(&feedback)),
        ("max_goal_stages", Json::from(envelope.max_goal_stages)),
        ("metadata", map(&envelope.metadata)),
        ("outputs", Json::object(outputs)),
        ("raw_input", Json::from(Arc::clone(&envelope.raw_input))),
        ("received_at", Json::from(envelope.received_at.as_millis())),
        ("remaining_goals", texts(&envelope.remaining_goals)),
        ("request_id", Json::from(envelope.request.as_str())),
        ("session_id", Json::from(envelope.session.as_str())),
        ("stage_order", stages(&envelope.stage_order)),
        ("state", map(&envelope.state)),
        ("user_id", Json::from(envelope.user.as_str())),
    ])
}
