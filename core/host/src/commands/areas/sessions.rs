//! Commands of the orchestrator: sessions, instructions, reports (section 8).

use machines::kernel::expression::ExpressionLimits;
use machines::kernel::ids::{AgentName, AttemptId, StageName};
use machines::kernel::pipeline::PipelineConfig;
use machines::kernel::pipeline::kinds::ErrorKind;
use machines::kernel::pipeline::limits::FlowLimits;
use machines::kernel::sessions::Pipeline;
use machines::kernel::sessions::report::{Metrics, Report, ToolResult};
use machines::kernel::sessions::start::{EnvelopeChoice, Initialize};
use machines::kernel::{Code, CommandBody, Refusal};
use serde::Deserialize;
use serde_json::Value;

use super::interrupts::Question;
use super::{configured, envelope, envelopes, json, maybe, pid, text};

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Do {
    InitializeSession {
        pid: String,
        pipeline: Value,
        envelope_id: Option<String>,
        new_envelope: Option<Box<envelopes::New>>,
        #[serde(default)]
        force: bool,
    },
    NextInstruction {
        pid: String,
    },
    ReportAgentResult(Box<Told>),
}

/// What came of an attempt.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    pid: String,
    attempt_id: String,
    agent_name: String,
    success: bool,
    output: Option<Value>,
    error: Option<String>,
    error_kind: Option<Value>,
    #[serde(default)]
    metrics: Took,
    interrupt: Option<Question>,
    #[serde(default)]
    break_loop: bool,
    chosen_target: Option<String>,
    feedback: Option<String>,
    #[serde(default)]
    release_process: bool,
}

/// What it took.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Took {
    llm_calls: u64,
    tool_calls: u64,
    tokens_in: u64,
    tokens_out: u64,
    duration_ms: u64,
    tool_results: Vec<Tool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    name: String,
    success: bool,
    #[serde(default)]
    latency_ms: u64,
    error_kind: Option<Value>,
}

impl Do {
    pub(crate) fn body(self) -> Result<CommandBody, Refusal> {
        Ok(match self {
            Self::InitializeSession { pid: of, pipeline, envelope_id, new_envelope, force } => {
                let pipeline = json("pipeline", &pipeline)?;
                let pipeline = PipelineConfig::parse(&pipeline, &ceiling())?;
                CommandBody::InitializeSession(Box::new(Initialize {
                    pid: pid(&of)?,
                    pipeline: Pipeline::new(pipeline),
                    envelope: chosen(envelope_id.as_deref(), new_envelope)?,
                    force,
                }))
            }
            Self::NextInstruction { pid: of } => CommandBody::NextInstruction { pid: pid(&of)? },
            Self::ReportAgentResult(told) => {
                CommandBody::ReportAgentResult(Box::new(told.report()?))
            }
        })
    }
}

/// Chooses between an envelope that there is and a new one.
pub(super) fn chosen(
    id: Option<&str>,
    new: Option<Box<envelopes::New>>,
) -> Result<EnvelopeChoice, Refusal> {
    match (id, new) {
        (Some(id), None) => Ok(EnvelopeChoice::Known(envelope(id)?)),
        (None, Some(new)) => Ok(EnvelopeChoice::New(Box::new(new.asked()?))),
        (Some(_), Some(_)) | (None, None) => {
            let text = "envelope_id or new_envelope is required, and not both";
            Err(Refusal::of_field(Code::Required, "envelope_id", text))
        }
    }
}

/// The most that configuration can allow (K25); the kernel checks against what it does allow.
pub(super) const fn ceiling() -> FlowLimits {
    let ExpressionLimits { depth, nodes, segments } = FlowLimits::DEFAULT.expression;
    FlowLimits {
        expression: ExpressionLimits {
            depth: depth * 10,
            nodes: nodes * 10,
            segments: segments * 10,
        },
        name_bytes: FlowLimits::DEFAULT.name_bytes * 10,
        text_bytes: FlowLimits::DEFAULT.text_bytes * 10,
        entries: FlowLimits::DEFAULT.entries * 10,
        stages: FlowLimits::DEFAULT.stages * 10,
        rules: FlowLimits::DEFAULT.rules * 10,
        branches: FlowLimits::DEFAULT.branches * 10,
        amount: FlowLimits::DEFAULT.amount * 10,
        span_ms: FlowLimits::DEFAULT.span_ms * 10,
        steps: FlowLimits::DEFAULT.steps,
    }
}

impl Told {
    fn report(self) -> Result<Report, Refusal> {
        Ok(Report {
            pid: pid(&self.pid)?,
            attempt: AttemptId::parse("attempt_id", &self.attempt_id)?,
            agent: AgentName::parse("agent_name", &self.agent_name)?,
            success: self.success,
            output: self.output.map(|output| json("output", &output)).transpose()?,
            error: self.error.map(text),
            error_kind: error_kind("error_kind", self.error_kind.as_ref())?,
            metrics: self.metrics.metrics()?,
            interrupt: self.interrupt.map(Question::asked).transpose()?.map(Box::new),
            break_loop: self.break_loop,
            chosen_target: maybe(StageName::parse, "chosen_target", self.chosen_target.as_deref())?,
            feedback: self.feedback.map(text),
            release_process: self.release_process,
        })
    }
}

/// Takes a kind of error, such as `Tool` (2.2).
pub(super) fn error_kind(field: &str, value: Option<&Value>) -> Result<Option<ErrorKind>, Refusal> {
    value.map(|value| configured(field, value)).transpose()
}

impl Took {
    fn metrics(self) -> Result<Metrics, Refusal> {
        let result = |tool: Tool| {
            let error_kind = error_kind("tool_results.error_kind", tool.error_kind.as_ref())?;
            let (name, latency_ms) = (text(tool.name), tool.latency_ms);
            Ok(ToolResult { name, success: tool.success, latency_ms, error_kind })
        };
        let results: Result<Vec<_>, Refusal> = self.tool_results.into_iter().map(result).collect();
        Ok(Metrics {
            llm_calls: self.llm_calls,
            tool_calls: self.tool_calls,
            tokens_in: self.tokens_in,
            tokens_out: self.tokens_out,
            duration_ms: self.duration_ms,
            tool_results: results?,
        })
    }
}
