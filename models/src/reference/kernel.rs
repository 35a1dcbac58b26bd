//! The kernel, one command after another: what it must answer, and what must be true then.
//!
//! Written from the rules (K1 and following) and not from the machine: plain maps and lists,
//! scans everywhere, nothing kept twice. Only the types of commands, events and refusals are the
//! machine's. Ids that the machine minted are taken from its events ([`minted`]); everything else
//! is said without having seen them.
//!
//! [`Kernel::handle`] answers a refusal's code, or the [`Note`]s of what happens;
//! [`Kernel::differs`] compares all that can be seen of a process. A [`Wrong`] makes one mistake
//! on purpose: a test that does not notice it proves nothing.
//!
//! It covers processes and their budgets (sections 3 and 4), rates (5), interrupts and approvals
//! with the hashes of their targets (6), services, slots, dispatches and inference (7), sessions:
//! how they begin, instructions, reports, routing, moves, issue, failure, forks, joins and merges
//! (8.1–8.4), envelopes (2.4), retention, cleanup, drain and stop (11); and of replies those that
//! follow from the state ([`replies`]).
//!
//! It does not cover
//!
//! - what is checked of a pipeline when a session begins (K232), `checkpoints` (K291), and what is
//!   done about a context that is too large (K243): the sequences have none of these;
//! - the executor and `ExecutePipeline` (K290), the texts of refusals and of most messages,
//!   queries, limits on bytes but a few, and decisions that are cut because they would be too long;
//! - how many changes of an envelope a session's events are (its `version` is only seen to rise).
//!
//! # What the rules of sessions leave open, and is taken as the kernel has it
//!
//! - Reservations for an attempt are released before its report is charged (K251), and one may
//!   quote an attempt that is over: then it has no hold to draw from (K104).
//! - A wait of 0 ms before a retry is none: it is issued in the same decision (K269).
//! - A group in which everything waits is Blocked, for a rate if one of its branches waits for one,
//!   until the first can be tried (K269, K275).
//! - Of several attempts that are lost at once, the one with the least id fails first (K272).
//! - A bound that stops a session is told of its process, whoever's limit it is (K114).
//! - A Fork checks the moves to all its branches before it makes the first (K274).
//! - In run mode Parallel stages are entered: visits count, edges do not (K231, K278).
//! - `force` also ends the backoff of the session that it replaces (K230).
//! - An answer that a person gave is news to the next task; one that was cancelled is none (K167).
//! - The node polls what it drives and nothing else (K240, K290).

pub mod attempts;
pub mod budget;
pub mod dispatch;
pub mod due;
pub mod envelopes;
pub mod flow;
pub mod interrupts;
pub mod lifecycle;
pub mod minted;
pub mod process;
pub mod rates;
pub mod ready;
pub mod replies;
pub mod services;
pub mod sessions;
pub mod stop;
pub mod values;
pub mod wrong;

use std::collections::BTreeMap;

use machines::kernel::config::KernelConfig;
use machines::kernel::dispatch::DispatchOutcome;
use machines::kernel::event::Event;
use machines::kernel::ids::{
    AttemptId, DispatchId, EnvelopeId, InterruptId, LeaseId, ProcessId, ReservationId, ServiceName,
    StageName, UserId, WorkerId,
};
use machines::kernel::names::{ProcessState, TerminalReason};
use machines::kernel::pipeline::kinds::{ErrorKind, JoinStrategy, Via};
use machines::kernel::principal::{Holder, Principal};
use machines::kernel::quota::{QuotaField, Resource};
use machines::kernel::rates::{RateKey, Scope, ScopeConfig};
use machines::kernel::services::ServiceStatus;
use machines::kernel::{Code, Command, CommandBody, Time};

use attempts::Given;
use dispatch::Dispatch;
use envelopes::Envelope;
use interrupts::{Approval, Interrupt};
use minted::Minted;
use process::Process;
use services::{Service, Slot};
use sessions::Session;
use stop::Drain;
pub use wrong::Wrong;

