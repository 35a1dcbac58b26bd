//! Goal: three processes form a cluster, lose one, take it back, and keep strangers out (C24, C46,
//! C50, C57).
//! Method: the real binary on loopback, with the local profile, asked through its control socket.
//! Waits end when what they wait for is seen; their deadlines are only met by a failure.

#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

mod process;

use std::fs;
use std::time::Duration;

use machines::cluster::config::{Profile, SwimConfig};
use machines::cluster::swim::Bounds;
use process::{Cluster, JOINED, Process, keygen};
use serde_json::Value;

/// What a machine that does other things may add.
const SLACK: Duration = Duration::from_secs(10);
/// C24: a second.
const REVOKED: Duration = Duration::from_secs(1).saturating_add(SLACK);

/// B(3) of the local profile at the worst health score (C50).
fn dead_within() -> Duration {
    let config = SwimConfig::of(Profile::Local);
    Bounds::crash_at(&config, 3, config.health_max) + SLACK
}

#[test]
fn three_nodes_survive_the_death_and_return_of_one() {
    let mut cluster = Cluster::of(3);
    let ids = cluster.ids();
    for node in &cluster.nodes {
        node.wait(JOINED, "three alive members", |node| node.alive() == sorted(&ids));
    }

    // C120, C121: what was measured until now.
    let first = &cluster.nodes[0];
    first.wait(JOINED, "a round trip with each other member", |node| {
        ids[1..].iter().all(|id| node.row(id).expect("it is a member")["rtt_us"].is_u64())
    });
    assert!(first.row(&ids[0]).expect("it is itself")["rtt_us"].is_null());
    let status = first.status();
    assert_eq!(status["gauges"]["cluster_members{alive}"], 3);
    for (histogram, least) in [("probe_rtt_seconds", 2), ("handshake_seconds", 2)] {
        let count = &status["histograms"][format!("cluster_{histogram}")]["count"];
        assert!(count.as_u64().is_some_and(|count| count >= least), "{histogram}: {count}");
    }
    assert_eq!(status["counters"]["host_streams_cut"], 0);

    let victim = cluster.nodes.pop().unwrap();
    let session = victim.status()["session"].as_u64().unwrap();
    let folder = victim.kill();
    for node in &cluster.nodes {
        node.wait(dead_within(), "the killed node to be dead", |node| {
            node.state_of(&ids[2]).as_deref() == Some("dead")
        });
    }

    let back = Process::serve(folder, &[]);
    for node in &cluster.nodes {
        node.wait(JOINED, "the restarted node to be alive", |node| {
            node.state_of(&ids[2]).as_deref() == Some("alive")
        });
    }
    assert_eq!(back.status()["session"].as_u64(), Some(session + 1));
    let row = cluster.nodes[0].row(&ids[2]).expect("it is a member");
    assert_eq!(row["session"].as_u64(), Some(session + 1));
}

#[test]
fn a_stranger_is_refused_and_the_log_says_why() {
    let cluster = Cluster::of(2);
    let ids = cluster.ids();
    let member = &cluster.nodes[0];

    // The stranger trusts the members; they do not trust it.
    let stranger = cluster.folder_trusting(&cluster.keys());
    let stranger = Process::serve(stranger, &[("seeds", member.addr())]);
    let stranger_id = stranger.id();
    member.wait(JOINED, "a refusal", |node| {
        let status = node.status();
        let rejects = status["rejects"].as_array().expect("a list");
        rejects
            .iter()
            .any(|reject| reject["code"] == "NotAllowed" && reject["node"] == stranger_id.as_str())
    });

    let line = member.wait_for_log(JOINED, |line| {
        line["code"] == "NotAllowed" && line["node"] == stranger_id.as_str()
    });
    assert_eq!(line["source"], "127.0.0.1");
    assert_eq!(line["level"], "WARN");
    assert_eq!(member.row(&stranger_id), None);
    for node in &cluster.nodes {
        node.wait(JOINED, "the members to have found each other", |node| {
            node.alive() == sorted(&ids)
        });
    }
}

#[test]
fn a_key_taken_off_the_list_loses_its_links_at_once() {
    let cluster = Cluster::of(3);
    let ids = cluster.ids();
    for node in &cluster.nodes {
        node.wait(JOINED, "three alive members", |node| node.alive() == sorted(&ids));
    }

    // The first node alone revokes the third.
    let keys = cluster.keys();
    let first = &cluster.nodes[0];
    fs::write(first.folder().join("allowlist"), keys[..2].join("\n")).unwrap();
    first.wait(REVOKED, "the revoked node to be dead", |node| {
        node.state_of(&ids[2]).as_deref() == Some("dead")
    });
    first.wait(REVOKED, "the link to be closed as Revoked", |node| {
        let status = node.status();
        let links = status["links"].as_array().expect("a list");
        let to_third = links.iter().find(|link| link["peer"] == ids[2].as_str());
        to_third.is_some_and(|link| link["direction"] == "none" && link["last_close"] == "Revoked")
    });
    // The second still trusts it.
    assert_eq!(cluster.nodes[1].state_of(&ids[2]).as_deref(), Some("alive"));

    // A list with a mistake changes nothing, and says so.
    fs::write(first.folder().join("allowlist"), "not a key\n").unwrap();
    first.wait(REVOKED, "the mistake to be reported", |node| {
        let error = node.status()["allow_error"].as_str().map(str::to_owned);
        error.is_some_and(|error| error.contains("line 1"))
    });
    assert_eq!(first.state_of(&ids[1]).as_deref(), Some("alive"));
}

