//! When each part of membership wants to act: a few moments side by side.

use crate::time::Instant;

/// The timers, in the order in which they run when due at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub(super) enum Timer {
    Round,
    Gossip,
    Suspicion,
    Relay,
    Sync,
    SyncTimeout,
    Reprobe,
    Join,
    Forget,
    Leave,
}

const ALL: [Timer; 10] = [
    Timer::Round,
    Timer::Gossip,
    Timer::Suspicion,
    Timer::Relay,
    Timer::Sync,
    Timer::SyncTimeout,
    Timer::Reprobe,
    Timer::Join,
    Timer::Forget,
    Timer::Leave,
];

/// One moment per timer, [`Instant::FAR`] where none is set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Timers {
    at: [Instant; ALL.len()],
    /// The least of them; set again with every change.
    earliest: Instant,
}

impl Timers {
    pub(super) const fn new() -> Self {
        Self {
            at: [Instant::FAR; ALL.len()],
            earliest: Instant::FAR,
        }
    }

    pub(super) const fn earliest(&self) -> Instant {
        self.earliest
    }

    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.at[timer as usize] = at;
        self.earliest = self.at.iter().copied().fold(Instant::FAR, Instant::min);
    }

    /// Sets a timer unless it is due earlier.
    pub(super) fn advance(&mut self, timer: Timer, at: Instant) {
        self.set(timer, at.min(self.at[timer as usize]));
    }

    pub(super) fn clear(&mut self, timer: Timer) {
        self.set(timer, Instant::FAR);
    }

    pub(super) fn clear_all(&mut self) {
        *self = Self::new();
    }

    pub(super) fn is_set(&self, timer: Timer) -> bool {
        self.at[timer as usize] != Instant::FAR
    }

    /// Moves a timer that is set.
    pub(super) fn postpone(&mut self, timer: Timer, by: u64) {
        self.set(timer, self.at[timer as usize].plus_nanos(by));
    }

    /// Makes all that is overdue due right now.
    pub(super) fn pull_up(&mut self, now: Instant) {
        for at in &mut self.at {
            *at = match *at < now {
                true => now,
                false => *at,
            };
        }
        self.earliest = self.earliest.max(now);
    }

    /// Returns the timer that is due first, if it is due.
    pub(super) fn due(&self, now: Instant) -> Option<(Timer, Instant)> {
        if self.earliest > now {
            return None;
        }
        let first = self.at.iter().position(|at| *at == self.earliest)?;
        Some((ALL[first], self.earliest))
    }
}
