//! Goal: interrupts and approvals by examples (K150 – K175 and section 14).

mod answers;
mod approvals;
mod asking;
mod lists;
mod silence;
