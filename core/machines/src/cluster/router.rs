//! Routing: how a message finds an actor, and what is known when it does not (C80–C89).
//!
//! One frame, at its sender:
//!
//! ```text
//!            no link     link up        written              Confirm
//!   send ──► Waiting ───► Given ──────► Written ─────────────────────► Delivered
//!      │        │           │             │  │  Bounce
//!      ▼        │ dial failed, node gone  │  ├───────────────────────► Bounced
//!   refused     └────►┌─────┘             │  │  Hello: seen < number
//!                     ▼                   │  └───────────────────────► Lost, Gap
//!                  NotSent                │     node gone
//!                                         └──────────────────────────► Unknown, Gap
//! ```
//!
//! Frames wait *here* until a link with their session is up: references are fenced by sessions,
//! and only the Hello of a link tells which one it leads to (C80, C145). A reconnect resolves what
//! was not accepted at once, by `seen`; what was accepted is resolved by the Confirm that the peer
//! sends first on each link, behind the bounces that the old link may have lost.
//!
//! A send during the redial delay (C32) waits like any other that has no link (C31): it is NotSent
//! when the dial that follows the delay fails, Busy when the dial queue is full. The delay is a
//! minute at the most, and an ask has its own wait. To refuse at once what the very next dial may
//! deliver would lose messages to a peer whose link only broke.
//!
//! # Source
//!
//! Sequence numbers with a cumulative acknowledgement that survive the connection are those of
//! the session layer (ISO 8327); nothing is ever sent twice.
//!
//! # Known limits
//!
//! A receiver repeats its last [`BOUNCES_MAX`] bounces after a reconnect. A request cannot be timed
//! on its way, since clocks are not compared: what the frame says is the wait that was left when it
//! was given to the link, and none left is TooLate. Of a peer that was gone so long that it was
//! forgotten, the next number seems to be a jump.

mod asks;
pub mod io;
mod lane;
#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::config::{LinksConfig, RouterConfig};
use super::counters::{Counter, Counters, Labelled};
use super::identity::Allowed;
use super::ids::{ActorId, Addr, CallId, Instance, NodeId, Ref, Session};
use super::swim::io::{DeadCause, MemberEvent, MemberEventKind};
use super::wire::{BounceCode, CloseReason, Hello, UserFrame};
use crate::Instant;
use asks::{Ask, Asks};
use io::{Answer, AskError, Delivery, Gap, Input, Outcome, Output, Request, SendError};
use lane::{Item, Lane, What};

/// The most bounces that are repeated after a reconnect.
pub const BOUNCES_MAX: usize = 1_024;
/// The most peers remembered; those that are gone and owe nothing make room.
pub const PEERS_MAX: usize = 65_536;
/// The most local deliveries whose gate may still say no.
const LOCAL_MAX: usize = 1_024;
/// Body bytes of a Send, an Ask and a Reply without payload (section 2.2).
const SEND_BYTES: usize = 28;
const ASK_BYTES: usize = 40;
const REPLY_BYTES: usize = 24;

/// What bounds the router.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Limits {
    router: RouterConfig,
    link_queue_bytes: u64,
    dial_queue_bytes: u64,
    dial_queue_items: usize,
    unconfirmed: usize,
    asks: usize,
    endpoints: usize,
}

/// What membership says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Member {
    session: Session,
    /// Alive or Suspect.
    up: bool,
}

#[derive(Clone, Debug, Hash)]
struct Peer {
    member: Option<Member>,
    addr: Option<Addr>,
    link: Option<Hello>,
    /// What goes to the highest session known.
    lane: Lane,
    /// What goes to a session that a reference names, but neither membership nor a link yet.
    ahead: Option<Box<Lane>>,
    /// The instance last linked with, and the first number not used with it.
    pair: Option<Instance>,
    pair_next: u64,
    /// The highest number accepted from that instance.
    received: u64,
    /// Whether any user frame of that instance came: then it knows this process, and what it says
    /// it has seen was not said of the one before (C83).
    heard: bool,
    /// Numbers accepted since the last Confirm, and when the next one goes.
    unconfirmed: u32,
    confirm_at: Instant,
    /// The last bounces told, in case a link lost them.
    bounces: VecDeque<(u64, BounceCode)>,
}

impl Peer {
    const fn new(session: Session) -> Self {
        Self {
            member: None,
            addr: None,
            link: None,
            lane: Lane::new(session),
            ahead: None,
            pair: None,
            pair_next: 1,
            received: 0,
            heard: false,
            unconfirmed: 0,
            confirm_at: Instant::FAR,
            bounces: VecDeque::new(),
        }
    }

    fn link_session(&self) -> Option<Session> {
        self.link.as_ref().map(|hello| hello.life.session)
    }

    /// Says whether membership holds it Alive or Suspect, and will tell of its end.
    fn is_up(&self) -> bool {
        self.member.is_some_and(|member| member.up)
    }

