//! Goal: the evaluator means what K260 to K264 say, for every expression and scope.
//! Method: random expressions as JSON of another library, evaluated over that JSON by a second
//! evaluator, which is written from the rules and shares nothing with the first.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::codec::Wire;
use crate::kernel::json::document::Document;
use crate::kernel::json::number::naive;
use crate::kernel::json::strategies::{ours, value};

/// A scope: an object with an object or nothing for each of the five.
#[derive(Clone, Debug)]
struct World {
    theirs: Value,
    ours: Json,
}

impl World {
    fn part(&self, part: &str) -> Option<&Json> {
        self.ours.get(part)
    }
}

impl Scope for World {
    fn current(&self) -> Option<&Json> {
        self.part("Current")
    }

    fn output(&self, key: &OutputKey) -> Option<&Json> {
        self.part("Output")?.get(key.as_str())
    }

    fn state(&self, key: &str) -> Option<&Json> {
        self.part("State")?.get(key)
    }

    fn meta(&self, key: &str) -> Option<&Json> {
        self.part("Meta")?.get(key)
    }

    fn interrupt(&self) -> Option<&Json> {
        self.part("Interrupt")
    }
}

fn world() -> impl Strategy<Value = World> {
    let names = ["Current", "Output", "State", "Meta", "Interrupt"];
    let part = prop::option::weighted(0.9, prop::collection::vec(("[abc]", value()), 0..4));
    prop::collection::vec(part, 5).prop_map(move |parts| {
        let mut theirs = Map::new();
        for (name, part) in names.iter().zip(parts) {
            if let Some(entries) = part {
                theirs.insert((*name).to_owned(), Value::Object(entries.into_iter().collect()));
            }
        }
        let theirs = Value::Object(theirs);
        World { ours: ours(&theirs), theirs }
    })
}

fn field() -> impl Strategy<Value = Value> {
    let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "a.b", "\\"]), 1..4);
    let scope = prop::sample::select(vec!["Current", "Output", "State", "Meta", "Interrupt"]);
    (scope, "[abc]", path).prop_map(|(scope, key, path)| {
        let keys: Vec<String> =
            path.iter().map(|key| key.replace('\\', "\\\\").replace('.', "\\.")).collect();
        match scope {
            "Output" => json!({"scope": scope, "key": key, "path": keys.join(".")}),
            _ => json!({"scope": scope, "path": keys.join(".")}),
        }
    })
}

fn expression() -> impl Strategy<Value = Value> {
    let ops = prop::sample::select(vec!["Eq", "Neq", "Gt", "Lt", "Gte", "Lte", "Contains"]);
    let leaf = prop_oneof![
        6 => (ops, field(), value())
            .prop_map(|(op, field, value)| json!({"op": op, "field": field, "value": value})),
        1 => field().prop_map(|field| json!({"op": "Exists", "field": field})),
        1 => field().prop_map(|field| json!({"op": "NotExists", "field": field})),
        1 => Just(json!({"op": "Always"})),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        let some = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            some.clone().prop_map(|exprs| json!({"op": "And", "exprs": exprs})),
            some.prop_map(|exprs| json!({"op": "Or", "exprs": exprs})),
            inner.prop_map(|expr| json!({"op": "Not", "expr": expr})),
        ]
    })
}

/// Splits a path at its dots, by hand: an escaped character is put out of the way first.
fn split(path: &str) -> Vec<String> {
    let hidden = path.replace("\\\\", "\u{1}").replace("\\.", "\u{2}");
    let show = |key: &str| key.replace('\u{2}', ".").replace('\u{1}', "\\");
    hidden.split('.').map(show).collect()
}

fn found<'a>(field: &Value, world: &'a Value) -> Option<&'a Value> {
    let scope = field["scope"].as_str().unwrap();
    let mut at = world.get(scope)?;
    if scope == "Output" {
        at = at.get(field["key"].as_str().unwrap())?;
    }
    for key in split(field["path"].as_str().unwrap()) {
        at = at.as_object()?.get(&key)?;
    }
    if at.is_null() { None } else { Some(at) }
}

