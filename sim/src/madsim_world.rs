//! Whole nodes under madsim (T60 to T62): the production run loop, over a simulated runtime.
//!
//! ```text
//!   story ─ kill, restart, cut ─► madsim ◄─ UDP, TCP, time ─ Flaky, Skewed ─┐
//!     │                                                                     │
//!     └─ heals, waits, looks ─► Handle ◄─► run loop ◄─► Node        File ─ Faulty
//!                                 ▲
//!                    Client: names, sends, asks ──► Record: hash and violations
//! ```
//!
//! [`World`](crate::world::World) proves the machines by millions of events. This world proves what
//! stands between them and an operating system: the run loop, handles and endpoints, and their
//! composition, with the real cipher. One process runs one seed; whoever starts it compares the
//! hashes of two runs (T61). `--saboteurs` shows that each check of this world can fail (T32).
//!
//! # Known limits
//!
//! madsim's sleeps and sends take a millisecond at least, its connections are refused at once where
//! a network would time out, and a killed node's streams end at once at their other ends.
//! The gRPC server joins when it exists.

#[cfg(not(madsim))]
compile_error!("build with --cfg madsim: `cargo madsim` does");

mod client;
mod ports;
mod record;
mod saboteur;
mod story;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use machines::Choices;
use machines::cluster::config::{ClusterConfig, Profile};
use machines::cluster::identity::{Allowed, StaticKey};
use machines::cluster::ids::{Addr, Instance, NodeId};
use machines::cluster::sealer::Suite;
use machines::cluster::swim::io::Seed;
use machines::cluster::wire::{Meta, schema};
use machines::keeper::{self, Keeper, KeeperParams};
use machines::kernel::config::KernelConfig;
use machines::ledger::journal::io as journal;
use machines::ledger::snapshot::SnapshotConfig;
use machines::node::{Node, NodeParams};
use madsim::net::NetSim;
use madsim::runtime::Runtime;
use madsim::task::spawn_local;
use runtime::{
    Clock, Ended, Entropy, Handle, KeeperHandle, NoSession, Noted, World, burn_session, keep,
    keeper_handle,
};

use crate::decorators::{DiskRates, Faults, Faulty, Flaky, LinkRates, Skew, Skewed};
use client::Client;
use ports::{Drawn, File, Platter, Shelf, Simulated, Sockets, VirtualClock};
use record::Record;
pub use record::Verdict;
pub use saboteur::Sabotage;
use saboteur::Subject;

/// The nodes of a run.
const NODES: usize = 3;
/// Where every node listens, at an address of its own.
const PORT: u16 = 7_400;
/// No run lasts longer, in virtual time.
const TIME_MAX: Duration = Duration::from_secs(900);

/// One run.
struct Run {
    seed: u64,
    config: ClusterConfig,
    choices: Choices,
    faults: Arc<Faults>,
    rates: (LinkRates, DiskRates),
    /// What every node does wrong.
    sabotage: Sabotage,
    record: Record,
    allowed: Arc<Allowed>,
    places: Vec<Place>,
}

/// One node, over all its processes.
struct Place {
    key: StaticKey,
    id: NodeId,
    addr: Addr,
    platter: Platter,
    skew: Arc<Skew>,
    starts: AtomicU32,
    /// The handle of the process that runs, and what became of the last one.
    process: Mutex<Process>,
}

/// What a node's process is doing.
enum Process {
    /// It is being started.
    Starting,
    /// It runs.
    Up(Handle<Subject>),
    /// It is over, and wants to be started again.
    Over,
}

impl Place {
    fn process(&self) -> MutexGuard<'_, Process> {
        // A panic ends the whole run, so what it left behind does not matter.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the handle of the process, if it runs.
    fn handle(&self) -> Option<Handle<Subject>> {
        match &*self.process() {
            Process::Up(handle) => Some(handle.clone()),
            Process::Starting | Process::Over => None,
        }
    }
}

