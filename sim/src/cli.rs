//! The command line (section 7 of the testbed's spec).

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::bench;
use crate::budget::Budget;
use crate::failure::{Failure, path_of, shown, shrunk_path};
use crate::guest::{Cipher, Guest};
use crate::lab::{Keep, Lab};
use crate::replay::{Window, replay};
use crate::report::{self, summary};
use crate::run::{Options, campaign};
use crate::saboteur::{self, Hunt, hunt};
use crate::scenario::{Scenario, span, template};
use crate::shrink::shrink;
use crate::swim_only;
use crate::threads::{in_parallel, processors};
use crate::world::Ended;

/// Runs clusters of production nodes through seeds and faults.
///
/// Exit codes: 0 all passed, 1 a property was violated, 2 bad usage or scenario, 3 a run was not
/// deterministic, 4 a budget ran out before the work was done.
#[derive(Debug, Parser)]
#[command(name = "lockstep-sim", bin_name = "cargo sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the scenarios are.
    #[arg(long, global = true, value_name = "FOLDER")]
    scenarios: Option<PathBuf>,
    /// Where reports and failure files go.
    #[arg(long, global = true, value_name = "FOLDER")]
    reports: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs scenarios; every one if none is named.
    Run(RunArgs),
    /// Runs a failure again and prints what happens.
    Replay(ReplayArgs),
    /// Makes a failure as small as it can be, and writes it with `-min`.
    Shrink(ShrinkArgs),
    /// Lists the scenarios.
    List,
    /// Writes a commented scenario to begin with.
    New {
        /// What it is called.
        name: String,
    },
    /// Shows that every checker bites.
    Saboteurs(SaboteursArgs),
    /// Measures the simulator itself.
    Bench(BenchArgs),
    /// Puts what the models, the corpora and the benchmarks left into `reports/summary.md`.
    Report,
}

