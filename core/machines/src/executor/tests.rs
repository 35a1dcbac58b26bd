//! Goal: whatever is refused, and however long, there is a next step, after a pause (K290).
//! Method: the executor on a kernel whose decisions are durable at once, and of which some are
//! refused before they get there.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test picks what it asks about")]

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::kernel::dispatch::Completion;
use crate::kernel::ids::{InterruptId, LeaseId, ServiceName, ServiceType, UserId};
use crate::kernel::interrupts::interrupt::{NewInterrupt, Response};
use crate::kernel::json::{Json, JsonLimits};
use crate::kernel::names::{ExpiryPolicy, InterruptKind, TerminalReason};
use crate::kernel::pipeline::PipelineConfig;
use crate::kernel::pipeline::limits::FlowLimits;
use crate::kernel::principal::Role;
use crate::kernel::rig::submit;
use crate::kernel::services::ServiceInfo;
use crate::kernel::sessions::Pipeline;
use crate::kernel::sessions::execute::Execute;
use crate::kernel::sessions::start::{EnvelopeChoice, Initialize};
use crate::kernel::{At, Command, Kernel};

/// What is refused: commands of this kind, with this code.
type Refused = (&'static str, Code);

struct Rig {
    kernel: Kernel,
    executor: Executor,
    now: Instant,
    nonce: u64,
    refused: Option<Refused>,
    /// What it asked for, by kind.
    asked: BTreeMap<&'static str, u64>,
}

const fn kind(body: &CommandBody) -> &'static str {
    match body {
        CommandBody::NextRunnable => "claim",
        CommandBody::NextInstruction { .. } => "poll",
        CommandBody::Dispatch(_) => "dispatch",
        CommandBody::ReportAgentResult(_) => "report",
        CommandBody::CancelDispatch { .. } => "cancel",
        _ => "other",
    }
}

fn worker() -> Principal {
    Principal::new(UserId::parse("user", "w").unwrap(), &[Role::Worker, Role::User])
}

fn service() -> ServiceName {
    ServiceName::parse("service", "flow_service").unwrap()
}

fn pid(name: &str) -> ProcessId {
    ProcessId::parse("pid", name).unwrap()
}

/// One stage; `more` are further fields of it.
fn flow(timeout_ms: &str, more: &str) -> Pipeline {
    let text = format!(
        r#"{{"name": "f", "default_timeout_ms": {timeout_ms},
            "stages": [{{"name": "a", "agent_config": {{"name": "a"}}{more}}}]}}"#
    );
    let json = Json::parse("pipeline", text.as_bytes(), &JsonLimits::DEFAULT);
    Pipeline::new(PipelineConfig::parse(&json.unwrap(), &FlowLimits::DEFAULT).unwrap())
}

impl Rig {
    fn new() -> Self {
        let config = KernelConfig::new();
        let kernel = Kernel::new(config.clone()).unwrap();
        let executor = Executor::new(&config);
        let (now, asked) = (Instant::from_millis(1), BTreeMap::new());
        let mut rig = Self { kernel, executor, now, nonce: 0, refused: None, asked };
        let node = Principal::node();
        rig.say(&node, CommandBody::Start { config: Box::new(config) }).unwrap();
        let kind = ServiceType::parse("type", "flow").unwrap();
        let info = Box::new(ServiceInfo::new(service(), kind));
        rig.say(&worker(), CommandBody::RegisterService(info)).unwrap();
        let time = rig.time();
        rig.executor.handle(rig.now, time, Input::Begin);
        rig
    }

    fn time(&self) -> Time {
        self.kernel.now(Time::from_millis(1_000_000 + self.now.as_nanos() / 1_000_000))
    }

