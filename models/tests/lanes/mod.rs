//! What is asked of every lane, generic over the lane and the checker.
//!
//! The receiver tries as often as a sender sends while the senders run, then joins them and drains:
//! that meets every state a pop can meet, and no execution is longer than it must be.

#![allow(dead_code)] // Each test file takes what its lane needs.

use std::future::poll_fn;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::task::{Context, Poll};

use models::{Calm, Checker};
use sync::atomics::{AtomicCount, AtomicOf, RaceCell};
use sync::waker::WakerSlot;
use sync::{Atomics, Closed, Lane, Pop, Pushed};

/// A message that says whose it is, and which; a checker notices if it is not dropped.
pub(crate) struct Letter<C: Atomics> {
    sender: usize,
    number: u32,
    _mark: C::LeakMark,
}

/// A letter with its mark.
pub(crate) fn letter<C: Atomics>(sender: usize, number: u32) -> Letter<C> {
    Letter { sender, number, _mark: C::LeakMark::default() }
}

/// Senders side by side, then everything is received: nothing lost, nothing twice, FIFO for each
/// sender (G400).
pub(crate) fn order<C, L>(senders: usize, messages: u32)
where
    C: Checker,
    L: Lane<Letter<C>, C> + Default + 'static,
{
    let lane = Calm::new(C::Arc::<L>::from(L::default()));
    let mut joins = Vec::new();
    for sender in 0..senders {
        let lane = lane.clone();
        joins.push(C::spawn(move || {
            for number in 0..messages {
                assert!(lane.push(letter(sender, number)).is_ok());
            }
        }));
    }

    let mut next = vec![0; senders];
    let mut receive = |letter: Letter<C>| {
        assert_eq!(letter.number, next[letter.sender], "per-sender FIFO");
        next[letter.sender] += 1;
    };
    for _ in 0..messages {
        // SAFETY: this thread is the only receiver, here and below.
        if let Pop::Some(letter) = unsafe { lane.pop() } {
            receive(letter);
        }
    }
    for join in joins {
        join();
    }
    loop {
        // SAFETY: as above.
        match unsafe { lane.pop() } {
            Pop::Some(letter) => receive(letter),
            Pop::Empty => break,
            Pop::InFlight => panic!("in flight, and every push has returned"),
            Pop::Closed => panic!("nobody closed the lane"),
        }
    }
    assert!(next.iter().all(|&count| count == messages), "nothing is lost: {next:?}");
}

/// How a receiver goes to sleep. All but the first are wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleeper {
    /// Registers, looks once more, parks (G72).
    Careful,
    /// Looks, registers, sleeps.
    NoSecondLook,
    /// Sleeps when a message is in flight (G63).
    SleepsInFlight,
    /// Parks first, and registers when nobody will say `wake` any more.
    RegistersLast,
}

/// A receiver that sleeps gets every message: no wakeup is lost (G402).
pub(crate) fn wakes<C, L>(senders: usize, messages: u32)
where
    C: Checker,
    L: Lane<Letter<C>, C> + Default + 'static,
{
    wakes_as::<C, L>(Sleeper::Careful, senders, messages);
}

/// [`wakes`], with a receiver that may be wrong.
pub(crate) fn wakes_as<C, L>(sleeper: Sleeper, senders: usize, messages: u32)
where
    C: Checker,
    L: Lane<Letter<C>, C> + Default + 'static,
{
    let shared = Calm::new(C::Arc::from((L::default(), WakerSlot::<C>::new())));
    let mut joins = Vec::new();
    for sender in 0..senders {
        let shared = shared.clone();
        joins.push(C::spawn(move || {
            for number in 0..messages {
                let Ok(pushed) = shared.0.push(letter(sender, number)) else {
                    panic!("nobody closed the lane")
                };
                if pushed.wake {
                    shared.1.wake();
                }
            }
        }));
    }
    for _ in 0..senders * messages as usize {
        // SAFETY: this thread is the only receiver.
        C::block_on(poll_fn(|cx| unsafe { receive::<C, L>(sleeper, &shared.0, &shared.1, cx) }));
    }
    for join in joins {
        join();
    }
}

/// One poll of a receiver.
///
/// # Safety
///
/// The caller is the only receiver.
unsafe fn receive<C, L>(
    sleeper: Sleeper,
    lane: &L,
    slot: &WakerSlot<C>,
    cx: &Context<'_>,
) -> Poll<()>
where
    C: Checker,
    L: Lane<Letter<C>, C>,
{
    let mut registered = false;
    loop {
        // SAFETY: the caller is the only receiver, here and below.
        match unsafe { lane.pop() } {
            Pop::Some(_) => return Poll::Ready(()),
            Pop::InFlight if sleeper == Sleeper::SleepsInFlight => return Poll::Pending,
            Pop::InFlight => {
                cx.waker().wake_by_ref();
                C::yield_now();
                return Poll::Pending;
            }
            Pop::Closed => panic!("nobody closed the lane"),
            Pop::Empty => {}
        }
        // SAFETY: as above.
        unsafe {
            if sleeper == Sleeper::RegistersLast {
                if lane.park() {
                    slot.register(cx.waker());
                    return Poll::Pending;
                }
            } else if !registered {
                slot.register(cx.waker());
                registered = true;
                if sleeper == Sleeper::NoSecondLook {
                    return Poll::Pending;
                }
            } else if lane.park() {
                return Poll::Pending;
            }
        }
    }
}

