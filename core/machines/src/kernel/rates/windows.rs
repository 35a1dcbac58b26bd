//! The four sliding windows of one key: counts by slot, oldest first (K130, K132–K134, K137).

use std::fmt;
use std::mem::size_of;

use crate::codec::{Malformed, Reader, Wire, put_count};
use crate::kernel::config::RateConfig;
use crate::kernel::numbered::numbered;
use crate::kernel::quota::Limit;
use crate::kernel::time::{Millis, Time};

/// Into how many slots a window is divided (K132).
pub const SLOTS: u64 = 50;

numbered! {
    /// Which window, shortest first (K130).
    LimitType "a window of rates" {
        /// Ten seconds.
        Burst = 1 "burst",
        /// A minute.
        Minute = 2 "minute",
        /// An hour.
        Hour = 3 "hour",
        /// A day.
        Day = 4 "day",
    }
}

impl LimitType {
    /// Every window, shortest first.
    pub const WINDOWS: [Self; 4] = [Self::Burst, Self::Minute, Self::Hour, Self::Day];

    /// Returns W: how long a hit counts at least (K130).
    #[must_use]
    pub const fn window(self) -> Millis {
        match self {
            Self::Burst => 10_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// Returns w: the length of a slot (K132).
    #[must_use]
    pub const fn slot(self) -> Millis {
        self.window() / SLOTS
    }

    /// Returns when the hits of slot `number` stop counting (K132).
    #[must_use]
    pub const fn slot_runs_out(self, number: u64) -> Time {
        let end = number.saturating_add(1).saturating_mul(self.slot());
        Time::from_millis(end.saturating_add(self.window()))
    }

    pub(super) const fn slot_of(self, now: Time) -> u64 {
        now.as_millis() / self.slot()
    }

    const fn index(self) -> usize {
        match self {
            Self::Burst => 0,
            Self::Minute => 1,
            Self::Hour => 2,
            Self::Day => 3,
        }
    }
}

/// A slot in which there were hits: its number in two words, so that it takes 12 bytes (K137).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    low: u32,
    high: u32,
    /// How many hits. A slot that is full is followed by another of the same number.
    pub(super) count: u32,
}

const _: () = assert!(size_of::<Slot>() == 12, "K137");

impl Slot {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
    pub(super) const fn new(number: u64, count: u32) -> Self {
        Self { low: number as u32, high: (number >> 32) as u32, count }
    }

    pub(super) const fn number(self) -> u64 {
        (self.high as u64) << 32 | self.low as u64
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}×{}", self.number(), self.count)
    }
}

/// One more hit is within all limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The window with the least left before this hit; on a tie the longer one (K135).
    pub window: LimitType,
    /// How many hits it holds.
    pub current: u64,
    /// Its limit.
    pub limit: Limit,
    /// What is left of it.
    pub remaining: Limit,
}

/// One more hit would pass a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The window that allows it last; on a tie the longer one (K134).
    pub window: LimitType,
    /// How many hits it holds.
    pub current: u64,
    /// Its limit.
    pub limit: u64,
    /// The first moment at which the hit is allowed if none is recorded until then; never, if a
    /// limit is 0.
    pub retry_at: Option<Time>,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} limit: {} hits, at most {}", self.window.name(), self.current, self.limit)
    }
}

/// The answer to a check (K133, K134).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One more hit is within all limits.
    Allowed(Room),
    /// One more hit would pass a limit.
    Exceeded(Exceeded),
}

impl Verdict {
    /// Tells whether one more hit is within all limits.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        match self {
            Self::Allowed(_) => true,
            Self::Exceeded(_) => false,
        }
    }
}

/// What was used of one window (K138).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowUsage {
    /// Which.
    pub window: LimitType,
    /// How many hits it holds.
    pub current: u64,
    /// The limit in force.
    pub limit: Limit,
    /// What is left of it.
    pub remaining: Limit,
    /// How long until it is empty, if nothing more is recorded.
    pub reset_in: Millis,
}

/// The hits of one key in the four windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Windows([Vec<Slot>; 4]);

impl Windows {
    /// Tells whether one more hit at `now` is within `limits`, in all four windows (K133, K134).
    #[must_use]
    pub fn check(&self, now: Time, limits: &RateConfig) -> Verdict {
        let mut room: Option<Room> = None;
        let mut worst: Option<Exceeded> = None;
        for window in LimitType::WINDOWS {
            let current = self.current(now, window);
            let limit = limits.of(window);
            let remaining = left(limit, current);
            match limit.most() {
                Some(limit) if remaining == Limit::at_most(0) => {
                    let retry_at = self.retry_at(now, window, limit);
                    let found = Exceeded { window, current, limit, retry_at };
                    let later = worst.filter(|before| rank(before) > rank(&found));
                    worst = Some(later.unwrap_or(found));
                }
                Some(_) | None => {
                    let found = Room { window, current, limit, remaining };
                    room = Some(room.filter(|r| r.remaining < remaining).unwrap_or(found));
                }
            }
        }
        match (worst, room) {
            (Some(worst), _) => Verdict::Exceeded(worst),
            (None, Some(room)) => Verdict::Allowed(room),
            (None, None) => unreachable!("every window is over its limit or has room"),
        }
    }

