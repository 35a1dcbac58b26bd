//! Every decision of a node, as plain values.
//!
//! A machine has three methods: `handle(now, input)`, `poll() -> Option<Output>` and
//! `deadline() -> Instant`. It never awaits, reads a clock, opens a socket, locks, draws from a
//! global random source or iterates a hash map. Machines are `Clone + Debug + Hash`, so that a
//! whole cluster can be copied, compared and replayed.
#![forbid(unsafe_code)]

pub mod choices;
pub mod cluster;
pub mod codec;
pub mod digest;
pub mod executor;
pub mod keeper;
pub mod kernel;
pub mod ledger;
pub mod marks;
pub mod node;
pub mod time;

pub use choices::{Choices, Overrides};
pub use time::Instant;
