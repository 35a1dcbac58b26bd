//! A bounded queue of exactly `capacity` slots, each with a stamp; many senders, popping from any
//! thread.
//!
//! # State
//!
//! A position is `lap << 20 | index`, laps modulo 2⁴². `head` is the position to pop next; `tail`
//! the one to push next, with PARKED in bit 63 and CLOSED in bit 62. A slot's stamp is 2·lap when
//! it is free for that lap, and 2·lap + 1 when it is full; after the pop it is free for the next
//! lap. (Vyukov's stamps count positions, and with one slot "full" and "free for the next" are the
//! same number; doubled, capacity 1 works.)
//!
//! # Invariants
//!
//! 1. The exchange that moves `tail` off a position claims its slot for writing, and happens only
//!    after the slot was seen free for that lap.
//! 2. The exchange that moves `head` off a position claims its slot for reading, and happens only
//!    after the slot was seen full for that lap.
//! 3. Between a claim and its stamp the slot belongs to the claimer alone. Popping alone (no
//!    policy that evicts) a store moves `head`, since nobody else does.
//! 4. `tail − head` is between 0 and the capacity.
//! 5. CLOSED is never cleared, and `tail` does not move under it.
//!
//! # Orderings
//!
//! | edge | release | acquire | makes visible |
//! |---|---|---|---|
//! | E1 | push stores the stamp | pop loads the stamp | the message |
//! | E2 | pop stores the stamp | push loads the stamp | that the slot was read out |
//! | E3 | push exchanges `tail` | push loads `tail` | which slots earlier claimers knew free |
//! | E4 | park exchanges `tail` | the push that replaces PARKED | what the receiver registered |
//! | E5 | push exchanges `tail` | pop, park, close read `tail` | that a slot is claimed |
//! | E6 | pop moves `head` | pop loads `head` | the same for poppers |
//!
//! The specification has Relaxed for a failed exchange of `tail`; here it is Acquire (E3), because
//! under `Block` a stamp that is only stale must not look like a full ring to a credit holder.
//!
//! Checked by `models/tests/ring.rs`, which also checks that losing the orderings is noticed.
//!
//! # Source
//!
//! D. Vyukov, *Bounded MPMC queue*, 1024cores.net.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::atomics::{AtomicBits, AtomicOf, Atomics, RaceCell, StdAtomics};
use crate::lane::{Dropper, Line, Pop, Pushed};

/// The most slots a ring can have (G360).
pub const CAPACITY_MAX: u32 = 1 << 20;

/// Bits of a position that are the index.
const INDEX_BITS: u32 = 20;
/// The index of a position.
const INDEX: u64 = (1 << INDEX_BITS) - 1;
/// One lap.
const LAP: u64 = 1 << INDEX_BITS;
/// A position without the flags.
const POSITION: u64 = CLOSED - 1;
/// `tail`: no more pushes.
const CLOSED: u64 = 1 << 62;
/// `tail`: the receiver waits.
const PARKED: u64 = 1 << 63;
/// Stamps are compared modulo this: twice the number of laps.
const STAMPS: u64 = 1 << (62 - INDEX_BITS + 1);

/// A bounded queue.
pub struct Ring<M, A: Atomics = StdAtomics> {
    tail: Line<A::U64>,
    head: Line<A::U64>,
    slots: Line<Box<[Slot<M, A>]>>,
}

/// A place for one message.
struct Slot<M, A: Atomics> {
    stamp: A::U64,
    message: A::Cell<MaybeUninit<M>>,
    _mark: A::LeakMark,
}

/// Why a push was refused. The message comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused<M> {
    /// No slot is free for this lap. Routine; the ring is unchanged.
    Full(M),
    /// The ring is closed, for ever.
    Closed(M),
}

/// How a stamp compares with the one that was looked for.
enum Stamp {
    /// The slot is as expected.
    Due,
    /// The slot is still in an earlier state.
    Behind,
    /// The slot has gone on: the position at hand is stale.
    Ahead,
}

// SAFETY: a slot has one owner at a time (invariants 1 to 3) and hands its message over through
// E1, so sharing the ring only sends `M`.
unsafe impl<M: Send, A: Atomics> Sync for Ring<M, A> {}
// SAFETY: as above; the ring owns its messages.
unsafe impl<M: Send, A: Atomics> Send for Ring<M, A> {}

impl<M, A: Atomics> Ring<M, A> {
    /// Creates an empty ring.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0 or above [`CAPACITY_MAX`]: options are checked before they get here.
    pub fn new(capacity: u32) -> Self {
        Self::starting_at(capacity, 0)
    }

