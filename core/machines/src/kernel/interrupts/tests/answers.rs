//! Goal: who answers, with what, and once (K155 – K159, K173).

use crate::kernel::CommandBody;
use crate::kernel::interrupts::interrupt::{Assignee, NewInterrupt, Response};
use crate::kernel::interrupts::rig::{
    HOUR, approved, ask, cancel, decides, modifies, new, resolve, says, text, to_user,
};
use crate::kernel::json::strategies::json;
use crate::kernel::names::{
    InterruptKind, InterruptStatus, ProcessState, ReviewDecision, TerminalReason,
};
use crate::kernel::principal::Role;
use crate::kernel::rig::{Rig, operator, pid, submit, told, user, worker};

/// K155: the first valid answer wins; a repeat of it answers as it did.
#[test]
fn an_interrupt_is_answered_once() {
    let mut rig = Rig::new();
    rig.running("a");
    let id = rig.ask("a", new(InterruptKind::Confirmation));
    let alice = user("alice");
    assert_eq!(told(rig.answer(&alice, &id, approved(true))), "2 events");
    assert_eq!(told(rig.answer(&alice, &id, approved(true))), "0 events");
    let refused = format!("interrupt_not_pending: interrupt {id} is resolved");
    assert_eq!(told(rig.answer(&alice, &id, approved(false))), refused);
    assert_eq!(told(rig.answer(&operator(), &id, approved(true))), refused, "somebody else");
    assert_eq!(told(rig.say(&alice, cancel(&id))), refused);
    let answer = rig.interrupt(&id).answer.clone().unwrap();
    assert_eq!((answer.by, answer.received_at), (alice.user, rig.now));

    let id = rig.ask("a", new(InterruptKind::Confirmation));
    rig.say(&operator(), cancel(&id)).unwrap();
    let refused = format!("interrupt_not_pending: interrupt {id} is cancelled");
    assert_eq!(told(rig.answer(&operator(), &id, approved(true))), refused);
}

/// K155, K370: owner, assignee and operator; nobody else, the holder included.
#[test]
fn only_whom_it_is_for_answers() {
    let mut rig = Rig::new();
    rig.running("a");
    let refused =
        |id| format!("permission_denied: interrupt {id} is not for the caller to see or answer");
    let id = rig.ask("a", new(InterruptKind::Checkpoint));
    for stranger in [user("bob"), worker("w")] {
        assert_eq!(told(rig.answer(&stranger, &id, says("x"))), refused(&id));
        assert_eq!(told(rig.say(&stranger, cancel(&id))), refused(&id));
    }
    rig.answer(&operator(), &id, says("x")).unwrap();

    let assigned = NewInterrupt { assignee: to_user("bob"), ..new(InterruptKind::Checkpoint) };
    let id = rig.ask("a", assigned);
    assert_eq!(told(rig.say(&user("bob"), cancel(&id))), refused(&id), "owner and operator do");
    rig.answer(&user("bob"), &id, says("x")).unwrap();

    let workers = Some(Assignee::Role { role: Role::Worker });
    let id = rig.ask("a", NewInterrupt { assignee: workers, ..new(InterruptKind::Checkpoint) });
    assert_eq!(told(rig.answer(&user("bob"), &id, says("x"))), refused(&id));
    rig.answer(&worker("v"), &id, says("x")).unwrap();

    let gone = crate::kernel::ids::InterruptId::parse("id", "int_x").unwrap();
    let unknown = "interrupt_not_found: interrupt not found: int_x";
    assert_eq!(told(rig.answer(&user("alice"), &gone, says("x"))), unknown);
    assert_eq!(told(rig.say(&user("alice"), cancel(&gone))), unknown);
}

