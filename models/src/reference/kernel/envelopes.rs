//! Envelopes: made, changed, copied (2.4, K30–K34), worked on by sessions, forgotten (K360).
//!
//! A stage is active, completed or failed, one of them at most: the newest says which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machines::kernel::envelopes::RecordStatus;
use machines::kernel::envelopes::command::NewEnvelope;
use machines::kernel::envelopes::{
    Ending, EnvelopePatch, GoalStage, GoalStatus, GoalsAdvance, RecordedError,
};
use machines::kernel::ids::{
    AgentName, AttemptId, EnvelopeId, OutputKey, ProcessId, RequestId, SessionId, StageName, UserId,
};
use machines::kernel::json::Json;
use machines::kernel::names::{ProcessState, TerminalReason};
use machines::kernel::pipeline::kinds::{ErrorKind, RunMode};
use machines::kernel::sessions::Pipeline;
use machines::kernel::state::State;
use machines::kernel::{Code, Time};

use super::{Answer, Kernel, Note, Wrong};

/// Entries that are kept of a list (K30).
const KEPT: usize = 1_024;

/// Goal stages at most (2.4).
const GOAL_STAGES: u64 = 5;

/// What the history tells of an attempt.
pub type Told = (AttemptId, StageName, (u64, u64), RecordStatus, u64);

/// One envelope.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as the fields of 2.4")]
pub struct Envelope {
    pub user: UserId,
    pub request: RequestId,
    pub session: SessionId,
    /// What was asked for, but the id and the user.
    pub asked: NewEnvelope,
    pub cloned_from: Option<EnvelopeId>,
    pub version: u64,
    pub received_at: Time,
    pub created_at: Time,
    pub updated_at: Time,
    /// In the order of saving.
    pub outputs: Vec<(OutputKey, Json)>,
    pub metadata: BTreeMap<Arc<str>, Json>,
    pub active: BTreeSet<StageName>,
    pub completed: BTreeSet<StageName>,
    pub failed: BTreeMap<StageName, Arc<str>>,
    pub ended: Option<Ending>,
    pub goals: Vec<Arc<str>>,
    pub satisfied: BTreeSet<Arc<str>>,
    pub goal_stage_number: u64,
    pub goal_stages: Vec<GoalStage>,
    /// All of them, also what is not kept.
    pub feedback: Vec<Arc<str>>,
    /// Likewise.
    pub errors: Vec<RecordedError>,
    /// Which process's session it serves, or served last.
    pub process: Option<ProcessId>,
    pub state: BTreeMap<Arc<str>, Json>,
    pub current_stage: Option<StageName>,
    pub stage_order: Vec<StageName>,
    pub iteration: u64,
    pub visits: BTreeMap<StageName, u64>,
    /// Attempts: which, at what, in which visit and try, and how they are; calls of models.
    pub history: Vec<Told>,
    /// Outputs that a loop put away, by the iteration that began then.
    pub prior: Vec<(u64, BTreeMap<OutputKey, Json>)>,
    pub parallel: bool,
    /// Whether a session has changed it in this command.
    pub worked_on: bool,
}

impl Envelope {
    fn remaining(&self) -> Vec<Arc<str>> {
        self.goals.iter().filter(|goal| !self.satisfied.contains(*goal)).cloned().collect()
    }

    fn leave_sets(&mut self, stage: &StageName) {
        self.active.remove(stage);
        self.completed.remove(stage);
        self.failed.remove(stage);
    }

    /// Whether it was made from just this (K448).
    #[must_use]
    pub fn was_asked(&self, new: &NewEnvelope) -> bool {
        self.asked == NewEnvelope { id: None, user: None, ..new.clone() }
    }

    /// A session changed it. How many changes that is, the rules do not say.
    const fn touch(&mut self, now: Time) {
        self.worked_on = true;
        self.updated_at = now;
    }

