//! Goal: stages run side by side, join and merge as K273–K278 say.

use crate::kernel::CommandBody;
use crate::kernel::config::KernelConfig;
use crate::kernel::interrupts::interrupt::NewInterrupt;
use crate::kernel::names::InterruptKind;
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::reply::Done;
use crate::kernel::rig::{Rig, pid, submit};
use crate::kernel::sessions::Pipeline;
use crate::kernel::sessions::report::{Metrics, Report};
use crate::kernel::sessions::rig::{Desk, agent, pipeline};

/// A Fork with branches `a`, `b` and `c`; `more` are fields of the pipeline and of the Fork.
fn fork(of_pipeline: &str, of_fork: &str, branch: &str) -> Pipeline {
    let rule = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let rules = ["a", "b", "c"].map(rule).join(", ");
    let fork = format!("{{'name': 'f', 'node_kind': 'Fork', 'routing': [{rules}]{of_fork}}}");
    let branches = ["a", "b", "c"].map(|name| agent(name, branch)).join(", ");
    let rest = [agent("next", ""), agent("repair", "")].join(", ");
    pipeline(&format!("{{'name': 'g'{of_pipeline}, 'stages': [{fork}, {branches}, {rest}]}}"))
}

/// K25, K277: branches that each had room may have none together.
#[test]
fn outputs_of_a_merge_that_are_too_many_end_the_session() {
    let mut config = KernelConfig::new();
    config.limits.entries = 8;
    let stages: Vec<String> = (0..9).map(|at| agent(&format!("s{at}"), "'after': []")).collect();
    let stages =
        format!("{{'name': 'p', 'run_mode': 'Parallel', 'stages': [{}]}}", stages.join(", "));
    let mut desk = Desk::on(Rig::with(config), pipeline(&stages), submit("p"));
    desk.poll();
    for at in 0..8 {
        desk.succeed(&format!("s{at}"), "{}");
    }
    assert_eq!(desk.succeed("s8", "{}"), "Terminate SystemError");
    let ended = desk.rig.process("p").termination_message.clone().unwrap();
    assert!(ended.contains("9 entries of outputs, at most 8"), "{ended}");
    assert_eq!(desk.envelope().outputs.len(), 0);
}

/// K427, K278: in run mode Parallel, too, what was denied is not issued again: `denied_stage` is,
/// and what needs it.
#[test]
fn a_denial_between_stages_side_by_side_leads_to_its_stage_alone() {
    let stages = [
        agent("asks", ""),
        agent("apart", ""),
        agent("sorry", "'after': ['apart']"),
        agent("tell", "'requires': ['sorry']"),
        agent("use", "'requires': ['asks']"),
    ];
    let mut desk = Desk::new(pipeline(&format!(
        "{{'name': 'p', 'run_mode': 'Parallel', 'denied_stage': 'sorry', 'stages': [{}]}}",
        stages.join(", ")
    )));
    assert_eq!(desk.poll(), "RunAgents [asks 1.1, apart 1.1]");
    let new = Box::new(NewInterrupt::new(InterruptKind::Confirmation));
    let report = Report { interrupt: Some(new), ..desk.done("asks", "{}") };
    assert_eq!(desk.report(&report), "WaitInterrupt");
    desk.rig.pass(60 * 60 * 1_000);
    assert_eq!(desk.poll(), "RunAgent sorry 1.1");
    assert_eq!(desk.succeed("sorry", "{}"), "RunAgents [tell 1.1]");
    assert_eq!(desk.succeed("tell", "{}"), "Terminate Completed");
}

