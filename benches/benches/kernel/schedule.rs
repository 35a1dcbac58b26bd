//! `kernel/schedule` (K453): a process is queued and another is claimed, in a set of constant size.
//!
//! | contender | does |
//! |---|---|
//! | `ready-set` | what the kernel does: who is next, and the table of it that the root covers |
//! | `order` | who is next alone, without that table |
//! | `heap` | push and pop of `std::collections::BinaryHeap`, by aged time and number |

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hint::black_box;

use benches::interleaved::Case;
use benches::results::{Results, Unit};
use benches::rig::{USERS, pid, user_id};
use benches::{sized, turns};
use machines::kernel::Time;
use machines::kernel::ids::{ProcessId, UserId};
use machines::kernel::names::Priority;
use machines::kernel::ready::{Entry, Order, ReadySet};

const AGEING: u64 = 30_000;

/// Who comes next.
struct Arrivals {
    users: Vec<UserId>,
    number: u64,
}

impl Arrivals {
    fn new() -> Self {
        Self { users: (0..USERS).map(user_id).collect(), number: 0 }
    }

    fn next(&mut self) -> Entry {
        self.number += 1;
        let user = usize::try_from(self.number % USERS).expect("few");
        let band = usize::try_from(self.number % 5).expect("few");
        Entry {
            user: self.users[user].clone(),
            priority: Priority::ALL[band],
            ready_at: Time::from_millis(self.number),
            number: self.number,
        }
    }
}

pub(crate) fn run(results: &mut Results) {
    for size in [1_000, 10_000, 100_000, sized(1_000_000, 1_000)] {
        one(size, results);
    }
}

fn one(size: u32, results: &mut Results) {
    let swaps = sized(2_000, 10);
    let pids: Vec<_> = (0..u64::from(size)).map(pid).collect();
    let mut set = Arrived::new(ReadySet::new(), &pids, ReadySet::push);
    let mut order = Arrived::new(Order::new(), &pids, Order::push);
    let mut heap = Arrived::new(BinaryHeap::new(), &pids, push_heap);
    Case::new(&format!("kernel/schedule/{size}"), swaps.into(), Unit::NanosecondsEach)
        .on_core("ready-set", || {
            for _ in 0..swaps {
                let id = set.queue.next(AGEING).expect("it is not empty").clone();
                set.queue.serve(&id);
                set.queue.push(black_box(id), set.arrivals.next());
            }
        })
        .on_core("order", || {
            for _ in 0..swaps {
                let id = order.queue.next(AGEING).expect("it is not empty").clone();
                order.queue.serve(&id);
                order.queue.push(black_box(id), order.arrivals.next());
            }
        })
        .on_core("heap", || {
            for _ in 0..swaps {
                let Reverse((_, _, id)) = heap.queue.pop().expect("it is not empty");
                push_heap(&mut heap.queue, black_box(id), heap.arrivals.next());
            }
        })
        .measure(turns(15), results);
}

type Heap = BinaryHeap<Reverse<(Time, u64, ProcessId)>>;

fn push_heap(heap: &mut Heap, id: ProcessId, entry: Entry) {
    let handicap = AGEING * u64::from(entry.priority.band());
    heap.push(Reverse((entry.ready_at.plus(handicap), entry.number, id)));
}

/// A queue, and who comes to it next.
struct Arrived<Q> {
    queue: Q,
    arrivals: Arrivals,
}

impl<Q> Arrived<Q> {
    fn new(mut queue: Q, pids: &[ProcessId], push: fn(&mut Q, ProcessId, Entry)) -> Self {
        let mut arrivals = Arrivals::new();
        for pid in pids {
            push(&mut queue, pid.clone(), arrivals.next());
        }
        Self { queue, arrivals }
    }
}
