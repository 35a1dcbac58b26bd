//! Goal: filters, detail and access are what K331 and K333 say.
//! Method: events of one kernel, looked at by several.

use std::collections::BTreeMap;

use super::*;
use crate::kernel::CommandBody;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::event::{KernelEvent, ProcessEvent, Subject};
use crate::kernel::ids::OutputKey;
use crate::kernel::principal::Role;
use crate::kernel::rig::{self, Rig};
use crate::kernel::time::Time;

fn user(name: &str) -> UserId {
    UserId::parse("user", name).unwrap()
}

fn subject(pid: &str, of: &str) -> Subject {
    Subject {
        pid: Some(ProcessId::parse("pid", pid).unwrap()),
        user: Some(user(of)),
        session: Some(SessionId::parse("session", "s1").unwrap()),
        request: None,
    }
}

fn event(subject: Subject, body: Body) -> Event {
    Event { time: Time::from_millis(1), subject, body }
}

fn removed(pid: &str, of: &str) -> Event {
    event(subject(pid, of), Body::Process { event: ProcessEvent::Removed })
}

#[test]
fn a_filter_picks_by_all_that_it_names() {
    let event = removed("p", "alice");
    let all = Filter::default();
    assert!(all.picks(&event));
    let kind = |kind: &str| Filter { kind: Some(Arc::from(kind)), ..Filter::default() };
    assert!(kind("process.").picks(&event));
    assert!(kind("process.removed").picks(&event));
    assert!(!kind("process.removed_").picks(&event));
    assert!(!kind("quota.").picks(&event));
    let of = |name: &str| Filter { user: Some(user(name)), ..Filter::default() };
    assert!(of("alice").picks(&event));
    assert!(!of("bob").picks(&event));
    let pid = |name: &str| Filter { pid: ProcessId::parse("pid", name).ok(), ..Filter::default() };
    assert!(pid("p").picks(&event));
    assert!(!Filter { kind: kind("quota").kind, ..pid("p") }.picks(&event), "all of them");
    let session = |name: &str| Filter {
        session: SessionId::parse("session", name).ok(),
        ..Filter::default()
    };
    assert!(session("s1").picks(&event));
    assert!(!session("s2").picks(&event));
}

#[test]
fn owners_see_their_own_and_operators_all() {
    let alice = Principal::new(user("alice"), &[Role::User]);
    let worker = Principal::new(user("bob"), &[Role::User, Role::Worker]);
    let operator = Principal::new(user("eve"), &[Role::Operator]);
    let own = removed("p", "alice");
    let nobodys = event(
        Subject::default(),
        Body::Kernel { event: KernelEvent::Stopped { preserve: true, clean: true } },
    );
    let sees = |by: &Principal| (by.may_read(&own), by.may_read(&nobodys));
    assert_eq!(sees(&alice), (true, false));
    assert_eq!(sees(&worker), (false, false));
    assert_eq!(sees(&operator), (true, true));
    assert_eq!(sees(&Principal::node()), (true, true));
}

#[test]
fn brief_leaves_out_what_an_envelope_carries_and_keeps_the_rest() {
    let mut rig = Rig::new();
    let alice = rig::user("alice");
    let new = NewEnvelope { raw_input: "a secret".to_owned(), ..NewEnvelope::default() };
    rig.say(&alice, CommandBody::CreateEnvelope(Box::new(new))).unwrap();
    let full = rig.events.pop().unwrap();
    let Body::Envelope { event: EnvelopeEvent::Created { id, envelope: before } } = &full.body
    else {
        panic!("another kind");
    };
    assert_eq!(before.raw_input.as_ref(), "a secret");
    assert_eq!(Detail::Full.of(full.clone()), full);
    let brief = Detail::Brief.of(full.clone());
    assert_eq!((brief.time, &brief.subject), (full.time, &full.subject));
    let Body::Envelope { event: EnvelopeEvent::Created { id: shown, envelope } } = &brief.body
    else {
        panic!("another kind");
    };
    assert_eq!((shown, &envelope.request, envelope.version), (id, &before.request, 1));
    assert_eq!(envelope.raw_input.as_ref(), "");

    let outputs = BTreeMap::from([(OutputKey::parse("key", "o").unwrap(), Json::from("secret"))]);
    let patch = Box::new(EnvelopePatch { outputs, ..EnvelopePatch::default() });
    let updated = EnvelopeEvent::Updated { id: id.clone(), patch, version: 4, advanced: false };
    let brief = Detail::Brief.of(event(subject("p", "alice"), Body::Envelope { event: updated }));
    let Body::Envelope { event: EnvelopeEvent::Updated { patch, version, .. } } = brief.body else {
        panic!("another kind");
    };
    assert_eq!((*patch, version), (EnvelopePatch::default(), 4));
}