    /// A session begins: nothing is left of an earlier one but what it made.
    pub(super) fn serve(
        &mut self,
        now: Time,
        pid: &ProcessId,
        (pipeline, entry): (&Pipeline, &StageName),
    ) {
        self.touch(now);
        self.current_stage = Some(entry.clone());
        self.process = Some(pid.clone());
        self.stage_order = pipeline.stages.iter().map(|stage| stage.name.clone()).collect();
        self.parallel = pipeline.run_mode == RunMode::Parallel;
        self.iteration = 0;
        self.visits.clear();
        self.active.clear();
        self.completed.clear();
        self.failed.clear();
        self.ended = None;
    }

    /// Its session was replaced by one that has another.
    pub(super) fn set_free(&mut self, now: Time) {
        self.touch(now);
        self.process = None;
    }

    /// A move; to a branch of a Fork, or on (K265).
    pub(super) fn show_move(
        &mut self,
        now: Time,
        (to, visit): (&StageName, u64),
        (iteration, branch): (u64, bool),
        reset: &[OutputKey],
    ) {
        self.touch(now);
        self.visits.insert(to.clone(), visit);
        self.iteration = iteration;
        if !branch {
            self.current_stage = Some(to.clone());
        }
        let (gone, kept) =
            std::mem::take(&mut self.outputs).into_iter().partition(|(key, _)| reset.contains(key));
        self.outputs = kept;
        let gone: BTreeMap<OutputKey, Json> = Vec::into_iter(gone).collect();
        if !gone.is_empty() {
            self.prior.push((iteration.saturating_sub(1), gone));
        }
    }

    /// Somebody begins to work.
    pub(super) fn show_issue(
        &mut self,
        now: Time,
        stage: &StageName,
        (id, _agent): (&AttemptId, &AgentName),
        counts: (u64, u64),
    ) {
        self.touch(now);
        self.leave_sets(stage);
        self.active.insert(stage.clone());
        self.history.push((id.clone(), stage.clone(), counts, RecordStatus::Running, 0));
    }

    /// Nobody works any more.
    pub(super) fn show_over(
        &mut self,
        now: Time,
        stage: &StageName,
        (id, status, calls): (&AttemptId, RecordStatus, u64),
    ) {
        self.touch(now);
        self.active.remove(stage);
        for record in self.history.iter_mut().filter(|record| record.0 == *id) {
            (record.3, record.4) = (status, calls);
        }
    }

    /// An output, the newest from now on.
    pub(super) fn save(&mut self, key: &OutputKey, output: &Json) {
        self.outputs.retain(|(of, _)| of != key);
        self.outputs.push((key.clone(), output.clone()));
    }

    /// A stage is done (K255).
    pub(super) fn show_done(
        &mut self,
        now: Time,
        stage: &StageName,
        (key, output): (&OutputKey, &Json),
        changes: Vec<(Arc<str>, Json)>,
    ) {
        self.touch(now);
        self.leave_sets(stage);
        self.completed.insert(stage.clone());
        self.save(key, output);
        self.state.extend(changes);
    }

    /// A stage failed for good (K271).
    pub(super) fn show_failed(
        &mut self,
        now: Time,
        (stage, agent): (&StageName, Option<AgentName>),
        kind: ErrorKind,
    ) {
        self.touch(now);
        self.leave_sets(stage);
        let error: Arc<str> = Arc::from("");
        self.failed.insert(stage.clone(), Arc::clone(&error));
        let (stage, error_kind) = (Some(stage.clone()), Some(kind));
        self.errors.push(RecordedError { agent, stage, error, error_kind, at: now });
    }

    /// The session is over.
    pub(super) fn show_end(&mut self, now: Time, reason: TerminalReason) {
        self.touch(now);
        if self.ended.is_none() {
            self.ended = Some(Ending { reason, message: Arc::from(""), at: now });
        }
    }

