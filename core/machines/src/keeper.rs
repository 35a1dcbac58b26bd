//! The keeper: a kernel whose decisions are durable before anyone hears of them (DESIGN 2, K5).
//!
//! ```text
//!           sound snapshot,           all records        the journal's
//!           or none                   applied            first segment
//!   new ─► Loading ───────► Replaying ─────────► Running ─────────────► … ─► Stopping ─► Stopped
//!             │                │                    │ the disk failed too often
//!             ▼                ▼                    ▼
//!           Refused         Refused              Stalled
//!
//!   Running:   command ─► ticks that are due ─► decide, apply ─► Append ─┐
//!                                                    reply, held back    │
//!                       released ◄─ Durable(n) ◄─ write, sync ◄──────────┘
//! ```
//!
//! It owns the kernel, the journal, the recovery that comes before it, the writer of snapshots, and
//! the [`Executor`], which asks for things like anybody; they do not call each other. It reads no
//! clock: each input comes with monotonic time, by which
//! the disk is waited for, and with the time of day, which is the kernel's (K7).
//!
//! # What a call may see
//!
//! Whatever a reply tells was decided on a state that includes events that may not be durable yet.
//! So each reply, a refusal too, waits until all records appended when it was computed are durable.
//!
//! # Known limits
//!
//! Events of one decision are one record, and a record has at most
//! [`body_bytes_max`](crate::ledger::journal::io::Config::body_bytes_max) bytes, 16 MiB by default.
//! The kernel knows it: what its limits say of the length of a decision is lowered to that
//! ([`KernelConfig::within`]), batches end in time, and a command whose decision would be longer is
//! refused `too_large`. A decision that is too long all the same is wrong code: it cannot be kept,
//! so the keeper stalls, and the decision never happened. Journals whose records take less than a
//! mebibyte are for tests: there a step of a deadline alone can be longer.

#[cfg(test)]
mod golden;
pub mod io;
mod loading;
#[cfg(test)]
mod rig;
mod streams;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::ids::NodeId;
use crate::executor::{self, Executor, Ticket};
use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::effect::{Effect, effects};
use crate::kernel::event::Event;
use crate::kernel::part::KernelPart;
use crate::kernel::principal::Principal;
use crate::kernel::query::{Answer, Query};
use crate::kernel::reply::Reply;
use crate::kernel::stream::Reading;
use crate::kernel::{At, Code, Command, CommandBody, Kernel, Refusal, Time};
use crate::ledger::fold::{Held, PartState, put_event};
use crate::ledger::journal::Journal;
use crate::ledger::journal::io::{self as journal, Config, Decision, DiskError, Refused};
use crate::ledger::places::{End, Places};
use crate::ledger::record::Frame;
use crate::ledger::recovery::io::{Head, Recovered};
use crate::ledger::snapshot::{self, FrozenState, SnapshotConfig, SnapshotWriter};
use crate::sometimes;
use crate::time::Instant;
use io::{Action, Before, Call, Decided, File, Folder, Input, Op, Output, Reader, RefusedStart};
use loading::Loading;
use streams::Streams;

/// How many replies may wait for the disk before commands are refused `overloaded`. Such a refusal
/// tells nothing that could be lost, and does not wait.
pub const HELD_MAX: usize = 65_536;

/// How many rows and nodes are hashed at a time before a snapshot: no command waits for all of them
/// (L95).
const SETTLED_MAX: u32 = 512;

/// Bytes that the events of most decisions fit into, so that they are written without growing.
const BODY_USUAL: usize = 2_048;

/// How much of what the executor asks for is decided in a turn, so that others have theirs (K290).
const OWN_MAX: u32 = 64;

/// What a nonce is drawn for.
const COMMAND: u8 = 0;
/// See [`COMMAND`].
const TICK: u8 = 1;

/// What a keeper is made of.
#[derive(Clone, Debug)]
pub struct KeeperParams {
    /// Whose data folder it is.
    pub node: NodeId,
    /// The kernel's configuration from this start on (K11).
    pub kernel: KernelConfig,
    /// The journal's limits.
    pub journal: Config,
    /// When snapshots are due.
    pub snapshots: SnapshotConfig,
    /// Drawn at this start; what the nonces of decisions are made of (K8).
    pub seed: [u8; 32],
}

/// Which machine an operation belongs to, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Loading,
    Recovery(journal::Op),
    Journal(journal::Op, Kind),
    Snapshots(snapshot::Op),
    Stream(Reader),
}

/// What the journal is told when an operation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Write,
    Sync,
    Other,
}

