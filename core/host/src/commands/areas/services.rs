//! Commands on services, slots, dispatches and leases (section 7).

use std::collections::BTreeMap;
use std::time::Duration;

use machines::kernel::dispatch::{ApprovalUse, Completion, ServiceRequest, Target};
use machines::kernel::ids::{Capability, DispatchId, LeaseId, ProcessId, ServiceName, ServiceType};
use machines::kernel::names::Priority;
use machines::kernel::quota::Limit;
use machines::kernel::services::{ServiceInfo, ServiceMode, ServiceStatus};
use machines::kernel::{Code, CommandBody, Refusal};
use serde::Deserialize;
use serde_json::Value;

use super::sessions::error_kind;
use super::{configured, each, interrupt, json, maybe, metadata, service, text, word};

/// The longest that a caller can have tasks waited for (K392).
const WAIT_MS_MAX: u64 = 300_000;
/// How long a report of a service is believed whose worker is not in the node's process (2.5).
const HEALTH_TTL_MS: i64 = 30_000;

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Do {
    RegisterService(Info),
    UnregisterService {
        name: String,
    },
    ReportHealth {
        name: String,
        status: String,
    },
    AcquireSlot {
        service: String,
        pid: Option<String>,
        lease_ms: Option<u64>,
    },
    ReleaseSlot {
        lease: String,
    },
    /// Of a slot, a try or a run, or by its id of a reservation.
    RenewLease {
        #[serde(alias = "reservation_id")]
        lease: String,
        pid: Option<String>,
        lease_ms: Option<u64>,
    },
    Dispatch(Call),
    DispatchInference(Call),
    LeaseTasks {
        service: String,
        #[serde(default = "one")]
        max: u32,
        /// How long to wait for a task, if there is none.
        #[serde(default)]
        wait_ms: u64,
    },
    CompleteTask {
        lease: String,
        success: bool,
        data: Option<Value>,
        error: Option<String>,
        error_kind: Option<Value>,
    },
    CancelDispatch {
        dispatch_id: String,
    },
}

const fn one() -> u32 {
    1
}

/// What a service says of itself (13.3: ServiceInfo).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Info {
    name: String,
    service_type: String,
    mode: Option<String>,
    version: Option<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    max_concurrent: Option<u32>,
    status: Option<String>,
    health_ttl_ms: Option<i64>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
}

/// What is to be called (13.3: ServiceRequest): a service by its name, or by type and capability.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    dispatch_id: Option<String>,
    pid: Option<String>,
    service: Option<String>,
    service_type: Option<String>,
    capability: Option<String>,
    method: String,
    #[serde(default)]
    data: Value,
    priority: Option<String>,
    #[serde(default)]
    queue: bool,
    try_timeout_ms: Option<u64>,
    deadline_ms: Option<u64>,
    retry: Option<Value>,
    approval: Option<Leave>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
}

/// The approval that a call uses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Leave {
    interrupt_id: String,
    action: String,
    #[serde(default)]
    params: Value,
}

impl Do {
    /// Returns how long it is to be waited for tasks, if it is (K205).
    ///
    /// # Errors
    ///
    /// That it is too long.
    pub(crate) fn wait(&self) -> Result<Option<Duration>, Refusal> {
        match self {
            Self::LeaseTasks { wait_ms, .. } if *wait_ms > WAIT_MS_MAX => {
                let text = format!("wait_ms: {wait_ms}, at most {WAIT_MS_MAX}");
                Err(Refusal::of_field(Code::BadValue, "wait_ms", text))
            }
            Self::LeaseTasks { wait_ms, .. } => {
                Ok((*wait_ms > 0).then(|| Duration::from_millis(*wait_ms)))
            }
            Self::RegisterService(_)
            | Self::UnregisterService { .. }
            | Self::ReportHealth { .. }
            | Self::AcquireSlot { .. }
            | Self::ReleaseSlot { .. }
            | Self::RenewLease { .. }
            | Self::Dispatch(_)
            | Self::DispatchInference(_)
            | Self::CompleteTask { .. }
            | Self::CancelDispatch { .. } => Ok(None),
        }
    }