    /// K31, K33.
    fn patch(&mut self, now: Time, patch: &EnvelopePatch, keep_null: bool) {
        for (key, value) in &patch.outputs {
            self.outputs.retain(|(of, _)| of != key);
            if !value.is_null() {
                self.outputs.push((key.clone(), value.clone()));
            }
        }
        for (key, value) in &patch.metadata {
            match value.is_null() && !keep_null {
                true => self.metadata.remove(key),
                false => self.metadata.insert(key.clone(), value.clone()),
            };
        }
        for stage in &patch.start_stages {
            self.leave_sets(stage);
            self.active.insert(stage.clone());
        }
        for stage in &patch.complete_stages {
            self.leave_sets(stage);
            self.completed.insert(stage.clone());
        }
        for (stage, error) in &patch.fail_stages {
            self.leave_sets(stage);
            self.failed.insert(stage.clone(), error.clone());
        }
        if !patch.goals_init.is_empty() {
            self.goals.clone_from(&patch.goals_init);
            self.satisfied.clear();
        }
        if let Some(advance) = &patch.goals_advance {
            self.advance(advance);
        }
        self.feedback.extend(patch.add_feedback.iter().cloned());
        if let Some(told) = &patch.add_error {
            self.errors.push(RecordedError {
                agent: told.agent.clone(),
                stage: told.stage.clone(),
                error: told.error.clone(),
                error_kind: None,
                at: now,
            });
        }
        if let (Some(end), None) = (&patch.terminate, &self.ended) {
            let (reason, message) = (end.reason, end.message.clone());
            self.ended = Some(Ending { reason, message, at: now });
        }
        self.version += 1;
        self.updated_at = now;
    }

    fn advance(&mut self, advance: &GoalsAdvance) {
        self.satisfied.extend(advance.satisfied.iter().cloned());
        self.goal_stages.push(GoalStage {
            number: self.goal_stage_number,
            satisfied: advance.satisfied.clone(),
            summary: advance.summary.clone(),
            plan: advance.plan.clone(),
        });
        if !self.remaining().is_empty() && self.goal_stage_number < GOAL_STAGES {
            self.goal_stage_number += 1;
            self.outputs.retain(|(key, _)| !advance.reset_outputs.contains(key));
        }
    }
}

impl Kernel {
    /// Access of owner, holder and operator (K370).
    pub(super) fn envelope(&self, id: &EnvelopeId) -> Result<&Envelope, Code> {
        let envelope = self.envelopes.get(id).ok_or(Code::EnvelopeNotFound)?;
        let holds = envelope.process.as_ref().is_some_and(|pid| self.holds(pid));
        match envelope.user == self.by.user || self.is_trusted() || holds {
            true => Ok(envelope),
            false => Err(Code::PermissionDenied),
        }
    }

    fn entries(&self, count: usize) -> Answer {
        match count as u64 > self.config.limits.entries {
            true => Err(Code::TooMany),
            false => Ok(()),
        }
    }

    fn room_for_envelope(&self) -> Answer {
        match self.envelopes.len() as u64 >= self.config.limits.processes {
            true => Err(Code::TooMany),
            false => Ok(()),
        }
    }

    /// K30.
    pub(super) fn create_envelope(&mut self, new: &NewEnvelope) -> Answer {
        let user = new.user.clone().unwrap_or_else(|| self.by.user.clone());
        if user != self.by.user && !self.by.is_operator() {
            return Err(Code::PermissionDenied);
        }
        let asked = NewEnvelope { id: None, user: None, ..new.clone() };
        if let Some(id) = new.id.as_ref().filter(|id| self.envelopes.contains_key(*id)) {
            let old = self.envelope(id)?;
            return match old.user == user && old.asked == asked {
                true => Ok(()),
                false => Err(Code::SubmitConflict),
            };
        }
        self.make_envelope(new, &user).map(|_| ())
    }

