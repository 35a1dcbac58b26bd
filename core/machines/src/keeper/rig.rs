//! A keeper on a disk in memory: operations wait until they are completed, and a power cut leaves
//! what was synced.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::io::{Action, Call, Decided, File, Folder, Input, Listed, Op, Output, Reader, Report};
use super::{Keeper, KeeperParams};
use crate::Instant;
use crate::cluster::ids::NodeId;
use crate::kernel::config::KernelConfig;
use crate::kernel::dispatch::effect::Effect;
use crate::kernel::event::Event;
use crate::kernel::principal::Principal;
use crate::kernel::query::{Answer, Query};
use crate::kernel::stream::{Batch, Reading};
use crate::kernel::{Command, CommandBody, Refusal, Time};
use crate::ledger::journal::io::{Config, DiskError, Limits};
use crate::ledger::record::{self, Fields, Kind};
use crate::ledger::segment::Header;
use crate::ledger::snapshot::SnapshotConfig;

pub(super) const NODE: NodeId = NodeId::from_bytes([3; 16]);
const WALL: u64 = 1_700_000_000_000;

/// A disk whose files are what was written, and what a power cut leaves.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) now: BTreeMap<File, Vec<u8>>,
    synced: BTreeMap<File, Vec<u8>>,
    durable: BTreeMap<File, Vec<u8>>,
    /// Whether new bytes find no room.
    pub(super) full: bool,
    /// Whether every write and sync fails.
    pub(super) broken: bool,
}

impl Disk {
    pub(super) fn perform(&mut self, op: Op, action: Action) -> Input {
        match action {
            Action::List(folder) => {
                let files = self.now.iter().filter(|(file, _)| file.folder() == folder);
                let listed = |(file, bytes): (&File, &Vec<u8>)| Listed {
                    name: file.to_string(),
                    bytes: bytes.len() as u64,
                };
                Input::Listed(op, files.map(listed).collect())
            }
            Action::Read { file, offset, bytes } => {
                let Some(all) = self.now.get(&file) else {
                    return Input::Failed(op, DiskError::Device);
                };
                let start = usize::try_from(offset).unwrap().min(all.len());
                let end = (start + usize::try_from(bytes).unwrap()).min(all.len());
                Input::Read(op, all[start..end].to_vec())
            }
            Action::Create { .. } if self.full => Input::Failed(op, DiskError::NoSpace),
            Action::Write { .. } | Action::Sync(_) if self.broken => {
                Input::Failed(op, DiskError::Device)
            }
            Action::Create { file, zeros } => {
                self.now.insert(file, vec![0; usize::try_from(zeros).unwrap()]);
                Input::Done(op)
            }
            Action::Write { file, offset, bytes } => {
                let all = self.now.get_mut(&file).expect("written files were made");
                let start = usize::try_from(offset).unwrap();
                all.resize(all.len().max(start + bytes.len()), 0);
                all[start..start + bytes.len()].copy_from_slice(&bytes);
                Input::Done(op)
            }
            Action::Sync(file) => {
                let bytes = self.now[&file].clone();
                self.synced.insert(file, bytes.clone());
                if let Some(durable) = self.durable.get_mut(&file) {
                    *durable = bytes;
                }
                Input::Done(op)
            }
            Action::Rename { from, to } => {
                let bytes = self.now.remove(&from).expect("renamed files are there");
                self.now.insert(to, bytes);
                let bytes = self.synced.remove(&from).unwrap_or_default();
                self.synced.insert(to, bytes);
                Input::Done(op)
            }
            Action::Remove(file) => {
                self.now.remove(&file);
                self.synced.remove(&file);
                Input::Done(op)
            }
            Action::SyncDir(folder) => {
                self.durable.retain(|file, _| file.folder() != folder);
                let synced = self.synced.iter().filter(|(file, _)| file.folder() == folder);
                self.durable.extend(synced.map(|(file, bytes)| (*file, bytes.clone())));
                Input::Done(op)
            }
        }
    }

    /// The power goes: what was not synced is gone.
    pub(super) fn cut(&mut self) {
        self.now = self.durable.clone();
        self.synced = self.durable.clone();
    }
}

