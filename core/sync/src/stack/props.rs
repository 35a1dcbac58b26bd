//! Goal: the lane is a queue. Method: random steps against a `VecDeque`.

use proptest::prelude::*;

use super::Stack;
use crate::atomics::flaky::Flaky;
use crate::lane::suite::{Wakes, agrees_with_a_deque, steps};

proptest! {
    /// Every sequence of pushes, pops, parks and closes gives what a `VecDeque` gives. So it does
    /// where weak exchanges fail for no reason (G56).
    #[test]
    fn is_a_queue(steps in steps()) {
        agrees_with_a_deque(&Stack::<_>::new(), Wakes::OnceParked, steps.clone())?;
        agrees_with_a_deque(&Stack::<_, Flaky>::new(), Wakes::OnceParked, steps)?;
    }
}
