//! Commands on envelopes (2.4, K30–K34).

use std::collections::BTreeMap;

use machines::kernel::envelopes::command::NewEnvelope;
use machines::kernel::envelopes::{EnvelopePatch, GoalsAdvance, NewError, Termination};
use machines::kernel::ids::{
    AgentName, EnvelopeId, OutputKey, RequestId, SessionId, StageName, UserId,
};
use machines::kernel::names::TerminalReason;
use machines::kernel::{CommandBody, Refusal};
use serde::Deserialize;
use serde_json::Value;

use super::{each, envelope, json, maybe, metadata, text, word};

/// What is to be done.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[expect(clippy::enum_variant_names, reason = "they are named as the commands of section 12")]
pub(crate) enum Do {
    CreateEnvelope(New),
    UpdateEnvelope { envelope_id: String, patch: Box<Patch>, expected_version: Option<u64> },
    CloneEnvelope { envelope_id: String },
}

/// A new envelope.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct New {
    envelope_id: Option<String>,
    raw_input: String,
    user_id: Option<String>,
    session_id: Option<String>,
    request_id: Option<String>,
    metadata: BTreeMap<String, Value>,
    stage_order: Vec<String>,
}

/// What is to change; what is absent stays.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Patch {
    outputs: BTreeMap<String, Value>,
    metadata: BTreeMap<String, Value>,
    start_stages: Vec<String>,
    complete_stages: Vec<String>,
    fail_stages: BTreeMap<String, String>,
    goals_init: Vec<String>,
    goals_advance: Option<Advance>,
    add_feedback: Vec<String>,
    add_error: Option<Noted>,
    terminate: Option<Over>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    #[serde(default)]
    satisfied: Vec<String>,
    summary: String,
    plan_id: Option<String>,
    #[serde(default)]
    reset_outputs: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Noted {
    agent: Option<String>,
    stage: Option<String>,
    error: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Over {
    reason: String,
    #[serde(default)]
    message: String,
}

impl Do {
    pub(crate) fn body(self) -> Result<CommandBody, Refusal> {
        Ok(match self {
            Self::CreateEnvelope(new) => CommandBody::CreateEnvelope(Box::new(new.asked()?)),
            Self::UpdateEnvelope { envelope_id, patch, expected_version } => {
                CommandBody::UpdateEnvelope {
                    id: envelope(&envelope_id)?,
                    patch: Box::new(patch.asked()?),
                    expected_version,
                }
            }
            Self::CloneEnvelope { envelope_id } => {
                CommandBody::CloneEnvelope { id: envelope(&envelope_id)? }
            }
        })
    }
}

impl New {
    pub(super) fn asked(self) -> Result<NewEnvelope, Refusal> {
        Ok(NewEnvelope {
            id: maybe(EnvelopeId::parse, "envelope_id", self.envelope_id.as_deref())?,
            raw_input: self.raw_input,
            user: maybe(UserId::parse, "user_id", self.user_id.as_deref())?,
            session: maybe(SessionId::parse, "session_id", self.session_id.as_deref())?,
            request: maybe(RequestId::parse, "request_id", self.request_id.as_deref())?,
            metadata: metadata(&self.metadata)?,
            stage_order: each(StageName::parse, "stage_order", &self.stage_order)?,
        })
    }
}

impl Patch {
    fn asked(self) -> Result<EnvelopePatch, Refusal> {
        let output = |(key, value): (&String, &Value)| {
            Ok((OutputKey::parse("outputs", key)?, json(&format!("outputs.{key}"), value)?))
        };
        let failed = |(stage, error): (String, String)| {
            Ok((StageName::parse("fail_stages", &stage)?, text(error)))
        };
        Ok(EnvelopePatch {
            outputs: self.outputs.iter().map(output).collect::<Result<_, Refusal>>()?,
            metadata: metadata(&self.metadata)?,
            start_stages: each(StageName::parse, "start_stages", &self.start_stages)?,
            complete_stages: each(StageName::parse, "complete_stages", &self.complete_stages)?,
            fail_stages: self
                .fail_stages
                .into_iter()
                .map(failed)
                .collect::<Result<_, Refusal>>()?,
            goals_init: self.goals_init.into_iter().map(text).collect(),
            goals_advance: self.goals_advance.map(Advance::asked).transpose()?,
            add_feedback: self.add_feedback.into_iter().map(text).collect(),
            add_error: self.add_error.map(Noted::asked).transpose()?,
            terminate: self.terminate.map(Over::asked).transpose()?,
        })
    }
}

impl Advance {
    fn asked(self) -> Result<GoalsAdvance, Refusal> {
        Ok(GoalsAdvance {
            satisfied: self.satisfied.into_iter().map(text).collect(),
            summary: text(self.summary),
            plan: self.plan_id.map(text),
            reset_outputs: each(OutputKey::parse, "reset_outputs", &self.reset_outputs)?,
        })
    }
}

impl Noted {
    fn asked(self) -> Result<NewError, Refusal> {
        Ok(NewError {
            agent: maybe(AgentName::parse, "add_error.agent", self.agent.as_deref())?,
            stage: maybe(StageName::parse, "add_error.stage", self.stage.as_deref())?,
            error: text(self.error),
        })
    }
}

impl Over {
    fn asked(self) -> Result<Termination, Refusal> {
        let (field, all) = ("terminate.reason", TerminalReason::ALL);
        let reason = word(field, all, TerminalReason::name, &self.reason)?;
        Ok(Termination { reason, message: text(self.message) })
    }
}
