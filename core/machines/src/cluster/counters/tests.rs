//! Goal: counters and timings add up, and are no part of a machine's state (C117, C120, C133).

use super::*;
use crate::digest::Digest;

#[test]
fn every_counter_starts_at_0_and_has_a_name_of_its_own() {
    let counters = Counters::new();
    assert!(Counter::ALL.iter().all(|counter| counters.get(*counter) == 0));
    assert_eq!(counters.labelled().count(), 0);
    assert!(Timing::ALL.iter().all(|timing| counters.timing(*timing).count() == 0));
    let plain = Counter::ALL.iter().map(|counter| counter.name());
    let labelled = Labelled::ALL.iter().map(|family| family.name());
    let timings = Timing::ALL.iter().map(|timing| timing.name());
    let mut names: Vec<&str> = plain.chain(labelled).chain(timings).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn a_span_counts_up_to_every_bound_that_it_does_not_pass() {
    let mut histogram = Histogram::new();
    for nanos in [0, 100 * MICRO, 100 * MICRO + 1, 10 * SECOND, 10 * SECOND + 1] {
        histogram.add(nanos);
    }
    let counts: Vec<u64> = histogram.up_to().map(|(_, count)| count).collect();
    assert_eq!(counts[..2], [2, 3]);
    assert_eq!(counts[14..], [3, 4], "what passes all bounds is in none");
    assert_eq!(histogram.count(), 5);
    assert_eq!(histogram.sum(), 20 * SECOND + 200 * MICRO + 2);
    assert!(Histogram::BOUNDS.is_sorted(), "a bucket is found by halving");
}

#[test]
fn merged_counters_are_sums_and_hash_to_nothing() {
    let mut counters = Counters::new();
    let nothing = Digest::of(&counters);
    counters.count(Counter::Gaps);
    counters.add_labelled(Labelled::StreamBytes, 5, 7);
    counters.time(Timing::Handshake, MILLI);
    let other = counters.clone();
    counters.merge(&other);
    assert_eq!(counters.get(Counter::Gaps), 2);
    assert_eq!(counters.get_labelled(Labelled::StreamBytes, 5), 14);
    assert_eq!(counters.timing(Timing::Handshake).count(), 2);
    assert_eq!(counters.timing(Timing::Handshake).sum(), 2 * MILLI);
    assert_eq!(Digest::of(&counters), nothing);
}
