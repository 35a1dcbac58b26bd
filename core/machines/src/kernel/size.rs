//! How long a decision can be, as far as that can be told from its command (L3).
//!
//! Most decisions are some hundred bytes, whatever the state. Those that grow with what a command
//! brings, or with what a process or a service has, are tried: [`Kernel::execute`] keeps the tables
//! as they were, which share their rows, and returns to them if the events are too long.
//!
//! [`Kernel::execute`]: super::Kernel::execute

#[cfg(test)]
mod tests;

use super::CommandBody;
use super::decision::Decision;
use super::dispatch::ServiceRequest;
use super::envelopes::command::NewEnvelope;
use super::expression::FieldRef;
use super::ids::{InterruptId, ProcessId, ServiceName};
use super::interrupts::interrupt::{NewInterrupt, NewTarget};
use super::json::Json;
use super::process::Metadata;
use super::refusal::{Code, Refusal};
use super::sessions::report::Report;
use super::sessions::start::{EnvelopeChoice, Initialize};
use super::state::State;
use crate::codec::Wire;

/// What is less than this part of a decision is not looked at any closer: no event is so much
/// longer than what it is made of.
const LIGHT: u64 = 16;
/// Bytes of the events that end one thing: a dispatch, a slot, a question, an approval.
const END_BYTES: u64 = 1_024;

impl Decision<'_> {
    /// The refusal of a decision that no record can take.
    pub(super) fn too_long(&mut self) -> Option<Refusal> {
        let (bytes, most) = (self.bytes(), self.state.config.limits.decision_bytes);
        let told = || format!("the decision would take {bytes} bytes, at most {most}");
        (bytes > most).then(|| Refusal::new(Code::TooLarge, told()))
    }
}

impl State {
    /// Says whether the decision of a command has to be measured.
    pub(super) fn may_be_too_long(&self, body: &CommandBody) -> bool {
        self.weight(body) > self.config.limits.decision_bytes / LIGHT
    }

    /// Estimates what a decision is made of, in bytes. Batches are none of it: they end in time.
    fn weight(&self, body: &CommandBody) -> u64 {
        match body {
            CommandBody::Submit(submit) => metadata(&submit.metadata),
            CommandBody::CreateEnvelope(new) => envelope(new),
            CommandBody::UpdateEnvelope { patch, .. } => patch.to_bytes().len() as u64,
            CommandBody::InitializeSession(asked) => self.start_weight(asked),
            CommandBody::ExecutePipeline(asked) => {
                metadata(&asked.submit.metadata)
                    + start(&asked.envelope)
                    + asked.pipeline.to_bytes().len() as u64
            }
            CommandBody::ReportAgentResult(told) => self.ends(&told.pid) + report(told),
            CommandBody::CreateInterrupt { interrupt, .. } => question(interrupt),
            CommandBody::ResolveInterrupt { id, response } => {
                self.ends_of_asker(id) + response.data.as_ref().map_or(0, json)
            }
            CommandBody::CancelInterrupt { id, .. } => self.ends_of_asker(id),
            CommandBody::ConsumeApproval(wanted) => json(&wanted.params),
            CommandBody::RegisterService(info) => info.to_bytes().len() as u64,
            CommandBody::UnregisterService { service } => self.service_ends(service),
            CommandBody::Dispatch(request) | CommandBody::DispatchInference(request) => {
                dispatch(request)
            }
            CommandBody::CompleteTask(done) => done.data.as_ref().map_or(0, json),
            CommandBody::Start { config } => config.to_bytes().len() as u64,
            CommandBody::TransitionState { pid, .. }
            | CommandBody::Terminate { pid, .. }
            | CommandBody::CleanupProcess { pid }
            | CommandBody::Settle { pid, .. }
            | CommandBody::NextInstruction { pid } => self.ends(pid),
            CommandBody::RecordUsage(record) => self.ends(&record.pid),
            CommandBody::Tick
            | CommandBody::Schedule { .. }
            | CommandBody::NextRunnable
            | CommandBody::Reserve(_)
            | CommandBody::Release { .. }
            | CommandBody::AdjustQuota { .. }
            | CommandBody::CheckRateLimit { .. }
            | CommandBody::SetRateLimit { .. }
            | CommandBody::ResetRateLimits { .. }
            | CommandBody::Cleanup
            | CommandBody::Drain { .. }
            | CommandBody::Shutdown { .. }
            | CommandBody::Stop { .. }
            | CommandBody::CloneEnvelope { .. }
            | CommandBody::UpdateHealth { .. }
            | CommandBody::BindHandler { .. }
            | CommandBody::UnbindHandler { .. }
            | CommandBody::AcquireSlot { .. }
            | CommandBody::ReleaseSlot { .. }
            | CommandBody::RenewLease { .. }
            | CommandBody::LeaseTasks { .. }
            | CommandBody::CancelDispatch { .. } => 0,
        }
    }

    /// What ends with a process.
    fn ends(&self, pid: &ProcessId) -> u64 {
        let dispatches = self.desks.open_of(pid);
        let reserved = self.process(pid).map_or(0, |process| process.reservations.len() as u64);
        let granted = self.asked.granted(pid).count() as u64;
        (dispatches + reserved + granted).saturating_mul(END_BYTES)
    }

    /// What ends with a process if a question of its is denied (K161, K166).
    fn ends_of_asker(&self, id: &InterruptId) -> u64 {
        self.interrupts.get(id).map_or(0, |interrupt| self.ends(&interrupt.pid))
    }

    /// What ends with a service.
    fn service_ends(&self, name: &ServiceName) -> u64 {
        let ends = self.desks.desk(name).map_or(0, |desk| desk.open.len() + desk.slots.len());
        (ends as u64).saturating_mul(END_BYTES)
    }

    fn start_weight(&self, asked: &Initialize) -> u64 {
        start(&asked.envelope) + asked.pipeline.to_bytes().len() as u64 + self.ends(&asked.pid)
    }
}

fn json(json: &Json) -> u64 {
    json.length() as u64
}

fn metadata(metadata: &Metadata) -> u64 {
    metadata.iter().map(|(key, value)| key.len() as u64 + json(value)).sum()
}

fn envelope(new: &NewEnvelope) -> u64 {
    let stages: usize = new.stage_order.iter().map(|stage| stage.as_str().len()).sum();
    new.raw_input.len() as u64 + metadata(&new.metadata) + stages as u64
}

fn start(choice: &EnvelopeChoice) -> u64 {
    match choice {
        EnvelopeChoice::Known(_) => 0,
        EnvelopeChoice::New(new) => envelope(new),
    }
}

fn question(asked: &NewInterrupt) -> u64 {
    let target = asked.target.as_ref();
    let bound = |target: &NewTarget| target.binds.iter().map(FieldRef::bytes).sum::<u64>();
    asked.data.as_ref().map_or(0, json)
        + target.map_or(0, |target| json(&target.params) + bound(target))
}

fn report(told: &Report) -> u64 {
    let asked = told.interrupt.as_ref().map_or(0, |asked| question(asked));
    let tools: usize = told.metrics.tool_results.iter().map(|tool| tool.name.len()).sum();
    told.output.as_ref().map_or(0, json) + asked + tools as u64
}

fn dispatch(request: &ServiceRequest) -> u64 {
    let approval = request.approval.as_ref().map_or(0, |approval| json(&approval.params));
    let retried = request.retry.retry_on.len() as u64;
    json(&request.data) + metadata(&request.metadata) + approval + retried
}
