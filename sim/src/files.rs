//! The files of a node: many, in folders, with all that a disk may do to them (L60–L64).
//!
//! ```text
//!   write ─► page cache ──sync──► platter        a file, by sectors of 512 bytes
//!   create, rename, remove ─► names ──sync of the folder──► durable names
//! ```
//!
//! A power cut leaves the platter and the durable names, and of what was not synced any subset:
//! each written sector old or new, each change of a name made or not. The end of a process alone
//! leaves all that it had written, and part of what was under way. Each answer is asked of
//! [`Choices`]; 0 is benign.
//!
//! A *failed* sync has written any subset and counts all of it as written, so that a later one
//! reports success without writing the rest (L63). A *lying* sync reports success, writes nothing,
//! and leaves everything to a later one that does not lie.
//!
//! Sectors that hold zeros are not kept, so that a preallocated file costs nothing and a disk can
//! be copied many times over.

mod inode;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use machines::Choices;

use crate::strikes::Strikes;
use inode::{Inode, Sector};

pub use inode::SECTOR;

/// Something to do to a disk. A file is named by its path: folder, slash, name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the calls of an operating system")]
pub enum Operation {
    /// Make the file, or empty it, and fill it with so many zeros.
    Create { file: String, bytes: u64 },
    /// Write, making the file longer if need be.
    Write { file: String, offset: u64, bytes: Arc<Vec<u8>> },
    /// Make what was written durable.
    Sync { file: String },
    /// Give the file another name, in the place of any that has it.
    Rename { from: String, to: String },
    /// Remove the file, if it is there.
    Remove { file: String },
    /// Make the names in the folder durable.
    SyncDir { folder: String },
    /// List the files of the folder with their lengths.
    List { folder: String },
    /// Read.
    ReadAt { file: String, offset: u64, bytes: u64 },
}

impl Operation {
    /// What it is called in a trace.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Write { .. } => "write",
            Self::Sync { .. } => "sync",
            Self::Rename { .. } => "rename",
            Self::Remove { .. } => "remove",
            Self::SyncDir { .. } => "sync folder",
            Self::List { .. } => "list",
            Self::ReadAt { .. } => "read",
        }
    }

    /// Returns the path that it is about.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Create { file, .. }
            | Self::Write { file, .. }
            | Self::Sync { file }
            | Self::Remove { file }
            | Self::ReadAt { file, .. } => file,
            Self::Rename { to, .. } => to,
            Self::SyncDir { folder } | Self::List { folder } => folder,
        }
    }

    /// Says whether it changes nothing.
    #[must_use]
    pub const fn only_reads(&self) -> bool {
        matches!(self, Self::List { .. } | Self::ReadAt { .. })
    }
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// There is no room.
    NoSpace,
    /// Fewer bytes than asked for.
    Short,
    /// The device failed.
    Device,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It was done.
    Done,
    /// The files of the folder: name without the folder, and length.
    Listed(Vec<(String, u64)>),
    /// The bytes.
    Read(Vec<u8>),
    /// It failed, having done part of its work or none.
    Failed(Failure),
}

/// What is wrong with the disk at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A sector can be half old and half new after a power cut.
    pub torn: bool,
    /// A sync reports success and writes nothing.
    pub lost_sync: bool,
    /// Some writes land in another sector.
    pub misdirected: bool,
    /// Some reads fail.
    pub read_error: bool,
    /// There is no room for new files and longer ones, and seldom for a write inside a file.
    pub full: bool,
    /// A share of syncs fails, in millionths.
    pub failed_sync: u32,
    /// A share of writes fails.
    pub failed_write: u32,
    /// Nothing ends before this true time.
    pub stalled_until: u64,
    /// Each operation takes so much longer.
    pub slow: u64,
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All of it.
    All,
    /// Nothing.
    None,
    /// Every other sector and name.
    Alternate,
    /// Each as drawn.
    Drawn,
}

impl Outcome {
    /// Each of them.
    pub const EACH: [Self; 4] = [Self::All, Self::None, Self::Alternate, Self::Drawn];
}