/// Something that waits until a record is durable.
#[derive(Clone, Debug)]
enum Waiting {
    Reply(Call, Result<Decided, Box<Refusal>>),
    Answer(Call, Result<Box<Answer>, Box<Refusal>>),
    Events {
        first: u64,
        events: Arc<[Event]>,
        /// What is done when they are durable.
        effects: Vec<Effect>,
    },
    /// What the executor asked for (K290).
    Own(Ticket, Result<Box<Reply>, Box<Refusal>>),
    /// See [`Waiting::Own`].
    OwnAnswer(Ticket, Result<Box<Answer>, Box<Refusal>>),
}

/// A keeper at work.
#[derive(Clone, Debug)]
struct Running {
    kernel: Kernel,
    journal: Journal,
    snapshots: SnapshotWriter,
    streams: Streams,
    executor: Executor,
    /// The last events of records that are not durable yet.
    ends: VecDeque<End>,
    /// What waits, by the record that it waits for; never decreasing.
    held: VecDeque<(u64, Waiting)>,
    /// The start is not decided yet: a crash left too much that is not known to be durable.
    starting: bool,
    stopping: bool,
}

#[derive(Clone, Debug)]
enum Phase {
    Loading(Box<Loading>),
    Running(Box<Running>),
    /// Nothing is decided any more, and nothing will be: stalled, stopped or refused.
    Ended(Refusal),
}

/// The keeper of one data folder.
#[derive(Clone, Debug)]
pub struct Keeper {
    params: KeeperParams,
    phase: Phase,
    /// Operations that are out.
    out: Vec<(Op, Lane)>,
    ops: u64,
    /// The last input's times, which relate the two clocks.
    clocks: (Instant, Time),
    outputs: VecDeque<Output>,
}

impl Keeper {
    /// Makes the keeper of a data folder, which it begins to read.
    ///
    /// # Errors
    ///
    /// What is wrong with the kernel's configuration.
    pub fn new(now: Instant, wall: Time, mut params: KeeperParams) -> Result<Self, Refusal> {
        params.kernel = params.kernel.within(params.journal.body_bytes_max());
        let kernel = Kernel::new(params.kernel.clone())?;
        let loading = Box::new(Loading::new(params.node, kernel));
        let mut keeper = Self {
            params,
            phase: Phase::Loading(loading),
            out: Vec::new(),
            ops: 0,
            clocks: (now, wall),
            outputs: VecDeque::new(),
        };
        keeper.load(None);
        Ok(keeper)
    }

    /// Lets time pass up to `now` and `wall`, then applies `input`.
    pub fn handle(&mut self, now: Instant, wall: Time, input: Input) {
        debug_assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        self.clocks = (now, wall);
        let asked = matches!(input, Input::Command { .. } | Input::Query { .. });
        match input {
            Input::Tick => self.disk(journal::Input::Tick),
            Input::Command { call, command } => self.command(call, &command),
            Input::Query { call, by, query } => self.query(call, &by, &query),
            Input::Open { reader, by, reading } => self.open(reader, *by, *reading),
            Input::Want(reader) => self.want(reader),
            Input::Close(reader) => self.close(reader),
            Input::Done(op) => self.done(op),
            Input::Read(op, bytes) => self.read(op, bytes),
            Input::Listed(op, files) => self.listed(op, files),
            Input::Failed(op, error) => self.failed(op, error),
            Input::Stop => self.stop(),
        }
        self.begin();
        self.tick(false);
        if !asked {
            // In a turn of its own: what a call changed is then what came of the call.
            self.drive();
        }
        self.snapshot();
    }

