//! Goal: what can be asked about interrupts, and how long they are kept (K153, K172 – K175, K85).

use std::slice::from_ref;

use crate::codec::Wire;
use crate::kernel::CommandBody;
use crate::kernel::decision::{At, Decision};
use crate::kernel::event::Event;
use crate::kernel::ids::InterruptId;
use crate::kernel::interrupts::fold::InterruptCounts;
use crate::kernel::interrupts::interrupt::{NewInterrupt, Response};
use crate::kernel::interrupts::query::Filter;
use crate::kernel::interrupts::rig::{
    HOUR, MINUTE, approved, cancel, consume, new, pay, says, to_user,
};
use crate::kernel::names::{InterruptKind, InterruptStatus};
use crate::kernel::principal::Principal;
use crate::kernel::rig::{Rig, operator, pid, submit, told, user, worker};

fn list(rig: &Rig, by: &Principal, filter: &Filter) -> Vec<InterruptId> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = rig.kernel.interrupts(by, None).list(filter, after, 2).unwrap();
        assert!(page.interrupts.len() <= 2);
        all.extend(page.interrupts.iter().map(|interrupt| interrupt.id.clone()));
        match page.next {
            Some(next) => after = next,
            None => return all,
        }
    }
}

/// K153: the oldest of the process, and the oldest over the processes of a request.
#[test]
fn the_oldest_question_comes_first() {
    let mut rig = Rig::new();
    let request = crate::kernel::ids::RequestId::parse("request_id", "r").unwrap();
    for name in ["a", "b"] {
        let request = Some(request.clone());
        let of_request = crate::kernel::lifecycle::Submit { request, ..submit(name) };
        rig.ready(&user("alice"), of_request);
    }
    let second = rig.ask("b", new(InterruptKind::Timeout));
    let third = rig.ask("a", new(InterruptKind::Clarification));
    let fourth = rig.ask("a", new(InterruptKind::Clarification));
    let alice = user("alice");
    let pending = |rig: &Rig, name: &str| {
        let pending = rig.kernel.interrupts(&alice, None).pending(&pid(name)).unwrap();
        pending.map(|interrupt| interrupt.id.clone())
    };
    assert_eq!(pending(&rig, "a"), Some(third.clone()));
    let of = |rig: &Rig| {
        let oldest = rig.kernel.interrupts(&alice, None).pending_of(&request);
        oldest.map(|interrupt| interrupt.id.clone())
    };
    assert_eq!(of(&rig), Some(second.clone()));
    rig.answer(&alice, &second, Response::default()).unwrap();
    assert_eq!(of(&rig), Some(third.clone()));
    rig.answer(&alice, &third, says("x")).unwrap();
    assert_eq!(pending(&rig, "a"), Some(fourth));
    assert_eq!(rig.kernel.interrupts(&alice, None).has_pending(&pid("b")), Ok(false));
}

/// K172: by process, user, conversation, kinds and status, in pages, oldest first.
#[test]
fn a_list_has_what_fits_oldest_first() {
    let mut rig = Rig::new();
    rig.running("a");
    rig.ready(&user("bob"), submit("b"));
    let first = rig.ask("a", new(InterruptKind::Timeout));
    let second = rig.ask("a", new(InterruptKind::Clarification));
    let beside = NewInterrupt { assignee: to_user("alice"), ..new(InterruptKind::Checkpoint) };
    let events = rig.say(&user("bob"), super::super::rig::ask("b", beside)).unwrap();
    let third = super::super::rig::raised(&events).pop().unwrap();
    let fourth = rig.ask("a", new(InterruptKind::Clarification));
    rig.answer(&user("alice"), &second, says("x")).unwrap();

    let all = [&first, &second, &third, &fourth].map(Clone::clone);
    let any = Filter::default();
    assert_eq!(list(&rig, &operator(), &any), all);
    assert_eq!(list(&rig, &user("alice"), &any), all, "her own, and what she is to answer");
    assert_eq!(list(&rig, &user("bob"), &any), from_ref(&third), "K27");
    assert_eq!(list(&rig, &user("carol"), &any), []);
    let of = |filter| list(&rig, &operator(), &filter);
    let own = [first.clone(), second.clone(), fourth.clone()];
    assert_eq!(of(Filter { pid: Some(pid("a")), ..any.clone() }), own);
    assert_eq!(of(Filter { user: Some(user("alice").user), ..any.clone() }), own);
    let session = Some(rig.process("b").session.clone());
    assert_eq!(of(Filter { session, ..any.clone() }), from_ref(&third));
    let pending = Some(InterruptStatus::Pending);
    let kinds = || [InterruptKind::Clarification, InterruptKind::Checkpoint].into();
    let fitting = of(Filter { kinds: kinds(), ..any.clone() });
    assert_eq!(fitting, [second, third.clone(), fourth.clone()]);
    let fitting = of(Filter { kinds: kinds(), status: pending, ..any.clone() });
    assert_eq!(fitting, [third, fourth]);
    let named = |name| Filter { pid: Some(pid(name)), ..Filter::default() };
    let bob = user("bob");
    let refused = |name| rig.kernel.interrupts(&bob, None).list(&named(name), 0, 9).unwrap_err();
    let foreign = "permission_denied: process a belongs to another user";
    assert_eq!(refused("a").to_string(), foreign);
    assert_eq!(refused("x").to_string(), "process_not_found: process not found: x");
}

