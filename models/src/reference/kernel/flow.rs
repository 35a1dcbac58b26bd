//! Section 8, second part: from stage to stage (K241, K260–K267), side by side (K273–K278), and
//! what bounds it (K118, K275).

use machines::kernel::Time;
use machines::kernel::ids::{ProcessId, StageName};
use machines::kernel::interrupts::interrupt::{NewInterrupt, NewTarget};
use machines::kernel::json::Json;
use machines::kernel::names::{
    BlockReason, InterruptKind, OnExhausted, ProcessState, TerminalReason,
};
use machines::kernel::pipeline::kinds::{ErrorKind, JoinStrategy, NodeKind, Via};
use machines::kernel::pipeline::{PipelineStage, Target};
use machines::kernel::process::Block;
use machines::kernel::quota::{Amounts, Resource};
use machines::kernel::sessions::Pipeline;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::budget::sums;
use super::lifecycle::limit_number;
use super::sessions::{Attempt, Session, Standing, Unread, Work};
use super::values::merged;
use super::{Kernel, Note, Wrong};

/// What stops an issue (K267).
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) reason: TerminalReason,
    pub(super) resource: Resource,
}

/// What came of an issue.
#[derive(Clone, Debug)]
enum Issue {
    Done,
    /// A rate does not allow it before a time (K121).
    Rate(Option<Time>),
    /// A bound does not (K267).
    Bound(Bound),
}

impl Kernel {
    /// Whether a session goes on in this decision.
    fn goes_on(&self, pid: &ProcessId) -> bool {
        let running = self.of(pid).state == ProcessState::Running;
        self.running(pid).is_some() && running && !self.is_held(pid) && self.drain.is_none()
    }

    /// K241.
    pub(super) fn advance(&mut self, pid: &ProcessId) {
        let pipeline = self.session(pid).pipeline.clone();
        let steps_most = pipeline.step_limit.map_or(self.config.step_limit, limit_number);
        let mut steps = 0;
        while self.goes_on(pid) {
            let session = self.session(pid);
            if session.group.is_some() {
                return self.issue_branches(pid);
            }
            if session.is_parallel() && session.works.iter().all(Work::has_ended) {
                self.open_ready(pid);
                continue;
            }
            let stage = session.stage(&session.position).clone();
            if matches!(stage.node_kind, NodeKind::Agent | NodeKind::Router) {
                return self.issue_here(pid, &stage);
            }
            steps += 1;
            if steps > steps_most {
                return self.end_session(pid, TerminalReason::MaxLoopExceeded, None);
            }
            match stage.node_kind {
                NodeKind::Fork => self.fork(pid, &stage),
                NodeKind::Gate | NodeKind::Agent | NodeKind::Router => self.route(pid, &stage),
            }
        }
    }

    /// The end of a session is the end of its process (K83).
    pub(super) fn end_session(
        &mut self,
        pid: &ProcessId,
        reason: TerminalReason,
        message: Option<&str>,
    ) {
        self.end(pid, reason, message);
    }

    /// Rules in order, then the default (K261).
    pub(super) fn route(&mut self, pid: &ProcessId, stage: &PipelineStage) {
        let fields = self.fields(pid);
        let mut rules: Vec<_> = stage.routing.iter().collect();
        if self.is(Wrong::LastRuleFirst) {
            rules.reverse();
        }
        let rule = rules.into_iter().find(|rule| fields.holds(&rule.expr));
        let default = stage.default_next.clone();
        let rule = rule.filter(|_| !(self.is(Wrong::DefaultFirst) && default.is_some()));
        match (rule, default) {
            (Some(rule), _) => self.follow(pid, &rule.target.clone(), Via::Rule),
            (None, Some(target)) => self.follow(pid, &target, Via::Default),
            (None, None) => self.end_session(pid, TerminalReason::Completed, None),
        }
    }