/// Equal at the top: numbers by value.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => naive::compare(left, right).is_eq(),
        (left, right) => left == right,
    }
}

fn truth(expr: &Value, world: &Value) -> bool {
    let op = expr["op"].as_str().unwrap();
    let exprs = || expr["exprs"].as_array().unwrap().iter();
    let there = || found(&expr["field"], world);
    match op {
        "Always" => return true,
        "Not" => return !truth(&expr["expr"], world),
        "And" => return exprs().map(|expr| truth(expr, world)).filter(|truth| !truth).count() == 0,
        "Or" => return exprs().map(|expr| truth(expr, world)).filter(|truth| *truth).count() > 0,
        "Exists" => return there().is_some(),
        "NotExists" => return there().is_none(),
        _ => {}
    }
    let (Some(left), right) = (there(), &expr["value"]) else {
        return false;
    };
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => Some(naive::compare(left, right)),
        (Value::String(left), Value::String(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        _ => None,
    };
    match op {
        "Eq" => same(left, right),
        "Neq" => !same(left, right),
        "Gt" => order.is_some_and(Ordering::is_gt),
        "Lt" => order.is_some_and(Ordering::is_lt),
        "Gte" => order.is_some_and(Ordering::is_ge),
        "Lte" => order.is_some_and(Ordering::is_le),
        "Contains" => match (left, right) {
            (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
            (Value::Object(object), Value::String(key)) => object.contains_key(key),
            (Value::Array(items), value) => items.iter().any(|item| same(item, value)),
            _ => false,
        },
        other => panic!("{other} is an operator"),
    }
}

fn read(expr: &Value) -> RoutingExpr {
    RoutingExpr::parse("expr", &ours(expr), &ExpressionLimits::DEFAULT).unwrap()
}

proptest! {
    #[test]
    fn the_evaluator_agrees_with_a_naive_one(expr in expression(), world in world()) {
        prop_assert_eq!(read(&expr).evaluate(&world), truth(&expr, &world.theirs));
    }

    /// As above, where fields are there: each comparison is held against a value that is near.
    #[test]
    fn comparisons_agree_with_naive_ones(left in value(), right in value(), same: bool) {
        let right = if same { left.clone() } else { right };
        let theirs = json!({"Current": {"a": left}});
        let world = World { ours: ours(&theirs), theirs };
        for op in Comparison::ALL {
            let field = json!({"scope": "Current", "path": "a"});
            let expr = json!({"op": op.name(), "field": field, "value": right});
            let told = read(&expr).evaluate(&world);
            prop_assert_eq!(told, truth(&expr, &world.theirs), "{:?}", expr);
        }
    }

    /// What is read is written the same, and comes back from its bytes.
    #[test]
    fn expressions_come_back(expr in expression()) {
        let read = read(&expr);
        prop_assert_eq!(read.written(), ours(&expr));
        prop_assert_eq!(RoutingExpr::from_bytes(&read.to_bytes()), Ok(read));
    }

    /// No JSON panics, and no bytes do; what bytes decode to has just these bytes.
    #[test]
    fn arbitrary_input_does_no_harm(
        value in value(), expr in expression(), at in any::<prop::sample::Index>(), byte: u8,
    ) {
        let _ = RoutingExpr::parse("x", &ours(&value), &ExpressionLimits::DEFAULT);
        let mut bytes = ours(&expr).to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = RoutingExpr::from_bytes(&bytes) {
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }

    /// Every path that is read is written as it was, but for escapes that need not be.
    #[test]
    fn paths_come_back(text in "[ab.\\\\é]{0,8}") {
        if let Ok(path) = Path::parse(&text) {
            prop_assert_eq!(Path::parse(&path.to_string()), Ok(path.clone()));
            prop_assert_eq!(path.to_string(), text);
        }
    }
}
