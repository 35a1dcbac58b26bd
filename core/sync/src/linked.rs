//! Lane (a): a list with a stub; a sender swaps itself in as the newest, then links its
//! predecessor to itself.
//!
//! # State
//!
//! `newest` is the node that was pushed last, or the stub. Each node has `next`, null until its
//! successor has linked it. The receiver has `oldest`: the stub, or the node to be taken next.
//!
//! ```text
//!   oldest ──► a ──next──► b   c ──next──► d ◄── newest        b: swapped out of `newest` by c,
//!                           ╌╌╌                                  not linked yet: in flight
//! ```
//!
//! # Invariants
//!
//! 1. A node is swapped into `newest` once per life, and out of it by exactly one successor, the
//!    only one to store its `next`.
//! 2. The receiver frees a node after it has read a non-null `next`: the last access of any sender
//!    to the node (G62). The stub is freed with the lane.
//! 3. The stub is in the list at most once: the receiver pushes it only when `oldest` is not the
//!    stub and is the last node.
//! 4. If `newest` is the stub, every message has been taken: so the push whose predecessor is the
//!    stub is the one that finds the lane empty, and says `wake`.
//! 5. Only the receiver touches its position, and messages in the list (the contract of [`Lane`]).
//!
//! # Orderings
//!
//! | edge | release                 | acquire                        | makes visible           |
//! |------|-------------------------|--------------------------------|-------------------------|
//! | E1   | push stores `prev.next` | pop loads `next`               | the message, the node   |
//! | E2 | push swaps `newest` | the next push swaps `newest` | the initialised node |
//! | E3 | push swaps `newest` | pop loads `newest` | nothing: tells Empty from InFlight |
//! | E4 | close stores `closed` | push loads `closed` | nothing: later sends are refused |
//!
//! Close is eventual (G113): a push that read the flag too early is accepted after it. If `Closed`
//! has been popped by then, the message stays in the list and goes with the lane.
//!
//! Checked by `models/tests/linked.rs`, which also checks that losing the orderings is noticed.
//!
//! # Source
//!
//! D. Vyukov, *Intrusive MPSC node-based queue*, 1024cores.net.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use crate::atomics::{AtomicOf, Atomics, RaceCell, StdAtomics};
use crate::lane::{Closed, Dropper, Lane, Line, Pop, Pushed};

/// Lane (a): wait-free sending; the node is the letter.
pub struct Linked<M, A: Atomics = StdAtomics> {
    newest: Line<A::Ptr<Node<M, A>>>,
    closed: A::Bool,
    stub: *mut Node<M, A>,
    receiver: Line<A::Cell<Position<M, A>>>,
}

/// Where the receiver is.
struct Position<M, A: Atomics> {
    /// The stub, or the node to be taken next.
    oldest: *mut Node<M, A>,
    /// Whether a pop has said Closed: then all do, and what a late push brings in stays (G83).
    ended: bool,
}

/// A message and its successor. The stub's message is never initialised.
struct Node<M, A: Atomics> {
    next: A::Ptr<Node<M, A>>,
    message: A::Cell<MaybeUninit<M>>,
    _mark: A::LeakMark,
}

// SAFETY: messages are handed over through E1, and `oldest` has one user (invariant 5); so sharing
// the lane only sends `M`.
unsafe impl<M: Send, A: Atomics> Sync for Linked<M, A> {}
// SAFETY: as above; the lane owns its nodes and their messages.
unsafe impl<M: Send, A: Atomics> Send for Linked<M, A> {}

impl<M, A: Atomics> Linked<M, A> {
    /// Creates an empty lane.
    pub fn new() -> Self {
        let stub = Node::new(MaybeUninit::uninit());
        Self {
            newest: Line(A::Ptr::new(stub)),
            closed: A::Bool::new(false),
            stub,
            receiver: Line(A::Cell::new(Position { oldest: stub, ended: false })),
        }
    }

    /// Swaps `node` in as the newest and links its predecessor to it; returns the predecessor's
    /// address.
    ///
    /// # Safety
    ///
    /// The caller owns the node, which is not in the list.
    #[inline]
    unsafe fn link(&self, node: *mut Node<M, A>) -> *mut Node<M, A> {
        // E2 both ways: the predecessor's initialisation comes before our write to its `next`,
        // and ours before our successor's.
        let previous = self.newest.0.swap(node, AcqRel);
        // SAFETY: the receiver frees the predecessor only after it has read the `next` that we
        // are about to store (invariants 1, 2).
        unsafe { (*previous).next.store(node, Release) }; // E1: the message and the node.
        previous
    }

