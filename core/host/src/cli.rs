//! The command line of `lockstep`.

use std::path::PathBuf;
use std::pin::pin;

use clap::{Args, Parser, Subcommand, ValueEnum};
use machines::cluster::ids::NodeId;
use runtime::{Won, race};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::cluster::hex;
use crate::commands;
use crate::config::{Config, ConfigError, Sources};
use crate::control::{self, Request};
use crate::events::Wanted;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::ledger::Ledger;
use crate::log::{self, LogFormat, LogLevel};
use crate::node::{Node, Reloaded};
use crate::status::{MemberStatus, Status, members_table};

/// A node of a Lockstep cluster.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 ok; 1 failure at run time; 2 bad usage, configuration or allowlist; 3 address or \
data folder in use; 4 key missing, readable by others, malformed or held twice; 5 session file \
or ledger corrupt.

Every configuration key can be set in lockstep.toml, as LOCKSTEP_<KEY> in the environment, or \
with --set <key>=<value>; the last of these wins. Keys of the kernel are those of the table \
[kernel]: --set kernel.run_lease_ms=90000, LOCKSTEP_KERNEL__RUN_LEASE_MS=90000.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key for a new node
    Keygen(Keygen),
    /// Run a node until it is told to leave (SIGINT, SIGTERM, `lockstep leave`): its kernel drains,
    /// kernel.drain_ms at the most, it leaves and stops; a second signal stops it at once. SIGHUP
    /// reloads seeds, rates and back-off
    Serve(Serve),
    /// Show the members that the local node knows
    Members(Ask),
    /// Show everything that the local node knows of itself
    Status(Ask),
    /// Make the local node leave its cluster and stop
    Leave(Ask),
    /// Have the local node's kernel decide commands and answer queries: each a line of JSON, such
    /// as {"user":"alice","do":{"submit":{"pid":"p1"}}} or
    /// {"user":"alice","do":{"get_process":{"pid":"p1"}}}; a name that there is not is answered
    /// with all that there are. Or print what has happened
    Kernel(KernelOptions),
    /// Examine a ledger that no node uses: chain, snapshots, replay, room; exit code 5 if it is
    /// not sound
    Doctor(Doctor),
    /// Look into a journal that no node uses
    #[command(subcommand)]
    Journal(Journal),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct KernelOptions {
    #[command(subcommand)]
    ask: Option<KernelAsk>,
    #[command(flatten)]
    from: From,
    /// The commands and queries; without any, lines of standard input
    #[arg(value_name = "JSON")]
    commands: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum KernelAsk {
    /// Print events that are durable, one JSON object a line, each with its number
    Events(EventOptions),
}

#[derive(Debug, Args)]
struct EventOptions {
    #[command(flatten)]
    place: From,
    /// Begin behind this event [default: 0; with --follow only what comes]
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// Go on with what comes, until the node stops
    #[arg(long)]
    follow: bool,
    /// Only of kinds that begin so, such as `process.`
    #[arg(long, value_name = "PREFIX")]
    kind: Option<String>,
    /// Only of this process
    #[arg(long, value_name = "PID")]
    pid: Option<String>,
    /// Only of this user's
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Only of this conversation
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Without payloads
    #[arg(long)]
    brief: bool,
    /// As who runs the pipeline of --pid is shown them: stages, retries, questions, the end, which
    /// is the last
    #[arg(long, requires = "pid", conflicts_with_all = ["kind", "user", "session", "brief"])]
    execution: bool,
}

#[derive(Debug, Args)]
struct Doctor {
    #[command(flatten)]
    ask: Ask,
    /// Copy what can be read to this new folder, and say what is lost
    #[arg(long, value_name = "OUT")]
    salvage: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Journal {
    /// Print the records and their events
    Cat {
        #[command(flatten)]
        ask: Ask,
        /// The first record to print
        #[arg(long, value_name = "N", default_value_t = 1)]
        from: u64,
    },
    /// Check the chain of all records
    Verify(Ask),
    /// Print the state root after the last record
    Root {
        #[command(flatten)]
        ask: Ask,
        /// After this record instead
        #[arg(long, value_name = "N")]
        at: Option<u64>,
    },
}

#[derive(Debug, Args)]
struct Keygen {
    /// Where to write the secret key; never overwritten
    #[arg(long, value_name = "PATH", default_value = "node.key")]
    out: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    from: From,
    /// The cluster's name
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Where to listen [default: 127.0.0.1:7400]
    #[arg(long, value_name = "ADDR:PORT")]
    bind: Option<String>,
    /// Where others find this node [default: the bound address]
    #[arg(long, value_name = "ADDR:PORT")]
    advertise: Option<String>,
    /// The secret key [default: node.key]
    #[arg(long, value_name = "PATH")]
    key_file: Option<String>,
    /// Whom to link with: file:PATH or any [default: file:allowlist]
    #[arg(long, value_name = "WHOM")]
    allow: Option<String>,
    /// A member to join through; may be repeated
    #[arg(long = "seed", value_name = "[NODEID@]HOST:PORT")]
    seeds: Vec<String>,
    /// The base of all intervals: local or lan [default: lan]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// The least level that is logged [default: info]
    #[arg(long, value_enum, value_name = "LEVEL")]
    log: Option<LogLevel>,
    /// How log lines look [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Any other key of the configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
struct Ask {
    #[command(flatten)]
    from: From,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Where a node's configuration and files are.
#[derive(Debug, Args)]
struct From {
    /// The configuration file [default: lockstep.toml, if there is one]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
    /// The folder of the node's files [default: the working folder]
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
}

/// Runs the command line and returns the exit code. Errors go to standard error, one line each.
#[must_use]
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; printing can only fail if nobody reads.
            let _ = error.print();
            return match error.use_stderr() {
                true => Exit::Usage,
                false => Exit::Ok,
            };
        }
    };
    match run(cli.command) {
        Ok(()) => Exit::Ok,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit()
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Keygen(keygen) => make_key(&keygen),
        Command::Serve(options) => block_on(serve(options)),
        Command::Members(options) => {
            let value = options.ask(Request::Members)?;
            options.print(&value, || {
                let members: Vec<MemberStatus> = read(&value)?;
                Ok(members_table(&members))
            })
        }
        Command::Status(options) => {
            let value = options.ask(Request::Status)?;
            options.print(&value, || Ok(read::<Status>(&value)?.to_string()))
        }
        Command::Leave(options) => {
            let value = options.ask(Request::Leave)?;
            match value["left"] == Value::Bool(true) {
                true => options.print(&value, || Ok("left the cluster".to_owned())),
                false => Err(Failure::NotLeft),
            }
        }
        Command::Kernel(KernelOptions { ask: Some(KernelAsk::Events(options)), .. }) => {
            print_events(options)
        }
        Command::Kernel(KernelOptions { ask: None, from, commands }) => decide(from, commands),
        Command::Doctor(doctor) => examine(&doctor),
        Command::Journal(journal) => look_into(&journal),
    }
}

/// Has commands decided one after the other, and prints each answer as a line.
fn decide(from: From, commands: Vec<String>) -> Result<(), Failure> {
    let ask = Ask { from, json: true };
    let data = ask.sources()?.data()?;
    let lines: Box<dyn Iterator<Item = std::io::Result<String>>> = match commands.is_empty() {
        true => Box::new(std::io::stdin().lines()),
        false => Box::new(commands.into_iter().map(Ok)),
    };
    for line in lines {
        let line = line.map_err(|error| Failure::Control(error.to_string()))?;
        if let Err(refusal) = commands::check(line.as_bytes()) {
            // Of a key that is there twice one would be lost on the way to the node.
            say(&commands::refused(&refusal).to_string());
            continue;
        }
        let command = serde_json::from_str(&line)
            .map_err(|error| Failure::Control(format!("not JSON: {error}")))?;
        say(&block_on(control::command(&data, command))?.to_string());
    }
    Ok(())
}

/// Prints events as they come; whoever does not read on ends it.
fn print_events(options: EventOptions) -> Result<(), Failure> {
    let EventOptions { place, from, follow, kind, pid, user, session, brief, execution } = options;
    let data = Ask { from: place, json: true }.sources()?.data()?;
    let from = from.or((!follow).then_some(0));
    let operator = Wanted::of_operator();
    let wanted =
        Wanted { from, follow, kind, pid, of: user, session, brief, execution, ..operator };
    block_on(control::events(&data, wanted, |event| {
        use std::io::Write;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{event}").and_then(|()| out.flush()).is_ok()
    }))
}

fn examine(Doctor { ask, salvage }: &Doctor) -> Result<(), Failure> {
    let ledger = ask.ledger()?;
    let report = ledger.examine()?;
    let salvaged = salvage.as_deref().map(|out| ledger.salvage(out)).transpose()?;
    let value = match &salvaged {
        None => json!(report),
        Some(salvaged) => json!({ "report": report, "salvaged": salvaged }),
    };
    ask.print(&value, || {
        let salvaged = salvaged.iter().map(|salvaged| format!("\n\n{salvaged}"));
        Ok(format!("{report}{}", salvaged.collect::<String>()))
    })?;
    match report.problems.len() {
        0 => Ok(()),
        problems => Err(Failure::Unsound(problems)),
    }
}

fn look_into(journal: &Journal) -> Result<(), Failure> {
    match journal {
        Journal::Cat { ask, from } => ask.ledger()?.cat(*from, ask.json, std::io::stdout()),
        Journal::Verify(ask) => {
            let verified = ask.ledger()?.verify()?;
            ask.print(&verified.to_json(), || Ok(verified.to_string()))
        }
        Journal::Root { ask, at } => {
            let rooted = ask.ledger()?.root(*at)?;
            ask.print(&rooted.to_json(), || Ok(rooted.to_string()))
        }
    }
}

fn make_key(keygen: &Keygen) -> Result<(), Failure> {
    let key = files::make_key(&keygen.out)?;
    let public = hex(&key.public());
    let node = NodeId::of_key(&key.public()).to_string();
    match keygen.json {
        true => say(&json!({ "node": node, "public_key": public }).to_string()),
        false => say(&format!("node id     {node}\npublic key  {public}")),
    }
    Ok(())
}

async fn serve(options: Serve) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let config = options.config()?;
    log::start(config.log, config.log_format);
    let Some((node, again)) = begin(Node::start(config), async || signals.next().await).await
    else {
        return Ok(());
    };
    let mut node = node?;
    if again {
        reload(&options, &node).await;
    }
    loop {
        match race(node.ended(), signals.next()).await {
            Won::Left(ended) => return ended,
            Won::Right(Told::Reload) => reload(&options, &node).await,
            Won::Right(Told::Leave) => break,
        }
    }
    info!("stopping; another signal stops at once");
    let most = node.stop_max();
    // What is left undone is what a crash leaves, and the journal has it (K363).
    match race(node.shutdown(), race(sleep(most), signals.leave())).await {
        Won::Left(ended) => ended,
        Won::Right(Won::Left(())) => Err(Failure::NotStopped(most)),
        Won::Right(Won::Right(())) => {
            info!("stopped at once");
            Ok(())
        }
    }
}

