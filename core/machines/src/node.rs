//! The machine of one node: what production and every simulator drive.

pub mod io;
