//! What is left of budgets (K115, K116, K120).

use crate::kernel::ids::ProcessId;
use crate::kernel::process::Process;
use crate::kernel::quota::{Amounts, Quota, Resource, Usage};
use crate::kernel::refusal::{Code, Refusal};
use crate::kernel::state::State;
use crate::kernel::time::Time;

/// The ledger row of a process as callers see it (2.3, K100).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResourceUse {
    /// What was used, the running stretch included (K111).
    pub used: Usage,
    /// What is reserved.
    pub held: Amounts,
    /// What was used without having been reserved.
    pub unreserved: Amounts,
}

impl ResourceUse {
    /// Shows the row of a process as it is at `now`.
    #[must_use]
    pub fn of(process: &Process, now: Time) -> Self {
        let account = &process.account;
        let (held, unreserved) = (account.held, account.unreserved);
        Self { used: process.usage(now), held, unreserved }
    }
}

/// What is left of each resource; `None` is unlimited (2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the resources")]
pub struct Remaining {
    pub llm_calls: Option<u64>,
    pub tool_calls: Option<u64>,
    pub agent_hops: Option<u64>,
    pub iterations: Option<u64>,
    pub tokens_in: Option<u64>,
    pub tokens_out: Option<u64>,
    pub time_ms: Option<u64>,
    pub inference_requests: Option<u64>,
    pub inference_input_chars: Option<u64>,
}

impl Remaining {
    /// Returns what is left of a resource; of context tokens, which are one call's, nothing.
    #[must_use]
    pub const fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::LlmCalls => self.llm_calls,
            Resource::ToolCalls => self.tool_calls,
            Resource::AgentHops => self.agent_hops,
            Resource::Iterations => self.iterations,
            Resource::TokensIn => self.tokens_in,
            Resource::TokensOut => self.tokens_out,
            Resource::ContextTokens => None,
            Resource::ElapsedMs => self.time_ms,
            Resource::InferenceRequests => self.inference_requests,
            Resource::InferenceInputChars => self.inference_input_chars,
        }
    }

    fn found(left: impl Fn(Resource) -> Option<u64>) -> Self {
        Self {
            llm_calls: left(Resource::LlmCalls),
            tool_calls: left(Resource::ToolCalls),
            agent_hops: left(Resource::AgentHops),
            iterations: left(Resource::Iterations),
            tokens_in: left(Resource::TokensIn),
            tokens_out: left(Resource::TokensOut),
            time_ms: left(Resource::ElapsedMs),
            inference_requests: left(Resource::InferenceRequests),
            inference_input_chars: left(Resource::InferenceInputChars),
        }
    }
}

/// The answer to `CheckQuota` (K115).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuotaCheck {
    /// Whether nothing is used beyond its limit, at no level.
    pub within_bounds: bool,
    /// What is, as texts in the order of the quota table; of ancestors after the process's own.
    pub exceeded: Vec<String>,
    /// Resources of which one more unit does not fit, in order.
    pub exhausted: Vec<Resource>,
    /// What was used.
    pub usage: ResourceUse,
    /// What may be.
    pub quota: Quota,
    /// What is left.
    pub remaining: Remaining,
}

/// The answer to `CheckInferenceQuota` (K120).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InferenceCheck {
    /// Whether a reservation of so much would fit.
    pub allowed: bool,
    /// Why not; empty if it would.
    pub reason: String,
}

impl State {
    /// Answers `GetRemainingBudget`: limit − used − held, the least over the levels (K116).
    #[must_use]
    pub fn remaining(&self, pid: &ProcessId, now: Time) -> Remaining {
        let levels: Vec<&Process> = self.lineage(pid).map(|(_, process)| process).collect();
        Remaining::found(|resource| {
            let levels = match Resource::RESERVABLE.contains(&resource) {
                true => &levels[..],
                false => levels.get(..1).unwrap_or_default(),
            };
            let left = levels.iter().filter_map(|level| left(level, resource, now));
            left.chain(self.left_of_session(pid, resource)).min()
        })
    }

