//! Goal: `lockstep doctor` and `lockstep journal` tell a sound ledger from a damaged one, say what
//! is wrong where, leave everything as it is, and salvage what can be read (L18, L31–L36, L72).
//! Method: ledgers that the real machines wrote on real files, damaged by hand; the real binary,
//! whose whole output is compared.

#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

mod book;
mod process;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use book::Book;
use host::ledger::Ledger;
use process::lockstep;
use serde_json::Value;

/// Runs a command in `folder`; returns exit code, output and errors.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = lockstep().current_dir(folder).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs a command that must succeed.
fn told(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, errors) = run(folder, arguments);
    assert_eq!((code, errors.as_str()), (0, ""), "{out}");
    out
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Everything in a folder, except who held the lock last.
fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.ends_with("LOCK") => {}
                false => {
                    found.insert(path.display().to_string(), fs::read(&path).unwrap());
                }
            }
        }
    }
    found
}

/// Ten records in two segments, and a snapshot in the middle.
fn sound() -> Book {
    let mut book = Book::new();
    book.append(4);
    book.snapshot();
    book.append(2);
    book.stop();
    book.open();
    book.append(4);
    book.stop();
    book
}

/// Lines of a report that do not depend on the machine.
fn steady(report: &str) -> String {
    let lines = report.lines().filter(|line| !line.starts_with("free "));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_sound_ledger_is_told_in_full_and_left_alone() {
    let book = sound();
    fs::write(book.path().join("journal/notes.txt"), "mine").unwrap();
    fs::write(book.path().join("snapshots/1.snap"), "mine").unwrap();
    let before = content(book.path());
    let report = told(book.path(), &["doctor"]);
    let (head, root) = &book.heads[10];
    assert!(report.lines().any(|line| line.starts_with("free        ")), "{report}");
    assert_eq!(
        steady(&report),
        format!(
            "data        .\n\
             node        07070707070707070707070707070707 (by its journal)\n\
             journal     records 1 to 10, 2 segments, 2 MiB\n\
             head        {}\n\
             snapshot    4 {}, equal after replay\n\
             state       10 {root}\n\
             start       from snapshot 4, up to 10\n\
             not ours    journal/notes.txt\n\
             not ours    snapshots/1.snap\n\
             note        spare files: 1; the next start removes them\n\
             sound\n",
            hex(&head.hash),
            book.heads[4].1,
        )
    );
    let value = json(&told(book.path(), &["doctor", "--json"]));
    assert_eq!(value["problems"], Value::Array(Vec::new()));
    assert_eq!(value["state"]["root"], root.as_str());
    assert_eq!(value["snapshots"][0]["replayed"], true);
    assert_eq!(content(book.path()), before, "L18, L33: nothing is changed");
}

/// L72: the root after any record is what the running kernel had, with and without a snapshot.
#[test]
fn the_root_after_every_record_is_the_running_nodes() {
    let book = sound();
    for (record, (head, root)) in book.heads.iter().enumerate().skip(1) {
        let at = record.to_string();
        let out = told(book.path(), &["journal", "root", "--at", &at]);
        assert_eq!(out, format!("{record} {root}\n"));
        if record == 4 || record == 10 {
            let value = json(&told(book.path(), &["journal", "root", "--at", &at, "--json"]));
            assert_eq!(value["head"], hex(&head.hash));
            assert_eq!(value["snapshot"], 4);
        }
    }
    assert_eq!(told(book.path(), &["journal", "root"]), format!("10 {}\n", book.heads[10].1));
    fs::remove_file(book.snapshot_file(4)).unwrap();
    assert_eq!(told(book.path(), &["journal", "root"]), format!("10 {}\n", book.heads[10].1));
    let (code, _, line) = run(book.path(), &["journal", "root", "--at", "11"]);
    assert_eq!(
        (code, line.as_str()),
        (1, "error: journal: there is no record 11; the last one is 10\n")
    );
}

#[test]
fn records_are_printed_with_their_events() {
    let book = sound();
    let out = told(book.path(), &["journal", "cat", "--from", "9"]);
    let lines: Vec<&str> = out.lines().collect();
    let short = |record: usize| hex(&book.heads[record].0.hash)[..16].to_owned();
    assert_eq!(lines.len(), 4, "{out}");
    assert_eq!(lines[0], format!("9 2025-06-15T15:06:40.009Z 1 event {}", short(9)));
    assert!(
        lines[1].starts_with("    kernel.started Kernel { event: Started { epoch: 9, "),
        "{out}"
    );
    assert_eq!(lines[2], format!("10 2025-06-15T15:06:40.010Z 1 event {}", short(10)));

    let out = told(book.path(), &["journal", "cat", "--json"]);
    let records: Vec<Value> = out.lines().map(json).collect();
    assert_eq!(records.len(), 10);
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record["record"], at + 1);
        assert_eq!(record["hash"], hex(&book.heads[at + 1].0.hash));
        assert_eq!(record["events"][0]["kind"], "kernel.started");
        assert_eq!(record["events"][0]["time_ms"], record["time_ms"]);
    }
}

