//! The node's kernel in this process: its data folder is read before a socket is opened.

mod apart;
mod ready;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use machines::cluster::identity::StaticKey;
use machines::keeper::io::{Before, Output, RefusedStart, Report};
use machines::keeper::{Keeper, KeeperParams};
use machines::kernel::housekeeping::StopMode;
use machines::kernel::principal::Principal;
use machines::kernel::{Command, CommandBody};
use machines::ledger::journal::io::DiskError;
use runtime::{
    Asks, Clock, Fault, Files, Gone, KeeperHandle, Kept, Noted, Removed, Won, keep, keeper_handle,
    race,
};
use sync::Answer;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use crate::config::{Config, ConfigError};
use crate::failure::Failure;
use crate::status::{KernelAt, KernelStatus};
use crate::world::SystemClock;
use apart::Apart;
use ready::{Caller, Ready};

/// How often a kernel that drains is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How much longer than its deadline a drain may take, until all is on the disk (K363).
const SYNC_MAX: Duration = Duration::from_secs(2);
/// How long a start that was refused waits until the folder is free.
const FREE_MAX: Duration = Duration::from_secs(2);
/// How often it is logged that there is no room: it is looked for every second (L23).
const FULL_TOLD: Duration = Duration::from_secs(60);

/// A kernel that runs.
pub(crate) struct Keeping {
    pub(crate) desk: Desk,
    /// How the run before this one ended.
    pub(crate) before: Before,
    running: JoinHandle<Kept>,
    /// Answered when nothing is done to the folder any more.
    freed: Answer<()>,
}

/// Where a kernel is asked, and what is known of its end. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) handle: KeeperHandle,
    /// For whoever waits for tasks to listen.
    pub(crate) ready: Arc<Ready>,
    end: Arc<OnceLock<End>>,
}

/// How a kernel ended; what came first is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its journal failed (K365).
    Stalled(DiskError),
    /// Somebody stopped it.
    Stopped,
}

/// What a drain waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Something is worked on.
    Works,
    /// Nothing is.
    Rests,
    /// The kernel is stopped: it was asked to, or the deadline has come.
    Stopped,
    /// The journal has failed.
    Ended,
}

impl Keeping {
    /// Reads the data folder and starts the kernel on it.
    ///
    /// # Errors
    ///
    /// The configuration is wrong, or the node must not start on what is in the folder. Nothing
    /// there was changed then.
    pub(crate) async fn start(
        config: &Config,
        key: &StaticKey,
        files: impl Files,
        seed: [u8; 32],
    ) -> Result<Self, Failure> {
        let (journal, snapshots) = config.ledger()?;
        let node = key.node();
        let kernel = config.kernel.config()?;
        let params = KeeperParams { node, kernel, journal, snapshots, seed };
        let clock = SystemClock::start();
        let keeper = Keeper::new(clock.now(), clock.wall(), params);
        let keeper = keeper.map_err(|refusal| ConfigError::of("kernel", refusal.to_string()))?;
        let (handle, asks) = keeper_handle();
        let (started, heard) = sync::reply();
        let (caller, ready) = ready::ready();
        let desk = Desk { handle, ready: Arc::new(ready), end: Arc::new(OnceLock::new()) };
        let heard_by =
            Listener { started: Some(started), end: Arc::clone(&desk.end), caller, full: None };
        let (files, freed) = Apart::new(files);
        let running = tokio::spawn(run(clock, files, keeper, asks, heard_by));
        match heard.await {
            Ok(Ok(report)) => {
                // Its first decision comes after what it found, and may be refused.
                if desk.handle.look(|_| ()).await.is_err() {
                    return Err(not_kept(running, freed).await);
                }
                tell(&report);
                Ok(Self { desk, before: report.before, running, freed })
            }
            Ok(Err(_)) | Err(_) => Err(not_kept(running, freed).await),
        }
    }

