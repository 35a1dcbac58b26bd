//! K420: no overshoot. What is granted fits when it is granted, at every level; and so, while a
//! limit is not lowered, used + held ≤ limit + unreserved, after every decision.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::collections::BTreeMap;

use machines::kernel::event::{Body, Event, QuotaEvent};
use machines::kernel::ids::ProcessId;
use machines::kernel::quota::Resource;
use machines::kernel::sessions::event::SessionEvent;

use super::super::book::{Book, Follow, Known};
use super::super::kernel::Clerk;
use super::super::{Seen, Watch, World};

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct NoOvershoot {
    follow: Follow,
    book: Book,
    /// What was taken within limits that were lowered below it: it only falls from then on.
    above: BTreeMap<(ProcessId, Resource), u64>,
}

impl NoOvershoot {
    fn add(&mut self, event: &Event) -> Result<bool, String> {
        let looked = fits(&self.book, event)?;
        self.book.add(event);
        if let (Body::Quota { event: QuotaEvent::Adjusted { field, .. } }, Some(pid)) =
            (&event.body, &event.subject.pid)
            && let Some(resource) = field.resource()
            && let Some(known) = self.book.known.get(pid)
        {
            self.above.insert((pid.clone(), resource), within(known, resource));
        }
        Ok(looked)
    }

    /// Takes in a whole decision: a report gives back in one event what it charges in the next.
    fn decided(&mut self, events: &[Event]) -> Result<bool, String> {
        let mut looked = false;
        for event in events {
            looked |= self.add(event)?;
        }
        for pid in std::mem::take(&mut self.book.touched) {
            self.compare(&pid)?;
        }
        Ok(looked)
    }

    fn compare(&mut self, pid: &ProcessId) -> Result<(), String> {
        for resource in Resource::RESERVABLE {
            let (key, known) = ((pid.clone(), resource), self.book.known.get(pid));
            let Some(known) =
                known.filter(|known| !known.quota.limit(resource).allows(within(known, resource)))
            else {
                self.above.remove(&key);
                continue;
            };
            let (taken, limit) = (within(known, resource), known.quota.limit(resource));
            match self.above.get_mut(&key).filter(|above| taken <= **above) {
                Some(above) => *above = taken,
                None => {
                    let name = resource.name();
                    return Err(format!(
                        "{pid} has taken {taken} {name} of {limit}, besides what was unreserved"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Watch<Clerk> for NoOvershoot {
    fn property(&self) -> &'static str {
        "K420"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let mut looked = false;
        for events in self.follow.see(seen) {
            looked |= self.decided(&events)?;
        }
        Ok(looked)
    }
}

/// What a process has taken that was granted to it, or to those below it.
fn within(known: &Known, resource: Resource) -> u64 {
    let taken = known.used.of(resource) + known.held.of(resource);
    taken.saturating_sub(known.unreserved.of(resource))
}

/// What is granted fits, at the process, its session and every ancestor.
fn fits(book: &Book, event: &Event) -> Result<bool, String> {
    let Some(pid) = &event.subject.pid else {
        return Ok(false);
    };
    let granted = match &event.body {
        Body::Quota { event: QuotaEvent::Reserved { attempt, amounts, .. } } => {
            amounts.minus(&book.drawn(attempt.as_ref(), amounts))
        }
        Body::Session { event: SessionEvent::AttemptIssued { issued } } => issued.hold,
        _ => return Ok(false),
    };
    for level in book.lineage(pid) {
        let known = &book.known[&level];
        for resource in Resource::RESERVABLE {
            let (asked, limit) = (granted.of(resource), known.quota.limit(resource));
            let taken = known.used.of(resource) + known.held.of(resource);
            if asked > 0 && !limit.allows(taken + asked) {
                let name = resource.name();
                return Err(format!(
                    "{pid} was granted {asked} {name}, and {level} had {taken} of {limit} taken"
                ));
            }
        }
    }
    let (Some(known), Some(session)) = (book.known.get(pid), book.sessions.get(pid)) else {
        return Ok(true);
    };
    let taken = (known.used.llm_calls + known.held.llm_calls).saturating_sub(session.base);
    match granted.llm_calls > 0 && !session.calls.allows(taken + granted.llm_calls) {
        true => Err(format!("{pid} was granted calls, {taken} of {} taken", session.calls)),
        false => Ok(true),
    }
}
