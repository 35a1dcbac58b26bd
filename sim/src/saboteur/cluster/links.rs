//! What links promise, broken: C130–C135.

use machines::Instant;
use machines::cluster::counters::Counter;
use machines::cluster::identity::StaticKey;
use machines::cluster::ids::{Incarnation, Life, NodeId};
use machines::cluster::links::{Epoch, Link, Links, LinksParams, Peer};
use machines::cluster::sealer::{Suite, Window};
use machines::cluster::wire::{DatagramHeader, Features, schema};
use machines::node::Node;
use machines::node::io::{Event, Input, Output};

use crate::guest::{Birth, Cipher};
use crate::saboteur::Saboteur;

/// Does not break anything by itself: its birth was changed.
#[derive(Clone)]
struct Silent;

impl Saboteur<Node> for Silent {
    fn copy(&self) -> Box<dyn Saboteur<Node>> {
        Box::new(self.clone())
    }
}

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

    fn copy(&self) -> Box<dyn Saboteur<Node>> {
        Box::new(self.clone())
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

    fn copy(&self) -> Box<dyn Saboteur<Node>> {
        Box::new(self.clone())
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

    fn copy(&self) -> Box<dyn Saboteur<Node>> {
        Box::new(self.clone())
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

    fn copy(&self) -> Box<dyn Saboteur<Node>> {
        Box::new(self.clone())
    }
}

/// C134: a link that came up is kept a second time.
pub(super) fn keeps_both_dials(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(KeepsBothDials)
}

#[derive(Clone)]
struct KeepsBothDials;

impl Saboteur<Node> for KeepsBothDials {
    fn after(&mut self, node: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        let mut up = None;
        for output in outputs {
            if let Output::Event(Event::LinkUp { peer }) = output {
                up = Some(*peer);
            }
        }
        let peers = &mut node.parts_mut().links.peers;
        if let Some(peer) = up.and_then(|peer| peers.get(&peer)).cloned() {
            peers.insert(NodeId::from_bytes([0xee; 16]), peer);
        }
    }

    fn copy(&self) -> Box<dyn Saboteur<Node>> {
        Box::new(self.clone())
    }
}

/// C135: features are negotiated from another offer than the configured one.
pub(super) fn takes_any_feature(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    let offer = birth.config.links.features ^ Features::KNOWN.0;
    Box::new(TakesAnyFeature { links: Some(Box::new(made(birth, offer))) })
}

#[derive(Clone)]
struct TakesAnyFeature {
    /// What takes the place of the node's links before anything happens.
    links: Option<Box<Links>>,
}

impl Saboteur<Node> for TakesAnyFeature {
    fn before(&mut self, node: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if let Some(links) = self.links.take() {
            *node.parts_mut().links = *links;
        }
        vec![input]
    }

    fn copy(&self) -> Box<dyn Saboteur<Node>> {
        Box::new(self.clone())
    }
}

/// Makes the links of a node that offers `features`.
fn made(birth: &Birth, features: u32) -> Links {
    let config = &birth.config;
    let mut offering = config.links.clone();
    offering.features = features;
    Links::new(LinksParams {
        config: offering,
        cluster: config.cluster.clone(),
        schemas: schema::hashes(),
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
