//! The enums of 2.2 that the whole kernel shares, with their wire numbers.

use super::numbered::numbered;

numbered! {
    /// Where a process is in its life (section 3). Terminated and Zombie are terminal, all others
    /// live.
    ProcessState "a process state" {
        /// Made, not scheduled.
        New = 1 "new",
        /// Waits for its turn.
        Ready = 2 "ready",
        /// Somebody runs it.
        Running = 3 "running",
        /// Waits for an answer or an event.
        Waiting = 4 "waiting",
        /// Waits for a time, or to be let go.
        Blocked = 5 "blocked",
        /// Over; all is kept for reading.
        Terminated = 6 "terminated",
        /// Over; only a tombstone is kept.
        Zombie = 7 "zombie",
    }

    /// How urgent a process is; its band is the number less one (K71).
    Priority "a priority" {
        /// Band 0.
        Realtime = 1 "realtime",
        /// Band 1.
        High = 2 "high",
        /// Band 2, the default.
        Normal = 3 "normal",
        /// Band 3.
        Low = 4 "low",
        /// Band 4.
        Idle = 5 "idle",
    }

    /// What is asked (K150).
    InterruptKind "an interrupt kind" {
        /// A question whose answer is text.
        Clarification = 1 "clarification",
        /// Yes or no.
        Confirmation = 2 "confirmation",
        /// A place to look.
        Checkpoint = 3 "checkpoint",
        /// A budget ran out.
        ResourceExhausted = 4 "resource_exhausted",
        /// The time ran out.
        Timeout = 5 "timeout",
        /// Something broke.
        SystemError = 6 "system_error",
        /// Approve, reject or modify.
        AgentReview = 7 "agent_review",
    }

    /// What became of an interrupt.
    InterruptStatus "an interrupt status" {
        /// Waits for an answer.
        Pending = 1 "pending",
        /// Was answered.
        Resolved = 2 "resolved",
        /// Nobody answered in time.
        Expired = 3 "expired",
        /// Was taken back.
        Cancelled = 4 "cancelled",
    }

    /// What happens when nobody answers (K160).
    ExpiryPolicy "an expiry policy" {
        /// As if denied.
        Deny = 1 "deny",
        /// The process ends.
        Fail = 2 "fail",
        /// The process goes on without an answer.
        Continue = 3 "continue",
        /// Somebody else is asked.
        Escalate = 4 "escalate",
    }

    /// What a reviewer says.
    ReviewDecision "a review decision" {
        /// As it is.
        Approve = 1 "approve",
        /// Not at all.
        Reject = 2 "reject",
        /// As the reviewer changed it.
        Modify = 3 "modify",
    }

    /// What became of an approval (K170, K171).
    ApprovalState "an approval state" {
        /// Can be used.
        Granted = 1 "granted",
        /// Was used, once.
        Consumed = 2 "consumed",
        /// Can be used no more.
        Lapsed = 3 "lapsed",
    }

    /// Why an approval can be used no more (K171).
    LapseCause "a cause of a lapse" {
        /// Nobody used it in time.
        Expired = 1 "expired",
        /// Its process ended.
        ProcessEnded = 2 "process_ended",
        /// Its session was replaced.
        SessionReplaced = 3 "session_replaced",
    }

    /// Why a process is Blocked.
    BlockReason "a block reason" {
        /// A retry waits.
        Backoff = 1 "backoff",
        /// Its rate allows no call yet.
        Rate = 2 "rate",
        /// Somebody stopped it.
        Manual = 3 "manual",
    }

    /// What happens when a budget or the time is used up.
    OnExhausted "what to do when exhausted" {
        /// The process ends; the default.
        Terminate = 1 "terminate",
        /// A person is asked.
        Interrupt = 2 "interrupt",
    }

    /// How a process ended.
    Outcome "an outcome" {
        /// It did what it was for.
        Completed = 1 "completed",
        /// A bound stopped it.
        BoundsExceeded = 2 "bounds_exceeded",
        /// Somebody stopped it.
        Cancelled = 3 "cancelled",
        /// It failed.
        Failed = 4 "failed",
    }

    /// Why a process ended.
    TerminalReason "a terminal reason" {
        /// A back edge would pass the limit on iterations.
        MaxIterationsExceeded = 1 "max_iterations_exceeded",
        /// The next call would pass its limit.
        MaxLlmCallsExceeded = 2 "max_llm_calls_exceeded",
        /// The next hop would pass its limit.
        MaxAgentHopsExceeded = 3 "max_agent_hops_exceeded",
        /// `Terminate`.
        UserCancelled = 4 "user_cancelled",
        /// A stage's tools failed for good.
        ToolFailedFatally = 5 "tool_failed_fatally",
        /// A stage's model failed for good.
        LlmFailedFatally = 6 "llm_failed_fatally",
        /// Routing reached the end.
        Completed = 7 "completed",
        /// A stage did what it may not.
        PolicyViolation = 8 "policy_violation",
        /// Too many route-only steps in one decision.
        MaxLoopExceeded = 9 "max_loop_exceeded",
        /// A stage was visited too often.
        MaxStageVisitsExceeded = 10 "max_stage_visits_exceeded",
        /// An edge was taken too often.
        EdgeLimitExceeded = 11 "edge_limit_exceeded",
        /// A report asked to break.
        BreakRequested = 12 "break_requested",
        /// The process, or a stage for good, ran out of time.
        TimeoutExceeded = 13 "timeout_exceeded",
        /// Any other budget.
        QuotaExceeded = 14 "quota_exceeded",
        /// A person said no.
        InterruptDenied = 15 "interrupt_denied",
        /// No person said anything.
        InterruptExpired = 16 "interrupt_expired",
        /// Its parent ended.
        ParentTerminated = 17 "parent_terminated",
        /// The node was shut down for good.
        KernelShutdown = 18 "kernel_shutdown",
        /// A worker was lost for good, or an envelope outgrew its limit.
        SystemError = 19 "system_error",
    }
}

