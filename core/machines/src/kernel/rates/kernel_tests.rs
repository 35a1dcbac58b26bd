//! Tests of rates as commands: who may, what is refused, and what one decision makes of them.

use super::*;
use crate::kernel::CommandBody;
use crate::kernel::config::KernelConfig;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{BlockReason, ProcessState};
use crate::kernel::principal::Principal;
use crate::kernel::process::Block;
use crate::kernel::quota::{Limit, QuotaField};
use crate::kernel::rig::{Rig, calls, limits, operator, pid, record, reserve, submit, told, user};
use crate::kernel::rig::{settle, worker};
use crate::kernel::sessions::rig::{Desk, linear};

fn on(name: &str) -> Endpoint {
    Endpoint::parse("endpoint", name).unwrap()
}

fn check(who: &str, record: bool) -> CommandBody {
    let user = UserId::parse("user", who).unwrap();
    CommandBody::CheckRateLimit { user, endpoint: on("e"), record }
}

fn set(name: &str, burst: Option<u64>) -> CommandBody {
    let scope = Scope { user: UserId::parse("user", name).ok(), endpoint: Endpoint::whole() };
    let burst = burst.map(|burst| Some(Limit::at_most(burst)));
    let config = burst.map(|burst| ScopeConfig { burst, ..ScopeConfig::default() });
    CommandBody::SetRateLimit { scope, config }
}

fn reset(name: &str) -> CommandBody {
    CommandBody::ResetRateLimits { user: UserId::parse("user", name).unwrap() }
}

/// What the views say of ann on `e`.
fn usage(rig: &Rig, by: &Principal) -> (u64, RateResult) {
    let (ann, e) = (UserId::parse("user", "ann").unwrap(), on("e"));
    let [burst, ..] = rig.kernel.state().rate_usage(rig.now, by, (&ann, &e)).unwrap();
    (burst.current, rig.kernel.state().rate_check(rig.now, by, (&ann, &e)).unwrap())
}

#[test]
fn a_check_with_record_counts_what_is_allowed_and_nothing_else() {
    let mut rig = Rig::new();
    let ann = user("ann");
    assert_eq!(rig.say(&ann, check("ann", false)), Ok(vec![]), "K135: as the query");
    for _ in 0..10 {
        assert_eq!(rig.say(&ann, check("ann", true)).unwrap()[0].body.kind(), "rate.recorded");
    }
    assert_eq!(rig.say(&ann, check("ann", true)), Ok(vec![]), "an answer, not a refusal (K135)");
    let (count, result) = usage(&rig, &ann);
    assert_eq!((count, result.allowed, result.current_count), (10, false, 10));
    assert_eq!(result.reason, "burst limit: 10 hits, at most 10");
    let retry = result.retry_after_ms.unwrap();
    rig.pass(retry - 1);
    assert_eq!(rig.say(&ann, check("ann", true)), Ok(vec![]));
    rig.pass(1);
    assert_eq!(rig.say(&ann, check("ann", true)).unwrap().len(), 1, "K134");
}

#[test]
fn what_was_recorded_counts_in_the_reply() {
    let mut rig = Rig::new();
    let ann = user("ann");
    let events = rig.say(&ann, check("ann", true)).unwrap();
    let state = rig.kernel.state();
    let (key, _) = state.rate_of_user(&ann.user, &on("e"));
    assert!(was_recorded(&events, &key, None));
    assert!(!was_recorded(&events, &key, Some(&key)), "that was the command's own");
    let reply = state.rate_reply(rig.now, (&ann.user, &on("e")), true);
    assert_eq!((reply.allowed, reply.remaining), (true, Limit::at_most(9)), "K135");
    assert_eq!((reply.limit_type, reply.current_count), (LimitType::Burst, 1));
}

