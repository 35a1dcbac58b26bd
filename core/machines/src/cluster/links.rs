//! All links of a node: one authenticated stream and one datagram lane per peer (C20–C39).
//!
//! ```text
//!             want, not before the redial delay
//!   absent ───────────────────────────────────► D0 ─► D1 ─► D2 ──┐
//!     ▲  ▲                                      │     │     │    │ Welcome
//!     │  └── failed: Unreachable, back off ◄────┴─────┴─────┘    ▼
//!     │                                                          Up ◄─┐ rekey (C35)
//!     └───────────── closed: LinkDown{reason} (C39) ◄──────────── │ └─┘
//!                                                                 ▲
//!   Accepted ─ rates, caps ─► A0 ─► A1 ─ link rule (C25) ─────────┤
//!                                    └─► Parked ─ own dial failed ┘
//! ```
//!
//! Per peer there is at most one Up link, one unfinished dial and one parked dial of theirs
//! (C26). What a closed link had not decoded is thrown away.
//!
//! # Interpretations
//!
//! - A link is Silent when its *stream* is: datagrams that arrive do not keep a dead stream up.
//! - A dial of theirs that is parked wins after half a `step_timeout` if the own dial has not
//!   sent its Hello by then: it cannot have come up at the peer, and C25 wants the other one to
//!   succeed where one cannot.
//! - A Close that says PeerRestarted, MemberDead or MemberLeft tells what the *peer* thinks of
//!   us; here the link ends as Reset.
//! - A frame that was cut off by the end of its link is reported Written before LinkDown: it is
//!   never written again (C83).
//! - User frames are meant for one process of the peer, which their sender names; a link with
//!   another session drops them (C145).
//!
//! # Source
//!
//! Sections 3 and 4 of the cluster's specification. The link rule replaces timestamps by
//! ordinals, so that it needs no clock.

mod accept;
mod assembly;
mod dial;
mod fault;
mod gate;
pub mod io;
mod link;
mod outbox;
mod peer;
mod rekey;
mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::config::{LinksConfig, Reloadable};
use super::counters::{Counter, Counters, Labelled};
use super::handshake::{AwaitHello, AwaitOffer, AwaitPreface, AwaitWelcome, Greeted, Terms};
use super::identity::{Allowed, StaticKey};
use super::ids::{Addr, Conn, Instance, Life, NodeId, Session};
use super::remembered::Remembered;
use super::sealer::Suite;
use super::swim::io::{Lane, Seed};
use super::wire::{Class, CloseReason, Code, DatagramHeader, Features, Hello, Preface};
use crate::choices::{Answer, Choices};
use crate::time::Instant;
use gate::Gate;
use io::{Input, Output};
pub use link::{Epoch, Epochs, Link};
pub use peer::Peer;
use peer::{FORGOTTEN_MAX, PEERS_MAX, SEEDS_MAX};

/// The most addresses remembered to speak a lower version, and to be our own.
const HINTS_MAX: usize = 1_024;
/// The longest record with its length.
const RECORD: usize = 2 + super::sealer::RECORD_MAX;

/// What a node's links are made of.
#[derive(Clone, Debug)]
pub struct LinksParams {
    /// Limits and intervals.
    pub config: LinksConfig,
    /// The cluster's name.
    pub cluster: String,
    /// The schema hash of each version of `version_min … version_max`.
    pub schemas: BTreeMap<u16, [u8; 16]>,
    /// The own static key.
    pub key: StaticKey,
    /// The own process.
    pub instance: Instance,
    /// The own life.
    pub life: Life,
    /// Where this node listens.
    pub addr: Addr,
    /// Whom it links with.
    pub allowed: Arc<Allowed>,
    /// Decides at `link.backoff`.
    pub choices: Choices,
    /// How links are sealed; only simulators give anything but [`Suite::Noise`].
    pub suite: Suite,
}

/// All links of a node.
#[derive(Clone, Debug, Hash)]
pub struct Links {
    config: LinksConfig,
    terms: Terms,
    instance: Instance,
    life: Life,
    addr: Addr,
    allowed: Arc<Allowed>,
    choices: Choices,
    draining: bool,
    gate: Gate,
    /// What is known of each peer; public for checkers and saboteurs.
    pub peers: BTreeMap<NodeId, Peer>,
    /// The highest sessions of peers that made room for others, and their processes (C27, C60).
    forgotten: Remembered<(Session, Option<Instance>)>,
    conns: BTreeMap<Conn, Role>,
    /// Link index → connection.
    indexes: BTreeMap<u32, Conn>,
    /// The next own dial is named by this; even.
    dials: u64,
    up: u32,
    /// Addresses whose node refused the greatest version in clear (C22).
    hints: BTreeMap<Addr, u16>,
    /// Addresses that turned out to be our own (C23).
    own: BTreeSet<Addr>,
    timers: BTreeSet<(Instant, Timer)>,
    counters: Counters,
    outputs: VecDeque<Output>,
}

