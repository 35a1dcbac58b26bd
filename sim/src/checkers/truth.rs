//! What is true in the world, as checkers need it: who runs, since when, and who can reach whom.

use std::collections::BTreeMap;

use machines::cluster::ids::{Life, NodeId};
use machines::cluster::wire::State;
use machines::node::io::{Event, Output};
use machines::time::nanos;

use super::HasNode;
use crate::checker::Step;
use crate::plan::{Act, Change};
use crate::streams::WINDOW;
use crate::world::World;

/// Lists the nodes that run, with their machines.
pub(super) fn running<'a, G: HasNode>(
    world: &'a World<G>,
) -> impl Iterator<Item = (u32, &'a machines::node::Node)> + 'a {
    let guest = move |node| world.guest(node).map(|guest| (node, guest.node()));
    (0..world.nodes()).filter(|node| world.host(*node).is_up()).filter_map(guest)
}

/// Says whether two nodes can talk both ways, and neither is held up.
pub(super) fn can_talk<G: HasNode>(world: &World<G>, a: u32, b: u32) -> bool {
    let awake = |node| world.host(node).busy_until() <= world.now();
    world.is_open(a, b) && world.is_open(b, a) && awake(a) && awake(b)
}

/// Says whether `of` and `by` trust each other.
pub(super) fn trust<G: HasNode>(world: &World<G>, a: u32, b: u32) -> bool {
    let allows = |by: u32, of: u32| match world.guest(by) {
        Some(guest) => guest.node().allowed().has(world.host(of).id()),
        None => false,
    };
    allows(a, b) && allows(b, a)
}

/// Nanoseconds as seconds, for evidence.
pub(super) fn seconds(nanos: u64) -> String {
    format!("{}.{:03} s", nanos / 1_000_000_000, nanos / 1_000_000 % 1_000)
}

/// What a row says: facts are ordered so (C41).
pub(super) type Standing = (Life, State);

/// A row that is not as it was: about whom, how it was if it was there, and how it is.
pub(super) type Changed = (NodeId, Option<Standing>, Standing);

/// The rows of every table as they were when last looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// (observer, its start) → its table.
    tables: BTreeMap<(u32, u32), Seen>,
}

/// The revision of a table, and its rows by ascending node.
type Seen = (u64, Vec<(NodeId, Standing)>);

impl Rows {
    /// Lists the rows of `observer` that are new or changed since the last call.
    pub(super) fn changed<G: HasNode>(&mut self, world: &World<G>, observer: u32) -> Vec<Changed> {
        let Some(guest) = world.guest(observer) else {
            return Vec::new();
        };
        let swim = guest.node().swim();
        let key = (observer, world.host(observer).epoch());
        let (revision, rows) = self.tables.entry(key).or_default();
        if *revision == swim.revision() && !rows.is_empty() {
            return Vec::new();
        }
        *revision = swim.revision();
        let standing = |member: machines::cluster::swim::Member| (member.life, member.state);
        let now: Vec<_> = swim.members().map(|member| (member.node, standing(member))).collect();
        let mut old = rows.iter().peekable();
        let mut changed = Vec::new();
        for (node, standing) in &now {
            while old.next_if(|(other, _)| other < node).is_some() {}
            let was = old.next_if(|(other, _)| other == node).map(|(_, standing)| *standing);
            if was != Some(*standing) {
                changed.push((*node, was, *standing));
            }
        }
        *rows = now;
        changed
    }
}

/// When each node's links were last looked at. To look at all of them at every step is too slow.
#[derive(Clone, Debug, Default)]
pub(super) struct Glances {
    at: BTreeMap<u32, u64>,
}

/// How often links are looked at, in nanoseconds, beside the steps in which one came up.
const GLANCE: u64 = 250_000_000;
/// The same in a crowd, where every node has hundreds of links.
const GLANCE_IN_CROWD: u64 = 1_000_000_000;
/// More nodes than this are a crowd.
pub(super) const CROWD: u32 = 32;

impl Glances {
    /// Says whether to look now.
    pub(super) fn is_due<G: HasNode>(&mut self, world: &World<G>, step: &Step<'_>) -> bool {
        let fresh = |output: &Output| matches!(output, Output::Event(Event::LinkUp { .. }));
        let at = self.at.entry(step.node).or_default();
        let due = world.now() >= *at || step.outputs.iter().any(fresh);
        if due {
            *at = world.now() + if world.nodes() > CROWD { GLANCE_IN_CROWD } else { GLANCE };
        }
        due
    }
}

/// When the plan keeps a node from reading its clock and its sockets as it should, and the network
/// from carrying messages in time.
#[derive(Clone, Debug)]
pub(super) struct HoldUps {
    /// (node, from, until) of true time.
    spans: Vec<(u32, u64, u64)>,
    /// (from, until, by): a message under way then may be held back so long.
    network: Vec<(u64, u64, u64)>,
    /// (node, when): its clock was set forwards, over timers that were to come.
    leaps: Vec<(u32, u64)>,
}

/// Hops that a name's entry travels in which each message may be held back.
const HOPS: u64 = 4;
/// What piled up during a hold-up is worked off within this time.
const AFTER: u64 = 1_000_000_000;