/// Pushes against a close: each is refused, or popped before `Closed` is (G403, G111).
pub(crate) fn closes<C, L>(senders: usize)
where
    C: Checker,
    L: Lane<Letter<C>, C> + Default + 'static,
{
    let shared = Calm::new(C::Arc::from((L::default(), C::U32::new(0))));
    let mut joins = Vec::new();
    for sender in 0..senders {
        let shared = shared.clone();
        joins.push(C::spawn(move || match shared.0.push(letter(sender, 0)) {
            Ok(_) => {
                shared.1.fetch_add(1, Relaxed);
            }
            Err(Closed(letter)) => assert_eq!(letter.sender, sender),
        }));
    }
    // SAFETY: this thread is the only receiver, here and below.
    unsafe { shared.0.close() };
    let mut popped = 0;
    loop {
        // SAFETY: as above.
        match unsafe { shared.0.pop() } {
            Pop::Some(_) => popped += 1,
            Pop::InFlight => C::spin_hint(),
            Pop::Closed => break,
            Pop::Empty => panic!("a closed lane is never just empty"),
        }
    }
    for join in joins {
        join();
    }
    assert_eq!(shared.1.load(Relaxed), popped, "what was accepted came out before Closed");
    // SAFETY: as above.
    let last = unsafe { shared.0.pop() };
    assert!(matches!(last, Pop::Closed), "closed for ever");
}

/// A sender against a receiver that takes one message and goes: whoever is last frees all (G404).
pub(crate) fn drops<C, L>(messages: u32)
where
    C: Checker,
    L: Lane<Letter<C>, C> + Default + 'static,
{
    let lane = Calm::new(C::Arc::<L>::from(L::default()));
    let sender = lane.clone();
    let join = C::spawn(move || {
        for number in 0..messages {
            assert!(sender.push(letter(0, number)).is_ok());
        }
    });
    // SAFETY: this thread is the only receiver.
    drop(unsafe { lane.pop() });
    drop(lane);
    join();
}

/// A lane that closes by a flag which senders read before their exchange. Wrong for an exact
/// close: a push can be accepted after `Closed` was popped.
pub(crate) struct FlagClosed<L, C: Atomics> {
    lane: L,
    closed: C::Bool,
}

impl<L: Default, C: Atomics> Default for FlagClosed<L, C> {
    fn default() -> Self {
        Self { lane: L::default(), closed: C::Bool::new(false) }
    }
}

impl<M, C: Atomics, L: Lane<M, C>> Lane<M, C> for FlagClosed<L, C> {
    fn push(&self, message: M) -> Result<Pushed, Closed<M>> {
        if self.closed.load(Acquire) {
            return Err(Closed(message));
        }
        self.lane.push(message)
    }

    unsafe fn pop(&self) -> Pop<M> {
        // SAFETY: the caller is the receiver, here and below.
        match unsafe { self.lane.pop() } {
            Pop::Empty if self.closed.load(Acquire) => Pop::Closed,
            popped @ (Pop::Some(_) | Pop::Empty | Pop::InFlight | Pop::Closed) => popped,
        }
    }

    unsafe fn park(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.lane.park() }
    }

    unsafe fn close(&self) {
        self.closed.store(true, Release);
    }
}

/// A lane that is never freed.
pub(crate) struct Leaky<L>(ManuallyDrop<L>);

impl<L: Default> Default for Leaky<L> {
    fn default() -> Self {
        Self(ManuallyDrop::new(L::default()))
    }
}

impl<M, C: Atomics, L: Lane<M, C>> Lane<M, C> for Leaky<L> {
    fn push(&self, message: M) -> Result<Pushed, Closed<M>> {
        self.0.push(message)
    }

    unsafe fn pop(&self) -> Pop<M> {
        // SAFETY: the caller is the receiver, here and below.
        unsafe { self.0.pop() }
    }

    unsafe fn park(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.0.park() }
    }

    unsafe fn close(&self) {
        // SAFETY: as above.
        unsafe { self.0.close() }
    }
}

/// A lane that takes all that is there and gives it out newest first.
pub(crate) struct Unreversed<L, M, C: Atomics> {
    lane: L,
    taken: C::Cell<Vec<M>>,
}

impl<L: Default, M, C: Atomics> Default for Unreversed<L, M, C> {
    fn default() -> Self {
        Self { lane: L::default(), taken: C::Cell::new(Vec::new()) }
    }
}

impl<M, C: Atomics, L: Lane<M, C>> Lane<M, C> for Unreversed<L, M, C> {
    fn push(&self, message: M) -> Result<Pushed, Closed<M>> {
        self.lane.push(message)
    }

    unsafe fn pop(&self) -> Pop<M> {
        // SAFETY: the caller is the receiver, here and below.
        self.taken.with_mut(|taken| unsafe {
            loop {
                match self.lane.pop() {
                    Pop::Some(message) => (*taken).push(message),
                    other @ (Pop::Empty | Pop::InFlight | Pop::Closed) => {
                        return (*taken).pop().map_or(other, Pop::Some);
                    }
                }
            }
        })
    }

    unsafe fn park(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.lane.park() }
    }

    unsafe fn close(&self) {
        // SAFETY: as above.
        unsafe { self.lane.close() }
    }
}
