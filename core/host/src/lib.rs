//! The production world of a node: tokio, sockets, files, configuration; the lockstep binary.
