//! What may cross the wire, and what it may do: C131, C132, C133.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use machines::Instant;
use machines::cluster::counters::Counter;
use machines::cluster::ids::{Conn, NodeId};
use machines::cluster::links::Link;
use machines::cluster::sealer::{Key, Suite, TAG};
use machines::cluster::wire::CloseReason;
use machines::node::io::{Event, Input, Output};

use super::HasNode;
use super::written::Written;
use crate::checker::{Checker, Notice, Step};
use crate::clients::CANARY;
use crate::guest::Cipher;
use crate::world::{Setup, World};

/// C131: what users say is never readable on the wire, and after its handshake a stream carries
/// nothing but records that open. Where the run seals with nothing, there is nothing to check.
#[derive(Clone, Debug)]
pub(super) struct Canary {
    sealed: bool,
    streams: BTreeMap<(u32, Conn), Spoken>,
    /// Records that opened.
    looked: u64,
}

/// What a node has written to one stream.
#[derive(Clone, Debug)]
struct Spoken {
    written: Written,
    /// The end of what was written before, in which a canary may begin.
    tail: Vec<u8>,
    /// Handshake hash → its key, and the counter of the next record; in order of the epochs.
    keys: Vec<([u8; 32], Key, u64)>,
}

impl Canary {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        let sealed = setup.cipher == Cipher::Real;
        Self { sealed, streams: BTreeMap::new(), looked: 0 }
    }
}

fn has_canary(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY)
}

impl Spoken {
    /// Who dials names streams by even numbers.
    fn new(conn: Conn) -> Self {
        let written = Written::new(conn.0.is_multiple_of(2));
        Self { written, tail: Vec::new(), keys: Vec::new() }
    }

    /// Says whether these bytes, with what came before, hold the canary.
    fn tells(&mut self, bytes: &[u8]) -> bool {
        self.tail.extend_from_slice(bytes);
        let tells = has_canary(&self.tail);
        let keep = self.tail.len().saturating_sub(CANARY.len() - 1);
        self.tail.drain(..keep);
        tells
    }

    /// Takes note of the keys of the link that the stream carries.
    fn learn(&mut self, link: &Link) {
        for epoch in link.epochs.all() {
            if self.keys.iter().all(|(hash, ..)| *hash != epoch.hash) {
                self.keys.push((epoch.hash, epoch.sealer.tx.clone(), 0));
            }
        }
    }

    /// Opens a record as the peer would: at the next counter of its epoch, or at the first one of
    /// the next epoch.
    fn opens(&mut self, text: &[u8]) -> bool {
        let Some((body, tag)) = text.split_last_chunk::<TAG>() else {
            return false;
        };
        let opens = |(_, key, next): &([u8; 32], Key, u64)| {
            Suite::Noise.open(key, *next, &mut body.to_vec(), tag).is_ok()
        };
        let Some(at) = self.keys.iter().position(opens) else {
            return false;
        };
        self.keys.drain(..at); // A stream never goes back to an epoch.
        self.keys[0].2 += 1;
        true
    }
}

impl<G: HasNode> Checker<G> for Canary {
    fn property(&self) -> &'static str {
        "C131"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if !self.sealed {
            return Ok(());
        }
        for output in step.outputs {
            match output {
                Output::Datagram { bytes, .. } if has_canary(bytes) => {
                    return Err(format!("node {} sent the canary in clear", step.node));
                }
                Output::Write { conn, bytes } => self.spoken(world, step.node, *conn, bytes)?,
                Output::Close { conn } => {
                    self.streams.remove(&(step.node, *conn));
                }
                _ => {}
            }
        }
        if let Input::Closed { conn } | Input::DialFailed { conn } = step.input {
            self.streams.remove(&(step.node, *conn));
        }
        Ok(())
    }

    fn notice(&mut self, _: &World<G>, notice: Notice) -> Result<(), String> {
        if let Notice::Started(node) = notice {
            self.streams.retain(|(other, _), _| *other != node);
        }
        Ok(())
    }
}

