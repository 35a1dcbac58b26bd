//! What an operator sees of a node (C121).

use std::net::IpAddr;

use super::Node;
use crate::cluster::counters::Counters;
use crate::cluster::identity::Allowed;
use crate::cluster::ids::{Addr, Instance, Life, NodeId, Ref, Session};
use crate::cluster::wire::{CloseReason, Code, Meta, Name, State};
use crate::time::Instant;

/// A node at one moment. Ages are in milliseconds.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who it is.
    pub node: NodeId,
    /// Its public key.
    pub public_key: [u8; 32],
    /// Its session.
    pub session: Session,
    /// Its incarnation and session as members know it.
    pub life: Life,
    /// Its process.
    pub instance: Instance,
    /// The cluster's name.
    pub cluster: String,
    /// Where it listens.
    pub addr: Addr,
    /// The greatest wire version spoken.
    pub version: u16,
    /// Features offered.
    pub features: u32,
    /// How many keys are allowed, or `None` if the cluster is open.
    pub allowed: Option<u32>,
    /// Whether it has joined.
    pub joined: bool,
    /// Its health score; 0 is well (C49).
    pub health: u32,
    /// Since when it runs.
    pub age_ms: u32,
    /// All members, itself included, by id.
    pub members: Vec<MemberStatus>,
    /// All links, by peer.
    pub links: Vec<LinkStatus>,
    /// The names that this node finds, by name.
    pub names: Vec<NameStatus>,
    /// The last refused handshakes, newest last.
    pub rejects: Vec<(u32, RejectStatus)>,
    /// Everything that was counted.
    pub counters: Counters,
    /// The gauges of C120: name, label or nothing, and how many.
    pub gauges: Vec<(&'static str, &'static str, u64)>,
}

/// One member (C121).
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// Who.
    pub node: NodeId,
    /// Its life.
    pub life: Life,
    /// Its state.
    pub state: State,
    /// For how long.
    pub age_ms: u32,
    /// Where it listens, if known.
    pub addr: Option<Addr>,
    /// Its own words.
    pub meta: Meta,
    /// Whether a link with it is up.
    pub linked: bool,
    /// How long it took to answer the last Ping, in nanoseconds.
    pub rtt_ns: Option<u64>,
}

/// One link (C121).
#[derive(Clone, Debug)]
pub struct LinkStatus {
    /// With whom.
    pub peer: NodeId,
    /// Whether it is up; the next four say nothing if it is not.
    pub up: bool,
    /// Whether this node dialled.
    pub dialled: bool,
    /// For how long it has been up.
    pub age_ms: u32,
    /// How often its keys were renewed.
    pub epoch: u32,
    /// User bytes that wait.
    pub queue_bytes: u32,
    /// Why the last link with this peer closed.
    pub last_close: Option<CloseReason>,
}

/// One name (C121).
#[derive(Clone, Debug)]
pub struct NameStatus {
    /// The name.
    pub name: Name,
    /// Who holds it.
    pub holder: Ref,
}

/// A refused handshake (C121).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RejectStatus {
    /// Where it came from, or was dialled to.
    pub source: IpAddr,
    /// Who, if that was known by then.
    pub peer: Option<NodeId>,
    /// Why.
    pub code: Code,
    /// Whether they dialled.
    pub inbound: bool,
}

impl Node {
    /// Describes the node at `now`.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let allowed = match &*self.allowed {
            Allowed::Any => None,
            Allowed::Only(keys) => Some(u32::try_from(keys.len()).unwrap_or(u32::MAX)),
        };
        let rejects = self.rejects.iter().map(|(at, reject)| (now.age_ms(*at), *reject)).collect();
        let (_, holders) = self.registry.snapshot("");
        let names = holders.into_iter().map(|(name, holder)| NameStatus { name, holder }).collect();
        Status {
            node: self.id(),
            public_key: self.links.public_key(),
            session: self.session(),
            life: self.swim.life(),
            instance: self.instance(),
            cluster: self.config.cluster.clone(),
            addr: self.addr,
            version: self.config.links.version_max,
            features: self.config.links.features,
            allowed,
            joined: self.swim.is_joined(),
            health: self.swim.health(),
            age_ms: now.age_ms(self.started),
            members: self.member_statuses(now),
            links: self.link_statuses(now),
            names,
            rejects,
            counters: self.counters(),
            gauges: self.gauges(),
        }
    }

    fn gauges(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut gauges = Vec::new();
        for state in State::ALL {
            let label = match state {
                State::Alive => "alive",
                State::Suspect => "suspect",
                State::Dead => "dead",
                State::Left => "left",
            };
            let members = self.swim.members().filter(|member| member.state == state);
            gauges.push(("members", label, members.count() as u64));
        }
        let links = self.links.states().map(|(label, count)| ("links", label, count));
        let names = self.registry.states().map(|(label, count)| ("names", label, count));
        gauges.extend(links.into_iter().chain(names));
        gauges.push(("health_score", "", u64::from(self.swim.health())));
        gauges.push(("gossip_queue", "", u64::from(self.swim.gossip_queue())));
        gauges.push(("queue_bytes", "", self.links.queue_bytes()));
        gauges
    }

    fn member_statuses(&self, now: Instant) -> Vec<MemberStatus> {
        let of = |member: crate::cluster::swim::Member| MemberStatus {
            node: member.node,
            life: member.life,
            state: member.state,
            age_ms: now.age_ms(member.since),
            addr: member.addr,
            meta: member.meta,
            linked: self.links.link(member.node).is_some(),
            rtt_ns: self.swim.round_trip(member.node),
        };
        self.swim.members().map(of).collect()
    }

    fn link_statuses(&self, now: Instant) -> Vec<LinkStatus> {
        let of = |(peer, record): (&NodeId, &crate::cluster::links::Peer)| {
            let link = record.link();
            let queue = link.map_or(0, crate::cluster::links::Link::queue_bytes);
            LinkStatus {
                peer: *peer,
                up: link.is_some(),
                dialled: link.is_some_and(crate::cluster::links::Link::dialled),
                age_ms: link.map_or(0, |link| now.age_ms(link.since())),
                epoch: link.map_or(0, crate::cluster::links::Link::epoch),
                queue_bytes: u32::try_from(queue).unwrap_or(u32::MAX),
                last_close: record.closed(),
            }
        };
        self.links.peers.iter().map(of).collect()
    }
}
