//! Goal: who follows the events of the real node finds every number exactly once, whatever happens
//! to the node, and is told when it stops (K331–K333, K444).
//! Method: the real binary over its control socket and its command line; killed with SIGKILL under
//! load, started again on its folder; the reader goes on with the last number that it has.

#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

mod process;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use process::{JOINED, Process, keygen, lockstep};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How often the node is killed.
const KILLS: usize = 5;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    keygen(folder.path());
    let config = "cluster = 'events'\nbind = '127.0.0.1:0'\nallow = 'any'\nlog = 'warn'\n\
                  segment = '1MiB'\nsnapshot_records = 50\n";
    fs::write(folder.path().join("lockstep.toml"), config).unwrap();
    folder
}

/// A connection to the control socket: what is written, and what is read.
type Line = (UnixStream, BufReader<UnixStream>);

fn connect(data: &Path) -> Line {
    let stream = UnixStream::connect(data.join("run/control")).unwrap();
    stream.set_read_timeout(Some(JOINED)).unwrap();
    (stream.try_clone().unwrap(), BufReader::new(stream))
}

/// Submits processes until the node is gone.
fn load(data: &Path, round: usize) {
    let (mut write, mut read) = connect(data);
    for number in 0.. {
        let pid = format!("p-{round}-{number}");
        let line = json!({ "kernel": { "user": "alice", "do": { "submit": { "pid": pid } } } });
        let mut answer = String::new();
        let sent = writeln!(write, "{line}").and_then(|()| read.read_line(&mut answer));
        if sent.is_err() || answer.is_empty() {
            return;
        }
    }
}

/// Follows from `last` on until `enough` or the end; every number is the next one.
fn follow((mut write, mut read): Line, last: &mut u64, enough: u64) -> Option<Value> {
    let wanted = json!({ "user": "ops", "roles": ["operator"], "from": *last, "follow": true });
    writeln!(write, "{}", json!({ "events": wanted })).ok()?;
    while *last < enough {
        let mut line = String::new();
        if read.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let value: Value = serde_json::from_str(&line).ok()?;
        let Some(event) = value.get("event") else {
            return Some(value);
        };
        assert_eq!(event["number"], *last + 1, "none twice, none missing: {event}");
        *last += 1;
    }
    None
}

#[test]
fn every_number_comes_once_through_kills_and_restarts() {
    let mut folder = folder();
    let mut last = 0;
    for round in 0..KILLS {
        let node = Process::serve(folder, &[]);
        let data = node.folder().to_owned();
        let loading = thread::spawn({
            let data = data.clone();
            move || load(&data, round)
        });
        // The first part while the node lives; the rest is cut off by its end.
        let aim = last + 60;
        assert_eq!(follow(connect(&data), &mut last, aim), None);
        let connection = connect(&data);
        let cut = thread::spawn(move || {
            assert_eq!(follow(connection, &mut last, u64::MAX), None, "it ends without a word");
            last
        });
        thread::sleep(std::time::Duration::from_millis(20));
        folder = node.kill();
        last = cut.join().unwrap();
        loading.join().unwrap();
    }
    let node = Process::serve(folder, &[]);
    let (code, all) = node.run(&["kernel", "events"]);
    assert_eq!(code, 0);
    let numbers: Vec<u64> =
        all.lines().map(|line| json_of(line)["number"].as_u64().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "all from the first on");
    let there = numbers.len() as u64;
    assert!(last <= there, "what was told of is there: {last} of {there}");
    assert!(last >= 60 * KILLS as u64);
    assert_eq!(follow(connect(node.folder()), &mut last, there), None);
    assert_eq!(last, there);
}

fn json_of(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn filters_keep_numbers_and_wrong_cursors_are_refused() {
    let node = Process::serve(folder(), &[]);
    let submit = |user: &str, pid: &str| {
        let line = json!({ "user": user, "do": { "submit": { "pid": pid } } });
        assert_eq!(node.run(&["kernel", &line.to_string()]).0, 0);
    };
    submit("alice", "a");
    submit("bob", "b");
    submit("alice", "c");
    let events = |arguments: &[&str]| -> Vec<Value> {
        let (code, text) = node.run(&[&["kernel", "events"], arguments].concat());
        assert_eq!(code, 0);
        text.lines().map(json_of).collect()
    };
    let numbers = |arguments: &[&str]| -> Vec<u64> {
        events(arguments).iter().map(|event| event["number"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(&[]), [1, 2, 3, 4]);
    assert_eq!(numbers(&["--from", "2"]), [3, 4]);
    assert_eq!(numbers(&["--user", "alice"]), [2, 4]);
    assert_eq!(numbers(&["--pid", "b"]), [3]);
    assert_eq!(numbers(&["--kind", "kernel."]), [1]);
    assert_eq!(numbers(&["--kind", "process.", "--user", "alice", "--brief"]), [2, 4]);
    assert_eq!(numbers(&["--session", "nobody-knows"]), [0_u64; 0]);
    assert_eq!(events(&["--pid", "b"])[0]["kind"], "process.created");
    let output = lockstep()
        .args(["kernel", "events", "--from", "5", "--data"])
        .arg(node.folder())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("cursor 5 is beyond the last event, 4"), "{told}");
}

#[test]
fn who_follows_is_told_that_the_node_stops() {
    let node = Process::serve(folder(), &[]);
    let mut child = lockstep()
        .args(["kernel", "events", "--from", "0", "--follow", "--data"])
        .arg(node.folder())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(json_of(&line)["kind"], "kernel.started");
    node.signal("TERM");
    assert!(child.wait().unwrap().success(), "a clean end");
    assert_eq!(node.ended(), Some(0));
}
