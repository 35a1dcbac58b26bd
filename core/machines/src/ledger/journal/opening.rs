//! How the next segment is made (L21, L24): see the header of `journal.rs`.

use std::sync::Arc;

use super::io::{DiskError, Output};
use super::spares::Spare;
use super::{Current, Journal, Known, Phase, RETRY, STRIKES_MAX, Syncing, Target};
use crate::ledger::record::MARKER_BYTES;
use crate::ledger::segment::{File, HEADER_BYTES, Header};
use crate::{Instant, sometimes};

/// What a segment holds beside its records: the header, and a marker at the end.
pub(super) const ROOM: u64 = (HEADER_BYTES + MARKER_BYTES) as u64;

/// A segment on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Opening {
    header: Header,
    /// The file it is made of; none yet in [`Step::Spare`].
    spare: Option<Spare>,
    step: Step,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Wait for a prepared file.
    Spare,
    /// Write the header.
    Header,
    /// Write all that is not known to be durable.
    Groups,
    /// Sync the file.
    Sync,
    /// Give it its name.
    Rename,
    /// Sync the folder.
    SyncDir,
}

impl Journal {
    /// Begins a segment at the record after the durable head, once nothing is in flight: neither
    /// a write to a file that is about to be replaced, nor a sync of the folder.
    pub(super) fn open_when_quiet(&mut self) {
        if self.in_flight() {
            return;
        }
        sometimes!("journal: records are written a second time", !self.groups.is_empty());
        let header = Header {
            node: self.node,
            first: self.durable + 1,
            chain: self.groups.front().map_or(self.chain, |group| group.chain),
            created_ms: self.time_ms,
        };
        self.retry = None;
        self.phase = Phase::Opening(Opening { header, spare: None, step: Step::Spare });
        self.open_next();
    }

    /// Says whether the opening can go on only with a prepared file.
    pub(super) fn wants_spare(&self) -> bool {
        matches!(&self.phase, Phase::Opening(opening) if opening.step == Step::Spare)
    }

    pub(super) fn open_step(&mut self, step: Step) {
        match &mut self.phase {
            Phase::Opening(opening) => opening.step = step,
            Phase::Draining | Phase::Open | Phase::Turning | Phase::Stalled | Phase::Stopped => {
                unreachable!("only an opening writes headers and syncs before it is open");
            }
        }
    }

    /// Does the next step, unless one is out or waits to be tried again.
    pub(super) fn open_next(&mut self) {
        let Phase::Opening(opening) = &self.phase else {
            return;
        };
        if self.in_flight() || self.retry.is_some() {
            return;
        }
        let (step, header) = (opening.step, opening.header);
        let Some(spare) = opening.spare else {
            self.take_spare();
            return;
        };
        let (file, name) = (File::Spare(spare.number), File::Segment(header.first));
        match step {
            Step::Spare => unreachable!("a file was taken"),
            Step::Header => {
                let (op, bytes) = (self.op(), Arc::new(header.to_bytes().to_vec()));
                self.write = Some((op, Target::Header));
                self.outputs.push_back(Output::Write { op, file, offset: 0, bytes });
            }
            Step::Groups => self.write_again(file),
            Step::Sync => self.sync_opening(file),
            Step::Rename => {
                let op = self.op();
                self.naming = Some(op);
                self.outputs.push_back(Output::Rename { op, from: file, to: name });
            }
            Step::SyncDir => {
                let op = self.op();
                self.naming = Some(op);
                self.outputs.push_back(Output::SyncDir { op });
            }
        }
    }

    /// Takes a prepared file, and gives every group its place in it. One that is too small was
    /// prepared beside a segment that an earlier configuration had made larger.
    fn take_spare(&mut self) {
        let Some(spare) = self.spares.take() else {
            return;
        };
        if spare.bytes < self.spare_bytes() {
            self.spares.discard(spare);
            return;
        }
        let mut offset = HEADER_BYTES as u64;
        for group in &mut self.groups {
            group.offset = offset;
            group.written = false;
            offset += group.bytes.len() as u64;
        }
        assert!(offset + MARKER_BYTES as u64 <= spare.bytes, "it was prepared for them");
        if let Phase::Opening(opening) = &mut self.phase {
            opening.spare = Some(spare);
            opening.step = Step::Header;
        }
        self.open_next();
    }

    fn write_again(&mut self, file: File) {
        if self.written() < self.groups.len() {
            self.write_group(file);
        } else {
            self.open_step(Step::Sync);
            self.sync_opening(file);
        }
    }

    fn sync_opening(&mut self, file: File) {
        let op = self.op();
        self.sync = Some(Syncing { op, covers: self.durable, marker: false });
        self.outputs.push_back(Output::Sync { op, file });
    }

    /// The rename or the sync of the folder is done.
    pub(super) fn named(&mut self, now: Instant) {
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        if opening.step == Step::Rename {
            opening.step = Step::SyncDir;
            return;
        }
        let header = opening.header;
        let bytes = opening.spare.map_or(0, |spare| spare.bytes);
        let again: u64 = self.groups.iter().map(|group| group.bytes.len() as u64).sum();
        self.current = Current {
            first: header.first,
            end: HEADER_BYTES as u64 + again,
            bytes,
            seal: header.seal(),
            evident: header.first - 1,
            marked: false,
        };
        // A file of the same name held nothing that was acknowledged, and was replaced.
        while self.segments.back().is_some_and(|known| known.first >= header.first) {
            self.segments.pop_back();
        }
        self.segments.push_back(Known { first: header.first, created_ms: header.created_ms });
        self.last_is_named = true;
        self.phase = Phase::Open;
        self.strikes = 0;
        self.full = false;
        self.idle = now + super::IDLE;
        if let Some(last) = self.groups.back().map(|group| group.last.record) {
            self.advance_durable(last);
        }
    }

    /// The file is given up, whatever stands in it, and another one is begun: at once, or after a
    /// while if there was no room, which is no failure of the disk (L23, L24).
    pub(super) fn opening_failed(&mut self, now: Instant, error: DiskError) {
        let Phase::Opening(opening) = &mut self.phase else {
            return;
        };
        let naming = opening.step == Step::Rename;
        if naming && error == DiskError::NoSpace {
            self.full = true;
            self.retry = Some(now + RETRY);
            return;
        }
        opening.step = Step::Spare;
        if let Some(spare) = opening.spare.take() {
            self.spares.discard(spare);
        }
        match error {
            DiskError::NoSpace => {
                self.full = true;
                self.retry = Some(now + RETRY);
            }
            DiskError::Short | DiskError::Device => self.strike(error),
        }
    }

    pub(super) fn strike(&mut self, error: DiskError) {
        self.strikes += 1;
        sometimes!("journal: opening a segment failed");
        if self.strikes >= STRIKES_MAX {
            sometimes!("journal: stalled");
            self.phase = Phase::Stalled;
            self.outputs.push_back(Output::Stalled(error));
        }
    }
}
