//! A process that the executor holds: what is under way for it, and what follows when that ends.

use std::collections::BTreeMap;

use super::{Errand, Executor, Ticket, pause};
use crate::Instant;
use crate::kernel::dispatch::event::DispatchEvent;
use crate::kernel::dispatch::{DispatchOutcome, ServiceRequest, ServiceResponse, Target};
use crate::kernel::ids::{AgentName, AttemptId, DispatchId, ProcessId};
use crate::kernel::json::Json;
use crate::kernel::principal::Principal;
use crate::kernel::query::{Query, Told};
use crate::kernel::reply::Done;
use crate::kernel::sessions::instruction::{Instruction, InstructionBody};
use crate::kernel::sessions::report::Report;
use crate::kernel::sessions::task::AgentTask;
use crate::kernel::sessions::view::SessionState;
use crate::kernel::{Code, CommandBody, Refusal, Time};
use crate::sometimes;

/// What a service is asked to do with a task.
const METHOD: &str = "run_agent";

/// What was asked for on behalf of a process.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// What to do.
    Poll,
    /// Who works for it.
    Session,
    /// To have a task done.
    Dispatch(AttemptId),
    /// How a dispatch is, that exists.
    Look(AttemptId),
    /// To take what came of an attempt; `made` says whether that is what its worker made.
    Report {
        /// Of which.
        attempt: AttemptId,
        /// Whether the worker told it.
        made: bool,
    },
}

/// How far the executor is with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is asked for.
    Idle,
    /// Its dispatch is asked for.
    Asking(Ticket),
    /// How its dispatch is, is asked for.
    Looking(Ticket),
    /// The end of its dispatch is waited for.
    Waiting,
    /// Its report is sent.
    Telling(Ticket),
}

/// What is known of a process that is held.
#[derive(Clone, Debug, Default)]
pub(super) struct Hold {
    /// The attempts that are under way.
    attempts: BTreeMap<AttemptId, (AgentName, Step)>,
    /// The poll that is under way.
    polling: Option<Ticket>,
    /// Whether another follows it at once.
    again: bool,
    /// When it is polled at the latest.
    poll_at: Option<Instant>,
    /// The same, by the time of the kernel.
    pub(super) wake: Option<Time>,
    /// Whether it waits for people: nothing is issued until that is over.
    pub(super) waits: bool,
    /// Whether it was found at the start, and its attempts are not known yet.
    found: bool,
    /// How often in a row something was refused.
    refused: u32,
}

impl Hold {
    /// What is known of a process that was held in the run before.
    pub(super) fn found(waits: bool) -> Self {
        Self { waits, found: true, ..Self::default() }
    }
}

/// Whether a refusal is about the moment, and not about what was asked for.
pub(super) const fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Busy
            | Code::DiskFull
            | Code::Overloaded
            | Code::NotDurable
            | Code::Draining
            | Code::QueueFull
            | Code::ServiceAtCapacity
            | Code::ServiceUnhealthy
            | Code::NoHandler
    )
}

/// Whether a refusal says that nobody waits for the attempt any more.
const fn is_over(code: Code) -> bool {
    matches!(
        code,
        Code::AttemptSuperseded
            | Code::AttemptClosed
            | Code::AttemptNotFound
            | Code::NotHolder
            | Code::ProcessTerminal
            | Code::ProcessNotFound
            | Code::SessionNotFound
    )
}

/// The dispatch of an attempt has its id (K290).
fn dispatch_of(attempt: &AttemptId) -> DispatchId {
    DispatchId::parse("dispatch_id", attempt.as_str()).expect("an id of one is an id of the other")
}

// ---- when it is polled

impl Executor {
    /// Holds a process that runs under the node's lease, and asks what to do.
    pub(super) fn hold(&mut self, pid: &ProcessId) {
        if let Some(hold) = self.held.get_mut(pid) {
            hold.waits = false;
        } else if self.held.len() < self.held_max {
            self.held.insert(pid.clone(), Hold::default());
        } else {
            // Its lease ends, and then it waits for its turn.
            sometimes!("executor: there is no place for what runs");
            return;
        }
        self.ask_now(pid);
    }

