//! Goal: the status of a node that has just started shows every counter, gauge and histogram of
//! the specification, at 0 (C117, C120), and everything that C121 lists.
//! Method: a node with nobody else; the names are written out here, as the specification has them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use machines::Choices;
use machines::cluster::config::{ClusterConfig, Profile};
use machines::cluster::identity::{Allowed, StaticKey};
use machines::cluster::ids::{Addr, Instance, Session};
use machines::cluster::sealer::Suite;
use machines::cluster::swim::io::{DeadCause, MemberEventKind};
use machines::cluster::wire::{Meta, schema};
use machines::node::NodeParams;
use machines::node::io::Input;

use super::*;

/// C111–C115: what bad input is counted as. Labels are written out where there are few.
const BAD_INPUT: &[&str] = &[
    "hs_bad_magic",
    "hs_timeout",
    "hs_reject{VersionMismatch}",
    "hs_reject{SchemaMismatch}",
    "hs_reject{FeatureMissing}",
    "hs_reject{WrongCluster}",
    "hs_reject{NotAllowed}",
    "hs_reject{SelfConnect}",
    "hs_reject{StaleSession}",
    "hs_reject{DuplicateLink}",
    "hs_busy",
    "hs_malformed",
    "hs_bad_crypto",
    "link_after_close",
    "rec_length",
    "rec_bad_tag",
    "frame_malformed{Send}",
    "frame_malformed{Sync2}",
    "frame_too_large",
    "frame_fragment",
    "frame_unexpected",
    "dg_malformed",
    "dg_no_link",
    "dg_replay",
    "dg_old",
    "dg_bad_tag",
    "dg_body",
    "ack_unexpected",
    "relay_refused",
    "fact_not_allowed",
    "fact_unknown",
    "fact_stale",
    "fact_conflict",
    "members_full",
    "sync_busy",
    "names_full",
    "name_unexpected",
    "bounce{NoActor}",
    "bounce{MailboxFull}",
    "number_repeat",
    "gap_received",
];

/// C120, less what comes with R2: `monitors`, `pool_picks{strategy}`.
const COUNTERS: &[&str] = &[
    "member_events{join}",
    "member_events{dead_timeout}",
    "probe_failed",
    "refutations",
    "suspicion_confirmations",
    "gossip_bytes",
    "sync{asked}",
    "sync{answered}",
    "sync{timed_out}",
    "link_down{Idle}",
    "link_down{Silent}",
    "dials{Up}",
    "dials{NotAllowed}",
    "dials{Unreachable}",
    "rekeys{done}",
    "rekeys{failed}",
    "stream_bytes{out,urgent}",
    "stream_bytes{in,user}",
    "datagrams{out}",
    "datagrams{in}",
    "lookups{found}",
    "lookups{not_found}",
    "name_conflicts",
    "sends{delivered}",
    "sends{unknown}",
    "asks{answered}",
    "asks{cancelled}",
    "gaps",
];

const GAUGES: &[&str] = &[
    "members{alive}",
    "members{suspect}",
    "members{dead}",
    "members{left}",
    "health_score",
    "gossip_queue",
    "links{up}",
    "links{dialling}",
    "links{accepted}",
    "links{parked}",
    "queue_bytes",
    "names{live}",
    "names{hint}",
    "names{gone}",
];

fn node() -> ClusterMachine {
    let key = StaticKey::from_secret([1; 32]);
    ClusterMachine::new(
        Instant::START,
        NodeParams {
            config: ClusterConfig::of(Profile::Lan, "demo"),
            schemas: schema::hashes(),
            key,
            session: Session(1),
            instance: Instance(7),
            addr: Addr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7_400, 7_400).expect("it is one"),
            meta: Meta::EMPTY,
            allowed: Arc::new(Allowed::Any),
            seeds: Vec::new(),
            choices: Choices::new(7),
            suite: Suite::Noise,
        },
    )
}

#[test]
fn every_counter_of_the_specification_is_there_at_0_from_the_start() {
    let status = report(Instant::START, &node());
    for name in BAD_INPUT.iter().chain(COUNTERS) {
        let count = status.counters.get(&format!("cluster_{name}"));
        assert_eq!(count, Some(&0), "{name} (C117, C120)");
    }
    assert!(status.counters.keys().all(|name| name.starts_with("cluster_")));
}

#[test]
fn every_gauge_and_histogram_of_the_specification_is_there() {
    let status = report(Instant::START, &node());
    let found: Vec<&str> = status.gauges.keys().map(String::as_str).collect();
    let mut expected: Vec<String> = GAUGES.iter().map(|name| format!("cluster_{name}")).collect();
    expected.sort();
    assert_eq!(found, expected, "C120");
    assert_eq!(status.gauges["cluster_members{alive}"], 1, "a node is a member of its cluster");
    let names: Vec<&str> = status.histograms.keys().map(String::as_str).collect();
    assert_eq!(names, ["cluster_handshake_seconds", "cluster_probe_rtt_seconds"]);
    for histogram in status.histograms.values() {
        assert_eq!((histogram.count, histogram.buckets.len()), (0, 16));
    }
}

/// A label of the machines without a name here would be shown as a bare number.
#[test]
fn every_label_that_the_machines_count_has_a_name() {
    let last = [
        (Labelled::HsReject, Code::Revoked as u8),
        (Labelled::FrameMalformed, FrameKind::Send as u8),
        (Labelled::Bounce, BounceCode::NoActor as u8),
        (Labelled::LinkDown, CloseReason::Silent as u8),
        (Labelled::Dials, u8::MAX),
        (Labelled::Rekeys, 1),
        (Labelled::MemberEvents, MemberEventKind::Dead(DeadCause::Revoked).number()),
        (Labelled::Sync, 2),
        (Labelled::Lookups, 1),
        (Labelled::Sends, 4),
        (Labelled::Asks, 6),
        (Labelled::StreamBytes, 5),
    ];
    assert_eq!(last.map(|(family, _)| family), Labelled::ALL);
    let mut counted = Counters::new();
    for (family, label) in last {
        counted.add_labelled(family, label, 1);
        let found = label_of(family, label).expect("it has a name");
        assert!(found.parse::<u8>().is_err(), "{family:?} {label} is shown as {found}");
    }
    let sum: u64 = counters(&counted).values().sum();
    assert_eq!(sum, Labelled::ALL.len() as u64, "none is counted twice");

    // A kind that no version has is shown by its number, and not lost.
    counted.add_labelled(Labelled::FrameMalformed, 0xEE, 3);
    assert_eq!(counters(&counted)["cluster_frame_malformed{238}"], 3);
}

#[test]
fn what_was_counted_is_what_is_shown() {
    let mut node = node();
    let source = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let conn = machines::cluster::ids::Conn(1);
    let entropy = machines::cluster::ids::Entropy([7; 64]);
    node.handle(Instant::START, Input::Accepted { conn, source, entropy });
    while node.poll().is_some() {}
    assert_eq!(report(Instant::START, &node).gauges["cluster_links{accepted}"], 1);
    let bytes = b"GET / HTTP/1.1\r\n".repeat(20);
    node.handle(Instant::START, Input::Bytes { conn, bytes });
    while node.poll().is_some() {}
    let status = report(Instant::START, &node);
    assert_eq!(status.counters["cluster_hs_bad_magic"], 1);
    assert_eq!(status.gauges["cluster_links{accepted}"], 0);
    assert_eq!(status.rejects.len(), 1, "the last rejects, with code and source (C121)");
    assert_eq!((status.rejects[0].code.as_str(), status.rejects[0].inbound), ("BadMagic", true));
}
