//! Goal: sessions begin, are polled and replaced as K230, K231 and K240 say.

use crate::kernel::CommandBody;
use crate::kernel::envelopes::EnvelopePatch;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::ids::EnvelopeId;
use crate::kernel::lifecycle::Submit;
use crate::kernel::names::ProcessState;
use crate::kernel::quota::QuotaField;
use crate::kernel::rig::{Rig, limits, node, operator, pid, submit, user, worker};
use crate::kernel::sessions::rig::{
    Desk, agent, json, linear, output_key, pipeline, refused, start,
};
use crate::kernel::sessions::start::{EnvelopeChoice, Initialize};

fn known(name: &str, id: &str) -> CommandBody {
    let envelope = EnvelopeChoice::Known(EnvelopeId::parse("envelope_id", id).unwrap());
    let asked = Initialize { pid: pid(name), pipeline: linear(), envelope, force: false };
    CommandBody::InitializeSession(Box::new(asked))
}

/// K230: the same again is known, anything else is refused.
#[test]
fn a_second_session_is_refused_unless_it_is_the_same() {
    let mut desk = Desk::new(linear());
    assert_eq!(refused(desk.say(start(linear(), "e", false))), "0 events");
    assert_eq!(refused(desk.say(known("p", "e"))), "0 events");
    let told = refused(desk.say(start(linear(), "other", false)));
    assert!(told.starts_with("session_exists: "), "{told}");
    let other = pipeline(&format!("{{'name': 'x', 'stages': [{}]}}", agent("x", "")));
    assert!(refused(desk.say(start(other, "e", false))).starts_with("session_exists: "));
}

/// K230, K32: an envelope has one owner and serves one live process at a time.
#[test]
fn an_envelope_of_somebody_else_or_in_use_is_refused() {
    let mut desk = Desk::new(linear());
    desk.say(CommandBody::Submit(Box::new(submit("q")))).unwrap();
    let told = refused(desk.say(known("q", "e")));
    assert!(told.starts_with("envelope_in_use: "), "{told}");
    assert!(refused(desk.say(known("q", "gone"))).starts_with("envelope_not_found: "));

    let id = Some(EnvelopeId::parse("envelope_id", "bobs").unwrap());
    let new = NewEnvelope { id, ..NewEnvelope::default() };
    let bob = user("bob");
    desk.rig.say(&bob, CommandBody::CreateEnvelope(Box::new(new))).unwrap();
    assert!(refused(desk.say(known("q", "bobs"))).starts_with("permission_denied: "));
    let told = refused(desk.rig.say(&operator(), known("q", "bobs")));
    assert!(told.starts_with("permission_denied: "), "not the owner of the process: {told}");

    desk.poll();
    desk.succeed("draft", "{}");
    desk.succeed("edit", "{}");
    assert!(refused(desk.say(known("p", "e"))).starts_with("process_terminal: "));
    assert!(refused(desk.say(known("q", "e"))).ends_with("events"), "it is free again");
}

/// K230, K231, K171: force starts over where the envelope is; what was under way is superseded.
#[test]
fn force_takes_the_place_of_a_session() {
    let mut desk = Desk::new(linear());
    desk.poll();
    desk.succeed("draft", "{}");
    let old = desk.done("edit", "{}");
    assert!(refused(desk.say(start(linear(), "e", true))).ends_with("events"));
    assert!(desk.session().edges.is_empty() && desk.session().attempts.is_empty());
    assert_eq!(desk.session().position.as_str(), "edit", "the envelope names it");
    assert!(desk.report(&old).starts_with("attempt_superseded: "));
    assert_eq!(refused(desk.say(start(linear(), "e", true))), "0 events", "the same command");
    assert_eq!(desk.poll(), "RunAgent edit 1.1", "fresh counts");
    assert_eq!(desk.rig.process("p").account.held.llm_calls, 1);
}

/// K260, K265: what the envelope brought along is no output of the session, for a Gate as for the
/// question that a route asks; under its key it is there.
#[test]
fn what_was_saved_before_the_session_is_not_the_newest_in_it() {
    let yes = "{'condition': 'verdict', 'value': 'yes', 'target': 'a'}";
    let mut desk = with_old_output(yes);
    assert_eq!(desk.poll(), "RunAgent b 1.1");
    assert_eq!(desk.succeed("b", "{'verdict': 'yes'}"), "RunAgent a 1.1", "its own");

    let field = "{'scope': 'Output', 'key': 'old', 'path': 'verdict'}";
    let expr = format!("{{'op': 'Eq', 'field': {field}, 'value': 'yes'}}");
    let under = format!("{{'expr': {expr}, 'target': 'a'}}");
    assert_eq!(with_old_output(&under).poll(), "RunAgent a 1.1");

    let mut desk = with_old_output("{'expr': {'op': 'Always'}, 'target': 'clarification'}");
    assert_eq!(desk.poll(), "WaitInterrupt");
    assert_eq!(desk.asked().question, None);
}

