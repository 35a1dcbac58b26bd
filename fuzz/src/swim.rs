//! Membership under any sequence of messages, syncs, links and times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use machines::cluster::config::{Profile, SwimConfig};
use machines::cluster::identity::Allowed;
use machines::cluster::ids::{Incarnation, Life, NodeId, Session};
use machines::cluster::swim::io::{
    Input, Lane, MemberEvent, MemberEventKind, Output, Seed, SyncStep,
};
use machines::cluster::swim::{Swim, SwimParams};
use machines::cluster::wire::{Body, Entry, Fact, MESSAGE_MAX, MemberRow, Message, Meta, State};
use machines::{Choices, Instant};

use crate::cursor::{Cursor, NODES, START, addr, id, key};

/// The least time for which a Dead or Left row is remembered here.
const FORGET: Duration = Duration::from_secs(20);

/// Node 0 with limits so tight that they are met.
fn small() -> Swim {
    let config = SwimConfig {
        members_max: 4,
        relays_max: 2,
        sessions_max: 2,
        forget_after: Duration::from_secs(30),
        forget_left_after: FORGET,
        ..SwimConfig::of(Profile::Local)
    };
    Swim::new(
        START,
        SwimParams {
            config,
            node: id(0),
            session: Session(1),
            addr: addr(100),
            meta: Meta::EMPTY,
            allowed: Arc::new(Allowed::Any),
            seeds: vec![seed(1)],
            choices: Choices::new(1),
        },
    )
}

fn seed(n: u8) -> Seed {
    Seed { addr: addr(n), node: None }
}

fn fact(cursor: &mut Cursor<'_>) -> Fact {
    let (kind, node, life) = (cursor.below(4), cursor.node(), cursor.life());
    match kind {
        0 => Fact::Alive {
            node,
            life,
            addr: addr(cursor.byte()),
            meta: Meta::new(cursor.bytes(1)).expect("one byte is short"),
        },
        1 => Fact::Suspect { node, life, accuser: cursor.node() },
        2 => Fact::Dead { node, life, accuser: cursor.node() },
        _ => Fact::Left { node, session: life.session },
    }
}

fn body(cursor: &mut Cursor<'_>) -> Body {
    let (kind, seq) = (cursor.below(5), cursor.number());
    match kind {
        0 => Body::Gossip,
        1 => Body::Ping { seq },
        2 => Body::Ack { seq },
        3 => Body::Nack { seq },
        _ => Body::PingReq {
            seq,
            wait_ms: cursor.number(),
            target: cursor.node(),
            session: cursor.session(),
            addr: addr(cursor.byte()),
        },
    }
}

fn row(cursor: &mut Cursor<'_>) -> MemberRow {
    let state = [State::Alive, State::Suspect, State::Dead, State::Left];
    let (node, mut life) = (cursor.node(), cursor.life());
    let state = state[usize::from(cursor.below(4))];
    if state == State::Left {
        life.incarnation = Incarnation::LEFT;
    }
    let gone = matches!(state, State::Dead | State::Left);
    MemberRow {
        node,
        life,
        state,
        age_ms: if gone { cursor.number() } else { 0 },
        addr: (!gone || cursor.flag()).then(|| addr(cursor.byte())),
        meta: Meta::EMPTY,
    }
}

