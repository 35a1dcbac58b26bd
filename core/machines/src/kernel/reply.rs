//! Replies: what a command is answered, from its events and the state after them (K1, K5, K6).
//!
//! A repeat of a command that took effect before has no events; its reply is the same, as the state
//! has it (K6). What the kernel made up itself, such as an id, is in the events of the first time,
//! and in the command of a repeat: without an id of the caller's there is no repeat.

#[cfg(test)]
mod tests;

use super::budget::Record;
use super::dispatch::event::DispatchEvent;
use super::dispatch::{ServiceResponse, Task};
use super::envelopes::EnvelopeEvent;
use super::envelopes::command::NewEnvelope;
use super::event::{Body, Event, ProcessEvent, QuotaEvent};
use super::housekeeping::Cleaned;
use super::ids::{
    DispatchId, Endpoint, EnvelopeId, InterruptId, LeaseId, ProcessId, ReservationId, ServiceName,
    UserId,
};
use super::interrupts::approval::Approval;
use super::interrupts::event::InterruptEvent;
use super::interrupts::interrupt::Interrupt;
use super::query::budget::{Remaining, ResourceUse};
use super::query::envelope::EnvelopeView;
use super::query::services::ShownService;
use super::query::view::ProcessControlBlock;
use super::rates::{RateEvent, RateResult, was_recorded};
use super::services::event::SlotEvent;
use super::sessions::instruction::Instruction;
use super::sessions::view::SessionState;
use super::state::State;
use super::time::Time;
use super::{Command, CommandBody, Kernel};

/// What a command is answered, and how much of what happened the answer knows (K5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The number of the last event that it saw. It is told when that one is durable.
    pub as_of: u64,
    /// What is told.
    pub done: Done,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// All there is to say is that it was.
    Nothing,
    /// The process as it is now.
    Process(Box<ProcessControlBlock>),
    /// A part of the budget is kept.
    Reserved {
        /// Its id.
        reservation: ReservationId,
        /// Until when; absent if it is closed already.
        until: Option<Time>,
        /// What is left beside it.
        remaining: Remaining,
    },
    /// A reservation is closed.
    Closed {
        /// What the process used.
        usage: ResourceUse,
        /// What is left.
        remaining: Remaining,
    },
    /// Use was taken down (K109).
    Recorded {
        /// What the process used.
        usage: ResourceUse,
        /// Whether nothing is used beyond its limit.
        within_bounds: bool,
        /// What is.
        exceeded: Vec<String>,
    },
    /// The envelope as it is now.
    Envelope {
        /// The envelope.
        envelope: Box<EnvelopeView>,
        /// Whether a next goal stage began (K33).
        advanced: bool,
    },
    /// The session as it is now.
    Session(Box<SessionState>),
    /// What to do now.
    Instruction(Box<Instruction>),
    /// The interrupt as it is now.
    Interrupt(Box<Interrupt>),
    /// The approval as it is now.
    Approval(Box<Approval>),
    /// Whether a hit was allowed (K135).
    Rate(Box<RateResult>),
    /// The service as it is now.
    Service(Box<ShownService>),
    /// A lease was given, or extended.
    Leased {
        /// Which.
        lease: LeaseId,
        /// Until when.
        until: Time,
    },
    /// A dispatch is under way, or has ended.
    Dispatched {
        /// Which.
        dispatch: DispatchId,
        /// How it ended, once it has.
        response: Option<Box<ServiceResponse>>,
    },
    /// Work was handed out (K205).
    Tasks(Vec<Task>),
    /// What was kept no longer is gone (K361).
    Cleaned {
        /// How many of each.
        cleaned: Cleaned,
        /// Whether there is more.
        more: bool,
    },
    /// So many were removed.
    Removed {
        /// How many.
        count: u64,
    },
}

impl Kernel {
    /// Answers a command that was decided with `events` when the wall clock showed `wall`, all of
    /// them applied and nothing after.
    #[must_use]
    pub fn reply(&self, wall: Time, command: &Command, events: &[Event]) -> Reply {
        let done = self.state.done(self.now(wall), command, events);
        Reply { as_of: self.state.counters.events, done }
    }
}

