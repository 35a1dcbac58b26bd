//! Unit tests of rates: scopes, windows, retry times, tables, encodings.

use super::windows::Slot;
use super::*;
use crate::codec::Wire;
use crate::kernel::quota::Limit;

const NOON: Time = Time::from_millis(1_000_000_000_000);
const DAY: u64 = 86_400_000;

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

fn at_most(limit: u64) -> Limit {
    Limit::at_most(limit)
}

fn user(name: &str) -> UserId {
    UserId::parse("user", name).unwrap()
}

fn endpoint(on: &str) -> Endpoint {
    Endpoint::parse("endpoint", on).unwrap()
}

fn key(name: &str, on: &str) -> RateKey {
    RateKey::User { user: user(name), endpoint: endpoint(on) }
}

fn scope(name: &str, on: &str) -> Scope {
    Scope { user: UserId::parse("user", name).ok(), endpoint: endpoint(on) }
}

fn burst(limit: u64) -> ScopeConfig {
    ScopeConfig { burst: Some(at_most(limit)), ..ScopeConfig::default() }
}

fn hit(rates: &mut Rates, now: Time, key: &RateKey) {
    rates.apply(now, &RateEvent::Recorded { key: key.clone() });
}

fn configure(rates: &mut Rates, scope: Scope, config: Option<ScopeConfig>) {
    rates.apply(NOON, &RateEvent::Configured { scope, config });
}

fn check(rates: &Rates, now: Time, key: &RateKey) -> Verdict {
    rates.check(now, key, &RateConfig::DEFAULT)
}

fn burst_of(rates: &Rates, name: &str, on: &str) -> Limit {
    rates.in_force(&RateConfig::DEFAULT, &user(name), &endpoint(on)).burst
}

fn exceeded(verdict: Verdict) -> Exceeded {
    match verdict {
        Verdict::Exceeded(exceeded) => exceeded,
        Verdict::Allowed(room) => panic!("allowed: {room:?}"),
    }
}

fn room(verdict: Verdict) -> Room {
    match verdict {
        Verdict::Allowed(room) => room,
        Verdict::Exceeded(exceeded) => panic!("{exceeded}"),
    }
}

#[test]
fn the_default_is_ten_in_ten_seconds_sixty_a_minute() {
    let limits = RateConfig::DEFAULT;
    let of = LimitType::WINDOWS.map(|window| (window.window(), limits.of(window)));
    let expected = [(10_000, 10), (60_000, 60), (3_600_000, 1_000), (DAY, 10_000)];
    assert_eq!(of, expected.map(|(window, limit)| (window, at_most(limit))), "K130");
    assert_eq!(LimitType::WINDOWS.map(LimitType::number), [1, 2, 3, 4]);
    assert_eq!(LimitType::WINDOWS.map(LimitType::slot), [200, 1_200, 72_000, 1_728_000], "K132");
}

#[test]
fn a_hit_counts_until_a_window_after_the_end_of_its_slot() {
    // K132: slot 5 of the burst window is [1,000, 1,200), so its hits count until 11,200.
    let mut windows = Windows::default();
    windows.record(ms(1_000));
    assert_eq!(windows.current(ms(11_199), LimitType::Burst), 1);
    assert_eq!(windows.current(ms(11_200), LimitType::Burst), 0);
    assert_eq!(windows.current(ms(11_200), LimitType::Minute), 1);
}

#[test]
fn the_eleventh_hit_within_ten_seconds_is_over_the_limit() {
    let mut rates = Rates::default();
    let key = key("ann", "");
    for nth in 0..10 {
        let left = room(check(&rates, NOON, &key));
        assert_eq!((left.window, left.remaining), (LimitType::Burst, at_most(10 - nth)), "K135");
        hit(&mut rates, NOON, &key);
    }
    let over = exceeded(check(&rates, NOON, &key));
    // NOON is the beginning of a burst slot.
    let at = NOON.plus(200 + 10_000);
    let retry_at = Some(at);
    let expected = Exceeded { window: LimitType::Burst, current: 10, limit: 10, retry_at };
    assert_eq!(over, expected, "K134");
    assert_eq!(over.to_string(), "burst limit: 10 hits, at most 10");
    assert!(!check(&rates, ms(at.as_millis() - 1), &key).is_allowed());
    assert!(check(&rates, at, &key).is_allowed());
}

