//! A single-use port for one answer: the asker waits, the asked answers or lets go.
//!
//! # State
//!
//! A byte, a cell for the answer, a waker slot. The byte begins OPEN and changes once more at
//! most twice: the asked moves it to ANSWERED, DROPPED or RESTARTED, the asker to GONE.
//!
//! ```text
//!           send, drop, restarted                 the asker goes
//!   OPEN ──────────────────────────► ANSWERED … ───────────────► GONE   asker drops the answer
//!     │     the asker goes                   send
//!     └────────────────────────────► GONE ────────────────► ANSWERED    asked gets it back
//! ```
//!
//! # Invariants
//!
//! 1. Each side exchanges the byte once when it ends, so exactly one side finds the other's mark.
//! 2. Before its exchange the cell belongs to the asked. Afterwards it belongs to the asker,
//!    unless the exchange found GONE.
//! 3. The asker takes the answer out at most once: the cell is an `Option`.
//!
//! # Orderings
//!
//! | edge | release                  | acquire                      | makes visible       |
//! |------|--------------------------|------------------------------|---------------------|
//! | E1   | the asked's exchange     | poll loads, or the asker's exchange | the answer   |
//! | E2   | the asker's exchange     | the asked's exchange         | that nobody reads the cell |
//!
//! That no wake is lost is the waker slot's argument.
//!
//! Checked by `models/tests/reply.rs`, which also checks that losing the orderings is noticed.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::task::{Context, Poll};

use crate::atomics::{AtomicOf, Atomics, RaceCell, StdAtomics};
use crate::waker::WakerSlot;

/// Neither side has ended.
const OPEN: u8 = 0;
/// The answer is in the cell.
const ANSWERED: u8 = 1;
/// The asked let the port go.
const DROPPED: u8 = 2;
/// The asked's incarnation ended.
const RESTARTED: u8 = 3;
/// The asker does not wait any more.
const GONE: u8 = 4;

/// The asked's end: answer once, or drop it.
pub struct Reply<T, A: Atomics = StdAtomics> {
    port: A::Arc<Port<T, A>>,
    /// Whether the exchange has happened.
    ended: bool,
}

/// The asker's end: a future of the answer. Dropping it gives up the question.
pub struct Answer<T, A: Atomics = StdAtomics> {
    port: A::Arc<Port<T, A>>,
    ended: bool,
}

/// Why there will be no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The port was dropped without an answer.
    Dropped,
    /// The incarnation that held the port has ended (G153).
    Restarted,
}

/// An answer that came after the asker had gone. Routine after a timeout; counted by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late<T>(pub T);

/// What the two ends share.
struct Port<T, A: Atomics> {
    state: A::U8,
    answer: A::Cell<Option<T>>,
    asker: WakerSlot<A>,
    _mark: A::LeakMark,
}

// SAFETY: the cell has one owner at a time (invariant 2), handed on through E1.
unsafe impl<T: Send, A: Atomics> Sync for Port<T, A> {}
// SAFETY: the answer is sent with the port.
unsafe impl<T: Send, A: Atomics> Send for Port<T, A> {}
// SAFETY: an end only gives access to the shared port, which is `Sync`.
unsafe impl<T: Send, A: Atomics> Send for Reply<T, A> {}
// SAFETY: as for `Reply`.
unsafe impl<T: Send, A: Atomics> Send for Answer<T, A> {}

/// Creates a port and returns its two ends.
pub fn reply<T: Send>() -> (Reply<T>, Answer<T>) {
    reply_in()
}

/// [`reply`], in a chosen family of shared memory. Only models name the family.
pub fn reply_in<T: Send, A: Atomics>() -> (Reply<T, A>, Answer<T, A>) {
    let port = A::Arc::from(Port {
        state: A::U8::new(OPEN),
        answer: A::Cell::new(None),
        asker: WakerSlot::new(),
        _mark: A::LeakMark::default(),
    });
    (
        Reply {
            port: port.clone(),
            ended: false,
        },
        Answer { port, ended: false },
    )
}

impl<T, A: Atomics> Reply<T, A> {
    /// Answers.
    ///
    /// # Errors
    ///
    /// [`Late`] carries the answer back: the asker has gone.
    pub fn send(mut self, answer: T) -> Result<(), Late<T>> {
        // SAFETY: before our exchange the cell is ours (invariant 2).
        self.port
            .answer
            .with_mut(|cell| unsafe { *cell = Some(answer) });
        if self.end(ANSWERED) {
            return Ok(());
        }
        // SAFETY: the exchange found GONE, so the cell is still ours (invariant 2).
        let answer = self.port.answer.with_mut(|cell| unsafe { (*cell).take() });
        Err(Late(answer.expect(
            "the answer was put there above, and the asker does not read it",
        )))
    }

    /// Tells the asker that the incarnation which held the port has ended (G153).
    pub fn restarted(mut self) {
        self.end(RESTARTED);
    }

    /// Ends this side and wakes the asker; false if it has gone.
    fn end(&mut self, state: u8) -> bool {
        self.ended = true;
        // E1: the answer. E2: that the asker does not read the cell.
        if self.port.state.swap(state, AcqRel) == GONE {
            return false;
        }
        self.port.asker.wake();
        true
    }
}

impl<T, A: Atomics> Drop for Reply<T, A> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(DROPPED);
        }
    }
}

impl<T, A: Atomics> Answer<T, A> {
    /// What the asked has said so far.
    fn said(&mut self) -> Option<Result<T, Unanswered>> {
        let said = match self.port.state.load(Acquire) {
            // E1: the answer.
            OPEN => return None,
            ANSWERED => {
                // SAFETY: the asked has ended, so the cell is ours (invariant 2).
                let answer = self.port.answer.with_mut(|cell| unsafe { (*cell).take() });
                Ok(answer.expect("the port was polled after it had given its answer"))
            }
            RESTARTED => Err(Unanswered::Restarted),
            _ => Err(Unanswered::Dropped),
        };
        self.ended = true;
        Some(said)
    }
}

impl<T, A: Atomics> Future for Answer<T, A> {
    type Output = Result<T, Unanswered>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(said) = self.said() {
            return Poll::Ready(said);
        }
        // SAFETY: only the asker's end registers, by `&mut self`.
        unsafe { self.port.asker.register(cx.waker()) };
        self.said().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<T, A: Atomics> Unpin for Answer<T, A> {}

impl<T, A: Atomics> Drop for Answer<T, A> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        // E2: that we read no more. E1: the answer, if it came meanwhile.
        if self.port.state.swap(GONE, AcqRel) == ANSWERED {
            // SAFETY: the asked has ended before us, so the cell is ours (invariant 2).
            drop(self.port.answer.with_mut(|cell| unsafe { (*cell).take() }));
        }
    }
}

#[cfg(test)]
mod tests;
