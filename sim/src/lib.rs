//! The testbed: whole clusters of production nodes from seeds and faults, replayed and shrunk.
//!
//! [`world::World`] runs one seed of one scenario in one thread, in virtual time. Everything that
//! decides a run is in its [`world::Setup`]; the same setup gives the same run, bit for bit.

pub mod agenda;
pub mod boot;
pub mod checker;
pub mod clients;
pub mod clock;
pub mod decorators;
pub mod disk;
pub mod guest;
pub mod host;
#[cfg(feature = "world")]
pub mod madsim_world;
pub mod net;
pub mod plan;
pub mod ring;
pub mod streams;
pub mod world;
