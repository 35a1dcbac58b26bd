//! Goal: never more than the capacity is granted; no waiter sleeps while a credit is free and the
//! receiver idles; a waiter that gives up loses nothing.
//! Method: the smallest mailbox there is, credit, a count and a waker, under loom: two waiters on
//! one credit, one of them given up; shuttle with 8; each ordering removed, and two steps wrong.

use std::future::poll_fn;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::task::{Context, Poll, Waker};

use models::atomics::{Half, Weakening};
use models::{Bound, Calm, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak};
use models::{orderings, twin};
use sync::Atomics;
use sync::atomics::{AtomicBits, AtomicCount, AtomicOf, RaceCell};
use sync::credit::{Credit, Granted, Wait};
use sync::waker::WakerSlot;

/// Why no model misses a release of the word or of a state that publishes nothing of its own.
const CHAIN: &str = "publishes nothing; the exchange goes on with the release sequence before it";
/// Why no model misses an acquire.
const AGAIN: &str = "another exchange of the word, or of the stack, acquires the same";

/// A mailbox of `()`: credit, a count of what has come, and a waker.
struct Small<C: Atomics> {
    credit: Credit<C>,
    arrived: C::U32,
    slot: WakerSlot<C>,
    inside: C::U32,
    /// The one slot, when the capacity is 1: the credits alone order its users.
    place: C::Cell<u32>,
    capacity: u32,
}

impl<C: Checker> Small<C> {
    /// A mailbox that is full, of messages that the receiver has taken and not released.
    fn full(capacity: u32) -> Self {
        let small = Self {
            credit: Credit::new(capacity),
            arrived: C::U32::new(0),
            slot: WakerSlot::new(),
            inside: C::U32::new(capacity),
            place: C::Cell::new(0),
            capacity,
        };
        for _ in 0..capacity {
            assert!(small.credit.try_take());
        }
        small
    }

    /// Sends with a credit in hand.
    fn push(&self) {
        let inside = self.inside.fetch_add(1, Relaxed) + 1;
        assert!(inside <= self.capacity, "never more than the capacity");
        if self.capacity == 1 {
            // SAFETY: the credit is the slot.
            self.place.with_mut(|place| unsafe { *place += 1 });
        }
        self.arrived.fetch_add(1, AcqRel);
        self.slot.wake();
    }

    /// Frees a slot, as the one receiver.
    fn release(&self) {
        self.inside.fetch_sub(1, Relaxed);
        if self.capacity == 1 {
            // SAFETY: the message has come, and its credit is not released yet.
            self.place.with_mut(|place| unsafe { *place += 1 });
        }
        // SAFETY: one thread receives.
        unsafe { self.credit.release() };
    }

    /// Sleeps until more than `taken` have come, as the one receiver.
    fn wait(&self, taken: u32) {
        C::block_on(poll_fn(|cx| {
            // SAFETY: one thread receives.
            unsafe {
                self.slot.register(cx.waker());
                self.credit.settle();
            }
            if self.arrived.load(Acquire) > taken { Poll::Ready(()) } else { Poll::Pending }
        }));
    }
}

/// Waiters on a mailbox that is full at first; all get in, none is too many.
fn grants<C: Checker>(capacity: u32, waiters: u32) {
    let small = Calm::new(C::Arc::from(Small::<C>::full(capacity)));
    let mut joins = Vec::new();
    for _ in 0..waiters {
        let small = small.clone();
        joins.push(C::spawn(move || {
            let mut wait = Wait::new();
            let granted =
                C::block_on(poll_fn(|cx| wait.poll(&small.credit, cx, || small.slot.wake())));
            assert_eq!(granted, Granted::Yes);
            small.push();
        }));
    }
    for _ in 0..capacity {
        small.release();
    }
    for taken in 0..waiters {
        small.wait(taken);
        small.release();
    }
    for join in joins {
        join();
    }
    assert_eq!(small.credit.free(), u64::from(capacity), "every credit came back");
}

