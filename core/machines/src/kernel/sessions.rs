//! The orchestrator: sessions that steer processes through pipelines, stage by stage (section 8).
//!
//! ```text
//!              Due ◄──────────────────────────────┐ lost, superseded, asked; the wait is over
//!    issued     │                                  │
//!               ▼     success                      │
//!              Live ─────────────► Done ─► move on │
//!               │ failure                          │
//!               ├─────────────► Backoff ───────────┘
//!               └─────────────► Failed ─► error_next, or the end
//! ```
//!
//! A session is at one stage, its *position*, or in a *group* of stages that run side by side. What
//! there is to do at each of them is a [`Work`], which lives for one visit. Somebody who works on
//! it has an [`Attempt`].
//!
//! | part | does |
//! |---|---|
//! | [`state`] | what events change (K3) |
//! | [`instruction`], [`task`], [`view`] | what is told: views of the state (K240, K243) |
//! | `context` | the envelope in it (K243) |
//! | [`form`] | tasks and results as JSON, for the executor's dispatches (K290) |
//! | [`execute`] | makes a process that the node drives (K290) |
//! | `start`, `advance`, `issue` | begin, go from stage to stage, hand out attempts |
//! | `report`, `failure`, `lost` | take what came of an attempt |
//! | [`resume`] | asks people, and goes on with their answers |
//! | `group` | fork, join and merge (K273–K278) |

//!
//! # Where the rules leave room
//!
//! - A success without an output has made an empty object (K254, K255).
//! - A branch that was interrupted keeps what it made until the join, as any other (K252, K277).
//! - A branch that a bound stops waits as long as any other is live, whatever that one holds; one
//!   of the others may win the group (K275, K276).
//! - A worker that lets the process go while it has other branches to report keeps it (K251).
//! - Forced to the session that it just made, `InitializeSession` is a repeat (K230, K6).
//! - However a pipeline sets it, no decision takes more route-only steps than
//!   [`FlowLimits`](super::pipeline::limits::FlowLimits) has (K241).
//! - A context that is too large is not retried: the next try would be as large (K243).
//! - What comes into an envelope while a task is out does not take the task back, even if its
//!   context is too large then (K243).
//! - What a route asks, and cannot be asked as its output words it, ends the session SystemError:
//!   nobody is left to refuse it to (K265).
//! - A Router whose report ends the session names no target, since it leads nowhere (K254, K255).
//! - A branch's retry beside others is no deadline: nothing happens then until somebody polls
//!   (K269).

mod advance;
mod context;
pub mod event;
pub mod execute;
mod failure;
pub mod form;
mod group;
pub mod instruction;
pub(super) mod issue;
mod lost;
pub mod report;
pub mod resume;
mod shortage;
pub mod start;
pub mod state;
pub mod task;
pub mod view;

#[cfg(test)]
mod props;
#[cfg(test)]
pub(super) mod rig;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Deref;
use std::sync::Arc;

use super::envelopes::Envelope;
use super::ids::{
    AgentName, AttemptId, EnvelopeId, GroupId, InterruptId, OutputKey, ProcessId, StageName,
};
use super::json::Json;
use super::json::document::decode_with_json;
use super::names::TerminalReason;
use super::pipeline::kinds::{ErrorKind, JoinStrategy, RunMode};
use super::pipeline::{PipelineConfig, PipelineStage};
use super::principal::Holder;
use super::process::ContentHash;
use super::quota::{Amounts, Usage};
use super::state::State;
use super::time::Time;
use crate::codec::{Malformed, Reader, Wire};
use crate::{wire_enum, wire_struct};

/// A pipeline with its hash and its canonical form. Copies share all (K230).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pipeline(Arc<Flow>);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Flow {
    hash: [u8; 32],
    bytes: Vec<u8>,
    config: PipelineConfig,
}

impl Pipeline {
    /// Takes a pipeline.
    #[must_use]
    pub fn new(config: PipelineConfig) -> Self {
        let json = config.canonical();
        Self::written(config, &json)
    }

    /// Takes a pipeline with what it is written as.
    fn written(config: PipelineConfig, json: &Json) -> Self {
        Self(Arc::new(Flow { hash: json.blake3(), bytes: json.to_bytes(), config }))
    }

    /// Returns the config hash (K230).
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.0.hash
    }
}

impl Deref for Pipeline {
    type Target = PipelineConfig;

    fn deref(&self) -> &PipelineConfig {
        &self.0.config
    }
}

