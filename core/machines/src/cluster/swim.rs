//! Membership: who is in the cluster, as each member sees it.
//!
//! # States
//!
//! ```text
//! a row (C42)                                        a round (C46)
//!
//!        Alive k            Suspect k                    every T·m
//! new ──────────► Alive ◄──────────────► Suspect     Waiting ─────► Direct   Ping
//!                   │  Alive k' > k         │           ▲  ▲ Ack      │ probe_timeout·m
//!        Dead, Left │                       │ deadline  │  └──────────┤
//!                   ▼   Alive k' > k        ▼           │ Ack         ▼
//!                 Left ◄─── Left ───────── Dead         └───────── Indirect   PingReq × K,
//!                   │                       │           │             │       stream Ping
//!                   └── new session ► Alive ◄           └─ Suspect ◄──┘ indirect_timeout·m
//!
//! the node: Joining ─ first Sync2, or no seeds ─► Joined ─ Leave ─► Leaving ─► Departed
//! ```
//!
//! # Time
//!
//! Unlike other machines, passed deadlines act on [`Input::Tick`] alone: all else counts before
//! timers that are due, since a driver hands in all readable datagrams first (C53), what is here
//! came in time, and what one datagram causes must not run a timer before the next one is read.
//! The driver bounds how many inputs go before a Tick that is due: `Node` does it. A timer that
//! runs more than T/2 late is a stall: this node was not looking, so its round is void, its
//! suspicions are moved, and it accuses nobody.
//!
//! # Source
//!
//! SWIM (Das, Gupta, Motivala 2002) with suspicion; Lifeguard (Dadgar, Phillips, Currey 2017).

pub mod arithmetic;
mod facts;
mod gossip;
pub mod io;
mod probe;
mod suspicion;
mod sync;
mod table;
mod timers;
mod trips;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::choices::{Answer, Choices};
use crate::cluster::config::SwimConfig;
use crate::cluster::counters::{Counter, Counters, Labelled};
use crate::cluster::identity::Allowed;
use crate::cluster::ids::{Addr, Incarnation, Life, NodeId, Session};
use crate::cluster::remembered::Remembered;
use crate::cluster::wire::{Body, Entry, MESSAGE_MAX, Message, Meta, State};
use crate::time::Instant;

use arithmetic::Spans;
pub use arithmetic::{Bounds, log2_ceil};
use gossip::Queue;
use io::{Input, Lane, MemberEvent, MemberEventKind, Output, Seed};
use probe::{Relay, Round};
use sync::{SeedState, Syncing};
use table::{ME, Row, Table};
use timers::{Timer, Timers};
use trips::Trips;

/// What a node starts membership with.
#[derive(Clone, Debug)]
pub struct SwimParams {
    /// The parameters of C62.
    pub config: SwimConfig,
    /// Who this node is.
    pub node: NodeId,
    /// The session of this start (C7).
    pub session: Session,
    /// Where it listens.
    pub addr: Addr,
    /// Its own words.
    pub meta: Meta,
    /// Whom it links with.
    pub allowed: Arc<Allowed>,
    /// Whom it joins through.
    pub seeds: Vec<Seed>,
    /// Its decisions.
    pub choices: Choices,
}

/// Where the node is in its own life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Joining,
    Joined,
    Leaving { until: Instant },
    Departed,
}

/// A row of the table, as seen from outside (C40).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Who.
    pub node: NodeId,
    /// Its life.
    pub life: Life,
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Where it listens, if known.
    pub addr: Option<Addr>,
    /// Its own words.
    pub meta: Meta,
}

/// The table at one point of the event stream (C45).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The index of the first event that is not in it.
    pub index: u64,
    /// All rows by ascending node, oneself included.
    pub members: Vec<Member>,
}

/// Room for so many outputs is kept when all were taken.
const OUTPUTS_KEPT: usize = 64;

