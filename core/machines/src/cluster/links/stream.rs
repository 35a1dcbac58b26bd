//! Up links: what goes out, what comes in, how they begin and end (C26, C30–C39).

use std::sync::Arc;

use super::assembly::Assembly;
use super::dial::Told;
use super::fault::Fault;
use super::io::Output;
use super::link::{Alarm, Epoch, Epochs, Link};
use super::outbox::{Outbox, Queued, number};
use super::peer::Waited;
use super::rekey::Rekey;
use super::{Farewell, Links, Role, Timer};
use crate::cluster::counters::{Counter, Labelled};
use crate::cluster::handshake::Agreed;
use crate::cluster::identity::Allowed;
use crate::cluster::ids::{Addr, Conn, Entropy, Life, NodeId, Process, Session};
use crate::cluster::sealer::{NotOpened, Sealer};
use crate::cluster::swim::io::Lane;
use crate::cluster::wire::{
    AnyFrame, Class, CloseReason, Code, Control, DatagramHeader, Frame, Hello, Message, Reject,
    UserFrame,
};
use crate::codec::Wire;
use crate::time::Instant;

/// What a handshake leaves for a link.
pub(super) struct Raised {
    pub(super) conn: Conn,
    pub(super) dialled: bool,
    pub(super) sealer: Sealer,
    pub(super) agreed: Agreed,
    pub(super) hello: Hello,
    /// The own link index.
    pub(super) index: u32,
    pub(super) inbox: Vec<u8>,
    pub(super) unsent: u32,
}

impl Raised {
    fn into_link(self, now: Instant) -> Box<Link> {
        let current = Epoch {
            sealer: self.sealer,
            local_index: self.index,
            remote_index: self.hello.link_index,
            hash: self.agreed.hash,
            since: now,
        };
        Box::new(Link {
            conn: self.conn,
            agreed: self.agreed,
            hello: self.hello,
            dialled: self.dialled,
            since: now,
            epochs: Epochs { current, next: None, tx_next: false, rx_next: false, old: None },
            outbox: Outbox::default(),
            assembly: Assembly::default(),
            inbox: Vec::new(),
            unsent: self.unsent,
            sent_at: now,
            heard_at: now,
            used_at: now,
            rekey: Rekey::None,
            written: 0,
            confirmed: 0,
            retired: Vec::new(),
            timer: Instant::FAR,
        })
    }
}

impl Links {
    /// A handshake is complete: the link is Up (C20).
    pub(super) fn raise(&mut self, now: Instant, mut raised: Raised) {
        let node = raised.agreed.peer;
        let conn = raised.conn;
        let inbox = std::mem::take(&mut raised.inbox);
        let peer = self.peer(now, node);
        if !raised.dialled && peer.counted != Some(raised.hello.instance) {
            // A dialler says what it saw before it knows to which process (C83): not of this one,
            // which never had a link with it.
            raised.hello.seen = 0;
        }
        let hello = raised.hello;
        let Waited { seeds, message, frames } = peer.met(&hello);
        self.set_redial(node, Instant::FAR);
        self.conns.insert(conn, Role::Up(node));
        self.up += 1;
        let index = raised.index;
        let mut link = raised.into_link(now);
        if !link.dialled {
            let welcome = self.own_hello(node, Some(hello.instance), index);
            link.push_control(Control::Welcome(welcome));
        }
        self.put_link(now, node, link, Ok(()));
        let mut seeds = seeds.into_iter();
        let told = |seed, fresh| Output::LinkUp { peer: node, hello, seed, fresh };
        self.outputs.push_back(told(seeds.next(), true));
        self.outputs.extend(seeds.map(|seed| told(Some(seed), false)));
        // Frames are meant for one session of the peer (C145).
        let meant = |queued: &Queued| [Session(0), hello.life.session].contains(&queued.session);
        self.with_link(now, node, |_, link| {
            frames.into_iter().filter(meant).for_each(|queued| link.outbox.push(queued));
            Ok(())
        });
        if let Some(message) = message {
            self.send_datagram(now, node, hello.addr, message);
        }
        if !inbox.is_empty() {
            self.stream_bytes(now, node, inbox);
        }
        self.make_room(now, node);
    }