#[test]
fn the_chain_is_verified_and_a_torn_tail_is_no_damage() {
    let mut book = sound();
    let head = hex(&book.heads[10].0.hash);
    assert_eq!(
        told(book.path(), &["journal", "verify"]),
        format!("sound: records 1 to 10, 2 segments\nhead 10 {head}\n")
    );

    // A record that a crash cut short, where nothing says that it was acknowledged.
    book.open();
    book.append(1);
    book.crash();
    let (first, _, at, length) = *book.places().last().unwrap();
    let mut bytes = fs::read(book.segment(first)).unwrap();
    bytes[at + length - 40..at + length].fill(0);
    fs::write(book.segment(first), bytes).unwrap();
    assert_eq!(
        told(book.path(), &["journal", "verify"]),
        format!(
            "sound: records 1 to 10, 3 segments\nhead 10 {head}\n\
             torn journal/00000000000000000011.seg: at byte {at}, where record 11 would be\n"
        )
    );
    let report = told(book.path(), &["doctor"]);
    assert!(report.contains("note        journal/00000000000000000011.seg: at byte "), "{report}");
    book.heads.pop();
    let value = json(&told(book.path(), &["journal", "verify", "--json"]));
    assert_eq!(value["torn"]["record"], 11);
    assert_eq!(value["last"], 10);
}

/// L33: named are file, offset, record, and how many acknowledged records are at stake.
#[test]
fn rot_in_an_acknowledged_record_is_told_and_nothing_is_changed() {
    let book = sound();
    let (first, at) = book.rot(8);
    let before = content(book.path());
    let line = format!(
        "journal/{first:020}.seg: at byte {at}: record 8 is damaged; at least 3 acknowledged \
         records are at stake"
    );
    for command in ["verify", "root", "cat"] {
        let (code, _, errors) = run(book.path(), &["journal", command]);
        assert_eq!((code, errors), (5, format!("error: {line}\n")));
    }
    let (code, report, errors) = run(book.path(), &["doctor"]);
    assert_eq!((code, errors.as_str()), (5, "error: the ledger is not sound: 1 problem\n"));
    assert!(report.contains("journal     records 1 to 7, "), "{report}");
    assert!(report.contains(&format!("start       refused: {line}\n")), "{report}");
    assert!(report.contains(&format!("PROBLEM     {line}\n")), "{report}");
    assert_eq!(content(book.path()), before);

    // What comes before was printed.
    let (_, out, _) = run(book.path(), &["journal", "cat", "--json"]);
    assert_eq!(out.lines().count(), 7);
}

/// L34, and a snapshot that the records before it do not lead to.
#[test]
fn gaps_foreign_files_and_unequal_snapshots_have_messages_of_their_own() {
    let mut book = sound();
    book.open();
    book.append(2);
    book.stop();
    fs::remove_file(book.segment(7)).unwrap();
    let (code, _, errors) = run(book.path(), &["journal", "verify"]);
    assert_eq!(code, 5);
    assert!(errors.contains("records 7 to 10 are "), "{errors}");

    let book = sound();
    let mut other = Book::new();
    other.append(1);
    other.stop();
    let header = fs::read(other.segment(1)).unwrap();
    let mut bytes = header.clone();
    bytes[8] ^= 1; // Another node: the hash of the header does not hold either.
    fs::write(book.segment(7), &bytes).unwrap();
    let (code, _, errors) = run(book.path(), &["journal", "verify"]);
    assert_eq!(code, 5);
    assert!(errors.contains("journal/00000000000000000007.seg: the header is damaged"), "{errors}");

    bytes[4] = 9;
    fs::write(book.segment(7), &bytes).unwrap();
    let (code, _, errors) = run(book.path(), &["journal", "verify"]);
    assert_eq!(code, 5);
    assert!(errors.contains("format 9 is of a later release: upgrade needed"), "{errors}");

    // A snapshot of another history under a name of this one.
    let book = sound();
    let mut other = Book::new();
    other.append_raw(vec![9, 9, 1, 0, 1, 0, 0, 0, 77]);
    other.append(3);
    other.snapshot();
    other.crash();
    fs::copy(other.snapshot_file(4), book.snapshot_file(4)).unwrap();
    let (code, report, _) = run(book.path(), &["doctor"]);
    assert_eq!(code, 5);
    assert!(
        report.contains("BAD: the record that it was made of has another hash here"),
        "{report}"
    );
}

