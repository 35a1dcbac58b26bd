//! Goal: what may be asked, and what that does to the process (K150 – K154, K112, K118, K410).

use std::sync::Arc;

use crate::kernel::config::KernelConfig;
use crate::kernel::decision::{At, Decision};
use crate::kernel::expression::{FieldRef, Path};
use crate::kernel::ids::UserId;
use crate::kernel::interrupts::check::Exhausted;
use crate::kernel::interrupts::interrupt::{Assignee, NewInterrupt, NewTarget, Origin};
use crate::kernel::interrupts::rig::{
    HOUR, MINUTE, approved, ask, cancel, new, pay, resolve, says, text,
};
use crate::kernel::json::Json;
use crate::kernel::json::strategies::json;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::{
    ExpiryPolicy, InterruptKind, OnExhausted, ProcessState, TerminalReason,
};
use crate::kernel::quota::{Limit, QuotaField, Resource};
use crate::kernel::rig::{Rig, limits, operator, pid, submit, told, user, worker};
use crate::kernel::sessions::rig::{Desk, linear};
use crate::kernel::{Code, CommandBody};

fn to(name: &str, to: ProcessState) -> CommandBody {
    CommandBody::TransitionState { pid: pid(name), to, reason: "because".to_owned() }
}

/// K150: what is not told is as the table has it.
#[test]
fn a_kind_has_its_own_patience() {
    let mut rig = Rig::new();
    let table = [
        (InterruptKind::Clarification, Some(24 * HOUR), true, true, ExpiryPolicy::Fail),
        (InterruptKind::Confirmation, Some(HOUR), true, true, ExpiryPolicy::Deny),
        (InterruptKind::Checkpoint, None, false, false, ExpiryPolicy::Continue),
        (InterruptKind::ResourceExhausted, Some(5 * MINUTE), true, false, ExpiryPolicy::Fail),
        (InterruptKind::Timeout, Some(5 * MINUTE), true, false, ExpiryPolicy::Fail),
        (InterruptKind::SystemError, Some(HOUR), true, false, ExpiryPolicy::Fail),
        (InterruptKind::AgentReview, Some(30 * MINUTE), true, true, ExpiryPolicy::Deny),
    ];
    rig.running("a");
    for (kind, ttl, auto_expire, require_response, on_expiry) in table {
        let id = rig.ask("a", new(kind));
        let interrupt = rig.interrupt(&id);
        assert_eq!(interrupt.expires_at, ttl.map(|ttl| rig.now.plus(ttl)), "{kind:?}");
        assert_eq!(
            (interrupt.auto_expire, interrupt.require_response),
            (auto_expire, require_response)
        );
        assert_eq!((interrupt.on_expiry, interrupt.blocking), (on_expiry, true));
    }
}

/// K151, K410: what no setting may do is refused, and changes nothing.
#[test]
fn an_override_keeps_the_rules_of_its_kind() {
    let mut rig = Rig::new();
    rig.running("a");
    let mut refused = |new: NewInterrupt| told(rig.say(&user("alice"), ask("a", new)));
    for kind in InterruptKind::ALL {
        for policy in ExpiryPolicy::ALL.iter().filter(|policy| !policy.suits(*kind)) {
            let text = format!("{} cannot {} on expiry", kind.name(), policy.name());
            let asked = NewInterrupt { on_expiry: Some(*policy), ..new(*kind) };
            assert_eq!(refused(asked), format!("policy_not_allowed: {text}"));
        }
    }
    let beside = |kind| NewInterrupt { blocking: Some(false), ..new(kind) };
    let always = "bad_value: blocking: a confirmation always blocks";
    assert_eq!(refused(beside(InterruptKind::Confirmation)), always);
    let always = "bad_value: blocking: an agent_review always blocks";
    assert_eq!(refused(beside(InterruptKind::AgentReview)), always);
    let forever = NewInterrupt { auto_expire: Some(true), ..new(InterruptKind::Checkpoint) };
    assert_eq!(refused(forever), "bad_value: auto_expire needs ttl_ms");
    let never = NewInterrupt { ttl: Some(0), ..new(InterruptKind::Clarification) };
    assert_eq!(refused(never), "bad_value: ttl_ms: 0 is not in 1..=2592000000");
    let late = NewInterrupt { ttl: Some(2_592_000_001), ..new(InterruptKind::Clarification) };
    assert_eq!(refused(late), "too_large: ttl_ms: 2592000001, at most 2592000000");
}

