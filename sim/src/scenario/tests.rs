use super::*;
use crate::plan::Act;

const GOOD: &str = r#"
name = "good"
about = "Shows that the tests of the reader begin with something right."
nodes = 5
duration = "5m"
quiet = "2m"

[network]
delay = "1ms..20ms"
loss = 0.01

[[fault]]
kind = "partition"
at = "60s"
for = "60s"
groups = [[0, 1], [2, 3, 4]]

[[fault]]
kind = "kill"
at = "10s"
for = "5s"
nodes = [0, 1]
stagger = "1s"
times = 2
every = "20s"
"#;

fn refused(from: &str, to: &str) -> Wrong {
    assert!(GOOD.contains(from), "the test must change something");
    Scenario::parse("s.toml", &GOOD.replace(from, to)).expect_err("must be refused")
}

#[test]
fn a_right_scenario_becomes_a_plan_in_order_of_time() {
    let resolved = Scenario::parse("s.toml", GOOD).unwrap().resolve(1).unwrap();
    let at: Vec<u64> = resolved.plan.iter().map(|planned| planned.at / 1_000_000_000).collect();
    assert_eq!(at, [10, 11, 30, 31, 60]);
    assert_eq!(resolved.plan[4].until, Some(120_000_000_000));
}

#[test]
fn mistakes_are_refused_with_their_place_and_what_would_be_right() {
    let cases = [
        ("quiet", "qiet", "6:1", "unknown field"),
        ("nodes = 5", "nodes = \"five\"", "4:9", "invalid type"),
        ("loss = 0.01", "loss = 1.5", "10:8", "between 0 and 1"),
        ("[2, 3, 4]", "[2, 3, 9]", "16:10", "no node 9; there are 0 to 4"),
        ("\"60s\"\nfor", "\"60\"\nfor", "14:6", "no span of time"),
        ("\"partition\"", "\"particion\"", "13:8", "there are partition"),
        ("groups =", "share = 0.5\ngroups =", "16:9", "partition has no share"),
        ("stagger = \"1s\"", "share = 0.5", "23:9", "kill has no share"),
        ("at = \"60s\"", "at = \"170s\"", "14:6", "quiet period begins at 3m"),
        ("quiet = \"2m\"", "quiet = \"9m\"", "6:9", "shorter than duration"),
        ("nodes = [0, 1]", "nodes = \"some\"", "22:9", "\"all\""),
        ("\"kill\"", "\"rot\"", "19:8", "beyond what a node survives"),
        ("[network]", "[config]\nprobe_timeout = \"2s\"\n[network]", "9:17", "0.55 period"),
    ];
    for (from, to, place, what) in cases {
        let wrong = refused(from, to).to_string();
        assert!(wrong.starts_with(&format!("s.toml:{place}: ")), "{wrong} should be at {place}");
        assert!(wrong.contains(what), "{wrong} should say {what}");
    }
}

/// T51.
#[test]
fn the_template_is_right_and_bears_its_name() {
    let scenario = Scenario::parse("t.toml", &template("my-own")).unwrap();
    assert_eq!(scenario.name(), "my-own");
}

#[test]
fn every_kind_of_fault_can_be_written() {
    let more = [
        ("share", "share = 0.5\n"),
        ("delay", "delay = \"1ms..5ms\"\n"),
        ("rate", "rate = 1000\n"),
        ("bytes", "bytes = 500\n"),
        ("groups", "groups = [[0], [1]]\n"),
        ("gap", "gap = \"1s\"\n"),
        ("cost", "cost = \"1ms\"\n"),
        ("ppm", "ppm = -5\n"),
        ("by", "by = \"1s\"\n"),
    ];
    for (kind, keys) in faults::KINDS {
        let mut text = format!(
            "expect = [\"session-corrupt\"]\n{GOOD}\n[[fault]]\nkind = \"{kind}\"\nat = \"5s\"\n"
        );
        for (_, line) in more.iter().filter(|(key, _)| keys.contains(key)) {
            text.push_str(line);
        }
        if keys.contains(&"nodes") && !keys.contains(&"links") {
            text.push_str("nodes = \"any\"\n");
        }
        if ["failed-sync", "failed-write", "second-process"].contains(&kind) {
            continue; // Those of keepers: `a_keeper_has_its_own_kinds_of_faults`.
        }
        if kind == "offset" {
            text = text.replace("at = \"5s\"", "at = \"0s\"");
        }
        let scenario = Scenario::parse("k.toml", &text).map_err(|wrong| wrong.to_string());
        let resolved = scenario.unwrap().resolve(3).unwrap();
        assert_eq!(resolved.plan.len(), 6, "{kind}");
    }
}

