//! What this program drives: the production node, with its checkers and saboteurs.

use machines::node::Node;

use crate::checkers::{self, HasNode};
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
    Lab { known: checkers::all(), kind: Turned { inner: (), turn: None }, saboteurs }
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
mod tests {
    use std::collections::BTreeSet;

    use super::lab;

    /// T32: a checker that nobody was seen to break is no checker.
    #[test]
    fn every_property_has_a_checker_and_a_saboteur() {
        let lab = lab();
        let checked: BTreeSet<_> = lab.known.properties().collect();
        let broken: BTreeSet<_> = lab.saboteurs.iter().map(|entry| entry.property).collect();
        assert_eq!(checked, broken);
        let numbers = (130..=151).map(|number| format!("C{number}"));
        assert!(numbers.into_iter().all(|property| checked.contains(property.as_str())));
    }
}
