//! Goal: whoever makes a mistake is told on one line what is wrong, and scripts by an exit code.
//! Method: the real binary with one mistake at a time; exit code and the whole line are compared.

#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

mod process;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use process::{Process, keygen, lockstep};
use tempfile::TempDir;

/// A folder in which a node would start.
fn sound() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = keygen(folder.path());
    fs::write(folder.path().join("allowlist"), made.public).unwrap();
    folder
}

/// Serves with these arguments, which must fail; returns exit code and line.
fn serve(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = lockstep();
    command
        .current_dir(folder)
        .args(["serve", "--cluster", "demo", "--log", "off"])
        .args(arguments);
    if !arguments.contains(&"--bind") {
        command.args(["--bind", "127.0.0.1:0"]);
    }
    let output = command.output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.lines().count(), 1, "not one line: {line}");
    (output.status.code().unwrap(), line.trim_end().to_owned())
}

fn refused(folder: &Path, arguments: &[&str], code: i32, line: &str) {
    let (found, text) = serve(folder, arguments);
    assert_eq!((found, text.as_str()), (code, line));
}

#[test]
fn a_missing_key() {
    let folder = tempfile::tempdir().unwrap();
    refused(
        folder.path(),
        &[],
        4,
        "error: key file ./node.key: there is none; make one: lockstep keygen",
    );
}

#[test]
fn a_key_that_others_can_read() {
    let folder = sound();
    let key = folder.path().join("node.key");
    fs::set_permissions(key, fs::Permissions::from_mode(0o644)).unwrap();
    refused(
        folder.path(),
        &[],
        4,
        "error: key file ./node.key: its mode 0644 lets others use it; run: chmod 600 ./node.key",
    );
}

#[test]
fn a_key_file_that_holds_no_key() {
    let folder = sound();
    let key = folder.path().join("node.key");
    fs::write(key, "secret\n").unwrap();
    let (code, line) = serve(folder.path(), &[]);
    assert_eq!(code, 4);
    assert!(line.starts_with("error: key file ./node.key: "), "{line}");
    assert!(!line.contains("secret"), "a key must not be printed: {line}");
}

#[test]
fn a_key_is_not_overwritten() {
    let folder = sound();
    let before = fs::read(folder.path().join("node.key")).unwrap();
    let output = lockstep().current_dir(folder.path()).arg("keygen").output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: key file node.key: it exists and is not overwritten; choose another file with \
         --out\n"
    );
    assert_eq!(fs::read(folder.path().join("node.key")).unwrap(), before);
}

#[test]
fn an_address_in_use_by_tcp_or_udp() {
    let folder = sound();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for addr in [tcp.local_addr().unwrap(), udp.local_addr().unwrap()] {
        refused(
            folder.path(),
            &["--bind", &addr.to_string()],
            3,
            &format!("error: bind: {addr} is in use by another process"),
        );
    }
}

#[test]
fn a_folder_in_use() {
    let folder = sound();
    let path = folder.path().to_owned();
    let first = Process::serve(folder, &[]);
    let (code, line) = serve(&path, &[]);
    assert_eq!(code, 3);
    assert_eq!(line, format!("error: data: process {} uses the folder .", first.pid()));
}

#[test]
fn a_corrupt_session_file() {
    let folder = sound();
    fs::write(folder.path().join("node.session"), [7; 32]).unwrap();
    let (code, line) = serve(folder.path(), &[]);
    assert_eq!(code, 5);
    assert!(line.starts_with("error: SessionCorrupt: ./node.session "), "{line}");
    assert_eq!(fs::read(folder.path().join("node.session")).unwrap(), [7; 32], "evidence is kept");
}

#[test]
fn an_allowlist_with_a_wrong_line() {
    let folder = sound();
    let list = folder.path().join("allowlist");
    let good = fs::read_to_string(&list).unwrap();
    fs::write(&list, format!("# ours\n{good}\nabc\n")).unwrap();
    refused(
        folder.path(),
        &[],
        2,
        "error: allowlist ./allowlist, line 3: a key is 64 hexadecimal digits",
    );
}

#[test]
fn a_missing_allowlist() {
    let folder = sound();
    fs::remove_file(folder.path().join("allowlist")).unwrap();
    refused(
        folder.path(),
        &[],
        2,
        "error: allowlist ./allowlist: there is none; write one public key a line, or set \
         allow = \"any\"",
    );
}

#[test]
fn seeds_none_of_which_is_allowed() {
    let folder = sound();
    let seed = "521f8f5d132ea5fb81be5786a868d693@127.0.0.1:7400";
    refused(
        folder.path(),
        &["--seed", seed],
        2,
        &format!("error: seeds: {seed} is not on the allowlist, so this node could never join"),
    );
}

