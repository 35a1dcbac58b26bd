//! A simulated disk that does the worst it may (L60–L64).
//!
//! Each file has what a reader sees and what a power cut leaves, in sectors of 512 bytes; the
//! folder has names that a reader sees and names that a power cut leaves.

use std::collections::{BTreeMap, BTreeSet};

use crate::Choices;
use crate::ledger::recovery::io::Listed;
use crate::ledger::segment::File;

pub(in crate::ledger) const SECTOR: usize = 512;

/// Which of the sectors and names that were not synced a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ledger) enum Outcome {
    All,
    None,
    Alternate,
    Random(u64),
}

impl Outcome {
    pub(super) fn coin(self) -> Coin {
        Coin {
            outcome: self,
            asked: 0,
            choices: Choices::new(if let Self::Random(seed) = self { seed } else { 0 }),
        }
    }
}

/// Answers, one after the other, what survives.
#[derive(Clone, Debug)]
pub(super) struct Coin {
    outcome: Outcome,
    asked: u64,
    choices: Choices,
}

impl Coin {
    pub(super) fn toss(&mut self) -> bool {
        self.asked += 1;
        match self.outcome {
            Outcome::All => true,
            Outcome::None => false,
            Outcome::Alternate => self.asked % 2 == 1,
            Outcome::Random(_) => self.choices.choose("coin", [0; 2], 2) == 1,
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

impl Inode {
    fn sector(&self, sector: usize) -> Vec<u8> {
        let start = sector * SECTOR;
        self.now[start..(start + SECTOR).min(self.now.len())].to_vec()
    }

    fn keep(&mut self, sector: usize, bytes: &[u8]) {
        let start = sector * SECTOR;
        if self.durable.len() < start + bytes.len() {
            self.durable.resize(start + bytes.len(), 0);
        }
        self.durable[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.now[offset..offset + bytes.len()].copy_from_slice(bytes);
        let last = (offset + bytes.len() - 1) / SECTOR;
        self.dirty.extend(offset / SECTOR..=last);
    }
}

#[derive(Clone, Copy, Debug)]
enum Naming {
    Put(File, u64),
    Move(File, File, u64),
    Drop(File),
}

fn apply(names: &mut BTreeMap<File, u64>, naming: Naming) {
    match naming {
        Naming::Put(file, inode) => {
            names.insert(file, inode);
        }
        Naming::Move(from, to, inode) => {
            names.remove(&from);
            names.insert(to, inode);
        }
        Naming::Drop(file) => {
            names.remove(&file);
        }
    }
}

/// What a sync took along when it began.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    inode: u64,
    sectors: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug, Default)]
pub(in crate::ledger) struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<File, u64>,
    durable_names: BTreeMap<File, u64>,
    pending: Vec<Naming>,
    made: u64,
}

impl Disk {
    fn inode(&mut self, file: File) -> &mut Inode {
        let inode = self.names.get(&file).unwrap_or_else(|| panic!("{file} is there"));
        self.inodes.get_mut(inode).expect("a name has a file")
    }

    pub(super) fn create(&mut self, file: File, bytes: u64) {
        self.made += 1;
        let now = vec![0; usize::try_from(bytes).unwrap()];
        let dirty = (0..now.len().div_ceil(SECTOR)).collect();
        self.inodes.insert(self.made, Inode { now, durable: Vec::new(), dirty });
        self.name(Naming::Put(file, self.made));
    }

    fn name(&mut self, naming: Naming) {
        apply(&mut self.names, naming);
        self.pending.push(naming);
    }

    pub(super) fn write(&mut self, file: File, offset: u64, bytes: &[u8]) {
        self.inode(file).write(usize::try_from(offset).unwrap(), bytes);
    }

    /// Writes some of the sectors.
    pub(super) fn write_partly(&mut self, file: File, offset: u64, bytes: &[u8], coin: &mut Coin) {
        let mut at = usize::try_from(offset).unwrap();
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at((SECTOR - at % SECTOR).min(rest.len()));
            if coin.toss() {
                self.inode(file).write(at, piece);
            }
            (at, rest) = (at + piece.len(), more);
        }
    }

    pub(super) fn begin_sync(&mut self, file: File) -> Taken {
        let number = self.names[&file];
        let inode = self.inode(file);
        let sectors = inode.dirty.iter().map(|sector| (*sector, inode.sector(*sector)));
        Taken { inode: number, sectors: sectors.collect() }
    }

    pub(super) fn sync(&mut self, taken: Taken) {
        self.sync_partly(taken, &mut Outcome::All.coin());
    }

    /// L63: what was not written counts as clean all the same, until it is written again.
    pub(super) fn sync_partly(&mut self, taken: Taken, coin: &mut Coin) {
        let Some(inode) = self.inodes.get_mut(&taken.inode) else {
            return;
        };
        for (sector, bytes) in taken.sectors {
            if inode.sector(sector) == bytes {
                inode.dirty.remove(&sector);
            }
            if coin.toss() {
                inode.keep(sector, &bytes);
            }
        }
    }

    pub(super) fn rename(&mut self, from: File, to: File) {
        if let Some(inode) = self.names.get(&from).copied() {
            self.name(Naming::Move(from, to, inode));
        }
    }

    pub(super) fn remove(&mut self, file: File) {
        if self.names.contains_key(&file) {
            self.name(Naming::Drop(file));
        }
    }

    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Makes the first `count` changes of names durable, or some of them.
    pub(super) fn sync_dir(&mut self, count: usize, coin: &mut Coin) {
        for naming in self.pending.drain(..count.min(self.pending.len())) {
            if coin.toss() {
                apply(&mut self.durable_names, naming);
            }
        }
    }

    /// The power fails.
    pub(super) fn crash(&mut self, coin: &mut Coin) {
        self.sync_dir(usize::MAX, coin);
        self.names = self.durable_names.clone();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|number, _| named.contains(number));
        for inode in self.inodes.values_mut() {
            for sector in std::mem::take(&mut inode.dirty) {
                let bytes = inode.sector(sector);
                if coin.toss() {
                    inode.keep(sector, &bytes);
                }
            }
            inode.now = inode.durable.clone();
        }
    }

    pub(in crate::ledger) fn list(&self) -> Vec<Listed> {
        let bytes = |inode: &u64| self.inodes[inode].now.len() as u64;
        let names = self.names.iter();
        names.map(|(file, inode)| Listed { name: file.to_string(), bytes: bytes(inode) }).collect()
    }

    pub(in crate::ledger) fn files(&self) -> Vec<File> {
        self.names.keys().copied().collect()
    }

    pub(in crate::ledger) fn read(&self, file: File) -> &[u8] {
        &self.inodes[&self.names[&file]].now
    }

    /// Rot: changes what is on the disk.
    pub(in crate::ledger) fn rot(&mut self, file: File, change: impl Fn(&mut [u8])) {
        let inode = self.inode(file);
        change(&mut inode.now);
        inode.durable = inode.now.clone();
    }

    /// Puts a file there, durably.
    pub(in crate::ledger) fn put(&mut self, file: File, bytes: Vec<u8>) {
        self.made += 1;
        let inode = Inode { now: bytes.clone(), durable: bytes, dirty: BTreeSet::new() };
        self.inodes.insert(self.made, inode);
        self.names.insert(file, self.made);
        self.durable_names.insert(file, self.made);
    }
}
