//! Sequences of commands: who does what when, in small numbers so that things meet.

#![expect(clippy::wildcard_enum_match_arm, reason = "what is not of sessions is of others")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use machines::kernel::budget::{Record, Reserve};
use machines::kernel::config::KernelConfig;
use machines::kernel::ids::{
    DispatchId, Endpoint, EnvelopeId, InterruptId, LeaseId, ProcessId, RecordId, ReservationId,
    UseId, UserId, WorkerId,
};
use machines::kernel::interrupts::approval::Use;
use machines::kernel::interrupts::interrupt::{Assignee, NewInterrupt, NewTarget, Response};
use machines::kernel::json::Json;
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{
    ExpiryPolicy, InterruptKind, OnExhausted, Priority, ProcessState, ReviewDecision,
};
use machines::kernel::principal::{Holder, Principal, Role};
use machines::kernel::quota::{Amounts, Limit, QuotaField, QuotaPatch, Resource};
use machines::kernel::rates::{Scope, ScopeConfig};
use machines::kernel::sessions::report::Report;
use machines::kernel::{Command, CommandBody};

use crate::calls::{self, Call};
use crate::draw::Draw;
use crate::flows::{self, Flow, Tried};
use crate::papers::{self, Paper};

/// One sequence.
#[derive(Clone)]
pub(crate) struct Case {
    /// In force at the first start.
    pub(crate) config: KernelConfig,
    /// What is done.
    pub(crate) steps: Vec<Step>,
}

/// One step of a sequence.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The clock goes forward.
    Wait(u64),
    /// The clock goes back.
    Back(u64),
    /// The clock goes to the next deadline, and so far beyond it or before.
    ToDeadline(i64),
    /// The node starts again, perhaps with another configuration.
    Start(Box<KernelConfig>),
    /// A command; what it says of minted ids is a number among them ([`Pid`]).
    Do(Who, What),
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// One of three, with worker 0 (none), 1 or 2.
    User(u8, u8),
    /// One who takes the work of others, with one of two worker ids.
    Worker(u8),
    /// An operator.
    Operator,
    /// The node itself.
    Node,
}

/// A process: chosen ids are below [`CHOSEN`], the others are the n-th minted.
pub(crate) type Pid = u8;

/// Ids that callers choose.
pub(crate) const CHOSEN: u8 = 5;

/// A reservation: chosen ids are below [`CHOSEN`], the others the n-th minted.
pub(crate) type Rid = u8;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Submit {
        pid: Option<Pid>,
        user: Option<u8>,
        priority: Priority,
        quota: QuotaPatch,
        parent: Option<Pid>,
        driven: bool,
        asks: bool,
    },
    Schedule(Pid),
    NextRunnable,
    Transition(Pid, ProcessState),
    Terminate(Pid, bool),
    CleanUp(Pid),
    CleanAll,
    Reserve(Pid, Option<Rid>, Amounts, Option<u64>),
    Settle(Pid, Rid, Amounts),
    Release(Pid, Rid),
    Record(Pid, Amounts, u64, Option<u8>),
    Adjust(Pid, QuotaPatch),
    Ask(Pid, Box<NewInterrupt>),
    /// The answer to the n-th question, and whether it quotes the target that was shown.
    Reply(u8, Response, bool),
    TakeBack(u8),
    /// Use of the n-th approval, for what it is for or for something else, by an id.
    Use(u8, bool, u8),
    /// A command that counts for an endpoint (K136).
    Limited(u8, Box<What>),
    CheckRate(u8, u8, bool),
    SetRate(Option<u8>, u8, Option<ScopeConfig>),
    ResetRates(u8),
    /// Of services, or of the node.
    Call(Call),
    /// Of envelopes.
    Paper(Paper),
    /// Of sessions.
    Flow(Flow),
}

/// Ids that were minted so far.
#[derive(Default)]
pub(crate) struct Names {
    /// Processes.
    pub(crate) pids: Vec<ProcessId>,
    /// Reservations.
    pub(crate) reservations: Vec<ReservationId>,
    /// Interrupts, with the hashes of their targets.
    pub(crate) interrupts: Vec<(InterruptId, Option<[u8; 32]>)>,
    /// Leases of slots.
    pub(crate) slots: Vec<LeaseId>,
    /// Leases of tries.
    pub(crate) tries: Vec<LeaseId>,
    /// Run leases.
    pub(crate) runs: Vec<LeaseId>,
    /// Dispatches.
    pub(crate) dispatches: Vec<DispatchId>,
    /// Envelopes.
    pub(crate) envelopes: Vec<EnvelopeId>,
    /// Attempts.
    pub(crate) attempts: Vec<Tried>,
    /// Reports that were taken, and whose.
    pub(crate) reports: Vec<(Holder, Report)>,
    /// Who had a process last.
    pub(crate) holders: BTreeMap<ProcessId, Holder>,
    /// All dispatches that there ever were, chosen ids too.
    pub(crate) all_dispatches: BTreeSet<DispatchId>,
    /// All envelopes likewise.
    pub(crate) all_envelopes: BTreeSet<EnvelopeId>,
}