/// What goes off at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timer {
    Conn(Conn),
    Redial(NodeId),
}

/// What a connection is.
#[derive(Clone, Debug, Hash)]
enum Role {
    /// A handshake.
    Half(Box<Half>),
    /// The stream of an Up link.
    Up(NodeId),
}

/// A connection that is not Up.
#[derive(Clone, Debug, Hash)]
struct Half {
    stage: Stage,
    since: Instant,
    step: Instant,
    timer: Instant,
    inbox: Vec<u8>,
    unsent: u32,
}

/// Whom a dial is for.
#[derive(Clone, Copy, Debug, Hash)]
struct Target {
    peer: Option<NodeId>,
    addr: Addr,
    seed: Option<Seed>,
    version: u16,
}

/// The states of section 3.
#[derive(Clone, Debug, Hash)]
enum Stage {
    Connecting(Target),
    AwaitOffer(Target, AwaitOffer, u32),
    AwaitWelcome(Target, AwaitWelcome, u32),
    AwaitPreface(IpAddr, AwaitPreface, u32),
    AwaitHello(IpAddr, AwaitHello, u32),
    Parked(IpAddr, Box<Greeted>, u32),
    /// While a handler has the state; never seen outside of it.
    Taken,
}

impl Stage {
    const fn target(&self) -> Option<&Target> {
        match self {
            Self::Connecting(target)
            | Self::AwaitOffer(target, ..)
            | Self::AwaitWelcome(target, ..) => Some(target),
            Self::AwaitPreface(..) | Self::AwaitHello(..) | Self::Parked(..) | Self::Taken => None,
        }
    }
}

impl Links {
    /// Makes the links of a node: none yet.
    ///
    /// # Panics
    ///
    /// If the configuration does not pass its own check, or a version has no schema.
    #[must_use]
    pub fn new(params: LinksParams) -> Self {
        let LinksParams {
            config,
            cluster,
            schemas,
            key,
            instance,
            life,
            addr,
            allowed,
            choices,
            suite,
        } = params;
        assert_eq!(config.check(), Ok(()), "limits are checked at start (C108)");
        let versions = config.version_min..=config.version_max;
        assert!(
            versions.clone().all(|version| schemas.contains_key(&version)),
            "every version has a schema"
        );
        Self {
            terms: Terms {
                suite,
                node: key.node(),
                key,
                version_min: config.version_min,
                version_max: config.version_max,
                features: Features(config.features),
                required: Features(config.required),
                cluster_tag: Preface::cluster_tag_of(&cluster),
                schemas,
            },
            gate: Gate::new(&config),
            config,
            instance,
            life,
            addr,
            allowed,
            choices,
            draining: false,
            peers: BTreeMap::new(),
            forgotten: Remembered::default(),
            conns: BTreeMap::new(),
            indexes: BTreeMap::new(),
            dials: 0,
            up: 0,
            hints: BTreeMap::new(),
            own: BTreeSet::new(),
            timers: BTreeSet::new(),
            counters: Counters::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes the answers recorded so far, if its choices record them (T12).
    pub fn take_recorded(&mut self) -> Vec<Answer> {
        self.choices.take_recorded()
    }

    /// Lets time pass up to `now`, then applies `input`.
    ///
    /// Bytes of connections that were closed, and datagrams that do not open, change nothing.
    ///
    /// # Panics
    ///
    /// If outputs of the last call were not taken.
    pub fn handle(&mut self, now: Instant, input: Input) {
        assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        while let Some((at, timer)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Conn(conn) => self.conn_timer(now, conn),
                Timer::Redial(peer) => self.redial_timer(now, peer),
            }
        }
        self.apply(now, input);
    }

    /// Takes the next thing to do. Call until it returns `None` after every `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle` at the latest, with [`Input::Tick`] if nothing else.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.timers.first().map_or(Instant::FAR, |(at, _)| *at)
    }

