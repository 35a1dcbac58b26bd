//! Ids that the machine minted, taken from its events in their order.

use std::collections::VecDeque;

use machines::kernel::Time;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::envelopes::EnvelopeEvent;
use machines::kernel::event::{Body, Event, ProcessEvent, QuotaEvent};
use machines::kernel::ids::{
    AttemptId, DispatchId, EnvelopeId, InterruptId, LeaseId, ProcessId, RequestId, ReservationId,
    SessionId,
};
use machines::kernel::interrupts::event::InterruptEvent;
use machines::kernel::services::event::SlotEvent;
use machines::kernel::sessions::event::SessionEvent;

/// Ids that the model may need in one decision. Those that a caller chose are among them and are
/// not taken.
#[derive(Clone, Debug, Default)]
pub struct Minted {
    /// Of a process that was made: its pid, request and conversation.
    pub created: Option<(ProcessId, RequestId, SessionId)>,
    /// Of claims.
    pub leases: VecDeque<LeaseId>,
    /// Of interrupts.
    pub interrupts: VecDeque<InterruptId>,
    /// Of a reservation.
    pub reservation: Option<ReservationId>,
    /// Of slots.
    pub slots: VecDeque<LeaseId>,
    /// Of tries.
    pub tries: VecDeque<LeaseId>,
    /// When tries are repeated, of which chance has a part (K209).
    pub retries: VecDeque<Time>,
    /// Of a dispatch.
    pub dispatch: Option<DispatchId>,
    /// Of an envelope that was made: its id, request and conversation.
    pub envelope: Option<(EnvelopeId, RequestId, SessionId)>,
    /// Of a copy.
    pub copy: Option<EnvelopeId>,
    /// Of attempts.
    pub attempts: VecDeque<AttemptId>,
    /// When stages are tried again, of which chance has a part (K269).
    pub stage_retries: VecDeque<Time>,
}

impl Minted {
    /// Finds the ids in `events`.
    #[must_use]
    pub fn of(events: &[Event]) -> Self {
        let mut minted = Self::default();
        for Event { subject, body, .. } in events {
            match body {
                Body::Process { event: ProcessEvent::Created { .. } } => {
                    let (pid, request) = (subject.pid.clone(), subject.request.clone());
                    let ids = pid.zip(request).zip(subject.session.clone());
                    minted.created = ids.map(|((pid, request), session)| (pid, request, session));
                }
                Body::Process { event: ProcessEvent::StateChanged { lease: Some(run), .. } } => {
                    minted.leases.push_back(run.lease.clone());
                }
                Body::Quota { event: QuotaEvent::Reserved { reservation, .. } } => {
                    minted.reservation = Some(reservation.clone());
                }
                Body::Interrupt { event: InterruptEvent::Raised { interrupt } } => {
                    minted.interrupts.push_back(interrupt.id.clone());
                }
                Body::Slot { event: SlotEvent::Acquired { lease, .. } } => {
                    minted.slots.push_back(lease.clone());
                }
                Body::Dispatch { event } => minted.note_dispatch(event),
                Body::Envelope { event: EnvelopeEvent::Created { id, envelope } } => {
                    let (request, session) = (envelope.request.clone(), envelope.session.clone());
                    minted.envelope = Some((id.clone(), request, session));
                }
                Body::Envelope { event: EnvelopeEvent::Cloned { id, .. } } => {
                    minted.copy = Some(id.clone());
                }
                Body::Session { event: SessionEvent::AttemptIssued { issued } } => {
                    minted.attempts.push_back(issued.attempt.clone());
                }
                Body::Session { event: SessionEvent::RetryScheduled { retry_at, .. } } => {
                    minted.stage_retries.push_back(*retry_at);
                }
                Body::Interrupt { .. }
                | Body::Approval { .. }
                | Body::Rate { .. }
                | Body::Envelope { .. }
                | Body::Service { .. }
                | Body::Slot { .. }
                | Body::Session { .. } => {}
                Body::Process { .. } | Body::Quota { .. } | Body::Kernel { .. } => {}
            }
        }
        minted
    }

    fn note_dispatch(&mut self, event: &DispatchEvent) {
        match event {
            DispatchEvent::Queued { dispatch, .. } => self.dispatch = Some(dispatch.clone()),
            DispatchEvent::Started { lease, .. } => self.tries.push_back(lease.clone()),
            DispatchEvent::RetryScheduled { retry_at, .. } => self.retries.push_back(*retry_at),
            DispatchEvent::Requeued { .. }
            | DispatchEvent::Renewed { .. }
            | DispatchEvent::Finished { .. }
            | DispatchEvent::Removed { .. } => {}
        }
    }
}