#[derive(Debug, Default, clap::Args)]
struct RunArgs {
    /// Names of scenarios, or files.
    #[arg(value_name = "SCENARIO")]
    named: Vec<String>,
    /// `N` (from 0), `A..B`, or `random`.
    #[arg(long)]
    seeds: Option<String>,
    /// Threads; as many as there are processors unless told otherwise.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    jobs: Option<u16>,
    /// The most time, such as `5m`.
    #[arg(long, value_parser = parse_time)]
    time: Option<Duration>,
    /// Do not shrink what fails.
    #[arg(long)]
    no_shrink: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ReplayArgs {
    /// The failure file.
    file: PathBuf,
    /// From this time on.
    #[arg(long, value_parser = parse_time)]
    from: Option<Duration>,
    /// Up to this time.
    #[arg(long, value_parser = parse_time)]
    to: Option<Duration>,
    /// Only this node.
    #[arg(long)]
    node: Option<u32>,
    /// No trace, only the result.
    #[arg(long)]
    silent: bool,
}

#[derive(Debug, clap::Args)]
struct ShrinkArgs {
    /// The failure file.
    file: PathBuf,
    /// How long it may take.
    #[arg(long, value_parser = parse_time, default_value = "5m")]
    time: Duration,
}

#[derive(Debug, clap::Args)]
struct SaboteursArgs {
    /// Names; all if none.
    named: Vec<String>,
    /// The most time, such as `5m`.
    #[arg(long, value_parser = parse_time)]
    time: Option<Duration>,
    /// Write a failure file for each that is found.
    #[arg(long)]
    files: bool,
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct BenchArgs {
    /// What to measure; all but `membership` if none.
    what: Vec<What>,
    /// Fewer seeds of `membership`: what takes minutes takes seconds, and shows less.
    #[arg(long)]
    quick: bool,
    /// How long each measurement that can be cut short takes.
    #[arg(long, value_parser = parse_measured, default_value = "2s")]
    time: Duration,
    /// Virtual time that whole nodes gossip.
    #[arg(long, value_parser = parse_measured, default_value = "1h")]
    gossip: Duration,
    /// Where `peer-madsim` and `peer-turmoil` are; `cargo peers` builds them.
    #[arg(long, value_name = "FOLDER")]
    peers: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Datagrams a second on a ring (T90).
    Ring,
    /// Members gossiping (T91, C170).
    Gossip,
    /// Empty runs (T92).
    Seeds,
    /// Detection, dissemination, traffic, accuracy and heal of membership (C138–C139, C160–C166).
    Membership,
}

fn parse_time(text: &str) -> Result<Duration, String> {
    span::span(text).map(Duration::from_nanos)
}

/// Reads how long something is measured: nothing ends that before.
fn parse_measured(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_secs(24 * 3_600);
    let time = parse_time(text)?;
    let right = !time.is_zero() && time <= MOST;
    if right { Ok(time) } else { Err(format!("{text:?} must be above 0 and at most \"24h\"")) }
}

/// The exit code of work that was not done wholly.
const NOT_DONE: u8 = 4;

/// What a command says that failed: an exit code and a text.
type Failed = (u8, String);

/// Set by Ctrl-C.
static STOP: AtomicBool = AtomicBool::new(false);

/// Lets Ctrl-C end the work cleanly: the budget is spent then. A second one ends it at once.
fn until_stopped() -> Result<Budget<'static>, Failed> {
    /// What a shell expects of a program that an interrupt ended.
    const INTERRUPTED: i32 = 130;
    // Relaxed: the flag carries nothing but itself.
    let handler = || {
        if STOP.swap(true, Relaxed) {
            std::process::exit(INTERRUPTED);
        }
    };
    ctrlc::set_handler(handler).map_err(|e| (2, format!("Ctrl-C cannot be caught: {e}")))?;
    Ok(Budget::until_stopped(&STOP))
}

/// Prints `text`. A reader who has gone away wanted no more of it.
fn say(text: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err((2, error.to_string())),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn say_json(value: &impl serde::Serialize) -> Result<(), Failed> {
    let json = serde_json::to_string_pretty(value).map_err(|e| (2, e.to_string()))?;
    say(&format!("{json}\n"))
}

/// Does what the command line says.
pub fn main<G: Guest>(lab: &Lab<G>) -> ExitCode
where
    Lab<G>: Sync,
{
    let cli = Cli::parse();
    let folders = Folders::new(&cli);
    let result = match cli.command.unwrap_or_else(|| Command::Run(RunArgs::default())) {
        Command::Run(args) => run(lab, &folders, &args),
        Command::Replay(args) => replay_file(lab, &args),
        Command::Shrink(args) => shrink_file(lab, &args),
        Command::List => list(&folders),
        Command::New { name } => new(&folders, &name),
        Command::Saboteurs(args) => saboteurs(lab, &folders, &args),
        Command::Bench(args) => measure(lab, &folders, &args),
        Command::Report => gather(&folders),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err((code, what)) => {
            eprintln!("{what}");
            ExitCode::from(code)
        }
    }
}

struct Folders {
    root: PathBuf,
    scenarios: PathBuf,
    reports: PathBuf,
    /// Where the reports of a run go that is not the whole campaign: what is committed stays.
    partial: PathBuf,
    machines: PathBuf,
}

impl Folders {
    fn new(cli: &Cli) -> Self {
        let root = root();
        Self {
            scenarios: cli.scenarios.clone().unwrap_or_else(|| root.join("scenarios")),
            reports: cli.reports.clone().unwrap_or_else(|| root.join("reports")),
            partial: cli.reports.clone().unwrap_or_else(|| root.join("target/sim")),
            machines: root.join("core/machines/src"),
            root,
        }
    }

    /// Reads every scenario in the folder, in order of name.
    fn all(&self) -> Result<Vec<Scenario>, Failed> {
        let read = std::fs::read_dir(&self.scenarios);
        let read = read.map_err(|error| (2, format!("{}: {error}", self.scenarios.display())))?;
        let mut paths: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        paths.retain(|path| !path.ends_with("Cargo.toml"));
        paths.sort();
        paths.iter().map(|path| one(path)).collect()
    }
}

/// Returns the folder that holds `scenarios/`: here, above, or where this was built.
fn root() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let holds = |folder: &&Path| folder.join("scenarios").is_dir();
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    here.ancestors().find(holds).map_or(built, Path::to_owned)
}

fn one(path: &Path) -> Result<Scenario, Failed> {
    Scenario::read(path).map_err(|wrong| (2, wrong.to_string()))
}

fn chosen<G: Guest>(
    lab: &Lab<G>,
    folders: &Folders,
    named: &[String],
) -> Result<Vec<Scenario>, Failed> {
    let scenarios = if named.is_empty() {
        folders.all()?
    } else {
        let path = |name: &String| match name.strip_suffix(".toml") {
            Some(_) => PathBuf::from(name),
            None => folders.scenarios.join(format!("{name}.toml")),
        };
        named.iter().map(|name| one(&path(name))).collect::<Result<_, _>>()?
    };
    let marks = report::marks_in_source(&folders.machines);
    for scenario in &scenarios {
        let known = lab.properties_of(scenario);
        let checked = scenario.check_properties(&known).and_then(|()| match &marks {
            Ok(marks) => scenario.check_marks(marks),
            Err(_) => Ok(()), // A program without its source knows none.
        });
        let checked = checked.and_then(|()| lab.check_quiet(scenario));
        checked.map_err(|at| (2, scenario.wrong(at).to_string()))?;
    }
    Ok(scenarios)
}

fn run<G: Guest>(lab: &Lab<G>, folders: &Folders, args: &RunArgs) -> Result<u8, Failed>
where
    Lab<G>: Sync,
{
    let scenarios = chosen(lab, folders, &args.named)?;
    let marks = report::marks_in_source(&folders.machines).map_err(|what| (2, what))?;
    let seeds = args.seeds.as_deref().map(parse_seeds).transpose().map_err(|what| (2, what))?;
    let all = args.named.is_empty() && seeds.is_none();
    until_stopped()?;
    let options = Options {
        seeds,
        jobs: args.jobs.map_or_else(processors, usize::from),
        time: args.time,
        shrink: if args.no_shrink { Duration::ZERO } else { Duration::from_secs(30) },
        reports: folders.reports.clone(),
        bar: std::io::stderr().is_terminal(),
    };
    let campaign = campaign(lab, &scenarios, &options, &STOP);
    if args.json {
        say_json(&campaign)?;
    } else {
        say(&report::table(&campaign))?;
    }
    let whole = all && campaign.complete;
    let folder = if whole { &folders.reports } else { &folders.partial };
    report::write(folder, &campaign, &marks).map_err(|what| (2, what))?;
    if whole {
        summary::gather(&folders.root, folder).map_err(|what| (2, what))?;
    }
    Ok(campaign.exit_code())
}

fn gather(folders: &Folders) -> Result<u8, Failed> {
    summary::gather(&folders.root, &folders.reports).map_err(|what| (2, what))?;
    Ok(0)
}

/// The most seeds of a campaign: more than any machine runs in a year.
const SEEDS_MAX: u64 = 1_000_000_000;
/// Where seeds end: a failure file must be able to hold one.
const SEED_END: u64 = i64::MAX as u64;

/// Reads `N`, `A..B` or `random`.
fn parse_seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let wrong = || format!("--seeds {text}: write a number, A..B, or random");
    if text == "random" {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanos = now.map_or(0, |now| now.subsec_nanos());
        let start = machines::digest::mix(u64::from(nanos) + 1, 0x9e37_79b9_7f4a_7c15) >> 20;
        eprintln!("--seeds {start}..{}", start + 100);
        return Ok(start..start + 100);
    }
    let range = match text.split_once("..") {
        None => 0..text.parse().map_err(|_| wrong())?,
        Some((from, to)) => from.parse().map_err(|_| wrong())?..to.parse().map_err(|_| wrong())?,
    };
    if range.is_empty() {
        return Err(wrong());
    }
    if range.end - range.start > SEEDS_MAX {
        return Err(format!("--seeds {text}: must be {SEEDS_MAX} seeds at the most"));
    }
    if range.end > SEED_END {
        return Err(format!("--seeds {text}: must end at {SEED_END}: files hold no greater seed"));
    }
    Ok(range)
}

