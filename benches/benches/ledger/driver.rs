//! The journal over the production files, and the records that it is given.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant as Stopwatch;

use benches::workspace;
use host::files::Folder;
use host::world::LedgerFiles;
use machines::Instant;
use machines::cluster::ids::NodeId;
use machines::ledger::journal::Journal;
use machines::ledger::journal::io::{Config, Decision, Input, Limits, Output, Refused};
use machines::ledger::record::encoded_len;
use machines::ledger::recovery::io::Recovered;
use runtime::ledger::{Answer, Asked, of_journal};
use runtime::{Files, TaskId};
use tempfile::TempDir;

pub(crate) const NODE: NodeId = NodeId::from_bytes([7; 16]);
/// Bytes of events, with which a record has 304: 300, to the next multiple of 8.
pub(crate) const BODY: usize = 228;
/// Bytes of a record.
pub(crate) const RECORD: usize = encoded_len(BODY);

/// Makes a folder on the disk of the workspace: that of the system may be in memory.
pub(crate) fn folder() -> TempDir {
    let target = workspace().join("target");
    std::fs::create_dir_all(&target).expect("there is a folder for what is built");
    tempfile::Builder::new().prefix("bench-").tempdir_in(target).expect("it can be written")
}

/// Opens the production files in a folder.
pub(crate) fn files(folder: &Path) -> LedgerFiles {
    let folder = Folder::lock(folder).expect("the folder is ours");
    LedgerFiles::open(&folder).expect("the folder is ours")
}

/// A journal that runs.
pub(crate) struct Driver {
    files: LedgerFiles,
    journal: Journal,
    asked: BTreeMap<TaskId, Asked>,
    tasks: u64,
    start: Stopwatch,
    durable: u64,
    /// How often a sync made records durable.
    pub(crate) groups: u64,
}

impl Driver {
    /// Begins a journal in an empty folder, and waits until its spare segment is there, too.
    pub(crate) async fn open(folder: &Path) -> Self {
        let config = Config::new(Limits::STANDARD).expect("the standard limits are legal");
        let mut driver = Self {
            files: files(folder),
            journal: Journal::new(Instant::START, config, NODE, Recovered::default()),
            asked: BTreeMap::new(),
            tasks: 0,
            start: Stopwatch::now(),
            durable: 0,
            groups: 0,
        };
        driver.carry();
        driver.settle().await;
        driver
    }

    /// Appends one record of so many events, and returns its number.
    pub(crate) fn append(&mut self, count: u32, body: Vec<u8>) -> Result<u64, Refused> {
        let decision = Decision { time_ms: 1, count, body, frees: false };
        self.hand(Input::Append(decision))?;
        Ok(self.journal.appended())
    }

    /// Appends records, and does not wait.
    pub(crate) fn append_all(&mut self, records: u64) {
        for _ in 0..records {
            self.append(1, vec![7; BODY]).expect("there is room");
        }
    }

    pub(crate) fn appended(&self) -> u64 {
        self.journal.appended()
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Waits until one task has ended. Cancel safe.
    pub(crate) async fn step(&mut self) {
        let (id, result) = self.files.ended().await;
        let asked = self.asked.remove(&id).expect("it was asked for");
        let Answer::Journal(input) = asked.answer(result) else {
            panic!("only the journal asks: {asked:?}");
        };
        self.hand(input).expect("only records are refused");
    }

    /// Waits until records up to this one are durable.
    pub(crate) async fn until(&mut self, record: u64) {
        while self.durable < record {
            self.step().await;
        }
    }

    /// Waits until nothing is to be done.
    pub(crate) async fn settle(&mut self) {
        while !self.asked.is_empty() {
            self.step().await;
        }
    }

    fn hand(&mut self, input: Input) -> Result<(), Refused> {
        let taken = self.journal.handle(Instant::START + self.start.elapsed(), input);
        self.carry();
        taken
    }

    fn carry(&mut self) {
        while let Some(output) = self.journal.poll() {
            match of_journal(output) {
                Ok((asked, task)) => {
                    self.tasks += 1;
                    let id = TaskId(self.tasks);
                    self.asked.insert(id, asked);
                    self.files.submit(id, task);
                }
                Err(Output::Durable(head)) => {
                    self.durable = head.record;
                    self.groups += 1;
                }
                Err(other) => panic!("nothing fails here: {other:?}"),
            }
        }
    }
}
