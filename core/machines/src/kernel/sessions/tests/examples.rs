//! Goal: the worked examples of 8.6, row by row.
//! Method: one test for each example; each assertion is a row of the table, in its order.

use std::sync::Arc;

use crate::kernel::CommandBody;
use crate::kernel::ids::UseId;
use crate::kernel::interrupts::approval::Use;
use crate::kernel::interrupts::interrupt::{NewInterrupt, NewTarget, Response};
use crate::kernel::interrupts::target::TargetHash;
use crate::kernel::json::Json;
use crate::kernel::names::{InterruptKind, ProcessState};
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::sessions::Pipeline;
use crate::kernel::sessions::report::Report;
use crate::kernel::sessions::rig::{Desk, agent, json, linear, pipeline, refused};

/// Linear: `draft` → `edit` → end.
#[test]
fn linear_example() {
    let mut desk = Desk::new(linear());
    assert_eq!(desk.poll(), "RunAgent draft 1.1", "scheduled, claimed, issued");
    assert_eq!(desk.hops(), (1, 1));
    let att1 = desk.task("draft").attempt;
    assert_eq!(desk.quiet_poll(), "RunAgent draft 1.1");
    assert_eq!(desk.task("draft").attempt, att1);

    let first = desk.done("draft", "{'text': 'a'}");
    assert_eq!(desk.report(&first), "RunAgent edit 1.1");
    assert_eq!((desk.edge("draft", "edit"), desk.hops()), (1, (2, 1)));
    let before = desk.rig.events.len();
    assert_eq!(desk.report(&first), "RunAgent edit 1.1", "the same again");
    assert_eq!(desk.rig.events.len(), before);

    let mut second = desk.done("edit", "{'text': 'b'}");
    let edit = std::mem::replace(&mut second.agent, first.agent);
    let told = desk.report(&second);
    assert!(told.starts_with("wrong_agent: "), "{told}");
    assert_eq!(desk.rig.events.len(), before, "nothing has changed");

    second.agent = edit;
    assert_eq!(desk.report(&second), "Terminate Completed");
    assert_eq!(desk.quiet_poll(), "Terminate Completed");
    assert_eq!(desk.rig.state("p"), ProcessState::Terminated);
}

/// Loop: `writer` → `critic`; critic goes back as long as it says so.
fn looping(more: &str) -> Pipeline {
    let writer = agent("writer", "'default_next': 'critic'");
    let rule = "{'condition': 'verdict', 'value': 'revise', 'target': 'writer'}";
    let critic = agent("critic", &format!("'routing': [{rule}]"));
    pipeline(&format!(
        "{{'name': 'loop', 'max_iterations': 2, 'stages': [{writer}, {critic}]{more}}}"
    ))
}

fn round(desk: &mut Desk) -> String {
    assert!(desk.succeed("writer", "{'text': 'a'}").starts_with("RunAgent critic"));
    desk.succeed("critic", "{'verdict': 'revise'}")
}

#[test]
fn loop_example() {
    let mut desk = Desk::new(looping(""));
    desk.poll();
    assert_eq!(round(&mut desk), "RunAgent writer 2.1");
    assert_eq!((desk.session().iteration, desk.edge("critic", "writer")), (1, 1));
    assert_eq!(round(&mut desk), "RunAgent writer 3.1");
    assert_eq!((desk.session().iteration, desk.edge("critic", "writer")), (2, 2));
    assert_eq!(round(&mut desk), "Terminate MaxIterationsExceeded");
    assert_eq!((desk.session().iteration, desk.edge("critic", "writer")), (2, 2), "not moved");

    let limit = ", 'edge_limits': [{'from': 'critic', 'to': 'writer', 'max_count': 1}]";
    let mut desk = Desk::new(looping(limit));
    desk.poll();
    round(&mut desk);
    assert_eq!(round(&mut desk), "Terminate EdgeLimitExceeded");
    assert_eq!((desk.session().iteration, desk.edge("critic", "writer")), (1, 1));
}

/// Failure: `fetch`, max_retries 1, initial backoff 1,000, error_next `repair`.
#[test]
fn failure_example() {
    let retry = "'retry': {'max_retries': 1, 'initial_backoff_ms': 1000}";
    let fetch = agent("fetch", &format!("{retry}, 'error_next': 'repair'"));
    let repair = agent("repair", "");
    let mut desk = Desk::new(pipeline(&format!("{{'name': 'f', 'stages': [{fetch}, {repair}]}}")));
    desk.poll();
    let until = desk.rig.now.plus(1_000);
    let waits = format!("Wait Backoff {until:?}");
    assert_eq!(desk.fail("fetch", ErrorKind::Tool), waits);
    desk.rig.pass(999);
    assert_eq!(desk.quiet_poll(), waits);
    assert_eq!(desk.rig.state("p"), ProcessState::Blocked);

    desk.rig.pass(1);
    assert_eq!(desk.poll(), "RunAgent fetch 1.2");
    let error = desk.task("fetch").prior_error.unwrap();
    assert_eq!((error.kind, &*error.error), (ErrorKind::Tool, "it broke"));
    assert_eq!(desk.hops().0, 1, "no hop");
    assert_eq!(desk.fail("fetch", ErrorKind::Tool), "RunAgent repair 1.1");
    assert_eq!((desk.edge("fetch", "repair"), desk.hops().0), (1, 2));
    assert_eq!(desk.fail("repair", ErrorKind::Tool), "Terminate ToolFailedFatally");
}

