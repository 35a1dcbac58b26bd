//! The kernel: processes, budgets, interrupts, pipelines and services of agents, as decisions.

#[macro_use]
pub mod json;

pub mod expression;
pub mod merge;
pub mod pipeline;
pub mod refusal;
pub mod schema;
