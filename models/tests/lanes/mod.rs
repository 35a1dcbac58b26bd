//! What is asked of every lane, generic over the lane and the checker.
//!
//! The receiver tries as often as there are messages while the senders run, then joins them and
//! drains: that meets every state a pop can meet, and no execution is longer than it must be.

use std::future::poll_fn;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use models::{Calm, Checker};
use sync::atomics::{AtomicCount, AtomicOf};
use sync::waker::WakerSlot;
use sync::{Atomics, Closed, Lane, Pop};

/// A message that says whose it is, and which; a checker notices if it is not dropped.
pub struct Letter<C: Atomics> {
    sender: usize,
    number: u32,
    _mark: C::LeakMark,
}

/// A letter with its mark.
pub fn letter<C: Atomics>(sender: usize, number: u32) -> Letter<C> {
    Letter {
        sender,
        number,
        _mark: C::LeakMark::default(),
    }
}

/// Senders side by side, then everything is received: nothing lost, nothing twice, FIFO for each
/// sender (G400).
pub fn order<C, L>(senders: usize, messages: u32)
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
    for _ in 0..senders * messages as usize {
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
    assert!(
        next.iter().all(|&count| count == messages),
        "nothing is lost: {next:?}"
    );
}

/// A receiver that sleeps gets every message: no wakeup is lost (G402).
pub fn wakes<C, L>(senders: usize, messages: u32)
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
        C::block_on(poll_fn(|cx| {
            let (lane, slot) = &**shared;
            let mut registered = false;
            loop {
                // SAFETY: this thread is the only receiver, here and below.
                match unsafe { lane.pop() } {
                    Pop::Some(letter) => return Poll::Ready(drop(letter)),
                    Pop::InFlight => {
                        cx.waker().wake_by_ref();
                        C::yield_now();
                        return Poll::Pending;
                    }
                    Pop::Closed => panic!("nobody closed the lane"),
                    Pop::Empty => {}
                }
                if !registered {
                    // SAFETY: as above.
                    unsafe { slot.register(cx.waker()) };
                    registered = true;
                    // SAFETY: as above.
                } else if unsafe { lane.park() } {
                    return Poll::Pending;
                }
            }
        }));
    }
    for join in joins {
        join();
    }
}

/// Pushes against a close: each is refused, or popped before `Closed` is (G403, G111).
pub fn closes<C, L>(senders: usize)
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
    assert_eq!(
        shared.1.load(Relaxed),
        popped,
        "what was accepted came out before Closed"
    );
    // SAFETY: as above.
    assert!(
        matches!(unsafe { shared.0.pop() }, Pop::Closed),
        "closed for ever"
    );
}

/// A sender against a receiver that takes one message and goes: whoever is last frees all (G404).
pub fn drops<C, L>(messages: u32)
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
