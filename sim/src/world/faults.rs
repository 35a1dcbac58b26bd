//! How the entries of a plan begin and end (T20), and what an attacker does.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use machines::cluster::identity::Allowed;
use machines::cluster::ids::Conn;
use machines::digest::mix;
use machines::node::io::{Call, Input};

use super::{Due, Whom, World, starts};
use crate::checker::Notice;
use crate::clock::Clock;
use crate::disk::{DiskFaults, File};
use crate::guest::Guest;
use crate::host::{State, address};
use crate::net::Conditions;
use crate::plan::{Act, DiskFault, Links, Planned};

impl<G: Guest> World<G> {
    pub(super) fn begin(&mut self, entry: u32) {
        self.active.push(entry);
        self.note_of("begin", Whom::Entry(entry));
        let planned = self.setup.plan[entry as usize].clone();
        match &planned.act {
            Act::Links(..) => self.reshape(),
            Act::Reset(links) => self.reset(links),
            Act::Kill { node, power, wipe } => self.kill(*node, *power, *wipe),
            Act::Pause(node) => self.pause(*node, planned.until.unwrap_or(self.setup.quiet_at)),
            Act::Slow(node, _) => self.settle_slow(*node),
            Act::Disk(node, fault) => self.spoil(*node, *fault),
            Act::Jump(node, by) => {
                self.struck.count("jump");
                self.skew(*node, |clock, now| clock.jump(now, *by));
            }
            Act::Offset(..) => {} // From the start: see `offset_clocks`.
            Act::Second(_) => {}  // Only of a keeper.
            Act::Drift(node, _) => {
                self.struck.count("drift");
                self.settle_drift(*node);
            }
            Act::Leave(node) => {
                let call = self.clients.name_call();
                self.call(*node, call, Call::Leave);
            }
            Act::Move(node) => self.move_away(*node),
            Act::Revoke(node) => {
                self.struck.count("revoke");
                self.allow();
                self.notify(Notice::Revoked(*node));
            }
            Act::Forge(_) => self.agenda.push(self.now, Due::Forge(entry)),
        }
        if planned.until.is_none() {
            self.active.retain(|other| *other != entry || is_state(&planned));
        }
        self.tell(&planned.act);
    }

    pub(super) fn end(&mut self, entry: u32) {
        self.active.retain(|other| *other != entry);
        self.note_of("end", Whom::Entry(entry));
        let planned = self.setup.plan[entry as usize].clone();
        match &planned.act {
            Act::Links(..) => self.reshape(),
            Act::Kill { node, .. } | Act::Leave(node) => self.start_again(*node),
            Act::Slow(node, _) => self.settle_slow(*node),
            Act::Disk(node, _) => self.settle_disk(*node),
            Act::Drift(node, _) => self.settle_drift(*node),
            Act::Revoke(_) => self.allow(),
            Act::Reset(_)
            | Act::Pause(_)
            | Act::Jump(..)
            | Act::Offset(..)
            | Act::Move(_)
            | Act::Second(_)
            | Act::Forge(_) => {}
        }
        self.tell(&planned.act);
    }

    fn tell(&mut self, act: &Act) {
        match act {
            Act::Links(..) => self.notify(Notice::LinksChanged),
            Act::Reset(_)
            | Act::Kill { .. }
            | Act::Pause(_)
            | Act::Slow(..)
            | Act::Disk(..)
            | Act::Jump(..)
            | Act::Offset(..)
            | Act::Drift(..)
            | Act::Leave(_)
            | Act::Move(_)
            | Act::Revoke(_)
            | Act::Second(_)
            | Act::Forge(_) => self.notify(Notice::FaultsChanged),
        }
    }

    fn reshape(&mut self) {
        let plan = self.setup.plan.clone();
        let entries = self.active.iter().map(|entry| &plan[*entry as usize]);
        let changes: Vec<_> = entries
            .filter_map(|planned| match &planned.act {
                Act::Links(links, change) => Some((
                    move |from, to| links.has(from, to),
                    move |conditions: &mut Conditions| change.apply(conditions),
                )),
                Act::Reset(_)
                | Act::Kill { .. }
                | Act::Pause(_)
                | Act::Slow(..)
                | Act::Disk(..)
                | Act::Jump(..)
                | Act::Offset(..)
                | Act::Drift(..)
                | Act::Leave(_)
                | Act::Move(_)
                | Act::Revoke(_)
                | Act::Second(_)
                | Act::Forge(_) => None,
            })
            .collect();
        self.net.reshape(&changes);
    }

    fn reset(&mut self, links: &Links) {
        for from in 0..self.setup.nodes {
            for to in 0..self.setup.nodes {
                if links.has(from, to) {
                    self.reset_between(from, to);
                }
            }
        }
    }