    pub(super) fn let_go(&mut self, pid: &ProcessId) {
        if let Some(hold) = self.held.remove(pid) {
            if let Some(at) = hold.poll_at {
                self.polls.remove(&(at, pid.clone()));
            }
            if let Some(at) = hold.wake {
                self.wakes.remove(&(at, pid.clone()));
            }
        }
    }

    /// Polls a process as soon as all is heard that happened.
    pub(super) fn ask_now(&mut self, pid: &ProcessId) {
        self.poll_at(pid, self.clocks.0);
    }

    /// Polls a process, or does so when the poll under way is answered.
    pub(super) fn ask(&mut self, pid: &ProcessId) {
        self.poll_at(pid, self.clocks.0 + self.interval);
        let Some(hold) = self.held.get_mut(pid) else {
            return;
        };
        if hold.polling.is_some() {
            hold.again = true;
            return;
        }
        let body = CommandBody::NextInstruction { pid: pid.clone() };
        let ticket = self.command(Errand::Of(pid.clone(), Asked::Poll), body);
        if let Some(hold) = self.held.get_mut(pid) {
            hold.polling = Some(ticket);
        }
    }

    /// Polls a process at `at` at the latest.
    fn poll_at(&mut self, pid: &ProcessId, at: Instant) {
        if let Some(hold) = self.held.get_mut(pid) {
            if let Some(before) = hold.poll_at.replace(at) {
                self.polls.remove(&(before, pid.clone()));
            }
            self.polls.insert((at, pid.clone()));
        }
    }

    /// Polls a process when the kernel has come to a time, or before: each poll is told the next.
    pub(super) fn wake_at(&mut self, pid: &ProcessId, at: Time) {
        if let Some(hold) = self.held.get_mut(pid)
            && hold.wake.is_none_or(|before| at < before)
        {
            if let Some(before) = hold.wake.replace(at) {
                self.wakes.remove(&(before, pid.clone()));
            }
            self.wakes.insert((at, pid.clone()));
        }
    }

    /// Something was refused: polls after a pause, and begins again from what is told then.
    fn ask_later(&mut self, pid: &ProcessId) {
        if let Some(hold) = self.held.get_mut(pid) {
            let at = self.clocks.0 + pause(hold.refused).min(self.interval);
            hold.refused = hold.refused.saturating_add(1);
            self.poll_at(pid, at);
        }
    }

    fn went_well(&mut self, pid: &ProcessId) {
        if let Some(hold) = self.held.get_mut(pid) {
            hold.refused = 0;
        }
    }

    /// People are asked something: what is under way goes on, and nothing else is issued (K152).
    pub(super) fn wait_for_people(&mut self, pid: &ProcessId) {
        if let Some(hold) = self.held.get_mut(pid) {
            hold.waits = true;
            self.rest(pid);
        }
    }

    /// Lets a process go that waits for people, once nothing is under way for it: it becomes Ready.
    fn rest(&mut self, pid: &ProcessId) {
        let rests = |hold: &Hold| hold.waits && hold.attempts.is_empty() && !hold.found;
        if self.held.get(pid).is_some_and(rests) {
            self.let_go(pid);
        }
    }
}

// ---- how far its attempts are

impl Executor {
    fn step(&self, pid: &ProcessId, attempt: &AttemptId) -> Option<Step> {
        Some(self.held.get(pid)?.attempts.get(attempt)?.1)
    }

    fn set(&mut self, pid: &ProcessId, attempt: &AttemptId, step: Step) {
        if let Some(hold) = self.held.get_mut(pid)
            && let Some(known) = hold.attempts.get_mut(attempt)
        {
            known.1 = step;
        }
    }

    fn agent(&self, pid: &ProcessId, attempt: &AttemptId) -> Option<AgentName> {
        Some(self.held.get(pid)?.attempts.get(attempt)?.0.clone())
    }