/// The membership machine.
#[expect(
    clippy::derived_hash_with_manual_eq,
    reason = "equality is equality of all that is hashed"
)]
#[derive(Clone, Debug, Hash)]
pub struct Swim {
    timers: Timers,
    config: SwimConfig,
    spans: Spans,
    me: NodeId,
    allowed: Arc<Allowed>,
    choices: Choices,
    stage: Stage,
    health: u32,
    table: Table,
    /// Slots of all Alive and Suspect members but oneself: probed before `next`, to come from it.
    order: Vec<u32>,
    next: usize,
    /// Alive rows, oneself included.
    alive: u32,
    /// Rows whose next message needs something first (C51): not Alive, or owed.
    special: u32,
    suspects: Vec<u32>,
    dead: Vec<u32>,
    queue: Queue,
    round: Round,
    trips: Trips,
    seq: u32,
    relays: Vec<Relay>,
    links: BTreeMap<NodeId, Addr>,
    syncs: BTreeMap<NodeId, Syncing>,
    /// Peers that are dialled for a sync, oldest first.
    wanted: VecDeque<NodeId>,
    seeds: Vec<SeedState>,
    /// Some are configured, and none of them has an address yet.
    seeds_awaited: bool,
    /// Dead notices sent since the start of the current gossip tick's span (C54).
    notices: (Instant, u32),
    /// The lives of rows that were forgotten, so that their past cannot come back (C60).
    remembered: Remembered<Life>,
    /// The highest own session heard of and reported (C27).
    behind: Option<Session>,
    events: u64,
    outputs: VecDeque<Output>,
    counters: Counters,
    /// Slots drawn from; kept for its room.
    scratch: Vec<u32>,
}

impl Swim {
    /// Starts membership at `now`. The first tick is due at once.
    ///
    /// # Panics
    ///
    /// If the configuration breaks its own rules ([`SwimConfig::check`]).
    #[must_use]
    pub fn new(now: Instant, params: SwimParams) -> Self {
        let checked = params.config.check();
        assert!(checked.is_ok(), "the configuration was not checked: {checked:?}");
        let life = Life { session: params.session, incarnation: Incarnation(0) };
        let me = Row {
            node: params.node,
            life,
            state: State::Alive,
            owed: false,
            revoked: false,
            since: now,
            forget: Instant::FAR,
            addr: Some(params.addr),
            meta: params.meta,
            accuser: params.node,
            suspicion: None,
            ticket: None,
        };
        let mut swim = Self {
            timers: Timers::new(),
            spans: Spans::of(&params.config),
            config: params.config,
            me: params.node,
            allowed: params.allowed,
            choices: params.choices,
            stage: Stage::Joining,
            health: 0,
            table: Table::new(me),
            order: Vec::new(),
            next: 0,
            alive: 1,
            special: 0,
            suspects: Vec::new(),
            dead: Vec::new(),
            queue: Queue::default(),
            round: Round::default(),
            trips: Trips::default(),
            seq: 0,
            relays: Vec::new(),
            links: BTreeMap::new(),
            syncs: BTreeMap::new(),
            wanted: VecDeque::new(),
            seeds: sync::seed_states(&params.seeds),
            seeds_awaited: false,
            notices: (now, 0),
            remembered: Remembered::default(),
            behind: None,
            events: 0,
            outputs: VecDeque::new(),
            counters: Counters::new(),
            scratch: Vec::new(),
        };
        swim.start(now);
        swim
    }

    /// Says, before the first input, that seeds are configured though none of them has an address
    /// yet: the node is Joining until it is told their addresses, or that there are none (C55).
    #[must_use]
    pub const fn expecting_seeds(mut self) -> Self {
        self.seeds_awaited = true;
        self
    }

    /// Takes the answers recorded so far, if its choices record them (T12).
    pub fn take_recorded(&mut self) -> Vec<Answer> {
        self.choices.take_recorded()
    }

    fn start(&mut self, now: Instant) {
        let phase = |swim: &mut Self, which: u64, span: u64| {
            now.plus_nanos(swim.choices.choose("swim.phase", [which, 0], span))
        };
        let round = phase(self, 0, self.spans.period);
        let sync = phase(self, 1, self.spans.sync).plus_nanos(self.spans.sync / 2);
        let reprobe = phase(self, 2, self.spans.reprobe);
        self.timers.set(Timer::Round, round);
        self.timers.set(Timer::Sync, sync);
        self.timers.set(Timer::Reprobe, reprobe);
        self.timers.set(Timer::Join, now);
        self.enqueue(now, ME);
    }

