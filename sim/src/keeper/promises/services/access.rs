//! K446: who has no access learns nothing but that, and changes nothing.
//!
//! Now and then, a stranger asks a copy of the process every query and every command there is
//! about what somebody else owns: through the keeper, as anybody would.

use machines::Instant;
use machines::kernel::budget::{Record, Reserve};
use machines::kernel::config::KernelConfig;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::dispatch::{Completion, ServiceRequest, Target};
use machines::kernel::envelopes::command::NewEnvelope;
use machines::kernel::envelopes::{EnvelopeEvent, EnvelopePatch};
use machines::kernel::event::{Body, Event, ProcessEvent};
use machines::kernel::housekeeping::StopMode;
use machines::kernel::ids::{
    DispatchId, Endpoint, EnvelopeId, InterruptId, LeaseId, ProcessId, ReservationId, ServiceName,
    UserId,
};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::interrupts::interrupt::{NewInterrupt, Response};
use machines::kernel::json::Json;
use machines::kernel::lifecycle::Submit;
use machines::kernel::names::{InterruptKind, OnExhausted, Priority, ProcessState};
use machines::kernel::principal::{Principal, Role};
use machines::kernel::process::Metadata;
use machines::kernel::query::bounds::BoundsOf;
use machines::kernel::query::{Query, Told};
use machines::kernel::quota::{Amounts, Limit, QuotaField};
use machines::kernel::rates::Scope;
use machines::kernel::services::ServiceStatus;
use machines::kernel::services::event::{ServiceEvent, SlotEvent};
use machines::kernel::{Code, Command, CommandBody, Refusal};

use super::is_caught_up;
use crate::keeper::book::Follow;
use crate::keeper::kernel::Clerk;
use crate::keeper::kernel::services::Aside;
use crate::keeper::questions;
use crate::keeper::{Seen, Watch, World};

/// One of so many replies is followed by a stranger.
const EVERY: u64 = 200;

/// What there is that is somebody's: the newest of each kind, as the events have it.
#[derive(Clone, Debug, Default)]
struct Newest {
    process: Option<(ProcessId, UserId)>,
    envelope: Option<EnvelopeId>,
    interrupt: Option<InterruptId>,
    service: Option<ServiceName>,
    dispatch: Option<DispatchId>,
    /// A slot that somebody has.
    slot: Option<LeaseId>,
    /// A try that somebody works on.
    task: Option<(DispatchId, LeaseId)>,
}

/// Forgets what is gone.
fn forget<T: PartialEq>(newest: &mut Option<T>, gone: &T) {
    if newest.as_ref() == Some(gone) {
        *newest = None;
    }
}

impl Newest {
    fn add(&mut self, event: &Event) {
        match &event.body {
            Body::Process { event: body } => self.add_process(event, body),
            Body::Envelope { event } => match event {
                EnvelopeEvent::Created { id, .. } | EnvelopeEvent::Cloned { id, .. } => {
                    self.envelope = Some(id.clone());
                }
                EnvelopeEvent::Updated { .. } => {}
                EnvelopeEvent::Removed { ids } => {
                    ids.iter().for_each(|id| forget(&mut self.envelope, id));
                }
            },
            Body::Interrupt { event } => match event {
                InterruptEvent::Raised { interrupt } => {
                    self.interrupt = Some(interrupt.id.clone());
                }
                InterruptEvent::Removed { ids } => {
                    ids.iter().for_each(|id| forget(&mut self.interrupt, id));
                }
                InterruptEvent::Resolved { .. }
                | InterruptEvent::Expired { .. }
                | InterruptEvent::Cancelled { .. } => {}
            },
            Body::Service { event } => match event {
                ServiceEvent::Registered { info, .. } => self.service = Some(info.name.clone()),
                ServiceEvent::Unregistered { service } => forget(&mut self.service, service),
                ServiceEvent::HealthChanged { .. }
                | ServiceEvent::HandlerBound { .. }
                | ServiceEvent::HandlerUnbound { .. } => {}
            },
            Body::Slot { event } => match event {
                SlotEvent::Acquired { lease, .. } => self.slot = Some(lease.clone()),
                SlotEvent::Released { lease, .. } => forget(&mut self.slot, lease),
                SlotEvent::Renewed { .. } => {}
            },
            Body::Dispatch { event } => self.add_dispatch(event),
            Body::Kernel { .. }
            | Body::Quota { .. }
            | Body::Rate { .. }
            | Body::Approval { .. }
            | Body::Session { .. } => {}
        }
    }