    /// Returns this node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.terms.node
    }

    /// Returns the own public key.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.terms.key.public()
    }

    /// Returns the limits.
    #[must_use]
    pub const fn config(&self) -> &LinksConfig {
        &self.config
    }

    /// Returns what was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Lists the links that are Up, by peer.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.peers.values().filter_map(Peer::link)
    }

    /// Lists the streams of the links that are Up, in order, and whom each leads to.
    pub fn streams(&self) -> impl Iterator<Item = (Conn, NodeId)> {
        self.conns.iter().filter_map(|(conn, role)| match role {
            Role::Up(peer) => Some((*conn, *peer)),
            Role::Half(_) => None,
        })
    }

    /// Returns the link that `conn` carries, if it is Up.
    #[must_use]
    pub fn link_on(&self, conn: Conn) -> Option<&Link> {
        match self.conns.get(&conn)? {
            Role::Up(peer) => self.link(*peer),
            Role::Half(_) => None,
        }
    }

    /// Returns the link with `peer`, if it is Up.
    #[must_use]
    pub fn link(&self, peer: NodeId) -> Option<&Link> {
        self.peers.get(&peer)?.link()
    }

    /// Says whether `bytes` is a datagram that would open now: that a peer sealed, and that did
    /// not come before. Nothing changes; for checkers (C133).
    #[must_use]
    pub fn opens(&self, bytes: &[u8]) -> bool {
        let Ok((header, _)) = DatagramHeader::split(bytes) else {
            return false;
        };
        let role = self.indexes.get(&header.link_index).and_then(|conn| self.conns.get(conn));
        let Some(Role::Up(peer)) = role else {
            return false;
        };
        let epochs = self.link(*peer).into_iter().flat_map(|link| link.epochs.all());
        let mut named = epochs.filter(|epoch| epoch.local_index == header.link_index);
        named.any(|epoch| epoch.sealer.opens_datagram(header, bytes))
    }

    /// Returns how many links are Up.
    #[must_use]
    pub const fn up(&self) -> u32 {
        self.up
    }

    /// Returns with how many peers a link is up, comes up, or is wanted.
    #[must_use]
    pub fn peers_held(&self) -> usize {
        self.peers.values().filter(|peer| !peer.is_idle()).count()
    }

    /// Returns the sizes of all tables (C150).
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let (half_open, sources) = self.gate.sizes();
        Sizes {
            peers: self.peers.len(),
            forgotten: self.forgotten.len(),
            conns: self.conns.len(),
            indexes: self.indexes.len(),
            timers: self.timers.len(),
            half_open,
            sources,
            hints: self.hints.len() + self.own.len(),
        }
    }

    /// Takes up limits that may change while running (C108).
    pub fn reload(&mut self, limits: Reloadable) {
        self.config.reload(limits);
    }

    /// Counts the connections in each state (C120).
    #[must_use]
    pub fn states(&self) -> [(&'static str, u64); 4] {
        let (mut up, mut dialling, mut accepted, mut parked) = (0, 0, 0, 0);
        for role in self.conns.values() {
            match role {
                Role::Up(_) => up += 1,
                Role::Half(half) => match &half.stage {
                    Stage::Connecting(_) | Stage::AwaitOffer(..) | Stage::AwaitWelcome(..) => {
                        dialling += 1;
                    }
                    Stage::AwaitPreface(..) | Stage::AwaitHello(..) => accepted += 1,
                    Stage::Parked(..) => parked += 1,
                    Stage::Taken => {}
                },
            }
        }
        [("up", up), ("dialling", dialling), ("accepted", accepted), ("parked", parked)]
    }

    /// Returns how many user bytes wait, with a link or without.
    #[must_use]
    pub fn queue_bytes(&self) -> u64 {
        let of = |peer: &Peer| peer.queue_bytes() + peer.link().map_or(0, Link::queue_bytes);
        self.peers.values().map(|peer| of(peer) as u64).sum()
    }

    /// Lists the tables and queues, how large each is, and how large it may be by `limits`, which
    /// are those of the node (C150). Of queues that each peer has, the longest.
    #[must_use]
    pub fn within(&self, limits: &LinksConfig) -> [(&'static str, usize, usize); 10] {
        let sizes = self.sizes();
        let message = limits.message_bytes_max as usize;
        // What waited for a dial waits for the link next, and the other way round.
        let queued = limits.link_queue_bytes_max.max(limits.dial_queue_bytes_max) as usize;
        // Each peer may have a link, a dial of ours and one of theirs; a seed, a dial.
        let conns = 3 * sizes.peers + limits.half_open_max as usize + SEEDS_MAX;
        let (mut waiting, mut unsent, mut held) = (0, 0, 0);
        for peer in self.peers.values() {
            // One message alone may be longer than the queue (C38).
            if peer.queue.len() > 1 {
                waiting = waiting.max(peer.queue_bytes);
            }
            if let Some(link) = peer.link() {
                if link.outbox.items(Class::User) > 1 {
                    waiting = waiting.max(link.queue_bytes());
                }
                unsent = unsent.max(link.unsent as usize);
                held = held.max(link.held_bytes());
            }
        }
        [
            ("peers", sizes.peers, PEERS_MAX),
            ("sessions of forgotten peers", sizes.forgotten, FORGOTTEN_MAX),
            ("connections", sizes.conns, conns),
            ("link indexes", sizes.indexes, 4 * sizes.conns),
            ("timers of links", sizes.timers, sizes.conns + sizes.peers),
            ("sources of connections", sizes.sources, gate::SOURCES_MAX),
            ("hints about addresses", sizes.hints, 2 * HINTS_MAX),
            ("bytes that wait for one link", waiting, queued),
            ("unsent bytes of one link", unsent, (limits.unsent_bytes_max as usize).max(RECORD)),
            // One body a class may be unfinished (C14), and one record.
            ("unfinished bytes of one link", held, 3 * message + RECORD),
        ]
    }

    fn apply(&mut self, now: Instant, input: Input) {
        match input {
            Input::Tick => {}
            Input::Datagram(bytes) => self.datagram(now, bytes),
            Input::Connected { conn, entropy } => self.connected(now, conn, &entropy),
            Input::DialFailed { conn } | Input::Closed { conn } => self.ended(now, conn),
            Input::Accepted { conn, source, entropy } => self.accepted(now, conn, source, &entropy),
            Input::Bytes { conn, bytes } => self.bytes(now, conn, bytes),
            Input::Wrote { conn, count } => self.wrote(now, conn, count),
            Input::Drawn { conn, entropy } => self.drawn(now, conn, &entropy),
            Input::Want { peer, addr } => self.link_asked(now, peer, addr, Urgency::Delayed),
            Input::Dial { peer, addr } => self.link_asked(now, peer, addr, Urgency::Now),
            Input::DialSeed { seed } => self.seed_asked(now, seed),
            Input::Message { to, addr, lane: Lane::Datagram, message } => {
                self.send_datagram(now, to, addr, message)
            }
            Input::Message { to, lane: Lane::Stream, message, .. } => {
                self.send_message(now, to, message)
            }
            Input::Frame { to, addr, process, frame } => {
                self.send_frame(now, (to, addr, process), frame)
            }
            Input::Disconnect { peer, reason } => self.disconnect(now, peer, reason),
            Input::SessionKnown { peer, session } => self.session_known(now, peer, session),
            Input::SelfChanged { life, addr } => {
                self.life = life;
                self.addr = addr;
            }
            Input::Reconfigured => self.own.clear(),
            Input::Renewed(life) => self.renewed(now, life),
            Input::Allowed(allowed) => self.allowed_changed(now, allowed),
            Input::Drain => self.drain(now),
            Input::CloseAll(reason) => self.close_all(now, reason),
        }
    }

    fn bytes(&mut self, now: Instant, conn: Conn, bytes: Vec<u8>) {
        match self.conns.get(&conn) {
            Some(Role::Up(peer)) => {
                let peer = *peer;
                self.stream_bytes(now, peer, bytes);
            }
            Some(Role::Half(_)) => self.half_bytes(now, conn, bytes),
            // Closed: it has lost all authority (C26).
            None => {}
        }
    }

    fn ended(&mut self, now: Instant, conn: Conn) {
        match self.conns.get(&conn) {
            Some(Role::Up(peer)) => {
                let peer = *peer;
                self.close_link(now, peer, CloseReason::Reset, Farewell::Gone);
            }
            Some(Role::Half(_)) => self.half_ended(now, conn, None, Farewell::Gone),
            None => {}
        }
    }

    fn conn_timer(&mut self, now: Instant, conn: Conn) {
        match self.conns.get(&conn) {
            Some(Role::Up(peer)) => {
                let peer = *peer;
                self.link_timer(now, peer);
            }
            Some(Role::Half(_)) => self.half_timer(now, conn),
            None => {}
        }
    }

    /// Returns the record of `node`, made if need be; the table stays within its cap.
    fn peer(&mut self, now: Instant, node: NodeId) -> &mut Peer {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&node) {
            let idle = self.peers.iter().filter(|(_, peer)| peer.is_idle());
            let oldest = idle.min_by_key(|(_, peer)| peer.touched);
            if let Some(node) = oldest.map(|(node, _)| *node) {
                self.forget(node);
            }
        }
        let peer = self.peers.entry(node).or_insert_with(|| {
            let (session, instance) = self.forgotten.take(node).unwrap_or_default();
            Peer { session, instance, ..Peer::new(now) }
        });
        peer.touched = now;
        peer
    }

    /// Forgets all of a peer but what its next Hello must not fall behind (C27).
    fn forget(&mut self, node: NodeId) {
        let Some(peer) = self.peers.remove(&node) else {
            return;
        };
        self.timers.remove(&(peer.redial, Timer::Redial(node)));
        if peer.session > Session(0) {
            let kept = (peer.session, peer.instance);
            self.forgotten.keep(node, kept, FORGOTTEN_MAX);
        }
    }

    /// Returns the highest session known of `node`, and its process if one proved it (C27).
    fn highest(&self, node: NodeId) -> Option<(Session, Option<Instance>)> {
        match self.peers.get(&node) {
            Some(peer) => Some((peer.session, peer.instance)),
            None => self.forgotten.get(node),
        }
    }

    /// Makes what this node says of itself to `peer`.
    fn own_hello(&self, peer: NodeId, instance: Option<Instance>, link_index: u32) -> Hello {
        let known = self.peers.get(&peer);
        Hello {
            life: self.life,
            instance: self.instance,
            seen: known.map_or(0, |peer| peer.seen_from(instance)),
            ordinal: known.map_or(0, |peer| peer.ordinal),
            link_index,
            addr: self.addr,
            version_max: self.config.version_max,
        }
    }

    /// Returns an index that no link uses, `wish` if possible.
    fn free_index(&self, wish: u32) -> u32 {
        let mut index = wish;
        while index == 0 || self.indexes.contains_key(&index) {
            index = index.wrapping_add(1);
        }
        index
    }

    /// Counts and marks the end of a handshake (C111, C122).
    fn count_code(&mut self, code: Code) {
        mark(code);
        match Counter::of_code(code) {
            Some(counter) => self.counters.count(counter),
            None => self.counters.count_labelled(Labelled::HsReject, code as u8),
        }
    }
}

