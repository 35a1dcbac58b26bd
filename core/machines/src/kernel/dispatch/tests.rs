//! Goal: every rule of K200–K212 by an example, with the texts of K201 and K410.

use super::decide::inference_chars;
use super::effect::Effect;
use super::rig::{
    acquire, at_once, bind, dispatch, done, dsp, failed, health, info, queued, register, renew,
    retried, svc,
};
use super::*;
use crate::kernel::CommandBody;
use crate::kernel::config::KernelConfig;
use crate::kernel::json::Json;
use crate::kernel::quota::{Amounts, QuotaField};
use crate::kernel::rig::{Rig, limits, node, operator, pid, settle, submit, told, user, worker};
use crate::kernel::services::{ServiceMode, ServiceStatus};

fn for_process(request: ServiceRequest, name: &str) -> ServiceRequest {
    ServiceRequest { pid: Some(pid(name)), ..request }
}

fn terminate(name: &str) -> CommandBody {
    CommandBody::Terminate { pid: pid(name), message: String::new(), force: true }
}

fn stale(lease: &LeaseId) -> String {
    format!("stale_lease: lease {lease} is no longer the live try's")
}

/// K200: the same id and content is the same dispatch; other content is refused.
#[test]
fn a_dispatch_is_made_once() {
    let mut rig = Rig::served(2);
    assert_eq!(rig.hear(dispatch(queued("d", "q"))), "1 events");
    assert_eq!(rig.hear(dispatch(queued("d", "q"))), "0 events");
    let refused = "dispatch_conflict: dispatch d exists with different content";
    assert_eq!(rig.hear(dispatch(at_once("d", "q"))), refused);
    let refused = "permission_denied: dispatch d belongs to another user";
    assert_eq!(told(rig.say(&worker("v"), dispatch(queued("d", "q")))), refused);
    rig.drain();
    assert_eq!(rig.hear(dispatch(queued("d", "q"))), "0 events", "known, drain or not");
    assert_eq!(rig.hear(dispatch(queued("e", "q"))), "draining: node is draining");
}

/// K200, K410: a process that is named is known, accessible and live.
#[test]
fn a_dispatch_is_for_a_live_process_of_ones_own() {
    let mut rig = Rig::served(2);
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let body = |id: &str| dispatch(for_process(queued(id, "q"), "a"));
    assert_eq!(told(rig.say(&alice, body("d"))), "1 events");
    let refused = "permission_denied: process a belongs to another user";
    assert_eq!(told(rig.say(&user("bob"), body("e"))), refused);
    let unknown = dispatch(for_process(queued("e", "q"), "x"));
    assert_eq!(told(rig.say(&alice, unknown)), "process_not_found: process not found: x");
    let refused = "permission_denied: only workers and operators call services without a process";
    assert_eq!(told(rig.say(&alice, dispatch(queued("e", "q")))), refused);
    rig.say(&alice, terminate("a")).unwrap();
    let refused = "process_terminal: process a has ended";
    assert_eq!(told(rig.say(&alice, body("e"))), refused);
}

/// K25, K410: what is asked for has bounds.
#[test]
fn a_request_beyond_its_bounds_is_refused() {
    let mut rig = Rig::served(2);
    let mut refused = |change: fn(&mut ServiceRequest)| {
        let mut request = queued("d", "q");
        change(&mut request);
        rig.hear(dispatch(request))
    };
    assert_eq!(refused(|request| request.method = "".into()), "required: method is required");
    assert_eq!(
        refused(|request| request.method = "a\0".into()),
        "bad_value: method: NUL at byte 1"
    );
    assert_eq!(
        refused(|request| request.try_timeout_ms = 0),
        "bad_value: try_timeout_ms: 0 is not in 1..=2592000000"
    );
    assert_eq!(
        refused(|request| request.deadline_ms = Some(2_592_000_001)),
        "too_large: deadline_ms: 2592000001, at most 2592000000"
    );
    assert_eq!(
        refused(|request| request.retry.jitter_pct = 101),
        "bad_value: retry.jitter_pct: 101, at most 100"
    );
    assert_eq!(
        refused(|request| request.data = Json::from("x".repeat(1 << 20))),
        "too_large: data: 1048578 bytes, at most 1048576"
    );
}

