//! Budgets: what can be limited, counted and reserved (K23, 2.3, K100, K101).

use std::fmt;

use crate::codec::{Malformed, Reader, Wire};
use crate::wire_struct;

use super::refusal::{Code, Refusal};

/// No sum in the state passes this (K9).
pub const SUM_MAX: u64 = u64::MAX >> 1;

/// Up to and including a number, or anything (K23).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit(u64);

impl Limit {
    /// Anything goes.
    pub const UNLIMITED: Self = Self(u64::MAX);

    /// Up to and including `most`.
    #[must_use]
    pub const fn at_most(most: u64) -> Self {
        Self(if most > SUM_MAX { SUM_MAX } else { most })
    }

    /// Reads what a caller wrote: −1 is unlimited.
    ///
    /// # Errors
    ///
    /// `bad_value` for any other negative (K23).
    pub fn parse(field: &str, value: i64) -> Result<Self, Refusal> {
        match (value, u64::try_from(value)) {
            (-1, _) => Ok(Self::UNLIMITED),
            (_, Ok(most)) => Ok(Self::at_most(most)),
            (_, Err(_)) => {
                Err(Refusal::new(Code::BadValue, format!("{field}: {value} is not a limit")))
            }
        }
    }

    /// Returns the number, if there is one.
    #[must_use]
    pub const fn most(self) -> Option<u64> {
        match self.0 {
            u64::MAX => None,
            most => Some(most),
        }
    }

    /// Says whether `amount` is within the limit (K101).
    #[must_use]
    pub const fn allows(self, amount: u64) -> bool {
        amount <= self.0
    }

    /// Returns what is left of the limit after `amount`, `None` if all is.
    #[must_use]
    pub fn less(self, amount: u64) -> Option<u64> {
        self.most().map(|most| most.saturating_sub(amount))
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.most() {
            None => f.write_str("unlimited"),
            Some(most) => write!(f, "{most}"),
        }
    }
}

impl Wire for Limit {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        match reader.u64()? {
            u64::MAX => Ok(Self::UNLIMITED),
            most if most <= SUM_MAX => Ok(Self(most)),
            _ => Err(here.malformed("a limit below 2^63")),
        }
    }
}

/// What a budget is of, in the order of the quota table, which is the order of checks (2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Calls of language models.
    LlmCalls = 1,
    /// Calls of tools.
    ToolCalls = 2,
    /// Stages issued.
    AgentHops = 3,
    /// Back edges taken.
    Iterations = 4,
    /// Tokens read by models.
    TokensIn = 5,
    /// Tokens written by models.
    TokensOut = 6,
    /// Tokens of one call.
    ContextTokens = 7,
    /// Time spent Running.
    ElapsedMs = 8,
    /// Requests for inference.
    InferenceRequests = 9,
    /// Characters sent for inference.
    InferenceInputChars = 10,
}

impl Resource {
    /// All, in order.
    pub const ALL: [Self; 10] = [
        Self::LlmCalls,
        Self::ToolCalls,
        Self::AgentHops,
        Self::Iterations,
        Self::TokensIn,
        Self::TokensOut,
        Self::ContextTokens,
        Self::ElapsedMs,
        Self::InferenceRequests,
        Self::InferenceInputChars,
    ];

    /// Those that can be reserved, which are those that roll up to ancestors, in order.
    pub const RESERVABLE: [Self; 6] = [
        Self::LlmCalls,
        Self::ToolCalls,
        Self::TokensIn,
        Self::TokensOut,
        Self::InferenceRequests,
        Self::InferenceInputChars,
    ];

    /// Returns how callers know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LlmCalls => "llm_calls",
            Self::ToolCalls => "tool_calls",
            Self::AgentHops => "agent_hops",
            Self::Iterations => "iterations",
            Self::TokensIn => "tokens_in",
            Self::TokensOut => "tokens_out",
            Self::ContextTokens => "context_tokens",
            Self::ElapsedMs => "elapsed_ms",
            Self::InferenceRequests => "inference_requests",
            Self::InferenceInputChars => "inference_input_chars",
        }
    }

    /// Returns its bit in a set of resources.
    #[must_use]
    pub const fn bit(self) -> u16 {
        1 << (self as u16)
    }
}

