//! Goal: what the node drives comes to its end, each attempt by one dispatch, whatever is refused,
//! fails or breaks off on the way (K290, K294, K362).
//! Method: a keeper on a disk in memory; workers take tasks and end them as the test says.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks what it asks about")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::KeeperParams;
use super::super::io::{Input, Report as Found};
use super::super::rig::{Disk, Rig, params};
use super::{alice, pid, state};
use crate::kernel::dispatch::{Completion, Dispatch, Task};
use crate::kernel::envelopes::EnvelopePatch;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::ids::{EnvelopeId, InterruptId, ServiceName, ServiceType, UserId};
use crate::kernel::interrupts::interrupt::{NewInterrupt, Response};
use crate::kernel::json::{Json, JsonLimits};
use crate::kernel::names::{InterruptKind, ProcessState, TerminalReason};
use crate::kernel::pipeline::PipelineConfig;
use crate::kernel::pipeline::limits::FlowLimits;
use crate::kernel::principal::{Principal, Role};
use crate::kernel::process::Process;
use crate::kernel::reply::Done;
use crate::kernel::rig::submit;
use crate::kernel::services::ServiceInfo;
use crate::kernel::sessions::execute::Execute;
use crate::kernel::sessions::start::{EnvelopeChoice, Initialize};
use crate::kernel::sessions::{Pipeline, Session};
use crate::kernel::{Code, CommandBody, Refusal};

const GOOD: &str = "{'success': true, 'output': {'v': 1}}";

fn worker() -> Principal {
    Principal::new(UserId::parse("user", "w").unwrap(), &[Role::Worker])
}

fn operator() -> Principal {
    Principal::new(UserId::parse("user", "ops").unwrap(), &[Role::Operator])
}

fn json(text: &str) -> Json {
    let text = text.replace('\'', "\"");
    Json::parse("test", text.as_bytes(), &JsonLimits::DEFAULT).unwrap()
}

/// A stage that runs an agent of its name; `more` are further fields.
fn agent(name: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    format!("{{'name': '{name}', 'agent_config': {{'name': '{name}'}}{more}}}")
}

fn pipeline(stages: &[String], more: &str) -> Pipeline {
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    let text = format!("{{'name': 'flow', 'stages': [{}]{more}}}", stages.join(", "));
    let config = PipelineConfig::parse(&json(&text), &FlowLimits::DEFAULT);
    Pipeline::new(config.unwrap_or_else(|refusal| panic!("{refusal}")))
}

/// `draft` → `edit` → end.
fn linear() -> Pipeline {
    pipeline(&[agent("draft", "'default_next': 'edit'"), agent("edit", "")], "")
}

/// One stage.
fn single(more: &str) -> Pipeline {
    pipeline(&[agent("draft", more)], "")
}

fn executed(name: &str, pipeline: Pipeline) -> CommandBody {
    let id = Some(EnvelopeId::parse("envelope_id", &format!("env-{name}")).unwrap());
    let envelope = EnvelopeChoice::New(Box::new(NewEnvelope { id, ..NewEnvelope::default() }));
    CommandBody::ExecutePipeline(Box::new(Execute { submit: submit(name), pipeline, envelope }))
}

fn service(name: &str) -> ServiceName {
    ServiceName::parse("service", name).unwrap()
}

fn register(rig: &mut Rig, name: &str) {
    let kind = ServiceType::parse("type", "flow").unwrap();
    let info = Box::new(ServiceInfo::new(service(name), kind));
    rig.say(&worker(), CommandBody::RegisterService(info)).unwrap();
}

/// A node with the service that stages use by default.
fn served() -> Rig {
    let mut rig = Rig::new();
    register(&mut rig, "flow_service");
    rig
}

/// Lets the executor do all that it can do now.
fn work(rig: &mut Rig) {
    for _ in 0..1_000 {
        rig.input(Input::Tick);
        rig.settle();
        if rig.keeper.deadline() > rig.now {
            return;
        }
    }
    panic!("it never comes to rest");
}

/// Takes what waits for a worker.
fn lease(rig: &mut Rig) -> Vec<Task> {
    lease_of(rig, "flow_service", 8)
}

fn lease_of(rig: &mut Rig, name: &str, max: u32) -> Vec<Task> {
    work(rig);
    let decided = rig.say(&worker(), CommandBody::LeaseTasks { service: service(name), max });
    match decided.unwrap().reply.done {
        Done::Tasks(tasks) => tasks,
        other => panic!("no tasks: {other:?}"),
    }
}

