//! Routing of messages to actors.

pub mod io;
