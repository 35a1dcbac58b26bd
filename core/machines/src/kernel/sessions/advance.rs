//! From stage to stage: routing, moves, and where a session comes to rest (K241, K260–K265).

use std::cell::Cell;
use std::sync::Arc;

use super::event::SessionEvent;
use super::issue::Issuance;
use super::shortage::Stop;
use super::{Session, Standing};
use crate::kernel::decision::Decision;
use crate::kernel::envelopes::Envelope;
use crate::kernel::event::{Cause, ProcessEvent, QuotaEvent};
use crate::kernel::expression::Scope;
use crate::kernel::ids::{OutputKey, ProcessId, StageName};
use crate::kernel::json::Json;
use crate::kernel::names::{BlockReason, InterruptKind, ProcessState, TerminalReason};
use crate::kernel::pipeline::Target;
use crate::kernel::pipeline::kinds::{NodeKind, Via};
use crate::kernel::pipeline::limits::FlowLimits;
use crate::kernel::pipeline::route::{Bound, Ended, Route, Stopped, Taken, check_move, route};
use crate::kernel::process::Block;
use crate::kernel::quota::Resource;
use crate::kernel::state::State;
use crate::kernel::time::Time;

/// Bytes at which the expressions of a session may look until somebody has something to do. Limits
/// on rules and payloads alone would let one decision compare for minutes.
pub(in crate::kernel) const LOOKED_AT_MAX: u64 = 1 << 28;

/// Where expressions look (K260).
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct View<'a> {
    envelope: &'a Envelope,
    session: &'a Session,
    /// What was looked at so far, where there is a limit to it.
    looked_at: Option<&'a Cell<u64>>,
}

impl<'a> View<'a> {
    /// Returns the output that was saved last in the session.
    pub(super) fn newest(&self) -> Option<&'a Json> {
        self.session.newest_output(self.envelope).map(|(_, output)| output)
    }
}

impl Scope for View<'_> {
    fn current(&self) -> Option<&Json> {
        self.newest()
    }

    fn output(&self, key: &OutputKey) -> Option<&Json> {
        self.envelope.outputs.get(key).map(|output| &output.value)
    }

    fn state(&self, key: &str) -> Option<&Json> {
        self.envelope.state.get(key)
    }

    fn meta(&self, key: &str) -> Option<&Json> {
        self.envelope.metadata.get(key)
    }

    fn interrupt(&self) -> Option<&Json> {
        self.session.response.as_ref()
    }

    fn pay(&self, bytes: u64) -> bool {
        self.looked_at.is_none_or(|looked_at| {
            looked_at.set(looked_at.get().saturating_add(bytes));
            looked_at.get() <= LOOKED_AT_MAX
        })
    }
}

/// What a process is told to wait for whose rate is used up.
pub(super) const RATE: &str = "the rate of the process is used up";

/// What a session does next.
enum Step {
    /// Goes through a Gate.
    Gate,
    /// Opens the group of a Fork.
    Fork,
    /// Opens the next group of run mode Parallel.
    Open,
    /// Hands out the branches that are due.
    Branches,
    /// Hands out its stage.
    Issue,
}

impl State {
    /// Returns where the expressions of a session look.
    pub(in crate::kernel) fn scope(&self, pid: &ProcessId) -> Option<View<'_>> {
        let session = self.session(pid)?;
        let envelope = self.envelope(&session.envelope)?;
        Some(View { envelope, session, looked_at: None })
    }
}

