//! Who asks for leave, and the people who answer: late, twice, at the last moment, to something
//! else than is there by now.

use std::collections::VecDeque;
use std::sync::Arc;

use machines::Choices;
use machines::kernel::CommandBody;
use machines::kernel::envelopes::EnvelopePatch;
use machines::kernel::expression::{FieldRef, Path};
use machines::kernel::ids::{EnvelopeId, InterruptId, UserId};
use machines::kernel::interrupts::interrupt::{Interrupt, NewInterrupt, NewTarget, Response};
use machines::kernel::json::{Json, JsonLimits};
use machines::kernel::names::{ExpiryPolicy, InterruptKind};
use machines::kernel::pipeline::PipelineConfig;
use machines::kernel::pipeline::limits::FlowLimits;
use machines::kernel::process::Metadata;
use machines::kernel::sessions::Pipeline;
use machines::kernel::sessions::report::Report;
use machines::kernel::sessions::task::AgentTask;

use super::people::Asked;
use super::workers::{ACTION, payment};
use super::{Flows, Part, place};
use crate::keeper::io::Script;

/// How many questions are remembered, and answers.
const REMEMBERED: usize = 48;
/// How near to its expiry somebody wakes up, in milliseconds.
const LAST_MOMENT: u64 = 2;
/// How long after it somebody still tries.
const LATE: u64 = 800;
/// What of the envelope is bound.
const BOUND: &str = "price";

/// A question, as those who answer know it.
#[derive(Clone, Debug)]
struct Petition {
    asked: Asked,
    user: UserId,
    envelope: Option<EnvelopeId>,
    /// The wall clock of the node then; 0 is never.
    expires_ms: u64,
}

/// What people know of questions.
#[derive(Clone, Debug, Default)]
pub(super) struct Petitions {
    known: VecDeque<Petition>,
    /// What was answered, to be said again.
    said: VecDeque<(InterruptId, Response, UserId)>,
}

impl Petitions {
    pub(super) fn note(&mut self, interrupt: &Interrupt) {
        if self.known.iter().any(|known| known.asked.id == interrupt.id) {
            return;
        }
        self.known.push_back(Petition {
            asked: Asked::of(interrupt),
            user: interrupt.user.clone(),
            envelope: interrupt.envelope.clone(),
            expires_ms: interrupt.expires_at.map_or(0, |at| at.as_millis()),
        });
        if self.known.len() > REMEMBERED {
            self.known.pop_front();
        }
    }

    fn said(&mut self, id: &InterruptId, response: &Response, user: &UserId) {
        self.said.push_back((id.clone(), response.clone(), user.clone()));
        if self.said.len() > REMEMBERED {
            self.said.pop_front();
        }
    }
}

impl Flows {
    /// Whether the crowd is here to ask and to answer.
    pub(super) fn asks_leave(&self) -> bool {
        self.work.script == Script::Approvals
    }

    /// What one of those who answer says now, if it is its hour.
    pub(super) fn petition(
        &mut self,
        caller: u32,
        wall_ms: u64,
        choices: &mut Choices,
    ) -> Option<CommandBody> {
        let by = match Part::of(&self.work, caller) {
            Part::Worker => return None,
            _ if !self.asks_leave() => return None,
            Part::Operator => None,
            Part::User(_) => Some(Part::of(&self.work, caller).principal(caller).user),
        };
        let who = [u64::from(caller), 9];
        let own = |user: &UserId| by.as_ref().is_none_or(|by| by == user);
        let mine = |petition: &&Petition| own(&petition.user);
        let mut known = self.petitions.known.iter().rev().filter(mine);
        let soon = |at: u64| at <= wall_ms + LAST_MOMENT && wall_ms <= at + LAST_MOMENT;
        let found = match choices.choose("petition.hour", who, 8) {
            0..=3 => known.find(|petition| soon(petition.expires_ms)),
            4 => known.find(|petition| {
                petition.expires_ms < wall_ms && wall_ms < petition.expires_ms + LATE
            }),
            5 => {
                let nth = choices.choose("petition.again", who, 4);
                let said = self.petitions.said.iter().rev();
                let said = said.filter(|(_, _, user)| own(user)).nth(place(nth))?;
                let (id, response) = (said.0.clone(), Box::new(said.1.clone()));
                return Some(CommandBody::ResolveInterrupt { id, response });
            }
            6 => {
                let nth = choices.choose("petition.change", who, 3);
                let id = known.nth(place(nth))?.envelope.clone()?;
                return Some(change(id, who, choices));
            }
            _ => None,
        };
        let found = found?.clone();
        let response = found.asked.answer(who, choices);
        self.petitions.said(&found.asked.id, &response, &found.user);
        let (id, response) = (found.asked.id, Box::new(response));
        Some(CommandBody::ResolveInterrupt { id, response })
    }
}

/// Changes what questions bind.
fn change(id: EnvelopeId, who: [u64; 2], choices: &mut Choices) -> CommandBody {
    let price = Json::from(choices.choose("petition.price", who, 3));
    let metadata = Metadata::from([(Arc::from(BOUND), price)]);
    let patch = Box::new(EnvelopePatch { metadata, ..EnvelopePatch::default() });
    CommandBody::UpdateEnvelope { id, patch, expected_version: None }
}