    /// Closes the least recently used link if there are too many (C30).
    fn make_room(&mut self, now: Instant, newest: NodeId) {
        if self.up <= self.config.links_max {
            return;
        }
        let idle = self.links().filter(|link| !link.is_busy());
        let other = idle.filter(|link| link.peer() != newest);
        let oldest = other.min_by_key(|link| link.used_at).map(Link::peer);
        crate::sometimes!("link.lru_closed", oldest.is_some());
        let node = oldest.unwrap_or(newest);
        self.close_link(now, node, CloseReason::LinkCap, Farewell::Told);
    }

    /// Lets `act` work on the link with `node`, writes what came of it, and sets its timer; a
    /// fault closes it.
    pub(super) fn with_link(
        &mut self,
        now: Instant,
        node: NodeId,
        act: impl FnOnce(&mut Self, &mut Link) -> Result<(), Fault>,
    ) {
        let taken = self.peers.get_mut(&node).and_then(|peer| peer.link.take());
        let Some(mut link) = taken else {
            return;
        };
        let done = act(self, &mut link);
        self.put_link(now, node, link, done);
    }

    fn put_link(
        &mut self,
        now: Instant,
        node: NodeId,
        mut link: Box<Link>,
        mut done: Result<(), Fault>,
    ) {
        if done.is_ok() {
            if link.is_worn() {
                self.rekey(now, &mut link);
            }
            done = link.pump(now, &self.config, &mut self.counters, &mut self.outputs);
        }
        for index in link.retired.drain(..) {
            self.indexes.remove(&index);
        }
        let due = link.due(&self.config);
        if due < link.timer {
            let conn = link.conn;
            self.timers.remove(&(link.timer, Timer::Conn(conn)));
            link.timer = due.max(now.plus_nanos(1));
            self.timers.insert((link.timer, Timer::Conn(conn)));
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.link = Some(link);
        }
        if let Err(fault) = done {
            self.close_faulty(now, node, fault);
        }
    }

    fn close_faulty(&mut self, now: Instant, node: NodeId, fault: Fault) {
        if let Some(counter) = fault.counter {
            self.counters.count(counter);
        }
        if let Some((family, label)) = fault.labelled {
            self.counters.count_labelled(family, label);
        }
        if fault.reason == CloseReason::RekeyFailed {
            self.counters.count_labelled(Labelled::Rekeys, 1);
        }
        let farewell = match fault.told {
            true => Farewell::Told,
            false => Farewell::Silent,
        };
        self.close_link(now, node, fault.reason, farewell);
    }

    /// Ends the link with `node`, if it is Up, as C39 says.
    pub(super) fn close_link(
        &mut self,
        now: Instant,
        node: NodeId,
        reason: CloseReason,
        farewell: Farewell,
    ) {
        let taken = self.peers.get_mut(&node).and_then(|peer| peer.link.take());
        let Some(mut link) = taken else {
            return;
        };
        let conn = link.conn;
        let last = match farewell {
            Farewell::Told => link.farewell(reason),
            Farewell::Gone | Farewell::Silent => None,
        };
        if let Some(bytes) = last {
            self.outputs.push_back(Output::Write { conn, bytes });
        }
        if farewell != Farewell::Gone {
            self.outputs.push_back(Output::Close { conn });
        }
        self.conns.remove(&conn);
        self.timers.remove(&(link.timer, Timer::Conn(conn)));
        let own = link.epochs.all().map(|epoch| epoch.local_index);
        for index in own.chain(link.retired.iter().copied()).chain(link.rekey.index()) {
            self.indexes.remove(&index);
        }
        self.up -= 1;
        self.counters.count_labelled(Labelled::LinkDown, reason as u8);
        let since = link.since;
        let (frames, cut) = link.outbox.into_users();
        if let Some(number) = cut {
            self.outputs.push_back(Output::Written { to: node, number });
        }
        self.outputs.push_back(Output::LinkDown { peer: node, reason });
        self.after_link(now, node, reason, since, frames);
    }

