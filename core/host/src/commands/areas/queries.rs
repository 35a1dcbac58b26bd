//! All that can be asked (K370): queries change nothing.

use std::collections::BTreeSet;

use machines::kernel::ids::{
    Capability, DispatchId, ProcessId, RequestId, ServiceName, ServiceType, SessionId, UserId,
};
use machines::kernel::interrupts::query::Filter;
use machines::kernel::names::{InterruptKind, InterruptStatus, ProcessState};
use machines::kernel::query::Query;
use machines::kernel::query::bounds::BoundsOf;
use machines::kernel::query::interrupts::{ListInterrupts, PendingOf};
use machines::kernel::query::page::ListProcesses;
use machines::kernel::query::services::ListServices;
use machines::kernel::{Code, Refusal};
use serde::Deserialize;

use super::{endpoint, envelope, interrupt, maybe, pid, user, word};

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    GetProcess { pid: String },
    ListProcesses(Processes),
    GetProcessCounts {},
    CheckQuota { pid: String },
    GetUsage { pid: String },
    GetQuota { pid: String },
    GetRemainingBudget { pid: String },
    CheckInferenceQuota { pid: String, requests: u64, chars: u64 },
    GetEnvelope { envelope_id: String },
    CheckBounds { pid: Option<String>, envelope_id: Option<String> },
    GetSystemStatus {},
    GetSystemUsage {},
    GetRequestStatus { pid: String },
    GetSessionState { pid: String },
    GetInterrupt { interrupt_id: String },
    GetPendingInterrupt { pid: Option<String>, request_id: Option<String> },
    ListInterrupts(Box<Interrupts>),
    HasPending { pid: String },
    GetInterruptStats {},
    GetRateLimitUsage { user_id: String, endpoint: Option<String> },
    GetService { name: String },
    ListServices(Services),
    CanAccept { name: String },
    GetServiceStats { name: Option<String> },
    GetDispatch { dispatch_id: String },
}

/// Which processes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Processes {
    state: Option<String>,
    user_id: Option<String>,
    page_size: u64,
    page_token: String,
}

/// Which interrupts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Interrupts {
    pid: Option<String>,
    user_id: Option<String>,
    session_id: Option<String>,
    kinds: Vec<String>,
    status: Option<String>,
    page_size: u64,
    page_token: String,
}

/// Which services.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Services {
    #[serde(alias = "type")]
    service_type: Option<String>,
    capability: Option<String>,
    accepting_only: bool,
}

impl Ask {
    pub(crate) fn query(self) -> Result<Query, Refusal> {
        Ok(match self {
            Self::GetProcess { pid: of } => Query::GetProcess { pid: pid(&of)? },
            Self::ListProcesses(list) => Query::ListProcesses(Box::new(list.asked()?)),
            Self::GetProcessCounts {} => Query::GetProcessCounts,
            Self::CheckQuota { pid: of } => Query::CheckQuota { pid: pid(&of)? },
            Self::GetUsage { pid: of } => Query::GetUsage { pid: pid(&of)? },
            Self::GetQuota { pid: of } => Query::GetQuota { pid: pid(&of)? },
            Self::GetRemainingBudget { pid: of } => Query::GetRemainingBudget { pid: pid(&of)? },
            Self::CheckInferenceQuota { pid: of, requests, chars } => {
                Query::CheckInferenceQuota { pid: pid(&of)?, requests, chars }
            }
            Self::GetEnvelope { envelope_id } => Query::GetEnvelope { id: envelope(&envelope_id)? },
            Self::CheckBounds { pid: of, envelope_id } => {
                Query::CheckBounds { of: bounds(of.as_deref(), envelope_id.as_deref())? }
            }
            Self::GetSystemStatus {} => Query::GetSystemStatus,
            Self::GetSystemUsage {} => Query::GetSystemUsage,
            Self::GetRequestStatus { pid: of } => Query::GetRequestStatus { pid: pid(&of)? },
            Self::GetSessionState { pid: of } => Query::GetSessionState { pid: pid(&of)? },
            Self::GetInterrupt { interrupt_id } => {
                Query::GetInterrupt { id: interrupt(&interrupt_id)? }
            }
            Self::GetPendingInterrupt { pid: of, request_id } => {
                Query::GetPendingInterrupt { of: pending(of.as_deref(), request_id.as_deref())? }
            }
            Self::ListInterrupts(list) => Query::ListInterrupts(Box::new(list.asked()?)),
            Self::HasPending { pid: of } => Query::HasPending { pid: pid(&of)? },
            Self::GetInterruptStats {} => Query::GetInterruptStats,
            Self::GetRateLimitUsage { user_id, endpoint: on } => {
                let (user, endpoint) = (user(&user_id)?, endpoint(on.as_deref())?);
                Query::GetRateLimitUsage { user, endpoint }
            }
            Self::GetService { name } => Query::GetService { service: named(&name)? },
            Self::ListServices(list) => Query::ListServices(Box::new(list.asked()?)),
            Self::CanAccept { name } => Query::CanAccept { service: named(&name)? },
            Self::GetServiceStats { name } => {
                let service = maybe(ServiceName::parse, "name", name.as_deref())?;
                Query::GetServiceStats { service }
            }
            Self::GetDispatch { dispatch_id } => {
                let dispatch = DispatchId::parse("dispatch_id", &dispatch_id)?;
                Query::GetDispatch { dispatch }
            }
        })
    }
}

