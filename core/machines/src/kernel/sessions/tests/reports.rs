//! Goal: reports are checked, charged and taken as K250–K255 say, and tasks are as K243 and K267.

use std::sync::Arc;

use crate::kernel::CommandBody;
use crate::kernel::budget::Reserve;
use crate::kernel::config::KernelConfig;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::ids::{AttemptId, StageName};
use crate::kernel::interrupts::interrupt::NewInterrupt;
use crate::kernel::json::Json;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{InterruptKind, ProcessState};
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::query::bounds::BoundsOf;
use crate::kernel::query::{Query, Told};
use crate::kernel::quota::{Amounts, QuotaField};
use crate::kernel::rig::{Rig, calls, limits, pid, rsv, settle, submit, user};
use crate::kernel::sessions::report::{Metrics, Report, ToolResult};
use crate::kernel::sessions::rig::{Desk, agent, json, linear, pipeline, refused};
use crate::kernel::sessions::start::{EnvelopeChoice, Initialize};

/// K250, K410: what is wrong with a report changes nothing.
#[test]
fn a_wrong_report_is_refused() {
    let mut desk = Desk::new(linear());
    desk.poll();
    let good = desk.done("draft", "{}");
    let code = |desk: &mut Desk, report: &Report| {
        let before = desk.rig.events.len();
        let told = desk.report(report);
        assert_eq!(desk.rig.events.len(), before, "{told}");
        told
    };
    let attempt = AttemptId::parse("attempt_id", "att_x").unwrap();
    let unknown = Report { attempt, ..good.clone() };
    assert!(code(&mut desk, &unknown).starts_with("attempt_not_found: "));
    let list = Report { output: Some(json("[1,2]")), ..good.clone() };
    let told = "bad_output: output_json: expected an object, got array";
    assert_eq!(code(&mut desk, &list), told);
    let kinds = [ErrorKind::Timeout, ErrorKind::Dispatch];
    for kind in kinds {
        let kind = Report { success: false, error_kind: Some(kind), ..good.clone() };
        assert!(code(&mut desk, &kind).starts_with("bad_value: "));
    }
    let both = Report { error: Some(Arc::from("no")), ..good.clone() };
    assert!(code(&mut desk, &both).starts_with("bad_value: "));
    desk.report(&good);
    let other = Report { feedback: Some(Arc::from("more")), ..good };
    let told = code(&mut desk, &other);
    assert!(told.starts_with("attempt_closed: "), "{told}");
}

fn reserve(desk: &mut Desk, id: &str, amounts: Amounts) -> String {
    let reserve = Reserve {
        pid: pid("p"),
        reservation: Some(rsv(id)),
        attempt: Some(desk.task("draft").attempt),
        amounts,
        lease_ms: None,
    };
    refused(desk.say(CommandBody::Reserve(Box::new(reserve))))
}

/// K104, K251: an attempt's hold is drawn first, what its reservations charged is not charged
/// again, and what it still holds is free when it is reported.
#[test]
fn a_reservation_draws_from_the_hold_of_its_attempt() {
    let new = submit("p");
    let quota = limits(&[(QuotaField::MaxLlmCalls, 2)]);
    let mut desk = Desk::with(linear(), crate::kernel::lifecycle::Submit { quota, ..new });
    desk.poll();
    assert_eq!(reserve(&mut desk, "r", calls(2)), "2 events", "one was held; and a warning");
    let held = |desk: &Desk| desk.rig.process("p").account.held.llm_calls;
    assert_eq!(held(&desk), 2);
    assert!(reserve(&mut desk, "s", calls(1)).starts_with("quota_exceeded: "));
    desk.say(settle("p", "r", calls(1))).unwrap();
    assert_eq!((held(&desk), desk.rig.process("p").account.used.amounts.llm_calls), (0, 1));
    reserve(&mut desk, "open", calls(1));

    let metrics = Metrics { llm_calls: 1, ..Metrics::default() };
    let report = Report { metrics, ..desk.done("draft", "{}") };
    assert_eq!(desk.report(&report), "RunAgent edit 1.1", "nothing is charged twice");
    let account = desk.rig.process("p").account;
    assert_eq!((account.used.amounts.llm_calls, account.unreserved.llm_calls), (1, 0));
    assert_eq!(account.held, calls(1), "that of edit");
}

