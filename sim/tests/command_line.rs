//! Goal: the commands around scenario files do what they say (T51, T82).
//! Method: the built program, in folders of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lockstep-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("scenarios")).expect("a temporary folder");
        Self(path)
    }

    fn sim(&self, arguments: &[&str]) -> Output {
        let folder = |name| self.0.join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep-sim"));
        command.arg("--scenarios").arg(folder("scenarios"));
        command.arg("--reports").arg(folder("reports"));
        command.args(arguments).output().expect("the program was built")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// T51: `new` writes a template, `list` shows it with its `about`, and it runs as it is.
#[test]
fn a_new_scenario_is_listed_and_runs_as_it_was_written() {
    let folder = Folder::new("new");
    let made = folder.sim(&["new", "my-own"]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let text = fs::read_to_string(folder.0.join("scenarios/my-own.toml")).unwrap();
    assert!(text.lines().filter(|line| line.contains('#')).count() > 20, "it is commented: {text}");

    let listed = folder.sim(&["list"]);
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    assert!(said(&listed).starts_with("my-own  Five nodes split 2/3"), "{listed:?}");

    let again = folder.sim(&["new", "my-own"]);
    assert_eq!(again.status.code(), Some(2), "what is there is not overwritten: {again:?}");

    let ran = folder.sim(&["run", "my-own", "--seeds", "1", "--no-shrink"]);
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    assert!(said(&ran).lines().any(|line| line.starts_with("my-own")), "{ran:?}");
    // T82: the report of the run is where it was asked for.
    let summary = fs::read_to_string(folder.0.join("reports/summary.md")).unwrap();
    assert!(summary.contains("| my-own | 1 | 1 | 0 | 0 | 1 |"), "{summary}");
}

/// T51, T50: one file that is wrong is named with its place, and nothing is listed or run.
#[test]
fn a_wrong_scenario_is_named_and_nothing_is_listed() {
    let folder = Folder::new("wrong");
    assert_eq!(folder.sim(&["new", "right"]).status.code(), Some(0));
    let path = folder.0.join("scenarios/wrong.toml");
    fs::write(&path, "name = \"wrong\"\nabout = \"x\"\nnodes = 0\nduration = \"1s\"\n").unwrap();
    for arguments in [&["list"][..], &["run"]] {
        let refused = folder.sim(arguments);
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(why.contains("wrong.toml:3:9"), "{why}");
        assert_eq!(said(&refused), "");
    }
}
