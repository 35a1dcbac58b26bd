//! Goal: every method of section 12 does what it is for, for those who may use it (K370).
//! Method: one test a row. Each asks as everyone there is, in a fresh kernel, and compares who was
//! let through with the table; then it looks at what was done.

use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::rig::{info, register, svc};
use crate::kernel::envelopes::EnvelopePatch;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::housekeeping::StopMode;
use crate::kernel::ids::{Endpoint, EnvelopeId, InterruptId};
use crate::kernel::interrupts::interrupt::{Assignee, NewInterrupt, Response};
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{InterruptKind, InterruptStatus, ProcessState, TerminalReason};
use crate::kernel::principal::{Principal, Role};
use crate::kernel::query::bounds::BoundsOf;
use crate::kernel::query::interrupts::{ListInterrupts, PendingOf};
use crate::kernel::query::page::ListProcesses;
use crate::kernel::query::{Query, Told};
use crate::kernel::quota::{Amounts, Limit, QuotaField};
use crate::kernel::rates::Scope;
use crate::kernel::refusal::Code;
use crate::kernel::reply::Done;
use crate::kernel::rig::{Rig, calls, operator, pid, reserve, rsv, settle, submit, user, worker};
use crate::kernel::services::ServiceMode;
use crate::kernel::sessions::rig::{linear, start};
use crate::kernel::{CommandBody, Refusal};

/// Everyone there is: alice owns the process `a` and the envelope `e`, worker `h` holds `a`.
pub(super) const EVERYONE: [&str; 6] =
    ["owner", "holder", "worker", "operator", "node", "stranger"];

/// O H P, and the node itself.
const CONCERNED: [&str; 4] = ["owner", "holder", "operator", "node"];

/// O P, and the node itself.
const OWNERS: [&str; 3] = ["owner", "operator", "node"];

/// P, and the node itself.
pub(super) const OPERATORS: [&str; 2] = ["operator", "node"];

pub(super) fn principal(who: &str) -> Principal {
    match who {
        "owner" => user("alice"),
        "holder" => worker("h"),
        "worker" => worker("v"),
        "operator" => operator(),
        "node" => Principal::new(user("node").user, &[Role::Node]),
        _ => user("bob"),
    }
}

fn env() -> EnvelopeId {
    EnvelopeId::parse("envelope_id", "e").unwrap()
}

pub(super) fn world() -> Rig {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.say(&worker("h"), CommandBody::NextRunnable).unwrap();
    let new = NewEnvelope { id: Some(env()), ..NewEnvelope::default() };
    rig.say(&alice, CommandBody::CreateEnvelope(Box::new(new))).unwrap();
    let now = rig.now;
    rig.kernel.state.bind_envelope(now, &pid("a"), &env());
    rig
}

/// Lists who is not refused for who they are.
fn let_through(act: impl Fn(&mut Rig, &Principal) -> Result<(), Refusal>) -> Vec<&'static str> {
    let_through_in(world, act)
}

/// The same in another world.
pub(super) fn let_through_in(
    world: impl Fn() -> Rig,
    act: impl Fn(&mut Rig, &Principal) -> Result<(), Refusal>,
) -> Vec<&'static str> {
    let through = |who: &&str| match act(&mut world(), &principal(who)) {
        Ok(()) => true,
        Err(refusal) => {
            let turned_away = matches!(refusal.code, Code::PermissionDenied | Code::NotHolder);
            assert!(turned_away, "{who}: {refusal}");
            false
        }
    };
    EVERYONE.into_iter().filter(through).collect()
}

fn command(body: impl Fn() -> CommandBody) -> Vec<&'static str> {
    let_through(|rig, by| rig.say(by, body()).map(|_| ()))
}

fn query(query: &Query) -> Vec<&'static str> {
    query_in(world, query)
}

pub(super) fn query_in(world: impl Fn() -> Rig, query: &Query) -> Vec<&'static str> {
    let_through_in(world, |rig, by| rig.query(by, query).map(|_| ()))
}

/// What alice is answered in a fresh world.
fn done(body: CommandBody) -> Done {
    world().answered(&user("alice"), body).unwrap().1.done
}