#[test]
fn enough_of_the_oldest_slots_must_run_out() {
    // K134: five hits in three slots, and a limit lowered to 2: four of them must go.
    let mut windows = Windows::default();
    for at in [0, 0, 200, 200, 400] {
        windows.record(ms(at));
    }
    let limits = |burst| RateConfig { burst: at_most(burst), ..RateConfig::UNLIMITED };
    let retry = |limit| exceeded(windows.check(ms(500), &limits(limit))).retry_at;
    assert_eq!(retry(5), Some(ms(10_200)));
    assert_eq!(retry(4), Some(ms(10_200)));
    assert_eq!(retry(3), Some(ms(10_400)));
    assert_eq!(retry(2), Some(ms(10_400)));
    assert_eq!(retry(1), Some(ms(10_600)));
}

#[test]
fn the_window_that_allows_last_is_named_and_the_longer_one_on_a_tie() {
    let mut windows = Windows::default();
    windows.record(ms(0));
    let all = |limit| RateConfig { burst: limit, minute: limit, hour: limit, day: limit };
    let over = exceeded(windows.check(ms(1), &all(at_most(1))));
    assert_eq!((over.window, over.retry_at), (LimitType::Day, Some(ms(1_728_000 + DAY))));
    let zero = exceeded(windows.check(ms(1), &all(at_most(0))));
    assert_eq!((zero.window, zero.retry_at), (LimitType::Day, None), "a tie of two nevers");
    let mixed = RateConfig { burst: at_most(0), day: at_most(1), ..RateConfig::UNLIMITED };
    let never = exceeded(windows.check(ms(1), &mixed));
    assert_eq!((never.window, never.retry_at), (LimitType::Burst, None), "never is the latest");
}

#[test]
fn on_a_tie_of_what_remains_the_longer_window_is_named() {
    let five = at_most(5);
    let tie = RateConfig { burst: five, minute: five, hour: at_most(9), day: Limit::UNLIMITED };
    let left = room(Windows::default().check(NOON, &tie));
    assert_eq!((left.window, left.remaining), (LimitType::Minute, at_most(5)), "K135");
    let free = room(Windows::default().check(NOON, &RateConfig::UNLIMITED));
    assert_eq!((free.window, free.remaining), (LimitType::Day, Limit::UNLIMITED));
}

#[test]
fn the_limits_in_force_are_found_field_by_field() {
    let mut rates = Rates::default();
    configure(&mut rates, scope("", ""), Some(burst(1)));
    assert_eq!(burst_of(&rates, "ann", "e"), at_most(1));
    configure(&mut rates, scope("ann", ""), Some(burst(2)));
    assert_eq!(burst_of(&rates, "ann", "e"), at_most(2));
    assert_eq!(burst_of(&rates, "ann", ""), at_most(2));
    assert_eq!(burst_of(&rates, "bob", "e"), at_most(1));
    configure(&mut rates, scope("", "e"), Some(burst(3)));
    assert_eq!(burst_of(&rates, "ann", "e"), at_most(3), "any user before any endpoint (K131)");
    assert_eq!(burst_of(&rates, "ann", ""), at_most(2));
    let both = ScopeConfig { burst: None, minute: Some(at_most(4)), ..ScopeConfig::default() };
    configure(&mut rates, scope("ann", "e"), Some(both));
    let limits = rates.in_force(&RateConfig::DEFAULT, &user("ann"), &endpoint("e"));
    assert_eq!(limits.burst, at_most(3), "what it leaves out is looked up further");
    assert_eq!((limits.minute, limits.day), (at_most(4), at_most(10_000)));
    assert_eq!(rates.scopes().len(), 4);
    let scopes: Vec<Scope> = rates.scopes().iter().map(|(scope, _)| scope.clone()).collect();
    for scope in scopes {
        configure(&mut rates, scope, None);
    }
    assert_eq!(rates, Rates::default(), "cleared is as never set (K138)");
    configure(&mut rates, scope("ann", ""), Some(ScopeConfig::default()));
    assert_eq!(rates, Rates::default(), "what sets nothing is none");
}

