//! Envelopes: what a pipeline works on, and what came of it (2.4, K30–K35).
//!
//! ```text
//!   create, clone ─► free ──── a session starts ────► bound to a process
//!                     ▲ │                               │          │
//!                     │ └ an hour unchanged ─► removed ◄┘ Zombie   │
//!                     └──────── the session is replaced ───────────┘
//! ```
//!
//! A row is changed by its methods only ([`change`]): they keep its size up, so that the limit on
//! it costs as much as the change and not as much as the envelope. What an envelope shows of
//! budgets and interrupts is not in the row: it is a view of the ledger (K100) and of the process.

pub mod change;
pub mod command;
pub mod index;
pub mod newest;
#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::Arc;

use self::newest::Newest;
use super::ids::{
    AgentName, AttemptId, EnvelopeId, OutputKey, ProcessId, RequestId, SessionId, StageName, UserId,
};
use super::json::Json;
use super::names::TerminalReason;
use super::numbered::numbered;
use super::pipeline::kinds::ErrorKind;
use super::process::{ContentHash, Metadata};
use super::quota::Limit;
use super::time::{Millis, Time};
use crate::codec::{Malformed, Reader, Wire};
use crate::{wire_enum, wire_struct};

numbered! {
    /// What became of a goal (2.2).
    GoalStatus "a goal status" {
        /// Not reached.
        Pending = 1 "pending",
        /// Reached.
        Satisfied = 2 "satisfied",
    }

    /// What became of an attempt, as the history tells it (2.4).
    RecordStatus "a record status" {
        /// It is worked on.
        Running = 1 "running",
        /// It was done.
        Success = 2 "success",
        /// It failed.
        Error = 3 "error",
        /// It asked a person.
        Interrupted = 4 "interrupted",
        /// Its result is not wanted any more.
        Superseded = 5 "superseded",
    }
}

/// An output, and its place in the order of saving (K243).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Output {
    /// A JSON object.
    pub value: Json,
    /// Counts what was saved in this envelope.
    pub number: u64,
}

wire_struct!(Output { value, number });

/// One attempt at a stage, as the history tells it (2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProcessingRecord {
    /// Who worked.
    pub agent: AgentName,
    /// On what.
    pub stage: StageName,
    /// In which visit of the stage.
    pub visit: u64,
    /// In which try of the visit.
    pub try_number: u64,
    /// Its id.
    pub attempt: AttemptId,
    /// Since when.
    pub started_at: Time,
    /// Until when.
    pub completed_at: Option<Time>,
    /// How long it took.
    pub duration_ms: Millis,
    /// What became of it.
    pub status: RecordStatus,
    /// What went wrong.
    pub error: Option<Arc<str>>,
    /// Calls of models that it made.
    pub llm_calls: u64,
}

wire_struct!(ProcessingRecord {
    agent,
    stage,
    visit,
    try_number,
    attempt,
    started_at,
    completed_at,
    duration_ms,
    status,
    error,
    llm_calls,
});

/// An error that is kept for the record (2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordedError {
    /// Of which agent.
    pub agent: Option<AgentName>,
    /// At which stage.
    pub stage: Option<StageName>,
    /// In words.
    pub error: Arc<str>,
    /// Of what kind.
    pub error_kind: Option<ErrorKind>,
    /// When.
    pub at: Time,
}

wire_struct!(RecordedError { agent, stage, error, error_kind, at });

/// Outputs that a loop put away (K265).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PriorOutputs {
    /// In which iteration they were made.
    pub iteration: u64,
    /// The outputs.
    pub outputs: BTreeMap<OutputKey, Json>,
}

wire_struct!(PriorOutputs { iteration, outputs });

/// A goal stage that is over (K33).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GoalStage {
    /// Its number, from 1.
    pub number: u64,
    /// What it reached.
    pub satisfied: Vec<Arc<str>>,
    /// In words.
    pub summary: Arc<str>,
    /// The plan that it followed.
    pub plan: Option<Arc<str>>,
}

wire_struct!(GoalStage { number, satisfied, summary, plan });

/// How the work on an envelope ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ending {
    /// Why.
    pub reason: TerminalReason,
    /// In words.
    pub message: Arc<str>,
    /// When.
    pub at: Time,
}

wire_struct!(Ending { reason, message, at });

/// Goal stages unless told otherwise (2.4).
pub const GOAL_STAGES_MAX: u64 = 5;

/// Iterations of a pipeline unless told otherwise (2.5).
const ITERATIONS_MAX: Limit = Limit::at_most(3);

