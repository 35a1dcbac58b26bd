//! A node in this process: `Node::start(config)` and what can be done with it (C105).

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use machines::Choices;
use machines::cluster::config::ClusterConfig;
use machines::cluster::identity::{Allowed, SessionError, StaticKey};
use machines::cluster::ids::{Addr, Instance, Session};
use machines::cluster::sealer::Suite;
use machines::cluster::wire::{Meta, schema};
use machines::kernel::housekeeping::StopMode;
use machines::node::NodeParams;
use machines::node::io::StopReason;
use runtime::{
    Clock, Commands, Ended, Entropy, Gone, Handle, KeeperHandle, NoSession, Won, World,
    burn_session, handle, race, run,
};
use sync::{Channel, Inbox, MailboxOptions, Publisher, Snapshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::cluster::{self, ClusterMachine};
use crate::config::{Allow, Config, ConfigError};
use crate::control::{self, Door};
use crate::events::{self, Place, Places};
use crate::failure::Failure;
use crate::files::{self, Folder};
use crate::keeping::{Desk, Keeping};
use crate::log::Listener;
use crate::seeds::{self, Resolved};
use crate::status::{KernelStatus, MemberStatus, Status};
pub use crate::watcher::Reloaded;
use crate::watcher::{self, AllowError, Following, Reload};
use crate::world::{Counts, LedgerFiles, SessionFile, Sockets, System, SystemClock, SystemEntropy};

/// How long a start waits for the name servers of each seed; what is not resolved by then is tried
/// again later.
const RESOLVE_MAX: Duration = Duration::from_secs(3);

/// How much longer than its drain a node may take to stop (K363).
const STOP_MAX: Duration = Duration::from_secs(5);

/// A running node. Dropping it ends the run loop without leaving the cluster, like a crash;
/// [`Node::shutdown`] leaves first.
///
/// It is also a [`Handle`]: `open`, `register`, `lookup`, `send`, `ask`, `watch` and the others.
///
/// # Examples
///
/// `core/host/examples/two_nodes.rs` starts two nodes that talk to each other.
pub struct Node {
    view: View,
    running: JoinHandle<Result<Ended, Failure>>,
}

/// Shows a node, and lets its users call it. Cheap to clone.
#[derive(Clone)]
pub struct View {
    handle: Handle<ClusterMachine>,
    desk: Desk,
    facts: Arc<Facts>,
    allow_error: Snapshot<Option<AllowError>>,
    reloads: Channel<Reload>,
    streams: Places,
}

/// Why a node has not left its cluster (C56). Its peers will take it for dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLeft {
    /// It stopped first.
    Gone,
    /// The patience ran out; the node runs on, and goes on leaving.
    Late,
}

impl fmt::Display for NotLeft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the node stopped before it had left",
            Self::Late => "the node has not left in time",
        })
    }
}

impl std::error::Error for NotLeft {}

/// What does not change while a node runs.
struct Facts {
    public_key: [u8; 32],
    addr: Addr,
    allow: String,
    leave_timeout: Duration,
    drain: Duration,
    end: End,
    sockets: Arc<Counts>,
}

/// By when a node that was told to stop has stopped (K363): the earliest that anybody asked for.
#[derive(Clone)]
struct End {
    began: Instant,
    /// So long after that; the greatest number as long as nobody has asked for a stop.
    after_ms: Arc<AtomicU64>,
}

