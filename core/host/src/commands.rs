//! Commands of the kernel as lines of JSON, for whoever may open the control socket.
//!
//! ```text
//!   → {"kernel":{"user":"alice","do":{"submit":{"pid":"p1"}}}}
//!   ← {"ok":{"as_of":7,"events":[{"kind":"process.created","pid":"p1","time_ms":…}]}}
//!     or {"refused":{"code":"process_limit","text":"…"}}
//! ```
//!
//! A reply comes when what it tells is durable (K5). Whoever can open the socket may do everything,
//! so it also says in whose name, and with which roles, it acts.

use std::collections::BTreeMap;

use machines::keeper::io::Decided;
use machines::kernel::budget::{Record, Reserve};
use machines::kernel::dispatch::{Completion, Task};
use machines::kernel::envelopes::command::NewEnvelope;
use machines::kernel::event::Event;
use machines::kernel::ids::{
    EnvelopeId, InterruptId, LeaseId, ProcessId, RecordId, ReservationId, ServiceName, ServiceType,
    UserId, WorkerId,
};
use machines::kernel::interrupts::interrupt::Response;
use machines::kernel::json::document::read;
use machines::kernel::json::{Json, JsonLimits};
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{OnExhausted, Priority, ProcessState};
use machines::kernel::pipeline::limits::FlowLimits;
use machines::kernel::pipeline::{AgentConfig, PipelineConfig};
use machines::kernel::principal::{Principal, Role};
use machines::kernel::quota::{Amounts, Limit, QuotaField, QuotaPatch};
use machines::kernel::reply::Done;
use machines::kernel::services::ServiceInfo;
use machines::kernel::sessions::Pipeline;
use machines::kernel::sessions::execute::Execute;
use machines::kernel::sessions::start::EnvelopeChoice;
use machines::kernel::{Code, Command, CommandBody, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One command, and in whose name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    user: String,
    #[serde(default)]
    roles: Vec<RoleName>,
    worker: Option<String>,
    #[serde(rename = "do")]
    body: Do,
}

/// What somebody is (K26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    User,
    Worker,
    Operator,
}

/// What is to be done (K370).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Do {
    Submit {
        pid: Option<String>,
        #[serde(default)]
        priority: Option<String>,
        #[serde(default)]
        quota: BTreeMap<String, i64>,
        parent: Option<String>,
    },
    Schedule {
        pid: String,
    },
    NextRunnable {},
    TransitionState {
        pid: String,
        to: String,
        #[serde(default)]
        reason: String,
    },
    Terminate {
        pid: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        force: bool,
    },
    CleanupProcess {
        pid: String,
    },
    Reserve {
        pid: String,
        reservation: Option<String>,
        amounts: Used,
        lease_ms: Option<u64>,
    },
    Settle {
        pid: String,
        reservation: String,
        actual: Used,
    },
    Release {
        pid: String,
        reservation: String,
    },
    RecordUsage {
        pid: String,
        amounts: Used,
        #[serde(default)]
        agent_hops: u64,
        record: Option<String>,
    },
    AdjustQuota {
        pid: String,
        quota: BTreeMap<String, i64>,
    },
    ExecutePipeline {
        pid: Option<String>,
        pipeline: Value,
        envelope_id: Option<String>,
        raw_input: Option<String>,
        #[serde(default)]
        priority: Option<String>,
        #[serde(default)]
        quota: BTreeMap<String, i64>,
    },
    /// A pipeline of one stage; answered at its end, or when somebody is asked (K393).
    ExecuteAgent {
        pid: Option<String>,
        agent_config: Value,
        service: Option<String>,
        timeout_ms: Option<i64>,
        envelope_id: Option<String>,
        raw_input: Option<String>,
        #[serde(default)]
        priority: Option<String>,
        #[serde(default)]
        quota: BTreeMap<String, i64>,
    },
    RegisterService {
        name: String,
        service_type: String,
        max_concurrent: Option<u32>,
    },
    LeaseTasks {
        service: String,
        #[serde(default = "one")]
        max: u32,
    },
    RenewLease {
        lease: String,
    },
    CompleteTask {
        lease: String,
        success: bool,
        data: Option<Value>,
        error: Option<String>,
    },
    ResolveInterrupt {
        interrupt: String,
        text: Option<String>,
        approved: Option<bool>,
    },
}

