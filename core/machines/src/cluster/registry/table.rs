//! The copies of registrations that a node has, with their caps and their clocks (C70, C75, C78).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::io::RegisterError;
use crate::Instant;
use crate::cluster::config::RegistryConfig;
use crate::cluster::ids::{ActorId, NodeId, Ref, Session};
use crate::cluster::wire::{Name, NameEntry};

use super::Applied;

/// The legal ttl, in ms: 1 s … 1 h (C72).
const TTL_MS: std::ops::RangeInclusive<u32> = 1_000..=3_600_000;
/// How much longer than its ttl a NameGone is kept, in ms (C78).
const GONE_KEEP_MS: u64 = 10_000;

/// Returns `ttl` in ms if C72 allows it.
pub(super) fn ttl_ms(ttl: Duration) -> Option<u32> {
    let ms = u32::try_from(ttl.as_millis()).ok()?;
    TTL_MS.contains(&ms).then_some(ms)
}

/// Whether an entry that is new here is new to others: a hint is not, and neither is a NameGone
/// that nobody keeps any more.
pub(super) const fn worth_telling(entry: &NameEntry) -> bool {
    match entry.actor {
        Some(_) => entry.age_ms < entry.ttl_ms,
        None => !is_forgotten(entry),
    }
}

/// Whether a NameGone of this age is dropped (C78).
const fn is_forgotten(gone: &NameEntry) -> bool {
    gone.age_ms as u64 >= gone.ttl_ms as u64 + GONE_KEEP_MS
}

/// A moment that may lie before the node's start, since ages come from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Stamp(u64);

/// The node's start as a stamp: far above the greatest age that travels.
const START: u64 = 1 << 60;

impl Stamp {
    /// Before everything.
    pub(super) const NEVER: Self = Self(0);

    pub(super) const fn of(now: Instant) -> Self {
        Self(START.saturating_add(now.as_nanos()))
    }

    /// The moment `age_ms` ago.
    pub(super) const fn ago(now: Instant, age_ms: u32) -> Self {
        Self(Self::of(now).0.saturating_sub(age_ms as u64 * 1_000_000))
    }

    /// The age at `now`, rounded up: forwarding makes nothing younger.
    pub(super) fn age_ms(self, now: Instant) -> u32 {
        let nanos = Self::of(now).0.saturating_sub(self.0);
        u32::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u32::MAX)
    }

    /// The moment `ms` later, the start at the least.
    pub(super) const fn after_ms(self, ms: u64) -> Instant {
        let stamp = self.0.saturating_add(ms.saturating_mul(1_000_000));
        Instant::from_nanos(stamp.saturating_sub(START))
    }
}

/// Where a copy stands. Whether its owner is a member is another matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stage {
    /// Vouched for within its ttl.
    Live,
    /// Not vouched for any more (C75).
    Hint,
    /// Ended (C78).
    Gone,
}

/// What one owner said last about one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Copy {
    pub(super) owner: NodeId,
    pub(super) session: Session,
    pub(super) actor: Option<ActorId>,
    pub(super) version: u32,
    pub(super) serial: u32,
    pub(super) ttl_ms: u32,
    /// When it was vouched for by itself; the owner's digests may have vouched for it later.
    pub(super) vouched: Stamp,
    pub(super) stage: Stage,
    /// Of this node, and renewed by its actor.
    pub(super) manual: bool,
    /// When it is looked at again.
    pub(super) timer: Instant,
}

impl Copy {
    /// What an entry says.
    fn of(entry: &NameEntry, stage: Stage, now: Instant) -> Self {
        Self {
            owner: entry.owner,
            session: entry.session,
            actor: entry.actor,
            version: entry.version,
            serial: entry.serial,
            ttl_ms: entry.ttl_ms,
            vouched: Stamp::ago(now, entry.age_ms),
            stage,
            manual: false,
            timer: Instant::FAR,
        }
    }

    /// The end of what `entry` says, made now.
    pub(super) fn gone(entry: &NameEntry, now: Instant) -> Self {
        Self { actor: None, vouched: Stamp::of(now), ..Self::of(entry, Stage::Gone, now) }
    }

