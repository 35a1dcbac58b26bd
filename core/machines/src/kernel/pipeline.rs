//! Pipelines: what they are made of, as configuration and as JSON (2.5).
//!
//! ```text
//!            decode                  check (K232, K25)
//!   JSON ─────────────► PipelineConfig ────────────────► accepted: canonical JSON, config hash
//!     │ every wrong field              │ every problem       (K230)
//!     ▼                                ▼
//!   refused bad_value                refused bad_pipeline
//! ```
//!
//! What pipelines do is decided by pure functions next to it: [`route`] where to go, [`graph`]
//! which moves go back and which stages are ready, [`retry`] how long to wait.

pub mod budget;
mod check;
pub mod graph;
pub mod kinds;
pub mod limits;
pub mod names;
#[cfg(test)]
mod props;
pub mod retry;
pub mod route;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::budget::{Amounts, Limit};
use self::kinds::{
    AgentOutputMode, ContextOverflow, JoinStrategy, MergeRule, NodeKind, OnLost, RunMode,
    TokenStreamMode, ToolAccess,
};
use self::limits::FlowLimits;
use self::names::{AgentName, OutputKey, PipelineName, ServiceName, StageName};
use self::retry::RetryPolicy;
use super::expression::{Path, RoutingExpr};
use super::json::Json;
use super::json::document::{Document, Fields, Place, Problems, decode, read};
use super::refusal::{Code, Refusal};
use super::schema::Schema;
use crate::codec::{Malformed, Reader, Wire};

/// Where a rule or a default leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A stage.
    Stage(StageName),
    /// The end of the session: Completed.
    End,
    /// A question to a person, and then the clarification's resume stage.
    Clarification,
    /// A request for approval, and then the confirmation's resume stage.
    Confirmation,
}

impl Target {
    /// What stages cannot be called: the targets that are none.
    pub const RESERVED: [&'static str; 3] = ["end", "clarification", "confirmation"];

    /// Returns the target as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Stage(name) => name.as_str(),
            Self::End => "end",
            Self::Clarification => "clarification",
            Self::Confirmation => "confirmation",
        }
    }

    /// Returns the stage, if it is one.
    #[must_use]
    pub const fn stage(&self) -> Option<&StageName> {
        match self {
            Self::Stage(name) => Some(name),
            Self::End | Self::Clarification | Self::Confirmation => None,
        }
    }
}