    /// Keeps or forgets what the link had queued, and sets the redial delay (C32, C39).
    fn after_link(
        &mut self,
        now: Instant,
        node: NodeId,
        reason: CloseReason,
        since: Instant,
        frames: std::collections::VecDeque<Queued>,
    ) {
        let settled = since + self.config.backoff_cap <= now;
        let peer = self.peer(now, node);
        peer.closed = Some(reason);
        if settled {
            peer.failures = 0;
        }
        match keeps_frames(reason) {
            true => peer.requeue(frames),
            false => peer.drop_waiting(),
        }
        match reason {
            CloseReason::Revoked => self.back_off(now, node, true),
            CloseReason::ProtocolError
            | CloseReason::KeyExpired
            | CloseReason::RekeyFailed
            | CloseReason::Silent
            | CloseReason::Reset => self.back_off(now, node, false),
            // There was no room for it: others are busy, and would be at once again.
            CloseReason::LinkCap if !settled => self.back_off(now, node, false),
            CloseReason::Idle
            | CloseReason::Shutdown
            | CloseReason::Superseded
            | CloseReason::Replaced
            | CloseReason::PeerRestarted
            | CloseReason::MemberDead
            | CloseReason::MemberLeft
            | CloseReason::LinkCap => {}
        }
        let peer = self.peer(now, node);
        if peer.is_wanted() {
            let at = peer.not_before.max(now.plus_nanos(1));
            self.set_redial(node, at);
        }
    }

    /// A membership message as a datagram: sealed and handed on at once (C37).
    pub(super) fn send_datagram(
        &mut self,
        now: Instant,
        node: NodeId,
        addr: Addr,
        message: Message,
    ) {
        let link = match self.peers.get_mut(&node) {
            Some(peer) => peer.link.as_deref_mut(),
            None => None,
        };
        let Some(link) = link else {
            self.keep_datagram(now, node, addr, message);
            return;
        };
        match link.datagram(now, &message) {
            Ok(bytes) => {
                let to = link.hello.addr.udp();
                let worn = link.is_worn();
                self.counters.count(Counter::DatagramsOut);
                self.outputs.push_back(Output::Datagram { to, bytes });
                if worn {
                    self.with_link(now, node, |_, _| Ok(()));
                }
            }
            Err(fault) => self.close_faulty(now, node, fault),
        }
    }

    /// A membership message as frame 10; without a link it is dropped.
    pub(super) fn send_message(&mut self, now: Instant, node: NodeId, message: Message) {
        self.with_link(now, node, |links, link| {
            let session = link.hello.life.session;
            let frame = AnyFrame::Frame(Frame::Swim(message));
            link.push(Queued::new(&frame, session), &links.config)
        });
    }

    /// A frame: users' wait for a link, others need one.
    pub(super) fn send_frame(
        &mut self,
        now: Instant,
        (node, addr, process): (NodeId, Option<Addr>, Option<Process>),
        frame: Frame,
    ) {
        let linked = self.link(node).map(|link| link.hello.process());
        if linked.is_some() && process.is_some() && linked != process {
            return; // Its numbers mean nothing to this process (C82).
        }
        let counts = match &frame {
            Frame::User(user) => number(user),
            Frame::Swim(_)
            | Frame::Sync1(_)
            | Frame::Sync2(..)
            | Frame::Sync3(_)
            | Frame::NameQuery { .. }
            | Frame::NameReply { .. } => None,
        };
        let len = frame.body_len();
        let too_long = len > self.config.message_bytes_max as usize;
        if too_long || (counts.is_some() && self.is_full(node, len)) {
            match counts {
                Some(number) => self.outputs.push_back(Output::NotTaken { to: node, number }),
                None => self.counters.count(Counter::FrameDropped),
            }
            return;
        }
        if linked.is_none() {
            self.keep_frame(now, (node, addr, process), frame);
            return;
        }
        self.with_link(now, node, |links, link| {
            let session = link.hello.life.session;
            let queued = Queued::new(&AnyFrame::Frame(frame), session);
            match counts {
                Some(_) => {
                    link.outbox.push(queued);
                    Ok(())
                }
                None => link.push(queued, &links.config),
            }
        });
    }

