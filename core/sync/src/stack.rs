//! Lane (b): an exchange loop on one head; the receiver swaps the whole list out and reverses it.
//!
//! # State
//!
//! `head` is the newest node that nobody has taken, or null (empty), PARKED (empty, and the
//! receiver waits), CLOSED. Each node has the address of the one before it. The receiver has a
//! private list, oldest first.
//!
//! ```text
//!   head ──► newest ──► … ──► null          private list: oldest ──► … ──► null
//! ```
//!
//! # Invariants
//!
//! 1. A node belongs to its pusher until an exchange puts it into `head`; from there on to the
//!    list; once swapped out, to the receiver.
//! 2. Only the receiver takes nodes out of `head`, always all of them.
//! 3. A node's `link` is the address of the node that its exchange replaced, or 0. It may be
//!    that of another life of the same address, which is right for the list; so links are exposed
//!    addresses (G66).
//! 4. Only the receiver touches the private list (the contract of [`Lane`]).
//! 5. CLOSED is final. PARKED and CLOSED are below the first page, so no node has their address.
//!
//! # Orderings
//!
//! | edge | release               | acquire                       | makes visible                |
//! |------|-----------------------|-------------------------------|------------------------------|
//! | E1   | push exchanges `head` | pop, close swap `head`        | messages and links: all pushes in the list are one release sequence |
//! | E2   | park exchanges `head` | the push that replaces PARKED | what the receiver registered |
//! | E3   | push exchanges `head` | park fails                    | that there is a message      |
//!
//! Checked by `models/tests/stack.rs`, which also checks that losing the orderings is noticed.
//!
//! # Source
//!
//! R. K. Treiber, *Systems programming: coping with parallelism*, IBM RJ 5118, 1986.

use std::marker::PhantomData;
use std::mem;
use std::ptr;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use crate::atomics::{AtomicOf, Atomics, RaceCell, StdAtomics};
use crate::lane::{Closed, Dropper, Lane, Line, Pop, Pushed};

/// `head` of an empty lane whose receiver waits.
const PARKED: usize = 8;
/// `head` of a closed lane.
const CLOSED: usize = 16;

/// Lane (b): exact close, exact emptiness, one allocation a message.
pub struct Stack<M, A: Atomics = StdAtomics> {
    head: Line<A::Ptr<Node<M, A>>>,
    /// The private list: its oldest node.
    receiver: Line<A::Cell<*mut Node<M, A>>>,
    messages: PhantomData<M>,
}

/// A message, and the address of the node before it.
struct Node<M, A: Atomics> {
    body: A::Cell<Body<M>>,
    _mark: A::LeakMark,
}

/// What moves from the pusher to the receiver.
struct Body<M> {
    link: usize,
    message: M,
}

// SAFETY: a node has one owner at a time and is handed over through E1 (invariant 1), and the
// private list has one user (invariant 4); so sharing the lane only sends `M`.
unsafe impl<M: Send, A: Atomics> Sync for Stack<M, A> {}
// SAFETY: as above; the lane owns its nodes and their messages.
unsafe impl<M: Send, A: Atomics> Send for Stack<M, A> {}

impl<M, A: Atomics> Stack<M, A> {
    /// Creates an empty lane.
    pub fn new() -> Self {
        Self {
            head: Line(A::Ptr::new(ptr::null_mut())),
            receiver: Line(A::Cell::new(ptr::null_mut())),
            messages: PhantomData,
        }
    }

    /// Takes the first node off the private list.
    ///
    /// # Safety
    ///
    /// `list` is the private list, used by nobody else, and not empty.
    unsafe fn shift(list: &mut *mut Node<M, A>) -> M {
        // SAFETY: nodes of the private list are the receiver's (invariant 1); each came from
        // `Box::into_raw` and is taken once, since the list moves on.
        let node = unsafe { Box::from_raw(*list) };
        let body = node.body.into_inner();
        *list = ptr::with_exposed_provenance_mut(body.link);
        body.message
    }

    /// Reverses a list that was swapped out, so that its oldest node is first, and puts it before
    /// `rest`.
    ///
    /// # Safety
    ///
    /// The caller is the receiver and took `newest` out of `head` by an acquiring swap (E1).
    unsafe fn reverse(newest: *mut Node<M, A>) -> *mut Node<M, A> {
        let mut reversed = ptr::null_mut::<Node<M, A>>();
        let mut node = newest;
        while !node.is_null() {
            // SAFETY: a swapped-out node is the receiver's (invariant 1).
            let link = unsafe {
                (*node)
                    .body
                    .with_mut(|body| mem::replace(&mut (*body).link, reversed.addr()))
            };
            reversed = node;
            node = ptr::with_exposed_provenance_mut(link);
        }
        reversed
    }

    /// Whether `head` is a node, rather than null or a mark.
    fn is_node(head: *mut Node<M, A>) -> bool {
        head.addr() > CLOSED
    }

