//! Goal: pages neither miss nor repeat (K86), and who has no access learns nothing (K446).
//!
//! Method for K446: two kernels differ in nothing but what alice's process and envelope hold. To
//! whoever has no access, every query must tell the same in both, namely that it may not, or
//! nothing of alice's; and no command may change anything. The same check catches a query that
//! forgets to look who asks.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::bounds::BoundsOf;
use super::interrupts::PendingOf;
use super::page::ListProcesses;
use super::{Query, Told};
use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::{ServiceRequest, Target};
use crate::kernel::envelopes::EnvelopePatch;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::ids::{
    DispatchId, Endpoint, EnvelopeId, InterruptId, ProcessId, ServiceName, ServiceType,
};
use crate::kernel::interrupts::interrupt::{NewInterrupt, Response};
use crate::kernel::json::Json;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{InterruptKind, Priority, ProcessState};
use crate::kernel::principal::Principal;
use crate::kernel::quota::{Limit, QuotaField};
use crate::kernel::rates::Scope;
use crate::kernel::refusal::Code;
use crate::kernel::rig::{
    Rig, calls, operator, pid, record, reserve, settle, submit, user, worker,
};
use crate::kernel::services::ServiceInfo;
use crate::kernel::sessions::rig::linear;
use crate::kernel::sessions::start::{EnvelopeChoice, Initialize};
use crate::kernel::{Command, CommandBody, Kernel, Refusal};

fn env() -> EnvelopeId {
    EnvelopeId::parse("envelope_id", "e").unwrap()
}

fn dispatch() -> DispatchId {
    DispatchId::parse("dispatch_id", "d").unwrap()
}

/// Alice's call of a service, with more or less in it.
fn call(much: bool) -> CommandBody {
    let target = Target::Name { name: service() };
    let mut request = ServiceRequest::new(target, "run", Json::from(much));
    (request.dispatch, request.pid, request.queue) = (Some(dispatch()), Some(pid("a")), true);
    request.try_timeout_ms = if much { 1_000 } else { 2_000 };
    CommandBody::Dispatch(Box::new(request))
}

/// Alice has the process `a`, the envelope `e` and the dispatch `d`, with more or less in them.
fn world(much: bool) -> Rig {
    let mut rig = Rig::new();
    let alice = user("alice");
    let kind = ServiceType::parse("type", "flow").unwrap();
    let info = Box::new(ServiceInfo::new(service(), kind));
    rig.say(&worker("w"), CommandBody::RegisterService(info)).unwrap();
    let priority = if much { Priority::High } else { Priority::Low };
    rig.ready(&alice, Submit { priority, ..submit("a") });
    let new = NewEnvelope { id: Some(env()), ..NewEnvelope::default() };
    rig.say(&alice, CommandBody::CreateEnvelope(Box::new(new))).unwrap();
    rig.say(&alice, reserve("a", "r", calls(1))).unwrap();
    rig.say(&alice, call(much)).unwrap();
    let question = Some(if much { "why?" } else { "how?" }.into());
    let (key, blocking) = (Some("k".into()), Some(false));
    let kind = InterruptKind::Clarification;
    let interrupt = NewInterrupt { question, key, blocking, ..NewInterrupt::new(kind) };
    let interrupt = Box::new(interrupt);
    rig.say(&alice, CommandBody::CreateInterrupt { pid: pid("a"), interrupt }).unwrap();
    if much {
        rig.say(&alice, CommandBody::NextRunnable).unwrap();
        rig.say(&alice, record("a", calls(9))).unwrap();
        let add_feedback = vec!["secret".into()];
        let patch = Box::new(EnvelopePatch { add_feedback, ..EnvelopePatch::default() });
        let body = CommandBody::UpdateEnvelope { id: env(), patch, expected_version: None };
        rig.say(&alice, body).unwrap();
        rig.say(&alice, CommandBody::Submit(Box::new(submit("b")))).unwrap();
    }
    rig
}

/// What alice is asked; it has the same id in every world.
fn question() -> InterruptId {
    world(true).process("a").interrupts[0].clone()
}

fn service() -> ServiceName {
    ServiceName::parse("service", "s").unwrap()
}

