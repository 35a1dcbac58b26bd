//! How often each kind of fault did something: a fault that never strikes shows nothing (T20).
//!
//! The names are those of the kinds in scenario files. A partition strikes as a `cut`, since that
//! is what it does to a link.

use std::collections::BTreeMap;

/// Kind of fault → how often it struck.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strikes(BTreeMap<&'static str, u64>);

impl Strikes {
    /// Counts one strike of `kind`.
    #[inline]
    pub fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_insert(0) += 1;
    }

    /// Says whether `kind` struck.
    #[must_use]
    pub fn has(&self, kind: &str) -> bool {
        self.0.contains_key(kind)
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(kind).or_insert(0) += count;
        }
    }

    /// Returns how often each kind struck; a kind that never did is absent.
    #[must_use]
    pub fn into_counts(self) -> BTreeMap<&'static str, u64> {
        self.0
    }
}