#[test]
fn keys_count_apart() {
    let mut rates = Rates::default();
    hit(&mut rates, NOON, &key("ann", "e"));
    let process = RateKey::Process { pid: ProcessId::parse("pid", "ann").unwrap() };
    for other in [key("ann", ""), key("ann", "f"), key("bob", "e"), process] {
        let [burst, ..] = rates.usage(NOON, &other, &RateConfig::DEFAULT);
        assert_eq!(burst.current, 0, "{other:?} (K130)");
    }
}

#[test]
fn usage_says_when_a_window_is_empty() {
    let mut rates = Rates::default();
    let key = key("ann", "");
    hit(&mut rates, ms(0), &key);
    hit(&mut rates, ms(250), &key);
    let [burst, minute, ..] = rates.usage(ms(300), &key, &RateConfig::DEFAULT);
    assert_eq!((burst.current, burst.limit, burst.remaining), (2, at_most(10), at_most(8)));
    assert_eq!(burst.reset_in, 10_400 - 300, "slot 1 ends at 400 (K138)");
    assert_eq!(minute.reset_in, 61_200 - 300);
    let [burst, ..] = rates.usage(ms(20_000), &key, &RateConfig::DEFAULT);
    assert_eq!((burst.current, burst.reset_in), (0, 0));
}

#[test]
fn a_reset_drops_the_counters_of_one_user() {
    let mut rates = Rates::default();
    for key in [key("ann", ""), key("ann", "e"), key("bob", "")] {
        hit(&mut rates, NOON, &key);
    }
    assert_eq!(rates.keys_of(&user("ann")), [key("ann", ""), key("ann", "e")]);
    rates.apply(NOON, &RateEvent::Reset { user: user("ann"), removed: 1 });
    assert_eq!(rates.keys_of(&user("ann")), [], "K138");
    assert_eq!(rates.keys().len(), 1);
    rates.apply(NOON, &RateEvent::Reset { user: user("bob"), removed: 1 });
    assert_eq!(rates, Rates::default());
}

#[test]
fn a_new_key_beyond_the_limit_waits_for_one_that_runs_out() {
    let mut rates = Rates::default();
    hit(&mut rates, ms(0), &key("ann", ""));
    hit(&mut rates, ms(0), &key("bob", ""));
    let runs_out = ms(1_728_000 + DAY);
    let before = ms(runs_out.as_millis() - 1);
    assert_eq!(rates.room(before, 1, 2), Err(runs_out), "K137");
    assert_eq!(rates.room(before, 0, 2), Ok(false), "a known key needs no room");
    assert_eq!(rates.room(before, 1, 3), Ok(false));
    assert_eq!(rates.clone().sweep(before, 9), 0);
    assert_eq!(rates.room(runs_out, 1, 2), Ok(true));
    assert_eq!(rates.room(runs_out, 3, 2), Err(Time::FAR), "more than there may ever be");
    assert_eq!(rates.clone().sweep(runs_out, 1), 1);
    assert_eq!(rates.sweep(runs_out, 9), 2);
    assert_eq!(rates, Rates::default());
}

#[test]
fn a_sweep_drops_the_longest_unused_first() {
    let mut rates = Rates::default();
    for (at, name) in [(0, "cid"), (5_000, "ann"), (1_300, "bob")] {
        hit(&mut rates, ms(at), &key(name, ""));
    }
    let end = ms(10 * DAY);
    rates.sweep(end, 1);
    assert!(rates.keys().get(&key("cid", "")).is_none(), "K361: oldest first");
    rates.sweep(end, 1);
    assert_eq!(rates.keys_of(&user("ann")).len(), 1);
    assert_eq!(rates.keys().len(), 1);
}

#[test]
fn a_slot_that_is_full_is_followed_by_another() {
    let mut windows = Windows::default();
    windows.record(ms(0));
    windows.slots_of(LimitType::Burst)[0] = Slot::new(0, u32::MAX);
    windows.record(ms(1));
    assert_eq!(windows.current(ms(1), LimitType::Burst), u64::from(u32::MAX) + 1);
    assert_eq!(windows.slots_of(LimitType::Burst).len(), 2);
    assert_eq!(Windows::from_bytes(&windows.to_bytes()), Ok(windows.clone()));
    assert_eq!(windows.current(ms(10_200), LimitType::Burst), 0);
}

