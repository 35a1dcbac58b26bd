//! Goal: every mistake in a configuration is told with key, source and what is right (C108).
//! Method: one mistake at a time, in a file, in the flags; the whole line is compared.

use std::fs;
use std::time::Duration;

use machines::kernel::config::KernelConfig;
use machines::kernel::ids::{Endpoint, MessageType, ServiceName};
use machines::kernel::names::ExpiryPolicy;
use machines::kernel::quota::Limit;
use proptest::prelude::*;

use super::*;

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lockstep.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn read(text: &str, flags: &[(&str, &str)]) -> Result<Config, String> {
    let (_folder, path) = file(text);
    let flags = flags.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    let sources = Sources::new(Some(&path), flags.collect()).unwrap();
    let shown = path.display().to_string();
    sources.config().map_err(|error| error.to_string().replace(&shown, "FILE"))
}

#[test]
fn the_defaults_are_those_of_the_specification() {
    let config = read("cluster = 'demo'", &[]).unwrap();
    assert_eq!(config.bind, "127.0.0.1:7400".parse().unwrap());
    assert_eq!(config.allow, Allow::File(PathBuf::from("allowlist")));
    assert_eq!(config.key_file, PathBuf::from("node.key"));
    let expected = ClusterConfig::of(Profile::Lan, "demo");
    assert_eq!(config.cluster().unwrap(), expected);
    assert_eq!(Config::new("demo").cluster().unwrap(), expected);
}

#[test]
fn single_values_replace_those_of_the_profile() {
    let text = "cluster = 'demo'\nprofile = 'local'\nperiod = '600ms'\nmax_message = '32MiB'";
    let cluster = read(text, &[]).unwrap().cluster().unwrap();
    assert_eq!(cluster.swim.period, Duration::from_millis(600));
    assert_eq!(cluster.swim.gossip_tick, Duration::from_millis(100));
    assert_eq!(cluster.links.message_bytes_max, 32 << 20);
    assert_eq!(cluster.router.message_bytes_max, 32 << 20);
}

#[test]
fn flags_win_over_the_file() {
    let text = "cluster = 'demo'\nbind = '127.0.0.1:1'\nhelpers = 5";
    let flags = [("bind", "127.0.0.1:2"), ("helpers", "4")];
    let config = read(text, &flags).unwrap();
    assert_eq!(config.bind.port(), 2);
    assert_eq!(config.helpers, Some(Count(4)));
}

#[test]
fn seeds_are_a_list_or_a_text_with_commas() {
    let list = read("cluster = 'demo'\nseeds = ['a:1', '[::1]:2']", &[]).unwrap();
    let text = read("cluster = 'demo'", &[("seeds", "a:1, [::1]:2")]).unwrap();
    assert_eq!(list.seeds, text.seeds);
    assert_eq!(list.seeds.len(), 2);
}

