//! The ports of a node and the run loop that carries bytes and time between them.
//!
//! | module | what it is |
//! |---|---|
//! | [`ports`] | [`Env`]: [`Clock`], [`Network`], [`Disk`], [`Files`], [`Entropy`], and contracts |
//! | [`run`](mod@run) | the loop: one future per node, on any executor |
//! | [`keep`](mod@keep) | the loop of a node's kernel and its files |
//! | [`start`] | a new durable session, before the first socket |
//! | [`ledger`] | between the words of the ledger's machines and those of [`Files`] |
//! | [`handle`](mod@handle) | what users of a node hold: calls, endpoints, watches |
//! | [`machine`] | what the loop needs of a node |
//! | [`race`](mod@race) | two futures, one winner, ties go left |
//! | [`watch`] | snapshot, then every event, never a silent hole |
//!
//! Nothing here knows tokio, sockets or files: `host` and the simulators bring them. If there is
//! an `if` about the protocol in this crate, it belongs in `machines`.
#![forbid(unsafe_code)]

pub mod handle;
pub mod keep;
pub mod ledger;
pub mod machine;
pub mod ports;
pub mod race;
pub mod run;
pub mod start;
mod users;
pub mod watch;

pub use handle::{Endpoint, Gone, Handle, Tracked, handle};
pub use keep::{Asks, Calls, Events, KeeperHandle, Kept, Noted, Removed, keep, keeper_handle};
pub use machine::{Machine, Names};
pub use ports::{
    Clock, Disk, Entropy, Env, Fault, Files, Folder, Happened, LedgerFile, Network, Task, TaskId,
    Told, World,
};
pub use race::{Won, race};
pub use run::{Commands, Ended, RunError, run};
pub use start::{NoSession, burn_session};
pub use users::Letter;
pub use watch::{Watch, Watched};
