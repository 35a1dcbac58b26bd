//! What is wrong with a pipeline: its limits (K25), and the rules of K232, each a row of its table.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use super::budget::Limit;
use super::kinds::{NodeKind, RunMode};
use super::limits::FlowLimits;
use super::names::StageName;
use super::{PipelineConfig, PipelineStage, Target, graph};
use crate::kernel::expression::{ExpressionLimits, RoutingExpr};
use crate::kernel::json::Json;
use crate::kernel::json::document::Problems;
use crate::kernel::refusal::Code;
use crate::kernel::schema::Schema;

/// Adds every limit that the pipeline passes.
pub(super) fn limits(config: &PipelineConfig, limits: &FlowLimits, problems: &mut Problems) {
    let mut checker = Limits { limits, problems };
    checker.name("name", config.name.as_str());
    checker.count("stages", config.stages.len(), limits.stages);
    checker.count("edge_limits", config.edge_limits.len(), limits.entries);
    checker.count("state_schema", config.state_schema.len(), limits.entries);
    checker.count("loop_reset", config.loop_reset.len(), limits.entries);
    for (at, field) in config.state_schema.iter().enumerate() {
        checker.text(&format!("state_schema[{at}].key"), &field.key);
    }
    checker.object("metadata", &config.metadata);
    checker.span("default_timeout_ms", config.default_timeout_ms);
    checker.steps(config.step_limit);
    for (at, stage) in config.stages.iter().enumerate() {
        checker.stage(&format!("stages[{at}]"), stage);
    }
}

struct Limits<'a> {
    limits: &'a FlowLimits,
    problems: &'a mut Problems,
}

impl Limits<'_> {
    fn name(&mut self, field: &str, name: &str) {
        self.most(Code::BadName, field, name.len() as u64, self.limits.name_bytes, " bytes");
    }

    fn text(&mut self, field: &str, text: &str) {
        if let Some(at) = text.bytes().position(|byte| byte == 0) {
            self.problems.tell(Code::BadValue, field, format!("NUL at byte {at}"));
        }
        self.most(Code::TooLong, field, text.len() as u64, self.limits.text_bytes, " bytes");
    }

    /// What was made in this process may be anything; what is read back is an object.
    fn object(&mut self, field: &str, json: &Json) {
        if json.as_object().is_none() {
            let told = format!("expected an object, got {}", json.type_name());
            self.problems.tell(Code::BadValue, field, told);
        }
    }

    fn count(&mut self, field: &str, count: usize, most: u32) {
        self.most(Code::TooMany, field, count as u64, most, " entries");
    }

    fn most(&mut self, code: Code, field: &str, got: u64, most: impl Into<u64>, unit: &str) {
        let most = most.into();
        if got > most {
            self.problems.tell(code, field, format!("{got}{unit}, at most {most}"));
        }
    }

    fn span(&mut self, field: &str, limit: Limit) {
        let most = self.limits.span_ms;
        self.most(Code::TooLarge, field, limit.most().unwrap_or(0), most, "");
    }

    /// Without a bound a ring of Gates would hold a decision up for ever, so −1 is as much as there
    /// can be, and no number is more (K232, K241).
    fn steps(&mut self, limit: Option<Limit>) {
        let steps = limit.and_then(Limit::most).unwrap_or(0);
        self.most(Code::BadPipeline, "step_limit", steps, self.limits.steps, "");
    }

    fn stage(&mut self, field: &str, stage: &PipelineStage) {
        let entries = self.limits.entries;
        self.name(&format!("{field}.name"), stage.name.as_str());
        self.name(&format!("{field}.output_key"), stage.output_key.as_str());
        if let Some(service) = &stage.service {
            self.name(&format!("{field}.service"), service.as_str());
        }
        let rules = match stage.node_kind {
            NodeKind::Fork => self.limits.rules.min(self.limits.branches),
            NodeKind::Agent | NodeKind::Gate | NodeKind::Router => self.limits.rules,
        };
        self.count(&format!("{field}.routing"), stage.routing.len(), rules);
        self.count(&format!("{field}.requires"), stage.requires.len(), entries);
        self.count(&format!("{field}.after"), stage.after.len(), entries);
        self.count(&format!("{field}.retry.retry_on"), stage.retry.retry_on.len(), entries);
        self.count(&format!("{field}.router_targets"), stage.router_targets.len(), entries);
        for (at, target) in stage.router_targets.iter().enumerate() {
            self.text(&format!("{field}.router_targets[{at}].description"), &target.description);
        }
        let outputs = &stage.required_output_fields;
        self.count(&format!("{field}.required_output_fields"), outputs.len(), entries);
        for (at, output) in outputs.iter().enumerate() {
            self.text(&format!("{field}.required_output_fields[{at}]"), output);
        }
        if let Some(timeout) = stage.timeout_ms {
            self.span(&format!("{field}.timeout_ms"), timeout);
        }
        for (name, amount) in stage.reserve.iter().flat_map(|amounts| amounts.named()) {
            let field = format!("{field}.reserve.{name}");
            self.most(Code::AmountTooLarge, &field, amount, self.limits.amount, "");
        }
        stage.retry.check(&format!("{field}.retry"), self.limits.span_ms, self.problems);
        self.agent(&format!("{field}.agent_config"), stage);
    }

    fn agent(&mut self, field: &str, stage: &PipelineStage) {
        let Some(agent) = &stage.agent_config else {
            return;
        };
        self.name(&format!("{field}.name"), agent.name.as_str());
        let texts = [
            ("model_role", &agent.model_role),
            ("prompt_key", &agent.prompt_key),
            ("streaming_prompt_key", &agent.streaming_prompt_key),
        ];
        for (name, text) in texts {
            self.text(&format!("{field}.{name}"), text.as_deref().unwrap_or_default());
        }
        self.object(&format!("{field}.generation"), &agent.generation);
        let tools = agent.allowed_tools.as_deref().unwrap_or_default();
        self.count(&format!("{field}.allowed_tools"), tools.len(), self.limits.entries);
        for (at, tool) in tools.iter().enumerate() {
            self.text(&format!("{field}.allowed_tools[{at}]"), tool);
        }
    }
}

