//! Executions of pipelines and of agents, which the node drives itself (K290, K393).

use std::collections::BTreeMap;

use machines::kernel::ids::ServiceName;
use machines::kernel::pipeline::{AgentConfig, PipelineConfig};
use machines::kernel::quota::Limit;
use machines::kernel::sessions::Pipeline;
use machines::kernel::sessions::execute::Execute;
use machines::kernel::sessions::start::EnvelopeChoice;
use machines::kernel::{CommandBody, Refusal};
use serde::Deserialize;
use serde_json::Value;

use super::sessions::{ceiling, chosen};
use super::{configured, envelopes, json, maybe};
use crate::commands;

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Do {
    ExecutePipeline {
        pid: Option<String>,
        envelope_id: Option<String>,
        new_envelope: Option<Box<envelopes::New>>,
        pipeline: Value,
        priority: Option<String>,
        #[serde(default)]
        quota: BTreeMap<String, i64>,
    },
    ExecuteAgent(Agent),
}

/// An agent to be executed: a pipeline of one stage.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Agent {
    pid: Option<String>,
    envelope_id: Option<String>,
    new_envelope: Option<Box<envelopes::New>>,
    agent_config: Value,
    service: Option<String>,
    timeout_ms: Option<i64>,
    #[serde(default)]
    quota: BTreeMap<String, i64>,
}

impl Do {
    /// Says whether it is answered when what it began has ended (K393).
    pub(crate) const fn is_agent(&self) -> bool {
        matches!(self, Self::ExecuteAgent(_))
    }

    pub(crate) fn body(self) -> Result<CommandBody, Refusal> {
        let execute = match self {
            Self::ExecutePipeline { pid, envelope_id, new_envelope, pipeline, priority, quota } => {
                let pipeline = json("pipeline", &pipeline)?;
                let config = PipelineConfig::parse(&pipeline, &ceiling())?;
                let envelope = chosen(envelope_id.as_deref(), new_envelope)?;
                execute(config, envelope, commands::New { pid, priority, quota, ..<_>::default() })
            }
            Self::ExecuteAgent(agent) => agent.execute(),
        };
        Ok(CommandBody::ExecutePipeline(Box::new(execute?)))
    }
}

impl Agent {
    fn execute(self) -> Result<Execute, Refusal> {
        let Self { pid, envelope_id, new_envelope, agent_config, service, timeout_ms, quota } =
            self;
        let agent: AgentConfig = configured("agent_config", &agent_config)?;
        let service = maybe(ServiceName::parse, "service", service.as_deref())?;
        let timeout = timeout_ms.map(|limit| Limit::parse("timeout_ms", limit)).transpose()?;
        let config = PipelineConfig::of_agent(&agent, service.as_ref(), timeout, &ceiling())?;
        let envelope = chosen(envelope_id.as_deref(), new_envelope)?;
        execute(config, envelope, commands::New { pid, quota, ..<_>::default() })
    }
}

fn execute(
    config: PipelineConfig,
    envelope: EnvelopeChoice,
    process: commands::New,
) -> Result<Execute, Refusal> {
    Ok(Execute { submit: process.submit()?, pipeline: Pipeline::new(config), envelope })
}