#[test]
fn a_keeper_has_its_own_kinds_of_faults() {
    let of_keepers = [
        ("kill", ""),
        ("pause", ""),
        ("slow", "cost = \"1ms\"\n"),
        ("jump", "by = \"1s\"\n"),
        ("torn", ""),
        ("lost-sync", ""),
        ("misdirected", ""),
        ("rot", ""),
        ("read-error", ""),
        ("full", ""),
        ("stall", ""),
        ("failed-sync", "share = 0.5\n"),
        ("failed-write", "share = 0.5\n"),
        ("second-process", ""),
    ];
    for (kind, _) in faults::KINDS {
        let found = of_keepers.iter().find(|(own, _)| *own == kind);
        let more = found.map_or("", |(_, more)| more);
        let text = format!(
            "name = \"k\"\nabout = \"x\"\nnodes = 1\nduration = \"20s\"\n\
             expect = [\"journal-corrupt\"]\n[keeper]\nsubject = \"kernel\"\n\
             [[fault]]\nkind = \"{kind}\"\nat = \"5s\"\nnodes = [0]\n{more}"
        );
        let scenario = Scenario::parse("k.toml", &text);
        assert_eq!(scenario.is_ok(), found.is_some(), "{kind}: {scenario:?}");
    }
}

fn swarm() -> Scenario {
    let text = GOOD.split("[[fault]]").next().unwrap().to_owned();
    Scenario::parse("w.toml", &format!("{text}\n[swarm]\nknobs = true\nnodes = [3, 7]\n")).unwrap()
}

/// T14: what a swarm chooses moves no answer of the run: as far as two runs of a seed ask the same
/// questions, they get the same answers, whatever was drawn for each.
#[test]
fn what_a_swarm_draws_moves_no_answer_of_the_run() {
    use crate::lab::{Keep, Lab};
    use crate::ring::{Ring, RingKind};

    let kind = RingKind { period: 50_000_000, ..RingKind::default() };
    let lab =
        Lab::<Ring> { known: Default::default(), kind, saboteurs: Vec::new(), keepers: Vec::new() };
    let head = GOOD.split("[[fault]]").next().unwrap().replace("5m", "20s").replace("2m", "5s");
    let answers = |swarm: &str, seed| {
        let scenario = Scenario::parse("w.toml", &format!("{head}\n{swarm}")).unwrap();
        let keep = Keep { answers: true, ..Keep::default() };
        let ran = lab.run(&scenario, seed, keep).unwrap();
        let answers = ran.answers.into_iter();
        let asked = answers.map(|one| ((one.site, one.who, one.nth), one.answer));
        asked.collect::<std::collections::BTreeMap<_, _>>()
    };
    let mut shared = 0;
    for seed in 0..10 {
        let plain = answers("", seed);
        for swarm in ["kinds = [\"loss\", \"kill\"]\n", "kinds = [\"cut\"]\nknobs = true\n"] {
            for (question, answer) in answers(&format!("[swarm]\n{swarm}"), seed) {
                let before = plain.get(&question);
                assert!(before.is_none_or(|before| *before == answer), "{seed}: {question:?}");
                shared += u32::from(before.is_some());
            }
        }
    }
    assert!(shared > 10_000, "{shared} questions were asked in both");
}

