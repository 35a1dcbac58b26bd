//! The mailbox beside its peers: G461 to G464.
//!
//! The three lanes run raw, as the queues among the peers do; `mailbox` is what users hold, a
//! `Channel` and an `Inbox` over the default lane, with its system lane and its counting of
//! senders, as the channels among the peers have. All wait in the same way, whoever finds nothing
//! backs off: a receiver yields its thread, as a task that finds its mailbox empty ends its turn
//! (and as the benchmarks of crossbeam do); a sender to a full queue spins first.

use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::{Arc, Barrier, mpsc as std_mpsc};
use std::thread;
use std::time::{Duration, Instant};

use benches::interleaved::Case;
use benches::results::{Results, Unit};
use benches::rounds;
use concurrent_queue::ConcurrentQueue;
use crossbeam_queue::{ArrayQueue, SegQueue};
use crossbeam_utils::Backoff;
use sync::lane::Lane;
use sync::linked::Linked;
use sync::ring::{Refused, Ring};
use sync::segmented::Segmented;
use sync::stack::Stack;
use sync::{Channel, Inbox, MailboxOptions, Policy, Received, SendError, StdAtomics, channel};

/// Messages of one run between threads.
const MESSAGES: u64 = 400_000;
/// Messages of one run within a thread.
const ALONE: u64 = 400_000;
/// Slots of a bounded queue (G464).
const CAPACITY: u32 = 1_024;

/// A payload made from a number.
trait Message: Copy + Send + 'static {
    fn of(number: u64) -> Self;
}

impl Message for u64 {
    fn of(number: u64) -> Self {
        number
    }
}

impl Message for [u64; 8] {
    fn of(number: u64) -> Self {
        [number; 8]
    }
}

/// A queue from many threads to one.
trait Queue<M: Message> {
    type Sender: Clone + Send;
    type Receiver;
    fn new() -> (Self::Sender, Self::Receiver);
    /// Appends a message, or gives it back if the queue is full.
    fn push(sender: &Self::Sender, message: M) -> Result<(), M>;
    fn pop(receiver: &mut Self::Receiver) -> Option<M>;
}

/// A lane, raw: the receiver is not `Clone`, so there is one.
struct Raw<L>(PhantomData<L>);

impl<M: Message, L: Lane<M, StdAtomics> + Default + Send + Sync> Queue<M> for Raw<L> {
    type Sender = Arc<L>;
    type Receiver = Arc<L>;

    fn new() -> (Self::Sender, Self::Receiver) {
        let lane = Arc::new(L::default());
        (lane.clone(), lane)
    }

    fn push(sender: &Self::Sender, message: M) -> Result<(), M> {
        match sender.push(message) {
            Ok(_) => Ok(()),
            Err(closed) => Err(closed.0),
        }
    }

    fn pop(receiver: &mut Self::Receiver) -> Option<M> {
        // SAFETY: only `new` makes a receiver, one for each lane, and nothing here clones it; the
        // exclusive reference orders its calls.
        unsafe { Lane::pop_ready(&**receiver) }
    }
}

/// [`Ring`], raw.
struct RawRing;

impl<M: Message> Queue<M> for RawRing {
    type Sender = Arc<Ring<M>>;
    type Receiver = Arc<Ring<M>>;

    fn new() -> (Self::Sender, Self::Receiver) {
        let ring = Arc::new(Ring::new(CAPACITY));
        (ring.clone(), ring)
    }

    fn push(sender: &Self::Sender, message: M) -> Result<(), M> {
        match sender.push(message) {
            Ok(_) => Ok(()),
            Err(Refused::Full(back) | Refused::Closed(back)) => Err(back),
        }
    }

    fn pop(receiver: &mut Self::Receiver) -> Option<M> {
        // SAFETY: only `new` makes a receiver, one for each ring, and nothing here clones it.
        unsafe { receiver.pop_ready() }
    }
}

/// A mailbox with the default lane, or bounded with the policy `Fail`.
struct Mailbox<const BOUNDED: bool>;

impl<M: Message, const BOUNDED: bool> Queue<M> for Mailbox<BOUNDED> {
    type Sender = Channel<M>;
    type Receiver = Inbox<M>;

    fn new() -> (Self::Sender, Self::Receiver) {
        channel(match BOUNDED {
            true => MailboxOptions::bounded(CAPACITY, Policy::Fail).expect("the capacity is legal"),
            false => MailboxOptions::unbounded(),
        })
    }

    fn push(sender: &Self::Sender, message: M) -> Result<(), M> {
        match sender.send(message) {
            Ok(_) => Ok(()),
            Err(SendError::Full(back) | SendError::Closed(back) | SendError::Timeout(back)) => {
                Err(back)
            }
        }
    }

    fn pop(receiver: &mut Self::Receiver) -> Option<M> {
        match receiver.try_receive() {
            Received::Some(message) => Some(message),
            Received::Empty | Received::Closed => None,
        }
    }
}

struct Seg;

impl<M: Message> Queue<M> for Seg {
    type Sender = Arc<SegQueue<M>>;
    type Receiver = Arc<SegQueue<M>>;

