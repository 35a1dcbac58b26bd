//! Tokens: pieces of what an agent says, shown between the events of its execution (K292).
//!
//! They are volatile: messages of the bus of type [`TYPE`], which is the node's own. So whoever has
//! a piece gives it to the driver, which asks [`Kernel::check_token`] and publishes it as the node.
//! Who reads puts them between the durable events with [`Tokens`]: what is missing is a Gap, and
//! what comes twice, or when its attempt is over, is left out.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ExecutionEvent, ExecutionEventType};
use crate::kernel::Kernel;
use crate::kernel::decision::foreign;
use crate::kernel::ids::{AttemptId, DispatchId, ProcessId, StageName, WorkerId};
use crate::kernel::json::Json;
use crate::kernel::json::document::{Document, read};
use crate::kernel::pipeline::kinds::TokenStreamMode;
use crate::kernel::principal::{Holder, Principal};
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::sessions::Attempt;
use crate::kernel::time::Time;

/// The type of the messages.
pub const TYPE: &str = "lockstep.token";

/// How many attempts have pieces that are put together at a time; more are left out.
const ATTEMPTS_MAX: usize = 64;

document! {
    /// A piece, as the payload of a message has it.
    pub struct Chunk {
        /// Of which process: a pid.
        pub pid: Arc<str> => required,
        /// Of which attempt.
        pub attempt_id: Arc<str> => required,
        /// Which piece of it, from 0.
        pub index: u64 => required,
        /// What it says.
        pub text: Arc<str> => required,
    }
}

/// A piece of what an agent says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Of which process.
    pub pid: ProcessId,
    /// Of which attempt.
    pub attempt: AttemptId,
    /// Which piece of it, from 0.
    pub index: u64,
    /// What it says.
    pub text: Arc<str>,
}

impl Token {
    /// Reads the payload of a message.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub fn parse(payload: &Json) -> Result<Self, Refusal> {
        let Chunk { pid, attempt_id, index, text } = read(payload, "payload_json")?;
        Ok(Self {
            pid: ProcessId::parse("payload_json.pid", &pid)?,
            attempt: AttemptId::parse("payload_json.attempt_id", &attempt_id)?,
            index,
            text,
        })
    }

    /// Writes it as a payload.
    #[must_use]
    pub fn to_json(&self) -> Json {
        Json::object([
            ("pid", Json::from(self.pid.as_str())),
            ("attempt_id", Json::from(self.attempt.as_str())),
            ("index", Json::from(self.index)),
            ("text", Json::from(Arc::clone(&self.text))),
        ])
    }
}

impl Kernel {
    /// Refuses a piece that is not told by who works on a live attempt whose agent shows its tokens
    /// (K292): the attempt's holder; of a process that the node drives, who works on its dispatch.
    ///
    /// # Errors
    ///
    /// `permission_denied` for a false name (K26), `process_not_found`, `attempt_not_found` if it
    /// is not live, `not_holder`; `bad_value` if its agent shows none.
    pub fn check_token(
        &self,
        by: &Principal,
        worker: Option<&WorkerId>,
        token: &Token,
    ) -> Result<(), Refusal> {
        by.check()?;
        let Token { pid, attempt: id, .. } = token;
        let Some(process) = self.process(pid) else {
            let told = format!("process not found: {pid}");
            return Err(Refusal::new(Code::ProcessNotFound, told));
        };
        if !by.takes_any_work() && !by.may_see(process) {
            return Err(foreign(pid));
        }
        let session = self.state().running_session(pid);
        let Some(attempt) = session.and_then(|session| session.attempts.get(id)) else {
            let told = format!("attempt not found: {id}");
            return Err(Refusal::new(Code::AttemptNotFound, told));
        };
        if !self.works_on(by, worker, (id, attempt)) {
            let told = format!("attempt {id} is worked on by somebody else");
            return Err(Refusal::new(Code::NotHolder, told));
        }
        let stage = session.and_then(|session| session.stage(&attempt.stage));
        let shown = stage.and_then(|stage| stage.agent_config.as_ref());
        match shown.map(|agent| agent.token_stream) {
            Some(TokenStreamMode::Debug | TokenStreamMode::Authoritative) => Ok(()),
            Some(TokenStreamMode::Off) | None => {
                let told = format!("token_stream is off for agent {}", attempt.agent);
                Err(Refusal::of_field(Code::BadValue, "token_stream", told))
            }
        }
    }

    fn works_on(
        &self,
        by: &Principal,
        worker: Option<&WorkerId>,
        (id, attempt): (&AttemptId, &Attempt),
    ) -> bool {
        let is = |holder: &Holder| {
            holder.user == by.user && worker.is_none_or(|worker| *worker == holder.worker)
        };
        let dispatch = DispatchId::parse("dispatch_id", id.as_str()).ok();
        let tried = dispatch.and_then(|id| self.state().worker_of(&id));
        let driven = attempt.holder.user == Principal::node().user;
        is(&attempt.holder) || (driven && tried.is_some_and(is))
    }
}

/// What is known of the pieces of an attempt.
#[derive(Clone, Debug)]
struct Spoken {
    stage: Option<StageName>,
    /// The piece that comes next.
    next: u64,
}

/// Puts the tokens of one process between its durable events.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// Attempts that were begun and are not over.
    live: BTreeMap<AttemptId, Spoken>,
    /// The number of the last durable event: where to go on, for who lost the connection.
    last: u64,
}

impl Tokens {
    /// Takes the next durable event; it is shown as it is.
    pub fn pass(&mut self, event: &ExecutionEvent) {
        self.last = event.event;
        match (event.kind, &event.attempt, &event.stage) {
            (ExecutionEventType::StageStarted, Some(attempt), stage) => {
                // A stage has one live attempt: a new one says that the last is over (K268).
                self.live.retain(|_, spoken| spoken.stage != *stage);
                if self.live.len() < ATTEMPTS_MAX {
                    let spoken = Spoken { stage: stage.clone(), next: 0 };
                    self.live.insert(attempt.clone(), spoken);
                }
            }
            (
                ExecutionEventType::StageCompleted
                | ExecutionEventType::StageFailed
                | ExecutionEventType::RetryScheduled,
                _,
                Some(stage),
            ) => self.live.retain(|_, spoken| spoken.stage.as_ref() != Some(stage)),
            (kind, _, _) if kind.is_last() || kind == ExecutionEventType::ParallelJoined => {
                self.live.clear();
            }
            (_, _, _) => {}
        }
    }

    /// Takes a piece; returns what is shown for it: nothing if it came before or its attempt is not
    /// live, and a Gap before it if others are missing.
    pub fn take(&mut self, at: Time, token: &Token) -> Vec<ExecutionEvent> {
        let last = self.last;
        let Some(spoken) = self.live.get_mut(&token.attempt) else {
            return Vec::new();
        };
        if token.index < spoken.next {
            return Vec::new();
        }
        let shown = |kind, payload: Json| ExecutionEvent {
            kind,
            stage: spoken.stage.clone(),
            at,
            payload,
            event: last,
            attempt: Some(token.attempt.clone()),
            terminal_reason: None,
        };
        let gap = (token.index > spoken.next).then(|| {
            let missing = [("from", Json::from(spoken.next)), ("to", Json::from(token.index - 1))];
            shown(ExecutionEventType::Gap, Json::object(missing))
        });
        let said = [("index", token.index.written()), ("text", token.text.written())];
        let said = shown(ExecutionEventType::Token, Json::object(said));
        spoken.next = token.index.saturating_add(1);
        gap.into_iter().chain([said]).collect()
    }
}
