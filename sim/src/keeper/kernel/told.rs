//! Saboteurs of what callers are told: the kernel decides rightly, and something else is told
//! (K431, K448).

use machines::kernel::Code;
use machines::kernel::event::Event;
use machines::kernel::ids::ReservationId;
use machines::kernel::reply::Done;

use super::{Clerk, Output, Reply, Turn};

impl Clerk {
    /// Changes an answer on its way out.
    pub(super) fn turn_told(&self, mut output: Output<Reply, Event>) -> Output<Reply, Event> {
        match (self.turn, &mut output) {
            (Some(Turn::AnswersAnother), Output::Reply { reply: Ok(done), .. })
                if done.events.is_empty() =>
            {
                if let Done::Reserved { reservation, .. } = &mut done.reply.done {
                    let other = format!("{reservation}-again");
                    *reservation = ReservationId::parse("id", &other).expect("it is short");
                }
            }
            (Some(Turn::TellsLater), Output::Reply { reply: Err(refusal), .. })
                if refusal.code == Code::RateLimited =>
            {
                refusal.retry_at = refusal.retry_at.map(|at| at + 1);
            }
            _ => {}
        }
        output
    }
}
