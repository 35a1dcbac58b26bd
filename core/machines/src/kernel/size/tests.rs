//! Goal: no decision is longer than a record, and what is cut goes on where it was (L3, K10, K84).
//! Method: the same commands with much room for a decision and with little.

use std::sync::Arc;

use crate::codec::Wire;
use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::ServiceRequest;
use crate::kernel::dispatch::rig::{bind, dispatch, dsp, info, queued, register, svc};
use crate::kernel::envelopes::EnvelopePatch;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::event::Event;
use crate::kernel::expression::{FieldRef, Path};
use crate::kernel::housekeeping::StopMode;
use crate::kernel::ids::{EnvelopeId, RequestId, SessionId};
use crate::kernel::interrupts::interrupt::{NewInterrupt, NewTarget};
use crate::kernel::interrupts::rig::{approved, ask, cancel, new, resolve};
use crate::kernel::json::Json;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{InterruptKind, ProcessState};
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::pipeline::retry::RetryPolicy;
use crate::kernel::process::Metadata;
use crate::kernel::rig::{Rig, calls, node, operator, pid, reserve, submit, told, user};
use crate::kernel::services::{ServiceInfo, ServiceMode};
use crate::kernel::sessions::report::{Metrics, Report, ToolResult};
use crate::kernel::sessions::rig::{Desk, agent, json, linear, pipeline};
use crate::kernel::{Code, CommandBody};

/// Room for the events of some few steps.
const SMALL: u64 = 4_096;
/// Before an event in a record.
const FRAME: u64 = 8;

fn rigs() -> [Rig; 2] {
    [Rig::new(), Rig::with(KernelConfig::new().within(SMALL))]
}

/// Lets more dispatches wait than could start in one decision, which no configuration does.
fn crowded(mut rig: Rig) -> Rig {
    rig.kernel.state.config.limits.dispatches_waiting = 1_024;
    rig
}

fn bytes(events: &[Event]) -> u64 {
    events.iter().map(|event| event.to_bytes().len() as u64 + FRAME).sum()
}

/// What happened since event `from`, without the counts of decisions.
fn story(rig: &Rig, from: usize) -> Vec<String> {
    let told = |event: &Event| {
        let pid = event.subject.pid.as_ref().map_or("", |pid| pid.as_str());
        format!("{:?} {} {pid}", event.time, event.body.kind())
    };
    rig.events[from..].iter().map(told).collect()
}

/// Decisions that made events after event `from`, each of a legal length.
fn decisions(rig: &Rig, from: usize) -> usize {
    let most = rig.kernel.state().config.limits.decision_bytes;
    let ends: Vec<usize> = rig.records.iter().map(|(end, _)| *end).collect();
    let (mut before, mut count) = (from, 0);
    for end in ends.into_iter().filter(|end| *end > from) {
        assert!(bytes(&rig.events[before..end]) <= most, "L3");
        (before, count) = (end, count + 1);
    }
    count
}

/// Three levels below `r`: 1 + 4 + 16 + 64.
fn tree(rig: &mut Rig) {
    let alice = user("alice");
    rig.ready(&alice, submit("r"));
    let mut level = vec!["r".to_owned()];
    for _ in 0..3 {
        let below = level.iter().flat_map(|name| (0..4).map(move |n| (name, format!("{name}{n}"))));
        let below: Vec<_> = below.map(|(parent, name)| (parent.clone(), name)).collect();
        for (parent, name) in &below {
            rig.ready(&alice, Submit { parent: Some(pid(parent)), ..submit(name) });
        }
        level = below.into_iter().map(|(_, name)| name).collect();
    }
}

fn terminate(name: &str) -> CommandBody {
    CommandBody::Terminate { pid: pid(name), message: "enough".to_owned(), force: true }
}

