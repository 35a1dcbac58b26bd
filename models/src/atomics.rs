//! Three families of shared memory for the model checkers.

use std::cell::{RefCell, UnsafeCell};
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::atomic::Ordering;

use loom::sync::atomic as loom_atomic;
use shuttle::sync::atomic as shuttle_atomic;
use sync::atomics::{AtomicBits, AtomicCount, AtomicOf, Atomics, RaceCell};

/// loom's memory: explores every value that a load may return.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoomAtomics;

/// shuttle's memory: every ordering is as good as `SeqCst` (G57).
#[derive(Clone, Copy, Debug, Default)]
pub struct ShuttleAtomics;

/// loom's memory, in which the orderings that [`Weakening`] names are `Relaxed`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weak;

/// Which half of an ordering is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// What an acquire gives.
    Acquire,
    /// What a release gives.
    Release,
}

/// A place in the source that names an ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// The source file.
    pub file: &'static str,
    /// The line.
    pub line: u32,
    /// The column, since a line may name two.
    pub column: u32,
}

/// What [`Weak`] loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakening {
    /// Nothing: the family only remembers which orderings were asked for.
    Nothing,
    /// Every ordering in every file.
    Everything,
    /// One half of the ordering at one place.
    At(Site, Half),
}

/// What the twin that runs on this thread loses, and the places that it has met.
struct Twin {
    weakening: Weakening,
    met: Vec<(Site, Half)>,
}

thread_local! {
    // Both checkers run all threads of a model on one OS thread, so this is one per test.
    static TWIN: RefCell<Twin> =
        const { RefCell::new(Twin { weakening: Weakening::Nothing, met: Vec::new() }) };
}

/// Sets what [`Weak`] loses from here on, on this OS thread.
pub fn weaken(weakening: Weakening) {
    TWIN.with_borrow_mut(|twin| twin.weakening = weakening);
}

/// Takes the orderings that [`Weak`] was asked for since the last call.
pub fn met() -> Vec<(Site, Half)> {
    TWIN.with_borrow_mut(|twin| std::mem::take(&mut twin.met))
}

/// What is left of `order` at `caller`.
fn weakened(order: Ordering, caller: &Location<'static>) -> Ordering {
    let site = Site {
        file: caller.file(),
        line: caller.line(),
        column: caller.column(),
    };
    let halves: &[Half] = match order {
        Ordering::Acquire => &[Half::Acquire],
        Ordering::Release => &[Half::Release],
        Ordering::AcqRel => &[Half::Acquire, Half::Release],
        Ordering::Relaxed => &[],
        _ => panic!("an access may not ask for {order:?} (G52)"),
    };
    TWIN.with_borrow_mut(|twin| match twin.weakening {
        Weakening::Nothing => {
            for &half in halves {
                if !twin.met.contains(&(site, half)) {
                    twin.met.push((site, half));
                }
            }
            order
        }
        Weakening::Everything => Ordering::Relaxed,
        Weakening::At(at, half) if at == site && halves.contains(&half) => match (order, half) {
            (Ordering::AcqRel, Half::Acquire) => Ordering::Release,
            (Ordering::AcqRel, Half::Release) => Ordering::Acquire,
            _ => Ordering::Relaxed,
        },
        Weakening::At(..) => order,
    })
}

/// An atomic of a checker: a name of our own, so that our traits can be implemented for it.
#[derive(Debug)]
pub struct Of<X>(X);

/// An atomic that asks the twin which ordering is left.
#[derive(Debug)]
pub struct Weakened<X>(X);

/// loom's cell.
#[derive(Debug)]
pub struct LoomCell<T>(loom::cell::UnsafeCell<T>);

/// shuttle has no cell of its own.
#[derive(Debug)]
pub struct PlainCell<T>(UnsafeCell<T>);

/// loom's leak detector as a member.
#[derive(Debug)]
pub struct Mark(loom::alloc::Track<()>);

impl Default for Mark {
    fn default() -> Self {
        let mark = Self(loom::alloc::Track::new(()));
        mark.0.get_ref();
        mark
    }
}

impl<T> RaceCell<T> for LoomCell<T> {
    #[track_caller]
    fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    fn into_inner(self) -> T {
        self.0.into_inner()
    }

    #[track_caller]
    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        self.0.with(f)
    }

    #[track_caller]
    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(f)
    }
}

impl<T> RaceCell<T> for PlainCell<T> {
    fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    fn into_inner(self) -> T {
        self.0.into_inner()
    }

    fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Implements the traits for `Of<checker's atomic>` by the methods of the same names.
macro_rules! of {
    (@of $atomic:ty, $value:ty $(, $param:ident)?) => {
        impl$(<$param>)? AtomicOf<$value> for Of<$atomic> {
            #[track_caller]
            fn new(value: $value) -> Self {
                Self(<$atomic>::new(value))
            }

            #[track_caller]
            fn load(&self, order: Ordering) -> $value {
                self.0.load(order)
            }

            #[track_caller]
            fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, order);
            }

            #[track_caller]
            fn swap(&self, value: $value, order: Ordering) -> $value {
                self.0.swap(value, order)
            }

            #[track_caller]
            fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange(old, new, success, failure)
            }