/// Adds every rule of K232 that the pipeline breaks, in the order of the table.
pub(super) fn rules(config: &PipelineConfig, limits: &FlowLimits, problems: &mut Problems) {
    let stages = config.stages.iter().map(|stage| (&stage.name, stage)).collect();
    let mut checker = Rules { config, stages, problems };
    checker.names();
    checker.keys();
    checker.agents();
    checker.targets();
    checker.resume_stages();
    checker.bounds();
    checker.forks_and_routers();
    checker.dependencies();
    checker.expressions(&limits.expression);
    checker.schemas();
}

struct Rules<'a, 'p> {
    config: &'a PipelineConfig,
    stages: BTreeMap<&'a StageName, &'a PipelineStage>,
    problems: &'p mut Problems,
}

/// Returns the items that are equal to one before them, with their places.
fn repeated<'a, T: Ord + ?Sized + 'a>(
    items: impl Iterator<Item = &'a T>,
) -> impl Iterator<Item = (usize, &'a T)> {
    let mut seen = BTreeSet::new();
    items.enumerate().filter(move |(_, item)| !seen.insert(*item))
}

impl<'a> Rules<'a, '_> {
    fn add(&mut self, field: impl Into<String>, text: impl Into<String>) {
        self.problems.add(Code::BadPipeline, field.into(), text);
    }

    fn stages(&self) -> impl Iterator<Item = (usize, &'a PipelineStage)> + use<'a> {
        self.config.stages.iter().enumerate()
    }

    fn names(&mut self) {
        if self.config.stages.is_empty() {
            self.add("stages", "stages is required");
        }
        for (at, stage) in self.stages() {
            let name = stage.name.as_str();
            if Target::RESERVED.contains(&name) {
                let field = format!("stages[{at}].name");
                self.add(&field, format!("{field}: {name:?} is reserved"));
            }
        }
        let config = self.config;
        for (at, name) in repeated(config.stages.iter().map(|stage| &stage.name)) {
            self.add(format!("stages[{at}].name"), format!("duplicate stage name: {name}"));
        }
    }

    /// Only Agents and Routers have outputs.
    fn keys(&mut self) {
        let config = self.config;
        let outputs = || self.stages().filter(|(_, stage)| has_agent(stage));
        let places: Vec<usize> = outputs().map(|(at, _)| at).collect();
        let keys: BTreeSet<_> = outputs().map(|(_, stage)| &stage.output_key).collect();
        let twice: Vec<_> = repeated(outputs().map(|(_, stage)| &stage.output_key)).collect();
        for (nth, key) in twice {
            let field = format!("stages[{}].output_key", places[nth]);
            self.add(field, format!("duplicate output key: {key}"));
        }
        for (at, key) in repeated(config.state_schema.iter().map(|field| field.key.as_ref())) {
            self.add(format!("state_schema[{at}].key"), format!("duplicate state key: {key}"));
        }
        for (at, key) in config.loop_reset.iter().enumerate() {
            if !keys.contains(key) {
                self.add(format!("loop_reset[{at}]"), format!("unknown output key: {key}"));
            }
        }
    }

    fn agents(&mut self) {
        for (at, stage) in self.stages() {
            let field = format!("stages[{at}].agent_config");
            let name = &stage.name;
            match (has_agent(stage), &stage.agent_config) {
                (true, None) => self.add(field, format!("stage {name}: agent_config is required")),
                (true, Some(agent)) => {
                    let role = agent.model_role.as_deref().unwrap_or_default();
                    if agent.has_llm && role.is_empty() {
                        let text = format!("stage {name}: model_role is required");
                        self.add(format!("{field}.model_role"), text);
                    }
                }
                (false, Some(_)) => {
                    let kind = stage.node_kind;
                    self.add(field, format!("stage {name}: a {kind} has no agent_config"));
                }
                (false, None) => {}
            }
        }
    }

    /// Checks that `name` is a stage; `who` begins the text.
    fn known(&mut self, field: String, who: &str, name: &StageName) {
        if !self.stages.contains_key(name) {
            self.add(field, format!("{who}: unknown target: {name}"));
        }
    }

    fn targets(&mut self) {
        let config = self.config;
        for (at, stage) in self.stages() {
            let who = format!("stage {}", stage.name);
            for (part, target) in led_to(stage) {
                if let Some(name) = target.stage() {
                    self.known(format!("stages[{at}].{part}"), &who, name);
                }
            }
            if let Some(name) = &stage.error_next {
                self.known(format!("stages[{at}].error_next"), &who, name);
            }
            for (part, names) in [("requires", &stage.requires), ("after", &stage.after)] {
                for (nth, name) in names.iter().enumerate() {
                    self.known(format!("stages[{at}].{part}[{nth}]"), &who, name);
                }
            }
        }
        for (at, limit) in config.edge_limits.iter().enumerate() {
            let who = format!("edge_limits[{at}]");
            self.known(format!("{who}.from"), &who, &limit.from);
            self.known(format!("{who}.to"), &who, &limit.to);
        }
        let resumes = [
            ("clarification_resume_stage", &config.clarification_resume_stage),
            ("confirmation_resume_stage", &config.confirmation_resume_stage),
            ("agent_review_resume_stage", &config.agent_review_resume_stage),
            ("denied_stage", &config.denied_stage),
        ];
        for (field, name) in resumes {
            if let Some(name) = name {
                self.known(field.to_owned(), field, name);
            }
        }
    }

    fn resume_stages(&mut self) {
        let config = self.config;
        let needed = [
            (
                Target::Clarification,
                "clarification_resume_stage",
                &config.clarification_resume_stage,
            ),
            (Target::Confirmation, "confirmation_resume_stage", &config.confirmation_resume_stage),
        ];
        for (target, field, resume) in needed {
            let led = |stage| led_to(stage).into_iter().any(|(_, led)| *led == target);
            if resume.is_none() && config.stages.iter().any(led) {
                self.add(field, format!("{field} is required"));
            }
        }
    }

    fn bounds(&mut self) {
        let config = self.config;
        let mut bounds = vec![
            ("max_agent_hops".to_owned(), "max_agent_hops".to_owned(), Some(config.max_agent_hops)),
            (
                "default_timeout_ms".to_owned(),
                "default_timeout_ms".to_owned(),
                Some(config.default_timeout_ms),
            ),
            ("step_limit".to_owned(), "step_limit".to_owned(), config.step_limit),
        ];
        for (at, stage) in self.stages() {
            for (name, limit) in
                [("max_visits", stage.max_visits), ("timeout_ms", stage.timeout_ms)]
            {
                let told = format!("stage {}: {name}", stage.name);
                bounds.push((format!("stages[{at}].{name}"), told, limit));
            }
        }
        for (at, limit) in config.edge_limits.iter().enumerate() {
            let field = format!("edge_limits[{at}]");
            let told = format!("{field}: max_count");
            bounds.push((format!("{field}.max_count"), told, Some(limit.max_count)));
        }
        for (field, told, limit) in bounds {
            if limit.is_some_and(|limit| !limit.allows(1)) {
                self.add(field, format!("{told} must be at least 1"));
            }
        }
    }

    fn forks_and_routers(&mut self) {
        for (at, stage) in self.stages() {
            match stage.node_kind {
                NodeKind::Fork => self.fork(at, stage),
                NodeKind::Router => self.router(at, stage),
                NodeKind::Agent | NodeKind::Gate => {}
            }
        }
    }

    fn fork(&mut self, at: usize, stage: &PipelineStage) {
        let who = format!("fork {}", stage.name);
        if stage.routing.is_empty() {
            let text = format!("{who}: at least one rule is required");
            self.add(format!("stages[{at}].routing"), text);
        }
        for (nth, rule) in stage.routing.iter().enumerate() {
            let led = rule.target.stage().map(|name| self.stages.get(name));
            let is_agent = match led {
                Some(Some(led)) => led.node_kind == NodeKind::Agent,
                // An unknown target was told already.
                Some(None) => true,
                None => false,
            };
            if !is_agent {
                let text = format!("{who}: target {} is not an agent stage", rule.target);
                self.add(format!("stages[{at}].routing[{nth}].target"), text);
            }
        }
        for (nth, target) in repeated(stage.routing.iter().map(|rule| &rule.target)) {
            let field = format!("stages[{at}].routing[{nth}].target");
            self.add(field, format!("{who}: duplicate target: {target}"));
        }
    }

    fn router(&mut self, at: usize, stage: &PipelineStage) {
        let who = format!("router {}", stage.name);
        if stage.router_targets.is_empty() {
            let text = format!("{who}: at least one target is required");
            self.add(format!("stages[{at}].router_targets"), text);
        }
        if !stage.routing.is_empty() {
            self.add(format!("stages[{at}].routing"), format!("{who}: rules are not allowed"));
        }
        for (nth, target) in repeated(stage.router_targets.iter().map(|target| &target.target)) {
            let field = format!("stages[{at}].router_targets[{nth}].target");
            self.add(field, format!("{who}: duplicate target: {target}"));
        }
    }

    fn dependencies(&mut self) {
        for (at, stage) in self.stages() {
            let wrong = match self.config.run_mode {
                RunMode::Sequential => dependencies_of(stage),
                RunMode::Parallel => routing_of(stage),
            };
            let only = match self.config.run_mode {
                RunMode::Sequential => "is only for run mode Parallel",
                RunMode::Parallel => "is not for run mode Parallel",
            };
            for part in wrong {
                let text = format!("stage {}: {part} {only}", stage.name);
                self.add(format!("stages[{at}].{part}"), text);
            }
        }
        for cycle in graph::cycles(self.config) {
            let names: Vec<&str> = cycle.iter().map(|at| self.name(*at)).collect();
            let (first, at) = (names[0], cycle[0]);
            let text = format!("stage {first}: cycle: {} -> {first}", names.join(" -> "));
            self.add(format!("stages[{at}].requires"), text);
        }
    }

    fn name(&self, at: usize) -> &'a str {
        self.config.stages[at].name.as_str()
    }

    fn expressions(&mut self, limits: &ExpressionLimits) {
        for (at, stage) in self.stages() {
            for (part, expr) in expressions_of(stage) {
                if let Err(told) = expr.check(limits) {
                    let text = format!("stage {}: bad_expression: {part}: {told}", stage.name);
                    self.add(format!("stages[{at}].{part}"), text);
                }
            }
        }
    }

    fn schemas(&mut self) {
        for (at, stage) in self.stages() {
            let Some(schema) = &stage.output_schema else {
                continue;
            };
            if let Err(refusal) = Schema::compile("output_schema", schema) {
                let text = format!("stage {}: {}", stage.name, refusal.text);
                self.add(format!("stages[{at}].output_schema"), text);
            }
        }
    }
}

