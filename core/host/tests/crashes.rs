//! Goal: whatever the real node has told survives the end of its process at any moment (L70–L72,
//! K428, K445).
//! Method: the real binary runs under the load of several clients and is killed with SIGKILL after
//! a random while, 200 times on one data folder. After each start, every command that was
//! acknowledged must have taken effect exactly once, and a client that retries what it is not sure
//! of must find it done or have it done now. The state root that each node has after it started
//! must be the one that the journal gives at that record once the node is dead.
//! Known limit: the operating system lives on, so what was written and not synced is there too; the
//! simulator's power cuts are for that.

#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

mod process;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use process::{keygen, lockstep};

/// How often the node is killed.
const KILLS: u64 = 200;
/// Clients at a time.
const CLIENTS: u64 = 4;

/// What a client did to one process, and was told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// It is submitted; nothing more is known.
    Submitted,
    /// This many calls were reserved and settled.
    Settled(u64),
    /// It is terminated.
    Ended,
}

/// What one client is sure of, and what it asked last without an answer.
#[derive(Debug, Default)]
struct Memory {
    sure: BTreeMap<String, Told>,
    unsure: Option<Value>,
}

struct Node {
    child: Child,
    data: PathBuf,
}

impl Node {
    fn start(data: &Path) -> Self {
        let log = File::options().create(true).append(true).open(data.join("log")).unwrap();
        let child = lockstep()
            .args(["serve", "--config"])
            .arg(data.join("lockstep.toml"))
            .arg("--data")
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, data: data.to_owned() }
    }

    /// Waits for the control socket.
    fn connect(&mut self) -> Client {
        let start = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(self.data.join("run/control")) {
                let read = BufReader::new(stream.try_clone().unwrap());
                return Client { write: stream, read };
            }
            let log = || std::fs::read_to_string(self.data.join("log")).unwrap();
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the node ended by itself: {status}; log:\n{}", log());
            }
            assert!(start.elapsed() < process::JOINED, "no node answers; log:\n{}", log());
            sleep(Duration::from_millis(3));
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

struct Client {
    write: UnixStream,
    read: BufReader<UnixStream>,
}

impl Client {
    /// Sends a line; nothing if the node ended before it answered.
    fn ask(&mut self, line: &Value) -> Option<Value> {
        let mut text = line.to_string();
        text.push('\n');
        self.write.write_all(text.as_bytes()).ok()?;
        let mut answer = String::new();
        self.read.read_line(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }

    /// Has a command decided: how many events it made, or the code of its refusal.
    fn decide(&mut self, body: &Value) -> Option<Result<usize, String>> {
        let answer = self.ask(&json!({ "kernel": { "user": "alice", "do": body } }))?;
        if let Some(events) = answer["ok"]["events"].as_array() {
            return Some(Ok(events.len()));
        }
        let code = answer["refused"]["code"].as_str();
        Some(Err(code.unwrap_or_else(|| panic!("an answer: {answer}")).to_owned()))
    }
}

fn submit(pid: &str) -> Value {
    json!({ "submit": { "pid": pid, "quota": { "max_llm_calls": 1_000 } } })
}

fn reserve(pid: &str, nth: u64) -> Value {
    json!({ "reserve": { "pid": pid, "reservation": format!("{pid}.{nth}"),
                         "amounts": { "llm_calls": 1 } } })
}

fn settle(pid: &str, nth: u64) -> Value {
    json!({ "settle": { "pid": pid, "reservation": format!("{pid}.{nth}"),
                        "actual": { "llm_calls": 1 } } })
}

fn terminate(pid: &str) -> Value {
    json!({ "terminate": { "pid": pid, "message": "done", "force": true } })
}

/// Works until the node is gone: each process is submitted, calls are reserved and settled, and it
/// is terminated.
fn work(
    mut client: Client,
    mut memory: Memory,
    name: &str,
    round: u64,
    end: &AtomicBool,
) -> Memory {
    for number in 0.. {
        let pid = format!("{name}-{round}-{number}");
        let mut steps = vec![(submit(&pid), Told::Submitted)];
        for nth in 1..=2 {
            steps.push((reserve(&pid, nth), Told::Settled(nth - 1)));
            steps.push((settle(&pid, nth), Told::Settled(nth)));
        }
        steps.push((terminate(&pid), Told::Ended));
        for (body, told) in steps {
            // Relaxed: it only ends the work.
            if end.load(Relaxed) {
                return memory;
            }
            match client.decide(&body) {
                Some(Ok(events)) => {
                    assert!(events > 0, "{body} is new and has an effect");
                    memory.sure.insert(pid.clone(), told);
                }
                Some(Err(code)) => panic!("{body} is refused {code}"),
                None => {
                    memory.unsure = Some(body);
                    return memory;
                }
            }
        }
    }
    memory
}

/// Checks that what was told is so, and that doing it again does nothing.
fn check(client: &mut Client, memory: &mut Memory) {
    if let Some(body) = memory.unsure.take() {
        // Done before or now: a retry of what has an id is safe (K6).
        let again = client.decide(&body).expect("the node answers");
        assert!(again.is_ok(), "{body}: {again:?}");
        assert_eq!(client.decide(&body), Some(Ok(0)), "{body} has taken effect once (K448)");
    }
    for (pid, told) in std::mem::take(&mut memory.sure) {
        assert_eq!(client.decide(&submit(&pid)), Some(Ok(0)), "{pid} is known (L70)");
        if let Told::Settled(nth @ 1..) = told {
            assert_eq!(client.decide(&settle(&pid, nth)), Some(Ok(0)), "{pid} was settled once");
        }
        let terminated = client.decide(&terminate(&pid)).expect("the node answers");
        match told {
            Told::Ended => assert_eq!(terminated, Ok(0), "{pid} has ended"),
            Told::Submitted | Told::Settled(_) => assert!(terminated.is_ok(), "{pid}"),
        }
    }
}

/// Asks a node where it is: the last record, and the root after it.
fn running_root(node: &mut Node) -> (u64, Value) {
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < process::JOINED, "no root is told");
        // While it starts it says so, and hangs up. While records are on their way to the disk
        // there is no root to tell.
        let answer = node.connect().ask(&json!({ "command": "kernel" }));
        let record = answer.as_ref().and_then(|answer| answer["ok"]["record"].as_u64());
        if let Some((record, answer)) = record.zip(answer) {
            return (record, answer["ok"]["root"].clone());
        }
        sleep(Duration::from_millis(1));
    }
}

