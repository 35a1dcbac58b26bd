//! Goal: no pipeline, worker or person breaks K424, K425, K437, K439 and K440; the order of reports
//! does not matter at a join (K436), and an answer leads where it should (K438).
//! Method: random pipelines and random behaviour of workers; an oracle counts what happened from
//! the events alone. Each check is then shown to notice the sabotage that its rule names.

mod indexes;
mod oracle;
mod pipelines;

use std::collections::BTreeMap;

use proptest::prelude::*;

use self::oracle::Oracle;
use self::pipelines::{Shape, shape};
use super::event::SessionEvent;
use super::instruction::InstructionBody;
use super::report::{Metrics, Report};
use super::rig::{Desk, agent, output_key, pipeline, start};
use super::{Attempt, Standing};
use crate::kernel::CommandBody;
use crate::kernel::event::{Body, Event};
use crate::kernel::ids::{AttemptId, StageName};
use crate::kernel::interrupts::interrupt::{NewInterrupt, Response};
use crate::kernel::json::Json;
use crate::kernel::names::{InterruptKind, ProcessState, TerminalReason};
use crate::kernel::pipeline::kinds::ErrorKind;
use crate::kernel::process::Process;
use crate::kernel::props::check_state;
use crate::kernel::rig::pid;
use crate::kernel::state::State;

/// What a worker, or somebody else, does.
#[derive(Clone, Debug)]
enum Act {
    Poll,
    Succeed { nth: u8, value: u8, llm_calls: u64, release: bool },
    Fail { nth: u8, kind: u8 },
    Break { nth: u8 },
    Pass(u64),
    Stop(ProcessState),
    Force,
    Ask { nth: u8 },
    Answer { yes: bool },
}

fn work() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Poll),
        6 => (0..4_u8, 0..3_u8, 0..3_u64, prop::bool::weighted(0.1)).prop_map(
            |(nth, value, llm_calls, release)| Act::Succeed { nth, value, llm_calls, release }
        ),
        2 => (0..4_u8, 0..3_u8).prop_map(|(nth, kind)| Act::Fail { nth, kind }),
        2 => prop_oneof![0..2_000_u64, 0..30_000_u64, 0..130_000_u64].prop_map(Act::Pass),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let stops = [ProcessState::Ready, ProcessState::Blocked, ProcessState::Waiting];
    prop_oneof![
        14 => work(),
        1 => (0..4_u8).prop_map(|nth| Act::Break { nth }),
        1 => prop::sample::select(stops.to_vec()).prop_map(Act::Stop),
        1 => Just(Act::Force),
        1 => (0..4_u8).prop_map(|nth| Act::Ask { nth }),
        2 => any::<bool>().prop_map(|yes| Act::Answer { yes }),
    ]
}

/// The report of the nth live attempt, if there is one.
fn report(desk: &Desk, nth: u8, output: &str) -> Option<Report> {
    let tasks = desk.tasks();
    let task = tasks.get(usize::from(nth) % tasks.len().max(1))?;
    let mut report = super::rig::success(&task.attempt, task.agent.as_str(), output);
    let chosen = task.router_targets.get(usize::from(nth) % task.router_targets.len().max(1));
    report.chosen_target =
        chosen.and_then(|target| StageName::parse("target", target.target.as_str()).ok());
    Some(report)
}

fn tell(desk: &mut Desk, report: Report) {
    desk.report(&report);
}

