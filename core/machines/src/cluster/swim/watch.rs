//! One watcher of the member stream: every event, or a count of what was missed (C45).

use std::collections::VecDeque;

use super::io::MemberEvent;

/// What a watcher is given next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watched {
    /// The next event.
    Event(MemberEvent),
    /// The watcher fell behind: so many events are lost to it, and it needs a new snapshot.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// The buffer between the stream and one slow watcher. Make it with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Watch {
    events: VecDeque<MemberEvent>,
    events_max: u32,
    missed: u64,
}

impl Watch {
    /// Starts a watcher that may be `events_max` events behind (`watch_buffer`).
    #[must_use]
    pub const fn new(events_max: u32) -> Self {
        Self {
            events: VecDeque::new(),
            events_max,
            missed: 0,
        }
    }

    /// Offers an event. One that does not fit makes all that waits obsolete.
    pub fn push(&mut self, event: MemberEvent) {
        if self.missed > 0 {
            self.missed += 1;
        } else if self.events.len() >= self.events_max as usize {
            self.missed = self.events.len() as u64 + 1;
            self.events.clear();
        } else {
            self.events.push_back(event);
        }
    }

    /// Takes the next item. After [`Watched::Lagged`] the watcher takes a new snapshot, and the
    /// events that follow go on from it.
    pub fn pop(&mut self) -> Option<Watched> {
        if self.missed > 0 {
            let missed = std::mem::take(&mut self.missed);
            return Some(Watched::Lagged { missed });
        }
        self.events.pop_front().map(Watched::Event)
    }
}
