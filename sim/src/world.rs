//! A cluster in one thread: nodes, disks, clocks, network, clients and checkers on one agenda (T1).
//!
//! ```text
//!   agenda ──due──► world ──input──► guest ──outputs──► world ──due──► agenda
//!     ▲               │ faults, clocks, disks, network    │
//!     └───────────────┴──────── clients, checkers ◄───────┘
//! ```
//!
//! Time is true time, in nanoseconds from the start of the run (T3); each node reads its own clock.
//! Every handled event feeds the hash of the run (T4).
//!
//! All that could go one way or another asks `Choices` (T10), with one exception: the bytes that
//! nodes take for random (keys, instances, the entropy of handshakes) are keyed hashes of the seed.
//! They are not choices: no answer is more benign than another (T11), none could be replaced
//! without breaking what is built on it, and nobody but the node that drew them may know them.

mod audit;
mod faults;
mod perform;
mod starts;
mod streams;
mod trace;

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use machines::choices::{Answer, Overrides};
use machines::cluster::config::ClusterConfig;
use machines::cluster::identity::Allowed;
use machines::cluster::ids::{CallId, NodeId};
use machines::digest::Digest;
use machines::node::io::{Call, Input, Output};
use machines::{Choices, Instant};

use crate::agenda::Agenda;
use crate::build::Build;
use crate::checker::{Checker, Notice, Step, Violation};
use crate::clients::{Clients, Work};
use crate::guest::{Cipher, Guest};
use crate::host::Host;
use crate::net::{Conditions, Net};
use crate::plan::Planned;
use crate::streams::Stream;
use crate::strikes::Strikes;
pub use trace::Line;
use trace::Whom;

/// Everything that decides a run.
#[derive(Clone, Debug)]
pub struct Setup<G: Guest> {
    /// Decides every answer.
    pub seed: u64,
    /// Answers that replace the drawn ones.
    pub overrides: Arc<Overrides>,
    /// Nodes, strangers included.
    pub nodes: u32,
    /// How many of them, the last ones, are on nobody's allowlist.
    pub strangers: u32,
    /// When the run ends.
    pub duration: u64,
    /// When the quiet period begins.
    pub quiet_at: u64,
    /// The most events; a run that needs more is unfinished (T5).
    pub steps_max: u64,
    /// Nodes start within this time.
    pub start_span: u64,
    /// How many others each node knows at first.
    pub contacts: u32,
    /// The network without faults.
    pub plain: Conditions,
    /// Whether events due at the same moment may be turned around.
    pub ties: bool,
    /// The faults.
    pub plan: Arc<Vec<Planned>>,
    /// What the clients do.
    pub work: Work,
    /// Of every node, but for what its build says.
    pub config: Arc<ClusterConfig>,
    /// What single nodes speak, and from when.
    pub builds: Arc<Vec<Build>>,
    /// How links are sealed.
    pub cipher: Cipher,
    /// For the guests.
    pub kind: G::Kind,
}

/// How a run ended (T5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// At its duration, with every property held.
    Passed,
    /// At the first violated property.
    Violated(Violation),
    /// The step bound was hit: neither passed nor failed.
    Unfinished,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// The hash over every handled event.
    pub hash: u64,
    /// Inputs handled by nodes.
    pub events: u64,
    /// When it ended, in nanoseconds of virtual time.
    pub at: u64,
    /// Starts that were refused: reason → how often.
    pub refusals: BTreeMap<&'static str, u64>,
    /// Kinds of faults that did something: kind → how often. A kind that never did is absent.
    pub strikes: BTreeMap<&'static str, u64>,
    /// Property → how often its checker looked at something that could have broken it.
    pub armed: BTreeMap<&'static str, u64>,
}

/// What is due.
#[derive(Clone, Debug)]
enum Due {
    Start { node: u32, epoch: u32 },
    Booted { node: u32, epoch: u32 },
    Timer(u32),
    Wake(u32),
    Datagram { to: u32, bytes: Vec<u8> },
    Input { node: u32, epoch: u32, input: Box<Input> },
    Stored { node: u32, epoch: u32 },
    Client { node: u32, epoch: u32 },
    Syn { stream: u32, attempt: u32 },
    SynAck { stream: u32, attempt: u32 },
    Unreachable { stream: u32 },
    Arrive { stream: u32, side: u32, attempt: u32 },
    Begin(u32),
    End(u32),
    Forge(u32),
    Quiet,
    Audit,
}

