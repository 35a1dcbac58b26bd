//! The cells of C42 and C43, the clocks of a round, and small clusters that live through stories.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out the one case that it is about"
)]

use std::sync::Arc;
use std::time::Duration;

use super::io::{DeadCause, Input, Lane, MemberEvent, MemberEventKind as Kind, Output, SyncStep};
use super::props::{alive, gossip};
use super::rig::{Rig, addr, id, params, seed};
use super::{Bounds, Swim, SwimParams};
use crate::cluster::config::{Profile, SwimConfig};
use crate::cluster::counters::{Counter, Timing};
use crate::cluster::identity::Allowed;
use crate::cluster::ids::{ActorId, Addr, Incarnation, Life, NodeId, Session};
use crate::cluster::wire::{
    Body, Entry, Fact, MESSAGE_MAX, MemberRow, Message, Meta, Name, NameEntry, State,
};
use crate::time::Instant;

const MS: u64 = 1_000_000;

fn life(session: u32, incarnation: u32) -> Life {
    Life { session: Session(session), incarnation: Incarnation(incarnation) }
}

fn left(session: u32) -> Life {
    Life { session: Session(session), incarnation: Incarnation::LEFT }
}

fn says_alive(n: u32, life: Life) -> Fact {
    Fact::Alive { node: id(n), life, addr: addr(n), meta: Meta::EMPTY }
}

fn suspect(n: u32, life: Life, accuser: u32) -> Fact {
    Fact::Suspect { node: id(n), life, accuser: id(accuser) }
}

fn dead(n: u32, life: Life, accuser: u32) -> Fact {
    Fact::Dead { node: id(n), life, accuser: id(accuser) }
}

fn has_left(n: u32, session: u32) -> Fact {
    Fact::Left { node: id(n), session: Session(session) }
}

/// A machine of node 0 and what came out of it last.
struct Lone {
    swim: Swim,
    now: Instant,
    out: Vec<Output>,
}

impl Lone {
    fn new() -> Self {
        Self::with(params(0, &[]))
    }

    fn with(params: SwimParams) -> Self {
        let mut lone =
            Self { swim: Swim::new(Instant::START, params), now: Instant::START, out: Vec::new() };
        lone.handle(Input::Tick);
        lone
    }

    /// A machine that knows nodes 1 … `others`.
    fn among(others: u32) -> Self {
        let mut lone = Self::new();
        for n in 1..=others {
            lone.hear(n, alive(n, 0));
        }
        lone
    }

    fn handle(&mut self, input: Input) {
        self.swim.handle(self.now, input);
        self.out = std::iter::from_fn(|| self.swim.poll()).collect();
    }

    fn hear(&mut self, from: u32, fact: Fact) {
        self.handle(gossip(from, fact));
    }

    fn receive(&mut self, from: u32, lane: Lane, body: Body) {
        self.handle(Input::Received {
            from: id(from),
            lane,
            message: Message { body, entries: Vec::new() },
        });
    }

    /// Runs all timers up to `to`, keeping all outputs.
    fn pass(&mut self, span: u64) {
        let end = self.now.plus_nanos(span);
        let mut out = Vec::new();
        while self.swim.deadline() <= end {
            self.now = self.swim.deadline().max(self.now);
            self.handle(Input::Tick);
            out.append(&mut self.out);
        }
        self.now = end;
        self.out = out;
    }

    /// Runs all timers up to `to`; all but the `silent` answer their pings.
    fn pass_answered(&mut self, span: u64, silent: &[u32]) {
        let end = self.now.plus_nanos(span);
        let mut out = Vec::new();
        while self.now < end {
            self.pass((10 * MS).min(end.nanos_since(self.now)));
            let pings = self.pings();
            out.append(&mut self.out);
            for (to, _, seq) in pings {
                if silent.iter().all(|n| id(*n) != to) {
                    self.receive(number(to), Lane::Datagram, Body::Ack { seq });
                    out.append(&mut self.out);
                }
            }
        }
        self.out = out;
    }

    fn count(&self, counter: Counter) -> u64 {
        self.swim.counters().get(counter)
    }

    fn events(&self) -> Vec<Kind> {
        let kind = |output: &Output| match output {
            Output::Event(event) => Some(event.kind),
            _ => None,
        };
        self.out.iter().filter_map(kind).collect()
    }

    fn sends(&self) -> Vec<(NodeId, Lane, Message)> {
        let sent = |output: &Output| match output {
            Output::Send { to, lane, message, .. } => Some((*to, *lane, message.clone())),
            _ => None,
        };
        self.out.iter().filter_map(sent).collect()
    }

    /// Pings sent: (to, lane, seq).
    fn pings(&self) -> Vec<(NodeId, Lane, u32)> {
        let ping = |(to, lane, message): (NodeId, Lane, Message)| match message.body {
            Body::Ping { seq } => Some((to, lane, seq)),
            _ => None,
        };
        self.sends().into_iter().filter_map(ping).collect()
    }

    fn row(&self, n: u32) -> Option<(Life, State)> {
        let member = self.swim.member(id(n))?;
        Some((member.life, member.state))
    }
}

/// A cell of C42: what was known of node 1, what is heard, the events, and the row after.
macro_rules! cells {
    ($($name:ident: $known:expr, $heard:expr => $events:expr, $row:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let mut lone = Lone::among(0);
                lone.hear(5, alive(5, 0));
                let known: Vec<Fact> = $known.into();
                for fact in known {
                    lone.hear(5, fact);
                }
                lone.hear(5, $heard);
                let events: Vec<Kind> = $events.into();
                assert_eq!(lone.events(), events);
                assert_eq!(lone.row(1), $row);
            }
        )*
    };
}

const K: Life = Life { session: Session(2), incarnation: Incarnation(3) };

fn held_alive() -> [Fact; 1] {
    [says_alive(1, K)]
}

fn held_suspect() -> [Fact; 2] {
    [says_alive(1, K), suspect(1, K, 5)]
}

fn held_dead() -> [Fact; 2] {
    [says_alive(1, K), dead(1, K, 5)]
}

fn held_left() -> [Fact; 2] {
    [says_alive(1, K), has_left(1, 2)]
}