/// L30, L36: what a node does not start on is not passed over by who asks what it would start on.
#[test]
fn a_snapshot_of_another_node_is_refused_as_a_node_would() {
    let book = sound();
    assert_eq!(run(book.path(), &["keygen"]).0, 0);
    let (code, _, errors) = run(book.path(), &["journal", "root"]);
    assert_eq!(code, 5, "{errors}");
    let line = errors.trim_end().strip_prefix("error: ").unwrap();
    assert!(line.starts_with("snapshot of record 4: "), "{line}");
    let (code, report, _) = run(book.path(), &["doctor"]);
    assert_eq!(code, 5);
    assert!(report.contains(&format!("start       refused: {line}\n")), "{report}");
}

/// L36: what a later release wrote is told as that, and shown as bytes.
#[test]
fn an_unknown_event_needs_an_upgrade_and_can_still_be_printed() {
    let mut book = Book::new();
    book.append(1);
    book.append_raw(vec![9, 9, 1, 0, 1, 0, 0, 0, 77]);
    book.crash();
    let (code, _, errors) = run(book.path(), &["journal", "root"]);
    let line = "error: journal: record 2: upgrade needed: event tag 2313 is unknown\n";
    assert_eq!((code, errors.as_str()), (5, line));
    let (code, report, _) = run(book.path(), &["doctor"]);
    assert_eq!(code, 5, "{report}");
    let out = told(book.path(), &["journal", "cat", "--from", "2"]);
    let shown = "    tag 2313 version 1 1 bytes 4d (upgrade needed: event tag 2313 is unknown)";
    assert_eq!(out.lines().nth(1), Some(shown));
    let value = json(&told(book.path(), &["journal", "cat", "--from", "2", "--json"]));
    assert_eq!(value["events"][0]["bytes"], "4d");
}

/// L2: a ledger that changes while it is read would look damaged.
#[test]
fn a_ledger_in_use_is_not_examined() {
    let mut book = Book::new();
    book.append(1);
    let line = format!("error: data: process {} uses the folder .\n", std::process::id());
    for arguments in [&["doctor"][..], &["journal", "cat"], &["journal", "verify"]] {
        let (code, _, errors) = run(book.path(), arguments);
        assert_eq!((code, &errors), (3, &line));
    }
    book.stop();
    told(book.path(), &["doctor"]);
}

#[test]
fn a_folder_without_a_ledger_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, errors) = run(folder.path(), &["doctor"]);
    assert_eq!(code, 1);
    assert_eq!(errors, "error: there is no ledger in the data folder .\n");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "and makes none");
}

/// Damage behind the newest snapshot: the state ends before it, and the rest can be looked at.
#[test]
fn salvage_keeps_all_that_can_be_read_and_says_what_is_lost() {
    let book = sound();
    book.rot(8);
    let before = content(book.path());
    let (code, out, _) = run(book.path(), &["doctor", "--salvage", "saved"]);
    assert_eq!(code, 5, "the ledger itself is as it was");
    let told_of = out.split("\n\n").nth(1).unwrap();
    assert_eq!(
        told_of,
        "salvaged    saved\n\
         records     1 to 7\n\
         snapshot    4\n\
         state       a node starts on it with the state after record 7\n\
         loose       9 to 10: readable, not in the state: loose-00000000000000000009\n\
         LOST        record 8\n\
         known       up to record 10\n"
    );
    let saved = book.path().join("saved");
    let report = told(&saved, &["doctor"]);
    assert!(report.contains(&format!("state       7 {}\n", book.heads[7].1)), "{report}");
    assert!(report.contains("start       from snapshot 4, up to 7\n"), "{report}");
    let loose = saved.join("loose-00000000000000000009");
    let out = told(&loose, &["journal", "cat", "--json"]);
    let numbers: Vec<Value> = out.lines().map(|line| json(line)["record"].clone()).collect();
    assert_eq!(numbers, [9, 10]);

    let after = content(book.path());
    let kept = after.into_iter().filter(|(path, _)| !path.contains("/saved/"));
    assert_eq!(kept.collect::<BTreeMap<_, _>>(), before, "never in place");
    let (code, _, errors) = run(book.path(), &["doctor", "--salvage", "saved"]);
    assert_eq!(code, 1, "nor over an earlier one: {errors}");
}

