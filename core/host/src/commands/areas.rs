//! The commands and queries of section 12 by area, as they stand in lines of JSON (K370).
//!
//! | module | commands |
//! |---|---|
//! | [`envelopes`] | envelopes (2.4) |
//! | [`sessions`] | the orchestrator (section 8) |
//! | [`executions`] | pipelines and agents that the node drives (8.4) |
//! | [`interrupts`] | questions to people, and approvals (section 6) |
//! | [`services`] | services, slots and dispatches (section 7) |
//! | [`node`] | rates, cleanup, drain, shutdown (sections 5 and 11) |
//! | [`queries`] | all that can be asked |
//!
//! Processes and budgets are in [`commands`](super) itself. Fields are named as in section 13;
//! where another name is taken as well, such as `to` for `new_state`, it stands beside the field.
//! JSON stands as it is, where the messages have bytes named `…_json`; `worker_id` is said once for
//! the line, as `worker`. What section 13 does not have is named as in section 12.

pub(super) mod envelopes;
pub(super) mod executions;
pub(super) mod interrupts;
pub(super) mod node;
pub(super) mod queries;
pub(super) mod services;
pub(super) mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use machines::kernel::ids::{Endpoint, EnvelopeId, InterruptId, ProcessId, ServiceName, UserId};
use machines::kernel::json::document::{self, Document};
use machines::kernel::json::{Json, JsonLimits};
use machines::kernel::process::Metadata;
use machines::kernel::{Code, Refusal};
use serde_json::Value;

/// Takes JSON as the kernel keeps it (K24). How large it may be is the kernel's to say.
pub(super) fn json(field: &str, value: &Value) -> Result<Json, Refusal> {
    Json::parse(field, value.to_string().as_bytes(), &JsonLimits::CEILING)
}

/// Takes JSON as configuration of the machines reads it.
fn configured<T: Document>(field: &str, value: &Value) -> Result<T, Refusal> {
    document::read(&json(field, value)?, field)
}

/// Takes what a caller keeps with a subject.
pub(super) fn metadata(values: &BTreeMap<String, Value>) -> Result<Metadata, Refusal> {
    let entry = |(key, value): (&String, &Value)| {
        Ok((Arc::from(key.as_str()), json(&format!("metadata.{key}"), value)?))
    };
    values.iter().map(entry).collect()
}

/// Takes an id or a name that may be absent, by the check of its type.
pub(super) fn maybe<T>(
    parse: fn(&str, &str) -> Result<T, Refusal>,
    field: &str,
    text: Option<&str>,
) -> Result<Option<T>, Refusal> {
    text.map(|text| parse(field, text)).transpose()
}

/// Takes several ids or names.
fn each<T, C: FromIterator<T>>(
    parse: fn(&str, &str) -> Result<T, Refusal>,
    field: &str,
    texts: &[String],
) -> Result<C, Refusal> {
    texts.iter().map(|text| parse(field, text)).collect()
}

/// Finds a value by its name.
pub(super) fn word<T: Copy>(
    field: &str,
    all: &[T],
    name_of: fn(T) -> &'static str,
    text: &str,
) -> Result<T, Refusal> {
    all.iter().copied().find(|one| name_of(*one) == text).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| name_of(*one)).collect();
        let told: String = text.chars().take(64).collect();
        let text = format!("{field}: {told:?} is none of {}", names.join(", "));
        Refusal::of_field(Code::BadValue, field, text)
    })
}

fn text(text: String) -> Arc<str> {
    Arc::from(text)
}

fn pid(text: &str) -> Result<ProcessId, Refusal> {
    ProcessId::parse("pid", text)
}

fn user(text: &str) -> Result<UserId, Refusal> {
    UserId::parse("user_id", text)
}

fn envelope(text: &str) -> Result<EnvelopeId, Refusal> {
    EnvelopeId::parse("envelope_id", text)
}

fn interrupt(text: &str) -> Result<InterruptId, Refusal> {
    InterruptId::parse("interrupt_id", text)
}

fn service(text: &str) -> Result<ServiceName, Refusal> {
    ServiceName::parse("service", text)
}

fn endpoint(text: Option<&str>) -> Result<Endpoint, Refusal> {
    Endpoint::parse("endpoint", text.unwrap_or_default())
}