impl Act {
    fn run(&self, desk: &mut Desk, shape: &Shape) {
        match self {
            Self::Poll => drop(desk.poll()),
            Self::Succeed { nth, value, llm_calls, release } => {
                let output = format!("{{'v': {value}, 'notes': {value}}}");
                if let Some(report) = report(desk, *nth, &output) {
                    let metrics = Metrics { llm_calls: *llm_calls, ..Metrics::default() };
                    tell(desk, Report { metrics, release_process: *release, ..report });
                }
            }
            Self::Fail { nth, kind } => {
                let kinds = [ErrorKind::Tool, ErrorKind::Llm, ErrorKind::Policy];
                let kind = kinds[usize::from(*kind) % 3];
                if let Some(report) = report(desk, *nth, "{}") {
                    let (success, error_kind, output) = (false, Some(kind), None);
                    tell(desk, Report { success, error_kind, output, ..report });
                }
            }
            Self::Break { nth } => {
                if let Some(report) = report(desk, *nth, "{}") {
                    tell(desk, Report { break_loop: true, ..report });
                }
            }
            Self::Pass(millis) => desk.rig.pass(*millis),
            Self::Stop(to) => {
                let (to, reason) = (*to, "stop".to_owned());
                // What is refused has changed nothing.
                let _ = desk.say(CommandBody::TransitionState { pid: pid("p"), to, reason });
            }
            Self::Force => {
                let _ = desk.say(start(shape.pipeline(), "e", true));
            }
            Self::Ask { nth } => {
                if let Some(report) = report(desk, *nth, "{'asked': 1}") {
                    let new = NewInterrupt::new(InterruptKind::Confirmation);
                    tell(desk, Report { interrupt: Some(Box::new(new)), ..report });
                }
            }
            Self::Answer { yes } => {
                if let InstructionBody::WaitInterrupt { interrupt: Some(asked) } = desk.body() {
                    let (id, approved) = (asked.id, Some(*yes));
                    let response = Box::new(Response { approved, ..Response::default() });
                    let _ = desk.say(CommandBody::ResolveInterrupt { id, response });
                }
            }
        }
    }
}

/// K425: works and attempts are of each other; one holder has them all.
fn check_attempts(state: &State) -> Result<(), String> {
    for (pid, session) in &state.sessions {
        let live = session.works.iter().filter_map(|work| match &work.standing {
            Standing::Live { attempt } => Some((attempt, &work.stage)),
            Standing::Due | Standing::Backoff { .. } | Standing::Done | Standing::Failed => None,
        });
        let mut live: Vec<_> = live.collect();
        live.sort_unstable();
        let attempts = session.attempts.iter().map(|(id, attempt)| (id, &attempt.stage));
        if live != attempts.collect::<Vec<_>>() {
            return Err(format!("K425: {pid} has attempts without work, or two of one stage"));
        }
        if session.group.is_none() && session.attempts.len() > 1 {
            return Err(format!("K268: {pid} has two attempts outside a group"));
        }
        let lease = state.process(pid).and_then(|process| process.run_lease.as_ref());
        let holder = lease.map(|lease| &lease.holder);
        if session.attempts.values().any(|attempt| Some(&attempt.holder) != holder) {
            return Err(format!("K425: {pid} is worked on by two"));
        }
    }
    Ok(())
}

/// K437: a session has ended exactly if its process has.
fn check_ends(state: &State) -> Result<(), String> {
    for (pid, session) in &state.sessions {
        let over = !state.process(pid).is_some_and(Process::is_live);
        if over != session.ended.is_some() {
            return Err(format!("K437: only one of {pid} and its session has ended"));
        }
    }
    Ok(())
}

/// What a poll told, and how many events it made but renewals of the lease.
type Polled = (String, Option<InstructionBody>, usize);

fn polled(desk: &mut Desk) -> Polled {
    let before = desk.rig.events.len();
    let told = desk.poll();
    let renewal = |event: &&Event| event.body.kind() != "process.lease_renewed";
    let made = desk.rig.events[before..].iter().filter(renewal).count();
    let body = desk.rig.kernel.instruction(desk.rig.now, &pid("p")).map(|told| told.body);
    (told, body, made)
}

/// K424: a repeated poll tells the same and makes no event.
fn check_polls(first: &Polled, second: &Polled) -> Result<(), String> {
    match (&first.0, &first.1, 0) == (&second.0, &second.1, second.2) {
        true => Ok(()),
        false => Err(format!("K424: {} events, {} and then {}", second.2, first.0, second.0)),
    }
}

fn check(desk: &mut Desk, oracle: &mut Oracle, seen: &mut usize) -> Result<(), String> {
    let state = desk.rig.kernel.state();
    for event in &desk.rig.events[*seen..] {
        oracle.see(event, state)?;
    }
    *seen = desk.rig.events.len();
    check_state(state)?;
    check_attempts(state)?;
    check_ends(state)?;
    oracle.agrees(desk.session())
}

