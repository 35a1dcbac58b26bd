//! One process of the kernel: the production keeper, with places for saboteurs at its boundary.
//!
//! A saboteur changes what goes in or comes out, or rows of the state behind the kernel's back:
//! what a wrong kernel would have done. The keeper itself holds no test switches.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

mod approvals;
pub mod asked;
mod budgets;
mod driven;
mod flows;
pub mod next;
pub mod services;
pub mod streams;
mod told;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use machines::Instant;
use machines::codec::{Reader, Wire};
use machines::keeper::io::{self as keeper, Action, Call, Decided as Done, File, Op};
use machines::keeper::{Keeper, KeeperParams};
use machines::kernel::config::{KernelConfig, Retention};
use machines::kernel::event::Event;
use machines::kernel::ids::{Endpoint, InterruptId, ProcessId, UserId};
use machines::kernel::interrupts::interrupt::Interrupt;
use machines::kernel::names::{InterruptStatus, ProcessState};
use machines::kernel::part::KernelPart;
use machines::kernel::principal::Principal;
use machines::kernel::process::Process;
use machines::kernel::quota::{Amounts, Quota};
use machines::kernel::ready::Row;
use machines::kernel::state::Counters;
use machines::kernel::stream::{Batch, Numbered};
use machines::kernel::{Code, Command, CommandBody, Kernel, Refusal, Time};
use machines::ledger::fold::Part;
use machines::ledger::journal::io::{self as journal, DiskError, Limits};
use machines::ledger::recovery::io::{Listed, Refusal as Unsound};
use machines::ledger::root::StateRoot;
use machines::ledger::snapshot::SnapshotConfig;

use super::crowds::Crowds;
use super::io::{Decided, Guest, Input, Number, Output, Recovered, Script};
use super::ledger::{NODE, reason};
use crate::files::{Answer, Failure, Operation};
use crate::scenario::Kept;
use asked::Asked;
use streams::{Known, Lot, Readers};

/// How long a wait is worth one band (K71).
pub const AGEING_MS: u64 = 2_000;

/// A promise of the kernel that is broken on purpose (kernel.md, section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// K420: what was asked for is granted, and then looked at.
    GrantsBeforeChecking,
    /// K420: a stage is handed out whatever its process and those above it have left.
    HandsOutUnchecked,
    /// K420: what was used beyond what was reserved counts as if it had been reserved.
    HidesExcess,
    /// K421: what a process had reserved is forgotten when it ends.
    ForgetsHolds,
    /// K422: a question that was closed can be answered again.
    ResolvesTwice,
    /// K423: a process that waits can be claimed.
    LetsWaitingRun,
    /// K426: nobody hears of processes that wait for their turn.
    LosesReady,
    /// K426: who waited for an answer goes on waiting after it, or after its time.
    ForgetsWake,
    /// K428: part of the state is not what it was, after a snapshot was loaded.
    ForgetsAfterSnapshot,
    /// K428: what is ready is in its table, after a snapshot was loaded, and nobody's turn comes.
    LeavesReadyOut,
    /// K429: no wait is worth a band.
    NeverAges,
    /// K430: the newest comes first.
    NewestFirst,
    /// K434: a refused command is counted.
    CountsRefused,
    /// K434: a refused command is counted, by an event.
    RecordsRefused,
    /// K444: a reader that comes back skips an event.
    SkipsAnEvent,
    /// K444, K332: who comes too late is told that less is kept than there is.
    OverstatesOldest,
    /// K445: a reply is given when the decision is made.
    RepliesAtApply,
    /// K445: a question is answered from what is not durable yet.
    TellsAtApply,
    /// K445: what follows from events is done when the decision is made.
    ActsAtApply,
    /// K448: only the last closed reservation is remembered.
    RemembersLast,
    /// K448: a repeat is told of something else.
    AnswersAnother,
    /// K449: a clock that jumps back takes the kernel along.
    FollowsClock,
    /// K424: every poll is handed an attempt of its own.
    IssuesPerPoll,
    /// K425: a stage is issued again while somebody works on it.
    IssuesAgain,
    /// K437: a session ends, and its process does not.
    EndsOnlySession,
    /// K439: a move after a failure is not checked.
    LetsErrorsPass,
    /// K440: failures that are tried again are not counted.
    RetriesUncounted,
    /// K440: who would go on after a wait waits on.
    PutsOff,
    // ---- services (see kernel/services.rs)
    /// K362: what drains takes on new work.
    ForgetsDrain,
    /// K431: a window has 49 slots.
    CountsFewerSlots,
    /// K431: who is refused is told to come again a millisecond too late.
    TellsLater,
    /// K432: a slot that is released is released again.
    ReleasesTwice,
    /// K433: a completion under an old lease ends the live try.
    AcceptsOldLease,
    /// K435: what comes first depends on where in memory it is.
    OrdersByAddress,
    /// K446: one query does not look who asks.
    ForgetsToLook,
    /// K446: whoever may not ask at all is told that somebody else holds it.
    TellsOfHolder,
    /// K447: what is over stays.
    KeepsEnded,
    /// K447: closed attempts stay when their process goes.
    KeepsAttempts,
    /// K447: questions that were closed go at once.
    HurriesClosed,
    /// K447: envelopes that nobody uses go at once.
    HurriesEnvelopes,
    /// K427: what asked leave and was not answered goes on.
    TakesSilenceForYes,
    /// K436: branches are merged as they come in.
    MergesOnArrival,
    /// K438: whoever was answered begins again.
    BeginsAgain,
    /// K441: nobody looks again at what is done with leave.
    SkipsRecheck,
    // ---- what the node drives (see kernel/driven.rs)
    /// K290: whoever asks what to do is told as the node is.
    TellsAnybody,
    /// K251: what a worker takes is reported before it is done.
    ReportsAhead,
    /// K294: what the node drives is not known to be its own.
    ForgetsDriven,
}

