//! Who uses the kernel: users that submit and end, workers that claim and spend, an operator.
//!
//! Each caller is one of them. Whoever gets no answer asks the same again, with the same ids; now
//! and then somebody asks again though it was answered. Workers crash: they forget what they hold,
//! and leave it to its lease.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::sync::Arc;

use machines::Choices;
use machines::kernel::budget::{Record, Reserve};
use machines::kernel::event::{Body, Event, ProcessEvent};
use machines::kernel::ids::{InterruptId, ProcessId, RecordId, ReservationId, WorkerId};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::interrupts::interrupt::{NewInterrupt, Response};
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{
    ExpiryPolicy, InterruptKind, OnExhausted, Priority, ProcessState, ReviewDecision,
};
use machines::kernel::process::Metadata;
use machines::kernel::quota::{Amounts, Limit, QuotaField};
use machines::kernel::{Code, Command, CommandBody};

use super::io::{Crowd, Heard, Script, Work};
use super::kernel::{Clerk, Reply};
use super::parts::{Names, Part, USERS, id, place};

/// What one caller remembers.
#[derive(Clone, Debug, Default)]
struct Caller {
    /// What it asks again.
    again: Option<Command>,
    /// What a worker holds.
    held: Option<ProcessId>,
    /// An open reservation of that.
    reserved: Option<ReservationId>,
    /// Whether the last question was a repeat, not to be repeated again.
    repeating: bool,
}

/// See the file's header.
#[derive(Clone, Debug)]
pub struct Users {
    work: Work,
    callers: Vec<Caller>,
    names: Names,
    /// Processes that were submitted, by user: the newest last.
    pids: Vec<Vec<ProcessId>>,
    /// How many processes were taken.
    taken: u64,
    /// Questions that were asked, by user: the newest last.
    asked: Vec<Vec<(InterruptId, InterruptKind)>>,
}

impl Users {
    fn deed(&mut self, caller: u32, choices: &mut Choices) -> Option<CommandBody> {
        match Part::of(&self.work, caller) {
            Part::Operator => self.operate(caller, choices),
            Part::User(user) => self.use_it(caller, user, choices),
            Part::Worker => Some(self.work_on(caller, choices)),
        }
    }

    /// One of the newest processes of a user.
    fn some(&self, user: u64, who: [u64; 2], choices: &mut Choices) -> Option<ProcessId> {
        let pids = &self.pids[place(user)];
        let most = (pids.len() as u64).min(self.work.keys);
        let back = choices.choose("user.process", who, most.max(1)) + 1;
        pids.len().checked_sub(usize::try_from(back).expect("small")).map(|at| pids[at].clone())
    }

    fn use_it(&mut self, caller: u32, user: u64, choices: &mut Choices) -> Option<CommandBody> {
        let who = [u64::from(caller), 0];
        let most = if self.work.script == Script::Queue { 3 } else { 14 };
        let pid = self.some(user, who, choices);
        Some(match (choices.choose("user.deed", who, most), pid) {
            (0, _) | (_, None) => self.submit(caller, user, choices)?,
            (1..=3, Some(pid)) => CommandBody::Schedule { pid },
            (9..=10, Some(_)) => self.submit(caller, user, choices)?,
            (4, Some(pid)) => {
                let amounts = spend(who, choices);
                let record = id(RecordId::parse("record_id", &self.names.next(caller, "rec")));
                let told =
                    Record { pid, amounts, agent_hops: 0, attempt: None, record: Some(record) };
                CommandBody::RecordUsage(Box::new(told))
            }
            (5, Some(pid)) => {
                let limit = Limit::at_most(choices.choose("user.limit", who, 30));
                CommandBody::AdjustQuota { pid, quota: vec![(QuotaField::MaxLlmCalls, limit)] }
            }
            (6, Some(pid)) => CommandBody::CleanupProcess { pid },
            (7, Some(pid)) => {
                let force = choices.choose("user.force", who, 2) == 1;
                CommandBody::Terminate { pid, message: "enough".to_owned(), force }
            }
            (8, Some(pid)) => transition(pid, who, choices),
            (11, Some(pid)) => self.question(caller, pid, choices),
            (12, Some(pid)) => match self.answer(user, who, choices) {
                Some(answer) => answer,
                None => self.question(caller, pid, choices),
            },
            (_, Some(pid)) => CommandBody::Schedule { pid },
        })
    }

