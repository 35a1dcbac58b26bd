//! The port `Atomics`: one family of shared memory, chosen once and hidden from callers.
//!
//! Everything that two threads can touch in this crate goes through this trait, so that loom and
//! shuttle run the very source that production runs. The rules that make their verdicts mean
//! something:
//!
//! - every non-atomic byte that two threads may touch lies in an [`Atomics::Cell`] (G50);
//! - every heap node carries an [`Atomics::LeakMark`], and every reference count whose last drop
//!   frees shared data is an [`Atomics::Arc`] (G50);
//! - no atomic lives in a `static` or a `const` (G51);
//! - `SeqCst` never stands on an access (G52); [`Atomics::fence`] may take it;
//! - a loop that only another thread can end calls [`Atomics::spin_hint`] in each round (G54);
//! - [`AtomicOf::compare_exchange_weak`] stands only in loops whose failure path is also taken
//!   under contention, since the checkers never fail it spuriously (G56).

use std::cell::UnsafeCell;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering,
};

/// One family of shared-memory primitives.
pub trait Atomics: Sized + Copy + Default + Debug + Send + Sync + 'static {
    /// An atomic flag.
    type Bool: AtomicBits<bool>;
    /// An atomic byte: the state of something small.
    type U8: AtomicCount<u8>;
    /// An atomic 32-bit word.
    type U32: AtomicCount<u32>;
    /// An atomic 64-bit word.
    type U64: AtomicCount<u64>;
    /// An atomic count of things in memory.
    type Usize: AtomicCount<usize>;
    /// An atomic pointer.
    type Ptr<T>: AtomicOf<*mut T>;
    /// Data whose exclusivity an algorithm proves.
    type Cell<T>: RaceCell<T>;
    /// A shared owner, where the order of dropping is part of the protocol.
    type Arc<T>: Clone + Deref<Target = T> + From<T>;
    /// A member of every heap node, by which a checker notices a leak.
    type LeakMark: Default;

    /// Orders this thread's accesses as `order` says.
    fn fence(order: Ordering);
    /// Tells the processor, or the model's scheduler, that this thread waits for another.
    fn spin_hint();
    /// Lets other threads run.
    fn yield_now();
}

/// An atomic value.
pub trait AtomicOf<T: Copy>: Send + Sync {
    /// Creates the atomic with a first value.
    fn new(value: T) -> Self;
    /// Reads the value.
    fn load(&self, order: Ordering) -> T;
    /// Replaces the value.
    fn store(&self, value: T, order: Ordering);
    /// Replaces the value and returns the one before.
    fn swap(&self, value: T, order: Ordering) -> T;
    /// Replaces `old` by `new`.
    ///
    /// # Errors
    ///
    /// The value that was there instead of `old`; nothing is changed.
    fn compare_exchange(
        &self,
        old: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T>;
    /// [`AtomicOf::compare_exchange`] that may also fail for no reason.
    ///
    /// # Errors
    ///
    /// The value that was there; nothing is changed.
    fn compare_exchange_weak(
        &self,
        old: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T>;
}

/// An atomic value made of bits.
pub trait AtomicBits<T: Copy>: AtomicOf<T> {
    /// Sets the bits of `bits` and returns the value before.
    fn fetch_or(&self, bits: T, order: Ordering) -> T;
    /// Keeps the bits of `bits` only and returns the value before.
    fn fetch_and(&self, bits: T, order: Ordering) -> T;
}

/// An atomic number.
pub trait AtomicCount<T: Copy>: AtomicBits<T> {
    /// Adds, wrapping, and returns the value before.
    fn fetch_add(&self, amount: T, order: Ordering) -> T;
    /// Subtracts, wrapping, and returns the value before.
    fn fetch_sub(&self, amount: T, order: Ordering) -> T;
}

/// A cell whose accesses a checker can watch.
///
/// The pointer given to a closure must not leave it.
pub trait RaceCell<T>: Sized {
    /// Creates the cell.
    fn new(value: T) -> Self;
    /// Takes the value out.
    fn into_inner(self) -> T;
    /// Reads through a pointer; other readers may do so at the same time.
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R;
    /// Writes through a pointer; nobody else may access the cell meanwhile.
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R;
}

/// The memory of the machine itself: what production uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct StdAtomics;

/// The cell of [`StdAtomics`]: an `UnsafeCell`, whose closures inline to nothing.
#[derive(Debug)]
#[repr(transparent)]
pub struct StdCell<T>(UnsafeCell<T>);

impl Atomics for StdAtomics {
    type Bool = AtomicBool;
    type U8 = AtomicU8;
    type U32 = AtomicU32;
    type U64 = AtomicU64;
    type Usize = AtomicUsize;
    type Ptr<T> = AtomicPtr<T>;
    type Cell<T> = StdCell<T>;
    type Arc<T> = Arc<T>;
    type LeakMark = ();

    #[inline]
    fn fence(order: Ordering) {
        std::sync::atomic::fence(order);
    }

    #[inline]
    fn spin_hint() {
        std::hint::spin_loop();
    }

    #[inline]
    fn yield_now() {
        std::thread::yield_now();
    }
}

impl<T> RaceCell<T> for StdCell<T> {
    #[inline]
    fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline]
    fn into_inner(self) -> T {
        self.0.into_inner()
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    #[inline]
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Implements [`AtomicOf`] by the methods of the same names.
macro_rules! atomic_of {
    ($atomic:ty, $value:ty $(, $param:ident)?) => {
        impl$(<$param>)? AtomicOf<$value> for $atomic {
            #[inline]
            fn new(value: $value) -> Self {
                <$atomic>::new(value)
            }

            #[inline]
            fn load(&self, order: Ordering) -> $value {
                self.load(order)
            }

            #[inline]
            fn store(&self, value: $value, order: Ordering) {
                self.store(value, order);
            }

            #[inline]
            fn swap(&self, value: $value, order: Ordering) -> $value {
                self.swap(value, order)
            }

            #[inline]
            fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(old, new, success, failure)
            }

            #[inline]
            fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange_weak(old, new, success, failure)
            }
        }
    };
}

/// Implements [`AtomicBits`] by the methods of the same names.
macro_rules! atomic_bits {
    ($atomic:ty, $value:ty) => {
        impl AtomicBits<$value> for $atomic {
            #[inline]
            fn fetch_or(&self, bits: $value, order: Ordering) -> $value {
                self.fetch_or(bits, order)
            }

            #[inline]
            fn fetch_and(&self, bits: $value, order: Ordering) -> $value {
                self.fetch_and(bits, order)
            }
        }
    };
}

/// Implements [`AtomicCount`], and what it needs, by the methods of the same names.
macro_rules! atomic_count {
    ($($atomic:ty, $value:ty;)*) => {$(
        atomic_of!($atomic, $value);
        atomic_bits!($atomic, $value);

        impl AtomicCount<$value> for $atomic {
            #[inline]
            fn fetch_add(&self, amount: $value, order: Ordering) -> $value {
                self.fetch_add(amount, order)
            }

            #[inline]
            fn fetch_sub(&self, amount: $value, order: Ordering) -> $value {
                self.fetch_sub(amount, order)
            }
        }
    )*};
}

atomic_of!(AtomicPtr<T>, *mut T, T);
atomic_of!(AtomicBool, bool);
atomic_bits!(AtomicBool, bool);
atomic_count! {
    AtomicU8, u8;
    AtomicU32, u32;
    AtomicU64, u64;
    AtomicUsize, usize;
}

#[cfg(test)]
pub(crate) mod flaky;
#[cfg(test)]
mod tests;
