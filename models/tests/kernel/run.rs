//! Runs one sequence through both kernels, and compares after each command.

#![expect(clippy::wildcard_enum_match_arm, reason = "the rest is of no attempt")]

use std::collections::BTreeMap;
use std::fmt;

use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::envelopes::EnvelopeEvent;
use machines::kernel::event::{Body, Event, KernelEvent, ProcessEvent, QuotaEvent};
use machines::kernel::ids::{ProcessId, WorkerId};
use machines::kernel::interrupts::event::{ApprovalEvent, InterruptEvent};
use machines::kernel::names::TerminalReason;
use machines::kernel::principal::Holder;
use machines::kernel::quota::{Amounts, Resource};
use machines::kernel::rates::RateEvent;
use machines::kernel::services::event::{ServiceEvent, SlotEvent};
use machines::kernel::sessions::AttemptEnd;
use machines::kernel::sessions::event::SessionEvent;
use machines::kernel::{At, Code, Command, CommandBody, Kernel, Refusal, Time};
use models::reference::kernel::attempts::Given;
use models::reference::kernel::{Kernel as Reference, Note, Wrong};

use crate::flows::Tried;
use crate::steps::{Case, Names, Step, What, Who, principal};

/// Where the two differ.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The number of the step, or one beyond.
    pub(crate) step: usize,
    /// The command.
    pub(crate) command: String,
    /// In what.
    pub(crate) told: String,
}

/// What was met, to know that the sequences are worth it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    /// Commands taken, by name.
    pub(crate) taken: BTreeMap<String, u64>,
    /// Refusals, by command and code.
    pub(crate) refused: BTreeMap<(String, Code), u64>,
    /// What happened.
    pub(crate) notes: BTreeMap<String, u64>,
}

impl Met {
    /// Adds what was met elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        for (key, n) in &other.taken {
            *self.taken.entry(key.clone()).or_default() += n;
        }
        for (key, n) in &other.refused {
            *self.refused.entry(key.clone()).or_default() += n;
        }
        for (key, n) in &other.notes {
            *self.notes.entry(key.clone()).or_default() += n;
        }
    }
}

/// The two kernels side by side.
struct Pair {
    machine: Kernel,
    reference: Reference,
    clock: u64,
    nonce: u64,
    names: Names,
    step: usize,
}

/// Runs a sequence.
pub(crate) fn run(case: &Case, wrong: Option<Wrong>, met: &mut Met) -> Result<(), Failure> {
    let machine = Kernel::new(case.config.clone()).expect("the configurations are right");
    let reference = Reference::new(case.config.clone(), wrong);
    let (clock, nonce, names) = (1_000_000_000, 0, Names::default());
    let mut pair = Pair { machine, reference, clock, nonce, names, step: 0 };
    let start = |config| Command {
        by: principal(Who::Node).0,
        worker: None,
        rate: None,
        body: CommandBody::Start { config },
    };
    pair.both(&start(Box::new(case.config.clone())), met)?;
    for (at, step) in case.steps.iter().enumerate() {
        pair.step = at;
        match step {
            Step::Wait(span) => pair.clock += span,
            Step::Back(span) => pair.clock -= span,
            Step::ToDeadline(beyond) => {
                if let Some(deadline) = pair.reference.next_deadline() {
                    pair.clock = deadline.as_millis().saturating_add_signed(*beyond);
                }
            }
            Step::Start(config) => pair.both(&start(config.clone()), met)?,
            Step::Do(who, what) => {
                pair.catch_up(met)?;
                let command = pair.names.command(*who, what);
                pair.both(&command, met)?;
            }
        }
        if at % 8 == 7 {
            pair.drain()?;
        }
    }
    pair.step = case.steps.len();
    pair.catch_up(met)?;
    pair.drain()
}

impl Pair {
    /// Ticks until nothing is due (K10).
    fn catch_up(&mut self, met: &mut Met) -> Result<(), Failure> {
        let (by, worker) = principal(Who::Node);
        let tick = Command { by, worker, rate: None, body: CommandBody::Tick };
        for _ in 0..1_000 {
            let now = self.reference.time(Time::from_millis(self.clock));
            if self.reference.next_deadline().is_none_or(|deadline| deadline > now) {
                return Ok(());
            }
            self.both(&tick, met)?;
        }
        Err(self.failure(&tick, "there is always something due".to_owned()))
    }