/// What alice is told in a fresh world.
fn told(query: Query) -> Told {
    world().query(&user("alice"), &query).unwrap()
}

fn state_of(done: Done) -> ProcessState {
    let Done::Process(process) = done else { panic!("no process: {done:?}") };
    process.state
}

/// Row 1: what is kept no longer is removed when the deadline for it comes, without being asked.
#[test]
fn row_1_start_cleanup_loop() {
    for (every, state) in [(300_000, ProcessState::Zombie), (7_200_000, ProcessState::Terminated)] {
        let mut config = KernelConfig::new();
        config.cleanup_interval_ms = every;
        let mut rig = Rig::with(config);
        rig.ready(&user("alice"), submit("a"));
        let message = "enough".to_owned();
        let end = CommandBody::Terminate { pid: pid("a"), message, force: true };
        rig.say(&user("alice"), end).unwrap();
        rig.pass(3_900_000);
        assert_eq!(rig.state("a"), state, "every {every} ms");
    }
}

/// Row 2: a read-only view of Lifecycle, in process.
#[test]
fn row_2_lifecycle_is_there_to_read() {
    let (rig, _) = asked();
    let process = rig.kernel.process(&pid("a")).unwrap();
    assert_eq!((process.state, &process.user), (ProcessState::Waiting, &user("alice").user));
    assert_eq!(rig.kernel.process(&pid("n")).map(|process| process.state), None);
}

/// Row 3: a read-only view of Resources.
#[test]
fn row_3_resources_are_there_to_read() {
    let mut rig = world();
    let left = |rig: &Rig| rig.kernel.state().remaining(&pid("a"), rig.now).llm_calls;
    let before = left(&rig).unwrap();
    rig.say(&user("alice"), reserve("a", "r", calls(3))).unwrap();
    assert_eq!(left(&rig), Some(before - 3));
    assert_eq!(rig.kernel.process(&pid("a")).map(|process| process.account.held), Some(calls(3)));
}

/// Row 4: a read-only view of RateLimiter.
#[test]
fn row_4_rates_are_there_to_read() {
    let mut rig = world();
    let alice = user("alice");
    let (whom, whole) = (alice.user.clone(), Endpoint::whole());
    let counts = |rig: &Rig| {
        let usage = rig.kernel.state().rate_usage(rig.now, &alice, (&whom, &whole)).unwrap();
        usage.each_ref().map(|window| window.current)
    };
    assert_eq!(counts(&rig), [0; 4]);
    rig.say(&alice, alices_rate(true)).unwrap();
    assert_eq!(counts(&rig), [1; 4]);
}

/// Row 5: a read-only view of Interrupts.
#[test]
fn row_5_interrupts_are_there_to_read() {
    let (mut rig, id) = asked();
    let status = |rig: &Rig| rig.kernel.state().interrupt(&id).map(|asked| asked.status);
    assert_eq!(status(&rig), Some(InterruptStatus::Pending));
    rig.say(&user("alice"), answer(&id)).unwrap();
    assert_eq!(status(&rig), Some(InterruptStatus::Resolved));
}

/// Row 6: a read-only view of Services.
#[test]
fn row_6_services_are_there_to_read() {
    let mut rig = world();
    rig.work(register(info("s", ServiceMode::Pull, 2)));
    let shown = rig.kernel.state().service(&svc("s")).unwrap();
    let info = &shown.service.info;
    assert_eq!((info.max_concurrent, &info.name), (2, &svc("s")));
}

/// Row 7: a read-only view of Orchestrator.
#[test]
fn row_7_sessions_are_there_to_read() {
    let mut rig = world();
    let alice = user("alice");
    rig.say(&alice, CommandBody::Submit(Box::new(submit("p")))).unwrap();
    rig.say(&alice, start(linear(), "of-b", false)).unwrap();
    let state = rig.kernel.state();
    assert_eq!(state.session(&pid("p")).map(|session| session.envelope.as_str()), Some("of-b"));
    assert_eq!(state.envelope_of(&pid("a")), Some(&env()));
}

