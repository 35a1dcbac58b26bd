//! Goal: over a perfect network, a cluster of registries is one table that everyone sees.
//! Method: the same random commands to three registries, whose gossip arrives at once and which
//! sync often, and to the sequential reference; the answers and the tables are compared.

use std::time::Duration;

use machines::cluster::config::RegistryConfig;
use machines::cluster::ids::{ActorId, CallId, Incarnation, Life, NodeId, Ref, Session};
use machines::cluster::registry::Registry;
use machines::cluster::registry::io::{Input, Output, RegisterError};
use machines::cluster::swim::io::{DeadCause, MemberEvent, MemberEventKind, SyncStep};
use machines::cluster::wire::{Meta, Name};
use machines::{Choices, Instant};
use models::reference::registry::Registry as Reference;
use proptest::prelude::*;

const NODES: usize = 3;
const NAMES: u8 = 4;
const NAMES_PER_NODE_MAX: u32 = 2;

#[derive(Clone, Debug)]
enum Command {
    Register { node: usize, name: u8, actor: u64, ttl_ms: u64, manual: bool },
    Renew { node: usize, name: u8 },
    Unregister { node: usize, name: u8 },
    ActorEnded { node: usize, actor: u64 },
    Wait { ms: u64 },
    Leave { node: usize },
    Restart { node: usize },
}

fn command() -> impl Strategy<Value = Command> {
    let (node, name, actor) = (0..NODES, 0..NAMES, 1..4_u64);
    let register = (node.clone(), name.clone(), actor.clone(), 900..3_000_u64, any::<bool>());
    prop_oneof![
        8 => register.prop_map(|(node, name, actor, ttl_ms, manual)| Command::Register {
            node,
            name,
            actor,
            ttl_ms,
            manual,
        }),
        3 => (node.clone(), name.clone()).prop_map(|(node, name)| Command::Renew { node, name }),
        3 => (node.clone(), name).prop_map(|(node, name)| Command::Unregister { node, name }),
        2 => (node.clone(), actor).prop_map(|(node, actor)| Command::ActorEnded { node, actor }),
        4 => (0..450_u64).prop_map(|ms| Command::Wait { ms }),
        1 => node.clone().prop_map(|node| Command::Leave { node }),
        1 => node.prop_map(|node| Command::Restart { node }),
    ]
}

fn id(node: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(node).expect("few nodes") + 1; 16])
}

fn text(name: u8) -> String {
    format!("service/{name}")
}

/// Registries that hear each other at once.
struct Cluster {
    now: Instant,
    nodes: Vec<Registry>,
    sessions: Vec<u32>,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster =
            Self { now: Instant::from_millis(5), nodes: Vec::new(), sessions: vec![1; NODES] };
        for node in 0..NODES {
            let registry = cluster.fresh(node);
            cluster.nodes.push(registry);
        }
        cluster
    }

    fn fresh(&self, node: usize) -> Registry {
        let config =
            RegistryConfig { names_per_node_max: NAMES_PER_NODE_MAX, ..RegistryConfig::standard() };
        let session = Session(self.sessions[node]);
        let mut registry = Registry::new(id(node), session, config, Choices::new(1));
        for other in 0..NODES {
            registry.handle(self.now, self.event(other, MemberEventKind::Join));
        }
        registry
    }

    fn event(&self, node: usize, kind: MemberEventKind) -> Input {
        Input::Member(MemberEvent {
            index: 0,
            node: id(node),
            life: Life { session: Session(self.sessions[node]), incarnation: Incarnation(0) },
            addr: None,
            meta: Meta::EMPTY,
            kind,
        })
    }

    /// Gives an input and lets what it says be heard; returns the answer to a call.
    fn input(&mut self, node: usize, input: Input) -> Option<Result<(), RegisterError>> {
        self.nodes[node].handle(self.now, input);
        let mut answer = None;
        let mut said = Vec::new();
        while let Some(output) = self.nodes[node].poll() {
            match output {
                Output::Gossip(entry) => said.push(entry),
                Output::Registered { result, .. } => answer = Some(result),
                Output::Query { .. }
                | Output::QueryReply { .. }
                | Output::Found { .. }
                | Output::Event(_) => {}
            }
        }
        for entry in said {
            for to in (0..NODES).filter(|to| *to != node) {
                let (from, entry) = (id(node), entry.clone());
                self.input(to, Input::Entry { from, entry });
            }
        }
        answer
    }

    fn sync(&mut self, from: usize, to: usize) {
        let now = self.now;
        let synced =
            |from, step, digests, entries| Input::Synced { from: id(from), step, digests, entries };
        let first = self.nodes[from].digests(now, id(to));
        self.input(to, synced(from, SyncStep::First, first.clone(), vec![]));
        let second = self.nodes[to].digests(now, id(from));
        let entries = self.nodes[to].delta(now, &first);
        self.input(from, synced(to, SyncStep::Second, second.clone(), entries));
        let entries = self.nodes[from].delta(now, &second);
        self.input(to, synced(from, SyncStep::Third, vec![], entries));
    }

    fn wait(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        for node in 0..NODES {
            self.input(node, Input::Tick);
        }
        for from in 0..NODES {
            for to in (0..NODES).filter(|to| *to != from) {
                self.sync(from, to);
            }
        }
    }

    fn restart(&mut self, node: usize) {
        for other in (0..NODES).filter(|other| *other != node) {
            let dead = MemberEventKind::Dead(DeadCause::Restarted);
            let dead = self.event(node, dead);
            self.input(other, dead);
        }
        self.sessions[node] += 1;
        self.nodes[node] = self.fresh(node);
        for other in (0..NODES).filter(|other| *other != node) {
            let joined = self.event(node, MemberEventKind::Join);
            self.input(other, joined);
            self.sync(node, other);
        }
    }
}