    /// Creates an empty ring whose first lap is `lap`, so that a test can see laps wrap.
    pub(crate) fn starting_at(capacity: u32, lap: u64) -> Self {
        assert!(capacity >= 1, "a ring has a slot");
        assert!(capacity <= CAPACITY_MAX, "an index fits in 20 bits");
        let start = (lap << INDEX_BITS) & POSITION;
        let slots = (0..capacity).map(|_| Slot {
            stamp: A::U64::new(free_stamp(start)),
            message: A::Cell::new(MaybeUninit::uninit()),
            _mark: A::LeakMark::default(),
        });
        Self {
            tail: Line(A::U64::new(start)),
            head: Line(A::U64::new(start)),
            slots: Line(slots.collect()),
        }
    }

    /// How many messages it can hold.
    pub fn capacity(&self) -> u32 {
        u32::try_from(self.slots.0.len()).expect("the constructor took the capacity as a u32")
    }

    /// How many messages are inside, to within the operations in progress (G96).
    pub fn len(&self) -> u32 {
        // Relaxed, both: the answer is approximate by its nature.
        let head = self.count(self.head.0.load(Relaxed));
        let tail = self.count(self.tail.0.load(Relaxed));
        u32::try_from(tail.saturating_sub(head)).map_or(0, |len| len.min(self.capacity()))
    }

    /// Whether nothing is inside, as [`Ring::len`] sees it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every later push is refused.
    pub fn is_closed(&self) -> bool {
        // Relaxed: CLOSED is final (invariant 5), so a stale answer is that of an instant ago.
        self.tail.0.load(Relaxed) & CLOSED != 0
    }

    /// How many positions come before this one.
    fn count(&self, position: u64) -> u64 {
        let lap = (position & POSITION) >> INDEX_BITS;
        lap.wrapping_mul(u64::from(self.capacity())).wrapping_add(position & INDEX)
    }

    /// The position after `position`, without flags.
    #[inline]
    fn after(&self, position: u64) -> u64 {
        let next = (position & POSITION) + 1;
        if next & INDEX == self.slots.0.len() as u64 {
            ((next & !INDEX) + LAP) & POSITION
        } else {
            next & POSITION
        }
    }

    /// The slot of a position.
    #[inline]
    fn slot(&self, position: u64) -> &Slot<M, A> {
        let index = usize::try_from(position & INDEX).expect("20 bits fit in any usize");
        &self.slots.0[index]
    }

    /// Appends a message; any thread. It never waits for a reader: a slot that is being read
    /// counts as full (G93).
    ///
    /// # Errors
    ///
    /// [`Refused`] carries the message back; nothing is changed.
    #[inline]
    pub fn push(&self, message: M) -> Result<Pushed, Refused<M>> {
        let mut tail = self.tail.0.load(Acquire); // E3.
        loop {
            if tail & CLOSED != 0 {
                return Err(Refused::Closed(message));
            }
            let slot = self.slot(tail);
            let free = free_stamp(tail);
            let found = slot.stamp.load(Acquire); // E2: that the slot was read out.
            match compare(found, free) {
                Stamp::Due => {
                    let next = self.after(tail);
                    // E5 to the receiver, E3 from and to other pushes, E4 if this replaces PARKED.
                    match self.tail.0.compare_exchange_weak(tail, next, AcqRel, Acquire) {
                        Ok(_) => {
                            slot.message.with_mut(|place| {
                                // SAFETY: the exchange claimed the slot (invariants 1, 3).
                                unsafe { (*place).write(message) };
                            });
                            slot.stamp.store(free | 1, Release); // E1: the message.
                            return Ok(Pushed { wake: tail & PARKED != 0 });
                        }
                        Err(now) => tail = now,
                    }
                }
                Stamp::Behind => {
                    let now = self.tail.0.load(Acquire); // E3.
                    if now == tail {
                        return Err(Refused::Full(message));
                    }
                    tail = now;
                }
                // The push that went ahead of us moved `tail` before it stamped the slot, so the
                // next load sees it moved: another thread has progressed.
                Stamp::Ahead => tail = self.tail.0.load(Acquire), // E3.
            }
        }
    }