            #[track_caller]
            fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange(old, new, success, failure)
            }
        }
    };
    (@bits $atomic:ty, $value:ty) => {
        impl AtomicBits<$value> for Of<$atomic> {
            #[track_caller]
            fn fetch_or(&self, bits: $value, order: Ordering) -> $value {
                self.0.fetch_or(bits, order)
            }

            #[track_caller]
            fn fetch_and(&self, bits: $value, order: Ordering) -> $value {
                self.0.fetch_and(bits, order)
            }
        }
    };
    (@count $atomic:ty, $value:ty) => {
        of!(@of $atomic, $value);
        of!(@bits $atomic, $value);

        impl AtomicCount<$value> for Of<$atomic> {
            #[track_caller]
            fn fetch_add(&self, amount: $value, order: Ordering) -> $value {
                self.0.fetch_add(amount, order)
            }

            #[track_caller]
            fn fetch_sub(&self, amount: $value, order: Ordering) -> $value {
                self.0.fetch_sub(amount, order)
            }
        }
    };
    ($family:ident) => {
        of!(@of $family::AtomicPtr<T>, *mut T, T);
        of!(@of $family::AtomicBool, bool);
        of!(@bits $family::AtomicBool, bool);
        of!(@count $family::AtomicU8, u8);
        of!(@count $family::AtomicU32, u32);
        of!(@count $family::AtomicU64, u64);
        of!(@count $family::AtomicUsize, usize);
    };
}

of!(loom_atomic);
of!(shuttle_atomic);

impl<T: Copy, X: AtomicOf<T>> AtomicOf<T> for Weakened<X> {
    #[track_caller]
    fn new(value: T) -> Self {
        Self(X::new(value))
    }

    #[track_caller]
    fn load(&self, order: Ordering) -> T {
        self.0.load(weakened(order, Location::caller()))
    }

    #[track_caller]
    fn store(&self, value: T, order: Ordering) {
        self.0.store(value, weakened(order, Location::caller()));
    }

    #[track_caller]
    fn swap(&self, value: T, order: Ordering) -> T {
        self.0.swap(value, weakened(order, Location::caller()))
    }

    #[track_caller]
    fn compare_exchange(
        &self,
        old: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T> {
        let caller = Location::caller();
        self.0.compare_exchange(
            old,
            new,
            weakened(success, caller),
            weakened(failure, caller),
        )
    }

    #[track_caller]
    fn compare_exchange_weak(
        &self,
        old: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T> {
        let caller = Location::caller();
        self.0.compare_exchange(
            old,
            new,
            weakened(success, caller),
            weakened(failure, caller),
        )
    }
}

impl<T: Copy, X: AtomicBits<T>> AtomicBits<T> for Weakened<X> {
    #[track_caller]
    fn fetch_or(&self, bits: T, order: Ordering) -> T {
        self.0.fetch_or(bits, weakened(order, Location::caller()))
    }

    #[track_caller]
    fn fetch_and(&self, bits: T, order: Ordering) -> T {
        self.0.fetch_and(bits, weakened(order, Location::caller()))
    }
}

impl<T: Copy, X: AtomicCount<T>> AtomicCount<T> for Weakened<X> {
    #[track_caller]
    fn fetch_add(&self, amount: T, order: Ordering) -> T {
        self.0
            .fetch_add(amount, weakened(order, Location::caller()))
    }

    #[track_caller]
    fn fetch_sub(&self, amount: T, order: Ordering) -> T {
        self.0
            .fetch_sub(amount, weakened(order, Location::caller()))
    }
}

impl Atomics for LoomAtomics {
    type Bool = Of<loom_atomic::AtomicBool>;
    type U8 = Of<loom_atomic::AtomicU8>;
    type U32 = Of<loom_atomic::AtomicU32>;
    type U64 = Of<loom_atomic::AtomicU64>;
    type Usize = Of<loom_atomic::AtomicUsize>;
    type Ptr<T> = Of<loom_atomic::AtomicPtr<T>>;
    type Cell<T> = LoomCell<T>;
    type Arc<T> = loom::sync::Arc<T>;
    type LeakMark = Mark;

    fn fence(order: Ordering) {
        loom_atomic::fence(order);
    }

    fn spin_hint() {
        loom::thread::yield_now();
    }

    fn yield_now() {
        loom::thread::yield_now();
    }
}

impl Atomics for Weak {
    type Bool = Weakened<Of<loom_atomic::AtomicBool>>;
    type U8 = Weakened<Of<loom_atomic::AtomicU8>>;
    type U32 = Weakened<Of<loom_atomic::AtomicU32>>;
    type U64 = Weakened<Of<loom_atomic::AtomicU64>>;
    type Usize = Weakened<Of<loom_atomic::AtomicUsize>>;
    type Ptr<T> = Weakened<Of<loom_atomic::AtomicPtr<T>>>;
    type Cell<T> = LoomCell<T>;
    type Arc<T> = loom::sync::Arc<T>;
    type LeakMark = Mark;

    fn fence(order: Ordering) {
        loom_atomic::fence(order);
    }

    fn spin_hint() {
        loom::thread::yield_now();
    }

    fn yield_now() {
        loom::thread::yield_now();
    }
}

impl Atomics for ShuttleAtomics {
    type Bool = Of<shuttle_atomic::AtomicBool>;
    type U8 = Of<shuttle_atomic::AtomicU8>;
    type U32 = Of<shuttle_atomic::AtomicU32>;
    type U64 = Of<shuttle_atomic::AtomicU64>;
    type Usize = Of<shuttle_atomic::AtomicUsize>;
    type Ptr<T> = Of<shuttle_atomic::AtomicPtr<T>>;
    type Cell<T> = PlainCell<T>;
    type Arc<T> = std::sync::Arc<T>;
    type LeakMark = PhantomData<()>;

    fn fence(order: Ordering) {
        shuttle_atomic::fence(order);
    }

    fn spin_hint() {
        shuttle::hint::spin_loop();
    }

    fn yield_now() {
        shuttle::thread::yield_now();
    }
}
