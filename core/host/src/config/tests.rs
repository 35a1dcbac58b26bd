//! Goal: every mistake in a configuration is told with key, source and what is right (C108).
//! Method: one mistake at a time, in a file, in the flags; the whole line is compared.

use std::fs;
use std::time::Duration;

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
    assert_eq!(config.helpers, Some(4));
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
             reach this node",
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
