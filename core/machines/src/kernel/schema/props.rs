//! Goal: a schema takes just the values that JSON Schema takes.
//! Method: random small schemas and values, against a second validator over another library's JSON,
//! which asks for each keyword by itself and knows no order and no path.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::kernel::json::number::naive;
use crate::kernel::json::strategies::{number, ours, value};

fn keyword(inner: BoxedStrategy<Value>) -> impl Strategy<Value = (String, Value)> {
    let types = ["null", "boolean", "integer", "number", "string", "array", "object"];
    let kind = prop::sample::select(types.to_vec());
    let kinds = prop::collection::vec(kind.clone(), 1..4).prop_map(Value::from);
    let entries = prop::collection::vec(("[abc]", inner.clone()), 0..3);
    let entries = entries.prop_map(|entries| Value::Object(entries.into_iter().collect()));
    let names = prop::collection::vec("[abc]", 0..3).prop_map(Value::from);
    let values = prop::collection::vec(value(), 1..4).prop_map(Value::from);
    let schemas = prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from);
    let natural = (0_u32..4).prop_map(Value::from);
    let additional = prop_oneof![any::<bool>().prop_map(Value::from), inner.clone()];
    let named = |name: &'static str| move |value: Value| (name.to_owned(), value);
    prop_oneof![
        kind.prop_map(Value::from).prop_map(named("type")),
        kinds.prop_map(named("type")),
        values.prop_map(named("enum")),
        value().prop_map(named("const")),
        number().prop_map(named("minimum")),
        number().prop_map(named("maximum")),
        natural.clone().prop_map(named("minLength")),
        natural.clone().prop_map(named("maxLength")),
        natural.clone().prop_map(named("minItems")),
        natural.prop_map(named("maxItems")),
        inner.prop_map(named("items")),
        names.prop_map(named("required")),
        entries.prop_map(named("properties")),
        additional.prop_map(named("additionalProperties")),
        schemas.prop_map(named("anyOf")),
        value().prop_map(named("default")),
    ]
}

fn schema() -> impl Strategy<Value = Value> {
    Just(json!({})).boxed().prop_recursive(3, 12, 3, |inner| {
        prop::collection::vec(keyword(inner), 1..4)
            .prop_map(|keywords| Value::Object(keywords.into_iter().collect::<Map<_, _>>()))
    })
}

fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => naive::compare(left, right).is_eq(),
        (left, right) => left == right,
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match (kind.as_str().unwrap(), value) {
        ("null", Value::Null)
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_))
        | ("string", Value::String(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_)) => true,
        ("integer", Value::Number(number)) => naive::is_whole(number),
        _ => false,
    }
}

/// Says whether one keyword of `schema` takes the value.
fn takes(schema: &Value, keyword: &str, said: &Value, value: &Value) -> bool {
    let any = |schemas: &Value| schemas.as_array().unwrap().iter().any(|one| valid(one, value));
    let count = |count: usize| count as u64;
    let said_count = || said.as_u64().unwrap();
    match (keyword, value) {
        ("type", _) if said.is_array() => said.as_array().unwrap().iter().any(|one| is(one, value)),
        ("type", _) => is(said, value),
        ("enum", _) => said.as_array().unwrap().iter().any(|one| same(one, value)),
        ("const", _) => same(said, value),
        ("anyOf", _) => any(said),
        ("minimum", Value::Number(n)) => naive::compare(n, said.as_number().unwrap()).is_ge(),
        ("maximum", Value::Number(n)) => naive::compare(n, said.as_number().unwrap()).is_le(),
        ("minLength", Value::String(text)) => count(text.chars().count()) >= said_count(),
        ("maxLength", Value::String(text)) => count(text.chars().count()) <= said_count(),
        ("minItems", Value::Array(items)) => count(items.len()) >= said_count(),
        ("maxItems", Value::Array(items)) => count(items.len()) <= said_count(),
        ("items", Value::Array(items)) => items.iter().all(|item| valid(said, item)),
        ("required", Value::Object(object)) => {
            said.as_array().unwrap().iter().all(|key| object.contains_key(key.as_str().unwrap()))
        }
        ("properties", Value::Object(object)) => {
            let known = said.as_object().unwrap().iter();
            known
                .filter_map(|(key, schema)| Some((schema, object.get(key)?)))
                .all(|(schema, value)| valid(schema, value))
        }
        ("additionalProperties", Value::Object(object)) => {
            let known = |key: &String| schema["properties"].get(key).is_some();
            let mut others = object.iter().filter(|(key, _)| !known(key));
            match said.as_bool() {
                Some(allowed) => allowed || others.next().is_none(),
                None => others.all(|(_, value)| valid(said, value)),
            }
        }
        _ => true,
    }
}

fn valid(schema: &Value, value: &Value) -> bool {
    let keywords = schema.as_object().unwrap();
    keywords.iter().all(|(keyword, said)| takes(schema, keyword, said, value))
}

/// Follows a JSON pointer, to see that it leads somewhere.
fn at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    value.pointer(if pointer == "/" { "" } else { pointer })
}

proptest! {
    #[test]
    fn a_schema_takes_what_a_naive_one_takes(schema in schema(), value in value()) {
        let compiled = Schema::compile("schema", &ours(&schema)).unwrap();
        let told = compiled.check(&ours(&value));
        prop_assert_eq!(told.is_ok(), valid(&schema, &value), "{:?}", told);
        // What failed is there.
        if let Err(told) = told {
            let mut pointers = told.match_indices(": ").map(|(end, _)| &told[..end]);
            prop_assert!(pointers.any(|pointer| at(&value, pointer).is_some()), "{told}");
        }
    }

    /// Any JSON is compiled or refused; any value is taken or told what is wrong.
    #[test]
    fn arbitrary_schemas_do_no_harm(schema in value(), keys in schema(), value in value()) {
        for schema in [schema, keys] {
            if let Ok(compiled) = Schema::compile("schema", &ours(&schema)) {
                let _ = compiled.check(&ours(&value));
            }
        }
    }
}