fn run(shape: &Shape, acts: &[Act]) -> Result<Desk, String> {
    let mut desk = Desk::new(shape.pipeline());
    let (mut oracle, mut seen) = (Oracle::default(), 0);
    check(&mut desk, &mut oracle, &mut seen)?;
    for act in acts {
        act.run(&mut desk, shape);
        check(&mut desk, &mut oracle, &mut seen)?;
        if matches!(act, Act::Poll) {
            let first = polled(&mut desk);
            check_polls(&first, &polled(&mut desk))?;
        }
    }
    check(&mut desk, &mut oracle, &mut seen)?;
    Ok(desk)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// K424, K425, K437, K439, and K420–K426 as far as attempts concern them.
    #[test]
    fn sessions_hold_their_rules(shape in shape(), acts in prop::collection::vec(act(), 0..60)) {
        run(&shape, &acts).map_err(TestCaseError::fail)?;
    }

    /// K440: a session that is polled and reported ends, after so many attempts at the most.
    #[test]
    fn every_session_ends(shape in shape(), acts in prop::collection::vec(work(), 1..40)) {
        let mut desk = Desk::new(shape.pipeline());
        let (mut oracle, mut seen) = (Oracle::default(), 0);
        let mut steps = acts.iter().cycle();
        for _ in 0..3_000 {
            if desk.session().ended.is_some() {
                break;
            }
            desk.poll();
            steps.next().expect("there are steps").run(&mut desk, &shape);
            desk.rig.pass(2_000);
            check(&mut desk, &mut oracle, &mut seen).map_err(TestCaseError::fail)?;
        }
        prop_assert!(desk.session().ended.is_some(), "{}", desk.told());
        oracle.check_bounded(&desk.session().pipeline, 3).map_err(TestCaseError::fail)?;
    }

    /// K436: the order of the branches' reports does not matter where all are waited for.
    #[test]
    fn a_join_does_not_depend_on_the_order_of_reports(
        order in Just(["a", "b", "c", "d"]).prop_shuffle(),
        calls in prop::array::uniform4(0..4_u64),
        failing in prop::option::of(0..4_usize),
    ) {
        let joined = |order: &[&str]| joined(order, &calls, failing);
        prop_assert_eq!(joined(&order), joined(&["a", "b", "c", "d"]));
    }

    /// K438: an answer leads to the stage that asked, or to the configured one.
    #[test]
    fn the_first_task_after_an_answer_is_where_it_should_be(
        stages in 2..6_usize,
        asker in 0..5_usize,
        resume in prop::option::of(0..5_usize),
        denied in prop::option::of(0..5_usize),
        yes in any::<bool>(),
    ) {
        let (asker, wrapped) = (asker % stages, |at: usize| at % stages);
        let (resume, denied) = (resume.map(wrapped), denied.map(wrapped));
        let story = Story { stages, asker, resume, denied };
        story.check(yes, |_| {}).map_err(TestCaseError::fail)?;
    }
}

/// The sequences reach what they are about.
#[test]
fn random_sessions_reach_every_event_and_many_ends() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..300 {
        let acts = prop::collection::vec(act(), 60);
        let (shape, acts) = (shape(), acts).new_tree(&mut runner).unwrap().current();
        for event in &run(&shape, &acts).unwrap().rig.events {
            *seen.entry(event.body.kind().to_owned()).or_default() += 1;
            if let Body::Session { event: SessionEvent::Ended { reason, .. } } = &event.body {
                *seen.entry(reason.name().to_owned()).or_default() += 1;
            }
        }
    }
    let kinds = [
        "session.moved",
        "session.attempt_issued",
        "session.attempt_reported",
        "session.attempt_closed",
        "session.stage_completed",
        "session.stage_failed",
        "session.group_opened",
        "session.group_joined",
        "session.retry_scheduled",
        "session.checkpoint",
        "interrupt.resolved",
        "completed",
        "break_requested",
        "max_iterations_exceeded",
        "max_llm_calls_exceeded",
        "max_agent_hops_exceeded",
        "max_stage_visits_exceeded",
        "edge_limit_exceeded",
        "tool_failed_fatally",
        "timeout_exceeded",
        "system_error",
        "interrupt_denied",
    ];
    for kind in kinds {
        assert!(seen.contains_key(kind), "{kind}: {seen:?}");
    }
}

const BRANCHES: [&str; 4] = ["a", "b", "c", "d"];