    /// Begins again with an attempt, after a pause.
    fn forget(&mut self, pid: &ProcessId, attempt: &AttemptId) {
        self.set(pid, attempt, Step::Idle);
        self.ask_later(pid);
    }

    /// An attempt is over; `by_other` says whether by something else than its report.
    pub(super) fn closed(&mut self, pid: &ProcessId, attempt: &AttemptId, by_other: bool) {
        let Some(hold) = self.held.get_mut(pid) else {
            return;
        };
        let known = hold.attempts.remove(attempt);
        let waits = hold.waits;
        match known.map(|(_, step)| step) {
            Some(Step::Asking(_) | Step::Looking(_) | Step::Waiting) => {
                sometimes!("executor: a dispatch is cancelled");
                self.cancel(dispatch_of(attempt), 0);
            }
            Some(Step::Idle | Step::Telling(_)) | None => {}
        }
        match by_other && !waits {
            true => self.ask_now(pid),
            false => self.rest(pid),
        }
    }

    /// Takes up the attempts that a poll or a report told of.
    fn work(&mut self, pid: &ProcessId, tasks: &[&AgentTask]) {
        let Some(hold) = self.held.get_mut(pid) else {
            return;
        };
        hold.found = false;
        hold.attempts.retain(|id, _| tasks.iter().any(|task| task.attempt == *id));
        for task in tasks {
            let known = self.step(pid, &task.attempt);
            if matches!(known, None | Some(Step::Idle)) {
                self.dispatch(pid, task);
            }
        }
    }

    /// Has a task done. None is while the node drains (K362): the attempt waits for the next run.
    fn dispatch(&mut self, pid: &ProcessId, task: &AgentTask) {
        if self.draining {
            return;
        }
        let target = Target::Name { name: task.service.clone() };
        let mut request = ServiceRequest::new(target, METHOD, task.to_json());
        request.dispatch = Some(dispatch_of(&task.attempt));
        request.pid = Some(pid.clone());
        request.priority = task.priority;
        request.queue = true;
        request.try_timeout_ms = self.span_ms;
        let asked = Asked::Dispatch(task.attempt.clone());
        let body = CommandBody::Dispatch(Box::new(request));
        let ticket = self.command(Errand::Of(pid.clone(), asked), body);
        if let Some(hold) = self.held.get_mut(pid) {
            let known = (task.agent.clone(), Step::Asking(ticket));
            hold.attempts.insert(task.attempt.clone(), known);
        }
    }

    /// A dispatch has ended: if it is waited for, what came of it is reported.
    pub(super) fn dispatch_ended(&mut self, pid: &ProcessId, event: &DispatchEvent) {
        let DispatchEvent::Finished { dispatch, outcome, data, error, .. } = event else {
            return;
        };
        let Ok(attempt) = AttemptId::parse("attempt_id", dispatch.as_str()) else {
            return;
        };
        if self.step(pid, &attempt) == Some(Step::Waiting) {
            let success = *outcome == DispatchOutcome::Succeeded;
            self.conclude((pid, &attempt), success, data.as_ref(), error.as_deref());
        }
    }

    /// Reports what a dispatch came to (K290).
    fn conclude(
        &mut self,
        (pid, attempt): (&ProcessId, &AttemptId),
        success: bool,
        data: Option<&Json>,
        error: Option<&str>,
    ) {
        let Some(agent) = self.agent(pid, attempt) else {
            return;
        };
        let read = |data: &Json| Report::of_result((pid, attempt, &agent), data);
        match (success, data.map(read)) {
            (true, Some(Ok(report))) => self.tell((pid, attempt), report, true),
            (true, Some(Err(refusal))) => {
                sometimes!("executor: a result is no report");
                self.fail((pid, attempt), &format!("the result is no report: {refusal}"));
            }
            (true, None) => self.fail((pid, attempt), "the result is no report: there is none"),
            (false, _) => self.fail((pid, attempt), error.unwrap_or("the dispatch failed")),
        }
    }

