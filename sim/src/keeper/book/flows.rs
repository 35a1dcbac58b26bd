//! Sessions, from their events: where they went, who works for them, how they ended (section 8).
//!
//! It is written from the specification, and shares nothing with the kernel but the events.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machines::kernel::Time;
use machines::kernel::event::{Body, Cause, Event, ProcessEvent, QuotaEvent};
use machines::kernel::ids::{AgentName, AttemptId, EnvelopeId, ProcessId, StageName};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::names::TerminalReason;
use machines::kernel::principal::Holder;
use machines::kernel::sessions::Pipeline;
use machines::kernel::sessions::event::SessionEvent;

/// An attempt, live or not.
#[derive(Clone, Debug)]
pub struct Tried {
    /// At which stage.
    pub stage: StageName,
    /// As which agent.
    pub agent: Option<AgentName>,
    /// Who works.
    pub holder: Holder,
    /// Whether it is live.
    pub live: bool,
}

/// The session of a process.
#[derive(Clone, Debug)]
pub struct Flow {
    /// What it follows.
    pub pipeline: Pipeline,
    /// What it works on.
    pub envelope: EnvelopeId,
    /// Moves by edge.
    pub edges: BTreeMap<(StageName, StageName), u64>,
    /// Visits by stage.
    pub visits: BTreeMap<StageName, u64>,
    /// Back edges.
    pub iteration: u64,
    /// Hops.
    pub hops: u64,
    /// Attempts.
    pub attempts: u64,
    /// How many attempts its hops allow (K440).
    pub allowed: u64,
    /// Failures that are tried again, and when.
    pub retries: BTreeMap<StageName, Time>,
    /// Whether a group is open.
    pub grouped: bool,
    /// How it ended.
    pub ended: Option<(TerminalReason, Arc<str>)>,
}

/// What a process has done in all its sessions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    /// Back edges.
    pub iterations: u64,
    /// Hops.
    pub hops: u64,
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// The newest session of each process.
    pub known: BTreeMap<ProcessId, Flow>,
    /// The attempts of each process.
    pub tried: BTreeMap<ProcessId, BTreeMap<AttemptId, Tried>>,
    /// Who was last given each process to run.
    pub holders: BTreeMap<ProcessId, Holder>,
    /// What processes have done.
    pub sums: BTreeMap<ProcessId, Sum>,
    /// Processes of which somebody was asked, or that somebody moved: K440 says nothing of them.
    disturbed: BTreeSet<ProcessId>,
}

impl Flows {
    /// Lists the live attempts of a process.
    pub fn live(&self, pid: &ProcessId) -> impl Iterator<Item = (&AttemptId, &Tried)> {
        let tried = self.tried.get(pid).into_iter().flatten();
        tried.filter(|(_, tried)| tried.live)
    }

    /// Finds an attempt.
    #[must_use]
    pub fn attempt(&self, pid: &ProcessId, attempt: &AttemptId) -> Option<&Tried> {
        self.tried.get(pid)?.get(attempt)
    }

    /// Adds an event; `max_lost` is the node's (K272).
    pub fn add(&mut self, event: &Event, max_lost: u64) {
        let Some(pid) = &event.subject.pid else {
            return;
        };
        match &event.body {
            Body::Session { event } => self.add_session(pid, event, max_lost),
            Body::Process { event } => self.add_process(pid, event),
            Body::Interrupt { event: InterruptEvent::Raised { .. } } => self.disturb(pid),
            Body::Quota { event: QuotaEvent::Recorded { agent_hops, .. } } => {
                self.sums.entry(pid.clone()).or_default().hops += agent_hops;
            }
            _ => {}
        }
    }

    /// Finds the session of a process that nobody was asked of, and that nobody moved.
    #[must_use]
    pub fn undisturbed(&self, pid: &ProcessId) -> Option<&Flow> {
        self.known.get(pid).filter(|_| !self.disturbed.contains(pid))
    }

    fn disturb(&mut self, pid: &ProcessId) {
        self.disturbed.insert(pid.clone());
    }