/// K275: a branch that does not fit waits for the others, and is tried whenever one closes.
#[test]
fn a_branch_waits_for_budget_that_others_hold() {
    let mut desk = Desk::new(fork(", 'max_llm_calls': 2", ", 'default_next': 'next'", ""));
    assert_eq!(desk.poll(), "RunAgents [a 1.1, b 1.1]");
    let none =
        |desk: &Desk, stage: &str| Report { metrics: Metrics::default(), ..desk.done(stage, "{}") };
    let report = none(&desk, "b");
    assert_eq!(desk.report(&report), "RunAgents [a 1.1, c 1.1]", "b used nothing");
    assert_eq!(desk.succeed("a", "{}"), "RunAgents [c 1.1]");
    assert_eq!(desk.succeed("c", "{}"), "Terminate MaxLlmCallsExceeded", "next is one too many");

    let mut desk = Desk::new(fork(", 'max_llm_calls': 2", ", 'default_next': 'next'", ""));
    desk.poll();
    assert_eq!(desk.succeed("a", "{}"), "RunAgents [b 1.1]");
    assert_eq!(desk.succeed("b", "{}"), "Terminate MaxLlmCallsExceeded", "none is live");
}

/// K240 e, f, K269: a branch waits for its retry beside the others, and alone.
#[test]
fn a_branch_that_failed_waits_beside_the_others() {
    let retry = "'retry': {'max_retries': 1, 'initial_backoff_ms': 1000}";
    let mut desk = Desk::new(fork("", ", 'default_next': 'next'", retry));
    desk.poll();
    let until = |desk: &Desk| desk.rig.kernel.instruction(desk.rig.now, &pid("p")).unwrap().until;
    assert_eq!(until(&desk), None, "all are handed out");
    assert_eq!(desk.fail("a", ErrorKind::Tool), "RunAgents [b 1.1, c 1.1]");
    assert_eq!(until(&desk), Some(desk.rig.now.plus(1_000)), "when to ask again");
    desk.rig.pass(999);
    assert_eq!(desk.quiet_poll(), "RunAgents [b 1.1, c 1.1]");
    desk.rig.pass(1);
    assert_eq!(desk.poll(), "RunAgents [a 1.2, b 1.1, c 1.1]");
    desk.succeed("a", "{}");
    desk.succeed("b", "{}");
    let until = desk.rig.now.plus(1_000);
    assert_eq!(desk.fail("c", ErrorKind::Tool), format!("WaitParallel [c] Some({until:?})"));
    desk.rig.pass(1_000);
    assert_eq!(desk.poll(), "RunAgents [c 1.2]");
    assert_eq!(desk.succeed("c", "{}"), "RunAgent next 1.1");
}

/// K240, K275: a branch whose retry is due waits for what the others hold, which no time ends: who
/// drives the process would else ask again and again at once.
#[test]
fn a_branch_that_waits_for_budget_is_to_be_asked_for_at_no_time() {
    let retry = "'retry': {'max_retries': 1, 'initial_backoff_ms': 1000}";
    let mut desk = Desk::new(fork(", 'max_llm_calls': 3", ", 'default_next': 'next'", retry));
    desk.poll();
    desk.fail("a", ErrorKind::Tool);
    desk.rig.pass(5_000);
    let (by, body) = (desk.by.clone(), CommandBody::NextInstruction { pid: pid("p") });
    let (events, reply) = desk.rig.answered(&by, body).unwrap();
    let Done::Instruction(told) = reply.done else { panic!("no instruction") };
    assert_eq!(desk.told(), "RunAgents [b 1.1, c 1.1]");
    assert_eq!((events, told.until), (vec![], None));
}

/// K277, K271: a failed branch leads to error_next once all have ended, or to the end by the first
/// failed branch in branch order.
#[test]
fn a_failed_branch_decides_at_the_join() {
    let mut desk = Desk::new(fork("", ", 'error_next': 'repair'", ""));
    desk.poll();
    assert_eq!(desk.fail("b", ErrorKind::Tool), "RunAgents [a 1.1, c 1.1]");
    desk.succeed("a", "{'x': 1}");
    assert_eq!(desk.succeed("c", "{}"), "RunAgent repair 1.1");
    assert!(desk.output("a").is_some(), "every successful branch is merged");
    assert!(desk.envelope().failed_stages.keys().any(|stage| stage.as_str() == "b"));

    let mut desk = Desk::new(fork("", "", ""));
    desk.poll();
    desk.fail("c", ErrorKind::Llm);
    desk.fail("b", ErrorKind::Tool);
    assert_eq!(desk.succeed("a", "{}"), "Terminate ToolFailedFatally", "b comes before c");
}