    /// The order of the entries of one name (C73).
    pub(super) const fn rank(&self) -> (u32, NodeId, Session, u32) {
        (self.version, self.owner, self.session, self.serial)
    }

    /// The registered actor; the node itself stands in for a gone one.
    pub(super) fn at(&self) -> Ref {
        Ref { node: self.owner, session: self.session, actor: self.actor.unwrap_or(ActorId::NODE) }
    }
}

/// What is known of an owner's names in all (C76).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) session: Session,
    /// All changes up to this serial are in the table.
    pub(super) known: u32,
    /// What `known` must reach at least when it grows again: less would not settle the hints.
    pub(super) floor: u32,
    /// Which reset `known` has not grown across.
    pub(super) reset: u64,
    /// Up to which serial, and when, a digest vouched.
    pub(super) vouched: (u32, Stamp),
    /// Copies that are not gone.
    names: u32,
    copies: u32,
    hints: u32,
}

impl Owner {
    const fn new(session: Session, reset: u64) -> Self {
        Self {
            session,
            known: 0,
            floor: 0,
            reset,
            vouched: (0, Stamp::NEVER),
            names: 0,
            copies: 0,
            hints: 0,
        }
    }
}

/// The copies of one name, and which of them is the registration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Slot {
    copies: Vec<Copy>,
    holder: Option<Ref>,
}

/// All copies.
#[derive(Clone, Debug, Hash)]
pub(super) struct Table {
    me: NodeId,
    names_per_node_max: u32,
    names_max: u32,
    hint_keep_ms: u64,
    slots: BTreeMap<Name, Slot>,
    owners: BTreeMap<NodeId, Owner>,
    timers: BTreeSet<(Instant, Name, NodeId)>,
    names: u32,
    copies: u32,
    /// Counts resets of any owner's `known`.
    epoch: u64,
}

impl Table {
    pub(super) fn new(me: NodeId, session: Session, config: &RegistryConfig) -> Self {
        Self {
            me,
            names_per_node_max: config.names_per_node_max,
            names_max: config.names_max,
            hint_keep_ms: u64::try_from(config.hint_keep.as_millis()).unwrap_or(u64::MAX),
            slots: BTreeMap::new(),
            owners: BTreeMap::from([(me, Owner::new(session, 0))]),
            timers: BTreeSet::new(),
            names: 0,
            copies: 0,
            epoch: 0,
        }
    }

    pub(super) const fn len(&self) -> u32 {
        self.copies
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn owner(&self, node: NodeId) -> Option<&Owner> {
        self.owners.get(&node)
    }

    pub(super) fn owner_count(&self) -> usize {
        self.owners.len()
    }

    /// Lists the owners of which something is known.
    pub(super) fn owners(&self) -> Vec<NodeId> {
        self.owners.keys().copied().collect()
    }

    pub(super) fn owner_mut(&mut self, node: NodeId) -> Option<&mut Owner> {
        self.owners.get_mut(&node)
    }

    pub(super) fn copies(&self, name: &Name) -> &[Copy] {
        self.slots.get(name).map_or(&[], |slot| &slot.copies)
    }

    pub(super) fn copy(&self, name: &Name, owner: NodeId) -> Option<&Copy> {
        self.copies(name).iter().find(|copy| copy.owner == owner)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Name, &Copy)> + '_ {
        let slots = self.slots.iter();
        slots.flat_map(|(name, slot)| slot.copies.iter().map(move |copy| (name, copy)))
    }

    pub(super) fn holder(&self, name: &Name) -> Option<Ref> {
        self.slots.get(name)?.holder
    }

    pub(super) fn holders(&self, prefix: &str) -> Vec<(Name, Ref)> {
        let below = self.slots.iter().filter(|(n, _)| n.as_str().starts_with(prefix));
        below.filter_map(|(name, slot)| Some((name.clone(), slot.holder?))).collect()
    }

    /// Sets the registration of `name`, returns the one before, and forgets a name without copies.
    pub(super) fn set_holder(&mut self, name: &Name, holder: Option<Ref>) -> Option<Ref> {
        let slot = self.slots.get_mut(name)?;
        let before = std::mem::replace(&mut slot.holder, holder);
        if slot.copies.is_empty() {
            self.slots.remove(name);
        }
        before
    }