/// K84: all of a tree ends, depth first in order of pid, whatever a decision takes; and it is over
/// before any other command.
#[test]
fn a_tree_that_is_too_large_for_one_decision_ends_in_the_same_order() {
    let mut stories = Vec::new();
    for mut rig in rigs() {
        tree(&mut rig);
        let from = rig.events.len();
        rig.say(&user("alice"), terminate("r")).unwrap();
        let at_once = rig.events.len() - from;
        rig.say(&operator(), CommandBody::NextRunnable).unwrap_err();
        assert_eq!(rig.kernel.state().tally.of(ProcessState::Terminated), 85);
        assert_eq!(rig.state("r012"), ProcessState::Terminated);
        stories.push((decisions(&rig, from), at_once, story(&rig, from)));
    }
    let [(one, whole, all), (many, part, same)] = &stories[..] else { panic!("two rigs") };
    assert_eq!((*one, *whole), (1, 85), "K82: one decision, where there is room");
    assert!(*many > 5, "{many} decisions");
    assert!(*part < 85, "{part} events");
    assert_eq!(all, same, "the same events in the same order");
}

/// A parent whose end is not yet that of all below it stays: else they would be without one.
#[test]
fn a_parent_stays_until_all_below_have_ended() {
    let mut rig = Rig::with(KernelConfig::new().within(SMALL));
    tree(&mut rig);
    let alice = user("alice");
    rig.say(&alice, terminate("r")).unwrap();
    let refused = told(rig.run(&alice, CommandBody::CleanupProcess { pid: pid("r") }));
    assert!(refused.starts_with("process_not_terminal: process r"), "{refused}");
    assert!(refused.ends_with("below r has not ended yet"), "{refused}");
    rig.say(&alice, CommandBody::CleanupProcess { pid: pid("r") }).unwrap();
}

/// K10: what is due together and does not fit goes on in the next decision.
#[test]
fn a_batch_of_deadlines_ends_when_a_record_is_full() {
    let mut stories = Vec::new();
    for mut rig in rigs() {
        rig.ready(&user("alice"), submit("a"));
        for number in 0..60 {
            rig.say(&user("alice"), reserve("a", &format!("r{number:02}"), calls(1))).unwrap();
        }
        let from = rig.events.len();
        rig.pass(120_000);
        assert!(rig.process("a").reservations.is_empty());
        stories.push((decisions(&rig, from), story(&rig, from)));
    }
    assert_eq!(stories[0].0, 1);
    assert!(stories[1].0 > 2, "{} decisions", stories[1].0);
    assert_eq!(stories[0].1, stories[1].1, "K10: the events do not depend on it");
}

/// K361: a cleanup that does not fit says that more is due.
#[test]
fn a_cleanup_ends_when_a_record_is_full() {
    let mut config = KernelConfig::new().within(SMALL);
    config.cleanup_interval_ms = 1 << 40;
    let mut rig = Rig::with(config);
    for number in 0..40 {
        rig.ready(&user("alice"), submit(&format!("p{number:02}")));
        rig.say(&user("alice"), terminate(&format!("p{number:02}"))).unwrap();
    }
    rig.pass(26 * 3_600_000);
    let (from, mut rounds) = (rig.events.len(), 0);
    while rig.kernel.state().is_cleanup_due(rig.now) {
        assert!(!rig.say(&operator(), CommandBody::Cleanup).unwrap().is_empty());
        rounds += 1;
    }
    assert!(rounds > 2, "{rounds} rounds");
    assert_eq!(decisions(&rig, from), rounds);
    assert_eq!(rig.kernel.state().process_count(), 0, "K447");
}

/// K363: a stop that ends everything takes as many decisions as it needs, and stops once.
#[test]
fn a_stop_ends_everything_in_as_many_decisions_as_it_takes() {
    let mut rig = Rig::with(KernelConfig::new().within(SMALL));
    tree(&mut rig);
    let from = rig.events.len();
    let stop = CommandBody::Shutdown { mode: StopMode::Terminate, deadline_ms: None };
    rig.say(&operator(), stop).unwrap();
    rig.pass(0);
    assert!(decisions(&rig, from) > 5);
    assert_eq!(rig.kernel.state().tally.of(ProcessState::Terminated), 85);
    let kinds = rig.kinds(from);
    assert_eq!(kinds.iter().filter(|kind| **kind == "kernel.stopped").count(), 1);
    assert_eq!(kinds.last(), Some(&"kernel.stopped"));
}

