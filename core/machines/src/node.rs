//! The machine of one node: what production and every simulator drive.
//!
//! ```text
//!                 ┌──────────── Node ─────────────────────────────────────────┐
//!   Input ──────► │ Links ◄──► Swim ◄──► Registry        Router ◄──► endpoints │ ──► Output
//!                 │   ▲                                    ▲                  │
//!                 │   └────────────── frames ──────────────┘                  │
//!                 └───────────────────────────────────────────────────────────┘
//! ```
//!
//! The parts never call each other. What one gives becomes a task for another, and tasks are
//! carried out first in, first out, until none is left; so one input's consequences inside the
//! node are complete, and in one order, before the next input.
//!
//! The node has no state of its own but endpoints and a session that is being burnt:
//!
//! ```text
//!   in a session ──SessionBehind──► storing ──SessionStored──► in the new session (C27)
//!   Running ──Leave──► Leaving ──Departed──► Left (C56)
//! ```
//!
//! # Source
//!
//! C1: this composes the machines of the cluster. The kernel and its ledger are composed by
//! [`Keeper`](crate::keeper::Keeper), which has nothing to tell a cluster yet.

pub mod io;
mod status;
mod wiring;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::choices::{Answer, Choices};
use crate::cluster::config::ClusterConfig;
use crate::cluster::counters::{Counter, Counters};
use crate::cluster::identity::{Allowed, Identity, StaticKey, session_slot};
use crate::cluster::ids::{
    ActorId, Addr, CallId, Incarnation, Instance, Life, NodeId, Ref, Session,
};
use crate::cluster::links::{Links, LinksParams};
use crate::cluster::registry::Registry;
use crate::cluster::router::{PEERS_MAX, Router};
use crate::cluster::sealer::Suite;
use crate::cluster::swim::io::Seed;
use crate::cluster::swim::{Swim, SwimParams};
use crate::cluster::wire::Meta;
use crate::time::Instant;
use io::{Event, Input, Output, StopReason};
pub use status::{LinkStatus, MemberStatus, NameStatus, RejectStatus, Status};
use wiring::Task;

/// Inputs that may be taken while a timer is due, before the timer runs (C53).
const INPUTS_BEFORE_TIMERS_MAX: u32 = 1_024;
/// Timers that one call may run before a part must be at fault.
const TIMER_ROUNDS_MAX: u32 = 1_000_000;
/// Refusals kept for the status (C121).
const REJECTS_MAX: usize = 20;

/// What a node is made of.
#[derive(Clone, Debug)]
pub struct NodeParams {
    /// Every limit and interval. Must have passed [`ClusterConfig::check`].
    pub config: ClusterConfig,
    /// The schema hash of each version that this build speaks
    /// ([`schema::hashes`](crate::cluster::wire::schema::hashes)). Only a simulator, which mixes
    /// builds, has a use for others.
    pub schemas: BTreeMap<u16, [u8; 16]>,
    /// The static key; the node's id is derived from it.
    pub key: StaticKey,
    /// The session of this start, already durable (C7).
    pub session: Session,
    /// Drawn at this start (C9).
    pub instance: Instance,
    /// Where this node listens.
    pub addr: Addr,
    /// The node's words about itself.
    pub meta: Meta,
    /// Whom it trusts.
    pub allowed: Arc<Allowed>,
    /// Whom it joins.
    pub seeds: Vec<Seed>,
    /// Its decisions.
    pub choices: Choices,
    /// How it seals. Only a simulator has a use for another than [`Suite::Noise`].
    pub suite: Suite,
}

/// The parts of a node, to look at or, in a simulation that breaks a promise on purpose, to
/// change (T32). Production has no use for it.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Links and handshakes.
    pub links: &'a mut Links,
    /// Membership.
    pub swim: &'a mut Swim,
    /// Names.
    pub registry: &'a mut Registry,
    /// Messages to actors.
    pub router: &'a mut Router,
}

/// One node: membership, links, names and routing, composed.
#[derive(Clone, Debug, Hash)]
pub struct Node {
    config: ClusterConfig,
    identity: Identity,
    allowed: Arc<Allowed>,
    addr: Addr,
    links: Links,
    swim: Swim,
    registry: Registry,
    router: Router,
    /// The last endpoint opened in this session (C10).
    last_actor: u64,
    phase: Phase,
    /// The session that the parts are in; the identity's is newer while one is stored (C27).
    session: Session,
    /// Inputs taken since a timer fell due.
    inputs_since_due: u32,
    tasks: VecDeque<Task>,
    sync_digests: wiring::SyncDigests,
    rejects: VecDeque<(Instant, RejectStatus)>,
    outputs: VecDeque<Output>,
    started: Instant,
    /// The longest ttl that the cluster's size asked for, of those longer than the configured one.
    ttl_asked: Duration,
    /// What the node itself counts.
    counters: Counters,
}