/// Returns where a failure file is: as named, or as named from the root, as reports name it.
fn found(file: &Path) -> PathBuf {
    let from_root = root().join(file);
    if !file.exists() && from_root.exists() { from_root } else { file.to_owned() }
}

fn replay_file<G: Guest>(lab: &Lab<G>, args: &ReplayArgs) -> Result<u8, Failed> {
    let failure = Failure::read(&found(&args.file)).map_err(|wrong| (2, wrong.to_string()))?;
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let window = Window {
        from: args.from.map_or(0, nanos),
        to: args.to.map(nanos),
        node: args.node,
        silent: args.silent,
    };
    let budget = until_stopped()?;
    let mut out = std::io::stdout().lock();
    let replayed = replay(lab, &failure, window, budget, &mut out).map_err(|what| (2, what))?;
    Ok(replayed.exit_code())
}

fn shrink_file<G: Guest>(lab: &Lab<G>, args: &ShrinkArgs) -> Result<u8, Failed> {
    let file = found(&args.file);
    let failure = Failure::read(&file).map_err(|wrong| (2, wrong.to_string()))?;
    let case = failure.case_for(lab).map_err(|what| (2, what))?;
    let budget = until_stopped()?.within(args.time);
    let mut tell = |what: &str| eprintln!("{what}");
    let shrunk =
        shrink(lab, case, &failure.property, budget, &mut tell).map_err(|what| (2, what))?;
    let path = shrunk_path(&file);
    let written = Failure::new(&shrunk.case, &shrunk.violation, shrunk.hash, &path);
    written.write(&path).map_err(|what| (2, what))?;
    let all = if shrunk.complete { "everything was tried" } else { "ended before all was tried" };
    say(&format!("{} candidates, {all}; {}\n", shrunk.tried, shrunk.violation))?;
    say(&format!("cargo sim replay {}\n", shown(&path)))?;
    Ok(if shrunk.complete { 0 } else { 4 })
}