/// How a process is made.
#[derive(Clone, Debug)]
pub struct Config {
    params: KeeperParams,
    turn: Option<Turn>,
    readers: Lot,
}

/// Returns the configuration of the kernel: everything that takes hours takes seconds.
#[must_use]
pub fn kernel_config() -> KernelConfig {
    let retention = Retention { terminated_ms: 4_000, zombie_ms: 6_000, ..Retention::DEFAULT };
    let mut config = KernelConfig {
        ageing_ms: AGEING_MS,
        run_lease_ms: 2_000,
        reservation_lease_ms: 3_000,
        approval_ttl_ms: 1_500,
        retention,
        ..KernelConfig::new()
    };
    for asked in &mut config.interrupts {
        asked.default_ttl = asked.default_ttl.map(|ttl| ttl.min(1_200));
    }
    config
}

/// See the file's header.
#[derive(Clone, Debug)]
pub struct Clerk {
    keeper: Option<Keeper>,
    turn: Option<Turn>,
    outputs: VecDeque<Output<Reply, Event>>,
    /// Records told of.
    seen: u64,
    /// Calls that a saboteur has answered already.
    answered: Vec<Call>,
    /// The events that were told last, and the number of the first: effects come behind theirs.
    told: (u64, Arc<[Event]>),
    /// Operations that are under way.
    out: BTreeSet<u64>,
    readers: Readers,
    /// What queries came to.
    answers: services::Answers,
    place: services::Place,
}

/// What the keeper answers.
pub type Reply = Result<Done, Box<Refusal>>;

impl Clerk {
    fn turned(&self, turn: Turn) -> bool {
        self.turn == Some(turn)
    }

    /// Returns the kernel, once it serves.
    #[must_use]
    pub fn kernel(&self) -> Option<&Kernel> {
        self.keeper.as_ref()?.kernel()
    }

    fn input(&mut self, now: Instant, wall_ms: u64, input: keeper::Input) {
        if self.turned(Turn::TakesSilenceForYes) {
            self.take_silence_for_yes(Time::from_millis(wall_ms));
        }
        if self.turned(Turn::PutsOff) {
            self.put_off(Time::from_millis(wall_ms));
        }
        let waking = self.about_to_wake(Time::from_millis(wall_ms), &input);
        let Some(keeper) = &mut self.keeper else {
            return;
        };
        keeper.handle(now, Time::from_millis(wall_ms), input);
        self.forget_wake(&waking);
        self.follow();
        while let Some(input) = self.readers.poll() {
            let Some(keeper) = &mut self.keeper else {
                return;
            };
            keeper.handle(now, Time::from_millis(wall_ms), input);
            self.follow();
        }
    }

