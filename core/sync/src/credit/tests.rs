//! Unit tests.

use std::task::{Context, Poll, Waker};

use super::{Credit, Granted, Wait};
use crate::StdAtomics;

fn poll(wait: &mut Wait, credit: &Credit) -> Poll<Granted> {
    wait.poll(credit, &Context::from_waker(Waker::noop()), || {})
}

#[test]
fn no_more_credits_than_the_capacity() {
    let credit = Credit::<StdAtomics>::new(2);
    assert!(credit.try_take());
    assert!(credit.try_take());
    assert!(!credit.try_take());
    assert_eq!(credit.free(), 0);
}

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