#[test]
fn each_mistake_is_one_line_with_key_and_source() {
    let mistakes = [
        ("", "cluster: is required: the name that all nodes of one cluster share"),
        ("cluster = ''", "cluster: must be given (in FILE)"),
        (
            "cluster = 'demo'\nperoid = '1s'",
            "peroid: there is no such key; did you mean period? (in FILE)",
        ),
        (
            "cluster = 'demo'\nbind = 'here'",
            "bind: invalid value string \"here\", expected an IP address and a port, \
             like \"127.0.0.1:7400\" (in FILE)",
        ),
        (
            "cluster = 'demo'\nperiod = 200",
            "period: invalid type: found signed int `200`, expected a duration with its unit, \
             like \"200ms\" or \"1h\" (in FILE)",
        ),
        (
            "cluster = 'demo'\nprobe_timeout = '900ms'",
            "probe_timeout: probe_timeout + indirect_timeout must be <= 0.55 period (in FILE)",
        ),
        (
            "cluster = 'demo'\nbind = '0.0.0.0:7400'",
            "advertise: is required because bind is 0.0.0.0:7400: the address at which others \
             reach this node (in FILE)",
        ),
        (
            "cluster = 'demo'\nprofile = 'wan'",
            "profile: unknown variant: found `wan`, expected `local` or `lan` (in FILE)",
        ),
        (
            "cluster = 'demo'\nallow = 'everyone'",
            "allow: invalid value string \"everyone\", expected \"file:PATH\", or \"any\" to link \
             with anyone (in FILE)",
        ),
        (
            "cluster = 'demo'\nseeds = ['db']",
            "seeds: no port in \"db\"; expected \"host:port\" or \"NODEID@host:port\" (in FILE)",
        ),
    ];
    let found: Vec<(&str, String)> =
        mistakes.iter().map(|(text, _)| (*text, read(text, &[]).expect_err(text))).collect();
    let expected = mistakes.map(|(text, line)| (text, line.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn a_mistake_on_the_command_line_is_located_there() {
    let error = read("cluster = 'demo'", &[("period", "soon")]).expect_err("no duration");
    assert!(error.ends_with("(in the command line)"), "{error}");
    assert!(error.starts_with("period: "), "{error}");
}

#[test]
fn a_file_that_is_no_toml_is_one_line() {
    let error = read("cluster = ", &[]).expect_err("no TOML");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.ends_with("(in FILE)"), "{error}");
}

#[test]
fn a_named_file_must_be_there() {
    let error = Sources::new(Some(Path::new("/nowhere.toml")), Vec::new()).expect_err("none");
    assert!(error.to_string().contains("/nowhere.toml"), "{error}");
}

#[test]
fn the_data_folder_can_be_read_without_the_rest() {
    let (_folder, path) = file("data = '/srv/node'");
    let sources = Sources::new(Some(&path), Vec::new()).unwrap();
    assert_eq!(sources.data().unwrap(), PathBuf::from("/srv/node"));
}

/// Flags and the environment have text only: what consists of digits is a name or a number,
/// whatever its key wants.
#[test]
fn digits_are_a_name_where_a_name_is_wanted_and_a_number_where_one_is() {
    let flags = [
        ("cluster", "42"),
        ("data", "7"),
        ("key_file", "1"),
        ("meta", "5"),
        ("helpers", "4"),
        ("max_message", "33554432"),
    ];
    let config = read("", &flags).unwrap();
    assert_eq!(config.cluster, "42");
    assert_eq!(config.path(&config.key_file), PathBuf::from("7/1"));
    assert_eq!(config.meta, "5");
    let cluster = config.cluster().unwrap();
    assert_eq!((cluster.swim.helpers, cluster.links.message_bytes_max), (4, 33_554_432));
}

#[test]
fn a_duration_of_more_than_a_year_is_refused_and_overflows_nothing() {
    for (key, value) in [
        ("keepalive", "10000000000000000000s"),
        ("link_idle", "15000000000000000000s"),
        ("rekey_after", "18446744073709551615s"),
        ("probe_timeout", "18446744073709551615s"),
        ("forget_after", "366days"),
    ] {
        let error = read("cluster = 'demo'", &[(key, value)]).expect_err(key);
        let expected =
            format!("{key}: \"{value}\" is too long; at most 365days (in the command line)");
        assert_eq!(error, expected);
    }
}

#[test]
fn a_default_that_does_not_fit_is_located_at_what_was_given() {
    let error = read("cluster = 'demo'", &[("period", "10ms")]).expect_err("it does not fit");
    assert!(error.starts_with("probe_timeout: "), "{error}");
    assert!(error.ends_with("must be <= 0.55 period (in the command line)"), "{error}");
}

/// C108: seeds, rates and back-off, and nothing that takes a restart.
#[test]
fn the_keys_that_differ_are_those_whose_values_do() {
    let old = read("cluster = 'demo'", &[]).unwrap();
    // 10 s is the default.
    let text = "cluster = 'demo'\nkeepalive = '10s'\nbackoff_cap = '20s'\nhelpers = 2\n\
                seeds = ['a:1']\nlog = 'off'";
    let new = read(text, &[]).unwrap();
    assert_eq!(old.differences(&new), ["seeds", "log", "helpers", "backoff_cap"]);
    let mut running = old.clone();
    running.reload(&new);
    assert_eq!(old.differences(&running), ["seeds", "backoff_cap"]);
    assert_eq!(running.differences(&new), ["log", "helpers"]);
    assert!(RELOADABLE.iter().all(|key| keys().contains(key)), "every one is a key");
}

/// K25 and section 2.1: what is not given is as the kernel has it, and each kind of value is taken
/// from the file and from a flag.
#[test]
fn the_kernel_is_set_by_its_table() {
    let plain = read("cluster = 'demo'", &[]).unwrap().kernel.config();
    assert_eq!(plain, Ok(KernelConfig::new()));
    let text = "cluster = 'demo'\n[kernel]\nrun_lease_ms = 90000\ndrain_ms = 5\n\
                rate_enforced_calls = ['Submit']\nzombie_retention_ms = 7\n\
                [kernel.limits]\nstages = 512\n\
                [kernel.default_quota]\nmax_llm_calls = -1\n\
                [kernel.quota_ceiling]\nmax_tool_calls = 9\n\
                [kernel.default_rate]\nburst = 3\n\
                [kernel.interrupts.checkpoint]\ndefault_ttl_ms = 8\nauto_expire = true\n\
                [kernel.bus]\nfailure_threshold = 0\n";
    let flags = [
        ("kernel.limits.stages", "513"),
        ("kernel.default_service", "tools"),
        ("kernel.interrupts.clarification.on_expiry", "escalate"),
        ("kernel.bus.excluded_types", "ping, pong"),
    ];
    let config = read(text, &flags).unwrap();
    assert_eq!(config.drain(), Duration::from_millis(5));
    let mut expected = KernelConfig::new();
    expected.run_lease_ms = 90_000;
    expected.drain_ms = 5;
    expected.rate_enforced_calls.insert(Endpoint::parse("call", "Submit").unwrap());
    expected.retention.zombie_ms = 7;
    expected.limits.stages = 513;
    expected.default_quota.max_llm_calls = Limit::UNLIMITED;
    expected.quota_ceiling.max_tool_calls = Limit::at_most(9);
    expected.default_rate.burst = Limit::at_most(3);
    expected.interrupts[2].default_ttl = Some(8);
    expected.interrupts[2].auto_expire = true;
    expected.interrupts[0].on_expiry = ExpiryPolicy::Escalate;
    expected.bus.failure_threshold = 0;
    for name in ["ping", "pong"] {
        expected.bus.excluded_types.insert(MessageType::parse("type", name).unwrap());
    }
    expected.default_service = ServiceName::parse("service", "tools").unwrap();
    assert_eq!(config.kernel.config(), Ok(expected));
    let other = read("cluster = 'demo'", &[]).unwrap();
    assert_eq!(config.differences(&other), ["kernel"], "taken up at the next start");
}

/// K25, C108.
#[test]
fn each_mistake_about_the_kernel_says_what_where_and_what_would_be_right() {
    let mistakes = [
        ("kernel.limits.stages", "0", "0: must be in 1..=2560"),
        ("kernel.limits.stages", "2561", "2561: must be in 1..=2560"),
        ("kernel.run_lease_ms", "999", "999: must be in 1000..=3600000"),
        ("kernel.soft_percent", "101", "101: must be in 1..=100"),
        ("kernel.drain_ms", "0", "0: must be in 1..=2592000000"),
        ("kernel.tick_batch", "0", "must be at least 1"),
        (
            "kernel.interrupts.confirmation.on_expiry",
            "continue",
            "\"continue\": expected one of deny, fail, escalate",
        ),
        ("kernel.run_leese_ms", "1", "there is no such key; did you mean run_lease_ms?"),
        ("kernel.limits.stagess", "1", "there is no such key; did you mean stages?"),
        (
            "kernel.drain_ms",
            "soon",
            "invalid value string \"soon\", expected a whole number from 0 on, below 2^63, like \
             30000",
        ),
        (
            "kernel.default_quota.max_llm_calls",
            "-2",
            "invalid value signed int `-2`, expected a whole number from 0 on, or -1 for unlimited",
        ),
    ];
    for (key, value, why) in mistakes {
        let error = read("cluster = 'demo'", &[(key, value)]).expect_err(key);
        assert_eq!(error, format!("{key}: {why} (in the command line)"));
    }
}

/// Lists all keys.
fn keys() -> &'static [&'static str] {
    let figment = Figment::new().merge(Flags(vec![("no".into(), "such".into())]));
    let error = figment.extract::<Config>().expect_err("there is no such key");
    let figment::error::Kind::UnknownField(_, keys) = error.kind else {
        panic!("{error}");
    };
    keys
}

/// Values that mean something to some key, and values that mean nothing to any.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[0-9]{1,25} ?(ns|us|ms|s|m|h|days|years|B|KiB|MiB|GiB)?",
        2 => "1[0-9]{17,19}s",
        1 => "-?[0-9]{1,12}\\.?[0-9]{0,4}",
        1 => "(any|file:|file:x|lan|local|wan|off|json|true|false|\\[\\]|,+)",
        1 => "([0-9a-f]{32}@)?(\\[::1\\]|10\\.0\\.0\\.1|db):[0-9]{1,6}",
        1 => "[^'\\p{C}]{0,80}",
    ]
}

