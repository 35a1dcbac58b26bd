//! Sessions as callers see them (2.5: SessionState).

use std::collections::BTreeMap;

use super::{Attempt, Group, Pipeline, SessionEnd};
use crate::kernel::ids::{AttemptId, EnvelopeId, ProcessId, StageName};
use crate::kernel::state::State;
use crate::kernel::time::Time;

/// A session, ended or not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionState {
    /// Of which process.
    pub pid: ProcessId,
    /// What it follows.
    pub pipeline: Pipeline,
    /// What it works on.
    pub envelope: EnvelopeId,
    /// Where it is.
    pub position: StageName,
    /// The order of the stages.
    pub stage_order: Vec<StageName>,
    /// How often each edge was taken.
    pub edges: BTreeMap<(StageName, StageName), u64>,
    /// How often each stage was visited.
    pub visits: BTreeMap<StageName, u64>,
    /// How many back edges were taken.
    pub iteration: u64,
    /// Who works.
    pub live: BTreeMap<AttemptId, Attempt>,
    /// The group that is open.
    pub group: Option<Group>,
    /// How it ended.
    pub ended: Option<SessionEnd>,
    /// When something happened in it last.
    pub last_activity_at: Time,
}

impl State {
    /// Shows the session of a process.
    #[must_use]
    pub fn session_state(&self, pid: &ProcessId) -> Option<SessionState> {
        let session = self.session(pid)?;
        let stages = session.pipeline.stages.iter();
        Some(SessionState {
            pid: pid.clone(),
            pipeline: session.pipeline.clone(),
            envelope: session.envelope.clone(),
            position: session.position.clone(),
            stage_order: stages.map(|stage| stage.name.clone()).collect(),
            edges: session.edges.clone(),
            visits: session.visits.clone(),
            iteration: session.iteration,
            live: session.attempts.clone(),
            group: session.group.clone(),
            ended: session.ended.clone(),
            last_activity_at: session.last_activity_at,
        })
    }
}