    /// Takes the oldest message.
    ///
    /// # Safety
    ///
    /// The caller is the receiver, and `oldest` its word.
    #[inline]
    unsafe fn pop_from(&self, oldest: &mut *mut Node<M, A>) -> Pop<M> {
        // SAFETY (whole body): `oldest` is in the list, so not freed (invariant 2), and a node
        // whose `next` was read is the receiver's alone.
        let mut node = *oldest;
        // SAFETY: as above.
        let mut next = unsafe { (*node).next.load(Acquire) }; // E1: the next node.
        if node == self.stub {
            if next.is_null() {
                return self.absent(node);
            }
            *oldest = next;
            node = next;
            // SAFETY: as above: a linked node is in the list.
            next = unsafe { (*node).next.load(Acquire) }; // E1: the next node.
        }
        if next.is_null() {
            // E3. It only tells whether `node` is the last one.
            if self.newest.0.load(Acquire) != node {
                return Pop::InFlight;
            }
            // SAFETY: the stub is not in the list: `oldest` has passed it (invariant 3).
            unsafe {
                // Relaxed: the swap in `link` publishes it (E2).
                (*self.stub).next.store(ptr::null_mut(), Relaxed);
                self.link(self.stub);
                next = (*node).next.load(Acquire); // E1: the next node.
            }
            if next.is_null() {
                return Pop::InFlight; // A push came between: it has `node` to link.
            }
        }
        *oldest = next;
        // SAFETY: `node` was initialised by its push, E1 made it visible, and its `next` was
        // read, so it is ours (invariant 2).
        Pop::Some(unsafe { Node::take(node) })
    }

    /// Tells why there is nothing behind the stub.
    fn absent(&self, stub: *mut Node<M, A>) -> Pop<M> {
        // E3. It only tells Empty from InFlight.
        if self.newest.0.load(Acquire) != stub {
            Pop::InFlight
        } else if self.closed.load(Relaxed) {
            // Relaxed: the receiver itself stored it.
            Pop::Closed
        } else {
            Pop::Empty
        }
    }
}

impl<M, A: Atomics> Node<M, A> {
    fn new(message: MaybeUninit<M>) -> *mut Self {
        Box::into_raw(Box::new(Self {
            next: A::Ptr::new(ptr::null_mut()),
            message: A::Cell::new(message),
            _mark: A::LeakMark::default(),
        }))
    }

    /// Frees a node and returns its message.
    ///
    /// # Safety
    ///
    /// The caller owns the node, and it is not the stub.
    unsafe fn take(node: *mut Self) -> M {
        // SAFETY: the caller owns the node, which came from `Box::into_raw`, with a message. Its
        // cell is asked, so that a checker sees the access.
        unsafe {
            let message = (*node).message.with_mut(|message| (*message).assume_init_read());
            drop(Box::from_raw(node));
            message
        }
    }
}

impl<M, A: Atomics> Lane<M, A> for Linked<M, A> {
    #[inline]
    fn push(&self, message: M) -> Result<Pushed, Closed<M>> {
        // E4: a send that happens after the close is refused.
        if self.closed.load(Acquire) {
            return Err(Closed(message));
        }
        let node = Node::new(MaybeUninit::new(message));
        // SAFETY: the node is new, so ours.
        let previous = unsafe { self.link(node) };
        Ok(Pushed { wake: previous == self.stub })
    }

    #[inline]
    unsafe fn pop(&self) -> Pop<M> {
        // SAFETY: the caller is the receiver, so the position is ours (invariant 5).
        self.receiver.0.with_mut(|at| unsafe {
            let at = &mut *at;
            if at.ended {
                return Pop::Closed;
            }
            let popped = self.pop_from(&mut at.oldest);
            at.ended = matches!(popped, Pop::Closed);
            popped
        })
    }

    unsafe fn park(&self) -> bool {
        // There is no mark: the push into an empty lane always says `wake` (invariant 4). So
        // parking succeeds when the lane is still empty, and never on InFlight (G63).
        // SAFETY: the caller is the receiver, so the position is ours (invariant 5).
        let oldest = self.receiver.0.with(|at| unsafe { (*at).oldest });
        // E3. A push that this load misses has not said `wake` yet.
        oldest == self.stub && self.newest.0.load(Acquire) == self.stub
    }

    unsafe fn close(&self) {
        self.closed.store(true, Release); // E4.
    }
}

impl<M, A: Atomics> Default for Linked<M, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M, A: Atomics> Drop for Linked<M, A> {
    fn drop(&mut self) {
        let mut dropper = Dropper::default();
        // SAFETY: `&mut self`: there is no sender any more, and the receiver is us. With no push
        // in progress nothing is in flight, so the stub is all that is left.
        self.receiver.0.with_mut(|at| unsafe {
            while let Pop::Some(message) = self.pop_from(&mut (*at).oldest) {
                dropper.drop(message);
            }
            drop(Box::from_raw(self.stub));
        });
        dropper.finish();
    }
}

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;