/// K201: the checks, in order, with their texts; who waits is refused only what cannot wait.
#[test]
fn a_service_that_cannot_take_a_call_says_why() {
    let mut rig = Rig::served(1);
    let refused = |rig: &mut Rig, service| rig.hear(dispatch(at_once("d", service)));
    assert_eq!(refused(&mut rig, "x"), "service_not_found: unknown service: x");
    assert_eq!(rig.hear(dispatch(queued("d", "x"))), "service_not_found: unknown service: x");
    rig.work(acquire("p"));
    rig.say(&node(), CommandBody::UnbindHandler { service: svc("p") }).unwrap();
    rig.work(health("p", ServiceStatus::Unknown));
    assert_eq!(refused(&mut rig, "p"), "service_unhealthy: service unhealthy: p");
    rig.work(health("p", ServiceStatus::Healthy));
    assert_eq!(refused(&mut rig, "p"), "service_at_capacity: service at capacity: p");
    rig.pass(60_000);
    assert_eq!(refused(&mut rig, "p"), "no_handler: no handler for service: p");
    rig.work(health("p", ServiceStatus::Unhealthy));
    assert_eq!(rig.hear(dispatch(queued("d", "p"))), "1 events", "it waits for all of it");
    assert_eq!(rig.stage("d"), "waiting");

    rig.work(dispatch(at_once("e", "q")));
    assert_eq!(
        refused(&mut rig, "q"),
        "dispatch_conflict: dispatch d exists with different content"
    );
    let waits = rig.hear(dispatch(at_once("f", "q")));
    assert_eq!(waits, "service_at_capacity: service at capacity: q", "who waits counts");
}

/// K25, K201: so many wait, and no more.
#[test]
fn a_queue_has_an_end() {
    let mut config = KernelConfig::new();
    config.limits.dispatches_waiting = 2;
    let mut rig = Rig::with(config);
    rig.work(register(info("q", ServiceMode::Pull, 10)));
    rig.work(dispatch(queued("a", "q")));
    rig.work(dispatch(at_once("b", "q")));
    let refused = "queue_full: queue full: q: 2 wait, at most 2";
    assert_eq!(rig.hear(dispatch(queued("c", "q"))), refused);
    assert_eq!(rig.hear(dispatch(at_once("c", "q"))), refused);
    rig.tasks(1);
    assert_eq!(rig.hear(dispatch(queued("c", "q"))), "1 events");
}

/// K203, K204: a handler is called as soon as there is a slot, and what waits holds none.
#[test]
fn a_push_service_is_called_as_slots_become_free() {
    let mut rig = Rig::served(1);
    let before = rig.events.len();
    rig.work(dispatch(queued("a", "p")));
    rig.work(dispatch(queued("b", "p")));
    assert_eq!((rig.stage("a"), rig.stage("b"), rig.load("p")), ("running", "waiting", 1));
    let lease = rig.lease("a");
    let task = rig.kernel.state.task(&lease).unwrap();
    assert_eq!((task.try_number, task.data.as_str()), (1, Some("data")));
    assert_eq!(task.lease_until, task.deadline_at, "the lease lasts to the try's deadline");
    let call = Effect::HandlerCall { service: svc("p"), task: Box::new(task) };
    assert_eq!(rig.effects(before), [call]);

    let before = rig.events.len();
    let refused = "not_holder: somebody else holds the lease";
    assert_eq!(rig.hear(done(&lease, "x")), refused, "the node itself works on it");
    rig.say(&node(), done(&lease, "x")).unwrap();
    assert_eq!((rig.stage("a"), rig.stage("b"), rig.load("p")), ("succeeded", "running", 1));
    assert_eq!(rig.kinds(before), ["dispatch.finished", "dispatch.started"]);
    let response = rig.kernel.state.response(&dsp("a")).unwrap();
    assert_eq!((response.success, response.tries), (true, 1));
    assert_eq!(response.data, Some(Json::from("x")));
    let effects = rig.effects(before);
    assert_eq!(effects[0], Effect::DispatchEnded { dispatch: dsp("a") });
    assert!(matches!(&effects[1], Effect::HandlerCall { task, .. } if task.dispatch == dsp("b")));
}