/// One process of a node, from its start to its end: what `lockstep` does in production.
async fn process(run: Arc<Run>, place: usize) {
    let own = &run.places[place];
    // Relaxed: one thread.
    let start = u64::from(own.starts.fetch_add(1, Relaxed)) + 1;
    *own.process() = Process::Starting;
    run.record.note(place, &("start", start));
    match run.clone().live(place, start).await {
        Ok(ended) => run.record.note(place, &ended),
        Err(why) => {
            run.record.count("start or run failed");
            run.record.note(place, &why);
        }
    }
    *own.process() = Process::Over;
}

impl Run {
    /// Lives through one process; an error is what `lockstep` would say on its way out.
    async fn live(self: Arc<Self>, place: usize, start: u64) -> Result<Ended, String> {
        let own = &self.places[place];
        let scope = start << 32 | place as u64;
        let (link, disk) = self.rates;
        let choices = || self.choices.scoped(scope);
        let mut entropy = Drawn::new(self.seed, place as u64 + 1, start);
        let mut file =
            Faulty::new(File::on(own.platter.clone()), disk, choices(), self.faults.clone());
        let session = match burn_session(&mut file, own.id).await {
            Ok(session) => session,
            Err(why @ NoSession::Refused(_)) => {
                // No slot is valid any more, and C7 refuses to guess. The operator removes the
                // file; what that may cost, C27 mends.
                self.record.count("session file removed");
                own.platter.wipe();
                return Err(why.to_string());
            }
            Err(why @ (NoSession::Read(_) | NoSession::Write(_))) => return Err(why.to_string()),
        };
        let sockets = Sockets::bind(own.addr.udp()).await.map_err(|why| why.to_string())?;
        let clock = Skewed::new(VirtualClock, own.skew.clone());
        let mut instance = [0; 8];
        entropy.fill(&mut instance);
        let now = runtime::Clock::now(&clock);
        let node = Node::new(
            now,
            NodeParams {
                config: self.config.clone(),
                schemas: schema::hashes(),
                key: own.key.clone(),
                session,
                instance: Instance(u64::from_le_bytes(instance)),
                addr: own.addr,
                meta: Meta::EMPTY,
                allowed: self.allowed.clone(),
                seeds: self.seeds(place),
                choices: choices(),
                suite: Suite::Noise,
            },
        );
        let (handle, commands) = runtime::handle(own.id);
        *own.process() = Process::Up(handle.clone());
        let client = Client {
            place,
            nodes: NODES,
            process: scope,
            handle,
            record: self.record.clone(),
            choices: choices(),
        };
        spawn_local(client.work());
        let _keeper = self.keep(place, own, &mut entropy);
        let world = World::<Simulated> {
            clock,
            network: Flaky::new(sockets, link, choices(), self.faults.clone()),
            disk: file,
            entropy,
        };
        let record = self.record.clone();
        let listen = move |now, event: &_| record.event(place, now, event);
        let buffer = self.config.swim.watch_buffer;
        let node = Subject::new(node, self.sabotage, now);
        let ended = runtime::run(world, node, commands, buffer, listen).await;
        ended.map_err(|why| why.to_string())
    }
}

impl Run {
    /// Keeps a kernel beside the node, on the same disk, until the handle is dropped. What its
    /// recovery finds, and what it decides at its start, is part of the run.
    fn keep(self: &Arc<Self>, place: usize, own: &Place, entropy: &mut Drawn) -> KeeperHandle {
        let mut seed = [0; 32];
        entropy.fill(&mut seed);
        let limits = journal::Limits { segment_bytes: 1 << 20, ..journal::Limits::STANDARD };
        let clock = Skewed::new(VirtualClock, own.skew.clone());
        let params = KeeperParams {
            node: own.id,
            kernel: KernelConfig::new(),
            journal: journal::Config::new(limits).expect("the limits are legal"),
            snapshots: SnapshotConfig::STANDARD,
            seed,
        };
        let keeper = Keeper::new(clock.now(), clock.wall(), params);
        let keeper = keeper.expect("the default configuration is legal");
        let (handle, asks) = keeper_handle();
        let record = self.record.clone();
        let listen = move |noted: Noted<'_>| {
            if let Noted::Output(keeper::io::Output::Started(report)) = noted {
                record.note(place, &("kept", report.record, report.events));
            }
        };
        spawn_local(keep(clock, Shelf::on(own.platter.clone()), keeper, asks, listen));
        handle
    }
}

