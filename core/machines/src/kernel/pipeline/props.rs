//! Goal: a pipeline that is accepted is sound and has one canonical form; nothing harms the reader.
//! Method: random pipelines of few stages, most of them nearly sound, and damaged JSON.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::route::{Ended, branches, handed_out, joined, route};
use super::*;
use crate::kernel::expression::Scope;
use crate::kernel::json::strategies::{ours, value};

const STAGES: [&str; 4] = ["a", "b", "c", "d"];

/// Nothing is known.
struct Nothing;

impl Scope for Nothing {
    fn current(&self) -> Option<&Json> {
        None
    }

    fn output(&self, _: &OutputKey) -> Option<&Json> {
        None
    }

    fn state(&self, _: &str) -> Option<&Json> {
        None
    }

    fn meta(&self, _: &str) -> Option<&Json> {
        None
    }

    fn interrupt(&self) -> Option<&Json> {
        None
    }
}

/// A stage's name, or now and then something else.
fn target() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        20 => prop::sample::select(STAGES.to_vec()),
        1 => prop::sample::select(vec!["end", "clarification", "z"]),
    ]
}

fn rule() -> impl Strategy<Value = Value> {
    let exprs = vec![
        json!({"op": "Always"}),
        json!({"op": "Not", "expr": {"op": "Always"}}),
        json!({"op": "NotExists", "field": {"scope": "State", "path": "a.b"}}),
    ];
    (prop::sample::select(exprs), target(), any::<bool>()).prop_map(|(expr, target, short)| {
        match short {
            true => json!({"condition": "verdict", "value": null, "target": target}),
            false => json!({"expr": expr, "target": target}),
        }
    })
}

