use proptest::prelude::*;

use super::*;

fn policy(initial: u64, max: u64, multiplier: u32, jitter: u32) -> RetryPolicy {
    RetryPolicy {
        max_retries: 3,
        initial_backoff_ms: initial,
        max_backoff_ms: max,
        multiplier_pct: multiplier,
        jitter_pct: jitter,
        retry_on: RetryPolicy::RETRIED.to_vec(),
    }
}

/// K209.
#[test]
fn waits_grow_by_the_multiplier_to_the_longest() {
    let waits = |policy: &RetryPolicy| -> Vec<u64> {
        (1..=7).map(|retry| policy.backoff(retry, 0)).collect()
    };
    let by_default = RetryPolicy::default();
    assert_eq!(waits(&by_default), [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    // Rounded down at each step, not at the end: 10, 15, 22.5, 33.
    assert_eq!(waits(&policy(10, 1_000, 150, 0))[..4], [10, 15, 22, 33]);
    assert_eq!(waits(&policy(100, 1_000, 100, 0))[..3], [100, 100, 100]);
    // The longest wait cuts off what the power gives, it is not what the next grows from.
    assert_eq!(waits(&policy(400, 150, 50, 0))[..4], [150, 150, 100, 50]);
    assert_eq!(waits(&policy(100, 1_000, 0, 0))[..3], [100, 0, 0]);
    assert_eq!(policy(u64::MAX, u64::MAX, u32::MAX, 0).backoff(u32::MAX, 0), u64::MAX);
}

#[test]
fn chance_takes_away_what_the_policy_allows() {
    let policy = policy(999, 30_000, 200, 50);
    assert_eq!(policy.backoff(1, 0), 999);
    assert_eq!(policy.backoff(1, 10), 999 - 99);
    assert_eq!(policy.backoff(1, 50), 500);
    assert_eq!(policy.backoff(1, 51), 500, "more than the policy says is not taken");
}

/// K269, K271.
#[test]
fn a_failure_is_retried_by_number_and_kind() {
    let policy = RetryPolicy { max_retries: 2, ..RetryPolicy::default() };
    assert!(policy.retries(ErrorKind::Tool, 1));
    assert!(policy.retries(ErrorKind::Tool, 2));
    assert!(!policy.retries(ErrorKind::Tool, 3));
    for kind in [ErrorKind::WorkerLost, ErrorKind::ContextOverflow, ErrorKind::Policy] {
        assert!(!policy.retries(kind, 1), "{kind}");
    }
    let all = RetryPolicy { retry_on: ErrorKind::ALL.to_vec(), ..policy };
    assert!(all.retries(ErrorKind::WorkerLost, 1));
    assert!(!all.retries(ErrorKind::Policy, 1), "never");
}

proptest! {
    /// The wait is as the formula says, step by step, in numbers that do not overflow.
    #[test]
    fn the_wait_is_the_formula(
        initial in 0_u64..1_000_000_000, max in 0_u64..1_000_000_000, multiplier in 0_u32..1_000,
        jitter in 0_u32..=100, drawn in 0_u32..=100, retry in 1_u32..40,
    ) {
        let mut power = u128::from(initial);
        for _ in 1..retry {
            power = (power * u128::from(multiplier) / 100).min(1 << 100);
        }
        let wait = power.min(u128::from(max));
        let expected = wait - wait * u128::from(drawn.min(jitter)) / 100;
        let told = policy(initial, max, multiplier, jitter).backoff(retry, drawn);
        prop_assert_eq!(u128::from(told), expected);
    }

    /// However often it was repeated, the wait is found at once.
    #[test]
    fn the_number_of_steps_is_bounded(
        initial: u64, max: u64, multiplier: u32, near in 90_u32..110,
    ) {
        for multiplier in [multiplier, near] {
            let wait = policy(initial, max, multiplier, 0).backoff(u32::MAX, 0);
            prop_assert!(wait <= max);
        }
    }
}
