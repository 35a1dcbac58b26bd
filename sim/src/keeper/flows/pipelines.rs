//! The pipelines that users run, drawn from the seed.

use machines::Choices;
use machines::kernel::json::{Json, JsonLimits};
use machines::kernel::pipeline::PipelineConfig;
use machines::kernel::pipeline::limits::FlowLimits;
use machines::kernel::sessions::Pipeline;

/// Agents whose names begin so fail, whoever runs them.
pub(in crate::keeper) const POOR: &str = "poor-";

/// Draws a pipeline, of those that fork only if `forks`.
pub(in crate::keeper) fn drawn(who: [u64; 2], forks: bool, choices: &mut Choices) -> Pipeline {
    let mut draft = Draft { who, choices };
    let stages = match if forks { 6 + draft.pick(4) } else { draft.pick(10) } {
        0 => draft.line(),
        1 => draft.routes(),
        2 => draft.rounds(),
        3 => draft.mending(),
        4 => draft.leave(),
        5 => draft.router(),
        6 | 7 => draft.fork("All"),
        8 => draft.fork("First"),
        _ => draft.parallel(),
    };
    let text = format!("{{'name': 'flow', {}, {stages}}}", draft.bounds()).replace('\'', "\"");
    let json = Json::parse("pipeline", text.as_bytes(), &JsonLimits::DEFAULT);
    let json = json.expect("the texts below are JSON");
    let config = PipelineConfig::parse(&json, &FlowLimits::DEFAULT);
    Pipeline::new(config.unwrap_or_else(|refusal| panic!("{refusal}: {text}")))
}

/// A pipeline that is being drawn: `'` stands for `"`.
struct Draft<'a> {
    who: [u64; 2],
    choices: &'a mut Choices,
}

/// A rule for outputs whose `v` is a number.
fn rule(value: u32, to: &str) -> String {
    let field = "{'scope': 'Current', 'path': 'v'}";
    format!("{{'expr': {{'op': 'Eq', 'field': {field}, 'value': {value}}}, 'target': '{to}'}}")
}

fn always(to: &str) -> String {
    format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}")
}