#[test]
fn an_assignee_is_a_user_or_a_role() {
    let operators = Assignee::parse("assignee", "role:operator");
    assert_eq!(operators, Ok(Assignee::OPERATORS));
    assert_eq!(Assignee::parse("assignee", "bob").ok(), to_user("bob"));
    let refused = Assignee::parse("assignee", "role:king").unwrap_err().to_string();
    assert_eq!(refused, "bad_value: assignee: no such role");
    assert!(Assignee::parse("assignee", "").is_err());
}

/// K150, K156, K410: each kind needs its part, and has no other.
#[test]
fn an_answer_fits_its_kind() {
    let mut rig = Rig::new();
    rig.running("a");
    let none = Response::default;
    let data = || Response { data: Some(json("{}")), ..none() };
    let modify = || decides(ReviewDecision::Modify);
    let table = [
        (InterruptKind::Clarification, none(), "text is required for a clarification"),
        (InterruptKind::Clarification, says(""), "text is required for a clarification"),
        (InterruptKind::Confirmation, none(), "approved is required for a confirmation"),
        (InterruptKind::Confirmation, data(), "approved is required for a confirmation"),
        (InterruptKind::Confirmation, says("yes"), "text does not belong to a confirmation"),
        (InterruptKind::AgentReview, none(), "decision is required for an agent_review"),
        (InterruptKind::AgentReview, modify(), "data is required for an agent_review"),
        (InterruptKind::AgentReview, approved(true), "approved does not belong to an agent_review"),
        (InterruptKind::Checkpoint, approved(true), "approved does not belong to a checkpoint"),
        (InterruptKind::Timeout, modify(), "decision does not belong to a timeout"),
    ];
    for (kind, response, refused) in table {
        let id = rig.ask("a", new(kind));
        let refused = format!("response_invalid: {refused}");
        assert_eq!(told(rig.answer(&user("alice"), &id, response)), refused);
        assert_eq!(rig.interrupt(&id).status, InterruptStatus::Pending);
        rig.say(&user("alice"), cancel(&id)).unwrap();
    }
    let approve_otherwise = Response { data: Some(json("{}")), ..decides(ReviewDecision::Approve) };
    let id = rig.ask("a", new(InterruptKind::AgentReview));
    let refused = "response_invalid: data does not belong to an agent_review";
    assert_eq!(told(rig.answer(&user("alice"), &id, approve_otherwise)), refused);
    let list = modifies("[]");
    let refused = "bad_value: data: expected an object, got array";
    assert_eq!(told(rig.answer(&user("alice"), &id, list)), refused);
    let hash = Response { target_hash: Some([0; 32]), ..decides(ReviewDecision::Reject) };
    let refused = format!("response_invalid: target_hash: interrupt {id} has no target");
    assert_eq!(told(rig.answer(&user("alice"), &id, hash)), refused);
    let commented = Response { text: text("fine"), ..decides(ReviewDecision::Approve) };
    assert_eq!(told(rig.answer(&user("alice"), &id, commented)), "1 events");
}

/// K150: where no answer is needed, nothing is one.
#[test]
fn what_needs_no_answer_takes_none() {
    let mut rig = Rig::new();
    rig.running("a");
    let quiet = [
        InterruptKind::Checkpoint,
        InterruptKind::ResourceExhausted,
        InterruptKind::Timeout,
        InterruptKind::SystemError,
    ];
    for kind in quiet {
        let id = rig.ask("a", new(kind));
        rig.answer(&user("alice"), &id, Response::default()).unwrap();
        assert_eq!(rig.state("a"), ProcessState::Ready);
        rig.claim("a");
    }
}

