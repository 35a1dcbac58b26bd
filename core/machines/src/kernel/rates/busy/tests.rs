//! Goal: the busiest users are those that a look at every counter gives, at the cost of the answer.
//! Method: any hits, resets and moments against the counters; and a count of what is looked at.

use proptest::prelude::*;

use crate::kernel::ids::{Endpoint, UserId};
use crate::kernel::rates::{LimitType, RateEvent, RateKey, Rates};
use crate::kernel::time::Time;

fn user(number: u64) -> UserId {
    UserId::parse("user", &format!("u{number:05}")).unwrap()
}

fn key(number: u64, endpoint: &str) -> RateKey {
    let endpoint = Endpoint::parse("endpoint", endpoint).unwrap();
    RateKey::User { user: user(number), endpoint }
}

/// Looks at every counter.
fn slowly(rates: &Rates, now: Time, most: usize) -> Vec<(UserId, u64)> {
    let mut hits = std::collections::BTreeMap::<UserId, u64>::new();
    for (key, windows) in rates.keys().iter() {
        if let RateKey::User { user, .. } = key {
            *hits.entry(user.clone()).or_default() += windows.current(now, LimitType::Minute);
        }
    }
    let mut all: Vec<(UserId, u64)> = hits.into_iter().filter(|(_, hits)| *hits > 0).collect();
    all.sort_by_key(|(_, hits)| std::cmp::Reverse(*hits));
    all.truncate(most);
    all
}

proptest! {
    /// K350: also after a restart, and whatever has run out since the last hit.
    #[test]
    fn the_busiest_are_those_that_all_counters_give(
        steps in prop::collection::vec((0..30_000_u64, 0..6_u64, 0..12_u8), 1..120),
        later in 0..70_000_u64,
        most in 0..7_usize,
    ) {
        let mut rates = Rates::default();
        let mut now = Time::from_millis(1_000_000_000);
        for (wait, who, what) in steps {
            now = now.plus(if wait < 20_000 { wait / 50 } else { wait });
            match what {
                0 => rates.apply(now, &RateEvent::Reset { user: user(who), removed: 1 }),
                1 => {
                    let mut again = rates.clone();
                    again.derive();
                    prop_assert_eq!(again.busiest(now, most), rates.busiest(now, most));
                    rates = again;
                }
                nth => {
                    let key = key(who, if nth % 2 == 0 { "a" } else { "b" });
                    rates.apply(now, &RateEvent::Recorded { key });
                }
            }
            prop_assert_eq!(rates.busiest(now, most), slowly(&rates, now, most));
        }
        let later = now.plus(later);
        prop_assert_eq!(rates.busiest(later, most), slowly(&rates, later, most));
    }
}

/// K350: ten thousand users with hits, and as many looks as lines in the answer.
#[test]
fn the_answer_costs_its_length() {
    let mut rates = Rates::default();
    let now = Time::from_millis(1_000_000_000);
    for number in 0..10_000 {
        for _ in 0..=(number * 7_919) % 5 {
            rates.apply(now, &RateEvent::Recorded { key: key(number, "a") });
        }
    }
    let mut looks = 0;
    let slot = LimitType::Minute.slot_of(now);
    let top = rates.busy.top(slot, 100, || looks += 1);
    assert_eq!((top.len(), looks), (100, 100));
    assert_eq!(top, slowly(&rates, now, 100));
}
