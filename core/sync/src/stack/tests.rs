//! Unit tests.

use std::mem::offset_of;

use super::Stack;
use crate::StdAtomics;
use crate::lane::suite::{drops_all, keeps_order};
use crate::lane::{Closed, Lane, Pop};

/// G110, G404.
#[test]
fn a_panicking_drop_does_not_keep_the_other_messages() {
    drops_all(Stack::new());
}

/// G60, G400.
#[test]
fn four_senders_are_received_in_the_order_of_each() {
    keeps_order(Stack::new(), 4, 5_000);
}

/// G83, G111.
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

/// G72.
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

/// G65.
#[test]
fn senders_and_receiver_write_to_lines_of_their_own() {
    let head = offset_of!(Stack<u32>, head);
    let receiver = offset_of!(Stack<u32>, receiver);
    assert_ne!(head / 128, receiver / 128);
    assert_eq!(align_of::<Stack<u32>>() % 128, 0);
}

/// G83, 5.1: the close is exact: what the receiver has taken out already, and what it has not,
/// comes out in order before `Closed`.
#[test]
fn a_close_keeps_the_order_of_what_was_taken_and_what_was_not() {
    let lane = Stack::<u32>::new();
    // SAFETY: one thread, here and below.
    unsafe {
        for number in 0..3 {
            assert!(lane.push(number).is_ok());
        }
        assert_eq!(lane.pop(), Pop::Some(0));
        for number in 3..6 {
            assert!(lane.push(number).is_ok());
        }
        lane.close();
        for number in 1..6 {
            assert_eq!(lane.pop(), Pop::Some(number));
        }
        assert_eq!(lane.pop(), Pop::Closed);
    }
}
