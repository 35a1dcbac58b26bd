//! Goal: questions of stages, routes and budgets, and where their answers lead (K81, K118, K152,
//! K163–K168, K265, K273).

use std::sync::Arc;

use crate::kernel::CommandBody;
use crate::kernel::config::KernelConfig;
use crate::kernel::interrupts::interrupt::{NewInterrupt, Response};
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{ExpiryPolicy, InterruptKind, OnExhausted, ProcessState};
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::quota::QuotaField;
use crate::kernel::rig::{Rig, limits, operator, pid, submit};
use crate::kernel::sessions::Pipeline;
use crate::kernel::sessions::report::Report;
use crate::kernel::sessions::rig::{Desk, agent, pipeline, success};

/// `a` → `b` → `c` → end, with more fields.
fn three(more: &str) -> Pipeline {
    let stages =
        [agent("a", "'default_next': 'b'"), agent("b", "'default_next': 'c'"), agent("c", "")];
    pipeline(&format!("{{'name': 'q'{more}, 'stages': [{}]}}", stages.join(", ")))
}

fn asking(kind: InterruptKind) -> NewInterrupt {
    NewInterrupt::new(kind)
}

/// At `b`, which asks.
fn asked(more: &str, new: NewInterrupt) -> Desk {
    let mut desk = Desk::new(three(more));
    desk.poll();
    desk.succeed("a", "{}");
    let report = Report { interrupt: Some(Box::new(new)), ..desk.done("b", "{'part': 1}") };
    assert_eq!(desk.report(&report), "WaitInterrupt");
    desk
}

fn answer(desk: &mut Desk, response: Response) {
    let (id, response) = (desk.asked().id, Box::new(response));
    desk.say(CommandBody::ResolveInterrupt { id, response }).unwrap();
}

fn text(text: &str) -> Response {
    Response { text: Some(Arc::from(text)), ..Response::default() }
}

fn approve(approved: bool) -> Response {
    Response { approved: Some(approved), ..Response::default() }
}

/// K165, K262, K440: a Router that failed and led to a question is issued again when nobody answers
/// and the kind goes on then.
#[test]
fn a_router_that_failed_is_issued_again_after_its_question() {
    let mut config = KernelConfig::new();
    let kind = usize::from(InterruptKind::Clarification.number() - 1);
    config.interrupts[kind].on_expiry = ExpiryPolicy::Continue;
    let targets = "[{'target': 'n', 'description': 'the next'}]";
    let more = format!("'router_targets': {targets}, 'default_next': 'clarification'");
    let router =
        format!("{{'name': 'r', 'node_kind': 'Router', 'agent_config': {{'name': 'r'}}, {more}}}");
    let resume = "'clarification_resume_stage': 'n'";
    let text = format!("{{'name': 'q', {resume}, 'stages': [{router}, {}]}}", agent("n", ""));
    let mut desk = Desk::on(Rig::with(config), pipeline(&text), submit("p"));
    assert_eq!(desk.poll(), "RunAgent r 1.1");
    assert_eq!(desk.fail("r", ErrorKind::Tool), "WaitInterrupt");
    desk.rig.pass(24 * 60 * 60 * 1_000);
    assert_eq!(desk.poll(), "RunAgent r 1.2");
}

