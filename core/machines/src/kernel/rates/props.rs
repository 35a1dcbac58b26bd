//! Properties of rates: against a list of all hits, and against the rule that nobody may pass
//! (K431, K134, K137). Sabotaged variants must be caught.

use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

use super::*;
use crate::codec::Wire;
use crate::kernel::quota::Limit;

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// How long until the next request, and how many at once.
type Step = (u64, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Around each window's slots and lengths, so that every window gets its turn.
    let wait = prop_oneof![
        4 => 0..450_u64,
        4 => 9_500..10_700_u64,
        2 => 0..70_000_u64,
        2 => 3_500_000..3_800_000_u64,
        1 => 80_000_000..90_000_000_u64,
    ];
    proptest::collection::vec((wait, 1..4_u8), 1..60)
}

fn limit() -> impl Strategy<Value = Limit> {
    prop_oneof![
        1 => Just(Limit::UNLIMITED),
        6 => (0..8_u64).prop_map(Limit::at_most),
    ]
}

fn limits() -> impl Strategy<Value = RateConfig> {
    (limit(), limit(), limit(), limit()).prop_map(|(b, m, h, d)| RateConfig {
        burst: b,
        minute: m,
        hour: h,
        day: d,
    })
}

/// The oracle: every hit there ever was.
#[derive(Default)]
struct Hits(Vec<u64>);

impl Hits {
    /// K132, word by word.
    fn end(hit: u64, window: u64) -> u64 {
        let slot = window / 50;
        (hit / slot + 1) * slot + window
    }

    fn count(&self, now: u64, window: u64) -> u64 {
        self.0.iter().filter(|hit| now < Self::end(**hit, window)).count() as u64
    }

    fn allowed_in(&self, now: u64, window: LimitType, limits: &RateConfig) -> bool {
        limits.of(window).allows(self.count(now, window.window()) + 1)
    }

    /// The first moment from `now` on at which `window` allows one more hit.
    fn first_in(&self, now: u64, window: LimitType, limits: &RateConfig) -> Option<u64> {
        // Only when a hit runs out can it become allowed.
        let ends = self.0.iter().map(|hit| Self::end(*hit, window.window()));
        let mut candidates: Vec<u64> = ends.filter(|end| *end > now).collect();
        candidates.push(now);
        candidates.sort_unstable();
        candidates.into_iter().find(|at| self.allowed_in(*at, window, limits))
    }

    /// The expected verdict: nothing, or the window that allows last and when.
    fn verdict(&self, now: u64, limits: &RateConfig) -> Option<(LimitType, Option<u64>)> {
        let over = LimitType::WINDOWS.into_iter().filter(|w| !self.allowed_in(now, *w, limits));
        // `max_by_key` keeps the last, which is the longer window.
        over.map(|window| (window, self.first_in(now, window, limits)))
            .max_by_key(|(_, first)| first.unwrap_or(u64::MAX))
    }

    /// K431: a window in which more hits lie than the limit, if there is one.
    fn overfull(&self, limits: &RateConfig) -> Option<(LimitType, u64)> {
        let full = |(window, start): &(LimitType, u64)| {
            let inside =
                self.0.iter().filter(|hit| (*start..=start + window.window()).contains(hit));
            !limits.of(*window).allows(inside.count() as u64)
        };
        let starts = |window| self.0.iter().map(move |hit| (window, *hit));
        LimitType::WINDOWS.into_iter().flat_map(starts).find(|at| full(at))
    }
}

/// A check that counts only the newest `slots` slots: with 51 it is the real one.
fn counting(windows: &Windows, now: Time, limits: &RateConfig, slots: u64) -> bool {
    let mut windows = windows.clone();
    LimitType::WINDOWS.into_iter().all(|window| {
        let newest = now.as_millis() / window.slot();
        let counted = windows.slots_of(window).iter().filter(|s| s.number() + slots > newest);
        let count: u64 = counted.map(|slot| u64::from(slot.count)).sum();
        limits.of(window).allows(count + 1)
    })
}

/// Records what `check` allows, and returns all hits.
fn drive(
    steps: &[Step],
    limits: &RateConfig,
    check: impl Fn(&Windows, Time, &RateConfig) -> bool,
) -> Hits {
    let (mut now, mut windows, mut hits) = (1_700_000_000_000, Windows::default(), Hits::default());
    for (wait, requests) in steps {
        now += wait;
        for _ in 0..*requests {
            if check(&windows, ms(now), limits) {
                windows.record(ms(now));
                hits.0.push(now);
            }
        }
    }
    hits
}

/// Whether some run passes a limit when only `slots` slots are counted.
fn is_caught(slots: u64) -> bool {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) };
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        ),
    );
    let outcome = runner.run(&(steps(), limits()), |(steps, limits)| {
        let hits =
            drive(&steps, &limits, |windows, now, limits| counting(windows, now, limits, slots));
        prop_assert_eq!(hits.overfull(&limits), None);
        Ok(())
    });
    match outcome {
        Ok(()) => false,
        Err(TestError::Fail(..)) => true,
        Err(TestError::Abort(reason)) => panic!("the run was given up: {reason}"),
    }
}

#[test]
fn counting_fewer_slots_than_a_window_touches_is_caught() {
    assert!(is_caught(49), "K431's sabotage");
    assert!(is_caught(50), "a window touches 51 slots");
    assert!(!is_caught(51), "the real rule passes the same checker");
}

