//! Contenders that take turns, so that a slow minute of the machine strikes them all alike.
//!
//! Criterion measures one function after the other. On a shared machine two functions that are
//! minutes apart have met two different machines, and their ratio says little.

use std::time::{Duration, Instant};

use crate::on_core::OnCore;
use crate::results::{Measured, Results, Unit};

/// One contender of a case.
struct Contender<'a> {
    name: &'static str,
    run: Box<dyn FnMut() -> Duration + 'a>,
}

/// One case: who takes part, and how much each does in a round.
pub struct Case<'a> {
    name: String,
    operations: u64,
    unit: Unit,
    contenders: Vec<Contender<'a>>,
}

impl<'a> Case<'a> {
    /// Begins a case in which every run does `operations`.
    #[must_use]
    pub fn new(name: &str, operations: u64, unit: Unit) -> Self {
        Self { name: name.to_owned(), operations, unit, contenders: Vec::new() }
    }

    /// Adds a contender. `run` tells how long its operations took.
    #[must_use]
    pub fn timed(mut self, name: &'static str, run: impl FnMut() -> Duration + 'a) -> Self {
        let run = Box::new(run);
        self.contenders.push(Contender { name, run });
        self
    }

    /// Adds a contender whose whole run counts.
    #[must_use]
    pub fn whole(self, name: &'static str, mut run: impl FnMut() + 'a) -> Self {
        self.timed(name, move || {
            let start = Instant::now();
            run();
            start.elapsed()
        })
    }

    /// Adds a contender whose whole run counts, by this thread's time on a core.
    #[must_use]
    pub fn on_core(self, name: &'static str, mut run: impl FnMut() + 'a) -> Self {
        self.timed(name, move || {
            let start = OnCore::thread();
            run();
            start.elapsed()
        })
    }

    /// Runs everyone once to warm up and then `rounds` times, each round beginning with another;
    /// adds the medians to `results` and prints them.
    pub fn measure(mut self, rounds: u32, results: &mut Results) {
        let mut taken = vec![Vec::new(); self.contenders.len()];
        for round in 0..=rounds as usize {
            for turn in 0..self.contenders.len() {
                let who = (round + turn) % self.contenders.len();
                let took = (self.contenders[who].run)();
                if round > 0 {
                    taken[who].push(took);
                }
            }
        }
        for (contender, taken) in self.contenders.iter().zip(&mut taken) {
            taken.sort_unstable();
            let figure = |at: usize| self.unit.of(taken[at], self.operations);
            let measured = Measured {
                id: format!("{}/{}", self.name, contender.name),
                value: figure(taken.len() / 2),
                unit: self.unit,
                range: Some([figure(0), figure(taken.len() - 1)]),
            };
            println!("{measured}");
            results.add(measured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_reported_and_the_warm_up_is_not() {
        let mut results = Results::default();
        let mut takes = [900, 10, 40, 20].into_iter().map(Duration::from_nanos);
        Case::new("case", 10, Unit::NanosecondsEach)
            .timed("it", || takes.next().unwrap())
            .measure(3, &mut results);
        let measured = results.find("case/it").unwrap();
        assert!((measured.value - 2.0).abs() < 1e-9, "{measured}");
        assert_eq!(measured.range, Some([1.0, 4.0]));
    }
}
