//! Goal: a node that is told to stop leaves a clean journal, and says so at its next start (K363).
//! Method: the real binary and its signals; the journal is read by the real binary, too.

#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

mod process;

use std::fs;
use std::path::Path;

use process::{JOINED, Process, keygen, lockstep};

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