/// The sizes of the tables of [`Links`] (C150).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Peers remembered.
    pub peers: usize,
    /// Peers of whom only the session is remembered.
    pub forgotten: usize,
    /// Connections, Up or not.
    pub conns: usize,
    /// Link indexes in use.
    pub indexes: usize,
    /// Timers set.
    pub timers: usize,
    /// Accepted connections that are not Up.
    pub half_open: usize,
    /// Sources whose rate is remembered.
    pub sources: usize,
    /// Addresses remembered for their version, or as our own.
    pub hints: usize,
}

/// When a link that is asked for may be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// Once the redial delay is over (C32).
    Delayed,
    /// At once: who asks has a clock of its own (C55, C59).
    Now,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Farewell {
    /// The driver said that it is gone.
    Gone,
    /// This end closes it without a word.
    Silent,
    /// This end says why, then closes it.
    Told,
}

fn mark(code: Code) {
    crate::sometimes!("hs.bad_magic", code == Code::BadMagic);
    crate::sometimes!("hs.version_mismatch", code == Code::VersionMismatch);
    crate::sometimes!("hs.schema_mismatch", code == Code::SchemaMismatch);
    crate::sometimes!("hs.feature_missing", code == Code::FeatureMissing);
    crate::sometimes!("hs.wrong_cluster", code == Code::WrongCluster);
    crate::sometimes!("hs.busy", code == Code::Busy);
    crate::sometimes!("hs.not_allowed", code == Code::NotAllowed);
    crate::sometimes!("hs.self_connect", code == Code::SelfConnect);
    crate::sometimes!("hs.wrong_peer", code == Code::WrongPeer);
    crate::sometimes!("hs.stale_session", code == Code::StaleSession);
    crate::sometimes!("hs.duplicate_link", code == Code::DuplicateLink);
    crate::sometimes!("hs.bad_crypto", code == Code::BadCrypto);
    crate::sometimes!("hs.malformed", code == Code::Malformed);
    crate::sometimes!("hs.timeout", code == Code::Timeout);
    crate::sometimes!("hs.downgraded", code == Code::Downgraded);
    crate::sometimes!("hs.draining", code == Code::Draining);
    crate::sometimes!("hs.revoked", code == Code::Revoked);
}

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;
