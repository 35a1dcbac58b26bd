//! Which command a line has: `{"<name>":{<fields>}}`, found by its name among those of all areas.
//!
//! Each area has an enum, whose variants are its commands and whose fields are theirs. What is
//! wrong is told with its place: ``do.reserve.lease_ms: invalid type: string "x", expected u64``.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::iter;
use std::time::Duration;

use machines::kernel::json::{Json, JsonLimits};
use machines::kernel::query::Query;
use machines::kernel::{CommandBody, Refusal};
use serde::de::value::{Error as Plain, MapAccessDeserializer, MapDeserializer};
use serde::de::{DeserializeOwned, Error, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::Value;

use super::Do;
use super::areas::{envelopes, executions, interrupts, node, queries, services, sessions};

/// What the lines of K394 may be, before the kernel's own limits are asked: as deep as a line can
/// be that is taken apart without filling the stack.
const LINE: JsonLimits = JsonLimits { depth: 127, bytes: 4 << 20, entries: 10_240 };

/// What is to be done, or told.
#[derive(Debug)]
pub(super) enum Body {
    Command(CommandBody),
    /// A command that is answered when what it began has ended.
    Agent(CommandBody),
    /// A command that leases tasks, and waits for one so long.
    Lease(CommandBody, Duration),
    Query(Query),
}

/// A command or a query in the words of its area.
#[derive(Debug)]
pub(super) enum Form {
    Process(Box<Do>),
    Envelope(Box<envelopes::Do>),
    Session(Box<sessions::Do>),
    Execution(Box<executions::Do>),
    Interrupt(Box<interrupts::Do>),
    Service(Box<services::Do>),
    Node(Box<node::Do>),
    Query(Box<queries::Ask>),
}

impl Form {
    /// Returns it in the kernel's words.
    ///
    /// # Errors
    ///
    /// What the kernel would refuse in an id, a name, a limit or JSON that is none.
    pub(super) fn body(self) -> Result<Body, Refusal> {
        Ok(match self {
            Self::Process(form) => Body::Command(form.body()?),
            Self::Envelope(form) => Body::Command(form.body()?),
            Self::Session(form) => Body::Command(form.body()?),
            Self::Execution(form) if form.is_agent() => Body::Agent(form.body()?),
            Self::Execution(form) => Body::Command(form.body()?),
            Self::Interrupt(form) => Body::Command(form.body()?),
            Self::Service(form) => match form.wait()? {
                None => Body::Command(form.body()?),
                Some(wait) => Body::Lease(form.body()?, wait),
            },
            Self::Node(form) => Body::Command(form.body()?),
            Self::Query(form) => Body::Query(form.query()?),
        })
    }

    fn read(value: &Value) -> Result<Self, String> {
        let name = name(value)?;
        let processes = names::<Do>();
        if processes.contains(&name) {
            return read(name, value).map(Self::Process);
        }
        if names::<envelopes::Do>().contains(&name) {
            return read(name, value).map(Self::Envelope);
        }
        if names::<sessions::Do>().contains(&name) {
            return read(name, value).map(Self::Session);
        }
        if names::<executions::Do>().contains(&name) {
            return read(name, value).map(Self::Execution);
        }
        if names::<interrupts::Do>().contains(&name) {
            return read(name, value).map(Self::Interrupt);
        }
        if names::<services::Do>().contains(&name) {
            return read(name, value).map(Self::Service);
        }
        if names::<node::Do>().contains(&name) {
            return read(name, value).map(Self::Node);
        }
        if names::<queries::Ask>().contains(&name) {
            return read(name, value).map(Self::Query);
        }
        let told: String = name.chars().take(64).collect();
        Err(format!("do: there is no command {told:?}; there are {}", all().join(", ")))
    }
}

/// Lists the names of all commands and queries, area by area.
fn all() -> Vec<&'static str> {
    let areas = [
        names::<Do>(),
        names::<envelopes::Do>(),
        names::<sessions::Do>(),
        names::<executions::Do>(),
        names::<interrupts::Do>(),
        names::<services::Do>(),
        names::<node::Do>(),
        names::<queries::Ask>(),
    ];
    areas.concat()
}

impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::read(&value).map_err(D::Error::custom)
    }
}

/// Checks a line as K24 wants JSON: above all, no key twice.
///
/// # Errors
///
/// `bad_json`, or a limit that it passes.
pub(crate) fn check(line: &[u8]) -> Result<(), Refusal> {
    Json::parse("line", line, &LINE).map(|_| ())
}

/// Returns the only key of an object.
fn name(value: &Value) -> Result<&str, String> {
    match value {
        Value::Object(fields) if fields.len() == 1 => {
            Ok(fields.keys().next().map_or("", String::as_str))
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            Err(r#"do: one command is needed, such as {"submit":{"pid":"p1"}}"#.to_owned())
        }
    }
}

/// Reads a command; tells which field is wrong.
fn read<T: DeserializeOwned>(name: &str, value: &Value) -> Result<Box<T>, String> {
    T::deserialize(value).map(Box::new).map_err(|told| match culprit::<T>(name, &value[name]) {
        Some(field) => format!("do.{name}.{field}: {told}"),
        None => format!("do.{name}: {told}"),
    })
}

/// Finds the field at which reading ends, or nothing if it ends behind the last one.
fn culprit<'a, T: Deserialize<'a>>(name: &str, fields: &'a Value) -> Option<&'a str> {
    let at = Cell::new(None);
    let fields = fields.as_object()?.iter();
    let fields = fields.map(|(field, value)| (field.as_str(), value));
    let looked = fields.inspect(|(field, _)| at.set(Some(*field))).chain(iter::from_fn(|| {
        at.set(None);
        None
    }));
    let command: MapDeserializer<'_, _, serde_json::Error> =
        MapDeserializer::new(iter::once((name, MapDeserializer::new(looked))));
    // It ends in an error, as it did before.
    let _ = T::deserialize(MapAccessDeserializer::new(command));
    at.get()
}

/// Lists the names of an enum's variants.
fn names<T: DeserializeOwned>() -> &'static [&'static str] {
    let names = Names(Cell::new(&[]));
    // It ends in an error, always: nothing is there to be read.
    let _ = T::deserialize(&names);
    names.0.get()
}

/// Takes down which variants an enum has.
#[derive(Debug)]
struct Names(Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for &Names {
    type Error = Plain;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Plain> {
        Err(Plain::custom("only enums have names"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Plain> {
        self.0.set(variants);
        Err(Plain::custom("only the names are wanted"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}
