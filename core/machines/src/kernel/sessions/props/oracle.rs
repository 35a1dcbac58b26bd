//! Counts what a session did, from its events alone, and holds it against the limits.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::event::{Body, Event, QuotaEvent};
use crate::kernel::ids::{AttemptId, StageName};
use crate::kernel::pipeline::PipelineConfig;
use crate::kernel::rig::pid;
use crate::kernel::sessions::event::{Issued, SessionEvent};
use crate::kernel::sessions::{Pipeline, Session};
use crate::kernel::state::State;

/// What was counted since the session began.
#[derive(Clone, Debug, Default)]
pub(super) struct Oracle {
    pipeline: Option<Pipeline>,
    edges: BTreeMap<(StageName, StageName), u64>,
    visits: BTreeMap<StageName, u64>,
    iteration: u64,
    hops: u64,
    attempts: u64,
    live: BTreeMap<StageName, AttemptId>,
    ended: bool,
    /// Over all sessions of the process.
    iterations: u64,
    all_hops: u64,
    warned: BTreeSet<u16>,
}

impl Oracle {
    pub(super) fn see(&mut self, event: &Event, state: &State) -> Result<(), String> {
        if let Body::Quota { event: QuotaEvent::Exceeded { resource, .. } } = &event.body {
            match self.warned.insert(resource.bit()) {
                true => return Ok(()),
                false => return Err("K114: told twice".to_owned()),
            }
        }
        let Body::Session { event } = &event.body else {
            return Ok(());
        };
        if let SessionEvent::Started { pipeline, .. } = event {
            let (iterations, all_hops) = (self.iterations, self.all_hops);
            let warned = std::mem::take(&mut self.warned);
            let pipeline = Some(pipeline.clone());
            *self = Self { pipeline, iterations, all_hops, warned, ..Self::default() };
            return Ok(());
        }
        let Some(pipeline) = self.pipeline.clone() else {
            return Err("an event before the start".to_owned());
        };
        match event {
            SessionEvent::Moved { from, to, back, .. } => {
                self.moved(&pipeline, (from.as_ref(), to), *back, state)
            }
            SessionEvent::AttemptIssued { issued } => self.issued(&pipeline, issued, state),
            SessionEvent::AttemptReported { reported } => self.closed(&reported.attempt),
            SessionEvent::AttemptClosed { attempt, .. } => self.closed(attempt),
            SessionEvent::Ended { .. } => {
                self.ended = true;
                Ok(())
            }
            SessionEvent::Started { .. }
            | SessionEvent::Removed
            | SessionEvent::StageCompleted { .. }
            | SessionEvent::StageFailed { .. }
            | SessionEvent::GroupOpened { .. }
            | SessionEvent::GroupJoined { .. }
            | SessionEvent::RetryScheduled { .. }
            | SessionEvent::Checkpoint { .. } => Ok(()),
        }
    }

    /// K439: no move takes a count above its limit.
    fn moved(
        &mut self,
        pipeline: &PipelineConfig,
        (from, to): (Option<&StageName>, &StageName),
        back: bool,
        state: &State,
    ) -> Result<(), String> {
        let visits = self.visits.entry(to.clone()).or_default();
        *visits += 1;
        let most = pipeline.stage(to).and_then(|stage| stage.max_visits);
        let mut fits = most.is_none_or(|most| most.allows(*visits));
        if let Some(from) = from {
            let edge = self.edges.entry((from.clone(), to.clone())).or_default();
            *edge += 1;
            fits &= pipeline.edge_limit(from, to).allows(*edge);
            fits &= back == pipeline.is_back_edge(from, to);
        }
        if back {
            self.iteration += 1;
            self.iterations += 1;
            let quota = state.process(&pid("p")).map(|process| process.quota.max_iterations);
            fits &= pipeline.max_iterations.allows(self.iteration);
            fits &= quota.is_none_or(|quota| quota.allows(self.iterations));
        }
        match fits {
            true => Ok(()),
            false => Err(format!("K439: {from:?} -> {to} passes a limit")),
        }
    }

    /// K425, K437, K439: one attempt of a stage, none after the end, hops within their limits.
    fn issued(
        &mut self,
        pipeline: &PipelineConfig,
        issued: &Issued,
        state: &State,
    ) -> Result<(), String> {
        if self.ended {
            return Err("K437: issued after the end".to_owned());
        }
        if self.live.insert(issued.stage.clone(), issued.attempt.clone()).is_some() {
            return Err(format!("K425: two live attempts at {}", issued.stage));
        }
        self.attempts += 1;
        if issued.hop {
            self.hops += 1;
            self.all_hops += 1;
        }
        let quota = state.process(&pid("p")).map(|process| process.quota.max_agent_hops);
        let fits = pipeline.max_agent_hops.allows(self.hops)
            && quota.is_none_or(|quota| quota.allows(self.all_hops));
        if fits { Ok(()) } else { Err(format!("K439: {} hops", self.hops)) }
    }

    fn closed(&mut self, attempt: &AttemptId) -> Result<(), String> {
        let before = self.live.len();
        self.live.retain(|_, live| live != attempt);
        match self.live.len() < before {
            true => Ok(()),
            false => Err(format!("K425: {attempt} is closed twice")),
        }
    }

    /// K439: what a session counts is what happened.
    pub(super) fn agrees(&self, session: &Session) -> Result<(), String> {
        let same = self.edges == session.edges
            && self.visits == session.visits
            && self.iteration == session.iteration
            && self.live.len() == session.attempts.len();
        if same { Ok(()) } else { Err("K439: a session counts otherwise".to_owned()) }
    }

    /// K440: attempts are bounded by hops, retries and losses.
    pub(super) fn check_bounded(
        &self,
        pipeline: &PipelineConfig,
        max_lost: u64,
    ) -> Result<(), String> {
        let retries = pipeline.stages.iter().map(|stage| u64::from(stage.retry.max_retries)).max();
        let most = self.hops * (1 + retries.unwrap_or(0) + max_lost);
        match self.attempts <= most {
            true => Ok(()),
            false => Err(format!("K440: {} attempts, at most {most}", self.attempts)),
        }
    }
}
