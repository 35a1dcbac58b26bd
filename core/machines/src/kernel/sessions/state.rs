//! What the events of sessions change: the session, its envelope, the ledger, deadlines (K3).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::event::{Issued, Reported, SessionEvent};
use super::{
    Attempt, AttemptEnd, ClosedAttempt, Failure, Group, Pipeline, Session, SessionEnd, Standing,
    Work,
};
use crate::kernel::deadlines::Due;
use crate::kernel::envelopes::change::{Completion, Progress};
use crate::kernel::envelopes::{Envelope, ProcessingRecord, RecordStatus, RecordedError};
use crate::kernel::ids::{AgentName, AttemptId, EnvelopeId, OutputKey, ProcessId, StageName};
use crate::kernel::json::Json;
use crate::kernel::names::ProcessState;
use crate::kernel::pipeline::kinds::{RunMode, Via};
use crate::kernel::process::Process;
use crate::kernel::query::index::Place;
use crate::kernel::quota::Amounts;
use crate::kernel::state::State;
use crate::kernel::time::Time;

/// How many sessions there are, counted as they come and go (K350).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionTally {
    /// Sessions that have not ended.
    pub active: u64,
    /// Those of them that are in a group.
    pub in_group: u64,
    /// Attempts that are live (K363).
    pub attempts: u64,
}

impl SessionTally {
    /// Counts again.
    #[must_use]
    pub fn derive(state: &State) -> Self {
        let mut tally = Self::default();
        for (_, session) in &state.sessions {
            tally.count(Some(session), true);
        }
        tally
    }

    fn count(&mut self, session: Option<&Session>, add: bool) {
        let Some(session) = session.filter(|session| session.ended.is_none()) else {
            return;
        };
        let grouped = u64::from(session.group.is_some());
        let shift = |count: u64, by: u64| if add { count + by } else { count - by };
        self.active = shift(self.active, 1);
        self.in_group = shift(self.in_group, grouped);
        self.attempts = shift(self.attempts, session.attempts.len() as u64);
    }
}

/// What an event says of how an attempt ended.
struct Closing {
    end: AttemptEnd,
    status: RecordStatus,
    error: Option<Arc<str>>,
    llm_calls: u64,
    charged: Amounts,
    unreserved: Amounts,
}

impl State {
    /// Finds the deadlines of sessions again from their table (K12).
    pub(in crate::kernel) fn derive_sessions(&mut self) {
        self.session_tally = SessionTally::derive(self);
        let attempts = self.sessions.iter().flat_map(|(pid, session)| {
            let attempts = session.attempts.iter();
            attempts.map(|(id, attempt)| (Due::Attempt(pid.clone(), id.clone()), attempt.deadline))
        });
        let attempts: Vec<(Due, Option<Time>)> = attempts.collect();
        for (due, deadline) in attempts {
            self.deadlines.set(due, deadline);
        }
    }

    /// Changes the session of a process, and nothing else.
    pub(super) fn change_session(
        &mut self,
        now: Time,
        pid: &ProcessId,
        change: impl FnOnce(&mut Session),
    ) {
        let tally = &mut self.session_tally;
        self.sessions.update(pid, |session| {
            tally.count(Some(session), false);
            change(session);
            session.last_activity_at = now;
            tally.count(Some(session), true);
        });
    }

    fn change_work(
        &mut self,
        now: Time,
        (pid, stage): (&ProcessId, &StageName),
        change: impl FnOnce(&mut Work),
    ) {
        self.change_session(now, pid, |session| {
            if let Some(work) = session.works.iter_mut().find(|work| work.stage == *stage) {
                change(work);
            }
        });
    }

    fn change_envelope_of(
        &mut self,
        now: Time,
        pid: &ProcessId,
        change: impl FnOnce(&mut Envelope),
    ) {
        if let Some(id) = self.session(pid).map(|session| session.envelope.clone()) {
            self.change_envelope(now, &id, change);
        }
    }

    /// Shows in a process where its session is.
    fn show_stage(&mut self, pid: &ProcessId, stage: Option<&StageName>) {
        let shown = self.process(pid).map(|process| process.current_stage.as_ref());
        if shown.is_some_and(|shown| shown != stage) {
            self.processes.update(pid, |process| process.current_stage = stage.cloned());
        }
    }

