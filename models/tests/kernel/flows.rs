//! What is asked of sessions (section 8): pipelines of all shapes, polls, and reports of all kinds.

use std::sync::Arc;

use machines::kernel::CommandBody;
use machines::kernel::budget::{Record, Reserve};
use machines::kernel::envelopes::command::NewEnvelope;
use machines::kernel::expression::{FieldRef, Path};
use machines::kernel::ids::{AgentName, AttemptId, OutputKey, ProcessId, StageName, WorkerId};
use machines::kernel::interrupts::interrupt::NewInterrupt;
use machines::kernel::json::{Json, JsonLimits};
use machines::kernel::pipeline::PipelineConfig;
use machines::kernel::pipeline::kinds::ErrorKind;
use machines::kernel::pipeline::limits::FlowLimits;
use machines::kernel::principal::{Holder, Principal, Role};
use machines::kernel::quota::Amounts;
use machines::kernel::sessions::Pipeline;
use machines::kernel::sessions::report::{Metrics, Report, ToolResult};
use machines::kernel::sessions::start::{EnvelopeChoice, Initialize};

use crate::draw::Draw;
use crate::steps::{Names, Pid, Rid};

/// What a worker tells.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The n-th newest attempt that is live, if one is; else of all.
    nth: u8,
    live: bool,
    success: bool,
    output: Option<&'static str>,
    kind: Option<ErrorKind>,
    metrics: (u64, u64, u64, u64),
    tool: Option<&'static str>,
    asks: Option<Box<NewInterrupt>>,
    break_loop: bool,
    chosen: u8,
    right_agent: bool,
    feedback: bool,
    release: bool,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Flow {
    /// A session for a process: its pipeline, which of a few envelopes, and by force.
    Begin(Pid, Arc<str>, Option<u8>, bool),
    /// By whoever has the process, if it is so.
    Poll(Pid, bool),
    /// By whoever has the attempt, if it is so.
    Tell(Box<Told>, bool),
    /// The n-th newest report again, or with something else in it.
    Again(u8, bool),
    /// A reservation for the n-th newest attempt.
    Hold(u8, Option<Rid>, Amounts),
    /// Use by it.
    Record(u8, Option<u8>, Amounts),
}

/// An attempt that was handed out.
#[derive(Clone, Debug)]
pub(crate) struct Tried {
    pub(crate) pid: ProcessId,
    pub(crate) id: AttemptId,
    pub(crate) agent: AgentName,
    pub(crate) holder: Holder,
    pub(crate) targets: Vec<StageName>,
    pub(crate) live: bool,
}

impl Names {
    fn tried(&self, nth: u8, live: bool) -> Option<&Tried> {
        let open: Vec<&Tried> = self.attempts.iter().rev().filter(|one| one.live).collect();
        match open.is_empty() || !live {
            true => self.attempts.iter().rev().nth(usize::from(nth)),
            false => open.get(usize::from(nth) % open.len()).copied(),
        }
    }

    /// Who asks, if that is whoever has what it is about.
    pub(crate) fn speaker(&self, flow: &Flow) -> Option<(Principal, Option<WorkerId>)> {
        let holder = match flow {
            Flow::Poll(pid, true) => self.holders.get(&self.pid(*pid))?.clone(),
            Flow::Tell(told, true) => self.tried(told.nth, told.live)?.holder.clone(),
            Flow::Again(nth, _) => self.reports.iter().rev().nth(usize::from(*nth))?.0.clone(),
            Flow::Hold(nth, ..) | Flow::Record(nth, ..) => self.tried(*nth, true)?.holder.clone(),
            Flow::Begin(..) | Flow::Poll(_, false) | Flow::Tell(_, false) => return None,
        };
        let role = match holder.user.as_str() {
            "crew" => Role::Worker,
            "ops" => Role::Operator,
            "node" => Role::Node,
            _ => Role::User,
        };
        Some((Principal::new(holder.user, &[role]), Some(holder.worker)))
    }

