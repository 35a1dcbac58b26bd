//! What is asked of services, slots and dispatches (section 7), and of a node that ends (K362).

use std::collections::BTreeMap;
use std::sync::Arc;

use machines::kernel::CommandBody;
use machines::kernel::dispatch::{ApprovalUse, Completion, ServiceRequest, Target};
use machines::kernel::housekeeping::StopMode;
use machines::kernel::ids::{Capability, DispatchId, LeaseId, ServiceName, ServiceType};
use machines::kernel::json::Json;
use machines::kernel::names::Priority;
use machines::kernel::pipeline::kinds::ErrorKind;
use machines::kernel::pipeline::retry::RetryPolicy;
use machines::kernel::quota::Limit;
use machines::kernel::services::{ServiceInfo, ServiceMode, ServiceStatus};

use crate::draw::Draw;
use crate::steps::{CHOSEN, Names, Pid, Rid, Who, params, u8_below};

/// A dispatch: chosen ids are below [`CHOSEN`], the others count minted ones back from the newest.
type Did = u8;

/// A lease; slots, tries and runs count back from the newest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lease {
    Slot(u8),
    Try(u8),
    Run(u8),
    Reservation(Rid),
}

/// A service as it registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    push: bool,
    slots: u32,
    ttl: Option<u64>,
    big: bool,
    status: ServiceStatus,
}

/// What is to be called.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    Name(u8),
    Type(u8, bool),
}

/// A dispatch as it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    id: Option<Did>,
    pid: Option<Pid>,
    aim: Aim,
    priority: Priority,
    queue: bool,
    try_timeout_ms: u64,
    deadline_ms: Option<u64>,
    retry: (u32, u64, u32, u32),
    /// Characters of an inference.
    inference: Option<usize>,
    /// The n-th approval, for what it is for or for something else.
    approval: Option<(u8, bool)>,
}

/// What a worker tells of a try.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    success: bool,
    error: bool,
    kind: Option<ErrorKind>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Register(u8, Shape),
    Unregister(u8),
    Health(u8, ServiceStatus),
    Bind(u8),
    Unbind(u8),
    Acquire(u8, Option<Pid>, Option<u64>),
    GiveBack(Lease),
    Renew(Lease, Option<Pid>, Option<u64>),
    Dispatch(Box<Ask>),
    Lease(u8, u32),
    Complete(Lease, Told),
    Cancel(Did),
    Drain(Option<u64>),
    Shutdown(StopMode, Option<u64>),
    Stop(StopMode),
}

/// Kinds of calls, and how often they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Register,
    Unregister,
    Health,
    Bind,
    Unbind,
    Acquire,
    GiveBack,
    Renew,
    Dispatch,
    Lease,
    Complete,
    Cancel,
    Drain,
    Shutdown,
    Stop,
}

pub(crate) const KINDS: [(Kind, u64); 15] = [
    (Kind::Register, 20),
    (Kind::Unregister, 4),
    (Kind::Health, 14),
    (Kind::Bind, 14),
    (Kind::Unbind, 4),
    (Kind::Acquire, 20),
    (Kind::GiveBack, 12),
    (Kind::Renew, 24),
    (Kind::Dispatch, 80),
    (Kind::Lease, 50),
    (Kind::Complete, 50),
    (Kind::Cancel, 10),
    (Kind::Drain, 2),
    (Kind::Shutdown, 2),
    (Kind::Stop, 1),
];

impl Names {
    fn lease(&self, lease: Lease) -> LeaseId {
        let none = || LeaseId::parse("lease", "lse_none").expect("an id");
        let newest = |all: &[LeaseId], back: u8| {
            all.iter().rev().nth(usize::from(back)).cloned().unwrap_or_else(none)
        };
        match lease {
            Lease::Slot(back) => newest(&self.slots, back),
            Lease::Try(back) => newest(&self.tries, back),
            Lease::Run(back) => newest(&self.runs, back),
            Lease::Reservation(rid) => {
                LeaseId::parse("lease", self.reservation(rid).as_str()).expect("an id")
            }
        }
    }

