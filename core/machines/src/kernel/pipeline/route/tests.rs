use std::collections::BTreeMap;

use super::*;
use crate::kernel::json::Json;
use crate::kernel::json::strategies::json;
use crate::kernel::pipeline::limits::FlowLimits;
use crate::kernel::pipeline::names::OutputKey;

/// The newest output, and nothing else.
struct Newest(Json);

impl Scope for Newest {
    fn current(&self) -> Option<&Json> {
        Some(&self.0)
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

fn newest(text: &str) -> Newest {
    Newest(json(text))
}

fn name(text: &str) -> StageName {
    StageName::parse("name", text).unwrap()
}

fn pipeline(text: &str) -> PipelineConfig {
    PipelineConfig::parse(&json(text), &FlowLimits::DEFAULT)
        .unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// A pipeline of one stage `s` with these fields, and Agents `a`, `b`, `c` after it.
fn stage(fields: &str) -> PipelineStage {
    let agents = ["a", "b", "c"]
        .map(|name| format!("{{\"name\":\"{name}\",\"agent_config\":{{\"name\":\"{name}\"}}}}"));
    let text = format!(
        "{{\"name\":\"p\",\"stages\":[{{\"name\":\"s\",{fields}}},{}],\
         \"clarification_resume_stage\":\"a\"}}",
        agents.join(",")
    );
    pipeline(&text).stages.swap_remove(0)
}

/// Where it goes: the target and why.
fn goes(stage: &PipelineStage, ended: &Ended, output: &str) -> Option<(String, Via)> {
    route(stage, ended, &newest(output)).map(|route| (route.target.to_string(), route.via))
}

const AGENT: &str = "\"agent_config\":{\"name\":\"s\"}";
const RULES: &str = "\"routing\":[\
    {\"condition\":\"verdict\",\"value\":\"revise\",\"target\":\"a\"},\
    {\"expr\":{\"op\":\"Exists\",\"field\":{\"scope\":\"Current\",\"path\":\"verdict\"}},\
     \"target\":\"b\"}]";

/// K261, in its order.
#[test]
fn the_first_rule_that_is_true_leads_and_then_the_default_and_then_the_end() {
    let some = |target: &str, via| Some((target.to_owned(), via));
    let ruled = stage(&format!("{AGENT},{RULES},\"default_next\":\"c\""));
    assert_eq!(goes(&ruled, &Ended::Done, r#"{"verdict":"revise"}"#), some("a", Via::Rule));
    assert_eq!(goes(&ruled, &Ended::Done, r#"{"verdict":"good"}"#), some("b", Via::Rule));
    assert_eq!(goes(&ruled, &Ended::Done, "{}"), some("c", Via::Default));
    let bare = stage(&format!("{AGENT},{RULES}"));
    assert_eq!(goes(&bare, &Ended::Done, "{}"), some("end", Via::Default));
    let asks = stage("\"node_kind\":\"Gate\",\"default_next\":\"clarification\"");
    assert_eq!(goes(&asks, &Ended::Done, "{}"), some("clarification", Via::Default));
}

#[test]
fn a_failure_leads_to_error_next_and_to_nothing_else() {
    let some = |target: &str, via| Some((target.to_owned(), via));
    let saved = stage(&format!("{AGENT},{RULES},\"error_next\":\"c\""));
    assert_eq!(goes(&saved, &Ended::Failed, r#"{"verdict":"good"}"#), some("c", Via::Error));
    let lost = stage(&format!("{AGENT},{RULES},\"default_next\":\"c\""));
    assert_eq!(goes(&lost, &Ended::Failed, r#"{"verdict":"good"}"#), None);
}

/// K262.
#[test]
fn a_router_goes_where_it_chose_and_falls_back_to_its_default() {
    let some = |target: &str, via| Some((target.to_owned(), via));
    let targets = "\"node_kind\":\"Router\",\"router_targets\":[{\"target\":\"a\"},\
        {\"target\":\"b\",\"when\":{\"op\":\"Eq\",\"field\":{\"scope\":\"Current\",\
        \"path\":\"n\"},\"value\":1}},{\"target\":\"end\"}]";
    let router = stage(&format!("{AGENT},{targets}"));
    let chose = Ended::Chose(Target::Stage(name("b")));
    assert_eq!(goes(&router, &chose, "{}"), some("b", Via::Router));
    assert_eq!(goes(&router, &Ended::Failed, "{}"), None);
    let careful = stage(&format!("{AGENT},{targets},\"default_next\":\"c\""));
    assert_eq!(goes(&careful, &Ended::Failed, "{}"), some("c", Via::Default));
    let saved = stage(&format!("{AGENT},{targets},\"default_next\":\"c\",\"error_next\":\"a\""));
    assert_eq!(goes(&saved, &Ended::Failed, "{}"), some("a", Via::Error));

    let handed = |output: &str| -> Vec<String> {
        let targets = handed_out(&router, &newest(output)).into_iter();
        targets.map(|target| target.target.to_string()).collect()
    };
    assert_eq!(handed("{\"n\":1}"), ["a", "b", "end"]);
    assert_eq!(handed("{}"), ["a", "end"]);
}

/// K274, K277.
#[test]
fn all_rules_of_a_fork_that_are_true_are_its_branches() {
    let rule = |target: &str, least: u32| {
        format!(
            "{{\"expr\":{{\"op\":\"Gte\",\"field\":{{\"scope\":\"Current\",\"path\":\"n\"}},\
             \"value\":{least}}},\"target\":\"{target}\"}}"
        )
    };
    let rules = [rule("c", 1), rule("a", 3), rule("b", 2)].join(",");
    let fork = stage(&format!("\"node_kind\":\"Fork\",\"routing\":[{rules}],\"error_next\":\"c\""));
    let opened = |output: &str| -> Vec<String> {
        branches(&fork, &newest(output)).into_iter().map(ToString::to_string).collect()
    };
    assert_eq!(opened("{\"n\":3}"), ["c", "a", "b"], "in declared order");
    assert_eq!(opened("{\"n\":2}"), ["c", "b"]);
    assert_eq!(opened("{}"), Vec::<String>::new());
    assert_eq!(default(&fork), Target::End, "where it goes then");

    let told = |route: Option<Route>| route.map(|route| (route.target.to_string(), route.via));
    assert_eq!(told(joined(&fork, true)), Some(("end".to_owned(), Via::Join)));
    assert_eq!(told(joined(&fork, false)), Some(("c".to_owned(), Via::Error)));
    let bare = stage(&format!("\"node_kind\":\"Fork\",\"routing\":[{}]", rule("a", 1)));
    assert_eq!(told(joined(&bare, false)), None);
}

/// The loop of 8.6: writer → critic, and back while the verdict is revise.
fn writer_and_critic(more: &str) -> PipelineConfig {
    pipeline(&format!(
        "{{\"name\":\"loop\",\"max_iterations\":2,{more}\"stages\":[\
         {{\"name\":\"writer\",\"agent_config\":{{\"name\":\"w\"}},\"default_next\":\"critic\"}},\
         {{\"name\":\"critic\",\"agent_config\":{{\"name\":\"c\"}},\"max_visits\":4,\"routing\":\
         [{{\"condition\":\"verdict\",\"value\":\"revise\",\"target\":\"writer\"}}]}}]}}"
    ))
}

const NONE: Taken =
    Taken { visits: 0, edge: 0, iteration: 0, iterations: 0, iterations_limit: Limit::UNLIMITED };

/// K265, and the loop of 8.6: the third time the session does not move.
#[test]
fn a_move_is_checked_against_each_bound_in_order() {
    let (writer, critic) = (name("writer"), name("critic"));
    let check = |config: &PipelineConfig, back: bool, taken: Taken| {
        let edge = if back { (&critic, &writer) } else { (&writer, &critic) };
        check_move(config, edge, &taken).map_err(|stopped| (stopped.bound, stopped.message))
    };
    let free = writer_and_critic("");
    assert_eq!(check(&free, false, Taken { visits: 3, edge: 9, iteration: 9, ..NONE }), Ok(false));
    let told = "stage visit limit reached: critic (4)".to_owned();
    assert_eq!(check(&free, false, Taken { visits: 4, ..NONE }), Err((Bound::StageVisits, told)));
    assert_eq!(check(&free, true, Taken { iteration: 1, ..NONE }), Ok(true));
    let told = "iteration limit reached: critic -> writer (2)".to_owned();
    assert_eq!(
        check(&free, true, Taken { iteration: 2, ..NONE }),
        Err((Bound::Iterations, told.clone()))
    );
    // The quota's iterations are those of the process, over all of its sessions.
    let quota = Taken { iteration: 1, iterations: 5, iterations_limit: Limit::at_most(6), ..NONE };
    assert_eq!(check(&free, true, quota), Ok(true));
    let (_, message) = check(&free, true, Taken { iterations: 6, ..quota }).unwrap_err();
    assert_eq!(message, told.replace("(2)", "(1)"));

    let limit = "\"edge_limits\":[{\"from\":\"critic\",\"to\":\"writer\",\"max_count\":2}],";
    let limited = writer_and_critic(limit);
    assert_eq!(check(&limited, true, Taken { edge: 1, ..NONE }), Ok(true), "twice");
    let told = "edge limit reached: critic -> writer (2)".to_owned();
    assert_eq!(
        check(&limited, true, Taken { edge: 2, iteration: 2, ..NONE }),
        Err((Bound::Edge, told)),
        "K265, and before the iterations"
    );
    assert_eq!(check(&limited, false, Taken { edge: 9, ..NONE }), Ok(false));
}

/// A session that follows routes and checks, as the kernel will, ends where 8.6 says.
#[test]
fn the_loop_of_the_worked_example_ends_at_its_iterations() {
    let config = writer_and_critic("");
    let mut at = config.entry("").unwrap().clone();
    let mut visits = BTreeMap::from([(at.clone(), 1_u64)]);
    let mut edges: BTreeMap<(StageName, StageName), u64> = BTreeMap::new();
    let mut iteration = 0;
    let stopped = loop {
        let stage = config.stage(&at).unwrap();
        let went = route(stage, &Ended::Done, &newest(r#"{"verdict":"revise"}"#)).unwrap();
        let to = went.target.stage().unwrap().clone();
        let edge = (at.clone(), to.clone());
        let taken = Taken {
            visits: visits.get(&to).copied().unwrap_or(0),
            edge: edges.get(&edge).copied().unwrap_or(0),
            iteration,
            ..NONE
        };
        match check_move(&config, (&at, &to), &taken) {
            Err(stopped) => break stopped,
            Ok(back) => {
                iteration += u64::from(back);
                *visits.entry(to.clone()).or_default() += 1;
                *edges.entry(edge).or_default() += 1;
                at = to;
            }
        }
    };
    assert_eq!(stopped.bound, Bound::Iterations);
    assert_eq!(iteration, 2, "still 2: not moved");
    assert_eq!(edges[&(name("critic"), name("writer"))], 2);
    assert_eq!(visits[&name("writer")], 3);
}