    /// The command that is meant.
    pub(crate) fn flow(&self, flow: &Flow) -> CommandBody {
        let none = || AttemptId::parse("attempt", "att_none").expect("an id");
        let attempt = |nth: u8| self.tried(nth, true).map_or_else(none, |one| one.id.clone());
        let of = |nth: u8| self.tried(nth, true).map_or_else(|| self.pid(0), |one| one.pid.clone());
        match flow {
            Flow::Begin(pid, text, envelope, force) => {
                let new = NewEnvelope {
                    id: envelope.map(|at| self.envelope(at)),
                    raw_input: "do".to_owned(),
                    ..NewEnvelope::default()
                };
                CommandBody::InitializeSession(Box::new(Initialize {
                    pid: self.pid(*pid),
                    pipeline: read(text),
                    envelope: EnvelopeChoice::New(Box::new(new)),
                    force: *force,
                }))
            }
            Flow::Poll(pid, _) => CommandBody::NextInstruction { pid: self.pid(*pid) },
            Flow::Tell(told, _) => CommandBody::ReportAgentResult(Box::new(self.told(told))),
            Flow::Again(nth, same) => {
                let before = self.reports.iter().rev().nth(usize::from(*nth));
                let mut report = before.map_or_else(|| self.unknown(), |(_, told)| told.clone());
                report.break_loop ^= !same;
                CommandBody::ReportAgentResult(Box::new(report))
            }
            Flow::Hold(nth, rid, amounts) => CommandBody::Reserve(Box::new(Reserve {
                pid: of(*nth),
                reservation: rid.map(|rid| self.reservation(rid)),
                attempt: Some(attempt(*nth)),
                amounts: *amounts,
                lease_ms: None,
            })),
            Flow::Record(nth, record, amounts) => {
                let id = |at: u8| crate::steps::record(at);
                CommandBody::RecordUsage(Box::new(Record {
                    pid: of(*nth),
                    amounts: *amounts,
                    agent_hops: 0,
                    attempt: Some(attempt(*nth)),
                    record: record.map(id),
                }))
            }
        }
    }

    fn unknown(&self) -> Report {
        let (attempt, agent) = ("att_none", "s0");
        Report {
            pid: self.pid(0),
            attempt: AttemptId::parse("attempt", attempt).expect("an id"),
            agent: AgentName::parse("agent", agent).expect("a name"),
            success: true,
            output: None,
            error: None,
            error_kind: None,
            metrics: Metrics::default(),
            interrupt: None,
            break_loop: false,
            chosen_target: None,
            feedback: None,
            release_process: false,
        }
    }

    fn told(&self, told: &Told) -> Report {
        let mut report = self.unknown();
        if let Some(tried) = self.tried(told.nth, told.live) {
            (report.pid, report.attempt) = (tried.pid.clone(), tried.id.clone());
            report.agent = tried.agent.clone();
            let count = tried.targets.len().max(1);
            report.chosen_target = tried.targets.get(usize::from(told.chosen) % count).cloned();
        }
        if !told.right_agent {
            report.agent = AgentName::parse("agent", "other").expect("a name");
        }
        if told.chosen == 7 {
            report.chosen_target = Some(StageName::parse("stage", "s1").expect("a name"));
        }
        report.success = told.success;
        report.output = told.output.map(json);
        report.error_kind = told.kind;
        report.error = (!told.success).then(|| Arc::from("it broke"));
        let (llm_calls, tool_calls, tokens_in, tokens_out) = told.metrics;
        let tool = |name: &str| ToolResult {
            name: Arc::from(name),
            success: true,
            latency_ms: 1,
            error_kind: None,
        };
        let tool_results = told.tool.into_iter().map(tool).collect();
        report.metrics =
            Metrics { llm_calls, tool_calls, tokens_in, tokens_out, duration_ms: 1, tool_results };
        report.interrupt.clone_from(&told.asks);
        report.break_loop = told.break_loop;
        report.feedback = told.feedback.then(|| Arc::from("more"));
        report.release_process = told.release;
        report
    }
}

fn json(text: &str) -> Json {
    let text = text.replace('\'', "\"");
    Json::parse("test", text.as_bytes(), &JsonLimits::DEFAULT).expect("it is JSON")
}

fn read(text: &str) -> Pipeline {
    let config = PipelineConfig::parse(&json(text), &FlowLimits::DEFAULT);
    Pipeline::new(config.unwrap_or_else(|refusal| panic!("{refusal}: {text}")))
}

/// Lists have four entries where the configuration says so: by default there are more.
const NO_RETRY: &str = ", 'retry': {'retry_on': ['Tool']}";

/// A pipeline that is being drawn.
struct Shape {
    kinds: Vec<&'static str>,
    parallel: bool,
    clarifies: bool,
    confirms: bool,
}

impl Shape {
    fn stage(&self, draw: &mut Draw) -> String {
        format!("s{}", draw.below(self.kinds.len() as u64))
    }

