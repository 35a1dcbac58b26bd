//! What workers do: claim, poll, spend, report, fail, oversleep and crash.

use std::collections::VecDeque;
use std::sync::Arc;

use machines::Choices;
use machines::kernel::CommandBody;
use machines::kernel::budget::{Record, Reserve};
use machines::kernel::ids::{AttemptId, ProcessId, RecordId, ReservationId, StageName, UseId};
use machines::kernel::interrupts::approval::{Approval, Use};
use machines::kernel::interrupts::interrupt::{NewInterrupt, NewTarget};
use machines::kernel::json::Json;
use machines::kernel::names::{ApprovalState, ExpiryPolicy, InterruptKind};
use machines::kernel::pipeline::kinds::ErrorKind;
use machines::kernel::quota::Amounts;
use machines::kernel::sessions::instruction::InstructionBody;
use machines::kernel::sessions::report::{Metrics, Report};
use machines::kernel::sessions::task::AgentTask;

use super::pipelines::POOR;
use super::{Flows, USERS, approvals, id, place};

/// What is asked leave for.
pub(super) const ACTION: &str = "pay";
/// How much is remembered of what is to be told late.
const LATE_MAX: usize = 8;

/// What a worker has on its hands.
#[derive(Clone, Debug, Default)]
pub(super) struct Worker {
    /// The process that it holds.
    held: Option<ProcessId>,
    /// What is to be done for it.
    tasks: Vec<AgentTask>,
    /// Polls more before it does anything.
    polls: u64,
    /// An open reservation of an attempt.
    reserved: Option<(ReservationId, ProcessId)>,
    /// What it told last.
    told: Option<Report>,
    /// What it has slept over: it does not know that nobody waits for it.
    late: VecDeque<(ProcessId, AgentTask)>,
    /// There was nothing to do when it asked.
    pub(super) idle: bool,
}

impl Worker {
    pub(super) fn claim(&mut self, pid: ProcessId) {
        self.held = Some(pid);
        self.tasks.clear();
        self.reserved = None;
    }

    /// Forgets what it holds.
    pub(super) fn let_go(&mut self) {
        self.held = None;
        self.tasks.clear();
        self.reserved = None;
        self.polls = 0;
    }

    /// Does not know what it has to do: it will ask.
    pub(super) fn doubt(&mut self) {
        self.tasks.clear();
        self.polls = 1;
    }

    /// Takes an instruction.
    pub(super) fn follow(&mut self, pid: &ProcessId, told: &InstructionBody) {
        match told {
            InstructionBody::RunAgent(task) => self.take(pid, vec![(**task).clone()]),
            InstructionBody::RunAgents(tasks) => self.take(pid, tasks.clone()),
            InstructionBody::WaitParallel { .. } => self.take(pid, Vec::new()),
            InstructionBody::Terminate { .. }
            | InstructionBody::WaitInterrupt { .. }
            | InstructionBody::Wait { .. } => {
                // A second look costs nothing.
                let polls = self.polls;
                self.let_go();
                if polls > 0 {
                    self.polls = polls;
                    self.held = Some(pid.clone());
                }
            }
        }
    }

    fn take(&mut self, pid: &ProcessId, tasks: Vec<AgentTask>) {
        self.held = Some(pid.clone());
        self.tasks = tasks;
    }

    /// Forgets everything, and perhaps wakes up with old work.
    fn oversleep(&mut self) {
        if let Some(pid) = self.held.clone() {
            let tasks = self.tasks.drain(..).map(|task| (pid.clone(), task));
            self.late.extend(tasks);
            self.late.truncate(LATE_MAX);
        }
        self.let_go();
    }
}

impl Flows {
    fn hands(&mut self, caller: u32) -> &mut Worker {
        &mut self.callers[caller as usize].worker
    }

    pub(super) fn work_on(&mut self, caller: u32, choices: &mut Choices) -> Option<CommandBody> {
        let me = self.hands(caller);
        if std::mem::take(&mut me.idle) && me.held.is_none() {
            return None;
        }
        Some(self.do_something(caller, choices))
    }