/// K156, K158, K166: without a session a denial wakes the process, whose owner reads the answer.
#[test]
fn an_explicit_denial_wakes_a_process_without_a_session() {
    let mut rig = Rig::new();
    rig.running("a");
    let reject = decides(ReviewDecision::Reject);
    for (kind, no) in
        [(InterruptKind::Confirmation, approved(false)), (InterruptKind::AgentReview, reject)]
    {
        let id = rig.ask("a", new(kind));
        rig.answer(&user("alice"), &id, no).unwrap();
        assert_eq!(rig.state("a"), ProcessState::Ready);
        assert_eq!(rig.approval(&id), None);
        rig.claim("a");
        let id = rig.ask("a", new(kind));
        rig.say(&user("alice"), cancel(&id)).unwrap();
        assert_eq!(rig.state("a"), ProcessState::Ready);
        assert_eq!(rig.interrupt(&id).cancel_reason.as_deref(), Some("never mind"));
        rig.claim("a");
    }
    let id = rig.ask("a", new(InterruptKind::Clarification));
    let long = CommandBody::CancelInterrupt { id, reason: "x".repeat(16_385) };
    let refused = "too_long: reason: 16385 bytes, at most 16384";
    assert_eq!(told(rig.say(&user("alice"), long)), refused);
}

/// K159: a process that waits for an event as well wakes with the answer.
#[test]
fn an_answer_wakes_who_waits_for_an_event_too() {
    let mut rig = Rig::new();
    rig.running("a");
    let reason = "a letter".to_owned();
    let wait = CommandBody::TransitionState { pid: pid("a"), to: ProcessState::Waiting, reason };
    rig.say(&user("alice"), wait).unwrap();
    let id = rig.ask("a", new(InterruptKind::Checkpoint));
    rig.answer(&user("alice"), &id, says("x")).unwrap();
    assert_eq!(rig.state("a"), ProcessState::Ready);
    assert_eq!(rig.process("a").wait, None);
}

/// K82, K173: the end of a process takes back what it asked, and says why.
#[test]
fn what_ends_asks_no_more() {
    let mut rig = Rig::new();
    rig.running("a");
    let asked = [InterruptKind::Confirmation, InterruptKind::Clarification];
    let ids = asked.map(|kind| rig.ask("a", new(kind)));
    let before = rig.events.len();
    let end = CommandBody::Terminate { pid: pid("a"), message: String::new(), force: false };
    rig.say(&user("alice"), end).unwrap();
    let expected = ["interrupt.cancelled", "interrupt.cancelled", "process.terminated"];
    assert_eq!(rig.kinds(before), expected);
    for id in &ids {
        assert_eq!(rig.interrupt(id).cancel_reason.as_deref(), Some("user_cancelled"));
    }
    rig.pass(10);
    let refused = format!("interrupt_not_pending: interrupt {} is cancelled", ids[0]);
    assert_eq!(told(rig.answer(&user("alice"), &ids[0], approved(true))), refused);

    // So do its descendants.
    rig.running("b");
    let child = crate::kernel::lifecycle::Submit { parent: Some(pid("b")), ..submit("c") };
    rig.submitted(child);
    let id = rig.ask("c", new(InterruptKind::Confirmation));
    let end = CommandBody::Terminate { pid: pid("b"), message: String::new(), force: true };
    rig.say(&user("alice"), end).unwrap();
    assert_eq!(rig.interrupt(&id).cancel_reason.as_deref(), Some("parent_terminated"));
    assert_eq!(rig.process("c").terminal_reason, Some(TerminalReason::ParentTerminated));
}

/// K62: a process that was held when it ended is in no ready set.
#[test]
fn what_was_held_and_ended_never_runs() {
    let mut rig = Rig::new();
    rig.ready(&user("alice"), submit("a"));
    rig.ask("a", new(InterruptKind::Confirmation));
    rig.pass(HOUR);
    assert_eq!(rig.state("a"), ProcessState::Terminated);
    let none = "no_runnable: no process waits to be run";
    assert_eq!(told(rig.say(&worker("w"), CommandBody::NextRunnable)), none);
    let late = resolve(&rig.kernel.state().asked.of_process(&pid("a"))[0], approved(true));
    assert!(told(rig.say(&user("alice"), late)).starts_with("interrupt_expired"));
    let asked = ask("a", new(InterruptKind::Checkpoint));
    assert_eq!(told(rig.say(&user("alice"), asked)), "process_terminal: process a has ended");
}
