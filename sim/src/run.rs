//! A campaign: seeds × scenarios on several threads, with what came of them (T4, T5).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::checker::Violation;
use crate::failure::{Failure, path_of, shown, shrunk_path};
use crate::guest::Guest;
use crate::lab::{Case, Keep, Lab, Ran};
use crate::progress::Progress;
use crate::scenario::Scenario;
use crate::shrink;
use crate::threads::in_parallel;
use crate::world::Ended;

/// Every so many seeds, one is run twice (T4).
const TWICE: u64 = 20;
/// Failures that the table tells of for one scenario and property; each has its file.
const EXAMPLES_MAX: u64 = 5;

/// What a campaign is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seeds, or what each scenario asks for.
    pub seeds: Option<Range<u64>>,
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
    /// What the runs counted: table → what → how often. [`tables`] lists the tables.
    pub counts: BTreeMap<&'static str, BTreeMap<String, u64>>,
    /// What the scenario asks for and no seed brought about.
    pub missed: Vec<String>,
}

impl Summary {
    /// Returns how often the runs counted `what` in `table`.
    #[must_use]
    pub fn count(&self, table: &str, what: &str) -> u64 {
        self.counts.get(table).and_then(|counts| counts.get(what)).copied().unwrap_or(0)
    }

    /// Says whether every seed was run.
    fn is_whole(&self) -> bool {
        self.passed + self.failed + self.unfinished + self.broken.len() as u64 == self.seeds
    }
}

/// The table of marks (T25).
pub const MARKS: &str = "marks";
/// The table of refusals to start (T22).
pub const REFUSALS: &str = "refusals";
/// The table of faults that did something, by kind (T20).
pub const STRIKES: &str = "strikes";
/// The table of looks at each property (T31).
pub const ARMED: &str = "armed";

/// What a run counted, by table: a further line is a further table in every report.
fn tables(ran: &Ran) -> impl IntoIterator<Item = (&'static str, &BTreeMap<&'static str, u64>)> {
    let outcome = &ran.outcome;
    [
        (MARKS, &ran.marks),
        (REFUSALS, &outcome.refusals),
        (STRIKES, &outcome.strikes),
        (ARMED, &outcome.armed),
    ]
}