    /// Mostly onward.
    fn target(&self, draw: &mut Draw, at: usize) -> String {
        match draw.below(20) {
            0..2 => "end".to_owned(),
            2..4 if self.clarifies => "clarification".to_owned(),
            4..6 if self.confirms => "confirmation".to_owned(),
            6..14 if at + 1 < self.kinds.len() => format!("s{}", at + 1),
            _ => self.stage(draw),
        }
    }

    fn rules(&self, draw: &mut Draw, at: usize) -> String {
        let some = draw.of(&[0, 1, 1, 2, 3]);
        let rules = (0..some).map(|_| {
            let target = self.target(draw, at);
            format!("{{'expr': {}, 'target': '{target}'}}", expression(draw, 2))
        });
        rules.collect::<Vec<_>>().join(", ")
    }

    fn branches(&self, draw: &mut Draw) -> String {
        let agents = (0..self.kinds.len()).filter(|at| self.kinds[*at] == "Agent");
        let mut agents: Vec<usize> = agents.collect();
        let mut rules = Vec::new();
        for _ in 0..draw.of(&[1, 2, 2, 2, 3, 3]) {
            if agents.is_empty() {
                break;
            }
            let at = usize::try_from(draw.below(agents.len() as u64)).expect("few");
            let to = agents.remove(at);
            let expr = match draw.percent(70) {
                true => "{'op': 'Always'}".to_owned(),
                false => expression(draw, 1),
            };
            rules.push(format!("{{'expr': {expr}, 'target': 's{to}'}}"));
        }
        rules.join(", ")
    }

    fn of_agent(&self, draw: &mut Draw, at: usize) -> String {
        let mut agent = format!("'name': 'a{at}'");
        if draw.percent(70) {
            agent += ", 'has_llm': true, 'model_role': 'm'";
        }
        let access = draw.of(&["All", "All", "All", "None", "Read", "Write"]);
        agent += &format!(", 'tool_access': '{access}'");
        if draw.percent(30) {
            agent += ", 'allowed_tools': ['look']";
        }
        let mut text = format!(", 'agent_config': {{{agent}}}");
        if !draw.percent(55) {
            text += NO_RETRY;
        } else {
            let (retries, first) = (draw.of(&[0, 1, 1, 2]), draw.of(&[0, 1, 500, 1_000]));
            let (times, jitter) = (draw.of(&[200, 150, 99]), draw.of(&[0, 0, 30, 100]));
            text +=
                &format!(", 'retry': {{'max_retries': {retries}, 'initial_backoff_ms': {first}");
            text += &format!(", 'multiplier_pct': {times}, 'jitter_pct': {jitter}");
            let most = ", 'retry_on': ['Tool', 'Llm', 'Timeout', 'OutputInvalid']}";
            let others = ", 'retry_on': ['Tool', 'Policy', 'RouterInvalid', 'WorkerLost']}";
            text += draw.of(&[most, most, others]);
        }
        text += draw.of(&[", 'on_lost': 'Fail'", "", "", ""]);
        text +=
            draw.of(&["", "", ", 'timeout_ms': 1000", ", 'timeout_ms': 1", ", 'timeout_ms': -1"]);
        text += draw.of(&[
            "",
            "",
            "",
            ", 'reserve': {'llm_calls': 2}",
            ", 'reserve': {'llm_calls': 1, 'tokens_in': 3, 'tool_calls': 1}",
            ", 'reserve': {'inference_requests': 1, 'tokens_out': 5}",
            ", 'reserve': {}",
        ]);
        text += draw.of(&["", "", "", "", "", ", 'required_output_fields': ['v']"]);
        let schema = "{'type': 'object', 'properties': {'v': {'type': 'integer', 'maximum': 1}}}";
        if draw.percent(12) {
            text += &format!(", 'output_schema': {schema}");
        }
        text
    }

    fn to_routes(&self, draw: &mut Draw, at: usize) -> String {
        let mut text = String::new();
        if draw.percent(70) {
            text += &format!(", 'default_next': '{}'", self.target(draw, at));
        }
        if self.kinds[at] != "Gate" && draw.percent(35) {
            text += &format!(", 'error_next': '{}'", self.stage(draw));
        }
        if draw.percent(20) {
            text += &format!(", 'max_visits': {}", 1 + draw.below(3));
        }
        text
    }

