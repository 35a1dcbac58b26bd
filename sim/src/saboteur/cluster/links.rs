//! What links promise, broken: C130–C135.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a saboteur looks at the few outputs that its promise speaks of"
)]

use machines::Instant;
use machines::cluster::config::LinksConfig;
use machines::cluster::counters::Counter;
use machines::cluster::identity::StaticKey;
use machines::cluster::ids::{Conn, Incarnation, Life};
use machines::cluster::links::{Epoch, Link, Links, LinksParams, Peer};
use machines::cluster::sealer::{Suite, TAG, Window};
use machines::cluster::wire::{CloseReason, DatagramHeader, Features};
use machines::node::Node;
use machines::node::io::{Event, Input, Output};

use crate::build::schemas;
use crate::guest::{Birth, Cipher};
use crate::host::place_of;
use crate::saboteur::Saboteur;

/// Does not break anything by itself: its birth was changed.
#[derive(Clone)]
struct Silent;

impl Saboteur<Node> for Silent {}

/// C131: no byte is sealed, though the run says so.
pub(super) fn unsealed(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    birth.cipher = Cipher::Null;
    Box::new(Silent)
}

/// C130: the allowlist is skipped after the handshake.
pub(super) fn keeps_revoked(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(KeepsRevoked)
}

#[derive(Clone)]
struct KeepsRevoked;

impl Saboteur<Node> for KeepsRevoked {
    fn before(&mut self, _: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if matches!(input, Input::Allowed(_)) {
            return vec![Input::Tick];
        }
        vec![input]
    }
}

fn links(node: &mut Node) -> impl Iterator<Item = &mut Link> {
    node.parts_mut().links.peers.values_mut().filter_map(Peer::link_mut)
}

/// C132: whatever is accepted is forgotten.
pub(super) fn accepts_twice(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(AcceptsTwice)
}

#[derive(Clone)]
struct AcceptsTwice;

impl Saboteur<Node> for AcceptsTwice {
    fn before(&mut self, node: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if matches!(input, Input::Datagram(_)) {
            links(node).for_each(|link| link.epochs.current.sealer.window = Window::new());
        }
        vec![input]
    }
}

/// C132: a counter that sealed a datagram seals the next one too.
pub(super) fn seals_twice(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(SealsTwice)
}

#[derive(Clone)]
struct SealsTwice;

impl Saboteur<Node> for SealsTwice {
    fn after(&mut self, node: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        if outputs.iter().any(|output| matches!(output, Output::Datagram { .. })) {
            for link in links(node) {
                let next = &mut link.epochs.current.sealer.datagram_tx;
                *next = next.saturating_sub(1);
            }
        }
    }
}

/// C133: the window moves, whatever the tag says.
pub(super) fn window_before_tag(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(WindowBeforeTag { came: None })
}

#[derive(Clone)]
struct WindowBeforeTag {
    /// The datagram of this step, and how many were accepted before it.
    came: Option<(DatagramHeader, u64)>,
}

fn accepted(node: &Node) -> u64 {
    node.links().counters().get(Counter::DatagramsIn)
}

fn epoch_of(node: &mut Node, index: u32) -> Option<&mut Epoch> {
    links(node).find_map(|link| link.epochs.by_index(index))
}

impl Saboteur<Node> for WindowBeforeTag {
    fn before(&mut self, node: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if let Input::Datagram(bytes) = &input
            && let Ok((header, _)) = DatagramHeader::split(bytes)
        {
            self.came = Some((header, accepted(node)));
        }
        vec![input]
    }

    fn after(&mut self, node: &mut Node, _: Instant, _: &mut Vec<Output>) {
        let Some((header, before)) = self.came.take() else {
            return;
        };
        if accepted(node) == before
            && let Some(epoch) = epoch_of(node, header.link_index)
            && epoch.sealer.window.check(header.counter).is_ok()
        {
            epoch.sealer.window.accept(header.counter);
        }
    }
}

/// C134: nobody is told that a link is gone before the next one with that peer is up.
pub(super) fn keeps_both_dials(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(KeepsBothDials)
}

#[derive(Clone)]
struct KeepsBothDials;

impl Saboteur<Node> for KeepsBothDials {
    fn after(&mut self, _: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        outputs.retain(|output| !matches!(output, Output::Event(Event::LinkDown { .. })));
    }
}

/// The pair of nodes that [`Unlinked`] keeps apart.
const PAIR: [u32; 2] = [1, 3];

/// Returns the other one of the pair, if this node is of it.
fn partner(birth: &Birth) -> Option<u32> {
    let place = PAIR.iter().position(|node| *node == birth.node)?;
    Some(PAIR[1 - place])
}

/// C134: after its first link with one other node it dials that node no more, and neither does
/// that node dial it; helpers keep both alive for each other.
pub(super) fn drops_dials(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(Unlinked { other: partner(birth), forgets: false, linked: false })
}

/// C134: one of two nodes forgets each link with the other without a word, and does not dial.
pub(super) fn closes_silently(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    let other = partner(birth).filter(|_| birth.node == PAIR[0]);
    Box::new(Unlinked { other, forgets: true, linked: false })
}

#[derive(Clone)]
struct Unlinked {
    other: Option<u32>,
    forgets: bool,
    linked: bool,
}

impl Unlinked {
    /// Finds the link with the other node.
    fn link(&self, node: &Node) -> Option<Conn> {
        let other = self.other?;
        let at = |link: &&Link| place_of(link.hello().addr.udp().ip()).map(|p| p.0) == Some(other);
        node.links().links().find(at).map(Link::conn)
    }
}

