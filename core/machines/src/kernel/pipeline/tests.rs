use super::kinds::{ErrorKind, Via};
use super::*;
use crate::kernel::json::strategies::json;

fn parsed(text: &str) -> PipelineConfig {
    PipelineConfig::parse(&json(text), &FlowLimits::DEFAULT)
        .unwrap_or_else(|refusal| panic!("{refusal}"))
}

const LINEAR: &str = r#"{"name":"linear","stages":[
    {"name":"draft","agent_config":{"name":"drafter"},"default_next":"edit"},
    {"name":"edit","agent_config":{"name":"editor"}}]}"#;

/// The defaults of 2.5.
#[test]
fn what_is_absent_has_its_default() {
    let config = parsed(LINEAR);
    assert_eq!(config.run_mode, RunMode::Sequential);
    assert_eq!(config.max_iterations.most(), Some(3));
    assert_eq!(config.max_llm_calls.most(), Some(10));
    assert_eq!(config.max_agent_hops.most(), Some(21));
    assert_eq!(config.default_timeout_ms.most(), Some(300_000));
    assert_eq!((config.step_limit, config.checkpoints), (None, false));
    assert_eq!(config.metadata.to_string(), "{}");

    let stage = &config.stages[0];
    assert_eq!(stage.node_kind, NodeKind::Agent);
    assert_eq!(stage.join, JoinStrategy::All);
    assert_eq!(stage.output_key.as_str(), "draft", "its name");
    assert_eq!(stage.retry, RetryPolicy::default());
    assert_eq!(stage.retry.retry_on, RetryPolicy::RETRIED);
    assert_eq!((stage.retry.max_retries, stage.retry.jitter_pct), (0, 0));
    assert_eq!((stage.on_lost, stage.context_overflow), (OnLost::Reissue, ContextOverflow::Fail));
    assert_eq!((&stage.service, stage.max_tool_rounds), (&None, 10));
    assert_eq!(config.timeout(stage).most(), Some(300_000));

    let agent = stage.agent_config.as_ref().unwrap();
    assert_eq!(agent.tool_access, ToolAccess::All);
    assert_eq!(agent.output_mode, AgentOutputMode::Structured);
    assert_eq!(agent.token_stream, TokenStreamMode::Off);
    assert!(!agent.has_llm);
    let made = PipelineStage::agent(stage.name.clone(), agent.name.clone());
    assert_eq!(made, PipelineStage { default_next: None, ..stage.clone() });
}

/// K230, K382: what means the same is the same, byte for byte.
#[test]
fn the_canonical_json_has_every_field_and_one_hash() {
    let config = parsed(LINEAR);
    let canonical = config.canonical();
    assert_eq!(*blake3::hash(&canonical.canonical()).as_bytes(), config.config_hash());
    assert_eq!(parsed(&canonical.to_string()), config);
    assert_eq!(parsed(&canonical.to_string()).canonical(), canonical);

    let spelled = r#"{"stages":[
        {"agent_config":{"name":"drafter","has_llm":false,"model_role":null},"name":"draft",
         "default_next":"edit","retry":{},"output_key":"draft","max_visits":null},
        {"name":"edit","agent_config":{"name":"editor"},"node_kind":"Agent","routing":[]}],
        "max_iterations":3.0,"name":"linear"}"#;
    assert_eq!(parsed(spelled).config_hash(), config.config_hash());
    let other = parsed(&LINEAR.replace("\"edit\"}", "\"end\"}"));
    assert_ne!(other.config_hash(), config.config_hash());

    let short = r#"{"condition":"a\\.b","value":[1],"target":"draft"}"#;
    let long = r#"{"expr":{"op":"Eq","field":{"scope":"Current","path":"a\\.b"},"value":[1]},
                   "target":"draft"}"#;
    let ruled = |rule: &str| {
        parsed(&LINEAR.replace(
            "{\"name\":\"editor\"}",
            &format!("{{\"name\":\"editor\"}},\"routing\":[{rule}]"),
        ))
    };
    assert_eq!(ruled(short).config_hash(), ruled(long).config_hash());
    assert_eq!(ruled(short).stages[1].routing.len(), 1);
}

