//! Whether a stage can be issued, and what stops it if not (K102, K267).

use super::{Session, Work};
use crate::kernel::ids::{ProcessId, StageName};
use crate::kernel::names::TerminalReason;
use crate::kernel::pipeline::PipelineStage;
use crate::kernel::process::Process;
use crate::kernel::quota::{Amounts, Limit, Resource};
use crate::kernel::rates::{Verdict, counts_for_rate};
use crate::kernel::state::State;
use crate::kernel::time::Time;

/// Whose limit it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// The process's quota.
    Process,
    /// The pipeline's, for its session.
    Session,
    /// The quota of an ancestor.
    Ancestor(ProcessId),
}

/// A budget into which something does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shortage {
    /// Of what.
    pub resource: Resource,
    /// Used.
    pub used: u64,
    /// Reserved.
    pub held: u64,
    /// Of this limit.
    pub limit: Limit,
    /// Whose limit.
    pub level: Level,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resource, used, held, limit, level } = self;
        write!(f, "{}: {used} used, {held} held, limit {limit}", resource.name())?;
        match level {
            Level::Process => Ok(()),
            Level::Session => f.write_str(", of the session"),
            Level::Ancestor(pid) => write!(f, ", of ancestor {pid}"),
        }
    }
}

/// A bound that stops an issue, and so the session (K267).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stop {
    /// Why the session would end.
    pub reason: TerminalReason,
    /// What there is too little of.
    pub shortage: Shortage,
}

/// Returns what an attempt at a stage holds: what the stage says, or one call of a model if it has
/// one (K267).
#[must_use]
pub(super) fn hold_of(stage: &PipelineStage) -> Amounts {
    let has_llm = stage.agent_config.as_ref().is_some_and(|agent| agent.has_llm);
    let default = Amounts { llm_calls: u64::from(has_llm), ..Amounts::ZERO };
    stage.reserve.unwrap_or(default)
}

impl Session {
    /// Lists the stages that are to be worked at, and are not yet.
    fn unissued(&self) -> impl Iterator<Item = &StageName> {
        let next = self.works.iter().filter(|work: &&Work| !work.has_ended() && !work.is_live());
        next.map(|work| &work.stage)
    }

    /// Returns what a process has used of a resource since the session began (K100).
    #[must_use]
    pub fn used(&self, process: &Process, resource: Resource) -> u64 {
        process.account.used.of(resource).saturating_sub(self.base.of(resource))
    }
}

impl State {
    /// Finds the first budget into which amounts do not fit: of the first resource in order, that
    /// of the process, of its session, of its nearest ancestor (K102).
    #[must_use]
    pub fn shortage(&self, pid: &ProcessId, amounts: &Amounts) -> Option<Shortage> {
        let short = self.lineage(pid).flat_map(|(level, process)| {
            let resource = process.account.first_too_much(&process.quota, amounts);
            let own = resource.map(|resource| Shortage {
                resource,
                used: process.account.used.of(resource),
                held: process.account.held.of(resource),
                limit: process.quota.limit(resource),
                level: match level == pid {
                    true => Level::Process,
                    false => Level::Ancestor(level.clone()),
                },
            });
            let of_session = (level == pid).then(|| self.session_shortage(pid, amounts)).flatten();
            own.into_iter().chain(of_session)
        });
        // Among equals the first counts, which is the nearest.
        short.min_by_key(|short| short.resource)
    }

    /// Returns what is left of the pipeline's limit on calls of models (K116).
    pub(in crate::kernel) fn left_of_session(
        &self,
        pid: &ProcessId,
        resource: Resource,
    ) -> Option<u64> {
        let (process, session) = (self.process(pid)?, self.running_session(pid)?);
        let taken = session.used(process, resource).saturating_add(process.account.held.llm_calls);
        let limited = resource == Resource::LlmCalls;
        session.pipeline.max_llm_calls.less(taken).filter(|_| limited)
    }

