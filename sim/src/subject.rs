//! What this program drives: the production node, with its checkers and saboteurs.

use machines::node::Node;

use crate::checkers::{self, HasNode};
use crate::keeper;
use crate::lab::Lab;
use crate::saboteur::{self, Sabotaged, Turned};

/// The machine under test: the production node, behind a place for a saboteur.
pub type Subject = Sabotaged<Node>;

/// Makes the laboratory of this program.
#[must_use]
pub fn lab() -> Lab<Subject> {
    let mut saboteurs = Vec::new();
    saboteurs.extend(saboteur::cluster::all());
    saboteurs.extend(saboteur::membership::all());
    let kind = Turned { inner: (), turn: None };
    Lab { known: checkers::all(), kind, saboteurs, keepers: keeper::lab::all() }
}

impl HasNode for Node {
    fn node(&self) -> &Node {
        self
    }
}

impl<G: HasNode> HasNode for Sabotaged<G> {
    fn node(&self) -> &Node {
        (**self).node()
    }
}

#[cfg(test)]
mod tests;
