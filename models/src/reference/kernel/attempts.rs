//! Section 8, third part: what comes of attempts. Reports (K250–K255), failures and their retries
//! (K269, K271), deadlines (K270), attempts that are lost or superseded (K272), and what they hold
//! of the budget (K104, K251).

use std::collections::BTreeSet;

use machines::kernel::envelopes::RecordStatus;
use machines::kernel::ids::{AttemptId, ProcessId};
use machines::kernel::json::Json;
use machines::kernel::names::{BlockReason, ProcessState};
use machines::kernel::pipeline::kinds::{ErrorKind, NodeKind, OnLost, ToolAccess, Via};
use machines::kernel::pipeline::{PipelineStage, Target};
use machines::kernel::principal::Role;
use machines::kernel::quota::{Amounts, Resource};
use machines::kernel::sessions::report::Report;
use machines::kernel::{Code, Time};

use super::budget::{Charge, minus, sums};
use super::flow::{reason_of, work_of};
use super::process::{End, Sums};
use super::sessions::{Attempt, Failure, Over, Standing, Work};
use super::values::{Change, fits, merged};
use super::{Answer, Kernel, Note, Wrong};

/// How an attempt ended that nobody reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Given {
    /// Its deadline passed (K270).
    TimedOut,
    /// Its worker went away (K272).
    Lost,
    /// It is not wanted any more.
    Superseded,
}

impl Kernel {
    /// K250, K251.
    pub(super) fn report(&mut self, told: &Report) -> Answer {
        let pid = &told.pid;
        self.known(pid)?;
        if !self.has_attempt(pid, &told.attempt) && !self.by.roles.has(Role::Worker) {
            self.only_party(pid)?;
        }
        let session = self.sessions.get(pid).ok_or(Code::AttemptNotFound)?;
        let Some(at) = work_of(session, &told.attempt) else {
            return self.report_again(told);
        };
        let attempt = session.works[at].live().expect("it was found").clone();
        if attempt.agent != told.agent {
            return Err(Code::WrongAgent);
        }
        if attempt.holder != self.holder {
            return Err(Code::NotHolder);
        }
        self.right_report(told)?;
        let stage = session.stage(&session.works[at].stage).clone();
        let verdict = self.verdict(told, &stage, &attempt);
        self.charge_report(told, &attempt);
        let asks = told.interrupt.is_some() && verdict.is_ok();
        let status = match (&verdict, asks) {
            (Err(_), _) => RecordStatus::Error,
            (Ok(()), true) => RecordStatus::Interrupted,
            (Ok(()), false) => RecordStatus::Success,
        };
        self.close_reported(told, at, status);
        if asks {
            let output = told.output.clone();
            self.session_mut(pid).works[at].standing = Standing::Due;
            if let Some(output) = output {
                self.keep_asked(pid, at, &stage, output);
            }
            let asked = told.interrupt.as_deref().expect("it asks");
            let origin = (stage.name.clone(), Some(told.attempt.clone()));
            self.raise_asked(pid, asked, Some(origin));
        } else {
            match verdict {
                Err(failure) => self.fail_work(pid, at, failure),
                Ok(()) => self.succeed(told, at, &stage),
            }
        }
        self.after_report(told)
    }

    /// Whether the caller has an attempt, or had it (K27).
    fn has_attempt(&self, pid: &ProcessId, id: &AttemptId) -> bool {
        let Some(session) = self.sessions.get(pid) else {
            return false;
        };
        let over = session.over.iter().any(|over| over.id == *id && over.holder == self.holder);
        let live = session.live();
        over || live.iter().any(|(_, live)| live.id == *id && live.holder == self.holder)
    }

    /// A report of an attempt that is over, or was never (K250).
    fn report_again(&mut self, told: &Report) -> Answer {
        let session = &self.sessions[&told.pid];
        let over = session.over.iter().rev().find(|over| over.id == told.attempt);
        let over = over.ok_or(Code::AttemptNotFound)?;
        if over.agent != told.agent {
            return Err(Code::WrongAgent);
        }
        if over.holder != self.holder {
            return Err(Code::NotHolder);
        }
        match &over.told {
            // Without an event: not even the lease is renewed.
            Some(before) if **before == *told => Ok(()),
            Some(_) => Err(Code::AttemptClosed),
            None if self.is(Wrong::LateReportTaken) => Ok(()),
            None => Err(Code::AttemptSuperseded),
        }
    }