/// Nine stages one after the other, where an envelope has eight outputs at most.
fn nine_in_a_row() -> Desk {
    let mut config = KernelConfig::new();
    config.limits.entries = 8;
    let next = |at: usize| match at {
        8 => String::new(),
        _ => format!("'default_next': 's{}'", at + 1),
    };
    let stages: Vec<String> = (0..9).map(|at| agent(&format!("s{at}"), &next(at))).collect();
    let pipeline = pipeline(&format!("{{'name': 'l', 'stages': [{}]}}", stages.join(", ")));
    let mut desk = Desk::on(Rig::with(config), pipeline, submit("p"));
    desk.poll();
    desk
}

/// K25, K254: an envelope has so many outputs, whoever adds them, and the rest can be changed.
#[test]
fn an_output_too_many_is_a_failure() {
    let mut desk = nine_in_a_row();
    for at in 0..8 {
        let told = desk.succeed(&format!("s{at}"), "{}");
        assert_eq!(told, format!("RunAgent s{} 1.1", at + 1));
    }
    let told = desk.succeed("s8", "{}");
    assert!(told.starts_with("Terminate "), "{told}");
    let ended = desk.rig.process("p").termination_message.clone().unwrap();
    assert!(ended.contains("outputs: 9 entries, at most 8"), "{ended}");
    assert_eq!(desk.envelope().outputs.len(), 8);
}

/// K25, K252: what a stage made that asks counts like what one made that is done.
#[test]
fn an_output_too_many_with_a_question_is_a_failure() {
    let mut desk = nine_in_a_row();
    for at in 0..8 {
        desk.succeed(&format!("s{at}"), "{}");
    }
    let new = Box::new(NewInterrupt::new(InterruptKind::Clarification));
    let report = Report { interrupt: Some(new), ..desk.done("s8", "{}") };
    let told = desk.report(&report);
    assert!(told.starts_with("Terminate "), "{told}");
    let ended = desk.rig.process("p").termination_message.clone().unwrap();
    assert!(ended.contains("outputs: 9 entries, at most 8"), "{ended}");
    assert_eq!(desk.envelope().outputs.len(), 8);
}

/// K241: expressions look at so much and no more before somebody has something to do.
#[test]
fn a_session_whose_expressions_never_end_looking_is_ended() {
    let has = "{'op': 'Contains', 'field': {'scope': 'Meta', 'path': 't'}, 'value': 'needle'}";
    let any = |count: usize| format!("{{'op': 'Or', 'exprs': [{}]}}", vec![has; count].join(", "));
    let told = |count: usize| {
        let rule = format!("{{'expr': {}, 'target': 'end'}}", any(count));
        let gate = format!("'node_kind': 'Gate', 'routing': [{rule}, {rule}]");
        let gate = format!("{{'name': 'g', {gate}, 'default_next': 'a'}}");
        let stages = format!("{{'name': 'w', 'stages': [{gate}, {}]}}", agent("a", ""));
        let mut desk = Desk { rig: Rig::new(), by: user("alice"), name: "p" };
        desk.say(CommandBody::Submit(Box::new(submit("p")))).unwrap();
        let metadata = [("t".into(), Json::from("x".repeat(1_000_000)))].into();
        let new = NewEnvelope { metadata, ..NewEnvelope::default() };
        let envelope = EnvelopeChoice::New(Box::new(new));
        let asked =
            Initialize { pid: pid("p"), pipeline: pipeline(&stages), envelope, force: false };
        desk.say(CommandBody::InitializeSession(Box::new(asked))).unwrap();
        desk.poll()
    };
    assert_eq!(told(100), "RunAgent a 1.1");
    assert_eq!(told(200), "Terminate MaxLoopExceeded");
}

/// K253: a tool that the task did not permit makes it a failure of policy, which is not retried.
#[test]
fn a_tool_that_was_not_permitted_is_a_violation() {
    let config = "{'name': 'x', 'has_tools': true, 'tool_access': 'Read', \
                  'allowed_tools': ['look']}";
    let stage = format!(
        "{{'name': 'x', 'agent_config': {config}, 'retry': {{'max_retries': 5, \
         'retry_on': ['Policy']}}}}"
    );
    let used = |name: &str| {
        let (name, success, latency_ms, error_kind) = (Arc::from(name), true, 1, None);
        let tool_results = vec![ToolResult { name, success, latency_ms, error_kind }];
        Metrics { tool_results, ..Metrics::default() }
    };
    for (tool, told) in [("look", "Terminate Completed"), ("rm", "Terminate PolicyViolation")] {
        let mut desk = Desk::new(pipeline(&format!("{{'name': 't', 'stages': [{stage}]}}")));
        desk.poll();
        let report = Report { metrics: used(tool), ..desk.done("x", "{}") };
        assert_eq!(desk.report(&report), told);
    }
}