/// One failure, as the summary tells it.
#[derive(Clone, Debug, Default, serde::Serialize)]
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
    /// Why a file is missing or not as small as it could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
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
        } else if any(|s| s.failed > 0 || !s.missed.is_empty()) {
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
    let jobs = Jobs::new(scenarios, options);
    let total = jobs.total();
    let budget = Budget::until_stopped(stop).within(options.time);
    let mut tally = Tally::new(scenarios, options);
    let progress = Progress::new(total, options.bar);
    let jobs = Mutex::new(jobs);
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..options.jobs.max(1) {
            let (sender, jobs) = (sender.clone(), &jobs);
            scope.spawn(move || {
                let next = || jobs.lock().ok().and_then(|mut jobs| jobs.next());
                while let Some(job) = next() {
                    let Some(done) = work(lab, &scenarios[job.scenario], job, budget) else {
                        return;
                    };
                    if sender.send(done).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for done in receiver {
            progress.count(&done.result);
            tally.count(done);
        }
    });
    progress.finish();
    let complete = tally.runs == total;
    let scenarios = tally.finish(lab, scenarios, options, budget);
    Campaign { scenarios, seconds: began.elapsed().as_secs_f64(), complete }
}

/// The work: seed by seed across scenarios, so that a budget reaches all of them. It is made as it
/// is taken, so that a campaign can be as long as it likes.
struct Jobs {
    /// Of each scenario.
    seeds: Vec<Range<u64>>,
    /// The place among a scenario's seeds, and the scenario that comes next there.
    next: (u64, usize),
}

impl Jobs {
    fn new(scenarios: &[Scenario], options: &Options) -> Self {
        let seeds = |told: &Scenario| options.seeds.clone().unwrap_or(0..told.seeds);
        Self { seeds: scenarios.iter().map(seeds).collect(), next: (0, 0) }
    }

    /// How many there are in all.
    fn total(&self) -> u64 {
        self.seeds.iter().map(length).fold(0, u64::saturating_add)
    }
}

fn length(seeds: &Range<u64>) -> u64 {
    seeds.end.saturating_sub(seeds.start)
}

impl Iterator for Jobs {
    type Item = Job;

    fn next(&mut self) -> Option<Job> {
        let longest = self.seeds.iter().map(length).max()?;
        while self.next.0 < longest {
            let (place, scenario) = self.next;
            self.next = match scenario + 1 == self.seeds.len() {
                true => (place + 1, 0),
                false => (place, scenario + 1),
            };
            let seeds = &self.seeds[scenario];
            if place < length(seeds) {
                let twice = place.is_multiple_of(TWICE);
                return Some(Job { scenario, seed: seeds.start + place, twice });
            }
        }
        None
    }
}

/// Does one job; `None` once the budget is spent, in the middle of a run as well.
fn work<G: Guest>(lab: &Lab<G>, scenario: &Scenario, job: Job, budget: Budget<'_>) -> Option<Done> {
    if budget.is_spent() {
        return None;
    }
    let began = Instant::now();
    let run = || lab.run_within(scenario, job.seed, Keep::default(), budget).transpose();
    let result = run()?;
    let wall = began.elapsed();
    let mut parted = None;
    if job.twice {
        parted = match (&result, &run()?) {
            (Ok(first), Ok(second)) if first.outcome == second.outcome => None,
            (Ok(_), Ok(_)) => Some(where_parted(lab, scenario, job.seed)),
            (Err(one), Err(other)) if one == other => None,
            (Err(why), _) | (_, Err(why)) => {
                Some(format!("seed {}: only one of two runs could be made: {why}", job.seed))
            }
        };
    }
    Some(Done { job, result, parted, wall })
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
        let twice = done.job.twice && done.parted.is_none() && done.result.is_ok();
        summary.same += u64::from(twice);
        summary.parted.extend(done.parted);
        let ran = match done.result {
            Ok(ran) => ran,
            Err(why) => return summary.broken.push(format!("seed {seed}: {why}")),
        };
        summary.events += ran.outcome.events;
        summary.virtual_ns += ran.outcome.at;
        for (table, counts) in tables(&ran) {
            let table = summary.counts.entry(table).or_default();
            for (what, count) in counts {
                *table.entry((*what).to_owned()).or_insert(0) += count;
            }
        }
        self.hashes[place].insert(seed, ran.outcome.hash);
        match ran.outcome.ended {
            Ended::Passed => summary.passed += 1,
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
        budget: Budget<'_>,
    ) -> Vec<Summary>
    where
        Lab<G>: Sync,
    {
        for (place, hashes) in self.hashes.iter().enumerate() {
            let all = machines::digest::Digest::of(&hashes.values().collect::<Vec<_>>());
            self.summaries[place].hash = format!("{all:016x}");
        }
        for (summary, scenario) in self.summaries.iter_mut().zip(scenarios) {
            summary.missed = missed(summary, scenario);
            let to_arm = if summary.passed > 0 { lab.to_arm(scenario) } else { Vec::new() };
            let unarmed = to_arm.iter().filter(|property| summary.count(ARMED, property) == 0);
            let unarmed: Vec<String> = unarmed.map(|p| format!("a look at {p}")).collect();
            summary.missed.extend(unarmed);
        }
        self.failures.sort_by_key(|(place, seed, ..)| (*place, *seed));
        let mut written: BTreeMap<(usize, &str), u64> = BTreeMap::new();
        let nth: Vec<u64> = self
            .failures
            .iter()
            .map(|(place, _, violation, _)| {
                let count = written.entry((*place, violation.property)).or_insert(0);
                *count += 1;
                *count
            })
            .collect();
        let examples = in_parallel(options.jobs, self.failures.len(), |n| {
            let (place, seed, violation, hash) = &self.failures[n];
            let shrinks = nth[n] == 1 && !options.shrink.is_zero();
            let budget = shrinks.then(|| budget.within(options.shrink));
            write_failure(lab, &scenarios[*place], (*seed, violation, *hash), options, budget)
        });
        for ((example, failure), nth) in examples.into_iter().zip(&self.failures).zip(nth) {
            if nth <= EXAMPLES_MAX {
                self.summaries[failure.0].examples.push(example);
            }
        }
        self.summaries
    }
}

/// Lists what a scenario asks for that none of its seeds brought about: marks (T25) and refusals
/// to start (T22). Fewer seeds than it names owe it nothing.
fn missed(summary: &Summary, scenario: &Scenario) -> Vec<String> {
    if summary.seeds < scenario.seeds || !summary.is_whole() {
        return Vec::new();
    }
    let marks = scenario.sometimes.iter().map(|mark| (MARKS, "the mark", mark));
    let refusals = scenario.expect.iter().map(|refusal| (REFUSALS, "the refusal", refusal));
    let asked = marks.chain(refusals);
    let missed = asked.filter(|(table, _, what)| summary.count(table, what) == 0);
    missed.map(|(_, kind, what)| format!("{kind} {what}")).collect()
}

fn write_failure<G: Guest>(
    lab: &Lab<G>,
    scenario: &Scenario,
    (seed, violation, hash): (u64, &Violation, u64),
    options: &Options,
    shrinking: Option<Budget<'_>>,
) -> Example {
    let path = path_of(&options.reports, scenario.name(), seed);
    let mut example = Example { seed, violation: violation.to_string(), ..Example::default() };
    let resolved = match scenario.resolve(seed) {
        Ok(resolved) => resolved,
        Err((_, why)) => return Example { note: Some(why), ..example },
    };
    let case = Case { file: resolved.file, seed, overrides: Vec::new(), saboteur: None };
    match Failure::new(&case, violation, hash, &path).write(&path) {
        Ok(()) => example.file = shown(&path),
        Err(why) => return Example { note: Some(format!("not written: {why}")), ..example },
    }
    let Some(budget) = shrinking else {
        return example;
    };
    if options.bar {
        eprintln!("shrinking {} of seed {seed} …", violation.property);
    }
    match shrunk(lab, case, violation, budget, &shrunk_path(&path)) {
        Ok(complete) => {
            example.shrunk = Some(shown(&shrunk_path(&path)));
            example.note = (!complete).then(|| "not yet as small as it could be".to_owned());
        }
        Err(why) => example.note = Some(format!("not shrunk: {why}")),
    }
    example
}

/// Writes the shrunk form of a case to `path`. Returns whether everything was tried.
fn shrunk<G: Guest>(
    lab: &Lab<G>,
    case: Case,
    violation: &Violation,
    budget: Budget<'_>,
    path: &Path,
) -> Result<bool, String> {
    let shrunk = shrink::shrink(lab, case, violation.property, budget, &mut |_| {})?;
    Failure::new(&shrunk.case, &shrunk.violation, shrunk.hash, path).write(path)?;
    Ok(shrunk.complete)
}

#[cfg(test)]
mod tests;
