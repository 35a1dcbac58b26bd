//! That nothing grows without bound, broken: C150. Each of these nodes has parts that were made
//! with another limit than the node was configured with, and so one table or queue without end.

use machines::Instant;
use machines::cluster::config::ClusterConfig;
use machines::cluster::links::Links;
use machines::cluster::router::Router;
use machines::node::Node;
use machines::node::io::Input;

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

    fn copy(&self) -> Box<dyn Saboteur<Node>> {
        Box::new(self.clone())
    }
}