    fn do_something(&mut self, caller: u32, choices: &mut Choices) -> CommandBody {
        let who = [u64::from(caller), 0];
        let often = if self.is_rough() { 25 } else { 60 };
        match choices.choose("flow.crash", who, often) {
            0 => self.hands(caller).let_go(),
            1 => self.hands(caller).oversleep(),
            _ => {}
        }
        if choices.choose("flow.late", who, 12) == 11
            && let Some((pid, task)) = self.hands(caller).late.pop_front()
        {
            return self.report(caller, &pid, &task, choices);
        }
        let Some(pid) = self.hands(caller).held.clone() else {
            return self.look_for_work(who, choices);
        };
        let me = self.hands(caller);
        if me.tasks.is_empty() || me.polls > 0 {
            me.polls = me.polls.saturating_sub(1);
            if choices.choose("flow.give-up", who, 12) == 11 {
                self.hands(caller).let_go();
            }
            return CommandBody::NextInstruction { pid };
        }
        self.go_on(caller, pid, choices)
    }

    /// Takes the next, or somebody's own.
    fn look_for_work(&mut self, who: [u64; 2], choices: &mut Choices) -> CommandBody {
        if choices.choose("flow.own", who, 10) == 9 {
            let user = choices.choose("flow.user", who, USERS);
            if let Some(pid) = self.some(user, who, choices) {
                return CommandBody::NextInstruction { pid };
            }
        }
        CommandBody::NextRunnable
    }

    /// Does something for one of its tasks.
    fn go_on(&mut self, caller: u32, pid: ProcessId, choices: &mut Choices) -> CommandBody {
        let who = [u64::from(caller), 0];
        if let Some((reservation, of)) = self.hands(caller).reserved.take() {
            match choices.choose("flow.end", who, 4) {
                0 | 1 => {
                    let actual = spend(who, choices);
                    return CommandBody::Settle { pid: of, reservation, actual };
                }
                2 => return CommandBody::Release { pid: of, reservation },
                _ => {} // It forgets the reservation.
            }
        }
        let most = self.hands(caller).tasks.len() as u64;
        let task = place(choices.choose("flow.task", who, most));
        let task = self.hands(caller).tasks[task].clone();
        let granted = task.approval.as_ref().is_some_and(is_granted);
        if granted && choices.choose("flow.consume", who, 2) == 1 {
            return self.consume(caller, &task, choices);
        }
        match choices.choose("flow.step", who, 14) {
            0 | 1 => {
                self.hands(caller).polls = choices.choose("flow.polls", who, 3);
                CommandBody::NextInstruction { pid }
            }
            2 => self.reserve(caller, pid, &task, choices),
            3 => {
                let record = id(RecordId::parse("record_id", &self.names.next(caller, "rec")));
                let (amounts, attempt) = (spend(who, choices), Some(task.attempt.clone()));
                let record = Some(record);
                let told = Record { pid, amounts, agent_hops: 0, attempt, record };
                CommandBody::RecordUsage(Box::new(told))
            }
            4 => match task.lease {
                Some(lease) => CommandBody::RenewLease { lease, pid: None, lease_ms: None },
                None => CommandBody::NextInstruction { pid },
            },
            5 => match self.hands(caller).told.clone() {
                Some(again) => CommandBody::ReportAgentResult(Box::new(again)),
                None => CommandBody::NextInstruction { pid },
            },
            _ => self.report(caller, &pid, &task, choices),
        }
    }

    fn reserve(
        &mut self,
        caller: u32,
        pid: ProcessId,
        task: &AgentTask,
        choices: &mut Choices,
    ) -> CommandBody {
        let reservation = id(ReservationId::parse("id", &self.names.next(caller, "rsv")));
        self.hands(caller).reserved = Some((reservation.clone(), pid.clone()));
        let amounts = spend([u64::from(caller), 0], choices);
        let (reservation, attempt) = (Some(reservation), Some(task.attempt.clone()));
        let reserve = Reserve { pid, reservation, attempt, amounts, lease_ms: None };
        CommandBody::Reserve(Box::new(reserve))
    }

    /// Uses the leave that was given; now and then for more than was shown.
    fn consume(&mut self, caller: u32, task: &AgentTask, choices: &mut Choices) -> CommandBody {
        let interrupt = task.interrupt.clone().expect("leave was given by an answer");
        let modified = task.interrupt_response.as_ref().and_then(|said| said.get("data"));
        let mut params = modified.cloned().unwrap_or_else(|| payment(10));
        if choices.choose("flow.greedy", [u64::from(caller), 0], 4) == 3 {
            params = payment(1_000);
        }
        let use_id = id(UseId::parse("use_id", &self.names.next(caller, "use")));
        let wanted = Use { interrupt, action: Arc::from(ACTION), params, use_id };
        CommandBody::ConsumeApproval(Box::new(wanted))
    }

