//! What no sequence of inputs breaks: C136, C137, C143, C144, C150.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test picks out the one case that it is about"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::io::{Input, Lane, MemberEvent, MemberEventKind, Output, SyncStep};
use super::rig::{addr, id, params, seed};
use super::{Member, Snapshot, Swim, SwimParams};
use crate::cluster::config::{Profile, SwimConfig};
use crate::cluster::identity::Allowed;
use crate::cluster::ids::{Incarnation, Life, NodeId, Session};
use crate::cluster::wire::{Body, Entry, Fact, MemberRow, Message, Meta, State};
use crate::time::Instant;

/// Checks the grammar of C44 and the gapless index, for the stream of one node.
pub(super) fn check_grammar(events: impl Iterator<Item = MemberEvent>) -> Result<(), String> {
    let mut held: BTreeMap<NodeId, State> = BTreeMap::new();
    for (index, event) in (0..).zip(events) {
        if event.index != index {
            return Err(format!("index {} where {index} was due", event.index));
        }
        let before = held.get(&event.node).copied();
        let after = match (before, event.kind) {
            (None, MemberEventKind::Join) => Some(State::Alive),
            (Some(State::Alive), MemberEventKind::Suspect) => Some(State::Suspect),
            (Some(State::Suspect), MemberEventKind::Alive) => Some(State::Alive),
            (Some(State::Alive), MemberEventKind::Changed) => Some(State::Alive),
            (Some(_), MemberEventKind::Dead(_) | MemberEventKind::Left) => None,
            (_, kind) => return Err(format!("{kind:?} of {:?} while {before:?}", event.node)),
        };
        match after {
            Some(state) => held.insert(event.node, state),
            None => held.remove(&event.node),
        };
    }
    Ok(())
}

/// The members that a snapshot and the events after it give.
fn members_after(snapshot: &Snapshot, events: &[MemberEvent]) -> BTreeMap<NodeId, State> {
    let mut held: BTreeMap<NodeId, State> = snapshot
        .members
        .iter()
        .filter(|m| matches!(m.state, State::Alive | State::Suspect))
        .map(|m| (m.node, m.state))
        .collect();
    for event in events.iter().filter(|event| event.index >= snapshot.index) {
        match event.kind {
            MemberEventKind::Join | MemberEventKind::Alive => {
                held.insert(event.node, State::Alive);
            }
            MemberEventKind::Changed => {}
            MemberEventKind::Suspect => {
                held.insert(event.node, State::Suspect);
            }
            MemberEventKind::Dead(_) | MemberEventKind::Left => {
                held.remove(&event.node);
            }
        }
    }
    held
}

fn maybe_seed() -> impl Strategy<Value = Option<super::io::Seed>> {
    prop::option::of((0..3_u32).prop_map(seed))
}

fn life() -> impl Strategy<Value = Life> {
    (1..4_u32, 0..4_u32).prop_map(|(session, incarnation)| Life {
        session: Session(session),
        incarnation: Incarnation(incarnation),
    })
}

/// Facts about nodes 0 … 5, of which 0 is the machine itself. One life, one address: members
/// say the same of themselves in the same life.
fn fact() -> impl Strategy<Value = Fact> {
    (0..6_u32, life(), 0..6_u32, 0..4_u8).prop_map(|(node, life, accuser, kind)| {
        let (node, accuser) = (id(node), id(accuser));
        match kind {
            0 => {
                Fact::Alive { node, life, addr: addr(100 + life.incarnation.0), meta: Meta::EMPTY }
            }
            1 => Fact::Suspect { node, life, accuser },
            2 => Fact::Dead { node, life, accuser },
            _ => Fact::Left { node, session: life.session },
        }
    })
}

fn body() -> impl Strategy<Value = Body> {
    let seq = 0..12_u32;
    prop_oneof![
        seq.clone().prop_map(|seq| Body::Ping { seq }),
        seq.clone().prop_map(|seq| Body::Ack { seq }),
        seq.clone().prop_map(|seq| Body::Nack { seq }),
        (seq, 0..8_u32, 0..2_000_u32).prop_map(|(seq, target, wait_ms)| Body::PingReq {
            seq,
            wait_ms,
            target: id(target),
            session: Session(1),
            addr: addr(target),
        }),
        Just(Body::Gossip),
    ]
}

fn row() -> impl Strategy<Value = MemberRow> {
    (0..8_u32, life(), 0..4_u8, any::<bool>(), 0..100_000_u32).prop_map(
        |(node, mut life, state, known, age)| {
            let state = [State::Alive, State::Suspect, State::Dead, State::Left][state as usize];
            let gone = matches!(state, State::Dead | State::Left);
            if state == State::Left {
                life.incarnation = Incarnation::LEFT;
            }
            MemberRow {
                node: id(node),
                life,
                state,
                age_ms: if gone { age } else { 0 },
                addr: (known || !gone).then(|| addr(100 + life.incarnation.0 % 7)),
                meta: Meta::EMPTY,
            }
        },
    )
}

