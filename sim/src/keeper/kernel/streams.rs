//! Those who read events outside of the process: they outlive it, and go on where they were (K331).

use std::collections::VecDeque;

use machines::keeper::io::{self as keeper, Reader};
use machines::kernel::Code;
use machines::kernel::ids::UserId;
use machines::kernel::principal::{Principal, Role};
use machines::kernel::stream::{Batch, Detail, Filter, Reading};

/// Every so many batches a reader comes back of its own accord.
const RETURNS: u64 = 5;

/// One reader.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The last event that it knows.
    cursor: u64,
    open: Option<Reader>,
    batches: u64,
}

/// All of them; what they know is all that is left when the process ends.
#[derive(Clone, Debug, Default)]
pub struct Readers {
    places: Vec<Place>,
    opened: u64,
    inputs: VecDeque<keeper::Input>,
    /// K444: whoever comes back asks for one too far on.
    skips: bool,
}

impl Readers {
    /// Makes so many that have read nothing yet.
    #[must_use]
    pub fn new(count: u64, skips: bool) -> Self {
        let places = (0..count).map(|_| Place::default()).collect();
        Self { places, skips, ..Self::default() }
    }

    /// Returns what each knows.
    #[must_use]
    pub fn cursors(&self) -> Vec<u64> {
        self.places.iter().map(|place| place.cursor).collect()
    }

    /// The process before knew these by their cursors.
    pub fn remember(&mut self, cursors: &[u64]) {
        for (place, cursor) in self.places.iter_mut().zip(cursors) {
            place.cursor = *cursor;
        }
    }

    /// The process serves: all come, or come back. `last` is the last event there is.
    pub fn come(&mut self, last: u64) {
        for nth in 0..self.places.len() {
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
        let skipped = u64::from(self.skips && place.cursor > 0 && place.cursor < last);
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

    /// A reader gets no more. If only the disk did not give the bytes, it tries again.
    pub fn ended(&mut self, reader: Reader, why: Code, last: u64) {
        let found = self.places.iter().position(|place| place.open == Some(reader));
        if let Some(nth) = found.filter(|_| why == Code::Internal) {
            self.open(nth, last);
        }
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
