//! The kernel under any sequence of commands and times.
//!
//! After every command the same events, applied to a copy, give the same state; what is refused
//! changes nothing; and every eighth time a snapshot, loaded, is the same state too (K2, K3, L72).

use std::collections::BTreeSet;
use std::sync::Arc;

use machines::cluster::ids::NodeId;
use machines::codec::Wire;
use machines::kernel::budget::{Record, Reserve};
use machines::kernel::config::KernelConfig;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::dispatch::{Completion, ServiceRequest, Target};
use machines::kernel::envelopes::EnvelopePatch;
use machines::kernel::envelopes::command::NewEnvelope;
use machines::kernel::event::{Body, Event};
use machines::kernel::housekeeping::StopMode;
use machines::kernel::ids::{
    AgentName, DispatchId, Endpoint, EnvelopeId, InterruptId, LeaseId, OutputKey, ProcessId,
    RecordId, ReservationId, ServiceName, ServiceType, UseId, UserId,
};
use machines::kernel::interrupts::approval::Use;
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::interrupts::interrupt::{NewInterrupt, NewTarget, Response};
use machines::kernel::json::{Json, JsonLimits};
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{InterruptKind, OnExhausted, Priority, ProcessState, ReviewDecision};
use machines::kernel::part::KernelPart;
use machines::kernel::pipeline::PipelineConfig;
use machines::kernel::pipeline::kinds::ErrorKind;
use machines::kernel::pipeline::limits::FlowLimits;
use machines::kernel::principal::{Principal, Role};
use machines::kernel::process::Metadata;
use machines::kernel::quota::{Amounts, Limit, QuotaField, QuotaPatch};
use machines::kernel::rates::{Scope, ScopeConfig};
use machines::kernel::services::event::SlotEvent;
use machines::kernel::services::{ServiceInfo, ServiceMode, ServiceStatus};
use machines::kernel::sessions::Pipeline;
use machines::kernel::sessions::instruction::InstructionBody;
use machines::kernel::sessions::report::{Metrics, Report};
use machines::kernel::sessions::start::{EnvelopeChoice, Initialize};
use machines::kernel::sessions::task::AgentTask;
use machines::kernel::{At, Command, CommandBody, Kernel, Time};
use machines::ledger::fold::Held;
use machines::ledger::snapshot::{Encoder, FrozenState, Restoring};

use crate::cursor::Cursor;

/// How many processes, reservations, dispatches and so on inputs speak of.
const NAMES: u8 = 6;
/// How many ids of each kind are remembered, the newest.
const SEEN: usize = 8;
/// The shortest a decision may be limited to here: a start fits.
const DECISION: u64 = 6_144;
/// How many ticks one moment may take.
const TICKS_MAX: u32 = 10_000;

fn user(name: &str) -> UserId {
    UserId::parse("user", name).expect("a legal name")
}

/// The owner of most.
#[must_use]
pub fn alice() -> Principal {
    Principal::new(user("alice"), &[Role::User])
}

fn pid(number: u8) -> ProcessId {
    ProcessId::parse("pid", &format!("p{number}")).expect("a legal id")
}

/// Submits a process under a number.
#[must_use]
pub fn submitted(number: u8) -> CommandBody {
    CommandBody::Submit(Box::new(new_process(number)))
}

/// Schedules it.
#[must_use]
pub fn scheduled(number: u8) -> CommandBody {
    CommandBody::Schedule { pid: pid(number) }
}

fn new_process(number: u8) -> Submit {
    Submit {
        pid: Some(pid(number)),
        request: None,
        user: None,
        session: None,
        priority: Priority::Normal,
        quota: QuotaPatch::new(),
        parent: None,
        on_exhausted: OnExhausted::Terminate,
        driven: false,
        metadata: Metadata::new(),
    }
}

fn json(text: &str) -> Json {
    Json::parse("fuzz", text.as_bytes(), &JsonLimits::DEFAULT).expect("legal JSON")
}

