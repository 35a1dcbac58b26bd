//! What was measured, and the files that carry it from the benchmarks to the verdict.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::workspace;

/// A result that is so much older than the newest belongs to another run.
const SAME_RUN: Duration = Duration::from_secs(3_600);

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Operations a second: more is better.
    #[serde(rename = "/s")]
    PerSecond,
    /// Nanoseconds an operation: less is better.
    #[serde(rename = "ns")]
    NanosecondsEach,
    /// Seconds of the clock: less is better.
    #[serde(rename = "s")]
    Seconds,
    /// Bytes: less is better.
    #[serde(rename = "B")]
    Bytes,
    /// A plain count: less is better.
    #[serde(rename = "")]
    Count,
}

impl Unit {
    /// Says whether a greater figure is the better one.
    #[must_use]
    pub fn more_is_better(self) -> bool {
        self == Self::PerSecond
    }

    /// Returns the figure for `operations` that took `took` in all.
    #[must_use]
    pub fn of(self, took: Duration, operations: u64) -> f64 {
        match self {
            Self::PerSecond => operations as f64 / took.as_secs_f64(),
            Self::NanosecondsEach => took.as_secs_f64() * 1e9 / operations as f64,
            Self::Seconds => took.as_secs_f64(),
            Self::Bytes | Self::Count => panic!("time is not counted in this unit"),
        }
    }

    /// Prints `value` as a person would write it.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::PerSecond if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
            Self::PerSecond if value >= 1e3 => format!("{:.1} k/s", value / 1e3),
            Self::PerSecond => format!("{value:.1} /s"),
            Self::NanosecondsEach if value >= 1e6 => format!("{:.2} ms", value / 1e6),
            Self::NanosecondsEach if value >= 1e3 => format!("{:.2} µs", value / 1e3),
            Self::NanosecondsEach => format!("{value:.1} ns"),
            Self::Seconds => format!("{value:.3} s"),
            Self::Bytes => format!("{value:.0} B"),
            Self::Count => format!("{value:.0}"),
        }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Case and contender: `mailbox/mpsc/1p1c/u64/linked`.
    pub id: String,
    /// The median.
    pub value: f64,
    /// What it counts.
    pub unit: Unit,
    /// Of the fastest and of the slowest round.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<44} {:>12}", self.id, self.unit.show(self.value))?;
        if let Some([best, worst]) = self.range {
            write!(f, "   ({} … {})", self.unit.show(best), self.unit.show(worst))?;
        }
        Ok(())
    }
}

/// The figures of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    results: Vec<Measured>,
}

/// The part of criterion's `benchmark.json` that matters here.
#[derive(Deserialize)]
struct CriterionId {
    full_id: String,
}

/// The part of criterion's `estimates.json` that matters here; nanoseconds.
#[derive(Deserialize)]
struct CriterionEstimates {
    median: CriterionEstimate,
}

#[derive(Deserialize)]
struct CriterionEstimate {
    point_estimate: f64,
    confidence_interval: CriterionInterval,
}

#[derive(Deserialize)]
struct CriterionInterval {
    lower_bound: f64,
    upper_bound: f64,
}

impl Results {
    /// Adds a figure; an older one of the same id goes.
    pub fn add(&mut self, measured: Measured) {
        self.results.retain(|known| known.id != measured.id);
        self.results.push(measured);
    }

    /// Adds what was counted, not timed.
    pub fn count(&mut self, id: &str, value: f64, unit: Unit) {
        let measured = Measured { id: id.to_owned(), value, unit, range: None };
        println!("{measured}");
        self.add(measured);
    }

    /// Finds a figure.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&Measured> {
        self.results.iter().find(|measured| measured.id == id)
    }

    /// Writes the figures to `target/bars/<bench>.json`.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn save(&self, bench: &str) -> io::Result<()> {
        let folder = workspace().join("target/bars");
        fs::create_dir_all(&folder)?;
        let text = serde_json::to_string_pretty(self)?;
        fs::write(folder.join(format!("{bench}.json")), text)
    }

    /// Reads everything that the last run left under `target` of the workspace.
    ///
    /// # Errors
    ///
    /// The file system's, and files that are not what they should be.
    pub fn load() -> io::Result<Self> {
        let target = workspace().join("target");
        let mut found = Vec::new();
        collect(&target.join("bars"), &mut found)?;
        collect(&target.join("criterion"), &mut found)?;

        let newest = found.iter().map(|(written, _)| *written).max();
        let fresh = newest.map_or(SystemTime::UNIX_EPOCH, |newest| newest - SAME_RUN);
        let mut all = Self::default();
        for (written, results) in found {
            if written >= fresh {
                results.into_iter().for_each(|measured| all.add(measured));
            }
        }
        Ok(all)
    }
}

/// Finds the results under `folder`, with the times at which they were written.
fn collect(folder: &Path, found: &mut Vec<(SystemTime, Vec<Measured>)>) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.ends_with("new/estimates.json") {
            let id: CriterionId = read(&path.with_file_name("benchmark.json"))?;
            let estimates: CriterionEstimates = read(&path)?;
            let interval = &estimates.median.confidence_interval;
            let measured = Measured {
                id: id.full_id,
                value: estimates.median.point_estimate,
                unit: Unit::NanosecondsEach,
                range: Some([interval.lower_bound, interval.upper_bound]),
            };
            found.push((entry.metadata()?.modified()?, vec![measured]));
        } else if folder.ends_with("bars") {
            let results: Results = read(&path)?;
            found.push((entry.metadata()?.modified()?, results.results));
        }
    }
    Ok(())
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> io::Result<T> {
    let named = |why: String| io::Error::other(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|why| named(why.to_string()))?;
    serde_json::from_str(&text).map_err(|why| named(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_and_a_time_are_each_others_inverse() {
        let took = Duration::from_micros(10);
        assert!((Unit::PerSecond.of(took, 100) - 1e7).abs() < 1.0);
        assert!((Unit::NanosecondsEach.of(took, 100) - 100.0).abs() < 1e-6);
    }

    #[test]
    fn results_survive_their_file() {
        let mut results = Results::default();
        results.count("link/memory/idle", 4_096.0, Unit::Bytes);
        let text = serde_json::to_string(&results).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), results);
    }

    #[test]
    fn a_second_measurement_replaces_the_first() {
        let mut results = Results::default();
        results.count("it", 1.0, Unit::Count);
        results.count("it", 2.0, Unit::Count);
        assert_eq!(results.results.len(), 1);
        assert!(results.find("it").unwrap().value > 1.5);
    }
}
