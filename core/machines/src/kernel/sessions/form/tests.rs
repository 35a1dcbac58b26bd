use super::*;
use crate::kernel::sessions::rig::{Desk, json, linear};

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
