//! A node's disk: what was written, what of it is durable, and what goes wrong with it (T20).
//!
//! A write is pending until a sync that tells the truth; a crash takes what is pending, and with
//! torn writes on, keeps any part of it: of each 512-byte sector any prefix, in any order.
//!
//! The contract of the port ([`runtime::ports::Disk`]) promises more for a file that is not there
//! yet: it is made whole or not at all. A disk that lied about a sync loses all that it was told
//! since, as a write-back cache without power does, and tears none of it: lying and tearing are two
//! faults, and each is to be seen alone.

use machines::Choices;

use crate::strikes::Strikes;

/// The unit that a crash tears at.
pub const SECTOR: usize = 512;

/// A file that a node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// The session file (C7).
    Session,
}

const FILES: usize = 1;

/// What is wrong with a disk at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskFaults {
    /// A crash keeps any prefix of each unsynced sector.
    pub torn: bool,
    /// A sync reports done, and is not.
    pub lost_sync: bool,
    /// A write lands in another place.
    pub misdirected: bool,
    /// Reads fail.
    pub read_error: bool,
    /// Writes fail: there is no room.
    pub full: bool,
    /// Nothing ends before this true time.
    pub stalled_until: u64,
}

/// Why a disk refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskError {
    /// There is no room.
    Full,
    /// The bytes cannot be read.
    Read,
}

#[derive(Clone, Debug)]
struct Pending {
    offset: usize,
    bytes: Vec<u8>,
    /// A sync said that it is durable, and lied.
    promised: bool,
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// Empty if there is no file.
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

/// The disk of one node.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    files: [Content; FILES],
    /// What is wrong with it now.
    pub faults: DiskFaults,
    struck: Strikes,
}

impl Disk {
    /// Reads a whole file, as the running system sees it: pending writes included.
    ///
    /// # Errors
    ///
    /// [`DiskError::Read`] while that fault is on. An absent file is empty.
    pub fn read(&mut self, file: File) -> Result<Vec<u8>, DiskError> {
        if self.faults.read_error {
            self.struck.count("read-error");
            return Err(DiskError::Read);
        }
        let content = &self.files[file as usize];
        let mut bytes = content.durable.clone();
        for write in &content.pending {
            put(&mut bytes, write.offset, &write.bytes);
        }
        Ok(bytes)
    }

    /// Writes `bytes` at `offset`. Durable only after a sync.
    ///
    /// # Errors
    ///
    /// [`DiskError::Full`] while that fault is on; nothing was written.
    pub fn write(
        &mut self,
        file: File,
        offset: usize,
        bytes: &[u8],
        node: u32,
        choices: &mut Choices,
    ) -> Result<(), DiskError> {
        if self.faults.full {
            self.struck.count("full");
            return Err(DiskError::Full);
        }
        let mut offset = offset;
        if self.faults.misdirected {
            let by = choices.choose("disk.misdirect", [u64::from(node), file as u64], 64);
            offset += usize::try_from(by).expect("less than 64");
            if by > 0 {
                self.struck.count("misdirected");
            }
        }
        let write = Pending { offset, bytes: bytes.to_vec(), promised: false };
        self.files[file as usize].pending.push(write);
        Ok(())
    }

    /// Returns when a write and its sync, begun at `now`, are done if they take `takes`.
    pub fn done_at(&mut self, now: u64, takes: u64) -> u64 {
        if self.faults.stalled_until > now {
            self.struck.count("stall");
        }
        now.max(self.faults.stalled_until) + takes
    }

    /// Makes what was written durable, unless syncs are lost. The caller cannot tell.
    pub fn sync(&mut self, file: File) {
        let content = &mut self.files[file as usize];
        if self.faults.lost_sync {
            for write in &mut content.pending {
                write.promised = true;
            }
            return;
        }
        for write in content.pending.drain(..) {
            put(&mut content.durable, write.offset, &write.bytes);
        }
    }

    /// The node crashed: what is pending goes, but for the parts that a torn write keeps.
    pub fn crash(&mut self, node: u32, choices: &mut Choices) {
        let torn = self.faults.torn;
        for (file, content) in self.files.iter_mut().enumerate() {
            let pending = std::mem::take(&mut content.pending);
            if pending.iter().any(|write| write.promised) {
                self.struck.count("lost-sync");
            } else if torn {
                let who = [u64::from(node), file as u64];
                tear(&mut content.durable, &pending, who, choices, &mut self.struck);
            }
        }
    }

    /// Flips one bit of what is durable, if there is anything.
    pub fn rot(&mut self, node: u32, choices: &mut Choices) {
        for (file, content) in self.files.iter_mut().enumerate() {
            let bits = content.durable.len() as u64 * 8;
            if bits > 0 {
                let bit = choices.choose("disk.rot", [u64::from(node), file as u64], bits);
                let byte = usize::try_from(bit / 8).expect("within the file");
                content.durable[byte] ^= 1 << (bit % 8);
                self.struck.count("rot");
            }
        }
    }

    /// Loses everything.
    pub fn wipe(&mut self) {
        self.files = Default::default();
    }

    /// Counts how often its faults did something.
    #[must_use]
    pub const fn struck(&self) -> &Strikes {
        &self.struck
    }

    /// Returns what would survive a crash now.
    #[must_use]
    pub fn durable(&self, file: File) -> &[u8] {
        &self.files[file as usize].durable
    }
}