    /// Asks for the whole ready order, of copies (K70–K73).
    fn drain(&self) -> Result<(), Failure> {
        let mut copy = Self {
            machine: self.machine.clone(),
            reference: self.reference.clone(),
            names: Names::default(),
            ..*self
        };
        let served = |what: &What| Names::default().command(Who::Operator, what);
        for _ in 0..20 {
            let command = served(&What::NextRunnable);
            let mut met = Met::default();
            copy.catch_up(&mut met)?;
            copy.both(&command, &mut met)?;
            if !met.taken.contains_key("NextRunnable") {
                break;
            }
        }
        Ok(())
    }

    /// Gives a command to both and compares.
    fn both(&mut self, command: &Command, met: &mut Met) -> Result<(), Failure> {
        self.nonce += 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.to_le_bytes());
        let at = At { now: Time::from_millis(self.clock), nonce };
        let machine = self.machine.execute(at, command);
        let events = machine.as_deref().unwrap_or_default();
        let reference = self.reference.handle(at.now, command, events);
        self.remember(events);
        self.remember_report(command, &reference);
        count(met, command, &reference);
        let differs = differs(&machine, &reference);
        let differs = differs.or_else(|| self.reference.take_versions(self.machine.state()));
        let differs = differs.or_else(|| self.retries(&machine)).or_else(|| self.states(at.now));
        let differs = differs.or_else(|| {
            let reply = self.machine.reply(at.now, command, machine.as_ref().ok()?);
            self.reference.reply_differs(command, &reply)
        });
        differs.map_or(Ok(()), |told| Err(self.failure(command, told)))
    }

    fn failure(&self, command: &Command, told: String) -> Failure {
        Failure { step: self.step, command: format!("{command:?}"), told }
    }

    /// K134: the time at which one that was refused may try again, to the millisecond.
    fn retries(&self, machine: &Result<Vec<Event>, Refusal>) -> Option<String> {
        let refusal = machine.as_ref().err()?;
        let model = self.reference.retry_at();
        let differs = refusal.code == Code::RateLimited && refusal.retry_at != model;
        differs.then(|| format!("retry_at {:?}, not {model:?}", refusal.retry_at))
    }

    fn states(&self, now: Time) -> Option<String> {
        // What was due before now is due now.
        let due = |deadline: Option<Time>| deadline.map(|deadline| deadline.max(now));
        let machine = due(self.machine.next_deadline());
        let reference = due(self.reference.next_deadline());
        if machine != reference {
            return Some(format!("next_deadline: {machine:?}, not {reference:?}"));
        }
        let asked = self.reference.interrupts_differ(self.machine.state());
        if asked.is_some() {
            return asked;
        }
        let state = self.machine.state();
        let gone: Vec<_> = self.names.all_dispatches.iter().cloned().collect();
        let envelopes: Vec<_> = self.names.all_envelopes.iter().cloned().collect();
        let differs = (self.reference.rates_differ(now, state))
            .or_else(|| self.reference.services_differ(state))
            .or_else(|| self.reference.dispatches_differ(state))
            .or_else(|| self.reference.dispatch_stays(state, &gone))
            .or_else(|| self.reference.envelopes_differ(state, &envelopes))
            .or_else(|| self.reference.drain_differs(state))
            .or_else(|| self.reference.sessions_differ(state));
        if differs.is_some() {
            return differs;
        }
        let gone = self.names.pids.iter();
        let pids = self.reference.pids();
        pids.iter()
            .chain(gone)
            .find_map(|pid| self.reference.differs(now, pid, self.machine.process(pid)))
    }

    fn remember(&mut self, events: &[Event]) {
        for Event { subject, body, .. } in events {
            match body {
                Body::Process { event: ProcessEvent::Created { .. } } => {
                    let minted = subject.pid.iter().filter(|pid| pid.as_str().starts_with("prc_"));
                    self.names.pids.extend(minted.cloned());
                }
                Body::Quota { event: QuotaEvent::Reserved { reservation, .. } }
                    if reservation.as_str().starts_with("rsv_") =>
                {
                    self.names.reservations.push(reservation.clone());
                }
                Body::Interrupt { event: InterruptEvent::Raised { interrupt } } => {
                    let hash = interrupt.target.as_ref().map(|target| target.hash);
                    self.names.interrupts.push((interrupt.id.clone(), hash));
                }
                Body::Process { event: ProcessEvent::StateChanged { lease: Some(run), .. } } => {
                    self.names.runs.push(run.lease.clone());
                    if let Some(pid) = &subject.pid {
                        self.names.holders.insert(pid.clone(), run.holder.clone());
                    }
                }
                Body::Slot { event: SlotEvent::Acquired { lease, .. } } => {
                    self.names.slots.push(lease.clone());
                }
                Body::Dispatch { event } => self.remember_dispatch(event),
                Body::Envelope { event } => self.remember_envelope(event),
                Body::Session { event } => self.remember_attempt(subject.pid.as_ref(), event),
                Body::Kernel { .. }
                | Body::Process { .. }
                | Body::Quota { .. }
                | Body::Interrupt { .. }
                | Body::Approval { .. }
                | Body::Rate { .. }
                | Body::Service { .. }
                | Body::Slot { .. } => {}
            }
        }
    }

    fn remember_attempt(&mut self, pid: Option<&ProcessId>, event: &SessionEvent) {
        let (Some(pid), attempts) = (pid, &mut self.names.attempts) else {
            return;
        };
        match event {
            SessionEvent::AttemptIssued { issued } => {
                let stage = self.machine.state().session(pid).and_then(|session| {
                    session.pipeline.stages.iter().find(|one| one.name == issued.stage)
                });
                let stage = stage.expect("it is of the pipeline");
                let agent = stage.agent_config.as_ref().map(|agent| agent.name.clone());
                attempts.push(Tried {
                    pid: pid.clone(),
                    id: issued.attempt.clone(),
                    agent: agent.expect("who runs it is known"),
                    holder: issued.holder.clone(),
                    targets: issued.targets.clone(),
                    live: true,
                });
            }
            SessionEvent::AttemptReported { reported } => {
                let told = attempts.iter_mut().filter(|one| one.id == reported.attempt);
                told.for_each(|one| one.live = false);
            }
            SessionEvent::AttemptClosed { attempt, .. } => {
                let closed = attempts.iter_mut().filter(|one| one.id == *attempt);
                closed.for_each(|one| one.live = false);
            }
            _ => {}
        }
    }

    fn remember_report(&mut self, command: &Command, answer: &Result<Vec<Note>, Code>) {
        if let (CommandBody::ReportAgentResult(told), Ok(_)) = (&command.body, answer) {
            let own = || WorkerId::parse("worker", command.by.user.as_str()).expect("an id");
            let worker = command.worker.clone().unwrap_or_else(own);
            let holder = Holder { user: command.by.user.clone(), worker };
            self.names.reports.push((holder, (**told).clone()));
        }
    }

    fn remember_dispatch(&mut self, event: &DispatchEvent) {
        match event {
            DispatchEvent::Queued { dispatch, .. } => {
                self.names.all_dispatches.insert(dispatch.clone());
                if dispatch.as_str().starts_with("dsp_") {
                    self.names.dispatches.push(dispatch.clone());
                }
            }
            DispatchEvent::Started { lease, .. } => self.names.tries.push(lease.clone()),
            DispatchEvent::Requeued { .. }
            | DispatchEvent::Renewed { .. }
            | DispatchEvent::RetryScheduled { .. }
            | DispatchEvent::Finished { .. }
            | DispatchEvent::Removed { .. } => {}
        }
    }

    fn remember_envelope(&mut self, event: &EnvelopeEvent) {
        match event {
            EnvelopeEvent::Created { id, .. } | EnvelopeEvent::Cloned { id, .. } => {
                self.names.all_envelopes.insert(id.clone());
                if id.as_str().starts_with("env_") {
                    self.names.envelopes.push(id.clone());
                }
            }
            EnvelopeEvent::Updated { .. } | EnvelopeEvent::Removed { .. } => {}
        }
    }
}

