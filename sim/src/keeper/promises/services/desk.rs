//! Slots (K432) and tries (K433), added up from the events by somebody else.

use std::collections::{BTreeMap, BTreeSet};

use machines::keeper::io::Decided;
use machines::kernel::config::KernelConfig;
use machines::kernel::dispatch::Completion;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::event::{Body, Event, KernelEvent};
use machines::kernel::ids::{DispatchId, LeaseId, ServiceName};
use machines::kernel::services::ServiceStatus;
use machines::kernel::services::event::{ServiceEvent, SlotEvent};
use machines::kernel::{Code, CommandBody, Kernel, Time};

use super::{is_caught_up, seen_by};
use crate::keeper::book::Follow;
use crate::keeper::kernel::Clerk;
use crate::keeper::{Seen, Watch, World};

/// A service.
#[derive(Clone, Copy, Debug)]
struct Desk {
    most: u32,
    status: ServiceStatus,
}

impl Desk {
    /// K194.
    const fn capacity(self) -> u32 {
        match self.status {
            ServiceStatus::Healthy => self.most,
            ServiceStatus::Degraded => self.most.div_ceil(2),
            ServiceStatus::Unhealthy | ServiceStatus::Unknown => 0,
        }
    }
}

/// A slot that is live.
#[derive(Clone, Debug)]
struct Held {
    service: ServiceName,
    until: Time,
    length: u64,
    /// When the try of which it is must have ended.
    deadline: Option<Time>,
    /// Nobody holds it: it is of a handler that the node calls.
    is_called: bool,
}

/// A dispatch that is known.
#[derive(Clone, Debug)]
struct Tried {
    service: ServiceName,
    live: Option<LeaseId>,
    /// The lease of the try that ended last.
    before: Option<LeaseId>,
    tries: u64,
    most: u64,
    over: bool,
}

/// What the events say.
#[derive(Clone, Debug, Default)]
struct Books {
    config: Option<Box<KernelConfig>>,
    services: BTreeMap<ServiceName, Desk>,
    slots: BTreeMap<LeaseId, Held>,
    dispatches: BTreeMap<DispatchId, Tried>,
    /// Leases of tries that ended with a completion.
    completed: BTreeSet<LeaseId>,
    events: u64,
    /// What was wrong, by property.
    wrong: Vec<(&'static str, String)>,
}

impl Books {
    fn blame(&mut self, property: &'static str, what: String) {
        self.wrong.push((property, what));
    }

    fn load(&self, name: &ServiceName) -> usize {
        self.slots.values().filter(|slot| slot.service == *name).count()
    }

    /// Gives out a slot: its service has room for it (K432).
    fn grant(&mut self, lease: &LeaseId, slot: Held) {
        let name = slot.service.clone();
        if self.slots.insert(lease.clone(), slot).is_some() {
            self.blame("K432", format!("{lease} was given out twice"));
        }
        let (load, room) = (self.load(&name), self.services.get(&name).map(|it| it.capacity()));
        if room.is_none_or(|room| load > room as usize) {
            self.blame("K432", format!("{name} has {load} live slots, and room for {room:?}"));
        }
    }

    fn free(&mut self, lease: &LeaseId) {
        if self.slots.remove(lease).is_none() {
            self.blame("K432", format!("{lease} is released, and was not live"));
        }
    }

    fn extend(&mut self, lease: &LeaseId, until: Time) {
        match self.slots.get_mut(lease) {
            Some(slot) => slot.until = until,
            None => self.blame("K432", format!("{lease} is renewed, and was not live")),
        }
    }

    /// Adds an event. Returns which properties it could have broken.
    fn add(&mut self, event: &Event) -> Option<&'static str> {
        self.events += 1;
        match &event.body {
            Body::Kernel { event: KernelEvent::Started { config, .. } } => {
                self.config = Some(config.clone());
                for slot in self.slots.values_mut() {
                    slot.until = slot.until.max(event.time.plus(slot.length)); // K11.
                    if slot.is_called {
                        slot.deadline = slot.deadline.map(|at| at.max(slot.until));
                    }
                }
                None
            }
            Body::Service { event } => {
                self.add_service(event);
                None
            }
            Body::Slot { event: body } => {
                self.add_slot(body);
                Some("K432")
            }
            Body::Dispatch { event: body } => {
                self.add_dispatch(event.time, body);
                Some("K433")
            }
            Body::Kernel { .. }
            | Body::Process { .. }
            | Body::Quota { .. }
            | Body::Rate { .. }
            | Body::Envelope { .. }
            | Body::Interrupt { .. }
            | Body::Approval { .. }
            | Body::Session { .. } => None,
        }
    }

