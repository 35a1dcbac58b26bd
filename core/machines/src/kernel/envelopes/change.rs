//! How an envelope changes: each change costs what it changes, and keeps the size up (K25, K31).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::newest::Newest;
use super::{
    Content, Ending, Envelope, EnvelopePatch, GoalStage, GoalStatus, GoalsAdvance, Output,
    PriorOutputs, ProcessingRecord, RecordStatus, RecordedError,
};
use crate::codec::Wire;
use crate::kernel::ids::{AttemptId, EnvelopeId, OutputKey, ProcessId, StageName};
use crate::kernel::json::Json;
use crate::kernel::names::TerminalReason;
use crate::kernel::quota::Limit;
use crate::kernel::time::Time;

/// Counts the canonical bytes of something by writing them.
pub(super) fn bytes_of<T: Wire>(value: &T) -> u64 {
    let mut bytes = Vec::with_capacity(256); // Most values fit without growing.
    value.encode(&mut bytes);
    bytes.len() as u64
}

/// Counts the canonical bytes of a payload, which knows its length.
fn payload_bytes(value: &Json) -> u64 {
    4 + value.length() as u64
}

/// Counts those of an output under its key.
fn output_bytes(key: &OutputKey, value: &Json) -> u64 {
    2 + key.as_str().len() as u64 + payload_bytes(value) + 8
}

/// Counts those of a payload under a key.
fn entry_bytes(key: &str, value: &Json) -> u64 {
    4 + key.len() as u64 + payload_bytes(value)
}

/// How an attempt ended, for its record in the history (K251).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Completion {
    /// What became of it.
    pub status: RecordStatus,
    /// What went wrong.
    pub error: Option<Arc<str>>,
    /// Calls of models that it made.
    pub llm_calls: u64,
}

/// What an envelope shows of its session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// The order of the stages.
    pub stage_order: Vec<StageName>,
    /// How many back edges may be taken.
    pub max_iterations: Limit,
    /// Whether stages run side by side.
    pub parallel_mode: bool,
}

impl Envelope {
    /// Puts a value in the place of another.
    fn put<T: Wire>(&mut self, place: impl FnOnce(&mut Content) -> &mut T, value: T) {
        let slot = place(&mut self.content);
        let (before, after) = (bytes_of(slot), bytes_of(&value));
        *slot = value;
        self.bytes = self.bytes - before + after;
    }

    /// Adds to a list of newest entries.
    fn push<T: Wire>(
        &mut self,
        list: impl FnOnce(&mut Content) -> &mut Newest<T>,
        (item, bytes): (T, u64),
        count: impl FnOnce(&T) -> u64,
    ) {
        let dropped = list(&mut self.content).push(item);
        self.bytes = self.bytes + bytes - dropped.as_ref().map_or(0, count);
    }

    /// Notes that it was changed; every event that changes it does so once (2.4).
    pub(in crate::kernel) fn touch(&mut self, now: Time) {
        self.content.version += 1;
        self.content.updated_at = now;
    }

    /// Sets which process's session it serves.
    pub(super) fn bind(&mut self, pid: Option<ProcessId>) {
        self.put(|content| &mut content.process, pid);
    }

    /// Makes the copy of it that `CloneEnvelope` asks for (K34).
    pub(super) fn copy_of(&self, from: &EnvelopeId, now: Time) -> Self {
        let mut copy = self.clone();
        copy.put(|content| &mut content.cloned_from, Some(from.clone()));
        copy.bind(None);
        copy.content.version = 1;
        copy.content.created_at = now;
        copy.content.updated_at = now;
        copy
    }

    /// Returns by how many bytes an output would make it grow, less than 0 if it would shrink.
    #[must_use]
    pub fn growth_by_output(&self, key: &OutputKey, value: &Json) -> i64 {
        let there = self.outputs.get(key).map_or(0, |there| output_bytes(key, &there.value));
        difference(output_bytes(key, value), there)
    }

    /// Returns by how many bytes a key of the state would make it grow.
    #[must_use]
    pub fn growth_by_state(&self, key: &str, value: &Json) -> i64 {
        let there = self.state.get(key).map_or(0, |there| entry_bytes(key, there));
        difference(entry_bytes(key, value), there)
    }

    /// Saves an output, the newest from now on (K255).
    pub fn save_output(&mut self, key: &OutputKey, value: &Json) {
        self.delete_output(key);
        self.content.saves += 1;
        let output = Output { value: value.clone(), number: self.content.saves };
        self.bytes += output_bytes(key, value);
        self.content.outputs.insert(key.clone(), output);
    }

