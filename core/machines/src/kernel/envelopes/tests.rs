//! Goal: envelopes by examples (2.4, K30–K34, and the rows of K410 that are about them).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::command::NewEnvelope;
use super::{EnvelopeEvent, EnvelopePatch, GoalStatus, GoalsAdvance, NewError, Termination};
use crate::kernel::CommandBody;
use crate::kernel::config::KernelConfig;
use crate::kernel::event::{Body, Event};
use crate::kernel::ids::{EnvelopeId, OutputKey, StageName, UserId};
use crate::kernel::json::{Json, JsonLimits};
use crate::kernel::names::TerminalReason;
use crate::kernel::process::Metadata;
use crate::kernel::refusal::Refusal;
use crate::kernel::rig::{Rig, operator, pid, submit, told, user, worker};

fn env(name: &str) -> EnvelopeId {
    EnvelopeId::parse("envelope_id", name).unwrap()
}

fn key(name: &str) -> OutputKey {
    OutputKey::parse("key", name).unwrap()
}

fn stage(name: &str) -> StageName {
    StageName::parse("stage", name).unwrap()
}

fn json(text: &str) -> Json {
    Json::parse("json", text.as_bytes(), &JsonLimits::CEILING).unwrap()
}

fn texts(texts: &[&str]) -> Vec<Arc<str>> {
    texts.iter().map(|text| Arc::from(*text)).collect()
}

fn new(name: &str) -> NewEnvelope {
    NewEnvelope { id: Some(env(name)), raw_input: "hello".to_owned(), ..NewEnvelope::default() }
}

fn create(new: NewEnvelope) -> CommandBody {
    CommandBody::CreateEnvelope(Box::new(new))
}

fn update(name: &str, patch: EnvelopePatch) -> CommandBody {
    CommandBody::UpdateEnvelope { id: env(name), patch: Box::new(patch), expected_version: None }
}

fn outputs(entries: &[(&str, &str)]) -> EnvelopePatch {
    let outputs = entries.iter().map(|(name, value)| (key(name), json(value)));
    EnvelopePatch { outputs: outputs.collect(), ..EnvelopePatch::default() }
}

/// A kernel in which alice has the envelope `e`.
fn rig() -> Rig {
    let mut rig = Rig::new();
    assert_eq!(told(rig.say(&user("alice"), create(new("e")))), "1 events");
    rig
}

fn advanced(events: &Result<Vec<Event>, Refusal>) -> bool {
    let updated = |event: &Event| {
        if let Body::Envelope { event: EnvelopeEvent::Updated { advanced, .. } } = &event.body {
            return Some(*advanced);
        }
        None
    };
    events.as_ref().unwrap().iter().find_map(updated).unwrap()
}

/// K30, K448: a chosen id makes a creation idempotent, and nobody else's.
#[test]
fn an_envelope_that_was_made_is_never_overwritten() {
    let mut rig = rig();
    let alice = user("alice");
    assert_eq!(told(rig.say(&alice, create(new("e")))), "0 events");
    let other = NewEnvelope { raw_input: "bye".to_owned(), ..new("e") };
    let refused = "submit_conflict: envelope e exists with different content";
    assert_eq!(told(rig.say(&alice, create(other))), refused);
    let refused = "permission_denied: envelope e belongs to another user";
    assert_eq!(told(rig.say(&user("bob"), create(new("e")))), refused);

    let made = rig.kernel.state().envelope(&env("e")).unwrap();
    assert_eq!((made.version, &*made.raw_input), (1, "hello"));
    assert_eq!((made.received_at, made.max_goal_stages), (rig.now, 5));
    assert_eq!(made.user, alice.user);
    assert!(made.session.as_str().starts_with("ses_"));

    let without = NewEnvelope { id: None, ..new("e") };
    assert_eq!(told(rig.say(&alice, create(without.clone()))), "1 events");
    assert_eq!(told(rig.say(&alice, create(without))), "1 events", "without an id: another one");
    assert_eq!(rig.kernel.state().envelopes.len(), 3);
}