impl Names {
    pub(crate) fn pid(&self, pid: Pid) -> ProcessId {
        let minted = pid.checked_sub(CHOSEN).and_then(|at| self.pids.get(usize::from(at)));
        let chosen = || ProcessId::parse("pid", &format!("p{pid}"));
        minted.cloned().unwrap_or_else(|| chosen().expect("an id"))
    }

    pub(crate) fn reservation(&self, rid: Rid) -> ReservationId {
        let minted = rid.checked_sub(CHOSEN).and_then(|at| self.reservations.get(usize::from(at)));
        let chosen = || ReservationId::parse("reservation", &format!("r{rid}"));
        minted.cloned().unwrap_or_else(|| chosen().expect("an id"))
    }

    pub(crate) fn interrupt(&self, nth: u8) -> (InterruptId, Option<[u8; 32]>) {
        let none = || (InterruptId::parse("id", "int_none").expect("an id"), None);
        self.interrupts.get(usize::from(nth)).cloned().unwrap_or_else(none)
    }

    /// Makes the command that a step means.
    pub(crate) fn command(&self, who: Who, what: &What) -> Command {
        let told = if let What::Limited(_, what) = what { what } else { what };
        let speaker = if let What::Flow(flow) = told { self.speaker(flow) } else { None };
        let (by, worker) = speaker.unwrap_or_else(|| principal(who));
        let rate = match what {
            What::Limited(endpoint, _) => Some(rate_endpoint(*endpoint)),
            What::Submit { .. } | What::Schedule(_) | What::NextRunnable => None,
            What::Transition(..) | What::Terminate(..) | What::CleanUp(_) | What::CleanAll => None,
            What::Reserve(..) | What::Settle(..) | What::Release(..) | What::Record(..) => None,
            What::Adjust(..) | What::Ask(..) | What::Reply(..) | What::TakeBack(_) => None,
            What::Use(..) | What::CheckRate(..) | What::SetRate(..) | What::ResetRates(_) => None,
            What::Call(_) | What::Paper(_) | What::Flow(_) => None,
        };
        Command { by, worker, rate, body: self.body(what) }
    }

    fn body(&self, what: &What) -> CommandBody {
        match what {
            What::Submit { pid, user: of, priority, quota, parent, driven, asks } => {
                CommandBody::Submit(Box::new(Submit {
                    pid: pid.map(|pid| self.pid(pid)),
                    request: None,
                    user: of.map(|of| user(&format!("u{of}"))),
                    session: None,
                    priority: *priority,
                    quota: quota.clone(),
                    parent: parent.map(|pid| self.pid(pid)),
                    on_exhausted: match asks {
                        true => OnExhausted::Interrupt,
                        false => OnExhausted::Terminate,
                    },
                    driven: *driven,
                    metadata: BTreeMap::new(),
                }))
            }
            What::Schedule(pid) => CommandBody::Schedule { pid: self.pid(*pid) },
            What::NextRunnable => CommandBody::NextRunnable,
            What::Transition(pid, to) => {
                CommandBody::TransitionState { pid: self.pid(*pid), to: *to, reason: "so".into() }
            }
            What::Terminate(pid, force) => {
                let (pid, message) = (self.pid(*pid), "enough".into());
                CommandBody::Terminate { pid, message, force: *force }
            }
            What::CleanAll => CommandBody::Cleanup,
            What::CleanUp(pid) => CommandBody::CleanupProcess { pid: self.pid(*pid) },
            What::Reserve(pid, rid, amounts, lease_ms) => CommandBody::Reserve(Box::new(Reserve {
                pid: self.pid(*pid),
                reservation: rid.map(|rid| self.reservation(rid)),
                attempt: None,
                amounts: *amounts,
                lease_ms: *lease_ms,
            })),
            What::Settle(pid, rid, actual) => {
                let (pid, reservation) = (self.pid(*pid), self.reservation(*rid));
                CommandBody::Settle { pid, reservation, actual: *actual }
            }
            What::Release(pid, rid) => {
                let (pid, reservation) = (self.pid(*pid), self.reservation(*rid));
                CommandBody::Release { pid, reservation }
            }
            What::Record(pid, amounts, agent_hops, record) => {
                let id = |at: &u8| crate::steps::record(*at);
                CommandBody::RecordUsage(Box::new(Record {
                    pid: self.pid(*pid),
                    amounts: *amounts,
                    agent_hops: *agent_hops,
                    attempt: None,
                    record: record.as_ref().map(id),
                }))
            }
            What::Adjust(pid, quota) => {
                CommandBody::AdjustQuota { pid: self.pid(*pid), quota: quota.clone() }
            }
            What::Ask(pid, asked) => {
                CommandBody::CreateInterrupt { pid: self.pid(*pid), interrupt: asked.clone() }
            }
            What::Reply(nth, response, quotes) => {
                let (id, hash) = self.interrupt(*nth);
                let wrong = hash.map(|_| [0; 32]);
                let target_hash = if *quotes { hash } else { wrong };
                let response = Box::new(Response { target_hash, ..response.clone() });
                CommandBody::ResolveInterrupt { id, response }
            }
            What::Limited(_, what) => self.body(what),
            What::Call(call) => self.call(call),
            What::Paper(paper) => self.paper(paper),
            What::Flow(flow) => self.flow(flow),
            What::CheckRate(of, endpoint, record) => CommandBody::CheckRateLimit {
                user: user(&format!("u{of}")),
                endpoint: rate_endpoint(*endpoint),
                record: *record,
            },
            What::SetRate(of, endpoint, config) => {
                let user = of.map(|of| user(&format!("u{of}")));
                let scope = Scope { user, endpoint: rate_endpoint(*endpoint) };
                CommandBody::SetRateLimit { scope, config: *config }
            }
            What::ResetRates(of) => CommandBody::ResetRateLimits { user: user(&format!("u{of}")) },
            What::TakeBack(nth) => {
                let (id, reason) = (self.interrupt(*nth).0, "never mind".into());
                CommandBody::CancelInterrupt { id, reason }
            }
            What::Use(nth, right, id) => CommandBody::ConsumeApproval(Box::new(Use {
                interrupt: self.interrupt(*nth).0,
                action: Arc::from("pay"),
                params: if *right { params() } else { Json::object::<&str>([]) },
                use_id: UseId::parse("use_id", &format!("use{id}")).expect("an id"),
            })),
        }
    }
}