fn list(folders: &Folders) -> Result<u8, Failed> {
    let scenarios = folders.all()?;
    let width = scenarios.iter().map(|scenario| scenario.name().len()).max().unwrap_or(0);
    for scenario in scenarios {
        say(&format!("{:width$}  {}\n", scenario.name(), scenario.file.about.trim()))?;
    }
    Ok(0)
}

fn new(folders: &Folders, name: &str) -> Result<u8, Failed> {
    let text = template(name);
    Scenario::parse(name, &text).map_err(|wrong| (2, wrong.to_string()))?;
    let path = folders.scenarios.join(format!("{name}.toml"));
    if path.exists() {
        return Err((2, format!("{} exists already", path.display())));
    }
    std::fs::write(&path, text).map_err(|error| (2, format!("{}: {error}", path.display())))?;
    say(&format!("{}\n", shown(&path)))?;
    Ok(0)
}

fn saboteurs<G: Guest>(lab: &Lab<G>, folders: &Folders, args: &SaboteursArgs) -> Result<u8, Failed>
where
    Lab<G>: Sync,
{
    let scenarios = folders.all()?;
    let all: Vec<String> = lab.sheets().iter().map(|s| s.name.to_owned()).collect();
    let names = if args.named.is_empty() { &all } else { &args.named };
    let budget = until_stopped()?.within(args.time);
    let hunted = in_parallel(processors(), names.len(), |place| {
        let hunt = hunt(lab, &names[place], &scenarios, budget).map_err(|what| (2, what))?;
        if let Some(hunt) = &hunt
            && !args.json
        {
            say(&told(hunt))?;
        }
        Ok::<_, Failed>(hunt)
    });
    let hunts = hunted.into_iter().collect::<Result<Vec<_>, _>>()?;
    let hunts: Vec<Hunt> = hunts.into_iter().flatten().collect();
    if args.json {
        say_json(&hunts)?;
    }
    if args.files {
        for hunt in &hunts {
            write_found(lab, folders, &scenarios, hunt).map_err(|what| (2, what))?;
        }
    }
    let whole = args.named.is_empty() && hunts.len() == names.len();
    let folder = if whole { &folders.reports } else { &folders.partial };
    let section = report::saboteurs(&hunts);
    summary::put(folder, summary::Section::Saboteurs, &section).map_err(|what| (2, what))?;
    let missed = hunts.iter().filter(|hunt| hunt.seeds.is_none()).count();
    if missed > 0 {
        return Err((NOT_DONE, format!("{missed} of {} saboteurs were not found", hunts.len())));
    }
    if hunts.len() < names.len() {
        return Err((
            NOT_DONE,
            format!("ended after {} of {} saboteurs", hunts.len(), names.len()),
        ));
    }
    Ok(0)
}