/// The stage that a task is of.
fn stage(task: &Task) -> String {
    task.data.get("stage").and_then(Json::as_str).unwrap().to_owned()
}

fn complete(rig: &mut Rig, task: &Task, result: &str) {
    let data = Some(json(result));
    let lease = task.lease.clone();
    let done = Completion { lease, success: true, data, error: None, error_kind: None };
    rig.say(&worker(), CommandBody::CompleteTask(Box::new(done))).unwrap();
    work(rig);
}

fn fail(rig: &mut Rig, task: &Task) {
    let (lease, error) = (task.lease.clone(), Some("it broke".to_owned()));
    let done = Completion { lease, success: false, data: None, error, error_kind: None };
    rig.say(&worker(), CommandBody::CompleteTask(Box::new(done))).unwrap();
    work(rig);
}

fn process<'a>(rig: &'a Rig, name: &str) -> &'a Process {
    rig.keeper.kernel().unwrap().process(&pid(name)).unwrap()
}

fn session<'a>(rig: &'a Rig, name: &str) -> &'a Session {
    rig.keeper.kernel().unwrap().state().session(&pid(name)).unwrap()
}

/// How a process ended, and in which words.
fn end(rig: &Rig, name: &str) -> Option<(TerminalReason, String)> {
    let ended = session(rig, name).ended.as_ref()?;
    Some((ended.reason, ended.message.to_string()))
}

fn dispatches(rig: &Rig) -> BTreeMap<String, Dispatch> {
    let state = rig.keeper.kernel().unwrap().state();
    state.dispatches.iter().map(|(id, row)| (id.to_string(), row.clone())).collect()
}

fn held(rig: &Rig) -> usize {
    rig.keeper.executor().unwrap().held()
}

/// K290: claimed, polled, dispatched with the id of the attempt, reported, to the end.
#[test]
fn a_pipeline_is_driven_to_its_end_by_the_workers_of_its_services() {
    let mut rig = served();
    rig.say(&alice(), executed("p", linear())).unwrap();
    let tasks = lease(&mut rig);
    assert_eq!(tasks.iter().map(stage).collect::<Vec<_>>(), ["draft"]);
    let task = &tasks[0];
    let attempt = session(&rig, "p").attempts.keys().next().unwrap().clone();
    assert_eq!(task.dispatch.as_str(), attempt.as_str(), "the dispatch has the attempt's id");
    assert_eq!(task.data.get("attempt_id").and_then(Json::as_str), Some(attempt.as_str()));
    assert_eq!(&*task.method, "run_agent");
    assert!(task.data.get("envelope").is_some() && task.data.get("lease").is_none());
    complete(&mut rig, task, GOOD);
    let next = lease(&mut rig);
    assert_eq!(next.iter().map(stage).collect::<Vec<_>>(), ["edit"]);
    assert_eq!(held(&rig), 1);
    complete(&mut rig, &next[0], GOOD);
    assert_eq!(end(&rig, "p").unwrap().0, TerminalReason::Completed);
    assert_eq!((state(&rig, "p"), held(&rig)), (Some(ProcessState::Terminated), 0));
    assert_eq!(dispatches(&rig).len(), 2);
}

/// K290: whoever else asks what to do is refused.
#[test]
fn nobody_else_drives_it() {
    let mut rig = served();
    rig.say(&alice(), executed("p", linear())).unwrap();
    work(&mut rig);
    for by in [alice(), worker(), operator()] {
        let refused = rig.say(&by, CommandBody::NextInstruction { pid: pid("p") }).unwrap_err();
        assert_eq!(refused.code, Code::NotHolder);
    }
    let none = rig.say(&worker(), CommandBody::NextRunnable).unwrap_err();
    assert_eq!(none.code, Code::NoRunnable);
}

/// K5, K290: what is not durable is not heard of.
#[test]
fn nothing_is_driven_that_a_crash_could_take_back() {
    let mut rig = served();
    rig.send(&alice(), executed("p", linear()));
    for _ in 0..10 {
        rig.input(Input::Tick);
        rig.write_all();
    }
    assert_eq!(state(&rig, "p"), Some(ProcessState::Ready), "written, and not synced");
    work(&mut rig);
    assert_eq!(state(&rig, "p"), Some(ProcessState::Running));
}