/// K151: nor does configuration.
#[test]
fn no_configuration_lets_an_answer_to_a_confirmation_say_nothing() {
    let mut config = KernelConfig::new();
    config.interrupts[1].require_response = false;
    let refused = config.check().unwrap_err().to_string();
    assert_eq!(refused, "bad_value: confirmation: require_response cannot be turned off");
    let mut config = KernelConfig::new();
    config.interrupts[0].default_ttl = Some(0);
    assert_eq!(config.check().unwrap_err().code, Code::BadValue);
}

/// K152, K159: who runs waits at once, and is Ready in the decision that answers.
#[test]
fn a_running_process_waits_for_the_answer() {
    let mut rig = Rig::new();
    rig.running("a");
    let before = rig.events.len();
    let first = rig.ask("a", new(InterruptKind::Clarification));
    assert_eq!(rig.kinds(before), ["interrupt.raised", "process.state_changed"]);
    assert_eq!(rig.state("a"), ProcessState::Waiting);
    assert_eq!(rig.process("a").run_lease, None);
    let second = rig.ask("a", new(InterruptKind::Checkpoint));
    assert_eq!(rig.process("a").interrupts, [first.clone(), second.clone()]);
    let alice = user("alice");
    let refused = format!("interrupt_pending: interrupt {first} is pending");
    assert_eq!(told(rig.say(&alice, to("a", ProcessState::Ready))), refused, "K61");

    assert_eq!(told(rig.say(&alice, resolve(&first, says("blue")))), "1 events");
    assert_eq!(rig.state("a"), ProcessState::Waiting, "one more is pending");
    let before = rig.events.len();
    assert_eq!(told(rig.say(&alice, resolve(&second, says("on")))), "2 events");
    assert_eq!(rig.kinds(before), ["interrupt.resolved", "process.state_changed"]);
    assert_eq!(rig.state("a"), ProcessState::Ready);
    rig.claim("a");
}

/// K62: New, Ready and Blocked keep their state and do not run.
#[test]
fn a_process_that_does_not_run_is_held() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    rig.ready(&alice, submit("b"));
    let id = rig.ask("a", new(InterruptKind::Confirmation));
    assert_eq!(rig.state("a"), ProcessState::Ready);
    let refused = format!("interrupt_pending: interrupt {id} is pending");
    assert_eq!(told(rig.say(&alice, to("a", ProcessState::Running))), refused, "no way around");
    rig.claim("b");
    let none = "no_runnable: no process waits to be run";
    assert_eq!(told(rig.say(&worker("w"), CommandBody::NextRunnable)), none);
    rig.pass(5);
    rig.answer(&alice, &id, approved(true)).unwrap();
    assert_eq!(rig.process("a").ready_at, Some(rig.now));
    rig.claim("a");

    rig.submitted(submit("c"));
    let id = rig.ask("c", new(InterruptKind::Checkpoint));
    rig.say(&alice, CommandBody::Schedule { pid: pid("c") }).unwrap();
    assert_eq!(told(rig.say(&worker("w"), CommandBody::NextRunnable)), none);
    rig.answer(&alice, &id, says("")).unwrap();
    rig.claim("c");

    rig.say(&alice, to("c", ProcessState::Blocked)).unwrap();
    let id = rig.ask("c", new(InterruptKind::Checkpoint));
    rig.say(&alice, to("c", ProcessState::Ready)).unwrap();
    assert_eq!(told(rig.say(&worker("w"), CommandBody::NextRunnable)), none);
    rig.answer(&alice, &id, says("")).unwrap();
    rig.claim("c");
}