    /// Decides, and lets the executor hear what happened.
    fn say(&mut self, by: &Principal, body: CommandBody) -> Result<Done, Refusal> {
        self.nonce += 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.to_le_bytes());
        let at = At { now: self.time(), nonce };
        let command = Command { by: by.clone(), worker: None, rate: None, body };
        let events = self.kernel.execute(at, &command)?;
        let done = self.kernel.reply(at.now, &command, &events).done;
        let time = self.time();
        for event in events.iter().filter(|event| Executor::follows(event)) {
            let process = event.subject.pid.as_ref().and_then(|pid| self.kernel.process(pid));
            let driven = process.is_some_and(|process| process.driven);
            self.executor.handle(self.now, time, Input::Event { event, driven });
        }
        Ok(done)
    }

    /// Does all that the executor asks for now.
    fn turn(&mut self) {
        while self.kernel.next_deadline().is_some_and(|due| due <= self.time()) {
            self.say(&Principal::node(), CommandBody::Tick).unwrap();
        }
        for _ in 0..100 {
            self.executor.handle(self.now, self.time(), Input::Tick);
            let Some(output) = self.executor.poll() else {
                return;
            };
            match output {
                Output::Command(ticket, body) => {
                    let kind = kind(&body);
                    *self.asked.entry(kind).or_default() += 1;
                    let reply = match self.refused.filter(|(refused, _)| *refused == kind) {
                        Some((_, code)) => Err(Refusal::new(code, "so it is")),
                        None => self.say(&Principal::node(), *body),
                    };
                    let reply = Input::Reply(ticket, reply.as_ref());
                    self.executor.handle(self.now, self.time(), reply);
                }
                Output::Query(ticket, query) => {
                    let time = self.time();
                    let told = self.kernel.query(time, &Principal::node(), &query);
                    let told = told.as_ref().map(|answer| &answer.told);
                    self.executor.handle(self.now, time, Input::Answer(ticket, told));
                }
            }
        }
        panic!("it asks and asks: {:?}", self.asked);
    }

    /// Lets time pass, and a worker do what there is to do.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.turn();
            self.serve();
            self.now = self.now + Duration::from_millis(250);
        }
    }

    fn serve(&mut self) {
        let body = CommandBody::LeaseTasks { service: service(), max: 8 };
        let Ok(Done::Tasks(tasks)) = self.say(&worker(), body) else {
            panic!("it may ask");
        };
        for lease in tasks.into_iter().map(|task| task.lease) {
            self.complete(lease);
        }
    }

    fn complete(&mut self, lease: LeaseId) {
        let data = Some(Json::object([("success", Json::from(true))]));
        let done = Completion { lease, success: true, data, error: None, error_kind: None };
        self.say(&worker(), CommandBody::CompleteTask(Box::new(done))).unwrap();
    }

    /// Lets time pass while no worker does anything.
    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.turn();
            self.now = self.now + Duration::from_millis(250);
        }
        self.turn();
    }

    fn execute(&mut self, name: &str) {
        self.follow(name, flow("-1", ""));
    }

    fn follow(&mut self, name: &str, pipeline: Pipeline) {
        let envelope = EnvelopeChoice::New(Box::default());
        let asked = Execute { submit: submit(name), pipeline, envelope };
        self.say(&worker(), CommandBody::ExecutePipeline(Box::new(asked))).unwrap();
    }

    fn state(&self, name: &str) -> ProcessState {
        self.kernel.process(&pid(name)).unwrap().state
    }

    fn end(&self, name: &str) -> Option<TerminalReason> {
        let session = self.kernel.state().session(&pid(name))?;
        session.ended.as_ref().map(|end| end.reason)
    }
}

/// What is refused for twenty seconds is asked for again, not too often, and then all is well.
#[test]
fn whatever_is_refused_has_a_next_step_after_a_pause() {
    for refused in ["claim", "poll", "dispatch", "report"] {
        for code in Code::ALL {
            let mut rig = Rig::new();
            rig.refused = Some((refused, *code));
            rig.execute("p");
            rig.pass(Duration::from_secs(20));
            let asked = rig.asked.get(refused).copied().unwrap_or(0);
            assert!((1..90).contains(&asked), "{refused} refused {code:?}: asked {asked} times");
            rig.refused = None;
            let more = rig.asked.clone();
            rig.pass(Duration::from_secs(140));
            let told = format!("{refused} refused {code:?}: {more:?}, {:?}", rig.asked);
            match rig.end("p") {
                // Even if it was told that there is none while there is one.
                Some(TerminalReason::Completed | TerminalReason::ToolFailedFatally) => {}
                other => panic!("{told}: {other:?}"),
            }
            assert_eq!(rig.executor.held(), 0, "{told}");
        }
    }
}

/// Nothing is asked for while nothing happens, but what keeps leases.
#[test]
fn who_waits_does_not_ask() {
    let mut rig = Rig::new();
    rig.turn();
    assert_eq!(rig.asked.get("claim"), Some(&16), "it does not know whether there is something");
    let look = rig.now + Duration::from_secs(20);
    assert_eq!(rig.executor.deadline(), look, "nothing is driven: it looks now and then");
    rig.execute("p");
    rig.turn();
    assert_eq!(rig.asked.get("claim"), Some(&17), "one is ready");
    let before = rig.asked.clone();
    for _ in 0..1_000 {
        rig.turn();
    }
    assert_eq!(rig.asked, before, "its dispatch is under way");
    assert_eq!(rig.executor.deadline(), rig.now + Duration::from_secs(20), "a third of the lease");
}

