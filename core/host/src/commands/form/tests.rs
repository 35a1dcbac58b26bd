//! Goal: every command of section 12 that the socket offers can be said, and what is wrong with one
//! is told with its place and with what would be right (K24, K370, K410).

use std::collections::BTreeSet;

use super::*;

fn form(text: &str) -> Result<Form, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Each command and query, with no more than it needs.
const LINES: &str = r#"[
{"submit":{}},
{"schedule":{"pid":"p"}},
{"next_runnable":{}},
{"transition_state":{"pid":"p","to":"ready"}},
{"terminate":{"pid":"p"}},
{"cleanup_process":{"pid":"p"}},
{"reserve":{"pid":"p","amounts":{"llm_calls":1}}},
{"settle":{"pid":"p","reservation_id":"r","actual":{}}},
{"release":{"pid":"p","reservation_id":"r"}},
{"record_usage":{"pid":"p","amounts":{}}},
{"adjust_quota":{"pid":"p","quota":{"max_llm_calls":-1}}},
{"create_envelope":{}},
{"update_envelope":{"envelope_id":"e","patch":{"outputs":{"k":null}}}},
{"clone_envelope":{"envelope_id":"e"}},
{"initialize_session":{"pid":"p","envelope_id":"e","pipeline":{"name":"flow",
  "stages":[{"name":"draft","agent_config":{"name":"poet"}}]}}},
{"next_instruction":{"pid":"p"}},
{"report_agent_result":{"pid":"p","attempt_id":"a","agent_name":"poet","success":false,
  "error_kind":"Tool"}},
{"execute_pipeline":{"new_envelope":{},"pipeline":{"name":"flow",
  "stages":[{"name":"draft","agent_config":{"name":"poet"}}]}}},
{"execute_agent":{"envelope_id":"e","agent_config":{"name":"poet"}}},
{"create_interrupt":{"pid":"p","interrupt":{"kind":"clarification"}}},
{"resolve_interrupt":{"interrupt_id":"i",
  "target_hash":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"}},
{"cancel_interrupt":{"interrupt_id":"i"}},
{"consume_approval":{"interrupt_id":"i","action":"pay","use_id":"u"}},
{"register_service":{"name":"s","service_type":"flow"}},
{"unregister_service":{"name":"s"}},
{"report_health":{"name":"s","status":"degraded"}},
{"acquire_slot":{"service":"s"}},
{"release_slot":{"lease":"l"}},
{"renew_lease":{"lease":"l"}},
{"dispatch":{"service":"s","method":"m"}},
{"dispatch_inference":{"service_type":"inference","method":"m","pid":"p"}},
{"lease_tasks":{"service":"s"}},
{"complete_task":{"lease":"l","success":true}},
{"cancel_dispatch":{"dispatch_id":"d"}},
{"check_rate_limit":{"user_id":"u"}},
{"set_rate_limit":{"config":{"burst_size":3}}},
{"reset_rate_limits":{"user_id":"u"}},
{"cleanup":{}},
{"drain":{}},
{"shutdown":{}},
{"get_process":{"pid":"p"}},
{"list_processes":{"state":"ready"}},
{"get_process_counts":{}},
{"check_quota":{"pid":"p"}},
{"get_usage":{"pid":"p"}},
{"get_quota":{"pid":"p"}},
{"get_remaining_budget":{"pid":"p"}},
{"check_inference_quota":{"pid":"p","requests":1,"chars":1}},
{"get_envelope":{"envelope_id":"e"}},
{"check_bounds":{"pid":"p"}},
{"get_system_status":{}},
{"get_system_usage":{}},
{"get_request_status":{"pid":"p"}},
{"get_session_state":{"pid":"p"}},
{"get_interrupt":{"interrupt_id":"i"}},
{"get_pending_interrupt":{"request_id":"r"}},
{"list_interrupts":{"kinds":["timeout"],"status":"pending"}},
{"has_pending":{"pid":"p"}},
{"get_interrupt_stats":{}},
{"get_rate_limit_usage":{"user_id":"u"}},
{"get_service":{"name":"s"}},
{"list_services":{}},
{"can_accept":{"name":"s"}},
{"get_service_stats":{}},
{"get_dispatch":{"dispatch_id":"d"}}
]"#;

/// Goal: no name is missing, and none stands for two commands.
#[test]
fn every_command_can_be_said_and_has_a_name_of_its_own() {
    let mut said = BTreeSet::new();
    let lines: Vec<Value> = serde_json::from_str(LINES).unwrap();
    for line in &lines {
        let name = line.as_object().unwrap().keys().next().unwrap().clone();
        let body = form(&line.to_string()).unwrap_or_else(|error| panic!("{line}: {error}")).body();
        assert!(body.is_ok(), "{line}: {body:?}");
        assert!(said.insert(name), "{line}");
    }
    let names: BTreeSet<String> = all().into_iter().map(str::to_owned).collect();
    assert_eq!(names.len(), all().len(), "no two areas have the same name");
    assert_eq!(said, names);
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_what_would_be_right() {
    let wrong = |text: &str| form(text).map(|form| form.body()).unwrap_err();
    let told = wrong(r#"{"frobnicate":{}}"#);
    assert!(
        told.starts_with("do: there is no command \"frobnicate\"; there are submit, "),
        "{told}"
    );
    assert!(told.contains("get_system_status"), "{told}");
    let told = wrong(r#"{"reserve":{"pid":"p","amounts":{},"lease_ms":"x"}}"#);
    assert_eq!(told, "do.reserve.lease_ms: invalid type: string \"x\", expected u64");
    let told = wrong(r#"{"get_process":{"pid":"p","pdi":"q"}}"#);
    assert_eq!(told, "do.get_process.pdi: unknown field `pdi`, expected `pid`");
    let told = wrong(r#"{"get_process":{}}"#);
    assert_eq!(told, "do.get_process: missing field `pid`");
    let told = wrong(r#"{"create_interrupt":{"pid":"p","interrupt":{"kind":"timeout","ttl":1}}}"#);
    assert!(told.starts_with("do.create_interrupt.interrupt: unknown field `ttl`"), "{told}");
    for none in ["7", "[]", "{}", r#""submit""#, r#"{"submit":{},"schedule":{"pid":"p"}}"#] {
        let told = wrong(none);
        assert_eq!(told, r#"do: one command is needed, such as {"submit":{"pid":"p1"}}"#);
    }
}

#[test]
fn what_the_kernel_would_refuse_is_refused_in_its_words() {
    let refused = |text: &str| form(text).unwrap().body().unwrap_err().to_string();
    let told = refused(r#"{"get_process":{"pid":"a b"}}"#);
    assert_eq!(told, "bad_id: pid: byte 1 is not allowed");
    let told = refused(r#"{"report_health":{"name":"s","status":"ill"}}"#);
    let right = "healthy, degraded, unhealthy, unknown";
    assert_eq!(told, format!("bad_value: status: \"ill\" is none of {right}"));
    let told = refused(r#"{"resolve_interrupt":{"interrupt_id":"i","target_hash":"0g"}}"#);
    assert!(told.starts_with("bad_value: target_hash: 64 hexadecimal digits"), "{told}");
    let told = refused(r#"{"check_bounds":{}}"#);
    assert_eq!(told, "required: pid or envelope_id is required, and not both");
    let told = refused(r#"{"dispatch":{"method":"m"}}"#);
    assert!(told.starts_with("required: service is required, or service_type"), "{told}");
    let told = refused(r#"{"set_rate_limit":{"config":{"burst_size":-2}}}"#);
    assert_eq!(told, "bad_value: config.burst_size: -2 is not a limit");
    let pipeline = r#"{"initialize_session":{"pid":"p","envelope_id":"e","pipeline":
        {"name":"f","stages":[{"name":"a","agent_config":{"name":"x"},"default_next":"b"}]}}}"#;
    assert_eq!(refused(pipeline), "bad_pipeline: stage a: unknown target: b");
    let kind = r#"{"complete_task":{"lease":"l","success":false,"error_kind":"tool"}}"#;
    assert!(refused(kind).contains("is not one of Tool, Llm, Policy"), "{}", refused(kind));
}

/// K24: of a key that is there twice, none is taken.
#[test]
fn a_key_that_is_there_twice_is_refused() {
    assert!(check(br#"{"do":{"submit":{"metadata":{"a":1}}}}"#).is_ok());
    let told = check(br#"{"do":{"submit":{"metadata":{"a":1,"a":2}}}}"#).unwrap_err();
    assert!(told.to_string().starts_with("bad_json: line: line 1 column "), "{told}");
}

/// A line that passes can be taken apart: `serde_json` goes no deeper than this one.
#[test]
fn a_line_is_as_deep_as_it_can_be_read() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(check(nested(127).as_bytes()).is_ok());
    assert!(serde_json::from_str::<Value>(&nested(127)).is_ok());
    let told = check(nested(128).as_bytes()).unwrap_err().to_string();
    assert_eq!(told, "too_deep: line: depth 128, at most 127");
    assert!(serde_json::from_str::<Value>(&nested(128)).is_err());
}

/// The names of section 13 are taken, too.
#[test]
fn names_of_the_messages_stand_for_those_of_the_commands() {
    let same = |one: &str, other: &str| {
        let body = |text: &str| format!("{:?}", form(text).unwrap().body().unwrap());
        assert_eq!(body(one), body(other));
    };
    same(
        r#"{"transition_state":{"pid":"p","to":"ready"}}"#,
        r#"{"transition_state":{"pid":"p","new_state":"ready"}}"#,
    );
    same(
        r#"{"terminate":{"pid":"p","message":"done"}}"#,
        r#"{"terminate":{"pid":"p","reason":"done"}}"#,
    );
    same(
        r#"{"resolve_interrupt":{"interrupt_id":"i","approved":true,"data":[1]}}"#,
        r#"{"resolve_interrupt":{"interrupt_id":"i","response":{"approved":true,"data":[1]}}}"#,
    );
    same(r#"{"shutdown":{}}"#, r#"{"shutdown":{"mode":"preserve"}}"#);
}

#[test]
fn what_contradicts_itself_or_is_too_long_is_refused() {
    let refused = |text: &str| form(text).unwrap().body().unwrap_err().to_string();
    let twice = r#"{"resolve_interrupt":{"interrupt_id":"i","text":"x","response":{"text":"y"}}}"#;
    let told = "bad_value: response: its fields stand in it or beside it, and not both";
    assert_eq!(refused(twice), told);
    let told = "bad_value: mode: \"kill\" is none of preserve, terminate";
    assert_eq!(refused(r#"{"shutdown":{"mode":"kill"}}"#), told);
    let told = refused(r#"{"lease_tasks":{"service":"s","wait_ms":300001}}"#);
    assert_eq!(told, "bad_value: wait_ms: 300001, at most 300000");
    let waits = form(r#"{"lease_tasks":{"service":"s","wait_ms":7}}"#).unwrap().body().unwrap();
    let Body::Lease(_, wait) = waits else { panic!("it does not wait: {waits:?}") };
    assert_eq!(wait, Duration::from_millis(7));
}

/// The field that is told is the one at which reading ends, however many are before it.
#[test]
fn the_field_that_is_wrong_is_found_behind_any_other() {
    let many: Vec<String> = (0..10_000).map(|key| format!(r#""k{key}":[{key}]"#)).collect();
    let metadata = many.join(",");
    let text = format!(r#"{{"submit":{{"metadata":{{{metadata}}},"quota":{{"x":0.5}}}}}}"#);
    let told = form(&text).unwrap_err();
    assert_eq!(told, "do.submit.quota: invalid type: floating point `0.5`, expected i64");
    let told = form(r#"{"lease_tasks":{"max":3,"wait_ms":1}}"#).unwrap_err();
    assert_eq!(told, "do.lease_tasks: missing field `service`");
}
