//! What is asked of envelopes (2.4).

use std::collections::BTreeMap;
use std::sync::Arc;

use machines::kernel::CommandBody;
use machines::kernel::envelopes::command::NewEnvelope;
use machines::kernel::envelopes::{EnvelopePatch, GoalsAdvance, NewError, Termination};
use machines::kernel::ids::{EnvelopeId, OutputKey, StageName};
use machines::kernel::json::Json;
use machines::kernel::names::TerminalReason;

use crate::draw::Draw;
use crate::steps::{CHOSEN, Names, Step, What, Who, u8_below, user};

/// An envelope: chosen ids are below [`CHOSEN`], the others count minted ones back from the newest.
type Eid = u8;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Paper {
    /// With an id, for somebody, of one of a few contents.
    Create(Option<Eid>, Option<u8>, u8),
    Update(Eid, Box<EnvelopePatch>, Option<u64>),
    Copy(Eid),
}

impl Names {
    pub(crate) fn envelope(&self, eid: Eid) -> EnvelopeId {
        let back = eid.checked_sub(CHOSEN).map(usize::from);
        let minted = back.and_then(|back| self.envelopes.iter().rev().nth(back));
        let chosen = || EnvelopeId::parse("envelope", &format!("e{eid}")).expect("an id");
        minted.cloned().unwrap_or_else(chosen)
    }

    /// The command that is meant.
    pub(crate) fn paper(&self, paper: &Paper) -> CommandBody {
        match paper {
            Paper::Create(id, of, content) => {
                let mut new = NewEnvelope {
                    id: id.map(|id| self.envelope(id)),
                    user: of.map(|of| user(&format!("u{of}"))),
                    raw_input: ["", "do", "do it", "\0"][usize::from(*content)].to_owned(),
                    ..NewEnvelope::default()
                };
                if *content == 2 {
                    new.stage_order = vec![stage(1), stage(0)];
                    new.metadata = BTreeMap::from([(Arc::from("a"), object())]);
                }
                CommandBody::CreateEnvelope(Box::new(new))
            }
            Paper::Update(id, patch, expected_version) => CommandBody::UpdateEnvelope {
                id: self.envelope(*id),
                patch: patch.clone(),
                expected_version: *expected_version,
            },
            Paper::Copy(id) => CommandBody::CloneEnvelope { id: self.envelope(*id) },
        }
    }
}

fn object() -> Json {
    Json::object::<&str>([])
}

fn stage(at: u8) -> StageName {
    StageName::parse("stage", &format!("stage{at}")).expect("a name")
}

fn goal(at: u8) -> Arc<str> {
    Arc::from(["eat", "sleep", "work", ""][usize::from(at)])
}

fn output(draw: &mut Draw) -> OutputKey {
    OutputKey::parse("output", draw.of(&["a", "b", "c", "d", "e", "f"])).expect("a name")
}

/// An object, nothing, or rarely what is neither.
fn value(draw: &mut Draw) -> Json {
    let some = Json::object([("n", Json::from(draw.of(&["1", "2"])))]);
    draw.of(&[some.clone(), some, object(), Json::NULL, Json::NULL])
}

