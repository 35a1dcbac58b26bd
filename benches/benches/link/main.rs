//! Links, names and routes: C167, C168, C169, C171, C172.
//!
//! What has a peer takes turns with it; what is absolute is measured by criterion; memory is
//! counted by the allocator.

mod pair;
mod peers;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant as Stopwatch};

use benches::counting::{Counting, allocations, bytes_of};
use benches::interleaved::Case;
use benches::results::{Results, Unit};
use benches::rounds;
use criterion::Criterion;
use machines::cluster::config::{LinksConfig, Profile, RegistryConfig, RouterConfig, SwimConfig};
use machines::cluster::identity::Allowed;
use machines::cluster::ids::{ActorId, CallId, Incarnation, Instance, Life, Ref, Session};
use machines::cluster::registry::{Registry, io as registry};
use machines::cluster::router::{Router, io as router};
use machines::cluster::sealer::{Key, Sealer, Suite};
use machines::cluster::swim::io::{MemberEvent, MemberEventKind, SyncStep};
use machines::cluster::swim::{Swim, SwimParams, io as swim};
use machines::cluster::wire::{
    Body, DatagramHeader, FRAGMENT_MAX, Frame, Hello, MemberRow, Message, Meta, Name, NameEntry,
    State, UserFrame,
};
use machines::codec::Wire as _;
use machines::{Choices, Instant};
use pair::{Cluster, addr, node};
use peers::RawCipher;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Handshakes of one run.
const HANDSHAKES: u64 = 20;
/// Records of one run.
const RECORDS: u64 = 200;
/// Datagrams of one run.
const PINGS: u64 = 20_000;
/// Rows of the table whose memory is counted.
const ROWS: u64 = 1_000;
/// Links whose memory is counted.
const LINKS: u64 = 32;
/// Names that a registry knows while one is looked up.
const NAMES: u64 = 1_000;
/// Sends between two confirmations.
const BURST: u64 = 64;

fn main() {
    let mut results = Results::default();
    handshake(&mut results);
    stream(&mut results);
    ping(&mut results);
    memory(&mut results);
    names(&mut results);
    results.save("link").expect("target/bars can be written");
    Criterion::default().final_summary();
}

/// C167: a handshake, both sides, from the dial to both ends up.
fn handshake(results: &mut Results) {
    let raw = peers::Identities::new();
    Case::new("link/handshake", HANDSHAKES, Unit::NanosecondsEach)
        .timed("links", || {
            let mut clusters: Vec<_> = (0..HANDSHAKES).map(|_| Cluster::of(2)).collect();
            let start = Stopwatch::now();
            for cluster in &mut clusters {
                cluster.connect(0, 1);
            }
            start.elapsed()
        })
        .whole("snow", || {
            for drawn in 0..HANDSHAKES {
                black_box(raw.handshake(drawn));
            }
        })
        .measure(rounds(9), results);
}

/// C168: messages that fill a record of 16 KiB, from one `Links` to another.
fn stream(results: &mut Results) {
    // The body of a Send has 28 bytes besides its payload.
    let payload = vec![7; FRAGMENT_MAX - 28];
    let frame = |number| {
        Frame::User(UserFrame::Send {
            number,
            to: ActorId(1),
            from: ActorId(1),
            tag: 0,
            payload: payload.clone(),
        })
    };
    let mut cluster = Cluster::of(2);
    cluster.connect(0, 1);
    let mut number = 1;
    let mut cipher = RawCipher::new(FRAGMENT_MAX + 8);
    Case::new("link/stream/16k", RECORDS, Unit::PerSecond)
        .timed("links", || {
            let frames: Vec<_> = (number..number + RECORDS).map(&frame).collect();
            number += RECORDS;
            let before = cluster.frames;
            let start = Stopwatch::now();
            for frame in frames {
                cluster.send(0, 1, frame);
            }
            let took = start.elapsed();
            assert_eq!(cluster.frames - before, RECORDS, "every frame arrived");
            took
        })
        .whole("chacha20poly1305", || (0..RECORDS).for_each(|_| cipher.seal_and_open()))
        .measure(rounds(9), results);
}