    /// Returns the number of the last event.
    fn last_event(&self) -> u64 {
        self.kernel().map_or(0, Kernel::last_event)
    }

    /// Hands on what a reader was given.
    fn read(&mut self, reader: keeper::Reader, batch: Batch) {
        let last = self.last_event();
        if let Some(reader) = self.readers.given(reader, &batch, last) {
            let Batch { events, cursor: to, last: _ } = batch;
            let events = events.into_iter().map(|Numbered { number, event }| (number, event));
            self.outputs.push_back(Output::Read { reader, to, events: events.collect() });
        }
    }

    /// Takes what the keeper gives, after what was decided.
    fn follow(&mut self) {
        let outputs = self.outputs_of_keeper();
        let started = outputs.iter().any(|output| matches!(output, keeper::Output::Started(_)));
        if !started {
            self.tell_decided();
        }
        for output in outputs {
            self.translate(output);
        }
        self.tell_decided();
    }

    fn outputs_of_keeper(&mut self) -> Vec<keeper::Output> {
        let keeper = self.keeper.as_mut();
        keeper.map(|keeper| std::iter::from_fn(|| keeper.poll()).collect()).unwrap_or_default()
    }

    /// Tells of records that were appended: the root is known of the last.
    fn tell_decided(&mut self) {
        let appended = self.appended();
        while self.seen < appended {
            self.seen += 1;
            let root = if self.seen == appended { self.root() } else { None };
            let decided = Decided { record: self.seen, bytes: 0, root };
            self.outputs.push_back(Output::Decided(decided));
        }
    }

    fn translate(&mut self, output: keeper::Output) {
        match output {
            keeper::Output::Disk(op, action) => {
                self.out.insert(op.0);
                self.outputs.push_back(Output::Disk { op: op.0, operation: operation(action) });
            }
            keeper::Output::Started(report) => {
                self.seen = report.record;
                let snapshot = report.snapshot.unwrap_or(0);
                let (record, hash, root) = (report.record, Some(report.hash), report.root);
                let found = Recovered { record, hash, root, snapshot };
                self.outputs.push_back(Output::Recovered(found));
                self.readers.come(report.events);
                if snapshot > 0 && self.turned(Turn::ForgetsAfterSnapshot) {
                    self.forget_something();
                }
                if snapshot > 0 && self.turned(Turn::LeavesReadyOut) {
                    self.leave_ready_out();
                }
            }
            keeper::Output::Refused(why) => {
                let reason = match why.as_ref() {
                    keeper::RefusedStart::Journal(Unsound::Unreadable { .. })
                    | keeper::RefusedStart::Unreadable { .. } => "unreadable",
                    keeper::RefusedStart::Journal(refusal) => reason(refusal),
                    keeper::RefusedStart::Record { .. }
                    | keeper::RefusedStart::Snapshot { .. }
                    | keeper::RefusedStart::Foreign { .. }
                    | keeper::RefusedStart::Config(_) => "journal-foreign",
                };
                self.outputs.push_back(Output::Refused { reason, told: why.to_string() });
            }
            keeper::Output::Reply(call, reply) => {
                if self.answered.contains(&call) {
                    return self.answered.retain(|answered| *answered != call);
                }
                let reply = self.turn_refusal(reply);
                self.outputs.push_back(Output::Reply { call: call.0, reply });
            }
            keeper::Output::Events { first, events } => {
                self.told = (first, Arc::clone(&events));
                self.outputs.push_back(Output::Events { first, events });
            }
            keeper::Output::Effect(effect) => self.has_effect(&effect),
            keeper::Output::Stalled(_) => self.outputs.push_back(Output::Stalled),
            keeper::Output::Batch(reader, batch) => self.read(reader, *batch),
            keeper::Output::Ended(reader, why) => {
                let last = self.last_event();
                if let Some((reader, oldest)) = self.readers.ended(reader, &why, last) {
                    self.outputs.push_back(Output::Late { reader, oldest });
                }
            }
            keeper::Output::Answer(call, told) => self.told(call, told),
            keeper::Output::Snapshot { .. }
            | keeper::Output::SnapshotFailed { .. }
            | keeper::Output::Stopped => {}
        }
    }

