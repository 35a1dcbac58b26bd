//! Handlers of services in this process: whom calls are handed to (K192, K204).
//!
//! ```text
//!   Bind ─► coming ── bound, and durable ──► all ── its end has gone ──► owed ── unbound ──► ·
//!             └── refused: who was bound stays                           ▲ └── refused for now
//!                                                                        └──────┘
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use machines::keeper::io::Call;
use machines::kernel::Code;
use machines::kernel::dispatch::Task;
use machines::kernel::event::{Body, Event};
use machines::kernel::ids::ServiceName;
use machines::kernel::services::event::ServiceEvent;
use sync::{Channel, Inbox, MailboxOptions, channel};

use super::{Ask, Replied};

/// The calls of one service's handler, in the order of their tries. Dropped, the service has no
/// handler any more.
///
/// A call is ended by `CompleteTask` with its lease, in the node's own name
/// ([`Principal::node`](machines::kernel::principal::Principal::node)); one that never is times out
/// with its try.
pub struct Calls {
    asks: Channel<Ask>,
    service: ServiceName,
    inbox: Inbox<Box<Task>>,
    binding: Arc<()>,
}

/// The loop's end of one handler.
pub(super) struct Bound {
    calls: Channel<Box<Task>>,
    binding: Weak<()>,
}

/// All handlers of this process.
#[derive(Default)]
pub(super) struct Bindings {
    /// Whom calls are handed to.
    all: BTreeMap<ServiceName, Bound>,
    /// Who asked to be bound, and was not answered.
    coming: BTreeMap<Call, (ServiceName, Bound)>,
    /// Services whose handler has gone, of which the kernel does not know; how it was told, if it
    /// has not answered.
    owed: BTreeMap<ServiceName, Option<Call>>,
}

impl Calls {
    /// Makes the two ends of a handler's calls. How many wait there is up to the service's slots.
    pub(super) fn new(asks: Channel<Ask>, service: ServiceName) -> (Self, Bound) {
        let (calls, inbox) = channel(MailboxOptions::unbounded());
        let binding = Arc::new(());
        let bound = Bound { calls, binding: Arc::downgrade(&binding) };
        (Self { asks, service, inbox, binding }, bound)
    }

    /// Waits for the next call; `None` once the kernel's loop has ended, or another handler has
    /// taken this one's place. Cancel safe.
    pub async fn next(&mut self) -> Option<Box<Task>> {
        self.inbox.receive().await
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        // Gone: so is the kernel that would call.
        let _ = self.asks.send(Ask::Unbind(self.service.clone(), Arc::clone(&self.binding)));
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Bindings {
    /// The kernel is asked with `call` to bind a handler. Until it has, an earlier one is called.
    pub(super) fn bind(&mut self, call: Call, service: ServiceName, bound: Bound) {
        self.coming.insert(call, (service, bound));
    }

    /// An event is durable. Who is bound by it is called for what the same decision began.
    pub(super) fn heard(&mut self, event: &Event) {
        let Body::Service { event: ServiceEvent::HandlerBound { service, .. } } = &event.body
        else {
            return;
        };
        // Those who asked before and were refused have been answered.
        let first = self.coming.iter().find(|(_, (of, _))| of == service);
        if let Some(call) = first.map(|(call, _)| *call) {
            self.settle(call);
        }
    }

    /// A command was answered, if it was one of these.
    pub(super) fn answered(&mut self, call: Call, result: &Replied) {
        match result {
            Ok(_) => self.settle(call),
            Err(_) => drop(self.coming.remove(&call)),
        }
        let owed = self.owed.iter().find(|(_, asked)| **asked == Some(call));
        if let Some(service) = owed.map(|(service, _)| service.clone()) {
            self.owed.remove(&service);
            let passes = |code| matches!(code, Code::Busy | Code::DiskFull | Code::Overloaded);
            if result.as_ref().is_err_and(|refusal| passes(refusal.code)) {
                self.owed.insert(service, None);
            }
        }
    }

    /// A handler takes the place of an earlier one, which gets no further calls.
    fn settle(&mut self, call: Call) {
        let Some((service, bound)) = self.coming.remove(&call) else {
            return;
        };
        if bound.binding.strong_count() == 0 {
            // It went before its time came: nobody is bound.
            self.all.remove(&service);
            self.owed.insert(service, None);
        } else {
            self.owed.remove(&service);
            self.all.insert(service, bound);
        }
    }

    /// A handler has gone. The kernel is to be told, unless its place was taken.
    pub(super) fn unbind(&mut self, service: &ServiceName, binding: &Arc<()>) {
        let own = |bound: &Bound| bound.binding.as_ptr() == Arc::as_ptr(binding);
        if self.all.get(service).is_some_and(own) {
            self.all.remove(service);
            self.owed.insert(service.clone(), None);
        }
    }

    /// Lists the services that the kernel is to be told of now. One for which another handler comes
    /// waits for that: it may be bound already.
    pub(super) fn owed(&self) -> Vec<ServiceName> {
        let comes = |service: &ServiceName| self.coming.values().any(|(of, _)| of == service);
        let due = self.owed.iter().filter(|(service, asked)| asked.is_none() && !comes(service));
        due.map(|(service, _)| service.clone()).collect()
    }

    /// The kernel is told with `call` that a service has no handler.
    pub(super) fn tell(&mut self, call: Call, service: ServiceName) {
        self.owed.insert(service, Some(call));
    }

    /// Hands on a call. One for which nobody is there any more times out.
    pub(super) fn call(&self, service: &ServiceName, task: Box<Task>) {
        if let Some(bound) = self.all.get(service) {
            // Closed: its end is on the way to the loop.
            let _ = bound.calls.send(task);
        }
    }
}