/// Returns the root that the journal gives after a record while no node runs.
fn offline_root(data: &Path, record: u64) -> Value {
    let output = lockstep()
        .args(["journal", "root", "--json", "--at", &record.to_string(), "--config"])
        .arg(data.join("lockstep.toml"))
        .arg("--data")
        .arg(data)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["record"], record);
    told["root"].clone()
}

/// Bits that look random, to end the process at other moments each time.
fn scattered(round: u64) -> u64 {
    let mut bits = round.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits ^= bits >> 29;
    bits.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

#[test]
fn what_was_acknowledged_outlives_two_hundred_kills() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    keygen(data);
    let config = "cluster = 'crashes'\nbind = '127.0.0.1:0'\nallow = 'any'\nlog = 'warn'\n\
                  segment = '1MiB'\njournal_keep = '1s'\nsnapshot_records = 400\n";
    std::fs::write(data.join("lockstep.toml"), config).unwrap();
    let mut memories: Vec<Memory> = (0..CLIENTS).map(|_| Memory::default()).collect();
    let mut acknowledged = 0;

    for round in 0..KILLS {
        let mut node = Node::start(data);
        let (record, root) = running_root(&mut node);
        let mut first = node.connect();
        for memory in &mut memories {
            check(&mut first, memory);
        }
        let end = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = memories
            .drain(..)
            .zip(0_u64..)
            .map(|(memory, nth)| {
                let (client, end) = (node.connect(), Arc::clone(&end));
                let name = format!("c{nth}");
                thread::spawn(move || work(client, memory, &name, round, &end))
            })
            .collect();
        sleep(Duration::from_micros(scattered(round) % 40_000));
        node.kill();
        end.store(true, Relaxed);
        memories.extend(clients.into_iter().map(|client| client.join().unwrap()));
        acknowledged += memories.iter().map(|memory| memory.sure.len()).sum::<usize>();

        assert_eq!(offline_root(data, record), root, "round {round}, record {record} (L72, K428)");
    }

    let mut node = Node::start(data);
    let mut client = node.connect();
    for memory in &mut memories {
        check(&mut client, memory);
    }
    let (record, root) = running_root(&mut node);
    node.kill();
    assert_eq!(offline_root(data, record), root, "after the last load (L72)");
    assert!(acknowledged > 200, "only {acknowledged} processes were acknowledged");
}