/// Waits for a start; says, too, whether a reload was asked for meanwhile, which comes after it.
/// Nothing if it was told to leave first.
async fn begin<T>(
    start: impl Future<Output = T>,
    mut next: impl AsyncFnMut() -> Told,
) -> Option<(T, bool)> {
    let mut start = pin!(start);
    let mut again = false;
    loop {
        match race(start.as_mut(), next()).await {
            Won::Left(started) => return Some((started, again)),
            Won::Right(Told::Reload) => again = true,
            Won::Right(Told::Leave) => return None,
        }
    }
}

/// Reads the configuration again and takes up what can be taken up (C108).
async fn reload(options: &Serve, node: &Node) {
    let reloaded = match options.config() {
        Ok(config) => node.reload(config).await,
        Err(error) => Err(error.into()),
    };
    match reloaded {
        Ok(Reloaded { taken, kept }) => {
            for key in kept {
                warn!(key, "this key has changed, and is taken up at the next start only");
            }
            info!(keys = taken.join(" "), "reloaded the configuration");
        }
        Err(why) => error!(%why, "ConfigInvalid: the old configuration stays in use"),
    }
}

/// SIGINT, SIGTERM and SIGHUP.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// What a signal tells a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Leave,
    Reload,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::Control(format!("no signals: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Told {
        let leave = race(self.interrupt.recv(), self.terminate.recv());
        match race(leave, self.hangup.recv()).await {
            Won::Left(_) => Told::Leave,
            Won::Right(_) => Told::Reload,
        }
    }

    /// Waits for the next signal to leave; a node that leaves reloads nothing.
    async fn leave(&mut self) {
        while self.next().await == Told::Reload {}
    }
}

