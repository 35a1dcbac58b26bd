//! The registry under any sequence of calls, entries, syncs and member events.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use machines::cluster::config::RegistryConfig;
use machines::cluster::ids::{ActorId, CallId, NodeId, Ref, Session};
use machines::cluster::registry::Registry;
use machines::cluster::registry::io::{Input, NameEvent, NameEventKind, Output};
use machines::cluster::swim::io::{DeadCause, MemberEvent, MemberEventKind, SyncStep};
use machines::cluster::wire::{Meta, Name, NameDigest};
use machines::{Choices, Instant};

use crate::cursor::{Cursor, NAMES, NODES, START, addr, id, name};

const NAMES_PER_NODE_MAX: u32 = 3;
const NAMES_MAX: u32 = 6;
const LOOKUPS_MAX: u32 = 3;

fn small() -> Registry {
    let config = RegistryConfig {
        names_per_node_max: NAMES_PER_NODE_MAX,
        names_max: NAMES_MAX,
        lookups_max: LOOKUPS_MAX,
        ..RegistryConfig::standard()
    };
    Registry::new(id(0), Session(1), config, Choices::new(1))
}

fn member(cursor: &mut Cursor<'_>) -> MemberEvent {
    let kind = match cursor.below(6) {
        0 | 1 => MemberEventKind::Join,
        2 => MemberEventKind::Suspect,
        3 => MemberEventKind::Alive,
        4 => MemberEventKind::Dead(DeadCause::Timeout),
        _ => MemberEventKind::Left,
    };
    MemberEvent {
        index: 0,
        node: cursor.other(),
        life: cursor.life(),
        addr: Some(addr(1)),
        meta: Meta::EMPTY,
        kind,
    }
}

fn input(cursor: &mut Cursor<'_>, call: CallId) -> Input {
    match cursor.below(16) {
        0 => Input::Tick,
        1 | 2 => Input::Register {
            call,
            name: cursor.name(),
            actor: ActorId(cursor.below(4).into()),
            ttl: cursor.flag().then(|| cursor.wait()),
            manual: cursor.flag(),
        },
        3 => Input::Renew { call, name: cursor.name() },
        4 => Input::Unregister { call, name: cursor.name() },
        5 => Input::ActorEnded(ActorId(cursor.below(4).into())),
        6 | 7 => Input::Lookup { call, name: cursor.name() },
        8 | 9 => Input::Entry { from: cursor.other(), entry: cursor.name_entry() },
        10 => {
            let step = [SyncStep::First, SyncStep::Second, SyncStep::Third];
            let (from, step) = (cursor.other(), step[usize::from(cursor.below(3))]);
            let digest = |cursor: &mut Cursor<'_>| NameDigest {
                owner: cursor.node(),
                session: cursor.session(),
                serial: cursor.number(),
                age_ms: cursor.number(),
            };
            let digests = if step == SyncStep::Third { 0 } else { cursor.below(4) };
            let entries = if step == SyncStep::First { 0 } else { cursor.below(4) };
            let digests = (0..digests).map(|_| digest(cursor)).collect();
            let entries = (0..entries).map(|_| cursor.name_entry()).collect();
            Input::Synced { from, step, digests, entries }
        }
        11 => Input::Query { from: cursor.other(), query: cursor.number(), name: cursor.name() },
        12 => Input::QueryReply {
            from: cursor.other(),
            query: cursor.number(),
            entry: cursor.flag().then(|| cursor.name_entry()),
        },
        13 | 14 => Input::Member(member(cursor)),
        _ => match cursor.below(8) {
            0 => Input::Leave,
            _ => Input::Renewed(cursor.session()),
        },
    }
}

/// What a registry owes its caller.
#[derive(Debug, Default)]
struct Watch {
    /// Register, Renew and Unregister without an answer.
    calls: BTreeSet<CallId>,
    /// Look-ups without an answer.
    lookups: BTreeSet<CallId>,
    /// The index of the next event, and the table that the events give (C79).
    next: u64,
    table: BTreeMap<Name, Ref>,
}

impl Watch {
    fn asked(&mut self, input: &Input) {
        if let Input::Register { call, .. }
        | Input::Renew { call, .. }
        | Input::Unregister { call, .. } = input
        {
            self.calls.insert(*call);
        } else if let Input::Lookup { call, .. } = input {
            self.lookups.insert(*call);
        }
    }

    /// Every answer is one to a call without one.
    fn told(&mut self, output: &Output, me: NodeId) {
        match output {
            Output::Registered { call, .. } => assert!(self.calls.remove(call), "a second answer"),
            Output::Found { call, .. } => assert!(self.lookups.remove(call), "found twice"),
            Output::Event(event) => self.event(event, me),
            Output::Gossip(_) | Output::Query { .. } | Output::QueryReply { .. } => {}
        }
    }