/// One thing that happens, as far as the rules say that it does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// A start (K11).
    Started,
    /// A process was made (K63).
    Created(ProcessId),
    /// It went from one state to another (section 3).
    Changed(ProcessId, ProcessState, ProcessState),
    /// Its run lease was renewed (K78).
    Renewed(ProcessId),
    /// It ended.
    Ended(ProcessId, TerminalReason),
    /// Nothing is left of it.
    Removed(ProcessId),
    /// A part of its budget is held (K102).
    Reserved(ProcessId, ReservationId),
    /// What was used is known (K105).
    Settled(ProcessId, ReservationId),
    /// Nothing was used (K106).
    Released(ProcessId, ReservationId),
    /// The lease ended: charged in full (K107).
    Charged(ProcessId, ReservationId),
    /// Use was told (K109).
    Recorded(ProcessId),
    /// A limit was changed (K117).
    Adjusted(ProcessId, QuotaField),
    /// Much is taken (K113).
    Warned(ProcessId, Resource),
    /// A limit was passed (K114).
    Exceeded(ProcessId, Resource),
    /// A person is asked, for a process (K152).
    Raised(ProcessId),
    /// Somebody answered (K155).
    Resolved(InterruptId),
    /// Nobody did (K160).
    Expired(InterruptId),
    /// It was taken back (K158, K173).
    Cancelled(InterruptId),
    /// Leave to do something was given (K170).
    Granted(InterruptId),
    /// It was used.
    Consumed(InterruptId),
    /// It can be used no more (K171).
    Lapsed(InterruptId),
    /// A request was allowed and counts (K135).
    Hit,
    /// A limit on requests was set or cleared (K138).
    RateSet,
    /// Counters were dropped (K138).
    RateReset,
    /// A service can be called (K190).
    Registered(ServiceName),
    /// It is gone.
    Unregistered(ServiceName),
    /// It went from one status to another, or told the same again (K194, K195).
    Health(ServiceName, ServiceStatus, ServiceStatus),
    /// Its handler is there (K192).
    Bound(ServiceName),
    /// It is not.
    Unbound(ServiceName),
    /// Somebody has a slot (K196).
    Acquired(ServiceName),
    /// And goes on.
    SlotRenewed(LeaseId),
    /// It is free again.
    Freed(LeaseId),
    /// A dispatch was made (K200).
    Queued(DispatchId),
    /// It waits for its turn again (K209).
    Requeued(DispatchId),
    /// A try is live; its number.
    Tried(DispatchId, u32),
    /// Its worker goes on (K205).
    TryRenewed(DispatchId),
    /// A try failed or was lost, and there will be another (K209, K210).
    Retried(DispatchId, ErrorKind),
    /// It ended (K207).
    Finished(DispatchId, DispatchOutcome),
    /// They are kept no longer (K360).
    DispatchesGone(Vec<DispatchId>),
    /// The node drains, or otherwise than before (K362).
    Draining,
    /// It has stopped, at rest or not (K363).
    Stopped(bool),
    /// An envelope was made, or copied (K30, K34).
    EnvelopeMade(EnvelopeId),
    /// It was changed, and has this version (K31).
    EnvelopeChanged(EnvelopeId, u64),
    /// They are kept no longer (K360).
    EnvelopesGone(Vec<EnvelopeId>),
    /// A session begins, at a stage; whether in place of another (K230).
    SessionStarted(ProcessId, StageName, bool),
    /// It ended.
    SessionEnded(ProcessId, TerminalReason),
    /// Nothing is left of it.
    SessionRemoved(ProcessId),
    /// It went from a stage to a stage: visit, iteration, and whether back (K265).
    Moved(ProcessId, Option<StageName>, StageName, Via, u64, u64, bool),
    /// Somebody begins to work on a stage; all else that is told of it (K267).
    Issued(ProcessId, StageName, String),
    /// Somebody told what came of an attempt, and what that costs (K251).
    Reported(ProcessId, AttemptId, String),
    /// Nobody will, and what that costs (K270, K272).
    GivenUp(ProcessId, AttemptId, Given, String),
    /// A stage is done, and the state has this of it (K255).
    StageCompleted(ProcessId, StageName, Vec<String>),
    /// A stage failed for good (K271).
    StageFailed(ProcessId, StageName, ErrorKind),
    /// A stage is tried again: which try, when (K269).
    StageRetried(ProcessId, StageName, u64, Time, ErrorKind),
    /// Stages run side by side (K274).
    GroupOpened(ProcessId, Vec<StageName>, JoinStrategy),
    /// They do no more: who was first, and what was merged (K277).
    GroupJoined(ProcessId, Option<StageName>, Vec<StageName>),
}