/// K203: what waits starts when a slot, health, or a handler comes.
#[test]
fn whatever_makes_room_starts_what_waits() {
    let mut rig = Rig::new();
    rig.work(register(info("p", ServiceMode::Push, 1)));
    rig.work(dispatch(queued("a", "p")));
    rig.work(dispatch(queued("b", "p")));
    rig.work(dispatch(queued("c", "p")));
    assert_eq!(rig.stage("a"), "waiting", "no handler");
    rig.say(&node(), bind("p")).unwrap();
    assert_eq!(rig.stage("a"), "running");
    rig.work(health("p", ServiceStatus::Unhealthy));
    rig.work(CommandBody::CancelDispatch { dispatch: dsp("a") });
    assert_eq!(rig.stage("b"), "waiting", "no health");
    rig.work(health("p", ServiceStatus::Degraded));
    assert_eq!((rig.stage("b"), rig.stage("c")), ("running", "waiting"));
    rig.pass(30_000);
    assert_eq!((rig.stage("b"), rig.stage("c")), ("failed", "running"), "no retries");
}

/// K203, K70–K72: by priority, then users in turns, then first in first out.
#[test]
fn who_waits_is_served_by_priority_and_user() {
    let mut rig = Rig::served(10);
    let mut ask = |by: &str, id: &str, priority| {
        let request = ServiceRequest { priority, ..queued(id, "q") };
        rig.say(&worker(by), dispatch(request)).unwrap();
    };
    ask("u", "u1", Priority::Normal);
    ask("u", "u2", Priority::Normal);
    ask("v", "v1", Priority::Normal);
    ask("v", "v2", Priority::High);
    let mut order = Vec::new();
    order.extend(rig.tasks(2).into_iter().map(|task| task.dispatch.to_string()));
    rig.start_again();
    order.extend(rig.tasks(9).into_iter().map(|task| task.dispatch.to_string()));
    assert_eq!(order, ["v2", "u1", "v1", "u2"]);
}

/// K205: workers of the owner ask, and get as much as there is room for.
#[test]
fn workers_are_given_what_there_is_room_for() {
    let mut rig = Rig::served(2);
    for id in ["a", "b", "c"] {
        let before = rig.events.len();
        rig.work(dispatch(queued(id, "q")));
        assert_eq!(rig.effects(before), [Effect::TaskReady { service: svc("q") }]);
    }
    let lease = || CommandBody::LeaseTasks { service: svc("q"), max: 5 };
    let refused = "permission_denied: service q belongs to another user";
    assert_eq!(told(rig.say(&worker("v"), lease())), refused);
    assert_eq!(told(rig.say(&user("w"), lease())), refused, "not as a worker");
    let tasks = rig.tasks(5);
    assert_eq!(tasks.len(), 2);
    assert_eq!(tasks[0].lease_until, rig.now.plus(30_000));
    assert_eq!((rig.stage("c"), rig.load("q")), ("waiting", 2));
    assert_eq!(rig.tasks(5), []);
    let before = rig.events.len();
    rig.work(done(&tasks[0].lease, "x"));
    let ready = Effect::TaskReady { service: svc("q") };
    assert_eq!(rig.effects(before), [Effect::DispatchEnded { dispatch: dsp("a") }, ready]);
    rig.drain();
    assert_eq!(rig.tasks(5), [], "no try starts while the node drains (K362)");
    let refused = "bad_value: service p is served by a handler of the node";
    assert_eq!(rig.hear(CommandBody::LeaseTasks { service: svc("p"), max: 1 }), refused);
}

