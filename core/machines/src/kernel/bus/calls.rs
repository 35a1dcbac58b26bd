//! The commands and queries under way (K304, K305).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::io::{CallId, CorrelationId, Message, SubscriptionNumber};
use crate::kernel::ids::MessageType;
use crate::kernel::time::{Millis, Time};

/// Who handles a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Handler {
    /// The node's process.
    InProcess,
    /// A subscription that names the type among its `handles`.
    Subscription(SubscriptionNumber),
}

/// One command or query under way.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Who waits for the answer, unless it was given up.
    pub(super) call: Option<CallId>,
    pub(super) message: Arc<Message>,
    pub(super) handler: Handler,
    /// Whether the handler has it, rather than its queue.
    pub(super) handed: bool,
    pub(super) timeout: Millis,
    pub(super) until: Time,
}

/// All of them, with what finds them.
#[derive(Clone, Debug)]
pub(super) struct Calls {
    next: CorrelationId,
    open: BTreeMap<CorrelationId, Call>,
    kinds: BTreeMap<MessageType, BTreeSet<CorrelationId>>,
    due: BTreeSet<(Time, CorrelationId)>,
    asked: BTreeMap<CallId, CorrelationId>,
}

impl Calls {
    pub(super) const fn new() -> Self {
        Self {
            next: CorrelationId(1),
            open: BTreeMap::new(),
            kinds: BTreeMap::new(),
            due: BTreeSet::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Returns the correlation id that the next call gets.
    pub(super) const fn next(&self) -> CorrelationId {
        self.next
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn deadline(&self) -> Time {
        self.due.first().map_or(Time::FAR, |(until, _)| *until)
    }

    /// Returns the first call whose time is up at `now`.
    pub(super) fn due(&self, now: Time) -> Option<(Time, CorrelationId)> {
        self.due.first().copied().filter(|(until, _)| *until <= now)
    }

    pub(super) fn find(&self, correlation: CorrelationId) -> Option<&Call> {
        self.open.get(&correlation)
    }

    /// Lists the calls of `kind`, oldest first.
    pub(super) fn of(&self, kind: &MessageType) -> Vec<CorrelationId> {
        self.kinds.get(kind).into_iter().flatten().copied().collect()
    }

    pub(super) fn has_any(&self, kind: &MessageType) -> bool {
        self.kinds.contains_key(kind)
    }

    /// Lists the calls of `kind` that wait in their handler's queue, oldest first.
    pub(super) fn queued(&self, kind: &MessageType) -> Vec<CorrelationId> {
        let handed = |correlation: &CorrelationId| self.open[correlation].handed;
        self.of(kind).into_iter().filter(|correlation| !handed(correlation)).collect()
    }

    /// Takes up a call.
    ///
    /// # Panics
    ///
    /// If its question is open already.
    pub(super) fn begin(&mut self, call: Call) -> CorrelationId {
        let correlation = self.next;
        self.next = CorrelationId(correlation.0 + 1);
        if let Some(asked) = call.call {
            let before = self.asked.insert(asked, correlation);
            assert!(before.is_none(), "no two unanswered calls have the same id");
        }
        let kind = call.message.kind.clone();
        self.kinds.entry(kind).or_default().insert(correlation);
        self.due.insert((call.until, correlation));
        self.open.insert(correlation, call);
        correlation
    }

    /// Notes that the handler has the call. Returns whether the call is still open.
    pub(super) fn hand(&mut self, correlation: CorrelationId) -> bool {
        match self.open.get_mut(&correlation) {
            Some(call) => {
                call.handed = true;
                true
            }
            None => false,
        }
    }

    /// Notes that nobody waits for the answer to `asked`.
    pub(super) fn give_up(&mut self, asked: CallId) {
        if let Some(correlation) = self.asked.remove(&asked)
            && let Some(call) = self.open.get_mut(&correlation)
        {
            call.call = None;
        }
    }

    /// Takes a call out.
    pub(super) fn end(&mut self, correlation: CorrelationId) -> Option<Call> {
        let call = self.open.remove(&correlation)?;
        self.due.remove(&(call.until, correlation));
        if let Some(asked) = call.call {
            self.asked.remove(&asked);
        }
        let kind = &call.message.kind;
        if let Some(same) = self.kinds.get_mut(kind) {
            same.remove(&correlation);
            if same.is_empty() {
                self.kinds.remove(kind);
            }
        }
        Some(call)
    }
}