    /// Changes a session as an event says (K3).
    pub(in crate::kernel) fn apply_session(
        &mut self,
        now: Time,
        pid: &ProcessId,
        event: &SessionEvent,
    ) {
        if let SessionEvent::Started { pipeline, envelope, entry, .. } = event {
            self.start_session(now, pid, (pipeline, envelope, entry));
            return;
        }
        if self.session(pid).is_none() {
            return;
        }
        match event {
            SessionEvent::Started { .. } | SessionEvent::Checkpoint { .. } => {}
            SessionEvent::Ended { reason, message } => {
                let (reason, message) = (*reason, Arc::clone(message));
                self.change_envelope_of(now, pid, |envelope| envelope.end(now, reason, &message));
                self.change_session(now, pid, |session| {
                    session.ended = Some(SessionEnd { reason, message });
                });
            }
            SessionEvent::Removed => {
                self.session_tally.count(self.sessions.get(pid), false);
                self.sessions.remove(pid);
            }
            SessionEvent::Moved { .. } => self.move_session(now, pid, event),
            SessionEvent::AttemptIssued { issued } => self.issue_attempt(now, pid, issued),
            SessionEvent::AttemptReported { reported } => self.report_attempt(now, pid, reported),
            SessionEvent::AttemptClosed { attempt, cause, charged } => {
                self.give_up_attempt(now, (pid, attempt), (*cause, *charged));
            }
            SessionEvent::StageCompleted { stage, output_key, changes } => {
                self.complete(now, (pid, stage), (output_key, changes));
            }
            SessionEvent::StageFailed { stage, failure } => {
                self.fail_for_good(now, (pid, stage), failure);
            }
            SessionEvent::GroupOpened { group, branches, join } => {
                let group = Group { id: group.clone(), join: *join };
                self.open_group_of(now, pid, (group, branches));
            }
            SessionEvent::GroupJoined { .. } => {
                self.change_session(now, pid, |session| {
                    session.group = None;
                    session.works.clear();
                });
            }
            SessionEvent::RetryScheduled { stage, retry_at, failure, .. } => {
                let epoch = self.counters.epoch;
                self.change_work(now, (pid, stage), |work| {
                    work.failures = work.failures.saturating_add(1);
                    work.failure = Some(failure.clone());
                    work.standing = Standing::Backoff { until: *retry_at, epoch };
                });
            }
        }
    }

    fn open_group_of(
        &mut self,
        now: Time,
        pid: &ProcessId,
        (group, branches): (Group, &[StageName]),
    ) {
        self.change_session(now, pid, |session| {
            session.group = Some(group);
            let works = branches.iter().map(|stage| (stage.clone(), session.visits_of(stage)));
            session.works = works.map(|(stage, visit)| Work::new(stage, visit)).collect();
        });
    }

    fn start_session(
        &mut self,
        now: Time,
        pid: &ProcessId,
        (pipeline, id, entry): (&Pipeline, &EnvelopeId, &StageName),
    ) {
        let Some(base) = self.process(pid).map(|process| process.account.used) else {
            return;
        };
        // What is remembered of attempts outlives the session: a late report is told the truth.
        let closed = self.session(pid).map(|old| old.closed.clone()).unwrap_or_default();
        let saves_before = self.envelope(id).map_or(0, |envelope| envelope.saves);
        let session = Session {
            pipeline: pipeline.clone(),
            envelope: id.clone(),
            position: entry.clone(),
            visits: BTreeMap::new(),
            edges: BTreeMap::new(),
            iteration: 0,
            base,
            works: Vec::new(),
            group: None,
            done: BTreeSet::new(),
            attempts: BTreeMap::new(),
            closed,
            response: None,
            unread: Vec::new(),
            ended: None,
            created_at: now,
            last_activity_at: now,
            saves_before,
        };
        self.session_tally.count(self.sessions.get(pid), false);
        self.session_tally.count(Some(&session), true);
        self.sessions.insert(pid.clone(), session);
        if self.envelope_of(pid) != Some(id) {
            self.bind_envelope(now, pid, id);
        }
        let progress = Progress {
            stage_order: pipeline.stages.iter().map(|stage| stage.name.clone()).collect(),
            max_iterations: pipeline.max_iterations,
            parallel_mode: pipeline.run_mode == RunMode::Parallel,
        };
        self.change_envelope(now, id, |envelope| {
            envelope.begin(progress);
            envelope.set_stage(Some(entry.clone()));
        });
        self.show_stage(pid, Some(entry));
    }

