//! What a user of a node holds: calls, endpoints and watches (C105). Executor-agnostic.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use machines::Instant;
use machines::cluster::ids::{ActorId, CallId, NodeId, Ref};
use machines::cluster::registry::io::{NameEvent, RegisterError};
use machines::cluster::router::io::{Answer, AskError, Outcome, Request, SendError};
use machines::cluster::swim::Snapshot;
use machines::cluster::swim::io::MemberEvent;
use machines::cluster::wire::Name;
use machines::node::io::{Call, Event, Input, OpenError, Reply};
use sync::{Channel, Inbox, MailboxOptions, Policy, channel};

use crate::machine::Names;
use crate::run::Commands;
use crate::users::{Command, Letter};
use crate::watch::Watch;

/// A node that runs somewhere else. Cheap to clone; when the last clone and the last endpoint are
/// dropped, the run loop ends.
pub struct Handle<M> {
    node: NodeId,
    commands: Channel<Command<M>>,
    /// The number of the last call.
    calls: Arc<AtomicU64>,
}

/// The node has stopped: this call was not done, or nobody knows any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the node has stopped")
    }
}

impl std::error::Error for Gone {}

/// An address of this node that messages can be sent to: [`Handle::open`].
///
/// Dropping it closes it: its names go, and later messages to it bounce NoActor.
pub struct Endpoint<M: 'static> {
    reference: Ref,
    letters: Inbox<Letter>,
    handle: Handle<M>,
}

/// A tracked send: its number, and in time its outcome (C84).
pub struct Tracked {
    /// The number of the frame.
    pub number: u64,
    outcome: sync::Answer<Outcome>,
}

/// Makes the two ends between a node's users and its run loop.
#[must_use]
pub fn handle<M>(node: NodeId) -> (Handle<M>, Commands<M>) {
    let (commands, inbox) = channel(MailboxOptions::unbounded());
    let handle = Handle { node, commands, calls: Arc::new(AtomicU64::new(0)) };
    (handle, Commands { inbox })
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { node: self.node, commands: self.commands.clone(), calls: Arc::clone(&self.calls) }
    }
}

