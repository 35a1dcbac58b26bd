//! One process of the ledger alone: recovery, journal and snapshots around a small fold.
//!
//! ```text
//!           list, read        newest that holds          all records
//!   start ─────────► Shelving ─────────────────► Scanning ──────────► Up ⟲ decide, append
//!                       └── none can be read ──────┴── refusal ──► Refused
//! ```
//!
//! The parts are the production machines; what stands here is only how they are put together, with
//! places for saboteurs of the ledger's promises ([`Turn`]).

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use machines::Instant;
use machines::cluster::ids::NodeId;
use machines::codec::Reader;
use machines::ledger::fold::{Fold, Frame, Held, PartState};
use machines::ledger::journal::io::{self as journal, Decision, DiskError, Limits, Op};
use machines::ledger::journal::{self as journals, Journal};
use machines::ledger::record;
use machines::ledger::recovery::io::{self as recovery, Entry, Head, Listed, Refusal};
use machines::ledger::recovery::{READ_BYTES, Recovery};
use machines::ledger::root::StateRoot;
use machines::ledger::snapshot::{self as snapshots, FileName, FrozenState, Restoring, Shelf};
use machines::ledger::snapshot::{SnapshotConfig, SnapshotWriter};

use super::io::{Decided, Guest, Input, Number, Output, Recovered};
use super::notes::{self, Event, Notes, NotesPart, Request};
use super::writers::Writers;
use crate::files::{Answer, Failure, Operation};
use crate::scenario::Kept;

/// Whose journal it is.
pub const NODE: NodeId = NodeId::from_bytes([7; 16]);

/// A promise of the ledger that is broken on purpose (ledger.md, section 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// L70: a record counts as durable when it is written.
    AcknowledgesAtWrite,
    /// L71: of the last record, only the first event is recovered.
    RecoversSingleEvents,
    /// L72: the second table is left out of snapshots.
    LeavesTableOut,
    /// L73: replies are given when the decision is made.
    RepliesAtApply,
    /// L74: whatever cannot be read is taken for torn.
    TakesAllForTorn,
    /// L75: a failed sync is tried again on the same file.
    SyncsAgain,
    /// L76: what did not fit is taken for written.
    DropsWhatDidNotFit,
    /// L77: segments go before the snapshot has its name.
    RemovesTooEarly,
    /// L77: segments go while the next one may lose its name.
    SyncsAnotherFolder,
    /// L78: no end of what waits for the disk.
    TakesEverything,
    /// L79: the lock is not looked at.
    IgnoresLock,
}

/// How a process is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of the journal.
    pub journal: journals::io::Config,
    /// Of snapshots.
    pub snapshots: SnapshotConfig,
    /// What is broken.
    pub turn: Option<Turn>,
}

/// What notes answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It was done, and is in this record.
    Done(u64),
    /// The count.
    Count(u64),
    /// There is no such text.
    Missing,
    /// Not now: the journal takes nothing.
    Busy(&'static str),
}

impl Config {
    /// Returns what the ledger scenarios run with: the smallest segments, which turn over often.
    ///
    /// # Panics
    ///
    /// Never: the limits are legal.
    #[must_use]
    pub fn new(snapshot_records: u64, turn: Option<Turn>) -> Self {
        let endless = turn == Some(Turn::TakesEverything);
        let limits = Limits {
            segment_bytes: 1 << 20,
            write_bytes_max: 16 << 10,
            unsynced_max: if endless { 1 << 30 } else { UNSYNCED_MAX },
            journal_keep: Duration::ZERO,
        };
        let snapshots = SnapshotConfig {
            records: snapshot_records,
            bytes: 1 << 30,
            retry: Duration::from_secs(1),
        };
        let journal = journals::io::Config::new(limits).expect("the limits are legal");
        Self { journal, snapshots, turn }
    }
}

