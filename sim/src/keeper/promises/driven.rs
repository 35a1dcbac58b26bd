//! The checkers of what the node drives: nobody else does (K290), every result is counted once
//! (K251), and nothing of it is forgotten (K294).
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::collections::{BTreeMap, BTreeSet};

use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::event::{Body, Event};
use machines::kernel::ids::ProcessId;
use machines::kernel::json::Json;
use machines::kernel::principal::Principal;
use machines::kernel::sessions::event::{Reported, SessionEvent};
use machines::kernel::sessions::instruction::InstructionBody;
use machines::kernel::{Command, CommandBody};

use super::super::book::{Book, Follow};
use super::super::checkers::Make;
use super::super::kernel::{Clerk, Reply};
use super::super::{Seen, Watch, World};
use super::flows::instructed;

/// How long a process may take after the last fault, in nanoseconds.
pub(super) const ENOUGH: u64 = 8_000_000_000;

/// Lists the watches.
#[must_use]
pub(super) fn of_driven() -> Vec<(&'static str, Make<Clerk>)> {
    vec![
        ("K251", || Box::new(CountedOnce::default())),
        ("K290", || Box::new(OnlyTheNode::default())),
        ("K294", || Box::new(ToTheEnd::default())),
    ]
}

/// K290: attempts at what the node drives are its own, each is dispatched once, under its own id;
/// and nobody else is told what to do.
#[derive(Clone, Debug, Default)]
struct OnlyTheNode {
    follow: Follow,
    book: Book,
    dispatched: BTreeSet<String>,
}

impl OnlyTheNode {
    fn is_driven(&self, pid: &ProcessId) -> bool {
        self.book.known.get(pid).is_some_and(|known| known.driven)
    }

    fn event(&mut self, event: &Event) -> Result<bool, String> {
        let Some(pid) = event.subject.pid.as_ref().filter(|pid| self.is_driven(pid)) else {
            return Ok(false);
        };
        match &event.body {
            Body::Session { event: SessionEvent::AttemptIssued { issued } } => {
                match issued.holder.user == Principal::node().user {
                    true => Ok(true),
                    false => {
                        let (attempt, by) = (&issued.attempt, &issued.holder);
                        Err(format!("{pid} is driven, and {attempt} is issued to {by:?}"))
                    }
                }
            }
            Body::Dispatch { event: DispatchEvent::Queued { dispatch, .. } } => {
                match self.dispatched.insert(dispatch.to_string()) {
                    true => Ok(true),
                    false => Err(format!("{pid}: {dispatch} is made twice")),
                }
            }
            _ => Ok(false),
        }
    }

    fn reply(&self, command: &Command, reply: &Reply) -> Result<bool, String> {
        let CommandBody::NextInstruction { pid } = &command.body else {
            return Ok(false);
        };
        if !self.is_driven(pid) || command.by.is_node() {
            return Ok(false);
        }
        match instructed(reply).map(|told| &told.body) {
            Some(InstructionBody::RunAgent(_) | InstructionBody::RunAgents(_)) => {
                Err(format!("{pid} is driven, and {:?} is told what to do", command.by))
            }
            _ => Ok(true),
        }
    }
}

impl Watch<Clerk> for OnlyTheNode {
    fn property(&self) -> &'static str {
        "K290"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let mut looked = false;
        for events in self.follow.see(seen) {
            for event in events.iter() {
                looked |= self.event(event)?;
                self.book.add(event);
            }
        }
        if let Seen::Replied { request, reply, .. } = seen {
            looked |= self.reply(request, reply)?;
        }
        Ok(looked)
    }
}

/// K251: what was made is what a dispatch came to, it is taken once, and no stage is done without.
#[derive(Clone, Debug, Default)]
struct CountedOnce {
    follow: Follow,
    book: Book,
    /// What dispatches came to that nobody has reported, by their id.
    made: BTreeMap<String, Option<Json>>,
    reported: BTreeSet<String>,
}

impl CountedOnce {
    fn event(&mut self, event: &Event) -> Result<bool, String> {
        let driven = |pid: &&ProcessId| self.book.known.get(*pid).is_some_and(|it| it.driven);
        let Some(pid) = event.subject.pid.as_ref().filter(driven) else {
            return Ok(false);
        };
        match &event.body {
            Body::Dispatch { event: DispatchEvent::Finished { dispatch, data, .. } } => {
                self.made.insert(dispatch.to_string(), data.clone());
                Ok(false)
            }
            Body::Session { event: SessionEvent::AttemptReported { reported } } => {
                self.report(pid, reported)
            }
            _ => Ok(false),
        }
    }

    fn report(&mut self, pid: &ProcessId, reported: &Reported) -> Result<bool, String> {
        let attempt = &reported.attempt;
        if !self.reported.insert(attempt.to_string()) {
            return Err(format!("{pid}: {attempt} is reported twice"));
        }
        let made = self.made.remove(attempt.as_str());
        let Some(output) = &reported.output else {
            return Ok(true); // A failure; its dispatch may never have been.
        };
        let told = made.flatten().and_then(|data| data.get("output").cloned());
        match told.as_ref() == Some(output) {
            true => Ok(true),
            false => Err(format!("{pid}: {attempt} made {output:?}, and its worker {told:?}")),
        }
    }
}

impl Watch<Clerk> for CountedOnce {
    fn property(&self) -> &'static str {
        "K251"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let mut looked = false;
        for events in self.follow.see(seen) {
            for event in events.iter() {
                looked |= self.event(event)?;
                self.book.add(event);
            }
        }
        Ok(looked)
    }
}

/// K294: once nothing fails any more, what the node drives comes to its end.
#[derive(Clone, Debug, Default)]
struct ToTheEnd {
    follow: Follow,
    book: Book,
    /// Those that were live when the faults ended, and when that was.
    left: Option<(u64, Vec<ProcessId>)>,
}

impl ToTheEnd {
    fn live(&self) -> impl Iterator<Item = &ProcessId> {
        let live = self.book.known.iter();
        let live = live.filter(|(_, known)| known.driven && !known.state.is_terminal());
        live.map(|(pid, _)| pid)
    }
}

impl Watch<Clerk> for ToTheEnd {
    fn property(&self) -> &'static str {
        "K294"
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        for events in self.follow.see(seen) {
            for event in events.iter() {
                self.book.add(event);
            }
        }
        if matches!(seen, Seen::Quiet) {
            let live = self.live().cloned().collect();
            self.left = Some((world.now(), live));
        }
        Ok(false)
    }

    fn end(&mut self, world: &World<Clerk>) -> Result<bool, String> {
        let Some((since, left)) = &self.left else {
            return Ok(false);
        };
        if world.now() - since < ENOUGH {
            return Ok(false);
        }
        let live: BTreeSet<&ProcessId> = self.live().collect();
        match left.iter().find(|pid| live.contains(pid)) {
            Some(pid) => {
                let known = &self.book.known[pid];
                Err(format!("{pid} is forgotten: {:?}, {:?}", known.state, known.blocking))
            }
            None => Ok(!left.is_empty()),
        }
    }
}