    /// To a stage, the end, or a question (K265).
    pub(super) fn follow(&mut self, pid: &ProcessId, target: &Target, via: Via) {
        match target {
            Target::Stage(to) => {
                self.move_to(pid, to, via);
            }
            Target::End => self.end_session(pid, TerminalReason::Completed, None),
            Target::Clarification => self.ask_by_route(pid, InterruptKind::Clarification),
            Target::Confirmation => self.ask_by_route(pid, InterruptKind::Confirmation),
        }
    }

    /// A question whose words are in the newest output; the session stays where it is (K265).
    fn ask_by_route(&mut self, pid: &ProcessId, kind: InterruptKind) {
        let output = self.fields(pid).current.unwrap_or_else(|| Json::object::<&str>([]));
        let text = |key: &str| output.get(key).and_then(Json::as_str).map(Arc::from);
        let mut asked = NewInterrupt::new(kind);
        asked.question = text("question");
        asked.message = text("message");
        asked.data = output.get("data").filter(|data| data.as_object().is_some()).cloned();
        asked.target = output.get("target").map(|target| {
            let action = target.get("action").and_then(Json::as_str).unwrap_or_default();
            let params = target.get("params").cloned();
            let params = params.unwrap_or_else(|| Json::object::<&str>([]));
            Box::new(NewTarget { action: Arc::from(action), params, binds: Vec::new() })
        });
        let stage = self.session(pid).position.clone();
        for work in &mut self.session_mut(pid).works {
            work.standing = Standing::Due;
        }
        self.raise_asked(pid, &asked, Some((stage, None)));
    }

    /// A move: checked, and made if it may be (K265). Says whether it was.
    pub(super) fn move_to(&mut self, pid: &ProcessId, to: &StageName, via: Via) -> bool {
        let from = self.session(pid).position.clone();
        if let Some(reason) = self.stops_move(pid, (&from, to), via) {
            if reason == TerminalReason::MaxIterationsExceeded {
                self.tell_iterations(pid);
            }
            self.end_session(pid, reason, None);
            return false;
        }
        self.go_to(pid, Some(&from), to, via);
        true
    }

    fn stops_move(
        &self,
        pid: &ProcessId,
        (from, to): (&StageName, &StageName),
        via: Via,
    ) -> Option<TerminalReason> {
        let (session, process) = (self.session(pid), self.of(pid));
        if via == Via::Error && self.is(Wrong::ErrorUnchecked) {
            return None;
        }
        let more = u64::from(self.is(Wrong::EdgeOnceMore));
        let visits = session.visits.get(to).copied().unwrap_or(0);
        if session.stage(to).max_visits.is_some_and(|most| visits >= limit_number(most)) {
            return Some(TerminalReason::MaxStageVisitsExceeded);
        }
        let taken = session.edges.get(&(from.clone(), to.clone())).copied().unwrap_or(0);
        let limits = session.pipeline.edge_limits.iter();
        let limits = limits.filter(|limit| limit.from == *from && limit.to == *to);
        let limit = limits.map(|limit| limit_number(limit.max_count)).min();
        if limit.is_some_and(|limit| taken >= limit.saturating_add(more)) {
            return Some(TerminalReason::EdgeLimitExceeded);
        }
        let back = session.order(to) <= session.order(from);
        let often = session.iteration >= limit_number(session.pipeline.max_iterations)
            || process.used(Resource::Iterations) >= limit_number(process.quota.max_iterations);
        (back && often).then_some(TerminalReason::MaxIterationsExceeded)
    }

    /// A bound of the process on iterations was met (K114).
    fn tell_iterations(&mut self, pid: &ProcessId) {
        let process = self.of(pid);
        let quota =
            process.used(Resource::Iterations) >= limit_number(process.quota.max_iterations);
        if quota {
            self.tell_exceeded(pid, Resource::Iterations);
        }
    }

    pub(super) fn tell_exceeded(&mut self, pid: &ProcessId, resource: Resource) {
        if self.of_mut(pid).exceeded.insert(resource) {
            self.note(Note::Exceeded(pid.clone(), resource));
        }
    }