/// K152: a question beside the run holds nobody, however it ends.
#[test]
fn a_question_beside_the_run_only_takes_the_answer() {
    let mut rig = Rig::new();
    rig.running("a");
    let beside = |kind| NewInterrupt { blocking: Some(false), ..new(kind) };
    let answered = rig.ask("a", beside(InterruptKind::Clarification));
    let taken_back = rig.ask("a", beside(InterruptKind::SystemError));
    rig.ask("a", beside(InterruptKind::Timeout));
    assert_eq!(rig.state("a"), ProcessState::Running);
    assert_eq!(told(rig.answer(&user("alice"), &answered, says("blue"))), "1 events");
    assert_eq!(told(rig.say(&user("alice"), cancel(&taken_back))), "1 events");
    rig.say(&user("alice"), to("a", ProcessState::Blocked)).unwrap();
    rig.pass(5 * MINUTE);
    assert_eq!(rig.state("a"), ProcessState::Blocked, "its policy was Fail");
    assert_eq!(rig.kinds(rig.events.len() - 1), ["interrupt.expired"]);
    assert_eq!(rig.process("a").interrupts, []);
}

/// K152: a repeat with the same key is the same question, for the same process only.
#[test]
fn a_key_makes_asking_again_harmless() {
    let mut rig = Rig::new();
    rig.running("a");
    rig.running("b");
    let keyed = |kind| NewInterrupt { key: text("k"), ..new(kind) };
    let id = rig.ask("a", keyed(InterruptKind::Confirmation));
    let again = || ask("a", keyed(InterruptKind::Confirmation));
    assert_eq!(told(rig.say(&user("alice"), again())), "0 events");
    assert_ne!(rig.ask("b", keyed(InterruptKind::Confirmation)), id);
    rig.say(&user("alice"), cancel(&id)).unwrap();
    assert_eq!(told(rig.say(&user("alice"), again())), "0 events", "closed, and known");
    let foreign = "permission_denied: process a belongs to another user";
    assert_eq!(told(rig.say(&user("bob"), again())), foreign);
}

/// K25, K410: 16 pending, and so many over the life of a process.
#[test]
fn a_process_asks_only_so_much() {
    let mut rig = Rig::new();
    rig.running("a");
    for _ in 0..16 {
        rig.ask("a", new(InterruptKind::Checkpoint));
    }
    let asked = || ask("a", new(InterruptKind::Checkpoint));
    let refused = "too_many: pending interrupts of a: at most 16";
    assert_eq!(told(rig.say(&user("alice"), asked())), refused);

    let mut config = KernelConfig::new();
    config.limits.interrupts = 2;
    let mut rig = Rig::with(config);
    rig.running("a");
    for _ in 0..2 {
        let id = rig.ask("a", new(InterruptKind::Checkpoint));
        rig.say(&user("alice"), cancel(&id)).unwrap();
    }
    let refused = "too_many: interrupts of a over its life: at most 2";
    assert_eq!(told(rig.say(&user("alice"), asked())), refused);
}