    /// Says whether the link with `node` has no room for a user frame of `len` bytes. One alone may
    /// be longer than the queue (C38).
    fn is_full(&self, node: NodeId, len: usize) -> bool {
        let most = self.config.link_queue_bytes_max as usize;
        self.link(node).is_some_and(|link| {
            link.outbox.items(Class::User) > 0 && link.queue_bytes() + len > most
        })
    }

    pub(super) fn wrote(&mut self, now: Instant, conn: Conn, count: u32) {
        match self.conns.get_mut(&conn) {
            Some(Role::Up(node)) => {
                let node = *node;
                self.with_link(now, node, |_, link| {
                    link.unsent = link.unsent.saturating_sub(count);
                    Ok(())
                });
            }
            Some(Role::Half(half)) => half.unsent = half.unsent.saturating_sub(count),
            None => {}
        }
    }

    pub(super) fn drawn(&mut self, now: Instant, conn: Conn, entropy: &Entropy) {
        if let Some(Role::Up(node)) = self.conns.get(&conn) {
            let node = *node;
            self.with_link(now, node, |links, link| links.rekey_drawn(link, entropy));
        }
    }

    pub(super) fn stream_bytes(&mut self, now: Instant, node: NodeId, bytes: Vec<u8>) {
        self.counters.add(Counter::StreamBytesIn, bytes.len() as u64);
        self.with_link(now, node, |links, link| {
            let mut inbox = std::mem::take(&mut link.inbox);
            match inbox.is_empty() {
                true => inbox = bytes,
                false => inbox.extend_from_slice(&bytes),
            }
            let mut at = 0;
            while let Some(frame) =
                link.next_frame(&links.config, &mut links.counters, &mut inbox, &mut at)?
            {
                link.heard_at = now;
                match frame {
                    Some(AnyFrame::Control(Control::Close(reason))) => {
                        if at < inbox.len() {
                            links.counters.count(Counter::LinkAfterClose);
                        }
                        return Err(Fault::untold(told_reason(reason)));
                    }
                    Some(AnyFrame::Control(control)) => links.control(now, link, &control)?,
                    Some(AnyFrame::Frame(frame)) => links.frame(now, link, frame)?,
                    None => link.used_at = now,
                }
            }
            if at < inbox.len() {
                inbox.drain(..at);
                link.inbox = inbox;
            }
            Ok(())
        });
    }

    fn control(&mut self, now: Instant, link: &mut Link, control: &Control) -> Result<(), Fault> {
        match control {
            Control::Keepalive => Ok(()),
            Control::Rekey1(message) => self.rekey1(now, link, *message),
            Control::Rekey2(message) => self.rekey2(now, link, message),
            Control::Rekey3(message) => self.rekey3(now, link, message),
            Control::Rekey4 => self.rekey4(now, link),
            Control::RekeyWanted => self.rekey_wanted(now, link),
            // The dialler knows of a higher session than the one that Welcome told (C27).
            Control::Reject(Reject { code: Code::StaleSession, detail }) if link.is_fresh() => {
                self.outputs.push_back(Output::SessionBehind { above: Session(*detail) });
                Err(Fault::untold(CloseReason::Reset))
            }
            Control::Welcome(_) | Control::Reject(_) | Control::Close(_) => {
                Err(Fault::protocol(Counter::FrameUnexpected))
            }
        }
    }

