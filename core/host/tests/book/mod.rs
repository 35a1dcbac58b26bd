//! A ledger as a node writes it: the real kernel, journal and snapshot writer on real files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::Failure;
use host::files::Folder;
use host::world::LedgerFiles;
use machines::Instant;
use machines::cluster::ids::NodeId;
use machines::codec::Reader;
use machines::kernel::config::KernelConfig;
use machines::kernel::ids::UserId;
use machines::kernel::part::KernelPart;
use machines::kernel::principal::{Principal, Role};
use machines::kernel::{At, Command, CommandBody, Kernel, Time};
use machines::ledger::fold::{Frame, Held, put_event};
use machines::ledger::journal::Journal;
use machines::ledger::journal::io::{Config, Decision, Input, Limits, Output};
use machines::ledger::record;
use machines::ledger::recovery::io::{self as recovery, Head, Recovered};
use machines::ledger::recovery::{READ_BYTES, Recovery};
use machines::ledger::segment::{File, HEADER_BYTES};
use machines::ledger::snapshot::{
    FileName, FrozenState, Input as Taking, Shelf, SnapshotConfig, SnapshotWriter,
};
use runtime::ledger::{Answer, Asked, of_journal, of_recovery, of_snapshots};
use runtime::{Files, TaskId};
use tempfile::TempDir;

pub(crate) const NODE: NodeId = NodeId::from_bytes([7; 16]);
const START_MS: u64 = 1_750_000_000_000;

/// See the file's header.
pub(crate) struct Book {
    machines: Option<Machines>,
    pub(crate) kernel: Kernel,
    /// By record, from 0: its hash, and the state root after it.
    pub(crate) heads: Vec<(Head, String)>,
    folder: TempDir,
}

struct Machines {
    journal: Journal,
    writer: SnapshotWriter,
    files: LedgerFiles,
    asked: BTreeMap<TaskId, Asked>,
    tasks: u64,
    now: Instant,
    durable: Head,
    stopped: bool,
    current: Option<u64>,
    _lock: Folder,
}

impl Book {
    pub(crate) fn new() -> Self {
        let mut kernel = Kernel::new(KernelConfig::new()).unwrap();
        let heads = vec![(Head::default(), kernel.root().to_string())];
        let folder = tempfile::tempdir().unwrap();
        let mut book = Self { machines: None, kernel, heads, folder };
        book.open();
        book
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn segment(&self, first: u64) -> PathBuf {
        self.path().join("journal").join(File::Segment(first).to_string())
    }

    pub(crate) fn snapshot_file(&self, record: u64) -> PathBuf {
        self.path().join("snapshots").join(FileName::Snapshot(record).to_string())
    }

    pub(crate) fn last(&self) -> u64 {
        self.heads.len() as u64 - 1
    }

    /// Starts as a node does: lock, recover, open a segment. Checks what was recovered.
    pub(crate) fn open(&mut self) {
        let lock = locked(self.path());
        let mut files = LedgerFiles::open(&lock).unwrap();
        let (recovered, replayed) = recover(&mut files);
        assert_eq!(recovered.head.record, self.last());
        assert_eq!(replayed, self.heads[self.heads.len() - 1].1, "L72");
        let limits = Limits { segment_bytes: 1 << 20, ..Limits::STANDARD };
        let durable = Head { record: recovered.durable, hash: [0; 32] };
        let now = Instant::from_millis(5);
        let journal = Journal::new(now, Config::new(limits).unwrap(), NODE, recovered);
        let shelf = Shelf::default();
        let writer = SnapshotWriter::new(SnapshotConfig::STANDARD, shelf, durable.record);
        self.machines = Some(Machines {
            journal,
            writer,
            files,
            asked: BTreeMap::new(),
            tasks: 0,
            now,
            durable,
            stopped: false,
            current: None,
            _lock: lock,
        });
        self.machines().settle();
    }

    fn machines(&mut self) -> &mut Machines {
        self.machines.as_mut().expect("the ledger is open")
    }

    /// Appends records, each a start of the kernel, and waits until all are durable.
    pub(crate) fn append(&mut self, records: u64) {
        for _ in 0..records {
            let number = self.last() + 1;
            let user = UserId::parse("user", "node").unwrap();
            let by = Principal::new(user, &[Role::Node]);
            let body = CommandBody::Start { config: Box::new(KernelConfig::new()) };
            let at = At { now: Time::from_millis(START_MS + number), nonce: [1; 16] };
            let events =
                self.kernel.execute(at, &Command { by, worker: None, rate: None, body }).unwrap();
            let mut body = Vec::new();
            events.iter().for_each(|event| put_event::<KernelPart>(&mut body, event));
            let count = u32::try_from(events.len()).unwrap();
            let time_ms = START_MS + number;
            let decision = Decision { time_ms, count, body, frees: false };
            let root = self.kernel.root().to_string();
            let machines = self.machines();
            machines.journal.handle(machines.now, Input::Append(decision)).unwrap();
            machines.settle();
            let durable = machines.durable;
            assert_eq!(durable.record, number, "all is durable at rest");
            self.heads.push((durable, root));
        }
    }

    /// Appends bytes that are no events of a part that anyone knows.
    pub(crate) fn append_raw(&mut self, body: Vec<u8>) {
        let number = self.last() + 1;
        let decision = Decision { time_ms: START_MS + number, count: 1, body, frees: false };
        let machines = self.machines();
        machines.journal.handle(machines.now, Input::Append(decision)).unwrap();
        machines.settle();
        let durable = machines.durable;
        self.heads.push((durable, String::new()));
    }

    /// Writes a snapshot of the state after the last record.
    pub(crate) fn snapshot(&mut self) {
        let (head, _) = self.heads[self.heads.len() - 1].clone();
        let mut held = Held::<KernelPart>(&mut self.kernel);
        let frozen = FrozenState::of(NODE, head.record, head.hash, &mut [&mut held]);
        let machines = self.machines();
        machines.writer.handle(machines.now, Taking::Begin(frozen)).unwrap();
        machines.settle();
        assert_eq!(machines.current, Some(head.record));
    }

    /// Stops cleanly, with a synced marker (L16).
    pub(crate) fn stop(&mut self) {
        let machines = self.machines();
        machines.journal.handle(machines.now, Input::Stop).unwrap();
        machines.settle();
        assert!(machines.stopped);
        self.machines = None;
    }

    /// Ends without a marker, as a crash of the process does.
    pub(crate) fn crash(&mut self) {
        self.machines = None;
    }

    /// Lists where the records stand: segment, record, offset, length.
    pub(crate) fn places(&self) -> Vec<(u64, u64, usize, usize)> {
        let mut firsts: Vec<u64> = fs::read_dir(self.path().join("journal"))
            .unwrap()
            .filter_map(|entry| match File::parse(entry.unwrap().file_name().to_str()?)? {
                File::Segment(first) => Some(first),
                File::Spare(_) => None,
            })
            .collect();
        firsts.sort_unstable();
        let mut places = Vec::new();
        for first in firsts {
            let bytes = fs::read(self.segment(first)).unwrap();
            let mut at = HEADER_BYTES;
            while let Ok(frame) = record::Frame::parse(&bytes[at..]) {
                let length = frame.bytes().len();
                if frame.fields.kind == record::Kind::Events {
                    places.push((first, frame.fields.number, at, length));
                }
                at += length;
            }
        }
        places
    }

    /// Damages the body of a record, wherever it stands first.
    pub(crate) fn rot(&self, number: u64) -> (u64, usize) {
        let place = self.places().into_iter().find(|place| place.1 == number);
        let (first, _, at, _) = place.expect("it is there");
        let mut bytes = fs::read(self.segment(first)).unwrap();
        bytes[at + 50] ^= 0x10;
        fs::write(self.segment(first), bytes).unwrap();
        (first, at)
    }
}

impl Machines {
    /// Carries everything until nothing is out.
    fn settle(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        loop {
            self.carry();
            if self.asked.is_empty() {
                return;
            }
            let (id, result) = runtime.block_on(self.files.ended());
            self.now = self.now + Duration::from_micros(10);
            let result = Ok(result.unwrap_or_else(|fault| panic!("{fault}")));
            match self.asked.remove(&id).unwrap().answer(result) {
                Answer::Journal(input) => self.journal.handle(self.now, input).unwrap(),
                Answer::Snapshots(input) => self.writer.handle(self.now, input).unwrap(),
                Answer::Recovery(_) => unreachable!("recovery is over"),
            }
        }
    }