/// K290: at most `executor_max` at once; the others wait for their turn.
#[test]
fn no_more_are_held_than_it_may() {
    let mut of = params(1);
    of.kernel.executor_max = 2;
    let mut rig = Rig::with(Disk::default(), KeeperParams { ..of });
    rig.settle();
    register(&mut rig, "flow_service");
    for name in ["a", "b", "c", "d", "e"] {
        rig.say(&alice(), executed(name, single(""))).unwrap();
    }
    let mut done = BTreeSet::new();
    for round in [2, 2, 1] {
        let tasks = lease(&mut rig);
        assert_eq!((tasks.len(), held(&rig)), (round, round));
        for task in &tasks {
            complete(&mut rig, task, GOOD);
            assert!(held(&rig) <= 2);
            assert!(done.insert(task.pid.clone().unwrap()));
        }
    }
    assert_eq!(done.len(), 5);
}

/// K290, K294: after a restart at any moment it polls, and finds the same attempts and dispatches.
#[test]
fn a_restart_at_any_moment_leads_to_the_same_end_by_the_same_dispatches() {
    for power in [true, false] {
        let mut moments = 0;
        for steps in 1.. {
            let mut rig = served();
            rig.send(&alice(), executed("p", linear()));
            let mut left = steps;
            let mut broken = false;
            for _ in 0..200 {
                broken = one_turn(&mut rig, &mut left, power) || broken;
                if broken {
                    // What nobody knows to have is handed out again, when its lease is over.
                    rig.now = rig.now + Duration::from_secs(1);
                }
                if state(&rig, "p").is_none() {
                    rig.send(&alice(), executed("p", linear()));
                }
                if end_of(&rig).is_some() && left > 0 {
                    break;
                }
                if end_of(&rig).is_some() && broken {
                    break;
                }
            }
            work(&mut rig);
            let told = format!("after {steps} steps, power {power}");
            assert_eq!(end_of(&rig), Some(TerminalReason::Completed), "{told}");
            let made = dispatches(&rig);
            assert_eq!(made.len(), 2, "one for each stage, {told}: {made:?}");
            moments = steps;
            if !broken {
                break;
            }
        }
        assert!(moments > 20, "it broke off at {moments} moments");
    }
}

fn end_of(rig: &Rig) -> Option<TerminalReason> {
    let session = rig.keeper.kernel()?.state().session(&pid("p"))?;
    session.ended.as_ref().map(|end| end.reason)
}

/// Everybody does one thing, and the disk too; when `left` is used up the node breaks off, once.
/// Says whether it did.
fn one_turn(rig: &mut Rig, left: &mut u32, power: bool) -> bool {
    let mut broke = false;
    let mut step = |rig: &mut Rig| {
        if *left > 0 {
            *left -= 1;
            if *left == 0 {
                rig.restart(power);
                broke = true;
            }
        }
        rig.step()
    };
    rig.input(Input::Tick);
    while step(rig) {}
    let body = CommandBody::LeaseTasks { service: service("flow_service"), max: 1 };
    let call = rig.send(&worker(), body);
    while step(rig) {}
    let Some(Ok(decided)) = rig.replies.remove(&call) else {
        return broke;
    };
    let Done::Tasks(tasks) = decided.reply.done else {
        return broke;
    };
    for task in tasks {
        let (lease, data) = (task.lease, Some(json(GOOD)));
        let done = Completion { lease, success: true, data, error: None, error_kind: None };
        let body = CommandBody::CompleteTask(Box::new(done));
        rig.send(&worker(), body.clone());
        while step(rig) {}
        rig.send(&worker(), body); // Whoever heard nothing says it again.
        while step(rig) {}
    }
    broke
}

