//! Pipelines and workers for tests: a worker polls and reports, and sees what it is told.

use std::sync::Arc;

use super::instruction::InstructionBody;
use super::report::{Metrics, Report};
use super::start::{EnvelopeChoice, Initialize};
use super::task::AgentTask;
use super::{Pipeline, Session};
use crate::kernel::envelopes::Envelope;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::event::{Body, Event};
use crate::kernel::ids::{AgentName, AttemptId, EnvelopeId, OutputKey, StageName};
use crate::kernel::interrupts::interrupt::Interrupt;
use crate::kernel::json::{Json, JsonLimits};
use crate::kernel::lifecycle::Submit;
use crate::kernel::pipeline::PipelineConfig;
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::pipeline::limits::FlowLimits;
use crate::kernel::principal::Principal;
use crate::kernel::rig::{Rig, pid, submit, told, user};
use crate::kernel::{CommandBody, Refusal};

pub(in crate::kernel) fn json(text: &str) -> Json {
    Json::parse("test", text.as_bytes(), &JsonLimits::DEFAULT).unwrap()
}

pub(in crate::kernel) fn stage(name: &str) -> StageName {
    StageName::parse("stage", name).unwrap()
}

pub(in crate::kernel) fn output_key(name: &str) -> OutputKey {
    OutputKey::parse("key", name).unwrap()
}

/// A pipeline from JSON in which `'` stands for `"` and `agent: x` for an agent of that name with a
/// model.
pub(in crate::kernel) fn pipeline(text: &str) -> Pipeline {
    let text = text.replace('\'', "\"");
    let config = PipelineConfig::parse(&json(&text), &FlowLimits::DEFAULT);
    Pipeline::new(config.unwrap_or_else(|refusal| panic!("{refusal}")))
}

/// A stage that runs an agent with a model; `more` are further fields.
pub(in crate::kernel) fn agent(name: &str, more: &str) -> String {
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    let config = format!("{{'name': '{name}', 'has_llm': true, 'model_role': 'm'}}");
    format!("{{'name': '{name}', 'agent_config': {config}{more}}}")
}

/// `draft` → `edit` → end.
pub(in crate::kernel) fn linear() -> Pipeline {
    let (draft, edit) = (agent("draft", "'default_next': 'edit'"), agent("edit", ""));
    pipeline(&format!("{{'name': 'linear', 'stages': [{draft}, {edit}]}}"))
}

/// A worker of alice's at one process.
#[derive(Clone, Debug)]
pub(in crate::kernel) struct Desk {
    pub(in crate::kernel) rig: Rig,
    pub(in crate::kernel) by: Principal,
    pub(in crate::kernel) name: &'static str,
}

impl Desk {
    /// Process `p` of alice with a session.
    pub(in crate::kernel) fn new(pipeline: Pipeline) -> Self {
        Self::with(pipeline, submit("p"))
    }

    pub(in crate::kernel) fn with(pipeline: Pipeline, new: Submit) -> Self {
        Self::on(Rig::new(), pipeline, new)
    }

    pub(in crate::kernel) fn on(rig: Rig, pipeline: Pipeline, new: Submit) -> Self {
        let mut desk = Self { rig, by: user("alice"), name: "p" };
        let by = desk.by.clone();
        desk.rig.say(&by, CommandBody::Submit(Box::new(new))).unwrap();
        desk.say(start(pipeline, "e", false)).unwrap();
        desk
    }

    pub(in crate::kernel) fn say(&mut self, body: CommandBody) -> Result<Vec<Event>, Refusal> {
        let by = self.by.clone();
        self.rig.say(&by, body)
    }

    pub(in crate::kernel) fn session(&self) -> &Session {
        self.rig.kernel.state().session(&pid(self.name)).unwrap()
    }

    pub(in crate::kernel) fn envelope(&self) -> &Envelope {
        self.rig.kernel.state().envelope(&self.session().envelope).unwrap()
    }

    pub(in crate::kernel) fn output(&self, key: &str) -> Option<String> {
        self.envelope().outputs.get(&output_key(key)).map(|output| output.value.to_string())
    }

    pub(in crate::kernel) fn edge(&self, from: &str, to: &str) -> u64 {
        self.session().edge(&stage(from), &stage(to))
    }

    /// Hops, and what is held of calls.
    pub(in crate::kernel) fn hops(&self) -> (u64, u64) {
        let account = &self.rig.process(self.name).account;
        (account.used.agent_hops, account.held.llm_calls)
    }

    pub(in crate::kernel) fn body(&self) -> InstructionBody {
        self.rig.kernel.instruction(self.rig.now, &pid(self.name)).unwrap().body
    }

    pub(in crate::kernel) fn tasks(&self) -> Vec<AgentTask> {
        match self.body() {
            InstructionBody::RunAgent(task) => vec![*task],
            InstructionBody::RunAgents(tasks) => tasks,
            InstructionBody::Terminate { .. }
            | InstructionBody::WaitInterrupt { .. }
            | InstructionBody::WaitParallel { .. }
            | InstructionBody::Wait { .. } => Vec::new(),
        }
    }

    pub(in crate::kernel) fn task(&self, stage: &str) -> AgentTask {
        let found = self.tasks().into_iter().find(|task| task.stage.as_str() == stage);
        found.unwrap_or_else(|| panic!("{stage} is not handed out: {}", self.told()))
    }

