//! A slot for the waker of one task: one registers, any number wake.
//!
//! # State
//!
//! A byte and a cell. WAITING: nobody is at the cell. REGISTERING (bit 0): the owner is. WAKING
//! (bit 1): someone wants to wake; alone, it is the waker that is at the cell.
//!
//! ```text
//!              register                      wake
//!   WAITING ───────────► REGISTERING   WAITING ──────► WAKING ──────► WAITING, waker called
//!      ▲                   │     │                     took the waker out
//!      └───── stored ──────┘     │ wake meanwhile
//!      ▲                         ▼
//!      └── waker called ── REGISTERING │ WAKING
//! ```
//!
//! # Invariants
//!
//! 1. Whoever moves the byte off WAITING owns the cell until it comes back to WAITING: the
//!    registering task from WAITING to REGISTERING, or the one `wake` whose `fetch_or` found
//!    WAITING.
//! 2. A `wake` that finds another state leaves its wish in the byte: the registering task, or the
//!    `wake` that is at the cell, acts after it and so on its behalf.
//! 3. Only one thread registers (the contract of [`WakerSlot::register`]).
//!
//! # Orderings
//!
//! | edge | release                        | acquire                   | makes visible               |
//! |------|--------------------------------|---------------------------|-----------------------------|
//! | E1   | register ends its registration | wake's `fetch_or`         | the waker in the cell; what the task read before it sleeps |
//! | E2   | wake clears WAKING             | register's first exchange | the empty cell              |
//! | E3   | wake's `fetch_or`              | register's exchanges      | what the waking thread wrote before |
//!
//! Every access is a read-modify-write of one byte, so one of two holds: the `wake` is later and
//! finds the waker, or the registration is later and, through E3, what it reads next shows what
//! the `wake` was about (G73).
//!
//! Checked by `models/tests/waker.rs`, which also checks that losing the orderings is noticed.
//!
//! # Source
//!
//! `AtomicWaker` of the futures crate.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::task::Waker;

use crate::atomics::{AtomicBits, AtomicOf, Atomics, RaceCell, StdAtomics};

/// Nobody is at the cell.
const WAITING: u8 = 0;
/// The owner is storing its waker.
const REGISTERING: u8 = 1;
/// A wake was asked for.
const WAKING: u8 = 2;

/// Holds the waker of the task that waits (G70).
pub struct WakerSlot<A: Atomics = StdAtomics> {
    state: A::U8,
    waker: A::Cell<Option<Waker>>,
}

// SAFETY: the cell has one owner at a time (invariant 1), handed on through E1 and E2.
unsafe impl<A: Atomics> Sync for WakerSlot<A> {}
// SAFETY: a `Waker` may be sent, and nothing else is inside.
unsafe impl<A: Atomics> Send for WakerSlot<A> {}

impl<A: Atomics> WakerSlot<A> {
    /// Creates an empty slot.
    pub fn new() -> Self {
        Self {
            state: A::U8::new(WAITING),
            waker: A::Cell::new(None),
        }
    }

    /// Stores `waker` for the next [`WakerSlot::wake`]. A wake that happens at the same time is
    /// answered at once. What the caller reads afterwards is not older than any wake that this
    /// registration missed.
    ///
    /// # Safety
    ///
    /// All calls on one slot are ordered by happens-before: one task owns the slot.
    pub unsafe fn register(&self, waker: &Waker) {
        // E2: the cell as the last wake left it. E3: what missed wakes were about.
        match self
            .state
            .compare_exchange(WAITING, REGISTERING, AcqRel, Acquire)
        {
            Ok(_) => self.store(waker),
            Err(_) => {
                // A `wake` is at the cell; it may have the waker of an earlier poll. Coming back
                // at once is waiting for it.
                waker.wake_by_ref();
                A::spin_hint();
            }
        }
    }

    /// Stores the waker and ends the registration.
    fn store(&self, waker: &Waker) {
        self.waker.with_mut(|slot| {
            // SAFETY: we moved the byte to REGISTERING, so the cell is ours (invariant 1).
            let slot = unsafe { &mut *slot };
            if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
                *slot = Some(waker.clone());
            }
        });
        // E1: the waker. On failure E3: what the wake that came meanwhile was about.
        if self
            .state
            .compare_exchange(REGISTERING, WAITING, AcqRel, Acquire)
            .is_err()
        {
            // SAFETY: WAKING was set, but its setter left the cell to us (invariant 2).
            let stored = self.waker.with_mut(|slot| unsafe { (*slot).take() });
            // E1 for the next owner of the cell; E3 for wakes that set the bit again.
            self.state.swap(WAITING, AcqRel);
            if let Some(stored) = stored {
                stored.wake();
            }
        }
    }

    /// Wakes the task that registered last, if it has not been woken since. Any thread.
    pub fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }

    /// Takes the waker out, for the caller to wake. `None`: nobody waits, or another acts on
    /// our behalf.
    pub fn take(&self) -> Option<Waker> {
        // E3: what we wrote before. E1: the waker.
        if self.state.fetch_or(WAKING, AcqRel) != WAITING {
            return None;
        }
        // SAFETY: our `fetch_or` found WAITING, so the cell is ours (invariant 1).
        let waker = self.waker.with_mut(|slot| unsafe { (*slot).take() });
        self.state.fetch_and(!WAKING, Release); // E2: the empty cell.
        waker
    }
}

impl<A: Atomics> Default for WakerSlot<A> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