/// K206, K410: the live try's lease ends it, once.
#[test]
fn a_completion_counts_once_and_only_under_the_live_lease() {
    let mut rig = Rig::served(1);
    rig.work(dispatch(ServiceRequest { try_timeout_ms: 100_000, ..queued("a", "q") }));
    let old = rig.tasks(1).remove(0).lease;
    rig.pass(30_000);
    let new = rig.tasks(1).remove(0).lease;
    assert_eq!(rig.hear(done(&old, "x")), stale(&old));
    assert_eq!(rig.hear(renew(&old)), stale(&old));
    let refused = "not_holder: somebody else holds the lease";
    assert_eq!(told(rig.say(&worker("v"), done(&new, "x"))), refused);
    assert_eq!(rig.hear(done(&new, "x")), "1 events");
    assert_eq!(rig.hear(done(&new, "x")), "0 events", "a repeat");
    assert_eq!(rig.hear(done(&new, "y")), stale(&new));
    assert_eq!(rig.hear(failed(&new, ErrorKind::Tool)), stale(&new));
    let never = LeaseId::parse("lease", "never").unwrap();
    assert_eq!(rig.hear(done(&never, "x")), stale(&never));
    assert_eq!(rig.hear(renew(&never)), "lease_not_found: lease not found: never");
}

/// K27, K206, K446: who has nothing to do with a try is not told that it has ended, nor how.
#[test]
fn only_its_worker_is_told_that_a_try_has_ended() {
    let mut rig = Rig::served(1);
    let (v, refused) = (worker("v"), "not_holder: somebody else holds the lease");
    rig.work(dispatch(queued("a", "q")));
    let pulled = rig.tasks(1).remove(0).lease;
    rig.work(done(&pulled, "x"));
    for body in [done(&pulled, "x"), done(&pulled, "y"), renew(&pulled)] {
        assert_eq!(told(rig.say(&v, body.clone())), refused, "{body:?}");
        assert_ne!(told(rig.say(&operator(), body)), refused);
    }
    assert_eq!(rig.hear(done(&pulled, "x")), "0 events", "its worker");

    rig.work(dispatch(queued("b", "p")));
    let pushed = rig.lease("b");
    rig.say(&node(), done(&pushed, "x")).unwrap();
    assert_eq!(rig.hear(done(&pushed, "x")), refused, "the node itself worked on it");
    assert_eq!(rig.say(&node(), done(&pushed, "x")), Ok(vec![]));
    assert_eq!(told(rig.say(&node(), renew(&pushed))), stale(&pushed));
}

/// 2.2: workers tell of failures of three kinds, and successes of none.
#[test]
fn a_completion_that_contradicts_itself_is_refused() {
    let mut rig = Rig::served(1);
    rig.work(dispatch(queued("a", "q")));
    let lease = rig.tasks(1).remove(0).lease;
    let refused = "bad_value: error_kind: only Tool, Llm and Policy are told by workers";
    assert_eq!(rig.hear(failed(&lease, ErrorKind::Timeout)), refused);
    let both = Completion {
        lease: lease.clone(),
        success: true,
        data: None,
        error: Some("it broke".to_owned()),
        error_kind: None,
    };
    let refused = "bad_value: error: a success has none";
    assert_eq!(rig.hear(CommandBody::CompleteTask(Box::new(both))), refused);
}

/// K208: a try has its time, and the dispatch has its own.
#[test]
fn a_try_and_a_dispatch_run_out_of_time() {
    let mut rig = Rig::served(2);
    let short = ServiceRequest { try_timeout_ms: 5_000, ..retried("a", "p", 1) };
    rig.work(dispatch(ServiceRequest { deadline_ms: Some(8_000), ..short }));
    rig.work(dispatch(ServiceRequest { deadline_ms: Some(7_000), ..queued("b", "q") }));
    rig.pass(4_999);
    assert_eq!(rig.stage("a"), "running");
    rig.pass(1);
    assert_eq!((rig.stage("a"), rig.load("p")), ("pausing", 0), "no slot during the wait");
    rig.pass(1_000);
    assert_eq!(rig.stage("a"), "running");
    rig.pass(1_999);
    assert_eq!(rig.stage("a"), "running");
    rig.pass(1);
    let timeout = |id: &str| (rig.end_of(id).1, rig.end_of(id).2);
    let expected = ("dispatch_timeout".to_owned(), "dispatch timeout".to_owned());
    assert_eq!(timeout("a"), expected);
    assert_eq!(timeout("b"), expected, "waiting or not");
    assert_eq!(rig.load("p"), 0);
    assert_eq!(rig.kernel.state.response(&dsp("b")).unwrap().duration_ms, 7_000);
}

