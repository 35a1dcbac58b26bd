//! Goal: a node that is told to stop leaves a clean journal, and says so at its next start (K363).
//! Method: the real binary and its signals; the journal is read by the real binary, too.

#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

mod process;

use std::fs;
use std::path::Path;

use process::{JOINED, Process, keygen, lockstep};
use serde_json::{Value, json};
use tempfile::TempDir;

fn stops(folder: &Path) -> Vec<String> {
    let output = lockstep().args(["journal", "cat", "--data"]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("kernel.stopped"));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_signal_leaves_a_clean_stop_and_the_next_start_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let made = keygen(folder.path());
    fs::write(folder.path().join("allowlist"), made.public).unwrap();
    let node = Process::serve(folder, &[]);
    assert_eq!(node.status()["kernel"]["state"], "running", "K365");
    let submit = r#"{"user":"alice","do":{"submit":{"pid":"p1"}}}"#;
    assert_eq!(node.run(&["kernel", submit]).0, 0);
    node.signal("TERM");
    let (code, folder) = node.stopped();
    assert_eq!(code, Some(0));
    let stopped = stops(folder.path());
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    assert!(stopped[0].contains("Stopped { preserve: true, clean: true }"), "{stopped:?}");

    let node = Process::serve(folder, &[]);
    let clean = "a clean stop";
    node.wait_for_log(JOINED, |line| line["before"] == clean);
    let (code, told) = node.run(&["kernel", submit]);
    assert_eq!(code, 0);
    assert!(told.contains("\"events\":[]"), "its processes go on: {told}");
    let folder = node.kill();
    let node = Process::serve(folder, &[]);
    node.wait_for_log(JOINED, |line| line["before"] == "no clean stop");
    assert_eq!(node.run(&["leave"]).0, 0);
    let (code, folder) = node.stopped();
    assert_eq!((code, stops(folder.path()).len()), (Some(0), 2), "`leave` is a stop, too");
}

/// A folder of a node that drains for a month, and for an hour if a worker is lost.
fn patient() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    keygen(folder.path());
    let config = "cluster = 'stopping'\nprofile = 'local'\nbind = '127.0.0.1:0'\nallow = 'any'\n\
                  log = 'info'\nlog_format = 'json'\n\
                  [kernel]\ndrain_ms = 2592000000\ntask_lease_ms = 3600000\n";
    fs::write(folder.path().join("lockstep.toml"), config).unwrap();
    folder
}

fn say(node: &Process, roles: &[&str], body: &Value) -> Value {
    let line = json!({ "user": "crew", "roles": roles, "do": body });
    let (code, text) = node.run(&["kernel", &line.to_string()]);
    assert_eq!(code, 0, "{line}");
    serde_json::from_str(&text).unwrap()
}

/// Begins a task, which is live until somebody completes it.
fn work(node: &Process) -> Value {
    let service = json!({ "register_service": { "name": "s", "service_type": "flow" } });
    let call =
        json!({ "service": "s", "method": "m", "queue": true, "try_timeout_ms": 86_400_000 });
    for body in [service, json!({ "dispatch": call })] {
        let told = say(node, &["worker"], &body);
        assert!(told["ok"].is_object(), "{told}");
    }
    let told = say(node, &["worker"], &json!({ "lease_tasks": { "service": "s" } }));
    told["ok"]["tasks"][0].clone()
}

fn drains(node: &Process) {
    node.wait(JOINED, "the drain", |node| node.status()["kernel"]["state"] == "draining");
}

/// K363: without the second signal this test would take an hour.
#[test]
fn a_second_signal_ends_a_node_that_drains() {
    let node = Process::serve(patient(), &[]);
    assert!(work(&node)["lease"].is_string());
    node.signal("TERM");
    drains(&node);
    node.signal("TERM");
    let (code, folder) = node.stopped();
    assert_eq!((code, stops(folder.path()).len()), (Some(0), 0), "it had not come to its stop");
    let node = Process::serve(folder, &[]);
    node.wait_for_log(JOINED, |line| line["before"] == "no clean stop");
}

/// K363, row 37 of K370: an operator shuts the node down, which waits for what is worked on; live
/// processes go on after the next start, or end.
#[test]
fn an_operator_shuts_a_node_down() {
    let node = Process::serve(patient(), &[]);
    let operator = |node: &Process, body: Value| say(node, &["operator"], &body);
    assert!(operator(&node, json!({ "submit": { "pid": "p" } }))["ok"].is_object());
    let task = work(&node);
    let told = say(&node, &["user"], &json!({ "shutdown": {} }));
    assert_eq!(told["refused"]["code"], "permission_denied");
    assert_eq!(node.status()["kernel"]["state"], "running", "that was refused");
    let told = operator(&node, json!({ "shutdown": {} }));
    assert_eq!(told["ok"]["events"][0]["kind"], "kernel.draining", "{told}");
    drains(&node);
    let done = json!({ "complete_task": { "lease": task["lease"], "success": true } });
    assert!(say(&node, &["worker"], &done)["ok"].is_object());
    let (code, folder) = node.stopped();
    let stopped = stops(folder.path());
    assert_eq!((code, stopped.len()), (Some(0), 1), "{stopped:?}");
    assert!(stopped[0].contains("Stopped { preserve: true, clean: true }"), "{stopped:?}");

    let node = Process::serve(folder, &[]);
    let get = json!({ "get_process": { "pid": "p" } });
    assert_eq!(operator(&node, get.clone())["ok"]["process"]["state"], "new", "it goes on");
    // Two that end, and work that is cut short at the deadline.
    assert!(operator(&node, json!({ "submit": { "pid": "q" } }))["ok"].is_object());
    work(&node);
    let shutdown = json!({ "shutdown": { "mode": "terminate", "deadline_ms": 50 } });
    assert!(operator(&node, shutdown)["ok"].is_object());
    let (code, folder) = node.stopped();
    let stopped = stops(folder.path());
    assert_eq!((code, stopped.len()), (Some(0), 2), "{stopped:?}");
    assert!(stopped[1].contains("Stopped { preserve: false, clean: false }"), "{stopped:?}");
    let node = Process::serve(folder, &[]);
    let process = operator(&node, get)["ok"]["process"].clone();
    let ended = (&process["state"], &process["terminal_reason"]);
    assert_eq!(ended, (&json!("terminated"), &json!("kernel_shutdown")));
}
