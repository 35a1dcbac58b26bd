//! Links.

pub mod io;