impl End {
    fn never() -> Self {
        Self { began: Instant::now(), after_ms: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    fn is_by(&self, end: Instant) {
        let after = end.saturating_duration_since(self.began).as_millis();
        // Relaxed: a number, which publishes nothing.
        self.after_ms.fetch_min(u64::try_from(after).unwrap_or(u64::MAX), Relaxed);
    }

    /// Returns how much time there is, at most [`STOP_MAX`].
    fn left(&self) -> Duration {
        // Relaxed: as above.
        let after = Duration::from_millis(self.after_ms.load(Relaxed));
        after.saturating_sub(self.began.elapsed()).min(STOP_MAX)
    }
}

impl Node {
    /// Starts a node and returns before it has joined its cluster; [`Handle::joined`] waits.
    ///
    /// Must be called in a tokio runtime with timers and I/O.
    ///
    /// # Errors
    ///
    /// Why it does not start: configuration, key, allowlist, session, address, or folder. The
    /// session count may have grown by one; nothing else has changed.
    pub async fn start(config: Config) -> Result<Self, Failure> {
        let known = Known::read(&config)?;
        let folder = Folder::lock(&config.data)?;
        let door = Door::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(control::serve(control::listen(&folder)?, Arc::clone(&door)));
        let keeping = keeping(&config, &known.key, &folder).await?;
        let opened = match Opened::new(&config, &known).await {
            Ok(opened) => opened,
            Err(failure) => {
                // The folder stays taken until nothing writes to it any more (L2).
                keeping.stop(STOP_MAX).await;
                return Err(failure);
            }
        };
        let (node, session, before) = (known.key.node(), opened.session.0, keeping.before);
        let addr = opened.addr;
        info!(%node, ?addr, session, %before, cluster = config.cluster, "started");
        let clock = SystemClock::start();
        let machine = opened.machine(&config, &known, clock.now());
        let (handle, commands) = handle(node);
        let facts = Arc::new(Facts::of(&config, &known, &opened));
        let watch_buffer = known.cluster.swim.watch_buffer;
        let (view, told) = View::new(handle, keeping.desk.clone(), facts);
        let Opened { disk, sockets, found, .. } = opened;
        told.follow(&mut tasks, &view, config, known, (addr, found));
        let entered = door.set(view.clone());
        debug_assert!(entered.is_ok(), "nobody else sets it");
        let world = World::<System> { clock, network: sockets, disk, entropy: SystemEntropy };
        let (streams, end) = (view.streams.clone(), view.facts.end.clone());
        let held = Held { tasks, keeping, streams, end, folder };
        let running = tokio::spawn(held.run(world, machine, commands, watch_buffer));
        Ok(Self { view, running })
    }

    /// Waits until the node has stopped. Cancel safe.
    ///
    /// # Errors
    ///
    /// Why it stopped, unless a user asked for it.
    pub async fn ended(&mut self) -> Result<(), Failure> {
        match (&mut self.running).await {
            Ok(Ok(Ended::Asked | Ended::Abandoned)) => Ok(()),
            Ok(Ok(Ended::Stopped(reason))) => {
                error!(?reason, "stopped");
                Err(Failure::Stopped(reason))
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::Panicked),
        }
    }

    /// Drains the kernel, leaves the cluster, stops the node, and waits until it has stopped (C56,
    /// K363).
    ///
    /// # Errors
    ///
    /// Why it had stopped already, or why the run failed.
    pub async fn shutdown(mut self) -> Result<(), Failure> {
        self.view.leave_and_stop().await;
        self.ended().await
    }
}

/// What a node is told of its cluster: all that is read before anything is opened.
struct Known {
    cluster: ClusterConfig,
    key: StaticKey,
    allow_path: PathBuf,
    allowed: Arc<Allowed>,
}

impl Known {
    fn read(config: &Config) -> Result<Self, Failure> {
        let cluster = config.cluster()?;
        let key = files::read_key(&config.path(&config.key_file))?;
        let allow_path = allow_path(config);
        let allowed = files::read_allowed(&config.allow, &allow_path)?;
        seeds::check(&config.seeds, &allowed)?;
        Ok(Self { cluster, key, allow_path, allowed })
    }
}

/// Starts the kernel on the ledger of `folder`.
async fn keeping(config: &Config, key: &StaticKey, folder: &Folder) -> Result<Keeping, Failure> {
    let unusable = |error| Failure::Folder { path: config.data.clone(), error };
    let files = LedgerFiles::open(folder).map_err(unusable)?;
    Keeping::start(config, key, files, drawn(&mut SystemEntropy)).await
}

/// What a node has open, and whom it can join through.
struct Opened {
    disk: SessionFile,
    session: Session,
    sockets: Sockets,
    addr: Addr,
    found: Resolved,
}

impl Opened {
    async fn new(config: &Config, known: &Known) -> Result<Self, Failure> {
        let links = &known.cluster.links;
        let mut disk = SessionFile::new(config.path(&config.session_file));
        let session = take_session(&mut disk, &known.key, config).await?;
        let closing_max = links.half_open_max.saturating_add(links.links_max);
        let sockets = Sockets::bind(config.bind, links.unsent_bytes_max, closing_max)
            .map_err(|error| not_bound(config.bind, error))?;
        let addr = advertised(config, &sockets)?;
        let found = seeds::resolve(&config.seeds, addr, RESOLVE_MAX).await;
        Ok(Self { disk, session, sockets, addr, found })
    }

    /// Makes the node's part in its cluster.
    fn machine(&self, config: &Config, known: &Known, now: machines::Instant) -> ClusterMachine {
        let machine = ClusterMachine::new(
            now,
            NodeParams {
                config: known.cluster.clone(),
                schemas: schema::hashes(),
                key: known.key.clone(),
                session: self.session,
                instance: Instance(draw(&mut SystemEntropy)),
                addr: self.addr,
                meta: Meta::new(config.meta.as_bytes()).expect("the length was checked"),
                allowed: Arc::clone(&known.allowed),
                seeds: self.found.seeds.clone(),
                choices: Choices::new(draw(&mut SystemEntropy)),
                suite: Suite::Noise,
            },
        );
        if is_awaited(&self.found) { machine.expecting_seeds() } else { machine }
    }
}

/// A name that stands for nothing just now is not the same as no seed (C55).
fn is_awaited(found: &Resolved) -> bool {
    found.seeds.is_empty() && !found.unresolved.is_empty()
}

/// What a running node's view is told by, and tells.
struct Told {
    allow_error: Publisher<Option<AllowError>>,
    reloads: Inbox<Reload>,
}

impl Told {
    /// Has the allowlist, the seeds' names and reloads followed while the node runs.
    fn follow(
        self,
        tasks: &mut JoinSet<()>,
        view: &View,
        config: Config,
        known: Known,
        (own, found): (Addr, Resolved),
    ) {
        let Known { allow_path, allowed, .. } = known;
        if let Allow::File(_) = config.allow {
            let node = view.handle.clone();
            tasks.spawn(watcher::allowlist(allow_path, allowed, self.allow_error, node));
        }
        let used = (!is_awaited(&found)).then_some(found.seeds);
        let following = Following { running: config, own, used, node: view.handle.clone() };
        tasks.spawn(following.follow(self.reloads));
    }
}

/// What a node holds while it runs, and lets go of in this order.
struct Held {
    tasks: JoinSet<()>,
    keeping: Keeping,
    streams: Places,
    end: End,
    folder: Folder,
}

impl Held {
    /// Runs the node's part in its cluster, and ends all else when that has ended.
    async fn run(
        self,
        world: World<System>,
        machine: ClusterMachine,
        commands: Commands<ClusterMachine>,
        watch_buffer: u32,
    ) -> Result<Ended, Failure> {
        let Self { mut tasks, keeping, streams, end, folder } = self;
        let mut listener = Listener::default();
        let hear = move |now, event: &_| listener.hear(now, event);
        let ended = run(world, machine, commands, watch_buffer, hear).await;
        // They hold handles of their own, and would go on.
        tasks.shutdown().await;
        // Both in what is left, whatever else took long.
        let most = end.left() * 3 / 4;
        let kept = keeping.stop(most).await;
        streams.empty(end.left() / 2).await;
        // The folder is free only when nothing writes to it any more.
        drop(folder);
        match ended? {
            Ended::Stopped(reason) => Ok(Ended::Stopped(reason)),
            Ended::Asked | Ended::Abandoned if !kept => Err(Failure::NotStopped(most)),
            ended @ (Ended::Asked | Ended::Abandoned) => Ok(ended),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Gone: it has stopped already.
        let _ = self.view.handle.stop();
    }
}

impl Deref for Node {
    type Target = View;

    fn deref(&self) -> &View {
        &self.view
    }
}

impl Deref for View {
    type Target = Handle<ClusterMachine>;

    fn deref(&self) -> &Handle<ClusterMachine> {
        &self.handle
    }
}

impl Facts {
    fn of(config: &Config, known: &Known, opened: &Opened) -> Self {
        Self {
            public_key: known.key.public(),
            addr: opened.addr,
            allow: allow_mode(config),
            leave_timeout: known.cluster.swim.leave_timeout,
            drain: config.drain(),
            end: End::never(),
            sockets: opened.sockets.counts(),
        }
    }
}

impl View {
    fn new(handle: Handle<ClusterMachine>, desk: Desk, facts: Arc<Facts>) -> (Self, Told) {
        let (publisher, allow_error) = sync::snapshot(None);
        let (reloads, inbox) = sync::channel(MailboxOptions::unbounded());
        let streams = Places::of(events::PLACES_MAX);
        let view = Self { handle, desk, facts, allow_error, reloads, streams };
        (view, Told { allow_error: publisher, reloads: inbox })
    }

    /// Returns the handle of the node's kernel.
    #[must_use]
    pub const fn keeper(&self) -> &KeeperHandle {
        &self.desk.handle
    }

    /// Returns where the node's kernel is asked by the node itself.
    pub(crate) const fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Takes a place among the connections that follow events, until it is dropped; `None` if there
    /// is none.
    pub(crate) fn stream(&self) -> Option<Place> {
        self.streams.take()
    }

    /// Returns how the kernel is, and how far, as far as that is durable.
    pub async fn kernel(&self) -> KernelStatus {
        self.desk.status(true).await
    }

    /// Returns where others find this node.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.facts.addr.tcp()
    }

    /// Returns the public key, as allowlists have it.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.facts.public_key
    }

    /// Returns the membership table (C105).
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn members(&self) -> Result<Vec<MemberStatus>, Gone> {
        self.handle.look(cluster::members).await
    }

    /// Returns everything that C121 asks for.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn status(&self) -> Result<Status, Gone> {
        let mut status = self.handle.look(cluster::report).await?;
        let mut allow_error = self.allow_error.clone();
        status.kernel = self.desk.status(false).await;
        status.allow.clone_from(&self.facts.allow);
        let sockets = &self.facts.sockets;
        status.counters.insert("host_streams_cut".to_owned(), sockets.cut());
        status.counters.insert("host_accept_failed".to_owned(), sockets.not_accepted());
        status.allow_error = allow_error.load().as_ref().as_ref().map(ToString::to_string);
        Ok(status)
    }