/// What a command comes to.
pub type Answer = Result<(), Code>;

/// The kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    config: KernelConfig,
    wrong: Option<Wrong>,
    /// The time of the last event (K7).
    last: Time,
    /// When the node was started last (K361).
    started_at: Time,
    processes: BTreeMap<ProcessId, Process>,
    /// Users with ready processes, in the order of their turns, by executor or not, and band (K72).
    turns: BTreeMap<(bool, u8), Vec<UserId>>,
    interrupts: BTreeMap<InterruptId, Interrupt>,
    approvals: BTreeMap<InterruptId, Approval>,
    /// Interrupts ever raised.
    asked: u64,
    /// Every request that was allowed, in order (K132).
    hits: Vec<(RateKey, Time)>,
    scopes: BTreeMap<Scope, ScopeConfig>,
    /// How often a process became ready: the order among equals in time (K70).
    readied: u64,
    services: BTreeMap<ServiceName, Service>,
    slots: BTreeMap<LeaseId, Slot>,
    dispatches: BTreeMap<DispatchId, Dispatch>,
    /// Users whose dispatches wait, in the order of their turns, by service and band (K203).
    lines: BTreeMap<(ServiceName, u8), Vec<UserId>>,
    /// How often a dispatch began to wait.
    queued: u64,
    envelopes: BTreeMap<EnvelopeId, Envelope>,
    sessions: BTreeMap<ProcessId, Session>,
    /// While the node drains, and once it has stopped (K362, K363).
    drain: Option<Drain>,

    // Of the command under way.
    now: Time,
    by: Principal,
    /// The worker that was named.
    worker: Option<WorkerId>,
    holder: Holder,
    minted: Minted,
    notes: Vec<Note>,
    retry_at: Option<u64>,
    /// Whether something was removed of which no note speaks.
    swept: bool,
}

impl Kernel {
    /// Makes a kernel before its first command.
    ///
    /// # Panics
    ///
    /// Never: the node has a name.
    #[must_use]
    pub fn new(config: KernelConfig, wrong: Option<Wrong>) -> Self {
        let user = UserId::parse("user", "nobody").expect("it is an id");
        let worker = WorkerId::parse("worker", "nobody").expect("likewise");
        Self {
            config,
            wrong,
            last: Time::ZERO,
            started_at: Time::ZERO,
            processes: BTreeMap::new(),
            turns: BTreeMap::new(),
            interrupts: BTreeMap::new(),
            approvals: BTreeMap::new(),
            asked: 0,
            hits: Vec::new(),
            scopes: BTreeMap::new(),
            retry_at: None,
            swept: false,
            readied: 0,
            services: BTreeMap::new(),
            slots: BTreeMap::new(),
            dispatches: BTreeMap::new(),
            lines: BTreeMap::new(),
            queued: 0,
            envelopes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            drain: None,
            now: Time::ZERO,
            by: Principal::new(user.clone(), &[]),
            worker: None,
            holder: Holder { user, worker },
            minted: Minted::default(),
            notes: Vec::new(),
        }
    }

    /// Says what `command` comes to at `at`. `events` are the machine's: only ids that it minted
    /// are taken from them.
    ///
    /// # Errors
    ///
    /// The code of the refusal; nothing has changed then (K2).
    ///
    /// # Panics
    ///
    /// Never: a user's id is a worker's too.
    pub fn handle(
        &mut self,
        at: Time,
        command: &Command,
        events: &[Event],
    ) -> Result<Vec<Note>, Code> {
        self.now = self.time(at);
        self.by = command.by.clone();
        self.worker = command.worker.clone();
        let own = WorkerId::parse("worker", self.by.user.as_str());
        let worker = command.worker.clone().unwrap_or_else(|| own.expect("a user's id is an id"));
        self.holder = Holder { user: self.by.user.clone(), worker };
        self.minted = Minted::of(events);
        self.notes.clear();
        self.retry_at = None;
        if let Some(endpoint) = &command.rate {
            self.pass_rate(endpoint)?;
        }
        self.run(&command.body)?;
        self.start_waiting();
        if let Some(endpoint) = &command.rate {
            self.take_hit(endpoint);
        }
        if !self.notes.is_empty() || std::mem::take(&mut self.swept) {
            self.last = self.now;
        }
        Ok(std::mem::take(&mut self.notes))
    }

