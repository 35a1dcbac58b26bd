//! Goal: no sequence of commands, deadlines and restarts breaks K432, K433 or K434.
//! Method: random commands on two services, and an oracle that follows the events alone. The rig
//! checks after each command that a refusal has changed nothing (K434), that events are all that
//! changes the state, and that every index follows from the tables.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::event::DispatchEvent;
use super::rig::{
    acquire, bind, dispatch, done, dsp, failed, granted, health, info, queued, renew,
};
use super::rig::{register, svc};
use super::*;
use crate::kernel::CommandBody;
use crate::kernel::event::{Body, Event, KernelEvent, Subject};
use crate::kernel::quota::Limit;
use crate::kernel::rig::{Rig, assert_same, node, pid, submit, user, worker};
use crate::kernel::services::event::{ServiceEvent, SlotCause, SlotEvent};
use crate::kernel::services::{Service, ServiceInfo, ServiceMode, ServiceStatus};

#[derive(Clone, Debug)]
enum Step {
    Register(bool),
    Unregister(bool),
    Health(bool, ServiceStatus),
    Bind,
    Unbind,
    Acquire(bool),
    Renew(usize),
    Release(usize),
    Dispatch { id: u8, push: bool, retries: u32, deadline: Option<u64>, priority: Priority },
    OfProcess { id: u8, inference: bool },
    Lease(u32),
    Complete { lease: usize, success: bool },
    Cancel(u8),
    EndProcess,
    Restart,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop::sample::select(ServiceStatus::ALL);
    let priority = prop::sample::select(Priority::ALL);
    let deadline = prop::option::of(1..90_000_u64);
    let which = any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    prop_oneof![
        1 => any::<bool>().prop_map(Step::Register),
        1 => any::<bool>().prop_map(Step::Unregister),
        3 => (any::<bool>(), status).prop_map(|(push, status)| Step::Health(push, status)),
        2 => Just(Step::Bind),
        1 => Just(Step::Unbind),
        3 => any::<bool>().prop_map(Step::Acquire),
        4 => which.clone().prop_map(Step::Renew),
        4 => which.clone().prop_map(Step::Release),
        8 => (0..8_u8, any::<bool>(), 0..3_u32, deadline, priority).prop_map(
            |(id, push, retries, deadline, priority)| {
                Step::Dispatch { id, push, retries, deadline, priority }
            }
        ),
        3 => (0..8_u8, any::<bool>()).prop_map(|(id, inference)| Step::OfProcess { id, inference }),
        6 => (0..3_u32).prop_map(Step::Lease),
        8 => (which, any::<bool>()).prop_map(|(lease, success)| Step::Complete { lease, success }),
        1 => (0..8_u8).prop_map(Step::Cancel),
        1 => Just(Step::EndProcess),
        1 => Just(Step::Restart),
        6 => prop_oneof![0..3_000_u64, 0..40_000_u64, 0..900_000_u64].prop_map(Step::Pass),
    ]
}

/// What is wrong with the kernel, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sabotage {
    None,
    /// A slot that is free is released again.
    ReleaseTwice,
    /// A completion under an old lease ends the live try.
    AcceptTheOldLease,
}

/// What the events say of one dispatch.
#[derive(Clone, Debug, Default)]
struct Told {
    service: Option<ServiceName>,
    live: Option<LeaseId>,
    tries: u32,
    most: u32,
    ended: bool,
}

/// All that the events say.
#[derive(Clone, Debug, Default)]
struct Oracle {
    services: BTreeMap<ServiceName, Service>,
    /// Live slots: of which service, and until when, if they end by themselves.
    slots: BTreeMap<LeaseId, (ServiceName, Option<Time>)>,
    dispatches: BTreeMap<DispatchId, Told>,
    /// All leases ever, with the dispatch of those that were tries'.
    leases: Vec<(LeaseId, Option<DispatchId>)>,
}

impl Oracle {
    fn load(&self, name: &ServiceName) -> usize {
        self.slots.values().filter(|(service, _)| service == name).count()
    }

