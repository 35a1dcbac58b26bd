//! Their dials, and the carrying of every handshake's bytes (A0, A1, Parked; C21, C25, C27).

use std::net::IpAddr;

use super::dial::{Over, Told};
use super::gate::{Entry, Source};
use super::io::Output;
use super::stream::Raised;
use super::{Farewell, Half, Links, Role, Stage, Target, Timer};
use crate::cluster::counters::Timing;
use crate::cluster::handshake::{
    AwaitHello, AwaitOffer, AwaitPreface, AwaitWelcome, Failed, Greeted, check_preface,
    part_entropy,
};
use crate::cluster::ids::{Conn, Entropy, NodeId, Session};
use crate::cluster::sealer::{RECORD_MAX, RECORD_MIN};
use crate::cluster::wire::{CloseReason, Code, Control, HandshakeKind, Hello, Preface, Reject};
use crate::codec::{Reader, Wire};
use crate::time::Instant;

/// A valid Hello of a peer, and where it came from.
pub(super) struct Greeting {
    pub(super) source: IpAddr,
    pub(super) greeted: Greeted,
    pub(super) wish: u32,
}

/// What the link rule says (C25).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Accept it; the own dial, if any, ends.
    Accept,
    /// Accept it, and close the old link with this reason.
    Instead(CloseReason),
    /// Wait for the end of the own dial.
    Park,
    /// The other link stands.
    Reject,
}

/// How a step of a handshake left its connection.
enum Step {
    /// It may have more to read.
    Again,
    /// It needs more bytes.
    Wait,
    /// It is Up, or closed.
    Gone,
}

impl Half {
    pub(super) fn new(now: Instant, stage: Stage) -> Box<Self> {
        Box::new(Self {
            stage,
            since: now,
            step: now,
            timer: Instant::FAR,
            inbox: Vec::new(),
            unsent: 0,
        })
    }
}

impl Links {
    /// Someone connected: the checks of C21 that need no byte of theirs.
    pub(super) fn accepted(&mut self, now: Instant, conn: Conn, source: IpAddr, entropy: &Entropy) {
        if self.draining {
            let clear = self.terms.clear_reject(Code::Draining);
            let failed = Failed { clear: Some(clear), ..Failed::silent(Code::Draining) };
            self.refuse(conn, source, failed, 0);
            return;
        }
        let place = Source::of(source);
        match self.gate.enter(now, &self.config, place, conn) {
            Entry::Free => {}
            Entry::Instead(victim) => self.evict_half(victim),
            Entry::Busy => {
                self.refuse(conn, source, Failed::silent(Code::Busy), 0);
                return;
            }
        }
        let (ephemeral, wish) = part_entropy(entropy);
        let stage = Stage::AwaitPreface(source, AwaitPreface::new(ephemeral), wish);
        self.put_half(now, conn, Half::new(now, stage));
    }

    fn evict_half(&mut self, conn: Conn) {
        let Some(half) = self.take_half(conn) else {
            return;
        };
        self.unpark(conn, &half);
        if let Stage::AwaitPreface(source, ..)
        | Stage::AwaitHello(source, ..)
        | Stage::Parked(source, ..) = &half.stage
        {
            self.refuse(conn, *source, Failed::silent(Code::Busy), 0);
        }
    }

    /// Ends an accepted connection as C23 says.
    fn refuse(&mut self, conn: Conn, source: IpAddr, failed: Failed, detail: u32) {
        let Failed { code, peer, clear, sealer } = failed;
        self.count_code(code);
        self.gate.leave(conn);
        let mut bytes = Vec::new();
        if let Some(clear) = clear {
            HandshakeKind::Reject.put_record(&clear.to_bytes(), &mut bytes);
        } else if let Some(mut sealer) = sealer {
            let reject = Control::Reject(Reject { code, detail });
            sealer.seal_control(&reject, &mut bytes);
        }
        if !bytes.is_empty() {
            self.outputs.push_back(Output::Write { conn, bytes });
        }
        self.outputs.push_back(Output::Close { conn });
        self.outputs.push_back(Output::Refused { source, peer, code, inbound: true });
    }

    pub(super) fn half_bytes(&mut self, now: Instant, conn: Conn, bytes: Vec<u8>) {
        let Some(mut half) = self.take_half(conn) else {
            return;
        };
        match half.inbox.is_empty() {
            true => half.inbox = bytes,
            false => half.inbox.extend_from_slice(&bytes),
        }
        loop {
            match self.half_step(now, conn, &mut half) {
                Step::Again => {}
                Step::Wait => {
                    self.put_half(now, conn, half);
                    return;
                }
                Step::Gone => return,
            }
        }
    }

