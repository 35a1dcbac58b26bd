//! Unit tests.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use super::{Busy, SLOTS, Shared, snapshot, snapshot_in};
use crate::StdAtomics;

/// G258: a reader whose version is current does nothing else.
#[test]
fn a_reader_keeps_its_value_until_it_loads_again() {
    let (mut publisher, mut reader) = snapshot(0_u32);
    assert_eq!((**reader.load(), reader.version()), (0, 0));
    for version in 1..=20 {
        assert!(publisher.publish(version).is_ok());
        assert_eq!(u64::from(**reader.cached()), reader.version());
        assert_eq!(**reader.load(), version);
        assert_eq!(reader.version(), u64::from(version));
    }
}

/// G259: each period the slots that are not current are emptied.
#[test]
fn old_values_are_let_go() {
    let witness = Arc::new(());
    let (mut publisher, mut reader) = snapshot(witness.clone());
    for _ in 0..10 {
        assert!(publisher.publish(witness.clone()).is_ok());
    }
    reader.load();
    assert_eq!(publisher.sweep(), 3);
    assert_eq!(Arc::strong_count(&witness), 2, "ours and the current one");
    assert_eq!(publisher.sweep(), 0);
    drop((publisher, reader));
    assert_eq!(Arc::strong_count(&witness), 1);
}

/// G258, G409.
#[test]
fn many_readers_see_versions_in_order() {
    let (mut publisher, reader) = snapshot(0_u64);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut reader = reader.clone();
            scope.spawn(move || {
                let mut last = 0;
                while last < 2_000 {
                    let seen = **reader.load();
                    assert!(seen >= last);
                    assert_eq!(seen, reader.version());
                    last = seen;
                    std::thread::yield_now();
                }
            });
        }
        let mut next = 1;
        while next <= 2_000 {
            match publisher.publish(next) {
                Ok(()) => next += 1,
                Err(_) => std::thread::yield_now(),
            }
        }
    });
}

/// G259: the writer never waits: with readers at all other slots it hands the value back, and it
/// empties no slot that is being read.
#[test]
fn publishing_hands_the_value_back_while_readers_are_at_every_other_slot() {
    let (mut publisher, mut reader) = snapshot(0_u32);
    for version in 1..=4 {
        assert_eq!(publisher.publish(version), Ok(()));
    }
    for slot in &publisher.shared.slots[1..] {
        slot.word.fetch_add(1, Relaxed);
    }
    assert_eq!(publisher.publish(5), Err(Busy(5)));
    assert_eq!(publisher.sweep(), 0);
    assert_eq!((**reader.load(), reader.version()), (4, 4));

    publisher.shared.slots[2].word.fetch_sub(1, Relaxed);
    assert_eq!(publisher.publish(5), Ok(()));
    assert_eq!((**reader.load(), reader.version()), (5, 5));
    assert_eq!(publisher.sweep(), 1, "the one of version 4");
}

/// G259: a version lives as long as a reader keeps its owner, and no longer.
#[test]
fn a_version_lives_as_long_as_a_reader_keeps_it() {
    let witness = Arc::new(());
    let (mut publisher, mut reader) = snapshot(Some(witness.clone()));
    let kept = reader.load().clone();
    for _ in 0..10 {
        assert!(publisher.publish(None).is_ok());
    }
    reader.load();
    publisher.sweep();
    assert_eq!(Arc::strong_count(&witness), 2);
    assert!(kept.is_some());
    drop(kept);
    assert_eq!(Arc::strong_count(&witness), 1);
}

/// A value that, dropped, notes which version is current by then.
struct Noting(Arc<OnceLock<Weak<Shared<Noting, StdAtomics, SLOTS>>>>, Arc<AtomicU64>);

impl Drop for Noting {
    fn drop(&mut self) {
        if let Some(shared) = self.0.get().and_then(Weak::upgrade) {
            self.1.store(shared.current.load(Relaxed) / SLOTS as u64, Relaxed);
        }
    }
}

/// G258: the drop of the old value may be long; readers have the new one before it.
#[test]
fn the_old_value_is_dropped_after_the_new_one_is_published() {
    let (place, noted) = (Arc::new(OnceLock::new()), Arc::new(AtomicU64::new(0)));
    let value = || Noting(place.clone(), noted.clone());
    let (mut publisher, reader) = snapshot_in::<_, StdAtomics, SLOTS>(value());
    drop(reader);
    assert!(place.set(Arc::downgrade(&publisher.shared)).is_ok());
    for version in 1..=3 {
        assert!(publisher.publish(value()).is_ok());
        assert_eq!(noted.load(Relaxed), 0, "no slot was used again at {version}");
    }
    for version in 4..=9 {
        assert!(publisher.publish(value()).is_ok());
        assert_eq!(noted.load(Relaxed), version);
    }
}