/// K2, K25: what cannot be cut is refused, with the numbers, and nothing has changed.
#[test]
fn a_decision_that_cannot_be_cut_is_refused_and_changes_nothing() {
    let mut rig = crowded(Rig::with(KernelConfig::new().within(SMALL)));
    rig.work(register(info("q", ServiceMode::Pull, 2)));
    for number in 0..80 {
        rig.work(dispatch(queued(&format!("d{number:02}"), "q")));
    }
    rig.tasks(2);
    let root = rig.kernel.root();
    let gone = CommandBody::UnregisterService { service: svc("q") };
    let refused = rig.hear(gone.clone());
    assert!(refused.starts_with("too_large: the decision would take "), "{refused}");
    assert!(refused.ends_with(" bytes, at most 4096"), "{refused}");
    assert_eq!(rig.kernel.root(), root, "K2");
    for number in 4..80 {
        let dispatch = dsp(&format!("d{number:02}"));
        rig.work(CommandBody::CancelDispatch { dispatch });
    }
    assert_ne!(rig.hear(gone), refused, "fewer of them fit");
    assert!(rig.kernel.state().service(&svc("q")).is_none());
}

/// L3: tasks that do not fit are asked for again.
#[test]
fn a_worker_gets_as_many_tasks_as_a_record_takes() {
    let mut rig = crowded(Rig::with(KernelConfig::new().within(SMALL)));
    rig.work(register(info("q", ServiceMode::Pull, 64)));
    for number in 0..30 {
        rig.work(dispatch(queued(&format!("d{number:02}"), "q")));
    }
    let from = rig.events.len();
    let first = rig.tasks(30).len();
    assert!((2..30).contains(&first), "{first} tasks");
    let mut all = first;
    while all < 30 {
        all += rig.tasks(30).len();
    }
    assert!(decisions(&rig, from) > 1);
}

/// A call of a push service for a process.
fn call(id: &str, of: &str) -> CommandBody {
    dispatch(ServiceRequest { pid: Some(pid(of)), ..queued(id, "p") })
}

fn long(name: &str) -> String {
    format!("{name:x<128}")
}

/// A process whose ids are as long as they may be.
fn long_submit(name: &str) -> Submit {
    let request = RequestId::parse("request_id", &long("request")).ok();
    let session = SessionId::parse("session_id", &long("session")).ok();
    Submit { request, session, ..submit(name) }
}

/// A rig whose service `p` makes `max` calls at once.
fn served(bytes: u64, max: u32) -> Rig {
    let mut rig = Rig::with(KernelConfig::new().within(bytes));
    rig.work(register(info("p", ServiceMode::Push, max)));
    rig.say(&node(), bind("p")).unwrap();
    rig
}

/// K82, K211, L3: a process has no more dispatches open than can end with it in one record.
#[test]
fn all_dispatches_of_a_process_end_with_it_in_one_record() {
    let (mut rig, bob, name) = (served(1 << 18, 8), user(&long("bob")), long("b"));
    let most = rig.kernel.state().config.limits.dispatches_open();
    rig.ready(&bob, long_submit(&name));
    let calls = (0..400).map(|number| call(&long(&format!("d{number}.")), &name));
    let told: Vec<String> = calls.map(|call| told(rig.say(&bob, call))).collect();
    let refused = told.iter().position(|told| told.starts_with("queue_full"));
    assert_eq!((most, refused), (32, Some(32)), "{}", told[399]);
    let full = format!("queue_full: queue full: 32 dispatches of {name} are open, at most 32");
    assert_eq!(told[32], full);
    rig.ready(&bob, long_submit("other"));
    rig.say(&bob, call("of-another", "other")).unwrap();
    let gone = CommandBody::CancelDispatch { dispatch: dsp(&long("d9.")) };
    rig.say(&bob, gone).unwrap();
    rig.say(&bob, call(&long("again"), &name)).unwrap();

    let from = rig.events.len();
    rig.say(&bob, terminate(&name)).unwrap();
    assert_eq!(decisions(&rig, from), 1, "K82");
    assert_eq!(rig.kernel.state().desks.open_of(&pid(&name)), 0);
    assert_eq!(rig.stage("of-another"), "running", "there is room for it now");
}

