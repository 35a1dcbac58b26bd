//! Goal: the ring loses nothing it accepted, hands nothing out twice, keeps each sender's order,
//! closes exactly and wakes; evicting takes each message once.
//! Method: loom at capacity 1 and 2; shuttle with 8 senders; each ordering removed, and stamps
//! that are not doubled.

use std::future::poll_fn;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::task::Poll;

use models::atomics::{Half, Weakening};
use models::{Bound, Calm, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak};
use models::{orderings, twin};
use sync::atomics::{AtomicCount, AtomicOf, RaceCell};
use sync::ring::{Refused, Ring};
use sync::waker::WakerSlot;
use sync::{Atomics, Pop};

/// The exchange of `head`.
const HEAD: &str = ".compare_exchange_weak(head, self.after(head), AcqRel, Acquire)";
/// The load that tells Empty from InFlight.
const CLAIMED: &str = "let tail = self.tail.0.load(Acquire); // E5: that a slot is claimed.";
/// The exchange that parks.
const PARK: &str = ".compare_exchange(head, head | PARKED, AcqRel, Acquire)";
/// Why no model misses what a claimer of `tail` learns from those before it.
const HOLDER: &str = "for credit holders beside two others; without, a stale stamp is only Full";
/// Why no model misses what poppers tell each other by `head`.
const STAMP: &str = "the stamps hand the slots over; `head` only says whose turn it is";
/// Why no model misses a half that says when a receiver sleeps.
const ORDERED: &str = "loom runs exchanges of two words in one order; elsewhere the waker needs it";
/// Why no model misses a half that publishes nothing.
const NOTHING: &str = "decides Empty, InFlight or Closed only; nothing is read through it";

/// A message that says whose it is, and which; a checker notices if it is not dropped.
struct Letter<C: Atomics> {
    sender: usize,
    number: u32,
    _mark: C::LeakMark,
}

fn letter<C: Atomics>(sender: usize, number: u32) -> Letter<C> {
    Letter { sender, number, _mark: C::LeakMark::default() }
}

/// Takes what is there, after the senders were joined.
fn drain<C: Checker>(ring: &Ring<Letter<C>, C>, alone: bool, mut each: impl FnMut(Letter<C>)) {
    loop {
        match if alone {
            // SAFETY: the caller is the only one to pop when it says `alone`.
            unsafe { ring.pop_alone() }
        } else {
            ring.pop()
        } {
            Pop::Some(letter) => each(letter),
            Pop::Empty => return,
            Pop::InFlight => panic!("in flight, and every push has returned"),
            Pop::Closed => panic!("nobody closed the ring"),
        }
    }
}

/// Senders that give up when the ring is full: what was accepted comes out, once, in order.
fn order<C: Checker>(capacity: u32, senders: usize, messages: u32, alone: bool) {
    let shared = Calm::new(C::Arc::from((Ring::<Letter<C>, C>::new(capacity), C::U32::new(0))));
    let mut joins = Vec::new();
    for sender in 0..senders {
        let shared = shared.clone();
        joins.push(C::spawn(move || {
            for number in 0..messages {
                match shared.0.push(letter(sender, number)) {
                    Ok(_) => {
                        shared.1.fetch_add(1, Relaxed);
                    }
                    Err(Refused::Full(back)) => assert_eq!(back.number, number),
                    Err(Refused::Closed(_)) => panic!("nobody closed the ring"),
                }
            }
        }));
    }
    let mut received = 0;
    let mut next = vec![0; senders];
    let mut receive = |letter: Letter<C>| {
        assert!(letter.number >= next[letter.sender], "per-sender FIFO, nothing twice");
        next[letter.sender] = letter.number + 1;
        received += 1;
    };
    for _ in 0..messages {
        let popped = if alone {
            // SAFETY: this thread is the only one to pop.
            unsafe { shared.0.pop_alone() }
        } else {
            shared.0.pop()
        };
        if let Pop::Some(letter) = popped {
            receive(letter);
        }
    }
    for join in joins {
        join();
    }
    drain(&shared.0, alone, receive);
    assert_eq!(shared.1.load(Relaxed), received, "what was accepted is received");
}

