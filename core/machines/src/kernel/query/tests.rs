//! Goal: queries by examples (K35, K86, K111, K115, K116, K120, K350, and rows of K410).

use super::bounds::{Bounds, BoundsOf};
use super::page::ListProcesses;
use super::{Query, Told};
use crate::kernel::CommandBody;
use crate::kernel::config::KernelConfig;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::envelopes::{EnvelopePatch, Termination};
use crate::kernel::ids::{EnvelopeId, ProcessId};
use crate::kernel::interrupts::rig::{ask, new};
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{InterruptKind, Priority, ProcessState, TerminalReason};
use crate::kernel::principal::Principal;
use crate::kernel::quota::{Amounts, QuotaField, Resource};
use crate::kernel::rig::{
    Rig, calls, check_derived, limits, operator, pid, record, reloaded, reserve, settle, submit,
    told, user, worker,
};
use crate::kernel::sessions::rig::{Desk, linear};

fn env(name: &str) -> EnvelopeId {
    EnvelopeId::parse("envelope_id", name).unwrap()
}

fn refused(rig: &Rig, by: &Principal, query: &Query) -> String {
    rig.query(by, query).unwrap_err().to_string()
}

fn list(state: Option<ProcessState>, whose: Option<&str>, page_size: u64) -> ListProcesses {
    let user = whose.map(|name| user(name).user);
    ListProcesses { state, user, page_size, page_token: String::new() }
}

/// Asks for all pages; returns the pids, and how many pages there were.
fn listed(rig: &Rig, by: &Principal, mut list: ListProcesses) -> (Vec<String>, usize) {
    let (mut pids, mut pages) = (Vec::new(), 0);
    loop {
        let told = rig.query(by, &Query::ListProcesses(Box::new(list.clone()))).unwrap();
        let Told::Processes(page) = told else { panic!("{told:?}") };
        pids.extend(page.processes.iter().map(|process| process.pid.to_string()));
        pages += 1;
        list.page_token = page.next_page_token;
        if list.page_token.is_empty() {
            return (pids, pages);
        }
    }
}

/// Alice has a, b and c, of which b runs at worker w; bob has d.
fn rig() -> Rig {
    let mut rig = Rig::new();
    let (alice, bob) = (user("alice"), user("bob"));
    rig.ready(&alice, Submit { priority: Priority::High, ..submit("b") });
    rig.say(&worker("w"), CommandBody::NextRunnable).unwrap();
    rig.ready(&alice, submit("a"));
    rig.say(&alice, CommandBody::Submit(Box::new(submit("c")))).unwrap();
    rig.ready(&bob, submit("d"));
    rig
}

/// K27, K370: a process is shown to its owner, its holder and operators; in full (2.3).
#[test]
fn a_process_is_shown_to_whom_it_concerns() {
    let rig = rig();
    let query = Query::GetProcess { pid: pid("b") };
    for by in [user("alice"), worker("w"), operator()] {
        let Ok(Told::Process(shown)) = rig.query(&by, &query) else { panic!("{by:?}") };
        let row = rig.process("b");
        assert_eq!((&shown.pid, shown.state), (&pid("b"), ProcessState::Running));
        assert_eq!((&shown.user_id, shown.priority), (&row.user, Priority::High));
        assert_eq!(shown.run_lease.as_ref(), row.run_lease.as_deref());
        assert_eq!(shown.submit_digest, row.digest);
    }
    let denied = "permission_denied: process b belongs to another user";
    assert_eq!(refused(&rig, &user("bob"), &query), denied);
    assert_eq!(refused(&rig, &worker("v"), &query), denied);
    let query = Query::GetProcess { pid: pid("x") };
    let gone = "process_not_found: process not found: x";
    assert_eq!(refused(&rig, &operator(), &query), gone);
}

/// K86: by state and user, in order of pid; what may not be seen is left out.
#[test]
fn a_list_has_what_fits_and_may_be_seen() {
    let rig = rig();
    let all = |by: &Principal, state, whose| listed(&rig, by, list(state, whose, 0)).0;
    let ready = Some(ProcessState::Ready);
    assert_eq!(all(&operator(), None, None), ["a", "b", "c", "d"]);
    assert_eq!(all(&operator(), ready, None), ["a", "d"]);
    assert_eq!(all(&operator(), None, Some("alice")), ["a", "b", "c"]);
    assert_eq!(all(&operator(), ready, Some("bob")), ["d"]);
    assert_eq!(all(&user("alice"), None, None), ["a", "b", "c"]);
    assert_eq!(all(&user("bob"), None, None), ["d"]);
    assert_eq!(all(&worker("w"), None, None), ["b"], "it runs that one");
    assert_eq!(all(&worker("w"), ready, None), [""; 0]);
    assert_eq!(all(&user("bob"), None, Some("alice")), [""; 0], "K27");
    assert_eq!(all(&worker("w"), None, Some("alice")), ["b"]);
    assert_eq!(all(&worker("w"), ready, Some("alice")), [""; 0]);
    assert_eq!(all(&worker("w"), None, Some("bob")), [""; 0]);
    assert_eq!(all(&worker("w"), None, Some("w")), [""; 0], "it runs b, and has none");
}

