//! Measures the simulator itself (T90, T92). The peers are measured in `benches/`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use machines::cluster::config::{ClusterConfig, Profile};

use crate::clients::Work;
use crate::guest::{Cipher, Guest};
use crate::net::Conditions;
use crate::ring::{Ring, RingKind};
use crate::world::{Setup, World};

/// One measurement.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measured {
    /// What was measured.
    pub what: String,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
}

const MS: u64 = 1_000_000;

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
        plain: Conditions {
            delay_min: MS,
            delay_span: MS,
            ..Conditions::default()
        },
        ties: true,
        plan: Arc::default(),
        work: Work::default(),
        config: Arc::new(ClusterConfig::of(Profile::Lan, "bench")),
        cipher,
        kind,
    }
}

/// Simulated datagrams per wall second on a ring of three, with 1 and with 64 in flight (T90).
#[must_use]
pub fn ring(span: Duration) -> Vec<Measured> {
    [1, 64].map(|in_flight| ring_of(in_flight, span)).to_vec()
}

fn ring_of(in_flight: u32, span: Duration) -> Measured {
    let kind = RingKind {
        in_flight,
        period: 0,
        streams: false,
    };
    let mut world = World::new(
        Arc::new(calm::<Ring>(3, u64::MAX, Cipher::Null, kind)),
        Vec::new(),
    );
    let began = Instant::now();
    while began.elapsed() < span {
        for _ in 0..10_000 {
            world.step();
        }
    }
    Measured {
        what: format!("ring of 3, {in_flight} in flight"),
        value: world.events() as f64 / began.elapsed().as_secs_f64(),
        unit: "datagrams/s",
    }
}

/// Time of an empty run: three nodes join, one virtual second (T92).
#[must_use]
pub fn seeds<G: Guest>(kind: &G::Kind, cipher: Cipher, span: Duration) -> Measured {
    let began = Instant::now();
    let mut runs = 0_u64;
    while began.elapsed() < span {
        let setup = Setup {
            seed: runs,
            ..calm::<G>(3, 1_000 * MS, cipher, kind.clone())
        };
        let outcome = World::new(Arc::new(setup), Vec::new()).run();
        assert_eq!(
            outcome.ended,
            crate::world::Ended::Passed,
            "an empty run passes"
        );
        runs += 1;
    }
    let name = match cipher {
        Cipher::Real => "real",
        Cipher::Null => "null",
    };
    Measured {
        what: format!("empty run of 3 nodes and 1 virtual second, {name} cipher"),
        value: began.elapsed().as_secs_f64() * 1e6 / runs as f64,
        unit: "µs/run",
    }
}

/// Member-seconds of a quiet cluster simulated per second, membership alone (C170).
#[must_use]
pub fn gossip() -> Vec<Measured> {
    let measured = |members| Measured {
        what: format!("{members} members gossiping, membership alone"),
        value: crate::swim_only::bench(members, Duration::from_secs(60)) as f64,
        unit: "member-seconds/s",
    };
    [100, 1_000].map(measured).to_vec()
}
