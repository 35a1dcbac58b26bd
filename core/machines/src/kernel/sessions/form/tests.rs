use super::*;
use crate::kernel::CommandBody;
use crate::kernel::sessions::rig::{Desk, agent, json, linear, pipeline};

fn ids() -> (ProcessId, AttemptId, AgentName) {
    let pid = ProcessId::parse("pid", "p").unwrap();
    let attempt = AttemptId::parse("attempt", "att_1").unwrap();
    (pid, attempt, AgentName::parse("agent", "draft").unwrap())
}

fn report(text: &str) -> Result<Report, String> {
    let (pid, attempt, agent) = ids();
    let read = Report::of_result((&pid, &attempt, &agent), &json(&text.replace('\'', "\"")));
    read.map_err(|refusal| refusal.to_string())
}

#[test]
fn a_result_is_a_report_without_ids() {
    let told = report(
        "{'success': true, 'output': {'v': 1}, 'break_loop': true, 'chosen_target': 'x',
          'feedback': 'more', 'metrics': {'llm_calls': 2, 'tool_results':
            [{'name': 'grep', 'success': false, 'latency_ms': 5, 'error_kind': 'Tool'}]}}",
    );
    let told = told.unwrap();
    assert_eq!((told.pid.as_str(), told.attempt.as_str()), ("p", "att_1"));
    assert_eq!(told.agent.as_str(), "draft", "that of the task");
    assert!(told.success && told.break_loop && !told.release_process);
    assert_eq!(told.output.unwrap().to_string(), r#"{"v":1}"#);
    assert_eq!((told.metrics.llm_calls, told.metrics.tool_results[0].latency_ms), (2, 5));
    assert_eq!(told.metrics.tool_results[0].error_kind, Some(ErrorKind::Tool));
    assert_eq!(told.chosen_target.unwrap().as_str(), "x");
    let failed = report("{'success': false, 'error': 'no', 'error_kind': 'Llm'}").unwrap();
    assert_eq!((failed.success, failed.error_kind), (false, Some(ErrorKind::Llm)));
}

#[test]
fn a_result_can_ask_a_person() {
    let told = report(
        "{'success': true, 'interrupt': {'kind': 'agent_review', 'question': 'well?',
          'ttl_ms': 5, 'on_expiry': 'escalate', 'assignee': 'role:operator', 'escalate_to': 'bob',
          'target': {'action': 'pay', 'params': {'sum': 1},
                     'binds': [{'scope': 'Current', 'path': 'sum'}]}}}",
    );
    let asked = told.unwrap().interrupt.unwrap();
    assert_eq!((asked.kind, asked.ttl), (InterruptKind::AgentReview, Some(5)));
    assert_eq!(asked.on_expiry, Some(ExpiryPolicy::Escalate));
    assert_eq!(asked.assignee, Some(Assignee::OPERATORS));
    assert_eq!(asked.target.unwrap().binds.len(), 1);
}

#[test]
fn what_is_wrong_with_a_result_is_named() {
    let wrong = |text: &str| report(text).unwrap_err();
    assert_eq!(wrong("{}"), "required: result.success is required");
    let two = wrong("{'success': 1, 'attempt_id': 'x'}");
    assert!(two.contains("result.success: expected boolean") && two.contains("unknown field"));
    let kind = wrong("{'success': true, 'interrupt': {'kind': 'x'}}");
    assert!(kind.starts_with("bad_value: interrupt.kind: \"x\" is not one of"), "{kind}");
    let whom = wrong("{'success': true, 'interrupt': {'kind': 'timeout', 'assignee': 'role:x'}}");
    assert!(whom.contains("interrupt.assignee: no such role"), "{whom}");
}