/// Decides piece by piece what survives.
#[derive(Debug)]
pub struct Fate<'a> {
    outcome: Outcome,
    asked: u64,
    choices: &'a mut Choices,
}

impl<'a> Fate<'a> {
    /// Decides by `outcome`.
    pub const fn new(outcome: Outcome, choices: &'a mut Choices) -> Self {
        Self { outcome, asked: 0, choices }
    }

    /// Says whether a piece survives; surviving is the benign answer.
    fn keeps(&mut self, who: [u64; 2]) -> bool {
        self.asked += 1;
        match self.outcome {
            Outcome::All => true,
            Outcome::None => false,
            Outcome::Alternate => self.asked % 2 == 1,
            Outcome::Drawn => self.choices.choose("files.lost", who, 2) == 0,
        }
    }
}

/// A change of names that was not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Naming {
    Put(String, u64),
    Move(String, String, u64),
    Drop(String),
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Put(file, inode) => {
                names.insert(file.clone(), *inode);
            }
            Self::Move(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            Self::Drop(file) => {
                names.remove(file);
            }
        }
    }

    fn folder(&self) -> &str {
        match self {
            Self::Put(file, _) | Self::Move(_, file, _) | Self::Drop(file) => folder(file),
        }
    }
}

/// Returns the folder of a path.
fn folder(path: &str) -> &str {
    path.split_once('/').map_or("", |(folder, _)| folder)
}

/// What a sync takes along: of which inode, which sectors, and its length.
type Taken = (u64, Vec<(u64, Sector)>, u64);

/// An operation that is under way.
#[derive(Clone, Debug)]
pub struct Flight {
    /// What is to be done.
    pub operation: Operation,
    /// What a sync takes along: what was written when it began.
    taken: Option<Taken>,
    /// How many changes of names a sync of the folder takes along.
    namings: u64,
}

/// Where something was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InodeId(u64);

/// A bit that rotted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotten {
    /// In which file.
    pub file: String,
    /// At which byte.
    pub offset: u64,
    /// What the platter had of the file before.
    pub before: Arc<Vec<u8>>,
}

/// The files of one node.
#[derive(Clone, Debug, Default)]
pub struct Files {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    pending: Vec<(u64, Naming)>,
    made: u64,
    named: u64,
    /// Which process holds the lock of the folder (L2).
    holder: Option<u32>,
    /// What is wrong with it now.
    pub faults: Faults,
    struck: Strikes,
}

impl Files {
    /// Returns when an operation that is begun at `now` and takes `takes` is done.
    pub fn done_at(&mut self, now: u64, takes: u64) -> u64 {
        if self.faults.stalled_until > now {
            self.struck.count("stall");
        }
        if self.faults.slow > 0 {
            self.struck.count("slow");
        }
        now.max(self.faults.stalled_until) + takes + self.faults.slow
    }

    /// Begins an operation: from now on a power cut may do part of it.
    #[must_use]
    pub fn begin(&self, operation: Operation) -> Flight {
        let mut taken = None;
        if let Operation::Sync { file } = &operation
            && let Some(number) = self.names.get(file)
        {
            let inode = &self.inodes[number];
            taken = Some((*number, inode.unsynced(), inode.len()));
        }
        Flight { operation, taken, namings: self.named }
    }

