//! Goal: the real node drives pipelines to their end by workers of a service, through a SIGKILL,
//! and shows what happens; an agent is answered when it has ended, or when somebody is asked (K290,
//! K291, K393).
//! Method: the real binary over its command line; a worker in the test takes tasks and ends them.

#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

mod process;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use process::{JOINED, Process, keygen};
use serde_json::{Value, json};
use tempfile::TempDir;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    keygen(folder.path());
    let config = "cluster = 'driven'\nbind = '127.0.0.1:0'\nallow = 'any'\nlog = 'warn'\n";
    fs::write(folder.path().join("lockstep.toml"), config).unwrap();
    folder
}

/// Has a command decided; returns what was answered.
fn say(node: &Process, user: &str, roles: &[&str], body: &Value) -> Value {
    let line = json!({ "user": user, "roles": roles, "do": body });
    let (code, text) = node.run(&["kernel", &line.to_string()]);
    assert_eq!(code, 0, "{line}");
    serde_json::from_str(&text).unwrap()
}

fn alice(node: &Process, body: &Value) -> Value {
    say(node, "alice", &["user"], body)
}

fn worker(node: &Process, body: &Value) -> Value {
    say(node, "crew", &["worker"], body)
}

fn serve(node: &Process) {
    let info = json!({ "register_service": { "name": "flow_service", "service_type": "flow" } });
    assert!(worker(node, &info)["ok"].is_object());
}

/// Takes the next task, as soon as there is one (K205).
fn take(node: &Process) -> Value {
    let wait = json!({ "service": "flow_service", "wait_ms": 60_000 });
    let told = worker(node, &json!({ "lease_tasks": wait }));
    told["ok"]["tasks"].get(0).unwrap_or_else(|| panic!("no task comes: {told}")).clone()
}

