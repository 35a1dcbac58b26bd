//! Goal: lane (c) loses nothing, keeps each sender's order, wakes and closes exactly, frees all.
//! Method: loom over blocks of 1 and 2 slots; shuttle with 8 senders; each ordering removed.

mod lanes;

use lanes::{Letter, closes, drops, order, wakes};
use models::atomics::{Half, Weakening};
use models::{Bound, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak};
use models::{orderings, twin};
use sync::segmented::Segmented;

type One<C> = Segmented<Letter<C>, C, 1>;
type Two<C> = Segmented<Letter<C>, C, 2>;

#[test]
fn keeps_the_order_of_one_sender() {
    Loom::check("segmented 1x2 B=1", Bound::Full, || {
        order::<Loom, One<_>>(1, 2)
    });
    Loom::check("segmented 1x3 B=2", Bound::Full, || {
        order::<Loom, Two<_>>(1, 3)
    });
}

#[test]
fn keeps_the_order_of_two_senders() {
    Loom::check("segmented 2x2 B=1", Bound::Preemptions(2), || {
        order::<Loom, One<_>>(2, 2)
    });
    Loom::check("segmented 2x2 B=2", Bound::Preemptions(3), || {
        order::<Loom, Two<_>>(2, 2)
    });
}

#[test]
fn keeps_order_over_long_runs() {
    Shuttle::check("segmented shuttle 8x50", Bound::Full, || {
        order::<Shuttle, Two<_>>(8, 50)
    });
}

#[test]
fn wakes_a_sleeping_receiver() {
    Loom::check("segmented wakes 2x1", Bound::Preemptions(3), || {
        wakes::<Loom, Two<_>>(2, 1)
    });
    Shuttle::check("segmented wakes shuttle", Bound::Full, || {
        wakes::<Shuttle, Two<_>>(4, 10)
    });
}

#[test]
fn closes_exactly() {
    Loom::check("segmented closes B=1", Bound::Full, || {
        closes::<Loom, One<_>>(2)
    });
    Loom::check("segmented closes B=2", Bound::Full, || {
        closes::<Loom, Two<_>>(2)
    });
}

#[test]
fn frees_every_block_and_drops_every_message_once() {
    Loom::check("segmented drops B=1", Bound::Full, || {
        drops::<Loom, One<_>>(2)
    });
    Loom::check("segmented drops B=2", Bound::Full, || {
        drops::<Loom, Two<_>>(2)
    });
}

/// A model that cannot fail proves nothing: without its orderings, the lane must be caught.
#[test]
fn notices_lost_orderings() {
    let bound = Bound::Preemptions(3);
    twin(
        "segmented without orderings",
        Weakening::Everything,
        "Causality violation",
        bound,
        || {
            order::<Weak, Two<_>>(1, 2);
        },
    );
}

/// Each ordering of the file, removed alone, is missed by some model, but for those that decide
/// nothing.
#[test]
fn notices_each_lost_ordering() {
    orderings(
        "segmented",
        "segmented.rs",
        &[],
        &[
            (Bound::Preemptions(2), || order::<Weak, One<_>>(1, 3)),
            (Bound::Preemptions(2), || order::<Weak, One<_>>(2, 1)),
            (Bound::Preemptions(2), || order::<Weak, Two<_>>(2, 1)),
            (Bound::Preemptions(2), || wakes::<Weak, Two<_>>(1, 1)),
            (Bound::Preemptions(2), || closes::<Weak, One<_>>(2)),
        ],
    );
}