impl Wire for Resource {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        let number = reader.u8()?;
        let known = Self::ALL.into_iter().find(|resource| *resource as u8 == number);
        known.ok_or_else(|| here.malformed("a resource"))
    }
}

/// What a process may use (2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the quota table of 2.3 says what each is")]
pub struct Quota {
    pub max_llm_calls: Limit,
    pub max_tool_calls: Limit,
    pub max_agent_hops: Limit,
    pub max_iterations: Limit,
    pub max_input_tokens: Limit,
    pub max_output_tokens: Limit,
    pub max_context_tokens: Limit,
    pub timeout_ms: Limit,
    pub soft_timeout_ms: Limit,
    pub max_inference_requests: Limit,
    pub max_inference_input_chars: Limit,
    pub rate_limit_rpm: Limit,
    pub rate_limit_rph: Limit,
    pub rate_limit_burst: Limit,
}

wire_struct!(Quota {
    max_llm_calls,
    max_tool_calls,
    max_agent_hops,
    max_iterations,
    max_input_tokens,
    max_output_tokens,
    max_context_tokens,
    timeout_ms,
    soft_timeout_ms,
    max_inference_requests,
    max_inference_input_chars,
    rate_limit_rpm,
    rate_limit_rph,
    rate_limit_burst,
});

/// A field of a [`Quota`], in the order of the quota table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as the fields")]
pub enum QuotaField {
    MaxLlmCalls,
    MaxToolCalls,
    MaxAgentHops,
    MaxIterations,
    MaxInputTokens,
    MaxOutputTokens,
    MaxContextTokens,
    TimeoutMs,
    SoftTimeoutMs,
    MaxInferenceRequests,
    MaxInferenceInputChars,
    RateLimitRpm,
    RateLimitRph,
    RateLimitBurst,
}

impl QuotaField {
    /// All, in order.
    pub const ALL: [Self; 14] = [
        Self::MaxLlmCalls,
        Self::MaxToolCalls,
        Self::MaxAgentHops,
        Self::MaxIterations,
        Self::MaxInputTokens,
        Self::MaxOutputTokens,
        Self::MaxContextTokens,
        Self::TimeoutMs,
        Self::SoftTimeoutMs,
        Self::MaxInferenceRequests,
        Self::MaxInferenceInputChars,
        Self::RateLimitRpm,
        Self::RateLimitRph,
        Self::RateLimitBurst,
    ];

    /// Returns the field's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxLlmCalls => "max_llm_calls",
            Self::MaxToolCalls => "max_tool_calls",
            Self::MaxAgentHops => "max_agent_hops",
            Self::MaxIterations => "max_iterations",
            Self::MaxInputTokens => "max_input_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::MaxContextTokens => "max_context_tokens",
            Self::TimeoutMs => "timeout_ms",
            Self::SoftTimeoutMs => "soft_timeout_ms",
            Self::MaxInferenceRequests => "max_inference_requests",
            Self::MaxInferenceInputChars => "max_inference_input_chars",
            Self::RateLimitRpm => "rate_limit_rpm",
            Self::RateLimitRph => "rate_limit_rph",
            Self::RateLimitBurst => "rate_limit_burst",
        }
    }

    /// Returns the resource that the field bounds, if it bounds a count.
    #[must_use]
    pub const fn resource(self) -> Option<Resource> {
        match self {
            Self::MaxLlmCalls => Some(Resource::LlmCalls),
            Self::MaxToolCalls => Some(Resource::ToolCalls),
            Self::MaxAgentHops => Some(Resource::AgentHops),
            Self::MaxIterations => Some(Resource::Iterations),
            Self::MaxInputTokens => Some(Resource::TokensIn),
            Self::MaxOutputTokens => Some(Resource::TokensOut),
            Self::MaxContextTokens => Some(Resource::ContextTokens),
            Self::TimeoutMs => Some(Resource::ElapsedMs),
            Self::MaxInferenceRequests => Some(Resource::InferenceRequests),
            Self::MaxInferenceInputChars => Some(Resource::InferenceInputChars),
            Self::SoftTimeoutMs
            | Self::RateLimitRpm
            | Self::RateLimitRph
            | Self::RateLimitBurst => None,
        }
    }
}

