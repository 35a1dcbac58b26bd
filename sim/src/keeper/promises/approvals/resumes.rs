//! K438: the first task after an answer is at the stage that K165 names.
//!
//! That is the configured stage of the kind, to which the session moves as the question is closed;
//! or the session stays where it is: the stage that asked is issued again in the same visit, or
//! what the session has come to meanwhile.

use std::collections::BTreeMap;

use machines::kernel::event::{Body, Event};
use machines::kernel::ids::{InterruptId, ProcessId, StageName};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::interrupts::interrupt::{Interrupt, Origin};
use machines::kernel::names::{ExpiryPolicy, InterruptKind};
use machines::kernel::pipeline::kinds::Via;
use machines::kernel::sessions::event::{Issued, SessionEvent};

use super::super::super::book::Follow;
use super::super::super::kernel::Clerk;
use super::super::super::{Seen, Watch, World};
use super::{Stories, Story, is_removed};

/// A question that was closed so that its process goes on.
#[derive(Clone, Debug)]
struct Closed {
    id: InterruptId,
    /// Where that leads, if anywhere.
    to: Option<StageName>,
    /// It may have been taken back with others, which leads nowhere.
    taken_back: bool,
    moved: bool,
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Resumed {
    follow: Follow,
    stories: Stories,
    asked: BTreeMap<InterruptId, Interrupt>,
    /// What this decision closed.
    closed: BTreeMap<ProcessId, Closed>,
    /// Answered, and no task yet.
    answered: BTreeMap<ProcessId, InterruptId>,
}

impl Watch<Clerk> for Resumed {
    fn property(&self) -> &'static str {
        "K438"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let mut looked = false;
        for events in self.follow.see(seen) {
            for event in events.iter() {
                looked |= self.event(event)?;
                self.stories.add(event);
            }
            for (pid, closed) in std::mem::take(&mut self.closed) {
                let due = closed.to.as_ref().filter(|_| !closed.moved && !closed.taken_back);
                if let Some(to) = due.filter(|_| self.stories.of(&pid).is_some()) {
                    let id = &closed.id;
                    return Err(format!("{pid} did not go to {to} after the answer to {id}"));
                }
                self.answered.insert(pid, closed.id);
            }
        }
        Ok(looked)
    }
}

impl Resumed {
    fn event(&mut self, event: &Event) -> Result<bool, String> {
        let Some(pid) = &event.subject.pid else {
            return Ok(false);
        };
        match &event.body {
            Body::Interrupt { event } => self.interrupt(pid, event),
            Body::Session { event } => return self.session(pid, event),
            _ if is_removed(event) => drop(self.answered.remove(pid)),
            _ => {}
        }
        Ok(false)
    }

    fn interrupt(&mut self, pid: &ProcessId, event: &InterruptEvent) {
        let (id, leads, taken_back) = match event {
            InterruptEvent::Raised { interrupt } => {
                self.asked.insert(interrupt.id.clone(), interrupt.as_ref().clone());
                return;
            }
            InterruptEvent::Removed { ids } => {
                return ids.iter().for_each(|id| drop(self.asked.remove(id)));
            }
            InterruptEvent::Resolved { id, accepted: true, .. } => (id, true, false),
            InterruptEvent::Cancelled { id, .. } => (id, true, true),
            InterruptEvent::Expired { id, policy: ExpiryPolicy::Continue, .. } => {
                (id, false, false)
            }
            InterruptEvent::Resolved { .. } | InterruptEvent::Expired { .. } => return,
        };
        let asked = self.asked.get(id).filter(|asked| asked.blocking);
        let (Some(asked), Some(story)) = (asked, self.stories.of(pid)) else {
            return;
        };
        if taken_back && asked.kind.asks_leave() {
            return; // A denial (K158).
        }
        let to = resume_stage(story, asked).filter(|_| leads);
        let closed = Closed { id: id.clone(), to, taken_back, moved: false };
        self.closed.insert(pid.clone(), closed);
    }

    fn session(&mut self, pid: &ProcessId, event: &SessionEvent) -> Result<bool, String> {
        match event {
            SessionEvent::Started { .. } => {
                if let Some(closed) = self.closed.remove(pid).filter(|closed| !closed.taken_back) {
                    return Err(format!("{pid} began again with the answer to {}", closed.id));
                }
                self.answered.remove(pid);
            }
            SessionEvent::Ended { .. } => drop(self.answered.remove(pid)),
            SessionEvent::Moved { via: Via::Denied, .. } => drop(self.closed.remove(pid)),
            SessionEvent::Moved { from, to, via: Via::Resume, .. } => {
                return self.resumed(pid, from.as_ref(), to);
            }
            SessionEvent::Moved { from: Some(from), via, .. } => {
                let story = self.stories.of(pid);
                if story.is_none_or(|story| story.position != *from) {
                    return Err(format!("{pid} moved from {from} ({via:?}), where it was not"));
                }
            }
            SessionEvent::AttemptIssued { issued } => return self.issued(pid, issued),
            _ => {}
        }
        Ok(false)
    }

    fn resumed(
        &mut self,
        pid: &ProcessId,
        from: Option<&StageName>,
        to: &StageName,
    ) -> Result<bool, String> {
        let here = self.stories.of(pid).map(|story| &story.position);
        let closed = self.closed.get_mut(pid).filter(|closed| closed.to.as_ref() == Some(to));
        match closed {
            Some(closed) if from == here => {
                closed.moved = true;
                Ok(true)
            }
            _ => {
                Err(format!("{pid} at {here:?} went from {from:?} to {to}, where no answer leads"))
            }
        }
    }

    /// The first task after an answer is where the session is, in the same visit.
    fn issued(&mut self, pid: &ProcessId, issued: &Issued) -> Result<bool, String> {
        let Some(id) = self.answered.remove(pid) else {
            return Ok(false);
        };
        let Some(story) = self.stories.of(pid) else {
            return Err(format!("{pid} got a task, and has no session"));
        };
        let (stage, tries) = (&issued.stage, story.tries_of(&issued.stage));
        let same_visit = story.visits.get(stage) == Some(&issued.visit);
        let next_try = issued.try_number == tries + 1 && issued.hop == (tries == 0);
        match story.is_here(stage) && same_visit && next_try {
            true => Ok(true),
            false => Err(format!(
                "the first task of {pid} after the answer to {id} is try {} of visit {} of \
                 {stage}; the session is at {}, {:?}, with {tries} tries of {stage}",
                issued.try_number, issued.visit, story.position, story.group
            )),
        }
    }
}

/// Where a yes leads (K165). A branch of a group stays (K273).
fn resume_stage(story: &Story, asked: &Interrupt) -> Option<StageName> {
    let config = &story.pipeline;
    let to = match asked.kind {
        InterruptKind::Clarification => &config.clarification_resume_stage,
        InterruptKind::Confirmation => &config.confirmation_resume_stage,
        InterruptKind::AgentReview => &config.agent_review_resume_stage,
        _ => &None,
    };
    let of_stage = matches!(asked.origin, Origin::Stage { .. }) && story.group.is_none();
    to.clone().filter(|_| of_stage)
}
