//! How large a pipeline may be (K25).

use crate::kernel::expression::ExpressionLimits;

/// What a pipeline may be, at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowLimits {
    /// Of expressions.
    pub expression: ExpressionLimits,
    /// Bytes of a name.
    pub name_bytes: u32,
    /// Bytes of any other text.
    pub text_bytes: u32,
    /// Entries of a list that has no limit of its own.
    pub entries: u32,
    /// Stages of a pipeline.
    pub stages: u32,
    /// Routing rules of a stage.
    pub rules: u32,
    /// Branches of a Fork, which is a rule each.
    pub branches: u32,
    /// One amount.
    pub amount: u64,
    /// Milliseconds of a timeout or a wait.
    pub span_ms: u64,
    /// Steps of Gates and Forks in one decision: the most that `step_limit` can be, and what it is
    /// as −1.
    pub steps: u64,
}

impl FlowLimits {
    /// The limits of K25 by default.
    pub const DEFAULT: Self = Self {
        expression: ExpressionLimits::DEFAULT,
        name_bytes: 128,
        text_bytes: 16 << 10,
        entries: 1_024,
        stages: 256,
        rules: 64,
        branches: 64,
        amount: 1 << 40,
        span_ms: 30 * 24 * 60 * 60 * 1_000,
        steps: 1_000,
    };
}
