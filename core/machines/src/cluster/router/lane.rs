//! What was sent to one session of one peer and has no outcome yet (C82–C84).
//!
//! Numbers rise along the lane, and so does how far each frame has come:
//!
//! ```text
//!   confirmed │ written to a link │ given to the links │ waiting here for a link │
//!  ───────────┼───────────────────┼────────────────────┼─────────────────────────┼─► number
//!           front              written               given                      next
//! ```

use std::collections::VecDeque;

use crate::cluster::ids::{ActorId, CallId, Session};
use crate::cluster::wire::UserFrame;

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// A message.
    Send { call: CallId, tracked: bool },
    /// A request.
    Ask { request: u64 },
    /// An answer.
    Reply,
}

/// One frame without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Item {
    pub(super) number: u64,
    pub(super) bytes: u32,
    pub(super) from: ActorId,
    pub(super) what: What,
}

/// The frames to one session of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) session: Session,
    /// The first number not used.
    pub(super) next: u64,
    written: u64,
    given: u64,
    /// Whether the numbers count for the instance that the peer was last linked in.
    pub(super) bound: bool,
    items: VecDeque<Item>,
    waiting: VecDeque<UserFrame>,
    /// Bytes of the items that are not written.
    queued_bytes: u64,
}

impl Lane {
    pub(super) const fn new(session: Session) -> Self {
        Self {
            session,
            next: 1,
            written: 0,
            given: 0,
            bound: false,
            items: VecDeque::new(),
            waiting: VecDeque::new(),
            queued_bytes: 0,
        }
    }

    /// The number of items without an outcome.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) const fn queued_bytes(&self) -> u64 {
        self.queued_bytes
    }

    /// The number of items that are not written.
    pub(super) fn queued(&self) -> usize {
        self.items.len() - self.place(self.written)
    }

    /// The place behind the item with `number`, or where it would be.
    fn place(&self, number: u64) -> usize {
        // Most often everything, or nothing, is up to there.
        match (self.items.front(), self.items.back()) {
            (Some(_), Some(last)) if last.number <= number => self.items.len(),
            (Some(first), Some(_)) if first.number > number => 0,
            (Some(_), Some(_)) => self.items.partition_point(|item| item.number <= number),
            (None, _) | (_, None) => 0,
        }
    }

    /// Adds a frame for the next number, which it carries; `waits` keeps it here.
    pub(super) fn push(&mut self, from: ActorId, bytes: u32, what: What) -> u64 {
        let number = self.next;
        self.next += 1;
        self.queued_bytes += u64::from(bytes);
        self.items.push_back(Item {
            number,
            bytes,
            from,
            what,
        });
        number
    }

    /// Notes that the last number was given to the links.
    pub(super) const fn gave(&mut self, number: u64) {
        self.given = number;
    }

    /// Keeps the frame of the last number until there is a link.
    pub(super) fn wait(&mut self, frame: UserFrame) {
        self.waiting.push_back(frame);
    }

    /// Takes the frames that wait for a link, in order.
    pub(super) fn take_waiting(&mut self) -> VecDeque<UserFrame> {
        std::mem::take(&mut self.waiting)
    }

    /// Notes that a frame, and all before it, was written.
    pub(super) fn wrote(&mut self, number: u64) {
        if number <= self.written || number > self.given {
            return;
        }
        let span = self.place(self.written)..self.place(number);
        let bytes = self.items.range(span).map(|item| u64::from(item.bytes));
        self.queued_bytes -= bytes.sum::<u64>();
        self.written = number;
    }

    /// Takes the items that a Confirm or a Hello says were accepted.
    pub(super) fn take_accepted(&mut self, upto: u64) -> Vec<Item> {
        let end = self.place(upto.min(self.written));
        self.items.drain(..end).collect()
    }

    /// Takes a written item that was bounced.
    pub(super) fn take_bounced(&mut self, number: u64) -> Option<Item> {
        let end = self.place(number.min(self.written));
        let at = end.checked_sub(1)?;
        let hit = self.items.get(at)?.number == number;
        hit.then(|| self.items.remove(at))?
    }

    /// Takes the written items that the peer says it has not accepted.
    pub(super) fn take_lost(&mut self, seen: u64) -> Vec<Item> {
        let (start, end) = (self.place(seen), self.place(self.written));
        self.items.drain(start.min(end)..end).collect()
    }

    /// Takes the items that were never written, and drops their frames.
    pub(super) fn take_unwritten(&mut self) -> Vec<Item> {
        self.waiting.clear();
        self.queued_bytes = 0;
        let start = self.place(self.written);
        self.items.drain(start..).collect()
    }

    /// Takes the written items; their fate is not known.
    pub(super) fn take_written(&mut self) -> Vec<Item> {
        let end = self.place(self.written);
        self.items.drain(..end).collect()
    }

    /// Takes an item that is not written, and will not be.
    pub(super) fn withdraw(&mut self, number: u64) -> Option<Item> {
        let at = self.place(number).checked_sub(1)?;
        let hit = self.items.get(at)?.number == number && number > self.written;
        let item = hit.then(|| self.items.remove(at))??;
        self.queued_bytes -= u64::from(item.bytes);
        Some(item)
    }

    /// Binds the lane to an instance that has seen, or used, all numbers below `first`. Returns
    /// the items that cannot be sent to it under their number.
    pub(super) fn bind(&mut self, first: u64) -> Vec<Item> {
        self.bound = true;
        if self.next >= first && self.items.front().is_none_or(|item| item.number >= first) {
            return Vec::new();
        }
        let unusable = self.take_unwritten();
        self.next = self.next.max(first);
        unusable
    }
}