/// K446, K27, K428: whoever ran a process that has come to rest is not shown it any more, and
/// nothing of that changes with a restart.
#[test]
fn a_process_that_nobody_runs_any_more_is_not_listed_for_who_ran_it() {
    let (alice, w) = (user("alice"), worker("w"));
    let mut desk = Desk::new(linear());
    desk.say(CommandBody::Schedule { pid: pid("p") }).unwrap();
    desk.rig.say(&w, CommandBody::NextRunnable).unwrap();
    desk.by = w.clone();
    assert_eq!(desk.poll(), "RunAgent draft 1.1");
    let report = desk.done("draft", "{}");
    desk.rig.say(&alice, ask("p", new(InterruptKind::Clarification))).unwrap();
    assert_eq!(desk.rig.state("p"), ProcessState::Waiting);
    let all = |rig: &Rig| listed(rig, &w, list(None, None, 0)).0;
    assert_eq!(all(&desk.rig), ["p"], "its attempt goes on (K152)");
    desk.say(CommandBody::ReportAgentResult(Box::new(report))).unwrap();
    assert_eq!(desk.rig.process("p").run_lease, None, "K78");
    let denied = "permission_denied: process p belongs to another user";
    assert_eq!(refused(&desk.rig, &w, &Query::GetProcess { pid: pid("p") }), denied);
    assert_eq!(all(&desk.rig), [""; 0]);
    let mut again = desk.rig.clone();
    again.kernel = reloaded(&desk.rig.kernel);
    assert_eq!(all(&again), [""; 0]);
    let (message, force) = (String::new(), true);
    desk.rig.say(&alice, CommandBody::Terminate { pid: pid("p"), message, force }).unwrap();
    desk.rig.say(&alice, CommandBody::CleanupProcess { pid: pid("p") }).unwrap();
    assert_eq!(check_derived(&desk.rig.kernel), Ok(()), "K12");
}

/// K86, K410: pages; a token is good for its own query only.
#[test]
fn a_token_is_good_for_its_own_query_only() {
    let rig = rig();
    let (pids, pages) = listed(&rig, &operator(), list(None, None, 2));
    assert_eq!((pids.len(), pages), (4, 2), "no empty page at the end");
    let first = Query::ListProcesses(Box::new(list(None, None, 2)));
    let Ok(Told::Processes(page)) = rig.query(&operator(), &first) else { panic!("no page") };
    let with = |list: ListProcesses, token: &str| {
        Query::ListProcesses(Box::new(ListProcesses { page_token: token.to_owned(), ..list }))
    };
    let token = &page.next_page_token;
    let other = "bad_value: page_token: it is of another query";
    let ready = list(Some(ProcessState::Ready), None, 2);
    assert_eq!(refused(&rig, &operator(), &with(ready, token)), other);
    assert_eq!(refused(&rig, &user("alice"), &with(list(None, None, 2), token)), other);
    let none = "bad_value: page_token: it is none";
    for text in ["zz", "0", "00", &token[..17], "é"] {
        assert_eq!(refused(&rig, &operator(), &with(list(None, None, 2), text)), none, "{text}");
    }
    let smaller = with(list(None, None, 1), token);
    assert!(rig.query(&operator(), &smaller).is_ok(), "the size is free");
    let large = Query::ListProcesses(Box::new(list(None, None, 1_001)));
    assert_eq!(refused(&rig, &operator(), &large), "too_large: page_size: 1001, at most 1000");
}