#[test]
fn the_real_check_counts_51_slots() {
    let mut runner = TestRunner::deterministic();
    runner
        .run(&(steps(), limits()), |(steps, limits)| {
            drive(&steps, &limits, |windows, now, limits| {
                let real = windows.check(now, limits).is_allowed();
                assert_eq!(real, counting(windows, now, limits, 51));
                real
            });
            Ok(())
        })
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// K431: no interval of length W holds more recorded hits than the limit.
    #[test]
    fn no_interval_holds_more_hits_than_the_limit(steps in steps(), limits in limits()) {
        let hits = drive(&steps, &limits, |windows, now, limits| {
            windows.check(now, limits).is_allowed()
        });
        prop_assert_eq!(hits.overfull(&limits), None);
    }

    /// K133, K134: the verdict, the window named and the retry time are those of the list of all
    /// hits, and the retry time is exact to the millisecond.
    #[test]
    fn the_verdict_is_that_of_the_list_of_all_hits(
        steps in steps(),
        limits in limits(),
        lowered in limits(),
    ) {
        let mut now = 1_700_000_000_123;
        let (mut windows, mut hits) = (Windows::default(), Hits::default());
        for (nth, (wait, requests)) in steps.iter().enumerate() {
            now += wait;
            // The limits change on the way: more may have been recorded than is allowed now.
            let limits = if nth % 8 < 5 { &limits } else { &lowered };
            for _ in 0..*requests {
                let verdict = windows.check(ms(now), limits);
                let expected = hits.verdict(now, limits);
                match verdict {
                    Verdict::Allowed(room) => {
                        prop_assert_eq!(expected, None);
                        let used = |w: LimitType| hits.count(now, w.window());
                        let left = LimitType::WINDOWS.map(|w| limits.of(w).less(used(w)));
                        let least = left.into_iter().flatten().min();
                        let least = least.map_or(Limit::UNLIMITED, Limit::at_most);
                        prop_assert_eq!(room.remaining, least);
                        windows.record(ms(now));
                        hits.0.push(now);
                    }
                    Verdict::Exceeded(over) => {
                        let retry_at = over.retry_at.map(Time::as_millis);
                        prop_assert_eq!(expected, Some((over.window, retry_at)));
                        prop_assert_eq!(over.current, hits.count(now, over.window.window()));
                        prop_assert_eq!(limits.of(over.window), Limit::at_most(over.limit));
                        if let Some(at) = over.retry_at {
                            let before = ms(at.as_millis() - 1);
                            prop_assert!(!windows.check(before, limits).is_allowed());
                            prop_assert!(windows.check(at, limits).is_allowed());
                        }
                    }
                }
            }
            // K137.
            prop_assert!(windows.slots() <= 204);
            prop_assert_eq!(Windows::from_bytes(&windows.to_bytes()), Ok(windows.clone()));
        }
    }

    /// K137, K138: the table holds exactly the keys of a plain list, through sweeps and resets.
    #[test]
    fn the_table_holds_the_keys_of_a_plain_list(
        steps in proptest::collection::vec((0..20_000_000_u64, 0..3_u8, 0..3_u8, 0..12_u8), 1..80),
    ) {
        let mut rates = Rates::default();
        let mut list: Vec<(UserId, RateKey, u64)> = Vec::new();
        let mut now = 0;
        let runs_out = |hit: u64| (hit / 1_728_000 + 1) * 1_728_000 + 86_400_000;
        for (wait, user, endpoint, what) in steps {
            now += wait;
            let user = UserId::parse("user", &format!("u{user}")).unwrap();
            let name = if endpoint > 0 { format!("e{endpoint}") } else { String::new() };
            let endpoint = Endpoint::parse("endpoint", &name).unwrap();
            let key = RateKey::User { user: user.clone(), endpoint };
            let known = list.iter().position(|(_, known, _)| *known == key);
            match what {
                0 => {
                    list.retain(|(of, ..)| *of != user);
                    rates.apply(ms(now), &RateEvent::Reset { user, removed: 0 });
                }
                1 => {
                    list.retain(|(.., last)| runs_out(*last) > now);
                    rates.apply(ms(now), &RateEvent::Swept { before: ms(now), keys: 9 });
                }
                _ => {
                    let first_out = list.iter().map(|(.., last)| runs_out(*last)).min();
                    prop_assert_eq!(rates.is_due(ms(now)), first_out.is_some_and(|at| at <= now));
                    let new = u64::from(known.is_none());
                    let room = rates.room(ms(now), new, 4);
                    let full = known.is_none() && list.len() == 4;
                    let expected = match first_out.filter(|_| full) {
                        None => Ok(false),
                        Some(at) if at <= now => Ok(true),
                        Some(at) => Err(ms(at)),
                    };
                    prop_assert_eq!(room, expected);
                    if room == Ok(true) {
                        rates.apply(ms(now), &RateEvent::Swept { before: ms(now), keys: 9 });
                        list.retain(|(.., last)| runs_out(*last) > now);
                    }
                    if room.is_ok() {
                        rates.apply(ms(now), &RateEvent::Recorded { key: key.clone() });
                        match known {
                            Some(at) => list[at].2 = now,
                            None => list.push((user, key, now)),
                        }
                    }
                }
            }
            prop_assert_eq!(rates.keys().len() as usize, list.len());
            for (_, key, _) in &list {
                prop_assert!(rates.keys().contains(key));
            }
            let mut derived = rates.clone();
            derived.derive();
            prop_assert_eq!(&derived, &rates);
        }
    }
}
