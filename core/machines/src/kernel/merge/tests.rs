use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::kernel::json::strategies::{json, ours, value};

fn merged(rule: MergeRule, there: &str, value: &str) -> Result<String, String> {
    let there = if there.is_empty() { None } else { Some(json(there)) };
    merge(rule, there.as_ref(), &json(value)).map(|merged| merged.to_string())
}

/// K281, row by row.
#[test]
fn each_rule_merges_as_k281_says() {
    let ok = |text: &str| Ok(text.to_owned());
    let wrong = |text: &str| Err(text.to_owned());
    let rows = [
        (MergeRule::Replace, "", "1", ok("1")),
        (MergeRule::Replace, "[1]", "null", ok("null")),
        (MergeRule::Append, "", "1", ok("[1]")),
        (MergeRule::Append, "null", "[1,[2]]", ok("[1,[2]]")),
        (MergeRule::Append, "[1]", "[2,3]", ok("[1,2,3]")),
        (MergeRule::Append, "[1]", "{\"a\":[2]}", ok("[1,{\"a\":[2]}]")),
        (MergeRule::Append, "[1]", "[]", ok("[1]")),
        (MergeRule::Append, "{}", "1", wrong("expected an array in the state, got object")),
        (MergeRule::MergeDict, "", "{\"a\":1}", ok("{\"a\":1}")),
        (
            MergeRule::MergeDict,
            "{\"a\":{\"x\":1},\"b\":2}",
            "{\"a\":{\"y\":2},\"c\":null}",
            ok("{\"a\":{\"y\":2},\"b\":2,\"c\":null}"),
        ),
        (MergeRule::MergeDict, "{}", "[1]", wrong("expected an object, got array")),
        (MergeRule::MergeDict, "[1]", "{}", wrong("expected an object in the state, got array")),
    ];
    for (rule, there, value, expected) in rows {
        assert_eq!(merged(rule, there, value), expected, "{rule} {there} {value}");
    }
}

#[test]
fn only_keys_of_the_schema_are_merged_in_its_order_and_all_or_none() {
    let field = |key: &str, merge| StateField { key: key.into(), merge };
    let schema = [field("z", MergeRule::Append), field("a", MergeRule::MergeDict)];
    let state = json(r#"{"z":[1],"b":7}"#);
    let changes =
        |output: &str| state_changes((&schema, 1_024), &json(output), |key| state.get(key));
    let told = changes(r#"{"a":{"k":1},"b":8,"z":2}"#).unwrap();
    let told: Vec<String> = told.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(told, ["z=[1,2]", "a={\"k\":1}"]);
    assert_eq!(changes(r#"{"b":8}"#), Ok(Vec::new()));
    let wrong = "state a: expected an object, got number".to_owned();
    assert_eq!(changes(r#"{"a":1,"z":2}"#), Err(wrong));
}

/// Merges with another library, as K281 words it.
fn naive(rule: MergeRule, there: &Value, value: &Value) -> Option<Value> {
    match rule {
        MergeRule::Replace => Some(value.clone()),
        MergeRule::Append => {
            let empty = Vec::new();
            let items = if there.is_null() { &empty } else { there.as_array()? };
            let one = vec![value.clone()];
            let more = value.as_array().unwrap_or(&one);
            Some(Value::Array(items.iter().chain(more).cloned().collect()))
        }
        MergeRule::MergeDict => {
            let empty = serde_json::Map::new();
            let there = if there.is_null() { &empty } else { there.as_object()? };
            let mut entries = there.clone();
            for (key, value) in value.as_object()? {
                entries.insert(key.clone(), value.clone());
            }
            Some(Value::Object(entries))
        }
    }
}

proptest! {
    #[test]
    fn merges_agree_with_naive_ones(there in value(), value in value()) {
        for rule in MergeRule::ALL {
            let merged = merge(*rule, Some(&ours(&there)), &ours(&value));
            let expected = naive(*rule, &there, &value).map(|value| ours(&value));
            prop_assert_eq!(merged.ok(), expected);
        }
    }

    /// Branches are merged in branch order: one after the other is as their lists together (K277).
    #[test]
    fn appending_twice_is_appending_both(first in value(), second in value()) {
        let append = |there: &Json, value: &Value| {
            merge(MergeRule::Append, Some(there), &ours(value)).unwrap()
        };
        let one_by_one = append(&append(&Json::NULL, &first), &second);
        let one = vec![second.clone()];
        let list = Value::Array(second.as_array().unwrap_or(&one).clone());
        let both = append(&append(&Json::NULL, &first), &list);
        prop_assert_eq!(one_by_one, both);
    }
}

/// K25: no list gets longer by being appended to.
#[test]
fn a_list_has_at_most_so_many_entries() {
    let schema = vec![StateField { key: "list".into(), merge: MergeRule::Append }];
    let three = json(r#"[1,2,3]"#);
    let merged =
        |most| state_changes((&schema, most), &json(r#"{"list":[4,5]}"#), |_| Some(&three));
    assert_eq!(merged(5).map(|changes| changes.len()), Ok(1));
    assert_eq!(merged(4).unwrap_err(), "state list: 5 entries, at most 4");
}