    /// Takes one record off the inbox, if it is whole, and lets the state have it.
    fn half_step(&mut self, now: Instant, conn: Conn, half: &mut Box<Half>) -> Step {
        match std::mem::replace(&mut half.stage, Stage::Taken) {
            Stage::AwaitPreface(source, state, wish) => {
                self.read_preface(now, conn, half, source, state, wish)
            }
            Stage::AwaitHello(source, state, wish) => {
                self.read_hello(now, conn, half, source, state, wish)
            }
            Stage::Parked(source, greeted, wish) => {
                self.read_parked(conn, half, source, greeted, wish)
            }
            Stage::Connecting(target) => {
                let over = Over::new(target, Code::Malformed, Told::default());
                self.dial_step(now, conn, Err(over))
            }
            Stage::AwaitOffer(target, state, wish) => {
                let step = self.read_offer(now, conn, half, (target, state, wish));
                self.dial_step(now, conn, step)
            }
            Stage::AwaitWelcome(target, state, index) => {
                let step = self.read_welcome(now, conn, half, (target, state, index));
                self.dial_step(now, conn, step)
            }
            Stage::Taken => Step::Gone,
        }
    }

    /// Ends a dial that a check ended.
    fn dial_step(&mut self, now: Instant, conn: Conn, step: Result<Step, Box<Over>>) -> Step {
        step.unwrap_or_else(|over| {
            let Over { target, code, told } = *over;
            self.outputs.push_back(Output::Close { conn });
            self.dial_over(now, conn, target, Some(code), told);
            Step::Gone
        })
    }

    /// Parked: whoever waits for Welcome has nothing to say (C20).
    fn read_parked(
        &mut self,
        conn: Conn,
        half: &mut Half,
        source: IpAddr,
        greeted: Box<Greeted>,
        wish: u32,
    ) -> Step {
        let peer = greeted.agreed.peer;
        half.stage = Stage::Parked(source, greeted, wish);
        if half.inbox.is_empty() {
            return Step::Wait;
        }
        self.unpark(conn, half);
        let failed = Failed { peer: Some(peer), ..Failed::silent(Code::Malformed) };
        self.refuse(conn, source, failed, 0);
        Step::Gone
    }

    /// D1 → D2.
    fn read_offer(
        &mut self,
        now: Instant,
        conn: Conn,
        half: &mut Half,
        (target, state, wish): (Target, AwaitOffer, u32),
    ) -> Result<Step, Box<Over>> {
        match record(&half.inbox) {
            Ok(None) => {
                half.stage = Stage::AwaitOffer(target, state, wish);
                Ok(Step::Wait)
            }
            Ok(Some(HandshakeKind::Message2)) => {
                let message = take_record(&mut half.inbox, HandshakeKind::Message2);
                half.stage = self.offer_came(now, conn, half, (target, state, wish), &message)?;
                Ok(Step::Again)
            }
            Ok(Some(HandshakeKind::Reject)) => {
                let body = take_record(&mut half.inbox, HandshakeKind::Reject);
                Err(Self::clear_reject(target, &body))
            }
            Ok(Some(HandshakeKind::Message1 | HandshakeKind::Message3)) | Err(()) => {
                Err(Over::new(target, Code::Malformed, Told::default()))
            }
        }
    }

    /// D2 → Up.
    fn read_welcome(
        &mut self,
        now: Instant,
        conn: Conn,
        half: &mut Half,
        (target, state, index): (Target, AwaitWelcome, u32),
    ) -> Result<Step, Box<Over>> {
        let done = match sealed_record(&half.inbox) {
            Ok(None) => {
                half.stage = Stage::AwaitWelcome(target, state, index);
                return Ok(Step::Wait);
            }
            Ok(Some(len)) => {
                let mut inbox = std::mem::take(&mut half.inbox);
                let rest = inbox.split_off(2 + len);
                let state = (target, state, index);
                self.welcome_came(now, conn, half, state, &mut inbox[2..], rest)
            }
            Err(()) => {
                let told = Told { peer: Some(state.agreed.peer), ..Told::default() };
                Err(Over::new(target, Code::Malformed, told))
            }
        };
        if done.is_err() {
            self.indexes.remove(&index);
        }
        done.map(|()| Step::Gone)
    }

