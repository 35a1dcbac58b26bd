//! Lane (c): linked blocks of slots; one exchange on (block, index) claims a slot.
//!
//! # State
//!
//! `tail` is a block's address and, in its low bits, the index of the next free slot (bits 0–5)
//! and PARKED (bit 6); null means closed. A block has `next`, and in each of its `B` slots a
//! message and `ready`. The receiver has its own position (block, index), and the position of the
//! end once it has closed the lane. `spare` is null or one emptied block, for the next appender.
//!
//! ```text
//!  receiver (block, index)                     tail (block, index) │ PARKED, or null
//!        │                                        │
//!        ▼                                        ▼
//!   ┌─────────┐  next   ┌─────────┐  next   ┌─────────┐
//!   │ ■ ■ ■ ■ │ ──────► │ ■ ■ □ ■ │ ──────► │ ■ □ · · │ ──► null     spare ──► │ · · · · │
//!   └─────────┘         └─────────┘         └─────────┘
//!      ■ ready   □ claimed, not ready   · free
//! ```
//!
//! # Invariants
//!
//! 1. Slot *k* of a block is claimed by exactly one push: the one whose exchange moved `tail` from
//!    (block, k), or whose exchange brought the block in, for k = 0.
//! 2. Before `ready` is 1, a slot belongs to its claimer; afterwards, to the receiver.
//! 3. A block in the list or in `tail` is allocated: only the receiver retires blocks, and only
//!    when all `B` slots were consumed and `next` was read. The store to `next` is the last access
//!    of the last sender to the block (G62).
//! 4. `next` is stored once per life of a block, by the push that moved `tail` off (block, B).
//! 5. The block that a sender writes to is the one that its successful exchange returned or
//!    brought in. A stale `tail` may name a block that was retired and reused; its address is
//!    compared and never followed (G58).
//! 6. Only the receiver makes `spare` non-null; whoever swaps it out owns the block alone.
//! 7. Only the receiver touches its position (the contract of [`Lane`]).
//!
//! # Orderings
//!
//! | edge | release | acquire | makes visible |
//! |---|---|---|---|
//! | E1 | push stores `ready` | pop loads `ready` | the message |
//! | E2 | append stores `next` | pop loads `next` | the new block |
//! | E3 | append exchanges `tail` | push, append exchange `tail` | the new block |
//! | E4 | push, append exchange `tail` | pop loads `tail` | nothing: tells Empty from InFlight |
//! | E5 | park exchanges `tail` | the push that replaces PARKED | what the receiver registered |
//! | E6 | push exchanges `tail` | park fails, close swaps | the block at the end |
//! | E7 | pop stores `spare` | append swaps `spare` | that all is read out |
//!
//! `ready` stands beside its message, not in an array of its own: a receiver that lags by a line
//! then reads lines that no sender writes any more.
//!
//! Checked by `models/tests/segmented.rs`, which also checks that losing the orderings is noticed.
//!
//! # Source
//!
//! Blocks of slots with a flag each, as in crossbeam's `SegQueue` and tokio's `mpsc`; the
//! position in one word, and the end as null, are this project's.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::{MaybeUninit, needs_drop};
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::atomics::{AtomicOf, Atomics, RaceCell, StdAtomics};
use crate::lane::{Backoff, Closed, Dropper, Lane, Line, Pop, Pushed};

/// Bits 0–5 of `tail`: the index of the next free slot.
const INDEX: usize = 0x3f;
/// Bit 6 of `tail`: the receiver waits.
const PARKED: usize = 0x40;
/// What a block's address must leave free: 7 bits.
const BLOCK_ALIGN: usize = 128;

/// Lane (c). `SLOTS` is the size of a block; 0, the default, computes it from the message's size.
pub struct Segmented<M, A: Atomics = StdAtomics, const SLOTS: usize = 0> {
    tail: Line<A::Ptr<Header<A>>>,
    spare: A::Ptr<Header<A>>,
    receiver: Line<A::Cell<Position<A>>>,
    messages: PhantomData<M>,
}

/// The beginning of a block; its slots follow.
struct Header<A: Atomics> {
    next: A::Ptr<Header<A>>,
    _mark: A::LeakMark,
}

/// A place for one message.
struct Slot<M, A: Atomics> {
    message: A::Cell<MaybeUninit<M>>,
    ready: A::U8,
}

/// Where the receiver is.
struct Position<A: Atomics> {
    block: *mut Header<A>,
    index: usize,
    /// `tail` as it was when the lane was closed; null while it is open.
    end: *mut Header<A>,
}

