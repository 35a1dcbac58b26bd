//! Goal: the keeper's loop tells readers and handlers what is durable, and survives them.
//! Method: a keeper on files in memory that answer at once, turned by hand.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};

use machines::Instant;
use machines::cluster::ids::NodeId;
use machines::keeper::KeeperParams;
use machines::kernel::config::KernelConfig;
use machines::kernel::dispatch::{Completion, ServiceRequest, Target};
use machines::kernel::ids::{DispatchId, LeaseId, ServiceType, UserId};
use machines::kernel::json::Json;
use machines::kernel::names::{OnExhausted, Priority};
use machines::kernel::principal::Role;
use machines::kernel::reply::Done;
use machines::kernel::services::{ServiceInfo, ServiceMode};
use machines::kernel::stream::{Batch, Filter};
use machines::kernel::{Code, CommandBody, Time, lifecycle::Submit};
use machines::ledger::journal::io::{Config, DiskError, Limits};
use machines::ledger::recovery::io::Listed;
use machines::ledger::snapshot::SnapshotConfig;

use super::*;

/// Time that passes when a test says so.
#[derive(Clone, Debug, Default)]
struct Still {
    millis: Arc<AtomicU64>,
}

impl Still {
    fn pass(&self, millis: u64) {
        self.millis.fetch_add(millis, Relaxed);
    }
}

impl Clock for Still {
    fn now(&self) -> Instant {
        Instant::from_millis(1 + self.millis.load(Relaxed))
    }

    fn wall(&self) -> Time {
        Time::from_millis(1_700_000_000_000 + self.millis.load(Relaxed))
    }

    fn sleep_until(&self, until: Instant) -> impl Future<Output = ()> + Send {
        poll_fn(move |_| match self.now() >= until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }
}

/// Files in memory.
#[derive(Default)]
struct Memory {
    files: BTreeMap<LedgerFile, Vec<u8>>,
    told: VecDeque<(TaskId, Result<Told, Fault>)>,
    /// Whether nothing that is written finds room.
    full: Arc<AtomicBool>,
}

impl Memory {
    fn perform(&mut self, task: Task) -> Told {
        match task {
            Task::List { folder } => {
                let files = self.files.iter().filter(|(file, _)| file.folder() == folder);
                let listed = |(file, bytes): (&LedgerFile, &Vec<u8>)| {
                    let path = file.to_string();
                    let name = path.rsplit('/').next().unwrap().to_owned();
                    Listed { name, bytes: bytes.len() as u64 }
                };
                return Told::Listed(files.map(listed).collect());
            }
            Task::ReadAt { file, offset, bytes } => {
                let all = &self.files[&file];
                let start = usize::try_from(offset).unwrap().min(all.len());
                let end = (start + usize::try_from(bytes).unwrap()).min(all.len());
                return Told::Read(all[start..end].to_vec());
            }
            Task::Create { file, bytes } => {
                self.files.insert(file, vec![0; usize::try_from(bytes).unwrap()]);
            }
            Task::Write { file, offset, bytes } => {
                let all = self.files.get_mut(&file).unwrap();
                let start = usize::try_from(offset).unwrap();
                all.resize(all.len().max(start + bytes.len()), 0);
                all[start..start + bytes.len()].copy_from_slice(&bytes);
            }
            Task::Rename { from, to } => {
                let bytes = self.files.remove(&from).unwrap();
                self.files.insert(to, bytes);
            }
            Task::Remove { file } => drop(self.files.remove(&file)),
            Task::Sync { .. } | Task::SyncDir { .. } | Task::Room => {}
        }
        Told::Done
    }
}

impl Files for Memory {
    fn submit(&mut self, id: TaskId, task: Task) {
        let writes = matches!(task, Task::Create { .. } | Task::Write { .. });
        let told = match writes && self.full.load(Relaxed) {
            true => Err(Fault { kind: DiskError::NoSpace, why: "the test says so".to_owned() }),
            false => Ok(self.perform(task)),
        };
        self.told.push_back((id, told));
    }