fn told(hunt: &Hunt) -> String {
    let seeds = hunt.seeds.map_or_else(|| "missed".to_owned(), |seeds| seeds.to_string());
    let time = hunt.virtual_ns as f64 / 1e9;
    format!(
        "{:<6} {:<28} {:<20} {seeds:>6} of {:<4} {time:>8.1} s  {}\n",
        hunt.property, hunt.saboteur, hunt.scenario, hunt.budget, hunt.evidence
    )
}

/// Writes the failure file of a saboteur that was found.
fn write_found<G: Guest>(
    lab: &Lab<G>,
    folders: &Folders,
    scenarios: &[Scenario],
    hunt: &Hunt,
) -> Result<(), String> {
    let Some(seeds) = hunt.seeds else {
        return Ok(());
    };
    let case = saboteur::case(lab, hunt.saboteur, scenarios, seeds - 1)?;
    let outcome = lab.run_case(&case, Keep::default())?.outcome;
    let Ended::Violated(violation) = outcome.ended else {
        return Err(format!("{} was found, and then not", hunt.saboteur));
    };
    let path = path_of(&folders.reports, hunt.saboteur, case.seed);
    Failure::new(&case, &violation, outcome.hash, &path).write(&path)?;
    say(&format!("cargo sim replay {}\n", shown(&path))).map_err(|(_, what)| what)
}

