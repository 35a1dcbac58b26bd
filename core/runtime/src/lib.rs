//! The ports of a node and the run loop that carries bytes and time between them.
