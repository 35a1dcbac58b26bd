//! Goal: each decorator does what it says, only where and while it is asked to (T62, T11).
//! Method: inner ports that note what reaches them; futures are polled by hand.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use machines::cluster::ids::Conn;
use machines::kernel::Time;
use machines::{Choices, Instant};
use proptest::prelude::*;
use runtime::{Clock, Disk, Happened, Network};

use super::*;

#[derive(Debug, Default)]
struct Wire {
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl Network for Wire {
    async fn next(&mut self) -> io::Result<Happened> {
        pending().await
    }

    fn ready(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn datagram(&mut self, to: SocketAddr, bytes: Vec<u8>) {
        self.sent.push((to, bytes));
    }

    fn dial(&mut self, _: Conn, _: SocketAddr) {}

    fn write(&mut self, _: Conn, _: Vec<u8>) {}

    fn close(&mut self, _: Conn) {}

    async fn finish(&mut self) {}
}

#[derive(Debug, Default)]
struct Platter {
    bytes: Vec<u8>,
    untold: VecDeque<()>,
}

impl Disk for Platter {
    async fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok((!self.bytes.is_empty()).then(|| self.bytes.clone()))
    }

    fn write(&mut self, offset: u64, bytes: Vec<u8>) {
        let offset = usize::try_from(offset).unwrap();
        self.bytes.resize(self.bytes.len().max(offset + bytes.len()), 0);
        self.bytes[offset..][..bytes.len()].copy_from_slice(&bytes);
        self.untold.push_back(());
    }

    async fn written(&mut self) -> io::Result<()> {
        match self.untold.pop_front() {
            Some(()) => Ok(()),
            None => pending().await,
        }
    }
}

/// True time, set by the test; a sleep that is not due stays pending.
#[derive(Clone, Debug, Default)]
struct Sundial(Arc<std::sync::atomic::AtomicU64>);

impl Sundial {
    fn set(&self, at: Instant) {
        self.0.store(at.as_nanos(), std::sync::atomic::Ordering::Relaxed);
    }
}

impl Clock for Sundial {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn wall(&self) -> Time {
        Time::from_millis(self.now().as_nanos() / 1_000_000)
    }