    /// Takes the next thing to do or to tell. Call until it returns `None` after `new` and every
    /// `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle` at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match &self.phase {
            Phase::Loading(_) | Phase::Ended(_) => Instant::FAR,
            Phase::Running(running) => {
                let (now, wall) = self.clocks;
                let due = match running.due() {
                    None => Instant::FAR,
                    Some(due) if due <= running.kernel.now(wall) => now,
                    Some(due) => now + Duration::from_millis(due.since(wall)),
                };
                let due = due.min(running.journal.deadline()).min(running.snapshot_due());
                due.min(running.executor_due(now))
            }
        }
    }

    /// Returns the kernel, once all that there was is applied.
    #[must_use]
    pub fn kernel(&self) -> Option<&Kernel> {
        match &self.phase {
            Phase::Running(running) => Some(&running.kernel),
            Phase::Loading(_) | Phase::Ended(_) => None,
        }
    }

    /// Returns the executor, once there is a kernel (K290).
    #[must_use]
    pub fn executor(&self) -> Option<&Executor> {
        match &self.phase {
            Phase::Running(running) => Some(&running.executor),
            Phase::Loading(_) | Phase::Ended(_) => None,
        }
    }

    /// Returns the journal, once it is being written.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        match &self.phase {
            Phase::Running(running) => Some(&running.journal),
            Phase::Loading(_) | Phase::Ended(_) => None,
        }
    }

    /// Returns the kernel to a simulation that breaks a promise on purpose (T32). Production has
    /// no use for it.
    pub fn kernel_mut(&mut self) -> Option<&mut Kernel> {
        match &mut self.phase {
            Phase::Running(running) => Some(&mut running.kernel),
            Phase::Loading(_) | Phase::Ended(_) => None,
        }
    }

    fn ask(&mut self, lane: Lane, action: Action) {
        self.ops += 1;
        let op = Op(self.ops);
        self.out.push((op, lane));
        self.outputs.push_back(Output::Disk(op, action));
    }

    /// Takes the operation off the list of those that are out.
    fn lane(&mut self, op: Op) -> Option<Lane> {
        let place = self.out.iter().position(|(own, _)| *own == op)?;
        Some(self.out.swap_remove(place).1)
    }

    fn done(&mut self, op: Op) {
        match self.lane(op) {
            Some(Lane::Journal(op, Kind::Write)) => self.disk(journal::Input::Wrote(op)),
            Some(Lane::Journal(op, Kind::Sync)) => self.disk(journal::Input::Synced(op)),
            Some(Lane::Journal(op, Kind::Other)) => self.disk(journal::Input::Done(op)),
            Some(Lane::Snapshots(op)) => self.shelf(snapshot::Input::Done(op)),
            Some(Lane::Loading | Lane::Recovery(_) | Lane::Stream(_)) | None => {}
        }
    }

    fn read(&mut self, op: Op, bytes: Vec<u8>) {
        match self.lane(op) {
            Some(Lane::Loading) => self.load(Some(loading::Input::Read(bytes))),
            Some(Lane::Recovery(op)) => self.load(Some(loading::Input::Record(op, bytes))),
            Some(Lane::Stream(reader)) => {
                if let Phase::Running(running) = &mut self.phase {
                    running.streams.read(reader, bytes);
                    self.stream();
                }
            }
            Some(Lane::Journal(..) | Lane::Snapshots(_)) | None => {}
        }
    }

    fn listed(&mut self, op: Op, files: Vec<io::Listed>) {
        match self.lane(op) {
            Some(Lane::Loading | Lane::Recovery(_)) => {
                self.load(Some(loading::Input::Listed(files)));
            }
            Some(Lane::Journal(..) | Lane::Snapshots(_) | Lane::Stream(_)) | None => {}
        }
    }

    fn failed(&mut self, op: Op, error: DiskError) {
        match self.lane(op) {
            Some(Lane::Loading) => self.load(Some(loading::Input::Failed(None, error))),
            Some(Lane::Recovery(op)) => self.load(Some(loading::Input::Failed(Some(op), error))),
            Some(Lane::Journal(op, _)) => self.disk(journal::Input::Failed(op, error)),
            Some(Lane::Snapshots(op)) => {
                self.shelf(snapshot::Input::Failed { op, error: error.to_string() });
            }
            Some(Lane::Stream(reader)) => {
                if let Phase::Running(running) = &mut self.phase {
                    running.streams.failed(reader, error);
                    self.stream();
                }
            }
            None => {}
        }
    }

    /// Goes on with the reading of what there is.
    fn load(&mut self, input: Option<loading::Input>) {
        let Phase::Loading(loading) = &mut self.phase else {
            return;
        };
        if let Some(input) = input {
            loading.handle(input);
        }
        while let Phase::Loading(loading) = &mut self.phase {
            match loading.poll() {
                None => return,
                Some(loading::Output::Own(action)) => self.ask(Lane::Loading, action),
                Some(loading::Output::Recovery(op, action)) => {
                    self.ask(Lane::Recovery(op), action);
                }
                Some(loading::Output::Refused(why)) => {
                    self.phase = Phase::Ended(not_durable("the node did not start"));
                    self.outputs.push_back(Output::Refused(why));
                }
                Some(loading::Output::Loaded(loaded)) => self.start(*loaded),
            }
        }
    }

    /// All is applied: opens the journal and decides the start (K11).
    fn start(&mut self, loaded: loading::Loaded) {
        let loading::Loaded { kernel, recovered, shelf, mut report, bytes } = loaded;
        report.before = before(&kernel);
        let now = self.clocks.0;
        let Recovered { durable, .. } = recovered;
        let streams = streams_of(self.params.node, &kernel, &recovered);
        let config = self.params.journal.clone();
        let journal = Journal::new(now, config, self.params.node, recovered);
        let mut snapshots = SnapshotWriter::new(self.params.snapshots, shelf, durable);
        let appended = snapshot::Input::Appended { records: report.replayed, bytes };
        snapshots.handle(now, appended).expect("only a beginning is refused");
        let (held, starting, stopping) = (VecDeque::new(), true, false);
        let ends = VecDeque::from([End { record: report.record, event: report.events }]);
        let executor = Executor::new(&self.params.kernel);
        let running = Running {
            kernel,
            journal,
            snapshots,
            streams,
            executor,
            ends,
            held,
            starting,
            stopping,
        };
        self.phase = Phase::Running(Box::new(running));
        self.outputs.push_back(Output::Started(Box::new(report)));
        self.drain();
        self.begin();
    }

    /// Decides the start, which comes before all else, once the journal takes it (K11): a crash may
    /// have left as much without a proof as may wait for the disk, and is no reason not to start
    /// (L22, L74). Neither is a disk on which there is room for that and no more. What is told to
    /// stop before decides no start any more (L16).
    fn begin(&mut self) {
        let wall = self.clocks.1;
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let waits = running.stopping || running.journal.room(true) == Err(Refused::Busy);
        if !running.starting || waits {
            return;
        }
        running.starting = false;
        let body = CommandBody::Start { config: Box::new(self.params.kernel.clone()) };
        let at = At { now: wall, nonce: self.nonce() };
        if let Err(refusal) = self.decide(at, &node_command(body), true) {
            self.end(refusal.clone());
            let why = RefusedStart::Config(refusal);
            self.outputs.push_back(Output::Refused(Box::new(why)));
        }
        self.tell_executor(executor::Input::Begin);
    }

    /// Lets the executor know the time, and decides what it asks for like anybody's (K290).
    fn drive(&mut self) {
        self.tell_executor(executor::Input::Tick);
        for _ in 0..OWN_MAX {
            let Phase::Running(running) = &mut self.phase else {
                return;
            };
            if running.starting || running.stopping {
                return;
            }
            match running.executor.poll() {
                None => return,
                Some(executor::Output::Command(ticket, body)) => self.own_command(ticket, *body),
                Some(executor::Output::Query(ticket, query)) => self.own_query(ticket, &query),
            }
        }
    }

    fn own_command(&mut self, ticket: Ticket, body: CommandBody) {
        let command = node_command(body);
        let (wall, frees) = (self.clocks.1, command.body.frees());
        self.tick(frees);
        if let Err(refusal) = self.check_open(Some(&command)) {
            return self.tell(Waiting::Own(ticket, Err(Box::new(refusal))));
        }
        let decided = self.decide(At { now: wall, nonce: self.nonce() }, &command, frees);
        let reply = decided.map(|decided| decided.reply);
        self.hold(Waiting::Own(ticket, reply.map_err(Box::new)));
    }

    fn own_query(&mut self, ticket: Ticket, query: &Query) {
        let wall = self.clocks.1;
        self.tick(false);
        if let Err(refusal) = self.check_open(None) {
            return self.tell(Waiting::OwnAnswer(ticket, Err(Box::new(refusal))));
        }
        let Phase::Running(running) = &self.phase else {
            return;
        };
        let answer = running.kernel.query(wall, &Principal::node(), query);
        self.hold(Waiting::OwnAnswer(ticket, answer.map(Box::new).map_err(Box::new)));
    }

    fn tell_executor(&mut self, input: executor::Input<'_>) {
        let (now, wall) = self.clocks;
        if let Phase::Running(running) = &mut self.phase
            && !running.starting
        {
            let time = running.kernel.now(wall);
            running.executor.handle(now, time, input);
        }
    }

    /// Tells what need not wait any more.
    fn tell(&mut self, waiting: Waiting) {
        match waiting {
            Waiting::Reply(call, decided) => self.outputs.push_back(Output::Reply(call, decided)),
            Waiting::Answer(call, answer) => self.outputs.push_back(Output::Answer(call, answer)),
            Waiting::Events { first, events, effects } => {
                events.iter().for_each(|event| self.tell_of(event));
                self.outputs.push_back(Output::Events { first, events });
                self.outputs.extend(effects.into_iter().map(Output::Effect));
            }
            Waiting::Own(ticket, reply) => {
                let reply = reply.as_ref().map(|reply| &reply.done).map_err(|refusal| &**refusal);
                self.tell_executor(executor::Input::Reply(ticket, reply));
            }
            Waiting::OwnAnswer(ticket, told) => {
                let told = told.as_ref().map(|answer| &answer.told).map_err(|refusal| &**refusal);
                self.tell_executor(executor::Input::Answer(ticket, told));
            }
        }
    }

    /// Tells the executor what happened, if it matters to it. Whether the node drives a process
    /// never changes, so that it is no secret of what is not durable yet.
    fn tell_of(&mut self, event: &Event) {
        if Executor::follows(event) {
            let pid = event.subject.pid.as_ref();
            let process = pid.and_then(|pid| self.kernel()?.process(pid));
            let driven = process.is_some_and(|process| process.driven);
            self.tell_executor(executor::Input::Event { event, driven });
        }
    }

    fn command(&mut self, call: Call, command: &Command) {
        let (wall, frees) = (self.clocks.1, command.body.frees());
        self.tick(frees);
        if let Err(refusal) = self.check_open(Some(command)) {
            self.outputs.push_back(Output::Reply(call, Err(Box::new(refusal))));
            return;
        }
        let decided = self.decide(At { now: wall, nonce: self.nonce() }, command, frees);
        self.hold(Waiting::Reply(call, decided.map_err(Box::new)));
    }

    /// Refuses what cannot be decided or answered now, whatever the state (L22, L23, K365).
    fn check_open(&self, command: Option<&Command>) -> Result<(), Refusal> {
        let running = match &self.phase {
            Phase::Loading(_) => return Err(not_durable("the node is starting")),
            Phase::Ended(refusal) => return Err(refusal.clone()),
            Phase::Running(running) if running.starting => {
                return Err(not_durable("the node is starting"));
            }
            Phase::Running(running) => running,
        };
        if running.held.len() >= HELD_MAX {
            return Err(overloaded());
        }
        match command {
            None => Ok(()),
            Some(_) if running.stopping => {
                Err(Refusal::new(Code::Draining, "the node is stopping"))
            }
            Some(command) => running.journal.room(command.body.frees()).map_err(no_room),
        }
    }

    /// Answers from the state as it is; the answer waits like a reply (K5).
    fn query(&mut self, call: Call, by: &Principal, query: &Query) {
        let wall = self.clocks.1;
        self.tick(false);
        if let Err(refusal) = self.check_open(None) {
            self.outputs.push_back(Output::Answer(call, Err(Box::new(refusal))));
            return;
        }
        let Phase::Running(running) = &self.phase else {
            return;
        };
        let answer = running.kernel.query(wall, by, query);
        self.hold(Waiting::Answer(call, answer.map(Box::new).map_err(Box::new)));
    }

    /// Opens a reader of events.
    fn open(&mut self, reader: Reader, by: Principal, reading: Reading) {
        let opened = match &mut self.phase {
            Phase::Loading(_) => Err(not_durable("the node is starting")),
            Phase::Ended(refusal) => Err(refusal.clone()),
            Phase::Running(running) => running.streams.open(reader, by, reading),
        };
        if let Err(refusal) = opened {
            self.outputs.push_back(Output::Ended(reader, Box::new(refusal)));
        }
    }

    /// A reader wants more. One that there is not any more is told so.
    fn want(&mut self, reader: Reader) {
        match &mut self.phase {
            Phase::Running(running) if running.streams.has(reader) => {
                running.streams.want(reader);
                self.stream();
            }
            Phase::Loading(_) | Phase::Running(_) | Phase::Ended(_) => {
                let why = match &self.phase {
                    Phase::Ended(refusal) => refusal.clone(),
                    Phase::Loading(_) | Phase::Running(_) => {
                        Refusal::new(Code::NotDurable, "the reader has ended")
                    }
                };
                self.outputs.push_back(Output::Ended(reader, Box::new(why)));
            }
        }
    }

    fn close(&mut self, reader: Reader) {
        if let Phase::Running(running) = &mut self.phase {
            running.streams.close(reader);
        }
    }

    /// Does what the readers want.
    fn stream(&mut self) {
        use streams::Output as Wanted;
        while let Phase::Running(running) = &mut self.phase {
            match running.streams.poll() {
                None => return,
                Some(Wanted::Read { reader, file, offset, bytes }) => {
                    let action = Action::Read { file: File::Journal(file), offset, bytes };
                    self.ask(Lane::Stream(reader), action);
                }
                Some(Wanted::Batch(reader, batch)) => {
                    self.outputs.push_back(Output::Batch(reader, Box::new(batch)));
                }
                Some(Wanted::Ended(reader, why)) => {
                    self.outputs.push_back(Output::Ended(reader, Box::new(why)));
                }
            }
        }
    }

    /// Decides, applies and appends, on a full disk too if it `frees`; what it makes visible is
    /// held back.
    fn decide(&mut self, at: At, command: &Command, frees: bool) -> Result<Decided, Refusal> {
        let Phase::Running(running) = &mut self.phase else {
            return Err(not_durable("the journal is closed"));
        };
        let first = running.kernel.last_event() + 1;
        let events: Arc<[Event]> = running.kernel.execute(at, command)?.into();
        let reply = Box::new(running.kernel.reply(at.now, command, &events));
        let state = running.kernel.state();
        let effects = events.iter().flat_map(|event| effects(event, state)).collect();
        let decided = Decided { reply, events: Arc::clone(&events) };
        if events.is_empty() {
            return Ok(decided);
        }
        let now = self.clocks.0;
        if let Err(refused) = running.append(now, frees, &events) {
            // Nothing was told of what was applied, and nothing will be.
            self.end(no_room(refused));
            self.outputs.push_back(Output::Stalled(DiskError::Short));
            return Err(no_room(refused));
        }
        self.drain();
        self.hold(Waiting::Events { first, events, effects });
        Ok(decided)
    }

    /// Draws the nonce of a command (K8). It follows from what happened before, not from how many
    /// decisions that took (K435); one that made no event has left nothing that was drawn.
    fn nonce(&self) -> [u8; 16] {
        let last = self.kernel().map_or(0, Kernel::last_event);
        self.draw(COMMAND, last)
    }

    fn draw(&self, what: u8, number: u64) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.params.seed);
        hasher.update(&[what]);
        hasher.update(&number.to_le_bytes());
        let mut nonce = [0; 16];
        hasher.finalize_xof().fill(&mut nonce);
        nonce
    }

    /// Lets every passed deadline of the kernel act (K10), as long as the journal has room. All
    /// ticks of one moment have one nonce, however many they are (K435). On a full disk they wait
    /// (L23), unless a command follows that `frees`: what was due comes before that, too.
    fn tick(&mut self, frees: bool) {
        let wall = self.clocks.1;
        loop {
            let Phase::Running(running) = &self.phase else {
                return;
            };
            // The kernel's time does not go back with the clock, and what was due stays due (K10).
            let due = running.kernel.next_deadline();
            let due = due.is_some_and(|due| due <= running.kernel.now(wall));
            if !due || running.starting || running.stopping || running.journal.room(frees).is_err()
            {
                return;
            }
            let at = At { now: wall, nonce: self.draw(TICK, wall.as_millis()) };
            if self.decide(at, &node_command(CommandBody::Tick), frees).is_err() {
                return;
            }
        }
    }

    /// Gives the journal an input and does what it wants.
    fn disk(&mut self, input: journal::Input) {
        let now = self.clocks.0;
        if let Phase::Running(running) = &mut self.phase {
            let taken = running.journal.handle(now, input);
            debug_assert!(taken.is_ok(), "only records are refused");
            self.drain();
        }
    }

    /// Does what the journal and the writer of snapshots want, until neither wants any more.
    fn drain(&mut self) {
        if let Phase::Running(running) = &mut self.phase {
            // A segment that was begun begins behind what was durable before this.
            running.streams.follow(running.journal.segments());
        }
        while let Phase::Running(running) = &mut self.phase {
            if let Some(output) = running.journal.poll() {
                self.journal_wants(output);
            } else if let Some(output) = running.snapshots.poll() {
                self.snapshots_want(output);
            } else {
                return;
            }
        }
    }

    fn journal_wants(&mut self, output: journal::Output) {
        use journal::Output as Wanted;
        let file = File::Journal;
        match output {
            Wanted::Create { op, file: name, bytes } => {
                let action = Action::Create { file: file(name), zeros: bytes };
                self.ask(Lane::Journal(op, Kind::Other), action);
            }
            Wanted::Write { op, file: name, offset, bytes } => {
                let action = Action::Write { file: file(name), offset, bytes };
                self.ask(Lane::Journal(op, Kind::Write), action);
            }
            Wanted::Sync { op, file: name } => {
                self.ask(Lane::Journal(op, Kind::Sync), Action::Sync(file(name)));
            }
            Wanted::Rename { op, from, to } => {
                let action = Action::Rename { from: file(from), to: file(to) };
                self.ask(Lane::Journal(op, Kind::Other), action);
            }
            Wanted::Remove { op, file: name } => {
                self.ask(Lane::Journal(op, Kind::Other), Action::Remove(file(name)));
            }
            Wanted::SyncDir { op } => {
                self.ask(Lane::Journal(op, Kind::Other), Action::SyncDir(Folder::Journal));
            }
            Wanted::Durable(head) => self.release(head),
            Wanted::Stalled(error) => {
                let stopping = matches!(&self.phase, Phase::Running(it) if it.stopping);
                self.end(not_durable("the disk failed too often"));
                self.outputs.push_back(Output::Stalled(error));
                // Who asked for a stop asks no second time.
                self.outputs.extend(stopping.then_some(Output::Stopped));
            }
            Wanted::Stopped => {
                self.end(not_durable("the node has stopped"));
                self.outputs.push_back(Output::Stopped);
            }
        }
    }

    fn snapshots_want(&mut self, output: snapshot::Output) {
        use snapshot::Output as Wanted;
        let file = File::Snapshot;
        match output {
            Wanted::Create { op, file: name } => {
                let action = Action::Create { file: file(name), zeros: 0 };
                self.ask(Lane::Snapshots(op), action);
            }
            Wanted::Write { op, file: name, offset, bytes } => {
                let action = Action::Write { file: file(name), offset, bytes: Arc::new(bytes) };
                self.ask(Lane::Snapshots(op), action);
            }
            Wanted::Sync { op, file: name } => {
                self.ask(Lane::Snapshots(op), Action::Sync(file(name)));
            }
            Wanted::Rename { op, from, to } => {
                let action = Action::Rename { from: file(from), to: file(to) };
                self.ask(Lane::Snapshots(op), action);
            }
            Wanted::SyncDir { op } => {
                self.ask(Lane::Snapshots(op), Action::SyncDir(Folder::Snapshots));
            }
            Wanted::Remove { op, file: name } => {
                self.ask(Lane::Snapshots(op), Action::Remove(file(name)));
            }
            Wanted::Current(header) => self.cover(header.record),
            Wanted::Abandoned { record, error } => {
                self.outputs.push_back(Output::SnapshotFailed { record, error });
            }
        }
    }

    /// A snapshot is current: what the one before it covers too may go (L43).
    fn cover(&mut self, current: u64) {
        let (now, wall) = self.clocks;
        self.outputs.push_back(Output::Snapshot { record: current });
        if let Phase::Running(running) = &mut self.phase {
            let older = running.snapshots.shelf().vouched_before(current);
            if let Some(record) = older {
                let covered = journal::Input::Covered { record, time_ms: wall.as_millis() };
                let taken = running.journal.handle(now, covered);
                debug_assert!(taken.is_ok(), "only records are refused");
            }
        }
    }

    /// Everything up to a record is durable: tells what waited for that (K5).
    fn release(&mut self, head: Head) {
        let now = self.clocks.0;
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let durable = snapshot::Input::Durable(head.record);
        running.snapshots.handle(now, durable).expect("only a beginning is refused");
        let is_durable = |end: &mut End| end.record <= head.record;
        let ends = std::iter::from_fn(|| running.ends.pop_front_if(is_durable));
        if let Some(end) = ends.last() {
            running.streams.durable(end);
        }
        while let Some(waiting) = self.released(head.record) {
            self.tell(waiting);
        }
        self.stream();
    }

    /// Takes the next thing that waits for a record up to this one.
    fn released(&mut self, record: u64) -> Option<Waiting> {
        match &mut self.phase {
            Phase::Running(running) => Some(running.held.pop_front_if(|held| held.0 <= record)?.1),
            Phase::Loading(_) | Phase::Ended(_) => None,
        }
    }

    /// Holds something back until all that is appended is durable.
    fn hold(&mut self, waiting: Waiting) {
        match &mut self.phase {
            Phase::Running(running) if running.journal.durable() < running.journal.appended() => {
                running.held.push_back((running.journal.appended(), waiting));
            }
            Phase::Loading(_) | Phase::Running(_) | Phase::Ended(_) => self.tell(waiting),
        }
    }

    /// Nothing is decided any more. Whoever waits is told that, and nothing else (K365).
    fn end(&mut self, refusal: Refusal) {
        let phase = mem::replace(&mut self.phase, Phase::Ended(refusal.clone()));
        if let Phase::Running(mut running) = phase {
            let ended = running.streams.end(&refusal);
            let ended = ended.map(|(reader, why)| Output::Ended(reader, Box::new(why)));
            self.outputs.extend(ended);
            let told = || Box::new(not_durable("the journal is closed"));
            self.outputs.extend(running.held.into_iter().filter_map(|(_, held)| match held {
                Waiting::Reply(call, _) => Some(Output::Reply(call, Err(told()))),
                Waiting::Answer(call, _) => Some(Output::Answer(call, Err(told()))),
                Waiting::Events { .. } | Waiting::Own(..) | Waiting::OwnAnswer(..) => None,
            }));
        }
    }

    fn stop(&mut self) {
        match &mut self.phase {
            Phase::Running(running) => {
                running.stopping = true;
                self.disk(journal::Input::Stop);
            }
            Phase::Loading(_) => {
                self.phase = Phase::Ended(not_durable("the node has stopped"));
                self.outputs.push_back(Output::Stopped);
            }
            Phase::Ended(_) => self.outputs.push_back(Output::Stopped),
        }
    }

    fn shelf(&mut self, input: snapshot::Input) {
        let now = self.clocks.0;
        if let Phase::Running(running) = &mut self.phase {
            running.snapshots.handle(now, input).expect("only a beginning is refused");
            self.drain();
        }
    }

    /// Begins a snapshot if one is due, and the hash of the last record is known (L40).
    fn snapshot(&mut self) {
        let (now, node) = (self.clocks.0, self.params.node);
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        let Some(head) = running.journal.head() else {
            return;
        };
        if head.record == 0 || running.stopping || !running.snapshots.is_due(now) {
            return;
        }
        let mut part = Held::<KernelPart>(&mut running.kernel);
        if part.settle(SETTLED_MAX) == 0 {
            sometimes!("keeper: a snapshot waits for the roots");
            return;
        }
        sometimes!("keeper: a snapshot is begun");
        let frozen = FrozenState::of(node, head.record, head.hash, &mut [&mut part]);
        let begun = running.snapshots.handle(now, snapshot::Input::Begin(frozen));
        debug_assert!(begun.is_ok(), "none is due while one is written");
        self.drain();
    }
}

