//! The kernel: processes, budgets, interrupts, pipelines and services of agents, as decisions (K1).
//!
//! ```text
//!                     refusal: nothing has changed (K2)
//!                        ▲
//!   (at, command) ─► decide ─► events ─► journal ─► durable ─► replies, instructions, frames (K5)
//!                        │        │
//!                 reads the state └─► apply: the only change (K3)
//! ```
//!
//! [`Kernel::execute`] decides and applies at once, as a driver does; [`Kernel::decide`] does the
//! same to a copy and so changes nothing. Copies share what they have in common.

#[macro_use]
pub mod json;

mod numbered;

pub mod budget;
pub mod bus;
pub mod config;
pub mod deadlines;
pub mod decision;
pub mod dispatch;
pub mod envelopes;
pub mod event;
pub mod execution;
pub mod expression;
pub mod housekeeping;
pub mod ids;
pub mod interrupts;
pub mod leases;
pub mod lifecycle;
pub mod merge;
pub mod names;
pub mod part;
pub mod pipeline;
pub mod principal;
pub mod process;
pub mod query;
pub mod quota;
pub mod rates;
pub mod ready;
pub mod refusal;
pub mod reply;
pub mod schema;
pub mod services;
pub mod sessions;
mod size;
pub mod state;
pub mod stream;
pub mod time;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod props;
#[cfg(test)]
pub(crate) mod rig;
#[cfg(test)]
mod tests;

pub use decision::At;
pub use refusal::{Code, Refusal};
pub use time::{Millis, Time};

use budget::{Record, Reserve};
use config::KernelConfig;
use deadlines::Due;
use decision::Decision;
use dispatch::{Completion, ServiceRequest};
use envelopes::EnvelopePatch;
use envelopes::command::NewEnvelope;
use event::{Body, Event, KernelEvent, Subject};
use housekeeping::StopMode;
use ids::{
    DispatchId, Endpoint, EnvelopeId, InterruptId, LeaseId, ProcessId, ReservationId, ServiceName,
    UserId, WorkerId,
};
use interrupts::approval::Use;
use interrupts::interrupt::{NewInterrupt, Response};
use lifecycle::Submit;
use names::{LapseCause, ProcessState};
use principal::Principal;
use process::Process;
use quota::{Amounts, QuotaPatch};
use rates::{Scope, ScopeConfig};
use services::{ServiceInfo, ServiceStatus};
use sessions::execute::Execute;
use sessions::instruction::Instruction;
use sessions::report::Report;
use sessions::start::Initialize;
use state::State;

/// What is asked for, and by whom (K1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    /// Who asks.
    pub by: Principal,
    /// Which of its workers.
    pub worker: Option<WorkerId>,
    /// The endpoint whose rate it counts for, with which it is one decision (K136).
    pub rate: Option<Endpoint>,
    /// What.
    pub body: CommandBody,
}

