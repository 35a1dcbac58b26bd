use std::collections::BTreeMap;

use super::*;
use crate::codec::Wire;
use crate::kernel::json::document::Document;
use crate::kernel::json::strategies::json;
use crate::kernel::refusal::Code;

/// A scope of plain maps.
#[derive(Default)]
struct Tables {
    current: Option<Json>,
    outputs: BTreeMap<OutputKey, Json>,
    state: BTreeMap<String, Json>,
    meta: BTreeMap<String, Json>,
    interrupt: Option<Json>,
}

impl Scope for Tables {
    fn current(&self) -> Option<&Json> {
        self.current.as_ref()
    }

    fn output(&self, key: &OutputKey) -> Option<&Json> {
        self.outputs.get(key)
    }

    fn state(&self, key: &str) -> Option<&Json> {
        self.state.get(key)
    }

    fn meta(&self, key: &str) -> Option<&Json> {
        self.meta.get(key)
    }

    fn interrupt(&self) -> Option<&Json> {
        self.interrupt.as_ref()
    }
}

fn expr(text: &str) -> RoutingExpr {
    RoutingExpr::parse("expr", &json(text), &ExpressionLimits::DEFAULT)
        .unwrap_or_else(|refusal| panic!("{refusal}: {text}"))
}

fn refused(text: &str) -> (Code, String) {
    let refusal = RoutingExpr::parse("expr", &json(text), &ExpressionLimits::DEFAULT).unwrap_err();
    (refusal.code, refusal.text)
}

/// Holds the field `x` of the newest output against a value.
fn holds(found: &str, op: &str, value: &str) -> bool {
    let current = Some(json(&format!("{{\"x\":{found}}}")));
    let scope = Tables { current, ..Tables::default() };
    let field = "{\"scope\":\"Current\",\"path\":\"x\"}";
    expr(&format!("{{\"op\":{op:?},\"field\":{field},\"value\":{value}}}")).evaluate(&scope)
}

/// K263.
#[test]
fn what_is_missing_or_null_compares_to_nothing() {
    let ops = ["Eq", "Neq", "Gt", "Lt", "Gte", "Lte", "Contains"];
    for op in ops {
        assert!(!holds("null", op, "null"), "{op}");
        assert!(!holds("null", op, "1"), "{op}");
        let missing = format!(
            "{{\"op\":{op:?},\"field\":{{\"scope\":\"State\",\"path\":\"x\"}},\"value\":null}}"
        );
        assert!(!expr(&missing).evaluate(&Tables::default()), "{op}");
    }
    let exists = |op: &str, found: &str| {
        let scope = Tables { current: Some(json(found)), ..Tables::default() };
        let field = "{\"scope\":\"Current\",\"path\":\"x\"}";
        expr(&format!("{{\"op\":{op:?},\"field\":{field}}}")).evaluate(&scope)
    };
    for (found, there) in
        [("{\"x\":0}", true), ("{\"x\":null}", false), ("{}", false), ("7", false)]
    {
        assert_eq!(exists("Exists", found), there, "{found}");
        assert_eq!(exists("NotExists", found), !there, "{found}");
    }
}

/// K264, with `holds(field, op, value)` for each row.
#[test]
fn comparisons_are_by_type_and_value() {
    let rows = [
        // Numbers by value, two integers exactly, else as binary64.
        ("1", "Eq", "1.0", true),
        ("1", "Neq", "1.0", false),
        ("9007199254740993", "Eq", "9007199254740992", false),
        ("9007199254740993", "Gt", "9007199254740992", true),
        ("18446744073709551615", "Eq", "18446744073709551616", true),
        ("0.1", "Lt", "1", true),
        ("-1", "Lte", "-1.0", true),
        ("2", "Gte", "10", false),
        // Of another type nothing is equal, and nothing is ordered.
        ("1", "Eq", "\"1\"", false),
        ("1", "Neq", "\"1\"", true),
        ("1", "Lt", "\"2\"", false),
        ("true", "Eq", "1", false),
        ("true", "Gte", "true", false),
        ("true", "Eq", "true", true),
        // Text by bytes.
        ("\"a\"", "Lt", "\"b\"", true),
        ("\"B\"", "Lt", "\"a\"", true),
        ("\"a\"", "Lt", "\"é\"", true),
        ("\"\u{ffff}\"", "Lt", "\"\u{10000}\"", true),
        ("\"10\"", "Lt", "\"9\"", true),
        ("\"a\"", "Lte", "\"a\"", true),
        ("\"a\"", "Gt", "\"a\"", false),
        // Lists and objects by canonical bytes.
        ("[1, 2.0]", "Eq", "[1,2]", true),
        ("[1,2]", "Eq", "[2,1]", false),
        ("{\"b\":1,\"a\":2}", "Eq", "{\"a\":2,\"b\":1}", true),
        ("[18446744073709551615]", "Eq", "[18446744073709551616]", false),
        ("[1]", "Lt", "[2]", false),
        // Contains.
        ("\"revise it\"", "Contains", "\"revise\"", true),
        ("\"a\"", "Contains", "\"\"", true),
        ("\"a1\"", "Contains", "1", false),
        ("[1,[2]]", "Contains", "1.0", true),
        ("[1,[2]]", "Contains", "2", false),
        ("[1,[2]]", "Contains", "[2]", true),
        ("[null]", "Contains", "null", true),
        ("[]", "Contains", "null", false),
        ("{\"k\":null}", "Contains", "\"k\"", true),
        ("{\"k\":\"v\"}", "Contains", "\"v\"", false),
        ("12", "Contains", "1", false),
    ];
    for (found, op, value, expected) in rows {
        assert_eq!(holds(found, op, value), expected, "{found} {op} {value}");
    }
}