impl Running {
    /// Returns when the kernel wants to be told the time.
    fn due(&self) -> Option<Time> {
        match self.starting || self.stopping || self.journal.room(false).is_err() {
            true => None,
            false => self.kernel.next_deadline(),
        }
    }

    /// Returns when the executor wants a turn: at once, if there is something that it asks for.
    fn executor_due(&self, now: Instant) -> Instant {
        match (self.starting || self.stopping, self.executor.is_asking()) {
            (true, _) => Instant::FAR,
            (false, true) => now,
            (false, false) => self.executor.deadline(),
        }
    }

    /// Returns when the next snapshot can be begun, if that is a matter of time alone: who waits
    /// for the disk is told by the disk.
    fn snapshot_due(&self) -> Instant {
        match self.journal.head().filter(|head| head.record > 0 && !self.stopping) {
            Some(_) => self.snapshots.deadline(),
            None => Instant::FAR,
        }
    }

    fn append(&mut self, now: Instant, frees: bool, events: &[Event]) -> Result<(), Refused> {
        let Some(last) = events.last() else {
            return Ok(());
        };
        let mut body = Vec::with_capacity(BODY_USUAL);
        for event in events {
            put_event::<KernelPart>(&mut body, event);
        }
        let bytes = body.len() as u64;
        let count = u32::try_from(events.len()).map_err(|_| Refused::TooLong)?;
        let time_ms = last.time.as_millis();
        let decision = Decision { time_ms, count, body, frees };
        self.journal.handle(now, journal::Input::Append(decision))?;
        self.ends
            .push_back(End { record: self.journal.appended(), event: self.kernel.last_event() });
        let appended = snapshot::Input::Appended { records: 1, bytes };
        self.snapshots.handle(now, appended).expect("only a beginning is refused");
        Ok(())
    }
}