    fn kill(&mut self, node: u32, power: bool, wipe: bool) {
        let host = &self.hosts[node as usize];
        if matches!(host.state, State::Up | State::Booting) {
            self.struck.count("kill");
        }
        self.stop(node, State::Down, power);
        let disk = &mut self.hosts[node as usize].disk;
        if wipe && !disk.durable(File::Session).is_empty() {
            disk.wipe();
            self.struck.count("wipe");
        }
        self.notify(Notice::Died(node));
    }

    /// Ends the process of `node`, whatever it was doing.
    pub(super) fn stop(&mut self, node: u32, state: State, power: bool) {
        let host = &mut self.hosts[node as usize];
        if let (Some(answers), Some(guest)) = (&mut self.answers, &mut host.guest) {
            answers.extend(guest.take_recorded());
        }
        host.guest = None;
        host.state = state;
        host.epoch += 1; // What is under way for the old process finds nobody.
        host.ended_at = self.now;
        host.busy_until = 0;
        host.inbox.clear();
        host.stores.clear();
        host.datagrams_waiting = 0;
        host.dark = power;
        host.disk.crash(node, &mut self.choices);
        self.clients.ended(node);
        self.drop_streams(node, !power);
    }

    /// The window of what ended a process is over; another such window may still be open.
    fn start_again(&mut self, node: u32) {
        let ended = |act: &Act| {
            let (Act::Kill { node: other, .. } | Act::Leave(other)) = act else {
                return false;
            };
            *other == node
        };
        if self.faults().any(|planned| ended(&planned.act)) {
            return;
        }
        match self.hosts[node as usize].state {
            State::Down | State::Left | State::Off => self.start(node),
            State::Up | State::Booting | State::Refused(_) => {}
        }
    }

    fn pause(&mut self, node: u32, until: u64) {
        let host = &mut self.hosts[node as usize];
        if host.guest.is_some() {
            host.busy_until = host.busy_until.max(until);
            self.struck.count("pause");
            self.agenda.push(until, Due::Wake(node));
        }
    }

    fn settle_slow(&mut self, node: u32) {
        let mut slow = 0;
        for planned in self.faults() {
            if let Act::Slow(other, cost) = planned.act
                && other == node
            {
                slow = cost;
            }
        }
        self.hosts[node as usize].slow = slow;
    }

    fn settle_drift(&mut self, node: u32) {
        let mut drift = 0;
        for planned in self.faults() {
            if let Act::Drift(other, ppm) = planned.act
                && other == node
            {
                drift = ppm;
            }
        }
        self.skew(node, |clock, now| clock.drift(now, drift));
    }

    fn spoil(&mut self, node: u32, fault: DiskFault) {
        self.settle_disk(node);
        if fault == DiskFault::Rot {
            self.hosts[node as usize].disk.rot(node, &mut self.choices);
        }
    }

    fn settle_disk(&mut self, node: u32) {
        let mut faults = DiskFaults::default();
        for planned in self.faults() {
            let Act::Disk(other, fault) = planned.act else {
                continue;
            };
            if other != node {
                continue;
            }
            let until = planned.until.unwrap_or(self.setup.quiet_at);
            match fault {
                DiskFault::Torn => faults.torn = true,
                DiskFault::LostSync => faults.lost_sync = true,
                DiskFault::Misdirected => faults.misdirected = true,
                DiskFault::ReadError => faults.read_error = true,
                DiskFault::Full => faults.full = true,
                DiskFault::Stall => faults.stalled_until = faults.stalled_until.max(until),
                DiskFault::Rot => {} // It struck at once.
                DiskFault::FailedSync(_) | DiskFault::FailedWrite(_) => {
                    unreachable!("only a keeper's files fail so")
                }
            }
        }
        self.hosts[node as usize].disk.faults = faults;
    }

    /// Sets each clock that the plan says is not true to what is drawn for it: 0 is true time.
    pub(super) fn offset_clocks(&mut self, plan: &[Planned]) {
        for planned in plan {
            if let Act::Offset(node, most) = planned.act {
                let ahead = self.choices.choose("clock.offset", [u64::from(node), 0], most + 1);
                self.hosts[node as usize].clock = Clock::new(ahead);
                if ahead > 0 {
                    self.struck.count("offset");
                }
            }
        }
    }

    fn skew(&mut self, node: u32, change: impl FnOnce(&mut Clock, u64)) {
        change(&mut self.hosts[node as usize].clock, self.now);
        self.arm_now(node);
    }