impl Canary {
    fn spoken<G: HasNode>(
        &mut self,
        world: &World<G>,
        node: u32,
        conn: Conn,
        bytes: &[u8],
    ) -> Result<(), String> {
        let guest = world.guest(node);
        let link = guest.and_then(|guest| guest.node().links().link_on(conn));
        let spoken = self.streams.entry((node, conn)).or_insert_with(|| Spoken::new(conn));
        if spoken.tells(bytes) {
            return Err(format!("node {node} wrote the canary in clear"));
        }
        let records = spoken.written.take(bytes);
        let records =
            records.map_err(|what| format!("node {node} wrote what is sealed by none: {what}"))?;
        if let Some(link) = link {
            spoken.learn(link);
        }
        for text in records {
            // Of a link that is gone in the same step, the last keys may be unknown.
            match spoken.opens(&text) {
                true => self.looked += 1,
                false if link.is_none() => return Ok(()),
                false => {
                    let what = "wrote a record that does not open at its place";
                    return Err(format!("node {node} {what}, {} bytes long", text.len()));
                }
            }
        }
        Ok(())
    }
}

/// A sealed datagram's place: link index and nonce (C15).
fn place(bytes: &[u8]) -> Option<(u32, u64)> {
    let index = bytes.get(4..8)?.try_into().ok().map(u32::from_le_bytes)?;
    let nonce = bytes.get(8..16)?.try_into().ok().map(u64::from_le_bytes)?;
    Some((index, nonce))
}

/// Accepted counters remembered of a link, below the greatest; wider than every replay window.
const REMEMBERED: u64 = 4_096;

/// The accepted counters of one link index.
#[derive(Clone, Debug, Default)]
struct Accepted {
    greatest: u64,
    newest: BTreeSet<u64>,
}

impl Accepted {
    /// Takes `nonce`; answers `false` if it was taken before, or is too old to know.
    fn take(&mut self, nonce: u64) -> bool {
        self.greatest = self.greatest.max(nonce);
        let floor = self.greatest.saturating_sub(REMEMBERED);
        while self.newest.first().is_some_and(|oldest| *oldest < floor) {
            self.newest.pop_first();
        }
        nonce >= floor && self.newest.insert(nonce)
    }
}

/// C132: no counter seals twice, and none is accepted twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    /// (node, start, to, link index) → the last nonce that sealed; they only rise.
    sealed: BTreeMap<(u32, u32, SocketAddr, u32), u64>,
    /// (node, start, link index) → what was accepted.
    accepted: BTreeMap<(u32, u32, u32), Accepted>,
    /// Datagrams accepted by each node's process so far.
    counts: BTreeMap<(u32, u32), u64>,
    /// (node, start, stream, whether it is the own direction) → that direction.
    streams: BTreeMap<(u32, u32, Conn, bool), Direction>,
    /// Counters compared.
    looked: u64,
}

/// One direction of a link's stream, as it crossed the wire and as the node counts it.
#[derive(Clone, Debug)]
struct Direction {
    written: Written,
    /// Handshake hash → the epoch's counter, as last seen.
    counters: BTreeMap<[u8; 32], u64>,
}

impl Direction {
    /// Compares the records that crossed with the counters of the epochs: each record has used
    /// one counter, and each counter one record.
    fn compare(&mut self, link: &Link, own: bool) -> Result<(), String> {
        for epoch in link.epochs.all() {
            let sealer = &epoch.sealer;
            let counter = if own { sealer.stream_tx } else { sealer.stream_rx };
            let before = self.counters.insert(epoch.hash, counter).unwrap_or(0);
            if counter < before {
                return Err(format!("went back from stream counter {before} to {counter}"));
            }
        }
        let used: u64 = self.counters.values().sum();
        match used == self.written.records {
            true => Ok(()),
            false => Err(format!("used {used} counters for {} records", self.written.records)),
        }
    }
}