/// K254, K262: what a success must be; a Router goes only where it was told that it may.
#[test]
fn a_success_is_checked() {
    let wants = "'required_output_fields': ['text'], 'retry': {'max_retries': 1, \
                 'initial_backoff_ms': 0}";
    let mut desk =
        Desk::new(pipeline(&format!("{{'name': 'o', 'stages': [{}]}}", agent("x", wants))));
    desk.poll();
    assert_eq!(desk.succeed("x", "{}"), "RunAgent x 1.2");
    assert_eq!(desk.task("x").prior_error.unwrap().kind, ErrorKind::OutputInvalid);
    assert_eq!(desk.succeed("x", "{}"), "Terminate ToolFailedFatally");

    let when = "{'op': 'Exists', 'field': {'scope': 'Output', 'key': 'router', 'path': 'v'}}";
    let targets = format!("[{{'target': 'a'}}, {{'target': 'b', 'when': {when}}}]");
    let config = "{'name': 'router'}";
    let more = format!("'agent_config': {config}, 'router_targets': {targets}");
    let router = format!("{{'name': 'router', 'node_kind': 'Router', {more}}}");
    let stages = [router, agent("a", ""), agent("b", "")].join(", ");
    let text = format!("{{'name': 'r', 'stages': [{stages}]}}");
    let choose = |target: &str| {
        let mut desk = Desk::new(pipeline(&text));
        desk.poll();
        assert_eq!(desk.task("router").router_targets.len(), 1);
        let chosen_target = Some(StageName::parse("target", target).unwrap());
        let report = Report { chosen_target, ..desk.done("router", "{}") };
        desk.report(&report)
    };
    assert_eq!(choose("a"), "RunAgent a 1.1");
    assert_eq!(choose("b"), "Terminate ToolFailedFatally", "it was not handed out");
}