    fn dispatch(&self, did: Did) -> DispatchId {
        let back = did.checked_sub(CHOSEN).map(usize::from);
        let minted = back.and_then(|back| self.dispatches.iter().rev().nth(back));
        let chosen = || DispatchId::parse("dispatch", &format!("d{did}")).expect("an id");
        minted.cloned().unwrap_or_else(chosen)
    }

    fn request(&self, ask: &Ask) -> ServiceRequest {
        let target = match ask.aim {
            Aim::Name(at) => Target::Name { name: service(at) },
            Aim::Type(at, big) => {
                let (service_type, capability) = (service_type(at), big.then(capability));
                Target::Type { service_type, capability }
            }
        };
        let text = Json::from("x".repeat(ask.inference.unwrap_or(0)).as_str());
        let mut request = ServiceRequest::new(target, "do", Json::object([("text", text)]));
        request.dispatch = ask.id.map(|id| self.dispatch(id));
        request.pid = ask.pid.map(|pid| self.pid(pid));
        request.priority = ask.priority;
        request.queue = ask.queue;
        request.try_timeout_ms = ask.try_timeout_ms;
        request.deadline_ms = ask.deadline_ms;
        let (max_retries, initial_backoff_ms, multiplier_pct, jitter_pct) = ask.retry;
        let policy = RetryPolicy::default();
        request.retry = RetryPolicy {
            max_retries,
            initial_backoff_ms,
            max_backoff_ms: 5_000,
            multiplier_pct,
            jitter_pct,
            ..policy
        };
        request.approval = ask.approval.map(|(nth, right)| ApprovalUse {
            interrupt: self.interrupt(nth).0,
            action: Arc::from("pay"),
            params: if right { params() } else { Json::object::<&str>([]) },
        });
        request
    }

    /// The command that a call means.
    pub(crate) fn call(&self, call: &Call) -> CommandBody {
        match call {
            Call::Register(at, shape) => CommandBody::RegisterService(Box::new(info(*at, *shape))),
            Call::Unregister(at) => CommandBody::UnregisterService { service: service(*at) },
            Call::Health(at, status) => {
                CommandBody::UpdateHealth { service: service(*at), status: *status }
            }
            Call::Bind(at) => CommandBody::BindHandler { service: service(*at) },
            Call::Unbind(at) => CommandBody::UnbindHandler { service: service(*at) },
            Call::Acquire(at, pid, lease_ms) => {
                let (service, pid) = (service(*at), pid.map(|pid| self.pid(pid)));
                CommandBody::AcquireSlot { service, pid, lease_ms: *lease_ms }
            }
            Call::GiveBack(lease) => CommandBody::ReleaseSlot { lease: self.lease(*lease) },
            Call::Renew(lease, pid, lease_ms) => {
                let (lease, pid) = (self.lease(*lease), pid.map(|pid| self.pid(pid)));
                CommandBody::RenewLease { lease, pid, lease_ms: *lease_ms }
            }
            Call::Dispatch(ask) => {
                let request = Box::new(self.request(ask));
                match ask.inference {
                    Some(_) => CommandBody::DispatchInference(request),
                    None => CommandBody::Dispatch(request),
                }
            }
            Call::Lease(at, max) => CommandBody::LeaseTasks { service: service(*at), max: *max },
            Call::Complete(lease, told) => CommandBody::CompleteTask(Box::new(Completion {
                lease: self.lease(*lease),
                success: told.success,
                data: told.success.then(|| Json::object::<&str>([])),
                error: told.error.then(|| "it broke".to_owned()),
                error_kind: told.kind,
            })),
            Call::Cancel(did) => CommandBody::CancelDispatch { dispatch: self.dispatch(*did) },
            Call::Drain(deadline_ms) => CommandBody::Drain { deadline_ms: *deadline_ms },
            Call::Shutdown(mode, deadline_ms) => {
                CommandBody::Shutdown { mode: *mode, deadline_ms: *deadline_ms }
            }
            Call::Stop(mode) => CommandBody::Stop { mode: *mode },
        }
    }
}

fn service(at: u8) -> ServiceName {
    ServiceName::parse("service", &format!("s{at}")).expect("a name")
}

