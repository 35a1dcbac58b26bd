//! Goal: the size of an envelope is that of its bytes, whatever happens to it (K25, K30).
//! Method: random changes, as sessions and callers make them, and the bytes counted after each.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::change::{Completion, Progress};
use super::{
    Content, Envelope, EnvelopePatch, GoalsAdvance, NewError, ProcessingRecord, RecordStatus,
    Termination,
};
use crate::codec::Wire;
use crate::kernel::ids::{
    AgentName, AttemptId, EnvelopeId, OutputKey, ProcessId, RequestId, SessionId, StageName, UserId,
};
use crate::kernel::json::Json;
use crate::kernel::names::TerminalReason;
use crate::kernel::quota::Limit;
use crate::kernel::time::Time;

#[derive(Clone, Debug)]
enum Change {
    Save(OutputKey, Json),
    Delete(OutputKey),
    Merge(Arc<str>, Json),
    Start(StageName),
    Complete(StageName),
    Fail(StageName, Arc<str>),
    Attempt(u8, StageName),
    Completed(u8, Option<Arc<str>>),
    Feedback(Arc<str>),
    PutAway(Vec<OutputKey>),
    Begin(Vec<StageName>),
    Stage(Option<StageName>),
    Visits(StageName, u64),
    Patch(Box<EnvelopePatch>),
    Bind(bool),
    Copy,
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-d\"]{0,6}".prop_map(Arc::from)
}

fn goal() -> impl Strategy<Value = Arc<str>> {
    "[a-e]".prop_map(Arc::from)
}

fn stage() -> impl Strategy<Value = StageName> {
    "[a-e]{1,2}".prop_map(|name| StageName::parse("stage", &name).unwrap())
}

fn key() -> impl Strategy<Value = OutputKey> {
    "[a-e]{1,2}".prop_map(|name| OutputKey::parse("key", &name).unwrap())
}

fn payload() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(Json::NULL),
        text().prop_map(Json::from),
        (text(), any::<u32>()).prop_map(|(key, value)| Json::object([(key, value.into())])),
    ]
}

fn patch() -> impl Strategy<Value = EnvelopePatch> {
    use prop::collection::vec;
    let goals = (vec(goal(), 0..3), vec(key(), 0..3), text(), any::<bool>());
    let advance = prop::option::of(goals.prop_map(|(satisfied, reset_outputs, summary, plan)| {
        let plan = plan.then(|| summary.clone());
        GoalsAdvance { satisfied, summary, plan, reset_outputs }
    }));
    let outputs = prop::collection::btree_map(key(), payload(), 0..3);
    let metadata = prop::collection::btree_map(text(), payload(), 0..3);
    let sets = (outputs, metadata, vec(goal(), 0..4), advance);
    let rest = (vec(text(), 0..3), prop::option::of(stage()), any::<bool>());
    (sets, rest).prop_map(|((outputs, metadata, goals_init, goals_advance), rest)| {
        let (add_feedback, failed, over) = rest;
        let error = |stage| NewError { agent: None, stage: Some(stage), error: Arc::from("x") };
        let reason = TerminalReason::Completed;
        EnvelopePatch {
            outputs,
            metadata,
            start_stages: failed.iter().cloned().collect(),
            goals_init,
            goals_advance,
            add_feedback,
            add_error: failed.map(error),
            terminate: over.then(|| Termination { reason, message: Arc::from("done") }),
            ..EnvelopePatch::default()
        }
    })
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (key(), payload()).prop_map(|(key, value)| Change::Save(key, value)),
        key().prop_map(Change::Delete),
        (text(), payload()).prop_map(|(key, value)| Change::Merge(key, value)),
        stage().prop_map(Change::Start),
        stage().prop_map(Change::Complete),
        (stage(), text()).prop_map(|(stage, error)| Change::Fail(stage, error)),
        (0..4_u8, stage()).prop_map(|(attempt, stage)| Change::Attempt(attempt, stage)),
        (0..4_u8, prop::option::of(text())).prop_map(|(id, error)| Change::Completed(id, error)),
        text().prop_map(Change::Feedback),
        prop::collection::vec(key(), 0..4).prop_map(Change::PutAway),
        prop::collection::vec(stage(), 0..4).prop_map(Change::Begin),
        prop::option::of(stage()).prop_map(Change::Stage),
        (stage(), any::<u64>()).prop_map(|(stage, visits)| Change::Visits(stage, visits)),
        patch().prop_map(|patch| Change::Patch(Box::new(patch))),
        any::<bool>().prop_map(Change::Bind),
        Just(Change::Copy),
    ]
}