    fn ended(&mut self) -> impl Future<Output = (TaskId, Result<Told, Fault>)> + Send {
        poll_fn(|_| self.told.pop_front().map_or(Poll::Pending, Poll::Ready))
    }
}

fn keeper(clock: &Still) -> Keeper {
    let params = KeeperParams {
        node: NodeId::from_bytes([1; 16]),
        kernel: KernelConfig::new(),
        journal: Config::new(Limits { segment_bytes: 1 << 20, ..Limits::STANDARD }).unwrap(),
        snapshots: SnapshotConfig::STANDARD,
        seed: [1; 32],
    };
    Keeper::new(clock.now(), clock.wall(), params).unwrap()
}

/// A loop that is turned until nothing happens any more, or a future is ready.
struct Stage {
    handle: KeeperHandle,
    run: std::pin::Pin<Box<dyn Future<Output = Kept>>>,
    removed: std::sync::mpsc::Receiver<Removed>,
    faults: std::sync::mpsc::Receiver<String>,
    clock: Still,
    full: Arc<AtomicBool>,
}

impl Stage {
    fn new() -> Self {
        let (handle, asks) = keeper_handle();
        let (tell, removed) = channel();
        let (tell_fault, faults) = channel();
        let listen = move |noted: Noted<'_>| match noted {
            Noted::Removed(removed) => tell.send(removed.clone()).unwrap(),
            Noted::Fault(fault) => tell_fault.send(fault.to_string()).unwrap(),
            Noted::Output(_) => {}
        };
        let (clock, files) = (Still::default(), Memory::default());
        let (full, keeper) = (Arc::clone(&files.full), keeper(&clock));
        let run = Box::pin(keep(clock.clone(), files, keeper, asks, listen));
        Self { handle, run, removed, faults, clock, full }
    }

    /// Turns the loop until nothing happens any more.
    fn settle(&mut self) {
        assert!(self.wait(pending::<()>()).is_none());
    }

    /// The disk is full from now on, and the journal has found out.
    fn fill(&mut self) {
        self.settle();
        self.full.store(true, Relaxed);
        let kind = ServiceType::parse("type", "flow").unwrap();
        let info = ServiceInfo::new(named("stones"), kind);
        let body = CommandBody::RegisterService(Box::new(info));
        let command = Command { by: eve(), worker: None, rate: None, body };
        let handle = self.handle.clone();
        assert!(self.wait(handle.command(command)).is_none(), "it is not durable");
    }

    /// There is room again, and it is time to look.
    fn free(&mut self) {
        self.full.store(false, Relaxed);
        self.clock.pass(2_000);
        self.settle();
    }

    /// Turns the loop until `future` is ready; `None` if it never will be.
    fn wait<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..1_000 {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return Some(value);
            }
            if self.run.as_mut().poll(&mut cx).is_ready() {
                self.run = Box::pin(pending());
            }
        }
        None
    }

    fn submit(&mut self) {
        let submit = Submit {
            pid: None,
            request: None,
            user: None,
            session: None,
            priority: Priority::Normal,
            quota: Vec::new(),
            parent: None,
            on_exhausted: OnExhausted::Terminate,
            driven: false,
            metadata: BTreeMap::new(),
        };
        self.say(eve(), CommandBody::Submit(Box::new(submit))).unwrap();
    }

    fn say(&mut self, by: Principal, body: CommandBody) -> Replied {
        let command = Command { by, worker: None, rate: None, body };
        let handle = self.handle.clone();
        self.wait(handle.command(command)).unwrap().unwrap()
    }

    fn bind(&mut self, service: &str) -> Result<Calls, Box<Refusal>> {
        let handle = self.handle.clone();
        self.wait(handle.bind_handler(named(service))).unwrap().unwrap()
    }

    fn register(&mut self, service: &str, mode: ServiceMode) {
        let kind = ServiceType::parse("type", "flow").unwrap();
        let info = ServiceInfo { mode, ..ServiceInfo::new(named(service), kind) };
        self.say(eve(), CommandBody::RegisterService(Box::new(info))).unwrap();
    }

    /// How a dispatch that is asked for twice has ended; `None` while it has not.
    fn dispatch(&mut self, id: &str) -> Result<Option<bool>, Code> {
        let target = Target::Name { name: named("poets") };
        let mut request = ServiceRequest::new(target, "song", Json::NULL);
        request.dispatch = Some(DispatchId::parse("dispatch", id).unwrap());
        let said = self.say(eve(), CommandBody::Dispatch(Box::new(request)));
        let done = said.map_err(|refusal| refusal.code)?.reply.done;
        let Done::Dispatched { response, .. } = done else { panic!("not dispatched: {done:?}") };
        Ok(response.map(|response| response.success))
    }

    fn complete(&mut self, lease: LeaseId) {
        let (success, data, error, error_kind) = (true, None, None, None);
        let done = Completion { lease, success, data, error, error_kind };
        self.say(Principal::node(), CommandBody::CompleteTask(Box::new(done))).unwrap();
    }

    fn next(&mut self, events: &mut Events) -> Option<Result<Box<Batch>, Box<Refusal>>> {
        self.wait(events.next()).map(|given| given.unwrap())
    }
}