impl State {
    fn done(&self, now: Time, command: &Command, events: &[Event]) -> Done {
        match &command.body {
            CommandBody::Start { .. }
            | CommandBody::Tick
            | CommandBody::CleanupProcess { .. }
            | CommandBody::SetRateLimit { .. }
            | CommandBody::UnregisterService { .. }
            | CommandBody::BindHandler { .. }
            | CommandBody::UnbindHandler { .. }
            | CommandBody::ReleaseSlot { .. }
            | CommandBody::CompleteTask(_)
            | CommandBody::Drain { .. }
            | CommandBody::Shutdown { .. }
            | CommandBody::Stop { .. } => Done::Nothing,
            CommandBody::Cleanup => {
                let more = self.is_cleanup_due(self.shown_at());
                Done::Cleaned { cleaned: Cleaned::of(events), more }
            }
            CommandBody::Submit(submit) => self.shown(created(events).or(submit.pid.as_ref())),
            CommandBody::ExecutePipeline(asked) => {
                self.shown(created(events).or(asked.submit.pid.as_ref()))
            }
            CommandBody::NextRunnable => self.shown(claimed(events)),
            CommandBody::Schedule { pid }
            | CommandBody::TransitionState { pid, .. }
            | CommandBody::Terminate { pid, .. }
            | CommandBody::AdjustQuota { pid, .. } => self.shown(Some(pid)),
            CommandBody::Reserve(reserve) => {
                let reservation = reserved(events).or(reserve.reservation.as_ref());
                self.reserved(&reserve.pid, reservation)
            }
            CommandBody::Settle { pid, .. } | CommandBody::Release { pid, .. } => self.closed(pid),
            CommandBody::RecordUsage(record) => self.recorded(record),
            CommandBody::CreateEnvelope(new) => self.made(new, events),
            CommandBody::UpdateEnvelope { id, .. } => self.enveloped(Some(id), advanced(events)),
            CommandBody::CloneEnvelope { .. } => self.enveloped(cloned(events), false),
            CommandBody::InitializeSession(asked) => {
                let session = self.session_state(&asked.pid).map(Box::new);
                session.map_or(Done::Nothing, Done::Session)
            }
            CommandBody::NextInstruction { pid } => self.instructed(now, pid),
            CommandBody::ReportAgentResult(report) => self.instructed(now, &report.pid),
            CommandBody::CreateInterrupt { pid, interrupt } => {
                let known = || self.asked.keyed(pid, interrupt.key.as_ref()?);
                self.asked(raised(events).or_else(known))
            }
            CommandBody::ResolveInterrupt { id, .. } | CommandBody::CancelInterrupt { id, .. } => {
                self.asked(Some(id))
            }
            CommandBody::ConsumeApproval(wanted) => {
                let approval = self.approval(&wanted.interrupt).cloned();
                approval.map_or(Done::Nothing, |approval| Done::Approval(Box::new(approval)))
            }
            CommandBody::CheckRateLimit { user, endpoint, .. } => {
                let key = |user: &UserId, endpoint: &Endpoint| self.rate_of_user(user, endpoint).0;
                let carried = command.rate.as_ref().map(|rate| key(&command.by.user, rate));
                let hit = was_recorded(events, &key(user, endpoint), carried.as_ref());
                let result = self.rate_reply(now, (user, endpoint), hit);
                Done::Rate(Box::new(result))
            }
            CommandBody::RegisterService(info) => self.serving(&info.name),
            CommandBody::UpdateHealth { service, .. } => self.serving(service),
            CommandBody::AcquireSlot { .. } => self.leased(acquired(events), None),
            CommandBody::RenewLease { lease, pid, .. } => self.leased(Some(lease), pid.as_ref()),
            CommandBody::Dispatch(request) | CommandBody::DispatchInference(request) => {
                self.dispatched(queued(events).or(request.dispatch.as_ref()))
            }
            CommandBody::CancelDispatch { dispatch } => self.dispatched(Some(dispatch)),
            CommandBody::LeaseTasks { .. } => self.handed_out(events),
            CommandBody::ResetRateLimits { .. } => Done::Removed { count: reset(events) },
        }
    }