impl Due {
    /// Names what a tie between two events is about: the node, and the kind of event. So a tie at
    /// one node does not move the answer of a tie at another (T13, DESIGN 3).
    fn who(&self, streams: &[Stream]) -> u64 {
        let end = |stream: u32, side: usize| streams[stream as usize].ends[side].node;
        let (kind, place) = match self {
            Self::Start { node, .. } => (0, *node),
            Self::Booted { node, .. } => (1, *node),
            Self::Timer(node) => (2, *node),
            Self::Wake(node) => (3, *node),
            Self::Datagram { to, .. } => (4, *to),
            Self::Input { node, .. } => (5, *node),
            Self::Stored { node, .. } => (7, *node),
            Self::Client { node, .. } => (8, *node),
            Self::Syn { stream, .. } => (9, end(*stream, 1)),
            Self::SynAck { stream, .. } => (10, end(*stream, 0)),
            Self::Unreachable { stream } => (11, end(*stream, 0)),
            Self::Arrive { stream, side, .. } => (12, end(*stream, *side as usize)),
            Self::Begin(entry) => (13, *entry),
            Self::End(entry) => (14, *entry),
            Self::Forge(entry) => (15, *entry),
            Self::Quiet => (16, 0),
            Self::Audit => (17, 0),
        };
        u64::from(place) << 8 | kind
    }
}

/// A running cluster.
pub struct World<G: Guest> {
    setup: Arc<Setup<G>>,
    now: u64,
    agenda: Agenda<Due>,
    choices: Choices,
    hosts: Vec<Host<G>>,
    ids: Vec<(NodeId, u32)>,
    net: Net,
    streams: Vec<Stream>,
    clients: Clients,
    allowed: Arc<Allowed>,
    /// Which entries of the plan are in force.
    active: Vec<u32>,
    /// What an attacker has overheard; kept only if the plan has one.
    tape: Option<VecDeque<Vec<u8>>>,
    quiet: bool,
    hash: Digest,
    events: u64,
    steps: u64,
    ended: Option<Ended>,
    refusals: BTreeMap<&'static str, u64>,
    /// What struck beside the network and the disks, which count for themselves.
    struck: Strikes,
    checkers: Vec<Box<dyn Checker<G>>>,
    scratch: Vec<Output>,
    trace: Option<Vec<Line>>,
    hashes: Option<Vec<u64>>,
    /// What machines that are gone answered, if answers are kept.
    answers: Option<Vec<Answer>>,
}

impl<G: Guest> World<G> {
    /// Lays out the run of `setup`. Nothing has happened yet.
    #[must_use]
    pub fn new(setup: Arc<Setup<G>>, checkers: Vec<Box<dyn Checker<G>>>) -> Self {
        let choices = Choices::new(setup.seed).with_overrides(setup.overrides.clone());
        let hosts = starts::hosts(&setup);
        let mut ids: Vec<(NodeId, u32)> = (0..).zip(&hosts).map(|(n, h)| (h.id, n)).collect();
        ids.sort_unstable();
        let forges = |planned: &Planned| matches!(planned.act, crate::plan::Act::Forge(_));
        let tape = setup.plan.iter().any(forges).then(VecDeque::new);
        let mut world = Self {
            now: 0,
            agenda: Agenda::with_capacity(64 + 8 * hosts.len()),
            choices,
            allowed: starts::allowed::<G>(&setup, &hosts, &[]),
            hosts,
            ids,
            net: Net::new(setup.nodes, setup.plain.clone()),
            streams: Vec::new(),
            clients: Clients::new(setup.work.clone(), setup.nodes),
            active: Vec::new(),
            tape,
            quiet: false,
            hash: Digest::new(),
            events: 0,
            steps: 0,
            ended: None,
            refusals: BTreeMap::new(),
            struck: Strikes::default(),
            checkers,
            scratch: Vec::new(),
            trace: None,
            hashes: None,
            answers: None,
            setup,
        };
        world.schedule();
        world
    }