fn attempt(id: u8) -> AttemptId {
    AttemptId::parse("attempt", &format!("att_{id}")).unwrap()
}

fn record(id: u8, stage: StageName) -> ProcessingRecord {
    ProcessingRecord {
        agent: AgentName::parse("agent", "a").unwrap(),
        stage,
        visit: 1,
        try_number: 1,
        attempt: attempt(id),
        started_at: Time::from_millis(3),
        completed_at: None,
        duration_ms: 0,
        status: RecordStatus::Running,
        error: None,
        llm_calls: 0,
    }
}

pub(super) fn empty() -> Envelope {
    let request = RequestId::parse("request", "r").unwrap();
    let user = UserId::parse("user", "alice").unwrap();
    let session = SessionId::parse("session", "s").unwrap();
    Envelope::of(Content::new((request, user, session), Time::from_millis(1)))
}

/// Changes an envelope; where its growth was foretold, returns that.
fn change_it(envelope: &mut Envelope, change: Change) -> Option<i64> {
    let now = Time::from_millis(9);
    match change {
        Change::Save(key, value) => {
            let growth = envelope.growth_by_output(&key, &value);
            envelope.save_output(&key, &value);
            return Some(growth);
        }
        Change::Merge(key, value) => {
            let growth = envelope.growth_by_state(&key, &value);
            envelope.merge_state(&[(key, value)]);
            return Some(growth);
        }
        Change::Delete(key) => envelope.delete_output(&key),
        Change::Start(stage) => envelope.start_stage(&stage),
        Change::Complete(stage) => envelope.complete_stage(&stage),
        Change::Fail(stage, error) => envelope.fail_stage(&stage, &error),
        Change::Attempt(id, stage) => envelope.push_history(record(id, stage)),
        Change::Completed(id, error) => {
            let completion = Completion { status: RecordStatus::Error, error, llm_calls: 1 };
            envelope.complete_history(now, &attempt(id), completion);
        }
        Change::Feedback(text) => envelope.push_feedback(&text),
        Change::PutAway(keys) => envelope.put_away(&keys, 1),
        Change::Begin(stage_order) => {
            let max_iterations = Limit::UNLIMITED;
            envelope.begin(Progress { stage_order, max_iterations, parallel_mode: true });
        }
        Change::Stage(stage) => envelope.set_stage(stage),
        Change::Visits(stage, visits) => envelope.set_visits(&stage, visits),
        Change::Patch(patch) => drop(envelope.patch(now, &patch)),
        Change::Bind(bind) => {
            envelope.bind(bind.then(|| ProcessId::parse("pid", "prc_1").unwrap()));
        }
        Change::Copy => {
            let from = EnvelopeId::parse("envelope", "env_1").unwrap();
            *envelope = envelope.copy_of(&from, now);
        }
    }
    None
}

proptest! {
    /// K25: the size is kept up with every change, and comes back from the bytes; what is said to
    /// be the growth is.
    #[test]
    fn the_size_of_an_envelope_is_that_of_its_bytes(
        changes in prop::collection::vec(change(), 0..40),
    ) {
        let mut envelope = empty();
        for change in changes {
            let before = envelope.bytes();
            if let Some(growth) = change_it(&mut envelope, change.clone()) {
                let after = i64::try_from(envelope.bytes()).unwrap();
                prop_assert_eq!(after - i64::try_from(before).unwrap(), growth);
            }
            let bytes = envelope.to_bytes();
            prop_assert_eq!(envelope.bytes(), bytes.len() as u64, "after {:?}", change);
            prop_assert_eq!(Envelope::from_bytes(&bytes), Ok(envelope.clone()));
        }
    }
}

/// K30: the newest 1,024 entries are kept, and how many there were before them is known.
#[test]
fn a_list_keeps_its_newest_entries_and_counts_the_others() {
    let mut envelope = empty();
    for number in 0..1_030 {
        envelope.push_feedback(&Arc::from(format!("{number}")));
    }
    let kept = &envelope.loop_feedback;
    assert_eq!((kept.len(), kept.dropped()), (1_024, 6));
    assert_eq!(kept.iter().next().map(|text| &**text), Some("6"));
    assert_eq!(envelope.bytes(), envelope.to_bytes().len() as u64);
    assert_eq!(envelope.outputs, BTreeMap::new());
}
