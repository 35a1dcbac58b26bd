//! Goal: the lane is a queue. Method: random steps against a `VecDeque`.

use proptest::prelude::*;

use super::Segmented;
use crate::StdAtomics;
use crate::lane::suite::{agrees_with_a_deque, steps};

proptest! {
    /// Every sequence of pushes, pops, parks and closes gives what a `VecDeque` gives, whatever
    /// the size of a block.
    #[test]
    fn is_a_queue(steps in steps()) {
        agrees_with_a_deque(&Segmented::<Box<u64>>::new(), steps.clone())?;
        agrees_with_a_deque(&Segmented::<Box<u64>, StdAtomics, 1>::new(), steps.clone())?;
        agrees_with_a_deque(&Segmented::<Box<u64>, StdAtomics, 2>::new(), steps)?;
    }
}
