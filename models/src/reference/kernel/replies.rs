//! What commands are answered, where it follows from the state: processes, budgets, sessions and
//! instructions (K240), interrupts, leases and dispatches.

#![expect(clippy::wildcard_enum_match_arm, reason = "whatever else is answered is wrong")]

use machines::kernel::dispatch::DispatchOutcome;
use machines::kernel::ids::{EnvelopeId, InterruptId, ProcessId, StageName};
use machines::kernel::names::{BlockReason, Outcome, ProcessState, TerminalReason};
use machines::kernel::query::budget::{Remaining, ResourceUse};
use machines::kernel::query::view::ProcessControlBlock;
use machines::kernel::quota::Resource;
use machines::kernel::reply::{Done, Reply};
use machines::kernel::sessions::instruction::{Instruction, InstructionBody, WaitReason};
use machines::kernel::sessions::task::AgentTask;
use machines::kernel::sessions::view::SessionState;
use machines::kernel::{Command, CommandBody, Time};

use super::Kernel;
use super::dispatch::Stage;
use super::lifecycle::limit_number;
use super::sessions::{Attempt, Work};

macro_rules! same {
    ($($what:expr => $model:expr, $machine:expr;)*) => {
        $(
            let (model, machine) = ($model, $machine);
            if model != machine {
                return Some(format!("reply: {}: {machine:?}, not {model:?}", $what));
            }
        )*
    };
}

impl Kernel {
    /// Says in what the reply to a command that was taken differs.
    #[must_use]
    pub fn reply_differs(&self, command: &Command, reply: &Reply) -> Option<String> {
        match (&command.body, &reply.done) {
            (CommandBody::Submit(submit), Done::Process(told)) => {
                let minted = self.minted.created.as_ref().map(|(pid, ..)| pid);
                let pid = submit.pid.as_ref().or(minted);
                self.process_differs(pid, told)
            }
            (CommandBody::NextRunnable, Done::Process(told)) => self.process_differs(None, told),
            (
                CommandBody::Schedule { pid }
                | CommandBody::TransitionState { pid, .. }
                | CommandBody::Terminate { pid, .. }
                | CommandBody::AdjustQuota { pid, .. },
                Done::Process(told),
            ) => self.process_differs(Some(pid), told),
            (CommandBody::Reserve(asked), Done::Reserved { reservation, until, remaining }) => {
                let id = asked.reservation.as_ref().or(self.minted.reservation.as_ref());
                let open = self.of(&asked.pid).open.get(reservation).map(|open| open.until);
                same! {
                    "reservation" => id, Some(reservation);
                    "until" => open, *until;
                }
                self.remaining_differs(&asked.pid, remaining)
            }
            (
                CommandBody::Settle { pid, .. } | CommandBody::Release { pid, .. },
                Done::Closed { usage, remaining },
            ) => self.usage_differs(pid, usage).or_else(|| self.remaining_differs(pid, remaining)),
            (CommandBody::RecordUsage(told), Done::Recorded { usage, within_bounds, exceeded }) => {
                let count = self.count_exceeded(&told.pid);
                same! {
                    "exceeded" => count, exceeded.len();
                    "within_bounds" => count == 0, *within_bounds;
                }
                self.usage_differs(&told.pid, usage)
            }
            (CommandBody::InitializeSession(asked), Done::Session(told)) => {
                self.session_told_differs(&asked.pid, told)
            }
            (CommandBody::NextInstruction { pid }, Done::Instruction(told)) => {
                self.instruction_differs(pid, told)
            }
            (CommandBody::ReportAgentResult(report), Done::Instruction(told)) => {
                self.instruction_differs(&report.pid, told)
            }
            (
                CommandBody::ResolveInterrupt { id, .. } | CommandBody::CancelInterrupt { id, .. },
                Done::Interrupt(told),
            ) => self.question_differs(id, told.status, told.closed_at),
            (CommandBody::CreateInterrupt { .. }, Done::Interrupt(told)) => {
                self.question_differs(&told.id, told.status, told.closed_at)
            }
            (CommandBody::ConsumeApproval(wanted), Done::Approval(told)) => {
                let known = self.approvals.get(&wanted.interrupt).map(|one| one.state);
                same! { "approval" => known, Some(told.state); }
                None
            }
            (
                CommandBody::Dispatch(_)
                | CommandBody::DispatchInference(_)
                | CommandBody::CancelDispatch { .. },
                Done::Dispatched { dispatch, response },
            ) => {
                let over = self.dispatches.get(dispatch).map(|one| match one.stage {
                    Stage::Over(outcome, _) => Some(outcome == DispatchOutcome::Succeeded),
                    Stage::Waiting { .. } | Stage::Pausing(_) | Stage::Running(_) => None,
                });
                same! { "response" => over, Some(response.as_ref().map(|told| told.success)); }
                None
            }
            (CommandBody::UpdateEnvelope { id, .. }, Done::Envelope { .. }) => {
                (!self.envelopes.contains_key(id)).then(|| format!("reply: {id} is shown"))
            }
            (CommandBody::AcquireSlot { .. }, Done::Leased { lease, until }) => {
                same! { "slot" => self.slots.get(lease).map(|one| one.until), Some(*until); }
                None
            }
            (
                CommandBody::Submit(_)
                | CommandBody::NextRunnable
                | CommandBody::Schedule { .. }
                | CommandBody::TransitionState { .. }
                | CommandBody::Terminate { .. }
                | CommandBody::AdjustQuota { .. }
                | CommandBody::Reserve(_)
                | CommandBody::Settle { .. }
                | CommandBody::Release { .. }
                | CommandBody::RecordUsage(_)
                | CommandBody::InitializeSession(_)
                | CommandBody::NextInstruction { .. }
                | CommandBody::ReportAgentResult(_)
                | CommandBody::CreateInterrupt { .. }
                | CommandBody::ResolveInterrupt { .. }
                | CommandBody::CancelInterrupt { .. }
                | CommandBody::ConsumeApproval(_),
                other,
            ) => Some(format!("reply: {other:?} is no answer to this")),
            // The rest says nothing, or what is compared as state.
            (_, _) => None,
        }
    }