/// K74, K290: nobody else runs what it drives.
#[test]
fn nobody_takes_a_process_away_from_it() {
    let mut rig = Rig::new();
    rig.turn();
    rig.execute("p");
    let (to, reason) = (ProcessState::Running, String::new());
    let body = CommandBody::TransitionState { pid: pid("p"), to, reason };
    assert_eq!(rig.say(&worker(), body).unwrap_err().code, Code::NotHolder);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.end("p"), Some(TerminalReason::Completed));
}

/// Asks about a process; says what is asked.
fn ask(rig: &mut Rig, name: &str, new: NewInterrupt) -> InterruptId {
    let body = CommandBody::CreateInterrupt { pid: pid(name), interrupt: Box::new(new) };
    rig.say(&worker(), body).unwrap();
    rig.kernel.process(&pid(name)).unwrap().interrupts[0].clone()
}

/// K62, K426: a process about which people were asked while it was Ready is claimed once that is
/// over, however it ends, though it was told meanwhile that nothing waits.
#[test]
fn what_was_held_is_claimed_when_its_last_question_is_closed() {
    for how in ["resolved", "cancelled", "expired", "replaced"] {
        let mut rig = Rig::new();
        rig.turn();
        rig.execute("p");
        let asks_leave = ["resolved", "replaced"].contains(&how);
        let new = match asks_leave {
            true => NewInterrupt::new(InterruptKind::Confirmation),
            false => NewInterrupt {
                ttl: Some(1_000),
                on_expiry: Some(ExpiryPolicy::Continue),
                ..NewInterrupt::new(InterruptKind::Clarification)
            },
        };
        let id = ask(&mut rig, "p", new);
        rig.turn();
        assert_eq!(rig.asked.get("claim"), Some(&17), "there is none");
        assert_eq!((rig.state("p"), rig.executor.held()), (ProcessState::Ready, 0), "{how}");
        let (pid, reason) = (pid("p"), String::new());
        let approved = Response { approved: Some(true), ..Response::default() };
        let (pipeline, envelope) = (flow("-1", ""), EnvelopeChoice::New(Box::default()));
        let ends = match how {
            "resolved" => CommandBody::ResolveInterrupt { id, response: Box::new(approved) },
            "cancelled" => CommandBody::CancelInterrupt { id, reason },
            "expired" => {
                rig.now = rig.now + Duration::from_secs(1);
                CommandBody::LeaseTasks { service: service(), max: 1 } // The Tick ends it.
            }
            _ => {
                let asked = Initialize { pid, pipeline, envelope, force: true };
                CommandBody::InitializeSession(Box::new(asked))
            }
        };
        rig.say(&worker(), ends).unwrap();
        rig.turn();
        assert_eq!((rig.state("p"), rig.executor.held()), (ProcessState::Running, 1), "{how}");
    }
}

/// K270: a dispatch that nobody waits for is cancelled, however long that is refused.
#[test]
fn a_cancellation_that_is_refused_is_repeated_after_a_pause() {
    for code in [Code::Busy, Code::Overloaded, Code::DiskFull] {
        let mut rig = Rig::new();
        rig.refused = Some(("cancel", code));
        let retry = r#", "retry": {"max_retries": 1, "initial_backoff_ms": 60000}"#;
        rig.follow("p", flow("2000", retry));
        rig.wait(Duration::from_secs(20));
        let asked = rig.asked.get("cancel").copied().unwrap_or(0);
        assert!((2..20).contains(&asked), "{code:?}: asked {asked} times");
        let open = |rig: &Rig| {
            let all = rig.kernel.state().dispatches.iter();
            all.filter(|(_, row)| row.end().is_none()).count()
        };
        assert_eq!(open(&rig), 1, "{code:?}");
        rig.refused = None;
        rig.wait(Duration::from_secs(5));
        assert_eq!(open(&rig), 0, "{code:?}");
        let asked = rig.asked.get("cancel").copied();
        rig.wait(Duration::from_secs(4)); // Before the next try.
        assert_eq!(rig.asked.get("cancel").copied(), asked, "{code:?}: it is done");
    }
}
