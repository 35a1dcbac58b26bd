//! A published value: one writer replaces it, readers keep what they have until it changes.
//!
//! # State
//!
//! `current` is version · `SLOTS` + slot. Each slot has a word, the number of readers at it and
//! WRITER in the top bit, and a cell with a shared owner of a value, or nothing.
//!
//! # Invariants
//!
//! 1. Only the writer sets WRITER, and only by exchanging 0: no reader is at the slot then.
//! 2. Under WRITER the cell is the writer's. A reader that finds WRITER takes its count back and
//!    does not look at the cell.
//! 3. The writer never takes the slot that is current. So a reader that has counted itself in,
//!    found no WRITER, and then finds `current` unchanged, is at the value of that version.
//! 4. Versions only grow. (62 bits of them do not run out.)
//!
//! # Orderings
//!
//! | edge | release                     | acquire                      | makes visible             |
//! |------|-----------------------------|------------------------------|---------------------------|
//! | E1   | publish stores `current`    | read loads `current`         | the version and its slot  |
//! | E2   | publish clears WRITER       | a reader counts itself in    | the value; and, with `current` stored in program order before, that an old version is old |
//! | E3   | a reader counts itself out  | publish sets WRITER          | that the value was cloned |
//! | E4   | publish sets WRITER         | a reader counts itself in    | that `current` has moved on |
//!
//! A reader never waits: each retry means that a publication happened. The writer never waits
//! either: if readers are at all other slots, `publish` hands the value back (G259).
//!
//! Checked by `models/tests/snapshot.rs`, which also checks that losing the orderings is noticed.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::atomics::{AtomicBits, AtomicCount, AtomicOf, Atomics, RaceCell, StdAtomics};

/// How many slots a cell has in production; models use 2.
pub const SLOTS: usize = 4;

/// The bit of a slot's word that says that the writer is at it.
const WRITER: u32 = 1 << 31;

/// What writer and readers share.
struct Shared<T, A: Atomics, const N: usize> {
    current: A::U64,
    slots: [Slot<T, A>; N],
}

/// One place for a value.
struct Slot<T, A: Atomics> {
    word: A::U32,
    value: A::Cell<Option<A::Arc<T>>>,
}

/// The one writer of a snapshot.
pub struct Publisher<T, A: Atomics = StdAtomics, const N: usize = SLOTS> {
    shared: A::Arc<Shared<T, A, N>>,
    /// `current`, which only the writer changes.
    current: u64,
}

/// A reader of a snapshot, with the value that it saw last.
pub struct Snapshot<T, A: Atomics = StdAtomics, const N: usize = SLOTS> {
    shared: A::Arc<Shared<T, A, N>>,
    /// `current` when `value` was read.
    seen: u64,
    value: A::Arc<T>,
}

/// Readers are at every slot that is not current. The value comes back; try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy<T>(pub T);

// SAFETY: a cell is read by counted readers or written by the writer, never both (invariants 1 to
// 3), and owners of `T` are cloned and dropped on any thread, so `T` must be both.
unsafe impl<T: Send + Sync, A: Atomics, const N: usize> Sync for Shared<T, A, N> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync, A: Atomics, const N: usize> Send for Shared<T, A, N> {}
// SAFETY: the writer owns a share of what is `Sync`, and a number.
unsafe impl<T: Send + Sync, A: Atomics, const N: usize> Send for Publisher<T, A, N> {}
// SAFETY: a reader owns a share of what is `Sync`, and a share of a `T` that is `Send + Sync`.
unsafe impl<T: Send + Sync, A: Atomics, const N: usize> Send for Snapshot<T, A, N> {}
// SAFETY: `&Snapshot` gives `&T` and clones, both of which may be used on any thread.
unsafe impl<T: Send + Sync, A: Atomics, const N: usize> Sync for Snapshot<T, A, N> {}

/// Creates a published value and returns its writer and a first reader, which may be cloned.
pub fn snapshot<T: Send + Sync>(value: T) -> (Publisher<T>, Snapshot<T>) {
    snapshot_in(value)
}

/// [`snapshot`], in a chosen family of shared memory. Only models name the family.
pub fn snapshot_in<T: Send + Sync, A: Atomics, const N: usize>(
    value: T,
) -> (Publisher<T, A, N>, Snapshot<T, A, N>) {
    const { assert!(N >= 2, "publishing needs a slot that is not current") };
    let value = A::Arc::from(value);
    let mut first = Some(value.clone());
    let shared = A::Arc::from(Shared {
        current: A::U64::new(0),
        slots: std::array::from_fn(|_| Slot {
            word: A::U32::new(0),
            value: A::Cell::new(first.take()),
        }),
    });
    (
        Publisher {
            shared: shared.clone(),
            current: 0,
        },
        Snapshot {
            shared,
            seen: 0,
            value,
        },
    )
}