    fn instructed(&self, now: Time, pid: &ProcessId) -> Done {
        let instruction = self.instruction(now, pid).map(Box::new);
        instruction.map_or(Done::Nothing, Done::Instruction)
    }

    fn asked(&self, id: Option<&InterruptId>) -> Done {
        let interrupt = id.and_then(|id| self.interrupt(id)).cloned();
        interrupt.map_or(Done::Nothing, |interrupt| Done::Interrupt(Box::new(interrupt)))
    }

    fn serving(&self, name: &ServiceName) -> Done {
        let shown = self.shown_service(name);
        shown.map_or(Done::Nothing, |service| Done::Service(Box::new(service)))
    }

    /// Shows until when a lease lasts: a slot's, a run's, or a reservation's, by its id.
    fn leased(&self, lease: Option<&LeaseId>, pid: Option<&ProcessId>) -> Done {
        let until = |lease: &LeaseId| {
            let run = self.leases.run(lease).and_then(|pid| self.process(pid)?.run_lease.as_ref());
            let slot = self.slot(lease).map(|slot| slot.until);
            slot.or(run.map(|run| run.until)).or_else(|| self.reserved_until(lease, pid))
        };
        let found = lease.and_then(|lease| Some((lease.clone(), until(lease)?)));
        found.map_or(Done::Nothing, |(lease, until)| Done::Leased { lease, until })
    }

    fn reserved_until(&self, lease: &LeaseId, pid: Option<&ProcessId>) -> Option<Time> {
        let id = ReservationId::parse("lease", lease.as_str()).ok()?;
        let pid = pid.or_else(|| self.leases.reserved_by(&id).next())?;
        self.process(pid)?.reservations.get(&id).map(|open| open.until)
    }

    fn dispatched(&self, id: Option<&DispatchId>) -> Done {
        id.map_or(Done::Nothing, |id| Done::Dispatched {
            dispatch: id.clone(),
            response: self.response(id).map(Box::new),
        })
    }

    fn handed_out(&self, events: &[Event]) -> Done {
        let lease = |event: &Event| {
            if let Body::Dispatch { event: DispatchEvent::Started { lease, .. } } = &event.body {
                return self.task(lease);
            }
            None
        };
        Done::Tasks(events.iter().filter_map(lease).collect())
    }

    /// The time up to which running stretches are counted: that of the last event (K7).
    const fn shown_at(&self) -> Time {
        self.counters.last
    }

    fn shown(&self, pid: Option<&ProcessId>) -> Done {
        let found = pid.and_then(|pid| Some((pid, self.process(pid)?)));
        found.map_or(Done::Nothing, |(pid, process)| {
            Done::Process(Box::new(ProcessControlBlock::of(pid, process, self.shown_at())))
        })
    }

    fn reserved(&self, pid: &ProcessId, reservation: Option<&ReservationId>) -> Done {
        let (Some(process), Some(reservation)) = (self.process(pid), reservation) else {
            return Done::Nothing;
        };
        let until = process.reservations.get(reservation).map(|open| open.until);
        let remaining = self.remaining(pid, self.shown_at());
        Done::Reserved { reservation: reservation.clone(), until, remaining }
    }

    fn closed(&self, pid: &ProcessId) -> Done {
        self.process(pid).map_or(Done::Nothing, |process| Done::Closed {
            usage: ResourceUse::of(process, self.shown_at()),
            remaining: self.remaining(pid, self.shown_at()),
        })
    }