/// A value as a file has it: any type of TOML.
fn toml() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => value().prop_map(|text| format!("'{text}'")),
        2 => any::<i64>().prop_map(|number| number.to_string()),
        1 => (0..100_000_i64).prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_filter("TOML spells these otherwise", |x| x.is_finite())
            .prop_map(|number| format!("{number:?}")),
        1 => any::<bool>().prop_map(|truth| truth.to_string()),
        1 => prop::collection::vec(value().prop_map(|text| format!("'{text}'")), 0..3)
            .prop_map(|list| format!("[{}]", list.join(", "))),
        1 => Just("{ a = 1 }".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// No value of any key makes the parser or the check panic, and each that is refused is told
    /// with its key, its source and what would be right, on one line (C108).
    #[test]
    fn every_value_of_every_key_is_taken_or_refused_with_key_source_and_reason(
        given in prop::collection::vec((prop::sample::select(keys()), toml()), 0..3),
        flags in prop::collection::vec((prop::sample::select(keys()), value()), 0..3),
    ) {
        let given: std::collections::BTreeMap<_, _> =
            given.into_iter().filter(|(key, _)| *key != "cluster").collect();
        let lines = given.iter().map(|(key, value)| format!("{key} = {value}\n"));
        let text: String = std::iter::once("cluster = 'demo'\n".to_owned()).chain(lines).collect();
        let (_folder, path) = file(&text);
        let flags = flags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let config = Sources::new(Some(&path), flags).expect("it is there").config();
        let Err(error) = config else {
            return Ok(());
        };
        let shown = error.to_string();
        let key = error.key.expect(&shown);
        prop_assert!(keys().contains(&key.split('.').next().expect("a key")), "{shown}");
        prop_assert!(error.source.is_some(), "{shown}");
        prop_assert_eq!(shown.lines().count(), 1, "{}", &shown);
        let says =
            ["expected", "must", "at most", "is required", "is not the address", "no such key"];
        prop_assert!(says.iter().any(|word| error.why.contains(word)), "{shown}");
    }
}