/// T23: what has no end of its own ends when the quiet period begins; the dead alone stay dead.
#[test]
fn every_fault_has_healed_when_the_quiet_period_begins() {
    let endless = GOOD.replace("for = \"60s\"\n", "").replace("for = \"5s\"\n", "");
    let endless = endless.replace("times = 2\nevery = \"20s\"\n", "");
    let resolved = Scenario::parse("s.toml", &endless).unwrap().resolve(1).unwrap();
    let until = |kill: bool| {
        let is_kill = |act: &Act| matches!(act, Act::Kill { .. });
        let entries = resolved.plan.iter().filter(move |planned| is_kill(&planned.act) == kill);
        entries.map(|planned| planned.until).collect::<Vec<_>>()
    };
    assert_eq!(until(true), [None, None]);
    let partition = until(false);
    assert!(!partition.is_empty());
    assert!(partition.iter().all(|until| *until == Some(180_000_000_000)), "{partition:?}");
}

#[test]
fn no_two_seeds_of_a_swarm_test_the_same_mix() {
    let swarm = swarm();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let resolved = swarm.resolve(seed).map_err(|(_, why)| why).unwrap();
        seen.insert(toml::to_string(&resolved.file).unwrap());
    }
    assert_eq!(seen.len(), 200);
}

#[test]
fn a_resolved_swarm_reads_back_as_the_same_plan() {
    for seed in 0..50 {
        let resolved = swarm().resolve(seed).unwrap();
        let text = toml::to_string(&resolved.file).unwrap();
        let again = Scenario::parse("f.toml", &text).unwrap().resolve(seed).unwrap();
        assert_eq!(again.plan, resolved.plan);
        assert_eq!(again.config, resolved.config);
        assert_eq!(again.nodes, resolved.nodes);
    }
}

#[test]
fn counts_and_spans_beyond_all_measure_are_refused() {
    let cases = [
        ("nodes = 5", "nodes = 5\nstrangers = 4294967295", "10000 nodes"),
        ("nodes = 5", "nodes = 4294967295", "10000 nodes"),
        ("nodes = 5", "nodes = 0", "1 to 10000"),
        ("duration = \"5m\"", "duration = \"5000000h\"", "no span of time"),
        ("times = 2\nevery = \"20s\"", "times = 4000000000\nevery = \"1ns\"", "faults in all"),
        ("times = 2\nevery = \"20s\"", "times = 9\nevery = \"300000h\"", "quiet period"),
        ("[[fault]]\nkind = \"kill\"", "[swarm]\nmost = 1000\n[[fault]]\nkind = \"kill\"", "255"),
        ("[network]", "[swarm]\nnodes = [1, 4294967295]\n[network]", "1 to 10000"),
        (
            "kind = \"kill\"",
            "kind = \"drift\"\nppm = -2147483648\
             \nat = \"1s\"\nnodes = [0]\n[[fault]]\nkind = \"kill\"",
            "one percent",
        ),
    ];
    for (from, to, what) in cases {
        let wrong = refused(from, to).what;
        assert!(wrong.contains(what), "{to}: {wrong}");
    }
}

/// T50: what was accepted once, and did something else than it says.
#[test]
fn counts_that_no_run_could_hold_are_refused_with_their_place() {
    let network = |line: &str| format!("[network]\n{line}");
    let cases = [
        ("nodes = 5", "seeds = 1000000000000\nnodes = 5".to_owned(), "4:9", "1 to 100000 seeds"),
        ("nodes = 5", "steps = 0\nnodes = 5".to_owned(), "4:9", "at least 1 event"),
        ("[network]", network("queue = 4000000000"), "9:9", "1073741824 bytes at the most"),
        (
            "[network]",
            "[workload]\nnames = 4000000000\n[network]".to_owned(),
            "9:9",
            "1 to 100000 names",
        ),
        ("[network]", "[workload]\nnames = 0\n[network]".to_owned(), "9:9", "1 to 100000 names"),
    ];
    for (from, to, place, what) in cases {
        let wrong = refused(from, &to).to_string();
        assert!(wrong.starts_with(&format!("s.toml:{place}: ")), "{wrong} should be at {place}");
        assert!(wrong.contains(what), "{wrong} should say {what}");
    }
}