    /// Ends an operation: does it, as well as the disk does.
    pub fn finish(&mut self, flight: Flight, choices: &mut Choices) -> Answer {
        match &flight.operation {
            Operation::Create { file, bytes } => self.create(file, *bytes),
            Operation::Write { file, offset, bytes } => {
                self.write_checked(file, *offset, bytes, choices)
            }
            Operation::Sync { .. } => self.sync(flight.taken, choices),
            Operation::Rename { from, to } => self.rename(from, to),
            Operation::Remove { file } => {
                if self.names.contains_key(file) {
                    self.name(Naming::Drop(file.clone()));
                }
                Answer::Done
            }
            Operation::SyncDir { folder } => {
                let folder = folder.clone();
                if self.faults.lost_sync {
                    self.struck.count("lost-sync");
                    return Answer::Done;
                }
                if fails(self.faults.failed_sync, "files.failed_folder_sync", choices) {
                    self.struck.count("failed-sync");
                    let mut fate = Fate::new(Outcome::Drawn, choices);
                    self.settle_names(&folder, flight.namings, &mut fate);
                    return Answer::Failed(Failure::Device);
                }
                let mut fate = Fate::new(Outcome::All, choices);
                self.settle_names(&folder, flight.namings, &mut fate);
                Answer::Done
            }
            Operation::List { folder: wanted } => {
                let inside = self.names.iter().filter(|(path, _)| folder(path) == wanted);
                let name = |path: &str| path[wanted.len() + 1..].to_owned();
                let listed = inside.map(|(path, inode)| (name(path), self.inodes[inode].len()));
                Answer::Listed(listed.collect())
            }
            Operation::ReadAt { file, offset, bytes } => {
                self.read_checked(file, *offset, *bytes, choices)
            }
        }
    }

    fn create(&mut self, file: &str, bytes: u64) -> Answer {
        if self.faults.full && bytes > 0 {
            self.struck.count("full");
            return Answer::Failed(Failure::NoSpace);
        }
        self.made += 1;
        self.inodes.insert(self.made, Inode::zeros(bytes));
        self.name(Naming::Put(file.to_owned(), self.made));
        Answer::Done
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.named += 1;
        self.pending.push((self.named, naming));
    }

    fn rename(&mut self, from: &str, to: &str) -> Answer {
        match self.names.get(from).copied() {
            Some(inode) => {
                self.name(Naming::Move(from.to_owned(), to.to_owned(), inode));
                Answer::Done
            }
            None => Answer::Failed(Failure::Device),
        }
    }

    fn write_checked(
        &mut self,
        file: &str,
        offset: u64,
        bytes: &[u8],
        choices: &mut Choices,
    ) -> Answer {
        let Some(number) = self.names.get(file).copied() else {
            return Answer::Failed(Failure::Device);
        };
        let inode = self.inodes.get_mut(&number).expect("a name has a file");
        let longer = offset + bytes.len() as u64 > inode.len();
        if self.faults.full && (longer || choices.choose("files.full", [number, 0], 4) == 3) {
            self.struck.count("full");
            return Answer::Failed(Failure::NoSpace);
        }
        if fails(self.faults.failed_write, "files.failed_write", choices) {
            self.struck.count("failed-write");
            let part = choices.choose("files.short", [number, 0], bytes.len() as u64 + 1);
            let part = usize::try_from(part).expect("within the bytes");
            inode.write(offset, &bytes[..part]);
            let short = part > 0 && part < bytes.len();
            return Answer::Failed(if short { Failure::Short } else { Failure::Device });
        }
        let mut offset = offset;
        if self.faults.misdirected {
            let by = choices.choose("files.misdirected", [number, 0], 4) * SECTOR as u64;
            if by > 0 && offset + by + bytes.len() as u64 <= inode.len() {
                self.struck.count("misdirected");
                offset += by;
            }
        }
        inode.write(offset, bytes);
        Answer::Done
    }

    fn read_checked(
        &mut self,
        file: &str,
        offset: u64,
        bytes: u64,
        choices: &mut Choices,
    ) -> Answer {
        let Some(number) = self.names.get(file) else {
            return Answer::Failed(Failure::Device);
        };
        if self.faults.read_error && choices.choose("files.read_error", [*number, 0], 2) == 1 {
            self.struck.count("read-error");
            return Answer::Failed(Failure::Device);
        }
        Answer::Read(self.inodes[number].read(offset, bytes))
    }

