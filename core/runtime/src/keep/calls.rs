//! Handlers of services in this process: whom calls are handed to (K192, K204).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use machines::kernel::dispatch::Task;
use machines::kernel::ids::ServiceName;
use sync::{Channel, Inbox, MailboxOptions, channel};

use super::Ask;

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
    all: BTreeMap<ServiceName, Bound>,
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
    /// A handler takes the place of an earlier one, which gets no further calls.
    pub(super) fn bind(&mut self, service: ServiceName, bound: Bound) {
        self.all.insert(service, bound);
    }

    /// A handler has gone. Says whether it was the service's, and not one whose place was taken.
    pub(super) fn unbind(&mut self, service: &ServiceName, binding: &Arc<()>) -> bool {
        let own = |bound: &Bound| bound.binding.as_ptr() == Arc::as_ptr(binding);
        let last = self.all.get(service).is_some_and(own);
        if last {
            self.all.remove(service);
        }
        last
    }

    /// Hands on a call. One for which nobody is there any more times out.
    pub(super) fn call(&self, service: &ServiceName, task: Box<Task>) {
        if let Some(bound) = self.all.get(service) {
            // Closed: its end is on the way to the loop.
            let _ = bound.calls.send(task);
        }
    }
}