/// How far a node has gone in leaving (C56).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Running,
    /// Whoever asked is told when it is done.
    Leaving(Vec<CallId>),
    Left,
}

impl Node {
    /// Starts a node. It dials its seeds at the first [`Input::Tick`].
    ///
    /// # Panics
    ///
    /// If `params.config` does not pass its check.
    #[must_use]
    pub fn new(now: Instant, params: NodeParams) -> Self {
        let NodeParams {
            config,
            schemas,
            key,
            session,
            instance,
            addr,
            meta,
            allowed,
            seeds,
            choices,
            suite,
        } = params;
        assert_eq!(config.check(), Ok(()), "the configuration was checked before");
        let node = key.node();
        let links = Links::new(LinksParams {
            config: config.links.clone(),
            cluster: config.cluster.clone(),
            schemas,
            key,
            instance,
            life: Life { session, incarnation: Incarnation::default() },
            addr,
            allowed: Arc::clone(&allowed),
            choices: choices.clone(),
            suite,
        });
        let swim = Swim::new(
            now,
            SwimParams {
                config: config.swim.clone(),
                node,
                session,
                addr,
                meta,
                allowed: Arc::clone(&allowed),
                seeds,
                choices: choices.clone(),
            },
        );
        let registry = Registry::new(node, session, config.registry.clone(), choices);
        let router = Router::new(node, session, config.router.clone(), &config.links);
        let identity = Identity::new(node, session, instance);
        let mut this = Self {
            config,
            identity,
            allowed,
            addr,
            links,
            swim,
            registry,
            router,
            last_actor: 0,
            phase: Phase::Running,
            session,
            inputs_since_due: 0,
            tasks: VecDeque::new(),
            sync_digests: wiring::SyncDigests::default(),
            rejects: VecDeque::new(),
            outputs: VecDeque::new(),
            started: now,
            ttl_asked: Duration::ZERO,
            counters: Counters::new(),
        };
        let allowed = Arc::clone(&this.allowed);
        this.tell_allowed(&allowed);
        this.take_outputs(now);
        this.settle(now);
        this
    }

    /// Says, before the first input, that seeds are configured though none of them has an address
    /// yet: the node is Joining until it is told their addresses, or that there are none (C55).
    #[must_use]
    pub fn expecting_seeds(self) -> Self {
        Self { swim: self.swim.expecting_seeds(), ..self }
    }

    /// Applies `input`, and lets every passed deadline act.
    ///
    /// A driver hands in all that is readable before [`Input::Tick`] (C53): inputs that were
    /// waiting count before timers that fell due meanwhile. So that a busy network cannot
    /// postpone a deadline for ever, timers run by themselves after
    /// 1,024 such inputs.
    ///
    /// # Panics
    ///
    /// If outputs of the last call are still there: drain [`Node::poll`] first.
    pub fn handle(&mut self, now: Instant, input: Input) {
        assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        let tick = matches!(input, Input::Tick);
        self.accept(input);
        self.settle(now);
        let due = self.deadline() <= now;
        self.inputs_since_due = if due { self.inputs_since_due + 1 } else { 0 };
        if tick || self.inputs_since_due > INPUTS_BEFORE_TIMERS_MAX {
            self.inputs_since_due = 0;
            self.expire(now);
        }
    }

    /// Takes the next thing to do. Call until it returns `None` after every `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Takes the answers that its machines recorded so far, if its choices record them (T12).
    pub fn take_recorded(&mut self) -> Vec<Answer> {
        let mut answers = self.links.take_recorded();
        answers.extend(self.swim.take_recorded());
        answers.extend(self.registry.take_recorded());
        answers
    }

