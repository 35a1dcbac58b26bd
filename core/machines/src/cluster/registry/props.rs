//! Properties of the registry: several of them agree, whatever was lost and forgotten on the way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::cluster::ids::{Incarnation, Life};
use crate::cluster::swim::io::{DeadCause, SyncStep};
use crate::cluster::wire::Meta;

const NODES: usize = 4;
const NAMES: u8 = 5;
const TTL: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
enum Step {
    Register {
        node: usize,
        name: u8,
    },
    Unregister {
        node: usize,
        name: u8,
    },
    Wait {
        ms: u64,
    },
    /// A gossiped entry arrives somewhere; entries stay about, so they come twice and late.
    Gossip {
        nth: usize,
        to: usize,
    },
    /// A sync, of which only so many messages arrive.
    Sync {
        from: usize,
        to: usize,
        messages: u8,
    },
    /// One node takes another for dead for a moment.
    Blink {
        at: usize,
        node: usize,
    },
    Restart {
        node: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    prop_oneof![
        4 => (node.clone(), 0..NAMES).prop_map(|(node, name)| Step::Register { node, name }),
        2 => (node.clone(), 0..NAMES).prop_map(|(node, name)| Step::Unregister { node, name }),
        2 => (0..30_000_u64).prop_map(|ms| Step::Wait { ms }),
        6 => (any::<usize>(), node.clone()).prop_map(|(nth, to)| Step::Gossip { nth, to }),
        4 => (node.clone(), node.clone(), 1..4_u8)
            .prop_map(|(from, to, messages)| Step::Sync { from, to, messages }),
        1 => (node.clone(), node.clone()).prop_map(|(at, node)| Step::Blink { at, node }),
        1 => node.prop_map(|node| Step::Restart { node }),
    ]
}

/// One registration as a witness saw it: who, of which name, and when it ended.
struct Witness {
    at: Ref,
    name: Name,
    ended: Option<Instant>,
}

/// Registries, what flies between them, and a witness of all registrations.
struct Cluster {
    now: Instant,
    nodes: Vec<Registry>,
    sessions: Vec<u32>,
    gossip: Vec<(Instant, NameEntry)>,
    witnesses: Vec<Witness>,
    actors: u64,
}

fn id(node: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(node).unwrap() + 1; 16])
}

fn name(n: u8) -> Name {
    Name::new(&format!("name/{n}")).unwrap()
}

