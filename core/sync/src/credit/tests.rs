//! Unit tests.

use std::task::{Context, Poll, Waker};

use super::{Credit, GONE_MAX, Granted, Wait};
use crate::StdAtomics;

fn poll(wait: &mut Wait, credit: &Credit) -> Poll<Granted> {
    wait.poll(credit, &Context::from_waker(Waker::noop()), || {})
}

/// G405: what is granted is never more than the capacity.
#[test]
fn no_more_credits_than_the_capacity() {
    let credit = Credit::<StdAtomics>::new(2);
    assert!(credit.try_take());
    assert!(credit.try_take());
    assert!(!credit.try_take());
    assert_eq!(credit.free(), 0);
}

/// G91: credits go to the oldest waiter first.
#[test]
fn waiters_are_served_in_the_order_of_their_coming() {
    let credit = Credit::<StdAtomics>::new(1);
    assert!(credit.try_take());
    let mut waits = [Wait::new(), Wait::new(), Wait::new()];
    for wait in &mut waits {
        assert!(poll(wait, &credit).is_pending());
    }
    for wait in &mut waits {
        // SAFETY: one thread.
        unsafe { credit.release() };
        assert_eq!(poll(wait, &credit), Poll::Ready(Granted::Yes));
    }
}

/// G92: a waiter that is GONE keeps no credit from the next one.
#[test]
fn one_that_gives_up_is_passed_over() {
    let credit = Credit::<StdAtomics>::new(1);
    assert!(credit.try_take());
    let (mut first, mut second) = (Wait::new(), Wait::new());
    assert!(poll(&mut first, &credit).is_pending());
    assert!(poll(&mut second, &credit).is_pending());
    assert!(!first.cancel(&credit), "it had no credit");
    // SAFETY: one thread.
    unsafe { credit.release() };
    assert_eq!(poll(&mut second, &credit), Poll::Ready(Granted::Yes));
    assert!(!second.cancel(&credit), "a wait that is over has nothing to give back");
}

/// A receiver that stalls and senders that come again and again do not fill the memory.
#[test]
fn those_that_gave_up_are_bounded_while_the_receiver_stalls() {
    let credit = Credit::<StdAtomics>::new(1);
    assert!(credit.try_take());
    let mut patient = Wait::new();
    assert!(poll(&mut patient, &credit).is_pending());
    let mut turned_away = 0;
    for _ in 0..3 * GONE_MAX {
        let mut wait = Wait::new();
        match poll(&mut wait, &credit) {
            Poll::Pending => assert!(!wait.cancel(&credit), "it had no credit"),
            Poll::Ready(granted) => {
                assert_eq!(granted, Granted::Full);
                turned_away += 1;
            }
        }
    }
    assert_eq!(turned_away, 2 * GONE_MAX);

    // One credit for the one that waits, one that takes those that gave up out of the queue.
    for _ in 0..2 {
        // SAFETY: one thread.
        unsafe { credit.release() };
    }
    assert_eq!(poll(&mut patient, &credit), Poll::Ready(Granted::Yes));
    assert_eq!(credit.gone.load(super::Relaxed), 0);
    assert!(credit.try_take(), "nobody waits");
    assert!(poll(&mut Wait::new(), &credit).is_pending(), "there is room to wait again");
}

/// G92: a waiter that was GRANTED is out of the queue when it goes.
#[test]
fn a_credit_that_came_too_late_is_not_counted_as_one_that_gave_up() {
    let credit = Credit::<StdAtomics>::new(1);
    for _ in 0..2 * GONE_MAX {
        assert!(credit.try_take());
        let mut wait = Wait::new();
        assert!(poll(&mut wait, &credit).is_pending());
        // SAFETY: one thread.
        unsafe { credit.release() };
        let _nobody_waits = wait.cancel(&credit);
        assert_eq!(credit.gone.load(super::Relaxed), 0);
    }
}

/// G83, G85: nobody waits for a mailbox that is closed.
#[test]
fn closing_lets_all_try_and_later_ones_see_it() {
    let credit = Credit::<StdAtomics>::new(1);
    assert!(credit.try_take());
    let mut first = Wait::new();
    assert!(poll(&mut first, &credit).is_pending());
    // SAFETY: one thread.
    unsafe { credit.close() };
    assert_eq!(poll(&mut first, &credit), Poll::Ready(Granted::Yes));
    assert_eq!(poll(&mut Wait::new(), &credit), Poll::Ready(Granted::Closed));
}
