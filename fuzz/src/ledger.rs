//! The journal and snapshots: bytes of records and segments, snapshots, and whole data folders.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use machines::Instant;
use machines::cluster::ids::NodeId;
use machines::codec::Reader;
use machines::keeper::io::{Action, Call, File, Input, Listed, Op, Output};
use machines::keeper::{Keeper, KeeperParams};
use machines::kernel::config::KernelConfig;
use machines::kernel::part::KernelPart;
use machines::kernel::{Command, CommandBody, Kernel, Time};
use machines::ledger::fold::{Frame as EventFrame, Held, PartState, put_event};
use machines::ledger::journal::io::{Config, Limits};
use machines::ledger::record::{self, Fields, Frame, HASH_BYTES, Kind};
use machines::ledger::segment::Header;
use machines::ledger::snapshot::{Encoder, FrozenState, Restoring, SnapshotConfig};

use crate::cursor::Cursor;
use crate::kernel::{alice, scheduled, submitted};

/// Whose data folder it is.
const NODE: NodeId = NodeId::from_bytes([3; 16]);
/// When it is, by the clock on the wall: milliseconds.
const WALL: u64 = 1_700_000_000_000;
/// How much a start may do on the disk: so often, and once more for this many bytes there.
const OPS: (u64, u64) = (200, 64);

/// A record, and the events in it; or a segment's header. What can be read is written again to the
/// same bytes (C19).
///
/// The first byte says how the rest is meant: as it stands, or as the body of a record whose hash
/// holds, since nobody guesses a hash.
#[must_use]
pub fn record(bytes: &[u8]) -> bool {
    let Some((how, rest)) = bytes.split_first() else {
        return false;
    };
    match how {
        0 => raw_record(rest),
        1 => header(rest),
        count => sound_record(u32::from(*count) - 1, rest),
    }
}

fn header(bytes: &[u8]) -> bool {
    match Header::parse(bytes) {
        Ok(header) => {
            assert_eq!(header.to_bytes(), bytes[..header.to_bytes().len()], "L11");
            true
        }
        Err(_) => false,
    }
}

fn raw_record(bytes: &[u8]) -> bool {
    let Ok(frame) = Frame::parse(bytes) else {
        return false;
    };
    assert!(frame.bytes().len() <= bytes.len());
    let mut again = Vec::new();
    record::encode(&frame.fields, frame.body(), &[0; 32], &mut again);
    let hashed = frame.bytes().len() - HASH_BYTES;
    assert_eq!(again[..hashed], frame.bytes()[..hashed], "L12");
    assert_eq!(frame.follows(&[0; 32]), again == frame.bytes(), "L13");
    events(frame.body(), frame.fields.count);
    true
}

fn sound_record(count: u32, body: &[u8]) -> bool {
    if count == 0 || count as usize > body.len() {
        return false;
    }
    let fields = Fields { kind: Kind::Events, number: 7, time_ms: WALL, synced: 6, count };
    let mut bytes = Vec::new();
    record::encode(&fields, body, &[9; 32], &mut bytes);
    let frame = Frame::parse(&bytes).expect("it was written as a record");
    assert!(frame.follows(&[9; 32]), "L13");
    assert_eq!((frame.fields, &frame.body()[..body.len()]), (fields, body));
    events(body, count)
}

/// Reads the events of a record; says whether there are so many, and each is known.
fn events(body: &[u8], count: u32) -> bool {
    let mut reader = Reader::new(body);
    for _ in 0..count {
        let here = body.len() - reader.remaining();
        let Ok(frame) = EventFrame::take(&mut reader) else {
            return false;
        };
        let Ok(event) = frame.read::<KernelPart>() else {
            return false;
        };
        let mut again = Vec::new();
        put_event::<KernelPart>(&mut again, &event);
        assert_eq!(again, body[here..body.len() - reader.remaining()], "L15: one encoding");
    }
    true
}

