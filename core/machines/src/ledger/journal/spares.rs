//! The segment prepared in advance, and the removal of what is left of failed ones (L21, L23).
//!
//! ```text
//!            rubbish          none              created           synced
//!   Removing ◄────── Idle ──────────► Creating ────────► Syncing ───────► Ready
//!       └─────────────► ▲                 │ failed          │ failed        │ taken
//!                       └─────────────────┴─────────────────┴───────────────┘
//! ```
//!
//! It has a lane of its own: filling a file with zeros must not hold up the group commit.

use std::collections::VecDeque;

use super::RETRY;
use super::io::{DiskError, Op, Output};
use crate::Instant;
use crate::ledger::segment::File;

/// A prepared file, full of durable zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spare {
    pub(super) number: u64,
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Idle,
    Removing(Op),
    Creating(Op, Spare),
    Syncing(Op, Spare),
    Ready(Spare),
}

/// See the file's header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Spares {
    state: State,
    /// The number of the next file: none is used twice, so that no file is synced again (L24).
    next: u64,
    /// Files of no use.
    rubbish: VecDeque<File>,
    /// When to try again.
    retry: Option<Instant>,
    /// The last try failed for want of room.
    full: bool,
}

impl Spares {
    /// Begins with the files that an earlier process left behind.
    pub(super) fn new(leftovers: &[u64]) -> Self {
        let highest = leftovers.iter().max().copied();
        Self {
            state: State::Idle,
            next: highest.map_or(1, |number| number.wrapping_add(1)),
            rubbish: leftovers.iter().map(|number| File::Spare(*number)).collect(),
            retry: None,
            full: false,
        }
    }

    /// Says whether there was no room for the spare.
    pub(super) const fn is_full(&self) -> bool {
        self.full
    }

    /// Says whether nothing is prepared or being done.
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.state, State::Idle)
    }

    /// When the next try is due. Whatever is out comes first: nothing is tried before it is done.
    pub(super) fn deadline(&self) -> Instant {
        self.retry.filter(|_| self.is_idle()).unwrap_or(Instant::FAR)
    }

    /// Returns what to do next: remove rubbish, or prepare a file of `bytes`.
    pub(super) fn advance(&mut self, now: Instant, bytes: u64, ops: &mut u64) -> Option<Output> {
        if self.retry.is_some_and(|until| now >= until) {
            self.retry = None;
        }
        if !self.is_idle() {
            return None;
        }
        if self.rubbish.is_empty() && self.retry.is_some() {
            return None;
        }
        *ops += 1;
        let op = Op(*ops);
        if let Some(file) = self.rubbish.pop_front() {
            self.state = State::Removing(op);
            return Some(Output::Remove { op, file });
        }
        let spare = Spare { number: self.next, bytes };
        self.next = self.next.wrapping_add(1);
        self.state = State::Creating(op, spare);
        Some(Output::Create { op, file: File::Spare(spare.number), bytes })
    }

    /// Takes the prepared file, if it is ready.
    pub(super) fn take(&mut self) -> Option<Spare> {
        match self.state {
            State::Ready(spare) => {
                self.state = State::Idle;
                Some(spare)
            }
            State::Idle | State::Removing(_) | State::Creating(..) | State::Syncing(..) => None,
        }
    }

    /// Gives a taken file up: it is removed, and never synced again.
    pub(super) fn discard(&mut self, spare: Spare) {
        self.rubbish.push_back(File::Spare(spare.number));
    }

    /// Says whether `op` is one of this lane's.
    pub(super) fn owns(&self, op: Op) -> bool {
        match self.state {
            State::Idle | State::Ready(_) => false,
            State::Removing(own) | State::Creating(own, _) | State::Syncing(own, _) => own == op,
        }
    }

    /// The operation of this lane is done; returns the next one if it follows at once.
    pub(super) fn done(&mut self, ops: &mut u64) -> Option<Output> {
        match self.state {
            State::Idle | State::Ready(_) => None,
            State::Removing(_) => {
                self.state = State::Idle;
                None
            }
            State::Creating(_, spare) => {
                *ops += 1;
                let op = Op(*ops);
                self.state = State::Syncing(op, spare);
                Some(Output::Sync { op, file: File::Spare(spare.number) })
            }
            State::Syncing(_, spare) => {
                self.state = State::Ready(spare);
                self.full = false;
                None
            }
        }
    }

    /// The operation of this lane failed; says whether that was the preparing of a file. What
    /// could not be removed is left: the next recovery tries again.
    pub(super) fn failed(&mut self, now: Instant, error: DiskError) -> bool {
        match self.state {
            State::Idle | State::Ready(_) => false,
            State::Removing(_) => {
                self.state = State::Idle;
                false
            }
            State::Creating(_, spare) | State::Syncing(_, spare) => {
                self.state = State::Idle;
                self.discard(spare);
                self.full = error == DiskError::NoSpace;
                self.retry = Some(now + RETRY);
                true
            }
        }
    }
}
