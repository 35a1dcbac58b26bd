//! A sweep: at every operation of the disk, what if the power failed now?
//!
//! Each cut is made in copies of the world, one for each [`Left`], which start again and are
//! checked like any other start. Some start twice, the second time after the process alone died,
//! and must find the same (L35, L72). Some go on: the power fails again while the journal opens its
//! first segment.

use machines::ledger::root::StateRoot;

use super::io::Guest;
use super::{Due, World};
use crate::agenda::Agenda;
use crate::files::Outcome as Left;
use crate::world::Ended;

/// Which cuts of a sweep a run makes: one in so many operations, counted from 1. All stripes
/// together cut at every operation, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stripe {
    /// Which of them, from 0.
    pub nth: u64,
    /// How many there are; never 0.
    pub of: u64,
}

/// One in so many cuts starts again.
const AGAIN: u64 = 4;
/// One in so many cuts goes on.
const GOES_ON: u64 = 8;
/// How many events a start may take.
const STEPS_MAX: u32 = 10_000;
/// Of the second start of a copy.
const SAME: &str = "L72";

impl<G: Guest> World<G> {
    /// Cuts the power here, if it is the turn of this run.
    pub(super) fn cut_here(&mut self, stripe: Stripe) {
        self.cuts += 1;
        if self.cuts % stripe.of != stripe.nth {
            return;
        }
        self.struck.count("sweep-cut");
        for outcome in Left::EACH {
            let mut copy = self.copy();
            copy.cut_and_start(true, outcome);
            self.adopt(&mut copy, outcome);
            let nth = self.cuts / stripe.of + stripe.nth;
            if nth.is_multiple_of(AGAIN) {
                self.start_again(&copy, outcome);
            }
            if nth.is_multiple_of(GOES_ON) {
                self.go_on(copy, outcome);
            }
            if self.ended.is_some() {
                return;
            }
        }
    }

    /// Starts a copy once more, on what the process alone left: it must find the same.
    fn start_again(&mut self, copy: &Self, outcome: Left) {
        let mut again = copy.clone();
        again.cut_and_start(false, Left::None);
        let both = copy.ended.is_none() && again.ended.is_none();
        if both && copy.serving() != again.serving() {
            let (first, next) = (copy.serving(), again.serving());
            again.violate(SAME, format!("a start found {first:?}, the next {next:?}"));
        }
        self.adopt(&mut again, outcome);
    }

    /// Cuts the power of a copy again, a few operations later, and once more after that.
    fn go_on(&mut self, mut copy: Self, outcome: Left) {
        for _ in 0..self.cuts % 6 {
            copy.step();
        }
        copy.cut_and_start(true, outcome);
        self.adopt(&mut copy, outcome);
        for _ in 0..64 {
            copy.step();
        }
        copy.cut_and_start(true, Left::None);
        self.adopt(&mut copy, outcome);
    }

    /// A copy in which nobody asks, and no fault comes.
    fn copy(&self) -> Self {
        let mut copy = self.clone();
        copy.is_fork = true;
        copy.armed.clear();
        copy.agenda = Agenda::with_capacity(8);
        copy
    }

    fn cut_and_start(&mut self, power: bool, outcome: Left) {
        self.kill_leaving(power, outcome);
        self.agenda = Agenda::with_capacity(8);
        (self.down_until, self.refused) = (0, None);
        self.agenda.push(self.now + 1, Due::Start);
        let mut steps = 0;
        while self.serving().is_none() && self.refused.is_none() && self.step() {
            steps += 1;
            assert!(steps < STEPS_MAX, "a start ends");
        }
    }

    /// Returns what the start found of a process that serves: the last record, and the root there.
    fn serving(&self) -> Option<(u64, Option<StateRoot>)> {
        self.guest()?;
        self.found
    }

    /// Takes what a copy showed.
    fn adopt(&mut self, copy: &mut Self, outcome: Left) {
        self.struck.count("sweep-recovery");
        for (property, looked) in std::mem::take(&mut copy.armed) {
            *self.armed.entry(property).or_insert(0) += looked;
        }
        if let Some(Ended::Violated(violation)) = &copy.ended {
            let told = format!("cut {} ({outcome:?}): {}", self.cuts, violation.evidence);
            self.violate(violation.property, told);
        } else if copy.guest().is_none() && self.ended.is_none() {
            let told = format!("cut {} ({outcome:?}): {:?}", self.cuts, copy.refused);
            self.violate("L74", told);
        }
    }
}