/// What a record is known by.
pub(crate) fn record(at: u8) -> RecordId {
    RecordId::parse("record", &format!("x{at}")).expect("an id")
}

/// One of two endpoints, or the user as a whole.
fn rate_endpoint(at: u8) -> Endpoint {
    let names = ["", "chat", "search"];
    Endpoint::parse("endpoint", names[usize::from(at)]).expect("a name")
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::parse("user", name).expect("an id")
}

/// Who a caller is.
pub(crate) fn principal(who: Who) -> (Principal, Option<WorkerId>) {
    let worker =
        |at: u8| (at > 0).then(|| WorkerId::parse("worker", &format!("w{at}")).expect("an id"));
    match who {
        Who::User(at, of) => (Principal::new(user(&format!("u{at}")), &[Role::User]), worker(of)),
        Who::Worker(of) => (Principal::new(user("crew"), &[Role::Worker]), worker(of)),
        Who::Operator => (Principal::new(user("ops"), &[Role::Operator]), None),
        Who::Node => (Principal::new(user("node"), &[Role::Node]), None),
    }
}

/// How likely each kind of step is in one sequence; and who owns what, as far as a glance tells.
struct Plan {
    weights: Vec<(u64, Kind)>,
    owners: BTreeMap<Pid, u8>,
    minted: u8,
    reserved: Vec<(Pid, Rid)>,
    /// Who asked for them last.
    reservers: BTreeMap<(Pid, Rid), Who>,
    ended: Vec<Pid>,
    reservations: u8,
    asked: Vec<(Pid, InterruptKind)>,
    soft_percent: u64,
    calls: Vec<(u64, calls::Kind)>,
    /// Versions that envelopes may be at.
    papers: BTreeMap<u8, u64>,
    /// Whether the node may be draining.
    drained: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Wait,
    Back,
    ToDeadline,
    Start,
    Submit,
    Schedule,
    Next,
    Transition,
    Terminate,
    CleanUp,
    Reserve,
    Settle,
    Release,
    Record,
    Adjust,
    Ask,
    Reply,
    TakeBack,
    Use,
    CheckRate,
    SetRate,
    ResetRates,
    Call,
    Paper,
    Begin,
    Poll,
    Tell,
    Quote,
}

const KINDS: [(Kind, u64); 28] = [
    (Kind::Wait, 24),
    (Kind::Back, 4),
    (Kind::ToDeadline, 16),
    (Kind::Start, 2),
    (Kind::Submit, 24),
    (Kind::Schedule, 24),
    (Kind::Next, 36),
    (Kind::Transition, 24),
    (Kind::Terminate, 6),
    (Kind::CleanUp, 5),
    (Kind::Reserve, 28),
    (Kind::Settle, 16),
    (Kind::Release, 6),
    (Kind::Record, 12),
    (Kind::Adjust, 12),
    (Kind::Ask, 24),
    (Kind::Reply, 28),
    (Kind::TakeBack, 5),
    (Kind::Use, 10),
    (Kind::CheckRate, 20),
    (Kind::SetRate, 4),
    (Kind::ResetRates, 1),
    (Kind::Call, 6),
    (Kind::Paper, 2),
    (Kind::Begin, 6),
    (Kind::Poll, 8),
    (Kind::Tell, 6),
    (Kind::Quote, 2),
];