    fn command(&mut self, now: Instant, wall_ms: u64, call: Number, mut command: Command) {
        let again = self.turn_services(wall_ms, &mut command);
        let attempts = self.closed_attempts(&command.body);
        self.turn_driven_before(&mut command);
        let quotas = self.break_before(now, wall_ms, call, &mut command);
        let answered = answered(&command.body).filter(|_| self.turned(Turn::BeginsAgain)).cloned();
        let (pid, command) = (subject(&command.body), Box::new(command));
        let before = self.appended();
        self.input(now, wall_ms, keeper::Input::Command { call: Call(call), command });
        self.release_again(again);
        self.keep_attempts(attempts);
        if self.appended() == before && self.turned(Turn::CountsRefused) {
            self.count_once_more();
        }
        self.record_refused(now, wall_ms, call);
        if let Some(id) = answered {
            self.begin_again(&id);
        }
        if self.turned(Turn::ActsAtApply) {
            self.act_ahead(now, wall_ms);
        }
        self.turn_driven_after(now, wall_ms, pid.as_ref());
        if let Some(pid) = pid {
            self.break_after(&pid, quotas);
        }
    }

    /// Breaks a promise before a command is handled. Returns quotas to give back after it.
    fn break_before(
        &mut self,
        now: Instant,
        wall_ms: u64,
        call: Number,
        command: &mut Command,
    ) -> Vec<(ProcessId, Quota)> {
        match (self.turn, &mut command.body) {
            (Some(Turn::GrantsBeforeChecking), CommandBody::Reserve(reserve)) => {
                return self.unlimit(vec![reserve.pid.clone()]);
            }
            (Some(Turn::HandsOutUnchecked), body) => {
                return self.unlimit_spent(body);
            }
            (Some(Turn::HidesExcess), CommandBody::Settle { pid, reservation, actual }) => {
                self.hide_excess(pid, reservation, actual);
            }
            (Some(Turn::LetsWaitingRun), CommandBody::TransitionState { pid, to, .. })
                if *to == ProcessState::Running =>
            {
                self.change(pid, |process| {
                    if process.state == ProcessState::Waiting {
                        process.state = ProcessState::Ready;
                    }
                });
            }
            (Some(Turn::LosesReady), CommandBody::NextRunnable) => {
                let nobody = UserId::parse("user", "nobody").expect("a name is an id");
                command.by = Principal::new(nobody, &[]);
            }
            (Some(Turn::ResolvesTwice), CommandBody::ResolveInterrupt { id, .. }) => {
                self.open_again(id);
            }
            (Some(Turn::FollowsClock), _) => self.forget_time(),
            (Some(Turn::MergesOnArrival), CommandBody::ReportAgentResult(report)) => {
                self.merge_on_arrival(report);
            }
            (Some(Turn::SkipsRecheck), CommandBody::ConsumeApproval(wanted)) => {
                self.skip_recheck(wanted);
            }
            (Some(Turn::RepliesAtApply), _) => self.foretell(now, wall_ms, call, command),
            (_, body) => self.break_session_before(body),
        }
        Vec::new()
    }

    /// Breaks a promise after a command about a process was handled.
    fn break_after(&mut self, pid: &ProcessId, quotas: Vec<(ProcessId, Quota)>) {
        for (pid, quota) in quotas {
            self.change(&pid, |process| process.quota = quota);
        }
        match self.turn {
            Some(Turn::RemembersLast) => self.change(pid, |process| {
                let forgotten = process.closed.len().saturating_sub(1);
                process.closed.drain(..forgotten);
            }),
            Some(Turn::ForgetsHolds) => self.change(pid, |process| {
                if process.state.is_terminal() {
                    process.reservations.clear();
                    process.account.held = Amounts::ZERO;
                }
            }),
            Some(Turn::NewestFirst) => self.turn_around(),
            _ => self.break_session_after(pid),
        }
    }