/// Gives one command to both and compares the answers.
fn both(cluster: &mut Cluster, reference: &mut Reference, command: Command) {
    let call = CallId(0);
    let name = |name| Name::new(&text(name)).expect("a legal name");
    match command {
        Command::Register { node, name: n, actor, ttl_ms, manual } => {
            let ttl = Duration::from_millis(ttl_ms);
            let at = Ref {
                node: id(node),
                session: Session(cluster.sessions[node]),
                actor: ActorId(actor),
            };
            let answer = cluster.input(
                node,
                Input::Register { call, name: name(n), actor: at.actor, ttl: Some(ttl), manual },
            );
            assert_eq!(answer, Some(reference.register(&text(n), at, ttl, manual)));
        }
        Command::Renew { node, name: n } => {
            let name = name(n);
            let answer = cluster.input(node, Input::Renew { call, name });
            assert_eq!(answer, Some(reference.renew(&text(n), id(node))));
        }
        Command::Unregister { node, name: n } => {
            let name = name(n);
            let answer = cluster.input(node, Input::Unregister { call, name });
            assert_eq!(answer, Some(reference.unregister(&text(n), id(node))));
        }
        Command::ActorEnded { node, actor } => {
            cluster.input(node, Input::ActorEnded(ActorId(actor)));
            reference.actor_ended(id(node), ActorId(actor));
        }
        Command::Wait { ms } => {
            cluster.wait(ms);
            reference.wait(Duration::from_millis(ms));
        }
        Command::Leave { node } => {
            cluster.input(node, Input::Leave);
            reference.leave(id(node));
        }
        Command::Restart { node } => {
            cluster.restart(node);
            reference.restart(id(node));
        }
    }
}

proptest! {
    /// Every command is answered as by one table, and every node shows that table.
    #[test]
    fn registries_over_a_perfect_network_are_one_table(
        commands in prop::collection::vec(command(), 0..80),
    ) {
        let mut cluster = Cluster::new();
        let mut reference = Reference::new(NAMES_PER_NODE_MAX as usize);
        for command in commands {
            both(&mut cluster, &mut reference, command);
            for n in 0..NAMES {
                let expected = reference.lookup(&text(n));
                let name = Name::new(&text(n)).expect("a legal name");
                for registry in &cluster.nodes {
                    prop_assert_eq!(registry.holder(&name), expected, "{}", text(n));
                    prop_assert_eq!(registry.live(&name, cluster.now), expected);
                }
            }
        }
    }
}
