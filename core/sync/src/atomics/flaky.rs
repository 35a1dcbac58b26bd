//! A family of memory for tests: [`StdAtomics`](super::StdAtomics) whose weak exchanges fail every
//! other time for no reason, and which counts the hints of those who wait.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

use super::{AtomicBits, AtomicCount, AtomicOf, Atomics, StdCell};

thread_local! {
    /// Whether the next weak exchange of this thread fails.
    static FAILS: Cell<bool> = const { Cell::new(true) };
    /// How many hints this thread has given.
    static HINTS: Cell<u32> = const { Cell::new(0) };
}

/// Memory on which weak exchanges do fail spuriously, as the checkers never let them (G56).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flaky;

/// An atomic of [`Flaky`].
#[derive(Debug)]
pub(crate) struct Fails<I>(I);

/// How many hints this thread gave while `body` ran.
pub(crate) fn hints(body: impl FnOnce()) -> u32 {
    let before = HINTS.get();
    body();
    HINTS.get() - before
}

impl Atomics for Flaky {
    type Bool = Fails<AtomicBool>;
    type U8 = Fails<AtomicU8>;
    type U32 = Fails<AtomicU32>;
    type U64 = Fails<AtomicU64>;
    type Usize = Fails<AtomicUsize>;
    type Ptr<T> = Fails<AtomicPtr<T>>;
    type Cell<T> = StdCell<T>;
    type Arc<T> = Arc<T>;
    type LeakMark = ();

    fn fence(order: Ordering) {
        std::sync::atomic::fence(order);
    }

    fn spin_hint() {
        HINTS.set(HINTS.get() + 1);
    }

    fn yield_now() {
        std::thread::yield_now();
    }
}

impl<T: Copy, I: AtomicOf<T>> AtomicOf<T> for Fails<I> {
    fn new(value: T) -> Self {
        Self(I::new(value))
    }

    fn load(&self, order: Ordering) -> T {
        self.0.load(order)
    }

    fn store(&self, value: T, order: Ordering) {
        self.0.store(value, order);
    }

    fn swap(&self, value: T, order: Ordering) -> T {
        self.0.swap(value, order)
    }

    fn compare_exchange(
        &self,
        old: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T> {
        self.0.compare_exchange(old, new, success, failure)
    }

    fn compare_exchange_weak(
        &self,
        old: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T> {
        if FAILS.replace(!FAILS.get()) {
            return Err(self.0.load(failure));
        }
        self.0.compare_exchange(old, new, success, failure)
    }
}

impl<T: Copy, I: AtomicBits<T>> AtomicBits<T> for Fails<I> {
    fn fetch_or(&self, bits: T, order: Ordering) -> T {
        self.0.fetch_or(bits, order)
    }

    fn fetch_and(&self, bits: T, order: Ordering) -> T {
        self.0.fetch_and(bits, order)
    }
}

impl<T: Copy, I: AtomicCount<T>> AtomicCount<T> for Fails<I> {
    fn fetch_add(&self, amount: T, order: Ordering) -> T {
        self.0.fetch_add(amount, order)
    }

    fn fetch_sub(&self, amount: T, order: Ordering) -> T {
        self.0.fetch_sub(amount, order)
    }
}
