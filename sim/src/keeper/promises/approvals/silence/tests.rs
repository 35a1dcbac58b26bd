use machines::kernel::ids::UserId;
use machines::kernel::interrupts::interrupt::NewInterrupt;
use machines::kernel::interrupts::target::TargetHash;
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{ExpiryPolicy, OnExhausted, Priority};
use machines::kernel::principal::{Principal, Role};
use machines::kernel::process::Metadata;
use machines::kernel::{At, Command, CommandBody, Kernel, Time};

use super::*;
use crate::keeper::kernel::kernel_config;

fn user() -> UserId {
    UserId::parse("user", "ann").expect("a name is an id")
}

/// A process without a session, and two questions that ask leave, which nobody has answered.
fn asked() -> (Silence, Vec<Event>, [InterruptId; 2]) {
    let mut kernel = Kernel::new(kernel_config()).expect("the configuration is legal");
    let pid = ProcessId::parse("pid", "p").expect("a name is an id");
    let submit = CommandBody::Submit(Box::new(Submit {
        pid: Some(pid.clone()),
        request: None,
        user: None,
        session: None,
        priority: Priority::Normal,
        quota: Vec::new(),
        parent: None,
        on_exhausted: OnExhausted::Terminate,
        driven: false,
        metadata: Metadata::new(),
    }));
    let question = || {
        let interrupt = Box::new(NewInterrupt::new(InterruptKind::Confirmation));
        CommandBody::CreateInterrupt { pid: pid.clone(), interrupt }
    };
    let mut events = Vec::new();
    for (nonce, body) in (0..).zip([submit, question(), question()]) {
        let by = Principal::new(user(), &[Role::User]);
        let at = At { now: Time::from_millis(1), nonce: [nonce; 16] };
        let command = Command { by, worker: None, rate: None, body };
        events.extend(kernel.execute(at, &command).expect("it may be asked"));
    }
    let raised = events.iter().filter_map(|event| match &event.body {
        Body::Interrupt { event: InterruptEvent::Raised { interrupt } } => Some(&interrupt.id),
        _ => None,
    });
    let ids: Vec<InterruptId> = raised.cloned().collect();
    let mut silence = Silence::default();
    for event in &events {
        silence.event(event).expect("nothing is wrong yet");
    }
    (silence, events, ids.try_into().expect("there are two"))
}

/// An event about the process of another.
fn about(of: &[Event], body: Body) -> Event {
    Event { body, ..of.last().expect("there are some").clone() }
}

fn resolved(id: &InterruptId, approved: bool, accepted: bool) -> Body {
    let response = Box::new(Response { approved: Some(approved), ..Response::default() });
    let (id, by) = (id.clone(), user());
    Body::Interrupt { event: InterruptEvent::Resolved { id, response, by, accepted } }
}

/// K427: of two questions that end in one decision, neither is forgotten: nobody has answered the
/// first, and the process goes on with the no to the second.
#[test]
fn what_ends_in_silence_is_not_forgotten_for_a_no() {
    let (mut silence, events, [first, second]) = asked();
    let (id, policy) = (first.clone(), ExpiryPolicy::Continue);
    let expired = InterruptEvent::Expired { id, policy, escalated_to: None };
    silence.event(&about(&events, Body::Interrupt { event: expired })).expect("not yet");
    silence.event(&about(&events, resolved(&second, false, false))).expect("not yet");
    let found = silence.decided().expect_err("it goes on");
    assert_eq!(found, format!("p goes on, though nobody said yes to {first}"));
}

/// K166: without a session, one who is told no goes on.
#[test]
fn a_no_alone_is_fine() {
    let (mut silence, events, [_, second]) = asked();
    silence.event(&about(&events, resolved(&second, false, false))).expect("not yet");
    assert_eq!(silence.decided(), Ok(true));
}

/// K427: what was said counts, and not what it was taken for.
#[test]
fn a_no_that_is_taken_for_a_yes_gives_no_leave() {
    for approved in [true, false] {
        let (mut silence, events, [first, _]) = asked();
        silence.event(&about(&events, resolved(&first, approved, true))).expect("not yet");
        let (interrupt, until) = (first, Time::from_millis(9));
        let hash: TargetHash = [0; 32];
        let granted = ApprovalEvent::Granted { interrupt, hash, until };
        let seen = silence.event(&about(&events, Body::Approval { event: granted }));
        assert_eq!(seen.is_ok(), approved, "{seen:?}");
    }
}