/// K165, K252: the stage that asked goes on, or the stage that is configured; never the first.
#[test]
fn an_answer_leads_to_the_stage_that_asked_or_the_configured_one() {
    let mut desk = asked("", asking(InterruptKind::Clarification));
    assert_eq!(desk.output("b").as_deref(), Some(r#"{"part":1}"#), "what was made is saved");
    answer(&mut desk, text("yes, blue"));
    assert_eq!(desk.poll(), "RunAgent b 1.2");
    let response = desk.task("b").interrupt_response.unwrap();
    assert_eq!(response.get("text").and_then(|text| text.as_str()), Some("yes, blue"));
    assert_eq!(desk.succeed("b", "{}"), "RunAgent c 1.1");
    assert_eq!(desk.task("c").interrupt_response, None, "K167: the next task only");

    let resume = ", 'clarification_resume_stage': 'c'";
    let mut desk = asked(resume, asking(InterruptKind::Clarification));
    answer(&mut desk, text("blue"));
    assert_eq!(desk.poll(), "RunAgent c 1.1");
    assert_eq!((desk.edge("b", "c"), desk.hops().0), (1, 3), "a move as any other");
}

/// K166: a denial leads to its stage, or to the end.
#[test]
fn a_denial_leads_to_its_stage_or_the_end() {
    let mut desk = asked("", asking(InterruptKind::Confirmation));
    let id = desk.asked().id;
    answer(&mut desk, approve(false));
    assert_eq!(desk.quiet_poll(), "Terminate InterruptDenied");
    let message = desk.rig.process("p").termination_message.clone();
    assert_eq!(message.as_deref(), Some(&*format!("user denied confirmation {id}")));

    let mut desk = asked(", 'denied_stage': 'c'", asking(InterruptKind::Confirmation));
    desk.rig.pass(3_600_000);
    assert_eq!(desk.poll(), "RunAgent c 1.1", "silence is a denial");
    assert_eq!(desk.edge("b", "c"), 1);
}

/// K163: after Continue the next task knows that nobody answered.
#[test]
fn a_task_is_told_that_nobody_answered() {
    let new = NewInterrupt {
        on_expiry: Some(ExpiryPolicy::Continue),
        ..asking(InterruptKind::Clarification)
    };
    let mut desk = asked("", new);
    desk.rig.pass(24 * 3_600_000);
    assert_eq!(desk.poll(), "RunAgent b 1.2");
    let task = desk.task("b");
    assert!(task.interrupt_expired && task.interrupt_response.is_none());
}

/// K265: routing to a question asks what the output words, at the stage that led there.
#[test]
fn routing_to_a_question_asks_it() {
    let ask = agent("a", "'default_next': 'clarification'");
    let stages = [ask, agent("b", "")].join(", ");
    let resume = "'clarification_resume_stage': 'b'";
    let mut desk = Desk::new(pipeline(&format!("{{'name': 'r', {resume}, 'stages': [{stages}]}}")));
    desk.poll();
    assert_eq!(desk.succeed("a", "{'question': 'which colour?'}"), "WaitInterrupt");
    assert_eq!(desk.asked().question.as_deref(), Some("which colour?"));
    assert_eq!(desk.session().position.as_str(), "a");
    answer(&mut desk, text("blue"));
    assert_eq!(desk.poll(), "RunAgent b 1.1");
}

/// K118: a session that a bound would end asks for more, once.
#[test]
fn a_budget_that_ran_out_is_asked_for() {
    let quota = limits(&[(QuotaField::MaxLlmCalls, 1)]);
    let open = || {
        let on_exhausted = OnExhausted::Interrupt;
        let new = Submit { quota: quota.clone(), on_exhausted, ..submit("p") };
        let mut desk = Desk::with(three(""), new);
        desk.poll();
        assert_eq!(desk.succeed("a", "{}"), "WaitInterrupt");
        assert_eq!(desk.asked().kind, InterruptKind::ResourceExhausted);
        desk
    };
    let mut desk = open();
    let raise = limits(&[(QuotaField::MaxLlmCalls, 2)]);
    let raise = CommandBody::AdjustQuota { pid: pid("p"), quota: raise };
    desk.rig.say(&operator(), raise).unwrap();
    answer(&mut desk, Response::default());
    assert_eq!(desk.poll(), "RunAgent b 1.1");
    assert_eq!(desk.succeed("b", "{}"), "WaitInterrupt", "asked again for the next");

    let mut desk = open();
    answer(&mut desk, Response::default());
    assert_eq!(desk.poll(), "Terminate MaxLlmCallsExceeded", "it still does not fit");
}

/// K81, K152: live attempts go on while somebody is asked; the answer returns the process to its
/// holder.
#[test]
fn an_answer_returns_the_process_to_who_works_for_it() {
    let mut desk = Desk::new(three(""));
    desk.poll();
    let ask = asking(InterruptKind::Clarification);
    let create =
        || CommandBody::CreateInterrupt { pid: pid("p"), interrupt: Box::new(ask.clone()) };
    desk.say(create()).unwrap();
    assert_eq!((desk.rig.state("p"), desk.session().attempts.len()), (ProcessState::Waiting, 1));
    answer(&mut desk, text("go on"));
    assert_eq!(desk.rig.state("p"), ProcessState::Running);
    assert_eq!(desk.quiet_poll(), "RunAgent a 1.1");

    let report = desk.done("a", "{}");
    desk.say(create()).unwrap();
    assert_eq!(desk.report(&report), "WaitInterrupt", "taken, and nothing more is handed out");
    assert_eq!(desk.session().position.as_str(), "b");
    assert!(desk.rig.process("p").run_lease.is_none());
    answer(&mut desk, text("go on"));
    assert_eq!(desk.rig.state("p"), ProcessState::Ready);
    assert_eq!(desk.poll(), "RunAgent b 1.1");
}

/// K79: who works while somebody is asked is lost as any other.
#[test]
fn a_lease_ends_while_somebody_is_asked() {
    let mut desk = Desk::new(three(""));
    desk.poll();
    let interrupt = Box::new(asking(InterruptKind::Clarification));
    desk.say(CommandBody::CreateInterrupt { pid: pid("p"), interrupt }).unwrap();
    desk.rig.pass(60_000);
    assert_eq!(desk.rig.state("p"), ProcessState::Waiting);
    assert!(desk.session().attempts.is_empty());
    answer(&mut desk, text("go on"));
    assert_eq!(desk.poll(), "RunAgent a 1.2");
}

/// K273: a branch that asked goes on where it is; its denial gives the group up.
#[test]
fn a_branch_that_asks_stays_in_its_group() {
    let rule = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let fork = |more: &str| {
        let rules = [rule("a"), rule("b")].join(", ");
        let fork = format!("{{'name': 'f', 'node_kind': 'Fork', 'routing': [{rules}]}}");
        let stages = [fork, agent("a", ""), agent("b", ""), agent("no", "")].join(", ");
        let mut desk = Desk::new(pipeline(&format!("{{'name': 'k'{more}, 'stages': [{stages}]}}")));
        desk.poll();
        let new = Some(Box::new(asking(InterruptKind::Confirmation)));
        let report = Report { interrupt: new, ..desk.done("a", "{}") };
        assert_eq!(desk.report(&report), "WaitInterrupt");
        assert_eq!(desk.session().attempts.len(), 1, "b goes on");
        desk
    };
    let mut desk = fork(", 'confirmation_resume_stage': 'no'");
    answer(&mut desk, approve(true));
    assert_eq!(desk.rig.state("p"), ProcessState::Running, "K81");
    assert_eq!(desk.poll(), "RunAgents [a 1.2, b 1.1]");
    assert!(desk.task("a").interrupt_response.is_some());
    assert!(desk.task("b").interrupt_response.is_none());

    let mut desk = fork(", 'denied_stage': 'no'");
    answer(&mut desk, approve(false));
    assert_eq!(desk.poll(), "RunAgent no 1.1");
    assert_eq!((desk.edge("f", "no"), desk.rig.process("p").account.held.llm_calls), (1, 1));
    let mut desk = fork("");
    answer(&mut desk, approve(false));
    assert_eq!(desk.quiet_poll(), "Terminate InterruptDenied");
}

/// `f` forks to `a` and `b`, who join by the first; then `next`. `a` asks, `b` goes on.
fn raced(kind: InterruptKind, more: &str) -> Desk {
    let rule = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let rules = [rule("a"), rule("b")].join(", ");
    let fork = format!(
        "{{'name': 'f', 'node_kind': 'Fork', 'join': 'First', 'default_next': 'next', \
         'routing': [{rules}]}}"
    );
    let others = ["a", "b", "next", "other"].map(|name| agent(name, "")).join(", ");
    let text = format!("{{'name': 'k'{more}, 'stages': [{fork}, {others}]}}");
    let mut desk = Desk::new(pipeline(&text));
    desk.poll();
    let report = Report { interrupt: Some(Box::new(asking(kind))), ..desk.done("a", "{}") };
    assert_eq!(desk.report(&report), "WaitInterrupt");
    desk
}

/// K165, K273: the answer to a branch whose group others have decided leads nowhere: the session
/// goes on from where it is.
#[test]
fn a_late_answer_to_a_branch_does_not_move_the_session() {
    for (kind, more, response) in [
        (InterruptKind::Clarification, ", 'clarification_resume_stage': 'other'", text("blue")),
        (InterruptKind::Confirmation, ", 'confirmation_resume_stage': 'other'", approve(true)),
    ] {
        let mut desk = raced(kind, more);
        let won = desk.session().attempts.keys().next().unwrap().clone();
        desk.report(&success(&won, "b", "{}"));
        assert_eq!(desk.session().position.as_str(), "next", "{kind:?}: b was the first");
        answer(&mut desk, response);
        assert_eq!(desk.poll(), "RunAgent next 1.1", "{kind:?}");
        assert_eq!((desk.edge("f", "next"), desk.edge("next", "other")), (1, 0), "{kind:?}");
    }
}

/// K78: who works on a branch keeps the run lease by asking, while another branch waits.
#[test]
fn who_polls_while_somebody_is_asked_keeps_the_lease() {
    let mut desk = raced(InterruptKind::Clarification, "");
    for _ in 0..6 {
        desk.rig.pass(20_000);
        assert_eq!(desk.poll(), "WaitInterrupt");
    }
    assert!(desk.rig.process("p").run_lease.is_some());
    assert_eq!(desk.session().attempts.len(), 1, "b is not lost");
}
