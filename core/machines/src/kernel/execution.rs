//! Execution events: the events of one process as who runs it is shown them (K291).
//!
//! ```text
//!   kernel event n of the process ─► ExecutionEvent n, or nothing
//! ```
//!
//! One event gives one at most, and nothing but that event is looked at: so whoever lost the
//! connection goes on with the number of the last, as with any events. The last one says how the
//! pipeline ended.

#[cfg(test)]
mod tests;
pub mod token;

use std::sync::Arc;

use super::event::{Body, ProcessEvent};
use super::ids::{AttemptId, StageName};
use super::interrupts::event::InterruptEvent;
use super::interrupts::interrupt::{Interrupt, Origin};
use super::json::Json;
use super::json::document::Document;
use super::names::{Outcome, TerminalReason};
use super::numbered::numbered;

use super::sessions::Failure;
use super::sessions::event::{Issued, SessionEvent};
use super::stream::Numbered;
use super::time::Time;

numbered! {
    /// What an execution event says (2.2).
    ExecutionEventType "an execution event type" {
        /// An attempt was handed out.
        StageStarted = 1 "stage_started",
        /// A stage is done.
        StageCompleted = 2 "stage_completed",
        /// A stage failed for good.
        StageFailed = 3 "stage_failed",
        /// The end: it did what it should.
        PipelineCompleted = 4 "pipeline_completed",
        /// Somebody is asked.
        InterruptRaised = 5 "interrupt_raised",
        /// An instruction was given.
        CheckpointCreated = 6 "checkpoint_created",
        /// The end: a bound was reached.
        BoundsExceeded = 7 "bounds_exceeded",
        /// Nobody is asked any more.
        InterruptResolved = 8 "interrupt_resolved",
        /// A stage failed and is tried again.
        RetryScheduled = 9 "retry_scheduled",
        /// The end: it failed, or was cancelled.
        PipelineFailed = 10 "pipeline_failed",
        /// A piece of what an agent says; not durable (K292).
        Token = 11 "token",
        /// Stages run side by side.
        ParallelStarted = 12 "parallel_started",
        /// They have joined.
        ParallelJoined = 13 "parallel_joined",
        /// Pieces are missing (K292).
        Gap = 14 "gap",
    }
}

impl ExecutionEventType {
    /// Says whether nothing follows.
    #[must_use]
    pub const fn is_last(self) -> bool {
        match self {
            Self::PipelineCompleted | Self::BoundsExceeded | Self::PipelineFailed => true,
            Self::StageStarted
            | Self::StageCompleted
            | Self::StageFailed
            | Self::InterruptRaised
            | Self::CheckpointCreated
            | Self::InterruptResolved
            | Self::RetryScheduled
            | Self::Token
            | Self::ParallelStarted
            | Self::ParallelJoined
            | Self::Gap => false,
        }
    }

    const fn of_end(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::PipelineCompleted,
            Outcome::BoundsExceeded => Self::BoundsExceeded,
            Outcome::Cancelled | Outcome::Failed => Self::PipelineFailed,
        }
    }
}

/// What whoever runs a pipeline is shown (13.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExecutionEvent {
    /// What it says.
    pub kind: ExecutionEventType,
    /// Of which stage.
    pub stage: Option<StageName>,
    /// When.
    pub at: Time,
    /// What else there is to say: an object.
    pub payload: Json,
    /// The number of the event.
    pub event: u64,
    /// Of which attempt.
    pub attempt: Option<AttemptId>,
    /// How the pipeline ended; of the last one.
    pub terminal_reason: Option<TerminalReason>,
}

/// What an event says, before it is known which it is.
struct Said {
    kind: ExecutionEventType,
    stage: Option<StageName>,
    attempt: Option<AttemptId>,
    payload: Vec<(&'static str, Json)>,
}

impl Said {
    const fn of(kind: ExecutionEventType, stage: Option<StageName>) -> Self {
        Self { kind, stage, attempt: None, payload: Vec::new() }
    }

