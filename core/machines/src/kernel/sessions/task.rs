//! Tasks: all that an agent is told, as a view of the state (K243).

use std::sync::Arc;

use super::context::Context;
use super::{Attempt, Failure, Session, Work};
use crate::kernel::ids::{
    AgentName, AttemptId, InterruptId, LeaseId, ProcessId, ServiceName, StageName,
};
use crate::kernel::interrupts::approval::Approval;
use crate::kernel::json::Json;
use crate::kernel::names::Priority;
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
        // What has come in since it was issued does not take it back, however large it is.
        let context = Context::of(self, (process, session), envelope);
        let context = context.fitted(stage).unwrap_or_else(|_| context.without(&[]));
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
}

/// The targets that a Router was handed, as its stage describes them.
fn targets(stage: &PipelineStage, attempt: &Attempt) -> Vec<RouterTarget> {
    let handed = |target: &&RouterTarget| {
        attempt.targets.iter().any(|name| name.as_str() == target.target.as_str())
    };
    stage.router_targets.iter().filter(handed).cloned().collect()
}
