//! The production world of a node: tokio, sockets, files, configuration; the `lockstep` binary.
//!
//! | module | what it is |
//! |---|---|
//! | [`node`] | [`Node::start`]: a node in this process (C105) |
//! | [`config`] | file, environment, flags; errors that say what would be right (C107, C108) |
//! | [`world`] | the ports of `runtime` over tokio and the operating system |
//! | [`files`], [`seeds`] | key, allowlist, data folder; names and addresses of seeds |
//! | [`ledger`] | a data folder's ledger, looked at without a node: doctor, salvage, `journal` |
//! | [`control`] | how the command line asks a running node |
//! | [`status`] | what it answers (C121) |
//! | [`log`](mod@log) | structured logs, one line for each kind of refusal and second (C117) |
//! | [`failure`] | why a node does not start, and the exit codes |
//!
//! While a node runs, a changed allowlist file is taken up within a second (C24), and names of
//! seeds are resolved again; [`View::reload`], or SIGHUP, takes up other seeds, rates and back-off
//! (C108).
#![forbid(unsafe_code)]

mod agents;
mod cli;
mod cluster;
mod commands;
pub mod config;
pub mod control;
mod events;
pub mod failure;
pub mod files;
mod keeping;
mod leases;
pub mod ledger;
pub mod log;
pub mod node;
pub mod seeds;
pub mod span;
pub mod status;
mod watcher;
pub mod world;

pub use cli::main;
pub use cluster::ClusterMachine;
pub use config::Config;
pub use failure::{Exit, Failure};
pub use node::{Node, NotLeft, Reloaded, View};
