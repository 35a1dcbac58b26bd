//! Unit tests.

use super::Segmented;
use crate::StdAtomics;
use crate::lane::suite::{drops_all, keeps_order};
use crate::lane::{Closed, Lane, Pop};

#[test]
fn a_panicking_drop_does_not_keep_the_other_messages() {
    drops_all(Segmented::<_, StdAtomics, 0>::new());
    drops_all(Segmented::<_, StdAtomics, 1>::new());
    drops_all(Segmented::<_, StdAtomics, 3>::new());
}

#[test]
fn four_senders_are_received_in_the_order_of_each() {
    keeps_order(Segmented::<_>::new(), 4, 5_000);
    keeps_order(Segmented::<_, StdAtomics, 1>::new(), 4, 2_000);
    keeps_order(Segmented::<_, StdAtomics, 2>::new(), 4, 2_000);
}

#[test]
fn what_was_accepted_comes_out_before_closed_and_closed_for_ever() {
    let lane = Segmented::<u32, StdAtomics>::new();
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
    let lane = Segmented::<u32, StdAtomics>::new();
    // SAFETY: one thread.
    assert!(unsafe { lane.park() });
    assert!(lane.push(1).is_ok_and(|pushed| pushed.wake));
    assert!(lane.push(2).is_ok_and(|pushed| !pushed.wake));
    // SAFETY: as above.
    assert!(!unsafe { lane.park() });
}

#[test]
fn a_block_holds_about_two_kibibytes_of_messages() {
    assert_eq!(Segmented::<()>::SLOTS, 62);
    assert_eq!(Segmented::<u64>::SLOTS, 62);
    assert_eq!(Segmented::<[u8; 64]>::SLOTS, 32);
    assert_eq!(Segmented::<[u8; 4096]>::SLOTS, 3);
}

#[test]
fn messages_with_large_alignment_are_aligned() {
    #[repr(align(512))]
    struct Wide(u8);

    let lane = Segmented::<Wide>::new();
    for number in 0..10 {
        assert!(lane.push(Wide(number)).is_ok());
    }
    for number in 0..10 {
        // SAFETY: one thread.
        let Pop::Some(wide) = (unsafe { lane.pop() }) else {
            panic!("ten were pushed")
        };
        assert_eq!(wide.0, number);
    }
}