fn count(met: &mut Met, command: &Command, answer: &Result<Vec<Note>, Code>) {
    let name = |debug: String| {
        let end = debug.find([' ', '(']).unwrap_or(debug.len());
        debug[..end].to_owned()
    };
    let what = name(format!("{:?}", command.body));
    match answer {
        Ok(notes) => {
            *met.taken.entry(what).or_default() += 1;
            for note in notes {
                *met.notes.entry(name(format!("{note:?}"))).or_default() += 1;
                if let Note::SessionEnded(_, reason) = note {
                    *met.notes.entry(format!("Session{reason:?}")).or_default() += 1;
                }
            }
        }
        Err(code) => *met.refused.entry((what, *code)).or_default() += 1,
    }
}

/// Says in what two answers differ. The order of what ends, changes and is charged is compared, and
/// that of tries that start; of the rest only what it is.
fn differs(
    machine: &Result<Vec<Event>, Refusal>,
    reference: &Result<Vec<Note>, Code>,
) -> Option<String> {
    match (machine, reference) {
        (Err(machine), Err(reference)) if machine.code == *reference => None,
        (Ok(events), Ok(notes)) => {
            let events: Vec<Note> = events.iter().filter_map(note).collect();
            let sorted = |notes: &[Note]| {
                let mut sorted = notes.to_vec();
                sorted.sort();
                sorted
            };
            let ordered = |notes: &[Note]| -> Vec<Note> {
                let in_order = |note: &&Note| {
                    let ends = matches!(note, Note::Finished(..) | Note::Retried(..));
                    ends || matches!(note, Note::Ended(..) | Note::Changed(..) | Note::Charged(..))
                };
                notes.iter().filter(in_order).cloned().collect()
            };
            // Where among the rest a try starts is not said.
            let tries = |notes: &[Note]| -> Vec<Note> {
                notes.iter().filter(|note| matches!(note, Note::Tried(..))).cloned().collect()
            };
            // So is the way of a session.
            let way = |notes: &[Note]| -> Vec<Note> {
                notes.iter().filter(|note| is_of_way(note)).cloned().collect()
            };
            let same = sorted(&events) == sorted(notes)
                && way(&events) == way(notes)
                && ordered(&events) == ordered(notes)
                && tries(&events) == tries(notes);
            (!same).then(|| format!("{events:?}, not {notes:?}"))
        }
        (Ok(_) | Err(_), _) => {
            let machine =
                machine.as_ref().map(|events| events.iter().filter_map(note).collect::<Vec<_>>());
            Some(format!("{machine:?}, not {reference:?}"))
        }
    }
}

