//! What keeps tables equal when gossip was lost: sync (C54), join (C55), leave (C56), re-probe
//! (C59), forgetting (C60), and the allowlist (C24).

use std::sync::Arc;

use crate::cluster::counters::{Counter, Labelled};
use crate::cluster::identity::Allowed;
use crate::cluster::ids::{Addr, Incarnation, NodeId};
use crate::cluster::wire::{Body, Entry, Fact, MemberRow, Message, State};
use crate::time::Instant;

use super::arithmetic::{log2_ceil, sync_every};
use super::facts::Claim;
use super::io::{DeadCause, Lane, MemberEventKind, Output, Seed, SyncStep};
use super::table::ME;
use super::timers::Timer;
use super::{Stage, Swim, index};

/// Dead notices in the time of one gossip tick (C54).
const NOTICES_MAX: u32 = 64;
/// Peers dialled for a sync at a time; over it the oldest is given up.
pub(super) const WANTED_MAX: usize = 64;

/// Our part in a running sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Role {
    /// Sent First, awaits Second.
    Asker,
    /// Sent Second, awaits Third.
    Answerer,
}

/// A running sync with one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Syncing {
    role: Role,
    until: Instant,
}

/// A seed, and how far we came with it (C55).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SeedState {
    seed: Seed,
    /// Who answered there.
    peer: Option<NodeId>,
    reached: bool,
}

pub(super) fn seed_states(seeds: &[Seed]) -> Vec<SeedState> {
    let state = |seed: &Seed| SeedState { seed: *seed, peer: None, reached: false };
    seeds.iter().map(state).collect()
}

impl Swim {
    pub(super) fn link_up(&mut self, now: Instant, peer: NodeId, addr: Addr, seed: Option<Seed>) {
        if self.links.contains_key(&peer) || self.links.len() < self.config.members_max as usize {
            self.links.insert(peer, addr);
        }
        let seed = seed.and_then(|seed| self.seeds.iter_mut().find(|state| state.seed == seed));
        let by_seed = seed.is_some();
        if let Some(seed) = seed {
            seed.peer = Some(peer);
        }
        let wanted = self.wanted.iter().position(|node| *node == peer);
        if let Some(at) = wanted {
            self.wanted.remove(at);
        }
        if by_seed || wanted.is_some() {
            self.ask_sync(now, peer);
        }
    }

    pub(super) fn link_down(&mut self, peer: NodeId) {
        self.links.remove(&peer);
        self.syncs.remove(&peer);
        self.unreachable(peer);
    }

    pub(super) fn unreachable(&mut self, peer: NodeId) {
        self.wanted.retain(|node| *node != peer);
    }

    /// Notes that the next link with a peer is for a sync.
    fn want_sync(&mut self, peer: NodeId) {
        self.unreachable(peer);
        if self.wanted.len() >= WANTED_MAX {
            self.wanted.pop_front();
        }
        self.wanted.push_back(peer);
    }

    fn ask_sync(&mut self, now: Instant, to: NodeId) {
        if self.is_leaving() || self.syncs.contains_key(&to) {
            return;
        }
        self.counters.count_labelled(Labelled::Sync, 0);
        self.send_sync(now, to, SyncStep::First);
        self.run_sync(now, to, Role::Asker);
    }

    fn run_sync(&mut self, now: Instant, with: NodeId, role: Role) {
        let until = now.plus_nanos(self.spans.reprobe);
        if self.syncs.len() < self.config.members_max as usize {
            self.syncs.insert(with, Syncing { role, until });
            self.timers.advance(Timer::SyncTimeout, until);
        }
    }

    fn send_sync(&mut self, now: Instant, to: NodeId, step: SyncStep) {
        let rows = match step {
            SyncStep::First | SyncStep::Second => self.synced_rows(now),
            SyncStep::Third => Vec::new(),
        };
        self.outputs.push_back(Output::Sync { to, step, rows });
    }

    /// All rows but those that are not allowed here, oneself first.
    fn synced_rows(&self, now: Instant) -> Vec<MemberRow> {
        let mut rows = Vec::with_capacity(self.table.len());
        rows.push(self.table.row(ME).synced(now, &self.spans));
        let others = self.table.iter().filter(|row| row.node != self.me && !row.revoked);
        rows.extend(others.map(|row| row.synced(now, &self.spans)));
        rows
    }