impl Case {
    /// Draws a sequence. Each has its own emphasis, so that rare things come in crowds.
    pub(crate) fn draw(draw: &mut Draw) -> Self {
        let config = config(draw);
        let theme = draw.of(&[Theme::Processes, Theme::Processes, Theme::Services, Theme::Papers]);
        let theme = if draw.percent(25) { Theme::Services } else { theme };
        let theme = if draw.percent(45) { Theme::Sessions } else { theme };
        let most = |(kind, weight): &(Kind, u64)| match (kind, theme) {
            (Kind::Call, Theme::Services) => 300,
            (Kind::Paper, Theme::Papers) => 500,
            (Kind::Poll, Theme::Sessions) => 220,
            (Kind::Tell, Theme::Sessions) => 260,
            (Kind::Begin | Kind::Quote, Theme::Sessions) => 24,
            (_, _) => *weight,
        };
        let weights = KINDS.iter().map(|one| (most(one) * draw.of(&[1, 2, 2, 6]), one.0));
        let weights = weights.collect();
        let calls = calls::KINDS.iter().map(|(kind, weight)| (weight * draw.of(&[1, 2, 6]), *kind));
        let calls = calls.collect();
        let mut plan = Plan {
            weights,
            calls,
            papers: BTreeMap::new(),
            drained: false,
            owners: BTreeMap::new(),
            minted: 0,
            reserved: Vec::new(),
            reservers: BTreeMap::new(),
            ended: Vec::new(),
            reservations: 0,
            asked: Vec::new(),
            soft_percent: config.soft_percent,
        };
        let length = 10 + draw.below(60);
        let mut steps: Vec<Step> = (0..2).map(|_| plan.submit(draw)).collect();
        match (draw.below(12), theme) {
            (0, _) => steps = plan.family(draw),
            (1, _) => steps = plan.leave(draw),
            (2, Theme::Papers) => steps = papers::full(draw, &mut plan.papers),
            (_, _) => {}
        }
        if theme == Theme::Services {
            steps.extend(opening(draw));
        }
        if theme == Theme::Sessions {
            steps.extend(plan.start(draw));
        }
        steps.extend((0..length).map(|_| plan.step(draw)));
        Self { config, steps }
    }
}

/// What most of a sequence is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    Processes,
    Services,
    Papers,
    Sessions,
}

/// Services that are there, and handlers.
fn opening(draw: &mut Draw) -> Vec<Step> {
    let mut steps = Vec::new();
    for at in 0..1 + u8_below(draw, 4) {
        let call = Call::Register(at, calls::shape(draw));
        steps.push(Step::Do(Who::Worker(0), What::Call(call)));
        steps.push(Step::Do(Who::Node, What::Call(Call::Bind(at))));
    }
    if draw.percent(60) {
        let shift = calls::shift(draw).into_iter();
        steps.extend(shift.map(|(who, call)| Step::Do(who, What::Call(call))));
    }
    steps
}

/// One of several, each as likely as it weighs.
fn weighed<T: Copy>(draw: &mut Draw, all: &[(u64, T)]) -> T {
    let mut at = draw.below(all.iter().map(|(weight, _)| weight).sum());
    for (weight, of) in all {
        if at < *weight {
            return *of;
        }
        at -= weight;
    }
    all[0].1
}

impl Plan {
    fn step(&mut self, draw: &mut Draw) -> Step {
        let kind = weighed(draw, &self.weights);
        let kind = if self.drained && draw.percent(15) { Kind::Start } else { kind };
        self.of_kind(draw, kind)
    }

    /// A call of a service, mostly for a process by who may.
    fn call(&mut self, draw: &mut Draw, pid: Pid, owner: Who) -> (Who, What) {
        let kind = weighed(draw, &self.calls);
        self.drained |=
            [calls::Kind::Drain, calls::Kind::Shutdown, calls::Kind::Stop].contains(&kind);
        let (who, call) = calls::call(draw, kind, (pid, owner));
        (who, What::Call(call))
    }

    /// A process that follows a pipeline.
    fn start(&mut self, draw: &mut Draw) -> Vec<Step> {
        let mut steps = Vec::new();
        for pid in 0..1 + u8_below(draw, 2) {
            let who = Who::User(*self.owners.entry(pid).or_insert(0), 0);
            let submit = What::Submit {
                pid: Some(pid),
                user: None,
                priority: Priority::Normal,
                quota: if draw.percent(60) { Vec::new() } else { patch(draw) },
                parent: None,
                driven: false,
                asks: draw.percent(30),
            };
            let begin = Flow::Begin(pid, flows::pipeline(draw), Some(pid), false);
            let poll = What::Flow(Flow::Poll(pid, false));
            let whats = [submit, What::Flow(begin), poll];
            steps.extend(whats.into_iter().map(|what| Step::Do(who, what)));
        }
        if draw.percent(15) {
            steps.extend(self.bound(draw));
        }
        steps
    }

    /// A question that binds what may change before the answer (K168, K169).
    fn bound(&mut self, draw: &mut Draw) -> Vec<Step> {
        let (owner, kind) = (Who::User(0, 0), InterruptKind::Confirmation);
        let mut asked = NewInterrupt::new(kind);
        let (action, params) = (Arc::from("pay"), params());
        asked.target = Some(Box::new(NewTarget { action, params, binds: flows::binds(draw) }));
        self.asked.push((0, kind));
        let yes = Response { approved: Some(true), ..Response::default() };
        let whats = [
            What::Ask(0, Box::new(asked)),
            What::Paper(papers::metadata(draw, 0)),
            What::Reply(0, yes, true),
            What::Flow(Flow::Poll(0, false)),
            What::Paper(papers::metadata(draw, 0)),
            What::Use(0, true, 0),
        ];
        whats.into_iter().map(|what| Step::Do(owner, what)).collect()
    }

