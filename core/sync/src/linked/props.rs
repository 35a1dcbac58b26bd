//! Goal: the lane is a queue. Method: random steps against a `VecDeque`.

use proptest::prelude::*;

use super::Linked;
use crate::lane::suite::{Wakes, agrees_with_a_deque, steps};

proptest! {
    /// Every sequence of pushes, pops, parks and closes gives what a `VecDeque` gives.
    #[test]
    fn is_a_queue(steps in steps()) {
        agrees_with_a_deque(&Linked::<_>::new(), Wakes::WhenEmpty, steps)?;
    }
}