/// Whether a note tells where a session went, and what came of its stages.
fn is_of_way(note: &Note) -> bool {
    matches!(
        note,
        Note::SessionStarted(..)
            | Note::SessionEnded(..)
            | Note::Moved(..)
            | Note::Issued(..)
            | Note::Reported(..)
            | Note::StageCompleted(..)
            | Note::StageFailed(..)
            | Note::StageRetried(..)
            | Note::GroupOpened(..)
            | Note::GroupJoined(..)
    )
}

/// Returns what an event of the machine says, in the model's words.
fn note(event: &Event) -> Option<Note> {
    let pid = || event.subject.pid.clone().expect("events of processes name them");
    Some(match &event.body {
        Body::Kernel { event } => match event {
            KernelEvent::Started { .. } => Note::Started,
            KernelEvent::Draining { .. } => Note::Draining,
            KernelEvent::Stopped { clean, .. } => Note::Stopped(*clean),
        },
        Body::Process { event } => match event {
            ProcessEvent::Created { .. } => Note::Created(pid()),
            ProcessEvent::StateChanged { from, to, .. } => Note::Changed(pid(), *from, *to),
            ProcessEvent::LeaseRenewed { .. } => Note::Renewed(pid()),
            ProcessEvent::Terminated { reason, .. } => Note::Ended(pid(), *reason),
            ProcessEvent::Removed => Note::Removed(pid()),
        },
        Body::Quota { event } => match event {
            QuotaEvent::Reserved { reservation, .. } => Note::Reserved(pid(), reservation.clone()),
            QuotaEvent::Settled { reservation, .. } => Note::Settled(pid(), reservation.clone()),
            QuotaEvent::Released { reservation } => Note::Released(pid(), reservation.clone()),
            QuotaEvent::Expired { reservation, .. } => Note::Charged(pid(), reservation.clone()),
            QuotaEvent::Recorded { .. } => Note::Recorded(pid()),
            QuotaEvent::Adjusted { field, .. } => Note::Adjusted(pid(), *field),
            QuotaEvent::Warning { resource, .. } => Note::Warned(pid(), *resource),
            QuotaEvent::Exceeded { resource, .. } => Note::Exceeded(pid(), *resource),
        },
        Body::Rate { event } => match event {
            RateEvent::Recorded { .. } => Note::Hit,
            RateEvent::Configured { .. } => Note::RateSet,
            RateEvent::Reset { .. } => Note::RateReset,
            RateEvent::Swept { .. } => return None,
        },
        Body::Envelope { event } => match event {
            EnvelopeEvent::Created { id, .. } | EnvelopeEvent::Cloned { id, .. } => {
                Note::EnvelopeMade(id.clone())
            }
            EnvelopeEvent::Updated { id, version, .. } => {
                Note::EnvelopeChanged(id.clone(), *version)
            }
            EnvelopeEvent::Removed { ids } => Note::EnvelopesGone(ids.clone()),
        },
        Body::Service { event } => service_note(event),
        Body::Slot { event } => match event {
            SlotEvent::Acquired { service, .. } => Note::Acquired(service.clone()),
            SlotEvent::Renewed { lease, .. } => Note::SlotRenewed(lease.clone()),
            SlotEvent::Released { lease, .. } => Note::Freed(lease.clone()),
        },
        Body::Dispatch { event } => dispatch_note(event),
        Body::Session { event } => return session_note(pid(), event),
        Body::Interrupt { event } => match event {
            InterruptEvent::Raised { .. } => Note::Raised(pid()),
            InterruptEvent::Resolved { id, .. } => Note::Resolved(id.clone()),
            InterruptEvent::Expired { id, .. } => Note::Expired(id.clone()),
            InterruptEvent::Cancelled { id, .. } => Note::Cancelled(id.clone()),
            InterruptEvent::Removed { .. } => return None,
        },
        Body::Approval { event } => match event {
            ApprovalEvent::Granted { interrupt, .. } => Note::Granted(interrupt.clone()),
            ApprovalEvent::Consumed { interrupt, .. } => Note::Consumed(interrupt.clone()),
            ApprovalEvent::Lapsed { interrupt, .. } => Note::Lapsed(interrupt.clone()),
        },
    })
}

