//! What is measured of membership: C160–C166 in virtual time, C170 in real time.

use std::fmt::Write as _;
use std::time::Duration;

use machines::Instant;
use machines::cluster::config::SwimConfig;
use machines::cluster::swim::io::{Input, MemberEventKind};
use machines::cluster::wire::{Meta, State};
use machines::time::nanos;

use super::{Sabotage, Setup, SwimOnly, node_id};
use crate::stopwatch::Stopwatch;

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

/// Repeats a measurement over `runs` seeds.
fn sample(setup: &Setup, runs: u32, one: impl Fn(Setup) -> Option<u64>) -> Fractions {
    let seeds = 0..u64::from(runs);
    let run = |seed| one(Setup { seed: setup.seed.wrapping_add(seed), ..setup.clone() });
    Fractions::of(seeds.map(|seed| run(seed).unwrap_or(u64::MAX)).collect())
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
    let run = |seed: u64| {
        let setup = Setup { seed: setup.seed.wrapping_add(seed), record: false, ..setup.clone() };
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
    (0..u64::from(runs)).map(run).sum()
}

/// Counts members wrongly declared dead under C139's faults: 10 % loss, delays up to 50 ms, and
/// every member handling messages up to 2·T late once in 20 s; `runs` runs of `span`.
#[must_use]
pub fn accuracy(setup: &Setup, runs: u32, span: Duration) -> u64 {
    let run = |seed: u64| {
        let members = setup.members;
        let period = nanos(setup.config.period);
        let setup = Setup {
            seed: setup.seed.wrapping_add(seed),
            loss_permille: 100,
            delay_min: 100_000,
            delay_spread: 49_900_000,
            record: false,
            ..setup.clone()
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
    (0..u64::from(runs)).map(run).sum()
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

/// Runs C170 and says how it went, a line for each size.
#[must_use]
pub fn gossip_bench() -> String {
    let mut out = String::new();
    for (members, seconds, bar) in [(100, 5_000, 1_000_000), (1_000, 400, 300_000)] {
        let got = bench(members, Duration::from_secs(seconds));
        let _ = writeln!(
            out,
            "N = {members}: {got} member-seconds per second (bar: {bar}): {}",
            verdict(got >= bar)
        );
    }
    out
}

const fn verdict(holds: bool) -> &'static str {
    if holds { "met" } else { "MISSED" }
}

/// Thousandths as a decimal.
fn milli(value: u64) -> String {
    format!("{}.{:03}", value / 1_000, value % 1_000)
}

/// Nanoseconds as seconds.
fn seconds(value: u64) -> String {
    match value {
        u64::MAX => "never".to_owned(),
        value => milli(value / MS),
    }
}

/// Measures C160–C166 and returns the report; `scale` multiplies the seeds of each row.
#[must_use]
pub fn report(scale: u32) -> String {
    let mut out = String::from("# Membership, measured\n\nVirtual time, default parameters.\n");
    suspicion_rows(&mut out, scale);
    spread_rows(&mut out, scale);
    accuracy_row(&mut out, scale);
    rate_rows(&mut out);
    slow_rows(&mut out, scale);
    heal_rows(&mut out, scale);
    out
}

fn lossy(members: u32, loss_permille: u32) -> Setup {
    Setup { loss_permille, ..Setup::new(1, members) }
}

fn suspicion_rows(out: &mut String, scale: u32) {
    out.push_str(
        "\n## First suspicion and knowledge of a crash (C160, C138)\n\n\
         | N | loss | runs | mean first suspicion (bar 1.6 T) | known to all, 99 % | B99(N) |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for (members, runs) in [(10, 100), (32, 100), (100, 60), (300, 20)] {
        for loss in [0, 100] {
            let setup = lossy(members, loss);
            let first = first_suspicion(&setup, runs * scale);
            let known = crash_known(&setup, runs * scale);
            let bounds = super::Bounds::of(&setup.config, members);
            let _ = writeln!(
                out,
                "| {members} | {} % | {} | {} s, {} | {} s | {} s, {} |",
                loss / 10,
                first.runs(),
                seconds(first.mean()),
                verdict(first.mean() * 10 <= nanos(setup.config.period) * 16),
                seconds(known.within(990)),
                seconds(nanos(bounds.crash_99)),
                verdict(known.within(990) <= nanos(bounds.crash_99)),
            );
        }
    }
}

fn spread_rows(out: &mut String, scale: u32) {
    out.push_str(
        "\n## A fact reaches all (C161)\n\n| N | loss | runs | 99 % | D(N) |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for (members, runs) in [(3, 40), (10, 40), (32, 40), (100, 20), (300, 8)] {
        for loss in [0, 100] {
            let setup = lossy(members, loss);
            let all = spread(&setup, runs * scale);
            let bound = super::Bounds::of(&setup.config, members).dissemination;
            let _ = writeln!(
                out,
                "| {members} | {} % | {} | {} s | {} s, {} |",
                loss / 10,
                all.runs(),
                seconds(all.within(990)),
                seconds(nanos(bound)),
                verdict(all.share_within(bound) >= 990),
            );
        }
    }
}

fn accuracy_row(out: &mut String, scale: u32) {
    let (members, runs, minutes) = (16, 25 * scale, 36);
    let got = accuracy(&Setup::new(1, members), runs, Duration::from_secs(minutes * 60));
    let hours = u64::from(members * runs) * minutes / 60;
    let _ = writeln!(
        out,
        "\n## Accuracy (C139)\n\n{got} false deaths in {hours} member-hours over {runs} seeds, \
         N = {members}, 10 % loss, delays to 50 ms, each member up to 2 T late once in 20 s: {}",
        verdict(got == 0),
    );
}

fn rate_rows(out: &mut String) {
    out.push_str(
        "\n## Traffic per member and period, quiet (C162, C163, C165)\n\n\
         | N | loss | datagrams (bar) | gossip ticks | bytes (bar) | turned Suspect \
         | false deaths | bytes of a sync |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (members, span) in [(3, 600), (10, 600), (32, 6_000), (100, 300), (1_000, 20)] {
        for loss in [0, 10, 100] {
            let got = rates(&lossy(members, loss), Duration::from_secs(span));
            let kept = u64::from(1_000 - loss);
            let asked = 1_000 - kept * kept / 1_000;
            let datagrams = 2_050 + 14 * asked;
            let bytes = match loss {
                0 => "80",
                10 => "100",
                _ => "-",
            };
            let _ = writeln!(
                out,
                "| {members} | {} % | {} ({}), {} | {} | {} ({bytes}) | {} | {} | {} |",
                loss / 10,
                milli(got.datagrams_milli),
                milli(datagrams),
                verdict(got.datagrams_milli <= datagrams),
                milli(got.gossip_milli),
                milli(got.bytes_milli),
                milli(got.suspected_milli),
                got.false_deaths,
                got.sync_bytes,
            );
        }
    }
}

fn slow_rows(out: &mut String, scale: u32) {
    out.push_str(
        "\n## False deaths with slow members (C164)\n\n\
         | N | slow | runs of 5 min | with Lifeguard | without | ratio |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for (members, slow) in [(32, 4), (100, 8)] {
        let runs = 2 * scale;
        let span = Duration::from_secs(300);
        let with = slow_members(&Setup::new(1, members), slow, runs, span);
        let off = Setup {
            config: without_lifeguard(&Setup::new(1, members).config),
            sabotage: Sabotage::NoBuddy,
            ..Setup::new(1, members)
        };
        let without = slow_members(&off, slow, runs, span);
        let _ = writeln!(
            out,
            "| {members} | {slow} | {runs} | {with} | {without} | {}, {} |",
            without / with.max(1),
            verdict(without >= 50 * with.max(1)),
        );
    }
}

fn heal_rows(out: &mut String, scale: u32) {
    out.push_str(
        "\n## Heal of a half/half split (C166)\n\n\
         | N | runs | 99 % | Q + 1 s + W(N) | H(N) |\n| --- | --- | --- | --- | --- |\n",
    );
    for (members, runs) in [(2, 20), (10, 20), (32, 10), (100, 3)] {
        let setup = Setup::new(1, members);
        let healed = heal_time(&setup, runs * scale);
        let bounds = super::Bounds::of(&setup.config, members);
        let bar = setup.config.reprobe + Duration::from_secs(1) + bounds.gossip_all;
        let _ = writeln!(
            out,
            "| {members} | {} | {} s | {} s, {} | {} s |",
            healed.runs(),
            seconds(healed.within(990)),
            seconds(nanos(bar)),
            verdict(healed.share_within(bar) >= 990),
            seconds(nanos(bounds.heal)),
        );
    }
}