    /// Asks a person something.
    fn question(&mut self, caller: u32, pid: ProcessId, choices: &mut Choices) -> CommandBody {
        let who = [u64::from(caller), 2];
        let kinds = [
            InterruptKind::Clarification,
            InterruptKind::Confirmation,
            InterruptKind::AgentReview,
            InterruptKind::Checkpoint,
            InterruptKind::SystemError,
        ];
        let kind = choices.choose("user.question", who, kinds.len() as u64);
        let kind = kinds[usize::try_from(kind).expect("one of five")];
        let mut new = NewInterrupt::new(kind);
        new.question = Some(Arc::from("may I?"));
        new.key = Some(Arc::from(self.names.next(caller, "ask")));
        new.ttl = Some(300 + choices.choose("user.ttl", who, 4_000));
        if !kind.asks_leave() {
            new.blocking = Some(choices.choose("user.blocking", who, 2) == 0);
        }
        if choices.choose("user.escalate", who, 3) == 2 && kind != InterruptKind::Checkpoint {
            new.on_expiry = Some(ExpiryPolicy::Escalate);
        }
        CommandBody::CreateInterrupt { pid, interrupt: Box::new(new) }
    }

    /// Answers one of the newest questions of a user, or takes it back.
    fn answer(&self, user: u64, who: [u64; 2], choices: &mut Choices) -> Option<CommandBody> {
        let asked = &self.asked[place(user)];
        let back = choices.choose("user.answer", who, 8) + 1;
        let place = asked.len().checked_sub(usize::try_from(back).expect("small"))?;
        let (id, kind) = asked[place].clone();
        if choices.choose("user.cancel", who, 5) == 4 {
            return Some(CommandBody::CancelInterrupt { id, reason: "never mind".to_owned() });
        }
        let yes = choices.choose("user.yes", who, 2) == 0;
        let mut response = Response::default();
        match kind {
            InterruptKind::Clarification => response.text = Some(Arc::from("so be it")),
            InterruptKind::Confirmation => response.approved = Some(yes),
            InterruptKind::AgentReview => {
                let (good, bad) = (ReviewDecision::Approve, ReviewDecision::Reject);
                response.decision = Some(if yes { good } else { bad });
            }
            InterruptKind::Checkpoint
            | InterruptKind::ResourceExhausted
            | InterruptKind::Timeout
            | InterruptKind::SystemError => {}
        }
        Some(CommandBody::ResolveInterrupt { id, response: Box::new(response) })
    }

    /// Remembers what was asked, with the id that it got.
    fn remember(&mut self, caller: u32, events: &[Event]) {
        let Part::User(user) = Part::of(&self.work, caller) else {
            return;
        };
        let asked = &mut self.asked[place(user)];
        for event in events {
            if let Body::Interrupt { event: InterruptEvent::Raised { interrupt } } = &event.body {
                asked.push((interrupt.id.clone(), interrupt.kind));
            }
        }
    }

    fn submit(&mut self, caller: u32, user: u64, choices: &mut Choices) -> Option<CommandBody> {
        if !self.is_short() && self.work.records.is_some() {
            return None;
        }
        let who = [u64::from(caller), 1];
        let pid = id(ProcessId::parse("pid", &self.names.next(caller, "p")));
        let parent = match choices.choose("user.parent", who, 4) {
            3 => self.some(user, who, choices),
            _ => None,
        };
        let priority = choices.choose("user.priority", who, 5);
        let priority = Priority::ALL[usize::try_from(priority).expect("one of five")];
        let calls = Limit::at_most(4 + choices.choose("user.limit", who, 12));
        let quota = match self.work.script {
            Script::Queue => Vec::new(),
            _ => vec![(QuotaField::MaxLlmCalls, calls)],
        };
        let pids = &mut self.pids[place(user)];
        pids.push(pid.clone());
        if pids.len() > 2_000 {
            pids.drain(..1_000);
        }
        Some(CommandBody::Submit(Box::new(Submit {
            pid: Some(pid),
            request: None,
            user: None,
            session: None,
            priority,
            quota,
            parent,
            on_exhausted: OnExhausted::Terminate,
            driven: false,
            metadata: Metadata::new(),
        })))
    }

    fn operate(&mut self, caller: u32, choices: &mut Choices) -> Option<CommandBody> {
        let who = [u64::from(caller), 0];
        let user = choices.choose("operator.user", who, USERS);
        let pid = self.some(user, who, choices)?;
        Some(match choices.choose("operator.deed", who, 6) {
            0..=2 => transition(pid, who, choices),
            3 => CommandBody::CleanupProcess { pid },
            4 => {
                let limit = Limit::at_most(10 + choices.choose("operator.limit", who, 40));
                CommandBody::AdjustQuota { pid, quota: vec![(QuotaField::MaxLlmCalls, limit)] }
            }
            _ => CommandBody::Terminate { pid, message: "stop".to_owned(), force: true },
        })
    }

