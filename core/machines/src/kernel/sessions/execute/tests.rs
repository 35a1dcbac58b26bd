use super::*;
use crate::kernel::envelopes::command::NewEnvelope;
use crate::kernel::ids::EnvelopeId;
use crate::kernel::json::document::read;
use crate::kernel::lifecycle::Submit;
use crate::kernel::rig::{Rig, calls, limits, operator, pid, record, submit, user};
use crate::kernel::sessions::rig::{agent, json, linear, pipeline};
use crate::kernel::{Code, CommandBody};

fn execute(submit: Submit, pipeline: Pipeline) -> Execute {
    let id = Some(EnvelopeId::parse("envelope_id", "e").unwrap());
    let new = NewEnvelope { id, ..NewEnvelope::default() };
    Execute { submit, pipeline, envelope: EnvelopeChoice::New(Box::new(new)) }
}

fn said(rig: &mut Rig, asked: Execute) -> Result<Vec<&'static str>, Code> {
    let said = rig.say(&user("alice"), CommandBody::ExecutePipeline(Box::new(asked)));
    match said {
        Ok(events) => Ok(events.iter().map(|event| event.body.kind()).collect()),
        Err(refusal) => Err(refusal.code),
    }
}

/// K290, K4: process, envelope, session and its place in the queue are one decision.
#[test]
fn an_execution_is_one_decision() {
    let mut rig = Rig::new();
    let kinds = said(&mut rig, execute(submit("p"), linear())).unwrap();
    let all = [
        "process.created",
        "envelope.created",
        "session.started",
        "session.moved",
        "process.state_changed",
    ];
    assert_eq!(kinds, all);
    let process = rig.process("p");
    assert!(process.driven, "whatever it said");
    assert_eq!(process.state, ProcessState::Ready);
    let claimed = rig.say(&user("alice"), CommandBody::NextRunnable).unwrap_err();
    assert_eq!(claimed.code, Code::NoRunnable, "K74: it is the executor's");
}

/// K393: running or over, the same pid and pipeline is the same execution, whatever else is said.
#[test]
fn the_same_pid_and_pipeline_is_the_same_execution() {
    let mut rig = Rig::new();
    said(&mut rig, execute(submit("p"), linear())).unwrap();
    let quota = limits(&[(QuotaField::MaxLlmCalls, 1)]);
    let other = || Submit { quota: quota.clone(), ..submit("p") };
    assert_eq!(said(&mut rig, execute(other(), linear())), Ok(vec![]));
    let single = || pipeline(&format!("{{'name': 'one', 'stages': [{}]}}", agent("a", "")));
    assert_eq!(said(&mut rig, execute(other(), single())), Err(Code::SubmitConflict));
    let driven = Submit { driven: true, ..submit("p") };
    assert_eq!(said(&mut rig, execute(driven, single())), Err(Code::SessionExists));

    let body = CommandBody::Terminate { pid: pid("p"), message: "no".into(), force: true };
    rig.say(&user("alice"), body).unwrap();
    assert_eq!(said(&mut rig, execute(submit("p"), linear())), Ok(vec![]), "it is over");
    let to = ProcessState::Zombie;
    let body = CommandBody::TransitionState { pid: pid("p"), to, reason: String::new() };
    rig.say(&user("alice"), body).unwrap();
    assert_eq!(said(&mut rig, execute(submit("p"), linear())), Ok(vec![]), "K85: its tombstone");
}

/// What was submitted driven, and has no session yet, gets one.
#[test]
fn a_process_that_was_submitted_gets_its_session() {
    let mut rig = Rig::new();
    let driven = Submit { driven: true, ..submit("p") };
    rig.say(&user("alice"), CommandBody::Submit(Box::new(driven))).unwrap();
    let kinds = said(&mut rig, execute(submit("p"), linear())).unwrap();
    assert_eq!((kinds.len(), kinds[0]), (4, "envelope.created"));
    assert_eq!(rig.process("p").state, ProcessState::Ready);
}

