//! Goal: each decorator does what it is told to do, and nothing when told nothing.
//! Method: ports that note what reaches them.

use std::future::{Future, pending, poll_fn, ready};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use super::*;

#[derive(Default)]
struct Notes {
    sent: Vec<Vec<u8>>,
    written: Vec<Vec<u8>>,
}

impl Network for Notes {
    async fn next(&mut self) -> io::Result<Happened> {
        pending().await
    }

    fn ready(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn datagram(&mut self, _: SocketAddr, bytes: Vec<u8>) {
        self.sent.push(bytes);
    }

    fn dial(&mut self, _: Conn, _: SocketAddr) {}

    fn write(&mut self, _: Conn, bytes: Vec<u8>) {
        self.written.push(bytes);
    }

    fn close(&mut self, _: Conn) {}
    async fn finish(&mut self) {}
}

impl Disk for Notes {
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn write(&mut self, _: u64, bytes: Vec<u8>) {
        self.written.push(bytes);
    }

    fn written(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        ready(Ok(()))
    }
}

fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn place(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Sends 1,000 numbered datagrams through `flaws`.
fn send(flaws: Flaws) -> Vec<Vec<u8>> {
    let mut flaky = Flaky::new(Notes::default(), flaws, Choices::new(7));
    for n in 0..1_000_u64 {
        flaky.datagram(place(1), n.to_le_bytes().to_vec());
    }
    flaky.network.sent
}

fn numbers() -> Vec<Vec<u8>> {
    (0..1_000_u64).map(|n| n.to_le_bytes().to_vec()).collect()
}

#[test]
fn without_flaws_everything_arrives_as_it_was_sent() {
    assert_eq!(send(Flaws::default()), numbers());
}

#[test]
fn about_as_many_are_lost_as_was_asked_for_and_only_on_that_link() {
    let mut flaws = Flaws { loss: 300, ..Flaws::default() };
    let arrived = send(flaws.clone()).len();
    assert!((600..800).contains(&arrived), "{arrived}");

    flaws.loss_to.insert(place(1), 0);
    assert_eq!(send(flaws).len(), 1_000);
}

#[test]
fn duplicates_come_on_top_and_reordering_loses_nothing() {
    let doubled = send(Flaws { duplication: 1_000, ..Flaws::default() });
    assert_eq!(doubled.len(), 2_000);

    let shuffled = send(Flaws { reordering: 200, ..Flaws::default() });
    let mut sorted = shuffled.clone();
    sorted.sort_by_key(|bytes| u64::from_le_bytes(bytes.as_slice().try_into().unwrap()));
    assert_ne!(shuffled, numbers());
    // One may still wait to be overtaken.
    assert!(sorted.len() >= 999);
    assert!(sorted.iter().all(|bytes| numbers().contains(bytes)));
}

#[test]
fn corruption_flips_one_bit() {
    let corrupt = send(Flaws { corruption: 1_000, ..Flaws::default() });
    for (sent, arrived) in numbers().iter().zip(&corrupt) {
        let flipped: u32 = sent.iter().zip(arrived).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(flipped, 1);
    }
}

#[test]
fn a_torn_write_is_shorter_and_fails() {
    let faults = DiskFaults { torn: 1_000, forgotten: 0 };
    let mut disk = Faulty::new(Notes::default(), faults, Choices::new(7));
    disk.write(0, vec![1; 16]);
    assert!(now(disk.written()).expect("it is told").is_err());
    assert!(disk.disk.written[0].len() < 16);
}

#[test]
fn a_forgotten_write_is_told_and_never_made() {
    let faults = DiskFaults { torn: 0, forgotten: 1_000 };
    let mut disk = Faulty::new(Notes::default(), faults, Choices::new(7));
    disk.write(0, vec![1; 16]);
    now(disk.written()).expect("it is told").unwrap();
    assert!(disk.disk.written.is_empty());
    assert!(now(disk.written()).is_none(), "it is told once");
}

/// A clock that stands where the test put it.
#[derive(Clone)]
struct Still(Arc<AtomicU64>);

impl Clock for Still {
    fn now(&self) -> Instant {
        // Relaxed: tests have one thread.
        Instant::from_millis(self.0.load(Relaxed))
    }

    async fn sleep_until(&self, at: Instant) {
        poll_fn(|_| match self.now() >= at {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

#[test]
fn a_skewed_clock_drifts_and_jumps_and_keeps_deadlines() {
    let right = Still(Arc::new(AtomicU64::new(0)));
    let jump = (Instant::from_millis(1_000), Duration::from_secs(5));
    let clock = Skewed::new(right.clone(), 500_000, vec![jump]);
    let mut deadline = Box::pin(clock.sleep_until(Instant::from_millis(600)));
    let mut later = Box::pin(clock.sleep_until(Instant::from_millis(4_000)));
    let mut cx = Context::from_waker(Waker::noop());

    for (millis, shown, first, second) in [
        (0, 0, false, false),
        (900, 450, false, false),
        (1_000, 5_500, true, true),
        (2_000, 6_000, true, true),
    ] {
        right.0.store(millis, Relaxed);
        assert_eq!(clock.now(), Instant::from_millis(shown));
        if millis <= 1_000 {
            assert_eq!(deadline.as_mut().poll(&mut cx).is_ready(), first, "{millis}");
            assert_eq!(later.as_mut().poll(&mut cx).is_ready(), second, "{millis}");
        }
    }
}

#[test]
fn a_fast_clock_reaches_a_deadline_early_by_the_right_one() {
    let right = Still(Arc::new(AtomicU64::new(0)));
    let clock = Skewed::new(right.clone(), 2_000_000, vec![]);
    let mut deadline = Box::pin(clock.sleep_until(Instant::from_millis(600)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(deadline.as_mut().poll(&mut cx).is_pending());
    right.0.store(299, Relaxed);
    assert!(deadline.as_mut().poll(&mut cx).is_pending());
    right.0.store(300, Relaxed);
    assert!(deadline.as_mut().poll(&mut cx).is_ready());
}
