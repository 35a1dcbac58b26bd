//! `lockstep doctor`: everything that can be wrong with a ledger, in one report (L18, L31–L36).
//!
//! One pass over the journal, from the oldest record that is there, checks the chain, applies every
//! record, and compares the root with that of each snapshot it comes by. So each snapshot is
//! checked twice: by its own hashes, and by the records that led to it.

use std::collections::BTreeMap;
use std::fmt;

use machines::ledger::recovery::io::{Entry, Head, Recovered};
use machines::ledger::segment;
use machines::ledger::snapshot::{FileName, SnapshotHeader};
use serde::Serialize;

use super::replay::Replay;
use super::{Ledger, Unusable};
use crate::cluster::hex;
use crate::failure::Failure;
use crate::world::files::room;

/// What the doctor found. `problems` is empty if the ledger is sound.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The data folder.
    pub data: String,
    /// Whose ledger it is.
    pub node: String,
    /// How that is known: by the key file, or by the files themselves.
    pub node_from: &'static str,
    /// The records.
    pub journal: JournalReport,
    /// The snapshots, the oldest first.
    pub snapshots: Vec<SnapshotReport>,
    /// The state after the last record, if all that led to it could be applied.
    pub state: Option<StateReport>,
    /// What a node would start from, or why it would not.
    pub start: String,
    /// How many bytes are free for this process.
    pub free_bytes: Option<u64>,
    /// Files under names that are not ours: left alone (L18).
    pub strangers: Vec<String>,
    /// What is routine, and perhaps of interest.
    pub notes: Vec<String>,
    /// What is wrong.
    pub problems: Vec<String>,
}

/// The journal of a [`Report`].
#[derive(Clone, Debug, Serialize)]
pub struct JournalReport {
    /// How many segments there are.
    pub segments: usize,
    /// How long they are in all.
    pub bytes: u64,
    /// The first record that is there.
    pub first: Option<u64>,
    /// The last valid record in an unbroken chain.
    pub last: Option<u64>,
    /// Its hash.
    pub head: String,
}

/// One snapshot of a [`Report`].
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotReport {
    /// It is the state after this record.
    pub record: u64,
    /// Its root, if the file is sound.
    pub root: Option<String>,
    /// Whether the records that led to it have the same root; nothing if they are not there.
    pub replayed: Option<bool>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// The state of a [`Report`].
#[derive(Clone, Debug, Serialize)]
pub struct StateReport {
    /// After this record.
    pub record: u64,
    /// Its root.
    pub root: String,
}

impl Ledger {
    /// Examines everything, and changes nothing.
    ///
    /// # Errors
    ///
    /// None that the report could tell.
    pub fn examine(&self) -> Result<Report, Failure> {
        let mut pass = Pass::new(self);
        let before = self.before(0);
        pass.begin(before);
        let scanned = match self.segments().next() {
            None => Ok(Recovered::default()),
            Some(_) => self.scan(before, |entry| {
                pass.take(entry);
                Ok(())
            })?,
        };
        let start = self.start(before, &scanned)?;
        Ok(pass.report(before, &scanned, start))
    }

    /// Says what a node would start from (L30).
    fn start(
        &self,
        before: Head,
        scanned: &Result<Recovered, Unusable>,
    ) -> Result<Result<String, String>, Failure> {
        let head = match self.begin(u64::MAX) {
            Ok((head, _)) => head,
            Err(why) => return Ok(Err(why.to_string())),
        };
        let scanned = match scanned {
            Ok(recovered) if head.record == before.record => Ok(recovered.head),
            Ok(_) | Err(_) => self.scan(head, |_| Ok(()))?.map(|recovered| recovered.head),
        };
        Ok(match (scanned, head.record) {
            (Ok(last), 0) => Ok(format!("from record 1, up to {}", last.record)),
            (Ok(last), record) => Ok(format!("from snapshot {record}, up to {}", last.record)),
            (Err(unusable), _) => Err(unusable.to_string()),
        })
    }
}

/// What one pass over the journal finds.
struct Pass<'a> {
    ledger: &'a Ledger,
    sound: BTreeMap<u64, SnapshotHeader>,
    snapshots: BTreeMap<u64, SnapshotReport>,
    /// The state after `last`, unless what led to it is not there.
    state: Option<Replay>,
    last: Head,
    problems: Vec<String>,
}

impl<'a> Pass<'a> {
    /// Checks the snapshots by themselves.
    fn new(ledger: &'a Ledger) -> Self {
        let mut pass = Self {
            ledger,
            sound: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            state: None,
            last: Head::default(),
            problems: Vec::new(),
        };
        for record in ledger.snapshots() {
            let (root, replayed, problem) = match ledger.check(record) {
                Ok(header) => {
                    pass.sound.insert(record, header);
                    (Some(header.root.to_string()), None, None)
                }
                Err(bad) => {
                    let file = FileName::Snapshot(record);
                    pass.problems.push(format!("snapshots/{file}: {bad}"));
                    (None, None, Some(bad.to_string()))
                }
            };
            pass.snapshots.insert(record, SnapshotReport { record, root, replayed, problem });
        }
        pass
    }

    /// Stands before the first record that is there.
    fn begin(&mut self, before: Head) {
        self.last = before;
        if before.record == 0 {
            self.state = Some(Replay::new());
        }
        self.meet();
    }

    fn take(&mut self, entry: &Entry) {
        self.last = Head { record: entry.number, hash: entry.hash };
        if let Some(state) = &mut self.state
            && let Err(failure) = state.apply(entry)
        {
            self.problems.push(failure.to_string());
            self.state = None;
        }
        self.meet();
    }

