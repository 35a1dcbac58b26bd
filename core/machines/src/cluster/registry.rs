//! The registry of names: who holds which name, folded from what the owners say (C70–C79).
//!
//! One copy of a registration, at a node other than its owner:
//!
//! ```text
//!              entry                  ttl after it was vouched for            hint_keep
//!   (nothing) ───────► Live ────────────────────────────────────► Hint ───────────────► (nothing)
//!                       │ ▲              vouched for again          │
//!                       │ └─────────────────────────────────────────┤
//!               NameGone│                                   NameGone│
//!                       └──────────────► Gone ◄─────────────────────┘
//!                                         │ ttl + 10 s
//!                                         ▼
//!                                     (nothing)
//! ```
//!
//! The greatest live copy whose owner is a member in the copy's session is the registration. Time
//! spent unnoticed cannot make a copy younger: ages round up, and every forwarder adds its own.
//!
//! # Source
//!
//! Digests and deltas are the Scuttlebutt reconciliation of van Renesse, Dumitriu, Gough and
//! Thomas, *Efficient reconciliation and flow control for anti-entropy protocols*, LADIS 2008.
//!
//! # Known limits
//!
//! A delta that brings more than [`SYNC_GOSSIP_MAX`] changes is not gossiped on beyond that, except
//! for conflicts: the rest travels by syncs.
//!
//! With a ttl shorter than [`ttl_least`](super::config::ClusterConfig::ttl_least) C149 has no
//! bound: two owners of a name may stay, and a look-up may miss it. A `default_ttl` that no cluster
//! could do with is refused at start; a node whose cluster outgrows it says so. A registration that
//! names such a ttl itself is taken, as C72 has it.

pub mod io;
mod lookups;
#[cfg(test)]
mod props;
mod sync;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::config::RegistryConfig;
use super::counters::{Counter, Counters, Labelled};
use super::identity::Allowed;
use super::ids::{ActorId, CallId, NodeId, Ref, Session};
use super::swim::io::{MemberEvent, MemberEventKind};
use super::wire::{Name, NameEntry};
use crate::choices::Answer;
use crate::{Choices, Instant};
use io::{Input, NameEvent, NameEventKind, Output, RegisterError};
use lookups::Lookups;
pub use sync::SYNC_GOSSIP_MAX;
use table::{Copy, Stage, Stamp, Table};

/// How many members are asked for a name of which nothing is known (C77).
const ASKED_MAX: u64 = 3;

/// What is known of another member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Member {
    session: Session,
    /// Alive, rather than Suspect.
    alive: bool,
}

/// What became of an entry that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applied {
    /// It is in the table now, or ended what was.
    New,
    /// It says nothing new.
    Known,
    /// There was no room, or it is too old to keep, or its owner is not allowed here.
    Refused,
}