impl<M: 'static> Handle<M> {
    /// Returns who this node is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.node
    }

    /// Tells the node something that happened: a new allowlist, seeds, address or metadata.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn tell(&self, input: Input) -> Result<(), Gone> {
        self.command(Command::Input(input))
    }

    /// Looks at the node between two inputs; `look` runs on the loop and must be short.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(Instant, &M) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        self.wait(|reply| {
            Command::Look(Box::new(move |now, machine| {
                // Late: whoever asked has gone.
                let _ = reply.send(look(now, machine));
            }))
        })
        .await
    }

    /// Waits until the node has joined its cluster (C55).
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn joined(&self) -> Result<(), Gone> {
        self.wait(Command::Joined).await
    }

    /// Watches the members: a snapshot, then every event (C45).
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn watch(&self) -> Result<Watch<Snapshot, MemberEvent>, Gone> {
        self.wait(Command::WatchMembers).await
    }

    /// Watches the names that begin with `prefix`: a snapshot, then every event (C79). The index
    /// counts what this watcher is to see, from 0 and without gaps.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn watch_names(&self, prefix: &str) -> Result<Watch<Names, NameEvent>, Gone> {
        let prefix = prefix.to_owned();
        self.wait(|reply| Command::WatchNames(prefix, reply)).await
    }

    /// Watches everything that the node tells: gaps (C85), links, refusals and the rest.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn watch_events(&self) -> Result<Watch<(), Event>, Gone> {
        self.wait(Command::WatchEvents).await
    }

    /// Opens an endpoint whose mailbox holds `letters_max` messages; when it is full, messages
    /// bounce MailboxFull (C88).
    ///
    /// # Errors
    ///
    /// [`Gone`], or why it was refused.
    ///
    /// # Panics
    ///
    /// If `letters_max` is 0 or above 2²⁰.
    pub async fn open(&self, letters_max: u32) -> Result<Result<Endpoint<M>, OpenError>, Gone> {
        let options = MailboxOptions::bounded(letters_max, Policy::Fail)
            .expect("an endpoint's mailbox holds 1 to 2^20 letters");
        let (sender, letters) = channel(options);
        let (reply, answer) = sync::reply();
        let handle = self.clone();
        let opened = move |opened: Result<Ref, OpenError>| {
            let opened = opened.map(|reference| Endpoint { reference, letters, handle });
            // Late, or never read: whoever asked has gone, and an endpoint that is dropped closes.
            drop(reply.send(opened));
        };
        self.command(Command::Open(self.next_call(), sender, Box::new(opened)))?;
        answer.await.map_err(|_| Gone)
    }

    /// Registers an endpoint of this node under a name (C72). `ttl` is 1 s to 1 h, `None` the
    /// configured default; with `manual`, the caller must [`Handle::renew`] in time.
    ///
    /// # Errors
    ///
    /// [`Gone`], or why the registration was refused.
    pub async fn register(
        &self,
        name: Name,
        actor: ActorId,
        ttl: Option<Duration>,
        manual: bool,
    ) -> Result<Result<(), RegisterError>, Gone> {
        let call = Call::Register { name, actor, ttl, manual };
        self.registered(call).await
    }

    /// Renews a manual registration (C72).
    ///
    /// # Errors
    ///
    /// [`Gone`], or why the renewal was refused.
    pub async fn renew(&self, name: Name) -> Result<Result<(), RegisterError>, Gone> {
        self.registered(Call::Renew(name)).await
    }

    /// Withdraws a registration of this node (C72).
    ///
    /// # Errors
    ///
    /// [`Gone`], or why it was refused.
    pub async fn unregister(&self, name: Name) -> Result<Result<(), RegisterError>, Gone> {
        self.registered(Call::Unregister(name)).await
    }

    /// Finds who holds a name (C77); `None` is NotFound.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn lookup(&self, name: Name) -> Result<Option<Ref>, Gone> {
        let Reply::Found(found) = self.call(Call::Lookup(name)).await? else {
            unreachable!("Lookup is answered by Found");
        };
        Ok(found)
    }

    /// Sends a message from the node itself; at most once, never blocks on the network (C83, C87).
    ///
    /// # Errors
    ///
    /// [`Gone`], or why nothing was queued.
    pub async fn send(
        &self,
        to: Ref,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Result<u64, SendError>, Gone> {
        self.send_from(ActorId::NODE, to, tag, payload).await
    }

    /// [`Handle::send`], and tells in time what became of the message (C84).
    ///
    /// # Errors
    ///
    /// [`Gone`], or why nothing was queued.
    pub async fn send_tracked(
        &self,
        to: Ref,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Result<Tracked, SendError>, Gone> {
        self.send_tracked_from(ActorId::NODE, to, tag, payload).await
    }

    /// Sends a request and waits for its answer, `wait` at the most (C86). Dropping the future
    /// gives up the answer.
    ///
    /// # Errors
    ///
    /// [`Gone`], or why there is no answer.
    pub async fn ask(
        &self,
        to: Ref,
        wait: Duration,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Result<Answer, AskError>, Gone> {
        self.ask_from(ActorId::NODE, to, wait, tag, payload).await
    }

    /// Leaves the cluster; returns when the node has left and its links are closed (C56).
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn leave(&self) -> Result<(), Gone> {
        self.call(Call::Leave).await.map(|_| ())
    }

    /// Leaves the cluster and ends the run loop (C56).
    ///
    /// # Errors
    ///
    /// [`Gone`]: it has stopped already.
    pub async fn shutdown(&self) -> Result<(), Gone> {
        self.leave().await?;
        self.stop()
    }

    /// Ends the run loop without leaving; always safe, like killing the process.
    ///
    /// # Errors
    ///
    /// [`Gone`]: it has stopped already.
    pub fn stop(&self) -> Result<(), Gone> {
        self.command(Command::Stop)
    }

    async fn send_from(
        &self,
        from: ActorId,
        to: Ref,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Result<u64, SendError>, Gone> {
        let call = Call::Send { from, to, tag, payload, tracked: false };
        Ok(sent(self.call(call).await?))
    }

    async fn send_tracked_from(
        &self,
        from: ActorId,
        to: Ref,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Result<Tracked, SendError>, Gone> {
        let request = Call::Send { from, to, tag, payload, tracked: true };
        let call = self.next_call();
        let (resolve, outcome) = sync::reply();
        let reply = self.wait(|reply| Command::Tracked(call, request, reply, resolve)).await?;
        Ok(sent(reply).map(|number| Tracked { number, outcome }))
    }

    async fn ask_from(
        &self,
        from: ActorId,
        to: Ref,
        wait: Duration,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Result<Answer, AskError>, Gone> {
        let request = Call::Ask { from, to, wait, tag, payload };
        let call = self.next_call();
        let mut patience = Patience { handle: self, call: Some(call) };
        let reply = self.wait(|reply| Command::Call(call, request, reply)).await?;
        patience.call = None;
        let Reply::Asked(answer) = reply else {
            unreachable!("Ask is answered by Asked");
        };
        Ok(answer)
    }

    async fn registered(&self, call: Call) -> Result<Result<(), RegisterError>, Gone> {
        let Reply::Registered(result) = self.call(call).await? else {
            unreachable!("Register, Renew and Unregister are answered by Registered");
        };
        Ok(result)
    }

    async fn call(&self, request: Call) -> Result<Reply, Gone> {
        let call = self.next_call();
        self.wait(|reply| Command::Call(call, request, reply)).await
    }

    /// Sends a command with a reply port, and waits for the answer.
    fn wait<T: Send>(
        &self,
        command: impl FnOnce(sync::Reply<T>) -> Command<M>,
    ) -> impl Future<Output = Result<T, Gone>> {
        let (reply, answer) = sync::reply();
        let sent = self.command(command(reply));
        async move {
            sent?;
            answer.await.map_err(|_| Gone)
        }
    }

    fn forget(&self, request: Call) {
        // Gone: then it is as good as done.
        let _ = self.command(Command::Forget(self.next_call(), request));
    }

    fn command(&self, command: Command<M>) -> Result<(), Gone> {
        self.commands.send(command).map(|_| ()).map_err(|_| Gone)
    }

    fn next_call(&self) -> CallId {
        // Relaxed: only that no two calls get the same number matters. 0 is the loop's own.
        CallId(self.calls.fetch_add(1, Relaxed) + 1)
    }
}

impl<M: 'static> Endpoint<M> {
    /// Returns where this endpoint can be reached, in the session in which it was opened.
    #[must_use]
    pub const fn reference(&self) -> Ref {
        self.reference
    }

    /// Returns which actor of its node it is.
    #[must_use]
    pub const fn actor(&self) -> ActorId {
        self.reference.actor
    }

    /// Waits for the next message; `None` once the node has stopped. Cancel safe.
    pub async fn receive(&mut self) -> Option<Letter> {
        self.letters.receive().await
    }

    /// Answers a request; 0 is success.
    pub fn answer(&self, request: Request, status: u8, tag: u32, payload: Vec<u8>) {
        self.handle.forget(Call::Answer { request, status, tag, payload });
    }

    /// [`Handle::send`], from this endpoint.
    ///
    /// # Errors
    ///
    /// [`Gone`], or why nothing was queued.
    pub async fn send(
        &self,
        to: Ref,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Result<u64, SendError>, Gone> {
        let from = self.actor();
        self.handle.send_from(from, to, tag, payload).await
    }

    /// [`Handle::send_tracked`], from this endpoint.
    ///
    /// # Errors
    ///
    /// [`Gone`], or why nothing was queued.
    pub async fn send_tracked(
        &self,
        to: Ref,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Result<Tracked, SendError>, Gone> {
        let from = self.actor();
        self.handle.send_tracked_from(from, to, tag, payload).await
    }

    /// [`Handle::ask`], from this endpoint.
    ///
    /// # Errors
    ///
    /// [`Gone`], or why there is no answer.
    pub async fn ask(
        &self,
        to: Ref,
        wait: Duration,
        tag: u32,
        payload: Vec<u8>,
    ) -> Result<Result<Answer, AskError>, Gone> {
        let from = self.actor();
        self.handle.ask_from(from, to, wait, tag, payload).await
    }
}

impl<M: 'static> Drop for Endpoint<M> {
    fn drop(&mut self) {
        self.handle.forget(Call::Close(self.reference.actor));
    }
}

impl Tracked {
    /// Waits until it is known what became of the message.
    ///
    /// # Errors
    ///
    /// [`Gone`]: nobody knows any more.
    pub async fn outcome(self) -> Result<Outcome, Gone> {
        self.outcome.await.map_err(|_| Gone)
    }
}

/// Cancels an ask whose future is dropped before its answer came.
struct Patience<'a, M: 'static> {
    handle: &'a Handle<M>,
    call: Option<CallId>,
}

impl<M: 'static> Drop for Patience<'_, M> {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.handle.forget(Call::Cancel(call));
        }
    }
}

fn sent(reply: Reply) -> Result<u64, SendError> {
    let Reply::Sent(result) = reply else {
        unreachable!("Send is answered by Sent");
    };
    result
}
