//! Rounds (C46), helpers (C47) and the health score (C49).

use crate::cluster::counters::{Counter, Timing};
use crate::cluster::ids::{Addr, NodeId, Session};
use crate::cluster::wire::{Body, Fact, State};
use crate::time::Instant;

use super::io::Lane;
use super::table::Row;
use super::timers::Timer;
use super::{Swim, draw, index};

/// Where the round is (see the header of the module).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Phase {
    #[default]
    Waiting,
    Direct,
    Indirect,
}

/// The round in progress, or the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Round {
    phase: Phase,
    target: NodeId,
    session: Session,
    seq: u32,
    /// m = 1 + health score when it began.
    patience: u64,
    /// When the next one begins.
    next: Instant,
    /// Who was asked to help, and who said Nack.
    helpers: Vec<(NodeId, bool)>,
}

/// One Ping sent for another member (C47).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Relay {
    asker: NodeId,
    lane: Lane,
    asked: u32,
    target: NodeId,
    seq: u32,
    /// When to say Nack; [`Instant::FAR`] once it was said.
    nack: Instant,
    until: Instant,
}

impl Swim {
    pub(super) fn advance_round(&mut self, now: Instant) {
        match self.round.phase {
            Phase::Waiting => self.begin_round(now),
            Phase::Direct => self.ask_helpers(now),
            Phase::Indirect => self.fail_round(now),
        }
    }

    fn begin_round(&mut self, now: Instant) {
        let patience = 1 + u64::from(self.health);
        let next = now.plus_nanos(self.spans.period * patience);
        self.timers.set(Timer::Round, next);
        let Some(slot) = self.next_target() else {
            return;
        };
        self.seq = self.seq.wrapping_add(1);
        let row = self.table.row(slot);
        let target = (row.node, addr_of(row), Some(slot));
        self.trips.begin(row.node, slot, now);
        let (round, seq) = (&mut self.round, self.seq);
        round.phase = Phase::Direct;
        round.target = row.node;
        round.session = row.life.session;
        round.seq = seq;
        round.patience = patience;
        round.next = next;
        round.helpers.clear();
        let at = now.plus_nanos(self.spans.probe_timeout * patience);
        self.timers.set(Timer::Round, at);
        self.send_to(now, target, Lane::Datagram, Body::Ping { seq });
    }

    /// Draws the next target from those not yet probed in this pass; starts a new pass when all
    /// were. The same as walking a shuffled list, without shuffling it at once.
    fn next_target(&mut self) -> Option<u32> {
        if self.order.is_empty() {
            return None;
        }
        if self.next >= self.order.len() {
            self.next = 0;
        }
        let left = self.order.len() - self.next;
        let drawn = self.choices.choose("swim.order", [0, 0], left as u64);
        let at = self.next;
        self.order.swap(at, at + index(drawn));
        self.next += 1;
        Some(self.order[at])
    }

    /// Takes a member that is none any more out of the probe order.
    pub(super) fn take_off_order(&mut self, slot: u32) {
        let at = self.order.iter().position(|other| *other == slot);
        let at = at.expect("a member is in the probe order");
        self.order.remove(at);
        if at < self.next {
            self.next -= 1;
        }
    }

    fn ask_helpers(&mut self, now: Instant) {
        let (target, seq) = (self.round.target, self.round.seq);
        let held = self.table.find(target).map(|slot| self.table.row(slot));
        let Some(addr) = held.filter(|row| row.is_member()).and_then(|row| row.addr) else {
            return self.void_round(now);
        };
        let wait = self.spans.indirect_timeout * self.round.patience;
        self.timers.set(Timer::Round, now.plus_nanos(wait));
        self.round.phase = Phase::Indirect;
        let body = Body::PingReq {
            seq,
            wait_ms: u32::try_from(wait / 1_000_000).unwrap_or(u32::MAX),
            target,
            session: self.round.session,
            addr,
        };
        let helpers = self.draw_helpers(target);
        for slot in &helpers {
            let row = self.table.row(*slot);
            let helper = (row.node, addr_of(row), Some(*slot));
            self.round.helpers.push((row.node, false));
            self.send_to(now, helper, Lane::Datagram, body);
        }
        self.keep_scratch(helpers);
        self.send(now, target, Lane::Stream, Body::Ping { seq });
    }

    fn draw_helpers(&mut self, target: NodeId) -> Vec<u32> {
        let mut pool = std::mem::take(&mut self.scratch);
        pool.clear();
        pool.extend(self.order.iter().filter(|slot| {
            let row = self.table.row(**slot);
            row.state == State::Alive && row.node != target
        }));
        let count = self.config.helpers as usize;
        draw(&mut self.choices, "swim.helper", &mut pool, count);
        pool
    }

