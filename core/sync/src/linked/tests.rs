//! Unit tests.

use std::mem::{MaybeUninit, offset_of};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Release};

use super::{Linked, Node};
use crate::StdAtomics;
use crate::lane::suite::{drops_all, keeps_order};
use crate::lane::{Closed, Lane, Pop};

/// G110, G404.
#[test]
fn a_panicking_drop_does_not_keep_the_other_messages() {
    drops_all(Linked::new());
}

/// G60, G400.
#[test]
fn four_senders_are_received_in_the_order_of_each() {
    keeps_order(Linked::new(), 4, 5_000);
}

/// G83.
#[test]
fn what_was_accepted_comes_out_before_closed_and_closed_for_ever() {
    let lane = Linked::<u32, StdAtomics>::new();
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
    let lane = Linked::<u32, StdAtomics>::new();
    // SAFETY: one thread.
    assert!(unsafe { lane.park() });
    assert!(lane.push(1).is_ok_and(|pushed| pushed.wake));
    assert!(lane.push(2).is_ok_and(|pushed| !pushed.wake));
    // SAFETY: as above.
    assert!(!unsafe { lane.park() });
}

/// A push that stalls between its swap and its link, which the answer does.
fn swapped_in(lane: &Linked<u32>, message: u32) -> impl FnOnce() + '_ {
    let node = Node::new(MaybeUninit::new(message));
    let previous = lane.newest.0.swap(node, AcqRel);
    // SAFETY: the receiver frees the predecessor only after it has read this link.
    move || unsafe { (*previous).next.store(node, Release) }
}

/// G63: a message that cannot be read yet is neither Empty nor a reason to sleep, and hides what
/// came later.
#[test]
fn a_stalled_sender_is_in_flight_and_keeps_the_receiver_awake() {
    let lane = Linked::<u32>::new();
    let link = swapped_in(&lane, 1);
    assert!(lane.push(2).is_ok_and(|pushed| !pushed.wake));
    // SAFETY: one thread, here and below.
    unsafe {
        assert_eq!(lane.pop(), Pop::InFlight);
        assert!(!lane.park());
        link();
        assert_eq!(lane.pop(), Pop::Some(1));
        assert_eq!(lane.pop(), Pop::Some(2));
        let link = swapped_in(&lane, 3);
        assert_eq!(lane.pop(), Pop::InFlight);
        link();
        assert_eq!(lane.pop(), Pop::Some(3));
        assert!(lane.park());
    }
}

/// G113, G83: the push that read the flag too early is accepted after the close. If it comes
/// after Closed, Closed it stays, and the message goes with the lane.
#[test]
fn a_push_that_overlooked_the_close_does_not_reopen_the_lane() {
    let witness = Arc::new(());
    let lane = Linked::<Arc<()>>::new();
    // SAFETY: one thread, here and below.
    unsafe {
        lane.close();
        lane.link(Node::new(MaybeUninit::new(witness.clone())));
        assert!(matches!(lane.pop(), Pop::Some(_)), "it was accepted before Closed");
        assert_eq!(lane.pop(), Pop::Closed);
        lane.link(Node::new(MaybeUninit::new(witness.clone())));
        assert_eq!(lane.pop(), Pop::Closed);
    }
    assert_eq!(Arc::strong_count(&witness), 2);
    drop(lane);
    assert_eq!(Arc::strong_count(&witness), 1);
}

/// G65.
#[test]
fn senders_and_receiver_write_to_lines_of_their_own() {
    let newest = offset_of!(Linked<u32>, newest);
    let receiver = offset_of!(Linked<u32>, receiver);
    assert_ne!(newest / 128, receiver / 128);
    assert_eq!(align_of::<Linked<u32>>() % 128, 0);
}