/// Makes of a report what a pipeline of leaves can tell: outputs that merge, words for a routed
/// question, and often a question of its own.
pub(super) fn color(report: &mut Report, task: &AgentTask, who: [u64; 2], choices: &mut Choices) {
    if !report.success {
        return;
    }
    let (stage, value) = (task.stage.as_str(), choices.choose("petition.value", who, 4));
    let target = Json::object([
        ("action", Json::from(ACTION)),
        ("params", payment(10)),
        ("binds", Json::list(vec![binds()])),
    ]);
    report.output = Some(Json::object([
        ("v", Json::from(value)),
        ("notes", Json::from(stage)),
        ("facts", Json::object([(format!("f{value}"), Json::from(stage))])),
        ("last", Json::from(stage)),
        ("question", Json::from("which?")),
        ("target", target),
    ]));
    // Who has just been answered goes on.
    let often = if task.interrupt.is_some() { 6 } else { 2 };
    let asks = ["pay", "book", "a", "b"].contains(&stage);
    if report.interrupt.is_none() && asks && choices.choose("petition.ask", who, often) == 1 {
        report.interrupt = Some(Box::new(question(who, choices)));
    }
}

/// Where the price stands, as a target names it.
fn binds() -> Json {
    Json::object([("scope", Json::from("Meta")), ("path", Json::from(BOUND))])
}

/// What a stage asks a person, who has little time.
fn question(who: [u64; 2], choices: &mut Choices) -> NewInterrupt {
    let kinds = [
        InterruptKind::Confirmation,
        InterruptKind::AgentReview,
        InterruptKind::Confirmation,
        InterruptKind::Clarification,
    ];
    let kind = kinds[place(choices.choose("petition.kind", who, 4))];
    let mut new = NewInterrupt::new(kind);
    new.question = Some(Arc::from("may I?"));
    new.ttl = Some(60 + choices.choose("petition.ttl", who, 600));
    if kind.asks_leave() {
        let path = Path::parse(BOUND).expect("a key is a path");
        let binds = match choices.choose("petition.binds", who, 3) {
            0 => vec![FieldRef::Meta(path)],
            1 => vec![FieldRef::Meta(path), FieldRef::Current(Path::default())],
            _ => Vec::new(),
        };
        let (action, params) = (Arc::from(ACTION), payment(10));
        new.target = Some(Box::new(NewTarget { action, params, binds }));
    }
    let clarifies = kind == InterruptKind::Clarification;
    new.on_expiry = match choices.choose("petition.expiry", who, 6) {
        0 | 1 => Some(ExpiryPolicy::Escalate),
        2 => Some(ExpiryPolicy::Fail),
        3 if clarifies => Some(ExpiryPolicy::Continue),
        3 => Some(ExpiryPolicy::Deny),
        _ => None,
    };
    new
}

/// Draws a pipeline in which people have their say.
pub(super) fn drawn(who: [u64; 2], choices: &mut Choices) -> Pipeline {
    let mut pick = |of: &[&'static str]| {
        let most = of.len() as u64;
        of[place(choices.choose("petition.pipeline", who, most))]
    };
    let denied = pick(&["", ", 'denied_stage': 'sorry'", ", 'denied_stage': 'sorry'"]);
    let confirmed = pick(&["", ", 'confirmation_resume_stage': 'book'"]);
    let reviewed = pick(&["", ", 'agent_review_resume_stage': 'book'"]);
    let clarified = pick(&["", ", 'clarification_resume_stage': 'look'"]);
    let agent = |name: &str, more: &str| {
        let config = format!("{{'name': '{name}', 'has_llm': true, 'model_role': 'fast'}}");
        let care = "'timeout_ms': 2500, 'retry': {'max_retries': 1, 'initial_backoff_ms': 100}";
        format!("{{'name': '{name}', 'agent_config': {config}, {care}{more}}}")
    };
    let always = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let middle = match pick(&["line", "route", "fork", "fork"]) {
        "line" => agent("look", ", 'default_next': 'pay'"),
        "route" => {
            let to = match confirmed {
                "" => "pay",
                _ => "confirmation",
            };
            agent("look", &format!(", 'default_next': '{to}'"))
        }
        _ => {
            let rules = [always("a"), always("b"), always("c")].join(", ");
            let split = format!(
                "{{'name': 'split', 'node_kind': 'Fork', 'routing': [{rules}], \
                 'default_next': 'pay', 'error_next': 'book'}}"
            );
            let branches = ["a", "b", "c"].map(|name| agent(name, "")).join(", ");
            format!("{}, {split}, {branches}", agent("look", ", 'default_next': 'split'"))
        }
    };
    let pay = agent("pay", ", 'default_next': 'book'");
    let (book, sorry) = (agent("book", ""), agent("sorry", ""));
    let text = format!(
        "{{'name': 'leave', 'max_iterations': 4, 'max_llm_calls': -1{denied}{confirmed}{reviewed}\
         {clarified}, 'state_schema': [{{'key': 'notes', 'merge': 'Append'}}, \
         {{'key': 'facts', 'merge': 'MergeDict'}}, {{'key': 'last', 'merge': 'Replace'}}], \
         'stages': [{middle}, {pay}, {book}, {sorry}]}}"
    );
    let text = text.replace('\'', "\"");
    let json = Json::parse("pipeline", text.as_bytes(), &JsonLimits::DEFAULT);
    let config = PipelineConfig::parse(&json.expect("it is JSON"), &FlowLimits::DEFAULT);
    Pipeline::new(config.unwrap_or_else(|refusal| panic!("{refusal}: {text}")))
}