cells! {
    unknown_hears_alive: [], says_alive(1, K) => [Kind::Join], Some((K, State::Alive));
    unknown_hears_suspect: [], suspect(1, K, 5) => [], None;
    unknown_hears_dead: [], dead(1, K, 5) => [], Some((K, State::Dead));
    unknown_hears_left: [], has_left(1, 2) => [], Some((left(2), State::Left));

    alive_hears_older_alive: held_alive(), says_alive(1, life(2, 2)) => [], Some((K, State::Alive));
    alive_hears_the_same_alive: held_alive(), says_alive(1, K) => [], Some((K, State::Alive));
    alive_hears_newer_alive:
        held_alive(), says_alive(1, life(2, 4)) => [], Some((life(2, 4), State::Alive));
    alive_hears_restarted_alive: held_alive(), says_alive(1, life(3, 0))
        => [Kind::Dead(DeadCause::Restarted), Kind::Join], Some((life(3, 0), State::Alive));
    alive_hears_older_suspect:
        held_alive(), suspect(1, life(2, 2), 5) => [], Some((K, State::Alive));
    alive_hears_suspect: held_alive(), suspect(1, K, 5)
        => [Kind::Suspect], Some((K, State::Suspect));
    alive_hears_newer_suspect: held_alive(), suspect(1, life(2, 4), 5)
        => [Kind::Suspect], Some((life(2, 4), State::Suspect));
    alive_hears_restarted_suspect: held_alive(), suspect(1, life(3, 0), 5)
        => [Kind::Dead(DeadCause::Restarted), Kind::Join, Kind::Suspect],
        Some((life(3, 0), State::Suspect));
    alive_hears_older_dead: held_alive(), dead(1, life(2, 2), 5) => [], Some((K, State::Alive));
    alive_hears_dead:
        held_alive(), dead(1, K, 5) => [Kind::Dead(DeadCause::Told)], Some((K, State::Dead));
    alive_hears_newer_dead: held_alive(), dead(1, life(2, 4), 5)
        => [Kind::Dead(DeadCause::Told)], Some((life(2, 4), State::Dead));
    alive_hears_restarted_dead: held_alive(), dead(1, life(3, 0), 5)
        => [Kind::Dead(DeadCause::Restarted)], Some((life(3, 0), State::Dead));
    alive_hears_older_left: held_alive(), has_left(1, 1) => [], Some((K, State::Alive));
    alive_hears_left: held_alive(), has_left(1, 2) => [Kind::Left], Some((left(2), State::Left));
    alive_hears_restarted_left: held_alive(), has_left(1, 3)
        => [Kind::Dead(DeadCause::Restarted)], Some((left(3), State::Left));

    suspect_hears_the_same_alive: held_suspect(), says_alive(1, K) => [], Some((K, State::Suspect));
    suspect_hears_newer_alive: held_suspect(), says_alive(1, life(2, 4))
        => [Kind::Alive], Some((life(2, 4), State::Alive));
    suspect_hears_restarted_alive: held_suspect(), says_alive(1, life(3, 0))
        => [Kind::Dead(DeadCause::Restarted), Kind::Join], Some((life(3, 0), State::Alive));
    suspect_hears_older_suspect:
        held_suspect(), suspect(1, life(2, 2), 6) => [], Some((K, State::Suspect));
    suspect_hears_the_same_suspect: held_suspect(), suspect(1, K, 6)
        => [], Some((K, State::Suspect));
    suspect_hears_newer_suspect: held_suspect(), suspect(1, life(2, 4), 5)
        => [], Some((life(2, 4), State::Suspect));
    suspect_hears_restarted_suspect: held_suspect(), suspect(1, life(3, 0), 5)
        => [Kind::Dead(DeadCause::Restarted), Kind::Join, Kind::Suspect],
        Some((life(3, 0), State::Suspect));
    suspect_hears_older_dead: held_suspect(), dead(1, life(2, 2), 5)
        => [], Some((K, State::Suspect));
    suspect_hears_dead:
        held_suspect(), dead(1, K, 5) => [Kind::Dead(DeadCause::Told)], Some((K, State::Dead));
    suspect_hears_restarted_dead: held_suspect(), dead(1, life(3, 0), 5)
        => [Kind::Dead(DeadCause::Restarted)], Some((life(3, 0), State::Dead));
    suspect_hears_left: held_suspect(), has_left(1, 2)
        => [Kind::Left], Some((left(2), State::Left));
    suspect_hears_older_left: held_suspect(), has_left(1, 1) => [], Some((K, State::Suspect));
    suspect_hears_restarted_left: held_suspect(), has_left(1, 3)
        => [Kind::Dead(DeadCause::Restarted)], Some((left(3), State::Left));

    dead_hears_the_same_alive: held_dead(), says_alive(1, K) => [], Some((K, State::Dead));
    dead_hears_newer_alive: held_dead(), says_alive(1, life(2, 4))
        => [Kind::Join], Some((life(2, 4), State::Alive));
    dead_hears_restarted_alive: held_dead(), says_alive(1, life(3, 0))
        => [Kind::Join], Some((life(3, 0), State::Alive));
    dead_hears_the_same_suspect: held_dead(), suspect(1, K, 6) => [], Some((K, State::Dead));
    dead_hears_newer_suspect: held_dead(), suspect(1, life(2, 4), 5)
        => [Kind::Join, Kind::Suspect], Some((life(2, 4), State::Suspect));
    dead_hears_the_same_dead: held_dead(), dead(1, K, 6) => [], Some((K, State::Dead));
    dead_hears_newer_dead: held_dead(), dead(1, life(2, 4), 5)
        => [], Some((life(2, 4), State::Dead));
    dead_hears_left: held_dead(), has_left(1, 2) => [], Some((left(2), State::Left));
    dead_hears_older_left: held_dead(), has_left(1, 1) => [], Some((K, State::Dead));

    left_hears_alive_of_its_session:
        held_left(), says_alive(1, life(2, 9)) => [], Some((left(2), State::Left));
    left_hears_restarted_alive: held_left(), says_alive(1, life(3, 0))
        => [Kind::Join], Some((life(3, 0), State::Alive));
    left_hears_suspect_of_its_session:
        held_left(), suspect(1, life(2, 9), 5) => [], Some((left(2), State::Left));
    left_hears_restarted_suspect: held_left(), suspect(1, life(3, 0), 5)
        => [Kind::Join, Kind::Suspect], Some((life(3, 0), State::Suspect));
    left_hears_dead_of_its_session:
        held_left(), dead(1, life(2, 9), 5) => [], Some((left(2), State::Left));
    left_hears_restarted_dead:
        held_left(), dead(1, life(3, 0), 5) => [], Some((life(3, 0), State::Dead));
    left_hears_left: held_left(), has_left(1, 2) => [], Some((left(2), State::Left));
    left_hears_restarted_left: held_left(), has_left(1, 3) => [], Some((left(3), State::Left));
}

/// C41, C114: `fact_stale`.
#[test]
fn an_applied_fact_is_gossiped_and_another_is_not() {
    let mut lone = Lone::among(2);
    let queued = lone.swim.gossip_queue();
    assert_eq!(queued, 3, "my Alive and two Joins");
    lone.hear(2, alive(1, 0));
    assert_eq!(lone.swim.gossip_queue(), 3, "nothing new (C41)");
    lone.hear(2, suspect(1, life(1, 0), 2));
    assert_eq!(lone.swim.gossip_queue(), 3, "newer replaces older (C52)");
    lone.hear(2, suspect(7, life(1, 0), 2));
    assert_eq!(lone.swim.gossip_queue(), 3, "an unknown suspect is dropped");
    assert_eq!(lone.count(Counter::FactStale), 1);
    assert_eq!(lone.count(Counter::FactUnknown), 1);
}

/// C58: in a newer life the address is taken, and told as Changed.
///
/// C42, C114: `fact_conflict`.
#[test]
fn a_changed_address_is_an_event_in_a_newer_life_and_a_conflict_in_the_same() {
    let mut lone = Lone::among(1);
    let moved = |incarnation| Fact::Alive {
        node: id(1),
        life: life(1, incarnation),
        addr: addr(50),
        meta: Meta::EMPTY,
    };
    lone.hear(1, moved(0));
    assert_eq!(lone.events(), []);
    assert_eq!(lone.count(Counter::FactConflict), 1);
    lone.hear(1, moved(1));
    assert_eq!(lone.events(), [Kind::Changed]);
    assert_eq!(lone.swim.member(id(1)).unwrap().addr, Some(addr(50)));
}

#[test]
fn an_accusation_of_my_life_or_above_is_refuted_above_it() {
    for fact in [suspect(0, life(1, 0), 1), dead(0, life(1, 0), 1)] {
        let mut lone = Lone::among(1);
        let (Fact::Suspect { life: heard, .. } | Fact::Dead { life: heard, .. }) = fact else {
            unreachable!()
        };
        lone.hear(1, fact);
        assert_eq!(lone.swim.life(), life(1, heard.incarnation.0 + 1));
        assert_eq!(lone.swim.health(), 1, "C49");
        assert_eq!(lone.count(Counter::Refutations), 1);
        let told = Output::SelfChanged { life: lone.swim.life(), addr: addr(0) };
        assert!(lone.out.contains(&told));
    }
}