/// K370: who may see one.
#[test]
fn an_interrupt_is_seen_by_those_whom_it_concerns() {
    let mut rig = Rig::new();
    rig.running("a");
    let assigned = NewInterrupt {
        assignee: to_user("bob"),
        blocking: Some(false),
        ..new(InterruptKind::Clarification)
    };
    let id = rig.ask("a", assigned);
    for by in [user("alice"), user("bob"), operator(), worker("w")] {
        let seen = rig.kernel.interrupts(&by, None);
        assert_eq!(seen.get(&id).map(|interrupt| &interrupt.id), Ok(&id));
        assert_eq!(seen.pending(&pid("a")).map(|pending| pending.is_some()), Ok(true));
        assert_eq!(seen.approval(&id), Ok(None));
    }
    let carol = user("carol");
    let seen = rig.kernel.interrupts(&carol, None);
    let hidden =
        format!("permission_denied: interrupt {id} is not for the caller to see or answer");
    assert_eq!(seen.get(&id).unwrap_err().to_string(), hidden);
    assert!(seen.pending(&pid("a")).is_err());
    assert!(seen.stats().is_err());
}

/// K174: what was created is the sum of what became of it.
#[test]
fn the_counts_add_up() {
    let mut rig = Rig::new();
    rig.running("a");
    let ids = [(); 4].map(|()| rig.ask("a", new(InterruptKind::Clarification)));
    rig.answer(&user("alice"), &ids[0], says("x")).unwrap();
    rig.say(&user("alice"), cancel(&ids[1])).unwrap();
    let short =
        NewInterrupt { ttl: Some(5), blocking: Some(false), ..new(InterruptKind::Clarification) };
    rig.ask("a", short);
    rig.pass(5);
    let op = operator();
    let counts = rig.kernel.interrupts(&op, None).stats().unwrap();
    let expected = InterruptCounts { created: 5, resolved: 1, expired: 1, cancelled: 1 };
    assert_eq!((counts, counts.pending()), (expected, 2));
}

/// K175, K360, K361: what is closed for long enough may go, what is open stays.
#[test]
fn what_is_long_closed_is_due_for_removal() {
    let mut config = crate::kernel::config::KernelConfig::new();
    config.cleanup_interval_ms = 720 * HOUR; // So that it does not go by itself.
    let mut rig = Rig::with(config);
    rig.running("a");
    let beside = || NewInterrupt { blocking: Some(false), ..new(InterruptKind::Clarification) };
    let first = rig.ask("a", NewInterrupt { ttl: Some(HOUR), ..beside() });
    rig.ask("a", NewInterrupt { auto_expire: Some(false), ..beside() });
    rig.pass(1);
    let second = rig.ask("a", beside());
    rig.say(&user("alice"), cancel(&second)).unwrap();
    let due = |rig: &Rig, most| rig.kernel.state().interrupts_due_for_removal(rig.now, most);
    rig.pass(24 * HOUR - 1);
    assert_eq!(due(&rig, 9), []);
    rig.pass(1);
    assert_eq!(due(&rig, 9), from_ref(&second), "by when they closed, not when they were raised");
    rig.pass(HOUR);
    assert_eq!(due(&rig, 9), [second.clone(), first.clone()]);
    assert_eq!(due(&rig, 1), from_ref(&second));

    let at = At { now: rig.now, nonce: [7; 16] };
    let mut state = rig.kernel.state().clone();
    let ids = state.interrupts_due_for_removal(rig.now, 9);
    let mut decision = Decision::new(&mut state, at, operator(), None);
    decision.remove_interrupts(&ids);
    assert_eq!(decision.into_events().len(), 1, "one event for a process");
    assert_eq!((state.interrupt(&first), state.interrupt(&second)), (None, None));
    assert_eq!(state.interrupts.len(), 1);
    assert_eq!(state.counters.interrupts, rig.kernel.state().counters.interrupts, "K174");
}

