//! A campaign: seeds × scenarios on several threads, with what came of them (T4, T5).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::checker::Violation;
use crate::failure::{Failure, path_of, shrunk_path};
use crate::guest::Guest;
use crate::lab::{Case, Keep, Lab, Ran};
use crate::progress::Progress;
use crate::scenario::Scenario;
use crate::shrink;
use crate::world::Ended;

/// Every so many seeds, one is run twice (T4).
const TWICE: u64 = 20;
/// Failure files written for one scenario and property.
const FILES_MAX: u64 = 5;

/// What a campaign is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seeds, or what each scenario asks for.
    pub seeds: Option<std::ops::Range<u64>>,
    /// Threads.
    pub jobs: usize,
    /// How long it may take.
    pub time: Option<Duration>,
    /// How long a failure is shrunk; zero for not at all.
    pub shrink: Duration,
    /// Where reports go.
    pub reports: PathBuf,
    /// Whether a progress bar may be shown.
    pub bar: bool,
}

/// What came of one scenario.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Summary {
    /// The scenario.
    pub scenario: String,
    /// Seeds asked for.
    pub seeds: u64,
    /// Runs that held every property.
    pub passed: u64,
    /// Runs that violated one.
    pub failed: u64,
    /// Runs that hit the step bound.
    pub unfinished: u64,
    /// Runs that could not be made.
    pub broken: Vec<String>,
    /// Seeds that were run twice, and gave the same hash.
    pub same: u64,
    /// Seeds that gave two hashes: where their runs part.
    pub parted: Vec<String>,
    /// Inputs handled by nodes.
    pub events: u64,
    /// Virtual time, in nanoseconds.
    pub virtual_ns: u64,
    /// Processor time, in nanoseconds.
    pub wall_ns: u64,
    /// The hash over the hashes of all runs, in order of seeds.
    pub hash: String,
    /// Violations: property → how often.
    pub violations: BTreeMap<String, u64>,
    /// The first seeds that failed, with what they said.
    pub examples: Vec<Example>,
    /// Marks hit (T25).
    pub marks: BTreeMap<String, u64>,
    /// Marks that the scenario asks for and that no seed reached.
    pub missed: Vec<String>,
    /// Property → passed runs in which its checker looked at something.
    pub armed: BTreeMap<String, u64>,
    /// Properties that the scenario is for and that no passed run looked at.
    pub unarmed: Vec<String>,
}

/// One failure, as the summary tells it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Example {
    /// The seed.
    pub seed: u64,
    /// The violation.
    pub violation: String,
    /// The failure file.
    pub file: String,
    /// The shrunk one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shrunk: Option<String>,
}

/// What came of a campaign.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Campaign {
    /// Per scenario.
    pub scenarios: Vec<Summary>,
    /// Wall time, in seconds.
    pub seconds: f64,
    /// Whether every seed was run.
    pub complete: bool,
}

impl Campaign {
    /// Returns the exit code (section 7 of the testbed's spec).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let any = |what: fn(&Summary) -> bool| self.scenarios.iter().any(what);
        if any(|s| !s.parted.is_empty()) {
            3
        } else if any(|s| s.failed > 0 || !s.missed.is_empty() || !s.unarmed.is_empty()) {
            1
        } else if any(|s| !s.broken.is_empty()) {
            2
        } else if !self.complete || any(|s| s.unfinished > 0) {
            4
        } else {
            0
        }
    }
}

/// One seed of one scenario.
#[derive(Clone, Copy, Debug)]
struct Job {
    scenario: usize,
    seed: u64,
    twice: bool,
}

struct Done {
    job: Job,
    result: Result<Ran, String>,
    parted: Option<String>,
    wall: Duration,
}