/// K243: the envelope in a task has the names of 13.3, and is without history, errors and prior
/// outputs; what its bounds and its question are is as anybody is shown it.
#[test]
fn a_task_shows_all_of_the_envelope_but_its_records() {
    let loops = "'default_next': 'draft', 'max_visits': 1";
    let stages = [agent("draft", "'default_next': 'edit'"), agent("edit", loops)].join(", ");
    let more = "'max_llm_calls': 7, 'loop_reset': ['edit']";
    let mut desk = Desk::new(pipeline(&format!("{{'name': 'x', {more}, 'stages': [{stages}]}}")));
    desk.poll();
    desk.succeed("draft", "{'v': 1}");
    let report = Report { feedback: Some(Arc::from("more")), ..desk.done("edit", "{}") };
    assert_eq!(desk.report(&report), "RunAgent draft 2.1");
    let shown = desk.task("draft").to_json().get("envelope").unwrap().clone();
    let keys: Vec<&str> = shown.as_object().unwrap().iter().map(|(key, _)| &**key).collect();
    let all = "active_stages agent_hops all_goals completed_goal_stages completed_stages \
               created_at_ms current_stage dropped envelope_id failed_stages goal_stage_number \
               goal_status interrupt_pending iteration llm_calls loop_feedback max_agent_hops \
               max_goal_stages max_iterations max_llm_calls metadata outputs parallel_mode \
               raw_input received_at_ms remaining_goals request_id session_id stage_order \
               stage_visits state terminated tokens_in tokens_out tool_calls updated_at_ms \
               user_id version";
    assert_eq!(keys.join(" "), all);
    let told = |key: &str| shown.get(key).unwrap().to_string();
    assert_eq!((told("envelope_id"), told("user_id")), (r#""e""#.into(), r#""alice""#.into()));
    assert_eq!((told("llm_calls"), told("max_llm_calls")), ("2".to_owned(), "7".to_owned()));
    assert_eq!((told("agent_hops"), told("iteration")), ("3".to_owned(), "1".to_owned()));
    assert_eq!(told("active_stages"), r#"["draft"]"#);
    assert_eq!(told("completed_stages"), r#"["edit"]"#);
    assert_eq!(told("stage_visits"), r#"{"draft":2,"edit":1}"#);
    assert_eq!(
        (told("outputs"), told("loop_feedback")),
        (r#"{"draft":{"v":1}}"#.into(), r#"["more"]"#.into())
    );
    assert_eq!(told("version"), desk.envelope().version.to_string());

    let asked = NewInterrupt {
        blocking: Some(false),
        question: Some(Arc::from("well?")),
        ..NewInterrupt::new(InterruptKind::Checkpoint)
    };
    let (pid, interrupt) = (ids().0, Box::new(asked));
    desk.say(CommandBody::CreateInterrupt { pid, interrupt }).unwrap();
    let shown = desk.task("draft").context;
    assert_eq!(shown.get("interrupt_pending").unwrap().to_string(), "true");
    let asked = shown.get("interrupt").unwrap();
    let told = |key: &str| asked.get(key).unwrap().as_str().unwrap().to_owned();
    let kind = [told("kind"), told("question"), told("status"), told("on_expiry")];
    assert_eq!(kind, ["checkpoint", "well?", "pending", "continue"]);
}

/// K290: a task says all that its worker needs, and nothing that is another at the next look.
#[test]
fn a_task_is_the_same_at_every_look() {
    let mut desk = Desk::new(linear());
    desk.poll();
    let first = desk.task("draft").to_json();
    let keys: Vec<&str> = first.as_object().unwrap().iter().map(|(key, _)| &**key).collect();
    let all = [
        "agent_config",
        "agent_name",
        "attempt_id",
        "deadline_at_ms",
        "envelope",
        "interrupt_expired",
        "max_tool_rounds",
        "required_output_fields",
        "router_targets",
        "stage",
        "try_number",
        "visit",
    ];
    assert_eq!(keys, all);
    let until = desk.task("draft").lease_until;
    desk.rig.now = desk.rig.now.plus(40_000);
    desk.poll();
    assert_ne!(desk.task("draft").lease_until, until, "its lease was renewed");
    assert_eq!(desk.task("draft").to_json(), first);
}