    /// Tells what came of a task, in one of many ways.
    fn report(
        &mut self,
        caller: u32,
        pid: &ProcessId,
        task: &AgentTask,
        choices: &mut Choices,
    ) -> CommandBody {
        let who = [u64::from(caller), 1];
        let mut report = success(pid, &task.attempt, task, who, choices);
        let poor = task.agent.as_str().starts_with(POOR);
        let failing = if self.is_rough() { 6 } else { 3 };
        match choices.choose("flow.outcome", who, 24) {
            nth if poor || nth < failing => fail(&mut report, who, choices),
            10 | 11 => report.interrupt = Some(Box::new(question(who, choices))),
            12 => report.output = None,
            13 => report.break_loop = true,
            14 => report.chosen_target = None,
            15 => report.feedback = Some(Arc::from("once more")),
            _ => {}
        }
        if self.asks_leave() {
            approvals::color(&mut report, task, who, choices);
        }
        report.release_process = choices.choose("flow.release", who, 10) == 9;
        let me = self.hands(caller);
        me.tasks.retain(|other| other.attempt != task.attempt);
        me.told = Some(report.clone());
        CommandBody::ReportAgentResult(Box::new(report))
    }
}

fn is_granted(approval: &Approval) -> bool {
    approval.state == ApprovalState::Granted
}

pub(super) fn payment(sum: u64) -> Json {
    Json::object([("sum", Json::from(sum))])
}

fn success(
    pid: &ProcessId,
    attempt: &AttemptId,
    task: &AgentTask,
    who: [u64; 2],
    choices: &mut Choices,
) -> Report {
    let value = choices.choose("flow.value", who, 4);
    let output = Json::object([
        ("v", Json::from(value)),
        ("notes", Json::from(value)),
        ("question", Json::from("which?")),
    ]);
    let targets = &task.router_targets;
    let chosen = choices.choose("flow.target", who, (targets.len() as u64).max(1));
    let chosen = targets.get(place(chosen)).map(|target| target.target.as_str());
    let amounts = spend(who, choices);
    Report {
        pid: pid.clone(),
        attempt: attempt.clone(),
        agent: task.agent.clone(),
        success: true,
        output: Some(output),
        error: None,
        error_kind: None,
        metrics: Metrics {
            llm_calls: amounts.llm_calls,
            tool_calls: amounts.tool_calls,
            ..Metrics::default()
        },
        interrupt: None,
        break_loop: false,
        chosen_target: chosen.map(|name| id(StageName::parse("target", name))),
        feedback: None,
        release_process: false,
    }
}

fn fail(report: &mut Report, who: [u64; 2], choices: &mut Choices) {
    report.success = false;
    report.output = None;
    report.chosen_target = None;
    report.error = Some(Arc::from("it broke"));
    report.error_kind = match choices.choose("flow.error", who, 8) {
        0 => Some(ErrorKind::Policy),
        1..=3 => Some(ErrorKind::Llm),
        _ => Some(ErrorKind::Tool),
    };
}

/// What a stage asks a person.
fn question(who: [u64; 2], choices: &mut Choices) -> NewInterrupt {
    let kinds =
        [InterruptKind::Confirmation, InterruptKind::AgentReview, InterruptKind::Clarification];
    let kind = kinds[place(choices.choose("flow.kind", who, kinds.len() as u64))];
    let mut new = NewInterrupt::new(kind);
    new.question = Some(Arc::from("may I?"));
    new.ttl = Some(200 + choices.choose("flow.ttl", who, 1_500));
    if kind.asks_leave() {
        let (action, params) = (Arc::from(ACTION), payment(10));
        new.target = Some(Box::new(NewTarget { action, params, binds: Vec::new() }));
    }
    new.on_expiry = match choices.choose("flow.expiry", who, 4) {
        0 => Some(ExpiryPolicy::Escalate),
        1 => Some(ExpiryPolicy::Fail),
        2 => Some(ExpiryPolicy::Deny),
        _ => None,
    };
    new
}

/// Some calls of models and tools.
fn spend(who: [u64; 2], choices: &mut Choices) -> Amounts {
    Amounts {
        llm_calls: choices.choose("flow.calls", who, 3),
        tool_calls: choices.choose("flow.tools", who, 2),
        ..Amounts::ZERO
    }
}