/// The registry of one node.
#[derive(Clone, Debug, Hash)]
pub struct Registry {
    me: NodeId,
    session: Session,
    config: RegistryConfig,
    choices: Choices,
    /// Whose names are taken and passed on (C24).
    allowed: Arc<Allowed>,
    leaving: bool,
    /// Counts the own changes of this session (C71).
    serial: u32,
    table: Table,
    /// The own registrations, by actor.
    held: BTreeSet<(ActorId, Name)>,
    /// Members other than this node that are Alive or Suspect.
    members: BTreeMap<NodeId, Member>,
    /// Which reset was the last when a peer was told digests that it has not answered yet.
    told: BTreeMap<NodeId, u64>,
    lookups: Lookups,
    /// The index of the next name event (C79).
    events: u64,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Registry {
    /// Makes the registry of node `me` in `session`, with nothing in it. Everyone is allowed until
    /// [`Input::Allowed`] says who is.
    ///
    /// # Panics
    ///
    /// If `config` is not valid.
    #[must_use]
    pub fn new(me: NodeId, session: Session, config: RegistryConfig, choices: Choices) -> Self {
        config.check().expect("the configuration was checked");
        Self {
            me,
            session,
            table: Table::new(me, session, &config),
            config,
            choices,
            allowed: Arc::new(Allowed::Any),
            leaving: false,
            serial: 0,
            held: BTreeSet::new(),
            members: BTreeMap::new(),
            told: BTreeMap::new(),
            lookups: Lookups::default(),
            events: 0,
            outputs: VecDeque::new(),
            counters: Counters::new(),
        }
    }

    /// Takes the answers recorded so far, if its choices record them (T12).
    pub fn take_recorded(&mut self) -> Vec<Answer> {
        self.choices.take_recorded()
    }

    /// Lets time pass up to `now`, then applies `input`.
    pub fn handle(&mut self, now: Instant, input: Input) {
        debug_assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        self.expire(now);
        match input {
            Input::Tick => {}
            Input::Register { call, name, actor, ttl, manual } => {
                let result = self.register(now, name, actor, ttl, manual);
                self.outputs.push_back(Output::Registered { call, result });
            }
            Input::Renew { call, name } => {
                let result = self.renew(now, &name);
                self.outputs.push_back(Output::Registered { call, result });
            }
            Input::Unregister { call, name } => {
                let result = self.unregister(now, &name);
                self.outputs.push_back(Output::Registered { call, result });
            }
            Input::ActorEnded(actor) => self.actor_ended(now, actor),
            Input::Lookup { call, name } => self.lookup(now, call, name),
            Input::Entry { from: _, entry } => self.gossiped(now, &entry),
            Input::Synced { from, step, digests, entries } => {
                self.synced(now, from, step, &digests, &entries)
            }
            Input::Query { from, query, name } => self.queried(now, from, query, &name),
            Input::QueryReply { from, query, entry } => self.replied(now, from, query, entry),
            Input::Member(event) => self.member(now, &event),
            Input::Renewed(session) => self.renewed(now, session),
            Input::Allowed(allowed) => self.allow(now, allowed),
            Input::Leave => self.leave(now),
        }
    }

    /// Takes the next thing to do. Call until it returns `None` after every `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle` at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.table.deadline().min(self.lookups.deadline())
    }

    /// Returns what was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the registration of `name` as of the last input.
    #[must_use]
    pub fn holder(&self, name: &Name) -> Option<Ref> {
        self.table.holder(name)
    }

    /// Returns the registration of `name` as it is at `now`, whether or not time was handed in.
    #[must_use]
    pub fn live(&self, name: &Name, now: Instant) -> Option<Ref> {
        let live = |copy: &&Copy| self.table.live_at(copy, now) && self.visible(copy);
        let copies = self.table.copies(name).iter();
        copies.filter(live).max_by_key(|c| c.rank()).map(Copy::at)
    }

    /// Lists every copy with its age at `now`: live ones, hints, and the gone.
    #[must_use]
    pub fn entries(&self, now: Instant) -> Vec<NameEntry> {
        let all = self.table.iter();
        all.map(|(name, copy)| self.table.entry(name, copy, now)).collect()
    }

    /// Lists the names below `prefix` that have a holder, and the index of the first name event
    /// that the list does not contain (C79).
    #[must_use]
    pub fn snapshot(&self, prefix: &str) -> (u64, Vec<(Name, Ref)>) {
        (self.events, self.table.holders(prefix))
    }