    /// Applies `input`. Timers that are due run on [`Input::Tick`], and only then (C53).
    ///
    /// # Panics
    ///
    /// If outputs of the last input were not drained.
    pub fn handle(&mut self, now: Instant, input: Input) {
        assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        if self.stage == Stage::Departed {
            return;
        }
        match input {
            Input::Tick => self.expire(now),
            Input::Received { from, lane, message } => self.receive(now, from, lane, message),
            Input::LinkUp { peer, life: _, addr, seed } => self.link_up(now, peer, addr, seed),
            Input::LinkDown { peer } => self.link_down(peer),
            Input::Unreachable { peer, seed: _ } => {
                if let Some(peer) = peer {
                    self.unreachable(peer);
                }
            }
            Input::Rejected { peer } => self.rejected(now, peer),
            Input::Sync { from, step, rows } => self.sync(now, from, step, &rows),
            Input::Allowed(allowed) => self.allow(now, allowed),
            Input::Seeds(seeds) => self.reseed(now, &seeds),
            Input::Moved(addr) => self.restate(now, Some(addr), None),
            Input::Meta(meta) => self.restate(now, None, Some(meta)),
            Input::Renewed(session) => self.renew(now, session),
            Input::Gossip(entry) => {
                self.queue.push_name(now, entry);
                self.wake_gossip(now);
            }
            Input::Leave => self.leave(now),
        }
    }