    /// A0 → A1.
    fn read_preface(
        &mut self,
        now: Instant,
        conn: Conn,
        half: &mut Half,
        source: IpAddr,
        state: AwaitPreface,
        wish: u32,
    ) -> Step {
        let Some((preface, rest)) = half.inbox.split_first_chunk::<{ Preface::LEN }>() else {
            half.stage = Stage::AwaitPreface(source, state, wish);
            return Step::Wait;
        };
        let mut out = Vec::new();
        let answered = match (check_preface(&self.terms, preface), record(rest)) {
            (Err(failed), _) => Err(failed),
            (Ok(_), Ok(None)) => {
                half.stage = Stage::AwaitPreface(source, state, wish);
                return Step::Wait;
            }
            (Ok(_), Ok(Some(HandshakeKind::Message1))) => {
                let body = &rest[HandshakeKind::HEADER_LEN..][..32];
                state.answer(&self.terms, preface, body, &mut out)
            }
            (Ok(_), Ok(Some(_)) | Err(())) => Err(Failed::silent(Code::Malformed)),
        };
        match answered {
            Ok(state) => {
                half.inbox.drain(..Preface::LEN + HandshakeKind::HEADER_LEN + 32);
                self.write_half(half, conn, out);
                half.step = now;
                half.stage = Stage::AwaitHello(source, state, wish);
                Step::Again
            }
            Err(failed) => {
                self.refuse(conn, source, failed, 0);
                Step::Gone
            }
        }
    }

    /// A1 → Up, Parked or closed.
    fn read_hello(
        &mut self,
        now: Instant,
        conn: Conn,
        half: &mut Box<Half>,
        source: IpAddr,
        state: AwaitHello,
        wish: u32,
    ) -> Step {
        let greeted = match record(&half.inbox) {
            Ok(None) => {
                half.stage = Stage::AwaitHello(source, state, wish);
                return Step::Wait;
            }
            Ok(Some(HandshakeKind::Message3)) => {
                let message = take_record(&mut half.inbox, HandshakeKind::Message3);
                state.hello(&self.terms, &self.allowed, &message)
            }
            Ok(Some(_)) | Err(()) => Err(Failed::silent(Code::Malformed)),
        };
        match greeted {
            Ok(greeted) => {
                let taken = std::mem::replace(half, Half::new(now, Stage::Taken));
                let greeting = Greeting { source, greeted, wish };
                self.greet(now, conn, taken, greeting);
            }
            Err(failed) => self.refuse(conn, source, failed, 0),
        }
        Step::Gone
    }

    /// A peer's Hello is valid: sessions (C27), then the link rule (C25).
    pub(super) fn greet(
        &mut self,
        now: Instant,
        conn: Conn,
        mut half: Box<Half>,
        greeting: Greeting,
    ) {
        let Greeting { source, greeted, wish } = greeting;
        let node = greeted.agreed.peer;
        let fail = |code, greeted: Greeted| Failed {
            peer: Some(node),
            sealer: Some(Box::new(greeted.sealer)),
            ..Failed::silent(code)
        };
        if let Some(highest) = self.stale(node, &greeted.hello) {
            let failed = fail(Code::StaleSession, greeted);
            self.refuse(conn, source, failed, highest.0);
            return;
        }
        match self.judge(node, &greeted.hello) {
            Verdict::Accept => {
                self.supersede(node);
                self.welcome(now, conn, &half, wish, greeted);
            }
            Verdict::Instead(reason) => {
                crate::sometimes!("link.replaced", reason == CloseReason::Replaced);
                self.close_link(now, node, reason, Farewell::Told);
                self.welcome(now, conn, &half, wish, greeted);
            }
            Verdict::Park => {
                crate::sometimes!("link.parked");
                let older = self.peer(now, node).parked.replace(conn);
                if let Some(older) = older {
                    self.drop_half(older, Farewell::Silent);
                }
                half.step = now;
                half.stage = Stage::Parked(source, Box::new(greeted), wish);
                self.put_half(now, conn, half);
            }
            Verdict::Reject => {
                let failed = fail(Code::DuplicateLink, greeted);
                self.refuse(conn, source, failed, 0);
            }
        }
    }

    /// Returns the session that makes `hello` stale, if one does (C27).
    pub(super) fn stale(&self, node: NodeId, hello: &Hello) -> Option<Session> {
        let (highest, instance) = self.highest(node)?;
        let other = instance.is_some_and(|known| known != hello.instance);
        let session = hello.life.session;
        let stale = session < highest || (session == highest && other);
        stale.then_some(highest)
    }

