//! The mailbox: many senders, one receiver, a system lane before a user lane.
//!
//! # State
//!
//! The system lane is lane (b). The user lane is one of the three unbounded designs, or a ring
//! with credit. Beside them: whom to wake, the number of `Channel`s, and counters.
//!
//! ```text
//!   Channel ─ send_system ─► system lane (b) ────────────┐
//!   Channel ─ send ───────► user lane (a), (b), (c), ring ┼─► Inbox ─► message
//!       ▲                        │ credit                 │
//!       └─────── waits ◄─────────┘          parked: wake ─┘
//! ```
//!
//! # Invariants
//!
//! 1. There is one `Inbox`, it is not `Clone`, and its methods take `&mut self`; only it calls
//!    what only the receiver may call on the lanes, the waker slot and the credit.
//! 2. Both lanes are closed together, by the `Inbox`: when asked, when dropped, or when it finds
//!    that no `Channel` is left.
//! 3. Before the receiver sleeps it has registered, found every lane empty once more, and parked
//!    every lane (G72). So a push whose message it missed found a lane parked, and wakes it.
//!
//! # Orderings
//!
//! | edge | release | acquire | makes visible |
//! |---|---|---|---|
//! | E1 | the last `Channel` counts down | the receiver loads the count | all that was ever sent |
//!
//! The lanes, the waker slot and the credit have their own. That the receiver's second look, after
//! registering, does not miss what a wake was about, is E3 of the waker slot.
//!
//! Checked by `models/tests/mailbox.rs`, which also checks that losing a step is noticed.
//!
//! # Known limits
//!
//! A close of lane (a) is eventual (G113): a push that read its flag too early is accepted after
//! it, and dropped with the last `Channel`.

use std::fmt;
use std::future::{Future, poll_fn};
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::task::{Context, Poll, Waker};

use crate::atomics::{AtomicCount, AtomicOf, Atomics, StdAtomics};
use crate::credit::{Credit, Granted, Wait};
use crate::lane::{Closed, Dropper, Lane, Pop, Pushed};
use crate::linked::Linked;
use crate::ring::{CAPACITY_MAX, Refused, Ring};
use crate::segmented::Segmented;
use crate::stack::Stack;
use crate::waker::WakerSlot;

/// After so many system messages and timers in a row a user message is taken (G80).
const STREAK_MAX: u32 = 32;

/// How often `DropOld` tries before it drops its own message (G93).
const EVICT_TRIES: u32 = 64;

/// What a mailbox does when it is full (G85 to G88).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Senders wait for credit: [`Channel::send_wait`]. [`Channel::send`] does not wait and gives
    /// [`SendError::Full`].
    Block,
    /// The new message is dropped.
    DropNew,
    /// The oldest messages are dropped until the new one fits.
    DropOld,
    /// The sender gets its message back.
    Fail,
}

/// The designs of an unbounded user lane (5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaneKind {
    /// Lane (a): large messages, one allocation each, wait-free sending.
    Linked,
    /// Lane (b): light traffic, exact close.
    Stack,
    /// Lane (c): throughput.
    #[default]
    Segmented,
}

/// How a mailbox is made. Everything is chosen at creation (G90).
#[derive(Clone, Copy, Debug)]
pub struct MailboxOptions {
    user: UserLane,
    measured: bool,
    evict_tries: u32,
}

/// The shape of the user lane.
#[derive(Clone, Copy, Debug)]
enum UserLane {
    Unbounded(LaneKind),
    Bounded(u32, Policy),
}

/// An option that means nothing (G360). Nothing was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadOption {
    /// The capacity is 0 or above [`CAPACITY_MAX`].
    Capacity(u32),
}

/// What became of a message that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the mailbox.
    Delivered,
    /// The mailbox was full: it was dropped (`DropNew`, or `DropOld` that found no way in).
    Dropped,
    /// It is in the mailbox, and so many older ones were dropped for it.
    Evicted(u32),
}

/// Why a message was not taken. It comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError<T> {
    /// The mailbox is full, or others wait already. Routine.
    Full(T),
    /// The receiver takes no more, for ever.
    Closed(T),
    /// No credit came before the deadline. Routine.
    Timeout(T),
}

/// What [`Inbox::try_receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// The next message.
    Some(T),
    /// Nothing that can be read now.
    Empty,
    /// Closed, and everything that was accepted has been received.
    Closed,
}