    fn owes_nothing(&self) -> bool {
        let gone = self.link.is_none() && !self.is_up();
        gone && self.lane.len() == 0 && self.ahead.is_none()
    }
}

/// Where a reference leads (C80).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// To an actor here.
    Local,
    /// Over the link that is up.
    Link,
    /// Over a link that must be dialled.
    Dial,
}

/// A local delivery that its gate may still refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Handed {
    call: CallId,
    what: What,
}

/// What is to be sent: all of a frame but its number.
struct Draft {
    from: ActorId,
    bytes: usize,
    what: What,
}

/// The router of one node.
#[derive(Clone, Debug, Hash)]
pub struct Router {
    me: NodeId,
    session: Session,
    limits: Limits,
    /// To whom references lead (C80).
    allowed: Arc<Allowed>,
    leaving: bool,
    actors: BTreeSet<ActorId>,
    peers: BTreeMap<NodeId, Peer>,
    asks: Asks,
    confirms: BTreeSet<(Instant, NodeId)>,
    /// Local deliveries since the last input, and when they count as taken.
    handed: VecDeque<Handed>,
    handed_until: Instant,
    /// Counts local messages.
    local_last: u64,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Router {
    /// Makes the router of node `me` in `session`. Of `links` it mirrors the caps of the queues.
    /// Everyone is allowed until [`Input::Allowed`] says who is.
    #[must_use]
    pub fn new(me: NodeId, session: Session, config: RouterConfig, links: &LinksConfig) -> Self {
        let items = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        let limits = Limits {
            link_queue_bytes: links.link_queue_bytes_max.into(),
            dial_queue_bytes: links.dial_queue_bytes_max.into(),
            dial_queue_items: items(links.dial_queue_items_max),
            unconfirmed: items(config.unconfirmed_max),
            asks: items(config.asks_max),
            endpoints: items(config.endpoints_max),
            router: config,
        };
        Self {
            me,
            session,
            limits,
            allowed: Arc::new(Allowed::Any),
            leaving: false,
            actors: BTreeSet::new(),
            peers: BTreeMap::new(),
            asks: Asks::default(),
            confirms: BTreeSet::new(),
            handed: VecDeque::new(),
            handed_until: Instant::FAR,
            local_last: 0,
            outputs: VecDeque::new(),
            counters: Counters::new(),
        }
    }

    /// Lets time pass up to `now`, then applies `input`.
    ///
    /// A refusal by a gate goes before the deadlines: it must not come too late for the
    /// Confirm that its delivery made due. So does news of a link: a Confirm that falls due as
    /// the link ends must not be meant for it any more (C84).
    pub fn handle(&mut self, now: Instant, input: Input) {
        debug_assert!(self.outputs.is_empty(), "drain `poll` before the next input");
        if let Input::NotTaken { delivery, code } = input {
            return self.not_taken(delivery, code);
        }
        if !matches!(input, Input::LinkUp { .. } | Input::LinkDown { .. }) {
            self.expire(now);
        }
        match input {
            Input::Tick | Input::NotTaken { .. } => {}
            Input::Open(actor) => {
                self.actors.insert(actor);
            }
            Input::Close(actor) => {
                self.actors.remove(&actor);
            }
            Input::Send { call, from, to, tag, payload, tracked } => {
                self.send(now, call, from, to, (tag, payload), tracked)
            }
            Input::Ask { call, from, to, wait, tag, payload } => {
                self.ask(now, call, from, to, wait, (tag, payload))
            }
            Input::Cancel(call) => {
                if let Some(request) = self.asks.of_call(call) {
                    self.finish(request, Err(AskError::Cancelled));
                }
            }
            Input::Answer { request, status, tag, payload } => {
                self.answer(request, status, tag, payload)
            }
            Input::Frame { from, frame } => self.frame(now, from, frame),
            Input::LinkUp { peer, hello } => {
                self.link_up(now, peer, hello);
                self.expire(now);
            }
            Input::LinkDown { peer, reason } => {
                self.link_down(peer, reason);
                self.expire(now);
            }
            Input::Unreachable { peer } => self.unreachable(peer),
            Input::Written { to, number } => {
                if let Some(peer) = self.peers.get_mut(&to) {
                    peer.lane.wrote(number);
                }
            }
            Input::NotQueued { to, number } => self.not_queued(to, number),
            Input::Member(event) => self.member(&event),
            Input::Known { peer, session } => self.known(peer, session),
            Input::Renewed(session) => self.renewed(session),
            Input::Allowed(allowed) => self.allowed = allowed,
            Input::Leave => self.leaving = true,
        }
    }

    /// Takes the next thing to do. Call until it returns `None` after every `handle`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle` at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let confirm = self.confirms.first().map_or(Instant::FAR, |(at, _)| *at);
        self.asks.deadline().min(confirm).min(self.handed_until)
    }