/// K276: First joins at the first success; without one it fails when all have.
#[test]
fn first_joins_at_the_first_success() {
    let first = ", 'join': 'First', 'default_next': 'next'";
    let mut desk = Desk::new(fork("", first, ""));
    desk.poll();
    assert_eq!(desk.fail("a", ErrorKind::Tool), "RunAgents [b 1.1, c 1.1]");
    assert_eq!(desk.succeed("c", "{'v': 1}"), "RunAgent next 1.1");
    assert_eq!((desk.output("b"), desk.output("c").is_some()), (None, true));

    let mut desk = Desk::new(fork("", first, ""));
    desk.poll();
    desk.fail("c", ErrorKind::Llm);
    desk.fail("b", ErrorKind::Policy);
    assert_eq!(desk.fail("a", ErrorKind::Tool), "Terminate ToolFailedFatally");
}

/// K274: no true rule leads to default_next; branches pass the check of moves.
#[test]
fn a_fork_without_a_true_rule_goes_on() {
    let rule = "{'condition': 'v', 'value': 1, 'target': 'a'}";
    let fork =
        format!("{{'name': 'f', 'node_kind': 'Fork', 'routing': [{rule}], 'default_next': 'b'}}");
    let stages = [agent("s", "'default_next': 'f'"), fork, agent("a", ""), agent("b", "")];
    let text = format!("{{'name': 'g', 'stages': [{}]", stages.join(", "));
    let open = |more: &str| {
        let mut desk = Desk::new(pipeline(&format!("{text}{more}}}")));
        desk.poll();
        desk
    };
    assert_eq!(open("").succeed("s", "{'v': 2}"), "RunAgent b 1.1");
    let mut desk = open("");
    assert_eq!(desk.succeed("s", "{'v': 1}"), "RunAgents [a 1.1]", "a group of one");
    assert_eq!(desk.succeed("a", "{}"), "RunAgent b 1.1");
    assert_eq!((desk.edge("f", "a"), desk.edge("f", "b")), (1, 1));
}

/// K278: stages run as soon as what they require is done.
#[test]
fn parallel_stages_run_by_their_dependencies() {
    let stages = [
        agent("a", ""),
        agent("b", ""),
        agent("c", "'requires': ['a', 'b']"),
        agent("d", "'requires': ['c'], 'after': ['b']"),
    ];
    let text =
        format!("{{'name': 'p', 'run_mode': 'Parallel', 'stages': [{}]}}", stages.join(", "));
    let mut desk = Desk::new(pipeline(&text));
    assert_eq!(desk.poll(), "RunAgents [a 1.1, b 1.1]");
    assert_eq!(desk.succeed("b", "{}"), "RunAgents [a 1.1]");
    assert_eq!(desk.succeed("a", "{}"), "RunAgents [c 1.1]");
    assert_eq!(desk.succeed("c", "{}"), "RunAgents [d 1.1]");
    assert_eq!(desk.succeed("d", "{}"), "Terminate Completed");
    assert_eq!(desk.envelope().completed_stages.len(), 4);
    assert!(desk.envelope().parallel_mode);

    let mut desk = Desk::new(pipeline(&text));
    desk.poll();
    assert_eq!(desk.fail("a", ErrorKind::Tool), "RunAgents [b 1.1]", "the group joins first");
    assert_eq!(desk.succeed("b", "{}"), "Terminate ToolFailedFatally");
}

/// K277: a merge that would take the envelope over its limit ends the session.
#[test]
fn a_merge_that_is_too_large_ends_the_session() {
    let mut config = crate::kernel::config::KernelConfig::new();
    config.limits.envelope_bytes = 5_000;
    let rig = crate::kernel::rig::Rig::with(config);
    let mut desk = Desk::on(rig, fork("", "", ""), crate::kernel::rig::submit("p"));
    desk.poll();
    let large = format!("{{'text': '{}'}}", "x".repeat(1_500));
    desk.succeed("a", &large);
    desk.succeed("b", &large);
    assert_eq!(desk.succeed("c", &large), "Terminate SystemError", "each alone would fit");
}