    fn add_process(&mut self, pid: &ProcessId, event: &ProcessEvent) {
        match event {
            ProcessEvent::StateChanged { lease, cause, .. } => {
                if let Some(lease) = lease {
                    self.holders.insert(pid.clone(), lease.holder.clone());
                }
                if *cause == Cause::Asked {
                    self.disturb(pid);
                }
            }
            ProcessEvent::Removed => {
                self.known.remove(pid);
                self.tried.remove(pid);
                self.holders.remove(pid);
                self.sums.remove(pid);
                self.disturbed.remove(pid);
            }
            ProcessEvent::Created { .. }
            | ProcessEvent::LeaseRenewed { .. }
            | ProcessEvent::Terminated { .. } => {}
        }
    }

    fn add_session(&mut self, pid: &ProcessId, event: &SessionEvent, max_lost: u64) {
        match event {
            SessionEvent::Started { pipeline, envelope, .. } => {
                self.known.insert(pid.clone(), Flow::new(pipeline, envelope));
                return;
            }
            SessionEvent::Removed => {
                self.known.remove(pid);
                return;
            }
            SessionEvent::AttemptReported { reported } => self.close(pid, &reported.attempt),
            SessionEvent::AttemptClosed { attempt, .. } => self.close(pid, attempt),
            SessionEvent::AttemptIssued { issued } => {
                let flow = self.known.get(pid);
                let stage = flow.and_then(|flow| flow.pipeline.stage(&issued.stage));
                let agent = stage.and_then(|stage| Some(stage.agent_config.as_ref()?.name.clone()));
                let (stage, holder) = (issued.stage.clone(), issued.holder.clone());
                let tried = Tried { stage, agent, holder, live: true };
                let attempts = self.tried.entry(pid.clone()).or_default();
                attempts.insert(issued.attempt.clone(), tried);
                self.sums.entry(pid.clone()).or_default().hops += u64::from(issued.hop);
            }
            SessionEvent::Moved { back: true, .. } => {
                self.sums.entry(pid.clone()).or_default().iterations += 1;
            }
            _ => {}
        }
        if let Some(flow) = self.known.get_mut(pid) {
            flow.add(event, max_lost);
        }
    }

    fn close(&mut self, pid: &ProcessId, attempt: &AttemptId) {
        let tried = self.tried.get_mut(pid).and_then(|tried| tried.get_mut(attempt));
        if let Some(tried) = tried {
            tried.live = false;
        }
    }
}

impl Flow {
    fn new(pipeline: &Pipeline, envelope: &EnvelopeId) -> Self {
        Self {
            pipeline: pipeline.clone(),
            envelope: envelope.clone(),
            edges: BTreeMap::new(),
            visits: BTreeMap::new(),
            iteration: 0,
            hops: 0,
            attempts: 0,
            allowed: 0,
            retries: BTreeMap::new(),
            grouped: false,
            ended: None,
        }
    }

    fn add(&mut self, event: &SessionEvent, max_lost: u64) {
        match event {
            SessionEvent::Moved { from, to, back, .. } => {
                if let Some(from) = from {
                    *self.edges.entry((from.clone(), to.clone())).or_default() += 1;
                }
                *self.visits.entry(to.clone()).or_default() += 1;
                self.iteration += u64::from(*back);
            }
            SessionEvent::AttemptIssued { issued } => {
                self.attempts += 1;
                self.retries.remove(&issued.stage);
                if issued.hop {
                    let stage = self.pipeline.stage(&issued.stage);
                    let retries = stage.map_or(0, |stage| u64::from(stage.retry.max_retries));
                    self.hops += 1;
                    self.allowed += 1 + retries + max_lost;
                }
            }
            SessionEvent::RetryScheduled { stage, retry_at, .. } => {
                self.retries.insert(stage.clone(), *retry_at);
            }
            SessionEvent::GroupOpened { .. } => self.grouped = true,
            SessionEvent::GroupJoined { .. } => {
                self.grouped = false;
                self.retries.clear();
            }
            SessionEvent::Ended { reason, message } => {
                self.ended = Some((*reason, Arc::clone(message)));
            }
            _ => {}
        }
    }
}
