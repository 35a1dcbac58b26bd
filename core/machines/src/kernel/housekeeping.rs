//! What is over goes: retention, cleanup, drain and stop (K360–K365).
//!
//! ```text
//!                    Drain                    at rest, or the deadline          Start
//!   serving ──────────────────► draining ─────────────────────────────► stopped ─────► serving
//!                               nothing new is taken on   preserve: all stays as it is
//!                                                         terminate: every live process ends
//! ```
//!
//! Cleanup comes by command and by deadline. The deadline is the first full `cleanup_interval_ms`
//! since the start at which something is due, so that a node of which nothing is due is left alone,
//! and so that nothing but the state says when it is (K361).
//!
//! `Shutdown` is a drain that is followed by a stop: by the driver's `Stop` as soon as
//! [`State::at_rest`], or by `Tick` at the deadline (K362, K363). A stop that terminates ends at
//! most [`ENDED_MAX`] processes in one decision, each with its descendants, and no more than a
//! record takes; `Tick` does the rest.
//!
//! # What is at rest
//!
//! No attempt and no try is live (K363). A process that somebody runs without a session is not
//! waited for: nothing tells when its holder pauses, and it goes on after the next start.

mod over;
#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;

pub use over::Over;

use super::decision::Decision;
use super::dispatch::event::DispatchEvent;
use super::event::{Body, Cause, Event, KernelEvent, ProcessEvent, Subject};
use super::interrupts::event::InterruptEvent;
use super::names::{ProcessState, TerminalReason};
use super::numbered::numbered;
use super::refusal::{Code, Refusal};
use super::state::State;
use super::time::{Millis, Time};

/// The most subjects that one decision removes (K361).
pub const CLEANED_MAX: usize = 1_000;
/// The most processes that one decision of a stop ends, besides those that end with them.
pub const ENDED_MAX: usize = 1_000;

numbered! {
    /// What a stop makes of live processes (K363).
    StopMode "a mode of stopping" {
        /// They go on after the next start.
        Preserve = 1 "preserve",
        /// They end.
        Terminate = 2 "terminate",
    }
}

/// What a cleanup did: how many of each (K361).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cleaned {
    /// Processes of which only a tombstone is left.
    pub buried: u64,
    /// Processes of which nothing is left.
    pub processes: u64,
    /// Envelopes.
    pub envelopes: u64,
    /// Interrupts.
    pub interrupts: u64,
    /// Dispatches.
    pub dispatches: u64,
    /// Keys of rates.
    pub rates: u64,
}

impl Cleaned {
    /// Counts what the events of a cleanup say.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut cleaned = Self::default();
        for event in events {
            cleaned.add(&event.body);
        }
        cleaned
    }

    fn add(&mut self, body: &Body) {
        use super::envelopes::EnvelopeEvent::Removed;
        use super::rates::RateEvent::Swept;
        if let Body::Process { event } = body {
            match event {
                ProcessEvent::StateChanged { to: ProcessState::Zombie, .. } => self.buried += 1,
                ProcessEvent::Removed => self.processes += 1,
                ProcessEvent::Created { .. }
                | ProcessEvent::StateChanged { .. }
                | ProcessEvent::LeaseRenewed { .. }
                | ProcessEvent::Terminated { .. } => {}
            }
        }
        if let Body::Envelope { event: Removed { ids } } = body {
            self.envelopes += ids.len() as u64;
        }
        if let Body::Interrupt { event: InterruptEvent::Removed { ids } } = body {
            self.interrupts += ids.len() as u64;
        }
        if let Body::Dispatch { event: DispatchEvent::Removed { ids } } = body {
            self.dispatches += ids.len() as u64;
        }
        if let Body::Rate { event: Swept { keys, .. } } = body {
            self.rates += keys;
        }
    }

    /// Returns how many subjects those are.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.buried
            + self.processes
            + self.envelopes
            + self.interrupts
            + self.dispatches
            + self.rates
    }
}

/// The refusal of every command after the journal has failed (K365).
#[must_use]
pub fn not_durable() -> Refusal {
    Refusal::new(Code::NotDurable, "the journal has failed: nothing more is decided")
}

impl State {
    /// Says whether nothing is worked on: see the head of this module (K363).
    #[must_use]
    pub const fn at_rest(&self) -> bool {
        self.live_work() == 0
    }

    /// Counts attempts and tries that are live.
    #[must_use]
    pub const fn live_work(&self) -> u64 {
        self.session_tally.attempts + self.desks.dispatches().running
    }

    /// Returns until when the node drains, while it does (K362).
    #[must_use]
    pub const fn drains_until(&self) -> Option<Time> {
        self.counters.draining
    }