/// What an execution is besides its pipeline: an envelope that there is, or a new one.
#[derive(Debug)]
struct Run {
    envelope_id: Option<String>,
    raw_input: Option<String>,
    priority: Option<String>,
    quota: BTreeMap<String, i64>,
}

const fn one() -> u32 {
    1
}

/// Amounts of resources; what is not named is 0.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Used {
    llm_calls: u64,
    tool_calls: u64,
    tokens_in: u64,
    tokens_out: u64,
    inference_requests: u64,
    inference_input_chars: u64,
}

impl From<Used> for Amounts {
    fn from(used: Used) -> Self {
        let Used {
            llm_calls,
            tool_calls,
            tokens_in,
            tokens_out,
            inference_requests,
            inference_input_chars,
        } = used;
        Self {
            llm_calls,
            tool_calls,
            tokens_in,
            tokens_out,
            inference_requests,
            inference_input_chars,
        }
    }
}

impl Line {
    /// Says whether it is answered when what it began has ended (K393).
    pub(crate) const fn is_agent(&self) -> bool {
        matches!(self.body, Do::ExecuteAgent { .. })
    }

    /// Returns the command in the kernel's words.
    ///
    /// # Errors
    ///
    /// The refusal that the kernel would give an id, a name or a limit that is none.
    pub(crate) fn command(self) -> Result<Command, Refusal> {
        let by = principal(&self.user, &self.roles)?;
        let worker = self.worker.map(|worker| WorkerId::parse("worker", &worker)).transpose()?;
        Ok(Command { by, worker, rate: None, body: self.body.body()? })
    }
}

/// Returns who asks; a user without further roles, if none is said.
pub(crate) fn principal(user: &str, roles: &[RoleName]) -> Result<Principal, Refusal> {
    let roles: Vec<Role> = match roles {
        [] => vec![Role::User],
        roles => roles.iter().map(|role| role.role()).collect(),
    };
    Ok(Principal::new(UserId::parse("user", user)?, &roles))
}

impl RoleName {
    const fn role(self) -> Role {
        match self {
            Self::User => Role::User,
            Self::Worker => Role::Worker,
            Self::Operator => Role::Operator,
        }
    }
}

