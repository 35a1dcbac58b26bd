//! K435: the same state and the same inputs give the same events, replies and roots, wherever the
//! process is in memory and however many deadlines one decision handles.
//!
//! Now and then, copies of the process live on beside the run: each with a `tick_batch` of its own,
//! all with the same inputs. Time passes all at once in them, so that much is due together.

use machines::Instant;
use machines::kernel::Command;
use machines::kernel::event::Event;

use crate::keeper::kernel::services::Aside;
use crate::keeper::kernel::{Clerk, Reply};
use crate::keeper::{Seen, Watch, World};

/// One of so many commands is asked in copies, too.
const EVERY: u64 = 800;
/// How much is due together.
const PASSES_MS: u64 = 1_500;
/// How many deadlines one decision handles: the first copy's is like no other's.
const BATCHES: [u64; 3] = [1_000, 1, 7];

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct Twins {
    calls: u64,
}

/// What came of the inputs.
#[derive(PartialEq)]
struct Came {
    events: Vec<Event>,
    reply: Option<Reply>,
    roots: Vec<[u8; 32]>,
}

fn live_on(aside: &mut Aside, tick_batch: u64, command: &Command) -> Came {
    aside.batch(tick_batch);
    aside.pass(PASSES_MS);
    let reply = aside.command(command.clone());
    Came { events: std::mem::take(&mut aside.events), reply, roots: aside.roots() }
}

fn difference(one: &Came, other: &Came) -> Option<String> {
    if one == other {
        return None;
    }
    let mut pairs = one.events.iter().zip(&other.events);
    if let Some((event, another)) = pairs.find(|(event, another)| event != another) {
        return Some(format!("{event:?} became {another:?}"));
    }
    let counts = (one.events.len(), other.events.len());
    if counts.0 != counts.1 {
        return Some(format!("{} events became {}", counts.0, counts.1));
    }
    match one.reply == other.reply {
        true => Some("the same events left another state".to_owned()),
        false => Some(format!("{:?} became {:?}", one.reply, other.reply)),
    }
}

impl Watch<Clerk> for Twins {
    fn property(&self) -> &'static str {
        "K435"
    }

    fn see(&mut self, world: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        let (Seen::Called(_, command), Some(guest)) = (seen, world.guest()) else {
            return Ok(false);
        };
        self.calls += 1;
        if !self.calls.is_multiple_of(EVERY) {
            return Ok(false);
        }
        let mut next = guest.aside(Instant::from_nanos(world.now()), world.wall_ms());
        let mut first: Option<Came> = None;
        for batch in BATCHES {
            let mut twin = next;
            next = twin.clone(); // A copy of a copy, elsewhere again.
            let came = live_on(&mut twin, batch, command);
            let Some(first) = &first else {
                first = Some(came);
                continue;
            };
            if let Some(what) = difference(first, &came) {
                let usual = BATCHES[0];
                return Err(format!("with a tick_batch of {usual} and of {batch}: {what}"));
            }
        }
        Ok(first.is_some_and(|came| !came.events.is_empty()))
    }
}