#[test]
fn rates_are_shown_to_their_user_workers_and_operators() {
    let mut rig = Rig::new();
    for by in [user("ann"), worker("w"), operator()] {
        rig.say(&by, check("ann", true)).unwrap();
        assert_eq!(usage(&rig, &by).0, rig.events.len() as u64 - 1);
    }
    let foreign = "permission_denied: rates of ann belong to another user";
    assert_eq!(told(rig.say(&user("bob"), check("ann", true))), foreign, "K370");
    let (ann, bob) = (user("ann").user, user("bob"));
    let state = rig.kernel.state();
    assert!(state.rate_check(rig.now, &bob, (&ann, &on("e"))).is_err(), "K446");
    assert!(state.rate_usage(rig.now, &bob, (&ann, &on("e"))).is_err());
}

#[test]
fn operators_configure_and_reset() {
    let mut rig = Rig::new();
    let (ann, op) = (user("ann"), operator());
    assert_eq!(
        told(rig.say(&ann, set("ann", Some(99)))),
        "permission_denied: only operators do this"
    );
    assert_eq!(told(rig.say(&ann, reset("ann"))), "permission_denied: only operators do this");
    assert_eq!(rig.say(&op, set("ann", Some(1))).unwrap()[0].body.kind(), "rate.configured");
    assert_eq!(rig.say(&op, set("ann", Some(1))), Ok(vec![]), "K6");
    rig.say(&ann, check("ann", true)).unwrap();
    assert_eq!(rig.say(&ann, check("ann", true)), Ok(vec![]));
    assert_eq!(rig.say(&op, reset("ann")).unwrap()[0].body.kind(), "rate.reset");
    assert_eq!(rig.say(&op, reset("ann")), Ok(vec![]), "K138");
    rig.say(&ann, check("ann", true)).unwrap();
    assert_eq!(rig.say(&op, set("ann", None)).unwrap().len(), 1);
    assert_eq!(rig.say(&op, set("ann", None)), Ok(vec![]));
    assert_eq!(rig.say(&ann, check("ann", true)).unwrap().len(), 1, "the default is back");
}

#[test]
fn a_rate_and_its_command_are_one_decision() {
    let mut rig = Rig::new();
    let (ann, op) = (user("ann"), operator());
    rig.say(&op, set("ann", Some(2))).unwrap();
    rig.rate = Some(on("Submit"));
    let before = rig.events.len();
    rig.say(&ann, CommandBody::Submit(Box::new(submit("p")))).unwrap();
    assert_eq!(rig.kinds(before), ["rate.recorded", "process.created"], "K136");
    let unknown = CommandBody::Schedule { pid: pid("nobody") };
    assert_eq!(told(rig.say(&ann, unknown)), "process_not_found: process not found: nobody");
    let again = rig.say(&ann, CommandBody::Submit(Box::new(submit("p")))).unwrap();
    assert_eq!(again.len(), 1, "what was refused left no hit (K2), a repeat does");
    let refusal = rig.say(&ann, CommandBody::Submit(Box::new(submit("q")))).unwrap_err();
    assert_eq!(refusal.to_string(), "rate_limited: burst limit: 2 hits, at most 2", "K136");
    let retry_at = refusal.retry_at.unwrap();
    rig.now = Time::from_millis(retry_at - 1);
    assert!(rig.say(&ann, CommandBody::Submit(Box::new(submit("q")))).is_err());
    rig.now = Time::from_millis(retry_at);
    assert!(rig.say(&ann, CommandBody::Submit(Box::new(submit("q")))).is_ok(), "K134");
    let other = user("bob");
    assert!(rig.say(&other, CommandBody::Submit(Box::new(submit("r")))).is_ok(), "K130");
}

#[test]
fn a_hit_that_a_check_carries_counts_before_the_check() {
    let mut rig = Rig::new();
    let (ann, op) = (user("ann"), operator());
    rig.say(&op, set("ann", Some(1))).unwrap();
    rig.rate = Some(on("e"));
    let before = rig.events.len();
    rig.say(&ann, check("ann", true)).unwrap();
    assert_eq!(rig.kinds(before), ["rate.recorded"], "K431: not both");
    let key = RateKey::User { user: ann.user.clone(), endpoint: on("e") };
    assert!(!was_recorded(&rig.events[before..], &key, Some(&key)));
}