// SAFETY: messages are handed over through E1, a slot has one owner at a time (invariants 1, 2),
// and the receiver's position has one user (invariant 7); so sharing the lane only sends `M`.
unsafe impl<M: Send, A: Atomics, const SLOTS: usize> Sync for Segmented<M, A, SLOTS> {}
// SAFETY: as above; the lane owns its blocks and their messages.
unsafe impl<M: Send, A: Atomics, const SLOTS: usize> Send for Segmented<M, A, SLOTS> {}

impl<M, A: Atomics, const SLOTS: usize> Segmented<M, A, SLOTS> {
    /// How many slots a block has: about 2 KiB of messages, 3 to 62 of them (G65). The
    /// specification has 512 bytes; with messages of 64 bytes that is 8 a block, and the allocator
    /// then costs more than the lane.
    pub const SLOTS: usize = if SLOTS == 0 {
        let size = if size_of::<M>() == 0 { 1 } else { size_of::<M>() };
        let fitting = 2048 / size;
        if fitting < 3 {
            3
        } else if fitting > 62 {
            62
        } else {
            fitting
        }
    } else {
        assert!(SLOTS <= 62, "an index must fit in six bits");
        SLOTS
    };

    /// Where the slots begin in a block, and the whole block. The length is not a type's, since
    /// no array length may depend on `SLOTS`.
    const SHAPE: (usize, Layout) = {
        let align = if align_of::<Slot<M, A>>() > align_of::<Header<A>>() {
            align_of::<Slot<M, A>>()
        } else {
            align_of::<Header<A>>()
        };
        let first = size_of::<Header<A>>().next_multiple_of(align_of::<Slot<M, A>>());
        let bytes = first + Self::SLOTS * size_of::<Slot<M, A>>();
        let align = if align > BLOCK_ALIGN { align } else { BLOCK_ALIGN };
        match Layout::from_size_align(bytes.next_multiple_of(align), align) {
            Ok(layout) => (first, layout),
            Err(_) => panic!("a block is larger than memory"),
        }
    };

    /// Creates an empty lane, with its first block.
    pub fn new() -> Self {
        let block = Self::allocate();
        Self {
            tail: Line(A::Ptr::new(block)),
            spare: A::Ptr::new(ptr::null_mut()),
            receiver: Line(A::Cell::new(Position { block, index: 0, end: ptr::null_mut() })),
            messages: PhantomData,
        }
    }

    /// Allocates an empty block, which nobody else knows.
    fn allocate() -> *mut Header<A> {
        // SAFETY: the layout is not of size zero: a block has a header and a slot at least.
        let raw = unsafe { alloc(Self::SHAPE.1) };
        let Some(block) = NonNull::new(raw.cast::<Header<A>>()) else {
            handle_alloc_error(Self::SHAPE.1)
        };
        let block = block.as_ptr();
        // SAFETY: the memory was just allocated with the layout of a block, and is ours alone.
        unsafe {
            block.write(Header {
                next: A::Ptr::new(ptr::null_mut()),
                _mark: A::LeakMark::default(),
            });
            for index in 0..Self::SLOTS {
                Self::slot(block, index).write(Slot {
                    message: A::Cell::new(MaybeUninit::uninit()),
                    ready: A::U8::new(0),
                });
            }
        }
        block
    }

    /// Frees a block without messages.
    ///
    /// # Safety
    ///
    /// The block came from [`Self::allocate`] and nobody else can reach it (invariant 3 or 6).
    unsafe fn free(block: *mut Header<A>) {
        // SAFETY: the caller owns the block, whose parts were all initialised by `allocate`.
        unsafe {
            if needs_drop::<Slot<M, A>>() {
                for index in 0..Self::SLOTS {
                    Self::slot(block, index).drop_in_place();
                }
            }
            block.drop_in_place();
            dealloc(block.cast(), Self::SHAPE.1);
        }
    }

    /// The address of slot `index`.
    ///
    /// # Safety
    ///
    /// `block` is allocated, and `index` is below `B`.
    #[inline]
    unsafe fn slot(block: *mut Header<A>, index: usize) -> *mut Slot<M, A> {
        // SAFETY: the slots lie inside the block's layout, from `SHAPE.0` on.
        unsafe { block.byte_add(Self::SHAPE.0).cast::<Slot<M, A>>().add(index) }
    }