    /// Compares with the snapshot of the record that the pass has come to, or loads it.
    fn meet(&mut self) {
        let Some(header) = self.sound.get(&self.last.record).copied() else {
            return;
        };
        let file = FileName::Snapshot(header.record);
        let problem = match &mut self.state {
            _ if header.head != self.last.hash => {
                Some("the record that it was made of has another hash here".to_owned())
            }
            Some(state) => {
                let found = state.root();
                let report = self.snapshots.get_mut(&header.record);
                report.expect("every sound one is reported").replayed = Some(found == header.root);
                let unequal = found != header.root;
                unequal.then(|| format!("the records before it have root {found}"))
            }
            None => match self.ledger.load(header.record) {
                Ok((_, state)) => {
                    self.state = Some(state);
                    None
                }
                Err(bad) => Some(bad.to_string()),
            },
        };
        if let Some(problem) = problem {
            self.problems.push(format!("snapshots/{file}: {problem}"));
            let report = self.snapshots.get_mut(&header.record);
            report.expect("every sound one is reported").problem = Some(problem);
        }
    }

    fn report(
        mut self,
        before: Head,
        scanned: &Result<Recovered, Unusable>,
        start: Result<String, String>,
    ) -> Report {
        let ledger = self.ledger;
        let mut notes = ledger.notes();
        match scanned {
            Ok(Recovered { torn: Some(torn), .. }) => notes.push(format!(
                "journal/{}: at byte {}: a write was cut short where record {} would be; it was \
                 not acknowledged, and the next start goes on there",
                torn.file, torn.offset, torn.record
            )),
            Ok(_) => {}
            Err(unusable) => self.problems.push(unusable.to_string()),
        }
        if let Err(why) = &start
            && !self.problems.contains(why)
        {
            self.problems.push(why.clone());
        }
        let any = self.last.record > before.record;
        let lengths = ledger.journal.iter().filter(|listed| is_segment(&listed.name));
        let journal = JournalReport {
            segments: ledger.segments().count(),
            bytes: lengths.map(|listed| listed.bytes).sum(),
            first: any.then_some(before.record + 1),
            last: any.then_some(self.last.record),
            head: hex(&self.last.hash),
        };
        let record = self.last.record;
        let state = self.state.as_mut();
        Report {
            data: ledger.data.display().to_string(),
            node: ledger.node.to_string(),
            node_from: ledger.node_from,
            journal,
            snapshots: self.snapshots.into_values().collect(),
            state: state.map(|state| StateReport { record, root: state.root().to_string() }),
            start: start.unwrap_or_else(|why| format!("refused: {why}")),
            free_bytes: room(&ledger.data).ok(),
            strangers: ledger.strangers(),
            notes,
            problems: self.problems,
        }
    }
}

impl Ledger {
    fn notes(&self) -> Vec<String> {
        let of = |name: &str| match segment::File::parse(name) {
            Some(segment::File::Spare(_)) => true,
            Some(segment::File::Segment(_)) | None => false,
        };
        let spares = self.journal.iter().filter(|listed| of(&listed.name)).count();
        let of = |name: &str| match FileName::parse(name) {
            Some(FileName::Temporary(_)) => true,
            Some(FileName::Snapshot(_)) | None => false,
        };
        let unfinished = self.snapshots.iter().filter(|listed| of(&listed.name)).count();
        let mut notes = Vec::new();
        if spares > 0 {
            notes.push(format!("spare files: {spares}; the next start removes them"));
        }
        if unfinished > 0 {
            notes.push(format!(
                "unfinished snapshots: {unfinished}; the next snapshot removes them"
            ));
        }
        notes
    }
}

fn is_segment(name: &str) -> bool {
    matches!(segment::File::parse(name), Some(segment::File::Segment(_)))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "data        {}", self.data)?;
        writeln!(f, "node        {} (by its {})", self.node, self.node_from)?;
        let JournalReport { segments, bytes, first, last, head } = &self.journal;
        let size = mib(*bytes);
        match (first, last) {
            (Some(first), Some(last)) => {
                writeln!(f, "journal     records {first} to {last}, {segments} segments, {size}")?;
                writeln!(f, "head        {head}")?;
            }
            _ => writeln!(f, "journal     no record, {segments} segments, {size}")?,
        }
        for snapshot in &self.snapshots {
            write!(f, "snapshot    {} ", snapshot.record)?;
            match (&snapshot.problem, &snapshot.root, snapshot.replayed) {
                (Some(problem), _, _) => writeln!(f, "BAD: {problem}")?,
                (None, Some(root), Some(_)) => writeln!(f, "{root}, equal after replay")?,
                (None, Some(root), None) => writeln!(f, "{root}")?,
                (None, None, _) => writeln!(f)?,
            }
        }
        if let Some(state) = &self.state {
            writeln!(f, "state       {} {}", state.record, state.root)?;
        }
        writeln!(f, "start       {}", self.start)?;
        if let Some(free) = self.free_bytes {
            writeln!(f, "free        {}", mib(free))?;
        }
        self.strangers.iter().try_for_each(|name| writeln!(f, "not ours    {name}"))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note        {note}"))?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "PROBLEM     {problem}"))?;
        match self.problems.len() {
            0 => write!(f, "sound"),
            1 => write!(f, "not sound: 1 problem"),
            problems => write!(f, "not sound: {problems} problems"),
        }
    }
}

/// Shows a size.
fn mib(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1_024)),
        1_048_576.. => format!("{} MiB", bytes >> 20),
    }
}