    /// Stops the kernel, and waits until all that it told is durable and the folder is free, but
    /// no longer than `most`; says whether it has come to that. A disk that hangs, or has no room
    /// for what is left, would keep it for ever: it is ended then as by a crash, which takes back
    /// nothing that was told (K363). The folder stays taken until nothing writes to it (L2).
    pub(crate) async fn stop(self, most: Duration) -> bool {
        let Self { desk, mut running, freed, .. } = self;
        // Gone: it is over already.
        let _ = desk.handle.stop();
        let ended = async {
            if (&mut running).await.is_err() {
                error!("the kernel panicked");
            }
            // Given up: it is free, too.
            let _ = freed.await;
        };
        match race(ended, sleep(most)).await {
            Won::Left(()) => true,
            Won::Right(()) => {
                error!(?most, "the kernel could not be stopped in time: it is ended as by a crash");
                running.abort();
                false
            }
        }
    }
}

/// Waits until a kernel that did not start has let go of the folder, and says why it did not.
async fn not_kept(running: JoinHandle<Kept>, freed: Answer<()>) -> Failure {
    let kept = running.await;
    if let Won::Right(()) = race(freed, sleep(FREE_MAX)).await {
        warn!("the disk does not answer: the data folder is free when it does");
    }
    match kept {
        Ok(Kept::Refused(why)) => Failure::Unkept(why),
        Ok(Kept::Stopped | Kept::Abandoned) | Err(_) => Failure::Panicked,
    }
}

impl Desk {
    /// Says how the kernel is; if `whole`, also how far, as far as that is durable.
    pub(crate) async fn status(&self, whole: bool) -> KernelStatus {
        match self.handle.look(move |keeper| seen(keeper, whole)).await {
            Ok(Some(status)) => status,
            Ok(None) | Err(Gone) => self.ended(),
        }
    }

    fn ended(&self) -> KernelStatus {
        match self.end.get() {
            Some(End::Stalled(error)) => KernelStatus::of(
                "stalled",
                format!("the journal has failed: {error}; nothing is decided until the next start"),
            ),
            Some(End::Stopped) => KernelStatus::of("stopped", "it was asked to stop"),
            None => KernelStatus::of("failed", "its loop has panicked: this is a defect"),
        }
    }

    /// Takes on nothing new, waits until nothing is worked on, `deadline` at the most, and stops;
    /// all processes go on after the next start (K362, K363). Returns when that is durable, or
    /// soon after the deadline in any case.
    pub(crate) async fn drain(&self, deadline: Duration) {
        let mode = StopMode::Preserve;
        let deadline_ms = u64::try_from(deadline.as_millis()).ok();
        let stopped = async {
            self.decide(CommandBody::Shutdown { mode, deadline_ms }).await?;
            self.at_rest(mode).await
        };
        self.within(deadline, stopped).await;
    }

    /// Stops a kernel that takes on nothing new already, as [`drain`](Self::drain) does.
    pub(crate) async fn stop_at_rest(&self, mode: StopMode, deadline: Duration) {
        self.within(deadline, self.at_rest(mode)).await;
    }

    async fn within(&self, deadline: Duration, stop: impl Future<Output = Result<(), String>>) {
        match race(stop, sleep(deadline + SYNC_MAX)).await {
            Won::Left(Ok(())) => info!("the kernel is drained and stopped"),
            Won::Left(Err(why)) => warn!(why, "the kernel could not be drained"),
            Won::Right(()) => warn!("the kernel could not be drained in time"),
        }
        // Gone: it is over already.
        let _ = self.handle.stop();
    }

    async fn at_rest(&self, mode: StopMode) -> Result<(), String> {
        loop {
            match self.handle.look(progress).await.map_err(|gone| gone.to_string())? {
                Progress::Works => sleep(LOOK).await,
                Progress::Ended => return Err("its journal has failed".to_owned()),
                // So many processes end at once, and more with the next.
                Progress::Rests => self.decide(CommandBody::Stop { mode }).await?,
                // Answered when the stop is durable, whoever decided it.
                Progress::Stopped => return self.decide(CommandBody::Stop { mode }).await,
            }
        }
    }

    /// Has a command of the node itself decided.
    async fn decide(&self, body: CommandBody) -> Result<(), String> {
        let command = Command { by: Principal::node(), worker: None, rate: None, body };
        match self.handle.command(command).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(gone) => Err(gone.to_string()),
        }
    }
}