    fn work_on(&mut self, caller: u32, choices: &mut Choices) -> CommandBody {
        let who = [u64::from(caller), 0];
        let me = &mut self.callers[caller as usize];
        if choices.choose("worker.crash", who, 40) == 39 {
            (me.held, me.reserved) = (None, None);
        }
        let Some(pid) = me.held.clone() else {
            return CommandBody::NextRunnable;
        };
        if self.work.script == Script::Queue {
            me.held = None;
            return CommandBody::Terminate { pid, message: "done".to_owned(), force: true };
        }
        if let Some(reservation) = me.reserved.take() {
            return match choices.choose("worker.end", who, 5) {
                0..=2 => CommandBody::Settle { pid, reservation, actual: spend(who, choices) },
                3 => CommandBody::Release { pid, reservation },
                _ => CommandBody::Schedule { pid }, // It forgets the reservation.
            };
        }
        match choices.choose("worker.deed", who, 8) {
            0..=3 => {
                let reservation = id(ReservationId::parse("id", &self.names.next(caller, "rsv")));
                let amounts = spend(who, choices);
                self.callers[caller as usize].reserved = Some(reservation.clone());
                let reservation = Some(reservation);
                let reserve = Reserve { pid, reservation, attempt: None, amounts, lease_ms: None };
                CommandBody::Reserve(Box::new(reserve))
            }
            4 => {
                let record = id(RecordId::parse("record_id", &self.names.next(caller, "rec")));
                let amounts = spend(who, choices);
                let told =
                    Record { pid, amounts, agent_hops: 1, attempt: None, record: Some(record) };
                CommandBody::RecordUsage(Box::new(told))
            }
            _ => {
                self.callers[caller as usize].held = None;
                transition(pid, who, choices)
            }
        }
    }
}

/// Some calls of models and tools.
fn spend(who: [u64; 2], choices: &mut Choices) -> Amounts {
    Amounts {
        llm_calls: choices.choose("spend.calls", who, 4),
        tool_calls: choices.choose("spend.tools", who, 3),
        ..Amounts::ZERO
    }
}

fn transition(pid: ProcessId, who: [u64; 2], choices: &mut Choices) -> CommandBody {
    let to = [
        ProcessState::Ready,
        ProcessState::Waiting,
        ProcessState::Running,
        ProcessState::Blocked,
        ProcessState::Ready,
        ProcessState::Terminated,
        ProcessState::Zombie,
        ProcessState::New,
    ];
    let to = to[usize::try_from(choices.choose("user.to", who, 8)).expect("one of eight")];
    CommandBody::TransitionState { pid, to, reason: "because".to_owned() }
}

/// Finds the process that was claimed.
fn claimed(events: &[Event]) -> Option<ProcessId> {
    let mut found = events.iter().filter_map(|event| match &event.body {
        Body::Process { event: ProcessEvent::StateChanged { to: ProcessState::Running, .. } } => {
            event.subject.pid.clone()
        }
        _ => None,
    });
    found.next_back()
}

impl Crowd<Clerk> for Users {
    fn new(work: &Work) -> Self {
        let users = place(USERS);
        Self {
            work: work.clone(),
            callers: vec![Caller::default(); work.callers as usize],
            names: Names::new(work.callers),
            pids: vec![Vec::new(); users],
            taken: 0,
            asked: vec![Vec::new(); users],
        }
    }

    fn next(&mut self, caller: u32, _: u64, choices: &mut Choices) -> Option<Command> {
        if let Some(again) = self.callers[caller as usize].again.take() {
            return Some(again);
        }
        let by = Part::of(&self.work, caller).principal(caller);
        let worker = match Part::of(&self.work, caller) {
            Part::Worker => Some(id(WorkerId::parse("worker", &format!("w{caller}")))),
            Part::Operator | Part::User(_) => None,
        };
        let body = self.deed(caller, choices)?;
        Some(Command { by, worker, rate: None, body })
    }

    fn heard(&mut self, caller: u32, request: &Command, heard: Heard<'_, Reply>) {
        if let Heard::Reply(Ok(done)) = heard {
            self.remember(caller, &done.events);
        }
        let me = &mut self.callers[caller as usize];
        match heard {
            Heard::Nothing => me.again = Some(request.clone()),
            Heard::Reply(Ok(done)) => {
                let submits = matches!(request.body, CommandBody::Submit(_));
                self.taken += u64::from(submits && !me.repeating);
                if request.body == CommandBody::NextRunnable {
                    me.held = claimed(&done.events);
                    me.reserved = None;
                } else if (done.reply.as_of + u64::from(caller)).is_multiple_of(5) && !me.repeating
                {
                    // An answer that was lost on its way: the same is asked again.
                    me.again = Some(request.clone());
                    me.repeating = true;
                    return;
                }
                me.repeating = false;
            }
            Heard::Reply(Err(refusal)) => {
                me.repeating = false;
                match refusal.code {
                    Code::Busy | Code::DiskFull | Code::Overloaded | Code::NotDurable => {
                        me.again = Some(request.clone());
                    }
                    Code::NotHolder | Code::ProcessNotFound | Code::ProcessTerminal => {
                        (me.held, me.reserved) = (None, None);
                    }
                    _ => {}
                }
            }
        }
    }

    fn is_short(&self) -> bool {
        self.work.records.is_some_and(|most| self.taken < most)
    }
}