#[test]
fn an_alive_of_mine_that_i_did_not_say_is_outdone() {
    let mut lone = Lone::among(1);
    let elsewhere = Fact::Alive { node: id(0), life: life(1, 0), addr: addr(9), meta: Meta::EMPTY };
    lone.hear(1, elsewhere);
    assert_eq!(lone.swim.life(), life(1, 1));
    lone.hear(1, says_alive(0, life(1, 1)));
    assert_eq!(lone.swim.life(), life(1, 1), "my own words come back");
    assert_eq!(lone.count(Counter::SelfAhead), 0);
}

/// C27: to be dead before one has joined, or further than one ever was, is to have lived before.
#[test]
fn a_newborn_of_whom_others_know_more_asks_for_a_new_session() {
    let asked = |lone: &Lone| lone.out.iter().any(|output| matches!(output, Output::UsedUp));
    let mut born = Lone::with(params(0, &[1]));
    assert!(!born.swim.is_joined());
    born.hear(1, suspect(0, life(1, 0), 1));
    assert!(!asked(&born), "whoever is slow to join may be suspected");
    assert_eq!(born.swim.life(), life(1, 1));
    let mut other = Lone::with(params(0, &[1]));
    born.hear(1, dead(0, life(1, 1), 1));
    other.hear(1, says_alive(0, life(1, 1)));
    assert!(asked(&born) && asked(&other), "{:?} {:?}", born.out, other.out);
    assert_eq!(other.count(Counter::SelfAhead), 1);
    assert_eq!(born.swim.life(), life(1, 1), "it waits for its new session");
    // One that has joined was alive a moment ago: that is an accusation, and false (C43).
    let mut joined = Lone::among(1);
    joined.hear(1, dead(0, life(1, 0), 1));
    assert!(!asked(&joined) && joined.swim.life() == life(1, 1));
    joined.hear(1, suspect(0, life(1, 2), 1));
    assert!(asked(&joined), "it was never there");
}

#[test]
fn a_higher_session_of_mine_and_my_left_ask_for_a_new_session_once() {
    let behind = |lone: &Lone| -> Vec<Session> {
        let above = |output: &Output| match output {
            Output::SessionBehind { above } => Some(*above),
            _ => None,
        };
        lone.out.iter().filter_map(above).collect()
    };
    let mut lone = Lone::among(1);
    lone.hear(1, has_left(0, 1));
    assert_eq!(behind(&lone), [Session(1)]);
    lone.hear(1, has_left(0, 1));
    assert_eq!(behind(&lone), []);
    lone.hear(1, says_alive(0, life(6, 0)));
    assert_eq!(behind(&lone), [Session(6)]);
    lone.handle(Input::Renewed(Session(7)));
    assert_eq!(lone.swim.life(), life(7, 0));
    lone.hear(1, dead(0, life(6, 3), 1));
    assert_eq!(behind(&lone), []);
    assert_eq!(lone.swim.life(), life(7, 0), "an older session's death is not mine");
}

#[test]
fn the_last_incarnation_asks_for_a_new_session() {
    let mut lone = Lone::among(1);
    lone.hear(1, suspect(0, life(1, u32::MAX - 1), 1));
    assert!(lone.out.contains(&Output::UsedUp), "C8");
    lone.hear(1, suspect(0, life(1, u32::MAX - 1), 1));
    assert!(!lone.out.contains(&Output::UsedUp), "once");
    assert_eq!(lone.swim.life(), life(1, 0));
}

#[test]
fn an_older_accusation_is_answered_with_my_alive_first() {
    let mut lone = Lone::among(40);
    lone.hear(3, suspect(0, life(1, 0), 3));
    let mut out = Vec::new();
    for _ in 0..40 {
        lone.receive(3, Lane::Datagram, Body::Ping { seq: 1 });
        out = lone.sends();
    }
    let first = |sends: &[(NodeId, Lane, Message)]| sends[0].2.entries.first().cloned();
    assert_ne!(first(&out), Some(Entry::Fact(alive(0, 1))), "sent often enough by now");
    lone.hear(3, suspect(0, life(1, 0), 3));
    assert_eq!(lone.swim.life(), life(1, 1), "no change");
    lone.receive(3, Lane::Datagram, Body::Ping { seq: 1 });
    assert_eq!(first(&lone.sends()), Some(Entry::Fact(alive(0, 1))), "C51");
}

#[test]
fn a_message_to_an_accused_member_carries_the_accusation_first() {
    let mut lone = Lone::among(5);
    for fact in [suspect(2, life(1, 0), 4), dead(3, life(1, 0), 4)] {
        lone.hear(4, fact);
        let to = match fact {
            Fact::Suspect { .. } => 2,
            _ => 3,
        };
        lone.receive(to, Lane::Datagram, Body::Ping { seq: 9 });
        let (_, _, ack) = lone.sends().remove(0);
        assert_eq!(ack.body, Body::Ack { seq: 9 });
        assert_eq!(ack.entries[0], Entry::Fact(fact));
        let again = ack.entries.iter().filter(|e| **e == Entry::Fact(fact));
        assert_eq!(again.count(), 1, "not twice");
    }
}

/// C46: the three phases of a round.
#[test]
fn a_round_asks_helpers_and_the_stream_and_then_suspects() {
    let mut lone = Lone::among(5);
    while lone.pings().is_empty() {
        lone.pass(10 * MS);
    }
    let (target, lane, seq) = lone.pings()[0];
    assert_eq!(lane, Lane::Datagram);
    lone.pass(220 * MS);
    let asked: Vec<NodeId> = lone
        .sends()
        .into_iter()
        .filter(|(_, _, message)| matches!(message.body, Body::PingReq { wait_ms: 300, .. }))
        .map(|(to, _, _)| to)
        .collect();
    assert_eq!(asked.len(), 3, "K helpers");
    assert!(!asked.contains(&target));
    assert_eq!(lone.pings(), [(target, Lane::Stream, seq)], "C46");
    lone.pass(300 * MS);
    assert_eq!(lone.events(), [Kind::Suspect]);
    assert_eq!(lone.swim.member(target).unwrap().state, State::Suspect);
    assert_eq!(lone.swim.health(), 3, "three silent helpers (C49)");
    assert_eq!(lone.count(Counter::ProbeFailed), 1);
}

/// Begins a round and returns its target and sequence number.
fn begin(lone: &mut Lone) -> (NodeId, u32) {
    while lone.pings().is_empty() {
        lone.pass(10 * MS);
    }
    let (target, _, seq) = lone.pings()[0];
    (target, seq)
}

fn number(node: NodeId) -> u32 {
    (0..100).find(|n| id(*n) == node).expect("a small number")
}

/// C46, C114: `ack_unexpected`.
#[test]
fn an_ack_counts_from_the_target_or_a_helper_of_this_round_only() {
    let mut lone = Lone::among(5);
    let (target, seq) = begin(&mut lone);
    let target = number(target);
    let other = (1..=5).find(|n| *n != target).unwrap();
    lone.receive(other, Lane::Datagram, Body::Ack { seq });
    lone.receive(target, Lane::Datagram, Body::Ack { seq: seq + 1 });
    assert_eq!(lone.count(Counter::AckUnexpected), 2);
    lone.pass(220 * MS);
    let helper = lone
        .sends()
        .into_iter()
        .find(|(_, _, message)| matches!(message.body, Body::PingReq { .. }))
        .map(|(to, _, _)| number(to))
        .unwrap();
    lone.receive(helper, Lane::Datagram, Body::Ack { seq });
    lone.pass(300 * MS);
    assert_eq!(lone.events(), []);
    lone.receive(target, Lane::Datagram, Body::Ack { seq });
    assert_eq!(lone.count(Counter::AckUnexpected), 3, "the round is over");
}