    fn add_service(&mut self, event: &ServiceEvent) {
        match event {
            ServiceEvent::Registered { info, .. } => {
                let desk = Desk { most: info.max_concurrent, status: info.status };
                self.services.insert(info.name.clone(), desk);
            }
            ServiceEvent::Unregistered { service } => {
                self.services.remove(service);
                if self.load(service) > 0 {
                    self.blame("K432", format!("{service} is gone, and has live slots (K190)"));
                }
            }
            ServiceEvent::HealthChanged { service, to, .. } => {
                if let Some(desk) = self.services.get_mut(service) {
                    desk.status = *to;
                }
            }
            ServiceEvent::HandlerBound { .. } | ServiceEvent::HandlerUnbound { .. } => {}
        }
    }

    fn add_slot(&mut self, event: &SlotEvent) {
        match event {
            SlotEvent::Acquired { service, lease, until, length, .. } => {
                let (service, until, length) = (service.clone(), *until, *length);
                let slot = Held { service, until, length, deadline: None, is_called: false };
                self.grant(lease, slot);
            }
            SlotEvent::Renewed { lease, until } => self.extend(lease, *until),
            SlotEvent::Released { lease, .. } => self.free(lease),
        }
    }

    fn add_dispatch(&mut self, now: Time, event: &DispatchEvent) {
        match event {
            DispatchEvent::Queued { dispatch, request, service, .. } => {
                let lost = self.config.as_ref().map_or(0, |config| config.max_lost);
                let most = 1 + u64::from(request.retry.max_retries) + lost;
                let (service, live, before) = (service.clone(), None, None);
                let tried = Tried { service, live, before, tries: 0, most, over: false };
                if self.dispatches.insert(dispatch.clone(), tried).is_some() {
                    self.blame("K433", format!("{dispatch} was made twice"));
                }
            }
            DispatchEvent::Started { .. } => self.start(now, event),
            DispatchEvent::Renewed { lease, until, .. } => self.extend(lease, *until),
            DispatchEvent::RetryScheduled { dispatch, completed, .. } => {
                if !self.end_try(dispatch, completed.is_some()) {
                    self.blame("K433", format!("a try of {dispatch} ended that was not live"));
                }
            }
            DispatchEvent::Finished { dispatch, completed, .. } => {
                self.end_try(dispatch, completed.is_some());
                let over = self.dispatches.get_mut(dispatch).map(|tried| &mut tried.over);
                if over.is_none_or(|over| std::mem::replace(over, true)) {
                    self.blame("K433", format!("{dispatch} ended twice, or never began"));
                }
            }
            DispatchEvent::Requeued { .. } => {}
            DispatchEvent::Removed { ids } => {
                for id in ids {
                    let gone = self.dispatches.remove(id);
                    if gone.is_none_or(|tried| !tried.over || tried.live.is_some()) {
                        self.blame("K433", format!("{id} was removed before its end"));
                    }
                }
            }
        }
    }

    fn start(&mut self, now: Time, event: &DispatchEvent) {
        let DispatchEvent::Started { dispatch, tries, lease, holder, deadline, until } = event
        else {
            return;
        };
        let Some(tried) = self.dispatches.get_mut(dispatch) else {
            return self.blame("K433", format!("a try of {dispatch}, which nobody asked for"));
        };
        let sound = tried.live.is_none() && !tried.over && tried.tries < tried.most;
        tried.tries += 1;
        let counted = tried.tries == u64::from(*tries);
        tried.live = Some(lease.clone());
        let service = tried.service.clone();
        if !sound || !counted {
            let told = format!("{dispatch} starts try {tries} as {tried:?}");
            self.blame("K433", told);
        }
        let (until, length, deadline) = (*until, until.since(now), Some(*deadline));
        self.grant(lease, Held { service, until, length, deadline, is_called: holder.is_none() });
    }

