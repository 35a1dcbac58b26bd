//! Goal: a kernel says how it is and how it ended, and stops as K362, K363 and K365 say.
//! Method: the real loop on a real folder; the disk fails when a test says so.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use machines::kernel::dispatch::{ServiceRequest, Target};
use machines::kernel::ids::{ServiceName, ServiceType, UserId};
use machines::kernel::json::Json;
use machines::kernel::principal::Role;
use machines::kernel::services::ServiceInfo;
use runtime::{Fault, Task, TaskId, Told};
use tempfile::TempDir;

use super::*;
use crate::files::Folder;
use crate::span::Bytes;
use crate::world::LedgerFiles;

/// Longer than any test waits, unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a disk does; everything as it should unless a test says otherwise.
#[derive(Clone, Debug, Default)]
struct Moods {
    /// Whatever would change a file fails.
    broken: Arc<AtomicBool>,
    /// There is no room for new files.
    full: Arc<AtomicBool>,
    /// Nothing that is begun ends, and whoever lets go of the files waits for it.
    hangs: Arc<AtomicBool>,
}

/// Files on such a disk.
struct Fragile {
    files: LedgerFiles,
    moods: Moods,
    failed: VecDeque<(TaskId, DiskError)>,
}

impl Drop for Fragile {
    fn drop(&mut self) {
        // A test that waits for this fails in the end.
        for _ in 0..10_000 {
            if !self.moods.hangs.load(Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Files for Fragile {
    fn submit(&mut self, id: TaskId, task: Task) {
        // Relaxed: nothing else is told by these.
        if self.moods.hangs.load(Relaxed) {
            return;
        }
        let full = matches!(task, Task::Create { .. }) && self.moods.full.load(Relaxed);
        match (self.moods.broken.load(Relaxed), full) {
            (true, _) => self.failed.push_back((id, DiskError::Device)),
            (false, true) => self.failed.push_back((id, DiskError::NoSpace)),
            (false, false) => self.files.submit(id, task),
        }
    }

    async fn ended(&mut self) -> (TaskId, Result<Told, Fault>) {
        match self.failed.pop_front() {
            Some((id, kind)) => {
                let why = "the test says so".to_owned();
                (id, Err(Fault { kind, why }))
            }
            None => self.files.ended().await,
        }
    }
}

fn alone(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(story);
}

struct Rig {
    folder: TempDir,
    moods: Moods,
}

impl Rig {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), moods: Moods::default() }
    }

    /// Waits until nobody holds the folder.
    async fn free(&self) {
        while Folder::lock(self.folder.path()).is_err() {
            sleep(Duration::from_millis(1)).await;
        }
    }

    async fn start(&self) -> Keeping {
        let folder = Folder::lock(self.folder.path()).unwrap();
        let files = LedgerFiles::open(&folder).unwrap();
        let files = Fragile { files, moods: self.moods.clone(), failed: VecDeque::new() };
        let mut config = Config::new("test");
        config.segment = Bytes(1 << 20);
        let key = StaticKey::from_secret([7; 32]);
        Keeping::start(&config, &key, files, [1; 32]).await.map_err(|why| why.to_string()).unwrap()
    }
}

fn said(body: CommandBody) -> Command {
    let by = UserId::parse("user", "ann").unwrap();
    let by = Principal::new(by, &[Role::User, Role::Worker, Role::Operator]);
    Command { by, worker: None, rate: None, body }
}

async fn say(desk: &Desk, body: CommandBody) -> Result<(), String> {
    let decided = desk.handle.command(said(body)).await.unwrap();
    decided.map(|_| ()).map_err(|refusal| refusal.to_string())
}

/// Begins a task, which is live until it is completed or its deadline has passed.
async fn work(desk: &Desk) {
    let service = ServiceName::parse("service", "tool").unwrap();
    let info = ServiceInfo::new(service.clone(), ServiceType::parse("type", "flow").unwrap());
    say(desk, CommandBody::RegisterService(Box::new(info))).await.unwrap();
    let target = Target::Name { name: service.clone() };
    let mut request = ServiceRequest::new(target, "run", Json::from("data"));
    request.queue = true;
    say(desk, CommandBody::Dispatch(Box::new(request))).await.unwrap();
    say(desk, CommandBody::LeaseTasks { service, max: 1 }).await.unwrap();
}

/// Returns how the run before ended, as the next start finds it.
async fn before(rig: &Rig) -> String {
    let keeping = rig.start().await;
    let before = keeping.before.to_string();
    assert!(keeping.stop(PATIENCE).await);
    before
}

#[test]
fn a_kernel_at_rest_drains_at_once_and_the_next_start_knows() {
    alone(async {
        let rig = Rig::new();
        assert_eq!(before(&rig).await, "the first start");
        let keeping = rig.start().await;
        assert_eq!(keeping.desk.status(false).await.to_string(), "running");
        // It does not wait for the deadline: a year is longer than any test.
        let drained = keeping.desk.drain(Duration::from_secs(24 * 3_600));
        tokio::time::timeout(PATIENCE, drained).await.expect("nothing is worked on");
        while keeping.desk.handle.look(|_| ()).await.is_ok() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(keeping.desk.status(true).await.to_string(), "stopped: it was asked to stop");
        assert!(keeping.stop(PATIENCE).await);
        assert_eq!(before(&rig).await, "a clean stop");
        assert_eq!(before(&rig).await, "no clean stop", "the run before only ended");
    });
}

/// K362, K363: it waits for what is worked on, takes on nothing new, and not for ever.
#[test]
fn a_drain_waits_for_work_until_its_deadline() {
    alone(async {
        let rig = Rig::new();
        let keeping = rig.start().await;
        work(&keeping.desk).await;
        let desk = keeping.desk.clone();
        let drain = tokio::spawn(async move { desk.drain(Duration::from_millis(300)).await });
        loop {
            let status = keeping.desk.status(false).await;
            match status.state.as_str() {
                "running" => sleep(Duration::from_millis(1)).await,
                "draining" => break,
                other => panic!("it is {other} while it works"),
            }
        }
        tokio::time::timeout(PATIENCE, drain).await.expect("the deadline").unwrap();
        assert!(keeping.stop(PATIENCE).await);
        assert_eq!(before(&rig).await, "a stop that cut work short");
    });
}

/// K365, L24: nobody has to guess.
#[test]
fn a_stalled_kernel_says_so_and_why_and_can_be_stopped() {
    alone(async {
        let rig = Rig::new();
        let keeping = rig.start().await;
        rig.moods.broken.store(true, Relaxed);
        let refused =
            say(&keeping.desk, CommandBody::Drain { deadline_ms: None }).await.unwrap_err();
        assert!(refused.starts_with("not_durable"), "{refused}");
        let told = keeping.desk.status(true).await;
        assert_eq!((told.state.as_str(), &told.at), ("stalled", &None));
        assert!(told.why.as_ref().unwrap().starts_with("the journal has failed: "), "{told}");
        tokio::time::timeout(PATIENCE, keeping.desk.drain(PATIENCE * 60)).await.expect("at once");
        assert_eq!(keeping.desk.status(true).await, told, "how it ended is told after its end");
        assert!(keeping.stop(PATIENCE).await);
    });
}

/// K363, L2: a disk that hangs keeps nobody who stops; the folder stays taken until it answers.
#[test]
fn a_stop_on_a_disk_that_hangs_has_an_end() {
    alone(async {
        let rig = Rig::new();
        let keeping = rig.start().await;
        // Answered when the start is durable.
        say(&keeping.desk, CommandBody::Cleanup).await.unwrap();
        rig.moods.hangs.store(true, Relaxed);
        let stopped = keeping.stop(Duration::from_millis(20));
        let stopped = tokio::time::timeout(PATIENCE, stopped).await;
        assert_eq!(stopped, Ok(false), "it is told that it was no clean stop");
        // The thread of this test lets go of what was ended, and does not wait for the disk.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        Folder::lock(rig.folder.path()).expect_err("something may still be written");
        rig.moods.hangs.store(false, Relaxed);
        tokio::time::timeout(PATIENCE, rig.free()).await.expect("L2");
        assert_eq!(before(&rig).await, "no clean stop");
    });
}

/// K363, L23: neither does a disk without room for the first segment.
#[test]
fn a_stop_before_there_is_room_for_a_segment_has_an_end() {
    alone(async {
        let rig = Rig::new();
        rig.moods.full.store(true, Relaxed);
        let keeping = rig.start().await;
        let stopped = keeping.stop(Duration::from_millis(20));
        let stopped = tokio::time::timeout(PATIENCE, stopped).await;
        assert_eq!(stopped, Ok(false), "its start is not durable");
        rig.moods.full.store(false, Relaxed);
        tokio::time::timeout(PATIENCE, rig.free()).await.expect("L2");
        assert_eq!(before(&rig).await, "the first start");
    });
}

fn tool() -> ServiceName {
    ServiceName::parse("service", "tool").unwrap()
}

/// Offers a service and returns a worker who waits for its tasks, longer than any test.
async fn waits(
    keeping: &Keeping,
    left: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<serde_json::Value> {
    let info = ServiceInfo::new(tool(), ServiceType::parse("type", "flow").unwrap());
    say(&keeping.desk, CommandBody::RegisterService(Box::new(info))).await.unwrap();
    let command = said(CommandBody::LeaseTasks { service: tool(), max: 1 });
    let desk = keeping.desk.clone();
    let wait = PATIENCE * 60;
    let waiting =
        tokio::spawn(async move { crate::leases::lease(command, wait, &desk, left).await });
    // What it asks is answered at once: it waits when these have been.
    for _ in 0..100 {
        keeping.desk.handle.look(|_| ()).await.unwrap();
        tokio::task::yield_now().await;
    }
    waiting
}

async fn dispatch(desk: &Desk) {
    let target = Target::Name { name: tool() };
    let mut request = ServiceRequest::new(target, "run", Json::from("data"));
    request.queue = true;
    say(desk, CommandBody::Dispatch(Box::new(request))).await.unwrap();
}

/// K205: who waits is given what comes, and told when nothing comes any more.
#[test]
fn a_worker_that_waits_is_woken_by_work_and_by_the_end() {
    alone(async {
        let rig = Rig::new();
        let keeping = rig.start().await;
        let waiting = waits(&keeping, std::future::pending()).await;
        dispatch(&keeping.desk).await;
        let told = tokio::time::timeout(PATIENCE, waiting).await.expect("it is woken").unwrap();
        assert_eq!(told["ok"]["tasks"].as_array().map(Vec::len), Some(1), "{told}");
        assert!(keeping.stop(PATIENCE).await);

        let rig = Rig::new();
        let keeping = rig.start().await;
        let waiting = waits(&keeping, std::future::pending()).await;
        say(&keeping.desk, CommandBody::UnregisterService { service: tool() }).await.unwrap();
        let told = tokio::time::timeout(PATIENCE, waiting).await.expect("it is woken").unwrap();
        assert_eq!(told["refused"]["code"], "service_not_found", "{told}");
        let waiting = waits(&keeping, std::future::pending()).await;
        rig.moods.broken.store(true, Relaxed);
        say(&keeping.desk, CommandBody::Drain { deadline_ms: None }).await.unwrap_err();
        let told = tokio::time::timeout(PATIENCE, waiting).await.expect("it is woken").unwrap();
        assert!(told["ok"]["tasks"] == serde_json::json!([]), "{told}");
        keeping.stop(PATIENCE).await;
    });
}

/// K205: who has left when a task comes is not given it, whatever is noticed first.
#[test]
fn a_task_that_comes_when_the_worker_has_left_stays() {
    alone(async {
        let rig = Rig::new();
        let keeping = rig.start().await;
        let gone = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&gone);
        // It wakes nobody: both are noticed at once.
        let left = std::future::poll_fn(move |_| match seen.load(Relaxed) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        });
        let waiting = waits(&keeping, left).await;
        gone.store(true, Relaxed);
        dispatch(&keeping.desk).await;
        let told = tokio::time::timeout(PATIENCE, waiting).await.expect("it is woken").unwrap();
        assert_eq!(told["ok"]["tasks"], serde_json::json!([]));
        let desk = &keeping.desk;
        let command = said(CommandBody::LeaseTasks { service: tool(), max: 1 });
        let decided = desk.handle.command(command).await.unwrap();
        let told = crate::commands::shown(&decided, None);
        assert_eq!(told["ok"]["tasks"].as_array().map(Vec::len), Some(1), "{told}");
        assert!(keeping.stop(PATIENCE).await);
    });
}
