//! The ring and foca under madsim. Build with `--cfg madsim`.

#[cfg(not(madsim))]
compile_error!("build with --cfg madsim: `cargo peers` does");

#[cfg(madsim)]
mod world {
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::process::ExitCode;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use madsim::net::UdpSocket;
    use madsim::runtime::{NodeHandle, Runtime};
    use madsim::time::TimeHandle;
    use peers::options::{Bench, Options};
    use peers::{DELAY, Measured, Net, PORT, Tally};

    struct Socket(UdpSocket);

    impl Socket {
        async fn bind() -> io::Result<Self> {
            let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
            Ok(Self(UdpSocket::bind(any).await?))
        }
    }

    impl Net for Socket {
        async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
            Ok(self.0.recv_from(buffer).await?.0)
        }

        async fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
            self.0.send_to(to, bytes).await
        }

        fn now(&self) -> Duration {
            TimeHandle::current().elapsed()
        }

        async fn sleep_until(&self, at: Duration) {
            madsim::time::sleep(at.saturating_sub(self.now())).await;
        }
    }

    fn address(member: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + member)
    }

    fn runtime(seed: u64) -> Runtime {
        let mut config = madsim::Config::default();
        config.net.send_latency = DELAY..DELAY + Duration::from_nanos(1);
        Runtime::with_seed_and_config(seed, config)
    }

    /// Makes the machine of a member.
    fn machine(runtime: &Runtime, member: u32) -> NodeHandle {
        runtime.create_node().ip(IpAddr::V4(address(member))).build()
    }

    fn ring(seed: u64, in_flight: u32, datagrams: u64) -> Measured {
        let runtime = runtime(seed);
        let tally = Arc::new(Tally::default());
        for member in 0..3 {
            let tally = tally.clone();
            let tokens = if member == 0 { in_flight } else { 0 };
            let next = IpAddr::V4(address((member + 1) % 3));
            machine(&runtime, member).spawn(async move {
                let socket = Socket::bind().await.expect("the port is free");
                // Everyone must listen before the first token travels.
                madsim::time::sleep(Duration::from_millis(20)).await;
                peers::ring(socket, next, tokens, &tally).await.expect("the network is up");
            });
        }
        let start = Instant::now();
        let simulated = runtime.block_on(async {
            while tally.datagrams() < datagrams {
                madsim::time::sleep(Duration::from_millis(100)).await;
            }
            TimeHandle::current().elapsed()
        });
        Measured {
            peer: "madsim",
            bench: "ring",
            members: 3,
            in_flight,
            datagrams: tally.datagrams(),
            complete: 0,
            wall: start.elapsed(),
            simulated,
        }
    }

    fn gossip(seed: u64, members: u32, duration: Duration) -> Measured {
        let runtime = runtime(seed);
        let tally = Arc::new(Tally::default());
        for member in 0..members {
            let tally = tally.clone();
            machine(&runtime, member).spawn(async move {
                let socket = Socket::bind().await.expect("the port is free");
                madsim::time::sleep(Duration::from_millis(u64::from(member) * 20)).await;
                let seed_member = (member > 0).then(|| address(0));
                let random = seed << 32 | u64::from(member);
                peers::gossip(socket, address(member), seed_member, members, random, &tally)
                    .await
                    .expect("the network is up");
            });
        }
        let start = Instant::now();
        runtime.block_on(async { madsim::time::sleep(duration).await });
        Measured {
            peer: "madsim",
            bench: "gossip",
            members,
            in_flight: 0,
            datagrams: tally.datagrams(),
            complete: tally.complete(),
            wall: start.elapsed(),
            simulated: duration,
        }
    }

    pub(super) fn main() -> ExitCode {
        let options = match Options::of_program() {
            Ok(options) => options,
            Err(code) => return code,
        };
        match options.bench {
            Bench::Ring { in_flight, datagrams } => {
                for in_flight in in_flight {
                    ring(options.seed, in_flight, datagrams).print();
                }
            }
            Bench::Gossip { members, duration } => {
                gossip(options.seed, members, duration).print();
            }
        }
        ExitCode::SUCCESS
    }
}

#[cfg(madsim)]
fn main() -> std::process::ExitCode {
    world::main()
}