    /// Moves a message into a slot that this push has claimed.
    ///
    /// # Safety
    ///
    /// The caller claimed slot `index` of `block` (invariant 1) and writes it once.
    #[inline]
    unsafe fn fill(block: *mut Header<A>, index: usize, message: M) {
        // SAFETY: the block lives until all its slots are consumed (invariant 3), and this one
        // is not; until `ready` it is ours (invariant 2).
        unsafe {
            let slot = &*Self::slot(block, index);
            slot.message.with_mut(|place| {
                (*place).write(message);
            });
            slot.ready.store(1, Release); // E1: the message.
        }
    }

    /// Pushes when the block is full: claims the first slot of a new one.
    #[cold]
    fn append(&self, mut tail: *mut Header<A>, message: M) -> Result<Pushed, Closed<M>> {
        let new = self.new_block();
        loop {
            if tail.is_null() || tail.addr() & INDEX != Self::SLOTS {
                // SAFETY: the block was never published, so it is still ours alone.
                unsafe { Self::free(new) };
                return if tail.is_null() { Err(Closed(message)) } else { self.push(message) };
            }
            // E3 both ways: the full block's header is visible to us, the new block to others;
            // E5 if this replaces PARKED. Relaxed on failure: only the next exchange decides.
            let claim = new.map_addr(|address| address | 1);
            match self.tail.0.compare_exchange(tail, claim, AcqRel, Relaxed) {
                Ok(full) => {
                    let block = full.map_addr(|address| address & !(INDEX | PARKED));
                    // SAFETY: the receiver keeps the full block until it has read its `next`,
                    // which only we store (invariants 3, 4); the first slot of the new block is
                    // ours (invariant 1).
                    unsafe {
                        (*block).next.store(new, Release); // E2: the new block.
                        Self::fill(new, 0, message);
                    }
                    return Ok(Pushed { wake: full.addr() & PARKED != 0 });
                }
                Err(now) => tail = now,
            }
        }
    }

    /// An empty block of our own: the spare one if there is one.
    fn new_block(&self) -> *mut Header<A> {
        // Relaxed: a hint; the swap decides.
        if self.spare.load(Relaxed).is_null() {
            return Self::allocate();
        }
        let block = self.spare.swap(ptr::null_mut(), Acquire); // E7: that all is read out.
        if block.is_null() {
            return Self::allocate();
        }
        // SAFETY: whoever swaps the spare out owns it alone (invariant 6), and E7 puts the last
        // reads of the receiver before this.
        unsafe {
            // Relaxed, both: E3 publishes the block anew.
            (*block).next.store(ptr::null_mut(), Relaxed);
            for index in 0..Self::SLOTS {
                (*Self::slot(block, index)).ready.store(0, Relaxed);
            }
        }
        block
    }

    /// Takes the next message, if it is ready.
    ///
    /// # Safety
    ///
    /// `at` is the receiver's position, used by nobody else.
    #[inline]
    unsafe fn take_at(&self, at: &mut Position<A>) -> Option<M> {
        if at.index == Self::SLOTS {
            // SAFETY: the receiver's block is allocated (invariant 3).
            let next = unsafe { (*at.block).next.load(Acquire) }; // E2: the next block.
            if next.is_null() {
                return None;
            }
            // SAFETY: all slots of the block were consumed and `next` was read (invariant 3).
            unsafe { self.retire(at.block) };
            at.block = next;
            at.index = 0;
        }
        // SAFETY: the receiver's block is allocated, and `index` is below `B`.
        let slot = unsafe { &*Self::slot(at.block, at.index) };
        // E1: the message.
        if slot.ready.load(Acquire) == 0 {
            return None;
        }
        at.index += 1;
        // SAFETY: `ready` gives the slot to the receiver (invariant 2), who reads it once, since
        // it has moved on.
        Some(slot.message.with_mut(|message| unsafe { (*message).assume_init_read() }))
    }

    /// Tells why nothing is ready at the receiver's position.
    #[inline(never)]
    fn absent(&self, at: &Position<A>) -> Pop<M> {
        let position = at.block.addr() | at.index;
        if !at.end.is_null() {
            return if at.end.addr() == position { Pop::Closed } else { Pop::InFlight };
        }
        // E4. It decides nothing else: an equal position means that nothing was claimed.
        if self.tail.0.load(Acquire).addr() & !PARKED == position {
            Pop::Empty
        } else {
            Pop::InFlight
        }
    }