    /// Takes the oldest message; any thread.
    pub fn pop(&self) -> Pop<M> {
        let mut head = self.head.0.load(Acquire); // E6.
        loop {
            let slot = self.slot(head);
            let full = free_stamp(head) | 1;
            let found = slot.stamp.load(Acquire); // E1: the message.
            match compare(found, full) {
                Stamp::Due => {
                    // E6 both ways: poppers take turns.
                    match self.head.0.compare_exchange_weak(head, self.after(head), AcqRel, Acquire)
                    {
                        // SAFETY: the exchange claimed the slot (invariants 2, 3).
                        Ok(_) => return Pop::Some(unsafe { Self::take(slot, full) }),
                        Err(now) => head = now,
                    }
                }
                Stamp::Behind => {
                    let now = self.head.0.load(Acquire); // E6.
                    if now == head {
                        return self.absent(head);
                    }
                    head = now;
                }
                // The popper that went ahead of us moved `head` first: another has progressed.
                Stamp::Ahead => head = self.head.0.load(Acquire), // E6.
            }
        }
    }

    /// [`Ring::pop`] for a ring that only one thread pops: no read-modify-write.
    ///
    /// # Safety
    ///
    /// All calls of `pop` and `pop_alone` on this ring are ordered by happens-before.
    #[inline]
    pub unsafe fn pop_alone(&self) -> Pop<M> {
        // SAFETY: the caller's promise is the same.
        unsafe { self.pop_ready() }.map_or_else(
            || self.absent(self.head.0.load(Relaxed)), // Ours alone (invariant 3).
            Pop::Some,
        )
    }

    /// [`Ring::pop_alone`] of what can be read now; it does not find out why if nothing can, and
    /// so leaves alone the word that senders write.
    ///
    /// # Safety
    ///
    /// As [`Ring::pop_alone`].
    #[inline]
    pub unsafe fn pop_ready(&self) -> Option<M> {
        let head = self.head.0.load(Relaxed); // Ours alone (invariant 3).
        let slot = self.slot(head);
        let full = free_stamp(head) | 1;
        // E1: the message.
        if slot.stamp.load(Acquire) != full {
            return None;
        }
        // Relaxed: `len` is the only other reader; E2 hands the slot on.
        self.head.0.store(self.after(head), Relaxed);
        // SAFETY: the slot is full and nobody else pops (invariants 2, 3).
        Some(unsafe { Self::take(slot, full) })
    }

    /// Reads a claimed slot out and stamps it free for the next lap.
    ///
    /// # Safety
    ///
    /// The caller claimed the slot for reading, and reads it once.
    #[inline]
    unsafe fn take(slot: &Slot<M, A>, full: u64) -> M {
        // SAFETY: the slot is full and ours (invariant 3).
        let message = slot.message.with_mut(|place| unsafe { (*place).assume_init_read() });
        slot.stamp.store((full + 1) % STAMPS, Release); // E2: that the slot was read out.
        message
    }

    /// Tells why nothing can be popped at `head`.
    #[cold]
    fn absent(&self, head: u64) -> Pop<M> {
        let tail = self.tail.0.load(Acquire); // E5: that a slot is claimed.
        if tail & POSITION != head {
            Pop::InFlight
        } else if tail & CLOSED != 0 {
            Pop::Closed
        } else {
            Pop::Empty
        }
    }

    /// Marks the ring as waited for. True: the next push will say `wake`.
    pub fn park(&self) -> bool {
        // Relaxed: the exchange below decides. A popper that moved `head` meanwhile proves that
        // there was a message, so failing is right.
        let head = self.head.0.load(Relaxed);
        // E4: what was registered before. On failure E5: the claim that made it fail.
        match self.tail.0.compare_exchange(head, head | PARKED, AcqRel, Acquire) {
            Ok(_) => true,
            Err(now) => now == head | PARKED,
        }
    }

    /// Refuses all later pushes; what is inside can still be popped (G111).
    pub fn close(&self) {
        // E5: pushes that came before are seen; those after see CLOSED (invariant 5).
        self.tail.0.fetch_or(CLOSED, AcqRel);
    }
}

/// The stamp of a slot that is free for the lap of `position`.
#[inline]
fn free_stamp(position: u64) -> u64 {
    ((position & POSITION) >> INDEX_BITS) << 1
}

/// Compares stamps modulo [`STAMPS`].
#[inline]
fn compare(found: u64, looked_for: u64) -> Stamp {
    let ahead = found.wrapping_sub(looked_for) % STAMPS;
    if ahead == 0 {
        Stamp::Due
    } else if ahead < STAMPS / 2 {
        Stamp::Ahead
    } else {
        Stamp::Behind
    }
}

impl<M, A: Atomics> Drop for Ring<M, A> {
    fn drop(&mut self) {
        let mut dropper = Dropper::default();
        while let Pop::Some(message) = self.pop() {
            dropper.drop(message);
        }
        dropper.finish();
    }
}

#[cfg(test)]
mod props;
#[cfg(test)]
pub(crate) mod tests;