    /// Keeps every answer that is not 0, the world's and its machines', for
    /// [`World::take_recorded`] (T12).
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.choices = self.choices.recording();
        self.answers = Some(Vec::new());
        self
    }

    /// Keeps a line of every event, for [`World::take_trace`].
    #[must_use]
    pub fn tracing(mut self) -> Self {
        self.trace = Some(Vec::new());
        self
    }

    /// Keeps the hash after every event, for [`World::take_hashes`].
    #[must_use]
    pub fn hashing(mut self) -> Self {
        self.hashes = Some(Vec::new());
        self
    }

    /// Runs to the end.
    pub fn run(&mut self) -> Outcome {
        while self.step() {}
        self.outcome()
    }

    /// Lets the next thing happen. Returns `false` if the run is over.
    #[inline]
    pub fn step(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        if self.agenda.next_at().is_none_or(|at| at >= self.setup.duration) {
            self.finish();
            return false;
        }
        let (ties, choices, streams) = (self.setup.ties, &mut self.choices, &self.streams);
        let turned = |first: &Due, second: &Due| {
            ties && choices.choose("world.tie", [first.who(streams), second.who(streams)], 2) == 1
        };
        let Some((at, due)) = self.agenda.pop(turned) else {
            return false;
        };
        assert!(at >= self.now, "time goes forwards");
        self.now = at;
        self.steps += 1;
        if self.steps > self.setup.steps_max {
            self.ended = Some(Ended::Unfinished);
            return false;
        }
        self.happen(due);
        self.ended.is_none()
    }

    /// Returns what came of the run so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome {
            ended: self.ended.clone().unwrap_or(Ended::Unfinished),
            hash: self.hash.finish(),
            events: self.events,
            at: self.now,
            refusals: self.refusals.clone(),
            strikes: self.strikes(),
            armed: self.checkers.iter().map(|c| (c.property(), c.armed())).collect(),
        }
    }

    fn schedule(&mut self) {
        for node in 0..self.setup.nodes {
            let at = match self.setup.start_span {
                0 => 0,
                span => self.choices.choose("world.start", [u64::from(node), 0], span + 1),
            };
            self.agenda.push(at, Due::Start { node, epoch: 0 });
        }
        let plan = self.setup.plan.clone();
        self.offset_clocks(&plan);
        for (entry, planned) in (0..).zip(plan.iter()) {
            self.agenda.push(planned.at, Due::Begin(entry));
            if let Some(until) = planned.until {
                self.agenda.push(until, Due::End(entry));
            }
        }
        self.agenda.push(self.setup.quiet_at, Due::Quiet);
        if let Some(at) = self.audit_at() {
            self.agenda.push(at, Due::Audit);
        }
    }

    #[inline(always)] // What is due goes to its node in registers.
    fn happen(&mut self, due: Due) {
        match due {
            Due::Datagram { to, bytes } => self.datagram_arrives(to, bytes),
            Due::Timer(node) => self.timer(node),
            Due::Wake(node) => self.wake(node),
            Due::Start { node, epoch } => self.try_start(node, epoch),
            Due::Booted { node, epoch } => self.booted(node, epoch),
            Due::Input { node, epoch, input } => self.deliver_to(node, epoch, *input),
            Due::Stored { node, epoch } => self.stored(node, epoch),
            Due::Client { node, epoch } => self.client(node, epoch),
            Due::Syn { stream, attempt } => self.syn(stream, attempt),
            Due::SynAck { stream, attempt } => self.syn_ack(stream, attempt),
            Due::Unreachable { stream } => self.unreachable(stream),
            Due::Arrive { stream, side, attempt } => self.arrive(stream, side as usize, attempt),
            Due::Begin(entry) => self.begin(entry),
            Due::End(entry) => self.end(entry),
            Due::Forge(entry) => self.forge(entry),
            Due::Quiet => self.quieten(),
            Due::Audit => self.audit(),
        }
    }

    fn quieten(&mut self) {
        self.quiet = true;
        self.note_of("quiet", Whom::World);
        let mut checkers = std::mem::take(&mut self.checkers);
        for checker in &mut checkers {
            checker.quiet(self);
        }
        self.checkers = checkers;
    }

    fn finish(&mut self) {
        self.now = self.setup.duration;
        for host in &self.hosts {
            if let Some(guest) = &host.guest {
                self.hash.write_u64(guest.digest());
            }
        }
        let mut checkers = std::mem::take(&mut self.checkers);
        for checker in &mut checkers {
            let result = checker.end(self);
            self.judge(checker.property(), result);
        }
        self.checkers = checkers;
        self.ended.get_or_insert(Ended::Passed);
    }

    #[inline]
    fn datagram_arrives(&mut self, to: u32, bytes: Vec<u8>) {
        let host = &mut self.hosts[to as usize];
        if host.guest.is_none() {
            return;
        }
        if host.busy_until > self.now {
            // The socket's buffer, as C53 counts it.
            if host.datagrams_waiting < 1_024 {
                host.datagrams_waiting += 1;
                host.inbox.push_back(Input::Datagram(bytes));
            }
            return;
        }
        self.take_datagram(to, bytes);
    }

    fn deliver_to(&mut self, node: u32, epoch: u32, input: Input) {
        if self.hosts[node as usize].epoch == epoch {
            self.deliver(node, input);
        }
    }

    fn deliver(&mut self, node: u32, input: Input) {
        let host = &mut self.hosts[node as usize];
        if host.guest.is_none() {
            return;
        }
        if host.busy_until > self.now {
            host.inbox.push_back(input);
            return;
        }
        self.handle(node, input);
    }

    fn timer(&mut self, node: u32) {
        let host = &mut self.hosts[node as usize];
        if host.timer_at != self.now {
            return; // An earlier one took its place.
        }
        host.timer_at = u64::MAX;
        if host.guest.is_none() || host.busy_until > self.now {
            return; // Whoever wakes it looks at its deadline.
        }
        if host.wanted > self.now {
            self.arm(node);
        } else {
            self.handle(node, Input::Tick);
        }
    }

    /// A busy or paused process goes on: datagrams first, then timers (C53).
    fn wake(&mut self, node: u32) {
        while self.hosts[node as usize].busy_until <= self.now {
            let host = &mut self.hosts[node as usize];
            let Some(input) = host.inbox.pop_front() else {
                return self.arm_now(node);
            };
            if let Input::Datagram(bytes) = input {
                host.datagrams_waiting -= 1;
                self.take_datagram(node, bytes);
            } else {
                self.handle(node, input);
            }
        }
    }

    fn arm_now(&mut self, node: u32) {
        self.hosts[node as usize].timer_at = u64::MAX;
        self.arm(node);
    }

    /// A datagram's step. Most steps are; the bytes go to the node without being moved about.
    #[inline(always)]
    fn take_datagram(&mut self, node: u32, bytes: Vec<u8>) {
        self.hash.event(self.now, node, &bytes);
        self.take_step(node, || Input::Datagram(bytes));
    }

    /// The step of any other input.
    fn handle(&mut self, node: u32, input: Input) {
        let host = &mut self.hosts[node as usize];
        if host.guest.is_some() && known(&mut host.conns, &input) {
            self.hash.event(self.now, node, &[]);
            input.hash(&mut self.hash);
            self.take_step(node, || input);
        }
    }

    /// One step of one node that runs: the heart of the world. The input is made where it is
    /// wanted: to move it there costs as much as the rest of a light step.
    #[inline(always)]
    fn take_step(&mut self, node: u32, input: impl FnOnce() -> Input) {
        let host = &mut self.hosts[node as usize];
        let Some(guest) = &mut host.guest else {
            return;
        };
        let local = host.clock.read(self.now);
        self.events += 1;
        if let Some(hashes) = &mut self.hashes {
            hashes.push(self.hash.finish());
        }
        let watched = self.trace.is_some() || !self.checkers.is_empty();
        if watched {
            self.handle_watched(node, local, input());
        } else {
            guest.handle(local, input());
            while let Some(output) = self.poll(node) {
                if let Output::Datagram { to, bytes } = output {
                    self.send(node, to, bytes);
                } else {
                    self.perform(node, output);
                }
            }
        }
        self.after_step(node);
    }

    fn handle_watched(&mut self, node: u32, local: Instant, input: Input) {
        let seen = input.clone();
        let mut checkers = std::mem::take(&mut self.checkers);
        for checker in &mut checkers {
            checker.before_step(self, node, &seen);
        }
        let mut outputs = std::mem::take(&mut self.scratch);
        if let Some(guest) = &mut self.hosts[node as usize].guest {
            guest.handle(local, input);
            while let Some(output) = guest.poll() {
                outputs.push(output);
            }
        }
        self.trace_step(node, &seen, &outputs);
        let step = Step { node, local, input: &seen, outputs: &outputs };
        for checker in &mut checkers {
            let result = checker.after_step(self, &step);
            self.judge(checker.property(), result);
        }
        self.checkers = checkers;
        for output in outputs.drain(..) {
            self.perform(node, output);
            // What a process that ended still had to say, nobody hears.
            if self.hosts[node as usize].guest.is_none() {
                break;
            }
        }
        self.scratch = outputs;
    }

    #[inline]
    fn poll(&mut self, node: u32) -> Option<Output> {
        self.hosts[node as usize].guest.as_mut()?.poll()
    }

    #[inline]
    fn after_step(&mut self, node: u32) {
        let host = &mut self.hosts[node as usize];
        if host.slow > 0 {
            host.busy_until = host.busy_until.max(self.now + host.slow);
            let at = host.busy_until;
            self.struck.count("slow");
            self.agenda.push(at, Due::Wake(node));
            return;
        }
        self.arm(node);
    }

    /// Sees to it that the node is called at its deadline.
    #[inline]
    fn arm(&mut self, node: u32) {
        let host = &mut self.hosts[node as usize];
        let Some(guest) = &host.guest else {
            return;
        };
        host.wanted = host.clock.when(guest.deadline(), self.now);
        if host.wanted < host.timer_at {
            host.timer_at = host.wanted;
            self.agenda.push(host.wanted, Due::Timer(node));
        }
    }

    fn judge(&mut self, property: &'static str, result: Result<(), String>) {
        if let Err(evidence) = result
            && self.ended.is_none()
        {
            let violation = Violation { property, evidence, at: self.now };
            self.ended = Some(Ended::Violated(violation));
        }
    }

    /// Feeds the hash with something that happens to a node from outside.
    fn note(&mut self, what: &'static str, node: u32) {
        self.note_of(what, Whom::Node(node));
    }

    /// Feeds the hash with something outside the nodes.
    fn note_of(&mut self, what: &'static str, whom: Whom) {
        self.hash.write_u64(self.now);
        self.hash.write_u32(match whom {
            Whom::Node(node) => node,
            Whom::Entry(entry) => entry,
            Whom::World => u32::MAX,
        });
        self.hash.write(what.as_bytes());
        if let Some(hashes) = &mut self.hashes {
            hashes.push(self.hash.finish());
        }
        self.trace_world(what, whom);
    }

    fn notify(&mut self, notice: Notice) {
        let mut checkers = std::mem::take(&mut self.checkers);
        for checker in &mut checkers {
            let result = checker.notice(self, notice);
            self.judge(checker.property(), result);
        }
        self.checkers = checkers;
    }

    fn client(&mut self, node: u32, epoch: u32) {
        let host = &self.hosts[node as usize];
        if host.epoch != epoch || host.guest.is_none() {
            return;
        }
        let pause = self.clients.pause(node, &mut self.choices);
        self.agenda.push(self.now + pause, Due::Client { node, epoch });
        if let Some(request) = self.clients.next(node, self.quiet, &mut self.choices) {
            let call = self.clients.name_call();
            self.call(node, call, request);
        }
    }

    fn call(&mut self, node: u32, call: CallId, request: Call) {
        self.deliver(node, Input::Call { call, request });
    }
}