#[test]
fn a_full_table_refuses_a_new_key_until_one_runs_out() {
    let mut config = KernelConfig::new();
    config.limits.rate_keys = 2;
    let mut rig = Rig::with(config);
    for name in ["ann", "bob"] {
        rig.say(&user(name), check(name, true)).unwrap();
    }
    let full = rig.say(&user("cid"), check("cid", true)).unwrap_err();
    assert_eq!(full.to_string(), "rate_table_full: rates: 3 keys, at most 2", "K137");
    rig.say(&user("ann"), check("ann", true)).unwrap();
    rig.rate = Some(on("Submit"));
    let submit = || CommandBody::Submit(Box::new(submit("p")));
    assert_eq!(told(rig.say(&user("cid"), submit())), full.to_string());
    rig.now = Time::from_millis(full.retry_at.unwrap() - 1);
    assert!(rig.say(&user("cid"), submit()).is_err());
    rig.now = Time::from_millis(full.retry_at.unwrap());
    let before = rig.events.len();
    rig.say(&user("cid"), submit()).unwrap();
    assert!(rig.kinds(before).contains(&"rate.swept"), "{:?}", rig.kinds(before));
    for (nth, name) in ["a", "b", "c"].into_iter().enumerate() {
        rig.rate = None;
        let told = told(rig.say(&operator(), set(name, Some(1))));
        assert_eq!(told.starts_with("rate_table_full: rate configurations"), nth == 2, "{told}");
    }
}

#[test]
fn a_command_and_its_rate_need_room_together() {
    let mut config = KernelConfig::new();
    config.limits.rate_keys = 2;
    let mut rig = Rig::with(config);
    rig.say(&user("ann"), check("ann", true)).unwrap();
    rig.rate = Some(on("other"));
    let full = "rate_table_full: rates: 3 keys, at most 2";
    let refused = rig.say(&user("cid"), check("cid", true));
    assert_eq!(told(refused), full, "one key of the two would have had room (K2)");
    rig.rate = None;
    rig.say(&user("cid"), check("cid", true)).unwrap();
}

/// A process of ann whose quota has these rates.
fn limited_process(fields: &[(QuotaField, u64)]) -> Rig {
    let mut rig = Rig::new();
    let mut submit = submit("p");
    submit.quota = limits(fields);
    rig.ready(&user("ann"), submit);
    rig
}

#[test]
fn the_rates_of_a_quota_limit_reservations_of_calls() {
    let mut rig = limited_process(&[(QuotaField::RateLimitRpm, 2)]);
    let ann = user("ann");
    let before = rig.events.len();
    rig.say(&ann, reserve("p", "r1", calls(1))).unwrap();
    assert_eq!(rig.kinds(before), ["rate.recorded", "quota.reserved"], "K121");
    assert_eq!(rig.say(&ann, reserve("p", "r1", calls(1))), Ok(vec![]), "K108: no second hit");
    rig.say(&ann, reserve("p", "r2", calls(1))).unwrap();
    let refusal = rig.say(&ann, reserve("p", "r3", calls(1))).unwrap_err();
    assert_eq!(refusal.to_string(), "rate_limited: minute limit: 2 hits, at most 2", "K121");
    let tools = crate::kernel::quota::Amounts { tool_calls: 1, ..calls(0) };
    rig.say(&ann, reserve("p", "t", tools)).unwrap();
    rig.say(&ann, record("p", calls(1))).unwrap();
    rig.say(&ann, settle("p", "r1", calls(1))).unwrap();
    let [_, minute, ..] = rig.kernel.state().rates().usage(
        rig.now,
        &RateKey::Process { pid: pid("p") },
        &RateConfig::UNLIMITED,
    );
    assert_eq!(minute.current, 2, "only reservations of calls count");
    rig.now = Time::from_millis(refusal.retry_at.unwrap() - 1);
    assert!(rig.say(&ann, reserve("p", "r3", calls(1))).is_err());
    rig.now = Time::from_millis(refusal.retry_at.unwrap());
    assert!(rig.say(&ann, reserve("p", "r3", calls(1))).is_ok(), "K134");
}

