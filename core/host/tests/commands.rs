//! Goal: whoever has nothing but `lockstep kernel` can use what the kernel made: settle a
//! reservation that it named, run a session to its end, ask how things are, through a SIGKILL (K5,
//! K370).
//! Method: the real binary over its command line.

#![allow(clippy::unwrap_used)] // Clippy does not know these helpers as tests.

mod process;

use std::fs;

use process::{Process, keygen};
use serde_json::{Value, json};

/// Has lines decided, in one run; returns what was answered to each.
fn say(node: &Process, lines: &[Value]) -> Vec<Value> {
    let lines: Vec<String> =
        lines.iter().map(|what| json!({ "user": "alice", "do": what }).to_string()).collect();
    let mut arguments = vec!["kernel"];
    arguments.extend(lines.iter().map(String::as_str));
    let (code, text) = node.run(&arguments);
    assert_eq!(code, 0, "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn one(node: &Process, line: &Value) -> Value {
    say(node, std::slice::from_ref(line)).remove(0)
}

#[test]
fn what_the_kernel_made_can_be_used_through_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let made = keygen(folder.path());
    fs::write(folder.path().join("allowlist"), made.public).unwrap();
    let node = Process::serve(folder, &[]);
    let started = say(
        &node,
        &[
            json!({ "submit": { "pid": "p", "metadata": { "for": "a test" } } }),
            json!({ "schedule": { "pid": "p" } }),
            json!({ "reserve": { "pid": "p", "amounts": { "llm_calls": 2 } } }),
        ],
    );
    assert_eq!(started[0]["ok"]["process"]["metadata"]["for"], "a test", "{started:?}");
    let reservation = started[2]["ok"]["reservation_id"].clone();
    assert!(reservation.as_str().is_some_and(|id| id.starts_with("rsv_")), "{started:?}");

    let node = Process::serve(node.kill(), &[]);
    let asked = one(&node, &json!({ "get_remaining_budget": { "pid": "p" } }));
    assert_eq!(asked["ok"]["remaining"]["llm_calls"], 98, "{asked}");
    let settle = json!({ "pid": "p", "reservation_id": reservation, "actual": { "llm_calls": 1 } });
    let settled = one(&node, &json!({ "settle": settle }));
    assert_eq!(settled["ok"]["usage"]["llm_calls"], 1, "{settled}");

    let stage = json!({ "name": "draft", "agent_config": { "name": "poet" } });
    let start = json!({ "pid": "p", "pipeline": { "name": "flow", "stages": [stage] },
        "new_envelope": { "raw_input": "sing" } });
    let answers = say(
        &node,
        &[json!({ "initialize_session": start }), json!({ "next_instruction": { "pid": "p" } })],
    );
    let task = &answers[1]["ok"]["instruction"]["tasks"][0];
    assert_eq!(task["envelope"]["raw_input"], "sing", "{answers:?}");
    let report = json!({ "pid": "p", "attempt_id": task["attempt_id"], "agent_name": "poet",
        "success": true, "output": { "song": "la" } });
    let ended = one(&node, &json!({ "report_agent_result": report }));
    assert_eq!(ended["ok"]["instruction"]["kind"], "terminate", "{ended}");
    let shown = one(&node, &json!({ "get_request_status": { "pid": "p" } }));
    assert_eq!(shown["ok"]["status"]["process"]["state"], "terminated", "{shown}");
    assert_eq!(shown["ok"]["status"]["envelope"]["outputs"]["draft"]["song"], "la", "{shown}");
}

/// K24: of two fields with one name neither is taken, and the line that follows is decided.
#[test]
fn a_line_that_is_wrong_is_refused_and_the_next_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let made = keygen(folder.path());
    fs::write(folder.path().join("allowlist"), made.public).unwrap();
    let node = Process::serve(folder, &[]);
    let twice = r#"{"user":"alice","do":{"submit":{"pid":"p","pid":"q"}}}"#;
    let sound = r#"{"user":"alice","do":{"get_process":{"pid":"p"}}}"#;
    let (code, text) = node.run(&["kernel", twice, sound]);
    assert_eq!(code, 0);
    let told: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told[0]["refused"]["code"], "bad_json", "{text}");
    assert_eq!(told[1]["refused"]["code"], "process_not_found", "{text}");
}