/// Senders that make room by popping the oldest: each message is received or evicted, once.
fn evicts<C: Checker>(capacity: u32, senders: usize) {
    let shared = Calm::new(C::Arc::from((Ring::<Letter<C>, C>::new(capacity), C::U32::new(0))));
    let mut joins = Vec::new();
    for sender in 0..senders {
        let shared = shared.clone();
        joins.push(C::spawn(move || {
            let mut pending = letter(sender, 0);
            for _ in 0..2 {
                match shared.0.push(pending) {
                    Ok(_) => return,
                    Err(Refused::Full(back)) => pending = back,
                    Err(Refused::Closed(_)) => panic!("nobody closed the ring"),
                }
                if let Pop::Some(_) = shared.0.pop() {
                    shared.1.fetch_add(1, Relaxed);
                }
            }
            // Neither way in two tries (G93): its own message is the one that goes.
            shared.1.fetch_add(1, Relaxed);
        }));
    }
    let mut received = 0;
    if let Pop::Some(_) = shared.0.pop() {
        received += 1;
    }
    for join in joins {
        join();
    }
    drain(&shared.0, false, |_| received += 1);
    let gone = shared.1.load(Relaxed);
    assert_eq!(
        received + gone,
        u32::try_from(senders).expect("a small number"),
        "each message once"
    );
}

/// Pushes against a close: each is refused, or popped before `Closed` is (G403, G111).
fn closes<C: Checker>(capacity: u32, senders: usize) {
    let shared = Calm::new(C::Arc::from((Ring::<Letter<C>, C>::new(capacity), C::U32::new(0))));
    let mut joins = Vec::new();
    for sender in 0..senders {
        let shared = shared.clone();
        joins.push(C::spawn(move || {
            if shared.0.push(letter::<C>(sender, 0)).is_ok() {
                shared.1.fetch_add(1, Relaxed);
            }
        }));
    }
    shared.0.close();
    let mut popped = 0;
    loop {
        match shared.0.pop() {
            Pop::Some(_) => popped += 1,
            Pop::InFlight => C::spin_hint(),
            Pop::Closed => break,
            Pop::Empty => panic!("a closed ring is never just empty"),
        }
    }
    for join in joins {
        join();
    }
    assert_eq!(shared.1.load(Relaxed), popped, "what was accepted came out before Closed");
}

/// A receiver that sleeps gets every message.
fn wakes<C: Checker>(capacity: u32, senders: usize) {
    let shared =
        Calm::new(C::Arc::from((Ring::<Letter<C>, C>::new(capacity), WakerSlot::<C>::new())));
    let mut joins = Vec::new();
    for sender in 0..senders {
        let shared = shared.clone();
        joins.push(C::spawn(move || {
            if let Ok(pushed) = shared.0.push(letter::<C>(sender, 0))
                && pushed.wake
            {
                shared.1.wake();
            }
        }));
    }
    for _ in 0..senders {
        C::block_on(poll_fn(|cx| {
            let (ring, slot) = &**shared;
            let mut registered = false;
            loop {
                match ring.pop() {
                    Pop::Some(_) => return Poll::Ready(()),
                    Pop::InFlight => {
                        cx.waker().wake_by_ref();
                        C::yield_now();
                        return Poll::Pending;
                    }
                    Pop::Closed => panic!("nobody closed the ring"),
                    Pop::Empty => {}
                }
                if !registered {
                    // SAFETY: this thread is the only one to register.
                    unsafe { slot.register(cx.waker()) };
                    registered = true;
                } else if ring.park() {
                    return Poll::Pending;
                }
            }
        }));
    }
    for join in joins {
        join();
    }
}

/// G60, G401.
#[test]
fn keeps_what_it_accepted() {
    Loom::check("ring fail 1x2 capacity=1", Bound::Full, || order::<Loom>(1, 1, 2, true));
    Loom::check("ring 2x1 capacity=1", Bound::Preemptions(3), || order::<Loom>(1, 2, 1, true));
    Loom::check("ring 2x2 capacity=1", Bound::Preemptions(2), || order::<Loom>(1, 2, 2, true));
    Loom::check("ring 2x2 capacity=2", Bound::Preemptions(2), || order::<Loom>(2, 2, 2, true));
    Loom::check("ring shared pop", Bound::Preemptions(2), || order::<Loom>(1, 2, 1, false));
}

/// G57, G401.
#[test]
fn keeps_what_it_accepted_over_long_runs() {
    Shuttle::check("ring shuttle 8x50", Bound::Full, || order::<Shuttle>(2, 8, 50, true));
}