    /// Of a session: that it begins, goes on, or uses something.
    fn flow(&mut self, draw: &mut Draw, kind: Kind, pid: Pid) -> What {
        let pid = if draw.percent(70) { u8_below(draw, 2) } else { pid };
        What::Flow(match kind {
            Kind::Poll => Flow::Poll(pid, draw.percent(85)),
            Kind::Tell if draw.percent(8) => Flow::Again(u8_below(draw, 2), draw.percent(70)),
            Kind::Tell => {
                let mut asked = question(draw);
                if let Some(target) = &mut asked.target {
                    target.binds = flows::binds(draw);
                }
                let told = flows::told(draw, asked);
                Flow::Tell(Box::new(told), draw.percent(94))
            }
            Kind::Quote if draw.percent(60) => {
                let rid = draw.percent(70).then(|| u8_below(draw, CHOSEN - 2));
                Flow::Hold(u8_below(draw, 2), rid, amounts(draw))
            }
            Kind::Quote => {
                let record = draw.of(&[None, Some(0), Some(1)]);
                Flow::Record(u8_below(draw, 2), record, amounts(draw))
            }
            _ => {
                let other = u8_below(draw, CHOSEN);
                let envelope = draw.of(&[Some(pid), Some(pid), Some(other), None]);
                Flow::Begin(pid, flows::pipeline(draw), envelope, draw.percent(60))
            }
        })
    }

    fn of_kind(&mut self, draw: &mut Draw, kind: Kind) -> Step {
        let (pid, rid) = self.subject(draw, kind);
        let mut who = self.who(draw, pid);
        if [Kind::Settle, Kind::Release].contains(&kind) && draw.percent(40) {
            who = self.reservers.get(&(pid, rid)).copied().unwrap_or(who);
        }
        let what = match kind {
            Kind::Call => {
                let call;
                (who, call) = self.call(draw, pid, who);
                call
            }
            Kind::Paper => return papers::paper(draw, &mut self.papers),
            Kind::Begin | Kind::Poll | Kind::Tell | Kind::Quote => self.flow(draw, kind, pid),
            Kind::Wait => {
                let spans =
                    [0, 1, 1, 3, 10, 10, 100, 499, 500, 1_000, 1_001, 5_000, 30_000, 4_000_000];
                return Step::Wait(draw.of(&spans));
            }
            Kind::Back => return Step::Back(draw.of(&[1, 500, 10_000])),
            Kind::ToDeadline => return Step::ToDeadline(draw.of(&[-1, 0, 0, 1])),
            Kind::Start => {
                // No rule says when a warning is due that a new configuration makes due.
                let soft_percent = self.soft_percent;
                self.drained = false;
                return Step::Start(Box::new(KernelConfig { soft_percent, ..config(draw) }));
            }
            Kind::Submit => return self.submit(draw),
            Kind::Schedule => What::Schedule(pid),
            Kind::Next => return Step::Do(self.anyone(draw), What::NextRunnable),
            Kind::Transition => {
                let often = [ProcessState::Ready, ProcessState::Running, ProcessState::Waiting];
                let to = match draw.percent(60) {
                    true => draw.of(&often),
                    false => draw.of(ProcessState::ALL),
                };
                What::Transition(pid, to)
            }
            Kind::Terminate => {
                self.ended.push(pid);
                What::Terminate(pid, draw.percent(70))
            }
            Kind::CleanUp if draw.percent(30) => What::CleanAll,
            Kind::CleanUp => What::CleanUp(pid),
            Kind::Reserve => {
                if draw.percent(25) {
                    who = Who::Worker(1 + u8_below(draw, 2));
                }
                let chosen = draw.percent(70).then(|| u8_below(draw, CHOSEN - 2));
                let rid = chosen.unwrap_or(CHOSEN + self.reservations);
                self.reserved.push((pid, rid));
                self.reservers.insert((pid, rid), who);
                self.reservations += u8::from(chosen.is_none());
                let leases = [None, None, Some(1_000), Some(2_500), Some(60_000), Some(999)];
                What::Reserve(pid, chosen, amounts(draw), draw.of(&leases))
            }
            Kind::Settle => What::Settle(pid, rid, amounts(draw)),
            Kind::Release => What::Release(pid, rid),
            Kind::Record => {
                let record = draw.of(&[None, Some(0), Some(1)]);
                What::Record(pid, amounts(draw), draw.of(&[0, 0, 1, 3]), record)
            }
            Kind::Adjust => What::Adjust(pid, patch(draw)),
            Kind::Ask => {
                let asked = question(draw);
                self.asked.push((pid, asked.kind));
                What::Ask(pid, Box::new(asked))
            }
            Kind::Reply => {
                let nth = self.nth(draw);
                let kind = self.asked.get(usize::from(nth)).map(|(_, kind)| *kind);
                What::Reply(nth, reply(draw, kind), !draw.percent(8))
            }
            Kind::TakeBack => What::TakeBack(self.nth(draw)),
            Kind::CheckRate => {
                let (of, endpoint) = (u8_below(draw, 2), u8_below(draw, 2));
                What::CheckRate(of, endpoint, !draw.percent(10))
            }
            Kind::SetRate => {
                let user = draw.percent(50).then(|| u8_below(draw, 2));
                let limit = |draw: &mut Draw| {
                    let most = draw.of(&[None, Some(0), Some(1), Some(2), Some(4)]);
                    most.map(Limit::at_most)
                };
                let (burst, minute) = (limit(draw), limit(draw));
                let set = ScopeConfig { burst, minute, hour: limit(draw), day: None };
                let set = draw.percent(85).then_some(set);
                return Step::Do(Who::Operator, What::SetRate(user, u8_below(draw, 2), set));
            }
            Kind::ResetRates => {
                return Step::Do(Who::Operator, What::ResetRates(u8_below(draw, 2)));
            }
            Kind::Use => What::Use(self.nth(draw), !draw.percent(20), u8_below(draw, 2)),
        };
        // A question about a rate carries none: whether that is one hit or two is not said.
        match draw.percent(6) && kind != Kind::CheckRate {
            true => Step::Do(who, What::Limited(u8_below(draw, 2), Box::new(what))),
            false => Step::Do(who, what),
        }
    }

