//! One node's durable state alone: a process, its files, and those who ask it for something.
//!
//! ```text
//!   crowd ──call──► process ──operations──► files        kill, restart, power cut, bad disk,
//!     ▲                │  ▲                   │          clock jump: the plan of the scenario
//!     └────reply───────┘  └──────answer───────┘
//!                      └─► checkers: decisions, replies, roots, what stands on the platter
//! ```
//!
//! It stands beside [`World`](crate::world::World): the same seeds, overrides, plans, traces and
//! outcomes, without a cluster. Time is true time in nanoseconds; the wall clock of the node is
//! that plus what the plan makes it jump. The [`bus`] lives here as well, though it has no files:
//! a process that dies takes all of it along.
//!
//! A run can be a *sweep*: at every operation of the disk the power is cut, with each
//! [`Outcome`] in a copy of the world, and the copy starts again (ledger.md, section 8). Several
//! seeds share the cuts of one run, a [`Stripe`] each.

pub mod book;
pub mod bus;
pub mod checkers;
pub mod crowds;
pub mod driven;
mod fairness;
pub mod flows;
pub mod history;
pub mod io;
pub mod kernel;
pub mod lab;
pub mod ledger;
pub mod notes;
mod parts;
mod promises;
mod questions;
pub mod services;
mod sweep;
#[cfg(test)]
mod tests;
pub mod users;
pub mod writers;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use machines::choices::{Answer as Chosen, Overrides};
use machines::digest::Digest;
use machines::ledger::root::StateRoot;
use machines::{Choices, Instant};

use crate::agenda::Agenda;
use crate::checker::Violation;
use crate::files::{Answer, Fate, Files, Flight, Operation, Outcome as Left, Rotten};
use crate::plan::{Act, DiskFault, Planned};
use crate::strikes::Strikes;
use crate::world::{Ended, Line, Outcome};
use history::{History, Written};
use io::{Crowd, Decided, Guest, Heard, Input, Number, Output, Recovered, Work};
pub use sweep::Stripe;

/// Where the wall clock stands at the start of a run, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_700_000_000_000;
/// How long one waits for an answer before asking again.
const PATIENCE: u64 = 20_000_000_000;
/// How long who has nothing to ask waits.
const IDLE: u64 = 100_000_000;
/// The property of a run in which a process keeps its driver busy for nothing.
pub const SPIN: &str = "spin";
/// How often that may happen in a row.
const SPINS_MAX: u32 = 1_000;
/// How long after a refused start the next one is tried.
const RESTART: u64 = 5_000_000_000;

/// Everything that decides a run.
#[derive(Clone)]
pub struct Setup<G: Guest> {
    /// Decides every answer.
    pub seed: u64,
    /// Answers that replace the drawn ones.
    pub overrides: Arc<Overrides>,
    /// When the run ends.
    pub duration: u64,
    /// When the quiet period begins.
    pub quiet_at: u64,
    /// The most events.
    pub steps_max: u64,
    /// The faults.
    pub plan: Arc<Vec<Planned>>,
    /// What the crowd does.
    pub work: Work,
    /// How long an operation of the disk takes: at least, and up to so much more.
    pub disk: (u64, u64),
    /// Whether the run is a sweep, and which of its cuts are made.
    pub sweep: Option<Stripe>,
    /// For the processes.
    pub kind: G::Kind,
}