#[derive(Clone, Debug)]
enum Phase {
    /// Which snapshots there are.
    Listing,
    Shelving(Box<Shelving>),
    Scanning(Box<Scanning>),
    Up(Box<Up>),
    Refused,
}

/// The snapshot that is being read.
#[derive(Clone, Debug)]
struct Shelving {
    /// With their lengths, the newest last.
    left: Vec<(u64, u64)>,
    shelf: Shelf,
    record: u64,
    bytes: u64,
    offset: u64,
    restoring: Restoring,
}

#[derive(Clone, Debug)]
struct Scanning {
    recovery: Recovery,
    shelf: Shelf,
    snapshot: u64,
    /// The newest record read, not yet applied.
    last: Option<Entry>,
    read: (u64, u64),
}

#[derive(Clone, Debug)]
struct Up {
    journal: Journal,
    writer: SnapshotWriter,
    /// The last record that is durable.
    head: Head,
    /// What waits for its record: record, call, reply.
    replies: VecDeque<(u64, Number, Reply)>,
    time_ms: u64,
}

/// See the file's header.
#[derive(Clone, Debug)]
pub struct Ledger {
    config: Config,
    state: Notes,
    phase: Phase,
    outputs: VecDeque<Output<Reply, Event>>,
    /// The files of the syncs that the journal has under way.
    syncs: BTreeMap<Number, String>,
}

/// Operations are numbered by who asks (the journal, the snapshots, the recovery, the start), by
/// what tells that they have ended, and by the number that the asker gave them.
const WHO: u64 = 4;
const NUMBERS: u64 = 16;
const WRITE: u64 = 1;
const SYNC: u64 = 2;
const JOURNAL: u64 = 0;
const SNAPSHOTS: u64 = 1;
const RECOVERY: u64 = 2;
const START: u64 = 3;
/// What may wait for the disk: little, so that a slow one is felt.
const UNSYNCED_MAX: u64 = 64 << 10;
/// What is read of a snapshot at a time.
const PIECE: u64 = 64 << 10;