/// Row 8: anyone for itself, operators for others.
#[test]
fn row_8_submit() {
    let own = || CommandBody::Submit(Box::new(submit("n")));
    assert_eq!(command(own), EVERYONE);
    let bobs = || {
        let user = Some(user("bob").user);
        CommandBody::Submit(Box::new(Submit { user, ..submit("n") }))
    };
    assert_eq!(command(bobs), ["operator", "stranger"], "bob for himself");
    assert_eq!(state_of(done(own())), ProcessState::New);
}

/// Row 9: O P.
#[test]
fn row_9_schedule() {
    let through = let_through(|rig, by| {
        rig.say(&user("alice"), CommandBody::Submit(Box::new(submit("n")))).unwrap();
        let (_, reply) = rig.answered(by, CommandBody::Schedule { pid: pid("n") })?;
        assert_eq!(state_of(reply.done), ProcessState::Ready);
        Ok(())
    });
    assert_eq!(through, OWNERS);
}

/// Row 10: anyone, by K74.
#[test]
fn row_10_get_next_runnable() {
    let claimed = |who: &str| {
        let mut rig = world();
        rig.ready(&user("alice"), submit("n"));
        rig.answered(&principal(who), CommandBody::NextRunnable)
            .map(|(_, reply)| state_of(reply.done))
    };
    for who in ["owner", "worker", "operator"] {
        assert_eq!(claimed(who), Ok(ProcessState::Running), "{who}");
    }
    assert_eq!(claimed("stranger").map_err(|refusal| refusal.code), Err(Code::NoRunnable));
}

/// Row 11: O H P.
#[test]
fn row_11_transition_state() {
    let to = || {
        let (to, reason) = (ProcessState::Blocked, "because".to_owned());
        CommandBody::TransitionState { pid: pid("a"), to, reason }
    };
    assert_eq!(command(to), CONCERNED);
    assert_eq!(state_of(done(to())), ProcessState::Blocked);
}

/// Row 12: O P.
#[test]
fn row_12_terminate() {
    let end = || {
        let message = "enough".to_owned();
        CommandBody::Terminate { pid: pid("a"), message, force: true }
    };
    assert_eq!(command(end), OWNERS);
    assert_eq!(state_of(done(end())), ProcessState::Terminated);
}

/// Row 13: O H P.
#[test]
fn row_13_get_process() {
    assert_eq!(query(&Query::GetProcess { pid: pid("a") }), CONCERNED);
    let Told::Process(process) = told(Query::GetProcess { pid: pid("a") }) else {
        panic!("no process")
    };
    assert_eq!((process.pid, process.state), (pid("a"), ProcessState::Running));
}

/// Row 14: everyone gets what concerns it.
#[test]
fn row_14_list_processes() {
    let found = |who: &str| {
        let list = Query::ListProcesses(Box::<ListProcesses>::default());
        let Ok(Told::Processes(page)) = world().query(&principal(who), &list) else {
            panic!("no page")
        };
        page.processes.len()
    };
    assert_eq!(EVERYONE.map(found), [1, 1, 0, 1, 1, 0]);
    assert_eq!(query(&Query::GetProcessCounts), EVERYONE);
}

fn recorded(amounts: Amounts, agent_hops: u64) -> CommandBody {
    let (attempt, record) = (None, None);
    let record =
        crate::kernel::budget::Record { pid: pid("a"), amounts, agent_hops, attempt, record };
    CommandBody::RecordUsage(Box::new(record))
}

/// Row 15: O H P; a call, and the tokens in and out.
#[test]
fn row_15_record_llm_call() {
    let amounts = Amounts { llm_calls: 1, tokens_in: 20, tokens_out: 7, ..Amounts::ZERO };
    assert_eq!(command(|| recorded(amounts, 0)), CONCERNED);
    let Done::Recorded { usage, within_bounds: true, .. } = done(recorded(amounts, 0)) else {
        panic!("not recorded")
    };
    assert_eq!((usage.used.amounts, usage.unreserved), (amounts, amounts));
}

/// Row 16: O H P.
#[test]
fn row_16_record_tool_call() {
    let amounts = Amounts { tool_calls: 1, ..Amounts::ZERO };
    assert_eq!(command(|| recorded(amounts, 0)), CONCERNED);
    let Done::Recorded { usage, .. } = done(recorded(amounts, 0)) else { panic!("not recorded") };
    assert_eq!(usage.used.amounts, amounts);
}