#[test]
fn nacks_spare_the_health_score() {
    let mut lone = Lone::among(5);
    let (_, seq) = begin(&mut lone);
    lone.pass(220 * MS);
    let asked: Vec<u32> = lone
        .sends()
        .into_iter()
        .filter(|(_, _, message)| matches!(message.body, Body::PingReq { .. }))
        .map(|(to, _, _)| number(to))
        .collect();
    for helper in &asked {
        lone.receive(*helper, Lane::Datagram, Body::Nack { seq });
    }
    lone.pass(300 * MS);
    assert_eq!(lone.events(), [Kind::Suspect]);
    assert_eq!(lone.swim.health(), 0, "every helper answered");
    lone.receive(asked[0], Lane::Datagram, Body::Nack { seq });
    assert_eq!(lone.count(Counter::AckUnexpected), 1);
}

#[test]
fn health_stretches_the_round() {
    let mut lone = Lone::among(1);
    lone.hear(1, suspect(0, life(1, 0), 1));
    assert_eq!(lone.swim.health(), 1);
    let (_, seq) = begin(&mut lone);
    lone.pass(300 * MS);
    assert_eq!(lone.pings(), [], "probe_timeout·2 is not over");
    lone.pass(110 * MS);
    assert_eq!(lone.pings().len(), 1, "the stream");
    lone.receive(1, Lane::Stream, Body::Ack { seq });
    assert_eq!(lone.swim.health(), 0);
}

#[test]
fn a_sealed_refusal_voids_the_round() {
    let mut lone = Lone::among(2);
    let (target, _) = begin(&mut lone);
    lone.handle(Input::Rejected { peer: target });
    lone.pass(600 * MS);
    assert_eq!(lone.events(), []);
    assert_eq!(lone.count(Counter::ProbeFailed), 0);
}

#[test]
fn a_helper_pings_forwards_and_says_nack_in_time() {
    let mut lone = Lone::among(3);
    let ask = |target: u32| Body::PingReq {
        seq: 42,
        wait_ms: 300,
        target: id(target),
        session: Session(1),
        addr: addr(target),
    };
    lone.receive(1, Lane::Datagram, ask(2));
    let pings = lone.pings();
    assert_eq!(pings.len(), 1);
    assert_eq!(pings[0].0, id(2));
    let own = pings[0].2;
    lone.pass(230 * MS);
    let nack = |sends: &[(NodeId, Lane, Message)]| {
        sends.iter().any(|(to, _, m)| *to == id(1) && m.body == Body::Nack { seq: 42 })
    };
    assert!(!nack(&lone.sends()));
    lone.pass(20 * MS);
    assert!(nack(&lone.sends()), "by 80 % of the wait");
    lone.receive(2, Lane::Datagram, Body::Ack { seq: own });
    let forwarded = lone.sends();
    assert_eq!(forwarded[0].0, id(1));
    assert_eq!(forwarded[0].2.body, Body::Ack { seq: 42 }, "late, but within 2 waits");
    lone.receive(2, Lane::Datagram, Body::Ack { seq: own });
    assert_eq!(lone.count(Counter::AckUnexpected), 1);
}

/// C47: the longest wait is that of the configuration, which may be minutes (C62).
#[test]
fn a_helper_waits_as_long_as_a_slow_asker_and_no_longer_than_any_may() {
    let minute = Duration::from_secs(60);
    let slow = SwimConfig {
        period: 10 * minute,
        probe_timeout: 2 * minute,
        indirect_timeout: 3 * minute,
        ..SwimConfig::of(Profile::Lan)
    };
    assert_eq!(slow.check(), Ok(()));
    let most = 2 * 180_000 * (1 + slow.health_max);
    for (wait_ms, waits) in [(180_000, 180_000), (u32::MAX, most)] {
        let mut lone = Lone::with(SwimParams { config: slow.clone(), ..params(0, &[]) });
        lone.hear(1, alive(1, 0));
        let (target, session) = (id(2), Session(1));
        let ask = Body::PingReq { seq: 42, wait_ms, target, session, addr: addr(2) };
        lone.receive(1, Lane::Datagram, ask);
        let nacks = |lone: &Lone| {
            let nack = |(_, _, m): &&(NodeId, Lane, Message)| m.body == Body::Nack { seq: 42 };
            lone.sends().iter().filter(nack).count()
        };
        let waits = u64::from(waits) * MS;
        lone.pass(waits / 10 * 8 - MS);
        assert_eq!(nacks(&lone), 0, "{wait_ms}");
        lone.pass(2 * MS);
        assert_eq!(nacks(&lone), 1, "{wait_ms}");
    }
}

/// C47, C114: `relay_refused`.
#[test]
fn a_helper_refuses_strangers_and_more_than_its_cap() {
    let allowed = Allowed::only([[1; 32]]);
    let mut lone = Lone::with(SwimParams {
        allowed: Arc::new(allowed),
        config: SwimConfig { relays_max: 1, ..SwimConfig::of(Profile::Lan) },
        ..params(0, &[])
    });
    let ask = |target: NodeId| Body::PingReq {
        seq: 42,
        wait_ms: 300,
        target,
        session: Session(1),
        addr: addr(2),
    };
    lone.receive(1, Lane::Datagram, ask(id(2)));
    assert_eq!(lone.pings(), []);
    assert_eq!(lone.count(Counter::RelayRefused), 1);
    let friend = NodeId::of_key(&[1; 32]);
    lone.receive(1, Lane::Datagram, ask(friend));
    lone.receive(1, Lane::Datagram, ask(friend));
    assert_eq!(lone.count(Counter::RelayRefused), 2, "one at a time");
    lone.pass(700 * MS);
    lone.receive(1, Lane::Datagram, ask(friend));
    assert_eq!(lone.pings().len(), 1, "the first one is over");
}

/// When node 1 of `members` dies after `accusers` accused it, in ms.
fn death_after(members: u32, accusers: u32) -> u64 {
    let mut lone = Lone::among(members - 1);
    let start = lone.now;
    for accuser in 0..accusers {
        lone.hear(2, suspect(1, life(1, 0), 10 + accuser));
    }
    loop {
        lone.pass_answered(10 * MS, &[1]);
        let dead = |output: &Output| {
            matches!(output, Output::Event(MemberEvent { kind: Kind::Dead(_), .. }))
        };
        if lone.out.iter().any(dead) {
            return lone.now.nanos_since(start) / MS;
        }
    }
}

/// C48: distinct accusers bring the deadline from the longest to the least.
#[test]
fn confirmations_shorten_a_suspicion() {
    // Own rounds confirm too, so more accusers only bound the wait from above.
    let min = 4_000;
    let near = |got: u64, want: u64| got >= want && got <= want + 20;
    assert!(near(death_after(2, 1), min), "N = 2: no third member, min");
    assert!(near(death_after(10, 4), 4 * 1204), "three confirmations");
    assert!(near(death_after(10, 9), 4 * 1204), "more do not matter");
}

/// C48, C53: who confirms so late that the shorter wait is over ends the suspicion, and nobody
/// slept.
#[test]
fn a_confirmation_after_its_own_deadline_is_no_stall() {
    let mut lone = Lone::among(6);
    lone.hear(3, suspect(1, life(1, 0), 3));
    lone.hear(4, suspect(2, life(1, 0), 4));
    lone.pass_answered(6_000 * MS, &[]);
    lone.hear(3, suspect(1, life(1, 0), 4));
    lone.hear(3, suspect(1, life(1, 0), 5));
    assert_eq!(lone.row(1), Some((life(1, 0), State::Suspect)), "8.2 s are not over");
    lone.hear(3, suspect(1, life(1, 0), 6));
    assert!(lone.swim.deadline() <= lone.now, "4 s were over before");
    lone.handle(Input::Tick);
    assert_eq!(lone.events(), [Kind::Dead(DeadCause::Timeout)]);
    assert_eq!((lone.swim.health(), lone.count(Counter::Stalls)), (0, 0));
    lone.pass_answered(17_900 * MS, &[]);
    assert_eq!(lone.row(2), Some((life(1, 0), State::Suspect)));
    lone.pass_answered(200 * MS, &[]);
    assert_eq!(lone.row(2), Some((life(1, 0), State::Dead)), "its 24 s were not moved");
}