const fn has_agent(stage: &PipelineStage) -> bool {
    match stage.node_kind {
        NodeKind::Agent | NodeKind::Router => true,
        NodeKind::Gate | NodeKind::Fork => false,
    }
}

/// Returns where a stage leads by rules, default and router targets, and by which part of it.
fn led_to(stage: &PipelineStage) -> Vec<(String, &Target)> {
    let rules = stage.routing.iter().enumerate();
    let rules = rules.map(|(nth, rule)| (format!("routing[{nth}].target"), &rule.target));
    let default = stage.default_next.iter().map(|target| ("default_next".to_owned(), target));
    let routers = stage.router_targets.iter().enumerate();
    let routers =
        routers.map(|(nth, target)| (format!("router_targets[{nth}].target"), &target.target));
    rules.chain(default).chain(routers).collect()
}

fn expressions_of(stage: &PipelineStage) -> Vec<(String, &RoutingExpr)> {
    let rules = stage.routing.iter().enumerate();
    let rules = rules.map(|(nth, rule)| (format!("routing[{nth}].expr"), &rule.expr));
    let targets = stage.router_targets.iter().enumerate();
    let whens = targets.filter_map(|(nth, target)| {
        target.when.as_ref().map(|when| (format!("router_targets[{nth}].when"), when))
    });
    rules.chain(whens).collect()
}

/// Returns what a stage has of what only run mode Parallel knows.
fn dependencies_of(stage: &PipelineStage) -> Vec<&'static str> {
    let parts = [("requires", stage.requires.is_empty()), ("after", stage.after.is_empty())];
    parts.into_iter().filter(|(_, is_empty)| !is_empty).map(|(part, _)| part).collect()
}

/// Returns what a stage has of what run mode Parallel does without.
fn routing_of(stage: &PipelineStage) -> Vec<&'static str> {
    let parts = [
        ("node_kind", stage.node_kind == NodeKind::Agent),
        ("routing", stage.routing.is_empty()),
        ("default_next", stage.default_next.is_none()),
        ("error_next", stage.error_next.is_none()),
    ];
    parts.into_iter().filter(|(_, fits)| !fits).map(|(part, _)| part).collect()
}