/// Row 17: O H P.
#[test]
fn row_17_record_agent_hop() {
    assert_eq!(command(|| recorded(Amounts::ZERO, 1)), CONCERNED);
    let Done::Recorded { usage, .. } = done(recorded(Amounts::ZERO, 1)) else {
        panic!("not recorded")
    };
    assert_eq!(usage.used.agent_hops, 1);
}

/// Row 18: O H P.
#[test]
fn row_18_check_quota() {
    assert_eq!(query(&Query::CheckQuota { pid: pid("a") }), CONCERNED);
    let mut rig = world();
    let check = |rig: &Rig| {
        let check = rig.query(&user("alice"), &Query::CheckQuota { pid: pid("a") });
        let Ok(Told::QuotaCheck(check)) = check else { panic!("not checked") };
        (check.within_bounds, check.exceeded.len())
    };
    assert_eq!(check(&rig), (true, 0));
    let most = rig.process("a").quota.max_tool_calls.most().unwrap();
    rig.say(&operator(), recorded(Amounts { tool_calls: most + 1, ..Amounts::ZERO }, 0)).unwrap();
    assert_eq!(check(&rig), (false, 1));
}

/// Row 19: O H P.
#[test]
fn row_19_get_usage() {
    assert_eq!(query(&Query::GetUsage { pid: pid("a") }), CONCERNED);
    assert_eq!(query(&Query::GetQuota { pid: pid("a") }), CONCERNED);
    let mut rig = world();
    rig.say(&user("alice"), reserve("a", "r", calls(2))).unwrap();
    rig.say(&user("alice"), recorded(calls(1), 3)).unwrap();
    let Ok(Told::Use(usage)) = rig.query(&user("alice"), &Query::GetUsage { pid: pid("a") }) else {
        panic!("nothing told")
    };
    assert_eq!((usage.used.amounts, usage.used.agent_hops, usage.held), (calls(1), 3, calls(2)));
    let Ok(Told::Quota(quota)) = rig.query(&user("alice"), &Query::GetQuota { pid: pid("a") })
    else {
        panic!("nothing told")
    };
    assert_eq!(quota.max_llm_calls, rig.process("a").quota.max_llm_calls);
}

/// Row 20: O H P.
#[test]
fn row_20_get_remaining_budget() {
    assert_eq!(query(&Query::GetRemainingBudget { pid: pid("a") }), CONCERNED);
    let mut rig = world();
    let left = |rig: &Rig| {
        let left = rig.query(&user("alice"), &Query::GetRemainingBudget { pid: pid("a") });
        let Ok(Told::Remaining(left)) = left else { panic!("nothing told") };
        left.llm_calls.unwrap()
    };
    let before = left(&rig);
    rig.say(&user("alice"), reserve("a", "r", calls(2))).unwrap();
    rig.say(&user("alice"), recorded(calls(1), 0)).unwrap();
    assert_eq!(left(&rig), before - 3);
}

fn alices_rate(record: bool) -> CommandBody {
    let (user, endpoint) = (user("alice").user, Endpoint::whole());
    CommandBody::CheckRateLimit { user, endpoint, record }
}

/// Row 21: that user, W P; a query, or a command with `record`.
#[test]
fn row_21_check_rate_limit() {
    let may = ["owner", "holder", "worker", "operator", "node"];
    let (user, endpoint) = (user("alice").user, Endpoint::whole());
    assert_eq!(query(&Query::CheckRateLimit { user, endpoint }), may);
    assert_eq!(command(|| alices_rate(true)), may);
    let Done::Rate(result) = done(alices_rate(true)) else { panic!("no rate") };
    assert_eq!((result.allowed, result.current_count), (true, 1));
    let mut rig = world();
    for hit in 1..=11 {
        let (_, reply) = rig.answered(&principal("owner"), alices_rate(true)).unwrap();
        let Done::Rate(result) = reply.done else { panic!("no rate") };
        assert_eq!(result.allowed, hit <= 10, "K135: over the limit is an answer");
    }
}

