//! Goal: sessions do what section 8 says, by examples.

mod examples;
mod failures;
mod groups;
mod questions;
mod reports;
mod starts;
