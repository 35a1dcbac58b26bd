//! `LeaseTasks` with `wait_ms` on the control socket: answered when there is a task, or when the
//! time is over (K205).
//!
//! ```text
//!   → {"kernel":{"user":"w","roles":["worker"],
//!                "do":{"lease_tasks":{"service":"s","wait_ms":9000}}}}
//!   ← {"ok":{"tasks":[{"dispatch_id":…,"lease":…}],…}}      or, after that time, "tasks":[]
//! ```
//!
//! ```text
//!   ask ── a task, or refused ─────────────────────────────► answered
//!    ▲ └── none ─► wait until the service may have work
//!    └──────────────┘ └── the time is over, or who asked has left ─► answered: none
//! ```
//!
//! A task is never leased to whoever has left before it came: whether it has is looked at before
//! each further question, and nothing is asked after it.

use std::pin::pin;
use std::time::Duration;

use machines::kernel::reply::Done;
use machines::kernel::{Command, CommandBody};
use runtime::{Won, race};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::commands;
use crate::keeping::Desk;

/// Asks for tasks until there is one, `wait` has passed, or `left` is done.
pub(crate) async fn lease(
    command: Command,
    wait: Duration,
    desk: &Desk,
    left: impl Future<Output = ()>,
) -> Value {
    let CommandBody::LeaseTasks { service, .. } = &command.body else {
        unreachable!("only this command waits for tasks");
    };
    let until = Instant::now() + wait;
    let mut over = pin!(race(left, sleep_until(until)));
    // Before the first question: what comes after it is heard.
    let mut ready = desk.ready.listen();
    loop {
        let decided = match desk.handle.command(command.clone()).await {
            Ok(decided) => decided,
            Err(gone) => return json!({ "error": gone.to_string() }),
        };
        let told = commands::shown(&decided, None);
        if !decided.is_ok_and(|decided| is_none(&decided.reply.done)) {
            return told;
        }
        // A tie goes left: it is over.
        match race(over.as_mut(), ready.next(service)).await {
            Won::Right(true) => {}
            // The node stops: nothing more comes.
            Won::Left(_) | Won::Right(false) => return told,
        }
    }
}

fn is_none(done: &Done) -> bool {
    matches!(done, Done::Tasks(tasks) if tasks.is_empty())
}