/// What is there after a join: outputs, state, use.
fn joined(
    order: &[&str],
    calls: &[u64; 4],
    failing: Option<usize>,
) -> (Vec<String>, String, String) {
    let rule = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let rules = BRANCHES.map(rule).join(", ");
    let fork = format!(
        "{{'name': 'f', 'node_kind': 'Fork', 'routing': [{rules}], 'default_next': 'z', \
         'error_next': 'z'}}"
    );
    let stages = BRANCHES.map(|name| agent(name, "")).join(", ");
    let schema = "'state_schema': [{'key': 'notes', 'merge': 'Append'}]";
    let z = agent("z", "");
    let mut desk = Desk::new(pipeline(&format!(
        "{{'name': 'k', 'max_llm_calls': -1, {schema}, 'stages': [{fork}, {stages}, {z}]}}"
    )));
    desk.poll();
    for name in order {
        let at = BRANCHES.iter().position(|branch| branch == name).unwrap();
        let metrics = Metrics { llm_calls: calls[at], ..Metrics::default() };
        let mut report = desk.done(name, &format!("{{'notes': '{name}'}}"));
        if failing == Some(at) {
            let error_kind = Some(ErrorKind::Policy);
            report = Report { success: false, error_kind, output: None, ..report };
        }
        desk.report(&Report { metrics, ..report });
    }
    assert_eq!(desk.told(), "RunAgent z 1.1");
    let outputs = BRANCHES.iter().filter_map(|key| desk.output(key)).collect();
    let state = desk.envelope().state.get("notes").map(Json::to_string).unwrap_or_default();
    (outputs, state, format!("{:?}", desk.rig.process("p").account.used))
}

/// A line of stages, one of which asks for leave.
#[derive(Clone, Copy, Debug)]
struct Story {
    stages: usize,
    asker: usize,
    resume: Option<usize>,
    denied: Option<usize>,
}

impl Story {
    fn name(at: usize) -> String {
        format!("s{at}")
    }

    fn open(self) -> Desk {
        let next = |at: usize| match at + 1 < self.stages {
            true => format!("'default_next': '{}'", Self::name(at + 1)),
            false => String::new(),
        };
        let stages: Vec<String> =
            (0..self.stages).map(|at| agent(&Self::name(at), &next(at))).collect();
        let field = |name: &str, at: Option<usize>| {
            at.map(|at| format!(", '{name}': '{}'", Self::name(at))).unwrap_or_default()
        };
        let more =
            field("confirmation_resume_stage", self.resume) + &field("denied_stage", self.denied);
        let text = format!("{{'name': 'q'{more}, 'stages': [{}]}}", stages.join(", "));
        let mut desk = Desk::new(pipeline(&text));
        desk.poll();
        for at in 0..self.asker {
            desk.succeed(&Self::name(at), "{}");
        }
        let new = Some(Box::new(NewInterrupt::new(InterruptKind::Confirmation)));
        let report = Report { interrupt: new, ..desk.done(&Self::name(self.asker), "{}") };
        desk.report(&report);
        desk
    }

    /// K165, K166: where the first task after the answer is.
    fn check(self, yes: bool, sabotage: impl Fn(&mut Desk)) -> Result<(), String> {
        let mut desk = self.open();
        Act::Answer { yes }.run(&mut desk, &Shape::default());
        sabotage(&mut desk);
        desk.poll();
        let expected = match (yes, self.resume, self.denied) {
            (true, resume, _) => Some(resume.unwrap_or(self.asker)),
            (false, _, denied) => denied,
        };
        let found = desk.tasks().first().map(|task| task.stage.as_str().to_owned());
        match expected.map(Self::name) == found {
            true => Ok(()),
            false => Err(format!("K438: {found:?} instead of {expected:?}")),
        }
    }
}

/// A state in which one thing is not as it should be.
fn broken(desk: &Desk, change: impl FnOnce(&mut State)) -> State {
    let mut state = desk.rig.kernel.state().clone();
    change(&mut state);
    state
}

fn two_live() -> Desk {
    let rule = |to: &str| format!("{{'expr': {{'op': 'Always'}}, 'target': '{to}'}}");
    let rules = [rule("a"), rule("b")].join(", ");
    let fork = format!("{{'name': 'f', 'node_kind': 'Fork', 'routing': [{rules}]}}");
    let stages = [fork, agent("a", ""), agent("b", "")].join(", ");
    let mut desk = Desk::new(pipeline(&format!("{{'name': 't', 'stages': [{stages}]}}")));
    desk.poll();
    desk
}

/// K424: a new attempt id per poll is noticed.
#[test]
fn a_new_attempt_per_poll_is_noticed() {
    let mut desk = two_live();
    let first = polled(&mut desk);
    assert_eq!(check_polls(&first, &polled(&mut desk)), Ok(()));
    // The sabotage: each poll closes what is live and issues it again.
    let to = |to| CommandBody::TransitionState { pid: pid("p"), to, reason: "x".to_owned() };
    desk.say(to(ProcessState::Ready)).unwrap();
    assert!(check_polls(&first, &polled(&mut desk)).is_err());
}