impl From<StageName> for Target {
    fn from(name: StageName) -> Self {
        match name.as_str() {
            "end" => Self::End,
            "clarification" => Self::Clarification,
            "confirmation" => Self::Confirmation,
            _ => Self::Stage(name),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Document for Target {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        StageName::read(json, place, problems).map(Self::from)
    }

    fn written(&self) -> Json {
        Json::from(self.as_str())
    }
}

document! {
    /// The agent that an Agent or Router stage runs.
    pub struct AgentConfig {
        /// Its name, which its reports must quote.
        pub name: AgentName => required,
        /// Whether it calls a model.
        pub has_llm: bool => or(false),
        /// Whether it calls tools.
        pub has_tools: bool => or(false),
        /// Whether policies are checked for it.
        pub has_policies: bool => or(false),
        /// Which tools it may use (K253).
        pub tool_access: ToolAccess => or(ToolAccess::default()),
        /// Which of them, for Read and Write; absent is no list.
        pub allowed_tools: Option<Vec<Arc<str>>> => optional,
        /// Which model it asks; required with `has_llm`.
        pub model_role: Option<Arc<str>> => optional,
        /// Which prompt it uses.
        pub prompt_key: Option<Arc<str>> => optional,
        /// What its output is.
        pub output_mode: AgentOutputMode => or(AgentOutputMode::default()),
        /// Whether its tokens are shown as they come.
        pub token_stream: TokenStreamMode => or(TokenStreamMode::default()),
        /// Which prompt it uses then.
        pub streaming_prompt_key: Option<Arc<str>> => optional,
        /// What the worker is told: temperature, max_tokens, seed and the like.
        pub generation: Json => object,
    }

    /// How often an edge may be taken.
    pub struct EdgeLimit {
        /// From where.
        pub from: StageName => required,
        /// To where.
        pub to: StageName => required,
        /// How often: at least once.
        pub max_count: Limit => required,
    }

    /// A key of outputs that is kept in the state, and how (K281).
    pub struct StateField {
        /// A key of agents' outputs, and of the state.
        pub key: Arc<str> => required,
        /// How outputs are merged into it.
        pub merge: MergeRule => required,
    }

    /// Where a Router may go.
    pub struct RouterTarget {
        /// To where.
        pub target: Target => required,
        /// What the agent is told of it.
        pub description: Arc<str> => or(Arc::default()),
        /// When it is handed out: always, if absent (K262).
        pub when: Option<RoutingExpr> => optional,
    }

    /// A stage.
    pub struct PipelineStage {
        /// Its name.
        pub name: StageName => required,
        /// What it does.
        pub node_kind: NodeKind => or(NodeKind::default()),
        /// Which agent it runs; of Agents and Routers.
        pub agent_config: Option<AgentConfig> => optional,
        /// When to go where, in order.
        pub routing: Vec<RoutingRule> => or(Vec::new()),
        /// Where to go when no rule is true: the end, if absent.
        pub default_next: Option<Target> => optional,
        /// Where to go when the stage has failed for good.
        pub error_next: Option<StageName> => optional,
        /// How often it may be visited.
        pub max_visits: Option<Limit> => optional,
        /// What must be done before, in run mode Parallel.
        pub requires: Vec<StageName> => or(Vec::new()),
        /// What must be done before, all of it, whatever `join` says.
        pub after: Vec<StageName> => or(Vec::new()),
        /// How many of `requires`, or of a Fork's branches, are waited for.
        pub join: JoinStrategy => or(JoinStrategy::default()),
        /// Where its output is kept: under its name by default.
        pub output_key: OutputKey => or(OutputKey::of_stage(name.as_ref()?)),
        /// What its output must have.
        pub required_output_fields: Vec<Arc<str>> => or(Vec::new()),
        /// What its output must be (K280).
        pub output_schema: Option<Json> => optional,
        /// Where a Router may go.
        pub router_targets: Vec<RouterTarget> => or(Vec::new()),
        /// How long an attempt may take: the pipeline's default, if absent.
        pub timeout_ms: Option<Limit> => optional,
        /// When a failed attempt is repeated.
        pub retry: RetryPolicy => or(RetryPolicy::default()),
        /// What an attempt holds of the budget (K267).
        pub reserve: Option<Amounts> => optional,
        /// What becomes of a lost attempt.
        pub on_lost: OnLost => or(OnLost::default()),
        /// How large its task may be, in units of 4 bytes (K243).
        pub max_context_tokens: Option<Limit> => optional,
        /// What is done about a larger one.
        pub context_overflow: ContextOverflow => or(ContextOverflow::default()),
        /// Which service runs it: the node's default, if absent.
        pub service: Option<ServiceName> => optional,
        /// How many rounds of tools an attempt may take.
        pub max_tool_rounds: u32 => or(10),
    }

    /// A pipeline.
    pub struct PipelineConfig {
        /// Its name.
        pub name: PipelineName => required,
        /// Its stages, in stage order.
        pub stages: Vec<PipelineStage> => required,
        /// How it runs.
        pub run_mode: RunMode => or(RunMode::default()),
        /// How many back edges may be taken.
        pub max_iterations: Limit => or(Limit::at_most(3)),
        /// How many calls of models may be made.
        pub max_llm_calls: Limit => or(Limit::at_most(10)),
        /// How many stages may be issued.
        pub max_agent_hops: Limit => or(Limit::at_most(21)),
        /// How long an attempt may take.
        pub default_timeout_ms: Limit => or(Limit::at_most(300_000)),
        /// How many Gates and Forks one decision may pass: the node's default, if absent.
        pub step_limit: Option<Limit> => optional,
        /// How often edges may be taken.
        pub edge_limits: Vec<EdgeLimit> => or(Vec::new()),
        /// Which keys of outputs are kept in the state.
        pub state_schema: Vec<StateField> => or(Vec::new()),
        /// Which outputs are put away on a back edge.
        pub loop_reset: Vec<OutputKey> => or(Vec::new()),
        /// Where an answered clarification leads.
        pub clarification_resume_stage: Option<StageName> => optional,
        /// Where an accepted confirmation leads.
        pub confirmation_resume_stage: Option<StageName> => optional,
        /// Where an accepted review leads.
        pub agent_review_resume_stage: Option<StageName> => optional,
        /// Where a denial leads.
        pub denied_stage: Option<StageName> => optional,
        /// Whether each instruction is recorded with the state root.
        pub checkpoints: bool => or(false),
        /// Anything.
        pub metadata: Json => object,
    }
}

/// When to go where.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoutingRule {
    /// When.
    pub expr: RoutingExpr,
    /// To where.
    pub target: Target,
}

/// Also the short form: `{"condition": "verdict", "value": "revise", "target": "writer"}` is
/// `Eq(Current verdict, "revise")`. It is written in the long form.
impl Document for RoutingRule {
    fn read(json: &Json, place: &Place<'_>, problems: &mut Problems) -> Option<Self> {
        let short = json.as_object().is_some_and(|object| object.contains("condition"));
        let mut fields = Fields::open(json, place, problems)?;
        let target = fields.required("target");
        let expr = match short {
            true => {
                let condition = fields.required::<Path>("condition");
                let value = fields.raw("value").cloned();
                if value.is_none() {
                    fields.missing("value", Code::Required);
                }
                condition.zip(value).map(|(path, value)| RoutingExpr::short(path, value))
            }
            false => fields.required("expr"),
        };
        fields.done();
        Some(Self { expr: expr?, target: target? })
    }

