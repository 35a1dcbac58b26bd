//! Our dials: when they start, what their handshake checks, and what follows when they end
//! (D0–D2, C22, C23, C30–C32).

use super::accept::Greeting;
use super::io::Output;
use super::outbox::Queued;
use super::stream::Raised;
use super::{
    Farewell, HINTS_MAX, Half, Links, Peer, Role, SEEDS_MAX, Stage, Target, Timer, Urgency,
};
use crate::cluster::counters::{Labelled, Timing};
use crate::cluster::handshake::{Answer, AwaitOffer, AwaitWelcome, Failed, part_entropy};
use crate::cluster::ids::{Addr, Conn, Entropy, NodeId, Process, Session};
use crate::cluster::swim::io::Seed;
use crate::cluster::wire::{
    AnyFrame, ClearReject, CloseReason, Code, Control, Frame, Hello, Message, Reject,
};
use crate::codec::Wire;
use crate::time::{Instant, nanos};

/// The label of a dial that no handshake ended (C120).
const UNREACHABLE: u8 = 255;

/// What a refusal told, besides its code.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// In clear: a hint (C22).
    pub(super) clear: Option<ClearReject>,
    /// Under keys.
    pub(super) sealed: bool,
    /// With StaleSession, the highest session known of us.
    pub(super) above: Option<Session>,
    /// Who refused, if that was proved.
    pub(super) peer: Option<NodeId>,
}

/// A dial that a check ended.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) target: Target,
    pub(super) code: Code,
    pub(super) told: Told,
}

impl Over {
    pub(super) fn new(target: Target, code: Code, told: Told) -> Box<Self> {
        Box::new(Self { target, code, told })
    }
}

impl Links {
    /// Someone wants a link. Re-probing and joining alone ignore the redial delay (C32).
    pub(super) fn link_asked(&mut self, now: Instant, node: NodeId, addr: Addr, urgency: Urgency) {
        if self.refuse_locally(node) {
            return;
        }
        let peer = self.peer(now, node);
        peer.addr = Some(addr);
        if let Some(link) = peer.link() {
            let hello = link.hello;
            self.outputs.push_back(Output::LinkUp { peer: node, hello, seed: None, fresh: false });
            return;
        }
        peer.wanted = true;
        match urgency {
            Urgency::Delayed => self.want(now, node),
            Urgency::Now if peer.dial.is_none() => self.dial_peer(now, node),
            Urgency::Now => {}
        }
    }

    /// A seed is to be reached (C55).
    pub(super) fn seed_asked(&mut self, now: Instant, seed: Seed) {
        let Some(node) = seed.node else {
            if !self.seed_runs(seed) {
                self.start_dial(now, None, seed.addr, Some(seed));
            }
            return;
        };
        if self.terms.node == node || !self.allowed.has(node) {
            let code = match self.terms.node == node {
                true => Code::SelfConnect,
                false => Code::NotAllowed,
            };
            self.seed_lost(None, seed, Some(code));
            return;
        }
        self.peer(now, node).addr.get_or_insert(seed.addr);
        self.attach_seed(now, node, seed);
    }

    /// Says whether a dial for `seed` runs, to whomever it leads.
    fn seed_runs(&self, seed: Seed) -> bool {
        let of_seed = |conn: &Conn| self.target(*conn).is_some_and(|t| t.seed == Some(seed));
        self.conns.keys().any(of_seed)
    }

    /// `seed` is `node`: answered by its link, or by the dial that runs or starts.
    fn attach_seed(&mut self, now: Instant, node: NodeId, seed: Seed) {
        let peer = self.peer(now, node);
        if peer.link.is_none() && peer.seeds.len() >= SEEDS_MAX {
            self.seed_lost(Some(node), seed, None);
            return;
        }
        match peer.link() {
            Some(link) => {
                let hello = link.hello;
                self.outputs.push_back(Output::LinkUp {
                    peer: node,
                    hello,
                    seed: Some(seed),
                    fresh: false,
                });
            }
            None => {
                if !peer.seeds.contains(&seed) {
                    peer.seeds.push(seed);
                }
                if peer.dial.is_none() {
                    self.dial_peer(now, node);
                }
            }
        }
    }

    fn seed_lost(&mut self, peer: Option<NodeId>, seed: Seed, code: Option<Code>) {
        self.outputs.push_back(Output::Unreachable { peer, seed: Some(seed), code });
    }

