//! The checkers of questions and of what follows from their answers: K427, K436, K438 and K441.
//!
//! Each follows the events that everybody sees. What they need of fields and envelopes comes from a
//! kernel of their own, to which the events are applied one by one.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

mod fresh;
mod joins;
mod resumes;
mod silence;

use std::collections::BTreeMap;

use machines::kernel::event::{Body, Event, ProcessEvent};
use machines::kernel::ids::{AttemptId, ProcessId, StageName};
use machines::kernel::pipeline::kinds::{RunMode, Via};
use machines::kernel::sessions::Pipeline;
use machines::kernel::sessions::event::SessionEvent;

use super::super::checkers::Make;
use super::super::kernel::Clerk;

/// Lists the watches.
pub(super) fn of_approvals() -> Vec<(&'static str, Make<Clerk>)> {
    vec![
        ("K427", || Box::new(silence::Silence::default())),
        ("K436", || Box::new(joins::Joined::default())),
        ("K438", || Box::new(resumes::Resumed::default())),
        ("K441", || Box::new(fresh::Fresh::default())),
    ]
}

/// Where a session is, by its events alone.
#[derive(Clone, Debug)]
struct Story {
    pipeline: Pipeline,
    position: StageName,
    /// Stages that run side by side.
    group: Option<Vec<StageName>>,
    visits: BTreeMap<StageName, u64>,
    /// By stage: the tries of its newest visit.
    tries: BTreeMap<StageName, (u64, u64)>,
    attempts: BTreeMap<AttemptId, StageName>,
    ended: bool,
}

impl Story {
    fn is_parallel(&self) -> bool {
        self.pipeline.run_mode == RunMode::Parallel
    }

    /// Whether an attempt at a stage belongs where the session is.
    fn is_here(&self, stage: &StageName) -> bool {
        match &self.group {
            Some(branches) => branches.contains(stage),
            None => self.position == *stage,
        }
    }

    /// How often a stage was tried in its newest visit.
    fn tries_of(&self, stage: &StageName) -> u64 {
        let visit = self.visits.get(stage).copied();
        let tries = self.tries.get(stage).filter(|(of, _)| Some(*of) == visit);
        tries.map_or(0, |(_, tries)| *tries)
    }

    fn add(&mut self, event: &SessionEvent) {
        match event {
            SessionEvent::Ended { .. } => self.ended = true,
            SessionEvent::Moved { from, to, via, visit, .. } => {
                let branch = *via == Via::Fork || (self.is_parallel() && from.is_none());
                self.visits.insert(to.clone(), *visit);
                if !branch {
                    self.position = to.clone();
                }
            }
            SessionEvent::AttemptIssued { issued } => {
                self.attempts.insert(issued.attempt.clone(), issued.stage.clone());
                self.tries.insert(issued.stage.clone(), (issued.visit, issued.try_number));
            }
            SessionEvent::AttemptReported { reported } => {
                self.attempts.remove(&reported.attempt);
            }
            SessionEvent::AttemptClosed { attempt, .. } => {
                self.attempts.remove(attempt);
            }
            SessionEvent::GroupOpened { branches, .. } => self.group = Some(branches.clone()),
            SessionEvent::GroupJoined { .. } => self.group = None,
            SessionEvent::Started { .. }
            | SessionEvent::Removed
            | SessionEvent::StageCompleted { .. }
            | SessionEvent::StageFailed { .. }
            | SessionEvent::RetryScheduled { .. }
            | SessionEvent::Checkpoint { .. } => {}
        }
    }
}

/// The sessions that there are.
#[derive(Clone, Debug, Default)]
struct Stories {
    known: BTreeMap<ProcessId, Story>,
}

impl Stories {
    /// Returns the session of a process, if it goes on.
    fn of(&self, pid: &ProcessId) -> Option<&Story> {
        self.known.get(pid).filter(|story| !story.ended)
    }

    fn add(&mut self, event: &Event) {
        let Some(pid) = &event.subject.pid else {
            return;
        };
        if let Some(event) = session_event(event) {
            match event {
                SessionEvent::Started { pipeline, entry, .. } => {
                    let story = Story {
                        pipeline: pipeline.clone(),
                        position: entry.clone(),
                        group: None,
                        visits: BTreeMap::new(),
                        tries: BTreeMap::new(),
                        attempts: BTreeMap::new(),
                        ended: false,
                    };
                    self.known.insert(pid.clone(), story);
                }
                event => {
                    if let Some(story) = self.known.get_mut(pid) {
                        story.add(event);
                    }
                }
            }
        }
        if is_removed(event) {
            self.known.remove(pid);
        }
    }
}

const fn session_event(event: &Event) -> Option<&SessionEvent> {
    match &event.body {
        Body::Session { event } => Some(event),
        _ => None,
    }
}

const fn is_removed(event: &Event) -> bool {
    matches!(event.body, Body::Process { event: ProcessEvent::Removed })
}
