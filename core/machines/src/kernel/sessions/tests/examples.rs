//! Goal: the worked examples of 8.6, row by row.
//! Method: one test for each example; each assertion is a row of the table, in its order.

use crate::kernel::names::ProcessState;
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::sessions::Pipeline;
use crate::kernel::sessions::rig::{Desk, agent, linear, pipeline};

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
    let mut desk =
        Desk::new(pipeline(&format!("{{'name': 'f', 'stages': [{fetch}, {repair}]}}")));
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