    /// Changes a process behind the kernel's back.
    fn change(&mut self, pid: &ProcessId, change: impl Fn(&mut Process)) {
        let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) else {
            return;
        };
        let Some(mut process) = kernel.process(pid).cloned() else {
            return;
        };
        let before = process.clone();
        change(&mut process);
        if process != before {
            let (wanted, changed) = (pid.to_bytes(), process.to_bytes());
            rewrite(kernel, "processes", |key, row| match *key == wanted {
                true => changed.clone(),
                false => row,
            });
        }
    }

    fn forget_time(&mut self) {
        if let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) {
            rewrite(kernel, "counters", |_, row| {
                let mut counters = Counters::from_bytes(&row).expect("a row that was frozen");
                counters.last = Time::ZERO;
                counters.to_bytes()
            });
        }
    }

    /// Forgets that a question was closed for which nobody waits.
    fn open_again(&mut self, id: &InterruptId) {
        if let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) {
            let wanted = id.to_bytes();
            rewrite(kernel, "interrupts", |_, row| {
                let mut asked = Interrupt::from_bytes(&row).expect("a row that was frozen");
                if asked.id.to_bytes() == wanted && !asked.blocking {
                    asked.status = InterruptStatus::Pending;
                    (asked.answer, asked.closed_at, asked.cancel_reason) = (None, None, None);
                    asked.expires_at = None;
                }
                asked.to_bytes()
            });
        }
    }

    fn count_once_more(&mut self) {
        if let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) {
            rewrite(kernel, "counters", |_, row| {
                let mut counters = Counters::from_bytes(&row).expect("a row that was frozen");
                counters.processes += 1;
                counters.to_bytes()
            });
        }
    }

    /// Counts a call that was refused, by an event of which nobody hears.
    fn record_refused(&mut self, now: Instant, wall_ms: u64, call: Number) {
        /// The calls of this saboteur: far from those of the run, and of its copies.
        const HIDDEN: Number = 1 << 61;
        let is_refused =
            |told: &Told| matches!(told, Output::Reply { call: of, reply: Err(_) } if *of == call);
        if !self.turned(Turn::RecordsRefused) || !self.outputs.iter().any(is_refused) {
            return;
        }
        let user = UserId::parse("user", "user0").expect("a name is an id");
        let body = CommandBody::CheckRateLimit { user, endpoint: Endpoint::whole(), record: true };
        let command = Command { by: services::operator(), worker: None, rate: None, body };
        let call = Call(HIDDEN + call);
        self.answered.push(call);
        self.input(now, wall_ms, keeper::Input::Command { call, command: Box::new(command) });
    }

    /// Forgets when processes were made.
    fn forget_something(&mut self) {
        if let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) {
            rewrite(kernel, "processes", |_, row| {
                let mut process = Process::from_bytes(&row).expect("a row that was frozen");
                process.created_at = Time::ZERO;
                process.to_bytes()
            });
        }
    }

    /// Lets all that is ready stand in its table, and nothing else follow from that.
    fn leave_ready_out(&mut self) {
        let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) else {
            return;
        };
        let mut new = Kernel::new(kernel_config()).expect("the configuration is legal");
        for last in [false, true] {
            for (number, name) in KernelPart::TABLES.iter().enumerate() {
                let stored = KernelPart::table(&mut new, number).expect("it has those it names");
                for (key, row) in services::rows_of(kernel, name) {
                    if (*name == "ready") == last {
                        stored.put(&key, &row).expect("a row that was frozen can be put");
                    }
                }
            }
            if !last {
                KernelPart::derive(&mut new);
            }
        }
        *kernel = new;
    }

    /// Lets the newest of those that wait come first.
    fn turn_around(&mut self) {
        /// Between what is counted forwards and what is counted backwards.
        const MIDDLE: u64 = 1 << 40;
        if let Some(kernel) = self.keeper.as_mut().and_then(Keeper::kernel_mut) {
            rewrite(kernel, "ready", |_, row| {
                match Row::from_bytes(&row).expect("a row that was frozen") {
                    Row::Waits { mut entry } if entry.number < MIDDLE => {
                        entry.number = 2 * MIDDLE - entry.number;
                        entry.ready_at = Time::ZERO;
                        Row::Waits { entry }.to_bytes()
                    }
                    Row::Waits { .. } | Row::Turn { .. } => row,
                }
            });
        }
    }

    /// Takes the reply to a command from a copy that is ahead.
    fn foretell(&mut self, now: Instant, wall_ms: u64, call: Number, command: &Command) {
        let command = Box::new(command.clone());
        let input = keeper::Input::Command { call: Call(call), command };
        let is_it = |told: &Told| matches!(told, Output::Reply { call: done, .. } if *done == call);
        if let Some(reply) = self.ahead_of(now, wall_ms, input, is_it).pop() {
            self.answered.push(Call(call));
            self.outputs.push_back(reply);
        }
    }

    /// Lets a copy live on with a disk that ends everything at once, and takes from it what is
    /// wanted.
    fn ahead_of(
        &self,
        now: Instant,
        wall_ms: u64,
        input: keeper::Input,
        wanted: impl Fn(&Told) -> bool,
    ) -> Vec<Told> {
        let mut copy = self.clone();
        copy.turn = None;
        copy.input(now, wall_ms, input);
        let mut ops: VecDeque<Op> = self.out.iter().map(|op| Op(*op)).collect();
        let mut found = Vec::new();
        for _ in 0..64 {
            for output in copy.outputs.drain(..) {
                match output {
                    output if wanted(&output) => found.push(output),
                    Output::Disk { op, .. } => ops.push_back(Op(op)),
                    _ => {}
                }
            }
            let Some(op) = ops.pop_front() else {
                break;
            };
            copy.input(now, wall_ms, keeper::Input::Done(op));
        }
        found
    }
}