/// Ids that the kernel made, the newest last.
#[derive(Clone, Debug, Default)]
struct Seen {
    interrupts: Vec<InterruptId>,
    leases: Vec<LeaseId>,
}

fn keep<T>(list: &mut Vec<T>, new: T) {
    list.push(new);
    if list.len() > SEEN {
        list.remove(0);
    }
}

impl Seen {
    fn note(&mut self, event: &Event) {
        if let Body::Interrupt { event: InterruptEvent::Raised { interrupt } } = &event.body {
            keep(&mut self.interrupts, interrupt.id.clone());
        }
        if let Body::Slot { event: SlotEvent::Acquired { lease, .. } }
        | Body::Dispatch { event: DispatchEvent::Started { lease, .. } } = &event.body
        {
            keep(&mut self.leases, lease.clone());
        }
    }
}

/// Takes one of a list, if there is any.
fn one_of<T: Clone>(list: &[T], cursor: &mut Cursor<'_>) -> Option<T> {
    let place = usize::from(cursor.byte());
    (!list.is_empty()).then(|| list[place % list.len()].clone())
}

/// One of all variants of an enumeration.
fn one<T: Copy>(all: &[T], cursor: &mut Cursor<'_>) -> T {
    all[usize::from(cursor.byte()) % all.len()]
}

/// A kernel, its clock, and what it said.
struct World {
    kernel: Kernel,
    now: Time,
    nonce: u64,
    seen: Seen,
    told: BTreeSet<&'static str>,
}

impl World {
    fn new(config: KernelConfig) -> Self {
        let kernel = Kernel::new(config.clone()).expect("the configuration is legal");
        let (now, seen) = (Time::from_millis(1_000_000), Seen::default());
        let mut world = Self { kernel, now, nonce: 0, seen, told: BTreeSet::new() };
        world.run(Principal::node(), CommandBody::Start { config: Box::new(config) });
        world
    }

    fn run(&mut self, by: Principal, body: CommandBody) {
        self.nonce += 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.to_le_bytes());
        let command = Command { by, worker: None, rate: None, body };
        let (before, root) = (self.kernel.clone(), self.kernel.current_root());
        match self.kernel.execute(At { now: self.now, nonce }, &command) {
            Ok(events) => {
                let mut follower = before;
                for event in &events {
                    let bytes = event.to_bytes();
                    let read = Event::from_bytes(&bytes).expect("what is written is read");
                    assert_eq!((&read, read.to_bytes()), (event, bytes), "L15");
                    follower.apply(&read);
                    self.seen.note(event);
                    self.told.insert(event.body.kind());
                }
                let root = self.kernel.root();
                assert_eq!(follower.root(), root, "events are all that changes the state (K3)");
                assert_eq!(follower.next_deadline(), self.kernel.next_deadline(), "K12");
                let _reply = self.kernel.reply(self.now, &command, &events);
            }
            Err(refusal) => {
                assert_eq!(self.kernel.current_root(), root, "{refusal} changed something (K2)");
                assert_eq!(self.kernel.next_deadline(), before.next_deadline(), "K2");
                self.told.insert(refusal.code.as_str());
            }
        }
        if self.nonce.is_multiple_of(8) {
            let loaded = reloaded(&self.kernel);
            assert_eq!(loaded.current_root(), self.kernel.current_root(), "L72");
            assert_eq!(loaded.next_deadline(), self.kernel.next_deadline(), "K12");
        }
    }

    /// Everything that is due, then the command (K10).
    fn say(&mut self, by: Principal, body: CommandBody) {
        self.tick();
        self.run(by, body);
    }

    fn tick(&mut self) {
        for _ in 0..TICKS_MAX {
            if self.kernel.next_deadline().is_none_or(|due| due > self.now) {
                return;
            }
            self.run(Principal::node(), CommandBody::Tick);
        }
        panic!("what is due stays due: {:?}", self.kernel.next_deadline());
    }

    /// Hands out what a worker at a process is to do now.
    fn task(&self, pid: &ProcessId, cursor: &mut Cursor<'_>) -> Option<AgentTask> {
        match self.kernel.instruction(self.now, pid)?.body {
            InstructionBody::RunAgent(task) => Some(*task),
            InstructionBody::RunAgents(tasks) => one_of(&tasks, cursor),
            InstructionBody::Terminate { .. }
            | InstructionBody::WaitInterrupt { .. }
            | InstructionBody::WaitParallel { .. }
            | InstructionBody::Wait { .. } => None,
        }
    }
}