    /// Returns what the kernel takes for the time when the clock says `at` (K7).
    #[must_use]
    pub fn time(&self, at: Time) -> Time {
        match self.is(Wrong::ClockUnclamped) {
            true => at,
            false => at.max(self.last),
        }
    }

    fn run(&mut self, body: &CommandBody) -> Answer {
        match body {
            CommandBody::Start { config } => self.start(config),
            CommandBody::Tick => self.tick(),
            CommandBody::Submit(submit) => self.submit(submit),
            CommandBody::Schedule { pid } => self.schedule(pid),
            CommandBody::NextRunnable => self.next_runnable(),
            CommandBody::TransitionState { pid, to, reason } => self.transition(pid, *to, reason),
            CommandBody::Terminate { pid, message, force } => self.terminate(pid, message, *force),
            CommandBody::CleanupProcess { pid } => self.clean_up(pid),
            CommandBody::Reserve(reserve) => self.reserve(reserve),
            CommandBody::Settle { pid, reservation, actual } => {
                self.settle(pid, reservation, actual)
            }
            CommandBody::Release { pid, reservation } => self.release(pid, reservation),
            CommandBody::RecordUsage(record) => self.record(record),
            CommandBody::AdjustQuota { pid, quota } => self.adjust(pid, quota),
            CommandBody::CheckRateLimit { user, endpoint, record } => {
                self.check_rate(user, endpoint, *record)
            }
            CommandBody::SetRateLimit { scope, config } => self.configure_rate(scope, *config),
            CommandBody::ResetRateLimits { user } => self.reset_rates(user),
            CommandBody::CreateEnvelope(new) => self.create_envelope(new),
            CommandBody::UpdateEnvelope { id, patch, expected_version } => {
                self.update_envelope(id, patch, *expected_version)
            }
            CommandBody::CloneEnvelope { id } => self.clone_envelope(id),
            CommandBody::Drain { deadline_ms } => self.start_drain(*deadline_ms, None),
            CommandBody::Shutdown { mode, deadline_ms } => {
                self.start_drain(*deadline_ms, Some(*mode))
            }
            CommandBody::Stop { mode } => self.stop(*mode),
            CommandBody::RegisterService(info) => self.register(info),
            CommandBody::UnregisterService { service } => self.unregister(service),
            CommandBody::UpdateHealth { service, status } => self.report_health(service, *status),
            CommandBody::BindHandler { service } => self.bind(service),
            CommandBody::UnbindHandler { service } => self.unbind(service),
            CommandBody::AcquireSlot { service, pid, lease_ms } => {
                self.acquire(service, pid.as_ref(), *lease_ms)
            }
            CommandBody::ReleaseSlot { lease } => self.give_back(lease),
            CommandBody::RenewLease { lease, pid, lease_ms } => {
                self.renew(lease, pid.as_ref(), *lease_ms)
            }
            CommandBody::Dispatch(request) => self.dispatch(request, false),
            CommandBody::DispatchInference(request) => self.dispatch(request, true),
            CommandBody::LeaseTasks { service, max } => self.lease_tasks(service, *max),
            CommandBody::CompleteTask(told) => self.complete(told),
            CommandBody::CancelDispatch { dispatch } => self.cancel_dispatch(dispatch),
            CommandBody::InitializeSession(asked) => self.initialize(asked),
            CommandBody::NextInstruction { pid } => self.next_instruction(pid),
            CommandBody::ReportAgentResult(told) => self.report(told),
            CommandBody::ExecutePipeline(_) => {
                unreachable!(
                    "what the node drives has tests of its own and is not in the sequences"
                )
            }
            CommandBody::Cleanup => {
                if !self.is_trusted() {
                    return Err(Code::PermissionDenied);
                }
                self.clean();
                Ok(())
            }
            CommandBody::CreateInterrupt { pid, interrupt } => {
                self.create_interrupt(pid, interrupt)
            }
            CommandBody::ResolveInterrupt { id, response } => self.resolve(id, response),
            CommandBody::CancelInterrupt { id, reason } => self.cancel(id, reason),
            CommandBody::ConsumeApproval(wanted) => self.consume(wanted),
        }
    }