fn eve() -> Principal {
    Principal::new(UserId::parse("user", "eve").unwrap(), &[Role::Operator])
}

fn named(service: &str) -> ServiceName {
    ServiceName::parse("service", service).unwrap()
}

fn from(cursor: u64) -> Reading {
    Reading { cursor: Some(cursor), follow: true, ..Reading::default() }
}

fn numbers(batch: &Batch) -> Vec<u64> {
    batch.events.iter().map(|numbered| numbered.number).collect()
}

/// K331, and a wait that is given up loses nothing.
#[test]
fn a_reader_follows_and_a_dropped_wait_loses_nothing() {
    let mut stage = Stage::new();
    stage.submit();
    let handle = stage.handle.clone();
    let mut events = stage.wait(handle.events(eve(), from(0))).unwrap().unwrap();
    assert_eq!(numbers(&stage.next(&mut events).unwrap().unwrap()), [1, 2]);
    assert!(stage.next(&mut events).is_none(), "nothing more has happened");
    stage.submit();
    assert_eq!(numbers(&stage.next(&mut events).unwrap().unwrap()), [3]);
    let filter = Filter { kind: Some("kernel.".into()), ..Filter::default() };
    let reading = Reading { filter, follow: false, ..from(0) };
    let mut kernel = stage.wait(handle.events(eve(), reading)).unwrap().unwrap();
    let batch = stage.next(&mut kernel).unwrap().unwrap();
    assert_eq!((numbers(&batch), batch.cursor, batch.last), (vec![1], 3, true));
}

#[test]
fn a_reader_that_cannot_be_is_told_when_it_asks_first() {
    let mut stage = Stage::new();
    stage.submit();
    let handle = stage.handle.clone();
    let mut events = stage.wait(handle.events(eve(), from(9))).unwrap().unwrap();
    assert_eq!(stage.next(&mut events).unwrap().unwrap_err().code, Code::CursorAhead);
    let mut events = stage.wait(handle.events(eve(), from(2))).unwrap().unwrap();
    assert!(stage.next(&mut events).is_none());
    handle.stop().unwrap();
    assert_eq!(stage.next(&mut events).unwrap().unwrap_err().code, Code::NotDurable);
    assert_eq!(stage.wait(events.next()).unwrap().unwrap_err(), Gone);
}

/// Row 33, K334.
#[test]
fn row_33_on_event_hears_all_in_order_and_a_handler_that_panics_is_removed() {
    let mut stage = Stage::new();
    stage.submit();
    let (tell, heard) = channel();
    let handle = stage.handle.clone();
    let looked = stage.handle.clone();
    let good = move |number: u64, event: &Event| {
        tell.send((number, event.body.kind())).unwrap();
    };
    handle.on_event(|number, _| assert!(number < 3, "number {number} is too much")).unwrap();
    handle.on_event(good).unwrap();
    stage.submit();
    stage.submit();
    let all: Vec<(u64, &str)> = heard.try_iter().collect();
    assert_eq!(all, [(3, "process.created"), (4, "process.created")], "in order, from now on");
    let removed: Vec<Removed> = stage.removed.try_iter().collect();
    assert_eq!(removed, [Removed { event: 3, message: "number 3 is too much".to_owned() }]);
    let last = stage.wait(looked.look(|keeper| keeper.kernel().unwrap().last_event()));
    assert_eq!(last.unwrap().unwrap(), 4, "the kernel goes on");
}

