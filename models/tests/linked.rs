//! Goal: lane (a) loses nothing, keeps each sender's order, wakes, frees all.
//! Method: loom without a bound where it can; shuttle with 8 senders; each ordering removed, and
//! steps done wrong.

mod lanes;

use lanes::{Leaky, Letter, Sleeper, drops, order, wakes, wakes_as};
use models::atomics::{Half, Weakening};
use models::{Bound, Checker, LoomAtomics as Loom, ShuttleAtomics as Shuttle, Weak};
use models::{orderings, twin};
use sync::linked::Linked;

/// Why no model misses a half that publishes nothing.
const NOTHING: &str = "decides Empty, InFlight or Closed only; nothing is read through it";
/// Why no model misses the acquire after the stub was pushed.
const STUB: &str = "the swap that pushed the stub has acquired every push before it";

type Lane<C> = Linked<Letter<C>, C>;

/// G60, G400.
#[test]
fn keeps_the_order_of_each_sender() {
    Loom::check("linked 1x2", Bound::Full, || order::<Loom, Lane<_>>(1, 2));
    Loom::check("linked 2x1", Bound::Full, || order::<Loom, Lane<_>>(2, 1));
    Loom::check("linked 2x2", Bound::Preemptions(3), || order::<Loom, Lane<_>>(2, 2));
}

/// G57, G400.
#[test]
fn keeps_order_over_long_runs() {
    Shuttle::check("linked shuttle 8x50", Bound::Full, || order::<Shuttle, Lane<_>>(8, 50));
}

/// G72, G73, G402.
#[test]
fn wakes_a_sleeping_receiver() {
    Loom::check("linked wakes 2x1", Bound::Preemptions(3), || wakes::<Loom, Lane<_>>(2, 1));
    Shuttle::check("linked wakes shuttle", Bound::Full, || wakes::<Shuttle, Lane<_>>(4, 10));
}

/// G62, G404.
#[test]
fn frees_every_node_and_drops_every_message_once() {
    Loom::check("linked drops", Bound::Full, || drops::<Loom, Lane<_>>(2));
}

/// A model that cannot fail proves nothing: each wrong step must be caught
/// (G62, G63, G72, G400, G402, G404).
#[test]
fn notices_wrong_steps() {
    let bound = Bound::Preemptions(3);
    twin("linked without orderings", Weakening::Everything, "Causality violation", bound, || {
        order::<Weak, Lane<_>>(1, 2);
    });
    twin("linked sleeps in flight", Weakening::Nothing, "deadlock", bound, || {
        wakes_as::<Weak, Lane<_>>(Sleeper::SleepsInFlight, 2, 1);
    });
    twin("linked no second look", Weakening::Nothing, "deadlock", bound, || {
        wakes_as::<Weak, Lane<_>>(Sleeper::NoSecondLook, 1, 1);
    });
    twin("linked stub not freed", Weakening::Nothing, "leaked", bound, || {
        drops::<Weak, Leaky<Lane<_>>>(2);
    });
    twin("linked freed too early", Weakening::Nothing, "Causality violation", bound, too_early);
}

/// The step of G62 done wrong: the receiver lets a node go when it is the newest, without having
/// read its `next`. Letting go is an access by `with_mut`, so that the twin corrupts nothing.
fn too_early() {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

    struct Node {
        next: AtomicUsize,
        body: loom::cell::UnsafeCell<u32>,
    }
    let node = |body| Node { next: AtomicUsize::new(0), body: loom::cell::UnsafeCell::new(body) };
    let lane = Arc::new(([node(1), node(2)], AtomicUsize::new(0)));
    let sender = lane.clone();
    let join = loom::thread::spawn(move || {
        let previous = sender.1.swap(1, AcqRel);
        // The link is the sender's last access to the node before its own.
        sender.0[previous].next.store(1, Release);
        sender.0[previous].body.with(|_| ());
    });
    if lane.1.load(Acquire) == 1 {
        lane.0[0].body.with_mut(|_| ());
    }
    join.join().expect("loom reports a panic before it can be joined");
}

/// G68.
#[test]
fn notices_each_lost_ordering() {
    let unneeded = [
        ("if self.newest.0.load(Acquire) != node {", Half::Acquire, NOTHING),
        ("next = (*node).next.load(Acquire); // E1: the next node.", Half::Acquire, STUB),
        ("if self.newest.0.load(Acquire) != stub {", Half::Acquire, NOTHING),
        ("if self.closed.load(Acquire) {", Half::Acquire, NOTHING),
        ("oldest == self.stub && self.newest.0.load(Acquire) == self.stub", Half::Acquire, NOTHING),
    ];
    orderings(
        "linked",
        "linked.rs",
        &unneeded,
        &[
            (Bound::Preemptions(2), || order::<Weak, Lane<_>>(1, 2)),
            (Bound::Preemptions(2), || order::<Weak, Lane<_>>(2, 1)),
            (Bound::Preemptions(2), || wakes::<Weak, Lane<_>>(1, 1)),
        ],
    );
}