    /// A process that asks for leave, gets it, and runs.
    fn leave(&mut self, draw: &mut Draw) -> Vec<Step> {
        let who = Who::User(0, 0);
        let mut steps = self.family(draw);
        steps.truncate(1);
        let mut asked = NewInterrupt::new(InterruptKind::Confirmation);
        let (action, params) = (Arc::from("pay"), params());
        asked.target = Some(Box::new(NewTarget { action, params, binds: Vec::new() }));
        self.asked.push((0, asked.kind));
        let yes = Response { approved: Some(true), ..Response::default() };
        let whats = [
            What::Schedule(0),
            What::Ask(0, Box::new(asked)),
            What::Reply(0, yes, true),
            What::NextRunnable,
            What::Use(0, draw.percent(60), 0),
            What::Use(0, true, u8_below(draw, 2)),
        ];
        steps.extend(whats.into_iter().map(|what| Step::Do(who, what)));
        steps
    }

    /// Three generations; the youngest has a reservation, and the one between may be gone.
    fn family(&mut self, draw: &mut Draw) -> Vec<Step> {
        let who = Who::User(0, 0);
        let child = |pid: Pid| What::Submit {
            pid: Some(pid),
            user: None,
            priority: Priority::Normal,
            quota: Vec::new(),
            parent: pid.checked_sub(1),
            driven: false,
            asks: false,
        };
        self.owners.extend([(0, 0), (1, 0), (2, 0)]);
        self.reserved.push((2, 0));
        let mut whats: Vec<What> = (0..3).map(child).collect();
        whats.push(What::Reserve(2, Some(0), amounts(draw), None));
        whats.push(What::Terminate(1, true));
        if draw.percent(70) {
            whats.push(What::CleanUp(1));
        }
        whats.into_iter().map(|what| Step::Do(who, what)).collect()
    }

    fn submit(&mut self, draw: &mut Draw) -> Step {
        let who = match draw.percent(80) {
            true => Who::User(u8_below(draw, 3), 0),
            false => self.anyone(draw),
        };
        let others = draw.percent(if who == Who::Operator { 80 } else { 4 });
        let user = others.then(|| u8_below(draw, 2));
        let free = |pid: &Pid| !self.owners.contains_key(pid) || draw.percent(15);
        let fresh: Vec<Pid> = (0..CHOSEN).filter(free).collect();
        let chosen = (!fresh.is_empty() && draw.percent(80)).then(|| draw.of(&fresh));
        let pid = chosen.unwrap_or(CHOSEN + self.minted);
        self.minted += u8::from(chosen.is_none());
        let owner = match (user, who) {
            (Some(user), Who::Operator) => Some(user),
            (None, Who::User(user, _)) => Some(user),
            _ => None,
        };
        if let Some(owner) = owner {
            self.owners.entry(pid).or_insert(owner);
        }
        let mine =
            self.owners.iter().filter(|(one, of)| Some(*of) == owner.as_ref() && **one != pid);
        let mine: Vec<Pid> = mine.map(|(one, _)| *one).collect();
        let parent = match draw.below(20) {
            0..10 if !mine.is_empty() => Some(draw.of(&mine)),
            10 => Some(self.pid(draw)),
            _ => None,
        };
        let quota = match draw.percent(60) {
            true => Vec::new(),
            false => patch(draw),
        };
        let priority = draw.of(Priority::ALL);
        let driven = draw.percent(5);
        let asks = draw.percent(25);
        Step::Do(who, What::Submit { pid: chosen, user, priority, quota, parent, driven, asks })
    }

    /// Mostly a process that may exist.
    fn pid(&self, draw: &mut Draw) -> Pid {
        let known: Vec<Pid> = self.owners.keys().copied().collect();
        match known.is_empty() || draw.percent(4) {
            true => u8_below(draw, CHOSEN + 2),
            false => draw.of(&known),
        }
    }

    /// Mostly one who may.
    fn who(&self, draw: &mut Draw, pid: Pid) -> Who {
        match (self.owners.get(&pid), draw.below(10)) {
            (Some(owner), 0..7) => Who::User(*owner, u8_below(draw, 2)),
            (_, 7) => Who::Operator,
            (_, 8) => Who::Worker(1 + u8_below(draw, 2)),
            (_, _) => self.anyone(draw),
        }
    }

    fn anyone(&self, draw: &mut Draw) -> Who {
        match draw.below(10) {
            0..4 => Who::User(u8_below(draw, 3), u8_below(draw, 3)),
            4..8 => Who::Worker(1 + u8_below(draw, 2)),
            8 => Who::Operator,
            _ => Who::Node,
        }
    }