/// C48: accusers are counted once each.
#[test]
fn a_repeated_accuser_confirms_nothing() {
    let mut lone = Lone::among(9);
    lone.hear(2, suspect(1, life(1, 0), 5));
    lone.hear(3, suspect(1, life(1, 0), 5));
    assert_eq!(lone.count(Counter::SuspicionConfirmations), 0);
    lone.hear(3, suspect(1, life(1, 0), 6));
    assert_eq!(lone.count(Counter::SuspicionConfirmations), 1);
    let row = MemberRow {
        node: id(1),
        life: life(1, 0),
        state: State::Suspect,
        age_ms: 0,
        addr: Some(addr(1)),
        meta: Meta::EMPTY,
    };
    lone.handle(Input::Sync { from: id(7), step: SyncStep::First, rows: vec![row] });
    assert_eq!(lone.count(Counter::SuspicionConfirmations), 1, "rows never confirm (C54)");
}

/// C53: a stall voids the round and moves the deadlines.
#[test]
fn a_node_that_slept_accuses_nobody() {
    let mut lone = Lone::among(4);
    lone.hear(2, suspect(1, life(1, 0), 2));
    begin(&mut lone);
    lone.now = lone.now.plus_nanos(120_000 * MS);
    lone.handle(Input::Tick);
    assert_eq!(lone.events(), []);
    assert_eq!((lone.swim.health(), lone.count(Counter::Stalls)), (1, 1), "C53");
    assert_eq!(lone.count(Counter::ProbeFailed), 0);
    assert_eq!(lone.row(1), Some((life(1, 0), State::Suspect)));
}

#[test]
fn a_message_that_is_here_counts_before_a_timer_that_is_due() {
    let mut lone = Lone::among(2);
    let (target, seq) = begin(&mut lone);
    lone.pass(220 * MS);
    lone.now = lone.now.plus_nanos(400 * MS);
    lone.receive(number(target), Lane::Datagram, Body::Ack { seq });
    lone.handle(Input::Tick);
    assert_eq!(lone.events(), []);
    assert_eq!(lone.count(Counter::ProbeFailed), 0);
}

/// C53: what a datagram causes does not run a timer before the next datagram was read.
#[test]
fn a_name_that_came_first_does_not_fail_the_round_before_its_ack_is_read() {
    let mut lone = Lone::among(2);
    let (target, seq) = begin(&mut lone);
    lone.pass(220 * MS);
    lone.now = lone.now.plus_nanos(400 * MS);
    lone.handle(Input::Gossip(entry("news", 1)));
    lone.handle(Input::LinkDown { peer: id(1) });
    lone.receive(number(target), Lane::Datagram, Body::Ack { seq });
    lone.handle(Input::Tick);
    assert_eq!(lone.events(), []);
    assert_eq!(lone.count(Counter::ProbeFailed), 0);
}

/// C24, C114: `fact_not_allowed`.
#[test]
fn facts_of_strangers_are_neither_applied_nor_passed_on() {
    let mut lone =
        Lone::with(SwimParams { allowed: Arc::new(Allowed::only([[1; 32]])), ..params(0, &[]) });
    let queued = lone.swim.gossip_queue();
    lone.hear(1, alive(3, 0));
    assert_eq!(lone.count(Counter::FactNotAllowed), 1);
    assert_eq!(lone.row(3), None);
    assert_eq!(lone.swim.gossip_queue(), queued);
}

#[test]
fn a_revoked_member_is_dead_here_and_told_to_nobody() {
    let mut lone = Lone::among(3);
    let keep = Allowed::only([[1; 32]]);
    lone.handle(Input::Allowed(Arc::new(keep)));
    assert_eq!(lone.events(), [Kind::Dead(DeadCause::Revoked); 3]);
    assert_eq!(lone.swim.gossip_queue(), 1, "only my own Alive");
    lone.hear(1, alive(1, 9));
    assert_eq!(lone.row(1), Some((life(1, 0), State::Dead)));
    lone.pass(60_000 * MS);
    let dials = lone.out.iter().filter(|o| matches!(o, Output::Dial { .. }));
    assert_eq!(dials.count(), 0, "nor re-probed (C59)");
}

/// C24: nor what was queued about it before: that it left, or what it called itself.
#[test]
fn what_waits_to_be_told_of_a_stranger_is_dropped() {
    let mut lone = Lone::among(1);
    lone.hear(1, has_left(1, 1));
    lone.handle(Input::Gossip(NameEntry { owner: id(1), ..entry("a", 1) }));
    lone.handle(Input::Gossip(NameEntry { owner: id(0), ..entry("a", 1) }));
    assert_eq!(lone.swim.gossip_queue(), 4, "two facts, two names");
    lone.handle(Input::Allowed(Arc::new(Allowed::only([[1; 32]]))));
    lone.receive(3, Lane::Datagram, Body::Gossip);
    assert_eq!(lone.swim.gossip_queue(), 2, "what is about myself");
}

#[test]
fn moving_raises_the_incarnation() {
    let mut lone = Lone::among(1);
    lone.handle(Input::Moved(addr(33)));
    assert_eq!(lone.swim.life(), life(1, 1));
    let told = Output::SelfChanged { life: life(1, 1), addr: addr(33) };
    assert_eq!(lone.out, [told]);
    lone.handle(Input::Moved(addr(33)));
    assert_eq!(lone.out, [], "no change, no word");
    lone.handle(Input::Meta(Meta::new(b"x").unwrap()));
    assert_eq!(lone.swim.life(), life(1, 2));
}

#[test]
fn messages_are_filled_to_the_last_entry_that_fits() {
    let mut lone = Lone::among(60);
    lone.receive(1, Lane::Datagram, Body::Ping { seq: 1 });
    let (_, _, ack) = lone.sends().remove(0);
    assert_eq!(ack.entries.len(), 25, "25 Alive entries a datagram (C50)");
    assert!(ack.encoded_len() <= MESSAGE_MAX);
}

#[test]
fn a_fact_is_sent_so_often_and_then_no_more() {
    let mut lone = Lone::among(2);
    let mut count = 0;
    for _ in 0..40 {
        lone.receive(1, Lane::Datagram, Body::Ping { seq: 1 });
        let (_, _, ack) = lone.sends().remove(0);
        count += ack.entries.iter().filter(|e| **e == Entry::Fact(alive(2, 0))).count();
    }
    assert_eq!(count, 6, "R(3) = 3·⌈log₂ 4⌉");
    assert_eq!(lone.swim.gossip_queue(), 0);
    lone.pass(450 * MS);
    let gossip = |(_, _, m): &(NodeId, Lane, Message)| m.body == Body::Gossip;
    assert_eq!(lone.sends().iter().filter(|s| gossip(s)).count(), 0, "an empty queue is silent");
}

fn entry(name: &str, serial: u32) -> NameEntry {
    NameEntry {
        name: Name::new(name).unwrap(),
        owner: id(0),
        session: Session(1),
        actor: Some(ActorId(4)),
        version: 1,
        serial,
        ttl_ms: 60_000,
        age_ms: 10,
    }
}

#[test]
fn names_travel_after_facts_and_grow_older_while_they_wait() {
    let mut lone = Lone::among(1);
    lone.handle(Input::Gossip(entry("a", 1)));
    lone.handle(Input::Gossip(entry("a", 2)));
    lone.now = lone.now.plus_nanos(100 * MS);
    lone.receive(1, Lane::Datagram, Body::Ping { seq: 1 });
    let (_, _, ack) = lone.sends().remove(0);
    let aged = NameEntry { age_ms: 110, ..entry("a", 2) };
    let facts = ack.entries.len() - 1;
    assert_eq!(ack.entries[facts], Entry::Name(aged.clone()), "one per subject, last");
    assert!(facts > 0);
    lone.handle(Input::Received {
        from: id(1),
        lane: Lane::Datagram,
        message: Message { body: Body::Gossip, entries: vec![Entry::Name(aged.clone())] },
    });
    let name = Output::Name { from: id(1), entry: aged };
    assert_eq!(lone.out, [name]);
}