/// G87, G401.
#[test]
fn evicts_each_message_once() {
    Loom::check("ring evicts capacity=1", Bound::Preemptions(3), || evicts::<Loom>(1, 2));
    Shuttle::check("ring evicts shuttle", Bound::Full, || evicts::<Shuttle>(2, 8));
}

/// G83, G111, G403.
#[test]
fn closes_exactly() {
    Loom::check("ring closes", Bound::Preemptions(3), || closes::<Loom>(2, 2));
}

/// G72, G73, G402.
#[test]
fn wakes_a_sleeping_receiver() {
    Loom::check("ring wakes 2x1", Bound::Preemptions(2), || wakes::<Loom>(2, 2));
}

/// One slot whose stamp counts positions, as in Vyukov's queue: full for position n and free for
/// position n + 1 are the same number.
struct Undoubled<C: Atomics> {
    tail: C::U64,
    stamp: C::U64,
    message: C::Cell<Option<u32>>,
}

fn undoubled<C: Checker>() {
    let slot = Calm::new(C::Arc::from(Undoubled::<C> {
        tail: C::U64::new(0),
        stamp: C::U64::new(0),
        message: C::Cell::new(None),
    }));
    let push = |slot: &Undoubled<C>, message: u32| {
        let tail = slot.tail.load(Acquire);
        let free = slot.stamp.load(Acquire) == tail;
        if free && slot.tail.compare_exchange(tail, tail + 1, AcqRel, Relaxed).is_ok() {
            // SAFETY: the exchange claimed the slot, or so it is believed.
            slot.message.with_mut(|place| unsafe {
                assert!((*place).is_none(), "a message was written over");
                *place = Some(message);
            });
            slot.stamp.store(tail + 1, Release);
        }
    };
    let sender = slot.clone();
    let join = C::spawn(move || push(&sender, 1));
    push(&slot, 2);
    join();
}

/// A model that cannot fail proves nothing: each wrong step must be caught (G401).
#[test]
fn notices_wrong_steps() {
    let bound = Bound::Preemptions(3);
    twin("ring without orderings", Weakening::Everything, "Causality violation", bound, || {
        order::<Weak>(1, 1, 2, true);
    });
    twin("ring stamps not doubled", Weakening::Nothing, "written over", bound, undoubled::<Weak>);
}

/// G68.
#[test]
fn notices_each_lost_ordering() {
    let unneeded = [
        ("let mut tail = self.tail.0.load(Acquire); // E3.", Half::Acquire, HOLDER),
        (".compare_exchange_weak(tail, next, AcqRel, Acquire)", Half::Acquire, HOLDER),
        (".compare_exchange_weak(tail, next, AcqRel, Acquire)", Half::Release, HOLDER),
        ("let now = self.tail.0.load(Acquire); // E3.", Half::Acquire, HOLDER),
        ("Stamp::Ahead => tail = self.tail.0.load(Acquire), // E3.", Half::Acquire, HOLDER),
        ("let mut head = self.head.0.load(Acquire); // E6.", Half::Acquire, STAMP),
        (HEAD, Half::Acquire, STAMP),
        (HEAD, Half::Release, STAMP),
        ("let now = self.head.0.load(Acquire); // E6.", Half::Acquire, STAMP),
        ("Stamp::Ahead => head = self.head.0.load(Acquire), // E6.", Half::Acquire, STAMP),
        (CLAIMED, Half::Acquire, NOTHING),
        (PARK, Half::Acquire, NOTHING),
        (PARK, Half::Release, ORDERED),
        ("self.tail.0.fetch_or(CLOSED, AcqRel);", Half::Acquire, NOTHING),
        ("self.tail.0.fetch_or(CLOSED, AcqRel);", Half::Release, NOTHING),
    ];
    orderings(
        "ring",
        "ring.rs",
        &unneeded,
        &[
            (Bound::Preemptions(2), || order::<Weak>(1, 1, 2, true)),
            (Bound::Preemptions(2), || order::<Weak>(1, 1, 2, false)),
            (Bound::Preemptions(1), || evicts::<Weak>(1, 2)),
            (Bound::Preemptions(2), || closes::<Weak>(1, 1)),
            (Bound::Preemptions(2), || wakes::<Weak>(1, 1)),
        ],
    );
}