    fn add_process(&mut self, event: &Event, body: &ProcessEvent) {
        let (Some(pid), Some(user)) = (&event.subject.pid, &event.subject.user) else {
            return;
        };
        match body {
            ProcessEvent::Created { .. } => self.process = Some((pid.clone(), user.clone())),
            ProcessEvent::Removed => forget(&mut self.process, &(pid.clone(), user.clone())),
            ProcessEvent::StateChanged { .. }
            | ProcessEvent::LeaseRenewed { .. }
            | ProcessEvent::Terminated { .. } => {}
        }
    }

    fn add_dispatch(&mut self, event: &DispatchEvent) {
        let mut ended = |dispatch: &DispatchId| {
            if self.task.as_ref().is_some_and(|(id, _)| id == dispatch) {
                self.task = None;
            }
        };
        match event {
            DispatchEvent::Queued { dispatch, .. } => self.dispatch = Some(dispatch.clone()),
            DispatchEvent::Started { dispatch, lease, .. } => {
                self.task = Some((dispatch.clone(), lease.clone()));
            }
            DispatchEvent::RetryScheduled { dispatch, .. }
            | DispatchEvent::Finished { dispatch, .. } => ended(dispatch),
            DispatchEvent::Removed { ids } => {
                ids.iter().for_each(|id| forget(&mut self.dispatch, id));
            }
            DispatchEvent::Requeued { .. } | DispatchEvent::Renewed { .. } => {}
        }
    }

    /// Every query about what is somebody's. What there is to call is no secret: the queries of
    /// services are not among them.
    fn queries(&self) -> Vec<Query> {
        let mut all = vec![
            Query::ListProcesses(Box::default()),
            Query::GetProcessCounts,
            Query::GetSystemStatus,
            Query::GetSystemUsage,
            Query::ListInterrupts(Box::default()),
            Query::GetInterruptStats,
        ];
        if let Some((pid, _)) = &self.process {
            all.extend(questions::of_a_process(pid));
        }
        if let Some(id) = &self.envelope {
            all.push(Query::GetEnvelope { id: id.clone() });
            all.push(Query::CheckBounds { of: BoundsOf::Envelope(id.clone()) });
        }
        all.extend(self.interrupt.iter().map(|id| Query::GetInterrupt { id: id.clone() }));
        all
    }

    /// The queries of rates, which workers may ask of everybody.
    fn rate_queries(&self) -> Vec<Query> {
        let user = self.process.iter().map(|(_, user)| user.clone());
        let both = |user: UserId| {
            let endpoint = Endpoint::whole();
            let check = Query::CheckRateLimit { user: user.clone(), endpoint: endpoint.clone() };
            [check, Query::GetRateLimitUsage { user, endpoint }]
        };
        user.flat_map(both).collect()
    }