#[test]
fn a_seed_that_is_none() {
    let folder = sound();
    refused(
        folder.path(),
        &["--seed", "db"],
        2,
        "error: seeds: no port in \"db\"; expected \"host:port\" or \"NODEID@host:port\" (in the \
         command line)",
    );
}

#[test]
fn an_unknown_key_and_a_wrong_value_in_each_source() {
    let folder = sound();
    refused(
        folder.path(),
        &["--set", "peroid=1s"],
        2,
        "error: peroid: there is no such key; did you mean period? (in the command line)",
    );
    fs::write(folder.path().join("lockstep.toml"), "period = '10ms'\n").unwrap();
    let (code, line) = serve(folder.path(), &[]);
    assert_eq!(code, 2);
    assert!(
        line.starts_with("error: probe_timeout: probe_timeout + indirect_timeout must be <= 0.55"),
        "{line}"
    );
    fs::remove_file(folder.path().join("lockstep.toml")).unwrap();

    let output = lockstep()
        .current_dir(folder.path())
        .env("LOCKSTEP_PERIOD", "soon")
        .args(["serve", "--cluster", "demo"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: period: invalid value string \"soon\", expected a duration with its unit, like \
         \"200ms\" or \"1h\" (in LOCKSTEP_PERIOD)\n"
    );
}

/// A name may consist of digits, wherever it comes from.
#[test]
fn digits_are_text_for_keys_that_want_text() {
    let folder = sound();
    let missing = "key file 7/node.key: there is none; make one: lockstep keygen";
    fs::create_dir(folder.path().join("7")).unwrap();
    refused(
        folder.path(),
        &["--set", "cluster=42", "--data", "7"],
        4,
        &format!("error: {missing}"),
    );

    let output = lockstep()
        .current_dir(folder.path())
        .env("LOCKSTEP_CLUSTER", "42")
        .env("LOCKSTEP_DATA", "7")
        .env("LOCKSTEP_META", "true")
        .env("LOCKSTEP_HELPERS", "2")
        .arg("serve")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("error: {missing}\n"));
}

#[test]
fn a_duration_that_would_overflow() {
    let folder = sound();
    refused(
        folder.path(),
        &["--set", "keepalive=10000000000000000000s"],
        2,
        "error: keepalive: \"10000000000000000000s\" is too long; at most 365days (in the command \
         line)",
    );
}

/// A node that stopped before it had left is told as a failure, whatever it printed.
#[test]
fn leaving_that_did_not_come_to_its_end() {
    let folder = sound();
    let run = folder.path().join("run");
    fs::create_dir(&run).unwrap();
    let node = UnixListener::bind(run.join("control")).unwrap();
    let answers = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = node.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            assert_eq!(line, "{\"command\":\"leave\"}\n");
            stream.write_all(b"{\"ok\":{\"left\":false}}\n").unwrap();
        }
    });
    for arguments in [&["leave"][..], &["leave", "--json"]] {
        let output = lockstep().args(arguments).arg("--data").arg(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let line = "error: the node stopped before it had left: its peers will take it for dead\n";
        assert_eq!(String::from_utf8(output.stderr).unwrap(), line);
    }
    answers.join().unwrap();
}

/// That a socket cannot be reached does not say that nobody listens there.
#[test]
fn a_control_socket_that_cannot_be_reached() {
    let folder = sound();
    let data = folder.path().join("x".repeat(120));
    let output = lockstep().args(["status", "--data"]).arg(&data).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    let control = data.join("run").join("control");
    let expected = format!("error: the node did not answer: {}: ", control.display());
    assert!(line.starts_with(&expected), "{line}");
}

#[test]
fn a_run_folder_that_others_may_enter() {
    let folder = sound();
    let run = folder.path().join("run");
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
    refused(
        folder.path(),
        &[],
        1,
        "error: data: cannot use the folder ./run: its mode 0755 lets others use it; run: chmod \
         700 ./run",
    );
}

#[test]
fn usage_that_is_none() {
    let output = lockstep().arg("dance").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let help = lockstep().arg("--help").output().unwrap();
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("Exit codes: 0 ok;"), "{text}");
}

#[test]
fn asking_where_no_node_runs() {
    let folder = sound();
    for command in ["members", "status", "leave"] {
        let output = lockstep().args([command, "--data"]).arg(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            format!("error: no node runs on the data folder {}\n", folder.path().display())
        );
    }
}