    /// K30, of an envelope that is new.
    pub(super) fn make_envelope(
        &mut self,
        new: &NewEnvelope,
        user: &UserId,
    ) -> Result<EnvelopeId, Code> {
        let (user, asked) = (user.clone(), NewEnvelope { id: None, user: None, ..new.clone() });
        if new.raw_input.len() as u64 > self.config.limits.raw_input_bytes {
            return Err(Code::TooLarge);
        }
        if new.raw_input.contains('\0') {
            return Err(Code::BadValue);
        }
        self.entries(new.metadata.len())?;
        self.entries(new.stage_order.len())?;
        self.room_for_envelope()?;
        let Some((id, request, session)) = self.minted.envelope.clone() else {
            self.note(Note::EnvelopeMade(no_envelope()));
            return Err(Code::EnvelopeNotFound);
        };
        let id = new.id.clone().unwrap_or(id);
        let envelope = Envelope {
            user,
            request: new.request.clone().unwrap_or(request),
            session: new.session.clone().unwrap_or(session),
            stage_order: asked.stage_order.clone(),
            asked,
            cloned_from: None,
            version: 1,
            received_at: self.now,
            created_at: self.now,
            updated_at: self.now,
            outputs: Vec::new(),
            metadata: new.metadata.clone(),
            active: BTreeSet::new(),
            completed: BTreeSet::new(),
            failed: BTreeMap::new(),
            ended: None,
            goals: Vec::new(),
            satisfied: BTreeSet::new(),
            goal_stage_number: 1,
            goal_stages: Vec::new(),
            feedback: Vec::new(),
            errors: Vec::new(),
            process: None,
            state: BTreeMap::new(),
            current_stage: None,
            iteration: 0,
            visits: BTreeMap::new(),
            history: Vec::new(),
            prior: Vec::new(),
            parallel: false,
            worked_on: false,
        };
        self.envelopes.insert(id.clone(), envelope);
        self.note(Note::EnvelopeMade(id.clone()));
        Ok(id)
    }

    /// K32: whether a session has it that has not ended.
    fn is_owned(&self, id: &EnvelopeId) -> bool {
        self.sessions.values().any(|session| session.envelope == *id && session.ended.is_none())
    }

    /// K31–K33.
    pub(super) fn update_envelope(
        &mut self,
        id: &EnvelopeId,
        patch: &EnvelopePatch,
        expected: Option<u64>,
    ) -> Answer {
        let old = self.envelope(id)?;
        let stale = expected.is_some_and(|expected| expected != old.version);
        if stale && !self.is(Wrong::AnyVersion) {
            return Err(Code::VersionConflict);
        }
        let ours = !patch.outputs.is_empty()
            || !patch.start_stages.is_empty()
            || !patch.complete_stages.is_empty()
            || !patch.fail_stages.is_empty()
            || patch.terminate.is_some();
        if ours && self.is_owned(id) && !self.is(Wrong::EnvelopeUnowned) {
            return Err(Code::SessionOwnsEnvelope);
        }
        self.right_patch(old, patch)?;
        if *patch == EnvelopePatch::default() {
            return Ok(());
        }
        let mut new = old.clone();
        new.patch(self.now, patch, self.is(Wrong::NullStays));
        let counts = [
            new.outputs.len(),
            new.metadata.len(),
            new.active.len(),
            new.completed.len(),
            new.failed.len(),
            new.goal_stages.len(),
        ];
        counts.into_iter().try_for_each(|count| self.entries(count))?;
        self.note(Note::EnvelopeChanged(id.clone(), new.version));
        self.envelopes.insert(id.clone(), new);
        Ok(())
    }

    /// What may be in a patch (K25, K31, K33).
    fn right_patch(&self, old: &Envelope, patch: &EnvelopePatch) -> Answer {
        self.entries(patch.outputs.len())?;
        let right = |json: &Json| json.is_null() || json.as_object().is_some();
        if !patch.outputs.values().all(right) {
            return Err(Code::BadOutput);
        }
        let counts = [
            patch.metadata.len(),
            patch.start_stages.len(),
            patch.complete_stages.len(),
            patch.fail_stages.len(),
            patch.add_feedback.len(),
            patch.goals_init.len(),
        ];
        counts.into_iter().try_for_each(|count| self.entries(count))?;
        for (at, goal) in patch.goals_init.iter().enumerate() {
            if goal.is_empty() {
                return Err(Code::Required);
            }
            if patch.goals_init[..at].contains(goal) {
                return Err(Code::BadValue);
            }
        }
        let Some(advance) = &patch.goals_advance else {
            return Ok(());
        };
        self.entries(advance.satisfied.len())?;
        let goals = if patch.goals_init.is_empty() { &old.goals } else { &patch.goals_init };
        if advance.satisfied.iter().any(|goal| !goals.contains(goal)) {
            return Err(Code::BadValue);
        }
        self.entries(advance.reset_outputs.len())
    }