    fn fail_round(&mut self, now: Instant) {
        self.counters.count(Counter::ProbeFailed);
        let silent = self.round.helpers.iter().filter(|(_, nack)| !nack).count();
        let silent = match self.round.helpers.is_empty() {
            true => 1,
            false => u32::try_from(silent).unwrap_or(u32::MAX),
        };
        self.worsen(silent);
        let (target, session) = (self.round.target, self.round.session);
        self.end_round(now);
        let Some(slot) = self.table.find(target) else {
            return;
        };
        let row = self.table.row(slot);
        // One that died, left or restarted meanwhile was not the one asked.
        if row.is_member() && row.life.session == session {
            let fact = Fact::Suspect { node: target, life: row.life, accuser: self.me };
            self.hear(now, self.me, &fact);
        }
    }

    fn end_round(&mut self, now: Instant) {
        self.round.phase = Phase::Waiting;
        self.timers.set(Timer::Round, self.round.next.max(now));
    }

    /// Ends the round without a verdict.
    pub(super) fn void_round(&mut self, now: Instant) {
        match self.round.phase {
            Phase::Waiting => {}
            Phase::Direct | Phase::Indirect => self.end_round(now),
        }
    }

    /// The target refused us, sealed: it is alive (C46).
    pub(super) fn rejected(&mut self, now: Instant, peer: NodeId) {
        self.unreachable(peer);
        if self.round.target == peer {
            self.void_round(now);
        }
    }

    pub(super) fn acked(&mut self, now: Instant, from: NodeId, lane: Lane, seq: u32) {
        let waits = match self.round.phase {
            Phase::Waiting => false,
            Phase::Direct | Phase::Indirect => self.round.seq == seq,
        };
        let round = &self.round;
        let asked = || round.helpers.iter().any(|(helper, _)| *helper == from);
        if waits && (round.target == from || asked()) {
            crate::sometimes!("swim.stream_ack", lane == Lane::Stream);
            self.health = self.health.saturating_sub(1);
            // On the other lane, or through a helper, it is the trip of another Ping.
            if self.round.target == from
                && lane == Lane::Datagram
                && let Some(nanos) = self.trips.end(from, now)
            {
                self.counters.time(Timing::ProbeRtt, nanos);
            }
            return self.end_round(now);
        }
        let relayed = |relay: &Relay| relay.seq == seq && relay.target == from;
        match self.relays.iter().position(relayed) {
            Some(at) => {
                let relay = self.relays.remove(at);
                let seq = relay.asked;
                self.send(now, relay.asker, relay.lane, Body::Ack { seq });
                self.plan_relays();
            }
            None => self.counters.count(Counter::AckUnexpected),
        }
    }

    pub(super) fn nacked(&mut self, from: NodeId, seq: u32) {
        let waits = self.round.phase == Phase::Indirect && self.round.seq == seq;
        let helper = self.round.helpers.iter_mut().find(|(node, _)| *node == from);
        match helper {
            Some((_, nack)) if waits => *nack = true,
            Some(_) | None => self.counters.count(Counter::AckUnexpected),
        }
    }

    /// Pings a target for an asker (C47).
    pub(super) fn relay(
        &mut self,
        now: Instant,
        (asker, lane): (NodeId, Lane),
        (asked, wait_ms): (u32, u32),
        (target, addr): (NodeId, Addr),
    ) {
        if target == self.me {
            return self.send(now, asker, lane, Body::Ack { seq: asked });
        }
        let full = self.relays.len() >= self.config.relays_max as usize;
        if full || !self.allowed.has(target) {
            return self.counters.count(Counter::RelayRefused);
        }
        self.seq = self.seq.wrapping_add(1);
        let seq = self.seq;
        // What a member with this configuration may ask for, and as much again.
        let most = 1 + u64::from(self.config.health_max);
        let most = self.spans.indirect_timeout.saturating_mul(2 * most);
        let wait = (u64::from(wait_ms) * 1_000_000).min(most);
        self.relays.push(Relay {
            asker,
            lane,
            asked,
            target,
            seq,
            nack: now.plus_nanos(wait / 10 * 8),
            until: now.plus_nanos(wait * 2),
        });
        self.plan_relays();
        let slot = self.table.find(target);
        let known = slot.and_then(|slot| self.table.row(slot).addr);
        let to = (target, known.unwrap_or(addr), slot);
        self.send_to(now, to, Lane::Datagram, Body::Ping { seq });
    }

    pub(super) fn relay_timer(&mut self, now: Instant) {
        for at in 0..self.relays.len() {
            let relay = self.relays[at];
            if relay.nack <= now {
                self.relays[at].nack = Instant::FAR;
                let seq = relay.asked;
                self.send(now, relay.asker, relay.lane, Body::Nack { seq });
            }
        }
        self.relays.retain(|relay| relay.until > now);
        self.plan_relays();
    }

    fn plan_relays(&mut self) {
        let at = self
            .relays
            .iter()
            .map(|relay| relay.nack.min(relay.until))
            .fold(Instant::FAR, Instant::min);
        self.timers.set(Timer::Relay, at);
    }

    /// Raises the health score: 0 is well (C49).
    pub(super) fn worsen(&mut self, by: u32) {
        self.health = self.health.saturating_add(by).min(self.config.health_max);
    }
}

/// Where a member listens.
fn addr_of(row: &Row) -> Addr {
    row.addr.expect("Alive and Suspect rows have an address")
}
