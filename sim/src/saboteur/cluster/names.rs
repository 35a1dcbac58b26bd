//! What the registry promises, broken: C148, C149.

use std::collections::BTreeMap;
use std::time::Duration;

use machines::Instant;
use machines::cluster::ids::{CallId, Ref};
use machines::cluster::registry::Registry;
use machines::cluster::registry::io::NameEventKind;
use machines::cluster::wire::Name;
use machines::node::Node;
use machines::node::io::{Call, Event, Input, Output, Reply};

use crate::guest::Birth;
use crate::saboteur::Saboteur;

/// C148: copies do not age.
pub(super) fn never_aging(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(NeverAging { looked: BTreeMap::new(), copies: BTreeMap::new() })
}

#[derive(Clone)]
struct NeverAging {
    looked: BTreeMap<CallId, Name>,
    /// The first answer for each name.
    copies: BTreeMap<Name, Ref>,
}

impl Saboteur<Node> for NeverAging {
    fn before(&mut self, _: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if let Input::Call { call, request: Call::Lookup(name) } = &input {
            self.looked.insert(*call, name.clone());
        }
        vec![input]
    }

    fn after(&mut self, _: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        for output in outputs {
            let Output::Reply { call, reply: Reply::Found(found) } = output else {
                continue;
            };
            let Some(name) = self.looked.remove(call) else {
                continue;
            };
            if let Some(holder) = *found {
                self.copies.entry(name.clone()).or_insert(holder);
            }
            *found = self.copies.get(&name).copied();
        }
    }
}

/// C148: a name that is gone is answered for a while yet, but not as long as its ttl.
pub(super) fn keeps_withdrawn(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(KeepsWithdrawn { looked: BTreeMap::new(), copies: BTreeMap::new() })
}

/// How long: much less than a ttl, and more than gossip takes.
const KEPT: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct KeepsWithdrawn {
    looked: BTreeMap<CallId, Name>,
    /// The last answer for each name, and when it was given.
    copies: BTreeMap<Name, (Ref, Instant)>,
}

impl Saboteur<Node> for KeepsWithdrawn {
    fn before(&mut self, _: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if let Input::Call { call, request: Call::Lookup(name) } = &input {
            self.looked.insert(*call, name.clone());
        }
        vec![input]
    }

    fn after(&mut self, _: &mut Node, now: Instant, outputs: &mut Vec<Output>) {
        for output in outputs {
            let Output::Reply { call, reply: Reply::Found(found) } = output else {
                continue;
            };
            let Some(name) = self.looked.remove(call) else {
                continue;
            };
            match *found {
                Some(holder) => {
                    self.copies.insert(name, (holder, now));
                }
                None => {
                    let kept = self.copies.get(&name).filter(|(_, at)| *at + KEPT > now);
                    *found = kept.map(|(holder, _)| *holder);
                }
            }
        }
    }
}

/// C149: nothing that others hold is ever found.
pub(super) fn finds_nothing(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(FindsNothing)
}

#[derive(Clone)]
struct FindsNothing;

impl Saboteur<Node> for FindsNothing {
    fn after(&mut self, node: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        for output in outputs {
            if let Output::Reply { reply: Reply::Found(found), .. } = output {
                *found = found.filter(|holder| holder.node == node.id());
            }
        }
    }
}

/// C149: an owner goes on as if it had not lost its name.
pub(super) fn first_come(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(FirstCome { before: None })
}

#[derive(Clone)]
struct FirstCome {
    /// The registry before this step.
    before: Option<Box<Registry>>,
}

fn is_loss(output: &Output) -> bool {
    matches!(output, Output::Event(Event::Name(event)) if event.kind == NameEventKind::Lost)
}

impl Saboteur<Node> for FirstCome {
    fn before(&mut self, node: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        self.before = Some(Box::new(node.registry().clone()));
        vec![input]
    }

    fn after(&mut self, node: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        if let Some(before) = self.before.take()
            && outputs.iter().any(is_loss)
        {
            *node.parts_mut().registry = *before;
            outputs.retain(|output| !matches!(output, Output::Event(Event::Name(_))));
        }
    }
}
