//! Tasks and results as JSON: what passes through the dispatch of a task (K290).
//!
//! ```text
//!   AgentTask ─► JSON ─► Dispatch ─► a worker ─► JSON ─► Made ─► Report
//! ```
//!
//! A task says nothing of the run lease: that is the executor's, and would be another at each look.
//! A result says nothing of process and attempt: the dispatch does.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::Failure;
use super::context::hex;
use super::report::{Metrics, Report, ToolResult};
use super::task::AgentTask;
use crate::kernel::expression::FieldRef;
use crate::kernel::ids::{AgentName, AttemptId, ProcessId, StageName};
use crate::kernel::interrupts::approval::Approval;
use crate::kernel::interrupts::interrupt::{Assignee, NewInterrupt, NewTarget};
use crate::kernel::json::Json;
use crate::kernel::json::document::{Document, read};
use crate::kernel::names::{ExpiryPolicy, InterruptKind};
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::refusal::{Code, Refusal};

document! {
    /// One call of a tool, in a result.
    pub struct Tool {
        /// Which tool.
        pub name: Arc<str> => required,
        /// Whether it did what it should.
        pub success: bool => required,
        /// How long it took.
        pub latency_ms: u64 => or(0),
        /// What went wrong.
        pub error_kind: Option<ErrorKind> => optional,
    }

    /// What an attempt took, in a result.
    pub struct Took {
        /// Calls of models.
        pub llm_calls: u64 => or(0),
        /// Calls of tools.
        pub tool_calls: u64 => or(0),
        /// Tokens read by models.
        pub tokens_in: u64 => or(0),
        /// Tokens written by models.
        pub tokens_out: u64 => or(0),
        /// Time.
        pub duration_ms: u64 => or(0),
        /// The calls of tools.
        pub tool_results: Vec<Tool> => or(Vec::new()),
    }

    /// What an approval is for, in a result.
    pub struct Aim {
        /// What is to be done.
        pub action: Arc<str> => required,
        /// With what.
        pub params: Json => or(Json::NULL),
        /// What must not change meanwhile.
        pub binds: Vec<FieldRef> => or(Vec::new()),
    }

    /// A question to a person, in a result (13.3).
    pub struct Question {
        /// What is asked: a kind of interrupt, such as `confirmation`.
        pub kind: Arc<str> => required,
        /// In words.
        pub question: Option<Arc<str>> => optional,
        /// What the person should know.
        pub message: Option<Arc<str>> => optional,
        /// The same for machines.
        pub data: Option<Json> => optional,
        /// How long it waits.
        pub ttl_ms: Option<u64> => optional,
        /// Whether it expires by itself.
        pub auto_expire: Option<bool> => optional,
        /// What happens then, such as `deny`.
        pub on_expiry: Option<Arc<str>> => optional,
        /// Who may answer: a user, or `role:<name>`.
        pub assignee: Option<Arc<str>> => optional,
        /// Who is asked next.
        pub escalate_to: Option<Arc<str>> => optional,
        /// Whether the process waits for the answer.
        pub blocking: Option<bool> => optional,
        /// What an approval is for.
        pub target: Option<Box<Aim>> => optional,
        /// A trace of the caller's.
        pub trace_id: Option<Arc<str>> => optional,
        /// A span of it.
        pub span_id: Option<Arc<str>> => optional,
        /// What a repeat is known by.
        pub key: Option<Arc<str>> => optional,
    }

    /// What came of a task: a report without ids (K290).
    pub struct Made {
        /// Whether the agent did what it should.
        pub success: bool => required,
        /// Which agent it was; that of the task, if it is not said.
        pub agent_name: Option<AgentName> => optional,
        /// What it made: an object.
        pub output: Option<Json> => optional,
        /// What went wrong.
        pub error: Option<Arc<str>> => optional,
        /// Of what kind that is.
        pub error_kind: Option<ErrorKind> => optional,
        /// What it took.
        pub metrics: Option<Took> => optional,
        /// Asks a person; the stage is not done then.
        pub interrupt: Option<Question> => optional,
        /// Ends the session, or the branch, as done.
        pub break_loop: bool => or(false),
        /// Where a Router goes.
        pub chosen_target: Option<StageName> => optional,
        /// For the next round.
        pub feedback: Option<Arc<str>> => optional,
        /// Lets the process wait for its turn again before it goes on.
        pub release_process: bool => or(false),
    }
}

impl From<Took> for Metrics {
    fn from(took: Took) -> Self {
        let tool = |tool: Tool| ToolResult {
            name: tool.name,
            success: tool.success,
            latency_ms: tool.latency_ms,
            error_kind: tool.error_kind,
        };
        Self {
            llm_calls: took.llm_calls,
            tool_calls: took.tool_calls,
            tokens_in: took.tokens_in,
            tokens_out: took.tokens_out,
            duration_ms: took.duration_ms,
            tool_results: took.tool_results.into_iter().map(tool).collect(),
        }
    }
}