    /// Takes up what of `config` can change while a node runs (C108), and tells which keys those
    /// are, and which wait for the next start.
    ///
    /// # Errors
    ///
    /// `config` is wrong; nothing was changed. Or the node has stopped.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, Failure> {
        let (reply, answer) = sync::reply();
        let sent = self.reloads.send(Reload { config, reply });
        sent.map_err(|_| Gone)?;
        Ok(answer.await.map_err(|_| Gone)??)
    }

    /// Leaves the cluster, waiting `patience` at the most (C56). The node goes on running.
    ///
    /// # Errors
    ///
    /// See [`NotLeft`].
    pub async fn leave(&self, patience: Duration) -> Result<(), NotLeft> {
        match race(self.handle.leave(), sleep(patience)).await {
            Won::Left(left) => left.map_err(|Gone| NotLeft::Gone),
            Won::Right(()) => Err(NotLeft::Late),
        }
    }

    /// Drains the kernel, leaves, as long as the configuration allows, and stops the run loop in
    /// any case (K363).
    pub(crate) async fn leave_and_stop(&self) {
        let end = Instant::now() + self.stop_max();
        self.facts.end.is_by(end);
        self.drain().await;
        self.leave_by(end - Duration::from_secs(1)).await;
    }

    /// Stops a kernel that takes on nothing new already, when nothing is worked on or at the
    /// deadline, that of the configuration if none is given; leaves, and stops the run loop (K363).
    pub(crate) async fn stop_at_rest(&self, mode: StopMode, deadline: Option<Duration>) {
        let deadline = deadline.unwrap_or(self.facts.drain);
        let end = Instant::now() + deadline + STOP_MAX;
        self.facts.end.is_by(end);
        self.desk.stop_at_rest(mode, deadline).await;
        self.leave_by(end - Duration::from_secs(1)).await;
    }

    async fn leave_by(&self, end: Instant) {
        let patience = self.leave_patience().min(end.saturating_duration_since(Instant::now()));
        if self.leave(patience).await.is_err() {
            warn!("stopped before it had left");
        }
        // Gone: it has stopped already.
        let _ = self.handle.stop();
    }

    /// Has the kernel take on nothing new, and stops it when nothing is worked on, or at the
    /// deadline of the configuration (K362, K363).
    pub(crate) async fn drain(&self) {
        self.desk.drain(self.facts.drain).await;
    }

    /// How long [`leave_and_stop`](Self::leave_and_stop) and the end may take in all (K363).
    pub(crate) fn stop_max(&self) -> Duration {
        self.facts.drain + STOP_MAX
    }

    /// Leaves, as long as the configuration allows; says whether it has left.
    pub(crate) async fn leave_in_time(&self) -> bool {
        self.leave(self.leave_patience()).await.is_ok()
    }

    fn leave_patience(&self) -> Duration {
        // The machine keeps to `leave_timeout` itself; this is for a machine that does not.
        self.facts.leave_timeout + Duration::from_secs(2)
    }
}