impl Ledger {
    /// Starts a process.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let operation = Operation::List { folder: "snapshots".to_owned() };
        Self {
            config,
            state: Notes::default(),
            phase: Phase::Listing,
            outputs: VecDeque::from([Output::Disk { op: START, operation }]),
            syncs: BTreeMap::new(),
        }
    }

    fn turned(&self, turn: Turn) -> bool {
        self.config.turn == Some(turn)
    }

    fn disk(&mut self, op: Number, operation: Operation) {
        self.outputs.push_back(Output::Disk { op, operation });
    }

    fn refuse(&mut self, reason: &'static str, told: String) {
        self.phase = Phase::Refused;
        self.outputs.push_back(Output::Refused { reason, told });
    }

    // ---- start

    fn shelve(&mut self, listed: &[(String, u64)]) {
        let shelf = Shelf::of(listed.iter().map(|(name, _)| name.as_str()));
        let mut left = Vec::new();
        for (name, bytes) in listed {
            if let Some(FileName::Snapshot(record)) = FileName::parse(name) {
                left.push((record, *bytes));
            }
        }
        left.sort_unstable();
        self.try_next(left, shelf);
    }

    fn try_next(&mut self, mut left: Vec<(u64, u64)>, shelf: Shelf) {
        self.state = Notes::default();
        let Some((record, bytes)) = left.pop() else {
            return self.scan(Head::default(), shelf);
        };
        let restoring = Restoring::new(NODE, record);
        let shelving = Shelving { left, shelf, record, bytes, offset: 0, restoring };
        self.phase = Phase::Shelving(Box::new(shelving));
        self.read_on();
    }

    fn read_on(&mut self) {
        let Phase::Shelving(shelving) = &self.phase else {
            return;
        };
        let (offset, record) = (shelving.offset, shelving.record);
        let bytes = PIECE.min(shelving.bytes - offset);
        let file = snapshot_path(FileName::Snapshot(record));
        self.disk(NUMBERS + START, Operation::ReadAt { file, offset, bytes });
    }

    fn shelved(&mut self, answer: &Answer) {
        let Phase::Shelving(mut shelving) = std::mem::replace(&mut self.phase, Phase::Refused)
        else {
            return;
        };
        let Answer::Read(bytes) = answer else {
            return self.refuse("unreadable", "a snapshot cannot be read".to_owned());
        };
        let mut part = Held::<NotesPart>(&mut self.state);
        let pushed = shelving.restoring.push(bytes, &mut [&mut part]);
        shelving.offset += bytes.len() as u64;
        let whole = shelving.offset >= shelving.bytes;
        let is_sound = pushed.is_ok() && (whole || !bytes.is_empty());
        if is_sound && !whole {
            self.phase = Phase::Shelving(shelving);
            return self.read_on();
        }
        match shelving.restoring.finish() {
            Ok(header) if is_sound => {
                shelving.shelf.begin_with(header.record);
                self.scan(Head { record: header.record, hash: header.head }, shelving.shelf);
            }
            Ok(_) | Err(_) => self.try_next(shelving.left, shelving.shelf),
        }
    }

    fn scan(&mut self, start: Head, shelf: Shelf) {
        let recovery = Recovery::new(NODE, start, READ_BYTES);
        let scanning =
            Scanning { recovery, shelf, snapshot: start.record, last: None, read: (0, 0) };
        self.phase = Phase::Scanning(Box::new(scanning));
    }

    fn scanned(&mut self, now: Instant, op: Op, answer: Answer) {
        let Phase::Scanning(scanning) = &mut self.phase else {
            return;
        };
        scanning.recovery.handle(match answer {
            Answer::Listed(files) => {
                let listed = |(name, bytes)| Listed { name, bytes };
                recovery::Input::Listed(files.into_iter().map(listed).collect())
            }
            Answer::Read(bytes) => recovery::Input::Read(op, bytes),
            Answer::Failed(failure) => recovery::Input::Failed(op, disk_error(failure)),
            Answer::Done => unreachable!("a recovery only reads"),
        });
        self.follow_recovery(now);
    }

    fn follow_recovery(&mut self, now: Instant) {
        while let Phase::Scanning(scanning) = &mut self.phase
            && let Some(output) = scanning.recovery.poll()
        {
            match output {
                recovery::Output::List { op } => {
                    let folder = "journal".to_owned();
                    self.disk(op.0 * NUMBERS + RECOVERY, Operation::List { folder });
                }
                recovery::Output::ReadAt { op, file, offset, bytes } => {
                    let file = format!("journal/{file}");
                    self.disk(op.0 * NUMBERS + RECOVERY, Operation::ReadAt { file, offset, bytes });
                }
                recovery::Output::Record(entry) => {
                    scanning.read.0 += 1;
                    scanning.read.1 += record::encoded_len(entry.body.len()) as u64;
                    if let Some(before) = scanning.last.replace(entry) {
                        self.replay(&before, false);
                    }
                }
                recovery::Output::Recovered(found) => self.rise(now, *found),
                recovery::Output::Refused(refusal) => {
                    self.refuse(reason(&refusal), refusal.to_string());
                }
            }
        }
    }

    /// Applies what a record holds.
    fn replay(&mut self, entry: &Entry, last: bool) {
        let mut reader = Reader::new(&entry.body);
        for nth in 0..entry.count {
            let frame = Frame::take(&mut reader).expect("a valid record has whole events");
            let event = frame.read::<NotesPart>().expect("this program wrote the event");
            if last && nth > 0 && self.turned(Turn::RecoversSingleEvents) {
                break;
            }
            NotesPart::apply(&mut self.state, &event);
        }
    }

    fn rise(&mut self, now: Instant, found: recovery::Recovered) {
        let Phase::Scanning(scanning) = std::mem::replace(&mut self.phase, Phase::Refused) else {
            return;
        };
        if let Some(last) = &scanning.last {
            self.replay(last, true);
        }
        let (head, durable) = (found.head, found.durable);
        self.outputs.push_back(Output::Recovered(Recovered {
            record: head.record,
            hash: Some(head.hash),
            root: Some(state_root(&mut self.state)),
            snapshot: scanning.snapshot,
        }));
        let time_ms = found.time_ms;
        let journal = Journal::new(now, self.config.journal.clone(), NODE, found);
        let mut writer = SnapshotWriter::new(self.config.snapshots, scanning.shelf, durable);
        let (records, bytes) = scanning.read;
        let told = writer.handle(now, snapshots::Input::Appended { records, bytes });
        told.expect("only a snapshot is refused");
        let head = if durable == head.record { head } else { Head::default() };
        let replies = VecDeque::new();
        self.phase = Phase::Up(Box::new(Up { journal, writer, head, replies, time_ms }));
    }

    // ---- running

    fn call(&mut self, now: Instant, call: Number, wall_ms: u64, request: &Request) {
        let Phase::Up(up) = &mut self.phase else {
            return;
        };
        let frees = matches!(request, Request::Erase { .. });
        let appended = up.journal.appended();
        if let Err(refused) = up.journal.room(frees) {
            let busy = Reply::Busy(word(refused));
            return self.outputs.push_back(Output::Reply { call, reply: busy });
        }
        if let Request::Read { key } = request {
            let count = self.state.counts.get(key).copied().unwrap_or(0);
            return self.answer(appended, call, Reply::Count(count));
        }
        let Ok(events) = NotesPart::decide(&self.state, request) else {
            return self.answer(appended, call, Reply::Missing);
        };
        let body = notes::body(&events);
        up.time_ms = up.time_ms.max(wall_ms);
        let count = u32::try_from(events.len()).expect("a request has two events at most");
        let bytes = record::encoded_len(body.len()) as u64;
        let decision = Decision { time_ms: up.time_ms, count, body, frees };
        let taken = up.journal.handle(now, journal::Input::Append(decision));
        if let Err(refused) = taken {
            let busy = Reply::Busy(word(refused));
            return self.outputs.push_back(Output::Reply { call, reply: busy });
        }
        let appended = snapshots::Input::Appended { records: 1, bytes };
        up.writer.handle(now, appended).expect("only a snapshot is refused");
        let record = up.journal.appended();
        for event in &events {
            NotesPart::apply(&mut self.state, event);
        }
        let root = Some(state_root(&mut self.state));
        self.outputs.push_back(Output::Decided(Decided { record, bytes, root }));
        self.answer(record, call, Reply::Done(record));
    }

    /// Gives an answer once `record` is durable (K5).
    fn answer(&mut self, record: u64, call: Number, reply: Reply) {
        let at_once = self.turned(Turn::RepliesAtApply);
        let Phase::Up(up) = &mut self.phase else {
            return;
        };
        if record <= up.journal.durable() || at_once {
            self.outputs.push_back(Output::Reply { call, reply });
        } else {
            up.replies.push_back((record, call, reply));
        }
    }

    fn release(&mut self, record: u64) {
        let Phase::Up(up) = &mut self.phase else {
            return;
        };
        while let Some((needed, ..)) = up.replies.front()
            && *needed <= record
            && let Some((_, call, reply)) = up.replies.pop_front()
        {
            self.outputs.push_back(Output::Reply { call, reply });
        }
    }

    fn journal_input(&mut self, now: Instant, input: journal::Input) {
        if let Phase::Up(up) = &mut self.phase {
            up.journal.handle(now, input).expect("only a record is refused");
        }
    }

    /// Carries out what the journal and the snapshots want.
    fn follow(&mut self, now: Instant) {
        self.follow_recovery(now);
        loop {
            self.take_snapshot(now);
            let Phase::Up(up) = &mut self.phase else {
                return;
            };
            if let Some(output) = up.journal.poll() {
                self.follow_journal(now, output);
            } else if let Some(output) = up.writer.poll() {
                self.follow_writer(now, output);
            } else {
                return;
            }
        }
    }

    /// Begins a snapshot when one is due and the hash of the last record is known.
    fn take_snapshot(&mut self, now: Instant) {
        let leave_out = self.turned(Turn::LeavesTableOut);
        let Phase::Up(up) = &mut self.phase else {
            return;
        };
        if up.head.record != up.journal.appended() || !up.writer.is_due(now) {
            return;
        }
        let mut state = self.state.clone();
        if leave_out {
            state.texts = Default::default();
        }
        let mut part = Held::<NotesPart>(&mut state);
        let frozen = FrozenState::of(NODE, up.head.record, up.head.hash, &mut [&mut part]);
        up.writer.handle(now, snapshots::Input::Begin(frozen)).expect("a due one is begun");
    }

    fn follow_journal(&mut self, now: Instant, output: journal::Output) {
        let path = |file| format!("journal/{file}");
        let (op, operation) = match output {
            journal::Output::Create { op, file, bytes } => {
                (op, Operation::Create { file: path(file), bytes })
            }
            journal::Output::Write { op, file, offset, bytes } => {
                (op, Operation::Write { file: path(file), offset, bytes })
            }
            journal::Output::Sync { op, file } => (op, Operation::Sync { file: path(file) }),
            journal::Output::Rename { op, from, to } => {
                (op, Operation::Rename { from: path(from), to: path(to) })
            }
            journal::Output::Remove { op, file } => (op, Operation::Remove { file: path(file) }),
            journal::Output::SyncDir { op } => {
                let another = self.turned(Turn::SyncsAnotherFolder);
                let folder = if another { "snapshots" } else { "journal" };
                (op, Operation::SyncDir { folder: folder.to_owned() })
            }
            journal::Output::Durable(head) => {
                if let Phase::Up(up) = &mut self.phase {
                    up.head = head;
                    let durable = snapshots::Input::Durable(head.record);
                    up.writer.handle(now, durable).expect("only a snapshot is refused");
                }
                self.outputs.push_back(Output::Durable(head.record));
                return self.release(head.record);
            }
            journal::Output::Stalled(_) => return self.outputs.push_back(Output::Stalled),
            journal::Output::Stopped => return,
        };
        let kind = match &operation {
            Operation::Write { .. } => WRITE,
            Operation::Sync { .. } => SYNC,
            Operation::Create { .. }
            | Operation::Rename { .. }
            | Operation::Remove { .. }
            | Operation::SyncDir { .. }
            | Operation::List { .. }
            | Operation::ReadAt { .. } => 0,
        };
        self.journal_disk(op.0 * NUMBERS + kind * WHO + JOURNAL, operation);
    }

    fn follow_writer(&mut self, now: Instant, output: snapshots::Output) {
        let path = snapshot_path;
        let early = self.turned(Turn::RemovesTooEarly);
        let (op, operation) = match output {
            snapshots::Output::Create { op, file } => {
                (op, Operation::Create { file: path(file), bytes: 0 })
            }
            snapshots::Output::Write { op, file, offset, bytes } => {
                (op, Operation::Write { file: path(file), offset, bytes: bytes.into() })
            }
            snapshots::Output::Sync { op, file } => (op, Operation::Sync { file: path(file) }),
            snapshots::Output::Rename { op, from, to } => {
                if let (true, FileName::Snapshot(record)) = (early, to) {
                    self.cover(now, record);
                }
                (op, Operation::Rename { from: path(from), to: path(to) })
            }
            snapshots::Output::SyncDir { op } => {
                (op, Operation::SyncDir { folder: "snapshots".to_owned() })
            }
            snapshots::Output::Remove { op, file } => (op, Operation::Remove { file: path(file) }),
            snapshots::Output::Current(header) => {
                if let Phase::Up(up) = &self.phase
                    && let Some(older) = up.writer.shelf().vouched_before(header.record)
                {
                    self.cover(now, older);
                }
                return;
            }
            snapshots::Output::Abandoned { .. } => return,
        };
        self.disk(op.0 * NUMBERS + SNAPSHOTS, operation);
    }

    /// Lets segments go of which recovery needs no record up to this one (L43).
    fn cover(&mut self, now: Instant, record: u64) {
        let time_ms = match &self.phase {
            Phase::Up(up) => up.time_ms,
            Phase::Listing | Phase::Shelving(_) | Phase::Scanning(_) | Phase::Refused => 0,
        };
        self.journal_input(now, journal::Input::Covered { record, time_ms });
    }

    fn answered(&mut self, now: Instant, number: Number, answer: Answer) {
        let op = number / NUMBERS;
        match number % WHO {
            JOURNAL => self.journal_answer(now, number, answer),
            SNAPSHOTS => {
                let Phase::Up(up) = &mut self.phase else {
                    return;
                };
                let op = snapshots::Op(op);
                let input = match answer {
                    Answer::Failed(failure) => {
                        snapshots::Input::Failed { op, error: disk_error(failure).to_string() }
                    }
                    Answer::Done | Answer::Listed(_) | Answer::Read(_) => {
                        snapshots::Input::Done(op)
                    }
                };
                up.writer.handle(now, input).expect("only a snapshot is refused");
            }
            RECOVERY => self.scanned(now, Op(op), answer),
            _ => match (&self.phase, answer) {
                (Phase::Listing, Answer::Listed(listed)) => self.shelve(&listed),
                (Phase::Listing, _) => {
                    self.refuse("unreadable", "the snapshots cannot be listed".to_owned());
                }
                (_, answer) => self.shelved(&answer),
            },
        }
    }

    fn journal_answer(&mut self, now: Instant, number: Number, answer: Answer) {
        let op = Op(number / NUMBERS);
        let synced = self.syncs.remove(&number);
        if self.turned(Turn::AcknowledgesAtWrite) && number / WHO % WHO == WRITE {
            self.release(u64::MAX);
        }
        let input = match (answer, synced) {
            (Answer::Failed(Failure::NoSpace), _) if self.turned(Turn::DropsWhatDidNotFit) => {
                ended(number)
            }
            (Answer::Failed(_), Some(file)) if self.turned(Turn::SyncsAgain) => {
                return self.journal_disk(number, Operation::Sync { file });
            }
            (Answer::Failed(failure), _) => journal::Input::Failed(op, disk_error(failure)),
            (Answer::Done | Answer::Listed(_) | Answer::Read(_), _) => ended(number),
        };
        self.journal_input(now, input);
    }

    fn journal_disk(&mut self, number: Number, operation: Operation) {
        if let Operation::Sync { file } = &operation {
            self.syncs.insert(number, file.clone());
        }
        self.disk(number, operation);
    }
}

