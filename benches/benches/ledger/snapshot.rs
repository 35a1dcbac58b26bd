//! `ledger/snapshot` (L95): what commands notice of a snapshot of 100,000 processes.
//!
//! The production loop runs over the production files, and 64 callers keep it busy. Its clock and
//! its files are wrapped: a turn of the loop begins when it asks for the time, and ends when it
//! waits for files again, in the same poll of its future. So the longest turn, in time on a core,
//! is how long a snapshot keeps a command waiting, whatever the disk and others on the machine do.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as Stopwatch};

use benches::on_core::OnCore;
use benches::results::{Measured, Results, Unit};
use benches::rig::{USERS, command, pid, plain, user};
use benches::{is_measured, sized};
use host::world::{LedgerFiles, SystemClock};
use machines::Instant;
use machines::keeper::io::Output;
use machines::keeper::{Keeper, KeeperParams};
use machines::kernel::budget::Record;
use machines::kernel::config::KernelConfig;
use machines::kernel::lifecycle::Submit;
use machines::kernel::quota::Amounts;
use machines::kernel::{CommandBody, Time};
use machines::ledger::journal::io::{Config, Limits};
use machines::ledger::snapshot::SnapshotConfig;
use runtime::{
    Asks, Clock, Fault, Files, KeeperHandle, LedgerFile, Noted, Task, TaskId, Told, keep,
    keeper_handle,
};
use tokio::runtime::Runtime;

use super::driver::{NODE, files, folder};

const CALLERS: u64 = 64;

/// What is seen of the loop, in nanoseconds since `start`. All is relaxed: the loop alone writes
/// the times, and what reads them does so after it, or only to sort commands.
struct Seen {
    start: Stopwatch,
    /// Nothing is counted before the processes are there.
    counting: AtomicBool,
    snapshot: AtomicBool,
    /// When the turn began, in time of its thread. Only the loop locks it.
    turn: Mutex<Option<OnCore>>,
    /// When the state of `snapshot` began.
    since: AtomicU64,
    /// Without, and with, a snapshot under way.
    without: Figures,
    with: Figures,
    snapshots: AtomicU64,
}

#[derive(Default)]
struct Figures {
    commands: AtomicU64,
    nanos: AtomicU64,
    longest_turn: AtomicU64,
    longest_wait: AtomicU64,
}

impl Figures {
    fn rate(&self) -> f64 {
        self.commands.load(Relaxed) as f64 * 1e9 / self.nanos.load(Relaxed).max(1) as f64
    }
}

