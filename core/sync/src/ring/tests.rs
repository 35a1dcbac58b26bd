//! Unit tests.

use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{Refused, Ring, free_stamp};
use crate::StdAtomics;
use crate::atomics::{AtomicOf, Atomics, RaceCell};
use crate::lane::Pop;
use crate::lane::suite::Grenade;

/// 5.4: doubled stamps keep capacity 1 sound.
#[test]
fn one_slot_holds_one_message_and_no_more() {
    let ring = Ring::<u32>::new(1);
    for number in 0..100 {
        assert!(ring.push(number).is_ok());
        assert_eq!(ring.push(7), Err(Refused::Full(7)));
        assert_eq!(ring.len(), 1);
        assert_eq!(ring.pop(), Pop::Some(number));
        assert_eq!(ring.pop(), Pop::Empty);
        assert!(ring.is_empty());
    }
}

/// 5.4: laps are modulo 2⁴² and compared by wrapping difference.
#[test]
fn laps_wrap() {
    for capacity in [1, 2, 3] {
        let ring = Ring::<u32, StdAtomics>::starting_at(capacity, (1 << 42) - 3);
        for round in 0..20 {
            for number in 0..capacity {
                assert!(ring.push(round + number).is_ok());
            }
            assert_eq!(ring.push(99), Err(Refused::Full(99)));
            for number in 0..capacity {
                assert_eq!(ring.pop(), Pop::Some(round + number));
            }
            assert_eq!(ring.pop(), Pop::Empty);
        }
    }
}

/// G83, G111.
#[test]
fn what_was_accepted_comes_out_before_closed() {
    let ring = Ring::<u32>::new(2);
    assert!(ring.push(1).is_ok());
    ring.close();
    assert_eq!(ring.push(2), Err(Refused::Closed(2)));
    assert!(!ring.park());
    assert_eq!(ring.pop(), Pop::Some(1));
    assert_eq!(ring.pop(), Pop::Closed);
    assert_eq!(ring.pop(), Pop::Closed);
}

/// G72.
#[test]
fn only_the_push_that_finds_the_ring_parked_says_wake() {
    let ring = Ring::<u32>::new(2);
    assert!(ring.park());
    assert!(ring.park(), "parking twice is parking");
    assert!(ring.push(1).is_ok_and(|pushed| pushed.wake));
    assert!(ring.push(2).is_ok_and(|pushed| !pushed.wake));
    assert!(!ring.park());
}

/// G110, G404.
#[test]
fn a_panicking_drop_does_not_keep_the_other_messages() {
    let drops = Arc::new(AtomicU32::new(0));
    let ring = Ring::<Grenade>::new(8);
    for number in 0..8 {
        let live = number == 0 || number == 6;
        assert!(ring.push(Grenade { drops: drops.clone(), live }).is_ok());
    }
    assert!(catch_unwind(AssertUnwindSafe(|| drop(ring))).is_err());
    assert_eq!(drops.load(Relaxed), 8);
}

/// 5.4, G90: exactly `capacity` slots, up to 2²⁰.
#[test]
fn the_largest_capacity_is_held_exactly() {
    let ring = Ring::<u8>::new(super::CAPACITY_MAX);
    for _ in 0..super::CAPACITY_MAX {
        assert!(ring.push(1).is_ok());
    }
    assert_eq!(ring.len(), super::CAPACITY_MAX);
    assert_eq!(ring.push(2), Err(Refused::Full(2)));
    assert_eq!(ring.pop(), Pop::Some(1));
    assert!(ring.push(2).is_ok());
}

/// A push that stalls between its claim and its stamp, which the answer sets.
pub(crate) fn claimed<M, A: Atomics>(ring: &Ring<M, A>, message: M) -> impl FnOnce() + '_ {
    let tail = ring.tail.0.load(Relaxed);
    ring.tail.0.store(ring.after(tail), Relaxed);
    move || {
        let slot = ring.slot(tail);
        slot.message.with_mut(|place| {
            // SAFETY: the slot was claimed above.
            unsafe { (*place).write(message) };
        });
        slot.stamp.store(free_stamp(tail) | 1, Relaxed);
    }
}

/// G63, G111: a message that cannot be read yet is neither Empty, nor a reason to sleep, nor lost
/// by a close.
#[test]
fn a_stalled_sender_is_in_flight_and_comes_before_closed() {
    let ring = Ring::<u32>::new(3);
    let stamp = claimed(&ring, 1);
    assert!(ring.push(2).is_ok());
    assert_eq!(ring.pop(), Pop::InFlight);
    assert!(!ring.park());
    ring.close();
    assert!(ring.is_closed());
    assert_eq!(ring.pop(), Pop::InFlight);
    stamp();
    assert_eq!(ring.pop(), Pop::Some(1));
    assert_eq!(ring.pop(), Pop::Some(2));
    assert_eq!(ring.pop(), Pop::Closed);
}

/// G93: no sender waits for the reader.
#[test]
fn a_slot_that_is_being_read_counts_as_full() {
    let ring = Ring::<u32>::new(1);
    assert!(ring.push(1).is_ok());
    let head = ring.head.0.load(Relaxed);
    ring.head.0.store(ring.after(head), Relaxed);
    assert_eq!(ring.push(2), Err(Refused::Full(2)));
    // SAFETY: the slot was claimed for reading above.
    assert_eq!(unsafe { Ring::<u32>::take(ring.slot(head), free_stamp(head) | 1) }, 1);
    assert!(ring.push(2).is_ok());
}

/// G65.
#[test]
fn senders_and_receiver_write_to_lines_of_their_own() {
    let (tail, head) = (offset_of!(Ring<u32>, tail), offset_of!(Ring<u32>, head));
    assert_ne!(tail / 128, head / 128);
    assert_eq!(align_of::<Ring<u32>>() % 128, 0);
}