fn input(cursor: &mut Cursor<'_>) -> Input {
    match cursor.below(20) {
        0..=2 => Input::Tick,
        3..=8 => {
            let (from, lane) = (cursor.other(), [Lane::Datagram, Lane::Stream]);
            let lane = lane[usize::from(cursor.flag())];
            let body = body(cursor);
            let entries = (0..cursor.below(5)).map(|_| Entry::Fact(fact(cursor))).collect();
            Input::Received { from, lane, message: Message { body, entries } }
        }
        9 | 10 => Input::LinkUp {
            peer: cursor.other(),
            life: cursor.life(),
            addr: addr(cursor.byte()),
            seed: cursor.flag().then(|| seed(1)),
        },
        11 => Input::LinkDown { peer: cursor.other() },
        12 => Input::Unreachable {
            peer: cursor.flag().then(|| cursor.node()),
            seed: cursor.flag().then(|| seed(cursor.below(3))),
        },
        13 | 14 => {
            let step = [SyncStep::First, SyncStep::Second, SyncStep::Third];
            let (from, step) = (cursor.other(), step[usize::from(cursor.below(3))]);
            let count = if step == SyncStep::Third { 0 } else { cursor.below(6) };
            Input::Sync { from, step, rows: (0..count).map(|_| row(cursor)).collect() }
        }
        15 => Input::Rejected { peer: cursor.other() },
        16 => match cursor.flag() {
            true => Input::Allowed(Arc::new(Allowed::Any)),
            false => {
                let nodes = 0..cursor.below(NODES);
                Input::Allowed(Arc::new(Allowed::only(nodes.map(key))))
            }
        },
        17 => Input::Seeds((0..cursor.below(3)).map(seed).collect()),
        18 => match cursor.below(3) {
            0 => Input::Moved(addr(cursor.byte())),
            1 => Input::Meta(Meta::new(cursor.bytes(2)).expect("two bytes are short")),
            _ => Input::Renewed(cursor.session()),
        },
        _ => match cursor.below(4) {
            0 => Input::Leave,
            _ => Input::Gossip(cursor.name_entry()),
        },
    }
}

/// What was seen of one machine so far, and so what it may say and hold next.
#[derive(Debug, Default)]
struct Watch {
    /// The index of the next event.
    next: u64,
    /// The members that the events give.
    members: BTreeMap<NodeId, State>,
    rows: BTreeMap<NodeId, (Life, State, Instant)>,
}

impl Watch {
    /// C44: the index has no gap, and the events of a node follow the grammar. C143: they give
    /// the members.
    fn event(&mut self, event: &MemberEvent) {
        assert_eq!(event.index, self.next, "C44: a gap");
        self.next += 1;
        let before = self.members.get(&event.node).copied();
        let after = match (before, event.kind) {
            (None, MemberEventKind::Join) => Some(State::Alive),
            (Some(State::Alive), MemberEventKind::Suspect) => Some(State::Suspect),
            (Some(State::Suspect), MemberEventKind::Alive) => Some(State::Alive),
            (Some(State::Alive), MemberEventKind::Changed) => Some(State::Alive),
            (Some(_), MemberEventKind::Dead(_) | MemberEventKind::Left) => None,
            (_, kind) => panic!("C44: {kind:?} of {:?} while {before:?}", event.node),
        };
        match after {
            Some(state) => self.members.insert(event.node, state),
            None => self.members.remove(&event.node),
        };
    }

    /// C136: rows never fall and nobody holds itself Suspect or Dead. C143, C150.
    fn look(&mut self, now: Instant, swim: &Swim, revokes: bool) {
        assert!(swim.is_bounded(), "C150");
        let own = swim.own().state;
        assert!(matches!(own, State::Alive | State::Left), "C136: oneself is {own:?}");
        let rows: BTreeMap<_, _> =
            swim.members().map(|m| (m.node, (m.life, m.state, m.since))).collect();
        for (node, (life, state, _)) in &rows {
            let rose = self.rows.get(node).is_none_or(|(old_life, old_state, since)| {
                let gone = matches!(old_state, State::Dead | State::Left);
                (gone && now.since(*since) >= FORGET) || (old_life, old_state) <= (life, state)
            });
            assert!(rose || revokes, "C136: {node:?} fell");
        }
        let alive = rows.values().filter(|(_, state, _)| *state == State::Alive).count();
        assert_eq!(swim.alive_count() as usize, alive);
        let up = |(_, (_, state, _)): &(_, &(_, State, _))| {
            matches!(*state, State::Alive | State::Suspect)
        };
        let table: BTreeMap<_, _> = rows.iter().filter(up).map(|(n, row)| (*n, row.1)).collect();
        let mut members = self.members.clone();
        if own == State::Alive {
            members.insert(swim.node(), own);
        }
        assert_eq!(members, table, "C143: the events do not give the table");
        self.rows = rows;
    }
}