    /// A move that is made. A branch of a Fork leaves the position where it is.
    pub(super) fn go_to(
        &mut self,
        pid: &ProcessId,
        from: Option<&StageName>,
        to: &StageName,
        via: Via,
    ) {
        let uncounted = self.is(Wrong::IterationsUncounted);
        let session = self.session_mut(pid);
        let back = from.is_some_and(|from| session.order(to) <= session.order(from));
        let visits = session.visits.entry(to.clone()).or_default();
        *visits += 1;
        let visit = *visits;
        if let Some(from) = from {
            *session.edges.entry((from.clone(), to.clone())).or_default() += 1;
        }
        if back && !uncounted {
            session.iteration += 1;
        }
        let iteration = session.iteration;
        let reset = if back { session.pipeline.loop_reset.clone() } else { Vec::new() };
        let aside = via == Via::Fork || (via == Via::Entry && session.is_parallel());
        if !aside {
            session.position = to.clone();
            let works = matches!(session.stage(to).node_kind, NodeKind::Agent | NodeKind::Router);
            session.works = works.then(|| Work::new(to.clone(), visit)).into_iter().collect();
        }
        let (name, id) = (to.clone(), session.envelope.clone());
        self.note(Note::Moved(pid.clone(), from.cloned(), name, via, visit, iteration, back));
        let now = self.now;
        let envelope = self.envelopes.get_mut(&id).expect("it is bound");
        envelope.show_move(now, (to, visit), (iteration, aside), &reset);
        if back {
            *self.of_mut(pid).used.entry(Resource::Iterations).or_default() += 1;
            self.warn(pid, Resource::Iterations);
            self.pass(pid, Resource::Iterations);
        }
    }

    /// Hands out the stage where the session is (K267), unless somebody has it.
    fn issue_here(&mut self, pid: &ProcessId, stage: &PipelineStage) {
        let work = &self.session(pid).works[0];
        if work.live().is_some() && !self.is(Wrong::PollIssues) {
            return;
        }
        if let Some(until) = work.waits_until().filter(|until| *until > self.now) {
            return self.block(pid, BlockReason::Backoff, Some(until));
        }
        match self.issue(pid, 0, stage) {
            Issue::Done => {}
            Issue::Rate(until) => self.block(pid, BlockReason::Rate, until),
            Issue::Bound(bound) => self.stop_by(pid, 0, &bound),
        }
    }

    pub(super) fn block(&mut self, pid: &ProcessId, reason: BlockReason, until: Option<Time>) {
        if self.of(pid).state == ProcessState::Running {
            self.change(pid, ProcessState::Blocked);
            self.of_mut(pid).block = Some(Block { reason, text: Arc::from(""), until });
        }
    }

    /// A bound ends the session, or somebody is asked for more, once (K118).
    pub(super) fn stop_by(&mut self, pid: &ProcessId, at: usize, bound: &Bound) {
        // Whoever's limit it is, it is told of the process whose session it stops.
        self.tell_exceeded(pid, bound.resource);
        let asks = self.of(pid).submit.on_exhausted == OnExhausted::Interrupt;
        if asks && !self.session(pid).works[at].asked {
            self.session_mut(pid).works[at].asked = true;
            // Of time as K112 has it.
            match bound.resource == Resource::ElapsedMs {
                true => self.raise_by_kernel(pid, InterruptKind::Timeout, true),
                false => self.raise_by_kernel(pid, InterruptKind::ResourceExhausted, false),
            }
            return;
        }
        self.end_session(pid, bound.reason, None);
    }

