//! Queries: what can be asked, who may ask it, and what is answered (K5, K27, K370).
//!
//! A query changes nothing and costs as much as its answer: whatever it counts is counted when it
//! changes (K350). Access is checked before anything else, by one of these rules:
//!
//! | rule | who |
//! |---|---|
//! | of a process, O H P | its owner, who holds it, operators |
//! | of an envelope, O H P | its owner, who holds the process that it serves, operators |
//! | of an interrupt, O H P | as of its process, and its assignee |
//! | of a rate | that user, workers and operators |
//! | of a service | anyone |
//! | of a dispatch | its user, operators |
//! | of the node, P | operators |
//!
//! The node itself may ask everything: it drives what it asks about. A query names no worker, so
//! any worker of the user that holds a process counts as its holder.

pub mod bounds;
pub mod budget;
pub mod envelope;
pub mod index;
pub mod interrupts;
pub mod page;
#[cfg(test)]
mod props;
pub mod services;
pub mod status;
#[cfg(test)]
mod tests;
pub mod view;

use super::Kernel;
use super::decision;
use super::envelopes::Envelope;
use super::envelopes::command::{foreign, missing};
use super::ids::{DispatchId, Endpoint, EnvelopeId, InterruptId, ProcessId, ServiceName, UserId};
use super::interrupts::fold::InterruptCounts;
use super::interrupts::interrupt::Interrupt;
use super::principal::Principal;
use super::process::Process;
use super::quota::{Amounts, Quota};
use super::rates::RateResult;
use super::rates::WindowUsage;
use super::refusal::{Code, Refusal};
use super::services::desk::ServiceStats;
use super::sessions::view::SessionState;
use super::state::State;
use super::time::Time;
use bounds::{Bounds, BoundsOf};
use budget::{InferenceCheck, QuotaCheck, Remaining, ResourceUse};
use envelope::EnvelopeView;
use interrupts::{InterruptPage, ListInterrupts, PendingOf};
use page::{ListProcesses, ProcessPage};
use services::{ListServices, ShownDispatch, ShownService};
use status::{ProcessCounts, RequestStatus, SystemStatus, SystemUsage};
use view::ProcessControlBlock;

/// What is asked (K370).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the methods of section 12")]
pub enum Query {
    GetProcess { pid: ProcessId },
    ListProcesses(Box<ListProcesses>),
    GetProcessCounts,
    CheckQuota { pid: ProcessId },
    GetUsage { pid: ProcessId },
    GetQuota { pid: ProcessId },
    GetRemainingBudget { pid: ProcessId },
    CheckInferenceQuota { pid: ProcessId, requests: u64, chars: u64 },
    GetEnvelope { id: EnvelopeId },
    CheckBounds { of: BoundsOf },
    GetSystemStatus,
    GetSystemUsage,
    GetRequestStatus { pid: ProcessId },
    GetSessionState { pid: ProcessId },
    GetInterrupt { id: InterruptId },
    GetPendingInterrupt { of: PendingOf },
    ListInterrupts(Box<ListInterrupts>),
    HasPending { pid: ProcessId },
    GetInterruptStats,
    CheckRateLimit { user: UserId, endpoint: Endpoint },
    GetRateLimitUsage { user: UserId, endpoint: Endpoint },
    GetService { service: ServiceName },
    ListServices(Box<ListServices>),
    CanAccept { service: ServiceName },
    GetServiceStats { service: Option<ServiceName> },
    GetDispatch { dispatch: DispatchId },
}

/// An answer, and how much of what happened it knows (K5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number of the last event that it saw. It is told when that one is durable.
    pub as_of: u64,
    /// What is told.
    pub told: Told,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each type says what it is")]
pub enum Told {
    Process(Box<ProcessControlBlock>),
    Processes(ProcessPage),
    Counts(ProcessCounts),
    QuotaCheck(Box<QuotaCheck>),
    Use(ResourceUse),
    Quota(Box<Quota>),
    Remaining(Remaining),
    Inference(InferenceCheck),
    Envelope(Box<EnvelopeView>),
    Bounds(Box<Bounds>),
    Status(Box<SystemStatus>),
    SystemUsage(SystemUsage),
    Request(Box<RequestStatus>),
    Session(Box<SessionState>),
    Interrupt(Box<Interrupt>),
    Pending(Option<Box<Interrupt>>),
    Interrupts(InterruptPage),
    HasPending(bool),
    InterruptCounts(InterruptCounts),
    Rate(Box<RateResult>),
    RateUsage(Box<[WindowUsage; 4]>),
    Service(Box<ShownService>),
    Services(Vec<ShownService>),
    CanAccept(bool),
    ServiceStats(Box<ServiceStats>),
    Dispatch(Box<ShownDispatch>),
}

impl Kernel {
    /// Answers `query` of `by`.
    ///
    /// # Errors
    ///
    /// `…_not_found`, `permission_denied`, and what is wrong with the query itself (K395).
    pub fn query(&self, now: Time, by: &Principal, query: &Query) -> Result<Answer, Refusal> {
        by.check()?;
        let now = now.max(self.state.counters.last);
        let told = Inquiry { kernel: self, state: &self.state, now, by }.answer(query)?;
        Ok(Answer { as_of: self.state.counters.events, told })
    }
}

/// Refuses for a process that has no session (K240 a).
fn sessionless(pid: &ProcessId) -> Refusal {
    Refusal::new(Code::SessionNotFound, format!("process {pid} has no session"))
}

/// A query under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inquiry<'a> {
    kernel: &'a Kernel,
    state: &'a State,
    /// Kernel time (K7).
    now: Time,
    by: &'a Principal,
}