    fn move_away(&mut self, node: u32) {
        self.struck.count("move");
        let host = &mut self.hosts[node as usize];
        host.moves = host.moves.wrapping_add(1);
        let addr = address(node, host.moves);
        let conns: Vec<(u32, usize)> = host.conns.values().copied().collect();
        for (index, _) in conns {
            if (index as usize) < self.streams.len() {
                self.end_closed(index, 0);
                self.end_closed(index, 1);
            }
        }
        self.deliver(node, Input::Moved(addr));
    }

    /// Tells every node the allowlist, less those that the plan has taken off it.
    fn allow(&mut self) {
        self.allowed = starts::allowed::<G>(&self.setup, &self.hosts, &self.revoked());
        for node in 0..self.setup.nodes - self.setup.strangers {
            let allowed = self.allowlist_of(node);
            self.deliver(node, Input::Allowed(allowed));
        }
    }

    fn revoked(&self) -> Vec<u32> {
        let mut revoked = Vec::new();
        for planned in self.faults() {
            if let Act::Revoke(node) = planned.act {
                revoked.push(node);
            }
        }
        revoked
    }

    /// Returns the allowlist of one node: nobody takes itself off.
    pub(super) fn allowlist_of(&self, node: u32) -> Arc<Allowed> {
        let mut off = self.revoked();
        if !off.contains(&node) {
            return self.allowed.clone();
        }
        off.retain(|other| *other != node);
        starts::allowed::<G>(&self.setup, &self.hosts, &off)
    }

    /// The attacker's next deed.
    pub(super) fn forge(&mut self, entry: u32) {
        let planned = &self.setup.plan[entry as usize];
        let Act::Forge(every) = planned.act else {
            return;
        };
        if planned.until.is_some_and(|until| self.now + every < until) {
            self.agenda.push(self.now + every, Due::Forge(entry));
        }
        let who = [u64::from(entry), 0];
        let how = self.choices.choose("forge.how", who, 6);
        let node = self.choices.choose("forge.to", who, u64::from(self.setup.nodes));
        let node = u32::try_from(node).expect("below the count of nodes");
        let Some(bytes) = self.forged(how, who) else {
            return;
        };
        self.note("forge", node);
        self.struck.count("forge");
        match how {
            5 => self.knock(node, bytes),
            _ => self.datagram_arrives(node, bytes),
        }
    }

    /// Makes what the attacker sends: 0 nothing, 1 a replay, 2 a changed bit, 3 a piece, 4 noise,
    /// 5 something overheard, on a connection of its own.
    fn forged(&mut self, how: u64, who: [u64; 2]) -> Option<Vec<u8>> {
        let tape = self.tape.as_ref()?;
        let held = u64::try_from(tape.len()).expect("a short tape");
        if how == 0 || held == 0 {
            return None;
        }
        let place = self.choices.choose("forge.what", who, held);
        let mut bytes = tape.get(usize::try_from(place).ok()?)?.clone();
        let length = bytes.len() as u64;
        let at = self.choices.choose("forge.where", who, length.max(1) * 8);
        let byte = usize::try_from(at / 8).ok()?;
        match how {
            2 if !bytes.is_empty() => bytes[byte] ^= 1 << (at % 8),
            3 => bytes.truncate(byte),
            4 => {
                let noise = self.choices.choose("forge.noise", who, u64::MAX);
                for (place, value) in (1_u64..).zip(bytes.iter_mut()) {
                    let drawn = mix(noise ^ place, 0xe703_7ed1_a0b4_28db);
                    *value = drawn.to_le_bytes()[0];
                }
            }
            _ => {}
        }
        Some(bytes)
    }

    /// The attacker connects, says something, and goes.
    fn knock(&mut self, node: u32, bytes: Vec<u8>) {
        let host = &mut self.hosts[node as usize];
        if host.guest.is_none() {
            return;
        }
        let conn = Conn(host.next_accept);
        host.next_accept += 2;
        host.conns.insert(conn.0, (u32::MAX, 1));
        let entropy = self.entropy(node);
        let source = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
        self.later(node, self.now, Input::Accepted { conn, source, entropy });
        self.later(node, self.now + 1, Input::Bytes { conn, bytes });
        self.later(node, self.now + 1_000_000, Input::Closed { conn });
    }
}

/// Says whether a fault without an end goes on.
const fn is_state(planned: &Planned) -> bool {
    match planned.act {
        Act::Links(..)
        | Act::Kill { .. }
        | Act::Pause(_)
        | Act::Slow(..)
        | Act::Disk(..)
        | Act::Drift(..)
        | Act::Leave(_)
        | Act::Revoke(_)
        | Act::Second(_)
        | Act::Forge(_) => true,
        Act::Reset(_) | Act::Jump(..) | Act::Offset(..) | Act::Move(_) => false,
    }
}