    fn process_differs(
        &self,
        pid: Option<&ProcessId>,
        told: &ProcessControlBlock,
    ) -> Option<String> {
        let Some(process) = self.processes.get(&told.pid) else {
            return Some(format!("reply: {} is not known", told.pid));
        };
        if pid.is_some_and(|pid| *pid != told.pid) {
            return Some(format!("reply: of {}, not {pid:?}", told.pid));
        }
        same! {
            "state" => process.state, told.state;
            "user" => &process.user, &told.user_id;
            "created_at" => process.created_at, told.created_at;
            "terminal_reason" => process.reason, told.terminal_reason;
        }
        if process.state == ProcessState::Zombie {
            return None;
        }
        let session = self.sessions.get(&told.pid);
        same! {
            "pending" => self.pending_of(&told.pid), told.pending_interrupts.clone();
            "lease" => process.lease.as_ref().map(|one| &one.id),
                told.run_lease.as_ref().map(|one| &one.lease);
            "stage" => session.map(|one| &one.position), told.current_stage.as_ref();
        }
        self.usage_differs(&told.pid, &told.usage)
    }

    fn usage_differs(&self, pid: &ProcessId, told: &ResourceUse) -> Option<String> {
        let process = self.of(pid);
        for resource in Resource::ALL.into_iter().filter(|one| *one != Resource::ElapsedMs) {
            let (used, shown) = (process.used(resource), told.used.of(resource));
            same! { format!("used {resource:?}") => used, shown; }
        }
        let elapsed = process.elapsed(self.last);
        same! { "elapsed_ms" => elapsed, told.used.of(Resource::ElapsedMs); }
        for resource in Resource::RESERVABLE {
            let of = |sums: &super::process::Sums| sums.get(&resource).copied().unwrap_or(0);
            same! {
                format!("held {resource:?}") => of(&process.held), told.held.of(resource);
                format!("unreserved {resource:?}") =>
                    of(&process.unreserved), told.unreserved.of(resource);
            }
        }
        None
    }

    /// K116: what rolls up takes the least over the process, its session and those above.
    fn remaining_differs(&self, pid: &ProcessId, told: &Remaining) -> Option<String> {
        for resource in Resource::ALL {
            let process = self.of(pid);
            let rolls = Resource::RESERVABLE.contains(&resource);
            let above = if rolls { &process.ancestors[..] } else { &[] };
            let levels = std::iter::once(pid).chain(above);
            let left = |of: &ProcessId| {
                let of = self.of(of);
                let taken = match resource {
                    Resource::ElapsedMs => of.elapsed(self.last),
                    _ => of.taken(resource),
                };
                of.quota.limit(resource).most().map(|most| most.saturating_sub(taken))
            };
            let session = self.running(pid).filter(|_| resource == Resource::LlmCalls);
            let session = session.and_then(|session| {
                let limit = session.pipeline.max_llm_calls;
                let base = session.base.get(&resource).copied().unwrap_or(0);
                let used = process.taken(resource).saturating_sub(base);
                limit.most().map(|most| most.saturating_sub(used))
            });
            let least = levels.filter_map(left).chain(session).min();
            if resource != Resource::ContextTokens {
                same! { format!("remaining {resource:?}") => least, told.of(resource); }
            }
        }
        None
    }

