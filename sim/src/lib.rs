//! The testbed: whole clusters of production nodes from seeds and faults, replayed and shrunk.
//!
//! [`world::World`] runs one seed of one scenario in one thread, in virtual time. Everything that
//! decides a run is in its [`world::Setup`]; the same setup gives the same run, bit for bit.
//! [`keeper::World`] does the same for one node's durable state alone: its process, its files, and
//! those who ask it for something.
//! [`run`] carries campaigns of many seeds, [`shrink`] makes failures small, [`replay`] shows them.

pub mod agenda;
pub mod bench;
pub mod boot;
pub mod budget;
pub mod build;
pub mod checker;
pub mod checkers;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod decorators;
pub mod disk;
pub mod failure;
pub mod files;
pub mod guest;
pub mod host;
pub mod keeper;
pub mod lab;
#[cfg(feature = "world")]
pub mod madsim_world;
pub mod member;
pub mod net;
pub mod plan;
#[cfg(test)]
mod planted;
mod progress;
pub mod replay;
pub mod report;
pub mod ring;
pub mod run;
pub mod saboteur;
pub mod scenario;
pub mod shrink;
pub mod stopwatch;
pub mod streams;
pub mod strikes;
pub mod subject;
pub mod swim_only;
pub mod threads;
pub mod world;