/// Fields that any stage may have, and whether each is there.
fn extras() -> impl Strategy<Value = Map<String, Value>> {
    let field = prop_oneof![
        target().prop_map(|to| ("default_next", json!(to))),
        target().prop_map(|to| ("error_next", json!(to))),
        (-1_i32..4).prop_map(|visits| ("max_visits", json!(visits))),
        (1_u32..9).prop_map(|timeout| ("timeout_ms", json!(timeout))),
        (0_u32..100).prop_map(|pct| ("retry", json!({"jitter_pct": pct}))),
        (0_u32..100).prop_map(|tokens| ("reserve", json!({"tokens_in": tokens}))),
        prop::collection::vec(target(), 0..2).prop_map(|names| ("requires", json!(names))),
        Just(("output_schema", json!({"type": ["object"]}))),
    ];
    prop::collection::vec(field, 0..3)
        .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn stage(name: &'static str) -> impl Strategy<Value = Value> {
    let kinds = prop::sample::select(vec!["Agent", "Agent", "Gate", "Fork", "Router"]);
    let rules = prop::collection::vec(rule(), 0..3);
    (kinds, rules, extras()).prop_map(move |(kind, rules, mut fields)| {
        fields.insert("name".to_owned(), json!(name));
        fields.insert("node_kind".to_owned(), json!(kind));
        if matches!(kind, "Agent" | "Router") {
            fields.insert("agent_config".to_owned(), json!({"name": name}));
        }
        match kind {
            "Router" => {
                let targets: Vec<Value> =
                    rules.iter().map(|rule| json!({"target": rule["target"]})).collect();
                fields.insert("router_targets".to_owned(), json!(targets));
            }
            _ => {
                fields.insert("routing".to_owned(), json!(rules));
            }
        }
        Value::Object(fields)
    })
}

fn pipeline() -> impl Strategy<Value = Value> {
    let stages = (stage("a"), stage("b"), stage("c"), stage("d"));
    let mode = prop::sample::select(vec!["Sequential", "Sequential", "Sequential", "Parallel"]);
    (stages, mode, -1_i64..5).prop_map(|((a, b, c, d), mode, bound)| {
        json!({
            "name": "p", "stages": [a, b, c, d], "run_mode": mode, "max_iterations": bound,
            "clarification_resume_stage": "a",
        })
    })
}

/// Damages a value: some part of it becomes something else.
fn damaged(value: &mut Value, way: &mut impl Iterator<Item = usize>, other: Value) {
    let step = way.next();
    match (value, step) {
        (Value::Array(items), Some(step)) if !items.is_empty() => {
            let at = step % items.len();
            damaged(&mut items[at], way, other);
        }
        (Value::Object(entries), Some(step)) if !entries.is_empty() => {
            let at = step % entries.len();
            let part = entries.iter_mut().nth(at).unwrap().1;
            damaged(part, way, other);
        }
        (value, _) => *value = other,
    }
}

fn parsed(value: &Value) -> Result<PipelineConfig, Refusal> {
    PipelineConfig::parse(&ours(value), &FlowLimits::DEFAULT)
}

/// Asks everything that leads somewhere, and says where.
fn led_to(stage: &PipelineStage) -> Vec<Target> {
    let choices =
        handed_out(stage, &Nothing).into_iter().map(|one| Ended::Chose(one.target.clone()));
    let ends = [Ended::Done, Ended::Failed].into_iter().chain(choices);
    let routes = ends.filter_map(|ended| route(stage, &ended, &Nothing));
    let joins = [true, false].into_iter().filter_map(|success| joined(stage, success));
    let branches = branches(stage, &Nothing).into_iter().cloned().map(Target::Stage);
    routes.chain(joins).map(|route| route.target).chain(branches).collect()
}

proptest! {
    /// An accepted pipeline leads from every stage to a stage or a legal end, and its branches are
    /// Agents; it means the same as its canonical form, which is one.
    #[test]
    fn an_accepted_pipeline_is_sound(text in pipeline()) {
        let Ok(config) = parsed(&text) else { return Ok(()); };
        for stage in &config.stages {
            for target in led_to(stage) {
                // Only a clarification has somewhere to come back to.
                prop_assert_ne!(&target, &Target::Confirmation);
                prop_assert!(target.stage().is_none_or(|name| config.index(name).is_some()));
            }
            for name in branches(stage, &Nothing) {
                let branch = config.stage(name).unwrap();
                let is_fork = stage.node_kind == NodeKind::Fork;
                prop_assert!(!is_fork || branch.node_kind == NodeKind::Agent);
            }
            prop_assert!(stage.max_visits.is_none_or(|visits| visits.allows(1)));
        }
        let canonical = config.canonical();
        let again = PipelineConfig::parse(&canonical, &FlowLimits::DEFAULT);
        prop_assert_eq!(again.as_ref(), Ok(&config));
        prop_assert_eq!(again.unwrap().canonical(), canonical);
        prop_assert_eq!(PipelineConfig::from_bytes(&config.to_bytes()), Ok(config));
    }

    /// A refused one is refused for something: every problem has a text, the refusal tells all, and
    /// what is wrong with targets is just what is.
    #[test]
    fn a_refusal_tells_what_is_wrong(text in pipeline()) {
        let unknown = text.to_string().contains("\"z\"");
        match parsed(&text) {
            Ok(_) => prop_assert!(!unknown),
            Err(refusal) => {
                prop_assert_eq!(refusal.code, Code::BadPipeline);
                prop_assert!(!refusal.fields.is_empty());
                let texts: Vec<&str> =
                    refusal.fields.iter().map(|field| field.text.as_str()).collect();
                prop_assert!(texts.iter().all(|text| !text.is_empty()));
                prop_assert_eq!(texts.join("; "), refusal.text);
                let told = texts.iter().any(|text| text.ends_with("unknown target: z"));
                prop_assert_eq!(told, unknown);
            }
        }
    }

    /// No JSON panics. What is read though it is damaged comes back as what it was read as.
    #[test]
    fn damaged_pipelines_do_no_harm(
        mut text in pipeline(), other in value(),
        way in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        damaged(&mut text, &mut way.into_iter(), other);
        if let Ok(config) = parsed(&text) {
            let again = PipelineConfig::parse(&config.canonical(), &FlowLimits::DEFAULT);
            prop_assert_eq!(again, Ok(config));
        }
    }

    /// No bytes panic, and those that decode are the encoding of what they decode to.
    #[test]
    fn damaged_bytes_do_no_harm(
        text in pipeline(), at in any::<prop::sample::Index>(), byte: u8, cut: bool,
    ) {
        let Ok(config) = parsed(&text) else { return Ok(()); };
        let mut bytes = config.to_bytes();
        let at = at.index(bytes.len());
        match cut {
            true => bytes.truncate(at),
            false => bytes[at] = byte,
        }
        if let Ok(read) = PipelineConfig::from_bytes(&bytes) {
            prop_assert!(!cut);
            prop_assert_eq!(read.to_bytes(), bytes);
        }
    }
}