#[test]
fn each_scope_is_looked_into_and_dots_can_be_escaped() {
    let key = |text| OutputKey::parse("key", text).unwrap();
    let scope = Tables {
        current: Some(json("{\"a\":{\"b.c\":1}}")),
        outputs: [(key("critic"), json("{\"score\":8}"))].into(),
        state: [("plan".to_owned(), json("{\"done\":true}"))].into(),
        meta: [("a.b".to_owned(), json("\"x\""))].into(),
        interrupt: Some(json("{\"approved\":false}")),
    };
    let finds = |field: &str| {
        let text = format!("{{\"op\":\"Exists\",\"field\":{field}}}");
        let RoutingExpr::Exists(field) = expr(&text) else { panic!("it is Exists") };
        field.find(&scope).map(ToString::to_string)
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(finds(r#"{"scope":"Current","path":"a.b\\.c"}"#), some("1"));
    assert_eq!(finds(r#"{"scope":"Current","path":"a.b.c"}"#), None);
    assert_eq!(finds(r#"{"scope":"Current","path":""}"#), some("{\"a\":{\"b.c\":1}}"));
    assert_eq!(finds(r#"{"scope":"Output","key":"critic","path":"score"}"#), some("8"));
    assert_eq!(finds(r#"{"scope":"Output","key":"writer","path":"score"}"#), None);
    assert_eq!(finds(r#"{"scope":"State","path":"plan.done"}"#), some("true"));
    assert_eq!(finds(r#"{"scope":"State","path":"plan"}"#), some("{\"done\":true}"));
    assert_eq!(finds(r#"{"scope":"Meta","path":"a\\.b"}"#), some("\"x\""));
    assert_eq!(finds(r#"{"scope":"Interrupt","path":"approved"}"#), some("false"));
    assert_eq!(finds(r#"{"scope":"Interrupt"}"#), some("{\"approved\":false}"));
}

#[test]
fn logic_is_logic() {
    let evaluate = |text: &str| expr(text).evaluate(&Tables::default());
    let (yes, no) = (r#"{"op":"Always"}"#, r#"{"op":"Not","expr":{"op":"Always"}}"#);
    for (left, right, and, or) in [
        (yes, yes, true, true),
        (yes, no, false, true),
        (no, yes, false, true),
        (no, no, false, false),
    ] {
        assert_eq!(evaluate(&format!(r#"{{"op":"And","exprs":[{left},{right}]}}"#)), and);
        assert_eq!(evaluate(&format!(r#"{{"op":"Or","exprs":[{left},{right}]}}"#)), or);
    }
}

#[test]
fn the_form_of_the_specification_is_read_and_written() {
    let texts = [
        r#"{"field":{"path":"verdict","scope":"Current"},"op":"Eq","value":"revise"}"#,
        r#"{"field":{"key":"k","path":"a","scope":"Output"},"op":"Contains","value":null}"#,
        r#"{"field":{"path":"a\\.b\\\\.c","scope":"Meta"},"op":"NotExists"}"#,
        r#"{"exprs":[{"op":"Always"},{"expr":{"op":"Always"},"op":"Not"}],"op":"And"}"#,
    ];
    for text in texts {
        let expr = expr(text);
        assert_eq!(expr.written().to_string(), text);
        assert_eq!(RoutingExpr::from_bytes(&expr.to_bytes()), Ok(expr));
    }
    let numbers: Vec<u8> = Comparison::ALL.iter().map(|op| *op as u8).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7], "as in the oneof of RoutingExpr");
}

#[test]
fn what_is_not_of_the_form_is_refused_by_its_path() {
    let rows = [
        (r#"{}"#, Code::Required, "expr.op is required"),
        (r#"7"#, Code::BadValue, "expr: expected object, got number"),
        (r#"{"op":"Always","value":1}"#, Code::BadValue, "expr.value: unknown field"),
        (
            r#"{"op":"Eq","field":{"scope":"Current","path":"a"}}"#,
            Code::Required,
            "expr.value is required",
        ),
        (
            r#"{"op":"Exists","field":{"scope":"Here","path":"a"}}"#,
            Code::BadValue,
            "expr.field.scope: \"Here\" is not one of Current, Output, State, Meta, Interrupt",
        ),
        (
            r#"{"op":"Exists","field":{"scope":"Current","path":"a","key":"k"}}"#,
            Code::BadValue,
            "expr.field.key: unknown field",
        ),
        (
            r#"{"op":"Exists","field":{"scope":"Output","path":"a"}}"#,
            Code::Required,
            "expr.field.key is required",
        ),
        (
            r#"{"op":"And","exprs":[{"op":"Always"},{"op":"Not"}]}"#,
            Code::Required,
            "expr.exprs[1].expr is required",
        ),
        (
            r#"{"op":"Exists","field":{"scope":"Current","path":"a..b"}}"#,
            Code::BadExpression,
            "expr.field.path: path \"a..b\": an empty key",
        ),
        (
            r#"{"op":"Exists","field":{"scope":"Current","path":"a\\x"}}"#,
            Code::BadExpression,
            "expr.field.path: path \"a\\\\x\": a backslash escapes a dot or itself",
        ),
        (r#"{"op":"And","exprs":[]}"#, Code::BadExpression, "expr: And is empty"),
        (r#"{"op":"Or","exprs":[]}"#, Code::BadExpression, "expr: Or is empty"),
        (
            r#"{"op":"Exists","field":{"scope":"State"}}"#,
            Code::BadExpression,
            "expr: path is required",
        ),
    ];
    for (text, code, told) in rows {
        assert_eq!(refused(text), (code, told.to_owned()), "{text}");
    }
    let (code, told) = refused(r#"{"op":"Is"}"#);
    assert_eq!(code, Code::BadValue);
    assert!(told.starts_with("expr.op: \"Is\" is not one of Eq, Neq, Gt,"), "{told}");
}

/// K25: depth 16, 256 expressions, 8 keys.
#[test]
fn limits_are_inclusive() {
    let nested = |depth: usize| {
        "{\"op\":\"Not\",\"expr\":".repeat(depth - 1)
            + "{\"op\":\"Always\"}"
            + &"}".repeat(depth - 1)
    };
    expr(&nested(16));
    assert_eq!(refused(&nested(17)).1, "expr: depth 17, at most 16");
    let wide = |nodes: usize| {
        let all = vec!["{\"op\":\"Always\"}"; nodes - 1].join(",");
        format!("{{\"op\":\"And\",\"exprs\":[{all}]}}")
    };
    expr(&wide(256));
    assert_eq!(refused(&wide(257)).1, "expr: more than 256 expressions");
    let path = |keys: usize| {
        let path = vec!["a"; keys].join(".");
        format!("{{\"op\":\"Exists\",\"field\":{{\"scope\":\"Current\",\"path\":\"{path}\"}}}}")
    };
    expr(&path(8));
    assert_eq!(refused(&path(9)).1, "expr: path of 9 keys, at most 8");
}

/// The reading of nested expressions ends long before the stack does, whatever the limits of JSON.
#[test]
fn nesting_without_end_is_refused() {
    let mut nested = Json::object([("op", Json::from("Always"))]);
    for _ in 0..1_000 {
        nested = Json::object([("op", Json::from("Not")), ("expr", nested)]);
    }
    let refusal = RoutingExpr::parse("e", &nested, &ExpressionLimits::DEFAULT).unwrap_err();
    assert_eq!(refusal.code, Code::BadExpression);
    assert!(refusal.text.ends_with("depth 161, at most 160"), "{}", refusal.text);
    assert!(RoutingExpr::from_bytes(&nested.to_bytes()).is_err());
}
