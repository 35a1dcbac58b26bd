//! Unit tests.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{RawWaker, RawWakerVTable, Wake, Waker};

use super::{WAITING, WAKING, WakerSlot};
use crate::StdAtomics;

#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// G70: a wake takes the waker out.
#[test]
fn a_registration_is_woken_once() {
    let slot = WakerSlot::<StdAtomics>::new();
    let count = Arc::new(Count::default());
    slot.wake();
    // SAFETY: one thread.
    unsafe { slot.register(&Waker::from(count.clone())) };
    assert_eq!(count.0.load(Relaxed), 0);
    slot.wake();
    slot.wake();
    assert_eq!(count.0.load(Relaxed), 1);
}

/// G70.
#[test]
fn the_last_registration_counts() {
    let slot = WakerSlot::<StdAtomics>::new();
    let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
    for count in &counts {
        // SAFETY: one thread.
        unsafe { slot.register(&Waker::from(count.clone())) };
    }
    slot.wake();
    assert_eq!(counts[0].0.load(Relaxed), 0);
    assert_eq!(counts[1].0.load(Relaxed), 1);
}

/// G70: a registration that meets a `wake` at the cell wakes its own waker, and waits for nothing.
#[test]
fn a_registration_that_meets_a_wake_is_answered_at_once() {
    let slot = WakerSlot::<StdAtomics>::new();
    let count = Arc::new(Count::default());
    assert_eq!(slot.state.fetch_or(WAKING, Relaxed), WAITING);
    // SAFETY: one thread.
    unsafe { slot.register(&Waker::from(count.clone())) };
    assert_eq!(count.0.load(Relaxed), 1);
}

/// A waker whose every clone is counted, and wakes `SLOT` before it is stored.
static COUNTING: RawWakerVTable = RawWakerVTable::new(
    |data| {
        CLONES.set(CLONES.get() + 1);
        if let Some(slot) = SLOT.take() {
            slot.wake();
        }
        RawWaker::new(data, &COUNTING)
    },
    |_| WAKES.set(WAKES.get() + 1),
    |_| WAKES.set(WAKES.get() + 1),
    |_| {},
);

thread_local! {
    static CLONES: Cell<u32> = const { Cell::new(0) };
    static WAKES: Cell<u32> = const { Cell::new(0) };
    static SLOT: RefCell<Option<Arc<WakerSlot>>> = const { RefCell::new(None) };
}

fn counting() -> Waker {
    // SAFETY: the table keeps the contract: the data is null and never looked at.
    unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &COUNTING)) }
}

/// G70: a task that polls again and again stores its waker once.
#[test]
fn the_waker_of_the_same_task_is_not_stored_again() {
    CLONES.set(0);
    WAKES.set(0);
    let slot = WakerSlot::<StdAtomics>::new();
    for _ in 0..3 {
        // SAFETY: one thread.
        unsafe { slot.register(&counting()) };
    }
    assert_eq!(CLONES.get(), 1);
    slot.wake();
    assert_eq!(WAKES.get(), 1);
}

/// G70: a wake during a registration is answered when the registration ends.
#[test]
fn a_wake_that_meets_a_registration_is_answered_by_it() {
    let slot = Arc::new(WakerSlot::<StdAtomics>::new());
    WAKES.set(0);
    SLOT.set(Some(slot.clone()));
    // SAFETY: one thread.
    unsafe { slot.register(&counting()) };
    assert_eq!(WAKES.get(), 1);
    slot.wake();
    assert_eq!(WAKES.get(), 1, "the waker was taken out");
}