    fn carry(&mut self) {
        while let Some(output) = self.journal.poll() {
            match of_journal(output) {
                Ok(asked) => self.submit(asked),
                Err(Output::Durable(head)) => {
                    self.durable = head;
                    self.writer.handle(self.now, Taking::Durable(head.record)).unwrap();
                }
                Err(Output::Stopped) => self.stopped = true,
                Err(other) => panic!("{other:?}"),
            }
        }
        while let Some(output) = self.writer.poll() {
            match of_snapshots(output) {
                Ok(asked) => self.submit(asked),
                Err(machines::ledger::snapshot::Output::Current(header)) => {
                    self.current = Some(header.record);
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    fn submit(&mut self, (asked, task): (Asked, runtime::Task)) {
        self.tasks += 1;
        let id = TaskId(self.tasks);
        self.asked.insert(id, asked);
        self.files.submit(id, task);
    }
}

/// Recovers from record 1 over the port, and returns the state root that comes out.
fn recover(files: &mut LedgerFiles) -> (Recovered, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut kernel = Kernel::new(KernelConfig::new()).unwrap();
    let mut recovery = Recovery::new(NODE, Head::default(), READ_BYTES);
    loop {
        let mut asked = None;
        while let Some(output) = recovery.poll() {
            match of_recovery(output) {
                Ok((who, task)) => {
                    files.submit(TaskId(0), task);
                    asked = Some(who);
                }
                Err(recovery::Output::Record(entry)) => {
                    let mut reader = Reader::new(&entry.body);
                    for _ in 0..entry.count {
                        let frame = Frame::take(&mut reader).unwrap();
                        kernel.apply(&frame.read::<KernelPart>().unwrap());
                    }
                }
                Err(recovery::Output::Recovered(found)) => {
                    return (*found, kernel.root().to_string());
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        let (_, result) = runtime.block_on(files.ended());
        match asked.unwrap().answer(result) {
            Answer::Recovery(input) => recovery.handle(input),
            Answer::Journal(_) | Answer::Snapshots(_) => unreachable!("recovery asked"),
        }
    }
}

/// Locks `path`. A command that another test starts holds, from its fork until its exec, all that
/// this process has open, and so a lock that was given up a moment ago.
fn locked(path: &Path) -> Folder {
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        match Folder::lock(path) {
            Err(Failure::FolderInUse { .. }) if std::time::Instant::now() < patience => {
                std::thread::yield_now();
            }
            held => return held.unwrap(),
        }
    }
}
