//! `ledger/recover` (L92): a journal of a million records is read again.
//!
//! | case | contender | does |
//! |---|---|---|
//! | `scan` | `recovery` | the machine, through the production files: reads, checks the chain |
//! | | `blake3-records` | BLAKE3 of each record, one after the other, from memory |
//! | | `blake3` | BLAKE3 of all of them in one piece, from memory |
//! | `start` | `keeper` | a whole start, until commands would be taken |
//! | | `scan-and-apply` | the scan, and its events applied; their decoding is not counted |

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;

use benches::interleaved::Case;
use benches::on_core::OnCore;
use benches::results::{Results, Unit};
use benches::rig::{Rig, operator, plain, user, worker};
use benches::{sized, turns};
use host::world::SystemClock;
use machines::codec::Reader;
use machines::keeper::io::Output as Kept;
use machines::keeper::{Keeper, KeeperParams};
use machines::kernel::config::KernelConfig;
use machines::kernel::event::Event;
use machines::kernel::ids::ProcessId;
use machines::kernel::part::KernelPart;
use machines::kernel::{CommandBody, Kernel};
use machines::ledger::fold::{Frame, put_event};
use machines::ledger::journal::io::{Config, Limits};
use machines::ledger::record::{HASH_BYTES, parse_head};
use machines::ledger::recovery::io::{Entry, Head, Output};
use machines::ledger::recovery::{READ_BYTES, Recovery};
use machines::ledger::segment::HEADER_BYTES;
use machines::ledger::snapshot::SnapshotConfig;
use runtime::ledger::{Answer, of_recovery};
use runtime::{Clock, Files, Noted, TaskId, Won, keep, keeper_handle, race};
use tokio::runtime::Runtime;

use super::driver::{Driver, NODE, files, folder};

/// Processes that live at a time while the journal is made.
const ALIVE: usize = 1_000;
/// Records that wait for the disk meanwhile, and records whose events are in memory.
const PIECE: u64 = 8_192;

/// Makes a journal of at least so many records: processes are submitted, scheduled, claimed,
/// terminated and removed.
async fn make(folder: &Path, records: u64) -> u64 {
    let mut driver = Driver::open(folder).await;
    let mut rig = Rig::new();
    let mut pids: Vec<ProcessId> = Vec::new();
    while driver.appended() < records {
        let by = user(driver.appended() % 97);
        let events = rig.run(&by, CommandBody::Submit(Box::new(plain())));
        let pid = events[0].subject.pid.clone().expect("the event is of the process");
        write(&mut driver, &events).await;
        write(&mut driver, &rig.run(&by, CommandBody::Schedule { pid: pid.clone() })).await;
        write(&mut driver, &rig.run(&worker(), CommandBody::NextRunnable)).await;
        pids.push(pid);
        if pids.len() > ALIVE {
            let pid = pids.remove(0);
            let (by, message) = (operator(), "enough".to_owned());
            let end = CommandBody::Terminate { pid: pid.clone(), message, force: true };
            write(&mut driver, &rig.run(&by, end)).await;
            write(&mut driver, &rig.run(&by, CommandBody::CleanupProcess { pid })).await;
        }
    }
    driver.until(driver.appended()).await;
    driver.settle().await;
    driver.appended()
}

async fn write(driver: &mut Driver, events: &[Event]) {
    let mut body = Vec::new();
    events.iter().for_each(|event| put_event::<KernelPart>(&mut body, event));
    let count = u32::try_from(events.len()).expect("few");
    driver.append(count, body).expect("there is room");
    if driver.appended() - driver.durable() > PIECE {
        driver.step().await;
    }
}

/// Reads all records, and gives them to `take`.
async fn scan(folder: &Path, mut take: impl FnMut(Entry)) {
    let mut files = files(folder);
    let mut recovery = Recovery::new(NODE, Head::default(), READ_BYTES);
    let mut waiting = None;
    loop {
        while let Some(output) = recovery.poll() {
            match of_recovery(output) {
                Ok((asked, task)) => {
                    files.submit(TaskId(1), task);
                    waiting = Some(asked);
                }
                Err(Output::Record(entry)) => take(entry),
                Err(Output::Recovered(_)) => return,
                Err(other) => panic!("the journal is sound: {other:?}"),
            }
        }
        let (_, result) = files.ended().await;
        let asked = waiting.take().expect("one task is out");
        let Answer::Recovery(input) = asked.answer(result) else {
            panic!("only recovery asks");
        };
        recovery.handle(input);
    }
}

