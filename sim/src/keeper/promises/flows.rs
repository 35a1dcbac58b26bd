//! The checkers of sessions: one attempt of a stage at a time (K425), ends (K437), counted moves
//! (K439) and that there is an end (K440).
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::collections::BTreeSet;

use machines::kernel::event::{Body, Event, ProcessEvent};
use machines::kernel::ids::{ProcessId, StageName, WorkerId};
use machines::kernel::names::ProcessState;
use machines::kernel::principal::Holder;
use machines::kernel::reply::Done;
use machines::kernel::sessions::event::{Issued, SessionEvent};
use machines::kernel::sessions::instruction::{Instruction, InstructionBody, WaitReason};
use machines::kernel::sessions::report::Report;
use machines::kernel::{Code, Command, CommandBody, Kernel, Time};

use super::super::book::flows::{Flow, Flows};
use super::super::book::{Book, Follow};
use super::super::kernel::{Clerk, Reply, kernel_config};
use super::super::{Seen, Watch, World};
use super::driven::ENOUGH;

/// Returns who a command comes from, as leases name them (K27).
pub(super) fn holder(command: &Command) -> Holder {
    let user = command.by.user.clone();
    let own = || WorkerId::parse("worker", user.as_str()).expect("what names a user is an id");
    Holder { worker: command.worker.clone().unwrap_or_else(own), user }
}

/// Returns the instruction that a poll or a report was answered with.
pub(super) fn instructed(reply: &Reply) -> Option<&Instruction> {
    match &reply.as_ref().ok()?.reply.done {
        Done::Instruction(told) => Some(told),
        _ => None,
    }
}

/// What was known before the event that is looked at.
#[derive(Clone, Debug, Default)]
struct Before {
    book: Book,
    flows: Flows,
}

/// Looks at an event, given those before it.
type OfEvent = fn(&Before, &ProcessId, &Event) -> Result<bool, String>;
/// Looks at the end of a decision that concerned some processes.
type OfDecision = fn(&Before, &ProcessId) -> Result<bool, String>;
/// Looks at a reply, given all events that it knows of.
type OfReply = fn(&Before, &Command, &Reply) -> Result<bool, String>;

/// A property of sessions.
#[derive(Clone)]
pub(super) struct Steered {
    property: &'static str,
    event: OfEvent,
    decision: OfDecision,
    reply: OfReply,
    follow: Follow,
    before: Before,
    /// Of the node (K272).
    max_lost: u64,
    /// K439: processes whose counts are to be compared.
    touched: BTreeSet<ProcessId>,
}

impl Steered {
    fn new(
        property: &'static str,
        event: OfEvent,
        (decision, reply): (OfDecision, OfReply),
    ) -> Self {
        let (follow, before) = (Follow::default(), Before::default());
        let (max_lost, touched) = (kernel_config().max_lost, BTreeSet::new());
        Self { property, event, decision, reply, follow, before, max_lost, touched }
    }

    /// K425.
    pub(super) fn one_attempt() -> Self {
        Self::new("K425", one_attempt, (no_decision, only_the_holder))
    }

    /// K437.
    pub(super) fn ends_together() -> Self {
        Self::new("K437", nothing_after, (both_or_none, terminate_repeats))
    }

    /// K439.
    pub(super) fn counted() -> Self {
        Self::new("K439", within_limits, (no_decision, no_reply))
    }

    /// K440, but for the end of a run ([`Ending`]).
    fn ending() -> Self {
        Self::new("K440", few_attempts, (no_decision, never_stuck))
    }

    fn add(&mut self, events: &[Event]) -> Result<bool, String> {
        let (mut looked, mut concerned) = (false, BTreeSet::new());
        for event in events {
            if let Some(pid) = &event.subject.pid {
                looked |= (self.event)(&self.before, pid, event)?;
                concerned.insert(pid.clone());
            }
            self.before.book.add(event);
            self.before.flows.add(event, self.max_lost);
        }
        for pid in &concerned {
            looked |= (self.decision)(&self.before, pid)?;
        }
        if self.property == "K439" {
            self.touched.extend(concerned);
        }
        Ok(looked)
    }

    /// K439: what the kernel counts is what happened.
    fn compare(&mut self, kernel: &Kernel) -> Result<(), String> {
        for pid in std::mem::take(&mut self.touched) {
            let counted = kernel.state().session(&pid);
            let (Some(flow), Some(session)) = (self.before.flows.known.get(&pid), counted) else {
                continue;
            };
            let same = flow.edges == session.edges
                && flow.visits == session.visits
                && flow.iteration == session.iteration;
            if !same {
                return Err(format!(
                    "{pid} moved {:?} in {} rounds, and counts {:?} in {}",
                    flow.edges, flow.iteration, session.edges, session.iteration
                ));
            }
        }
        Ok(())
    }
}

