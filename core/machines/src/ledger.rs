//! The ledger: what happened, kept so that a crash takes nothing back that anyone has seen.

pub mod fold;
pub mod root;
pub mod snapshot;
pub mod table;