/// What [`Inbox::receive_until`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until<T> {
    /// A message; it wins over a deadline that has passed.
    Message(T),
    /// The deadline passed first.
    Deadline,
    /// Closed, and everything that was accepted has been received.
    Closed,
}

/// What a mailbox has counted so far (G95). Approximate while operations are in progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// New messages dropped by `DropNew` or `DropOld`.
    pub dropped: u64,
    /// Old messages dropped by `DropOld`.
    pub evicted: u64,
    /// Messages handed back as [`SendError::Full`].
    pub refused: u64,
}

/// The sending end.
pub struct Channel<T, A: Atomics = StdAtomics> {
    mailbox: A::Arc<Mailbox<T, A>>,
}

/// The receiving end. Dropping it closes the mailbox and drops what is inside.
pub struct Inbox<T, A: Atomics = StdAtomics> {
    mailbox: A::Arc<Mailbox<T, A>>,
    /// System messages and timers since the last user message.
    streak: u32,
    /// Whether the lanes were closed.
    closed: bool,
}

/// A send that waits for credit. Dropping it before it is ready sends nothing.
#[must_use = "a send does nothing until it is polled"]
pub struct SendWait<'a, T, A: Atomics = StdAtomics> {
    channel: &'a Channel<T, A>,
    message: Option<T>,
    wait: Wait<A>,
}

/// What the two ends share.
struct Mailbox<T, A: Atomics> {
    user: User<T, A>,
    system: Stack<T, A>,
    target: Target<A>,
    senders: A::Usize,
    evict_tries: u32,
    /// Messages sent and received, kept only when asked for (G96).
    measured: Option<(A::U64, A::U64)>,
    dropped: A::U64,
    evicted: A::U64,
    refused: A::U64,
}

/// The user lane.
enum User<T, A: Atomics> {
    Segmented(Segmented<T, A>),
    Linked(Linked<T, A>),
    Stack(Stack<T, A>),
    Ring(Ring<T, A>, Policy, Credit<A>),
}

/// How closely the receiver looks when nothing can be read now.
#[derive(Clone, Copy)]
enum Look {
    /// Not at all: it will look again. `InFlight` then says "nothing yet".
    Ready,
    /// Closely enough to park: Empty, InFlight and Closed are told apart.
    Exact,
}

/// Whom to wake.
enum Target<A: Atomics> {
    /// Whoever polls.
    Slot(WakerSlot<A>),
    /// The routine that owns the inbox (G71).
    Fixed(Waker),
}

// SAFETY: a channel has a share of a mailbox, which is `Send + Sync` when `T` is `Send`.
unsafe impl<T: Send, A: Atomics> Send for Channel<T, A> {}
// SAFETY: `&Channel` gives `&Mailbox`, whose sending side any thread may use.
unsafe impl<T: Send, A: Atomics> Sync for Channel<T, A> {}
// SAFETY: an inbox has a share of a mailbox; the receiving side moves with it (invariant 1).
unsafe impl<T: Send, A: Atomics> Send for Inbox<T, A> {}

impl MailboxOptions {
    /// An unbounded user lane of the default design.
    pub fn unbounded() -> Self {
        Self::with(UserLane::Unbounded(LaneKind::default()))
    }

    /// A bounded user lane of exactly `capacity` messages.
    ///
    /// # Errors
    ///
    /// [`BadOption::Capacity`] if it is 0 or above [`CAPACITY_MAX`].
    pub fn bounded(capacity: u32, policy: Policy) -> Result<Self, BadOption> {
        if capacity == 0 || capacity > CAPACITY_MAX {
            return Err(BadOption::Capacity(capacity));
        }
        Ok(Self::with(UserLane::Bounded(capacity, policy)))
    }

    fn with(user: UserLane) -> Self {
        Self { user, measured: false, evict_tries: EVICT_TRIES }
    }

    /// An unbounded user lane of this design.
    pub fn lane(kind: LaneKind) -> Self {
        Self::with(UserLane::Unbounded(kind))
    }

    /// Keeps a count of the messages inside, which costs two additions a message (G96).
    #[must_use]
    pub fn measured(mut self) -> Self {
        self.measured = true;
        self
    }

    /// Changes how often `DropOld` tries before it drops its own message. Models use 2.
    #[must_use]
    pub fn evict_tries(mut self, tries: u32) -> Self {
        self.evict_tries = tries;
        self
    }
}