/// C169: a Ping, encoded, sealed, opened and decoded.
fn ping(results: &mut Results) {
    let (there, back) = ([1; 32], [2; 32]);
    let mut sender = Sealer::new(Suite::Noise, 0, Key::new(there), Key::new(back));
    let mut receiver = Sealer::new(Suite::Noise, 0, Key::new(back), Key::new(there));
    let mut datagram = Vec::with_capacity(256);
    let mut one = move |seq| {
        let message = Message { body: Body::Ping { seq }, entries: Vec::new() };
        datagram.clear();
        datagram.resize(DatagramHeader::LEN, 0);
        message.encode(&mut datagram);
        sender.seal_datagram(9, &mut datagram);
        let (header, _) = DatagramHeader::split(&datagram).expect("it was just made");
        let opened = receiver.open_datagram(header, &mut datagram).expect("it was just sealed");
        black_box(Message::from_bytes(opened).expect("it was just encoded"));
    };
    one(0);
    let (count, ()) = allocations(|| (0..1_000).for_each(&mut one));
    results.count("link/ping/allocations", count as f64, Unit::Count);

    let mut cipher = RawCipher::new(8);
    Case::new("link/ping", PINGS, Unit::NanosecondsEach)
        .whole("sealer", || (0..PINGS).for_each(|seq| one(u32::try_from(seq).unwrap_or(0))))
        .whole("chacha20poly1305", || (0..PINGS).for_each(|_| cipher.seal_and_open()))
        .measure(rounds(9), results);
}

/// C171: what a row and an idle link hold.
fn memory(results: &mut Results) {
    let row = |rows| bytes_of(table(rows));
    let each = (row(ROWS) - row(0)) as f64 / ROWS as f64;
    results.count("link/memory/row", each, Unit::Bytes);

    let hub = |links: u32| {
        let mut cluster = Cluster::of(links + 1);
        for peer in 1..=links {
            cluster.connect(0, peer);
        }
        bytes_of(cluster.into_hub())
    };
    let links = u32::try_from(LINKS).expect("few");
    let each = (hub(links) - hub(0)) as f64 / LINKS as f64;
    results.count("link/memory/idle-link", each, Unit::Bytes);
}

/// Makes a membership table with `rows` others in it.
fn table(rows: u64) -> Swim {
    let now = Instant::from_millis(1_000);
    let mut swim = Swim::new(
        now,
        SwimParams {
            config: SwimConfig::of(Profile::Lan),
            node: node(0),
            session: Session(1),
            addr: addr(0),
            meta: Meta::EMPTY,
            allowed: Arc::new(Allowed::Any),
            seeds: Vec::new(),
            choices: Choices::new(1),
        },
    );
    let mut give = |input| {
        swim.handle(now, input);
        while swim.poll().is_some() {}
    };
    let life = life(1);
    if rows > 0 {
        give(swim::Input::LinkUp { peer: node(1), life, addr: addr(1), seed: None });
        let row = |place| MemberRow {
            node: node(place),
            life,
            state: State::Alive,
            age_ms: 0,
            addr: Some(addr(place)),
            meta: Meta::EMPTY,
        };
        let rows = (1..=u32::try_from(rows).expect("few")).map(row).collect();
        give(swim::Input::Sync { from: node(1), step: SyncStep::First, rows });
    }
    assert_eq!(swim.members().count() as u64, rows + 1, "all rows were taken");
    swim
}

fn life(session: u32) -> Life {
    Life { session: Session(session), incarnation: Incarnation(0) }
}

fn joined(place: u32) -> MemberEvent {
    MemberEvent {
        index: 0,
        node: node(place),
        life: life(1),
        addr: Some(addr(place)),
        meta: Meta::EMPTY,
        kind: MemberEventKind::Join,
    }
}

/// A node that knows [`NAMES`] names of its peer, and is linked with it.
struct Known {
    now: Instant,
    registry: Registry,
    router: Router,
    names: Vec<Name>,
    calls: u64,
}

impl Known {
    fn new() -> Self {
        let now = Instant::from_millis(1_000);
        let (me, peer) = (node(0), node(1));
        let config = RegistryConfig::standard();
        let links = LinksConfig::standard();
        let mut known = Self {
            now,
            registry: Registry::new(me, Session(1), config, Choices::new(1)),
            router: Router::new(me, Session(1), RouterConfig::standard(), &links),
            names: Vec::new(),
            calls: 0,
        };
        known.registry(registry::Input::Member(joined(1)));
        for serial in 1..=u32::try_from(NAMES).expect("few") {
            let name = Name::new(&format!("service/worker-{serial}")).expect("printable");
            known.names.push(name.clone());
            let entry = NameEntry {
                name,
                owner: peer,
                session: Session(1),
                actor: Some(ActorId(serial.into())),
                version: 1,
                serial,
                ttl_ms: 3_600_000,
                age_ms: 0,
            };
            known.registry(registry::Input::Entry { from: peer, entry });
        }
        known.router(router::Input::Member(joined(1)));
        known.router(router::Input::Open(ActorId(1)));
        known.router(router::Input::LinkUp {
            peer,
            hello: Hello {
                life: life(1),
                instance: Instance(1),
                seen: 0,
                ordinal: 1,
                link_index: 1,
                addr: addr(1),
                version_max: 1,
            },
        });
        known
    }

