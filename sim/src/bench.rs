//! Measures the simulator itself, beside its peers (T90, T91, T92, C170).
//!
//! All times are times on a core, so that other work on the machine moves no figure.

pub mod peers;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use machines::cluster::config::{ClusterConfig, Profile};
use machines::cluster::sealer::Suite;

use crate::clients::Work;
use crate::guest::{Cipher, Guest};
use crate::net::Conditions;
use crate::ring::{Ring, RingKind};
use crate::stopwatch::Stopwatch;
use crate::swim_only::{self, SwimOnly};
use crate::world::{Ended, Setup, World};

/// One measurement. `benches/` reads it as one of its own.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measured {
    /// Case and contender: `sim/ring/1/world`.
    pub id: String,
    /// What was measured, in words.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what: `/s` or `ns`.
    pub unit: &'static str,
    /// Of the fastest and the slowest round.
    pub range: [f64; 2],
}

/// The figures of one `cargo sim bench`, for the table of bars (T81).
#[derive(Debug, serde::Serialize)]
struct Figures<'a> {
    results: &'a [Measured],
}

/// Writes `results` where the table of bars finds them: `<folder>/sim-<what>.json`.
///
/// # Errors
///
/// The file's.
pub fn save(folder: &Path, what: &str, results: &[Measured]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let text = serde_json::to_string_pretty(&Figures { results })?;
    std::fs::write(folder.join(format!("sim-{what}.json")), text)
}

/// A measurement against what it must reach.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Bar {
    /// The rule that sets it.
    pub rule: &'static str,
    /// What was measured.
    pub what: String,
    /// Our figure.
    pub ours: f64,
    /// Whose figure it is measured against; `None` for an absolute bar.
    pub peer: Option<String>,
    /// The peer's figure, or 1.
    pub theirs: f64,
    /// Ours over theirs.
    pub ratio: f64,
    /// What the ratio must be, at least for rates and at most for times.
    pub bar: f64,
    /// Whether it is.
    pub held: bool,
}

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
/// Bytes of a datagram of the ring, as the peers have.
const RING_BYTES: usize = 64;
/// Rounds of a measurement that repeats a short run: the median counts.
const ROUNDS: u32 = 5;

impl Measured {
    fn rate(id: String, what: String, rounds: &mut [f64]) -> Self {
        Self::of(id, what, rounds, "/s")
    }

    fn of(id: String, what: String, rounds: &mut [f64], unit: &'static str) -> Self {
        rounds.sort_by(f64::total_cmp);
        let range = [rounds[0], rounds[rounds.len() - 1]];
        Self { id, what, value: rounds[rounds.len() / 2], unit, range }
    }

    /// The same case, done by a peer.
    #[must_use]
    pub fn of_peer(&self, peer: &str, value: f64) -> Self {
        let case = self.id.rsplit_once('/').map_or("", |(case, _)| case);
        let what = format!("{}, {peer}", self.what);
        Self { id: format!("{case}/{peer}"), what, value, unit: self.unit, range: [value; 2] }
    }

    /// Measures this rate against a peer's, which it must exceed `bar` times.
    #[must_use]
    pub fn against(&self, rule: &'static str, peer: &str, theirs: f64, bar: f64) -> Bar {
        let ratio = self.value / theirs;
        let (what, peer) = (self.what.clone(), Some(peer.to_owned()));
        Bar { rule, what, ours: self.value, peer, theirs, ratio, bar, held: ratio >= bar }
    }

    /// Measures this figure against a number: the least for a rate, the most for a time.
    #[must_use]
    pub fn within(&self, rule: &'static str, bar: f64) -> Bar {
        let held = if self.unit == "/s" { self.value >= bar } else { self.value <= bar };
        let (what, ours) = (self.what.clone(), self.value);
        Bar { rule, what, ours, peer: None, theirs: 1.0, ratio: ours, bar, held }
    }
}

/// Makes a calm setup for measuring: no faults, fixed delays, no clients, no checkers.
#[must_use]
pub fn calm<G: Guest>(nodes: u32, duration: u64, cipher: Cipher, kind: G::Kind) -> Setup<G> {
    Setup {
        seed: 1,
        overrides: Arc::default(),
        nodes,
        strangers: 0,
        duration,
        quiet_at: duration,
        steps_max: u64::MAX,
        start_span: 0,
        contacts: 3,
        plain: Conditions { delay_min: MS, ..Conditions::default() },
        ties: true,
        plan: Arc::default(),
        work: Work::default(),
        config: Arc::new(ClusterConfig::of(Profile::Lan, "bench")),
        builds: Arc::default(),
        cipher,
        kind,
    }
}

/// Simulated datagrams per second on a ring of three, with 1 and with 64 in flight (T90).
#[must_use]
pub fn ring(span: Duration) -> Vec<Measured> {
    [1, 64].map(|in_flight| ring_of(in_flight, span)).to_vec()
}