fn row(n: u32, state: State, age_ms: u32) -> MemberRow {
    MemberRow {
        node: id(n),
        life: match state {
            State::Left => left(1),
            State::Alive | State::Suspect | State::Dead => life(1, 0),
        },
        state,
        age_ms,
        addr: Some(addr(n)),
        meta: Meta::EMPTY,
    }
}

fn first(from: u32, rows: Vec<MemberRow>) -> Input {
    Input::Sync { from: id(from), step: SyncStep::First, rows }
}

/// C54, C114: what came is in the answer, one at a time: `sync_busy`.
#[test]
fn a_sync_merges_before_it_answers() {
    let mut lone = Lone::among(1);
    lone.handle(first(2, vec![row(2, State::Alive, 0), row(3, State::Alive, 0)]));
    let answer = lone.out.iter().find_map(|output| match output {
        Output::Sync { to, step, rows } => Some((*to, *step, rows.clone())),
        _ => None,
    });
    let (to, step, rows) = answer.unwrap();
    assert_eq!((to, step), (id(2), SyncStep::Second));
    assert_eq!(rows[0].node, id(0), "the sender's own row is first");
    assert_eq!(rows.len(), 4);
    assert!(rows[1..].is_sorted_by_key(|row| row.node));
    lone.handle(first(2, vec![]));
    assert_eq!(lone.count(Counter::SyncBusy), 1, "one at a time");
}

#[test]
fn a_dead_row_about_a_living_member_only_warns_it() {
    let mut lone = Lone::among(3);
    lone.handle(first(2, vec![row(1, State::Dead, 5)]));
    assert_eq!(lone.events(), []);
    assert_eq!(lone.row(1), Some((life(1, 0), State::Alive)));
    let (to, _, message) = lone.sends().remove(0);
    assert_eq!(to, id(1));
    assert_eq!(message.entries, [Entry::Fact(dead(1, life(1, 0), 2))]);
}

#[test]
fn at_most_64_warnings_go_out_in_a_gossip_tick() {
    let mut lone = Lone::among(100);
    let rows = |_| (1..=100).map(|n| row(n, State::Dead, 5)).collect();
    lone.handle(first(101, rows(())));
    assert_eq!(lone.sends().len(), 64);
    lone.handle(first(102, rows(())));
    assert_eq!(lone.sends().len(), 0);
    lone.now = lone.now.plus_nanos(200 * MS);
    lone.handle(Input::Tick);
    lone.handle(first(103, rows(())));
    assert_eq!(lone.sends().len(), 64);
}

#[test]
fn rows_that_are_too_old_are_ignored() {
    let mut lone = Lone::new();
    let day = 24 * 3_600_000;
    let rows = vec![
        row(1, State::Dead, day + 1),
        row(2, State::Dead, day - 1),
        row(3, State::Left, 3_600_001),
    ];
    lone.handle(first(4, rows));
    assert_eq!(lone.row(1), None);
    assert_eq!(lone.row(2), Some((life(1, 0), State::Dead)));
    assert_eq!(lone.row(3), None);
    lone.pass(2_000 * MS);
    assert_eq!(lone.row(2), None, "forgotten when its age says so (C60)");
    assert_eq!(lone.swim.session_of(id(2)), Some(Session(1)));
}

/// C27, C80: sessions of which no event tells are told all the same.
#[test]
fn a_session_that_no_event_tells_of_is_told() {
    let known = |lone: &Lone| -> Vec<(NodeId, Session)> {
        let known = |output: &Output| match output {
            Output::Known { node, session } => Some((*node, *session)),
            _ => None,
        };
        lone.out.iter().filter_map(known).collect()
    };
    let mut lone = Lone::among(1);
    lone.handle(first(1, vec![MemberRow { life: life(9, 0), ..row(2, State::Dead, 1_000) }]));
    assert_eq!(known(&lone), [(id(2), Session(9))], "met as Dead");
    lone.hear(1, has_left(3, 4));
    assert_eq!(known(&lone), [(id(3), Session(4))], "met as Left");
    lone.hear(1, dead(2, life(9, 1), 1));
    assert_eq!(known(&lone), [], "the same session");
    lone.hear(1, dead(2, life(10, 0), 1));
    assert_eq!(known(&lone), [(id(2), Session(10))], "Dead in a later one");
    lone.hear(1, dead(1, life(5, 0), 1));
    assert_eq!(known(&lone), [(id(1), Session(5))], "it died in a session that was not known");
    assert_eq!(lone.events(), [Kind::Dead(DeadCause::Restarted)]);
}

#[test]
fn what_left_and_was_forgotten_stays_left_in_its_session() {
    let mut lone = Lone::among(2);
    lone.hear(1, has_left(1, 1));
    lone.hear(2, dead(2, life(1, 0), 1));
    lone.pass(3_700_000 * MS);
    assert_eq!(lone.row(1), None);
    lone.hear(2, alive(1, 5));
    assert_eq!(lone.row(1), None, "C60");
    lone.hear(2, says_alive(1, life(2, 0)));
    assert_eq!(lone.row(1), Some((life(2, 0), State::Alive)));
}

/// C60: others forget a death later than this node, and gossip carries no ages: it would be told
/// to and fro for ever.
#[test]
fn a_death_that_was_forgotten_is_not_learned_again() {
    let mut lone = Lone::among(1);
    let day = 24 * 3_600_000;
    lone.handle(first(4, vec![row(2, State::Dead, day - 1)]));
    lone.pass(2_000 * MS);
    assert_eq!(lone.row(2), None, "forgotten");
    let queued = lone.swim.gossip_queue();
    lone.hear(1, dead(2, life(1, 0), 1));
    lone.handle(first(5, vec![row(2, State::Dead, day - 1)]));
    assert_eq!(lone.row(2), None, "by gossip or by sync");
    assert_eq!(lone.swim.gossip_queue(), queued);
    lone.hear(1, dead(2, life(1, 1), 1));
    assert_eq!(lone.row(2), Some((life(1, 1), State::Dead)), "a later death is news");
}

/// C60: it was there all the time, behind a partition.
#[test]
fn who_was_forgotten_as_dead_returns_in_the_same_life() {
    let mut lone = Lone::among(1);
    lone.handle(first(4, vec![row(2, State::Dead, 24 * 3_600_000 - 1)]));
    lone.pass(2_000 * MS);
    lone.hear(1, alive(2, 0));
    assert_eq!(lone.row(2), Some((life(1, 0), State::Alive)));
}

#[test]
fn a_row_without_address_is_suspected_only_after_a_sync_brought_one() {
    let mut lone = Lone::among(1);
    lone.hear(1, dead(2, life(1, 0), 1));
    lone.hear(1, suspect(2, life(1, 1), 1));
    assert_eq!(lone.row(2), Some((life(1, 0), State::Dead)), "C40");
    lone.handle(first(1, vec![row(2, State::Dead, 5)]));
    assert_eq!(lone.swim.member(id(2)).unwrap().addr, Some(addr(2)));
    lone.hear(1, suspect(2, life(1, 1), 1));
    assert_eq!(lone.events(), [Kind::Join, Kind::Suspect]);
}

