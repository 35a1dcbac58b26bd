use super::*;
use crate::kernel::json::strategies::json;
use crate::kernel::refusal::Code;

fn schema(text: &str) -> Schema {
    Schema::compile("output_schema", &json(text)).unwrap_or_else(|refusal| panic!("{refusal}"))
}

fn refused(text: &str) -> (Code, String) {
    let refusal = Schema::compile("output_schema", &json(text)).unwrap_err();
    (refusal.code, refusal.text)
}

/// Checks `value`; empty if it is right.
fn told(schema_text: &str, value: &str) -> String {
    schema(schema_text).check(&json(value)).err().unwrap_or_default()
}

#[test]
fn a_failure_names_the_path() {
    let prices = r#"{"properties":{"items":{"items":{"properties":{"price":{"type":"number"}}}}}}"#;
    let value = r#"{"items":[{"price":1},{},{"price":2.5},{"price":"3"}]}"#;
    assert_eq!(told(prices, value), "/items/3/price: expected number, got string", "K280");
    assert_eq!(told(r#"{"type":"object"}"#, "[]"), "/: expected object, got array");
    let odd = r#"{"additionalProperties":{"type":"null"}}"#;
    assert_eq!(told(odd, r#"{"a/b~c":1}"#), "/a~1b~0c: expected null, got number");
}

/// K24, K25: what is told is short, and text, whatever the output has for keys.
#[test]
fn a_failure_tells_only_so_much_of_keys() {
    let none = r#"{"additionalProperties":false}"#;
    let long = format!(r#"{{"{}":1}}"#, "~".repeat(100));
    let told_of = format!("/{}…: unexpected property", "~0".repeat(64));
    assert_eq!(told(none, &long), told_of);
    assert_eq!(told(none, r#"{"a\u0000b":1}"#), "/a\\u{0}b: unexpected property");
    let required = format!(r#"{{"required":["{}"]}}"#, "k".repeat(100));
    assert_eq!(told(&required, "{}"), format!("/: \"{}\" is required", "k".repeat(64)));
    let (mut deep, mut value) = (r#"{"type":"null"}"#.to_owned(), "1".to_owned());
    for _ in 0..20 {
        (deep, value) = (format!(r#"{{"items":{deep}}}"#), format!("[{value}]"));
    }
    let told_of = format!("{}/…: expected null, got number", "/0".repeat(16));
    assert_eq!(told(&deep, &value), told_of);
}

/// Each keyword, taken and failed.
#[test]
fn every_keyword_says_what_json_schema_says() {
    let rows = [
        (r#"{"type":"integer"}"#, "1.0", ""),
        (r#"{"type":"integer"}"#, "1.5", "/: expected integer, got number"),
        (r#"{"type":["null","string"]}"#, "null", ""),
        (r#"{"type":["string","null"]}"#, "true", "/: expected null or string, got boolean"),
        (r#"{"enum":[1,"a",[1.0]]}"#, "[1]", ""),
        (r#"{"enum":[1,"a",[1]]}"#, "\"b\"", "/: not one of enum"),
        (r#"{"const":{"a":1}}"#, r#"{"a":1.0}"#, ""),
        (r#"{"const":null}"#, "0", "/: not the value of const"),
        (r#"{"minimum":1}"#, "1", ""),
        (r#"{"minimum":1}"#, "0.5", "/: 0.5 is less than 1"),
        (r#"{"minimum":1}"#, "\"0\"", ""),
        (r#"{"maximum":1.5}"#, "1.5", ""),
        (r#"{"maximum":1.5}"#, "2", "/: 2 is more than 1.5"),
        (r#"{"minLength":2}"#, "\"é\"", "/: 1 characters, at least 2"),
        (r#"{"minLength":2}"#, "\"éé\"", ""),
        (r#"{"maxLength":1}"#, "\"😀\"", ""),
        (r#"{"maxLength":1}"#, "\"ab\"", "/: 2 characters, at most 1"),
        (r#"{"minItems":1}"#, "[]", "/: 0 items, at least 1"),
        (r#"{"maxItems":1}"#, "[1,2]", "/: 2 items, at most 1"),
        (r#"{"maxItems":0}"#, "{\"a\":1}", ""),
        (r#"{"items":{"type":"null"}}"#, "[null,1]", "/1: expected null, got number"),
        (r#"{"required":["a","b"]}"#, r#"{"a":null}"#, "/: \"b\" is required"),
        (r#"{"required":["a"]}"#, "[]", ""),
        (r#"{"properties":{"a":{"type":"null"}}}"#, r#"{"b":1}"#, ""),
        (
            r#"{"properties":{"a":{}},"additionalProperties":false}"#,
            r#"{"a":1,"b":2}"#,
            "/b: unexpected property",
        ),
        (r#"{"additionalProperties":true}"#, r#"{"b":2}"#, ""),
        (r#"{"anyOf":[{"type":"null"},{"minimum":2}]}"#, "2", ""),
        (r#"{"anyOf":[{"type":"null"},{"minimum":2}]}"#, "1", "/: matches none of anyOf"),
        (
            r#"{"items":{"anyOf":[{"items":{"type":"null"}},{"const":1}]}}"#,
            "[[null],1,[2]]",
            "/2: matches none of anyOf",
        ),
        (r#"{"title":"t","description":7,"default":{"type":"odd"}}"#, "1", ""),
        ("{}", "null", ""),
    ];
    for (schema, value, expected) in rows {
        assert_eq!(told(schema, value), expected, "{schema} {value}");
    }
}

#[test]
fn what_is_not_understood_is_refused_before_anything_is_checked() {
    let unsupported = |path: &str| {
        let told = format!("output_schema: unsupported_schema_keyword: {path}");
        (Code::UnsupportedSchemaKeyword, told)
    };
    assert_eq!(refused(r#"{"pattern":"a"}"#), unsupported("/pattern"));
    let inner = r#"{"properties":{"a":{"anyOf":[{},{"$ref":"x"}]}}}"#;
    assert_eq!(refused(inner), unsupported("/properties/a/anyOf/1/$ref"));
    let rows = [
        ("true", ": expected object, got boolean"),
        (r#"{"type":"float"}"#, "/type: unknown type"),
        (r#"{"type":[]}"#, "/type: empty"),
        (r#"{"type":1}"#, "/type: expected string, got number"),
        (r#"{"enum":[]}"#, "/enum: empty"),
        (r#"{"anyOf":{}}"#, "/anyOf: expected array, got object"),
        (r#"{"minItems":-1}"#, "/minItems: not a whole number from 0"),
        (r#"{"minLength":"1"}"#, "/minLength: expected number, got string"),
        (r#"{"maximum":null}"#, "/maximum: expected number, got null"),
        (r#"{"required":[1]}"#, "/required: expected string, got number"),
        (r#"{"properties":{"a":[]}}"#, "/properties/a: expected object, got array"),
        (r#"{"items":[{}]}"#, "/items: expected object, got array"),
        (r#"{"additionalProperties":1}"#, "/additionalProperties: expected object, got number"),
    ];
    for (text, expected) in rows {
        let told = format!("output_schema: {expected}");
        assert_eq!(refused(text), (Code::BadValue, told), "{text}");
    }
}

#[test]
fn a_schema_is_bounded_and_so_is_a_check() {
    let many = |count: usize| format!("{{\"enum\":[{}]}}", vec!["1"; count].join(","));
    schema(&many(1_023));
    let told = "output_schema: more than 1024 subschemas and values".to_owned();
    assert_eq!(refused(&many(1_024)), (Code::TooMany, told));

    let mut nested = Json::object([("type", Json::from("null"))]);
    for _ in 0..400 {
        nested = Json::object([("items", nested)]);
    }
    let refusal = Schema::compile("s", &nested).unwrap_err();
    assert_eq!((refusal.code, refusal.text.as_str()), (Code::TooDeep, "s: depth 129, at most 128"));

    // 1,000 values held against each of 10,000 items are more than a check may take.
    let options = Json::object([("enum", Json::list((0..1_000_u32).map(Json::from).collect()))]);
    let costly = Schema::compile("s", &Json::object([("items", options)])).unwrap();
    let list = |count: usize| Json::list(vec![Json::from(999_u32); count]);
    assert_eq!(costly.check(&list(4_000)), Ok(()));
    assert_eq!(costly.check(&list(10_000)), Err("/: too much to check".to_owned()));
}