/// What there is to call is no secret.
const fn is_public(query: &Query) -> bool {
    matches!(
        query,
        Query::GetService { .. }
            | Query::ListServices(_)
            | Query::CanAccept { .. }
            | Query::GetServiceStats { .. }
    )
}

/// One of each query about what is alice's.
fn queries() -> Vec<Query> {
    let pid = pid("a");
    let (requests, chars) = (1, 1);
    let all = vec![
        Query::GetProcess { pid: pid.clone() },
        Query::ListProcesses(Box::default()),
        Query::GetProcessCounts,
        Query::CheckQuota { pid: pid.clone() },
        Query::GetUsage { pid: pid.clone() },
        Query::GetQuota { pid: pid.clone() },
        Query::GetRemainingBudget { pid: pid.clone() },
        Query::CheckInferenceQuota { pid: pid.clone(), requests, chars },
        Query::GetEnvelope { id: env() },
        Query::CheckBounds { of: BoundsOf::Envelope(env()) },
        Query::GetSystemStatus,
        Query::GetSystemUsage,
        Query::GetRequestStatus { pid: pid.clone() },
        Query::GetInterrupt { id: question() },
        Query::GetPendingInterrupt { of: PendingOf::Process(pid.clone()) },
        Query::ListInterrupts(Box::default()),
        Query::GetSessionState { pid: pid.clone() },
        Query::HasPending { pid },
        Query::GetInterruptStats,
        Query::CheckRateLimit { user: user("alice").user, endpoint: Endpoint::whole() },
        Query::GetRateLimitUsage { user: user("alice").user, endpoint: Endpoint::whole() },
        Query::GetService { service: service() },
        Query::ListServices(Box::default()),
        Query::CanAccept { service: service() },
        Query::GetServiceStats { service: None },
        Query::GetDispatch { dispatch: dispatch() },
    ];
    let kinds: BTreeSet<usize> = all.iter().map(place).collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), (0..all.len()).collect::<Vec<_>>());
    all.into_iter().filter(|query| !is_public(query)).collect()
}

/// Whoever adds a query adds it here, and so to the list above.
fn place(query: &Query) -> usize {
    match query {
        Query::GetProcess { .. } => 0,
        Query::ListProcesses(_) => 1,
        Query::GetProcessCounts => 2,
        Query::CheckQuota { .. } => 3,
        Query::GetUsage { .. } => 4,
        Query::GetQuota { .. } => 5,
        Query::GetRemainingBudget { .. } => 6,
        Query::CheckInferenceQuota { .. } => 7,
        Query::GetEnvelope { .. } => 8,
        Query::CheckBounds { .. } => 9,
        Query::GetSystemStatus => 10,
        Query::GetSystemUsage => 11,
        Query::GetRequestStatus { .. } => 12,
        Query::GetInterrupt { .. } => 13,
        Query::GetPendingInterrupt { .. } => 14,
        Query::ListInterrupts(_) => 15,
        Query::HasPending { .. } => 16,
        Query::GetInterruptStats => 17,
        Query::CheckRateLimit { .. } => 18,
        Query::GetRateLimitUsage { .. } => 19,
        Query::GetService { .. } => 20,
        Query::ListServices(_) => 21,
        Query::CanAccept { .. } => 22,
        Query::GetServiceStats { .. } => 23,
        Query::GetSessionState { .. } => 24,
        Query::GetDispatch { .. } => 25,
    }
}