/// Says whether the process still holds the stream that an input is about. What ends a stream
/// takes it away: nothing is told about it twice.
#[inline]
fn known(conns: &mut BTreeMap<u64, (u32, usize)>, input: &Input) -> bool {
    match input {
        Input::Closed { conn } | Input::DialFailed { conn } => conns.remove(&conn.0).is_some(),
        Input::Connected { conn, .. }
        | Input::Bytes { conn, .. }
        | Input::Wrote { conn, .. }
        | Input::Drawn { conn, .. }
        | Input::Accepted { conn, .. } => conns.contains_key(&conn.0),
        Input::Tick
        | Input::Datagram(_)
        | Input::SessionStored(_)
        | Input::Allowed(_)
        | Input::Seeds(_)
        | Input::Moved(_)
        | Input::Meta(_)
        | Input::Limits(_)
        | Input::Call { .. } => true,
    }
}

/// What checkers, traces and tests may know of a world.
impl<G: Guest> World<G> {
    /// True time, in nanoseconds from the start.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now
    }

    /// What the run was made of.
    #[must_use]
    pub fn setup(&self) -> &Setup<G> {
        &self.setup
    }

    /// How many nodes there are, strangers included.
    #[must_use]
    pub fn nodes(&self) -> u32 {
        self.setup.nodes
    }

    /// Says whether a node is on nobody's allowlist from the start.
    #[must_use]
    pub fn is_stranger(&self, node: u32) -> bool {
        node >= self.setup.nodes - self.setup.strangers
    }

    /// Returns a node with the truth about it.
    #[must_use]
    pub fn host(&self, node: u32) -> &Host<G> {
        &self.hosts[node as usize]
    }

    /// Returns the machine of a node, if its process runs.
    #[must_use]
    pub fn guest(&self, node: u32) -> Option<&G> {
        self.hosts[node as usize].guest.as_ref()
    }

    /// Returns which node has an id.
    #[must_use]
    pub fn node_of(&self, id: NodeId) -> Option<u32> {
        let place = self.ids.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.ids[place].1)
    }

    /// Says whether anything can go from `from` to `to` now.
    #[must_use]
    pub fn is_open(&self, from: u32, to: u32) -> bool {
        self.net.is_open(from, to)
    }

    /// Returns what the link from `from` to `to` does now.
    #[must_use]
    pub fn conditions(&self, from: u32, to: u32) -> &Conditions {
        self.net.between(from, to)
    }

    /// Lists the faults in force, in the order in which they began. What a node or a link suffers
    /// is computed from all of them at each change, so that no end undoes another entry (T20).
    pub fn faults(&self) -> impl Iterator<Item = &Planned> + '_ {
        self.active.iter().map(|entry| &self.setup.plan[*entry as usize])
    }

    /// Says whether the quiet period has begun.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whom nodes link with now.
    #[must_use]
    pub fn allowed(&self) -> &Arc<Allowed> {
        &self.allowed
    }

    /// How often each kind of fault did something so far (T20); a kind that never did is absent.
    #[must_use]
    pub fn strikes(&self) -> BTreeMap<&'static str, u64> {
        let mut all = self.struck.clone();
        all.add(self.net.struck());
        for host in &self.hosts {
            all.add(host.disk.struck());
        }
        all.into_counts()
    }

    /// Inputs handled so far.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Takes the answers recorded so far: of the world, and of every machine it had.
    pub fn take_recorded(&mut self) -> Vec<Answer> {
        let mut answers = self.choices.take_recorded();
        answers.extend(self.answers.as_mut().map(std::mem::take).unwrap_or_default());
        let guests = self.hosts.iter_mut().filter_map(|host| host.guest.as_mut());
        answers.extend(guests.flat_map(Guest::take_recorded));
        answers
    }

    /// Takes the lines traced so far.
    pub fn take_trace(&mut self) -> Vec<Line> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes the hashes kept so far.
    pub fn take_hashes(&mut self) -> Vec<u64> {
        self.hashes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Asks a question that nothing depends on, for the proof of T13.
    pub fn ask_in_vain(&mut self) {
        let _ = self.choices.choose("world.unused", [0, 0], 1_000);
    }
}

impl<G: Guest> Clone for World<G> {
    fn clone(&self) -> Self {
        Self {
            setup: self.setup.clone(),
            now: self.now,
            agenda: self.agenda.clone(),
            choices: self.choices.clone(),
            hosts: self.hosts.clone(),
            ids: self.ids.clone(),
            net: self.net.clone(),
            streams: self.streams.clone(),
            clients: self.clients.clone(),
            allowed: self.allowed.clone(),
            active: self.active.clone(),
            tape: self.tape.clone(),
            quiet: self.quiet,
            hash: self.hash,
            events: self.events,
            steps: self.steps,
            ended: self.ended.clone(),
            refusals: self.refusals.clone(),
            struck: self.struck.clone(),
            checkers: self.checkers.iter().map(|checker| checker.copy()).collect(),
            scratch: Vec::new(),
            trace: self.trace.clone(),
            hashes: self.hashes.clone(),
            answers: self.answers.clone(),
        }
    }
}

impl<G: Guest> std::fmt::Debug for World<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let now = Instant::from_nanos(self.now);
        f.debug_struct("World").field("now", &now).field("events", &self.events).finish()
    }
}

#[cfg(test)]
mod tests;
