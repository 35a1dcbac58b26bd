//! The kernel: processes with budgets, questions to people, pipelines, services (K1).

mod numbered;

pub mod config;
pub mod ids;
pub mod names;
pub mod principal;
pub mod quota;
pub mod ready;
pub mod refusal;
pub mod time;

pub use refusal::{Code, Refusal};
pub use time::{Millis, Time};