    fn one(&self, draw: &mut Draw, at: usize) -> String {
        let mut text = format!("'name': 's{at}'");
        if self.parallel {
            let before: Vec<String> =
                (0..at).filter(|_| draw.percent(40)).map(|at| format!("'s{at}'")).collect();
            let (requires, after) = match draw.percent(80) {
                true => (before.join(", "), String::new()),
                false => (String::new(), before.join(", ")),
            };
            text += &format!(", 'requires': [{requires}], 'after': [{after}]");
            text += draw.of(&["", "", ", 'join': 'First'"]);
            return format!("{{{text}{}}}", self.of_agent(draw, at));
        }
        text += &format!(", 'node_kind': '{}'{}", self.kinds[at], self.to_routes(draw, at));
        if ["Gate", "Fork"].contains(&self.kinds[at]) {
            text += NO_RETRY;
        }
        match self.kinds[at] {
            "Gate" => text += &format!(", 'routing': [{}]", self.rules(draw, at)),
            "Fork" => {
                text += &format!(", 'routing': [{}]", self.branches(draw));
                text += draw.of(&["", ", 'join': 'First'"]);
            }
            "Router" => {
                let mut targets = vec![self.target(draw, at), self.target(draw, at)];
                targets.sort();
                targets.dedup();
                let targets: Vec<String> = targets
                    .iter()
                    .map(|to| match draw.percent(30) {
                        true => format!("{{'target': '{to}', 'when': {}}}", expression(draw, 1)),
                        false => format!("{{'target': '{to}'}}"),
                    })
                    .collect();
                text += &format!(", 'router_targets': [{}]", targets.join(", "));
                text += &self.of_agent(draw, at);
            }
            _ => {
                text += &format!(", 'routing': [{}]", self.rules(draw, at));
                text += &self.of_agent(draw, at);
            }
        }
        format!("{{{text}}}")
    }
}

/// A field that an expression looks at.
fn field(draw: &mut Draw) -> &'static str {
    draw.of(&[
        "{'scope': 'Current', 'path': 'v'}",
        "{'scope': 'Current', 'path': 'v'}",
        "{'scope': 'Current', 'path': 'v'}",
        "{'scope': 'Output', 'key': 's0', 'path': 'v'}",
        "{'scope': 'State', 'path': 'notes'}",
        "{'scope': 'State', 'path': 'notes.a'}",
        "{'scope': 'Meta', 'path': 'a'}",
        "{'scope': 'Interrupt', 'path': 'approved'}",
        "{'scope': 'Interrupt', 'path': 'text'}",
    ])
}

fn expression(draw: &mut Draw, depth: u64) -> String {
    let values = ["0", "1", "1", "2", "'x'", "1.5", "true", "null", "[1]"];
    let compared = ["Eq", "Eq", "Eq", "Neq", "Gt", "Lt", "Gte", "Lte", "Contains"];
    match draw.below(12) {
        0 if depth > 0 => format!("{{'op': 'Not', 'expr': {}}}", expression(draw, depth - 1)),
        1 if depth > 0 => {
            let op = draw.of(&["And", "Or"]);
            let (one, other) = (expression(draw, depth - 1), expression(draw, depth - 1));
            format!("{{'op': '{op}', 'exprs': [{one}, {other}]}}")
        }
        2 => "{'op': 'Always'}".to_owned(),
        3 => {
            let op = draw.of(&["Exists", "NotExists"]);
            format!("{{'op': '{op}', 'field': {}}}", field(draw))
        }
        _ => {
            let (op, value) = (draw.of(&compared), draw.of(&values));
            format!("{{'op': '{op}', 'field': {}, 'value': {value}}}", field(draw))
        }
    }
}