/// Says a line of a user on the control socket, closes that side, and returns what is answered.
fn say_and_leave(node: &Process, user: &str, roles: &[&str], body: &Value) -> Value {
    let mut stream = UnixStream::connect(node.folder().join("run/control")).unwrap();
    let line = json!({ "kernel": { "user": user, "roles": roles, "do": body } });
    writeln!(stream, "{line}").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.set_read_timeout(Some(JOINED)).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

fn complete(node: &Process, task: &Value, report: &Value) {
    let done = json!({ "lease": task["lease"], "success": true, "data": report });
    let told = worker(node, &json!({ "complete_task": done }));
    assert!(told["ok"].is_object(), "{told}");
}

fn good() -> Value {
    json!({ "success": true, "output": { "v": 1 } })
}

/// What the execution of `p` has come to: until its end.
fn execution(node: &Process, from: &[&str]) -> Vec<Value> {
    let arguments = ["kernel", "events", "--execution", "--pid", "p", "--follow"];
    let (code, text) = node.run(&[&arguments, from].concat());
    assert_eq!(code, 0);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_pipeline_is_driven_to_its_end_through_a_kill() {
    let node = Process::serve(folder(), &[]);
    serve(&node);
    let stage = |name: &str, next: &str| -> Value {
        let agent = json!({ "name": name });
        json!({ "name": name, "agent_config": agent, "default_next": next })
    };
    let stages = [stage("draft", "edit"), stage("edit", "end")];
    let pipeline = json!({ "name": "flow", "stages": stages });
    let input = json!({ "raw_input": "hm" });
    let run = json!({ "pid": "p", "pipeline": pipeline, "new_envelope": input });
    let run = json!({ "execute_pipeline": run });
    let told = alice(&node, &run);
    assert_eq!(told["ok"]["process"]["pid"], "p", "{told}");
    assert_eq!(alice(&node, &run)["ok"]["events"], json!([]), "it runs already (K393)");

    let first = take(&node);
    assert_eq!(first["data"]["stage"], "draft");
    assert_eq!(first["data"]["envelope"]["raw_input"], "hm");
    assert_eq!(first["dispatch_id"], first["data"]["attempt_id"]);
    let refused = alice(&node, &json!({ "next_runnable": {} }));
    assert_eq!(refused["refused"]["code"], "no_runnable", "it is the node's own");
    let node = Process::serve(node.kill(), &[]);
    complete(&node, &first, &good());
    let second = take(&node);
    assert_eq!(second["data"]["stage"], "edit");
    complete(&node, &second, &good());

    let shown = execution(&node, &["--from", "0"]);
    let types: Vec<&str> = shown.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let all = [
        "stage_started",
        "stage_completed",
        "stage_started",
        "stage_completed",
        "pipeline_completed",
    ];
    assert_eq!(types, all);
    assert_eq!(shown[0]["attempt_id"], first["data"]["attempt_id"]);
    assert_eq!(shown[4]["terminal_reason"], "completed");
    let known = shown[1]["event"].to_string();
    let rest = execution(&node, &["--from", &known]);
    assert_eq!(rest, shown[2..], "whoever lost the connection goes on");
    // Its end is behind whoever follows it now: nothing comes, and nothing is waited for.
    let end = shown[4]["event"].to_string();
    assert_eq!(execution(&node, &["--from", &end]), [Value::Null; 0]);
    assert_eq!(execution(&node, &[]), [Value::Null; 0]);
    let line = ["kernel", "events", "--execution", "--pid", "x", "--follow"];
    assert_eq!(node.run(&line).0, 1, "nobody knows it");
}

#[test]
fn an_agent_is_answered_at_its_end_or_when_somebody_is_asked() {
    let node = Process::serve(folder(), &[]);
    serve(&node);
    let run = |pid: &str| {
        let (agent, input) = (json!({ "name": "poet" }), json!({ "raw_input": "sing" }));
        json!({ "execute_agent": { "pid": pid, "agent_config": agent, "new_envelope": input } })
    };
    let asked = thread::scope(|scope| {
        let waiting = scope.spawn(|| alice(&node, &run("a")));
        complete(&node, &take(&node), &json!({ "success": true, "output": { "song": "la" } }));
        waiting.join().unwrap()
    });
    assert_eq!(asked["ok"]["success"], true, "{asked}");
    assert_eq!(asked["ok"]["output"]["song"], "la");
    assert_eq!(asked["ok"]["terminal_reason"], "completed");
    assert_eq!(alice(&node, &run("a"))["ok"], asked["ok"], "asked again, it is told the same");

    let interrupted = thread::scope(|scope| {
        let waiting = scope.spawn(|| alice(&node, &run("b")));
        let question = json!({ "kind": "clarification", "question": "of what?" });
        complete(&node, &take(&node), &json!({ "success": true, "interrupt": question }));
        waiting.join().unwrap()
    });
    assert_eq!(interrupted["ok"]["success"], false, "{interrupted}");
    let error = interrupted["ok"]["error"].as_str().unwrap();
    let interrupt = error.strip_prefix("interrupted: ").unwrap();
    let answer = json!({ "resolve_interrupt": { "interrupt_id": interrupt, "text": "the sea" } });
    assert!(alice(&node, &answer)["ok"].is_object());
    let task = take(&node);
    assert_eq!(task["data"]["interrupt_response"]["text"], "the sea");
    complete(&node, &task, &good());
    assert_eq!(alice(&node, &run("b"))["ok"]["success"], true);
}

/// K393: a question beside the run holds nobody up; one that does is told, whatever the process
/// does meanwhile.
#[test]
fn an_agent_is_answered_with_the_question_that_holds_it_up() {
    let node = Process::serve(folder(), &[]);
    serve(&node);
    let run = json!({ "execute_agent": { "pid": "p", "agent_config": { "name": "poet" },
        "new_envelope": {} } });
    let ask = |blocking: bool| {
        let asked = json!({ "kind": "clarification", "question": "?", "blocking": blocking });
        let told = alice(&node, &json!({ "create_interrupt": { "pid": "p", "interrupt": asked } }));
        told["ok"]["interrupt"]["id"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    let (beside, told) = thread::scope(|scope| {
        let waiting = scope.spawn(|| alice(&node, &run));
        let task = take(&node);
        let beside = ask(false);
        let question = json!({ "kind": "clarification", "question": "of what?" });
        complete(&node, &task, &json!({ "success": true, "interrupt": question }));
        (beside, waiting.join().unwrap())
    });
    let error = told["ok"]["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("interrupted: int_"), "{told}");
    assert_ne!(error, format!("interrupted: {beside}"), "that one is older, and holds nobody up");

    let answer = json!({ "interrupt_id": error["interrupted: ".len()..], "text": "the sea" });
    assert!(alice(&node, &json!({ "resolve_interrupt": answer }))["ok"].is_object());
    let task = take(&node);
    // Blocked, and held: it does not become Waiting (K62).
    let block = json!({ "transition_state": { "pid": "p", "new_state": "blocked" } });
    let told = alice(&node, &block);
    assert_eq!(told["ok"]["process"]["state"], "blocked", "{told}");
    let held = ask(true);
    assert_eq!(alice(&node, &run)["ok"]["error"], format!("interrupted: {held}"));
    drop(task);
}

/// K393: nobody waits for a client that has left, and what it began goes on.
#[test]
fn a_client_that_has_left_is_not_waited_for() {
    let node = Process::serve(folder(), &[]);
    serve(&node);
    let wait = json!({ "lease_tasks": { "service": "flow_service", "wait_ms": 300_000 } });
    let told = say_and_leave(&node, "crew", &["worker"], &wait);
    assert_eq!(told["ok"]["tasks"], json!([]), "{told}");
    let run = json!({ "execute_agent": { "pid": "p", "agent_config": { "name": "poet" },
        "new_envelope": {} } });
    let told = say_and_leave(&node, "alice", &["user"], &run);
    let why = "whoever closes its side has left: what was begun goes on";
    assert_eq!(told, json!({ "error": why }));
    complete(&node, &take(&node), &good());
    assert_eq!(alice(&node, &run)["ok"]["success"], true);
}

/// K205: a worker that waits is given what comes, of its own service, and nothing when the time is
/// over.
#[test]
fn a_worker_waits_for_a_task() {
    let node = Process::serve(folder(), &[]);
    serve(&node);
    let other = json!({ "register_service": { "name": "other", "service_type": "flow" } });
    assert!(worker(&node, &other)["ok"].is_object());
    let lease = |service: &str, wait: u64| {
        worker(&node, &json!({ "lease_tasks": { "service": service, "wait_ms": wait } }))
    };
    assert_eq!(lease("flow_service", 1)["ok"]["tasks"], json!([]));
    let call = |service: &str| {
        let call = json!({ "service": service, "method": "m", "queue": true });
        worker(&node, &json!({ "dispatch": call }))["ok"]["dispatch_id"].clone()
    };
    thread::scope(|scope| {
        let waiting = scope.spawn(|| lease("flow_service", 300_000));
        call("other");
        let id = call("flow_service");
        let told = waiting.join().unwrap();
        assert_eq!(told["ok"]["tasks"][0]["dispatch_id"], id, "{told}");
    });
    thread::scope(|scope| {
        // It is at its limit: room is what is waited for.
        let told = worker(
            &node,
            &json!({ "register_service":
            { "name": "one", "service_type": "one", "max_concurrent": 1 } }),
        );
        assert!(told["ok"].is_object(), "{told}");
        call("one");
        let first = lease("one", 0)["ok"]["tasks"][0].clone();
        let id = call("one");
        let waiting = scope.spawn(|| lease("one", 300_000));
        complete(&node, &first, &json!(null));
        assert_eq!(waiting.join().unwrap()["ok"]["tasks"][0]["dispatch_id"], id);
    });
    let gone = worker(&node, &json!({ "lease_tasks": { "service": "none", "wait_ms": 300_000 } }));
    assert_eq!(gone["refused"]["code"], "service_not_found", "{gone}");
}
