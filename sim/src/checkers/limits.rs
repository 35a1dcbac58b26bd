//! Nothing grows without bound, and bulk does not starve heartbeats: C150, C151.

use machines::cluster::wire::State;

use super::HasNode;
use super::truth::running;
use crate::checker::{Checker, Step};
use crate::world::World;

/// C150: every table and queue stays within its cap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps;

impl<G: HasNode> Checker<G> for Caps {
    fn property(&self) -> &'static str {
        "C150"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let node = guest.node();
        let over = node.sizes().into_iter().find(|(_, size, cap)| size > cap);
        match over {
            Some((what, size, cap)) => Err(format!(
                "node {} holds {size} {what}, at most {cap}",
                step.node
            )),
            None => Ok(()),
        }
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(*self)
    }
}

/// C151: a saturated stream lane raises no suspicion. For scenarios without other faults.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Saturation;

impl<G: HasNode> Checker<G> for Saturation {
    fn property(&self) -> &'static str {
        "C151"
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let suspect = guest
            .node()
            .swim()
            .members()
            .find(|member| member.state == State::Suspect);
        let Some(suspect) = suspect else {
            return Ok(());
        };
        let runs = running(world).any(|(_, other)| other.id() == suspect.node);
        match runs {
            true => Err(format!(
                "node {} suspects {:?} under load",
                step.node, suspect.node
            )),
            false => Ok(()),
        }
    }

    fn copy(&self) -> Box<dyn Checker<G>> {
        Box::new(*self)
    }
}