impl Do {
    fn body(self) -> Result<CommandBody, Refusal> {
        Ok(match self {
            Self::Submit { pid, priority, quota, parent } => {
                let mut submit = submitted(pid, priority.as_deref(), &quota)?;
                submit.parent = parent.map(|pid| ProcessId::parse("parent", &pid)).transpose()?;
                CommandBody::Submit(Box::new(submit))
            }
            Self::Schedule { pid } => CommandBody::Schedule { pid: process(&pid)? },
            Self::NextRunnable {} => CommandBody::NextRunnable,
            Self::TransitionState { pid, to, reason } => {
                let to = named("to", ProcessState::ALL, &to)?;
                CommandBody::TransitionState { pid: process(&pid)?, to, reason }
            }
            Self::Terminate { pid, message, force } => {
                CommandBody::Terminate { pid: process(&pid)?, message, force }
            }
            Self::CleanupProcess { pid } => CommandBody::CleanupProcess { pid: process(&pid)? },
            Self::Reserve { pid, reservation, amounts, lease_ms } => {
                let id = reservation.map(|id| ReservationId::parse("reservation", &id));
                CommandBody::Reserve(Box::new(Reserve {
                    pid: process(&pid)?,
                    reservation: id.transpose()?,
                    attempt: None,
                    amounts: amounts.into(),
                    lease_ms,
                }))
            }
            Self::Settle { pid, reservation, actual } => {
                let reservation = ReservationId::parse("reservation", &reservation)?;
                CommandBody::Settle { pid: process(&pid)?, reservation, actual: actual.into() }
            }
            Self::Release { pid, reservation } => {
                let reservation = ReservationId::parse("reservation", &reservation)?;
                CommandBody::Release { pid: process(&pid)?, reservation }
            }
            Self::RecordUsage { pid, amounts, agent_hops, record } => {
                let record = record.map(|id| RecordId::parse("record", &id)).transpose()?;
                let (pid, amounts) = (process(&pid)?, amounts.into());
                let record = Record { pid, amounts, agent_hops, attempt: None, record };
                CommandBody::RecordUsage(Box::new(record))
            }
            Self::AdjustQuota { pid, quota } => {
                CommandBody::AdjustQuota { pid: process(&pid)?, quota: limits(&quota)? }
            }
            Self::ExecutePipeline { pid, pipeline, envelope_id, raw_input, priority, quota } => {
                let run = Run { envelope_id, raw_input, priority, quota };
                let json = payload("pipeline", &pipeline)?;
                run.execute(pid, PipelineConfig::parse(&json, &FlowLimits::DEFAULT)?)?
            }
            Self::ExecuteAgent {
                pid,
                agent_config,
                service,
                timeout_ms,
                envelope_id,
                raw_input,
                priority,
                quota,
            } => {
                let run = Run { envelope_id, raw_input, priority, quota };
                let agent: AgentConfig =
                    read(&payload("agent_config", &agent_config)?, "agent_config")?;
                let service = service.map(|name| ServiceName::parse("service", &name));
                let timeout = timeout_ms.map(|limit| Limit::parse("timeout_ms", limit));
                let (service, timeout) = (service.transpose()?, timeout.transpose()?);
                let limits = &FlowLimits::DEFAULT;
                let config = PipelineConfig::of_agent(&agent, service.as_ref(), timeout, limits)?;
                run.execute(pid, config)?
            }
            Self::RegisterService { name, service_type, max_concurrent } => {
                let kind = ServiceType::parse("service_type", &service_type)?;
                let mut info = ServiceInfo::new(ServiceName::parse("name", &name)?, kind);
                info.max_concurrent = max_concurrent.unwrap_or(info.max_concurrent);
                CommandBody::RegisterService(Box::new(info))
            }
            Self::LeaseTasks { service, max } => {
                CommandBody::LeaseTasks { service: ServiceName::parse("service", &service)?, max }
            }
            Self::RenewLease { lease } => {
                let lease = LeaseId::parse("lease", &lease)?;
                CommandBody::RenewLease { lease, pid: None, lease_ms: None }
            }
            Self::CompleteTask { lease, success, data, error } => {
                let data = data.map(|data| payload("data", &data)).transpose()?;
                let lease = LeaseId::parse("lease", &lease)?;
                let done = Completion { lease, success, data, error, error_kind: None };
                CommandBody::CompleteTask(Box::new(done))
            }
            Self::ResolveInterrupt { interrupt, text, approved } => {
                let text = text.map(Into::into);
                let response = Response { text, approved, ..Response::default() };
                let id = InterruptId::parse("interrupt", &interrupt)?;
                CommandBody::ResolveInterrupt { id, response: Box::new(response) }
            }
        })
    }
}

impl Run {
    fn execute(
        self,
        pid: Option<String>,
        pipeline: PipelineConfig,
    ) -> Result<CommandBody, Refusal> {
        let submit = submitted(pid, self.priority.as_deref(), &self.quota)?;
        let envelope = match (self.envelope_id, self.raw_input) {
            (Some(_), Some(_)) => {
                let text = "envelope_id: not with raw_input, which is of a new envelope";
                return Err(Refusal::of_field(Code::BadValue, "envelope_id", text));
            }
            (Some(id), None) => EnvelopeChoice::Known(EnvelopeId::parse("envelope_id", &id)?),
            (None, input) => {
                let raw_input = input.unwrap_or_default();
                EnvelopeChoice::New(Box::new(NewEnvelope { raw_input, ..NewEnvelope::default() }))
            }
        };
        let execute = Execute { submit, pipeline: Pipeline::new(pipeline), envelope };
        Ok(CommandBody::ExecutePipeline(Box::new(execute)))
    }
}

/// What a process is to be, by the words for it.
fn submitted(
    pid: Option<String>,
    priority: Option<&str>,
    quota: &BTreeMap<String, i64>,
) -> Result<Submit, Refusal> {
    let priority = priority.map(|name| named("priority", Priority::ALL, name));
    Ok(Submit {
        pid: pid.map(|pid| ProcessId::parse("pid", &pid)).transpose()?,
        request: None,
        user: None,
        session: None,
        priority: priority.transpose()?.unwrap_or(Priority::Normal),
        quota: limits(quota)?,
        parent: None,
        on_exhausted: OnExhausted::Terminate,
        driven: false,
        metadata: BTreeMap::new(),
    })
}

/// Takes JSON as the kernel keeps it (K24).
fn payload(field: &str, value: &Value) -> Result<Json, Refusal> {
    Json::parse(field, value.to_string().as_bytes(), &JsonLimits::DEFAULT)
}

fn process(pid: &str) -> Result<ProcessId, Refusal> {
    ProcessId::parse("pid", pid)
}

