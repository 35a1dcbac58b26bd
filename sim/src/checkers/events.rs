//! C143: the stream of member events is gapless, follows C44's grammar, and gives the table.

use std::collections::BTreeMap;

use machines::cluster::ids::NodeId;
use machines::cluster::swim::Swim;
use machines::cluster::swim::io::MemberEventKind;
use machines::cluster::wire::State;
use machines::node::io::{Event, Output};

use super::HasNode;
use crate::checker::{Checker, Step};
use crate::world::World;

/// One watcher of one process.
#[derive(Clone, Debug, Default)]
struct Watcher {
    /// The index of the next event.
    next: u64,
    members: BTreeMap<NodeId, State>,
    /// The revision of the table when its rows were last counted through.
    revision: u64,
}

impl Watcher {
    /// Finds a member that a watcher believes in and that is in the table no more: whoever goes
    /// is told of first.
    fn dropped(&mut self, swim: &Swim) -> Option<NodeId> {
        if self.revision == swim.revision() {
            return None;
        }
        self.revision = swim.revision();
        let believed = self.members.iter();
        let believed = believed.filter(|(_, state)| matches!(state, State::Alive | State::Suspect));
        believed.map(|(node, _)| *node).find(|node| swim.member(*node).is_none())
    }
}

/// Reads every process's stream from its first event on.
#[derive(Clone, Debug, Default)]
pub(super) struct Grammar {
    /// (node, its start) → what a watcher knows.
    watchers: BTreeMap<(u32, u32), Watcher>,
    /// Events followed.
    looked: u64,
}

/// What C44's grammar makes of an event; `None` if it does not allow it.
fn follow(held: Option<State>, kind: MemberEventKind) -> Option<State> {
    match (held, kind) {
        (None | Some(State::Dead | State::Left), MemberEventKind::Join)
        | (Some(State::Alive), MemberEventKind::Changed)
        | (Some(State::Suspect), MemberEventKind::Alive) => Some(State::Alive),
        (Some(State::Alive), MemberEventKind::Suspect) => Some(State::Suspect),
        (Some(State::Alive | State::Suspect), MemberEventKind::Dead(_)) => Some(State::Dead),
        (Some(State::Alive | State::Suspect), MemberEventKind::Left) => Some(State::Left),
        _ => None,
    }
}

impl<G: HasNode> Checker<G> for Grammar {
    fn property(&self) -> &'static str {
        "C143"
    }

    fn armed(&self) -> u64 {
        self.looked
    }

    fn after_step(&mut self, world: &World<G>, step: &Step<'_>) -> Result<(), String> {
        let Some(guest) = world.guest(step.node) else {
            return Ok(());
        };
        let watcher = self.watchers.entry((step.node, world.host(step.node).epoch())).or_default();
        let mut touched = Vec::new();
        for output in step.outputs {
            let Output::Event(Event::Member(event)) = output else {
                continue;
            };
            if watcher.next != event.index {
                return Err(format!("event {} comes where {} is due", event.index, watcher.next));
            }
            watcher.next = event.index + 1;
            self.looked += 1;
            let held = watcher.members.get(&event.node).copied();
            let Some(state) = follow(held, event.kind) else {
                return Err(format!(
                    "node {} tells {:?} of {:?}, held {held:?}",
                    step.node, event.kind, event.node
                ));
            };
            watcher.members.insert(event.node, state);
            touched.push(event.node);
        }
        let me = guest.node().id();
        for node in touched.into_iter().filter(|node| *node != me) {
            let told = watcher.members[&node];
            let held = guest.node().swim().member(node).map(|member| member.state);
            // Who is dead and turns out to have left is so without an event (C42).
            let silent = (told, held) == (State::Dead, Some(State::Left));
            if held.is_some_and(|held| held != told) && !silent {
                return Err(format!(
                    "node {} told that {node:?} is {told:?} and holds it {held:?}",
                    step.node
                ));
            }
        }
        match watcher.dropped(guest.node().swim()) {
            Some(node) => Err(format!("node {} dropped {node:?} without a word", step.node)),
            None => Ok(()),
        }
    }

    fn end(&mut self, world: &World<G>) -> Result<(), String> {
        for (place, node) in super::truth::running(world) {
            let key = (place, world.host(place).epoch());
            let Some(watcher) = self.watchers.get(&key) else {
                continue;
            };
            let index = node.swim().snapshot().index;
            if index != watcher.next {
                return Err(format!("node {place}'s table is at {index}, events {}", watcher.next));
            }
            for member in node.swim().members().filter(|member| member.node != node.id()) {
                let told = watcher.members.get(&member.node).copied();
                let gone = matches!(member.state, State::Dead | State::Left);
                let agrees = match told {
                    Some(State::Dead | State::Left) | None => gone,
                    Some(told) => told == member.state,
                };
                if !agrees {
                    return Err(format!(
                        "node {place} holds {:?} {:?} and told {told:?}",
                        member.node, member.state
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machines::cluster::swim::io::DeadCause;

    #[test]
    fn the_grammar_allows_no_death_before_a_join_and_none_twice() {
        let dead = MemberEventKind::Dead(DeadCause::Timeout);
        assert_eq!(follow(None, dead), None);
        assert_eq!(follow(Some(State::Dead), dead), None);
        assert_eq!(follow(Some(State::Suspect), dead), Some(State::Dead));
        assert_eq!(follow(Some(State::Suspect), MemberEventKind::Changed), None);
    }
}