    /// Counts a hit at `now` in all four windows, and forgets what has run out.
    pub fn record(&mut self, now: Time) {
        for window in LimitType::WINDOWS {
            let slots = &mut self.0[window.index()];
            let dead = slots.iter().take_while(|slot| window.slot_runs_out(slot.number()) <= now);
            let dead = dead.count();
            slots.drain(..dead);
            let newest = slots.last().map_or(0, |slot| slot.number());
            let number = window.slot_of(now).max(newest);
            match slots.last_mut() {
                Some(slot) if slot.number() == number && slot.count < u32::MAX => slot.count += 1,
                Some(_) | None => slots.push(Slot::new(number, 1)),
            }
        }
    }

    /// Returns how many hits `window` holds at `now`.
    #[must_use]
    pub fn current(&self, now: Time, window: LimitType) -> u64 {
        self.live(now, window).map(|slot| u64::from(slot.count)).sum()
    }

    /// Returns what was used of each window at `now`, shortest first (K138).
    #[must_use]
    pub fn usage(&self, now: Time, limits: &RateConfig) -> [WindowUsage; 4] {
        LimitType::WINDOWS.map(|window| {
            let current = self.current(now, window);
            let limit = limits.of(window);
            let newest = self.0[window.index()].last();
            let reset_at = newest.map_or(now, |slot| window.slot_runs_out(slot.number()));
            let remaining = left(limit, current);
            WindowUsage { window, current, limit, remaining, reset_in: reset_at.since(now) }
        })
    }

    /// Lists the slots that are kept of a window with their hits, oldest first.
    pub(super) fn hits_of(&self, window: LimitType) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0[window.index()].iter().map(|slot| (slot.number(), u64::from(slot.count)))
    }

    /// Tells whether every slot has run out at `now`.
    #[must_use]
    pub fn is_dead(&self, now: Time) -> bool {
        // A hit counts longest in the longest window.
        self.last_slot(LimitType::Day).is_none_or(|slot| LimitType::Day.slot_runs_out(slot) <= now)
    }

    /// Returns how many slots are kept: 204 at the most (K137).
    #[must_use]
    pub fn slots(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// The slot of the last hit in a window. It is kept until the next hit.
    pub(super) fn last_slot(&self, window: LimitType) -> Option<u64> {
        self.0[window.index()].last().map(|slot| slot.number())
    }

    #[cfg(test)]
    pub(super) fn slots_of(&mut self, window: LimitType) -> &mut Vec<Slot> {
        &mut self.0[window.index()]
    }

    /// The slots that still count, oldest first.
    fn live(&self, now: Time, window: LimitType) -> impl Iterator<Item = &Slot> {
        let slots = self.0[window.index()].iter();
        slots.skip_while(move |slot| window.slot_runs_out(slot.number()) <= now)
    }

    /// When so many hits have run out that one more is within `limit` (K134).
    fn retry_at(&self, now: Time, window: LimitType, limit: u64) -> Option<Time> {
        let current = self.current(now, window);
        let mut surplus = current.saturating_add(1).saturating_sub(limit);
        if limit == 0 {
            return None;
        }
        for slot in self.live(now, window) {
            surplus = surplus.saturating_sub(u64::from(slot.count));
            if surplus == 0 {
                return Some(window.slot_runs_out(slot.number()));
            }
        }
        unreachable!("with a limit of 1 or more, no hits at all are few enough");
    }
}

/// What is left of a limit.
fn left(limit: Limit, used: u64) -> Limit {
    limit.less(used).map_or(Limit::UNLIMITED, Limit::at_most)
}

/// When a check that failed so is allowed: never is later than every time.
fn rank(exceeded: &Exceeded) -> Time {
    exceeded.retry_at.unwrap_or(Time::FAR)
}

impl Wire for Windows {
    fn encode(&self, out: &mut Vec<u8>) {
        for slots in &self.0 {
            put_count(out, slots.len());
            for slot in slots {
                out.extend_from_slice(&slot.number().to_le_bytes());
                out.extend_from_slice(&slot.count.to_le_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut windows = Self::default();
        for slots in &mut windows.0 {
            let count = reader.count(size_of::<Slot>())?;
            for _ in 0..count {
                let here = reader.clone();
                let slot = Slot::new(reader.u64()?, reader.u32()?);
                if !follows(slots, slot) {
                    return Err(here.malformed("a slot with hits, after the one before"));
                }
                slots.push(slot);
            }
        }
        // Every hit is counted in all four, and only hits make them forget.
        match windows.0.iter().filter(|slots| slots.is_empty()).count() {
            0 | 4 => Ok(windows),
            _ => Err(reader.malformed("slots in all windows, or in none")),
        }
    }
}

/// Tells whether `slot` can come next: it has hits, is newer than the last unless that is full,
/// and when it was begun the first one still counted.
fn follows(slots: &[Slot], slot: Slot) -> bool {
    let first = slots.first().map_or(slot.number(), |first| first.number());
    let in_order = slots.last().is_none_or(|last| match last.count {
        u32::MAX => slot.number() >= last.number(),
        _ => slot.number() > last.number(),
    });
    slot.count > 0 && in_order && slot.number() - first <= SLOTS
}