/// A little of one thing or two.
fn patch(draw: &mut Draw) -> EnvelopePatch {
    let mut patch = EnvelopePatch::default();
    for _ in 0..draw.of(&[0, 1, 1, 1, 2, 3]) {
        let at = u8_below(draw, 3);
        match draw.below(12) {
            0..3 => {
                let bad = draw.percent(4).then(|| Json::list(vec![]));
                patch.outputs.insert(output(draw), bad.unwrap_or_else(|| value(draw)));
            }
            3 | 4 => {
                patch.metadata.insert(Arc::from(draw.of(&["a", "b", "c"])), value(draw));
            }
            5 => drop(patch.start_stages.insert(stage(at))),
            6 => drop(patch.complete_stages.insert(stage(at))),
            7 => drop(patch.fail_stages.insert(stage(at), Arc::from("broken"))),
            8 => {
                let some = 1 + draw.below(3);
                let bad = draw.percent(6);
                let most = if bad { 4 } else { 3 };
                patch.goals_init = (0..some).map(|_| goal(u8_below(draw, most))).collect();
                if !bad {
                    patch.goals_init.sort();
                    patch.goals_init.dedup();
                }
            }
            9 => {
                let some = draw.below(3);
                patch.goals_advance = Some(GoalsAdvance {
                    satisfied: (0..some).map(|_| goal(u8_below(draw, 3))).collect(),
                    summary: Arc::from("so"),
                    plan: draw.percent(50).then(|| Arc::from("plan")),
                    reset_outputs: if draw.percent(60) { vec![output(draw)] } else { vec![] },
                });
            }
            10 => {
                patch.add_feedback = feedback(draw.of(&[1, 1, 2, 3]), u64::from(at));
                let (agent, stage) = (None, draw.percent(50).then(|| stage(at)));
                patch.add_error = Some(NewError { agent, stage, error: Arc::from("oh") });
            }
            _ => {
                let reason = draw.of(TerminalReason::ALL);
                patch.terminate = Some(Termination { reason, message: Arc::from("done") });
            }
        }
    }
    patch
}

fn feedback(count: u64, from: u64) -> Vec<Arc<str>> {
    (from..from + count).map(|n| Arc::from(n.to_string())).collect()
}

/// A change of what sessions and approvals look at.
pub(crate) fn metadata(draw: &mut Draw, eid: Eid) -> Paper {
    let value = draw.of(&[Json::from("x"), Json::from("y"), Json::NULL]);
    let metadata = BTreeMap::from([(Arc::from("a"), value)]);
    Paper::Update(eid, Box::new(EnvelopePatch { metadata, ..EnvelopePatch::default() }), None)
}

/// Whose an envelope mostly is.
fn owner(eid: Eid) -> Who {
    Who::User(eid % 3, 0)
}

/// Draws a step on envelopes; `versions` is what those chosen may be at.
pub(crate) fn paper(draw: &mut Draw, versions: &mut BTreeMap<Eid, u64>) -> Step {
    let eid = if draw.percent(75) { u8_below(draw, CHOSEN) } else { CHOSEN + u8_below(draw, 3) };
    let others = [Who::User(u8_below(draw, 3), 0), Who::Operator, Who::Worker(1), Who::Node];
    let who = if draw.percent(80) { owner(eid) } else { draw.of(&others) };
    let known = versions.contains_key(&eid);
    let paper = match draw.below(20) {
        0..3 => None,
        3..17 if known || draw.percent(15) => {
            let version = versions.entry(eid).or_insert(1);
            let expected = draw.percent(50).then(|| version.saturating_sub(draw.of(&[0, 0, 0, 1])));
            *version += 1;
            Some(Paper::Update(eid, Box::new(patch(draw)), expected))
        }
        17..20 if known => Some(Paper::Copy(eid)),
        _ => None,
    };
    let paper = paper.unwrap_or_else(|| {
        let chosen = (eid < CHOSEN).then_some(eid);
        versions.entry(eid).or_insert(1);
        let of = draw.percent(8).then(|| u8_below(draw, 3));
        Paper::Create(chosen, of, draw.of(&[0, 1, 1, 2, 2, 2, 3]))
    });
    Step::Do(who, What::Paper(paper))
}

/// An envelope that is told more than it keeps (K30).
pub(crate) fn full(draw: &mut Draw, versions: &mut BTreeMap<Eid, u64>) -> Vec<Step> {
    versions.insert(0, 3);
    let more = |count| {
        let add_feedback = feedback(count, 0);
        Paper::Update(0, Box::new(EnvelopePatch { add_feedback, ..EnvelopePatch::default() }), None)
    };
    let papers = [Paper::Create(Some(0), None, 1), more(1_000), more(draw.of(&[24, 25, 700]))];
    papers.into_iter().map(|paper| Step::Do(owner(0), What::Paper(paper))).collect()
}