/// The bytes that are hashed never change: a session knows its pipeline by them.
#[test]
fn the_hash_of_a_known_pipeline_is_known() {
    let text = "{\"checkpoints\":false,\"default_timeout_ms\":300000,\"edge_limits\":[],\
        \"loop_reset\":[],\"max_agent_hops\":21,\"max_iterations\":3,\"max_llm_calls\":10,\
        \"metadata\":{},\"name\":\"one\",\"run_mode\":\"Sequential\",\"stages\":[{\
        \"after\":[],\"agent_config\":{\"generation\":{},\"has_llm\":false,\"has_policies\":false,\
        \"has_tools\":false,\"name\":\"a\",\"output_mode\":\"Structured\",\
        \"token_stream\":\"Off\",\"tool_access\":\"All\"},\"context_overflow\":\"Fail\",\
        \"join\":\"All\",\"max_tool_rounds\":10,\"name\":\"x\",\"node_kind\":\"Agent\",\
        \"on_lost\":\"Reissue\",\"output_key\":\"x\",\"required_output_fields\":[],\
        \"requires\":[],\"retry\":{\"initial_backoff_ms\":1000,\"jitter_pct\":0,\
        \"max_backoff_ms\":30000,\"max_retries\":0,\"multiplier_pct\":200,\"retry_on\":[\"Tool\",\
        \"Llm\",\"Timeout\",\"OutputInvalid\",\"RouterInvalid\",\"Dispatch\"]},\
        \"router_targets\":[],\"routing\":[]}],\"state_schema\":[]}";
    let config = parsed(r#"{"name":"one","stages":[{"name":"x","agent_config":{"name":"a"}}]}"#);
    assert_eq!(config.canonical().to_string(), text);
    assert_eq!(config.config_hash(), *blake3::hash(text.as_bytes()).as_bytes());
}

#[test]
fn every_field_is_read_and_comes_back() {
    let text = r#"{"agent_review_resume_stage":"a","checkpoints":true,
        "clarification_resume_stage":"a","confirmation_resume_stage":"a",
        "default_timeout_ms":1,"denied_stage":"a",
        "edge_limits":[{"from":"a","max_count":2,"to":"a"},
        {"from":"a","max_count":1,"to":"a"}],"loop_reset":["k"],"max_agent_hops":-1,
        "max_iterations":0,"max_llm_calls":4,"metadata":{"m":1},"name":"p","run_mode":"Sequential",
        "state_schema":[{"key":"s","merge":"MergeDict"}],"step_limit":5,
        "stages":[{"after":[],"agent_config":{"allowed_tools":["t"],"generation":{"seed":7},
        "has_llm":true,"has_policies":true,"has_tools":true,"model_role":"m","name":"n",
        "output_mode":"Text","prompt_key":"k","streaming_prompt_key":"s","token_stream":"Debug",
        "tool_access":"Read"},"context_overflow":"TruncateOldest","default_next":"clarification",
        "error_next":"a","join":"First","max_context_tokens":9,"max_tool_rounds":3,"max_visits":2,
        "name":"a","node_kind":"Router","on_lost":"Fail","output_key":"k",
        "output_schema":{"type":"object"},"required_output_fields":["f"],"requires":[],
        "reserve":{"inference_input_chars":6,"inference_requests":5,"llm_calls":1,"tokens_in":3,
        "tokens_out":4,"tool_calls":2},"retry":{"initial_backoff_ms":1,"jitter_pct":2,
        "max_backoff_ms":3,"max_retries":4,"multiplier_pct":5,"retry_on":["Policy"]},
        "router_targets":[{"description":"d","target":"confirmation","when":{"op":"Always"}}],
        "routing":[],"service":"s/1","timeout_ms":-1}]}"#;
    let config = parsed(text);
    assert_eq!(config.canonical(), json(text));
    assert_eq!(PipelineConfig::from_bytes(&config.to_bytes()).as_ref(), Ok(&config));
    let a = config.stages[0].name.clone();
    assert_eq!(config.edge_limit(&a, &a), Limit::at_most(1), "the least");
    assert_eq!(config.timeout(&config.stages[0]), Limit::UNLIMITED);
    let amounts: Vec<u64> =
        config.stages[0].reserve.unwrap().named().iter().map(|(_, amount)| *amount).collect();
    assert_eq!(amounts, [1, 2, 3, 4, 5, 6]);
    // Bytes of another spelling are no pipeline, though their JSON would be read.
    let short = json(LINEAR);
    assert!(PipelineConfig::from_bytes(&short.to_bytes()).is_err());
}

/// K231.
#[test]
fn a_session_enters_where_the_envelope_says_or_first() {
    let config = parsed(LINEAR);
    let entry = |current: &str| config.entry(current).map(StageName::as_str);
    assert_eq!(entry("edit"), Some("edit"));
    assert_eq!(entry(""), Some("draft"));
    assert_eq!(entry("elsewhere"), Some("draft"));
}

