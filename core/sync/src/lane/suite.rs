//! What must hold for every lane, in one thread: called by the tests of each design.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use proptest::prelude::*;

use super::{Closed, Lane, Pop};
use crate::atomics::{Atomics, StdAtomics};

/// One step of a lane's life.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Push,
    Pop,
    Park,
    Close,
}

/// Which push of a lone thread says `wake` (G72).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wakes {
    /// The first one after a park, and no other.
    OnceParked,
    /// Every one into an empty lane: there is no mark.
    WhenEmpty,
}

/// Steps, with closes rare.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        60 => Just(Step::Push),
        50 => Just(Step::Pop),
        8 => Just(Step::Park),
        1 => Just(Step::Close),
    ];
    proptest::collection::vec(step, 0..400)
}

/// Drives a lane and a `VecDeque` with the same steps: same messages, same order, same ends (G60,
/// G83, G400); and the pushes that must say `wake` do, and no others (G72).
pub(crate) fn agrees_with_a_deque<A: Atomics>(
    lane: &impl Lane<Box<u64>, A>,
    wakes: Wakes,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    let mut oracle = VecDeque::new();
    let mut closed = false;
    let mut parked = false;

    for (number, step) in (0_u64..).zip(steps) {
        match step {
            Step::Push => match lane.push(Box::new(number)) {
                Ok(pushed) => {
                    prop_assert!(!closed);
                    let expected = match wakes {
                        Wakes::OnceParked => parked,
                        Wakes::WhenEmpty => oracle.is_empty(),
                    };
                    prop_assert_eq!(pushed.wake, expected);
                    parked = false;
                    oracle.push_back(number);
                }
                Err(Closed(message)) => {
                    prop_assert!(closed);
                    prop_assert_eq!(*message, number);
                }
            },
            Step::Pop => {
                // SAFETY: one thread.
                let popped = unsafe { lane.pop() };
                let expected = match oracle.pop_front() {
                    Some(number) => Pop::Some(Box::new(number)),
                    None if closed => Pop::Closed,
                    None => Pop::Empty,
                };
                prop_assert_eq!(popped, expected);
            }
            Step::Park => {
                if oracle.is_empty() && !closed {
                    // SAFETY: one thread; the pop is the one that must come before.
                    prop_assert_eq!(unsafe { lane.pop() }, Pop::Empty);
                    // SAFETY: one thread.
                    let slept = unsafe { lane.park() };
                    prop_assert!(slept);
                    parked = true;
                } else if !closed {
                    // SAFETY: one thread.
                    let slept = unsafe { lane.park() };
                    prop_assert!(!slept, "a lane with messages inside does not park");
                }
            }
            Step::Close => {
                // SAFETY: one thread.
                unsafe { lane.close() };
                closed = true;
            }
        }
    }
    Ok(())
}

/// A value that counts its drops, and panics in the drop if told so.
pub(crate) struct Grenade {
    pub(crate) drops: Arc<AtomicU32>,
    pub(crate) live: bool,
}

impl Drop for Grenade {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Relaxed);
        assert!(!self.live, "a message panics in its drop");
    }
}

/// Fills a lane with messages of which some panic in their drop, and drops it (G110).
pub(crate) fn drops_all<L: Lane<Grenade, StdAtomics>>(lane: L) {
    let drops = Arc::new(AtomicU32::new(0));
    for number in 0..10 {
        let live = number == 2 || number == 5;
        assert!(lane.push(Grenade { drops: drops.clone(), live }).is_ok());
    }
    // SAFETY: one thread.
    let Pop::Some(first) = (unsafe { lane.pop() }) else { panic!("the first message is there") };
    drop(first);
    let panic = catch_unwind(AssertUnwindSafe(|| drop(lane)));
    assert!(panic.is_err(), "the first panic goes on");
    assert_eq!(drops.load(Relaxed), 10, "each message is dropped once");
}

/// Sends from several threads and receives in another: nothing lost or twice, FIFO per sender
/// (G60).
pub(crate) fn keeps_order<L>(lane: L, senders: u32, messages: u32)
where
    L: Lane<(u32, u32), StdAtomics> + Sync + Send,
{
    let lane = &lane;
    std::thread::scope(|scope| {
        for sender in 0..senders {
            scope.spawn(move || {
                for number in 0..messages {
                    assert!(lane.push((sender, number)).is_ok());
                }
            });
        }
        let mut next = vec![0; senders as usize];
        let mut left = senders * messages;
        while left > 0 {
            // SAFETY: this thread is the only receiver.
            match unsafe { lane.pop() } {
                Pop::Some((sender, number)) => {
                    assert_eq!(number, next[sender as usize]);
                    next[sender as usize] += 1;
                    left -= 1;
                }
                Pop::Empty | Pop::InFlight => std::thread::yield_now(),
                Pop::Closed => panic!("nobody closed the lane"),
            }
        }
        // SAFETY: as above.
        assert_eq!(unsafe { lane.pop() }, Pop::Empty);
    });
}