    const fn is(&self, wrong: Wrong) -> bool {
        match self.wrong {
            Some(one) => one as u8 == wrong as u8,
            None => false,
        }
    }

    fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Finds a process that exists.
    fn known(&self, pid: &ProcessId) -> Result<&Process, Code> {
        self.processes.get(pid).ok_or(Code::ProcessNotFound)
    }

    /// A process of the model's own lists.
    fn of(&self, pid: &ProcessId) -> &Process {
        &self.processes[pid]
    }

    fn of_mut(&mut self, pid: &ProcessId) -> &mut Process {
        self.processes.get_mut(pid).expect("it was found before")
    }

    /// Access of owner and operator, O P of K370.
    fn only_owner(&self, pid: &ProcessId) -> Answer {
        let process = self.known(pid)?;
        match process.user == self.by.user || self.is_trusted() {
            true => Ok(()),
            false => Err(Code::PermissionDenied),
        }
    }

    /// Operators may do whatever an owner may, and the node itself runs what it drives (K27, K290).
    const fn is_trusted(&self) -> bool {
        self.by.is_operator() || self.by.is_node()
    }

    /// Access of owner, holder and operator, O H P of K370.
    fn only_party(&self, pid: &ProcessId) -> Answer {
        match self.holds(pid) {
            true => Ok(()),
            false => self.only_owner(pid),
        }
    }

    /// Says whether the caller holds the run lease (K27).
    fn holds(&self, pid: &ProcessId) -> bool {
        let lease = self.processes.get(pid).and_then(|process| process.lease.as_ref());
        lease.is_some_and(|lease| lease.holder == self.holder)
    }

    fn only_live(&self, pid: &ProcessId) -> Answer {
        match self.known(pid)?.is_live() {
            true => Ok(()),
            false => Err(Code::ProcessTerminal),
        }
    }

    fn only_node(&self) -> Answer {
        match self.by.is_node() {
            true => Ok(()),
            false => Err(Code::PermissionDenied),
        }
    }

    /// Text within its limit (K24, K25).
    fn text(&self, text: &str) -> Answer {
        if text.contains('\0') {
            return Err(Code::BadValue);
        }
        match text.len() as u64 > self.config.limits.text_bytes {
            true => Err(Code::TooLong),
            false => Ok(()),
        }
    }

    /// A start: a new configuration, and leases that the pause did not use up (K11).
    fn start(&mut self, config: &KernelConfig) -> Answer {
        self.only_node()?;
        self.config = config.clone();
        let (now, config) = (self.now, self.config.clone());
        let last = if self.is(Wrong::PauseCounts) { now } else { self.last };
        for process in self.processes.values_mut() {
            if let Some(since) = process.running_since {
                *process.used.entry(Resource::ElapsedMs).or_default() += last.since(since);
                process.running_since = Some(now);
            }
            if let Some(lease) = &mut process.lease {
                lease.until = lease.until.max(now.plus(config.run_lease_ms));
            }
            for open in process.open.values_mut() {
                open.until = open.until.max(now.plus(open.length));
            }
        }
        for slot in self.slots.values_mut() {
            slot.until = slot.until.max(now.plus(slot.length));
        }
        self.services.values_mut().for_each(|service| service.bound = false);
        self.restart_tries();
        self.drain = None;
        self.started_at = now;
        self.note(Note::Started);
        Ok(())
    }

    /// Every accepted command of the holder that names the process extends its lease; only when
    /// less than half is left is it worth an event (K78).
    fn renew_lease(&mut self, pid: &ProcessId) {
        if !self.holds(pid) || self.is(Wrong::RenewNever) {
            return;
        }
        let always = self.is(Wrong::RenewAlways);
        let (now, length) = (self.now, self.config.run_lease_ms);
        let process = self.of_mut(pid);
        let Some(lease) = process.lease.as_mut() else {
            return;
        };
        if always || lease.until.since(now) * 2 < length {
            lease.until = now.plus(length);
            self.note(Note::Renewed(pid.clone()));
        }
    }
}
