//! What the run loop needs of a node: the three methods of a machine, and what its users can see.
//!
//! There is one implementation in production, [`Node`](machines::node::Node); tests of the loop
//! bring scripts.

use machines::Instant;
use machines::cluster::ids::Ref;
use machines::cluster::swim::Snapshot;
use machines::cluster::wire::Name;
use machines::node::Node;
use machines::node::io::{Input, Output};

/// The machine of one node.
pub trait Machine: Send + 'static {
    /// Applies `input`; lets every passed deadline act, at the latest at [`Input::Tick`] (C53).
    fn handle(&mut self, now: Instant, input: Input);

    /// Takes the next thing to do; called until it returns `None` after every `handle`.
    fn poll(&mut self) -> Option<Output>;

    /// Returns when to call `handle` at the latest.
    fn deadline(&self) -> Instant;

    /// Returns the membership table as of the last event (C45).
    fn members(&self) -> Snapshot;

    /// Returns the live names that begin with `prefix`, as of the last event (C79).
    fn names(&self, prefix: &str) -> Names;
}

/// Live names, and where the event stream goes on from them (C79).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The index of the first event that is not in the rows.
    pub next: u64,
    /// Name and holder, in the order of the names.
    pub rows: Vec<(Name, Ref)>,
}

impl Machine for Node {
    fn handle(&mut self, now: Instant, input: Input) {
        Self::handle(self, now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        Self::poll(self)
    }

    fn deadline(&self) -> Instant {
        Self::deadline(self)
    }

    fn members(&self) -> Snapshot {
        self.swim().snapshot()
    }

    fn names(&self, prefix: &str) -> Names {
        let (next, rows) = self.registry().snapshot(prefix);
        Names { next, rows }
    }
}
