//! A process as callers see it (2.3).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::budget::ResourceUse;
use crate::kernel::ids::{
    InterruptId, ProcessId, RequestId, ServiceName, SessionId, StageName, UserId,
};
use crate::kernel::names::{OnExhausted, Priority, ProcessState, TerminalReason};
use crate::kernel::process::{Block, ContentHash, Metadata, Process, RunLease};
use crate::kernel::quota::Quota;
use crate::kernel::time::Time;

/// A process as callers see it (2.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "2.3 says what each field is")]
pub struct ProcessControlBlock {
    pub pid: ProcessId,
    pub request_id: RequestId,
    pub user_id: UserId,
    pub session_id: SessionId,
    pub state: ProcessState,
    pub priority: Priority,
    pub driven: bool,
    pub quota: Quota,
    pub usage: ResourceUse,
    pub created_at: Time,
    pub started_at: Option<Time>,
    pub completed_at: Option<Time>,
    pub last_scheduled_at: Option<Time>,
    pub ready_at: Option<Time>,
    pub current_stage: Option<StageName>,
    pub current_service: Option<ServiceName>,
    pub pending_interrupts: Vec<InterruptId>,
    pub block: Option<Block>,
    pub wait: Option<Arc<str>>,
    pub run_lease: Option<RunLease>,
    pub parent: Option<ProcessId>,
    pub children: BTreeSet<ProcessId>,
    pub on_exhausted: OnExhausted,
    pub terminal_reason: Option<TerminalReason>,
    pub termination_message: Option<Arc<str>>,
    pub submit_digest: ContentHash,
    pub metadata: Metadata,
}

impl ProcessControlBlock {
    /// Shows a process as it is at `now`.
    #[must_use]
    pub fn of(pid: &ProcessId, process: &Process, now: Time) -> Self {
        Self {
            pid: pid.clone(),
            request_id: process.request.clone(),
            user_id: process.user.clone(),
            session_id: process.session.clone(),
            state: process.state,
            priority: process.priority,
            driven: process.driven,
            quota: process.quota,
            usage: ResourceUse::of(process, now),
            created_at: process.created_at,
            started_at: process.started_at,
            completed_at: process.completed_at,
            last_scheduled_at: process.last_scheduled_at,
            ready_at: process.ready_at,
            current_stage: process.current_stage.clone(),
            current_service: process.current_service.clone(),
            pending_interrupts: process.interrupts.clone(),
            block: process.block.clone(),
            wait: process.wait.clone(),
            run_lease: process.run_lease.as_deref().cloned(),
            parent: process.parent.clone(),
            children: process.children.clone(),
            on_exhausted: process.on_exhausted,
            terminal_reason: process.terminal_reason,
            termination_message: process.termination_message.clone(),
            submit_digest: process.digest,
            metadata: process.metadata.clone(),
        }
    }
}
