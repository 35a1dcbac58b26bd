//! Membership.

pub mod io;