fn ring_of(in_flight: u32, span: Duration) -> Measured {
    let kind = RingKind { in_flight, bytes: RING_BYTES, ..RingKind::default() };
    let setup = Arc::new(calm::<Ring>(3, u64::MAX, Cipher::Null, kind));
    let mut world = World::new(setup, Vec::new());
    let rounds = (0..ROUNDS).map(|_| {
        let (began, before) = (Stopwatch::start(), world.events());
        while began.elapsed() < span / ROUNDS {
            for _ in 0..10_000 {
                world.step();
            }
        }
        (world.events() - before) as f64 / began.elapsed().as_secs_f64()
    });
    let id = format!("sim/ring/{in_flight}/world");
    let mut rounds: Vec<f64> = rounds.collect();
    Measured::rate(id, format!("ring of 3, {in_flight} in flight, datagrams"), &mut rounds)
}

const fn name_of(cipher: Cipher) -> &'static str {
    match cipher {
        Cipher::Real => "real",
        Cipher::Null => "null",
    }
}

/// Time of an empty run: three nodes join, one virtual second (T92).
///
/// # Panics
///
/// If such a run fails.
#[must_use]
pub fn seeds<G: Guest>(kind: &G::Kind, cipher: Cipher, span: Duration) -> Measured {
    let mut seed = 0;
    let mut round = || {
        let (began, mut runs) = (Stopwatch::start(), 0_u32);
        while began.elapsed() < span / ROUNDS {
            for _ in 0..20 {
                let mut setup = Setup { seed, ..calm::<G>(3, SECOND, cipher, kind.clone()) };
                setup.plain.delay_span = MS; // Else all dial each other in the same instant.
                let outcome = World::new(Arc::new(setup), Vec::new()).run();
                assert_eq!(outcome.ended, Ended::Passed, "an empty run passes");
                (seed, runs) = (seed + 1, runs + 1);
            }
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(runs)
    };
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    let name = name_of(cipher);
    let what = format!("empty run of 3 nodes and 1 virtual second, {name} cipher");
    Measured::of(format!("sim/seeds/{name}/world"), what, &mut rounds, "ns")
}

/// Member-seconds of a quiet cluster simulated per second, membership alone (C170).
#[must_use]
pub fn membership() -> Vec<Measured> {
    let measured = |members, seconds| {
        let rate = swim_only::bench(members, Duration::from_secs(seconds)) as f64;
        let what = format!("{members} members, membership alone, member-seconds");
        Measured::rate(format!("sim/membership/{members}/world"), what, &mut [rate])
    };
    vec![measured(100, 600), measured(1_000, 60)]
}

/// Virtual seconds per second of `members` members that start, join and gossip for `span`
/// nanoseconds of virtual time, their datagrams encoded and sealed (T91): what the peers do, whose
/// members keep no links either.
#[must_use]
pub fn gossip(cipher: Cipher, members: u32, span: u64) -> Measured {
    let suite = match cipher {
        Cipher::Null => Suite::Null,
        Cipher::Real => Suite::Noise,
    };
    let plain = swim_only::Setup::new(1, members);
    let delays = swim_only::Setup { delay_min: MS, delay_spread: 0, ..plain };
    let setup = swim_only::Setup { wire: Some(suite), record: false, ..delays };
    let mut rounds = [0; 3].map(|_| {
        let began = Stopwatch::start();
        let mut world = SwimOnly::joining(setup.clone());
        world.run(span);
        assert!(world.all_members(), "a calm cluster stays whole");
        per_second(span, &began)
    });
    named_gossip("members", cipher, members, span, &mut rounds)
}

/// The same of `members` whole nodes, with a link between any two and all that goes over it.
///
/// # Panics
///
/// If the run fails.
#[must_use]
pub fn whole_nodes<G: Guest>(kind: &G::Kind, cipher: Cipher, members: u32, span: u64) -> Measured {
    let began = Stopwatch::start();
    let setup = calm::<G>(members, span, cipher, kind.clone());
    let setup = Setup { start_span: SECOND, ..setup };
    let outcome = World::new(Arc::new(setup), Vec::new()).run();
    assert_eq!(outcome.ended, Ended::Passed, "a calm run passes");
    named_gossip("nodes", cipher, members, span, &mut [per_second(span, &began)])
}

fn per_second(span: u64, began: &Stopwatch) -> f64 {
    span as f64 / 1e9 / began.elapsed().as_secs_f64()
}

/// `members` with the null cipher are the contender of T91; the other three are reported.
fn named_gossip(
    who: &str,
    cipher: Cipher,
    members: u32,
    span: u64,
    rounds: &mut [f64],
) -> Measured {
    let (seconds, name) = (span / SECOND, name_of(cipher));
    let contender = match (who, cipher) {
        ("members", Cipher::Null) => "world".to_owned(),
        _ => format!("{who}-{name}"),
    };
    let what = format!("{members} {who} gossip for {seconds} s, {name} cipher, virtual seconds");
    Measured::rate(format!("sim/gossip/{members}/{contender}"), what, rounds)
}

#[cfg(test)]
mod tests;
