//! The replay window against a set of all counters ever accepted (C36, C132).

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::window::{Stale, Window};

proptest! {
    /// A counter is accepted iff it was not before and is less than 1,024 below the highest.
    #[test]
    fn the_window_is_the_set_of_what_it_accepted(
        steps in prop::collection::vec((0_u64..3_000, 0_u64..40), 0..400),
    ) {
        let mut window = Window::new();
        let mut accepted = BTreeSet::new();
        let mut base = 0;
        for (back, ahead) in steps {
            base += ahead * 7;
            let counter = base + 1_500 - back.min(base + 1_500);
            let top = accepted.last().copied();
            let expected = match top {
                Some(top) if counter + 1_024 <= top => Err(Stale::Old),
                _ if accepted.contains(&counter) => Err(Stale::Seen),
                _ => Ok(()),
            };
            prop_assert_eq!(window.check(counter), expected);
            if expected.is_ok() {
                window.accept(counter);
                accepted.insert(counter);
            }
            prop_assert_eq!(window.next(), accepted.last().map_or(0, |top| top + 1));
        }
    }
}