/// K2: whatever is refused leaves nothing (the rig compares the roots).
#[test]
fn what_is_refused_leaves_nothing() {
    let mut rig = Rig::new();
    said(&mut rig, execute(submit("p"), linear())).unwrap();
    let in_use = execute(submit("q"), linear());
    assert_eq!(said(&mut rig, in_use), Err(Code::EnvelopeInUse));
    let fresh = |name: &str| {
        let mut asked = execute(submit("q"), linear());
        let id = EnvelopeId::parse("envelope_id", name).unwrap();
        asked.envelope = EnvelopeChoice::Known(id);
        asked
    };
    assert_eq!(said(&mut rig, fresh("nothing")), Err(Code::EnvelopeNotFound));
    let mut timeless = execute(submit("q"), linear());
    timeless.envelope = EnvelopeChoice::New(Box::default());
    timeless.submit.quota = limits(&[(QuotaField::TimeoutMs, 0)]);
    assert_eq!(said(&mut rig, timeless.clone()), Err(Code::QuotaExceeded));
    timeless.submit.quota.clear();
    timeless.submit.parent = Some(pid("nobody"));
    assert_eq!(said(&mut rig, timeless.clone()), Err(Code::ProcessNotFound));
    timeless.submit.parent = None;
    let drain = CommandBody::Drain { deadline_ms: None };
    rig.say(&operator(), drain).unwrap();
    assert_eq!(said(&mut rig, timeless), Err(Code::Draining), "K362");
    assert!(rig.kernel.process(&pid("q")).is_none());
    let same = execute(submit("p"), linear());
    assert_eq!(said(&mut rig, same), Ok(vec![]), "it attaches all the same");
}

/// K65, K115, K2: below a process that has used too much, or whose parent has, nothing begins.
#[test]
fn nothing_is_executed_below_a_parent_that_has_used_too_much() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let quota = limits(&[(QuotaField::MaxLlmCalls, 1)]);
    rig.say(&alice, CommandBody::Submit(Box::new(Submit { quota, ..submit("top") }))).unwrap();
    let middle = Submit { parent: Some(pid("top")), ..submit("middle") };
    rig.say(&alice, CommandBody::Submit(Box::new(middle))).unwrap();
    let below = |name: &str| execute(Submit { parent: Some(pid(name)), ..submit("p") }, linear());
    rig.say(&alice, record("top", calls(2))).unwrap();
    for parent in ["top", "middle"] {
        assert_eq!(said(&mut rig, below(parent)), Err(Code::QuotaExceeded), "below {parent}");
        assert!(rig.kernel.process(&pid("p")).is_none());
    }
    let body = CommandBody::Terminate { pid: pid("top"), message: "no".into(), force: true };
    rig.say(&alice, body).unwrap();
    assert_eq!(said(&mut rig, below("top")), Err(Code::ParentTerminal), "K84");
}

/// K290: an agent is a pipeline of one stage.
#[test]
fn an_agent_is_a_pipeline_of_one_stage() {
    let agent: AgentConfig = read(&json(r#"{"name": "poet"}"#), "agent_config").unwrap();
    let service = ServiceName::parse("service", "verse").unwrap();
    let limits = FlowLimits::DEFAULT;
    let timeout = Some(Limit::at_most(5));
    let made = PipelineConfig::of_agent(&agent, Some(&service), timeout, &limits).unwrap();
    assert_eq!((made.name.as_str(), made.stages.len()), ("poet", 1));
    let stage = &made.stages[0];
    assert_eq!((stage.name.as_str(), stage.service.as_ref()), ("poet", Some(&service)));
    assert_eq!(made.timeout(stage), Limit::at_most(5));
    let wrong: AgentConfig = read(&json(r#"{"name": "end"}"#), "agent_config").unwrap();
    let refused = PipelineConfig::of_agent(&wrong, None, None, &limits).unwrap_err();
    assert_eq!(refused.code, Code::BadPipeline, "{refused}");
}