/// Runs one seed to its end, with nodes that do `sabotage`.
#[must_use]
pub fn run(seed: u64, sabotage: Sabotage) -> Verdict {
    let mut choices = Choices::new(seed);
    let mut config = madsim::Config::default();
    let latency = Duration::from_millis(1 + choices.choose("madsim.latency", [0; 2], 20));
    config.net.send_latency = Duration::from_millis(1)..latency + Duration::from_millis(1);
    let mut runtime = Runtime::with_seed_and_config(seed, config);
    runtime.set_time_limit(TIME_MAX);

    let run = Arc::new(Run::new(seed, sabotage, choices));
    let nodes: Vec<_> = (0..NODES)
        .map(|place| {
            let node = runtime.create_node().name(format!("node-{place}"));
            let node = node.ip(run.places[place].addr.udp().ip());
            let run = run.clone();
            node.init(move || process(run.clone(), place)).build().id()
        })
        .collect();
    runtime.block_on(async {
        story::tell(&run, &nodes, &NetSim::current()).await;
    });
    run.record.verdict()
}

impl Run {
    fn new(seed: u64, sabotage: Sabotage, mut choices: Choices) -> Self {
        let places: Vec<_> =
            (0..NODES).map(|place| Place::new(seed, place, &mut choices)).collect();
        // A swarm: each seed has some kinds of faults, in some strength (T21).
        let mut rate = |site, most| match choices.choose(site, [0; 2], 2) {
            0 => 0,
            _ => u32::try_from(choices.choose(site, [1, 0], most)).expect("a rate is small"),
        };
        let link = LinkRates {
            loss: rate("madsim.loss", 100),
            duplicate: rate("madsim.duplicate", 100),
            reorder: rate("madsim.reorder", 100),
            corrupt: rate("madsim.corrupt", 50),
        };
        let disk =
            DiskRates { torn: rate("madsim.torn", 300), lost_sync: rate("madsim.lost_sync", 300) };
        Self {
            seed,
            config: ClusterConfig::of(Profile::Local, "madsim"),
            choices,
            faults: Arc::default(),
            rates: (link, disk),
            sabotage,
            record: Record::of(places.iter().map(|place| place.id)),
            allowed: Arc::new(Allowed::only(places.iter().map(|place| place.key.public()))),
            places,
        }
    }

    /// The seeds of a node: all the others.
    fn seeds(&self, own: usize) -> Vec<Seed> {
        let others = self.places.iter().enumerate().filter(|(place, _)| *place != own);
        others.map(|(_, place)| Seed { addr: place.addr, node: None }).collect()
    }
}

impl Place {
    fn new(seed: u64, place: usize, choices: &mut Choices) -> Self {
        let mut secret = [0; 32];
        Drawn::new(seed, place as u64 + 1, 0).fill(&mut secret);
        let key = StaticKey::from_secret(secret);
        let octet = u8::try_from(place + 1).expect("few nodes");
        let ip = std::net::Ipv4Addr::new(10, 0, 0, octet).into();
        let drift = choices.choose("madsim.drift", [place as u64, 0], 20_001);
        let drift = i64::try_from(drift).expect("an answer is below its bound");
        // 0, +1, -1, +2 …: answer 0 is the true clock.
        let drift = if drift % 2 == 0 { -drift / 2 } else { drift / 2 + 1 };
        Self {
            id: key.node(),
            key,
            addr: Addr::new(ip, PORT, PORT).expect("10.0.0.0/8 is reachable"),
            platter: Platter::default(),
            skew: Arc::new(Skew::drifting(drift.clamp(-10_000, 10_000))),
            starts: AtomicU32::new(0),
            process: Mutex::new(Process::Starting),
        }
    }
}