/// Scans and applies; returns the time of both without that of the decoding.
async fn scan_and_apply(folder: &Path) -> Duration {
    let mut kernel = Kernel::new(KernelConfig::new()).expect("the configuration is legal");
    let (mut entries, mut decoding) = (Vec::new(), Duration::ZERO);
    let mut flush = |entries: &mut Vec<Entry>| {
        let start = OnCore::process();
        let events: Vec<Event> = entries.drain(..).flat_map(decoded).collect();
        decoding += start.elapsed();
        events.iter().for_each(|event| kernel.apply(event));
        let start = OnCore::process();
        drop(events);
        decoding += start.elapsed();
    };
    let start = OnCore::process();
    scan(folder, |entry| {
        entries.push(entry);
        if entries.len() as u64 == PIECE {
            flush(&mut entries);
        }
    })
    .await;
    flush(&mut entries);
    start.elapsed() - decoding
}

fn decoded(entry: Entry) -> Vec<Event> {
    let mut reader = Reader::new(&entry.body);
    let read = |_| {
        let frame = Frame::take(&mut reader).expect("it was encoded");
        frame.read::<KernelPart>().expect("it was encoded")
    };
    (0..entry.count).map(read).collect()
}

/// Starts a keeper on the folder, as a node does, until it would take commands.
async fn start(folder: &Path) -> Duration {
    let params = KeeperParams {
        node: NODE,
        kernel: KernelConfig::new(),
        journal: Config::new(Limits::STANDARD).expect("the standard limits are legal"),
        snapshots: SnapshotConfig::STANDARD,
        seed: [7; 32],
    };
    let (clock, files) = (SystemClock::start(), files(folder));
    let (_handle, asks) = keeper_handle();
    let (started, heard) = sync::reply();
    let mut started = Some(started);
    let start = OnCore::process();
    let keeper = Keeper::new(clock.now(), clock.wall(), params);
    let keeper = keeper.expect("the configuration is legal");
    let listen = move |noted: Noted<'_>| {
        if let Noted::Output(Kept::Started(report)) = noted {
            let told = started.take().map(|started| started.send(report.replayed));
            assert!(told.is_some_and(|sent| sent.is_ok()), "it starts once");
        }
    };
    match race(heard, keep(clock, files, keeper, asks, listen)).await {
        Won::Left(replayed) => assert!(replayed.is_ok_and(|count| count > 0), "all is read"),
        Won::Right(kept) => panic!("the journal is sound: {kept:?}"),
    }
    start.elapsed()
}

/// The records of one segment, without their hashes.
fn slices(bytes: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut at = HEADER_BYTES;
    while let Ok((length, _)) = parse_head(&bytes[at..]) {
        found.push(&bytes[at..at + length as usize - HASH_BYTES]);
        at += length as usize;
    }
    found
}

/// Returns the segments in memory, and how many bytes of records there are.
fn segments(folder: &Path) -> (Vec<Vec<u8>>, u64) {
    let list = fs::read_dir(folder.join("journal")).expect("it was made");
    let mut paths: Vec<PathBuf> = list.map(|entry| entry.expect("it is there").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    let all: Vec<_> = paths.iter().map(|path| records(path)).collect();
    let bytes = all.iter().map(|bytes| (bytes.len() - HEADER_BYTES) as u64).sum();
    (all, bytes)
}

/// Reads a segment up to the end of its last record.
fn records(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).expect("it is there");
    let lengths = slices(&bytes).into_iter().map(|record| record.len() + HASH_BYTES);
    let end = HEADER_BYTES + lengths.sum::<usize>();
    bytes.truncate(end);
    bytes
}

pub(crate) fn run(results: &mut Results) {
    let runtime = Runtime::new().expect("it needs nothing");
    let folder = folder();
    let records = runtime.block_on(make(folder.path(), u64::from(sized(1_000_000, 3_000))));
    let (all, bytes) = segments(folder.path());
    results.count("ledger/recover/record", bytes as f64 / records as f64, Unit::Bytes);
    Case::new("ledger/recover/scan", bytes, Unit::PerSecond)
        .timed("recovery", || {
            let (start, mut read) = (OnCore::process(), 0);
            runtime.block_on(scan(folder.path(), |_| read += 1));
            assert_eq!(read, records, "every record is there");
            start.elapsed()
        })
        .on_core("blake3-records", || {
            for record in all.iter().flat_map(|bytes| slices(bytes)) {
                black_box(blake3::hash(record));
            }
        })
        .on_core("blake3", || {
            for bytes in &all {
                black_box(blake3::hash(bytes));
            }
        })
        .measure(turns(5), results);
    drop(all);
    Case::new("ledger/recover/start", records, Unit::Seconds)
        .timed("keeper", || runtime.block_on(start(folder.path())))
        .timed("scan-and-apply", || runtime.block_on(scan_and_apply(folder.path())))
        .measure(turns(3), results);
}