    async fn sleep_until(&self, at: Instant) {
        if self.now() < at {
            pending::<()>().await;
        }
    }
}

fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// Sends 0 … 1,999 to port 1 and returns what arrived there.
fn send(rates: LinkRates, seed: u64) -> (Vec<Vec<u8>>, u64) {
    let faults = Arc::new(Faults::default());
    let mut network = Flaky::new(Wire::default(), rates, Choices::new(seed), faults.clone());
    for number in 0..2_000_u16 {
        network.datagram(address(1), number.to_le_bytes().to_vec());
    }
    let arrived = network.inner.sent.into_iter().map(|(_, bytes)| bytes);
    (arrived.collect(), faults.struck())
}

fn numbers(range: std::ops::Range<u16>) -> Vec<Vec<u8>> {
    range.map(|number| number.to_le_bytes().to_vec()).collect()
}

#[test]
fn a_network_without_rates_carries_everything_as_it_is() {
    assert_eq!(send(LinkRates::default(), 1), (numbers(0..2_000), 0));
}

#[test]
fn losses_are_as_frequent_as_asked_and_the_rest_is_intact() {
    let loss = LinkRates { loss: 100, ..LinkRates::default() };
    let (arrived, struck) = send(loss, 1);
    assert!((150..250).contains(&struck), "{struck} of 2,000 at 10 %");
    assert_eq!(arrived.len() as u64, 2_000 - struck);
    assert!(arrived.iter().all(|bytes| bytes.len() == 2));
}

#[test]
fn duplicates_come_twice_and_nothing_is_missing() {
    let duplicate = LinkRates { duplicate: 100, ..LinkRates::default() };
    let (mut arrived, struck) = send(duplicate, 1);
    assert!(struck > 0);
    assert_eq!(arrived.len() as u64, 2_000 + struck);
    arrived.dedup();
    assert_eq!(arrived, numbers(0..2_000));
}

#[test]
fn a_reordered_datagram_comes_right_after_its_successor() {
    let reorder = LinkRates { reorder: 100, ..LinkRates::default() };
    let (arrived, struck) = send(reorder, 1);
    assert!(struck > 0);
    let number = |bytes: &Vec<u8>| u16::from_le_bytes([bytes[0], bytes[1]]);
    let swapped = arrived.windows(2).filter(|w| number(&w[0]) == number(&w[1]) + 1);
    let swapped = swapped.count() as u64;
    // The very last datagram, if held back, still waits for its successor.
    let waiting = struck - swapped;
    assert!(waiting <= 1, "{swapped} of {struck}");
    let mut sorted = arrived;
    sorted.sort_by_key(number);
    let last = if waiting == 1 { 1_999 } else { 2_000 };
    assert!(sorted == numbers(0..last));
}

#[test]
fn a_corrupted_datagram_differs_in_one_bit_or_is_shorter() {
    let corrupt = LinkRates { corrupt: 100, ..LinkRates::default() };
    let (arrived, struck) = send(corrupt, 1);
    let mut wrong = 0;
    for (bytes, sent) in arrived.iter().zip(numbers(0..2_000)) {
        if *bytes == sent {
            continue;
        }
        wrong += 1;
        let flipped: u32 = bytes.iter().zip(&sent).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert!((bytes.len() == 2 && flipped == 1) || (bytes.len() < 2 && flipped == 0));
    }
    assert!(wrong > 0);
    assert_eq!(wrong, struck);
}

#[test]
fn a_seed_decides_the_faults() {
    let rates = LinkRates { loss: 50, duplicate: 50, reorder: 50, corrupt: 50 };
    assert_eq!(send(rates, 7), send(rates, 7));
    assert_ne!(send(rates, 7), send(rates, 8));
}

#[test]
fn one_link_is_struck_and_the_other_is_not_and_healing_ends_it() {
    let faults = Arc::new(Faults::default());
    let bad = LinkRates { loss: 999, ..LinkRates::default() };
    let choices = Choices::new(1);
    let mut network = Flaky::new(Wire::default(), LinkRates::default(), choices, faults.clone())
        .link(address(2), bad);
    for _ in 0..100 {
        network.datagram(address(1), vec![1]);
        network.datagram(address(2), vec![2]);
    }
    let to = |port| move |(to, _): &&(SocketAddr, Vec<u8>)| *to == address(port);
    assert_eq!(network.inner.sent.iter().filter(to(1)).count(), 100);
    assert!(network.inner.sent.iter().filter(to(2)).count() < 10);

    faults.heal();
    let struck = faults.struck();
    network.inner.sent.clear();
    (0..100).for_each(|_| network.datagram(address(2), vec![2]));
    assert_eq!(network.inner.sent.len(), 100);
    assert_eq!(faults.struck(), struck);
}

#[test]
fn a_datagram_held_back_goes_out_when_faults_have_healed() {
    let faults = Arc::new(Faults::default());
    let reorder = LinkRates { reorder: 999, ..LinkRates::default() };
    let mut network = Flaky::new(Wire::default(), reorder, Choices::new(1), faults.clone());
    network.datagram(address(1), vec![1]);
    assert_eq!(network.inner.sent, []);
    faults.heal();
    network.datagram(address(1), vec![2]);
    assert_eq!(network.inner.sent, [(address(1), vec![2]), (address(1), vec![1])]);
}

#[test]
#[should_panic(expected = "no benign answer")]
fn a_rate_without_a_benign_answer_is_refused() {
    let always = DiskRates { torn: 1_000, lost_sync: 0 };
    Faulty::new(Platter::default(), always, Choices::new(1), Arc::default());
}

#[test]
fn a_torn_write_leaves_a_prefix_and_says_that_it_failed() {
    let torn = DiskRates { torn: 999, lost_sync: 0 };
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let faults = Arc::new(Faults::default());
        let mut disk = Faulty::new(Platter::default(), torn, Choices::new(seed), faults.clone());
        disk.write(0, vec![7; 16]);
        if faults.struck() == 1 {
            assert!(now(disk.written()).expect("it is told").is_err());
            let kept = now(disk.read()).unwrap().unwrap().unwrap_or_default();
            assert!(kept.len() < 16);
            assert!(kept.iter().all(|byte| *byte == 7));
            assert!(now(disk.written()).is_none(), "it is told once");
            lengths.insert(kept.len());
        }
    }
    assert!(lengths.len() > 5, "only {lengths:?} bytes were ever kept");
}

