//! What the two lanes of a link promise each other, broken: C151.

use std::collections::{BTreeMap, VecDeque};

use machines::Instant;
use machines::cluster::ids::Conn;
use machines::node::Node;
use machines::node::io::{Input, Output};

use crate::guest::Birth;
use crate::saboteur::Saboteur;

/// C151: a datagram leaves when all stream bytes before it have left.
pub(super) fn behind_bulk(_: &mut Birth) -> Box<dyn Saboteur<Node>> {
    Box::new(BehindBulk::default())
}

#[derive(Clone, Default)]
struct BehindBulk {
    /// Bytes written, and bytes that have left, since the start.
    written: u64,
    left: u64,
    /// What has not left, by stream.
    unsent: BTreeMap<Conn, u64>,
    /// Datagrams, each with the bytes that must leave before.
    held: VecDeque<(u64, Output)>,
}

impl BehindBulk {
    fn leave(&mut self, conn: Conn, count: u64) {
        if let Some(unsent) = self.unsent.get_mut(&conn) {
            let count = count.min(*unsent);
            *unsent -= count;
            self.left += count;
        }
    }

    fn forget(&mut self, conn: Conn) {
        self.left += self.unsent.remove(&conn).unwrap_or(0);
    }

    /// Holds `output` back if it is a datagram.
    fn pass(&mut self, output: Output) -> Option<Output> {
        match &output {
            Output::Write { conn, bytes } => {
                *self.unsent.entry(*conn).or_default() += bytes.len() as u64;
                self.written += bytes.len() as u64;
            }
            Output::Close { conn } => self.forget(*conn),
            Output::Datagram { .. } => {
                self.held.push_back((self.written, output));
                return None;
            }
            Output::Dial { .. }
            | Output::Draw { .. }
            | Output::StoreSession { .. }
            | Output::Reply { .. }
            | Output::Deliver { .. }
            | Output::Event(_)
            | Output::Stop(_) => {}
        }
        Some(output)
    }
}

impl Saboteur<Node> for BehindBulk {
    fn before(&mut self, _: &mut Node, _: Instant, input: Input) -> Vec<Input> {
        if let Input::Wrote { conn, count } = &input {
            self.leave(*conn, u64::from(*count));
        }
        if let Input::Closed { conn } = &input {
            self.forget(*conn);
        }
        vec![input]
    }

    fn after(&mut self, _: &mut Node, _: Instant, outputs: &mut Vec<Output>) {
        let passed = std::mem::take(outputs).into_iter().filter_map(|output| self.pass(output));
        *outputs = passed.collect();
        while self.held.front().is_some_and(|(after, _)| *after <= self.left) {
            outputs.extend(self.held.pop_front().map(|(_, output)| output));
        }
    }
}