fn event(node: usize, session: u32, kind: MemberEventKind) -> Input {
    Input::Member(MemberEvent {
        index: 0,
        node: id(node),
        life: Life { session: Session(session), incarnation: Incarnation(0) },
        addr: None,
        meta: Meta::EMPTY,
        kind,
    })
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            now: Instant::from_millis(1),
            nodes: Vec::new(),
            sessions: vec![1; NODES],
            gossip: Vec::new(),
            witnesses: Vec::new(),
            actors: 0,
        };
        for node in 0..NODES {
            cluster.nodes.push(cluster.fresh(node));
        }
        cluster
    }

    /// A registry that knows all others as members.
    fn fresh(&self, node: usize) -> Registry {
        let config = RegistryConfig { default_ttl: TTL, ..RegistryConfig::standard() };
        let session = Session(self.sessions[node]);
        let mut registry = Registry::new(id(node), session, config, Choices::new(1));
        for other in 0..NODES {
            let joined = event(other, self.sessions[other], MemberEventKind::Join);
            registry.handle(self.now, joined);
            assert_eq!(registry.poll(), None);
        }
        registry
    }

    fn input(&mut self, node: usize, input: Input) -> Vec<Output> {
        self.nodes[node].handle(self.now, input);
        let registry = &mut self.nodes[node];
        let outputs: Vec<Output> = std::iter::from_fn(|| registry.poll()).collect();
        for output in &outputs {
            if let Output::Gossip(entry) = output {
                self.gossip.push((self.now, entry.clone()));
                self.witness_end(entry);
            }
        }
        outputs
    }

    /// A NameGone ends the registration of its owner.
    fn witness_end(&mut self, entry: &NameEntry) {
        if entry.actor.is_none() {
            let at = (entry.owner, entry.session);
            for w in &mut self.witnesses {
                let same = (w.at.node, w.at.session) == at && w.name == entry.name;
                if same && self.nodes.iter().all(|n| !n.held().any(|(a, _)| a == w.at.actor)) {
                    w.ended.get_or_insert(self.now);
                }
            }
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Register { node, name: n } => {
                self.actors += 1;
                let at = Ref {
                    node: id(node),
                    session: Session(self.sessions[node]),
                    actor: ActorId(self.actors),
                };
                let outputs = self.input(
                    node,
                    Input::Register {
                        call: CallId(0),
                        name: name(n),
                        actor: at.actor,
                        ttl: None,
                        manual: false,
                    },
                );
                let ok = |o: &Output| matches!(o, Output::Registered { result: Ok(()), .. });
                if outputs.iter().any(ok) {
                    self.witnesses.push(Witness { at, name: name(n), ended: None });
                }
            }
            Step::Unregister { node, name: n } => {
                let (call, name) = (CallId(0), name(n));
                self.input(node, Input::Unregister { call, name });
            }
            Step::Wait { ms } => self.wait(ms),
            Step::Gossip { nth, to } => {
                if let Some((at, entry)) = self.gossip.get(nth % self.gossip.len().max(1)) {
                    let mut entry = entry.clone();
                    entry.age_ms += self.now.age_ms(*at);
                    self.input(to, Input::Entry { from: id(0), entry });
                }
            }
            Step::Sync { from, to, messages } => self.sync(from, to, messages),
            Step::Blink { at, node } if at != node => {
                let session = self.sessions[node];
                let dead = MemberEventKind::Dead(DeadCause::Timeout);
                self.input(at, event(node, session, dead));
                self.input(at, event(node, session, MemberEventKind::Join));
            }
            Step::Blink { .. } => {}
            Step::Restart { node } => self.restart(node),
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        for node in 0..NODES {
            self.input(node, Input::Tick);
        }
    }

    fn restart(&mut self, node: usize) {
        for w in self.witnesses.iter_mut().filter(|w| w.at.node == id(node)) {
            w.ended.get_or_insert(self.now);
        }
        self.sessions[node] += 1;
        let session = self.sessions[node];
        self.nodes[node] = self.fresh(node);
        for other in (0..NODES).filter(|other| *other != node) {
            let dead = MemberEventKind::Dead(DeadCause::Restarted);
            self.input(other, event(node, session - 1, dead));
            self.input(other, event(node, session, MemberEventKind::Join));
        }
    }

    fn sync(&mut self, from: usize, to: usize, messages: u8) {
        if from == to {
            return;
        }
        let now = self.now;
        let synced =
            |from, step, digests, entries| Input::Synced { from: id(from), step, digests, entries };
        let first = self.nodes[from].digests(now, id(to));
        self.input(to, synced(from, SyncStep::First, first.clone(), vec![]));
        let second = self.nodes[to].digests(now, id(from));
        let entries = self.nodes[to].delta(now, &first);
        if messages >= 2 {
            self.input(from, synced(to, SyncStep::Second, second.clone(), entries));
        }
        if messages >= 3 {
            let entries = self.nodes[from].delta(now, &second);
            self.input(to, synced(from, SyncStep::Third, vec![], entries));
        }
    }

    /// C148: nobody shows a registration a ttl or more after it ended.
    fn nothing_dead_is_shown(&self) -> Result<(), TestCaseError> {
        for w in &self.witnesses {
            let Some(ended) = w.ended else { continue };
            for node in &self.nodes {
                let shown = node.live(&w.name, self.now) == Some(w.at);
                prop_assert!(
                    !shown || self.now.since(ended) < TTL,
                    "{:?} of {:?} ended at {ended:?}",
                    w.name,
                    w.at
                );
            }
        }
        Ok(())
    }

    /// C149: all show the same holder, which holds it; and what is held is shown.
    fn all_agree(&self) -> Result<(), TestCaseError> {
        for n in 0..NAMES {
            let name = name(n);
            let shown: Vec<_> = self.nodes.iter().map(|r| r.live(&name, self.now)).collect();
            prop_assert!(shown.iter().all(|s| *s == shown[0]), "{name:?}: {shown:?}");
            let holders = self.nodes.iter().enumerate().flat_map(|(node, registry)| {
                let held = registry.held().filter(|(_, held)| **held == name);
                held.map(move |(actor, _)| (id(node), actor)).collect::<Vec<_>>()
            });
            let holders: Vec<_> = holders.collect();
            let shown: Vec<_> = shown[0].iter().map(|r| (r.node, r.actor)).collect();
            prop_assert_eq!(holders, shown);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// After lost gossip, cut syncs, false deaths and restarts, full syncs make all agree (C149);
    /// and never is a name shown a ttl after its end (C148).
    #[test]
    fn registries_agree_after_full_syncs(steps in prop::collection::vec(step(), 0..80)) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.run(step);
            cluster.nothing_dead_is_shown()?;
        }
        for _ in 0..4 {
            for from in 0..NODES {
                for to in 0..NODES {
                    cluster.sync(from, to, 3);
                    cluster.nothing_dead_is_shown()?;
                }
            }
            cluster.wait(10);
        }
        cluster.all_agree()?;
    }

    /// The events since the start give the snapshot, and their index has no gap (C79); tables stay
    /// within their caps whatever arrives (C70, C150).
    #[test]
    fn events_give_the_table_and_caps_hold(
        entries in prop::collection::vec(
            (
                0..12_u8, 0..5_usize, 0..3_u32, any::<Option<u8>>(), 0..3_u32, 1..9_u32,
                0..90_000_u32,
            ),
            0..120,
        ),
        events in prop::collection::vec((0..4_usize, 1..3_u32, any::<bool>()), 0..120),
    ) {
        let config = RegistryConfig {
            names_per_node_max: 3,
            names_max: 6,
            lookups_max: 4,
            ..RegistryConfig::standard()
        };
        let mut registry = Registry::new(id(0), Session(1), config, Choices::new(3));
        let mut now = Instant::START;
        let mut table: BTreeMap<Name, Ref> = BTreeMap::new();
        let mut next = 0;
        let entries = entries.into_iter().map(Some).chain(std::iter::repeat(None));
        let events = events.into_iter().map(Some).chain(std::iter::repeat(None));
        for (turn, (entry, event_of)) in entries.zip(events).take(120).enumerate() {
            let mut inputs = Vec::new();
            if let Some((n, owner, session, actor, version, serial, age_ms)) = entry {
                let name = name(n);
                inputs.push(Input::Entry { from: id(1), entry: NameEntry {
                    name: name.clone(),
                    owner: id(owner),
                    session: Session(session),
                    actor: actor.map(|a| ActorId(a.into())),
                    version,
                    serial,
                    ttl_ms: 5_000,
                    age_ms,
                }});
                let (call, actor) = (CallId(0), ActorId(u64::from(n % 3)));
                inputs.push(match turn % 4 {
                    0 => Input::Register { call, name, actor, ttl: None, manual: turn % 8 == 0 },
                    1 => Input::Unregister { call, name },
                    2 => Input::ActorEnded(actor),
                    _ => Input::Lookup { call, name },
                });
            }
            if let Some((node, session, up)) = event_of {
                let kind = if up { MemberEventKind::Join } else { MemberEventKind::Left };
                inputs.push(event(node, session, kind));
            }
            for input in inputs {
                registry.handle(now, input);
                while let Some(output) = registry.poll() {
                    let Output::Event(event) = output else { continue };
                    prop_assert_eq!(event.index, next);
                    next += 1;
                    match event.kind {
                        NameEventKind::Registered => {
                            prop_assert_eq!(table.insert(event.name, event.holder), None);
                        }
                        NameEventKind::Replaced => {
                            let before = table.insert(event.name, event.holder);
                            prop_assert!(before.is_some_and(|b| b != event.holder));
                        }
                        NameEventKind::Withdrawn => {
                            prop_assert_eq!(table.remove(&event.name), Some(event.holder));
                        }
                        NameEventKind::Lost => {
                            prop_assert_eq!(event.holder.node, id(0));
                        }
                    }
                }
                let (copies, lookups) = registry.sizes();
                prop_assert!(copies <= 12);
                prop_assert!(lookups <= 4);
                prop_assert!(registry.held().count() <= 3);
                let shown = table.iter().map(|(name, at)| (name.clone(), *at)).collect();
                prop_assert_eq!(registry.snapshot(""), (next, shown));
            }
            now = now + Duration::from_millis(700);
        }
    }
}
