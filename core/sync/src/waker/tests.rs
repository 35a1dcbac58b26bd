//! Unit tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Wake, Waker};

use super::WakerSlot;
use crate::StdAtomics;

#[derive(Default)]
struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

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
