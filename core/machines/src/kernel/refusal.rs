//! Refusals: why a command or query was not taken, and of which kind that is (K395).

#[cfg(test)]
mod tests;

use std::fmt;

/// What kind of refusal a code is: the gRPC status that it travels as (K395).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What was sent is wrong, whatever the state.
    InvalidArgument = 3,
    /// A deadline passed.
    DeadlineExceeded = 4,
    /// The subject does not exist.
    NotFound = 5,
    /// Something else has the name.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// A budget, rate or table is full.
    ResourceExhausted = 8,
    /// The state of the subject does not allow it.
    FailedPrecondition = 9,
    /// Somebody else was first: read and try again.
    Aborted = 10,
    /// A cursor points outside of what there is.
    OutOfRange = 11,
    /// A fault of the node.
    Internal = 13,
    /// Not now.
    Unavailable = 14,
    /// Nobody is known to be calling.
    Unauthenticated = 16,
}

impl Class {
    /// Returns the number of the gRPC status.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

macro_rules! codes {
    ($($class:ident { $($(#[$doc:meta])* $code:ident $text:literal),* $(,)? })*) => {
        /// Why something was refused: all codes of K395.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($($(#[$doc])* $code,)*)*
        }

        impl Code {
            /// All, in the order of K395.
            pub const ALL: &'static [Self] = &[$($(Self::$code,)*)*];

            /// Returns the code as callers know it, in snake case.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($(Self::$code => $text,)*)*
                }
            }

            /// Returns the kind of refusal that it is.
            #[must_use]
            pub const fn grpc(self) -> Class {
                match self {
                    $($(Self::$code)|* => Class::$class,)*
                }
            }
        }
    };
}

codes! {
    InvalidArgument {
        /// A field that must be there is empty or absent.
        Required "required",
        /// An id is too long or has a character that ids do not have.
        BadId "bad_id",
        /// A name is too long, reserved, or has a character that names do not have.
        BadName "bad_name",
        /// A value has the wrong type, is out of range or is not known.
        BadValue "bad_value",
        /// Bytes are not JSON as K24 wants it.
        BadJson "bad_json",
        /// An agent's output is not an object, or passes a limit.
        BadOutput "bad_output",
        /// A pipeline breaks rules of K232.
        BadPipeline "bad_pipeline",
        /// An expression is empty, malformed or passes its limits.
        BadExpression "bad_expression",
        /// A schema uses a keyword that K280 does not have.
        UnsupportedSchemaKeyword "unsupported_schema_keyword",
        /// Text passes its limit.
        TooLong "too_long",
        /// A payload or number passes its limit.
        TooLarge "too_large",
        /// A list or map has too many entries.
        TooMany "too_many",
        /// Something is nested too deep.
        TooDeep "too_deep",
        /// An amount, or the sum that it would make, passes its limit.
        AmountTooLarge "amount_too_large",
        /// An answer does not fit the interrupt.
        ResponseInvalid "response_invalid",
        /// A kind of interrupt cannot expire that way.
        PolicyNotAllowed "policy_not_allowed",
        /// A report names another agent than its attempt.
        WrongAgent "wrong_agent",
    }
    Unauthenticated {
        /// Nobody is known to be calling.
        Unauthenticated "unauthenticated",
    }
    PermissionDenied {
        /// The caller has no access to the subject.
        PermissionDenied "permission_denied",
        /// Somebody else holds the lease.
        NotHolder "not_holder",
        /// A budget above the ceiling was asked for.
        QuotaAboveCeiling "quota_above_ceiling",
    }
    NotFound {
        /// There is no such process.
        ProcessNotFound "process_not_found",
        /// There is no such envelope.
        EnvelopeNotFound "envelope_not_found",
        /// The process has no session.
        SessionNotFound "session_not_found",
        /// There is no such interrupt.
        InterruptNotFound "interrupt_not_found",
        /// There is no such attempt.
        AttemptNotFound "attempt_not_found",
        /// There is no such reservation.
        ReservationNotFound "reservation_not_found",
        /// There is no such lease, or it has ended.
        LeaseNotFound "lease_not_found",
        /// There is no such dispatch.
        DispatchNotFound "dispatch_not_found",
        /// There is no such service.
        ServiceNotFound "service_not_found",
        /// Nothing is ready to run.
        NoRunnable "no_runnable",
        /// Nobody handles this type or service.
        NoHandler "no_handler",
    }
    AlreadyExists {
        /// The pid is taken with other content.
        SubmitConflict "submit_conflict",
        /// The process has another session.
        SessionExists "session_exists",
        /// The name of the service is taken.
        ServiceExists "service_exists",
        /// The type has a handler.
        HandlerExists "handler_exists",
        /// The id of the reservation is taken with other content.
        ReservationConflict "reservation_conflict",
        /// The id of the dispatch is taken with other content.
        DispatchConflict "dispatch_conflict",
    }
    FailedPrecondition {
        /// No such transition leads from the state of the process.
        IllegalTransition "illegal_transition",
        /// The process has ended.
        ProcessTerminal "process_terminal",
        /// The process has not ended.
        ProcessNotTerminal "process_not_terminal",
        /// The parent has ended.
        ParentTerminal "parent_terminal",
        /// A running process ends by force only.
        ForceRequired "force_required",
        /// A blocking interrupt is pending.
        InterruptPending "interrupt_pending",
        /// The interrupt is closed.
        InterruptNotPending "interrupt_not_pending",
        /// The interrupt has expired.
        InterruptExpired "interrupt_expired",
        /// The target is not what was shown.
        StaleTarget "stale_target",
        /// The approval was used, or has lapsed.
        ApprovalNotUsable "approval_not_usable",
        /// The attempt was reported with other content.
        AttemptClosed "attempt_closed",
        /// The attempt is no longer the live one.
        AttemptSuperseded "attempt_superseded",
        /// The reservation was closed otherwise.
        ReservationClosed "reservation_closed",
        /// The lease is no longer the live try's.
        StaleLease "stale_lease",
        /// A session owns the envelope.
        SessionOwnsEnvelope "session_owns_envelope",
        /// The envelope serves another live process.
        EnvelopeInUse "envelope_in_use",
        /// Middleware gave the message up.
        Aborted "aborted",
    }
    Aborted {
        /// The envelope has another version.
        VersionConflict "version_conflict",
    }
    OutOfRange {
        /// The events after the cursor are no longer kept.
        CursorTooOld "cursor_too_old",
        /// The cursor is beyond the last event.
        CursorAhead "cursor_ahead",
    }
    ResourceExhausted {
        /// A budget would be passed.
        QuotaExceeded "quota_exceeded",
        /// A rate would be passed.
        RateLimited "rate_limited",
        /// There are too many processes.
        ProcessLimit "process_limit",
        /// The service has no room.
        ServiceAtCapacity "service_at_capacity",
        /// The queue of the service is full.
        QueueFull "queue_full",
        /// The table of rates is full.
        RateTableFull "rate_table_full",
        /// The subscriber did not keep up.
        SlowSubscriber "slow_subscriber",
        /// The server has too much to do.
        Overloaded "overloaded",
        /// Too much waits for the disk (L22).
        Busy "busy",
        /// The disk is full (L23).
        DiskFull "disk_full",
    }
    Unavailable {
        /// The node is draining.
        Draining "draining",
        /// The journal has failed.
        NotDurable "not_durable",
        /// The service is unhealthy.
        ServiceUnhealthy "service_unhealthy",
        /// The circuit is open.
        CircuitOpen "circuit_open",
        /// The handler went away.
        HandlerLost "handler_lost",
        /// The worker went away.
        WorkerLost "worker_lost",
    }
    DeadlineExceeded {
        /// The query was not answered in time.
        QueryTimeout "query_timeout",
        /// The dispatch did not end in time.
        DispatchTimeout "dispatch_timeout",
    }
    Internal {
        /// A fault of the node.
        Internal "internal",
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One field that is wrong: a violation of gRPC's `BadRequest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Its path, such as `stages[2].name`; empty for the whole request.
    pub field: String,
    /// What is wrong, as a sentence that stands alone.
    pub text: String,
}

/// Why something was refused. Nothing has changed (K2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// What kind of reason.
    pub code: Code,
    /// The reason, for a person.
    pub text: String,
    /// The fields that are wrong, in order; empty where no field is.
    pub fields: Vec<Violation>,
    /// The ids concerned and other facts, by name: the metadata of `ErrorInfo`.
    pub about: Vec<(&'static str, String)>,
    /// When to try again, in milliseconds since 1970, where that is known.
    pub retry_at: Option<u64>,
}

impl Refusal {
    /// Makes a refusal that names no field.
    #[must_use]
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, text, fields: Vec::new(), about: Vec::new(), retry_at: None }
    }

    /// Makes a refusal for one field.
    #[must_use]
    pub fn of_field(code: Code, field: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let fields = vec![Violation { field: field.into(), text: text.clone() }];
        Self { code, text, fields, about: Vec::new(), retry_at: None }
    }

    /// Makes a refusal for several fields; its text is theirs, joined.
    #[must_use]
    pub fn of_fields(code: Code, fields: Vec<Violation>) -> Self {
        let texts: Vec<&str> = fields.iter().map(|field| field.text.as_str()).collect();
        let text = texts.join("; ");
        Self { code, text, fields, about: Vec::new(), retry_at: None }
    }

    /// Adds a fact, such as the id of the subject.
    #[must_use]
    pub fn about(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.about.push((name, value.to_string()));
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub const fn retry_at(mut self, millis: u64) -> Self {
        self.retry_at = Some(millis);
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.text)
    }
}

impl std::error::Error for Refusal {}