/// Damage before the newest snapshot costs history, and no state.
#[test]
fn salvage_goes_on_from_a_snapshot_behind_the_damage() {
    let book = sound();
    book.rot(2);
    let (_, out, _) = run(book.path(), &["doctor", "--salvage", "saved", "--json"]);
    let value = &json(&out)["salvaged"];
    assert_eq!(value["state"], 10);
    assert_eq!(value["records"], serde_json::json!([3, 10]));
    assert_eq!(value["lost"], serde_json::json!([[2, 2]]));
    assert_eq!(value["loose"][0]["last"], 1);
    let saved = book.path().join("saved");
    assert_eq!(told(&saved, &["journal", "root"]), format!("10 {}\n", book.heads[10].1));
    told(&saved, &["doctor"]);
}

/// A snapshot whose journal is gone is still a state to start from.
#[test]
fn salvage_of_a_snapshot_alone_starts() {
    let book = sound();
    fs::remove_dir_all(book.path().join("journal")).unwrap();
    let (code, report, _) = run(book.path(), &["doctor", "--salvage", "saved"]);
    assert_eq!(code, 5, "no node starts on it as it is: {report}");
    let saved = book.path().join("saved");
    assert_eq!(told(&saved, &["journal", "root"]), format!("4 {}\n", book.heads[4].1));
    told(&saved, &["doctor"]);
}

/// Without a sound snapshot nor record 1, all that is left can only be looked at.
#[test]
fn salvage_without_a_state_says_so() {
    let book = sound();
    book.rot(1);
    let mut bytes = fs::read(book.snapshot_file(4)).unwrap();
    bytes[60] ^= 1;
    fs::write(book.snapshot_file(4), bytes).unwrap();
    let (code, out, _) = run(book.path(), &["doctor", "--salvage", "saved", "--json"]);
    assert_eq!(code, 5);
    let value = &json(&out)["salvaged"];
    assert_eq!(value["state"], 0);
    assert_eq!(value["records"], Value::Null);
    assert_eq!(value["lost"], serde_json::json!([[1, 1]]));
    let loose = "loose-00000000000000000002";
    let range = serde_json::json!([{ "folder": loose, "first": 2, "last": 10 }]);
    assert_eq!(value["loose"], range, "one chain, though it stands in two segments");
    let out = told(&book.path().join("saved").join(loose), &["journal", "verify"]);
    assert!(out.starts_with("sound: records 2 to 10, 2 segments\n"), "{out}");
    assert_eq!(value["bad_snapshots"].as_array().unwrap().len(), 1);
}

/// L33, L71, L72: whatever byte is damaged, what is salvaged is sound, and its state is one that
/// the running node had; and damage that costs a record is never overlooked.
#[test]
fn whatever_byte_is_damaged_what_is_salvaged_is_a_state_that_there_was() {
    let book = sound();
    let out = book.path().join("saved");
    let no_key = Path::new("/nowhere");
    let mut states = BTreeMap::new();
    for file in [book.segment(1), book.segment(7), book.snapshot_file(4)] {
        let good = fs::read(&file).unwrap();
        let used = good.iter().rposition(|byte| *byte != 0).unwrap();
        for at in (0..=used).step_by(used / 24) {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&file, bad).unwrap();
            let ledger = Ledger::open(book.path(), no_key).unwrap();
            let report = ledger.examine().unwrap();
            let salvaged = ledger.salvage(&out).unwrap();
            drop(ledger);
            let saved = Ledger::open(&out, no_key).unwrap();
            let sound = saved.examine().unwrap();
            assert!(sound.problems.is_empty(), "byte {at} of {file:?}: {:?}", sound.problems);
            let state = usize::try_from(salvaged.state).unwrap();
            let root = saved.root(None).unwrap().root().to_string();
            assert_eq!(root, book.heads[state].1, "byte {at} of {file:?}");
            // What says that records are durable may go, and no record with it.
            let harmless = state == 10 && salvaged.lost.is_empty();
            let harmless = harmless && salvaged.bad_snapshots.is_empty();
            let told = !report.problems.is_empty();
            assert!(told || harmless, "byte {at} of {file:?} is overlooked");
            assert!(
                salvaged.lost.iter().all(|(first, last)| first == last),
                "{at} {file:?} {salvaged:?}"
            );
            *states.entry(state).or_insert(0) += 1;
            fs::remove_dir_all(&out).unwrap();
        }
        fs::write(&file, good).unwrap();
    }
    assert!(states.len() > 3, "damage in many places: {states:?}");
}