impl Guest for Ledger {
    type Request = Request;
    type Question = Infallible;
    type Reply = Reply;
    type Event = Event;
    type Kind = Config;
    type Crowd = Writers;
    type Turn = Turn;
    type Memory = ();

    fn kind(kept: &Kept, turn: Option<Turn>) -> Config {
        Config::new(kept.snapshots, turn)
    }

    fn start(kind: &Config, _: Instant, _: u64, _: [u8; 32]) -> Self {
        Self::new(kind.clone())
    }

    fn root(&mut self) -> Option<StateRoot> {
        Some(state_root(&mut self.state))
    }

    fn tells_nothing(reply: &Reply) -> bool {
        matches!(reply, Reply::Busy(_))
    }

    fn is_done(reply: &Reply) -> bool {
        matches!(reply, Reply::Done(_))
    }

    fn unsynced_max(kind: &Config) -> u64 {
        let limits = kind.journal.limits();
        // One record more is taken before the journal says that it is busy.
        UNSYNCED_MAX + 3 * limits.write_bytes_max
    }

    fn held(&self) -> u64 {
        match &self.phase {
            Phase::Up(up) => up.journal.held(),
            Phase::Listing | Phase::Shelving(_) | Phase::Scanning(_) | Phase::Refused => 0,
        }
    }