    fn recorded(&self, record: &Record) -> Done {
        self.process(&record.pid).map_or(Done::Nothing, |process| {
            let exceeded = self.exceeded(&record.pid, self.shown_at());
            let usage = ResourceUse::of(process, self.shown_at());
            Done::Recorded { usage, within_bounds: exceeded.is_empty(), exceeded }
        })
    }

    fn made(&self, new: &NewEnvelope, events: &[Event]) -> Done {
        let made = events.iter().find_map(|event| match envelope_event(event)? {
            EnvelopeEvent::Created { id, .. } => Some(id),
            EnvelopeEvent::Updated { .. }
            | EnvelopeEvent::Cloned { .. }
            | EnvelopeEvent::Removed { .. } => None,
        });
        self.enveloped(made.or(new.id.as_ref()), false)
    }

    fn enveloped(&self, id: Option<&EnvelopeId>, advanced: bool) -> Done {
        let found = id.and_then(|id| Some((id, self.envelope(id)?)));
        found.map_or(Done::Nothing, |(id, envelope)| Done::Envelope {
            envelope: Box::new(EnvelopeView::of(self, id, envelope)),
            advanced,
        })
    }
}

/// Finds the slot that was acquired.
fn acquired(events: &[Event]) -> Option<&LeaseId> {
    events.iter().find_map(|event| {
        if let Body::Slot { event: SlotEvent::Acquired { lease, .. } } = &event.body {
            return Some(lease);
        }
        None
    })
}

/// Finds the dispatch that was made.
fn queued(events: &[Event]) -> Option<&DispatchId> {
    events.iter().find_map(|event| {
        if let Body::Dispatch { event: DispatchEvent::Queued { dispatch, .. } } = &event.body {
            return Some(dispatch);
        }
        None
    })
}

/// Finds the interrupt that was raised.
fn raised(events: &[Event]) -> Option<&InterruptId> {
    events.iter().find_map(|event| {
        if let Body::Interrupt { event: InterruptEvent::Raised { interrupt } } = &event.body {
            return Some(&interrupt.id);
        }
        None
    })
}

/// Counts the counters of rates that were dropped (K138).
fn reset(events: &[Event]) -> u64 {
    let count = |event: &Event| {
        if let Body::Rate { event: RateEvent::Reset { removed, .. } } = &event.body {
            return *removed;
        }
        0
    };
    events.iter().map(count).sum()
}

/// Finds the process that was made.
fn created(events: &[Event]) -> Option<&ProcessId> {
    let made = events
        .iter()
        .find(|event| matches!(&event.body, Body::Process { event: ProcessEvent::Created { .. } }));
    made.and_then(|event| event.subject.pid.as_ref())
}

/// Finds the process that was claimed.
fn claimed(events: &[Event]) -> Option<&ProcessId> {
    let claimed = events.iter().find(|event| {
        matches!(&event.body, Body::Process { event: ProcessEvent::StateChanged { .. } })
    });
    claimed.and_then(|event| event.subject.pid.as_ref())
}

/// Finds the reservation that was made.
fn reserved(events: &[Event]) -> Option<&ReservationId> {
    events.iter().find_map(|event| {
        if let Body::Quota { event: QuotaEvent::Reserved { reservation, .. } } = &event.body {
            return Some(reservation);
        }
        None
    })
}

/// Finds the copy that was made.
fn cloned(events: &[Event]) -> Option<&EnvelopeId> {
    events.iter().find_map(|event| match envelope_event(event)? {
        EnvelopeEvent::Cloned { id, .. } => Some(id),
        EnvelopeEvent::Created { .. }
        | EnvelopeEvent::Updated { .. }
        | EnvelopeEvent::Removed { .. } => None,
    })
}

/// Says whether a next goal stage began (K33).
fn advanced(events: &[Event]) -> bool {
    events.iter().any(|event| {
        matches!(envelope_event(event), Some(EnvelopeEvent::Updated { advanced: true, .. }))
    })
}

const fn envelope_event(event: &Event) -> Option<&EnvelopeEvent> {
    if let Body::Envelope { event } = &event.body { Some(event) } else { None }
}