fn input() -> impl Strategy<Value = Input> {
    let node = || (0..8_u32).prop_map(id);
    let lane = prop_oneof![Just(Lane::Datagram), Just(Lane::Stream)];
    let step = prop_oneof![Just(SyncStep::First), Just(SyncStep::Second), Just(SyncStep::Third)];
    let only = |nodes: Vec<u8>| Allowed::only(nodes.into_iter().map(|n| [n; 32]));
    prop_oneof![
        4 => Just(Input::Tick),
        8 => (1..8_u32, lane, body(), prop::collection::vec(fact(), 0..5)).prop_map(
            |(from, lane, body, facts)| Input::Received {
                from: id(from),
                lane,
                message: Message {
                    body,
                    entries: facts.into_iter().map(Entry::Fact).collect(),
                },
            }
        ),
        2 => (1..8_u32, life(), maybe_seed()).prop_map(|(peer, life, seed)| {
            Input::LinkUp { peer: id(peer), life, addr: addr(peer), seed }
        }),
        1 => node().prop_map(|peer| Input::LinkDown { peer }),
        1 => (prop::option::of(node()), maybe_seed())
            .prop_map(|(peer, seed)| Input::Unreachable { peer, seed }),
        1 => node().prop_map(|peer| Input::Rejected { peer }),
        2 => (1..8_u32, step, prop::collection::vec(row(), 0..6)).prop_map(
            |(from, step, rows)| Input::Sync { from: id(from), step, rows }
        ),
        1 => prop::collection::vec(0..4_u8, 0..3)
            .prop_map(move |nodes| Input::Allowed(Arc::new(only(nodes)))),
        1 => Just(Input::Allowed(Arc::new(Allowed::Any))),
        1 => prop::collection::vec(0..8_u32, 0..3)
            .prop_map(|seeds| Input::Seeds(seeds.into_iter().map(seed).collect())),
        1 => (200..203_u32).prop_map(|n| Input::Moved(addr(n))),
        1 => (0..3_u8).prop_map(|n| Input::Meta(Meta::new(&[n]).unwrap())),
        1 => (1..6_u32).prop_map(|session| Input::Renewed(Session(session))),
    ]
}

/// A machine with tight limits, so that caps are met.
fn small() -> Swim {
    let config = SwimConfig {
        members_max: 5,
        relays_max: 2,
        sessions_max: 2,
        forget_after: std::time::Duration::from_secs(30),
        forget_left_after: std::time::Duration::from_secs(20),
        ..SwimConfig::of(Profile::Local)
    };
    Swim::new(Instant::START, SwimParams { config, ..params(0, &[1, 2]) })
}

fn drain(swim: &mut Swim) -> Vec<Output> {
    std::iter::from_fn(|| swim.poll()).collect()
}