impl Serve {
    fn config(&self) -> Result<Config, ConfigError> {
        self.sources()?.config()
    }

    fn sources(&self) -> Result<Sources, ConfigError> {
        let seeds = (!self.seeds.is_empty()).then(|| self.seeds.join(","));
        let flags = [
            ("data", self.from.data.clone()),
            ("cluster", self.cluster.clone()),
            ("bind", self.bind.clone()),
            ("advertise", self.advertise.clone()),
            ("key_file", self.key_file.clone()),
            ("allow", self.allow.clone()),
            ("seeds", seeds),
            ("profile", self.profile.clone()),
            ("log", self.log.and_then(spelled)),
            ("log_format", self.log_format.and_then(spelled)),
        ];
        let given = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let flags = given.chain(self.set.iter().cloned()).collect();
        Sources::new(self.from.config.as_deref(), flags)
    }
}

impl Ask {
    fn ask(&self, request: Request) -> Result<Value, Failure> {
        let data = self.sources()?.data()?;
        block_on(control::ask(&data, request))
    }

    /// Opens the ledger that no node uses.
    fn ledger(&self) -> Result<Ledger, Failure> {
        let sources = self.sources()?;
        Ledger::open(&sources.data()?, &sources.key_file()?)
    }

    fn sources(&self) -> Result<Sources, Failure> {
        let data = self.from.data.clone();
        let flags = data.map(|data| ("data".to_owned(), data));
        Ok(Sources::new(self.from.config.as_deref(), flags.into_iter().collect())?)
    }