#[test]
fn faults_that_say_two_things_or_nothing_are_refused_with_their_place() {
    let partition = "kind = \"partition\"";
    let groups = "groups = [[0, 1], [2, 3, 4]]";
    let cut = "kind = \"cut\"";
    let cases = [
        ("nodes = [2]\ndirection = \"forward\"", cut, "17:13", "groups and links have a direction"),
        ("direction = \"forward\"", cut, "16:13", "groups and links have a direction"),
        ("groups = [[0], [1]]\nnodes = [2]", cut, "17:9", "one of groups, links and nodes"),
        ("links = [[0, 1]]\nnodes = [2]", cut, "17:9", "one of groups, links and nodes"),
        ("groups = [[0, 1], [1, 2]]", partition, "16:10", "node 1 must be in one group only"),
        ("groups = [[0, 1]]", partition, "16:10", "at least two groups"),
        ("links = [[3, 3]]", cut, "16:9", "it must join two nodes"),
        ("links = []", cut, "16:9", "at least one link"),
        ("nodes = []", cut, "16:9", "at least one node"),
        ("bytes = 0", "kind = \"mtu\"", "16:9", "at least 1 byte"),
        ("by = \"1h\"\nnodes = \"all\"", "kind = \"offset\"", "14:6", "must be \"0s\""),
    ];
    for (keys, kind, place, what) in cases {
        let text = GOOD.replace(groups, keys).replace(partition, kind);
        let wrong = Scenario::parse("s.toml", &text).expect_err(keys).to_string();
        assert!(wrong.starts_with(&format!("s.toml:{place}: ")), "{wrong} should be at {place}");
        assert!(wrong.contains(what), "{wrong} should say {what}");
    }
}

#[test]
fn limits_of_nothing_and_payloads_of_gigabytes_are_refused_with_their_place() {
    let cases = [
        ("loss = 0.01", "rate = 0", "10:8", "at least 1 byte a second"),
        ("loss = 0.01", "mtu = 0", "10:7", "at least 1 byte"),
        ("[network]", "[workload]\npayload = 4294967295\n[network]", "9:11", "at the most"),
    ];
    for (from, to, place, what) in cases {
        let wrong = refused(from, to).to_string();
        assert!(wrong.starts_with(&format!("s.toml:{place}: ")), "{wrong} should be at {place}");
        assert!(wrong.contains(what), "{wrong} should say {what}");
    }
}

#[test]
fn a_mark_that_no_machine_has_is_refused_with_its_place() {
    let text = format!("{GOOD}\n[check]\nsometimes = [\"swim.refuted\", \"swim.refutd\"]\n");
    let scenario = Scenario::parse("s.toml", &text).unwrap();
    let known = ["swim.refuted".to_owned()];
    let wrong = scenario.wrong(scenario.check_marks(&known).unwrap_err()).to_string();
    assert!(wrong.starts_with("s.toml:28:30: no machine has that mark"), "{wrong}");
}

/// An unknown property is looked for in the text that names it, not in a file of the same name.
#[test]
fn a_property_without_a_checker_is_told_with_the_place_in_its_own_file() {
    let text = format!("{GOOD}\n[check]\nproperties = [\"C999\"]\n").replace("good", "calm-3");
    let scenario = Scenario::parse("/tmp/x.toml", &text).unwrap();
    let wrong = scenario.wrong(scenario.check_properties(&["C130"]).unwrap_err());
    assert!(wrong.to_string().starts_with("/tmp/x.toml:28:15: no checker"), "{wrong}");
}

