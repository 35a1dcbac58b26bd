//! Goal: every mark of C122 stands somewhere in the machines, so that a campaign can miss it.
//! Method: read the sources. `life.down_after_reconnect` comes with the remote lifecycle (R2).

use std::fs;
use std::path::Path;

const MARKS: [&str; 19] = [
    "swim.suspected",
    "swim.refuted",
    "swim.confirmed_to_min",
    "swim.revived",
    "swim.stalled",
    "swim.stream_ack",
    "sync.dead_notice",
    "link.parked",
    "link.superseded",
    "link.replaced",
    "link.redialled",
    "link.rekeyed",
    "link.lru_closed",
    "session.caught_up",
    "name.conflict",
    "name.hint_confirmed",
    "route.gap",
    "route.stale_ref",
    "hs.not_allowed",
];

fn read(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, text);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            text.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_mark_of_the_specification_can_be_hit() {
    let mut sources = String::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    for mark in MARKS {
        assert!(sources.contains(&format!("sometimes!(\"{mark}\"")), "no mark {mark} (C122)");
    }
    // One for each code of C23.
    let handshakes = sources.matches("sometimes!(\"hs.").count();
    assert_eq!(handshakes, crate::cluster::wire::Code::ALL.len());
}
