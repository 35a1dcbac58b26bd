//! `ExecuteAgent` on the control socket: answered at the end of the process, or when an interrupt
//! blocks it; the process goes on (K393).
//!
//! ```text
//!   → {"kernel":{"user":"a","do":{"execute_agent":{"pid":"p","agent_config":{"name":"poet"}}}}}
//!   ← {"ok":{"pid":"p","success":true,"output":{…},"terminal_reason":"completed",…}}
//! ```
//!
//! Whoever lost the connection asks the same again, with the same pid, and is told the same. Nobody
//! waits for a client that has left: see [`control`](crate::control).

use std::time::Duration;

use machines::kernel::ids::{InterruptId, OutputKey, ProcessId};
use machines::kernel::names::{InterruptStatus, Outcome, TerminalReason};
use machines::kernel::principal::Principal;
use machines::kernel::query::status::RequestStatus;
use machines::kernel::query::view::ProcessControlBlock;
use machines::kernel::query::{self, Query};
use machines::kernel::reply::Done;
use machines::kernel::stream::{Detail, Filter, Reading};
use machines::kernel::{Code, Command, Refusal};
use runtime::{Events, Gone, KeeperHandle};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::commands;

/// How long a call waits for the end (K392).
const PATIENCE: Duration = Duration::from_secs(300);

/// Has an agent executed, and waits for what comes of it.
pub(crate) async fn execute(command: Command, keeper: &KeeperHandle) -> Value {
    let by = command.by.clone();
    let decided = match keeper.command(command).await {
        Ok(Ok(decided)) => decided,
        Ok(Err(refusal)) => return commands::refused(&refusal),
        Err(gone) => return json!({ "error": gone.to_string() }),
    };
    let Done::Process(process) = &decided.reply.done else {
        return json!({ "error": "the process is kept no longer" });
    };
    match timeout(PATIENCE, ended(&by, &process.pid, keeper)).await {
        Ok(Ok(Ok(result))) => json!({ "ok": result }),
        Ok(Ok(Err(refusal))) => commands::refused(&refusal),
        Ok(Err(gone)) => json!({ "error": gone.to_string() }),
        Err(_) => {
            let (pid, most) = (&process.pid, PATIENCE.as_secs());
            json!({ "error": format!("{pid} has not ended after {most} s: ask for it again") })
        }
    }
}

/// What is told, or why not.
type Told<T> = Result<Result<T, Box<Refusal>>, Gone>;

/// Waits until a process has ended, or waits for people.
async fn ended(by: &Principal, pid: &ProcessId, keeper: &KeeperHandle) -> Told<Value> {
    let query = Query::GetRequestStatus { pid: pid.clone() };
    let mut events = None;
    loop {
        let answer = match keeper.query(by.clone(), query.clone()).await? {
            Ok(answer) => answer,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let query::Told::Request(status) = &answer.told {
            let asked = match status.process.state.is_terminal() {
                true => None,
                false => blocking(by, &status.process, keeper).await?,
            };
            if let Some(result) = result(status, asked.as_ref()) {
                return Ok(Ok(result));
            }
        }
        if events.is_none() {
            let filter = Filter { pid: Some(pid.clone()), ..Filter::default() };
            let (cursor, detail) = (Some(answer.as_of), Detail::Brief);
            let reading = Reading { cursor, follow: true, filter, detail };
            events = Some(keeper.events(by.clone(), reading).await?);
        }
        let events = events.as_mut().expect("it was opened");
        if let Err(refusal) = news(events).await? {
            return Ok(Err(Box::new(unfollowed(pid, *refusal))));
        }
    }
}

/// Waits for an event with which a process may have ended, or wait for people.
async fn news(events: &mut Events) -> Told<()> {
    loop {
        let batch = match events.next().await? {
            Ok(batch) => batch,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let may_be = |kind: &str| kind.starts_with("process.") || kind.starts_with("interrupt.");
        if batch.events.iter().any(|numbered| may_be(numbered.event.body.kind())) {
            return Ok(Ok(()));
        }
    }
}

/// Says of a process that has begun why its end cannot be waited for.
fn unfollowed(pid: &ProcessId, why: Refusal) -> Refusal {
    match why.code == Code::Overloaded {
        true => {
            let text = format!("{pid} goes on, and cannot be waited for: {}", why.text);
            Refusal::new(Code::Overloaded, format!("{text}; ask for it again"))
        }
        false => why,
    }
}

/// Finds the oldest question that holds a process up (K62, K393); there are few (K25).
async fn blocking(
    by: &Principal,
    process: &ProcessControlBlock,
    keeper: &KeeperHandle,
) -> Result<Option<InterruptId>, Gone> {
    for id in &process.pending_interrupts {
        let query = Query::GetInterrupt { id: id.clone() };
        // Refused: it is kept no longer, and so it is closed.
        if let Ok(answer) = keeper.query(by.clone(), query).await?
            && let query::Told::Interrupt(asked) = &answer.told
            && asked.blocking
            && asked.status == InterruptStatus::Pending
        {
            return Ok(Some(id.clone()));
        }
    }
    Ok(None)
}

/// Returns what came of an agent, once something has (13.3: AgentResult); `asked` holds it up.
fn result(status: &RequestStatus, asked: Option<&InterruptId>) -> Option<Value> {
    let process = &status.process;
    let reason = process.terminal_reason;
    if reason.is_none() && asked.is_none() {
        return None;
    }
    let success = reason.is_some_and(|reason| reason.outcome() == Outcome::Completed);
    let error = match (asked, &process.termination_message) {
        (Some(asked), _) => Some(format!("interrupted: {asked}")),
        (None, Some(message)) if !success => Some(message.to_string()),
        (None, _) => None,
    };
    let envelope = status.envelope.as_ref();
    let stage = status.session.as_ref().and_then(|session| session.pipeline.stages.first());
    let key = stage.map(|stage| OutputKey::clone(&stage.output_key));
    let output = envelope.zip(key).and_then(|(shown, key)| shown.envelope.outputs.get(&key));
    let end =
        process.completed_at.or_else(|| status.session.as_ref().map(|it| it.last_activity_at));
    Some(json!({
        "pid": process.pid.as_str(),
        "success": success,
        "output": output.map(|output| commands::plain(&output.value)),
        "error": error,
        "duration_ms": end.map_or(0, |end| end.since(process.created_at)),
        "llm_calls": process.usage.used.amounts.llm_calls,
        "terminal_reason": reason.map(TerminalReason::name),
        "envelope_id": envelope.map(|shown| shown.id.as_str()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who is refused after the process has begun must not take it for not begun.
    #[test]
    fn whoever_cannot_wait_is_told_that_the_process_goes_on() {
        let pid = ProcessId::parse("pid", "p").unwrap();
        let full = Refusal::new(Code::Overloaded, "1024 readers follow the events");
        let why = "p goes on, and cannot be waited for: 1024 readers follow the events";
        let told = unfollowed(&pid, full).to_string();
        assert_eq!(told, format!("overloaded: {why}; ask for it again"));
        let other = Refusal::new(Code::NotDurable, "the journal has failed");
        assert_eq!(unfollowed(&pid, other.clone()), other);
    }
}
