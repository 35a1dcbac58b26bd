//! Commands and queries of the kernel as lines of JSON, for whoever may open the control socket.
//!
//! ```text
//!   → {"kernel":{"user":"alice","do":{"submit":{"pid":"p1"}}}}
//!   ← {"ok":{"as_of":7,"events":[{"kind":"process.created","pid":"p1","time_ms":…}],
//!            "process":{"pid":"p1","state":"new",…}}}
//!     or {"refused":{"code":"process_limit","text":"…"}}
//!   → {"kernel":{"user":"alice","do":{"get_process":{"pid":"p1"}}}}
//!   ← {"ok":{"as_of":7,"process":{"pid":"p1","state":"new",…}}}
//! ```
//!
//! A reply comes when what it tells is durable (K5). Whoever can open the socket may do everything,
//! so it also says in whose name, and with which roles, it acts.

mod areas;
mod form;
mod shown;

use std::collections::BTreeMap;
use std::time::Duration;

use machines::keeper::io::Decided;
use machines::kernel::budget::{Record, Reserve};
use machines::kernel::event::Event;
use machines::kernel::ids::{
    AttemptId, InterruptId, ProcessId, RecordId, RequestId, ReservationId, SessionId, UserId,
    WorkerId,
};
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{OnExhausted, Priority, ProcessState};
use machines::kernel::principal::{Principal, Role};
use machines::kernel::query::{Answer, Query};
use machines::kernel::quota::{Amounts, Limit, QuotaField, QuotaPatch};
use machines::kernel::{Code, Command, CommandBody, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use areas::{maybe, metadata, word};
use form::{Body, Form};

pub(crate) use form::check;
pub(crate) use shown::plain;

/// One command or query, and in whose name.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    user: String,
    #[serde(default)]
    roles: Vec<RoleName>,
    worker: Option<String>,
    #[serde(rename = "do")]
    body: Form,
}

/// What is asked of the kernel.
#[derive(Debug)]
pub(crate) enum Asked {
    /// That it decides.
    Command(Box<Command>),
    /// That it decides, and tells when what that began has ended (K393).
    Agent(Box<Command>),
    /// That it leases tasks, and waits for one so long if there is none (K205).
    Lease(Box<Command>, Duration),
    /// That it tells.
    Query(Box<(Principal, Query)>),
}

/// What somebody is (K26).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoleName {
    User,
    Worker,
    Operator,
}

/// What is to be done with processes and their budgets (K370).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Do {
    Submit(New),
    Schedule {
        pid: String,
    },
    NextRunnable {},
    TransitionState {
        pid: String,
        #[serde(alias = "new_state")]
        to: String,
        #[serde(default)]
        reason: String,
    },
    Terminate {
        pid: String,
        #[serde(default, alias = "reason")]
        message: String,
        #[serde(default)]
        force: bool,
    },
    CleanupProcess {
        pid: String,
    },
    Reserve {
        pid: String,
        #[serde(alias = "reservation_id")]
        reservation: Option<String>,
        #[serde(alias = "attempt")]
        attempt_id: Option<String>,
        amounts: Used,
        lease_ms: Option<u64>,
    },
    Settle {
        pid: String,
        #[serde(alias = "reservation_id")]
        reservation: String,
        actual: Used,
    },
    Release {
        pid: String,
        #[serde(alias = "reservation_id")]
        reservation: String,
    },
    RecordUsage {
        pid: String,
        amounts: Used,
        #[serde(default)]
        agent_hops: u64,
        #[serde(alias = "attempt")]
        attempt_id: Option<String>,
        #[serde(alias = "record_id")]
        record: Option<String>,
    },
    AdjustQuota {
        pid: String,
        quota: BTreeMap<String, i64>,
    },
}