impl Wire for QuotaField {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8 + 1);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let here = reader.clone();
        let number = reader.u8()?;
        let known = Self::ALL.into_iter().find(|field| *field as u8 + 1 == number);
        known.ok_or_else(|| here.malformed("a quota field"))
    }
}

impl Quota {
    /// The defaults of 2.3.
    pub const DEFAULT: Self = Self {
        max_llm_calls: Limit::at_most(100),
        max_tool_calls: Limit::at_most(50),
        max_agent_hops: Limit::at_most(50),
        max_iterations: Limit::at_most(20),
        max_input_tokens: Limit::at_most(100_000),
        max_output_tokens: Limit::at_most(50_000),
        max_context_tokens: Limit::at_most(150_000),
        timeout_ms: Limit::at_most(300_000),
        soft_timeout_ms: Limit::at_most(240_000),
        max_inference_requests: Limit::at_most(50),
        max_inference_input_chars: Limit::at_most(500_000),
        rate_limit_rpm: Limit::UNLIMITED,
        rate_limit_rph: Limit::UNLIMITED,
        rate_limit_burst: Limit::UNLIMITED,
    };

    /// Nothing is limited: the ceiling by default.
    pub const UNLIMITED: Self = Self {
        max_llm_calls: Limit::UNLIMITED,
        max_tool_calls: Limit::UNLIMITED,
        max_agent_hops: Limit::UNLIMITED,
        max_iterations: Limit::UNLIMITED,
        max_input_tokens: Limit::UNLIMITED,
        max_output_tokens: Limit::UNLIMITED,
        max_context_tokens: Limit::UNLIMITED,
        timeout_ms: Limit::UNLIMITED,
        soft_timeout_ms: Limit::UNLIMITED,
        max_inference_requests: Limit::UNLIMITED,
        max_inference_input_chars: Limit::UNLIMITED,
        rate_limit_rpm: Limit::UNLIMITED,
        rate_limit_rph: Limit::UNLIMITED,
        rate_limit_burst: Limit::UNLIMITED,
    };

    /// Returns a field.
    #[must_use]
    pub const fn field(&self, field: QuotaField) -> Limit {
        match field {
            QuotaField::MaxLlmCalls => self.max_llm_calls,
            QuotaField::MaxToolCalls => self.max_tool_calls,
            QuotaField::MaxAgentHops => self.max_agent_hops,
            QuotaField::MaxIterations => self.max_iterations,
            QuotaField::MaxInputTokens => self.max_input_tokens,
            QuotaField::MaxOutputTokens => self.max_output_tokens,
            QuotaField::MaxContextTokens => self.max_context_tokens,
            QuotaField::TimeoutMs => self.timeout_ms,
            QuotaField::SoftTimeoutMs => self.soft_timeout_ms,
            QuotaField::MaxInferenceRequests => self.max_inference_requests,
            QuotaField::MaxInferenceInputChars => self.max_inference_input_chars,
            QuotaField::RateLimitRpm => self.rate_limit_rpm,
            QuotaField::RateLimitRph => self.rate_limit_rph,
            QuotaField::RateLimitBurst => self.rate_limit_burst,
        }
    }

    /// Returns a field to change.
    pub const fn field_mut(&mut self, field: QuotaField) -> &mut Limit {
        match field {
            QuotaField::MaxLlmCalls => &mut self.max_llm_calls,
            QuotaField::MaxToolCalls => &mut self.max_tool_calls,
            QuotaField::MaxAgentHops => &mut self.max_agent_hops,
            QuotaField::MaxIterations => &mut self.max_iterations,
            QuotaField::MaxInputTokens => &mut self.max_input_tokens,
            QuotaField::MaxOutputTokens => &mut self.max_output_tokens,
            QuotaField::MaxContextTokens => &mut self.max_context_tokens,
            QuotaField::TimeoutMs => &mut self.timeout_ms,
            QuotaField::SoftTimeoutMs => &mut self.soft_timeout_ms,
            QuotaField::MaxInferenceRequests => &mut self.max_inference_requests,
            QuotaField::MaxInferenceInputChars => &mut self.max_inference_input_chars,
            QuotaField::RateLimitRpm => &mut self.rate_limit_rpm,
            QuotaField::RateLimitRph => &mut self.rate_limit_rph,
            QuotaField::RateLimitBurst => &mut self.rate_limit_burst,
        }
    }