/// K86: counts by state, in all, and of what waits.
#[test]
fn processes_are_counted() {
    let rig = rig();
    let counts = |by: &Principal| {
        let Ok(Told::Counts(counts)) = rig.query(by, &Query::GetProcessCounts) else {
            panic!("no counts")
        };
        let of = |state| counts.by_state.of(state);
        let states = [ProcessState::New, ProcessState::Ready, ProcessState::Running].map(of);
        (states, counts.total, counts.queue_depth)
    };
    assert_eq!(counts(&operator()), ([1, 2, 1], 4, 2));
    assert_eq!(counts(&user("alice")), ([1, 1, 1], 3, 1), "only its own");
    assert_eq!(counts(&user("carol")), ([0, 0, 0], 0, 0));
}

/// K115: what is exceeded, what is exhausted, and what is left; K111: the running stretch counts.
#[test]
fn a_quota_is_checked_as_it_is_now() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::MaxLlmCalls, 10), (QuotaField::MaxToolCalls, 0)]);
    rig.ready(&alice, Submit { quota, ..submit("a") });
    rig.say(&alice, CommandBody::NextRunnable).unwrap();
    rig.say(&alice, reserve("a", "r", calls(4))).unwrap();
    rig.say(&alice, record("a", calls(6))).unwrap();
    rig.now = rig.now.plus(1_500);
    let check = |rig: &Rig| {
        let Ok(Told::QuotaCheck(check)) = rig.query(&alice, &Query::CheckQuota { pid: pid("a") })
        else {
            panic!("no check")
        };
        *check
    };
    let found = check(&rig);
    assert!(found.within_bounds);
    assert_eq!(found.exhausted, [Resource::LlmCalls, Resource::ToolCalls]);
    assert_eq!(found.usage.used.elapsed_ms, 1_500);
    assert_eq!(found.remaining.time_ms, Some(298_500));
    rig.say(&alice, settle("a", "r", calls(5))).unwrap();
    let found = check(&rig);
    assert!(!found.within_bounds);
    assert_eq!(found.exceeded, ["max_llm_calls_exceeded: 11 of 10"]);
    let Ok(Told::Use(shown)) = rig.query(&alice, &Query::GetUsage { pid: pid("a") }) else {
        panic!("no use")
    };
    assert_eq!(shown, found.usage);
    let Ok(Told::Quota(quota)) = rig.query(&alice, &Query::GetQuota { pid: pid("a") }) else {
        panic!("no quota")
    };
    assert_eq!((*quota, found.quota), (rig.process("a").quota, rig.process("a").quota));
}

/// K116: what rolls up is left as far as every ancestor lets it; the rest is one's own.
#[test]
fn the_least_over_all_levels_is_left() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::MaxLlmCalls, 7), (QuotaField::MaxAgentHops, 1)]);
    rig.ready(&alice, Submit { quota, ..submit("a") });
    rig.ready(&alice, Submit { parent: Some(pid("a")), ..submit("b") });
    rig.say(&alice, reserve("a", "r", calls(2))).unwrap();
    rig.say(&alice, record("b", calls(1))).unwrap();
    let left = |name: &str| {
        let query = Query::GetRemainingBudget { pid: pid(name) };
        let Ok(Told::Remaining(left)) = rig.query(&alice, &query) else { panic!("nothing") };
        (left.llm_calls, left.agent_hops)
    };
    assert_eq!(left("b"), (Some(4), Some(50)));
    assert_eq!(left("a"), (Some(4), Some(1)));
}

/// K65, K115: a process below one that has used too much is not scheduled.
#[test]
fn what_an_ancestor_has_used_too_much_of_stops_a_new_process() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::MaxLlmCalls, 7)]);
    rig.ready(&alice, Submit { quota, ..submit("a") });
    rig.ready(&alice, Submit { parent: Some(pid("a")), ..submit("b") });
    let new = Submit { parent: Some(pid("a")), ..submit("c") };
    rig.say(&alice, CommandBody::Submit(Box::new(new))).unwrap();
    rig.say(&alice, record("b", calls(8))).unwrap();
    let refused = rig.say(&alice, CommandBody::Schedule { pid: pid("c") });
    let text = "quota_exceeded: max_llm_calls_exceeded: 8 of 7, of ancestor a";
    assert_eq!(told(refused), text);
}