/// Row 22: that user, W P.
#[test]
fn row_22_get_rate_limit_usage() {
    let (user, endpoint) = (user("alice").user, Endpoint::whole());
    let usage = Query::GetRateLimitUsage { user, endpoint };
    assert_eq!(query(&usage), ["owner", "holder", "worker", "operator", "node"]);
    let mut rig = world();
    rig.say(&principal("owner"), alices_rate(true)).unwrap();
    let Ok(Told::RateUsage(windows)) = rig.query(&principal("owner"), &usage) else {
        panic!("no usage")
    };
    assert_eq!(windows.each_ref().map(|window| window.current), [1; 4]);
}

fn question() -> CommandBody {
    let assignee = Some(Assignee::User { user: user("carol").user });
    let kind = InterruptKind::Clarification;
    let new = NewInterrupt { assignee, key: Some("k".into()), ..NewInterrupt::new(kind) };
    CommandBody::CreateInterrupt { pid: pid("a"), interrupt: Box::new(new) }
}

/// The world in which alice is asked, and what she is asked.
fn asked() -> (Rig, InterruptId) {
    let mut rig = world();
    let (_, reply) = rig.answered(&user("alice"), question()).unwrap();
    let Done::Interrupt(interrupt) = reply.done else { panic!("no interrupt") };
    (rig, interrupt.id)
}

fn answer(id: &InterruptId) -> CommandBody {
    let response = Response { text: Some("so".into()), ..Response::default() };
    CommandBody::ResolveInterrupt { id: id.clone(), response: Box::new(response) }
}

/// Lists who of everyone, and of carol who is to answer, is let through where alice is asked.
fn of_asked(
    act: impl Fn(&mut Rig, &Principal, &InterruptId) -> Result<(), Refusal>,
) -> Vec<&'static str> {
    let through = |who: &&str| {
        let (mut rig, id) = asked();
        let by = if *who == "assignee" { user("carol") } else { principal(who) };
        act(&mut rig, &by, &id)
            .map_or_else(|refusal| refusal.code != Code::PermissionDenied, |()| true)
    };
    EVERYONE.into_iter().chain(["assignee"]).filter(through).collect()
}

/// Row 23: O H P; a repeat with a key answers as the first time (K152, K6).
#[test]
fn row_23_create_interrupt() {
    assert_eq!(command(question), CONCERNED);
    let (mut rig, id) = asked();
    let (events, reply) = rig.answered(&user("alice"), question()).unwrap();
    let Done::Interrupt(interrupt) = reply.done else { panic!("no interrupt") };
    assert_eq!((events, interrupt.id, interrupt.status), (vec![], id, InterruptStatus::Pending));
}

/// Row 24: O P and the assignee.
#[test]
fn row_24_resolve_interrupt() {
    let through = of_asked(|rig, by, id| {
        let (_, reply) = rig.answered(by, answer(id))?;
        let Done::Interrupt(interrupt) = reply.done else { panic!("no interrupt") };
        assert_eq!(interrupt.status, InterruptStatus::Resolved);
        Ok(())
    });
    assert_eq!(through, ["owner", "operator", "assignee"]);
}

/// Row 25: O H P, the assignee.
#[test]
fn row_25_get_pending_interrupt() {
    let may = ["owner", "holder", "operator", "node", "assignee"];
    let pending = |of: PendingOf| {
        of_asked(|rig, by, id| {
            let Told::Pending(found) =
                rig.query(by, &Query::GetPendingInterrupt { of: of.clone() })?
            else {
                panic!("nothing told")
            };
            match found {
                Some(found) => {
                    assert_eq!(found.id, *id);
                    Ok(())
                }
                None => Err(Refusal::new(Code::PermissionDenied, "nothing is shown")),
            }
        })
    };
    // Blocked by the question, the process is Waiting, and nobody holds it.
    let may: Vec<&str> = may.into_iter().filter(|who| *who != "holder").collect();
    assert_eq!(pending(PendingOf::Process(pid("a"))), may);
    let request = world().process("a").request.clone();
    assert_eq!(pending(PendingOf::Request(request)), may);
}