/// One of each command that bob has no access to, but what needs nobody's leave (`NextRunnable`, a
/// check of one's own rate) and what names nothing of alice's (an approval that was not given).
fn commands() -> Vec<CommandBody> {
    let a = || pid("a");
    let message = || "enough".to_owned();
    let (to, reason) = (ProcessState::Ready, "because".to_owned());
    let config = Box::new(KernelConfig::new());
    let quota = vec![(QuotaField::MaxLlmCalls, Limit::at_most(1))];
    let patch = Box::new(EnvelopePatch { add_feedback: vec!["x".into()], ..Default::default() });
    let new = NewEnvelope { id: Some(env()), ..NewEnvelope::default() };
    let interrupt = NewInterrupt::new(InterruptKind::Clarification);
    let response = Response { text: Some("so".into()), ..Response::default() };
    let scope = Scope { user: Some(user("alice").user), endpoint: Endpoint::whole() };
    let alices = NewEnvelope { user: Some(user("alice").user), ..NewEnvelope::default() };
    vec![
        CommandBody::Start { config },
        CommandBody::Tick,
        CommandBody::Submit(Box::new(submit("a"))),
        CommandBody::Submit(Box::new(Submit { user: Some(user("alice").user), ..submit("n") })),
        CommandBody::Submit(Box::new(Submit { parent: Some(a()), ..submit("n") })),
        CommandBody::Schedule { pid: a() },
        CommandBody::TransitionState { pid: a(), to, reason },
        CommandBody::Terminate { pid: a(), message: message(), force: true },
        CommandBody::CleanupProcess { pid: a() },
        reserve("a", "n", calls(1)),
        settle("a", "r", calls(1)),
        CommandBody::Release { pid: a(), reservation: crate::kernel::rig::rsv("r") },
        record("a", calls(1)),
        CommandBody::AdjustQuota { pid: a(), quota },
        CommandBody::CreateEnvelope(Box::new(new)),
        CommandBody::CreateEnvelope(Box::new(alices)),
        CommandBody::UpdateEnvelope { id: env(), patch, expected_version: None },
        CommandBody::CloneEnvelope { id: env() },
        CommandBody::CreateInterrupt { pid: a(), interrupt: Box::new(interrupt) },
        CommandBody::ResolveInterrupt { id: question(), response: Box::new(response) },
        CommandBody::CancelInterrupt { id: question(), reason: message() },
        CommandBody::SetRateLimit { scope, config: None },
        start_of(a()),
        CommandBody::ResetRateLimits { user: user("alice").user },
    ]
}

fn start_of(pid: ProcessId) -> CommandBody {
    let envelope = EnvelopeChoice::Known(env());
    let start = Initialize { pid, pipeline: linear(), envelope, force: true };
    CommandBody::InitializeSession(Box::new(start))
}

type Asked = Result<Told, Refusal>;

/// K446: a request's name is but a label; knowing it shows nothing of alice's.
#[test]
fn the_name_of_a_request_opens_nothing() {
    let rig = world(true);
    let request = rig.process("a").request.clone();
    let query = Query::GetPendingInterrupt { of: PendingOf::Request(request) };
    assert_eq!(rig.query(&user("bob"), &query), Ok(Told::Pending(None)));
    let Ok(Told::Pending(Some(found))) = rig.query(&user("alice"), &query) else {
        panic!("alice sees her own")
    };
    assert_eq!(found.id, question());
}

/// Lists the queries from whose answers bob learns something (K446).
fn leaks(ask: impl Fn(&Rig, &Principal, &Query) -> Asked) -> Vec<Query> {
    let (less, more) = (world(false), world(true));
    let denied = |asked: &Asked| match asked {
        Err(refusal) => refusal.code == Code::PermissionDenied,
        Ok(Told::Processes(page)) => page.processes.is_empty(),
        Ok(Told::Counts(counts)) => counts.total == 0 && counts.queue_depth == 0,
        Ok(Told::Interrupts(page)) => page.interrupts.is_empty(),
        Ok(Told::Pending(pending)) => pending.is_none(),
        Ok(_) => false,
    };
    let leak = |query: &Query| {
        // Workers may ask for everyone's rates.
        let rates = matches!(query, Query::CheckRateLimit { .. } | Query::GetRateLimitUsage { .. });
        let strangers = [user("bob"), worker("bob")];
        strangers.iter().take(if rates { 1 } else { 2 }).any(|by| {
            let (one, other) = (ask(&less, by, query), ask(&more, by, query));
            one != other || !denied(&one)
        })
    };
    queries().into_iter().filter(leak).collect()
}

/// K446: who has no access learns nothing but that.
#[test]
fn no_query_tells_a_stranger_anything() {
    assert_eq!(leaks(|rig, by, query| rig.query(by, query)), []);
}

