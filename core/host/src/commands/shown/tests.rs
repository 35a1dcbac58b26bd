//! Goal: what the kernel made up itself is told, so that it can be used: ids of reservations and
//! attempts, leases, hashes (K102, K243, K168, K205, K370).
//! Method: lines, a kernel without a journal, and what is shown of its replies.

use machines::keeper::io::Decided;
use machines::kernel::config::KernelConfig;
use machines::kernel::principal::Principal;
use machines::kernel::{At, Command, CommandBody, Kernel};

use super::super::{Asked, Line, answered, approval_of, shown};
use super::*;

struct Desk {
    kernel: Kernel,
    now: u64,
}

impl Desk {
    fn new() -> Self {
        let config = KernelConfig::new();
        let mut desk = Self { kernel: Kernel::new(config.clone()).unwrap(), now: 1_000 };
        let body = CommandBody::Start { config: Box::new(config) };
        desk.decide(&Command { by: Principal::node(), worker: None, rate: None, body });
        desk
    }

    fn decide(&mut self, command: &Command) -> Value {
        self.now += 1;
        let at = At { now: Time::from_millis(self.now), nonce: [7; 16] };
        let decided = self.kernel.execute(at, command).map_err(Box::new).map(|events| Decided {
            reply: Box::new(self.kernel.reply(at.now, command, &events)),
            events: events.into(),
        });
        shown(&decided, approval_of(command).as_ref())
    }

    /// What `user` is answered; a worker as well, and an operator if it is `ops`.
    fn say(&mut self, user: &str, what: Value) -> Value {
        let roles = if user == "ops" { json!(["operator"]) } else { json!(["user", "worker"]) };
        let line = json!({ "user": user, "roles": roles, "do": what });
        let line: Line = serde_json::from_value(line).unwrap();
        match line.asked().unwrap() {
            Asked::Command(command) | Asked::Agent(command) | Asked::Lease(command, _) => {
                self.decide(&command)
            }
            Asked::Query(asked) => {
                let (by, query) = *asked;
                let now = Time::from_millis(self.now);
                let answer = self.kernel.query(now, &by, &query);
                answered(&answer.map(Box::new).map_err(Box::new))
            }
        }
    }

    /// The same, which must not be refused.
    fn told(&mut self, user: &str, what: Value) -> Value {
        let told = self.say(user, what.clone());
        assert!(told["ok"].is_object(), "{what}: {told}");
        told["ok"].clone()
    }

    /// A process that runs, held by alice.
    fn running(&mut self, pid: &str) {
        self.told("alice", json!({ "submit": { "pid": pid, "metadata": { "a": [1.5, null] } } }));
        self.told("alice", json!({ "schedule": { "pid": pid } }));
        self.told("alice", json!({ "next_runnable": {} }));
    }

    fn session(&mut self, pid: &str) -> Value {
        let stage = |name: &str, next: &str| {
            let agent = json!({ "name": name });
            json!({ "name": name, "agent_config": agent, "default_next": next })
        };
        let stages = [stage("draft", "edit"), stage("edit", "end")];
        let pipeline = json!({ "name": "flow", "stages": stages });
        let new = json!({ "envelope_id": "e", "raw_input": "hm" });
        self.told("alice", json!({ "submit": { "pid": pid } }));
        let start = json!({ "pid": pid, "pipeline": pipeline, "new_envelope": new });
        self.told("alice", json!({ "initialize_session": start }))
    }
}

