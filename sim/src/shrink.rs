//! Shrinking: from a failure to the least that still fails in the same way (T42).
//!
//! ```text
//!   time, nodes, lines, faults ──► whole sites to 0 ──► nodes, faults, time once more
//!        ──► entities and answers to 0, kept only if they let something else go
//!        ──► overrides that nothing needs
//! ```
//!
//! A candidate is taken only if it violates the same property, and only if nothing about it is
//! larger. A site set to 0 takes a decision out of the whole run and costs one word in the file; an
//! entity or a single answer costs several lines, so it must earn them. What is larger than the
//! original in the end is given back.
//!
//! # Source
//!
//! The halving of lists is delta debugging: Zeller and Hildebrandt, *Simplifying and isolating
//! failure-inducing input*, IEEE TSE 2002.

mod cut;

use std::collections::BTreeSet;

use machines::choices::{Answer, Override};

use crate::budget::Budget;
use crate::checker::Violation;
use crate::guest::Guest;
use crate::lab::{Case, Keep, Lab, never_asked};
use crate::world::Ended;
use cut::MS;
pub use cut::Size;

/// Entities or answers that are set to 0 together at the most: a longer list is taken in parts.
const WINDOW: usize = 4_096;

/// What shrinking came to.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The least case found.
    pub case: Case,
    /// How it fails.
    pub violation: Violation,
    /// The hash of its run.
    pub hash: u64,
    /// Candidates tried.
    pub tried: u64,
    /// Whether everything was tried before the budget ran out.
    pub complete: bool,
}

/// Shrinks `case`, which violates `property`, until `budget` is spent. `tell` hears of every step
/// that succeeded.
///
/// # Errors
///
/// If the case does not violate `property`, or is wrong.
pub fn shrink<G: Guest>(
    lab: &Lab<G>,
    case: Case,
    property: &str,
    budget: Budget<'_>,
    tell: &mut dyn FnMut(&str),
) -> Result<Shrunk, String> {
    let Some(ran) = lab.run_case_within(&case, Keep::default(), budget)? else {
        return Err("stopped before the failure showed".to_owned());
    };
    let violation = match ran.outcome.ended {
        Ended::Violated(violation) if violation.property == property => violation,
        Ended::Violated(other) => return Err(format!("{property} holds now, but not {other}")),
        Ended::Passed => return Err("the failure is gone: there is nothing to shrink".to_owned()),
        Ended::Unfinished => return Err("the run hit its step bound".to_owned()),
    };
    let hash = ran.outcome.hash;
    let found = Shrunk { case, violation, hash, tried: 0, complete: true };
    let mut shrinker = Shrinker { lab, found, budget, tell };
    shrinker.all();
    Ok(shrinker.found)
}

struct Shrinker<'a, G: Guest> {
    lab: &'a Lab<G>,
    found: Shrunk,
    budget: Budget<'a>,
    tell: &'a mut dyn FnMut(&str),
}

