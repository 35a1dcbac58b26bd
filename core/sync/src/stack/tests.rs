//! Unit tests.

use super::Stack;
use crate::StdAtomics;
use crate::lane::suite::{drops_all, keeps_order};
use crate::lane::{Closed, Lane, Pop};

#[test]
fn a_panicking_drop_does_not_keep_the_other_messages() {
    drops_all(Stack::new());
}

#[test]
fn four_senders_are_received_in_the_order_of_each() {
    keeps_order(Stack::new(), 4, 5_000);
}

#[test]
fn what_was_accepted_comes_out_before_closed_and_closed_for_ever() {
    let lane = Stack::<u32, StdAtomics>::new();
    assert!(lane.push(1).is_ok());
    // SAFETY: one thread, here and below.
    unsafe { lane.close() };
    assert_eq!(lane.push(2), Err(Closed(2)));
    // SAFETY: as above.
    unsafe {
        assert_eq!(lane.pop(), Pop::Some(1));
        assert_eq!(lane.pop(), Pop::Closed);
        lane.close();
        assert_eq!(lane.pop(), Pop::Closed);
        assert!(!lane.park() || lane.pop() == Pop::Closed);
    }
}

#[test]
fn only_the_push_that_finds_the_lane_parked_says_wake() {
    let lane = Stack::<u32, StdAtomics>::new();
    // SAFETY: one thread.
    assert!(unsafe { lane.park() });
    assert!(lane.push(1).is_ok_and(|pushed| pushed.wake));
    assert!(lane.push(2).is_ok_and(|pushed| !pushed.wake));
    // SAFETY: as above.
    assert!(!unsafe { lane.park() });
}