impl Counters {
    /// Follows the stream of the step, in the direction that has moved.
    fn follow_streams<G: HasNode>(
        &mut self,
        world: &World<G>,
        step: &Step<'_>,
    ) -> Result<(), String> {
        let epoch = world.host(step.node).epoch();
        let mut moved = Vec::new();
        if let Input::Bytes { conn, bytes } = step.input {
            moved.push((*conn, bytes, false));
        }
        for output in step.outputs {
            if let Output::Write { conn, bytes } = output {
                moved.push((*conn, bytes, true));
            }
        }
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        for (conn, bytes, own) in &moved {
            let dials = conn.0.is_multiple_of(2);
            let fresh =
                || Direction { written: Written::new(dials == *own), counters: BTreeMap::new() };
            let key = (step.node, epoch, *conn, *own);
            // What strangers write need not have any form; no link comes of it.
            let _ = self.streams.entry(key).or_insert_with(fresh).written.take(bytes);
        }
        for (conn, _, own) in moved {
            let link = guest.node().links().link_on(conn);
            let held = self.streams.get_mut(&(step.node, epoch, conn, own));
            if let (Some(link), Some(held)) = (link, held) {
                self.looked += 1;
                held.compare(link, own).map_err(|what| format!("node {} {what}", step.node))?;
            }
        }
        let ended = |output: &Output| match output {
            Output::Close { conn } => Some(*conn),
            _ => None,
        };
        let by_peer = match step.input {
            Input::Closed { conn } | Input::DialFailed { conn } => Some(*conn),
            _ => None,
        };
        for conn in step.outputs.iter().filter_map(ended).chain(by_peer) {
            self.streams.remove(&(step.node, epoch, conn, true));
            self.streams.remove(&(step.node, epoch, conn, false));
        }
        Ok(())
    }
}

impl<G: HasNode> Checker<G> for Counters {
    fn property(&self) -> &'static str {
        "C132"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        self.follow_streams(world, step)?;
        let epoch = world.host(step.node).epoch();
        for output in step.outputs {
            let Output::Datagram { to, bytes } = output else {
                continue;
            };
            let Some((index, nonce)) = place(bytes) else {
                continue;
            };
            let last = self.sealed.insert((step.node, epoch, *to, index), nonce);
            if let Some(last) = last.filter(|last| nonce <= *last) {
                return Err(format!(
                    "node {} sealed with nonce {nonce:#x} after {last:#x}",
                    step.node
                ));
            }
        }
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let count = guest.node().links().counters().get(Counter::DatagramsIn);
        let before = self.counts.insert((step.node, epoch), count).unwrap_or(0);
        let (Input::Datagram(bytes), true) = (step.input, count > before) else {
            return Ok(());
        };
        let Some((index, nonce)) = place(bytes) else {
            return Ok(());
        };
        if !self.accepted.entry((step.node, epoch, index)).or_default().take(nonce) {
            return Err(format!("node {} accepted nonce {nonce:#x} twice", step.node));
        }
        Ok(())
    }

    fn notice(&mut self, world: &World<G>, notice: Notice) -> Result<(), String> {
        if let Notice::Started(node) = notice {
            let epoch = world.host(node).epoch();
            self.sealed.retain(|(other, start, ..), _| *other != node || *start == epoch);
            self.accepted.retain(|(other, start, _), _| *other != node || *start == epoch);
            self.counts.retain(|(other, start), _| *other != node || *start == epoch);
            self.streams.retain(|(other, start, ..), _| *other != node || *start == epoch);
        }
        Ok(())
    }
}

/// C133: a datagram that is not accepted changes nothing but counters, and bytes of a stream that
/// are not the peer's close that one link at the most.
///
/// To digest a node costs more than a step of it, so only a datagram that will not open (forged,
/// damaged, late or repeated) has the node digested before and after.
#[derive(Clone, Debug, Default)]
pub(super) struct Forgery {
    /// Before the step, if its datagram will not open: digest, datagrams accepted, deadline.
    before: Option<(u64, u64, Instant)>,
    /// Before the step, if bytes of a stream came: the links, by stream, and the deadline.
    linked: Option<(Streams, Instant)>,
    /// Refused datagrams, and streams that were spoilt.
    looked: u64,
}

