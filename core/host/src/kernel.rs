//! The machine that production runs, and what its status is made of.

use std::collections::VecDeque;
use std::sync::Arc;

use machines::cluster::config::ClusterConfig;
use machines::cluster::identity::{Allowed, StaticKey};
use machines::cluster::ids::{Addr, Instance, Session};
use machines::cluster::swim::io::Seed;
use machines::cluster::wire::Meta;
use machines::node::io::{Call, Input, Output, Reply};
use machines::{Choices, Instant};
use machines::cluster::swim::Snapshot;
use runtime::{Machine, Names};

use crate::log::Diary;
use crate::node::Facts;
use crate::status::{RefusalStatus, Status};

/// What a node's machine is made of.
pub(crate) struct Params<'a> {
    pub(crate) config: ClusterConfig,
    pub(crate) key: &'a StaticKey,
    pub(crate) session: Session,
    pub(crate) instance: Instance,
    pub(crate) addr: Addr,
    pub(crate) meta: Meta,
    pub(crate) allowed: Arc<Allowed>,
    pub(crate) seeds: Vec<Seed>,
    pub(crate) choices: Choices,
}

/// Stands in until the composed machine is there: alone, and able to leave.
pub struct Kernel {
    session: Session,
    outputs: VecDeque<Output>,
}

pub(crate) fn new(_: Instant, params: Params<'_>) -> Kernel {
    Kernel {
        session: params.session,
        outputs: VecDeque::new(),
    }
}

impl Machine for Kernel {
    fn handle(&mut self, _: Instant, input: Input) {
        if let Input::Call {
            call,
            request: Call::Leave,
        } = input
        {
            let reply = Reply::Left;
            self.outputs.push_back(Output::Reply { call, reply });
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Instant {
        Instant::FAR
    }

    fn members(&self) -> Snapshot {
        Snapshot {
            index: 0,
            members: Vec::new(),
        }
    }

    fn names(&self, _: Instant, _: &str) -> Names {
        Names {
            next: 0,
            rows: Vec::new(),
        }
    }
}

pub(crate) fn report(now: Instant, node: &Kernel, facts: &Facts) -> Status {
    Status {
        id: machines::cluster::ids::NodeId::of_key(&facts.public_key).to_string(),
        public_key: hex(&facts.public_key),
        addr: facts.addr.tcp().to_string(),
        cluster: facts.cluster.clone(),
        session: node.session.0,
        instance: format!("{:016x}", facts.instance.0),
        version: facts.version,
        features: facts.features,
        allow: facts.allow.clone(),
        allow_error: None,
        uptime_ms: now.as_nanos() / 1_000_000,
        joined: false,
        health: 0,
        members: Vec::new(),
        links: Vec::new(),
        names: Vec::new(),
        rejects: Vec::new(),
        counters: std::collections::BTreeMap::new(),
    }
}

/// Adds what the listener heard.
pub(crate) fn add_diary(status: &mut Status, now: Instant, diary: &Diary) {
    status.joined = diary.joined;
    status.rejects = diary
        .refusals
        .iter()
        .rev()
        .map(|refusal| RefusalStatus {
            ago_ms: now.nanos_since(refusal.at) / 1_000_000,
            source: refusal.source.to_string(),
            node: refusal.peer.map(|peer| peer.to_string()),
            code: format!("{:?}", refusal.code),
            inbound: refusal.inbound,
        })
        .collect();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