/// K425, K421, K437: what is issued without closing, a hold that is forgotten, and an end of the
/// session alone are noticed.
#[test]
fn a_broken_session_is_noticed() {
    let desk = two_live();
    assert_eq!(check_attempts(desk.rig.kernel.state()), Ok(()));
    let twice = broken(&desk, |state| {
        state.sessions.update(&pid("p"), |session| {
            let attempt: Attempt = session.attempts.values().next().unwrap().clone();
            session.attempts.insert(AttemptId::parse("attempt", "att_2").unwrap(), attempt);
        });
    });
    assert!(check_attempts(&twice).unwrap_err().starts_with("K425"));
    let forgotten = broken(&desk, |state| {
        state.sessions.update(&pid("p"), |session| session.attempts.clear());
    });
    assert!(check_state(&forgotten).unwrap_err().starts_with("K421"));
    let alone = broken(&desk, |state| {
        state.sessions.update(&pid("p"), |session| {
            let (reason, message) = (TerminalReason::Completed, "x".into());
            session.ended = Some(super::SessionEnd { reason, message });
        });
    });
    assert!(check_ends(&alone).unwrap_err().starts_with("K437"));
}

/// K436: a merge on arrival is noticed.
#[test]
fn a_merge_on_arrival_is_noticed() {
    let order = ["c", "a", "d", "b"];
    let (_, state, _) = joined(&order, &[0; 4], None);
    let on_arrival = Json::list(order.iter().map(|name| Json::from(*name)).collect());
    assert_ne!(state, on_arrival.to_string());
    assert_eq!(state, r#"["a","b","c","d"]"#);
    assert!(output_key("a") < output_key("b"));
}

/// K438: to begin again on resume is noticed.
#[test]
fn a_session_that_begins_again_on_resume_is_noticed() {
    let story = Story { stages: 3, asker: 1, resume: Some(2), denied: None };
    assert_eq!(story.check(true, |_| {}), Ok(()));
    let again = |desk: &mut Desk| {
        let first = pipeline(&format!("{{'name': 'q', 'stages': [{}]}}", agent("s0", "")));
        desk.say(start(first, "e", true)).unwrap();
    };
    assert!(story.check(true, again).is_err());
}

/// K439, K440, K437: a move without a check, a retry without a count and an issue after the end are
/// noticed.
#[test]
fn moves_and_retries_that_are_not_counted_are_noticed() {
    let mut desk = Desk::new(super::rig::linear());
    desk.poll();
    desk.succeed("draft", "{}");
    let state = desk.rig.kernel.state();
    let replay = |extra: &dyn Fn(&SessionEvent) -> Option<usize>| {
        let mut oracle = Oracle::default();
        for event in &desk.rig.events {
            let Body::Session { event: of_session } = &event.body else {
                oracle.see(event, state)?;
                continue;
            };
            for _ in 0..extra(of_session).unwrap_or(1) {
                oracle.see(event, state)?;
            }
        }
        oracle.agrees(desk.session())?;
        oracle.check_bounded(&desk.session().pipeline, 0)
    };
    assert_eq!(replay(&|_| None), Ok(()));
    let unchecked = |event: &SessionEvent| {
        matches!(event, SessionEvent::Moved { from: Some(_), .. }).then_some(2)
    };
    assert!(replay(&unchecked).unwrap_err().starts_with("K439"));
    let issued_twice =
        |event: &SessionEvent| matches!(event, SessionEvent::AttemptIssued { .. }).then_some(2);
    assert!(replay(&issued_twice).unwrap_err().starts_with("K425"));

    // Retries that are not counted go on although none is allowed.
    let mut uncounted = desk.clone();
    let mut oracle = Oracle::default();
    desk.rig.events.iter().try_for_each(|event| oracle.see(event, state)).unwrap();
    for _ in 0..2 {
        let to = |to| CommandBody::TransitionState { pid: pid("p"), to, reason: "x".to_owned() };
        let before = uncounted.rig.events.len();
        uncounted.say(to(ProcessState::Ready)).unwrap();
        uncounted.poll();
        let more = &uncounted.rig.events[before..];
        more.iter().try_for_each(|event| oracle.see(event, state)).unwrap();
    }
    let told = oracle.check_bounded(&desk.session().pipeline, 0);
    assert!(told.unwrap_err().starts_with("K440"));
}
