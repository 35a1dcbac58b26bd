//! Goal: every method of section 12 does what it is for, for those who may use it (K370).
//! Method: one test a row. Each asks as everyone there is, in a fresh kernel, and compares who was
//! let through with the table; then it looks at what was done.

use crate::kernel::envelopes::EnvelopePatch;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::ids::EnvelopeId;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::ProcessState;
use crate::kernel::principal::{Principal, Role};
use crate::kernel::query::bounds::BoundsOf;
use crate::kernel::query::page::ListProcesses;
use crate::kernel::query::{Query, Told};
use crate::kernel::quota::{Amounts, Limit, QuotaField};
use crate::kernel::refusal::Code;
use crate::kernel::reply::Done;
use crate::kernel::rig::{Rig, calls, operator, pid, reserve, rsv, settle, submit, user, worker};
use crate::kernel::{CommandBody, Refusal};

/// Everyone there is: alice owns the process `a` and the envelope `e`, worker `h` holds `a`.
const EVERYONE: [&str; 6] = ["owner", "holder", "worker", "operator", "node", "stranger"];

/// O H P, and the node itself.
const CONCERNED: [&str; 4] = ["owner", "holder", "operator", "node"];

/// O P, and the node itself.
const OWNERS: [&str; 3] = ["owner", "operator", "node"];

/// P, and the node itself.
const OPERATORS: [&str; 2] = ["operator", "node"];

fn principal(who: &str) -> Principal {
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

fn world() -> Rig {
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
    let through = |who: &&str| match act(&mut world(), &principal(who)) {
        Ok(()) => true,
        Err(refusal) => refusal.code != Code::PermissionDenied && refusal.code != Code::NotHolder,
    };
    EVERYONE.into_iter().filter(through).collect()
}

fn command(body: impl Fn() -> CommandBody) -> Vec<&'static str> {
    let_through(|rig, by| rig.say(by, body()).map(|_| ()))
}

fn query(query: &Query) -> Vec<&'static str> {
    let_through(|rig, by| rig.query(by, query).map(|_| ()))
}

/// What alice is answered in a fresh world.
fn done(body: CommandBody) -> Done {
    world().answered(&user("alice"), body).unwrap().1.done
}

fn state_of(done: Done) -> ProcessState {
    let Done::Process(process) = done else { panic!("no process: {done:?}") };
    process.state
}

/// Rows 2–7: read-only views of the kernel, in process.
#[test]
fn rows_2_to_7_the_state_is_there_to_read_in_process() {
    let rig = world();
    assert_eq!(rig.kernel.process(&pid("a")).map(|process| &process.state), Some(&rig.state("a")));
    assert_eq!(rig.kernel.state().envelope_of(&pid("a")), Some(&env()));
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
        rig.answered(&principal(who), CommandBody::NextRunnable).map(|(_, reply)| state_of(reply.done))
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
}

/// Row 19: O H P.
#[test]
fn row_19_get_usage() {
    assert_eq!(query(&Query::GetUsage { pid: pid("a") }), CONCERNED);
    assert_eq!(query(&Query::GetQuota { pid: pid("a") }), CONCERNED);
}

/// Row 20: O H P.
#[test]
fn row_20_get_remaining_budget() {
    assert_eq!(query(&Query::GetRemainingBudget { pid: pid("a") }), CONCERNED);
}

/// Row 31: O H P.
#[test]
fn row_31_check_inference_quota() {
    let check = Query::CheckInferenceQuota { pid: pid("a"), requests: 1, chars: 10 };
    assert_eq!(query(&check), CONCERNED);
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
}

/// Row 35: O H P.
#[test]
fn row_35_get_request_status() {
    assert_eq!(query(&Query::GetRequestStatus { pid: pid("a") }), CONCERNED);
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