fn progress(keeper: &Keeper) -> Progress {
    match keeper.kernel().map(|kernel| kernel.state()) {
        None => Progress::Ended,
        Some(state) if state.is_stopped() => Progress::Stopped,
        Some(state) if state.at_rest() => Progress::Rests,
        Some(_) => Progress::Works,
    }
}

/// Says how a kernel is that has not ended.
fn seen(keeper: &Keeper, whole: bool) -> Option<KernelStatus> {
    let (kernel, journal) = (keeper.kernel()?, keeper.journal()?);
    let state = kernel.state();
    let (word, why) = match (state.is_stopped(), state.drains_until()) {
        (true, _) => ("stopped", Some("the node stops")),
        (false, Some(_)) => ("draining", Some("the node stops when nothing is worked on")),
        (false, None) => ("running", None),
    };
    let record = journal.appended();
    let at = (whole && journal.durable() == record).then(|| KernelAt {
        record,
        events: kernel.last_event(),
        // The loop waits meanwhile: nothing is copied for it.
        root: kernel.current_root().to_string(),
    });
    Some(KernelStatus { state: word.to_owned(), why: why.map(str::to_owned), at })
}

async fn run(
    clock: SystemClock,
    files: impl Files,
    keeper: Keeper,
    asks: Asks,
    mut listener: Listener,
) -> Kept {
    let listen = move |noted: Noted<'_>| match noted {
        Noted::Output(output) => listener.hear(output),
        Noted::Removed(Removed { event, message }) => {
            error!(event, why = message, "a handler of events panicked, and is called no more");
        }
        Noted::Fault(fault) => listener.fault(fault),
    };
    keep(clock, files, keeper, asks, listen).await
}

/// Hears what the keeper says.
struct Listener {
    /// What the start waits for.
    started: Option<sync::Reply<Result<Box<Report>, Box<RefusedStart>>>>,
    end: Arc<OnceLock<End>>,
    caller: Caller,
    /// When it was logged last that there is no room.
    full: Option<Instant>,
}

impl Listener {
    /// Logs what the disk failed at.
    fn fault(&mut self, fault: &Fault) {
        let is_full = fault.kind == DiskError::NoSpace;
        if is_full && self.full.is_some_and(|told| told.elapsed() < FULL_TOLD) {
            debug!(why = fault.why, "the disk is full");
            return;
        }
        self.full = is_full.then(Instant::now).or(self.full);
        warn!(why = fault.why, "the disk failed");
    }

    /// Logs it, and tells whoever waits for the start what that came to, and who waits for tasks.
    fn hear(&mut self, output: &Output) {
        self.caller.hear(output);
        match output {
            Output::Started(report) => {
                // Whoever started it has gone: then its handle has, too, and the loop ends.
                let _ = self.started.take().map(|started| started.send(Ok(report.clone())));
            }
            Output::Refused(why) => {
                let _ = self.started.take().map(|started| started.send(Err(why.clone())));
            }
            Output::Snapshot { record } => info!(record, "a snapshot is current"),
            Output::SnapshotFailed { record, error } => {
                warn!(record, error, "a snapshot could not be written; it is tried again");
            }
            Output::Stalled(error) => {
                error!(%error, "the journal has failed: nothing is decided until the next start");
                let _ = self.end.set(End::Stalled(*error));
            }
            // Known already if the journal had failed before.
            Output::Stopped => {
                let _ = self.end.set(End::Stopped);
            }
            Output::Disk(..)
            | Output::Reply(..)
            | Output::Answer(..)
            | Output::Events { .. }
            | Output::Effect(_)
            | Output::Batch(..)
            | Output::Ended(..) => {}
        }
    }
}

/// Logs what recovery found.
fn tell(report: &Report) {
    let Report { snapshot, record, root, replayed, events, torn, unsound, strangers, .. } = report;
    info!(record, events, replayed, ?snapshot, ?root, "the journal is recovered");
    if let Some(torn) = torn {
        let (file, offset) = (torn.file.to_string(), torn.offset);
        warn!(file, offset, "a write was cut short by a crash; nothing acknowledged was in it");
    }
    for (record, why) in unsound {
        warn!(record, why, "a snapshot is not sound, and was passed over");
    }
    for name in strangers {
        warn!(name, "a file in the data folder is not the node's; it is left alone");
    }
}

#[cfg(test)]
mod tests;
