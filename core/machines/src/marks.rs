//! Marks of rare states (T25): `sometimes!("mark", condition)` counts that a run came there.
//!
//! With the feature `marks` each thread keeps a table of counts, which a simulator takes after a
//! run; without it a mark compiles to nothing. Marks never decide anything.

/// Counts under `mark` that `condition` held here. `mark` must be a string literal.
#[macro_export]
macro_rules! sometimes {
    ($mark:literal) => {
        $crate::marks::hit($mark, true)
    };
    ($mark:literal, $condition:expr) => {
        $crate::marks::hit($mark, $condition)
    };
}

/// Counts a mark. Use [`sometimes!`].
#[cfg(not(feature = "marks"))]
#[inline(always)]
pub fn hit(_mark: &'static str, _condition: bool) {}

#[cfg(feature = "marks")]
pub use counting::{hit, take};

#[cfg(feature = "marks")]
mod counting {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// Places of the table of counts; a power of two, far above the number of marks.
    const PLACES: usize = 1_024;

    thread_local! {
        /// Counts by the address of the literal: found without comparing names. A literal that
        /// the compiler keeps twice has two places, which [`take`] adds up.
        static HITS: RefCell<Vec<(&'static str, u64)>> = const { RefCell::new(Vec::new()) };
    }

    /// Counts a mark. Use [`sometimes!`](crate::sometimes).
    #[inline]
    pub fn hit(mark: &'static str, condition: bool) {
        if condition {
            count(mark);
        }
    }

    fn count(mark: &'static str) {
        HITS.with_borrow_mut(|hits| {
            if hits.is_empty() {
                hits.resize(PLACES, ("", 0));
            }
            let first = mark.as_ptr().addr();
            for step in 0..PLACES {
                let (held, count) = &mut hits[(first + step) % PLACES];
                if *count == 0 || std::ptr::eq(*held, mark) {
                    *held = mark;
                    *count += 1;
                    return;
                }
            }
            unreachable!("there are fewer marks than places");
        });
    }

    /// Takes the hits of this thread since the last call: mark → count.
    #[must_use]
    pub fn take() -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        HITS.with_borrow_mut(|hits| {
            for (mark, count) in hits.iter_mut().filter(|(_, count)| *count > 0) {
                *all.entry(*mark).or_insert(0) += *count;
                *count = 0;
            }
        });
        all
    }
}

#[cfg(test)]
mod tests;