/// Creates a mailbox and returns its two ends.
pub fn channel<T: Send>(options: MailboxOptions) -> (Channel<T>, Inbox<T>) {
    channel_in(options)
}

/// [`channel`], for a receiver with a fixed wake target (G71): its polls register nothing.
pub fn channel_waking<T: Send>(options: MailboxOptions, waker: Waker) -> (Channel<T>, Inbox<T>) {
    channel_waking_in(options, waker)
}

/// [`channel`], in a chosen family of shared memory. Only models name the family.
pub fn channel_in<T, A: Atomics>(options: MailboxOptions) -> (Channel<T, A>, Inbox<T, A>) {
    Mailbox::ends(options, Target::Slot(WakerSlot::new()))
}

/// [`channel_waking`], in a chosen family of shared memory. Only models name the family.
pub fn channel_waking_in<T, A: Atomics>(
    options: MailboxOptions,
    waker: Waker,
) -> (Channel<T, A>, Inbox<T, A>) {
    Mailbox::ends(options, Target::Fixed(waker))
}

impl<T, A: Atomics> Channel<T, A> {
    /// Sends a message. Never waits.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Closed`] carry the message back.
    #[inline]
    pub fn send(&self, message: T) -> Result<Sent, SendError<T>> {
        self.send_with(message, drop)
    }

    /// [`Channel::send`], with what the policy drops going to `discard`: the new message, or the
    /// evicted ones, each once (G95).
    ///
    /// # Errors
    ///
    /// As [`Channel::send`].
    #[inline]
    pub fn send_with(&self, message: T, discard: impl FnMut(T)) -> Result<Sent, SendError<T>> {
        let mailbox = &*self.mailbox;
        let pushed = match &mailbox.user {
            User::Segmented(lane) => lane.push(message),
            User::Linked(lane) => lane.push(message),
            User::Stack(lane) => lane.push(message),
            User::Ring(ring, policy, credit) => {
                return mailbox.send_bounded(ring, *policy, credit, message, discard);
            }
        };
        match pushed {
            Ok(pushed) => Ok(mailbox.delivered(pushed)),
            Err(Closed(message)) => Err(SendError::Closed(message)),
        }
    }

    /// Sends a message, waiting for credit if the policy is [`Policy::Block`] and the mailbox is
    /// full. Cancel safe: dropped before it is ready, it has sent nothing and holds no credit.
    ///
    /// The future's error is [`SendError::Closed`], or [`SendError::Full`]: under another policy,
    /// or since the receiver has freed no slot while a thousand sends gave up. Each of those is
    /// remembered until a slot is free, so their number has a bound.
    pub fn send_wait(&self, message: T) -> SendWait<'_, T, A> {
        SendWait { channel: self, message: Some(message), wait: Wait::new() }
    }

    /// [`Channel::send_wait`] until `deadline` completes (G85).
    ///
    /// # Errors
    ///
    /// [`SendError::Timeout`] carries the message back, as do the others.
    pub async fn send_until(
        &self,
        message: T,
        deadline: impl Future<Output = ()>,
    ) -> Result<Sent, SendError<T>> {
        let mut deadline = pin!(deadline);
        let mut send = self.send_wait(message);
        poll_fn(|cx| {
            if let Poll::Ready(sent) = Pin::new(&mut send).poll(cx) {
                return Poll::Ready(sent);
            }
            deadline.as_mut().poll(cx).map(|()| {
                let message = send.message.take();
                Err(SendError::Timeout(message.expect("a pending send has its message")))
            })
        })
        .await
    }

    /// Sends a message through the system lane: unbounded, and received before user messages.
    ///
    /// # Errors
    ///
    /// [`Closed`] carries the message back.
    pub fn send_system(&self, message: T) -> Result<(), Closed<T>> {
        let pushed = self.mailbox.system.push(message)?;
        if pushed.wake {
            self.mailbox.wake();
        }
        Ok(())
    }

    /// How many messages are in the user lane; `None` if it is unbounded and not `measured`.
    pub fn len(&self) -> Option<u64> {
        self.mailbox.len()
    }

    /// Whether [`Channel::len`] is 0, where it is known.
    pub fn is_empty(&self) -> Option<bool> {
        self.len().map(|len| len == 0)
    }

    /// What was dropped, evicted and refused so far.
    pub fn discarded(&self) -> Discarded {
        self.mailbox.discarded()
    }

    /// Whether two channels lead to the same mailbox.
    pub fn same(&self, other: &Self) -> bool {
        std::ptr::eq::<Mailbox<T, A>>(&*self.mailbox, &*other.mailbox)
    }
}