    pub(crate) fn body(self) -> Result<CommandBody, Refusal> {
        Ok(match self {
            Self::RegisterService(info) => CommandBody::RegisterService(Box::new(info.asked()?)),
            Self::UnregisterService { name } => {
                CommandBody::UnregisterService { service: named(&name)? }
            }
            Self::ReportHealth { name, status: how } => {
                CommandBody::UpdateHealth { service: named(&name)?, status: status(&how)? }
            }
            Self::AcquireSlot { service: of, pid, lease_ms } => CommandBody::AcquireSlot {
                service: service(&of)?,
                pid: maybe(ProcessId::parse, "pid", pid.as_deref())?,
                lease_ms,
            },
            Self::ReleaseSlot { lease } => CommandBody::ReleaseSlot { lease: leased(&lease)? },
            Self::RenewLease { lease, pid, lease_ms } => CommandBody::RenewLease {
                lease: leased(&lease)?,
                pid: maybe(ProcessId::parse, "pid", pid.as_deref())?,
                lease_ms,
            },
            Self::Dispatch(call) => CommandBody::Dispatch(Box::new(call.asked()?)),
            Self::DispatchInference(call) => {
                CommandBody::DispatchInference(Box::new(call.asked()?))
            }
            Self::LeaseTasks { service: of, max, wait_ms: _ } => {
                CommandBody::LeaseTasks { service: service(&of)?, max }
            }
            Self::CompleteTask { lease, success, data, error, error_kind: kind } => {
                CommandBody::CompleteTask(Box::new(Completion {
                    lease: leased(&lease)?,
                    success,
                    data: data.map(|data| json("data", &data)).transpose()?,
                    error,
                    error_kind: error_kind("error_kind", kind.as_ref())?,
                }))
            }
            Self::CancelDispatch { dispatch_id } => {
                let dispatch = DispatchId::parse("dispatch_id", &dispatch_id)?;
                CommandBody::CancelDispatch { dispatch }
            }
        })
    }
}

fn named(name: &str) -> Result<ServiceName, Refusal> {
    ServiceName::parse("name", name)
}

fn leased(lease: &str) -> Result<LeaseId, Refusal> {
    LeaseId::parse("lease", lease)
}

fn status(name: &str) -> Result<ServiceStatus, Refusal> {
    word("status", ServiceStatus::ALL, ServiceStatus::name, name)
}

impl Info {
    fn asked(self) -> Result<ServiceInfo, Refusal> {
        let mode = |name: String| word("mode", ServiceMode::ALL, ServiceMode::name, &name);
        let kind = ServiceType::parse("service_type", &self.service_type)?;
        let plain = ServiceInfo::new(named(&self.name)?, kind);
        let ttl = self.health_ttl_ms.unwrap_or(HEALTH_TTL_MS);
        Ok(ServiceInfo {
            mode: self.mode.map(mode).transpose()?.unwrap_or(plain.mode),
            version: self.version.unwrap_or(plain.version),
            capabilities: each(Capability::parse, "capabilities", &self.capabilities)?,
            max_concurrent: self.max_concurrent.unwrap_or(plain.max_concurrent),
            status: self.status.as_deref().map(status).transpose()?.unwrap_or(plain.status),
            health_ttl_ms: Limit::parse("health_ttl_ms", ttl)?,
            metadata: metadata(&self.metadata)?,
            ..plain
        })
    }
}

impl Call {
    fn asked(self) -> Result<ServiceRequest, Refusal> {
        let priority = |name: String| word("priority", Priority::ALL, Priority::name, &name);
        let plain = ServiceRequest::new(self.target()?, &self.method, json("data", &self.data)?);
        let retry = self.retry.as_ref().map(|retry| configured("retry", retry)).transpose()?;
        Ok(ServiceRequest {
            dispatch: maybe(DispatchId::parse, "dispatch_id", self.dispatch_id.as_deref())?,
            pid: maybe(ProcessId::parse, "pid", self.pid.as_deref())?,
            priority: self.priority.map(priority).transpose()?.unwrap_or(plain.priority),
            queue: self.queue,
            try_timeout_ms: self.try_timeout_ms.unwrap_or(plain.try_timeout_ms),
            deadline_ms: self.deadline_ms,
            retry: retry.unwrap_or(plain.retry),
            approval: self.approval.map(Leave::asked).transpose()?,
            metadata: metadata(&self.metadata)?,
            ..plain
        })
    }

    fn target(&self) -> Result<Target, Refusal> {
        match (&self.service, &self.service_type, &self.capability) {
            (Some(name), None, None) => Ok(Target::Name { name: service(name)? }),
            (None, Some(kind), capability) => Ok(Target::Type {
                service_type: ServiceType::parse("service_type", kind)?,
                capability: maybe(Capability::parse, "capability", capability.as_deref())?,
            }),
            (Some(_), _, _) | (None, None, _) => {
                let text = "service is required, or service_type, with capability or without";
                Err(Refusal::of_field(Code::Required, "service", text))
            }
        }
    }
}

impl Leave {
    fn asked(self) -> Result<ApprovalUse, Refusal> {
        Ok(ApprovalUse {
            interrupt: interrupt(&self.interrupt_id)?,
            action: text(self.action),
            params: json("approval.params", &self.params)?,
        })
    }
}