    /// What is wrong with a report itself (K250).
    fn right_report(&self, told: &Report) -> Answer {
        if told.output.as_ref().is_some_and(|output| output.as_object().is_none()) {
            return Err(Code::BadOutput);
        }
        let kinds = [None, Some(ErrorKind::Tool), Some(ErrorKind::Llm), Some(ErrorKind::Policy)];
        let failed = told.error.is_some() || told.error_kind.is_some();
        if !kinds.contains(&told.error_kind) || (told.success && failed) {
            return Err(Code::BadValue);
        }
        self.text(told.error.as_deref().unwrap_or_default())?;
        self.amounts(&told.metrics.amounts())?;
        match &told.interrupt {
            Some(asked) => self.may_ask(&told.pid, asked),
            None => Ok(()),
        }
    }

    /// Whether a report is taken as a success, or a question, or as which failure (K253, K254).
    fn verdict(
        &self,
        told: &Report,
        stage: &PipelineStage,
        attempt: &Attempt,
    ) -> Result<(), Failure> {
        let agent = stage.agent_config.as_ref().expect("K232");
        let permits = |tool: &str| match (agent.tool_access, &agent.allowed_tools) {
            (ToolAccess::None, _) => false,
            (ToolAccess::All, _) | (ToolAccess::Read | ToolAccess::Write, None) => true,
            (ToolAccess::Read | ToolAccess::Write, Some(all)) => {
                all.iter().any(|one| **one == *tool)
            }
        };
        if told.metrics.tool_results.iter().any(|result| !permits(&result.name)) {
            return Err((ErrorKind::Policy, String::new()));
        }
        let invalid = || Err((ErrorKind::OutputInvalid, String::new()));
        if told.interrupt.is_some() {
            return match told.output.is_some() && self.crowds(&told.pid, [(stage, &[][..])]) {
                true => invalid(),
                false => Ok(()),
            };
        }
        if !told.success {
            let text = told.error.as_deref().unwrap_or_default().to_owned();
            return Err((told.error_kind.unwrap_or(ErrorKind::Tool), text));
        }
        let output = told.output.clone().unwrap_or_else(|| Json::object::<&str>([]));
        let has = |key: &std::sync::Arc<str>| output.get(key).is_some();
        let schema = stage.output_schema.as_ref().is_none_or(|schema| fits(schema, &output));
        let session = self.session(&told.pid);
        let state = &self.envelopes[&session.envelope].state;
        let entries = self.config.limits.entries;
        let merges = merged(&session.pipeline.state_schema, &output, state, entries);
        if !stage.required_output_fields.iter().all(has) || !schema {
            return invalid();
        }
        if stage.node_kind == NodeKind::Router {
            match &told.chosen_target {
                Some(chosen) if attempt.targets.contains(chosen) => {}
                None if told.break_loop => {} // It leads nowhere (K255).
                Some(_) | None => return Err((ErrorKind::RouterInvalid, String::new())),
            }
        }
        match merges {
            Some(changes) if !self.crowds(&told.pid, [(stage, &changes[..])]) => Ok(()),
            Some(_) | None => invalid(),
        }
    }

