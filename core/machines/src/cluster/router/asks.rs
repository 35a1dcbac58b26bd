//! Requests in flight: each is taken out exactly once (C86).

use std::collections::{BTreeMap, BTreeSet};

use crate::Instant;
use crate::cluster::ids::{CallId, NodeId, Session};

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ask {
    pub(super) call: CallId,
    pub(super) node: NodeId,
    pub(super) session: Session,
    /// The number of its frame; for local requests, the call.
    pub(super) number: u64,
    pub(super) until: Instant,
}

/// All requests in flight, by id.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Asks {
    open: BTreeMap<u64, Ask>,
    calls: BTreeSet<(CallId, u64)>,
    numbers: BTreeMap<(NodeId, Session, u64), u64>,
    timers: BTreeSet<(Instant, u64)>,
    last: u64,
}

impl Asks {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.timers
            .first()
            .map_or(Instant::FAR, |(until, _)| *until)
    }

    pub(super) fn get(&self, request: u64) -> Option<&Ask> {
        self.open.get(&request)
    }

    /// The id of the next request.
    pub(super) const fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) fn open(&mut self, request: u64, ask: Ask) {
        self.open.insert(request, ask);
        self.calls.insert((ask.call, request));
        let number = (ask.node, ask.session, ask.number);
        self.numbers.insert(number, request);
        self.timers.insert((ask.until, request));
    }

    pub(super) fn take(&mut self, request: u64) -> Option<Ask> {
        let ask = self.open.remove(&request)?;
        self.calls.remove(&(ask.call, request));
        self.numbers.remove(&(ask.node, ask.session, ask.number));
        self.timers.remove(&(ask.until, request));
        Some(ask)
    }

    /// The request whose time is over.
    pub(super) fn due(&self, now: Instant) -> Option<u64> {
        let (until, request) = *self.timers.first()?;
        (until <= now).then_some(request)
    }

    pub(super) fn of_call(&self, call: CallId) -> Option<u64> {
        let (found, request) = *self.calls.range((call, 0)..).next()?;
        (found == call).then_some(request)
    }

    pub(super) fn of_number(&self, node: NodeId, session: Session, number: u64) -> Option<u64> {
        self.numbers.get(&(node, session, number)).copied()
    }

    /// The requests to `node` in `session` or before.
    pub(super) fn of_node(&self, node: NodeId, session: Session) -> Vec<u64> {
        let span = (node, Session(0), 0)..=(node, session, u64::MAX);
        self.numbers.range(span).map(|(_, id)| *id).collect()
    }
}