#[test]
fn a_hit_from_the_past_counts_in_the_newest_slot() {
    let mut windows = Windows::default();
    windows.record(ms(1_000));
    windows.record(ms(0));
    assert_eq!(windows.slots(), 4);
    assert_eq!(windows.current(ms(11_199), LimitType::Burst), 2);
}

#[test]
fn a_hit_at_the_end_of_time_does_not_wrap() {
    let mut windows = Windows::default();
    let last = ms(u64::MAX);
    windows.record(last);
    assert!(windows.slots() == 4 && windows.is_dead(last));
    assert!(windows.check(last, &RateConfig::DEFAULT).is_allowed());
}

#[test]
fn the_busiest_users_are_listed_by_the_hits_of_a_minute() {
    let mut rates = Rates::default();
    let hits = [("ann", "e", 2), ("ann", "", 1), ("bob", "", 5), ("cid", "", 3), ("dan", "", 1)];
    for (name, on, count) in hits {
        for _ in 0..count {
            hit(&mut rates, NOON, &key(name, on));
        }
    }
    let busiest = [(user("bob"), 5), (user("ann"), 3), (user("cid"), 3)];
    assert_eq!(rates.busiest(NOON, 3), busiest);
    assert_eq!(rates.busiest(NOON.plus(60_000), 3), busiest, "the slot ends 1.2 s later");
    assert_eq!(rates.busiest(NOON.plus(61_200), 3), []);
}

#[test]
fn scopes_keys_and_configurations_have_one_encoding() {
    for scope in [scope("", ""), scope("ann", ""), scope("", "e"), scope("ann", "e")] {
        assert_eq!(Scope::from_bytes(&scope.to_bytes()), Ok(scope));
    }
    let process = RateKey::Process { pid: ProcessId::parse("pid", "p").unwrap() };
    for key in [key("ann", ""), key("ann", "e/f"), process] {
        assert_eq!(RateKey::from_bytes(&key.to_bytes()), Ok(key));
    }
    let config = ScopeConfig { day: Some(Limit::UNLIMITED), ..burst(3) };
    assert_eq!(ScopeConfig::from_bytes(&config.to_bytes()), Ok(config));
    assert!(Scope::from_bytes(&[2, 0]).is_err());
}

#[test]
fn windows_decode_strictly() {
    let mut windows = Windows::default();
    windows.record(NOON);
    windows.record(NOON.plus(500));
    assert_eq!(Windows::from_bytes(&windows.to_bytes()), Ok(windows.clone()));
    assert_eq!(Windows::from_bytes(&[0; 16]), Ok(Windows::default()));
    let spoilt = |slots: Vec<Slot>| {
        let mut windows = windows.clone();
        *windows.slots_of(LimitType::Burst) = slots;
        Windows::from_bytes(&windows.to_bytes())
    };
    assert!(spoilt(vec![Slot::new(1, 1), Slot::new(51, 1)]).is_ok());
    assert!(spoilt(vec![Slot::new(1, 1), Slot::new(52, 1)]).is_err(), "no key lives so long");
    assert!(spoilt(vec![Slot::new(1, 0)]).is_err(), "a slot without a hit");
    assert!(spoilt(vec![Slot::new(2, 1), Slot::new(1, 1)]).is_err(), "out of order");
    assert!(spoilt(vec![Slot::new(1, 1), Slot::new(1, 1)]).is_err(), "twice");
    assert!(spoilt(Vec::new()).is_err(), "hits of three windows only");
    assert!(Windows::from_bytes(&[255; 4]).is_err());
}

#[test]
fn what_is_derived_is_found_again_from_the_tables() {
    let mut rates = Rates::default();
    for (at, key) in [(0, key("ann", "")), (5, key("ann", "e")), (DAY, key("bob", ""))] {
        hit(&mut rates, ms(at), &key);
    }
    let (keys, scopes) = (rates.keys().clone(), rates.scopes().clone());
    let mut copy = Rates { keys, scopes, ..Rates::default() };
    assert_ne!(copy, rates);
    copy.derive();
    assert_eq!(copy, rates, "K12");
}