/// What a process of the kernel gives.
type Told = Output<Reply, Event>;

/// Makes the kernel anew of its own rows, those of one table changed: what a wrong kernel would
/// have done to its state.
fn rewrite(kernel: &mut Kernel, table: &str, change: impl Fn(&Vec<u8>, Vec<u8>) -> Vec<u8>) {
    let _ = kernel.root(); // So that all of the state is in the tables.
    let mut new = Kernel::new(kernel_config()).expect("the configuration is legal");
    for (number, name) in KernelPart::TABLES.iter().enumerate() {
        let stored = KernelPart::table(kernel, number).expect("a part has the tables it names");
        let mut frozen = stored.freeze();
        let mut bytes = Vec::new();
        frozen.take(&mut bytes, usize::MAX);
        let stored = KernelPart::table(&mut new, number).expect("a part has the tables it names");
        for (key, row) in rows(&bytes) {
            let row = if *name == table { change(&key, row) } else { row };
            stored.put(&key, &row).expect("a row that was frozen can be put");
        }
    }
    KernelPart::derive(&mut new);
    *kernel = new;
}

/// Splits what a frozen table gives.
fn rows(bytes: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut reader, mut rows) = (Reader::new(bytes), Vec::new());
    while reader.remaining() > 0 {
        let mut length = || reader.u32().map(|length| length as usize);
        let (key, value) = (length().expect("a whole row"), length().expect("a whole row"));
        let mut take = |count| reader.take(count).expect("a whole row").to_vec();
        rows.push((take(key), take(value)));
    }
    rows
}

/// Returns the question that a command answers.
const fn answered(body: &CommandBody) -> Option<&InterruptId> {
    match body {
        CommandBody::ResolveInterrupt { id, .. } => Some(id),
        _ => None,
    }
}