    /// K432: a grant is within the capacity, its own slot counted.
    fn grant(
        &mut self,
        name: &ServiceName,
        lease: &LeaseId,
        until: Option<Time>,
    ) -> Result<(), String> {
        self.slots.insert(lease.clone(), (name.clone(), until));
        let capacity = self.services.get(name).map_or(0, Service::capacity);
        match self.load(name) <= capacity as usize {
            true => Ok(()),
            false => Err(format!("K432: {name} has {} of {capacity}", self.load(name))),
        }
    }

    /// K432: a slot is free once.
    fn free(&mut self, lease: &LeaseId) -> Result<(), String> {
        match self.slots.remove(lease) {
            Some(_) => Ok(()),
            None => Err(format!("K432: {lease} was free")),
        }
    }

    fn follow(&mut self, event: &Event) -> Result<(), String> {
        match &event.body {
            Body::Service { event: body } => self.follow_service(event.time, body),
            Body::Slot { event } => match event {
                SlotEvent::Acquired { service, lease, until, .. } => {
                    self.leases.push((lease.clone(), None));
                    self.grant(service, lease, Some(*until))?;
                }
                SlotEvent::Renewed { lease, until } => self.extend(lease, *until)?,
                SlotEvent::Released { lease, .. } => self.free(lease)?,
            },
            Body::Dispatch { event } => self.follow_dispatch(event)?,
            Body::Kernel { event: body } => self.follow_start(event.time, body),
            Body::Process { .. }
            | Body::Quota { .. }
            | Body::Rate { .. }
            | Body::Envelope { .. }
            | Body::Interrupt { .. }
            | Body::Approval { .. }
            | Body::Session { .. } => {}
        }
        Ok(())
    }

    fn extend(&mut self, lease: &LeaseId, until: Time) -> Result<(), String> {
        let Some((_, at)) = self.slots.get_mut(lease) else {
            return Err(format!("K432: {lease} was renewed after its end"));
        };
        *at = Some(until);
        Ok(())
    }

    fn follow_start(&mut self, now: Time, event: &KernelEvent) {
        if let KernelEvent::Started { .. } = event {
            for (lease, (_, until)) in &mut self.slots {
                let tried = self.leases.iter().any(|(one, of)| one == lease && of.is_some());
                let length = if tried { 30_000 } else { 60_000 };
                *until = until.map(|until| until.max(now.plus(length)));
            }
        }
    }

    fn follow_service(&mut self, now: Time, event: &ServiceEvent) {
        match event {
            ServiceEvent::Registered { info, owner } => {
                let (status, owner) = (info.status, owner.clone());
                let (name, info) = (info.name.clone(), info.as_ref().clone());
                let row = Service { info, owner, status, last_health_check: now, bound: false };
                self.services.insert(name, row);
            }
            ServiceEvent::Unregistered { service } => {
                self.services.remove(service);
            }
            ServiceEvent::HealthChanged { service, to, .. } => {
                if let Some(row) = self.services.get_mut(service) {
                    row.status = *to;
                }
            }
            ServiceEvent::HandlerBound { .. } | ServiceEvent::HandlerUnbound { .. } => {}
        }
    }