impl Decision<'_> {
    pub(super) fn scope(&self, pid: &ProcessId) -> Option<View<'_>> {
        let view = self.state.scope(pid)?;
        Some(View { looked_at: Some(&self.looked_at), ..view })
    }

    /// Ends a session whose expressions looked at too much: where they lead is not known then.
    pub(super) fn ends_overworked(&mut self, pid: &ProcessId) -> bool {
        let overworked = self.looked_at.get() > LOOKED_AT_MAX;
        if overworked {
            let told = format!("expressions look at more than {LOOKED_AT_MAX} bytes at once");
            self.end(pid, TerminalReason::MaxLoopExceeded, &told);
        }
        overworked
    }

    /// Lets a session go on until somebody has something to do, or nobody can (K241). A task that
    /// is too large takes a step as well: its failure may lead back to where it came from.
    pub(super) fn advance(&mut self, pid: &ProcessId) {
        self.looked_at.set(0);
        let most = self.steps_of(pid);
        let mut steps = 0;
        while let Some(step) = self.step(pid) {
            let (counts, may) = match step {
                Step::Gate | Step::Fork => (true, steps < most),
                Step::Issue => (true, steps <= most),
                Step::Open | Step::Branches => (false, true),
            };
            if !may {
                let told = format!("more than {most} steps without an agent");
                self.end(pid, TerminalReason::MaxLoopExceeded, &told);
                return;
            }
            steps += u64::from(counts);
            let goes_on = match step {
                Step::Gate => self.pass_gate(pid),
                Step::Fork => self.fork(pid),
                Step::Open => self.open_ready(pid),
                Step::Branches => self.issue_branches(pid),
                Step::Issue => self.issue_here(pid),
            };
            if !goes_on || self.ends_overworked(pid) {
                break;
            }
        }
        self.rest(pid);
    }

    /// However long a pipeline says, there is an end to it.
    fn steps_of(&self, pid: &ProcessId) -> u64 {
        let session = self.state.session(pid);
        let own = session.and_then(|session| session.pipeline.step_limit);
        let own = own.map(|limit| limit.most().unwrap_or(FlowLimits::DEFAULT.steps));
        own.unwrap_or(self.state.config.step_limit)
    }

    fn step(&self, pid: &ProcessId) -> Option<Step> {
        let (process, session) = (self.state.process(pid)?, self.state.running_session(pid)?);
        let draining = self.state.counters.draining.is_some();
        if process.state != ProcessState::Running || process.is_held() || draining {
            return None;
        }
        if session.group.is_some() {
            return session.works.iter().any(|it| it.is_due(self.now)).then_some(Step::Branches);
        }
        let work = session.works.first();
        match session.here()?.node_kind {
            _ if session.is_parallel() && work.is_none_or(super::Work::has_ended) => {
                Some(Step::Open)
            }
            NodeKind::Gate => Some(Step::Gate),
            NodeKind::Fork => Some(Step::Fork),
            NodeKind::Agent | NodeKind::Router => {
                work.filter(|work| work.is_due(self.now)).map(|_| Step::Issue)
            }
        }
    }

    fn pass_gate(&mut self, pid: &ProcessId) -> bool {
        let found = self
            .scope(pid)
            .and_then(|scope| route(self.state.session(pid)?.here()?, &Ended::Done, &scope));
        if self.ends_overworked(pid) {
            return false;
        }
        if let Some(found) = found {
            self.go(pid, &found);
        }
        true
    }

    fn issue_here(&mut self, pid: &ProcessId) -> bool {
        let Some(stage) = self.state.session(pid).map(|session| session.position.clone()) else {
            return false;
        };
        match self.issue(pid, &stage) {
            Issuance::Issued => false,
            Issuance::Stopped(stop) => {
                self.stop_session(pid, &stop);
                false
            }
            Issuance::Limited(until) => {
                self.block(pid, (BlockReason::Rate, Cause::Rate), until, Arc::from(RATE));
                false
            }
            Issuance::Overflowed(failure) => {
                self.fail_for_good(pid, &stage, failure);
                true
            }
        }
    }

    /// A bound stops the session (K267, K114).
    pub(super) fn stop_session(&mut self, pid: &ProcessId, stop: &Stop) {
        let short = &stop.shortage;
        self.exceed(pid, (short.resource, short.used, short.held), short.limit);
        if stop.reason == TerminalReason::TimeoutExceeded {
            self.time_out(pid);
            return;
        }
        if self.asks_for_more(pid, stop) {
            return;
        }
        self.end(pid, stop.reason, &stop.shortage.to_string());
    }

    /// Records, once, that a bound was reached (K114).
    pub(in crate::kernel) fn exceed(
        &mut self,
        pid: &ProcessId,
        (resource, used, held): (Resource, u64, u64),
        limit: crate::kernel::quota::Limit,
    ) {
        let told = |bits: u16| bits & resource.bit() != 0;
        if !self.state.process(pid).is_none_or(|process| told(process.account.exceeded)) {
            self.emit_quota(pid, QuotaEvent::Exceeded { resource, used, held, limit });
        }
    }

    /// Goes where routing says (K261, K265).
    pub(super) fn go(&mut self, pid: &ProcessId, route: &Route) {
        match &route.target {
            Target::Stage(to) => self.move_to(pid, to, route.via),
            Target::End => self.end(pid, TerminalReason::Completed, "the pipeline is completed"),
            Target::Clarification => self.ask_by_route(pid, InterruptKind::Clarification),
            Target::Confirmation => self.ask_by_route(pid, InterruptKind::Confirmation),
        }
    }

    /// Moves a session to a stage, or ends it where it is (K265).
    pub(super) fn move_to(&mut self, pid: &ProcessId, to: &StageName, via: Via) {
        let Some(from) = self.state.running_session(pid).map(|it| it.position.clone()) else {
            return;
        };
        match self.check_edge(pid, (&from, to), 0) {
            Ok(back) => self.emit_move(pid, (Some(from), to), (via, back)),
            Err(stopped) => self.stop_move(pid, &stopped),
        }
    }

    /// Checks a move; `pending` back edges are taken before it.
    pub(super) fn check_edge(
        &self,
        pid: &ProcessId,
        (from, to): (&StageName, &StageName),
        pending: u64,
    ) -> Result<bool, Stopped> {
        let (Some(process), Some(session)) = (self.state.process(pid), self.state.session(pid))
        else {
            return Ok(false);
        };
        let taken = Taken {
            visits: session.visits_of(to),
            edge: session.edge(from, to),
            iteration: session.iteration + pending,
            iterations: process.account.used.iterations + pending,
            iterations_limit: process.quota.max_iterations,
        };
        check_move(&session.pipeline, (from, to), &taken)
    }

    pub(super) fn emit_move(
        &mut self,
        pid: &ProcessId,
        (from, to): (Option<StageName>, &StageName),
        (via, back): (Via, bool),
    ) {
        let Some(session) = self.state.session(pid) else {
            return;
        };
        let (visit, to) = (session.visits_of(to) + 1, to.clone());
        let iteration = session.iteration + u64::from(back);
        self.emit_session(pid, SessionEvent::Moved { from, to, via, visit, iteration, back });
        if back {
            self.watch(pid);
        }
    }

    /// A move would pass a bound: the session ends where it is.
    pub(super) fn stop_move(&mut self, pid: &ProcessId, stopped: &Stopped) {
        let reason = match stopped.bound {
            Bound::StageVisits => TerminalReason::MaxStageVisitsExceeded,
            Bound::Edge => TerminalReason::EdgeLimitExceeded,
            Bound::Iterations => TerminalReason::MaxIterationsExceeded,
        };
        let quota = self
            .state
            .process(pid)
            .map(|process| (process.account.used.iterations, process.quota.max_iterations));
        if let Some((used, limit)) = quota
            && stopped.bound == Bound::Iterations
            && !limit.allows(used + 1)
        {
            self.exceed(pid, (Resource::Iterations, used, 0), limit);
        }
        self.end(pid, reason, &stopped.message);
    }

    /// A stage is done: its output is saved, and its state merged (K255, K277).
    pub(super) fn complete(
        &mut self,
        pid: &ProcessId,
        stage: &StageName,
        changes: Vec<(Arc<str>, Json)>,
    ) {
        let config = self.state.session(pid).and_then(|session| session.stage(stage));
        if let Some(output_key) = config.map(|config| config.output_key.clone()) {
            let stage = stage.clone();
            self.emit_session(pid, SessionEvent::StageCompleted { stage, output_key, changes });
        }
    }

    /// A process that waits for a retry, and for nothing else, is Blocked until then (K269).
    pub(super) fn rest(&mut self, pid: &ProcessId) {
        let (Some(process), Some(session)) =
            (self.state.process(pid), self.state.running_session(pid))
        else {
            return;
        };
        if process.state != ProcessState::Running || process.is_held() {
            return;
        }
        if let Some((until, text)) = session.backoff(self.now) {
            self.block(pid, (BlockReason::Backoff, Cause::Backoff), until, text);
        }
    }

    /// Running → Blocked until a time. [`Time::FAR`] is never, unless somebody changes something.
    pub(super) fn block(
        &mut self,
        pid: &ProcessId,
        (reason, cause): (BlockReason, Cause),
        until: Time,
        text: Arc<str>,
    ) {
        let (from, to) = (ProcessState::Running, ProcessState::Blocked);
        let until = Some(until).filter(|until| *until < Time::FAR);
        let (lease, block, wait) = (None, Some(Block { reason, text, until }), None);
        let event = ProcessEvent::StateChanged { from, to, cause, lease, block, wait };
        self.emit_process(pid, event);
    }

    /// Records where an instruction was given, if the pipeline wants it and anything happened
    /// (K291).
    pub(super) fn checkpoint(&mut self, pid: &ProcessId) {
        let Some(session) = self.state.running_session(pid) else {
            return;
        };
        if session.pipeline.checkpoints && !self.is_untouched() {
            let (position, root) = (session.position.clone(), self.state.root());
            let root = root.to_bytes();
            self.emit_session(pid, SessionEvent::Checkpoint { position, root });
        }
    }
}

impl Session {
    /// Returns until when nothing can be done but wait, and for which failure.
    fn backoff(&self, now: Time) -> Option<(Time, Arc<str>)> {
        if self.works.iter().any(|work| work.is_live() || work.is_due(now)) {
            return None;
        }
        let waiting = self.works.iter().filter_map(|work| match &work.standing {
            Standing::Backoff { until, .. } => Some((*until, work)),
            Standing::Due | Standing::Live { .. } | Standing::Done | Standing::Failed => None,
        });
        let (until, work) = waiting.min_by_key(|(until, _)| *until)?;
        let error = work.failure.as_ref().map(|failure| Arc::clone(&failure.error));
        Some((until, error.unwrap_or_default()))
    }
}
