//! The keeper's loop: it carries commands, files and time to a node's kernel, and decides nothing.
//!
//! ```text
//!   KeeperHandle ─ commands ─► ┌──────────────┐ ── Input ──► ┌────────┐
//!   Files ──────── ended ────► │ keeper  loop │              │ Keeper │
//!   Clock ─────── deadline ──► │              │ ◄─ Output ── └────────┘
//!                              └──────────────┘ ──► Files, whoever waits, `listen`
//! ```
//!
//! It is another loop than that of the cluster's machines: kernel and cluster have nothing to tell
//! each other yet, and so a disk that stalls takes no heartbeat with it (K1: one owner each).

mod calls;
mod readers;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use machines::keeper::Keeper;
use machines::keeper::io::{
    Action, Call, Decided, File, Folder, Input, Op, Output, Reader, RefusedStart,
};
use machines::kernel::dispatch::effect::Effect;
use machines::kernel::event::Event;
use machines::kernel::ids::ServiceName;
use machines::kernel::principal::Principal;
use machines::kernel::query::{Answer, Query};
use machines::kernel::stream::Reading;
use machines::kernel::{Command, CommandBody, Refusal};
use sync::{Channel, Inbox, MailboxOptions, channel};

use crate::handle::Gone;
use crate::ports::{self, Clock, Fault, Files, LedgerFile, Task, TaskId, Told};
use crate::race::{Won, race};
pub use calls::Calls;
use calls::{Bindings, Bound};
pub use readers::{Events, Removed};
use readers::{Given, Handler, Handlers, Readers};

/// A look at the keeper between two inputs.
type Look = dyn FnOnce(&Keeper) + Send;

/// What a command is answered.
type Replied = Result<Decided, Box<Refusal>>;
/// What a query is answered.
type Answered = Result<Box<Answer>, Box<Refusal>>;

/// What a handle sends to the loop.
enum Ask {
    /// Decide this.
    Command(Box<Command>, sync::Reply<Replied>),
    /// Tell this.
    Query(Box<Principal>, Box<Query>, sync::Reply<Answered>),
    /// Open a reader of events.
    Open(Box<Principal>, Box<Reading>, sync::Reply<Reader>),
    /// Give a reader its next batch.
    Want(Reader, sync::Reply<Given>),
    /// A reader has gone.
    Close(Reader),
    /// Call this for every event.
    OnEvent(Box<Handler>),
    /// Call this for every try of a service.
    Bind(ServiceName, Bound, sync::Reply<Replied>),
    /// A handler of a service has gone.
    Unbind(ServiceName, Arc<()>),
    /// Look at the keeper.
    Look(Box<Look>),
    /// Stop cleanly.
    Stop,
}

/// The loop's end of the handles of a keeper.
pub struct Asks {
    inbox: Inbox<Ask>,
}

/// A keeper that runs somewhere else. Cheap to clone; when the last clone is dropped, the loop ends
/// without a clean stop.
#[derive(Clone)]
pub struct KeeperHandle {
    asks: Channel<Ask>,
}

/// How the loop ended.
#[derive(Debug)]
pub enum Kept {
    /// A user asked for it; all that was told is durable.
    Stopped,
    /// The last handle was dropped.
    Abandoned,
    /// The data folder must not be started on; nothing was changed.
    Refused(Box<RefusedStart>),
}