impl<T, A: Atomics, const N: usize> Shared<T, A, N> {
    /// The slot that `current` names.
    fn slot(&self, current: u64) -> &Slot<T, A> {
        &self.slots[usize::try_from(current % N as u64).expect("the remainder is below N")]
    }
}

impl<T, A: Atomics, const N: usize> Publisher<T, A, N> {
    /// Publishes `value` as the next version. Never waits.
    ///
    /// # Errors
    ///
    /// [`Busy`] carries the value back: readers are at every other slot just now.
    pub fn publish(&mut self, value: T) -> Result<(), Busy<T>> {
        let now = usize::try_from(self.current % N as u64).expect("the remainder is below N");
        let Some(free) = (1..N)
            .map(|step| (now + step) % N)
            .find(|&slot| self.take(slot))
        else {
            return Err(Busy(value));
        };
        let old = self.replace(free, Some(A::Arc::from(value)));
        self.current = (self.current / N as u64 + 1) * N as u64 + free as u64;
        self.shared.current.store(self.current, Release); // E1: the version and its slot.
        drop(old); // Last: it may be long.
        Ok(())
    }

    /// Empties the slots that are not current, so that old values do not linger (G259). Returns
    /// how many values were let go.
    pub fn sweep(&mut self) -> u32 {
        let now = usize::try_from(self.current % N as u64).expect("the remainder is below N");
        let mut emptied = 0;
        for slot in (1..N).map(|step| (now + step) % N) {
            if self.take(slot) && self.replace(slot, None).is_some() {
                emptied += 1;
            }
        }
        emptied
    }

    /// A reader, at the current version.
    pub fn reader(&self) -> Snapshot<T, A, N> {
        let slot = self.shared.slot(self.current);
        // SAFETY: nobody writes to the current slot (invariant 3), and we are the writer.
        let value = slot.value.with(|value| unsafe { (*value).clone() });
        let value = value.expect("the current slot has a value");
        Snapshot {
            shared: self.shared.clone(),
            seen: self.current,
            value,
        }
    }

    /// Sets WRITER on a slot that no reader is at.
    fn take(&self, slot: usize) -> bool {
        // E3: that the last readers have cloned. E4: that `current` has moved on. Relaxed on
        // failure: the slot is left alone.
        self.shared.slots[slot]
            .word
            .compare_exchange(0, WRITER, AcqRel, Relaxed)
            .is_ok()
    }

    /// Replaces the value of a slot that was taken, and clears WRITER.
    fn replace(&self, slot: usize, value: Option<A::Arc<T>>) -> Option<A::Arc<T>> {
        let slot = &self.shared.slots[slot];
        // SAFETY: under WRITER the cell is ours (invariant 2).
        let old = slot
            .value
            .with_mut(|cell| unsafe { std::mem::replace(&mut *cell, value) });
        // E2: the value. A read-modify-write, since readers may have counted themselves in.
        slot.word.fetch_and(!WRITER, Release);
        old
    }
}

impl<T, A: Atomics, const N: usize> Snapshot<T, A, N> {
    /// The newest value, or one that was the newest during the call.
    #[inline]
    pub fn load(&mut self) -> &A::Arc<T> {
        let current = self.shared.current.load(Acquire); // E1: the version and its slot.
        if current != self.seen {
            self.refresh(current);
        }
        &self.value
    }

    /// The value that the last `load` gave.
    pub fn cached(&self) -> &A::Arc<T> {
        &self.value
    }

    /// The version that the last `load` gave: 0, and one more for each publication.
    pub fn version(&self) -> u64 {
        self.seen / N as u64
    }

    /// Takes the value of `current`, or of a later version.
    #[cold]
    fn refresh(&mut self, mut current: u64) {
        loop {
            let slot = self.shared.slot(current);
            // E2: the value. E4: that `current` has moved on, if it has.
            let word = slot.word.fetch_add(1, Acquire);
            // Acquire: E1, for the retry. E2 and E4 put a moved `current` before this load.
            let now = self.shared.current.load(Acquire);
            if word & WRITER == 0 && now == current {
                // SAFETY: we are counted in, and the version is current (invariant 3).
                let value = slot.value.with(|value| unsafe { (*value).clone() });
                slot.word.fetch_sub(1, Release); // E3: that the value was cloned.
                self.value = value.expect("the current slot has a value");
                self.seen = current;
                return;
            }
            slot.word.fetch_sub(1, Relaxed); // Relaxed: the cell was not looked at.
            current = now;
        }
    }
}

impl<T, A: Atomics, const N: usize> Clone for Snapshot<T, A, N> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            seen: self.seen,
            value: self.value.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
