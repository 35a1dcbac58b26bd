//! Instructions: what whoever polls a process is told to do (K240), as a view of the state.

use std::sync::Arc;

use super::task::AgentTask;
use super::{Session, Standing, Work};
use crate::kernel::ids::{ProcessId, StageName};
use crate::kernel::interrupts::interrupt::Interrupt;
use crate::kernel::names::{BlockReason, Outcome, ProcessState, TerminalReason};
use crate::kernel::numbered::numbered;
use crate::kernel::process::Process;
use crate::kernel::state::State;
use crate::kernel::time::Time;

numbered! {
    /// Why there is nothing to do now.
    WaitReason "a reason to wait" {
        /// A retry waits.
        Backoff = 1 "backoff",
        /// A rate does.
        Rate = 2 "rate",
        /// Somebody stopped the process, or it waits for an event.
        Blocked = 3 "blocked",
        /// The node takes nothing new on.
        Draining = 4 "draining",
        /// The process was let go: ask for it again.
        Released = 5 "released",
    }

    /// What an instruction says.
    InstructionKind "an instruction kind" {
        /// Run this agent.
        RunAgent = 1 "run_agent",
        /// It is over.
        Terminate = 2 "terminate",
        /// A person is asked.
        WaitInterrupt = 3 "wait_interrupt",
        /// Run these agents side by side.
        RunAgents = 4 "run_agents",
        /// A group is open and nothing in it can run now.
        WaitParallel = 5 "wait_parallel",
        /// Ask again later.
        Wait = 6 "wait",
    }
}

/// What to do now (2.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// Of which process.
    pub pid: ProcessId,
    /// The number of the last event that it saw (K5).
    pub as_of: u64,
    /// What.
    pub body: InstructionBody,
    /// Beside [`InstructionBody::RunAgents`]: when another branch can be tried, if that is a matter
    /// of time alone (K269, K121).
    pub until: Option<Time>,
}

/// What to do now, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InstructionBody {
    /// Run this agent.
    RunAgent(Box<AgentTask>),
    /// It is over.
    Terminate {
        /// Why.
        reason: TerminalReason,
        /// How.
        outcome: Outcome,
        /// In words.
        message: Arc<str>,
    },
    /// A person is asked.
    WaitInterrupt {
        /// The oldest question that the process waits for.
        interrupt: Option<Box<Interrupt>>,
    },
    /// Run these agents side by side, in branch order.
    RunAgents(Vec<AgentTask>),
    /// A group is open and nothing in it can run now.
    WaitParallel {
        /// Stages that have not ended, in branch order.
        outstanding: Vec<StageName>,
        /// When the first of them can be tried again.
        until: Option<Time>,
    },
    /// Ask again later.
    Wait {
        /// Why.
        reason: WaitReason,
        /// When, if that is known.
        until: Option<Time>,
    },
}

impl InstructionBody {
    /// Returns the kind.
    #[must_use]
    pub const fn kind(&self) -> InstructionKind {
        match self {
            Self::RunAgent(_) => InstructionKind::RunAgent,
            Self::Terminate { .. } => InstructionKind::Terminate,
            Self::WaitInterrupt { .. } => InstructionKind::WaitInterrupt,
            Self::RunAgents(_) => InstructionKind::RunAgents,
            Self::WaitParallel { .. } => InstructionKind::WaitParallel,
            Self::Wait { .. } => InstructionKind::Wait,
        }
    }
}

impl State {
    /// Says what whoever polls a process is told, after the poll or report was decided (K240).
    /// `None` if the process has no session.
    #[must_use]
    pub fn instruction(&self, now: Time, pid: &ProcessId) -> Option<Instruction> {
        let (process, session) = (self.process(pid)?, self.session(pid)?);
        let now = now.max(self.counters.last);
        let body = self.body((now, pid), process, session);
        let beside = matches!(body, InstructionBody::RunAgents(_));
        let until = beside.then(|| self.next_try((now, pid), session)).flatten();
        Some(Instruction { pid: pid.clone(), as_of: self.counters.events, body, until })
    }

    /// Returns when the first branch that nobody works on can be tried: its backoff ends then, or
    /// the rate of its process allows it.
    fn next_try(&self, (now, pid): (Time, &ProcessId), session: &Session) -> Option<Time> {
        let idle = session.works.iter().filter(|work| !work.has_ended() && !work.is_live());
        let tries = idle.filter_map(|work| match work.waits_until() {
            Some(until) if until > now => Some(until),
            Some(_) | None => self.rate_allows_at((now, pid), session.stage(&work.stage)?),
        });
        tries.min()
    }

    fn body(
        &self,
        (now, pid): (Time, &ProcessId),
        process: &Process,
        session: &Session,
    ) -> InstructionBody {
        if let Some(end) = &session.ended {
            let (reason, message) = (end.reason, Arc::clone(&end.message));
            return InstructionBody::Terminate { reason, outcome: reason.outcome(), message };
        }
        if process.is_held() {
            let interrupt = self.oldest_blocking(pid).cloned().map(Box::new);
            return InstructionBody::WaitInterrupt { interrupt };
        }
        let mut tasks = self.tasks(pid, process, session);
        if !tasks.is_empty() {
            return match session.group {
                Some(_) => InstructionBody::RunAgents(tasks),
                None => InstructionBody::RunAgent(Box::new(tasks.remove(0))),
            };
        }
        if session.group_rests(now) {
            let open = session.works.iter().filter(|work| !work.has_ended());
            return InstructionBody::WaitParallel {
                outstanding: open.clone().map(|work| work.stage.clone()).collect(),
                until: open.filter_map(Work::waits_until).min(),
            };
        }
        let (reason, until) = self.wait(process);
        InstructionBody::Wait { reason, until }
    }

    fn tasks(&self, pid: &ProcessId, process: &Process, session: &Session) -> Vec<AgentTask> {
        let live = session.works.iter().filter_map(|work| match &work.standing {
            Standing::Live { attempt } => self.agent_task((pid, process, session), (attempt, work)),
            Standing::Due | Standing::Backoff { .. } | Standing::Done | Standing::Failed => None,
        });
        live.collect()
    }

    fn wait(&self, process: &Process) -> (WaitReason, Option<Time>) {
        match process.state {
            ProcessState::Blocked => {
                let block = process.block.as_ref();
                let reason = match block.map(|block| block.reason) {
                    Some(BlockReason::Backoff) => WaitReason::Backoff,
                    Some(BlockReason::Rate) => WaitReason::Rate,
                    Some(BlockReason::Manual) | None => WaitReason::Blocked,
                };
                (reason, block.and_then(|block| block.until))
            }
            ProcessState::Waiting => (WaitReason::Blocked, None),
            ProcessState::New
            | ProcessState::Ready
            | ProcessState::Running
            | ProcessState::Terminated
            | ProcessState::Zombie => match self.counters.draining {
                Some(_) => (WaitReason::Draining, None),
                None => (WaitReason::Released, None),
            },
        }
    }
}