fn reloaded(kernel: &Kernel) -> Kernel {
    let (node, mut kernel) = (NodeId::from_bytes([7; 16]), kernel.clone());
    let mut held = Held::<KernelPart>(&mut kernel);
    let frozen = FrozenState::of(node, 5, [9; 32], &mut [&mut held]);
    let mut loaded = Kernel::new(KernelConfig::new()).expect("a legal configuration");
    let (mut encoder, mut restoring) = (Encoder::new(frozen), Restoring::new(node, 5));
    while let Some(piece) = encoder.piece() {
        let mut held = Held::<KernelPart>(&mut loaded);
        restoring.push(&piece, &mut [&mut held]).expect("what is written is read");
    }
    restoring.finish().expect("all of it was read");
    loaded
}

fn who(cursor: &mut Cursor<'_>) -> Principal {
    match cursor.below(8) {
        0 => Principal::new(user("bob"), &[Role::User]),
        1 | 2 => Principal::new(user("w"), &[Role::Worker]),
        3 => Principal::new(user("op"), &[Role::Operator]),
        4 => Principal::node(),
        _ => alice(),
    }
}

fn amounts(cursor: &mut Cursor<'_>) -> Amounts {
    Amounts { llm_calls: cursor.number().into(), ..Amounts::ZERO }
}

fn span(cursor: &mut Cursor<'_>) -> Option<u64> {
    cursor.flag().then(|| u64::from(cursor.number()) * 500)
}

fn name(cursor: &mut Cursor<'_>) -> ProcessId {
    pid(cursor.below(NAMES))
}

fn reservation(cursor: &mut Cursor<'_>) -> ReservationId {
    let text = format!("r{}", cursor.below(NAMES));
    ReservationId::parse("reservation_id", &text).expect("a legal id")
}

fn service(cursor: &mut Cursor<'_>) -> ServiceName {
    ServiceName::parse("service", &format!("s{}", cursor.below(2))).expect("a legal name")
}

fn dispatch_id(cursor: &mut Cursor<'_>) -> DispatchId {
    let text = format!("d{}", cursor.below(NAMES));
    DispatchId::parse("dispatch_id", &text).expect("a legal id")
}

fn envelope_id(cursor: &mut Cursor<'_>) -> EnvelopeId {
    let text = format!("e{}", cursor.below(NAMES));
    EnvelopeId::parse("envelope_id", &text).expect("a legal id")
}

fn quota(cursor: &mut Cursor<'_>) -> QuotaPatch {
    let fields = [QuotaField::MaxLlmCalls, QuotaField::TimeoutMs, QuotaField::SoftTimeoutMs];
    let count = cursor.below(3);
    (0..count).map(|_| (one(&fields, cursor), Limit::at_most(cursor.number().into()))).collect()
}

fn process(cursor: &mut Cursor<'_>) -> Submit {
    Submit {
        parent: cursor.flag().then(|| name(cursor)),
        priority: one(Priority::ALL, cursor),
        quota: quota(cursor),
        driven: cursor.below(8) == 0,
        on_exhausted: one(OnExhausted::ALL, cursor),
        ..new_process(cursor.below(NAMES))
    }
}

