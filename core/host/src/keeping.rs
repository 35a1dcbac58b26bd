//! The node's kernel in this process: its data folder is read before a socket is opened.

use machines::cluster::identity::StaticKey;
use machines::keeper::io::{Output, RefusedStart, Report};
use machines::keeper::{Keeper, KeeperParams};
use machines::kernel::config::KernelConfig;
use runtime::{Asks, Clock, KeeperHandle, Kept, Noted, Removed, keep, keeper_handle};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::failure::Failure;
use crate::world::{LedgerFiles, SystemClock};

/// A kernel that runs.
pub(crate) struct Keeping {
    pub(crate) handle: KeeperHandle,
    running: JoinHandle<Kept>,
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
        files: LedgerFiles,
        seed: [u8; 32],
    ) -> Result<Self, Failure> {
        let (journal, snapshots) = config.ledger()?;
        let node = key.node();
        let kernel = KernelConfig::new();
        let params = KeeperParams { node, kernel, journal, snapshots, seed };
        let clock = SystemClock::start();
        let keeper = Keeper::new(clock.now(), clock.wall(), params);
        let keeper = keeper.map_err(|refusal| Failure::Folder {
            path: config.data.clone(),
            error: std::io::Error::other(refusal),
        })?;
        let (handle, asks) = keeper_handle();
        let (started, heard) = sync::reply();
        let running = tokio::spawn(run(clock, files, keeper, asks, started));
        match heard.await {
            Ok(Ok(report)) => {
                tell(&report);
                Ok(Self { handle, running })
            }
            Ok(Err(why)) => Err(Failure::Unkept(why)),
            Err(_) => Err(Failure::Panicked),
        }
    }

    /// Stops the kernel and waits until all that it told is durable.
    pub(crate) async fn stop(self) {
        if self.handle.stop().is_ok() && self.running.await.is_err() {
            error!("the kernel panicked");
        }
    }
}

/// What the start waits for.
type Started = sync::Reply<Result<Box<Report>, Box<RefusedStart>>>;

async fn run(
    clock: SystemClock,
    files: LedgerFiles,
    keeper: Keeper,
    asks: Asks,
    started: Started,
) -> Kept {
    let mut started = Some(started);
    let listen = move |noted: Noted<'_>| match noted {
        Noted::Output(output) => hear(output, &mut started),
        Noted::Removed(Removed { event, message }) => {
            error!(event, why = message, "a handler of events panicked, and is called no more");
        }
    };
    keep(clock, files, keeper, asks, listen).await
}

/// Logs what the keeper says, and tells whoever waits for the start what it came to.
fn hear(output: &Output, started: &mut Option<Started>) {
    match output {
        Output::Started(report) => {
            // Whoever started it has gone: then its handle has, too, and the loop ends.
            let _ = started.take().map(|started| started.send(Ok(report.clone())));
        }
        Output::Refused(why) => {
            let _ = started.take().map(|started| started.send(Err(why.clone())));
        }
        Output::Snapshot { record } => info!(record, "a snapshot is current"),
        Output::SnapshotFailed { record, error } => {
            warn!(record, error, "a snapshot could not be written; it is tried again");
        }
        Output::Stalled(error) => {
            error!(%error, "the journal has failed: nothing is decided until the next start");
        }
        Output::Disk(..)
        | Output::Reply(..)
        | Output::Answer(..)
        | Output::Events { .. }
        | Output::Batch(..)
        | Output::Ended(..)
        | Output::Stopped => {}
    }
}

/// Logs what recovery found.
fn tell(report: &Report) {
    let Report { snapshot, record, replayed, events, torn, unsound, strangers } = report;
    info!(record, events, replayed, ?snapshot, "the journal is recovered");
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