/// A snapshot. One that is sound is written again to the same bytes.
///
/// The first byte says how the rest is meant: as the file, which comes in pieces of so many bytes,
/// or (255) as rows, since nobody guesses a hash: what a row says when it is read is what it said.
#[must_use]
pub fn snapshot(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((255, rest)) => rows(rest),
        Some((piece, rest)) => file(usize::from(*piece).max(1) * 16, rest),
        None => false,
    }
}

/// Which record the snapshots of the corpus are of.
const SNAPSHOT_OF: u64 = 10;

fn empty() -> Kernel {
    Kernel::new(KernelConfig::new()).expect("the standard configuration is legal")
}

fn file(piece: usize, bytes: &[u8]) -> bool {
    let (mut kernel, mut restoring) = (empty(), Restoring::new(NODE, SNAPSHOT_OF));
    for piece in bytes.chunks(piece) {
        let mut held = Held::<KernelPart>(&mut kernel);
        if restoring.push(piece, &mut [&mut held]).is_err() {
            return false;
        }
    }
    let Ok(header) = restoring.finish() else {
        return false;
    };
    let mut held = Held::<KernelPart>(&mut kernel);
    let frozen = FrozenState::of(NODE, SNAPSHOT_OF, header.head, &mut [&mut held]);
    assert_eq!(written(frozen), bytes, "L17: one state, one file");
    true
}

fn written(frozen: FrozenState) -> Vec<u8> {
    let mut encoder = Encoder::new(frozen);
    std::iter::from_fn(|| encoder.piece()).flatten().collect()
}

/// Rows: number of the table, length of the key, length of the value in two bytes of which the
/// second counts for up to 15, key, value.
fn rows(bytes: &[u8]) -> bool {
    let (mut kernel, mut cursor) = (empty(), Cursor::new(bytes));
    let (mut read, mut keys) = (0, BTreeSet::new());
    while !cursor.is_empty() {
        let table = u32::from(cursor.below(16));
        let length = cursor.byte();
        let (blocks, more) = (cursor.byte(), cursor.below(16));
        let key = cursor.bytes(length);
        let mut value = Vec::new();
        for _ in 0..blocks {
            value.extend_from_slice(cursor.bytes(16));
        }
        value.extend_from_slice(cursor.bytes(more));
        // A snapshot has its rows in order, each once.
        if keys.iter().any(|(other, last): &(u32, Vec<u8>)| {
            *other > table || (*other == table && last.as_slice() >= key)
        }) {
            return read > 0;
        }
        keys.insert((table, key.to_vec()));
        let mut held = Held::<KernelPart>(&mut kernel);
        if held.load(1, (table, key, &value)).is_err() {
            return read > 0;
        }
        read += 1;
    }
    read > 0
}

/// A disk that does at once what it is asked, and keeps everything.
#[derive(Clone, Debug, Default)]
struct Disk(BTreeMap<File, Vec<u8>>);

impl Disk {
    fn perform(&mut self, op: Op, action: Action) -> Input {
        let size = |bytes: u64| usize::try_from(bytes).expect("small files");
        match action {
            Action::List(folder) => {
                let files = self.0.iter().filter(|(file, _)| file.folder() == folder);
                let listed = |(file, bytes): (&File, &Vec<u8>)| Listed {
                    name: file.to_string(),
                    bytes: bytes.len() as u64,
                };
                return Input::Listed(op, files.map(listed).collect());
            }
            Action::Read { file, offset, bytes } => {
                let all = self.0.get(&file).map_or(&[][..], Vec::as_slice);
                let start = size(offset).min(all.len());
                let end = start.saturating_add(size(bytes)).min(all.len());
                return Input::Read(op, all[start..end].to_vec());
            }
            Action::Create { file, zeros } => {
                self.0.insert(file, vec![0; size(zeros)]);
            }
            Action::Write { file, offset, bytes } => {
                let all = self.0.entry(file).or_default();
                let start = size(offset);
                all.resize(all.len().max(start + bytes.len()), 0);
                all[start..start + bytes.len()].copy_from_slice(&bytes);
            }
            Action::Rename { from, to } => {
                let bytes = self.0.remove(&from).unwrap_or_default();
                self.0.insert(to, bytes);
            }
            Action::Remove(file) => {
                self.0.remove(&file);
            }
            Action::Sync(_) | Action::SyncDir(_) => {}
        }
        Input::Done(op)
    }

