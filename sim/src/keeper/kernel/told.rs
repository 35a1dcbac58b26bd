//! Saboteurs of what callers are told: the kernel decides rightly, and says something else (K448).

use machines::kernel::event::Event;
use machines::kernel::ids::ReservationId;
use machines::kernel::reply::Done;

use super::{Clerk, Output, Reply, Turn};

impl Clerk {
    /// Changes an answer on its way out.
    pub(super) fn turn_told(&self, mut output: Output<Reply, Event>) -> Output<Reply, Event> {
        if let (Some(Turn::AnswersAnother), Output::Reply { reply: Ok(done), .. }) =
            (self.turn, &mut output)
            && done.events.is_empty()
            && let Done::Reserved { reservation, .. } = &mut done.reply.done
        {
            let other = format!("{reservation}-again");
            *reservation = ReservationId::parse("id", &other).expect("it is short");
        }
        output
    }
}