/// What the loop tells whoever runs it.
#[derive(Clone, Copy, Debug)]
pub enum Noted<'a> {
    /// The keeper said this.
    Output(&'a Output),
    /// A handler of events panicked and was removed (K334).
    Removed(&'a Removed),
    /// The disk failed at this. What follows from it is the keeper's to say.
    Fault(&'a Fault),
}

/// Makes the two ends between the users of a keeper and its loop.
#[must_use]
pub fn keeper_handle() -> (KeeperHandle, Asks) {
    let (asks, inbox) = channel(MailboxOptions::unbounded());
    (KeeperHandle { asks }, Asks { inbox })
}

impl KeeperHandle {
    /// Has `command` decided, and waits until what came of it is durable (K5).
    ///
    /// # Errors
    ///
    /// [`Gone`] if the loop has ended: whether the command took effect is not known. Inside, the
    /// refusal.
    pub async fn command(&self, command: Command) -> Result<Result<Decided, Box<Refusal>>, Gone> {
        let (reply, answer) = sync::reply();
        self.ask(Ask::Command(Box::new(command), reply))?;
        answer.await.map_err(|_| Gone)
    }

    /// Asks `query` in the name of `by`, and waits until all that the answer knows is durable (K5).
    ///
    /// # Errors
    ///
    /// [`Gone`]. Inside, the refusal.
    pub async fn query(
        &self,
        by: Principal,
        query: Query,
    ) -> Result<Result<Box<Answer>, Box<Refusal>>, Gone> {
        let (reply, answer) = sync::reply();
        self.ask(Ask::Query(Box::new(by), Box::new(query), reply))?;
        answer.await.map_err(|_| Gone)
    }

    /// Opens a reader of events, in the name of `by` (K331–K333).
    ///
    /// # Errors
    ///
    /// [`Gone`]. That the cursor is none is told by the first [`Events::next`].
    pub async fn events(&self, by: Principal, reading: Reading) -> Result<Events, Gone> {
        let (reply, answer) = sync::reply();
        self.ask(Ask::Open(Box::new(by), Box::new(reading), reply))?;
        let reader = answer.await.map_err(|_| Gone)?;
        Ok(Events::new(self.asks.clone(), reader))
    }

    /// Has `handler` called with the number of every event and the event, in their order, once it
    /// is durable, from now on (K334). It runs on the loop and must be short; if it panics, it is
    /// removed, which [`Noted::Removed`] tells.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub fn on_event(&self, handler: impl FnMut(u64, &Event) + Send + 'static) -> Result<(), Gone> {
        self.ask(Ask::OnEvent(Box::new(handler)))
    }

    /// Binds a handler in this process to a service of mode Push, in the place of an earlier one
    /// (K192): each try that starts is handed to it when that is durable, and what a restart
    /// interrupted again (K204).
    ///
    /// # Errors
    ///
    /// [`Gone`]. Inside, the refusal: there is no such service, or workers ask for its tasks.
    pub async fn bind_handler(
        &self,
        service: ServiceName,
    ) -> Result<Result<Calls, Box<Refusal>>, Gone> {
        let (calls, bound) = Calls::new(self.asks.clone(), service.clone());
        let (reply, answer) = sync::reply();
        self.ask(Ask::Bind(service, bound, reply))?;
        Ok(answer.await.map_err(|_| Gone)?.map(|_| calls))
    }

    /// Looks at the keeper between two inputs; `look` runs on the loop and must be short. What it
    /// sees may not be durable yet.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Keeper) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (reply, answer) = sync::reply();
        let look = move |keeper: &Keeper| {
            // Late: whoever asked has gone.
            let _ = reply.send(look(keeper));
        };
        self.ask(Ask::Look(Box::new(look)))?;
        answer.await.map_err(|_| Gone)
    }

    /// Asks for a clean stop; the loop ends when it is complete.
    ///
    /// # Errors
    ///
    /// [`Gone`]: it has ended already.
    pub fn stop(&self) -> Result<(), Gone> {
        self.ask(Ask::Stop)
    }

    fn ask(&self, ask: Ask) -> Result<(), Gone> {
        self.asks.send(ask).map(|_| ()).map_err(|_| Gone)
    }
}

impl fmt::Debug for KeeperHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeeperHandle").finish_non_exhaustive()
    }
}