/// What an envelope holds (2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    /// The caller's request.
    pub request: RequestId,
    /// Whose it is.
    pub user: UserId,
    /// The caller's conversation.
    pub session: SessionId,
    /// Of which it was made as a copy.
    pub cloned_from: Option<EnvelopeId>,
    /// Counts its changes, from 1.
    pub version: u64,
    /// Of what was asked for, to know a repeat by (K448).
    pub digest: ContentHash,
    /// Which process's session it serves, or served last.
    pub process: Option<ProcessId>,
    /// What came in.
    pub raw_input: Arc<str>,
    /// When.
    pub received_at: Time,
    /// What stages made.
    pub outputs: BTreeMap<OutputKey, Output>,
    /// What was merged from it (K281).
    pub state: BTreeMap<Arc<str>, Json>,
    /// The stage that is worked on.
    pub current_stage: Option<StageName>,
    /// The order of the stages.
    pub stage_order: Vec<StageName>,
    /// Back edges taken.
    pub iteration: u64,
    /// How many may be.
    pub max_iterations: Limit,
    /// How often each stage was visited.
    pub stage_visits: BTreeMap<StageName, u64>,
    /// Stages that are worked on.
    pub active_stages: BTreeSet<StageName>,
    /// Stages that are done.
    pub completed_stages: BTreeSet<StageName>,
    /// Stages that failed for good, and why.
    pub failed_stages: BTreeMap<StageName, Arc<str>>,
    /// Whether stages run side by side.
    pub parallel_mode: bool,
    /// How the work ended, once it has.
    pub ended: Option<Ending>,
    /// What is to be reached.
    pub all_goals: Vec<Arc<str>>,
    /// What of it was not yet.
    pub remaining_goals: Vec<Arc<str>>,
    /// The same by goal.
    pub goal_status: BTreeMap<Arc<str>, GoalStatus>,
    /// The goal stage that is worked on, from 1.
    pub goal_stage_number: u64,
    /// How many there may be.
    pub max_goal_stages: u64,
    /// Those that are over.
    pub completed_goal_stages: Vec<GoalStage>,
    /// What loops put away.
    pub prior_outputs: Newest<PriorOutputs>,
    /// What reports said for the next round.
    pub loop_feedback: Newest<Arc<str>>,
    /// The attempts.
    pub history: Newest<ProcessingRecord>,
    /// The errors.
    pub errors: Newest<RecordedError>,
    /// Outputs ever saved.
    pub saves: u64,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed last.
    pub updated_at: Time,
    /// What the caller keeps with it.
    pub metadata: Metadata,
}

wire_struct!(Content {
    request,
    user,
    session,
    cloned_from,
    version,
    digest,
    process,
    raw_input,
    received_at,
    outputs,
    state,
    current_stage,
    stage_order,
    iteration,
    max_iterations,
    stage_visits,
    active_stages,
    completed_stages,
    failed_stages,
    parallel_mode,
    ended,
    all_goals,
    remaining_goals,
    goal_status,
    goal_stage_number,
    max_goal_stages,
    completed_goal_stages,
    prior_outputs,
    loop_feedback,
    history,
    errors,
    saves,
    created_at,
    updated_at,
    metadata,
});

impl Content {
    /// What is in a new envelope beside what came in.
    fn new((request, user, session): (RequestId, UserId, SessionId), now: Time) -> Self {
        Self {
            request,
            user,
            session,
            cloned_from: None,
            version: 1,
            digest: [0; 16],
            process: None,
            raw_input: Arc::from(""),
            received_at: now,
            outputs: BTreeMap::new(),
            state: BTreeMap::new(),
            current_stage: None,
            stage_order: Vec::new(),
            iteration: 0,
            max_iterations: ITERATIONS_MAX,
            stage_visits: BTreeMap::new(),
            active_stages: BTreeSet::new(),
            completed_stages: BTreeSet::new(),
            failed_stages: BTreeMap::new(),
            parallel_mode: false,
            ended: None,
            all_goals: Vec::new(),
            remaining_goals: Vec::new(),
            goal_status: BTreeMap::new(),
            goal_stage_number: 1,
            max_goal_stages: GOAL_STAGES_MAX,
            completed_goal_stages: Vec::new(),
            prior_outputs: Newest::new(),
            loop_feedback: Newest::new(),
            history: Newest::new(),
            errors: Newest::new(),
            saves: 0,
            created_at: now,
            updated_at: now,
            metadata: Metadata::new(),
        }
    }

    /// Returns the output that was saved last, if more than `before` had been by then (K260).
    #[must_use]
    pub fn newest_output(&self, before: u64) -> Option<(&OutputKey, &Json)> {
        let newest = self.outputs.iter().max_by_key(|(_, output)| output.number);
        newest
            .filter(|(_, output)| output.number > before)
            .map(|(key, output)| (key, &output.value))
    }
}