    /// Every command on what is somebody's, or the node's.
    fn commands(&self) -> Vec<CommandBody> {
        let mut all = of_the_node();
        if let Some((pid, user)) = &self.process {
            all.extend(of_a_process(pid, user));
        }
        if let Some(id) = &self.envelope {
            let id = || id.clone();
            let patch = Box::new(EnvelopePatch::default());
            let new = NewEnvelope { id: Some(id()), ..NewEnvelope::default() };
            all.extend([
                CommandBody::CreateEnvelope(Box::new(new)),
                CommandBody::UpdateEnvelope { id: id(), patch, expected_version: None },
                CommandBody::CloneEnvelope { id: id() },
            ]);
        }
        if let Some(id) = &self.interrupt {
            let (id, reason) = (|| id.clone(), "no".to_owned());
            let response = Box::new(Response::default());
            all.push(CommandBody::ResolveInterrupt { id: id(), response });
            all.push(CommandBody::CancelInterrupt { id: id(), reason });
        }
        if let Some(service) = &self.service {
            all.extend(of_a_service(service));
        }
        let dispatch =
            |dispatch: &DispatchId| CommandBody::CancelDispatch { dispatch: dispatch.clone() };
        all.extend(self.dispatch.iter().map(dispatch));
        if let Some(lease) = &self.slot {
            all.push(CommandBody::ReleaseSlot { lease: lease.clone() });
            all.push(CommandBody::RenewLease { lease: lease.clone(), pid: None, lease_ms: None });
        }
        if let Some((_, lease)) = &self.task {
            let (lease, success, data, error, error_kind) = (lease.clone(), true, None, None, None);
            all.push(CommandBody::RenewLease { lease: lease.clone(), pid: None, lease_ms: None });
            let done = Completion { lease, success, data, error, error_kind };
            all.push(CommandBody::CompleteTask(Box::new(done)));
        }
        all
    }
}

fn of_the_node() -> Vec<CommandBody> {
    let config = Box::new(KernelConfig::new());
    let user = UserId::parse("user", "user0").expect("a name is an id");
    let scope = Scope { user: Some(user.clone()), endpoint: Endpoint::whole() };
    let mode = StopMode::Terminate;
    vec![
        CommandBody::Start { config },
        CommandBody::Tick,
        CommandBody::Cleanup,
        CommandBody::Drain { deadline_ms: None },
        CommandBody::Shutdown { mode, deadline_ms: None },
        CommandBody::Stop { mode },
        CommandBody::SetRateLimit { scope, config: None },
        CommandBody::ResetRateLimits { user: user.clone() },
        CommandBody::CheckRateLimit { user, endpoint: Endpoint::whole(), record: true },
    ]
}

fn of_a_process(pid: &ProcessId, user: &UserId) -> Vec<CommandBody> {
    let pid = || pid.clone();
    let amounts = Amounts { llm_calls: 1, ..Amounts::ZERO };
    let reservation = ReservationId::parse("id", "stranger-rsv").expect("a short name is an id");
    let submit = |pid: Option<ProcessId>, user: Option<UserId>, parent: Option<ProcessId>| {
        CommandBody::Submit(Box::new(Submit {
            pid,
            request: None,
            user,
            session: None,
            priority: Priority::Realtime,
            quota: Vec::new(),
            parent,
            on_exhausted: OnExhausted::Terminate,
            driven: false,
            metadata: Metadata::new(),
        }))
    };
    let record = Record { pid: pid(), amounts, agent_hops: 0, attempt: None, record: None };
    let reserve = Reserve {
        pid: pid(),
        reservation: Some(reservation.clone()),
        attempt: None,
        amounts,
        lease_ms: None,
    };
    let (message, reason) = ("no".to_owned(), "no".to_owned());
    let interrupt = Box::new(NewInterrupt::new(InterruptKind::Clarification));
    let quota = vec![(QuotaField::MaxLlmCalls, Limit::at_most(0))];
    vec![
        submit(Some(pid()), None, None),
        submit(None, Some(user.clone()), None),
        submit(None, None, Some(pid())),
        CommandBody::Schedule { pid: pid() },
        CommandBody::TransitionState { pid: pid(), to: ProcessState::Ready, reason },
        CommandBody::Terminate { pid: pid(), message, force: true },
        CommandBody::CleanupProcess { pid: pid() },
        CommandBody::Reserve(Box::new(reserve)),
        CommandBody::Settle { pid: pid(), reservation: reservation.clone(), actual: amounts },
        CommandBody::Release { pid: pid(), reservation },
        CommandBody::RecordUsage(Box::new(record)),
        CommandBody::AdjustQuota { pid: pid(), quota },
        CommandBody::CreateInterrupt { pid: pid(), interrupt },
        CommandBody::NextInstruction { pid: pid() },
    ]
}