fn allow_path(config: &Config) -> PathBuf {
    match &config.allow {
        Allow::Any => PathBuf::new(),
        Allow::File(path) => config.path(path),
    }
}

/// Names whom the node allows, as its status shows it (C24).
fn allow_mode(config: &Config) -> String {
    match &config.allow {
        Allow::Any => "OPEN".to_owned(),
        Allow::File(_) => format!("file:{}", allow_path(config).display()),
    }
}

async fn take_session(
    disk: &mut SessionFile,
    key: &StaticKey,
    config: &Config,
) -> Result<Session, Failure> {
    let path = config.path(&config.session_file);
    burn_session(disk, key.node()).await.map_err(|error| match error {
        NoSession::Refused(SessionError::Corrupt) => Failure::SessionCorrupt { path },
        NoSession::Refused(SessionError::Exhausted) => {
            Failure::Stopped(StopReason::SessionsExhausted)
        }
        NoSession::Read(_) | NoSession::Write(_) => {
            Failure::SessionUnusable { path, why: error.to_string() }
        }
    })
}

fn not_bound(addr: SocketAddr, error: io::Error) -> Failure {
    match error.kind() == io::ErrorKind::AddrInUse {
        true => Failure::AddrInUse(addr),
        false => Failure::Bind { addr, error },
    }
}