impl Saboteur<Node> for Unlinked {
    fn after(&mut self, node: &mut Node, now: Instant, outputs: &mut Vec<Output>) {
        let link = self.link(node);
        let linked = self.linked;
        self.linked |= link.is_some();
        outputs.retain(|output| match output {
            Output::Dial { addr, .. } => {
                !linked || place_of(addr.ip()).map(|(place, _)| place) != self.other
            }
            _ => true,
        });
        if let (true, Some(conn)) = (self.forgets, link) {
            node.handle(now, Input::Closed { conn });
            outputs.extend(std::iter::from_fn(|| node.poll()));
        }
    }
}

/// C131: short records, those of frames that no user sent, go out in clear: no word of a user
/// in them, and still readable.
pub(super) fn control_in_clear(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(ControlInClear)
}

#[derive(Clone)]
struct ControlInClear;

/// A record as long as a keepalive: length, header of a frame, tag.
const SHORT: usize = 2 + 8 + 16;

impl Saboteur<Node> for ControlInClear {
    fn after(&mut self, _: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        for output in outputs {
            if let Output::Write { bytes, .. } = output
                && bytes.len() == SHORT
            {
                bytes[2..].fill(0);
            }
        }
    }
}

/// C131: what is gossiped goes out in clear, with what nodes say of themselves.
pub(super) fn gossip_in_clear(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(GossipInClear)
}

#[derive(Clone)]
struct GossipInClear;

impl Saboteur<Node> for GossipInClear {
    fn after(&mut self, node: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        for output in outputs {
            let Output::Datagram { bytes, .. } = output else {
                continue;
            };
            let Ok((header, _)) = DatagramHeader::split(bytes) else {
                continue;
            };
            let sealed = bytes[DatagramHeader::LEN..].split_last_chunk_mut::<TAG>();
            let epochs = links(node).map(|link| &link.epochs.current);
            let mut epochs = epochs.filter(|epoch| epoch.remote_index == header.link_index);
            if let (Some((text, tag)), Some(epoch)) = (sealed, epochs.next()) {
                // What this end sealed, this end can open; else it stays as it is.
                let _ = Suite::Noise.open(&epoch.sealer.tx, header.nonce(), text, tag);
            }
        }
    }
}

/// C132: a counter that sealed a record of a stream seals the next one too.
pub(super) fn seals_streams_twice(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(SealsStreamsTwice)
}

#[derive(Clone)]
struct SealsStreamsTwice;

impl Saboteur<Node> for SealsStreamsTwice {
    fn after(&mut self, node: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        let writes = |conn: Conn| {
            let to =
                |output: &Output| matches!(output, Output::Write { conn: c, .. } if *c == conn);
            outputs.iter().any(to)
        };
        for link in links(node) {
            if writes(link.conn()) {
                let next = &mut link.epochs.current.sealer.stream_tx;
                *next = next.saturating_sub(1);
            }
        }
    }
}

/// C133: a stream that breaks costs all links.
pub(super) fn closes_all(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(ClosesAll)
}

#[derive(Clone)]
struct ClosesAll;

impl Saboteur<Node> for ClosesAll {
    fn after(&mut self, node: &mut Node, now: Instant, outputs: &mut Vec<Output>) {
        let broken = |output: &Output| {
            let reason = CloseReason::ProtocolError;
            matches!(output, Output::Event(Event::LinkDown { reason: r, .. }) if *r == reason)
        };
        if outputs.iter().any(broken) {
            let conns: Vec<Conn> = node.links().links().map(Link::conn).collect();
            for conn in conns {
                node.handle(now, Input::Closed { conn });
                outputs.extend(std::iter::from_fn(|| node.poll()));
            }
        }
    }
}

/// C135: features are negotiated from another offer than the configured one.
pub(super) fn takes_any_feature(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    let mut links = birth.config.links.clone();
    links.features ^= Features::KNOWN.0;
    Box::new(OtherLinks { links: Some(Box::new(made(birth, links))) })
}

/// C135: features that are required are not asked for.
pub(super) fn requires_nothing(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    let mut links = birth.config.links.clone();
    links.required = 0;
    Box::new(OtherLinks { links: Some(Box::new(made(birth, links))) })
}

/// C135: the least version is spoken, whatever both ends know.
pub(super) fn speaks_the_least(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    let mut links = birth.config.links.clone();
    links.version_max = links.version_min;
    Box::new(OtherLinks { links: Some(Box::new(made(birth, links))) })
}

#[derive(Clone)]
struct OtherLinks {
    /// What takes the place of the node's links before anything happens.
    links: Option<Box<Links>>,
}

impl Saboteur<Node> for OtherLinks {
    fn before(&mut self, node: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if let Some(links) = self.links.take() {
            *node.parts_mut().links = *links;
        }
        vec![input]
    }
}

/// Makes the links of a node with other limits than it was configured.
pub(super) fn made(birth: &Birth, links: LinksConfig) -> Links {
    let config = &birth.config;
    Links::new(LinksParams {
        cluster: config.cluster.clone(),
        schemas: schemas(&links),
        config: links,
        key: StaticKey::from_secret(birth.secret),
        instance: birth.instance,
        life: Life { session: birth.session, incarnation: Incarnation::default() },
        addr: birth.addr,
        allowed: birth.allowed.clone(),
        choices: birth.choices.clone(),
        suite: match birth.cipher {
            Cipher::Real => Suite::Noise,
            Cipher::Null => Suite::Null,
        },
    })
}
