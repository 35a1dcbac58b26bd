//! Faults around any port of a node (T62): `Flaky` networks, `Faulty` disks, `Skewed` clocks.
//!
//! They wrap whatever world a node lives in: madsim's, which can do none of this by itself, and
//! real sockets and files in tests. `World` of this crate has its own faults and needs none.
//!
//! Every decision is a question to [`Choices`], answer 0 being no fault (T11). A [`Faults`] handle
//! heals them all at once for the quiet period (T23), and counts how often they struck, so that a
//! test can show that they did.

mod faulty;
mod flaky;
mod skewed;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use machines::Choices;

pub use faulty::{DiskRates, Faulty};
pub use flaky::{Flaky, LinkRates};
pub use skewed::{Skew, Skewed};

/// The denominator of every rate.
pub const PER_MILLE: u32 = 1_000;

/// What the faults of one world have in common: whether they are on, and how often they struck.
///
/// All accesses are relaxed: nothing else is published by them.
#[derive(Debug, Default)]
pub struct Faults {
    healed: AtomicBool,
    struck: AtomicU64,
    broken: AtomicU64,
}

impl Faults {
    /// Ends all faults, for good.
    pub fn heal(&self) {
        self.healed.store(true, Relaxed);
    }

    /// Says whether faults have ended.
    pub fn are_healed(&self) -> bool {
        self.healed.load(Relaxed)
    }

    /// Returns how often a fault struck.
    pub fn struck(&self) -> u64 {
        self.struck.load(Relaxed)
    }

    /// Returns how often a promise that a port makes was broken: a sync told and lost.
    pub fn broken(&self) -> u64 {
        self.broken.load(Relaxed)
    }

    fn strike(&self) {
        self.struck.fetch_add(1, Relaxed);
    }

    fn break_promise(&self) {
        self.strike();
        self.broken.fetch_add(1, Relaxed);
    }

    /// Asks whether a fault of `rate` per mille strikes; answer 0 is that it does not.
    fn asks(&self, choices: &mut Choices, site: &'static str, who: [u64; 2], rate: u32) -> bool {
        if rate == 0 || self.are_healed() {
            return false;
        }
        choices.choose(site, who, PER_MILLE.into()) >= u64::from(PER_MILLE - rate)
    }
}

/// A rate must leave answer 0 to the benign case.
fn assert_rates(rates: &[u32]) {
    for rate in rates {
        assert!(*rate < PER_MILLE, "a fault that always strikes has no benign answer");
    }
}

#[cfg(test)]
mod tests;