fn session_note(pid: ProcessId, event: &SessionEvent) -> Option<Note> {
    Some(match event {
        SessionEvent::Started { entry, forced, .. } => {
            Note::SessionStarted(pid, entry.clone(), *forced)
        }
        SessionEvent::Ended { reason, .. } => Note::SessionEnded(pid, *reason),
        SessionEvent::Removed => Note::SessionRemoved(pid),
        SessionEvent::Moved { from, to, via, visit, iteration, back } => {
            Note::Moved(pid, from.clone(), to.clone(), *via, *visit, *iteration, *back)
        }
        SessionEvent::AttemptIssued { issued } => {
            let counts = format!("visit {} try {}", issued.visit, issued.try_number);
            let cost = format!("hold {:?} hop {}", listed(&issued.hold), issued.hop);
            let whose = format!("by {:?} to {:?}", issued.holder, issued.targets);
            let (id, branch, deadline) = (&issued.attempt, issued.branch, issued.deadline);
            let told = format!("{id} {counts} branch {branch:?} {cost} until {deadline:?} {whose}");
            Note::Issued(pid, issued.stage.clone(), told)
        }
        SessionEvent::AttemptReported { reported } => {
            let (charged, unreserved) = (listed(&reported.charged), listed(&reported.unreserved));
            let told = format!("charged {charged:?} unreserved {unreserved:?}");
            Note::Reported(pid, reported.attempt.clone(), told)
        }
        SessionEvent::AttemptClosed { attempt, cause, charged } => {
            let given = match cause {
                AttemptEnd::TimedOut => Given::TimedOut,
                AttemptEnd::Lost => Given::Lost,
                AttemptEnd::Superseded | AttemptEnd::Reported { .. } => Given::Superseded,
            };
            let told = format!("{:?}", listed(charged).values().collect::<Vec<_>>());
            Note::GivenUp(pid, attempt.clone(), given, told)
        }
        SessionEvent::StageCompleted { stage, changes, .. } => {
            let told = changes.iter().map(|(key, value)| format!("{key} {value}")).collect();
            Note::StageCompleted(pid, stage.clone(), told)
        }
        SessionEvent::StageFailed { stage, failure } => {
            Note::StageFailed(pid, stage.clone(), failure.kind)
        }
        SessionEvent::GroupOpened { branches, join, .. } => {
            Note::GroupOpened(pid, branches.clone(), *join)
        }
        SessionEvent::GroupJoined { winner, merged, .. } => {
            Note::GroupJoined(pid, winner.clone(), merged.clone())
        }
        SessionEvent::RetryScheduled { stage, try_number, retry_at, failure } => {
            Note::StageRetried(pid, stage.clone(), *try_number, *retry_at, failure.kind)
        }
        SessionEvent::Checkpoint { .. } => return None,
    })
}

