//! Every decision of a node, as plain values.
#![forbid(unsafe_code)]
