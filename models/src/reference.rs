//! Sequential reference models: what a machine must answer, in the fewest words (T74).

pub mod kernel;
pub mod registry;
