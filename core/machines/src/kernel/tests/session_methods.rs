//! Goal: the methods of section 12 that are about sessions do what they are for, for those who may
//! use them (K370). Method: as `methods`.

use super::methods::{let_through_in, query_in, world};
use crate::kernel::CommandBody;
use crate::kernel::ids::EnvelopeId;
use crate::kernel::query::{Query, Told};
use crate::kernel::quota::Amounts;
use crate::kernel::reply::Done;
use crate::kernel::rig::{Rig, operator, pid, submit, user, worker};
use crate::kernel::sessions::instruction::InstructionBody;
use crate::kernel::sessions::report::Metrics;
use crate::kernel::sessions::rig::{linear, start, success};
use crate::kernel::sessions::start::{EnvelopeChoice, Initialize};
use crate::kernel::sessions::task::AgentTask;

fn begin(name: &str) -> CommandBody {
    let envelope = EnvelopeChoice::New(Box::default());
    let asked = Initialize { pid: pid(name), pipeline: linear(), envelope, force: false };
    CommandBody::InitializeSession(Box::new(asked))
}

fn poll(name: &str) -> CommandBody {
    CommandBody::NextInstruction { pid: pid(name) }
}

/// The world, in which alice's process `p` has a session on the envelope `s`, and nobody runs it.
fn begun() -> Rig {
    let mut rig = world();
    rig.say(&user("alice"), CommandBody::Submit(Box::new(submit("p")))).unwrap();
    rig.say(&user("alice"), start(linear(), "s", false)).unwrap();
    rig
}

/// The same, and the worker `h` has the task of the first stage.
fn issued() -> (Rig, AgentTask) {
    let mut rig = begun();
    let (_, reply) = rig.answered(&worker("h"), poll("p")).unwrap();
    let Done::Instruction(told) = reply.done else { panic!("nothing to do") };
    let InstructionBody::RunAgent(task) = told.body else { panic!("no task: {told:?}") };
    (rig, *task)
}

/// Orchestrator: initialize_session (O P), whose answer is the session.
#[test]
fn a_session_is_begun_by_the_owner_of_its_process() {
    let through = let_through_in(world, |rig, by| {
        rig.say(&user("alice"), CommandBody::Submit(Box::new(submit("n")))).unwrap();
        // Envelopes are of whoever makes them, and must be of the process's owner (K230).
        let id = Some(EnvelopeId::parse("id", "n").unwrap());
        let new = crate::kernel::envelopes::command::NewEnvelope { id, ..Default::default() };
        rig.say(&user("alice"), CommandBody::CreateEnvelope(Box::new(new))).unwrap();
        let envelope = EnvelopeChoice::Known(EnvelopeId::parse("id", "n").unwrap());
        let asked = Initialize { pid: pid("n"), pipeline: linear(), envelope, force: false };
        let body = CommandBody::InitializeSession(Box::new(asked));
        let (_, reply) = rig.answered(by, body)?;
        let Done::Session(session) = reply.done else { panic!("no session") };
        assert_eq!((session.pid, session.position.as_str()), (pid("n"), "draft"));
        Ok(())
    });
    assert_eq!(through, ["owner", "operator", "node"]);
    let mut rig = world();
    rig.say(&user("alice"), CommandBody::Submit(Box::new(submit("n")))).unwrap();
    let (_, reply) = rig.answered(&user("alice"), begin("n")).unwrap();
    let Done::Session(session) = reply.done else { panic!("no session") };
    let envelope = rig.kernel.state().envelope(&session.envelope).unwrap();
    assert_eq!(envelope.process, Some(pid("n")));
}

/// Orchestrator: get_next_instruction (O W P until claimed, then H); a repeat is answered alike.
/// The node asks about what it drives alone (K290).
#[test]
fn whoever_takes_work_polls_until_somebody_has_it() {
    let unclaimed = let_through_in(begun, |rig, by| rig.say(by, poll("p")).map(|_| ()));
    assert_eq!(unclaimed, ["owner", "holder", "worker", "operator"]);
    let claimed = let_through_in(|| issued().0, |rig, by| rig.say(by, poll("p")).map(|_| ()));
    assert_eq!(claimed, ["holder"]);
    let (mut rig, task) = issued();
    let (events, reply) = rig.answered(&worker("h"), poll("p")).unwrap();
    let Done::Instruction(told) = reply.done else { panic!("nothing to do") };
    assert_eq!((events, told.body), (vec![], InstructionBody::RunAgent(Box::new(task))), "K242");
}