impl HoldUps {
    pub(super) fn new<G: HasNode>(setup: &crate::world::Setup<G>) -> Self {
        let silent = 3 * nanos(setup.config.links.keepalive);
        let (mut spans, mut network, mut leaps) = (Vec::new(), Vec::new(), Vec::new());
        for planned in setup.plan.iter() {
            let until = planned.until.unwrap_or(setup.duration);
            let mut holds = |by: u64| network.push((planned.at, until + by, by));
            match planned.act {
                Act::Links(_, Change::Delay(least, span)) => holds(HOPS * (least + span)),
                Act::Links(_, Change::Reorder(_, span)) => holds(HOPS * span),
                // Bytes of a stream outlive a cut, as long as their link does; the wait for the
                // next try grows with the cut.
                Act::Links(_, Change::Cut) => holds(silent.min(2 * (until - planned.at) + AFTER)),
                Act::Links(_, Change::Bandwidth(rate, queue)) => {
                    let ahead = queue.max(u64::from(WINDOW));
                    holds(HOPS * ahead.saturating_mul(1_000_000_000) / rate.max(1));
                }
                Act::Pause(node) | Act::Slow(node, _) => {
                    spans.push((node, planned.at, until + AFTER));
                }
                // A clock that was set back stands still until it was there before. One that is
                // set forwards only makes timers early.
                Act::Jump(node, by) if by < 0 => {
                    let span = by.unsigned_abs() + by.unsigned_abs() / 50;
                    spans.push((node, planned.at, planned.at + span));
                }
                Act::Jump(node, _) => leaps.push((node, planned.at)),
                _ => {}
            }
        }
        Self { spans, network, leaps }
    }

    /// Says whether `node` was held up at any time in `from..=until`.
    pub(super) fn any(&self, node: u32, from: u64, until: u64) -> bool {
        let overlaps =
            |(held, start, end): &(u32, u64, u64)| *held == node && *start <= until && *end >= from;
        self.spans.iter().any(overlaps)
    }

    /// Says whether a timer of `node` that runs at `at` may be late by its clock (C53).
    pub(super) fn may_be_late(&self, node: u32, at: u64) -> bool {
        let leapt = |(of, when): &(u32, u64)| *of == node && (*when..=*when + AFTER).contains(&at);
        self.any(node, at, at) || self.leaps.iter().any(leapt)
    }

    /// Returns since when `node` goes as it should without a break, up to `now`.
    pub(super) fn free_since(&self, node: u32, now: u64) -> u64 {
        let before = |(held, start, _): &&(u32, u64, u64)| *held == node && *start <= now;
        let ends = self.spans.iter().filter(before).map(|(.., end)| (*end).min(now));
        ends.max().unwrap_or(0)
    }

    /// How much longer than by the clock something may have lived that was on its way, or at any
    /// node, in `from..=until`.
    pub(super) fn longest(&self, from: u64, until: u64) -> u64 {
        let overlap = |(_, start, end): &(u32, u64, u64)| {
            (*end).min(until).saturating_sub((*start).max(from))
        };
        let held = self.spans.iter().map(overlap).max().unwrap_or(0);
        let on_the_way = |(start, end, _): &&(u64, u64, u64)| *start <= until && *end >= from;
        let network = self.network.iter().filter(on_the_way).map(|(.., by)| *by);
        held + network.max().unwrap_or(0)
    }

    /// Says whether anything is or was held up, at any node or on any link, in `from..=until`.
    pub(super) fn anything(&self, from: u64, until: u64) -> bool {
        self.longest(from, until) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::{Subject, lab};

    /// H13: a clock that jumps ahead is no excuse, and neither is a hold-up that was over before.
    #[test]
    fn only_hold_ups_that_overlap_count_and_jumps_ahead_are_none() {
        let text = "name = \"a\"\nabout = \"b\"\nnodes = 2\nduration = \"5m\"\nquiet = \"1m\"\n\
                    [[fault]]\nkind = \"jump\"\nat = \"10s\"\nnodes = [0]\nby = \"60s\"\n\
                    [[fault]]\nkind = \"jump\"\nat = \"100s\"\nnodes = [1]\nby = \"-5s\"\n";
        let scenario = crate::scenario::Scenario::parse("a.toml", text).unwrap();
        let resolved = scenario.resolve(0).unwrap();
        let setup = resolved.setup::<Subject>(Default::default(), lab().kind);
        let held = HoldUps::new(&setup);
        let second = 1_000_000_000;
        assert_eq!(held.longest(0, 50 * second), 0);
        assert!(!held.any(0, 0, 200 * second));
        assert_eq!(held.longest(102 * second, 200 * second), 3_100_000_000);
        assert!(held.any(1, 0, 101 * second) && !held.any(1, 0, 99 * second));
        assert_eq!(held.free_since(1, 101 * second), 101 * second);
        assert_eq!(held.free_since(1, 200 * second), 105_100_000_000);
        assert!(!held.anything(200 * second, 300 * second));
        assert!(held.may_be_late(0, 10 * second) && !held.may_be_late(1, 10 * second));
        assert!(!held.may_be_late(0, 20 * second), "a leap is soon over");
    }
}