/// K446, sabotage: forgetting to look who asks, in any one query, is caught.
#[test]
fn a_query_that_forgets_to_look_who_asks_is_caught() {
    for forgotten in queries().iter().map(place) {
        let ask = |rig: &Rig, by: &Principal, query: &Query| {
            let operator = operator();
            rig.query(if place(query) == forgotten { &operator } else { by }, query)
        };
        let caught: Vec<usize> = leaks(ask).iter().map(place).collect();
        assert_eq!(caught, [forgotten]);
    }
}

/// K446, K27: a command on what is somebody else's is refused, and changes nothing.
#[test]
fn no_command_of_a_stranger_changes_anything() {
    for by in [user("bob"), worker("bob")] {
        for body in commands() {
            let mut rig = world(true);
            let before = rig.kernel.clone().root();
            let refused = rig.say(&by, body.clone()).unwrap_err();
            assert_eq!(refused.code, Code::PermissionDenied, "{body:?}");
            assert_eq!(rig.kernel.clone().root(), before, "{body:?}");
            let kernel: &Kernel = &rig.kernel;
            let command = Command { by: by.clone(), worker: None, rate: None, body };
            assert_eq!(kernel.reply(rig.now, &command, &[]).as_of, kernel.state().counters.events);
        }
    }
}

fn state() -> impl Strategy<Value = Option<ProcessState>> {
    prop::option::of(prop::sample::select(vec![
        ProcessState::New,
        ProcessState::Ready,
        ProcessState::Running,
        ProcessState::Terminated,
    ]))
}

/// Makes a kernel with processes of two users, some of them run by a worker of neither.
fn peopled(processes: &[(u8, bool, u8)]) -> Rig {
    let mut rig = Rig::new();
    for (name, alices, step) in processes {
        let (owner, name) = (user(if *alices { "alice" } else { "bob" }), format!("p{name}"));
        let _ = rig.say(&owner, CommandBody::Submit(Box::new(submit(&name))));
        if *step > 0 {
            let _ = rig.say(&owner, CommandBody::Schedule { pid: pid(&name) });
        }
        if *step > 1 {
            let _ = rig.say(&worker("w"), CommandBody::NextRunnable);
        }
        if *step > 2 {
            let message = "enough".to_owned();
            let body = CommandBody::Terminate { pid: pid(&name), message, force: true };
            let _ = rig.say(&owner, body);
        }
    }
    rig
}

/// Asks for all pages of `size`.
fn paged(rig: &Rig, by: &Principal, mut list: ListProcesses) -> Vec<ProcessId> {
    let mut pids = Vec::new();
    for _ in 0..100 {
        let Ok(Told::Processes(page)) =
            rig.query(by, &Query::ListProcesses(Box::new(list.clone())))
        else {
            panic!("no page")
        };
        assert!(page.processes.len() as u64 <= list.page_size);
        pids.extend(page.processes.into_iter().map(|process| process.pid));
        list.page_token = page.next_page_token;
        if list.page_token.is_empty() {
            return pids;
        }
    }
    panic!("pages without end")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// K86: all pages together are what fits and may be seen, each once, in order of pid.
    #[test]
    fn pages_neither_miss_nor_repeat(
        processes in prop::collection::vec((0..20_u8, any::<bool>(), 0..4_u8), 0..20),
        state in state(),
        whose in prop::option::of(any::<bool>()),
        page_size in 1..6_u64,
        asker in 0..4_u8,
    ) {
        let rig = peopled(&processes);
        let by = [operator(), user("alice"), user("bob"), worker("w")][usize::from(asker)].clone();
        let whose = whose.map(|alices| user(if alices { "alice" } else { "bob" }).user);
        let list = ListProcesses { state, user: whose.clone(), page_size, ..Default::default() };
        let fits = |process: &crate::kernel::process::Process| {
            state.is_none_or(|state| process.state == state)
                && whose.as_ref().is_none_or(|whose| process.user == *whose)
                && by.may_see(process)
        };
        let rows = rig.kernel.state().processes.iter().filter(|(_, process)| fits(process));
        let expected: Vec<ProcessId> = rows.map(|(pid, _)| pid.clone()).collect();
        prop_assert_eq!(paged(&rig, &by, list), expected);
    }
}