    /// What does not allow an issue (K267): in order time, hops, what it holds.
    pub(super) fn bound(&self, pid: &ProcessId, work: &Work, hold: &Amounts) -> Option<Bound> {
        let (session, process) = (self.session(pid), self.of(pid));
        let bound = |reason, resource| Some(Bound { reason, resource });
        if process.elapsed(self.now) >= limit_number(process.quota.timeout_ms) {
            return bound(TerminalReason::TimeoutExceeded, Resource::ElapsedMs);
        }
        let base = |one: Resource| session.base.get(&one).copied().unwrap_or(0);
        let hops = process.used(Resource::AgentHops);
        let of_session = hops.saturating_sub(base(Resource::AgentHops));
        let first = work.tries == 0 || self.is(Wrong::HopPerTry);
        if first
            && (of_session >= limit_number(session.pipeline.max_agent_hops)
                || hops >= limit_number(process.quota.max_agent_hops))
        {
            return bound(TerminalReason::MaxAgentHopsExceeded, Resource::AgentHops);
        }
        let resource = self.shortage(pid, hold)?;
        let reason = match resource == Resource::LlmCalls {
            true => TerminalReason::MaxLlmCallsExceeded,
            false => TerminalReason::QuotaExceeded,
        };
        bound(reason, resource)
    }

    /// What an attempt at a stage holds (K267).
    fn hold_of(stage: &PipelineStage) -> Amounts {
        let llm = stage.agent_config.as_ref().is_some_and(|agent| agent.has_llm);
        let default = Amounts { llm_calls: u64::from(llm), ..Amounts::ZERO };
        stage.reserve.unwrap_or(default)
    }

    fn issue(&mut self, pid: &ProcessId, at: usize, stage: &PipelineStage) -> Issue {
        let hold = Self::hold_of(stage);
        let work = self.session(pid).works[at].clone();
        if let Some(bound) = self.bound(pid, &work, &hold) {
            return Issue::Bound(bound);
        }
        if self.pass_process_rate(pid, &hold).is_err() {
            return Issue::Rate(self.retry_at.take().map(Time::from_millis));
        }
        let Some(id) = self.minted.attempts.pop_front() else {
            self.note(Note::Issued(pid.clone(), stage.name.clone(), "no attempt".to_owned()));
            self.session_mut(pid).ended = Some((TerminalReason::SystemError, None));
            return Issue::Done;
        };
        let session = self.session(pid);
        let timeout = stage.timeout_ms.unwrap_or(session.pipeline.default_timeout_ms);
        let deadline = timeout.most().map(|timeout| self.now.plus(timeout));
        let branch = session.group.is_some().then(|| u32::try_from(at).expect("few branches"));
        let first = work.tries == 0 || self.is(Wrong::HopPerTry);
        let attempt = Attempt {
            id: id.clone(),
            agent: stage.agent_config.as_ref().expect("K232").name.clone(),
            branch,
            try_number: work.tries + 1,
            hold: sums(&hold),
            charged: super::process::Sums::new(),
            deadline,
            holder: self.holder.clone(),
            targets: self.handed_out(pid, stage),
            answer: self.news_for(pid, &stage.name),
        };
        let counts = format!("visit {} try {}", work.visit, work.tries + 1);
        let cost = format!("hold {:?} hop {first}", sums(&hold));
        let whose = format!("by {:?} to {:?}", attempt.holder, attempt.targets);
        let told = format!("{id} {counts} branch {branch:?} {cost} until {deadline:?} {whose}");
        self.note(Note::Issued(pid.clone(), stage.name.clone(), told));
        let (now, id, agent) =
            (self.now, self.session(pid).envelope.clone(), attempt.agent.clone());
        let envelope = self.envelopes.get_mut(&id).expect("it is bound");
        envelope.show_issue(now, &stage.name, (&attempt.id, &agent), (work.visit, work.tries + 1));
        let work = &mut self.session_mut(pid).works[at];
        work.tries += 1;
        work.asked = false;
        work.standing = Standing::Live(Box::new(attempt));
        self.take_process_hit(pid, &hold);
        self.hold_for_attempt(pid, &sums(&hold));
        if first {
            *self.of_mut(pid).used.entry(Resource::AgentHops).or_default() += 1;
            self.warn(pid, Resource::AgentHops);
            self.pass(pid, Resource::AgentHops);
        }
        Issue::Done
    }

