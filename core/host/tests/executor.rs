//! Goal: the real node drives pipelines to their end by workers of a service, through a SIGKILL,
//! and shows what happens; an agent is answered when it has ended, or when somebody is asked (K290,
//! K291, K393).
//! Method: the real binary over its command line; a worker in the test takes tasks and ends them.

#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

mod process;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use process::{JOINED, Process, keygen};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How often somebody who waits looks again.
const LOOK: Duration = Duration::from_millis(20);

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

/// Takes the next task, as soon as there is one.
fn take(node: &Process) -> Value {
    let since = Instant::now();
    loop {
        let told = worker(node, &json!({ "lease_tasks": { "service": "flow_service" } }));
        if let Some(task) = told["ok"]["tasks"].get(0) {
            return task.clone();
        }
        assert!(since.elapsed() < JOINED, "no task comes: {told}");
        thread::sleep(LOOK);
    }
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
fn execution(node: &Process, from: &str) -> Vec<Value> {
    let arguments = ["kernel", "events", "--execution", "--pid", "p", "--follow", "--from", from];
    let (code, text) = node.run(&arguments);
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

    let shown = execution(&node, "0");
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
    assert_eq!(execution(&node, &known), shown[2..], "whoever lost the connection goes on");
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