    /// A message of a sync came.
    pub(super) fn sync(&mut self, now: Instant, from: NodeId, step: SyncStep, rows: &[MemberRow]) {
        let role = self.syncs.get(&from).map(|sync| sync.role);
        match (step, role) {
            (SyncStep::First, None) => self.answer_sync(now, from, rows),
            // Both asked at once: the greater one's question stands, so that one is answered.
            (SyncStep::First, Some(Role::Asker)) if from > self.me => {
                self.answer_sync(now, from, rows);
                self.synced_with(from);
            }
            (SyncStep::First, Some(Role::Asker | Role::Answerer)) => {
                self.counters.count(Counter::SyncBusy);
            }
            (SyncStep::Second, Some(Role::Asker)) => {
                self.syncs.remove(&from);
                self.merge(now, from, rows);
                self.send_sync(now, from, SyncStep::Third);
                self.synced_with(from);
            }
            (SyncStep::Third, Some(Role::Answerer)) => {
                self.syncs.remove(&from);
            }
            // An answer to a question that was given up: what it says is true all the same.
            (SyncStep::Second, Some(Role::Answerer) | None) => {
                self.merge(now, from, rows);
                self.synced_with(from);
            }
            (SyncStep::Third, Some(Role::Asker) | None) => {}
        }
    }

    /// Merges before it answers.
    fn answer_sync(&mut self, now: Instant, from: NodeId, rows: &[MemberRow]) {
        self.counters.count_labelled(Labelled::Sync, 1);
        self.merge(now, from, rows);
        self.send_sync(now, from, SyncStep::Second);
        self.run_sync(now, from, Role::Answerer);
    }

    /// The tables of both are merged: joined, if this was the first time (C55).
    fn synced_with(&mut self, peer: NodeId) {
        for seed in &mut self.seeds {
            seed.reached |= seed.peer == Some(peer);
        }
        self.join();
    }

    fn join(&mut self) {
        if self.stage == Stage::Joining {
            self.stage = Stage::Joined;
            self.outputs.push_back(Output::Joined);
        }
    }

    /// Rows are facts by C42, with the differences of C54.
    fn merge(&mut self, now: Instant, from: NodeId, rows: &[MemberRow]) {
        let before = self.counters.get(Counter::Refutations);
        let mut place = 0;
        for row in rows {
            let slot = self.table.find_after(row.node, &mut place);
            if slot.is_some_and(|slot| self.table.row(slot).says(row)) {
                self.counters.count(Counter::FactStale);
                continue;
            }
            let claim = Claim::of_row(from, row);
            let gone = matches!(row.state, State::Dead | State::Left);
            if gone && claim.age >= self.spans.keep(row.state) {
                continue;
            }
            if row.state == State::Dead && self.notify_dead(now, &claim) {
                continue;
            }
            self.learn(now, from, &claim);
            self.fill_addr(&claim);
        }
        if self.counters.get(Counter::Refutations) > before {
            // The accuser is right here: tell it at once.
            self.send(now, from, Lane::Datagram, Body::Gossip);
        }
    }

    /// A Dead row about a member held Alive or Suspect changes nothing here; the member is told,
    /// so that it refutes or is found dead by probing (C54). True if that was so.
    fn notify_dead(&mut self, now: Instant, claim: &Claim) -> bool {
        let Some(slot) = self.table.find(claim.node) else {
            return false;
        };
        let row = self.table.row(slot);
        if claim.node == self.me || !row.is_member() || claim.life < row.life {
            return false;
        }
        let Some(addr) = row.addr.filter(|_| self.may_notify(now)) else {
            return true;
        };
        crate::sometimes!("sync.dead_notice");
        let fact = Fact::Dead { node: claim.node, life: claim.life, accuser: claim.accuser };
        self.outputs.push_back(Output::Send {
            to: claim.node,
            addr,
            lane: Lane::Datagram,
            message: Message { body: Body::Gossip, entries: vec![Entry::Fact(fact)] },
        });
        true
    }

    fn may_notify(&mut self, now: Instant) -> bool {
        if now.nanos_since(self.notices.0) >= self.spans.gossip_tick {
            self.notices = (now, 0);
        }
        self.notices.1 += 1;
        self.notices.1 <= NOTICES_MAX
    }

    /// A row that came without an address takes it from a sync (C40).
    fn fill_addr(&mut self, claim: &Claim) {
        if let Some(slot) = self.table.find(claim.node) {
            let row = self.table.row_mut(slot);
            if row.addr.is_none() && claim.life >= row.life {
                row.addr = claim.addr;
                row.meta = claim.meta;
            }
        }
    }