fn service_type(at: u8) -> ServiceType {
    ServiceType::parse("type", if at == 0 { "worker" } else { "inference" }).expect("a name")
}

fn capability() -> Capability {
    Capability::parse("capability", "big").expect("a name")
}

fn info(at: u8, shape: Shape) -> ServiceInfo {
    let mut info = ServiceInfo::new(service(at), service_type(at / 3));
    info.mode = if shape.push { ServiceMode::Push } else { ServiceMode::Pull };
    info.max_concurrent = shape.slots;
    info.status = shape.status;
    info.health_ttl_ms = shape.ttl.map_or(Limit::UNLIMITED, Limit::at_most);
    info.capabilities.extend(shape.big.then(capability));
    info.metadata = BTreeMap::new();
    info
}

/// One of three services of a type, or one of another.
fn any(draw: &mut Draw) -> u8 {
    draw.of(&[0, 0, 0, 1, 1, 2, 3])
}

/// Draws a service that registers.
pub(crate) fn shape(draw: &mut Draw) -> Shape {
    Shape {
        push: draw.percent(40),
        slots: draw.of(&[1, 1, 2, 3, 5, 0]),
        ttl: draw.of(&[None, Some(500), Some(1_000), Some(5_000)]),
        big: draw.percent(40),
        status: match draw.percent(85) {
            true => ServiceStatus::Healthy,
            false => draw.of(ServiceStatus::ALL),
        },
    }
}

fn ask(draw: &mut Draw, pid: Option<Pid>) -> Ask {
    let inference = draw.percent(if pid.is_some() { 35 } else { 4 });
    let waits = [1, 100, 1_000, 1_001, 5_000, 60_000];
    Ask {
        id: draw.percent(35).then(|| u8_below(draw, CHOSEN - 1)),
        pid,
        aim: match draw.percent(70) {
            true => Aim::Name(any(draw)),
            false => Aim::Type(draw.of(&[0, 0, 1]), draw.percent(30)),
        },
        priority: draw.of(Priority::ALL),
        queue: draw.percent(70),
        try_timeout_ms: draw.of(&[0, 1, 500, 1_000, 5_000, 30_000, 30_000, 30_000]),
        deadline_ms: draw.percent(30).then(|| draw.of(&waits)),
        retry: (
            draw.of(&[0, 0, 1, 2, 3]),
            draw.of(&[0, 1, 500, 1_000]),
            draw.of(&[200, 200, 150, 99]),
            draw.of(&[0, 0, 30, 100]),
        ),
        inference: inference.then(|| draw.of(&[0, 1, 3, 7])),
        approval: (pid.is_some() && draw.percent(8)).then(|| (u8_below(draw, 3), draw.percent(80))),
    }
}

fn told(draw: &mut Draw) -> Told {
    let success = draw.percent(50);
    let kinds = [None, Some(ErrorKind::Tool), Some(ErrorKind::Llm), Some(ErrorKind::Policy)];
    let kind = match draw.percent(95) {
        true if success => None,
        true => draw.of(&kinds),
        false => draw.of(&[Some(ErrorKind::Timeout), Some(ErrorKind::Tool)]),
    };
    Told { success, error: draw.percent(if success { 3 } else { 70 }), kind }
}

fn lease(draw: &mut Draw) -> Lease {
    let back = u8_below(draw, 4);
    match draw.below(10) {
        0..3 => Lease::Slot(back),
        3..7 => Lease::Try(back),
        7..9 => Lease::Run(back),
        _ => Lease::Reservation(u8_below(draw, CHOSEN + 2)),
    }
}

