//! What a [`World`](crate::world::World) drives: the machine of one node, or a stand-in for it.

use std::sync::Arc;

use machines::choices::Answer;
use machines::cluster::config::ClusterConfig;
use machines::cluster::identity::Allowed;
use machines::cluster::ids::{Addr, Instance, Session};
use machines::cluster::swim::io::Seed;
use machines::node::io::{Input, Output};
use machines::{Choices, Instant};

/// How links are sealed in a run (testbed.md, section 11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    /// As in production.
    #[default]
    Real,
    /// Frames and datagrams keep their form; the seal is the identity.
    Null,
}

/// All that a node is given when its process starts.
#[derive(Clone, Debug)]
pub struct Birth {
    /// Its place in the run, from 0.
    pub node: u32,
    /// How many nodes the run has.
    pub nodes: u32,
    /// Its secret key.
    pub secret: [u8; 32],
    /// From the session file, one higher than last time (C7).
    pub session: Session,
    /// Drawn at this start (C9).
    pub instance: Instance,
    /// Where it listens.
    pub addr: Addr,
    /// Whom it links with.
    pub allowed: Arc<Allowed>,
    /// Whom it dials first.
    pub seeds: Vec<Seed>,
    /// Its limits and intervals.
    pub config: Arc<ClusterConfig>,
    /// Its own source of decisions.
    pub choices: Choices,
    /// How its links are sealed.
    pub cipher: Cipher,
}

/// A machine that a world can drive, through the boundary of a production node.
pub trait Guest: Clone + Send + 'static {
    /// What the run wants of its guests beyond a production node's parameters.
    type Kind: Clone + Send + Sync + 'static;

    /// Starts the process of a node.
    fn new(kind: &Self::Kind, now: Instant, birth: Birth) -> Self;

    /// Lets time pass up to `now`, then applies `input`.
    fn handle(&mut self, now: Instant, input: Input);

    /// Takes the next thing to do.
    fn poll(&mut self) -> Option<Output>;

    /// When to call `handle` at the latest.
    fn deadline(&self) -> Instant;

    /// Returns the digest of the whole state.
    fn digest(&self) -> u64;

    /// Takes the answers recorded since the last call, if the choices of its birth record (T12).
    /// A guest that asks nothing has none.
    fn take_recorded(&mut self) -> Vec<Answer> {
        Vec::new()
    }

    /// Returns the public key of `secret`.
    fn public_key(secret: &[u8; 32]) -> [u8; 32];
}
