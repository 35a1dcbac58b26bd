//! K426: nobody who waits is forgotten.
//!
//! Whoever asks for work is not told that there is none while somebody is ready; what every process
//! waits for is there, in the kernel as it is; and what has run out by the events has acted.

use std::collections::{BTreeMap, BTreeSet};

use machines::kernel::deadlines::Due;
use machines::kernel::event::{Body, Event, ProcessEvent};
use machines::kernel::ids::{InterruptId, ProcessId};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::names::ProcessState;
use machines::kernel::process::Process;
use machines::kernel::{Code, CommandBody, Kernel, Time};

use super::super::book::{Book, Follow, Known};
use super::super::kernel::{Clerk, Reply};
use super::super::{Seen, Watch, World};

/// What ends by itself when its time has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ends {
    /// A question that nobody has answered (K160).
    Question(InterruptId),
    /// The wait of a process that is Blocked.
    Block(ProcessId),
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct NobodyForgotten {
    follow: Follow,
    book: Book,
    /// When what ends.
    times: BTreeMap<Ends, Time>,
    /// The same in order of time.
    due: BTreeSet<(Time, Ends)>,
}

impl NobodyForgotten {
    fn set(&mut self, what: Ends, at: Option<Time>) {
        if let Some(before) = self.times.remove(&what) {
            self.due.remove(&(before, what.clone()));
        }
        if let Some(at) = at.filter(|at| *at < Time::FAR) {
            self.times.insert(what.clone(), at);
            self.due.insert((at, what));
        }
    }

    fn add(&mut self, event: &Event) {
        self.book.add(event);
        match (&event.body, &event.subject.pid) {
            (Body::Interrupt { event: InterruptEvent::Raised { interrupt } }, _) => {
                let at = interrupt.expires_at.filter(|_| interrupt.auto_expire);
                self.set(Ends::Question(interrupt.id.clone()), at);
            }
            (Body::Interrupt { event }, _) => match event {
                InterruptEvent::Resolved { id, .. }
                | InterruptEvent::Expired { id, .. }
                | InterruptEvent::Cancelled { id, .. } => {
                    self.set(Ends::Question(id.clone()), None)
                }
                InterruptEvent::Raised { .. } | InterruptEvent::Removed { .. } => {}
            },
            (Body::Process { event }, Some(pid)) => match event {
                ProcessEvent::StateChanged { block, .. } => {
                    let at = block.as_ref().and_then(|block| block.until);
                    self.set(Ends::Block(pid.clone()), at);
                }
                ProcessEvent::Terminated { .. } | ProcessEvent::Removed => {
                    self.set(Ends::Block(pid.clone()), None);
                }
                ProcessEvent::Created { .. } | ProcessEvent::LeaseRenewed { .. } => {}
            },
            _ => {}
        }
    }

    /// Whatever ran out before a command was decided has acted before it (K10).
    fn nothing_overdue(&self, reply: &Reply) -> Result<bool, String> {
        let Ok(done) = reply else {
            return Ok(false);
        };
        let Some(event) = done.events.first().filter(|_| done.reply.as_of == self.book.events)
        else {
            return Ok(false);
        };
        match self.due.first() {
            Some((at, what)) if *at < event.time => {
                Err(format!("{what:?} ended at {at:?}, and at {:?} waits still", event.time))
            }
            first => Ok(first.is_some()),
        }
    }

    /// Whoever asks for any work is told of some, if there is any.
    fn there_is_work(&self, refusal: Code) -> Result<bool, String> {
        if refusal != Code::NoRunnable {
            return Ok(false);
        }
        match self.book.known.iter().find(|(_, known)| known.waits()) {
            Some((pid, _)) => Err(format!("there is no work, and {pid} is ready")),
            None => Ok(true),
        }
    }

    /// What the processes wait for of which something has happened since the last look.
    fn look(&mut self, kernel: &Kernel) -> Result<bool, String> {
        let touched = std::mem::take(&mut self.book.touched);
        for pid in &touched {
            // K421 compares who is there.
            if let (Some(known), Some(process)) = (self.book.known.get(pid), kernel.process(pid)) {
                waits_rightly(kernel, pid, known, process)?;
            }
        }
        Ok(!touched.is_empty())
    }
}

/// K426, of one process.
fn waits_rightly(
    kernel: &Kernel,
    pid: &ProcessId,
    known: &Known,
    process: &Process,
) -> Result<(), String> {
    let (asked, state) = (!known.blocking.is_empty(), kernel.state());
    if process.is_held() != asked {
        return Err(format!("{pid} is held: {}, by {:?}", process.is_held(), known.blocking));
    }
    let until = process.block.as_ref().and_then(|block| block.until);
    let ends = |at: Time| state.is_due_at(at, &Due::Unblock(pid.clone()));
    match (process.state, until.filter(|at| *at < Time::FAR)) {
        (ProcessState::Waiting, _) if !asked && process.wait.is_none() => {
            return Err(format!("{pid} waits, and for nothing"));
        }
        (ProcessState::Blocked, Some(at)) if !ends(at) => {
            return Err(format!("{pid} is blocked until {at:?}, and nothing wakes it then"));
        }
        _ => {}
    }
    let lines = [false, true].map(|driven| state.ready(driven).entry(pid).is_some());
    let ready = process.state == ProcessState::Ready && !asked;
    let wanted = [ready && !process.driven, ready && process.driven];
    match lines == wanted {
        true => Ok(()),
        false => {
            let now = process.state;
            Err(format!("{pid} is {now:?}, held: {asked}, and in the ready sets {lines:?}"))
        }
    }
}

impl Watch<Clerk> for NobodyForgotten {
    fn property(&self) -> &'static str {
        "K426"
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        for events in self.follow.see(seen) {
            for event in events.iter() {
                self.add(event);
            }
        }
        if let Seen::Recovered(_) = seen {
            self.book.touched.extend(self.book.known.keys().cloned());
        }
        let Seen::Replied { request, reply, .. } = seen else {
            return Ok(false);
        };
        let mut looked = self.nothing_overdue(reply)?;
        let all = request.by.takes_any_work() && request.body == CommandBody::NextRunnable;
        if let (true, Err(refusal)) = (all, reply) {
            looked |= self.there_is_work(refusal.code)?;
        }
        let kernel = world.guest().and_then(Clerk::kernel);
        if let Some(kernel) = kernel.filter(|it| it.last_event() == self.book.events) {
            looked |= self.look(kernel)?;
        }
        Ok(looked)
    }
}