/// K209: retried while the policy says so, each after its wait.
#[test]
fn a_failed_try_is_repeated_as_the_policy_says() {
    let mut rig = Rig::served(1);
    rig.work(dispatch(retried("a", "q", 2)));
    for wait in [1_000, 2_000] {
        let lease = rig.tasks(1).remove(0).lease;
        rig.work(failed(&lease, ErrorKind::Tool));
        assert_eq!(rig.hear(failed(&lease, ErrorKind::Tool)), "0 events", "a repeat");
        rig.pass(wait - 1);
        assert_eq!((rig.stage("a"), rig.tasks(1).len()), ("pausing", 0));
        let before = rig.events.len();
        rig.pass(1);
        assert_eq!(rig.kinds(before), ["dispatch.queued"]);
        assert_eq!(rig.effects(before), [Effect::TaskReady { service: svc("q") }]);
    }
    let lease = rig.tasks(1).remove(0).lease;
    rig.work(failed(&lease, ErrorKind::Tool));
    let end = (DispatchOutcome::Failed, "Tool".to_owned(), "it broke".to_owned());
    assert_eq!(rig.end_of("a"), end);

    rig.work(dispatch(retried("b", "q", 2)));
    let lease = rig.tasks(1).remove(0).lease;
    rig.work(failed(&lease, ErrorKind::Policy));
    assert_eq!(rig.stage("b"), "failed", "Policy is never retried");
}

/// K209, K8: jitter shortens the wait, and what was drawn is recorded.
#[test]
fn jitter_takes_away_a_part_of_the_wait() {
    let mut rig = Rig::served(1);
    let mut waits = std::collections::BTreeSet::new();
    for round in 0..20 {
        let mut request = retried(&format!("d{round}"), "q", 1);
        request.retry.jitter_pct = 50;
        rig.work(dispatch(request));
        let lease = rig.tasks(1).remove(0).lease;
        rig.work(failed(&lease, ErrorKind::Llm));
        let id = dsp(&format!("d{round}"));
        let Stage::Pausing { until } = rig.kernel.state.dispatch(&id).unwrap().stage else {
            panic!("it waits for its retry");
        };
        waits.insert(until.since(rig.now));
        rig.work(CommandBody::CancelDispatch { dispatch: id });
    }
    assert!(waits.iter().all(|wait| (500..=1_000).contains(wait)), "{waits:?}");
    assert!(waits.len() > 3, "{waits:?}");
}

/// K210: a worker that goes away costs no retry, until it has happened too often.
#[test]
fn a_lost_try_is_handed_out_again_so_many_times() {
    let mut rig = Rig::served(1);
    let request = ServiceRequest { try_timeout_ms: 1_000_000, ..queued("a", "q") };
    rig.work(dispatch(request));
    for try_number in 1..=3 {
        assert_eq!(rig.tasks(1)[0].try_number, try_number);
        rig.pass(20_000);
        assert_eq!(rig.hear(renew(&rig.lease("a"))), "1 events");
        rig.pass(29_999);
        assert_eq!(rig.stage("a"), "running");
        rig.pass(1);
        assert_eq!((rig.stage("a"), rig.load("q")), ("waiting", 0));
    }
    rig.tasks(1);
    rig.pass(30_000);
    let end = (DispatchOutcome::Lost, "worker_lost".to_owned(), "the worker went away".to_owned());
    assert_eq!(rig.end_of("a"), end);
    assert_eq!(rig.kernel.state.response(&dsp("a")).unwrap().tries, 4);
}