/// C107, C114: `members_full`.
#[test]
fn a_full_table_takes_no_more_rows() {
    let mut lone = Lone::with(SwimParams {
        config: SwimConfig { members_max: 3, ..SwimConfig::of(Profile::Lan) },
        ..params(0, &[])
    });
    for n in 1..=3 {
        lone.hear(1, alive(n, 0));
    }
    assert_eq!(lone.row(3), None);
    assert_eq!(lone.count(Counter::MembersFull), 1);
}

#[test]
fn seeds_are_dialled_until_each_was_reached() {
    let mut lone = Lone::with(params(0, &[0, 1, 2]));
    let dialled = |lone: &Lone| -> Vec<u32> {
        let seed = |output: &Output| match output {
            Output::DialSeed { seed } => (0..9).find(|n| addr(*n) == seed.addr),
            _ => None,
        };
        lone.out.iter().filter_map(seed).collect()
    };
    assert_eq!(dialled(&lone), [1, 2], "not oneself");
    lone.handle(Input::Unreachable { peer: None, seed: Some(seed(2)) });
    lone.handle(Input::LinkUp {
        peer: id(1),
        life: life(1, 0),
        addr: addr(1),
        seed: Some(seed(1)),
    });
    assert!(matches!(lone.out[..], [Output::Sync { step: SyncStep::First, .. }]));
    assert!(!lone.swim.is_joined());
    lone.handle(Input::Sync {
        from: id(1),
        step: SyncStep::Second,
        rows: vec![row(1, State::Alive, 0)],
    });
    assert!(lone.out.contains(&Output::Joined));
    assert!(lone.swim.is_joined());
    lone.pass_answered(10_001 * MS, &[]);
    assert_eq!(dialled(&lone), [2]);
    lone.handle(Input::Seeds(vec![seed(1), seed(3)]));
    lone.pass(MS);
    assert_eq!(dialled(&lone), [3], "the new one only");
    lone.pass(60_000 * MS);
    let last: Vec<u32> = dialled(&lone).into_iter().rev().take(2).collect();
    assert_eq!(last, [3, 1], "all again while nobody else is Alive (C55)");
}

/// C55: only a sync of its own joins a node, so it dials its seeds though they came to it first.
#[test]
fn a_node_whose_seeds_came_to_it_first_joins_all_the_same() {
    let mut lone = Lone {
        swim: Swim::new(Instant::START, params(0, &[1])),
        now: Instant::START,
        out: Vec::new(),
    };
    lone.handle(first(1, vec![row(1, State::Alive, 0)]));
    lone.handle(Input::Sync { from: id(1), step: SyncStep::Third, rows: Vec::new() });
    assert!(!lone.swim.is_joined());
    lone.handle(Input::Tick);
    assert!(lone.out.contains(&Output::DialSeed { seed: seed(1) }));
}

/// C55: an answer that takes longer than Q brings the table all the same.
#[test]
fn an_answer_to_a_question_that_was_given_up_joins() {
    let mut lone = Lone::with(params(0, &[1]));
    lone.handle(Input::LinkUp {
        peer: id(1),
        life: life(1, 0),
        addr: addr(1),
        seed: Some(seed(1)),
    });
    assert!(matches!(lone.out[..], [Output::Sync { step: SyncStep::First, .. }]));
    lone.pass(10_001 * MS);
    let rows = vec![row(1, State::Alive, 0)];
    lone.handle(Input::Sync { from: id(1), step: SyncStep::Second, rows });
    assert!(lone.out.contains(&Output::Joined));
}

/// C55: a dial that was begun before the seeds changed answers for its own seed, whatever stands
/// in its place now.
#[test]
fn a_seed_that_answers_late_is_not_taken_for_another() {
    let mut lone = Lone::with(params(0, &[1]));
    lone.handle(Input::Seeds(vec![seed(3), seed(1)]));
    lone.pass(MS);
    lone.handle(Input::LinkUp {
        peer: id(1),
        life: life(1, 0),
        addr: addr(1),
        seed: Some(seed(1)),
    });
    let rows = vec![row(1, State::Alive, 0)];
    lone.handle(Input::Sync { from: id(1), step: SyncStep::Second, rows });
    assert!(lone.swim.is_joined());
    lone.pass_answered(10_001 * MS, &[]);
    let dialled = |output: &Output| *output == Output::DialSeed { seed: seed(3) };
    assert!(lone.out.iter().any(dialled), "nobody has reached it: {:?}", lone.out);
}

#[test]
fn no_seeds_make_a_cluster_of_one() {
    let lone = Lone::new();
    assert!(lone.swim.is_joined());
    assert_eq!(lone.out, [Output::Joined]);
    assert_eq!(lone.swim.alive_count(), 1);
}

/// C55: a name server that does not answer makes no cluster of one.
#[test]
fn seeds_without_an_address_yet_are_not_no_seeds() {
    let lone = || Lone {
        swim: Swim::new(Instant::START, params(0, &[])).expecting_seeds(),
        now: Instant::START,
        out: Vec::new(),
    };
    let mut found = lone();
    found.pass(60_000 * MS);
    assert!(!found.swim.is_joined());
    found.handle(Input::Seeds(vec![seed(1)]));
    found.pass(MS);
    assert!(found.out.contains(&Output::DialSeed { seed: seed(1) }));
    assert!(!found.swim.is_joined(), "nobody has answered");

    let mut given_up = lone();
    given_up.pass(MS);
    given_up.handle(Input::Seeds(Vec::new()));
    given_up.pass(MS);
    assert!(given_up.out.contains(&Output::Joined), "there are none now");
}

#[test]
fn a_node_alone_leaves_at_once() {
    let mut lone = Lone::new();
    lone.handle(Input::Leave);
    lone.handle(Input::Tick);
    assert_eq!(lone.out, [Output::Departed]);
    assert_eq!(lone.swim.deadline(), Instant::FAR);
    assert_eq!(lone.swim.own().state, State::Left);
}

#[test]
fn every_member_is_found_whatever_its_id() {
    let low = |n: u8| NodeId::from_bytes([[0; 15].as_slice(), &[n]].concat().try_into().unwrap());
    let high =
        |n: u8| NodeId::from_bytes([[0xff; 15].as_slice(), &[n]].concat().try_into().unwrap());
    let mut lone = Lone::new();
    let nodes: Vec<NodeId> = (0..100).map(low).chain((0..100).map(high)).collect();
    for node in &nodes {
        let fact = Fact::Alive { node: *node, life: life(1, 0), addr: addr(1), meta: Meta::EMPTY };
        lone.hear(1, fact);
    }
    assert!(nodes.iter().all(|node| lone.swim.member(*node).is_some()));
    assert_eq!(lone.swim.member(low(100)), None);
    assert_eq!(lone.swim.member(high(100)), None);
    assert!(lone.swim.members().is_sorted_by_key(|member| member.node));
}

#[test]
fn a_row_is_small() {
    let listed = size_of::<NodeId>() + 4 * size_of::<u32>();
    assert!(size_of::<super::table::Row>() + listed <= 256, "C171");
    assert!(size_of::<Addr>() <= 20);
}

// Stories.

#[test]
fn clusters_of_16_and_64_find_themselves() {
    for (seed, count) in [(1, 2), (2, 3), (3, 16), (4, 64)] {
        let mut rig = Rig::new(seed, count);
        let span = Duration::from_secs(2) + rig.bounds().dissemination * 2;
        assert!(rig.run_until(span, |rig| rig.all_agree(count)), "{count} nodes");
        assert_eq!(rig.check_events(), Ok(()));
    }
}

#[test]
fn a_crash_is_known_to_all_within_its_bounds() {
    for seed in 0..12 {
        for count in [2, 3, 8, 20] {
            let mut rig = Rig::settled(seed, count);
            rig.loss_permille = 50;
            rig.crash(1);
            let gone = |rig: &Rig| {
                rig.able().all(|n| rig.state(n, 1) == Some(State::Dead)) && rig.all_agree(count - 1)
            };
            let bounds = rig.bounds();
            let bound = bounds.crash_99.max(bounds.crash);
            assert!(rig.run_until(bound, gone), "C138: seed {seed}, {count} nodes");
            assert_eq!(rig.check_events(), Ok(()));
        }
    }
}