    /// Ends the live try, and returns whether there was one.
    fn end_try(&mut self, dispatch: &DispatchId, completed: bool) -> bool {
        let Some(tried) = self.dispatches.get_mut(dispatch) else {
            return false;
        };
        let Some(lease) = tried.live.take() else {
            return false;
        };
        tried.before = Some(lease.clone());
        self.free(&lease);
        if completed {
            self.completed.insert(lease);
        }
        true
    }

    /// K432: the load is the number of live slots, and none has outlived its lease.
    fn compare(&self, kernel: &Kernel, now: Time) -> Result<(), String> {
        for name in self.services.keys() {
            let (sum, view) = (self.load(name), kernel.state().service(name));
            let said = view.map(|view| view.current_load as usize);
            if said != Some(sum) {
                return Err(format!("{name} has {sum} live slots, and says {said:?}"));
            }
        }
        for (lease, slot) in &self.slots {
            if kernel.state().slot(lease).is_none() {
                return Err(format!("{lease} should be live, and is not"));
            }
            let end = slot.deadline.map_or(slot.until, |deadline| deadline.min(slot.until));
            if end <= now {
                return Err(format!("it is {now:?}, and {lease} is live: {slot:?}"));
            }
        }
        Ok(())
    }

    /// K433: a completion that was taken ended the try that had its lease, or had ended it before.
    fn check_completion(&self, task: &Completion, done: &Decided) -> Result<(), String> {
        let ended = done.events.iter().find_map(|event| match &event.body {
            Body::Dispatch {
                event:
                    DispatchEvent::RetryScheduled { dispatch, completed: Some(_), .. }
                    | DispatchEvent::Finished { dispatch, completed: Some(_), .. },
            } => Some(dispatch),
            _ => None,
        });
        let lease = &task.lease;
        let own = match ended {
            // Another try may have been started by the same decision: the one before it is meant.
            Some(dispatch) => {
                let known = self.dispatches.get(dispatch);
                known.is_none_or(|tried| tried.before.as_ref() == Some(lease))
            }
            None => self.completed.contains(lease),
        };
        match own {
            true => Ok(()),
            false => Err(format!("a completion under {lease} was taken, and ended {ended:?}")),
        }
    }
}

/// A watch of one of the two.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    property: &'static str,
    follow: Follow,
    books: Books,
}

impl Watched {
    /// K432: load = live slots; at each grant load ≤ effective capacity; no slot outlives its lease
    /// by more than one Tick.
    pub(super) fn slots() -> Self {
        Self { property: "K432", follow: Follow::default(), books: Books::default() }
    }

    /// K433: one live try, one outcome, tries ≤ 1 + `max_retries` + `max_lost`; a stale completion
    /// changes nothing.
    pub(super) fn tries() -> Self {
        Self { property: "K433", ..Self::slots() }
    }

    fn blame(&mut self) -> Result<(), String> {
        let mut wrong = std::mem::take(&mut self.books.wrong).into_iter();
        match wrong.find(|(property, _)| *property == self.property) {
            Some((_, what)) => Err(what),
            None => Ok(()),
        }
    }

    fn see_reply(&self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let Seen::Replied { request, reply, .. } = seen else {
            return Ok(false);
        };
        let books = &self.books;
        if self.property == "K432" {
            let kernel = world.guest().and_then(Clerk::kernel);
            let Some(kernel) = kernel.filter(|_| is_caught_up(world, books.events)) else {
                return Ok(false);
            };
            books.compare(kernel, Time::from_millis(world.wall_ms()))?;
            return Ok(!books.slots.is_empty());
        }
        let CommandBody::CompleteTask(task) = &request.body else {
            return Ok(false);
        };
        if let Some((_, done)) = seen_by(seen, books.events) {
            books.check_completion(task, done)?;
            return Ok(true);
        }
        match reply {
            Err(refusal) if refusal.code == Code::StaleLease => {
                match books.slots.contains_key(&task.lease) {
                    true => Err(format!("{} is live, and was refused as stale", task.lease)),
                    false => Ok(true),
                }
            }
            Ok(_) | Err(_) => Ok(false),
        }
    }
}

impl Watch<Clerk> for Watched {
    fn property(&self) -> &'static str {
        self.property
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let mut looked = false;
        for events in self.follow.see(seen) {
            for event in events.iter() {
                looked |= self.books.add(event) == Some(self.property);
                self.blame()?;
            }
        }
        Ok(looked | self.see_reply(world, seen)?)
    }
}
