use super::strategies::json;
use super::*;
use crate::kernel::refusal::Code;

fn refused(text: &str) -> (Code, String) {
    refused_bytes(text.as_bytes())
}

fn refused_bytes(bytes: &[u8]) -> (Code, String) {
    let refusal = Json::parse("payload_json", bytes, &JsonLimits::DEFAULT).unwrap_err();
    assert_eq!(refusal.fields.len(), 1);
    assert_eq!(refusal.fields[0].field, "payload_json");
    (refusal.code, refusal.text)
}

fn bad(text: &str) -> String {
    let (code, told) = refused(text);
    assert_eq!(code, Code::BadJson, "{text}: {told}");
    told.strip_prefix("payload_json: ").unwrap().to_owned()
}

#[test]
fn json_cut_short_is_refused_with_the_place_of_the_end() {
    let cut = "{\"a\":1,\"b\":[2,3,";
    assert_eq!(cut.len(), 16);
    let told = "payload_json: line 1 column 17: unexpected end".to_owned();
    assert_eq!(refused(cut), (Code::BadJson, told), "K410");
    assert_eq!(bad(""), "line 1 column 1: unexpected end");
    assert_eq!(bad("\n\n [\"é\" \"b\"]"), "line 3 column 7: unexpected '\"'");
    for cut in
        ["[", "{", "{\"a\"", "{\"a\":", "\"a", "\"\\", "\"\\u12", "-", "1.", "1e", "tru", "["]
    {
        assert!(bad(cut).ends_with("unexpected end"), "{cut}");
    }
}

#[test]
fn a_key_given_twice_is_refused_where_it_is_given_again() {
    assert_eq!(bad("{\"a\":1,\"a\":1}"), "line 1 column 8: duplicate key \"a\"");
    assert_eq!(bad("{\"b\":1,\"a\":2,\n\"b\":3}"), "line 2 column 1: duplicate key \"b\"");
    assert_eq!(bad("{\"c\":1,\"c\":2,\"a\":1,\"a\":1}"), "line 1 column 8: duplicate key \"c\"");
    assert_eq!(bad("{\"a\":1,\"\\u0061\":1}"), "line 1 column 8: duplicate key \"a\"");
    assert_eq!(json("{\"a\":{\"a\":1}}").at(&["a", "a"]), Some(&Json::from(1_u32)));
}

#[test]
fn what_other_parsers_let_through_is_refused() {
    let rows = [
        ("NaN", "line 1 column 1: unexpected 'N'"),
        ("[Infinity]", "line 1 column 2: unexpected 'I'"),
        ("-Infinity", "line 1 column 2: unexpected 'I'"),
        ("1e999", "line 1 column 1: a number out of range"),
        ("[1] x", "line 1 column 5: text after the value"),
        ("[1,]", "line 1 column 4: unexpected ']'"),
        ("{\"a\":1,}", "line 1 column 8: unexpected '}'"),
        ("{a:1}", "line 1 column 2: unexpected 'a'"),
        ("{\"a\" 1}", "line 1 column 6: unexpected '1'"),
        ("'a'", "line 1 column 1: unexpected '\\''"),
        ("01", "line 1 column 2: text after the value"),
        ("+1", "line 1 column 1: unexpected '+'"),
        (".5", "line 1 column 1: unexpected '.'"),
        ("1.e1", "line 1 column 3: unexpected 'e'"),
        ("truth", "line 1 column 4: unexpected 't'"),
        ("\"\\x\"", "line 1 column 2: an unknown escape"),
        ("\"\\ud800\"", "line 1 column 2: a lone surrogate"),
        ("\"\\udc00\"", "line 1 column 2: a lone surrogate"),
        ("\"\\ud800\\ud800\"", "line 1 column 2: a lone surrogate"),
        ("\"\\u12g4\"", "line 1 column 6: unexpected 'g'"),
        ("\"a\nb\"", "line 1 column 3: a control character in text"),
        ("\u{feff}1", "line 1 column 1: unexpected '\\u{feff}'"),
        ("[1] // why", "line 1 column 5: text after the value"),
    ];
    for (text, told) in rows {
        assert_eq!(bad(text), told, "{text}");
    }
    let (code, told) = refused_bytes(b"\"\xc3\xa9\xff\"");
    assert_eq!(
        (code, told.as_str()),
        (Code::BadJson, "payload_json: line 1 column 3: invalid UTF-8")
    );
    assert_eq!(json("\"\\ud83d\\ude00\""), Json::from("😀"));
    assert_eq!(json("\"\\/\\u0000\""), Json::from("/\0"), "data, not the kernel's text");
}

