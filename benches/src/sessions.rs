//! Pipelines for benchmarks, and a worker that goes through them.

use machines::kernel::envelopes::command::NewEnvelope;
use machines::kernel::event::Event;
use machines::kernel::ids::{AgentName, AttemptId, ProcessId};
use machines::kernel::json::{Json, JsonLimits};
use machines::kernel::pipeline::PipelineConfig;
use machines::kernel::pipeline::limits::FlowLimits;
use machines::kernel::principal::Principal;
use machines::kernel::sessions::Pipeline;
use machines::kernel::sessions::instruction::InstructionBody;
use machines::kernel::sessions::report::{Metrics, Report};
use machines::kernel::sessions::start::{EnvelopeChoice, Initialize};
use machines::kernel::{CommandBody, Kernel, Time};

use crate::rig::Rig;

/// Parses JSON in which `'` stands for `"`.
///
/// # Panics
///
/// If it is none.
#[must_use]
pub fn json(text: &str) -> Json {
    let text = text.replace('\'', "\"");
    Json::parse("bench", text.as_bytes(), &JsonLimits::DEFAULT).expect("it is JSON")
}

fn pipeline(text: &str) -> Pipeline {
    let config = PipelineConfig::parse(&json(text), &FlowLimits::DEFAULT);
    Pipeline::new(config.unwrap_or_else(|refusal| panic!("{refusal}")))
}

/// A stage that runs an agent with a model.
fn agent(name: &str, next: &str) -> String {
    let config = format!("{{'name': '{name}', 'has_llm': true, 'model_role': 'chat'}}");
    let next = if next.is_empty() { String::new() } else { format!(", 'default_next': '{next}'") };
    format!("{{'name': '{name}', 'agent_config': {config}{next}}}")
}

/// Makes a pipeline of three stages, one after the other.
#[must_use]
pub fn three_stages() -> Pipeline {
    let stages = [agent("plan", "write"), agent("write", "check"), agent("check", "")].join(", ");
    pipeline(&format!("{{'name': 'three', 'stages': [{stages}]}}"))
}

/// Makes a pipeline of two stages that go on for ever, one after the other.
#[must_use]
pub fn endless() -> Pipeline {
    let stages = [agent("ask", "answer"), agent("answer", "ask")].join(", ");
    let limits = ["max_iterations", "max_llm_calls", "max_agent_hops"];
    let limits = limits.map(|limit| format!("'{limit}': 1000000")).join(", ");
    pipeline(&format!("{{'name': 'endless', {limits}, 'stages': [{stages}]}}"))
}

/// Says what gives a process a session with a new envelope.
#[must_use]
pub fn start(pid: &ProcessId, pipeline: &Pipeline) -> CommandBody {
    let new = NewEnvelope { raw_input: "What is to be done?".to_owned(), ..NewEnvelope::default() };
    let envelope = EnvelopeChoice::New(Box::new(new));
    let asked = Initialize { pid: pid.clone(), pipeline: pipeline.clone(), envelope, force: false };
    CommandBody::InitializeSession(Box::new(asked))
}

/// Returns the attempt that is handed out, and as which agent; `None` if the session has ended.
///
/// # Panics
///
/// If the process has no session, or it waits.
#[must_use]
pub fn task(kernel: &Kernel, now: Time, pid: &ProcessId) -> Option<(AttemptId, AgentName)> {
    let told = kernel.instruction(now, pid).expect("the process has a session");
    task_of(told.body)
}

/// The same of an instruction.
///
/// # Panics
///
/// If the session waits.
#[must_use]
pub fn task_of(body: InstructionBody) -> Option<(AttemptId, AgentName)> {
    match body {
        InstructionBody::RunAgent(task) => Some((task.attempt.clone(), task.agent.clone())),
        InstructionBody::Terminate { .. } => None,
        InstructionBody::RunAgents(_)
        | InstructionBody::WaitInterrupt { .. }
        | InstructionBody::WaitParallel { .. }
        | InstructionBody::Wait { .. } => panic!("nothing here waits"),
    }
}

/// Says that an attempt succeeded.
#[must_use]
pub fn report(pid: &ProcessId, task: &(AttemptId, AgentName), output: &Json) -> CommandBody {
    CommandBody::ReportAgentResult(Box::new(Report {
        pid: pid.clone(),
        attempt: task.0.clone(),
        agent: task.1.clone(),
        success: true,
        output: Some(output.clone()),
        error: None,
        error_kind: None,
        metrics: Metrics { llm_calls: 1, tokens_in: 800, tokens_out: 200, ..Metrics::default() },
        interrupt: None,
        break_loop: false,
        chosen_target: None,
        feedback: None,
        release_process: false,
    }))
}

/// Makes an output of about 1 KiB of canonical JSON.
#[must_use]
pub fn output_1k() -> Json {
    let text = "All happy families are alike. ".repeat(33);
    json(&format!("{{'score': 7, 'text': '{text}'}}"))
}

/// Goes through a session of [`three_stages`] to its end; returns all events.
///
/// # Panics
///
/// If anything is refused, or the session has another number of stages.
pub fn live(rig: &mut Rig, by: &Principal, pipeline: &Pipeline, output: &Json) -> Vec<Event> {
    let mut events = rig.run(by, CommandBody::Submit(Box::new(crate::rig::plain())));
    let pid = events[0].subject.pid.clone().expect("the event is of the process");
    events.extend(rig.run(by, start(&pid, pipeline)));
    events.extend(rig.run(by, CommandBody::NextInstruction { pid: pid.clone() }));
    let mut stages = 0;
    while let Some(task) = task(&rig.kernel, rig.now, &pid) {
        events.extend(rig.run(by, report(&pid, &task, output)));
        stages += 1;
    }
    assert_eq!(stages, 3, "a session of three stages");
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::user;
    use machines::kernel::names::ProcessState;

    #[test]
    fn a_session_of_three_stages_ends_its_process() {
        let mut rig = Rig::new();
        let events = live(&mut rig, &user(1), &three_stages(), &output_1k());
        let pid = events[0].subject.pid.clone().unwrap();
        assert_eq!(rig.kernel.process(&pid).unwrap().state, ProcessState::Terminated);
        assert_eq!(events.len() as u64 + 1, rig.kernel.last_event());
    }

    #[test]
    fn an_output_of_a_kibibyte_has_about_that() {
        let length = output_1k().to_string().len();
        assert!((1_000..1_050).contains(&length), "{length}");
    }
}