/// Runs every scenario with its seeds. `stop` ends it early and cleanly.
///
/// # Panics
///
/// If the operating system gives no thread.
pub fn campaign<G: Guest>(
    lab: &Lab<G>,
    scenarios: &[Scenario],
    options: &Options,
    stop: &AtomicBool,
) -> Campaign
where
    Lab<G>: Sync,
{
    let began = Instant::now();
    let jobs = jobs(scenarios, options);
    let until = options.time.map(|time| began + time);
    let mut tally = Tally::new(scenarios, options);
    let progress = Progress::new(jobs.len(), options.bar);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..options.jobs.max(1) {
            let (sender, jobs, next) = (sender.clone(), &jobs, &next);
            scope.spawn(move || {
                while !stop.load(Relaxed) && until.is_none_or(|until| Instant::now() < until) {
                    let Some(job) = jobs.get(next.fetch_add(1, Relaxed)) else {
                        return;
                    };
                    if sender.send(work(lab, &scenarios[job.scenario], *job)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for done in receiver {
            progress.count(&done.result, done.wall);
            tally.count(done);
        }
    });
    progress.finish();
    let complete = tally.runs == jobs.len() as u64;
    let scenarios = tally.finish(lab, scenarios, options, stop);
    Campaign { scenarios, seconds: began.elapsed().as_secs_f64(), complete }
}

/// Lays out the work: seed by seed across scenarios, so that a budget reaches all of them.
fn jobs(scenarios: &[Scenario], options: &Options) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (scenario, told) in scenarios.iter().enumerate() {
        let seeds = options.seeds.clone().unwrap_or(0..told.seeds);
        for (place, seed) in (0..).zip(seeds) {
            jobs.push((place, Job { scenario, seed, twice: place % TWICE == 0 }));
        }
    }
    jobs.sort_by_key(|(place, _): &(u64, Job)| *place);
    jobs.into_iter().map(|(_, job)| job).collect()
}

fn work<G: Guest>(lab: &Lab<G>, scenario: &Scenario, job: Job) -> Done {
    let began = Instant::now();
    let result = lab.run(scenario, job.seed, Keep::default());
    let wall = began.elapsed();
    let mut parted = None;
    if job.twice
        && let Ok(first) = &result
        && let Ok(second) = lab.run(scenario, job.seed, Keep::default())
        && first.outcome != second.outcome
    {
        parted = Some(where_parted(lab, scenario, job.seed));
    }
    Done { job, result, parted, wall }
}

/// Finds the first event at which two runs of a seed part (T4).
#[must_use]
pub fn where_parted<G: Guest>(lab: &Lab<G>, scenario: &Scenario, seed: u64) -> String {
    let keep = Keep { hashes: true, trace: true, ..Keep::default() };
    let (Ok(one), Ok(two)) = (lab.run(scenario, seed, keep), lab.run(scenario, seed, keep)) else {
        return format!("seed {seed}: the runs part, and cannot be repeated");
    };
    let event = one.hashes.iter().zip(&two.hashes).position(|(a, b)| a != b);
    let line = one.trace.iter().zip(&two.trace).find(|(a, b)| a != b);
    let what = line.map_or_else(String::new, |(a, b)| format!(": {a:?} or {b:?}"));
    match event {
        Some(event) => format!("seed {seed}: the runs part at event {event}{what}"),
        None => format!("seed {seed}: the runs part only in their final state{what}"),
    }
}

struct Tally {
    summaries: Vec<Summary>,
    /// Per scenario: the hash of each seed.
    hashes: Vec<BTreeMap<u64, u64>>,
    failures: Vec<(usize, u64, Violation, u64)>,
    runs: u64,
}

impl Tally {
    fn new(scenarios: &[Scenario], options: &Options) -> Self {
        let summary = |scenario: &Scenario| Summary {
            scenario: scenario.name().to_owned(),
            seeds: options.seeds.as_ref().map_or(scenario.seeds, |s| s.end.saturating_sub(s.start)),
            ..Summary::default()
        };
        Self {
            summaries: scenarios.iter().map(summary).collect(),
            hashes: vec![BTreeMap::new(); scenarios.len()],
            failures: Vec::new(),
            runs: 0,
        }
    }

    fn count(&mut self, done: Done) {
        self.runs += 1;
        let (place, seed) = (done.job.scenario, done.job.seed);
        let summary = &mut self.summaries[place];
        summary.wall_ns += u64::try_from(done.wall.as_nanos()).unwrap_or(u64::MAX);
        match done.parted {
            Some(where_parted) => summary.parted.push(where_parted),
            None => summary.same += u64::from(done.job.twice),
        }
        let ran = match done.result {
            Ok(ran) => ran,
            Err(why) => return summary.broken.push(format!("seed {seed}: {why}")),
        };
        summary.events += ran.outcome.events;
        summary.virtual_ns += ran.outcome.at;
        for (mark, hits) in ran.marks {
            *summary.marks.entry(mark.to_owned()).or_insert(0) += hits;
        }
        self.hashes[place].insert(seed, ran.outcome.hash);
        match ran.outcome.ended {
            Ended::Passed => {
                summary.passed += 1;
                for (property, looked) in ran.outcome.armed {
                    let runs = summary.armed.entry(property.to_owned()).or_insert(0);
                    *runs += u64::from(looked > 0);
                }
            }
            Ended::Unfinished => summary.unfinished += 1,
            Ended::Violated(violation) => {
                summary.failed += 1;
                *summary.violations.entry(violation.property.to_owned()).or_insert(0) += 1;
                self.failures.push((place, seed, violation, ran.outcome.hash));
            }
        }
    }

    fn finish<G: Guest>(
        mut self,
        lab: &Lab<G>,
        scenarios: &[Scenario],
        options: &Options,
        stop: &AtomicBool,
    ) -> Vec<Summary> {
        for (place, hashes) in self.hashes.iter().enumerate() {
            let all = machines::digest::Digest::of(&hashes.values().collect::<Vec<_>>());
            self.summaries[place].hash = format!("{all:016x}");
        }
        for (summary, scenario) in self.summaries.iter_mut().zip(scenarios) {
            let enough = summary.seeds >= scenario.seeds;
            let missed =
                scenario.sometimes.iter().filter(|mark| !summary.marks.contains_key(*mark));
            summary.missed = missed.filter(|_| enough).cloned().collect();
            let armed = |property: &String| summary.armed.get(property).is_some_and(|n| *n > 0);
            let to_arm = if summary.passed > 0 { lab.to_arm(scenario) } else { Vec::new() };
            summary.unarmed = to_arm.into_iter().filter(|property| !armed(property)).collect();
        }
        self.failures.sort_by_key(|(place, seed, ..)| (*place, *seed));
        let mut written: BTreeMap<(usize, &str), u64> = BTreeMap::new();
        for (place, seed, violation, hash) in &self.failures {
            let count = written.entry((*place, violation.property)).or_insert(0);
            *count += 1;
            if *count > FILES_MAX {
                continue;
            }
            let shrinks = *count == 1 && !options.shrink.is_zero() && !stop.load(Relaxed);
            let budget = if shrinks { options.shrink } else { Duration::ZERO };
            let found = (*seed, violation, *hash);
            let example = write_failure(lab, &scenarios[*place], found, options, budget);
            self.summaries[*place].examples.push(example);
        }
        self.summaries
    }
}

fn write_failure<G: Guest>(
    lab: &Lab<G>,
    scenario: &Scenario,
    (seed, violation, hash): (u64, &Violation, u64),
    options: &Options,
    budget: Duration,
) -> Example {
    let path = path_of(&options.reports, scenario.name(), seed);
    let mut example = Example {
        seed,
        violation: violation.to_string(),
        file: path.display().to_string(),
        shrunk: None,
    };
    let Ok(resolved) = scenario.resolve(seed) else {
        return example;
    };
    let case = Case { file: resolved.file, seed, overrides: Vec::new(), saboteur: None };
    if let Err(why) = Failure::new(&case, violation, hash, &path).write(&path) {
        example.file = format!("(not written: {why})");
    }
    if budget.is_zero() {
        return example;
    }
    if options.bar {
        eprintln!("shrinking {} of seed {seed} …", violation.property);
    }
    if let Ok(shrunk) = shrink::shrink(lab, case, budget, &mut |_| {}) {
        let path = shrunk_path(&path);
        let failure = Failure::new(&shrunk.case, &shrunk.violation, shrunk.hash, &path);
        if failure.write(&path).is_ok() {
            example.shrunk = Some(path.display().to_string());
        }
    }
    example
}

#[cfg(test)]
mod tests;
