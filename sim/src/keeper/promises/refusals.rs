//! K434: a refusal changes nothing.
//!
//! Where no record is made, the state is what it was. Where some are made while a command is
//! refused, each is of a Tick that was due (K10): what the node drives itself (K290) has turns of
//! its own.

use std::collections::{BTreeMap, BTreeSet};

use machines::kernel::Kernel;
use machines::kernel::event::{Body, Event, KernelEvent};

use crate::keeper::book::Follow;
use crate::keeper::io::{Guest, Number};
use crate::keeper::kernel::{Clerk, kernel_config};
use crate::keeper::{Seen, Watch, World};

/// So many records are remembered, longer than anybody waits for a reply.
const REMEMBERED: u64 = 10_000;

/// The records that were made while a refused command was handled: the first and the last.
#[derive(Clone, Debug)]
struct Made {
    first: u64,
    last: u64,
    asked: String,
}

/// See the file's header.
#[derive(Clone, Debug)]
pub(super) struct ChangeNothing {
    follow: Follow,
    /// Follows the records that are certain.
    kernel: Box<Kernel>,
    /// Records that nothing was due for.
    asked_for: BTreeSet<u64>,
    /// The call that is being handled.
    call: Number,
    /// By call that has no reply yet: the first and the last record made while it was handled.
    made: BTreeMap<Number, (u64, u64)>,
    /// Of refused commands: what is not certain yet.
    refused: Vec<Made>,
}

impl Default for ChangeNothing {
    fn default() -> Self {
        let kernel = Kernel::new(kernel_config()).expect("the configuration is legal");
        Self {
            follow: Follow::default(),
            kernel: Box::new(kernel),
            asked_for: BTreeSet::new(),
            call: 0,
            made: BTreeMap::new(),
            refused: Vec::new(),
        }
    }
}

impl ChangeNothing {
    /// Takes in a record that has become certain.
    fn add(&mut self, record: u64, events: &[Event]) {
        let now = events.first().map(|event| event.time);
        let is_due = self.kernel.next_deadline().is_some_and(|due| Some(due) <= now);
        if !is_due && !events.first().is_some_and(is_of_node) {
            self.asked_for.insert(record);
        }
        for event in events {
            self.kernel.apply(event);
        }
        let oldest = record.saturating_sub(REMEMBERED);
        while self.asked_for.first().is_some_and(|record| *record < oldest) {
            self.asked_for.pop_first();
        }
    }

    /// Looks at the records of refused commands that are certain by now.
    fn judge(&mut self) -> Result<bool, String> {
        let record = self.follow.record();
        let (certain, rest): (Vec<Made>, Vec<Made>) =
            std::mem::take(&mut self.refused).into_iter().partition(|made| made.last <= record);
        self.refused = rest;
        for made in &certain {
            if let Some(own) = self.asked_for.range(made.first..=made.last).next() {
                return Err(format!(
                    "record {own} was made, and nothing was due, by what was refused: {}",
                    made.asked
                ));
            }
        }
        Ok(!certain.is_empty())
    }
}

/// Says whether the node makes such a record by itself.
const fn is_of_node(event: &Event) -> bool {
    matches!(
        event.body,
        Body::Kernel { event: KernelEvent::Started { .. } | KernelEvent::Stopped { .. } }
    )
}

impl Watch<Clerk> for ChangeNothing {
    fn property(&self) -> &'static str {
        "K434"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let certain = self.follow.see(seen);
        let first = (self.follow.record() + 1).saturating_sub(certain.len() as u64);
        for (record, events) in (first..).zip(certain) {
            self.add(record, &events);
        }
        match seen {
            Seen::Called(call, _) => self.call = *call,
            Seen::Handled { request, before, after } if before.0 == after.0 => {
                return match before.1 == after.1 {
                    true => Ok(true),
                    false => Err(format!("no record, and another root, after {request:?}")),
                };
            }
            Seen::Handled { before, after, .. } => {
                self.made.insert(self.call, (before.0 + 1, after.0));
            }
            Seen::Replied { call, request, reply, .. } => {
                let made = self.made.remove(call);
                let is_refused = reply.is_err() && !Clerk::tells_nothing(reply);
                self.refused.extend(made.filter(|_| is_refused).map(|(first, last)| {
                    let asked = format!("{:?}", request.body);
                    Made { first, last, asked }
                }));
            }
            Seen::Died { .. } => {
                self.made.clear();
                self.refused.clear();
            }
            _ => {}
        }
        self.judge()
    }
}