/// A waiter that gives up after one poll, beside one that does not; one credit comes for both.
/// `hands_on` false leaves out the wake of G92.
fn cancels<C: Checker>(hands_on: bool) {
    let small = Calm::new(C::Arc::from(Small::<C>::full(1)));
    let fickle = small.clone();
    let first = C::spawn(move || {
        let mut wait = Wait::new();
        let cx = Context::from_waker(Waker::noop());
        if wait.poll(&fickle.credit, &cx, || fickle.slot.wake()).is_ready() {
            // It has the credit and no use for it.
            if fickle.credit.give_back() && hands_on {
                fickle.slot.wake();
            }
        } else if wait.cancel(&fickle.credit) && hands_on {
            fickle.slot.wake();
        }
    });
    let patient = small.clone();
    let second = C::spawn(move || {
        let mut wait = Wait::new();
        C::block_on(poll_fn(|cx| wait.poll(&patient.credit, cx, || patient.slot.wake())));
        patient.push();
    });
    small.release();
    small.wait(0);
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
            if granted.load(Acquire) { Poll::Ready(()) } else { Poll::Pending }
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

/// G91, G405.
#[test]
fn all_get_in_and_none_is_too_many() {
    Loom::check("credit 1 waiter", Bound::Preemptions(3), || grants::<Loom>(1, 1));
    Loom::check("credit 2 waiters", Bound::Preemptions(1), || grants::<Loom>(1, 2));
    Shuttle::check("credit shuttle 8", Bound::Full, || grants::<Shuttle>(2, 8));
}

/// G92, G405.
#[test]
fn a_waiter_that_gives_up_loses_nothing() {
    Loom::check("credit cancelled", Bound::Preemptions(1), || cancels::<Loom>(true));
    Shuttle::check("credit cancelled shuttle", Bound::Full, || cancels::<Shuttle>(true));
}

/// A model that cannot fail proves nothing: each wrong step must be caught (G91, G92, G405).
#[test]
fn notices_wrong_steps() {
    let bound = Bound::Preemptions(2);
    twin("credit without orderings", Weakening::Everything, "", bound, || grants::<Weak>(1, 1));
    twin("credit waiters set early", Weakening::Nothing, "deadlock", bound, early::<Weak>);
    twin("credit not handed on", Weakening::Nothing, "deadlock", bound, || {
        cancels::<Weak>(false);
    });
}

/// G68, G91.
#[test]
fn notices_each_lost_ordering() {
    let take = ".compare_exchange_weak(word, word - ONE, AcqRel, Relaxed)";
    let give = "self.word.0.fetch_add(ONE, AcqRel) & WAITERS != 0 // E4: that there is a credit.";
    let release = "if self.word.0.fetch_add(ONE, AcqRel) & WAITERS != 0 {";
    let clear = "self.word.0.fetch_and(!WAITERS, AcqRel); // E2: the waiters in the stack.";
    let again = "self.word.0.fetch_or(WAITERS, AcqRel) | WAITERS // E4: a credit given back since.";
    let later = "self.word.0.load(Acquire) // E4. Later waiters see our credits themselves.";
    let grant = ".compare_exchange(WAITING, GRANTED, AcqRel, Relaxed)";
    let begin = "let word = credit.word.0.fetch_or(WAITERS, AcqRel);";
    let cancel = "let granted = waiter.0.state.swap(GONE, AcqRel) == GRANTED;";
    let unneeded = [
        (take, Half::Release, CHAIN),
        (give, Half::Acquire, CHAIN),
        (give, Half::Release, CHAIN),
        (release, Half::Acquire, AGAIN),
        ("let word = self.word.0.load(Acquire);", Half::Acquire, AGAIN),
        (clear, Half::Acquire, AGAIN),
        (clear, Half::Release, CHAIN),
        (again, Half::Acquire, AGAIN),
        (again, Half::Release, CHAIN),
        (later, Half::Acquire, AGAIN),
        (grant, Half::Acquire, CHAIN),
        (begin, Half::Acquire, AGAIN),
        (cancel, Half::Acquire, AGAIN),
        (cancel, Half::Release, CHAIN),
    ];
    orderings(
        "credit",
        "credit.rs",
        &unneeded,
        &[
            (Bound::Preemptions(2), || grants::<Weak>(1, 1)),
            (Bound::Preemptions(1), || cancels::<Weak>(true)),
        ],
    );
}