/// Relates records and events as recovery found them: of the records that it could not prove
/// durable, the events are not yet.
fn streams_of(node: NodeId, kernel: &Kernel, recovered: &Recovered) -> Streams {
    let mut bytes = recovered.tail.as_ref().map_or(&[][..], |tail| tail.bytes.as_slice());
    let mut event = kernel.last_event();
    while let Ok(frame) = Frame::parse(bytes) {
        event -= u64::from(frame.fields.count);
        bytes = &bytes[frame.bytes().len()..];
    }
    let durable = End { record: recovered.durable, event };
    Streams::new(node, Places::new(&recovered.segments, durable), kernel.last_event())
}

/// Says how the run ended that a kernel knows last.
fn before(kernel: &Kernel) -> Before {
    let state = kernel.state();
    match (kernel.last_event(), state.is_stopped(), state.was_cut()) {
        (0, ..) => Before::Nothing,
        (_, false, _) => Before::Crash,
        (_, true, true) => Before::Cut,
        (_, true, false) => Before::Clean,
    }
}

fn node_command(body: CommandBody) -> Command {
    Command { by: Principal::node(), worker: None, rate: None, body }
}

fn overloaded() -> Refusal {
    Refusal::new(Code::Overloaded, format!("{HELD_MAX} replies wait for the disk"))
}

fn not_durable(text: &str) -> Refusal {
    Refusal::new(Code::NotDurable, text)
}

/// What callers are told while the journal takes nothing (L22, L23, K365).
fn no_room(refused: Refused) -> Refusal {
    match refused {
        Refused::Busy => Refusal::new(Code::Busy, "too much waits for the disk"),
        Refused::DiskFull => Refusal::new(Code::DiskFull, "the disk is full"),
        Refused::TooLong => Refusal::new(Code::NotDurable, "the decision is too long to keep"),
        Refused::Stopping => Refusal::new(Code::Draining, "the node is stopping"),
        Refused::Stalled => not_durable("the disk failed too often"),
    }
}