/// What is asked for (K370).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the methods of section 12")]
pub enum CommandBody {
    /// The first command after a start, by the driver (K11).
    Start {
        config: Box<KernelConfig>,
    },
    /// Deadlines that are due, by the driver (K10).
    Tick,
    Submit(Box<Submit>),
    Schedule {
        pid: ProcessId,
    },
    NextRunnable,
    TransitionState {
        pid: ProcessId,
        to: ProcessState,
        reason: String,
    },
    Terminate {
        pid: ProcessId,
        message: String,
        force: bool,
    },
    CleanupProcess {
        pid: ProcessId,
    },
    Reserve(Box<Reserve>),
    Settle {
        pid: ProcessId,
        reservation: ReservationId,
        actual: Amounts,
    },
    Release {
        pid: ProcessId,
        reservation: ReservationId,
    },
    RecordUsage(Box<Record>),
    AdjustQuota {
        pid: ProcessId,
        quota: QuotaPatch,
    },
    /// With `record` one hit if it is allowed; without it nothing, as the query (K135).
    CheckRateLimit {
        user: UserId,
        endpoint: Endpoint,
        record: bool,
    },
    SetRateLimit {
        scope: Scope,
        config: Option<ScopeConfig>,
    },
    ResetRateLimits {
        user: UserId,
    },
    /// What is kept no longer goes now (K361).
    Cleanup,
    /// Nothing new is taken on (K362).
    Drain {
        deadline_ms: Option<Millis>,
    },
    /// A drain that ends in a stop: at rest, or at the deadline (K363).
    Shutdown {
        mode: StopMode,
        deadline_ms: Option<Millis>,
    },
    /// Now, by the driver when all is at rest, or by a second signal (K363).
    Stop {
        mode: StopMode,
    },
    CreateEnvelope(Box<NewEnvelope>),
    UpdateEnvelope {
        id: EnvelopeId,
        patch: Box<EnvelopePatch>,
        expected_version: Option<u64>,
    },
    CloneEnvelope {
        id: EnvelopeId,
    },
    InitializeSession(Box<Initialize>),
    /// A process that the node drives, with its session (K290).
    ExecutePipeline(Box<Execute>),
    NextInstruction {
        pid: ProcessId,
    },
    ReportAgentResult(Box<Report>),
    CreateInterrupt {
        pid: ProcessId,
        interrupt: Box<NewInterrupt>,
    },
    ResolveInterrupt {
        id: InterruptId,
        response: Box<Response>,
    },
    CancelInterrupt {
        id: InterruptId,
        reason: String,
    },
    ConsumeApproval(Box<Use>),
    RegisterService(Box<ServiceInfo>),
    UnregisterService {
        service: ServiceName,
    },
    UpdateHealth {
        service: ServiceName,
        status: ServiceStatus,
    },
    BindHandler {
        service: ServiceName,
    },
    UnbindHandler {
        service: ServiceName,
    },
    AcquireSlot {
        service: ServiceName,
        pid: Option<ProcessId>,
        lease_ms: Option<Millis>,
    },
    ReleaseSlot {
        lease: LeaseId,
    },
    /// Of a slot, a try, a run, or (by its id) a reservation, and if it is of one, whose.
    RenewLease {
        lease: LeaseId,
        pid: Option<ProcessId>,
        lease_ms: Option<Millis>,
    },
    Dispatch(Box<ServiceRequest>),
    DispatchInference(Box<ServiceRequest>),
    LeaseTasks {
        service: ServiceName,
        max: u32,
    },
    CompleteTask(Box<Completion>),
    CancelDispatch {
        dispatch: DispatchId,
    },
}

impl CommandBody {
    /// Says whether it frees space, or ends the work, so that it is decided even while the disk is
    /// full (L23).
    #[must_use]
    pub const fn frees(&self) -> bool {
        match self {
            Self::CleanupProcess { .. }
            | Self::Cleanup
            | Self::Drain { .. }
            | Self::Shutdown { .. }
            | Self::Stop { .. } => true,
            Self::Start { .. }
            | Self::Tick
            | Self::Submit(_)
            | Self::Schedule { .. }
            | Self::NextRunnable
            | Self::TransitionState { .. }
            | Self::Terminate { .. }
            | Self::Reserve(_)
            | Self::Settle { .. }
            | Self::Release { .. }
            | Self::RecordUsage(_)
            | Self::AdjustQuota { .. }
            | Self::CheckRateLimit { .. }
            | Self::SetRateLimit { .. }
            | Self::ResetRateLimits { .. }
            | Self::CreateEnvelope(_)
            | Self::UpdateEnvelope { .. }
            | Self::CloneEnvelope { .. }
            | Self::CreateInterrupt { .. }
            | Self::ResolveInterrupt { .. }
            | Self::CancelInterrupt { .. }
            | Self::ConsumeApproval(_)
            | Self::RegisterService(_)
            | Self::UnregisterService { .. }
            | Self::UpdateHealth { .. }
            | Self::BindHandler { .. }
            | Self::UnbindHandler { .. }
            | Self::AcquireSlot { .. }
            | Self::ReleaseSlot { .. }
            | Self::RenewLease { .. }
            | Self::Dispatch(_)
            | Self::DispatchInference(_)
            | Self::LeaseTasks { .. }
            | Self::CompleteTask(_)
            | Self::CancelDispatch { .. }
            | Self::InitializeSession(_)
            | Self::ExecutePipeline(_)
            | Self::NextInstruction { .. }
            | Self::ReportAgentResult(_) => false,
        }
    }
}

/// The kernel of one node.
#[derive(Clone, Debug)]
pub struct Kernel {
    state: State,
}

impl Kernel {
    /// Makes a kernel before its first event.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration ([`KernelConfig::check`]).
    pub fn new(config: KernelConfig) -> Result<Self, Refusal> {
        config.check()?;
        Ok(Self { state: State::new(config) })
    }