/// Interrupts: get_interrupt, has_pending, cancel_interrupt (O P), list_interrupts, stats (P).
#[test]
fn interrupts_are_shown_listed_cancelled_and_counted() {
    let may = ["owner", "operator", "node", "assignee"];
    let get = |rig: &mut Rig, by: &Principal, id: &InterruptId| {
        rig.query(by, &Query::GetInterrupt { id: id.clone() }).map(|_| ())
    };
    assert_eq!(of_asked(get), may);
    let has = |rig: &mut Rig, by: &Principal, _: &InterruptId| {
        let told = rig.query(by, &Query::HasPending { pid: pid("a") })?;
        assert_eq!(told, Told::HasPending(true));
        Ok(())
    };
    assert_eq!(of_asked(has), may);
    let listed = |rig: &mut Rig, by: &Principal, _: &InterruptId| {
        let told = rig.query(by, &Query::ListInterrupts(Box::default()))?;
        let Told::Interrupts(page) = told else { panic!("no page") };
        assert_eq!(page.next_page_token, "");
        match page.interrupts.len() {
            1 => Ok(()),
            _ => Err(Refusal::new(Code::PermissionDenied, "nothing is shown")),
        }
    };
    assert_eq!(of_asked(listed), may);
    let cancel = |rig: &mut Rig, by: &Principal, id: &InterruptId| {
        let reason = "never mind".to_owned();
        rig.say(by, CommandBody::CancelInterrupt { id: id.clone(), reason }).map(|_| ())
    };
    assert_eq!(of_asked(cancel), OWNERS);
    let counted = |rig: &mut Rig, by: &Principal, _: &InterruptId| {
        let told = rig.query(by, &Query::GetInterruptStats)?;
        let Told::InterruptCounts(counts) = told else { panic!("no counts") };
        assert_eq!((counts.created, counts.pending()), (1, 1));
        Ok(())
    };
    assert_eq!(of_asked(counted), OPERATORS);
}

/// K86, K172, K410: pages of interrupts go on where the last one ended, for the same query.
#[test]
fn interrupts_are_listed_in_pages() {
    let mut rig = world();
    let alice = user("alice");
    for key in ["1", "2", "3", "4", "5"] {
        let kind = InterruptKind::Checkpoint;
        let (key, blocking) = (Some(key.into()), Some(false));
        let interrupt = Box::new(NewInterrupt { key, blocking, ..NewInterrupt::new(kind) });
        rig.say(&alice, CommandBody::CreateInterrupt { pid: pid("a"), interrupt }).unwrap();
    }
    let mut list = ListInterrupts { page_size: 2, ..ListInterrupts::default() };
    let mut keys = Vec::new();
    for _ in 0..3 {
        let query = Query::ListInterrupts(Box::new(list.clone()));
        let Ok(Told::Interrupts(page)) = rig.query(&alice, &query) else { panic!("no page") };
        keys.extend(page.interrupts.into_iter().filter_map(|interrupt| interrupt.key));
        list.page_token = page.next_page_token;
    }
    assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), ["1", "2", "3", "4", "5"]);
    assert_eq!(list.page_token, "");

    let query = Query::ListInterrupts(Box::new(list.clone()));
    let Ok(Told::Interrupts(page)) = rig.query(&alice, &query) else { panic!("no page") };
    list.filter.status = Some(InterruptStatus::Pending);
    list.page_token = page.next_page_token;
    let refused = rig.query(&alice, &Query::ListInterrupts(Box::new(list))).unwrap_err();
    assert_eq!(refused.to_string(), "bad_value: page_token: it is of another query");
}

/// Rates: SetRateLimit, ResetRateLimits (P).
#[test]
fn rates_are_set_and_reset_by_operators() {
    let set = || {
        let scope = Scope { user: Some(user("alice").user), endpoint: Endpoint::whole() };
        CommandBody::SetRateLimit { scope, config: None }
    };
    assert_eq!(command(set), OPERATORS);
    let reset = || CommandBody::ResetRateLimits { user: user("alice").user };
    assert_eq!(command(reset), OPERATORS);
    let mut rig = world();
    rig.say(&principal("owner"), alices_rate(true)).unwrap();
    let (_, reply) = rig.answered(&operator(), reset()).unwrap();
    assert_eq!(reply.done, Done::Removed { count: 1 });
    let (events, reply) = rig.answered(&operator(), reset()).unwrap();
    assert_eq!((events, reply.done), (vec![], Done::Removed { count: 0 }));
}