    /// Deletes an output.
    pub fn delete_output(&mut self, key: &OutputKey) {
        if let Some(there) = self.content.outputs.remove(key) {
            self.bytes -= output_bytes(key, &there.value);
        }
    }

    /// Sets keys of the state, as [`state_changes`](crate::kernel::merge::state_changes) found
    /// them (K281).
    pub fn merge_state(&mut self, changes: &[(Arc<str>, Json)]) {
        for (key, value) in changes {
            let before = self.content.state.insert(Arc::clone(key), value.clone());
            self.bytes += entry_bytes(key, value);
            self.bytes -= before.map_or(0, |before| entry_bytes(key, &before));
        }
    }

    /// A stage is worked on: it is neither done nor failed any more.
    pub fn start_stage(&mut self, stage: &StageName) {
        self.leave_sets(stage);
        if self.content.active_stages.insert(stage.clone()) {
            self.bytes += bytes_of(stage);
        }
    }

    /// A stage is done.
    pub fn complete_stage(&mut self, stage: &StageName) {
        self.leave_sets(stage);
        if self.content.completed_stages.insert(stage.clone()) {
            self.bytes += bytes_of(stage);
        }
    }

    /// A stage failed for good.
    pub fn fail_stage(&mut self, stage: &StageName, error: &Arc<str>) {
        self.leave_sets(stage);
        self.bytes += bytes_of(stage) + bytes_of(error);
        self.content.failed_stages.insert(stage.clone(), Arc::clone(error));
    }

    /// A stage is not worked on any more, and nothing came of it.
    pub fn stop_stage(&mut self, stage: &StageName) {
        if self.content.active_stages.remove(stage) {
            self.bytes -= bytes_of(stage);
        }
    }

    /// A stage is in one of the three sets at most.
    fn leave_sets(&mut self, stage: &StageName) {
        self.stop_stage(stage);
        if self.content.completed_stages.remove(stage) {
            self.bytes -= bytes_of(stage);
        }
        if let Some(error) = self.content.failed_stages.remove(stage) {
            self.bytes -= bytes_of(stage) + bytes_of(&error);
        }
    }

    /// Adds an attempt to the history.
    pub fn push_history(&mut self, record: ProcessingRecord) {
        let bytes = bytes_of(&record);
        self.push(|content| &mut content.history, (record, bytes), bytes_of);
    }

    /// Says in the history how an attempt ended, if it is still told there.
    pub fn complete_history(&mut self, now: Time, attempt: &AttemptId, completion: Completion) {
        let meant = |record: &ProcessingRecord| record.attempt == *attempt;
        let Some(record) = self.content.history.newest_mut(meant) else {
            return;
        };
        let before = bytes_of(record);
        record.completed_at = Some(now);
        record.duration_ms = now.since(record.started_at);
        record.status = completion.status;
        record.error = completion.error;
        record.llm_calls = completion.llm_calls;
        self.bytes = self.bytes - before + bytes_of(record);
    }

    /// Adds an error.
    pub fn push_error(&mut self, error: RecordedError) {
        let bytes = bytes_of(&error);
        self.push(|content| &mut content.errors, (error, bytes), bytes_of);
    }

    /// Adds what the next round shall know (K251).
    pub fn push_feedback(&mut self, feedback: &Arc<str>) {
        let bytes = bytes_of(feedback);
        self.push(|content| &mut content.loop_feedback, (Arc::clone(feedback), bytes), bytes_of);
    }

    /// Puts outputs away when a back edge is taken; nothing if there is none of them (K265).
    pub fn put_away(&mut self, keys: &[OutputKey], iteration: u64) {
        let mut outputs = BTreeMap::new();
        for key in keys {
            if let Some(there) = self.content.outputs.remove(key) {
                self.bytes -= output_bytes(key, &there.value);
                outputs.insert(key.clone(), there.value);
            }
        }
        if !outputs.is_empty() {
            let prior = PriorOutputs { iteration, outputs };
            let bytes = prior_bytes(&prior);
            self.push(|content| &mut content.prior_outputs, (prior, bytes), prior_bytes);
        }
    }

    /// Shows a session that begins: nothing of an earlier one is left but what it made.
    pub fn begin(&mut self, progress: Progress) {
        self.put(|content| &mut content.stage_order, progress.stage_order);
        self.put(|content| &mut content.stage_visits, BTreeMap::new());
        self.put(|content| &mut content.active_stages, BTreeSet::new());
        self.put(|content| &mut content.completed_stages, BTreeSet::new());
        self.put(|content| &mut content.failed_stages, BTreeMap::new());
        self.put(|content| &mut content.ended, None);
        self.content.max_iterations = progress.max_iterations;
        self.content.parallel_mode = progress.parallel_mode;
        self.content.iteration = 0;
    }

