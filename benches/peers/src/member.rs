//! One foca member over [`Net`]: its timers in a heap, its datagrams in its own task.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU32;
use std::time::Duration;

use foca::{AccumulatingRuntime, Config, Foca, NoCustomBroadcast, PostcardCodec, Timer};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::{Net, PORT, Tally};

type Id = SocketAddrV4;
type Member = Foca<Id, PostcardCodec, StdRng, NoCustomBroadcast>;

/// A timer of foca, ordered by time, then by request.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    at: Duration,
    nth: u64,
    timer: Timer<Id>,
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.nth).cmp(&(other.at, other.nth))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Runs a member of a cluster of `members` with foca's own LAN configuration (period 1 s, gossip
/// every 200 ms), joining through `seed`.
///
/// # Errors
///
/// The socket's.
pub async fn gossip<N: Net>(
    net: N,
    own: Ipv4Addr,
    seed: Option<Ipv4Addr>,
    members: u32,
    random: u64,
    tally: &Tally,
) -> io::Result<()> {
    let config = Config::new_lan(NonZeroU32::new(members).expect("a cluster has members"));
    let buffer = vec![0; config.max_packet_size.get()];
    let rng = StdRng::seed_from_u64(random);
    let mut foca: Member = Foca::new(Id::new(own, PORT), config, rng, PostcardCodec);
    let mut runtime = AccumulatingRuntime::new();
    let mut timers = BinaryHeap::new();
    let mut nth = 0;
    let mut complete = false;
    // madsim's receive is not cancel safe, so one call lives on until it is answered.
    let receiving = receive(&net, buffer);
    tokio::pin!(receiving);

    if let Some(seed) = seed {
        foca.announce(Id::new(seed, PORT), &mut runtime).expect("an announcement fits a packet");
    }
    loop {
        while let Some((to, bytes)) = runtime.to_send() {
            net.send(SocketAddr::V4(to), &bytes).await?;
        }
        let now = net.now();
        while let Some((after, timer)) = runtime.to_schedule() {
            nth += 1;
            timers.push(Reverse(Due { at: now + after, nth, timer }));
        }
        while runtime.to_notify().is_some() {}
        if !complete && foca.num_members() + 1 >= members as usize {
            complete = true;
            tally.knows_everyone();
        }

        let next = timers.peek().map_or(Duration::MAX, |Reverse(due)| due.at);
        let received = tokio::select! {
            biased;
            received = &mut receiving => Some(received?),
            () = sleep_until(&net, next) => None,
        };
        // foca reports what it cannot use (a stray answer, say); none of it matters.
        let _ = match received {
            Some((buffer, length)) => {
                tally.received();
                let handled = foca.handle_data(&buffer[..length], &mut runtime);
                receiving.set(receive(&net, buffer));
                handled
            }
            None => {
                let Reverse(due) = timers.pop().expect("only a timer ends the sleep");
                foca.handle_timer(due.timer, &mut runtime)
            }
        };
    }
}

async fn receive<N: Net>(net: &N, mut buffer: Vec<u8>) -> io::Result<(Vec<u8>, usize)> {
    let length = net.recv(&mut buffer).await?;
    Ok((buffer, length))
}

async fn sleep_until<N: Net>(net: &N, at: Duration) {
    match at {
        Duration::MAX => std::future::pending().await,
        at => net.sleep_until(at).await,
    }
}