/// Draws a pipeline that passes the checks of K232.
pub(crate) fn pipeline(draw: &mut Draw) -> Arc<str> {
    let parallel = draw.percent(12);
    let count = 1 + draw.below(5);
    let inner = ["Agent", "Agent", "Agent", "Gate", "Fork", "Fork", "Router"];
    let kinds = (0..count).map(|at| match parallel || at == 0 || at + 1 == count {
        true => "Agent",
        false => draw.of(&inner),
    });
    let mut kinds: Vec<&'static str> = kinds.collect();
    if !parallel && count > 2 && draw.percent(25) {
        kinds[0] = draw.of(&["Fork", "Gate", "Router"]);
    }
    let (clarifies, confirms) = (draw.percent(40), draw.percent(40));
    let shape = Shape { kinds, parallel, clarifies, confirms };
    let stages: Vec<String> = (0..shape.kinds.len()).map(|at| shape.one(draw, at)).collect();
    let mut text = format!("'name': 'p', 'stages': [{}]", stages.join(", "));
    if shape.parallel {
        text += ", 'run_mode': 'Parallel'";
    }
    text += &format!(", 'max_iterations': {}", draw.of(&[0, 1, 2, 3, 3]));
    text += &format!(", 'max_agent_hops': {}", draw.of(&[1, 2, 4, 8, 21]));
    text += &format!(", 'max_llm_calls': {}", draw.of(&[1, 2, 3, 10, 10]));
    text += draw.of(&["", "", ", 'step_limit': 2"]);
    if draw.percent(30) {
        let (from, to, most) = (shape.stage(draw), shape.stage(draw), 1 + draw.below(2));
        text +=
            &format!(", 'edge_limits': [{{'from': '{from}', 'to': '{to}', 'max_count': {most}}}]");
    }
    if draw.percent(60) {
        let rule = draw.of(&["Replace", "Append", "Append", "MergeDict"]);
        text += &format!(", 'state_schema': [{{'key': 'notes', 'merge': '{rule}'}}]");
    }
    let reset = draw.below(count);
    if ["Agent", "Router"].contains(&shape.kinds[usize::try_from(reset).expect("few")]) {
        text += &format!(", 'loop_reset': ['s{reset}']");
    }
    let resumes = [("clarification", shape.clarifies), ("confirmation", shape.confirms)];
    for (kind, there) in resumes {
        if there {
            text += &format!(", '{kind}_resume_stage': '{}'", shape.stage(draw));
        }
    }
    if draw.percent(30) {
        text += &format!(", 'agent_review_resume_stage': '{}'", shape.stage(draw));
    }
    if draw.percent(40) {
        text += &format!(", 'denied_stage': '{}'", shape.stage(draw));
    }
    Arc::from(format!("{{{text}}}"))
}

/// Draws what a worker tells; `question` is what it asks, if it does.
pub(crate) fn told(draw: &mut Draw, question: NewInterrupt) -> Told {
    let outputs = [
        "{}",
        "{'v': 0}",
        "{'v': 1}",
        "{'v': 1}",
        "{'v': 2}",
        "{'v': 1, 'notes': 1}",
        "{'v': 0, 'notes': [1, 2]}",
        "{'v': 'x', 'notes': {'a': 1}}",
        "{'v': null, 'notes': {'b': 2}}",
        "{'v': [1], 'notes': 3}",
        "{'v': 1.5, 'question': 'what'}",
        "{'v': 1, 'target': {'action': 'pay', 'params': {'to': []}}}",
    ];
    let success = draw.percent(70);
    let asks = draw.percent(12).then(|| Box::new(question));
    let kinds = [None, Some(ErrorKind::Tool), Some(ErrorKind::Llm), Some(ErrorKind::Policy)];
    Told {
        nth: draw.of(&[0, 0, 0, 1, 1, 2]),
        live: !draw.percent(8),
        success,
        output: match draw.below(20) {
            0 => Some("[1]"),
            1..3 => None,
            _ => Some(draw.of(&outputs)),
        },
        kind: match success {
            true => draw.percent(2).then_some(ErrorKind::Tool),
            false => match draw.percent(3) {
                true => Some(ErrorKind::Timeout),
                false => draw.of(&kinds),
            },
        },
        metrics: (
            draw.of(&[0, 0, 1, 1, 1, 2, 3]),
            draw.of(&[0, 0, 0, 1, 2]),
            draw.of(&[0, 0, 0, 2, 4]),
            draw.of(&[0, 0, 0, 1, 6]),
        ),
        tool: draw.percent(15).then(|| draw.of(&["look", "touch"])),
        asks,
        break_loop: draw.percent(3),
        chosen: draw.of(&[0, 0, 1, 7]),
        right_agent: !draw.percent(3),
        feedback: draw.percent(10),
        release: draw.percent(10),
    }
}

/// What an approval may bind. Not what a person answered last: the answer that grants it changes
/// that, and whether the approval is of before or after (K170, K441) the rules do not say.
pub(crate) fn binds(draw: &mut Draw) -> Vec<FieldRef> {
    let path = |text: &str| Path::parse(text).expect("a path");
    let key = OutputKey::parse("key", "s0").expect("a name");
    let all = [
        FieldRef::Current(path("v")),
        FieldRef::Output { key, path: path("v") },
        FieldRef::State(path("notes")),
        FieldRef::Meta(path("a")),
    ];
    (0..draw.of(&[0, 1, 1, 2])).map(|_| draw.of(&all)).collect()
}
