use super::*;
use crate::kernel::json::Json;
use crate::kernel::json::strategies::json;
use crate::kernel::refusal::Refusal;

/// An Agent stage, with more fields.
fn agent(name: &str, more: &str) -> String {
    format!("{{\"name\":\"{name}\",\"agent_config\":{{\"name\":\"{name}\"}}{more}}}")
}

fn pipeline(stages: &[String], more: &str) -> Json {
    json(&format!("{{\"name\":\"p\",\"stages\":[{}]{more}}}", stages.join(",")))
}

fn refusal(stages: &[String], more: &str) -> Refusal {
    PipelineConfig::parse(&pipeline(stages, more), &FlowLimits::DEFAULT).unwrap_err()
}

/// Returns the field and text of every problem, all of K232.
fn told(stages: &[String], more: &str) -> Vec<(String, String)> {
    let refusal = refusal(stages, more);
    assert_eq!(refusal.code, Code::BadPipeline, "{refusal}");
    refusal.fields.into_iter().map(|violation| (violation.field, violation.text)).collect()
}

/// Says that just one thing is wrong.
fn only(stages: &[String], more: &str, field: &str, text: &str) {
    assert_eq!(told(stages, more), [(field.to_owned(), text.to_owned())]);
}

fn sound(stages: &[String], more: &str) -> PipelineConfig {
    PipelineConfig::parse(&pipeline(stages, more), &FlowLimits::DEFAULT)
        .unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// K410: a pipeline with three mistakes is told all three, each with its path.
#[test]
fn all_problems_are_told_together() {
    let writer = agent("writer", ",\"default_next\":\"editor\"");
    let critic = "{\"name\":\"critic\",\"agent_config\":{\"name\":\"c\",\"has_llm\":true}}";
    let end = agent("end", "");
    let problems = told(&[writer, critic.to_owned(), end], "");
    let problems: Vec<_> = problems.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let expected = [
        ("stages[2].name", "stages[2].name: \"end\" is reserved"),
        ("stages[1].agent_config.model_role", "stage critic: model_role is required"),
        ("stages[0].default_next", "stage writer: unknown target: editor"),
    ];
    assert_eq!(problems, expected);
    let text = refusal(&[agent("end", ""), agent("end", "")], "").text;
    let expected = "stages[0].name: \"end\" is reserved; stages[1].name: \"end\" is reserved; \
                    duplicate stage name: end; duplicate output key: end";
    assert_eq!(text, expected);
}

/// K232, row 1.
#[test]
fn names_are_there_and_each_once() {
    let read = |text: &str| {
        let refusal = PipelineConfig::parse(&json(text), &FlowLimits::DEFAULT).unwrap_err();
        (refusal.code, refusal.text)
    };
    let missing = "name is required; stages is required".to_owned();
    assert_eq!(read("{}"), (Code::BadPipeline, missing.clone()));
    assert_eq!(read("{\"name\":\"\",\"stages\":[]}"), (Code::BadPipeline, missing.clone()));
    assert_eq!(read("{\"name\":null,\"stages\":null}"), (Code::BadPipeline, missing));
    let nameless = "{\"agent_config\":{\"name\":\"a\"},\"default_next\":\"x\"}".to_owned();
    let problems = told(&[agent("a", ""), nameless], "");
    assert_eq!(problems[0], ("stages[1].name".to_owned(), "stages[1].name is required".to_owned()));
    assert!(problems[1].1.ends_with("unknown target: x"), "the rest is checked too");
    for name in ["end", "clarification", "confirmation"] {
        let text = format!("stages[0].name: \"{name}\" is reserved");
        only(&[agent(name, "")], "", "stages[0].name", &text);
    }
    let twice = [agent("a", ""), agent("a", ",\"output_key\":\"b\"")];
    only(&twice, "", "stages[1].name", "duplicate stage name: a");
}

/// K232, row 2.
#[test]
fn keys_are_there_and_each_once() {
    let two = [agent("a", ""), agent("b", ",\"output_key\":\"a\"")];
    only(&two, "", "stages[1].output_key", "duplicate output key: a");
    // What has no output has no key to be in the way.
    let gate = "{\"name\":\"g\",\"node_kind\":\"Gate\",\"output_key\":\"a\"}".to_owned();
    sound(&[agent("a", ""), gate], "");
    let field = "{\"key\":\"k\",\"merge\":\"Append\"}";
    let schema = format!(",\"state_schema\":[{field},{field}]");
    only(&[agent("a", "")], &schema, "state_schema[1].key", "duplicate state key: k");
    let reset = ",\"loop_reset\":[\"a\",\"z\"]";
    only(&[agent("a", "")], reset, "loop_reset[1]", "unknown output key: z");
}

/// K232, row 3.
#[test]
fn agents_are_where_they_belong() {
    for kind in ["Agent", "Router"] {
        let targets = "\"router_targets\":[{\"target\":\"end\"}]";
        let stage = format!("{{\"name\":\"x\",\"node_kind\":\"{kind}\",{targets}}}");
        only(&[stage], "", "stages[0].agent_config", "stage x: agent_config is required");
        let nameless =
            format!("{{\"name\":\"x\",\"node_kind\":\"{kind}\",{targets},\"agent_config\":{{}}}}");
        let refusal = refusal(&[nameless], "");
        let text = "stages[0].agent_config.name is required";
        assert_eq!((refusal.code, refusal.text.as_str()), (Code::BadPipeline, text));
    }
    let role = |role: &str| {
        format!("{{\"name\":\"x\",\"agent_config\":{{\"name\":\"a\",\"has_llm\":true{role}}}}}")
    };
    let field = "stages[0].agent_config.model_role";
    only(&[role("")], "", field, "stage x: model_role is required");
    only(&[role(",\"model_role\":\"\"")], "", field, "stage x: model_role is required");
    sound(&[role(",\"model_role\":\"planner\"")], "");
    let gate = agent("g", ",\"node_kind\":\"Gate\"");
    only(&[gate], "", "stages[0].agent_config", "stage g: a Gate has no agent_config");
    let rule = "\"routing\":[{\"expr\":{\"op\":\"Always\"},\"target\":\"a\"}]";
    let fork = agent("f", &format!(",\"node_kind\":\"Fork\",{rule}"));
    let stages = [agent("a", ""), fork];
    only(&stages, "", "stages[1].agent_config", "stage f: a Fork has no agent_config");
}

/// K232, row 4.
#[test]
fn every_target_is_a_stage() {
    let always = "{\"expr\":{\"op\":\"Always\"},\"target\":\"y\"}";
    let text = "stage x: unknown target: y";
    let rule = agent("x", &format!(",\"routing\":[{always}]"));
    only(&[rule], "", "stages[0].routing[0].target", text);
    only(&[agent("x", ",\"default_next\":\"y\"")], "", "stages[0].default_next", text);
    only(&[agent("x", ",\"error_next\":\"y\"")], "", "stages[0].error_next", text);
    let end = "stage x: unknown target: end";
    only(&[agent("x", ",\"error_next\":\"end\"")], "", "stages[0].error_next", end);
    let parallel = ",\"run_mode\":\"Parallel\"";
    only(&[agent("x", ",\"requires\":[\"y\"]")], parallel, "stages[0].requires[0]", text);
    only(&[agent("x", ",\"after\":[\"y\"]")], parallel, "stages[0].after[0]", text);
    let router = ",\"node_kind\":\"Router\",\"router_targets\":[{\"target\":\"y\"}]";
    only(&[agent("x", router)], "", "stages[0].router_targets[0].target", text);
    let edge = ",\"edge_limits\":[{\"from\":\"x\",\"to\":\"y\",\"max_count\":1}]";
    only(&[agent("x", "")], edge, "edge_limits[0].to", "edge_limits[0]: unknown target: y");
    let resumes = [
        "clarification_resume_stage",
        "confirmation_resume_stage",
        "agent_review_resume_stage",
        "denied_stage",
    ];
    for field in resumes {
        let more = format!(",\"{field}\":\"y\"");
        only(&[agent("x", "")], &more, field, &format!("{field}: unknown target: y"));
        sound(&[agent("y", "")], &more);
    }
    sound(&[agent("x", ",\"default_next\":\"end\"")], "");
}

/// K232, row 5.
#[test]
fn a_question_needs_a_stage_to_come_back_to() {
    for kind in ["clarification", "confirmation"] {
        let field = format!("{kind}_resume_stage");
        let text = format!("{field} is required");
        let default = agent("x", &format!(",\"default_next\":\"{kind}\""));
        only(std::slice::from_ref(&default), "", &field, &text);
        sound(&[default], &format!(",\"{field}\":\"x\""));
        let rule = format!("{{\"expr\":{{\"op\":\"Always\"}},\"target\":\"{kind}\"}}");
        let rules = agent("x", &format!(",\"routing\":[{rule},{rule}]"));
        only(&[rules], "", &field, &text);
        let targets = format!("\"router_targets\":[{{\"target\":\"{kind}\"}}]");
        let router = agent("x", &format!(",\"node_kind\":\"Router\",{targets}"));
        only(&[router], "", &field, &text);
    }
}

/// K232, row 6.
#[test]
fn bounds_let_something_through() {
    let stage = || agent("x", "");
    for field in ["max_agent_hops", "default_timeout_ms", "step_limit"] {
        let text = format!("{field} must be at least 1");
        only(&[stage()], &format!(",\"{field}\":0"), field, &text);
        sound(&[stage()], &format!(",\"{field}\":1"));
    }
    for field in ["max_visits", "timeout_ms"] {
        let text = format!("stage x: {field} must be at least 1");
        let path = format!("stages[0].{field}");
        only(&[agent("x", &format!(",\"{field}\":0"))], "", &path, &text);
        sound(&[agent("x", &format!(",\"{field}\":-1"))], "");
    }
    let edge = |count: i32| {
        format!(",\"edge_limits\":[{{\"from\":\"x\",\"to\":\"x\",\"max_count\":{count}}}]")
    };
    let text = "edge_limits[0]: max_count must be at least 1";
    only(&[stage()], &edge(0), "edge_limits[0].max_count", text);
    sound(&[stage()], &edge(-1));
    sound(&[stage()], ",\"max_agent_hops\":-1,\"default_timeout_ms\":-1");
    // None at all is a bound too.
    sound(&[stage()], ",\"max_iterations\":0,\"max_llm_calls\":0");
}

/// K232, row 7.
#[test]
fn forks_lead_to_agents_and_routers_to_targets() {
    let rule = |to: &str| format!("{{\"expr\":{{\"op\":\"Always\"}},\"target\":\"{to}\"}}");
    let fork = |rules: &[String]| {
        let rules = rules.join(",");
        format!("{{\"name\":\"f\",\"node_kind\":\"Fork\",\"routing\":[{rules}]}}")
    };
    let gate = || "{\"name\":\"g\",\"node_kind\":\"Gate\"}".to_owned();
    let with = |fork: String| [fork, agent("a", ""), agent("b", ""), gate()];
    sound(&with(fork(&[rule("a"), rule("b")])), "");
    let none = "fork f: at least one rule is required";
    only(&with(fork(&[])), "", "stages[0].routing", none);
    let field = "stages[0].routing[1].target";
    let text = "fork f: duplicate target: a";
    only(&with(fork(&[rule("a"), rule("a")])), "", field, text);
    let text = "fork f: target g is not an agent stage";
    only(&with(fork(&[rule("a"), rule("g")])), "", field, text);
    let text = "fork f: target end is not an agent stage";
    only(&with(fork(&[rule("a"), rule("end")])), "", field, text);
    let text = "stage f: unknown target: z";
    only(&with(fork(&[rule("a"), rule("z")])), "", field, text);

    let router = |targets: &str, more: &str| {
        agent("r", &format!(",\"node_kind\":\"Router\",\"router_targets\":[{targets}]{more}"))
    };
    let one = "{\"target\":\"end\"}";
    let none = "router r: at least one target is required";
    only(&[router("", "")], "", "stages[0].router_targets", none);
    let text = "router r: duplicate target: end";
    let field = "stages[0].router_targets[1].target";
    only(&[router(&format!("{one},{one}"), "")], "", field, text);
    let rules = format!(",\"routing\":[{}]", rule("end"));
    only(&[router(one, &rules)], "", "stages[0].routing", "router r: rules are not allowed");
}

/// K232, row 8.
#[test]
fn dependencies_are_for_run_mode_parallel_and_have_no_ring() {
    let parallel = ",\"run_mode\":\"Parallel\"";
    let needs = |name: &str, part: &str, of: &str| agent(name, &format!(",\"{part}\":[\"{of}\"]"));
    for part in ["requires", "after"] {
        let stages = [agent("a", ""), needs("b", part, "a")];
        sound(&stages, parallel);
        let text = format!("stage b: {part} is only for run mode Parallel");
        only(&stages, "", &format!("stages[1].{part}"), &text);
        let text = "stage X: cycle: X -> X";
        only(&[needs("X", part, "X")], parallel, "stages[0].requires", text);
    }
    let ring = [needs("X", "requires", "Y"), needs("Y", "after", "X")];
    only(&ring, parallel, "stages[0].requires", "stage X: cycle: X -> Y -> X");

    let routing = ",\"routing\":[{\"expr\":{\"op\":\"Always\"},\"target\":\"end\"}]";
    let parts = [
        ("routing", routing),
        ("default_next", ",\"default_next\":\"end\""),
        ("error_next", ",\"error_next\":\"a\""),
    ];
    for (part, fields) in parts {
        let text = format!("stage a: {part} is not for run mode Parallel");
        only(&[agent("a", fields)], parallel, &format!("stages[0].{part}"), &text);
    }
    let gate = "{\"name\":\"g\",\"node_kind\":\"Gate\"}".to_owned();
    let text = "stage g: node_kind is not for run mode Parallel";
    only(&[agent("a", ""), gate], parallel, "stages[1].node_kind", text);
}

/// K232, row 9.
#[test]
fn expressions_and_schemas_are_sound() {
    let rule = "{\"expr\":{\"op\":\"And\",\"exprs\":[]},\"target\":\"end\"}";
    let text = "stage x: bad_expression: routing[0].expr: And is empty";
    let stage = agent("x", &format!(",\"routing\":[{rule}]"));
    only(&[stage], "", "stages[0].routing[0].expr", text);
    let when = "{\"target\":\"end\",\"when\":{\"op\":\"Or\",\"exprs\":[]}}";
    let router = format!(",\"node_kind\":\"Router\",\"router_targets\":[{when}]");
    let text = "stage x: bad_expression: router_targets[0].when: Or is empty";
    only(&[agent("x", &router)], "", "stages[0].router_targets[0].when", text);
    let schema = ",\"output_schema\":{\"properties\":{\"a\":{\"format\":\"date\"}}}";
    let text = "stage x: output_schema: unsupported_schema_keyword: /properties/a/format";
    only(&[agent("x", schema)], "", "stages[0].output_schema", text);
    // A path that cannot be read is a problem of the pipeline as well.
    let rule = "{\"condition\":\"a..b\",\"value\":1,\"target\":\"end\"}";
    let refusal = refusal(&[agent("x", &format!(",\"routing\":[{rule}]"))], "");
    assert_eq!(refusal.code, Code::BadPipeline);
    let text = "stages[0].routing[0].condition: path \"a..b\": an empty key";
    assert_eq!(refusal.text, text);
}

/// K24: unknown fields and wrong types are `bad_value` and named by their paths, all of them.
#[test]
fn wrong_types_and_unknown_fields_are_told_by_their_paths() {
    let odd = ",\"retry\":{\"jitter\":5,\"max_retries\":-1},\"node_kind\":\"agent\"";
    let refusal = refusal(&[agent("x", odd)], ",\"max_iterations\":-2,\"owner\":1");
    assert_eq!(refusal.code, Code::BadValue);
    let texts: Vec<&str> = refusal.fields.iter().map(|field| field.text.as_str()).collect();
    let expected = [
        "stages[0].node_kind: \"agent\" is not one of Agent, Gate, Fork, Router",
        "stages[0].retry.max_retries: -1 is not a whole number from 0 to 4294967295",
        "stages[0].retry.jitter: unknown field",
        "max_iterations: -2 is not a limit",
        "owner: unknown field",
    ];
    assert_eq!(texts, expected);
    let paths: Vec<&str> = refusal.fields.iter().map(|field| field.field.as_str()).collect();
    assert_eq!(paths[2..], ["stages[0].retry.jitter", "max_iterations", "owner"]);
    let read = |text: &str| {
        let refusal = PipelineConfig::parse(&json(text), &FlowLimits::DEFAULT).unwrap_err();
        (refusal.code, refusal.text)
    };
    assert_eq!(read("[]"), (Code::BadValue, "expected object, got array".to_owned()));
    let text = "stages: expected array, got object".to_owned();
    assert_eq!(read("{\"name\":\"p\",\"stages\":{}}"), (Code::BadValue, text));
    let text = "name: byte 1 is not allowed".to_owned();
    assert_eq!(read("{\"name\":\"a b\",\"stages\":[]}"), (Code::BadName, text));
    let nul = "{\"name\":\"p\",\"stages\":[{\"name\":\"x\",\"agent_config\":{\"name\":\"a\",\
               \"prompt_key\":\"abc\\u0000\"}}]}";
    let text = "stages[0].agent_config.prompt_key: NUL at byte 3".to_owned();
    assert_eq!(read(nul), (Code::BadValue, text));
}

/// K25.
#[test]
fn limits_are_refused_by_their_own_codes() {
    let one = |stages: &[String], more: &str| {
        let refusal = refusal(stages, more);
        (refusal.code, refusal.text)
    };
    let agents = |count: usize| -> Vec<String> {
        (0..count).map(|at| agent(&format!("s{at}"), "")).collect()
    };
    sound(&agents(256), "");
    let text = "stages: 257 entries, at most 256".to_owned();
    assert_eq!(one(&agents(257), ""), (Code::TooMany, text));

    let rule = "{\"expr\":{\"op\":\"Always\"},\"target\":\"end\"}";
    let rules = |count: usize| {
        let rules = vec![rule; count].join(",");
        agent("x", &format!(",\"routing\":[{rules}]"))
    };
    sound(&[rules(64)], "");
    let text = "stages[0].routing: 65 entries, at most 64".to_owned();
    assert_eq!(one(&[rules(65)], ""), (Code::TooMany, text));

    let long = "x".repeat(129);
    let text = "stages[0].name: 129 bytes, at most 128; \
                stages[0].output_key: 129 bytes, at most 128; \
                stages[0].agent_config.name: 129 bytes, at most 128";
    assert_eq!(one(&[agent(&long, "")], ""), (Code::BadName, text.to_owned()));

    let month: u64 = 30 * 24 * 60 * 60 * 1_000;
    sound(&[agent("x", &format!(",\"timeout_ms\":{month}"))], "");
    let text = format!("stages[0].timeout_ms: {}, at most {month}", month + 1);
    let longer = agent("x", &format!(",\"timeout_ms\":{}", month + 1));
    assert_eq!(one(&[longer], ""), (Code::TooLarge, text));

    let reserve = |amount: u64| agent("x", &format!(",\"reserve\":{{\"tokens_in\":{amount}}}"));
    sound(&[reserve(1 << 40)], "");
    let text = "stages[0].reserve.tokens_in: 2199023255552, at most 1099511627776".to_owned();
    assert_eq!(one(&[reserve(1 << 41)], ""), (Code::AmountTooLarge, text));

    let text = "stages[0].retry.jitter_pct: 101, at most 100".to_owned();
    let jitter = agent("x", ",\"retry\":{\"jitter_pct\":101}");
    assert_eq!(one(&[jitter], ""), (Code::BadValue, text));

    // K232: a ring of Gates must end, so the limit on steps has a limit itself, which −1 is.
    for limit in ["1", "1000", "-1"] {
        sound(&[agent("x", "")], &format!(",\"step_limit\":{limit}"));
    }
    let text = "step_limit: 1001, at most 1000".to_owned();
    let more = ",\"step_limit\":1001";
    assert_eq!(one(&[agent("x", "")], more), (Code::BadPipeline, text));
    let text = "x".repeat((16 << 10) + 1);
    let wordy = format!(
        ",\"node_kind\":\"Router\",\"router_targets\":[{{\"target\":\"end\",\
         \"description\":\"{text}\"}}]"
    );
    let told = "stages[0].router_targets[0].description: 16385 bytes, at most 16384".to_owned();
    assert_eq!(one(&[agent("x", &wordy)], ""), (Code::TooLong, told));
}

/// K428: what is written of a pipeline that was made in this process is read again.
#[test]
fn a_pipeline_that_could_not_be_read_again_is_refused() {
    let good = sound(&[agent("a", "")], "");
    let refused = |change: fn(&mut PipelineConfig)| {
        let mut config = good.clone();
        change(&mut config);
        config.check(&FlowLimits::DEFAULT).unwrap_err().to_string()
    };
    let told = refused(|config| config.metadata = Json::NULL);
    assert_eq!(told, "bad_value: metadata: expected an object, got null");
    let told = refused(|config| {
        let agent = config.stages[0].agent_config.as_mut().unwrap();
        agent.generation = Json::list(Vec::new());
        agent.model_role = Some("a\0".into());
    });
    let expected = "bad_value: stages[0].agent_config.model_role: NUL at byte 1; \
                    stages[0].agent_config.generation: expected an object, got array";
    assert_eq!(told, expected);
}