/// A row of the table of envelopes: its content, and how many canonical bytes that is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    content: Content,
    bytes: u64,
}

impl Envelope {
    /// Returns what may be shown of it without what it carries (K333).
    #[must_use]
    pub(super) fn without_payload(&self) -> Self {
        let Content { request, user, session, .. } = &self.content;
        let bare = Content::new((request.clone(), user.clone(), session.clone()), self.created_at);
        Self::of(Content {
            cloned_from: self.cloned_from.clone(),
            version: self.version,
            digest: self.digest,
            process: self.process.clone(),
            ..bare
        })
    }

    fn of(content: Content) -> Self {
        let bytes = change::bytes_of(&content);
        Self { content, bytes }
    }

    /// Returns how many canonical bytes it has (K25): those of its row.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Deref for Envelope {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

/// The content; its size is found again.
impl Wire for Envelope {
    fn encode(&self, out: &mut Vec<u8>) {
        self.content.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Content::decode(reader).map(Self::of)
    }
}

/// What is to change in an envelope (K31). What is empty stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EnvelopePatch {
    /// Sets outputs; `null` deletes.
    pub outputs: BTreeMap<OutputKey, Json>,
    /// Sets metadata; `null` deletes.
    pub metadata: Metadata,
    /// These stages are worked on.
    pub start_stages: BTreeSet<StageName>,
    /// These are done.
    pub complete_stages: BTreeSet<StageName>,
    /// These failed.
    pub fail_stages: BTreeMap<StageName, Arc<str>>,
    /// Sets all goals, none of them reached (K33).
    pub goals_init: Vec<Arc<str>>,
    /// A goal stage is over.
    pub goals_advance: Option<GoalsAdvance>,
    /// For the next round.
    pub add_feedback: Vec<Arc<str>>,
    /// For the record.
    pub add_error: Option<NewError>,
    /// The work is over.
    pub terminate: Option<Termination>,
}

wire_struct!(EnvelopePatch {
    outputs,
    metadata,
    start_stages,
    complete_stages,
    fail_stages,
    goals_init,
    goals_advance,
    add_feedback,
    add_error,
    terminate,
});

/// The end of a goal stage (K33).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GoalsAdvance {
    /// Goals that it reached.
    pub satisfied: Vec<Arc<str>>,
    /// In words.
    pub summary: Arc<str>,
    /// The plan that it followed.
    pub plan: Option<Arc<str>>,
    /// Outputs that the next goal stage begins without.
    pub reset_outputs: Vec<OutputKey>,
}

wire_struct!(GoalsAdvance { satisfied, summary, plan, reset_outputs });

/// An error that a caller tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NewError {
    /// Of which agent.
    pub agent: Option<AgentName>,
    /// At which stage.
    pub stage: Option<StageName>,
    /// In words.
    pub error: Arc<str>,
}

wire_struct!(NewError { agent, stage, error });

/// The end of the work, as a caller tells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Termination {
    /// Why.
    pub reason: TerminalReason,
    /// In words.
    pub message: Arc<str>,
}

wire_struct!(Termination { reason, message });

/// What happened to envelopes (section 10).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EnvelopeEvent {
    /// It was made.
    Created {
        /// Its id.
        id: EnvelopeId,
        /// What is in it.
        envelope: Box<Envelope>,
    },
    /// A caller changed it.
    Updated {
        /// Which.
        id: EnvelopeId,
        /// What changed.
        patch: Box<EnvelopePatch>,
        /// Of the envelope from now on.
        version: u64,
        /// Whether a next goal stage began (K33).
        advanced: bool,
    },
    /// A copy was made (K34).
    Cloned {
        /// Its id.
        id: EnvelopeId,
        /// Of what.
        from: EnvelopeId,
    },
    /// They are kept no longer.
    Removed {
        /// Which.
        ids: Vec<EnvelopeId>,
    },
}

wire_enum!(EnvelopeEvent, "an event of an envelope" {
    Created { id, envelope } = 1,
    Updated { id, patch, version, advanced } = 2,
    Cloned { id, from } = 3,
    Removed { ids } = 4,
});

impl EnvelopeEvent {
    /// Returns the kind, as readers of the stream pick it (section 10).
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Created { .. } => "envelope.created",
            Self::Updated { .. } => "envelope.updated",
            Self::Cloned { .. } => "envelope.cloned",
            Self::Removed { .. } => "envelope.removed",
        }
    }
}
