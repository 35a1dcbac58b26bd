//! What a reader of events is shown: which of them, and how much of each (K331, K333).
//!
//! Numbers are places in the order of all events, whatever is left out.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::dispatch::event::DispatchEvent;
use super::envelopes::{EnvelopeEvent, EnvelopePatch};
use super::event::{Body, Event};
use super::ids::{ProcessId, SessionId, UserId};
use super::interrupts::event::InterruptEvent;
use super::json::Json;
use super::principal::Principal;
use super::sessions::event::SessionEvent;

/// How much of an event is shown (K333).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Detail {
    /// All of it.
    #[default]
    Full,
    /// Without payloads: outputs, data, raw input, envelopes.
    Brief,
}

/// Which events a reader picks; what is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// What the kind begins with.
    pub kind: Option<Arc<str>>,
    /// About which process.
    pub pid: Option<ProcessId>,
    /// About whose.
    pub user: Option<UserId>,
    /// About which conversation.
    pub session: Option<SessionId>,
}

impl Filter {
    /// Says whether the reader wants an event.
    #[must_use]
    pub fn picks(&self, event: &Event) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, is: Option<&T>) -> bool {
            wanted.is_none_or(|wanted| is == Some(wanted))
        }
        let subject = &event.subject;
        self.kind.as_ref().is_none_or(|prefix| event.body.kind().starts_with(prefix.as_ref()))
            && is(self.pid.as_ref(), subject.pid.as_ref())
            && is(self.user.as_ref(), subject.user.as_ref())
            && is(self.session.as_ref(), subject.session.as_ref())
    }
}

/// What somebody wants to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Reading {
    /// The last event that is known: 0 for all there are; absent, only what comes (K332).
    pub cursor: Option<u64>,
    /// Whether to go on with what comes, or to end with the last event that is durable now.
    pub follow: bool,
    /// Which events.
    pub filter: Filter,
    /// How much of them.
    pub detail: Detail,
}

/// An event and its place in the order of all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Numbered {
    /// From 1, without gaps over all events.
    pub number: u64,
    /// What happened.
    pub event: Event,
}

/// Some events, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Batch {
    /// Those that the reader picks and may see.
    pub events: Vec<Numbered>,
    /// The reader has seen, or passed over, all events up to this one: its next cursor.
    pub cursor: u64,
    /// Nothing follows: the reader wanted no more than what there was.
    pub last: bool,
}

impl Principal {
    /// Says whether it may see an event: its owner, and who may look at everything (K333).
    #[must_use]
    pub fn may_read(&self, event: &Event) -> bool {
        self.sees_all() || event.subject.user.as_ref() == Some(&self.user)
    }
}

impl Detail {
    /// Leaves out of an event what is not to be shown.
    #[must_use]
    pub fn of(self, mut event: Event) -> Event {
        match self {
            Self::Full => {}
            Self::Brief => strip(&mut event.body),
        }
        event
    }
}

/// Takes the payloads out of an event.
fn strip(body: &mut Body) {
    match body {
        Body::Dispatch { event } => strip_dispatch(event),
        Body::Envelope { event } => strip_envelope(event),
        Body::Interrupt { event } => strip_interrupt(event),
        Body::Session { event } => strip_session(event),
        Body::Kernel { .. }
        | Body::Process { .. }
        | Body::Quota { .. }
        | Body::Rate { .. }
        | Body::Approval { .. }
        | Body::Service { .. }
        | Body::Slot { .. } => {}
    }
}

fn strip_dispatch(event: &mut DispatchEvent) {
    match event {
        DispatchEvent::Queued { request, .. } => request.data = Json::NULL,
        DispatchEvent::Finished { data, .. } => *data = None,
        DispatchEvent::Requeued { .. }
        | DispatchEvent::Started { .. }
        | DispatchEvent::Renewed { .. }
        | DispatchEvent::RetryScheduled { .. }
        | DispatchEvent::Removed { .. } => {}
    }
}

fn strip_envelope(event: &mut EnvelopeEvent) {
    match event {
        EnvelopeEvent::Created { envelope, .. } => **envelope = envelope.without_payload(),
        EnvelopeEvent::Updated { patch, .. } => **patch = EnvelopePatch::default(),
        EnvelopeEvent::Cloned { .. } | EnvelopeEvent::Removed { .. } => {}
    }
}

fn strip_interrupt(event: &mut InterruptEvent) {
    match event {
        InterruptEvent::Raised { interrupt } => {
            interrupt.data = None;
            interrupt.answer = None;
        }
        InterruptEvent::Resolved { response, .. } => response.data = None,
        InterruptEvent::Expired { .. }
        | InterruptEvent::Cancelled { .. }
        | InterruptEvent::Removed { .. } => {}
    }
}

fn strip_session(event: &mut SessionEvent) {
    match event {
        SessionEvent::AttemptReported { reported } => reported.output = None,
        SessionEvent::StageCompleted { changes, .. } => changes.clear(),
        SessionEvent::Started { .. }
        | SessionEvent::Ended { .. }
        | SessionEvent::Removed
        | SessionEvent::Moved { .. }
        | SessionEvent::AttemptIssued { .. }
        | SessionEvent::AttemptClosed { .. }
        | SessionEvent::StageFailed { .. }
        | SessionEvent::GroupOpened { .. }
        | SessionEvent::GroupJoined { .. }
        | SessionEvent::RetryScheduled { .. }
        | SessionEvent::Checkpoint { .. } => {}
    }
}
