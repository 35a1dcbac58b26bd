//! What is refused at start, and with which key (C62, C107, C108).

use super::*;

fn refused(change: impl Fn(&mut ClusterConfig)) -> Option<&'static str> {
    let mut config = ClusterConfig::of(Profile::Lan, "demo");
    change(&mut config);
    config.check().err().map(|invalid| invalid.key)
}

/// C62: the values of the profiles, and the inequality that they keep.
#[test]
fn the_profiles_are_those_of_the_table() {
    let (lan, local) = (SwimConfig::of(Profile::Lan), SwimConfig::of(Profile::Local));
    let spans = |c: &SwimConfig| {
        [c.period, c.probe_timeout, c.indirect_timeout, c.gossip_tick, c.sync, c.reprobe]
            .map(|span| span.as_millis())
    };
    assert_eq!(spans(&lan), [1_000, 200, 300, 200, 30_000, 10_000]);
    assert_eq!(spans(&local), [500, 100, 150, 100, 15_000, 5_000]);
    for config in [&lan, &local] {
        let counts = [config.helpers, config.gossip_fanout, config.retransmit, config.health_max];
        assert_eq!(counts, [3, 3, 3, 8]);
        assert_eq!((config.suspicion_min, config.suspicion_max), (4, 6));
    }
    assert_eq!([lan.forget_after, local.forget_after].map(|span| span.as_secs()), [86_400, 3_600]);
    assert_eq!(refused(|c| c.swim = SwimConfig::of(Profile::Local)), None);
    assert_eq!(refused(|c| c.swim.indirect_timeout = ms(350)), None);
    assert_eq!(refused(|c| c.swim.indirect_timeout = ms(351)), Some("probe_timeout"));
}

/// C107: each bound, just kept and just broken.
#[test]
fn values_out_of_range_are_refused_with_their_key() {
    assert_eq!(refused(|_| {}), None);
    assert_eq!(refused(|c| c.cluster.clear()), Some("cluster"));
    assert_eq!(refused(|c| c.links.step_timeout = ms(10)), None);
    assert_eq!(refused(|c| c.links.step_timeout = ms(9)), Some("step_timeout"));
    assert_eq!(refused(|c| c.links.connect_timeout = ms(60_001)), Some("connect_timeout"));
    assert_eq!(refused(|c| c.links.backoff_cap = ms(99)), Some("backoff_cap"));
    assert_eq!(refused(|c| c.links.backoff_long = ms(9_999)), Some("backoff_long"));
    assert_eq!(refused(|c| c.links.link_idle = ms(20_000)), None);
    assert_eq!(refused(|c| c.links.link_idle = ms(19_999)), Some("link_idle"));
    assert_eq!(refused(|c| c.links.reject_after = ms(139_999)), Some("reject_after"));
    assert_eq!(refused(|c| c.links.message_bytes_max = (64 << 20) + 1), Some("max_message"));
    assert_eq!(refused(|c| c.registry.names_max = 4_095), Some("names_max"));
    assert_eq!(refused(|c| c.router.endpoints_max = 1), None);
    assert_eq!(refused(|c| c.router.endpoints_max = 0), Some("endpoints_max"));
    assert_eq!(refused(|c| c.swim.watch_buffer = 1 << 20), None);
    for buffer in [0, (1 << 20) + 1] {
        assert_eq!(refused(|c| c.swim.watch_buffer = buffer), Some("watch_buffer"), "{buffer}");
    }
    assert_eq!(refused(|c| c.registry.default_ttl = ms(999)), Some("default_ttl"));
}

/// C108: what would overflow a sum later is refused, and so are sums on the way to saying so.
#[test]
fn spans_over_a_year_are_refused_and_never_overflow() {
    for seconds in [366 * 86_400 + 1, 10_u64.pow(19)] {
        let long = Duration::from_secs(seconds);
        assert_eq!(refused(|c| c.links.keepalive = long), Some("keepalive"));
        assert_eq!(refused(|c| c.links.rekey_after = long), Some("rekey_after"));
        assert_eq!(refused(|c| c.swim.probe_timeout = long), Some("probe_timeout"));
        assert_eq!(refused(|c| c.swim.indirect_timeout = long), Some("indirect_timeout"));
        assert_eq!(refused(|c| c.registry.hint_keep = long), Some("hint_keep"));
        assert_eq!(refused(|c| c.router.confirm_after = long), Some("confirm_after"));
        let both = |c: &mut ClusterConfig| (c.links.keepalive, c.links.link_idle) = (long, long);
        assert_eq!(refused(both), Some("keepalive"));
    }
}

