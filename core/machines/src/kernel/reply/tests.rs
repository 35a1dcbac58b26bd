//! Goal: replies by examples (K1, K5, K6).

use super::Done;
use crate::kernel::CommandBody;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::ids::EnvelopeId;
use crate::kernel::names::ProcessState;
use crate::kernel::query::budget::Remaining;
use crate::kernel::rig::{Rig, calls, pid, record, reserve, rsv, settle, submit, user, worker};

/// K1, K6: the reply to a repeat is that of the first time, from the state.
#[test]
fn a_repeat_is_answered_as_the_first_time() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let envelope = || NewEnvelope {
        id: Some(EnvelopeId::parse("id", "e").unwrap()),
        ..NewEnvelope::default()
    };
    let bodies = || {
        [
            CommandBody::Submit(Box::new(submit("a"))),
            CommandBody::Schedule { pid: pid("a") },
            reserve("a", "r", calls(3)),
            settle("a", "r", calls(2)),
            CommandBody::CreateEnvelope(Box::new(envelope())),
        ]
    };
    for (first, repeat) in bodies().into_iter().zip(bodies()) {
        let (events, reply) = rig.answered(&alice, first).unwrap();
        assert_eq!(reply.as_of, rig.kernel.state().counters.events, "K5");
        assert!(!events.is_empty());
        let (events, again) = rig.answered(&alice, repeat).unwrap();
        assert_eq!((events, again), (Vec::new(), reply));
    }
}

/// K8: what the kernel made up is told.
#[test]
fn ids_that_were_made_are_told() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let submit = crate::kernel::lifecycle::Submit { pid: None, ..submit("a") };
    let (_, reply) = rig.answered(&alice, CommandBody::Submit(Box::new(submit))).unwrap();
    let Done::Process(process) = reply.done else { panic!("{reply:?}") };
    assert!(process.pid.as_str().starts_with("prc_"));
    assert_eq!((process.state, &process.user_id), (ProcessState::New, &alice.user));

    let new = CommandBody::CreateEnvelope(Box::default());
    let (_, reply) = rig.answered(&alice, new).unwrap();
    let Done::Envelope { envelope, advanced: false } = reply.done else { panic!("{reply:?}") };
    let id = envelope.id.clone();
    let (_, reply) = rig.answered(&alice, CommandBody::CloneEnvelope { id: id.clone() }).unwrap();
    let Done::Envelope { envelope, .. } = reply.done else { panic!("{reply:?}") };
    assert_eq!(envelope.envelope.cloned_from, Some(id));

    rig.answered(&alice, CommandBody::Schedule { pid: process.pid.clone() }).unwrap();
    let (_, reply) = rig.answered(&worker("w"), CommandBody::NextRunnable).unwrap();
    let Done::Process(claimed) = reply.done else { panic!("{reply:?}") };
    assert_eq!((&claimed.pid, claimed.state), (&process.pid, ProcessState::Running));
    let lease = claimed.run_lease.unwrap();
    assert_eq!((lease.holder.user.as_str(), lease.until), ("w", rig.now.plus(60_000)));
}

/// K102, K105, K109: budgets are told with what is left of them.
#[test]
fn what_is_left_of_a_budget_is_told() {
    let mut rig = Rig::new();
    let alice = user("alice");
    rig.ready(&alice, submit("a"));
    let (_, reply) = rig.answered(&alice, reserve("a", "r", calls(30))).unwrap();
    let left = |calls| Remaining {
        llm_calls: Some(calls),
        tool_calls: Some(50),
        agent_hops: Some(50),
        iterations: Some(20),
        tokens_in: Some(100_000),
        tokens_out: Some(50_000),
        time_ms: Some(300_000),
        inference_requests: Some(50),
        inference_input_chars: Some(500_000),
    };
    let until = Some(rig.now.plus(120_000));
    assert_eq!(reply.done, Done::Reserved { reservation: rsv("r"), until, remaining: left(70) });
    let (_, reply) = rig.answered(&alice, settle("a", "r", calls(10))).unwrap();
    let Done::Closed { usage, remaining } = reply.done else { panic!("{reply:?}") };
    assert_eq!((usage.used.amounts, usage.held, remaining), (calls(10), calls(0), left(90)));

    let (_, reply) = rig.answered(&alice, record("a", calls(91))).unwrap();
    let Done::Recorded { usage, within_bounds, exceeded } = reply.done else { panic!("{reply:?}") };
    assert_eq!((usage.used.amounts, usage.unreserved), (calls(101), calls(91)));
    assert_eq!(
        (within_bounds, exceeded),
        (false, vec!["max_llm_calls_exceeded: 101 of 100".into()])
    );
}