    fn frame(&mut self, now: Instant, link: &mut Link, frame: Frame) -> Result<(), Fault> {
        let from = link.peer();
        link.used_at = now;
        let frame = match frame {
            Frame::Swim(message) => {
                self.outputs.push_back(Output::Message { from, lane: Lane::Stream, message });
                return Ok(());
            }
            Frame::User(user) => {
                if let (Some(number), Some(peer)) = (number(&user), self.peers.get_mut(&from)) {
                    if number <= peer.seen {
                        return Err(Fault::protocol(Counter::NumberRepeat));
                    }
                    peer.seen = number;
                }
                if let UserFrame::Confirm { upto } = user {
                    link.confirmed = link.confirmed.max(upto);
                }
                Frame::User(user)
            }
            other @ (Frame::Sync1(_)
            | Frame::Sync2(..)
            | Frame::Sync3(_)
            | Frame::NameQuery { .. }
            | Frame::NameReply { .. }) => other,
        };
        self.outputs.push_back(Output::Frame { from, frame });
        Ok(())
    }

    /// A datagram: what does not open changes nothing but a counter (C36, C113).
    pub(super) fn datagram(&mut self, now: Instant, mut bytes: Vec<u8>) {
        match self.open_datagram(now, &mut bytes) {
            Ok((from, message)) => {
                self.counters.count(Counter::DatagramsIn);
                self.outputs.push_back(Output::Message { from, lane: Lane::Datagram, message });
            }
            Err(counter) => self.counters.count(counter),
        }
    }

    /// Returns what a datagram says and who says it, or how it is counted instead.
    fn open_datagram(
        &mut self,
        now: Instant,
        bytes: &mut [u8],
    ) -> Result<(NodeId, Message), Counter> {
        let (header, _) = DatagramHeader::split(bytes).map_err(|_| Counter::DgMalformed)?;
        let role = self.indexes.get(&header.link_index).and_then(|conn| self.conns.get(conn));
        let Some(Role::Up(node)) = role else {
            return Err(Counter::DgNoLink);
        };
        let link = self.peers.get_mut(node).and_then(|peer| peer.link.as_deref_mut());
        let link = link.ok_or(Counter::DgNoLink)?;
        let epoch = link.epochs.by_index(header.link_index).ok_or(Counter::DgNoLink)?;
        let opened = epoch.sealer.open_datagram(header, bytes);
        let plain = opened.map_err(|why| match why {
            NotOpened::Replay => Counter::DgReplay,
            NotOpened::Old => Counter::DgOld,
            NotOpened::BadTag => Counter::DgBadTag,
        })?;
        link.used_at = now;
        let message = Message::from_bytes(plain).map_err(|_| Counter::DgBody)?;
        Ok((*node, message))
    }

    pub(super) fn link_timer(&mut self, now: Instant, node: NodeId) {
        self.with_link(now, node, |links, link| {
            link.timer = Instant::FAR;
            loop {
                match link.alarm(now, &links.config) {
                    Alarm::None => return Ok(()),
                    Alarm::Close(CloseReason::Silent) => {
                        return Err(Fault::untold(CloseReason::Silent));
                    }
                    Alarm::Close(reason) => return Err(Fault::plain(reason)),
                    Alarm::Rekey => links.rekey(now, link),
                    Alarm::Forget => {
                        if let Some((epoch, _)) = link.epochs.old.take() {
                            link.retired.push(epoch.local_index);
                        }
                    }
                    Alarm::Keepalive => {
                        // What waits for the socket says as much.
                        if link.outbox.is_empty() {
                            link.push_control(Control::Keepalive);
                        }
                        link.sent_at = now;
                    }
                }
            }
        });
    }

    /// Membership knows a higher session: the link of an older one has no authority (C27).
    pub(super) fn session_known(&mut self, now: Instant, node: NodeId, session: Session) {
        if node == self.terms.node {
            return;
        }
        let peer = self.peer(now, node);
        if session <= peer.session {
            return;
        }
        peer.session = session;
        peer.instance = None;
        self.close_link(now, node, CloseReason::PeerRestarted, Farewell::Told);
    }