/// C74, C77, C149: what no cluster could settle names with is refused, with what would be right.
#[test]
fn a_ttl_shorter_than_two_syncs_is_refused() {
    assert_eq!(refused(|c| c.registry.default_ttl = ms(60_000)), None);
    assert_eq!(refused(|c| c.registry.default_ttl = ms(59_999)), Some("default_ttl"));
    assert_eq!(refused(|c| c.swim.sync = ms(30_001)), Some("default_ttl"));
    let local = |c: &mut ClusterConfig| c.swim = SwimConfig::of(Profile::Local);
    assert_eq!(refused(|c| (local(c), c.registry.default_ttl = ms(30_000)).1), None);
    assert_eq!(refused(|c| (local(c), c.registry.default_ttl = ms(29_999)).1), Some("default_ttl"));
    let mut config = ClusterConfig::of(Profile::Lan, "demo");
    config.registry.default_ttl = ms(10_000);
    let why = config.check().unwrap_err().to_string();
    assert!(why.contains("must be >= 2 sync") && why.contains("60s"), "{why}");
}

/// C54: X(N) doubles at 33 members. C77: above four members hints count too.
#[test]
fn the_least_ttl_grows_with_the_cluster_and_with_hints_that_go_early() {
    let mut config = ClusterConfig::of(Profile::Lan, "demo");
    let seconds = |config: &ClusterConfig, members| config.ttl_least(members).as_secs();
    let least = [1, 3, 32, 33, 64, 100, 1_000, 10_000].map(|members| seconds(&config, members));
    assert_eq!(least, [60, 60, 60, 120, 120, 180, 360, 4_800]);
    config.registry.hint_keep = Duration::ZERO;
    assert_eq!([4, 5, 8, 9].map(|members| seconds(&config, members)), [60, 180, 180, 240]);
}

/// C54, C108: a table that no message can carry would never be synced.
#[test]
fn a_sync_that_no_message_can_carry_is_refused() {
    assert_eq!(refused(|c| c.links.message_bytes_max = 64), Some("max_message"));
    assert_eq!(refused(|c| c.links.message_bytes_max = 1 << 20), Some("max_message"));
    assert_eq!(refused(|c| c.registry.names_max = 100_000), Some("max_message"));
    assert_eq!(refused(|c| c.swim.members_max = 100_000), Some("max_message"));
    let small = |c: &mut ClusterConfig| {
        c.links.message_bytes_max = MESSAGE_MIN;
        (c.registry.names_per_node_max, c.registry.names_max) = (200, 200);
        c.swim.members_max = 200;
    };
    assert_eq!(refused(small), None);
    assert_eq!(refused(|c| (small(c), c.swim.members_max = 300).1), Some("max_message"));
}

/// C50: with the greatest values that are legal, the bounds are numbers, not overflows.
#[test]
fn factors_that_would_overflow_the_bounds_are_refused() {
    use crate::cluster::swim::Bounds;

    assert_eq!(refused(|c| c.swim.health_max = u32::MAX), Some("health_max"));
    assert_eq!(refused(|c| c.swim.helpers = u32::MAX), Some("helpers"));
    assert_eq!(refused(|c| c.swim.suspicion_max = 101), Some("suspicion_max"));
    assert_eq!(refused(|c| c.swim.period = ms(3_600_001)), Some("period"));
    let greatest = |c: &mut ClusterConfig| {
        c.swim.period = PERIOD_MAX;
        let factors = [
            &mut c.swim.gossip_fanout,
            &mut c.swim.retransmit,
            &mut c.swim.suspicion_min,
            &mut c.swim.suspicion_max,
            &mut c.swim.health_max,
            &mut c.swim.helpers,
        ];
        factors.into_iter().for_each(|factor| *factor = FACTOR_MAX);
    };
    assert_eq!(refused(greatest), None);
    let mut config = ClusterConfig::of(Profile::Lan, "demo");
    greatest(&mut config);
    let bounds = Bounds::of(&config.swim, config.swim.members_max);
    assert!(bounds.crash_99 < Duration::from_secs(366 * 86_400 * 100), "{bounds:?}");
}