    /// Returns the limit on a resource.
    #[must_use]
    pub const fn limit(&self, resource: Resource) -> Limit {
        match resource {
            Resource::LlmCalls => self.max_llm_calls,
            Resource::ToolCalls => self.max_tool_calls,
            Resource::AgentHops => self.max_agent_hops,
            Resource::Iterations => self.max_iterations,
            Resource::TokensIn => self.max_input_tokens,
            Resource::TokensOut => self.max_output_tokens,
            Resource::ContextTokens => self.max_context_tokens,
            Resource::ElapsedMs => self.timeout_ms,
            Resource::InferenceRequests => self.max_inference_requests,
            Resource::InferenceInputChars => self.max_inference_input_chars,
        }
    }
}

/// Fields of a quota that a caller gave; the rest stays (K64, K117).
pub type QuotaPatch = Vec<(QuotaField, Limit)>;

/// What can be reserved (2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the resources")]
pub struct Amounts {
    pub llm_calls: u64,
    pub tool_calls: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    pub inference_requests: u64,
    pub inference_input_chars: u64,
}

wire_struct!(Amounts {
    llm_calls,
    tool_calls,
    tokens_in,
    tokens_out,
    inference_requests,
    inference_input_chars,
});

impl Amounts {
    /// Nothing.
    pub const ZERO: Self = Self {
        llm_calls: 0,
        tool_calls: 0,
        tokens_in: 0,
        tokens_out: 0,
        inference_requests: 0,
        inference_input_chars: 0,
    };

    /// Returns the amount of a resource, 0 of what cannot be reserved.
    #[must_use]
    pub const fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::LlmCalls => self.llm_calls,
            Resource::ToolCalls => self.tool_calls,
            Resource::TokensIn => self.tokens_in,
            Resource::TokensOut => self.tokens_out,
            Resource::InferenceRequests => self.inference_requests,
            Resource::InferenceInputChars => self.inference_input_chars,
            Resource::AgentHops
            | Resource::Iterations
            | Resource::ContextTokens
            | Resource::ElapsedMs => 0,
        }
    }

    /// Combines field by field.
    #[must_use]
    pub fn with(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            llm_calls: combine(self.llm_calls, other.llm_calls),
            tool_calls: combine(self.tool_calls, other.tool_calls),
            tokens_in: combine(self.tokens_in, other.tokens_in),
            tokens_out: combine(self.tokens_out, other.tokens_out),
            inference_requests: combine(self.inference_requests, other.inference_requests),
            inference_input_chars: combine(self.inference_input_chars, other.inference_input_chars),
        }
    }

    /// Adds; what would pass [`SUM_MAX`] stays there, and was refused before (K9).
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.with(other, |a, b| a.saturating_add(b).min(SUM_MAX))
    }

    /// Subtracts, down to 0.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    /// Returns the lesser of each.
    #[must_use]
    pub fn least(&self, other: &Self) -> Self {
        self.with(other, u64::min)
    }

    /// Says whether there is nothing of anything.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

/// What a process has used (2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the resources")]
pub struct Usage {
    pub amounts: Amounts,
    pub agent_hops: u64,
    pub iterations: u64,
    pub elapsed_ms: u64,
}

wire_struct!(Usage { amounts, agent_hops, iterations, elapsed_ms });