    /// Answers `CheckQuota` (K115). What rolls up to ancestors is within bounds only if it is so
    /// everywhere.
    pub(in crate::kernel) fn check_quota(&self, pid: &ProcessId, now: Time) -> QuotaCheck {
        let (usage, quota) = self.process(pid).map_or_else(
            || (ResourceUse::nothing(), Quota::UNLIMITED),
            |process| (ResourceUse::of(process, now), process.quota),
        );
        let remaining = self.remaining(pid, now);
        let exceeded = self.exceeded(pid, now);
        let empty = |resource: &Resource| remaining.of(*resource) == Some(0);
        QuotaCheck {
            within_bounds: exceeded.is_empty(),
            exceeded,
            exhausted: Resource::ALL.into_iter().filter(empty).collect(),
            usage,
            quota,
            remaining,
        }
    }

    /// Lists what is used beyond its limit (K115): of the process, then of its ancestors what rolls
    /// up to them.
    #[must_use]
    pub fn exceeded(&self, pid: &ProcessId, now: Time) -> Vec<String> {
        let Some(process) = self.process(pid) else {
            return Vec::new();
        };
        let above = process.parent.iter().flat_map(|parent| self.exceeded_from(parent));
        process.exceeded(now).into_iter().chain(above).collect()
    }

    /// Lists what rolls up to a process and its ancestors, and is used beyond their limits there.
    pub(in crate::kernel) fn exceeded_from<'a>(
        &'a self,
        pid: &'a ProcessId,
    ) -> impl Iterator<Item = String> + 'a {
        let all = self.lineage(pid).flat_map(|level| Resource::RESERVABLE.map(|it| (level, it)));
        all.filter_map(|((pid, process), resource)| {
            let (limit, used) = (process.quota.limit(resource), process.account.used.of(resource));
            let name = resource.name();
            (!limit.allows(used))
                .then(|| format!("max_{name}_exceeded: {used} of {limit}, of ancestor {pid}"))
        })
    }

    /// Answers `CheckInferenceQuota` (K120).
    pub(in crate::kernel) fn check_inference(
        &self,
        pid: &ProcessId,
        process: &Process,
        amounts: &Amounts,
    ) -> Result<InferenceCheck, Refusal> {
        let most = self.config.limits.amount;
        for resource in [Resource::InferenceRequests, Resource::InferenceInputChars] {
            let amount = amounts.of(resource);
            if amount > most {
                let told = format!("{}: {amount}, at most {most}", resource.name());
                return Err(Refusal::new(Code::AmountTooLarge, told));
            }
        }
        let reason = match process.is_live() {
            true => self.misfit(pid, amounts),
            false => Some(format!("process {pid} has ended")),
        };
        Ok(InferenceCheck { allowed: reason.is_none(), reason: reason.unwrap_or_default() })
    }

    /// Says which budget amounts do not fit into, nearest level first (K102).
    #[must_use]
    pub fn misfit(&self, pid: &ProcessId, amounts: &Amounts) -> Option<String> {
        self.shortage(pid, amounts).map(|shortage| shortage.to_string())
    }
}

impl ResourceUse {
    fn nothing() -> Self {
        Self { used: Usage::default(), held: Amounts::ZERO, unreserved: Amounts::ZERO }
    }
}

/// Returns what is left of a resource at one level.
fn left(process: &Process, resource: Resource, now: Time) -> Option<u64> {
    let taken = match resource {
        Resource::ElapsedMs => process.elapsed(now),
        Resource::LlmCalls
        | Resource::ToolCalls
        | Resource::AgentHops
        | Resource::Iterations
        | Resource::TokensIn
        | Resource::TokensOut
        | Resource::ContextTokens
        | Resource::InferenceRequests
        | Resource::InferenceInputChars => process.account.taken(resource),
    };
    process.quota.limit(resource).less(taken)
}