/// K120: would a reservation fit, at every level; asking changes nothing.
#[test]
fn inference_that_would_not_fit_is_told() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::MaxInferenceRequests, 2)]);
    rig.ready(&alice, Submit { quota, ..submit("a") });
    rig.ready(&alice, Submit { parent: Some(pid("a")), ..submit("b") });
    let ask = |rig: &Rig, requests, chars| {
        let query = Query::CheckInferenceQuota { pid: pid("b"), requests, chars };
        match rig.query(&alice, &query) {
            Ok(Told::Inference(check)) => Ok((check.allowed, check.reason)),
            Ok(other) => panic!("{other:?}"),
            Err(refusal) => Err(refusal.to_string()),
        }
    };
    assert_eq!(ask(&rig, 2, 500_000), Ok((true, String::new())));
    let chars = "inference_input_chars: 0 used, 0 held, limit 500000";
    assert_eq!(ask(&rig, 2, 500_001), Ok((false, chars.to_owned())));
    let above = "inference_requests: 0 used, 0 held, limit 2, of ancestor a";
    assert_eq!(ask(&rig, 3, 0), Ok((false, above.to_owned())));
    let large = "amount_too_large: inference_input_chars: 1099511627777, at most 1099511627776";
    assert_eq!(ask(&rig, 0, (1 << 40) + 1), Err(large.to_owned()));
    let amounts = Amounts { inference_requests: 2, ..Amounts::ZERO };
    assert_eq!(told(rig.say(&alice, reserve("b", "r", amounts))), "2 events", "and a warning");
    let message = "enough".to_owned();
    rig.say(&alice, CommandBody::Terminate { pid: pid("b"), message, force: false }).unwrap();
    assert_eq!(ask(&rig, 0, 0), Ok((false, "process b has ended".to_owned())));
}

fn bounds(rig: &Rig, of: BoundsOf) -> Bounds {
    let Ok(Told::Bounds(bounds)) = rig.query(&user("alice"), &Query::CheckBounds { of }) else {
        panic!("no bounds")
    };
    *bounds
}

/// K35: whether an agent stage could be issued now, and why not.
#[test]
fn bounds_say_what_would_stop_the_next_stage() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::MaxLlmCalls, 2), (QuotaField::TimeoutMs, 10_000)]);
    rig.ready(&alice, Submit { quota, ..submit("a") });
    let of = |rig: &Rig| {
        let found = bounds(rig, BoundsOf::Process(pid("a")));
        (found.can_continue, found.terminal_reason)
    };
    assert_eq!(of(&rig), (true, None));
    rig.say(&alice, reserve("a", "r", calls(2))).unwrap();
    assert_eq!(of(&rig), (false, Some(TerminalReason::MaxLlmCallsExceeded)), "held counts");
    rig.say(&alice, settle("a", "r", calls(0))).unwrap();
    rig.say(&alice, CommandBody::NextRunnable).unwrap();
    rig.now = rig.now.plus(10_000);
    assert_eq!(of(&rig), (false, Some(TerminalReason::TimeoutExceeded)));
    let before = rig.events.len();
    assert_eq!(bounds(&rig, BoundsOf::Process(pid("a"))).remaining.time_ms, Some(0));
    assert_eq!(rig.events.len(), before, "it changes nothing");
    rig.pass(0);
    assert_eq!(rig.state("a"), ProcessState::Terminated);
    assert_eq!(of(&rig), (false, Some(TerminalReason::TimeoutExceeded)));

    let quota = limits(&[(QuotaField::MaxAgentHops, 0)]);
    rig.ready(&alice, Submit { quota, ..submit("b") });
    let found = bounds(&rig, BoundsOf::Process(pid("b")));
    assert_eq!(found.terminal_reason, Some(TerminalReason::MaxAgentHopsExceeded));
}

/// K35: an envelope has the bounds of the process that it serves.
#[test]
fn an_envelope_has_the_bounds_of_its_process() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let new = NewEnvelope { id: Some(env("e")), ..NewEnvelope::default() };
    rig.say(&alice, CommandBody::CreateEnvelope(Box::new(new))).unwrap();
    assert!(bounds(&rig, BoundsOf::Envelope(env("e"))).can_continue);
    rig.ready(&alice, submit("a"));
    let now = rig.now;
    rig.kernel.state.bind_envelope(now, &pid("a"), &env("e"));
    rig.say(&alice, record("a", calls(100))).unwrap();
    let found = bounds(&rig, BoundsOf::Envelope(env("e")));
    assert_eq!(found, bounds(&rig, BoundsOf::Process(pid("a"))));
    assert_eq!(found.terminal_reason, Some(TerminalReason::MaxLlmCallsExceeded));

    let Ok(Told::Envelope(shown)) = rig.query(&alice, &Query::GetEnvelope { id: env("e") }) else {
        panic!("no envelope")
    };
    assert_eq!(shown.bounds.used.amounts.llm_calls, 100, "K100: a view of the ledger");
    assert_eq!(shown.bounds.max_llm_calls, rig.process("a").quota.max_llm_calls);
    let query = Query::GetRequestStatus { pid: pid("a") };
    let Ok(Told::Request(status)) = rig.query(&alice, &query) else { panic!("no status") };
    assert_eq!(status.envelope, Some(*shown));
    assert_eq!((status.process.pid, status.remaining.llm_calls), (pid("a"), Some(0)));
}

