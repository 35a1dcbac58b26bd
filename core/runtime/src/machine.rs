//! What the run loop needs of a node: the three methods of a machine, and what its users can see.
//!
//! There is one implementation in production, [`Node`](machines::node::Node); tests of the loop
//! bring scripts.

use machines::Instant;
use machines::cluster::ids::{Addr, Life, NodeId, Ref};
use machines::cluster::wire::{Meta, Name, State};
use machines::node::io::{Input, Output};

/// The machine of one node.
pub trait Machine: Send + 'static {
    /// Lets time pass up to `now`, then applies `input`.
    fn handle(&mut self, now: Instant, input: Input);

    /// Takes the next thing to do; called until it returns `None` after every `handle`.
    fn poll(&mut self) -> Option<Output>;

    /// Returns when to call `handle` at the latest.
    fn deadline(&self) -> Instant;

    /// Returns the membership table as of the last event (C45).
    fn members(&self) -> Members;

    /// Returns the live names that begin with `prefix`, as of the last event (C79).
    fn names(&self, now: Instant, prefix: &str) -> Names;
}

/// The membership table, and where the event stream goes on from it (C45).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The index of the first event that is not in the rows.
    pub next: u64,
    /// One row for each known node, in the order of their ids.
    pub rows: Vec<Member>,
}

/// One row of the membership table (C40).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub node: NodeId,
    /// How new the row is.
    pub life: Life,
    /// What is believed.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// Where it listens, if known.
    pub addr: Option<Addr>,
    /// Its own words.
    pub meta: Meta,
}

/// Live names, and where the event stream goes on from them (C79).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The index of the first event that is not in the rows.
    pub next: u64,
    /// Name and holder, in the order of the names.
    pub rows: Vec<(Name, Ref)>,
}
