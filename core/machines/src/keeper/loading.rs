//! How a keeper reads what there is: the newest sound snapshot, then the records after it (L30).
//!
//! ```text
//!   Listing ─► Restoring (newest first) ──sound──► Replaying ─► Loaded
//!                 │ unsound: the next older           ▲  │
//!                 └─ none left ───────────────────────┘  └─► Refused
//! ```

use std::collections::VecDeque;

use super::io::{Action, File, Folder, Listed, RefusedStart, Report};
use crate::cluster::ids::NodeId;
use crate::codec::Reader;
use crate::kernel::Kernel;
use crate::kernel::part::KernelPart;
use crate::ledger::fold::{Frame, Held, Unreadable};
use crate::ledger::journal::io::{DiskError, Op};
use crate::ledger::record;
use crate::ledger::recovery::io::{self as recovery, Entry, Head, Recovered};
use crate::ledger::recovery::{READ_BYTES, Recovery};
use crate::ledger::snapshot::{FileName, Refused, Restoring, Shelf, SnapshotHeader};
use crate::sometimes;

/// What happens while loading.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// The files of the folder that was asked for.
    Listed(Vec<Listed>),
    /// Bytes of a snapshot.
    Read(Vec<u8>),
    /// Bytes of a segment.
    Record(Op, Vec<u8>),
    /// An operation failed: the recovery's, or one of the snapshots'.
    Failed(Option<Op>, DiskError),
}

/// What is wanted, and what came of it.
#[derive(Clone, Debug)]
pub(super) enum Output {
    /// An operation on snapshots.
    Own(Action),
    /// An operation of the recovery.
    Recovery(Op, Action),
    /// The node must not start.
    Refused(Box<RefusedStart>),
    /// All is applied.
    Loaded(Box<Loaded>),
}

/// What there was.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) kernel: Kernel,
    pub(super) recovered: Recovered,
    pub(super) shelf: Shelf,
    pub(super) report: Report,
    /// Bytes of the records that were replayed.
    pub(super) bytes: u64,
}

/// A snapshot that is being read.
#[derive(Clone, Debug)]
struct Reading {
    record: u64,
    bytes: u64,
    offset: u64,
    restoring: Restoring,
    kernel: Kernel,
}

#[derive(Clone, Debug)]
enum Step {
    Listing,
    Restoring(Box<Reading>),
    Replaying { kernel: Box<Kernel>, recovery: Box<Recovery>, listing: bool },
    Finished,
}

/// The loading of one data folder.
#[derive(Clone, Debug)]
pub(super) struct Loading {
    node: NodeId,
    /// A kernel before its first event.
    empty: Kernel,
    step: Step,
    /// Snapshots that were not tried yet with their lengths, the newest last.
    rest: Vec<(u64, u64)>,
    shelf: Shelf,
    report: Report,
    bytes: u64,
    outputs: VecDeque<Output>,
}