    /// A move counts a visit, and an edge unless the session begins; a branch of a Fork leaves the
    /// session where it is (K265).
    fn move_session(&mut self, now: Time, pid: &ProcessId, event: &SessionEvent) {
        let SessionEvent::Moved { from, to, via, visit, iteration, back } = event else {
            return;
        };
        let Some(session) = self.session(pid) else {
            return;
        };
        let put_away = if *back { session.pipeline.loop_reset.clone() } else { Vec::new() };
        let has_agent = session.stage(to).is_some_and(|stage| stage.agent_config.is_some());
        let branch = *via == Via::Fork || session.is_parallel() && from.is_none();
        let before = session.iteration;
        self.change_session(now, pid, |session| {
            if let Some(from) = from {
                *session.edges.entry((from.clone(), to.clone())).or_default() += 1;
            }
            session.visits.insert(to.clone(), *visit);
            session.iteration = *iteration;
            if !branch {
                session.position = to.clone();
                session.works.clear();
                session.works.extend(has_agent.then(|| Work::new(to.clone(), *visit)));
            }
        });
        if *back {
            self.processes.update(pid, |process| process.account.used.iterations += 1);
        }
        self.change_envelope_of(now, pid, |envelope| {
            envelope.put_away(&put_away, before);
            envelope.set_visits(to, *visit);
            envelope.set_iteration(*iteration);
            if !branch {
                envelope.set_stage(Some(to.clone()));
            }
        });
        if !branch {
            self.show_stage(pid, Some(to));
        }
    }

    fn issue_attempt(&mut self, now: Time, pid: &ProcessId, issued: &Issued) {
        let Some(agent) = self.agent_of(pid, &issued.stage) else {
            return;
        };
        let (id, stage) = (issued.attempt.clone(), issued.stage.clone());
        let mut attempt = Attempt {
            stage: stage.clone(),
            agent: agent.clone(),
            branch: issued.branch,
            visit: issued.visit,
            try_number: issued.try_number,
            hold: issued.hold,
            charged: Amounts::ZERO,
            deadline: issued.deadline,
            holder: issued.holder.clone(),
            targets: issued.targets.clone(),
            answer: None,
        };
        self.change_session(now, pid, |session| {
            attempt.answer = session.take_unread(&stage);
            session.attempts.insert(id.clone(), attempt);
            if let Some(work) = session.works.iter_mut().find(|work| work.stage == stage) {
                work.tries = issued.try_number;
                work.standing = Standing::Live { attempt: id.clone() };
                work.asked = false;
            }
        });
        self.deadlines.set(Due::Attempt(pid.clone(), id.clone()), issued.deadline);
        self.book(pid, |account| account.held = account.held.plus(&issued.hold));
        if issued.hop {
            self.processes.update(pid, |process| process.account.used.agent_hops += 1);
        }
        let record = ProcessingRecord {
            agent,
            stage: stage.clone(),
            visit: issued.visit,
            try_number: issued.try_number,
            attempt: id,
            started_at: now,
            completed_at: None,
            duration_ms: 0,
            status: RecordStatus::Running,
            error: None,
            llm_calls: 0,
        };
        self.change_envelope_of(now, pid, |envelope| {
            envelope.start_stage(&stage);
            envelope.push_history(record);
        });
    }

    fn agent_of(&self, pid: &ProcessId, stage: &StageName) -> Option<AgentName> {
        let agent = self.session(pid)?.stage(stage)?.agent_config.as_ref()?;
        Some(agent.name.clone())
    }

