//! Who runs pipelines that the node drives: users that execute and answer, workers of the service
//! that its agents run at.
//!
//! Workers take tasks, end them well, badly, late, twice, or with what is no report; they crash and
//! forget what they have. Users execute again what they heard nothing of, and now and then what
//! they were answered, end some of it, ask questions, and ask what to do, which is the node's
//! alone. Whoever gets no answer asks the same again.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::collections::VecDeque;
use std::sync::Arc;

use machines::Choices;
use machines::kernel::dispatch::{Completion, Task};
use machines::kernel::event::{Body, Event};
use machines::kernel::ids::{InterruptId, LeaseId, ProcessId, ServiceName, ServiceType, UserId};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::interrupts::interrupt::{Interrupt, NewInterrupt, Response};
use machines::kernel::json::Json;
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{InterruptKind, OnExhausted, Priority, ReviewDecision};
use machines::kernel::principal::{Principal, Role};
use machines::kernel::process::Metadata;
use machines::kernel::quota::QuotaPatch;
use machines::kernel::reply::Done;
use machines::kernel::services::ServiceInfo;
use machines::kernel::sessions::execute::Execute;
use machines::kernel::sessions::start::EnvelopeChoice;
use machines::kernel::{Code, Command, CommandBody};

use super::flows::pipelines;
use super::io::{Crowd, Heard, Work};
use super::kernel::{Clerk, Reply};
use super::parts::{Names, USERS, id, place};

/// How many processes of a user are remembered.
const REMEMBERED: usize = 64;
/// The service that stages run at by default.
const SERVICE: &str = "flow_service";
/// Longer than a worker has a task.
const LATE_MS: u64 = 1_300;

/// What one caller remembers.
#[derive(Clone, Debug, Default)]
struct Caller {
    /// What it asks again.
    again: Option<Command>,
    /// It does nothing before.
    asleep_until: u64,
    /// Tasks that it works on.
    tasks: VecDeque<Task>,
    /// What it said last of a task.
    said: Option<CommandBody>,
    /// What it executed last, and was answered.
    executed: Option<CommandBody>,
    /// Whether its service is known to be there.
    registered: bool,
}

/// See the file's header.
#[derive(Clone, Debug)]
pub struct Driven {
    work: Work,
    callers: Vec<Caller>,
    names: Names,
    /// Processes that were executed, by user: the newest last.
    pids: Vec<VecDeque<ProcessId>>,
    executed: u64,
    /// Questions that nobody has answered, the newest last.
    asked: VecDeque<(usize, Interrupt)>,
}

fn service() -> ServiceName {
    id(ServiceName::parse("service", SERVICE))
}

impl Driven {
    fn user(&self, caller: u32) -> Option<u64> {
        let users = (self.work.callers / 2).max(1);
        (caller < users).then(|| u64::from(caller) % USERS)
    }

    fn principal(&self, caller: u32) -> Principal {
        let (name, role) = match self.user(caller) {
            Some(user) => (format!("user{user}"), Role::User),
            None => ("crew".to_owned(), Role::Worker),
        };
        Principal::new(id(UserId::parse("user", &name)), &[role])
    }

    fn some(&self, user: u64, who: [u64; 2], choices: &mut Choices) -> Option<ProcessId> {
        let pids = &self.pids[place(user)];
        let most = (pids.len() as u64).min(self.work.keys);
        let back = choices.choose("driven.process", who, most.max(1)) + 1;
        pids.len().checked_sub(place(back)).map(|at| pids[at].clone())
    }

    // ---- users

    fn use_it(&mut self, caller: u32, user: u64, choices: &mut Choices) -> Option<CommandBody> {
        let who = [u64::from(caller), 0];
        let pid = self.some(user, who, choices);
        match (choices.choose("driven.deed", who, 24), pid) {
            (0..=7, _) | (_, None) => self.execute(caller, user, choices),
            (8..=15, Some(_)) => self.answer(user, who, choices),
            (16 | 17, Some(pid)) => Some(CommandBody::NextInstruction { pid }),
            (18, Some(pid)) => {
                let message = "enough".to_owned();
                Some(CommandBody::Terminate { pid, message, force: true })
            }
            (19, Some(pid)) => {
                let interrupt = Box::new(NewInterrupt::new(InterruptKind::Confirmation));
                Some(CommandBody::CreateInterrupt { pid, interrupt })
            }
            (20, Some(_)) => self.callers[caller as usize].executed.clone(),
            (_, Some(_)) => None,
        }
    }