    /// Says whether the node was stopped, and not started since (K363).
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.counters.stopped
    }

    /// Says whether work was live at the deadline of the stop (K363).
    #[must_use]
    pub const fn was_cut(&self) -> bool {
        self.counters.cut
    }

    /// Says whether a cleanup at `now` would remove something (K361).
    #[must_use]
    pub fn is_cleanup_due(&self, now: Time) -> bool {
        self.first_over().is_some_and(|due| due <= now)
    }

    /// When the first subject is kept no longer (K360).
    fn first_over(&self) -> Option<Time> {
        let firsts = [
            self.over.first_terminated(&self.config.retention),
            self.over.first_zombie(&self.config.retention),
            self.first_envelope_due(),
            self.first_interrupt_due(),
            self.first_dispatch_due(),
            self.rates.first_out(),
        ];
        firsts.into_iter().flatten().min()
    }

    /// When cleanup comes by itself: a full interval since the start, when something is due.
    fn cleanup_at(&self) -> Option<Time> {
        let (start, interval) = (self.counters.started_at, self.config.cleanup_interval_ms);
        let wait = self.first_over()?.since(start).div_ceil(interval);
        Some(start.plus(wait.saturating_mul(interval)))
    }

    /// Brings the deadlines of the node itself up to the state.
    pub(super) fn follow_housekeeping(&mut self) {
        let counters = &self.counters;
        let stops = counters.stop.is_some() && !counters.stopped;
        let stop_at = counters.draining.filter(|_| stops);
        let cleanup_at = self.cleanup_at();
        self.deadlines.follow_node(stop_at, cleanup_at);
    }
}

impl Decision<'_> {
    /// `Cleanup` (K361).
    pub(super) fn clean(&mut self) -> Result<(), Refusal> {
        self.only_operator()?;
        self.remove_due();
        Ok(())
    }

    /// Removes what is kept no longer, of each kind the oldest first (K360, K361). A process is one
    /// subject, with all that goes with it. What a decision has no room for stays due.
    pub(super) fn remove_due(&mut self) {
        let (now, retention) = (self.now, self.state.config.retention);
        let terminated = self.state.over.due_terminated(now, &retention, CLEANED_MAX);
        let mut left = CLEANED_MAX - terminated.len();
        for pid in terminated {
            if self.is_full() {
                return;
            }
            self.bury(&pid, Cause::Retention);
        }
        let zombies = self.state.over.due_zombies(now, &retention, left);
        left -= zombies.len();
        for pid in zombies {
            if self.is_full() {
                return;
            }
            if self.first_live_child(&pid).is_none() {
                self.emit_process(&pid, ProcessEvent::Removed);
            }
        }
        if self.is_full() {
            return;
        }
        left -= self.remove_due_envelopes(left);
        let interrupts = self.state.interrupts_due_for_removal(now, left);
        left -= interrupts.len();
        self.remove_interrupts(&interrupts);
        left -= self.remove_due_dispatches(left);
        self.sweep_rates(left as u64);
    }

    /// `Drain` (K362), and `Shutdown`, which is a drain that ends in a stop (K363).
    pub(super) fn drain(
        &mut self,
        deadline_ms: Option<Millis>,
        stop: Option<StopMode>,
    ) -> Result<(), Refusal> {
        self.only_operator()?;
        if let Some(asked) = deadline_ms {
            self.state.config.limits.check_span("deadline_ms", asked)?;
        }
        if self.state.counters.stopped {
            return Ok(());
        }
        let counters = self.state.counters;
        let usual = self.now.plus(self.state.config.drain_ms);
        let deadline = match (deadline_ms, counters.draining) {
            (Some(asked), _) => self.now.plus(asked),
            // A stop that was not asked for before has the usual time, whatever a drain had.
            (None, Some(before)) if stop.is_none() || counters.stop.is_some() => before,
            (None, Some(_) | None) => usual,
        };
        let stop = stop.or(counters.stop);
        match stop.filter(|_| self.state.at_rest()) {
            Some(mode) => self.stop_now(mode),
            None => self.set_drain(deadline, stop),
        }
        Ok(())
    }

    /// `Stop`: at once, whatever is live (K363: a second signal).
    pub(super) fn stop(&mut self, mode: StopMode) -> Result<(), Refusal> {
        self.only_operator()?;
        if !self.state.counters.stopped {
            self.stop_now(mode);
        }
        Ok(())
    }

    /// The deadline of a drain that ends in a stop has come.
    pub(super) fn drained(&mut self) {
        if let Some(mode) = self.state.counters.stop {
            if !self.state.at_rest() {
                crate::sometimes!("kernel.drain_deadline");
            }
            self.stop_now(mode);
        }
    }

    /// Stops, or ends as many processes as one decision may and leaves the rest to `Tick`.
    fn stop_now(&mut self, mode: StopMode) {
        // From now on nothing is taken on, and the rest of a long stop is due at once.
        let deadline = self.state.counters.draining.map_or(self.now, |at| at.min(self.now));
        self.set_drain(deadline, Some(mode));
        let clean = !self.state.counters.cut && self.state.at_rest();
        if mode == StopMode::Terminate {
            for _ in 0..ENDED_MAX {
                let Some(pid) = self.state.process_index.first_live().cloned() else {
                    break;
                };
                if self.is_full() {
                    break;
                }
                self.end(&pid, TerminalReason::KernelShutdown, "the node shuts down");
            }
            if self.state.process_index.first_live().is_some() {
                return;
            }
        }
        let event = KernelEvent::Stopped { preserve: mode == StopMode::Preserve, clean };
        self.emit(Subject::default(), Body::Kernel { event });
    }

    /// Records a drain, unless all of it is known. `cut` is that work is live at its deadline.
    fn set_drain(&mut self, deadline: Time, stop: Option<StopMode>) {
        let counters = self.state.counters;
        let cut = counters.cut || (stop.is_some() && deadline <= self.now && !self.state.at_rest());
        let known = (counters.draining, counters.stop, counters.cut) == (Some(deadline), stop, cut);
        if !known {
            let event = KernelEvent::Draining { deadline, stop, cut };
            self.emit(Subject::default(), Body::Kernel { event });
        }
    }
}