/// Row 31: O H P.
#[test]
fn row_31_check_inference_quota() {
    let check = Query::CheckInferenceQuota { pid: pid("a"), requests: 1, chars: 10 };
    assert_eq!(query(&check), CONCERNED);
    let requests = world().process("a").quota.max_inference_requests.most().unwrap() + 1;
    let over = Query::CheckInferenceQuota { pid: pid("a"), requests, chars: 10 };
    let allowed = |query| {
        let Told::Inference(check) = told(query) else { panic!("not checked") };
        (check.allowed, check.reason.is_empty())
    };
    assert_eq!((allowed(check), allowed(over)), ((true, true), (false, false)));
}

/// Row 32: O H P; a request, and its characters.
#[test]
fn row_32_record_inference_call() {
    let amounts = Amounts { inference_requests: 1, inference_input_chars: 10, ..Amounts::ZERO };
    assert_eq!(command(|| recorded(amounts, 0)), CONCERNED);
    let Done::Recorded { usage, .. } = done(recorded(amounts, 0)) else { panic!("not recorded") };
    assert_eq!(usage.used.amounts, amounts);
}

/// Row 34: P.
#[test]
fn row_34_get_system_status() {
    assert_eq!(query(&Query::GetSystemStatus), OPERATORS);
    assert_eq!(query(&Query::GetSystemUsage), OPERATORS);
    let mut rig = world();
    rig.say(&user("alice"), recorded(calls(4), 0)).unwrap();
    let Ok(Told::Status(status)) = rig.query(&operator(), &Query::GetSystemStatus) else {
        panic!("no status")
    };
    let used = status.resources;
    assert_eq!((used.processes_active, used.used, status.draining), (1, calls(4), false));
    let usage = rig.query(&operator(), &Query::GetSystemUsage);
    assert_eq!(usage, Ok(Told::SystemUsage(used)));
}

/// Row 35: O H P.
#[test]
fn row_35_get_request_status() {
    assert_eq!(query(&Query::GetRequestStatus { pid: pid("a") }), CONCERNED);
    let (rig, id) = asked();
    let Ok(Told::Request(status)) =
        rig.query(&user("alice"), &Query::GetRequestStatus { pid: pid("a") })
    else {
        panic!("no status")
    };
    assert_eq!(status.process.state, ProcessState::Waiting);
    assert_eq!(status.pending_interrupt.map(|asked| asked.id), Some(id));
}

/// Row 36: C Cleanup (P N).
#[test]
fn row_36_cleanup() {
    assert_eq!(command(|| CommandBody::Cleanup), OPERATORS);
    let mut config = KernelConfig::new();
    config.cleanup_interval_ms = 1_000 * 3_600_000;
    let mut rig = Rig::with(config);
    let alice = user("alice");
    for name in ["a", "live"] {
        rig.say(&alice, CommandBody::Submit(Box::new(submit(name)))).unwrap();
    }
    let message = "enough".to_owned();
    rig.say(&alice, CommandBody::Terminate { pid: pid("a"), message, force: true }).unwrap();
    let removed = |rig: &mut Rig| {
        let (_, reply) = rig.answered(&operator(), CommandBody::Cleanup).unwrap();
        let Done::Cleaned { cleaned, more } = reply.done else { panic!("not cleaned") };
        (cleaned.total(), more)
    };
    assert_eq!(removed(&mut rig), (0, false), "it is kept an hour");
    rig.now = rig.now.plus(3_600_000);
    assert_eq!(removed(&mut rig), (1, false), "it is buried");
    assert_eq!((rig.state("a"), rig.state("live")), (ProcessState::Zombie, ProcessState::New));
}

