//! Goal: leave to do one thing, once, and just that (K168 – K171, 8.6).

use std::sync::Arc;

use crate::kernel::CommandBody;
use crate::kernel::config::KernelConfig;
use crate::kernel::decision::{At, Decision};
use crate::kernel::expression::{FieldRef, Path};
use crate::kernel::ids::{InterruptId, UseId};
use crate::kernel::interrupts::approval::Use;
use crate::kernel::interrupts::interrupt::{NewInterrupt, Response};
use crate::kernel::interrupts::rig::{
    HOUR, MINUTE, approved, cancel, consume, decides, modifies, new, pay,
};
use crate::kernel::interrupts::target::target_hash;
use crate::kernel::json::Json;
use crate::kernel::json::strategies::json;
use crate::kernel::names::{
    ApprovalState, InterruptKind, ProcessState, ReviewDecision, TerminalReason,
};
use crate::kernel::rig::{Rig, operator, pid, told, user, worker};

const TEN: &str = r#"{"to":"X","sum":10}"#;
const STALE: &str = "stale_target: the target has changed since it was shown";

fn leave(kind: InterruptKind) -> NewInterrupt {
    NewInterrupt { target: pay(), ..new(kind) }
}

/// A process that was given leave, and runs again.
fn granted(kind: InterruptKind, yes: Response) -> (Rig, InterruptId) {
    let mut rig = Rig::new();
    rig.running("a");
    let id = rig.ask("a", leave(kind));
    let yes = rig.shown(&id, yes);
    rig.answer(&user("alice"), &id, yes).unwrap();
    rig.claim("a");
    (rig, id)
}