    /// K433, K207: one live try, one outcome, and no more tries than there may be.
    fn follow_dispatch(&mut self, event: &DispatchEvent) -> Result<(), String> {
        match event {
            DispatchEvent::Queued { dispatch, request, service, .. } => {
                let most = 1 + request.retry.max_retries + 3;
                let told = Told { most, service: Some(service.clone()), ..Told::default() };
                self.dispatches.insert(dispatch.clone(), told);
            }
            DispatchEvent::Started { dispatch, lease, holder, until, .. } => {
                let told = self.dispatches.get_mut(dispatch).ok_or("K433: nobody asked")?;
                told.tries += 1;
                if told.live.is_some() || told.ended || told.tries > told.most {
                    return Err(format!("K433: {dispatch} starts as {told:?}"));
                }
                told.live = Some(lease.clone());
                let service = told.service.clone().ok_or("K433: for no service")?;
                self.leases.push((lease.clone(), Some(dispatch.clone())));
                self.grant(&service, lease, holder.as_ref().map(|_| *until))?;
            }
            DispatchEvent::Renewed { lease, until, .. } => self.extend(lease, *until)?,
            DispatchEvent::RetryScheduled { dispatch, .. } => {
                let told = self.dispatches.get_mut(dispatch).ok_or("K433: nobody asked")?;
                let lease = told.live.take().ok_or("K433: a try ended that was not live")?;
                self.free(&lease)?;
            }
            DispatchEvent::Finished { dispatch, .. } => {
                let told = self.dispatches.get_mut(dispatch).ok_or("K433: nobody asked")?;
                if std::mem::replace(&mut told.ended, true) {
                    return Err(format!("K433: {dispatch} ended twice"));
                }
                if let Some(lease) = told.live.take() {
                    self.free(&lease)?;
                }
            }
            DispatchEvent::Requeued { .. } => {}
            DispatchEvent::Removed { ids } => {
                for id in ids {
                    let told = self.dispatches.remove(id);
                    if !told.is_some_and(|told| told.ended) {
                        return Err(format!("K360: {id} was removed before its end"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn name(push: bool) -> &'static str {
    if push { "p" } else { "q" }
}

fn described(push: bool) -> ServiceInfo {
    match push {
        true => info("p", ServiceMode::Push, 3),
        false => {
            let remote = Limit::at_most(45_000);
            ServiceInfo { health_ttl_ms: remote, ..info("q", ServiceMode::Pull, 3) }
        }
    }
}

/// A history that is under way.
struct Run {
    rig: Rig,
    oracle: Oracle,
    sabotage: Sabotage,
}

impl Run {
    fn new(sabotage: Sabotage) -> Self {
        let mut rig = Rig::new();
        rig.ready(&user("alice"), submit("a"));
        rig.work(register(described(true)));
        rig.work(register(described(false)));
        let mut run = Self { rig, oracle: Oracle::default(), sabotage };
        let before = run.rig.events.clone();
        before.iter().for_each(|event| run.oracle.follow(event).unwrap());
        run
    }

    fn lease(&self, index: usize) -> LeaseId {
        let leases = &self.oracle.leases;
        match leases.is_empty() {
            true => LeaseId::parse("lease", "none").unwrap(),
            false => leases[index % leases.len()].0.clone(),
        }
    }

    /// The command of a step, and by whom.
    fn command(&self, step: &Step) -> Option<(crate::kernel::principal::Principal, CommandBody)> {
        let (w, alice) = (worker("w"), user("alice"));
        let id = |id: &u8| format!("d{id}");
        Some(match step {
            Step::Register(push) => (w, register(described(*push))),
            Step::Unregister(push) => {
                (w, CommandBody::UnregisterService { service: svc(name(*push)) })
            }
            Step::Health(push, status) => (w, health(name(*push), *status)),
            Step::Bind => (node(), bind("p")),
            Step::Unbind => (node(), CommandBody::UnbindHandler { service: svc("p") }),
            Step::Acquire(push) => (w, acquire(name(*push))),
            Step::Renew(index) => (w, renew(&self.lease(*index))),
            Step::Release(index) => (w, CommandBody::ReleaseSlot { lease: self.lease(*index) }),
            Step::Dispatch { id: number, push, retries, deadline, priority } => {
                let mut request = super::rig::retried(&id(number), name(*push), *retries);
                request.deadline_ms = *deadline;
                request.priority = *priority;
                request.try_timeout_ms = if *push { 20_000 } else { 50_000 };
                (w, dispatch(request))
            }
            Step::OfProcess { id: number, inference } => {
                let request =
                    ServiceRequest { pid: Some(pid("a")), ..queued(&id(number), name(false)) };
                match inference {
                    true => (alice, CommandBody::DispatchInference(Box::new(request))),
                    false => (alice, dispatch(request)),
                }
            }
            Step::Lease(max) => (w, CommandBody::LeaseTasks { service: svc("q"), max: *max }),
            Step::Complete { lease, success } => {
                let lease = self.asked(&self.lease(*lease));
                let by = match self.rig.kernel.state.slot(&lease) {
                    Some(slot) if slot.holder.is_none() => node(),
                    Some(_) | None => w,
                };
                match success {
                    true => (by, done(&lease, "x")),
                    false => (by, failed(&lease, ErrorKind::Tool)),
                }
            }
            Step::Cancel(number) => (w, CommandBody::CancelDispatch { dispatch: dsp(&id(number)) }),
            Step::EndProcess => {
                let (pid, message) = (pid("a"), String::new());
                (alice, CommandBody::Terminate { pid, message, force: true })
            }
            Step::Restart | Step::Pass(_) => return None,
        })
    }

    /// The lease under which a completion really comes: the sabotaged kernel takes an old one for
    /// the live one.
    fn asked(&self, lease: &LeaseId) -> LeaseId {
        let old = self.oracle.leases.iter().find(|(known, _)| known == lease);
        let dispatch = old.and_then(|(_, dispatch)| dispatch.as_ref());
        let live = dispatch.and_then(|id| self.oracle.dispatches.get(id)?.live.clone());
        match self.sabotage {
            Sabotage::AcceptTheOldLease => live.unwrap_or_else(|| lease.clone()),
            Sabotage::None | Sabotage::ReleaseTwice => lease.clone(),
        }
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        let before = self.rig.events.len();
        match (step, self.command(step)) {
            (Step::Pass(millis), _) => self.rig.pass(*millis),
            (Step::Restart, _) => self.rig.start_again(),
            (_, Some((by, body))) => {
                // Deadlines come first, so that what the command does is told apart.
                self.rig.pass(0);
                let ticked = self.rig.events.len();
                let stale = self.is_stale(step, before);
                let refused = self.rig.say(&by, body).is_err();
                let silent = self.rig.events.len() == ticked;
                if (stale || refused) && !silent {
                    return Err(format!("K433: {step:?} is stale and changes something"));
                }
                if let (Step::Release(index), true) = (step, refused) {
                    self.release_twice(*index)?;
                }
            }
            (_, None) => {}
        }
        for event in &self.rig.events[before..] {
            self.oracle.follow(event)?;
        }
        self.check()
    }

    /// Says whether a step completes a try that is not live, by what the events said until now.
    fn is_stale(&self, step: &Step, from: usize) -> bool {
        let Step::Complete { lease, .. } = step else {
            return false;
        };
        let lease = self.lease(*lease);
        let mut now = self.oracle.clone();
        let ticked = &self.rig.events[from..];
        ticked.iter().all(|event| now.follow(event).is_ok())
            && !now.dispatches.values().any(|told| told.live.as_ref() == Some(&lease))
    }

    fn release_twice(&mut self, index: usize) -> Result<(), String> {
        if self.sabotage != Sabotage::ReleaseTwice || self.oracle.leases.is_empty() {
            return Ok(());
        }
        let (lease, cause) = (self.lease(index), SlotCause::Released);
        let event = SlotEvent::Released { lease, service: svc("q"), cause };
        let body = Body::Slot { event };
        self.oracle.follow(&Event { time: self.rig.now, subject: Subject::default(), body })
    }

    /// K432: loads are live slots, and none outlives its lease.
    fn check(&self) -> Result<(), String> {
        let state = self.rig.kernel.state();
        let live: BTreeSet<&LeaseId> = state.slots.iter().map(|(lease, _)| lease).collect();
        if live != self.oracle.slots.keys().collect() {
            return Err("K432: the slots are not those that were given out".to_owned());
        }
        for (name, service) in &state.services {
            let load = state.desks.load(name) as usize;
            if load != self.oracle.load(name) || service.status != self.oracle.services[name].status
            {
                return Err(format!("K432: the load of {name} is {load}"));
            }
        }
        for (id, told) in &self.oracle.dispatches {
            let row = state.dispatch(id).ok_or("K433: it is gone")?;
            let lease = row.live().map(|live| &live.lease);
            let ended = row.end().is_some();
            if lease != told.live.as_ref() || ended != told.ended || row.tries != told.tries {
                return Err(format!("K433: {id} is {row:?}"));
            }
        }
        let (mut waiting, mut running) = (0, 0);
        for (_, row) in &state.dispatches {
            match row.stage {
                Stage::Waiting { .. } | Stage::Pausing { .. } => waiting += 1,
                Stage::Running { .. } => running += 1,
                Stage::Ended { .. } => {}
            }
        }
        let counts = state.desks.dispatches();
        match (counts.waiting, counts.running) == (waiting, running) {
            true => Ok(()),
            false => Err(format!("K213: {counts:?}")),
        }
    }

    /// K432: at the end of a deadline's Tick no slot is past its lease.
    fn check_time(&mut self) -> Result<(), String> {
        let before = self.rig.events.len();
        self.rig.pass(0);
        for event in &self.rig.events[before..] {
            self.oracle.follow(event)?;
        }
        let now = self.rig.kernel.state.counters.last.max(self.rig.now);
        let late = self.oracle.slots.values().any(|(_, until)| until.is_some_and(|at| at <= now));
        match late {
            true => Err("K432: a slot outlives its lease".to_owned()),
            false => Ok(()),
        }
    }
}

fn run(steps: &[Step], sabotage: Sabotage) -> Result<Oracle, String> {
    let mut run = Run::new(sabotage);
    for step in steps {
        run.take(step)?;
        run.check_time()?;
    }
    Ok(run.oracle)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Slots are as many as were given out, tries end once, and what is stale changes nothing.
    #[test]
    fn slots_and_tries_end_once(steps in prop::collection::vec(step(), 0..60)) {
        run(&steps, Sabotage::None).map_err(TestCaseError::fail)?;
    }
}

fn pull(id: u8) -> Step {
    let priority = Priority::Normal;
    Step::Dispatch { id, push: false, retries: 0, deadline: None, priority }
}

/// The check bites: a second release of a slot is noticed.
#[test]
fn a_slot_that_is_released_twice_is_noticed() {
    let steps = [Step::Acquire(false), Step::Release(0), Step::Release(0)];
    assert!(run(&steps, Sabotage::None).is_ok());
    let noticed = run(&steps, Sabotage::ReleaseTwice).unwrap_err();
    assert!(noticed.starts_with("K432"), "{noticed}");
}

/// The check bites: a completion under the lease of a lost try is noticed.
#[test]
fn an_old_lease_that_is_accepted_is_noticed() {
    let lost = [pull(0), Step::Lease(1), Step::Pass(30_000), Step::Lease(1)];
    let steps: Vec<Step> =
        lost.into_iter().chain([Step::Complete { lease: 0, success: true }]).collect();
    assert!(run(&steps, Sabotage::None).is_ok());
    let noticed = run(&steps, Sabotage::AcceptTheOldLease).unwrap_err();
    assert!(noticed.starts_with("K433"), "{noticed}");
}

/// The check bites: a refusal that counts something before it checks is noticed (K434).
#[test]
#[should_panic(expected = "events are all that changes the state")]
fn a_refusal_that_counts_is_noticed() {
    let rig = Rig::served(1);
    let mut counted = rig.kernel.state.clone();
    counted.counters.events += 1;
    assert_same(&counted, rig.kernel.state());
}

/// The random histories do reach what the properties are about.
#[test]
fn a_long_history_reaches_every_outcome() {
    let mut rig = Rig::served(1);
    let events = rig.work(dispatch(queued("d", "q")));
    assert_eq!(events.iter().filter_map(granted).count(), 0, "a pull try waits for a worker");
    let steps = [
        pull(0),
        pull(1),
        Step::Lease(2),
        Step::Complete { lease: 0, success: true },
        Step::Complete { lease: 1, success: false },
        pull(2),
        Step::Cancel(2),
        Step::Restart,
    ];
    let oracle = run(&steps, Sabotage::None).unwrap();
    assert!(oracle.dispatches.values().all(|told| told.ended));
}