    /// The instruction as one line: `RunAgents [a 1.1, b 1.1]`, with visit and try.
    pub(in crate::kernel) fn told(&self) -> String {
        let tasks = || {
            let tasks = self.tasks();
            let tasks = tasks.iter();
            let tasks =
                tasks.map(|task| format!("{} {}.{}", task.stage, task.visit, task.try_number));
            tasks.collect::<Vec<_>>().join(", ")
        };
        match self.body() {
            InstructionBody::RunAgent(_) => format!("RunAgent {}", tasks()),
            InstructionBody::RunAgents(_) => format!("RunAgents [{}]", tasks()),
            InstructionBody::Terminate { reason, .. } => format!("Terminate {reason:?}"),
            InstructionBody::WaitInterrupt { .. } => "WaitInterrupt".to_owned(),
            InstructionBody::WaitParallel { outstanding, until } => {
                format!("WaitParallel {outstanding:?} {until:?}")
            }
            InstructionBody::Wait { reason, until } => match until {
                Some(until) => format!("Wait {reason:?} {until:?}"),
                None => format!("Wait {reason:?}"),
            },
        }
    }

    /// The question that the process waits for.
    pub(in crate::kernel) fn asked(&self) -> Interrupt {
        match self.body() {
            InstructionBody::WaitInterrupt { interrupt } => *interrupt.unwrap(),
            InstructionBody::RunAgent(_)
            | InstructionBody::RunAgents(_)
            | InstructionBody::Terminate { .. }
            | InstructionBody::WaitParallel { .. }
            | InstructionBody::Wait { .. } => panic!("nobody is asked: {}", self.told()),
        }
    }

    /// Polls; says what was told.
    pub(in crate::kernel) fn poll(&mut self) -> String {
        let name = self.name;
        match self.say(CommandBody::NextInstruction { pid: pid(name) }) {
            Ok(_) => self.told(),
            Err(refusal) => refusal.to_string(),
        }
    }

    pub(in crate::kernel) fn quiet_poll(&mut self) -> String {
        let before = self.rig.events.len();
        let told = self.poll();
        assert_eq!(self.rig.events.len(), before, "a poll that changes nothing: {told}");
        told
    }

    pub(in crate::kernel) fn report(&mut self, report: &Report) -> String {
        match self.say(CommandBody::ReportAgentResult(Box::new(report.clone()))) {
            Ok(_) => self.told(),
            Err(refusal) => refusal.to_string(),
        }
    }

    /// A success of the live attempt at a stage.
    pub(in crate::kernel) fn done(&self, stage: &str, output: &str) -> Report {
        let task = self.task(stage);
        success(&task.attempt, task.agent.as_str(), output)
    }

    pub(in crate::kernel) fn failed(&self, stage: &str, kind: ErrorKind) -> Report {
        failure(&self.task(stage).attempt, stage, kind)
    }

    pub(in crate::kernel) fn succeed(&mut self, stage: &str, output: &str) -> String {
        let report = self.done(stage, output);
        self.report(&report)
    }

    pub(in crate::kernel) fn fail(&mut self, stage: &str, kind: ErrorKind) -> String {
        let report = self.failed(stage, kind);
        self.report(&report)
    }

    /// Kinds of the events since `from`, of sessions only.
    pub(in crate::kernel) fn kinds(&self, from: usize) -> Vec<&'static str> {
        let of_session = |event: &&Event| matches!(event.body, Body::Session { .. });
        let events = self.rig.events[from..].iter().filter(of_session);
        events.map(|event| &event.body.kind()["session.".len()..]).collect()
    }
}

pub(in crate::kernel) fn start(pipeline: Pipeline, id: &str, force: bool) -> CommandBody {
    let id = Some(EnvelopeId::parse("envelope_id", id).unwrap());
    let envelope = EnvelopeChoice::New(Box::new(NewEnvelope { id, ..NewEnvelope::default() }));
    let asked = Initialize { pid: pid("p"), pipeline, envelope, force };
    CommandBody::InitializeSession(Box::new(asked))
}

fn report(attempt: &AttemptId, agent: &str, success: bool) -> Report {
    Report {
        pid: pid("p"),
        attempt: attempt.clone(),
        agent: AgentName::parse("agent", agent).unwrap(),
        success,
        output: None,
        error: None,
        error_kind: None,
        metrics: Metrics { llm_calls: 1, ..Metrics::default() },
        interrupt: None,
        break_loop: false,
        chosen_target: None,
        feedback: None,
        release_process: false,
    }
}

pub(in crate::kernel) fn success(attempt: &AttemptId, agent: &str, output: &str) -> Report {
    let output = Some(json(&output.replace('\'', "\"")));
    Report { output, ..report(attempt, agent, true) }
}

pub(in crate::kernel) fn failure(attempt: &AttemptId, agent: &str, kind: ErrorKind) -> Report {
    let error = Some(Arc::from("it broke"));
    Report { error, error_kind: Some(kind), ..report(attempt, agent, false) }
}

/// The refusal of a command as one line.
pub(in crate::kernel) fn refused(result: Result<Vec<Event>, Refusal>) -> String {
    told(result)
}