    fn bytes(&self) -> u64 {
        self.0.values().map(|bytes| bytes.len() as u64).sum()
    }
}

/// A keeper on a disk.
struct Node {
    keeper: Keeper,
    disk: Disk,
    now: Instant,
    waiting: VecDeque<(Op, Action)>,
    /// Operations done.
    ops: u64,
    started: Option<u64>,
    refused: bool,
    replies: u64,
}

fn params() -> KeeperParams {
    let limits = Limits {
        segment_bytes: 1 << 20,
        write_bytes_max: 1 << 14,
        unsynced_max: 1 << 16,
        journal_keep: Duration::ZERO,
    };
    KeeperParams {
        node: NODE,
        kernel: KernelConfig::new(),
        journal: Config::new(limits).expect("the limits are legal"),
        snapshots: SnapshotConfig { records: 8, bytes: 1 << 30, retry: Duration::from_secs(10) },
        seed: [7; 32],
    }
}

impl Node {
    /// Starts on a disk, up to where it runs or refuses.
    fn on(disk: Disk) -> Self {
        let now = Instant::from_millis(1);
        let keeper = Keeper::new(now, Time::from_millis(WALL), params());
        let mut node = Self {
            keeper: keeper.expect("the configuration is legal"),
            disk,
            now,
            waiting: VecDeque::new(),
            ops: 0,
            started: None,
            refused: false,
            replies: 0,
        };
        let most = OPS.0 + node.disk.bytes() / OPS.1;
        node.settle(most);
        assert!(node.refused || node.started.is_some(), "a start ends");
        node
    }

    fn drain(&mut self) {
        while let Some(output) = self.keeper.poll() {
            match output {
                Output::Disk(op, action) => self.waiting.push_back((op, action)),
                Output::Started(report) => self.started = Some(report.record),
                Output::Refused(why) => {
                    assert!(!why.to_string().is_empty(), "a refusal says why");
                    self.refused = true;
                }
                Output::Reply(_, reply) => {
                    self.replies += 1;
                    assert!(reply.is_ok() || self.refused, "{reply:?}");
                }
                Output::Answer(..)
                | Output::Events { .. }
                | Output::Effect(_)
                | Output::Batch(..)
                | Output::Ended(..)
                | Output::Snapshot { .. }
                | Output::SnapshotFailed { .. } => {}
                Output::Stalled(error) => panic!("an honest disk stalled it: {error}"),
                Output::Stopped => {}
            }
        }
    }

    fn input(&mut self, input: Input) {
        let wall = WALL + self.now.as_nanos() / 1_000_000;
        self.keeper.handle(self.now, Time::from_millis(wall), input);
        self.drain();
    }

    /// Does what is wanted until nothing is, at most so many operations.
    fn settle(&mut self, most: u64) {
        self.drain();
        let end = self.ops + most;
        while let Some((op, action)) = self.waiting.pop_front() {
            self.ops += 1;
            assert!(self.ops <= end, "it ends: {action:?}");
            let input = self.disk.perform(op, action);
            self.input(input);
        }
    }

    fn say(&mut self, body: CommandBody) {
        self.now = self.now + Duration::from_millis(3);
        let command = Command { by: alice(), worker: None, rate: None, body };
        let before = self.replies;
        self.input(Input::Command { call: Call(before + 1), command: Box::new(command) });
        self.settle(1_000);
        assert_eq!(self.replies, before + 1, "every command is answered");
    }

    fn root(&self) -> String {
        let kernel = self.keeper.kernel().expect("it runs");
        kernel.current_root().to_string()
    }
}