/// 2.3: as long as some dispatch of a process runs, the process shows where.
#[test]
fn a_process_shows_a_service_that_still_works_for_it() {
    let mut rig = Rig::served(2);
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    for (id, service) in [("first", "q"), ("second", "p"), ("third", "q")] {
        rig.say(&alice, dispatch(for_process(queued(id, service), "a"))).unwrap();
    }
    let leases = rig.tasks(2);
    let shown = |rig: &Rig| rig.process("a").current_service.clone();
    assert_eq!(shown(&rig), Some(svc("q")));
    rig.work(done(&leases[0].lease, "x"));
    assert_eq!(shown(&rig), Some(svc("p")), "of the first that runs");
    rig.say(&node(), done(&rig.lease("second"), "x")).unwrap();
    assert_eq!(shown(&rig), Some(svc("q")));
    rig.work(done(&leases[1].lease, "x"));
    assert_eq!(shown(&rig), None);
}

/// K211: cancelled by its owner, or with its process; the worker learns it at its next renewal.
#[test]
fn what_is_cancelled_is_over_wherever_it_stood() {
    let mut rig = Rig::served(1);
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.say(&alice, dispatch(for_process(queued("run", "q"), "a"))).unwrap();
    rig.say(&alice, dispatch(for_process(queued("wait", "p"), "a"))).unwrap();
    rig.work(dispatch(queued("other", "p")));
    let lease = rig.tasks(1).remove(0).lease;
    assert_eq!(rig.process("a").current_service, Some(svc("q")), "of its running dispatch");
    let before = rig.events.len();
    rig.say(&alice, terminate("a")).unwrap();
    let kinds =
        ["dispatch.finished", "dispatch.finished", "process.terminated", "dispatch.started"];
    assert_eq!(rig.kinds(before), kinds, "and what waited behind it starts");
    assert_eq!((rig.stage("run"), rig.stage("wait")), ("cancelled", "cancelled"));
    assert_eq!(rig.process("a").current_service, None);
    assert_eq!(rig.hear(renew(&lease)), stale(&lease));
    let cancel = |id| CommandBody::CancelDispatch { dispatch: dsp(id) };
    let refused = "permission_denied: dispatch other belongs to another user";
    assert_eq!(told(rig.say(&alice, cancel("other"))), refused);
    assert_eq!(rig.hear(cancel("other")), "1 events");
    assert_eq!(rig.hear(cancel("other")), "0 events", "it is over");
    assert_eq!(rig.hear(cancel("x")), "dispatch_not_found: dispatch not found: x");
}

fn inference(id: &str, service: &str) -> CommandBody {
    let texts = Json::list(vec![Json::from("äö"), Json::from("b")]);
    let data = Json::object([("text", Json::from("abc")), ("texts", texts)]);
    let request = for_process(queued(id, service), "a");
    let request = ServiceRequest { data, try_timeout_ms: 100_000, ..request };
    CommandBody::DispatchInference(Box::new(request))
}

/// K120: characters are Unicode scalar values of `text` and of every string in `texts`.
#[test]
fn characters_are_counted_not_bytes() {
    let CommandBody::DispatchInference(request) = inference("d", "q") else { unreachable!() };
    assert_eq!(inference_chars(&request.data), 6);
    assert_eq!(inference_chars(&Json::from("abc")), 0, "no object");
}