/// Returns the process that a command names.
#[must_use]
pub fn subject(body: &CommandBody) -> Option<ProcessId> {
    match body {
        CommandBody::Start { .. }
        | CommandBody::Tick
        | CommandBody::NextRunnable
        | CommandBody::CheckRateLimit { .. }
        | CommandBody::SetRateLimit { .. }
        | CommandBody::ResetRateLimits { .. }
        | CommandBody::Cleanup
        | CommandBody::Drain { .. }
        | CommandBody::Shutdown { .. }
        | CommandBody::Stop { .. }
        | CommandBody::CreateEnvelope(_)
        | CommandBody::UpdateEnvelope { .. }
        | CommandBody::CloneEnvelope { .. }
        | CommandBody::ResolveInterrupt { .. }
        | CommandBody::CancelInterrupt { .. }
        | CommandBody::ConsumeApproval(_)
        | CommandBody::RegisterService(_)
        | CommandBody::UnregisterService { .. }
        | CommandBody::UpdateHealth { .. }
        | CommandBody::BindHandler { .. }
        | CommandBody::UnbindHandler { .. }
        | CommandBody::AcquireSlot { .. }
        | CommandBody::ReleaseSlot { .. }
        | CommandBody::RenewLease { .. }
        | CommandBody::Dispatch(_)
        | CommandBody::DispatchInference(_)
        | CommandBody::LeaseTasks { .. }
        | CommandBody::CompleteTask(_)
        | CommandBody::CancelDispatch { .. } => None,
        CommandBody::Submit(submit) => submit.pid.clone(),
        CommandBody::ExecutePipeline(asked) => asked.submit.pid.clone(),
        CommandBody::InitializeSession(session) => Some(session.pid.clone()),
        CommandBody::ReportAgentResult(report) => Some(report.pid.clone()),
        CommandBody::NextInstruction { pid }
        | CommandBody::Schedule { pid }
        | CommandBody::TransitionState { pid, .. }
        | CommandBody::Terminate { pid, .. }
        | CommandBody::CleanupProcess { pid }
        | CommandBody::CreateInterrupt { pid, .. }
        | CommandBody::Settle { pid, .. }
        | CommandBody::Release { pid, .. }
        | CommandBody::AdjustQuota { pid, .. } => Some(pid.clone()),
        CommandBody::Reserve(reserve) => Some(reserve.pid.clone()),
        CommandBody::RecordUsage(record) => Some(record.pid.clone()),
    }
}

impl Guest for Clerk {
    type Request = Command;
    type Question = Asked;
    type Reply = Reply;
    type Event = Event;
    type Kind = Config;
    type Crowd = Crowds;
    type Turn = Turn;
    type Memory = Known;

    fn kind(kept: &Kept, turn: Option<Turn>) -> Config {
        let limits = Limits {
            segment_bytes: 1 << 20,
            write_bytes_max: 64 << 10,
            unsynced_max: 256 << 10,
            // Who comes back after a while shall find what it has missed.
            journal_keep: match (kept.keep, kept.readers) {
                (Some(keep), _) => Duration::from_nanos(keep),
                (None, 0) => Duration::ZERO,
                (None, _) => Duration::from_secs(86_400),
            },
        };
        let mut kernel = kernel_config();
        if matches!(kept.work.script, Script::Services | Script::Drain) {
            kernel = services::config(kernel);
        }
        if kept.work.script == Script::Executor {
            kernel = KernelConfig { task_lease_ms: 1_000, executor_max: 4, ..kernel };
        }
        if turn == Some(Turn::NeverAges) {
            kernel.ageing_ms = 1 << 40;
        }
        let params = KeeperParams {
            node: NODE,
            kernel,
            journal: journal::Config::new(limits).expect("the limits are legal"),
            snapshots: SnapshotConfig {
                records: kept.snapshots,
                bytes: 1 << 30,
                retry: Duration::from_secs(1),
            },
            seed: [0; 32],
        };
        let lot = match turn {
            Some(Turn::SkipsAnEvent) => Lot { skips: 1, ..Lot::default() },
            Some(Turn::OverstatesOldest) => Lot { overstates: 1, ..Lot::default() },
            Some(_) | None => Lot::default(),
        };
        let readers = Lot { count: kept.readers, stays_away: kept.keep.is_some(), ..lot };
        Config { params, turn, readers }
    }

    fn start(kind: &Config, now: Instant, wall_ms: u64, seed: [u8; 32]) -> Self {
        let params = KeeperParams { seed, ..kind.params.clone() };
        let keeper = Keeper::new(now, Time::from_millis(wall_ms), params);
        let keeper = Some(keeper.expect("the configuration is legal"));
        let outputs = VecDeque::new();
        let mut clerk = Self {
            keeper,
            turn: kind.turn,
            outputs,
            seen: 0,
            answered: Vec::new(),
            told: (0, Arc::new([])),
            out: BTreeSet::new(),
            readers: Readers::new(kind.readers),
            answers: services::Answers::new(),
            place: services::Place::default(),
        };
        clerk.follow();
        clerk
    }

