//! Those who read events outside of the process: they outlive it, and go on where they were (K331),
//! or with what is left (K332).
#![expect(clippy::wildcard_enum_match_arm, reason = "whoever is refused otherwise leaves")]

use std::collections::VecDeque;

use machines::keeper::io::{self as keeper, Reader};
use machines::kernel::ids::UserId;
use machines::kernel::principal::{Principal, Role};
use machines::kernel::stream::{Batch, Detail, Filter, Reading};
use machines::kernel::{Code, Refusal};

/// Every so many batches a reader comes back of its own accord.
const RETURNS: u64 = 5;
/// One that stays away comes to every so many starts.
const COMES: u64 = 4;

/// One reader.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The last event that it knows.
    cursor: u64,
    open: Option<Reader>,
    batches: u64,
}

/// Which readers there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lot {
    /// How many.
    pub count: u64,
    /// Whether the last of them stays away from most starts.
    pub stays_away: bool,
    /// K444: whoever comes back asks for one so much too far on.
    pub skips: u64,
    /// K444: whoever comes too late is told that so much more is gone.
    pub overstates: u64,
}

/// What is left of readers when a process ends.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The last event that each knows.
    cursors: Vec<u64>,
    /// How many processes served before.
    starts: u64,
}

/// All of them; what they know is all that is left when the process ends.
#[derive(Clone, Debug, Default)]
pub struct Readers {
    lot: Lot,
    places: Vec<Place>,
    starts: u64,
    opened: u64,
    inputs: VecDeque<keeper::Input>,
}

impl Readers {
    /// Makes those that have read nothing yet.
    #[must_use]
    pub fn new(lot: Lot) -> Self {
        let places = (0..lot.count).map(|_| Place::default()).collect();
        Self { lot, places, ..Self::default() }
    }

    /// Returns what each knows.
    #[must_use]
    pub fn known(&self) -> Known {
        let cursors = self.places.iter().map(|place| place.cursor).collect();
        Known { cursors, starts: self.starts }
    }

    /// The process before knew these by their cursors.
    pub fn remember(&mut self, known: &Known) {
        self.starts = known.starts;
        for (place, cursor) in self.places.iter_mut().zip(&known.cursors) {
            place.cursor = *cursor;
        }
    }

    /// The process serves: all come, or come back, but for one that may stay away. `last` is the
    /// last event there is.
    pub fn come(&mut self, last: u64) {
        let stays = self.lot.stays_away && !self.starts.is_multiple_of(COMES);
        self.starts += 1;
        let coming = self.places.len().saturating_sub(usize::from(stays));
        for nth in 0..coming {
            self.open(nth, last);
        }
    }

    /// Takes the next thing that one of them does.
    pub fn poll(&mut self) -> Option<keeper::Input> {
        self.inputs.pop_front()
    }

    fn open(&mut self, nth: usize, last: u64) {
        self.opened += 1;
        let (reader, (by, filter, detail)) = (Reader(self.opened), wanted(nth));
        let place = &mut self.places[nth];
        place.open = Some(reader);
        let behind = place.cursor > 0 && place.cursor < last;
        let skipped = if behind { self.lot.skips } else { 0 };
        let cursor = Some(place.cursor + skipped);
        let reading = Box::new(Reading { cursor, follow: true, filter, detail });
        self.inputs.push_back(keeper::Input::Open { reader, by: Box::new(by), reading });
        self.inputs.push_back(keeper::Input::Want(reader));
    }

    /// A reader was given events; returns which one it is.
    pub fn given(&mut self, reader: Reader, batch: &Batch, last: u64) -> Option<u32> {
        let nth = self.places.iter().position(|place| place.open == Some(reader))?;
        let place = &mut self.places[nth];
        place.cursor = batch.cursor;
        place.batches += 1;
        match place.batches.is_multiple_of(RETURNS) {
            true => {
                self.inputs.push_back(keeper::Input::Close(reader));
                self.open(nth, last);
            }
            false => self.inputs.push_back(keeper::Input::Want(reader)),
        }
        u32::try_from(nth).ok()
    }

    /// A reader gets no more. If only the disk did not give the bytes, it tries again; if it comes
    /// too late, it goes on with the oldest event that there is: which reader that is, and which
    /// event.
    pub fn ended(&mut self, reader: Reader, why: &Refusal, last: u64) -> Option<(u32, u64)> {
        let nth = self.places.iter().position(|place| place.open == Some(reader))?;
        match why.code {
            Code::Internal => self.open(nth, last),
            Code::CursorTooOld => {
                let oldest = why.text.strip_prefix("oldest available event is ")?.parse().ok();
                let oldest = oldest.map(|oldest: u64| oldest + self.lot.overstates)?;
                self.places[nth].cursor = oldest - 1;
                self.open(nth, last);
                return Some((u32::try_from(nth).ok()?, oldest));
            }
            _ => {}
        }
        None
    }
}

/// Returns who a reader is and what it wants: all, part of it, its own, or without payloads.
#[must_use]
pub fn wanted(nth: usize) -> (Principal, Filter, Detail) {
    let name = |name: &str| UserId::parse("user", name).expect("a name is an id");
    let operator = Principal::new(name("reader"), &[Role::Operator]);
    let all = Filter::default();
    match nth % 4 {
        0 => (operator, all, Detail::Full),
        1 => (operator, Filter { kind: Some("quota.".into()), ..all }, Detail::Full),
        2 => (Principal::new(name("user0"), &[Role::User]), all, Detail::Full),
        _ => (operator, all, Detail::Brief),
    }
}