/// A session that begins at a Gate with one rule, on an envelope with an output of before.
fn with_old_output(rule: &str) -> Desk {
    let (mut rig, alice) = (Rig::new(), user("alice"));
    let id = EnvelopeId::parse("envelope_id", "e").unwrap();
    let new = NewEnvelope { id: Some(id.clone()), ..NewEnvelope::default() };
    rig.say(&alice, CommandBody::CreateEnvelope(Box::new(new))).unwrap();
    let old = json("{\"verdict\": \"yes\", \"question\": \"old?\"}");
    let outputs = [(output_key("old"), old)].into();
    let patch = Box::new(EnvelopePatch { outputs, ..EnvelopePatch::default() });
    let update = CommandBody::UpdateEnvelope { id: id.clone(), patch, expected_version: None };
    rig.say(&alice, update).unwrap();
    rig.say(&alice, CommandBody::Submit(Box::new(submit("p")))).unwrap();

    let more = format!("'node_kind': 'Gate', 'routing': [{rule}], 'default_next': 'b'");
    let gate = format!("{{'name': 'gate', {more}}}");
    let stages = [gate, agent("a", ""), agent("b", "'default_next': 'gate'")].join(", ");
    let resume = "'clarification_resume_stage': 'b'";
    let pipeline = pipeline(&format!("{{'name': 'g', {resume}, 'stages': [{stages}]}}"));
    let envelope = EnvelopeChoice::Known(id);
    let asked = Initialize { pid: pid("p"), pipeline, envelope, force: false };
    rig.say(&alice, CommandBody::InitializeSession(Box::new(asked))).unwrap();
    Desk { rig, by: alice, name: "p" }
}

/// K240: who may ask, and what is told when nothing is to be done.
#[test]
fn only_the_holder_is_told_what_to_do() {
    let mut desk = Desk::new(linear());
    let poll = || CommandBody::NextInstruction { pid: pid("p") };
    assert!(refused(desk.rig.say(&user("bob"), poll())).starts_with("permission_denied: "));
    assert!(refused(desk.rig.say(&worker("w"), poll())).ends_with("events"), "until claimed");
    assert_eq!(desk.quiet_poll().split(':').next(), Some("not_holder"));
    let report = desk.done("draft", "{}");
    assert!(desk.report(&report).starts_with("not_holder: "));

    let mut bare = Desk::new(linear());
    bare.say(CommandBody::Submit(Box::new(submit("q")))).unwrap();
    let told = refused(bare.say(CommandBody::NextInstruction { pid: pid("q") }));
    assert!(told.starts_with("session_not_found: "), "{told}");
    let driven = Submit { driven: true, ..submit("p") };
    let mut driven = Desk::with(linear(), driven);
    assert!(driven.poll().starts_with("not_holder: "), "K290");
    assert!(refused(driven.rig.say(&node(), poll())).ends_with("events"));
    let told = refused(Desk::new(linear()).rig.say(&node(), poll()));
    assert_eq!(told, "not_holder: process p is not driven by the node", "K290");
}

/// K240 g, i, K81: a process that somebody stopped waits; let go, it is claimed again.
#[test]
fn a_process_that_somebody_stopped_waits() {
    let mut desk = Desk::new(linear());
    desk.poll();
    let to = |to| CommandBody::TransitionState { pid: pid("p"), to, reason: "x".to_owned() };
    for state in [ProcessState::Blocked, ProcessState::Waiting] {
        desk.say(to(state)).unwrap();
        assert_eq!(desk.quiet_poll(), "Wait Blocked");
        desk.say(to(ProcessState::Ready)).unwrap();
        assert!(desk.poll().starts_with("RunAgent draft 1."), "K61, K272: without a limit");
    }
    assert_eq!(desk.task("draft").try_number, 3);
    assert_eq!(desk.hops(), (1, 1), "the same visit");
}

/// K241: Gates route at once; more steps than allowed end the session.
#[test]
fn gates_are_passed_at_once_and_not_for_ever() {
    let gate = |name: &str, next: &str| {
        format!("{{'name': '{name}', 'node_kind': 'Gate', 'default_next': '{next}'}}")
    };
    let stages = [gate("g", "h"), gate("h", "x"), agent("x", "")].join(", ");
    let mut desk = Desk::new(pipeline(&format!("{{'name': 'g', 'stages': [{stages}]}}")));
    assert_eq!(desk.poll(), "RunAgent x 1.1");
    assert_eq!((desk.edge("g", "h"), desk.edge("h", "x")), (1, 1));

    let ring = gate("g", "g");
    let more = "'max_iterations': -1, 'step_limit': 7";
    let mut submitted = submit("p");
    submitted.quota = limits(&[(QuotaField::MaxIterations, 1_000)]);
    let ring = pipeline(&format!("{{'name': 'g', {more}, 'stages': [{ring}]}}"));
    let mut desk = Desk::with(ring, submitted);
    assert_eq!(desk.poll(), "Terminate MaxLoopExceeded");
    assert_eq!(desk.edge("g", "g"), 7);
}

/// K291: with `checkpoints`, each instruction that something led to is recorded.
#[test]
fn instructions_are_checkpoints_if_the_pipeline_wants() {
    let stages = [agent("a", "'default_next': 'b'"), agent("b", "")].join(", ");
    let text = format!("{{'name': 'c', 'checkpoints': true, 'stages': [{stages}]}}");
    let mut desk = Desk::new(pipeline(&text));
    let before = desk.rig.events.len();
    desk.poll();
    assert_eq!(desk.kinds(before), ["attempt_issued", "checkpoint"]);
    desk.quiet_poll();
    let before = desk.rig.events.len();
    desk.succeed("a", "{}");
    assert_eq!(desk.kinds(before).last(), Some(&"checkpoint"));
}

/// K240 h, K362, K363: a node that drains hands out nothing and takes reports; it is at rest when
/// nobody works.
#[test]
fn a_node_that_drains_hands_out_nothing() {
    let mut desk = Desk::new(linear());
    desk.poll();
    desk.rig.drain();
    assert!(!desk.rig.kernel.state().at_rest());
    assert_eq!(desk.quiet_poll(), "RunAgent draft 1.1", "what is live goes on");
    assert_eq!(desk.succeed("draft", "{}"), "Wait Draining");
    assert_eq!(desk.quiet_poll(), "Wait Draining");
    assert!(desk.rig.kernel.state().at_rest());
    let told = refused(desk.say(start(linear(), "e", true)));
    assert!(told.starts_with("draining: "), "{told}");
}