    /// When a copy was last vouched for, by itself or by its owner's digest.
    fn vouched(&self, copy: &Copy) -> Stamp {
        match self.owners.get(&copy.owner) {
            Some(owner) if copy.actor.is_some() && copy.serial <= owner.vouched.0 => {
                copy.vouched.max(owner.vouched.1)
            }
            Some(_) | None => copy.vouched,
        }
    }

    /// Whether a copy is live at `now`, timers or not.
    pub(super) fn live_at(&self, copy: &Copy, now: Instant) -> bool {
        if copy.owner == self.me && !copy.manual {
            return copy.stage == Stage::Live;
        }
        copy.actor.is_some() && self.vouched(copy).after_ms(copy.ttl_ms.into()) > now
    }

    /// When something happens to a copy by time alone.
    fn due_at(&self, copy: &Copy) -> Instant {
        let ttl = u64::from(copy.ttl_ms);
        let mine = copy.owner == self.me;
        match copy.stage {
            Stage::Live if mine && !copy.manual => Instant::FAR,
            Stage::Live => self.vouched(copy).after_ms(ttl),
            Stage::Hint => {
                let keep = ttl.saturating_add(self.hint_keep_ms);
                self.vouched(copy).after_ms(keep)
            }
            Stage::Gone => copy.vouched.after_ms(ttl + GONE_KEEP_MS),
        }
    }