impl<T, A: Atomics> Clone for Channel<T, A> {
    fn clone(&self) -> Self {
        // Relaxed: the count cannot reach 0 while we have a channel.
        self.mailbox.senders.fetch_add(1, Relaxed);
        Self { mailbox: self.mailbox.clone() }
    }
}

impl<T, A: Atomics> Drop for Channel<T, A> {
    fn drop(&mut self) {
        // E1: all that was sent through this channel, and through those dropped before.
        if self.mailbox.senders.fetch_sub(1, AcqRel) == 1 {
            self.mailbox.wake();
        }
    }
}

impl<T, A: Atomics> SendWait<'_, T, A> {
    /// Sends the message with a credit in hand, or under a policy that needs none.
    fn finish(&mut self, granted: Granted) -> Result<Sent, SendError<T>> {
        let message = self.message.take().expect("a send is not polled after it was ready");
        let mailbox = &*self.channel.mailbox;
        match (granted, &mailbox.user) {
            (Granted::Closed, _) => Err(SendError::Closed(message)),
            (Granted::Full, _) => Err(mailbox.without_credit(message)),
            (Granted::Yes, User::Ring(ring, Policy::Block, _)) => {
                mailbox.push_granted(ring, message)
            }
            (Granted::Yes, _) => self.channel.send(message),
        }
    }
}

impl<T, A: Atomics> Future for SendWait<'_, T, A> {
    type Output = Result<Sent, SendError<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mailbox = &*self.channel.mailbox;
        let granted = match &mailbox.user {
            User::Ring(_, Policy::Block, credit) => {
                match self.wait.poll(credit, cx, || mailbox.wake()) {
                    Poll::Ready(granted) => granted,
                    Poll::Pending => return Poll::Pending,
                }
            }
            User::Ring(..) | User::Segmented(_) | User::Linked(_) | User::Stack(_) => Granted::Yes,
        };
        Poll::Ready(self.finish(granted))
    }
}

impl<T, A: Atomics> Unpin for SendWait<'_, T, A> {}

impl<T, A: Atomics> Drop for SendWait<'_, T, A> {
    fn drop(&mut self) {
        let mailbox = &*self.channel.mailbox;
        if let User::Ring(_, _, credit) = &mailbox.user
            && self.wait.cancel(credit)
        {
            mailbox.wake();
        }
    }
}

