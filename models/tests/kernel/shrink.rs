//! Makes a sequence that fails shorter, for as long as it fails.

use models::reference::kernel::Wrong;

use crate::run::{Met, run};
use crate::steps::Case;

/// Removes what is not needed for a failure: halves, quarters, … and single steps, again and
/// again until no single step can go.
pub(crate) fn shrink(mut case: Case, wrong: Option<Wrong>) -> Case {
    let fails = |case: &Case| run(case, wrong, &mut Met::default()).is_err();
    let mut size = case.steps.len().div_ceil(2);
    while size > 0 {
        let before = case.steps.len();
        let mut at = 0;
        while at < case.steps.len() {
            let mut shorter = case.clone();
            let end = (at + size).min(shorter.steps.len());
            shorter.steps.drain(at..end);
            match fails(&shorter) {
                true => case = shorter,
                false => at += size,
            }
        }
        size = match size {
            1 if case.steps.len() < before => 1,
            _ => size / 2,
        };
    }
    case
}