    /// Returns a copy as it travels, with its age (C75).
    pub(super) fn entry(&self, name: &Name, copy: &Copy, now: Instant) -> NameEntry {
        let held_here = copy.owner == self.me && copy.actor.is_some();
        let age_ms = match held_here {
            true => 0,
            false => self.vouched(copy).age_ms(now),
        };
        NameEntry {
            name: name.clone(),
            owner: copy.owner,
            session: copy.session,
            actor: copy.actor,
            version: copy.version,
            serial: copy.serial,
            ttl_ms: copy.ttl_ms,
            age_ms,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.timers.first().map_or(Instant::FAR, |(at, _, _)| *at)
    }

    /// Takes the next copy whose time is over. Timers of copies vouched for meanwhile move on.
    pub(super) fn due(&mut self, now: Instant) -> Option<(Name, NodeId)> {
        while self.deadline() <= now {
            let (_, name, owner) = self.timers.pop_first()?;
            let due = self.copy(&name, owner).map(|copy| self.due_at(copy))?;
            if due <= now {
                return Some((name, owner));
            }
            self.arm(&name, owner);
        }
        None
    }

    fn arm(&mut self, name: &Name, owner: NodeId) {
        let Some(copy) = self.copy(name, owner) else {
            return;
        };
        let (before, due) = (copy.timer, self.due_at(copy));
        self.timers.remove(&(before, name.clone(), owner));
        if due != Instant::FAR {
            self.timers.insert((due, name.clone(), owner));
        }
        if let Some(copy) = self.copy_mut(name, owner) {
            copy.timer = due;
        }
    }

    fn copy_mut(&mut self, name: &Name, owner: NodeId) -> Option<&mut Copy> {
        let slot = self.slots.get_mut(name)?;
        slot.copies.iter_mut().find(|copy| copy.owner == owner)
    }

    /// Stores a copy in place of the one that its owner had of that name.
    pub(super) fn put(&mut self, name: &Name, copy: Copy) {
        let owner = copy.owner;
        self.remove(name, owner);
        self.tally(owner, copy.stage, true);
        let slot = self.slots.entry(name.clone()).or_default();
        let at = slot.copies.partition_point(|c| c.owner < owner);
        slot.copies.insert(at, copy);
        self.arm(name, owner);
    }

    /// Removes a copy; the name stays until its holder is set.
    pub(super) fn remove(&mut self, name: &Name, owner: NodeId) -> Option<Copy> {
        let slot = self.slots.get_mut(name)?;
        let at = slot.copies.iter().position(|c| c.owner == owner)?;
        let copy = slot.copies.remove(at);
        self.timers.remove(&(copy.timer, name.clone(), owner));
        self.tally(owner, copy.stage, false);
        Some(copy)
    }

    pub(super) fn set_stage(&mut self, name: &Name, owner: NodeId, stage: Stage) {
        let Some(copy) = self.copy_mut(name, owner) else {
            return;
        };
        let before = std::mem::replace(&mut copy.stage, stage);
        self.tally(owner, before, false);
        self.tally(owner, stage, true);
        self.arm(name, owner);
    }

    fn tally(&mut self, node: NodeId, stage: Stage, more: bool) {
        let step = |count: &mut u32| match more {
            true => *count += 1,
            false => *count -= 1,
        };
        let owner =
            self.owners.get_mut(&node).expect("an owner is known before and while it has copies");
        step(&mut owner.copies);
        step(&mut self.copies);
        match stage {
            Stage::Live => {}
            Stage::Hint => step(&mut owner.hints),
            Stage::Gone => return,
        }
        step(&mut owner.names);
        step(&mut self.names);
    }

    /// Notes that a copy was vouched for at `at`; a hint may be live again.
    pub(super) fn vouch_copy(&mut self, name: &Name, owner: NodeId, at: Stamp) {
        if let Some(copy) = self.copy_mut(name, owner) {
            copy.vouched = copy.vouched.max(at);
        }
    }

    /// Makes a hint live again that was vouched for.
    fn revive(&mut self, name: &Name, owner: NodeId, now: Instant) -> bool {
        let copy = self.copy(name, owner);
        let alive = copy.is_some_and(|c| c.stage == Stage::Hint && self.live_at(c, now));
        if alive {
            self.set_stage(name, owner, Stage::Live);
        }
        alive
    }

    /// Notes that `node` vouched at `at` for all up to `serial`, all of which is known here.
    /// Returns the names that are live again.
    pub(super) fn vouch_owner(
        &mut self,
        node: NodeId,
        serial: u32,
        at: Stamp,
        now: Instant,
    ) -> Vec<Name> {
        let Some(owner) = self.owners.get_mut(&node) else {
            return Vec::new();
        };
        if serial < owner.vouched.0 || at <= owner.vouched.1 {
            return Vec::new();
        }
        owner.vouched = (serial, at);
        if owner.hints == 0 {
            return Vec::new();
        }
        let mut names = self.names_of(node);
        names.retain(|name| self.revive(name, node, now));
        names
    }

    pub(super) fn names_of(&self, node: NodeId) -> Vec<Name> {
        if self.owners.get(&node).is_none_or(|owner| owner.copies == 0) {
            return Vec::new();
        }
        let mine = self.iter().filter(|(_, copy)| copy.owner == node);
        mine.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets up to where an owner's names are known.
    pub(super) fn reset(&mut self, node: NodeId) {
        if let Some(owner) = self.owners.get_mut(&node)
            && owner.known > 0
        {
            self.epoch += 1;
            owner.known = 0;
            owner.reset = self.epoch;
        }
    }

    /// Removes and returns all copies of an owner.
    pub(super) fn take_owner(&mut self, node: NodeId) -> Vec<(Name, Copy)> {
        let names = self.names_of(node).into_iter();
        let taken = names.filter_map(|name| {
            let copy = self.remove(&name, node)?;
            Some((name, copy))
        });
        let taken = taken.collect();
        self.reset(node);
        taken
    }

    /// Forgets an owner without copies.
    pub(super) fn forget_owner(&mut self, node: NodeId) {
        if self.owners.get(&node).is_some_and(|owner| owner.copies == 0) {
            self.reset(node);
            self.owners.remove(&node);
        }
    }

    /// Starts the own session anew.
    pub(super) fn start_session(&mut self, node: NodeId, session: Session) {
        if let Some(owner) = self.owners.get_mut(&node) {
            owner.session = session;
        }
    }

    /// Notes a session of another owner. If it is a new one, what was of older ones goes; returns
    /// those names.
    pub(super) fn enter_session(&mut self, node: NodeId, session: Session) -> Vec<Name> {
        match self.owners.get(&node).map(|owner| owner.session) {
            Some(known) if known >= session => return Vec::new(),
            Some(_) => {}
            None => {
                self.owners.insert(node, Owner::new(session, self.epoch));
                return Vec::new();
            }
        }
        let dropped = self.take_owner(node).into_iter().map(|(name, _)| name);
        // Nothing was ever told about this session: every delta of it starts from nothing.
        self.owners.insert(node, Owner::new(session, 0));
        dropped.collect()
    }

    /// Whether this node may register `name` (C70). The gone count too, but have room of their own.
    pub(super) fn room_for_own(&self, name: &Name) -> Result<(), RegisterError> {
        let own = self.owners.get(&self.me).expect("the own node is an owner");
        let replaces = u32::from(self.copy(name, self.me).is_some());
        let node_max = self.names_per_node_max.saturating_mul(2);
        if own.names >= self.names_per_node_max || own.copies - replaces >= node_max {
            return Err(RegisterError::NodeFull);
        }
        let copies_max = self.names_max.saturating_mul(2);
        if self.names >= self.names_max || self.copies - replaces >= copies_max {
            return Err(RegisterError::TableFull);
        }
        Ok(())
    }

    /// Takes an entry of another owner, whose session was entered.
    pub(super) fn apply(&mut self, entry: &NameEntry, now: Instant) -> Applied {
        let Some(owner) = self.owners.get(&entry.owner) else {
            return Applied::Refused;
        };
        if owner.session > entry.session {
            return Applied::Known;
        }
        let before = self.copy(&entry.name, entry.owner);
        let before = before.map(|copy| (copy.serial, copy.stage, copy.actor));
        match before {
            Some((serial, _, _)) if serial > entry.serial => return Applied::Known,
            Some((serial, _, actor)) if serial == entry.serial => {
                if actor == entry.actor && actor.is_some() {
                    let at = Stamp::ago(now, entry.age_ms);
                    self.vouch_copy(&entry.name, entry.owner, at);
                    self.revive(&entry.name, entry.owner, now);
                }
                return Applied::Known;
            }
            // All changes up to `known` are in the table: what is not there has ended.
            None if entry.serial <= owner.known => return Applied::Known,
            Some(_) | None => {}
        }
        let applied = self.store(entry, before.map(|(_, stage, _)| stage), now);
        if applied == Applied::Refused {
            return Applied::Refused;
        }
        if let Some(owner) = self.owners.get_mut(&entry.owner)
            && entry.serial == owner.known.saturating_add(1)
            && entry.serial >= owner.floor
        {
            owner.known = entry.serial;
        }
        applied
    }

    /// Stores an entry in place of a copy in stage `before`, if it is young enough and has room.
    fn store(&mut self, entry: &NameEntry, before: Option<Stage>, now: Instant) -> Applied {
        let (age, ttl) = (u64::from(entry.age_ms), u64::from(entry.ttl_ms));
        let stage = match entry.actor {
            None => Stage::Gone,
            Some(_) if age < ttl => Stage::Live,
            Some(_) => Stage::Hint,
        };
        if stage == Stage::Gone && is_forgotten(entry) {
            return match self.remove(&entry.name, entry.owner) {
                Some(_) => Applied::New,
                None => Applied::Known,
            };
        }
        let forgotten = stage == Stage::Hint && age >= ttl.saturating_add(self.hint_keep_ms);
        if forgotten || !self.room_for(entry.owner, stage, before) {
            return Applied::Refused;
        }
        self.put(&entry.name, Copy::of(entry, stage, now));
        Applied::New
    }

    fn room_for(&self, node: NodeId, stage: Stage, before: Option<Stage>) -> bool {
        let owner = self.owners.get(&node).expect("the owner's session was entered");
        let fewer = u32::from(before.is_some());
        let node_max = self.names_per_node_max.saturating_mul(2);
        let copies_max = self.names_max.saturating_mul(2);
        if owner.copies - fewer >= node_max || self.copies - fewer >= copies_max {
            return false;
        }
        let fewer = u32::from(before.is_some_and(|stage| stage != Stage::Gone));
        let fits =
            owner.names - fewer < self.names_per_node_max && self.names - fewer < self.names_max;
        stage == Stage::Gone || fits
    }
}