    fn new() -> (Self::Sender, Self::Receiver) {
        let queue = Arc::new(SegQueue::new());
        (queue.clone(), queue)
    }

    fn push(sender: &Self::Sender, message: M) -> Result<(), M> {
        sender.push(message);
        Ok(())
    }

    fn pop(receiver: &mut Self::Receiver) -> Option<M> {
        receiver.pop()
    }
}

struct Array;

impl<M: Message> Queue<M> for Array {
    type Sender = Arc<ArrayQueue<M>>;
    type Receiver = Arc<ArrayQueue<M>>;

    fn new() -> (Self::Sender, Self::Receiver) {
        let queue = Arc::new(ArrayQueue::new(CAPACITY as usize));
        (queue.clone(), queue)
    }

    fn push(sender: &Self::Sender, message: M) -> Result<(), M> {
        sender.push(message)
    }

    fn pop(receiver: &mut Self::Receiver) -> Option<M> {
        receiver.pop()
    }
}

struct Concurrent<const BOUNDED: bool>;

impl<M: Message, const BOUNDED: bool> Queue<M> for Concurrent<BOUNDED> {
    type Sender = Arc<ConcurrentQueue<M>>;
    type Receiver = Arc<ConcurrentQueue<M>>;

    fn new() -> (Self::Sender, Self::Receiver) {
        let queue = Arc::new(match BOUNDED {
            true => ConcurrentQueue::bounded(CAPACITY as usize),
            false => ConcurrentQueue::unbounded(),
        });
        (queue.clone(), queue)
    }

    fn push(sender: &Self::Sender, message: M) -> Result<(), M> {
        sender.push(message).map_err(|refused| refused.into_inner())
    }

    fn pop(receiver: &mut Self::Receiver) -> Option<M> {
        receiver.pop().ok()
    }
}

struct Tokio;

impl<M: Message> Queue<M> for Tokio {
    type Sender = tokio::sync::mpsc::UnboundedSender<M>;
    type Receiver = tokio::sync::mpsc::UnboundedReceiver<M>;

    fn new() -> (Self::Sender, Self::Receiver) {
        tokio::sync::mpsc::unbounded_channel()
    }

    fn push(sender: &Self::Sender, message: M) -> Result<(), M> {
        sender.send(message).map_err(|refused| refused.0)
    }

    fn pop(receiver: &mut Self::Receiver) -> Option<M> {
        receiver.try_recv().ok()
    }
}

struct Flume;

impl<M: Message> Queue<M> for Flume {
    type Sender = flume::Sender<M>;
    type Receiver = flume::Receiver<M>;

    fn new() -> (Self::Sender, Self::Receiver) {
        flume::unbounded()
    }

    fn push(sender: &Self::Sender, message: M) -> Result<(), M> {
        sender.send(message).map_err(|refused| refused.0)
    }

    fn pop(receiver: &mut Self::Receiver) -> Option<M> {
        receiver.try_recv().ok()
    }
}

struct Kanal;

impl<M: Message> Queue<M> for Kanal {
    type Sender = kanal::Sender<M>;
    type Receiver = kanal::Receiver<M>;

    fn new() -> (Self::Sender, Self::Receiver) {
        kanal::unbounded()
    }

    fn push(sender: &Self::Sender, message: M) -> Result<(), M> {
        sender.send(message).map_err(|_| message)
    }

    fn pop(receiver: &mut Self::Receiver) -> Option<M> {
        receiver.try_recv().ok().flatten()
    }
}

struct StdMpsc;

impl<M: Message> Queue<M> for StdMpsc {
    type Sender = std_mpsc::Sender<M>;
    type Receiver = std_mpsc::Receiver<M>;

    fn new() -> (Self::Sender, Self::Receiver) {
        std_mpsc::channel()
    }

    fn push(sender: &Self::Sender, message: M) -> Result<(), M> {
        sender.send(message).map_err(|refused| refused.0)
    }

    fn pop(receiver: &mut Self::Receiver) -> Option<M> {
        receiver.try_recv().ok()
    }
}

/// Sends [`MESSAGES`] from `senders` threads to this one; the time from the common start to the
/// last message received.
fn across<M: Message, Q: Queue<M>>(senders: u64) -> Duration {
    let (sender, mut receiver) = Q::new();
    let each = MESSAGES / senders;
    let barrier = Barrier::new(usize::try_from(senders).map_or(1, |senders| senders + 1));
    thread::scope(|scope| {
        for _ in 0..senders {
            let (sender, barrier) = (sender.clone(), &barrier);
            scope.spawn(move || {
                barrier.wait();
                for number in 0..each {
                    let backoff = Backoff::new();
                    let mut message = M::of(number);
                    while let Err(back) = Q::push(&sender, message) {
                        message = back;
                        backoff.snooze();
                    }
                }
            });
        }
        barrier.wait();
        let start = Instant::now();
        let mut left = each * senders;
        while left > 0 {
            match Q::pop(&mut receiver) {
                Some(message) => {
                    black_box(message);
                    left -= 1;
                }
                None => thread::yield_now(),
            }
        }
        start.elapsed()
    })
}

