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
//!    ▲ └── none ─► wait for an event that may bring one
//!    └──────────────┘ └── the time is over, or who asked has left ─► answered: none
//! ```
//!
//! A task is never leased to whoever has left before it came: leaving is looked for while one is
//! waited for, and nothing is asked after it.

use std::pin::pin;
use std::time::Duration;

use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::event::Body;
use machines::kernel::ids::ServiceName;
use machines::kernel::principal::Principal;
use machines::kernel::reply::Done;
use machines::kernel::services::event::ServiceEvent;
use machines::kernel::stream::{Detail, Filter, Reading};
use machines::kernel::{Code, Command, CommandBody, Refusal};
use runtime::{Events, Gone, KeeperHandle, Won, race};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::commands;

/// Asks for tasks until there is one, `wait` has passed, or `left` is done.
pub(crate) async fn lease(
    command: Command,
    wait: Duration,
    keeper: &KeeperHandle,
    left: impl Future<Output = ()>,
) -> Value {
    let until = Instant::now() + wait;
    let mut over = pin!(race(left, sleep_until(until)));
    let mut events = None;
    loop {
        let decided = match keeper.command(command.clone()).await {
            Ok(decided) => decided,
            Err(gone) => return json!({ "error": gone.to_string() }),
        };
        let told = commands::shown(&decided, None);
        let as_of = match &decided {
            Ok(decided) if is_none(&decided.reply.done) => decided.reply.as_of,
            Ok(_) | Err(_) => return told,
        };
        match race(next(&mut events, as_of, &command.body, keeper), over.as_mut()).await {
            Won::Left(Ok(Ok(()))) => {}
            // It begins again when somebody has made room, and cannot wait before.
            Won::Left(Ok(Err(why))) if why.code == Code::Overloaded => {
                return commands::refused(&why);
            }
            // The node stops: nothing more comes.
            Won::Left(Ok(Err(_)) | Err(Gone)) | Won::Right(_) => return told,
        }
    }
}

fn is_none(done: &Done) -> bool {
    matches!(done, Done::Tasks(tasks) if tasks.is_empty())
}

/// Waits for the next event after `as_of` that may bring work. Cancel safe.
async fn next(
    events: &mut Option<Events>,
    as_of: u64,
    body: &CommandBody,
    keeper: &KeeperHandle,
) -> Result<Result<(), Box<Refusal>>, Gone> {
    let CommandBody::LeaseTasks { service, .. } = body else {
        unreachable!("only this command waits for tasks");
    };
    if events.is_none() {
        // In the name of the node: whose work it is does not matter, and nothing of it is told.
        let (filter, detail) = (Filter::default(), Detail::Brief);
        let reading = Reading { cursor: Some(as_of), follow: true, filter, detail };
        *events = Some(keeper.events(Principal::node(), reading).await?);
    }
    let events = events.as_mut().expect("it was opened");
    loop {
        match events.next().await? {
            Ok(batch) => {
                if batch.events.iter().any(|one| may_bring(&one.event.body, service)) {
                    return Ok(Ok(()));
                }
            }
            Err(why) => return Ok(Err(why)),
        }
    }
}

/// Says whether there may be work for a service, or room, or the service itself no longer.
fn may_bring(body: &Body, service: &ServiceName) -> bool {
    match body {
        Body::Dispatch { event } => match event {
            DispatchEvent::Queued { service: of, .. }
            | DispatchEvent::Requeued { service: of, .. } => of == service,
            // They do not say whose room it is.
            DispatchEvent::RetryScheduled { .. } | DispatchEvent::Finished { .. } => true,
            DispatchEvent::Started { .. }
            | DispatchEvent::Renewed { .. }
            | DispatchEvent::Removed { .. } => false,
        },
        Body::Service { event } => match event {
            ServiceEvent::HealthChanged { service: of, .. }
            | ServiceEvent::Unregistered { service: of } => of == service,
            ServiceEvent::Registered { .. }
            | ServiceEvent::HandlerBound { .. }
            | ServiceEvent::HandlerUnbound { .. } => false,
        },
        Body::Slot { event } => event.frees() == Some(service),
        Body::Kernel { .. }
        | Body::Process { .. }
        | Body::Quota { .. }
        | Body::Rate { .. }
        | Body::Interrupt { .. }
        | Body::Approval { .. }
        | Body::Envelope { .. }
        | Body::Session { .. } => false,
    }
}
