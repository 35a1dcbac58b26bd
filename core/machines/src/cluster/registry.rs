//! The registry of names.

pub mod io;