/// Pushes and pops [`ALONE`] messages in this thread, `burst` at a time.
fn alone<M: Message, Q: Queue<M>>(burst: u64) {
    let (sender, mut receiver) = Q::new();
    for _ in 0..ALONE / burst {
        for number in 0..burst {
            assert!(Q::push(&sender, M::of(number)).is_ok(), "it is not full");
        }
        for _ in 0..burst {
            black_box(Q::pop(&mut receiver).expect("it was pushed by this thread"));
        }
    }
}

fn mpsc<M: Message>(results: &mut Results, payload: &str) {
    for senders in [1, 2, 4] {
        let name = format!("mailbox/mpsc/{senders}p1c/{payload}");
        Case::new(&name, MESSAGES, Unit::PerSecond)
            .timed("linked", || across::<M, Raw<Linked<M>>>(senders))
            .timed("stack", || across::<M, Raw<Stack<M>>>(senders))
            .timed("segmented", || across::<M, Raw<Segmented<M>>>(senders))
            .timed("mailbox", || across::<M, Mailbox<false>>(senders))
            .timed("segqueue", || across::<M, Seg>(senders))
            .timed("concurrent-queue", || across::<M, Concurrent<false>>(senders))
            .timed("tokio", || across::<M, Tokio>(senders))
            .timed("flume", || across::<M, Flume>(senders))
            .timed("kanal", || across::<M, Kanal>(senders))
            .timed("std", || across::<M, StdMpsc>(senders))
            .measure(rounds(15), results);
    }
}

fn uncontended(results: &mut Results) {
    for burst in [1, 64] {
        let name = format!("mailbox/uncontended/{burst}");
        Case::new(&name, ALONE, Unit::NanosecondsEach)
            .whole("linked", || alone::<u64, Raw<Linked<u64>>>(burst))
            .whole("stack", || alone::<u64, Raw<Stack<u64>>>(burst))
            .whole("segmented", || alone::<u64, Raw<Segmented<u64>>>(burst))
            .whole("mailbox", || alone::<u64, Mailbox<false>>(burst))
            .whole("segqueue", || alone::<u64, Seg>(burst))
            .whole("concurrent-queue", || alone::<u64, Concurrent<false>>(burst))
            .whole("tokio", || alone::<u64, Tokio>(burst))
            .whole("flume", || alone::<u64, Flume>(burst))
            .whole("kanal", || alone::<u64, Kanal>(burst))
            .whole("std", || alone::<u64, StdMpsc>(burst))
            .measure(rounds(15), results);
    }
}

fn bounded(results: &mut Results) {
    Case::new("mailbox/bounded/spin", MESSAGES, Unit::PerSecond)
        .timed("ring", || across::<u64, RawRing>(1))
        .timed("mailbox", || across::<u64, Mailbox<true>>(1))
        .timed("arrayqueue", || across::<u64, Array>(1))
        .timed("concurrent-queue", || across::<u64, Concurrent<true>>(1))
        .measure(rounds(15), results);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("threads can be had");
    Case::new("mailbox/bounded/block", MESSAGES, Unit::PerSecond)
        .whole("mailbox", || runtime.block_on(block_ours()))
        .whole("tokio", || runtime.block_on(block_tokio()))
        .whole("flume", || runtime.block_on(block_flume()))
        .whole("kanal", || runtime.block_on(block_kanal()))
        .measure(rounds(15), results);
}

async fn block_ours() {
    let bounded = MailboxOptions::bounded(CAPACITY, Policy::Block).expect("the capacity is legal");
    let (sender, mut receiver) = channel::<u64>(bounded);
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            sender.send_wait(number).await.expect("the receiver lives");
        }
    });
    let receiving = tokio::spawn(async move { while receiver.receive().await.is_some() {} });
    sending.await.expect("no panic");
    receiving.await.expect("no panic");
}

async fn block_tokio() {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<u64>(CAPACITY as usize);
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            sender.send(number).await.expect("the receiver lives");
        }
    });
    let receiving = tokio::spawn(async move { while receiver.recv().await.is_some() {} });
    sending.await.expect("no panic");
    receiving.await.expect("no panic");
}

async fn block_flume() {
    let (sender, receiver) = flume::bounded::<u64>(CAPACITY as usize);
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            sender.send_async(number).await.expect("the receiver lives");
        }
    });
    let receiving = tokio::spawn(async move { while receiver.recv_async().await.is_ok() {} });
    sending.await.expect("no panic");
    receiving.await.expect("no panic");
}

async fn block_kanal() {
    let (sender, receiver) = kanal::bounded_async::<u64>(CAPACITY as usize);
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            sender.send(number).await.expect("the receiver lives");
        }
    });
    let receiving = tokio::spawn(async move { while receiver.recv().await.is_ok() {} });
    sending.await.expect("no panic");
    receiving.await.expect("no panic");
}

fn main() {
    let mut results = Results::default();
    mpsc::<u64>(&mut results, "u64");
    mpsc::<[u64; 8]>(&mut results, "bytes64");
    uncontended(&mut results);
    bounded(&mut results);
    results.save("mailbox").expect("target/bars can be written");
}