/// Finds a value by the name that texts give it.
fn named<T: Copy + Named>(field: &str, all: &[T], name: &str) -> Result<T, Refusal> {
    let known = all.iter().copied().find(|one| one.name() == name);
    known.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| one.name()).collect();
        let text = format!("{field}: \"{name}\" is none of {}", names.join(", "));
        Refusal::of_field(Code::BadValue, field, text)
    })
}

/// What texts give a name.
trait Named {
    fn name(self) -> &'static str;
}

impl Named for Priority {
    fn name(self) -> &'static str {
        Self::name(self)
    }
}

impl Named for ProcessState {
    fn name(self) -> &'static str {
        Self::name(self)
    }
}

impl Named for QuotaField {
    fn name(self) -> &'static str {
        Self::name(self)
    }
}

fn limits(quota: &BTreeMap<String, i64>) -> Result<QuotaPatch, Refusal> {
    let limit = |(name, value): (&String, &i64)| {
        let field = named("quota", &QuotaField::ALL, name)?;
        Ok((field, Limit::parse(&format!("quota.{name}"), *value)?))
    };
    quota.iter().map(limit).collect()
}

/// Shows what came of a command.
pub(crate) fn shown(decided: &Result<Decided, Box<Refusal>>) -> Value {
    match decided {
        Ok(Decided { reply, events }) => {
            let events: Vec<Value> = events.iter().map(event).collect();
            let mut told = json!({ "as_of": reply.as_of, "events": events });
            match &reply.done {
                Done::Tasks(tasks) => told["tasks"] = tasks.iter().map(task).collect(),
                Done::Process(process) => told["pid"] = json!(process.pid.as_str()),
                _ => {}
            }
            json!({ "ok": told })
        }
        Err(refusal) => refused(refusal),
    }
}

/// Shows why nothing came of it.
pub(crate) fn refused(refusal: &Refusal) -> Value {
    let (code, text) = (refusal.code.as_str(), &refusal.text);
    json!({ "refused": { "code": code, "text": text, "retry_at_ms": refusal.retry_at } })
}

/// Shows a task to its worker (13.2).
fn task(task: &Task) -> Value {
    json!({
        "dispatch_id": task.dispatch.as_str(),
        "pid": task.pid.as_ref().map(ProcessId::as_str),
        "lease": task.lease.as_str(),
        "lease_until_ms": task.lease_until.as_millis(),
        "method": &*task.method,
        "data": shown_json(&task.data),
        "try_number": task.try_number,
        "deadline_at_ms": task.deadline_at.as_millis(),
    })
}

/// Shows JSON of the kernel.
pub(crate) fn shown_json(json: &Json) -> Value {
    serde_json::from_str(&json.to_string()).unwrap_or_default()
}

fn event(event: &Event) -> Value {
    let pid = event.subject.pid.as_ref().map(ProcessId::as_str);
    json!({ "kind": event.body.kind(), "pid": pid, "time_ms": event.time.as_millis() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Result<Command, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        line.command().map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_line_says_who_asks_and_what_for() {
        let text = r#"{"user":"alice","worker":"w","do":{"terminate":{"pid":"p","force":true}}}"#;
        let said = command(text).unwrap();
        assert_eq!((said.by.user.as_str(), said.worker.unwrap().as_str()), ("alice", "w"));
        let CommandBody::Terminate { pid, message, force } = said.body else {
            panic!("another command: {:?}", said.body);
        };
        assert_eq!((pid.as_str(), message.as_str(), force), ("p", "", true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |text: &str| command(text).unwrap_err();
        let wrong = refused(r#"{"user":"alice","do":{"submit":{"priority":"urgent"}}}"#);
        assert_eq!(
            wrong,
            "bad_value: priority: \"urgent\" is none of realtime, high, normal, low, idle"
        );
        let wrong = refused(r#"{"user":"a b","do":{"next_runnable":{}}}"#);
        assert!(wrong.starts_with("bad_id: user"), "{wrong}");
        let wrong = refused(r#"{"user":"a","do":{"submit":{"quota":{"max_llm_calls":-2}}}}"#);
        assert!(wrong.starts_with("bad_value: quota.max_llm_calls"), "{wrong}");
        let wrong = refused(r#"{"user":"a","do":{"submit":{"pids":"p"}}}"#);
        assert!(wrong.contains("unknown field `pids`"), "{wrong}");
    }
}