    fn with(mut self, payload: impl IntoIterator<Item = (&'static str, Json)>) -> Self {
        self.payload.extend(payload);
        self
    }
}

impl ExecutionEvent {
    /// Shows an event of a process; nothing if it says nothing to who runs a pipeline.
    #[must_use]
    pub fn of(numbered: &Numbered) -> Option<Self> {
        let Numbered { number, event } = numbered;
        let mut terminal_reason = None;
        let said = match &event.body {
            Body::Session { event } => of_session(event)?,
            Body::Interrupt { event } => of_interrupt(event)?,
            Body::Process {
                event: ProcessEvent::Terminated { reason, outcome, message, usage: _ },
            } => {
                terminal_reason = Some(*reason);
                Said::of(ExecutionEventType::of_end(*outcome), None).with([
                    ("reason", Json::from(reason.name())),
                    ("outcome", Json::from(outcome.name())),
                    ("message", Json::from(Arc::clone(message))),
                ])
            }
            Body::Process { .. }
            | Body::Kernel { .. }
            | Body::Quota { .. }
            | Body::Rate { .. }
            | Body::Approval { .. }
            | Body::Service { .. }
            | Body::Slot { .. }
            | Body::Dispatch { .. }
            | Body::Envelope { .. } => return None,
        };
        Some(Self {
            kind: said.kind,
            stage: said.stage,
            at: event.time,
            payload: Json::object(said.payload),
            event: *number,
            attempt: said.attempt,
            terminal_reason,
        })
    }
}

fn of_session(event: &SessionEvent) -> Option<Said> {
    use ExecutionEventType as Type;
    Some(match event {
        SessionEvent::AttemptIssued { issued } => started(issued),
        SessionEvent::StageCompleted { stage, output_key, .. } => {
            Said::of(Type::StageCompleted, Some(stage.clone()))
                .with([("output_key", output_key.written())])
        }
        SessionEvent::StageFailed { stage, failure } => {
            Said::of(Type::StageFailed, Some(stage.clone())).with(why(failure))
        }
        SessionEvent::RetryScheduled { stage, try_number, retry_at, failure } => {
            let next = [
                ("try_number", Json::from(*try_number)),
                ("retry_at_ms", Json::from(retry_at.as_millis())),
            ];
            Said::of(Type::RetryScheduled, Some(stage.clone())).with(next).with(why(failure))
        }
        SessionEvent::GroupOpened { group, branches, join } => {
            Said::of(Type::ParallelStarted, None).with([
                ("group", Json::from(group.as_str())),
                ("branches", branches.written()),
                ("join", join.written()),
            ])
        }
        SessionEvent::GroupJoined { group, winner, merged } => {
            let winner = winner.as_ref().map(|winner| ("winner", winner.written()));
            Said::of(Type::ParallelJoined, None)
                .with([("group", Json::from(group.as_str())), ("merged", merged.written())])
                .with(winner)
        }
        SessionEvent::Checkpoint { position, root } => {
            let root: String = root.iter().map(|byte| format!("{byte:02x}")).collect();
            Said::of(Type::CheckpointCreated, Some(position.clone()))
                .with([("root", Json::from(root))])
        }
        SessionEvent::Started { .. }
        | SessionEvent::Ended { .. }
        | SessionEvent::Removed
        | SessionEvent::Moved { .. }
        | SessionEvent::AttemptReported { .. }
        | SessionEvent::AttemptClosed { .. } => return None,
    })
}

fn started(issued: &Issued) -> Said {
    let numbers =
        [("visit", Json::from(issued.visit)), ("try_number", Json::from(issued.try_number))];
    let branch = issued.branch.map(|branch| ("branch", Json::from(branch)));
    let deadline = issued.deadline.map(|at| ("deadline_at_ms", Json::from(at.as_millis())));
    let mut said = Said::of(ExecutionEventType::StageStarted, Some(issued.stage.clone()))
        .with(numbers)
        .with(branch)
        .with(deadline);
    said.attempt = Some(issued.attempt.clone());
    said
}

fn why(failure: &Failure) -> [(&'static str, Json); 2] {
    [("error", Json::from(Arc::clone(&failure.error))), ("error_kind", failure.kind.written())]
}

fn of_interrupt(event: &InterruptEvent) -> Option<Said> {
    let closed = |id: &str, how: &str| {
        let (id, how) = (Json::from(id), Json::from(how));
        Said::of(ExecutionEventType::InterruptResolved, None)
            .with([("interrupt_id", id), ("status", how)])
    };
    Some(match event {
        InterruptEvent::Raised { interrupt } => raised(interrupt),
        InterruptEvent::Resolved { id, accepted, .. } => {
            closed(id.as_str(), "resolved").with([("accepted", Json::from(*accepted))])
        }
        InterruptEvent::Expired { id, escalated_to, .. } => {
            let next = escalated_to.as_ref().map(|id| ("escalated_to", Json::from(id.as_str())));
            closed(id.as_str(), "expired").with(next)
        }
        InterruptEvent::Cancelled { id, reason } => {
            closed(id.as_str(), "cancelled").with([("reason", Json::from(Arc::clone(reason)))])
        }
        InterruptEvent::Removed { .. } => return None,
    })
}

fn raised(interrupt: &Interrupt) -> Said {
    let (stage, attempt) = match &interrupt.origin {
        Origin::Stage { stage, attempt } => (Some(stage.clone()), attempt.clone()),
        Origin::External | Origin::Kernel => (None, None),
    };
    let text = |key, text: &Option<Arc<str>>| {
        text.as_ref().map(|text| (key, Json::from(Arc::clone(text))))
    };
    let mut said = Said::of(ExecutionEventType::InterruptRaised, stage)
        .with([
            ("interrupt_id", Json::from(interrupt.id.as_str())),
            ("kind", Json::from(interrupt.kind.name())),
            ("blocking", Json::from(interrupt.blocking)),
        ])
        .with(text("question", &interrupt.question))
        .with(text("message", &interrupt.message))
        .with(interrupt.expires_at.map(|at| ("expires_at_ms", Json::from(at.as_millis()))));
    said.attempt = attempt;
    said
}