#[test]
fn a_quiet_crash_is_known_sooner() {
    let mut slow = 0;
    for seed in 0..40 {
        let mut rig = Rig::settled(seed, 16);
        rig.crash(5);
        let gone = |rig: &Rig| rig.able().all(|n| rig.state(n, 5) == Some(State::Dead));
        let bound = rig.bounds().crash_99;
        slow += u32::from(!rig.run_until(bound, gone));
    }
    assert!(slow <= 1, "B99(16) missed {slow} times of 40");
}

/// C5, C43: a member that lies about another is outlived by the refutation.
#[test]
fn a_false_accusation_is_refuted_and_kills_nobody() {
    for seed in 0..10 {
        let mut rig = Rig::settled(seed, 8);
        let accused = rig.nodes[3].swim.life();
        let fact = Fact::Suspect { node: id(3), life: accused, accuser: id(6) };
        rig.say(2, gossip(6, fact));
        let cleared = |rig: &Rig| rig.all_agree(8) && rig.nodes[3].swim.life() > accused;
        let span = rig.bounds().dissemination * 4;
        assert!(rig.run_until(span, cleared), "seed {seed}");
        let dead = rig.nodes.iter().flat_map(|node| &node.events);
        let dead = dead.filter(|(_, event)| matches!(event.kind, Kind::Dead(_)));
        assert_eq!(dead.count(), 0);
    }
}

#[test]
fn a_member_that_slept_is_not_killed_for_less_than_the_least_suspicion() {
    for seed in 0..10 {
        let mut rig = Rig::settled(seed, 8);
        rig.pause(4, Duration::from_secs(3));
        rig.run(Duration::from_secs(30));
        assert!(rig.all_agree(8), "seed {seed}");
        let wrong = rig.nodes.iter().flat_map(|node| &node.events);
        let wrong = wrong.filter(|(_, event)| matches!(event.kind, Kind::Dead(_)));
        assert_eq!(wrong.count(), 0, "seed {seed}");
        assert_eq!(rig.nodes[4].swim.counters().get(Counter::ProbeFailed), 0);
    }
}

#[test]
fn a_partition_heals_within_its_bound() {
    for (seed, count) in [(1, 2), (2, 5), (3, 16), (4, 32), (5, 16)] {
        let mut rig = Rig::settled(seed, count);
        for n in 0..count / 2 {
            rig.nodes[n as usize].group = 1;
        }
        let apart = |rig: &Rig| {
            rig.able().all(|n| {
                let half = |m: u32| rig.nodes[m as usize].group;
                rig.able()
                    .filter(|m| half(*m) != half(n))
                    .all(|m| rig.state(n, m) == Some(State::Dead))
            })
        };
        let split = Bounds::crash_at(&rig.config, count, rig.config.health_max);
        assert!(rig.run_until(split, apart), "seed {seed}: the halves give each other up");
        for node in &mut rig.nodes {
            node.group = 0;
        }
        let heal = rig.bounds().heal;
        assert!(rig.run_until(heal, |rig| rig.all_agree(count)), "C140: seed {seed}, {count}");
        assert_eq!(rig.check_events(), Ok(()));
    }
}

#[test]
fn all_restart_and_find_themselves_in_their_new_sessions() {
    for (seed, count) in [(1, 5), (2, 16)] {
        let mut rig = Rig::settled(seed, count);
        for n in 0..count {
            rig.run(Duration::from_secs(10) / count);
            rig.restart(n);
        }
        let heal = rig.bounds().heal;
        assert!(rig.run_until(heal, |rig| rig.all_agree(count)), "C141: seed {seed}");
        let renewed = |rig: &Rig| {
            let swims = rig.nodes.iter().map(|node| &node.swim);
            swims.flat_map(Swim::members).all(|m| m.life.session == Session(2))
        };
        assert!(renewed(&rig), "old sessions are over");
        assert_eq!(rig.check_events(), Ok(()));
    }
}

#[test]
fn a_restart_is_death_and_birth_to_everyone() {
    let mut rig = Rig::settled(7, 6);
    rig.restart(2);
    rig.run(rig.bounds().heal);
    assert!(rig.all_agree(6));
    for n in [0, 1, 3, 4, 5] {
        let about: Vec<Kind> = rig.nodes[n]
            .events
            .iter()
            .filter(|(_, event)| event.node == id(2))
            .map(|(_, event)| event.kind)
            .collect();
        let tail = &about[about.len() - 2..];
        assert_eq!(tail, [Kind::Dead(DeadCause::Restarted), Kind::Join], "C57");
    }
}

#[test]
fn a_leaver_is_left_and_never_dead() {
    for (seed, count) in [(1, 2), (2, 5), (3, 24)] {
        let mut rig = Rig::settled(seed, count);
        rig.loss_permille = 50;
        rig.say(1, Input::Leave);
        rig.run(rig.config.leave_timeout);
        assert!(rig.nodes[1].departed, "C56");
        let all = |rig: &Rig| rig.able().all(|n| rig.state(n, 1) == Some(State::Left));
        assert!(all(&rig), "C142: seed {seed}, {count}");
        rig.run(Duration::from_secs(60));
        assert!(all(&rig));
        for n in rig.able().collect::<Vec<_>>() {
            let kinds = rig.nodes[n as usize].events.iter();
            let mut about = kinds.filter(|(_, event)| event.node == id(1));
            assert!(!about.any(|(_, event)| matches!(event.kind, Kind::Dead(_))));
        }
    }
}

#[test]
fn loss_alone_kills_nobody() {
    for seed in 0..4 {
        let mut rig = Rig::settled(seed, 16);
        rig.loss_permille = 100;
        rig.delay_ms_max = 50;
        rig.run(Duration::from_secs(300));
        let dead = rig.nodes.iter().flat_map(|node| &node.events);
        let dead = dead.filter(|(_, event)| matches!(event.kind, Kind::Dead(_)));
        assert_eq!(dead.count(), 0, "C139: seed {seed}");
    }
}

/// C1, C3: membership alone, without links, is a value like any machine.
#[test]
fn the_same_seed_gives_the_same_run() {
    use crate::digest::Digest;
    let run = |seed| {
        let mut rig = Rig::settled(seed, 8);
        rig.loss_permille = 100;
        rig.crash(3);
        rig.run(Duration::from_secs(40));
        let hashes = rig.nodes.iter().map(|node| Digest::of(&node.swim));
        hashes.collect::<Vec<_>>()
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

/// Goal: what the status shows as a round trip is that of a Ping and its own Ack (C120, C121).
#[test]
fn a_round_trip_is_measured_from_a_ping_to_the_ack_of_its_target() {
    let mut lone = Lone::among(1);
    let (target, seq) = begin(&mut lone);
    assert_eq!(lone.swim.round_trip(target), None);
    let asked = lone.now;
    lone.now = asked.plus_nanos(3 * MS);
    lone.receive(1, Lane::Datagram, Body::Ack { seq });
    let trip = lone.swim.round_trip(target).expect("it answered");
    assert!((3 * MS..=13 * MS).contains(&trip), "begin looks every 10 ms: {trip}");
    let timing = |lone: &Lone| lone.swim.counters().timing(Timing::ProbeRtt).count();
    assert_eq!(timing(&lone), 1);

    // An Ack on the stream answers the Ping on the stream.
    lone.out.clear();
    let (_, seq) = begin(&mut lone);
    lone.pass(210 * MS);
    lone.receive(1, Lane::Stream, Body::Ack { seq });
    assert_eq!((lone.swim.round_trip(target), timing(&lone)), (Some(trip), 1));
}