    /// Shows where the session is.
    pub fn set_stage(&mut self, stage: Option<StageName>) {
        self.put(|content| &mut content.current_stage, stage);
    }

    /// Shows how often a stage was visited.
    pub fn set_visits(&mut self, stage: &StageName, visits: u64) {
        if self.content.stage_visits.insert(stage.clone(), visits).is_none() {
            self.bytes += bytes_of(stage) + 8;
        }
    }

    /// Shows how many back edges were taken.
    pub const fn set_iteration(&mut self, iteration: u64) {
        self.content.iteration = iteration;
    }

    /// The work is over; what is over already stays as it ended.
    pub fn end(&mut self, now: Time, reason: TerminalReason, message: &Arc<str>) {
        if self.ended.is_none() {
            let ending = Ending { reason, message: Arc::clone(message), at: now };
            self.put(|content| &mut content.ended, Some(ending));
        }
    }

    /// Changes what a caller's patch says; returns whether a next goal stage began (K33).
    pub(super) fn patch(&mut self, now: Time, patch: &EnvelopePatch) -> bool {
        for (key, value) in &patch.outputs {
            match value.is_null() {
                true => self.delete_output(key),
                false => self.save_output(key, value),
            }
        }
        patch.metadata.iter().for_each(|(key, value)| self.set_metadata(key, value));
        patch.start_stages.iter().for_each(|stage| self.start_stage(stage));
        patch.complete_stages.iter().for_each(|stage| self.complete_stage(stage));
        patch.fail_stages.iter().for_each(|(stage, error)| self.fail_stage(stage, error));
        if !patch.goals_init.is_empty() {
            self.set_goals(&patch.goals_init);
        }
        let advance = patch.goals_advance.as_ref();
        let advanced = advance.is_some_and(|advance| self.advance_goals(advance));
        patch.add_feedback.iter().for_each(|feedback| self.push_feedback(feedback));
        if let Some(told) = &patch.add_error {
            let (agent, stage) = (told.agent.clone(), told.stage.clone());
            let error = Arc::clone(&told.error);
            self.push_error(RecordedError { agent, stage, error, error_kind: None, at: now });
        }
        if let Some(end) = &patch.terminate {
            self.end(now, end.reason, &end.message);
        }
        advanced
    }

    /// Sets a key of the metadata; `null` deletes.
    fn set_metadata(&mut self, key: &Arc<str>, value: &Json) {
        if let Some(there) = self.content.metadata.remove(key) {
            self.bytes -= entry_bytes(key, &there);
        }
        if !value.is_null() {
            self.bytes += entry_bytes(key, value);
            self.content.metadata.insert(Arc::clone(key), value.clone());
        }
    }

    fn set_goals(&mut self, goals: &[Arc<str>]) {
        let status = goals.iter().map(|goal| (Arc::clone(goal), GoalStatus::Pending)).collect();
        self.put(|content| &mut content.all_goals, goals.to_vec());
        self.put(|content| &mut content.remaining_goals, goals.to_vec());
        self.put(|content| &mut content.goal_status, status);
    }

    fn advance_goals(&mut self, advance: &GoalsAdvance) -> bool {
        for goal in &advance.satisfied {
            if let Some(status) = self.content.goal_status.get_mut(goal) {
                *status = GoalStatus::Satisfied;
            }
        }
        let status = &self.content.goal_status;
        let open = |goal: &&Arc<str>| status.get(*goal) == Some(&GoalStatus::Pending);
        let remaining = self.content.all_goals.iter().filter(open).cloned().collect();
        self.put(|content| &mut content.remaining_goals, remaining);
        let stage = GoalStage {
            number: self.content.goal_stage_number,
            satisfied: advance.satisfied.clone(),
            summary: Arc::clone(&advance.summary),
            plan: advance.plan.clone(),
        };
        self.bytes += bytes_of(&stage);
        self.content.completed_goal_stages.push(stage);
        let more = !self.content.remaining_goals.is_empty()
            && self.content.goal_stage_number < self.content.max_goal_stages;
        if more {
            self.content.goal_stage_number += 1;
            advance.reset_outputs.iter().for_each(|key| self.delete_output(key));
        }
        more
    }
}

fn prior_bytes(prior: &PriorOutputs) -> u64 {
    let outputs = prior.outputs.iter().map(|(key, value)| output_bytes(key, value) - 8);
    8 + 4 + outputs.sum::<u64>()
}

fn difference(after: u64, before: u64) -> i64 {
    let signed = |bytes: u64| i64::try_from(bytes).expect("an envelope is far below 2^63 bytes");
    signed(after) - signed(before)
}