/// Amounts by resource.
fn listed(amounts: &Amounts) -> BTreeMap<Resource, u64> {
    Resource::RESERVABLE.into_iter().map(|one| (one, amounts.of(one))).collect()
}

fn service_note(event: &ServiceEvent) -> Note {
    match event {
        ServiceEvent::Registered { info, .. } => Note::Registered(info.name.clone()),
        ServiceEvent::Unregistered { service } => Note::Unregistered(service.clone()),
        ServiceEvent::HealthChanged { service, from, to, .. } => {
            Note::Health(service.clone(), *from, *to)
        }
        ServiceEvent::HandlerBound { service, .. } => Note::Bound(service.clone()),
        ServiceEvent::HandlerUnbound { service } => Note::Unbound(service.clone()),
    }
}

fn dispatch_note(event: &DispatchEvent) -> Note {
    match event {
        DispatchEvent::Queued { dispatch, .. } => Note::Queued(dispatch.clone()),
        DispatchEvent::Requeued { dispatch, .. } => Note::Requeued(dispatch.clone()),
        DispatchEvent::Started { dispatch, tries, .. } => Note::Tried(dispatch.clone(), *tries),
        DispatchEvent::Renewed { dispatch, .. } => Note::TryRenewed(dispatch.clone()),
        DispatchEvent::RetryScheduled { dispatch, kind, .. } => {
            Note::Retried(dispatch.clone(), *kind)
        }
        DispatchEvent::Finished { dispatch, outcome, .. } => {
            Note::Finished(dispatch.clone(), *outcome)
        }
        DispatchEvent::Removed { ids } => Note::DispatchesGone(ids.clone()),
    }
}

/// What is to be met.
const NOTES: &[&str] = &[
    "Acquired",
    "Adjusted",
    "Bound",
    "Cancelled",
    "Changed",
    "Charged",
    "Consumed",
    "Created",
    "DispatchesGone",
    "Draining",
    "Ended",
    "EnvelopeChanged",
    "EnvelopeMade",
    "EnvelopesGone",
    "Exceeded",
    "Expired",
    "Finished",
    "Freed",
    "GivenUp",
    "Granted",
    "GroupJoined",
    "GroupOpened",
    "Health",
    "Hit",
    "Issued",
    "Lapsed",
    "Moved",
    "Queued",
    "Raised",
    "RateReset",
    "RateSet",
    "Recorded",
    "Registered",
    "Released",
    "Removed",
    "Renewed",
    "Reported",
    "Requeued",
    "Reserved",
    "Resolved",
    "Retried",
    "Settled",
    "SessionEnded",
    "SessionRemoved",
    "SessionStarted",
    "SlotRenewed",
    "StageCompleted",
    "StageFailed",
    "StageRetried",
    "Started",
    "Stopped",
    "Tried",
    "TryRenewed",
    "Unbound",
    "Unregistered",
    "Warned",
];