    /// Takes the oldest message.
    ///
    /// # Safety
    ///
    /// The caller is the receiver, and `list` the private list.
    #[inline]
    unsafe fn pop_from(&self, list: &mut *mut Node<M, A>) -> Pop<M> {
        if list.is_null() {
            // Relaxed: a stale null is an Empty of an instant ago; `park` decides.
            let head = self.head.0.load(Relaxed);
            if !Self::is_node(head) {
                return if head.addr() == CLOSED {
                    Pop::Closed
                } else {
                    Pop::Empty
                };
            }
            let newest = self.head.0.swap(ptr::null_mut(), AcqRel); // E1: all nodes of the list.
            // SAFETY: only the receiver takes nodes out (invariant 2), so the swap got a list.
            *list = unsafe { Self::reverse(newest) };
        }
        // SAFETY: the list is ours and not empty.
        Pop::Some(unsafe { Self::shift(list) })
    }

    /// Closes, and moves what is inside to the end of the private list.
    ///
    /// # Safety
    ///
    /// The caller is the receiver, and `list` the private list.
    unsafe fn close_into(&self, list: &mut *mut Node<M, A>) {
        // E1: all nodes of the list. Every later push reads CLOSED and is refused.
        let head = self
            .head
            .0
            .swap(ptr::without_provenance_mut(CLOSED), AcqRel);
        if !Self::is_node(head) {
            return;
        }
        // SAFETY: a swapped-out list is the receiver's (invariant 1).
        let added = unsafe { Self::reverse(head) };
        if list.is_null() {
            *list = added;
            return;
        }
        let mut last = *list;
        // SAFETY: nodes of the private list are the receiver's (invariant 1).
        unsafe {
            loop {
                let link = (*last).body.with(|body| (*body).link);
                if link == 0 {
                    break;
                }
                last = ptr::with_exposed_provenance_mut(link);
            }
            (*last).body.with_mut(|body| (*body).link = added.addr());
        }
    }
}

impl<M, A: Atomics> Lane<M, A> for Stack<M, A> {
    fn push(&self, message: M) -> Result<Pushed, Closed<M>> {
        let mut head = self.head.0.load(Relaxed); // A first guess: the exchange decides.
        if head.addr() == CLOSED {
            return Err(Closed(message)); // Final (invariant 5); spares the allocation.
        }
        let node = Box::into_raw(Box::new(Node::<M, A> {
            body: A::Cell::new(Body { link: 0, message }),
            _mark: A::LeakMark::default(),
        }));
        node.expose_provenance();
        loop {
            if head.addr() == CLOSED {
                // SAFETY: the node was never in `head`, so it is still ours (invariant 1).
                let node = unsafe { Box::from_raw(node) };
                return Err(Closed(node.body.into_inner().message));
            }
            let link = if Self::is_node(head) { head.addr() } else { 0 };
            // SAFETY: until the exchange succeeds, the node is ours (invariant 1).
            unsafe { (*node).body.with_mut(|body| (*body).link = link) };
            // E1: the node to the receiver; E2 when this replaces PARKED. Relaxed on failure:
            // only the next exchange decides.
            match self
                .head
                .0
                .compare_exchange_weak(head, node, AcqRel, Relaxed)
            {
                Ok(old) => {
                    return Ok(Pushed {
                        wake: old.addr() == PARKED,
                    });
                }
                Err(now) => head = now,
            }
        }
    }

    #[inline]
    unsafe fn pop(&self) -> Pop<M> {
        // SAFETY: the caller is the receiver, so the private list is ours (invariant 4).
        self.receiver
            .0
            .with_mut(|list| unsafe { self.pop_from(&mut *list) })
    }

    unsafe fn park(&self) -> bool {
        // SAFETY: the caller is the receiver, so the private list is ours (invariant 4).
        if !self.receiver.0.with(|list| unsafe { (*list).is_null() }) {
            return false;
        }
        let parked = ptr::without_provenance_mut(PARKED);
        // E2: what was registered before. On failure E3: the push that made it fail.
        match self
            .head
            .0
            .compare_exchange(ptr::null_mut(), parked, AcqRel, Acquire)
        {
            Ok(_) => true,
            Err(now) => now.addr() == PARKED,
        }
    }

    unsafe fn close(&self) {
        // SAFETY: the caller is the receiver, so the private list is ours (invariant 4).
        self.receiver
            .0
            .with_mut(|list| unsafe { self.close_into(&mut *list) });
    }
}

impl<M, A: Atomics> Default for Stack<M, A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M, A: Atomics> Drop for Stack<M, A> {
    fn drop(&mut self) {
        let mut dropper = Dropper::default();
        // SAFETY: `&mut self`: there is no sender any more, and the receiver is us.
        self.receiver.0.with_mut(|list| unsafe {
            while let Pop::Some(message) = self.pop_from(&mut *list) {
                dropper.drop(message);
            }
        });
        dropper.finish();
    }
}

#[cfg(test)]
mod props;
#[cfg(test)]
mod tests;