/// K25, K168, K410: texts and payloads keep their limits.
#[test]
fn a_malformed_question_is_refused() {
    let mut rig = Rig::new();
    rig.running("a");
    let plain = || new(InterruptKind::Clarification);
    let mut refused = |new: NewInterrupt| {
        let told = told(rig.say(&user("alice"), ask("a", new)));
        told.chars().take(70).collect::<String>()
    };
    let long = Some(Arc::from("x".repeat(16_385)));
    let asked = NewInterrupt { question: long, ..plain() };
    assert_eq!(refused(asked), "too_long: question: 16385 bytes, at most 16384");
    let asked = NewInterrupt { message: text("seven: \0"), ..plain() };
    assert_eq!(refused(asked), "bad_value: message: NUL at byte 7");
    let asked = NewInterrupt { data: Some(json("[1,2]")), ..plain() };
    assert_eq!(refused(asked), "bad_value: data: expected an object, got array");
    let deep = (0..65).fold(Json::NULL, |inner, _| Json::object([("a", inner)]));
    let asked = NewInterrupt { data: Some(deep), ..plain() };
    assert_eq!(refused(asked), "too_deep: data: depth 65, at most 64");
    let wide = Json::object([("a", Json::list(vec![Json::NULL; 1_025]))]);
    let asked = NewInterrupt { data: Some(wide), ..plain() };
    assert_eq!(refused(asked), "too_many: data: 1025 entries, at most 1024");
    let large = Json::object([("a", Json::from("x".repeat(1_048_576)))]);
    let asked = NewInterrupt { data: Some(large), ..plain() };
    assert_eq!(refused(asked), "too_large: data: 1048584 bytes, at most 1048576");
    let asked = NewInterrupt { key: text(""), ..plain() };
    assert_eq!(refused(asked), "required: key is required");
    let asked = NewInterrupt { key: Some(Arc::from("k".repeat(129))), ..plain() };
    assert_eq!(refused(asked), "bad_id: key: 129 bytes, at most 128");
    let target = |change: fn(&mut NewTarget)| {
        let mut target = pay().unwrap();
        change(&mut target);
        NewInterrupt { target: Some(target), ..new(InterruptKind::Confirmation) }
    };
    let empty = target(|target| target.action = Arc::from(""));
    assert_eq!(refused(empty), "required: target.action is required");
    let bound = target(|target| {
        target.binds.push(FieldRef::Meta(Path::parse("a").unwrap()));
    });
    assert_eq!(refused(bound), "bad_value: target.binds: only with a session", "K168");
    let long = UserId::parse("user", &"x".repeat(129)).unwrap();
    let person = || Some(Assignee::User { user: long.clone() });
    let asked = NewInterrupt { assignee: person(), ..plain() };
    assert_eq!(refused(asked), "bad_id: assignee: 129 bytes, at most 128");
    let asked = NewInterrupt { escalate_to: person(), ..plain() };
    assert_eq!(refused(asked), "bad_id: escalate_to: 129 bytes, at most 128");
}

/// K25, K168: the keys of what is bound are a text.
#[test]
fn the_keys_of_a_bound_field_have_a_length() {
    let mut desk = Desk::new(linear());
    desk.poll();
    let mut target = pay().unwrap();
    target.binds.push(FieldRef::Meta(Path::parse(&"k".repeat(16_385)).unwrap()));
    let new = NewInterrupt { target: Some(target), ..new(InterruptKind::Confirmation) };
    let refused = "too_long: target.binds[0]: keys of 16385 bytes, at most 16384";
    assert_eq!(told(desk.say(ask("p", new))), refused);
}

/// K410: of a process that is over, unknown or somebody else's nothing is asked.
#[test]
fn nothing_is_asked_of_a_process_that_cannot_wait() {
    let mut rig = Rig::new();
    rig.running("a");
    let asked = |name| ask(name, new(InterruptKind::Clarification));
    let unknown = "process_not_found: process not found: x";
    assert_eq!(told(rig.say(&user("alice"), asked("x"))), unknown);
    let foreign = "permission_denied: process a belongs to another user";
    assert_eq!(told(rig.say(&user("bob"), asked("a"))), foreign);
    rig.say(&user("alice"), to("a", ProcessState::Terminated)).unwrap();
    let over = "process_terminal: process a has ended";
    assert_eq!(told(rig.say(&user("alice"), asked("a"))), over);
}

/// K370: the holder may ask, and its run lease goes on if the process does (K78).
#[test]
fn the_holder_asks() {
    let mut rig = Rig::new();
    rig.running("a");
    rig.pass(31_000);
    let beside = NewInterrupt { blocking: Some(false), ..new(InterruptKind::Clarification) };
    let before = rig.events.len();
    rig.say(&worker("w"), ask("a", beside)).unwrap();
    assert_eq!(rig.kinds(before), ["process.lease_renewed", "interrupt.raised"]);
}

