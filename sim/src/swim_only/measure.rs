//! What is measured of membership: C160–C166 in virtual time, C170 in real time.

use std::time::Duration;

use machines::Instant;
use machines::cluster::config::SwimConfig;
use machines::cluster::swim::io::{Input, MemberEventKind};
use machines::cluster::wire::{Meta, State};
use machines::time::nanos;

use super::{Setup, SwimOnly, node_id};
use crate::stopwatch::Stopwatch;
use crate::threads::{in_parallel, processors};

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// Samples in ascending order, in nanoseconds; a run without an answer is `u64::MAX`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fractions(Vec<u64>);

impl Fractions {
    fn of(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// Returns the mean of the runs that had an answer, in nanoseconds.
    #[must_use]
    pub fn mean(&self) -> u64 {
        let answered = self.0.iter().filter(|sample| **sample != u64::MAX);
        let (sum, count) = answered.fold((0, 0), |(sum, count), sample| (sum + sample, count + 1));
        sum / count.max(1)
    }

    /// Returns the least value that `permille` thousandths of the runs do not pass.
    #[must_use]
    pub fn within(&self, permille: usize) -> u64 {
        let at = (self.0.len() * permille).div_ceil(1_000);
        self.0.get(at.saturating_sub(1)).copied().unwrap_or(u64::MAX)
    }

    /// Returns how many thousandths of the runs stayed within `bound`.
    #[must_use]
    pub fn share_within(&self, bound: Duration) -> usize {
        let within = self.0.iter().filter(|sample| **sample <= nanos(bound));
        within.count() * 1_000 / self.0.len().max(1)
    }

    /// Returns the worst of all runs.
    #[must_use]
    pub fn worst(&self) -> u64 {
        self.within(1_000)
    }

    /// Returns the number of runs.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.0.len()
    }
}

/// What a quiet cluster does per member and period, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Datagrams but gossip ticks.
    pub datagrams_milli: u64,
    /// Gossip ticks: not quite quiet, as soon as loss makes someone suspect someone.
    pub gossip_milli: u64,
    /// Bytes of datagrams.
    pub bytes_milli: u64,
    /// Rows that turned Suspect.
    pub suspected_milli: u64,
    /// Members wrongly declared dead, in all.
    pub false_deaths: u64,
    /// Bytes of one sync in one direction, on average.
    pub sync_bytes: u64,
}

/// Repeats a run over `runs` seeds, on all processors.
fn repeat<T: Send>(setup: &Setup, runs: u32, one: impl Fn(Setup) -> T + Sync) -> Vec<T> {
    in_parallel(processors(), runs as usize, |n| {
        one(Setup { seed: setup.seed.wrapping_add(n as u64), ..setup.clone() })
    })
}

/// Repeats a measurement over `runs` seeds.
fn sample(setup: &Setup, runs: u32, one: impl Fn(Setup) -> Option<u64> + Sync) -> Fractions {
    Fractions::of(repeat(setup, runs, |setup| one(setup).unwrap_or(u64::MAX)))
}

/// A settled cluster at a moment that differs from seed to seed, and a member of it.
fn some_moment(setup: Setup) -> (SwimOnly, u32) {
    let (seed, members) = (setup.seed, setup.members);
    let period = nanos(setup.config.period);
    let mut world = SwimOnly::settled(setup);
    let mut choices = machines::Choices::new(seed).scoped(u64::MAX);
    world.run(2 * period + choices.choose("measure.moment", [0, 0], period));
    let victim = choices.choose("measure.victim", [0, 0], u64::from(members));
    let victim = u32::try_from(victim).expect("below the number of members");
    (world, victim)
}

/// Time from a crash to the first suspicion of it (C160).
#[must_use]
pub fn first_suspicion(setup: &Setup, runs: u32) -> Fractions {
    sample(setup, runs, |setup| {
        let (mut world, victim) = some_moment(setup);
        let before = world.seen().len();
        world.crash(victim);
        let crashed = world.now();
        let suspect = |world: &SwimOnly| {
            let news = world.seen()[before..].iter();
            let mut news = news.filter(|seen| seen.subject == victim);
            let first = news.find(|seen| seen.kind == MemberEventKind::Suspect)?;
            Some(first.at.nanos_since(crashed))
        };
        world.run_until(600 * SECOND, 250 * MS, |world| suspect(world).is_some())?;
        suspect(&world)
    })
}

/// Time from a crash until it is known, Dead, to all others (C138).
#[must_use]
pub fn crash_known(setup: &Setup, runs: u32) -> Fractions {
    sample(setup, runs, |setup| {
        let (mut world, victim) = some_moment(setup);
        world.crash(victim);
        world.run_until(3_600 * SECOND, 100 * MS, |world| world.all_hold(victim, State::Dead))
    })
}

/// Time from a change at one member until all know it (C161).
#[must_use]
pub fn spread(setup: &Setup, runs: u32) -> Fractions {
    sample(setup, runs, |setup| {
        let (mut world, victim) = some_moment(setup);
        let meta = Meta::new(b"changed").expect("metadata of seven bytes");
        world.tell(victim, Input::Meta(meta));
        world.run_until(600 * SECOND, 10 * MS, |world| {
            let knows = |n: u32| {
                let held = world.swim(n).member(node_id(victim));
                held.is_some_and(|held| held.meta == meta)
            };
            world.able().all(knows)
        })
    })
}