/// The port's contract: a file is made whole.
#[test]
fn a_torn_first_write_leaves_no_file_and_a_later_one_tears_it() {
    let torn = DiskRates { torn: 500, lost_sync: 0 };
    let (mut none, mut part) = (0, 0);
    for seed in 0..100 {
        let faults = Arc::new(Faults::default());
        let mut disk = Faulty::new(Platter::default(), torn, Choices::new(seed), faults.clone());
        assert_eq!(now(disk.read()).unwrap().unwrap(), None);
        disk.write(0, vec![7; 16]);
        if now(disk.written()).expect("it is told").is_err() {
            assert!(disk.inner.bytes.is_empty());
            none += 1;
            continue;
        }
        disk.write(16, vec![7; 16]);
        let _ = now(disk.written()).expect("it is told");
        part += usize::from((17..32).contains(&disk.inner.bytes.len()));
    }
    assert!(none > 20 && part > 10, "{none} without a file, {part} with a torn one");
}

#[test]
fn a_lost_sync_is_told_and_is_not_there_and_is_counted() {
    let lost = DiskRates { torn: 0, lost_sync: 500 };
    let faults = Arc::new(Faults::default());
    let mut disk = Faulty::new(Platter::default(), lost, Choices::new(1), faults.clone());
    for slot in 0..100 {
        disk.write(slot, vec![1]);
        assert!(now(disk.written()).expect("it is told").is_ok());
    }
    let there = disk.inner.bytes.iter().filter(|byte| **byte == 1).count() as u64;
    assert!(faults.broken() > 0);
    assert_eq!(there, 100 - faults.broken());
}

#[test]
fn a_disk_without_rates_tells_each_write_in_its_turn() {
    let rates = DiskRates::default();
    let mut disk = Faulty::new(Platter::default(), rates, Choices::new(1), Arc::default());
    assert!(now(disk.written()).is_none());
    disk.write(0, vec![1, 2]);
    disk.write(2, vec![3]);
    assert!(now(disk.written()).unwrap().is_ok());
    assert!(now(disk.written()).unwrap().is_ok());
    assert!(now(disk.written()).is_none());
    assert_eq!(disk.inner.bytes, [1, 2, 3]);
}

#[test]
fn a_fast_clock_gains_what_it_should() {
    let dial = Sundial::default();
    let clock = Skewed::new(dial.clone(), Arc::new(Skew::drifting(10_000)));
    dial.set(Instant::from_millis(100_000));
    assert_eq!(clock.now(), Instant::from_millis(101_000));
}

#[test]
fn a_clock_that_jumped_back_stands_still_until_it_has_caught_up() {
    let dial = Sundial::default();
    let skew = Arc::new(Skew::default());
    let clock = Skewed::new(dial.clone(), skew.clone());
    dial.set(Instant::from_millis(100));
    assert_eq!(clock.now(), Instant::from_millis(100));
    skew.jump_back(Duration::from_millis(30));
    dial.set(Instant::from_millis(120));
    assert_eq!(clock.now(), Instant::from_millis(100));
    dial.set(Instant::from_millis(140));
    assert_eq!(clock.now(), Instant::from_millis(110));
}

proptest! {
    /// Whatever a clock does, it never goes backwards, and whoever slept never wakes too early.
    #[test]
    fn a_skewed_clock_is_monotonic_and_never_early(
        drift in -10_000_i64..=10_000,
        steps in prop::collection::vec((0_u64..5_000, -3_000_i64..3_000), 1..50),
        wanted in 0_u64..100_000,
    ) {
        let dial = Sundial::default();
        let skew = Arc::new(Skew::drifting(drift));
        let clock = Skewed::new(dial.clone(), skew.clone());
        let wanted = Instant::from_millis(wanted);
        let (mut truth, mut last) = (0, Instant::START);
        for (wait, jump) in steps {
            truth += wait;
            dial.set(Instant::from_millis(truth));
            match u64::try_from(jump) {
                Ok(by) => skew.jump(Duration::from_millis(by)),
                Err(_) => skew.jump_back(Duration::from_millis(jump.unsigned_abs())),
            }
            let shown = clock.now();
            prop_assert!(shown >= last);
            last = shown;
            let woke = now(clock.sleep_until(wanted)).is_some();
            prop_assert_eq!(woke, clock.now() >= wanted);
        }
    }
}
