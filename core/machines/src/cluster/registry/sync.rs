//! Reconciliation: digests, deltas, and what a complete delta proves (C76).
//!
//! A delta is complete above what its receiver told the sender. It proves nothing if what was
//! told has been forgotten since, so the last reset is remembered with each telling.

use std::collections::{BTreeMap, BTreeSet};

use super::table::{Stage, Stamp};
use super::{Applied, Registry, table};
use crate::Instant;
use crate::cluster::ids::{NodeId, Session};
use crate::cluster::swim::io::SyncStep;
use crate::cluster::wire::{Name, NameDigest, NameEntry};

use super::io::Output;

/// The most changes of one sync message that are gossiped on, conflicts apart.
pub const SYNC_GOSSIP_MAX: u32 = 64;
/// The most peers that were told digests and have not answered.
pub(super) const TOLD_MAX: usize = 65_536;

/// Up to where a delta of one owner reaches.
#[derive(Clone, Copy, Debug)]
struct Reach {
    owner: NodeId,
    session: Session,
    serial: u32,
    /// When the owner vouched for that, if a digest says so.
    vouched: Option<Stamp>,
}

impl Registry {
    /// Returns the digests that a Sync1 or Sync2 to `to` carries. What `to` sends back next is a
    /// delta above them.
    pub fn digests(&mut self, now: Instant, to: NodeId) -> Vec<NameDigest> {
        if self.told.len() < TOLD_MAX {
            // An earlier sync may still be answered: what holds for both is the older epoch.
            self.told.entry(to).or_insert(self.table.epoch());
        }
        let own =
            NameDigest { owner: self.me, session: self.session, serial: self.serial, age_ms: 0 };
        let members = self.members.iter().filter_map(|(node, member)| {
            let owner = self.table.owner(*node)?;
            let current = owner.session == member.session && owner.known > 0;
            current.then(|| NameDigest {
                owner: *node,
                session: owner.session,
                serial: owner.known,
                age_ms: owner.vouched.1.age_ms(now),
            })
        });
        let own = (own.serial > 0).then_some(own);
        own.into_iter().chain(members).collect()
    }

    /// Returns the entries that a Sync2 or Sync3 carries: all above the digests `theirs`, of every
    /// owner of which this node knows more. What this node heard out of turn is left out, so that
    /// a delta has no holes and its greatest serial proves how far it reaches.
    #[must_use]
    pub fn delta(&self, now: Instant, theirs: &[NameDigest]) -> Vec<NameEntry> {
        let theirs: BTreeMap<NodeId, (Session, u32)> =
            theirs.iter().map(|d| (d.owner, (d.session, d.serial))).collect();
        let base = |owner: NodeId, session: Session, known: u32| match theirs.get(&owner) {
            Some((theirs, _)) if *theirs > session => None,
            Some((theirs, serial)) if *theirs == session => {
                (*serial < known).then_some((*serial, known))
            }
            Some(_) | None => (known > 0).then_some((0, known)),
        };
        let own = base(self.me, self.session, self.serial).map(|base| (self.me, base));
        let others = self.members.iter().filter_map(|(node, member)| {
            let owner = self.table.owner(*node)?;
            let current = owner.session == member.session;
            let base = base(*node, owner.session, owner.known);
            base.filter(|_| current).map(|base| (*node, base))
        });
        let spans: BTreeMap<NodeId, (u32, u32)> = own.into_iter().chain(others).collect();
        if spans.is_empty() {
            return Vec::new();
        }
        let within = |copy: &table::Copy| {
            let span = spans.get(&copy.owner);
            span.is_some_and(|(base, known)| copy.serial > *base && copy.serial <= *known)
        };
        let all = self.table.iter().filter(|(_, copy)| within(copy));
        all.map(|(name, copy)| self.table.entry(name, copy, now)).collect()
    }

    /// Takes a message of a sync: entries first, then what the digests prove.
    pub(super) fn synced(
        &mut self,
        now: Instant,
        from: NodeId,
        step: SyncStep,
        digests: &[NameDigest],
        entries: &[NameEntry],
    ) {
        let told = match step {
            SyncStep::First => None,
            SyncStep::Second | SyncStep::Third => self.told.remove(&from),
        };
        let reaches = reaches(step, digests, entries, now);
        let empty: BTreeSet<NodeId> = reaches
            .iter()
            .filter(|reach| self.known_through(reach.owner) == 0)
            .map(|reach| reach.owner)
            .collect();
        let mut refused = BTreeSet::new();
        let mut budget = SYNC_GOSSIP_MAX;
        for entry in entries {
            if self.apply_synced(now, entry, &mut budget) == Applied::Refused {
                refused.insert(entry.owner);
            }
        }
        let present: BTreeSet<(&Name, NodeId)> =
            entries.iter().map(|entry| (&entry.name, entry.owner)).collect();
        for reach in reaches {
            let told = told.filter(|_| !refused.contains(&reach.owner));
            let full = empty.contains(&reach.owner);
            self.reached(now, reach, told, full, &present);
        }
    }