impl<T, A: Atomics> Inbox<T, A> {
    /// Waits for the next message; `None` when closed and drained. Cancel safe.
    pub async fn receive(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    /// Takes the next message if there is one that can be read now.
    #[inline]
    pub fn try_receive(&mut self) -> Received<T> {
        self.try_receive_with(|| None)
    }

    /// [`Inbox::try_receive`], with due timers between the lanes: system, `timer`, user (G80).
    #[inline]
    pub fn try_receive_with(&mut self, timer: impl FnMut() -> Option<T>) -> Received<T> {
        match self.take(Look::Ready, timer) {
            Pop::Some(message) => Received::Some(message),
            Pop::Empty | Pop::InFlight => Received::Empty,
            Pop::Closed => Received::Closed,
        }
    }

    /// Waits for a first message, then appends up to `max` that are there to `into`; returns how
    /// many, and 0 when closed and drained. Cancel safe.
    pub async fn receive_batch(&mut self, into: &mut Vec<T>, max: NonZeroU32) -> u32 {
        let Some(first) = self.receive().await else {
            return 0;
        };
        into.push(first);
        let mut count = 1;
        while count < max.get() {
            let Received::Some(message) = self.try_receive() else {
                break;
            };
            into.push(message);
            count += 1;
        }
        count
    }

    /// Waits for the next message until `deadline` completes. Cancel safe.
    pub async fn receive_until(&mut self, deadline: impl Future<Output = ()>) -> Until<T> {
        let mut deadline = pin!(deadline);
        poll_fn(|cx| match self.poll_receive(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(Until::Message(message)),
            Poll::Ready(None) => Poll::Ready(Until::Closed),
            Poll::Pending => deadline.as_mut().poll(cx).map(|()| Until::Deadline),
        })
        .await
    }

    /// Polls for the next message: what [`Inbox::receive`] does.
    #[inline]
    pub fn poll_receive(&mut self, cx: &Context<'_>) -> Poll<Option<T>> {
        self.poll_receive_with(cx, || None)
    }

    /// [`Inbox::poll_receive`], with due timers between the lanes (G80).
    pub fn poll_receive_with(
        &mut self,
        cx: &Context<'_>,
        mut timer: impl FnMut() -> Option<T>,
    ) -> Poll<Option<T>> {
        match self.take(Look::Ready, &mut timer) {
            Pop::Some(message) => return Poll::Ready(Some(message)),
            Pop::Closed => return Poll::Ready(None),
            Pop::InFlight | Pop::Empty => self.register(cx.waker()),
        }
        loop {
            match self.take(Look::Exact, &mut timer) {
                Pop::Some(message) => return Poll::Ready(Some(message)),
                Pop::Closed => return Poll::Ready(None),
                Pop::InFlight => {
                    // Neither spin nor park: come back in another turn (G63).
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Pop::Empty => {}
            }
            if self.park() {
                return Poll::Pending;
            }
        }
    }

    /// Refuses all later messages; what was accepted can still be received (G83).
    pub fn close(&mut self) {
        self.closed = true;
        self.mailbox.close();
    }

    /// How many messages are in the user lane; `None` if it is unbounded and not `measured`.
    pub fn len(&self) -> Option<u64> {
        self.mailbox.len()
    }

    /// Whether [`Inbox::len`] is 0, where it is known.
    pub fn is_empty(&self) -> Option<bool> {
        self.len().map(|len| len == 0)
    }

    /// What was dropped, evicted and refused so far.
    pub fn discarded(&self) -> Discarded {
        self.mailbox.discarded()
    }

    /// A new sending end. The mailbox closes when the last one is dropped, so this is for the
    /// owner of one that is known to be open.
    pub fn channel(&self) -> Channel<T, A> {
        // Relaxed: only the receiver, us, acts on a count of 0.
        self.mailbox.senders.fetch_add(1, Relaxed);
        Channel { mailbox: self.mailbox.clone() }
    }

    /// The next message of either lane, in the order of service (G80).
    #[inline]
    fn take(&mut self, look: Look, mut timer: impl FnMut() -> Option<T>) -> Pop<T> {
        loop {
            let starved = self.streak >= STREAK_MAX;
            if !starved && let Some(message) = self.take_first(&mut timer) {
                return Pop::Some(message);
            }
            let user = self.mailbox.pop_user(if self.closed { Look::Exact } else { look });
            if let Pop::Some(message) = user {
                self.streak = 0;
                return Pop::Some(message);
            }
            if starved {
                self.streak = 0;
                continue;
            }
            if self.closed || !self.close_if_deserted() {
                return user;
            }
        }
    }

    /// A system message, or a due timer.
    #[inline]
    fn take_first(&mut self, timer: impl FnOnce() -> Option<T>) -> Option<T> {
        // SAFETY: we are the one receiver (invariant 1).
        let message = match unsafe { self.mailbox.system.pop() } {
            Pop::Some(message) => Some(message),
            Pop::Empty | Pop::InFlight | Pop::Closed => timer(),
        };
        if message.is_some() {
            self.streak += 1;
        }
        message
    }

    /// Does what an empty mailbox needs: hands on credits that were given back, and closes when no
    /// sender is left. True: it was closed just now, so look again.
    fn close_if_deserted(&mut self) -> bool {
        if let User::Ring(_, Policy::Block, credit) = &self.mailbox.user {
            // SAFETY: we are the one receiver (invariant 1).
            unsafe { credit.settle() };
        }
        // E1: all that was sent.
        if self.mailbox.senders.load(Acquire) != 0 {
            return false;
        }
        self.close();
        true
    }

    /// Makes `waker` the one that senders wake.
    fn register(&mut self, waker: &Waker) {
        match &self.mailbox.target {
            // SAFETY: we are the one receiver (invariant 1).
            Target::Slot(slot) => unsafe { slot.register(waker) },
            Target::Fixed(_) => {}
        }
    }

    /// Parks both lanes; false if a message came.
    fn park(&mut self) -> bool {
        let mailbox = &*self.mailbox;
        // SAFETY: we are the one receiver (invariant 1).
        unsafe {
            mailbox.system.park()
                && match &mailbox.user {
                    User::Segmented(lane) => lane.park(),
                    User::Linked(lane) => lane.park(),
                    User::Stack(lane) => lane.park(),
                    User::Ring(ring, _, _) => ring.park(),
                }
        }
    }
}

impl<T, A: Atomics> Drop for Inbox<T, A> {
    fn drop(&mut self) {
        self.close();
        let mut dropper = Dropper::default();
        while let Pop::Some(message) = self.take(Look::Exact, || None) {
            dropper.drop(message);
        }
        dropper.finish();
    }
}

impl<T, A: Atomics> Mailbox<T, A> {
    /// Wakes the receiver.
    #[cold]
    fn wake(&self) {
        match &self.target {
            Target::Slot(slot) => slot.wake(),
            Target::Fixed(waker) => waker.wake_by_ref(),
        }
    }

    /// Closes both lanes. The caller is the receiver.
    fn close(&self) {
        // SAFETY: only the `Inbox` calls this, by `&mut self` (invariant 1).
        unsafe {
            self.system.close();
            match &self.user {
                User::Segmented(lane) => lane.close(),
                User::Linked(lane) => lane.close(),
                User::Stack(lane) => lane.close(),
                User::Ring(ring, _, credit) => {
                    ring.close();
                    credit.close();
                }
            }
        }
    }

    /// What was counted so far.
    fn discarded(&self) -> Discarded {
        // Relaxed, all: counters, which order nothing.
        Discarded {
            dropped: self.dropped.load(Relaxed),
            evicted: self.evicted.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }
}

impl<T, A: Atomics> Mailbox<T, A> {
    /// Makes a mailbox and its two ends.
    fn ends(options: MailboxOptions, target: Target<A>) -> (Channel<T, A>, Inbox<T, A>) {
        let user = match options.user {
            UserLane::Unbounded(LaneKind::Segmented) => User::Segmented(Segmented::new()),
            UserLane::Unbounded(LaneKind::Linked) => User::Linked(Linked::new()),
            UserLane::Unbounded(LaneKind::Stack) => User::Stack(Stack::new()),
            UserLane::Bounded(capacity, policy) => {
                User::Ring(Ring::new(capacity), policy, Credit::new(capacity))
            }
        };
        let mailbox = A::Arc::from(Self {
            user,
            system: Stack::new(),
            target,
            senders: A::Usize::new(1),
            evict_tries: options.evict_tries,
            measured: options.measured.then(|| (A::U64::new(0), A::U64::new(0))),
            dropped: A::U64::new(0),
            evicted: A::U64::new(0),
            refused: A::U64::new(0),
        });
        (Channel { mailbox: mailbox.clone() }, Inbox { mailbox, streak: 0, closed: false })
    }

    /// Does what follows a push.
    #[inline]
    fn delivered(&self, pushed: Pushed) -> Sent {
        if let Some((sent, _)) = &self.measured {
            sent.fetch_add(1, Relaxed); // Relaxed: a counter.
        }
        if pushed.wake {
            self.wake();
        }
        Sent::Delivered
    }

    /// Takes the oldest user message. The caller is the receiver.
    #[inline]
    fn pop_user(&self, look: Look) -> Pop<T> {
        // SAFETY: only the `Inbox` calls this, by `&mut self` (invariant 1). A ring is popped by
        // others only under `DropOld`.
        let popped = unsafe {
            match (&self.user, look) {
                (User::Segmented(lane), Look::Ready) => or_in_flight(lane.pop_ready()),
                (User::Segmented(lane), Look::Exact) => lane.pop(),
                (User::Linked(lane), _) => lane.pop(),
                (User::Stack(lane), _) => lane.pop(),
                (User::Ring(ring, Policy::DropOld, _), _) => ring.pop(),
                (User::Ring(ring, _, _), Look::Ready) => or_in_flight(ring.pop_ready()),
                (User::Ring(ring, _, _), Look::Exact) => ring.pop_alone(),
            }
        };
        if matches!(popped, Pop::Some(_)) {
            self.received();
        }
        popped
    }

    /// Does what follows a pop. The caller is the receiver.
    #[inline]
    fn received(&self) {
        if let User::Ring(_, Policy::Block, credit) = &self.user {
            // SAFETY: as in `pop_user`; the slot of the message that was popped is free.
            unsafe { credit.release() };
        }
        if let Some((_, received)) = &self.measured {
            received.fetch_add(1, Relaxed); // Relaxed: a counter.
        }
    }

    /// Sends under a policy.
    #[inline]
    fn send_bounded(
        &self,
        ring: &Ring<T, A>,
        policy: Policy,
        credit: &Credit<A>,
        message: T,
        mut discard: impl FnMut(T),
    ) -> Result<Sent, SendError<T>> {
        match policy {
            Policy::Fail => match ring.push(message) {
                Ok(pushed) => Ok(self.delivered(pushed)),
                Err(Refused::Full(message)) => Err(self.full(message)),
                Err(Refused::Closed(message)) => Err(SendError::Closed(message)),
            },
            Policy::DropNew => match ring.push(message) {
                Ok(pushed) => Ok(self.delivered(pushed)),
                Err(Refused::Full(message)) => {
                    self.dropped.fetch_add(1, Relaxed); // Relaxed: a counter.
                    discard(message);
                    Ok(Sent::Dropped)
                }
                Err(Refused::Closed(message)) => Err(SendError::Closed(message)),
            },
            Policy::Block => {
                if credit.try_take() {
                    self.push_granted(ring, message)
                } else {
                    Err(self.without_credit(message))
                }
            }
            Policy::DropOld => self.push_evicting(ring, message, discard),
        }
    }

    /// Counts a refusal.
    #[cold]
    fn full(&self, message: T) -> SendError<T> {
        self.refused.fetch_add(1, Relaxed); // Relaxed: a counter.
        SendError::Full(message)
    }

    /// Refuses for want of credit. A closed mailbox is not just full, though none of its slots is
    /// free: it never will be again for this sender (G83).
    #[cold]
    fn without_credit(&self, message: T) -> SendError<T> {
        if let User::Ring(ring, _, _) = &self.user
            && ring.is_closed()
        {
            return SendError::Closed(message);
        }
        self.full(message)
    }

    /// Pushes with a credit in hand, which is a free slot.
    #[inline]
    fn push_granted(&self, ring: &Ring<T, A>, message: T) -> Result<Sent, SendError<T>> {
        match ring.push(message) {
            Ok(pushed) => Ok(self.delivered(pushed)),
            Err(Refused::Closed(message)) => Err(SendError::Closed(message)),
            Err(Refused::Full(_)) => unreachable!("a credit is a free slot (ring, E3)"),
        }
    }

    /// Pushes, dropping the oldest messages until the new one fits (G87, G93).
    fn push_evicting(
        &self,
        ring: &Ring<T, A>,
        mut message: T,
        mut discard: impl FnMut(T),
    ) -> Result<Sent, SendError<T>> {
        let mut evicted = 0;
        let mut tries = 0;
        loop {
            match ring.push(message) {
                Ok(pushed) => {
                    let sent = self.delivered(pushed);
                    return Ok(if evicted == 0 { sent } else { Sent::Evicted(evicted) });
                }
                Err(Refused::Closed(message)) => return Err(SendError::Closed(message)),
                Err(Refused::Full(back)) => message = back,
            }
            if let Pop::Some(oldest) = ring.pop() {
                evicted += 1;
                self.evicted.fetch_add(1, Relaxed); // Relaxed: a counter.
                discard(oldest);
                continue;
            }
            tries += 1;
            if tries >= self.evict_tries {
                self.dropped.fetch_add(1, Relaxed); // Relaxed: a counter.
                discard(message);
                return Ok(Sent::Dropped);
            }
            A::spin_hint();
        }
    }

    /// How many messages are in the user lane.
    fn len(&self) -> Option<u64> {
        if let User::Ring(ring, _, _) = &self.user {
            return Some(u64::from(ring.len()));
        }
        let (sent, received) = self.measured.as_ref()?;
        // Relaxed, both: exact only to within the operations in progress (G96). The smaller one
        // first, so that the difference errs upwards.
        let received = received.load(Relaxed);
        Some(sent.load(Relaxed).saturating_sub(received))
    }
}

/// What was ready, or [`Look::Ready`]'s word for nothing.
#[inline]
fn or_in_flight<T>(ready: Option<T>) -> Pop<T> {
    ready.map_or(Pop::InFlight, Pop::Some)
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the mailbox is full",
            Self::Closed(_) => "the mailbox is closed",
            Self::Timeout(_) => "no credit came before the deadline",
        })
    }
}

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;