    fn sync(&mut self, taken: Option<Taken>, choices: &mut Choices) -> Answer {
        let Some((number, sectors, len)) = taken else {
            return Answer::Failed(Failure::Device);
        };
        if self.faults.lost_sync {
            self.struck.count("lost-sync");
            return Answer::Done;
        }
        let failed = fails(self.faults.failed_sync, "files.failed_sync", choices);
        let outcome = if failed { Outcome::Drawn } else { Outcome::All };
        // A file that has no name any more is nobody's: there is nothing to keep of it.
        if let Some(inode) = self.inodes.get_mut(&number) {
            let mut fate = Fate::new(outcome, choices);
            inode.settle(sectors, len, &mut |sector| fate.keeps([number, sector]));
        }
        if failed {
            self.struck.count("failed-sync");
            return Answer::Failed(Failure::Device);
        }
        Answer::Done
    }

    /// Makes the changes of names in `folder` up to number `upto` durable, or some of them.
    fn settle_names(&mut self, folder: &str, upto: u64, fate: &mut Fate<'_>) {
        let pending = std::mem::take(&mut self.pending);
        for (number, naming) in pending {
            if naming.folder() != folder || number > upto {
                self.pending.push((number, naming));
            } else if fate.keeps([0, number]) {
                naming.apply(&mut self.durable);
            }
        }
    }

    /// The process ends, and the machine goes on: what was under way is done in part.
    pub fn process_end(&mut self, flights: Vec<Flight>, fate: &mut Fate<'_>) {
        for flight in flights {
            self.do_partly(flight, fate);
        }
    }