    /// K34.
    pub(super) fn clone_envelope(&mut self, from: &EnvelopeId) -> Answer {
        let old = self.envelope(from)?.clone();
        self.room_for_envelope()?;
        let Some(id) = self.minted.copy.clone() else {
            self.note(Note::EnvelopeMade(no_envelope()));
            return Ok(());
        };
        let version = if self.is(Wrong::CopyKeepsVersion) { old.version } else { 1 };
        let copy = Envelope {
            cloned_from: Some(from.clone()),
            version,
            process: None,
            worked_on: false,
            created_at: self.now,
            updated_at: self.now,
            ..old
        };
        self.envelopes.insert(id.clone(), copy);
        self.note(Note::EnvelopeMade(id));
        Ok(())
    }

    /// When each is kept no longer (K360).
    pub(super) fn envelopes_kept_until(&self) -> Vec<(Time, EnvelopeId)> {
        let kept = self.config.retention.envelope_ms;
        let bound = |one: &Envelope| {
            let process = one.process.as_ref().and_then(|pid| self.processes.get(pid));
            process.is_some_and(|process| process.state != ProcessState::Zombie)
        };
        let free = self.envelopes.iter().filter(|(_, one)| !bound(one));
        let all = free.map(|(id, one)| (one.updated_at.plus(kept), id.clone()));
        let mut all: Vec<_> = all.collect();
        all.sort();
        all
    }

    /// K360, K361: oldest first.
    pub(super) fn forget_envelopes(&mut self) {
        let due = self.envelopes_kept_until().into_iter().filter(|(at, _)| *at <= self.now);
        let due: Vec<EnvelopeId> = due.map(|(_, id)| id).collect();
        if !due.is_empty() {
            self.envelopes.retain(|id, _| !due.contains(id));
            self.note(Note::EnvelopesGone(due));
        }
    }

    /// Takes the versions of envelopes that sessions have changed from the machine, where they have
    /// risen; says which have not.
    pub fn take_versions(&mut self, state: &State) -> Option<String> {
        let changed = self.envelopes.iter_mut().filter(|(_, one)| one.worked_on);
        let mut stayed = None;
        for (id, one) in changed {
            one.worked_on = false;
            match state.envelope(id).map(|real| real.version) {
                Some(real) if real > one.version => one.version = real,
                real => stayed = Some(format!("{id}: version {real:?} after {}", one.version)),
            }
        }
        stayed
    }

    /// Says in what the machine's envelopes differ; `ids` are all that there ever were.
    #[must_use]
    pub fn envelopes_differ(&self, state: &State, ids: &[EnvelopeId]) -> Option<String> {
        ids.iter().find_map(|id| match (self.envelopes.get(id), state.envelope(id)) {
            (None, None) => None,
            (Some(model), Some(real)) => {
                self.envelope_differs(model, real).map(|told| format!("{id}.{told}"))
            }
            (model, real) => {
                Some(format!("{id}: there {}, not {}", real.is_some(), model.is_some()))
            }
        })
    }