    fn takes_all_for_torn(kind: &Config) -> bool {
        kind.turn == Some(Turn::TakesAllForTorn)
    }

    fn ignores_lock(kind: &Config) -> bool {
        kind.turn == Some(Turn::IgnoresLock)
    }

    fn memory(&self) {}

    fn remember(&mut self, (): &()) {}

    fn handle(&mut self, now: Instant, input: Input<Request>) {
        match input {
            Input::Tick { .. } => {
                self.journal_input(now, journal::Input::Tick);
                if let Phase::Up(up) = &mut self.phase {
                    let ticked = up.writer.handle(now, snapshots::Input::Tick);
                    ticked.expect("only a snapshot is refused");
                }
            }
            Input::Call { call, wall_ms, nonce: _, request } => {
                self.call(now, call, wall_ms, &request);
            }
            Input::Answer { op, answer, wall_ms: _ } => self.answered(now, op, answer),
        }
        self.follow(now);
    }

    fn inquire(&mut self, _: Instant, _: u64, _: Number, question: Infallible) {
        match question {}
    }

    fn poll(&mut self) -> Option<Output<Reply, Event>> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Instant {
        match &self.phase {
            Phase::Up(up) if up.head.record == up.journal.appended() => {
                up.journal.deadline().min(up.writer.deadline())
            }
            Phase::Up(up) => up.journal.deadline(),
            Phase::Listing | Phase::Shelving(_) | Phase::Scanning(_) | Phase::Refused => {
                Instant::FAR
            }
        }
    }