    /// Takes the next thing to do. Call until it returns `None` after every `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        if next.is_none() && self.outputs.capacity() > OUTPUTS_KEPT {
            // The room for a sync's worth of events would be kept for ever (C171).
            self.outputs = VecDeque::new();
        }
        next
    }

    /// When to call `handle` with [`Input::Tick`] at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.timers.earliest()
    }

    fn expire(&mut self, now: Instant) {
        while let Some((timer, at)) = self.timers.due(now) {
            let late = now.nanos_since(at);
            if late > self.spans.period / 2 {
                self.stall(now, late);
                continue;
            }
            match timer {
                Timer::Round => self.advance_round(now),
                Timer::Gossip => self.gossip_tick(now),
                Timer::Suspicion => self.end_suspicions(now),
                Timer::Relay => self.relay_timer(now),
                Timer::Sync => self.sync_timer(now),
                Timer::SyncTimeout => self.sync_timeout(now),
                Timer::Reprobe => self.reprobe(now),
                Timer::Join => self.join_timer(now),
                Timer::Forget => self.forget(now),
                Timer::Leave => self.leave_timer(now),
            }
        }
    }

    /// A timer came more than T/2 late: this node slept, and accuses nobody for it (C53).
    fn stall(&mut self, now: Instant, late: u64) {
        crate::sometimes!("swim.stalled");
        self.counters.count(Counter::Stalls);
        self.void_round(now);
        for at in 0..self.suspects.len() {
            if let Some(suspicion) = &mut self.table.row_mut(self.suspects[at]).suspicion {
                suspicion.postpone(late);
            }
        }
        self.timers.postpone(Timer::Suspicion, late);
        self.timers.pull_up(now);
        self.worsen(1);
    }

    fn receive(&mut self, now: Instant, from: NodeId, lane: Lane, message: Message) {
        for entry in message.entries {
            match entry {
                Entry::Fact(fact) => self.hear(now, from, &fact),
                Entry::Name(entry) => self.outputs.push_back(Output::Name { from, entry }),
            }
        }
        match message.body {
            Body::Ping { seq } => self.send(now, from, lane, Body::Ack { seq }),
            Body::Ack { seq } => self.acked(now, from, lane, seq),
            Body::PingReq { seq, wait_ms, target, session: _, addr } => {
                self.relay(now, (from, lane), (seq, wait_ms), (target, addr))
            }
            Body::Nack { seq } => self.nacked(from, seq),
            Body::Gossip => {}
        }
    }

    /// Sends a message to a node that listens somewhere known, with all it can carry.
    fn send(&mut self, now: Instant, to: NodeId, lane: Lane, body: Body) {
        let slot = self.table.find(to);
        let known = slot.and_then(|slot| self.table.row(slot).addr);
        if let Some(addr) = known.or_else(|| self.links.get(&to).copied()) {
            self.send_to(now, (to, addr, slot), lane, body);
        }
    }

    /// Fills a message (C51, C52) and sends it.
    fn send_to(
        &mut self,
        now: Instant,
        (to, addr, slot): (NodeId, Addr, Option<u32>),
        lane: Lane,
        body: Body,
    ) {
        let mut message = Message { body, entries: Vec::new() };
        let mut room = MESSAGE_MAX - message.encoded_len();
        let entries = &mut message.entries;
        let mut first = [None; 2];
        if self.special > 0
            && let Some(slot) = slot
        {
            first = self.put_first(slot, &mut room, entries);
        }
        if !self.queue.is_empty() {
            let sends = arithmetic::sends_max(self.config.retransmit, self.member_count());
            self.queue.fill(now, &mut self.table, sends, first, room, entries);
        }
        if !entries.is_empty() {
            let bytes: usize = entries.iter().map(Entry::encoded_len).sum();
            self.counters.add(Counter::GossipBytes, bytes as u64);
        }
        self.outputs.push_back(Output::Send { to, addr, lane, message });
    }

    /// Puts the accusation of the receiver, and what is owed to it, before all else (C51).
    fn put_first(
        &mut self,
        slot: u32,
        room: &mut usize,
        entries: &mut Vec<Entry>,
    ) -> [Option<u32>; 2] {
        let mut put = |row: &Row| {
            let entry = Entry::Fact(row.fact());
            *room -= entry.encoded_len();
            entries.push(entry);
        };
        let row = self.table.row(slot);
        let accused = match row.state {
            State::Suspect | State::Dead => {
                put(row);
                Some(slot)
            }
            State::Alive | State::Left => None,
        };
        let owed = row.owed.then_some(ME);
        if owed.is_some() {
            put(self.table.row(ME));
            self.set_owed(slot, false);
        }
        [accused, owed]
    }

    fn gossip_tick(&mut self, now: Instant) {
        self.timers.clear(Timer::Gossip);
        if self.queue.is_empty() {
            return;
        }
        let targets = self.gossip_targets(now);
        if targets.is_empty() {
            // Nobody is there to be told; whoever comes gets a sync.
            self.queue.clear(&mut self.table);
        }
        for slot in &targets {
            let row = self.table.row(*slot);
            if let Some(addr) = row.addr {
                let to = (row.node, addr, Some(*slot));
                self.send_to(now, to, Lane::Datagram, Body::Gossip);
            }
        }
        self.keep_scratch(targets);
        self.wake_gossip(now);
    }

    /// Draws F distinct members from Alive, Suspect, and those Dead for less than 30·T (C52).
    fn gossip_targets(&mut self, now: Instant) -> Vec<u32> {
        let recent = 30 * self.spans.period;
        let mut pool = std::mem::take(&mut self.scratch);
        pool.clear();
        pool.extend_from_slice(&self.order);
        pool.extend(self.dead.iter().filter(|slot| {
            let row = self.table.row(**slot);
            now.nanos_since(row.since) < recent && row.addr.is_some() && !row.revoked
        }));
        let count = self.config.gossip_fanout as usize;
        draw(&mut self.choices, "swim.gossip", &mut pool, count);
        pool
    }

    /// Keeps the room of a list of slots for the next draw.
    fn keep_scratch(&mut self, mut slots: Vec<u32>) {
        slots.clear();
        self.scratch = slots;
    }

    /// Queues the latest fact of a row for gossip.
    fn enqueue(&mut self, now: Instant, slot: u32) {
        self.queue.push(&mut self.table, slot);
        self.wake_gossip(now);
    }

    fn wake_gossip(&mut self, now: Instant) {
        if !self.queue.is_empty() && !self.timers.is_set(Timer::Gossip) {
            let at = now.plus_nanos(self.spans.gossip_tick);
            self.timers.set(Timer::Gossip, at);
        }
    }

    fn emit(&mut self, slot: u32, kind: MemberEventKind) {
        self.counters.count_labelled(Labelled::MemberEvents, kind.number());
        let row = self.table.row(slot);
        self.outputs.push_back(Output::Event(MemberEvent {
            index: self.events,
            node: row.node,
            life: row.life,
            addr: row.addr,
            meta: row.meta,
            kind,
        }));
        self.events += 1;
    }
}

