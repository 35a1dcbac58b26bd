//! Who uses services: workers that serve and crash, users that call and count, the node that calls
//! handlers, an operator that sets limits and cleans up.
//!
//! Each caller is one of them. Whoever gets no answer asks the same again; now and then somebody
//! asks again though it was answered. Workers are late, complete twice, and under old leases.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

mod callers;
mod operators;
mod workers;

use std::collections::VecDeque;

use machines::Choices;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::envelopes::EnvelopeEvent;
use machines::kernel::event::{Body, Event};
use machines::kernel::ids::{
    DispatchId, Endpoint, EnvelopeId, LeaseId, ProcessId, ServiceName, UserId, WorkerId,
};
use machines::kernel::principal::{Principal, Role};
use machines::kernel::services::event::{ServiceEvent, SlotEvent};
use machines::kernel::{Code, Command, CommandBody};

use super::io::{Crowd, Heard, Script, Work};
use super::kernel::services::operator;
use super::kernel::{Clerk, Reply};
use super::parts::{Names, USERS, id, place};

/// How many users have workers; each serves two services of its own.
const CREWS: u64 = 2;
/// The most of each kind that is remembered.
const REMEMBERED: usize = 200;

/// What one caller remembers.
#[derive(Clone, Debug, Default)]
struct Caller {
    /// What it asks again.
    again: Option<Command>,
    /// Whether the last question was a repeat, not to be repeated again.
    repeating: bool,
    /// It does nothing before.
    asleep_until: u64,
    /// Tries that it works on.
    tasks: VecDeque<LeaseId>,
    /// Tries that it has ended, or forgotten.
    old: VecDeque<LeaseId>,
    /// Slots that it has, or had.
    slots: VecDeque<LeaseId>,
}

/// See the file's header.
#[derive(Clone, Debug)]
pub struct Services {
    work: Work,
    callers: Vec<Caller>,
    names: Names,
    /// Processes that were submitted, by user: the newest last.
    pids: Vec<VecDeque<ProcessId>>,
    /// Envelopes, by user: the newest last.
    envelopes: Vec<VecDeque<EnvelopeId>>,
    /// Dispatches: the newest last.
    dispatches: VecDeque<DispatchId>,
    /// Calls of handlers that nobody has answered.
    calls: VecDeque<LeaseId>,
}

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Operator,
    /// The node itself, whose handlers are called.
    Node,
    User(u64),
    Worker(u64),
}

/// Remembers the newest.
fn remember<T>(list: &mut VecDeque<T>, new: T) {
    if list.len() >= REMEMBERED {
        list.pop_front();
    }
    list.push_back(new);
}

/// Picks one of the newest.
fn pick<T: Clone>(
    list: &VecDeque<T>,
    most: u64,
    who: [u64; 2],
    choices: &mut Choices,
) -> Option<T> {
    let most = (list.len() as u64).min(most);
    if most == 0 {
        return None;
    }
    let back = choices.choose("services.pick", who, most) + 1;
    Some(list[list.len() - place(back)].clone())
}

/// Returns the name of a service: the even ones are pulled, the odd ones pushed.
fn service(number: u64) -> ServiceName {
    let kind = if number.is_multiple_of(2) { "pull" } else { "push" };
    id(ServiceName::parse("service", &format!("{kind}-{number}")))
}

fn endpoint(who: [u64; 2], choices: &mut Choices) -> Endpoint {
    let names = ["", "chat", "search"];
    id(Endpoint::parse("endpoint", names[place(choices.choose("services.endpoint", who, 3))]))
}

fn user(number: u64) -> UserId {
    id(UserId::parse("user", &format!("user{number}")))
}

impl Services {
    fn part(&self, caller: u32) -> Part {
        match u64::from(caller) {
            0 => Part::Operator,
            1 => Part::Node,
            nth if nth % 3 == 2 => Part::User(nth / 3 % USERS),
            nth => Part::Worker(nth / 3 % CREWS),
        }
    }

