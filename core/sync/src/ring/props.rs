//! Goal: the ring is a bounded queue. Method: random steps against a `VecDeque`.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::{Refused, Ring};
use crate::atomics::flaky::Flaky;
use crate::lane::Pop;

proptest! {
    /// Pushes and pops give what a `VecDeque` of bounded length gives, on any lap and
    /// where weak exchanges fail for no reason (G56).
    #[test]
    fn is_a_bounded_queue(
        capacity in 1_u32..6,
        lap in prop_oneof![Just(0), (1_u64 << 42) - 40..1 << 42],
        steps in proptest::collection::vec(0_u8..5, 0..300),
    ) {
        let ring = Ring::<Box<usize>, Flaky>::starting_at(capacity, lap);
        let mut oracle = VecDeque::new();
        for (number, step) in steps.into_iter().enumerate() {
            if step < 3 {
                let expected = if oracle.len() < capacity as usize {
                    oracle.push_back(number);
                    true
                } else {
                    false
                };
                match ring.push(Box::new(number)) {
                    Ok(_) => prop_assert!(expected),
                    Err(refused) => {
                        prop_assert!(!expected);
                        prop_assert_eq!(refused, Refused::Full(Box::new(number)));
                    }
                }
            } else {
                // SAFETY: one thread.
                let popped = if step == 3 { ring.pop() } else { unsafe { ring.pop_alone() } };
                let expected = oracle.pop_front().map_or(Pop::Empty, |n| Pop::Some(Box::new(n)));
                prop_assert_eq!(popped, expected);
            }
        }
    }
}
