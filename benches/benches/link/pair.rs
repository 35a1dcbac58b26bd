//! `Links` machines that are joined by perfect streams, in memory.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use machines::cluster::config::LinksConfig;
use machines::cluster::identity::{Allowed, StaticKey};
use machines::cluster::ids::{
    Addr, Conn, Entropy, Incarnation, Instance, Life, NodeId, Process, Session,
};
use machines::cluster::links::io::{Input, Output};
use machines::cluster::links::{Links, LinksParams};
use machines::cluster::sealer::Suite;
use machines::cluster::wire::Frame;
use machines::{Choices, Instant};

/// All machines, and what is on its way between them.
pub(crate) struct Cluster {
    now: Instant,
    links: Vec<Links>,
    /// Computed once: an id costs a multiplication on the curve.
    ids: Vec<NodeId>,
    /// Both ends of each stream.
    streams: BTreeMap<(usize, Conn), (usize, Conn)>,
    under_way: VecDeque<(usize, Input)>,
    accepted: u64,
    drawn: u64,
    up: u32,
    /// User frames that arrived.
    pub(crate) frames: u64,
}

fn secret(place: u32) -> [u8; 32] {
    *blake3::hash(&place.to_le_bytes()).as_bytes()
}

fn key(place: u32) -> StaticKey {
    StaticKey::from_secret(secret(place))
}

/// Names the node at `place`.
pub(crate) fn node(place: u32) -> NodeId {
    NodeId::of_key(&key(place).public())
}

/// Tells where the node at `place` listens.
pub(crate) fn addr(place: u32) -> Addr {
    let ip = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + place);
    Addr::new(IpAddr::V4(ip), 7_400, 7_400).expect("10.0.0.0/8 is reachable")
}

impl Cluster {
    /// Makes `nodes` machines without a link.
    pub(crate) fn of(nodes: u32) -> Self {
        let allowed = Arc::new(Allowed::Any);
        let links = |place| {
            let config = LinksConfig::standard();
            let versions = config.version_min..=config.version_max;
            Links::new(LinksParams {
                config,
                cluster: "benches".to_owned(),
                schemas: versions.map(|version| (version, [9; 16])).collect(),
                key: key(place),
                instance: Instance(place.into()),
                life: Life { session: Session(1), incarnation: Incarnation(0) },
                addr: addr(place),
                allowed: allowed.clone(),
                choices: Choices::new(place.into()),
                suite: Suite::Noise,
            })
        };
        Self {
            now: Instant::from_millis(1_000),
            links: (0..nodes).map(links).collect(),
            ids: (0..nodes).map(node).collect(),
            streams: BTreeMap::new(),
            under_way: VecDeque::new(),
            accepted: 1,
            drawn: 0,
            up: 0,
            frames: 0,
        }
    }

    /// Brings up a link.
    pub(crate) fn connect(&mut self, from: u32, to: u32) {
        let before = self.up;
        let dial = Input::Dial { peer: self.ids[to as usize], addr: addr(to) };
        self.give(from, dial);
        assert_eq!(self.up, before + 2, "both ends are up");
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, from: u32, to: u32, frame: Frame) {
        let process = Some(Process { session: Session(1), instance: Instance(to.into()) });
        let to = self.ids[to as usize];
        self.give(from, Input::Frame { to, process, addr: None, frame });
    }

    /// Keeps the first machine, and drops everything else.
    pub(crate) fn into_hub(mut self) -> Links {
        self.links.swap_remove(0)
    }

    fn give(&mut self, to: u32, input: Input) {
        self.under_way.push_back((to as usize, input));
        while let Some((place, input)) = self.under_way.pop_front() {
            self.links[place].handle(self.now, input);
            while let Some(output) = self.links[place].poll() {
                self.carry(place, output);
            }
        }
    }

    fn carry(&mut self, place: usize, output: Output) {
        match output {
            Output::Dial { conn, addr } => self.dial(place, conn, addr.ip()),
            Output::Write { conn, bytes } => {
                let count = u32::try_from(bytes.len()).expect("small");
                if let Some((other, conn)) = self.streams.get(&(place, conn)).copied() {
                    self.under_way.push_back((other, Input::Bytes { conn, bytes }));
                }
                self.under_way.push_back((place, Input::Wrote { conn, count }));
            }
            Output::Draw { conn } => {
                let entropy = self.draw();
                self.under_way.push_back((place, Input::Drawn { conn, entropy }));
            }
            Output::LinkUp { .. } => self.up += 1,
            Output::Frame { .. } => self.frames += 1,
            Output::Close { .. }
            | Output::LinkDown { .. }
            | Output::Unreachable { .. }
            | Output::Rejected { .. }
            | Output::Refused { .. }
            | Output::NotTaken { .. }
            | Output::SessionBehind { .. } => panic!("nothing fails here: {output:?}"),
            Output::Datagram { .. } | Output::Message { .. } | Output::Written { .. } => {}
        }
    }

    fn dial(&mut self, place: usize, conn: Conn, ip: IpAddr) {
        let at = |other: &usize| addr(u32::try_from(*other).expect("few")).tcp().ip() == ip;
        let other = (0..self.links.len()).find(at).expect("only members are dialled");
        let accepted = Conn(self.accepted);
        self.accepted += 2;
        self.streams.insert((place, conn), (other, accepted));
        self.streams.insert((other, accepted), (place, conn));
        let entropy = self.draw();
        let source = addr(u32::try_from(place).expect("few")).tcp().ip();
        self.under_way.push_back((other, Input::Accepted { conn: accepted, source, entropy }));
        let entropy = self.draw();
        self.under_way.push_back((place, Input::Connected { conn, entropy }));
    }

    fn draw(&mut self) -> Entropy {
        self.drawn += 1;
        let mut bytes = [0; 64];
        let mut drawn = blake3::Hasher::new().update(&self.drawn.to_le_bytes()).finalize_xof();
        drawn.fill(&mut bytes);
        Entropy(bytes)
    }
}
