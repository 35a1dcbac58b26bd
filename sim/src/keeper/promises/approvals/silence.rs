//! K427: no yes by silence.
//!
//! Whoever asked leave, and was answered by nobody or denied, goes on at `denied_stage` and at what
//! follows from it, or not at all.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use machines::kernel::event::{Body, Event, ProcessEvent};
use machines::kernel::ids::{InterruptId, ProcessId, StageName};
use machines::kernel::interrupts::event::{ApprovalEvent, InterruptEvent};
use machines::kernel::interrupts::interrupt::Response;
use machines::kernel::names::{InterruptKind, ReviewDecision};
use machines::kernel::pipeline::kinds::Via;
use machines::kernel::sessions::event::SessionEvent;

use super::super::super::book::Follow;
use super::super::super::kernel::Clerk;
use super::super::super::{Seen, Watch, World};
use super::{Stories, is_removed};

/// What is known of one process.
#[derive(Clone, Debug, Default)]
struct Leave {
    /// Who asked leave and has no answer.
    pending: BTreeSet<InterruptId>,
    /// Closed without a yes in this decision, and nothing has come of it yet; whether by silence.
    owed: BTreeMap<InterruptId, bool>,
    /// After a denial: where the session may still go.
    only: Option<BTreeSet<StageName>>,
    over: bool,
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Silence {
    follow: Follow,
    stories: Stories,
    leave: BTreeMap<ProcessId, Leave>,
    /// Questions that ask leave, of which kind, and whether the answer was yes.
    asked: BTreeMap<InterruptId, (InterruptKind, bool)>,
}

impl Watch<Clerk> for Silence {
    fn property(&self) -> &'static str {
        "K427"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let mut looked = false;
        for events in self.follow.see(seen) {
            for event in events.iter() {
                looked |= self.event(event)?;
                self.stories.add(event);
            }
            looked |= self.decided()?;
        }
        Ok(looked)
    }
}

impl Silence {
    /// Looks at what a decision has left of what it closed.
    fn decided(&mut self) -> Result<bool, String> {
        let mut looked = false;
        for (pid, leave) in &mut self.leave {
            for (id, silent) in std::mem::take(&mut leave.owed) {
                looked = true;
                // Without a session, a no wakes the process, whose owner reads it (K166).
                let goes_on = silent || self.stories.of(pid).is_some();
                if goes_on && !leave.over {
                    return Err(format!("{pid} goes on, though nobody said yes to {id}"));
                }
            }
        }
        Ok(looked)
    }

    fn event(&mut self, event: &Event) -> Result<bool, String> {
        let Some(pid) = &event.subject.pid else {
            return Ok(false);
        };
        match &event.body {
            Body::Interrupt { event } => self.interrupt(pid, event)?,
            Body::Approval { event: ApprovalEvent::Granted { interrupt, .. } } => {
                return match self.asked.get(interrupt) {
                    Some((_, true)) => Ok(true),
                    _ => Err(format!("{interrupt} gave leave, and nobody said yes to it")),
                };
            }
            Body::Session { event } => return self.session(pid, event),
            Body::Process { event: ProcessEvent::Terminated { .. } } => {
                self.leave.entry(pid.clone()).or_default().over = true;
            }
            _ if is_removed(event) => {
                self.leave.remove(pid);
            }
            _ => {}
        }
        Ok(false)
    }

    fn interrupt(&mut self, pid: &ProcessId, event: &InterruptEvent) -> Result<(), String> {
        if let InterruptEvent::Removed { ids } = event {
            for id in ids {
                self.asked.remove(id);
            }
            return Ok(());
        }
        let leave = self.leave.entry(pid.clone()).or_default();
        let (id, closed) = match event {
            InterruptEvent::Raised { interrupt } => {
                if interrupt.kind.asks_leave() {
                    leave.pending.insert(interrupt.id.clone());
                    self.asked.insert(interrupt.id.clone(), (interrupt.kind, false));
                }
                return Ok(());
            }
            InterruptEvent::Expired { id, escalated_to: Some(other), .. } => {
                if leave.pending.remove(id) && !leave.pending.contains(other) {
                    return Err(format!("{id} was handed on to {other}, which nobody is asked"));
                }
                return Ok(());
            }
            // What was said counts, whatever the kernel took it for.
            InterruptEvent::Resolved { id, response, .. } => {
                if let Some((kind, yes)) = self.asked.get_mut(id)
                    && leave.pending.contains(id)
                    && is_yes(*kind, response)
                {
                    *yes = true;
                    leave.pending.remove(id);
                    return Ok(());
                }
                (id, false)
            }
            InterruptEvent::Cancelled { id, .. } => (id, false),
            InterruptEvent::Expired { id, .. } => (id, true),
            InterruptEvent::Removed { .. } => return Ok(()),
        };
        if leave.pending.remove(id) {
            leave.owed.insert(id.clone(), closed);
        }
        Ok(())
    }

    fn session(&mut self, pid: &ProcessId, event: &SessionEvent) -> Result<bool, String> {
        let leave = self.leave.entry(pid.clone()).or_default();
        match event {
            // What is asked of one session does not bind the next (K230).
            SessionEvent::Started { .. } | SessionEvent::Ended { .. } => {
                leave.owed.clear();
                leave.only = None;
            }
            SessionEvent::Moved { to, via: Via::Denied, .. } => {
                let story = self.stories.of(pid);
                let denied = story.and_then(|story| story.pipeline.denied_stage.as_ref());
                if denied != Some(to) {
                    return Err(format!("{pid} was denied, and went to {to}, not {denied:?}"));
                }
                leave.owed.clear();
                leave.only = Some([to.clone()].into());
            }
            SessionEvent::Moved { from: Some(from), to, .. } => {
                if let Some(only) = leave.only.as_mut().filter(|only| only.contains(from)) {
                    only.insert(to.clone());
                }
            }
            // In run mode Parallel, what needs a stage follows from it.
            SessionEvent::Moved { from: None, to, .. } => {
                let story = self.stories.of(pid);
                let stage = story.and_then(|story| story.pipeline.stage(to));
                if let (Some(stage), Some(only)) = (stage, &mut leave.only)
                    && stage.requires.iter().chain(&stage.after).any(|name| only.contains(name))
                {
                    only.insert(to.clone());
                }
            }
            SessionEvent::AttemptIssued { issued } => {
                if let Some(id) = leave.pending.first() {
                    return Err(format!("{pid} got a task while nobody has answered {id}"));
                }
                let Some(only) = &leave.only else {
                    return Ok(false);
                };
                return match only.contains(&issued.stage) {
                    true => Ok(true),
                    false => Err(format!(
                        "{pid} was denied, and got a task at {}, not from {only:?}",
                        issued.stage
                    )),
                };
            }
            _ => {}
        }
        Ok(false)
    }
}

/// Says whether an answer to a question that asks leave is a yes (K156).
fn is_yes(kind: InterruptKind, response: &Response) -> bool {
    use ReviewDecision::{Approve, Modify};
    match kind {
        InterruptKind::Confirmation => response.approved == Some(true),
        InterruptKind::AgentReview => matches!(response.decision, Some(Approve | Modify)),
        _ => false,
    }
}