/// Keeps parts of what a crash interrupted: of a file that is not there all or nothing, since its
/// name appears only once it is whole; of one that is there any prefix of each sector.
fn tear(
    durable: &mut Vec<u8>,
    pending: &[Pending],
    who: [u64; 2],
    choices: &mut Choices,
    struck: &mut Strikes,
) {
    for write in pending {
        if durable.is_empty() {
            if choices.choose("disk.created", who, 2) == 0 {
                return;
            }
            put(durable, write.offset, &write.bytes);
            continue;
        }
        for (start, piece) in sectors(write.offset, &write.bytes) {
            let kept = choices.choose("disk.torn", who, piece.len() as u64 + 1);
            let kept = usize::try_from(kept).expect("at most a sector");
            put(durable, start, &piece[..kept]);
            if 0 < kept && kept < piece.len() {
                struck.count("torn");
            }
        }
    }
}

/// Cuts a write at the borders of sectors.
fn sectors(offset: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let (mut start, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let room = SECTOR - start % SECTOR;
        let (piece, left) = rest.split_at(room.min(rest.len()));
        pieces.push((start, piece));
        start += piece.len();
        rest = left;
    }
    pieces
}

fn put(bytes: &mut Vec<u8>, offset: usize, written: &[u8]) {
    let end = offset + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(written);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(faults: DiskFaults, sync: bool) -> (Disk, Choices) {
        let (mut disk, mut choices) = (Disk::default(), Choices::new(3));
        disk.faults = faults;
        disk.write(File::Session, 500, &[7; 600], 0, &mut choices).unwrap();
        if sync {
            disk.sync(File::Session);
        }
        (disk, choices)
    }

    #[test]
    fn a_crash_loses_unsynced_sectors_and_keeps_synced_ones() {
        let (mut disk, mut choices) = written(DiskFaults::default(), false);
        assert_eq!(disk.read(File::Session).unwrap().len(), 1_100, "the system sees its writes");
        disk.crash(0, &mut choices);
        assert!(disk.read(File::Session).unwrap().is_empty());

        let (mut disk, mut choices) = written(DiskFaults::default(), true);
        disk.crash(0, &mut choices);
        assert_eq!(disk.durable(File::Session)[500..], [7; 600]);
    }

    #[test]
    fn a_lost_sync_reports_done_and_the_crash_takes_the_bytes() {
        let (mut disk, mut choices) =
            written(DiskFaults { lost_sync: true, ..Default::default() }, true);
        disk.crash(0, &mut choices);
        assert!(disk.durable(File::Session).is_empty());
    }

    #[test]
    fn a_torn_write_keeps_a_prefix_of_each_sector() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut disk = Disk::default();
            disk.faults.torn = true;
            let mut choices = Choices::new(seed);
            disk.write(File::Session, 0, &[1; 1_100], 0, &mut choices).unwrap();
            disk.sync(File::Session);
            disk.write(File::Session, 500, &[7; 600], 0, &mut choices).unwrap();
            disk.crash(0, &mut choices);
            let first = (500..512).filter(|at| disk.durable(File::Session)[*at] == 7);
            seen.insert(first.count());
        }
        assert!(seen.len() > 3, "tears differ: {seen:?}");
    }

    #[test]
    fn a_file_is_created_whole_or_not_at_all() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut disk = Disk::default();
            disk.faults.torn = true;
            let mut choices = Choices::new(seed);
            disk.write(File::Session, 16, &[7; 16], 0, &mut choices).unwrap();
            disk.crash(0, &mut choices);
            seen.insert(disk.durable(File::Session).to_vec());
        }
        let whole = [[0; 16], [7; 16]].concat();
        assert_eq!(seen, [Vec::new(), whole].into(), "nothing between none and all of it");
    }

    #[test]
    fn what_a_disk_lied_about_goes_whole_even_where_writes_tear() {
        for seed in 0..20 {
            let mut disk = Disk::default();
            let mut choices = Choices::new(seed);
            disk.write(File::Session, 0, &[1; 32], 0, &mut choices).unwrap();
            disk.sync(File::Session);
            disk.faults = DiskFaults { torn: true, lost_sync: true, ..DiskFaults::default() };
            disk.write(File::Session, 0, &[2; 16], 0, &mut choices).unwrap();
            disk.sync(File::Session);
            disk.write(File::Session, 16, &[3; 16], 0, &mut choices).unwrap();
            disk.crash(0, &mut choices);
            assert_eq!(disk.durable(File::Session), [1; 32]);
            assert_eq!(disk.struck().clone().into_counts(), [("lost-sync", 1)].into());
        }
    }

    #[test]
    fn full_unreadable_rotten_and_misdirected_disks_do_what_they_say() {
        let (mut disk, mut choices) = written(DiskFaults::default(), true);
        disk.faults.full = true;
        assert_eq!(disk.write(File::Session, 0, &[1], 0, &mut choices), Err(DiskError::Full));
        disk.faults.read_error = true;
        assert_eq!(disk.read(File::Session), Err(DiskError::Read));
        let before = disk.durable(File::Session).to_vec();
        disk.rot(0, &mut choices);
        let changed = before.iter().zip(disk.durable(File::Session)).filter(|(a, b)| a != b);
        assert_eq!(changed.count(), 1);
        let (disk, _) = written(DiskFaults { misdirected: true, ..Default::default() }, true);
        assert_ne!(disk.durable(File::Session).len(), 1_100, "the write went elsewhere");
    }
}