    /// The power fails: what was not synced is there in part.
    pub fn power_cut(&mut self, flights: Vec<Flight>, fate: &mut Fate<'_>) {
        for flight in flights {
            self.do_partly(flight, fate);
        }
        for (number, naming) in std::mem::take(&mut self.pending) {
            if fate.keeps([0, number]) {
                naming.apply(&mut self.durable);
            }
        }
        self.names.clone_from(&self.durable);
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|number, _| named.contains(number));
        let torn = self.faults.torn;
        for (number, inode) in &mut self.inodes {
            for (sector, was, is) in inode.at_stake() {
                let kept = fate.keeps([*number, sector]);
                if torn && fate.choices.choose("files.torn", [*number, sector], 4) == 3 {
                    self.struck.count("torn");
                    inode.tear(sector, &was, &is, kept);
                } else if kept {
                    inode.keep(sector, &is);
                }
            }
            inode.cut(fate.keeps([*number, u64::MAX]));
        }
    }

    fn do_partly(&mut self, flight: Flight, fate: &mut Fate<'_>) {
        match &flight.operation {
            Operation::Create { file, bytes } => {
                if fate.keeps([1, 0]) && !self.faults.full {
                    let bytes = if fate.keeps([1, 1]) { *bytes } else { 0 };
                    self.create(file, bytes);
                }
            }
            Operation::Write { file, offset, bytes } => {
                let Some(number) = self.names.get(file).copied() else {
                    return;
                };
                let inode = self.inodes.get_mut(&number).expect("a name has a file");
                for (at, piece) in inode::sectors(*offset, bytes) {
                    if fate.keeps([number, at / SECTOR as u64]) {
                        inode.write(at, piece);
                    }
                }
            }
            Operation::Rename { from, to } => {
                if fate.keeps([1, 2]) {
                    self.rename(from, to);
                }
            }
            Operation::Remove { file } => {
                if self.names.contains_key(file) && fate.keeps([1, 3]) {
                    self.name(Naming::Drop(file.clone()));
                }
            }
            Operation::Sync { .. }
            | Operation::SyncDir { .. }
            | Operation::List { .. }
            | Operation::ReadAt { .. } => {}
        }
    }

    /// Flips a bit of what is on the platter, in any file, where something stands.
    pub fn rot(&mut self, choices: &mut Choices) -> Option<Rotten> {
        let mut places: Vec<(String, u64, Vec<u64>)> = Vec::new();
        for (path, number) in &self.names {
            let written: Vec<u64> = self.inodes[number].written().collect();
            if !written.is_empty() {
                places.push((path.clone(), *number, written));
            }
        }
        if places.is_empty() {
            return None;
        }
        let nth = choices.choose("files.rot_file", [0, 0], places.len() as u64);
        let (file, number, sectors) = places.swap_remove(usize::try_from(nth).ok()?);
        let nth = choices.choose("files.rot", [0, 0], sectors.len() as u64);
        let sector = *sectors.get(usize::try_from(nth).ok()?)?;
        let bit = choices.choose("files.rot_bit", [0, 0], SECTOR as u64 * 8);
        let inode = self.inodes.get_mut(&number)?;
        let before = Arc::new(inode.platter_bytes());
        inode.flip(sector, bit);
        self.struck.count("rot");
        Some(Rotten { file, offset: sector * SECTOR as u64 + bit / 8, before })
    }

    /// Takes the lock of the data folder for a process, unless another has it (L2).
    pub fn lock(&mut self, process: u32) -> Result<(), u32> {
        match self.holder {
            Some(holder) if holder != process => Err(holder),
            Some(_) | None => {
                self.holder = Some(process);
                Ok(())
            }
        }
    }

    /// Lets go of the lock of a process that is gone.
    pub fn unlock(&mut self, process: u32) {
        if self.holder == Some(process) {
            self.holder = None;
        }
    }

    /// Returns who holds the lock.
    #[must_use]
    pub const fn holder(&self) -> Option<u32> {
        self.holder
    }

    /// Returns which file has that name now.
    #[must_use]
    pub fn inode(&self, file: &str) -> Option<InodeId> {
        self.names.get(file).map(|number| InodeId(*number))
    }

    /// Says whether `bytes` stand at `offset` of a file whatever a power cut leaves, under a name
    /// for which `named` holds.
    #[must_use]
    pub fn is_durable(
        &self,
        inode: InodeId,
        offset: u64,
        bytes: &[u8],
        named: impl Fn(&str) -> bool,
    ) -> bool {
        let has_name = self.durable.iter().any(|(path, number)| *number == inode.0 && named(path));
        has_name && self.inodes.get(&inode.0).is_some_and(|inode| inode.has(offset, bytes))
    }

    /// Lists the names that a power cut leaves, of files of which all is durable.
    pub fn sure(&self) -> impl Iterator<Item = &str> + '_ {
        let whole = |number: &u64| self.inodes.get(number).is_some_and(Inode::is_synced);
        self.durable.iter().filter(move |(_, number)| whole(number)).map(|(path, _)| path.as_str())
    }

    /// Lists the names as the running system sees them.
    pub fn paths(&self) -> impl Iterator<Item = &str> + '_ {
        self.names.keys().map(String::as_str)
    }

    /// Returns the whole of a file as a reader would see it after a power cut.
    #[must_use]
    pub fn on_platter(&self, file: &str) -> Option<Vec<u8>> {
        self.durable.get(file).map(|number| self.inodes[number].platter_bytes())
    }

    /// Puts zeros into a file from `offset` on, durably: what only a saboteur does.
    pub fn erase(&mut self, file: &str, offset: u64) {
        if let Some(number) = self.names.get(file)
            && let Some(inode) = self.inodes.get_mut(number)
        {
            inode.erase(offset);
        }
    }

    /// Removes a file, durably: what only a saboteur does.
    pub fn unlink(&mut self, file: &str) {
        self.names.remove(file);
        self.durable.remove(file);
    }

    /// Says in one number what a reader sees, names and contents.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let seen: Vec<_> =
            self.names.iter().map(|(path, n)| (path, self.inodes[n].now())).collect();
        machines::digest::Digest::of(&seen)
    }

    /// Counts how often its faults did something.
    #[must_use]
    pub const fn struck(&self) -> &Strikes {
        &self.struck
    }
}

/// Draws whether something fails that does so in a share of cases.
fn fails(share: u32, site: &'static str, choices: &mut Choices) -> bool {
    share > 0 && choices.choose(site, [0, 0], 1_000_000) >= 1_000_000 - u64::from(share)
}