impl Seen {
    fn new() -> Self {
        Self {
            start: Stopwatch::now(),
            counting: AtomicBool::new(false),
            snapshot: AtomicBool::new(false),
            turn: Mutex::new(None),
            since: AtomicU64::new(0),
            without: Figures::default(),
            with: Figures::default(),
            snapshots: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    fn figures(&self) -> &Figures {
        if self.snapshot.load(Relaxed) { &self.with } else { &self.without }
    }

    fn begin_turn(&self) {
        *self.turn.lock().expect("nobody panics") = Some(OnCore::thread());
    }

    fn end_turn(&self) {
        let turn = self.turn.lock().expect("nobody panics").take();
        if let Some(turn) = turn.filter(|_| self.counting.load(Relaxed)) {
            self.figures().longest_turn.fetch_max(nanos(turn.elapsed()), Relaxed);
        }
    }

    /// A snapshot begins or ends, or counting does.
    fn turn_over(&self, counting: bool, snapshot: bool) {
        let now = self.now();
        let since = self.since.swap(now, Relaxed);
        if self.counting.swap(counting, Relaxed) {
            self.figures().nanos.fetch_add(now - since, Relaxed);
        }
        if self.snapshot.swap(snapshot, Relaxed) && !snapshot {
            self.snapshots.fetch_add(1, Relaxed);
        }
    }

    fn answered(&self, waited: Duration) {
        if self.counting.load(Relaxed) {
            let figures = self.figures();
            figures.commands.fetch_add(1, Relaxed);
            figures.longest_wait.fetch_max(nanos(waited), Relaxed);
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("nothing here takes centuries")
}

/// The clock, which is asked when a turn begins.
struct SeenClock(SystemClock, Arc<Seen>);

impl Clock for SeenClock {
    fn now(&self) -> Instant {
        self.1.begin_turn();
        self.0.now()
    }

    fn wall(&self) -> Time {
        self.0.wall()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + Send {
        self.0.sleep_until(at)
    }
}

/// The files, which are waited for when a turn has ended.
struct SeenFiles(LedgerFiles, Arc<Seen>);

impl Files for SeenFiles {
    fn submit(&mut self, id: TaskId, task: Task) {
        if let Task::Create { file: LedgerFile::Snapshot(_), .. } = &task {
            self.1.turn_over(self.1.counting.load(Relaxed), true);
        }
        self.0.submit(id, task);
    }

    fn ended(&mut self) -> impl Future<Output = (TaskId, Result<Told, Fault>)> + Send {
        self.1.end_turn();
        self.0.ended()
    }
}

/// Runs a keeper on a folder, with a snapshot after every so many records.
async fn serve(
    path: PathBuf,
    records: u64,
    seen: Arc<Seen>,
    (asks, started): (Asks, sync::Reply<()>),
) {
    let mut started = Some(started);
    let snapshots = SnapshotConfig { records, ..SnapshotConfig::STANDARD };
    let journal = Config::new(Limits::STANDARD).expect("the standard limits are legal");
    let kernel = KernelConfig::new();
    let params = KeeperParams { node: NODE, kernel, journal, snapshots, seed: [7; 32] };
    let clock = SeenClock(SystemClock::start(), Arc::clone(&seen));
    let files = SeenFiles(files(&path), Arc::clone(&seen));
    let keeper = Keeper::new(clock.now(), clock.wall(), params);
    let keeper = keeper.expect("the configuration is legal");
    let mut hear = move |output: &Output| match output {
        Output::Snapshot { .. } => seen.turn_over(seen.counting.load(Relaxed), false),
        Output::Stalled(_) | Output::SnapshotFailed { .. } | Output::Refused(_) => {
            panic!("nothing fails here: {output:?}");
        }
        Output::Started(_) => {
            let told = started.take().map(|started| started.send(()));
            assert!(told.is_some_and(|sent| sent.is_ok()), "it starts once");
        }
        Output::Disk(..)
        | Output::Reply(..)
        | Output::Answer(..)
        | Output::Events { .. }
        | Output::Effect(_)
        | Output::Batch(..)
        | Output::Ended(..)
        | Output::Stopped => {}
    };
    let listen = move |noted: Noted<'_>| match noted {
        Noted::Output(output) => hear(output),
        Noted::Removed(removed) => panic!("there is no handler: {removed:?}"),
        Noted::Fault(fault) => panic!("{fault}"),
    };
    keep(clock, files, keeper, asks, listen).await;
}

/// Gives the command of each number, one after the other.
async fn call(
    handle: KeeperHandle,
    seen: Arc<Seen>,
    numbers: impl Iterator<Item = u64>,
    body: fn(u64) -> CommandBody,
) {
    for number in numbers {
        let command = command(&user(number % USERS), body(number));
        let start = Stopwatch::now();
        let told = handle.command(command).await.expect("the loop is there");
        told.unwrap_or_else(|refusal| panic!("{refusal}"));
        seen.answered(start.elapsed());
    }
}

/// Has 64 callers give the commands of all `numbers`.
async fn crowd(
    handle: &KeeperHandle,
    seen: &Arc<Seen>,
    numbers: std::ops::Range<u64>,
    body: fn(u64) -> CommandBody,
) {
    let step = usize::try_from(CALLERS).expect("few");
    let tasks = (0..CALLERS).map(|caller| {
        let own = (numbers.start + caller..numbers.end).step_by(step);
        tokio::spawn(call(handle.clone(), Arc::clone(seen), own, body))
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("no caller panics");
    }
}

fn submit(number: u64) -> CommandBody {
    CommandBody::Submit(Box::new(Submit { pid: Some(pid(number)), ..plain() }))
}

fn processes() -> u64 {
    sized(100_000, 1_000).into()
}

fn use_up(number: u64) -> CommandBody {
    let amounts = Amounts { tokens_in: 1, ..Amounts::ZERO };
    // The number of processes is a multiple of that of users: its owner is the caller.
    let at = number % processes();
    let record = Record { pid: pid(at), amounts, agent_hops: 0, attempt: None, record: None };
    CommandBody::RecordUsage(Box::new(record))
}

pub(crate) fn run(results: &mut Results) {
    let runtime = Runtime::new().expect("it needs nothing");
    let folder = folder();
    let every = u64::from(sized(30_000, 200));
    let seen = Arc::new(Seen::new());
    runtime.block_on(async {
        let (handle, asks) = keeper_handle();
        let path = folder.path().to_owned();
        let (started, heard) = sync::reply();
        let serving = tokio::spawn(serve(path, every, Arc::clone(&seen), (asks, started)));
        heard.await.expect("an empty folder is sound");
        crowd(&handle, &seen, 0..processes(), submit).await;
        seen.turn_over(true, seen.snapshot.load(Relaxed));
        crowd(&handle, &seen, 0..every * 5, use_up).await;
        seen.turn_over(false, seen.snapshot.load(Relaxed));
        handle.stop().expect("the loop is there");
        serving.await.expect("the loop does not panic");
    });
    let taken = seen.snapshots.load(Relaxed);
    assert!(taken > 2 || !is_measured(), "{taken} snapshots were taken");
    tell(results, &seen);
}

fn tell(results: &mut Results, seen: &Seen) {
    let mut add = |id: &str, value: f64, unit: Unit| {
        let id = format!("ledger/snapshot/{id}");
        let measured = Measured { id, value, unit, range: None };
        println!("{measured}");
        results.add(measured);
    };
    let figure = |figure: &AtomicU64| figure.load(Relaxed) as f64;
    let each = Unit::NanosecondsEach;
    add("throughput/with", seen.with.rate(), Unit::PerSecond);
    add("throughput/without", seen.without.rate(), Unit::PerSecond);
    add("longest-turn/with", figure(&seen.with.longest_turn), each);
    add("longest-turn/without", figure(&seen.without.longest_turn), each);
    add("longest-wait/with", figure(&seen.with.longest_wait), each);
    add("longest-wait/without", figure(&seen.without.longest_wait), each);
    add("snapshots", figure(&seen.snapshots), Unit::Count);
}