/// Measures membership, and writes the report if the seeds are those of the specification.
fn membership(folders: &Folders, quick: bool) -> Result<u8, Failed> {
    let measured = swim_only::report(quick);
    let folder = if quick { &folders.partial } else { &folders.reports };
    let path = folder.join("membership.md");
    let told = |error: std::io::Error| (2, format!("{}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(told)?;
    std::fs::write(&path, &measured.text).map_err(told)?;
    say(&format!("{}\n{}\n", measured.text, shown(&path)))?;
    match measured.missed.is_empty() {
        true => Ok(0),
        false => Err((1, format!("missed: {}", measured.missed.join(", ")))),
    }
}

fn measure<G: Guest>(lab: &Lab<G>, folders: &Folders, args: &BenchArgs) -> Result<u8, Failed> {
    if args.what == [What::Membership] {
        return membership(folders, args.quick);
    }
    let root = root();
    let folder = args.peers.clone().unwrap_or_else(|| root.join("target/madsim/release"));
    let wanted = |what| args.what.is_empty() || args.what.contains(&what);
    let mut report = Report::default();
    let mut saved = 0;
    for (what, name) in [(What::Ring, "ring"), (What::Gossip, "gossip"), (What::Seeds, "seeds")] {
        if !wanted(what) {
            continue;
        }
        match what {
            What::Ring => report.ring(&folder, args.time),
            What::Gossip => report.gossip(lab, &folder, args.gossip),
            What::Seeds => report.seeds(lab, args.time),
            What::Membership => continue, // It measures the protocol, not the simulator.
        }
        bench::save(&root.join("target/bars"), name, &report.results[saved..])
            .map_err(|error| (2, format!("target/bars: {error}")))?;
        saved = report.results.len();
    }
    if args.json {
        say_json(&report)?;
    } else {
        report.print();
    }
    let missed = match report.bars.iter().any(|bar| !bar.held) {
        // A bar without a peer's figure was not judged: that is no success.
        false if !report.absent.is_empty() => NOT_DONE,
        missed => u8::from(missed),
    };
    match args.what.contains(&What::Membership) {
        true => Ok(membership(folders, args.quick)?.max(missed)),
        false => Ok(missed),
    }
}

/// What `bench` measured, with the bars.
#[derive(Debug, Default, serde::Serialize)]
struct Report {
    results: Vec<bench::Measured>,
    bars: Vec<bench::Bar>,
    /// Peers without a figure, and why.
    absent: Vec<String>,
}

impl Report {
    /// Sets one of our figures beside a peer's.
    fn compare(&mut self, ours: &bench::Measured, what: Compared, theirs: Result<f64, String>) {
        match theirs {
            Ok(theirs) => {
                self.results.push(ours.of_peer(what.peer, theirs));
                self.bars.push(ours.against(what.rule, what.peer, theirs, what.bar));
            }
            Err(why) => self.absent.push(why),
        }
    }

    fn ring(&mut self, folder: &Path, time: Duration) {
        for (in_flight, ours) in [1, 64].into_iter().zip(bench::ring(time)) {
            for peer in bench::peers::PEERS {
                let what = Compared { rule: "T90", peer: peer.name, bar: peer.ring_bar };
                self.compare(&ours, what, peer.ring(folder, in_flight));
            }
            self.results.push(ours);
        }
    }

    fn gossip<G: Guest>(&mut self, lab: &Lab<G>, folder: &Path, span: Duration) {
        for (bar, ours) in [1e6, 3e5].into_iter().zip(bench::membership()) {
            self.bars.push(ours.within("C170", bar));
            self.results.push(ours);
        }
        let span = machines::time::nanos(span);
        let ours = bench::gossip(Cipher::Null, 100, span);
        for peer in bench::peers::PEERS {
            let what = Compared { rule: "T91", peer: peer.name, bar: peer.gossip_bar };
            self.compare(&ours, what, peer.gossip(folder, 100));
        }
        self.results.push(ours);
        self.results.push(bench::gossip(Cipher::Real, 100, span));
        self.results.push(bench::whole_nodes::<G>(&lab.kind, Cipher::Null, 100, span));
        self.results.push(bench::whole_nodes::<G>(&lab.kind, Cipher::Real, 100, span / 60));
    }

    fn seeds<G: Guest>(&mut self, lab: &Lab<G>, time: Duration) {
        for (cipher, bar) in [(Cipher::Null, 2e5), (Cipher::Real, 5e6)] {
            let ours = bench::seeds::<G>(&lab.kind, cipher, time);
            self.bars.push(ours.within("T92", bar));
            self.results.push(ours);
        }
    }

    fn print(&self) {
        for one in &self.results {
            println!("{:<64} {:>14.1} {}", one.what, one.value, one.unit);
        }
        for bar in &self.bars {
            let held = if bar.held { "held" } else { "MISSED" };
            match &bar.peer {
                Some(peer) => println!(
                    "{:<5} {:<64} ours {:.1}, {peer} {:.1}, ratio {:.1}, bar {}: {held}",
                    bar.rule, bar.what, bar.ours, bar.theirs, bar.ratio, bar.bar
                ),
                None => println!(
                    "{:<5} {:<64} ours {:.1}, bar {}: {held}",
                    bar.rule, bar.what, bar.ours, bar.bar
                ),
            }
        }
        for why in &self.absent {
            println!("no figure: {why}");
        }
    }
}

/// What a peer's figure is for.
struct Compared {
    rule: &'static str,
    peer: &'static str,
    bar: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// T50, on the command line: what no campaign could do is refused, and what would be right.
    #[test]
    fn counts_and_times_beyond_all_measure_are_refused() {
        assert_eq!(parse_seeds("7"), Ok(0..7));
        assert_eq!(parse_seeds("5..9"), Ok(5..9));
        assert_eq!(parse_seeds("1000000000").map(|seeds| seeds.end), Ok(SEEDS_MAX));
        for (text, what) in [
            ("0", "write a number"),
            ("9..5", "write a number"),
            ("10000000000", "1000000000 seeds at the most"),
            ("9223372036854775800..9223372036854775809", "must end at 9223372036854775807"),
        ] {
            let wrong = parse_seeds(text).expect_err(text);
            assert!(wrong.contains(what), "{wrong}");
        }
        for line in [
            ["run", "--jobs", "0"],
            ["run", "--jobs", "1000000"],
            ["bench", "--gossip", "300000h"],
            ["bench", "--time", "0s"],
        ] {
            let line = std::iter::once("cargo sim").chain(line);
            assert!(Cli::try_parse_from(line.clone()).is_err(), "{:?}", line.collect::<Vec<_>>());
        }
    }
}
