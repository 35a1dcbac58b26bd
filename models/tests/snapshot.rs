//! Goal: readers see whole values and never an older one after a newer; nothing is freed in use,
//! and everything is freed in the end.
//! Method: loom with 2 readers of 2 loads against 2 publications in 2 slots; each ordering
//! removed, and two steps done wrong in a copy of the protocol.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use models::atomics::{Half, Weakening};
use models::{Bound, Calm, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak};
use models::{orderings, twin};
use sync::Atomics;
use sync::atomics::{AtomicBits, AtomicCount, AtomicOf, RaceCell};
use sync::snapshot::{Busy, snapshot_in};

/// Why no model misses one of E1 and E2.
const EITHER: &str = "E1 and E2 both show the value; a reader that lost one has the other";

/// A value that knows its version; a checker notices if it is not dropped.
struct Value<C: Atomics>(u64, C::LeakMark);

fn value<C: Atomics>(version: u64) -> Value<C> {
    Value(version, C::LeakMark::default())
}

/// Readers load while the writer publishes: what they see is what its version says, and versions
/// never go back.
fn reads<C: Checker>(readers: usize, loads: u32, publications: u64) {
    let (publisher, first) = snapshot_in::<Value<C>, C, 2>(value(0));
    let mut publisher = Calm::new(publisher);
    let mut joins = Vec::new();
    for _ in 0..readers {
        let mut reader = Calm::new(first.clone());
        joins.push(C::spawn(move || {
            for _ in 0..loads {
                let before = reader.version();
                let seen = reader.load().0;
                assert_eq!(seen, reader.version(), "the value is that of its version");
                assert!(seen >= before, "versions never go back");
            }
        }));
    }
    drop(first);
    let mut published = 0;
    for _ in 0..publications {
        match publisher.publish(value(published + 1)) {
            Ok(()) => published += 1,
            Err(Busy(back)) => assert_eq!(back.0, published + 1),
        }
    }
    for join in joins {
        join();
    }
    assert_eq!(publisher.reader().load().0, published);
    publisher.sweep();
}

/// Which step of the protocol is done wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    /// The reader does not look at `current` again.
    NoSecondLoad,
    /// The writer stores WRITER instead of exchanging 0 for it.
    WriterByStore,
}

const WRITER: u32 = 1 << 31;

/// The protocol of the snapshot, with one step wrong; a value is its version.
fn wrong<C: Checker>(step: Wrong) {
    type Slots<C> = [(<C as Atomics>::U32, <C as Atomics>::Cell<u64>); 2];
    let slots: Slots<C> = [0, 1].map(|_| (C::U32::new(0), C::Cell::new(0)));
    let shared = Calm::new(C::Arc::from((C::U64::new(0), slots)));
    let reader = shared.clone();
    let join = C::spawn(move || {
        let (current, slots) = &**reader;
        let mut seen = current.load(Acquire);
        loop {
            let slot = &slots[usize::try_from(seen % 2).expect("a small number")];
            let word = slot.0.fetch_add(1, Acquire);
            let now = current.load(Acquire);
            let fresh = step == Wrong::NoSecondLoad || now == seen;
            if word & WRITER == 0 && fresh {
                // SAFETY: believed to be no writer's.
                let value = slot.1.with(|value| unsafe { *value });
                slot.0.fetch_sub(1, Release);
                assert_eq!(value, seen / 2, "the value is that of its version");
                return;
            }
            slot.0.fetch_sub(1, Relaxed);
            seen = now;
        }
    });
    let (current, slots) = &**shared;
    for version in 1..=2 {
        let free = usize::try_from(version % 2).expect("a small number");
        if step == Wrong::WriterByStore {
            slots[free].0.store(WRITER, Release);
        } else if slots[free].0.compare_exchange(0, WRITER, AcqRel, Relaxed).is_err() {
            break;
        }
        // SAFETY: believed to be ours.
        slots[free].1.with_mut(|value| unsafe { *value = version });
        slots[free].0.fetch_and(!WRITER, Release);
        current.store(version * 2 + version % 2, Release);
    }
    join();
}

/// G258, G259, G409.
#[test]
fn readers_see_whole_values_and_never_an_older_one() {
    Loom::check("snapshot 1 reader", Bound::Full, || reads::<Loom>(1, 1, 2));
    Loom::check("snapshot 1x2", Bound::Preemptions(3), || reads::<Loom>(1, 2, 2));
    Loom::check("snapshot 2x2", Bound::Preemptions(2), || reads::<Loom>(2, 2, 2));
    Shuttle::check("snapshot shuttle", Bound::Full, || reads::<Shuttle>(6, 20, 20));
}

/// A model that cannot fail proves nothing: each wrong step must be caught (G409).
#[test]
fn notices_wrong_steps() {
    let bound = Bound::Preemptions(3);
    twin("snapshot without orderings", Weakening::Everything, "Causality violation", bound, || {
        reads::<Weak>(1, 2, 2);
    });
    let stale = "the value is that of its version";
    twin("snapshot no second load", Weakening::Nothing, stale, bound, || {
        wrong::<Weak>(Wrong::NoSecondLoad);
    });
    twin("snapshot writer by store", Weakening::Nothing, "Causality violation", bound, || {
        wrong::<Weak>(Wrong::WriterByStore);
    });
}

/// G258.
#[test]
fn notices_each_lost_ordering() {
    let publish =
        "self.shared.current.store(self.current, Release); // E1: the version and its slot.";
    let load = "let current = self.shared.current.load(Acquire); // E1: the version and its slot.";
    let unneeded = [
        (publish, Half::Release, EITHER),
        (load, Half::Acquire, EITHER),
        ("slot.word.fetch_and(!WRITER, Release);", Half::Release, EITHER),
        ("let now = self.shared.current.load(Acquire);", Half::Acquire, EITHER),
    ];
    orderings(
        "snapshot",
        "snapshot.rs",
        &unneeded,
        &[
            (Bound::Preemptions(3), || reads::<Weak>(1, 1, 2)),
            (Bound::Preemptions(2), || reads::<Weak>(1, 2, 3)),
        ],
    );
}