impl Watch<Clerk> for Steered {
    fn property(&self) -> &'static str {
        self.property
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let mut looked = false;
        for events in self.follow.see(seen) {
            looked |= self.add(&events)?;
        }
        let Seen::Replied { request, reply, .. } = seen else {
            return Ok(looked);
        };
        looked |= (self.reply)(&self.before, request, reply)?;
        let kernel = world.guest().and_then(Clerk::kernel);
        if let Some(kernel) = kernel.filter(|it| it.last_event() == self.before.book.events)
            && self.property == "K439"
        {
            self.compare(kernel)?;
        }
        Ok(looked)
    }
}

fn no_decision(_: &Before, _: &ProcessId) -> Result<bool, String> {
    Ok(false)
}

fn no_reply(_: &Before, _: &Command, _: &Reply) -> Result<bool, String> {
    Ok(false)
}

/// K425, K268: one live attempt at a stage, and one of a session outside groups; all of a process
/// are of whoever has its run lease.
fn one_attempt(before: &Before, pid: &ProcessId, event: &Event) -> Result<bool, String> {
    let flows = &before.flows;
    match &event.body {
        Body::Session { event: SessionEvent::AttemptIssued { issued } } => {
            let (stage, attempt) = (&issued.stage, &issued.attempt);
            let mut live = flows.live(pid);
            if let Some((other, _)) = live.find(|(_, tried)| tried.stage == *stage) {
                return Err(format!("{pid}: {attempt} at {stage}, where {other} is live"));
            }
            if issued.branch.is_none() && flows.live(pid).next().is_some() {
                return Err(format!("{pid}: {attempt} beside another, outside a group"));
            }
            if flows.attempt(pid, attempt).is_some() {
                return Err(format!("{pid}: {attempt} is issued twice"));
            }
            holds(before, pid, issued)
        }
        Body::Session { event: SessionEvent::AttemptReported { reported } } => {
            is_live(flows, pid, &reported.attempt)
        }
        Body::Session { event: SessionEvent::AttemptClosed { attempt, .. } } => {
            is_live(flows, pid, attempt)
        }
        Body::Process { event: ProcessEvent::StateChanged { lease: Some(lease), .. } } => {
            match flows.live(pid).find(|(_, tried)| tried.holder != lease.holder) {
                Some((attempt, tried)) => Err(format!(
                    "{pid} is run by {:?}, and {:?} works on {attempt}",
                    lease.holder, tried.holder
                )),
                None => Ok(true),
            }
        }
        _ => Ok(false),
    }
}

fn holds(before: &Before, pid: &ProcessId, issued: &Issued) -> Result<bool, String> {
    let state = before.book.known.get(pid).map(|known| known.state);
    let has = before.flows.holders.get(pid);
    if state != Some(ProcessState::Running) || has != Some(&issued.holder) {
        return Err(format!(
            "{pid} is {state:?} and held by {has:?}, and {} is issued to {:?}",
            issued.attempt, issued.holder
        ));
    }
    Ok(true)
}

fn is_live(
    flows: &Flows,
    pid: &ProcessId,
    attempt: &machines::kernel::ids::AttemptId,
) -> Result<bool, String> {
    match flows.attempt(pid, attempt).is_some_and(|tried| tried.live) {
        true => Ok(true),
        false => Err(format!("{pid}: {attempt} is closed, and was not live")),
    }
}

/// K425: a report that is taken comes from the holder, as the agent of the attempt.
fn only_the_holder(before: &Before, command: &Command, reply: &Reply) -> Result<bool, String> {
    let (CommandBody::ReportAgentResult(report), Ok(_)) = (&command.body, reply) else {
        return Ok(false);
    };
    let Report { pid, attempt, agent, .. } = &**report;
    let Some(tried) = before.flows.attempt(pid, attempt) else {
        return Err(format!("{pid}: a report on {attempt} is taken, which never was"));
    };
    match tried.holder == holder(command) && tried.agent.as_ref() == Some(agent) {
        true => Ok(true),
        false => Err(format!("{pid}: {attempt} of {tried:?}, reported by {:?}", command.by)),
    }
}

