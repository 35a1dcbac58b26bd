//! `ExecuteAgent` on the control socket: answered at the end of the process, or when an interrupt
//! blocks it; the process goes on (K393).
//!
//! ```text
//!   → {"kernel":{"user":"a","do":{"execute_agent":{"pid":"p","agent_config":{"name":"poet"}}}}}
//!   ← {"ok":{"pid":"p","success":true,"output":{…},"terminal_reason":"completed",…}}
//! ```
//!
//! Whoever lost the connection asks the same again, with the same pid, and is told the same.

use std::time::Duration;

use machines::kernel::ids::{OutputKey, ProcessId};
use machines::kernel::names::{Outcome, ProcessState, TerminalReason};
use machines::kernel::principal::Principal;
use machines::kernel::query::status::RequestStatus;
use machines::kernel::query::{Query, Told};
use machines::kernel::reply::Done;
use machines::kernel::stream::{Detail, Filter, Reading};
use machines::kernel::{Command, Refusal};
use runtime::{Gone, KeeperHandle};
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

/// Waits until a process has ended, or waits for people.
async fn ended(
    by: &Principal,
    pid: &ProcessId,
    keeper: &KeeperHandle,
) -> Result<Result<Value, Box<Refusal>>, Gone> {
    let query = Query::GetRequestStatus { pid: pid.clone() };
    let filter =
        Filter { pid: Some(pid.clone()), kind: Some("process.".into()), ..Filter::default() };
    let mut events = None;
    loop {
        let answer = match keeper.query(by.clone(), query.clone()).await? {
            Ok(answer) => answer,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Told::Request(status) = &answer.told
            && let Some(result) = result(status)
        {
            return Ok(Ok(result));
        }
        if events.is_none() {
            let (cursor, follow, filter) = (Some(answer.as_of), true, filter.clone());
            let reading = Reading { cursor, follow, filter, detail: Detail::Brief };
            events = Some(keeper.events(by.clone(), reading).await?);
        }
        if let Some(events) = &mut events
            && let Err(refusal) = events.next().await?
        {
            return Ok(Err(refusal));
        }
    }
}

/// Returns what came of an agent, once something has (13.3: AgentResult).
fn result(status: &RequestStatus) -> Option<Value> {
    let process = &status.process;
    let blocked = process.state == ProcessState::Waiting;
    let asked = status.pending_interrupt.as_ref().filter(|_| blocked);
    let reason = process.terminal_reason;
    if reason.is_none() && asked.is_none() {
        return None;
    }
    let success = reason.is_some_and(|reason| reason.outcome() == Outcome::Completed);
    let error = match (asked, &process.termination_message) {
        (Some(asked), _) => Some(format!("interrupted: {}", asked.id)),
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
