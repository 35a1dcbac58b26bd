//! Goal: the lane is a queue. Method: random steps against a `VecDeque`.

use proptest::prelude::*;

use super::Segmented;
use crate::StdAtomics;
use crate::atomics::flaky::Flaky;
use crate::lane::suite::{Wakes, agrees_with_a_deque, steps};

proptest! {
    /// Every sequence of pushes, pops, parks and closes gives what a `VecDeque` gives, whatever
    /// the size of a block; so it does where weak exchanges fail for no reason (G56).
    #[test]
    fn is_a_queue(steps in steps()) {
        let wakes = Wakes::OnceParked;
        agrees_with_a_deque(&Segmented::<_>::new(), wakes, steps.clone())?;
        agrees_with_a_deque(&Segmented::<_, StdAtomics, 1>::new(), wakes, steps.clone())?;
        agrees_with_a_deque(&Segmented::<_, StdAtomics, 2>::new(), wakes, steps.clone())?;
        agrees_with_a_deque(&Segmented::<_, Flaky, 2>::new(), wakes, steps)?;
    }
}
