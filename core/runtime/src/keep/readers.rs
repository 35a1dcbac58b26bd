//! Who hears of events: readers, each at its own pace, and handlers in this process (K331–K334).

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use machines::keeper::io::Reader;
use machines::kernel::Refusal;
use machines::kernel::event::Event;
use machines::kernel::stream::Batch;
use sync::{Answer, Channel};

use super::Ask;
use crate::handle::Gone;

/// What a reader is given when it wants more.
pub(super) type Given = Result<Box<Batch>, Box<Refusal>>;
/// Hears of every durable event, with its number.
pub(super) type Handler = dyn FnMut(u64, &Event) + Send;

/// Events of a kernel, in order, from a cursor on (K331). Nothing is read for it before it is asked
/// for; a slow reader loses nothing.
pub struct Events {
    asks: Channel<Ask>,
    reader: Reader,
    /// A batch that was asked for.
    asked: Option<Answer<Given>>,
}

impl Events {
    pub(super) const fn new(asks: Channel<Ask>, reader: Reader) -> Self {
        Self { asks, reader, asked: None }
    }

    /// Waits for the next events; each batch says where the next one begins. Cancel safe: a dropped
    /// call loses nothing.
    ///
    /// # Errors
    ///
    /// [`Gone`] if the kernel's loop has ended: go on with another reader after its next start.
    /// Inside, why this reader gets no more: `cursor_too_old`, `cursor_ahead`, or the end.
    pub async fn next(&mut self) -> Result<Result<Box<Batch>, Box<Refusal>>, Gone> {
        if self.asked.is_none() {
            let (reply, answer) = sync::reply();
            let asked = self.asks.send(Ask::Want(self.reader, reply));
            asked.map_err(|_| Gone)?;
            self.asked = Some(answer);
        }
        let answer = self.asked.as_mut().expect("it was asked for");
        let given = answer.await;
        self.asked = None;
        given.map_err(|_| Gone)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // Gone: so are all readers.
        let _ = self.asks.send(Ask::Close(self.reader));
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("reader", &self.reader).finish_non_exhaustive()
    }
}

/// The loop's end of all readers.
#[derive(Default)]
pub(super) struct Readers {
    opened: u64,
    /// Who waits for its next batch.
    waiting: BTreeMap<Reader, sync::Reply<Given>>,
    /// Who got no more before it asked, and has not gone.
    ended: BTreeMap<Reader, Box<Refusal>>,
}

impl Readers {
    /// Names a new one.
    pub(super) const fn open(&mut self) -> Reader {
        self.opened += 1;
        Reader(self.opened)
    }

    /// A reader waits. Says whether the keeper is to be asked.
    pub(super) fn wait(&mut self, reader: Reader, reply: sync::Reply<Given>) -> bool {
        match self.ended.remove(&reader) {
            Some(why) => {
                // Late: whoever asked has gone.
                let _ = reply.send(Err(why));
                false
            }
            None => {
                self.waiting.insert(reader, reply);
                true
            }
        }
    }

    pub(super) fn give(&mut self, reader: Reader, batch: Box<Batch>) {
        if let Some(reply) = self.waiting.remove(&reader) {
            // Late: whoever asked has gone.
            let _ = reply.send(Ok(batch));
        }
    }

    pub(super) fn end(&mut self, reader: Reader, why: Box<Refusal>) {
        match self.waiting.remove(&reader) {
            // Late: whoever asked has gone.
            Some(reply) => drop(reply.send(Err(why))),
            None => {
                self.ended.insert(reader, why);
            }
        }
    }

    pub(super) fn close(&mut self, reader: Reader) {
        self.waiting.remove(&reader);
        self.ended.remove(&reader);
    }
}

/// A handler that panicked, and is called no more (K334).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The number of the event that it was called with.
    pub event: u64,
    /// What it said.
    pub message: String,
}

/// The handlers of this process (K334).
#[derive(Default)]
pub(super) struct Handlers {
    all: Vec<Box<Handler>>,
}

impl Handlers {
    pub(super) fn add(&mut self, handler: Box<Handler>) {
        self.all.push(handler);
    }

    /// Tells events, in order, to each; returns those that panicked.
    pub(super) fn tell(&mut self, first: u64, events: &[Event]) -> Vec<Removed> {
        let mut removed = Vec::new();
        self.all.retain_mut(|handler| {
            let told = (first..).zip(events).try_for_each(|(number, event)| {
                // What it leaves behind is its own, and is dropped with it.
                let called = catch_unwind(AssertUnwindSafe(|| handler(number, event)));
                called.map_err(|panic| Removed { event: number, message: said(&*panic) })
            });
            told.map_err(|panicked| removed.push(panicked)).is_ok()
        });
        removed
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".to_owned())
}