fn rank(member: &Member) -> (Life, State) {
    (member.life, member.state)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// C136, C143, C150 under arbitrary inputs: rows never fall, nobody holds itself Suspect or
    /// Dead, events follow the grammar and give the table, everything stays within its cap, and
    /// messages fit a datagram.
    #[test]
    fn no_sequence_of_inputs_breaks_the_table(
        steps in prop::collection::vec((0..3_000_u64, input()), 1..120),
    ) {
        let mut swim = small();
        let mut now = Instant::START;
        let mut events = Vec::new();
        let mut rows: BTreeMap<NodeId, (Life, State, Instant)> = BTreeMap::new();
        let mut snapshot = swim.snapshot();
        for (nth, (wait, input)) in steps.into_iter().enumerate() {
            now = now.plus_nanos(wait * 1_000_000);
            let revokes = matches!(input, Input::Allowed(_));
            swim.handle(now, input);
            for output in drain(&mut swim) {
                match output {
                    Output::Event(event) => events.push(event),
                    Output::Send { to, message, .. } => {
                        prop_assert!(message.encoded_len() <= crate::cluster::wire::MESSAGE_MAX);
                        prop_assert!(to != swim.node(), "a message to oneself");
                    }
                    _ => {}
                }
            }
            prop_assert!(swim.is_bounded(), "C150");
            let own = swim.own();
            prop_assert_eq!(own.state, State::Alive);
            let held: BTreeMap<NodeId, (Life, State, Instant)> =
                swim.members().map(|m| (m.node, (m.life, m.state, m.since))).collect();
            for (node, (life, state, _)) in &held {
                let rose = rows.get(node).is_none_or(|(old_life, old_state, since)| {
                    let gone = matches!(old_state, State::Dead | State::Left);
                    let forgotten = gone && now.nanos_since(*since) >= 20_000_000_000;
                    forgotten || (old_life, old_state) <= (life, state)
                });
                prop_assert!(rose || revokes, "C136: {node:?} fell");
            }
            rows = held;
            prop_assert_eq!(swim.alive_count() as usize,
                swim.members().filter(|m| m.state == State::Alive).count());
            let mut members = members_after(&snapshot, &events);
            members.insert(swim.node(), State::Alive);
            let table: BTreeMap<NodeId, State> = swim.members()
                .filter(|m| matches!(m.state, State::Alive | State::Suspect))
                .map(|m| (m.node, m.state))
                .collect();
            prop_assert_eq!(members, table, "C143");
            if nth % 7 == 0 {
                snapshot = swim.snapshot();
            }
        }
        prop_assert_eq!(check_grammar(events.into_iter()), Ok(()));
    }

    /// C144: the same facts about known members give equal rows, in any order and multiplicity.
    #[test]
    fn facts_in_any_order_and_number_give_equal_rows(
        facts in prop::collection::vec(fact(), 1..25),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let facts: Vec<Fact> = facts.into_iter().filter(|f| about(f) != id(0)).collect();
        let told = |facts: &[Fact]| {
            let mut swim = Swim::new(Instant::START, params(0, &[]));
            let now = Instant::from_millis(1);
            let known = (1..6).map(|n| alive(n, 0));
            for fact in known.chain(facts.iter().copied()) {
                swim.handle(now, gossip(9, fact));
                drain(&mut swim);
            }
            swim.members().map(|m| (m.node, rank(&m))).collect::<BTreeMap<_, _>>()
        };
        let mut shuffled: Vec<Fact> = order
            .iter()
            .filter(|_| !facts.is_empty())
            .map(|index| *index.get(&facts))
            .collect();
        shuffled.extend(facts.iter().rev());
        prop_assert_eq!(told(&facts), told(&shuffled));
    }

    /// C137: whoever applied an Alive of incarnation i never again holds that session Suspect or
    /// Dead with less than i; and a machine accused refutes above every accusation it heard.
    #[test]
    fn a_refutation_stands_above_all_that_it_refutes(
        facts in prop::collection::vec(fact(), 1..40),
    ) {
        let mut swim = Swim::new(Instant::START, SwimParams {
            session: Session(3),
            ..params(0, &[])
        });
        let now = Instant::from_millis(1);
        swim.handle(now, Input::Tick);
        drain(&mut swim);
        prop_assert!(swim.is_joined(), "a newborn does not refute, but goes (C27)");
        let mut applied: BTreeMap<NodeId, Life> = BTreeMap::new();
        let mut accused = BTreeSet::new();
        for fact in facts {
            let mine = swim.life();
            swim.handle(now, gossip(1, fact));
            drain(&mut swim);
            // Beyond what it ever was, it is not the one accused (C27).
            if let Fact::Suspect { node, life, .. } | Fact::Dead { node, life, .. } = fact
                && node == id(0) && life.session == Session(3) && life <= mine
            {
                accused.insert(life);
            }
            for member in swim.members() {
                let alive = applied.entry(member.node).or_insert(member.life);
                match member.state {
                    State::Alive => *alive = (*alive).max(member.life),
                    State::Suspect | State::Dead => prop_assert!(member.life >= *alive),
                    State::Left => {}
                }
            }
            prop_assert!(accused.iter().all(|life| *life < swim.life()));
        }
    }

    /// A copy fed the same inputs stays equal, and equal machines hash equal (T4).
    #[test]
    fn a_copy_stays_equal(steps in prop::collection::vec((0..2_000_u64, input()), 1..40)) {
        use crate::digest::Digest;
        let mut swim = small();
        let mut twin = swim.clone();
        let mut now = Instant::START;
        for (wait, input) in steps {
            now = now.plus_nanos(wait * 1_000_000);
            swim.handle(now, input.clone());
            twin.handle(now, input);
            prop_assert_eq!(drain(&mut swim), drain(&mut twin));
            prop_assert_eq!(Digest::of(&swim), Digest::of(&twin));
        }
        prop_assert!(swim == twin);
    }
}

fn about(fact: &Fact) -> NodeId {
    match fact {
        Fact::Alive { node, .. }
        | Fact::Suspect { node, .. }
        | Fact::Dead { node, .. }
        | Fact::Left { node, .. } => *node,
    }
}

/// Node `n` says that it is alive, in session 1.
pub(super) fn alive(n: u32, incarnation: u32) -> Fact {
    Fact::Alive {
        node: id(n),
        life: Life { session: Session(1), incarnation: Incarnation(incarnation) },
        addr: addr(n),
        meta: Meta::EMPTY,
    }
}

/// A Gossip of one fact.
pub(super) fn gossip(from: u32, fact: Fact) -> Input {
    Input::Received {
        from: id(from),
        lane: Lane::Datagram,
        message: Message { body: Body::Gossip, entries: vec![Entry::Fact(fact)] },
    }
}