fn quick(on_exhausted: OnExhausted) -> Submit {
    let quota = limits(&[(QuotaField::TimeoutMs, 10_000)]);
    Submit { quota, on_exhausted, ..submit("a") }
}

/// K112: in place of ending, a person is asked; with more time it goes on, without it ends.
#[test]
fn a_process_asks_for_more_time() {
    for (raised, ended) in [(true, None), (false, Some(TerminalReason::TimeoutExceeded))] {
        let mut rig = Rig::new();
        rig.ready(&user("alice"), quick(OnExhausted::Interrupt));
        rig.claim("a");
        rig.pass(10_000);
        assert_eq!(rig.state("a"), ProcessState::Waiting);
        let id = rig.process("a").interrupts[0].clone();
        let interrupt = rig.interrupt(&id);
        assert_eq!((interrupt.kind, &interrupt.origin), (InterruptKind::Timeout, &Origin::Kernel));
        let data = r#"{"held":0,"limit":10000,"resource":"elapsed_ms","used":10000}"#;
        assert_eq!(interrupt.data.as_ref().unwrap().to_string(), data);
        let message = "timeout_exceeded: 10000 used, 0 held, limit 10000";
        assert_eq!(interrupt.message.as_deref(), Some(message));
        if raised {
            let quota = limits(&[(QuotaField::TimeoutMs, 20_000)]);
            rig.say(&operator(), CommandBody::AdjustQuota { pid: pid("a"), quota }).unwrap();
        }
        rig.answer(&user("alice"), &id, says("go on")).unwrap();
        assert_eq!(rig.process("a").terminal_reason, ended);
        if raised {
            rig.claim("a");
            rig.pass(9_999);
            assert_eq!(rig.state("a"), ProcessState::Running);
            rig.pass(1);
            assert_eq!(rig.state("a"), ProcessState::Waiting, "and asks again");
        }
    }
}

/// K112, K162: nobody answers, or nobody may be asked.
#[test]
fn a_process_that_gets_no_time_ends() {
    let mut rig = Rig::new();
    rig.ready(&user("alice"), quick(OnExhausted::Interrupt));
    rig.claim("a");
    rig.pass(10_000 + 5 * MINUTE);
    assert_eq!(rig.process("a").terminal_reason, Some(TerminalReason::InterruptExpired));

    let mut rig = Rig::new();
    rig.ready(&user("alice"), quick(OnExhausted::Interrupt));
    rig.claim("a");
    for _ in 0..16 {
        let beside = NewInterrupt { blocking: Some(false), ..new(InterruptKind::Clarification) };
        rig.ask("a", beside);
    }
    rig.pass(10_000);
    let over = Some(TerminalReason::TimeoutExceeded);
    assert_eq!(rig.process("a").terminal_reason, over, "no room to ask");
}

/// K118: a budget that ran out asks with its numbers.
#[test]
fn a_budget_that_ran_out_is_asked_for() {
    let mut rig = Rig::new();
    rig.running("a");
    let at = At { now: rig.now, nonce: [7; 16] };
    let mut state = rig.kernel.state().clone();
    let mut decision = Decision::new(&mut state, at, worker("w"), None);
    let limit = Limit::at_most(10);
    let exhausted = Exhausted { resource: Resource::LlmCalls, used: 9, held: 1, limit };
    let id = decision.ask_for_more(&pid("a"), exhausted, Origin::Kernel).unwrap();
    let interrupt = state.interrupt(&id).unwrap();
    assert_eq!(interrupt.kind, InterruptKind::ResourceExhausted);
    let data = r#"{"held":1,"limit":10,"resource":"llm_calls","used":9}"#;
    assert_eq!(interrupt.data.as_ref().unwrap().to_string(), data);
    let message = "max_llm_calls_exceeded: 9 used, 1 held, limit 10";
    assert_eq!(interrupt.message.as_deref(), Some(message));
    assert_eq!(state.process(&pid("a")).unwrap().state, ProcessState::Waiting);
}