/// What a process is to be (13.1: CreateProcess).
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct New {
    pid: Option<String>,
    #[serde(alias = "request")]
    request_id: Option<String>,
    #[serde(alias = "user")]
    user_id: Option<String>,
    #[serde(alias = "session")]
    session_id: Option<String>,
    priority: Option<String>,
    quota: BTreeMap<String, i64>,
    #[serde(alias = "parent_pid")]
    parent: Option<String>,
    on_exhausted: Option<String>,
    metadata: BTreeMap<String, Value>,
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
    /// Returns the command or query in the kernel's words.
    ///
    /// # Errors
    ///
    /// The refusal that the kernel would give an id, a name or a limit that is none.
    pub(crate) fn asked(self) -> Result<Asked, Refusal> {
        let by = principal(&self.user, &self.roles)?;
        let worker = self.worker.map(|worker| WorkerId::parse("worker", &worker)).transpose()?;
        let command = |by, body| Box::new(Command { by, worker, rate: None, body });
        Ok(match self.body.body()? {
            Body::Command(body) => Asked::Command(command(by, body)),
            Body::Agent(body) => Asked::Agent(command(by, body)),
            Body::Lease(body, wait) => Asked::Lease(command(by, body), wait),
            Body::Query(query) => Asked::Query(Box::new((by, query))),
        })
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
            Self::Submit(new) => CommandBody::Submit(Box::new(new.submit()?)),
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
            Self::Reserve { pid, reservation, attempt_id, amounts, lease_ms } => {
                let id = reservation.map(|id| ReservationId::parse("reservation", &id));
                CommandBody::Reserve(Box::new(Reserve {
                    pid: process(&pid)?,
                    reservation: id.transpose()?,
                    attempt: maybe(AttemptId::parse, "attempt_id", attempt_id.as_deref())?,
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
            Self::RecordUsage { pid, amounts, agent_hops, attempt_id, record } => {
                let record = record.map(|id| RecordId::parse("record", &id)).transpose()?;
                let attempt = maybe(AttemptId::parse, "attempt_id", attempt_id.as_deref())?;
                let (pid, amounts) = (process(&pid)?, amounts.into());
                let record = Record { pid, amounts, agent_hops, attempt, record };
                CommandBody::RecordUsage(Box::new(record))
            }
            Self::AdjustQuota { pid, quota } => {
                CommandBody::AdjustQuota { pid: process(&pid)?, quota: limits(&quota)? }
            }
        })
    }
}

impl New {
    pub(crate) fn submit(self) -> Result<Submit, Refusal> {
        let priority = |name: String| named("priority", Priority::ALL, &name);
        let exhausted =
            |name: String| word("on_exhausted", OnExhausted::ALL, OnExhausted::name, &name);
        let on_exhausted = self.on_exhausted.map(exhausted).transpose()?;
        Ok(Submit {
            pid: maybe(ProcessId::parse, "pid", self.pid.as_deref())?,
            request: maybe(RequestId::parse, "request_id", self.request_id.as_deref())?,
            user: maybe(UserId::parse, "user_id", self.user_id.as_deref())?,
            session: maybe(SessionId::parse, "session_id", self.session_id.as_deref())?,
            priority: self.priority.map(priority).transpose()?.unwrap_or(Priority::Normal),
            quota: limits(&self.quota)?,
            parent: maybe(ProcessId::parse, "parent", self.parent.as_deref())?,
            on_exhausted: on_exhausted.unwrap_or(OnExhausted::Terminate),
            driven: false,
            metadata: metadata(&self.metadata)?,
        })
    }
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

/// Returns the interrupt whose approval a command uses: its reply does not say.
pub(crate) fn approval_of(command: &Command) -> Option<InterruptId> {
    if let CommandBody::ConsumeApproval(wanted) = &command.body {
        return Some(wanted.interrupt.clone());
    }
    None
}

/// Shows what came of a command; `approval` is the interrupt whose approval it used.
pub(crate) fn shown(
    decided: &Result<Decided, Box<Refusal>>,
    approval: Option<&InterruptId>,
) -> Value {
    match decided {
        Ok(Decided { reply, events }) => {
            let mut told = shown::reply(reply);
            if let Some((shown, id)) = told.get_mut("approval").zip(approval) {
                shown["interrupt_id"] = id.as_str().into();
            }
            told["events"] = events.iter().map(event).collect();
            json!({ "ok": told })
        }
        Err(refusal) => refused(refusal),
    }
}

/// Shows what a query is told.
pub(crate) fn answered(answer: &Result<Box<Answer>, Box<Refusal>>) -> Value {
    match answer {
        Ok(answer) => json!({ "ok": shown::answer(answer) }),
        Err(refusal) => refused(refusal),
    }
}

/// Shows why nothing came of it.
pub(crate) fn refused(refusal: &Refusal) -> Value {
    let (code, text) = (refusal.code.as_str(), &refusal.text);
    json!({ "refused": { "code": code, "text": text, "retry_at_ms": refusal.retry_at } })
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
        match line.asked().map_err(|refusal| refusal.to_string())? {
            Asked::Command(command) => Ok(*command),
            Asked::Agent(command) | Asked::Lease(command, _) => Ok(*command),
            Asked::Query(query) => panic!("it is a query: {query:?}"),
        }
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