/// What can be asked of membership without changing it.
impl Swim {
    /// Returns who this node is.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.me
    }

    /// Returns the own life. Its incarnation is [`Incarnation::LEFT`] after leaving.
    #[must_use]
    pub fn life(&self) -> Life {
        self.table.row(ME).life
    }

    /// Returns the own row.
    #[must_use]
    pub fn own(&self) -> Member {
        view(self.table.row(ME))
    }

    /// Returns the health score: 0 is well (C49).
    #[must_use]
    pub const fn health(&self) -> u32 {
        self.health
    }

    /// Lists all rows by ascending node, oneself included.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.table.iter().map(view)
    }

    /// Returns the row of `node`.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<Member> {
        let slot = self.table.find(node)?;
        Some(view(self.table.row(slot)))
    }

    /// Counts the Alive rows, oneself included.
    #[must_use]
    pub const fn alive_count(&self) -> u32 {
        self.alive
    }

    /// Counts the Alive and Suspect rows, oneself included: N (C40).
    #[must_use]
    pub fn member_count(&self) -> u32 {
        let own = match self.stage {
            Stage::Joining | Stage::Joined => 1,
            Stage::Leaving { .. } | Stage::Departed => 0,
        };
        u32::try_from(self.order.len()).expect("members_max is a u32") + own
    }

    /// Says whether the first sync was answered, or there was no seed (C55).
    #[must_use]
    pub const fn is_joined(&self) -> bool {
        match self.stage {
            Stage::Joined => true,
            Stage::Joining | Stage::Leaving { .. } | Stage::Departed => false,
        }
    }

    /// Says whether the node is leaving or has left (C56).
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        match self.stage {
            Stage::Leaving { .. } | Stage::Departed => true,
            Stage::Joining | Stage::Joined => false,
        }
    }

    /// Returns a number that grows when any row may have changed, so that a watcher that polls
    /// need not compare the rows.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.table.revision()
    }

    /// Returns the table and where the event stream goes on from it (C45).
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { index: self.events, members: self.members().collect() }
    }

    /// Returns the highest session known of `node`, in the table or remembered (C25, C60).
    #[must_use]
    pub fn session_of(&self, node: NodeId) -> Option<Session> {
        match self.table.find(node) {
            Some(slot) => Some(self.table.row(slot).life.session),
            None => self.remembered.get(node).map(|life| life.session),
        }
    }

    /// Returns how long `node` took to answer the last Ping that it answered by itself, in
    /// nanoseconds (C121).
    #[must_use]
    pub fn round_trip(&self, node: NodeId) -> Option<u64> {
        self.trips.of(self.table.find(node)?)
    }

    /// Counts the facts and names that wait for gossip.
    #[must_use]
    pub fn gossip_queue(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    /// Returns the counters.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Says whether everything is within its cap (C150).
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let members = self.config.members_max as usize;
        let listed = [
            self.order.len(),
            self.suspects.len(),
            self.dead.len(),
            self.links.len(),
            self.syncs.len(),
            self.trips.len(),
        ];
        self.table.len() <= members
            && listed.iter().all(|len| *len <= members)
            && self.relays.len() <= self.config.relays_max as usize
            && self.remembered.len() <= self.config.sessions_max as usize
            && self.wanted.len() <= sync::WANTED_MAX
            && self.health <= self.config.health_max
            && self.queue.is_bounded(self.table.len())
    }
}

fn view(row: &Row) -> Member {
    Member {
        node: row.node,
        life: row.life,
        state: row.state,
        since: row.since,
        addr: row.addr,
        meta: row.meta,
    }
}

/// Keeps `count` of `pool`, drawn without repetition. Answer 0 is the first in order.
fn draw(choices: &mut Choices, site: &'static str, pool: &mut Vec<u32>, count: usize) {
    let count = count.min(pool.len());
    for at in 0..count {
        let left = pool.len() - at;
        let drawn = choices.choose(site, [0, 0], left as u64);
        pool.swap(at, at + index(drawn));
    }
    pool.truncate(count);
}

/// An answer as an index: it is below a length.
fn index(answer: u64) -> usize {
    usize::try_from(answer).expect("an answer is below the length it was asked for")
}

impl PartialEq for Swim {
    /// Compares what decides the future; counters do not (C133).
    fn eq(&self, other: &Self) -> bool {
        use crate::digest::Digest;
        self.table == other.table && Digest::of(self) == Digest::of(other)
    }
}

impl Eq for Swim {}

#[cfg(test)]
mod props;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod tests;
