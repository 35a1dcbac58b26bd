//! Goal: what happens when nobody answers (K154, K160 – K164, K10).

use crate::kernel::interrupts::interrupt::{Assignee, NewInterrupt};
use crate::kernel::interrupts::rig::{HOUR, MINUTE, approved, decides, new, raised, says, to_user};
use crate::kernel::names::{
    ExpiryPolicy, InterruptKind, InterruptStatus, ProcessState, ReviewDecision, TerminalReason,
};
use crate::kernel::rig::{Rig, operator, told, user};

fn on(kind: InterruptKind, policy: ExpiryPolicy) -> NewInterrupt {
    NewInterrupt { on_expiry: Some(policy), ..new(kind) }
}

/// K155, K410: at the millisecond of expiry it has expired; one before it has not.
#[test]
fn an_answer_at_the_millisecond_of_expiry_is_too_late() {
    for (early, late) in [(1, false), (0, true)] {
        let mut rig = Rig::new();
        rig.running("a");
        let id = rig.ask("a", new(InterruptKind::Confirmation));
        let due = rig.now.plus(HOUR);
        rig.now = rig.now.plus(HOUR - early);
        let answer = told(rig.answer(&user("alice"), &id, approved(true)));
        let refused = format!("interrupt_expired: interrupt {id} expired at {}", due.as_millis());
        assert_eq!(answer, if late { refused } else { "2 events".to_owned() });
    }
}

/// K161, K162: without a session silence ends the process, with or without polls.
#[test]
fn silence_ends_a_process_that_asked_for_leave() {
    let ends = [
        (on(InterruptKind::Confirmation, ExpiryPolicy::Deny), TerminalReason::InterruptDenied),
        (on(InterruptKind::AgentReview, ExpiryPolicy::Deny), TerminalReason::InterruptDenied),
        (on(InterruptKind::Confirmation, ExpiryPolicy::Fail), TerminalReason::InterruptExpired),
        (on(InterruptKind::Clarification, ExpiryPolicy::Fail), TerminalReason::InterruptExpired),
        (on(InterruptKind::Clarification, ExpiryPolicy::Deny), TerminalReason::InterruptDenied),
    ];
    for (asked, reason) in ends {
        let (kind, policy) = (asked.kind, asked.on_expiry.unwrap());
        let mut rig = Rig::new();
        rig.running("a");
        let id = rig.ask("a", asked);
        let other = rig.ask("a", new(InterruptKind::Checkpoint));
        let before = rig.events.len();
        let ttl = rig.interrupt(&id).expires_at.unwrap().since(rig.now);
        rig.pass(ttl);
        assert_eq!(rig.process("a").terminal_reason, Some(reason), "{kind:?} {policy:?}");
        let message = format!("{} {id} expired unanswered", kind.name());
        assert_eq!(rig.process("a").termination_message.as_deref(), Some(&*message));
        let kinds = ["interrupt.expired", "interrupt.cancelled", "process.terminated"];
        assert_eq!(rig.kinds(before), kinds);
        assert_eq!(rig.interrupt(&other).cancel_reason.as_deref(), Some(reason.name()));
    }
}

/// K163: Continue wakes without an answer.
#[test]
fn silence_may_let_a_process_go_on() {
    let mut rig = Rig::new();
    rig.running("a");
    let id = rig.ask("a", on(InterruptKind::Clarification, ExpiryPolicy::Continue));
    rig.pass(24 * HOUR);
    assert_eq!(rig.state("a"), ProcessState::Ready);
    let interrupt = rig.interrupt(&id);
    assert_eq!((interrupt.status, &interrupt.answer), (InterruptStatus::Expired, &None));
    assert_eq!(interrupt.closed_at, interrupt.expires_at);
}

/// K154: a TTL without auto_expire is for people to read.
#[test]
fn what_does_not_expire_by_itself_is_answered_late() {
    let mut rig = Rig::new();
    rig.running("a");
    let patient = NewInterrupt {
        auto_expire: Some(false),
        ttl: Some(MINUTE),
        ..new(InterruptKind::Confirmation)
    };
    let id = rig.ask("a", patient);
    rig.pass(HOUR);
    assert_eq!(rig.interrupt(&id).status, InterruptStatus::Pending);
    assert_eq!(told(rig.answer(&user("alice"), &id, approved(true))), "2 events");
}