    /// When to call `handle` at the latest, with [`Input::Tick`] if nothing else.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let cluster = self.links.deadline().min(self.swim.deadline());
        cluster.min(self.registry.deadline()).min(self.router.deadline())
    }

    /// Returns who this node is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.identity.node()
    }

    /// Returns the current session.
    #[must_use]
    pub fn session(&self) -> Session {
        self.session
    }

    /// Returns the process's instance number.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.identity.instance()
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// Returns whom this node trusts.
    #[must_use]
    pub fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Returns the links.
    #[must_use]
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Returns membership.
    #[must_use]
    pub fn swim(&self) -> &Swim {
        &self.swim
    }

    /// Returns the names.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns the router.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Says whether the node has left the cluster.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.phase == Phase::Left
    }

    /// Returns the parts, to be changed by a simulation that breaks a promise on purpose.
    pub fn parts_mut(&mut self) -> Parts<'_> {
        Parts {
            links: &mut self.links,
            swim: &mut self.swim,
            registry: &mut self.registry,
            router: &mut self.router,
        }
    }

    /// Returns the sum of all parts' counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.links.counters().clone();
        counters.merge(&self.counters);
        counters.merge(self.swim.counters());
        counters.merge(self.registry.counters());
        counters.merge(self.router.counters());
        counters
    }

    /// Lists what could grow, how large it is, and how large it may be (C150).
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, usize, usize)> {
        let links = self.links.sizes();
        let limits = &self.config;
        let half_open = limits.links.half_open_max as usize;
        let up = limits.links.links_max as usize;
        let (names, lookups) = self.registry.sizes();
        let unconfirmed = self.router.most_unconfirmed();
        let unconfirmed_max = limits.router.unconfirmed_max as usize;
        let mut sizes = vec![
            ("half-open handshakes", links.half_open, half_open),
            ("links", self.links.up() as usize, up),
            ("members and queues of membership", usize::from(!self.swim.is_bounded()), 0),
            // Names that ended have as much room again (C70).
            ("names", names as usize, 2 * limits.registry.names_max as usize),
            ("look-ups", lookups as usize, limits.registry.lookups_max as usize),
            ("asks", self.router.asks_open(), limits.router.asks_max as usize),
            ("refused handshakes kept", self.rejects.len(), REJECTS_MAX),
            ("tasks between inputs", self.tasks.len(), 0),
            ("unconfirmed frames to one peer", unconfirmed, unconfirmed_max),
            ("endpoints", self.router.endpoints(), limits.router.endpoints_max as usize),
            ("peers of the router", self.router.peers(), PEERS_MAX),
            // Members, and those with whom a link is up or under way: all others make room.
            (
                "peers that the router keeps",
                self.router.peers_kept(),
                self.swim.member_count() as usize + self.links.peers_held(),
            ),
        ];
        sizes.extend(self.registry.within());
        sizes.extend(self.links.within(&limits.links));
        sizes
    }

    /// Returns a reference to one of this node's endpoints, in its current session.
    fn local_ref(&self, actor: ActorId) -> Ref {
        Ref { node: self.id(), session: self.session(), actor }
    }

    /// Runs the timers of every part that has one due.
    fn expire(&mut self, now: Instant) {
        let mut rounds = 0;
        while self.deadline() <= now {
            if self.links.deadline() <= now {
                self.tasks.push_back(Task::Links(crate::cluster::links::io::Input::Tick));
            }
            if self.swim.deadline() <= now {
                self.tasks.push_back(Task::Swim(crate::cluster::swim::io::Input::Tick));
            }
            if self.registry.deadline() <= now {
                self.tasks.push_back(Task::Registry(crate::cluster::registry::io::Input::Tick));
            }
            if self.router.deadline() <= now {
                self.tasks.push_back(Task::Router(crate::cluster::router::io::Input::Tick));
            }
            self.settle(now);
            rounds += 1;
            assert!(rounds < TIMER_ROUNDS_MAX, "a timer that has acted moves on");
        }
    }

    /// Carries out all tasks.
    fn settle(&mut self, now: Instant) {
        while let Some(task) = self.tasks.pop_front() {
            self.carry_out(now, task);
        }
        if !self.sync_digests.is_empty() {
            self.sync_digests.clear();
        }
    }

    /// Burns a session above `above`, unless this node has left that behind already (C27).
    fn session_behind(&mut self, now: Instant, above: Session) {
        match self.identity.behind(now, above) {
            Ok(None) => {}
            Ok(Some(session)) => self.store(session),
            Err(reason) => self.stop(reason),
        }
    }

    /// Burns the next session, unless one is being stored already (C8).
    fn burn(&mut self) {
        if self.identity.session() > self.session {
            return;
        }
        match self.identity.renew() {
            Ok(session) => self.store(session),
            Err(reason) => self.stop(reason),
        }
    }

    fn store(&mut self, session: Session) {
        let (offset, bytes) = session_slot(session, self.id());
        self.outputs.push_back(Output::StoreSession { session, offset, bytes });
    }

    fn stop(&mut self, reason: StopReason) {
        self.outputs.push_back(Output::Stop(reason));
    }

    /// Tells once for each size of cluster that it has outgrown the configured ttl (C149).
    fn judge_ttl(&mut self) {
        let members = self.swim.member_count();
        let ttl_least = self.config.ttl_least(members);
        if ttl_least > self.config.registry.default_ttl.max(self.ttl_asked) {
            self.ttl_asked = ttl_least;
            self.counters.count(Counter::NamesLate);
            self.event(Event::NamesLate { members, ttl_least });
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;