impl Loading {
    pub(super) fn new(node: NodeId, empty: Kernel) -> Self {
        let list = Output::Own(Action::List(Folder::Snapshots));
        Self {
            node,
            empty,
            step: Step::Listing,
            rest: Vec::new(),
            shelf: Shelf::default(),
            report: Report::default(),
            bytes: 0,
            outputs: VecDeque::from([list]),
        }
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn handle(&mut self, input: Input) {
        match (&mut self.step, input) {
            (Step::Listing, Input::Listed(files)) => self.listed(&files),
            (Step::Listing, Input::Failed(_, error)) => {
                let folder = Folder::Snapshots;
                self.refuse(RefusedStart::Unreadable { folder, error });
            }
            (Step::Restoring(_), Input::Read(bytes)) => self.restore(&bytes),
            (Step::Restoring(_), Input::Failed(_, error)) => self.pass_over(error.to_string()),
            (Step::Replaying { recovery, listing, .. }, Input::Listed(files)) => {
                *listing = false;
                recovery.handle(recovery::Input::Listed(files));
                self.replay();
            }
            (Step::Replaying { recovery, .. }, Input::Record(op, bytes)) => {
                recovery.handle(recovery::Input::Read(op, bytes));
                self.replay();
            }
            (Step::Replaying { recovery, .. }, Input::Failed(Some(op), error)) => {
                recovery.handle(recovery::Input::Failed(op, error));
                self.replay();
            }
            (
                Step::Listing | Step::Restoring(_) | Step::Replaying { .. } | Step::Finished,
                Input::Listed(_) | Input::Read(_) | Input::Record(..) | Input::Failed(..),
            ) => {}
        }
    }

    fn refuse(&mut self, why: RefusedStart) {
        self.step = Step::Finished;
        self.outputs.push_back(Output::Refused(Box::new(why)));
    }

    fn listed(&mut self, files: &[Listed]) {
        self.shelf = Shelf::of(files.iter().map(|file| file.name.as_str()));
        for Listed { name, bytes } in files {
            match FileName::parse(name) {
                Some(FileName::Snapshot(record)) => self.rest.push((record, *bytes)),
                Some(FileName::Temporary(_)) => {}
                None => self.report.strangers.push(format!("snapshots/{name}")),
            }
        }
        self.rest.sort_unstable();
        self.try_next();
    }

    /// Reads the newest snapshot that was not tried yet; without one, all records.
    fn try_next(&mut self) {
        let Some((record, bytes)) = self.rest.pop() else {
            self.recover(self.empty.clone(), Head::default());
            return;
        };
        let restoring = Restoring::new(self.node, record);
        let kernel = self.empty.clone();
        let reading = Reading { record, bytes, offset: 0, restoring, kernel };
        self.step = Step::Restoring(Box::new(reading));
        self.read_on();
    }

    /// Asks for the next bytes of the snapshot, or ends with it.
    fn read_on(&mut self) {
        let Step::Restoring(reading) = &self.step else {
            return;
        };
        let (offset, left) = (reading.offset, reading.bytes.saturating_sub(reading.offset));
        if left == 0 {
            let read = reading.restoring.finish();
            return self.restored(read);
        }
        let file = File::Snapshot(FileName::Snapshot(reading.record));
        let bytes = left.min(READ_BYTES);
        self.outputs.push_back(Output::Own(Action::Read { file, offset, bytes }));
    }

    fn restore(&mut self, bytes: &[u8]) {
        let Step::Restoring(reading) = &mut self.step else {
            return;
        };
        if bytes.is_empty() {
            return self.pass_over("the file is shorter than the folder says".to_owned());
        }
        reading.offset += bytes.len() as u64;
        let mut part = Held::<KernelPart>(&mut reading.kernel);
        match reading.restoring.push(bytes, &mut [&mut part]) {
            Ok(()) => self.read_on(),
            Err(refused) => self.restored(Err(refused)),
        }
    }

    fn restored(&mut self, read: Result<SnapshotHeader, Refused>) {
        let Step::Restoring(reading) = &mut self.step else {
            return;
        };
        let record = reading.record;
        match read {
            Ok(header) => {
                let kernel = reading.kernel.clone();
                self.shelf.begin_with(record);
                self.report.snapshot = Some(record);
                self.recover(kernel, Head { record, hash: header.head });
            }
            Err(Refused::Unreadable(why)) => self.refuse(RefusedStart::Snapshot { record, why }),
            Err(refused @ (Refused::Foreign { .. } | Refused::Format { .. })) => {
                self.refuse(RefusedStart::Foreign { record, why: refused.to_string() });
            }
            Err(refused) => self.pass_over(refused.to_string()),
        }
    }

    /// The snapshot is of no use: an older one may be (L30).
    fn pass_over(&mut self, why: String) {
        sometimes!("keeper: a snapshot is passed over");
        if let Step::Restoring(reading) = &self.step {
            self.report.unsound.push((reading.record, why));
        }
        self.try_next();
    }

    fn recover(&mut self, kernel: Kernel, start: Head) {
        let recovery = Box::new(Recovery::new(self.node, start, READ_BYTES));
        self.step = Step::Replaying { kernel: Box::new(kernel), recovery, listing: true };
        self.replay();
    }

    /// Applies what the recovery hands out, until it wants something.
    fn replay(&mut self) {
        while let Step::Replaying { kernel, recovery, .. } = &mut self.step {
            match recovery.poll() {
                None => return,
                Some(recovery::Output::List { op }) => {
                    let action = Action::List(Folder::Journal);
                    self.outputs.push_back(Output::Recovery(op, action));
                }
                Some(recovery::Output::ReadAt { op, file, offset, bytes }) => {
                    let action = Action::Read { file: File::Journal(file), offset, bytes };
                    self.outputs.push_back(Output::Recovery(op, action));
                }
                Some(recovery::Output::Record(entry)) => match apply(kernel, &entry) {
                    Ok(()) => {
                        self.report.replayed += 1;
                        self.bytes += entry.body.len() as u64;
                    }
                    Err(why) => self.refuse(RefusedStart::Record { number: entry.number, why }),
                },
                Some(recovery::Output::Recovered(recovered)) => self.loaded(*recovered),
                Some(recovery::Output::Refused(refusal)) => {
                    self.refuse(RefusedStart::Journal(refusal));
                }
            }
        }
    }

    fn loaded(&mut self, recovered: Recovered) {
        let step = std::mem::replace(&mut self.step, Step::Finished);
        let Step::Replaying { mut kernel, .. } = step else {
            return;
        };
        let mut report = std::mem::take(&mut self.report);
        report.record = recovered.head.record;
        report.hash = recovered.head.hash;
        report.root = Some(kernel.root());
        report.events = kernel.last_event();
        report.torn = recovered.torn;
        report.strangers.extend(recovered.strangers.iter().map(|name| format!("journal/{name}")));
        let (kernel, shelf, bytes) = (*kernel, self.shelf.clone(), self.bytes);
        let loaded = Loaded { kernel, recovered, shelf, report, bytes };
        self.outputs.push_back(Output::Loaded(Box::new(loaded)));
    }
}

/// Applies the events of one record; all are read before the first is applied.
///
/// # Errors
///
/// [`Unreadable`]: the kernel is as it was.
pub(super) fn apply(kernel: &mut Kernel, entry: &Entry) -> Result<(), Unreadable> {
    let malformed = |why| Unreadable::Malformed { part: "record", version: 1, table: None, why };
    let mut reader = Reader::new(&entry.body);
    let mut events = Vec::new();
    for _ in 0..entry.count {
        let frame = Frame::take(&mut reader).map_err(malformed)?;
        events.push(frame.read::<KernelPart>()?);
    }
    record::padding(&mut reader).map_err(malformed)?;
    for event in &events {
        kernel.apply(event);
    }
    Ok(())
}