    fn principal(&self, caller: u32) -> Principal {
        match self.part(caller) {
            Part::Operator => operator(),
            Part::Node => Principal::node(),
            Part::User(number) => Principal::new(user(number), &[Role::User]),
            Part::Worker(crew) => {
                let user = id(UserId::parse("user", &format!("crew{crew}")));
                Principal::new(user, &[Role::Worker])
            }
        }
    }

    fn deed(&mut self, caller: u32, wall_ms: u64, choices: &mut Choices) -> Option<CommandBody> {
        match self.part(caller) {
            Part::Operator => self.operate(caller, choices),
            Part::Node => self.answer_calls(caller, choices),
            Part::User(user) => self.call(caller, user, choices),
            Part::Worker(crew) => self.serve(caller, crew, wall_ms, choices),
        }
    }

    /// Takes down what a command made.
    fn learn(&mut self, caller: u32, event: &Event) {
        match &event.body {
            Body::Dispatch { event } => match event {
                DispatchEvent::Queued { dispatch, .. } => {
                    remember(&mut self.dispatches, dispatch.clone());
                }
                DispatchEvent::Started { lease, holder: None, .. } => {
                    remember(&mut self.calls, lease.clone());
                }
                DispatchEvent::Started { lease, .. } => {
                    self.callers[caller as usize].tasks.push_back(lease.clone());
                }
                _ => {}
            },
            Body::Slot { event: SlotEvent::Acquired { lease, .. } } => {
                remember(&mut self.callers[caller as usize].slots, lease.clone());
            }
            Body::Service { event: ServiceEvent::HandlerBound { again, .. } } => {
                self.calls.extend(again.iter().cloned());
            }
            Body::Envelope { event } => {
                let made = match event {
                    EnvelopeEvent::Created { id, .. } | EnvelopeEvent::Cloned { id, .. } => id,
                    _ => return,
                };
                if let Part::User(user) = self.part(caller) {
                    remember(&mut self.envelopes[place(user)], made.clone());
                }
            }
            _ => {}
        }
    }
}

impl Crowd<Clerk> for Services {
    fn new(work: &Work) -> Self {
        Self {
            work: work.clone(),
            callers: vec![Caller::default(); work.callers as usize],
            names: Names::new(work.callers),
            pids: vec![VecDeque::new(); place(USERS)],
            envelopes: vec![VecDeque::new(); place(USERS)],
            dispatches: VecDeque::new(),
            calls: VecDeque::new(),
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
        let worker = match self.part(caller) {
            Part::Worker(_) => Some(id(WorkerId::parse("worker", &format!("w{caller}")))),
            Part::Operator | Part::Node | Part::User(_) => None,
        };
        let body = self.deed(caller, wall_ms, choices)?;
        let who = [u64::from(caller), 1];
        let counts = matches!(self.part(caller), Part::User(_));
        let rate = match counts && choices.choose("services.rate", who, 5) == 4 {
            true => Some(endpoint(who, choices)),
            false => None,
        };
        Some(Command { by, worker, rate, body })
    }

    fn heard(&mut self, caller: u32, request: &Command, heard: Heard<'_, Reply>) {
        if let Heard::Reply(Ok(done)) = heard {
            for event in done.events.iter() {
                self.learn(caller, event);
            }
        }
        let me = &mut self.callers[caller as usize];
        let was_repeat = std::mem::take(&mut me.repeating);
        match heard {
            Heard::Nothing => me.again = Some(request.clone()),
            Heard::Reply(Ok(done)) => {
                // An answer that was lost on its way: the same is asked again.
                let lost = (done.reply.as_of + u64::from(caller)).is_multiple_of(7);
                if lost && !was_repeat {
                    me.again = Some(request.clone());
                    me.repeating = true;
                }
            }
            Heard::Reply(Err(refusal)) => match refusal.code {
                Code::Busy | Code::DiskFull | Code::Overloaded | Code::NotDurable => {
                    me.again = Some(request.clone());
                }
                _ => {}
            },
        }
    }
}