/// K212: reserved when asked for; charged once a try has started, released if none ever does.
#[test]
fn inference_is_charged_when_it_starts_and_released_if_it_never_does() {
    let mut rig = Rig::served(1);
    let alice = user("alice");
    let quota = limits(&[(QuotaField::MaxInferenceRequests, 2)]);
    rig.ready(&alice, crate::kernel::lifecycle::Submit { quota, ..submit("a") });
    let one = Amounts { inference_requests: 1, inference_input_chars: 6, ..Amounts::ZERO };
    rig.say(&alice, inference("d", "q")).unwrap();
    rig.say(&alice, inference("e", "q")).unwrap();
    assert_eq!(told(rig.say(&alice, inference("e", "q"))), "0 events");
    assert_eq!(rig.process("a").account.held, one.plus(&one));
    let refused = "quota_exceeded: inference_requests: 0 used, 2 held, limit 2";
    assert_eq!(told(rig.say(&alice, inference("f", "q"))), refused);
    rig.pass(1_000_000);
    assert_eq!(rig.process("a").account.held, one.plus(&one), "no lease ends while it waits");
    rig.tasks(1);
    assert_eq!(rig.process("a").account.used.amounts, one);
    rig.say(&alice, CommandBody::CancelDispatch { dispatch: dsp("e") }).unwrap();
    let account = rig.process("a").account;
    assert_eq!((account.held, account.used.amounts), (Amounts::ZERO, one));
    rig.pass(30_000);
    assert_eq!(rig.tasks(1)[0].try_number, 2);
    assert_eq!(rig.process("a").account.used.amounts, one, "once, however often it is tried");
    let unbound = CommandBody::DispatchInference(Box::new(queued("g", "q")));
    assert_eq!(rig.hear(unbound), "required: pid is required");
}

/// K212: what is reserved for a dispatch is the dispatch's: nobody gets a call without paying.
#[test]
fn what_is_reserved_for_a_dispatch_is_neither_settled_nor_released_by_hand() {
    let mut rig = Rig::served(1);
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let one = Amounts { inference_requests: 1, inference_input_chars: 6, ..Amounts::ZERO };
    rig.say(&alice, inference("d", "q")).unwrap();
    let reservation = rig.kernel.state.dispatch(&dsp("d")).unwrap().reservation.clone().unwrap();
    let refused =
        format!("reservation_closed: reservation {reservation} is of a dispatch, which closes it");
    for by in [&alice, &operator()] {
        let release = CommandBody::Release { pid: pid("a"), reservation: reservation.clone() };
        assert_eq!(told(rig.say(by, release)), refused);
        let settle = settle("a", reservation.as_str(), Amounts::ZERO);
        assert_eq!(told(rig.say(by, settle)), refused);
    }
    let lease = LeaseId::parse("lease", reservation.as_str()).unwrap();
    let renewal = CommandBody::RenewLease { lease, pid: Some(pid("a")), lease_ms: Some(1_000) };
    rig.say(&alice, renewal).unwrap();
    rig.pass(10_000_000);
    assert_eq!(rig.process("a").account.held, one, "it has no lease that could be cut short");
    rig.start_again();
    assert_eq!(rig.tasks(1)[0].try_number, 1);
    let account = rig.process("a").account;
    assert_eq!((account.held, account.used.amounts), (Amounts::ZERO, one));
}

/// K121: inference for a process counts for the process's own rate, and is refused beyond it.
#[test]
fn inference_counts_for_the_rate_of_its_process() {
    let mut rig = Rig::served(1);
    let alice = user("alice");
    let quota = limits(&[(QuotaField::RateLimitBurst, 2)]);
    rig.ready(&alice, crate::kernel::lifecycle::Submit { quota, ..submit("a") });
    let before = rig.events.len();
    rig.say(&alice, inference("d", "q")).unwrap();
    rig.say(&alice, inference("e", "q")).unwrap();
    let kinds = ["rate.recorded", "quota.reserved", "dispatch.queued"];
    assert_eq!(rig.kinds(before), [kinds, kinds].concat());
    let refused = told(rig.say(&alice, inference("f", "q")));
    assert!(refused.starts_with("rate_limited: burst limit: 2 hits, at most 2"), "{refused}");
    assert_eq!(told(rig.say(&alice, inference("e", "q"))), "0 events", "a repeat is none");
    rig.pass(10_200);
    assert_eq!(rig.say(&alice, inference("f", "q")).unwrap().len(), 3, "K134");
}

