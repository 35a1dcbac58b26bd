//! Arbitrary JSON for property tests, together with the same value of another library.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::Json;

/// Keys from so few that they meet each other, and some that are hard to order or spell.
pub(crate) fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["", "a.b", "é", "\u{10000}", "\u{ffff}", "\"\\\n\u{1}"])
            .prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// Numbers that other libraries read exactly too: integers, eighths, and a few large ones.
pub(crate) fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3_i64..4).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-40_i32..40).prop_map(|eighths| {
            // Whole values are integers, as they are here.
            match eighths % 8 {
                0 => Value::from(eighths / 8),
                _ => Value::from(eighth(eighths)),
            }
        }),
    ]
}

/// An eighth as another library's number, without naming the type that machines do without.
fn eighth(eighths: i32) -> serde_json::Number {
    let text = format!(
        "{}{}.{:03}",
        if eighths < 0 { "-" } else { "" },
        eighths.abs() / 8,
        eighths.abs() % 8 * 125
    );
    serde_json::from_str(&text).unwrap()
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number(),
        key().prop_map(Value::from),
    ]
}

/// Any value, small.
pub(crate) fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..4)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The same value, ours.
pub(crate) fn ours(value: &Value) -> Json {
    match value {
        Value::Null => Json::NULL,
        Value::Bool(value) => Json::from(*value),
        Value::Number(number) => {
            let text = number.to_string();
            Json::parse("number", text.as_bytes(), &super::JsonLimits::DEFAULT).unwrap()
        }
        Value::String(text) => Json::from(text.as_str()),
        Value::Array(items) => Json::list(items.iter().map(ours).collect()),
        Value::Object(entries) => {
            Json::object(entries.iter().map(|(key, value)| (key.as_str(), ours(value))))
        }
    }
}

/// Parses what a test writes.
pub(crate) fn json(text: &str) -> Json {
    Json::parse("text", text.as_bytes(), &super::JsonLimits::DEFAULT)
        .unwrap_or_else(|refusal| panic!("{refusal}: {text}"))
}