/// One of some pipelines: a row of stages, a fork that joins, a loop with a question at its end.
fn pipeline(cursor: &mut Cursor<'_>) -> Pipeline {
    let agent = |name: &str, more: &str| {
        format!(
            r#"{{"name": "{name}", "agent_config": {{"name": "{name}", "has_llm": true,
            "model_role": "m"}}{more}}}"#
        )
    };
    let always = |to: &str| format!(r#"{{"expr": {{"op": "Always"}}, "target": "{to}"}}"#);
    let retry = r#", "timeout_ms": 5000, "retry": {"max_retries": 1, "initial_backoff_ms": 500}"#;
    let (config, stages) = match cursor.below(3) {
        0 => (
            "\"checkpoints\": true",
            vec![agent("a", r#", "default_next": "b""#), agent("b", retry)],
        ),
        1 => {
            let rules = [always("a"), always("b")].join(", ");
            let fork = format!(
                r#"{{"name": "f", "node_kind": "Fork", "default_next": "c", "routing": [{rules}]}}"#
            );
            let schema = r#""state_schema": [{"key": "list", "merge": "Append"}]"#;
            (schema, vec![fork, agent("a", retry), agent("b", ""), agent("c", "")])
        }
        _ => {
            let back = format!(r#", "routing": [{}]"#, always("a"));
            ("\"max_iterations\": 3", vec![agent("a", &back)])
        }
    };
    let text = format!(r#"{{"name": "g", {config}, "stages": [{}]}}"#, stages.join(", "));
    let config = PipelineConfig::parse(&json(&text), &FlowLimits::DEFAULT);
    Pipeline::new(config.unwrap_or_else(|refusal| panic!("{refusal}")))
}

fn question(cursor: &mut Cursor<'_>) -> NewInterrupt {
    let target = || NewTarget { action: "pay".into(), params: Json::NULL, binds: Vec::new() };
    NewInterrupt {
        question: cursor.flag().then(|| "why?".into()),
        ttl: span(cursor),
        blocking: cursor.flag().then_some(true),
        target: cursor.flag().then(|| Box::new(target())),
        ..NewInterrupt::new(one(InterruptKind::ALL, cursor))
    }
}

fn answer(world: &World, id: &InterruptId, cursor: &mut Cursor<'_>) -> Response {
    let target = world.kernel.state().interrupt(id).and_then(|asked| asked.target.clone());
    Response {
        text: cursor.flag().then(|| Arc::from("so")),
        approved: cursor.flag().then_some(true),
        decision: cursor.flag().then(|| one(ReviewDecision::ALL, cursor)),
        data: None,
        target_hash: target.map(|target| target.hash),
    }
}

fn report(world: &World, cursor: &mut Cursor<'_>) -> Option<Report> {
    let pid = name(cursor);
    let task = world.task(&pid, cursor)?;
    let success = cursor.below(3) > 0;
    Some(Report {
        pid,
        attempt: task.attempt,
        agent: AgentName::parse("agent", task.agent.as_str()).expect("it has a name"),
        success,
        output: success.then(|| json(r#"{"list": ["x"], "y": {"z": 1.5}}"#)),
        error: (!success).then(|| "it broke".into()),
        error_kind: (!success).then(|| one(&[ErrorKind::Tool, ErrorKind::Llm], cursor)),
        metrics: Metrics { llm_calls: cursor.below(4).into(), ..Metrics::default() },
        interrupt: (cursor.below(6) == 0).then(|| Box::new(question(cursor))),
        break_loop: cursor.below(8) == 0,
        chosen_target: None,
        feedback: None,
        release_process: cursor.below(8) == 0,
    })
}

fn request(cursor: &mut Cursor<'_>) -> ServiceRequest {
    let target = Target::Name { name: service(cursor) };
    let mut request = ServiceRequest::new(target, "run", Json::NULL);
    request.dispatch = Some(dispatch_id(cursor));
    request.pid = cursor.flag().then(|| name(cursor));
    request.queue = cursor.below(4) > 0;
    request.retry.max_retries = cursor.below(3).into();
    request.deadline_ms = span(cursor);
    request
}

fn information(cursor: &mut Cursor<'_>) -> ServiceInfo {
    let kind = ServiceType::parse("service_type", "t").expect("a legal name");
    ServiceInfo {
        mode: if cursor.flag() { ServiceMode::Pull } else { ServiceMode::Push },
        max_concurrent: cursor.below(4).into(),
        ..ServiceInfo::new(service(cursor), kind)
    }
}

/// What processes, budgets and rates are asked.
fn of_processes(cursor: &mut Cursor<'_>) -> CommandBody {
    match cursor.below(16) {
        0 | 1 => CommandBody::Submit(Box::new(process(cursor))),
        2 => CommandBody::Schedule { pid: name(cursor) },
        3 => CommandBody::NextRunnable,
        4 | 5 => CommandBody::TransitionState {
            pid: name(cursor),
            to: one(ProcessState::ALL, cursor),
            reason: "so it is".to_owned(),
        },
        6 => CommandBody::Terminate {
            pid: name(cursor),
            message: String::new(),
            force: cursor.flag(),
        },
        7 => CommandBody::CleanupProcess { pid: name(cursor) },
        8 => CommandBody::Reserve(Box::new(Reserve {
            pid: name(cursor),
            reservation: Some(reservation(cursor)),
            attempt: None,
            amounts: amounts(cursor),
            lease_ms: span(cursor),
        })),
        9 => CommandBody::Settle {
            pid: name(cursor),
            reservation: reservation(cursor),
            actual: amounts(cursor),
        },
        10 => CommandBody::Release { pid: name(cursor), reservation: reservation(cursor) },
        11 => CommandBody::RecordUsage(Box::new(Record {
            pid: name(cursor),
            amounts: amounts(cursor),
            agent_hops: cursor.below(3).into(),
            attempt: None,
            record: cursor.flag().then(|| RecordId::parse("record_id", "x").expect("legal")),
        })),
        12 => CommandBody::AdjustQuota { pid: name(cursor), quota: quota(cursor) },
        13 => CommandBody::CheckRateLimit {
            user: user("alice"),
            endpoint: Endpoint::parse("endpoint", "e").expect("a legal name"),
            record: cursor.flag(),
        },
        14 => CommandBody::SetRateLimit {
            scope: Scope {
                user: cursor.flag().then(|| user("alice")),
                endpoint: Endpoint::whole(),
            },
            config: cursor.flag().then(|| ScopeConfig {
                burst: Some(Limit::at_most(cursor.byte().into())),
                ..ScopeConfig::default()
            }),
        },
        _ => CommandBody::ResetRateLimits { user: user("alice") },
    }
}

/// What sessions, envelopes and people are asked; nothing if there is no such thing.
fn of_sessions(world: &World, cursor: &mut Cursor<'_>) -> Option<CommandBody> {
    let seen = &world.seen;
    Some(match cursor.below(16) {
        0 | 1 => CommandBody::InitializeSession(Box::new(Initialize {
            pid: name(cursor),
            pipeline: pipeline(cursor),
            envelope: match cursor.flag() {
                true => EnvelopeChoice::New(Box::new(new_envelope(cursor))),
                false => EnvelopeChoice::Known(envelope_id(cursor)),
            },
            force: cursor.flag(),
        })),
        2..=4 => CommandBody::NextInstruction { pid: name(cursor) },
        5..=8 => CommandBody::ReportAgentResult(Box::new(report(world, cursor)?)),
        9 => CommandBody::CreateEnvelope(Box::new(new_envelope(cursor))),
        10 => {
            let key = OutputKey::parse("key", "out").expect("a legal name");
            let patch = EnvelopePatch {
                outputs: [(key, json(r#"{"a": 1}"#))].into(),
                ..EnvelopePatch::default()
            };
            let expected_version = cursor.flag().then(|| cursor.below(4).into());
            let (id, patch) = (envelope_id(cursor), Box::new(patch));
            CommandBody::UpdateEnvelope { id, patch, expected_version }
        }
        11 => CommandBody::CloneEnvelope { id: envelope_id(cursor) },
        12 => CommandBody::CreateInterrupt {
            pid: name(cursor),
            interrupt: Box::new(question(cursor)),
        },
        13 => {
            let id = one_of(&seen.interrupts, cursor)?;
            let response = Box::new(answer(world, &id, cursor));
            CommandBody::ResolveInterrupt { id, response }
        }
        14 => {
            let id = one_of(&seen.interrupts, cursor)?;
            CommandBody::CancelInterrupt { id, reason: "no".to_owned() }
        }
        _ => CommandBody::ConsumeApproval(Box::new(Use {
            interrupt: one_of(&seen.interrupts, cursor)?,
            action: "pay".into(),
            params: Json::NULL,
            use_id: UseId::parse("use_id", "u").expect("a legal id"),
        })),
    })
}

fn new_envelope(cursor: &mut Cursor<'_>) -> NewEnvelope {
    let id = Some(envelope_id(cursor));
    NewEnvelope { id, raw_input: "x".repeat(cursor.byte().into()), ..NewEnvelope::default() }
}

/// What services and the node itself are asked; nothing if there is no such thing.
fn of_services(world: &World, cursor: &mut Cursor<'_>) -> Option<CommandBody> {
    let seen = &world.seen;
    Some(match cursor.below(20) {
        0 | 1 => CommandBody::RegisterService(Box::new(information(cursor))),
        2 => CommandBody::UnregisterService { service: service(cursor) },
        3 => CommandBody::UpdateHealth {
            service: service(cursor),
            status: one(ServiceStatus::ALL, cursor),
        },
        4 => CommandBody::BindHandler { service: service(cursor) },
        5 => CommandBody::UnbindHandler { service: service(cursor) },
        6 => CommandBody::AcquireSlot {
            service: service(cursor),
            pid: cursor.flag().then(|| name(cursor)),
            lease_ms: span(cursor),
        },
        7 => CommandBody::ReleaseSlot { lease: one_of(&seen.leases, cursor)? },
        8 => CommandBody::RenewLease {
            lease: one_of(&seen.leases, cursor)?,
            pid: None,
            lease_ms: span(cursor),
        },
        9..=11 => CommandBody::Dispatch(Box::new(request(cursor))),
        12 => CommandBody::DispatchInference(Box::new(request(cursor))),
        13 => CommandBody::LeaseTasks { service: service(cursor), max: cursor.below(5).into() },
        14 | 15 => {
            let success = cursor.flag();
            CommandBody::CompleteTask(Box::new(Completion {
                lease: one_of(&seen.leases, cursor)?,
                success,
                data: success.then_some(Json::NULL),
                error: (!success).then(|| "it broke".to_owned()),
                error_kind: (!success).then_some(ErrorKind::Tool),
            }))
        }
        16 => CommandBody::CancelDispatch { dispatch: dispatch_id(cursor) },
        17 => CommandBody::Cleanup,
        18 => CommandBody::Drain { deadline_ms: span(cursor) },
        _ => match cursor.below(4) {
            0 => CommandBody::Shutdown {
                mode: one(StopMode::ALL, cursor),
                deadline_ms: span(cursor),
            },
            1 => CommandBody::Stop { mode: one(StopMode::ALL, cursor) },
            _ => CommandBody::Start { config: Box::new(world.kernel.state().config().clone()) },
        },
    })
}

/// Runs `bytes` and names the events and refusals that there were.
///
/// # Panics
///
/// If a property does not hold.
#[must_use]
pub fn run(bytes: &[u8]) -> BTreeSet<&'static str> {
    let mut cursor = Cursor::new(bytes);
    let most = match cursor.flag() {
        true => DECISION,
        false => u64::MAX,
    };
    let mut world = World::new(KernelConfig::new().within(most));
    while !cursor.is_empty() {
        let wait = u64::try_from(cursor.wait().as_millis()).expect("two hours at most");
        world.now = world.now.plus(wait);
        world.tick();
        let by = who(&mut cursor);
        let body = match cursor.below(3) {
            0 => Some(of_processes(&mut cursor)),
            1 => of_sessions(&world, &mut cursor),
            _ => of_services(&world, &mut cursor),
        };
        if let Some(body) = body {
            world.say(by, body);
        }
    }
    world.told
}

/// Any sequence of commands. Means something if a process was made.
#[must_use]
pub fn commands(bytes: &[u8]) -> bool {
    run(bytes).contains("process.created")
}