/// T21: what the cluster promises to bear is mixed with other faults, and strong enough to strike.
#[test]
fn a_swarm_draws_all_that_a_cluster_bears_and_strengths_that_strike() {
    let text = GOOD.split("[[fault]]").next().unwrap().to_owned() + "[swarm]\n";
    let scenario = Scenario::parse("w.toml", &text).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..60 {
        for fault in scenario.resolve(seed).unwrap().file.fault {
            seen.insert(fault.kind.text().to_owned());
            match fault.kind.text() {
                "mtu" => {
                    let bytes = *fault.bytes.unwrap().get_ref();
                    assert!((200..1_200).contains(&bytes), "no datagram is longer than {bytes}");
                }
                "leave" | "revoke" => assert!(fault.lasts.is_some(), "it comes back"),
                _ => {}
            }
        }
    }
    for kind in ["leave", "revoke", "mtu", "kill", "partition"] {
        assert!(seen.contains(kind), "{kind} is not among {seen:?}");
    }
}

/// T22: where sessions can be lost, somebody is left who met the processes that had them (C27).
#[test]
fn a_swarm_that_loses_sessions_keeps_a_witness() {
    let text = GOOD.split("[[fault]]").next().unwrap().to_owned() + "[swarm]\n";
    let scenario = Scenario::parse("w.toml", &text).unwrap();
    let mut losing = 0;
    for seed in 0..100 {
        let file = scenario.resolve(seed).unwrap().file;
        let ended = |kinds: &[&str], node: i64| {
            let named = |fault: &&super::file::Fault| {
                let nodes = fault.nodes.as_ref().and_then(|nodes| nodes.get_ref().as_array());
                kinds.contains(&fault.kind.text())
                    && nodes.is_some_and(|nodes| nodes.contains(&toml::Value::Integer(node)))
            };
            file.fault.iter().any(|fault| named(&fault))
        };
        let witness = i64::from(*file.nodes.get_ref()) - 1;
        if (0..=witness).any(|node| ended(&["wipe", "lost-sync"], node)) {
            losing += 1;
            assert!(!ended(&["kill", "wipe", "lost-sync", "leave"], witness), "seed {seed}");
        }
    }
    assert!(losing > 20, "{losing} of 100 lose a session");
}

/// T13: what a swarm draws for a kind does not depend on which other kinds there are.
#[test]
fn a_kind_more_does_not_move_what_other_kinds_draw() {
    let faults = |kinds: &str, seed| {
        let text = GOOD.split("[[fault]]").next().unwrap().to_owned();
        let text = format!("{text}\n[swarm]\nkinds = [{kinds}]\n");
        let resolved = Scenario::parse("w.toml", &text).unwrap().resolve(seed).unwrap();
        let fault = resolved.file.fault.iter();
        let loss = fault.filter(|fault| fault.kind.text() == "loss");
        loss.map(|fault| toml::to_string(fault).unwrap()).collect::<Vec<_>>()
    };
    let mut drawn = 0;
    for seed in 0..40 {
        let alone = faults("\"loss\"", seed);
        drawn += alone.len();
        assert_eq!(faults("\"kill\", \"loss\"", seed), alone, "seed {seed}");
    }
    assert!(drawn > 20, "{drawn} entries of loss");
}