/// Row 28, K192, K204: a service of mode Push calls the handler that is bound here, and one that
/// takes its place; without one there is nobody to be called.
#[test]
fn row_28_a_bound_handler_is_called_for_each_try_until_it_goes() {
    let mut stage = Stage::new();
    assert_eq!(stage.bind("poets").unwrap_err().code, Code::ServiceNotFound);
    stage.register("poets", ServiceMode::Push);
    stage.register("painters", ServiceMode::Pull);
    assert_eq!(stage.bind("painters").unwrap_err().code, Code::BadValue);
    assert_eq!(stage.dispatch("a"), Err(Code::NoHandler), "those refused have bound nothing");

    let mut calls = stage.bind("poets").unwrap();
    assert_eq!(stage.dispatch("a"), Ok(None));
    let task = stage.wait(calls.next()).unwrap().unwrap();
    assert_eq!((task.dispatch.as_str(), &*task.method, task.try_number), ("a", "song", 1));
    stage.complete(task.lease);
    assert_eq!(stage.dispatch("a"), Ok(Some(true)), "a repeat tells how it ended");

    let mut later = stage.bind("poets").unwrap();
    assert_eq!(stage.wait(calls.next()).unwrap(), None, "its place was taken");
    drop(calls);
    assert_eq!(stage.dispatch("b"), Ok(None), "the earlier one took nothing with it");
    let task = stage.wait(later.next()).unwrap().unwrap();
    assert_eq!(task.dispatch.as_str(), "b");
    assert!(stage.wait(later.next()).is_none(), "one try, one call");
    drop(later);
    assert_eq!(stage.dispatch("c"), Err(Code::NoHandler));
}

/// K192, K410: a handler that could not be bound for a moment has not taken another's place.
#[test]
fn a_handler_that_is_refused_leaves_the_earlier_one_bound() {
    let mut stage = Stage::new();
    stage.register("poets", ServiceMode::Push);
    let mut calls = stage.bind("poets").unwrap();
    stage.fill();
    assert_eq!(stage.bind("poets").unwrap_err().code, Code::DiskFull);
    stage.free();
    assert_eq!(stage.dispatch("a"), Ok(None));
    let task = stage.wait(calls.next()).expect("it is called").expect("it is bound");
    assert_eq!(task.dispatch.as_str(), "a");
}

/// K192: a handler that goes while the kernel takes nothing is taken back when it does again; one
/// that comes meanwhile stays.
#[test]
fn a_handler_that_goes_is_taken_back_when_there_is_room_again() {
    let mut stage = Stage::new();
    stage.register("poets", ServiceMode::Push);
    let calls = stage.bind("poets").unwrap();
    stage.fill();
    drop(calls);
    stage.settle();
    stage.free();
    assert_eq!(stage.dispatch("a"), Err(Code::NoHandler));

    let calls = stage.bind("poets").unwrap();
    let handle = stage.handle.clone();
    let mut later = Box::pin(handle.bind_handler(named("poets")));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(later.as_mut().poll(&mut cx).is_pending(), "it is asked for");
    drop(calls);
    let mut later = stage.wait(later).unwrap().unwrap().unwrap();
    stage.settle();
    assert_eq!(stage.dispatch("b"), Ok(None));
    assert!(stage.wait(later.next()).unwrap().is_some());
}

/// K192: who gives up before it is bound leaves nobody bound.
#[test]
fn a_handler_that_gives_up_before_it_is_bound_is_not() {
    let mut stage = Stage::new();
    stage.register("poets", ServiceMode::Push);
    let handle = stage.handle.clone();
    let mut given_up = Box::pin(handle.bind_handler(named("poets")));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(given_up.as_mut().poll(&mut cx).is_pending(), "it is asked for");
    drop(given_up);
    stage.settle();
    assert_eq!(stage.dispatch("a"), Err(Code::NoHandler));
}

/// What failed is told in words.
#[test]
fn a_fault_of_the_disk_is_told() {
    let mut stage = Stage::new();
    stage.fill();
    let faults: Vec<String> = stage.faults.try_iter().collect();
    assert!(faults.iter().all(|why| why == "the test says so") && !faults.is_empty(), "{faults:?}");
}