#[test]
fn a_node_that_leaves_is_left_and_not_dead() {
    let mut cluster = Cluster::of(2);
    let ids = cluster.ids();
    for node in &cluster.nodes {
        node.wait(JOINED, "two alive members", |node| node.alive() == sorted(&ids));
    }

    let leaver = cluster.nodes.pop().unwrap();
    assert_eq!(leaver.run(&["leave", "--json"]), (0, "{\"left\":true}".to_owned()));
    assert_eq!(leaver.ended(), Some(0));
    cluster.nodes[0].wait(JOINED, "the node to have left", |node| {
        node.state_of(&ids[1]).as_deref() == Some("left")
    });
}

#[test]
fn a_signal_makes_a_node_leave() {
    let cluster = Cluster::of(2);
    let ids = cluster.ids();
    for node in &cluster.nodes {
        node.wait(JOINED, "two alive members", |node| node.alive() == sorted(&ids));
    }
    let [first, second] = cluster.nodes.try_into().ok().expect("there are two");
    second.signal("TERM");
    assert_eq!(second.ended(), Some(0));
    first.wait(JOINED, "the node to have left", |node| {
        node.state_of(&ids[1]).as_deref() == Some("left")
    });
}

/// Goal: SIGHUP takes up what C108 says, names what it cannot, and never kills a node.
/// Method: two nodes that trust each other and do not know where the other is; then a file with
/// seeds, a file with a mistake, and a file that cannot be read.
#[test]
fn a_hangup_reloads_seeds_and_rates_and_never_kills_a_node() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let made = folders.each_ref().map(|folder| keygen(folder.path()));
    for folder in &folders {
        let keys = made.each_ref().map(|made| made.public.as_str());
        fs::write(folder.path().join("allowlist"), keys.join("\n")).unwrap();
    }
    let ids = made.each_ref().map(|made| made.node.clone());
    let [first, second] = folders.map(|folder| Process::serve(folder, &[]));
    assert_eq!(second.alive(), [ids[1].clone()]);

    let file = second.folder().join("lockstep.toml");
    let before = fs::read_to_string(&file).unwrap();
    let seeds = format!("seeds = ['{}']\n", first.addr());
    let sound = format!("{before}{seeds}accept_rate_total = 400\nkeepalive = '20s'\n");
    fs::write(&file, &sound).unwrap();
    second.signal("HUP");
    let line = second.wait_for_log(JOINED, |line| line["message"] == "reloaded the configuration");
    assert_eq!(line["keys"], "seeds accept_rate_total");
    let line = second.wait_for_log(JOINED, |line| line["key"] == "keepalive");
    assert_eq!(line["level"], "WARN");
    second.wait(JOINED, "the seed to be joined", |node| node.alive() == sorted(&ids));

    let refused = |what: &str, why: &str| {
        second.signal("HUP");
        let line = second.wait_for_log(JOINED, |line| {
            line["why"].as_str().is_some_and(|found| found.contains(why))
        });
        assert_eq!(line["level"], "ERROR", "{what}");
        assert_eq!(second.alive(), sorted(&ids), "{what}");
    };
    let path = file.display();
    fs::write(&file, format!("{sound}backoff_base = '1h'\n")).unwrap();
    refused("a relation", &format!("backoff_cap: must be >= backoff_base (in {path})"));
    fs::write(&file, format!("{sound}peroid = '1s'\n")).unwrap();
    refused("a misspelled key", "peroid: there is no such key; did you mean period?");
    fs::write(&file, "cluster = ").unwrap();
    refused("no TOML", &format!("(in {path})"));
    fs::remove_file(&file).unwrap();
    refused("no file", "there is no configuration file");

    // What was refused left nothing behind: the next sound file is compared with the last one.
    fs::write(&file, format!("{sound}accept_rate_source = 40\n")).unwrap();
    second.signal("HUP");
    second.wait_for_log(JOINED, |line| line["keys"] == "accept_rate_source");
    second.signal("TERM");
    second.signal("HUP");
    assert_eq!(second.ended(), Some(0));
}

#[test]
fn members_and_status_have_a_text_for_people() {
    let cluster = Cluster::of(1);
    let node = &cluster.nodes[0];
    let (code, members) = node.run(&["members"]);
    assert_eq!(code, 0);
    assert!(members.starts_with("NODE"), "{members}");
    assert!(members.contains("alive (this node)"), "{members}");
    let (code, status) = node.run(&["status"]);
    assert_eq!(code, 0);
    for part in [node.id().as_str(), "session     1", "allow", "members:"] {
        assert!(status.contains(part), "no {part} in {status}");
    }
}

#[test]
fn the_new_key_of_keygen_is_what_the_node_shows() {
    let folder = tempfile::tempdir().unwrap();
    let made = keygen(folder.path());
    let node = Process::serve(folder, &[("allow", "any".to_owned())]);
    let status = node.status();
    assert_eq!(status["public_key"], Value::from(made.public.as_str()));
    assert_eq!(status["id"], Value::from(made.node.as_str()));
    assert_eq!(status["allow"], "OPEN");
}

fn sorted(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort();
    ids
}