/// As the pipeline itself.
impl Wire for Pipeline {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.bytes);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        decode_with_json(reader, "a pipeline").map(|(config, json)| Self::written(config, &json))
    }
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Of what kind.
    pub kind: ErrorKind,
    /// In words.
    pub error: Arc<str>,
}

wire_struct!(Failure { kind, error });

/// How far the work on a stage is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Nobody works on it.
    Due,
    /// Somebody does.
    Live {
        /// Under this id.
        attempt: AttemptId,
    },
    /// It failed, and is tried again.
    Backoff {
        /// Not before.
        until: Time,
        /// In which run of the node this was decided.
        epoch: u64,
    },
    /// It is done.
    Done,
    /// It failed for good.
    Failed,
}

wire_enum!(Standing, "a standing of work" {
    Due = 1,
    Live { attempt } = 2,
    Backoff { until, epoch } = 3,
    Done = 4,
    Failed = 5,
});

/// What there is to do at a stage, in one visit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Work {
    /// The stage.
    pub stage: StageName,
    /// Which visit it is.
    pub visit: u64,
    /// Attempts so far.
    pub tries: u64,
    /// Failures so far (K269).
    pub failures: u32,
    /// Attempts lost so far (K272).
    pub lost: u64,
    /// How far it is.
    pub standing: Standing,
    /// What came of it, until it is saved: in a group, at the join (K277).
    pub output: Option<Json>,
    /// What went wrong last.
    pub failure: Option<Failure>,
    /// Whether somebody was asked for more budget for the next attempt (K118).
    pub asked: bool,
}

wire_struct!(Work { stage, visit, tries, failures, lost, standing, output, failure, asked });

impl Work {
    fn new(stage: StageName, visit: u64) -> Self {
        Self {
            stage,
            visit,
            tries: 0,
            failures: 0,
            lost: 0,
            standing: Standing::Due,
            output: None,
            failure: None,
            asked: false,
        }
    }

    /// Says whether somebody works on it.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(self.standing, Standing::Live { .. })
    }

    /// Says whether nothing more is to be done about it.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        matches!(self.standing, Standing::Done | Standing::Failed)
    }

    /// Says whether it can be handed out.
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        match self.standing {
            Standing::Due => true,
            Standing::Backoff { until, .. } => until <= now,
            Standing::Live { .. } | Standing::Done | Standing::Failed => false,
        }
    }

    /// Returns until when it waits for its next try.
    #[must_use]
    pub const fn waits_until(&self) -> Option<Time> {
        match self.standing {
            Standing::Backoff { until, .. } => Some(until),
            Standing::Due | Standing::Live { .. } | Standing::Done | Standing::Failed => None,
        }
    }
}

/// How a question to a person ended, for the next task (K163, K167).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unread {
    /// The question.
    pub interrupt: InterruptId,
    /// The stage that asked it.
    pub stage: Option<StageName>,
    /// The answer.
    pub response: Option<Json>,
    /// Whether nobody answered in time.
    pub expired: bool,
}

wire_struct!(Unread { interrupt, stage, response, expired });

/// Somebody works on a stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// On which.
    pub stage: StageName,
    /// As which agent.
    pub agent: AgentName,
    /// In which branch of a group, from 0.
    pub branch: Option<u32>,
    /// In which visit of the stage.
    pub visit: u64,
    /// In which try of the visit, from 1.
    pub try_number: u64,
    /// What is left of what it holds of the budget (K104, K267).
    pub hold: Amounts,
    /// What its reservations and records have charged (K251).
    pub charged: Amounts,
    /// When it has taken too long (K270).
    pub deadline: Option<Time>,
    /// Who works.
    pub holder: Holder,
    /// Where a Router may go (K262).
    pub targets: Vec<StageName>,
    /// How the question before it ended.
    pub answer: Option<Unread>,
}

wire_struct!(Attempt {
    stage,
    agent,
    branch,
    visit,
    try_number,
    hold,
    charged,
    deadline,
    holder,
    targets,
    answer,
});

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptEnd {
    /// It was reported.
    Reported {
        /// What was told, to know a repeat by.
        digest: ContentHash,
    },
    /// Its deadline passed (K270).
    TimedOut,
    /// Its worker went away (K272).
    Lost,
    /// Its result is not wanted any more (K272).
    Superseded,
}

wire_enum!(AttemptEnd, "an end of an attempt" {
    Reported { digest } = 1,
    TimedOut = 2,
    Lost = 3,
    Superseded = 4,
});

/// What is remembered of an attempt that is over (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClosedAttempt {
    /// Its id.
    pub attempt: AttemptId,
    /// As which agent it worked.
    pub agent: AgentName,
    /// Who worked.
    pub holder: Holder,
    /// How it ended.
    pub end: AttemptEnd,
}