    fn written(&self) -> Json {
        Json::object([("expr", self.expr.written()), ("target", self.target.written())])
    }
}

impl PipelineStage {
    /// Makes an Agent stage with defaults for all but its names.
    #[must_use]
    pub fn agent(name: StageName, agent: AgentName) -> Self {
        let agent = Json::object([("name", agent.written())]);
        let stage = Json::object([("name", name.written()), ("agent_config", agent)]);
        read(&stage, "stage").expect("a stage needs no more than names")
    }

    /// Checks an output as K254 wants it: with the required fields, and as the schema says.
    ///
    /// # Errors
    ///
    /// What is wrong first, with its path: it makes a report OutputInvalid.
    pub fn check_output(&self, output: &Json) -> Result<(), String> {
        let missing = self.required_output_fields.iter().find(|key| output.get(key).is_none());
        if let Some(missing) = missing {
            return Err(format!("/: {missing:?} is required"));
        }
        let Some(schema) = &self.output_schema else {
            return Ok(());
        };
        let schema = Schema::compile("output_schema", schema).map_err(|refusal| refusal.text)?;
        schema.check(output)
    }
}

impl PipelineConfig {
    /// Reads a pipeline from JSON that a stranger sent, and checks it. Paths begin in the pipeline:
    /// `stages[2].name`.
    ///
    /// # Errors
    ///
    /// All that is wrong. Wrong types and unknown fields are `bad_value` and end the matter, since
    /// the rest could only be guessed; else it is as [`check`](Self::check) says. What is missing,
    /// and paths of expressions that cannot be read, are `bad_pipeline`.
    pub fn parse(json: &Json, limits: &FlowLimits) -> Result<Self, Refusal> {
        let mut problems = Problems::new();
        let named = with_names(json, &mut problems);
        let read = Self::read(&named, &Place::Root(""), &mut problems);
        if let Some(config) = &read
            && problems.are_all(Code::BadPipeline)
        {
            config.check_into(limits, &mut problems)?;
        }
        problems.recode(&[Code::Required, Code::BadExpression], Code::BadPipeline);
        problems.end(read, Code::BadPipeline)
    }

    /// Checks the pipeline against its limits (K25) and all rules of K232.
    ///
    /// # Errors
    ///
    /// `too_many`, `too_long`, `too_large` or `amount_too_large` if it passes a limit, with all
    /// that it passes; else `bad_pipeline` with all problems together.
    pub fn check(&self, limits: &FlowLimits) -> Result<(), Refusal> {
        let mut problems = Problems::new();
        self.check_into(limits, &mut problems)?;
        problems.refuse(Code::BadPipeline)
    }

    fn check_into(&self, limits: &FlowLimits, problems: &mut Problems) -> Result<(), Refusal> {
        let mut passed = Problems::new();
        check::limits(self, limits, &mut passed);
        passed.refuse(Code::BadPipeline)?;
        check::rules(self, limits, problems);
        Ok(())
    }

    /// Returns the canonical JSON: every field with its default, in the long form. Pipelines that
    /// mean the same have the same.
    #[must_use]
    pub fn canonical(&self) -> Json {
        self.written()
    }