    fn memory(&self) -> Known {
        self.readers.known()
    }

    fn remember(&mut self, known: &Known) {
        self.readers.remember(known);
    }

    fn handle(&mut self, now: Instant, input: Input<Command>) {
        match input {
            Input::Tick { wall_ms } => self.input(now, wall_ms, keeper::Input::Tick),
            Input::Call { call, wall_ms, nonce: _, request } => {
                self.command(now, wall_ms, call, request);
            }
            Input::Answer { op, answer, wall_ms } => {
                self.out.remove(&op);
                let op = Op(op);
                let listed = |(name, bytes)| Listed { name, bytes };
                let input = match answer {
                    Answer::Done => keeper::Input::Done(op),
                    Answer::Read(bytes) => keeper::Input::Read(op, bytes),
                    Answer::Listed(files) => {
                        keeper::Input::Listed(op, files.into_iter().map(listed).collect())
                    }
                    Answer::Failed(Failure::NoSpace) => {
                        keeper::Input::Failed(op, DiskError::NoSpace)
                    }
                    Answer::Failed(Failure::Short) => keeper::Input::Failed(op, DiskError::Short),
                    Answer::Failed(Failure::Device) => keeper::Input::Failed(op, DiskError::Device),
                };
                self.input(now, wall_ms, input);
            }
        }
    }

    fn inquire(&mut self, now: Instant, wall_ms: u64, call: Number, asked: Asked) {
        if self.turned(Turn::TellsAtApply) {
            self.tell_ahead(now, wall_ms, call, &asked);
        }
        self.ask((now, wall_ms), call, asked.by, asked.query);
    }

    fn poll(&mut self) -> Option<Output<Reply, Event>> {
        let output = self.outputs.pop_front()?;
        Some(self.turn_told(output))
    }

    fn deadline(&self) -> Instant {
        self.keeper.as_ref().map_or(Instant::FAR, Keeper::deadline)
    }

    fn appended(&self) -> u64 {
        let journal = self.keeper.as_ref().and_then(Keeper::journal);
        journal.map_or(0, machines::ledger::journal::Journal::appended)
    }

    fn root(&mut self) -> Option<StateRoot> {
        self.keeper.as_mut()?.kernel_mut().map(Kernel::root)
    }

    fn tells_nothing(reply: &Reply) -> bool {
        matches!(reply, Err(refusal) if is_of_now(refusal.code))
    }

    fn is_done(reply: &Reply) -> bool {
        reply.is_ok()
    }

    fn unsynced_max(kind: &Config) -> u64 {
        let limits = kind.params.journal.limits();
        // Two writes, and the record that is taken before the journal says that it is busy.
        limits.unsynced_max + 3 * limits.write_bytes_max
    }

    fn held(&self) -> u64 {
        let journal = self.keeper.as_ref().and_then(Keeper::journal);
        journal.map_or(0, machines::ledger::journal::Journal::held)
    }
}

/// Whether a refusal says nothing but that nothing is taken now.
fn is_of_now(code: Code) -> bool {
    [Code::NotDurable, Code::Busy, Code::DiskFull, Code::Overloaded].contains(&code)
}

fn operation(action: Action) -> Operation {
    let path = |file: File| format!("{}/{file}", file.folder().name());
    match action {
        Action::List(folder) => Operation::List { folder: folder.name().to_owned() },
        Action::Read { file, offset, bytes } => {
            Operation::ReadAt { file: path(file), offset, bytes }
        }
        Action::Create { file, zeros } => Operation::Create { file: path(file), bytes: zeros },
        Action::Write { file, offset, bytes } => {
            Operation::Write { file: path(file), offset, bytes: Arc::clone(&bytes) }
        }
        Action::Sync(file) => Operation::Sync { file: path(file) },
        Action::Rename { from, to } => Operation::Rename { from: path(from), to: path(to) },
        Action::Remove(file) => Operation::Remove { file: path(file) },
        Action::SyncDir(folder) => Operation::SyncDir { folder: folder.name().to_owned() },
    }
}
