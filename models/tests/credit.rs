//! Goal: never more than the capacity is granted; no waiter sleeps while a credit is free and the
//! receiver idles; a waiter that gives up loses nothing.
//! Method: the smallest mailbox there is, a credit, a lane and a waker, under loom: two waiters on
//! one credit, one of them given up; shuttle with 8; each ordering removed, and two steps wrong.

use std::future::poll_fn;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::task::{Context, Poll};

use models::atomics::{Half, Weakening};
use models::{Bound, Calm, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak};
use models::{orderings, twin};
use sync::atomics::{AtomicBits, AtomicCount, AtomicOf};
use sync::credit::{Credit, Granted, Wait};
use sync::stack::Stack;
use sync::waker::WakerSlot;
use sync::{Atomics, Lane, Pop};

/// A mailbox of `()`, as small as it can be.
struct Small<C: Atomics> {
    credit: Credit<C>,
    lane: Stack<u32, C>,
    slot: WakerSlot<C>,
    inside: C::U32,
    capacity: u32,
}

impl<C: Checker> Small<C> {
    fn new(capacity: u32) -> Self {
        Self {
            credit: Credit::new(capacity),
            lane: Stack::new(),
            slot: WakerSlot::new(),
            inside: C::U32::new(0),
            capacity,
        }
    }

    /// Sends with a credit in hand.
    fn push(&self, message: u32) {
        let inside = self.inside.fetch_add(1, Relaxed) + 1;
        assert!(inside <= self.capacity, "never more than the capacity");
        let Ok(pushed) = self.lane.push(message) else {
            panic!("nobody closed the lane")
        };
        if pushed.wake {
            self.slot.wake();
        }
    }

    /// One poll of the one receiver.
    fn receive(&self, cx: &Context<'_>) -> Poll<u32> {
        let mut registered = false;
        loop {
            // SAFETY: one thread receives, here and below.
            if let Pop::Some(message) = unsafe { self.lane.pop() } {
                self.inside.fetch_sub(1, Relaxed);
                // SAFETY: as above.
                unsafe { self.credit.release() };
                return Poll::Ready(message);
            }
            // SAFETY: as above.
            unsafe {
                self.credit.settle();
                if !registered {
                    self.slot.register(cx.waker());
                    registered = true;
                } else if self.lane.park() {
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Waiters on a mailbox that is full at first; all get in, none is too many.
fn grants<C: Checker>(capacity: u32, waiters: u32) {
    let small = Calm::new(C::Arc::from(Small::<C>::new(capacity)));
    for _ in 0..capacity {
        assert!(small.credit.try_take());
        small.push(0);
    }
    let mut joins = Vec::new();
    for waiter in 1..=waiters {
        let small = small.clone();
        joins.push(C::spawn(move || {
            let mut wait = Wait::new();
            let granted = C::block_on(poll_fn(|cx| {
                wait.poll(&small.credit, cx, || small.slot.wake())
            }));
            assert_eq!(granted, Granted::Yes);
            small.push(waiter);
        }));
    }
    for _ in 0..capacity + waiters {
        C::block_on(poll_fn(|cx| small.receive(cx)));
    }
    for join in joins {
        join();
    }
    assert_eq!(
        small.credit.free(),
        u64::from(capacity),
        "every credit came back"
    );
}

/// A waiter that gives up, beside one that does not. `hands_on` false leaves out the wake of G92.
fn cancels<C: Checker>(hands_on: bool) {
    let small = Calm::new(C::Arc::from(Small::<C>::new(1)));
    assert!(small.credit.try_take());
    small.push(0);
    let fickle = small.clone();
    let first = C::spawn(move || {
        let mut wait = Wait::new();
        let mut once = true;
        let granted = C::block_on(poll_fn(|cx| {
            match wait.poll(&fickle.credit, cx, || fickle.slot.wake()) {
                Poll::Ready(granted) => Poll::Ready(Some(granted)),
                Poll::Pending if once => {
                    once = false;
                    cx.waker().wake_by_ref();
                    Poll::Ready(None)
                }
                Poll::Pending => Poll::Pending,
            }
        }));
        if granted.is_some() {
            fickle.push(1);
        } else if wait.cancel(&fickle.credit) && hands_on {
            fickle.slot.wake();
        }
    });
    let patient = small.clone();
    let second = C::spawn(move || {
        let mut wait = Wait::new();
        C::block_on(poll_fn(|cx| {
            wait.poll(&patient.credit, cx, || patient.slot.wake())
        }));
        patient.push(2);
    });
    while C::block_on(poll_fn(|cx| small.receive(cx))) != 2 {}
    first();
    second();
}

/// The step of G91 done wrong: WAITERS is set before the waiter can be seen. The waiter is a flag,
/// the rest is as in the protocol.
fn early<C: Checker>() {
    // (word, waiter is in the queue, waiter is granted, the waiter's waker)
    let shared = Calm::new(C::Arc::from((
        C::U64::new(0),
        C::Bool::new(false),
        C::Bool::new(false),
        WakerSlot::<C>::new(),
    )));
    let waiter = shared.clone();
    let join = C::spawn(move || {
        let mut begun = false;
        C::block_on(poll_fn(|cx| {
            let (word, queued, granted, slot) = &**waiter;
            // SAFETY: one task registers.
            unsafe { slot.register(cx.waker()) };
            if !begun {
                begun = true;
                let old = word.fetch_or(1, AcqRel);
                queued.swap(true, AcqRel);
                if old >= 2 {
                    return Poll::Ready(());
                }
            }
            if granted.load(Acquire) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        }));
    });
    let (word, queued, granted, slot) = &**shared;
    if word.fetch_add(2, AcqRel) & 1 != 0 {
        word.fetch_and(!1, AcqRel);
        if queued.swap(false, AcqRel) {
            granted.swap(true, AcqRel);
            slot.wake();
        }
    }
    join();
}

#[test]
fn all_get_in_and_none_is_too_many() {
    Loom::check("credit 1 waiter", Bound::Preemptions(3), || {
        grants::<Loom>(1, 1)
    });
    Loom::check("credit 2 waiters", Bound::Preemptions(2), || {
        grants::<Loom>(1, 2)
    });
    Shuttle::check("credit shuttle 8", Bound::Full, || grants::<Shuttle>(2, 8));
}

#[test]
fn a_waiter_that_gives_up_loses_nothing() {
    Loom::check("credit cancelled", Bound::Preemptions(2), || {
        cancels::<Loom>(true)
    });
    Shuttle::check("credit cancelled shuttle", Bound::Full, || {
        cancels::<Shuttle>(true)
    });
}

/// A model that cannot fail proves nothing: each wrong step must be caught.
#[test]
fn notices_wrong_steps() {
    let bound = Bound::Preemptions(2);
    twin(
        "credit without orderings",
        Weakening::Everything,
        "",
        bound,
        || grants::<Weak>(1, 1),
    );
    twin(
        "credit waiters set early",
        Weakening::Nothing,
        "deadlock",
        bound,
        early::<Weak>,
    );
    twin(
        "credit not handed on",
        Weakening::Nothing,
        "deadlock",
        bound,
        || {
            cancels::<Weak>(false);
        },
    );
}

#[test]
fn notices_each_lost_ordering() {
    orderings(
        "credit",
        "credit.rs",
        &[],
        &[(Bound::Preemptions(2), || grants::<Weak>(1, 1))],
    );
}