/// K168: the hash is BLAKE3 in its domain over canonical JSON, and nothing else.
#[test]
fn the_hash_of_a_target_is_of_canonical_json() {
    let hash = |text: &str| {
        let mut hasher = blake3::Hasher::new_derive_key("lockstep.interrupt.target.v1");
        hasher.update(text.as_bytes());
        *hasher.finalize().as_bytes()
    };
    let bare = r#"{"action":"pay","binds":[],"params":{"sum":10,"to":"X"},"pid":"a"}"#;
    assert_eq!(target_hash(&pid("a"), "pay", &json(TEN), &[]), hash(bare));
    let plan = FieldRef::State(Path::parse("plan").unwrap());
    let verdict = FieldRef::Current(Path::parse("verdict").unwrap());
    let binds = [(plan, Some(json(r#"{"b":1,"a":2}"#))), (verdict, None)];
    let bound = concat!(
        r#"{"action":"pay","binds":[[{"path":"plan","scope":"State"},{"a":2,"b":1}],"#,
        r#"[{"path":"verdict","scope":"Current"},null]],"params":null,"pid":"a"}"#,
    );
    assert_eq!(target_hash(&pid("a"), "pay", &Json::NULL, &binds), hash(bound));
}

/// The worked example of 8.6, as far as it holds without a session.
#[test]
fn paying_is_asked_for_shown_and_done_once() {
    let mut rig = Rig::new();
    rig.running("a");
    let (alice, w) = (user("alice"), worker("w"));
    let id = rig.ask("a", leave(InterruptKind::Confirmation));
    assert_eq!(rig.state("a"), ProcessState::Waiting);
    assert_eq!(rig.interrupt(&id).expires_at, Some(rig.now.plus(HOUR)));
    let missing = "response_invalid: target_hash is required for a target";
    assert_eq!(told(rig.answer(&alice, &id, approved(true))), missing);
    let other = Response { target_hash: Some([7; 32]), ..approved(true) };
    assert_eq!(told(rig.answer(&alice, &id, other)), STALE);

    let before = rig.events.len();
    let yes = rig.shown(&id, approved(true));
    rig.answer(&alice, &id, yes).unwrap();
    let expected = ["interrupt.resolved", "approval.granted", "process.state_changed"];
    assert_eq!(rig.kinds(before), expected, "Ready in the same decision");
    let no = rig.shown(&id, approved(false));
    let refused = format!("interrupt_not_pending: interrupt {id} is resolved");
    assert_eq!(told(rig.answer(&alice, &id, no)), refused);

    rig.claim("a");
    let greedy = consume(&id, r#"{"to":"X","sum":1000}"#, "u1");
    assert_eq!(told(rig.say(&w, greedy)), STALE);
    assert_eq!(rig.approval(&id).unwrap().state, ApprovalState::Granted, "nothing used");
    assert_eq!(told(rig.say(&w, consume(&id, TEN, "u1"))), "1 events");
    assert_eq!(told(rig.say(&w, consume(&id, TEN, "u1"))), "0 events", "a repeat");
    let again = format!("approval_not_usable: the approval of interrupt {id} was used");
    assert_eq!(told(rig.say(&w, consume(&id, TEN, "u2"))), again);
    assert_eq!(told(rig.say(&w, consume(&id, "{}", "u1"))), STALE, "no repeat");

    // Instead of resolving: an hour passes.
    let mut rig = Rig::new();
    rig.running("a");
    let id = rig.ask("a", leave(InterruptKind::Confirmation));
    rig.pass(HOUR);
    assert_eq!(rig.process("a").terminal_reason, Some(TerminalReason::InterruptDenied));
    assert_eq!(rig.approval(&id), None);
}

/// K170: after Modify the params are those of the answer, and no longer those that were shown.
#[test]
fn a_modified_review_approves_what_it_says() {
    let five = r#"{"sum":5,"to":"X"}"#;
    let (mut rig, id) = granted(InterruptKind::AgentReview, modifies(five));
    assert_eq!(told(rig.say(&worker("w"), consume(&id, TEN, "u"))), STALE);
    let hash = target_hash(&pid("a"), "pay", &json(five), &[]);
    assert_eq!(rig.approval(&id).unwrap().hash, hash, "K441");
    assert_eq!(told(rig.say(&worker("w"), consume(&id, five, "u"))), "1 events");
    assert_eq!(told(rig.say(&worker("w"), consume(&id, five, "u"))), "0 events");
}

/// K78, K170, K370: the holder uses it, and nobody else.
#[test]
fn only_the_holder_uses_an_approval() {
    let (mut rig, id) = granted(InterruptKind::Confirmation, approved(true));
    let refused = "not_holder: process a is not held by the caller";
    assert_eq!(told(rig.say(&user("alice"), consume(&id, TEN, "u"))), refused);
    assert_eq!(told(rig.say(&operator(), consume(&id, TEN, "u"))), refused);
    let foreign = "permission_denied: process a belongs to another user";
    assert_eq!(told(rig.say(&user("bob"), consume(&id, TEN, "u"))), foreign);
    rig.pass(31_000);
    assert_eq!(told(rig.say(&worker("w"), consume(&id, TEN, "u"))), "2 events", "and renews");
    let gone = InterruptId::parse("id", "int_x").unwrap();
    let unknown = "interrupt_not_found: interrupt not found: int_x";
    assert_eq!(told(rig.say(&worker("w"), consume(&gone, TEN, "u"))), unknown);
}

/// K170: what was denied, taken back or had no target grants nothing.
#[test]
fn only_a_yes_to_a_target_grants() {
    let mut rig = Rig::new();
    rig.running("a");
    let mut unusable = Vec::new();
    let id = rig.ask("a", leave(InterruptKind::Confirmation));
    let no = rig.shown(&id, approved(false));
    rig.answer(&user("alice"), &id, no).unwrap();
    unusable.push(id);
    let id = rig.ask("a", leave(InterruptKind::AgentReview));
    let no = rig.shown(&id, decides(ReviewDecision::Reject));
    rig.answer(&user("alice"), &id, no).unwrap();
    unusable.push(id);
    let id = rig.ask("a", leave(InterruptKind::Confirmation));
    rig.say(&user("alice"), cancel(&id)).unwrap();
    unusable.push(id);
    let id = rig.ask("a", new(InterruptKind::Confirmation));
    rig.answer(&user("alice"), &id, approved(true)).unwrap();
    unusable.push(id);
    let id = rig.ask("a", leave(InterruptKind::SystemError));
    let yes = rig.shown(&id, Response::default());
    rig.answer(&user("alice"), &id, yes).unwrap();
    unusable.push(id);
    rig.claim("a");
    for id in unusable {
        let refused = format!("approval_not_usable: interrupt {id} granted no approval");
        assert_eq!(told(rig.say(&worker("w"), consume(&id, TEN, "u"))), refused);
    }
}

/// K171: in its time, or not at all.
#[test]
fn an_approval_lapses_by_deadline() {
    for (wait, usable) in [(15 * MINUTE - 1, true), (15 * MINUTE, false)] {
        let (mut rig, id) = granted(InterruptKind::Confirmation, approved(true));
        // Nobody renews the claim: it ends, and another one is made.
        rig.pass(wait);
        rig.claim("a");
        let refused = format!("approval_not_usable: the approval of interrupt {id} has lapsed");
        let answer = told(rig.say(&worker("w"), consume(&id, TEN, "u")));
        assert_eq!(answer, if usable { "1 events".to_owned() } else { refused });
        let state = if usable { ApprovalState::Consumed } else { ApprovalState::Lapsed };
        assert_eq!(rig.approval(&id).unwrap().state, state);
    }
}

/// K82, K171: the end of the process is the end of what it was given leave for.
#[test]
fn an_approval_ends_with_its_process() {
    let (mut rig, id) = granted(InterruptKind::Confirmation, approved(true));
    let before = rig.events.len();
    let end = CommandBody::Terminate { pid: pid("a"), message: String::new(), force: true };
    rig.say(&user("alice"), end).unwrap();
    assert_eq!(rig.kinds(before), ["approval.lapsed", "process.terminated"]);
    assert_eq!(rig.approval(&id).unwrap().state, ApprovalState::Lapsed);
    assert_eq!(told(rig.say(&worker("w"), consume(&id, TEN, "u"))).split(':').next(), {
        Some("permission_denied")
    });
}

/// K170: a dispatch uses it for its own process only, in its own decision.
#[test]
fn a_dispatch_uses_an_approval_of_its_own_process() {
    let (rig, id) = granted(InterruptKind::Confirmation, approved(true));
    let mut state = rig.kernel.state().clone();
    let at = At { now: rig.now, nonce: [7; 16] };
    let mut decision = Decision::new(&mut state, at, worker("w"), None);
    let wanted = Use {
        interrupt: id.clone(),
        action: Arc::from("pay"),
        params: json(TEN),
        use_id: UseId::parse("use_id", "dsp_1").unwrap(),
    };
    let foreign = decision.check_approval(&pid("b"), &wanted).unwrap_err().to_string();
    assert_eq!(foreign, format!("interrupt_not_found: interrupt not found: {id}"));
    assert_eq!(decision.check_approval(&pid("a"), &wanted), Ok(true));
    assert_eq!(decision.consume_approval(&pid("a"), &wanted), Ok(()));
    assert_eq!(decision.check_approval(&pid("a"), &wanted), Ok(false), "a repeat");
    let elsewhere = Use { action: Arc::from("pay twice"), ..wanted.clone() };
    assert_eq!(decision.check_approval(&pid("a"), &elsewhere).unwrap_err().to_string(), STALE);
    let used = state.approval(&id).unwrap().used_by.clone();
    assert_eq!(used, Some(wanted.use_id));
}

/// K164, K168: what is escalated shows the same, and its approval is for the same.
#[test]
fn an_escalation_shows_the_same_target() {
    let mut config = KernelConfig::new();
    config.interrupts[1].on_expiry = crate::kernel::names::ExpiryPolicy::Escalate;
    let mut rig = Rig::with(config);
    rig.running("a");
    let first = rig.ask("a", leave(InterruptKind::Confirmation));
    rig.pass(HOUR);
    let second = rig.process("a").interrupts[0].clone();
    assert_eq!(rig.interrupt(&second).target, rig.interrupt(&first).target);
    let yes = rig.shown(&second, approved(true));
    rig.answer(&operator(), &second, yes).unwrap();
    rig.claim("a");
    assert!(told(rig.say(&worker("w"), consume(&first, TEN, "u"))).contains("no approval"));
    assert_eq!(told(rig.say(&worker("w"), consume(&second, TEN, "u"))), "1 events");
}