fn of_a_service(service: &ServiceName) -> Vec<CommandBody> {
    let service = || service.clone();
    let target = Target::Name { name: service() };
    let request = ServiceRequest::new(target, "run", Json::from(true));
    let status = ServiceStatus::Unhealthy;
    vec![
        CommandBody::UnregisterService { service: service() },
        CommandBody::UpdateHealth { service: service(), status },
        CommandBody::BindHandler { service: service() },
        CommandBody::UnbindHandler { service: service() },
        CommandBody::AcquireSlot { service: service(), pid: None, lease_ms: None },
        CommandBody::LeaseTasks { service: service(), max: 1 },
        CommandBody::Dispatch(Box::new(request)),
    ]
}

/// Says whether that tells no more than that there is nothing to be told.
fn is_nothing(told: &Result<Told, Refusal>) -> bool {
    match told {
        Err(refusal) => refusal.code == Code::PermissionDenied,
        Ok(Told::Processes(page)) => page.processes.is_empty(),
        Ok(Told::Counts(counts)) => counts.total == 0 && counts.queue_depth == 0,
        Ok(Told::Interrupts(page)) => page.interrupts.is_empty(),
        Ok(_) => false,
    }
}

/// Says whether a refusal tells a stranger no more than that it may not: that somebody else holds a
/// lease is told only to who names one (K27, K370).
const fn tells_nothing(asked: &CommandBody, code: Code) -> bool {
    let names_lease = matches!(
        asked,
        CommandBody::ReleaseSlot { .. }
            | CommandBody::RenewLease { .. }
            | CommandBody::CompleteTask(_)
    );
    matches!(code, Code::PermissionDenied) || (names_lease && matches!(code, Code::NotHolder))
}

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers {
    follow: Follow,
    newest: Newest,
    events: u64,
    replies: u64,
}

impl Strangers {
    fn ask(&self, aside: &mut Aside) -> Result<(), String> {
        let stranger = |role| {
            let user = UserId::parse("user", "stranger").expect("a name is an id");
            Principal::new(user, &[role])
        };
        let (user, worker) = (stranger(Role::User), stranger(Role::Worker));
        let queries = self.newest.queries();
        let both = queries.iter().flat_map(|query| [(&user, query), (&worker, query)]);
        let rates = self.newest.rate_queries();
        for (by, query) in both.chain(rates.iter().map(|query| (&user, query))) {
            let told = aside.query(by.clone(), query.clone()).ok_or("a query has no answer")?;
            let told = told.map(|answer| answer.told).map_err(|refusal| *refusal);
            if !is_nothing(&told) {
                return Err(format!("a stranger asked {query:?}, and was told {told:?}"));
            }
        }
        let before = aside.roots();
        for body in self.newest.commands() {
            let (by, asked) = (user.clone(), body.clone());
            let reply = aside.command(Command { by, worker: None, rate: None, body });
            match reply.ok_or("a command has no reply")? {
                Err(refusal) if tells_nothing(&asked, refusal.code) => {}
                Err(refusal) => {
                    return Err(format!("a stranger asked {asked:?}, and learned: {refusal}"));
                }
                Ok(_) => return Err(format!("a stranger could {asked:?}")),
            }
            if aside.roots() != before {
                return Err(format!("a stranger changed something: {asked:?}"));
            }
        }
        Ok(())
    }
}

impl Watch<Clerk> for Strangers {
    fn property(&self) -> &'static str {
        "K446"
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        for events in self.follow.see(seen) {
            for event in events.iter() {
                self.events += 1;
                self.newest.add(event);
            }
        }
        let Seen::Replied { .. } = seen else {
            return Ok(false);
        };
        self.replies += 1;
        if self.replies < EVERY || !is_caught_up(world, self.events) {
            return Ok(false);
        }
        let Some(guest) = world.guest() else {
            return Ok(false);
        };
        self.replies = 0;
        let mut aside = guest.aside(Instant::from_nanos(world.now()), world.wall_ms());
        self.ask(&mut aside)?;
        Ok(self.newest.process.is_some())
    }
}
