//! The ledger: what happened, in order, on disk (ledger.md).
//!
//! One decision is one record, and all that a record makes visible waits for the disk:
//!
//! ```text
//! events of one decision ─► Append ─► write ─► sync ─► Durable(n) ─► outputs of records ≤ n
//!                                       ▲    (at most one write and one sync in flight:
//!                                       │     what arrives meanwhile goes into the next write)
//! crash ─► Recovery: list, read, check ─┴─► records one by one ─► the same `apply`
//! ```
//!
//! | part | what it knows |
//! | --- | --- |
//! | [`record`] | the bytes of one record and its place in the hash chain |
//! | [`segment`] | the header and the names of the files that hold the records |
//! | [`journal`] | the machine that appends: group commit, rotation, full disks, failed syncs |
//! | [`recovery`] | the machine that reads it all again, and tells torn from corrupt |
//! | [`piece`] | bytes that were read and are shared, not copied |
//! | [`places`] | which events are in which segment |
//! | [`reader`] | a walk through durable records of a journal that is being written |
//! | [`table`], [`root`] | tables whose root follows every change, and the root of a state |
//! | [`fold`] | what a state that is a fold over events can do |
//! | [`snapshot`] | the state at one record as a file, written beside the running node |
//!
//! No machine here does I/O: each says what to do to which file, and is told what became of it.

pub mod fold;
pub mod journal;
pub mod piece;
pub mod places;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod root;
pub mod segment;
pub mod snapshot;
pub mod table;

#[cfg(test)]
mod props;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod sweep;
