//! The node and its processes in numbers, all of them kept and none found by looking (K350).

use super::Inquiry;
use super::budget::Remaining;
use super::envelope::EnvelopeView;
use super::view::ProcessControlBlock;
use crate::kernel::Kernel;
use crate::kernel::ids::{ProcessId, ServiceType, UserId};
use crate::kernel::interrupts::fold::InterruptCounts;
use crate::kernel::interrupts::interrupt::Interrupt;
use crate::kernel::names::{Priority, ProcessState};
use crate::kernel::process::Process;
use crate::kernel::quota::Amounts;
use crate::kernel::services::ServiceStatus;
use crate::kernel::services::desk::{DispatchCounts, ServiceStats};
use crate::kernel::sessions::view::SessionState;
use crate::kernel::state::{State, Tally};
use crate::kernel::time::{Millis, Time};
use crate::ledger::root::StateRoot;

/// Users that a status names for their many requests (2.5).
const BUSIEST_MAX: usize = 100;

/// How many processes there are (K86).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessCounts {
    /// In each state.
    pub by_state: Tally,
    /// In all states.
    pub total: u64,
    /// How many wait to be run.
    pub queue_depth: u64,
}

/// Sums over all time, which never decrease (2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SystemUsage {
    /// Processes ever made.
    pub processes_total: u64,
    /// Processes that have not ended.
    pub processes_active: u64,
    /// What all of them used.
    pub used: Amounts,
}

/// The answer to `GetSystemStatus` (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SystemStatus {
    /// When the node was started.
    pub started_at: Time,
    /// How long ago that was.
    pub uptime_ms: Millis,
    /// Counts starts (K11).
    pub epoch: u64,
    /// Whether it takes nothing new (K362).
    pub draining: bool,
    /// Its processes.
    pub processes: ProcessCounts,
    /// How many of them have each priority, in order.
    pub by_priority: [u64; 5],
    /// What they used.
    pub resources: SystemUsage,
    /// Its services, all together (K213).
    pub services: ServiceStats,
    /// How many services there are of each type.
    pub services_by_type: Vec<(ServiceType, u64)>,
    /// How many services are in each status, in order.
    pub services_by_status: [u64; 4],
    /// Dispatches that have not ended.
    pub dispatches: DispatchCounts,
    /// What became of interrupts (K174).
    pub interrupts: InterruptCounts,
    /// Keys of rates.
    pub rate_keys: u64,
    /// The users with the most hits within a minute, busiest first.
    pub busiest: Vec<(UserId, u64)>,
    /// Sessions that have not ended.
    pub sessions_active: u64,
    /// Those of them whose stages run side by side.
    pub sessions_in_group: u64,
    /// Open reservations.
    pub reservations: u64,
    /// The number of the last event.
    pub last_event: u64,
    /// The root after it (L50).
    pub state_root: StateRoot,
}

/// The answer to `GetRequestStatus` (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestStatus {
    /// The process.
    pub process: ProcessControlBlock,
    /// The envelope of its session.
    pub envelope: Option<EnvelopeView>,
    /// Its session.
    pub session: Option<SessionState>,
    /// The oldest question that it waits for.
    pub pending_interrupt: Option<Box<Interrupt>>,
    /// What is left of its budget.
    pub remaining: Remaining,
}

impl Tally {
    /// Counts all states.
    #[must_use]
    pub fn total(&self) -> u64 {
        ProcessState::ALL.iter().map(|state| self.of(*state)).sum()
    }

    /// Counts the processes that have not ended.
    #[must_use]
    pub fn live(&self) -> u64 {
        let live = ProcessState::ALL.iter().filter(|state| !state.is_terminal());
        live.map(|state| self.of(*state)).sum()
    }
}

impl Inquiry<'_> {
    /// Counts the processes that the principal may see as their owner, or all (K86).
    pub(super) fn process_counts(self) -> ProcessCounts {
        if self.by.sees_all() {
            return ProcessCounts::of(self.state);
        }
        let user = &self.by.user;
        let by_state = self.state.process_index.tally_of(user);
        let queue_depth = self.state.ready.iter().map(|ready| ready.waiting_of(user)).sum();
        ProcessCounts { by_state, total: by_state.total(), queue_depth }
    }
}

impl ProcessCounts {
    fn of(state: &State) -> Self {
        let queue_depth = state.ready.iter().map(|ready| ready.len() as u64).sum();
        Self { by_state: state.tally, total: u64::from(state.processes.len()), queue_depth }
    }
}

impl SystemUsage {
    pub(super) fn of(state: &State) -> Self {
        Self {
            processes_total: state.counters.processes,
            processes_active: state.tally.live(),
            used: state.counters.used,
        }
    }
}

impl SystemStatus {
    pub(super) fn of(kernel: &Kernel, now: Time) -> Self {
        let state = kernel.state();
        let counters = &state.counters;
        let mut by_priority = [0; 5];
        for (place, priority) in by_priority.iter_mut().zip(Priority::ALL) {
            *place = state.process_index.of_priority(*priority);
        }
        let mut services_by_status = [0; 4];
        for (place, status) in services_by_status.iter_mut().zip(ServiceStatus::ALL) {
            *place = state.desks.by_status(*status);
        }
        Self {
            started_at: counters.started_at,
            uptime_ms: now.since(counters.started_at),
            epoch: counters.epoch,
            draining: counters.draining.is_some(),
            processes: ProcessCounts::of(state),
            by_priority,
            resources: SystemUsage::of(state),
            services: state.desks.stats(),
            services_by_type: state
                .desks
                .by_type()
                .map(|(of, count)| (of.clone(), count))
                .collect(),
            services_by_status,
            dispatches: state.desks.dispatches(),
            interrupts: counters.interrupts,
            rate_keys: u64::from(state.rates.keys().len()),
            busiest: state.rates.busiest(now, BUSIEST_MAX),
            sessions_active: state.session_tally.active,
            sessions_in_group: state.session_tally.in_group,
            reservations: state.process_index.reservations(),
            last_event: counters.events,
            state_root: kernel.current_root(),
        }
    }
}

impl RequestStatus {
    pub(super) fn of(state: &State, (pid, process): (&ProcessId, &Process), now: Time) -> Self {
        let envelope = state.envelope_of(pid).and_then(|id| Some((id, state.envelope(id)?)));
        Self {
            process: ProcessControlBlock::of(pid, process, now),
            envelope: envelope.map(|(id, envelope)| EnvelopeView::of(state, id, envelope)),
            session: state.session_state(pid),
            pending_interrupt: state.oldest_pending(process),
            remaining: state.remaining(pid, now),
        }
    }
}
