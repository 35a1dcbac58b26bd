//! A journal on a simulated disk, and an oracle that knows what was appended and acknowledged.
//!
//! Every check is a sentence in `Err`: a saboteur must end in one, honest code never.

pub(super) mod disk;

use std::sync::Arc;
use std::time::Duration;

use super::journal::Journal;
use super::journal::io::{Config, Decision, DiskError, Input, Limits, Op, Output, Refused};
use super::record::{self, Frame, Kind};
use super::recovery::Recovery;
use super::recovery::io::{self as recovery, Entry, Head, Recovered, Refusal};
use super::segment::File;
use crate::Instant;
use crate::cluster::ids::NodeId;
use disk::{Disk, Outcome, Taken};

pub(super) const NODE: NodeId = NodeId::from_bytes([7; 16]);

/// A few sectors to a segment, so that it turns over often.
pub(super) const SMALL: Limits = Limits {
    segment_bytes: 4_096,
    write_bytes_max: 1_024,
    unsynced_max: 3_000,
    journal_keep: Duration::ZERO,
};

/// A defect put in on purpose (the last column of section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saboteur {
    /// L70: tell of a record as durable when it is written.
    AcknowledgeAtWrite,
    /// L70: take the name of a segment for durable without a sync of the folder.
    SkipFolderSync,
    /// L70: take for durable what can be read after the end of the process.
    TrustWhatIsRead,
    /// L71: recover part of a record.
    RecoverSingleEvents,
    /// L74: cut everything off at the first bad record.
    TreatBadAsTorn,
    /// L75: sync the same file again after a failed sync.
    SyncAgain,
    /// L76: go on as if what did not fit had been written.
    DropWhatDidNotFit,
    /// L78: take everything.
    UnboundedBuffer,
}

#[derive(Clone, Debug)]
struct Flight {
    output: Output,
    op: Op,
    /// What a sync of a file takes along.
    taken: Option<Taken>,
    /// How many changes of names a sync of the folder takes along.
    namings: usize,
}

/// See the file's header.
#[derive(Clone, Debug)]
pub(super) struct Rig {
    pub(super) disk: Disk,
    pub(super) journal: Journal,
    pub(super) now: Instant,
    flights: Vec<Flight>,
    /// What was appended, by number; index 0 is record 1.
    bodies: Arc<Vec<Vec<u8>>>,
    /// The last record that was told to be durable.
    pub(super) acknowledged: Head,
    /// What a durable snapshot shows.
    pub(super) snapshot: Head,
    config: Config,
    saboteur: Option<Saboteur>,
    /// There is room for new files.
    pub(super) room: bool,
    pub(super) stalled: bool,
    pub(super) stopped: bool,
    /// Operations begun so far.
    pub(super) operations: u64,
}

impl Rig {
    pub(super) fn new(limits: &Limits, saboteur: Option<Saboteur>) -> Self {
        let mut used = limits.clone();
        if saboteur == Some(Saboteur::UnboundedBuffer) {
            used.unsynced_max = 1 << 40;
        }
        let config = Config::unchecked(used);
        let now = Instant::from_millis(5);
        let journal = Journal::new(now, config.clone(), NODE, Recovered::default());
        let mut rig = Self {
            disk: Disk::default(),
            journal,
            now,
            flights: Vec::new(),
            bodies: Arc::default(),
            acknowledged: Head::default(),
            snapshot: Head::default(),
            config,
            saboteur,
            room: true,
            stalled: false,
            stopped: false,
            operations: 0,
        };
        rig.drain();
        rig
    }

    fn time_ms(&self) -> u64 {
        1_000_000 + self.now.as_nanos() / 1_000_000
    }

    /// Appends a record of `length` bytes that no other one has.
    pub(super) fn append(&mut self, length: usize, frees: bool) -> Result<(), Refused> {
        let number = self.bodies.len() as u64 + 1;
        let mut body = vec![number.to_le_bytes()[0] | 1; length.max(9)];
        body[1..9].copy_from_slice(&(number << 20 | self.operations).to_le_bytes());
        let decision = Decision { time_ms: self.time_ms(), count: 1, body: body.clone(), frees };
        let taken = self.journal.handle(self.now, Input::Append(decision));
        if taken.is_ok() {
            Arc::make_mut(&mut self.bodies).push(body);
        }
        assert_eq!(self.journal.appended(), self.bodies.len() as u64);
        self.drain();
        taken
    }