/// A keeper, its disk, and what it has told.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) keeper: Keeper,
    pub(super) disk: Disk,
    pub(super) now: Instant,
    waiting: VecDeque<(Op, Action)>,
    pub(super) replies: BTreeMap<Call, Result<Decided, Refusal>>,
    pub(super) answers: BTreeMap<Call, Result<Box<Answer>, Refusal>>,
    pub(super) events: u64,
    pub(super) reports: Vec<Report>,
    pub(super) told: Vec<String>,
    /// By how much the wall clock is ahead.
    pub(super) ahead: Duration,
    /// What readers were given, and have not been asked about yet.
    pub(super) batches: Vec<(Reader, Batch)>,
    pub(super) ended: Vec<(Reader, Refusal)>,
    pub(super) effects: Vec<Effect>,
    /// The last event that was told.
    pub(super) last: Option<Event>,
    calls: u64,
    starts: u8,
}

pub(super) fn params(starts: u8) -> KeeperParams {
    let limits = Limits {
        segment_bytes: 1 << 20,
        write_bytes_max: 1 << 16,
        unsynced_max: 1 << 18,
        journal_keep: Duration::ZERO,
    };
    KeeperParams {
        node: NODE,
        kernel: KernelConfig::new(),
        journal: Config::new(limits).unwrap(),
        snapshots: SnapshotConfig { records: 50, bytes: 1 << 30, retry: Duration::from_secs(10) },
        seed: [starts; 32],
    }
}

impl Rig {
    /// A keeper on an empty disk, running.
    pub(super) fn new() -> Self {
        let mut rig = Self::on(Disk::default());
        rig.settle();
        rig
    }

    /// A keeper that has just begun to read `disk`.
    pub(super) fn on(disk: Disk) -> Self {
        Self::with(disk, params(1))
    }

    /// The same, made otherwise.
    pub(super) fn with(disk: Disk, params: KeeperParams) -> Self {
        let now = Instant::from_millis(5);
        let keeper = Keeper::new(now, Time::from_millis(WALL), params).unwrap();
        let mut rig = Self {
            keeper,
            disk,
            now,
            waiting: VecDeque::new(),
            replies: BTreeMap::new(),
            answers: BTreeMap::new(),
            events: 0,
            reports: Vec::new(),
            told: Vec::new(),
            ahead: Duration::ZERO,
            batches: Vec::new(),
            ended: Vec::new(),
            effects: Vec::new(),
            last: None,
            calls: 0,
            starts: 1,
        };
        rig.drain();
        rig
    }

    /// The process ends, with or without the power, and starts again on what is there.
    pub(super) fn restart(&mut self, power: bool) {
        if !power {
            self.disk.cut();
        }
        self.waiting.clear();
        self.starts += 1;
        self.events = 0;
        self.keeper = Keeper::new(self.now, self.wall(), params(self.starts)).unwrap();
        self.drain();
        self.settle();
    }

    pub(super) fn wall(&self) -> Time {
        let ahead = u64::try_from(self.ahead.as_millis()).unwrap();
        Time::from_millis(WALL + ahead + self.now.as_nanos() / 1_000_000)
    }

