//! The checkers of rates, services, dispatch, drain, access and housekeeping, and of determinism
//! (kernel.md, section 15).

mod access;
mod desk;
mod drain;
mod housekeeping;
mod rates;
mod twins;

use crate::keeper::checkers::Make;
use crate::keeper::kernel::{Clerk, Reply};
use crate::keeper::{Seen, World};

/// Lists the watches.
#[must_use]
pub(super) fn of_services() -> Vec<(&'static str, Make<Clerk>)> {
    vec![
        ("K362", || Box::new(drain::TakesNothingOn::default())),
        ("K431", || Box::new(rates::Rates::default())),
        ("K432", || Box::new(desk::Watched::slots())),
        ("K433", || Box::new(desk::Watched::tries())),
        ("K435", || Box::new(twins::Twins::default())),
        ("K446", || Box::new(access::Strangers::default())),
        ("K447", || Box::new(housekeeping::Kept::default())),
    ]
}

/// Says whether the kernel as it is has made no event that is not seen yet, and has nothing due.
fn is_caught_up(world: &World<Clerk>, events: u64) -> bool {
    let Some(kernel) = world.guest().and_then(Clerk::kernel) else {
        return false;
    };
    let due = kernel.next_deadline().is_some_and(|due| due.as_millis() <= world.wall_ms());
    kernel.last_event() == events && !due
}

/// Returns the reply to a command that was taken, if it saw these events and no more.
fn seen_by<'a>(
    seen: &Seen<'a, Clerk>,
    events: u64,
) -> Option<(&'a machines::kernel::Command, &'a machines::keeper::io::Decided)> {
    match seen {
        Seen::Replied { request, reply, .. } => {
            let reply: &Reply = reply;
            let done = reply.as_ref().ok()?;
            (done.reply.as_of == events).then_some((*request, done))
        }
        _ => None,
    }
}