    /// One of the last questions.
    fn nth(&self, draw: &mut Draw) -> u8 {
        let asked = u8::try_from(self.asked.len()).unwrap_or(u8::MAX);
        asked.saturating_sub(u8_below(draw, 4))
    }

    /// A process, and a reservation that may be its own; where it matters, one that has ended.
    fn subject(&self, draw: &mut Draw, kind: Kind) -> (Pid, Rid) {
        let often = draw.percent(80);
        let closes = [Kind::Settle, Kind::Release].contains(&kind);
        if closes && often && !self.reserved.is_empty() {
            draw.of(&self.reserved)
        } else if kind == Kind::CleanUp && often && !self.ended.is_empty() {
            (draw.of(&self.ended), 0)
        } else {
            (self.pid(draw), u8_below(draw, CHOSEN - 2))
        }
    }
}

pub(crate) fn u8_below(draw: &mut Draw, bound: u8) -> u8 {
    u8::try_from(draw.below(u64::from(bound))).expect("below a byte")
}

/// A few amounts, mostly small, of one or two resources.
fn amounts(draw: &mut Draw) -> Amounts {
    let mut amounts = Amounts::ZERO;
    for _ in 0..1 + draw.below(2) {
        let n = draw.of(&[0, 1, 1, 2, 3, 4, 5, 8, 10, 1 << 41]);
        match draw.of(&Resource::RESERVABLE) {
            Resource::LlmCalls => amounts.llm_calls = n,
            Resource::ToolCalls => amounts.tool_calls = n,
            Resource::TokensIn => amounts.tokens_in = n,
            Resource::TokensOut => amounts.tokens_out = n,
            Resource::InferenceInputChars => amounts.inference_input_chars = n,
            Resource::InferenceRequests
            | Resource::AgentHops
            | Resource::Iterations
            | Resource::ContextTokens
            | Resource::ElapsedMs => amounts.inference_requests = n,
        }
    }
    amounts
}

/// What is to be approved.
pub(crate) fn params() -> Json {
    Json::object([("to", Json::list(vec![]))])
}

/// A question, mostly as its kind has it.
fn question(draw: &mut Draw) -> NewInterrupt {
    let kind = draw.of(InterruptKind::ALL);
    let mut asked = NewInterrupt::new(kind);
    let person = |at: u8| Assignee::User { user: user(&format!("u{at}")) };
    asked.ttl = draw.of(&[None, Some(1_000), Some(1_000), Some(5_000), Some(700)]);
    asked.auto_expire = draw.of(&[None, None, None, None, Some(true), Some(false)]);
    if draw.percent(50) {
        asked.on_expiry = Some(draw.of(ExpiryPolicy::ALL));
    }
    asked.assignee = draw.percent(30).then(|| person(u8_below(draw, 3)));
    asked.escalate_to = draw.percent(30).then(|| person(u8_below(draw, 3)));
    asked.blocking = draw.of(&[None, None, None, None, Some(false), Some(true)]);
    let leave = [InterruptKind::Confirmation, InterruptKind::AgentReview].contains(&kind);
    if leave && draw.percent(60) {
        let (action, params) = (Arc::from("pay"), params());
        asked.target = Some(Box::new(NewTarget { action, params, binds: Vec::new() }));
    }
    if asked.on_expiry != Some(ExpiryPolicy::Escalate) && draw.percent(15) {
        asked.key = Some(Arc::from("once"));
    }
    asked
}

/// An answer, mostly one that suits the kind.
fn reply(draw: &mut Draw, kind: Option<InterruptKind>) -> Response {
    let kind = kind.unwrap_or(InterruptKind::Clarification);
    let mut said = Response::default();
    match kind {
        InterruptKind::Clarification => {
            said.text = draw.of(&[Some("so"), Some("no"), None]).map(Arc::from)
        }
        InterruptKind::Confirmation => {
            said.approved = draw.of(&[Some(true), Some(true), Some(false), None])
        }
        InterruptKind::AgentReview => {
            let decisions =
                [ReviewDecision::Approve, ReviewDecision::Reject, ReviewDecision::Modify];
            said.decision = Some(draw.of(&decisions));
            if said.decision == Some(ReviewDecision::Modify) || draw.percent(5) {
                said.data = Some(params());
            }
        }
        InterruptKind::Checkpoint
        | InterruptKind::ResourceExhausted
        | InterruptKind::Timeout
        | InterruptKind::SystemError => {}
    }
    if draw.percent(4) {
        said.approved = Some(true);
    }
    said
}

/// A few limits, near what is used.
fn patch(draw: &mut Draw) -> QuotaPatch {
    let mut patch = BTreeMap::new();
    for _ in 0..1 + draw.below(2) {
        let field = draw.of(&QuotaField::ALL);
        let spans = [QuotaField::TimeoutMs, QuotaField::SoftTimeoutMs];
        let most = match spans.contains(&field) {
            true => draw.of(&[0, 500, 1_000, 1_500, 6_000, 7_000, 300_000]),
            false => draw.of(&[0, 1, 3, 5, 8, 10, 12, 20]),
        };
        patch.insert(field, if draw.percent(5) { Limit::UNLIMITED } else { Limit::at_most(most) });
    }
    patch.into_iter().collect()
}

