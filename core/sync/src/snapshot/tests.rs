//! Unit tests.

use std::sync::Arc;

use super::snapshot;

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