/// Time from the heal of a half/half split until all hold each other as members (C140, C166).
#[must_use]
pub fn heal_time(setup: &Setup, runs: u32) -> Fractions {
    sample(setup, runs, |setup| {
        let members = setup.members;
        let mut world = SwimOnly::settled(setup);
        for n in 0..members / 2 {
            world.split(n, 1);
        }
        let half = u64::from(members / 2);
        let apart = |world: &SwimOnly| {
            world.able().all(|n| {
                let others = u64::from(members) - half;
                let want = if n < members / 2 { half } else { others };
                u64::from(world.swim(n).member_count()) == want
            })
        };
        world.run_until(7_200 * SECOND, SECOND, apart)?;
        world.heal();
        let bound = nanos(world.bounds().heal) * 4;
        world.run_until(bound, 100 * MS, SwimOnly::all_members)
    })
}

/// What a cluster without faults, but with its loss and delay, does in `span` (C162, C163, C165).
#[must_use]
pub fn rates(setup: &Setup, span: Duration) -> Rates {
    let members = u64::from(setup.members);
    let period = nanos(setup.config.period);
    let mut world = SwimOnly::settled(setup.clone());
    world.run(2 * period);
    let (traffic, verdicts) = (world.traffic(), world.verdicts());
    world.run(nanos(span));
    let (after, judged) = (world.traffic(), world.verdicts());
    let member_periods = (members * nanos(span) / period).max(1);
    let milli = |count: u64| count * 1_000 / member_periods;
    let syncs = after.syncs - traffic.syncs;
    let gossip = after.gossip_datagrams - traffic.gossip_datagrams;
    Rates {
        datagrams_milli: milli(after.datagrams - traffic.datagrams - gossip),
        gossip_milli: milli(gossip),
        bytes_milli: milli(after.datagram_bytes - traffic.datagram_bytes),
        suspected_milli: milli(judged.suspected - verdicts.suspected),
        false_deaths: judged.false_deaths,
        sync_bytes: (after.sync_bytes - traffic.sync_bytes) / syncs.max(1),
    }
}

/// Counts how often anyone wrongly declared a healthy member dead, while `slow` others handle no
/// message for 4–16 s at a time, in `runs` runs of `span` (C164). A slow member that is itself
/// declared dead is no error: it did not answer for longer than any suspicion allows.
#[must_use]
pub fn slow_members(setup: &Setup, slow: u32, runs: u32, span: Duration) -> u64 {
    let run = |setup: Setup| {
        let setup = Setup { record: false, ..setup };
        let members = setup.members;
        let mut choices = machines::Choices::new(setup.seed).scoped(u64::MAX);
        let mut world = SwimOnly::settled(setup);
        let mut next: Vec<u64> = (0..slow)
            .map(|n| choices.choose("measure.first", [u64::from(n), 0], 10 * SECOND))
            .collect();
        while world.now().as_nanos() < nanos(span) {
            let now = world.now().as_nanos();
            for (n, at) in (0..slow).zip(&mut next) {
                if *at <= now {
                    let who = [u64::from(n), 0];
                    let stall = 4 * SECOND + choices.choose("measure.stall", who, 12 * SECOND);
                    let rest = choices.choose("measure.rest", who, 8 * SECOND);
                    world.deafen(n, Instant::from_nanos(now + stall));
                    *at = now + stall + rest;
                }
            }
            world.run(100 * MS);
        }
        let healthy = slow..members;
        healthy.map(|n| world.fate(n).false_deaths).sum::<u64>()
    };
    repeat(setup, runs, run).into_iter().sum()
}

/// Counts members wrongly declared dead under C139's faults: 10 % loss, delays up to 50 ms, and
/// every member handling messages up to 2·T late once in 20 s; `runs` runs of `span`.
#[must_use]
pub fn accuracy(setup: &Setup, runs: u32, span: Duration) -> u64 {
    let run = |setup: Setup| {
        let members = setup.members;
        let period = nanos(setup.config.period);
        let setup = Setup {
            loss_permille: 100,
            delay_min: 100_000,
            delay_spread: 49_900_000,
            record: false,
            ..setup
        };
        let mut choices = machines::Choices::new(setup.seed).scoped(u64::MAX);
        let mut world = SwimOnly::settled(setup);
        let mut slots: Vec<(u64, u32)> = Vec::new();
        let end = nanos(span);
        while world.now().as_nanos() < end {
            let now = world.now().as_nanos();
            if slots.is_empty() {
                slots.extend((0..members).map(|n| {
                    let who = [u64::from(n), 0];
                    (now + choices.choose("measure.when", who, 20 * SECOND), n)
                }));
                slots.sort_unstable_by(|a, b| b.cmp(a));
            }
            let (at, n) = slots.pop().unwrap_or((end, 0));
            world.run(at.min(end).saturating_sub(now));
            let late = choices.choose("measure.late", [u64::from(n), 0], 2 * period);
            world.deafen(n, world.now().plus_nanos(late));
        }
        world.verdicts().false_deaths
    };
    repeat(setup, runs, run).into_iter().sum()
}

/// Parameters with health, Nack and decay switched off, as far as configuration goes (C164).
/// [`Sabotage::NoBuddy`] does the rest. Without a health score a Nack has no effect.
#[must_use]
pub fn without_lifeguard(config: &SwimConfig) -> SwimConfig {
    SwimConfig { health_max: 0, suspicion_max: 1, ..config.clone() }
}

/// Returns member-seconds of a quiet cluster simulated per second of this core (C170).
#[must_use]
pub fn bench(members: u32, span: Duration) -> u64 {
    let setup = Setup { record: false, ..Setup::new(1, members) };
    let mut world = SwimOnly::settled(setup);
    world.run(2 * SECOND);
    let start = Stopwatch::start();
    world.run(nanos(span));
    let took = nanos(start.elapsed()).max(1);
    let done = u128::from(members) * u128::from(nanos(span));
    u64::try_from(done / u128::from(took)).unwrap_or(u64::MAX)
}
