//! The command `lockstep-sim`.

fn main() {}