    /// Returns the state.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Decides `command`, and changes nothing (K2).
    ///
    /// # Errors
    ///
    /// The refusal.
    pub fn decide(&self, at: At, command: &Command) -> Result<Vec<Event>, Refusal> {
        self.clone().execute(at, command)
    }

    /// Decides `command` and applies its events, which are those of [`Kernel::decide`].
    ///
    /// # Errors
    ///
    /// The refusal; nothing has changed then.
    pub fn execute(&mut self, at: At, command: &Command) -> Result<Vec<Event>, Refusal> {
        command.by.check()?;
        let kept = self.state.may_be_too_long(&command.body).then(|| self.state.checkpoint());
        let (by, worker) = (command.by.clone(), command.worker.clone());
        let mut decision = Decision::new(&mut self.state, at, by, worker);
        let rate = command.rate.as_ref();
        let passed = decision.check_names();
        let passed = passed.and_then(|()| rate.map_or(Ok(()), |rate| decision.pass_rate(rate)));
        match passed.and_then(|()| decision.run(&command.body)) {
            Ok(()) => {
                decision.take_hit();
                if let Some(kept) = kept
                    && let Some(refusal) = decision.too_long()
                {
                    crate::sometimes!("kernel.too_long");
                    self.state.return_to(kept);
                    return Err(refusal);
                }
                Ok(decision.into_events())
            }
            Err(refusal) => {
                assert!(decision.is_untouched(), "refused after an event: {refusal}");
                Err(refusal)
            }
        }
    }

    /// Changes the state as `event` says (K3).
    pub fn apply(&mut self, event: &Event) {
        self.state.apply(event);
    }

    /// Returns the kernel's time when the wall clock shows `wall`: it never goes back (K7).
    #[must_use]
    pub fn now(&self, wall: Time) -> Time {
        wall.max(self.state.counters.last)
    }

    /// Returns the number of the last event (K22).
    #[must_use]
    pub const fn last_event(&self) -> u64 {
        self.state.counters.events
    }

    /// Returns when [`CommandBody::Tick`] is due at the latest (K10).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.state.deadlines.first()
    }

    /// Says what whoever polled or reported is told (K240).
    #[must_use]
    pub fn instruction(&self, now: Time, pid: &ProcessId) -> Option<Instruction> {
        self.state.instruction(now, pid)
    }

    /// Returns a process.
    #[must_use]
    pub fn process(&self, pid: &ProcessId) -> Option<&Process> {
        self.state.process(pid)
    }
}