/// K254.
#[test]
fn an_output_has_its_fields_and_fits_its_schema() {
    let schema = r#""required_output_fields":["a","b"],
        "output_schema":{"properties":{"a":{"type":"integer"}}}"#;
    let stage = format!("{{\"name\":\"s\",\"agent_config\":{{\"name\":\"a\"}},{schema}}}");
    let text = format!("{{\"name\":\"p\",\"stages\":[{stage}]}}");
    let stage = parsed(&text).stages.swap_remove(0);
    let told = |output: &str| stage.check_output(&json(output)).err().unwrap_or_default();
    assert_eq!(told(r#"{"a":1,"b":null}"#), "");
    assert_eq!(told(r#"{"a":1}"#), "/: \"b\" is required");
    assert_eq!(told(r#"{"a":"1","b":2}"#), "/a: expected integer, got string");
}

/// The wire numbers of 2.2, K380.
#[test]
fn kinds_have_the_numbers_of_the_specification() {
    fn names<T: Copy + std::fmt::Display + TryFrom<u32, Error = Refusal>>(all: &[T]) -> String {
        let names = (1..=all.len()).map(|number| {
            let number = u32::try_from(number).unwrap();
            T::try_from(number).unwrap().to_string()
        });
        names.collect::<Vec<_>>().join(" ")
    }
    assert_eq!(names(NodeKind::ALL), "Agent Gate Fork Router");
    assert_eq!(names(RunMode::ALL), "Sequential Parallel");
    assert_eq!(names(JoinStrategy::ALL), "All First");
    assert_eq!(
        names(ErrorKind::ALL),
        "Tool Llm Policy Timeout OutputInvalid RouterInvalid WorkerLost ContextOverflow Dispatch"
    );
    assert_eq!(names(OnLost::ALL), "Reissue Fail");
    assert_eq!(names(MergeRule::ALL), "Replace Append MergeDict");
    assert_eq!(names(ContextOverflow::ALL), "Fail TruncateOldest");
    assert_eq!(names(ToolAccess::ALL), "None Read Write All");
    assert_eq!(names(AgentOutputMode::ALL), "Structured Text");
    assert_eq!(names(TokenStreamMode::ALL), "Off Debug Authoritative");
    let vias = "Rule Default Error Router Resume Denied Join Fork Entry";
    assert_eq!(names(Via::ALL), vias);
    for number in [0_u32, 5, 99] {
        let refusal = NodeKind::try_from(number).unwrap_err();
        assert_eq!(refusal.code, Code::BadValue, "K410");
        assert_eq!(refusal.text, format!("node_kind: {number} is unknown"));
    }
    assert_eq!(NodeKind::from_bytes(&[3]), Ok(NodeKind::Fork));
    assert!(NodeKind::from_bytes(&[0]).is_err());
}

/// K23, K410.
#[test]
fn a_limit_is_a_number_or_none() {
    let told = |value| Limit::parse("quota.max_llm_calls", value).map_err(|refusal| refusal.text);
    assert_eq!(told(-1), Ok(Limit::UNLIMITED));
    assert_eq!(told(0), Ok(Limit::at_most(0)));
    assert_eq!(told(-2), Err("quota.max_llm_calls: -2 is not a limit".to_owned()));
    assert!(Limit::at_most(2).allows(2));
    assert!(!Limit::at_most(2).allows(3));
    assert!(Limit::UNLIMITED.allows(u64::MAX));
    assert_eq!(Limit::at_most(7).written().to_string(), "7");
    assert_eq!(Limit::UNLIMITED.written().to_string(), "-1");
}

#[test]
fn a_name_is_refused_for_what_is_wrong_with_it() {
    let told = |text: &str| {
        StageName::parse("stage", text).map_err(|refusal| (refusal.code, refusal.text))
    };
    let refused = |code, text: &str| Err((code, text.to_owned()));
    assert_eq!(told(""), refused(Code::Required, "stage is required"));
    assert_eq!(told("a b"), refused(Code::BadName, "stage: byte 1 is not allowed"));
    assert_eq!(told("a:b"), refused(Code::BadName, "stage: byte 1 is not allowed"));
    assert_eq!(told("é"), refused(Code::BadName, "stage: byte 0 is not allowed"));
    assert!(told("A-z_0.9/x").is_ok());
    let long = "x".repeat(crate::kernel::ids::LENGTH_MAX + 1);
    assert_eq!(told(&long), refused(Code::BadName, "stage: 1281 bytes, at most 1280"));
    let name = StageName::parse("stage", "a/b").unwrap();
    assert_eq!(StageName::from_bytes(&name.to_bytes()), Ok(name));
    assert!(StageName::from_bytes(&[0, 0]).is_err());
    assert!(StageName::from_bytes(&[1, 0, b' ']).is_err());
}