    fn execute(&mut self, caller: u32, user: u64, choices: &mut Choices) -> Option<CommandBody> {
        if self.work.records.is_some_and(|most| self.executed >= most) {
            return None;
        }
        self.executed += 1;
        let who = [u64::from(caller), 1];
        let pid = id(ProcessId::parse("pid", &self.names.next(caller, "x")));
        let pids = &mut self.pids[place(user)];
        pids.push_back(pid.clone());
        let over = pids.len().saturating_sub(REMEMBERED);
        pids.drain(..over);
        let forks = choices.choose("driven.forks", who, 3) == 2;
        let submit = Submit {
            pid: Some(pid),
            request: None,
            user: None,
            session: None,
            priority: Priority::ALL[place(choices.choose("driven.priority", who, 5))],
            quota: QuotaPatch::new(),
            parent: None,
            on_exhausted: OnExhausted::Terminate,
            driven: true,
            metadata: Metadata::new(),
        };
        let pipeline = pipelines::drawn(who, forks, choices);
        let envelope = EnvelopeChoice::New(Box::default());
        Some(CommandBody::ExecutePipeline(Box::new(Execute { submit, pipeline, envelope })))
    }

    /// Answers the oldest question of a user's.
    fn answer(&mut self, user: u64, who: [u64; 2], choices: &mut Choices) -> Option<CommandBody> {
        let at = self.asked.iter().position(|(whose, _)| *whose == place(user))?;
        let (_, asked) = self.asked.remove(at)?;
        let yes = choices.choose("driven.yes", who, 4) < 3;
        let hash = asked.target.as_ref().map(|target| target.hash);
        let mut response = Response { target_hash: hash, ..Response::default() };
        match asked.kind {
            InterruptKind::Clarification => response.text = Some(Arc::from("so be it")),
            InterruptKind::Confirmation => response.approved = Some(yes),
            InterruptKind::AgentReview => {
                let (good, bad) = (ReviewDecision::Approve, ReviewDecision::Reject);
                response.decision = Some(if yes { good } else { bad });
            }
            _ => {}
        }
        let id: InterruptId = asked.id;
        Some(CommandBody::ResolveInterrupt { id, response: Box::new(response) })
    }

    // ---- workers

    fn serve(&mut self, caller: u32, wall_ms: u64, choices: &mut Choices) -> Option<CommandBody> {
        let who = [u64::from(caller), 0];
        let me = &mut self.callers[caller as usize];
        if !me.registered {
            let kind = id(ServiceType::parse("type", "flow"));
            let mut info = ServiceInfo::new(service(), kind);
            info.max_concurrent = 6;
            return Some(CommandBody::RegisterService(Box::new(info)));
        }
        if choices.choose("driven.crash", who, 80) == 79 {
            me.tasks.clear();
        }
        let Some(task) = me.tasks.front().cloned() else {
            let max = u32::try_from(1 + choices.choose("driven.max", who, 3)).expect("few");
            return Some(CommandBody::LeaseTasks { service: service(), max });
        };
        match choices.choose("driven.task", who, 20) {
            17 => {
                me.asleep_until = wall_ms + LATE_MS;
                None
            }
            18 => {
                let (lease, pid) = (task.lease, None);
                Some(CommandBody::RenewLease { lease, pid, lease_ms: Some(1_500) })
            }
            19 => {
                me.tasks.pop_front(); // It forgets the task.
                None
            }
            16 => me.said.clone(),
            _ => {
                me.tasks.pop_front();
                let done = completed(&task, who, choices);
                me.said = Some(done.clone());
                Some(done)
            }
        }
    }
}

