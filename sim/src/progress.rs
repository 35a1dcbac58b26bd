//! The progress bar of a campaign: off when the output is no terminal.

use std::cell::Cell;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

use crate::lab::Ran;
use crate::world::Ended;

/// Counts runs, and shows them if someone looks.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    runs: Cell<u64>,
    events: Cell<u64>,
    virtual_ns: Cell<u64>,
    failures: Cell<u64>,
}

impl Progress {
    /// Begins to count `jobs` runs.
    pub(crate) fn new(jobs: u64, shown: bool) -> Self {
        let bar = if shown { ProgressBar::new(jobs) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds  {msg}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self {
            bar,
            began: Instant::now(),
            runs: Cell::new(0),
            events: Cell::new(0),
            virtual_ns: Cell::new(0),
            failures: Cell::new(0),
        }
    }

    /// Counts one run.
    pub(crate) fn count(&self, result: &Result<Ran, String>) {
        self.runs.update(|runs| runs + 1);
        if let Ok(ran) = result {
            self.events.update(|events| events + ran.outcome.events);
            self.virtual_ns.update(|at| at + ran.outcome.at);
            let failed = u64::from(matches!(ran.outcome.ended, Ended::Violated(_)));
            self.failures.update(|failures| failures + failed);
        }
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        self.bar.set_message(format!(
            "{:.1} seeds/s  {:.0} events/s  {:.0} virtual/wall  {} failed",
            self.runs.get() as f64 / seconds,
            self.events.get() as f64 / seconds,
            self.virtual_ns.get() as f64 / 1e9 / seconds,
            self.failures.get(),
        ));
        self.bar.inc(1);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