/// Orchestrator: report_agent_result (H), whose answer is the next instruction.
#[test]
fn whoever_has_a_task_reports_it() {
    let report = |task: &AgentTask| {
        let report = success(&task.attempt, "draft", "{}");
        CommandBody::ReportAgentResult(Box::new(report))
    };
    let through = let_through_in(
        || issued().0,
        |rig, by| {
            let task = issued().1;
            rig.say(by, report(&task)).map(|_| ())
        },
    );
    assert_eq!(through, ["holder"]);
    let (mut rig, task) = issued();
    let (_, reply) = rig.answered(&worker("h"), report(&task)).unwrap();
    let Done::Instruction(told) = reply.done else { panic!("nothing to do") };
    let InstructionBody::RunAgent(next) = &told.body else { panic!("no task: {told:?}") };
    assert_eq!(next.stage.as_str(), "edit");
    let (events, reply) = rig.answered(&worker("h"), report(&task)).unwrap();
    assert_eq!((events, reply.done), (vec![], Done::Instruction(told)), "K6, K250");
}

/// Orchestrator: get_session_state (O H P); and what status says of sessions (K350).
#[test]
fn a_session_is_shown_to_whom_its_process_is() {
    let state = || Query::GetSessionState { pid: pid("p") };
    assert_eq!(query_in(|| issued().0, &state()), ["owner", "holder", "operator", "node"]);
    let (rig, task) = issued();
    let Ok(Told::Session(session)) = rig.query(&user("alice"), &state()) else {
        panic!("no session")
    };
    assert_eq!(session.live.keys().collect::<Vec<_>>(), [&task.attempt]);
    let query = Query::GetRequestStatus { pid: pid("p") };
    let Ok(Told::Request(status)) = rig.query(&user("alice"), &query) else { panic!("no status") };
    assert_eq!(status.session, Some(*session));
    assert_eq!(status.remaining.llm_calls, Some(9), "K116: of the session's ten, one is held");
    let Ok(Told::Status(status)) = rig.query(&operator(), &Query::GetSystemStatus) else {
        panic!("no status")
    };
    assert_eq!((status.sessions_active, status.sessions_in_group), (1, 0));
    let none = rig.query(&user("alice"), &Query::GetSessionState { pid: pid("a") }).unwrap_err();
    assert_eq!(none.to_string(), "session_not_found: process a has no session");
}

/// K100: an envelope shows what its session used, not what its process had used before.
#[test]
fn an_envelope_shows_what_its_session_used() {
    let mut rig = world();
    let alice = user("alice");
    rig.say(&alice, CommandBody::Submit(Box::new(submit("p")))).unwrap();
    let used = Amounts { llm_calls: 3, ..Amounts::ZERO };
    rig.say(&alice, crate::kernel::rig::record("p", used)).unwrap();
    rig.say(&alice, start(linear(), "s", false)).unwrap();
    let (_, reply) = rig.answered(&worker("h"), poll("p")).unwrap();
    let Done::Instruction(told) = reply.done else { panic!("nothing to do") };
    let InstructionBody::RunAgent(task) = told.body else { panic!("no task") };
    let metrics = Metrics { llm_calls: 2, ..Metrics::default() };
    let report = success(&task.attempt, "draft", "{}");
    let report = crate::kernel::sessions::report::Report { metrics, ..report };
    rig.say(&worker("h"), CommandBody::ReportAgentResult(Box::new(report))).unwrap();
    let query = Query::GetEnvelope { id: EnvelopeId::parse("id", "s").unwrap() };
    let Ok(Told::Envelope(shown)) = rig.query(&alice, &query) else { panic!("no envelope") };
    assert_eq!((shown.bounds.used.amounts.llm_calls, shown.bounds.used.agent_hops), (2, 2));
    assert_eq!(shown.bounds.max_llm_calls, linear().max_llm_calls);
    assert_eq!(rig.process("p").account.used.amounts.llm_calls, 5);
}
