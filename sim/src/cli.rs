//! The command line (section 7 of the testbed's spec).

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::bench;
use crate::failure::{Failure, shrunk_path};
use crate::guest::{Cipher, Guest};
use crate::lab::Lab;
use crate::replay::{Window, replay};
use crate::report;
use crate::run::{Options, campaign};
use crate::saboteur::hunt;
use crate::scenario::{Scenario, span, template};
use crate::shrink::shrink;

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
    #[arg(long)]
    jobs: Option<usize>,
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
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct BenchArgs {
    /// What to measure; all if none.
    what: Vec<What>,
    /// How long each measurement that can be cut short takes.
    #[arg(long, value_parser = parse_time, default_value = "2s")]
    time: Duration,
    /// Virtual time that whole nodes gossip.
    #[arg(long, value_parser = parse_time, default_value = "1h")]
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
}

fn parse_time(text: &str) -> Result<Duration, String> {
    span::span(text).map(Duration::from_nanos)
}

/// What a command says that failed: an exit code and a text.
type Failed = (u8, String);

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
        Command::Bench(args) => measure(lab, &args),
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
    scenarios: PathBuf,
    reports: PathBuf,
    machines: PathBuf,
}

impl Folders {
    fn new(cli: &Cli) -> Self {
        let root = root();
        Self {
            scenarios: cli.scenarios.clone().unwrap_or_else(|| root.join("scenarios")),
            reports: cli.reports.clone().unwrap_or_else(|| root.join("reports")),
            machines: root.join("core/machines/src"),
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
    let known: Vec<&str> = lab.known.properties().collect();
    let marks = report::marks_in_source(&folders.machines);
    for scenario in &scenarios {
        let checked = scenario.check_properties(&known).and_then(|()| match marks.is_empty() {
            true => Ok(()), // A program without its source knows none.
            false => scenario.check_marks(&marks),
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
    static STOP: AtomicBool = AtomicBool::new(false);
    let scenarios = chosen(lab, folders, &args.named)?;
    let seeds = args.seeds.as_deref().map(parse_seeds).transpose().map_err(|what| (2, what))?;
    // A second handler cannot be set, and then the first one does.
    let _ = ctrlc::set_handler(|| STOP.store(true, Relaxed));
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let options = Options {
        seeds,
        jobs: args.jobs.unwrap_or(processors),
        time: args.time,
        shrink: if args.no_shrink { Duration::ZERO } else { Duration::from_secs(30) },
        reports: folders.reports.clone(),
        bar: std::io::stderr().is_terminal(),
    };
    let campaign = campaign(lab, &scenarios, &options, &STOP);
    let marks = report::marks_in_source(&folders.machines);
    report::write(&folders.reports, &campaign, &marks).map_err(|what| (2, what))?;
    if args.json {
        let json = serde_json::to_string_pretty(&campaign).map_err(|e| (2, e.to_string()))?;
        println!("{json}");
    } else {
        print!("{}", report::table(&campaign));
    }
    Ok(campaign.exit_code())
}

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
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}

fn replay_file<G: Guest>(lab: &Lab<G>, args: &ReplayArgs) -> Result<u8, Failed> {
    let failure = Failure::read(&args.file).map_err(|wrong| (2, wrong.to_string()))?;
    let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let window = Window {
        from: args.from.map_or(0, nanos),
        to: args.to.map(nanos),
        node: args.node,
        silent: args.silent,
    };
    let mut out = std::io::stdout().lock();
    let there = replay(lab, &failure, window, &mut out).map_err(|what| (2, what))?;
    Ok(u8::from(there))
}

fn shrink_file<G: Guest>(lab: &Lab<G>, args: &ShrinkArgs) -> Result<u8, Failed> {
    let failure = Failure::read(&args.file).map_err(|wrong| (2, wrong.to_string()))?;
    let case = failure.case().map_err(|what| (2, what))?;
    let mut tell = |what: &str| eprintln!("{what}");
    let shrunk = shrink(lab, case, args.time, &mut tell).map_err(|what| (2, what))?;
    let path = shrunk_path(&args.file);
    let written = Failure::new(&shrunk.case, &shrunk.violation, shrunk.hash, &path);
    written.write(&path).map_err(|what| (2, what))?;
    println!("{} candidates tried; {}", shrunk.tried, shrunk.violation);
    println!("cargo sim replay {}", path.display());
    Ok(if shrunk.complete { 0 } else { 4 })
}

fn list(folders: &Folders) -> Result<u8, Failed> {
    let scenarios = folders.all()?;
    let width = scenarios.iter().map(|scenario| scenario.name().len()).max().unwrap_or(0);
    for scenario in scenarios {
        println!("{:width$}  {}", scenario.name(), scenario.file.about.trim());
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
    println!("{}", path.display());
    Ok(0)
}

fn saboteurs<G: Guest>(
    lab: &Lab<G>,
    folders: &Folders,
    args: &SaboteursArgs,
) -> Result<u8, Failed> {
    let scenarios = folders.all()?;
    let all: Vec<String> = lab.saboteurs.iter().map(|s| s.name.to_owned()).collect();
    let names = if args.named.is_empty() { &all } else { &args.named };
    let mut hunts = Vec::new();
    for name in names {
        let hunt = hunt(lab, name, &scenarios).map_err(|what| (2, what))?;
        if !args.json {
            let seeds = hunt.seeds.map_or_else(|| "missed".to_owned(), |seeds| seeds.to_string());
            let time = hunt.virtual_ns as f64 / 1e9;
            println!(
                "{:<6} {:<28} {:<20} {seeds:>6} of {:<4} {time:>8.1} s  {}",
                hunt.property, hunt.saboteur, hunt.scenario, hunt.budget, hunt.evidence
            );
        }
        hunts.push(hunt);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&hunts).map_err(|e| (2, e.to_string()))?);
    }
    let missed = hunts.iter().filter(|hunt| hunt.seeds.is_none()).count();
    if missed > 0 {
        return Err((4, format!("{missed} of {} saboteurs were not found", hunts.len())));
    }
    Ok(0)
}

fn measure<G: Guest>(lab: &Lab<G>, args: &BenchArgs) -> Result<u8, Failed> {
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
        }
        bench::save(&root.join("target/bars"), name, &report.results[saved..])
            .map_err(|error| (2, format!("target/bars: {error}")))?;
        saved = report.results.len();
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|e| (2, e.to_string()))?);
    } else {
        report.print();
    }
    Ok(u8::from(report.bars.iter().any(|bar| !bar.held)))
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