impl Question {
    /// Returns the question in the kernel's words.
    fn asked(self) -> Result<NewInterrupt, Refusal> {
        let whom = |field: &str, text: Option<Arc<str>>| {
            text.map(|text| Assignee::parse(field, &text)).transpose()
        };
        let target = |aim: Box<Aim>| {
            let Aim { action, params, binds } = *aim;
            Box::new(NewTarget { action, params, binds })
        };
        Ok(NewInterrupt {
            kind: named("interrupt.kind", InterruptKind::ALL, InterruptKind::name, &self.kind)?,
            question: self.question,
            message: self.message,
            data: self.data,
            ttl: self.ttl_ms,
            auto_expire: self.auto_expire,
            on_expiry: match self.on_expiry {
                None => None,
                Some(name) => {
                    let (field, all) = ("interrupt.on_expiry", ExpiryPolicy::ALL);
                    Some(named(field, all, ExpiryPolicy::name, &name)?)
                }
            },
            assignee: whom("interrupt.assignee", self.assignee)?,
            escalate_to: whom("interrupt.escalate_to", self.escalate_to)?,
            blocking: self.blocking,
            target: self.target.map(target),
            trace: self.trace_id,
            span: self.span_id,
            key: self.key,
        })
    }
}

/// Finds a value by its name.
fn named<T: Copy>(
    field: &str,
    all: &[T],
    name_of: fn(T) -> &'static str,
    name: &str,
) -> Result<T, Refusal> {
    all.iter().copied().find(|one| name_of(*one) == name).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| name_of(*one)).collect();
        let told: String = name.chars().take(64).collect();
        let text = format!("{field}: {told:?} is not one of {}", names.join(", "));
        Refusal::of_field(Code::BadValue, field, text)
    })
}

impl Report {
    /// Reads what a dispatch came to as the report of its attempt.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub fn of_result(
        (pid, attempt, agent): (&ProcessId, &AttemptId, &AgentName),
        result: &Json,
    ) -> Result<Self, Refusal> {
        let made: Made = read(result, "result")?;
        let asked = made.interrupt.map(Question::asked).transpose()?;
        Ok(Self {
            pid: pid.clone(),
            attempt: attempt.clone(),
            agent: made.agent_name.unwrap_or_else(|| agent.clone()),
            success: made.success,
            output: made.output,
            error: made.error,
            error_kind: made.error_kind,
            metrics: made.metrics.map(Metrics::from).unwrap_or_default(),
            interrupt: asked.map(Box::new),
            break_loop: made.break_loop,
            chosen_target: made.chosen_target,
            feedback: made.feedback,
            release_process: made.release_process,
        })
    }

    /// Makes the report of an attempt whose dispatch failed (K290).
    #[must_use]
    pub fn of_failed_dispatch(
        (pid, attempt, agent): (&ProcessId, &AttemptId, &AgentName),
        error: &str,
    ) -> Self {
        Self {
            pid: pid.clone(),
            attempt: attempt.clone(),
            agent: agent.clone(),
            success: false,
            output: None,
            error: Some(Arc::from(error)),
            error_kind: Some(ErrorKind::Dispatch),
            metrics: Metrics::default(),
            interrupt: None,
            break_loop: false,
            chosen_target: None,
            feedback: None,
            release_process: false,
        }
    }
}

impl AgentTask {
    /// Writes the task as its worker is given it: the names of 13.3. What is absent is left out.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let texts = |texts: &[Arc<str>]| {
            Json::list(texts.iter().map(|text| Json::from(Arc::clone(text))).collect())
        };
        let mut entries: Vec<(&str, Json)> = vec![
            ("attempt_id", Json::from(self.attempt.as_str())),
            ("stage", Json::from(self.stage.as_str())),
            ("agent_name", Json::from(self.agent.as_str())),
            ("agent_config", self.config.written()),
            ("visit", Json::from(self.visit)),
            ("try_number", Json::from(self.try_number)),
            ("envelope", self.context.clone()),
            ("required_output_fields", texts(&self.required_output_fields)),
            ("router_targets", self.router_targets.written()),
            ("max_tool_rounds", Json::from(self.max_tool_rounds)),
            ("interrupt_expired", Json::from(self.interrupt_expired)),
        ];
        let optional = [
            ("branch", self.branch.map(Json::from)),
            ("deadline_at_ms", self.deadline.map(|at| Json::from(at.as_millis()))),
            ("output_schema", self.output_schema.clone()),
            ("allowed_tools", self.allowed_tools.as_deref().map(texts)),
            ("interrupt_id", self.interrupt.as_ref().map(|id| Json::from(id.as_str()))),
            ("interrupt_response", self.interrupt_response.clone()),
            ("approval", self.approval.as_ref().map(approval)),
            ("prior_error", self.prior_error.as_ref().map(failure)),
        ];
        entries.extend(optional.into_iter().filter_map(|(key, value)| Some((key, value?))));
        Json::object(entries)
    }
}

fn approval(approval: &Approval) -> Json {
    let mut entries = vec![
        ("state", Json::from(approval.state.name())),
        ("target_hash", Json::from(hex(&approval.hash))),
        ("granted_at_ms", Json::from(approval.granted_at.as_millis())),
    ];
    entries.extend(approval.used_by.as_ref().map(|used| ("used_by", Json::from(used.as_str()))));
    Json::object(entries)
}

fn failure(failure: &Failure) -> Json {
    Json::object([
        ("error_kind", failure.kind.written()),
        ("error", Json::from(Arc::clone(&failure.error))),
    ])
}
