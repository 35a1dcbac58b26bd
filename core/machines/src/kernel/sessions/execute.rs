//! `ExecutePipeline` and `ExecuteAgent`: a process that the node itself drives, its session, and
//! its place in the queue, all in one decision (K290, K393).
//!
//! What a crash leaves is all of it or nothing, so there is no process without a session that a
//! caller would have to find again. Whatever can be refused is refused before the first event.

#[cfg(test)]
mod tests;

use super::Pipeline;
use super::start::{EnvelopeChoice, Initialize};
use crate::kernel::decision::Decision;
use crate::kernel::ids::{PipelineName, ServiceName, StageName};
use crate::kernel::json::Json;
use crate::kernel::json::document::Document;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::ProcessState;
use crate::kernel::pipeline::limits::FlowLimits;
use crate::kernel::pipeline::{AgentConfig, PipelineConfig};
use crate::kernel::quota::{Limit, QuotaField};
use crate::kernel::refusal::{Code, Refusal};

/// A pipeline that the node is to drive to its end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Execute {
    /// What the process is to be. It is driven, whatever this says.
    pub submit: Submit,
    /// What its session follows.
    pub pipeline: Pipeline,
    /// What it works on.
    pub envelope: EnvelopeChoice,
}

impl PipelineConfig {
    /// Makes the pipeline of one stage that `ExecuteAgent` runs (K290), named as the agent.
    ///
    /// # Errors
    ///
    /// What is wrong with the agent (K232).
    pub fn of_agent(
        agent: &AgentConfig,
        service: Option<&ServiceName>,
        timeout: Option<Limit>,
        limits: &FlowLimits,
    ) -> Result<Self, Refusal> {
        let name = agent.name.as_str();
        let stage = StageName::parse("agent_config.name", name)?;
        let whole = PipelineName::parse("agent_config.name", name)?;
        let mut entries = vec![("name", stage.written()), ("agent_config", agent.written())];
        entries.extend(service.map(|service| ("service", service.written())));
        entries.extend(timeout.map(|timeout| ("timeout_ms", timeout.written())));
        let stages = Json::list(vec![Json::object(entries)]);
        let json = Json::object([("name", whole.written()), ("stages", stages)]);
        Self::parse(&json, limits)
    }
}

impl Decision<'_> {
    /// `ExecutePipeline` (K290, K393).
    pub(in crate::kernel) fn execute_pipeline(&mut self, asked: &Execute) -> Result<(), Refusal> {
        if self.runs_already(asked)? {
            return Ok(());
        }
        let submit = Submit { driven: true, ..asked.submit.clone() };
        if submit.pid.as_ref().is_none_or(|pid| self.state.process(pid).is_none()) {
            self.check_execution(&submit, asked)?;
        }
        let pid = self.submit(&submit)?;
        let fresh = match self.state.process(&pid) {
            // All that is left of it is a tombstone: the repeat is known by that (K85).
            Some(process) if process.state == ProcessState::Zombie => return Ok(()),
            Some(process) if process.state == ProcessState::New => {
                self.refuse_spent(&pid, process)?;
                true
            }
            Some(_) | None => false,
        };
        let envelope = asked.envelope.clone();
        let pipeline = asked.pipeline.clone();
        self.initialize(&Initialize { pid: pid.clone(), pipeline, envelope, force: false })?;
        if fresh {
            self.schedule(&pid)?;
        }
        Ok(())
    }

    /// Says whether the process drives the same pipeline already, or did: then the caller is told
    /// of that one (K393).
    fn runs_already(&self, asked: &Execute) -> Result<bool, Refusal> {
        let Some(pid) = &asked.submit.pid else {
            return Ok(false);
        };
        if self.state.process(pid).is_none() {
            return Ok(false);
        }
        let driven = self.owned(pid)?.driven;
        let session = self.state.session(pid);
        let same = session.is_some_and(|it| it.pipeline.hash() == asked.pipeline.hash());
        Ok(driven && same)
    }

    /// Refuses what would be refused after the process is made.
    fn check_execution(&self, submit: &Submit, asked: &Execute) -> Result<(), Refusal> {
        let user = self.for_whom(submit.user.as_ref())?;
        if let Some(parent) = &submit.parent {
            self.owned(parent)?; // Access comes before anything else (K27).
        }
        self.refuse_draining()?;
        asked.pipeline.check(&FlowLimits::of(&self.state.config.limits))?;
        self.check_envelope(&asked.envelope, submit.pid.as_ref(), &user)?;
        if let Some(parent) = &submit.parent {
            self.check_parent(parent, &user)?;
            self.refuse_spent_above(parent)?;
        }
        let time = submit.quota.iter().rfind(|(field, _)| *field == QuotaField::TimeoutMs);
        let time = time.map_or(self.state.config.default_quota.timeout_ms, |(_, limit)| *limit);
        match time.allows(1) {
            true => Ok(()),
            false => Err(Refusal::new(Code::QuotaExceeded, "timeout_exceeded: 0 of 0")),
        }
    }
}