    /// Every X(N), with a random Alive member.
    pub(super) fn sync_timer(&mut self, now: Instant) {
        let every = sync_every(self.spans.sync, self.member_count());
        self.timers.set(Timer::Sync, now.plus_nanos(every));
        let Some(partner) = self.draw_partner() else {
            return;
        };
        let row = self.table.row(partner);
        let addr = row.addr.expect("an Alive row has an address");
        let peer = row.node;
        self.want_sync(peer);
        self.outputs.push_back(Output::Want { peer, addr });
    }

    fn draw_partner(&mut self) -> Option<u32> {
        let mut pool = std::mem::take(&mut self.scratch);
        pool.clear();
        let alive = |slot: &&u32| self.table.row(**slot).state == State::Alive;
        pool.extend(self.order.iter().filter(alive));
        super::draw(&mut self.choices, "sync.partner", &mut pool, 1);
        let partner = pool.first().copied();
        self.keep_scratch(pool);
        partner
    }

    /// Gives up syncs that were not answered within Q.
    pub(super) fn sync_timeout(&mut self, now: Instant) {
        let before = self.syncs.len();
        self.syncs.retain(|_, sync| sync.until > now);
        for _ in self.syncs.len()..before {
            self.counters.count_labelled(Labelled::Sync, 2);
        }
        let next = self.syncs.values().map(|sync| sync.until).min();
        self.timers.set(Timer::SyncTimeout, next.unwrap_or(Instant::FAR));
    }

    /// Every Q, one random Dead member is dialled and, if it answers, synced with (C59).
    pub(super) fn reprobe(&mut self, now: Instant) {
        self.timers.set(Timer::Reprobe, now.plus_nanos(self.spans.reprobe));
        if self.dead.is_empty() {
            return;
        }
        let mut pool = std::mem::take(&mut self.scratch);
        pool.clear();
        pool.extend(self.dead.iter().filter(|slot| {
            let row = self.table.row(**slot);
            row.addr.is_some() && !row.revoked
        }));
        if !pool.is_empty() {
            let count = pool.len() as u64;
            let at = self.choices.choose("swim.reprobe", [0, 0], count);
            let row = self.table.row(pool[index(at)]);
            if let (peer, Some(addr)) = (row.node, row.addr) {
                self.want_sync(peer);
                self.outputs.push_back(Output::Dial { peer, addr });
            }
        }
        self.keep_scratch(pool);
    }

    /// Dials seeds not yet reached, every Q; all of them while no other member is Alive (C55).
    pub(super) fn join_timer(&mut self, now: Instant) {
        if self.seeds.is_empty() {
            self.timers.clear(Timer::Join);
            if !self.seeds_awaited {
                self.join();
            }
            return;
        }
        self.timers.set(Timer::Join, now.plus_nanos(self.spans.reprobe));
        let alone = self.alive <= 1;
        let joining = self.stage == Stage::Joining;
        for at in 0..self.seeds.len() {
            // A seed that came to us first is a member, but only a sync of ours joins.
            let known = !joining && self.is_known(self.seeds[at].seed);
            self.seeds[at].reached = !alone && (self.seeds[at].reached || known);
            if !self.seeds[at].reached && !self.is_self(self.seeds[at].seed) {
                self.outputs.push_back(Output::DialSeed { seed: self.seeds[at].seed });
            }
        }
    }

    fn is_self(&self, seed: Seed) -> bool {
        seed.node == Some(self.me) || self.table.row(ME).addr == Some(seed.addr)
    }

    /// Says whether a seed is known as a member.
    fn is_known(&self, seed: Seed) -> bool {
        let member = |node| {
            let slot = self.table.find(node);
            slot.is_some_and(|slot| self.table.row(slot).is_member())
        };
        seed.node.is_some_and(member)
            || self.order.iter().any(|slot| self.table.row(*slot).addr == Some(seed.addr))
    }

    pub(super) fn reseed(&mut self, now: Instant, seeds: &[Seed]) {
        self.seeds_awaited = false;
        let old = std::mem::replace(&mut self.seeds, seed_states(seeds));
        for state in &mut self.seeds {
            if let Some(known) = old.iter().find(|other| other.seed == state.seed) {
                *state = *known;
            }
        }
        if !self.is_leaving() {
            self.timers.set(Timer::Join, now);
        }
    }

