//! `ledger/callers` (L91): 64 tasks, each waiting for its own acknowledgement, through a loop that
//! owns the journal as the keeper's does; beside the floor in groups of the size that results.

use std::cell::Cell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use benches::interleaved::Case;
use benches::results::{Results, Unit};
use benches::{sized, turns};
use runtime::{Won, race};
use sync::{Channel, Inbox, MailboxOptions};
use tokio::runtime::Runtime;

use super::driver::{BODY, Driver, folder};
use super::stores::Floor;

const CALLERS: u64 = 64;

/// What a caller asks of the loop.
enum Ask {
    Append(Vec<u8>, sync::Reply<()>),
    /// How many groups there were so far.
    Groups(sync::Reply<u64>),
}

/// Carries records to the journal, and tells each caller when its own is durable.
async fn serve(path: PathBuf, mut asks: Inbox<Ask>) {
    let mut driver = Driver::open(&path).await;
    let mut waiting: VecDeque<(u64, sync::Reply<()>)> = VecDeque::new();
    loop {
        match race(driver.step(), asks.receive()).await {
            Won::Left(()) => {}
            Won::Right(Some(Ask::Append(body, reply))) => {
                let record = driver.append(1, body).expect("there is room");
                waiting.push_back((record, reply));
            }
            Won::Right(Some(Ask::Groups(reply))) => drop(reply.send(driver.groups)),
            Won::Right(None) => return,
        }
        let durable = driver.durable();
        while let Some((_, reply)) = waiting.pop_front_if(|(record, _)| *record <= durable) {
            reply.send(()).expect("its caller waits");
        }
    }
}

async fn call(asks: Channel<Ask>, records: u32) {
    for _ in 0..records {
        let (reply, answer) = sync::reply();
        let sent = asks.send(Ask::Append(vec![7; BODY], reply));
        assert!(sent.is_ok(), "the loop is there");
        answer.await.expect("every record becomes durable");
    }
}

async fn groups(asks: &Channel<Ask>) -> u64 {
    let (reply, answer) = sync::reply();
    assert!(asks.send(Ask::Groups(reply)).is_ok(), "the loop is there");
    answer.await.expect("the loop is there")
}

/// Returns how long all took, and how many records there were to a sync.
fn callers(runtime: &Runtime, asks: &Channel<Ask>, records: u32) -> (Duration, f64) {
    runtime.block_on(async {
        let before = groups(asks).await;
        let start = Instant::now();
        let tasks = (0..CALLERS).map(|_| tokio::spawn(call(asks.clone(), records)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no caller panics");
        }
        let took = start.elapsed();
        let groups = groups(asks).await - before;
        (took, (CALLERS * u64::from(records)) as f64 / groups as f64)
    })
}

/// Commits so many records in groups of about this size; they need not divide evenly.
fn commit(floor: &mut Floor, records: u64, size: f64) {
    let (mut done, mut groups) = (0, 0.0);
    while done < records {
        groups += 1.0;
        let due = (groups * size).ceil().min(records as f64);
        let count = (0..records - done).take_while(|at| ((done + at) as f64) < due).count();
        floor.commit(count);
        done += count as u64;
    }
}

pub(crate) fn run(results: &mut Results) {
    let runtime = Runtime::new().expect("it needs nothing");
    let folder = folder();
    let journal = folder.path().join("journal-bench");
    std::fs::create_dir(&journal).expect("the folder is empty");
    let (asks, inbox) = sync::channel(MailboxOptions::unbounded());
    let serving = runtime.spawn(serve(journal, inbox));
    let mut floor = Floor::new(folder.path());
    let each = sized(50, 2);
    let records = CALLERS * u64::from(each);
    let size = Cell::new(CALLERS as f64 / 2.0);
    Case::new("ledger/callers", records, Unit::PerSecond)
        .timed("journal", || {
            let (took, resulted) = callers(&runtime, &asks, each);
            size.set(resulted);
            took
        })
        .whole("floor", || commit(&mut floor, records, size.get()))
        .measure(turns(9), results);
    results.count("ledger/callers/group", size.get(), Unit::Count);
    drop(asks);
    runtime.block_on(serving).expect("the loop ends with its callers");
}