/// K27, K370: an operator makes envelopes for others; nobody else does.
#[test]
fn only_an_operator_makes_an_envelope_for_somebody_else() {
    let mut rig = Rig::new();
    let alice = UserId::parse("user", "alice").unwrap();
    let new = NewEnvelope { user: Some(alice), ..new("e") };
    let refused = "permission_denied: only operators make envelopes for others, such as alice";
    assert_eq!(told(rig.say(&user("bob"), create(new.clone()))), refused);
    assert_eq!(told(rig.say(&operator(), create(new))), "1 events");
    let refused = "permission_denied: envelope e belongs to another user";
    assert_eq!(told(rig.say(&user("bob"), update("e", outputs(&[("a", "{}")])))), refused);
    assert_eq!(told(rig.say(&user("alice"), update("e", outputs(&[("a", "{}")])))), "1 events");
    let gone = "envelope_not_found: envelope not found: x";
    assert_eq!(told(rig.say(&operator(), update("x", EnvelopePatch::default()))), gone);
}

/// K31: keys are set one by one, null deletes, and each change is a version.
#[test]
fn a_patch_sets_and_deletes_keys() {
    let mut rig = rig();
    let alice = user("alice");
    rig.say(&alice, update("e", outputs(&[("a", r#"{"x":1}"#), ("b", "{}")]))).unwrap();
    let metadata: Metadata = [(Arc::from("m"), json("7")), (Arc::from("n"), json("8"))].into();
    let patch = EnvelopePatch { metadata, ..outputs(&[("a", "null"), ("c", "{}")]) };
    rig.pass(5);
    rig.say(&alice, update("e", patch)).unwrap();
    let metadata: Metadata = [(Arc::from("m"), Json::NULL)].into();
    rig.say(&alice, update("e", EnvelopePatch { metadata, ..EnvelopePatch::default() })).unwrap();
    assert_eq!(told(rig.say(&alice, update("e", EnvelopePatch::default()))), "0 events");

    let envelope = rig.kernel.state().envelope(&env("e")).unwrap();
    assert_eq!(envelope.outputs.keys().cloned().collect::<Vec<_>>(), [key("b"), key("c")]);
    assert_eq!(envelope.newest_output(0).map(|(key, _)| key.clone()), Some(key("c")));
    assert_eq!(envelope.metadata, [(Arc::from("n"), json("8"))].into());
    assert_eq!((envelope.version, envelope.updated_at), (4, rig.now));
}

/// K31, K410: whoever expects another version is told which one there is.
#[test]
fn a_patch_for_another_version_is_refused() {
    let mut rig = rig();
    let alice = user("alice");
    let patch = || Box::new(outputs(&[("a", "{}")]));
    for version in 1..7 {
        let expected_version = Some(version);
        let body = CommandBody::UpdateEnvelope { id: env("e"), patch: patch(), expected_version };
        assert_eq!(told(rig.say(&alice, body)), "1 events");
    }
    let expected_version = Some(6);
    let body = CommandBody::UpdateEnvelope { id: env("e"), patch: patch(), expected_version };
    let refused = "version_conflict: envelope e is at version 7, not 6";
    assert_eq!(told(rig.say(&alice, body)), refused);
}

/// 2.4: stages are in one of three sets; the end is told once; errors and feedback are kept.
#[test]
fn stages_errors_and_the_end_are_kept() {
    let mut rig = rig();
    let alice = user("alice");
    let stages = |names: &[&str]| names.iter().map(|name| stage(name)).collect::<BTreeSet<_>>();
    let none = EnvelopePatch::default;
    let start = EnvelopePatch { start_stages: stages(&["a", "b", "c"]), ..none() };
    rig.say(&alice, update("e", start)).unwrap();
    let fail_stages: BTreeMap<_, _> = [(stage("b"), Arc::from("broken"))].into();
    let error = NewError { agent: None, stage: Some(stage("b")), error: Arc::from("broken") };
    let reason = TerminalReason::ToolFailedFatally;
    let patch = EnvelopePatch {
        complete_stages: stages(&["a"]),
        fail_stages,
        add_error: Some(error),
        add_feedback: texts(&["shorter"]),
        terminate: Some(Termination { reason, message: Arc::from("no more") }),
        ..none()
    };
    rig.say(&alice, update("e", patch)).unwrap();
    let reason = TerminalReason::Completed;
    let terminate = Some(Termination { reason, message: Arc::from("after all") });
    rig.say(&alice, update("e", EnvelopePatch { terminate, ..none() })).unwrap();

    let envelope = rig.kernel.state().envelope(&env("e")).unwrap();
    assert_eq!(envelope.active_stages, stages(&["c"]));
    assert_eq!(envelope.completed_stages, stages(&["a"]));
    assert_eq!(envelope.failed_stages, [(stage("b"), Arc::from("broken"))].into());
    assert_eq!(envelope.errors.iter().map(|error| error.at).collect::<Vec<_>>(), [rig.now]);
    assert_eq!(envelope.loop_feedback.iter().cloned().collect::<Vec<_>>(), texts(&["shorter"]));
    let ended = envelope.ended.as_ref().unwrap();
    assert_eq!((ended.reason, &*ended.message), (TerminalReason::ToolFailedFatally, "no more"));
}

fn goals(names: &[&str]) -> EnvelopePatch {
    EnvelopePatch { goals_init: texts(names), ..EnvelopePatch::default() }
}

fn advance(satisfied: &[&str]) -> EnvelopePatch {
    let (satisfied, summary) = (texts(satisfied), Arc::from("so far"));
    let advance = GoalsAdvance { satisfied, summary, plan: None, reset_outputs: vec![key("a")] };
    EnvelopePatch { goals_advance: Some(advance), ..EnvelopePatch::default() }
}

/// K33: a goal stage ends; the next one begins without its outputs, while goals remain.
#[test]
fn goals_advance_until_none_remains() {
    let mut rig = rig();
    let alice = user("alice");
    rig.say(&alice, update("e", goals(&["x", "y"]))).unwrap();
    rig.say(&alice, update("e", outputs(&[("a", "{}"), ("b", "{}")]))).unwrap();
    let refused = r#"bad_value: goals_advance.satisfied: "z" is not a goal"#;
    assert_eq!(told(rig.say(&alice, update("e", advance(&["z"])))), refused);

    assert!(advanced(&rig.say(&alice, update("e", advance(&["y"])))));
    let envelope = rig.kernel.state().envelope(&env("e")).unwrap();
    assert_eq!(envelope.goal_stage_number, 2);
    assert_eq!(envelope.remaining_goals, texts(&["x"]));
    assert_eq!(envelope.goal_status.get("y"), Some(&GoalStatus::Satisfied));
    assert!(!envelope.outputs.contains_key(&key("a")));
    assert!(envelope.outputs.contains_key(&key("b")));

    rig.say(&alice, update("e", outputs(&[("a", "{}")]))).unwrap();
    assert!(!advanced(&rig.say(&alice, update("e", advance(&["x"])))), "no goal remains");
    let envelope = rig.kernel.state().envelope(&env("e")).unwrap();
    assert_eq!((envelope.goal_stage_number, envelope.completed_goal_stages.len()), (2, 2));
    assert!(envelope.outputs.contains_key(&key("a")), "kept, as no stage begins");
}

/// K33: there are five goal stages at most.
#[test]
fn goals_do_not_advance_beyond_the_last_stage() {
    let mut rig = rig();
    let alice = user("alice");
    rig.say(&alice, update("e", goals(&["x"]))).unwrap();
    for _ in 1..5 {
        assert!(advanced(&rig.say(&alice, update("e", advance(&[])))));
    }
    assert!(!advanced(&rig.say(&alice, update("e", advance(&[])))));
    assert_eq!(rig.kernel.state().envelope(&env("e")).unwrap().goal_stage_number, 5);
    let twice = r#"bad_value: goals_init: "x" is there twice"#;
    assert_eq!(told(rig.say(&alice, update("e", goals(&["x", "x"])))), twice);
}

/// K34: a clone is a deep copy with a life of its own.
#[test]
fn a_clone_has_a_life_of_its_own() {
    let mut rig = rig();
    let alice = user("alice");
    rig.say(&alice, update("e", outputs(&[("a", "{}")]))).unwrap();
    rig.pass(7);
    let events = rig.say(&alice, CommandBody::CloneEnvelope { id: env("e") }).unwrap();
    let Body::Envelope { event: EnvelopeEvent::Cloned { id, from } } = &events[0].body else {
        panic!("not a clone: {events:?}");
    };
    assert_eq!(from, &env("e"));
    rig.say(&alice, update("e", outputs(&[("a", "null")]))).unwrap();
    let clone = rig.kernel.state().envelope(id).unwrap();
    assert_eq!((clone.version, &clone.cloned_from), (1, &Some(env("e"))));
    assert!(clone.outputs.contains_key(&key("a")));
    assert_eq!((clone.created_at, &clone.process), (rig.now, &None));
    let refused = "permission_denied: envelope e belongs to another user";
    let body = CommandBody::CloneEnvelope { id: env("e") };
    assert_eq!(told(rig.say(&user("bob"), body)), refused);
}

/// K25, K410: what passes a limit is refused, naming it, and nothing has changed.
#[test]
fn an_envelope_beyond_a_limit_is_refused() {
    let mut config = KernelConfig::new();
    config.limits.raw_input_bytes = 10;
    config.limits.envelope_bytes = 600;
    config.limits.json_bytes = 500;
    config.limits.json_depth = 2;
    config.limits.entries = 2;
    config.limits.text_bytes = 8;
    let mut rig = Rig::with(config);
    let alice = user("alice");
    let long = NewEnvelope { raw_input: "x".repeat(11), ..new("e") };
    let refused = "too_large: raw_input: 11 bytes, at most 10";
    assert_eq!(told(rig.say(&alice, create(long))), refused);
    let nul = NewEnvelope { raw_input: "ab\0".to_owned(), ..new("e") };
    assert_eq!(told(rig.say(&alice, create(nul))), "bad_value: raw_input: NUL at byte 2");
    let many = NewEnvelope { stage_order: ["a", "b", "c"].map(stage).to_vec(), ..new("e") };
    let refused = "too_many: stage_order: 3 entries, at most 2";
    assert_eq!(told(rig.say(&alice, create(many))), refused);
    assert_eq!(told(rig.say(&alice, create(new("e")))), "1 events");

    let text = format!("{{\"a\":\"{}\"}}", "x".repeat(400));
    let mut refused = |patch| told(rig.say(&alice, update("e", patch)));
    let large = format!("too_large: outputs.a: {} bytes, at most 500", text.len() + 100);
    let larger = format!("{{\"a\":\"{}\"}}", "x".repeat(500));
    assert_eq!(refused(outputs(&[("a", &larger)])), large);
    let deep = "too_deep: outputs.a: depth 3, at most 2";
    assert_eq!(refused(outputs(&[("a", r#"{"a":[[]]}"#)])), deep);
    let list = "bad_output: outputs.a: expected an object, got array";
    assert_eq!(refused(outputs(&[("a", "[1,2]")])), list);
    let goals = "too_long: goals_init: 9 bytes, at most 8";
    assert_eq!(refused(goals_of("123456789")), goals);
    assert!(refused(outputs(&[("a", &text)])).starts_with("too_large: envelope: "));
    assert_eq!(refused(outputs(&[("a", "{}"), ("b", "{}")])), "1 events");
    let many = "too_many: outputs: 3 entries, at most 2";
    assert_eq!(refused(outputs(&[("c", "{}")])), many, "all of them are counted");
    assert_eq!(refused(outputs(&[("c", "{}"), ("a", "null")])), "1 events");
}

fn goals_of(goal: &str) -> EnvelopePatch {
    goals(&[goal])
}

/// K27, K370: who holds the process that an envelope serves may change it.
#[test]
fn the_holder_of_its_process_may_change_an_envelope() {
    let mut rig = rig();
    rig.ready(&user("alice"), submit("p"));
    let patch = || update("e", outputs(&[("a", "{}")]));
    let refused = "permission_denied: envelope e belongs to another user";
    assert_eq!(told(rig.say(&worker("w"), patch())), refused);
    rig.say(&worker("w"), CommandBody::NextRunnable).unwrap();
    assert_eq!(told(rig.say(&worker("w"), patch())), refused, "it serves no process");
    let now = rig.now;
    rig.kernel.state.bind_envelope(now, &pid("p"), &env("e"));
    assert_eq!(told(rig.say(&worker("w"), patch())), "1 events");
    assert_eq!(told(rig.say(&worker("v"), patch())), refused);
}

/// K32: an envelope serves one process, and a process one envelope.
#[test]
fn an_envelope_serves_one_live_process_at_a_time() {
    let mut rig = rig();
    let alice = user("alice");
    rig.say(&alice, create(new("f"))).unwrap();
    for name in ["p", "q"] {
        rig.ready(&alice, submit(name));
    }
    let now = rig.now;
    let state = &mut rig.kernel.state;
    state.bind_envelope(now, &pid("p"), &env("e"));
    assert_eq!(state.bound_to(&env("e")), Some(&pid("p")));
    state.bind_envelope(now, &pid("p"), &env("f"));
    assert_eq!((state.bound_to(&env("e")), state.envelope_of(&pid("p"))), (None, Some(&env("f"))));
    state.bind_envelope(now, &pid("q"), &env("f"));
    assert_eq!((state.envelope_of(&pid("p")), state.bound_to(&env("f"))), (None, Some(&pid("q"))));
    let message = "enough".to_owned();
    rig.say(&alice, CommandBody::Terminate { pid: pid("q"), message, force: false }).unwrap();
    let state = rig.kernel.state();
    assert_eq!(state.bound_to(&env("f")), None, "its process is not live");
    assert_eq!(state.envelope_of(&pid("q")), Some(&env("f")), "and still has it");
}

/// K360, section 3: what serves no process goes an hour after its last change; what does goes with
/// its process.
#[test]
fn an_envelope_is_kept_while_its_process_is_or_for_an_hour() {
    let mut rig = rig();
    rig.kernel.state.config.cleanup_interval_ms = 1 << 40; // So that nothing goes by itself.
    let alice = user("alice");
    rig.say(&alice, create(new("f"))).unwrap();
    rig.ready(&alice, submit("p"));
    let now = rig.now;
    rig.kernel.state.bind_envelope(now, &pid("p"), &env("f"));
    rig.pass(3_599_999);
    assert_eq!(rig.kernel.state().envelopes_due_for_removal(rig.now, 9), []);
    rig.pass(1);
    assert_eq!(rig.kernel.state().envelopes_due_for_removal(rig.now, 9), [env("e")]);
    assert_eq!(rig.kernel.state().envelopes_due_for_removal(rig.now, 0), []);
    rig.say(&alice, update("e", outputs(&[("a", "{}")]))).unwrap();
    assert_eq!(rig.kernel.state().envelopes_due_for_removal(rig.now, 9), [], "it was changed");

    let message = "enough".to_owned();
    rig.say(&alice, CommandBody::Terminate { pid: pid("p"), message, force: true }).unwrap();
    assert!(rig.kernel.state().envelope(&env("f")).is_some(), "all is kept for reading (K85)");
    let before = rig.events.len();
    rig.say(&alice, CommandBody::CleanupProcess { pid: pid("p") }).unwrap();
    assert_eq!(rig.kinds(before), ["envelope.removed", "process.state_changed", "process.removed"]);
    assert_eq!(rig.kernel.state().envelope(&env("f")), None);
    assert!(rig.kernel.state().envelope(&env("e")).is_some());
}

/// K32: what a session owns of an envelope, and what it leaves to callers.
#[test]
fn outputs_stages_and_the_end_belong_to_a_session() {
    let none = EnvelopePatch::default;
    let reason = TerminalReason::Completed;
    let terminate = Some(Termination { reason, message: Arc::from("") });
    assert!(outputs(&[("a", "null")]).is_owned_by_session());
    assert!(EnvelopePatch { start_stages: [stage("a")].into(), ..none() }.is_owned_by_session());
    assert!(EnvelopePatch { complete_stages: [stage("a")].into(), ..none() }.is_owned_by_session());
    let fail_stages = [(stage("a"), Arc::from(""))].into();
    assert!(EnvelopePatch { fail_stages, ..none() }.is_owned_by_session());
    assert!(EnvelopePatch { terminate, ..none() }.is_owned_by_session());
    assert!(advance(&[]).is_owned_by_session(), "it deletes outputs");
    assert!(!goals(&["x"]).is_owned_by_session());
    let add_feedback = texts(&["x"]);
    assert!(!EnvelopePatch { add_feedback, ..none() }.is_owned_by_session());
}