    /// Resources of which more is used than allowed (K115), here and above.
    fn count_exceeded(&self, pid: &ProcessId) -> usize {
        let process = self.of(pid);
        let own = Resource::ALL.into_iter().filter(|one| match one {
            Resource::ElapsedMs => {
                process.elapsed(self.last) > limit_number(process.quota.timeout_ms)
            }
            _ => process.used(*one) > limit_number(process.quota.limit(*one)),
        });
        let above = process.ancestors.iter().map(|above| {
            let above = self.of(above);
            let over = |one: &Resource| above.used(*one) > limit_number(above.quota.limit(*one));
            Resource::RESERVABLE.iter().filter(|one| over(one)).count()
        });
        own.count() + above.sum::<usize>()
    }

    fn question_differs(
        &self,
        id: &InterruptId,
        status: machines::kernel::names::InterruptStatus,
        closed_at: Option<Time>,
    ) -> Option<String> {
        let known = self.interrupts.get(id).map(|one| (one.status, one.closed_at));
        same! { "interrupt" => known, Some((status, closed_at)); }
        None
    }

    fn session_told_differs(&self, pid: &ProcessId, told: &SessionState) -> Option<String> {
        let session = self.session(pid);
        let live: Vec<_> = session.live().into_iter().map(|(_, live)| live.id).collect();
        let stages = session.pipeline.stages.iter().map(|stage| stage.name.clone());
        same! {
            "pid" => pid, &told.pid;
            "envelope" => &session.envelope, &told.envelope;
            "position" => &session.position, &told.position;
            "stage_order" => stages.collect::<Vec<StageName>>(), told.stage_order.clone();
            "visits" => &session.visits, &told.visits;
            "edges" => &session.edges, &told.edges;
            "live" => live.len(), told.live.len();
            "ended" => session.ended.is_some(), told.ended.is_some();
        }
        None
    }

    /// K240.
    fn instruction_differs(&self, pid: &ProcessId, told: &Instruction) -> Option<String> {
        same! { "pid" => pid, &told.pid; }
        let (process, session) = (self.of(pid), self.session(pid));
        if let Some((reason, message)) = &session.ended {
            let InstructionBody::Terminate { reason: real, outcome, message: text } = &told.body
            else {
                return Some(format!("reply: {:?}, not the end", told.body));
            };
            same! {
                "reason" => reason, real;
                "outcome" => outcome_of(*reason), *outcome;
                "message" => message.as_deref().unwrap_or(text), &**text;
            }
            return None;
        }
        let blocking = |id: &&InterruptId| self.interrupts[*id].blocking;
        if let Some(oldest) = self.pending_of(pid).iter().find(blocking) {
            return match &told.body {
                InstructionBody::WaitInterrupt { interrupt: Some(asked) }
                    if asked.id == *oldest =>
                {
                    None
                }
                other => Some(format!("reply: {other:?}, not a wait for {oldest}")),
            };
        }
        let live = session.works.iter().filter_map(|work| Some((work, work.live()?)));
        let live: Vec<(&Work, &Attempt)> = live.collect();
        if !live.is_empty() {
            return self.tasks_differ(pid, &live, told);
        }
        let (now, open) = (self.now, session.works.iter().filter(|work| !work.has_ended()));
        let rests = session.group.is_some() && !open.clone().any(|work| work.is_due(now));
        if rests {
            let stages: Vec<StageName> = open.clone().map(|work| work.stage.clone()).collect();
            return match &told.body {
                InstructionBody::WaitParallel { outstanding, until } => {
                    same! {
                        "outstanding" => &stages, outstanding;
                        "until" => open.filter_map(Work::waits_until).min(), *until;
                    }
                    None
                }
                other => Some(format!("reply: {other:?}, not a wait for {stages:?}")),
            };
        }
        let block = process.block.as_ref();
        let wait = match (process.state, block.map(|block| block.reason)) {
            (ProcessState::Blocked, Some(BlockReason::Backoff)) => WaitReason::Backoff,
            (ProcessState::Blocked, Some(BlockReason::Rate)) => WaitReason::Rate,
            (ProcessState::Blocked | ProcessState::Waiting, _) => WaitReason::Blocked,
            (_, _) if self.drain.is_some() => WaitReason::Draining,
            (_, _) => WaitReason::Released,
        };
        let expected = (wait, block.and_then(|block| block.until));
        match &told.body {
            InstructionBody::Wait { reason, until } if (*reason, *until) == expected => None,
            other => Some(format!("reply: {other:?}, not a wait {expected:?}")),
        }
    }

