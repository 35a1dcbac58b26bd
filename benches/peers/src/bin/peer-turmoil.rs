//! The ring and foca under turmoil, with a tick of 1 ms.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use peers::options::{Bench, Options};
use peers::{DELAY, Measured, Net, PORT, Tally};
use turmoil::Sim;
use turmoil::net::UdpSocket;

struct Socket {
    socket: UdpSocket,
    start: tokio::time::Instant,
}

impl Socket {
    async fn bind() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
        let start = tokio::time::Instant::now();
        Ok(Self { socket, start })
    }
}

impl Net for Socket {
    async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.socket.recv_from(buffer).await?.0)
    }

    async fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, to).await.map(drop)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep_until(&self, at: Duration) {
        tokio::time::sleep_until(self.start + at).await;
    }
}

fn simulation<'a>(seed: u64) -> Sim<'a> {
    turmoil::Builder::new()
        .tick_duration(Duration::from_millis(1))
        .simulation_duration(Duration::from_secs(1 << 30))
        .min_message_latency(DELAY)
        .max_message_latency(DELAY)
        .udp_capacity(4_096)
        .rng_seed(seed)
        .build()
}

fn name(member: u32) -> String {
    format!("member-{member}")
}

/// turmoil hands out addresses in the order of the look-ups.
fn addresses(sim: &Sim<'_>, members: u32) -> Vec<Ipv4Addr> {
    let address = |member| match sim.lookup(name(member)) {
        IpAddr::V4(address) => address,
        IpAddr::V6(address) => panic!("turmoil gives IPv4 addresses by default, not {address}"),
    };
    (0..members).map(address).collect()
}

fn ring(seed: u64, in_flight: u32, datagrams: u64) -> turmoil::Result<Measured> {
    let mut sim = simulation(seed);
    let tally = Rc::new(Tally::default());
    let addresses = addresses(&sim, 3);
    for member in 0..3 {
        let tally = tally.clone();
        let tokens = if member == 0 { in_flight } else { 0 };
        let next = IpAddr::V4(addresses[(member as usize + 1) % 3]);
        sim.host(name(member), move || {
            let tally = tally.clone();
            async move {
                let socket = Socket::bind().await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                peers::ring(socket, next, tokens, &tally).await?;
                Ok(())
            }
        });
    }
    let start = Instant::now();
    while tally.datagrams() < datagrams {
        sim.step()?;
    }
    Ok(Measured {
        peer: "turmoil",
        bench: "ring",
        members: 3,
        in_flight,
        datagrams: tally.datagrams(),
        complete: 0,
        wall: start.elapsed(),
        simulated: sim.elapsed(),
    })
}

fn gossip(seed: u64, members: u32, duration: Duration) -> turmoil::Result<Measured> {
    let mut sim = simulation(seed);
    let tally = Rc::new(Tally::default());
    let addresses = addresses(&sim, members);
    for member in 0..members {
        let tally = tally.clone();
        let (own, first) = (addresses[member as usize], addresses[0]);
        sim.host(name(member), move || {
            let tally = tally.clone();
            async move {
                let socket = Socket::bind().await?;
                tokio::time::sleep(Duration::from_millis(u64::from(member) * 20)).await;
                let seed_member = (member > 0).then_some(first);
                let random = seed << 32 | u64::from(member);
                peers::gossip(socket, own, seed_member, members, random, &tally).await?;
                Ok(())
            }
        });
    }
    let start = Instant::now();
    while sim.elapsed() < duration {
        sim.step()?;
    }
    Ok(Measured {
        peer: "turmoil",
        bench: "gossip",
        members,
        in_flight: 0,
        datagrams: tally.datagrams(),
        complete: tally.complete(),
        wall: start.elapsed(),
        simulated: duration,
    })
}

fn main() -> ExitCode {
    let options = match Options::of_program() {
        Ok(options) => options,
        Err(code) => return code,
    };
    let seed = options.seed;
    let measured: turmoil::Result<Vec<Measured>> = match options.bench {
        Bench::Ring { in_flight, datagrams } => {
            in_flight.into_iter().map(|n| ring(seed, n, datagrams)).collect()
        }
        Bench::Gossip { members, duration } => gossip(seed, members, duration).map(|m| vec![m]),
    };
    match measured {
        Ok(measured) => {
            measured.iter().for_each(Measured::print);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