#[test]
fn limits_refuse_by_their_own_codes() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(json(&nested(64)).depth(), 64);
    let told = "payload_json: depth 65, at most 64".to_owned();
    assert_eq!(refused(&nested(65)), (Code::TooDeep, told), "K410");

    let entries = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert_eq!(json(&entries(1_024)).as_list().map(<[Json]>::len), Some(1_024));
    let told = "payload_json: more than 1024 entries".to_owned();
    assert_eq!(refused(&entries(1_025)), (Code::TooMany, told));

    let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    assert_eq!(json(&text(1 << 20)).length(), 1 << 20);
    let told = "payload_json: more than 1048576 bytes".to_owned();
    assert_eq!(refused(&text((1 << 20) + 1)), (Code::TooLarge, told));
    // What counts is the canonical form: white space is free, and exponents are not.
    assert_eq!(json(&format!("{}1", " ".repeat(2 << 20))), Json::from(1_u32));
    let growing = format!("[{}]", vec!["1e20"; 1_000].join(","));
    assert_eq!(json(&growing).length(), 22 * 1_000 + 1);
}

/// A stranger's nesting is never on the thread's stack: this would need gigabytes of it.
#[test]
fn nesting_without_end_is_refused_at_the_limit() {
    for open in ["[", "{\"a\":", "[[{\"\":["] {
        let (code, _) = refused(&open.repeat(3_000_000));
        assert_eq!(code, Code::TooDeep);
    }
    let wire = |text: String| {
        let mut bytes = Vec::new();
        put_count(&mut bytes, text.len());
        bytes.extend_from_slice(text.as_bytes());
        Json::from_bytes(&bytes)
    };
    assert!(wire("[".repeat(3_000_000)).is_err());
    // The deepest that there is: written, compared, hashed and dropped.
    let deepest = "[".repeat(1_024) + &"]".repeat(1_024);
    let value = wire(deepest.clone()).unwrap();
    assert_eq!(value.depth(), DEPTH_MAX);
    assert_eq!(value.to_string(), deepest);
    assert_eq!(wire(deepest).unwrap(), value);
    assert!(wire("[".repeat(1_025) + &"]".repeat(1_025)).is_err());
}

#[test]
fn the_canonical_form_is_as_the_header_says() {
    let text = "\n{ \"b\" : [ 1.0, -0, 1e2, 0.50 ],\t\"a\\u0041\": \
                {\"\u{ffff}\":1,\"\u{10000}\":2},\
                \"\\u000a\\u001F\\u007f\\/\": \"\\\"\\\\\\b\\f\\n\\r\\t\\u0000é\" }";
    let canonical = "{\"\\n\\u001f\u{7f}/\":\"\\\"\\\\\\b\\f\\n\\r\\t\\u0000é\",\
                     \"aA\":{\"\u{ffff}\":1,\"\u{10000}\":2},\"b\":[1,0,100,0.5]}";
    assert_eq!(json(text).to_string(), canonical);
    let hash = blake3::hash(canonical.as_bytes());
    assert_eq!(json(text).blake3(), *hash.as_bytes());
}

#[test]
fn nothing_but_the_canonical_form_decodes() {
    let wire = |text: &str| {
        let mut bytes = Vec::new();
        put_count(&mut bytes, text.len());
        bytes.extend_from_slice(text.as_bytes());
        Json::from_bytes(&bytes)
    };
    assert_eq!(wire("{\"a\":[1,0.5,\"\\n\"]}"), Ok(json("{\"a\":[1,0.5,\"\\n\"]}")));
    let others = [
        "[1, 2]",
        " 1",
        "1 ",
        "1.0",
        "1e2",
        "-0",
        "{\"b\":1,\"a\":2}",
        "{\"a\":1,\"a\":1}",
        "\"\\u0061\"",
        "\"\\/\"",
        "\"\\u000A\"",
        "",
        "1 2",
        "\"\u{0}\"",
    ];
    for text in others {
        let told = Malformed { offset: 4, expected: "canonical JSON" };
        assert_eq!(wire(text), Err(told), "{text:?}");
    }
}

#[test]
fn a_value_is_looked_into_by_keys() {
    let value = json("{\"a\":{\"b.c\":{\"d\":null}},\"l\":[{\"a\":1}]}");
    assert_eq!(value.at(&["a", "b.c", "d"]), Some(&Json::NULL));
    assert_eq!(value.at(&["a", "b", "c"]), None);
    assert_eq!(value.at(&["l", "0"]), None, "lists have no keys");
    assert_eq!(value.at::<&str>(&[]), Some(&value));
    let names = ["null", "true", "1.5", "\"\"", "[]", "{}"].map(|text| json(text).type_name());
    assert_eq!(names, ["null", "boolean", "number", "string", "array", "object"]);
}

#[test]
fn of_equal_keys_the_last_is_taken() {
    let entries = [("b", 1_u32), ("a", 2), ("b", 3), ("a", 4), ("b", 5)];
    let object = Json::object(entries.map(|(key, value)| (key, Json::from(value))));
    assert_eq!(object.to_string(), "{\"a\":4,\"b\":5}");
    let with = object.as_object().unwrap().with(json("{\"b\":6,\"c\":7}").as_object().unwrap());
    assert_eq!(with.to_string(), "{\"a\":4,\"b\":6,\"c\":7}");
}