/// Ends a task, in one of many ways.
fn completed(task: &Task, who: [u64; 2], choices: &mut Choices) -> CommandBody {
    let lease: LeaseId = task.lease.clone();
    let agent = task.data.get("agent_name").and_then(Json::as_str).unwrap_or_default();
    let poor = agent.starts_with(pipelines::POOR);
    let done = |success, data, error: Option<&str>| {
        let error = error.map(str::to_owned);
        CommandBody::CompleteTask(Box::new(Completion {
            lease: lease.clone(),
            success,
            data,
            error,
            error_kind: None,
        }))
    };
    match choices.choose("driven.outcome", who, 24) {
        0 => done(false, None, Some("it broke")),
        1 => done(true, Some(Json::from("no report")), None),
        2 => done(true, Some(Json::object([("success", Json::from(3_u64))])), None),
        nth if poor || nth == 3 => {
            let report = [("success", Json::from(false)), ("error", Json::from("it failed"))];
            done(true, Some(Json::object(report)), None)
        }
        nth => done(true, Some(report(task, nth, who, choices)), None),
    }
}

/// What an agent made.
fn report(task: &Task, nth: u64, who: [u64; 2], choices: &mut Choices) -> Json {
    let value = choices.choose("driven.value", who, 4);
    let output = Json::object([
        ("v", Json::from(value)),
        ("notes", Json::from(value)),
        ("question", Json::from("which?")),
    ]);
    let mut entries = vec![("success", Json::from(true)), ("output", output)];
    let targets = task.data.get("router_targets").and_then(Json::as_list).unwrap_or_default();
    let chosen = choices.choose("driven.target", who, (targets.len() as u64).max(1));
    let target = targets.get(place(chosen)).and_then(|target| target.get("target"));
    entries.extend(target.map(|target| ("chosen_target", target.clone())));
    match nth {
        4 | 5 => {
            let kind = ["confirmation", "agent_review", "clarification"];
            let kind = kind[place(choices.choose("driven.kind", who, 3))];
            let asked = [
                ("kind", Json::from(kind)),
                ("question", Json::from("may I?")),
                ("ttl_ms", Json::from(200 + choices.choose("driven.ttl", who, 1_000))),
            ];
            entries.push(("interrupt", Json::object(asked)));
        }
        6 => entries.push(("break_loop", Json::from(true))),
        7 => entries.push(("release_process", Json::from(true))),
        _ => {}
    }
    Json::object(entries)
}

impl Crowd<Clerk> for Driven {
    fn new(work: &Work) -> Self {
        Self {
            work: work.clone(),
            callers: vec![Caller::default(); work.callers as usize],
            names: Names::new(work.callers),
            pids: vec![VecDeque::new(); place(USERS)],
            executed: 0,
            asked: VecDeque::new(),
        }
    }

    fn next(&mut self, caller: u32, wall_ms: u64, choices: &mut Choices) -> Option<Command> {
        let me = &mut self.callers[caller as usize];
        if let Some(again) = me.again.take() {
            return Some(again);
        }
        if me.asleep_until > wall_ms {
            return None;
        }
        let by = self.principal(caller);
        let body = match self.user(caller) {
            Some(user) => self.use_it(caller, user, choices)?,
            None => self.serve(caller, wall_ms, choices)?,
        };
        Some(Command { by, worker: None, rate: None, body })
    }

    fn heard(&mut self, caller: u32, request: &Command, heard: Heard<'_, Reply>) {
        let me = &mut self.callers[caller as usize];
        match heard {
            Heard::Nothing => me.again = Some(request.clone()),
            Heard::Reply(Ok(done)) => match &done.reply.done {
                Done::Process(_) if matches!(request.body, CommandBody::ExecutePipeline(_)) => {
                    me.executed = Some(request.body.clone());
                }
                Done::Tasks(tasks) => me.tasks.extend(tasks.iter().cloned()),
                Done::Service(_) => me.registered = true,
                _ => {}
            },
            Heard::Reply(Err(refusal)) => match refusal.code {
                Code::Busy | Code::DiskFull | Code::Overloaded | Code::NotDurable => {
                    me.again = Some(request.clone());
                }
                _ => {}
            },
        }
    }

    fn saw(&mut self, events: &[Event]) {
        for event in events {
            if let Body::Interrupt { event: InterruptEvent::Raised { interrupt } } = &event.body {
                let user = interrupt.user.as_str().strip_prefix("user");
                if let Some(user) = user.and_then(|nth| nth.parse().ok()) {
                    self.asked.push_back((user, interrupt.as_ref().clone()));
                }
            }
        }
        let over = self.asked.len().saturating_sub(REMEMBERED);
        self.asked.drain(..over);
    }
}