    /// Applies an entry of a sync, and gossips it on if it matters to many (C74).
    fn apply_synced(&mut self, now: Instant, entry: &NameEntry, budget: &mut u32) -> Applied {
        let before = self.holder(&entry.name);
        let applied = self.apply(now, entry);
        if applied == Applied::New && table::worth_telling(entry) {
            let after = self.holder(&entry.name);
            let conflict = before.is_some_and(|r| r.node != entry.owner) && before != after;
            if conflict || *budget > 0 {
                *budget = budget.saturating_sub(u32::from(!conflict));
                self.outputs.push_back(Output::Gossip(entry.clone()));
            }
        }
        applied
    }

    /// Draws the conclusions from one owner's digest, after a delta of it was applied.
    fn reached(
        &mut self,
        now: Instant,
        reach: Reach,
        told: Option<u64>,
        full: bool,
        present: &BTreeSet<(&Name, NodeId)>,
    ) {
        let member = self.members.get(&reach.owner).map(|m| m.session);
        if member != Some(reach.session) {
            return;
        }
        for name in self.table.enter_session(reach.owner, reach.session) {
            self.settle(now, &name);
        }
        let Some(owner) = self.table.owner(reach.owner).cloned() else {
            return;
        };
        if owner.session != reach.session {
            return;
        }
        if owner.known < reach.serial {
            if reach.serial < owner.floor || told.is_none_or(|told| told < owner.reset) {
                return;
            }
            if !self.complete(now, reach, full, present) {
                return;
            }
        }
        if let Some(at) = reach.vouched {
            let revived = self.table.vouch_owner(reach.owner, reach.serial, at, now);
            for name in revived {
                self.settle(now, &name);
            }
        }
    }

    /// Lets a complete delta raise what is known. Copies that it does not mention are as they
    /// were, but for hints: their NameGone may have been forgotten by everyone (C78). From
    /// nothing, what is not mentioned has ended; else the next delta must start from nothing.
    fn complete(
        &mut self,
        now: Instant,
        reach: Reach,
        full: bool,
        present: &BTreeSet<(&Name, NodeId)>,
    ) -> bool {
        let unsaid = |name: &Name| {
            let copy = self.table.copy(name, reach.owner);
            let old = copy.is_some_and(|copy| {
                copy.serial <= reach.serial && (full || copy.stage == Stage::Hint)
            });
            old && !present.contains(&(name, reach.owner))
        };
        let mut names = self.table.names_of(reach.owner);
        names.retain(unsaid);
        if !full && !names.is_empty() {
            self.table.reset(reach.owner);
            if let Some(owner) = self.table.owner_mut(reach.owner) {
                owner.floor = reach.serial; // Who knows less could only repeat the doubt.
            }
            return false;
        }
        for name in names {
            self.table.remove(&name, reach.owner);
            self.settle(now, &name);
        }
        if let Some(owner) = self.table.owner_mut(reach.owner) {
            owner.known = reach.serial;
        }
        true
    }
}

/// Up to where a sync message reaches, per owner. The third has no digests: each owner's greatest
/// serial in it, at least.
fn reaches(
    step: SyncStep,
    digests: &[NameDigest],
    entries: &[NameEntry],
    now: Instant,
) -> Vec<Reach> {
    match step {
        SyncStep::First | SyncStep::Second => digests
            .iter()
            .map(|d| Reach {
                owner: d.owner,
                session: d.session,
                serial: d.serial,
                vouched: Some(Stamp::ago(now, d.age_ms)),
            })
            .collect(),
        SyncStep::Third => {
            let mut greatest: BTreeMap<(NodeId, Session), u32> = BTreeMap::new();
            for entry in entries {
                let serial = greatest.entry((entry.owner, entry.session)).or_default();
                *serial = entry.serial.max(*serial);
            }
            let greatest = greatest.into_iter();
            greatest
                .map(|((owner, session), serial)| Reach { owner, session, serial, vouched: None })
                .collect()
        }
    }
}