impl Decision<'_> {
    fn run(&mut self, body: &CommandBody) -> Result<(), Refusal> {
        match body {
            CommandBody::Start { config } => self.start(config),
            CommandBody::Tick => {
                self.only_node()?;
                self.tick();
                Ok(())
            }
            CommandBody::Submit(submit) => self.submit(submit).map(|_| ()),
            CommandBody::Schedule { pid } => self.schedule(pid),
            CommandBody::NextRunnable => self.next_runnable().map(|_| ()),
            CommandBody::TransitionState { pid, to, reason } => {
                self.transition(pid, *to, reason)?;
                self.touch_lease(pid);
                Ok(())
            }
            CommandBody::Terminate { pid, message, force } => self.terminate(pid, message, *force),
            CommandBody::CleanupProcess { pid } => self.clean_up(pid),
            CommandBody::Reserve(reserve) => {
                self.reserve(reserve)?;
                self.touch_lease(&reserve.pid);
                Ok(())
            }
            CommandBody::Settle { pid, reservation, actual } => {
                self.settle(pid, reservation, actual)?;
                self.touch_lease(pid);
                Ok(())
            }
            CommandBody::Release { pid, reservation } => {
                self.release(pid, reservation)?;
                self.touch_lease(pid);
                Ok(())
            }
            CommandBody::RecordUsage(record) => {
                self.record(record)?;
                self.touch_lease(&record.pid);
                Ok(())
            }
            CommandBody::AdjustQuota { pid, quota } => {
                self.adjust_quota(pid, quota)?;
                self.touch_lease(pid);
                Ok(())
            }
            CommandBody::CheckRateLimit { user, endpoint, record } => {
                self.check_rate((user, endpoint), *record)
            }
            CommandBody::SetRateLimit { scope, config } => self.configure_rate(scope, *config),
            CommandBody::ResetRateLimits { user } => self.reset_rates(user).map(|_| ()),
            CommandBody::Cleanup => self.clean(),
            CommandBody::Drain { deadline_ms } => self.drain(*deadline_ms, None),
            CommandBody::Shutdown { mode, deadline_ms } => self.drain(*deadline_ms, Some(*mode)),
            CommandBody::Stop { mode } => self.stop(*mode),
            CommandBody::CreateEnvelope(new) => self.create_envelope(new).map(|_| ()),
            CommandBody::UpdateEnvelope { id, patch, expected_version } => {
                self.update_envelope(id, patch, *expected_version)
            }
            CommandBody::CloneEnvelope { id } => self.clone_envelope(id).map(|_| ()),
            CommandBody::InitializeSession(asked) => self.initialize(asked),
            CommandBody::ExecutePipeline(asked) => self.execute_pipeline(asked),
            CommandBody::NextInstruction { pid } => self.next_instruction(pid),
            CommandBody::ReportAgentResult(report) => self.report(report),
            CommandBody::CreateInterrupt { pid, interrupt } => {
                self.create_interrupt(pid, interrupt).map(|_| ())
            }
            CommandBody::ResolveInterrupt { id, response } => self.resolve(id, response),
            CommandBody::CancelInterrupt { id, reason } => self.cancel(id, reason),
            CommandBody::ConsumeApproval(wanted) => self.consume(wanted),
            CommandBody::RegisterService(info) => self.register_service(info),
            CommandBody::UnregisterService { service } => self.unregister_service(service),
            CommandBody::UpdateHealth { service, status } => self.update_health(service, *status),
            CommandBody::BindHandler { service } => self.bind_handler(service),
            CommandBody::UnbindHandler { service } => self.unbind_handler(service),
            CommandBody::AcquireSlot { service, pid, lease_ms } => {
                self.acquire_slot(service, pid.as_ref(), *lease_ms)
            }
            CommandBody::ReleaseSlot { lease } => self.release_slot(lease),
            CommandBody::RenewLease { lease, pid, lease_ms } => {
                self.renew_lease(lease, pid.as_ref(), *lease_ms)
            }
            CommandBody::Dispatch(request) => self.dispatch(request, false),
            CommandBody::DispatchInference(request) => self.dispatch(request, true),
            CommandBody::LeaseTasks { service, max } => self.lease_tasks(service, *max),
            CommandBody::CompleteTask(completion) => self.complete_task(completion),
            CommandBody::CancelDispatch { dispatch } => self.cancel_dispatch(dispatch),
        }
    }

    fn only_node(&self) -> Result<(), Refusal> {
        match self.by.is_node() {
            true => Ok(()),
            false => Err(Refusal::new(Code::PermissionDenied, "only the node itself does this")),
        }
    }

    /// A start: configuration and a new epoch (K11).
    fn start(&mut self, config: &KernelConfig) -> Result<(), Refusal> {
        self.only_node()?;
        config.check()?;
        let epoch = self.state.counters.epoch + 1;
        let config = Box::new(config.clone());
        let event = KernelEvent::Started { epoch, config };
        self.emit(Subject::default(), Body::Kernel { event });
        Ok(())
    }

    /// Handles what is due, at most a batch, and no more than a record takes (K10).
    fn tick(&mut self) {
        for _ in 0..self.state.config.tick_batch {
            let Some(due) = self.state.deadlines.due(self.now).cloned() else {
                return;
            };
            if self.is_full() {
                return;
            }
            self.begin_deadline();
            match due {
                Due::Orphan(_, pid) => self.end_orphan(&pid),
                Due::Timeout(pid) => self.time_out(&pid),
                Due::RunLease(pid) => self.lose_lease(&pid),
                Due::Reservation(pid, id) => self.charge_in_full(&pid, &id),
                Due::SoftTimeout(pid) => self.warn_of_time(&pid),
                Due::Interrupt(id) => self.expire(&id),
                Due::Approval(id) => self.lapse(&id, LapseCause::Expired),
                Due::Attempt(pid, id) => self.give_up_late(&pid, &id),
                Due::Unblock(pid) => {
                    self.change(&pid, ProcessState::Ready, event::Cause::Due);
                }
                Due::DispatchDeadline(id) => self.time_out_dispatch(&id),
                Due::TryTimeout(id) => self.time_out_try(&id),
                Due::TryLease(id) => self.lose_try(&id),
                Due::DispatchRetry(id) => self.requeue(&id),
                Due::SlotLease(lease) => self.recover_slot(&lease),
                Due::ServiceHealth(service) => self.worsen(&service),
                Due::Drain => return self.drained(),
                Due::Cleanup => return self.remove_due(),
            }
        }
    }
}