    /// One task, or in a group those of all live attempts (K240 e).
    fn tasks_differ(
        &self,
        pid: &ProcessId,
        live: &[(&Work, &Attempt)],
        told: &Instruction,
    ) -> Option<String> {
        let session = self.session(pid);
        let tasks: Vec<&AgentTask> = match &told.body {
            InstructionBody::RunAgent(task) if session.group.is_none() => vec![task],
            InstructionBody::RunAgents(tasks) if session.group.is_some() => tasks.iter().collect(),
            other => return Some(format!("reply: {other:?}, not {} tasks", live.len())),
        };
        same! { "tasks" => live.len(), tasks.len(); }
        let idle = session.works.iter().filter(|work| !work.has_ended() && work.live().is_none());
        let waits = |work: &Work| work.waits_until().is_some_and(|until| until > self.now);
        if session.group.is_some() && idle.clone().all(waits) {
            same! { "until" => idle.filter_map(Work::waits_until).min(), told.until; }
        }
        let mut pairs = live.iter().zip(tasks);
        pairs.find_map(|((work, attempt), task)| self.task_differs(pid, (work, attempt), task))
    }

    /// K243.
    fn task_differs(
        &self,
        pid: &ProcessId,
        (work, attempt): (&Work, &Attempt),
        task: &AgentTask,
    ) -> Option<String> {
        let (process, session) = (self.of(pid), self.session(pid));
        let stage = session.stage(&work.stage);
        let answer = attempt.answer.as_ref();
        let lease = process.lease.as_ref();
        let news = answer.map(|answer| &answer.interrupt);
        let approval = news.and_then(|id| self.approvals.get(id)).map(|one| one.state);
        let targets: Vec<&str> = task.router_targets.iter().map(|to| to.target.as_str()).collect();
        same! {
            "attempt" => &attempt.id, &task.attempt;
            "stage" => &work.stage, &task.stage;
            "agent" => &attempt.agent, &task.agent;
            "config" => stage.agent_config.as_ref(), Some(&task.config);
            "service" => stage.service.as_ref().unwrap_or(&self.config.default_service),
                &task.service;
            "visit" => work.visit, task.visit;
            "try" => attempt.try_number, task.try_number;
            "branch" => attempt.branch, task.branch;
            "deadline" => attempt.deadline, task.deadline;
            "lease" => lease.map(|lease| &lease.id), task.lease.as_ref();
            "lease_until" => lease.map(|lease| lease.until), task.lease_until;
            "required" => &stage.required_output_fields, &task.required_output_fields;
            "targets" => attempt.targets.iter().map(StageName::as_str).collect::<Vec<_>>(), targets;
            "max_tool_rounds" => stage.max_tool_rounds, task.max_tool_rounds;
            "interrupt" => news, task.interrupt.as_ref();
            "interrupt_expired" => answer.is_some_and(|one| one.expired), task.interrupt_expired;
            "interrupt_response" => answer.and_then(|one| one.response.as_ref()),
                task.interrupt_response.as_ref();
            "approval" => approval, task.approval.as_ref().map(|one| one.state);
            "prior_error" => work.failure.as_ref().map(|(kind, _)| *kind),
                task.prior_error.as_ref().map(|failure| failure.kind);
        }
        let hidden = ["history", "errors", "prior_outputs"];
        let shown = hidden.iter().find(|key| task.context.get(key).is_some());
        shown
            .map(|key| format!("reply: {key} is in the context"))
            .or_else(|| self.context_differs(&session.envelope, task))
    }

    fn context_differs(&self, id: &EnvelopeId, task: &AgentTask) -> Option<String> {
        let envelope = &self.envelopes[id];
        let outputs = envelope.outputs.iter().map(|(key, it)| (key.as_str(), it.clone()));
        let outputs = machines::kernel::json::Json::object(outputs);
        let shown = task.context.get("outputs");
        same! { "context.outputs" => Some(&outputs), shown; }
        None
    }
}

/// The outcome of a reason, by the table of 2.2.
fn outcome_of(reason: TerminalReason) -> Outcome {
    match reason {
        TerminalReason::Completed | TerminalReason::BreakRequested => Outcome::Completed,
        TerminalReason::MaxIterationsExceeded
        | TerminalReason::MaxLlmCallsExceeded
        | TerminalReason::MaxAgentHopsExceeded
        | TerminalReason::MaxLoopExceeded
        | TerminalReason::MaxStageVisitsExceeded
        | TerminalReason::EdgeLimitExceeded
        | TerminalReason::TimeoutExceeded
        | TerminalReason::QuotaExceeded => Outcome::BoundsExceeded,
        TerminalReason::UserCancelled
        | TerminalReason::InterruptDenied
        | TerminalReason::ParentTerminated
        | TerminalReason::KernelShutdown => Outcome::Cancelled,
        TerminalReason::ToolFailedFatally
        | TerminalReason::LlmFailedFatally
        | TerminalReason::PolicyViolation
        | TerminalReason::InterruptExpired
        | TerminalReason::SystemError => Outcome::Failed,
    }
}