    /// Keeps an emptied block for the next appender, or frees it.
    ///
    /// # Safety
    ///
    /// The caller is the receiver; all slots were consumed and `next` was read (invariant 3).
    unsafe fn retire(&self, block: *mut Header<A>) {
        // Relaxed: only the receiver makes `spare` non-null, so null stays null (invariant 6).
        if self.spare.load(Relaxed).is_null() {
            self.spare.store(block, Release); // E7: that all is read out.
        } else {
            // SAFETY: nobody else can reach the block any more (invariant 3).
            unsafe { Self::free(block) };
        }
    }
}

impl<M, A: Atomics, const SLOTS: usize> Lane<M, A> for Segmented<M, A, SLOTS> {
    #[inline]
    fn push(&self, message: M) -> Result<Pushed, Closed<M>> {
        let mut tail = self.tail.0.load(Relaxed); // A first guess: the exchange decides.
        let mut backoff = Backoff::<A>::default();
        loop {
            if tail.is_null() {
                return Err(Closed(message));
            }
            let index = tail.addr() & INDEX;
            if index == Self::SLOTS {
                return self.append(tail, message);
            }
            let next = tail.map_addr(|address| (address & !PARKED) + 1);
            // E3: the block is visible to us, and to those who claim after us; E5 if this
            // replaces PARKED. Relaxed on failure: only the next exchange decides.
            match self.tail.0.compare_exchange_weak(tail, next, AcqRel, Relaxed) {
                Ok(claimed) => {
                    let block = claimed.map_addr(|address| address & !(INDEX | PARKED));
                    // SAFETY: our exchange claimed the slot, and `block` is what it returned
                    // (invariants 1, 5).
                    unsafe { Self::fill(block, index, message) };
                    return Ok(Pushed { wake: claimed.addr() & PARKED != 0 });
                }
                Err(now) => {
                    backoff.wait();
                    tail = now;
                }
            }
        }
    }

    #[inline]
    unsafe fn pop(&self) -> Pop<M> {
        // SAFETY: the caller is the receiver, so the position is ours (invariant 7).
        self.receiver.0.with_mut(|at| unsafe {
            let at = &mut *at;
            self.take_at(at).map_or_else(|| self.absent(at), Pop::Some)
        })
    }

    #[inline]
    unsafe fn pop_ready(&self) -> Option<M> {
        // SAFETY: the caller is the receiver, so the position is ours (invariant 7).
        self.receiver.0.with_mut(|at| unsafe { self.take_at(&mut *at) })
    }

    unsafe fn park(&self) -> bool {
        // SAFETY: the caller is the receiver, so the position is ours (invariant 7).
        self.receiver.0.with(|at| unsafe {
            let at = &*at;
            let open = at.block.map_addr(|address| address | at.index);
            let parked = open.map_addr(|address| address | PARKED);
            // E5: what was registered before, to the push that replaces PARKED. On failure E6:
            // the claim that made it fail, so that the next pop sees at least InFlight.
            match self.tail.0.compare_exchange(open, parked, AcqRel, Acquire) {
                Ok(_) => true,
                Err(now) => now.addr() == parked.addr(),
            }
        })
    }

    unsafe fn close(&self) {
        // SAFETY: the caller is the receiver, so the position is ours (invariant 7).
        self.receiver.0.with_mut(|at| unsafe {
            if (*at).end.is_null() {
                // E6: the blocks up to the end. Later pushes see null and are refused.
                let end = self.tail.0.swap(ptr::null_mut(), AcqRel);
                (*at).end = end.map_addr(|address| address & !PARKED);
            }
        });
    }
}

impl<M, A: Atomics, const SLOTS: usize> Default for Segmented<M, A, SLOTS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M, A: Atomics, const SLOTS: usize> Drop for Segmented<M, A, SLOTS> {
    fn drop(&mut self) {
        let mut dropper = Dropper::default();
        // SAFETY: `&mut self`: there is no sender any more, and the receiver is us.
        self.receiver.0.with_mut(|at| unsafe {
            while let Some(message) = self.take_at(&mut *at) {
                dropper.drop(message);
            }
            Self::free((*at).block);
        });
        // Relaxed: `&mut self` is ordered after every other use of the lane.
        let spare = self.spare.load(Relaxed);
        if !spare.is_null() {
            // SAFETY: the spare block is nobody else's (invariant 6).
            unsafe { Self::free(spare) };
        }
        dropper.finish();
    }
}

#[cfg(test)]
mod props;
#[cfg(test)]
pub(crate) mod tests;
