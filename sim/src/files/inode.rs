//! One file: what the running system sees of it, and what the platter holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The unit that is written whole, old or new (L60).
pub const SECTOR: usize = 512;

/// The content of a sector; none for zeros.
pub(super) type Sector = Option<Arc<[u8; SECTOR]>>;

/// Sectors that are not all zeros.
type Sectors = BTreeMap<u64, Arc<[u8; SECTOR]>>;

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    len: u64,
    durable_len: u64,
    now: Sectors,
    platter: Sectors,
    /// Written since the last sync that took them.
    dirty: BTreeSet<u64>,
}

/// Cuts a write at the borders of sectors.
pub(super) fn sectors(offset: u64, bytes: &[u8]) -> Vec<(u64, &[u8])> {
    let (mut at, mut rest, mut pieces) = (offset, bytes, Vec::new());
    while !rest.is_empty() {
        let room = SECTOR - usize::try_from(at % SECTOR as u64).expect("less than a sector");
        let (piece, more) = rest.split_at(room.min(rest.len()));
        pieces.push((at, piece));
        (at, rest) = (at + piece.len() as u64, more);
    }
    pieces
}

fn put(sectors: &mut Sectors, sector: u64, content: &Sector) {
    match content {
        Some(content) => {
            sectors.insert(sector, Arc::clone(content));
        }
        None => {
            sectors.remove(&sector);
        }
    }
}

/// Reads bytes that may go over several sectors.
fn read(sectors: &Sectors, len: u64, offset: u64, bytes: u64) -> Vec<u8> {
    let end = (offset + bytes).min(len);
    let count = usize::try_from(end.saturating_sub(offset)).expect("a simulated file is small");
    let mut out = vec![0; count];
    let first = offset / SECTOR as u64;
    for (sector, content) in sectors.range(first..=end / SECTOR as u64) {
        let start = sector * SECTOR as u64;
        let from = start.max(offset);
        let to = (start + SECTOR as u64).min(end);
        if from < to {
            let place = |at: u64, base: u64| usize::try_from(at - base).expect("small");
            let source = &content[place(from, start)..place(to, start)];
            out[place(from, offset)..place(to, offset)].copy_from_slice(source);
        }
    }
    out
}

impl Inode {
    pub(super) fn zeros(len: u64) -> Self {
        Self { len, ..Self::default() }
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(super) const fn now(&self) -> &Sectors {
        &self.now
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (at, piece) in sectors(offset, bytes) {
            let sector = at / SECTOR as u64;
            let start = usize::try_from(at % SECTOR as u64).expect("less than a sector");
            let mut content = self.now.get(&sector).map_or([0; SECTOR], |content| **content);
            content[start..start + piece.len()].copy_from_slice(piece);
            let zeros = content.iter().all(|byte| *byte == 0);
            put(&mut self.now, sector, &(!zeros).then(|| Arc::new(content)));
            self.dirty.insert(sector);
        }
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    pub(super) fn read(&self, offset: u64, bytes: u64) -> Vec<u8> {
        read(&self.now, self.len, offset, bytes)
    }

    /// What a sync that begins now takes along.
    pub(super) fn unsynced(&self) -> Vec<(u64, Sector)> {
        self.dirty.iter().map(|sector| (*sector, self.now.get(sector).cloned())).collect()
    }

    /// Ends a sync: those that `keeps` says are on the platter, and all count as written.
    pub(super) fn settle(
        &mut self,
        taken: Vec<(u64, Sector)>,
        len: u64,
        keeps: &mut dyn FnMut(u64) -> bool,
    ) {
        for (sector, content) in taken {
            if self.now.get(&sector) == content.as_ref() {
                self.dirty.remove(&sector);
            }
            if keeps(sector) {
                put(&mut self.platter, sector, &content);
            }
        }
        if keeps(u64::MAX) {
            self.durable_len = self.durable_len.max(len);
        }
    }

    /// Lists what a power cut decides about: sector, what the platter has, what was written.
    pub(super) fn at_stake(&self) -> Vec<(u64, Sector, Sector)> {
        let each = |sector: &u64| {
            (*sector, self.platter.get(sector).cloned(), self.now.get(sector).cloned())
        };
        self.dirty.iter().map(each).collect()
    }

    pub(super) fn keep(&mut self, sector: u64, content: &Sector) {
        put(&mut self.platter, sector, content);
    }

    /// Keeps half of what was written to a sector: the first half, or the second.
    pub(super) fn tear(&mut self, sector: u64, was: &Sector, is: &Sector, first: bool) {
        let bytes = |content: &Sector| content.as_ref().map_or([0; SECTOR], |content| **content);
        let (mut torn, new) = (bytes(was), bytes(is));
        let half = if first { 0..SECTOR / 2 } else { SECTOR / 2..SECTOR };
        torn[half.clone()].copy_from_slice(&new[half]);
        put(&mut self.platter, sector, &Some(Arc::new(torn)));
    }

    /// The power failed: the platter is all that there is. `long` says whether a length that was
    /// not synced is there.
    pub(super) fn cut(&mut self, long: bool) {
        if long {
            self.durable_len = self.len;
        }
        let least = self.platter.last_key_value().map_or(0, |(last, _)| (last + 1) * SECTOR as u64);
        self.durable_len = self.durable_len.max(least.min(self.len));
        self.len = self.durable_len;
        self.now.clone_from(&self.platter);
        self.dirty.clear();
    }

    /// Says whether the platter has `bytes` at `offset`, and nothing under way can change that.
    pub(super) fn has(&self, offset: u64, bytes: &[u8]) -> bool {
        read(&self.platter, self.durable_len, offset, bytes.len() as u64) == bytes
    }

    pub(super) fn is_synced(&self) -> bool {
        self.dirty.is_empty() && self.durable_len == self.len && self.now == self.platter
    }

    /// Lists the sectors of the platter where something stands.
    pub(super) fn written(&self) -> impl Iterator<Item = u64> + '_ {
        self.platter.keys().copied()
    }

    pub(super) fn platter_bytes(&self) -> Vec<u8> {
        read(&self.platter, self.durable_len, 0, self.durable_len)
    }

    pub(super) fn flip(&mut self, sector: u64, bit: u64) {
        let mut content = self.platter.get(&sector).map_or([0; SECTOR], |content| **content);
        let byte = usize::try_from(bit / 8).expect("within a sector");
        content[byte] ^= 1 << (bit % 8);
        let content = Some(Arc::new(content));
        put(&mut self.platter, sector, &content);
        put(&mut self.now, sector, &content);
    }

    pub(super) fn erase(&mut self, offset: u64) {
        let rest = self.len.saturating_sub(offset);
        let zeros = vec![0; usize::try_from(rest).expect("a simulated file is small")];
        self.write(offset, &zeros);
        self.platter.clone_from(&self.now);
        self.dirty.clear();
    }
}
