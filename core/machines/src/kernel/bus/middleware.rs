//! What stands between a caller and the bus: it may change, stop or fail a message (K307).

use std::fmt;

use super::io::{Answer, Message, Payload, Receipt};
use crate::kernel::refusal::Refusal;

/// What a middleware makes of a message before the bus sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let it pass.
    Pass,
    /// Let it pass with another payload.
    Change(Payload),
    /// Stop it: the caller is refused `aborted` with this text.
    Abort(String),
    /// The middleware itself failed: the caller is refused `internal` with this text.
    Fail(String),
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen<'a> {
    /// An event was queued, or refused.
    Published(&'a Result<Receipt, Refusal>),
    /// A command or query ended.
    Answered(&'a Result<Answer, Refusal>),
}

/// One middleware: two pure functions. What it finds out it says in a note, which the driver
/// writes or acts upon.
#[derive(Clone, Copy)]
pub struct Middleware {
    /// Its name, for notes and for people.
    pub name: &'static str,
    /// Runs in order, before the bus looks for subscribers or a handler.
    pub before: fn(&Message) -> Verdict,
    /// Runs in reverse order, for each whose `before` ran, when the message has its result.
    pub after: fn(&Message, Seen<'_>) -> Option<String>,
}

impl fmt::Debug for Middleware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
