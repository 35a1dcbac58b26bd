//! Credit: how many more messages a full mailbox may be sent, and who waits for one.
//!
//! # State
//!
//! A word, `credits << 1 | WAITERS`; a stack of new waiters, which is lane (b); and the oldest
//! waiter that the receiver has taken from it and could not serve. A waiter is WAITING, GRANTED or
//! GONE. `gone` counts the GONE ones that the receiver has not taken out yet.
//!
//! # Invariants
//!
//! 1. Credits + credits taken and not given back = the capacity.
//! 2. A waiter is in the stack before its `fetch_or` sets WAITERS. So a `release` that sees
//!    WAITERS sees the waiter; and a waiter whose `fetch_or` saw a credit serves itself.
//! 3. A waiter leaves WAITING once: to GRANTED by the receiver, with a credit, or to GONE by its
//!    owner. An owner that finds GRANTED owns that credit.
//! 4. Whoever adds a credit while WAITERS is set makes the receiver look: the receiver itself in
//!    `release`, another by waking it (G92).
//! 5. Only the receiver pops the stack and touches `held` (the contract of the unsafe methods).
//! 6. While the receiver releases nothing, at most `GONE_MAX` waiters are GONE, and as many more
//!    as enter at one moment: whoever comes then is told Full and does not enter. So senders that
//!    come again and again, with a short patience, do not fill the memory.
//!
//! # Orderings
//!
//! | edge | release                     | acquire                     | makes visible             |
//! |------|-----------------------------|-----------------------------|---------------------------|
//! | E1   | release adds to the word    | take exchanges the word     | the free slot             |
//! | E2   | a waiter sets WAITERS       | hand-out clears it          | the waiter in the stack   |
//! | E3   | the receiver grants         | the owner reads its state   | the free slot, as E1      |
//! | E4   | a cancelled owner adds      | hand-out takes              | that there is a credit    |
//!
//! Every access to the word but one is a read-modify-write, so the two sides are ordered by it and
//! no fence is needed (G91). `gone` orders nothing: it is a bound, and may be a moment old.
//!
//! Checked by `models/tests/credit.rs`, which also checks that losing the orderings is noticed.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::task::{Context, Poll};

use crate::atomics::{AtomicBits, AtomicCount, AtomicOf, Atomics, RaceCell, StdAtomics};
use crate::lane::{Lane, Line, Pop};
use crate::stack::Stack;
use crate::waker::WakerSlot;

/// The bit that says that somebody may be waiting.
const WAITERS: u64 = 1;
/// One credit in the word.
const ONE: u64 = 2;

/// In the queue.
const WAITING: u8 = 0;
/// Has a credit.
const GRANTED: u8 = 1;
/// Does not want one any more.
const GONE: u8 = 2;

/// The most waiters that may be GONE and still in the queue, before newcomers are turned away.
const GONE_MAX: u64 = 1_024;
/// A count above it is one below 0: a subtraction was seen before its addition.
const GONE_SANE: u64 = u64::MAX / 2;

/// The credits of one mailbox.
pub struct Credit<A: Atomics = StdAtomics> {
    word: Line<A::U64>,
    arrivals: Stack<Ticket<A>, A>,
    held: A::Cell<Option<Ticket<A>>>,
    gone: A::U64,
}

/// One who waits.
struct Waiter<A: Atomics> {
    state: A::U8,
    task: WakerSlot<A>,
    _mark: A::LeakMark,
}

/// A share of a waiter.
struct Ticket<A: Atomics>(A::Arc<Waiter<A>>);

/// A wait for one credit: where the sender's side of it stands.
pub struct Wait<A: Atomics = StdAtomics> {
    waiter: Option<Ticket<A>>,
}

/// What a wait came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granted {
    /// One credit is the caller's.
    Yes,
    /// The mailbox is closed; there is nothing to wait for.
    Closed,
    /// Too many gave up since the receiver last released a credit; come back later.
    Full,
}

// SAFETY: a waiter is atomics and a waker slot, which are shared safely.
unsafe impl<A: Atomics> Send for Ticket<A> {}
// SAFETY: as above.
unsafe impl<A: Atomics> Sync for Ticket<A> {}
// SAFETY: a wait has a share of a waiter.
unsafe impl<A: Atomics> Send for Wait<A> {}
// SAFETY: `held` has one user (invariant 5); the rest is shared safely.
unsafe impl<A: Atomics> Sync for Credit<A> {}
// SAFETY: as above.
unsafe impl<A: Atomics> Send for Credit<A> {}

