//! Goal: a wake that follows a registration finds the waker, and one that meets it is answered.
//! Method: loom with two wakers and one registering task, whose flags are all `Relaxed`, so that
//! only the slot orders them; each ordering removed, and a wake that only looks.

use std::future::poll_fn;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::task::{Poll, Waker};

use models::atomics::{Half, Weakening};
use models::{Bound, Calm, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak};
use models::{orderings, twin};
use sync::Atomics;
use sync::atomics::{AtomicBits, AtomicOf, RaceCell};
use sync::waker::WakerSlot;

/// What the model asks of a slot.
trait Slot: Default + 'static {
    /// # Safety
    ///
    /// One task registers.
    unsafe fn register(&self, waker: &Waker);
    fn wake(&self);
}

impl<C: Atomics> Slot for WakerSlot<C> {
    unsafe fn register(&self, waker: &Waker) {
        // SAFETY: as the caller promises.
        unsafe { self.register(waker) };
    }

    fn wake(&self) {
        self.wake();
    }
}

/// Each waking thread raises a flag and wakes; the task sleeps until it sees every flag.
fn sees_every_flag<C: Checker, S: Slot>(wakers: usize) {
    let flags: Vec<C::U8> = (0..wakers).map(|_| C::U8::new(0)).collect();
    let shared = Calm::new(C::Arc::from((S::default(), flags)));
    let mut joins = Vec::new();
    for index in 0..wakers {
        let shared = shared.clone();
        joins.push(C::spawn(move || {
            shared.1[index].store(1, Relaxed); // The slot alone publishes it.
            shared.0.wake();
        }));
    }
    C::block_on(poll_fn(|cx| {
        let (slot, flags) = &**shared;
        // SAFETY: this task alone registers.
        unsafe { slot.register(cx.waker()) };
        if flags.iter().all(|flag| flag.load(Relaxed) == 1) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    for join in joins {
        join();
    }
}

/// A slot whose wake looks at the byte instead of exchanging it (as G21 forbids).
struct Looking<C: Atomics> {
    state: C::U8,
    waker: C::Cell<Option<Waker>>,
}

impl<C: Atomics> Default for Looking<C> {
    fn default() -> Self {
        Self { state: C::U8::new(0), waker: C::Cell::new(None) }
    }
}

impl<C: Atomics> Slot for Looking<C> {
    unsafe fn register(&self, waker: &Waker) {
        if self.state.compare_exchange(0, 1, AcqRel, Acquire).is_ok() {
            // SAFETY: the byte is ours.
            self.waker.with_mut(|slot| unsafe { *slot = Some(waker.clone()) });
            self.state.store(0, Release);
        } else {
            waker.wake_by_ref();
            C::spin_hint();
        }
    }

    fn wake(&self) {
        if self.state.load(Acquire) != 0 {
            return; // "It is awake anyway."
        }
        if self.state.fetch_or(2, AcqRel) == 0 {
            // SAFETY: the byte is ours.
            let waker = self.waker.with_mut(|slot| unsafe { (*slot).take() });
            self.state.fetch_and(!2, Release);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// G70, G73, G410.
#[test]
fn no_wake_is_lost() {
    Loom::check("waker 1 waker", Bound::Full, || {
        sees_every_flag::<Loom, WakerSlot<Loom>>(1);
    });
    Loom::check("waker 2 wakers", Bound::Preemptions(3), || {
        sees_every_flag::<Loom, WakerSlot<Loom>>(2);
    });
    Shuttle::check("waker shuttle", Bound::Full, || {
        sees_every_flag::<Shuttle, WakerSlot<Shuttle>>(8);
    });
}

/// A model that cannot fail proves nothing: each wrong step must be caught (G410).
#[test]
fn notices_wrong_steps() {
    let bound = Bound::Preemptions(3);
    twin("waker without orderings", Weakening::Everything, "", bound, || {
        sees_every_flag::<Weak, WakerSlot<Weak>>(1);
    });
    twin("waker wake only looks", Weakening::Nothing, "deadlock", bound, || {
        sees_every_flag::<Weak, Looking<Weak>>(1);
    });
}

/// G68, G410: `fetch_or` with Relaxed is among them.
#[test]
fn notices_each_lost_ordering() {
    let unneeded = [
        (
            ".compare_exchange(WAITING, REGISTERING, AcqRel, Acquire)",
            Half::Release,
            "nothing is written before it that another thread reads",
        ),
        (
            ".compare_exchange(REGISTERING, WAITING, AcqRel, Acquire)",
            Half::Acquire,
            "the swap, or the next registration, acquires the same",
        ),
        (
            "self.state.swap(WAITING, AcqRel);",
            Half::Acquire,
            "the failed exchange, or the next registration, acquires the same",
        ),
    ];
    orderings(
        "waker",
        "waker.rs",
        &unneeded,
        &[
            (Bound::Preemptions(3), || sees_every_flag::<Weak, WakerSlot<Weak>>(1)),
            (Bound::Preemptions(2), || sees_every_flag::<Weak, WakerSlot<Weak>>(2)),
        ],
    );
}