    fn envelope_differs(
        &self,
        model: &Envelope,
        real: &machines::kernel::envelopes::Content,
    ) -> Option<String> {
        let mut outputs: Vec<_> = real.outputs.iter().collect();
        outputs.sort_by_key(|(_, output)| output.number);
        let outputs: Vec<_> =
            outputs.into_iter().map(|(key, output)| (key.clone(), output.value.clone())).collect();
        let most = if self.is(Wrong::OneMoreKept) { KEPT + 1 } else { KEPT };
        let feedback = kept(&model.feedback, most);
        let errors = kept(&model.errors, most);
        let open: BTreeSet<&Arc<str>> = real.remaining_goals.iter().collect();
        let status = real
            .goal_status
            .iter()
            .all(|(goal, status)| (*status == GoalStatus::Pending) == open.contains(goal));
        let identity = (&real.user, &real.request, &real.session, &real.cloned_from);
        let times = (real.received_at, real.created_at, real.updated_at);
        let same = [
            ("identity", {
                identity == (&model.user, &model.request, &model.session, &model.cloned_from)
            }),
            ("times", times == (model.received_at, model.created_at, model.updated_at)),
            ("version", real.version == model.version),
            ("raw_input", *real.raw_input == *model.asked.raw_input),
            ("stage_order", real.stage_order == model.stage_order),
            ("outputs", outputs == model.outputs),
            ("metadata", real.metadata == model.metadata),
            ("active_stages", real.active_stages == model.active),
            ("completed_stages", real.completed_stages == model.completed),
            ("failed_stages", same_failed(&real.failed_stages, &model.failed)),
            ("ended", same_ending(real.ended.as_ref(), model.ended.as_ref())),
            ("all_goals", real.all_goals == model.goals),
            ("remaining_goals", real.remaining_goals == model.remaining()),
            ("goal_status", status && real.goal_status.len() == model.goals.len()),
            ("goal_stage_number", real.goal_stage_number == model.goal_stage_number),
            ("completed_goal_stages", real.completed_goal_stages == model.goal_stages),
            ("loop_feedback", real.loop_feedback.iter().eq(feedback.0)),
            ("dropped feedback", real.loop_feedback.dropped() == feedback.1),
            ("errors", real.errors.iter().map(plain).eq(errors.0.iter().map(plain))),
            ("dropped errors", real.errors.dropped() == errors.1),
        ];
        let history = real.history.iter().map(|record| {
            let counts = (record.visit, record.try_number);
            let (attempt, stage) = (record.attempt.clone(), record.stage.clone());
            (attempt, stage, counts, record.status, record.llm_calls)
        });
        let prior = real.prior_outputs.iter();
        let prior = prior.map(|prior| (prior.iteration, prior.outputs.clone()));
        let of_session = [
            ("process", real.process == model.process),
            ("state", real.state == model.state),
            ("current_stage", real.current_stage == model.current_stage),
            ("iteration", real.iteration == model.iteration),
            ("stage_visits", real.stage_visits == model.visits),
            ("history", history.eq(model.history.iter().cloned())),
            ("prior_outputs", prior.eq(model.prior.iter().cloned())),
            ("parallel_mode", real.parallel_mode == model.parallel),
        ];
        let wrong = same.into_iter().chain(of_session).find(|(_, same)| !same);
        wrong.map(|(what, _)| format!("{what}: {real:?}, not {model:?}"))
    }
}

/// An end; who ended a session says it in words that are not compared.
fn same_ending(real: Option<&Ending>, model: Option<&Ending>) -> bool {
    let plain = |end: &Ending| (end.reason, end.at);
    let said = model.is_some_and(|end| !end.message.is_empty());
    match said {
        true => real == model,
        false => real.map(plain) == model.map(plain),
    }
}

/// Failed stages; what a patch says of them is compared, too.
fn same_failed(
    real: &BTreeMap<StageName, Arc<str>>,
    model: &BTreeMap<StageName, Arc<str>>,
) -> bool {
    let same = |(stage, told): (&StageName, &Arc<str>)| {
        model.get(stage).is_some_and(|model| model.is_empty() || model == told)
    };
    real.len() == model.len() && real.iter().all(same)
}

/// An error without its words, if it is of an attempt.
fn plain(error: &RecordedError) -> RecordedError {
    let kept = error.error_kind.is_none();
    let text = if kept { Arc::clone(&error.error) } else { Arc::from("") };
    RecordedError { error: text, ..error.clone() }
}

/// The newest of a list, and how many others there were.
fn kept<T>(list: &[T], most: usize) -> (&[T], u64) {
    let dropped = list.len().saturating_sub(most);
    (&list[dropped..], dropped as u64)
}

fn no_envelope() -> EnvelopeId {
    EnvelopeId::parse("envelope", "nobody").expect("it is an id")
}