/// Names what an output is about.
fn told(output: &Output) -> &'static str {
    match output {
        Output::Send { .. } => "send",
        Output::Want { .. } => "want",
        Output::Dial { .. } => "dial",
        Output::DialSeed { .. } => "dial seed",
        Output::Known { .. } => "known",
        Output::UsedUp => "used up",
        Output::Sync { .. } => "sync",
        Output::Event(event) => match event.kind {
            MemberEventKind::Join => "join",
            MemberEventKind::Suspect => "suspect",
            MemberEventKind::Alive => "alive",
            MemberEventKind::Changed => "changed",
            MemberEventKind::Dead(_) => "dead",
            MemberEventKind::Left => "left",
        },
        Output::Name { .. } => "name",
        Output::SessionBehind { .. } => "session behind",
        Output::SelfChanged { .. } => "self changed",
        Output::Joined => "joined",
        Output::Departed => "departed",
    }
}

/// Runs `bytes` and names what membership told.
///
/// # Panics
///
/// If a property does not hold.
#[must_use]
pub fn run(bytes: &[u8]) -> BTreeSet<&'static str> {
    let mut cursor = Cursor::new(bytes);
    let (mut swim, mut watch, mut now) = (small(), Watch::default(), START);
    let mut reached = BTreeSet::new();
    while !cursor.is_empty() {
        now = now + cursor.wait();
        let input = input(&mut cursor);
        let revokes = matches!(input, Input::Allowed(_));
        swim.handle(now, input);
        while let Some(output) = swim.poll() {
            reached.insert(told(&output));
            if let Output::Event(event) = &output {
                watch.event(event);
            } else if let Output::Send { to, message, .. } = &output {
                assert!(message.encoded_len() <= MESSAGE_MAX, "C15: it fits a datagram");
                assert_ne!(*to, swim.node(), "a message to oneself");
            }
        }
        watch.look(now, &swim, revokes);
    }
    reached
}

/// Any sequence of inputs. Means something if someone joined.
#[must_use]
pub fn swim(bytes: &[u8]) -> bool {
    run(bytes).contains("join")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Node 0 after it was told that node 1 is alive in `incarnation`, and its events.
    fn told_alive(incarnation: u32) -> (Swim, Vec<MemberEvent>) {
        let mut swim = small();
        let life = Life { session: Session(1), incarnation: Incarnation(incarnation) };
        let fact = Fact::Alive { node: id(1), life, addr: addr(1), meta: Meta::EMPTY };
        let message = Message { body: Body::Gossip, entries: vec![Entry::Fact(fact)] };
        swim.handle(START, Input::Received { from: id(2), lane: Lane::Datagram, message });
        let outputs = std::iter::from_fn(|| swim.poll());
        let events =
            outputs.filter_map(
                |output| {
                    if let Output::Event(event) = output { Some(event) } else { None }
                },
            );
        let events = events.collect();
        (swim, events)
    }

    /// The saboteur is a twin that knows less, put in the machine's place.
    #[test]
    #[should_panic(expected = "C136")]
    fn a_row_that_falls_is_noticed() {
        let mut watch = Watch::default();
        let (swim, events) = told_alive(3);
        events.iter().for_each(|event| watch.event(event));
        watch.look(START, &swim, false);
        let (twin, _) = told_alive(2);
        watch.look(START, &twin, false);
    }

    #[test]
    #[should_panic(expected = "C143")]
    fn a_member_without_an_event_is_noticed() {
        Watch::default().look(START, &told_alive(0).0, false);
    }

    #[test]
    #[should_panic(expected = "C44")]
    fn an_event_told_twice_is_noticed() {
        let mut watch = Watch::default();
        let (_, mut events) = told_alive(0);
        events.push(MemberEvent { index: 1, ..events[0] });
        events.iter().for_each(|event| watch.event(event));
    }
}
