//! Goal: lane (c) loses nothing, keeps each sender's order, wakes and closes exactly, frees all.
//! Method: loom over blocks of 1 and 2 slots; shuttle with 8 senders; each ordering removed.

mod lanes;

use lanes::{FlagClosed, Leaky, Letter, Sleeper, closes, drops, order, wakes, wakes_as};
use models::atomics::{Half, Weakening};
use models::{Bound, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak};
use models::{orderings, twin};
use sync::segmented::Segmented;

/// Why no model misses a half that says when a receiver sleeps.
const ORDERED: &str = "loom runs exchanges of two words in one order; elsewhere the waker needs it";
/// Why no model misses a half that publishes nothing.
const NOTHING: &str = "decides Empty, InFlight or Closed only; nothing is read through it";
/// Why no model misses the release of a claim.
const CHAIN: &str = "an exchange goes on with the release sequence of the append before it";

type One<C> = Segmented<Letter<C>, C, 1>;
type Two<C> = Segmented<Letter<C>, C, 2>;

/// G60, G65, G400.
#[test]
fn keeps_the_order_of_one_sender() {
    Loom::check("segmented 1x2 B=1", Bound::Full, || order::<Loom, One<_>>(1, 2));
    Loom::check("segmented 1x3 B=2", Bound::Full, || order::<Loom, Two<_>>(1, 3));
}

/// G60, G65, G400.
#[test]
fn keeps_the_order_of_two_senders() {
    Loom::check("segmented 2x2 B=1", Bound::Preemptions(2), || order::<Loom, One<_>>(2, 2));
    Loom::check("segmented 2x2 B=2", Bound::Preemptions(3), || order::<Loom, Two<_>>(2, 2));
}

/// G57, G400.
#[test]
fn keeps_order_over_long_runs() {
    Shuttle::check("segmented shuttle 8x50", Bound::Full, || order::<Shuttle, Two<_>>(8, 50));
}

/// G72, G73, G402.
#[test]
fn wakes_a_sleeping_receiver() {
    Loom::check("segmented wakes 2x1", Bound::Preemptions(3), || wakes::<Loom, Two<_>>(2, 1));
    Shuttle::check("segmented wakes shuttle", Bound::Full, || wakes::<Shuttle, Two<_>>(4, 10));
}

/// G83, G111, G403.
#[test]
fn closes_exactly() {
    Loom::check("segmented closes B=1", Bound::Preemptions(3), || closes::<Loom, One<_>>(2));
    Loom::check("segmented closes B=2", Bound::Full, || closes::<Loom, Two<_>>(2));
}

/// G62, G404.
#[test]
fn frees_every_block_and_drops_every_message_once() {
    Loom::check("segmented drops B=1", Bound::Full, || drops::<Loom, One<_>>(2));
    Loom::check("segmented drops B=2", Bound::Full, || drops::<Loom, Two<_>>(2));
}

/// A model that cannot fail proves nothing: each wrong step must be caught
/// (G72, G400, G402, G403, G404).
#[test]
fn notices_wrong_steps() {
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
    twin("segmented registers last", Weakening::Nothing, "deadlock", bound, || {
        wakes_as::<Weak, Two<_>>(Sleeper::RegistersLast, 1, 1);
    });
    twin("segmented closes by a flag", Weakening::Nothing, "came out before Closed", bound, || {
        closes::<Weak, FlagClosed<Two<_>, _>>(1);
    });
    twin("segmented block not freed", Weakening::Nothing, "leaked", bound, || {
        drops::<Weak, Leaky<One<_>>>(2);
    });
}

/// Each ordering of the file, removed alone, is missed by some model, but for those that decide
/// nothing (G68).
#[test]
fn notices_each_lost_ordering() {
    let park = "match self.tail.0.compare_exchange(open, parked, AcqRel, Acquire) {";
    let close = "let end = self.tail.0.swap(ptr::null_mut(), AcqRel);";
    let empty = "if self.tail.0.load(Acquire).addr() & !PARKED == position {";
    let claim = ".compare_exchange_weak(tail, next, AcqRel, Relaxed)";
    let unneeded = [
        (claim, Half::Release, CHAIN),
        (empty, Half::Acquire, NOTHING),
        (park, Half::Acquire, NOTHING),
        (park, Half::Release, ORDERED),
        (close, Half::Acquire, NOTHING),
        (close, Half::Release, NOTHING),
    ];
    orderings(
        "segmented",
        "segmented.rs",
        &unneeded,
        &[
            (Bound::Preemptions(2), || order::<Weak, One<_>>(1, 3)),
            (Bound::Preemptions(1), || order::<Weak, One<_>>(2, 2)),
            (Bound::Preemptions(2), || order::<Weak, Two<_>>(2, 2)),
            (Bound::Preemptions(2), || wakes::<Weak, Two<_>>(1, 1)),
            (Bound::Preemptions(2), || closes::<Weak, One<_>>(2)),
        ],
    );
}