    /// Lists the names that this node holds.
    pub fn held(&self) -> impl Iterator<Item = (ActorId, &Name)> + '_ {
        self.held.iter().map(|(actor, name)| (*actor, name))
    }

    /// Returns up to which serial this node knows all names of `owner` (C76).
    #[must_use]
    pub fn known_through(&self, owner: NodeId) -> u32 {
        match owner == self.me {
            true => self.serial,
            false => self.table.owner(owner).map_or(0, |o| o.known),
        }
    }

    /// Returns how many copies there are, and how many look-ups are in flight (C150).
    #[must_use]
    pub fn sizes(&self) -> (u32, u32) {
        (self.table.len(), self.lookups.len())
    }

    /// Lists the tables beside the names, how large each is, and how large it may be (C150).
    #[must_use]
    pub fn within(&self) -> [(&'static str, usize, usize); 2] {
        // Each owner is this node, or a member, or has a copy.
        let owners = 1 + self.members.len() + self.table.len() as usize;
        [
            ("owners of names", self.table.owner_count(), owners),
            ("peers that were told digests", self.told.len(), sync::TOLD_MAX),
        ]
    }

    /// Counts the copies in each state (C120).
    #[must_use]
    pub fn states(&self) -> [(&'static str, u64); 3] {
        let (mut live, mut hint, mut gone) = (0, 0, 0);
        for (_, copy) in self.table.iter() {
            match copy.stage {
                Stage::Live => live += 1,
                Stage::Hint => hint += 1,
                Stage::Gone => gone += 1,
            }
        }
        [("live", live), ("hint", hint), ("gone", gone)]
    }

    fn visible(&self, copy: &Copy) -> bool {
        match copy.owner == self.me {
            true => copy.session == self.session,
            false => self.members.get(&copy.owner).is_some_and(|m| m.session == copy.session),
        }
    }

    /// Lets every passed deadline act.
    fn expire(&mut self, now: Instant) {
        while let Some((name, owner)) = self.table.due(now) {
            self.copy_due(now, &name, owner);
        }
        while let Some(pending) = self.lookups.due(now) {
            self.answer(&pending.waiters, None);
        }
    }

    fn copy_due(&mut self, now: Instant, name: &Name, owner: NodeId) {
        let stage = self.table.copy(name, owner).map(|copy| copy.stage);
        match stage {
            // Only a manual registration of this node has a deadline; it was missed (C72).
            Some(Stage::Live) if owner == self.me => {
                self.withdraw(now, name);
                self.settle(now, name);
            }
            Some(Stage::Live) => {
                self.table.set_stage(name, owner, Stage::Hint);
                self.settle(now, name);
            }
            Some(Stage::Hint) => {
                self.table.remove(name, owner);
                // What was known is not known any more: the next delta must bring all.
                self.table.reset(owner);
                self.settle(now, name);
                self.tidy(owner);
            }
            Some(Stage::Gone) => {
                self.table.remove(name, owner);
                self.settle(now, name);
                self.tidy(owner);
            }
            None => {}
        }
    }

    fn register(
        &mut self,
        now: Instant,
        name: Name,
        actor: ActorId,
        ttl: Option<Duration>,
        manual: bool,
    ) -> Result<(), RegisterError> {
        if self.leaving {
            return Err(RegisterError::Draining);
        }
        if actor == ActorId::NODE {
            return Err(RegisterError::NoActor); // No decoder takes such an entry.
        }
        let ttl = ttl.unwrap_or(self.config.default_ttl);
        let ttl_ms = table::ttl_ms(ttl).ok_or(RegisterError::TtlRange)?;
        if let Some(holder) = self.table.holder(&name) {
            if holder.node == self.me && holder.actor == actor {
                return self.renew(now, &name); // Idempotent: the first registration stands.
            }
            return Err(RegisterError::NameTaken(holder));
        }
        self.table.room_for_own(&name)?;
        let highest = self.table.copies(&name).iter().map(|c| c.version).max();
        self.serial = self.serial.saturating_add(1);
        let copy = Copy {
            owner: self.me,
            session: self.session,
            actor: Some(actor),
            version: highest.unwrap_or(0).saturating_add(1),
            serial: self.serial,
            ttl_ms,
            vouched: Stamp::of(now),
            stage: Stage::Live,
            manual,
            timer: Instant::FAR,
        };
        self.held.insert((actor, name.clone()));
        self.outputs.push_back(Output::Gossip(self.table.entry(&name, &copy, now)));
        self.table.put(&name, copy);
        self.settle(now, &name);
        Ok(())
    }

    fn renew(&mut self, now: Instant, name: &Name) -> Result<(), RegisterError> {
        let held = self.table.holder(name).is_some_and(|r| r.node == self.me);
        if !held {
            return Err(RegisterError::NotHeld);
        }
        self.table.vouch_copy(name, self.me, Stamp::of(now));
        Ok(())
    }

    fn unregister(&mut self, now: Instant, name: &Name) -> Result<(), RegisterError> {
        if !self.withdraw(now, name) {
            return Err(RegisterError::NotHeld);
        }
        self.settle(now, name);
        Ok(())
    }

    /// Turns the own registration of `name` into a NameGone (C72); the caller settles the name.
    fn withdraw(&mut self, now: Instant, name: &Name) -> bool {
        let Some(mut copy) = self.table.copy(name, self.me).cloned() else {
            return false;
        };
        let Some(actor) = copy.actor.take() else {
            return false;
        };
        self.serial = self.serial.saturating_add(1);
        copy.serial = self.serial;
        copy.stage = Stage::Gone;
        copy.vouched = Stamp::of(now);
        self.held.remove(&(actor, name.clone()));
        self.outputs.push_back(Output::Gossip(self.table.entry(name, &copy, now)));
        self.table.put(name, copy);
        true
    }

    fn actor_ended(&mut self, now: Instant, actor: ActorId) {
        for name in self.names_of(actor) {
            self.withdraw(now, &name);
            self.settle(now, &name);
        }
    }

    fn names_of(&self, actor: ActorId) -> Vec<Name> {
        let held = self.held.iter().filter(|(holder, _)| *holder == actor);
        held.map(|(_, name)| name.clone()).collect()
    }

    fn leave(&mut self, now: Instant) {
        self.leaving = true;
        let held: Vec<Name> = self.held.iter().map(|(_, name)| name.clone()).collect();
        for name in held {
            self.withdraw(now, &name);
            self.settle(now, &name);
        }
    }

    /// Goes on in a new session: what is held is registered anew, with the version it had, so
    /// that it does not outrank who took the name meanwhile (C27, C71).
    fn renewed(&mut self, now: Instant, session: Session) {
        if session <= self.session {
            return;
        }
        self.session = session;
        self.serial = 0;
        let mut own = self.table.take_owner(self.me);
        self.table.start_session(self.me, session);
        for (name, copy) in &mut own {
            if copy.actor.is_some() {
                self.serial += 1;
                copy.session = session;
                copy.serial = self.serial;
                self.table.put(name, copy.clone());
                self.outputs.push_back(Output::Gossip(self.table.entry(name, copy, now)));
            }
        }
        for (name, _) in &own {
            self.settle(now, name);
        }
    }

    fn gossiped(&mut self, now: Instant, entry: &NameEntry) {
        if self.apply(now, entry) == Applied::New && table::worth_telling(entry) {
            self.outputs.push_back(Output::Gossip(entry.clone()));
        }
    }

    /// Takes one entry into the table and lets it have its effects.
    fn apply(&mut self, now: Instant, entry: &NameEntry) -> Applied {
        if table::ttl_ms(Duration::from_millis(entry.ttl_ms.into())).is_none() {
            self.counters.count(Counter::DgBody);
            return Applied::Refused;
        }
        if entry.owner == self.me {
            self.about_me(now, entry);
            return Applied::Known;
        }
        if !self.allowed.has(entry.owner) {
            self.counters.count(Counter::FactNotAllowed);
            return Applied::Refused;
        }
        let current = self.members.get(&entry.owner).map(|m| m.session);
        if current.is_some_and(|session| session > entry.session) {
            return Applied::Known;
        }
        let dropped = self.table.enter_session(entry.owner, entry.session);
        for name in dropped {
            self.settle(now, &name);
        }
        let applied = self.table.apply(entry, now);
        match applied {
            Applied::New => self.settle(now, &entry.name),
            Applied::Known => self.settle(now, &entry.name), // Perhaps it was vouched for.
            Applied::Refused => self.counters.count(Counter::NamesFull),
        }
        self.tidy(entry.owner);
        applied
    }

    /// Hears of an own name. If it is not held, or not so, that is said (C74).
    fn about_me(&mut self, now: Instant, entry: &NameEntry) {
        let alive = entry.actor.is_some() && entry.age_ms < entry.ttl_ms;
        if entry.session != self.session || !alive {
            return;
        }
        let own = self.table.copy(&entry.name, self.me).cloned();
        if own.as_ref().is_some_and(|copy| copy.actor == entry.actor) {
            return;
        }
        let mut copy = own.unwrap_or_else(|| Copy::gone(entry, now));
        if copy.serial <= entry.serial {
            self.serial = self.serial.max(entry.serial).saturating_add(1);
            copy.serial = self.serial;
            if self.table.room_for_own(&entry.name).is_ok() {
                self.table.put(&entry.name, copy.clone());
            }
        }
        let said = self.table.entry(&entry.name, &copy, now);
        self.outputs.push_back(Output::Gossip(said));
        self.settle(now, &entry.name);
    }

    /// Finds out who holds `name` now, and tells what changed (C73, C74, C79).
    fn settle(&mut self, now: Instant, name: &Name) {
        let live = |copy: &&Copy| copy.stage == Stage::Live && self.visible(copy);
        let copies = self.table.copies(name).iter();
        let best = copies.filter(live).max_by_key(|c| c.rank()).map(Copy::at);
        let own = self.table.copy(name, self.me).filter(|c| c.actor.is_some());
        let own = own.map(Copy::at);
        if let (Some(own), Some(best)) = (own, best)
            && best.node != self.me
        {
            self.counters.count(Counter::NameConflicts);
            crate::sometimes!("name.conflict");
            self.withdraw(now, name);
            self.event(name, own, NameEventKind::Lost);
        }
        match (self.table.set_holder(name, best), best) {
            (None, Some(after)) => self.event(name, after, NameEventKind::Registered),
            (Some(before), None) => self.event(name, before, NameEventKind::Withdrawn),
            (Some(before), Some(after)) if before != after => {
                self.event(name, after, NameEventKind::Replaced);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        if let Some(holder) = best
            && let Some(pending) = self.lookups.resolve(name)
        {
            self.answer(&pending.waiters, Some(holder));
        }
    }

    fn event(&mut self, name: &Name, holder: Ref, kind: NameEventKind) {
        let event = NameEvent { index: self.events, name: name.clone(), holder, kind };
        self.events += 1;
        self.outputs.push_back(Output::Event(event));
    }

    fn member(&mut self, now: Instant, event: &MemberEvent) {
        if event.node == self.me {
            return;
        }
        match event.kind {
            MemberEventKind::Join | MemberEventKind::Alive | MemberEventKind::Changed => {
                self.member_up(now, event, true);
            }
            MemberEventKind::Suspect => self.member_up(now, event, false),
            MemberEventKind::Dead(_) | MemberEventKind::Left => self.member_down(now, event.node),
        }
    }

    fn member_up(&mut self, now: Instant, event: &MemberEvent, alive: bool) {
        let session = event.life.session;
        let before = self.members.insert(event.node, Member { session, alive });
        if before.map(|m| m.session) == Some(session) {
            return;
        }
        let dropped = self.table.enter_session(event.node, session);
        let kept = self.table.names_of(event.node);
        for name in dropped.into_iter().chain(kept) {
            self.settle(now, &name);
        }
    }

    /// A member is Dead or Left: its names are dropped, its answers no longer awaited (C75).
    fn member_down(&mut self, now: Instant, node: NodeId) {
        self.members.remove(&node);
        self.told.remove(&node);
        let dropped = self.table.take_owner(node);
        self.tidy(node);
        for (name, _) in dropped {
            self.settle(now, &name);
        }
        for pending in self.lookups.forget_node(node) {
            self.answer(&pending.waiters, None);
        }
    }

    /// Takes up a changed allowlist (C24). Members that are off it are Dead next; what was heard
    /// of owners that are none goes here.
    fn allow(&mut self, now: Instant, allowed: Arc<Allowed>) {
        self.allowed = allowed;
        for owner in self.table.owners() {
            let known = owner == self.me || self.members.contains_key(&owner);
            if !known && !self.allowed.has(owner) {
                self.member_down(now, owner);
            }
        }
    }

    /// Forgets what is known of an owner that is no member and of which nothing is stored.
    fn tidy(&mut self, owner: NodeId) {
        if owner != self.me && !self.members.contains_key(&owner) {
            self.table.forget_owner(owner);
        }
    }

    fn lookup(&mut self, now: Instant, call: CallId, name: Name) {
        if let Some(holder) = self.table.holder(&name) {
            return self.answer(&[call], Some(holder));
        }
        if self.lookups.len() >= self.config.lookups_max {
            return self.answer(&[call], None);
        }
        if self.lookups.join(&name, call) {
            return;
        }
        let hint = self.hint(&name);
        let asked = match hint {
            Some(owner) => vec![owner],
            None => self.some_members(),
        };
        if asked.is_empty() {
            return self.answer(&[call], None);
        }
        let until = now + self.config.lookup_timeout;
        let query = self.lookups.start(name.clone(), call, &asked, hint.is_some(), until);
        for to in asked {
            let name = name.clone();
            self.outputs.push_back(Output::Query { to, query, name });
        }
    }

    /// The owner of the greatest hint for `name` (C75).
    fn hint(&self, name: &Name) -> Option<NodeId> {
        let hint = |copy: &&Copy| copy.stage == Stage::Hint && self.visible(copy);
        let copies = self.table.copies(name).iter();
        copies.filter(hint).max_by_key(|c| c.rank()).map(|c| c.owner)
    }

    /// Draws up to three Alive members (C77).
    fn some_members(&mut self) -> Vec<NodeId> {
        let alive = self.members.iter().filter(|(_, m)| m.alive);
        let mut alive: Vec<NodeId> = alive.map(|(node, _)| *node).collect();
        let count = ASKED_MAX.min(alive.len() as u64);
        let mut drawn = Vec::new();
        for nth in 0..count {
            let left = alive.len() as u64;
            let at = self.choices.choose("registry.ask", [nth, 0], left);
            let at = usize::try_from(at).expect("an index into a list in memory");
            drawn.push(alive.remove(at));
        }
        drawn
    }

    fn answer(&mut self, waiters: &[CallId], found: Option<Ref>) {
        for call in waiters {
            let result = u8::from(found.is_none());
            self.counters.count_labelled(Labelled::Lookups, result);
            self.outputs.push_back(Output::Found { call: *call, found });
        }
    }

    fn queried(&mut self, now: Instant, to: NodeId, query: u32, name: &Name) {
        let holder = self.table.holder(name);
        let copy = holder.and_then(|holder| self.table.copy(name, holder.node));
        let entry = copy.map(|copy| self.table.entry(name, copy, now));
        self.outputs.push_back(Output::QueryReply { to, query, entry });
    }

    fn replied(&mut self, now: Instant, from: NodeId, query: u32, entry: Option<NameEntry>) {
        let asked = self.lookups.heard(query, from);
        let Some((name, hint)) = asked else {
            return self.counters.count(Counter::NameUnexpected);
        };
        let entry = entry.filter(|e| e.name == name && e.actor.is_some() && e.age_ms < e.ttl_ms);
        if let Some(entry) = &entry {
            // Settling the name answers the call, if its owner is a member.
            if self.apply(now, entry) == Applied::Refused {
                self.answer_unkept(&name, entry);
            }
            crate::sometimes!("name.hint_confirmed", hint && self.holder(&name).is_some());
        } else if hint && self.table.copy(&name, from).is_some() {
            // Its owner does not hold it any more. What else it changed, a sync will bring.
            self.table.remove(&name, from);
            self.table.reset(from);
            self.settle(now, &name);
        }
        if let Some(pending) = self.lookups.exhausted(query) {
            self.answer(&pending.waiters, None);
        }
    }

    /// Answers a look-up by an entry for which the table has no room.
    fn answer_unkept(&mut self, name: &Name, entry: &NameEntry) {
        let known = self.members.get(&entry.owner);
        let visible = known.is_some_and(|m| m.session == entry.session);
        if let (true, Some(actor)) = (visible, entry.actor)
            && let Some(pending) = self.lookups.resolve(name)
        {
            let holder = Ref { node: entry.owner, session: entry.session, actor };
            self.answer(&pending.waiters, Some(holder));
        }
    }
}