/// K170: an approval is one of the process for which it is used.
#[test]
fn an_approval_that_was_never_granted_is_refused() {
    let mut rig = Rig::served(1);
    let approval = ApprovalUse {
        interrupt: InterruptId::parse("interrupt_id", "int_1").unwrap(),
        action: "pay".into(),
        params: Json::NULL,
    };
    let asked = ServiceRequest { approval: Some(approval), ..queued("d", "q") };
    let refused = "approval_not_usable: an approval is of a process: pid is required";
    assert_eq!(rig.hear(dispatch(asked.clone())), refused);
    rig.ready(&worker("w"), submit("p"));
    let body = dispatch(ServiceRequest { pid: Some(pid("p")), ..asked });
    assert_eq!(rig.hear(body), "interrupt_not_found: interrupt not found: int_1");
}

/// K11, K204: what a restart interrupted goes on: workers have their leases, and handlers are
/// called again, once, when they are bound again.
#[test]
fn tries_go_on_after_a_restart() {
    let mut rig = Rig::served(1);
    rig.work(dispatch(queued("a", "p")));
    let request = ServiceRequest { try_timeout_ms: 100_000_000, ..queued("b", "q") };
    rig.work(dispatch(request));
    let lease = rig.tasks(1).remove(0).lease;
    rig.now = rig.now.plus(1_000_000);
    rig.start_again();
    rig.pass(29_000);
    assert_eq!(rig.hear(renew(&lease)), "1 events", "its full length again");
    assert_eq!((rig.stage("a"), rig.lease("a")), ("running", rig.lease("a")));
    let before = rig.events.len();
    rig.say(&node(), bind("p")).unwrap();
    let task = Box::new(rig.kernel.state.task(&rig.lease("a")).unwrap());
    assert_eq!(rig.effects(before), [Effect::HandlerCall { service: svc("p"), task }]);
    let before = rig.events.len();
    rig.say(&node(), CommandBody::UnbindHandler { service: svc("p") }).unwrap();
    rig.say(&node(), bind("p")).unwrap();
    assert_eq!(rig.effects(before), [], "it was called in this epoch");
    rig.pass(1_000);
    assert_eq!(rig.stage("a"), "failed", "try timeout, counted from the restart");
}

/// K360: what is over is kept for a while, and then removed.
#[test]
fn dispatches_that_ended_are_kept_for_ten_minutes() {
    let mut rig = Rig::served(2);
    rig.work(dispatch(queued("a", "q")));
    rig.work(dispatch(queued("live", "q")));
    let lease = rig.tasks(1).remove(0).lease;
    rig.work(done(&lease, "x"));
    rig.pass(599_999);
    assert!(rig.kernel.state.dispatch(&dsp("a")).is_some());
    assert_eq!(rig.kernel.state.dispatches_due_for_removal(rig.now, 9), []);
    rig.pass(1);
    assert!(rig.kernel.state.dispatch(&dsp("a")).is_none());
    assert_eq!(rig.stage("live"), "waiting", "nothing that is open is removed");
    assert_eq!(rig.hear(done(&lease, "x")), stale(&lease), "and its leases are forgotten");
}

/// K207: one try is live at a time, and a dispatch that has ended does not end again.
#[test]
fn a_dispatch_has_one_live_try_and_ends_once() {
    let mut rig = Rig::served(4);
    rig.work(dispatch(queued("d", "q")));
    let first = rig.tasks(1)[0].lease.clone();
    assert!(rig.tasks(4).is_empty(), "nobody else gets it while it is tried");
    rig.work(done(&first, "well"));
    assert_eq!(rig.stage("d"), "succeeded");
    let cancel = CommandBody::CancelDispatch { dispatch: dsp("d") };
    let before = rig.events.len();
    rig.hear(cancel);
    assert_eq!(rig.hear(failed(&first, ErrorKind::Tool)), stale(&first));
    rig.pass(3_600_000);
    let ended = rig.kinds(before);
    assert!(!ended.contains(&"dispatch.finished"), "{ended:?}");
}
