//! Every call is answered, and once: the part of C146 that is about no call in particular.

use std::collections::BTreeMap;

use machines::cluster::ids::CallId;
use machines::node::io::{Call, Input, Output, Reply};
use machines::time::nanos;

use super::HasNode;
use super::truth::{HoldUps, seconds};
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
    /// When it was made.
    asked: u64,
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
            let (node, now) = (step.node, world.now());
            let due = self.due(now, request);
            self.open.insert(*call, Open { node, epoch, asked: now, due, tracked });
            asked = Some((*call, request));
        }
        for output in step.outputs {
            if let Output::Reply { call, reply } = output {
                self.answer(step.node, world.now(), *call, reply)?;
            }
        }
        match asked {
            Some((call, request)) if self.open.get(&call).is_some_and(|o| o.due == Due::Now) => {
                Err(format!("node {} did not answer {request:?}", step.node))
            }
            _ => Ok(()),
        }
    }

    fn answer(&mut self, node: u32, now: u64, call: CallId, reply: &Reply) -> Result<(), String> {
        let twice = || format!("node {node} answered {call:?} once too often: {reply:?}");
        let open = self.open.get(&call).filter(|open| open.node == node).ok_or_else(twice)?;
        self.answered += 1;
        let open = *open;
        if open.due != Due::Now && self.is_late(&open, now) {
            return Err(format!(
                "node {node} answered {call:?} after {}: {reply:?}",
                seconds(now - open.asked)
            ));
        }
        let number = matches!(reply, Reply::Sent(Ok(_)));
        let is_outcome = matches!(reply, Reply::Outcome(_));
        if is_outcome != (open.due == Due::Outcome) {
            return Err(twice());
        }
        self.open.remove(&call);
        if number && open.tracked {
            self.open.insert(call, Open { due: Due::Outcome, ..open });
        }
        Ok(())
    }

    /// The process of `node` ended: nobody waits for its answers any more.
    pub(super) fn ended(&mut self, node: u32) {
        self.open.retain(|_, open| open.node != node);
    }

    /// Says whether a call is overdue at `now`, through the fault of its node.
    fn is_late(&self, open: &Open, now: u64) -> bool {
        match open.due {
            Due::Now => true,
            Due::Until(due) => due < now && !self.held_up.any(open.node, open.asked, now),
            Due::Outcome | Due::Whenever => false,
        }
    }

    /// Finds a call that should have been answered by now. Outcomes have a rule of their own.
    pub(super) fn overdue<G: HasNode>(&self, world: &World<G>) -> Result<(), String> {
        for (call, open) in &self.open {
            let host = world.host(open.node);
            let lives = host.is_up() && host.epoch() == open.epoch;
            if lives && self.is_late(open, world.now()) {
                return Err(format!("node {} never answered {call:?}", open.node));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::{Subject, lab};

    const SECOND: u64 = 1_000_000_000;

    /// C77: a pause of a minute ago is no excuse; one in the middle of the look-up is.
    #[test]
    fn only_a_hold_up_during_a_look_up_excuses_its_late_answer() {
        let text = "name = \"a\"\nabout = \"b\"\nnodes = 2\nduration = \"5m\"\nquiet = \"1m\"\n\
                    [[fault]]\nkind = \"pause\"\nat = \"10s\"\nfor = \"3s\"\nnodes = [0]\n";
        let scenario = crate::scenario::Scenario::parse("a.toml", text).unwrap();
        let resolved = scenario.resolve(0).unwrap();
        let answers = Answers::new(&resolved.setup::<Subject>(Default::default(), lab().kind));
        let asked_at = |asked| Open {
            node: 0,
            epoch: 1,
            asked,
            due: Due::Until(asked + 2 * SECOND),
            tracked: false,
        };
        let late = |asked, after| answers.is_late(&asked_at(asked), asked + after);
        assert!(late(60 * SECOND, 2 * SECOND + 1));
        assert!(!late(60 * SECOND, 2 * SECOND));
        assert!(!late(9 * SECOND, 4 * SECOND), "it was held up meanwhile");
    }
}