    /// Reports that the dispatch of an attempt failed.
    fn fail(&mut self, (pid, attempt): (&ProcessId, &AttemptId), error: &str) {
        let Some(agent) = self.agent(pid, attempt) else {
            return;
        };
        let error = within(error, self.text_max);
        let report = Report::of_failed_dispatch((pid, attempt, &agent), &error);
        self.tell((pid, attempt), report, false);
    }

    fn tell(&mut self, (pid, attempt): (&ProcessId, &AttemptId), report: Report, made: bool) {
        let asked = Asked::Report { attempt: attempt.clone(), made };
        let body = CommandBody::ReportAgentResult(Box::new(report));
        let ticket = self.command(Errand::Of(pid.clone(), asked), body);
        self.set(pid, attempt, Step::Telling(ticket));
    }
}

/// Cuts text to `most` bytes, and leaves out what texts of the kernel cannot have (K24, K25).
fn within(text: &str, most: usize) -> String {
    let mut text: String = text.chars().filter(|char| *char != '\0').collect();
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.truncate(end.unwrap_or(0));
    text
}

// ---- what is heard

impl Executor {
    /// What came of a command for a process.
    pub(super) fn told(
        &mut self,
        pid: &ProcessId,
        (ticket, asked): (Ticket, &Asked),
        reply: Result<&Done, &Refusal>,
    ) {
        match asked {
            Asked::Poll => self.polled(pid, ticket, reply),
            Asked::Dispatch(attempt) if self.step(pid, attempt) == Some(Step::Asking(ticket)) => {
                match reply {
                    Ok(Done::Dispatched { response, .. }) => {
                        self.dispatched((pid, attempt), response.as_deref());
                    }
                    Ok(_) => self.forget(pid, attempt),
                    Err(refusal) => self.not_dispatched((pid, attempt), refusal),
                }
            }
            Asked::Report { attempt, made }
                if self.step(pid, attempt).is_none_or(|step| step == Step::Telling(ticket)) =>
            {
                match reply {
                    Ok(Done::Instruction(told)) => {
                        self.went_well(pid);
                        self.follow(pid, told);
                    }
                    Ok(_) => self.ask_later(pid),
                    Err(refusal) => self.not_taken((pid, attempt), *made, refusal),
                }
            }
            Asked::Session | Asked::Look(_) | Asked::Dispatch(_) | Asked::Report { .. } => {}
        }
    }

    fn polled(&mut self, pid: &ProcessId, ticket: Ticket, reply: Result<&Done, &Refusal>) {
        let Some(hold) = self.held.get_mut(pid).filter(|hold| hold.polling == Some(ticket)) else {
            return;
        };
        hold.polling = None;
        let again = std::mem::take(&mut hold.again);
        match reply {
            Ok(Done::Instruction(told)) => self.follow(pid, told),
            Ok(_) => self.let_go(pid),
            Err(refusal) if is_over(refusal.code) => self.let_go(pid),
            Err(_) => {
                sometimes!("executor: a poll is refused");
                return self.ask_later(pid);
            }
        }
        if again {
            self.ask_now(pid);
        }
    }

    /// Does as it is told. What became of the process is heard by its events before.
    fn follow(&mut self, pid: &ProcessId, told: &Instruction) {
        let Some(hold) = self.held.get_mut(pid) else {
            return;
        };
        match &told.body {
            InstructionBody::RunAgent(task) => self.work(pid, &[task]),
            InstructionBody::RunAgents(tasks) => {
                self.work(pid, &tasks.iter().collect::<Vec<_>>());
                if let Some(until) = told.until {
                    self.wake_at(pid, until);
                }
            }
            InstructionBody::Terminate { .. } => self.let_go(pid),
            InstructionBody::WaitInterrupt { .. } if hold.found => {
                // Its attempts go on, and this says nothing of them.
                sometimes!("executor: somebody is asked, and work goes on after a start");
                let query = Query::GetSessionState { pid: pid.clone() };
                self.query(Errand::Of(pid.clone(), Asked::Session), query);
            }
            InstructionBody::WaitInterrupt { .. } => self.rest(pid),
            InstructionBody::WaitParallel { until, .. } => {
                hold.found = false;
                if let Some(until) = until {
                    self.wake_at(pid, *until);
                }
            }
            InstructionBody::Wait { .. } => hold.found = false,
        }
    }