impl<A: Atomics> Credit<A> {
    /// Creates `capacity` credits.
    pub fn new(capacity: u32) -> Self {
        Self {
            word: Line(A::U64::new(u64::from(capacity) * ONE)),
            arrivals: Stack::new(),
            held: A::Cell::new(None),
            gone: A::U64::new(0),
        }
    }

    /// How many credits are free just now.
    pub fn free(&self) -> u64 {
        self.word.0.load(Relaxed) / ONE // Relaxed: an approximate answer.
    }

    /// Takes a credit, if there is one and nobody waits: newcomers do not overtake.
    #[inline]
    pub fn try_take(&self) -> bool {
        self.take_if(|word| word >= ONE && word & WAITERS == 0)
    }

    /// Takes a credit while `allowed` says so of the word.
    #[inline]
    fn take_if(&self, allowed: impl Fn(u64) -> bool) -> bool {
        let mut word = self.word.0.load(Relaxed); // A first guess: the exchange decides.
        while allowed(word) {
            // E1, E4: the free slot. Relaxed on failure: only the next exchange decides.
            match self.word.0.compare_exchange_weak(word, word - ONE, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Gives a credit back that its owner does not use. True: the caller must wake the receiver,
    /// which will hand it on (invariant 4).
    #[must_use = "a credit given back while others wait is handed on by the receiver"]
    pub fn give_back(&self) -> bool {
        self.word.0.fetch_add(ONE, AcqRel) & WAITERS != 0 // E4: that there is a credit.
    }

    /// Adds the credit of a slot that has become free, and hands it on if somebody waits.
    ///
    /// # Safety
    ///
    /// Only the receiver: all calls of `release`, `settle` and `close` on one `Credit` are ordered
    /// by happens-before.
    #[inline]
    pub unsafe fn release(&self) {
        // E1: the free slot.
        if self.word.0.fetch_add(ONE, AcqRel) & WAITERS != 0 {
            // SAFETY: the caller is the receiver.
            unsafe { self.hand_out() };
        }
    }

    /// Hands on credits that were given back. The receiver calls it before it goes to sleep.
    ///
    /// # Safety
    ///
    /// As [`Credit::release`].
    #[inline]
    pub unsafe fn settle(&self) {
        // Acquire: the wake that brought us here follows the addition that it was about, so the
        // load sees both bits; E4.
        let word = self.word.0.load(Acquire);
        if word & WAITERS != 0 && word >= ONE {
            // SAFETY: the caller is the receiver.
            unsafe { self.hand_out() };
        }
    }

    /// Tells all who wait that the mailbox is closed: they are granted, try, and are refused.
    ///
    /// # Safety
    ///
    /// As [`Credit::release`].
    pub unsafe fn close(&self) {
        // SAFETY: the caller is the receiver, of this stack too (invariant 5).
        unsafe {
            self.arrivals.close();
            while let Some(waiter) = self.next() {
                waiter.0.grant();
            }
        }
    }

    /// Grants credits to waiters, oldest first, until one of the two runs out.
    ///
    /// # Safety
    ///
    /// As [`Credit::release`].
    #[cold]
    unsafe fn hand_out(&self) {
        loop {
            self.word.0.fetch_and(!WAITERS, AcqRel); // E2: the waiters in the stack.
            // SAFETY: the caller is the receiver.
            let word = if unsafe { self.grant_all() } {
                self.word.0.fetch_or(WAITERS, AcqRel) | WAITERS // E4: a credit given back since.
            } else {
                self.word.0.load(Acquire) // E4. Later waiters see our credits themselves.
            };
            if word & WAITERS == 0 || word < ONE {
                return;
            }
        }
    }

    /// Grants until no waiter or no credit is left; true if a waiter is left.
    ///
    /// # Safety
    ///
    /// As [`Credit::release`].
    unsafe fn grant_all(&self) -> bool {
        // SAFETY: the caller is the receiver (invariant 5).
        while let Some(waiter) = unsafe { self.next() } {
            if !self.take_if(|word| word >= ONE) {
                // SAFETY: `held` is the receiver's (invariant 5).
                self.held.with_mut(|held| unsafe { *held = Some(waiter) });
                return true;
            }
            if !waiter.0.grant() {
                self.gone.fetch_sub(1, Relaxed); // Relaxed: a bound, no more.
                // It has gone: its credit is for the next one. The flag is looked at afterwards.
                let _looked_at_by_hand_out = self.give_back();
            }
        }
        false
    }

    /// Whether too many that gave up are in the queue.
    fn is_littered(&self) -> bool {
        let gone = self.gone.load(Relaxed); // Relaxed: a bound, no more.
        (GONE_MAX..GONE_SANE).contains(&gone)
    }

    /// The waiter that has waited longest.
    ///
    /// # Safety
    ///
    /// As [`Credit::release`].
    unsafe fn next(&self) -> Option<Ticket<A>> {
        // SAFETY: `held` and the stack's receiving side are the receiver's (invariant 5).
        unsafe {
            self.held.with_mut(|held| (*held).take()).or_else(|| match self.arrivals.pop() {
                Pop::Some(waiter) => Some(waiter),
                Pop::Empty | Pop::InFlight | Pop::Closed => None,
            })
        }
    }
}

impl<A: Atomics> Waiter<A> {
    /// Gives the waiter a credit and wakes it; false if it has gone.
    fn grant(&self) -> bool {
        // E3: the free slot. Relaxed on failure: GONE carries nothing.
        if self.state.compare_exchange(WAITING, GRANTED, AcqRel, Relaxed).is_err() {
            return false;
        }
        self.task.wake();
        true
    }
}

impl<A: Atomics> Wait<A> {
    /// A wait that has not begun.
    pub fn new() -> Self {
        Self { waiter: None }
    }

    /// Waits for a credit. After [`Granted::Yes`] the wait is over and the credit the caller's;
    /// after the others the wait has not begun.
    /// `wake_receiver` is called when a credit must be handed on.
    pub fn poll(
        &mut self,
        credit: &Credit<A>,
        cx: &Context<'_>,
        wake_receiver: impl FnOnce(),
    ) -> Poll<Granted> {
        let Some(waiter) = &self.waiter else {
            return self.begin(credit, cx, wake_receiver);
        };
        // SAFETY: only the owner of the wait registers, by `&mut self`.
        unsafe { waiter.0.task.register(cx.waker()) };
        // E3: the free slot.
        if waiter.0.state.load(Acquire) != GRANTED {
            return Poll::Pending;
        }
        self.waiter = None;
        Poll::Ready(Granted::Yes)
    }

    /// Takes a credit at once, or enters the queue.
    fn begin(
        &mut self,
        credit: &Credit<A>,
        cx: &Context<'_>,
        wake_receiver: impl FnOnce(),
    ) -> Poll<Granted> {
        if credit.try_take() {
            return Poll::Ready(Granted::Yes);
        }
        if credit.is_littered() {
            return Poll::Ready(Granted::Full);
        }
        let waiter = Ticket::<A>(A::Arc::from(Waiter {
            state: A::U8::new(WAITING),
            task: WakerSlot::new(),
            _mark: A::LeakMark::default(),
        }));
        // SAFETY: nobody else knows the waiter yet.
        unsafe { waiter.0.task.register(cx.waker()) };
        if credit.arrivals.push(Ticket(waiter.0.clone())).is_err() {
            return Poll::Ready(Granted::Closed);
        }
        self.waiter = Some(waiter);
        // E2: the waiter in the stack (invariant 2).
        let word = credit.word.0.fetch_or(WAITERS, AcqRel);
        if word >= ONE && credit.take_if(|word| word >= ONE) {
            if self.cancel(credit) {
                wake_receiver();
            }
            return Poll::Ready(Granted::Yes);
        }
        Poll::Pending
    }

    /// Ends the wait. True: a credit went back while others wait, and the caller must wake the
    /// receiver (G92).
    #[must_use = "a credit given back while others wait is handed on by the receiver"]
    pub fn cancel(&mut self, credit: &Credit<A>) -> bool {
        let Some(waiter) = self.waiter.take() else {
            return false;
        };
        credit.gone.fetch_add(1, Relaxed); // Relaxed: a bound, no more.
        // E3: the credit, if it was granted meanwhile (invariant 3).
        let granted = waiter.0.state.swap(GONE, AcqRel) == GRANTED;
        if granted {
            credit.gone.fetch_sub(1, Relaxed); // It is out of the queue. Relaxed: as above.
        }
        granted && credit.give_back()
    }
}

impl<A: Atomics> Default for Wait<A> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
