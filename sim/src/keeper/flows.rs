//! Who runs pipelines on the kernel: users that submit and answer, workers that run agents, an
//! operator.
//!
//! Workers claim, poll (now and then several times in a row), spend under their attempts, report,
//! fail, ask people, report late or twice, and crash: then they forget what they hold, or some of
//! it, and leave it to its lease. Some agents are poor, and fail whoever runs them. People answer,
//! take questions back, or let them expire. Whoever gets no answer asks the same again.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

mod approvals;
mod people;
pub(super) mod pipelines;
mod workers;

use std::collections::VecDeque;

use machines::Choices;
use machines::kernel::event::{Body, Event};
use machines::kernel::ids::{ProcessId, WorkerId};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::interrupts::interrupt::Interrupt;
use machines::kernel::reply::Done;
use machines::kernel::sessions::instruction::InstructionBody;
use machines::kernel::{Code, Command, CommandBody, Refusal};

use self::approvals::Petitions;
use self::people::Asked;
use self::workers::Worker;
use super::io::{Crowd, Heard, Script, Work};
use super::kernel::{Clerk, Reply};
use super::parts::{Names, Part, USERS, id, place};

/// How many processes and questions of a user are remembered.
const REMEMBERED: usize = 64;

/// What one caller remembers.
#[derive(Clone, Debug, Default)]
struct Caller {
    /// What it asks again.
    again: Option<Command>,
    /// Whether the last question was a repeat, not to be repeated again.
    repeating: bool,
    /// What a user does next.
    plan: VecDeque<CommandBody>,
    /// What a worker has on its hands.
    worker: Worker,
}

/// See the file's header.
#[derive(Clone, Debug)]
pub struct Flows {
    work: Work,
    callers: Vec<Caller>,
    names: Names,
    /// Processes that were submitted, by user: the newest last.
    pids: Vec<Vec<ProcessId>>,
    submitted: u64,
    /// Questions that were asked, by user: the newest last.
    asked: Vec<Vec<Asked>>,
    petitions: Petitions,
}

impl Flows {
    /// Whether much goes wrong.
    fn is_rough(&self) -> bool {
        self.work.script == Script::ForkJoin
    }

    /// One of the newest processes of a user.
    fn some(&self, user: u64, who: [u64; 2], choices: &mut Choices) -> Option<ProcessId> {
        let pids = &self.pids[place(user)];
        let most = (pids.len() as u64).min(self.work.keys);
        let back = choices.choose("flow.process", who, most.max(1)) + 1;
        pids.len().checked_sub(place(back)).map(|at| pids[at].clone())
    }

    /// Remembers a question that is pending.
    fn note(&mut self, interrupt: &Interrupt) {
        self.petitions.note(interrupt);
        let user = interrupt.user.as_str().strip_prefix("user").and_then(|nth| nth.parse().ok());
        let Some(asked) = user.and_then(|user: usize| self.asked.get_mut(user)) else {
            return;
        };
        if asked.iter().all(|known| known.id != interrupt.id) {
            asked.push(Asked::of(interrupt));
            let over = asked.len().saturating_sub(REMEMBERED);
            asked.drain(..over);
        }
    }

    fn note_events(&mut self, events: &[Event]) {
        for event in events {
            if let Body::Interrupt { event: InterruptEvent::Raised { interrupt } } = &event.body {
                self.note(interrupt);
            }
        }
    }

    /// Takes what a command was answered.
    fn learn(&mut self, caller: u32, request: &Command, done: &Done) {
        let me = &mut self.callers[caller as usize].worker;
        match done {
            Done::Process(shown) if request.body == CommandBody::NextRunnable => {
                me.claim(shown.pid.clone());
            }
            Done::Instruction(told) => {
                me.follow(&told.pid, &told.body);
                if let InstructionBody::WaitInterrupt { interrupt: Some(asked) } = &told.body {
                    self.note(asked);
                }
            }
            _ => {}
        }
    }

    fn refused(&mut self, caller: u32, request: &Command, refusal: &Refusal) {
        let me = &mut self.callers[caller as usize];
        match refusal.code {
            Code::Busy | Code::DiskFull | Code::Overloaded | Code::NotDurable => {
                me.again = Some(request.clone());
            }
            Code::NotHolder
            | Code::ProcessNotFound
            | Code::ProcessTerminal
            | Code::SessionNotFound => me.worker.let_go(),
            Code::NoRunnable => me.worker.idle = true,
            Code::AttemptSuperseded | Code::AttemptClosed | Code::AttemptNotFound => {
                me.worker.doubt();
            }
            _ => {}
        }
    }
}

impl Crowd<Clerk> for Flows {
    fn new(work: &Work) -> Self {
        Self {
            work: work.clone(),
            callers: vec![Caller::default(); work.callers as usize],
            names: Names::new(work.callers),
            pids: vec![Vec::new(); place(USERS)],
            submitted: 0,
            asked: vec![Vec::new(); place(USERS)],
            petitions: Petitions::default(),
        }
    }

    fn next(&mut self, caller: u32, wall_ms: u64, choices: &mut Choices) -> Option<Command> {
        if let Some(again) = self.callers[caller as usize].again.take() {
            return Some(again);
        }
        let by = Part::of(&self.work, caller).principal(caller);
        if let Some(body) = self.petition(caller, wall_ms, choices) {
            return Some(Command { by, worker: None, rate: None, body });
        }
        let (worker, body) = match Part::of(&self.work, caller) {
            Part::Operator => (None, self.operate(caller, choices)?),
            Part::User(user) => (None, self.use_it(caller, user, choices)?),
            Part::Worker => {
                let name = id(WorkerId::parse("worker", &format!("w{caller}")));
                (Some(name), self.work_on(caller, choices)?)
            }
        };
        Some(Command { by, worker, rate: None, body })
    }

    fn heard(&mut self, caller: u32, request: &Command, heard: Heard<'_, Reply>) {
        let me = &mut self.callers[caller as usize];
        match heard {
            Heard::Nothing => me.again = Some(request.clone()),
            Heard::Reply(Ok(done)) => {
                // An answer that was lost on its way: the same is asked again.
                let lost = (done.reply.as_of + u64::from(caller)).is_multiple_of(9);
                me.repeating = lost && !me.repeating && request.body != CommandBody::NextRunnable;
                if me.repeating {
                    me.again = Some(request.clone());
                }
                self.note_events(&done.events);
                self.learn(caller, request, &done.reply.done);
            }
            Heard::Reply(Err(refusal)) => {
                me.repeating = false;
                self.refused(caller, request, refusal);
            }
        }
    }
}
