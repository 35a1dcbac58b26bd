//! Ids that the machine minted, taken from its events in their order.

use std::collections::VecDeque;

use machines::kernel::event::{Body, Event, ProcessEvent, QuotaEvent};
use machines::kernel::ids::{LeaseId, ProcessId, RequestId, ReservationId, SessionId};

/// Ids that the model may need in one decision. Those that a caller chose are among them and are
/// not taken.
#[derive(Clone, Debug, Default)]
pub struct Minted {
    /// Of a process that was made: its pid, request and conversation.
    pub created: Option<(ProcessId, RequestId, SessionId)>,
    /// Of claims.
    pub leases: VecDeque<LeaseId>,
    /// Of a reservation.
    pub reservation: Option<ReservationId>,
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
                Body::Process { .. } | Body::Quota { .. } | Body::Kernel { .. } => {}
            }
        }
        minted
    }
}