    /// The link rule, (a) to (e) (C25).
    fn judge(&self, node: NodeId, hello: &Hello) -> Verdict {
        let Some(peer) = self.peers.get(&node) else {
            return Verdict::Accept;
        };
        match (peer.link(), peer.dial) {
            (Some(link), _) if hello.life.session > link.hello.life.session => {
                Verdict::Instead(CloseReason::PeerRestarted)
            }
            (Some(link), _) if hello.ordinal > link.hello.ordinal => {
                Verdict::Instead(CloseReason::Replaced)
            }
            (Some(_), _) => Verdict::Reject,
            (None, Some(_)) if self.terms.node > node => Verdict::Park,
            (None, Some(_) | None) => Verdict::Accept,
        }
    }

    /// Writes Welcome: the link is Up.
    fn welcome(&mut self, now: Instant, conn: Conn, half: &Half, wish: u32, greeted: Greeted) {
        self.gate.leave(conn);
        let parked = self.peer(now, greeted.agreed.peer).parked.take();
        if let Some(older) = parked.filter(|older| *older != conn) {
            self.drop_half(older, Farewell::Silent);
        }
        let index = self.free_index(wish);
        self.indexes.insert(index, conn);
        let raised = Raised {
            conn,
            dialled: false,
            sealer: greeted.sealer,
            agreed: greeted.agreed,
            hello: greeted.hello,
            index,
            inbox: half.inbox.clone(),
            unsent: half.unsent,
        };
        self.counters.time(Timing::Handshake, now.nanos_since(half.since));
        self.raise(now, raised);
    }

    pub(super) fn half_timer(&mut self, now: Instant, conn: Conn) {
        let parked = match self.conns.get(&conn) {
            Some(Role::Half(half)) => match &half.stage {
                Stage::Parked(_, greeted, _) => Some(greeted.agreed.peer),
                Stage::Connecting(_)
                | Stage::AwaitOffer(..)
                | Stage::AwaitWelcome(..)
                | Stage::AwaitPreface(..)
                | Stage::AwaitHello(..)
                | Stage::Taken => None,
            },
            Some(Role::Up(_)) | None => None,
        };
        if let Some(node) = parked
            && self.dial_is_early(node)
        {
            self.supersede(node);
            self.judge_parked(now, conn);
            return;
        }
        let Some(half) = self.take_half(conn) else {
            return;
        };
        match self.half_deadline(&half) <= now {
            false => self.put_half(now, conn, half),
            true => {
                let code = match half.stage {
                    Stage::Connecting(_) => None,
                    Stage::AwaitOffer(..)
                    | Stage::AwaitWelcome(..)
                    | Stage::AwaitPreface(..)
                    | Stage::AwaitHello(..)
                    | Stage::Parked(..)
                    | Stage::Taken => Some(Code::Timeout),
                };
                self.put_half(now, conn, half);
                self.half_ended(now, conn, code, Farewell::Silent);
            }
        }
    }

    /// Ends a connection that is not Up: `code` if this end decided, none if it just ended.
    pub(super) fn half_ended(
        &mut self,
        now: Instant,
        conn: Conn,
        code: Option<Code>,
        farewell: Farewell,
    ) {
        let Some(half) = self.take_half(conn) else {
            return;
        };
        self.unpark(conn, &half);
        self.gate.leave(conn);
        if let Stage::AwaitWelcome(_, _, index) = &half.stage {
            self.indexes.remove(index);
        }
        match half.stage {
            Stage::AwaitPreface(source, ..)
            | Stage::AwaitHello(source, ..)
            | Stage::Parked(source, ..) => match code {
                Some(code) => self.refuse(conn, source, Failed::silent(code), 0),
                None if farewell != Farewell::Gone => {
                    self.outputs.push_back(Output::Close { conn });
                }
                None => {}
            },
            Stage::Connecting(target)
            | Stage::AwaitOffer(target, ..)
            | Stage::AwaitWelcome(target, ..) => {
                if farewell != Farewell::Gone {
                    self.outputs.push_back(Output::Close { conn });
                }
                self.dial_over(now, conn, target, code, Told::default());
            }
            Stage::Taken => {}
        }
    }

    /// Closes a connection that is not Up, with no other effect.
    pub(super) fn drop_half(&mut self, conn: Conn, farewell: Farewell) {
        let Some(half) = self.take_half(conn) else {
            return;
        };
        self.unpark(conn, &half);
        self.gate.leave(conn);
        if let Stage::AwaitWelcome(_, _, index) = &half.stage {
            self.indexes.remove(index);
        }
        if farewell != Farewell::Gone {
            self.outputs.push_back(Output::Close { conn });
        }
    }