/// The streams of a node's links, in order, and whom each leads to.
type Streams = Vec<(Conn, NodeId)>;

fn peer_on(streams: &Streams, conn: Conn) -> Option<NodeId> {
    streams.binary_search_by_key(&conn, |(at, _)| *at).ok().map(|place| streams[place].1)
}

impl Forgery {
    /// Judges bytes of a stream: which links are gone after them, and why.
    fn judge_stream<G: HasNode>(
        &mut self,
        world: &World<G>,
        step: &Step<'_>,
        conn: Conn,
        before: &Streams,
    ) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let same = guest.node().links().streams().eq(before.iter().copied());
        // The attacker's own connection: no end of a stream of the world belongs to it.
        let host = world.host(step.node);
        let forged = host.conns.get(&conn.0).is_some_and(|(stream, _)| *stream == u32::MAX);
        if forged {
            self.looked += 1;
            return match same {
                true => Ok(()),
                false => Err(format!("a stranger's bytes changed the links of node {}", step.node)),
            };
        }
        let reason = |peer: NodeId| {
            step.outputs.iter().find_map(|output| match output {
                Output::Event(Event::LinkDown { peer: gone, reason }) if *gone == peer => {
                    Some(*reason)
                }
                _ => None,
            })
        };
        if same {
            return Ok(());
        }
        let after: Streams = guest.node().links().streams().collect();
        let from = peer_on(before, conn);
        if from.is_some() && peer_on(&after, conn).is_none() {
            self.looked += 1;
        }
        let gone = |(other, _): &&(Conn, NodeId)| peer_on(&after, *other).is_none();
        for (other, peer) in before.iter().filter(gone) {
            // A frame may bring news of others; damage is of one link.
            let spoilt = matches!(
                reason(*peer),
                None | Some(
                    CloseReason::ProtocolError
                        | CloseReason::RekeyFailed
                        | CloseReason::Reset
                        | CloseReason::Silent
                        | CloseReason::KeyExpired
                        | CloseReason::Idle
                )
            );
            if *other != conn && spoilt && from != Some(*peer) {
                return Err(format!(
                    "bytes on {conn:?} cost node {} its link with {peer:?}",
                    step.node
                ));
            }
        }
        Ok(())
    }
}

impl<G: HasNode> Checker<G> for Forgery {
    fn property(&self) -> &'static str {
        "C133"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn before_step(&mut self, world: &World<G>, node: u32, input: &Input) {
        (self.before, self.linked) = (None, None);
        let Some(guest) = world.guest(node) else {
            return;
        };
        match input {
            Input::Datagram(bytes) => {
                let links = guest.node().links();
                if !links.opens(bytes) {
                    let count = links.counters().get(Counter::DatagramsIn);
                    self.before = Some((guest.digest(), count, guest.deadline()));
                }
            }
            Input::Bytes { .. } => {
                let streams = guest.node().links().streams().collect();
                self.linked = Some((streams, guest.deadline()));
            }
            _ => {}
        }
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        if let (Some((before, due)), Input::Bytes { conn, .. }) = (self.linked.take(), step.input)
            && due > step.local
        {
            return self.judge_stream(world, step, *conn, &before);
        }
        let (Some(guest), Input::Datagram(bytes), Some((digest_before, count_before, due))) =
            (world.guest(step.node), step.input, self.before.take())
        else {
            return Ok(());
        };
        let count = guest.node().links().counters().get(Counter::DatagramsIn);
        // A timer that was due may act as well, and is no answer to the datagram.
        let refused = count == count_before && due > step.local;
        self.looked += u64::from(refused);
        if refused && (guest.digest() != digest_before || !step.outputs.is_empty()) {
            return Err(format!(
                "node {} changed by a refused datagram of {} bytes",
                step.node,
                bytes.len()
            ));
        }
        Ok(())
    }
}
