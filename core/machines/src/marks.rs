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

    thread_local! {
        static HITS: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
    }

    /// Counts a mark. Use [`sometimes!`](crate::sometimes).
    pub fn hit(mark: &'static str, condition: bool) {
        if condition {
            HITS.with_borrow_mut(|hits| *hits.entry(mark).or_insert(0) += 1);
        }
    }

    /// Takes the hits of this thread since the last call: mark → count.
    #[must_use]
    pub fn take() -> BTreeMap<&'static str, u64> {
        HITS.take()
    }
}