#[test]
fn a_process_without_rates_has_no_key_and_one_that_ends_has_none_left() {
    let mut rig = limited_process(&[(QuotaField::RateLimitBurst, 5)]);
    let ann = user("ann");
    rig.ready(&ann, submit("free"));
    rig.say(&ann, reserve("free", "r", calls(1))).unwrap();
    assert!(rig.kernel.state().rates().keys().is_empty());
    rig.say(&ann, reserve("p", "r", calls(1))).unwrap();
    assert_eq!(rig.kernel.state().rates().keys().len(), 1);
    let (pid, message) = (pid("p"), String::new());
    rig.say(&ann, CommandBody::Terminate { pid, message, force: true }).unwrap();
    assert!(rig.kernel.state().rates().keys().is_empty(), "K447");
}

#[test]
fn a_rate_of_zero_never_allows_and_raising_it_wakes_who_waits() {
    let mut rig = limited_process(&[(QuotaField::RateLimitRph, 0)]);
    let (ann, op) = (user("ann"), operator());
    let refusal = rig.say(&ann, reserve("p", "r", calls(1))).unwrap_err();
    assert_eq!((refusal.code.as_str(), refusal.retry_at), ("rate_limited", None), "K134");
    let to = ProcessState::Running;
    let reason = String::new();
    rig.say(&ann, CommandBody::TransitionState { pid: pid("p"), to, reason }).unwrap();
    let (to, reason) = (ProcessState::Blocked, "rate".to_owned());
    rig.say(&ann, CommandBody::TransitionState { pid: pid("p"), to, reason }).unwrap();
    let quota = limits(&[(QuotaField::RateLimitRph, 1)]);
    let adjust = CommandBody::AdjustQuota { pid: pid("p"), quota };
    let mut manual = rig.clone();
    manual.say(&op, adjust.clone()).unwrap();
    assert_eq!(manual.state("p"), ProcessState::Blocked, "it waits for something else");
    block_by_rate(&mut rig);
    rig.say(&op, adjust).unwrap();
    assert_eq!(rig.state("p"), ProcessState::Ready, "K121");
}

/// K121: until the exact time, however the limits change meanwhile.
#[test]
fn a_change_of_any_rate_makes_the_time_to_wait_be_found_again() {
    let quota = limits(&[(QuotaField::RateLimitRpm, 1), (QuotaField::RateLimitRph, 1)]);
    let mut desk = Desk::with(linear(), Submit { quota, ..submit("p") });
    desk.poll();
    let waits = desk.succeed("draft", "{}");
    assert!(waits.starts_with("Wait Rate"), "{waits}");
    let until = |desk: &Desk| desk.rig.process("p").block.clone().unwrap().until.unwrap();
    let (hour, now) = (until(&desk), desk.rig.now);
    desk.rig.pass(10_000);
    let quota = limits(&[(QuotaField::RateLimitRph, 1_000)]);
    desk.rig.say(&operator(), CommandBody::AdjustQuota { pid: pid("p"), quota }).unwrap();
    assert!(desk.poll().starts_with("Wait Rate"), "the minute is still full");
    assert!(until(&desk) < now.plus(120_000), "{:?}, not {hour:?}", until(&desk));
}

/// Blocks the process by its rate for ever, as an issue does that has no time to wait for.
fn block_by_rate(rig: &mut Rig) {
    let mut event = rig.events.last().unwrap().clone();
    let crate::kernel::event::Body::Process {
        event: crate::kernel::event::ProcessEvent::StateChanged { block, .. },
    } = &mut event.body
    else {
        panic!("the last event blocks the process");
    };
    *block = Some(Block { reason: BlockReason::Rate, text: "rate".into(), until: None });
    rig.kernel.apply(&event);
}