/// Fork: `plan` → `split` (Always → a, Always → b; default_next `merge`) → `merge` → end.
fn forked(join: &str) -> Pipeline {
    let rule = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let rules = [rule("a"), rule("b")].join(", ");
    let split = format!(
        "{{'name': 'split', 'node_kind': 'Fork', 'routing': [{rules}], \
         'default_next': 'merge', 'join': '{join}'}}"
    );
    let stages = [
        agent("plan", "'default_next': 'split'"),
        split,
        agent("a", ""),
        agent("b", ""),
        agent("merge", ""),
    ];
    let state = "'state_schema': [{'key': 'notes', 'merge': 'Append'}]";
    pipeline(&format!("{{'name': 'fork', {state}, 'stages': [{}]}}", stages.join(", ")))
}

fn fork_opened(join: &str) -> Desk {
    let mut desk = Desk::new(forked(join));
    desk.poll();
    assert_eq!(desk.succeed("plan", "{}"), "RunAgents [a 1.1, b 1.1]");
    assert_eq!(desk.hops(), (3, 2), "two hops; both hold their reserve");
    desk
}

#[test]
fn fork_example() {
    let mut desk = fork_opened("All");
    assert_eq!(desk.succeed("b", "{'notes': 'from b'}"), "RunAgents [a 1.1]");
    assert_eq!(desk.quiet_poll(), "RunAgents [a 1.1]");
    assert_eq!(desk.output("b"), None, "b's output waits for the join");
    assert_eq!(desk.succeed("a", "{'notes': 'from a'}"), "RunAgent merge 1.1");
    let notes = desk.envelope().state.get("notes").unwrap().to_string();
    assert_eq!(notes, r#"["from a","from b"]"#, "merged a, then b");

    let mut desk = fork_opened("First");
    let late = desk.done("a", "{'notes': 'from a'}");
    assert_eq!(desk.succeed("b", "{'notes': 'from b'}"), "RunAgent merge 1.1");
    assert_eq!((desk.output("a"), desk.output("b").is_some()), (None, true), "only b merged");
    let account = &desk.rig.process("p").account;
    assert_eq!(account.used.amounts.llm_calls, 3, "plan, b, and the hold of a");
    assert_eq!(account.held.llm_calls, 1, "that of merge");
    let before = desk.rig.events.len();
    let told = desk.report(&late);
    assert!(told.starts_with("attempt_superseded: "), "{told}");
    assert_eq!(desk.rig.events.len(), before, "nothing has changed");
}

/// Interrupt: `pay` asks before paying, target {action: pay, params: {to: X, sum: 10}}.
fn asks() -> Desk {
    let pay = agent("pay", "");
    let mut desk = Desk::new(pipeline(&format!("{{'name': 'i', 'stages': [{pay}]}}")));
    desk.poll();
    let target = NewTarget {
        action: Arc::from("pay"),
        params: json(r#"{"to": "X", "sum": 10}"#),
        binds: Vec::new(),
    };
    let new = NewInterrupt {
        target: Some(Box::new(target)),
        ..NewInterrupt::new(InterruptKind::Confirmation)
    };
    let report = Report { interrupt: Some(Box::new(new)), ..desk.done("pay", "{}") };
    assert_eq!(desk.report(&report), "WaitInterrupt");
    assert_eq!(desk.quiet_poll(), "WaitInterrupt");
    assert_eq!(desk.rig.state("p"), ProcessState::Waiting);
    desk
}

fn resolve(desk: &mut Desk, approved: bool, hash: Option<TargetHash>) -> String {
    let id = desk.asked().id;
    let response = Response { approved: Some(approved), target_hash: hash, ..Response::default() };
    refused(desk.say(CommandBody::ResolveInterrupt { id, response: Box::new(response) }))
}

#[test]
fn interrupt_example() {
    let mut desk = asks();
    let int1 = desk.asked();
    assert_eq!(int1.expires_at, Some(desk.rig.now.plus(3_600_000)), "expires in 1 h");
    assert!(resolve(&mut desk, true, None).starts_with("response_invalid: "));
    assert_eq!(desk.asked(), int1, "pending");

    let hash = int1.target.as_ref().map(|target| target.hash);
    let before = desk.rig.events.len();
    resolve(&mut desk, true, hash);
    assert_eq!(desk.rig.state("p"), ProcessState::Ready, "in the same decision");
    assert_eq!(desk.rig.kinds(before)[..2], ["interrupt.resolved", "approval.granted"]);
    let no = Response { approved: Some(false), target_hash: hash, ..Response::default() };
    let again = CommandBody::ResolveInterrupt { id: int1.id.clone(), response: Box::new(no) };
    assert!(refused(desk.say(again)).starts_with("interrupt_not_pending: "));

    assert_eq!(desk.poll(), "RunAgent pay 1.2");
    assert_eq!(desk.hops().0, 1, "same visit, no hop");
    let task = desk.task("pay");
    assert_eq!(task.interrupt_response.unwrap().get("approved"), Some(&Json::from(true)));
    assert!(task.approval.is_some());
    assert_eq!(desk.quiet_poll(), "RunAgent pay 1.2");

    let wanted = |sum: u64| Use {
        interrupt: int1.id.clone(),
        action: Arc::from("pay"),
        params: Json::object([("to", Json::from("X")), ("sum", Json::from(sum))]),
        use_id: UseId::parse("use_id", "u").unwrap(),
    };
    let consume = |sum| CommandBody::ConsumeApproval(Box::new(wanted(sum)));
    assert!(refused(desk.say(consume(1_000))).starts_with("stale_target: "));
    assert_eq!(refused(desk.say(consume(10))), "1 events", "it was not used before");

    let mut desk = asks();
    desk.rig.pass(3_600_000);
    assert_eq!(desk.poll(), "Terminate InterruptDenied");
}