/// A day of work: what is asked of the first service is done, or given up.
pub(crate) fn shift(draw: &mut Draw) -> Vec<(Who, Call)> {
    let crew = Who::Worker(0);
    let mut calls = Vec::new();
    for _ in 0..1 + draw.below(3) {
        let mut asked = ask(draw, None);
        (asked.aim, asked.queue, asked.try_timeout_ms) = (Aim::Name(0), true, 30_000);
        asked.inference = None;
        let asked = Call::Dispatch(Box::new(asked));
        // Again: a repeat if it has an id, else another one.
        if draw.percent(40) {
            calls.push((crew, asked.clone()));
        }
        calls.push((crew, asked));
        if draw.percent(8) {
            calls.push((Who::Operator, Call::Drain(None)));
        }
        calls.push((crew, Call::Acquire(0, None, Some(1_000))));
        calls.push((crew, Call::Lease(0, 1)));
        calls.push((crew, Call::Renew(Lease::Try(0), None, Some(draw.of(&[2_500, 60_000])))));
        calls.push((crew, Call::Renew(Lease::Slot(0), None, Some(2_500))));
        if draw.percent(70) {
            calls.push((crew, Call::Complete(Lease::Try(0), told(draw))));
            calls.push((crew, Call::Complete(Lease::Try(0), told(draw))));
        }
    }
    calls
}

/// Draws a call, for a process that `owner` may act for; and who asks.
pub(crate) fn call(draw: &mut Draw, kind: Kind, (pid, owner): (Pid, Who)) -> (Who, Call) {
    let crew = Who::Worker(u8_below(draw, 3));
    let any_crew = Who::Worker(0);
    let most = |draw: &mut Draw, who: Who| {
        let others = [Who::User(u8_below(draw, 3), 0), crew, Who::Operator, Who::Node];
        if draw.percent(85) { who } else { draw.of(&others) }
    };
    let leases = [None, None, Some(1_000), Some(2_500), Some(60_000), Some(999)];
    let spans = [None, Some(1), Some(1_000), Some(20_000), Some(0)];
    match kind {
        Kind::Register => (most(draw, crew), Call::Register(any(draw), shape(draw))),
        Kind::Unregister => (most(draw, crew), Call::Unregister(any(draw))),
        Kind::Health => {
            let often = [ServiceStatus::Healthy, ServiceStatus::Degraded];
            let all = if draw.percent(50) { &often[..] } else { ServiceStatus::ALL };
            (most(draw, crew), Call::Health(any(draw), draw.of(all)))
        }
        Kind::Bind => (most(draw, Who::Node), Call::Bind(any(draw))),
        Kind::Unbind => (most(draw, Who::Node), Call::Unbind(any(draw))),
        Kind::Acquire => match draw.percent(50) {
            true => (owner, Call::Acquire(any(draw), Some(pid), draw.of(&leases))),
            false => (most(draw, crew), Call::Acquire(any(draw), None, draw.of(&leases))),
        },
        Kind::GiveBack => {
            let lease = if draw.percent(80) { Lease::Slot(u8_below(draw, 4)) } else { lease(draw) };
            let who = if draw.percent(50) { any_crew } else { owner };
            (most(draw, who), Call::GiveBack(lease))
        }
        Kind::Renew => {
            let who = if draw.percent(60) { any_crew } else { owner };
            let pid = draw.percent(20).then_some(pid);
            (most(draw, who), Call::Renew(lease(draw), pid, draw.of(&leases)))
        }
        Kind::Dispatch => {
            let of = draw.percent(50);
            let who = if of { owner } else { most(draw, crew) };
            (who, Call::Dispatch(Box::new(ask(draw, of.then_some(pid)))))
        }
        Kind::Lease => (most(draw, crew), Call::Lease(any(draw), draw.of(&[0, 1, 1, 2, 5, 1_001]))),
        Kind::Complete => {
            let who = if draw.percent(65) { any_crew } else { Who::Node };
            (most(draw, who), Call::Complete(Lease::Try(u8_below(draw, 3)), told(draw)))
        }
        Kind::Cancel => {
            let who = if draw.percent(50) { any_crew } else { owner };
            (most(draw, who), Call::Cancel(u8_below(draw, CHOSEN + 2)))
        }
        Kind::Drain => (most(draw, Who::Operator), Call::Drain(draw.of(&spans))),
        Kind::Shutdown => {
            let mode = draw.of(StopMode::ALL);
            (most(draw, Who::Node), Call::Shutdown(mode, draw.of(&spans)))
        }
        Kind::Stop => (most(draw, Who::Node), Call::Stop(draw.of(StopMode::ALL))),
    }
}
