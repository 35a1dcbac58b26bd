//! K444: a reader sees each event that it wants once, in order, and none that could be lost.
#![expect(clippy::wildcard_enum_match_arm, reason = "a checker looks at what it judges")]

use std::collections::BTreeMap;

use machines::kernel::event::Event;

use crate::keeper::book::Follow;
use crate::keeper::checkers::segments;
use crate::keeper::kernel::Clerk;
use crate::keeper::kernel::streams::wanted;
use crate::keeper::{Seen, Watch, World};

/// See the file's header.
#[derive(Clone, Default)]
pub(in crate::keeper) struct Streams {
    follow: Follow,
    /// All events that are certain, in order.
    log: Vec<Event>,
    /// What each reader knows: all up to this event.
    cursors: BTreeMap<u32, u64>,
    /// How many events there were when the faults were over.
    quiet: Option<u64>,
}

impl Streams {
    /// Compares what a reader was given with what there is since it was given something last.
    fn check(&mut self, reader: u32, to: u64, given: &[(u64, Event)]) -> Result<bool, String> {
        let from = self.cursors.insert(reader, to).unwrap_or(0);
        let place = |number: u64| usize::try_from(number).expect("as many as fit in memory");
        let Some(there) = self.log.get(place(from)..place(to)) else {
            let certain = self.log.len();
            return Err(format!("reader {reader} was told of {from} to {to} of {certain}"));
        };
        let (by, filter, detail) = wanted(reader as usize);
        let due = (from + 1..).zip(there);
        let due = due.filter(|(_, event)| by.may_read(event) && filter.picks(event));
        let mut given = given.iter();
        for (number, event) in due {
            match given.next() {
                Some((got, told)) if *got == number && *told == detail.of(event.clone()) => {}
                other => {
                    let other = other.map(|(got, told)| (got, told.body.kind()));
                    return Err(format!("reader {reader}: {other:?} in the place of {number}"));
                }
            }
        }
        match given.next() {
            None => Ok(true),
            Some((number, _)) => Err(format!("reader {reader}: {number} is none of its events")),
        }
    }
}

impl Streams {
    /// K332: who comes too late is told what the oldest event is that is kept, and goes on there.
    fn late(&mut self, world: &World<Clerk>, reader: u32, oldest: u64) -> Result<bool, String> {
        let known = self.cursors.get(&reader).copied().unwrap_or(0);
        if oldest <= known + 1 {
            return Err(format!("reader {reader} knows {known}, and {oldest} is too late for it"));
        }
        let before = |first: &u64| world.history().last_event(first - 1);
        let firsts = segments(world.files());
        if !firsts.iter().filter_map(before).any(|before| before + 1 == oldest) {
            return Err(format!("reader {reader}: no segment of {firsts:?} begins with {oldest}"));
        }
        self.cursors.insert(reader, oldest - 1);
        Ok(true)
    }
}

impl Watch<Clerk> for Streams {
    fn property(&self) -> &'static str {
        "K444"
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        for events in self.follow.see(seen) {
            self.log.extend(events.iter().cloned());
        }
        match seen {
            Seen::Read { reader, to, events } => self.check(*reader, *to, events),
            Seen::Late { reader, oldest } => self.late(world, *reader, *oldest),
            Seen::Quiet => {
                self.quiet = Some(self.log.len() as u64);
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Who reads all has caught up with what there was when the faults were over.
    fn end(&mut self, _: &World<Clerk>) -> Result<bool, String> {
        match (self.cursors.get(&0), self.quiet) {
            (Some(cursor), Some(quiet)) if *cursor < quiet => {
                Err(format!("reader 0 is at {cursor}, and there were {quiet}"))
            }
            _ => Ok(false),
        }
    }
}