/// K35: an envelope that serves nobody can go on unless it is over.
#[test]
fn an_envelope_that_is_over_cannot_continue() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let new = NewEnvelope { id: Some(env("e")), ..NewEnvelope::default() };
    rig.say(&alice, CommandBody::CreateEnvelope(Box::new(new))).unwrap();
    let reason = TerminalReason::Completed;
    let terminate = Some(Termination { reason, message: "done".into() });
    let patch = Box::new(EnvelopePatch { terminate, ..EnvelopePatch::default() });
    let body = CommandBody::UpdateEnvelope { id: env("e"), patch, expected_version: Some(1) };
    rig.say(&alice, body).unwrap();
    let found = bounds(&rig, BoundsOf::Envelope(env("e")));
    assert_eq!((found.can_continue, found.terminal_reason), (false, Some(reason)));
    let query = Query::CheckBounds { of: BoundsOf::Envelope(env("e")) };
    let denied = "permission_denied: envelope e belongs to another user";
    assert_eq!(refused(&rig, &user("bob"), &query), denied);
    assert_eq!(refused(&rig, &user("bob"), &Query::GetEnvelope { id: env("e") }), denied);
    let gone = "envelope_not_found: envelope not found: x";
    assert_eq!(refused(&rig, &alice, &Query::GetEnvelope { id: env("x") }), gone);
}

/// K350: the node in numbers, for operators.
#[test]
fn the_node_is_shown_in_numbers() {
    let mut rig = rig();
    rig.say(&user("alice"), reserve("a", "r", calls(3))).unwrap();
    rig.say(&user("alice"), reserve("a", "s", calls(3))).unwrap();
    rig.say(&user("alice"), settle("a", "s", calls(2))).unwrap();
    rig.now = rig.now.plus(50);
    let Ok(Told::Status(status)) = rig.query(&operator(), &Query::GetSystemStatus) else {
        panic!("no status")
    };
    assert_eq!((status.uptime_ms, status.epoch, status.draining), (50, 1, false));
    assert_eq!((status.processes.total, status.processes.queue_depth), (4, 2));
    assert_eq!(status.by_priority, [0, 1, 3, 0, 0]);
    assert_eq!((status.reservations, status.resources.used), (1, calls(2)));
    assert_eq!((status.resources.processes_total, status.resources.processes_active), (4, 4));
    assert_eq!(status.state_root, rig.kernel.clone().root());
    assert_eq!(status.last_event, rig.kernel.state().counters.events);

    let message = "enough".to_owned();
    rig.say(&operator(), CommandBody::Terminate { pid: pid("a"), message, force: true }).unwrap();
    rig.say(&operator(), CommandBody::CleanupProcess { pid: pid("a") }).unwrap();
    let Ok(Told::SystemUsage(usage)) = rig.query(&operator(), &Query::GetSystemUsage) else {
        panic!("no usage")
    };
    assert_eq!((usage.processes_total, usage.processes_active, usage.used), (4, 3, calls(5)));
    let Ok(Told::Status(status)) = rig.query(&operator(), &Query::GetSystemStatus) else {
        panic!("no status")
    };
    assert_eq!((status.reservations, status.by_priority), (0, [0, 1, 2, 0, 0]));
    let denied = "permission_denied: only operators see the status of the node";
    assert_eq!(refused(&rig, &user("alice"), &Query::GetSystemStatus), denied);
    let denied = "permission_denied: only operators see the usage of the node";
    assert_eq!(refused(&rig, &worker("w"), &Query::GetSystemUsage), denied);
}

/// K25: what configuration lets a page be at most is its default size, too.
#[test]
fn a_page_is_never_larger_than_configured() {
    let mut config = KernelConfig::new();
    config.limits.page = 3;
    let mut rig = Rig::with(config);
    for number in 0..7 {
        rig.ready(&user("alice"), submit(&format!("p{number}")));
    }
    assert_eq!(listed(&rig, &user("alice"), list(None, None, 0)).1, 3);
    let last = ProcessId::parse("pid", "p6").unwrap();
    let (pids, _) = listed(&rig, &user("alice"), list(None, None, 1));
    assert_eq!(pids.last(), Some(&last.to_string()));
}
