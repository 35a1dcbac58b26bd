//! Exhaustive models: loom and shuttle over sync, stateright over machines.
//!
//! A model of `sync` is a function that is generic over [`Checker`], and so runs the production
//! source in three families of memory: [`LoomAtomics`] (every interleaving, every stale read that
//! the orderings allow), [`ShuttleAtomics`] (long runs with many threads, sequentially consistent)
//! and [`Weak`] (loom, with chosen orderings turned to `Relaxed`).
//!
//! - [`Checker::check`] counts the executions, says whether the search was complete, and fails if
//!   a limit cut it short (T71). It prints one line past the test harness and writes it to
//!   `target/models/` for the report.
//! - [`twin`] runs a model that must fail, and fails if it does not (T72).
//! - [`orderings`] removes each ordering of a file, one after the other, and says which removals
//!   a model noticed: the hand work of "delete each ordering once", done by machine.

pub mod atomics;
pub mod checker;
pub mod twins;

pub use atomics::{LoomAtomics, ShuttleAtomics, Weak};
pub use checker::{Bound, Calm, Checker};
pub use twins::{orderings, twin};

pub mod reference;