    fn report_attempt(&mut self, now: Time, pid: &ProcessId, reported: &Reported) {
        let status = match (&reported.failure, reported.interrupted) {
            (Some(_), _) => RecordStatus::Error,
            (None, true) => RecordStatus::Interrupted,
            (None, false) => RecordStatus::Success,
        };
        let closing = Closing {
            end: AttemptEnd::Reported { digest: reported.digest },
            status,
            error: reported.failure.as_ref().map(|failure| Arc::clone(&failure.error)),
            llm_calls: reported.metrics.llm_calls,
            charged: reported.charged,
            unreserved: reported.unreserved,
        };
        let Some(attempt) = self.close_attempt(now, (pid, &reported.attempt), &closing) else {
            return;
        };
        let stage = &attempt.stage;
        let grouped = self.session(pid).is_some_and(|session| session.group.is_some());
        let done = reported.failure.is_none() && !reported.interrupted;
        self.change_work(now, (pid, stage), |work| {
            // An interrupted branch keeps what it made until the join, too.
            if reported.failure.is_none() && (done || grouped) && reported.output.is_some() {
                work.output.clone_from(&reported.output);
            }
            if done {
                work.standing = Standing::Done;
            }
        });
        let key = self.session(pid).and_then(|session| session.stage(stage));
        let key = key.map(|stage| stage.output_key.clone());
        let saved = (reported.interrupted && !grouped).then_some(reported.output.as_ref());
        self.change_envelope_of(now, pid, |envelope| {
            if let Some(feedback) = &reported.feedback {
                envelope.push_feedback(feedback);
            }
            if let (Some(key), Some(output)) = (key, saved.flatten()) {
                envelope.save_output(&key, output);
            }
        });
    }

    /// An attempt ends without a report: all that it held is charged (K270, K272).
    fn give_up_attempt(
        &mut self,
        now: Time,
        (pid, id): (&ProcessId, &AttemptId),
        (end, charged): (AttemptEnd, Amounts),
    ) {
        let (status, error) = match end {
            AttemptEnd::TimedOut => (RecordStatus::Error, Some("timed out")),
            AttemptEnd::Lost => (RecordStatus::Error, Some("worker lost")),
            AttemptEnd::Superseded | AttemptEnd::Reported { .. } => {
                (RecordStatus::Superseded, None)
            }
        };
        let closing = Closing {
            end,
            status,
            error: error.map(Arc::from),
            llm_calls: 0,
            charged,
            unreserved: Amounts::ZERO,
        };
        let closed = self.close_attempt(now, (pid, id), &closing);
        if let Some(attempt) = closed.filter(|_| end == AttemptEnd::Lost) {
            self.change_work(now, (pid, &attempt.stage), |work| work.lost += 1);
        }
    }

    /// Closes an attempt: what it held is free, what it used is charged; its work is due again.
    fn close_attempt(
        &mut self,
        now: Time,
        (pid, id): (&ProcessId, &AttemptId),
        closing: &Closing,
    ) -> Option<Attempt> {
        let remembered = usize::try_from(self.config.limits.closed_attempts).unwrap_or(usize::MAX);
        let mut closed = None;
        self.change_session(now, pid, |session| {
            let Some(attempt) = session.attempts.remove(id) else {
                return;
            };
            if let Some(work) = session.works.iter_mut().find(|work| work.stage == attempt.stage) {
                work.standing = Standing::Due;
            }
            session.closed.push_back(ClosedAttempt {
                attempt: id.clone(),
                agent: attempt.agent.clone(),
                holder: attempt.holder.clone(),
                end: closing.end,
            });
            forget_oldest(&mut session.closed, remembered);
            closed = Some(attempt);
        });
        let attempt = closed?;
        self.deadlines.set(Due::Attempt(pid.clone(), id.clone()), None);
        self.book(pid, |account| account.held = account.held.minus(&attempt.hold));
        self.charge(pid, closing.charged, closing.unreserved);
        self.end_idle_lease(pid);
        let completion = Completion {
            status: closing.status,
            error: closing.error.clone(),
            llm_calls: closing.llm_calls,
        };
        self.change_envelope_of(now, pid, |envelope| {
            envelope.complete_history(now, id, completion);
            envelope.stop_stage(&attempt.stage);
        });
        Some(attempt)
    }