    /// Targets of a Router whose `when` is absent or true (K262).
    fn handed_out(&self, pid: &ProcessId, stage: &PipelineStage) -> Vec<StageName> {
        let fields = self.fields(pid);
        let holds = |when: &Option<_>| when.as_ref().is_none_or(|when| fields.holds(when));
        let targets = stage.router_targets.iter().filter(|target| holds(&target.when));
        let name = |target: &Target| StageName::parse("target", target.as_str()).expect("a name");
        targets.map(|target| name(&target.target)).collect()
    }

    /// What the next task is told of answers (K163, K167).
    fn news_for(&mut self, pid: &ProcessId, stage: &StageName) -> Option<Unread> {
        let session = self.session_mut(pid);
        let grouped = session.group.is_some();
        let branches: Vec<StageName> =
            session.works.iter().filter(|_| grouped).map(|work| work.stage.clone()).collect();
        // A branch that asked is told, and no other branch.
        let for_it = |news: &Unread| {
            news.stage.as_ref().is_none_or(|of| of == stage || !branches.contains(of))
        };
        let found = session.unread.iter().rposition(for_it)?;
        let news = session.unread[found].clone();
        session.unread.retain(|one| !for_it(one));
        Some(news)
    }

    /// Branches are all rules that are true, in order (K274).
    fn fork(&mut self, pid: &ProcessId, stage: &PipelineStage) {
        let fields = self.fields(pid);
        let rules = stage.routing.iter().filter(|rule| fields.holds(&rule.expr));
        let branches: Vec<StageName> =
            rules.filter_map(|rule| rule.target.stage().cloned()).collect();
        if branches.is_empty() {
            match stage.default_next.clone() {
                Some(target) => self.follow(pid, &target, Via::Default),
                None => self.end_session(pid, TerminalReason::Completed, None),
            }
            return;
        }
        // All of them, or the session ends where it was.
        let (from, mut trial) = (stage.name.clone(), self.clone());
        for branch in &branches {
            if let Some(reason) = trial.stops_move(pid, (&from, branch), Via::Fork) {
                if reason == TerminalReason::MaxIterationsExceeded {
                    self.tell_iterations(pid);
                }
                return self.end_session(pid, reason, None);
            }
            trial.go_to(pid, Some(&from), branch, Via::Fork);
        }
        for branch in &branches {
            self.go_to(pid, Some(&from), branch, Via::Fork);
        }
        self.open_group(pid, branches, stage.join);
    }

    fn open_group(&mut self, pid: &ProcessId, mut branches: Vec<StageName>, join: JoinStrategy) {
        if self.is(Wrong::BranchesReversed) {
            branches.reverse();
        }
        self.note(Note::GroupOpened(pid.clone(), branches.clone(), join));
        let session = self.session_mut(pid);
        let visits = |stage: &StageName| session.visits.get(stage).copied().unwrap_or(0);
        let works: Vec<Work> =
            branches.iter().map(|stage| Work::new(stage.clone(), visits(stage))).collect();
        session.works = works;
        session.group = Some(join);
    }

    /// K278: the stages whose requirements are done, as a group; with none left all is done.
    fn open_ready(&mut self, pid: &ProcessId) {
        let session = self.session(pid);
        let done = |stage: &StageName| session.done.contains(stage);
        let only = session.denied.as_ref().map(|stage| follow_from(&session.pipeline, stage));
        let ready = |stage: &&PipelineStage| {
            if only.as_ref().is_some_and(|only| !only.contains(&stage.name)) {
                return false; // K427.
            }
            let required = match stage.join {
                JoinStrategy::All => stage.requires.iter().all(done),
                JoinStrategy::First => stage.requires.is_empty() || stage.requires.iter().any(done),
            };
            !done(&stage.name) && required && stage.after.iter().all(done)
        };
        let ready: Vec<StageName> =
            session.pipeline.stages.iter().filter(ready).map(|stage| stage.name.clone()).collect();
        if ready.is_empty() {
            return self.end_session(pid, TerminalReason::Completed, None);
        }
        for stage in &ready {
            self.go_to(pid, None, stage, Via::Entry);
        }
        self.open_group(pid, ready, JoinStrategy::All);
    }

