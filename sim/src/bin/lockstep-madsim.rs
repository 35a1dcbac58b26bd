//! Whole nodes under madsim: one process per seed, hashes compared from outside (T60, T61).

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use clap::Parser;
use serde::{Deserialize, Serialize};
use sim::madsim_world::{self, Sabotage};

/// Runs whole nodes, with the production run loop, on madsim's simulated runtime.
#[derive(Debug, Parser)]
#[command(name = "lockstep-madsim")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 50)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Run every so-maniest seed twice and compare the hashes.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    twice: u64,
    /// How many processes at a time; default: one for each core.
    #[arg(long)]
    jobs: Option<usize>,
    /// Run this one seed in this process and print its line.
    #[arg(long)]
    seed: Option<u64>,
    /// Run every saboteur until it is found, in at most ten seeds.
    #[arg(long)]
    saboteurs: bool,
    /// With `--seed`: what the nodes do wrong.
    #[arg(long, value_parser = sabotage)]
    saboteur: Option<&'static str>,
}

/// Seeds that a saboteur has to be found in.
const BUDGET: u64 = 10;

fn sabotage(name: &str) -> Result<&'static str, String> {
    let mut names = Sabotage::ALL.iter().map(|(known, _, _)| *known);
    let all = || Sabotage::ALL.map(|(known, _, _)| known).join(", ");
    names.find(|known| *known == name).ok_or_else(|| format!("one of {}", all()))
}

/// What the process of one seed prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    seed: u64,
    hash: String,
    noted: u64,
    counts: BTreeMap<String, u64>,
    violations: Vec<String>,
}

/// What came of one seed.
enum Outcome {
    Ran(Line),
    /// The second run had this hash.
    Differed(Line, String),
    /// The process failed.
    Failed(u64, String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        let line = one(seed, arguments.saboteur);
        println!("{}", serde_json::to_string(&line).expect("plain data"));
        return ExitCode::from(u8::from(!line.violations.is_empty()));
    }
    if arguments.saboteurs {
        return ExitCode::from(hunt());
    }
    let start = Instant::now();
    let outcomes = all(&arguments);
    let code = report(&outcomes);
    println!("{} seeds in {:.1} s", outcomes.len(), start.elapsed().as_secs_f64());
    ExitCode::from(code)
}

fn one(seed: u64, saboteur: Option<&str>) -> Line {
    let sabotage = saboteur.and_then(Sabotage::named).unwrap_or(Sabotage::None);
    let verdict = madsim_world::run(seed, sabotage);
    Line {
        seed,
        hash: format!("{:016x}", verdict.hash),
        noted: verdict.noted,
        counts: verdict.counts.iter().map(|(what, n)| ((*what).to_owned(), *n)).collect(),
        violations: verdict.violations,
    }
}

/// Runs every saboteur until its property is violated; 4 if one was not found in its seeds (T32).
fn hunt() -> u8 {
    let mut missed = 0;
    for (name, _, property) in Sabotage::ALL {
        let bites = |line: &Line| line.violations.iter().find(|v| v.contains(property)).cloned();
        let found = (0..BUDGET).find_map(|seed| {
            let line = child(seed, Some(name)).ok()?;
            Some((seed, bites(&line)?))
        });
        match found {
            Some((seed, evidence)) => {
                let evidence: String = evidence.chars().take(100).collect();
                println!("{property} {name:<16} {} of {BUDGET} seeds  {evidence}", seed + 1);
            }
            None => {
                missed += 1;
                println!("{property} {name:<16} missed in {BUDGET} seeds");
            }
        }
    }
    println!("{} of {} saboteurs found", Sabotage::ALL.len() - missed, Sabotage::ALL.len());
    if missed == 0 { 0 } else { 4 }
}

/// Runs all seeds, each in a process of its own.
fn all(arguments: &Arguments) -> Vec<Outcome> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let next = AtomicU64::new(arguments.from);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.unwrap_or(cores).max(1) {
            scope.spawn(|| {
                loop {
                    // Relaxed: a counter; the results have their own lock.
                    let seed = next.fetch_add(1, Relaxed);
                    if seed - arguments.from >= arguments.seeds {
                        return;
                    }
                    let outcome = outcome(seed, (seed - arguments.from) % arguments.twice == 0);
                    outcomes.lock().expect("no panic while it is held").push((seed, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("no panic while it is held");
    outcomes.sort_by_key(|(seed, _)| *seed);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

fn outcome(seed: u64, twice: bool) -> Outcome {
    match (child(seed, None), twice) {
        (Err(why), _) => Outcome::Failed(seed, why),
        (Ok(line), false) => Outcome::Ran(line),
        (Ok(line), true) => match child(seed, None) {
            Err(why) => Outcome::Failed(seed, why),
            Ok(second) if second == line => Outcome::Ran(line),
            Ok(second) => Outcome::Differed(line, second.hash),
        },
    }
}

/// Runs one seed in a process of its own.
fn child(seed: u64, saboteur: Option<&str>) -> Result<Line, String> {
    let program = std::env::current_exe().map_err(|why| why.to_string())?;
    let sabotage = saboteur.map(|name| ["--saboteur", name]);
    let output = Command::new(program)
        .args(["--seed", &seed.to_string()])
        .args(sabotage.iter().flatten())
        .stdin(Stdio::null())
        .output()
        .map_err(|why| why.to_string())?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let line = printed.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|_| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("{}: {}", output.status, errors.trim())
    })
}

/// Prints what came of the seeds and returns the exit code of section 7.
fn report(outcomes: &[Outcome]) -> u8 {
    let (mut violated, mut differed, mut failed) = (0, 0, 0);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for outcome in outcomes {
        match outcome {
            Outcome::Failed(seed, why) => {
                failed += 1;
                println!("seed {seed}: failed: {why}\n  again: {}", again(*seed));
            }
            Outcome::Ran(line) | Outcome::Differed(line, _) => {
                for (what, count) in &line.counts {
                    *counts.entry(what).or_insert(0) += count;
                }
                if !line.violations.is_empty() {
                    violated += 1;
                    println!("seed {}: {}", line.seed, line.violations.join("\n  "));
                    println!("  again: {}", again(line.seed));
                }
            }
        }
        if let Outcome::Differed(line, second) = outcome {
            differed += 1;
            println!("seed {}: {} and then {second}", line.seed, line.hash);
        }
    }
    for (what, count) in counts {
        println!("{what:>20} {count}");
    }
    println!("{violated} violated, {differed} not deterministic, {failed} failed");
    match (violated + failed, differed) {
        (0, 0) => 0,
        (0, _) => 3,
        (_, _) => 1,
    }
}

fn again(seed: u64) -> String {
    format!("LOCKSTEP_TRACE=1 cargo madsim --seed {seed}")
}