    /// Leaves the cluster: Left to every linked member, and by gossip (C56).
    pub(super) fn leave(&mut self, now: Instant) {
        if self.is_leaving() {
            return;
        }
        let spread = 2 * u64::from(log2_ceil(self.member_count())) * self.spans.gossip_tick;
        self.stage = Stage::Leaving { until: now.plus_nanos(self.spans.leave_timeout) };
        self.set_state(ME, State::Left);
        let me = self.table.row_mut(ME);
        me.life.incarnation = Incarnation::LEFT;
        me.since = now;
        me.forget = self.spans.forget_at(now, State::Left, 0);
        for timer in [Timer::Round, Timer::Sync, Timer::Reprobe, Timer::Join] {
            self.timers.clear(timer);
        }
        self.enqueue(now, ME);
        let linked: Vec<NodeId> = self.links.keys().copied().collect();
        for peer in linked {
            self.send(now, peer, Lane::Datagram, Body::Gossip);
        }
        let wait = spread.min(self.spans.leave_timeout);
        self.timers.set(Timer::Leave, now.plus_nanos(wait));
    }

    /// Departs once Left was sent R(N) times, or at the end of the time for leaving.
    pub(super) fn leave_timer(&mut self, now: Instant) {
        let Stage::Leaving { until } = self.stage else {
            return self.timers.clear(Timer::Leave);
        };
        let told = self.table.row(ME).ticket.is_none() || self.order.is_empty();
        if !told && now < until {
            let at = now.plus_nanos(self.spans.gossip_tick).min(until);
            return self.timers.set(Timer::Leave, at);
        }
        self.stage = Stage::Departed;
        self.timers.clear_all();
        self.queue.clear(&mut self.table);
        self.outputs.push_back(Output::Departed);
    }

    /// Plans when a Dead or Left row is forgotten (C60).
    pub(super) fn plan_to_forget(&mut self, slot: u32) {
        if slot != ME {
            let at = self.table.row(slot).forget;
            self.timers.advance(Timer::Forget, at);
        }
    }

    pub(super) fn forget(&mut self, now: Instant) {
        let slots: Vec<u32> = self.table.slots().to_vec();
        let mut next = Instant::FAR;
        for slot in slots {
            let at = self.table.row(slot).forget;
            if slot == ME {
                continue;
            } else if at <= now {
                self.forget_row(slot);
            } else {
                next = next.min(at);
            }
        }
        self.timers.set(Timer::Forget, next);
    }

    fn forget_row(&mut self, slot: u32) {
        self.queue.drop_fact(&mut self.table, slot);
        self.set_owed(slot, false);
        // Off every list, as nothing is kept of one that left.
        self.set_state(slot, State::Left);
        let row = self.table.row(slot);
        let (node, life) = (row.node, row.life);
        self.remembered.keep(node, life, self.config.sessions_max as usize);
        self.table.remove(slot);
        self.trips.forget(slot);
    }

    /// Takes up a changed allowlist: who is off it is Dead here at once, and not told on (C24).
    pub(super) fn allow(&mut self, now: Instant, allowed: Arc<Allowed>) {
        self.allowed = allowed;
        for at in 0..self.table.len() {
            let slot = self.table.slots()[at];
            if slot == ME {
                continue;
            }
            let row = self.table.row(slot);
            match (self.allowed.has(row.node), row.state) {
                (true, State::Alive | State::Suspect | State::Dead | State::Left) => {
                    self.table.row_mut(slot).revoked = false;
                }
                (false, State::Left) => {
                    self.queue.drop_fact(&mut self.table, slot);
                    self.table.row_mut(slot).revoked = true;
                }
                (false, State::Alive | State::Suspect | State::Dead) => self.revoke(now, slot),
            }
        }
        self.queue.keep_names(|owner| owner == self.me || self.allowed.has(owner));
    }

    fn revoke(&mut self, now: Instant, slot: u32) {
        self.queue.drop_fact(&mut self.table, slot);
        let row = self.table.row_mut(slot);
        row.revoked = true;
        if row.is_member() {
            row.since = now;
            row.forget = self.spans.forget_at(now, State::Dead, 0);
            self.set_state(slot, State::Dead);
            self.emit(slot, MemberEventKind::Dead(DeadCause::Revoked));
        }
    }
}
