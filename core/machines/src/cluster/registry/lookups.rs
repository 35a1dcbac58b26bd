//! Look-ups in flight: who waits for which name, and who was asked (C77).

use std::collections::{BTreeMap, BTreeSet};

use crate::Instant;
use crate::cluster::ids::{CallId, NodeId};
use crate::cluster::wire::Name;

/// One name that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pending {
    pub(super) name: Name,
    pub(super) waiters: Vec<CallId>,
    /// Those asked that have not answered.
    asked: Vec<NodeId>,
    /// Whether the owner of a hint was asked, and not just anyone.
    hint: bool,
    until: Instant,
}

/// All look-ups in flight; one query a name.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Lookups {
    pending: BTreeMap<u32, Pending>,
    by_name: BTreeMap<Name, u32>,
    timers: BTreeSet<(Instant, u32)>,
    waiters: u32,
    last: u32,
}

impl Lookups {
    /// The number of calls that wait.
    pub(super) const fn len(&self) -> u32 {
        self.waiters
    }

    pub(super) fn deadline(&self) -> Instant {
        self.timers
            .first()
            .map_or(Instant::FAR, |(until, _)| *until)
    }

    /// Takes a look-up whose time is over.
    pub(super) fn due(&mut self, now: Instant) -> Option<Pending> {
        let (until, query) = *self.timers.first()?;
        (until <= now).then(|| self.take(query))?
    }

    /// Lets `call` wait for a query that is in flight already, if there is one.
    pub(super) fn join(&mut self, name: &Name, call: CallId) -> bool {
        let query = self.by_name.get(name);
        let Some(pending) = query.and_then(|query| self.pending.get_mut(query)) else {
            return false;
        };
        pending.waiters.push(call);
        self.waiters += 1;
        true
    }

    /// Starts a query and returns its number.
    pub(super) fn start(
        &mut self,
        name: Name,
        call: CallId,
        asked: &[NodeId],
        hint: bool,
        until: Instant,
    ) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.by_name.insert(name.clone(), self.last);
        self.timers.insert((until, self.last));
        let pending = Pending {
            name,
            waiters: vec![call],
            asked: asked.to_vec(),
            hint,
            until,
        };
        self.pending.insert(self.last, pending);
        self.waiters += 1;
        self.last
    }

    /// Notes the answer of `from`: the name asked for and whether as a hint, or `None` if nobody
    /// asked.
    pub(super) fn heard(&mut self, query: u32, from: NodeId) -> Option<(Name, bool)> {
        let pending = self.pending.get_mut(&query)?;
        let at = pending.asked.iter().position(|node| *node == from)?;
        pending.asked.remove(at);
        Some((pending.name.clone(), pending.hint))
    }

    /// Takes a query that nobody is left to answer.
    pub(super) fn exhausted(&mut self, query: u32) -> Option<Pending> {
        let over = self.pending.get(&query)?.asked.is_empty();
        over.then(|| self.take(query))?
    }

    /// Takes the query for `name`, which was found.
    pub(super) fn resolve(&mut self, name: &Name) -> Option<Pending> {
        let query = *self.by_name.get(name)?;
        self.take(query)
    }

    /// Awaits nothing of `node` any more; takes the queries that nobody is left to answer.
    pub(super) fn forget_node(&mut self, node: NodeId) -> Vec<Pending> {
        for pending in self.pending.values_mut() {
            pending.asked.retain(|asked| *asked != node);
        }
        let over = self.pending.iter().filter(|(_, p)| p.asked.is_empty());
        let over: Vec<u32> = over.map(|(query, _)| *query).collect();
        over.into_iter().filter_map(|q| self.take(q)).collect()
    }

    fn take(&mut self, query: u32) -> Option<Pending> {
        let pending = self.pending.remove(&query)?;
        self.by_name.remove(&pending.name);
        self.timers.remove(&(pending.until, query));
        let left = u32::try_from(pending.waiters.len()).expect("waiters are counted in u32");
        self.waiters -= left;
        Some(pending)
    }
}
