//! Events of the kernel as lines of JSON, for whoever may open the control socket (K331–K333).
//!
//! ```text
//!   → {"events":{"user":"ops","roles":["operator"],"from":0,"follow":true,"kind":"process."}}
//!   ← {"event":{"number":2,"kind":"process.created","pid":"p1",…}}
//!     …
//!   ← {"ended":{"cursor":17}}      all that was asked for, or the node stops
//!     or {"refused":{"code":"cursor_too_old","text":"…"}}
//! ```
//!
//! With `"execution":true` and a `pid` they are shown as who runs that pipeline sees them (K291),
//! and the last of them ends the stream; whoever follows one that has ended is told what is left of
//! it, and no more.
//!
//! The next events are read when the last ones are written: who reads slowly loses nothing, and
//! costs the node one batch. Whoever lost the connection goes on with the number of the last event.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use machines::kernel::event::Event;
use machines::kernel::execution::ExecutionEvent;
use machines::kernel::ids::{ProcessId, SessionId, UserId};
use machines::kernel::names::TerminalReason;
use machines::kernel::principal::Principal;
use machines::kernel::query::{Query, Told};
use machines::kernel::stream::{Batch, Detail, Filter, Numbered, Reading};
use machines::kernel::{Code, Refusal};
use runtime::{Events, Gone, KeeperHandle, Won, race};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::commands::{self, RoleName};

/// How many connections may follow events, or wait for agents and tasks, at a time: fewer than
/// there may be, so that those who wait do not keep out those who command.
pub(crate) const PLACES_MAX: usize = 192;
/// How often the end of a node looks whether they have been told, and how long at the most.
const LOOK: Duration = Duration::from_millis(10);
/// See [`LOOK`].
const TOLD_MAX: Duration = Duration::from_secs(2);

/// The connections that there may be, or those of them that wait.
#[derive(Clone)]
pub(crate) struct Places {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// One of them, until it is dropped.
pub(crate) struct Place {
    taken: Arc<AtomicUsize>,
}

impl Places {
    pub(crate) fn of(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// Takes one; nothing if there is none.
    pub(crate) fn take(&self) -> Option<Place> {
        // Relaxed: a count, which publishes nothing.
        let place = Place { taken: Arc::clone(&self.taken) };
        (self.taken.fetch_add(1, Relaxed) < self.most).then_some(place)
    }

    /// Waits until all are told that the node has stopped, but no longer than `most`. Who does not
    /// read its last line does not need it, and is not waited for.
    pub(crate) async fn empty(&self, most: Duration) {
        let empty = async {
            // Relaxed: as above.
            while self.taken.load(Relaxed) > 0 {
                sleep(LOOK).await;
            }
        };
        let _ = race(empty, sleep(most.min(TOLD_MAX))).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Relaxed: as above.
        self.taken.fetch_sub(1, Relaxed);
    }
}

/// What somebody wants to read, and in whose name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wanted {
    /// Who reads.
    pub user: String,
    /// As what; a user, if nothing is said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) roles: Vec<RoleName>,
    /// The last event that is known: 0 for all; absent, only what comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Whether to go on with what comes.
    pub follow: bool,
    /// What the kind begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// About which process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    /// About whose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// About which conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Whether payloads are left out.
    pub brief: bool,
    /// Whether they are shown as the events of an execution (K291).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub execution: bool,
}

impl Wanted {
    /// Wants what an operator may see.
    #[must_use]
    pub fn of_operator() -> Self {
        let roles = vec![RoleName::Operator];
        Self { user: "operator".to_owned(), roles, ..Self::default() }
    }