/// What an observer sees.
#[derive(Debug)]
pub enum Seen<'a, G: Guest> {
    /// A process began to read what there is.
    Starting,
    /// A start has read all.
    Recovered(&'a Recovered),
    /// A start was refused.
    Refused {
        /// In one word.
        reason: &'static str,
    },
    /// A decision was made.
    Decided(&'a Decided),
    /// A record is on its way to the disk.
    Written(&'a Written<'a>),
    /// An operation begins.
    Begins(&'a Operation),
    /// An operation has ended.
    Ended(&'a Operation, &'a Answer),
    /// An operation is about to be done for a process.
    Does(u32, &'a Operation),
    /// The process says that records up to this one are durable.
    Durable(u64),
    /// Events that everybody may see: those of one decision.
    Events(u64, &'a Arc<[G::Event]>),
    /// A call was handled: the last record and the root, before and after.
    Handled {
        /// What was asked.
        request: &'a G::Request,
        /// Before it.
        before: (u64, Option<StateRoot>),
        /// After it.
        after: (u64, Option<StateRoot>),
    },
    /// A call reached the process.
    Called(Number, &'a G::Request),
    /// A reply went out; it tells of records up to this one.
    Replied {
        /// To which call.
        call: Number,
        /// What was asked.
        request: &'a G::Request,
        /// What was answered.
        reply: &'a G::Reply,
        /// The last record when the answer was computed.
        needs: u64,
    },
    /// Something else that is seen outside: an answer to a question, or an effect of an event. It
    /// tells of records up to this one.
    Shown {
        /// What, in words.
        what: &'a str,
        /// The last record when it was computed.
        needs: u64,
    },
    /// A reader was given events.
    Read {
        /// Which.
        reader: u32,
        /// The last event that it knows of now.
        to: u64,
        /// What it was given, with numbers.
        events: &'a [(u64, G::Event)],
    },
    /// A reader was told that it comes too late, and what the oldest event is that is kept.
    Late {
        /// Which.
        reader: u32,
        /// The number of that event.
        oldest: u64,
    },
    /// The process is gone; with power, the machine is.
    Died {
        /// Whether the power failed.
        power: bool,
    },
    /// A bit has rotted.
    Rotted(&'a Rotten),
    /// Every fault has healed.
    Quiet,
}

/// Watches one property over a run.
pub trait Watch<G: Guest>: Send + CopyWatch<G> {
    /// Which property.
    fn property(&self) -> &'static str;

    /// Looks at something that has happened. Returns whether that could have broken the property:
    /// a watch that never saw such a thing has shown nothing.
    ///
    /// # Errors
    ///
    /// The evidence that the property is broken.
    fn see(&mut self, world: &World<G>, seen: &Seen<'_, G>) -> Result<bool, String>;

    /// The run is over.
    ///
    /// # Errors
    ///
    /// The evidence that the property is broken.
    fn end(&mut self, _world: &World<G>) -> Result<bool, String> {
        Ok(false)
    }
}

/// Copies a watch, for a world that is copied: any that is [`Clone`].
pub trait CopyWatch<G: Guest> {
    /// Copies it.
    fn copy(&self) -> Box<dyn Watch<G>>;
}

impl<G: Guest, W: Watch<G> + Clone + 'static> CopyWatch<G> for W {
    fn copy(&self) -> Box<dyn Watch<G>> {
        Box::new(self.clone())
    }
}

/// What is due.
#[derive(Clone, Copy, Debug)]
enum Due {
    Start,
    Answer(u32, Number),
    Timer(u32),
    Caller(u32),
    Impatient(u32, Number),
    Begin(u32),
    End(u32),
    Quiet,
}

impl Due {
    /// Names what a tie is about (T13).
    const fn who(self) -> [u64; 2] {
        match self {
            Self::Start => [0, 0],
            Self::Answer(process, _) => [2, process as u64],
            Self::Timer(process) => [3, process as u64],
            Self::Caller(caller) => [4, caller as u64],
            Self::Impatient(caller, _) => [5, caller as u64],
            Self::Begin(entry) => [6, entry as u64],
            Self::End(entry) => [7, entry as u64],
            Self::Quiet => [8, 0],
        }
    }
}

#[derive(Clone)]
struct Process<G: Guest> {
    number: u32,
    guest: G,
    flights: BTreeMap<Number, Flight>,
    wake: u64,
    up: bool,
    /// How often in a row it did nothing and wanted to be told the time at once.
    spins: u32,
}

/// A question that waits for its answer.
#[derive(Clone)]
struct Asked<G: Guest> {
    caller: u32,
    request: G::Request,
    /// The last record when it was answered; not yet known before.
    needs: u64,
}

/// Somebody waits to be told something.
#[derive(Clone, Copy, Debug)]
struct Inquiry {
    caller: u32,
    /// The last record when it was answered; not yet known before.
    needs: u64,
}

/// The world of one node's durable state.
pub struct World<G: Guest> {
    setup: Arc<Setup<G>>,
    now: u64,
    agenda: Agenda<Due>,
    choices: Choices,
    files: Files,
    history: History,
    processes: Vec<Process<G>>,
    /// What those know who were connected to the last process.
    memory: G::Memory,
    started: u32,
    crowd: G::Crowd,
    asked: BTreeMap<Number, Asked<G>>,
    inquiries: BTreeMap<Number, Inquiry>,
    calls: Number,
    /// How far the wall clock is off, in milliseconds.
    ahead_ms: i64,
    paused_until: u64,
    /// Nobody starts the process before.
    down_until: u64,
    /// Which entries of the plan are in force.
    active: Vec<u32>,
    /// A start was refused, and why.
    refused: Option<&'static str>,
    /// The last record that the last start found, and the root there.
    found: Option<(u64, Option<StateRoot>)>,
    quiet: bool,
    /// Of a sweep: how many operations have ended.
    cuts: u64,
    /// This is a copy in which the power was cut.
    is_fork: bool,
    hash: Digest,
    events: u64,
    ended: Option<Ended>,
    refusals: BTreeMap<&'static str, u64>,
    struck: Strikes,
    watches: Vec<Box<dyn Watch<G>>>,
    unsure: Option<Unsure<G>>,
    /// Property → how often its watch looked at something that could have broken it.
    armed: BTreeMap<&'static str, u64>,
    /// The first record that what was shown last told of and that was not durable.
    untrue: Option<u64>,
    trace: Option<Vec<Line>>,
    hashes: Option<Vec<u64>>,
}

/// A start found records that a power cut may still take.
struct Unsure<G: Guest> {
    /// The last of them.
    head: u64,
    /// The watches, as they were before they heard of it.
    before: Vec<Box<dyn Watch<G>>>,
}

impl<G: Guest> Unsure<G> {
    fn copy(&self) -> Self {
        Self { head: self.head, before: copies(&self.before) }
    }
}

fn copies<G: Guest>(watches: &[Box<dyn Watch<G>>]) -> Vec<Box<dyn Watch<G>>> {
    watches.iter().map(|watch| watch.copy()).collect()
}

impl<G: Guest> Clone for World<G> {
    fn clone(&self) -> Self {
        Self {
            setup: Arc::clone(&self.setup),
            now: self.now,
            agenda: self.agenda.clone(),
            choices: self.choices.clone(),
            files: self.files.clone(),
            history: self.history.clone(),
            processes: self.processes.clone(),
            memory: self.memory.clone(),
            started: self.started,
            crowd: self.crowd.clone(),
            asked: self.asked.clone(),
            inquiries: self.inquiries.clone(),
            calls: self.calls,
            ahead_ms: self.ahead_ms,
            paused_until: self.paused_until,
            down_until: self.down_until,
            active: self.active.clone(),
            refused: self.refused,
            found: self.found,
            quiet: self.quiet,
            cuts: self.cuts,
            is_fork: self.is_fork,
            hash: self.hash,
            events: self.events,
            ended: self.ended.clone(),
            refusals: self.refusals.clone(),
            struck: self.struck.clone(),
            watches: copies(&self.watches),
            unsure: self.unsure.as_ref().map(Unsure::copy),
            armed: self.armed.clone(),
            untrue: self.untrue,
            trace: None,
            hashes: None,
        }
    }
}

impl<G: Guest> World<G> {
    /// Makes a world in which nothing has happened yet.
    #[must_use]
    pub fn new(setup: Arc<Setup<G>>, watches: Vec<Box<dyn Watch<G>>>) -> Self {
        let choices = Choices::new(setup.seed).with_overrides(Arc::clone(&setup.overrides));
        let mut agenda = Agenda::with_capacity(64);
        for (entry, planned) in (0..).zip(setup.plan.iter()) {
            agenda.push(planned.at, Due::Begin(entry));
            if let Some(until) = planned.until {
                agenda.push(until, Due::End(entry));
            }
        }
        agenda.push(setup.quiet_at, Due::Quiet);
        agenda.push(0, Due::Start);
        for caller in 0..setup.work.callers {
            agenda.push(1 + u64::from(caller), Due::Caller(caller));
        }
        Self {
            now: 0,
            agenda,
            choices,
            files: Files::default(),
            history: History::default(),
            processes: Vec::new(),
            memory: G::Memory::default(),
            started: 0,
            crowd: G::Crowd::new(&setup.work),
            asked: BTreeMap::new(),
            inquiries: BTreeMap::new(),
            calls: 0,
            ahead_ms: 0,
            paused_until: 0,
            down_until: 0,
            active: Vec::new(),
            refused: None,
            found: None,
            quiet: false,
            cuts: 0,
            is_fork: false,
            hash: Digest::default(),
            events: 0,
            ended: None,
            refusals: BTreeMap::new(),
            struck: Strikes::default(),
            armed: watches.iter().map(|watch| (watch.property(), 0)).collect(),
            watches,
            unsure: None,
            untrue: None,
            trace: None,
            hashes: None,
            setup,
        }
    }

    /// Keeps the hash after each event.
    #[must_use]
    pub fn hashing(mut self) -> Self {
        self.hashes = Some(Vec::new());
        self
    }

    /// Keeps the answers of the run (T12).
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.choices = self.choices.recording();
        self
    }

    /// Keeps a line for each event.
    #[must_use]
    pub fn tracing(mut self) -> Self {
        self.trace = Some(Vec::new());
        self
    }

    /// Takes the hashes kept.
    pub fn take_hashes(&mut self) -> Vec<u64> {
        self.hashes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes the answers kept.
    pub fn take_recorded(&mut self) -> Vec<Chosen> {
        self.choices.take_recorded()
    }

    /// Takes the lines kept.
    pub fn take_trace(&mut self) -> Vec<Line> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Returns true time, in nanoseconds.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// Returns what the wall clock of the node shows.
    #[must_use]
    pub const fn wall_ms(&self) -> u64 {
        (EPOCH_MS + self.now / 1_000_000).saturating_add_signed(self.ahead_ms)
    }

    /// Returns the files.
    #[must_use]
    pub const fn files(&self) -> &Files {
        &self.files
    }

    /// Returns what is known of the records.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Returns what decides the run.
    #[must_use]
    pub fn setup(&self) -> &Setup<G> {
        &self.setup
    }

    /// Returns the process that serves, if one does.
    #[must_use]
    pub fn guest(&self) -> Option<&G> {
        self.processes.iter().find(|process| process.up).map(|process| &process.guest)
    }

    /// Returns the process that was started last, whether it serves or not.
    #[must_use]
    pub fn newest(&self) -> Option<&G> {
        self.processes.last().map(|process| &process.guest)
    }

    /// Returns the first record that what was shown last told of and that was not durable.
    #[must_use]
    pub const fn untrue(&self) -> Option<u64> {
        self.untrue
    }

    /// Returns what was struck so far.
    #[must_use]
    pub fn strikes(&self) -> BTreeMap<&'static str, u64> {
        let mut struck = self.struck.clone();
        struck.add(self.files.struck());
        struck.into_counts()
    }

    /// Says whether a kind of fault has struck.
    #[must_use]
    pub fn has_struck(&self, kind: &str) -> bool {
        self.struck.has(kind) || self.files.struck().has(kind)
    }

    /// Says whether the disk has broken what L61 promises.
    #[must_use]
    pub fn is_disk_broken(&self) -> bool {
        ["rot", "misdirected", "lost-sync"].into_iter().any(|kind| self.has_struck(kind))
    }

    /// Says whether nobody has started a node again that was killed or gave up.
    #[must_use]
    pub fn is_left_down(&self) -> bool {
        self.processes.is_empty() && self.now < self.down_until
    }

    /// Handles what is due next. Returns `false` once the run is over.
    pub fn step(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let is_over = |at| at >= self.setup.duration && !self.is_fork;
        if self.agenda.next_at().is_none_or(is_over) {
            if !self.is_fork {
                self.now = self.setup.duration;
                self.finish();
            }
            return false;
        }
        if self.events >= self.setup.steps_max {
            self.ended = Some(Ended::Unfinished);
            return false;
        }
        let choices = &mut self.choices;
        let tie = |first: &Due, _: &Due| choices.choose("agenda.tie", first.who(), 2) == 1;
        let Some((at, due)) = self.agenda.pop(tie) else {
            return false;
        };
        self.now = at;
        self.events += 1;
        let [kind, whom] = due.who();
        self.hash.event(at, u32::try_from(kind).unwrap_or(0), &whom.to_le_bytes());
        if let (Some(stripe), Due::Answer(number, op), false) =
            (self.setup.sweep, due, self.is_fork)
            && self.is_under_way(number, op)
        {
            self.cut_here(stripe);
        }
        self.handle(due);
        if let Some(hashes) = &mut self.hashes {
            hashes.push(self.hash.finish());
        }
        self.ended.is_none()
    }

    fn is_under_way(&self, number: u32, op: Number) -> bool {
        let mut processes = self.processes.iter();
        processes.any(|process| process.number == number && process.flights.contains_key(&op))
    }

    fn handle(&mut self, due: Due) {
        match due {
            Due::Start => self.start(),
            Due::Answer(number, op) => self.answer(number, op),
            Due::Timer(number) => self.wake(number),
            Due::Caller(caller) => self.ask(caller),
            Due::Impatient(caller, call) => self.give_up(caller, call),
            Due::Begin(entry) => self.begin(entry),
            Due::End(entry) => self.end_of(entry),
            Due::Quiet => {
                self.quiet = true;
                self.line("quiet", String::new);
                self.tell(&Seen::Quiet);
            }
        }
    }

    /// What the run came to, so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let mut digest = self.hash;
        self.files.digest().hash(&mut digest);
        Outcome {
            ended: self.ended.clone().unwrap_or(Ended::Unfinished),
            hash: digest.finish(),
            events: self.events,
            at: self.now,
            refusals: self.refusals.clone(),
            strikes: self.strikes(),
            armed: self.armed.clone(),
        }
    }

    /// Returns why the node is not up at the end, if a start was refused.
    #[must_use]
    pub const fn refused(&self) -> Option<&'static str> {
        self.refused
    }

    fn finish(&mut self) {
        let mut watches = std::mem::take(&mut self.watches);
        for watch in &mut watches {
            let looked = watch.end(self);
            if !self.looked(watch.property(), looked) {
                break;
            }
        }
        self.watches = watches;
        let wanted = self.setup.work.records.filter(|_| !self.is_disk_broken());
        let short = wanted.is_some_and(|wanted| self.history.decided() < wanted);
        let short = short || self.crowd.is_short();
        let passed = if short { Ended::Unfinished } else { Ended::Passed };
        self.ended.get_or_insert(passed);
    }

    fn violate(&mut self, property: &'static str, evidence: String) {
        let violation = Violation { property, evidence, at: self.now };
        self.ended.get_or_insert(Ended::Violated(violation));
    }

    /// Lets every checker look.
    fn tell(&mut self, seen: &Seen<'_, G>) {
        let mut watches = std::mem::take(&mut self.watches);
        for watch in &mut watches {
            let looked = watch.see(self, seen);
            if !self.looked(watch.property(), looked) {
                break;
            }
        }
        self.watches = watches;
    }

    /// Counts a look, or ends the run.
    fn looked(&mut self, property: &'static str, looked: Result<bool, String>) -> bool {
        match looked {
            Ok(true) => *self.armed.entry(property).or_insert(0) += 1,
            Ok(false) => {}
            Err(evidence) => {
                self.violate(property, evidence);
                return false;
            }
        }
        true
    }

    /// Adds a line to the trace, if one is kept.
    fn line(&mut self, event: &str, detail: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let (event, detail) = (event.to_owned(), detail());
            trace.push(Line { at: self.now, node: Some(0), event, detail });
        }
    }

    // ---- processes

    fn start(&mut self) {
        if !self.processes.is_empty() || self.now < self.down_until {
            return;
        }
        self.refused = None;
        self.launch();
        self.tell(&Seen::Starting);
    }

    fn launch(&mut self) {
        self.started += 1;
        let number = self.started;
        if self.files.lock(number).is_err() && !G::ignores_lock(&self.setup.kind) {
            self.line("locked out", || number.to_string());
            self.struck.count("locked-out");
            return;
        }
        self.line("start", || number.to_string());
        let words = [self.setup.seed, u64::from(number), 0, 0];
        let mut seed = [0; 32];
        for (bytes, word) in seed.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let (now, wall_ms) = (Instant::from_nanos(self.now), self.wall_ms());
        let mut guest = G::start(&self.setup.kind, now, wall_ms, seed);
        guest.remember(&self.memory);
        let flights = BTreeMap::new();
        self.processes.push(Process {
            number,
            guest,
            flights,
            wake: u64::MAX,
            up: false,
            spins: 0,
        });
        self.drain(number);
    }

    fn start_second(&mut self) {
        if self.processes.len() == 1 {
            self.struck.count("second-process");
            self.launch();
        }
    }

    fn place(&self, number: u32) -> Option<usize> {
        self.processes.iter().position(|process| process.number == number)
    }

    fn feed(&mut self, number: u32, input: Input<G::Request>, call: Option<Number>) {
        let Some(place) = self.place(number) else {
            return;
        };
        let now = Instant::from_nanos(self.now);
        let process = &mut self.processes[place];
        let Some(call) = call else {
            process.guest.handle(now, input);
            return self.drain(number);
        };
        let before = (process.guest.appended(), process.guest.root());
        process.guest.handle(now, input);
        let after = (process.guest.appended(), process.guest.root());
        if let Some(asked) = self.asked.get_mut(&call) {
            asked.needs = after.0;
            let request = asked.request.clone();
            self.tell(&Seen::Handled { request: &request, before, after });
        }
        self.drain(number);
    }

    /// Puts a question to a process.
    fn inquire(&mut self, number: u32, caller: u32, question: G::Question) {
        let call = self.number_call(|call| format!("{call}: {question:?}"));
        self.inquiries.insert(call, Inquiry { caller, needs: u64::MAX });
        self.agenda.push(self.now + PATIENCE, Due::Impatient(caller, call));
        let (now, wall_ms) = (Instant::from_nanos(self.now), self.wall_ms());
        let Some(place) = self.place(number) else {
            return;
        };
        let guest = &mut self.processes[place].guest;
        guest.inquire(now, wall_ms, call, question);
        let needs = guest.appended();
        if let Some(inquiry) = self.inquiries.get_mut(&call) {
            inquiry.needs = needs;
        }
        self.drain(number);
    }

    /// Carries out what a process wants.
    fn drain(&mut self, number: u32) {
        let mut outputs = Vec::new();
        if let Some(place) = self.place(number) {
            let guest = &mut self.processes[place].guest;
            outputs.extend(std::iter::from_fn(|| guest.poll()));
        }
        let is_idle = outputs.is_empty();
        for output in outputs {
            if self.ended.is_some() {
                return;
            }
            self.act(number, output);
        }
        let Some(place) = self.place(number) else {
            return;
        };
        let process = &mut self.processes[place];
        let due = process.guest.deadline().as_nanos();
        process.spins = if is_idle && due <= self.now { process.spins + 1 } else { 0 };
        let spins = process.spins;
        let at = due.max(self.now + 1);
        if at < process.wake {
            process.wake = at;
            self.agenda.push(at, Due::Timer(number));
        }
        if spins > SPINS_MAX {
            let told = format!("told the time {spins} times, it did nothing, and wants it again");
            self.violate(SPIN, told);
        }
    }

    fn act(&mut self, number: u32, output: Output<G::Reply, G::Event>) {
        match output {
            Output::Disk { op, operation } => self.operate(number, op, operation),
            Output::Reply { call, reply } => self.reply(call, &reply),
            Output::Told { call, tells } => self.told(call, tells),
            Output::Effect { what, event } => {
                self.line("→ effect", || format!("{what} of event {event}"));
                self.hash.event(event, 5, what.as_bytes());
                let record = self.history.record_of(event);
                self.shown(&what, record.unwrap_or_else(|| self.history.decided() + 1));
            }
            Output::Decided(decided) => {
                self.line("→ decided", || format!("record {}", decided.record));
                decided.root.hash(&mut self.hash);
                self.history.decide(&decided);
                self.tell(&Seen::Decided(&decided));
            }
            Output::Durable(record) => {
                self.line("→ durable", || format!("up to {record}"));
                self.unsure.take_if(|unsure| unsure.head <= record);
                self.history.tell_durable(record);
                self.tell(&Seen::Durable(record));
            }
            Output::Events { first, events } => {
                for (nth, event) in (first..).zip(events.iter()) {
                    self.line("→ event", || format!("{nth}: {event:?}"));
                }
                self.hash.event(first, 2, &events.len().to_le_bytes());
                for event in events.iter() {
                    G::hash_event(event, &mut self.hash);
                }
                self.tell(&Seen::Events(first, &events));
                self.crowd.saw(&events);
            }
            Output::Read { reader, to, events } => {
                self.line("→ read", || format!("reader {reader}: {} up to {to}", events.len()));
                self.hash.event(to, 3, &reader.to_le_bytes());
                self.tell(&Seen::Read { reader, to, events: &events });
            }
            Output::Late { reader, oldest } => {
                self.line("→ late", || format!("reader {reader}: oldest is {oldest}"));
                self.hash.event(oldest, 6, &reader.to_le_bytes());
                self.tell(&Seen::Late { reader, oldest });
            }
            Output::Recovered(found) => self.recovered(number, &found),
            Output::Refused { reason, told } => self.refuse(number, reason, told),
            Output::Stalled => {
                self.line("→ stalled", String::new);
                self.struck.count("stalled");
                self.kill(false, Some(RESTART));
            }
        }
    }

    fn recovered(&mut self, number: u32, found: &Recovered) {
        self.line("→ recovered", || format!("{} records", found.record));
        self.struck.count("recovery");
        self.rewind(found.record);
        self.tell(&Seen::Recovered(found));
        self.history.recover(found.record, found.root);
        self.found = Some((found.record, found.root));
        if let Some(place) = self.place(number) {
            self.processes[place].up = true;
        }
    }

    /// Has the watches forget what the start before found, if that is lost: it was not durable, and
    /// nobody was told of it.
    fn rewind(&mut self, head: u64) {
        if let Some(unsure) = self.unsure.as_ref().filter(|unsure| head < unsure.head) {
            self.watches = copies(&unsure.before);
        }
        if self.history.prove(&self.files, head).is_ok() {
            self.unsure = None;
        } else if let Some(unsure) = &mut self.unsure {
            unsure.head = head;
        } else {
            self.unsure = Some(Unsure { head, before: copies(&self.watches) });
        }
    }

    fn refuse(&mut self, number: u32, reason: &'static str, told: String) {
        self.line("→ refused", || told);
        *self.refusals.entry(reason).or_insert(0) += 1;
        self.refused = Some(reason);
        self.tell(&Seen::Refused { reason });
        if G::takes_all_for_torn(&self.setup.kind) {
            self.cut_off_what_is_bad();
        }
        if let Some(place) = self.place(number) {
            self.memory = self.processes.remove(place).guest.memory();
        }
        self.files.unlock(number);
        self.agenda.push(self.now + RESTART, Due::Start);
    }

    /// What a saboteur does in place of a refusal: all that comes after the last good record of the
    /// first segment goes.
    fn cut_off_what_is_bad(&mut self) {
        let mut segments: Vec<String> = self.files.paths().map(str::to_owned).collect();
        segments.retain(|path| path.ends_with(".seg"));
        for later in segments.drain(1..) {
            self.files.unlink(&later);
        }
        if let Some(first) = segments.first()
            && let Some(end) = checkers::first_bad(&self.files, first)
        {
            self.files.erase(first, end);
        }
    }

    fn operate(&mut self, number: u32, op: Number, operation: Operation) {
        self.line(&format!("→ {}", operation.name()), || operation.path().to_owned());
        operation.hash(&mut self.hash);
        let mut history = std::mem::take(&mut self.history);
        let written = history.observe(&self.files, &operation);
        self.history = history;
        for record in &written {
            self.tell(&Seen::Written(record));
        }
        self.tell(&Seen::Begins(&operation));
        let (least, span) = self.setup.disk;
        let kind = operation.name().len() as u64;
        let takes = least + self.choices.choose("disk.delay", [kind, 0], span + 1);
        let at = self.files.done_at(self.now, takes.max(1));
        let flight = self.files.begin(operation);
        if let Some(place) = self.place(number) {
            self.processes[place].flights.insert(op, flight);
            self.agenda.push(at, Due::Answer(number, op));
        }
    }

    fn answer(&mut self, number: u32, op: Number) {
        let Some(place) = self.place(number) else {
            return;
        };
        if self.now < self.paused_until {
            return self.agenda.push(self.paused_until, Due::Answer(number, op));
        }
        let stalled = self.files.faults.stalled_until;
        if self.now < stalled {
            return self.agenda.push(stalled, Due::Answer(number, op));
        }
        let Some(flight) = self.processes[place].flights.remove(&op) else {
            return;
        };
        let operation = flight.operation.clone();
        self.tell(&Seen::Does(number, &operation));
        let answer = self.files.finish(flight, &mut self.choices);
        if let Answer::Failed(why) = &answer {
            self.line(operation.name(), || format!("{} failed: {why:?}", operation.path()));
        }
        answer.hash(&mut self.hash);
        self.tell(&Seen::Ended(&operation, &answer));
        let wall_ms = self.wall_ms();
        self.feed(number, Input::Answer { op, answer, wall_ms }, None);
    }

    fn wake(&mut self, number: u32) {
        if self.now < self.paused_until {
            return self.agenda.push(self.paused_until, Due::Timer(number));
        }
        let Some(place) = self.place(number) else {
            return;
        };
        let process = &mut self.processes[place];
        if process.wake > self.now {
            return;
        }
        process.wake = u64::MAX;
        let wall_ms = self.wall_ms();
        self.feed(number, Input::Tick { wall_ms }, None);
    }

    /// Ends every process; with `again`, one starts after that time.
    fn kill(&mut self, power: bool, again: Option<u64>) {
        let outcome = self.choices.choose("keeper.left", [0, 0], 4);
        let outcome = Left::EACH[usize::try_from(outcome).expect("one of four")];
        self.kill_leaving(power, outcome);
        if let Some(again) = again {
            self.down_until = self.now + again;
            self.agenda.push(self.down_until, Due::Start);
        }
    }

    fn kill_leaving(&mut self, power: bool, outcome: Left) {
        self.line(if power { "power cut" } else { "killed" }, || format!("{outcome:?}"));
        let mut flights = Vec::new();
        for process in self.processes.drain(..) {
            self.memory = process.guest.memory();
            flights.extend(process.flights.into_values());
            self.files.unlock(process.number);
        }
        let mut fate = Fate::new(outcome, &mut self.choices);
        match power {
            true => self.files.power_cut(flights, &mut fate),
            false => self.files.process_end(flights, &mut fate),
        }
        outcome.hash(&mut self.hash);
        for (_, asked) in std::mem::take(&mut self.asked) {
            self.crowd.heard(asked.caller, &asked.request, Heard::Nothing);
            self.think(asked.caller);
        }
        for inquiry in std::mem::take(&mut self.inquiries).into_values() {
            self.think(inquiry.caller);
        }
        self.crowd.lost();
        self.tell(&Seen::Died { power });
    }

    // ---- the crowd

    fn think(&mut self, caller: u32) {
        let (least, span) = self.setup.work.think;
        let more = self.choices.choose("crowd.think", [u64::from(caller), 0], span + 1);
        self.agenda.push(self.now + (least + more).max(1), Due::Caller(caller));
    }

    fn ask(&mut self, caller: u32) {
        let up = self.processes.iter().find(|process| process.up).map(|process| process.number);
        let Some(number) = up.filter(|_| self.now >= self.paused_until) else {
            return self.think(caller);
        };
        if let Some(question) = self.crowd.question(caller, &mut self.choices) {
            return self.inquire(number, caller, question);
        }
        let wall_ms = self.wall_ms();
        let Some(request) = self.crowd.next(caller, wall_ms, &mut self.choices) else {
            return self.agenda.push(self.now + IDLE, Due::Caller(caller));
        };
        let call = self.number_call(|call| format!("{call}: {request:?}"));
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&call.to_le_bytes());
        nonce[8..].copy_from_slice(&self.setup.seed.to_le_bytes());
        self.tell(&Seen::Called(call, &request));
        self.asked.insert(call, Asked { caller, request: request.clone(), needs: u64::MAX });
        self.agenda.push(self.now + PATIENCE, Due::Impatient(caller, call));
        self.feed(number, Input::Call { call, wall_ms, nonce, request }, Some(call));
    }

    fn number_call(&mut self, told: impl FnOnce(Number) -> String) -> Number {
        self.calls += 1;
        let call = self.calls;
        self.line("call", || told(call));
        call
    }

    fn give_up(&mut self, caller: u32, call: Number) {
        if self.inquiries.remove(&call).is_some() {
            self.line("gave up", || call.to_string());
            self.think(caller);
        }
        if let Some(asked) = self.asked.remove(&call) {
            self.line("gave up", || call.to_string());
            self.crowd.heard(caller, &asked.request, Heard::Nothing);
            self.think(caller);
        }
    }

    fn reply(&mut self, call: Number, reply: &G::Reply) {
        self.line("→ reply", || format!("{call}: {reply:?}"));
        self.hash.event(call, 1, &[u8::from(G::is_done(reply))]);
        let Some(asked) = self.asked.remove(&call) else {
            return;
        };
        if !G::tells_nothing(reply) {
            let (request, needs) = (&asked.request, asked.needs);
            self.history.acknowledge(needs);
            self.untrue = self.prove(needs).err();
            self.tell(&Seen::Replied { call, request, reply, needs });
        }
        self.crowd.heard(asked.caller, &asked.request, Heard::Reply(reply));
        self.think(asked.caller);
    }

    fn told(&mut self, call: Number, tells: bool) {
        self.line("→ told", || call.to_string());
        self.hash.event(call, 4, &[u8::from(tells)]);
        let Some(inquiry) = self.inquiries.remove(&call) else {
            return;
        };
        if tells {
            self.shown(&format!("the answer to question {call}"), inquiry.needs);
        }
        self.think(inquiry.caller);
    }

    /// Something is seen outside that tells of records up to `needs`.
    fn shown(&mut self, what: &str, needs: u64) {
        self.history.acknowledge(needs);
        self.untrue = self.prove(needs).err();
        self.tell(&Seen::Shown { what, needs });
    }

    /// Looks whether all records up to `record` are durable, whatever happens now.
    ///
    /// # Errors
    ///
    /// The first that is not.
    fn prove(&mut self, record: u64) -> Result<(), u64> {
        let mut history = std::mem::take(&mut self.history);
        let proved = history.prove(&self.files, record);
        self.history = history;
        proved
    }

    // ---- the plan

    fn begin(&mut self, entry: u32) {
        let planned = self.setup.plan[entry as usize].clone();
        self.line("fault begins", || format!("{:?}", planned.act));
        self.active.push(entry);
        let lasts = planned.until.map(|until| until - planned.at);
        match planned.act {
            Act::Kill { power, .. } => {
                self.struck.count("kill");
                self.kill(power, Some(lasts.unwrap_or(0)));
            }
            Act::Pause(_) => {
                self.struck.count("pause");
                self.paused_until = planned.until.unwrap_or(self.now);
            }
            Act::Jump(_, by) => {
                self.struck.count("jump");
                self.ahead_ms += by / 1_000_000;
            }
            Act::Second(_) => self.start_second(),
            Act::Disk(_, DiskFault::Rot) => {
                if let Some(rotten) = self.files.rot(&mut self.choices) {
                    self.line("rot", || format!("{} at {}", rotten.file, rotten.offset));
                    self.tell(&Seen::Rotted(&rotten));
                }
            }
            Act::Slow(..) | Act::Disk(..) => self.spoil(),
            Act::Links(..)
            | Act::Reset(_)
            | Act::Offset(..)
            | Act::Drift(..)
            | Act::Leave(_)
            | Act::Move(_)
            | Act::Revoke(_)
            | Act::Forge(_) => unreachable!("a scenario of a keeper names no such fault"),
        }
    }

    fn end_of(&mut self, entry: u32) {
        self.active.retain(|active| *active != entry);
        self.spoil();
    }

    /// Makes the disk as bad as all entries in force say.
    fn spoil(&mut self) {
        let mut faults = crate::files::Faults::default();
        for entry in &self.active {
            let planned = &self.setup.plan[*entry as usize];
            let until = planned.until.unwrap_or(self.setup.quiet_at);
            match &planned.act {
                Act::Disk(_, fault) => match *fault {
                    DiskFault::Torn => faults.torn = true,
                    DiskFault::LostSync => faults.lost_sync = true,
                    DiskFault::Misdirected => faults.misdirected = true,
                    DiskFault::ReadError => faults.read_error = true,
                    DiskFault::Full => faults.full = true,
                    DiskFault::Stall => faults.stalled_until = faults.stalled_until.max(until),
                    DiskFault::FailedSync(share) => faults.failed_sync = share,
                    DiskFault::FailedWrite(share) => faults.failed_write = share,
                    DiskFault::Rot => {} // It struck at once.
                },
                Act::Slow(_, cost) => faults.slow = *cost,
                Act::Kill { .. }
                | Act::Pause(_)
                | Act::Jump(..)
                | Act::Second(_)
                | Act::Links(..)
                | Act::Reset(_)
                | Act::Offset(..)
                | Act::Drift(..)
                | Act::Leave(_)
                | Act::Move(_)
                | Act::Revoke(_)
                | Act::Forge(_) => {}
            }
        }
        self.files.faults = faults;
    }
}