/// K251, K255: break, feedback and release.
#[test]
fn a_report_can_break_and_let_go() {
    let mut desk = Desk::new(linear());
    desk.poll();
    let report = Report { break_loop: true, ..desk.done("draft", "{'a': 1}") };
    assert_eq!(desk.report(&report), "Terminate BreakRequested");
    assert_eq!(desk.output("draft").as_deref(), Some(r#"{"a":1}"#));

    let mut desk = Desk::new(linear());
    desk.poll();
    let feedback = Some(Arc::from("shorter"));
    let report = Report { release_process: true, feedback, ..desk.done("draft", "{}") };
    assert_eq!(desk.report(&report), "Wait Released");
    assert_eq!(desk.envelope().loop_feedback.len(), 1);
    assert_eq!(desk.poll(), "RunAgent edit 1.1");
}

/// K243: a task that is too large fails, or leaves the oldest outputs out.
#[test]
fn a_task_that_is_too_large_leaves_out_the_oldest_or_fails() {
    let last = |overflow: &str| {
        let more = format!("'max_context_tokens': 350, 'context_overflow': '{overflow}'");
        agent("last", &more)
    };
    let open = |overflow: &str| {
        let first = agent("first", "'default_next': 'next'");
        let next = agent("next", "'default_next': 'last'");
        let stages = [first, next, last(overflow)].join(", ");
        let mut desk = Desk::new(pipeline(&format!("{{'name': 'c', 'stages': [{stages}]}}")));
        desk.poll();
        desk.succeed("first", &format!("{{'text': '{}'}}", "x".repeat(1_000)));
        desk
    };
    let mut desk = open("TruncateOldest");
    assert_eq!(desk.succeed("next", "{'text': 'y'}"), "RunAgent last 1.1");
    let context = desk.task("last").context;
    let outputs = context.get("outputs").unwrap();
    assert!(outputs.get("first").is_none() && outputs.get("next").is_some(), "{context}");
    assert!(context.length().div_ceil(4) <= 350);
    assert_eq!(open("Fail").succeed("next", "{}"), "Terminate LlmFailedFatally");
    let mut desk = open("TruncateOldest");
    let long = format!("{{'text': '{}'}}", "y".repeat(30));
    desk.report(&Report {
        feedback: Some(Arc::from("z".repeat(1_000))),
        ..desk.done("next", &long)
    });
    assert_eq!(desk.told(), "Terminate LlmFailedFatally", "it never fits");
}

/// K267: a bound stops only what would pass it.
#[test]
fn a_stage_without_a_model_still_runs_after_the_last_call() {
    let plain = "{'name': 'plain', 'agent_config': {'name': 'plain'}, 'default_next': 'ask'}";
    let stages = [agent("first", "'default_next': 'plain'"), plain.to_owned(), agent("ask", "")];
    let text = format!("{{'name': 'b', 'max_llm_calls': 1, 'stages': [{}]}}", stages.join(", "));
    let mut desk = Desk::new(pipeline(&text));
    desk.poll();
    assert_eq!(desk.succeed("first", "{}"), "RunAgent plain 1.1");
    let report = Report { metrics: Metrics::default(), ..desk.done("plain", "{}") };
    let before = desk.rig.events.len();
    assert_eq!(desk.report(&report), "Terminate MaxLlmCallsExceeded");
    assert!(desk.rig.kinds(before).contains(&"quota.exceeded"), "K114");

    let text = text.replace("'max_llm_calls': 1", "'max_agent_hops': 1");
    let mut desk = Desk::new(pipeline(&text));
    desk.poll();
    assert_eq!(desk.succeed("first", "{}"), "Terminate MaxAgentHopsExceeded");
}

/// K121: an attempt that calls a model waits for the rate of its process.
#[test]
fn the_rate_of_a_process_blocks_it_until_the_exact_time() {
    let quota = limits(&[(QuotaField::RateLimitRpm, 1)]);
    let new = crate::kernel::lifecycle::Submit { quota, ..submit("p") };
    let mut desk = Desk::with(linear(), new);
    desk.poll();
    let told = desk.succeed("draft", "{}");
    assert!(told.starts_with("Wait Rate "), "{told}");
    let until = desk.rig.process("p").block.clone().and_then(|block| block.until).unwrap();
    desk.rig.pass(until.since(desk.rig.now) - 1);
    assert_eq!(desk.quiet_poll(), told);
    desk.rig.pass(1);
    assert_eq!(desk.poll(), "RunAgent edit 1.1");
}

/// K35: what waits for the rate of its process cannot go on now, and nothing ends it.
#[test]
fn bounds_know_of_the_rate_of_a_process() {
    let quota = limits(&[(QuotaField::RateLimitRpm, 1)]);
    let mut desk = Desk::with(linear(), Submit { quota, ..submit("p") });
    let bounds = |desk: &Desk| {
        let of = BoundsOf::Process(pid("p"));
        match desk.rig.query(&user("alice"), &Query::CheckBounds { of }) {
            Ok(Told::Bounds(bounds)) => (bounds.can_continue, bounds.terminal_reason),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(bounds(&desk), (true, None));
    desk.poll();
    assert!(desk.succeed("draft", "{}").starts_with("Wait Rate "));
    assert_eq!(bounds(&desk), (false, None));
    let until = desk.rig.process("p").block.clone().and_then(|block| block.until).unwrap();
    desk.rig.pass(until.since(desk.rig.now));
    assert_eq!(bounds(&desk), (true, None));
}

/// K121, K269: a branch that waits for the rate does not hold up another's retry.
#[test]
fn a_retry_of_a_branch_comes_while_another_waits_for_the_rate() {
    let rule = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let rules = [rule("a"), rule("b")].join(", ");
    let fork = format!("{{'name': 'f', 'node_kind': 'Fork', 'routing': [{rules}]}}");
    let retry = "'retry': {'max_retries': 1, 'initial_backoff_ms': 1000, 'jitter_pct': 0}";
    let plain = agent("a", retry).replace("'has_llm': true", "'has_llm': false");
    let plain = plain.replace(", 'model_role': 'fast'", "");
    let stages = [fork, plain, agent("b", "")].join(", ");
    let text = format!("{{'name': 'g', 'stages': [{stages}]}}");
    let quota = limits(&[(QuotaField::RateLimitRpm, 0)]);
    let mut desk = Desk::with(pipeline(&text), Submit { quota, ..submit("p") });
    assert_eq!(desk.poll(), "RunAgents [a 1.1]");
    let told = desk.fail("a", ErrorKind::Tool);
    assert!(told.starts_with("Wait Rate "), "{told}");
    desk.rig.pass(1_000);
    assert_eq!(desk.poll(), "RunAgents [a 1.2]");
}

/// K241: a task that never fits, and whose failure leads back to it, does not hold a decision up.
#[test]
fn a_ring_of_tasks_that_are_too_large_ends() {
    let more = "'max_context_tokens': 1, 'error_next': 'a'";
    let text = format!("{{'name': 'r', 'step_limit': 5, 'stages': [{}]}}", agent("a", more));
    let text = text.replace("'step_limit'", "'max_iterations': -1, 'step_limit'");
    let quota = limits(&[(QuotaField::MaxIterations, u64::MAX)]);
    let mut desk = Desk::with(pipeline(&text), Submit { quota, ..submit("p") });
    assert_eq!(desk.poll(), "Terminate MaxLoopExceeded");
    assert_eq!(desk.edge("a", "a"), 6, "as often as it may go through gates, and once more");
}

/// K25, K254: whatever failures tell, an envelope stays within its limit.
#[test]
fn what_failures_tell_is_kept_while_there_is_room() {
    let mut config = KernelConfig::new();
    config.limits.envelope_bytes = config.limits.envelope_bytes.min(400 << 10);
    let most = config.limits.envelope_bytes;
    let retry = "'retry': {'max_retries': 1000, 'initial_backoff_ms': 0}";
    let text = format!("{{'name': 'f', 'max_llm_calls': 100, 'stages': [{}]}}", agent("a", retry));
    let quota = limits(&[(QuotaField::MaxLlmCalls, 100)]);
    let new = Submit { quota, ..submit("p") };
    let mut desk = Desk::on(Rig::with(config), pipeline(&text), new);
    desk.poll();
    for _ in 0..20 {
        let long = |with: &str| Some(Arc::from(with.repeat(16 << 10)));
        let failed = desk.failed("a", ErrorKind::Tool);
        desk.report(&Report { error: long("e"), feedback: long("f"), ..failed });
        desk.rig.pass(1);
        desk.poll();
    }
    let envelope = desk.envelope();
    assert!(envelope.loop_feedback.len() > 3, "{}", envelope.loop_feedback.len());
    assert!(envelope.loop_feedback.len() < 20 && envelope.bytes() <= most, "{}", envelope.bytes());
}

/// K113: iterations are warned of as any other resource is.
#[test]
fn iterations_that_are_nearly_used_up_are_warned_of() {
    let more = "'default_next': 'a'";
    let text = format!("{{'name': 'w', 'max_iterations': -1, 'stages': [{}]}}", agent("a", more));
    let quota = limits(&[(QuotaField::MaxIterations, 5)]);
    let mut desk = Desk::with(pipeline(&text), Submit { quota, ..submit("p") });
    desk.poll();
    for round in 1..=4 {
        let before = desk.rig.events.len();
        desk.succeed("a", "{}");
        let warned = desk.rig.kinds(before).contains(&"quota.warning");
        assert_eq!(warned, round == 4, "round {round}");
    }
}

/// K114: time that ends a session is told of.
#[test]
fn a_session_whose_time_is_over_was_told_that_a_bound_was_reached() {
    let quota = limits(&[(QuotaField::TimeoutMs, 10_000)]);
    let mut desk = Desk::with(linear(), Submit { quota, ..submit("p") });
    desk.poll();
    let before = desk.rig.events.len();
    desk.rig.pass(10_000);
    let kinds = desk.rig.kinds(before);
    assert_eq!(kinds.iter().filter(|kind| **kind == "quota.exceeded").count(), 1, "{kinds:?}");
}

/// K65, K240: without any time the first poll is refused as a schedule is.
#[test]
fn a_process_without_any_time_is_not_claimed_by_a_poll() {
    let quota = limits(&[(QuotaField::TimeoutMs, 0)]);
    let mut desk = Desk::with(linear(), Submit { quota, ..submit("p") });
    let refused = "quota_exceeded: timeout_exceeded: 0 of 0";
    assert_eq!(desk.poll(), refused);
    assert_eq!(desk.rig.state("p"), ProcessState::New);
}
