//! Unit tests.

use std::mem::offset_of;
use std::sync::atomic::Ordering::Relaxed;

use super::{INDEX, PARKED, Segmented};
use crate::StdAtomics;
use crate::lane::suite::{drops_all, keeps_order};
use crate::lane::{Closed, Lane, Pop};

/// G110, G404.
#[test]
fn a_panicking_drop_does_not_keep_the_other_messages() {
    drops_all(Segmented::<_, StdAtomics, 0>::new());
    drops_all(Segmented::<_, StdAtomics, 1>::new());
    drops_all(Segmented::<_, StdAtomics, 3>::new());
}

/// G60, G400.
#[test]
fn four_senders_are_received_in_the_order_of_each() {
    keeps_order(Segmented::<_>::new(), 4, 5_000);
    keeps_order(Segmented::<_, StdAtomics, 1>::new(), 4, 2_000);
    keeps_order(Segmented::<_, StdAtomics, 2>::new(), 4, 2_000);
}

/// G83, G111.
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

/// G72.
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

/// G65: between 3 and 62 slots.
#[test]
fn a_block_holds_about_two_kibibytes_of_messages() {
    assert_eq!(Segmented::<()>::SLOTS, 62);
    assert_eq!(Segmented::<u64>::SLOTS, 62);
    assert_eq!(Segmented::<[u8; 64]>::SLOTS, 32);
    assert_eq!(Segmented::<[u8; 4096]>::SLOTS, 3);
}

/// G65: blocks have a computed layout.
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
        let Pop::Some(wide) = (unsafe { lane.pop() }) else { panic!("ten were pushed") };
        assert_eq!(wide.0, number);
    }
}

/// A push that stalls between its claim and `ready`; the answer fills the slot.
pub(crate) fn claimed<M>(lane: &Segmented<M>, message: M) -> impl FnOnce() + '_ {
    let tail = lane.tail.0.load(Relaxed);
    let index = tail.addr() & INDEX;
    assert!(index < Segmented::<M>::SLOTS, "there is a free slot");
    lane.tail.0.store(tail.map_addr(|address| address + 1), Relaxed);
    let block = tail.map_addr(|address| address & !(INDEX | PARKED));
    // SAFETY: the slot was claimed above, and the block waits for it.
    move || unsafe { Segmented::<M>::fill(block, index, message) }
}

/// G63, G111: a message that cannot be read yet is neither Empty, nor a reason to sleep, nor lost
/// by a close.
#[test]
fn a_stalled_sender_is_in_flight_and_comes_before_closed() {
    let lane = Segmented::<u32>::new();
    let fill = claimed(&lane, 1);
    assert!(lane.push(2).is_ok());
    // SAFETY: one thread, here and below.
    unsafe {
        assert_eq!(lane.pop(), Pop::InFlight);
        assert!(!lane.park());
        lane.close();
        assert_eq!(lane.pop(), Pop::InFlight);
        assert!(!lane.park());
        fill();
        assert_eq!(lane.pop(), Pop::Some(1));
        assert_eq!(lane.pop(), Pop::Some(2));
        assert_eq!(lane.pop(), Pop::Closed);
    }
}

/// G65: the low seven bits of a block's address are free, and the receiver writes to a line of its
/// own.
#[test]
fn blocks_are_aligned_and_the_ends_write_to_lines_of_their_own() {
    let lane = Segmented::<u8, StdAtomics, 1>::new();
    for number in 0..10 {
        assert!(lane.push(number).is_ok());
        assert_eq!(lane.tail.0.load(Relaxed).addr() & (INDEX | PARKED), 1);
    }
    let tail = offset_of!(Segmented<u32>, tail);
    let receiver = offset_of!(Segmented<u32>, receiver);
    let spare = offset_of!(Segmented<u32>, spare);
    assert_ne!(tail / 128, receiver / 128);
    assert_ne!(spare / 128, receiver / 128);
    assert_eq!(align_of::<Segmented<u32>>() % 128, 0);
}

/// G62: a block is kept until all its slots were consumed; then one is kept for reuse, no more.
#[test]
fn an_emptied_block_is_used_again() {
    let lane = Segmented::<u32, StdAtomics, 2>::new();
    let block =
        |lane: &Segmented<u32, StdAtomics, 2>| lane.tail.0.load(Relaxed).addr() & !(INDEX | PARKED);
    let first = block(&lane);
    for number in 0..4 {
        assert!(lane.push(number).is_ok());
    }
    assert!(lane.spare.load(Relaxed).is_null());
    for number in 0..3 {
        // SAFETY: one thread.
        assert_eq!(unsafe { lane.pop() }, Pop::Some(number));
    }
    assert_eq!(lane.spare.load(Relaxed).addr(), first);
    assert!(lane.push(4).is_ok());
    assert_eq!(block(&lane), first);
    for number in 3..5 {
        // SAFETY: one thread.
        assert_eq!(unsafe { lane.pop() }, Pop::Some(number));
    }
}
