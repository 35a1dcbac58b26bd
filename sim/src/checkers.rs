//! The properties of the cluster (cluster.md, section 13), each watched by one checker.
//!
//! A checker believes only what it sees itself: inputs, outputs, and read-only views of the nodes.
//! What is true (who is up, what is cut, whose session it is) it takes from the world.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a checker looks at the few inputs and outputs that its property speaks of"
)]

mod answers;
mod bounds;
mod events;
mod limits;
mod links;
mod liveness;
mod membership;
mod messages;
mod names;
mod truth;
mod wire;
mod written;

use machines::node::Node;

use crate::checker::Known;
use crate::guest::Guest;
pub use bounds::Bounds;

/// A guest that is a production node, whatever is wrapped around it.
pub trait HasNode: Guest {
    /// Returns the node.
    fn node(&self) -> &Node;
}

/// Returns the checkers of every property.
#[must_use]
pub fn all<G: HasNode>() -> Known<G> {
    Known::default()
        .with("C130", |setup| Box::new(links::Identity::new(setup)))
        .with("C131", |setup| Box::new(wire::Canary::new(setup)))
        .with("C132", |_| Box::new(wire::Counters::default()))
        .with("C133", |_| Box::new(wire::Forgery::default()))
        .with_quiet("C134", links::link_needs, |setup| Box::new(links::OneLink::new(setup)))
        .with("C135", |_| Box::new(links::Negotiation::default()))
        .with("C136", |_| Box::new(membership::Monotone::default()))
        .with("C137", |_| Box::new(membership::Refuted::default()))
        .with("C138", |setup| Box::new(liveness::Completeness::new(setup)))
        .with_named("C139", |_| Box::new(membership::Accuracy::default()))
        .with_quiet("C140", liveness::lives_needs, |setup| Box::new(liveness::Heal::new(setup)))
        .with_quiet("C141", liveness::heal_needs, |setup| {
            Box::new(liveness::MassRestart::new(setup))
        })
        .with("C142", |setup| Box::new(membership::LeftIsFinal::new(setup)))
        .with("C143", |_| Box::new(events::Grammar::default()))
        .with_quiet("C144", liveness::lives_needs, |setup| {
            Box::new(membership::EqualTables::new(setup))
        })
        .with("C145", |_| Box::new(messages::Fencing::default()))
        .with("C146", |setup| Box::new(messages::AtMostOnce::new(setup)))
        .with("C147", |setup| Box::new(messages::AskOnce::new(setup)))
        .with("C148", |setup| Box::new(names::NoGhosts::new(setup)))
        .with_quiet("C149", names::agreement_needs, |setup| Box::new(names::Agreement::new(setup)))
        .with("C150", |_| Box::new(limits::Caps::default()))
        .with_named("C151", |setup| Box::new(limits::Saturation::new(setup)))
}