/// K437: nothing happens in a session that has ended.
fn nothing_after(before: &Before, pid: &ProcessId, event: &Event) -> Result<bool, String> {
    let Body::Session { event } = &event.body else {
        return Ok(false);
    };
    let over = before.flows.known.get(pid).is_none_or(|flow| flow.ended.is_some());
    match event {
        SessionEvent::Started { .. } => {
            let live = before.flows.live(pid).count();
            let ended = before.book.known.get(pid).is_none_or(|known| known.state.is_terminal());
            match live > 0 || ended {
                true => Err(format!("{pid} begins a session: terminal {ended}, {live} attempts")),
                false => Ok(true),
            }
        }
        SessionEvent::Removed => match over {
            true => Ok(true),
            false => Err(format!("{pid}: a session is removed that has not ended")),
        },
        _ if over => Err(format!("{pid}: its session has ended, and then: {event:?}")),
        SessionEvent::Ended { .. } if before.flows.live(pid).next().is_some() => {
            Err(format!("{pid}: its session ends while somebody works for it"))
        }
        _ => Ok(true),
    }
}

/// K437: a session has ended exactly if its process has.
fn both_or_none(before: &Before, pid: &ProcessId) -> Result<bool, String> {
    let (Some(flow), Some(known)) = (before.flows.known.get(pid), before.book.known.get(pid))
    else {
        return Ok(false);
    };
    let (ended, terminal) = (flow.ended.is_some(), known.state.is_terminal());
    match ended == terminal {
        true => Ok(ended),
        false => Err(format!("{pid} is terminal: {terminal}, its session has ended: {ended}")),
    }
}

/// K437: whoever asks for an ended session is told how it ended, and nobody else is.
fn terminate_repeats(before: &Before, command: &Command, reply: &Reply) -> Result<bool, String> {
    let CommandBody::NextInstruction { pid } = &command.body else {
        return Ok(false);
    };
    let Some(end) = before.flows.known.get(pid).map(|flow| flow.ended.as_ref()) else {
        return Ok(false);
    };
    let told = match (instructed(reply), reply) {
        (Some(told), _) => match &told.body {
            InstructionBody::Terminate { reason, message, .. } => Some((*reason, message.clone())),
            _ => None,
        },
        (None, Err(refusal)) if refused_wrongly(refusal.code) && end.is_some() => {
            return Err(format!("{pid}: its session has ended, and a poll is refused: {refusal}"));
        }
        (None, _) => return Ok(false),
    };
    match told.as_ref() == end {
        true => Ok(end.is_some()),
        false => Err(format!("{pid}: its session ended as {end:?}, and a poll tells {told:?}")),
    }
}

const fn refused_wrongly(code: Code) -> bool {
    matches!(code, Code::NotHolder | Code::SessionNotFound | Code::ProcessTerminal)
}

/// K439: no move and no issue takes a count above its limit.
fn within_limits(before: &Before, pid: &ProcessId, event: &Event) -> Result<bool, String> {
    let Body::Session { event } = &event.body else {
        return Ok(false);
    };
    let Some(flow) = before.flows.known.get(pid) else {
        return Ok(false);
    };
    match event {
        SessionEvent::Moved { from, to, back, visit, iteration, .. } => {
            let told = (*visit, *iteration, *back);
            moved(before, (pid, flow), (from.as_ref(), to), told)
        }
        SessionEvent::AttemptIssued { issued } if issued.hop => {
            let done = before.flows.sums.get(pid).map_or(0, |sum| sum.hops);
            let own = before.book.known.get(pid).map(|known| known.quota.max_agent_hops);
            let fits = flow.pipeline.max_agent_hops.allows(flow.hops + 1)
                && own.is_none_or(|own| own.allows(done + 1));
            match fits {
                true => Ok(true),
                false => Err(format!(
                    "{pid}: a hop after {} of {}, and {done} of {own:?}",
                    flow.hops, flow.pipeline.max_agent_hops
                )),
            }
        }
        _ => Ok(false),
    }
}

fn moved(
    before: &Before,
    (pid, flow): (&ProcessId, &Flow),
    (from, to): (Option<&StageName>, &StageName),
    (visit, iteration, back): (u64, u64, bool),
) -> Result<bool, String> {
    let wrong = |what: &str| {
        let Flow { edges, visits, iteration, .. } = flow;
        let told = format!("after {edges:?}, {visits:?} and {iteration} rounds");
        Err(format!("{pid}: {from:?} -> {to} passes {what}, {told}"))
    };
    let visits = flow.visits.get(to).copied().unwrap_or(0) + 1;
    let most = flow.pipeline.stage(to).and_then(|stage| stage.max_visits);
    if from.is_some() && most.is_some_and(|most| !most.allows(visits)) {
        return wrong("the visits of the stage");
    }
    let mut rounds = flow.iteration;
    if let Some(from) = from {
        let taken = flow.edges.get(&(from.clone(), to.clone())).copied().unwrap_or(0);
        if !flow.pipeline.edge_limit(from, to).allows(taken + 1) {
            return wrong("the limit of the edge");
        }
        let index =
            |name: &StageName| flow.pipeline.stages.iter().position(|stage| stage.name == *name);
        if back != (index(to) <= index(from)) {
            return wrong("for what it is not: a back edge or none");
        }
    }
    if back {
        rounds += 1;
        let done = before.flows.sums.get(pid).map_or(0, |sum| sum.iterations) + 1;
        let own = before.book.known.get(pid).map(|known| known.quota.max_iterations);
        let fits = own.is_none_or(|own| own.allows(done));
        if !fits || !flow.pipeline.max_iterations.allows(rounds) {
            return wrong("the iterations");
        }
    }
    match (visit, iteration) == (visits, rounds) {
        true => Ok(true),
        false => wrong("uncounted"),
    }
}