    /// Returns it in the kernel's words.
    fn reading(self) -> Result<(Principal, Reading), Refusal> {
        let by = commands::principal(&self.user, &self.roles)?;
        if self.execution && self.pid.is_none() {
            return Err(Refusal::of_field(Code::Required, "pid", "pid is required"));
        }
        let filter = Filter {
            kind: self.kind.map(Into::into),
            pid: self.pid.map(|pid| ProcessId::parse("pid", &pid)).transpose()?,
            user: self.of.map(|user| UserId::parse("of", &user)).transpose()?,
            session: self.session.map(|id| SessionId::parse("session", &id)).transpose()?,
        };
        let detail = if self.brief { Detail::Brief } else { Detail::Full };
        Ok((by, Reading { cursor: self.from, follow: self.follow, filter, detail }))
    }
}

/// Writes events until there are no more, or whoever reads has gone.
///
/// # Errors
///
/// The connection broke.
pub(crate) async fn serve(
    wanted: Wanted,
    keeper: &KeeperHandle,
    mut read: impl AsyncReadExt + Unpin,
    write: &mut (impl AsyncWriteExt + Unpin),
) -> io::Result<()> {
    let execution = wanted.execution;
    let opened = match wanted.reading() {
        Err(refusal) => Ok(Err(Box::new(refusal))),
        Ok((by, reading)) => open(by, reading, execution, keeper).await,
    };
    let mut events = match opened {
        Ok(Ok(events)) => events,
        Ok(Err(refusal)) => return line(write, &commands::refused(&refusal)).await,
        Err(gone) => return line(write, &json!({ "error": gone.to_string() })).await,
    };
    match follow(&mut events, execution, &mut read, write).await? {
        Some(last) => line(write, &last).await,
        None => Ok(()),
    }
}

/// Opens a reader. An execution is followed only while it has not ended: its end may be behind the
/// cursor, and nothing would come (K291).
async fn open(
    by: Principal,
    mut reading: Reading,
    execution: bool,
    keeper: &KeeperHandle,
) -> Result<Result<Events, Box<Refusal>>, Gone> {
    let pid = reading.filter.pid.as_ref().filter(|_| execution && reading.follow);
    if let Some(pid) = pid.cloned() {
        let answer = match keeper.query(by.clone(), Query::GetProcess { pid }).await? {
            Ok(answer) => answer,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if let Told::Process(process) = &answer.told {
            reading.follow = !process.state.is_terminal();
        }
        // An end that comes after this look is not passed over.
        reading.cursor = reading.cursor.or(Some(answer.as_of));
    }
    keeper.events(by, reading).await.map(Ok)
}

/// Writes events; returns the last line, or nothing if nobody reads it.
async fn follow(
    events: &mut Events,
    execution: bool,
    read: &mut (impl AsyncReadExt + Unpin),
    write: &mut (impl AsyncWriteExt + Unpin),
) -> io::Result<Option<Value>> {
    let mut cursor = None;
    loop {
        let given = match race(events.next(), gone(read)).await {
            Won::Left(given) => given,
            Won::Right(()) => return Ok(None),
        };
        let Batch { events, cursor: now, last } = match given {
            Ok(Ok(batch)) => *batch,
            // The node has stopped: all that was durable then can be read after its next start.
            Ok(Err(why)) if matches!(why.code, Code::NotDurable | Code::Draining) => {
                return Ok(Some(json!({ "ended": { "cursor": cursor, "why": why.text } })));
            }
            Ok(Err(why)) => return Ok(Some(commands::refused(&why))),
            Err(gone) => {
                let why = gone.to_string();
                return Ok(Some(json!({ "ended": { "cursor": cursor, "why": why } })));
            }
        };
        cursor = Some(now);
        let mut text = Vec::new();
        let mut over = false;
        for numbered in &events {
            let Some(shown) = shown_as(execution, numbered) else {
                continue;
            };
            serde_json::to_writer(&mut text, &json!({ "event": shown }))?;
            text.push(b'\n');
            if execution && is_last(numbered) {
                (cursor, over) = (Some(numbered.number), true);
                break;
            }
        }
        write.write_all(&text).await?;
        if last || over {
            return Ok(Some(json!({ "ended": { "cursor": cursor } })));
        }
    }
}

/// Waits until the other side has closed.
async fn gone(read: &mut (impl AsyncReadExt + Unpin)) {
    let mut rest = [0; 64];
    while read.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {}
}

async fn line(write: &mut (impl AsyncWriteExt + Unpin), value: &Value) -> io::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// Shows an event as it is wanted; nothing if there is nothing to show.
fn shown_as(execution: bool, numbered: &Numbered) -> Option<Value> {
    match execution {
        true => ExecutionEvent::of(numbered).map(|event| executed(&event)),
        false => Some(shown(numbered)),
    }
}

/// Says whether a pipeline ended with an event.
pub(crate) fn is_last(numbered: &Numbered) -> bool {
    ExecutionEvent::of(numbered).is_some_and(|event| event.kind.is_last())
}

/// Shows an event of an execution to programs: the fields of 13.3.
fn executed(event: &ExecutionEvent) -> Value {
    let payload = commands::plain(&event.payload);
    json!({
        "type": event.kind.name(),
        "stage": event.stage.as_ref().map(ToString::to_string),
        "timestamp_ms": event.at.as_millis(),
        "payload": payload,
        "event": event.event,
        "attempt_id": event.attempt.as_ref().map(ToString::to_string),
        "terminal_reason": event.terminal_reason.map(TerminalReason::name),
    })
}

/// Shows an event to programs.
fn shown(Numbered { number, event }: &Numbered) -> Value {
    let Event { time, subject, body } = event;
    json!({
        "number": number,
        "kind": body.kind(),
        "time_ms": time.as_millis(),
        "pid": subject.pid.as_ref().map(ToString::to_string),
        "user": subject.user.as_ref().map(ToString::to_string),
        "session": subject.session.as_ref().map(ToString::to_string),
        "request": subject.request.as_ref().map(ToString::to_string),
        "body": format!("{body:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_until_it_is_dropped() {
        let places = Places::of(1);
        let first = places.take();
        assert!(first.is_some() && places.clone().take().is_none());
        drop(first);
        assert!(places.take().is_some());
    }

    /// K363: what is left of a stop's time may be nothing.
    #[test]
    fn who_does_not_read_its_last_line_is_not_waited_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let places = Places::of(1);
        let _place = places.take().unwrap();
        runtime.block_on(async {
            let mut empty = std::pin::pin!(places.empty(Duration::ZERO));
            let ends = race(empty.as_mut(), sleep(TOLD_MAX / 2)).await;
            assert_eq!(ends, Won::Left(()), "there is no time left for it");
        });
    }

    #[test]
    fn a_line_names_what_is_wanted_and_what_is_wrong_is_named() {
        let text = r#"{"user":"ops","roles":["operator"],"from":3,"kind":"process.","of":"alice"}"#;
        let wanted: Wanted = serde_json::from_str(text).unwrap();
        let (by, reading) = wanted.reading().unwrap();
        assert!(by.is_operator());
        assert_eq!(
            (reading.cursor, reading.follow, reading.detail),
            (Some(3), false, Detail::Full)
        );
        assert_eq!(reading.filter.user.unwrap().as_str(), "alice");
        let wrong = Wanted { pid: Some("a b".to_owned()), ..Wanted::of_operator() };
        assert!(wrong.reading().unwrap_err().to_string().starts_with("bad_id: pid"));
        assert!(Wanted::default().reading().is_err(), "somebody reads");
        let whose = Wanted { execution: true, ..Wanted::of_operator() };
        assert_eq!(whose.reading().unwrap_err().to_string(), "required: pid is required");
        assert!(serde_json::from_str::<Wanted>(r#"{"user":"a","form":1}"#).is_err());
    }
}