    pub(super) fn input(&mut self, input: Input) {
        self.journal.handle(self.now, input).expect("only a record is refused");
        self.drain();
    }

    pub(super) fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
        self.input(Input::Tick);
    }

    /// A snapshot of what is durable was made.
    pub(super) fn take_snapshot(&mut self) {
        self.snapshot = self.acknowledged;
        let (record, time_ms) = (self.snapshot.record, self.time_ms());
        self.input(Input::Covered { record, time_ms });
    }

    fn drain(&mut self) {
        while let Some(output) = self.journal.poll() {
            let op = match &output {
                Output::Create { op, .. }
                | Output::Write { op, .. }
                | Output::Sync { op, .. }
                | Output::Rename { op, .. }
                | Output::Remove { op, .. }
                | Output::SyncDir { op } => *op,
                Output::Durable(head) => {
                    assert!(head.record >= self.acknowledged.record || self.saboteur.is_some());
                    self.acknowledged = *head;
                    continue;
                }
                Output::Stalled(_) => {
                    self.stalled = true;
                    continue;
                }
                Output::Stopped => {
                    self.stopped = true;
                    continue;
                }
            };
            self.operations += 1;
            let mut taken = None;
            if let Output::Sync { file, .. } = &output {
                taken = Some(self.disk.begin_sync(*file));
            }
            self.flights.push(Flight { output, op, taken, namings: self.disk.pending() });
        }
    }

    /// Lists what is out.
    pub(super) fn out(&self) -> Vec<&Output> {
        self.flights.iter().map(|flight| &flight.output).collect()
    }

    /// Lets one operation that is out end well, unless there is no room for it.
    pub(super) fn complete(&mut self, nth: usize) {
        if self.flights.is_empty() {
            return;
        }
        let flight = self.flights.remove(nth % self.flights.len());
        let no_room = !self.room && matches!(flight.output, Output::Create { .. });
        let input = match no_room {
            true => Input::Failed(flight.op, DiskError::NoSpace),
            false => self.perform(flight),
        };
        self.input(input);
    }

    fn perform(&mut self, flight: Flight) -> Input {
        let op = flight.op;
        match flight.output {
            Output::Create { file, bytes, .. } => self.disk.create(file, bytes),
            Output::Write { file, offset, bytes, .. } => {
                self.disk.write(file, offset, &bytes);
                if self.saboteur == Some(Saboteur::AcknowledgeAtWrite) {
                    self.acknowledge_all_in(&bytes);
                }
                return Input::Wrote(op);
            }
            Output::Sync { .. } => {
                self.disk.sync(flight.taken.expect("a sync takes sectors along"));
                return Input::Synced(op);
            }
            Output::Rename { from, to, .. } => self.disk.rename(from, to),
            Output::Remove { file, .. } => self.disk.remove(file),
            Output::SyncDir { .. } if self.saboteur == Some(Saboteur::SkipFolderSync) => {}
            Output::SyncDir { .. } => {
                self.disk.sync_dir(flight.namings, &mut Outcome::All.coin());
            }
            Output::Durable(_) | Output::Stalled(_) | Output::Stopped => unreachable!(),
        }
        Input::Done(op)
    }

    fn acknowledge_all_in(&mut self, mut bytes: &[u8]) {
        while let Ok(frame) = Frame::parse(bytes) {
            if frame.fields.kind == Kind::Events {
                let record = frame.fields.number.max(self.acknowledged.record);
                self.acknowledged = Head { record, hash: frame.stored() };
            }
            bytes = &bytes[frame.bytes().len()..];
        }
    }

    /// Lets one operation that is out fail, having done part of its work.
    pub(super) fn fail(&mut self, nth: usize, error: DiskError, outcome: Outcome) {
        if self.flights.is_empty() {
            return;
        }
        let flight = self.flights.remove(nth % self.flights.len());
        let op = flight.op;
        let mut coin = outcome.coin();
        let mut input = Input::Failed(op, error);
        match &flight.output {
            Output::Create { file, bytes, .. } if coin.toss() => {
                self.disk.create(*file, bytes / 2);
            }
            Output::Write { file, offset, bytes, .. } => {
                self.disk.write_partly(*file, *offset, bytes, &mut coin);
                let drops = self.saboteur == Some(Saboteur::DropWhatDidNotFit);
                if drops && error == DiskError::NoSpace {
                    input = Input::Wrote(op);
                }
            }
            Output::Sync { file, .. } => {
                let taken = flight.taken.expect("a sync takes sectors along");
                self.disk.sync_partly(taken, &mut coin);
                let segment = matches!(file, File::Segment(_));
                if segment && self.saboteur == Some(Saboteur::SyncAgain) {
                    let taken = self.disk.begin_sync(*file);
                    self.disk.sync(taken);
                    input = Input::Synced(op);
                }
            }
            Output::Rename { .. } | Output::Remove { .. } if coin.toss() => {
                let _ = self.perform(flight);
            }
            Output::SyncDir { .. } => self.disk.sync_dir(flight.namings, &mut coin),
            Output::Create { .. } | Output::Rename { .. } | Output::Remove { .. } => {}
            Output::Durable(_) | Output::Stalled(_) | Output::Stopped => unreachable!(),
        }
        self.input(input);
    }

    /// Lets everything end well that is out or comes of it.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.flights.is_empty() {
                return;
            }
            self.complete(0);
        }
        panic!("the journal rests at some time: {:?}", self.out());
    }

    /// The process ends, and with `power` the machine too; what was out is done in part.
    pub(super) fn crash(&mut self, power: bool, outcome: Outcome) {
        let mut coin = outcome.coin();
        for flight in std::mem::take(&mut self.flights) {
            match &flight.output {
                Output::Write { file, offset, bytes, .. } => {
                    self.disk.write_partly(*file, *offset, bytes, &mut coin);
                }
                Output::Rename { .. } | Output::Remove { .. } | Output::Create { .. }
                    if coin.toss() =>
                {
                    let _ = self.perform(flight);
                }
                Output::Sync { .. } if coin.toss() => {
                    let taken = flight.taken.expect("a sync takes sectors along");
                    self.disk.sync_partly(taken, &mut coin);
                }
                Output::Create { .. }
                | Output::Sync { .. }
                | Output::Rename { .. }
                | Output::Remove { .. }
                | Output::SyncDir { .. } => {}
                Output::Durable(_) | Output::Stalled(_) | Output::Stopped => unreachable!(),
            }
        }
        if power {
            self.disk.crash(&mut coin);
        }
    }

    /// Reads everything from the last snapshot on.
    pub(super) fn read(&self) -> Result<(Vec<Entry>, Recovered), Refusal> {
        read(&self.disk, NODE, self.snapshot)
    }

    /// Lists the segments, and where the last record in each ends.
    pub(super) fn ends(&self) -> Vec<(File, usize)> {
        let mut ends = Vec::new();
        for file in self.disk.files() {
            let bytes = self.disk.read(file);
            let mut end = super::segment::HEADER_BYTES;
            let mut at = end;
            while let Ok(frame) = Frame::parse(&bytes[at..]) {
                at += frame.bytes().len();
                if frame.fields.kind == Kind::Events {
                    end = at;
                }
            }
            if matches!(file, File::Segment(_)) {
                ends.push((file, end));
            }
        }
        ends
    }

    /// Starts again on what the disk holds, and checks it: L70, L71, L74, L35.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        let (entries, recovered) = match self.read_as_sabotaged() {
            Ok(found) => found,
            Err(refusal) => return Err(format!("L74: refused after honest faults: {refusal}")),
        };
        if self.saboteur.is_none() {
            let again = self.read().map_err(|refusal| format!("L35: {refusal}"))?;
            if again != (entries.clone(), recovered.clone()) {
                return Err("L35: a second recovery finds something else".to_owned());
            }
        }
        self.check(&entries, &recovered)?;
        let head = recovered.head;
        if head.record < self.bodies.len() as u64 {
            let kept = usize::try_from(head.record).expect("small");
            Arc::make_mut(&mut self.bodies).truncate(kept);
        }
        self.journal = Journal::new(self.now, self.config.clone(), NODE, recovered);
        (self.stalled, self.stopped) = (false, false);
        self.drain();
        Ok(())
    }

    fn read_as_sabotaged(&mut self) -> Result<(Vec<Entry>, Recovered), Refusal> {
        let mut found = self.read();
        if self.saboteur == Some(Saboteur::TreatBadAsTorn)
            && let Err(Refusal::Corrupt { file, offset, .. }) = found
        {
            let from = usize::try_from(offset).expect("small");
            self.disk.rot(file, |bytes| bytes[from..].fill(0));
            for later in self.disk.files() {
                if matches!(later, File::Segment(_)) && later > file {
                    self.disk.remove(later);
                }
            }
            found = self.read();
        }
        let (mut entries, mut recovered) = found?;
        if self.saboteur == Some(Saboteur::TrustWhatIsRead) {
            recovered.durable = recovered.head.record;
            recovered.tail = None;
        }
        if self.saboteur == Some(Saboteur::RecoverSingleEvents)
            && let Some(last) = entries.last_mut()
        {
            last.body = last.body[..last.body.len() / 2].to_vec().into();
        }
        Ok((entries, recovered))
    }

    /// L70: everything acknowledged is there. L71: what is there is a prefix, in whole records.
    pub(super) fn check(&self, entries: &[Entry], found: &Recovered) -> Result<(), String> {
        let (head, acknowledged) = (found.head.record, self.acknowledged.record);
        if head < acknowledged {
            return Err(format!("L70: record {acknowledged} was acknowledged, {head} is the last"));
        }
        if head > self.bodies.len() as u64 {
            return Err(format!("L71: record {head} was never appended"));
        }
        let expected = self.snapshot.record + 1..=head;
        if !entries.iter().map(|entry| entry.number).eq(expected) {
            return Err("L71: not all records, or not in order".to_owned());
        }
        for entry in entries {
            let body = &self.bodies[usize::try_from(entry.number).expect("small") - 1];
            let whole = entry.body.len() == body.len().next_multiple_of(8);
            if !whole || !entry.body.starts_with(body) {
                return Err(format!("L71: record {} is not what was appended", entry.number));
            }
        }
        if entries.iter().any(|entry| entry.number == acknowledged)
            && entries.iter().all(|entry| entry.hash != self.acknowledged.hash)
        {
            return Err("L13: the acknowledged head has another hash".to_owned());
        }
        Ok(())
    }

    /// L78: what is in memory is what is not durable, and has its bound.
    pub(super) fn bounded(&self, limits: &Limits) -> Result<(), String> {
        let durable = usize::try_from(self.journal.durable()).expect("small");
        let bodies = self.bodies[durable..].iter();
        let held: usize = bodies.map(|body| record::encoded_len(body.len())).sum();
        if held as u64 != self.journal.unsynced() {
            return Err(format!("L78: {held} bytes are said to be {}", self.journal.unsynced()));
        }
        if held as u64 > limits.unsynced_max + 2 * limits.write_bytes_max {
            return Err(format!("L78: {held} bytes are held"));
        }
        Ok(())
    }

    /// Lets time pass until everything is durable, there being room: L76.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.room = true;
        for _ in 0..4 {
            self.settle();
            self.wait(Duration::from_millis(1_100));
        }
        self.settle();
        if self.stalled {
            return Ok(());
        }
        if self.journal.room(false).is_err() {
            return Err(format!("L76: {:?} though there is room", self.journal.room(false)));
        }
        match self.journal.durable() == self.bodies.len() as u64 {
            true => Ok(()),
            false => Err("L76: there is room, and not all is durable".to_owned()),
        }
    }
}

/// Recovers what a disk holds after `start`.
pub(super) fn read(
    disk: &Disk,
    node: NodeId,
    start: Head,
) -> Result<(Vec<Entry>, Recovered), Refusal> {
    let mut machine = Recovery::new(node, start, 700);
    let mut entries = Vec::new();
    let mut outputs = Vec::new();
    loop {
        while let Some(output) = machine.poll() {
            outputs.push(output);
        }
        assert!(!outputs.is_empty(), "recovery goes on: {machine:?}");
        for output in std::mem::take(&mut outputs) {
            match output {
                recovery::Output::List { .. } => {
                    machine.handle(recovery::Input::Listed(disk.list()));
                }
                recovery::Output::ReadAt { op, file, offset, bytes } => {
                    let from = usize::try_from(offset).expect("small");
                    let to = from + usize::try_from(bytes).expect("small");
                    let bytes = disk.read(file)[from..to].to_vec();
                    machine.handle(recovery::Input::Read(op, bytes));
                }
                recovery::Output::Record(entry) => entries.push(entry),
                recovery::Output::Recovered(found) => return Ok((entries, *found)),
                recovery::Output::Refused(refusal) => return Err(refusal),
            }
        }
    }
}