    /// Says so, and returns true, if no link with `node` can ever be.
    fn refuse_locally(&mut self, node: NodeId) -> bool {
        let code = if node == self.terms.node {
            Code::SelfConnect
        } else if !self.allowed.has(node) {
            Code::NotAllowed
        } else {
            return false;
        };
        self.outputs.push_back(Output::Unreachable {
            peer: Some(node),
            seed: None,
            code: Some(code),
        });
        true
    }

    /// A membership message without a link: the latest one waits (C31).
    pub(super) fn keep_datagram(
        &mut self,
        now: Instant,
        node: NodeId,
        addr: Addr,
        message: Message,
    ) {
        if self.refuse_locally(node) {
            return;
        }
        let peer = self.peer(now, node);
        peer.addr = Some(addr);
        peer.waiting = Some(message);
        self.want(now, node);
    }

    /// A user frame without a link waits, and so does a look-up of a name (C31, C77); a frame of
    /// another kind is dropped.
    pub(super) fn keep_frame(
        &mut self,
        now: Instant,
        (node, addr, process): (NodeId, Option<Addr>, Option<Process>),
        frame: Frame,
    ) {
        let config = self.config.clone();
        // Whoever leaves begins no link (C56).
        let asks = matches!(frame, Frame::NameQuery { .. }) && !self.draining;
        let known = self.peers.get(&node).filter(|_| !asks).map_or(Session(0), Peer::session);
        let session = process.map_or(known, |process| process.session);
        let queued = Queued::new(&AnyFrame::Frame(frame), session);
        let number = queued.number;
        if (queued.number.is_none() && !asks) || self.refuse_locally(node) {
            return;
        }
        let peer = self.peer(now, node);
        peer.addr = addr.or(peer.addr);
        match (peer.enqueue(queued, &config), number) {
            (true, _) => self.want(now, node),
            (false, Some(number)) => self.outputs.push_back(Output::NotTaken { to: node, number }),
            (false, None) => {} // The look-up has its own time (C77).
        }
    }

    /// Dials `node` now, or once the redial delay is over (C30, C32).
    pub(super) fn want(&mut self, now: Instant, node: NodeId) {
        let peer = self.peer(now, node);
        if peer.link.is_some() || peer.dial.is_some() {
            return;
        }
        if now < peer.not_before {
            let at = peer.not_before;
            self.set_redial(node, at);
        } else {
            self.dial_peer(now, node);
        }
    }