    /// Whether stages that are done would bring outputs or state of which there are too many (K25).
    pub(super) fn crowds<'a>(
        &self,
        pid: &ProcessId,
        brought: impl IntoIterator<Item = (&'a PipelineStage, &'a [Change])>,
    ) -> bool {
        let envelope = &self.envelopes[&self.session(pid).envelope];
        let mut outputs: BTreeSet<_> = envelope.outputs.iter().map(|(key, _)| key).collect();
        let mut state: BTreeSet<_> = envelope.state.keys().collect();
        let before = [outputs.len(), state.len()];
        for (stage, changes) in brought {
            outputs.insert(&stage.output_key);
            state.extend(changes.iter().map(|(key, _)| key));
        }
        let most = usize::try_from(self.config.limits.entries).expect("few");
        let mut grown = before.into_iter().zip([outputs.len(), state.len()]);
        grown.any(|(was, is)| is > was && is > most)
    }

    /// K251 (1).
    fn charge_report(&mut self, told: &Report, attempt: &Attempt) {
        let pid = &told.pid;
        let metrics = sums(&told.metrics.amounts());
        let charged = minus(&metrics, &attempt.charged);
        let kept = self.is(Wrong::HoldKept);
        let free = if kept { Sums::new() } else { attempt.hold.clone() };
        let open: Vec<_> = self
            .of(pid)
            .open
            .iter()
            .filter(|(_, open)| open.asked.2.as_ref() == Some(&told.attempt))
            .map(|(id, _)| id.clone())
            .collect();
        // What is reserved for the attempt covers it as its hold does.
        let mut cover = attempt.hold.clone();
        for id in &open {
            for (resource, amount) in sums(&self.of(pid).open[id].asked.0) {
                *cover.entry(resource).or_default() += amount;
            }
        }
        let unreserved = minus(&charged, &cover);
        for id in open {
            self.close_with(pid, &id, End::Released);
        }
        self.note(Note::Reported(
            pid.clone(),
            told.attempt.clone(),
            format!("charged {charged:?} unreserved {unreserved:?}"),
        ));
        self.charge(pid, &Charge { used: charged, unreserved, free, ..Charge::default() });
    }

    /// K251 (2).
    fn close_reported(&mut self, told: &Report, at: usize, status: RecordStatus) {
        let pid = &told.pid;
        let session = self.session(pid);
        let (envelope, stage) = (session.envelope.clone(), session.works[at].stage.clone());
        let now = self.now;
        let envelope = self.envelopes.get_mut(&envelope).expect("it is bound");
        envelope.show_over(now, &stage, (&told.attempt, status, told.metrics.llm_calls));
        envelope.feedback.extend(told.feedback.iter().cloned());
        let over = Over {
            id: told.attempt.clone(),
            agent: told.agent.clone(),
            holder: self.holder.clone(),
            told: Some(Box::new(told.clone())),
        };
        self.remember_attempt(pid, over);
    }

    /// What a stage made that asks is saved; in a group at the join (K252, K277).
    fn keep_asked(&mut self, pid: &ProcessId, at: usize, stage: &PipelineStage, output: Json) {
        if self.session(pid).group.is_some() {
            self.session_mut(pid).works[at].output = Some(output);
            return;
        }
        let id = self.session(pid).envelope.clone();
        let envelope = self.envelopes.get_mut(&id).expect("it is bound");
        envelope.save(&stage.output_key, &output);
        self.session_mut(pid).saved.push(stage.output_key.clone());
    }

    /// K255.
    fn succeed(&mut self, told: &Report, at: usize, stage: &PipelineStage) {
        let pid = &told.pid;
        let output = told.output.clone().unwrap_or_else(|| Json::object::<&str>([]));
        if self.session(pid).group.is_some() {
            let session = self.session_mut(pid);
            let arrived = session.works.iter().map(|work| work.arrived).max().unwrap_or(0) + 1;
            let work = &mut session.works[at];
            work.output = Some(output);
            work.standing = Standing::Done;
            work.arrived = arrived;
            self.join_if_ready(pid);
            return;
        }
        self.session_mut(pid).works[at].standing = Standing::Done;
        self.complete_stage(pid, stage, &output);
        if told.break_loop {
            let reason = machines::kernel::names::TerminalReason::BreakRequested;
            return self.end_session(pid, reason, None);
        }
        match (stage.node_kind, told.chosen_target.clone()) {
            (_, _) if self.session(pid).is_parallel() => {
                self.session_mut(pid).done.insert(stage.name.clone());
            }
            (NodeKind::Router, Some(target)) => {
                self.follow(pid, &Target::from(target), Via::Router);
            }
            (_, _) => self.route(pid, stage),
        }
    }

    /// K251 (4).
    fn after_report(&mut self, told: &Report) -> Answer {
        let pid = &told.pid;
        if self.running(pid).is_none() {
            return Ok(());
        }
        self.rest(pid);
        let runs = self.of(pid).state == ProcessState::Running;
        match (runs, told.release_process) {
            (true, false) => self.advance(pid),
            // Who has other branches to report keeps it, and gets nothing more.
            (true, true) if !self.has_live_attempt(pid) => self.change(pid, ProcessState::Ready),
            (true | false, _) => {}
        }
        self.drop_lease_of_nobody(pid);
        self.renew_lease(pid);
        Ok(())
    }

    /// A lease lives while the process runs or somebody works for it (K78).
    fn drop_lease_of_nobody(&mut self, pid: &ProcessId) {
        if self.of(pid).state != ProcessState::Running && !self.has_live_attempt(pid) {
            self.of_mut(pid).lease = None;
        }
    }

    /// A failure: a retry, or for good (K269, K271).
    pub(super) fn fail_work(&mut self, pid: &ProcessId, at: usize, failure: Failure) {
        let work = &self.session(pid).works[at];
        let stage = self.session(pid).stage(&work.stage).clone();
        let (failures, kind, tries) = (work.failures + 1, failure.0, work.tries + 1);
        let more = u64::from(self.is(Wrong::RetryTooMany));
        let again = failures <= u64::from(stage.retry.max_retries) + more
            && stage.retry.retry_on.contains(&kind)
            && ![ErrorKind::Policy, ErrorKind::ContextOverflow].contains(&kind);
        if !again {
            return self.fail_for_good(pid, at, &stage, failure);
        }
        let mut wait = stage.retry.initial_backoff_ms;
        for _ in 1..failures {
            wait = wait * u64::from(stage.retry.multiplier_pct) / 100;
        }
        let wait = wait.min(stage.retry.max_backoff_ms);
        let mut drawn = (0..=u64::from(stage.retry.jitter_pct))
            .map(|percent| self.now.plus(wait - wait * percent / 100));
        let minted = self.minted.stage_retries.pop_front();
        let right = minted.filter(|minted| drawn.any(|at| at == *minted));
        let until = right.unwrap_or(self.now.plus(wait));
        self.note(Note::StageRetried(pid.clone(), stage.name.clone(), tries, until, kind));
        let work = &mut self.session_mut(pid).works[at];
        work.failures = failures;
        work.failure = Some(failure);
        work.standing = Standing::Backoff(until);
        self.rest(pid);
    }

    /// The process is Blocked while all that is left to do waits for its next try (K269).
    fn rest(&mut self, pid: &ProcessId) {
        let open = self.session(pid).works.iter().filter(|work| !work.has_ended());
        let waits: Option<Vec<Time>> = open.map(Work::waits_until).collect();
        let until = waits.and_then(|waits| waits.into_iter().min());
        if let Some(until) = until.filter(|until| *until > self.now) {
            self.block(pid, BlockReason::Backoff, Some(until));
        }
    }

    fn fail_for_good(
        &mut self,
        pid: &ProcessId,
        at: usize,
        stage: &PipelineStage,
        failure: Failure,
    ) {
        self.note(Note::StageFailed(pid.clone(), stage.name.clone(), failure.0));
        let (now, id) = (self.now, self.session(pid).envelope.clone());
        let agent = stage.agent_config.as_ref().map(|agent| agent.name.clone());
        let envelope = self.envelopes.get_mut(&id).expect("it is bound");
        envelope.show_failed(now, (&stage.name, agent), failure.0);
        let work = &mut self.session_mut(pid).works[at];
        work.standing = Standing::Failed;
        work.failures += 1;
        work.failure = Some(failure.clone());
        if self.session(pid).group.is_some() {
            if !self.join_if_ready(pid) {
                self.rest(pid);
            }
            return;
        }
        let default = stage.default_next.clone().filter(|_| stage.node_kind == NodeKind::Router);
        match (stage.error_next.clone(), default) {
            (Some(to), _) => {
                self.move_to(pid, &to, Via::Error);
            }
            (None, Some(target)) => self.follow(pid, &target, Via::Default),
            (None, None) => {
                let text = Some(failure.1.as_str()).filter(|text| !text.is_empty());
                self.end_session(pid, reason_of(failure.0), text);
            }
        }
    }

    /// K270. The session moves, but nothing is issued until somebody polls.
    pub(super) fn attempt_timed_out(&mut self, pid: &ProcessId, id: &AttemptId) {
        let Some(at) = work_of(self.session(pid), id) else {
            return;
        };
        self.give_up(pid, at, Given::TimedOut);
        self.fail_work(pid, at, (ErrorKind::Timeout, String::new()));
        self.drop_lease_of_nobody(pid);
    }

    /// The end of a run lease: live attempts are lost (K79, K272).
    pub(super) fn run_lease_over(&mut self, pid: &ProcessId) {
        let mut live: Vec<AttemptId> = match self.running(pid) {
            Some(session) => session.live().into_iter().map(|(_, live)| live.id).collect(),
            None => Vec::new(),
        };
        live.sort();
        let runs = self.of(pid).state == ProcessState::Running;
        self.of_mut(pid).lease = None;
        // In which order is not said: by id, as the kernel has it.
        let at = |id: &AttemptId| work_of(self.session(pid), id).expect("it is live");
        let lost: Vec<usize> = live.iter().map(at).collect();
        for at in &lost {
            self.give_up(pid, *at, Given::Lost);
        }
        for at in lost {
            if self.running(pid).is_none_or(|session| session.works.len() <= at) {
                return;
            }
            self.lose_attempt(pid, at);
        }
        if runs && self.of(pid).state == ProcessState::Running {
            self.change(pid, ProcessState::Ready);
        }
    }

    fn lose_attempt(&mut self, pid: &ProcessId, at: usize) {
        let work = &self.session(pid).works[at];
        let on_lost = self.session(pid).stage(&work.stage).on_lost;
        let fails = on_lost == OnLost::Fail || work.lost >= self.config.max_lost;
        let counts = self.is(Wrong::LossIsFailure);
        self.session_mut(pid).works[at].lost += 1;
        match fails || counts {
            true => self.fail_work(pid, at, (ErrorKind::WorkerLost, String::new())),
            false => self.session_mut(pid).works[at].standing = Standing::Due,
        }
    }

    /// Closes all live attempts, in branch order: their results are not wanted any more.
    pub(super) fn give_up_all(&mut self, pid: &ProcessId) {
        let Some(session) = self.running(pid) else {
            return;
        };
        for at in 0..session.works.len() {
            if self.session(pid).works[at].live().is_some() {
                self.give_up(pid, at, Given::Superseded);
            }
        }
    }

    /// Closes an attempt that nobody reported; its hold is charged in full (K270, K272).
    fn give_up(&mut self, pid: &ProcessId, at: usize, given: Given) {
        let session = self.session(pid);
        let work: &Work = &session.works[at];
        let (attempt, stage) = (work.live().expect("it is live").clone(), work.stage.clone());
        let envelope = session.envelope.clone();
        let hold = attempt.hold.clone();
        let told = format!("{:?}", hold.values().collect::<Vec<_>>());
        self.note(Note::GivenUp(pid.clone(), attempt.id.clone(), given, told));
        let now = self.now;
        let status = match given {
            Given::TimedOut | Given::Lost => RecordStatus::Error,
            Given::Superseded => RecordStatus::Superseded,
        };
        let shown = self.envelopes.get_mut(&envelope).expect("it is bound");
        shown.show_over(now, &stage, (&attempt.id, status, 0));
        self.session_mut(pid).works[at].standing = Standing::Due;
        let over =
            Over { id: attempt.id, agent: attempt.agent, holder: attempt.holder, told: None };
        self.remember_attempt(pid, over);
        let used = if self.is(Wrong::GivenUpIsFree) { Sums::new() } else { hold.clone() };
        self.charge(pid, &Charge { used, free: hold, ..Charge::default() });
    }

    /// The attempt that a reservation or record quotes, if it is live: any other holds nothing
    /// (K104).
    pub(super) fn quoted(&self, pid: &ProcessId, attempt: Option<&AttemptId>) -> Option<usize> {
        work_of(self.running(pid)?, attempt?)
    }

    /// Takes what it can of amounts from an attempt's own hold, and says what that is (K104).
    pub(super) fn draw_hold(&mut self, pid: &ProcessId, at: usize, amounts: &Sums) -> Sums {
        if self.is(Wrong::HoldNotDrawn) {
            return Sums::new();
        }
        let Standing::Live(attempt) = &mut self.session_mut(pid).works[at].standing else {
            return Sums::new();
        };
        let mut drawn = Sums::new();
        for resource in Resource::RESERVABLE {
            let wanted = amounts.get(&resource).copied().unwrap_or(0);
            let held = attempt.hold.entry(resource).or_default();
            let taken = wanted.min(*held);
            *held -= taken;
            drawn.insert(resource, taken);
        }
        drawn
    }

    /// Something of an attempt was charged (K251).
    pub(super) fn charged_for(
        &mut self,
        pid: &ProcessId,
        attempt: Option<&AttemptId>,
        amounts: &Sums,
    ) {
        let Some(id) = attempt else {
            return;
        };
        let Some(at) = self.running(pid).and_then(|session| work_of(session, id)) else {
            return;
        };
        if let Standing::Live(attempt) = &mut self.session_mut(pid).works[at].standing {
            for (resource, amount) in amounts {
                *attempt.charged.entry(*resource).or_default() += amount;
            }
        }
    }

    /// Holds what an attempt may need (K267).
    pub(super) fn hold_for_attempt(&mut self, pid: &ProcessId, hold: &Sums) {
        self.charge(pid, &Charge { hold: hold.clone(), ..Charge::default() });
    }
}

/// Amounts of sums.
#[must_use]
pub fn amounts_of(sums: &Sums) -> Amounts {
    let of = |one: Resource| sums.get(&one).copied().unwrap_or(0);
    Amounts {
        llm_calls: of(Resource::LlmCalls),
        tool_calls: of(Resource::ToolCalls),
        tokens_in: of(Resource::TokensIn),
        tokens_out: of(Resource::TokensOut),
        inference_requests: of(Resource::InferenceRequests),
        inference_input_chars: of(Resource::InferenceInputChars),
    }
}