/// K290: a dispatch that failed is a failure of kind Dispatch, tried again if the stage says so.
#[test]
fn a_failed_dispatch_is_a_failure_of_the_stage() {
    let mut rig = served();
    let retried = single("'retry': {'max_retries': 1, 'initial_backoff_ms': 1000}");
    rig.say(&alice(), executed("p", retried)).unwrap();
    let first = lease(&mut rig);
    fail(&mut rig, &first[0]);
    assert_eq!(state(&rig, "p"), Some(ProcessState::Blocked), "K269");
    assert_eq!(held(&rig), 0, "it waits for no one");
    rig.pass(Duration::from_secs(2));
    let second = lease(&mut rig);
    assert_ne!(second[0].dispatch, first[0].dispatch, "another attempt");
    let error = second[0].data.get("prior_error").unwrap();
    assert_eq!(error.to_string(), r#"{"error":"it broke","error_kind":"Dispatch"}"#);
    fail(&mut rig, &second[0]);
    let (reason, message) = end(&rig, "p").unwrap();
    assert_eq!((reason, message.as_str()), (TerminalReason::ToolFailedFatally, "it broke"));
}

/// What is no report ends the stage, and never leaves a process stuck.
#[test]
fn a_result_that_is_no_report_is_a_failure() {
    let results = [
        ("[1, 2]", "result: expected object, got array"),
        ("{}", "result.success is required"),
        ("{'success': true, 'pid': 'p'}", "result.pid: unknown field"),
        ("{'success': true, 'output': [1]}", "output_json: expected an object, got array"),
        ("{'success': true, 'error': 'no'}", "error: a success has none"),
        ("{'success': true, 'agent_name': 'other'}", "is for agent draft, not other"),
        ("{'success': false, 'error_kind': 'Timeout'}", "is not an agent's to tell"),
        ("{'success': true, 'metrics': {'llm_calls': 9007199254740993}}", "amount_too_large"),
        ("{'success': true, 'interrupt': {'kind': 'riddle'}}", "is not one of clarification"),
        (
            "{'success': true, 'interrupt': {'kind': 'confirmation', 'on_expiry': 'continue'}}",
            "policy_not_allowed",
        ),
    ];
    for (result, why) in results {
        let mut rig = served();
        rig.say(&alice(), executed("p", single(""))).unwrap();
        let task = lease(&mut rig).remove(0);
        complete(&mut rig, &task, result);
        let (reason, message) = end(&rig, "p").unwrap_or_else(|| panic!("stuck after {result}"));
        assert_eq!(reason, TerminalReason::ToolFailedFatally, "{result}: {message}");
        assert!(message.starts_with("the result is no report: "), "{result}: {message}");
        assert!(message.contains(why), "{result}: {message}");
    }
    let mut rig = served();
    rig.say(&alice(), executed("p", single(""))).unwrap();
    let task = lease(&mut rig).remove(0);
    let lease = task.lease.clone();
    let done = Completion { lease, success: true, data: None, error: None, error_kind: None };
    rig.say(&worker(), CommandBody::CompleteTask(Box::new(done))).unwrap();
    work(&mut rig);
    assert_eq!(end(&rig, "p").unwrap().1, "the result is no report: there is none");
}

/// A dispatch that cannot be made is a failure too.
#[test]
fn a_service_that_there_is_not_is_a_failure() {
    let mut rig = served();
    rig.say(&alice(), executed("p", single("'service': 'nowhere'"))).unwrap();
    work(&mut rig);
    let (reason, message) = end(&rig, "p").unwrap();
    assert_eq!(reason, TerminalReason::ToolFailedFatally);
    assert_eq!(message, "service_not_found: unknown service: nowhere");
}

/// What is refused for the moment is asked for again, after a pause.
#[test]
fn a_full_queue_is_waited_for() {
    let mut of = params(1);
    of.kernel.limits.dispatches_waiting = 1;
    let mut rig = Rig::with(Disk::default(), of);
    rig.settle();
    register(&mut rig, "flow_service");
    for name in ["a", "b", "c"] {
        rig.say(&alice(), executed(name, single(""))).unwrap();
    }
    let mut ended = 0;
    for _ in 0..3 {
        let tasks = lease(&mut rig);
        assert_eq!(tasks.len(), 1, "one waits at a time");
        complete(&mut rig, &tasks[0], GOOD);
        let before = rig.events;
        work(&mut rig);
        assert_eq!(rig.events, before, "who was refused pauses");
        rig.pass(Duration::from_secs(5));
        let names = ["a", "b", "c"];
        ended = names.iter().filter(|name| end(&rig, name).is_some()).count();
    }
    assert_eq!(ended, 3);
}

/// A disk that is full stops it for as long as it is, and no longer.
#[test]
fn a_full_disk_is_waited_for() {
    let mut rig = served();
    rig.say(&alice(), executed("p", single(""))).unwrap();
    let task = lease(&mut rig).remove(0);
    complete(&mut rig, &task, GOOD);
    assert!(end(&rig, "p").is_some());
    rig.disk.full = true;
    let mut refused = false;
    for number in 0..40_000 {
        let name = format!("q{number}");
        refused = rig.say(&alice(), executed(&name, single(""))).is_err();
        if refused {
            break;
        }
    }
    assert!(refused, "the disk has an end");
    for _ in 0..20 {
        work(&mut rig);
        rig.pass(Duration::from_millis(500));
    }
    rig.disk.full = false;
    rig.pass(Duration::from_secs(30));
    assert_eq!(lease(&mut rig).len(), 8, "it goes on");
}

/// K78: a task that takes long keeps its attempt, though nothing happens.
#[test]
fn a_long_task_keeps_its_lease() {
    let mut rig = served();
    let endless = pipeline(&[agent("draft", "")], "'default_timeout_ms': -1");
    let mut patient = submit("p");
    patient.quota = vec![
        (crate::kernel::quota::QuotaField::TimeoutMs, crate::kernel::quota::Limit::UNLIMITED),
        (crate::kernel::quota::QuotaField::SoftTimeoutMs, crate::kernel::quota::Limit::UNLIMITED),
    ];
    let envelope = EnvelopeChoice::New(Box::default());
    let asked = Execute { submit: patient, pipeline: endless, envelope };
    rig.say(&alice(), CommandBody::ExecutePipeline(Box::new(asked))).unwrap();
    work(&mut rig);
    let before: Vec<_> = session(&rig, "p").attempts.keys().cloned().collect();
    rig.pass(Duration::from_secs(1_800));
    let after: Vec<_> = session(&rig, "p").attempts.keys().cloned().collect();
    assert_eq!((before.len(), &before), (1, &after));
    assert!(rig.events < 300, "polls make no event but renewals: {}", rig.events);
}

/// K270: an attempt at its deadline is over, and so is its dispatch; the next try has its own.
#[test]
fn the_dispatch_of_an_attempt_that_timed_out_is_cancelled() {
    let mut rig = served();
    let retried = single("'timeout_ms': 2000, 'retry': {'max_retries': 1}");
    rig.say(&alice(), executed("p", retried)).unwrap();
    let first = lease(&mut rig).remove(0);
    rig.pass(Duration::from_millis(2_100));
    work(&mut rig);
    let cancelled = &dispatches(&rig)[first.dispatch.as_str()];
    assert_eq!(cancelled.end().unwrap().error_code.as_deref(), Some("cancelled"));
    rig.pass(Duration::from_secs(2));
    let second = lease(&mut rig).remove(0);
    assert_ne!(second.dispatch, first.dispatch);
    complete(&mut rig, &second, GOOD);
    assert_eq!(end(&rig, "p").unwrap().0, TerminalReason::Completed);
}

fn pending(rig: &Rig, name: &str) -> InterruptId {
    process(rig, name).interrupts[0].clone()
}

fn approve(rig: &mut Rig, id: InterruptId) {
    let response = Box::new(Response { approved: Some(true), ..Response::default() });
    rig.say(&alice(), CommandBody::ResolveInterrupt { id, response }).unwrap();
    work(rig);
}

/// K252, K165: who is asked is waited for by nobody, and the answer wakes the process.
#[test]
fn an_agent_that_asks_goes_on_with_the_answer() {
    let mut rig = served();
    rig.say(&alice(), executed("p", single(""))).unwrap();
    let task = lease(&mut rig).remove(0);
    let asks = "{'success': true, 'interrupt': {'kind': 'confirmation', 'question': 'may I?'}}";
    complete(&mut rig, &task, asks);
    assert_eq!((state(&rig, "p"), held(&rig)), (Some(ProcessState::Waiting), 0));
    let id = pending(&rig, "p");
    approve(&mut rig, id);
    let again = lease(&mut rig).remove(0);
    let answer = again.data.get("interrupt_response").unwrap().to_string();
    assert!(answer.contains(r#""approved":true"#), "{answer}");
    complete(&mut rig, &again, GOOD);
    assert_eq!(end(&rig, "p").unwrap().0, TerminalReason::Completed);
}

fn ask_from_outside(rig: &mut Rig) {
    let interrupt = Box::new(NewInterrupt::new(InterruptKind::Confirmation));
    rig.say(&alice(), CommandBody::CreateInterrupt { pid: pid("p"), interrupt }).unwrap();
    work(rig);
}

/// K152: work that is under way goes on while people are asked, and its report is taken; across a
/// restart too, where no instruction tells of it.
#[test]
fn what_is_under_way_is_reported_while_people_are_asked() {
    for restart in [false, true] {
        let mut rig = served();
        rig.say(&alice(), executed("p", linear())).unwrap();
        let task = lease(&mut rig).remove(0);
        ask_from_outside(&mut rig);
        assert_eq!(state(&rig, "p"), Some(ProcessState::Waiting));
        if restart {
            rig.restart(false);
            work(&mut rig);
        }
        rig.pass(Duration::from_secs(25));
        complete(&mut rig, &task, GOOD);
        assert!(session(&rig, "p").attempts.is_empty(), "taken, restart {restart}");
        assert_eq!((state(&rig, "p"), held(&rig)), (Some(ProcessState::Waiting), 0));
        let id = pending(&rig, "p");
        approve(&mut rig, id);
        let next = lease(&mut rig).remove(0);
        assert_eq!(stage(&next), "edit");
        assert_eq!(dispatches(&rig).len(), 2, "restart {restart}");
    }
}

/// K81: the answer comes while work is under way.
#[test]
fn an_answer_finds_work_under_way() {
    for restart in [false, true] {
        let mut rig = served();
        rig.say(&alice(), executed("p", linear())).unwrap();
        let task = lease(&mut rig).remove(0);
        ask_from_outside(&mut rig);
        let id = pending(&rig, "p");
        approve(&mut rig, id);
        if restart {
            rig.restart(false);
        }
        work(&mut rig);
        assert_eq!(held(&rig), 1);
        complete(&mut rig, &task, GOOD);
        assert_eq!(lease(&mut rig).iter().map(stage).collect::<Vec<_>>(), ["edit"]);
        assert_eq!(dispatches(&rig).len(), 2, "restart {restart}");
    }
}

/// K290: the dispatch of an attempt is known by its id, even if the task looks otherwise by now;
/// also if it has ended meanwhile.
#[test]
fn a_task_that_looks_otherwise_after_a_restart_is_not_done_again() {
    for ends in [false, true] {
        let mut rig = served();
        rig.say(&alice(), executed("p", single(""))).unwrap();
        let task = lease(&mut rig).remove(0);
        let id = EnvelopeId::parse("envelope_id", "env-p").unwrap();
        let metadata = [("note".into(), Json::from("new"))].into();
        let patch = Box::new(EnvelopePatch { metadata, ..EnvelopePatch::default() });
        let body = CommandBody::UpdateEnvelope { id, patch, expected_version: None };
        rig.say(&alice(), body).unwrap();
        let (lease, data) = (task.lease.clone(), Some(json(GOOD)));
        let done = Completion { lease, success: true, data, error: None, error_kind: None };
        if ends {
            // Completed, and the node breaks off before the report.
            rig.send(&worker(), CommandBody::CompleteTask(Box::new(done)));
            rig.write_all();
            rig.restart(true);
            work(&mut rig);
        } else {
            rig.restart(true);
            work(&mut rig);
            assert_eq!(end_of(&rig), None);
            rig.say(&worker(), CommandBody::CompleteTask(Box::new(done))).unwrap();
            work(&mut rig);
        }
        assert_eq!(end_of(&rig), Some(TerminalReason::Completed), "ends {ends}");
        assert_eq!(dispatches(&rig).len(), 1);
    }
}

/// K274, K269: branches are dispatched side by side; one that failed is tried again beside the
/// others, when its time has come.
#[test]
fn branches_run_side_by_side() {
    let rules = "{'expr': {'op': 'Always'}, 'target': 'a'}, \
                 {'expr': {'op': 'Always'}, 'target': 'b'}";
    let split = format!("{{'name': 'split', 'node_kind': 'Fork', 'routing': [{rules}]}}");
    let retry = "'retry': {'max_retries': 1, 'initial_backoff_ms': 3000}";
    let flow = pipeline(&[split, agent("a", ""), agent("b", retry)], "");
    let mut rig = served();
    rig.say(&alice(), executed("p", flow)).unwrap();
    let tasks = lease(&mut rig);
    assert_eq!(tasks.iter().map(stage).collect::<Vec<_>>(), ["a", "b"]);
    fail(&mut rig, &tasks[1]);
    assert_eq!(state(&rig, "p"), Some(ProcessState::Running), "the other goes on");
    rig.pass(Duration::from_millis(2_900));
    assert_eq!(lease(&mut rig).len(), 0);
    rig.pass(Duration::from_millis(200));
    let again = lease(&mut rig);
    assert_eq!(again.iter().map(stage).collect::<Vec<_>>(), ["b"], "as soon as it is due");
    complete(&mut rig, &tasks[0], GOOD);
    complete(&mut rig, &again[0], GOOD);
    assert_eq!(end(&rig, "p").unwrap().0, TerminalReason::Completed);
}

/// A Fork named `split` into these branches.
fn split(branches: &[(&str, String)], more: &str) -> Pipeline {
    let rule = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let rules = branches.iter().map(|(name, _)| rule(name)).collect::<Vec<_>>().join(", ");
    let split = format!("{{'name': 'split', 'node_kind': 'Fork', 'routing': [{rules}]}}");
    let stages = branches.iter().map(|(_, stage)| stage.clone());
    pipeline(&std::iter::once(split).chain(stages).collect::<Vec<_>>(), more)
}

fn stages(tasks: &[Task]) -> Vec<String> {
    tasks.iter().map(stage).collect()
}

/// K269: of two branches that failed beside a third, each is tried again when its own time has
/// come, across a restart too.
#[test]
fn every_retry_beside_others_is_on_time() {
    let again = |name: &str, wait: u32| {
        agent(name, &format!("'retry': {{'max_retries': 1, 'initial_backoff_ms': {wait}}}"))
    };
    for restart in [false, true] {
        let branches = [("a", agent("a", "")), ("b", again("b", 1_000)), ("c", again("c", 5_000))];
        let mut rig = served();
        rig.say(&alice(), executed("p", split(&branches, ""))).unwrap();
        let tasks = lease(&mut rig);
        assert_eq!(stages(&tasks), ["a", "b", "c"]);
        fail(&mut rig, &tasks[1]);
        fail(&mut rig, &tasks[2]);
        if restart {
            rig.restart(true);
            work(&mut rig);
        }
        rig.pass(Duration::from_millis(1_100));
        assert_eq!(stages(&lease(&mut rig)), ["b"], "restart {restart}");
        rig.pass(Duration::from_millis(4_000));
        assert_eq!(stages(&lease(&mut rig)), ["c"], "restart {restart}");
    }
}

/// K121, K275: a branch that a rate holds back beside another is tried when the rate allows it.
#[test]
fn a_branch_that_waits_for_a_rate_beside_others_is_on_time() {
    let calls = |name: &str| {
        let config = format!("{{'name': '{name}', 'has_llm': true, 'model_role': 'm'}}");
        format!("{{'name': '{name}', 'agent_config': {config}}}")
    };
    let branches = [("a", agent("a", "")), ("b", calls("b")), ("c", calls("c"))];
    let mut rig = served();
    let burst = crate::kernel::quota::Limit::at_most(1);
    let quota = vec![(crate::kernel::quota::QuotaField::RateLimitBurst, burst)];
    let submit = crate::kernel::lifecycle::Submit { quota, ..submit("p") };
    let envelope = EnvelopeChoice::New(Box::default());
    let asked = Execute { submit, pipeline: split(&branches, ""), envelope };
    rig.say(&alice(), CommandBody::ExecutePipeline(Box::new(asked))).unwrap();
    assert_eq!(stages(&lease(&mut rig)), ["a", "b"], "one call in ten seconds");
    rig.pass(Duration::from_millis(9_900));
    assert_eq!(lease(&mut rig).len(), 0);
    rig.pass(Duration::from_millis(400));
    assert_eq!(stages(&lease(&mut rig)), ["c"], "as soon as it may");
}

/// K294: what was held in the run before keeps its place, however much waits for one.
#[test]
fn what_was_held_keeps_its_place_after_a_restart() {
    let of = |starts| {
        let mut of = params(starts);
        of.kernel.executor_max = 2;
        of
    };
    let mut rig = Rig::with(Disk::default(), of(1));
    rig.settle();
    register(&mut rig, "flow_service");
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        rig.say(&alice(), executed(name, single(""))).unwrap();
    }
    let tasks = lease(&mut rig);
    let mut disk = rig.disk.clone();
    disk.cut();
    let mut rig = Rig::with(disk, of(2));
    rig.settle();
    work(&mut rig);
    let running = |name: &&&str| state(&rig, name) == Some(ProcessState::Running);
    assert_eq!(names.iter().filter(running).collect::<Vec<_>>(), [&"a", &"b"]);
    for task in &tasks {
        complete(&mut rig, task, GOOD);
    }
    for name in ["a", "b"] {
        assert_eq!(end(&rig, name).unwrap().0, TerminalReason::Completed);
    }
}

/// What ended and was removed before anybody could hear of it is let go at once, and what has its
/// name now is left alone unless it is the node's (K290).
#[test]
fn what_is_gone_before_its_end_is_heard_of_is_let_go() {
    for stranger in [false, true] {
        let mut rig = served();
        rig.say(&alice(), executed("p", single(""))).unwrap();
        lease(&mut rig);
        assert_eq!(held(&rig), 1);
        let message = String::new();
        rig.send(&alice(), CommandBody::Terminate { pid: pid("p"), message, force: true });
        rig.send(&alice(), CommandBody::CleanupProcess { pid: pid("p") });
        if stranger {
            rig.send(&alice(), CommandBody::Submit(Box::new(submit("p"))));
            let envelope = EnvelopeChoice::New(Box::default());
            let (pid, pipeline) = (pid("p"), single(""));
            let asked = Initialize { pid: pid.clone(), pipeline, envelope, force: false };
            rig.send(&alice(), CommandBody::InitializeSession(Box::new(asked)));
            rig.send(&alice(), CommandBody::Schedule { pid });
        }
        rig.settle();
        work(&mut rig);
        assert_eq!(held(&rig), 0, "stranger {stranger}");
        rig.pass(Duration::from_secs(60));
        assert_eq!(state(&rig, "p"), stranger.then_some(ProcessState::Ready));
    }
}

/// K362: while the node drains nothing is claimed or dispatched, and what is under way is reported.
#[test]
fn a_node_that_drains_starts_nothing() {
    let mut rig = served();
    rig.say(&alice(), executed("p", linear())).unwrap();
    let task = lease(&mut rig).remove(0);
    rig.say(&operator(), CommandBody::Drain { deadline_ms: Some(60_000) }).unwrap();
    let refused = rig.say(&alice(), executed("q", linear())).unwrap_err();
    assert_eq!(refused.code, Code::Draining);
    complete(&mut rig, &task, GOOD);
    assert!(session(&rig, "p").attempts.is_empty(), "its report is taken");
    rig.pass(Duration::from_secs(200));
    assert!(session(&rig, "p").attempts.is_empty(), "and nothing else is begun");
    assert_eq!(dispatches(&rig).len(), 1);
    rig.restart(false);
    let next = lease(&mut rig);
    assert_eq!(next.iter().map(stage).collect::<Vec<_>>(), ["edit"], "K294");
}

/// A stop waits for what is under way, and leaves the rest to the next start (K363).
#[test]
fn a_node_that_stops_goes_on_after_its_next_start() {
    let mut rig = served();
    rig.say(&alice(), executed("p", linear())).unwrap();
    work(&mut rig);
    rig.input(Input::Stop);
    rig.settle();
    assert_eq!(rig.told, ["stopped"]);
    rig.restart(true);
    let Found { events, .. } = rig.reports.last().unwrap().clone();
    assert!(events > 0);
    let tasks = lease(&mut rig);
    assert_eq!(tasks.iter().map(stage).collect::<Vec<_>>(), ["draft"]);
    assert_eq!(dispatches(&rig).len(), 1);
}

/// What has no session is let go, and found again when it has one.
#[test]
fn a_process_without_a_session_is_waited_for() {
    let mut rig = served();
    let mut driven = submit("p");
    driven.driven = true;
    rig.say(&alice(), CommandBody::Submit(Box::new(driven))).unwrap();
    rig.say(&alice(), CommandBody::Schedule { pid: pid("p") }).unwrap();
    work(&mut rig);
    assert_eq!((state(&rig, "p"), held(&rig)), (Some(ProcessState::Running), 0));
    rig.say(&alice(), executed("p", single(""))).unwrap();
    rig.pass(Duration::from_secs(130));
    let tasks = lease(&mut rig);
    assert_eq!(tasks.iter().map(stage).collect::<Vec<_>>(), ["draft"], "its lease is over");
}

fn refusal(said: Result<super::super::io::Decided, Refusal>) -> Code {
    said.unwrap_err().code
}

/// K393: the same pid and the same pipeline is the same execution, running or over.
#[test]
fn an_execution_is_repeated_by_its_pid_and_refused_whole() {
    let mut rig = served();
    rig.say(&alice(), executed("p", linear())).unwrap();
    let events = rig.events;
    let again = rig.say(&alice(), executed("p", linear())).unwrap();
    assert_eq!((again.events.len(), rig.events), (0, events));
    assert_eq!(refusal(rig.say(&alice(), executed("p", single("")))), Code::SessionExists);
    assert_eq!(refusal(rig.say(&worker(), executed("p", linear()))), Code::PermissionDenied);
    let root = rig.root();
    let mut broken = executed("q", linear());
    if let CommandBody::ExecutePipeline(asked) = &mut broken {
        let id = EnvelopeId::parse("envelope_id", "nothing").unwrap();
        asked.envelope = EnvelopeChoice::Known(id);
    }
    assert_eq!(refusal(rig.say(&alice(), broken)), Code::EnvelopeNotFound);
    assert_eq!((rig.root(), state(&rig, "q")), (root, None), "no process is left");
}