    /// A dispatch is under way, or has ended before.
    fn dispatched(
        &mut self,
        (pid, attempt): (&ProcessId, &AttemptId),
        response: Option<&ServiceResponse>,
    ) {
        match response {
            None => {
                self.went_well(pid);
                self.set(pid, attempt, Step::Waiting);
            }
            Some(ended) => {
                let (data, error) = (ended.data.as_ref(), ended.error.as_deref());
                self.conclude((pid, attempt), ended.success, data, error);
            }
        }
    }

    fn not_dispatched(&mut self, (pid, attempt): (&ProcessId, &AttemptId), refusal: &Refusal) {
        let code = refusal.code;
        if code == Code::DispatchConflict {
            // The task looks otherwise now, and was handed out before.
            sometimes!("executor: a task looks otherwise than when it was dispatched");
            let query = Query::GetDispatch { dispatch: dispatch_of(attempt) };
            let errand = Errand::Of(pid.clone(), Asked::Look(attempt.clone()));
            let ticket = self.query(errand, query);
            self.set(pid, attempt, Step::Looking(ticket));
        } else if is_passing(code) || is_over(code) {
            self.forget(pid, attempt);
        } else {
            self.fail((pid, attempt), &refusal.to_string());
        }
    }

    /// A report was refused: what its worker made is no report, or nobody waits for it.
    fn not_taken(
        &mut self,
        (pid, attempt): (&ProcessId, &AttemptId),
        made: bool,
        refusal: &Refusal,
    ) {
        let for_what_it_says = !is_passing(refusal.code) && !is_over(refusal.code);
        match made && for_what_it_says {
            true => self.fail((pid, attempt), &format!("the result is no report: {refusal}")),
            false => self.forget(pid, attempt),
        }
    }

    /// The answer to a query about a process.
    pub(super) fn shown(
        &mut self,
        pid: &ProcessId,
        (ticket, asked): (Ticket, &Asked),
        told: Result<&Told, &Refusal>,
    ) {
        match (asked, told) {
            (Asked::Session, Ok(Told::Session(session))) => self.take_up(pid, session),
            (Asked::Session, _) => self.ask_later(pid),
            (Asked::Look(attempt), told)
                if self.step(pid, attempt) == Some(Step::Looking(ticket)) =>
            {
                match told {
                    Ok(Told::Dispatch(shown)) if shown.pid.as_ref() == Some(pid) => {
                        self.dispatched((pid, attempt), shown.response.as_ref());
                    }
                    Ok(_) => self.fail((pid, attempt), "its dispatch is somebody else's"),
                    Err(_) => self.forget(pid, attempt),
                }
            }
            (Asked::Poll | Asked::Look(_) | Asked::Dispatch(_) | Asked::Report { .. }, _) => {}
        }
    }

    /// Takes up the attempts of a process that waits for people, after a start: what their
    /// dispatches came to, or will, is reported as ever.
    fn take_up(&mut self, pid: &ProcessId, session: &SessionState) {
        let Some(hold) = self.held.get_mut(pid).filter(|hold| hold.found) else {
            return;
        };
        hold.found = false;
        let node = Principal::node().user;
        let own = session.live.iter().filter(|(_, attempt)| attempt.holder.user == node);
        for (id, attempt) in own {
            let query = Query::GetDispatch { dispatch: dispatch_of(id) };
            let errand = Errand::Of(pid.clone(), Asked::Look(id.clone()));
            let ticket = self.query(errand, query);
            if let Some(hold) = self.held.get_mut(pid) {
                let known = (attempt.agent.clone(), Step::Looking(ticket));
                hold.attempts.insert(id.clone(), known);
            }
        }
        self.rest(pid);
    }
}