impl<G: Guest> Shrinker<'_, G> {
    fn all(&mut self) {
        let original = self.found.clone();
        self.clip_time();
        self.nodes();
        self.lines();
        self.builds();
        self.faults();
        let plain = self.found.clone();
        self.sites();
        self.parts();
        self.particulars();
        self.unasked();
        self.fewer_sites(cut::size(&original.case).bytes);
        for fallback in [plain, original.clone()] {
            if cut::size(&self.found.case).bytes > cut::size(&original.case).bytes {
                self.go_back(fallback);
            }
        }
    }

    /// The parts of the scenario once more, after something else has changed.
    fn parts(&mut self) {
        self.nodes();
        self.faults();
        self.clip_time();
    }

    /// Sets entities and single answers to 0, if that makes the rest smaller by more than it costs.
    fn particulars(&mut self) {
        let (before, whole) = (self.found.clone(), self.budget);
        self.budget = whole.share(75);
        self.entities();
        self.singles();
        self.budget = whole;
        self.parts();
        self.fewer_overrides();
        let (new, old) = (cut::size(&self.found.case), cut::size(&before.case));
        if new.bytes > old.bytes || !new.parts_within(old) || new == old {
            self.go_back(before);
        }
    }

    /// Returns to an earlier case, which is known to fail.
    fn go_back(&mut self, to: Shrunk) {
        let (tried, complete) = (self.found.tried, self.found.complete);
        self.found = Shrunk { tried, complete, ..to };
    }

    /// Tries a candidate, and takes it if it fails in the same way and is nowhere larger.
    fn take(&mut self, case: Case, what: &str) -> bool {
        let (new, old) = (cut::size(&case), cut::size(&self.found.case));
        new.parts_within(old) && new.overrides <= old.overrides && self.fails(case, what)
    }

    /// Takes a candidate if it fails in the same way.
    fn fails(&mut self, case: Case, what: &str) -> bool {
        if self.budget.is_spent() {
            self.found.complete = false;
            return false;
        }
        self.found.tried += 1;
        // A candidate that is no right scenario is no candidate.
        let Ok(ran) = self.lab.run_case_within(&case, Keep::default(), self.budget) else {
            return false;
        };
        let Some(ran) = ran else {
            self.found.complete = false;
            return false;
        };
        match ran.outcome.ended {
            Ended::Violated(violation) if violation.property == self.found.violation.property => {
                self.found.hash = ran.outcome.hash;
                self.found.violation = violation;
                self.found.case = case;
                (self.tell)(&format!("{what}: {} left", cut::size(&self.found.case)));
                true
            }
            Ended::Violated(_) | Ended::Passed | Ended::Unfinished => false,
        }
    }

    fn clip_time(&mut self) {
        let at = self.found.violation.at + 1;
        let second = 1_000 * MS;
        let mut ends = vec![at.next_multiple_of(second), at.next_multiple_of(10 * second)];
        if at < second {
            ends.insert(0, at.next_multiple_of(MS));
        }
        for end in ends {
            if let Some(case) = cut::time(&self.found.case, end)
                && self.take(case, "time shortened")
            {
                return;
            }
        }
    }

    fn nodes(&mut self) {
        let mut step = *self.found.case.file.nodes.get_ref() / 2;
        while step > 0 {
            let nodes = *self.found.case.file.nodes.get_ref();
            let fewer = nodes.saturating_sub(step);
            if fewer == 0 || !self.take(cut::nodes(&self.found.case, fewer), "nodes removed") {
                step /= 2;
            }
        }
    }

    fn lines(&mut self) {
        for without in cut::LINES {
            let mut case = self.found.case.clone();
            if without(&mut case.file) {
                self.take(case, "lines removed");
            }
        }
    }

    fn builds(&mut self) {
        self.halving(
            |case| case.file.node.len(),
            |case, range| {
                case.file.node.drain(range);
            },
            "builds removed",
        );
    }

    fn faults(&mut self) {
        self.halving(
            |case| case.file.fault.len(),
            |case, range| {
                case.file.fault.drain(range);
            },
            "faults removed",
        );
        for entry in 0..self.found.case.file.fault.len() {
            for simpler in cut::SIMPLER {
                let mut case = self.found.case.clone();
                let changed = case.file.fault.get_mut(entry).is_some_and(simpler);
                if changed {
                    self.take(case, "a fault made simpler");
                }
            }
        }
    }

    /// Removes ranges of a list: halves, then quarters, down to single entries.
    fn halving(
        &mut self,
        count: impl Fn(&Case) -> usize,
        remove: impl Fn(&mut Case, std::ops::Range<usize>),
        what: &str,
    ) {
        let mut chunk = count(&self.found.case);
        while chunk > 0 {
            let mut start = 0;
            while start < count(&self.found.case) {
                let end = (start + chunk).min(count(&self.found.case));
                let mut case = self.found.case.clone();
                remove(&mut case, start..end);
                if !self.take(case, what) {
                    start = end;
                }
                if self.budget.is_spent() {
                    self.found.complete = false;
                    return;
                }
            }
            chunk /= 2;
        }
    }

    /// Runs the case and returns its answers: the world's and the machines' (T12).
    fn recorded(&mut self) -> Vec<Answer> {
        let keep = Keep { answers: true, ..Keep::default() };
        let ran = self.lab.run_case_within(&self.found.case, keep, self.budget);
        let answers = ran.ok().flatten().map(|ran| ran.answers);
        self.found.complete &= answers.is_some();
        answers.unwrap_or_default()
    }

    fn sites(&mut self) {
        let drawn = |answer: &&Answer| answer.answer != 0;
        let sites: BTreeSet<&str> =
            self.recorded().iter().filter(drawn).map(|answer| answer.site).collect();
        for site in sites {
            self.zero(&[cut::zero(site, None, None)], "a site set to 0");
        }
    }

    fn entities(&mut self) {
        let answers = self.recorded();
        let drawn = answers.iter().filter(|answer| answer.answer != 0);
        let whos: BTreeSet<_> = drawn.map(|answer| (answer.site, answer.who)).collect();
        let zeros = whos.into_iter().map(|(site, who)| cut::zero(site, Some(who), None));
        self.zero_all(&zeros.collect::<Vec<_>>(), "entities set to 0");
    }

    fn singles(&mut self) {
        let answers = self.recorded();
        let drawn = answers.iter().filter(|answer| answer.answer != 0);
        let zeros = drawn.map(|a| cut::zero(a.site, Some(a.who), Some(a.nth)));
        self.zero_all(&zeros.collect::<Vec<_>>(), "answers set to 0");
    }

    /// Sets a list to 0: all of it, else by windows, and in each by halves.
    fn zero_all(&mut self, zeros: &[Override], what: &str) {
        if zeros.is_empty() || self.zero(zeros, what) {
            return;
        }
        for window in zeros.chunks(WINDOW) {
            self.zero_window(window.to_vec(), what);
        }
    }

    fn zero_window(&mut self, mut left: Vec<Override>, what: &str) {
        let mut chunk = left.len();
        while chunk > 0 {
            let mut start = 0;
            while start < left.len() {
                if self.budget.is_spent() {
                    self.found.complete = false;
                    return;
                }
                let end = (start + chunk).min(left.len());
                if self.zero(&left[start..end], what) {
                    left.drain(start..end);
                } else {
                    start = end;
                }
            }
            chunk /= 2;
        }
    }

    fn zero(&mut self, zeros: &[Override], what: &str) -> bool {
        let mut case = self.found.case.clone();
        case.overrides.extend_from_slice(zeros);
        self.fails(case, what)
    }

    /// Removes entities and single answers that the failure does not need.
    fn fewer_overrides(&mut self) {
        // Whole sites first: the halving is over what comes after them.
        let particular = |entry: &Override| entry.who.is_some();
        self.found.case.overrides.sort_by_key(particular);
        let whole = self.found.case.overrides.iter().filter(|entry| !particular(entry)).count();
        self.halving(
            |case| case.overrides.len() - whole,
            |case, range| {
                case.overrides.drain(whole + range.start..whole + range.end);
            },
            "overrides removed",
        );
    }

    /// Lets whole sites draw again while the file has more than `bytes`.
    fn fewer_sites(&mut self, bytes: usize) {
        for place in (0..self.found.case.overrides.len()).rev() {
            if cut::size(&self.found.case).bytes <= bytes {
                return;
            }
            let mut case = self.found.case.clone();
            case.overrides.remove(place);
            self.take(case, "overrides removed");
        }
    }

    /// Removes overrides that no question asks for: the run stays what it is.
    fn unasked(&mut self) {
        if self.found.case.overrides.is_empty() {
            return;
        }
        let answers = self.recorded();
        let overrides = &self.found.case.overrides;
        let vain: BTreeSet<Override> = never_asked(overrides, &answers).cloned().collect();
        let mut case = self.found.case.clone();
        case.overrides.retain(|entry| !vain.contains(entry));
        if !answers.is_empty() && !vain.is_empty() {
            self.take(case, "overrides removed");
        }
    }
}

#[cfg(test)]
mod tests;
