//! K362, K363: a node that drains takes nothing on, and stops in time.

use std::collections::BTreeSet;

use machines::kernel::Time;
use machines::kernel::dispatch::event::DispatchEvent;
use machines::kernel::event::{Body, Event, KernelEvent, ProcessEvent};
use machines::kernel::ids::ProcessId;
use machines::kernel::sessions::event::SessionEvent;

use crate::keeper::book::{Follow, show_each};
use crate::keeper::kernel::Clerk;
use crate::keeper::{Seen, Watch, World};

/// How long after the deadline a stop may take (K363).
const LATE_MS: u64 = 5_000;

/// See the file's header.
#[derive(Clone, Debug, Default)]
pub(super) struct TakesNothingOn {
    follow: Follow,
    draining: Option<Time>,
    live: BTreeSet<ProcessId>,
}

/// Says whether an event takes something on, or starts an attempt or a try.
const fn takes_on(body: &Body) -> bool {
    matches!(
        body,
        Body::Process { event: ProcessEvent::Created { .. } }
            | Body::Dispatch {
                event: DispatchEvent::Queued { .. } | DispatchEvent::Started { .. }
            }
            | Body::Session {
                event: SessionEvent::Started { .. } | SessionEvent::AttemptIssued { .. }
            }
    )
}

impl TakesNothingOn {
    fn add(&mut self, event: &Event) -> Result<bool, String> {
        if let (Body::Process { event: body }, Some(pid)) = (&event.body, &event.subject.pid) {
            match body {
                ProcessEvent::Created { .. } => self.live.insert(pid.clone()),
                ProcessEvent::Terminated { .. } => self.live.remove(pid),
                ProcessEvent::StateChanged { .. }
                | ProcessEvent::LeaseRenewed { .. }
                | ProcessEvent::Removed => false,
            };
        }
        let Body::Kernel { event: body } = &event.body else {
            return match self.draining.filter(|_| takes_on(&event.body)) {
                Some(_) => Err(format!("the node drains, and {:?}", event.body)),
                None => Ok(self.draining.is_some()),
            };
        };
        match body {
            KernelEvent::Started { .. } => self.draining = None,
            KernelEvent::Draining { deadline, .. } => self.draining = Some(*deadline),
            KernelEvent::Stopped { preserve, .. } => {
                let Some(deadline) = self.draining else {
                    return Err("the node stopped, and had not drained".to_owned());
                };
                if event.time > deadline.plus(LATE_MS) {
                    return Err(format!("stopped at {:?}, to stop at {deadline:?}", event.time));
                }
                if let Some(pid) = self.live.first().filter(|_| !*preserve) {
                    return Err(format!("the node stopped for good, and {pid} is live"));
                }
            }
        }
        Ok(true)
    }
}

impl Watch<Clerk> for TakesNothingOn {
    fn property(&self) -> &'static str {
        "K362"
    }

    fn see(&mut self, _: &World<Clerk>, seen: &Seen<'_, Clerk>) -> Result<bool, String> {
        show_each(self, |watch| &mut watch.follow, seen, Self::add)
    }
}
