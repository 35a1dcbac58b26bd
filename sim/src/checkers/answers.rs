//! Every call is answered, and once: the part of C146 that is about no call in particular.

use std::collections::BTreeMap;

use machines::cluster::ids::CallId;
use machines::node::io::{Call, Input, Output, Reply};
use machines::time::nanos;

use super::HasNode;
use super::truth::HoldUps;
use crate::checker::Step;
use crate::world::{Setup, World};

/// What a call still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Its answer, in the very step.
    Now,
    /// Its answer, until then.
    Until(u64),
    /// What became of a tracked send, after its number (C84).
    Outcome,
    /// Its answer, whenever: its node leaves.
    Whenever,
}

/// One call that was not answered in full.
#[derive(Clone, Copy, Debug)]
struct Open {
    node: u32,
    epoch: u32,
    due: Due,
    tracked: bool,
}

/// All calls that wait.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    open: BTreeMap<CallId, Open>,
    held_up: HoldUps,
    lookup: u64,
    /// Calls that were answered.
    pub(super) answered: u64,
}

/// What one step may take beyond a span, on a clock that is one percent slow.
fn grace(span: u64) -> u64 {
    10_000_000 + span / 50
}

impl Answers {
    pub(super) fn new<G: HasNode>(setup: &Setup<G>) -> Self {
        Self {
            open: BTreeMap::new(),
            held_up: HoldUps::new(setup),
            lookup: nanos(setup.config.registry.lookup_timeout),
            answered: 0,
        }
    }

    fn due(&self, now: u64, request: &Call) -> Due {
        let until = |span: u64| Due::Until(now + span + grace(span));
        match request {
            Call::Open
            | Call::Close(_)
            | Call::Register { .. }
            | Call::Renew(_)
            | Call::Unregister(_)
            | Call::Send { .. }
            | Call::Cancel(_)
            | Call::Answer { .. }
            | Call::NotTaken { .. } => Due::Now,
            Call::Lookup(_) => until(self.lookup),
            Call::Ask { wait, .. } => until(nanos(*wait)),
            Call::Leave => Due::Whenever,
        }
    }

    /// Follows one step.
    pub(super) fn follow<G: HasNode>(
        &mut self,
        world: &World<G>,
        step: &Step<'_>,
    ) -> Result<(), String> {
        let mut asked = None;
        if let Input::Call { call, request } = step.input {
            let epoch = world.host(step.node).epoch();
            let tracked = matches!(request, Call::Send { tracked: true, .. });
            let due = self.due(world.now(), request);
            self.open.insert(*call, Open { node: step.node, epoch, due, tracked });
            asked = Some((*call, request));
        }
        for output in step.outputs {
            if let Output::Reply { call, reply } = output {
                self.answer(step.node, *call, reply)?;
            }
        }
        match asked {
            Some((call, request)) if self.open.get(&call).is_some_and(|o| o.due == Due::Now) => {
                Err(format!("node {} did not answer {request:?}", step.node))
            }
            _ => Ok(()),
        }
    }

    fn answer(&mut self, node: u32, call: CallId, reply: &Reply) -> Result<(), String> {
        let twice = || format!("node {node} answered {call:?} once too often: {reply:?}");
        let open = self.open.get_mut(&call).filter(|open| open.node == node).ok_or_else(twice)?;
        self.answered += 1;
        let number = matches!(reply, Reply::Sent(Ok(_)));
        let is_outcome = matches!(reply, Reply::Outcome(_));
        if is_outcome != (open.due == Due::Outcome) {
            return Err(twice());
        }
        match number && open.tracked {
            true => open.due = Due::Outcome,
            false => {
                self.open.remove(&call);
            }
        }
        Ok(())
    }

    /// The process of `node` ended: nobody waits for its answers any more.
    pub(super) fn ended(&mut self, node: u32) {
        self.open.retain(|_, open| open.node != node);
    }

    /// Finds a call that should have been answered by now. Outcomes have a rule of their own.
    pub(super) fn overdue<G: HasNode>(&self, world: &World<G>) -> Result<(), String> {
        for (call, open) in &self.open {
            let host = world.host(open.node);
            let lives = host.is_up() && host.epoch() == open.epoch;
            let late = match open.due {
                Due::Now => true,
                Due::Until(due) => {
                    due < world.now() && !self.held_up.any(open.node, 0, world.now())
                }
                Due::Outcome | Due::Whenever => false,
            };
            if lives && late {
                return Err(format!("node {} never answered {call:?}", open.node));
            }
        }
        Ok(())
    }
}
