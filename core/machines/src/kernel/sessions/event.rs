//! What happens in sessions (section 10).

use std::sync::Arc;

use super::report::Metrics;
use super::{AttemptEnd, Failure, Pipeline};
use crate::kernel::ids::{AttemptId, EnvelopeId, GroupId, OutputKey, StageName};
use crate::kernel::json::Json;
use crate::kernel::names::TerminalReason;
use crate::kernel::pipeline::kinds::{JoinStrategy, Via};
use crate::kernel::principal::Holder;
use crate::kernel::process::ContentHash;
use crate::kernel::quota::Amounts;
use crate::kernel::time::Time;
use crate::{wire_enum, wire_struct};

/// An attempt that is handed out (K267).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Issued {
    /// Its id.
    pub attempt: AttemptId,
    /// At which stage.
    pub stage: StageName,
    /// In which visit of the stage.
    pub visit: u64,
    /// In which try of the visit.
    pub try_number: u64,
    /// In which branch of the group.
    pub branch: Option<u32>,
    /// What it holds of the budget.
    pub hold: Amounts,
    /// Whether it costs a hop: the first of a visit does.
    pub hop: bool,
    /// When it has taken too long.
    pub deadline: Option<Time>,
    /// Who works.
    pub holder: Holder,
    /// Where a Router may go.
    pub targets: Vec<StageName>,
}

wire_struct!(Issued {
    attempt,
    stage,
    visit,
    try_number,
    branch,
    hold,
    hop,
    deadline,
    holder,
    targets,
});

/// What came of an attempt (K251).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reported {
    /// Which.
    pub attempt: AttemptId,
    /// What was made.
    pub output: Option<Json>,
    /// What went wrong, be it by the report itself or by its checks (K253, K254).
    pub failure: Option<Failure>,
    /// Whether a person is asked (K252).
    pub interrupted: bool,
    /// What it took.
    pub metrics: Metrics,
    /// What of it was not charged yet.
    pub charged: Amounts,
    /// What of that nothing was held for.
    pub unreserved: Amounts,
    /// For the next round.
    pub feedback: Option<Arc<str>>,
    /// Of all that was told.
    pub digest: ContentHash,
}

wire_struct!(Reported {
    attempt,
    output,
    failure,
    interrupted,
    metrics,
    charged,
    unreserved,
    feedback,
    digest,
});

/// Of the session of the process that is the subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SessionEvent {
    /// It begins.
    Started {
        /// What it follows.
        pipeline: Pipeline,
        /// The same, as its hash.
        config_hash: [u8; 32],
        /// What it works on.
        envelope: EnvelopeId,
        /// At which stage.
        entry: StageName,
        /// Whether it takes the place of another that had not ended.
        forced: bool,
    },
    /// It is over.
    Ended {
        /// Why.
        reason: TerminalReason,
        /// In words.
        message: Arc<str>,
    },
    /// It is kept no longer.
    Removed,
    /// It went to a stage, or opened a branch there.
    Moved {
        /// From where; from nowhere when it begins.
        from: Option<StageName>,
        /// To where.
        to: StageName,
        /// Why.
        via: Via,
        /// Which visit of the stage it is.
        visit: u64,
        /// Back edges taken, this one included.
        iteration: u64,
        /// Whether it is one.
        back: bool,
    },
    /// Somebody begins to work.
    AttemptIssued {
        /// The attempt.
        issued: Box<Issued>,
    },
    /// Somebody told what came of it.
    AttemptReported {
        /// What.
        reported: Box<Reported>,
    },
    /// Nobody will.
    AttemptClosed {
        /// Of which attempt.
        attempt: AttemptId,
        /// Why.
        cause: AttemptEnd,
        /// What was charged: all that it still held.
        charged: Amounts,
    },
    /// A stage is done: its output is saved.
    StageCompleted {
        /// Which.
        stage: StageName,
        /// Under which key.
        output_key: OutputKey,
        /// What changes in the state (K281).
        changes: Vec<(Arc<str>, Json)>,
    },
    /// A stage failed for good.
    StageFailed {
        /// Which.
        stage: StageName,
        /// Of what.
        failure: Failure,
    },
    /// Stages run side by side.
    GroupOpened {
        /// The group.
        group: GroupId,
        /// The stages, by branch.
        branches: Vec<StageName>,
        /// When they join.
        join: JoinStrategy,
    },
    /// They have joined, or were given up.
    GroupJoined {
        /// The group.
        group: GroupId,
        /// The branch that was first, where that counts.
        winner: Option<StageName>,
        /// Those whose outputs were merged, in order.
        merged: Vec<StageName>,
    },
    /// A stage failed and is tried again.
    RetryScheduled {
        /// Which.
        stage: StageName,
        /// The number of the next try.
        try_number: u64,
        /// When, at the earliest.
        retry_at: Time,
        /// What went wrong.
        failure: Failure,
    },
    /// An instruction was given (K291).
    Checkpoint {
        /// Where the session was.
        position: StageName,
        /// The root of the state.
        root: [u8; 32],
    },
}

wire_enum!(SessionEvent, "an event of a session" {
    Started { pipeline, config_hash, envelope, entry, forced } = 1,
    Ended { reason, message } = 2,
    Removed = 3,
    Moved { from, to, via, visit, iteration, back } = 4,
    AttemptIssued { issued } = 5,
    AttemptReported { reported } = 6,
    AttemptClosed { attempt, cause, charged } = 7,
    StageCompleted { stage, output_key, changes } = 8,
    StageFailed { stage, failure } = 9,
    GroupOpened { group, branches, join } = 10,
    GroupJoined { group, winner, merged } = 11,
    RetryScheduled { stage, try_number, retry_at, failure } = 12,
    Checkpoint { position, root } = 13,
});

impl SessionEvent {
    /// Returns the kind, as readers of the stream pick it (section 10).
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Started { .. } => "session.started",
            Self::Ended { .. } => "session.ended",
            Self::Removed => "session.removed",
            Self::Moved { .. } => "session.moved",
            Self::AttemptIssued { .. } => "session.attempt_issued",
            Self::AttemptReported { .. } => "session.attempt_reported",
            Self::AttemptClosed { .. } => "session.attempt_closed",
            Self::StageCompleted { .. } => "session.stage_completed",
            Self::StageFailed { .. } => "session.stage_failed",
            Self::GroupOpened { .. } => "session.group_opened",
            Self::GroupJoined { .. } => "session.group_joined",
            Self::RetryScheduled { .. } => "session.retry_scheduled",
            Self::Checkpoint { .. } => "session.checkpoint",
        }
    }
}