impl Draft<'_> {
    fn pick(&mut self, most: u64) -> u64 {
        self.choices.choose("flow.pipeline", self.who, most)
    }

    fn one_of<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let picked = self.pick(of.len() as u64);
        of[usize::try_from(picked).expect("few of them")]
    }

    fn bounds(&mut self) -> String {
        let (iterations, hops, calls) = (self.pick(4), 4 + self.pick(12), 4 + self.pick(20));
        let checkpoints = self.pick(8) == 7;
        format!(
            "'max_iterations': {iterations}, 'max_agent_hops': {hops}, 'max_llm_calls': {calls}, \
             'checkpoints': {checkpoints}, 'state_schema': [{{'key': 'notes', 'merge': 'Append'}}]"
        )
    }

    /// What is done when an attempt fails, is late or lost.
    fn care(&mut self) -> String {
        let (retries, wait, jitter) = (self.pick(3), self.pick(3) * 150, self.pick(3) * 20);
        let timeout = 300 + self.pick(8) * 400;
        let lost = if self.pick(4) == 3 { "Fail" } else { "Reissue" };
        format!(
            "'retry': {{'max_retries': {retries}, 'initial_backoff_ms': {wait}, \
             'jitter_pct': {jitter}}}, 'timeout_ms': {timeout}, 'on_lost': '{lost}'"
        )
    }

    fn agent(&mut self, name: &str, more: &str) -> String {
        let poor = if self.pick(8) == 7 { POOR } else { "" };
        let llm = if self.pick(4) == 3 { "" } else { ", 'has_llm': true, 'model_role': 'fast'" };
        let visits = match self.pick(4) {
            3 => ", 'max_visits': 2",
            _ => "",
        };
        let needs = match self.pick(6) {
            5 => ", 'required_output_fields': ['v']",
            _ => "",
        };
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        let care = self.care();
        format!(
            "{{'name': '{name}', 'agent_config': {{'name': '{poor}{name}'{llm}}}, \
             {care}{visits}{needs}{more}}}"
        )
    }

    /// One after the other.
    fn line(&mut self) -> String {
        let draft = self.agent("draft", "'default_next': 'edit'");
        let edit = self.agent("edit", "'default_next': 'print'");
        let print = self.agent("print", "");
        format!("'stages': [{draft}, {edit}, {print}]")
    }

    /// By rules, by default, and to another stage when one fails.
    fn routes(&mut self) -> String {
        let rules = format!("'routing': [{}, {}]", rule(0, "left"), rule(1, "right"));
        let sort = self.agent("sort", &format!("{rules}, 'default_next': 'end'"));
        let left = self.agent("left", "'error_next': 'right', 'default_next': 'end'");
        let right = self.agent("right", "'error_next': 'sort'");
        format!("'stages': [{sort}, {left}, {right}]")
    }

    /// Again and again, within bounds.
    fn rounds(&mut self) -> String {
        let limit = 1 + self.pick(3);
        let writer = self.agent("writer", "'default_next': 'critic'");
        let rules = format!("'routing': [{}, {}]", rule(0, "writer"), rule(1, "writer"));
        let critic = self.agent("critic", &rules);
        format!(
            "'stages': [{writer}, {critic}], 'loop_reset': ['writer'], \
             'edge_limits': [{{'from': 'critic', 'to': 'writer', 'max_count': {limit}}}]"
        )
    }

    /// What fails leads to what mends it, and back: the bounds end it.
    fn mending(&mut self) -> String {
        let limit = 1 + self.pick(2);
        let fetch = self.agent("fetch", "'error_next': 'mend'");
        let mend = self.agent("mend", "'default_next': 'fetch', 'error_next': 'fetch'");
        format!(
            "'stages': [{fetch}, {mend}], \
             'edge_limits': [{{'from': 'fetch', 'to': 'mend', 'max_count': {limit}}}]"
        )
    }

    /// With questions to people: asked by a route, and by who pays.
    fn leave(&mut self) -> String {
        let asks = self.one_of(&["clarification", "confirmation", "pay"]);
        let look = self.agent("look", "'default_next': 'door'");
        let door = format!(
            "{{'name': 'door', 'node_kind': 'Gate', 'routing': [{}, {}], 'default_next': 'pay'}}",
            rule(0, asks),
            rule(2, "book")
        );
        let pay = self.agent("pay", "'default_next': 'book'");
        let book = self.agent("book", "");
        let sorry = self.agent("sorry", "");
        let denied = self.one_of(&["", ", 'denied_stage': 'sorry'"]);
        let review = self.one_of(&["", ", 'agent_review_resume_stage': 'book'"]);
        format!(
            "'stages': [{look}, {door}, {pay}, {book}, {sorry}], \
             'clarification_resume_stage': 'look', 'confirmation_resume_stage': 'pay'\
             {denied}{review}"
        )
    }

    /// As an agent chooses.
    fn router(&mut self) -> String {
        let when = "{'op': 'Exists', 'field': {'scope': 'State', 'path': 'notes'}}";
        let targets = format!(
            "'router_targets': [{{'target': 'alpha'}}, {{'target': 'beta', 'when': {when}}}, \
             {{'target': 'end'}}]"
        );
        let fields = format!("'node_kind': 'Router', 'default_next': 'beta', {targets}");
        let choose = self.agent("choose", &fields);
        let alpha = self.agent("alpha", "'default_next': 'choose'");
        let beta = self.agent("beta", "'error_next': 'alpha'");
        format!("'stages': [{choose}, {alpha}, {beta}]")
    }

    /// Branches side by side, perhaps again after a judgement.
    fn fork(&mut self, join: &str) -> String {
        let third = if self.pick(2) == 0 { rule(1, "c") } else { always("c") };
        let rules = format!("{}, {}, {third}", always("a"), always("b"));
        let error = self.one_of(&["", ", 'error_next': 'mend'"]);
        let split = format!(
            "{{'name': 'split', 'node_kind': 'Fork', 'join': '{join}', 'routing': [{rules}], \
             'default_next': 'judge'{error}}}"
        );
        let plan = self.agent("plan", "'default_next': 'split'");
        let a = self.agent("a", "");
        let b = self.agent("b", "");
        let c = self.agent("c", "'reserve': {'llm_calls': 2, 'tokens_in': 10}");
        let judge = self.agent("judge", &format!("'routing': [{}]", rule(0, "split")));
        let mend = self.agent("mend", "'default_next': 'judge'");
        format!("'stages': [{plan}, {split}, {a}, {b}, {c}, {judge}, {mend}]")
    }

    /// By what each needs.
    fn parallel(&mut self) -> String {
        let join = self.one_of(&["All", "First"]);
        let (left, right) = (self.agent("left", ""), self.agent("right", ""));
        let both = self.agent("both", &format!("'requires': ['left', 'right'], 'join': '{join}'"));
        let last = self.agent("last", "'after': ['both']");
        format!("'run_mode': 'Parallel', 'stages': [{left}, {right}, {both}, {last}]")
    }
}
