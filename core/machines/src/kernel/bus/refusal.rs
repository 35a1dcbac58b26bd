//! Why the bus refuses: reasons of its own, and the refusals that they become (K395, K410).

use std::fmt;

use super::io::{Category, NODE_PREFIX};
use crate::kernel::ids::MessageType;
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::time::{Millis, Seconds, Time};

/// Why something is refused. Nothing was queued by what was refused, and nobody called, unless
/// stated.
#[derive(Debug)]
pub(super) enum Reason {
    /// A field is missing: `required`. The caller's fault.
    Required {
        /// Which.
        field: &'static str,
    },
    /// A type is the node's own: `bad_name`. The caller's fault.
    Reserved {
        /// The field that names it.
        field: &'static str,
    },
    /// A name has too many bytes: `bad_name`. The caller's fault.
    LongName {
        /// The field that has it.
        field: &'static str,
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        most: u32,
    },
    /// A timeout is out of range: `bad_value`. The caller's fault.
    BadTimeout {
        /// What was asked for.
        millis: Millis,
        /// The longest that there is.
        most: Millis,
    },
    /// Too many bytes: `too_large`. The caller's fault.
    TooLarge {
        /// In which field.
        field: &'static str,
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        most: u32,
    },
    /// Too many of something: `too_many`. Routine when a table is full.
    TooMany {
        /// In which field or table.
        field: &'static str,
        /// How many there would be.
        count: usize,
        /// How many there may be.
        most: u32,
    },
    /// Only an operator may publish to all: `permission_denied`.
    NotOperator,
    /// Nobody handles the type, or nobody whom the caller may reach: `no_handler`. Routine.
    NoHandler(MessageType),
    /// Someone handles the type already: `handler_exists`. Routine.
    HandlerExists(MessageType),
    /// The handler did not answer in time: `query_timeout`. Routine; it may still do its work.
    TimedOut {
        /// Command or query.
        category: Category,
        /// Of which type.
        kind: MessageType,
        /// After how long.
        after: Millis,
    },
    /// The handler went before it answered, or its queue lost the call: `handler_lost`. Routine;
    /// it may have done its work.
    HandlerLost(MessageType),
    /// A middleware stopped the message, with this text: `aborted`. Routine.
    Aborted(String),
    /// A middleware failed, with this text: `internal`.
    Failed(String),
    /// The type's circuit breaker is not closed: `circuit_open`. Routine.
    CircuitOpen {
        /// Which type.
        kind: MessageType,
        /// How long it stays open; none if it is half-open and its probe is awaited.
        left: Option<Millis>,
        /// As of when.
        at: Time,
    },
    /// Too many calls are under way: `overloaded`. Routine.
    Overloaded {
        /// How many there may be.
        most: u32,
    },
}

impl Reason {
    const fn code(&self) -> Code {
        match self {
            Self::Required { .. } => Code::Required,
            Self::Reserved { .. } | Self::LongName { .. } => Code::BadName,
            Self::BadTimeout { .. } => Code::BadValue,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::TooMany { .. } => Code::TooMany,
            Self::NotOperator => Code::PermissionDenied,
            Self::NoHandler(_) => Code::NoHandler,
            Self::HandlerExists(_) => Code::HandlerExists,
            Self::TimedOut { .. } => Code::QueryTimeout,
            Self::HandlerLost(_) => Code::HandlerLost,
            Self::Aborted(_) => Code::Aborted,
            Self::Failed(_) => Code::Internal,
            Self::CircuitOpen { .. } => Code::CircuitOpen,
            Self::Overloaded { .. } => Code::Overloaded,
        }
    }

    /// The field that is wrong, if one is.
    const fn field(&self) -> Option<&'static str> {
        match self {
            Self::Required { field }
            | Self::Reserved { field }
            | Self::LongName { field, .. }
            | Self::TooLarge { field, .. }
            | Self::TooMany { field, .. } => Some(field),
            Self::BadTimeout { .. } => Some("timeout_ms"),
            Self::NotOperator
            | Self::NoHandler(_)
            | Self::HandlerExists(_)
            | Self::TimedOut { .. }
            | Self::HandlerLost(_)
            | Self::Aborted(_)
            | Self::Failed(_)
            | Self::CircuitOpen { .. }
            | Self::Overloaded { .. } => None,
        }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        let (code, text) = (reason.code(), reason.to_string());
        let refusal = match reason.field() {
            Some(field) => Self::of_field(code, field, text),
            None => Self::new(code, text),
        };
        match reason {
            Reason::NoHandler(kind)
            | Reason::HandlerExists(kind)
            | Reason::HandlerLost(kind)
            | Reason::TimedOut { kind, .. }
            | Reason::CircuitOpen { kind, left: None, .. } => refusal.about("type", kind),
            Reason::CircuitOpen { kind, left: Some(left), at } => {
                refusal.about("type", kind).retry_at(at.plus(left).as_millis())
            }
            Reason::Required { .. }
            | Reason::Reserved { .. }
            | Reason::LongName { .. }
            | Reason::BadTimeout { .. }
            | Reason::TooLarge { .. }
            | Reason::TooMany { .. }
            | Reason::NotOperator
            | Reason::Aborted(_)
            | Reason::Failed(_)
            | Reason::Overloaded { .. } => refusal,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required { field } => write!(f, "{field} is required"),
            Self::Reserved { field } => write!(f, "{field}: \"{NODE_PREFIX}\" is reserved"),
            Self::BadTimeout { millis: 0, .. } => f.write_str("timeout_ms: 0, at least 1"),
            Self::BadTimeout { millis, most } => {
                write!(f, "timeout_ms: {millis}, at most {most}")
            }
            Self::TooLarge { field, bytes, most } | Self::LongName { field, bytes, most } => {
                write!(f, "{field}: {bytes} bytes, at most {most}")
            }
            Self::TooMany { field, count, most } => write!(f, "{field}: {count}, at most {most}"),
            Self::NotOperator => f.write_str("to_all: only an operator may publish to all"),
            Self::NoHandler(kind) => write!(f, "no handler registered for {kind}"),
            Self::HandlerExists(kind) => write!(f, "a handler is registered for {kind}"),
            Self::TimedOut { category, kind, after } => {
                write!(f, "{category} {kind} timed out after {}", Seconds(*after))
            }
            Self::HandlerLost(kind) => write!(f, "handler of {kind} was lost"),
            Self::Aborted(text) | Self::Failed(text) => f.write_str(text),
            Self::CircuitOpen { kind, left: Some(left), .. } => {
                write!(f, "circuit of {kind} is open for {}", Seconds(*left))
            }
            Self::CircuitOpen { kind, left: None, .. } => {
                write!(f, "circuit of {kind} is half-open: a call is under way")
            }
            Self::Overloaded { most } => write!(f, "calls under way: at most {most}"),
        }
    }
}
