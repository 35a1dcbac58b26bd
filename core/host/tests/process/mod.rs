//! Processes of the real binary, each in a folder of its own, on ports that the system chooses.
#![allow(dead_code)] // Each test file uses its part.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a node to join, on a machine that does many other things.
pub(crate) const JOINED: Duration = Duration::from_secs(60);
/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What `keygen` prints.
pub(crate) struct Made {
    /// The node's id.
    pub(crate) node: String,
    /// Its public key.
    pub(crate) public: String,
}

/// A running node.
pub(crate) struct Process {
    child: Child,
    folder: Option<TempDir>,
}

/// Nodes that trust each other and join through the first.
pub(crate) struct Cluster {
    /// The nodes, in the order of their start.
    pub(crate) nodes: Vec<Process>,
    made: Vec<Made>,
}

/// Returns the binary under test, without anything from this process's environment.
pub(crate) fn lockstep() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LOCKSTEP_")) {
        command.env_remove(name);
    }
    command
}

/// Makes a key in `folder`.
pub(crate) fn keygen(folder: &Path) -> Made {
    let out = folder.join("node.key");
    let output = lockstep().args(["keygen", "--json", "--out"]).arg(out).output().unwrap();
    assert!(output.status.success(), "keygen failed");
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |key: &str| made[key].as_str().expect("a text").to_owned();
    Made { node: text("node"), public: text("public_key") }
}

impl Cluster {
    /// Starts `count` nodes.
    pub(crate) fn of(count: usize) -> Self {
        let folders: Vec<TempDir> = (0..count).map(|_| tempfile::tempdir().unwrap()).collect();
        let made: Vec<Made> = folders.iter().map(|folder| keygen(folder.path())).collect();
        let keys: Vec<&str> = made.iter().map(|made| made.public.as_str()).collect();
        for folder in &folders {
            fs::write(folder.path().join("allowlist"), keys.join("\n")).unwrap();
        }
        let mut nodes: Vec<Process> = Vec::new();
        for folder in folders {
            let seeds = nodes.first().map(|first| ("seeds", first.addr()));
            nodes.push(Process::serve(folder, seeds.as_slice()));
        }
        Self { nodes, made }
    }

    /// Lists the nodes' ids, in the order of their start.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.made.iter().map(|made| made.node.clone()).collect()
    }

    /// Lists the nodes' public keys, in the order of their start.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.made.iter().map(|made| made.public.clone()).collect()
    }

    /// Makes the folder of one more node, that trusts `keys`.
    pub(crate) fn folder_trusting(&self, keys: &[String]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        keygen(folder.path());
        fs::write(folder.path().join("allowlist"), keys.join("\n")).unwrap();
        folder
    }
}

impl Process {
    /// Returns the id of the process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts a node on `folder` with the local profile, and waits until it answers.
    ///
    /// Its configuration is kept in the folder, so that a restart has the same.
    pub(crate) fn serve(folder: TempDir, keys: &[(&str, String)]) -> Self {
        let config = folder.path().join("lockstep.toml");
        if !config.exists() {
            let mut text = String::from(
                "cluster = 'story'\nprofile = 'local'\nbind = '127.0.0.1:0'\nlog = 'debug'\n\
                 log_format = 'json'\nbackoff_long = '10s'\nsegment = '1MiB'\n",
            );
            for (key, value) in keys {
                text.push_str(&format!("{key} = '{value}'\n"));
            }
            fs::write(&config, text).unwrap();
        }
        let log =
            File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        let child = lockstep()
            .args(["serve", "--config"])
            .arg(&config)
            .arg("--data")
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let process = Self { child, folder: Some(folder) };
        process.wait(JOINED, "the node to answer", |node| node.run(&["status", "--json"]).0 == 0);
        process
    }

    /// Returns the node's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.as_ref().expect("only the end takes it").path()
    }

    /// Runs a command of the same binary against this node; returns exit code and output.
    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = lockstep().args(arguments).arg("--data").arg(self.folder()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let code = output.status.code().expect("it ends by itself");
        (code, text.trim_end().to_owned())
    }

    /// Returns the status.
    pub(crate) fn status(&self) -> Value {
        let (code, text) = self.run(&["status", "--json"]);
        assert_eq!(code, 0, "no status; log:\n{}", self.log());
        serde_json::from_str(&text).unwrap()
    }

    /// Returns the node's id.
    pub(crate) fn id(&self) -> String {
        self.status()["id"].as_str().expect("a text").to_owned()
    }

    /// Returns where the node listens.
    pub(crate) fn addr(&self) -> String {
        self.status()["addr"].as_str().expect("a text").to_owned()
    }

    /// Returns the membership table.
    pub(crate) fn members(&self) -> Vec<Value> {
        let (code, text) = self.run(&["members", "--json"]);
        assert_eq!(code, 0, "no members; log:\n{}", self.log());
        serde_json::from_str(&text).unwrap()
    }

    /// Returns the row of a node.
    pub(crate) fn row(&self, id: &str) -> Option<Value> {
        self.members().into_iter().find(|row| row["id"] == id)
    }

    /// Returns the state of a node.
    pub(crate) fn state_of(&self, id: &str) -> Option<String> {
        Some(self.row(id)?["state"].as_str().expect("a text").to_owned())
    }

    /// Lists the ids of all members that are alive, in order.
    pub(crate) fn alive(&self) -> Vec<String> {
        let alive = self.members().into_iter();
        let alive = alive.filter(|row| row["state"] == "alive");
        alive.map(|row| row["id"].as_str().expect("a text").to_owned()).collect()
    }

    /// Waits until `seen` is true; `patience` is met by a failure only.
    pub(crate) fn wait(&self, patience: Duration, what: &str, seen: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !seen(self) {
            assert!(
                start.elapsed() < patience,
                "waited in vain for {what}; members: {:#?}; log:\n{}",
                self.run(&["members"]).1,
                self.log()
            );
            sleep(LOOK);
        }
    }

    /// Waits for a log line.
    pub(crate) fn wait_for_log(&self, patience: Duration, is_it: impl Fn(&Value) -> bool) -> Value {
        let find = || {
            let log = self.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            lines.into_iter().find(&is_it)
        };
        self.wait(patience, "a log line", |_| find().is_some());
        find().expect("it was there a moment ago")
    }

    /// Returns everything that was logged.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        let log = File::open(self.folder().join("log"));
        log.unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Kills the process like a power cut, and returns its folder.
    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.folder.take().expect("it is taken once")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success(), "the signal was not sent");
    }

    /// Waits until the process has ended by itself, and returns its exit code.
    pub(crate) fn ended(self) -> Option<i32> {
        self.stopped().0
    }

    /// Waits until the process has ended by itself, and returns its exit code and folder.
    pub(crate) fn stopped(mut self) -> (Option<i32>, TempDir) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.folder.take().expect("it is taken once"));
            }
            assert!(start.elapsed() < JOINED, "it runs on; log:\n{}", self.log());
            sleep(LOOK);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