/// K361: an approval that can still be used keeps its interrupt.
#[test]
fn an_open_approval_keeps_its_interrupt() {
    let mut config = crate::kernel::config::KernelConfig::new();
    config.retention.interrupt_ms = MINUTE;
    let mut rig = Rig::with(config);
    rig.running("a");
    let asked = NewInterrupt { target: pay(), ..new(InterruptKind::Confirmation) };
    let id = rig.ask("a", asked);
    let yes = rig.shown(&id, approved(true));
    rig.answer(&user("alice"), &id, yes).unwrap();
    rig.pass(MINUTE);
    assert_eq!(rig.kernel.state().interrupts_due_for_removal(rig.now, 9), []);
    rig.claim("a");
    rig.say(&worker("w"), consume(&id, r#"{"to":"X","sum":10}"#, "u")).unwrap();
    assert_eq!(rig.kernel.state().interrupts_due_for_removal(rig.now, 9), [id]);
}

/// K85, K175: a Zombie has no interrupts, and none are left when it is gone.
#[test]
fn a_tombstone_has_no_questions() {
    let mut rig = Rig::new();
    rig.running("a");
    let asked = NewInterrupt { target: pay(), ..new(InterruptKind::Confirmation) };
    let id = rig.ask("a", asked);
    let yes = rig.shown(&id, approved(true));
    rig.answer(&user("alice"), &id, yes).unwrap();
    rig.ask("a", new(InterruptKind::Clarification));
    let end = CommandBody::Terminate { pid: pid("a"), message: String::new(), force: true };
    rig.say(&user("alice"), end).unwrap();
    assert_eq!(rig.kernel.state().interrupts.len(), 2, "kept for reading");
    let before = rig.events.len();
    rig.say(&user("alice"), CommandBody::CleanupProcess { pid: pid("a") }).unwrap();
    let expected = ["interrupt.removed", "process.state_changed", "process.removed"];
    assert_eq!(rig.kinds(before), expected);
    let state = rig.kernel.state();
    assert!(state.interrupts.is_empty() && state.approvals.is_empty());
    assert_eq!(state.asked, super::super::index::Index::default());
    assert_eq!(rig.kernel.next_deadline(), None);
    let gone = format!("interrupt_not_found: interrupt not found: {id}");
    assert_eq!(told(rig.answer(&user("alice"), &id, approved(true))), gone);
}

/// K3, K330: every event of the area comes back from its bytes, and of one whose subject is gone
/// nothing follows.
#[test]
fn events_come_back_and_need_their_subject() {
    let mut rig = Rig::new();
    rig.running("a");
    let asked = NewInterrupt { target: pay(), ..new(InterruptKind::Confirmation) };
    let id = rig.ask("a", asked);
    let yes = rig.shown(&id, approved(true));
    rig.answer(&user("alice"), &id, yes).unwrap();
    rig.pass(15 * MINUTE);
    let taken_back = rig.ask("a", new(InterruptKind::Clarification));
    rig.say(&user("alice"), cancel(&taken_back)).unwrap();
    rig.ask("a", NewInterrupt { ttl: Some(1), ..new(InterruptKind::Confirmation) });
    rig.pass(48 * HOUR);
    let mut empty = crate::kernel::state::State::new(crate::kernel::config::KernelConfig::new());
    for event in &rig.events {
        assert_eq!(Event::from_bytes(&event.to_bytes()).as_ref(), Ok(event));
        if event.body.kind().starts_with("interrupt") || event.body.kind().starts_with("approval") {
            empty.apply(event);
        }
    }
    assert!(empty.interrupts.is_empty() && empty.approvals.is_empty());
    assert_eq!(empty.counters.interrupts, InterruptCounts::default());
    assert_eq!(empty.asked, super::super::index::Index::default());
}
