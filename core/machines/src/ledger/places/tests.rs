//! Goal: a cursor leads to the one segment that has the next event, whatever is known of it.
//! Method: segments of ten records with two events each.

use super::*;

fn known(firsts: &[u64]) -> Vec<Known> {
    firsts.iter().map(|first| Known { first: *first, created_ms: 0 }).collect()
}

const fn end(record: u64) -> End {
    End { record, event: record * 2 }
}

#[test]
fn old_segments_are_counted_backwards_and_each_once() {
    let mut places = Places::new(&known(&[11, 21, 31]), end(35));
    assert_eq!(places.find(70), Found::Count { first: 31, end: end(35) });
    places.counted(31, 60);
    assert_eq!(places.find(70), Found::Segment { first: 31, before: 60 });
    assert_eq!(places.find(59), Found::Count { first: 21, end: end(30) });
    places.counted(21, 40);
    assert_eq!(places.find(59), Found::Segment { first: 21, before: 40 });
    assert_eq!(places.find(3), Found::Count { first: 11, end: end(20) });
    places.counted(11, 20);
    assert_eq!(places.find(20), Found::Segment { first: 11, before: 20 });
    assert_eq!(places.find(19), Found::TooOld { oldest: 21 });
}

#[test]
fn a_segment_that_was_begun_is_known_and_one_that_went_is_forgotten() {
    let mut places = Places::new(&known(&[1]), end(10));
    assert_eq!(places.find(3), Found::Segment { first: 1, before: 0 }, "record 1 is event 1");
    places.follow(known(&[1, 11]).into_iter());
    assert_eq!(places.last_of(1), Some(10));
    assert_eq!(places.last_of(11), Some(10), "nothing of it is durable yet");
    places.advance(end(14));
    assert_eq!(places.find(25), Found::Segment { first: 11, before: 20 });
    assert_eq!(places.last_of(11), Some(14));
    places.follow(known(&[11]).into_iter());
    assert_eq!((places.last_of(1), places.begins(1)), (None, false));
    assert_eq!(places.find(19), Found::TooOld { oldest: 21 });
    assert_eq!(Places::new(&[], end(0)).find(0), Found::Nowhere);
}