    /// A run lease lives while its process is Running or somebody works for it (K78).
    fn end_idle_lease(&mut self, pid: &ProcessId) {
        let idle = |process: &&Process| {
            process.run_lease.is_some() && process.state != ProcessState::Running
        };
        let Some(process) = self.processes.get(pid).filter(idle) else {
            return;
        };
        if self.has_live_attempt(pid) {
            return;
        }
        let place = Place::of(process);
        self.leases.forget_run(process);
        self.processes.update(pid, |process| process.run_lease = None);
        let now_at = self.processes.get(pid).map(Place::of);
        self.process_index.shift(pid, Some(place), now_at);
        self.follow(pid);
    }

    fn complete(
        &mut self,
        now: Time,
        (pid, stage): (&ProcessId, &StageName),
        (key, changes): (&OutputKey, &[(Arc<str>, Json)]),
    ) {
        let mut output = None;
        self.change_session(now, pid, |session| {
            let parallel = session.is_parallel();
            if let Some(work) = session.works.iter_mut().find(|work| work.stage == *stage) {
                output = work.output.take();
            }
            if parallel {
                session.done.insert(stage.clone());
            }
        });
        self.change_envelope_of(now, pid, |envelope| {
            if let Some(output) = &output {
                envelope.save_output(key, output);
            }
            envelope.merge_state(changes);
            envelope.complete_stage(stage);
        });
    }

    fn fail_for_good(
        &mut self,
        now: Time,
        (pid, stage): (&ProcessId, &StageName),
        failure: &Failure,
    ) {
        self.change_work(now, (pid, stage), |work| {
            work.failures = work.failures.saturating_add(1);
            work.failure = Some(failure.clone());
            work.standing = Standing::Failed;
            work.output = None;
        });
        let agent = self.agent_of(pid, stage);
        self.change_envelope_of(now, pid, |envelope| {
            envelope.fail_stage(stage, &failure.error);
            envelope.push_error(RecordedError {
                agent,
                stage: Some(stage.clone()),
                error: Arc::clone(&failure.error),
                error_kind: Some(failure.kind),
                at: now,
            });
        });
    }

    /// Takes from the hold of an attempt what a reservation or record of it can have from there;
    /// returns that (K104).
    pub(in crate::kernel) fn draw_hold(
        &mut self,
        pid: &ProcessId,
        attempt: Option<&AttemptId>,
        amounts: &Amounts,
    ) -> Amounts {
        let drawn = self.drawable(pid, attempt, amounts);
        if let Some(id) = attempt.filter(|_| !drawn.is_zero()) {
            self.sessions.update(pid, |session| {
                if let Some(attempt) = session.attempts.get_mut(id) {
                    attempt.hold = attempt.hold.minus(&drawn);
                }
            });
        }
        drawn
    }

    /// Returns what an attempt's hold covers of some amounts (K104).
    pub(in crate::kernel) fn drawable(
        &self,
        pid: &ProcessId,
        attempt: Option<&AttemptId>,
        amounts: &Amounts,
    ) -> Amounts {
        let attempt = attempt.and_then(|id| self.session(pid)?.attempts.get(id));
        attempt.map_or(Amounts::ZERO, |attempt| attempt.hold.least(amounts))
    }

    /// Notes what a reservation or record of an attempt has charged, so that its report does not
    /// charge it again (K251).
    pub(in crate::kernel) fn note_charged(
        &mut self,
        pid: &ProcessId,
        attempt: Option<&AttemptId>,
        amounts: &Amounts,
    ) {
        let live = |id: &&AttemptId| {
            self.session(pid).is_some_and(|session| session.attempts.contains_key(*id))
        };
        if let Some(id) = attempt.filter(live) {
            self.sessions.update(pid, |session| {
                if let Some(attempt) = session.attempts.get_mut(id) {
                    attempt.charged = attempt.charged.plus(amounts);
                }
            });
        }
    }
}

fn forget_oldest(closed: &mut VecDeque<ClosedAttempt>, most: usize) {
    while closed.len() > most {
        closed.pop_front();
    }
}