    /// Hands out what is due of a group, in branch order (K240 e, K275).
    fn issue_branches(&mut self, pid: &ProcessId) {
        let (mut rates, mut rated): (Vec<Time>, bool) = (Vec::new(), false);
        let mut short: Option<(usize, Bound)> = None;
        for at in 0..self.session(pid).works.len() {
            let work = &self.session(pid).works[at];
            if !work.is_due(self.now) {
                continue;
            }
            let stage = self.session(pid).stage(&work.stage).clone();
            match self.issue(pid, at, &stage) {
                Issue::Done => {}
                Issue::Rate(until) => {
                    rates.extend(until);
                    rated = true;
                }
                Issue::Bound(bound) => short = short.or(Some((at, bound))),
            }
            if self.running(pid).is_none() {
                return;
            }
        }
        if self.has_live_attempt(pid) {
            return;
        }
        if let Some((at, bound)) = short {
            return self.stop_by(pid, at, &bound);
        }
        let open = self.session(pid).works.iter().filter_map(Work::waits_until);
        let backoff = open.min();
        match (rated, backoff) {
            (true, _) => {
                let first = rates.into_iter().chain(backoff).min();
                self.block(pid, BlockReason::Rate, first);
            }
            (false, Some(_)) => self.block(pid, BlockReason::Backoff, backoff),
            (false, None) => {}
        }
    }

    /// Joins if the time for it has come (K276). Says whether it did.
    pub(super) fn join_if_ready(&mut self, pid: &ProcessId) -> bool {
        let session = self.session(pid);
        let Some(join) = session.group else {
            return false;
        };
        let ended = session.works.iter().all(Work::has_ended);
        let winner = session.works.iter().position(|work| matches!(work.standing, Standing::Done));
        match join {
            JoinStrategy::First if winner.is_some() => self.join(pid, winner),
            JoinStrategy::All if winner.is_some() && self.is(Wrong::JoinBeforeAll) => {
                self.join(pid, None);
            }
            JoinStrategy::First | JoinStrategy::All if ended => self.join(pid, None),
            JoinStrategy::First | JoinStrategy::All => return false,
        }
        true
    }

    /// K277: in branch order, never in order of arrival.
    fn join(&mut self, pid: &ProcessId, winner: Option<usize>) {
        if !self.is(Wrong::LosersGoOn) {
            self.give_up_all(pid);
        }
        let works = self.session(pid).works.clone();
        let done = |work: &&Work| matches!(work.standing, Standing::Done);
        let mut merge: Vec<&Work> = match winner {
            Some(at) => vec![&works[at]],
            None => works.iter().filter(done).collect(),
        };
        if self.is(Wrong::MergeByArrival) {
            merge.sort_by_key(|work| work.arrived);
        }
        let failed = works.iter().find(|work| matches!(work.standing, Standing::Failed));
        let won = winner.map(|at| works[at].stage.clone());
        if self.merge_crowds(pid, &merge) {
            return self.end_session(pid, TerminalReason::SystemError, None);
        }
        for work in &merge {
            let stage = self.session(pid).stage(&work.stage).clone();
            let output = work.output.clone().unwrap_or_else(|| Json::object::<&str>([]));
            self.complete_stage(pid, &stage, &output);
        }
        let names = merge.iter().map(|work| work.stage.clone()).collect();
        self.close_group(pid, won, names);
        let (failed, bad) = (failed.cloned(), winner.is_none());
        let session = self.session_mut(pid);
        if session.is_parallel() {
            session.done.extend(works.iter().filter(done).map(|work| work.stage.clone()));
        }
        match failed.filter(|_| bad) {
            Some(work) => self.go_on_failed_group(pid, &work),
            None => self.go_on_joined(pid),
        }
    }