fn named(name: &str) -> Result<ServiceName, Refusal> {
    ServiceName::parse("name", name)
}

/// Refuses what names neither of two subjects, or both.
fn one_of(first: &str, second: &str) -> Refusal {
    let text = format!("{first} or {second} is required, and not both");
    Refusal::of_field(Code::Required, first, text)
}

fn bounds(of: Option<&str>, id: Option<&str>) -> Result<BoundsOf, Refusal> {
    match (of, id) {
        (Some(of), None) => Ok(BoundsOf::Process(pid(of)?)),
        (None, Some(id)) => Ok(BoundsOf::Envelope(envelope(id)?)),
        (Some(_), Some(_)) | (None, None) => Err(one_of("pid", "envelope_id")),
    }
}

fn pending(of: Option<&str>, request: Option<&str>) -> Result<PendingOf, Refusal> {
    match (of, request) {
        (Some(of), None) => Ok(PendingOf::Process(pid(of)?)),
        (None, Some(id)) => Ok(PendingOf::Request(RequestId::parse("request_id", id)?)),
        (Some(_), Some(_)) | (None, None) => Err(one_of("pid", "request_id")),
    }
}

impl Processes {
    fn asked(self) -> Result<ListProcesses, Refusal> {
        let state = |name: String| word("state", ProcessState::ALL, ProcessState::name, &name);
        Ok(ListProcesses {
            state: self.state.map(state).transpose()?,
            user: maybe(UserId::parse, "user_id", self.user_id.as_deref())?,
            page_size: self.page_size,
            page_token: self.page_token,
        })
    }
}

impl Interrupts {
    fn asked(self) -> Result<ListInterrupts, Refusal> {
        let kind = |name: &String| word("kinds", InterruptKind::ALL, InterruptKind::name, name);
        let kinds: Result<BTreeSet<_>, Refusal> = self.kinds.iter().map(kind).collect();
        let status =
            |name: String| word("status", InterruptStatus::ALL, InterruptStatus::name, &name);
        let filter = Filter {
            pid: maybe(ProcessId::parse, "pid", self.pid.as_deref())?,
            user: maybe(UserId::parse, "user_id", self.user_id.as_deref())?,
            session: maybe(SessionId::parse, "session_id", self.session_id.as_deref())?,
            kinds: kinds?,
            status: self.status.map(status).transpose()?,
        };
        Ok(ListInterrupts { filter, page_size: self.page_size, page_token: self.page_token })
    }
}

impl Services {
    fn asked(self) -> Result<ListServices, Refusal> {
        Ok(ListServices {
            service_type: maybe(ServiceType::parse, "service_type", self.service_type.as_deref())?,
            capability: maybe(Capability::parse, "capability", self.capability.as_deref())?,
            accepting_only: self.accepting_only,
        })
    }
}