    fn print(
        &self,
        value: &Value,
        text: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        match self.json {
            true => say(&value.to_string()),
            false => say(text()?.trim_end()),
        }
        Ok(())
    }
}

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::Control(format!("no threads: {error}")))?;
    let result = runtime.block_on(future);
    // What still runs (a read of the allowlist, say) does not hold the process up.
    runtime.shutdown_background();
    result
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    T::deserialize(value)
        .map_err(|error| Failure::Control(format!("it is another version of lockstep: {error}")))
}

/// Prints a line; whoever does not read it any more does not need it.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Returns a value as the command line spells it.
fn spelled(value: impl ValueEnum) -> Option<String> {
    let value = value.to_possible_value();
    value.map(|value| value.get_name().to_owned())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// C108: who asks for a reload while the journal is read gets it after the start.
    #[test]
    fn a_signal_that_comes_while_the_node_starts_is_kept() {
        let mut reads = 3;
        let start = std::future::poll_fn(|cx| {
            reads -= 1;
            cx.waker().wake_by_ref();
            if reads > 0 { Poll::Pending } else { Poll::Ready("started") }
        });
        let mut told = vec![Told::Reload];
        let next = async || match told.pop() {
            Some(told) => told,
            None => pending().await,
        };
        let mut begun = pin!(begin(start, next));
        let mut cx = Context::from_waker(Waker::noop());
        let began = std::iter::from_fn(|| Some(begun.as_mut().poll(&mut cx)));
        let began = began.take(9).find(Poll::is_ready);
        assert_eq!(began, Some(Poll::Ready(Some(("started", true)))));

        let left = pin!(begin(pending::<()>(), async || ready(Told::Leave).await)).poll(&mut cx);
        assert_eq!(left, Poll::Ready(None));
    }
}