impl Usage {
    /// Returns what was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            amounts: self.amounts.minus(&earlier.amounts),
            agent_hops: self.agent_hops.saturating_sub(earlier.agent_hops),
            iterations: self.iterations.saturating_sub(earlier.iterations),
            elapsed_ms: self.elapsed_ms.saturating_sub(earlier.elapsed_ms),
        }
    }

    /// Returns the use of a resource; of context tokens, which are one call's, 0.
    #[must_use]
    pub const fn of(&self, resource: Resource) -> u64 {
        match resource {
            Resource::AgentHops => self.agent_hops,
            Resource::Iterations => self.iterations,
            Resource::ElapsedMs => self.elapsed_ms,
            Resource::ContextTokens => 0,
            Resource::LlmCalls
            | Resource::ToolCalls
            | Resource::TokensIn
            | Resource::TokensOut
            | Resource::InferenceRequests
            | Resource::InferenceInputChars => self.amounts.of(resource),
        }
    }
}

/// A process's row of the one ledger (K100).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// What was used.
    pub used: Usage,
    /// What is reserved.
    pub held: Amounts,
    /// What was used without having been reserved.
    pub unreserved: Amounts,
    /// Resources warned about, until their limit is raised (K113).
    pub warned: u16,
    /// Resources whose excess was recorded, until their limit is raised (K114).
    pub exceeded: u16,
}

wire_struct!(Account { used, held, unreserved, warned, exceeded });

impl Account {
    /// Returns what counts against the limit on a resource: used and held.
    #[must_use]
    pub const fn taken(&self, resource: Resource) -> u64 {
        self.used.of(resource).saturating_add(self.held.of(resource))
    }

    /// Finds the first resource of which `amounts` does not fit beside what is taken (K101).
    #[must_use]
    pub fn first_too_much(&self, quota: &Quota, amounts: &Amounts) -> Option<Resource> {
        Resource::RESERVABLE.into_iter().find(|resource| {
            let amount = amounts.of(*resource);
            let sum = self.taken(*resource).saturating_add(amount);
            amount > 0 && !quota.limit(*resource).allows(sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_inclusive_and_minus_one_is_none() {
        let limit = Limit::parse("quota.max_llm_calls", 3).unwrap();
        assert!(limit.allows(3) && !limit.allows(4));
        assert_eq!(Limit::parse("x", -1), Ok(Limit::UNLIMITED));
        let refused = Limit::parse("quota.max_llm_calls", -2).unwrap_err();
        assert_eq!(refused.code, Code::BadValue);
        assert_eq!(&*refused.text, "quota.max_llm_calls: -2 is not a limit");
        assert!(!Limit::at_most(0).allows(1), "0 allows nothing");
    }

    #[test]
    fn every_field_of_a_quota_can_be_set_and_stays_apart() {
        for field in QuotaField::ALL {
            let mut quota = Quota::UNLIMITED;
            *quota.field_mut(field) = Limit::at_most(7);
            for other in QuotaField::ALL {
                let expected = if other == field { Some(7) } else { None };
                assert_eq!(quota.field(other).most(), expected, "{}", other.name());
            }
            if let Some(resource) = field.resource() {
                assert_eq!(quota.limit(resource).most(), Some(7));
            }
            assert_eq!(Quota::from_bytes(&quota.to_bytes()), Ok(quota));
        }
    }

    #[test]
    fn the_first_resource_in_order_that_does_not_fit_is_named() {
        let amounts = Amounts { tool_calls: 51, tokens_in: 100_001, ..Amounts::ZERO };
        let mut account = Account::default();
        let quota = Quota::DEFAULT;
        assert_eq!(account.first_too_much(&quota, &amounts), Some(Resource::ToolCalls));
        let amounts = Amounts { tool_calls: 50, llm_calls: 60, ..Amounts::ZERO };
        assert_eq!(account.first_too_much(&quota, &amounts), None, "inclusive");
        account.held.llm_calls = 41;
        assert_eq!(account.first_too_much(&quota, &amounts), Some(Resource::LlmCalls));
        account.used.amounts.llm_calls = 1_000;
        let none = Amounts { tool_calls: 1, ..Amounts::ZERO };
        assert_eq!(account.first_too_much(&quota, &none), None, "nothing more of it is asked");
    }
}