/// T24: every seed of a swarm has a legal configuration, and few keep all defaults.
#[test]
fn drawn_configurations_are_legal_and_rarely_the_default() {
    let text = GOOD.split("[[fault]]").next().unwrap().replace("\"2m\"", "\"150s\"");
    let text = format!("{text}\n[swarm]\nknobs = true\nnodes = [2, 7]\n");
    let swarm = Scenario::parse("w.toml", &text).unwrap();
    let default = ClusterConfig::of(Profile::Lan, "simulated");
    let (mut changed, mut full) = (0, 0);
    let mut least = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let resolved = swarm.resolve(seed).map_err(|(_, why)| why).unwrap();
        assert_eq!(resolved.config.check(), Ok(()));
        assert!(resolved.config.swim.members_max >= resolved.nodes);
        let spare = (resolved.config.links.links_max + 1).checked_sub(resolved.nodes);
        assert!(spare.is_some(), "every node has room for a link with each other");
        full += u32::from(spare == Some(0));
        changed += u32::from(*resolved.config != default);
        least.insert(resolved.config.links.half_open_max);
    }
    assert!(full > 10, "{full} of 200 have no link to spare");
    assert!(changed > 190, "{changed} of 200 drew something");
    assert!(least.contains(&1) && least.len() > 20, "{least:?}");
}

const BUILDS: &str = r#"
[[node]]
nodes = [1, 3]
features = ["lifecycle", "rotation"]
required = ["lifecycle"]

[[node]]
nodes = [3]
from = "60s"
version_max = 2
features = ["lifecycle"]
"#;

/// C22: a process takes what holds for its node when it starts; others are as all.
#[test]
fn a_build_holds_for_its_nodes_from_its_moment_on() {
    let text = format!("{GOOD}{BUILDS}");
    let resolved = Scenario::parse("s.toml", &text).unwrap().resolve(1).unwrap();
    let speaks = |node, at| {
        let links = &crate::build::config_of(&resolved.config, &resolved.builds, node, at).links;
        (links.version_min, links.version_max, links.features, links.required)
    };
    assert_eq!(speaks(0, 90_000_000_000), (1, 1, 0, 0));
    assert_eq!(speaks(1, 90_000_000_000), (1, 1, 0b11, 0b01));
    assert_eq!(speaks(3, 59_999_999_999), (1, 1, 0b11, 0b01));
    assert_eq!(speaks(3, 60_000_000_000), (1, 2, 0b01, 0b01));
    // A failure file is the scenario, resolved (T40).
    let again = toml::to_string(&resolved.file).unwrap();
    let again = Scenario::parse("f.toml", &again).unwrap().resolve(1).unwrap();
    assert_eq!(again.builds, resolved.builds);
    assert_eq!(again.builds.len(), 2);
}

#[test]
fn builds_that_cannot_be_are_refused_with_their_place() {
    let cases = [
        ("nodes = [3]", "nodes = [9]", "33:9", "no node 9; there are 0 to 4"),
        ("nodes = [3]", "nodes = \"any\"", "33:9", "\"all\" or a list"),
        ("nodes = [3]", "nodes = []", "33:9", "at least one node"),
        ("\"60s\"\nversion", "\"60\"\nversion", "34:8", "no span of time"),
        ("\"60s\"\nversion", "\"3m\"\nversion", "34:8", "quiet period begins at 3m"),
        ("version_max = 2", "version_max = 0", "35:15", "1 to 9"),
        ("version_max = 2", "version_min = 3", "35:15", "version_max"),
        ("version_max = 2", "period = \"1s\"", "35:1", "unknown field"),
        ("\"rotation\"", "\"rotating\"", "29:12", "lifecycle, rotation, load-reports"),
        ("required = [\"lifecycle\"]", "required = [\"load-reports\"]", "30:12", "among"),
        // It is the later entry that takes away what the earlier one requires.
        ("2\nfeatures = [\"lifecycle\"]", "2\nfeatures = []", "36:12", "among the features"),
    ];
    for (from, to, place, what) in cases {
        let text = format!("{GOOD}{BUILDS}");
        assert!(text.contains(from), "the test must change something");
        let wrong = Scenario::parse("s.toml", &text.replace(from, to)).expect_err(to).to_string();
        assert!(wrong.starts_with(&format!("s.toml:{place}: ")), "{wrong} should be at {place}");
        assert!(wrong.contains(what), "{wrong} should say {what}");
    }
}