    /// Returns the config hash: BLAKE3 of the canonical JSON (K230).
    #[must_use]
    pub fn config_hash(&self) -> [u8; 32] {
        self.canonical().blake3()
    }

    /// Returns the place of a stage in stage order.
    #[must_use]
    pub fn index(&self, name: &StageName) -> Option<usize> {
        self.stages.iter().position(|stage| stage.name == *name)
    }

    /// Says whether a Fork may lead to a stage (K273).
    #[must_use]
    pub fn is_branch(&self, name: &StageName) -> bool {
        let forks = self.stages.iter().filter(|stage| stage.node_kind == NodeKind::Fork);
        let mut rules = forks.flat_map(|fork| &fork.routing);
        rules.any(|rule| rule.target.stage() == Some(name))
    }

    /// Returns a stage.
    #[must_use]
    pub fn stage(&self, name: &StageName) -> Option<&PipelineStage> {
        self.stages.iter().find(|stage| stage.name == *name)
    }

    /// Returns where a session enters: the stage that the envelope names, or the first (K231).
    #[must_use]
    pub fn entry(&self, current_stage: &str) -> Option<&StageName> {
        let named = self.stages.iter().find(|stage| stage.name.as_str() == current_stage);
        named.or(self.stages.first()).map(|stage| &stage.name)
    }

    /// Returns how often an edge may be taken: as the least of its limits says.
    #[must_use]
    pub fn edge_limit(&self, from: &StageName, to: &StageName) -> Limit {
        let limits = self.edge_limits.iter();
        let limits = limits.filter(|limit| limit.from == *from && limit.to == *to);
        limits.map(|limit| limit.max_count).min().unwrap_or(Limit::UNLIMITED)
    }

    /// Returns how long an attempt at a stage may take.
    #[must_use]
    pub fn timeout(&self, stage: &PipelineStage) -> Limit {
        stage.timeout_ms.unwrap_or(self.default_timeout_ms)
    }
}

/// Says whether an object has no name.
fn is_nameless(json: &Json) -> bool {
    match json.get("name") {
        None => json.as_object().is_some(),
        Some(name) => name.is_null() || name.as_str() == Some(""),
    }
}

/// Puts stand-ins where names are missing, which is a problem of K232: so the rest can be checked
/// and told along with it.
fn with_names(json: &Json, problems: &mut Problems) -> Json {
    let Some(object) = json.as_object() else {
        return json.clone();
    };
    let mut entries = Vec::new();
    if is_nameless(json) {
        problems.add(Code::BadPipeline, "name", "name is required");
        entries.push(("name", PipelineName::stand_in()));
    }
    let stages = object.get("stages").filter(|stages| !stages.is_null());
    match stages.map(Json::as_list) {
        None => entries.push(("stages", Json::list(Vec::new()))),
        Some(Some(stages)) => {
            let stages = stages.iter().enumerate();
            let stages = stages.map(|(at, stage)| stage_with_names(at, stage, problems));
            entries.push(("stages", Json::list(stages.collect())));
        }
        // The reader tells what is wrong with them.
        Some(None) => {}
    }
    with(json, entries)
}

/// Sets entries of an object.
fn with(json: &Json, entries: Vec<(&'static str, Json)>) -> Json {
    match (json.as_object(), Json::object(entries).as_object()) {
        (Some(object), Some(entries)) => object.with(entries),
        (Some(_) | None, Some(_) | None) => json.clone(),
    }
}

fn stage_with_names(at: usize, stage: &Json, problems: &mut Problems) -> Json {
    let mut entries = Vec::new();
    let mut missing = |field: String| {
        let text = format!("{field} is required");
        problems.add(Code::BadPipeline, field, text);
    };
    if is_nameless(stage) {
        missing(format!("stages[{at}].name"));
        entries.push(("name", StageName::stand_in(at)));
    }
    if let Some(agent) = stage.get("agent_config").filter(|agent| is_nameless(agent)) {
        missing(format!("stages[{at}].agent_config.name"));
        entries.push(("agent_config", with(agent, vec![("name", PipelineName::stand_in())])));
    }
    with(stage, entries)
}

/// As the canonical JSON; nothing else decodes.
impl Wire for PipelineConfig {
    fn encode(&self, out: &mut Vec<u8>) {
        self.written().encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        decode(reader, "a pipeline")
    }
}