/// K164: another is asked the same, in the same decision; the process never wakes in between.
#[test]
fn an_escalation_asks_the_next_one() {
    let mut rig = Rig::new();
    rig.running("a");
    let asked = NewInterrupt {
        escalate_to: to_user("boss"),
        ttl: Some(10 * MINUTE),
        ..on(InterruptKind::AgentReview, ExpiryPolicy::Escalate)
    };
    let first = rig.ask("a", asked);
    let before = rig.events.len();
    rig.pass(10 * MINUTE);
    assert_eq!(rig.kinds(before), ["interrupt.raised", "interrupt.expired"]);
    assert_eq!(rig.state("a"), ProcessState::Waiting);
    let second = raised(&rig.events[before..]).pop().unwrap();
    let (old, again) = (rig.interrupt(&first).clone(), rig.interrupt(&second).clone());
    assert_eq!(old.status, InterruptStatus::Expired);
    assert_eq!((again.escalated_from, again.escalations), (Some(first), 1));
    assert_eq!((again.assignee, again.kind), (to_user("boss"), InterruptKind::AgentReview));
    assert_eq!(again.expires_at, Some(rig.now.plus(10 * MINUTE)));
    rig.answer(&user("boss"), &second, decides(ReviewDecision::Approve)).unwrap();
    assert_eq!(rig.state("a"), ProcessState::Ready);
}

/// K164: after so many, it is Deny for what asks leave, and Fail for the rest.
#[test]
fn an_escalation_that_nobody_answers_ends() {
    let ends = [
        (InterruptKind::Confirmation, HOUR, TerminalReason::InterruptDenied),
        (InterruptKind::AgentReview, HOUR / 2, TerminalReason::InterruptDenied),
        (InterruptKind::Clarification, 24 * HOUR, TerminalReason::InterruptExpired),
        (InterruptKind::SystemError, HOUR, TerminalReason::InterruptExpired),
    ];
    for (kind, ttl, reason) in ends {
        let mut rig = Rig::new();
        rig.running("a");
        rig.ask("a", on(kind, ExpiryPolicy::Escalate));
        rig.pass(ttl);
        let second = rig.process("a").interrupts.clone();
        assert_eq!(second.len(), 1);
        assert_eq!(rig.interrupt(&second[0]).assignee, Some(Assignee::OPERATORS), "by default");
        rig.pass(ttl - 1);
        assert_eq!(rig.state("a"), ProcessState::Waiting);
        rig.pass(1);
        assert_eq!(rig.process("a").terminal_reason, Some(reason), "{kind:?}");
    }
}

/// K62, K164: a held process that is Ready keeps its place outside the ready set meanwhile.
#[test]
fn an_escalation_holds_what_was_held() {
    let mut rig = Rig::new();
    rig.ready(&user("alice"), crate::kernel::rig::submit("a"));
    rig.ask("a", on(InterruptKind::Confirmation, ExpiryPolicy::Escalate));
    let ready = rig.kernel.state().ready.clone();
    rig.pass(HOUR);
    assert_eq!(rig.kernel.state().ready, ready, "not even for a moment");
    let id = rig.process("a").interrupts[0].clone();
    rig.answer(&operator(), &id, approved(true)).unwrap();
    rig.claim("a");
}

/// K10: what falls due together acts in the order of kinds: time is up before an answer is late.
#[test]
fn a_process_that_times_out_beside_its_question_has_timed_out() {
    use crate::kernel::lifecycle::Submit;
    use crate::kernel::quota::QuotaField;
    use crate::kernel::rig::{limits, submit};

    let mut rig = Rig::new();
    let quota = limits(&[(QuotaField::TimeoutMs, 10_000)]);
    rig.ready(&user("alice"), Submit { quota, ..submit("a") });
    rig.claim("a");
    let beside = NewInterrupt {
        blocking: Some(false),
        ttl: Some(10_000),
        ..new(InterruptKind::Clarification)
    };
    let id = rig.ask("a", beside);
    rig.pass(10_000);
    assert_eq!(rig.process("a").terminal_reason, Some(TerminalReason::TimeoutExceeded));
    assert_eq!(rig.interrupt(&id).status, InterruptStatus::Cancelled);
    assert!(told(rig.answer(&user("alice"), &id, says("x"))).contains("is cancelled"));
}