/// A configuration in which limits are near.
pub(crate) fn config(draw: &mut Draw) -> KernelConfig {
    let mut config = KernelConfig::new();
    config.soft_percent = draw.of(&[80, 80, 50, 100, 1]);
    config.ageing_ms = draw.of(&[1, 100, 1_000, 30_000]);
    config.run_lease_ms = draw.of(&[1_000, 1_500, 5_000, 60_000]);
    config.reservation_lease_ms = draw.of(&[1_000, 2_000, 120_000]);
    config.tick_batch = draw.of(&[1, 1, 2, 256]);
    config.retention.terminated_ms = draw.of(&[0, 2_000, 10_000, 3_600_000]);
    config.retention.zombie_ms = draw.of(&[0, 3_000, 20_000]);
    let limits = &mut config.limits;
    limits.processes = draw.of(&[limits.processes, limits.processes, 4]);
    limits.processes_of_user = draw.of(&[limits.processes_of_user, 2]);
    limits.children = draw.of(&[limits.children, 2]);
    limits.tree_depth = draw.of(&[8, 8, 3, 2]);
    limits.reservations = draw.of(&[256, 2, 3]);
    limits.interrupts_pending = draw.of(&[16, 2]);
    limits.interrupts = draw.of(&[1_000, 4]);
    limits.services = draw.of(&[4_096, 4_096, 2]);
    limits.dispatches_waiting = draw.of(&[1_024, 2, 3]);
    // What the kernel itself asks has four entries.
    limits.entries = draw.of(&[1_024, 1_024, 4]);
    limits.raw_input_bytes = draw.of(&[1_024, 1_024, 4]);
    config.task_lease_ms = draw.of(&[1_000, 2_000, 30_000]);
    config.slot_lease_ms = draw.of(&[1_000, 3_000, 60_000]);
    config.max_lost = draw.of(&[0, 1, 3]);
    config.drain_ms = draw.of(&[1, 1_000, 30_000]);
    config.retention.dispatch_ms = draw.of(&[0, 1_000, 600_000]);
    config.retention.envelope_ms = draw.of(&[1_000, 60_000, 3_600_000]);
    config.approval_ttl_ms = draw.of(&[1_000, 900_000]);
    let rate = &mut config.default_rate;
    rate.burst = Limit::at_most(draw.of(&[1, 2, 3, 10]));
    rate.minute = Limit::at_most(draw.of(&[2, 3, 60]));
    config.cleanup_interval_ms = draw.of(&[1, 1_000, 7_000, 300_000]);
    config.max_escalations = draw.of(&[0, 1, 2]);
    let clarification = &mut config.interrupts[0];
    clarification.on_expiry = draw.of(&[ExpiryPolicy::Fail, ExpiryPolicy::Continue]);
    clarification.default_ttl = Some(draw.of(&[1_000, 86_400_000]));
    let quota = &mut config.default_quota;
    for field in [
        QuotaField::MaxLlmCalls,
        QuotaField::MaxToolCalls,
        QuotaField::MaxInputTokens,
        QuotaField::MaxOutputTokens,
        QuotaField::MaxContextTokens,
        QuotaField::MaxInferenceRequests,
        QuotaField::MaxAgentHops,
    ] {
        *quota.field_mut(field) = Limit::at_most(draw.of(&[5, 10, 10, 20, 1_000]));
    }
    quota.timeout_ms = Limit::at_most(draw.of(&[2_000, 30_000, 300_000]));
    quota.soft_timeout_ms = draw.of(&[Limit::at_most(1_500), Limit::UNLIMITED]);
    if draw.percent(20) {
        config.quota_ceiling.max_llm_calls = Limit::at_most(10);
    }
    config
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        told(f, &self.config)?;
        self.steps.iter().try_for_each(|step| match step {
            Step::Start(config) => {
                write!(f, "Start with ")?;
                told(f, config)
            }
            Step::Wait(_) | Step::Back(_) | Step::ToDeadline(_) | Step::Do(..) => {
                writeln!(f, "{step:?}")
            }
        })
    }
}

/// Says of a configuration what [`config`] draws.
fn told(f: &mut fmt::Formatter<'_>, config: &KernelConfig) -> fmt::Result {
    let (limits, quota) = (&config.limits, &config.default_quota);
    let spans = (config.ageing_ms, config.run_lease_ms, config.reservation_lease_ms);
    writeln!(f, "soft_percent {}, tick_batch {}", config.soft_percent, config.tick_batch)?;
    writeln!(f, "ageing, run lease, reservation lease {spans:?}, {:?}", config.retention)?;
    write!(f, "processes {}, of a user {}", limits.processes, limits.processes_of_user)?;
    write!(f, ", children {}, depth {}", limits.children, limits.tree_depth)?;
    writeln!(f, ", reservations {}", limits.reservations)?;
    let spans = (config.task_lease_ms, config.slot_lease_ms, config.drain_ms);
    writeln!(f, "task lease, slot lease, drain {spans:?}, lost at most {}", config.max_lost)?;
    let counts = (limits.services, limits.dispatches_waiting, limits.entries);
    writeln!(f, "services, waiting dispatches, entries {counts:?}")?;
    write!(f, "ceiling of llm_calls {}; {quota:?}", config.quota_ceiling.max_llm_calls)?;
    writeln!(f)
}