wire_struct!(ClosedAttempt { attempt, agent, holder, end });

/// Stages that run side by side (K274, K278).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// When it joins.
    pub join: JoinStrategy,
}

wire_struct!(Group { id, join });

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionEnd {
    /// Why.
    pub reason: TerminalReason,
    /// In words.
    pub message: Arc<str>,
}

wire_struct!(SessionEnd { reason, message });

/// The orchestration of one process (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session {
    /// What it follows.
    pub pipeline: Pipeline,
    /// What it works on.
    pub envelope: EnvelopeId,
    /// Where it is: at the Fork, while a group of it is open.
    pub position: StageName,
    /// How often each stage was visited.
    pub visits: BTreeMap<StageName, u64>,
    /// How often each edge was taken.
    pub edges: BTreeMap<(StageName, StageName), u64>,
    /// How many back edges were.
    pub iteration: u64,
    /// What the process had used when it began (K100).
    pub base: Usage,
    /// What there is to do: at the position, or in the group by branch.
    pub works: Vec<Work>,
    /// The group that is open.
    pub group: Option<Group>,
    /// Stages that are done, in run mode Parallel (K278).
    pub done: BTreeSet<StageName>,
    /// Who works.
    pub attempts: BTreeMap<AttemptId, Attempt>,
    /// Those that are over, the newest last.
    pub closed: VecDeque<ClosedAttempt>,
    /// The newest answer of a person (K167).
    pub response: Option<Json>,
    /// What the next task is to be told of answers.
    pub unread: Vec<Unread>,
    /// How it ended.
    pub ended: Option<SessionEnd>,
    /// When it began.
    pub created_at: Time,
    /// When something happened in it last.
    pub last_activity_at: Time,
    /// Outputs that its envelope had saved when it began: they are not its own (K260).
    pub saves_before: u64,
}

wire_struct!(Session {
    pipeline,
    envelope,
    position,
    visits,
    edges,
    iteration,
    base,
    works,
    group,
    done,
    attempts,
    closed,
    response,
    unread,
    ended,
    created_at,
    last_activity_at,
    saves_before,
});

impl Session {
    /// Returns the newest output that was saved in it, `envelope` being the one that it works on
    /// (K260).
    #[must_use]
    pub fn newest_output<'a>(&self, envelope: &'a Envelope) -> Option<(&'a OutputKey, &'a Json)> {
        envelope.newest_output(self.saves_before)
    }

    /// Returns a stage.
    #[must_use]
    pub fn stage(&self, name: &StageName) -> Option<&PipelineStage> {
        self.pipeline.stage(name)
    }

    /// Returns the stage that it is at.
    #[must_use]
    pub fn here(&self) -> Option<&PipelineStage> {
        self.stage(&self.position)
    }

    /// Returns the work on a stage.
    #[must_use]
    pub fn work(&self, stage: &StageName) -> Option<&Work> {
        self.works.iter().find(|work| work.stage == *stage)
    }

    /// Says whether stages run by their dependencies (K278).
    #[must_use]
    pub fn is_parallel(&self) -> bool {
        self.pipeline.run_mode == RunMode::Parallel
    }

    /// Finds an attempt that is over.
    #[must_use]
    pub fn closed_attempt(&self, id: &AttemptId) -> Option<&ClosedAttempt> {
        self.closed.iter().rev().find(|closed| closed.attempt == *id)
    }

    /// Returns how often a stage was visited.
    #[must_use]
    pub fn visits_of(&self, stage: &StageName) -> u64 {
        self.visits.get(stage).copied().unwrap_or(0)
    }

    /// Returns how often an edge was taken.
    #[must_use]
    pub fn edge(&self, from: &StageName, to: &StageName) -> u64 {
        self.edges.get(&(from.clone(), to.clone())).copied().unwrap_or(0)
    }
}

impl State {
    /// Returns the session of a process, ended or not.
    #[must_use]
    pub fn session(&self, pid: &ProcessId) -> Option<&Session> {
        self.sessions.get(pid)
    }

    /// Returns the session of a process if it has not ended.
    #[must_use]
    pub fn running_session(&self, pid: &ProcessId) -> Option<&Session> {
        self.session(pid).filter(|session| session.ended.is_none())
    }

    /// Says whether somebody works for a process (K78).
    #[must_use]
    pub fn has_live_attempt(&self, pid: &ProcessId) -> bool {
        self.session(pid).is_some_and(|session| !session.attempts.is_empty())
    }
}
