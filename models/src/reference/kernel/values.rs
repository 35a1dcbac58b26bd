//! What the rules say of JSON: routing (K260–K264), schemas (K280), the state (K281), the
//! characters of an inference (K120) and what an approval binds (K168). Read from the rules, not
//! from the machine: slow, and plain.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use machines::kernel::expression::{Comparison, FieldRef, RoutingExpr};
use machines::kernel::ids::{OutputKey, ProcessId};
use machines::kernel::json::Json;
use machines::kernel::pipeline::StateField;
use machines::kernel::pipeline::kinds::MergeRule;

/// What the fields of an expression are looked up in.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "named as the scopes of 2.5")]
pub struct Fields {
    pub current: Option<Json>,
    pub outputs: BTreeMap<OutputKey, Json>,
    pub state: BTreeMap<Arc<str>, Json>,
    pub meta: BTreeMap<Arc<str>, Json>,
    pub interrupt: Option<Json>,
    /// Whether `Neq` of what is missing is true: a mistake on purpose (K263).
    pub missing_differs: bool,
}

impl Fields {
    /// Looks a field up; what is there may be null.
    #[must_use]
    pub fn find(&self, field: &FieldRef) -> Option<&Json> {
        let keys = field.path().keys();
        let (start, rest) = match field {
            FieldRef::Current(_) => (self.current.as_ref(), keys),
            FieldRef::Output { key, .. } => (self.outputs.get(key), keys),
            FieldRef::State(_) => (self.state.get(keys.first()?), &keys[1..]),
            FieldRef::Meta(_) => (self.meta.get(keys.first()?), &keys[1..]),
            FieldRef::Interrupt(_) => (self.interrupt.as_ref(), keys),
        };
        rest.iter().try_fold(start?, |at, key| at.get(key))
    }

    /// Says whether an expression is true.
    #[must_use]
    pub fn holds(&self, expr: &RoutingExpr) -> bool {
        let there = |field: &FieldRef| self.find(field).filter(|value| !value.is_null());
        match expr {
            RoutingExpr::Always => true,
            RoutingExpr::Not(expr) => !self.holds(expr),
            RoutingExpr::And(exprs) => exprs.iter().all(|expr| self.holds(expr)),
            RoutingExpr::Or(exprs) => exprs.iter().any(|expr| self.holds(expr)),
            RoutingExpr::Exists(field) => there(field).is_some(),
            RoutingExpr::NotExists(field) => there(field).is_none(),
            RoutingExpr::Compare { op, field, value } => match there(field) {
                None => *op == Comparison::Neq && self.missing_differs,
                Some(found) => compares(*op, found, value),
            },
        }
    }
}

/// K264.
fn compares(op: Comparison, found: &Json, value: &Json) -> bool {
    let order = || ordered(found, value);
    match op {
        Comparison::Eq => same(found, value),
        Comparison::Neq => !same(found, value),
        Comparison::Gt => order() == Some(Ordering::Greater),
        Comparison::Lt => order() == Some(Ordering::Less),
        Comparison::Gte => matches!(order(), Some(Ordering::Greater | Ordering::Equal)),
        Comparison::Lte => matches!(order(), Some(Ordering::Less | Ordering::Equal)),
        Comparison::Contains => {
            if let (Some(text), Some(part)) = (found.as_str(), value.as_str()) {
                return text.contains(part);
            }
            if let Some(items) = found.as_list() {
                return items.iter().any(|item| same(item, value));
            }
            value.as_str().is_some_and(|key| found.get(key).is_some())
        }
    }
}

/// Two numbers by value, or two texts by bytes.
fn ordered(one: &Json, other: &Json) -> Option<Ordering> {
    if let (Some(one), Some(other)) = (one.as_i64(), other.as_i64()) {
        return Some(one.cmp(&other));
    }
    if let (Some(one), Some(other)) = (float(one), float(other)) {
        return one.partial_cmp(&other);
    }
    Some(one.as_str()?.as_bytes().cmp(other.as_str()?.as_bytes()))
}

fn float(json: &Json) -> Option<f64> {
    json.as_number()?;
    json.to_string().parse().ok()
}

/// Same type and value; what is in lists and objects by canonical bytes.
fn same(one: &Json, other: &Json) -> bool {
    if one.as_number().is_some() && other.as_number().is_some() {
        return ordered(one, other) == Some(Ordering::Equal);
    }
    one.to_string() == other.to_string()
}

/// Says whether a value is as a schema wants it (K280).
#[must_use]
pub fn fits(schema: &Json, value: &Json) -> bool {
    let Some(keywords) = schema.as_object() else {
        return true;
    };
    keywords.iter().all(|(keyword, told)| keyword_fits(schema, (keyword, told), value))
}