    /// A burnt session is durable: what told the old one begins anew (C27).
    pub(super) fn renewed(&mut self, now: Instant, life: Life) {
        self.life = life;
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            self.close_link(now, node, CloseReason::Replaced, Farewell::Told);
            let dial = self.peers.get(&node).and_then(|peer| peer.dial);
            let greeted = dial.is_some() && !self.dial_is_early(node);
            if let (true, Some(conn)) = (greeted, dial) {
                self.drop_half(conn, Farewell::Silent);
                self.peer(now, node).dial = None;
            }
            self.redial_at_once(now, node);
        }
    }

    /// The allowlist changed: keys that are gone are revoked at once (C24).
    pub(super) fn allowed_changed(&mut self, now: Instant, allowed: Arc<Allowed>) {
        let before = std::mem::replace(&mut self.allowed, allowed);
        let back = |node: &&NodeId| !before.has(**node) && self.allowed.has(**node);
        let back: Vec<NodeId> = self.peers.keys().filter(back).copied().collect();
        for node in back {
            self.forgive(now, node);
        }
        let revoked = |node: &&NodeId| !self.allowed.has(**node);
        let nodes: Vec<NodeId> = self.peers.keys().filter(revoked).copied().collect();
        for node in nodes {
            self.revoke(now, node);
        }
    }

    /// A key is on the list again: the delay that its absence caused is over (C23, C32). The peer
    /// cannot know, so this end has to dial.
    fn forgive(&mut self, now: Instant, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.failures = 0;
        peer.not_before = now;
        if peer.redial != Instant::FAR {
            self.set_redial(node, now);
        }
    }

    fn revoke(&mut self, now: Instant, node: NodeId) {
        self.close_link(now, node, CloseReason::Revoked, Farewell::Told);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let (dial, parked, wanted) = (peer.dial, peer.parked, peer.is_wanted());
        peer.drop_waiting();
        if let Some(conn) = parked {
            self.half_ended(now, conn, Some(Code::Revoked), Farewell::Silent);
        }
        match dial.and_then(|conn| Some((conn, self.target(conn)?))) {
            Some((conn, target)) => {
                self.drop_half(conn, Farewell::Silent);
                let code = Some(Code::Revoked);
                self.dial_over(now, conn, target, code, Told::default());
            }
            None if wanted => self.outputs.push_back(Output::Unreachable {
                peer: Some(node),
                seed: None,
                code: Some(Code::Revoked),
            }),
            None => {}
        }
        self.set_redial(node, Instant::FAR);
    }

    /// Ends everything (C56).
    pub(super) fn close_all(&mut self, now: Instant, reason: CloseReason) {
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            self.disconnect(now, node, reason);
        }
        let conns: Vec<Conn> = self.conns.keys().copied().collect();
        for conn in conns {
            let seed = self.target(conn).and_then(|target| target.seed);
            self.drop_half(conn, Farewell::Silent);
            if let Some(seed) = seed {
                self.outputs.push_back(Output::Unreachable {
                    peer: None,
                    seed: Some(seed),
                    code: None,
                });
            }
        }
    }
}

/// Says what C39 makes of queued frames.
const fn keeps_frames(reason: CloseReason) -> bool {
    match reason {
        CloseReason::Idle
        | CloseReason::LinkCap
        | CloseReason::Superseded
        | CloseReason::Replaced
        | CloseReason::ProtocolError
        | CloseReason::KeyExpired
        | CloseReason::RekeyFailed
        | CloseReason::Silent
        | CloseReason::Reset => true,
        CloseReason::Shutdown
        | CloseReason::Revoked
        | CloseReason::PeerRestarted
        | CloseReason::MemberDead
        | CloseReason::MemberLeft => false,
    }
}

/// Returns what a Close of the peer means here: what it says of *us* is not true of it.
const fn told_reason(reason: CloseReason) -> CloseReason {
    match reason {
        CloseReason::PeerRestarted | CloseReason::MemberDead | CloseReason::MemberLeft => {
            CloseReason::Reset
        }
        CloseReason::Idle
        | CloseReason::LinkCap
        | CloseReason::Superseded
        | CloseReason::Replaced
        | CloseReason::ProtocolError
        | CloseReason::KeyExpired
        | CloseReason::RekeyFailed
        | CloseReason::Silent
        | CloseReason::Reset
        | CloseReason::Shutdown
        | CloseReason::Revoked => reason,
    }
}
