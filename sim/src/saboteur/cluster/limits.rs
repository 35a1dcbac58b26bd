//! That nothing grows without bound, broken: C150. Each of these nodes has parts that were made
//! with another limit than the node was configured with, and so one table or queue without end.

use std::collections::BTreeSet;

use machines::Instant;
use machines::cluster::config::ClusterConfig;
use machines::cluster::ids::CallId;
use machines::cluster::links::Links;
use machines::cluster::router::Router;
use machines::node::Node;
use machines::node::io::{Call, Input, Output};

use super::links::made;
use crate::guest::Birth;
use crate::saboteur::Saboteur;

/// More than any run reaches.
const NO_END: u32 = 1 << 28;

/// The table of open asks has no end.
pub(super) fn unbounded_asks(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(Boundless::new(birth, |config| config.router.asks_max = NO_END))
}

/// Frames to one peer are remembered without end until they are confirmed.
pub(super) fn unbounded_unconfirmed(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(Boundless::new(birth, |config| config.router.unconfirmed_max = NO_END))
}

/// Bytes wait for a link without end.
pub(super) fn unbounded_queue(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(Boundless::new(birth, |config| config.links.link_queue_bytes_max = NO_END))
}

/// A caller opens endpoints without end, and the node lets it.
pub(super) fn unbounded_endpoints(birth: &mut Birth) -> Box<dyn Saboteur<Node>> {
    let node = Boundless::new(birth, |config| config.router.endpoints_max = NO_END);
    Box::new(Hoarder { node, calls: BTreeSet::new() })
}

/// Above it are the numbers of calls that no client made.
const OWN: u64 = 1 << 63;

/// Opens an endpoint with every call of a client.
#[derive(Clone)]
struct Hoarder {
    node: Boundless,
    /// Its calls that wait for their answer.
    calls: BTreeSet<CallId>,
}

impl Saboteur<Node> for Hoarder {
    fn before(&mut self, node: &mut Node, now: Instant, input: Input) -> Vec<Input> {
        let mut inputs = self.node.before(node, now, input);
        if let Some(Input::Call { call, .. }) = inputs.first() {
            let call = CallId(OWN + call.0);
            self.calls.insert(call);
            inputs.push(Input::Call { call, request: Call::Open });
        }
        inputs
    }

    fn after(&mut self, _: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        // Nobody made these calls, and nobody hears of them.
        outputs.retain(|output| match output {
            Output::Reply { call, .. } => !self.calls.remove(call),
            Output::Dial { .. }
            | Output::Write { .. }
            | Output::Close { .. }
            | Output::Draw { .. }
            | Output::Datagram { .. }
            | Output::StoreSession { .. }
            | Output::Deliver { .. }
            | Output::Event(_)
            | Output::Stop(_) => true,
        });
    }
}

#[derive(Clone)]
struct Boundless {
    /// What takes the place of the node's parts before anything happens.
    parts: Option<Box<(Links, Router)>>,
}

impl Boundless {
    fn new(birth: &Birth, widen: fn(&mut ClusterConfig)) -> Self {
        let mut config = ClusterConfig::clone(&birth.config);
        widen(&mut config);
        let links = made(birth, config.links.clone());
        let router = Router::new(links.node(), birth.session, config.router, &config.links);
        Self { parts: Some(Box::new((links, router))) }
    }
}

impl Saboteur<Node> for Boundless {
    fn before(&mut self, node: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if let Some(parts) = self.parts.take() {
            let (links, router) = *parts;
            *node.parts_mut().links = links;
            *node.parts_mut().router = router;
        }
        vec![input]
    }
}