    /// A parked dial gives up its place, unless a newer one has it (C25).
    fn unpark(&mut self, conn: Conn, half: &Half) {
        if let Stage::Parked(_, greeted, _) = &half.stage
            && let Some(peer) = self.peers.get_mut(&greeted.agreed.peer)
            && peer.parked == Some(conn)
        {
            peer.parked = None;
        }
    }

    pub(super) fn take_half(&mut self, conn: Conn) -> Option<Box<Half>> {
        match self.conns.remove(&conn)? {
            Role::Half(mut half) => {
                self.timers.remove(&(half.timer, Timer::Conn(conn)));
                half.timer = Instant::FAR;
                Some(half)
            }
            up @ Role::Up(_) => {
                self.conns.insert(conn, up);
                None
            }
        }
    }

    pub(super) fn put_half(&mut self, now: Instant, conn: Conn, mut half: Box<Half>) {
        let mut due = self.half_deadline(&half);
        if let Stage::Parked(..) = half.stage {
            let early = half.step + self.config.step_timeout / 2;
            if now < early {
                due = due.min(early);
            }
        }
        half.timer = due.max(now.plus_nanos(1));
        self.timers.insert((half.timer, Timer::Conn(conn)));
        self.conns.insert(conn, Role::Half(half));
    }

    fn half_deadline(&self, half: &Half) -> Instant {
        let step = match half.stage {
            Stage::Connecting(_) => self.config.connect_timeout,
            Stage::AwaitOffer(..)
            | Stage::AwaitWelcome(..)
            | Stage::AwaitPreface(..)
            | Stage::AwaitHello(..)
            | Stage::Parked(..)
            | Stage::Taken => self.config.step_timeout,
        };
        (half.step + step).min(half.since + self.config.handshake_timeout)
    }

    pub(super) fn write_half(&mut self, half: &mut Half, conn: Conn, bytes: Vec<u8>) {
        let len = u32::try_from(bytes.len()).expect("a handshake message is short");
        half.unsent = half.unsent.saturating_add(len);
        self.outputs.push_back(Output::Write { conn, bytes });
    }

    /// Accepts no more: what is half-open is told, if there are no keys yet (C56).
    pub(super) fn drain(&mut self, now: Instant) {
        self.draining = true;
        let conns: Vec<Conn> = self.conns.keys().copied().collect();
        for conn in conns {
            let Some(half) = self.take_half(conn) else {
                continue;
            };
            match &half.stage {
                Stage::AwaitPreface(source, ..) => {
                    let clear = self.terms.clear_reject(Code::Draining);
                    let failed = Failed { clear: Some(clear), ..Failed::silent(Code::Draining) };
                    self.refuse(conn, *source, failed, 0);
                }
                Stage::AwaitHello(source, ..) | Stage::Parked(source, ..) => {
                    self.unpark(conn, &half);
                    self.refuse(conn, *source, Failed::silent(Code::Draining), 0);
                }
                Stage::Connecting(_)
                | Stage::AwaitOffer(..)
                | Stage::AwaitWelcome(..)
                | Stage::Taken => self.put_half(now, conn, half),
            }
        }
    }

    /// Returns the target of a dial that is not finished.
    pub(super) fn target(&self, conn: Conn) -> Option<Target> {
        match self.conns.get(&conn)? {
            Role::Half(half) => half.stage.target().copied(),
            Role::Up(_) => None,
        }
    }
}

/// Says which handshake record stands at the front of `inbox`, if it is whole.
fn record(inbox: &[u8]) -> Result<Option<HandshakeKind>, ()> {
    if inbox.len() < HandshakeKind::HEADER_LEN {
        return Ok(None);
    }
    let kind = HandshakeKind::decode(&mut Reader::new(inbox)).map_err(|_| ())?;
    let len = HandshakeKind::HEADER_LEN + usize::from(kind.body_len());
    Ok((inbox.len() >= len).then_some(kind))
}

/// Takes the body of the record of `kind` that stands at the front of `inbox`.
fn take_record(inbox: &mut Vec<u8>, kind: HandshakeKind) -> Vec<u8> {
    let len = HandshakeKind::HEADER_LEN + usize::from(kind.body_len());
    inbox.drain(..len).skip(HandshakeKind::HEADER_LEN).collect()
}

/// Says how long the ciphertext at the front of `inbox` is, if it is whole.
fn sealed_record(inbox: &[u8]) -> Result<Option<usize>, ()> {
    let Some(head) = inbox.first_chunk::<2>() else {
        return Ok(None);
    };
    let len = usize::from(u16::from_le_bytes(*head));
    if !(RECORD_MIN..=RECORD_MAX).contains(&len) {
        return Err(());
    }
    Ok((inbox.len() >= 2 + len).then_some(len))
}
