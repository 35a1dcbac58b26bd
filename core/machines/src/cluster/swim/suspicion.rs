//! One suspicion: who accuses, since when, and until when it may be refuted (C48).
//!
//! # Source
//!
//! The dogpile rule of Lifeguard (Dadgar, Phillips, Currey 2017), with its logarithms as a table.

use crate::cluster::ids::NodeId;
use crate::time::Instant;

use super::arithmetic::{confirmations_max, suspicion_min, suspicion_wait};

/// Accusers that can matter: the first, and at most three confirmations.
const ACCUSERS_MAX: usize = 4;

/// A running suspicion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Suspicion {
    start: Instant,
    min: u64,
    max: u64,
    /// k of C48.
    wanted: u8,
    /// c of C48.
    confirmations: u8,
    accusers: [NodeId; ACCUSERS_MAX],
}

impl Suspicion {
    /// Starts one at `start` in a cluster of `members`, with α and β of the configuration.
    pub(super) fn new(
        start: Instant,
        (alpha, beta): (u32, u32),
        period: u64,
        members: u32,
        accuser: NodeId,
    ) -> Self {
        let min = suspicion_min(alpha, period, members);
        let mut accusers = [NodeId::default(); ACCUSERS_MAX];
        accusers[0] = accuser;
        Self {
            start,
            min,
            max: min.saturating_mul(u64::from(beta)).max(min),
            wanted: confirmations_max(members),
            confirmations: 0,
            accusers,
        }
    }

    /// When the suspect is dead.
    pub(super) fn deadline(&self) -> Instant {
        let wait = suspicion_wait(self.min, self.max, self.confirmations, self.wanted);
        self.start.plus_nanos(wait)
    }

    /// Counts another accuser; false if it is not a new one or none is needed any more.
    pub(super) fn confirm(&mut self, accuser: NodeId) -> bool {
        let known = usize::from(self.confirmations) + 1;
        if self.confirmations >= self.wanted || self.accusers[..known].contains(&accuser) {
            return false;
        }
        self.accusers[known] = accuser;
        self.confirmations += 1;
        true
    }

    /// Says whether the wait is the shortest that confirmations can bring.
    pub(super) const fn is_confirmed(&self) -> bool {
        self.wanted > 0 && self.confirmations >= self.wanted
    }

    /// Moves the suspicion by the time for which this node was not looking (C53).
    pub(super) fn postpone(&mut self, by: u64) {
        self.start = self.start.plus_nanos(by);
    }
}