/// K84, L3: a tree whose dispatches have short ids ends; of one with long ids as many start.
#[test]
fn what_starts_in_place_of_what_a_tree_did_fits_into_a_record_too() {
    let (rig, alice, bob) = (served(1 << 16, 80), user("alice"), user(&long("bob")));
    let mut rig = crowded(rig);
    rig.ready(&alice, submit("r"));
    for child in 0..5 {
        let name = format!("r{child}");
        rig.ready(&alice, Submit { parent: Some(pid("r")), ..submit(&name) });
        for number in 0..16 {
            rig.say(&alice, call(&format!("{name}.{number}"), &name)).unwrap();
        }
    }
    for other in 0..5 {
        let name = long(&format!("b{other}."));
        rig.ready(&bob, long_submit(&name));
        for number in 0..16 {
            rig.say(&bob, call(&long(&format!("{other}.{number}.")), &name)).unwrap();
        }
    }
    let from = rig.events.len();
    rig.say(&alice, terminate("r")).unwrap();
    rig.pass(0);
    assert!(decisions(&rig, from) > 1);
    assert_eq!(rig.kernel.state().tally.of(ProcessState::Terminated), 6, "K84");
    assert_eq!(rig.load("p"), 80, "all that waited has started");
}

/// K158, K161, L3: a denial may end the process, and so it is measured as an end is.
#[test]
fn an_answer_that_may_end_a_process_is_measured() {
    let mut rig = served(1 << 18, 8);
    rig.running("a");
    let id = rig.ask("a", new(InterruptKind::Confirmation));
    let answers = [cancel(&id), resolve(&id, approved(false))];
    let measured = |rig: &Rig| answers.each_ref().map(|it| rig.kernel.state.may_be_too_long(it));
    assert_eq!(measured(&rig), [false, false]);
    for number in 0..32 {
        rig.say(&user("alice"), call(&format!("d{number}"), "a")).unwrap();
    }
    assert_eq!(measured(&rig), [true, true]);
}

/// L3: names of tools, bound fields and kinds of failure are content, as a payload is.
#[test]
fn whatever_a_command_brings_is_weighed() {
    let mut desk = Desk::new(linear());
    desk.poll();
    let name: Arc<str> = "t".repeat(16_384).into();
    let tool = ToolResult { name, success: true, latency_ms: 1, error_kind: None };
    let metrics = Metrics { tool_results: vec![tool; 1_024], ..Metrics::default() };
    let report = Report { metrics, ..desk.done("draft", "{}") };
    let refusal = desk.say(CommandBody::ReportAgentResult(Box::new(report))).unwrap_err();
    assert_eq!(refusal.code, Code::TooLarge);
    assert!(refusal.text.ends_with("at most 8388608"), "{refusal}");

    let binds = vec![FieldRef::Meta(Path::parse(&"k".repeat(16_384)).unwrap()); 1_024];
    let target = Some(Box::new(NewTarget { action: "pay".into(), params: Json::NULL, binds }));
    let asked = NewInterrupt { target, ..new(InterruptKind::Confirmation) };
    let refusal = desk.say(ask("p", asked)).unwrap_err();
    assert_eq!(refusal.code, Code::TooLarge);

    let mut rig = Rig::served(1);
    let retry_on = vec![ErrorKind::Tool; 1_025];
    let retry = RetryPolicy { retry_on, ..RetryPolicy::default() };
    let refused = "too_many: retry.retry_on: 1025 entries, at most 1024";
    assert_eq!(rig.hear(dispatch(ServiceRequest { retry, ..queued("d", "q") })), refused);
}

/// K204, L3: all that waits at a service may start at once, in one record.
#[test]
fn all_that_waits_starts_in_one_record() {
    let (mut rig, bob) = (served(1 << 18, 1_000), user(&long("bob")));
    let most = rig.kernel.state().config.limits.dispatches_waiting;
    rig.say(&node(), CommandBody::UnbindHandler { service: svc("p") }).unwrap();
    let mut waiting = 0;
    for of in (0..5).map(|number| long(&format!("b{number}."))) {
        rig.ready(&bob, long_submit(&of));
        for number in 0..30 {
            let CommandBody::Dispatch(call) = call(&long(&format!("{number}{of:.3}")), &of) else {
                panic!("a call is a dispatch");
            };
            waiting += u64::from(rig.say(&bob, CommandBody::DispatchInference(call)).is_ok());
        }
    }
    assert_eq!((waiting, most), (109, 109));
    let from = rig.events.len();
    rig.say(&node(), bind("p")).unwrap();
    assert_eq!(decisions(&rig, from), 1);
    assert_eq!(rig.load("p"), 109);
}