/// Runs `keeper` over `files` until a user stops it. `listen` sees every output that is neither a
/// reply nor a task, and what became of handlers; it must not block.
pub async fn keep<C: Clock, F: Files>(
    clock: C,
    files: F,
    keeper: Keeper,
    mut asks: Asks,
    listen: impl FnMut(Noted<'_>) + Send,
) -> Kept {
    let mut node = Loop {
        clock,
        files,
        keeper,
        waiting: BTreeMap::new(),
        asking: BTreeMap::new(),
        readers: Readers::default(),
        handlers: Handlers::default(),
        bindings: Bindings::default(),
        calls: 0,
        listen,
        ended: None,
    };
    node.carry();
    loop {
        if let Some(ended) = node.ended.take() {
            return ended;
        }
        let due = node.clock.sleep_until(node.keeper.deadline());
        match race(node.files.ended(), race(asks.inbox.receive(), due)).await {
            Won::Left((id, result)) => node.done(id, result),
            Won::Right(Won::Left(Some(ask))) => node.obey(ask),
            Won::Right(Won::Left(None)) => return Kept::Abandoned,
            Won::Right(Won::Right(())) => node.hand(Input::Tick),
        }
        node.unbind();
    }
}

/// One keeper in its world.
struct Loop<C, F, L> {
    clock: C,
    files: F,
    keeper: Keeper,
    waiting: BTreeMap<Call, sync::Reply<Replied>>,
    asking: BTreeMap<Call, sync::Reply<Answered>>,
    readers: Readers,
    handlers: Handlers,
    bindings: Bindings,
    calls: u64,
    listen: L,
    ended: Option<Kept>,
}

impl<C: Clock, F: Files, L: FnMut(Noted<'_>) + Send> Loop<C, F, L> {
    fn obey(&mut self, ask: Ask) {
        match ask {
            Ask::Command(command, reply) => {
                let call = self.call();
                self.waiting.insert(call, reply);
                self.hand(Input::Command { call, command });
            }
            Ask::Query(by, query, reply) => {
                let call = self.call();
                self.asking.insert(call, reply);
                self.hand(Input::Query { call, by, query });
            }
            Ask::Open(by, reading, reply) => {
                let reader = self.readers.open();
                self.hand(Input::Open { reader, by, reading });
                if reply.send(reader).is_err() {
                    self.close(reader); // Whoever asked has gone.
                }
            }
            Ask::Want(reader, reply) => {
                if self.readers.wait(reader, reply) {
                    self.hand(Input::Want(reader));
                }
            }
            Ask::Close(reader) => self.close(reader),
            Ask::OnEvent(handler) => self.handlers.add(handler),
            Ask::Bind(service, bound, reply) => {
                let call = self.call();
                self.waiting.insert(call, reply);
                self.bindings.bind(call, service.clone(), bound);
                let command = own(CommandBody::BindHandler { service });
                self.hand(Input::Command { call, command });
            }
            Ask::Unbind(service, binding) => self.bindings.unbind(&service, &binding),
            Ask::Look(look) => look(&self.keeper),
            Ask::Stop => self.hand(Input::Stop),
        }
    }

    const fn call(&mut self) -> Call {
        self.calls += 1;
        Call(self.calls)
    }

    /// A task of the disk has ended. The keeper goes by the kind of a failure; in words, it is for
    /// people.
    fn done(&mut self, id: TaskId, result: Result<Told, Fault>) {
        if let Err(fault) = &result {
            (self.listen)(Noted::Fault(fault));
        }
        self.hand(told(Op(id.0), result));
    }

    /// Tells the kernel of handlers that have gone; of those again that it refused for a moment.
    fn unbind(&mut self) {
        for service in self.bindings.owed() {
            let call = self.call();
            self.bindings.tell(call, service.clone());
            let command = own(CommandBody::UnbindHandler { service });
            self.hand(Input::Command { call, command });
        }
    }

    fn close(&mut self, reader: Reader) {
        self.readers.close(reader);
        self.hand(Input::Close(reader));
    }

    fn hand(&mut self, input: Input) {
        self.keeper.handle(self.clock.now(), self.clock.wall(), input);
        self.carry();
    }

    fn carry(&mut self) {
        while let Some(output) = self.keeper.poll() {
            match output {
                Output::Disk(op, action) => self.files.submit(TaskId(op.0), task(action)),
                Output::Reply(call, result) => {
                    self.bindings.answered(call, &result);
                    if let Some(reply) = self.waiting.remove(&call) {
                        // Late: whoever asked has gone.
                        let _ = reply.send(result);
                    }
                }
                Output::Answer(call, result) => {
                    if let Some(reply) = self.asking.remove(&call) {
                        // Late: whoever asked has gone.
                        let _ = reply.send(result);
                    }
                }
                Output::Batch(reader, batch) => self.readers.give(reader, batch),
                Output::Ended(reader, why) => self.readers.end(reader, why),
                Output::Events { first, events } => {
                    events.iter().for_each(|event| self.bindings.heard(event));
                    for removed in self.handlers.tell(first, &events) {
                        (self.listen)(Noted::Removed(&removed));
                    }
                    (self.listen)(Noted::Output(&Output::Events { first, events }));
                }
                Output::Effect(Effect::HandlerCall { service, task }) => {
                    self.bindings.call(&service, task);
                }
                Output::Refused(why) => {
                    (self.listen)(Noted::Output(&Output::Refused(why.clone())));
                    self.ended = Some(Kept::Refused(why));
                }
                Output::Stopped => {
                    (self.listen)(Noted::Output(&Output::Stopped));
                    self.ended = Some(Kept::Stopped);
                }
                other @ (Output::Started(_)
                | Output::Effect(
                    Effect::TaskReady { .. } | Effect::DispatchEnded { .. },
                )
                | Output::Snapshot { .. }
                | Output::SnapshotFailed { .. }
                | Output::Stalled(_)) => (self.listen)(Noted::Output(&other)),
            }
        }
    }
}

/// A command of the node itself.
fn own(body: CommandBody) -> Box<Command> {
    Box::new(Command { by: Principal::node(), worker: None, rate: None, body })
}

/// Says an operation in the words of the port.
fn task(action: Action) -> Task {
    match action {
        Action::List(folder) => Task::List { folder: folder_of(folder) },
        Action::Read { file, offset, bytes } => Task::ReadAt { file: file_of(file), offset, bytes },
        Action::Create { file, zeros } => Task::Create { file: file_of(file), bytes: zeros },
        Action::Write { file, offset, bytes } => Task::Write { file: file_of(file), offset, bytes },
        Action::Sync(file) => Task::Sync { file: file_of(file) },
        Action::Rename { from, to } => Task::Rename { from: file_of(from), to: file_of(to) },
        Action::Remove(file) => Task::Remove { file: file_of(file) },
        Action::SyncDir(folder) => Task::SyncDir { folder: folder_of(folder) },
    }
}

const fn folder_of(folder: Folder) -> ports::Folder {
    match folder {
        Folder::Journal => ports::Folder::Journal,
        Folder::Snapshots => ports::Folder::Snapshots,
    }
}

const fn file_of(file: File) -> LedgerFile {
    match file {
        File::Journal(file) => LedgerFile::Journal(file),
        File::Snapshot(file) => LedgerFile::Snapshot(file),
    }
}

/// Says what became of an operation in the keeper's words.
fn told(op: Op, result: Result<Told, Fault>) -> Input {
    match result {
        Ok(Told::Listed(files)) => Input::Listed(op, files),
        Ok(Told::Read(bytes)) => Input::Read(op, bytes),
        Ok(Told::Done | Told::Room(_)) => Input::Done(op),
        Err(Fault { kind, .. }) => Input::Failed(op, kind),
    }
}