    /// C79: the events have no gap and give the table.
    fn event(&mut self, event: &NameEvent, me: NodeId) {
        assert_eq!(event.index, self.next, "C79: a gap");
        self.next += 1;
        let (name, holder) = (event.name.clone(), event.holder);
        match event.kind {
            NameEventKind::Registered => assert_eq!(self.table.insert(name, holder), None),
            NameEventKind::Replaced => {
                let before = self.table.insert(name, holder);
                assert!(before.is_some_and(|before| before != holder), "C79: {event:?}");
            }
            NameEventKind::Withdrawn => assert_eq!(self.table.remove(&name), Some(holder)),
            NameEventKind::Lost => assert_eq!(holder.node, me, "C74: of another"),
        }
    }

    /// C70, C79, C150, and C73: who was told to hold a name is the greatest of its live copies,
    /// found anew among all of them.
    fn look(&self, now: Instant, registry: &Registry) {
        assert!(self.calls.is_empty(), "no answer to {:?}", self.calls);
        let (copies, lookups) = registry.sizes();
        assert!(copies <= 2 * NAMES_MAX, "C150: {copies} copies");
        assert!(lookups <= LOOKUPS_MAX, "C150: {lookups} look-ups");
        assert!(registry.held().count() <= NAMES_PER_NODE_MAX as usize, "C70");
        let shown = self.table.iter().map(|(name, at)| (name.clone(), *at)).collect();
        assert_eq!(registry.snapshot(""), (self.next, shown), "C79");
        for name in (0..NAMES).map(name) {
            let greatest = registry.live(&name, now);
            assert_eq!(self.table.get(&name).copied(), greatest, "C73: the holder of {name:?}");
        }
    }
}

fn told(output: &Output) -> &'static str {
    match output {
        Output::Gossip(_) => "gossip",
        Output::Query { .. } => "query",
        Output::QueryReply { entry: None, .. } => "reply without",
        Output::QueryReply { .. } => "reply",
        Output::Registered { result: Ok(()), .. } => "registered",
        Output::Registered { .. } => "refused",
        Output::Found { found: None, .. } => "not found",
        Output::Found { .. } => "found",
        Output::Event(event) => match event.kind {
            NameEventKind::Registered => "event registered",
            NameEventKind::Replaced => "event replaced",
            NameEventKind::Withdrawn => "event withdrawn",
            NameEventKind::Lost => "event lost",
        },
    }
}

/// Runs `bytes` and names what the registry told.
///
/// # Panics
///
/// If a property does not hold.
#[must_use]
pub fn run(bytes: &[u8]) -> BTreeSet<&'static str> {
    let mut cursor = Cursor::new(bytes);
    let (mut registry, mut watch, mut now) = (small(), Watch::default(), START);
    let mut reached = BTreeSet::new();
    let mut step = |registry: &mut Registry, watch: &mut Watch, now, input: Input| {
        let query = matches!(input, Input::Query { .. });
        watch.asked(&input);
        registry.handle(now, input);
        let outputs: Vec<Output> = std::iter::from_fn(|| registry.poll()).collect();
        for output in &outputs {
            watch.told(output, id(0));
            reached.insert(told(output));
        }
        let replies = outputs.iter().filter(|o| matches!(o, Output::QueryReply { .. })).count();
        assert_eq!(replies, usize::from(query), "C77: one reply to a query");
        watch.look(now, registry);
    };
    for call in 0.. {
        if cursor.is_empty() {
            break;
        }
        now = now + cursor.wait();
        let input = input(&mut cursor, CallId(call));
        step(&mut registry, &mut watch, now, input);
        let to = id(1 + (u8::try_from(call % 251).expect("below 251")) % (NODES - 1));
        let digests = registry.digests(now, to);
        let _delta = registry.delta(now, &digests);
    }
    step(&mut registry, &mut watch, now + Duration::from_secs(2), Input::Tick);
    assert!(watch.lookups.is_empty(), "C77: look-ups end in time");
    reached
}

/// Any sequence of inputs. Means something if a name got a holder.
#[must_use]
pub fn registry(bytes: &[u8]) -> bool {
    run(bytes).contains("event registered")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered() -> (Registry, Vec<Output>) {
        let mut registry = small();
        let (call, name) = (CallId(1), Name::new("clock").unwrap());
        let input = Input::Register { call, name, actor: ActorId(1), ttl: None, manual: false };
        registry.handle(START, input);
        let outputs = std::iter::from_fn(|| registry.poll()).collect();
        (registry, outputs)
    }

    #[test]
    #[should_panic(expected = "a second answer")]
    fn an_answer_to_no_call_is_noticed() {
        let (_, outputs) = registered();
        let mut watch = Watch::default();
        outputs.iter().for_each(|output| watch.told(output, id(0)));
    }

    /// The saboteur is a twin to which no one registered, put in the machine's place.
    #[test]
    #[should_panic(expected = "C79")]
    fn a_lost_registration_is_noticed() {
        let (_, outputs) = registered();
        let mut watch = Watch { calls: [CallId(1)].into(), ..Watch::default() };
        outputs.iter().for_each(|output| watch.told(output, id(0)));
        watch.look(START, &small());
    }
}