/// Returns where others find the node: as configured, with the port that it really has.
fn advertised(config: &Config, sockets: &Sockets) -> Result<Addr, Failure> {
    let bound = sockets.addr().map_err(|error| not_bound(config.bind, error))?;
    let mut shown = config.advertise.unwrap_or(bound);
    if shown.port() == 0 {
        shown.set_port(bound.port());
    }
    Addr::new(shown.ip(), shown.port(), shown.port()).ok_or_else(|| {
        let why = format!("{shown} is not the address of one machine");
        Failure::ConfigInvalid(ConfigError::of("advertise", why))
    })
}

fn draw(entropy: &mut SystemEntropy) -> u64 {
    u64::from_le_bytes(drawn(entropy))
}

fn drawn<const N: usize>(entropy: &mut SystemEntropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K363: whoever asks for an earlier end gets it.
    #[test]
    fn the_earliest_end_holds() {
        let end = End::never();
        assert_eq!(end.left(), STOP_MAX, "nobody has asked");
        end.is_by(Instant::now() + Duration::from_secs(3_600));
        assert_eq!(end.left(), STOP_MAX, "whatever ends the node before has as much");
        end.is_by(Instant::now());
        assert_eq!(end.left(), Duration::ZERO);
        end.is_by(Instant::now() + Duration::from_secs(3_600));
        assert_eq!(end.left(), Duration::ZERO);
    }
}
