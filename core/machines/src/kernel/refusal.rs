//! Why a command or query was not carried out (K395).

use std::fmt;
use std::sync::Arc;

macro_rules! codes {
    ($($class:ident { $($variant:ident $name:literal),* $(,)? })*) => {
        /// What is wrong, as one of the codes of K395.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the table of K395 and the texts of K410 say what each is")]
        pub enum Code {
            $($($variant,)*)*
        }

        impl Code {
            /// All, in the order of K395.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];

            /// Returns the code as K395 spells it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$variant => $name,)*)*
                }
            }

            /// Returns what kind of failure it is, as gRPC sorts them.
            #[must_use]
            pub const fn class(self) -> Class {
                match self {
                    $($(Self::$variant)|* => Class::$class,)*
                }
            }
        }
    };
}

/// The gRPC codes that refusals use (K395).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "gRPC's own names")]
pub enum Class {
    InvalidArgument,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    ResourceExhausted,
    Unavailable,
    DeadlineExceeded,
    Internal,
}

codes! {
    InvalidArgument {
        Required "required", BadId "bad_id", BadName "bad_name", BadValue "bad_value",
        BadJson "bad_json", BadOutput "bad_output", BadPipeline "bad_pipeline",
        BadExpression "bad_expression",
        UnsupportedSchemaKeyword "unsupported_schema_keyword", TooLong "too_long",
        TooLarge "too_large", TooMany "too_many", TooDeep "too_deep",
        AmountTooLarge "amount_too_large", ResponseInvalid "response_invalid",
        PolicyNotAllowed "policy_not_allowed", WrongAgent "wrong_agent",
    }
    Unauthenticated { Unauthenticated "unauthenticated" }
    PermissionDenied {
        PermissionDenied "permission_denied", NotHolder "not_holder",
        QuotaAboveCeiling "quota_above_ceiling",
    }
    NotFound {
        ProcessNotFound "process_not_found", EnvelopeNotFound "envelope_not_found",
        SessionNotFound "session_not_found", InterruptNotFound "interrupt_not_found",
        AttemptNotFound "attempt_not_found", ReservationNotFound "reservation_not_found",
        LeaseNotFound "lease_not_found", DispatchNotFound "dispatch_not_found",
        ServiceNotFound "service_not_found", NoRunnable "no_runnable", NoHandler "no_handler",
    }
    AlreadyExists {
        SubmitConflict "submit_conflict", SessionExists "session_exists",
        ServiceExists "service_exists", HandlerExists "handler_exists",
        ReservationConflict "reservation_conflict", DispatchConflict "dispatch_conflict",
    }
    FailedPrecondition {
        IllegalTransition "illegal_transition", ProcessTerminal "process_terminal",
        ProcessNotTerminal "process_not_terminal", ParentTerminal "parent_terminal",
        ForceRequired "force_required", InterruptPending "interrupt_pending",
        InterruptNotPending "interrupt_not_pending", InterruptExpired "interrupt_expired",
        StaleTarget "stale_target", ApprovalNotUsable "approval_not_usable",
        AttemptClosed "attempt_closed", AttemptSuperseded "attempt_superseded",
        ReservationClosed "reservation_closed", StaleLease "stale_lease",
        SessionOwnsEnvelope "session_owns_envelope", EnvelopeInUse "envelope_in_use",
        Aborted "aborted",
    }
    Aborted { VersionConflict "version_conflict" }
    OutOfRange { CursorTooOld "cursor_too_old", CursorAhead "cursor_ahead" }
    ResourceExhausted {
        QuotaExceeded "quota_exceeded", RateLimited "rate_limited",
        ProcessLimit "process_limit", ServiceAtCapacity "service_at_capacity",
        QueueFull "queue_full", RateTableFull "rate_table_full",
        SlowSubscriber "slow_subscriber", Overloaded "overloaded",
    }
    Unavailable {
        Draining "draining", NotDurable "not_durable", ServiceUnhealthy "service_unhealthy",
        CircuitOpen "circuit_open", HandlerLost "handler_lost", WorkerLost "worker_lost",
    }
    DeadlineExceeded { QueryTimeout "query_timeout", DispatchTimeout "dispatch_timeout" }
    Internal { Internal "internal" }
}

/// A command or query that was not carried out; nothing has changed (K2).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// What is wrong.
    pub code: Code,
    /// What, where, and what would be right, for a person.
    pub text: Arc<str>,
    /// When it is worth trying again, where that is known.
    pub retry_at: Option<super::Time>,
}

impl Refusal {
    /// Makes a refusal.
    #[must_use]
    pub fn new(code: Code, text: impl Into<Arc<str>>) -> Self {
        Self { code, text: text.into(), retry_at: None }
    }

    /// Says when it is worth trying again.
    #[must_use]
    pub fn retry_at(self, at: super::Time) -> Self {
        Self { retry_at: Some(at), ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.text)
    }
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Refusal {}
