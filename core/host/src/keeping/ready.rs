//! Who waits for tasks is woken when there may be some (K205).
//!
//! ```text
//!   Effect::TaskReady(service) ─► Caller ─► Ready of each who waits: of that service?
//! ```
//!
//! One listens for all, so that a thousand who wait read nothing for it. Whoever listens before it
//! asks misses nothing: what came before is in what it is answered.

use machines::keeper::io::Output;
use machines::kernel::dispatch::effect::Effect;
use machines::kernel::event::{Body, Event};
use machines::kernel::ids::ServiceName;
use machines::kernel::services::event::ServiceEvent;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// How many calls are kept for who has not looked yet; who misses some looks all the same.
const KEPT: usize = 256;

/// Tells those who wait.
pub(super) struct Caller {
    calls: Option<Sender<ServiceName>>,
}

/// Hears for which services there may be work.
#[derive(Debug)]
pub(crate) struct Ready {
    calls: Receiver<ServiceName>,
}

/// Makes the two ends.
pub(super) fn ready() -> (Caller, Ready) {
    let (caller, calls) = channel(KEPT);
    (Caller { calls: Some(caller) }, Ready { calls })
}

impl Caller {
    /// Calls whom it matters to that the keeper said this.
    pub(super) fn hear(&mut self, output: &Output) {
        match output {
            Output::Effect(Effect::TaskReady { service }) => self.call(service),
            Output::Events { events, .. } => {
                events.iter().filter_map(unregistered).for_each(|service| self.call(service));
            }
            // Nothing comes any more.
            Output::Stalled(_) | Output::Stopped => self.calls = None,
            Output::Effect(Effect::HandlerCall { .. } | Effect::DispatchEnded { .. })
            | Output::Disk(..)
            | Output::Reply(..)
            | Output::Answer(..)
            | Output::Batch(..)
            | Output::Ended(..)
            | Output::Started(_)
            | Output::Refused(_)
            | Output::Snapshot { .. }
            | Output::SnapshotFailed { .. } => {}
        }
    }

    fn call(&self, service: &ServiceName) {
        if let Some(calls) = &self.calls {
            // Nobody waits.
            let _ = calls.send(service.clone());
        }
    }
}

/// Returns the service that is gone: who waits for it is to be told so.
fn unregistered(event: &Event) -> Option<&ServiceName> {
    match &event.body {
        Body::Service { event: ServiceEvent::Unregistered { service } } => Some(service),
        Body::Service { .. }
        | Body::Dispatch { .. }
        | Body::Slot { .. }
        | Body::Kernel { .. }
        | Body::Process { .. }
        | Body::Quota { .. }
        | Body::Rate { .. }
        | Body::Interrupt { .. }
        | Body::Approval { .. }
        | Body::Envelope { .. }
        | Body::Session { .. } => None,
    }
}

impl Ready {
    /// Begins to listen now.
    pub(crate) fn listen(&self) -> Self {
        Self { calls: self.calls.resubscribe() }
    }

    /// Waits until there may be work for `service`, or it is gone; false if nothing comes any more.
    /// Cancel safe.
    pub(crate) async fn next(&mut self, service: &ServiceName) -> bool {
        loop {
            match self.calls.recv().await {
                Ok(of) if of == *service => return true,
                Ok(_) => {}
                // It may have been among those that were missed.
                Err(RecvError::Lagged(_)) => return true,
                Err(RecvError::Closed) => return false,
            }
        }
    }
}