    pub(super) fn input(&mut self, input: Input) {
        self.keeper.handle(self.now, self.wall(), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.keeper.poll() {
            match output {
                Output::Disk(op, action) => self.waiting.push_back((op, action)),
                Output::Reply(call, result) => {
                    let result = result.map_err(|refusal| *refusal);
                    assert!(self.replies.insert(call, result).is_none(), "one reply a call");
                }
                Output::Answer(call, answer) => {
                    let answer = answer.map_err(|refusal| *refusal);
                    assert!(self.answers.insert(call, answer).is_none(), "one answer a call");
                }
                Output::Events { first, events } => {
                    assert!(self.events == 0 || first == self.events + 1, "K331");
                    self.events = first + events.len() as u64 - 1;
                    self.last = events.last().cloned();
                }
                Output::Batch(reader, batch) => self.batches.push((reader, *batch)),
                Output::Effect(effect) => self.effects.push(effect),
                Output::Ended(reader, why) => self.ended.push((reader, *why)),
                Output::Started(report) => self.reports.push(*report),
                Output::Refused(why) => self.told.push(format!("refused: {why}")),
                Output::Snapshot { record } => self.told.push(format!("snapshot of {record}")),
                Output::SnapshotFailed { record, error } => {
                    self.told.push(format!("no snapshot of {record}: {error}"));
                }
                Output::Stalled(error) => self.told.push(format!("stalled: {error}")),
                Output::Stopped => self.told.push("stopped".to_owned()),
            }
        }
    }

    /// Counts the reads that wait for the disk.
    pub(super) fn reads(&self) -> usize {
        let is_read = |(_, action): &&(Op, Action)| matches!(action, Action::Read { .. });
        self.waiting.iter().filter(is_read).count()
    }

    /// Completes the oldest operation.
    pub(super) fn step(&mut self) -> bool {
        let Some((op, action)) = self.waiting.pop_front() else {
            return false;
        };
        let input = self.disk.perform(op, action);
        self.input(input);
        true
    }

    /// Completes all operations.
    pub(super) fn settle(&mut self) {
        while self.step() {}
    }

    /// Completes all operations but syncs.
    pub(super) fn write_all(&mut self) {
        let is_sync = |(_, action): &(Op, Action)| matches!(action, Action::Sync(_));
        while let Some(at) = self.waiting.iter().position(|waiting| !is_sync(waiting)) {
            let (op, action) = self.waiting.remove(at).expect("it was found there");
            let input = self.disk.perform(op, action);
            self.input(input);
        }
    }

    /// Lets time pass, deadline by deadline.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.keeper.deadline() <= end {
            self.now = self.now.max(self.keeper.deadline());
            self.input(Input::Tick);
            self.settle();
        }
        self.now = end;
        self.input(Input::Tick);
    }

    /// Gives a command, and does not wait.
    pub(super) fn send(&mut self, by: &Principal, body: CommandBody) -> Call {
        self.calls += 1;
        let call = Call(self.calls);
        let command = Box::new(Command { by: by.clone(), worker: None, rate: None, body });
        self.input(Input::Command { call, command });
        call
    }

    /// Asks, and does not wait.
    pub(super) fn ask(&mut self, by: &Principal, query: Query) -> Call {
        self.calls += 1;
        let call = Call(self.calls);
        let (by, query) = (Box::new(by.clone()), Box::new(query));
        self.input(Input::Query { call, by, query });
        call
    }

    /// Opens a reader, whose number is that of a call.
    pub(super) fn open(&mut self, by: &Principal, reading: Reading) -> Reader {
        self.calls += 1;
        let reader = Reader(self.calls);
        let (by, reading) = (Box::new(by.clone()), Box::new(reading));
        self.input(Input::Open { reader, by, reading });
        reader
    }

    /// Gives a command and waits for its reply.
    pub(super) fn say(&mut self, by: &Principal, body: CommandBody) -> Result<Decided, Refusal> {
        let call = self.send(by, body);
        self.settle();
        self.replies.remove(&call).expect("all operations are done")
    }

    pub(super) fn root(&self) -> String {
        self.keeper.kernel().expect("it runs").clone().root().to_string()
    }

    pub(super) fn folder(&self, folder: Folder) -> Vec<String> {
        let files = self.disk.now.keys().filter(|file| file.folder() == folder);
        files.map(ToString::to_string).collect()
    }
}

/// A segment with one record, of one event of this body.
pub(super) fn segment_with(body: Vec<u8>) -> Vec<u8> {
    let chain = [0; 32];
    let header = Header { node: NODE, first: 1, chain, created_ms: WALL };
    let mut bytes = header.to_bytes().to_vec();
    let fields = Fields { kind: Kind::Events, number: 1, time_ms: WALL, synced: 0, count: 1 };
    record::encode(&fields, &body, &chain, &mut bytes);
    bytes.resize(1 << 20, 0);
    bytes
}
