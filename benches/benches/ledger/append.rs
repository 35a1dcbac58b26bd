//! `ledger/append/{1,8,64,512}` (L90): durable records a second, so many to a sync.
//!
//! - `journal`: one by one, each record waits for the one before. In groups, a group is appended
//!   while the one before is made durable, so that each write and each sync is of one (L20).
//! - `journal-burst`: a group is appended to a journal at rest, which writes the first record at
//!   once (L20) and the rest with the next write: two syncs.
//! - `floor`: one write and one sync of the same bytes a group.
//! - `redb`, `fjall`: one durable transaction a group.

use std::time::{Duration, Instant};

use benches::interleaved::Case;
use benches::results::{Results, Unit};
use benches::{sized, turns};

use super::driver::{Driver, folder};
use super::stores::{FjallStore, Floor, RedbStore};

pub(crate) fn run(results: &mut Results) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs nothing");
    let folder = folder();
    let journal = folder.path().join("journal-bench");
    std::fs::create_dir(&journal).expect("the folder is empty");
    let mut driver = runtime.block_on(Driver::open(&journal));
    let mut floor = Floor::new(folder.path());
    let mut redb = RedbStore::new(folder.path());
    let mut fjall = FjallStore::new(folder.path());
    let groups = sized(50, 2);
    for size in [1, 8, 64, 512] {
        let operations = u64::from(groups) * size as u64;
        let driver = std::cell::RefCell::new(&mut driver);
        let stream = || runtime.block_on(stream(*driver.borrow_mut(), groups, size as u64));
        let burst = || runtime.block_on(burst(*driver.borrow_mut(), groups, size as u64));
        Case::new(&format!("ledger/append/{size}"), operations, Unit::PerSecond)
            .timed("journal", stream)
            .timed("journal-burst", burst)
            .whole("floor", || (0..groups).for_each(|_| floor.commit(size)))
            .whole("redb", || (0..groups).for_each(|_| redb.commit(size)))
            .whole("fjall", || (0..groups).for_each(|_| fjall.commit(size)))
            .measure(turns(9), results);
    }
}

/// Keeps one group waiting behind the one that is made durable; a single record is alone.
async fn stream(driver: &mut Driver, groups: u32, size: u64) -> Duration {
    driver.settle().await;
    let start = Instant::now();
    let end = driver.appended() + u64::from(groups) * size;
    let ahead = if size == 1 { 1 } else { 2 * size };
    while driver.durable() < end {
        let room = ahead.saturating_sub(driver.appended() - driver.durable());
        if driver.appended() < end && room >= size {
            driver.append_all(size);
        } else {
            driver.step().await;
        }
    }
    start.elapsed()
}

async fn burst(driver: &mut Driver, groups: u32, size: u64) -> Duration {
    driver.settle().await;
    let start = Instant::now();
    for _ in 0..groups {
        driver.append_all(size);
        driver.until(driver.appended()).await;
    }
    start.elapsed()
}