    /// Whether what a merge brings is too much (K25, K277).
    fn merge_crowds(&self, pid: &ProcessId, merge: &[&Work]) -> bool {
        let session = self.session(pid);
        let schema = &session.pipeline.state_schema;
        let mut state = self.envelopes[&session.envelope].state.clone();
        let mut brought = Vec::new();
        for work in merge {
            let output = work.output.clone().unwrap_or_else(|| Json::object::<&str>([]));
            let Some(changes) = merged(schema, &output, &state, self.config.limits.entries) else {
                return true;
            };
            state.extend(changes.iter().cloned());
            brought.push((session.stage(&work.stage), changes));
        }
        self.crowds(pid, brought.iter().map(|(stage, changes)| (*stage, &changes[..])))
    }

    pub(super) fn close_group(
        &mut self,
        pid: &ProcessId,
        winner: Option<StageName>,
        merged: Vec<StageName>,
    ) {
        self.note(Note::GroupJoined(pid.clone(), winner, merged));
        let session = self.session_mut(pid);
        session.group = None;
        session.works.clear();
    }

    fn go_on_joined(&mut self, pid: &ProcessId) {
        let session = self.session(pid);
        if session.is_parallel() {
            return;
        }
        match session.stage(&session.position).default_next.clone() {
            Some(target) => self.follow(pid, &target, Via::Join),
            None => self.end_session(pid, TerminalReason::Completed, None),
        }
    }

    fn go_on_failed_group(&mut self, pid: &ProcessId, work: &Work) {
        let session = self.session(pid);
        let error = session.stage(&session.position).error_next.clone();
        match error.filter(|_| !session.is_parallel()) {
            Some(to) => {
                self.move_to(pid, &to, Via::Error);
            }
            None => {
                let (kind, text) = work.failure.clone().expect("it failed");
                let text = Some(text.as_str()).filter(|text| !text.is_empty());
                self.end_session(pid, reason_of(kind), text);
            }
        }
    }

    /// An output is saved, the stage is done, the state has it (K255).
    pub(super) fn complete_stage(&mut self, pid: &ProcessId, stage: &PipelineStage, output: &Json) {
        let session = self.session(pid);
        let (schema, id) = (session.pipeline.state_schema.clone(), session.envelope.clone());
        let entries = self.config.limits.entries;
        let state = &self.envelopes[&id].state;
        let changes = merged(&schema, output, state, entries).unwrap_or_default();
        let told: Vec<String> = changes.iter().map(|(key, it)| format!("{key} {it}")).collect();
        self.note(Note::StageCompleted(pid.clone(), stage.name.clone(), told));
        let now = self.now;
        let envelope = self.envelopes.get_mut(&id).expect("it is bound");
        envelope.show_done(now, &stage.name, (&stage.output_key, output), changes);
        self.session_mut(pid).saved.push(stage.output_key.clone());
    }
}

/// A stage, and what needs it or comes after it (K427).
fn follow_from(pipeline: &Pipeline, stage: &StageName) -> BTreeSet<StageName> {
    let mut found = BTreeSet::from([stage.clone()]);
    // Each round finds one more, or no round will.
    for _ in &pipeline.stages {
        for other in &pipeline.stages {
            if other.requires.iter().chain(&other.after).any(|before| found.contains(before)) {
                found.insert(other.name.clone());
            }
        }
    }
    found
}

/// Why a session ends that failed so (K271).
#[must_use]
pub fn reason_of(kind: ErrorKind) -> TerminalReason {
    match kind {
        ErrorKind::Tool
        | ErrorKind::OutputInvalid
        | ErrorKind::RouterInvalid
        | ErrorKind::Dispatch => TerminalReason::ToolFailedFatally,
        ErrorKind::Llm | ErrorKind::ContextOverflow => TerminalReason::LlmFailedFatally,
        ErrorKind::Policy => TerminalReason::PolicyViolation,
        ErrorKind::Timeout => TerminalReason::TimeoutExceeded,
        ErrorKind::WorkerLost => TerminalReason::SystemError,
    }
}

/// Whether an attempt at a work of a session is there to be reported.
#[must_use]
pub fn work_of(session: &Session, attempt: &machines::kernel::ids::AttemptId) -> Option<usize> {
    let is = |work: &Work| work.live().is_some_and(|live| live.id == *attempt);
    session.works.iter().position(is)
}