    fn registry(&mut self, input: registry::Input) {
        self.registry.handle(self.now, input);
        while self.registry.poll().is_some() {}
    }

    fn router(&mut self, input: router::Input) -> Option<u64> {
        self.router.handle(self.now, input);
        let mut number = None;
        while let Some(output) = self.router.poll() {
            if let router::Output::Sent { result, .. } = output {
                number = Some(result.expect("there is room"));
            }
        }
        number
    }

    /// Makes the next look-up: its name is the caller's, and is not counted.
    fn question(&mut self) -> registry::Input {
        self.calls += 1;
        let place = usize::try_from(self.calls * 7_919 % NAMES).expect("few");
        registry::Input::Lookup { call: CallId(self.calls), name: self.names[place].clone() }
    }

    fn lookup(&mut self, question: registry::Input) -> Ref {
        self.registry.handle(self.now, question);
        let mut found = None;
        while let Some(output) = self.registry.poll() {
            if let registry::Output::Found { found: at, .. } = output {
                found = at;
            }
        }
        found.expect("every name has a live copy")
    }

    fn send(&mut self, to: Ref, payload: Vec<u8>) -> u64 {
        self.calls += 1;
        let send = router::Input::Send {
            call: CallId(self.calls),
            from: ActorId(1),
            to,
            tag: 1,
            payload,
            tracked: false,
        };
        self.router(send).expect("a send is answered at once")
    }

    /// The link wrote everything up to `number`, and the peer took it.
    fn confirm(&mut self, from: u64, upto: u64) {
        for number in from..=upto {
            let to = node(1);
            self.router(router::Input::Written { to, number });
        }
        let frame = UserFrame::Confirm { upto };
        self.router(router::Input::Frame { from: node(1), frame });
    }

    /// Looks a name up and queues a message, [`BURST`] times; only that is timed.
    fn burst(&mut self) -> Duration {
        let work: Vec<_> = (0..BURST).map(|_| (self.question(), vec![7; 64])).collect();
        let (mut first, mut last) = (u64::MAX, 0);
        let start = Stopwatch::now();
        for (question, payload) in work {
            let to = self.lookup(question);
            last = self.send(to, payload);
            first = first.min(last);
        }
        let took = start.elapsed();
        self.confirm(first, last);
        took
    }
}

/// C172: a look-up of a live copy; a look-up and a send that is queued.
fn names(results: &mut Results) {
    let mut known = Known::new();
    for _ in 0..100 {
        known.burst();
    }
    let questions: Vec<_> = (0..1_000).map(|_| known.question()).collect();
    let mut places = Vec::with_capacity(1_000);
    let (count, ()) = allocations(|| {
        for question in questions {
            places.push(known.lookup(question));
        }
    });
    results.count("names/lookup/allocations", count as f64, Unit::Count);

    let sends: Vec<_> = places.into_iter().take(48).map(|to| (to, vec![7; 64])).collect();
    let (count, ()) = allocations(|| {
        for (to, payload) in sends {
            black_box(known.send(to, payload));
        }
    });
    results.count("names/send/allocations", count as f64, Unit::Count);

    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    let mut known = Known::new();
    criterion.bench_function("names/lookup/time", |bencher| {
        bencher.iter_custom(|iterations| {
            let questions: Vec<_> = (0..iterations.min(4_096)).map(|_| known.question()).collect();
            let mut took = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let batch = left.min(questions.len() as u64);
                let asked = questions[..usize::try_from(batch).expect("few")].to_vec();
                let start = Stopwatch::now();
                for question in asked {
                    black_box(known.lookup(question));
                }
                took += start.elapsed();
                left -= batch;
            }
            took
        });
    });
    criterion.bench_function("names/resolve-and-send/time", |bencher| {
        bencher.iter_custom(|iterations| {
            let bursts = iterations.div_ceil(BURST);
            let took: Duration = (0..bursts).map(|_| known.burst()).sum();
            took.mul_f64(iterations as f64 / (bursts * BURST) as f64)
        });
    });
}