impl ProcessState {
    /// Says whether the process is over.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Terminated | Self::Zombie => true,
            Self::New | Self::Ready | Self::Running | Self::Waiting | Self::Blocked => false,
        }
    }

    /// Lists the states that may follow (section 3).
    #[must_use]
    pub const fn next(self) -> &'static [Self] {
        match self {
            Self::New => &[Self::Ready, Self::Terminated],
            Self::Ready => &[Self::Running, Self::Terminated],
            Self::Running => &[Self::Ready, Self::Waiting, Self::Blocked, Self::Terminated],
            Self::Waiting | Self::Blocked => &[Self::Ready, Self::Terminated],
            Self::Terminated => &[Self::Zombie],
            Self::Zombie => &[],
        }
    }
}

impl Priority {
    /// Returns the band, 0 to 4 (K71).
    #[must_use]
    pub const fn band(self) -> u8 {
        self.number() - 1
    }
}

impl TerminalReason {
    /// Returns how a process ends for this reason (2.2).
    #[must_use]
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Completed | Self::BreakRequested => Outcome::Completed,
            Self::MaxIterationsExceeded
            | Self::MaxLlmCallsExceeded
            | Self::MaxAgentHopsExceeded
            | Self::MaxLoopExceeded
            | Self::MaxStageVisitsExceeded
            | Self::EdgeLimitExceeded
            | Self::TimeoutExceeded
            | Self::QuotaExceeded => Outcome::BoundsExceeded,
            Self::UserCancelled
            | Self::InterruptDenied
            | Self::ParentTerminated
            | Self::KernelShutdown => Outcome::Cancelled,
            Self::ToolFailedFatally
            | Self::LlmFailedFatally
            | Self::PolicyViolation
            | Self::InterruptExpired
            | Self::SystemError => Outcome::Failed,
        }
    }
}

impl ExpiryPolicy {
    /// Says whether a kind of interrupt may expire this way (K150, K151): nothing makes an
    /// unanswered confirmation or review continue.
    #[must_use]
    pub const fn suits(self, kind: InterruptKind) -> bool {
        match kind {
            InterruptKind::Clarification => true,
            InterruptKind::Confirmation | InterruptKind::AgentReview => match self {
                Self::Deny | Self::Fail | Self::Escalate => true,
                Self::Continue => false,
            },
            InterruptKind::Checkpoint => match self {
                Self::Continue | Self::Fail => true,
                Self::Deny | Self::Escalate => false,
            },
            InterruptKind::ResourceExhausted
            | InterruptKind::Timeout
            | InterruptKind::SystemError => match self {
                Self::Fail | Self::Continue | Self::Escalate => true,
                Self::Deny => false,
            },
        }
    }
}