/// Row 37: P N; and Drain, after which nothing new is taken on (K362, K410).
#[test]
fn row_37_shutdown() {
    let (mode, deadline_ms) = (StopMode::Preserve, None);
    assert_eq!(command(|| CommandBody::Shutdown { mode, deadline_ms }), OPERATORS);
    assert_eq!(command(|| CommandBody::Drain { deadline_ms }), OPERATORS);
    let mut rig = world();
    let (_, reply) = rig.answered(&operator(), CommandBody::Drain { deadline_ms }).unwrap();
    assert_eq!(reply.done, Done::Nothing);
    let Ok(Told::Status(status)) = rig.query(&operator(), &Query::GetSystemStatus) else {
        panic!("no status")
    };
    assert!(status.draining);
    let refused = rig.say(&user("alice"), CommandBody::Submit(Box::new(submit("n")))).unwrap_err();
    assert_eq!(refused.to_string(), "draining: node is draining");
    rig.say(&operator(), CommandBody::Shutdown { mode: StopMode::Terminate, deadline_ms }).unwrap();
    assert!(rig.kernel.state().is_stopped(), "nothing is under way");
    let reason = Some(TerminalReason::KernelShutdown);
    assert_eq!(
        (rig.state("a"), rig.process("a").terminal_reason),
        (ProcessState::Terminated, reason)
    );
}

/// Resources: Reserve, Settle, Release (O H P), AdjustQuota (O P).
#[test]
fn resources_are_reserved_settled_released_and_adjusted() {
    assert_eq!(command(|| reserve("a", "n", calls(1))), CONCERNED);
    let with_reservation = |body: fn() -> CommandBody| {
        let_through(move |rig, by| {
            rig.say(&user("alice"), reserve("a", "r", calls(1))).unwrap();
            rig.say(by, body()).map(|_| ())
        })
    };
    assert_eq!(with_reservation(|| settle("a", "r", calls(1))), CONCERNED);
    let release = || CommandBody::Release { pid: pid("a"), reservation: rsv("r") };
    assert_eq!(with_reservation(release), CONCERNED);
    let adjust = || {
        let quota = vec![(QuotaField::MaxLlmCalls, Limit::at_most(5))];
        CommandBody::AdjustQuota { pid: pid("a"), quota }
    };
    assert_eq!(command(adjust), OWNERS);
    let Done::Process(process) = done(adjust()) else { panic!("no process") };
    assert_eq!(process.quota.max_llm_calls, Limit::at_most(5));
}

/// Envelopes: store_envelope, get_envelope, get_envelope_mut, CloneEnvelope, CheckBounds (O H P).
#[test]
fn envelopes_are_stored_shown_changed_and_cloned() {
    let create = || CommandBody::CreateEnvelope(Box::default());
    assert_eq!(command(create), EVERYONE, "each its own");
    let update = || {
        let patch = EnvelopePatch { add_feedback: vec!["x".into()], ..EnvelopePatch::default() };
        let patch = Box::new(patch);
        CommandBody::UpdateEnvelope { id: env(), patch, expected_version: None }
    };
    assert_eq!(command(update), CONCERNED);
    let Done::Envelope { envelope, advanced: false } = done(update()) else {
        panic!("no envelope")
    };
    assert_eq!(envelope.envelope.loop_feedback.len(), 1);
    assert_eq!(command(|| CommandBody::CloneEnvelope { id: env() }), CONCERNED);
    assert_eq!(query(&Query::GetEnvelope { id: env() }), CONCERNED);
    assert_eq!(query(&Query::CheckBounds { of: BoundsOf::Envelope(env()) }), CONCERNED);
    assert_eq!(query(&Query::CheckBounds { of: BoundsOf::Process(pid("a")) }), CONCERNED);
}

/// Housekeeping: cleanup_process (O P).
#[test]
fn a_process_that_is_over_is_cleaned_up() {
    let through = let_through(|rig, by| {
        let message = "enough".to_owned();
        let end = CommandBody::Terminate { pid: pid("a"), message, force: true };
        rig.say(&user("alice"), end).unwrap();
        let (_, reply) = rig.answered(by, CommandBody::CleanupProcess { pid: pid("a") })?;
        assert_eq!(reply.done, Done::Nothing);
        assert_eq!(rig.kernel.process(&pid("a")), None);
        assert_eq!(rig.kernel.state().envelope(&env()), None);
        Ok(())
    });
    assert_eq!(through, OWNERS);
}