impl<'a> Inquiry<'a> {
    fn answer(self, query: &Query) -> Result<Told, Refusal> {
        Ok(match query {
            Query::GetProcess { pid } => {
                let process = self.process(pid)?;
                Told::Process(Box::new(ProcessControlBlock::of(pid, process, self.now)))
            }
            Query::ListProcesses(list) => Told::Processes(self.list_processes(list)?),
            Query::GetProcessCounts => Told::Counts(self.process_counts()),
            Query::CheckQuota { pid } => {
                self.process(pid)?;
                Told::QuotaCheck(Box::new(self.state.check_quota(pid, self.now)))
            }
            Query::GetUsage { pid } => Told::Use(ResourceUse::of(self.process(pid)?, self.now)),
            Query::GetQuota { pid } => Told::Quota(Box::new(self.process(pid)?.quota)),
            Query::GetRemainingBudget { pid } => {
                self.process(pid)?;
                Told::Remaining(self.state.remaining(pid, self.now))
            }
            Query::CheckInferenceQuota { pid, requests, chars } => {
                let process = self.process(pid)?;
                let (inference_requests, inference_input_chars) = (*requests, *chars);
                let amounts =
                    Amounts { inference_requests, inference_input_chars, ..Amounts::ZERO };
                Told::Inference(self.state.check_inference(pid, process, &amounts)?)
            }
            Query::GetEnvelope { id } => {
                let envelope = self.envelope(id)?;
                Told::Envelope(Box::new(EnvelopeView::of(self.state, id, envelope)))
            }
            Query::CheckBounds { of } => Told::Bounds(Box::new(self.check_bounds(of)?)),
            Query::GetSystemStatus => {
                self.only_operators("the status of the node")?;
                Told::Status(Box::new(SystemStatus::of(self.kernel, self.now)))
            }
            Query::GetSystemUsage => {
                self.only_operators("the usage of the node")?;
                Told::SystemUsage(SystemUsage::of(self.state))
            }
            Query::GetRequestStatus { pid } => {
                let process = self.process(pid)?;
                Told::Request(Box::new(RequestStatus::of(self.state, (pid, process), self.now)))
            }
            Query::GetSessionState { pid } => {
                self.process(pid)?;
                let session = self.state.session_state(pid).ok_or_else(|| sessionless(pid))?;
                Told::Session(Box::new(session))
            }
            Query::GetInterrupt { id } => {
                Told::Interrupt(Box::new(self.interrupts().get(id)?.clone()))
            }
            Query::GetPendingInterrupt { of } => self.pending(of)?,
            Query::ListInterrupts(list) => Told::Interrupts(self.list_interrupts(list)?),
            Query::HasPending { pid } => Told::HasPending(self.interrupts().has_pending(pid)?),
            Query::GetInterruptStats => Told::InterruptCounts(self.interrupts().stats()?),
            Query::CheckRateLimit { user, endpoint } => {
                let result = self.state.rate_check(self.now, self.by, (user, endpoint))?;
                Told::Rate(Box::new(result))
            }
            Query::GetRateLimitUsage { user, endpoint } => {
                let windows = self.state.rate_usage(self.now, self.by, (user, endpoint))?;
                Told::RateUsage(Box::new(windows))
            }
            Query::GetService { service } => {
                Told::Service(Box::new(self.state.shown_service(service)?))
            }
            Query::ListServices(list) => Told::Services(self.list_services(list)),
            Query::CanAccept { service } => Told::CanAccept(self.state.can_accept(service)?),
            Query::GetServiceStats { service } => {
                Told::ServiceStats(Box::new(self.service_stats(service.as_ref())?))
            }
            Query::GetDispatch { dispatch } => {
                Told::Dispatch(Box::new(self.shown_dispatch(dispatch)?))
            }
        })
    }

    /// Finds a process that the principal may look at (K370: O H P).
    fn process(self, pid: &ProcessId) -> Result<&'a Process, Refusal> {
        let Some(process) = self.state.process(pid) else {
            let told = format!("process not found: {pid}");
            return Err(Refusal::new(Code::ProcessNotFound, told));
        };
        match self.by.may_see(process) {
            true => Ok(process),
            false => Err(decision::foreign(pid)),
        }
    }

    /// Finds an envelope that the principal may look at (K370: O H P).
    fn envelope(self, id: &EnvelopeId) -> Result<&'a Envelope, Refusal> {
        let envelope = self.state.envelope(id).ok_or_else(|| missing(id))?;
        let server = self.state.bound_to(id).and_then(|pid| self.state.process(pid));
        let owns = envelope.user == self.by.user || self.by.sees_all();
        match owns || server.is_some_and(|process| self.by.may_see(process)) {
            true => Ok(envelope),
            false => Err(foreign(id)),
        }
    }

    fn only_operators(self, what: &str) -> Result<(), Refusal> {
        match self.by.sees_all() {
            true => Ok(()),
            false => {
                let told = format!("only operators see {what}");
                Err(Refusal::new(Code::PermissionDenied, told))
            }
        }
    }
}

impl Principal {
    /// Says whether it may look at everything: operators, and the node itself (K27).
    #[must_use]
    pub const fn sees_all(&self) -> bool {
        self.is_operator() || self.is_node()
    }

    /// Says whether it may look at a process: its owner, who holds it, and who may look at
    /// everything (K370).
    #[must_use]
    pub fn may_see(&self, process: &Process) -> bool {
        let holds = process.run_lease.as_ref().is_some_and(|run| run.holder.user == self.user);
        process.user == self.user || holds || self.sees_all()
    }
}