/// The finding: an id that the kernel minted was never told, so nobody could settle.
#[test]
fn a_reservation_that_the_kernel_named_can_be_settled() {
    let mut desk = Desk::new();
    desk.running("p");
    let amounts = json!({ "llm_calls": 3, "tokens_in": 10 });
    let kept = desk.told("alice", json!({ "reserve": { "pid": "p", "amounts": amounts } }));
    let id = kept["reservation_id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("rsv_"), "{kept}");
    assert!(kept["until_at_ms"].as_u64().unwrap() > desk.now);
    assert_eq!(kept["remaining"]["llm_calls"], 97);
    assert_eq!(kept["events"][0]["kind"], "quota.reserved");
    let renewed = desk.told("alice", json!({ "renew_lease": { "lease": id } }));
    assert_eq!(renewed["lease"], id.as_str());
    let actual = json!({ "llm_calls": 2 });
    let settle = json!({ "pid": "p", "reservation_id": id, "actual": actual });
    let closed = desk.told("alice", json!({ "settle": settle }));
    assert_eq!(
        (&closed["usage"]["llm_calls"], &closed["usage"]["held"]["llm_calls"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(closed["remaining"]["llm_calls"], 98);
}

#[test]
fn a_process_is_shown_with_its_lease_quota_and_metadata() {
    let mut desk = Desk::new();
    desk.running("p");
    let shown = desk.told("alice", json!({ "get_process": { "pid": "p" } }));
    let process = &shown["process"];
    assert_eq!((&process["state"], &process["user_id"]), (&json!("running"), &json!("alice")));
    assert_eq!(process["lease"]["holder"], "alice/alice");
    assert!(process["lease"]["lease"].as_str().unwrap().starts_with("lse_"));
    assert_eq!(process["quota"]["max_llm_calls"], 100);
    assert_eq!(process["quota"]["rate_limit_rpm"], -1, "unlimited");
    assert_eq!(process["metadata"], json!({ "a": [1.5, null] }));
    assert!(process.get("terminal_reason").is_none(), "what is absent is left out");
    let refused = desk.say("bob", json!({ "get_process": { "pid": "p" } }));
    assert_eq!(refused["refused"]["code"], "permission_denied");
}

/// What is submitted for others, and by whom (K63, K64).
#[test]
fn all_that_a_process_can_be_is_taken() {
    let mut desk = Desk::new();
    desk.told("alice", json!({ "submit": { "pid": "parent" } }));
    let all = json!({
        "pid": "child", "request_id": "r1", "user_id": "alice", "session_id": "talk",
        "priority": "high", "quota": { "max_llm_calls": 5 }, "parent": "parent",
        "on_exhausted": "interrupt", "metadata": { "k": { "deep": true } },
    });
    let process = desk.told("ops", json!({ "submit": all }))["process"].clone();
    assert_eq!(process["user_id"], "alice");
    assert_eq!((&process["request_id"], &process["session_id"]), (&json!("r1"), &json!("talk")));
    assert_eq!(
        (&process["priority"], &process["on_exhausted"]),
        (&json!("high"), &json!("interrupt"))
    );
    assert_eq!(
        (&process["parent_pid"], &process["quota"]["max_llm_calls"]),
        (&json!("parent"), &json!(5))
    );
    assert_eq!(process["metadata"]["k"]["deep"], true);
}

#[test]
fn a_session_is_polled_and_reported_to_its_end() {
    let mut desk = Desk::new();
    let made = desk.session("p");
    assert_eq!(made["session"]["stage_order"], json!(["draft", "edit"]));
    assert_eq!(made["session"]["envelope_id"], "e");
    let next = desk.told("alice", json!({ "next_instruction": { "pid": "p" } }));
    let instruction = &next["instruction"];
    assert_eq!(instruction["kind"], "run_agent");
    let task = instruction["tasks"][0].clone();
    assert!(task["attempt_id"].as_str().unwrap().starts_with("att_"), "{task}");
    assert_eq!((&task["stage"], &task["envelope"]["raw_input"]), (&json!("draft"), &json!("hm")));
    let report = |task: &Value| {
        json!({ "report_agent_result": {
            "pid": "p", "attempt_id": task["attempt_id"], "agent_name": task["agent_name"],
            "success": true, "output": { "v": 1 }, "metrics": { "llm_calls": 1 },
        } })
    };
    let next = desk.told("alice", report(&task));
    let task = next["instruction"]["tasks"][0].clone();
    assert_eq!(task["stage"], "edit");
    let state = desk.told("alice", json!({ "get_session_state": { "pid": "p" } }));
    assert_eq!(state["session"]["edges"], json!([{ "from": "draft", "to": "edit", "count": 1 }]));
    assert_eq!(state["session"]["live"][0]["attempt_id"], task["attempt_id"]);
    let next = desk.told("alice", report(&task));
    assert_eq!(next["instruction"]["kind"], "terminate");
    assert_eq!(next["instruction"]["terminal_reason"], "completed");
    let shown = desk.told("alice", json!({ "get_envelope": { "envelope_id": "e" } }));
    let envelope = &shown["envelope"];
    assert_eq!(envelope["outputs"], json!({ "draft": { "v": 1 }, "edit": { "v": 1 } }));
    assert_eq!((&envelope["terminated"], &envelope["llm_calls"]), (&json!(true), &json!(2)));
    assert_eq!(envelope["history"][1]["status"], "success");
}

/// A leave that is asked for, given with the hash that was shown, and used (K169, K170).
#[test]
fn an_approval_is_asked_given_and_used() {
    let mut desk = Desk::new();
    desk.running("p");
    let target = json!({ "action": "pay", "params": { "sum": 10 } });
    let asked = json!({ "kind": "confirmation", "question": "pay?", "target": target,
        "assignee": "role:operator" });
    let create = json!({ "create_interrupt": { "pid": "p", "interrupt": asked } });
    let raised = desk.told("alice", create)["interrupt"].clone();
    assert_eq!(
        (&raised["status"], &raised["assignee"]),
        (&json!("pending"), &json!("role:operator"))
    );
    let (id, hash) = (raised["id"].clone(), raised["target_hash"].clone());
    let pending = desk.told("alice", json!({ "get_pending_interrupt": { "pid": "p" } }));
    assert_eq!(pending["interrupt"], raised);
    let yes = json!({ "interrupt_id": id, "approved": true, "target_hash": hash });
    let resolved = desk.told("ops", json!({ "resolve_interrupt": yes }));
    assert_eq!(resolved["interrupt"]["response"]["by"], "ops");
    desk.told("alice", json!({ "next_runnable": {} }));
    let wanted =
        json!({ "interrupt_id": id, "action": "pay", "params": { "sum": 10 }, "use_id": "u" });
    let used = desk.told("alice", json!({ "consume_approval": wanted }));
    assert_eq!(
        (&used["approval"]["state"], &used["approval"]["used_by"]),
        (&json!("consumed"), &json!("u"))
    );
    assert_eq!(used["approval"]["interrupt_id"], id, "13.3");
    let none = desk.told("alice", json!({ "get_pending_interrupt": { "pid": "p" } }));
    assert!(none.get("interrupt").is_none());
}

#[test]
fn work_is_dispatched_leased_and_completed() {
    let mut desk = Desk::new();
    let service = json!({ "name": "s", "service_type": "flow", "capabilities": ["sing"] });
    let info = desk.told("crew", json!({ "register_service": service }))["info"].clone();
    assert_eq!((&info["owner"], &info["health_ttl_ms"]), (&json!("crew"), &json!(30_000)));
    let call = json!({ "service_type": "flow", "capability": "sing", "method": "song",
        "data": { "of": "the sea" }, "queue": true, "retry": { "max_retries": 1 } });
    let made = desk.told("crew", json!({ "dispatch": call }));
    assert!(made["dispatch_id"].as_str().unwrap().starts_with("dsp_"), "{made}");
    assert!(made.get("response").is_none(), "it is under way");
    let leased = desk.told("crew", json!({ "lease_tasks": { "service": "s", "max": 5 } }));
    let [task] = &leased["tasks"].as_array().unwrap()[..] else {
        panic!("one task: {leased}");
    };
    assert_eq!(
        (&task["dispatch_id"], &task["data"]["of"]),
        (&made["dispatch_id"], &json!("the sea"))
    );
    let renewed = desk.told("crew", json!({ "renew_lease": { "lease": task["lease"] } }));
    assert_eq!(renewed["lease"], task["lease"]);
    let done = json!({ "lease": task["lease"], "success": true, "data": { "song": "la" } });
    desk.told("crew", json!({ "complete_task": done }));
    let ended =
        desk.told("crew", json!({ "cancel_dispatch": { "dispatch_id": task["dispatch_id"] } }));
    assert_eq!(ended["response"]["data"]["song"], "la", "it had ended");
    let asked = json!({ "get_dispatch": { "dispatch_id": task["dispatch_id"] } });
    assert_eq!(desk.told("crew", asked)["dispatch"]["response"], ended["response"]);
    let listed = desk.told("crew", json!({ "list_services": { "type": "flow" } }));
    assert_eq!(listed["services"][0]["current_load"], 0);
}

#[test]
fn rates_and_the_node_are_told() {
    let mut desk = Desk::new();
    desk.running("p");
    desk.told(
        "ops",
        json!({ "set_rate_limit": { "user_id": "alice", "config": { "burst_size": 1 } } }),
    );
    let check = json!({ "check_rate_limit": { "user_id": "alice", "record": true } });
    assert_eq!(desk.told("alice", check.clone())["result"]["allowed"], true);
    let told = desk.told("alice", check)["result"].clone();
    assert_eq!((&told["allowed"], &told["limit_type"]), (&json!(false), &json!("burst")), "K136");
    let used = desk.told("alice", json!({ "get_rate_limit_usage": { "user_id": "alice" } }));
    assert_eq!(
        (&used["windows"][0]["limit_type"], &used["windows"][0]["current"]),
        (&json!("burst"), &json!(1))
    );
    assert_eq!(
        desk.told("ops", json!({ "reset_rate_limits": { "user_id": "alice" } }))["removed"],
        1
    );
    let status = desk.told("ops", json!({ "get_system_status": {} }))["status"].clone();
    assert_eq!(
        (&status["processes_by_state"]["running"], &status["epoch"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(status["state_root"].as_str().unwrap().len(), 64);
    assert_eq!(desk.told("ops", json!({ "cleanup": {} }))["more"], false);
    desk.told("ops", json!({ "drain": { "deadline_ms": 5 } }));
    assert_eq!(desk.say("alice", json!({ "submit": {} }))["refused"]["code"], "draining");
}

/// Each query has its answer under its name, whatever is asked.
#[test]
fn every_query_is_answered() {
    let mut desk = Desk::new();
    desk.session("p");
    let asked = json!({ "kind": "clarification", "question": "of what?" });
    let raised =
        desk.told("alice", json!({ "create_interrupt": { "pid": "p", "interrupt": asked } }));
    let id = &raised["interrupt"]["id"];
    desk.told("crew", json!({ "register_service": { "name": "s", "service_type": "flow" } }));
    let pid = json!({ "pid": "p" });
    for (query, key) in [
        (json!({ "get_process": pid }), "process"),
        (json!({ "list_processes": { "page_size": 1 } }), "processes"),
        (json!({ "get_process_counts": {} }), "counts_by_state"),
        (json!({ "check_quota": pid }), "within_bounds"),
        (json!({ "get_usage": pid }), "usage"),
        (json!({ "get_quota": pid }), "quota"),
        (json!({ "get_remaining_budget": pid }), "remaining"),
        (json!({ "check_inference_quota": { "pid": "p", "requests": 1, "chars": 9 } }), "allowed"),
        (json!({ "get_envelope": { "envelope_id": "e" } }), "envelope"),
        (json!({ "check_bounds": pid }), "can_continue"),
        (json!({ "get_system_status": {} }), "status"),
        (json!({ "get_system_usage": {} }), "usage"),
        (json!({ "get_request_status": pid }), "status"),
        (json!({ "get_session_state": pid }), "session"),
        (json!({ "get_interrupt": { "interrupt_id": id } }), "interrupt"),
        (json!({ "get_pending_interrupt": pid }), "interrupt"),
        (json!({ "list_interrupts": pid }), "interrupts"),
        (json!({ "has_pending": pid }), "has_pending"),
        (json!({ "get_interrupt_stats": {} }), "interrupts"),
        (json!({ "get_rate_limit_usage": { "user_id": "alice" } }), "windows"),
        (json!({ "get_service": { "name": "s" } }), "info"),
        (json!({ "list_services": {} }), "services"),
        (json!({ "can_accept": { "name": "s" } }), "can_accept"),
        (json!({ "get_service_stats": {} }), "stats"),
    ] {
        let told = desk.told("ops", query.clone());
        assert!(!told[key].is_null(), "{query}: {told}");
        assert_eq!(told["as_of"], desk.kernel.last_event(), "K5");
    }
}

/// K9, K24, K168: what is hashed and what is shown is what was sent, to the last digit.
#[test]
fn a_number_of_a_line_is_the_one_that_was_sent() {
    const SENT: &str = "31.245270191439438";
    let text = format!(
        r#"{{"user":"a","do":{{"create_interrupt":{{"pid":"p","interrupt":{{"kind":"confirmation",
            "target":{{"action":"pay","params":{SENT}}}}}}}}}}}"#
    );
    let line: Line = serde_json::from_str(&text).unwrap();
    let Asked::Command(command) = line.asked().unwrap() else { panic!("a command") };
    let CommandBody::CreateInterrupt { interrupt, .. } = command.body else { panic!("another") };
    let limits = machines::kernel::json::JsonLimits::CEILING;
    let sent = Json::parse("x", SENT.as_bytes(), &limits).unwrap();
    let params = interrupt.target.unwrap().params;
    assert_eq!((&params, params.blake3()), (&sent, sent.blake3()));
    assert_eq!(plain(&params).to_string(), SENT);
}

#[test]
fn numbers_and_depth_of_payloads_are_kept() {
    let text = r#"{"a":[-7,18446744073709551615,0.1,1e-7,null,true],"b":{"c":"ü"}}"#;
    let limits = machines::kernel::json::JsonLimits::CEILING;
    let json = Json::parse("x", text.as_bytes(), &limits).unwrap();
    assert_eq!(plain(&json), serde_json::from_str::<Value>(text).unwrap());
    let deep = format!("{}{}", "[".repeat(600), "]".repeat(600));
    let mut shown = plain(&Json::parse("x", deep.as_bytes(), &limits).unwrap());
    let mut depth = 0;
    while let Value::Array(mut items) = shown {
        depth += 1;
        shown = items.pop().unwrap_or_default();
    }
    assert_eq!(depth, 600);
}