/// What is to be refused, and so.
const REFUSALS: &[(&str, Code)] = &[
    ("AcquireSlot", Code::ServiceAtCapacity),
    ("AdjustQuota", Code::PermissionDenied),
    ("CancelDispatch", Code::DispatchNotFound),
    ("CleanupProcess", Code::ProcessNotTerminal),
    ("CloneEnvelope", Code::EnvelopeNotFound),
    ("CompleteTask", Code::BadValue),
    ("CompleteTask", Code::NotHolder),
    ("CompleteTask", Code::StaleLease),
    ("ConsumeApproval", Code::ApprovalNotUsable),
    ("ConsumeApproval", Code::NotHolder),
    ("ConsumeApproval", Code::StaleTarget),
    ("CreateEnvelope", Code::SubmitConflict),
    ("CreateInterrupt", Code::PolicyNotAllowed),
    ("CreateInterrupt", Code::TooMany),
    ("Dispatch", Code::ApprovalNotUsable),
    ("Dispatch", Code::DispatchConflict),
    ("Dispatch", Code::Draining),
    ("Dispatch", Code::NoHandler),
    ("Dispatch", Code::ProcessTerminal),
    ("Dispatch", Code::QueueFull),
    ("Dispatch", Code::ServiceAtCapacity),
    ("Dispatch", Code::ServiceNotFound),
    ("Dispatch", Code::ServiceUnhealthy),
    ("DispatchInference", Code::QuotaExceeded),
    ("InitializeSession", Code::Draining),
    ("InitializeSession", Code::EnvelopeInUse),
    ("InitializeSession", Code::ProcessTerminal),
    ("InitializeSession", Code::SessionExists),
    ("InitializeSession", Code::SubmitConflict),
    ("NextInstruction", Code::NotHolder),
    ("NextInstruction", Code::PermissionDenied),
    ("NextInstruction", Code::SessionNotFound),
    ("NextRunnable", Code::NoRunnable),
    ("RecordUsage", Code::ReservationConflict),
    ("RegisterService", Code::ServiceExists),
    ("RegisterService", Code::TooMany),
    ("ReleaseSlot", Code::LeaseNotFound),
    ("RenewLease", Code::LeaseNotFound),
    ("RenewLease", Code::NotHolder),
    ("RenewLease", Code::StaleLease),
    ("ReportAgentResult", Code::AttemptClosed),
    ("ReportAgentResult", Code::AttemptNotFound),
    ("ReportAgentResult", Code::AttemptSuperseded),
    ("ReportAgentResult", Code::BadOutput),
    ("ReportAgentResult", Code::BadValue),
    ("ReportAgentResult", Code::NotHolder),
    ("ReportAgentResult", Code::PolicyNotAllowed),
    ("ReportAgentResult", Code::WrongAgent),
    ("Reserve", Code::QuotaExceeded),
    ("Reserve", Code::RateLimited),
    ("Reserve", Code::ReservationConflict),
    ("ResolveInterrupt", Code::InterruptExpired),
    ("ResolveInterrupt", Code::InterruptNotPending),
    ("ResolveInterrupt", Code::ResponseInvalid),
    ("ResolveInterrupt", Code::StaleTarget),
    ("Schedule", Code::QuotaExceeded),
    ("Settle", Code::ReservationClosed),
    ("Submit", Code::Draining),
    ("Submit", Code::ParentTerminal),
    ("Submit", Code::ProcessLimit),
    ("Submit", Code::SubmitConflict),
    ("Submit", Code::TooDeep),
    ("Terminate", Code::ForceRequired),
    ("TransitionState", Code::IllegalTransition),
    ("TransitionState", Code::InterruptPending),
    ("TransitionState", Code::NotHolder),
    ("UpdateEnvelope", Code::BadOutput),
    ("UpdateEnvelope", Code::BadValue),
    ("UpdateEnvelope", Code::PermissionDenied),
    ("UpdateEnvelope", Code::SessionOwnsEnvelope),
    ("UpdateEnvelope", Code::TooMany),
    ("UpdateEnvelope", Code::VersionConflict),
];

impl Met {
    /// Says whether the sequences reach what they are there for.
    ///
    /// # Panics
    ///
    /// If something that rules speak of was never met.
    pub(crate) fn check(&self) {
        for note in NOTES {
            assert!(self.notes.get(*note).is_some_and(|n| *n >= 5), "{note} was hardly met");
        }
        // Few sequences stop the node, end a parent or go round Gates only.
        let rare = [
            TerminalReason::KernelShutdown,
            TerminalReason::MaxLoopExceeded,
            TerminalReason::ParentTerminated,
        ];
        for reason in TerminalReason::ALL.iter().filter(|one| !rare.contains(one)) {
            let met = self.notes.contains_key(&format!("Session{reason:?}"));
            assert!(met, "no session ended {reason:?}");
        }
        for (command, code) in REFUSALS {
            let met = self.refused.contains_key(&((*command).to_owned(), *code));
            assert!(met, "{command} was never refused {code}");
        }
    }
}

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.taken.iter().try_for_each(|(name, n)| writeln!(f, "{name} {n}"))?;
        self.notes.iter().try_for_each(|(name, n)| writeln!(f, "  {name} {n}"))?;
        let mut refused = self.refused.iter();
        refused.try_for_each(|((name, code), n)| writeln!(f, "    {name} {code} {n}"))
    }
}