    pub(super) fn set_redial(&mut self, node: NodeId, at: Instant) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.redial == at {
            return;
        }
        self.timers.remove(&(peer.redial, Timer::Redial(node)));
        peer.redial = at;
        if at != Instant::FAR {
            self.timers.insert((at, Timer::Redial(node)));
        }
    }

    pub(super) fn redial_timer(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.redial = Instant::FAR;
        if peer.is_wanted() && peer.link.is_none() && peer.dial.is_none() {
            self.dial_peer(now, node);
        }
    }

    fn dial_peer(&mut self, now: Instant, node: NodeId) {
        self.set_redial(node, Instant::FAR);
        match self.peer(now, node).addr {
            Some(addr) => self.start_dial(now, Some(node), addr, None),
            None => self.peer_failed(now, node, None, Told::default()),
        }
    }

    fn start_dial(&mut self, now: Instant, node: Option<NodeId>, addr: Addr, seed: Option<Seed>) {
        let version = self.hints.get(&addr).copied();
        let target =
            Target { peer: node, addr, seed, version: version.unwrap_or(self.terms.version_max) };
        if self.own.contains(&addr) {
            let code = Some(Code::SelfConnect);
            self.dial_over(now, Conn::default(), target, code, Told::default());
            return;
        }
        self.dials += 2;
        let conn = Conn(self.dials);
        if let Some(node) = node {
            let peer = self.peer(now, node);
            peer.ordinal = peer.ordinal.saturating_add(1);
            peer.dial = Some(conn);
        }
        self.outputs.push_back(Output::Dial { conn, addr: addr.tcp() });
        self.put_half(now, conn, Half::new(now, Stage::Connecting(target)));
    }

    /// D0 → D1.
    pub(super) fn connected(&mut self, now: Instant, conn: Conn, entropy: &Entropy) {
        let Some(mut half) = self.take_half(conn) else {
            return;
        };
        let Stage::Connecting(target) = half.stage else {
            self.put_half(now, conn, half);
            return;
        };
        let (ephemeral, wish) = part_entropy(entropy);
        let mut out = Vec::new();
        let state = AwaitOffer::start(&self.terms, target.version, ephemeral, &mut out);
        self.write_half(&mut half, conn, out);
        half.stage = Stage::AwaitOffer(target, state, wish);
        half.step = now;
        self.put_half(now, conn, half);
    }

    /// D1 → D2: message 2 came.
    pub(super) fn offer_came(
        &mut self,
        now: Instant,
        conn: Conn,
        half: &mut Half,
        (mut target, state, wish): (Target, AwaitOffer, u32),
        message: &[u8],
    ) -> Result<Stage, Box<Over>> {
        let offered = state
            .offer(&self.terms, &self.allowed, target.peer, message)
            .map_err(|failed| Over::new(target, failed.code, Told::by(&failed)))?;
        let node = offered.peer;
        let peer = self.peer(now, node);
        // An older dial, or a link that came up meanwhile.
        if peer.link.is_some() || peer.dial.is_some_and(|dial| dial != conn) {
            if let Some(seed) = target.seed.take() {
                self.attach_seed(now, node, seed);
            }
            let told = Told { peer: Some(node), ..Told::default() };
            return Err(Over::new(target, Code::DuplicateLink, told));
        }
        if peer.dial.is_none() {
            peer.ordinal = peer.ordinal.saturating_add(1);
            peer.dial = Some(conn);
            peer.addr = Some(target.addr);
        }
        if let Some(seed) = target.seed.take() {
            peer.seeds.push(seed);
        }
        target.peer = Some(node);
        let index = self.free_index(wish);
        self.indexes.insert(index, conn);
        let hello = self.own_hello(node, None, index);
        let mut out = Vec::new();
        let state = offered.greet(&self.terms, &hello, &mut out);
        self.write_half(half, conn, out);
        half.step = now;
        Ok(Stage::AwaitWelcome(target, state, index))
    }

    /// D1: a refusal in clear.
    pub(super) fn clear_reject(target: Target, body: &[u8]) -> Box<Over> {
        match ClearReject::from_bytes(body) {
            Ok(clear) => {
                let told = Told { clear: Some(clear), ..Told::default() };
                Over::new(target, clear.code, told)
            }
            Err(_) => Over::new(target, Code::Malformed, Told::default()),
        }
    }

    /// D2 → Up: the first record came. On success the link is Up and the half is gone.
    pub(super) fn welcome_came(
        &mut self,
        now: Instant,
        conn: Conn,
        half: &mut Half,
        (target, mut state, index): (Target, AwaitWelcome, u32),
        record: &mut [u8],
        rest: Vec<u8>,
    ) -> Result<(), Box<Over>> {
        let node = state.agreed.peer;
        let over = |code, told| Over::new(target, code, Told { peer: Some(node), ..told });
        let hello = welcomed(state.answer(record)).map_err(|(code, told)| over(code, told))?;
        if let Some(highest) = self.stale(node, &hello) {
            // It took itself to be Up, and may never reach anyone who would tell it (C27).
            let reject = Control::Reject(Reject { code: Code::StaleSession, detail: highest.0 });
            let mut bytes = Vec::new();
            state.sealer.seal_control(&reject, &mut bytes);
            self.outputs.push_back(Output::Write { conn, bytes });
            return Err(over(Code::StaleSession, Told::default()));
        }
        if self.is_overtaken(node, &hello) {
            return Err(over(Code::StaleSession, Told::default()));
        }
        self.counters.count_labelled(Labelled::Dials, 0);
        self.counters.time(Timing::Handshake, now.nanos_since(half.since));
        let parked = match self.peers.get_mut(&node) {
            Some(peer) => {
                peer.dial = None;
                peer.parked
            }
            None => None,
        };
        let linked = self.peers.get(&node).is_some_and(|peer| peer.linked);
        crate::sometimes!("link.redialled", linked);
        self.raise(
            now,
            Raised {
                conn,
                dialled: true,
                sealer: state.sealer,
                agreed: state.agreed,
                hello,
                index,
                inbox: rest,
                unsent: half.unsent,
            },
        );
        if let Some(parked) = parked {
            self.judge_parked(now, parked);
        }
        Ok(())
    }

    /// Says whether a dial of a later session of `node` is parked. A link with the earlier one
    /// would end in the same step, and what is said on it would go to the later one (C145).
    fn is_overtaken(&self, node: NodeId, hello: &Hello) -> bool {
        let parked = self.peers.get(&node).and_then(|peer| peer.parked);
        match parked.and_then(|conn| self.conns.get(&conn)) {
            Some(Role::Half(half)) => match &half.stage {
                Stage::Parked(_, greeted, _) => greeted.hello.life.session > hello.life.session,
                Stage::Connecting(_)
                | Stage::AwaitOffer(..)
                | Stage::AwaitWelcome(..)
                | Stage::AwaitPreface(..)
                | Stage::AwaitHello(..)
                | Stage::Taken => false,
            },
            Some(Role::Up(_)) | None => false,
        }
    }

    /// A dial ended without a link: what C23 makes of it.
    pub(super) fn dial_over(
        &mut self,
        now: Instant,
        conn: Conn,
        target: Target,
        code: Option<Code>,
        told: Told,
    ) {
        let label = code.map_or(UNREACHABLE, |code| code as u8);
        self.counters.count_labelled(Labelled::Dials, label);
        if let Some(code) = code {
            self.count_code(code);
            self.outputs.push_back(Output::Refused {
                source: target.addr.tcp().ip(),
                peer: told.peer,
                code,
                inbound: false,
            });
            self.learn(&target, code, told);
        }
        if let (Some(node), Some(code), true) = (told.peer, code, told.sealed) {
            self.outputs.push_back(Output::Rejected { peer: node, code });
        }
        if let Some(above) = told.above {
            self.outputs.push_back(Output::SessionBehind { above });
        }
        if let Some(seed) = target.seed {
            self.seed_lost(told.peer, seed, code);
        }
        let Some(node) = target.peer else {
            return;
        };
        let peer = self.peer(now, node);
        if peer.dial == Some(conn) {
            peer.dial = None;
        }
        if peer.link.is_some() || peer.dial.is_some() {
            return;
        }
        if let Some(parked) = peer.parked {
            self.judge_parked(now, parked);
        }
        if self.link(node).is_none() {
            self.peer_failed(now, node, code, told);
        }
    }

    /// Remembers addresses that are our own, and those that speak a lower version.
    fn learn(&mut self, target: &Target, code: Code, told: Told) {
        if code == Code::SelfConnect && self.own.len() < HINTS_MAX {
            self.own.insert(target.addr);
        }
        if code == Code::Downgraded {
            self.hints.remove(&target.addr);
        }
        if let (Code::VersionMismatch, Some(lower)) = (code, self.lower_version(target, told)) {
            if self.hints.len() >= HINTS_MAX {
                self.hints.pop_first();
            }
            self.hints.insert(target.addr, lower);
        }
    }

    /// Returns the version that a refusal in clear asks for, if it is a lower one that the
    /// configuration allows (C22).
    fn lower_version(&self, target: &Target, told: Told) -> Option<u16> {
        let clear = told.clear?;
        let lower = clear.version_max.min(self.terms.version_max);
        let spoken = lower >= self.terms.version_min && lower >= clear.version_min;
        (spoken && lower < target.version).then_some(lower)
    }

    /// No link with `node` came of it: what waited is gone, and the redial delay grows.
    fn peer_failed(&mut self, now: Instant, node: NodeId, code: Option<Code>, told: Told) {
        let hinted = told.clear.is_some() && {
            let addr = self.peers.get(&node).and_then(|peer| peer.addr);
            addr.is_some_and(|addr| self.hints.contains_key(&addr))
        };
        let long = match code {
            Some(Code::VersionMismatch) => !hinted,
            Some(
                Code::SchemaMismatch
                | Code::FeatureMissing
                | Code::WrongCluster
                | Code::NotAllowed
                | Code::Downgraded
                | Code::Revoked
                | Code::SelfConnect,
            ) => true,
            Some(
                Code::BadMagic
                | Code::Busy
                | Code::WrongPeer
                | Code::StaleSession
                | Code::DuplicateLink
                | Code::BadCrypto
                | Code::Malformed
                | Code::Timeout
                | Code::Draining,
            )
            | None => false,
        };
        self.back_off(now, node, long);
        let peer = self.peer(now, node);
        peer.drop_waiting();
        let seeds = std::mem::take(&mut peer.seeds);
        for seed in &seeds {
            self.seed_lost(Some(node), *seed, code);
        }
        if seeds.is_empty() {
            self.outputs.push_back(Output::Unreachable { peer: Some(node), seed: None, code });
        }
    }

    /// Counts a failure and sets the redial delay (C32).
    pub(super) fn back_off(&mut self, now: Instant, node: NodeId, long: bool) {
        let failures = {
            let peer = self.peer(now, node);
            peer.failures = peer.failures.saturating_add(1);
            peer.failures
        };
        let delay = match long {
            true => nanos(self.config.backoff_long),
            false => self.redial_delay(node, failures),
        };
        self.peer(now, node).not_before = now.plus_nanos(delay);
    }

    /// Returns the redial delay after `failures`, in nanoseconds (C32).
    pub(super) fn redial_delay(&mut self, node: NodeId, failures: u32) -> u64 {
        let base = nanos(self.config.backoff_base);
        let doubled = base.saturating_mul(1 << failures.min(32));
        let most = doubled.min(nanos(self.config.backoff_cap));
        let jitter = self.choices.choose("link.backoff", [node.entity(), 0], 512);
        most / 1_024 * (512 + jitter)
    }

    /// Ends the own dial to `node`, if one runs, in favour of theirs (C25).
    pub(super) fn supersede(&mut self, node: NodeId) {
        let dial = self.peers.get_mut(&node).and_then(|peer| peer.dial.take());
        if let Some(conn) = dial {
            self.drop_half(conn, Farewell::Silent);
            crate::sometimes!("link.superseded");
        }
    }

    /// Ends everything with `node` and forgets what waits for it.
    pub(super) fn disconnect(&mut self, now: Instant, node: NodeId, reason: CloseReason) {
        self.close_link(now, node, reason, Farewell::Told);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let asked = peer.wanted || peer.dial.is_some();
        peer.drop_waiting();
        let (dial, parked) = (peer.dial.take(), peer.parked.take());
        let seeds = std::mem::take(&mut peer.seeds);
        self.set_redial(node, Instant::FAR);
        for conn in dial.into_iter().chain(parked) {
            self.drop_half(conn, Farewell::Silent);
        }
        for seed in &seeds {
            self.seed_lost(Some(node), *seed, None);
        }
        if asked && seeds.is_empty() {
            self.outputs.push_back(Output::Unreachable {
                peer: Some(node),
                seed: None,
                code: None,
            });
        }
    }

    /// The redial of a dial whose Hello told a life that is over (C27).
    pub(super) fn redial_at_once(&mut self, now: Instant, node: NodeId) {
        let peer = self.peer(now, node);
        peer.not_before = now;
        if peer.link.is_none() && peer.dial.is_none() && peer.is_wanted() {
            self.dial_peer(now, node);
        }
    }

    /// Greets again what was parked, now that the own dial is over one way or the other.
    pub(super) fn judge_parked(&mut self, now: Instant, conn: Conn) {
        let Some(mut half) = self.take_half(conn) else {
            return;
        };
        if let Stage::Parked(source, greeted, wish) =
            std::mem::replace(&mut half.stage, Stage::Taken)
        {
            let node = greeted.agreed.peer;
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.parked = None;
            }
            self.greet(now, conn, half, Greeting { source, greeted: *greeted, wish });
        }
    }

    /// Says whether the own dial to `node` has not sent its Hello.
    pub(super) fn dial_is_early(&self, node: NodeId) -> bool {
        let dial = self.peers.get(&node).and_then(|peer| peer.dial);
        match dial.and_then(|conn| self.conns.get(&conn)) {
            Some(Role::Half(half)) => {
                matches!(half.stage, Stage::Connecting(_) | Stage::AwaitOffer(..))
            }
            Some(Role::Up(_)) | None => false,
        }
    }
}

impl Told {
    fn by(failed: &Failed) -> Self {
        Self { peer: failed.peer, ..Self::default() }
    }
}

/// Returns the Hello of a peer's answer, or why no link comes of it.
fn welcomed(answer: Result<Answer, Code>) -> Result<Hello, (Code, Told)> {
    match answer {
        Ok(Answer::Welcome(hello)) => Ok(hello),
        Ok(Answer::Reject(reject)) => {
            let above = (reject.code == Code::StaleSession).then_some(Session(reject.detail));
            Err((reject.code, Told { sealed: true, above, ..Told::default() }))
        }
        Err(code) => Err((code, Told::default())),
    }
}
