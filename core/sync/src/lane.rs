//! What the three lane designs have in common.

use std::any::Any;
use std::marker::PhantomData;
use std::mem::needs_drop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::atomics::Atomics;

/// An unbounded queue from many senders to one receiver, FIFO for each sender (G60).
///
/// Users see only [`Channel`](crate::Channel) and [`Inbox`](crate::Inbox), which keep the promises
/// that the `unsafe` methods ask for. A lane is `Send + Sync` when its messages are `Send`.
pub trait Lane<M, A: Atomics> {
    /// Appends a message; any thread.
    ///
    /// # Errors
    ///
    /// The lane is closed; the message comes back.
    fn push(&self, message: M) -> Result<Pushed, Closed<M>>;

    /// Takes the oldest message.
    ///
    /// # Safety
    ///
    /// Only the receiver may call it: all calls of `pop`, `park` and `close` on one lane are
    /// ordered by happens-before.
    unsafe fn pop(&self) -> Pop<M>;

    /// Takes the oldest message if it can be read now, and does not find out why if not. Where
    /// the reason stands in a word that senders write, reading it costs each of them a miss; so a
    /// receiver that will look again anyway asks this, and [`Lane::pop`] before it parks.
    ///
    /// # Safety
    ///
    /// As [`Lane::pop`].
    unsafe fn pop_ready(&self) -> Option<M> {
        // SAFETY: the caller keeps the promise of `pop`.
        match unsafe { self.pop() } {
            Pop::Some(message) => Some(message),
            Pop::Empty | Pop::InFlight | Pop::Closed => None,
        }
    }

    /// Marks the lane as waited for, after an [`Pop::Empty`]. True: the next push will say `wake`.
    ///
    /// # Safety
    ///
    /// As [`Lane::pop`].
    unsafe fn park(&self) -> bool;

    /// Refuses all later pushes; what is inside can still be popped.
    ///
    /// # Safety
    ///
    /// As [`Lane::pop`].
    unsafe fn close(&self);
}

/// What a push did besides appending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a parked receiver sleeps until it is woken"]
pub struct Pushed {
    /// The receiver was parked: the pusher must wake it (G72).
    pub wake: bool,
}

/// A message that came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed<M>(pub M);

/// What the receiver found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pop<M> {
    /// The oldest message.
    Some(M),
    /// Nothing that happened before the call is left in the lane.
    Empty,
    /// A message was accepted that cannot be read yet. Come back; do not park (G63).
    InFlight,
    /// Closed, and everything that was accepted has been popped.
    Closed,
}

/// Keeps what producers write and what the receiver writes on lines of their own (G65).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line<T>(pub(crate) T);

/// How long a thread waits that lost an exchange: twice as long each time, so that a word which
/// many want stays with each of them for several exchanges.
pub(crate) struct Backoff<A> {
    lost: u32,
    atomics: PhantomData<A>,
}

impl<A: Atomics> Backoff<A> {
    /// The longest wait: 2 to this power hints.
    const MOST: u32 = 6;

    /// Waits after a lost exchange.
    #[cold]
    pub(crate) fn wait(&mut self) {
        for _ in 0..1u32 << self.lost {
            A::spin_hint();
        }
        self.lost = (self.lost + 1).min(Self::MOST);
    }
}

impl<A> Default for Backoff<A> {
    fn default() -> Self {
        Self { lost: 0, atomics: PhantomData }
    }
}

/// Drops values one by one, and lets none of them, by panicking, keep the others (G110).
#[derive(Default)]
pub(crate) struct Dropper {
    first: Option<Box<dyn Any + Send>>,
}

impl Dropper {
    /// Drops `value`; remembers the first panic.
    #[inline]
    pub(crate) fn drop<T>(&mut self, value: T) {
        if !needs_drop::<T>() {
            return;
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(value))) {
            self.first.get_or_insert(panic);
        }
    }

    /// Lets the first panic go on, unless this thread is already unwinding.
    pub(crate) fn finish(self) {
        if let Some(panic) = self.first
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}

#[cfg(test)]
pub(crate) mod suite;
