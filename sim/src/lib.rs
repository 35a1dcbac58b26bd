//! The testbed: whole clusters of production nodes from seeds and faults, replayed and shrunk.

pub mod decorators;