/// K440: attempts are bounded by hops, retries and losses.
fn few_attempts(before: &Before, pid: &ProcessId, event: &Event) -> Result<bool, String> {
    let Body::Session { event } = &event.body else {
        return Ok(false);
    };
    let Some(flow) = before.flows.undisturbed(pid) else {
        return Ok(false);
    };
    match event {
        SessionEvent::AttemptIssued { issued } if !issued.hop => {
            match flow.attempts < flow.allowed {
                true => Ok(true),
                false => Err(format!(
                    "{pid}: {} hops, at most {} attempts, and one more at {}",
                    flow.hops, flow.allowed, issued.stage
                )),
            }
        }
        SessionEvent::Ended { .. } => Ok(true),
        _ => Ok(false),
    }
}

/// K440: whoever polls or reports has something to do, or will have at a time that is to come.
fn never_stuck(before: &Before, command: &Command, reply: &Reply) -> Result<bool, String> {
    let pid = match &command.body {
        CommandBody::NextInstruction { pid } => pid,
        CommandBody::ReportAgentResult(report) => &report.pid,
        _ => return Ok(false),
    };
    let (Ok(done), Some(told)) = (reply, instructed(reply)) else {
        return Ok(false);
    };
    if before.flows.undisturbed(pid).is_none() {
        return Ok(false);
    }
    let stuck = match &told.body {
        InstructionBody::Wait { reason: WaitReason::Draining | WaitReason::Released, .. } => {
            return Ok(false);
        }
        InstructionBody::Wait { until: Some(at), .. } if done.reply.as_of == before.book.events => {
            !waits_until(&before.book, pid, *at)
        }
        InstructionBody::Wait { until, .. } => until.is_none(),
        InstructionBody::WaitParallel { until, outstanding } => {
            until.is_none() || outstanding.is_empty()
        }
        InstructionBody::WaitInterrupt { .. } => true,
        InstructionBody::RunAgents(tasks) => tasks.is_empty(),
        InstructionBody::RunAgent(_) | InstructionBody::Terminate { .. } => false,
    };
    match stuck {
        true => Err(format!("{pid} is told to wait for nothing: {:?}", told.body)),
        false => Ok(true),
    }
}

/// Whether a process is blocked until a time that is not over, by its events.
fn waits_until(book: &Book, pid: &ProcessId, at: Time) -> bool {
    let until = book.known.get(pid).and_then(|known| known.until);
    until == Some(at) && at >= book.last
}

/// K440: what the node drives is polled and reported until it has ended, so all of it has, a while
/// after the last fault, but what people were asked of.
#[derive(Clone)]
pub(super) struct Ending {
    steered: Steered,
    /// Those that went on when the faults ended, and when that was.
    left: Option<(u64, Vec<ProcessId>)>,
}

impl Ending {
    pub(super) fn new() -> Self {
        Self { steered: Steered::ending(), left: None }
    }

    /// Lists what the node drives and goes on, and nobody has disturbed.
    fn going_on(&self) -> Vec<ProcessId> {
        let Before { book, flows } = &self.steered.before;
        let goes_on =
            |pid: &ProcessId| flows.undisturbed(pid).is_some_and(|flow| flow.ended.is_none());
        let driven = book.known.iter().filter(|(_, known)| known.driven);
        driven.map(|(pid, _)| pid).filter(|pid| goes_on(pid)).cloned().collect()
    }
}

impl Watch<Clerk> for Ending {
    fn property(&self) -> &'static str {
        self.steered.property()
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let looked = self.steered.see(world, seen)?;
        if let Seen::Quiet = seen {
            self.left = Some((world.now(), self.going_on()));
        }
        Ok(looked)
    }

    fn end(&mut self, world: &World<Clerk>) -> Result<bool, String> {
        let Some((since, left)) = &self.left else {
            return Ok(false);
        };
        if world.now() - since < ENOUGH {
            return Ok(false);
        }
        let going_on = self.going_on();
        match left.iter().find(|pid| going_on.contains(pid)) {
            Some(pid) => {
                Err(format!("{pid} goes on and on: {:?}", self.steered.before.book.known[pid]))
            }
            None => Ok(!left.is_empty()),
        }
    }
}