fn keyword_fits(schema: &Json, (keyword, told): (&str, &Json), value: &Json) -> bool {
    let number = |json: &Json| json.as_u64().unwrap_or(0);
    let items = value.as_list();
    let text = value.as_str().map(|text| text.chars().count() as u64);
    let count = items.map(|items| items.len() as u64);
    let entries = value.as_object();
    match keyword {
        "type" => match told.as_list() {
            Some(types) => types.iter().any(|name| is_of(name, value)),
            None => is_of(told, value),
        },
        "enum" => told.as_list().is_some_and(|all| all.iter().any(|one| same(one, value))),
        "const" => same(told, value),
        "minimum" => float(value).is_none() || ordered(value, told) != Some(Ordering::Less),
        "maximum" => float(value).is_none() || ordered(value, told) != Some(Ordering::Greater),
        "minLength" => text.is_none_or(|length| length >= number(told)),
        "maxLength" => text.is_none_or(|length| length <= number(told)),
        "minItems" => count.is_none_or(|count| count >= number(told)),
        "maxItems" => count.is_none_or(|count| count <= number(told)),
        "items" => items.is_none_or(|items| items.iter().all(|item| fits(told, item))),
        "required" => {
            let keys = told.as_list().unwrap_or_default();
            let has = |key: &Json| key.as_str().is_some_and(|key| value.get(key).is_some());
            entries.is_none() || keys.iter().all(has)
        }
        "properties" => told.as_object().is_none_or(|properties| {
            properties
                .iter()
                .all(|(key, schema)| value.get(key).is_none_or(|value| fits(schema, value)))
        }),
        "additionalProperties" => entries.is_none_or(|entries| {
            let named =
                |key: &str| schema.get("properties").is_some_and(|all| all.get(key).is_some());
            let mut others = entries.iter().filter(|(key, _)| !named(key));
            others.all(|(_, value)| told.as_bool().unwrap_or_else(|| fits(told, value)))
        }),
        "anyOf" => told.as_list().is_some_and(|all| all.iter().any(|one| fits(one, value))),
        _ => true,
    }
}

fn is_of(name: &Json, value: &Json) -> bool {
    let whole = || float(value).is_some_and(|number| number.fract() == 0.0);
    match name.as_str().unwrap_or_default() {
        "null" => value.is_null(),
        "boolean" => value.as_bool().is_some(),
        "integer" => whole(),
        "number" => value.as_number().is_some(),
        "string" => value.as_str().is_some(),
        "array" => value.as_list().is_some(),
        "object" => value.as_object().is_some(),
        _ => false,
    }
}

/// A key of the state and its new value.
pub type Change = (Arc<str>, Json);

/// What an output makes of the state (K281), or `None` if a value has a wrong type. No list or
/// object gets more than `entries` entries (K25).
#[must_use]
pub fn merged(
    schema: &[StateField],
    output: &Json,
    state: &BTreeMap<Arc<str>, Json>,
    entries: u64,
) -> Option<Vec<Change>> {
    let told = schema.iter().filter_map(|field| Some((field, output.get(&field.key)?)));
    told.map(|(field, value)| {
        let there = state.get(&field.key).filter(|there| !there.is_null());
        let new = match field.merge {
            MergeRule::Replace => value.clone(),
            MergeRule::Append => {
                let mut items =
                    there.map_or(Some(Vec::new()), |it| Some(it.as_list()?.to_vec()))?;
                match value.as_list() {
                    Some(more) => items.extend(more.iter().cloned()),
                    None => items.push(value.clone()),
                }
                Json::list(items)
            }
            MergeRule::MergeDict => {
                let there = there.map_or(Some(Vec::new()), entries_of)?;
                let mut all: BTreeMap<Arc<str>, Json> = there.into_iter().collect();
                all.extend(entries_of(value)?);
                Json::object(all)
            }
        };
        let count = new.as_list().map(<[Json]>::len);
        let count = count.or(new.as_object().map(|object| object.len())).unwrap_or(0);
        (count as u64 <= entries).then(|| (Arc::clone(&field.key), new))
    })
    .collect()
}

fn entries_of(json: &Json) -> Option<Vec<(Arc<str>, Json)>> {
    let object = json.as_object()?;
    Some(object.iter().map(|(key, value)| (Arc::clone(key), value.clone())).collect())
}

/// The characters of an inference: Unicode scalar values of `text` and of every text in `texts`
/// (K120).
#[must_use]
pub fn characters(data: &Json) -> u64 {
    let one = |json: &Json| json.as_str().map_or(0, |text| text.chars().count() as u64);
    let more = data.get("texts").and_then(Json::as_list).unwrap_or_default();
    data.get("text").map_or(0, one) + more.iter().map(one).sum::<u64>()
}

/// The hash of what is to be approved, with the values that it binds (K168).
#[must_use]
pub fn target_hash(
    pid: &ProcessId,
    (action, params): (&str, &Json),
    binds: &[FieldRef],
    fields: &Fields,
) -> [u8; 32] {
    let bound = binds.iter().map(|field| {
        let value = fields.find(field).cloned().unwrap_or(Json::NULL);
        Json::list(vec![field_json(field), value])
    });
    let shown = Json::object([
        ("pid", Json::from(pid.as_str())),
        ("action", Json::from(action)),
        ("params", params.clone()),
        ("binds", Json::list(bound.collect())),
    ]);
    blake3::derive_key("lockstep.interrupt.target.v1", shown.to_string().as_bytes())
}

/// A field as 2.5 writes it.
fn field_json(field: &FieldRef) -> Json {
    let escaped = |key: &Arc<str>| key.replace('\\', "\\\\").replace('.', "\\.");
    let path: Vec<String> = field.path().keys().iter().map(escaped).collect();
    let (scope, key) = match field {
        FieldRef::Current(_) => ("Current", None),
        FieldRef::Output { key, .. } => ("Output", Some(("key", Json::from(key.as_str())))),
        FieldRef::State(_) => ("State", None),
        FieldRef::Meta(_) => ("Meta", None),
        FieldRef::Interrupt(_) => ("Interrupt", None),
    };
    let always = [("scope", Json::from(scope)), ("path", Json::from(path.join(".")))];
    Json::object(always.into_iter().chain(key))
}
