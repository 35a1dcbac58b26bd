//! Shrinking: from a failure to the least that still fails in the same way (T42).
//!
//! It removes nodes, client operations and faults, sets whole sites, then entities, then single
//! answers to 0, and shortens time. A candidate is taken only if it violates the same property, and
//! only if nothing about it is larger: so it never ends with more than it began with.
//!
//! # Source
//!
//! The halving of lists is delta debugging: Zeller and Hildebrandt, *Simplifying and isolating
//! failure-inducing input*, IEEE TSE 2002.

mod cut;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use machines::choices::{Answer, Override};

use crate::checker::Violation;
use crate::guest::Guest;
use crate::lab::{Case, Keep, Lab};
use crate::world::Ended;

/// Sites at which machines ask (C3); the world's own are found by recording.
const MACHINE_SITES: [&str; 8] = [
    "swim.phase",
    "swim.order",
    "swim.helper",
    "swim.gossip",
    "swim.reprobe",
    "sync.partner",
    "link.backoff",
    "registry.ask",
];

/// Entities or answers that are looked at one by one at the most.
const SINGLES_MAX: usize = 4_096;

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

/// How large a case is: no part may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Nodes.
    pub nodes: u32,
    /// Entries of the plan.
    pub faults: usize,
    /// Lines of the scenario that are neither: workload, network, configuration.
    pub lines: usize,
    /// Virtual time, in nanoseconds.
    pub duration: u64,
}

impl Size {
    fn within(self, other: Self) -> bool {
        self.nodes <= other.nodes
            && self.faults <= other.faults
            && self.lines <= other.lines
            && self.duration <= other.duration
    }
}

/// Shrinks `case` for at most `budget`. `tell` hears of every step that succeeded.
///
/// # Errors
///
/// If the case does not fail, or its scenario is wrong.
pub fn shrink<G: Guest>(
    lab: &Lab<G>,
    case: Case,
    budget: Duration,
    tell: &mut dyn FnMut(&str),
) -> Result<Shrunk, String> {
    let ran = lab.run_case(&case, Keep::default())?;
    let Ended::Violated(violation) = ran.outcome.ended else {
        return Err("the failure is gone: there is nothing to shrink".to_owned());
    };
    let hash = ran.outcome.hash;
    let found = Shrunk {
        case,
        violation,
        hash,
        tried: 0,
        complete: false,
    };
    let mut shrinker = Shrinker {
        lab,
        found,
        until: Instant::now() + budget,
        tell,
    };
    shrinker.all();
    let mut found = shrinker.found;
    found.complete = Instant::now() < shrinker.until;
    Ok(found)
}

struct Shrinker<'a, G: Guest> {
    lab: &'a Lab<G>,
    found: Shrunk,
    until: Instant,
    tell: &'a mut dyn FnMut(&str),
}

impl<G: Guest> Shrinker<'_, G> {
    fn all(&mut self) {
        self.clip_time();
        self.nodes();
        self.lines();
        self.faults();
        self.sites();
        self.entities();
        self.singles();
        self.nodes();
        self.faults();
        self.clip_time();
    }

    /// Tries a candidate, and takes it if it fails in the same way and is nowhere larger.
    fn take(&mut self, case: Case, what: &str) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        let (Some(new), Some(old)) = (cut::size(&case), cut::size(&self.found.case)) else {
            return false;
        };
        if !new.within(old) {
            return false;
        }
        self.found.tried += 1;
        let Ok(ran) = self.lab.run_case(&case, Keep::default()) else {
            return false;
        };
        match ran.outcome.ended {
            Ended::Violated(violation) if violation.property == self.found.violation.property => {
                self.found.hash = ran.outcome.hash;
                self.found.violation = violation;
                self.found.case = case;
                let left = cut::size(&self.found.case).map_or_else(String::new, |size| {
                    let time = crate::scenario::span::write(size.duration);
                    format!("{} nodes, {} faults, {time}", size.nodes, size.faults)
                });
                (self.tell)(&format!("{what}: {left} left"));
                true
            }
            Ended::Violated(_) | Ended::Passed | Ended::Unfinished => false,
        }
    }

    fn clip_time(&mut self) {
        for slack in [1_000_000, 1_000_000_000, 10_000_000_000] {
            let at = self.found.violation.at.saturating_add(slack);
            if let Some(case) = cut::time(&self.found.case, at)
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
                if Instant::now() >= self.until {
                    return;
                }
            }
            chunk /= 2;
        }
    }

    fn recorded(&self) -> Vec<Answer> {
        let keep = Keep {
            answers: true,
            ..Keep::default()
        };
        self.lab
            .run_case(&self.found.case, keep)
            .map(|ran| ran.answers)
            .unwrap_or_default()
    }

    fn sites(&mut self) {
        let mut sites: BTreeSet<&str> = self.recorded().iter().map(|answer| answer.site).collect();
        sites.extend(MACHINE_SITES);
        for site in sites {
            let zero = Override {
                site: site.to_owned(),
                who: None,
                nth: None,
                answer: 0,
            };
            self.zero(&[zero], "a site set to 0");
        }
    }

    fn entities(&mut self) {
        let whos: BTreeSet<_> = self.recorded().iter().map(|a| (a.site, a.who)).collect();
        let zeros: Vec<Override> = whos
            .into_iter()
            .map(|(site, who)| Override {
                site: site.to_owned(),
                who: Some(who),
                nth: None,
                answer: 0,
            })
            .collect();
        self.zero_chunks(&zeros, "entities set to 0");
    }

    fn singles(&mut self) {
        let answers = self.recorded();
        let zeros: Vec<Override> = answers
            .into_iter()
            .map(|answer| Override {
                site: answer.site.to_owned(),
                who: Some(answer.who),
                nth: Some(answer.nth),
                answer: 0,
            })
            .collect();
        self.zero_chunks(&zeros, "answers set to 0");
    }

    fn zero_chunks(&mut self, zeros: &[Override], what: &str) {
        if zeros.is_empty() || zeros.len() > SINGLES_MAX {
            return;
        }
        let mut left: Vec<Override> = zeros.to_vec();
        let mut chunk = left.len();
        while chunk > 0 {
            let mut start = 0;
            while start < left.len() && Instant::now() < self.until {
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
        self.take(case, what)
    }
}

#[cfg(test)]
mod tests;
