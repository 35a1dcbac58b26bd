//! What a model checker can do: run a model in every way, spawn threads, wait for futures.

use std::fmt;
use std::fs;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};

use sync::Atomics;

use crate::atomics::{LoomAtomics, ShuttleAtomics, Weak};

/// How often shuttle runs a model under each of its two schedulers.
const SHUTTLE_RUNS: usize = 300;
/// How many preemptions PCT places (Burckhardt et al. 2010).
const PCT_DEPTH: usize = 3;
/// More branches in one execution than any model here has; loom panics beyond it.
const BRANCHES_MAX: usize = 50_000;

/// How far a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Every interleaving.
    Full,
    /// Every interleaving with at most so many preemptions: counts as bounded.
    Preemptions(usize),
}

/// A family of memory that can explore the executions of a model.
pub trait Checker: Atomics {
    /// Runs `model` in every execution within `bound`, and says how many there were. shuttle has
    /// its own bound.
    fn check(name: &str, bound: Bound, model: impl Fn() + Send + Sync + 'static);

    /// Starts a thread of the model; the answer joins it.
    fn spawn(body: impl FnOnce() + 'static) -> impl FnOnce();

    /// Polls a future until it is ready, asleep in between. A wakeup that is lost is a deadlock,
    /// which the checker reports.
    fn block_on<F: Future>(future: F) -> F::Output;
}

/// A value that is leaked when the thread panics.
///
/// In a twin the panic is the point. Drops would then run the structure on, outside the checker,
/// and turn the panic into an abort.
#[derive(Debug)]
pub struct Calm<T>(ManuallyDrop<T>);

impl<T> Calm<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        let mut calm = ManuallyDrop::new(self);
        // SAFETY: the value is taken once: the wrapper is neither used nor dropped afterwards.
        unsafe { ManuallyDrop::take(&mut calm.0) }
    }
}

impl<T: Clone> Clone for Calm<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for Calm<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Calm<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> Drop for Calm<T> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the value is dropped here, once, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.0) };
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("complete"),
            Self::Preemptions(most) => write!(f, "bounded(preemptions={most})"),
        }
    }
}

/// Prints a line past the test harness, and keeps it for the report.
pub fn report(kind: &str, name: &str, outcome: &str) {
    let line = format!("{kind} {name}: {outcome}\n");
    // A failure to print or to write must not fail a model.
    let _unprinted = std::io::stderr().write_all(line.as_bytes());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")),
        PathBuf::from,
    );
    let folder = target.join("models");
    let file = folder.join(format!("{}.txt", name.replace([' ', '/'], "-")));
    let _unwritten = fs::create_dir_all(folder).and_then(|()| fs::write(file, line));
}

/// Runs loom over `model` and returns the number of executions.
pub(crate) fn explore(bound: Bound, model: impl Fn() + Send + Sync + 'static) -> u64 {
    let mut builder = loom::model::Builder::new();
    // What the environment may have set is unset: loom ends *successfully* at these two (G55).
    builder.max_permutations = None;
    builder.max_duration = None;
    builder.max_branches = BRANCHES_MAX;
    builder.preemption_bound = match bound {
        Bound::Full => None,
        Bound::Preemptions(most) => Some(most),
    };
    let executions = Arc::new(AtomicU64::new(0));
    let count = executions.clone();
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        model();
    });
    executions.load(Relaxed)
}

/// A waker that notifies a loom thread.
struct LoomTask {
    notify: loom::sync::Notify,
    owner: loom::thread::ThreadId,
    /// Whether the task has woken itself. Not part of the model.
    by_itself: AtomicBool,
}

impl Wake for LoomTask {
    fn wake(self: Arc<Self>) {
        if loom::thread::current().id() == self.owner {
            self.by_itself.store(true, Relaxed);
        }
        self.notify.notify();
    }
}

/// [`Checker::block_on`] for loom.
fn loom_block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let task = Arc::new(LoomTask {
        notify: loom::sync::Notify::new(),
        owner: loom::thread::current().id(),
        by_itself: AtomicBool::new(false),
    });
    let waker = Waker::from(task.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        task.notify.wait();
        if task.by_itself.swap(false, Relaxed) {
            // A message is in flight: this is waiting for its sender (G54). Not otherwise, since
            // loom gives a thread that has yielded no value again that it has seen before.
            loom::thread::yield_now();
        }
    }
}

impl Checker for LoomAtomics {
    fn check(name: &str, bound: Bound, model: impl Fn() + Send + Sync + 'static) {
        let executions = explore(bound, model);
        report("model", name, &format!("{executions} executions, {bound}"));
    }

    fn spawn(body: impl FnOnce() + 'static) -> impl FnOnce() {
        let handle = loom::thread::spawn(body);
        || handle.join().expect("loom reports a panic before it can be joined")
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        loom_block_on(future)
    }
}

impl Checker for Weak {
    fn check(_name: &str, bound: Bound, model: impl Fn() + Send + Sync + 'static) {
        explore(bound, model);
    }

    fn spawn(body: impl FnOnce() + 'static) -> impl FnOnce() {
        LoomAtomics::spawn(body)
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        loom_block_on(future)
    }
}

/// What shuttle takes only if it is `Send`.
struct Alone<F>(F);

// SAFETY: shuttle runs all threads of a model on one OS thread, so nothing is sent.
unsafe impl<F> Send for Alone<F> {}

impl<F: FnOnce()> Alone<F> {
    fn call(self) {
        (self.0)();
    }
}

impl Checker for ShuttleAtomics {
    fn check(name: &str, _bound: Bound, model: impl Fn() + Send + Sync + 'static) {
        let model = Arc::new(model);
        let again = model.clone();
        shuttle::check_random(move || model(), SHUTTLE_RUNS);
        shuttle::check_pct(move || again(), SHUTTLE_RUNS, PCT_DEPTH);
        let executions = 2 * SHUTTLE_RUNS;
        let bound = format!("bounded(shuttle: random, and PCT depth={PCT_DEPTH})");
        report("model", name, &format!("{executions} executions, {bound}"));
    }

    fn spawn(body: impl FnOnce() + 'static) -> impl FnOnce() {
        let body = Alone(body);
        let handle = shuttle::thread::spawn(move || body.call());
        || handle.join().expect("shuttle reports a panic before it can be joined")
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        let mut future = pin!(future);
        shuttle::future::block_on(poll_fn(move |cx| {
            let polled = future.as_mut().poll(cx);
            if polled.is_pending() {
                // A task that woke itself, since a message is in flight, waits for the sender; PCT
                // lets others run only if it is told (G54).
                shuttle::thread::yield_now();
            }
            polled
        }))
    }
}