    fn appended(&self) -> u64 {
        match &self.phase {
            Phase::Up(up) => up.journal.appended(),
            Phase::Listing | Phase::Shelving(_) | Phase::Scanning(_) | Phase::Refused => 0,
        }
    }
}

fn state_root(state: &mut Notes) -> StateRoot {
    let mut part = Held::<NotesPart>(state);
    StateRoot::of_parts(&[(part.tag(), part.root())])
}

/// What tells the journal that an operation has ended well.
fn ended(number: Number) -> journal::Input {
    let op = Op(number / NUMBERS);
    match number / WHO % WHO {
        WRITE => journal::Input::Wrote(op),
        SYNC => journal::Input::Synced(op),
        _ => journal::Input::Done(op),
    }
}

fn snapshot_path(file: FileName) -> String {
    format!("snapshots/{file}")
}

const fn disk_error(failure: Failure) -> DiskError {
    match failure {
        Failure::NoSpace => DiskError::NoSpace,
        Failure::Short => DiskError::Short,
        Failure::Device => DiskError::Device,
    }
}

const fn word(refused: journal::Refused) -> &'static str {
    match refused {
        journal::Refused::Busy => "busy",
        journal::Refused::DiskFull => "disk_full",
        journal::Refused::TooLong => "too_long",
        journal::Refused::Stopping => "stopping",
        journal::Refused::Stalled => "not_durable",
    }
}

/// Names a refusal to start as scenarios do.
#[must_use]
pub const fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Corrupt { .. }
        | Refusal::Gap { .. }
        | Refusal::Overlap { .. }
        | Refusal::Missing { .. }
        | Refusal::Differs { .. }
        | Refusal::BadHeader { .. } => "journal-corrupt",
        Refusal::UnknownFormat { .. } | Refusal::ForeignNode { .. } => "journal-foreign",
        Refusal::Unreadable { .. } => "unreadable",
    }
}