    /// Of the pipeline's limit on calls of models.
    fn session_shortage(&self, pid: &ProcessId, amounts: &Amounts) -> Option<Shortage> {
        let (process, session) = (self.process(pid)?, self.running_session(pid)?);
        let resource = Resource::LlmCalls;
        let (used, held) = (session.used(process, resource), process.account.held.llm_calls);
        let (limit, more) = (session.pipeline.max_llm_calls, amounts.llm_calls);
        let fits = more == 0 || limit.allows(used.saturating_add(held).saturating_add(more));
        let level = Level::Session;
        (!fits).then_some(Shortage { resource, used, held, limit, level })
    }

    /// Says what would stop the issue of a stage now, if anything would (K267).
    #[must_use]
    pub fn stop_of(&self, now: Time, pid: &ProcessId, stage: &StageName) -> Option<Stop> {
        let (process, session) = (self.process(pid)?, self.running_session(pid)?);
        let (stage, work) = (session.stage(stage)?, session.work(stage));
        let elapsed = process.elapsed(now);
        if process.quota.timeout_ms.most().is_some_and(|most| elapsed >= most) {
            let (resource, limit) = (Resource::ElapsedMs, process.quota.timeout_ms);
            let level = Level::Process;
            let shortage = Shortage { resource, used: elapsed, held: 0, limit, level };
            return Some(Stop { reason: TerminalReason::TimeoutExceeded, shortage });
        }
        if work.is_none_or(|work| work.tries == 0)
            && let Some(shortage) = hop_shortage(process, session)
        {
            return Some(Stop { reason: TerminalReason::MaxAgentHopsExceeded, shortage });
        }
        let hold = hold_of(stage);
        let shortage = self.shortage(pid, &hold).or_else(|| context_shortage(process, &hold))?;
        let reason = match shortage.resource == Resource::LlmCalls {
            true => TerminalReason::MaxLlmCallsExceeded,
            false => TerminalReason::QuotaExceeded,
        };
        Some(Stop { reason, shortage })
    }

    /// Says what would stop a process's next agent stage now, if anything would (K35). A stage at a
    /// Gate or Fork is not known before it is gone through.
    #[must_use]
    pub fn stop_of_next(&self, now: Time, pid: &ProcessId) -> Option<Stop> {
        let session = self.running_session(pid)?;
        session.unissued().find_map(|stage| self.stop_of(now, pid, stage))
    }

    /// Says whether the rates of its quota hold back what a process would issue now (K35, K121).
    /// Without a session that is a stage that calls a model.
    #[must_use]
    pub fn waits_for_rate(&self, now: Time, pid: &ProcessId) -> bool {
        let calls = self.running_session(pid).is_none_or(|session| {
            let stages = session.unissued().filter_map(|name| session.stage(name));
            stages.map(hold_of).any(|hold| counts_for_rate(&hold))
        });
        calls && matches!(self.process_verdict(now, pid), Some(Verdict::Exceeded(_)))
    }

    /// Returns when the rates of its quota allow a process an attempt at a stage, if they do not
    /// now, and ever will (K121).
    pub(super) fn rate_allows_at(
        &self,
        (now, pid): (Time, &ProcessId),
        stage: &PipelineStage,
    ) -> Option<Time> {
        if !counts_for_rate(&hold_of(stage)) {
            return None;
        }
        match self.process_verdict(now, pid)? {
            Verdict::Exceeded(over) => over.retry_at.filter(|at| *at > now),
            Verdict::Allowed(_) => None,
        }
    }
}

fn hop_shortage(process: &Process, session: &Session) -> Option<Shortage> {
    let resource = Resource::AgentHops;
    let all = (process.account.used.agent_hops, process.quota.max_agent_hops, Level::Process);
    let own = (session.used(process, resource), session.pipeline.max_agent_hops, Level::Session);
    let short = [own, all].into_iter().find(|(used, limit, _)| !limit.allows(used + 1));
    short.map(|(used, limit, level)| Shortage { resource, used, held: 0, limit, level })
}

/// K103: the tokens of one reservation are those of one call.
fn context_shortage(process: &Process, hold: &Amounts) -> Option<Shortage> {
    let used = hold.tokens_in.saturating_add(hold.tokens_out);
    let (resource, limit) = (Resource::ContextTokens, process.quota.max_context_tokens);
    let level = Level::Process;
    (!limit.allows(used)).then_some(Shortage { resource, used, held: 0, limit, level })
}