    /// Returns what was counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Says whether `actor` is open here.
    #[must_use]
    pub fn has_actor(&self, actor: ActorId) -> bool {
        self.actors.contains(&actor)
    }

    /// Says whether one more actor may be open here: whoever opens one asks first.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.actors.len() < self.limits.endpoints
    }

    /// Returns how many actors are open here (C150).
    #[must_use]
    pub fn endpoints(&self) -> usize {
        self.actors.len()
    }

    /// Returns how many requests are in flight.
    #[must_use]
    pub fn asks_open(&self) -> usize {
        self.asks.len()
    }

    /// Returns how many frames to `peer` have no outcome, and the bytes of those not written.
    #[must_use]
    pub fn outstanding(&self, peer: NodeId) -> (usize, u64) {
        self.peers.get(&peer).map_or((0, 0), |peer| {
            let ahead = peer.ahead.as_ref();
            let more = ahead.map_or((0, 0), |lane| (lane.len(), lane.queued_bytes()));
            (peer.lane.len() + more.0, peer.lane.queued_bytes() + more.1)
        })
    }

    /// Returns the most frames without an outcome that go to one session of one peer (C150).
    #[must_use]
    pub fn most_unconfirmed(&self) -> usize {
        let ahead = |peer: &Peer| peer.ahead.as_ref().map_or(0, |lane| lane.len());
        let lanes = self.peers.values().map(|peer| peer.lane.len().max(ahead(peer)));
        lanes.max().unwrap_or(0)
    }

    /// Returns how many peers are remembered (C150).
    #[must_use]
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Returns how many of them cannot make room for others. Each is a member, or has a link, or
    /// waits for one (C150).
    #[must_use]
    pub fn peers_kept(&self) -> usize {
        self.peers.values().filter(|peer| !peer.owes_nothing()).count()
    }

    fn expire(&mut self, now: Instant) {
        if self.handed_until <= now {
            self.handed_until = Instant::FAR;
            while let Some(handed) = self.handed.pop_front() {
                self.resolve(handed.what, Outcome::Delivered, false);
            }
        }
        while let Some(request) = self.asks.due(now) {
            self.finish(request, Err(AskError::Timeout));
        }
        while let Some((at, peer)) = self.confirms.first().copied()
            && at <= now
        {
            self.confirms.pop_first();
            self.confirm(peer);
        }
    }

    /// Says which way a reference leads, by the steps of C80.
    fn way(&self, to: Ref) -> Result<Way, SendError> {
        if to.node == self.me {
            return match to.session == self.session {
                true => Ok(Way::Local),
                false => Err(SendError::StaleRef),
            };
        }
        if !self.allowed.has(to.node) {
            return Err(SendError::NoRoute);
        }
        let peer = self.peers.get(&to.node).ok_or(SendError::NoRoute)?;
        match peer.member {
            None if peer.link.is_none() => return Err(SendError::NoRoute),
            Some(member) if member.session > to.session => return Err(SendError::StaleRef),
            Some(member) if member.session == to.session && !member.up => {
                return Err(SendError::NodeDown);
            }
            Some(_) | None => {}
        }
        // The lane's session is the highest that membership or a link has shown.
        if peer.lane.session > to.session {
            return Err(SendError::StaleRef);
        }
        if peer.link_session() == Some(to.session) {
            return Ok(Way::Link);
        }
        match peer.addr {
            Some(_) => Ok(Way::Dial),
            None => Err(SendError::NoRoute),
        }
    }

    fn admit(&self, to: Ref, bytes: usize) -> Result<Way, SendError> {
        if self.leaving {
            return Err(SendError::Draining);
        }
        if bytes > usize::try_from(self.limits.router.message_bytes_max).unwrap_or(usize::MAX) {
            return Err(SendError::TooLarge);
        }
        let way = self.way(to);
        crate::sometimes!("route.stale_ref", way == Err(SendError::StaleRef));
        way
    }

    fn send(
        &mut self,
        now: Instant,
        call: CallId,
        from: ActorId,
        to: Ref,
        (tag, payload): (u32, Vec<u8>),
        tracked: bool,
    ) {
        let what = What::Send { call, tracked };
        let bytes = SEND_BYTES + payload.len();
        let result = match self.admit(to, bytes) {
            Err(refused) => Err(refused),
            Ok(Way::Local) => {
                self.local_last += 1;
                let number = self.local_last;
                let result = Ok(number);
                self.outputs.push_back(Output::Sent { call, result });
                return self.hand(now, call, from, to.actor, None, (tag, payload), what);
            }
            Ok(way) => {
                let draft = Draft { from, bytes, what };
                let to_actor = to.actor;
                self.queue(to.node, to.session, way, draft, |number| UserFrame::Send {
                    number,
                    to: to_actor,
                    from,
                    tag,
                    payload,
                })
            }
        };
        self.outputs.push_back(Output::Sent { call, result });
    }

    fn ask(
        &mut self,
        now: Instant,
        call: CallId,
        from: ActorId,
        to: Ref,
        wait: Duration,
        (tag, payload): (u32, Vec<u8>),
    ) {
        let until = now + wait;
        let bytes = ASK_BYTES + payload.len();
        let way = match self.admit(to, bytes) {
            _ if wait.is_zero() => return self.refuse(call, AskError::Timeout),
            Ok(_) if self.asks.len() >= self.limits.asks => {
                return self.refuse(call, AskError::Refused(SendError::Busy));
            }
            Ok(way) => way,
            Err(refused) => return self.refuse(call, AskError::Refused(refused)),
        };
        let request = self.asks.next();
        let what = What::Ask { request };
        let ask = |number| Ask { call, node: to.node, session: to.session, number, until };
        if way == Way::Local {
            self.local_last += 1;
            self.asks.open(request, ask(self.local_last));
            let reply_to = Request { node: self.me, session: self.session, request };
            return self.hand(now, call, from, to.actor, Some(reply_to), (tag, payload), what);
        }
        let draft = Draft { from, bytes, what };
        let number = self.queue(to.node, to.session, way, draft, |number| UserFrame::Ask {
            number,
            to: to.actor,
            from,
            request,
            wait_ms: left_ms(now, until),
            tag,
            payload,
        });
        match number {
            Ok(number) => self.asks.open(request, ask(number)),
            Err(refused) => self.refuse(call, AskError::Refused(refused)),
        }
    }

    fn answer(&mut self, request: Request, status: u8, tag: u32, payload: Vec<u8>) {
        if request.node == self.me {
            let result = Ok(Answer { status, tag, payload });
            return self.replied(self.me, request.request, result);
        }
        let to = Ref { node: request.node, session: request.session, actor: ActorId::NODE };
        let bytes = REPLY_BYTES + payload.len();
        let fits = u32::try_from(bytes).is_ok_and(|b| b <= self.limits.router.message_bytes_max);
        // An answer that cannot go is no error here: the asker's time runs out.
        if let (true, Ok(way @ (Way::Link | Way::Dial))) = (fits, self.way(to)) {
            let draft = Draft { from: ActorId::NODE, bytes, what: What::Reply };
            let id = request.request;
            let _ = self.queue(to.node, to.session, way, draft, |number| UserFrame::Reply {
                number,
                request: id,
                status,
                tag,
                payload,
            });
        }
    }

    /// Gives a frame to the links, or keeps it and asks for a link.
    fn queue(
        &mut self,
        node: NodeId,
        session: Session,
        way: Way,
        draft: Draft,
        frame: impl FnOnce(u64) -> UserFrame,
    ) -> Result<u64, SendError> {
        let peer = self.peers.get_mut(&node).ok_or(SendError::NoRoute)?;
        let lane = if session == peer.lane.session {
            &mut peer.lane
        } else {
            peer.ahead.get_or_insert_with(|| Box::new(Lane::new(session)))
        };
        if lane.session != session {
            return Err(SendError::NoRoute); // Two sessions ahead at once: one of them is no one's.
        }
        let limits = &self.limits;
        let bytes = u32::try_from(draft.bytes).map_err(|_| SendError::TooLarge)?;
        let after = lane.queued_bytes() + u64::from(bytes);
        let (bytes_max, items_max) = match way {
            Way::Link | Way::Local => (limits.link_queue_bytes, usize::MAX),
            Way::Dial => (limits.dial_queue_bytes, limits.dial_queue_items),
        };
        // A message longer than the queue may go if it goes alone.
        let full = lane.queued_bytes() > 0 && after > bytes_max;
        if full || lane.len() >= limits.unconfirmed || lane.queued() >= items_max {
            return Err(SendError::Busy);
        }
        let number = lane.push(draft.from, bytes, draft.what);
        let frame = frame(number);
        if way == Way::Link {
            lane.gave(number);
            self.give_links(node, frame);
        } else {
            lane.wait(frame);
            self.want(node);
        }
        Ok(number)
    }

    /// Gives a frame to the links for the process that is linked, if one is.
    fn give_links(&mut self, to: NodeId, frame: UserFrame) {
        if let Some(peer) = self.peers.get(&to)
            && let Some(link) = &peer.link
        {
            let (addr, process) = (peer.addr, link.process());
            self.outputs.push_back(Output::Frame { to, process, addr, frame });
        }
    }

    fn want(&mut self, peer: NodeId) {
        if let Some(addr) = self.peers.get(&peer).and_then(|p| p.addr) {
            self.outputs.push_back(Output::Want { peer, addr });
        }
    }

    /// Hands a local message to its actor (C89).
    #[expect(clippy::too_many_arguments, reason = "the fields of a delivery")]
    fn hand(
        &mut self,
        now: Instant,
        call: CallId,
        from: ActorId,
        to: ActorId,
        request: Option<Request>,
        (tag, payload): (u32, Vec<u8>),
        what: What,
    ) {
        if !self.actors.contains(&to) {
            let code = BounceCode::NoActor;
            self.counters.count_labelled(Labelled::Bounce, code as u8);
            return self.resolve(what, Outcome::Bounced(code), false);
        }
        if self.handed.len() >= LOCAL_MAX
            && let Some(first) = self.handed.pop_front()
        {
            self.resolve(first.what, Outcome::Delivered, false);
        }
        self.handed.push_back(Handed { call, what });
        self.handed_until = self.handed_until.min(now.plus_nanos(1));
        let from = Ref { node: self.me, session: self.session, actor: from };
        self.outputs.push_back(Output::Deliver {
            to,
            from,
            delivery: Delivery { node: self.me, number: call.0 },
            request,
            tag,
            payload,
        });
    }

    /// A gate did not take a delivery.
    fn not_taken(&mut self, delivery: Delivery, code: BounceCode) {
        if delivery.node == self.me {
            let call = CallId(delivery.number);
            let at = self.handed.iter().position(|handed| handed.call == call);
            if let Some(handed) = at.and_then(|at| self.handed.remove(at)) {
                self.counters.count_labelled(Labelled::Bounce, code as u8);
                self.resolve(handed.what, Outcome::Bounced(code), false);
            }
            return;
        }
        let accepted = self.peers.get(&delivery.node);
        if accepted.is_some_and(|peer| (1..=peer.received).contains(&delivery.number)) {
            self.bounce(delivery.node, delivery.number, code);
        }
    }

    /// The links had no room for a frame, or no link any more: it is not sent.
    fn not_queued(&mut self, to: NodeId, number: u64) {
        let item = self.peers.get_mut(&to).and_then(|peer| peer.lane.withdraw(number));
        if let Some(item) = item {
            self.resolve(item.what, Outcome::NotSent, false);
        }
    }

    fn bounce(&mut self, to: NodeId, number: u64, code: BounceCode) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        self.counters.count_labelled(Labelled::Bounce, code as u8);
        if peer.bounces.len() >= BOUNCES_MAX {
            peer.bounces.pop_front();
        }
        peer.bounces.push_back((number, code));
        self.give_links(to, UserFrame::Bounce { number, code });
    }

    /// Tells what became of one message, request or answer.
    fn resolve(&mut self, what: What, outcome: Outcome, node_down: bool) {
        match what {
            What::Send { call, tracked } => {
                let label = outcome_label(outcome);
                self.counters.count_labelled(Labelled::Sends, label);
                if tracked {
                    self.outputs.push_back(Output::Outcome { call, outcome });
                }
            }
            What::Ask { request } => {
                let lost = |perhaps_executed| match node_down {
                    true => AskError::NodeDown,
                    false => AskError::LinkLost { perhaps_executed },
                };
                let error = match outcome {
                    Outcome::Delivered => return, // The answer comes later.
                    Outcome::Bounced(code) => AskError::Bounced(code),
                    Outcome::NotSent | Outcome::Lost => lost(false),
                    Outcome::Unknown => lost(true),
                };
                self.finish(request, Err(error));
            }
            What::Reply => {}
        }
    }

    /// Tells what became of items, and reports the gap if they may not have arrived (C85).
    fn resolve_all(&mut self, peer: NodeId, items: &[Item], outcome: Outcome, node_down: bool) {
        if matches!(outcome, Outcome::Lost | Outcome::Unknown) {
            let session = self.peers.get(&peer).map_or(Session(0), |p| p.lane.session);
            for run in items.chunk_by(|a, b| a.number + 1 == b.number) {
                self.gap(Gap {
                    peer,
                    session,
                    first: run[0].number,
                    last: run[run.len() - 1].number,
                    outcome: Some(outcome),
                    senders: run.iter().map(|item| item.from).collect(),
                });
            }
        }
        for item in items {
            self.resolve(item.what, outcome, node_down);
        }
    }

    fn gap(&mut self, gap: Gap) {
        self.counters.count(Counter::Gaps);
        crate::sometimes!("route.gap");
        self.outputs.push_back(Output::Gap(gap));
    }

    /// Answers an Ask that has no request.
    fn refuse(&mut self, call: CallId, error: AskError) {
        let result = Err(error);
        let label = ask_label(&result);
        self.counters.count_labelled(Labelled::Asks, label);
        self.outputs.push_back(Output::Asked { call, result });
    }

    /// Answers an Ask, once.
    fn finish(&mut self, request: u64, result: Result<Answer, AskError>) {
        if let Some(ask) = self.asks.take(request) {
            let label = ask_label(&result);
            self.counters.count_labelled(Labelled::Asks, label);
            let call = ask.call;
            self.outputs.push_back(Output::Asked { call, result });
        }
    }

    fn replied(&mut self, from: NodeId, request: u64, result: Result<Answer, AskError>) {
        match self.asks.get(request) {
            Some(ask) if ask.node == from => self.finish(request, result),
            Some(_) | None => self.counters.count(Counter::ReplyUnexpected),
        }
    }

    fn frame(&mut self, now: Instant, from: NodeId, frame: UserFrame) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let Some(session) = peer.link_session() else {
            return; // A closed link has lost all authority (C26).
        };
        peer.heard = true;
        let sender = |actor| Ref { node: from, session, actor };
        match frame {
            UserFrame::Send { number, to, from: actor, tag, payload } => {
                self.arrived(now, number, to, sender(actor), None, (tag, payload))
            }
            UserFrame::Ask { number, to, from: actor, request, wait_ms, tag, payload } => {
                let request = Request { node: from, session, request };
                let request = Some((request, wait_ms));
                self.arrived(now, number, to, sender(actor), request, (tag, payload));
            }
            UserFrame::Reply { number, request, status, tag, payload } => {
                if self.accept(now, from, number) {
                    let answer = Answer { status, tag, payload };
                    self.replied(from, request, Ok(answer));
                }
            }
            UserFrame::Confirm { upto } => self.confirmed(from, upto),
            UserFrame::Bounce { number, code } => self.bounced(from, session, number, code),
        }
    }

    /// A message or a request for an actor here.
    fn arrived(
        &mut self,
        now: Instant,
        number: u64,
        to: ActorId,
        from: Ref,
        request: Option<(Request, u32)>,
        (tag, payload): (u32, Vec<u8>),
    ) {
        if !self.accept(now, from.node, number) {
            return;
        }
        let refused = match request {
            _ if self.leaving => Some(BounceCode::Draining),
            Some((_, 0)) => Some(BounceCode::TooLate),
            Some(_) | None => (!self.actors.contains(&to)).then_some(BounceCode::NoActor),
        };
        if let Some(code) = refused {
            return self.bounce(from.node, number, code);
        }
        self.outputs.push_back(Output::Deliver {
            to,
            from,
            delivery: Delivery { node: from.node, number },
            request: request.map(|(request, _)| request),
            tag,
            payload,
        });
    }

    /// Accepts a number if it is above the last (C82); a jump is reported (C85).
    fn accept(&mut self, now: Instant, from: NodeId, number: u64) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        if number <= peer.received {
            self.counters.count(Counter::NumberRepeat);
            return false;
        }
        let first = peer.received + 1;
        peer.received = number;
        peer.unconfirmed += 1;
        let full = peer.unconfirmed >= self.limits.router.confirm_items;
        // Not at once: the gates of what was just delivered may still refuse it.
        let soon = match full {
            true => now.plus_nanos(1),
            false => now + self.limits.router.confirm_after,
        };
        if soon < peer.confirm_at {
            self.confirms.remove(&(peer.confirm_at, from));
            self.confirms.insert((soon, from));
            peer.confirm_at = soon;
        }
        if number > first {
            let session = peer.link_session().unwrap_or(peer.lane.session);
            self.counters.count(Counter::GapReceived);
            self.gap(Gap {
                peer: from,
                session,
                first,
                last: number - 1,
                outcome: None,
                senders: Vec::new(),
            });
        }
        true
    }

    /// Says up to where numbers were accepted.
    fn confirm(&mut self, to: NodeId) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        self.confirms.remove(&(peer.confirm_at, to));
        peer.confirm_at = Instant::FAR;
        peer.unconfirmed = 0;
        let upto = peer.received;
        self.give_links(to, UserFrame::Confirm { upto });
    }

    fn confirmed(&mut self, from: NodeId, upto: u64) {
        if let Some(peer) = self.peers.get_mut(&from)
            && peer.lane.bound
        {
            let items = peer.lane.take_accepted(upto);
            self.resolve_all(from, &items, Outcome::Delivered, false);
        }
    }

    fn bounced(&mut self, from: NodeId, session: Session, number: u64, code: BounceCode) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if !peer.lane.bound || peer.lane.session != session {
            return;
        }
        if let Some(item) = peer.lane.take_bounced(number) {
            self.resolve(item.what, Outcome::Bounced(code), false);
        } else if let Some(request) = self.asks.of_number(from, session, number) {
            // Accepted and confirmed, then refused after all.
            self.finish(request, Err(AskError::Bounced(code)));
        }
    }

    /// Returns the peer, remembered from now on.
    fn peer(&mut self, node: NodeId, session: Session) -> &mut Peer {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&node) {
            let old = self.peers.iter().find(|(_, peer)| peer.owes_nothing());
            if let Some(old) = old.map(|(node, _)| *node) {
                self.peers.remove(&old);
            }
        }
        self.peers.entry(node).or_insert_with(|| Peer::new(session))
    }

    fn link_up(&mut self, now: Instant, node: NodeId, hello: Hello) {
        let session = hello.life.session;
        let peer = self.peer(node, session);
        let again = peer.link == Some(hello);
        let known = peer.lane.session;
        if again {
            return self.drop_ahead(node); // A dial was answered: there is no other link.
        }
        if session > known {
            self.enter_session(node, session);
        }
        let peer = self.peer(node, session);
        peer.link = Some(hello);
        if peer.member.is_none_or(|m| m.session <= session) {
            peer.addr = Some(hello.addr);
        }
        if peer.pair != Some(hello.instance) {
            self.enter_instance(node, hello.instance);
        }
        self.resume(now, node, &hello);
        self.drop_ahead(node);
        self.confirm_again(node);
    }

    /// A higher session of a peer is known: what went to the old one ends (C39, C57).
    fn enter_session(&mut self, node: NodeId, session: Session) {
        self.node_down(node, true);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.lane.bound {
            peer.pair_next = peer.lane.next;
        }
        let ahead = peer.ahead.take_if(|lane| lane.session <= session);
        let (lane, stale) = match ahead {
            Some(lane) if lane.session == session => (*lane, None),
            other => (Lane::new(session), other),
        };
        peer.lane = lane;
        if let Some(mut stale) = stale {
            let items = stale.take_unwritten();
            self.resolve_all(node, &items, Outcome::NotSent, true);
        }
    }

    /// Another process of the peer: numbers start again (C82).
    fn enter_instance(&mut self, node: NodeId, instance: Instance) {
        if self.peers.get(&node).is_some_and(|peer| peer.lane.bound) {
            self.node_down(node, true);
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            if peer.lane.bound {
                peer.lane = Lane::new(peer.lane.session);
            }
            peer.pair = Some(instance);
            peer.pair_next = 1;
            peer.received = 0;
            peer.heard = false;
            peer.bounces.clear();
        }
    }

    /// Goes on over a new link: what the peer has not seen is Lost, what waits goes out (C83).
    ///
    /// A dialler says what it has seen before it knows to which process. If this one wrote to it on
    /// a link of which it may never have known, the count may be that of the process before, and
    /// what was written is Unknown.
    fn resume(&mut self, now: Instant, node: NodeId, hello: &Hello) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.lane.session != hello.life.session {
            let items = peer.lane.take_unwritten();
            return self.resolve_all(node, &items, Outcome::NotSent, false);
        }
        let mut unusable = Vec::new();
        if !peer.lane.bound {
            let first = peer.pair_next.max(hello.seen.saturating_add(1));
            unusable = peer.lane.bind(first);
        }
        let (lost, outcome) = match hello.seen > 0 && !peer.heard {
            true => (peer.lane.take_written(), Outcome::Unknown),
            false => (peer.lane.take_lost(hello.seen), Outcome::Lost),
        };
        let waiting = peer.lane.take_waiting();
        self.resolve_all(node, &lost, outcome, false);
        self.resolve_all(node, &unusable, Outcome::NotSent, false);
        for frame in waiting {
            self.give(now, node, frame);
        }
    }

    /// Gives a frame that waited to the links, unless it is a request that nobody waits for.
    fn give(&mut self, now: Instant, to: NodeId, mut frame: UserFrame) {
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        let number = number_of(&frame);
        if let UserFrame::Ask { request, wait_ms, .. } = &mut frame {
            let Some(ask) = self.asks.get(*request) else {
                peer.lane.withdraw(number);
                return;
            };
            *wait_ms = left_ms(now, ask.until);
        }
        peer.lane.gave(number);
        self.give_links(to, frame);
    }

    /// What waited for a session that the link does not lead to is NotSent.
    fn drop_ahead(&mut self, node: NodeId) {
        let ahead = self.peers.get_mut(&node).and_then(|p| p.ahead.take());
        if let Some(mut lane) = ahead {
            let items = lane.take_unwritten();
            self.resolve_all(node, &items, Outcome::NotSent, false);
        }
    }

    /// Repeats what the last link may have lost: bounces, then how far all was accepted.
    fn confirm_again(&mut self, to: NodeId) {
        let Some(peer) = self.peers.get(&to) else {
            return;
        };
        let (bounces, received) = (peer.bounces.clone(), peer.received);
        for (number, code) in bounces {
            self.give_links(to, UserFrame::Bounce { number, code });
        }
        if received > 0 {
            self.confirm(to);
        }
    }

    fn link_down(&mut self, node: NodeId, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let closed = peer.link_session();
        let up = peer.is_up();
        peer.link = None;
        self.confirms.remove(&(peer.confirm_at, node));
        peer.confirm_at = Instant::FAR;
        if closed.is_some_and(|session| session < peer.lane.session) {
            return; // What went to that session ended when the higher one was known.
        }
        match reason {
            CloseReason::Shutdown => {
                let items = peer.lane.take_unwritten();
                self.resolve_all(node, &items, Outcome::NotSent, false);
                if !up {
                    // No member event will tell of its end.
                    self.node_down(node, true);
                }
            }
            CloseReason::Revoked => self.node_down(node, false),
            CloseReason::PeerRestarted | CloseReason::MemberDead | CloseReason::MemberLeft => {
                self.node_down(node, true);
            }
            CloseReason::Idle
            | CloseReason::LinkCap
            | CloseReason::Superseded
            | CloseReason::Replaced
            | CloseReason::ProtocolError
            | CloseReason::KeyExpired
            | CloseReason::RekeyFailed
            | CloseReason::Silent
            | CloseReason::Reset => {
                // All stays; only a new link can tell what became of what was written.
                if peer.lane.len() > 0 {
                    self.want(node);
                }
            }
        }
    }

    /// Ends all that went to the session in use: NotSent, or Unknown if it was written.
    fn node_down(&mut self, node: NodeId, down: bool) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let session = peer.lane.session;
        let written = peer.lane.take_written();
        let unwritten = peer.lane.take_unwritten();
        self.resolve_all(node, &written, Outcome::Unknown, down);
        self.resolve_all(node, &unwritten, Outcome::NotSent, down);
        for request in self.asks.of_node(node, session) {
            let error = match down {
                true => AskError::NodeDown,
                false => AskError::LinkLost { perhaps_executed: true },
            };
            self.finish(request, Err(error));
        }
    }

    fn unreachable(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.link.is_some() {
            return;
        }
        if peer.is_up() {
            let items = peer.lane.take_unwritten();
            self.resolve_all(node, &items, Outcome::NotSent, false);
        } else {
            // The link was with a process that membership has not met, or never will. Nobody will
            // tell of its death, and no link what became of the written.
            self.node_down(node, true);
        }
        self.drop_ahead(node);
    }

    fn member(&mut self, event: &MemberEvent) {
        if event.node == self.me {
            return;
        }
        let session = event.life.session;
        let peer = self.peer(event.node, session);
        let known = peer.lane.session;
        let up = |up| Some(Member { session, up });
        match event.kind {
            MemberEventKind::Join
            | MemberEventKind::Suspect
            | MemberEventKind::Alive
            | MemberEventKind::Changed => {
                peer.member = up(true);
                peer.addr = event.addr.or(peer.addr);
                if session > known {
                    self.enter_session(event.node, session);
                }
            }
            MemberEventKind::Dead(cause) => {
                peer.member = match cause {
                    // A node that is not allowed is not known (C80).
                    DeadCause::Revoked => None,
                    DeadCause::Timeout | DeadCause::Told | DeadCause::Restarted => up(false),
                };
                self.member_down(event.node, session);
            }
            MemberEventKind::Left => {
                peer.member = up(false);
                self.member_down(event.node, session);
            }
        }
    }

    /// A node is Dead or Left in a session of which no event told (C80, steps 3 and 4).
    fn known(&mut self, node: NodeId, session: Session) {
        let peer = self.peer(node, session);
        let known = peer.lane.session;
        peer.member = Some(Member { session, up: false });
        if session > known {
            self.enter_session(node, session);
        }
    }

    fn member_down(&mut self, node: NodeId, session: Session) {
        let known = self.peers.get(&node).map(|peer| peer.lane.session);
        if known.is_some_and(|known| known <= session) {
            self.node_down(node, true);
        }
    }

    /// The own session is over: links were made in it, and local references (C27).
    fn renewed(&mut self, session: Session) {
        self.session = session;
        for peer in self.peers.values_mut() {
            peer.link = None;
            peer.confirm_at = Instant::FAR;
        }
        self.confirms.clear();
    }
}

/// The milliseconds left to wait, rounded up: 0 means none.
fn left_ms(now: Instant, until: Instant) -> u32 {
    u32::try_from(until.nanos_since(now).div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

const fn number_of(frame: &UserFrame) -> u64 {
    match frame {
        UserFrame::Send { number, .. }
        | UserFrame::Ask { number, .. }
        | UserFrame::Reply { number, .. }
        | UserFrame::Bounce { number, .. } => *number,
        UserFrame::Confirm { upto } => *upto,
    }
}

/// The label of an outcome in `sends{outcome}`.
const fn outcome_label(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Delivered => 0,
        Outcome::Bounced(_) => 1,
        Outcome::NotSent => 2,
        Outcome::Lost => 3,
        Outcome::Unknown => 4,
    }
}

/// The label of an answer in `asks{outcome}`.
const fn ask_label(result: &Result<Answer, AskError>) -> u8 {
    match result {
        Ok(_) => 0,
        Err(AskError::Refused(_)) => 1,
        Err(AskError::Bounced(_)) => 2,
        Err(AskError::Timeout) => 3,
        Err(AskError::LinkLost { .. }) => 4,
        Err(AskError::NodeDown) => 5,
        Err(AskError::Cancelled) => 6,
    }
}