/// A folder with two snapshots and records after them, as a stop leaves it.
fn folder() -> &'static BTreeMap<File, Vec<u8>> {
    static FOLDER: OnceLock<BTreeMap<File, Vec<u8>>> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let mut node = Node::on(Disk::default());
        for number in 0..11 {
            node.say(submitted(number));
            node.say(scheduled(number));
        }
        node.input(Input::Stop);
        node.settle(1_000);
        node.disk.0
    })
}

/// Where the bytes of a file that mean something end.
fn end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Does something to one file of a folder.
fn damage(files: &mut BTreeMap<File, Vec<u8>>, cursor: &mut Cursor<'_>) -> &'static str {
    let names: Vec<File> = files.keys().copied().collect();
    let Some(count) = u8::try_from(names.len()).ok().filter(|count| *count > 0) else {
        return "nothing";
    };
    let name = names[usize::from(cursor.below(count))];
    let other = names[usize::from(cursor.below(count))];
    let mut bytes = files[&name].clone();
    let place = usize::from(cursor.byte()) << 8 | usize::from(cursor.byte());
    let at = place % (end(&bytes) + 64).min(bytes.len().max(1));
    let what = match cursor.below(9) {
        0 => {
            let byte = cursor.byte();
            if let Some(old) = bytes.get_mut(at) {
                *old ^= byte;
            }
            "changed"
        }
        1 => {
            bytes.truncate(at);
            "cut"
        }
        2 => {
            let from = at / 512 * 512;
            let to = (from + 512).min(bytes.len());
            bytes[from..to].fill(0);
            "zeroed"
        }
        3 => {
            let length = cursor.below(64);
            for (place, byte) in cursor.bytes(length).iter().enumerate() {
                if let Some(old) = bytes.get_mut(at + place) {
                    *old = *byte;
                }
            }
            "overwritten"
        }
        4 => {
            files.remove(&name);
            return "removed";
        }
        5 => {
            files.insert(other, bytes);
            return "copied over another";
        }
        6 => {
            let from = at / 8 * 8;
            let part = bytes[from.min(bytes.len())..].to_vec();
            bytes.truncate(from / 2 / 8 * 8);
            bytes.extend(part);
            "moved up"
        }
        7 => {
            let length = cursor.byte();
            bytes = cursor.bytes(length).to_vec();
            "replaced"
        }
        _ => {
            bytes.extend(vec![cursor.byte(); usize::from(cursor.byte())]);
            "made longer"
        }
    };
    files.insert(name, bytes);
    what
}

/// Runs a start over a folder that `bytes` damage, and names what came of it.
///
/// # Panics
///
/// If a start does not end, does more than the folder is worth, or a start after it sees another
/// state.
#[must_use]
pub fn run(bytes: &[u8]) -> BTreeSet<&'static str> {
    let (mut cursor, mut files) = (Cursor::new(bytes), folder().clone());
    let mut told = BTreeSet::new();
    for _ in 0..4 {
        if !cursor.is_empty() {
            told.insert(damage(&mut files, &mut cursor));
        }
    }
    let mut node = Node::on(Disk(files));
    if node.refused {
        told.insert("refused");
        return told;
    }
    let found = node.started.expect("it started");
    told.insert(if found > 20 { "all is there" } else { "a part is there" });
    node.say(submitted(200));
    node.input(Input::Stop);
    node.settle(1_000);
    let mut again = Node::on(Disk(node.disk.0.clone()));
    assert!(!again.refused, "L74: what it wrote itself it reads");
    assert!(again.started > Some(found), "L70");
    let third = Node::on(Disk(again.disk.0.clone()));
    assert_eq!(third.started.map(|record| record - 1), again.started, "a start is a record (K11)");
    let twice = Node::on(Disk(node.disk.0.clone()));
    assert_eq!(twice.root(), again.root(), "L72, L35");
    again.say(submitted(201));
    told.insert("started");
    told
}

/// Any damage to a data folder: a start ends, in work or in a refusal (L30–L35). Means something
/// if it started.
#[must_use]
pub fn recovery(bytes: &[u8]) -> bool {
    run(bytes).contains("started")
}
