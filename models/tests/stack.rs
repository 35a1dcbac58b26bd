//! Goal: lane (b) loses nothing, keeps each sender's order, wakes and closes exactly, frees all.
//! Method: loom without a bound where it can; shuttle with 8 senders; each ordering removed, and
//! four steps done wrong.

mod lanes;

use lanes::{
    FlagClosed, Leaky, Letter, Sleeper, Unreversed, closes, drops, order, wakes, wakes_as,
};
use models::atomics::{Half, Weakening};
use models::{Bound, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak};
use models::{orderings, twin};
use sync::stack::Stack;

/// Why no model misses a half that says when a receiver sleeps.
const ORDERED: &str = "loom runs exchanges of two words in one order; elsewhere the waker needs it";
/// Why no model misses a half that publishes nothing.
const NOTHING: &str = "decides Empty, InFlight or Closed only; nothing is read through it";

type Lane<C> = Stack<Letter<C>, C>;

/// G60, G400.
#[test]
fn keeps_the_order_of_each_sender() {
    Loom::check("stack 1x2", Bound::Full, || order::<Loom, Lane<_>>(1, 2));
    Loom::check("stack 2x1", Bound::Full, || order::<Loom, Lane<_>>(2, 1));
    Loom::check("stack 2x2", Bound::Preemptions(3), || order::<Loom, Lane<_>>(2, 2));
}

/// G57, G400.
#[test]
fn keeps_order_over_long_runs() {
    Shuttle::check("stack shuttle 8x50", Bound::Full, || order::<Shuttle, Lane<_>>(8, 50));
}

/// G72, G73, G402.
#[test]
fn wakes_a_sleeping_receiver() {
    Loom::check("stack wakes 2x1", Bound::Preemptions(3), || wakes::<Loom, Lane<_>>(2, 1));
    Shuttle::check("stack wakes shuttle", Bound::Full, || wakes::<Shuttle, Lane<_>>(4, 10));
}

/// G83, G111, G403.
#[test]
fn closes_exactly() {
    Loom::check("stack closes", Bound::Full, || closes::<Loom, Lane<_>>(2));
}

/// G62, G404.
#[test]
fn frees_every_node_and_drops_every_message_once() {
    Loom::check("stack drops", Bound::Full, || drops::<Loom, Lane<_>>(2));
}

/// A model that cannot fail proves nothing: each wrong step must be caught
/// (G72, G400, G402, G403, G404).
#[test]
fn notices_wrong_steps() {
    let bound = Bound::Preemptions(3);
    let race = "Causality violation";
    twin("stack without orderings", Weakening::Everything, race, bound, || {
        order::<Weak, Lane<_>>(1, 2);
    });
    twin("stack not reversed", Weakening::Nothing, "per-sender FIFO", bound, || {
        order::<Weak, Unreversed<Lane<_>, _, _>>(1, 2);
    });
    twin("stack registers last", Weakening::Nothing, "deadlock", bound, || {
        wakes_as::<Weak, Lane<_>>(Sleeper::RegistersLast, 1, 1);
    });
    twin("stack closes by a flag", Weakening::Nothing, "came out before Closed", bound, || {
        closes::<Weak, FlagClosed<Lane<_>, _>>(1);
    });
    twin("stack not freed", Weakening::Nothing, "leaked", bound, || {
        drops::<Weak, Leaky<Lane<_>>>(2);
    });
}

/// G66, G68.
#[test]
fn notices_each_lost_ordering() {
    let swap =
        "let newest = self.head.0.swap(ptr::null_mut(), AcqRel); // E1: all nodes of the list.";
    let park = ".compare_exchange(ptr::null_mut(), parked, AcqRel, Acquire)";
    let unneeded = [
        (swap, Half::Release, NOTHING),
        (".swap(ptr::without_provenance_mut(CLOSED), AcqRel);", Half::Release, NOTHING),
        (".compare_exchange_weak(head, node, AcqRel, Relaxed)", Half::Acquire, ORDERED),
        (park, Half::Acquire, NOTHING),
        (park, Half::Release, ORDERED),
    ];
    orderings(
        "stack",
        "stack.rs",
        &unneeded,
        &[
            (Bound::Preemptions(2), || order::<Weak, Lane<_>>(1, 2)),
            (Bound::Preemptions(2), || wakes::<Weak, Lane<_>>(1, 1)),
            (Bound::Preemptions(2), || closes::<Weak, Lane<_>>(2)),
        ],
    );
}
