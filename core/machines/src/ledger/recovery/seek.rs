//! Where the records end: is it a torn tail, or the corruption of acknowledged records (L31)?
//!
//! Every 8 bytes to the end of the segment a record may begin that is valid in itself: a marker by
//! the seal of its segment, events by the hash that stands before them. What such a record says to
//! be synced was acknowledged, and must be there.
//!
//! A length of 0 is looked into like everything else: zeros too can be damage.
//!
//! # Known limits
//!
//! Events are valid in themselves by bytes that a client can choose: a payload that imitates the
//! end of one record and another one after it, with the right numbers, turns a torn tail right
//! before it into a refusal to start. Nothing is lost by that, and salvage shows it. So does one of
//! many long records that begin one inside the other: all of them are not compared with their
//! hashes, and what nobody looked at may be evidence.

use super::window::Window;
use crate::ledger::record::{self, Chain, Frame, Kind, MARKER_BYTES};
use crate::ledger::segment::HEADER_BYTES;

/// How much before a record may tell the chain it follows: a marker, and a hash before that.
const LEAD: u64 = (MARKER_BYTES + record::HASH_BYTES) as u64;
const STEP: u64 = 8;
/// How often as many bytes as the file has are read again for records that turn out to be none. A
/// damaged file has few of those; one that somebody has made could have more than anybody can
/// compare.
const AGAIN_MAX: u64 = 16;

/// See the file's header.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seek {
    /// Where the first invalid record stands.
    pub(super) from: u64,
    /// Its number.
    pub(super) record: u64,
    /// The highest record that something proves to have been acknowledged.
    pub(super) evidence: u64,
    /// Bytes of what could have been records, and were none.
    pub(super) spent: u64,
    /// Anything but zeros was seen.
    pub(super) dirty: bool,
    pub(super) at: u64,
    /// What the markers of the segment cover.
    pub(super) seal: Chain,
    /// What its first record follows.
    pub(super) before: Chain,
    /// The hash that should stand in the first invalid record.
    pub(super) repaired: Option<Chain>,
}

/// What a step of the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// Bytes are needed: from where, and how many.
    Need(u64, u64),
    /// The end of the file was reached.
    End,
}

impl Seek {
    /// Searches on as far as the window reaches.
    pub(super) fn advance(&mut self, window: &Window) -> Sought {
        while self.at + STEP <= window.size {
            let Some(word) = window.slice(self.at, STEP) else {
                return self.need(window, STEP);
            };
            if word.iter().all(|byte| *byte == 0) {
                self.at += STEP;
                continue;
            }
            self.dirty = true;
            if self.spent > window.size.saturating_mul(AGAIN_MAX) {
                self.evidence = self.evidence.max(self.record);
                return Sought::End;
            }
            match self.candidate(window) {
                Ok(length) => self.at += length,
                Err(needed) => return self.need(window, needed),
            }
        }
        Sought::End
    }

    /// Asks for the place where it stands, with what leads up to it.
    fn need(&self, window: &Window, length: u64) -> Sought {
        let from = self.at.saturating_sub(LEAD);
        Sought::Need(from, (self.at - from + length).min(window.size - from))
    }

    /// Looks at one place; returns how far to go on, or how many bytes there are needed.
    fn candidate(&mut self, window: &Window) -> Result<u64, u64> {
        let left = window.size - self.at;
        if left < MARKER_BYTES as u64 {
            return Ok(STEP);
        }
        let head = window.slice(self.at, MARKER_BYTES as u64).ok_or(MARKER_BYTES as u64)?;
        let Ok((length, fields)) = record::parse_head(head) else {
            return Ok(STEP);
        };
        let length = u64::from(length);
        // No more records can stand in the file than markers would.
        let number_max = self.record.saturating_add(window.size / MARKER_BYTES as u64);
        if length > left || fields.synced < self.record || fields.number > number_max {
            return Ok(STEP);
        }
        let lead = LEAD.min(self.at);
        let bytes = window.slice(self.at - lead, lead + length).ok_or(length)?;
        let (before, here) = bytes.split_at(usize::try_from(lead).unwrap_or(0));
        match Frame::parse(here) {
            Ok(frame) if self.is_valid(&frame, before) => {
                self.evidence = self.evidence.max(fields.synced);
                Ok(length)
            }
            Ok(_) | Err(_) => {
                self.spent = self.spent.saturating_add(length);
                Ok(STEP)
            }
        }
    }

    fn is_valid(&self, frame: &Frame<'_>, before: &[u8]) -> bool {
        match frame.fields.kind {
            Kind::Marker => frame.follows(&self.seal),
            Kind::Events => {
                let first = (self.at == HEADER_BYTES as u64).then_some(self.before);
                let beside = before.last_chunk().copied();
                let marked = before.len().checked_sub(MARKER_BYTES);
                let behind = marked.and_then(|end| before[..end].last_chunk().copied());
                let chains = [beside, behind, first, self.repaired];
                chains.into_iter().flatten().any(|chain| frame.follows(&chain))
            }
        }
    }
}