/// K25: metadata is limited as the one JSON object that it is.
#[test]
fn metadata_of_many_large_entries_is_refused() {
    let mut rig = Rig::new();
    let large = json(&format!("\"{}\"", "x".repeat(1 << 19)));
    let metadata = ["a", "b", "c"].map(|key| (key.into(), large.clone())).into_iter().collect();
    let body = CommandBody::Submit(Box::new(Submit { metadata, ..submit("p") }));
    let refusal = rig.say(&user("alice"), body).unwrap_err();
    assert_eq!(refusal.code, Code::TooLarge);
    assert_eq!(&*refusal.text, "metadata: 1572873 bytes, at most 1048576");
}

/// K24, K25: keys of metadata are texts, whatever it is of.
#[test]
fn a_key_of_metadata_is_a_text_of_a_length() {
    let long = "x".repeat((16 << 10) + 1);
    let keys = [
        ("a\0", "bad_value: metadata: NUL at byte 1"),
        (&*long, "too_long: metadata: 16385 bytes, at most 16384"),
    ];
    for (key, refused) in keys {
        let mut rig = Rig::served(2);
        let metadata: Metadata = [(key.into(), json("1"))].into();
        let of_process = Submit { metadata: metadata.clone(), ..submit("p") };
        let of_call = ServiceRequest { metadata: metadata.clone(), ..queued("d", "q") };
        let of_service =
            ServiceInfo { metadata: metadata.clone(), ..info("s", ServiceMode::Pull, 2) };
        let patch = EnvelopePatch { metadata: metadata.clone(), ..EnvelopePatch::default() };
        let (id, patch) = (EnvelopeId::parse("id", "e").unwrap(), Box::new(patch));
        let new = NewEnvelope { id: Some(id.clone()), ..NewEnvelope::default() };
        rig.work(CommandBody::CreateEnvelope(Box::new(new.clone())));
        let of_envelope = NewEnvelope { id: None, metadata, ..new };
        let bodies = [
            CommandBody::Submit(Box::new(of_process)),
            dispatch(of_call),
            register(of_service),
            CommandBody::CreateEnvelope(Box::new(of_envelope)),
            CommandBody::UpdateEnvelope { id, patch, expected_version: None },
        ];
        for body in bodies {
            assert_eq!(rig.hear(body.clone()), refused, "{body:?}");
        }
    }
}

/// K277, K281: a join tells the whole list for every branch that appended to it. It is measured
/// before it happens, since a deadline may bring it about, which nobody can refuse.
#[test]
fn a_join_that_no_record_takes_ends_the_session() {
    let rule = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let rules = names.map(rule).join(", ");
    let fork = format!("{{'name': 'fork', 'node_kind': 'Fork', 'routing': [{rules}]}}");
    let stages = names.map(|name| agent(name, "")).join(", ");
    let schema = "'state_schema': [{'key': 'list', 'merge': 'Append'}]";
    let text = format!("{{'name': 'g', {schema}, 'stages': [{fork}, {stages}]}}");
    for (bytes, ends) in [(8 << 20, "Completed"), (12_000, "SystemError")] {
        let config = KernelConfig::new().within(bytes);
        let mut desk = Desk::on(Rig::with(config), pipeline(&text), submit("p"));
        desk.poll();
        let mut last = String::new();
        for name in names {
            last = desk.succeed(name, &format!("{{'list': ['{}']}}", "x".repeat(300)));
        }
        assert_eq!(last, format!("Terminate {ends}"));
    }
}

/// K10: however little room there is, each decision takes a step, so that what is due gets done.
#[test]
fn every_tick_takes_a_step_however_little_room_there_is() {
    let mut rig = Rig::with(KernelConfig::new().within(SMALL));
    tree(&mut rig);
    rig.run(&user("alice"), terminate("r")).unwrap();
    rig.kernel.state.config.limits.decision_bytes = 1;
    for _ in 0..85 {
        if rig.kernel.next_deadline().is_some_and(|due| due <= rig.now) {
            assert!(!rig.run(&node(), CommandBody::Tick).unwrap().is_empty());
        }
    }
    assert_eq!(rig.kernel.state().tally.of(ProcessState::Terminated), 85);
}
