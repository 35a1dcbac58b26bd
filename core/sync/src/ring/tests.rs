//! Unit tests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::{Refused, Ring};
use crate::StdAtomics;
use crate::lane::Pop;
use crate::lane::suite::Grenade;

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

#[test]
fn only_the_push_that_finds_the_ring_parked_says_wake() {
    let ring = Ring::<u32>::new(2);
    assert!(ring.park());
    assert!(ring.park(), "parking twice is parking");
    assert!(ring.push(1).is_ok_and(|pushed| pushed.wake));
    assert!(ring.push(2).is_ok_and(|pushed| !pushed.wake));
    assert!(!ring.park());
}

#[test]
fn a_panicking_drop_does_not_keep_the_other_messages() {
    let drops = Arc::new(AtomicU32::new(0));
    let ring = Ring::<Grenade>::new(8);
    for number in 0..8 {
        let live = number == 0 || number == 6;
        assert!(
            ring.push(Grenade {
                drops: drops.clone(),
                live
            })
            .is_ok()
        );
    }
    assert!(catch_unwind(AssertUnwindSafe(|| drop(ring))).is_err());
    assert_eq!(drops.load(Relaxed), 8);
}

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
